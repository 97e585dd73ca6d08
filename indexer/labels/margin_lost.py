"""Large losses of margin."""

from decimal import Decimal

from indexer.model import Rule

RULE = Rule(
    id="MARGIN_LOST",
    version=1,
    makes="flags",
    reads=("liquidations",),
    sentence="At least {margin_usd:,} USD of margin lost in an episode of at least half as much, as"
    " far as it can be told: in takeovers by the vault and auto-deleveraging.",
    parameters={"margin_usd": Decimal(1_000_000)},
    query="""
        SELECT e.venue, e.account, 'episode' AS level, e.key AS subject_key,
               lost.usd AS value_usd, %(margin_usd)s AS threshold_usd, e.last_at AS occurred_at
        FROM liq.sized_episodes e
        CROSS JOIN LATERAL (
            SELECT sum(v.margin_lost_usd) AS usd
            FROM ledger.liquidation l
            JOIN ledger.valuation v USING (venue, block_at, event_key, account)
            WHERE (l.account, l.venue, l.dex) = (e.account, e.venue, e.dex)
              AND l.block_at >= e.first_at AND l.block_at <= e.last_at
              AND v.price_source = 'par'
        ) lost
        WHERE e.instrument = 'perp' AND e.usd >= %(margin_usd)s / 2 AND e.last_at >= %(since)s
          AND (%(accounts)s::text[] IS NULL OR e.account = ANY (%(accounts)s::text[]))
          AND lost.usd >= %(margin_usd)s AND ledger.never_because(e.venue, e.account) IS NULL
    """,
)
