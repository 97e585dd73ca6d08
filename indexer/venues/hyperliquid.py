"""Hyperliquid perpetuals. A fill that carries a `liquidation` object was forced; both legs of the
trade carry it, and the leg of `liquidatedUser` is the liquidation.

The mark is the object, never the text of `dir`: nearly all liquidations carry an ordinary `dir`.
Facts about the data: public node README, recorded node files and recorded API answers.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal, localcontext
from functools import cache
from hashlib import sha256
from typing import Any, Literal, NamedTuple

import msgspec

from indexer.hyperliquid_format import NEEDLE, block_in_hash, utc_of_ms
from indexer.model import (
    EXACT,
    BlockLine,
    CounterpartyKind,
    Liquidation,
    Method,
    ProtocolVault,
    RawEvent,
    Side,
    Undecoded,
    Venue,
)

SPEC = Venue(
    name="hyperliquid",
    chain="hyperliquid",
    decoder_version=1,
    methodology=(
        "One row for each forced trade: the fill of the user named in `liquidatedUser`, mirrored "
        "from the other leg where only that one was published. Execution notional is `px` times "
        "`sz`, mark notional `markPx` times `sz`, both in the dex's quote token. A takeover by the "
        "exchange's vault is `backstop`; a trade whose other leg has `dir` Auto-Deleveraging is "
        "`adl_of_user` or, where the vault itself is closed, `adl_of_vault`."
    ),
)

HOUSEKEEPING_DIRS = frozenset({"Net Child Vaults", "Settlement", "Spot Dust Conversion"})
BORROW_METHODS: dict[str, Method] = {
    "Partial Borrow Liquidation": "borrow_partial",
    "Backstop Borrow Liquidation": "borrow_backstop",
}
ADL_DIR = "Auto-Deleveraging"
MAIN_QUOTE = "USDC"
PERP = re.compile(r"(?:(?P<dex>[a-z0-9]+):)?[A-Za-z0-9.\-]+")

# Positions come with binary noise in the last place (3135809.3999999999 for 3135809.4); the
# widest seen in 4,919 links of real fills is 1e-16 of the position.
NOISE = Decimal("1e-12")

_REGISTRY = (
    "tradingstrategy-ai/web3-ethereum-defi:eth_defi/hyperliquid/constants.py, read November 2026"
)


def _vault(account: str, name: str, evidence: str = "") -> ProtocolVault:
    return ProtocolVault(account, name, None, None, f"{_REGISTRY}{evidence}")


# The day of creation of none of them is published: open at both ends until a source dates one.
# Which liquidator is active rotates and is split by coin, so the list is whole, never one address.
PROTOCOL_VAULTS = (
    _vault("0xdfc24b077bc1425ad1dea75bcb6f8158e10df303", "HLP"),
    _vault("0x010461c14e146ac35fe42271bdc1134ee31c703a", "HLP Strategy A"),
    _vault("0x31ca8395cf837de08b24da3f660e77761dfb974b", "HLP Strategy B"),
    _vault("0x469f690213c467c39a23efacfd2816896009d7d8", "HLP Strategy X"),
    _vault(
        "0x2e3d94f0562703b25c83308a05046ddaf9a8dd14",
        "HLP Liquidator",
        "; takes over positions in fills of 2025-10-10 and of August 2026",
    ),
    _vault(
        "0xb0a55f13d22f66e6d495ac98113841b2326e9540",
        "HLP Liquidator 2",
        "; takes over positions in fills of 2025-07-27 to 2025-12-01",
    ),
    _vault("0x5e177e5e39c0f4e421f5865a6d8beed8d921cb70", "HLP Liquidator 3"),
    _vault("0x2ed5c4484ea3ff8b57d5f2fb152a40d9f2b68308", "HLP Liquidator 4"),
    _vault("0x63c621a33714ec48660e32f2374895c8026a3a00", "Liquidator (stand-alone vault)"),
)
_VAULTS = {vault.account: vault for vault in PROTOCOL_VAULTS}


class Mark(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """The `liquidation` object of a fill."""

    liquidated_user: str
    mark_px: Decimal
    method: str


class Fill(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """One execution as one user saw it; fields that came or went over the years are optional."""

    coin: str
    px: Decimal
    sz: Decimal
    side: Literal["A", "B"]
    time: int
    dir: str
    start_position: Decimal | None = None
    closed_pnl: Decimal | None = None
    hash: str | None = None
    oid: int | None = None
    crossed: bool | None = None
    fee: Decimal | None = None
    tid: int | None = None
    fee_token: str | None = None
    liquidation: Mark | None = None

    @property
    def is_forced(self) -> bool:
        """Whether the record says, by object or by text, that somebody was liquidated."""
        return (
            self.liquidation is not None
            or self.dir == ADL_DIR
            or self.dir in BORROW_METHODS
            or self.dir.startswith("Liquidated ")
        )


class Leg(msgspec.Struct, frozen=True, gc=False):
    """One side of a trade: whose fill it is, and the bytes it was read from."""

    user: str
    fill: Fill
    raw: RawEvent


_PAIR = msgspec.json.Decoder(tuple[str | None, Fill])
_PAIRS = msgspec.json.Decoder(list[tuple[str | None, Fill]])
EVENTS = msgspec.json.Decoder(list[msgspec.Raw])


def forced_legs(
    line: BlockLine, *, trust_needle: bool = True
) -> Iterator[Leg | tuple[RawEvent, Undecoded]]:
    """The fills of a block that carry a liquidation mark, and the other legs of their trades;
    what cannot be parsed is kept whole.

    With `trust_needle` only fills with the needle's letters are parsed, else every one.
    Raises MsgspecError when the block's events are no list.
    """
    bodies = [bytes(body) for body in EVENTS.decode(line.events)]
    legs = Counter[tuple[str, int | None]]()
    for body in bodies:
        if trust_needle and NEEDLE not in body:
            continue
        pair = _parse_pair(body)
        if isinstance(pair, str):
            if NEEDLE in body:
                yield unknown_event(body, line, pair)
        elif pair[1].is_forced:
            legs[pair[1].coin, pair[1].tid] += 1
            yield _leg(*pair, body, line)
    if 1 in legs.values():
        yield from _unmarked_legs(bodies, line, legs)


def _unmarked_legs(
    bodies: list[bytes], line: BlockLine, legs: Counter[tuple[str, int | None]]
) -> Iterator[Leg]:
    """Legs without a mark of trades of which one leg carries it, as some borrow liquidations."""
    for body in bodies:
        pair = _parse_pair(body)
        if isinstance(pair, str) or pair[1].is_forced or not legs[pair[1].coin, pair[1].tid]:
            continue
        leg = _leg(*pair, body, line)
        if isinstance(leg, Leg):
            yield leg


def unreadable(line: BlockLine) -> str:
    """What is wrong when the events of a block are no list; empty when they are."""
    try:
        EVENTS.decode(line.events)
    except msgspec.MsgspecError as error:
        return str(error)
    return ""


def is_needle_honest(line: BlockLine) -> bool:
    """Whether parsing every fill of a line without the needle also finds no mark in it."""
    return not any(fill.is_forced for _, fill in _PAIRS.decode(line.events))


def _parse_pair(body: bytes) -> tuple[str | None, Fill] | str:
    """Read one `[user, fill]` pair, or say why it is none."""
    try:
        user, fill = _PAIR.decode(body)
    except msgspec.MsgspecError as error:
        return f"unknown shape: {error}"
    return _out_of_range(fill) or (user, fill)


def _leg(
    user: str | None, fill: Fill, body: bytes, line: BlockLine
) -> Leg | tuple[RawEvent, Undecoded]:
    """Put a parsed fill in its place, if the record says enough for that."""
    number, at = line.block_number, line.block_at
    in_hash = block_in_hash(fill.hash)
    if fill.tid is None or user is None:
        key = f"{_height(number, fill)}/{fill.coin}/{digest_of(body)}"
    else:
        user = user.lower()
        key = f"{_trade_key(number, fill)}/{user}/{fill.side}"
    raw = raw_event(key, body, line)
    if user is None:
        return raw, undecoded_as(raw, "the record does not say whose fill it is")
    if fill.tid is None:
        return raw, undecoded_as(raw, "no trade id")
    if in_hash is not None and in_hash != number:
        return raw, undecoded_as(raw, f"the hash names block {in_hash}")
    if utc_of_ms(fill.time) != at.replace(microsecond=at.microsecond // 1000 * 1000):
        return raw, undecoded_as(raw, f"fill time {fill.time} is not the time of its block")
    return Leg(user, fill, raw)


def digest_of(body: bytes) -> str:
    """A name for an event that has none of its own."""
    return sha256(body).hexdigest()[:32]


def raw_event(key: str, body: bytes, line: BlockLine) -> RawEvent:
    """An event as it stands in a block, under its key."""
    text = body.decode("utf-8", "backslashreplace")
    return RawEvent(SPEC.chain, key, line.block_number, line.block_at, text, line.source, line.line)


def unknown_event(body: bytes, line: BlockLine, reason: str) -> tuple[RawEvent, Undecoded]:
    """An event that we cannot read, kept whole with the reason."""
    raw = raw_event(f"{line.block_number}/{digest_of(body)}", body, line)
    return raw, undecoded_as(raw, reason)


def _out_of_range(fill: Fill) -> str:
    """Numbers that no market has and no column should hold: NaN, infinities, 1e999."""
    mark = fill.liquidation.mark_px if fill.liquidation else None
    for number in (fill.px, fill.sz, fill.start_position, fill.closed_pnl, fill.fee, mark):
        if number is not None and (not number.is_finite() or abs(number.adjusted()) > 30):
            return f"number out of range: {number}"
    return "" if 0 <= fill.time < 10**14 else f"time out of range: {fill.time}"


def trade_key(leg: Leg) -> str:
    """The key of the trade a leg belongs to; all legs of a trade give the same."""
    return _trade_key(leg.raw.block_number, leg.fill)


def _trade_key(number: int | None, fill: Fill) -> str:
    return f"{_height(number, fill)}/{fill.coin}/{fill.tid}"


def _height(number: int | None, fill: Fill) -> str:
    # (block, coin, tid), or (time, coin, tid) where no height is known: hyperliquid docs, websocket
    return f"t{fill.time}" if number is None else str(number)


def timed_key(leg: Leg) -> str:
    """The key that a trade has where no height is known."""
    return _trade_key(None, leg.fill)


def decode(legs: Sequence[Leg]) -> Liquidation | Undecoded:
    """Make the one row of a trade from all its legs that are known, in any order."""
    with localcontext(EXACT):
        return _decode(sorted(legs, key=lambda leg: leg.raw.event_key))


def _decode(legs: Sequence[Leg]) -> Liquidation | Undecoded:
    first = legs[0]
    if len(legs) > 2:
        return undecoded_as(first.raw, f"{len(legs)} legs under one trade id", trade_key(first))
    if len(legs) == 2 and (reason := _disagreement(first.fill, legs[1].fill)):
        return undecoded_as(first.raw, f"the legs disagree: {reason}", trade_key(first))

    account, reason = _liquidated_user(legs)
    if account is None:
        return undecoded_as(first.raw, reason, trade_key(first))
    own = _own_leg(legs, account)
    other = next((leg for leg in legs if leg is not own), None)
    method, reason = _method(first.fill, own, other, account)
    if method is None:
        return undecoded_as(first.raw, reason, trade_key(first))
    side = _side(own, other)
    if reason := _contradiction(side, own, other, method):
        return undecoded_as(first.raw, reason, trade_key(first))
    return _row(first, own, other, account, method, side)


def _disagreement(a: Fill, b: Fill) -> str:
    """Name the first thing that two legs of one trade must share and do not."""
    if (a.liquidation is None) != (b.liquidation is None):
        return "only one has a liquidation object"
    for name in ("coin", "px", "sz", "time", "hash", "liquidation"):
        if getattr(a, name) != getattr(b, name):
            return f"{name} {getattr(a, name)} and {getattr(b, name)}"
    return f"both on side {a.side}" if a.side == b.side else ""


def _liquidated_user(legs: Sequence[Leg]) -> tuple[str | None, str]:
    mark = legs[0].fill.liquidation
    if mark is not None:
        return mark.liquidated_user.lower(), ""
    # Borrow liquidations may come without the object; then the one leg with the text is the
    # victim's. In a takeover both legs may carry it, so there one leg alone tells nothing.
    marked = [leg for leg in legs if leg.fill.dir in BORROW_METHODS]
    if len(marked) == 1 and (
        len(legs) == 2 or BORROW_METHODS[marked[0].fill.dir] == "borrow_partial"
    ):
        return marked[0].user, ""
    return None, f"dir {legs[0].fill.dir!r} without a liquidation object"


def _own_leg(legs: Sequence[Leg], account: str) -> Leg | None:
    own = [leg for leg in legs if leg.user == account]
    if len(own) == 2:
        # A self-trade: the liquidated order is the taker in the book, the maker in a takeover.
        mark = own[0].fill.liquidation
        takes = mark is None or mark.method == "market"
        return next((leg for leg in own if leg.fill.crossed is takes), own[0])
    return own[0] if own else None


def _method(
    fill: Fill, own: Leg | None, other: Leg | None, account: str
) -> tuple[Method | None, str]:
    dirs = [leg.fill.dir for leg in (own, other) if leg is not None]
    for text in dirs:
        if text in BORROW_METHODS:
            return BORROW_METHODS[text], ""
    if market_of(fill.coin) is None:
        return None, f"liquidation mark on {fill.coin}, which is no perpetual"
    for text in dirs:
        if text in HOUSEKEEPING_DIRS:
            return None, f"liquidation mark on housekeeping fill {text!r}"
    assert fill.liquidation is not None  # a perp leg without it has no liquidated user
    if fill.liquidation.method == "market":
        return "market", ""
    if fill.liquidation.method != "backstop":
        return None, f"unknown method {fill.liquidation.method!r}"
    if other is not None and other.fill.dir == ADL_DIR:
        is_vault = vault_at(account, other.raw.block_at) is not None
        return ("adl_of_vault" if is_vault else "adl_of_user"), ""
    return "backstop", ""


class Perp(NamedTuple):
    """A perpetual market. The main dex is '' and settles in USDC; a HIP-3 dex settles in a token
    of its own choice, which only the fee token of a fill tells: `quote` is None there."""

    dex: str
    quote: str | None


@cache
def market_of(coin: str) -> Perp | None:
    """The perpetual behind a coin; None for spot (`@107`, `PURR/USDC`) and outcomes (`#1890`)."""
    match = PERP.fullmatch(coin)
    if match is None:
        return None
    return Perp(match["dex"], None) if match["dex"] else Perp("", MAIN_QUOTE)


def vault_at(account: str | None, at: datetime) -> ProtocolVault | None:
    """The protocol vault behind an account on a day, if it is one."""
    vault = _VAULTS.get(account or "")
    if vault is None:
        return None
    starts_later = vault.valid_from is not None and at.date() < vault.valid_from
    ended = vault.valid_to is not None and at.date() > vault.valid_to
    return None if starts_later or ended else vault


def _side(own: Leg | None, other: Leg | None) -> Side:
    """On the liquidated user's leg A means a long was liquidated; on the other leg the reverse."""
    if own is not None:
        return "long" if own.fill.side == "A" else "short"
    assert other is not None
    return "short" if other.fill.side == "A" else "long"


