"""Makes the stored values of liquidations equal to what the stored rows and prices say.

Set-based and in parts of bounded size, each a transaction of its own. What was valued before is
compared with what would be written now and only the difference is; so a pass may be run again at
any time, and a price that came, changed or went is all that moves anything.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from psycopg import sql

from indexer.store import database, lending_values, perp_values, staged
from indexer.store.database import Connection
from indexer.store.lending_values import Terms
from indexer.store.staged import Scope

ROWS_AT_ONCE = 40_000  # their temporary rows, 20 MB, fit in `database.TEMP_BUFFERS`


WEEK = timedelta(weeks=1)  # since 1970: even ones and odd ones are locked apart
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class _Kind(NamedTuple):
    table: str
    stage: Callable[[Connection, Scope, Terms], int]


class _Part(NamedTuple):
    """A venue between two times; `half` is 0 within one even week, 1 within an odd one, else
    None."""

    kind: _Kind
    terms: Terms
    venue: str
    low: datetime
    high: datetime | str
    half: int | None


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
    return _pass(connection, _parts(connection, terms or {}, venues, since, until))


def value_all(
    connection: Connection, *, terms: Mapping[str, Terms], venues: Sequence[str]
) -> Counter[str]:
    """Value everything of some venues as `value` does, on two connections at once: that of even
    weeks, and that of odd ones. `connection` must be outside of a transaction."""
    parts = list(_parts(connection, terms, venues, None, None))
    even, odd = ([part for part in parts if part.half == half] for half in (0, 1))
    if not (even and odd):
        return _pass(connection, parts)
    other = database.connect(database.conninfo_of(connection))
    with closing(other), ThreadPoolExecutor(1) as beside:
        found = beside.submit(_pass, other, odd)
        try:
            counts = _pass(connection, even)
        except BaseException:
            other.cancel_safe()
            raise
        counts += found.result()
    return counts + _pass(connection, (part for part in parts if part.half is None))


def _pass(connection: Connection, parts: Iterable[_Part]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for part in parts:
        with connection.transaction():
            counts += _value(connection, part)
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


def _value(connection: Connection, part: _Part) -> Counter[str]:
    scope = {"venue": part.venue, "low": part.low, "high": part.high}
    staged.make_room(connection)
    # A statement of its own: what comes after it sees all that those before us have changed.
    if part.half is None:
        connection.execute("SELECT ledger.lock_values(%(venue)s, true)", scope)
    else:
        connection.execute(
            "SELECT ledger.lock_half_of_values(%s, %s, true)", (part.venue, part.half)
        )
    counts = Counter(liquidations=part.kind.stage(connection, scope, part.terms))
    for table in staged.TABLES:
        counts += staged.settle(connection, table, scope)
    if counts["written"] or counts["removed"]:
        connection.execute(_CHANGED.format(table=sql.Identifier("ledger", part.kind.table)), scope)
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
    terms: Mapping[str, Terms],
    venues: Sequence[str] | None,
    since: datetime | None,
    until: datetime | None,
) -> Iterator[_Part]:
    """All there is to value; `terms` are by protocol."""
    for kind in _KINDS:
        for venue in _venues(connection, kind.table, venues, since, until):
            of_protocol = terms.get(venue.partition(".")[0], Terms())
            for low, high in _times(connection, kind.table, venue, since, until):
                yield _Part(kind, of_protocol, venue, low, high, _half(low, high))


def _times(
    connection: Connection,
    table: str,
    venue: str,
    since: datetime | None,
    until: datetime | None,
) -> Iterator[tuple[datetime, datetime | str]]:
    """Half-open times with at most about ROWS_AT_ONCE liquidations each, from the first one on; a
    block is never cut, and none begins in a week and ends within a later one."""
    scope = {"venue": venue, "low": since or "-infinity", "high": until or "infinity"}
    name = sql.Identifier("ledger", table)
    row: Any = connection.execute(_FIRST.format(table=name), scope).fetchone()
    low = row[0]
    while low is not None:
        row = connection.execute(
            _FURTHER.format(table=name), {**scope, "low": low, "rows": ROWS_AT_ONCE}
        ).fetchone()
        if row is None:
            yield low, scope["high"]
            return
        week = row[0] - (row[0] - EPOCH) % WEEK
        high = week if low < week else row[0]
        yield low, high
        low = high


_FIRST = sql.SQL(
    "SELECT min(block_at) FROM {table} WHERE venue = %(venue)s"
    " AND block_at >= %(low)s::timestamptz AND block_at < %(high)s::timestamptz"
)
_FURTHER = sql.SQL(
    "SELECT block_at FROM {table} WHERE venue = %(venue)s"
    " AND block_at > %(low)s::timestamptz AND block_at < %(high)s::timestamptz"
    " ORDER BY block_at OFFSET %(rows)s LIMIT 1"
)


def _half(low: datetime, high: datetime | str) -> int | None:
    if isinstance(high, str) or high - low > WEEK:
        return None
    week, last = ((at - EPOCH) // WEEK for at in (low, high - timedelta.resolution))
    return week % 2 if week == last else None
