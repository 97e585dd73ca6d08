"""Aave v3.0 from @aave/core-v3: with the protocol's fee, without deficits, which v3.3 brought."""

from typing import Any

from indexer.evm_model import LendingLiquidation
from tests.devchain.aave import COLLATERAL, RAY, TREASURY, Aave, Pair
from tests.devchain.anvil import Receipt
from tests.devchain.contracts import Contract
from tests.devchain.lending import NOBODY, Attempt
from tests.devchain.packages import AAVE_V3

# rates as shares of a ray: best utilization, then base, slopes and the stable rates' five numbers
RATES = [RAY * percent // 100 for percent in (80, 0, 4, 60, 1, 60, 1, 8, 20)]
FEE = 1_000  # of 10,000: a tenth of the bonus


class AaveV3(Aave):
    """The treasury keeps a part of the bonus."""

    name = "aave_v3"
    package = AAVE_V3
    deposits_by = "supply"
    a_token_at = 8

    def deploy(self) -> None:
        """As the protocol's own scripts do it, with our prices in the place of its oracle."""
        deploy, send = self.deployer.deploy, self.deployer.send
        provider = deploy(self.code("PoolAddressesProvider"), "local", self.deployer.address)
        send(provider, "setACLAdmin", self.deployer.address)
        self._permit(provider)
        send(provider, "setPriceOracle", self.oracle_for(provider).address)
        libraries = self._libraries()
        made = deploy(self.code("Pool"), provider.address, **libraries)
        send(provider, "setPoolImpl", made.address)
        self.pool = self.deployer.at(provider.read("getPool"), self.code("Pool"))
        made = deploy(self.code("PoolConfigurator"), **libraries)
        send(provider, "setPoolConfiguratorImpl", made.address)
        self._list(provider)
        self.a_ether = self.a_token(self.ether)

    def oracle_for(self, provider: Contract) -> Contract:
        """Ours."""
        return self.prices

    def _permit(self, provider: Contract) -> None:
        acl = self.deployer.deploy(self.code("ACLManager"), provider.address)
        self.deployer.send(provider, "setACLManager", acl.address)
        for role in ("addPoolAdmin", "addRiskAdmin", "addAssetListingAdmin"):
            self.deployer.send(acl, role, self.deployer.address)

    def _libraries(self) -> dict[str, str]:
        names = ("Supply", "Borrow", "Liquidation", "EMode", "Bridge", "Pool", "Configurator")
        made = {
            f"{name}Logic": self.deployer.deploy(self.code(f"{name}Logic")).address
            for name in names
        }
        flash = self.deployer.deploy(self.code("FlashLoanLogic"), BorrowLogic=made["BorrowLogic"])
        return {**made, "FlashLoanLogic": flash.address}

    def _list(self, provider: Contract) -> None:
        """All reserves, any of which may be borrowed and be collateral."""
        configurator = self.deployer.at(
            provider.read("getPoolConfigurator"), self.code("PoolConfigurator")
        )
        self.deployer.send(configurator, "initReserves", self._inputs(provider))
        for token in self.reserves():
            for setting, *values in (
                ("configureReserveAsCollateral", *COLLATERAL),
                ("setReserveBorrowing", True),
                ("setReserveFactor", 1_000),
                ("setLiquidationProtocolFee", FEE),
            ):
                self.deployer.send(configurator, setting, token.address, *values)

    def _inputs(self, provider: Contract) -> list[tuple[Any, ...]]:
        """What the configurator is told of each reserve."""
        names = ("AToken", "StableDebtToken", "VariableDebtToken")
        tokens = [
            self.deployer.deploy(self.code(name), self.pool.address).address for name in names
        ]
        rates = self.deployer.deploy(
            self.code("DefaultReserveInterestRateStrategy"), provider.address, *RATES
        )
        return [
            (
                *tokens, self.decimals_of(token), rates.address, token.address, TREASURY, NOBODY,
                *("a", "a", "v", "v", "s", "s"), b"",
            )
            for token in self.reserves()
        ]  # fmt: skip

    def set_price(self, dollars: int) -> None:
        """With eight decimals."""
        self.price(self.ether.address, dollars * 10**8)
        self.price(self.dollar.address, 10**8)

    def truth(
        self, attempt: Attempt, receipt: Receipt, pair: Pair | None = None
    ) -> LendingLiquidation:
        """The fee is what the treasury got."""
        collateral = (pair or self.pair).collateral
        row, a_token = super().truth(attempt, receipt, pair), self.a_token(collateral)
        fee = a_token.change(receipt.block_number, "balanceOf", TREASURY)
        return row.with_(protocol_fee_raw=fee, fee_in_seized=False)
