"""How large episodes were under a definition, kept up: what rules of size look at.

`ledger.episode` follows from the rows of accounts alone. Where rows of an account changed, its
episodes are made again from that time on; what came and what went says which days look different.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec

from indexer.errors import ConfigError
from indexer.methodology.definition import Definition
from indexer.store.database import Connection

DEFINITION = "sizes/v1"
# Not the first and the last year of Python: in a session's own zone they might be out of them.
BEGINNING, END = datetime(2, 1, 1, tzinfo=UTC), datetime(9998, 12, 31, tzinfo=UTC)
_ROWS_AT_ONCE = 100_000  # of a window while all is made again: they fit into the memory of a sort


class Refreshed(NamedTuple):
    """The days that an episode ended on which came or went, and when the first one began that rows
    may have changed of."""

    days: set[date]
    since: datetime


def hash_of(connection: Connection, definition: str) -> str:
    """What a definition means; ConfigError where it cannot say what an account suffered."""
    row: Any = connection.execute(
        "SELECT hash || ' ' || md5(account_query || query), body FROM ledger.definition"
        " WHERE id = %s",
        (definition,),
    ).fetchone()
    if row is None:
        raise ConfigError(f"there is no definition {definition!r}: indexer definitions")
    found, body = row
    problem = _problem(msgspec.json.decode(body, type=Definition))
    if problem is not None:
        raise ConfigError(f"sizes cannot be told under {definition}: {problem}")
    return str(found)


_BELOW_ZERO = {"margin_lost", "realised", "bonus", "loss"}


def _problem(d: Definition) -> str | None:
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


def refresh(connection: Connection, definition: str, changed: Mapping[str, datetime]) -> Refreshed:
    """Make the episodes of accounts again, within a transaction: from the time on that stands
    beside each."""
    days, begun = set[date](), [END]
    for since, accounts in _together(changed).items():
        values: dict[str, Any] = {
            "definition": definition, "accounts": accounts, "since": since, "begun": since,
            "ended": since,
        }  # fmt: skip
        if since > BEGINNING:
            row: Any = connection.execute(_BEGIN, values).fetchone()
            values["begun"], values["ended"] = row
        begun.append(values["begun"])
        connection.execute(_NEW_TABLE)
        connection.execute(_NEW, values)
        gone = connection.execute(_TAKE_AWAY, values).fetchall()
        come = connection.execute(_ADD).fetchall()
        days |= _count_days(connection, gone, come)
    return Refreshed(days, min(begun))


def _together(changed: Mapping[str, datetime]) -> dict[datetime, list[str]]:
    found = defaultdict[datetime, list[str]](list)
    for account, since in changed.items():
        found[since].append(account)
    return found


# What ended longer than the gap before is an episode of its own, whatever came since: it stays, as
# rows are read from the time on that the first of the others began, which may be in its middle.
_BEGIN = """
    SELECT least(%(since)s::timestamptz, (
               SELECT min(first_at) FROM ledger.episode
               WHERE account = ANY (%(accounts)s) AND last_at >= %(since)s::timestamptz - gap)),
           %(since)s::timestamptz - gap
    FROM ledger.definition WHERE id = %(definition)s
"""
_NEW_TABLE = """
    CREATE TEMP TABLE IF NOT EXISTS new_episode (LIKE ledger.episode) ON COMMIT DELETE ROWS
"""
_NEW = """
    INSERT INTO pg_temp.new_episode
    SELECT * FROM ledger.episodes_of(%(definition)s, %(accounts)s::text[], %(begun)s)
    WHERE last_at >= %(ended)s
"""
_TAKE_AWAY = """
    DELETE FROM ledger.episode old
    WHERE account = ANY (%(accounts)s) AND last_at >= %(ended)s AND NOT EXISTS (
        SELECT FROM pg_temp.new_episode new
        WHERE (new.account, new.venue, new.dex, new.first_at)
            = (old.account, old.venue, old.dex, old.first_at)
          AND (new.instrument, new.last_at, new.records, new.unvalued, new.usd)
            IS NOT DISTINCT FROM (old.instrument, old.last_at, old.records, old.unvalued, old.usd)
    )
    RETURNING instrument, (last_at AT TIME ZONE 'UTC')::date, usd
"""
_ADD = """
    WITH new AS (DELETE FROM pg_temp.new_episode RETURNING *)
    INSERT INTO ledger.episode SELECT * FROM new ON CONFLICT DO NOTHING
    RETURNING instrument, (last_at AT TIME ZONE 'UTC')::date, usd
"""


def days_of(connection: Connection, accounts: Sequence[str], since: datetime | None) -> set[date]:
    """The days on which episodes of accounts ended, and all that are not before `since`."""
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


def _count_days(connection: Connection, gone: list[Any], come: list[Any]) -> set[date]:
    changes = [(*row, -1) for row in gone] + [(*row, 1) for row in come]
    if not changes:
        return set()
    instruments, days, usd, signs = map(list, zip(*changes, strict=True))
    connection.execute(
        """
        INSERT INTO ledger.episode_day
        SELECT instrument, day, sum(sign), coalesce(sum(sign) FILTER (WHERE usd IS NOT NULL), 0),
               coalesce(sum(usd * sign), 0)
        FROM unnest(%s::text[], %s::date[], %s::numeric[], %s::int[])
            AS changed (instrument, day, usd, sign)
        GROUP BY instrument, day
        ON CONFLICT (instrument, day) DO UPDATE
        SET episodes = episode_day.episodes + excluded.episodes,
            valued = episode_day.valued + excluded.valued,
            usd = episode_day.usd + excluded.usd
        """,
        (instruments, days, usd, signs),
    )
    connection.execute(
        "DELETE FROM ledger.episode_day WHERE episodes = 0 AND day = ANY (%s)", (days,)
    )
    connection.execute(
        """
        DELETE FROM ledger.trailing_size asked USING unnest(%s::text[], %s::date[])
            AS changed (instrument, day)
        WHERE asked.instrument = changed.instrument
          AND asked.day > changed.day AND asked.day <= changed.day + asked.days
        """,
        (instruments, days),
    )
    return set(days)


# -- all of them ---------------------------------------------------------------------------------


def make_all(connection: Connection, definition: str) -> None:
    """Make the episodes of all accounts, a window at a time; what touches the edge of one is put
    together with its other part."""
    connection.execute("TRUNCATE ledger.episode, ledger.episode_day, ledger.trailing_size")
    connection.execute(
        "CREATE TEMP TABLE part (LIKE ledger.episode, is_cut boolean) ON COMMIT DROP"
    )
    for low, high in pairwise(_edges(connection)):
        connection.execute(_PARTS, {"definition": definition, "low": low, "high": high})
    connection.execute("DROP INDEX ledger.episode_size")
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


def _edges(connection: Connection) -> list[datetime]:
    """Times that cut all rows into windows of about as many as fit into memory."""
    row: Any = connection.execute(
        """
        SELECT min(low), max(high), (
            SELECT sum(greatest(reltuples, 0)) FROM pg_class
            WHERE oid IN ('ledger.liquidation'::regclass, 'ledger.lending_liquidation'::regclass))
        FROM (
            SELECT min(block_at) AS low, max(block_at) AS high FROM ledger.liquidation
            UNION ALL SELECT min(block_at), max(block_at) FROM ledger.lending_liquidation
            UNION ALL SELECT min(block_at), max(block_at) FROM ledger.ledger_liquidation
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
    ORDER BY 1, 2, 3, 5
"""
