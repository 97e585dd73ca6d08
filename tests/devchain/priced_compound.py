"""The genuine Compound v2 and pools of Venus with tokens of odd decimals and shares whose rate is
not round."""

from fractions import Fraction
from functools import cached_property

import msgspec

from indexer.evm_model import NATIVE, Leg, LendingLiquidation
from indexer.venues.evm.venus_core import VAI
from tests.devchain.compound import Compound
from tests.devchain.compound_v2 import TERMS, CompoundV2, code
from tests.devchain.contracts import Contract
from tests.devchain.lending import NOBODY, WAD, Attempt, only
from tests.devchain.priced_markets import Usd
from tests.devchain.venus_core import VenusCore
from tests.devchain.venus_isolated import VenusIsolated
from tests.devchain.venus_vai import VenusVai

LENT = 1_000  # ether
BLOCKS = 20


class Priced(Compound):
    """What all of them say of prices and shares."""

    def set_price(self, dollars: int) -> None:
        """As before, with a digit in the last place."""
        self.price(self.ether_market.address, dollars * 10 ** (36 - self.ether_decimals) + 7)
        self.price(self.dollar_market.address, 10 ** (36 - self.dollar_decimals) - 3)

    def earn(self) -> None:
        """Somebody borrows ether, and each share of it becomes worth more."""
        one = 10**self.ether_decimals
        self.deposit(self.node.new_account(), self.ether, self.ether_market, LENT * one)
        account = self.node.new_account()
        dollars = 10_000_000 * 10**self.dollar_decimals
        self.deposit(account, self.dollar, self.dollar_market, dollars)
        self.comptroller.send(account, "enterMarkets", [self.dollar_market.address])
        self.ether_market.send(account, "borrow", LENT * one // 3)
        self.node.mine(BLOCKS)

    def usd(self, asset: str, at: int) -> Fraction:
        """Dollars of a base unit at the end of a block: of a market's token, or of its shares."""
        markets = (self.ether_market, self.dollar_market)
        tokens = (self.ether.address, self.dollar.address)
        by_token = dict(zip(tokens, markets, strict=True))
        shares = {market.address: market for market in markets}
        market = by_token.get(asset) or shares[asset]
        token = Fraction(self.oracle.read("getUnderlyingPrice", market.address, at=at), 10**36)
        if asset in by_token:
            return token
        return token * Fraction(market.read("exchangeRateStored", at=at), WAD)


class CompoundInEther(Priced, CompoundV2):
    """As on Ethereum until 2020, at its addresses: prices in ether, which is no token.

    compound-finance/compound-config:networks/mainnet.json"""

    COMPTROLLER = "0x3d9819210a31b4961b30ef54be2aed79b9c9cd3b"
    MARKET_OF_ETHER = "0x4ddc2d193948926d02f9b1fe9e1daa0718270ed5"
    DOLLAR_KEY = f"0x{1:040x}"  # under which the oracle keeps the price of the dollar
    dollar_decimals = 6
    loan_raw, repaid_raw = 15_000 * 10**6, 5_000 * 10**6

    @cached_property
    def oracle(self) -> Contract:
        """The protocol's own, on prices of ours."""
        markets = (self.ether_market.address, self.dollar_market.address)
        terms = (NOBODY, self.prices.address, *markets, NOBODY, NOBODY, NOBODY)
        return self.deployer.deploy(code("PriceOracleProxy"), *terms)

    def front(self) -> Contract:
        """Where Ethereum has it."""
        return self.deployer.place(self.COMPTROLLER, code("Unitroller"))

    def market_of_ether(self, rates: Contract) -> Contract:
        """Where Ethereum has it."""
        terms = (self.comptroller.address, rates.address, *TERMS)
        return self.deployer.place(self.MARKET_OF_ETHER, code("CEther"), *terms)

    def set_price(self, dollars: int) -> None:
        """Of a dollar in ether, with a digit in the last place."""
        self.price(self.DOLLAR_KEY, 10 ** (36 - self.dollar_decimals) // dollars + 7)

    def deposit(self, account: str, token: Contract, market: Contract, amount: int) -> None:
        """Ether is sent along."""
        if token is not self.ether:
            super().deposit(account, token, market, amount)
            return
        self.node.send(msgspec.structs.replace(market.tx(account, "mint"), value=amount))

    def liquidate_a_debt_in_ether(self) -> LendingLiquidation:
        """The story the other way round: dollars as collateral, and ether rises."""
        account, liquidator = self.node.new_account(), self.node.new_account()
        self.deposit(account, self.dollar, self.dollar_market, 20_000 * 10**self.dollar_decimals)
        self.comptroller.send(account, "enterMarkets", [self.dollar_market.address])
        self.ether_market.send(account, "borrow", 7 * WAD)
        self.set_price(self.high * 5 // 4)
        arguments = (account, self.dollar_market.address)
        tx = self.ether_market.tx(liquidator, "liquidateBorrow", *arguments)
        attempt = Attempt(account, liquidator, msgspec.structs.replace(tx, value=2 * WAD))
        receipt = self.node.send(attempt.tx)
        at, market = receipt.block_number, self.dollar_market
        return self.row(
            attempt,
            only(self.event, receipt, self.ether_market.address),
            repaid=Leg(NATIVE, self.ether_market.change(at, "getCash")),
            seized=Leg(market.address, -market.change(at, "balanceOf", account)),
            seized_is_shares=True,
        )

    def usd_by(self, ether: Usd, wrapped: str) -> Usd:
        """Dollars of tokens and shares, with those of ether from elsewhere."""
        return lambda asset, at: self.usd(asset, at) * ether(wrapped, at) * WAD


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


class PricedCompoundV2(Priced, CompoundV2):
    """Debt in a token with eight decimals, collateral in one with six."""

    ether_decimals, dollar_decimals = 6, 8
    deposit_raw = 10 * 10**6
    loan_raw, repaid_raw = 15_000 * 10**8, 5_000 * 10**8


class PricedVai(Priced, VenusVai):
    """Debt in VAI."""

    def usd(self, asset: str, at: int) -> Fraction:
        """VAI is a dollar, whatever it trades at.

        VenusProtocol/venus-protocol:contracts/Lens/ComptrollerLens.sol"""
        return Fraction(1, WAD) if asset == VAI else super().usd(asset, at)
