"""The genuine Aave v2 and v3 with their genuine oracles on feeds of ours, and reserves of odd
decimals."""

from abc import abstractmethod
from fractions import Fraction
from typing import ClassVar

from indexer.evm_model import LendingLiquidation
from tests.devchain.aave import Aave, Pair
from tests.devchain.aave_v2 import AaveV2
from tests.devchain.aave_v3 import AaveV3
from tests.devchain.compiler import dev, stand_ins
from tests.devchain.contracts import Contract
from tests.devchain.feeds import FEED_DECIMALS, Feed
from tests.devchain.lending import NOBODY
from tests.devchain.priced_markets import Usd


class PricedAave(Aave):
    """A reserve for each number of decimals, besides ether and dollars.

    The oracle counts in 1/`unit` of a `currency`."""

    currency: ClassVar[str]
    unit: ClassVar[int]
    answers: ClassVar[dict[int, int]]  # of the feed of a whole token, by its decimals
    deposit: ClassVar[int]  # in whole currency, as the loan
    loan: ClassVar[int]

    @abstractmethod
    def more_feeds(self) -> dict[str, Feed]:
        """Of the tokens that are not for their decimals."""

    @property
    @abstractmethod
    def moving(self) -> Feed:
        """Whose answers make the story's positions bad."""

    def deploy(self) -> None:
        """The tokens and their feeds come first."""
        token = dev()["Token"]
        self.tokens = {
            decimals: self.deployer.deploy(token, f"Token{decimals}", decimals)
            for decimals in self.answers
        }
        self.feeds = self.more_feeds() | {
            token.address: self.feed(f"TOKEN{decimals}", self.answers[decimals])
            for decimals, token in self.tokens.items()
        }
        super().deploy()

    def feed(self, name: str, answer: int) -> Feed:
        """A new one, as the oracle wants it."""
        decimals = len(str(self.unit)) - 1
        return Feed(self.deployer, f"{name} / {self.currency}", answer, decimals)

    def reserves(self) -> list[Contract]:
        """All that the oracle knows."""
        return [self.ether, self.dollar, *self.tokens.values()]

    def answer(self, token: Contract) -> int:
        """What the oracle says now."""
        return int(self.oracle.read("getAssetPrice", token.address))

    def pairs(self) -> list[Pair]:
        """Each number of decimals once as collateral and once as debt."""
        ring = list(self.tokens.values())
        return [Pair(*pair) for pair in zip(ring, ring[1:] + ring[:1], strict=True)]

    @property
    def pair_of_tokens(self) -> Pair:
        """One of them."""
        return self.pairs()[2]

    def worth_raw(self, token: Contract, amount: int) -> int:
        """So much currency of a token, in base units."""
        return int(amount * self.unit * 10 ** self.decimals_of(token) // self.answer(token))

    def loan_of(self, token: Contract) -> int:
        """The same worth of each token."""
        return self.worth_raw(token, self.loan)

    def make_of(self, pair: Pair) -> LendingLiquidation:
        """The whole story of an account with this deposit and debt."""
        account = self.open_of(pair)
        attempt = self.attempt(account, pair=pair)
        self.feeds[pair.collateral.address].report(self.answer(pair.collateral) * 7 // 8)
        return self.truth(attempt, self.node.send(attempt.tx), pair)

    def open_of(self, pair: Pair) -> str:
        """A new account that owes three quarters of its deposit, and somebody who lent it."""
        self.supply(self.node.new_account(), pair.debt, self.loan_of(pair.debt) * 2)
        deposit = self.worth_raw(pair.collateral, self.deposit)
        return self.open(pair, deposit, self.loan_of(pair.debt))

    # what the protocol says

    def quoted(self, asset: str, at: int) -> Fraction:
        """Currency of a base unit at the end of a block, as the protocol's oracle says."""
        (token,) = (token for token in self.reserves() if token.address == asset)
        price = self.oracle.read("getAssetPrice", asset, at=at)
        return Fraction(price, self.unit * 10 ** token.read("decimals"))

    def lost(self, account: str, at: int) -> tuple[Fraction, Fraction]:
        """By how much currency the account's collateral and debt are lower after a block, as the
        pool says: a second opinion, since interest of one block is in it."""
        return tuple(  # type: ignore[return-value]
            Fraction(before - after, self.unit)
            for before, after in zip(
                self.pool.read("getUserAccountData", account, at=at - 1)[:2],
                self.pool.read("getUserAccountData", account, at=at)[:2],
                strict=True,
            )
        )


class PricedV3(PricedAave, AaveV3):
    """In dollars of eight decimals."""

    currency = "USD"
    unit = 10**FEED_DECIMALS
    answers: ClassVar[dict[int, int]] = {
        0: 13_37000001, 6: 1_00012347, 8: 61234_56789013, 18: 3141_59265359, 27: 27182819,
    }  # fmt: skip
    deposit, loan = 20_000, 15_000
    dollar_answer = 99981237

    def more_feeds(self) -> dict[str, Feed]:
        """One is of a token that does not even say its decimals."""
        self.mute = self.deployer.deploy(stand_ins()["Mute"])
        return {
            self.ether.address: self.feed("ETH", self.high * self.unit),
            self.dollar.address: self.feed("DOLLAR", self.dollar_answer),
            self.mute.address: self.feed("MUTE", 2_50000001),
        }

    @property
    def moving(self) -> Feed:
        """Of ether."""
        return self.feeds[self.ether.address]

    def reserves(self) -> list[Contract]:
        """The mute token too."""
        return [*super().reserves(), self.mute]

    def decimals_of(self, token: Contract) -> int:
        """The mute token says none; the pool counts 18."""
        return 18 if token is self.mute else super().decimals_of(token)

    def oracle_for(self, provider: Contract) -> Contract:
        """The protocol's own."""
        feeds = [feed.address for feed in self.feeds.values()]
        terms = (list(self.feeds), feeds, NOBODY, NOBODY, self.unit)
        self.oracle = self.deployer.deploy(self.code("AaveOracle"), provider.address, *terms)
        return self.oracle

    def set_price(self, dollars: int) -> None:
        """With digits in every place of the feed; the dollar is none exactly."""
        self.moving.report(dollars * self.unit + 4_321)

    def usd(self, asset: str, at: int) -> Fraction:
        """Dollars of a base unit at the end of a block."""
        return self.quoted(asset, at)


class PricedV2(PricedAave, AaveV2):
    """In ether, whose own price no feed tells."""

    currency = "ETH"
    unit = 10**18
    answers: ClassVar[dict[int, int]] = {
        0: 6_685000001234567, 6: 512_345_678_901_234, 8: 30_617283945061728395,
        18: 1_570796326794896619, 27: 135_914_091_422_952,
    }  # fmt: skip
    deposit, loan = 20, 15

    def more_feeds(self) -> dict[str, Feed]:
        """The oracle knows by itself what ether is."""
        return {self.dollar.address: self.feed("DOLLAR", self.unit // self.high)}

    @property
    def moving(self) -> Feed:
        """Of the dollar."""
        return self.feeds[self.dollar.address]

    def pairs(self) -> list[Pair]:
        """Ether as debt too; as collateral it cannot fall."""
        return [*super().pairs(), Pair(self.tokens[8], self.ether)]

    def oracle_for(self, provider: Contract) -> Contract:
        """The protocol's own."""
        feeds = [feed.address for feed in self.feeds.values()]
        terms = (list(self.feeds), feeds, NOBODY, self.ether.address)
        self.oracle = self.deployer.deploy(self.code("AaveOracle"), *terms)
        return self.oracle

    def set_price(self, dollars: int) -> None:
        """With digits in every place of the feed."""
        self.moving.report(self.unit // dollars + 4_321)

    def usd_by(self, ether: Usd) -> Usd:
        """Dollars of a base unit, with those of ether from elsewhere."""

        def usd(asset: str, at: int) -> Fraction:
            return self.quoted(asset, at) * ether(self.ether.address, at) * 10**self.ether_decimals

        return usd
