"""Prices that events carry: a source before all others."""

from alembic import op

revision = "0006"
down_revision = "0005"

UPGRADE = """
ALTER TABLE ledger.price DROP CONSTRAINT price_source_check;
ALTER TABLE ledger.price ADD CONSTRAINT price_source_check
    CHECK (source IN ('event', 'oracle', 'reference', 'feed_log'));

CREATE OR REPLACE FUNCTION liq.source_rank(price_source text) RETURNS int
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE price_source WHEN 'event' THEN 0 WHEN 'oracle' THEN 1 WHEN 'feed_log' THEN 2
    WHEN 'reference' THEN 3 WHEN 'par' THEN 5 ELSE 4 END;

COMMENT ON FUNCTION liq.source_rank(text) IS
    'The order in which sources of prices are preferred: the event itself, the protocol''s oracle,'
    ' a feed''s log, another protocol''s oracle, a file, par.';
COMMENT ON VIEW liq.lending_values IS
    'Lending liquidations in dollars, each basis from its best source: event, oracle, feed_log,'
    ' reference, file.';
"""

SOURCE = (
    "event: the liquidation''s own, or one beside it in its transaction. oracle: the protocol''s"
    " own. reference: another governed protocol''s. feed_log: a Chainlink answer as logged."
)
PRICE_SOURCE = (
    "event, oracle, reference, feed_log, file:NAME, hyperliquid (the mark of a perpetual there), or"
    " par: a dollar token is one dollar."
)
VIA = "Contracts that were asked, in order; of an event its emitter and the log that says so."
COMMENTS = {
    "ledger.price.source": SOURCE,
    "liq.prices.source": SOURCE,
    "ledger.price.via": VIA,
    "liq.prices.via": VIA,
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
    for column, text in COMMENTS.items():
        op.execute(f"COMMENT ON COLUMN {column} IS '{text}'")
