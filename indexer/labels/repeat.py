"""Whales by repeated large liquidations."""

from decimal import Decimal

from indexer.model import Rule

RULE = Rule(
    id="REPEAT",
    version=3,
    makes="labels",
    reads=("liquidations",),
    least="episode_usd",
    sentence="Was liquidated in at least {times} episodes of {episode_usd:,} USD or more within"
    " {days} days; holds for as long after the last.",
    parameters={
        "times": 3,
        "episode_usd": Decimal(1_000_000),
        "days": 90,
        "confidence": Decimal(1),
    },
    query="""
        WITH episodes AS MATERIALIZED (
            SELECT venue, account, first_at, key, usd
            FROM liq.sized_episodes
            WHERE usd >= %(episode_usd)s
              AND (%(accounts)s::text[] IS NULL OR account = ANY (%(accounts)s::text[]))
        ), repeated AS (
            -- the last of so many within the days, and the times that it makes the label hold
            SELECT venue, account,
                   tstzrange(first_at, first_at + make_interval(days => %(days)s)) AS during
            FROM (
                SELECT *, lag(first_at, %(times)s - 1) OVER (
                    PARTITION BY venue, account ORDER BY first_at, key) AS begun_at
                FROM episodes
            ) counted
            WHERE begun_at > first_at - make_interval(days => %(days)s)
        ), held AS MATERIALIZED (
            SELECT venue, account, unnest(range_agg(during)) AS valid_during
            FROM repeated GROUP BY venue, account
        )
        SELECT held.venue, held.account, 'whale' AS label, %(confidence)s AS confidence,
               jsonb_build_object(
                   'episodes', jsonb_agg(e.key ORDER BY e.first_at, e.key),
                   'usd', trim_scale(sum(e.usd))::text
               ) AS evidence,
               held.valid_during
        FROM held
        JOIN episodes e ON (e.venue, e.account) = (held.venue, held.account)
            AND e.first_at > lower(held.valid_during) - make_interval(days => %(days)s)
            AND e.first_at < upper(held.valid_during)
        WHERE ledger.never_because(held.venue, held.account) IS NULL
        GROUP BY held.venue, held.account, held.valid_during
    """,
)
