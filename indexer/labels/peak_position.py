"""Whales by the size of a position they held, known before they are liquidated."""

from decimal import Decimal

from indexer.model import Rule

RULE = Rule(
    id="PEAK_POSITION",
    version=2,
    makes="labels",
    reads=("account_days",),
    needs="(SELECT account FROM liq.account_days WHERE largest_position_usd >= %(position_usd)s)",
    sentence="Held a position of at least {position_usd:,} USD; holds for {days} days after the"
    " last day with one.",
    parameters={"position_usd": Decimal(10_000_000), "days": 90, "confidence": Decimal("0.9")},
    query="""
        WITH large AS (
            SELECT venue, account, day, largest_position_usd, largest_position_market,
                   day::timestamp AT TIME ZONE 'UTC' AS began_at
            FROM liq.account_days
            WHERE largest_position_usd >= %(position_usd)s
              AND (%(accounts)s::text[] IS NULL OR account = ANY (%(accounts)s::text[]))
        ), held AS (
            SELECT venue, account, unnest(range_agg(tstzrange(
                       began_at, began_at + make_interval(days => %(days)s + 1)))) AS valid_during
            FROM large GROUP BY venue, account
        )
        SELECT held.venue, held.account, 'whale' AS label, %(confidence)s AS confidence,
               jsonb_build_object(
                   'largest_position_usd', trim_scale(max(l.largest_position_usd))::text,
                   'market', (array_agg(l.largest_position_market
                                        ORDER BY l.largest_position_usd DESC, l.day))[1],
                   'day', (array_agg(l.day ORDER BY l.largest_position_usd DESC, l.day))[1],
                   'days', count(DISTINCT l.day)
               ) AS evidence,
               held.valid_during
        FROM held JOIN large l ON (l.venue, l.account) = (held.venue, held.account)
            AND held.valid_during @> l.began_at
        WHERE ledger.never_because(held.venue, held.account) IS NULL
        GROUP BY held.venue, held.account, held.valid_during
    """,
)