def _contradiction(side: Side, own: Leg | None, other: Leg | None, method: Method) -> str:
    """Name what in the record speaks against the side that the rule gives."""
    for leg in (own, other):
        text = leg.fill.dir if leg is not None else ""
        if text.startswith("Liquidated ") and not text.lower().endswith(side):
            return f"dir {text!r} on the {side} side"
    if own is None or own.fill.start_position is None or method.startswith("borrow"):
        return ""
    start = own.fill.start_position
    if (side == "long" and start <= 0) or (side == "short" and start >= 0):
        return f"a {side} liquidation from a position of {start}"
    return ""


def _row(
    first: Leg, own: Leg | None, other: Leg | None, account: str, method: Method, side: Side
) -> Liquidation:
    fill, raw, mark = first.fill, first.raw, first.fill.liquidation
    dex, quote = market_of(fill.coin) or Perp("", None)
    before = own.fill.start_position if own else None
    after = _position_after(own.fill) if own else None
    counterparty = other.user if other else None
    kind = _counterparty_kind(method, counterparty, other, raw.block_at)
    dir_liquidated = own.fill.dir if own else None
    dir_counterparty = other.fill.dir if other else None
    return Liquidation(
        venue=SPEC.name,
        event_key=trade_key(first),
        account=account,
        block_number=raw.block_number,
        # a fill tells its time to the millisecond, a line of its block to the microsecond
        block_at=max(leg.raw.block_at for leg in (own, other) if leg is not None),
        tx_hash=fill.hash.lower() if fill.hash else None,
        method=method,
        market=fill.coin,
        dex=dex,
        quote=quote or _quote_token(own, other),
        side=side,
        size=fill.sz,
        price=fill.px,
        notional=fill.px * fill.sz,
        mark_price=mark.mark_px if mark else None,
        notional_mark=mark.mark_px * fill.sz if mark else None,
        position_before=before,
        position_after=after,
        is_full_close=None if after is None else after == 0,
        fee=own.fill.fee if own else None,
        fee_asset=own.fill.fee_token if own else None,
        realised_pnl=own.fill.closed_pnl if own else None,
        margin_mode=_margin_mode(dir_liquidated or dir_counterparty or ""),
        order_id=str(own.fill.oid) if own and own.fill.oid is not None else None,
        trade_id=str(fill.tid),
        counterparty=counterparty,
        counterparty_kind=kind,
        liquidator=counterparty if kind in ("protocol_vault", "liquidator") else None,
        account_is_protocol_vault=vault_at(account, raw.block_at) is not None,
        dir_liquidated=dir_liquidated,
        dir_counterparty=dir_counterparty,
        legs_seen="both" if own and other else "liquidated" if own else "counterparty",
        decoder_version=SPEC.decoder_version,
    )


