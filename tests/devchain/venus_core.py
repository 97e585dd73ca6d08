"""Venus' core pool from @venusprotocol/venus-protocol: Compound v2's event, nothing indexed.

The comptroller is a Unitroller in front of a diamond. There is no Liquidator contract here.
"""

from tests.devchain.compiler import dev
from tests.devchain.compound import (
    BLOCKS_A_YEAR,
    CLOSE_FACTOR,
    FACTOR,
    INCENTIVE,
    RATE_A_YEAR,
    Compound,
)
from tests.devchain.contracts import Code, Contract, artifact
from tests.devchain.lending import UNLIMITED, WAD
from tests.devchain.packages import VENUS_CORE, folder

FACETS = ("MarketFacet", "PolicyFacet", "RewardFacet", "SetterFacet", "FlashLoanFacet")
ADD = 0  # what to do with a facet's functions
FIRST_POOL = 0


def code(name: str) -> Code:
    """A contract of the package."""
    return artifact(folder(VENUS_CORE), f"{name}.sol/{name}")


class VenusCore(Compound):
    """One pool with two markets."""

    name = "venus_core"

    def deploy(self) -> None:
        """The comptroller, its settings, then the markets with theirs."""
        deploy = self.deployer.deploy
        self.comptroller = self._diamond()
        self.permits = deploy(dev()["Permits"]).address
        for setting, value in (
            ("_setAccessControl", self.permits),
            ("_setPriceOracle", self.prices.address),
            ("setDeviationBoundedOracle", self.prices.address),
            ("_setComptrollerLens", deploy(code("ComptrollerLens")).address),
            ("_setCloseFactor", CLOSE_FACTOR),
        ):
            self.deployer.send(self.comptroller, setting, value)
        rates = deploy(code("WhitePaperInterestRateModel"), 0, RATE_A_YEAR, BLOCKS_A_YEAR)
        self.ether_market = self._market(self.ether, rates)
        self.dollar_market = self._market(self.dollar, rates)
        self.recover()  # a market without a price has no collateral factor
        for market in (self.ether_market, self.dollar_market):
            self._open(market)

    def _diamond(self) -> Contract:
        """Each facet brings the functions that none before it has."""
        unitroller = self.deployer.deploy(code("Unitroller"))
        diamond = self.deployer.deploy(code("Diamond"))
        self.deployer.send(unitroller, "_setPendingImplementation", diamond.address)
        self.deployer.send(diamond, "_become", unitroller.address)
        codes = [code(name) for name in FACETS]
        seen: set[bytes] = set()
        cuts = []
        for facet in codes:
            new = {function.selector for function in facet.functions} - seen
            seen |= new
            cuts.append((self.deployer.deploy(facet).address, ADD, sorted(new)))
        front = self.deployer.at(unitroller.address, code("Diamond"))
        self.deployer.send(front, "diamondCut", cuts)
        return self.deployer.at(unitroller.address, *codes)

    def _market(self, token: Contract, rates: Contract) -> Contract:
        market = self.deployer.deploy(
            code("VBep20Immutable"), token.address, self.comptroller.address, rates.address, WAD,
            "market", "market", 8, self.deployer.address,
        )  # fmt: skip
        self.deployer.send(market, "setAccessControlManager", self.permits)
        self.deployer.send(self.comptroller, "_supportMarket", market.address)
        return market

    def _open(self, market: Contract) -> None:
        for setting, *values in (
            ("setIsBorrowAllowed", FIRST_POOL, market.address, True),
            ("_setMarketSupplyCaps", [market.address], [UNLIMITED]),
            ("_setMarketBorrowCaps", [market.address], [UNLIMITED]),
            ("setCollateralFactor", market.address, FACTOR, FACTOR),
            ("setLiquidationIncentive", market.address, INCENTIVE),
        ):
            self.deployer.send(self.comptroller, setting, *values)
