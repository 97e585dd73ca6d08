"""The genuine pools of Venus with tokens of odd decimals and shares whose rate is not round."""

from fractions import Fraction

from tests.devchain.contracts import Contract
from tests.devchain.lending import WAD
from tests.devchain.venus import Venus
from tests.devchain.venus_core import VenusCore
from tests.devchain.venus_isolated import VenusIsolated

LENT = 1_000  # ether
BLOCKS = 20


class Priced(Venus):
    """What both pools say of prices and shares."""

    def set_price(self, dollars: int) -> None:
        """As before, with a digit in the last place."""
        self.price(self.ether_market.address, dollars * 10 ** (36 - self.ether_decimals) + 7)
        self.price(self.dollar_market.address, 10 ** (36 - self.dollar_decimals) - 3)

    def earn(self) -> None:
        """Somebody borrows ether, and each share of it becomes worth more."""
        one = 10**self.ether_decimals
        self._mint(self.node.new_account(), self.ether, self.ether_market, LENT * one)
        account = self.node.new_account()
        dollars = 10_000_000 * 10**self.dollar_decimals
        self._mint(account, self.dollar, self.dollar_market, dollars)
        self.comptroller.send(account, "enterMarkets", [self.dollar_market.address])
        self.ether_market.send(account, "borrow", LENT * one // 3)
        self.node.mine(BLOCKS)

    def usd(self, asset: str, at: int) -> Fraction:
        """Dollars of a base unit at the end of a block: of a market's token, or of its shares."""
        markets = (self.ether_market, self.dollar_market)
        by_token: dict[str, Contract] = {market.read("underlying"): market for market in markets}
        shares = {market.address: market for market in markets}
        market = by_token.get(asset) or shares[asset]
        token = Fraction(self.prices.read("getUnderlyingPrice", market.address, at=at), 10**36)
        if asset in by_token:
            return token
        return token * Fraction(market.read("exchangeRateStored", at=at), WAD)


class PricedCore(Priced, VenusCore):
    """Debt in a token without decimals, collateral in one with 27."""

    ether_decimals, dollar_decimals = 27, 0
    deposit_raw = 10 * 10**27
    loan_raw, repaid_raw = 15_000, 5_000


class PricedIsolated(Priced, VenusIsolated):
    """Debt in a token with six decimals, collateral in one with eight."""

    ether_decimals, dollar_decimals = 8, 6
    deposit_raw = 10 * 10**8
    loan_raw, repaid_raw = 15_000 * 10**6, 5_000 * 10**6
