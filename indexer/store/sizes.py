"""How large episodes were under a definition, kept up: what rules of size look at.

`ledger.episode` follows from the rows of accounts alone. Where rows of an account changed, its
episodes are made again from that time on; what came and what went says which days look different.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache, reduce
from itertools import pairwise
from operator import or_
from typing import Any, NamedTuple

import msgspec

from indexer.errors import ConfigError
from indexer.methodology.definition import Definition
from indexer.model import EXACT
from indexer.store import prepared
from indexer.store.database import Connection

DEFINITION = "sizes/v1"
# Not the first and the last year of Python: in a session's own zone they might be out of them.
BEGINNING, END = datetime(2, 1, 1, tzinfo=UTC), datetime(9998, 12, 31, tzinfo=UTC)
_ROWS_AT_ONCE = 100_000  # of a window while all is made again: they fit into the memory of a sort


class Span(NamedTuple):
    """From the first to the last time that something is another of."""

    since: datetime
    until: datetime

    def __or__(self, other: "Span") -> "Span":
        return Span(min(self.since, other.since), max(self.until, other.until))


EVER = Span(BEGINNING, END)


class Refreshed(NamedTuple):
    """What became of episodes.

    `days` are those that an episode ended on which came or went, with what the largest of these was
    worth; on `fallen` ones all episodes together are worth less than before. The first episode that
    rows may have changed of began `since`, and the `largest` of all that were looked at again was
    worth so much."""

    days: Mapping[date, Decimal]
    fallen: Set[date]
    since: datetime
    largest: Decimal


class Sizing(NamedTuple):
    """A definition that says what an account suffered.

    `meaning` changes with what it means; `query` gives the episodes of rows of accounts within
    times, on `venues`, and `rows` the rows themselves."""

    definition: str
    meaning: str
    gap: timedelta
    query: str
    venues: list[str]
    rows: str


def sizing(connection: Connection, definition: str) -> Sizing:
    """What a definition means; ConfigError where it cannot say what an account suffered."""
    found: list[Any] = prepared.execute(connection, _DEFINED, (definition,))
    if not found:
        raise ConfigError(f"there is no definition {definition!r}: indexer definitions")
    [(body, *said)] = found
    problem = _problem(body)
    if problem is not None:
        raise ConfigError(f"sizes cannot be told under {definition}: {problem}")
    return Sizing(definition, *said)


_DEFINED = """
    SELECT body, hash || ' ' || md5(account_query || query), gap,
           ledger.episodes_query(account_query), ledger.venues_with_rows(), account_query
    FROM ledger.definition WHERE id = $1
"""
_BELOW_ZERO = {"margin_lost", "realised", "bonus", "loss"}


@cache
def _problem(body: bytes) -> str | None:
    d = msgspec.json.decode(body, type=Definition)
    if not d.is_of_accounts:
        return (
            "what it counts of an account depends on others, on labels, on what is final, or leaves"
            " rows out"
        )
    if {d.perp_value, d.lending_value} & _BELOW_ZERO:
        return "what it counts may be worth less than nothing"
    if "ledger_update" in d.methods:
        return "the exchange's ledger names no orders, and is not followed here"
    return None


def refresh(connection: Connection, sizing: Sizing, changed: Mapping[str, Span]) -> Refreshed:
    """Make the episodes of accounts again, within a transaction: all of those of which any row may
    be another, of others those that stand beside the times of any."""
    groups = [
        [one for one in changed if (changed[one] == EVER) is is_ever] for is_ever in (True, False)
    ]
    made = [
        _again(connection, sizing, reduce(or_, (changed[one] for one in group)), group)
        for group in groups
        if group
    ]
    gone = [one for part in made for one in part.gone]
    come = [one for part in made for one in part.come]
    return Refreshed(
        _largest_of_days(gone + come),
        _count_days(connection, gone, come),
        min((part.begun for part in made), default=END),
        max((one.worth for part in made for one in part.looked_at), default=Decimal(0)),
    )


class _Episode(NamedTuple):
    """A row of `ledger.episode`."""

    account: str
    venue: str
    dex: str
    instrument: str
    first_at: datetime
    last_at: datetime
    records: int
    unvalued: int
    usd: Decimal | None

    @property
    def worth(self) -> Decimal:
        return self.usd or Decimal(0)

    @property
    def day(self) -> date:
        return self.last_at.astimezone(UTC).date()


class _Made(NamedTuple):
    begun: datetime
    gone: Sequence[_Episode]
    come: Sequence[_Episode]
    looked_at: Sequence[_Episode]


def _again(connection: Connection, sizing: Sizing, span: Span, accounts: list[str]) -> _Made:
    """What is further away than the gap is an episode of its own, whatever became of the span: it
    stays, though rows are read from when the first of the others began, and to when the last ended,
    which may be in its middle."""
    near = Span(max(span.since - sizing.gap, BEGINNING), min(span.until + sizing.gap, END))
    old = set(_episodes(prepared.execute(connection, _STORED, (accounts, *near))))
    read = reduce(or_, (Span(one.first_at, one.last_at) for one in old), span)
    # a block as the fifth, which the query of accounts does not ask for
    end = read.until + timedelta(microseconds=1)
    values = (read.since, end, sizing.venues, accounts, 0, sizing.gap)
    made = _episodes(prepared.execute(connection, sizing.query, values))
    new = {one for one in made if one.last_at >= near.since and one.first_at <= near.until}
    gone, come = list(old - new), list(new - old)
    if gone:
        keys = [[one[column] for one in gone] for column in (0, 1, 2, 5)]
        connection.execute(_TAKE_AWAY, keys)
    if come:
        connection.execute(_ADD, [list(column) for column in zip(*come, strict=True)])
    return _Made(read.since, gone, come, list(old | new))


def _episodes(rows: Iterable[Any]) -> Iterator[_Episode]:
    return (_Episode(*row) for row in rows)


_STORED = """
    SELECT account, venue, dex, instrument, first_at, last_at, records, unvalued, usd
    FROM ledger.episode WHERE account = ANY ($1) AND last_at >= $2 AND first_at <= $3
