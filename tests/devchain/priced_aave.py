"""The genuine Aave v3 with its genuine oracle on feeds of ours, and reserves of odd decimals."""

from fractions import Fraction

from indexer.evm_model import LendingLiquidation
from tests.devchain.aave_v3 import AaveV3, Pair, aave
from tests.devchain.compiler import dev, stand_ins
from tests.devchain.contracts import Contract
from tests.devchain.feeds import FEED_DECIMALS, Feed
from tests.devchain.lending import NOBODY

UNIT = 10**FEED_DECIMALS
DEPOSIT, LOAN = 20_000, 15_000  # dollars
# of a whole token, by its decimals, in 1e-8 dollars
ANSWERS = {0: 13_37000001, 6: 1_00012347, 8: 61234_56789013, 18: 3141_59265359, 27: 27182819}


class PricedAave(AaveV3):
    """A reserve for each number of decimals, besides ether and dollars."""

    dollar_answer = 99981237

    def deploy(self) -> None:
        """The tokens and their feeds come first."""
        token = dev()["Token"]
        self.tokens = {
            decimals: self.deployer.deploy(token, f"Token{decimals}", decimals)
            for decimals in ANSWERS
        }
        self.mute = self.deployer.deploy(stand_ins()["Mute"])
        self.feeds = {
            self.ether.address: Feed(self.deployer, "ETH / USD", self.high * UNIT),
            self.dollar.address: Feed(self.deployer, "DOLLAR / USD", self.dollar_answer),
        } | {
            self.tokens[decimals].address: Feed(self.deployer, f"TOKEN{decimals} / USD", answer)
            for decimals, answer in ANSWERS.items()
        }
        self.feeds[self.mute.address] = Feed(self.deployer, "MUTE / USD", 2_50000001)
        super().deploy()

    def reserves(self) -> list[Contract]:
        """All that has a feed."""
        return [self.ether, self.dollar, *self.tokens.values(), self.mute]

    def decimals_of(self, token: Contract) -> int:
        """The mute token says none; the pool counts 18."""
        return 18 if token is self.mute else super().decimals_of(token)

    def oracle_for(self, provider: Contract) -> Contract:
        """The protocol's own, in dollars with eight decimals."""
        feeds = [feed.address for feed in self.feeds.values()]
        self.oracle = self.deployer.deploy(
            aave("AaveOracle"), provider.address, list(self.feeds), feeds, NOBODY, NOBODY, UNIT
        )
        return self.oracle

    def set_price(self, dollars: int) -> None:
        """With digits in every place of the feed; the dollar is none exactly."""
        self.feeds[self.ether.address].report(dollars * UNIT + 4_321)

    def answer(self, token: Contract) -> int:
        """What its feed says now."""
        return int(self.feeds[token.address].aggregator.read("latestAnswer"))

    def pairs(self) -> list[Pair]:
        """Each number of decimals once as collateral and once as debt."""
        ring = list(self.tokens.values())
        return [Pair(*pair) for pair in zip(ring, ring[1:] + ring[:1], strict=True)]

    def worth_raw(self, token: Contract, dollars: int) -> int:
        """So many dollars of a token, in base units."""
        return int(dollars * UNIT * 10 ** self.decimals_of(token) // self.answer(token))

    def loan_of(self, token: Contract) -> int:
        """The same in dollars for each token."""
        return self.worth_raw(token, LOAN)

    def make_of(self, pair: Pair) -> LendingLiquidation:
        """The whole story of an account with this deposit and debt."""
        account = self.open_of(pair)
        attempt = self.attempt(account, pair=pair)
        self.feeds[pair.collateral.address].report(self.answer(pair.collateral) * 7 // 8)
        return self.truth(attempt, self.node.send(attempt.tx), pair)

    def open_of(self, pair: Pair) -> str:
        """A new account that owes three quarters of its deposit, and somebody who lent it."""
        self.supply(self.node.new_account(), pair.debt, self.loan_of(pair.debt) * 2)
        deposit = self.worth_raw(pair.collateral, DEPOSIT)
        return self.open(pair, deposit, self.loan_of(pair.debt))

    # what the protocol says

    def usd(self, asset: str, at: int) -> Fraction:
        """Dollars of a base unit at the end of a block, as the protocol's oracle says."""
        (token,) = (token for token in self.reserves() if token.address == asset)
        price = self.oracle.read("getAssetPrice", asset, at=at)
        return Fraction(
            price, self.oracle.read("BASE_CURRENCY_UNIT") * 10 ** token.read("decimals")
        )

    def lost(self, account: str, at: int) -> tuple[Fraction, Fraction]:
        """By how many dollars the account's collateral and debt are lower after a block, as the
        pool says: a second opinion, since interest of one block is in it."""
        return tuple(  # type: ignore[return-value]
            Fraction(before - after, UNIT)
            for before, after in zip(
                self.pool.read("getUserAccountData", account, at=at - 1)[:2],
                self.pool.read("getUserAccountData", account, at=at)[:2],
                strict=True,
            )
        )
