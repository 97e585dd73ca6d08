"""Episodes that are large for their time."""

from decimal import Decimal

from indexer.model import Rule

RULE = Rule(
    id="SIZE_PCTL",
    version=1,
    makes="flags",
    of="days",
    reach="days",
    least="least_usd",
    sentence="An episode of at least {least_usd:,} USD that is at least as large as {share:.1%} of"
    " those of its kind, perpetuals or loans, that ended in the {days} days before, UTC, if these"
    " were {episodes} or more.",
    parameters={
        "share": Decimal("0.995"),
        "days": 30,
        "episodes": 500,
        "least_usd": Decimal(100_000),
    },
    query="""
        WITH usual AS MATERIALIZED (  -- once a day
            SELECT instrument, day, ledger.trailing_size(
                       instrument, day, %(days)s, %(share)s, %(episodes)s) AS usd
            FROM ledger.episode_day
            WHERE %(on_days)s::date[] IS NULL OR day = ANY (%(on_days)s::date[])
        ), large AS MATERIALIZED (
            SELECT e.*, usual.usd AS threshold_usd
            FROM usual JOIN liq.sized_episodes e ON e.instrument = usual.instrument
                AND e.usd >= usual.usd
                AND e.usd >= %(least_usd)s AND e.last_at >= day::timestamp AT TIME ZONE 'UTC'
                AND e.last_at < (day + 1)::timestamp AT TIME ZONE 'UTC'
        )
        SELECT venue, account, 'episode' AS level, key AS subject_key, usd AS value_usd,
               threshold_usd, last_at AS occurred_at
        FROM large
        WHERE ledger.never_because(venue, account) IS NULL
    """,
)
