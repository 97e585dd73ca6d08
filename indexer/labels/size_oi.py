"""Liquidations that are large for their market, where its open interest is known."""

from decimal import Decimal

from indexer.model import Rule

RULE = Rule(
    id="SIZE_OI",
    version=1,
    makes="flags",
    reads=("liquidations", "open_interest"),
    least="least_usd",
    sentence="Within an episode of at least {least_usd:,} USD at least {share:%} of a market's open"
    " interest was liquidated, as it was last known at most {minutes} minutes before; in dollars at"
    " the average price of these fills, dollar tokens at par.",
    parameters={"share": Decimal("0.005"), "minutes": 5, "least_usd": Decimal(100_000)},
    # Of 0 there is no share: a market with a position in it has more, so that is not known.
    # Whom it may be said of is asked of the large ones alone, not of each liquidation. These are
    # found by the index of accounts and times, which is of the default order.
    query="""
        WITH closed AS MATERIALIZED (
            SELECT e.key, e.venue, e.account, l.market, min(l.block_at) AS first_at,
                   max(l.block_at) AS last_at, sum(l.size) AS size,
                   CASE WHEN bool_and(l.notional_usd IS NOT NULL) THEN sum(l.notional_usd) END
                       AS notional_usd
            FROM liq.sized_episodes e
            JOIN liq.liquidations l ON l.account = e.account COLLATE "default"
                AND (l.venue, l.dex) = (e.venue, e.dex)
                AND l.block_at >= e.first_at AND l.block_at <= e.last_at
            WHERE e.instrument = 'perp' AND e.usd >= %(least_usd)s
              AND NOT l.account_is_protocol_vault
              AND (%(accounts)s::text[] IS NULL OR e.account = ANY (%(accounts)s::text[]))
            GROUP BY e.key, e.venue, e.account, l.market
        ), large AS MATERIALIZED (
            SELECT closed.venue, closed.account, closed.key || '/' || closed.market AS key,
                   closed.notional_usd, closed.last_at,
                   %(share)s * before.open_interest * closed.notional_usd / closed.size
                       AS threshold_usd
            FROM closed
            CROSS JOIN LATERAL (
                SELECT o.open_interest FROM ledger.open_interest o
                WHERE (o.venue, o.market) = (closed.venue, closed.market)
                  AND o.at <= closed.first_at AND o.at >= closed.first_at
                      - ledger.checked_age(make_interval(mins => %(minutes)s))
                ORDER BY o.at DESC LIMIT 1
            ) before
            WHERE before.open_interest > 0 AND closed.size > 0
              AND closed.size >= %(share)s * before.open_interest
              AND closed.notional_usd IS NOT NULL
        )
        SELECT venue, account, 'position' AS level, key AS subject_key,
               notional_usd AS value_usd, trim_scale(trunc(threshold_usd, 6)) AS threshold_usd,
               last_at AS occurred_at
        FROM large WHERE ledger.never_because(venue, account) IS NULL
    """,
)
