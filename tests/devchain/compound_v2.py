"""Compound v2 from @setprotocol/set-protocol-v2: nothing of the event indexed, no fee."""

from tests.devchain.compound import (
    CLOSE_FACTOR,
    FACTOR,
    INCENTIVE,
    RATE_A_YEAR,
    Compound,
)
from tests.devchain.contracts import Code, Contract, artifact
from tests.devchain.lending import WAD
from tests.devchain.packages import COMPOUND_V2, folder

TERMS = (WAD, "market", "market", 8)  # at first, a base unit of shares for one of the token


def code(name: str) -> Code:
    """A contract of the package."""
    return artifact(folder(COMPOUND_V2), f"compound/{name}")


class CompoundV2(Compound):
    """One pool with two markets; there is no COMP to give away."""

    name = "compound_v2"

    def deploy(self) -> None:
        """The comptroller, its settings, then the markets with theirs."""
        self.comptroller = self._comptroller()
        for setting, value in (
            ("_setCloseFactor", CLOSE_FACTOR),
            ("_setLiquidationIncentive", INCENTIVE),
            ("_setMaxAssets", 2),
        ):
            self.deployer.send(self.comptroller, setting, value)
        rates = self.deployer.deploy(code("WhitePaperInterestRateModel"), 0, RATE_A_YEAR)
        self.ether_market = self.market_of_ether(rates)
        self.dollar_market = self._market(self.dollar, rates)
        for market in (self.ether_market, self.dollar_market):
            self.deployer.send(self.comptroller, "_supportMarket", market.address)
        self.deployer.send(self.comptroller, "_setPriceOracle", self.oracle.address)
        self.recover()  # a market without a price has no collateral factor
        for market in (self.ether_market, self.dollar_market):
            self.deployer.send(self.comptroller, "_setCollateralFactor", market.address, FACTOR)

    def front(self) -> Contract:
        """What stands before the comptroller."""
        return self.deployer.deploy(code("Unitroller"))

    def market_of_ether(self, rates: Contract) -> Contract:
        """It is a token like the dollar."""
        return self._market(self.ether, rates)

    def _comptroller(self) -> Contract:
        front = self.front()
        made = self.deployer.deploy(code("Comptroller"))
        self.deployer.send(front, "_setPendingImplementation", made.address)
        self.deployer.send(made, "_become", front.address, 0, [], [])
        return self.deployer.at(front.address, code("Comptroller"))

    def _market(self, token: Contract, rates: Contract) -> Contract:
        return self.deployer.deploy(
            code("CERc20"), token.address, self.comptroller.address, rates.address, *TERMS
        )
