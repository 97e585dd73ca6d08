"""Open positions of watched accounts, as venues stated them."""

from alembic import op

from indexer.store.comments import comment_on

revision = "0009"
down_revision = "0008"

TABLES = """
CREATE TABLE ledger.account_state (
    venue text NOT NULL,
    account text NOT NULL CHECK (account = lower(account)),
    dex text NOT NULL,
    observed_at timestamptz NOT NULL,
    block_number bigint,
    quote text,
    equity numeric,
    margin_used numeric,
    maintenance_margin numeric,
    withdrawable numeric,
    positions int NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account, venue, dex, observed_at)
);

CREATE TABLE ledger.position_state (
    venue text NOT NULL,
    account text NOT NULL CHECK (account = lower(account)),
    dex text NOT NULL,
    market text NOT NULL,
    observed_at timestamptz NOT NULL,
    side text CHECK (side IN ('long', 'short')),
    size numeric,
    entry_price numeric,
    mark_price numeric,
    liquidation_price numeric,
    value numeric,
    unrealised numeric,
    leverage numeric,
    margin_mode text CHECK (margin_mode IN ('cross', 'isolated')),
    margin_used numeric,
    debt numeric,
    health_factor numeric,
    liquidation_threshold numeric,
    distance numeric,
    PRIMARY KEY (account, venue, dex, market, observed_at),
    FOREIGN KEY (account, venue, dex, observed_at) REFERENCES ledger.account_state
);

CREATE TABLE ledger.watched_position (
    account text NOT NULL,
    venue text NOT NULL,
    dex text NOT NULL,
    market text NOT NULL,
    PRIMARY KEY (account, venue, dex, market)
);
"""

# Coverage ends with a block and goes on with the next: of its times only the holes tell anything.
FUNCTIONS = """
CREATE FUNCTION ledger.has_read(of_venue text, low timestamptz, high timestamptz) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT coalesce(min(c.first_at) <= low AND max(c.last_at) >= high, false)
        AND NOT EXISTS (
            SELECT FROM liq.missing m
            WHERE m.venue = of_venue AND m.facts = 'liquidations'
              AND m.after_at < high AND m.before_at > low
        )
    FROM liq.coverage c
    WHERE c.venue = of_venue AND c.facts = 'liquidations';
END;

CREATE FUNCTION ledger.has_read(of_venue text, after_block bigint, to_block bigint)
RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT coalesce(range_agg(c.blocks) @> int8range(after_block, to_block, '(]'), false)
    FROM ledger.coverage c
    WHERE c.venue = of_venue AND c.facts = 'liquidations';
END;
"""

