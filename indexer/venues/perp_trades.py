"""Trades of perpetual exchanges, by the data of their feeds: whose liquidations they are, where
that is told, and what they lack, where it is not."""

import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal, localcontext
from hashlib import sha256
from typing import Any, NamedTuple

import msgspec

from indexer.hyperliquid_format import utc_of_ms
from indexer.model import EXACT, AnonymousLiquidation, Liquidation, RawEvent, Side, Undecoded
from indexer.perp_feeds import Feed, Kind, Parties

DECODER_VERSION = 1

_NUMBER = re.compile(r"-?[0-9]{1,30}(\.[0-9]{1,30})?")
_FIRST_MS, _LAST_MS = 10**12, 10**13  # 2001 and 2286: what is less is in seconds

Row = Liquidation | AnonymousLiquidation | Undecoded


class Heard(NamedTuple):
    """A trade to the byte, who told it, as which, and when at the latest it was."""

    body: bytes
    source: str
    line: int
    heard_at: datetime


class Broken(ValueError):
    """What of a trade is not as its feed has it."""


def decode(feed: Feed, heard: Heard, markets: Mapping[str, str]) -> tuple[RawEvent, Row] | None:
    """The row of a trade; None of an ordinary one. `markets` are names of markets by their ids.

    What is not as it should be is undecoded, with what is wrong."""
    said = _object(heard.body)
    word = said.get(feed.fields.kind)
    if isinstance(word, str) and word in feed.ordinary:
        return None
    raw = _raw(feed, said, heard)
    try:
        kind = feed.kinds.get(word) if isinstance(word, str) else None
        if kind is None:
            raise Broken(f"{feed.fields.kind} {word!r}: not known to be a liquidation or none")
        with localcontext(EXACT):
            return raw, _row(feed, kind, said, raw, markets)
    except Broken as why:
        return raw, Undecoded(
            feed.venue, raw.event_key, raw.block_number, raw.block_at, str(why)[:200],
            DECODER_VERSION,
        )  # fmt: skip


def _object(body: bytes) -> dict[str, Any]:
    try:
        said = msgspec.json.decode(body)
    except msgspec.MsgspecError:
        return {}
    return said if isinstance(said, dict) else {}


def _raw(feed: Feed, said: Mapping[str, Any], heard: Heard) -> RawEvent:
    parts = [str(said.get(name, "")) for name in feed.fields.key]
    if feed.fields.id is None or "" in parts:
        parts.append(sha256(heard.body).hexdigest()[:32])
    try:
        at = _time(said, feed.fields.at_ms)
    except Broken:
        at = heard.heard_at
    try:
        height = _whole(said, feed.parties.height) if feed.parties else None
    except Broken:
        height = None
    text = heard.body.decode("utf-8", "backslashreplace")
    return RawEvent(feed.venue, "/".join(parts), height, at, text, heard.source, heard.line)


def _row(
    feed: Feed, kind: Kind, said: Mapping[str, Any], raw: RawEvent, markets: Mapping[str, str]
) -> Liquidation | AnonymousLiquidation:
    fields = feed.fields
    _time(said, fields.at_ms)
    size, price = _number(said, fields.size), _number(said, fields.price)
    if size <= 0 or price <= 0:
        raise Broken(f"{size} at {price}")
    number = _id(said, fields.market)
    market = markets.get(number, number)
    trade_id = _id(said, fields.id) if fields.id else None
    if feed.parties and kind.is_of_taker and kind.method:
        return _of_taker(feed, feed.parties, kind, said, raw, market, size, price, trade_id)
    side = _closed(said, fields.closing_side) if fields.closing_side else None
    lacks = ("account", *(("method",) if kind.method is None else ()),
             *(("side",) if side is None else ()))  # fmt: skip
    return AnonymousLiquidation(
        venue=feed.venue,
        event_key=raw.event_key,
        block_number=raw.block_number,
        block_at=raw.block_at,
        tx_hash=_hash(feed, said),
        method=kind.method,
        market=market,
        quote=feed.quote,
        side=side,
        size=size,
        price=price,
        notional=size * price,
        trade_id=trade_id,
        lacks=lacks,
        completeness=feed.completeness,
        decoder_version=DECODER_VERSION,
    )


