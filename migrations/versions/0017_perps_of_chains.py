"""Perpetuals of chains: their liquidations stand in the table of all perpetuals, go into the
journal with their blocks, and leave open what no event tells; what each venue trades in.
"""

from alembic import op

from indexer.store.comments import comment_on

revision = "0017"
down_revision = "0016"

TABLES = """
ALTER TABLE ledger.liquidation
    ALTER COLUMN side DROP NOT NULL,
    ALTER COLUMN size DROP NOT NULL,
    ALTER COLUMN price DROP NOT NULL,
    ALTER COLUMN notional DROP NOT NULL,
    ADD COLUMN notional_entry numeric;

CREATE TABLE ledger.orphan_liquidation (reorg_id bigint NOT NULL REFERENCES ledger.reorg,
    LIKE ledger.liquidation, PRIMARY KEY (reorg_id, account, venue, event_key));

CREATE TABLE ledger.venue (
    venue text PRIMARY KEY,
    instrument text NOT NULL CHECK (instrument IN ('lending', 'perp'))
);
INSERT INTO ledger.venue
SELECT DISTINCT venue, 'lending' FROM ledger.coverage WHERE ledger.chain_of(venue) <> '';
"""

FUNCTIONS = """
CREATE OR REPLACE FUNCTION liq.at_par(quote text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN quote IN ('USDC', 'USDT0', 'USDH', 'USDE', 'usd', 'sUSD', 'DAI', 'USDT');
"""

VIEWS = """
CREATE OR REPLACE VIEW liq.liquidations AS
SELECT venue || '/' || event_key || '/' || account AS key,
       venue, account, block_number, block_at, tx_hash, method, market, dex, quote, side,
       size, price, notional, mark_price, notional_mark,
       CASE WHEN liq.at_par(quote) THEN notional END AS notional_usd,
       CASE WHEN liq.at_par(quote) THEN notional_mark END AS notional_mark_usd,
       CASE WHEN liq.at_par(quote) THEN realised_pnl END AS realised_pnl_usd,
       position_before, position_after, is_full_close, fee, fee_asset, realised_pnl, margin_mode,
       order_id, trade_id, counterparty, counterparty_kind, liquidator,
       account_is_protocol_vault, dir_liquidated, dir_counterparty, legs_seen, decoder_version,
       event_key, notional_entry,
       coalesce(nullif(ledger.chain_of(venue), ''), venue) AS chain,
       (SELECT l.block_number <= stream.finalized_block FROM ledger.stream
        WHERE stream.chain = ledger.chain_of(l.venue)) IS NOT FALSE AS is_final
FROM ledger.liquidation l;

CREATE OR REPLACE VIEW liq.reorgs AS
SELECT reorg_id, chain, ancestor, old_tip, old_tip - ancestor AS depth, found_by, why, found_at,
       (SELECT count(*) FROM ledger.orphan_lending_liquidation o
        WHERE o.reorg_id = reorg.reorg_id)
       + (SELECT count(*) FROM ledger.orphan_liquidation o
          WHERE o.reorg_id = reorg.reorg_id) AS liquidations
FROM ledger.reorg;

CREATE OR REPLACE VIEW liq.orphaned_liquidations AS
SELECT reorg_id, reorg.found_at, venue || '/' || event_key || '/' || account AS key, venue,
       account, block_number, block_at, method, market, liquidator, repaid_asset, repaid_raw,
       seized_asset, seized_raw, side, size, price, notional, quote
FROM (
    SELECT reorg_id, venue, event_key, account, block_number, block_at, method, market, liquidator,
           repaid_asset, repaid_raw, seized_asset, seized_raw, NULL::text AS side,
           NULL::numeric AS size, NULL::numeric AS price, NULL::numeric AS notional,
           NULL::text AS quote
    FROM ledger.orphan_lending_liquidation
    UNION ALL
    SELECT reorg_id, venue, event_key, account, block_number, block_at, method, market, liquidator,
           NULL, NULL::numeric(78, 0), NULL, NULL::numeric(78, 0), side, size, price, notional,
           quote
    FROM ledger.orphan_liquidation
) orphans JOIN ledger.reorg USING (reorg_id);
"""

TABLE_COMMENTS = {
    "venue": "What each venue of a chain that was ever read trades in.",
    "orphan_liquidation": "Liquidations of perpetuals that a reorg or a check took back.",
}
OF_VENUE = {"venue": "A protocol on a chain.", "instrument": "lending or perp."}
CHANGED = {
    "ledger.liquidation": {
        "side": "Side of the position that was liquidated; NULL where no event tells.",
        "size": "Executed size, in units of the market; NULL where no event tells.",
        "price": "Execution price; the bankruptcy price in a backstop takeover; NULL where no event"
        " tells.",
        "notional": "Size times execution price, in the quote token; NULL where no event tells.",
        "notional_entry": "What was closed at the price of its opening, in the quote token.",
        "market": "As the venue names it, e.g. BTC, xyz:TSLA; on a chain the contract or number of"
        " the market, with a colon and what it is the price of.",
        "event_key": "block/coin/trade id, or on a chain transaction/log; with the account it names"
        " the liquidation.",
        "quote": "Token that prices and notionals are in, usd where they are dollars and no"
        " token''s; NULL where unknown.",
        "counterparty_kind": "maker, protocol_vault, adl_winner, liquidator or pool.",
        "liquidator": "Who took the position over, or whose call closed it; NULL when the order"
        " book did.",
    },
    "liq.liquidations": {
        "notional_entry": "What was closed at the price of its opening, in the quote token.",
        "chain": "The chain that it happened on.",
        "is_final": "Its block can not be replaced any more.",
    },
    "liq.orphaned_liquidations": {
        "side": "Side of a perpetual''s position.",
        "size": "Size of a perpetual, in units of its market.",
        "price": "Execution price of a perpetual.",
        "notional": "Notional of a perpetual, in its quote token.",
        "quote": "Token that price and notional of a perpetual are in.",
    },
}
# A journal's columns say what those of its table say.
AS_ITS_TABLE = """
DO $$
DECLARE one record;
BEGIN
    FOR one IN
        SELECT attname, coalesce(col_description(attrelid, attnum), '') AS says
        FROM pg_attribute
        WHERE attrelid = 'ledger.liquidation'::regclass AND attnum > 0 AND NOT attisdropped
    LOOP
        EXECUTE format('COMMENT ON COLUMN ledger.orphan_liquidation.%I IS %L',
                       one.attname, one.says);
    END LOOP;
END $$;
COMMENT ON COLUMN ledger.orphan_liquidation.reorg_id IS 'What took it back: liq.reorgs.';
"""


def upgrade() -> None:
    for statements in (TABLES, FUNCTIONS, VIEWS):
        op.execute(statements)
    for relation, columns in CHANGED.items():
        for column, text in columns.items():
            op.execute(f"COMMENT ON COLUMN {relation}.{column} IS '{text}'")
    for table, text in TABLE_COMMENTS.items():
        op.execute(f"COMMENT ON TABLE ledger.{table} IS '{text}'")
    comment_on(op.get_bind(), "TABLE", "ledger.venue", TABLE_COMMENTS["venue"], OF_VENUE)
    op.get_bind().exec_driver_sql(AS_ITS_TABLE.replace("%", "%%"))