# A perpetual's times are in milliseconds, cut, and those of its fills are finer.
VIEWS = """
CREATE VIEW liq.positions_now AS
SELECT p.venue, p.account, p.dex, p.market,
       CASE WHEN gone.observed_at IS NULL AND p.observed_at < now() - interval '1 hour' THEN 'stale'
            WHEN gone.observed_at IS NULL THEN 'open'
            WHEN fallen.was_flat THEN 'liquidated'
            WHEN fallen.is_open_what_remained OR NOT fallen.has_read_all THEN 'gone'
            ELSE 'closed' END AS status,
       p.observed_at, gone.observed_at AS gone_at, fallen.liquidations,
       p.side, p.size, p.entry_price, p.mark_price, p.liquidation_price,
       p.value, p.unrealised, p.leverage, p.margin_mode, p.margin_used,
       p.debt, p.health_factor, p.liquidation_threshold,
       p.distance, 0.05 AS at_risk_below,
       gone.observed_at IS NULL AND p.distance < 0.05 AS is_at_risk,
       seen.quote, seen.equity,
       CASE WHEN dollars.are_quoted THEN p.value END AS value_usd,
       CASE WHEN dollars.are_quoted THEN p.unrealised END AS unrealised_usd,
       CASE WHEN dollars.are_quoted THEN p.debt END AS debt_usd,
       CASE WHEN dollars.are_quoted THEN seen.equity END AS equity_usd,
       ARRAY(
           SELECT DISTINCT l.label FROM ledger.label l
           WHERE l.account = p.account AND l.venue = p.venue
             AND upper_inf(l.recorded_during) AND l.valid_during @> now()
           ORDER BY l.label
       ) AS labels
FROM ledger.watched_position w
CROSS JOIN LATERAL (
    SELECT * FROM ledger.position_state s
    WHERE (s.account, s.venue, s.dex, s.market) = (w.account, w.venue, w.dex, w.market)
    ORDER BY s.observed_at DESC LIMIT 1
) p
JOIN ledger.account_state seen
    ON (seen.account, seen.venue, seen.dex, seen.observed_at)
     = (p.account, p.venue, p.dex, p.observed_at)
CROSS JOIN LATERAL (
    SELECT coalesce(seen.quote = 'usd' OR liq.at_par(seen.quote), false) AS are_quoted
) dollars
LEFT JOIN LATERAL (
    SELECT a.observed_at, a.block_number FROM ledger.account_state a
    WHERE (a.account, a.venue, a.dex) = (p.account, p.venue, p.dex)
      AND a.observed_at > p.observed_at
    ORDER BY a.observed_at LIMIT 1
) gone ON true
LEFT JOIN LATERAL (
    SELECT count(*) AS liquidations,
           coalesce(bool_or(was_flat), false) AS was_flat,
           coalesce(bool_or(was_flat IS NULL), false) AS is_open_what_remained,
           CASE WHEN gone.block_number IS NULL
               THEN ledger.has_read(p.venue, p.observed_at, gone.observed_at)
               ELSE ledger.has_read(p.venue, seen.block_number, gone.block_number)
           END AS has_read_all
    FROM (
        SELECT l.is_full_close
        FROM ledger.liquidation l
        WHERE (l.account, l.venue, l.market) = (p.account, p.venue, p.market)
          AND date_trunc('milliseconds', l.block_at) > p.observed_at
          AND date_trunc('milliseconds', l.block_at) <= gone.observed_at
        UNION ALL
        SELECT CASE WHEN bool_or(l.bad_debt_raw > 0) THEN true END
        FROM ledger.lending_liquidation l
        WHERE (l.account, l.venue, l.market) = (p.account, p.venue, p.market)
          AND l.block_number > seen.block_number AND l.block_number <= gone.block_number
        GROUP BY l.block_number, split_part(l.event_key, '/', 1), split_part(l.event_key, '/', 2)
    ) between_the_two (was_flat)
) fallen ON gone.observed_at IS NOT NULL;

CREATE VIEW liq.whales_under_water AS
SELECT venue, account, dex, market, labels, side, size, entry_price, mark_price,
       liquidation_price, leverage, unrealised, unrealised_usd, value_usd, equity_usd, distance,
       is_at_risk, quote, observed_at
FROM liq.positions_now
WHERE status = 'open' AND unrealised < 0
ORDER BY unrealised_usd NULLS LAST, venue, account, dex, market;

CREATE VIEW liq.closest_to_liquidation AS
SELECT venue, account, dex, market, labels, distance, at_risk_below, is_at_risk, side, size,
       mark_price, liquidation_price, leverage, value_usd, debt_usd, health_factor,
       unrealised_usd, equity_usd, quote, observed_at
FROM liq.positions_now
WHERE status = 'open' AND distance IS NOT NULL
ORDER BY distance, venue, account, dex, market;
"""

FUNCTION_COMMENTS = """
COMMENT ON FUNCTION ledger.has_read(text, timestamptz, timestamptz) IS
    'Whether liquidations of a venue were read without a hole from one time to another.';
COMMENT ON FUNCTION ledger.has_read(text, bigint, bigint) IS
    'Whether liquidations of a venue were read in each block after one, up to another.';
"""