def _position_after(fill: Fill) -> Decimal | None:
    if fill.start_position is None:
        return None
    after = fill.start_position + (fill.sz if fill.side == "B" else -fill.sz)
    return Decimal(0) if abs(after) <= NOISE * fill.sz else after


def _quote_token(own: Leg | None, other: Leg | None) -> str | None:
    """On HIP-3 perps every fee is in the dex's quote token; on spot only the seller's fee is."""
    legs = [leg for leg in (own, other) if leg is not None]
    if market_of(legs[0].fill.coin) is None:
        legs = [leg for leg in legs if leg.fill.side == "A"]
    return next((leg.fill.fee_token for leg in legs if leg.fill.fee_token), None)


def _margin_mode(text: str) -> Literal["cross", "isolated"] | None:
    if text.startswith("Liquidated Cross"):
        return "cross"
    return "isolated" if text.startswith("Liquidated Isolated") else None


def _counterparty_kind(
    method: Method, counterparty: str | None, other: Leg | None, at: datetime
) -> CounterpartyKind | None:
    if counterparty is None or other is None:
        return None
    if method in ("market", "borrow_partial"):
        return "maker"  # the book took it, whoever owns the order
    if other.fill.dir == ADL_DIR:
        return "adl_winner"
    return "protocol_vault" if vault_at(counterparty, at) else "liquidator"


