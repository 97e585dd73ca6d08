"""Synthetix perps v2, compiled from synthetix: a market of ether with its manager, and one stub for
all of Synthetix around them."""

from decimal import Decimal
from typing import Any

from eth_hash.auto import keccak

from indexer.evm_model import Deployment, PerpLiquidation
from tests.devchain.anvil import Receipt
from tests.devchain.compiler import stubs, synthetix
from tests.devchain.contracts import Contract, Deployer
from tests.devchain.lending import NOBODY, VERSIONS, WAD, only
from tests.devchain.perp_v2 import whole

KEY, ASSET, SETTINGS = (
    name.encode().ljust(32, b"\0") for name in ("sETHPERP", "ETH", "PerpsV2MarketSettings")
)
# What the market asks the rest of Synthetix for, by the names that it has for it.
# Synthetixio/synthetix:contracts/PerpsV2MarketBase.sol, contracts/FuturesMarketManager.sol
AROUND = (
    "Exchanger", "ExchangeRates", "SystemStatus", "FeePool", "SynthsUSD", "PerpsV2ExchangeRate",
)  # fmt: skip
# Shares and amounts have 18 decimals.
OF_MARKET = {
    "takerFee": WAD // 1_000,
    "makerFee": WAD // 1_000,
    "maxLeverage": 20 * WAD,
    "maxMarketValue": 10_000_000 * WAD,
    "maxFundingVelocity": 3 * WAD,
    "skewScale": 1_000_000 * WAD,
    "liquidationPremiumMultiplier": WAD,
    "maxLiquidationDelta": WAD // 10,
    "maxPD": WAD // 10,
    "liquidationBufferRatio": WAD // 100,
}
OF_ALL = {
    "perpsV2MinKeeperFee": 2 * WAD,
    "perpsV2MaxKeeperFee": 1_000 * WAD,
    "perpsV2LiquidationFeeRatio": WAD * 35 // 10_000,
    "perpsV2MinInitialMargin": 50 * WAD,
    "keeperLiquidationFee": 2 * WAD,
}
IMPLEMENTATIONS = {
    "PerpsV2Market": ("transferMargin", "modifyPosition"),
    "PerpsV2MarketLiquidate": ("flagPosition", "liquidatePosition"),
    "PerpsV2MarketViews": (
        "marketKey", "baseAsset", "assetPrice", "marketSkew", "positions", "remainingMargin",
    ),
}  # fmt: skip


