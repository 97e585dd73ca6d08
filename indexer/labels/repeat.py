"""Whales by repeated large liquidations."""

from decimal import Decimal

from indexer.model import Rule

RULE = Rule(
    id="REPEAT",
    version=1,
    makes="labels",
    sentence="Was liquidated in at least {times} episodes of {episode_usd:,} USD or more within"
    " {days} days.",
    parameters={
        "times": 3,
        "episode_usd": Decimal(1_000_000),
        "days": 90,
        "confidence": Decimal(1),
    },
    query="""
        SELECT venue, account, 'whale' AS label, %(confidence)s AS confidence,
               jsonb_build_object(
                   'episodes', jsonb_agg(key ORDER BY first_at),
                   'notional_usd', sum(notional_usd)::text
               ) AS evidence,
               tstzrange((array_agg(first_at ORDER BY first_at))[%(times)s],
                         max(last_at) + make_interval(days => %(days)s)) AS valid_during
        FROM liq.episodes()
        WHERE notional_usd >= %(episode_usd)s AND NOT account_is_protocol_vault
          AND first_at > %(as_of)s - make_interval(days => %(days)s)
        GROUP BY venue, account
        HAVING count(*) >= %(times)s
    """,
)
