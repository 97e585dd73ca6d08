"""What Aave v2 and v3 have in common: reserves, positions, and the call that liquidates."""

from abc import abstractmethod
from typing import Any, ClassVar, NamedTuple

from indexer.evm_model import Leg, LendingLiquidation
from tests.devchain.anvil import Receipt
from tests.devchain.contracts import Code, Contract, artifact
from tests.devchain.lending import UNLIMITED, Attempt, Lending, only
from tests.devchain.packages import Package, folder

RAY = 10**27
VARIABLE_RATE = 2
COLLATERAL = (8_000, 8_250, 10_500)  # of 10,000: what may be borrowed, what must be left, the bonus
TREASURY = "0x" + 38 * "0" + "fe"  # any address that nobody else uses


class Pair(NamedTuple):
    """What an account deposits, and what it owes."""

    collateral: Contract
    debt: Contract


class Aave(Lending):
    """One market; the story is of the reserves of ether and dollars."""

    package: ClassVar[Package]
    deposits_by: ClassVar[str]  # the pool's function
    a_token_at: ClassVar[int]  # in what the pool says of a reserve
    event = "LiquidationCall(address,address,address,uint256,uint256,address,bool)"
    dollar_decimals = 6
    loan_raw = 15_000 * 10**6
    high, low = 2_000, 1_750
    pool: Contract

    @classmethod
    def code(cls, name: str) -> Code:
        """A contract of the package."""
        return artifact(folder(cls.package), f"{name}.sol/{name}")

    @abstractmethod
    def oracle_for(self, provider: Contract) -> Contract:
        """Whom the pool asks."""

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

    def a_token(self, token: Contract) -> Contract:
        """What depositors of a token get."""
        address = self.pool.read("getReserveData", token.address)[self.a_token_at]
        return self.deployer.at(address, self.code("AToken"))

    def roles(self) -> dict[str, str]:
        """Only the pool emits."""
        return {self.pool.address: "pool"}

    def lend(self, lender: str, dollars_raw: int) -> None:
        """Into the reserve of dollars."""
        self.supply(lender, self.dollar, dollars_raw)

    def supply(self, account: str, token: Contract, amount: int) -> None:
        """Deposit tokens from nowhere."""
        self.give(token, account, amount, self.pool.address)
        self.pool.send(account, self.deposits_by, token.address, amount, account, 0)

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
        """The seized is what the liquidator got, in either form."""
        pair = pair or self.pair
        at, who, a_token = receipt.block_number, attempt.liquidator, self.a_token(pair.collateral)
        got = pair.collateral.change(at, "balanceOf", who) + a_token.change(at, "balanceOf", who)
        return self.row(
            attempt,
            only(self.event, receipt, self.pool.address),
            repaid=Leg(pair.debt.address, -pair.debt.change(at, "balanceOf", who)),
            seized=Leg(pair.collateral.address, got),
        )
