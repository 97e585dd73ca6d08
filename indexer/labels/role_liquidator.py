"""Accounts that liquidate others."""

from decimal import Decimal

from indexer.model import Rule

RULE = Rule(
    id="ROLE_LIQUIDATOR",
    version=1,
    makes="labels",
    reads=("liquidators",),
    sentence="Liquidated others, or took their positions over, in at least {times} actions within"
    " {days} days on one chain; holds from the last of these on.",
    parameters={"times": 5, "days": 30, "confidence": Decimal("0.9")},
    # Who was active on so many days within the days is one by the end of the last of them: of a
    # million actions the first are put in order.
    query="""
        WITH busy AS (
            SELECT chain, liquidator, min(day) + 1 AS until
            FROM (
                SELECT chain, liquidator, day, lag(day, %(times)s - 1) OVER (
                    PARTITION BY chain, liquidator ORDER BY day) AS first_day
                FROM (
                    SELECT DISTINCT chain, liquidator, (block_at AT TIME ZONE 'UTC')::date AS day
                    FROM liq.liquidators
                    WHERE %(accounts)s::text[] IS NULL OR liquidator = ANY (%(accounts)s::text[])
                ) active
            ) counted
            WHERE first_day > day - %(days)s::int GROUP BY chain, liquidator
        ), actions AS (
            SELECT chain, liquidator, block_at, venue || '/' || account || '/' || tx_hash AS key
            FROM liq.liquidators LEFT JOIN busy USING (chain, liquidator)
            WHERE (%(accounts)s::text[] IS NULL OR liquidator = ANY (%(accounts)s::text[]))
              AND (until IS NULL OR block_at < until::timestamp AT TIME ZONE 'UTC')
            GROUP BY chain, liquidator, block_at, venue, account, tx_hash
        ), counted AS (
            -- each action with those before it, so many together
            SELECT chain, liquidator, block_at, key, min(block_at) OVER latest AS first_at,
                   count(*) OVER latest AS times, array_agg(key) OVER latest AS keys
            FROM actions
            WINDOW latest AS (PARTITION BY chain, liquidator ORDER BY block_at, key
                              ROWS %(times)s - 1 PRECEDING)
        )
        SELECT DISTINCT ON (chain, liquidator) chain AS venue, liquidator AS account,
               'liquidator' AS label, %(confidence)s AS confidence,
               jsonb_build_object('actions', keys) AS evidence,
               tstzrange(block_at, NULL) AS valid_during
        FROM counted
        WHERE times = %(times)s AND first_at > block_at - make_interval(days => %(days)s)
        ORDER BY chain, liquidator, block_at, key
    """,
)
