"""Venus' isolated pools from @venusprotocol/isolated-pools: Compound's event, three indexed.

The markets keep a share of what is seized, and an account with little collateral is healed whole.
"""

from typing import Any

from indexer.evm_model import Leg, LendingLiquidation
from tests.devchain.anvil import Receipt
from tests.devchain.compiler import dev
from tests.devchain.compound import (
    BLOCKS_A_YEAR,
    CLOSE_FACTOR,
    FACTOR,
    INCENTIVE,
    RATE_A_YEAR,
    RESERVE_FACTOR,
    Compound,
)
from tests.devchain.contracts import Code, Contract, artifact
from tests.devchain.lending import UNLIMITED, WAD, Attempt, only
from tests.devchain.packages import VENUS_ISOLATED, folder

MOST_LOOPS = 100
LEAST_COLLATERAL = 100 * WAD  # dollars; accounts with less are healed or liquidated as a whole
LARGEST_RATE = 5 * 10**12
BY_BLOCKS = False  # the models can also count seconds


def _code(name: str) -> Code:
    return artifact(folder(VENUS_ISOLATED) / "artifacts", f"{name}.sol/{name}")


def proxy() -> Code:
    """What stands before a contract that can be changed."""
    return _code("ERC1967Proxy")


class VenusIsolated(Compound):
    """One pool of the registry with two markets."""

    name = "venus_isolated"
    heal_event = "HealBorrow(address,address,uint256)"
    crash = 9  # dollars: ten ether are less than the least collateral

    def deploy(self) -> None:
        """The registry, a pool in it, and the markets that it adds."""
        send = self.deployer.send
        self.permits = self.deployer.deploy(dev()["Permits"]).address
        self.registry = self._behind_proxy("PoolRegistry", (), (self.permits,))
        self.comptroller = self._behind_proxy(
            "Comptroller", (self.registry.address,), (MOST_LOOPS, self.permits)
        )
        send(self.comptroller, "setPriceOracle", self.prices.address)
        pool = (self.comptroller.address, CLOSE_FACTOR, INCENTIVE, LEAST_COLLATERAL)
        send(self.registry, "addPool", "local", *pool)
        self.ether_market = self._market(self.ether)
        self.dollar_market = self._market(self.dollar)
        self.recover()  # a market without a price has no collateral factor
        self._add(self.ether, self.ether_market)
        self._add(self.dollar, self.dollar_market)

    def _behind_proxy(
        self, name: str, built_with: tuple[object, ...], begun_with: tuple[object, ...]
    ) -> Contract:
        """An implementation, and a proxy that initializes it."""
        code = _code(name)
        implementation = self.deployer.deploy(code, *built_with)
        begin = bytes.fromhex(implementation.data("initialize", *begun_with)[2:])
        made = self.deployer.deploy(proxy(), implementation.address, begin)
        return self.deployer.at(made.address, code)

    def _market(self, token: Contract) -> Contract:
        rates = self.deployer.deploy(
            _code("WhitePaperInterestRateModel"), 0, RATE_A_YEAR, BY_BLOCKS, BLOCKS_A_YEAR
        )
        reserve = self.deployer.deploy(dev()["Sink"]).address
        return self._behind_proxy(
            "VToken",
            (BY_BLOCKS, BLOCKS_A_YEAR, LARGEST_RATE),
            (
                token.address, self.comptroller.address, rates.address, WAD, "market", "market", 8,
                self.deployer.address, self.permits, (reserve, reserve), RESERVE_FACTOR,
            ),
        )  # fmt: skip

    def _add(self, token: Contract, market: Contract) -> None:
        """The registry wants a first deposit; ours are for the deployer."""
        owner, first = self.deployer.address, 10 ** token.read("decimals")
        self.give(token, owner, first, self.registry.address)
        settings = (market.address, FACTOR, FACTOR, first, owner, UNLIMITED, UNLIMITED)
        self.deployer.send(self.registry, "addMarket", settings)

    def roles(self) -> dict[str, str]:
        """Both list the markets."""
        return {
            self.registry.address: "pool_registry",
            self.comptroller.address: "comptroller",
        }

    def truth(self, attempt: Attempt, receipt: Receipt) -> LendingLiquidation:
        """The market's share of the seized shares exists no more."""
        return self._row(attempt, receipt, self.event)

    def _row(
        self, attempt: Attempt, receipt: Receipt, event: str, **said: Any
    ) -> LendingLiquidation:
        at, market = receipt.block_number, self.ether_market
        paid = -self.dollar.change(at, "balanceOf", attempt.liquidator)
        return self.row(
            attempt,
            only(event, receipt, self.dollar_market.address),
            repaid=Leg(self.dollar.address, paid),
            seized=Leg(market.address, -market.change(at, "balanceOf", attempt.account)),
            seized_is_shares=True,
            protocol_fee_raw=-market.change(at, "totalSupply"),
            fee_in_seized=True,
            **said,
        )

    # healing

    def healing(self, account: str) -> Attempt:
        """At the price of a crash: all collateral for what it is worth, less the bonus."""
        liquidator = self.node.new_account()
        self.give(self.dollar, liquidator, self.repaid_raw, self.dollar_market.address)
        return Attempt(account, liquidator, self.comptroller.tx(liquidator, "healAccount", account))

    def heal(self) -> LendingLiquidation:
        """The whole story of a new account that is healed."""
        account = self.open_position()
        self.set_price(self.crash)
        healing = self.healing(account)
        receipt = self.node.send(healing.tx)
        self.recover()
        return self.truth_of_healing(healing, receipt)

    def truth_of_healing(self, healing: Attempt, receipt: Receipt) -> LendingLiquidation:
        """The market of dollars remembers how much of its loans was written off."""
        written_off = self.dollar_market.change(receipt.block_number, "badDebt")
        bad_debt = Leg(self.dollar.address, written_off)
        return self._row(healing, receipt, self.heal_event, method="heal", bad_debt=bad_debt)