"""
_TAKE_AWAY = """
    DELETE FROM ledger.episode old
    USING unnest(%s::text[], %s::text[], %s::text[], %s::timestamptz[])
        AS gone (account, venue, dex, last_at)
    WHERE (old.account, old.venue, old.dex, old.last_at)
        = (gone.account, gone.venue, gone.dex, gone.last_at)
"""
_ADD = """
    INSERT INTO ledger.episode
        (account, venue, dex, instrument, first_at, last_at, records, unvalued, usd)
    SELECT * FROM unnest(
        %s::text[], %s::text[], %s::text[], %s::text[], %s::timestamptz[], %s::timestamptz[],
        %s::bigint[], %s::bigint[], %s::numeric[])
"""


def _largest_of_days(changed: Iterable[_Episode]) -> dict[date, Decimal]:
    found = dict[date, Decimal]()
    for one in changed:
        found[one.day] = max(one.worth, found.get(one.day, Decimal(0)))
    return found


def _count_days(
    connection: Connection, gone: Iterable[_Episode], come: Iterable[_Episode]
) -> set[date]:
    """Count the changes, and give the days that are worth less together."""
    counts = defaultdict[tuple[str, date], list[Any]](lambda: [0, 0, Decimal(0)])
    for sign, episodes in ((-1, gone), (1, come)):
        for one in episodes:
            count = counts[one.instrument, one.day]
            count[0] += sign
            count[1] += sign if one.usd is not None else 0
            count[2] = EXACT.add(count[2], EXACT.multiply(one.worth, sign))
    if not counts:
        return set()
    rows = [(*key, *count) for key, count in sorted(counts.items())]
    instruments, days = zip(*counts, strict=True)
    connection.execute(_COUNT, [list(column) for column in zip(*rows, strict=True)])
    connection.execute(
        "DELETE FROM ledger.episode_day WHERE episodes = 0 AND day = ANY (%s)", ([*days],)
    )
    connection.execute(_FORGET, ([*instruments], [*days]))
    return {day for (_, day), (_, _, usd) in counts.items() if usd < 0}


_COUNT = """
    INSERT INTO ledger.episode_day (instrument, day, episodes, valued, usd)
    SELECT * FROM unnest(%s::text[], %s::date[], %s::bigint[], %s::bigint[], %s::numeric[])
    ON CONFLICT (instrument, day) DO UPDATE
    SET episodes = episode_day.episodes + excluded.episodes,
        valued = episode_day.valued + excluded.valued, usd = episode_day.usd + excluded.usd
"""
# Percentiles of the days after stood on this one.
_FORGET = """
    DELETE FROM ledger.trailing_size asked USING unnest(%s::text[], %s::date[])
        AS changed (instrument, day)
    WHERE asked.instrument = changed.instrument
      AND asked.day > changed.day AND asked.day <= changed.day + asked.days