def undecoded_as(raw: RawEvent, reason: str, key: str | None = None) -> Undecoded:
    """Say why an event, or the trade under `key`, is no row."""
    return Undecoded(
        SPEC.name, key or raw.event_key, raw.block_number, raw.block_at, reason,
        SPEC.decoder_version,
    )  # fmt: skip


def leg_again(raw: RawEvent) -> Leg | None:
    """The leg that a stored event was made from; None for one that was never a leg."""
    line = BlockLine(raw.block_number, raw.block_at, b"", True, raw.source, raw.line)
    body = raw.body.encode()
    pair = _parse_pair(body)
    leg = None if isinstance(pair, str) else _leg(*pair, body, line)
    return leg if isinstance(leg, Leg) else None


def is_same(a: str, b: str) -> bool:
    """Whether two publications say the same; the API leaves out keys that the files carry."""
    if a == b:
        return True
    try:
        return _agree(msgspec.json.decode(a), msgspec.json.decode(b))
    except msgspec.MsgspecError:
        return False


def _agree(a: Any, b: Any) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return all(_agree(a[key], b[key]) for key in a.keys() & b.keys())
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_agree, a, b))
    return bool(a == b)


def says_more(one: str, two: str) -> bool:
    """Whether a publication of a fill has a field that we read and another of it lacks."""
    a, b = _parse_pair(one.encode()), _parse_pair(two.encode())
    if isinstance(a, str) or isinstance(b, str):
        return isinstance(b, str)
    return any(
        getattr(a[1], name) is not None and getattr(b[1], name) is None
        for name in Fill.__struct_fields__
    )
