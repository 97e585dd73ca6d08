"""The coins, and how the node prints their numbers."""

from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal


@dataclass(frozen=True)
class Coin:
    """`price_decimals` keeps prices at five significant digits, as the exchange does."""

    name: str
    price: Decimal
    price_decimals: int
    size_decimals: int
    quote: str = "USDC"
    base: str | None = None  # fee token of a spot buyer
    weight: int = 1  # how often the background trades it; 0: it does not exist but in stories

    @property
    def is_perp(self) -> bool:
        return self.base is None

    @property
    def dex(self) -> str:
        return self.name.split(":")[0] if ":" in self.name else ""

    @property
    def tick(self) -> Decimal:
        return Decimal(1).scaleb(-self.price_decimals)

    @property
    def lot(self) -> Decimal:
        return Decimal(1).scaleb(-self.size_decimals)

    def round_price(self, price: Decimal) -> Decimal:
        return price.quantize(self.tick, ROUND_HALF_EVEN)

    def round_size(self, size: Decimal) -> Decimal:
        return max(self.lot, size.quantize(self.lot, ROUND_HALF_EVEN))


def _coin(name: str, price: str, size_decimals: int, **more: object) -> Coin:
    digits = -Decimal(price).as_tuple().exponent
    return Coin(name, Decimal(price), digits, size_decimals, **more)


COINS = {
    coin.name: coin
    for coin in (
        _coin("BTC", "114321", 5, weight=9),
        _coin("ETH", "4215.9", 4, weight=7),
        _coin("SOL", "201.37", 2, weight=6),
        _coin("HYPE", "47.291", 2, weight=6),
        _coin("XRP", "2.6431", 0, weight=2),
        _coin("DOGE", "0.20484", 0, weight=2),
        _coin("AVAX", "20.175", 2, weight=2),
        _coin("kPEPE", "0.007124", 0, weight=2),
        _coin("WLFI", "0.15327", 0, weight=2),
        _coin("MAVIA", "0.10652", 1, weight=1),
        _coin("xyz:TSLA", "447.31", 3, weight=2),
        _coin("xyz:SILVER", "47.518", 2, weight=2),
        _coin("km:USTECH", "589.32", 3, quote="USDH", weight=1),
        _coin("cash:NVDA", "189.59", 3, quote="USDT0", weight=1),
        _coin("@107", "47.254", 2, base="HYPE", weight=3),
        _coin("@142", "114308", 5, base="UBTC", weight=1),
        _coin("PURR/USDC", "0.19321", 0, base="PURR", weight=1),
        _coin("#1890", "0.51234", 0, base="+1890", weight=1),
        # for stories that want many markets; nobody else trades in them
        *(_coin(f"BROAD{number:02}", f"{number}.125", 1, weight=0) for number in range(1, 33)),
    )
}
BROAD = tuple(name for name, coin in COINS.items() if not coin.weight)


def text(number: Decimal) -> str:
    """As the node prints it: no exponent, no trailing zeros, at least one fraction digit."""
    digits = format(number, "f")
    if "." in digits:
        digits = digits.rstrip("0")
    else:
        digits += "."
    if digits.endswith("."):
        digits += "0"
    return "0.0" if digits == "-0.0" else digits