def _of_taker(
    feed: Feed,
    parties: Parties,
    kind: Kind,
    said: Mapping[str, Any],
    raw: RawEvent,
    market: str,
    size: Decimal,
    price: Decimal,
    trade_id: str | None,
) -> Liquidation:
    """The row of a feed that names accounts, of a trade whose taker was liquidated."""
    assert kind.method is not None
    maker_is_ask = said.get(parties.maker_is_ask)
    if not isinstance(maker_is_ask, bool):
        raise Broken(f"{parties.maker_is_ask} {maker_is_ask!r}")
    ask, bid = _id(said, parties.ask_account), _id(said, parties.bid_account)
    account, maker = (bid, ask) if maker_is_ask else (ask, bid)
    side: Side = "short" if maker_is_ask else "long"  # who closes a short buys
    before = _number(said, parties.taker_position) if parties.taker_position in said else None
    after = None if before is None else before + (size if side == "short" else -size)
    if before is not None and after is not None and not _shrinks(side, before, after):
        raise Broken(f"a {side} liquidation of {size} from a position of {before}")
    return Liquidation(
        venue=feed.venue,
        event_key=raw.event_key,
        account=account,
        block_number=raw.block_number,
        block_at=raw.block_at,
        tx_hash=_hash(feed, said),
        method=kind.method,
        market=market,
        dex="",
        quote=feed.quote,
        side=side,
        size=size,
        price=price,
        notional=size * price,
        mark_price=None,
        notional_mark=None,
        position_before=before,
        position_after=after,
        is_full_close=None if after is None else after == 0,
        fee=None,  # of `taker_fee` the unit is nowhere in the exchange's own words
        fee_asset=None,
        realised_pnl=None,
        margin_mode=None,
        order_id=_id(said, parties.bid_order if maker_is_ask else parties.ask_order),
        trade_id=trade_id,
        counterparty=maker,
        counterparty_kind="maker",
        liquidator=None,
        account_is_protocol_vault=False,
        dir_liquidated=None,
        dir_counterparty=None,
        legs_seen="both",
        decoder_version=DECODER_VERSION,
    )


def _shrinks(side: Side, before: Decimal, after: Decimal) -> bool:
    return before > after >= 0 if side == "long" else before < after <= 0


def _closed(said: Mapping[str, Any], name: str) -> Side:
    match said.get(name):
        case "SELL":
            return "long"
        case "BUY":
            return "short"
        case other:
            raise Broken(f"{name} {other!r}")


def _time(said: Mapping[str, Any], name: str) -> datetime:
    value = _whole(said, name)
    if not _FIRST_MS <= value < _LAST_MS:
        raise Broken(f"{name} {value} is no time in milliseconds")
    return utc_of_ms(value)


def _whole(said: Mapping[str, Any], name: str) -> int:
    value = said.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise Broken(f"{name} {value!r:.50} is no number")
    return value


def _id(said: Mapping[str, Any], name: str) -> str:
    """A name or a number, as text."""
    value = said.get(name)
    if isinstance(value, str) and value:
        return value
    return str(_whole(said, name))


def _number(said: Mapping[str, Any], name: str) -> Decimal:
    """Amounts are published as text: a JSON number would be somebody's float."""
    value = said.get(name)
    if not isinstance(value, str) or _NUMBER.fullmatch(value) is None:
        raise Broken(f"{name} {value!r:.50} is no amount")
    return Decimal(value)


def _hash(feed: Feed, said: Mapping[str, Any]) -> str | None:
    value = said.get(feed.parties.tx_hash) if feed.parties else None
    return value.lower() if isinstance(value, str) and value else None
