"""What happens now: the newest liquidations, the sums of the last hour and day, how far each venue
is behind. Each query looks at few rows, or at those of a window; reads only."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from psycopg.rows import class_row

from indexer.store.database import Connection


class Newest(NamedTuple):
    """One of the newest liquidations. Dollars are notional at execution, or the debt repaid; None
    where it has no value. A loan has no side."""

    block_at: datetime
    venue: str
    market: str
    side: str | None
    method: str
    usd: Decimal | None
    account: str
    labels: list[str]
    key: str


class Sum(NamedTuple):
    """What a definition counts in the time up to what was last read; dollars are None where it
    gives no one sum, or nothing has a value."""

    hours: int
    usd: Decimal | None
    long_usd: Decimal | None
    short_usd: Decimal | None
    records: int
    accounts: int | None


class Lag(NamedTuple):
    """How far behind a venue is, and what is missing of it; whether its chain had to be stopped."""

    venue: str
    lag_s: int
    last_at: datetime
    missing: int
    undecoded: int
    is_stopped: bool


def reached(connection: Connection) -> datetime | None:
    """Up to when anything was read."""
    row = connection.execute(
        "SELECT max(upper(times)) FROM ledger.coverage WHERE facts = 'liquidations'"
    ).fetchone()
    return row[0] if row and isinstance(row[0], datetime) else None


def newest(connection: Connection, most: int) -> list[Newest]:
    """The newest first. Of each venue so many are looked at, and those of their last block."""
    with connection.cursor(row_factory=class_row(Newest)) as cursor:
        return cursor.execute(_NEWEST, {"most": most}).fetchall()


_NEWEST = """
    WITH venue AS MATERIALIZED (
        SELECT unnest(ledger.venues_with_rows()) AS venue
    ), perp AS (
        SELECT l.* FROM venue CROSS JOIN LATERAL (
            SELECT p.block_at, p.venue, p.market, p.side, p.method, p.notional_usd AS usd,
                   p.account, p.key
            FROM liq.liquidations p WHERE p.venue = venue.venue
            ORDER BY p.block_at DESC FETCH FIRST (%(most)s) ROWS WITH TIES
        ) l
    ), loan AS (
        SELECT l.* FROM venue CROSS JOIN LATERAL (
            SELECT p.block_at, p.venue, p.market, NULL::text AS side, p.method,
                   p.account, p.key, p.event_key
            FROM liq.lending_liquidations p WHERE p.venue = venue.venue
            ORDER BY p.block_at DESC FETCH FIRST (%(most)s) ROWS WITH TIES
        ) l
        ORDER BY block_at DESC FETCH FIRST (%(most)s) ROWS WITH TIES
    ), row AS (
        SELECT block_at, venue, market, side, method, usd, account, key FROM perp
        UNION ALL
        SELECT loan.block_at, loan.venue, loan.market, loan.side, loan.method, v.repaid_usd,
               loan.account, loan.key
        FROM loan LEFT JOIN LATERAL (
            SELECT v.repaid_usd FROM liq.lending_values v
            WHERE v.venue = loan.venue AND v.block_at = loan.block_at
              AND v.event_key = loan.event_key AND v.account = loan.account
        ) v ON true
        ORDER BY block_at DESC, key LIMIT %(most)s
    )
    SELECT row.block_at, row.venue, coalesce(row.market, '') AS market, row.side, row.method,
           row.usd, row.account, coalesce(l.labels, '{}') AS labels, row.key
    FROM row LEFT JOIN LATERAL (
        SELECT array_agg(DISTINCT l.label ORDER BY l.label) AS labels FROM liq.labels l
        WHERE l.account = row.account AND l.venue IN (row.venue, '') AND l.state = 'current'
    ) l ON true
    ORDER BY row.block_at DESC, row.key
"""


def summed(connection: Connection, definition: str, until: datetime, hours: int) -> Sum:
    """The hours up to and with a moment."""
    rows = connection.execute(
        "SELECT usd, long_usd, short_usd, coalesce(records, 0), accounts"
        " FROM liq.total(%s, %s::timestamptz, %s::timestamptz) WHERE section = 'total'",
        (definition, until - timedelta(hours=hours), until + timedelta(microseconds=1)),
    ).fetchall()
    usd, long_usd, short_usd, records, accounts = rows[0] if rows else (None, None, None, 0, 0)
    return Sum(hours, usd, long_usd, short_usd, records, accounts)  # type: ignore[arg-type]


def lags(connection: Connection) -> list[Lag]:
    """One for each venue that is covered, those that are furthest behind first."""
    with connection.cursor(row_factory=class_row(Lag)) as cursor:
        return cursor.execute(
            """
            SELECT venue, extract(epoch FROM now() - c.last_at)::bigint AS lag_s, c.last_at,
                   coalesce(missing.blocks, 0)::bigint AS missing,
                   coalesce(undecoded.events, 0) AS undecoded,
                   stopped IS NOT NULL AS is_stopped
            FROM (
                SELECT venue, max(upper(times)) AS last_at FROM ledger.coverage
                WHERE facts = 'liquidations' GROUP BY venue
            ) c
            LEFT JOIN (
                SELECT venue, sum(block_to - block_from) AS blocks FROM liq.missing
                WHERE facts = 'liquidations' GROUP BY venue
            ) missing USING (venue)
            LEFT JOIN (
                SELECT venue, count(*) AS events FROM ledger.undecoded GROUP BY venue
            ) undecoded USING (venue)
            LEFT JOIN ledger.stream ON stream.chain = ledger.chain_of(venue)
            ORDER BY lag_s DESC, venue
            """
        ).fetchall()
