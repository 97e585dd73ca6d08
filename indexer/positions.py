"""Open positions of an account as a venue states them, checked. Pure.

Perpetuals come from Hyperliquid's `clearinghouseState`, loans from `getUserAccountData`, which Aave
and its forks have. What a venue does not state is None.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Context, Decimal
from typing import Literal, NamedTuple

import msgspec

from indexer.abi_calls import address_of, call, is_silent, uint_of
from indexer.evm_model import USD, BlockRef, Dialogue
from indexer.hyperliquid_format import utc_of_ms
from indexer.model import EXACT, Side
from indexer.oracles import followed, power_of_ten, scaled
from indexer.venues import hyperliquid
from indexer.venues.evm.aave_v2 import DOLLARS, ETHER, ETHER_DECIMALS, UNIT_GETTERS

_RATIO = Context(prec=50)
_PLACES = Decimal("1e-12")


class Position(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A position or a loan. Money is in the quote token of its account, `size` in units of the
    market; `value` is size times mark price, of a loan its collateral. `leverage` is what the
    account has set."""

    market: str
    side: Side | None = None
    size: Decimal | None = None
    entry_price: Decimal | None = None
    mark_price: Decimal | None = None
    liquidation_price: Decimal | None = None
    value: Decimal | None = None
    unrealised: Decimal | None = None
    leverage: Decimal | None = None
    margin_mode: Literal["cross", "isolated"] | None = None
    margin_used: Decimal | None = None
    debt: Decimal | None = None
    health_factor: Decimal | None = None
    liquidation_threshold: Decimal | None = None

    @property
    def distance(self) -> Decimal | None:
        """The share of the mark price, or of a loan's collateral, that may be lost until it is
        liquidated, to twelve places; 0 or less: liquidation is due."""
        if self.health_factor:
            lost = _ratio(self.health_factor - 1, self.health_factor)
        elif self.mark_price and self.liquidation_price is not None:
            up = _ratio(self.liquidation_price - self.mark_price, self.mark_price)
            lost = up if self.side == "short" else -up
        else:
            return None
        return lost.quantize(_PLACES, context=_RATIO)


class AccountState(msgspec.Struct, frozen=True, kw_only=True):
    """All that an account holds on one dex, or in one pool, at one moment. `quote` is the token
    that money is in, `usd` for dollars that no token stands for."""

    venue: str
    account: str
    dex: str
    observed_at: datetime
    block_number: int | None = None
    quote: str | None
    equity: Decimal | None
    margin_used: Decimal | None = None
    maintenance_margin: Decimal | None = None
    withdrawable: Decimal | None = None
    positions: tuple[Position, ...]


def _ratio(part: Decimal, whole: Decimal) -> Decimal:
    return _RATIO.divide(part, whole)


# -- perpetuals


class Dex(NamedTuple):
    """A perp dex, the main one without a name, and the token that it settles in, where known."""

    name: str
    quote: str | None


class _PerpDex(msgspec.Struct):
    name: str


class _Token(msgspec.Struct):
    name: str
    index: int


class _SpotMeta(msgspec.Struct):
    tokens: list[_Token]


class _Asset(msgspec.Struct):
    name: str


class _Meta(msgspec.Struct, rename="camel"):
    universe: list[_Asset]
    collateral_token: int


class _Leverage(msgspec.Struct):
    type: Literal["cross", "isolated"]
    value: Decimal


class _Held(msgspec.Struct, rename="camel"):
    coin: str
    szi: Decimal
    entry_px: Decimal | None
    position_value: Decimal
    unrealized_pnl: Decimal
    liquidation_px: Decimal | None
    margin_used: Decimal
    leverage: _Leverage


class _AssetPosition(msgspec.Struct):
    position: _Held


class _Margin(msgspec.Struct, rename="camel"):
    account_value: Decimal
    total_margin_used: Decimal


class _Clearinghouse(msgspec.Struct, rename="camel"):
    asset_positions: list[_AssetPosition]
    margin_summary: _Margin
    cross_maintenance_margin_used: Decimal
    withdrawable: Decimal
    time: int


_DEXES = msgspec.json.Decoder(list[_PerpDex | None])
_METAS = msgspec.json.Decoder(list[_Meta])
_SPOT = msgspec.json.Decoder(_SpotMeta)
_STATE = msgspec.json.Decoder(_Clearinghouse)


def dex_names(perp_dexs: bytes) -> list[str]:
    """All perp dexes, the main one first, without a name. This, `collateral`, `tokens` and
    `account_state` raise MsgspecError or ValueError for what is no such answer.

    https://hyperliquid.gitbook.io/hyperliquid-docs/for-developers/api/info-endpoint/perpetuals"""
    listed = _DEXES.decode(perp_dexs)
    if not listed or listed[0] is not None:
        raise ValueError("the first of the perp dexes is not the main one")
    return ["", *(dex.name for dex in listed if dex)]


def collateral(all_perp_metas: bytes) -> dict[str, int]:
    """The number of the token that each dex settles in; a dex is that of the coins it lists, so one
    that lists none has none here."""
    return {
        perp.dex: meta.collateral_token
        for meta in _METAS.decode(all_perp_metas)
        for asset in meta.universe[:1]
        if (perp := hyperliquid.market_of(asset.name))
    }


def tokens(spot_meta: bytes) -> dict[int, str]:
    """The names of the exchange's tokens."""
    return {token.index: token.name for token in _SPOT.decode(spot_meta).tokens}


