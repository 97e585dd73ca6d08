"""What is stored of dYdX v4 and asked for again: events that wait, and fills to compare."""

from collections.abc import Iterator
from decimal import Decimal

from indexer.model import RawEvent
from indexer.store.database import Connection

Raws = tuple[RawEvent, RawEvent | None]
Fill = tuple[int, str, str, str, Decimal, Decimal]

_RAWS = """
    SELECT e.chain, e.event_key, e.block_number, e.block_at, e.body, source.uri, e.line,
           o.event_key, o.body
    FROM ledger.raw_event e
    JOIN ledger.source USING (source_id)
    LEFT JOIN ledger.raw_event o
        -- '0' is the character after '/': all keys below the event's, by the primary key
        ON o.chain = e.chain AND o.event_key > e.event_key || '/' COLLATE "C"
       AND o.event_key < e.event_key || '0' COLLATE "C"
"""


def undecoded(connection: Connection, venue: str) -> list[Raws]:
    """The events that wait with a reason, each with the operation that proposed it."""
    rows = connection.execute(
        _RAWS + "JOIN ledger.undecoded u ON (u.venue, u.event_key) = (e.chain, e.event_key)"
        " WHERE e.chain = %s ORDER BY e.event_key",
        (venue,),
    )
    return list(map(_raws, rows))


def settlements(connection: Connection, chain: str, low: int, high: int) -> list[Raws]:
    """The final settlements in blocks `low` up to, not including, `high`."""
    rows = connection.execute(
        _RAWS + "WHERE e.chain = %s AND e.block_number >= %s AND e.block_number < %s"
        " AND o.event_key LIKE '%%/final_settlement'",
        (chain, low, high),
    )
    return list(map(_raws, rows))


def _raws(row: tuple[object, ...]) -> Raws:
    *said, key, body = row
    raw = RawEvent(*said)  # type: ignore[arg-type]
    if key is None:
        return raw, None
    return raw, RawEvent(
        raw.chain, str(key), raw.block_number, raw.block_at, str(body), raw.source, raw.line
    )


def fills(connection: Connection, venue: str, low: int, high: int) -> Iterator[Fill]:
    """Height, market, method, side, size and notional of the rows in some blocks."""
    yield from connection.execute(
        "SELECT block_number, market, method, side, size, notional FROM ledger.liquidation"
        " WHERE venue = %s AND block_number >= %s AND block_number < %s"
        " ORDER BY block_number, event_key",
        (venue, low, high),
    )