class SynthetixPerpsV2:
    """One market; a position is flagged and then liquidated, each in a transaction of its own."""

    name = "synthetix_perps_v2"
    event = "PositionLiquidated(uint256,address,address,int256,uint256,uint256,uint256,uint256)"

    def __init__(self, deployer: Deployer) -> None:
        self.deployer, self.node = deployer, deployer.node
        self.since = self.node.head + 1
        codes, owner = synthetix(), deployer.address
        deploy, send = deployer.deploy, deployer.send
        self.rest = deploy(stubs()["Synthetix"])
        resolver = deploy(codes["AddressResolver"], owner)
        storage = deploy(codes["FlexibleStorage"], resolver.address)
        self.manager = deploy(codes["FuturesMarketManager"], owner, resolver.address)
        self._proxy = deploy(codes["ProxyPerpsV2"], owner)
        state = deploy(codes["PerpsV2MarketState"], owner, [], ASSET, KEY, NOBODY)
        below = (state.address, owner, resolver.address)
        made = {
            "PerpsV2Market": deploy(codes["PerpsV2Market"], self._proxy.address, *below),
            "PerpsV2MarketLiquidate": deploy(
                codes["PerpsV2MarketLiquidate"], self._proxy.address, *below
            ),
            "PerpsV2MarketViews": deploy(codes["PerpsV2MarketViews"], *below),
        }
        names = {
            **dict.fromkeys(AROUND, self.rest.address),
            "FlexibleStorage": storage.address,
            "FuturesMarketManager": self.manager.address,
            "PerpsV2MarketSettings": owner,  # so that the owner may write the settings
        }
        words = [name.encode().ljust(32, b"\0") for name in names]
        send(resolver, "importAddresses", words, list(names.values()))
        for contract in (self.manager, *made.values()):
            send(contract, "rebuildCache")
        send(state, "addAssociatedContracts", [one.address for one in made.values()])
        send(state, "linkOrInitializeState")
        self._set(storage)
        self._route(made)
        self.market = deployer.at(self._proxy.address, *(codes[name] for name in IMPLEMENTATIONS))
        self.set_price(2_000 * WAD)
        send(self.manager, "addProxiedMarkets", [self.market.address])

    def _set(self, storage: Contract) -> None:
        """Settings of the market are under the hash of its key and their name.

        Synthetixio/synthetix:contracts/MixinPerpsV2MarketSettings.sol"""
        for name, value in {**OF_MARKET, **OF_ALL}.items():
            word = name.encode().ljust(32, b"\0")
            record = keccak(KEY + word) if name in OF_MARKET else word
            self.deployer.send(storage, "setUIntValue", SETTINGS, record, value)

    def _route(self, made: dict[str, Contract]) -> None:
        for name, functions in IMPLEMENTATIONS.items():
            for function in functions:
                selector = made[name].selector(function)
                is_view = name == "PerpsV2MarketViews"
                self.deployer.send(self._proxy, "addRoute", selector, made[name].address, is_view)

    def deployments(self) -> list[Deployment]:
        """Only the manager: what it has taken in is learnt."""
        address, chain = self.manager.address, self.node.chain
        return [Deployment(chain, address, self.name, "manager", self.since, "tests")]

    # the story

    def set_price(self, price_raw: int) -> None:
        """Of an ether, with 18 decimals."""
        self.deployer.send(self.rest, "setRate", ASSET, price_raw)

    def open_position(self, size_raw: int) -> str:
        """A new account with a margin of a tenth of the position; a short has a negative size."""
        account = self.node.new_account()
        price, _ = self.market.read("assetPrice")
        margin = abs(size_raw) * price // WAD // 10
        self.deployer.send(self.rest, "issue", account, margin)
        self.market.send(account, "transferMargin", margin)
        worst = 2 * price if size_raw > 0 else 1
        self.market.send(account, "modifyPosition", size_raw, worst)
        return account

    def liquidate(self, account: str) -> PerpLiquidation:
        """By two keepers, and what state says of it."""
        flagger, keeper = self.node.new_account(), self.node.new_account()
        self.market.send(flagger, "flagPosition", account)
        receipt = self.market.send(keeper, "liquidatePosition", account)
        return self.truth(account, flagger, keeper, receipt)

    def truth(self, account: str, flagger: str, keeper: str, receipt: Receipt) -> PerpLiquidation:
        """Of the event only its place is read. The fee is all sUSD that somebody got."""
        at = receipt.block_number
        log = only(self.event, receipt, self.market.address)
        *_, before = self.market.read("positions", account, at=at - 1)
        *_, after = self.market.read("positions", account, at=at)
        price, _ = self.market.read("assetPrice", at=at)
        fees = self.rest.read("FEE_ADDRESS")
        fee = sum(self.rest.change(at, "balanceOf", who) for who in (flagger, keeper, fees))
        said: dict[str, Any] = {
            "side": "long" if before > 0 else "short",
            "size": whole(abs(before - after)),
            "price": whole(price),
            "notional": Decimal(f"{abs(before - after) * price}e-36"),
            "position_before": whole(before),
            "position_after": whole(after),
            "is_full_close": after == 0,
            "fee": whole(fee),
        }
        return PerpLiquidation(
            venue=f"{self.name}.{log.chain}", event_key=log.event_key,
            block_number=log.block_number, block_hash=log.block_hash, tx_hash=log.tx_hash,
            log_index=log.log_index, emitter=self.market.address,
            market=f"{self.market.address}:ETH", kind="perp", method="market", account=account,
            liquidator=keeper, quote="sUSD", margin_mode="isolated",
            decoder_version=VERSIONS[self.name], counterparty_kind="pool", **said,
        )  # fmt: skip
