"""Episodes that are much of their day."""

from decimal import Decimal

from indexer.model import Rule

RULE = Rule(
    id="SIZE_SHARE",
    version=1,
    makes="flags",
    of="days",
    sentence="An episode of at least {least_usd:,} USD and {share:.1%} of all of its kind,"
    " perpetuals or loans, that ended on the same day, UTC.",
    parameters={"share": Decimal("0.05"), "least_usd": Decimal(1_000_000)},
    query="""
        SELECT e.venue, e.account, 'episode' AS level, e.key AS subject_key, e.usd AS value_usd,
               of.usd * %(share)s AS threshold_usd, e.last_at AS occurred_at
        FROM ledger.episode_day of
        JOIN liq.sized_episodes e ON e.instrument = of.instrument
            AND e.usd >= of.usd * %(share)s AND e.usd >= %(least_usd)s
            AND e.last_at >= of.day::timestamp AT TIME ZONE 'UTC'
            AND e.last_at < (of.day + 1)::timestamp AT TIME ZONE 'UTC'
        WHERE (%(on_days)s::date[] IS NULL OR of.day = ANY (%(on_days)s::date[]))
          AND ledger.never_because(e.venue, e.account) IS NULL
    """,
)
