"""Gearbox v3.1, compiled from @gearbox-protocol/core-v3: a pool of dollars, and one credit manager
whose accounts hold ether. Whole core is genuine; who governs it is ours, see Lenders.sol."""

from fractions import Fraction
from typing import Any, NamedTuple

from indexer.evm_model import Fact, Leg, LendingLiquidation
from tests.devchain.aave import TREASURY
from tests.devchain.anvil import Receipt
from tests.devchain.compiler import around_lenders, gearbox_v3
from tests.devchain.contracts import Code, Contract
from tests.devchain.feeds import Feed
from tests.devchain.lending import NOBODY, UNLIMITED, Attempt, PricedLending, only

# shares of 10,000: the use at which rates bend, then the rates
RATES = (8_000, 9_000, 200, 200, 4_000, 10_000, False)
QUOTA_RATE = 300  # what is paid for ether as collateral
THRESHOLD = 8_500
# of interest; of a liquidation, and the discount with it; both of an expired account
FEES = (2_500, 150, 400, 100, 200)
MOST_TOKENS = 4
NEVER_STALE = 2**32 - 1
DEBT_COLLATERAL = 3  # what the manager is to calculate; contracts/interfaces/ICreditManagerV3.sol
ORACLE = "PriceOracleV3"


class Owed(NamedTuple):
    """By an account, as its manager says."""

    debt: int  # with interest
    fees: int
    worth: int  # of all that it holds, in the underlying


