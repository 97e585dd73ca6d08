"""Whales by their equity, where the exchange's ledger stated it."""

from decimal import Decimal

from indexer.model import Rule

RULE = Rule(
    id="EQUITY",
    version=2,
    makes="labels",
    reads=("ledger_liquidations",),
    sentence="Had an account value of at least {equity_usd:,} USD at a liquidation, as the"
    " exchange's ledger states it; holds for {days} days after the last.",
    parameters={"equity_usd": Decimal(1_000_000), "days": 90, "confidence": Decimal(1)},
    query="""
        WITH stated AS (
            SELECT venue, account, key, account_value, block_at
            FROM liq.ledger_liquidations
            WHERE account_value >= %(equity_usd)s
              AND (%(accounts)s::text[] IS NULL OR account = ANY (%(accounts)s::text[]))
        ), held AS (
            SELECT venue, account, unnest(range_agg(tstzrange(
                       block_at, block_at + make_interval(days => %(days)s)))) AS valid_during
            FROM stated GROUP BY venue, account
        )
        SELECT held.venue, held.account, 'whale' AS label, %(confidence)s AS confidence,
               jsonb_build_object(
                   'equity_usd', trim_scale(max(s.account_value))::text,
                   'ledger_key', (array_agg(s.key ORDER BY s.account_value DESC, s.key))[1],
                   'times', count(*)
               ) AS evidence,
               held.valid_during
        FROM held JOIN stated s ON (s.venue, s.account) = (held.venue, held.account)
            AND held.valid_during @> s.block_at
        WHERE ledger.never_because(held.venue, held.account) IS NULL
        GROUP BY held.venue, held.account, held.valid_during
    """,
)
