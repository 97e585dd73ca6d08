"""What markets of Synthetix have in common here: the genuine resolver, storage and manager, and one
stub for all of Synthetix around them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, ClassVar

from eth_hash.auto import keccak

from indexer.evm_model import Deployment, PerpLiquidation
from tests.devchain.anvil import Receipt
from tests.devchain.compiler import stubs, synthetix
from tests.devchain.contracts import Contract, Deployer
from tests.devchain.lending import VERSIONS, WAD, only
from tests.devchain.perp_v2 import whole


class SynthetixMarket(ABC):
    """A market of ether; all trade against the debt pool."""

    name: ClassVar[str]
    event: ClassVar[str]
    key: ClassVar[str]
    asset: ClassVar[str]
    settings: ClassVar[str]  # the contract that may write those of the market
    # What the market asks the rest of Synthetix for, by the names that it has for it.
    around: ClassVar[tuple[str, ...]]
    # Shares and amounts have 18 decimals.
    of_market: ClassVar[Mapping[str, int]]
    of_all: ClassVar[Mapping[str, int]]
    market: Contract

    def __init__(self, deployer: Deployer) -> None:
        self.deployer, self.node = deployer, deployer.node
        self.since = self.node.head + 1
        codes, owner, deploy = synthetix(), deployer.address, deployer.deploy
        self.rest = deploy(stubs()["Synthetix"])
        self.resolver = deploy(codes["AddressResolver"], owner)
        storage = deploy(codes["FlexibleStorage"], self.resolver.address)
        self.manager = deploy(codes["FuturesMarketManager"], owner, self.resolver.address)
        names = {
            **dict.fromkeys(self.around, self.rest.address),
            "FlexibleStorage": storage.address,
            "FuturesMarketManager": self.manager.address,
            self.settings: owner,  # so that the owner may write the settings
        }
        deployer.send(self.resolver, "importAddresses", list(map(word, names)), [*names.values()])
        deployer.send(self.manager, "rebuildCache")
        self._set(storage)
        self.deploy()
        self.set_price(2_000 * WAD)
        self.enlist()

    def _set(self, storage: Contract) -> None:
        """Settings of the market are under the hash of its key and their name.

        Synthetixio/synthetix:contracts/MixinPerpsV2MarketSettings.sol"""
        for name, value in {**self.of_market, **self.of_all}.items():
            is_own = name in self.of_market
            record = keccak(word(self.key) + word(name)) if is_own else word(name)
            self.deployer.send(storage, "setUIntValue", word(self.settings), record, value)

    @abstractmethod
    def deploy(self) -> None:
        """Put the market on the chain."""

    @abstractmethod
    def enlist(self) -> None:
        """The manager takes it in."""

    @abstractmethod
    def deployments(self) -> list[Deployment]:
        """As the indexer wants to be told them."""

    # the story

    def set_price(self, price_raw: int) -> None:
        """Of an ether, with 18 decimals."""
        self.deployer.send(self.rest, "setRate", word(self.asset), price_raw)

    def open_position(self, size_raw: int) -> str:
        """A new account with a margin of a tenth of the position; a short has a negative size."""
        account = self.node.new_account()
        price, _ = self.market.read("assetPrice")
        margin = abs(size_raw) * price // WAD // 10
        self.deployer.send(self.rest, "issue", account, margin)
        self.market.send(account, "transferMargin", margin)
        self.trade(account, size_raw, price)
        return account

    @abstractmethod
    def trade(self, account: str, size_raw: int, price_raw: int) -> None:
        """At about that price."""

    @abstractmethod
    def liquidate(self, account: str) -> PerpLiquidation:
        """And what state says of it."""

    def truth(self, account: str, keeper: str, receipt: Receipt, *paid: str) -> PerpLiquidation:
        """Of the event only its place is read. The fee is all sUSD that these got."""
        at = receipt.block_number
        log = only(self.event, receipt, self.market.address)
        *_, before = self.market.read("positions", account, at=at - 1)
        *_, after = self.market.read("positions", account, at=at)
        price, _ = self.market.read("assetPrice", at=at)
        said: dict[str, Any] = {
            "side": "long" if before > 0 else "short",
            "size": whole(abs(before - after)),
            "price": whole(price),
            "notional": Decimal(f"{abs(before - after) * price}e-36"),
            "position_before": whole(before),
            "position_after": whole(after),
            "is_full_close": after == 0,
            "fee": whole(sum(self.rest.change(at, "balanceOf", who) for who in paid)),
        }
        return PerpLiquidation(
            venue=f"{self.name}.{log.chain}", event_key=log.event_key,
            block_number=log.block_number, block_hash=log.block_hash, tx_hash=log.tx_hash,
            log_index=log.log_index, emitter=self.market.address,
            market=f"{self.market.address}:ETH", kind="perp", method="market", account=account,
            liquidator=keeper, quote="sUSD", margin_mode="isolated",
            decoder_version=VERSIONS[self.name], counterparty_kind="pool", **said,
        )  # fmt: skip


def word(name: str) -> bytes:
    """As Solidity keeps a short text."""
    return name.encode().ljust(32, b"\0")
