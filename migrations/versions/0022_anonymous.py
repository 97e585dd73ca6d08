"""Liquidations whose account nobody tells: beside the others, never among them.

What counts accounts, labels them or adds up what each lost would take all of them for one, or each
for somebody of its own. So they have a table of their own, and say what they lack.
"""

from alembic import op

from indexer.store.comments import comment_on

revision = "0022"
down_revision = "0021"

TABLES = """
CREATE TABLE ledger.anonymous_liquidation (
    venue text NOT NULL,
    event_key text COLLATE "C" NOT NULL,
    block_number bigint,
    block_at timestamptz NOT NULL,
    tx_hash text,
    method text,
    market text NOT NULL,
    quote text,
    side text CHECK (side IN ('long', 'short')),
    size numeric NOT NULL,
    price numeric NOT NULL,
    notional numeric NOT NULL,
    trade_id text,
    lacks text[] NOT NULL CHECK ('account' = ANY(lacks)),
    completeness text NOT NULL CHECK (completeness IN ('sample', 'lower bound')),
    decoder_version int NOT NULL,
    PRIMARY KEY (venue, event_key),
    CHECK ((method IS NULL) = ('method' = ANY(lacks))),
    CHECK ((side IS NULL) = ('side' = ANY(lacks)))
);
CREATE INDEX anonymous_liquidation_time ON ledger.anonymous_liquidation (venue, block_at);

CREATE VIEW liq.anonymous_liquidations AS
SELECT a.venue || '/' || a.event_key AS key, a.venue, a.block_number, a.block_at, a.tx_hash,
       a.method, a.market, a.quote, a.side, a.size, a.price, a.notional,
       CASE WHEN liq.at_par(a.quote) THEN a.notional END AS notional_usd, a.trade_id, a.lacks,
       a.completeness, source.uri AS source, a.decoder_version, a.event_key
FROM ledger.anonymous_liquidation a
JOIN ledger.raw_event raw ON (raw.chain, raw.event_key) = (a.venue, a.event_key)
JOIN ledger.source USING (source_id);
"""

COMMENTS = {
    "key": "Key of the row, unique; for `indexer explain`.",
    "venue": "Who published it, e.g. paradex.",
    "event_key": "What the venue tells its trades apart by.",
    "block_number": "Height; NULL where the venue names none.",
    "block_at": "When it happened, as the venue says, UTC.",
    "tx_hash": "Transaction; NULL where the venue names none.",
    "method": "As of liq.liquidations; NULL where the venue does not say how.",
    "market": "As the venue names it.",
    "quote": "Token that price and notional are in, usd where they are dollars and no token's; NULL"
    " where unknown.",
    "side": "Side of the position that was liquidated; NULL where nothing tells.",
    "size": "Executed size, in units of the market.",
    "price": "Execution price; of an order that met several, their average.",
    "notional": "Size times price.",
    "notional_usd": "The same in US dollars, a token that is meant to be one taken at par; NULL of"
    " others.",
    "trade_id": "The venue's number of the trade; NULL where it gives none.",
    "lacks": "What the venue does not tell: account, and method or side where they are NULL.",
    "completeness": "sample: there may be others. lower bound: the venue says that it leaves out"
    " others.",
    "source": "Who was asked, or listened to.",
    "decoder_version": "Version of the rules that made the row.",
}
TEXT = (
    "Liquidations whose account the venue does not tell. In no total, report or label: who adds"
    " them up does so knowingly."
)


def upgrade() -> None:
    bind = op.get_bind()
    bind.exec_driver_sql(TABLES)
    comment_on(bind, "TABLE", "ledger.anonymous_liquidation", TEXT, COMMENTS)
    comment_on(bind, "VIEW", "liq.anonymous_liquidations", TEXT, COMMENTS)
