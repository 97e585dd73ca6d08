"""Assets with their raw names and what they are shares of."""

from alembic import op

revision = "0021"
down_revision = "0020"

VIEW = """
CREATE OR REPLACE VIEW liq.assets AS
SELECT a.chain, a.address, a.symbol, a.name, a.decimals, kin.family, kin.relation,
       CASE WHEN EXISTS (
           SELECT FROM ledger.price p
           WHERE p.asset = a.address AND p.trust = 'governed' AND p.source <> 'par'
             AND ledger.chain_of(p.venue) = a.chain
       ) THEN 'governed' ELSE 'unlisted' END AS trust,
       a.symbol_raw, a.name_raw, coalesce(share.underlying, said.value) AS underlying,
       share.shares_raw, share.assets_raw, share.block_number AS rate_block
FROM ledger.asset a
LEFT JOIN ledger.asset_kin kin USING (chain, address)
LEFT JOIN ledger.fact said
    ON (said.chain, said.fact, said.subject) = (a.chain, 'underlying', a.address)
LEFT JOIN LATERAL (
    SELECT r.underlying, r.shares_raw, r.assets_raw, r.block_number FROM ledger.share_rate r
    WHERE (r.chain, r.asset) = (a.chain, a.address) ORDER BY r.block_number DESC LIMIT 1
) share ON true;
"""

COMMENTS = {
    "liq.assets.symbol_raw": "The bytes that the token gave as its symbol.",
    "liq.assets.name_raw": "The bytes that the token gave as its name.",
    "liq.assets.underlying": "What a share is a claim on; NULL of what is no share, and where"
    " nobody tells.",
    "liq.assets.shares_raw": "So many base units of it,",
    "liq.assets.assets_raw": "were worth so many of the underlying",
    "liq.assets.rate_block": "at the end of this block, the last that was asked about.",
    **dict.fromkeys(
        ("ledger.valuation.price_source", "liq.valuations.price_source"),
        "event, oracle, reference, feed_log, file:NAME, hyperliquid (the mark of a perpetual"
        " there), hyperliquid_fills (its last trade), or par: a dollar token is one dollar, of"
        " loans where the protocol itself counts it so.",
    ),
}


def upgrade() -> None:
    op.execute(VIEW)
    for column, text in COMMENTS.items():
        op.execute(f"COMMENT ON COLUMN {column} IS '{text}'")
