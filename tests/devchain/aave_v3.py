"""Aave v3.0 from @aave/core-v3: with the protocol's fee, without deficits, which v3.3 brought."""

from indexer.evm_model import Leg, LendingLiquidation
from tests.devchain.anvil import Receipt
from tests.devchain.contracts import Code, Contract, artifact
from tests.devchain.lending import NOBODY, UNLIMITED, Attempt, Lending, only
from tests.devchain.packages import AAVE_V3, folder

RAY = 10**27
VARIABLE_RATE = 2
# rates as shares of a ray: best utilization, then base, slopes and the stable rates' five numbers
RATES = [RAY * percent // 100 for percent in (80, 0, 4, 60, 1, 60, 1, 8, 20)]
TREASURY = "0x" + 38 * "0" + "fe"  # any address that nobody else uses
FEE = 1_000  # of 10,000: a tenth of the bonus


def _code(name: str) -> Code:
    return artifact(folder(AAVE_V3), f"{name}.sol/{name}")


class AaveV3(Lending):
    """One market with two reserves; the account's aTokens are in the reserve of ether."""

    name = "aave_v3"
    event = "LiquidationCall(address,address,address,uint256,uint256,address,bool)"
    dollar_decimals = 6
    loan_raw = 15_000 * 10**6
    high, low = 2_000, 1_750

    def deploy(self) -> None:
        """As the protocol's own scripts do it, with our prices in the place of its oracle."""
        deploy, send = self.deployer.deploy, self.deployer.send
        provider = deploy(_code("PoolAddressesProvider"), "local", self.deployer.address)
        send(provider, "setACLAdmin", self.deployer.address)
        self._permit(provider)
        send(provider, "setPriceOracle", self.prices.address)
        libraries = self._libraries()
        send(provider, "setPoolImpl", deploy(_code("Pool"), provider.address, **libraries).address)
        self.pool = self.deployer.at(provider.read("getPool"), _code("Pool"))
        made = deploy(_code("PoolConfigurator"), **libraries)
        send(provider, "setPoolConfiguratorImpl", made.address)
        self._list(provider)
        (_, _, _, _, _, _, _, _, a_ether, *_) = self.pool.read("getReserveData", self.ether.address)
        self.a_ether = self.deployer.at(a_ether, _code("AToken"))

    def _permit(self, provider: Contract) -> None:
        acl = self.deployer.deploy(_code("ACLManager"), provider.address)
        self.deployer.send(provider, "setACLManager", acl.address)
        for role in ("addPoolAdmin", "addRiskAdmin", "addAssetListingAdmin"):
            self.deployer.send(acl, role, self.deployer.address)

    def _libraries(self) -> dict[str, str]:
        names = ("Supply", "Borrow", "Liquidation", "EMode", "Bridge", "Pool", "Configurator")
        made = {
            f"{name}Logic": self.deployer.deploy(_code(f"{name}Logic")).address for name in names
        }
        flash = self.deployer.deploy(_code("FlashLoanLogic"), BorrowLogic=made["BorrowLogic"])
        return {**made, "FlashLoanLogic": flash.address}

    def _list(self, provider: Contract) -> None:
        """Both reserves, either of which may be borrowed and be collateral."""
        configurator = self.deployer.at(
            provider.read("getPoolConfigurator"), _code("PoolConfigurator")
        )
        names = ("AToken", "StableDebtToken", "VariableDebtToken")
        tokens = [self.deployer.deploy(_code(name), self.pool.address).address for name in names]
        rates = self.deployer.deploy(
            _code("DefaultReserveInterestRateStrategy"), provider.address, *RATES
        )
        reserves = [
            (
                *tokens, token.read("decimals"), rates.address, token.address, TREASURY, NOBODY,
                *("a", "a", "v", "v", "s", "s"), b"",
            )
            for token in (self.ether, self.dollar)
        ]  # fmt: skip
        self.deployer.send(configurator, "initReserves", reserves)
        for token in (self.ether, self.dollar):
            for setting, *values in (
                ("configureReserveAsCollateral", 8_000, 8_250, 10_500),
                ("setReserveBorrowing", True),
                ("setReserveFactor", 1_000),
                ("setLiquidationProtocolFee", FEE),
            ):
                self.deployer.send(configurator, setting, token.address, *values)

    def roles(self) -> dict[str, str]:
        """Only the pool emits."""
        return {self.pool.address: "pool"}

    def set_price(self, dollars: int) -> None:
        """With eight decimals."""
        self.price(self.ether.address, dollars * 10**8)
        self.price(self.dollar.address, 10**8)

    def lend(self, lender: str, dollars_raw: int) -> None:
        """Into the reserve of dollars."""
        self._supply(lender, self.dollar, dollars_raw)

    def _supply(self, account: str, token: Contract, amount: int) -> None:
        self.give(token, account, amount, self.pool.address)
        self.pool.send(account, "supply", token.address, amount, account, 0)

    def open_position(self) -> str:
        """Its health is 1.1."""
        account = self.node.new_account()
        self._supply(account, self.ether, self.deposit_raw)
        debt = (self.dollar.address, self.loan_raw, VARIABLE_RATE, 0, account)
        self.pool.send(account, "borrow", *debt)
        return account

    def attempt(self, account: str, *, takes_atokens: bool = False) -> Attempt:
        """Half of the debt, which is as much as the pool allows."""
        liquidator = self.node.new_account()
        self.give(self.dollar, liquidator, self.loan_raw, self.pool.address)
        arguments = (
            self.ether.address, self.dollar.address, account, UNLIMITED, takes_atokens,
        )  # fmt: skip
        tx = self.pool.tx(liquidator, "liquidationCall", *arguments)
        return Attempt(account, liquidator, tx)

    def truth(self, attempt: Attempt, receipt: Receipt) -> LendingLiquidation:
        """The fee is what the treasury got, the seized what the liquidator got, in either form."""
        at, who = receipt.block_number, attempt.liquidator
        got = self.ether.change(at, "balanceOf", who) + self.a_ether.change(at, "balanceOf", who)
        return self.row(
            attempt,
            only(self.event, receipt, self.pool.address),
            repaid=Leg(self.dollar.address, -self.dollar.change(at, "balanceOf", who)),
            seized=Leg(self.ether.address, got),
            protocol_fee_raw=self.a_ether.change(at, "balanceOf", TREASURY),
            fee_in_seized=False,
        )
