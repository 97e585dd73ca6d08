"""Makes the stored values of liquidations equal to what the stored rows and prices say.

Set-based and in parts of bounded size, each a transaction of its own. What was valued before is
compared with what would be written now and only the difference is; so a pass may be run again at
any time, and a price that came, changed or went is all that moves anything.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from psycopg import sql

from indexer.store import lending_values, perp_values, staged
from indexer.store.database import Connection
from indexer.store.lending_values import Terms
from indexer.store.staged import Scope

ROWS_AT_ONCE = 40_000  # their temporary rows, 20 MB, fit in `database.TEMP_BUFFERS`


class _Kind(NamedTuple):
    table: str
    stage: Callable[[Connection, Scope, Terms], int]


_KINDS = (
    _Kind("lending_liquidation", lending_values.stage),
    _Kind("liquidation", perp_values.stage),
)


def value(
    connection: Connection,
    *,
    terms: Mapping[str, Terms] | None = None,
    venues: Sequence[str] | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Counter[str]:
    """Value what was liquidated from `since` to before `until`, with `terms` by protocol.

    Counts `liquidations` that were looked at; rows `written` and `removed` for them; and the rows
    of each table that stand then: `valuation`, `unvalued`, `suspect`. Where one venue is valued
    twice at once, the second waits for the first, part by part."""
    counts: Counter[str] = Counter()
    for kind in _KINDS:
        for venue in _venues(connection, kind.table, venues, since, until):
            of_protocol = (terms or {}).get(venue.partition(".")[0], Terms())
            for low, high in _parts(connection, kind.table, venue, since, until):
                scope = {"venue": venue, "low": low, "high": high}
                with connection.transaction():
                    counts += _value(connection, kind, scope, of_protocol)
    return counts


def hurry(connection: Connection, seconds: float) -> None:
    """From now on no statement of this connection takes longer: it fails instead."""
    connection.execute("SELECT set_config('statement_timeout', %s, false)", (f"{seconds:.3f}s",))


def first_at(connection: Connection, chain: str, block_number: int) -> datetime | None:
    """The time of the first block of a chain at or above a height that is stored; None where there
    is none. Liquidations from that height on are of this time or after."""
    row: Any = connection.execute(
        "SELECT block_at FROM ledger.block WHERE chain = %s AND block_number >= %s"
        " ORDER BY block_number LIMIT 1",
        (chain, block_number),
    ).fetchone()
    return None if row is None else row[0]


def _value(connection: Connection, kind: _Kind, scope: Scope, terms: Terms) -> Counter[str]:
    staged.make_room(connection)
    # A statement of its own: what comes after it sees all that those before us have changed.
    connection.execute("SELECT ledger.lock_values(%(venue)s, true)", scope)
    counts = Counter(liquidations=kind.stage(connection, scope, terms))
    for table in staged.TABLES:
        counts += staged.settle(connection, table, scope)
    if counts["written"] or counts["removed"]:
        connection.execute(_CHANGED.format(table=sql.Identifier("ledger", kind.table)), scope)
    return counts


# Sums of these days do not hold any more, and rules have to look at these accounts again.
_CHANGED = sql.SQL(
    """
    WITH times AS (
        SELECT min(block_at) AS low, max(block_at) AS high FROM {table} l
        WHERE l.venue = %(venue)s
          AND l.block_at >= %(low)s::timestamptz AND l.block_at < %(high)s::timestamptz
    ), noted AS (
        INSERT INTO ledger.changed_times
        SELECT %(venue)s, tstzrange(low, high, '[]') FROM times WHERE low IS NOT NULL
    )
    SELECT ledger.forget_days(low, high) FROM times
    """
)


def _venues(
    connection: Connection,
    table: str,
    venues: Sequence[str] | None,
    since: datetime | None,
    until: datetime | None,
) -> list[str]:
    """The venues with liquidations of a kind in some time."""
    name = sql.Identifier("ledger", table)
    if venues is None:
        venues = [str(venue) for (venue,) in connection.execute(_DISTINCT.format(table=name))]
    rows = connection.execute(
        sql.SQL(
            """
            SELECT venue FROM unnest(%(venues)s::text[]) AS venue
            WHERE EXISTS (
                SELECT FROM {table} l WHERE l.venue = venue.venue
                  AND l.block_at >= %(low)s::timestamptz AND l.block_at < %(high)s::timestamptz
            )
            ORDER BY 1
            """
        ).format(table=name),
        {"venues": list(venues), "low": since or "-infinity", "high": until or "infinity"},
    )
    return [str(venue) for (venue,) in rows]


# One look at the index for each venue instead of one at each row.
_DISTINCT = sql.SQL(
    """
    WITH RECURSIVE found AS (
        SELECT min(venue) AS venue FROM {table}
        UNION ALL
        SELECT (SELECT min(venue) FROM {table} WHERE venue > found.venue)
        FROM found WHERE found.venue IS NOT NULL
    )
    SELECT venue FROM found WHERE venue IS NOT NULL
    """
)


def _parts(
    connection: Connection,
    table: str,
    venue: str,
    since: datetime | None,
    until: datetime | None,
) -> Iterator[tuple[datetime | str, datetime | str]]:
    """Half-open times with about ROWS_AT_ONCE liquidations each; a block is never cut."""
    low, end = since or "-infinity", until or "infinity"
    query = sql.SQL(
        """
        SELECT block_at FROM {table}
        WHERE venue = %s AND block_at > %s::timestamptz AND block_at < %s::timestamptz
        ORDER BY block_at OFFSET %s LIMIT 1
        """
    ).format(table=sql.Identifier("ledger", table))
    while True:
        row: Any = connection.execute(query, (venue, low, end, ROWS_AT_ONCE)).fetchone()
        yield low, end if row is None else row[0]
        if row is None:
            return
        low = row[0]
