"""Aave v2 from @aave/protocol-v2: prices in ether, and all of the bonus for the liquidator."""

from tests.devchain.aave import COLLATERAL, RAY, TREASURY, Aave
from tests.devchain.contracts import Contract
from tests.devchain.lending import NOBODY, WAD
from tests.devchain.packages import AAVE_V2

# rates as shares of a ray: best utilization, then base, and the slopes of both rates
RATES = [RAY * percent // 100 for percent in (80, 0, 4, 60, 4, 60)]


class AaveV2(Aave):
    """Each reserve has tokens and rates of its own."""

    name = "aave_v2"
    package = AAVE_V2
    deposits_by = "deposit"
    a_token_at = 7

    def deploy(self) -> None:
        """As the protocol's own scripts do it, with our prices in the place of its oracle."""
        deploy, send = self.deployer.deploy, self.deployer.send
        provider = deploy(self.code("LendingPoolAddressesProvider"), "local")
        send(provider, "setPoolAdmin", self.deployer.address)
        send(provider, "setPriceOracle", self.oracle_for(provider).address)
        send(provider, "setLendingRateOracle", deploy(self.code("LendingRateOracle")).address)
        made = deploy(self.code("LendingPoolCollateralManager"))
        send(provider, "setLendingPoolCollateralManager", made.address)
        made = deploy(self.code("LendingPool"), **self._libraries())
        send(provider, "setLendingPoolImpl", made.address)
        self.pool = self.deployer.at(provider.read("getLendingPool"), self.code("LendingPool"))
        made = deploy(self.code("LendingPoolConfigurator"))
        send(provider, "setLendingPoolConfiguratorImpl", made.address)
        self._list(provider)

    def oracle_for(self, provider: Contract) -> Contract:
        """Ours."""
        return self.prices

    def _libraries(self) -> dict[str, str]:
        generic = self.deployer.deploy(self.code("GenericLogic")).address
        validation = self.deployer.deploy(self.code("ValidationLogic"), GenericLogic=generic)
        reserve = self.deployer.deploy(self.code("ReserveLogic"))
        return {"ValidationLogic": validation.address, "ReserveLogic": reserve.address}

    def _list(self, provider: Contract) -> None:
        """All reserves, any of which may be borrowed and be collateral."""
        configurator = self.deployer.at(
            provider.read("getLendingPoolConfigurator"), self.code("LendingPoolConfigurator")
        )
        rates = self.deployer.deploy(
            self.code("DefaultReserveInterestRateStrategy"), provider.address, *RATES
        ).address
        for token in self.reserves():
            made = (*self._tokens(token), self.decimals_of(token), rates)
            self.deployer.send(configurator, "initReserve", *made)
            for setting, *values in (
                ("configureReserveAsCollateral", *COLLATERAL),
                ("enableBorrowingOnReserve", False),
                ("setReserveFactor", 1_000),
            ):
                self.deployer.send(configurator, setting, token.address, *values)

    def _tokens(self, token: Contract) -> list[str]:
        """Of a deposit, of debt at a stable rate and at a variable one."""
        return [
            self.deployer.deploy(
                self.code(name), self.pool.address, token.address, *treasury, name, name, NOBODY
            ).address
            for name, treasury in (
                ("AToken", [TREASURY]), ("StableDebtToken", []), ("VariableDebtToken", []),
            )
        ]  # fmt: skip

    def set_price(self, dollars: int) -> None:
        """In ether: it is the dollar whose price moves."""
        self.price(self.ether.address, WAD)
        self.price(self.dollar.address, WAD // dollars)
