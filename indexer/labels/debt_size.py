"""Whales by what they owed just before they were liquidated."""

from decimal import Decimal

from indexer.model import Rule

RULE = Rule(
    id="DEBT_SIZE",
    version=1,
    makes="labels",
    reads=("liquidations", "debts", "liquidators"),
    needs="liq.debts",
    sentence="Owed at least {debt_usd:,} USD in a pool before a liquidation, as its oracle counts:"
    " at the block before, else as last observed at most {minutes} minutes earlier; holds for"
    " {days} days after the last.",
    parameters={
        "debt_usd": Decimal(5_000_000),
        "minutes": 5,
        "days": 90,
        "confidence": Decimal("0.9"),
    },
    # Who liquidates others owes for their trade: no whale among borrowers.
    query="""
        WITH large AS (
            SELECT DISTINCT venue, account, market FROM liq.debts
            WHERE debt_usd >= %(debt_usd)s
              AND (%(accounts)s::text[] IS NULL OR account = ANY (%(accounts)s::text[]))
        ), liquidated AS (
            SELECT DISTINCT l.venue, l.account, l.market, l.block_number, l.block_at
            FROM ledger.lending_liquidation l
            JOIN large ON (large.venue, large.account, large.market)
                = (l.venue, l.account, l.market)
            WHERE %(accounts)s::text[] IS NULL OR l.account = ANY (%(accounts)s::text[])
        ), owed AS (
            SELECT l.venue, l.account, l.market, l.block_number, l.block_at,
                   d.debt_usd, d.debt, d.quote, d.quote_usd, d.via,
                   d.block_number AS debt_block, d.at AS debt_at, d.asked_by
            FROM liquidated l
            CROSS JOIN LATERAL (
                SELECT * FROM liq.debts d
                WHERE (d.venue, d.account, d.market) = (l.venue, l.account, l.market)
                  AND d.block_number < l.block_number AND d.debt_usd IS NOT NULL
                  AND (d.block_number = l.block_number - 1
                       OR d.at >= l.block_at - make_interval(mins => %(minutes)s))
                  -- what was asked of another branch of the chain is not of this one
                  AND NOT (d.block_number = l.block_number - 1 AND EXISTS (
                      SELECT FROM ledger.block b
                      WHERE b.chain = ledger.chain_of(l.venue)
                        AND b.block_number = l.block_number AND b.parent_hash <> d.block_hash))
                ORDER BY d.block_number DESC, d.asked_by LIMIT 1
            ) d
            WHERE d.debt_usd >= %(debt_usd)s
        ), held AS (
            SELECT venue, account, unnest(range_agg(tstzrange(
                       block_at, block_at + make_interval(days => %(days)s)))) AS valid_during
            FROM owed GROUP BY venue, account
        ), largest AS MATERIALIZED (
            SELECT DISTINCT ON (held.venue, held.account, held.valid_during)
                   held.valid_during, o.*, count(*) OVER (
                       PARTITION BY held.venue, held.account, held.valid_during) AS times
            FROM held JOIN owed o ON (o.venue, o.account) = (held.venue, held.account)
                AND held.valid_during @> o.block_at
            ORDER BY held.venue, held.account, held.valid_during, o.debt_usd DESC,
                     o.block_number, o.market
        )
        SELECT venue, account, 'whale' AS label, %(confidence)s AS confidence,
               jsonb_build_object(
                   'debt_usd', trim_scale(debt_usd)::text,
                   'debt', trim_scale(debt)::text,
                   'quote', quote,
                   'quote_usd', trim_scale(quote_usd)::text,
                   'via', via,
                   'pool', market,
                   'block', debt_block,
                   'at', to_char(debt_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
                   'asked_by', asked_by,
                   'liquidated_in_block', block_number,
                   'times', times
               ) AS evidence,
               valid_during
        FROM largest
        WHERE ledger.never_because(venue, account) IS NULL
          AND NOT ledger.liquidates(venue, account)
    """,
)
