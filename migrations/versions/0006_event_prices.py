"""Prices that events carry, a source before all others, and dollars that a protocol counts, one
behind all. And who vouches for the marks of a dex that anybody deployed."""

from alembic import op

revision = "0006"
down_revision = "0005"

UPGRADE = """
ALTER TABLE ledger.price DROP CONSTRAINT price_source_check;
ALTER TABLE ledger.price ADD CONSTRAINT price_source_check
    CHECK (source IN ('event', 'oracle', 'reference', 'feed_log', 'par'));

CREATE OR REPLACE FUNCTION liq.source_rank(price_source text) RETURNS int
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE price_source WHEN 'event' THEN 0 WHEN 'oracle' THEN 1 WHEN 'feed_log' THEN 2
    WHEN 'reference' THEN 3 WHEN 'par' THEN 5 ELSE 4 END;

COMMENT ON FUNCTION liq.source_rank(text) IS
    'The order in which sources of prices are preferred: the event itself, the protocol''s oracle,'
    ' a feed''s log, another protocol''s oracle, a file, par.';
COMMENT ON VIEW liq.lending_values IS
    'Lending liquidations in dollars, each basis from its best source: event, oracle, feed_log,'
    ' reference, file, par.';
"""

# Of a coin with a colon, as xyz:TSLA in 1/xyz:TSLA/2, the dex's deployer sets the mark. A dollar
# that a protocol counts is no oracle's price.
VIEWS = """
CREATE OR REPLACE VIEW liq.valuations AS
SELECT v.venue || '/' || v.event_key || '/' || v.account AS key,
       CASE WHEN v.fill_usd IS NULL THEN 'lending' ELSE 'perp' END AS kind,
       v.venue, split_part(v.venue, '.', 1) AS protocol,
       coalesce(nullif(ledger.chain_of(v.venue), ''), v.venue) AS chain,
       v.account, v.event_key, v.block_at, b.basis, v.price_source, b.usd, b.price, b.quality,
       b.trust, b.as_of_block, b.as_of_at
FROM ledger.valuation v
CROSS JOIN LATERAL (
    SELECT CASE WHEN strpos(split_part(v.event_key, '/', 2), ':') > 0 THEN 'market'
           ELSE v.quote_trust END AS trust
) mark
CROSS JOIN LATERAL (VALUES
    ('repaid', repaid_usd, repaid_price, repaid_quality, repaid_trust, repaid_as_of_block,
     repaid_as_of_at),
    ('seized', seized_usd, seized_price, seized_quality, seized_trust, seized_as_of_block,
     seized_as_of_at),
    ('seized_net', seized_net_usd, seized_price, seized_quality, seized_trust, seized_as_of_block,
     seized_as_of_at),
    ('bonus', bonus_usd, NULL, bonus_quality, bonus_trust,
     least(repaid_as_of_block, seized_as_of_block), least(repaid_as_of_at, seized_as_of_at)),
    ('bad_debt', bad_debt_usd, bad_debt_price, bad_debt_quality, bad_debt_trust,
     bad_debt_as_of_block, bad_debt_as_of_at),
    ('fill', fill_usd, quote_price, quote_quality, quote_trust, NULL, quote_as_of_at),
    ('mark', mark_usd, quote_price, quote_quality, mark.trust, NULL, quote_as_of_at),
    ('bankruptcy', bankruptcy_usd, quote_price, quote_quality, mark.trust, NULL, quote_as_of_at),
    ('margin_lost', margin_lost_usd, quote_price, quote_quality, mark.trust, NULL,
     quote_as_of_at),
    ('realised', realised_usd, quote_price, quote_quality, quote_trust, NULL, quote_as_of_at)
) b (basis, usd, price, quality, trust, as_of_block, as_of_at)
WHERE b.usd IS NOT NULL;

CREATE OR REPLACE VIEW liq.assets AS
SELECT a.chain, a.address, a.symbol, a.name, a.decimals, kin.family, kin.relation,
       CASE WHEN EXISTS (
           SELECT FROM ledger.price p
           WHERE p.asset = a.address AND p.trust = 'governed' AND p.source <> 'par'
             AND ledger.chain_of(p.venue) = a.chain
       ) THEN 'governed' ELSE 'unlisted' END AS trust
FROM ledger.asset a LEFT JOIN ledger.asset_kin kin USING (chain, address);
"""

SOURCE = (
    "event: the liquidation''s own, or one beside it in its transaction. oracle: the protocol''s"
    " own. reference: another governed protocol''s. feed_log: a Chainlink answer as logged. par:"
    " one dollar, as the protocol itself counts its coin."
)
PRICE_SOURCE = (
    "event, oracle, reference, feed_log, file:NAME, hyperliquid (the mark of a perpetual there), or"
    " par: a dollar token is one dollar, of loans where the protocol itself counts it so."
)
VIA = (
    "Contracts that were asked, in order; of an event its emitter and the log that says so; of par"
    " where the protocol says so."
)
TRUST = (
    "governed: governance chose asset and oracle. market: whoever opened the market did, or"
    " deployed the dex whose mark it is; in no default total."
)
QUALITY = (
    "A: carried by the event, or the oracle at just that position. A-: the oracle at the end of a"
    " block in which it moved. B: a feed''s log, another protocol''s oracle, or a dollar as the"
    " protocol counts it. B-: by another''s oracle, and it moved in the block. C: imported."
)
COMMENTS = {
    "ledger.price.quality": QUALITY,
    "liq.prices.quality": QUALITY,
    "liq.valuations.quality": QUALITY,
    "ledger.price.source": SOURCE,
    "liq.prices.source": SOURCE,
    "ledger.price.via": VIA,
    "liq.prices.via": VIA,
    "liq.valuations.trust": TRUST,
    **{
        f"{table}.price_source": PRICE_SOURCE
        for table in (
            "ledger.valuation", "ledger.unvalued", "liq.valuations", "liq.unvalued",
            "liq.unvalued_reasons",
        )
    },
}  # fmt: skip


def upgrade() -> None:
    op.execute(UPGRADE)
    op.execute(VIEWS)
    for column, text in COMMENTS.items():
        op.execute(f"COMMENT ON COLUMN {column} IS '{text}'")
