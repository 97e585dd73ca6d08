"""Keeps the stored totals and sums of whole days up: what `liq.total` and `liq.largest_accounts`
need not add up again. And compares them with the rows that they were made of."""

from collections.abc import Iterable
from datetime import date, datetime
from typing import Any, NamedTuple

from indexer.store.database import Connection

DEFINITION = "strict/v1"


def refresh(
    connection: Connection,
    *,
    now: datetime,
    definition: str = DEFINITION,
    most: int | None = None,
) -> int:
    """Add up the UTC days that have ended by `now`, have liquidations and are not added up, the
    newest first, each in a transaction of its own; `most` is how many at once. Gives how many.

    Days that may still change wait, and so do all where the definition is not known here."""
    days: list[Any] = connection.execute(
        _DAYS, {"definition": definition, "now": now, "most": most}
    ).fetchall()
    done = 0
    for (day,) in days:
        with connection.transaction():
            row: Any = connection.execute(
                "SELECT ledger.roll_up(%s, %s)", (definition, day)
            ).fetchone()
        done += row[0]
    return done


# One look at an index for each venue and stretch of days, and one more for each day in it: what is
# added up is not looked at. Not final is what lies above a chain's finalized height.
_DAYS = """
    WITH RECURSIVE stretch AS (
        SELECT unnest(
            tstzmultirange(tstzrange('-infinity', date_trunc('day', %(now)s, 'UTC')))
            - coalesce(range_agg(tstzrange(day::timestamp AT TIME ZONE 'UTC',
                                           (day + 1)::timestamp AT TIME ZONE 'UTC')), '{}')
        ) AS times
        FROM ledger.rolled_day WHERE definition = %(definition)s
    ), found AS (
        SELECT venue, lower(times) AS low, upper(times) AS high, NULL::timestamptz AS block_at
        FROM stretch CROSS JOIN unnest(ledger.venues_with_rows()) AS venue
        WHERE EXISTS (SELECT FROM ledger.definition WHERE id = %(definition)s)
        UNION ALL
        SELECT venue, date_trunc('day', next.block_at, 'UTC') + interval '24 hours', high,
               next.block_at
        FROM found CROSS JOIN LATERAL (
            SELECT least(
                (SELECT min(l.block_at) FROM ledger.liquidation l
                 WHERE l.venue = found.venue AND l.block_at >= low AND l.block_at < high),
                (SELECT min(l.block_at) FROM ledger.lending_liquidation l
                 WHERE l.venue = found.venue AND l.block_at >= low AND l.block_at < high)
            ) AS block_at
        ) next
        WHERE next.block_at IS NOT NULL
    )
    SELECT (block_at AT TIME ZONE 'UTC')::date FROM found WHERE block_at IS NOT NULL
    EXCEPT
    SELECT (block_at AT TIME ZONE 'UTC')::date
    FROM ledger.stream JOIN ledger.block USING (chain) WHERE block_number > finalized_block
    ORDER BY 1 DESC LIMIT %(most)s
"""


class Compared(NamedTuple):
    """A stored day beside its rows; `differs` names what is not as they have it: the total, the
    accounts, both or neither."""

    definition: str
    day: date
    differs: tuple[str, ...]


def compare(
    connection: Connection, low: datetime | None = None, high: datetime | None = None
) -> list[Compared]:
    """Add up again all stored days that reach into a window, open where None, in one snapshot."""
    rows: Iterable[Any] = connection.execute(_COMPARED, {"low": low, "high": high})
    return [Compared(definition, day, tuple(differs)) for definition, day, differs in rows]


# As JSON, where numbers are equal whatever zeros they end with.
_COMPARED = """
    SELECT definition, day, array_remove(ARRAY[
        CASE WHEN EXISTS (
            WITH stored AS (
                SELECT to_jsonb(t) - 'definition' - 'day' AS line FROM ledger.day_total t
                WHERE (t.definition, t.day) = (rolled.definition, rolled.day)
            ), found AS MATERIALIZED (
                SELECT to_jsonb(t) - 'ordinality' || jsonb_build_object('place', t.ordinality)
                FROM ledger.total_of_rows(definition, low, high) WITH ORDINALITY t
            )
            (TABLE stored EXCEPT ALL TABLE found) UNION ALL (TABLE found EXCEPT ALL TABLE stored)
        ) THEN 'total' END,
        CASE WHEN EXISTS (
            WITH stored AS (
                SELECT to_jsonb(t) - 'definition' - 'day' AS line FROM ledger.account_total t
                WHERE (t.definition, t.day) = (rolled.definition, rolled.day)
            ), found AS MATERIALIZED (
                SELECT to_jsonb(a) FROM ledger.accounts_of_rows(definition, low, high) a
            )
            (TABLE stored EXCEPT ALL TABLE found) UNION ALL (TABLE found EXCEPT ALL TABLE stored)
        ) THEN 'accounts' END
    ], NULL)
    FROM (
        SELECT definition, day, day::timestamp AT TIME ZONE 'UTC' AS low,
               (day + 1)::timestamp AT TIME ZONE 'UTC' AS high
        FROM ledger.rolled_day
    ) rolled
    WHERE high > coalesce(%(low)s::timestamptz, '-infinity')
      AND low < coalesce(%(high)s::timestamptz, 'infinity')
    ORDER BY 1, 2
"""