def account_state(body: bytes, account: str, dex: Dex) -> AccountState:
    """What a `clearinghouseState` says; a number or a coin that cannot be is an error."""
    said = _STATE.decode(body)
    return AccountState(
        venue=hyperliquid.SPEC.name,
        account=account,
        dex=dex.name,
        observed_at=utc_of_ms(said.time),
        quote=dex.quote,
        equity=_finite(said.margin_summary.account_value),
        margin_used=_finite(said.margin_summary.total_margin_used),
        maintenance_margin=_finite(said.cross_maintenance_margin_used),
        withdrawable=_finite(said.withdrawable),
        positions=tuple(_positions(said, dex)),
    )


def _positions(said: _Clearinghouse, dex: Dex) -> Iterator[Position]:
    coins: set[str] = set()
    for held in (one.position for one in said.asset_positions):
        perp = hyperliquid.market_of(held.coin)
        if perp is None or perp.dex != dex.name:
            raise ValueError(f"{held.coin!r} is no perpetual of the dex {dex.name!r}")
        if held.coin in coins:
            raise ValueError(f"{held.coin} is there twice")
        coins.add(held.coin)
        if _finite(held.szi):
            yield _position(held)


def _position(held: _Held) -> Position:
    """The mark price is the stated value over the size: of the same moment as all else here, and
    exact, since prices have at most as many places as size leaves of six."""
    size = held.szi.copy_abs()
    if _finite(held.position_value) < 0:
        raise ValueError(f"{held.coin} has a value below 0")
    return Position(
        market=held.coin,
        side="long" if held.szi > 0 else "short",
        size=size,
        entry_price=_known(held.entry_px),
        mark_price=_ratio(held.position_value, size),
        liquidation_price=_known(held.liquidation_px),
        value=held.position_value,
        unrealised=_finite(held.unrealized_pnl),
        leverage=_finite(held.leverage.value),
        margin_mode=held.leverage.type,
        margin_used=_finite(held.margin_used),
    )


def _known(number: Decimal | None) -> Decimal | None:
    return None if number is None else _finite(number)


def _finite(number: Decimal) -> Decimal:
    """JSON text may say NaN, Infinity or 1e999999; a database would keep them."""
    if not number.is_finite() or abs(number.adjusted()) > 40:
        raise ValueError(f"{number} is no amount")
    return number


# -- loans

# By protocol, how its pool names the provider that names the oracle.
# aave/protocol-v2:contracts/interfaces/ILendingPool.sol,
# aave-dao/aave-v3-origin:src/contracts/interfaces/IPool.sol
LENDERS = {
    "aave_v2": "getAddressesProvider()",
    "aave_v3": "ADDRESSES_PROVIDER()",
    "agave": "getAddressesProvider()",
    "radiant": "getAddressesProvider()",
}
_WORDS = 6
_HEALTH_PLACES = 18
_SHARE_PLACES = 4  # hundredths of a percent


class Unit(NamedTuple):
    """What a pool counts in: its 10**`places` are one whole `quote`, a token or `usd`."""

    quote: str
    places: int


def unit_of(chain: str, pool: str, provider: str) -> Dialogue[Unit | None]:
    """The unit as the pool's oracle states it; an older one counts in ether and only names that.
    None where it is neither.

    aave-dao/aave-v3-origin:src/contracts/interfaces/IPriceOracleGetter.sol"""
    way = yield from followed(pool, provider, "getPriceOracle()")
    if not isinstance(way, tuple):
        return None
    currency, unit, ether = yield [call(way[-1], getter) for getter in UNIT_GETTERS]
    if is_silent(currency):
        known = ETHER.get(chain)
        return Unit(known, ETHER_DECIMALS) if known and address_of(ether) == known else None
    quote, places = address_of(currency), power_of_ten(uint_of(unit))
    if quote is None or places is None:
        return None
    return Unit(USD if quote in DOLLARS else quote, places)


def loan_of(
    venue: str, pool: str, account: str, unit: Unit | None, block: BlockRef
) -> Dialogue[AccountState | None]:
    """An account in a pool at the end of a block; None where the pool does not answer. Amounts are
    None where the unit is unknown. What an account has beside no debt is no position.

    aave-dao/aave-v3-origin:src/contracts/interfaces/IPool.sol, getUserAccountData; v2 has the same
    six words."""
    (answer,) = yield [call(pool, "getUserAccountData(address)", account)]
    words = [uint_of(answer, at, of=_WORDS) for at in range(_WORDS)]
    if any(word is None for word in words):
        return None
    collateral, debt, _, threshold, _, health = (word or 0 for word in words)
    loan = Position(
        market=pool,
        value=_amount(collateral, unit),
        debt=_amount(debt, unit),
        health_factor=scaled(health, _HEALTH_PLACES),
        liquidation_threshold=scaled(threshold, _SHARE_PLACES),
    )
    return AccountState(
        venue=venue,
        account=account,
        dex=pool,
        observed_at=datetime.fromtimestamp(block.time, UTC),
        block_number=block.number,
        quote=unit and unit.quote,
        equity=None if loan.value is None else EXACT.subtract(loan.value, loan.debt or Decimal(0)),
        positions=(loan,) if debt else (),
    )


def _amount(raw: int, unit: Unit | None) -> Decimal | None:
    return None if unit is None else scaled(raw, unit.places)
