"""Gearbox v2, compiled from @gearbox-protocol/core-v2: a pool of dollars, and one credit manager
whose accounts hold ether. Those who govern it are genuine too, of the exchange only the adapter's
rules are."""

from fractions import Fraction
from typing import Any

from indexer.evm_model import Fact, Leg, LendingLiquidation
from tests.devchain.aave import TREASURY
from tests.devchain.anvil import Receipt
from tests.devchain.compiler import around_lenders, gearbox_v2
from tests.devchain.contracts import Code, Contract
from tests.devchain.feeds import Feed
from tests.devchain.lending import NOBODY, UNLIMITED, WAD, Attempt, PricedLending, only

RATES = (8_000, 200, 400, 7_500)  # of 10,000: the use at which the rate bends, then the rate
THRESHOLD = 8_500
MONTH = 30 * 86_400


class GearboxV2(PricedLending):
    """An account belongs to its borrower, who is what the event names. After a month all accounts
    are expired."""

    name = "gearbox_v2"
    event = "LiquidateCreditAccount(address,address,address,uint256)"
    of_an_expired = "LiquidateExpiredCreditAccount(address,address,address,uint256)"
    dollar_decimals = 6
    loan_raw = 15_000 * 10**6
    high, low = 2_000, 1_750
    crash = 1_400  # the debt is worth more than the collateral

    def code(self, name: str) -> Code:
        """A contract of the package."""
        return gearbox_v2()[name]

    def deploy(self) -> None:
        """As the protocol's own factories do it."""
        deploy, send = self.deployer.deploy, self.deployer.send
        self.provider = deploy(self.code("AddressProvider"))
        provider = self.provider.address
        acl = deploy(self.code("ACL"))
        send(self.provider, "setACL", acl.address)
        send(self.provider, "setTreasuryContract", TREASURY)
        for unused in ("setWethToken", "setWETHGateway"):
            send(self.provider, unused, self.ether.address)
        register = deploy(self.code("ContractsRegister"), provider)
        send(self.provider, "setContractsRegister", register.address)
        self.feed = Feed(self.deployer, "ETH / USD", self.high * 10**8)
        par = Feed(self.deployer, "USDC / USD", 99_990_000)
        feeds = [(self.ether.address, self.feed.address), (self.dollar.address, par.address)]
        self.oracle = deploy(self.code("PriceOracle"), provider, feeds)
        send(self.provider, "setPriceOracle", self.oracle.address)
        accounts = deploy(self.code("AccountFactory"), provider)
        send(self.provider, "setAccountFactory", accounts.address)
        rates = deploy(self.code("LinearInterestRateModel"), *RATES)
        terms = (self.dollar.address, rates.address, UNLIMITED)
        self.pool = deploy(self.code("PoolService"), provider, *terms)
        send(register, "addPool", self.pool.address)
        self._open_manager(register)

    def _open_manager(self, register: Contract) -> None:
        """By its factory, which is older than the owner's right to be asked: we list it."""
        deploy, send = self.deployer.deploy, self.deployer.send
        tokens = [(self.ether.address, THRESHOLD)]
        options = (10**6, 100_000 * 10**6, tokens, NOBODY, NOBODY, True)
        factory = deploy(self.code("CreditManagerFactoryBase"), self.pool.address, options, 0)
        self.manager, self.facade, settings = (
            self.deployer.at(factory.read(getter), self.code(name))
            for getter, name in (
                ("creditManager", "CreditManager"),
                ("creditFacade", "CreditFacade"),
                ("creditConfigurator", "CreditConfigurator"),
            )
        )
        send(register, "addCreditManager", self.manager.address)
        send(self.pool, "connectCreditManager", self.manager.address)
        around = around_lenders()
        exchange = deploy(around["Exchange"])
        self.adapter = deploy(around["GearboxAdapter"], self.manager.address, exchange.address)
        send(settings, "allowContract", exchange.address, self.adapter.address)
        self.expires = self.node.block("latest").time + MONTH
        send(settings, "setExpirationDate", self.expires)
        send(settings, "setMaxCumulativeLoss", 2**128 - 1)  # with more than that it pauses

    def roles(self) -> dict[str, str]:
        """The provider leads to the facades."""
        return {self.provider.address: "address_provider"}

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
        self.pool.send(lender, "addLiquidity", dollars_raw, lender, 0)

    def open_position(self) -> str:
        """The borrower, whose account has bought ether with the debt."""
        borrower = self.node.new_account()
        bought = self.loan_raw * WAD // (self.high * 10**self.dollar_decimals)
        own = self.deposit_raw - bought
        self.give(self.ether, borrower, own, self.manager.address)
        dollar, ether = self.dollar.address, self.ether.address
        steps = self.deployer.at(self.facade.address, self.code("ICreditFacadeExtended"))
        calls = [
            self._call(steps, "addCollateral", ether, own),
            self._call(self.adapter, "swap", dollar, self.loan_raw, ether, bought),
        ]
        self.facade.send(borrower, "openCreditAccountMulticall", self.loan_raw, borrower, calls, 0)
        return borrower

    @staticmethod
    def _call(contract: Contract, name: str, *arguments: Any) -> tuple[str, bytes]:
        return contract.address, bytes.fromhex(contract.data(name, *arguments)[2:])

    def attempt(self, account: str) -> Attempt:
        """The liquidator pays for all and has the ether."""
        return self._attempt("liquidateCreditAccount", account)

    def _attempt(self, how: str, account: str) -> Attempt:
        liquidator = self.node.new_account()
        self.give(self.dollar, liquidator, 2 * self.loan_raw, self.manager.address)
        tx = self.facade.tx(liquidator, how, account, liquidator, 0, [])
        return Attempt(account, liquidator, tx)

    def truth(
        self, attempt: Attempt, receipt: Receipt, event: str | None = None
    ) -> LendingLiquidation:
        """The pool gets the debt first, then its fees; what it does not get is lost."""
        at = receipt.block_number
        paid = self.dollar.change(at, "balanceOf", self.pool.address)
        account = self.manager.read("creditAccounts", attempt.account, at=at - 1)
        _, owed, _ = self.manager.read(
            "calcCreditAccountAccruedInterest", account, at=at - 1, time=self.node.block(at).time
        )
        return self.row(
            attempt,
            only(event or self.event, receipt, self.facade.address),
            market=self.manager.address,
            repaid=Leg(self.dollar.address, min(paid, owed)),
            seized=None,
            bad_debt=Leg(self.dollar.address, owed - paid) if owed > paid else None,
        )

    def liquidate_expired(self, account: str) -> LendingLiquidation:
        """A healthy account; from now on none can be opened."""
        attempt = self._attempt("liquidateExpiredCreditAccount", account)
        self.node.set_time(self.expires)
        return self.truth(attempt, self.node.send(attempt.tx), self.of_an_expired)

    def everything(self) -> list[LendingLiquidation]:
        """One as always, one with a loss, one that is expired."""
        first = self.liquidate()
        account, other = self.open_position(), self.open_position()
        self.set_price(self.crash)
        with_loss = self.make(self.attempt(account))
        self.recover()
        return [first, with_loss, self.liquidate_expired(other)]

    def usd(self, asset: str, at: int) -> Fraction:
        """Of a base unit at the end of a block, as the oracle converts it."""
        return Fraction(self.oracle.read("convertToUSD", 10**30, asset, at=at), 10**38)
