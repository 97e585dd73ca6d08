"""Whales by the size of a position they held, known before they are liquidated."""

from decimal import Decimal

from indexer.model import Rule

RULE = Rule(
    id="PEAK_POSITION",
    version=1,
    makes="labels",
    sentence="Held a position of at least {position_usd:,} USD on a day of the last {days} days.",
    parameters={"position_usd": Decimal(10_000_000), "days": 90, "confidence": Decimal("0.9")},
    query="""
        SELECT venue, account, 'whale' AS label, %(confidence)s AS confidence,
               jsonb_build_object(
                   'largest_position_usd', max(largest_position_usd)::text,
                   'market', (array_agg(largest_position_market
                                        ORDER BY largest_position_usd DESC, day))[1],
                   'day', (array_agg(day ORDER BY largest_position_usd DESC, day))[1],
                   'days', count(DISTINCT day)
               ) AS evidence,
               tstzrange(min(day)::timestamp AT TIME ZONE 'UTC',
                         (max(day) + 1 + %(days)s)::timestamp AT TIME ZONE 'UTC') AS valid_during
        FROM liq.account_days
        WHERE largest_position_usd >= %(position_usd)s AND day > %(as_of)s::date - %(days)s
          AND NOT EXISTS (
              SELECT FROM liq.protocol_vaults vault
              WHERE (vault.venue, vault.account) = (account_days.venue, account_days.account)
          )
        GROUP BY venue, account
    """,
)
