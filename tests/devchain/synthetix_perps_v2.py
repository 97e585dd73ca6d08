"""Synthetix perps v2, compiled from synthetix: a market behind its proxy."""

from typing import ClassVar

from indexer.evm_model import Deployment, PerpLiquidation
from tests.devchain.compiler import synthetix
from tests.devchain.contracts import Contract
from tests.devchain.lending import NOBODY, WAD
from tests.devchain.synthetix_market import SynthetixMarket, word

IMPLEMENTATIONS = {
    "PerpsV2Market": ("transferMargin", "modifyPosition"),
    "PerpsV2MarketLiquidate": ("flagPosition", "liquidatePosition"),
    "PerpsV2MarketViews": (
        "marketKey", "baseAsset", "assetPrice", "marketSkew", "positions", "remainingMargin",
    ),
}  # fmt: skip


class SynthetixPerpsV2(SynthetixMarket):
    """One market; a position is flagged and then liquidated, each in a transaction of its own."""

    name = "synthetix_perps_v2"
    event = "PositionLiquidated(uint256,address,address,int256,uint256,uint256,uint256,uint256)"
    key, asset, settings = "sETHPERP", "ETH", "PerpsV2MarketSettings"
    # Synthetixio/synthetix:contracts/PerpsV2MarketBase.sol, contracts/FuturesMarketManager.sol
    around = (
        "Exchanger", "ExchangeRates", "SystemStatus", "FeePool", "SynthsUSD",
        "PerpsV2ExchangeRate",
    )  # fmt: skip
    of_market: ClassVar[dict[str, int]] = {
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
    of_all: ClassVar[dict[str, int]] = {
        "perpsV2MinKeeperFee": 2 * WAD,
        "perpsV2MaxKeeperFee": 1_000 * WAD,
        "perpsV2LiquidationFeeRatio": WAD * 35 // 10_000,
        "perpsV2MinInitialMargin": 50 * WAD,
        "keeperLiquidationFee": 2 * WAD,
    }

    def deploy(self) -> None:
        """The proxy, its state, and what it calls."""
        codes, owner = synthetix(), self.deployer.address
        deploy, send = self.deployer.deploy, self.deployer.send
        proxy = deploy(codes["ProxyPerpsV2"], owner)
        state = deploy(
            codes["PerpsV2MarketState"], owner, [], word(self.asset), word(self.key), NOBODY
        )
        below = (state.address, owner, self.resolver.address)
        made = {
            "PerpsV2Market": deploy(codes["PerpsV2Market"], proxy.address, *below),
            "PerpsV2MarketLiquidate": deploy(
                codes["PerpsV2MarketLiquidate"], proxy.address, *below
            ),
            "PerpsV2MarketViews": deploy(codes["PerpsV2MarketViews"], *below),
        }
        for contract in made.values():
            send(contract, "rebuildCache")
        send(state, "addAssociatedContracts", [one.address for one in made.values()])
        send(state, "linkOrInitializeState")
        self._route(proxy, made)
        self.market = self.deployer.at(proxy.address, *(codes[name] for name in IMPLEMENTATIONS))

    def _route(self, proxy: Contract, made: dict[str, Contract]) -> None:
        for name, functions in IMPLEMENTATIONS.items():
            for function in functions:
                selector = made[name].selector(function)
                is_view = name == "PerpsV2MarketViews"
                self.deployer.send(proxy, "addRoute", selector, made[name].address, is_view)

    def enlist(self) -> None:
        """As one behind a proxy."""
        self.deployer.send(self.manager, "addProxiedMarkets", [self.market.address])

    def deployments(self) -> list[Deployment]:
        """Only the manager: what it has taken in is learnt."""
        address, chain = self.manager.address, self.node.chain
        return [Deployment(chain, address, self.name, "manager", self.since, "tests")]

    def trade(self, account: str, size_raw: int, price_raw: int) -> None:
        """With a limit that is far away."""
        worst = 2 * price_raw if size_raw > 0 else 1
        self.market.send(account, "modifyPosition", size_raw, worst)

    def liquidate(self, account: str) -> PerpLiquidation:
        """By two keepers; both have a part of the fee, as has the pool of fees."""
        flagger, keeper = self.node.new_account(), self.node.new_account()
        self.market.send(flagger, "flagPosition", account)
        receipt = self.market.send(keeper, "liquidatePosition", account)
        fees = self.rest.read("FEE_ADDRESS")
        return self.truth(account, keeper, receipt, flagger, keeper, fees)
