"""Morpho Blue, compiled from @morpho-org/morpho-blue: one market without interest."""

from typing import Any

from eth_abi import abi
from eth_hash.auto import keccak

from indexer.evm_model import Leg, LendingLiquidation
from tests.devchain.anvil import Receipt
from tests.devchain.compiler import morpho
from tests.devchain.lending import NOBODY, WAD, Attempt, Lending, only

LLTV = 86 * WAD // 100
ORACLE_SCALE = 10**36  # both tokens have 18 decimals


class MorphoBlue(Lending):
    """The account's collateral stays with Morpho until somebody seizes it."""

    name = "morpho_blue"
    event = "Liquidate(bytes32,address,address,uint256,uint256,uint256,uint256,uint256)"
    dollar_decimals = 18
    loan_raw = 16_000 * WAD
    high, low = 2_000, 1_800
    seized_raw = 3 * WAD
    crash = 1_000  # the debt is worth more than the collateral

    def deploy(self) -> None:
        """Without a rate model there is no interest: what is owed changes only by liquidation."""
        owner = self.deployer.address
        self.morpho = self.deployer.deploy(morpho()["Morpho"], owner)
        self.deployer.send(self.morpho, "enableIrm", NOBODY)
        self.deployer.send(self.morpho, "enableLltv", LLTV)
        self.market = (
            self.dollar.address, self.ether.address, self.prices.address, NOBODY, LLTV,
        )  # fmt: skip
        self.deployer.send(self.morpho, "createMarket", self.market)
        kinds = ["address", "address", "address", "address", "uint256"]
        self.market_id = keccak(abi.encode(kinds, self.market))

    def roles(self) -> dict[str, str]:
        """All markets are in one contract."""
        return {self.morpho.address: "morpho"}

    def set_price(self, dollars: int) -> None:
        """Of an ether in dollars; the market's oracle knows no other price."""
        self.price(self.prices.address, dollars * ORACLE_SCALE)

    def lend(self, lender: str, dollars_raw: int) -> None:
        """Into the market."""
        self.give(self.dollar, lender, dollars_raw, self.morpho.address)
        self.morpho.send(lender, "supply", self.market, dollars_raw, 0, lender, b"")

    def open_position(self) -> str:
        """It owes 80 % of its collateral, 86 % are allowed."""
        account = self.node.new_account()
        self.give(self.ether, account, self.deposit_raw, self.morpho.address)
        self.morpho.send(account, "supplyCollateral", self.market, self.deposit_raw, account, b"")
        self.morpho.send(account, "borrow", self.market, self.loan_raw, 0, account, account)
        return account

    def attempt(self, account: str, *, seized_raw: int | None = None) -> Attempt:
        """So much of the collateral, for the debt that it is worth less the bonus."""
        liquidator = self.node.new_account()
        self.give(self.dollar, liquidator, self.loan_raw, self.morpho.address)
        arguments: tuple[Any, ...] = (self.market, account, seized_raw or self.seized_raw, 0, b"")
        return Attempt(account, liquidator, self.morpho.tx(liquidator, "liquidate", *arguments))

    def liquidate_to_the_end(self) -> tuple[LendingLiquidation, LendingLiquidation]:
        """Two liquidations of one account: the second takes the rest and leaves bad debt."""
        account = self.open_position()
        self.fall()
        first = self.make(self.attempt(account))
        self.set_price(self.crash)
        second = self.make(self.attempt(account, seized_raw=self.deposit_raw - self.seized_raw))
        self.recover()
        return first, second

    def truth(self, attempt: Attempt, receipt: Receipt) -> LendingLiquidation:
        """Bad debt is what the lenders own less of."""
        at, who = receipt.block_number, attempt.liquidator
        return self.row(
            attempt,
            only(self.event, receipt, self.morpho.address),
            market="0x" + self.market_id.hex(),
            repaid=Leg(self.dollar.address, -self.dollar.change(at, "balanceOf", who)),
            seized=Leg(self.ether.address, self.ether.change(at, "balanceOf", who)),
            bad_debt=Leg(self.dollar.address, self._supplied(at - 1) - self._supplied(at)),
        )

    def _supplied(self, at: int) -> int:
        supplied, *_ = self.morpho.read("market", self.market_id, at=at)
        return int(supplied)
