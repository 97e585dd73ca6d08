"""Aave v3.0 from @aave/core-v3: with the protocol's fee, without deficits, which v3.3 brought."""

from typing import Any, NamedTuple

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


def aave(name: str) -> Code:
    """A contract of the package."""
    return artifact(folder(AAVE_V3), f"{name}.sol/{name}")


class Pair(NamedTuple):
    """What an account deposits, and what it owes."""

    collateral: Contract
    debt: Contract


class AaveV3(Lending):
    """One market; the story is of the reserves of ether and dollars."""

    name = "aave_v3"
    event = "LiquidationCall(address,address,address,uint256,uint256,address,bool)"
    dollar_decimals = 6
    loan_raw = 15_000 * 10**6
    high, low = 2_000, 1_750

    def deploy(self) -> None:
        """As the protocol's own scripts do it, with our prices in the place of its oracle."""
        deploy, send = self.deployer.deploy, self.deployer.send
        provider = deploy(aave("PoolAddressesProvider"), "local", self.deployer.address)
        send(provider, "setACLAdmin", self.deployer.address)
        self._permit(provider)
        send(provider, "setPriceOracle", self.oracle_for(provider).address)
        libraries = self._libraries()
        send(provider, "setPoolImpl", deploy(aave("Pool"), provider.address, **libraries).address)
        self.pool = self.deployer.at(provider.read("getPool"), aave("Pool"))
        made = deploy(aave("PoolConfigurator"), **libraries)
        send(provider, "setPoolConfiguratorImpl", made.address)
        self._list(provider)
        self.a_ether = self.a_token(self.ether)

    @property
    def pair(self) -> Pair:
        """Of the story."""
        return Pair(self.ether, self.dollar)

    def reserves(self) -> list[Contract]:
        """The tokens of the market."""
        return [self.ether, self.dollar]

    def decimals_of(self, token: Contract) -> int:
        """As the pool is told them."""
        return int(token.read("decimals"))

    def oracle_for(self, provider: Contract) -> Contract:
        """Whom the pool asks."""
        return self.prices

    def a_token(self, token: Contract) -> Contract:
        """What depositors of a token get."""
        address = self.pool.read("getReserveData", token.address)[8]
        return self.deployer.at(address, aave("AToken"))

    def _permit(self, provider: Contract) -> None:
        acl = self.deployer.deploy(aave("ACLManager"), provider.address)
        self.deployer.send(provider, "setACLManager", acl.address)
        for role in ("addPoolAdmin", "addRiskAdmin", "addAssetListingAdmin"):
            self.deployer.send(acl, role, self.deployer.address)

    def _libraries(self) -> dict[str, str]:
        names = ("Supply", "Borrow", "Liquidation", "EMode", "Bridge", "Pool", "Configurator")
        made = {
            f"{name}Logic": self.deployer.deploy(aave(f"{name}Logic")).address for name in names
        }
        flash = self.deployer.deploy(aave("FlashLoanLogic"), BorrowLogic=made["BorrowLogic"])
        return {**made, "FlashLoanLogic": flash.address}

    def _list(self, provider: Contract) -> None:
        """All reserves, any of which may be borrowed and be collateral."""
        configurator = self.deployer.at(
            provider.read("getPoolConfigurator"), aave("PoolConfigurator")
        )
        names = ("AToken", "StableDebtToken", "VariableDebtToken")
        tokens = [self.deployer.deploy(aave(name), self.pool.address).address for name in names]
        rates = self.deployer.deploy(
            aave("DefaultReserveInterestRateStrategy"), provider.address, *RATES
        )
        reserves = [
            (
                *tokens, self.decimals_of(token), rates.address, token.address, TREASURY, NOBODY,
                *("a", "a", "v", "v", "s", "s"), b"",
            )
            for token in self.reserves()
        ]  # fmt: skip
        self.deployer.send(configurator, "initReserves", reserves)
        for token in self.reserves():
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
        self.supply(lender, self.dollar, dollars_raw)

    def supply(self, account: str, token: Contract, amount: int) -> None:
        """Deposit tokens from nowhere."""
        self.give(token, account, amount, self.pool.address)
        self.pool.send(account, "supply", token.address, amount, account, 0)

    def open_position(self) -> str:
        """Its health is 1.1."""
        return self.open(self.pair, self.deposit_raw, self.loan_raw)

    def open(self, pair: Pair, deposit_raw: int, loan_raw: int) -> str:
        """A new account with a deposit and a debt."""
        account = self.node.new_account()
        self.supply(account, pair.collateral, deposit_raw)
        debt = (pair.debt.address, loan_raw, VARIABLE_RATE, 0, account)
        self.pool.send(account, "borrow", *debt)
        return account

    def attempt(
        self, account: str, *, takes_atokens: bool = False, pair: Pair | None = None
    ) -> Attempt:
        """Half of the debt, which is as much as the pool allows."""
        pair = pair or self.pair
        liquidator = self.node.new_account()
        self.give(pair.debt, liquidator, self.loan_of(pair.debt), self.pool.address)
        tx = self.pool.tx(liquidator, *self.liquidation(account, pair, takes_atokens))
        return Attempt(account, liquidator, tx)

    def loan_of(self, token: Contract) -> int:
        """What an account borrows of a token."""
        return self.loan_raw

    def liquidation(self, account: str, pair: Pair, takes_atokens: bool = False) -> tuple[Any, ...]:
        """The function that liquidates, and its arguments."""
        assets = (pair.collateral.address, pair.debt.address)
        return ("liquidationCall", *assets, account, UNLIMITED, takes_atokens)

    def truth(
        self, attempt: Attempt, receipt: Receipt, pair: Pair | None = None
    ) -> LendingLiquidation:
        """The fee is what the treasury got, the seized what the liquidator got, in either form."""
        pair = pair or self.pair
        at, who, a_token = receipt.block_number, attempt.liquidator, self.a_token(pair.collateral)
        got = pair.collateral.change(at, "balanceOf", who) + a_token.change(at, "balanceOf", who)
        return self.row(
            attempt,
            only(self.event, receipt, self.pool.address),
            repaid=Leg(pair.debt.address, -pair.debt.change(at, "balanceOf", who)),
            seized=Leg(pair.collateral.address, got),
            protocol_fee_raw=a_token.change(at, "balanceOf", TREASURY),
            fee_in_seized=False,
        )