class GearboxV3(PricedLending):
    """An account is a contract with the ether and all that is done with it."""

    name = "gearbox_v3"
    event = "LiquidateCreditAccount(address,address,address,uint256)"
    of_a_part = "PartiallyLiquidateCreditAccount(address,address,address,uint256,uint256,uint256)"
    dollar_decimals = 6
    loan_raw = 15_000 * 10**6
    high, low = 2_000, 1_750
    crash = 1_400  # the debt is worth more than the collateral
    part_raw = 5_000 * 10**6

    def code(self, name: str) -> Code:
        """A contract of the package."""
        return gearbox_v3()[name]

    def deploy(self) -> None:
        """As the protocol's own tests do it; contracts/test/suites in the package."""
        deploy, send = self.deployer.deploy, self.deployer.send
        self.provider = deploy(around_lenders()["GearboxProvider"])
        self.curator = deploy(around_lenders()["GearboxCurator"])
        send(self.provider, "adopt", self.curator.address)
        for key, address in (
            ("MARKET_CONFIGURATOR_FACTORY", self.provider.address),
            ("PRICE_FEED_STORE", self.provider.address),
            ("INSTANCE_MANAGER_PROXY", self.deployer.address),
        ):
            send(self.provider, "set", key.encode().ljust(32, b"\0"), address)
        self.oracle = deploy(self.code(ORACLE), self.curator.address)
        self.feed = Feed(self.deployer, "ETH / USD", self.high * 10**8)
        self._price(self.ether, self.feed)
        self._price(self.dollar, Feed(self.deployer, "USD / USD", 99_990_000))
        self._open_pool()
        self._open_manager()

    def _price(self, token: Contract, feed: Feed) -> None:
        """Its second feed, for withdrawals, is the first."""
        for setter in ("setPriceFeed", "setReservePriceFeed"):
            self.deployer.send(self.oracle, setter, token.address, feed.address, NEVER_STALE)

    def _open_pool(self) -> None:
        deploy, send = self.deployer.deploy, self.deployer.send
        rates = deploy(self.code("LinearInterestRateModelV3"), *RATES)
        curator = self.curator.address
        self.pool = deploy(
            self.code("PoolV3"), curator, curator, self.dollar.address, TREASURY, rates.address,
            UNLIMITED, "pool", "pool",
        )  # fmt: skip
        self.quotas = deploy(self.code("PoolQuotaKeeperV3"), self.pool.address)
        send(self.pool, "setPoolQuotaKeeper", self.quotas.address)
        tumbler = deploy(self.code("TumblerV3"), self.pool.address, 0)
        send(self.quotas, "setGauge", tumbler.address)
        send(tumbler, "addToken", self.ether.address)
        send(tumbler, "setRate", self.ether.address, QUOTA_RATE)
        send(tumbler, "updateRates")
        send(self.quotas, "setTokenLimit", self.ether.address, 10**9 * 10**6)

    def _open_manager(self) -> None:
        deploy, send = self.deployer.deploy, self.deployer.send
        provider, pool = self.provider.address, self.pool.address
        accounts, bots = (
            deploy(self.code(name), provider) for name in ("DefaultAccountFactoryV3", "BotListV3")
        )
        self.manager = deploy(
            self.code("CreditManagerV3"), pool, accounts.address, self.oracle.address, MOST_TOKENS,
            *FEES, "manager",
        )  # fmt: skip
        address = self.manager.address
        losses = deploy(self.code("AliasedLossPolicyV3"), pool, provider)
        self.facade = deploy(
            self.code("CreditFacadeV3"), provider, address, losses.address, bots.address, NOBODY,
            NOBODY, False,
        )  # fmt: skip
        send(self.curator, "register", pool, address)
        send(self.quotas, "addCreditManager", address)
        send(self.pool, "setCreditManagerDebtLimit", address, UNLIMITED)
        send(accounts, "addCreditManager", address)
        send(self.manager, "setCreditFacade", self.facade.address)
        settings = deploy(self.code("CreditConfiguratorV3"), address)
        send(self.manager, "setCreditConfigurator", settings.address)
        send(settings, "addCollateralToken", self.ether.address, THRESHOLD)
        send(settings, "setDebtLimits", 5_000 * 10**6, 100_000 * 10**6)

    def roles(self) -> dict[str, str]:
        """The provider leads to the facades."""
        return {self.provider.address: "address_provider_v31"}

    def facts(self) -> list[Fact]:
        """Which the indexer asks for itself."""
        facade, manager = self.facade.address, self.manager.address
        chain = self.node.chain
        return [
            Fact(chain, "emitter", facade, f"{self.name}/facade"),
            Fact(chain, "gearbox_credit_manager", facade, self.facade.read("creditManager")),
            Fact(chain, "gearbox_pool", manager, self.manager.read("pool")),
            Fact(chain, "gearbox_underlying", manager, self.manager.read("underlying")),
        ]

    def set_price(self, dollars: int) -> None:
        """The feed's, to the last digit."""
        self.feed.report(dollars * 10**8 + 4_321)

    def lend(self, lender: str, dollars_raw: int) -> None:
        """Into the pool."""
        self.give(self.dollar, lender, dollars_raw, self.pool.address)
        self.pool.send(lender, "deposit", dollars_raw, lender)

    def open_position(self) -> str:
        """The address of the account: its owner has the dollars, and the debt stays."""
        owner = self.node.new_account()
        self.give(self.ether, owner, self.deposit_raw, self.manager.address)
        quota = 2 * self.loan_raw
        calls = self._calls(
            ("increaseDebt", self.loan_raw),
            ("addCollateral", self.ether.address, self.deposit_raw),
            ("updateQuota", self.ether.address, quota, quota),
            ("withdrawCollateral", self.dollar.address, self.loan_raw, owner),
        )
        self.facade.send(owner, "openCreditAccount", owner, calls, 0)
        return str(self.manager.read("creditAccounts")[-1])

    def _calls(self, *calls: tuple[Any, ...]) -> list[tuple[str, bytes]]:
        """Of the facade, which it makes one after another."""
        steps = self.deployer.at(self.facade.address, self.code("ICreditFacadeV3Multicall"))
        return [(steps.address, bytes.fromhex(steps.data(*call)[2:])) for call in calls]

    def attempt(self, account: str) -> Attempt:
        """All of it: the liquidator pays for the ether, and what is too much comes back."""
        liquidator, money = self._liquidator()
        calls = self._calls(
            ("addCollateral", self.dollar.address, money),
            ("withdrawCollateral", self.ether.address, self.deposit_raw, liquidator),
        )
        wanted = (account, liquidator, calls)
        return Attempt(account, liquidator, self.facade.tx(liquidator, self.whole, *wanted))

    whole = "liquidateCreditAccount"

    def attempt_a_part(self, account: str) -> Attempt:
        """So much of its debt, with the fee."""
        liquidator, _ = self._liquidator()
        wanted = (account, self.ether.address, self.part_raw, 0, liquidator, [])
        tx = self.facade.tx(liquidator, "partiallyLiquidateCreditAccount", *wanted)
        return Attempt(account, liquidator, tx)

    def _liquidator(self) -> tuple[str, int]:
        account, money = self.node.new_account(), 2 * self.loan_raw
        self.give(self.dollar, account, money, self.manager.address)
        return account, money

    def truth(self, attempt: Attempt, receipt: Receipt) -> LendingLiquidation:
        """The pool gets the debt first, then its fees; what it does not get is lost."""
        at = receipt.block_number
        owed, paid = self.owed(attempt.account, at), self.dollar.change(at, *self._of(self.pool))
        lost = owed.debt - paid
        return self.row(
            attempt,
            only(self.event, receipt, self.facade.address),
            market=self.manager.address,
            repaid=Leg(self.dollar.address, min(paid, owed.debt)),
            seized=None,
            bad_debt=Leg(self.dollar.address, lost) if lost > 0 else None,
        )

    def liquidate_a_part(self, account: str) -> LendingLiquidation:
        """Of the debt only what the pool got counts, not what the treasury did."""
        attempt = self.attempt_a_part(account)
        receipt = self.node.send(attempt.tx)
        at = receipt.block_number
        return self.row(
            attempt,
            only(self.of_a_part, receipt, self.facade.address),
            market=self.manager.address,
            repaid=Leg(self.dollar.address, self.dollar.change(at, *self._of(self.pool))),
            seized=Leg(self.ether.address, self.ether.change(at, "balanceOf", attempt.liquidator)),
        )

    def liquidate_with_a_loss(self) -> LendingLiquidation:
        """The whole story, with a deeper fall."""
        account = self.open_position()
        self.set_price(self.crash)
        made = self.make(self.attempt(account))
        self.recover()
        return made

    def everything(self) -> list[LendingLiquidation]:
        """A part of an account, then all of another, then one with a loss."""
        account = self.open_position()
        self.fall()
        part = self.liquidate_a_part(account)
        self.recover()
        return [part, self.liquidate(), self.liquidate_with_a_loss()]

    def owed(self, account: str, at: int) -> Owed:
        """Before a block, at its time and its prices."""
        time = self.node.block(at).time
        said = self.manager.read(
            "calcDebtAndCollateral", account, DEBT_COLLATERAL, at=at - 1, time=time
        )
        debt, interest, fees, worth = said[0], said[4], said[5], said[7]
        return Owed(debt + interest, fees, worth)

    def close(self, account: str) -> None:
        """Its owner repays all and takes the ether out."""
        owner = self.manager.read("getBorrowerOrRevert", account)
        self.give(self.dollar, owner, 2 * self.loan_raw, self.manager.address)
        calls = self._calls(
            ("addCollateral", self.dollar.address, 2 * self.loan_raw),
            ("updateQuota", self.ether.address, -(2**95), 0),
            ("decreaseDebt", UNLIMITED),
            ("withdrawCollateral", self.ether.address, UNLIMITED, owner),
            ("withdrawCollateral", self.dollar.address, UNLIMITED, owner),
        )
        self.facade.send(owner, "closeCreditAccount", account, calls)

    def usd(self, asset: str, at: int) -> Fraction:
        """Of a base unit at the end of a block, as the manager's oracle converts it."""
        oracle = self.deployer.at(self.manager.read("priceOracle", at=at), self.code(ORACLE))
        return Fraction(oracle.read("convertToUSD", 10**30, asset, at=at), 10**38)

    @staticmethod
    def _of(contract: Contract) -> tuple[str, str]:
        return "balanceOf", contract.address
