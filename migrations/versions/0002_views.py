"""The four levels and the other views that strangers may build on."""

from alembic import op

from indexer.store.comments import comment_on

revision = "0002"
down_revision = "0001"

VIEWS = r"""
CREATE FUNCTION liq.at_par(quote text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN quote IN ('USDC', 'USDT0', 'USDH', 'USDE');

CREATE FUNCTION liq.checked_gap(gap interval) RETURNS interval
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    IF gap <= interval '30 seconds' THEN
        RAISE EXCEPTION 'the gap must exceed the venue''s cooldown of 30 seconds, not %', gap
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN gap;
END $$;

CREATE VIEW liq.liquidations AS
SELECT venue || '/' || event_key || '/' || account AS key,
       venue, account, block_number, block_at, tx_hash, method, market, dex, quote, side,
       size, price, notional, mark_price, notional_mark,
       CASE WHEN liq.at_par(quote) THEN notional END AS notional_usd,
       CASE WHEN liq.at_par(quote) THEN notional_mark END AS notional_mark_usd,
       CASE WHEN liq.at_par(quote) THEN realised_pnl END AS realised_pnl_usd,
       position_before, position_after, is_full_close, fee, fee_asset, realised_pnl, margin_mode,
       order_id, trade_id, counterparty, counterparty_kind, liquidator,
       account_is_protocol_vault, dir_liquidated, dir_counterparty, legs_seen, decoder_version,
       event_key
FROM ledger.liquidation;

CREATE VIEW liq.orders AS
SELECT venue || '/' || account || '/' || market || '/' || coalesce(order_id, tx_hash) AS key,
       venue, account, market, coalesce(order_id, tx_hash) AS order_id,
       min(dex) AS dex, min(quote) AS quote, min(side) AS side,
       min(block_at) AS first_at, max(block_at) AS last_at,
       count(*) AS liquidations,
       array_agg(DISTINCT method ORDER BY method) AS methods,
       sum(size) AS size, sum(notional) / nullif(sum(size), 0) AS average_price,
       sum(notional_usd) AS notional_usd, sum(notional_mark_usd) AS notional_mark_usd,
       sum(realised_pnl_usd) AS realised_pnl_usd,
       (array_agg(position_before ORDER BY abs(position_before) DESC NULLS LAST))[1]
           AS position_before,
       (array_agg(position_after ORDER BY abs(position_after) NULLS LAST))[1] AS position_after,
       bool_or(account_is_protocol_vault) AS account_is_protocol_vault
FROM liq.liquidations
GROUP BY venue, account, market, coalesce(order_id, tx_hash);

CREATE VIEW liq.ledger_liquidations AS
SELECT venue || '/' || event_key || '/' || account AS key,
       venue, account, tx_hash, block_number, block_at, account_value, margin_mode,
       notional_mark, positions
FROM ledger.ledger_liquidation;

CREATE VIEW liq.actions AS
SELECT fills.*, said.margin_mode, said.equity, said.ledger_notional_mark
FROM (
    SELECT venue || '/' || account || '/' || tx_hash AS key,
           venue, account, tx_hash, min(block_number) AS block_number,
           min(block_at) AS first_at, max(block_at) AS last_at,
           count(*) AS liquidations,
           array_agg(DISTINCT market ORDER BY market) AS markets,
           array_agg(DISTINCT method ORDER BY method) AS methods,
           sum(notional_usd) AS notional_usd, sum(notional_mark_usd) AS notional_mark_usd,
           sum(realised_pnl_usd) AS realised_pnl_usd,
           bool_or(account_is_protocol_vault) AS account_is_protocol_vault
    FROM liq.liquidations
    GROUP BY venue, account, tx_hash
) fills
LEFT JOIN (
    SELECT venue, account, tx_hash, min(margin_mode) AS margin_mode,
           sum(account_value) AS equity, sum(notional_mark) AS ledger_notional_mark
    FROM ledger.ledger_liquidation
    GROUP BY venue, account, tx_hash
) said USING (venue, account, tx_hash);

CREATE FUNCTION liq.episodes(gap interval DEFAULT interval '900 seconds')
RETURNS TABLE (
    key text, venue text, account text, dex text, first_at timestamptz, last_at timestamptz,
    liquidations bigint, orders bigint, actions bigint, markets text[], methods text[],
    notional_usd numeric, notional_mark_usd numeric, long_usd numeric, short_usd numeric,
    realised_pnl_usd numeric, unpriced bigint, account_is_protocol_vault boolean
)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    WITH spaced AS (
        SELECT l.*, l.block_at - lag(l.block_at) OVER in_order > liq.checked_gap(gap) AS is_late
        FROM liq.liquidations l
        WINDOW in_order AS (PARTITION BY l.venue, l.account, l.dex ORDER BY l.block_at, l.event_key)
    ), numbered AS (
        SELECT s.*, count(*) FILTER (WHERE s.is_late) OVER (
            PARTITION BY s.venue, s.account, s.dex ORDER BY s.block_at, s.event_key
        ) AS episode
        FROM spaced s
    )
    SELECT n.venue || '/' || n.account || '/' || n.dex || '@'
               || to_char(min(n.block_at) AT TIME ZONE 'UTC', 'YYYYMMDD"T"HH24MISS.US'),
           n.venue, n.account, n.dex, min(n.block_at), max(n.block_at),
           count(*), count(DISTINCT (n.market, coalesce(n.order_id, n.tx_hash))),
           count(DISTINCT n.tx_hash),
           array_agg(DISTINCT n.market ORDER BY n.market),
           array_agg(DISTINCT n.method ORDER BY n.method),
           sum(n.notional_usd), sum(n.notional_mark_usd),
           sum(n.notional_usd) FILTER (WHERE n.side = 'long'),
           sum(n.notional_usd) FILTER (WHERE n.side = 'short'),
           sum(n.realised_pnl_usd), count(*) FILTER (WHERE n.notional_usd IS NULL),
           bool_or(n.account_is_protocol_vault)
    FROM numbered n
    GROUP BY n.venue, n.account, n.dex, n.episode;
END;

CREATE VIEW liq.account_days AS
SELECT venue, account, day, quote, fills, other_fills, volume, realised_pnl, largest_position,
       largest_position_market,
       CASE WHEN liq.at_par(quote) THEN largest_position END AS largest_position_usd
FROM ledger.account_day;

CREATE VIEW liq.undecoded AS
SELECT u.venue, u.event_key, u.block_number, u.block_at, u.reason, u.decoder_version
FROM ledger.undecoded u;

CREATE VIEW liq.coverage AS
SELECT venue, facts, lower(blocks) AS block_from, upper(blocks) AS block_to,
       lower(times) AS first_at, upper(times) AS last_at, verification, decoder_version,
       recorded_at
FROM ledger.coverage;

CREATE VIEW liq.missing AS
SELECT venue, facts, block_to AS block_from, next_from AS block_to, last_at AS after_at,
       next_at AS before_at
FROM (
    SELECT c.*, lead(block_from) OVER in_order AS next_from, lead(first_at) OVER in_order AS next_at
    FROM liq.coverage c
    WINDOW in_order AS (PARTITION BY venue, facts ORDER BY block_from)
) c
WHERE next_from > block_to;

CREATE VIEW liq.sources AS
SELECT uri, is_simulated FROM ledger.source;

CREATE VIEW liq.protocol_vaults AS
SELECT venue, account, name, valid_from, valid_to, source FROM ledger.protocol_vault;

CREATE VIEW liq.flags AS
SELECT venue, account, level, subject_key, rule, rule_version, value_usd, threshold_usd,
       occurred_at, lower(recorded_during) AS recorded_at
FROM ledger.flag
WHERE upper_inf(recorded_during);

CREATE VIEW liq.labels AS
SELECT venue, account, label, rule, rule_version, confidence, evidence,
       lower(valid_during) AS valid_from, upper(valid_during) AS valid_to,
       lower(recorded_during) AS recorded_at
FROM ledger.label
WHERE upper_inf(recorded_during);
"""

