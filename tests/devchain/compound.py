"""What Compound v2 and both kinds of Venus' pools have in common: markets of shares."""

from abc import abstractmethod

from indexer.evm_model import Fact, Leg, LendingLiquidation
from tests.devchain.anvil import Receipt
from tests.devchain.contracts import Contract
from tests.devchain.lending import WAD, Attempt, Lending, only

BLOCKS_A_YEAR = 10_512_000
RATE_A_YEAR = 2 * WAD // 100
FACTOR = 80 * WAD // 100  # how much may be borrowed against a dollar of collateral
INCENTIVE = 110 * WAD // 100
CLOSE_FACTOR = 50 * WAD // 100
RESERVE_FACTOR = 10 * WAD // 100


class Compound(Lending):
    """Two markets; nobody borrows ether, so that its shares are worth what they were at first."""

    event = "LiquidateBorrow(address,address,uint256,address,uint256)"
    dollar_decimals = 18
    loan_raw = 15_000 * WAD
    high, low = 2_000, 1_700
    repaid_raw = 5_000 * WAD
    comptroller: Contract
    ether_market: Contract
    dollar_market: Contract

    @abstractmethod
    def deploy(self) -> None:
        """Set the three contracts."""

    @property
    def oracle(self) -> Contract:
        """Whom the comptroller asks."""
        return self.prices

    def roles(self) -> dict[str, str]:
        """The comptroller lists the markets."""
        return {self.comptroller.address: "comptroller"}

    def facts(self) -> list[Fact]:
        """The token behind each market."""
        return [
            Fact(self.node.chain, "underlying", market.address, market.read("underlying"))
            for market in (self.ether_market, self.dollar_market)
        ]

    def set_price(self, dollars: int) -> None:
        """Of one base unit, times 10**36."""
        self.price(self.ether_market.address, dollars * 10 ** (36 - self.ether_decimals))
        self.price(self.dollar_market.address, 10 ** (36 - self.dollar_decimals))

    def lend(self, lender: str, dollars_raw: int) -> None:
        """Into the market of dollars."""
        self.deposit(lender, self.dollar, self.dollar_market, dollars_raw)

    def deposit(self, account: str, token: Contract, market: Contract, amount: int) -> None:
        """Tokens from nowhere, for shares."""
        self.give(token, account, amount, market.address)
        market.send(account, "mint", amount)

    def open_position(self) -> str:
        """It owes 75 % of its collateral, 80 % are allowed."""
        account = self.node.new_account()
        self.deposit(account, self.ether, self.ether_market, self.deposit_raw)
        self.comptroller.send(account, "enterMarkets", [self.ether_market.address])
        self.dollar_market.send(account, "borrow", self.loan_raw)
        return account

    def attempt(self, account: str) -> Attempt:
        """A third of the debt."""
        liquidator = self.node.new_account()
        self.give(self.dollar, liquidator, self.repaid_raw, self.dollar_market.address)
        arguments = (account, self.repaid_raw, self.ether_market.address)
        tx = self.dollar_market.tx(liquidator, "liquidateBorrow", *arguments)
        return Attempt(account, liquidator, tx)

    def truth(self, attempt: Attempt, receipt: Receipt) -> LendingLiquidation:
        """All shares that the account lost are the liquidator's."""
        at, market = receipt.block_number, self.ether_market
        paid = -self.dollar.change(at, "balanceOf", attempt.liquidator)
        return self.row(
            attempt,
            only(self.event, receipt, self.dollar_market.address),
            repaid=Leg(self.dollar.address, paid),
            seized=Leg(market.address, -market.change(at, "balanceOf", attempt.account)),
            seized_is_shares=True,
        )
