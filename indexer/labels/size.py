"""Large liquidations of one account, at each of the four levels."""

from decimal import Decimal

from indexer.model import Rule

RULE = Rule(
    id="SIZE_ABS",
    version=3,
    makes="flags",
    reads=("liquidations",),
    least="large",
    sentence="A liquidation, order, action or episode of at least {large:,} (large), {very_large:,}"
    " (very large) or {exceptional:,} USD (exceptional).",
    # 1M was the 99th percentile of accounts on 2025-10-10, the most extreme day on record
    parameters={
        "large": Decimal(1_000_000),
        "very_large": Decimal(10_000_000),
        "exceptional": Decimal(100_000_000),
    },
    # Rows are read of large episodes alone: nothing else can be large. Who can never be called
    # large is asked last: it would be asked of each row.
    query="""
        WITH large AS MATERIALIZED (
            SELECT * FROM liq.sized_episodes
            WHERE usd >= %(large)s AND last_at >= %(since)s
              AND (%(accounts)s::text[] IS NULL OR account = ANY (%(accounts)s::text[]))
        ), lines AS MATERIALIZED (
            SELECT line.*
            FROM (
                SELECT array_agg(account) AS accounts, array_agg(venue) AS venues,
                       array_agg(dex) AS dexes, array_agg(first_at) AS firsts,
                       array_agg(last_at) AS lasts
                FROM large
            ) of
            CROSS JOIN LATERAL ledger.lines_of_episodes(
                %(definition)s, of.accounts, of.venues, of.dexes, of.firsts, of.lasts) line
        ), sized AS MATERIALIZED (
            SELECT venue, account, 'liquidation' AS level,
                   venue || '/' || event_key || '/' || liquidated AS subject_key,
                   usd AS value_usd, block_at AS occurred_at
            FROM lines WHERE usd >= %(large)s
            UNION ALL
            SELECT venue, account, 'order',
                   venue || '/' || account || '/' || market || '/' || order_id,
                   sum(usd), max(block_at)
            FROM lines GROUP BY venue, account, market, order_id HAVING sum(usd) >= %(large)s
            UNION ALL
            SELECT venue, account, 'action', venue || '/' || account || '/' || action,
                   sum(usd), max(block_at)
            FROM lines GROUP BY venue, account, action HAVING sum(usd) >= %(large)s
            UNION ALL
            SELECT venue, account, 'episode', key, usd, last_at FROM large
        )
        SELECT venue, account, level, subject_key, value_usd,
               CASE WHEN value_usd >= %(exceptional)s THEN %(exceptional)s
                    WHEN value_usd >= %(very_large)s THEN %(very_large)s
                    ELSE %(large)s END AS threshold_usd,
               occurred_at
        FROM sized
        WHERE ledger.never_because(venue, account) IS NULL
    """,
)
