"""Episodes that are large for their time."""

from decimal import Decimal

from indexer.model import Rule

RULE = Rule(
    id="SIZE_PCTL",
    version=1,
    makes="flags",
    of="days",
    reach="days",
    sentence="An episode at least as large as {share:.1%} of those of its kind, perpetuals or"
    " loans, that ended in the {days} days before, UTC, if these were {episodes} or more.",
    parameters={"share": Decimal("0.995"), "days": 30, "episodes": 500},
    query="""
        SELECT e.venue, e.account, 'episode' AS level, e.key AS subject_key, e.usd AS value_usd,
               usual.usd AS threshold_usd, e.last_at AS occurred_at
        FROM ledger.episode_day of
        CROSS JOIN LATERAL (
            SELECT ledger.trailing_size(
                of.instrument, of.day, %(days)s, %(share)s, %(episodes)s) AS usd
            OFFSET 0  -- once a day
        ) usual
        JOIN liq.sized_episodes e ON e.instrument = of.instrument AND e.usd >= usual.usd
            AND e.last_at >= of.day::timestamp AT TIME ZONE 'UTC'
            AND e.last_at < (of.day + 1)::timestamp AT TIME ZONE 'UTC'
        WHERE (%(on_days)s::date[] IS NULL OR of.day = ANY (%(on_days)s::date[]))
          AND ledger.never_because(e.venue, e.account) IS NULL
    """,
)
