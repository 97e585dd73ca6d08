"""Whales by their equity, where the exchange's ledger stated it."""

from decimal import Decimal

from indexer.model import Rule

RULE = Rule(
    id="EQUITY",
    version=1,
    makes="labels",
    sentence="Had an account value of at least {equity_usd:,} USD at a liquidation of the last"
    " {days} days, as the exchange's ledger states it.",
    parameters={"equity_usd": Decimal(1_000_000), "days": 90, "confidence": Decimal(1)},
    query="""
        SELECT venue, account, 'whale' AS label, %(confidence)s AS confidence,
               jsonb_build_object(
                   'equity_usd', max(account_value)::text,
                   'ledger_key', (array_agg(key ORDER BY account_value DESC, key))[1]
               ) AS evidence,
               tstzrange(min(block_at), max(block_at) + make_interval(days => %(days)s))
                   AS valid_during
        FROM liq.ledger_liquidations
        WHERE account_value >= %(equity_usd)s
          AND block_at > %(as_of)s - make_interval(days => %(days)s)
          AND NOT EXISTS (
              SELECT FROM liq.protocol_vaults vault
              WHERE (vault.venue, vault.account)
                  = (ledger_liquidations.venue, ledger_liquidations.account)
          )
        GROUP BY venue, account
    """,
)
