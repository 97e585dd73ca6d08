"""Exactly from @exactly/protocol, as its contracts were deployed on Optimism: a market of ether and
one of dollars, in which an account owes at a fixed and at a floating rate."""

from fractions import Fraction

from indexer.evm_model import NATIVE, Fact, Leg, LendingLiquidation
from tests.devchain.aave import TREASURY
from tests.devchain.anvil import Receipt
from tests.devchain.contracts import Code, Contract, artifact
from tests.devchain.feeds import FEED_DECIMALS, Feed
from tests.devchain.lending import NOBODY, UNLIMITED, WAD, Attempt, PricedLending, only
from tests.devchain.packages import EXACTLY, folder
from tests.devchain.priced_markets import Usd

PERCENT = WAD // 100
INCENTIVE = (5 * PERCENT, PERCENT // 4)  # for the liquidator and for the lenders
ETHER_FACTOR, DOLLAR_FACTOR = 86 * PERCENT, 91 * PERCENT
PRICE_PLACES = 18  # whatever those of the feeds are; exactly/protocol:contracts/Auditor.sol
POOLS = 3  # of fixed rates, one for each interval
INTERVAL = 4 * 7 * 86_400  # exactly/protocol:contracts/utils/FixedLib.sol
# smoothing, then no model of rates yet, penalty, backup fee, reserve, and two speeds of averages
TERMS = (2 * WAD, NOBODY, PERCENT // 86_400, 10 * PERCENT, 5 * PERCENT, WAD // 200, 4 * WAD // 10)
# as in deployments/optimism/InterestRateModelUSDC.json of the package
RATES = tuple(
    percent * PERCENT for percent in (5, 11, 130, 88, 130, 250, 30, 50, 20, 60, 1_825)
)  # fmt: skip


def code(name: str) -> Code:
    """A contract as it was deployed."""
    return artifact(folder(EXACTLY), name)


class Exactly(PricedLending):
    """An account that has no collateral any more is written off, as far as earnings go."""

    name = "exactly"
    event = "Liquidate(address,address,uint256,uint256,address,uint256)"
    write_off = "SpreadBadDebt(address,uint256)"
    dollar_decimals = 6
    loan_raw = 15_000 * 10**6
    fixed_raw = 4_000 * 10**6  # of them
    high, low = 2_000, 1_750
    crash = 1_200  # the debt is worth more than the collateral
    places = FEED_DECIMALS  # of the auditor's prices

    def deploy(self) -> None:
        """As the protocol's own scripts do it: all behind proxies."""
        made = code("Auditor_Implementation")
        auditor = self.deployer.deploy(made, self.places)
        self.auditor = self._behind_proxy(auditor, made, "initialize", INCENTIVE)
        ether_feed, dollar_feed = self.feeds()
        self.ether_market = self._market(self.ether, ether_feed, ETHER_FACTOR)
        self.dollar_market = self._market(self.dollar, dollar_feed, DOLLAR_FACTOR)

    def feeds(self) -> tuple[str, str]:
        """Of ether and of the dollar."""
        self.feed = Feed(self.deployer, "ETH / USD", self.high * 10**self.places)
        par = Feed(self.deployer, "USDC / USD", 99_990_000)
        return self.feed.address, par.address

    def _market(self, token: Contract, feed: str, factor: int) -> Contract:
        made = code("MarketWETH_Implementation")
        market = self.deployer.deploy(made, token.address, self.auditor.address)
        market = self._behind_proxy(market, made, "initialize", "market", POOLS, *TERMS)
        rates = self.deployer.deploy(code("InterestRateModelUSDC"), RATES, market.address)
        self.deployer.send(market, "setInterestRateModel", rates.address)
        listed = (market.address, feed, factor)
        self.deployer.send(self.auditor, "enableMarket", *listed)
        return market

    def _behind_proxy(self, made: Contract, of: Code, *call: object) -> Contract:
        """Its administrator is one that nobody else is."""
        name, *arguments = call
        data = bytes.fromhex(made.data(str(name), *arguments)[2:])
        proxy = self.deployer.deploy(code("MarketWETH_Proxy"), made.address, TREASURY, data)
        return self.deployer.at(proxy.address, of)

    def roles(self) -> dict[str, str]:
        """The auditor lists the markets."""
        return {self.auditor.address: "auditor"}

    def facts(self) -> list[Fact]:
        """The token behind each market."""
        return [
            Fact(self.node.chain, "underlying", market.address, market.read("asset"))
            for market in (self.ether_market, self.dollar_market)
        ]

    def set_price(self, dollars: int) -> None:
        """The feed's, to the last digit."""
        self.feed.report(dollars * 10**self.places + 4_321)

    def lend(self, lender: str, dollars_raw: int) -> None:
        """At the floating rate."""
        self._deposit(lender, self.dollar, self.dollar_market, dollars_raw)

    def _deposit(self, account: str, token: Contract, market: Contract, amount: int) -> None:
        self.give(token, account, amount, market.address)
        market.send(account, "deposit", amount, account)

    def open_position(self) -> str:
        """It owes most of it at the floating rate, and the rest until the end of an interval."""
        account, market = self.node.new_account(), self.dollar_market
        self._deposit(account, self.ether, self.ether_market, self.deposit_raw)
        self.auditor.send(account, "enterMarket", self.ether_market.address)
        market.send(account, "borrow", self.loan_raw - self.fixed_raw, account, account)
        now = self.node.block("latest").time
        due = now - now % INTERVAL + INTERVAL
        market.send(
            account, "borrowAtMaturity", due, self.fixed_raw, UNLIMITED, account, account
        )  # fmt: skip
        return account

    def attempt(self, account: str) -> Attempt:
        """As much as the auditor allows."""
        liquidator = self.node.new_account()
        self.give(self.dollar, liquidator, 2 * self.loan_raw, self.dollar_market.address)
        wanted = (account, UNLIMITED, self.ether_market.address)
        return Attempt(account, liquidator, self.dollar_market.tx(liquidator, "liquidate", *wanted))

    def truth(self, attempt: Attempt, receipt: Receipt) -> LendingLiquidation:
        """What was paid less what the auditor adds for the lenders."""
        at, who = receipt.block_number, attempt.liquidator
        paid = -self.dollar.change(at, "balanceOf", who)
        markets = (self.dollar_market.address, self.ether_market.address)
        lenders, _ = self.auditor.read("calculateSeize", *markets, attempt.account, WAD, at=at)
        repaid = -(-paid * WAD // (WAD + lenders))
        return self.row(
            attempt,
            only(self.event, receipt, self.dollar_market.address),
            repaid=Leg(self.dollar.address, repaid),
            seized=Leg(self.ether.address, self.ether.change(at, "balanceOf", who)),
        )

    def liquidate_with_a_write_off(self) -> list[LendingLiquidation]:
        """The collateral is gone: of the debt that is left goes what the earnings can bear."""
        account = self.open_position()
        self.set_price(self.crash)
        attempt = self.attempt(account)
        receipt = self.node.send(attempt.tx)
        made = self.truth(attempt, receipt)
        self.recover()
        assert made.repaid is not None
        at, market = receipt.block_number, self.dollar_market
        time = self.node.block(at).time
        before = market.read("previewDebt", account, at=at - 1, time=time)
        gone = before - market.read("previewDebt", account, at=at) - made.repaid.raw
        log = only(self.write_off, receipt, market.address)
        left = self.row(attempt, log, repaid=None, seized=None).with_(
            method="write_off", liquidator=None, bad_debt=Leg(self.dollar.address, gone)
        )
        return [made, left]

    def everything(self) -> list[LendingLiquidation]:
        """One of a part, and one of all that there is."""
        return [self.liquidate(), *self.liquidate_with_a_write_off()]

    def usd(self, asset: str, at: int) -> Fraction:
        """Of a base unit at the end of a block."""
        return self.quoted(asset, at)

    def quoted(self, asset: str, at: int) -> Fraction:
        """In what the auditor counts in, as it says."""
        (market,) = (
            one
            for one in (self.ether_market, self.dollar_market)
            if one.read("asset", at=at) == asset
        )
        _, decimals, _, _, feed = self.auditor.read("markets", market.address, at=at)
        return Fraction(
            self.auditor.read("assetPrice", feed, at=at), 10 ** (PRICE_PLACES + decimals)
        )


class ExactlyInEther(Exactly):
    """As on Ethereum, where the auditor counts in ether: the dollar is what has a price."""

    places = 18

    def feeds(self) -> tuple[str, str]:
        """Ether needs none."""
        self.feed = Feed(self.deployer, "USDC / ETH", WAD // self.high, self.places)
        return NATIVE, self.feed.address

    def set_price(self, dollars: int) -> None:
        """The feed's, to the last digit."""
        self.feed.report(WAD // dollars + 4_321)

    def usd_by(self, ether: Usd) -> Usd:
        """Dollars of a base unit, with those of ether from elsewhere."""

        def usd(asset: str, at: int) -> Fraction:
            of_ether = ether(self.ether.address, at) * 10**self.ether_decimals
            return self.quoted(asset, at) * of_ether

        return usd
