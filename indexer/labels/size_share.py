"""Episodes that are much of their day."""

from decimal import Decimal

from indexer.model import Rule

RULE = Rule(
    id="SIZE_SHARE",
    version=1,
    makes="flags",
    of="days",
    least="least_usd",
    sentence="An episode of at least {least_usd:,} USD and {share:.1%} of all of its kind,"
    " perpetuals or loans, that ended on the same day, UTC.",
    parameters={"share": Decimal("0.05"), "least_usd": Decimal(1_000_000)},
    query="""
        WITH large AS MATERIALIZED (
            SELECT e.*, of.usd * %(share)s AS threshold_usd
            FROM ledger.episode_day of JOIN liq.sized_episodes e ON e.instrument = of.instrument
                AND e.usd >= greatest(of.usd * %(share)s, %(least_usd)s)
                AND e.last_at >= day::timestamp AT TIME ZONE 'UTC'
                AND e.last_at < (day + 1)::timestamp AT TIME ZONE 'UTC'
            WHERE %(on_days)s::date[] IS NULL OR of.day = ANY (%(on_days)s::date[])
        )
        SELECT venue, account, 'episode' AS level, key AS subject_key, usd AS value_usd,
               threshold_usd, last_at AS occurred_at
        FROM large
        WHERE ledger.never_because(venue, account) IS NULL
    """,
)
