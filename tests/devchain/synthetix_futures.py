"""Synthetix futures, compiled from what synthetix keeps of them: the version before perps v2."""

from typing import ClassVar

from indexer.evm_model import Deployment, Fact, PerpLiquidation
from tests.devchain.compiler import synthetix
from tests.devchain.lending import WAD
from tests.devchain.synthetix_market import SynthetixMarket, word


class SynthetixFutures(SynthetixMarket):
    """One market, without a proxy; a position is liquidated in one step."""

    name = "synthetix_futures"
    event = "PositionLiquidated(uint256,address,address,int256,uint256,uint256)"
    # Synthetixio/synthetix:publish/deployed/mainnet-ovm/futures-markets.json
    key = asset = "sETH"
    settings = "FuturesMarketSettings"
    # Synthetixio/synthetix:contracts/frozen/FuturesMarketBase.sol
    around = ("Exchanger", "ExchangeCircuitBreaker", "SystemStatus", "FeePool", "SynthsUSD")
    of_market: ClassVar[dict[str, int]] = {
        "takerFee": WAD // 1_000,
        "makerFee": WAD // 1_000,
        "maxLeverage": 20 * WAD,
        "maxMarketValueUSD": 10_000_000 * WAD,
        "maxFundingRate": WAD // 10,
        "skewScaleUSD": 100_000_000 * WAD,
    }
    of_all: ClassVar[dict[str, int]] = {
        "futuresMinKeeperFee": 20 * WAD,
        "futuresLiquidationFeeRatio": WAD * 35 // 10_000,
        "futuresLiquidationBufferRatio": WAD // 100,
        "futuresMinInitialMargin": 50 * WAD,
    }

    def deploy(self) -> None:
        """One contract."""
        code = synthetix()["FuturesMarket"]
        terms = (self.resolver.address, word(self.asset), word(self.key))
        self.market = self.deployer.deploy(code, *terms)
        self.deployer.send(self.market, "rebuildCache")

    def enlist(self) -> None:
        """As the market itself."""
        self.deployer.send(self.manager, "addMarkets", [self.market.address])

    def deployments(self) -> list[Deployment]:
        """The market: there will be no more of them."""
        address, chain = self.market.address, self.node.chain
        return [Deployment(chain, address, self.name, "market", self.since, "tests")]

    def facts(self) -> list[Fact]:
        """From the market's own key."""
        key = self.market.read("marketKey").rstrip(b"\0").decode().removeprefix("s")
        return [Fact(self.node.chain, "synthetix_futures_coin", self.market.address, key)]

    def trade(self, account: str, size_raw: int, price_raw: int) -> None:
        """At the price of the moment."""
        self.market.send(account, "modifyPosition", size_raw)

    def liquidate(self, account: str) -> PerpLiquidation:
        """The keeper has the fee; what else is left of the margin goes to the pool of fees."""
        keeper = self.node.new_account()
        receipt = self.market.send(keeper, "liquidatePosition", account)
        return self.truth(account, keeper, receipt, keeper)