"""


def days_of(connection: Connection, accounts: Sequence[str], since: datetime | None) -> set[date]:
    """The days on which episodes of accounts ended, and all that are not before `since`."""
    if not accounts and since is None:
        return set()
    found: Iterable[Any] = connection.execute(
        """
        SELECT (last_at AT TIME ZONE 'UTC')::date FROM ledger.episode
        WHERE account = ANY (%(accounts)s)
        UNION
        SELECT day FROM ledger.episode_day
        WHERE day >= (%(since)s::timestamptz AT TIME ZONE 'UTC')::date
        """,
        {"accounts": list(accounts), "since": since},
    )
    return {day for (day,) in found}


# -- all of them ---------------------------------------------------------------------------------


def make_all(connection: Connection, definition: str) -> Refreshed:
    """Make the episodes of all accounts, a window at a time; what touches the edge of one is put
    together with its other part. Who looks at sizes has to look at all: no change is named."""
    # not TRUNCATE: whoever reads an older state goes on reading it
    for statement in (
        "DELETE FROM ledger.episode",
        "DELETE FROM ledger.episode_day",
        "DELETE FROM ledger.trailing_size",
    ):
        connection.execute(statement)
    connection.execute(
        "CREATE TEMP TABLE part (LIKE ledger.episode, is_cut boolean) ON COMMIT DROP"
    )
    for low, high in pairwise(_edges(connection)):
        connection.execute(_PARTS, {"definition": definition, "low": low, "high": high})
    connection.execute("CALL ledger.unindex_episodes()")
    connection.execute("SET LOCAL work_mem = '256MB'")  # of the sort, and no longer
    connection.execute(_WHOLE, {"definition": definition})
    connection.execute("RESET work_mem")
    connection.execute("CALL ledger.index_episodes()")
    connection.execute("DROP TABLE pg_temp.part")
    connection.execute(
        """
        INSERT INTO ledger.episode_day
        SELECT instrument, (last_at AT TIME ZONE 'UTC')::date, count(*), count(usd),
               coalesce(sum(usd), 0)
        FROM ledger.episode GROUP BY 1, 2
        """
    )
    # what nobody has counted yet is taken for small, and read one row after the other
    connection.execute("ANALYZE ledger.episode, ledger.episode_day")
    return Refreshed({}, set(), BEGINNING, Decimal(0))


def _edges(connection: Connection) -> list[datetime]:
    """Times that cut all rows into windows of about as many as fit into memory."""
    row: Any = connection.execute(
        """
        SELECT min(low), max(high), (
            SELECT sum(greatest(reltuples, 0)) FROM pg_class
            WHERE oid IN ('ledger.liquidation'::regclass, 'ledger.lending_liquidation'::regclass))
        FROM unnest(ledger.venues_with_rows()) of_venue
        CROSS JOIN LATERAL (  -- of a venue, which has an index by time
            SELECT min(block_at) AS low, max(block_at) AS high
            FROM ledger.liquidation WHERE venue = of_venue
            UNION ALL SELECT min(block_at), max(block_at)
            FROM ledger.lending_liquidation WHERE venue = of_venue
            UNION ALL SELECT min(block_at), max(block_at)
            FROM ledger.ledger_liquidation WHERE venue = of_venue
        ) found
        """
    ).fetchone()
    low, high, rows = row
    if low is None:
        return []
    windows = int(rows) // _ROWS_AT_ONCE + 1
    step = (high - low) / windows
    return [*(low + step * number for number in range(windows)), high + timedelta(seconds=1)]


_PARTS = """
    INSERT INTO pg_temp.part
    SELECT found.*, first_at - %(low)s <= gap OR %(high)s - last_at <= gap
    FROM ledger.episodes_within(%(definition)s, %(low)s, %(high)s) found
    CROSS JOIN (SELECT gap FROM ledger.definition WHERE id = %(definition)s) defined
"""
# In the order of the table's key: its index grows at the end.
_WHOLE = """
    INSERT INTO ledger.episode
    SELECT account, venue, dex, instrument, first_at, last_at, records, unvalued, usd
    FROM pg_temp.part WHERE NOT is_cut
    UNION ALL
    SELECT account, venue, dex, instrument, min(first_at), max(last_at), sum(records),
           sum(unvalued), sum(usd)
    FROM (
        SELECT begun.*, count(*) FILTER (WHERE begins) OVER (
            PARTITION BY account, venue, dex ORDER BY first_at) AS episode
        FROM (
            SELECT part.*, first_at - lag(last_at) OVER (
                PARTITION BY account, venue, dex ORDER BY first_at) > gap AS begins
            FROM pg_temp.part
            CROSS JOIN (SELECT gap FROM ledger.definition WHERE id = %(definition)s) defined
            WHERE is_cut
        ) begun
    ) placed
    GROUP BY account, venue, dex, instrument, episode
    ORDER BY 1, 6, 2, 3
"""
