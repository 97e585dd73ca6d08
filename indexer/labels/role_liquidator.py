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
    query="""
        WITH actions AS (
            SELECT chain, liquidator, block_at, venue || '/' || account || '/' || tx_hash AS key
            FROM liq.liquidators
            WHERE %(accounts)s::text[] IS NULL OR liquidator = ANY (%(accounts)s::text[])
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