TABLE_COMMENTS = {
    "account_state": "What a venue stated of a watched account at a moment. Each observation is"
    " whole: a position that is not in it did not exist. Rows are only added.",
    "position_state": "Positions of an account at a moment, perpetuals and loans; what the venue"
    " does not state is NULL.",
    "watched_position": "Each position that was ever observed, once, to look its latest state up.",
}
VIEW_COMMENTS = {
    "positions_now": "The latest that is known of each position of watched accounts, and what"
    " became of it.",
    "whales_under_water": "Open positions of watched accounts that stand at a loss, the largest"
    " first. A loan has no profit or loss and is not among them.",
    "closest_to_liquidation": "Open positions of watched accounts whose distance to liquidation is"
    " known, the closest first; a loan whose collateral is gone has none.",
}
COMMENTS = {
    "venue": "hyperliquid, or a protocol on a chain.",
    "account": "Address of the account, lower case.",
    "dex": "Perp dex: empty for the main one. Of loans the pool.",
    "market": "Coin as published, or the pool of a loan.",
    "observed_at": "The moment that the venue states, UTC; of a loan the time of the block.",
    "block_number": "The block at whose end a contract was asked; NULL where the venue names none.",
    "recorded_at": "When the row was written.",
    "quote": "Token that money is in; usd where a protocol counts in dollars; NULL where unknown.",
    "equity": "What the account is worth there: with all profit and loss; of loans collateral less"
    " debt.",
    "margin_used": "Margin that positions bind.",
    "maintenance_margin": "Below this equity cross positions are liquidated, where stated.",
    "withdrawable": "What could be taken out, where stated.",
    "positions": "Number of positions; 0 is an observation too.",
    "side": "long or short; NULL for a loan.",
    "size": "Absolute size, in units of the market.",
    "entry_price": "Average entry price, as stated.",
    "mark_price": "Mark price: the stated value over the size.",
    "liquidation_price": "Mark price at which the venue would liquidate, all others unchanged; NULL"
    " where it states none, as for what no price can liquidate.",
    "value": "Size times mark price; of a loan its collateral.",
    "unrealised": "Profit or loss at the mark price; NULL for loans.",
    "leverage": "The leverage that the account has set.",
    "margin_mode": "cross or isolated.",
    "debt": "Debt of a loan.",
    "health_factor": "Of a loan: below 1 it can be liquidated.",
    "liquidation_threshold": "Share of the collateral that the debt may reach.",
    "distance": "Share of the mark price, or of the collateral, that may be lost until liquidation;"
    " 0 or less: it is due. NULL: no such price is known.",
    "at_risk_below": "The distance below which is_at_risk says so.",
    "is_at_risk": "The position was there when last looked at, and its distance is below"
    " at_risk_below. At risk is not liquidated.",
    "status": "open: there when last looked at. stale: as open, but that is over an hour ago."
    " liquidated: a stored liquidation between two observations left nothing. closed: not there any"
    " more, and the stored liquidations are whole and did not end it. gone: not there any more, and"
    " the ledger cannot tell why.",
    "gone_at": "The first observation without it; observed_at is the last with it.",
    "liquidations": "Stored liquidations of it between the two; NULL while there is only one.",
    "value_usd": "The value in dollars, dollar tokens at par.",
    "unrealised_usd": "Profit or loss in dollars, dollar tokens at par.",
    "debt_usd": "The debt in dollars.",
    "equity_usd": "The equity in dollars, dollar tokens at par.",
    "labels": "What we think of the account now.",
}


def upgrade() -> None:
    for statements in (TABLES, FUNCTIONS, VIEWS, FUNCTION_COMMENTS):
        op.execute(statements)
    for table, text in TABLE_COMMENTS.items():
        comment_on(op.get_bind(), "TABLE", f"ledger.{table}", text, COMMENTS)
    for view, text in VIEW_COMMENTS.items():
        comment_on(op.get_bind(), "VIEW", f"liq.{view}", text, COMMENTS)
