"""Large liquidations of one account, at each of the four levels."""

from decimal import Decimal

from indexer.model import Rule

RULE = Rule(
    id="SIZE_ABS",
    version=3,
    makes="flags",
    reads=("liquidations",),
    sentence="A liquidation, order, action or episode of at least {large:,} (large), {very_large:,}"
    " (very large) or {exceptional:,} USD (exceptional).",
    # 1M was the 99th percentile of accounts on 2025-10-10, the most extreme day on record
    parameters={
        "large": Decimal(1_000_000),
        "very_large": Decimal(10_000_000),
        "exceptional": Decimal(100_000_000),
    },
    # Rows are read of those alone whose episodes together are large enough for anything to be.
    query="""
        WITH lines AS MATERIALIZED (
            SELECT * FROM ledger.lines_of(%(definition)s, (
                SELECT array_agg(account) FROM (
                    SELECT account FROM liq.sized_episodes
                    WHERE last_at >= %(since)s
                      AND (%(accounts)s::text[] IS NULL OR account = ANY (%(accounts)s::text[]))
                    GROUP BY account HAVING sum(usd) >= %(large)s
                ) enough
            ), %(since)s) WHERE line = 'counted'
        ), sized AS (
            SELECT venue, account, 'liquidation' AS level,
                   venue || '/' || event_key || '/' || liquidated AS subject_key,
                   usd AS value_usd, block_at AS occurred_at
            FROM lines
            UNION ALL
            SELECT venue, account, 'order',
                   venue || '/' || account || '/' || market || '/' || order_id,
                   sum(usd), max(block_at)
            FROM lines GROUP BY venue, account, market, order_id
            UNION ALL
            SELECT venue, account, 'action', venue || '/' || account || '/' || action,
                   sum(usd), max(block_at)
            FROM lines GROUP BY venue, account, action
            UNION ALL
            SELECT venue, account, 'episode', key, usd, last_at
            FROM liq.sized_episodes
            WHERE last_at >= %(since)s
              AND (%(accounts)s::text[] IS NULL OR account = ANY (%(accounts)s::text[]))
        )
        SELECT venue, account, level, subject_key, value_usd,
               CASE WHEN value_usd >= %(exceptional)s THEN %(exceptional)s
                    WHEN value_usd >= %(very_large)s THEN %(very_large)s
                    ELSE %(large)s END AS threshold_usd,
               occurred_at
        FROM sized
        WHERE value_usd >= %(large)s AND ledger.never_because(venue, account) IS NULL
    """,
)
