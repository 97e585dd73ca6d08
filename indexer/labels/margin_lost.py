"""Large losses of margin."""

from decimal import Decimal

from indexer.model import Rule

RULE = Rule(
    id="MARGIN_LOST",
    version=1,
    makes="flags",
    reads=("liquidations",),
    least="episode_usd",
    sentence="At least {margin_usd:,} USD of margin lost in an episode of {episode_usd:,} USD or"
    " more, as far as it can be told: in takeovers by the vault and auto-deleveraging.",
    parameters={"margin_usd": Decimal(1_000_000), "episode_usd": Decimal(500_000)},
    query="""
        WITH large AS MATERIALIZED (
            SELECT e.*, lost.usd AS lost_usd
            FROM liq.sized_episodes e
            CROSS JOIN LATERAL (
                SELECT sum(v.margin_lost_usd) AS usd
                FROM ledger.liquidation l
                JOIN ledger.valuation v USING (venue, block_at, event_key, account)
                WHERE (l.account, l.venue, l.dex) = (e.account, e.venue, e.dex)
                  AND l.block_at >= e.first_at AND l.block_at <= e.last_at
                  AND v.price_source = 'par'
            ) lost
            WHERE e.instrument = 'perp' AND e.usd >= %(episode_usd)s AND e.last_at >= %(since)s
              AND (%(accounts)s::text[] IS NULL OR e.account = ANY (%(accounts)s::text[]))
              AND lost.usd >= %(margin_usd)s
        )
        SELECT venue, account, 'episode' AS level, key AS subject_key, lost_usd AS value_usd,
               %(margin_usd)s AS threshold_usd, last_at AS occurred_at
        FROM large
        WHERE ledger.never_because(venue, account) IS NULL
    """,
)