FUNCTION_COMMENTS = r"""
COMMENT ON FUNCTION liq.at_par(text) IS
    'Dollar tokens that this ledger counts as one dollar; any other quote has no dollar value.';
COMMENT ON FUNCTION liq.checked_gap(interval) IS 'The gap of an episode, refused at 30 s or less.';
COMMENT ON FUNCTION liq.episodes(interval) IS
    'Level 4: liquidations of one account on one dex with no gap longer than the one given.';
"""

VIEW_COMMENTS = {
    "liquidations": "Level 1: one row for each liquidation record, with its dollar value at par.",
    "orders": "Level 2: one forced order or takeover of an account in one market.",
    "actions": "Level 3: all that one trigger did to an account (account and hash), beside what the"
    " exchange's ledger said of it. Never add the two.",
    "ledger_liquidations": "The exchange ledger's own record of liquidations, valued at mark.",
    "account_days": "What every account traded on one UTC day, liquidated or not.",
    "undecoded": "Events with a liquidation mark that are no row, and why.",
    "coverage": "Which blocks were read whole, for which facts.",
    "missing": "Holes between covered blocks: data that was never read.",
    "sources": "Files and records that marked events were read from.",
    "protocol_vaults": "Accounts of the exchange itself.",
    "flags": "Sizes at or above a threshold, as of now.",
    "labels": "What we think of accounts, as of now.",
}

COLUMN_COMMENTS = {
    "key": "Key of the row; indexer explain takes that of a liquidation.",
    "notional_usd": "Execution notional in dollars, dollar tokens at par; NULL for other quotes.",
    "notional_mark_usd": "Mark notional in dollars, dollar tokens at par; NULL for other quotes.",
    "realised_pnl_usd": "Realised profit or loss in dollars, dollar tokens at par.",
    "first_at": "Time of the first block.",
    "last_at": "Time of the last block.",
    "liquidations": "Number of liquidation records in it.",
    "methods": "Methods that occur in it.",
    "markets": "Markets that occur in it.",
    "average_price": "Notional divided by size.",
    "equity": "Account value that the exchange's ledger states; NULL where it states none.",
    "ledger_notional_mark": "Mark notional that the exchange's ledger states, a check on ours.",
    "largest_position_usd": "Largest position in dollars, dollar tokens at par.",
    "block_from": "First height of the range.",
    "block_to": "First height after the range.",
    "after_at": "Time of the last block read before the hole.",
    "before_at": "Time of the first block read after the hole.",
    "valid_from": "Start of validity, in chain time.",
    "valid_to": "End of validity, in chain time.",
    "recorded_at": "When we wrote it down.",
    "order_id": "The venue's order id; the action's hash where no leg showed the id.",
}


def upgrade() -> None:
    op.execute(VIEWS)
    op.execute(FUNCTION_COMMENTS)
    from_tables = dict(
        op.get_bind()
        .exec_driver_sql(
            "SELECT attname, min(col_description(attrelid, attnum)) FROM pg_attribute"
            " JOIN pg_class ON pg_class.oid = attrelid"
            " WHERE relnamespace = 'ledger'::regnamespace AND attnum > 0 GROUP BY attname"
        )
        .fetchall()
    )
    for view, text in VIEW_COMMENTS.items():
        columns = from_tables | COLUMN_COMMENTS
        comment_on(op.get_bind(), "VIEW", f"liq.{view}", text, columns)
