"""Large liquidations of one account, at each of the four levels."""

from decimal import Decimal

from indexer.model import Rule

RULE = Rule(
    id="SIZE_ABS",
    version=2,
    makes="flags",
    reads=("liquidations",),
    sentence="A liquidation, order, action or episode of at least {large:,} (large), {very_large:,}"
    " (very large) or {exceptional:,} USD (exceptional), at execution price, dollar tokens at par.",
    # 1M was the 99th percentile of accounts on 2025-10-10, the most extreme day on record
    parameters={
        "large": Decimal(1_000_000),
        "very_large": Decimal(10_000_000),
        "exceptional": Decimal(100_000_000),
    },
    query="""
        SELECT venue, account, level, subject_key, value_usd,
               CASE WHEN value_usd >= %(exceptional)s THEN %(exceptional)s
                    WHEN value_usd >= %(very_large)s THEN %(very_large)s
                    ELSE %(large)s END AS threshold_usd,
               occurred_at
        FROM (
            SELECT venue, account, 'liquidation' AS level, key AS subject_key,
                   notional_usd AS value_usd, block_at AS occurred_at, account_is_protocol_vault
            FROM liq.liquidations
            WHERE %(accounts)s::text[] IS NULL OR account = ANY (%(accounts)s::text[])
            UNION ALL
            SELECT venue, account, 'order', key, notional_usd, last_at, account_is_protocol_vault
            FROM liq.orders
            WHERE %(accounts)s::text[] IS NULL OR account = ANY (%(accounts)s::text[])
            UNION ALL
            SELECT venue, account, 'action', key, notional_usd, last_at, account_is_protocol_vault
            FROM liq.actions
            WHERE %(accounts)s::text[] IS NULL OR account = ANY (%(accounts)s::text[])
            UNION ALL
            SELECT venue, account, 'episode', key, notional_usd, last_at, account_is_protocol_vault
            FROM liq.episodes()
            WHERE %(accounts)s::text[] IS NULL OR account = ANY (%(accounts)s::text[])
        ) sized
        WHERE value_usd >= %(large)s AND NOT account_is_protocol_vault
          AND ledger.never_because(venue, account) IS NULL
    """,
)
