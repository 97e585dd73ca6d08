"""Debt in VAI, which the core pool mints, and the Liquidator, from @venusprotocol/venus-protocol:
controller and token at their addresses on BNB Chain, since no event says what the controller lends.
"""

from typing import ClassVar

from eth_abi import abi
from eth_hash.auto import keccak

from indexer.evm_model import Fact, Leg, LendingLiquidation
from indexer.venues.evm.venus_core import VAI, VAI_CONTROLLER
from tests.devchain.anvil import Receipt
from tests.devchain.compiler import dev
from tests.devchain.contracts import Contract
from tests.devchain.lending import UNLIMITED, WAD, Attempt, only
from tests.devchain.venus_core import VenusCore, code
from tests.devchain.venus_isolated import proxy

CHAIN_ID = 56
WARDS = 0  # the slot of those who may mint; contracts/Tokens/VAI/VAI.sol


class VenusVai(VenusCore):
    """The market of ether of a core pool, and debt that is not of a market."""

    event: ClassVar[str] = "LiquidateVAI(address,address,uint256,address,uint256)"
    liquidator: Contract | None = None

    def deploy(self) -> None:
        """The pool, then what mints."""
        super().deploy()
        deployer = self.deployer
        self.vai = deployer.place(VAI, code("VAI"), CHAIN_ID)
        ward = keccak(abi.encode(["address", "uint256"], [deployer.address, WARDS]))
        self.node.rpc("anvil_setStorageAt", VAI, "0x" + ward.hex(), f"0x{1:064x}")
        front = deployer.place(VAI_CONTROLLER, code("VAIUnitroller"))
        made = deployer.deploy(code("VAIController"))
        deployer.send(front, "_setPendingImplementation", made.address)
        deployer.send(made, "_become", front.address)
        self.controller = deployer.at(VAI_CONTROLLER, code("VAIController"))
        for setting, *values in (
            ("initialize",),
            ("_setComptroller", self.comptroller.address),
            ("setVAIToken", VAI),
            ("setAccessControl", self.permits),
            ("setMintCap", UNLIMITED),
            ("setReceiver", deployer.address),
            ("setBaseRate", 4 * WAD // 100),
        ):
            deployer.send(self.controller, setting, *values)
        deployer.send(self.vai, "rely", VAI_CONTROLLER)
        deployer.send(self.comptroller, "_setVAIController", VAI_CONTROLLER)
        deployer.send(self.comptroller, "_setVAIMintRate", 10_000)  # all that may be borrowed

    def open_position(self) -> str:
        """It owes 75 % of its collateral, 80 % are allowed."""
        account = self.node.new_account()
        self.deposit(account, self.ether, self.ether_market, self.deposit_raw)
        self.comptroller.send(account, "enterMarkets", [self.ether_market.address])
        self.controller.send(account, "mintVAI", self.loan_raw)
        return account

    def attempt(self, account: str) -> Attempt:
        """A third of the debt."""
        liquidator = self.node.new_account()
        self.give(self.vai, liquidator, self.repaid_raw, VAI_CONTROLLER)
        arguments = (account, self.repaid_raw, self.ether_market.address)
        return Attempt(
            account, liquidator, self.controller.tx(liquidator, "liquidateVAI", *arguments)
        )

    def truth(self, attempt: Attempt, receipt: Receipt) -> LendingLiquidation:
        """All shares that the account lost are the liquidator's; interest is paid first."""
        at, market = receipt.block_number, self.ether_market
        return self.row(
            attempt,
            only(self.event, receipt, VAI_CONTROLLER),
            repaid=Leg(VAI, -self.vai.change(at, "balanceOf", attempt.liquidator)),
            seized=Leg(market.address, -market.change(at, "balanceOf", attempt.account)),
            seized_is_shares=True,
        )

    # through the Liquidator

    def appoint(self) -> None:
        """From now on nobody else can liquidate, and half of the bonus is the protocol's."""
        reserve = self.deployer.deploy(dev()["Sink"]).address
        unused = self.ether.address  # the market of the chain's coin, and the coin as a token
        behind = self.deployer.deploy(code("Liquidator"), self.comptroller.address, unused, unused)
        terms = (WAD // 2, self.permits, reserve)
        data = bytes.fromhex(behind.data("initialize", *terms)[2:])
        front = self.deployer.deploy(proxy(), behind.address, data)
        self.liquidator = self.deployer.at(front.address, code("Liquidator"))
        self.deployer.send(self.comptroller, "_setLiquidatorContract", front.address)

    def roles(self) -> dict[str, str]:
        """The Liquidator too, once there is one."""
        appointed = {} if self.liquidator is None else {self.liquidator.address: "liquidator"}
        return {**super().roles(), **appointed}

    def liquidate_both(self) -> list[LendingLiquidation]:
        """An account with debt in VAI, and one with debt in dollars."""
        in_vai, in_dollars = self.open_position(), super().open_position()
        self.fall()
        made = [
            self._through(in_vai, self.vai, self.controller, self.event),
            self._through(in_dollars, self.dollar, self.dollar_market, VenusCore.event),
        ]
        self.recover()
        return made

    def _through(
        self, account: str, token: Contract, market: Contract, event: str
    ) -> LendingLiquidation:
        """What the account lost and its liquidator did not get is the protocol's; of the money a
        rest can stay with the Liquidator, since the controller takes no more than it reckons."""
        assert self.liquidator is not None
        who, collateral = self.node.new_account(), self.ether_market
        self.give(token, who, self.repaid_raw, self.liquidator.address)
        wanted = (market.address, account, self.repaid_raw, collateral.address)
        tx = self.liquidator.tx(who, "liquidateBorrow", *wanted)
        receipt = self.node.send(tx)
        at = receipt.block_number
        lost = -collateral.change(at, "balanceOf", account)
        rest = token.change(at, "balanceOf", self.liquidator.address)
        return self.row(
            Attempt(account, who, tx),
            only(event, receipt, market.address),
            repaid=Leg(token.address, -token.change(at, "balanceOf", who) - rest),
            seized=Leg(collateral.address, lost),
            seized_is_shares=True,
            protocol_fee_raw=lost - collateral.change(at, "balanceOf", who),
            fee_in_seized=True,
        )

    def facts(self) -> list[Fact]:
        """What the markets hold; of the controller the protocol's own facts say it."""
        return [*super().facts(), Fact("bsc", "underlying", VAI_CONTROLLER, VAI)]

    def seizable(self, vai_raw: int, at: int) -> int:
        """Shares for so much debt, at a dollar each, as the pool calculates them."""
        _, shares = self.comptroller.read(
            "liquidateVAICalculateSeizeTokens", self.ether_market.address, vai_raw, at=at
        )
        return int(shares)
