"""The invariants of dYdX v4: one event holds both sides of a fill, so that each row can be held
against the text that it was read from."""

from psycopg import sql

# What cannot be read as these has no row: NULL, and no error, whatever somebody published.
STAGES = (
    sql.SQL(
        """
        CREATE TEMP TABLE audited_match ON COMMIT DROP AS
        SELECT e.event_key, e.block_at, told.*,
               EXISTS (SELECT FROM ledger.raw_event o
                       WHERE (o.chain, o.event_key)
                           = (e.chain, e.event_key || '/final_settlement')) AS is_settlement
        FROM ledger.raw_event e
        CROSS JOIN LATERAL (
            SELECT CASE WHEN position('\\u0000' IN e.body) = 0
                        THEN e.body::jsonb -> 'attributes' END
        ) said (attributes)
        CROSS JOIN LATERAL (
            SELECT jsonb_object_agg(one ->> 'key', one ->> 'value')
            FROM jsonb_array_elements(
                CASE jsonb_typeof(attributes) WHEN 'array' THEN attributes ELSE '[]' END
            ) one
            WHERE one ->> 'key' IS NOT NULL
        ) named (of)
        CROSS JOIN LATERAL (
            SELECT jsonb_object_agg(key, value::numeric) FROM jsonb_each_text(named.of)
            WHERE value ~ '^-?[0-9]{{1,31}}$'
        ) counted (n)
        CROSS JOIN LATERAL (
            SELECT lower(of ->> 'taker_subaccount') || ':' || (of ->> 'taker_subaccount_number'),
                   lower(of ->> 'maker_subaccount') || ':' || (of ->> 'maker_subaccount_number'),
                   (of ->> 'is_deleverage') = 'true',
                   (n ->> 'taker_perpetual_quantums_delta_base_quantums')::numeric,
                   (n ->> 'maker_perpetual_quantums_delta_base_quantums')::numeric,
                   (n ->> 'taker_quote_balance_delta_quote_quantums')::numeric
                       + (n ->> 'taker_order_fee_quote_quantums')::numeric
                       + coalesce((n ->> 'taker_builder_fee_quantums')::numeric, 0)
                       + (n ->> 'insurance_fund_delta_quote_quantums')::numeric,
                   (n ->> 'maker_quote_balance_delta_quote_quantums')::numeric
                       + (n ->> 'maker_order_fee_quote_quantums')::numeric
                       + coalesce((n ->> 'maker_builder_fee_quantums')::numeric, 0),
                   (n ->> 'insurance_fund_delta_quote_quantums')::numeric
                       + (n ->> 'taker_order_fee_quote_quantums')::numeric
        ) told (taker, maker, is_deleverage, taker_base, maker_base, taker_quote, maker_quote, fee)
        WHERE chain = %(venue)s AND event_key ~ '^[0-9]+/[^/]+/[0-9]+$' AND {window}
        """
    ),
    sql.SQL("ANALYZE audited_match"),
    sql.SQL(
        """
        CREATE TEMP TABLE audited_row ON COMMIT DROP AS
        SELECT * FROM ledger.liquidation WHERE venue = %(venue)s AND {window}
        """
    ),
    sql.SQL("ANALYZE audited_row"),
)

_NETS_TO_ZERO = sql.SQL(
    """
    SELECT event_key, block_at, block_at,
           CASE WHEN taker_base + maker_base = 0 AND taker_quote + maker_quote = 0 THEN NULL
                ELSE format('base %%s and %%s, quote without fees %%s and %%s',
                            taker_base, maker_base, taker_quote, maker_quote) END
    FROM audited_match JOIN audited_row USING (event_key, block_at)
    """
)

# A market's quantums never change: whatever they are, they are the same power of ten in all rows.
_ROW_OF_LEGS = sql.SQL(
    """
    SELECT event_key || '/' || account, block_at, block_at,
           CASE WHEN taker IS NULL THEN 'its event is not stored' ELSE nullif(concat_ws('; ',
               CASE WHEN taker <> account THEN format('its event names %%s', taker) END,
               CASE WHEN maker <> counterparty
                    THEN format('counterparty %%s, its event names %%s', counterparty, maker) END,
               CASE WHEN (taker_base < 0) <> (side = 'long')
                    THEN format('side %%s, its event says the other', side) END,
               CASE WHEN is_deleverage <> (method = 'adl_of_user')
                    THEN format('method %%s, its event says another', method) END,
               CASE WHEN notional * 1000000 <> abs(taker_quote)
                    THEN format('notional %%s, its event moved %%s', notional, taker_quote) END,
               CASE WHEN fee * 1000000 <> told_fee
                    THEN format('fee %%s, its event says %%s', fee, told_fee) END,
               CASE WHEN scale <> usual OR scale IS NULL
                    THEN format('size %%s for %%s quantums', size, taker_base) END,
               CASE WHEN is_settlement THEN 'a final settlement' END
           ), '') END
    FROM (
        SELECT *, abs(taker_base) / nullif(size, 0) AS scale,
               first_value(abs(taker_base) / nullif(size, 0)) OVER (
                   PARTITION BY market ORDER BY block_number, event_key
               ) AS usual
        FROM audited_row r
        LEFT JOIN LATERAL (
            SELECT taker, maker, is_deleverage, taker_base, taker_quote, is_settlement,
                   match.fee AS told_fee
            FROM audited_match match WHERE match.event_key = r.event_key
        ) match ON true
    ) rows
    """
)

_TRADE_HAS_ROW = sql.SQL(
    """
    SELECT match.event_key, match.block_at, match.block_at,
           CASE WHEN r.event_key IS NULL AND u.event_key IS NULL AND NOT is_settlement
                THEN 'neither a liquidation nor undecoded' END
    FROM audited_match match
    LEFT JOIN audited_row r USING (event_key)
    LEFT JOIN ledger.undecoded u ON (u.venue, u.event_key) = (%(venue)s, match.event_key)
    """
)

INVARIANTS = {
    "nets_to_zero": _NETS_TO_ZERO,
    "row_of_legs": _ROW_OF_LEGS,
    "trade_has_row": _TRADE_HAS_ROW,
}
