"""What the six protocols have in common here: ether as collateral, dollars as debt, one story.

An account deposits ether and borrows dollars, ether falls, somebody liquidates, ether recovers.
"""

from abc import ABC, abstractmethod
from fractions import Fraction
from typing import Any, ClassVar

import msgspec
from eth_hash.auto import keccak

from indexer.evm_model import Deployment, Fact, LendingLiquidation, Log
from indexer.venues.evm import specs
from tests.devchain.anvil import Receipt, Tx
from tests.devchain.compiler import dev
from tests.devchain.contracts import Contract, Deployer

VERSIONS = {spec.name: spec.decoder_version for spec in specs()}
UNLIMITED = 2**256 - 1
WAD = 10**18
NOBODY = "0x" + 40 * "0"


class Attempt(msgspec.Struct, frozen=True):
    """A liquidation that only has to be sent: the liquidator has the money for it."""

    account: str
    liquidator: str
    tx: Tx


def topic0(event: str) -> str:
    """Of an event by its signature."""
    return "0x" + keccak(event.encode()).hex()


def only(event: str, receipt: Receipt, emitter: str) -> Log:
    """The event of a transaction, of which there is one, by this emitter."""
    (log,) = (log for log in receipt.logs if log.topics[0] == topic0(event))
    assert log.address == emitter
    return log


class Lending(ABC):
    """A protocol on the local chain, deployed and with dollars to lend.

    The state of old blocks is forgotten: `truth` must be read soon."""

    name: ClassVar[str]
    event: ClassVar[str]  # the signature of its liquidation event
    ether_decimals = 18
    deposit_raw = 10 * WAD  # of ether
    loan_raw: int  # of dollars
    high: int  # the price of ether when a position is opened, in dollars
    low: int  # and when it is liquidated

    def __init__(
        self, deployer: Deployer, *, ether: Contract | None = None, dollar: Contract | None = None
    ) -> None:
        self.deployer = deployer
        self.node = deployer.node
        self.since = self.node.head + 1
        codes = dev()
        self.prices = deployer.deploy(codes["Prices"])
        self.ether = ether or deployer.deploy(codes["Token"], "Ether", self.ether_decimals)
        self.dollar = dollar or deployer.deploy(codes["Token"], "Dollar", self.dollar_decimals)
        self.deploy()
        self.recover()
        self.lend(self.node.new_account(), 10**9 * 10**self.dollar_decimals)

    @property
    @abstractmethod
    def dollar_decimals(self) -> int:
        """Of the dollar, which Aave's deployments have with 6."""

    @abstractmethod
    def deploy(self) -> None:
        """Put the contracts on the chain and list both tokens."""

    @abstractmethod
    def roles(self) -> dict[str, str]:
        """The addresses that the indexer must be told, with the role of each."""

    @abstractmethod
    def set_price(self, dollars: int) -> None:
        """Of one ether."""

    @abstractmethod
    def lend(self, lender: str, dollars_raw: int) -> None:
        """Deposit dollars for others to borrow."""

    @abstractmethod
    def open_position(self) -> str:
        """A new account with ether deposited and dollars borrowed, healthy at the high price."""

    @abstractmethod
    def attempt(self, account: str) -> Attempt:
        """A liquidation of an account that works at the low price, by a new liquidator."""

    @abstractmethod
    def truth(self, attempt: Attempt, receipt: Receipt) -> LendingLiquidation:
        """What state says of a liquidation that was alone in its block; of the event only its
        place is read."""

    def facts(self) -> list[Fact]:
        """What no event says, from the contracts' own functions."""
        return []

    # the story

    def fall(self) -> None:
        """Ether is at the low price: open positions can be liquidated."""
        self.set_price(self.low)

    def recover(self) -> None:
        """Ether is at the high price again."""
        self.set_price(self.high)

    def make(self, attempt: Attempt) -> LendingLiquidation:
        """Send it, and say what it did."""
        return self.truth(attempt, self.node.send(attempt.tx))

    def liquidate(self) -> LendingLiquidation:
        """The whole story of a new account."""
        account = self.open_position()
        self.fall()
        made = self.make(self.attempt(account))
        self.recover()
        return made

    def everything(self) -> list[LendingLiquidation]:
        """One liquidation of each kind that there is."""
        return [self.liquidate()]

    # for those below

    def deployments(self) -> list[Deployment]:
        """The same as the indexer wants to be told them."""
        return [
            Deployment(self.node.chain, address, self.name, role, self.since, "tests")
            for address, role in self.roles().items()
        ]

    def give(self, token: Contract, account: str, amount: int, spender: str) -> None:
        """Tokens from nowhere, with the permission to take them."""
        self.deployer.send(token, "mint", account, amount)
        token.send(account, "approve", spender, amount)

    def price(self, what: str, to: int) -> None:
        """As the protocol's oracle says it."""
        self.deployer.send(self.prices, "set", what, to)

    def row(self, attempt: Attempt, log: Log, **said: Any) -> LendingLiquidation:
        """A row at the place of the event, with what the state said."""
        common: dict[str, Any] = {
            "market": log.address,
            "kind": "lending",
            "method": "repay_seize",
            "owner": None,
            "seized_is_shares": False,
        }
        return LendingLiquidation(
            venue=f"{self.name}.{log.chain}", event_key=log.event_key,
            block_number=log.block_number, block_hash=log.block_hash, tx_hash=log.tx_hash,
            log_index=log.log_index, emitter=log.address, account=attempt.account,
            liquidator=attempt.liquidator, decoder_version=VERSIONS[self.name], **common | said,
        )  # fmt: skip


class PricedLending(Lending):
    """One whose prices are the protocol's own from the beginning."""

    @abstractmethod
    def usd(self, asset: str, at: int) -> Fraction:
        """Of a base unit at the end of a block, as a view of the protocol says."""
