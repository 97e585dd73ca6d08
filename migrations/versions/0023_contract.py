"""What strangers build on, whole: perpetuals and loans in one view with names and dollars, its
levels, sums of hours and days, accounts; and the version of all of it.

A view over everything can be asked for a window where its rows stand for themselves, and where it
is grouped by its time; what is made of several rows is a function of the window. The sums of hours
and days are found by an index on what they are grouped by.
"""

from alembic import op

from indexer.store.comments import comment_on
from indexer.store.contract import publish

revision = "0023"
down_revision = "0022"

TABLES = """
CREATE TABLE ledger.contract (
    object text COLLATE "C" PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('view', 'function')),
    shape text[] NOT NULL,
    since text NOT NULL,
    version text NOT NULL
);

CREATE INDEX liquidation_bucket ON ledger.liquidation USING brin (
    date_bin(interval '1 hour', block_at, timestamptz '2000-01-01 00:00:00+00'),
    ((block_at AT TIME ZONE 'UTC')::date)
);
CREATE INDEX lending_liquidation_bucket ON ledger.lending_liquidation USING brin (
    date_bin(interval '1 hour', block_at, timestamptz '2000-01-01 00:00:00+00'),
    ((block_at AT TIME ZONE 'UTC')::date)
);
"""

# The lines and the money of strict/v1, row by row: store/counting.py, store/legs.py. A value is
# looked up row by row: a join would read the values of all time for those of a day.
LIQUIDATIONS_USD = """
CREATE VIEW liq.liquidations_usd AS
SELECT l.venue || '/' || l.event_key || '/' || l.account AS key, 'perp' AS kind, l.venue,
       split_part(l.venue, '.', 1) AS protocol,
       coalesce(nullif(ledger.chain_of(l.venue), ''), l.venue) AS chain, l.method,
       CASE WHEN l.method <> ALL ('{market,backstop,adl_of_user,adl_of_vault}'::text[])
            THEN 'other_method'
            WHEN NOT (l.block_number <= stream.finalized_block IS NOT FALSE) THEN 'not_final'
            WHEN worth.quote_trust = 'market' THEN 'permissionless'
            WHEN l.account_is_protocol_vault THEN 'protocol_vault'
            ELSE 'counted' END AS line,
       l.account, l.account_is_protocol_vault, l.liquidator, l.side, l.market,
       CASE WHEN ledger.chain_of(l.venue) = '' THEN l.market
            ELSE split_part(l.market, ':', -1) END AS market_name,
       split_part(l.market, ':', -1) AS asset, split_part(l.market, ':', -1) AS asset_name,
       l.dex, l.size, l.price, l.quote,
       NULL::text AS repaid_asset, NULL::text AS repaid_symbol, NULL::numeric AS repaid,
       NULL::text AS seized_asset, NULL::text AS seized_symbol, NULL::numeric AS seized,
       worth.fill_usd AS usd, 'fill' AS basis,
       worth.price_source, worth.quote_quality AS price_quality, worth.quote_trust AS price_trust,
       worth.quote_as_of_at AS price_as_of_at,
       l.block_number, l.block_at, l.tx_hash,
       coalesce(l.order_id, l.tx_hash, l.event_key) AS order_id,
       coalesce(l.tx_hash, l.event_key) AS action,
       l.block_number <= stream.finalized_block IS NOT FALSE AS is_final, l.event_key
FROM ledger.liquidation l
LEFT JOIN LATERAL (
    SELECT v.price_source, v.fill_usd, v.quote_quality, v.quote_trust, v.quote_as_of_at
    FROM ledger.valuation v
    WHERE (v.venue, v.block_at, v.event_key, v.account, v.price_source)
        = (l.venue, l.block_at, l.event_key, l.account, 'par') AND v.fill_usd IS NOT NULL
    LIMIT 1
) worth ON true
LEFT JOIN ledger.stream ON stream.chain = ledger.chain_of(l.venue)
UNION ALL
SELECT l.venue || '/' || l.event_key || '/' || l.account, 'lending', l.venue,
       split_part(l.venue, '.', 1), ledger.chain_of(l.venue), l.method,
       CASE WHEN l.method <> ALL (
                '{repay_seize,pre_liquidation,debt_transfer,absorb,heal}'::text[])
            THEN 'other_method'
            WHEN worth.repaid_usd IS NULL AND l.repaid_raw IS NULL AND log.key <> l.event_key
            THEN 'further_part'
            WHEN NOT (l.block_number <= stream.finalized_block IS NOT FALSE) THEN 'not_final'
            WHEN worth.repaid_trust = 'market' THEN 'permissionless'
            ELSE 'counted' END,
       l.account, false, l.liquidator, taken.side, l.market,
       coalesce(seized.symbol, debt_token.symbol)
           || CASE WHEN seized.symbol IS NOT NULL AND debt_token.symbol IS NOT NULL
                   THEN '/' || debt_token.symbol ELSE '' END,
       CASE WHEN taken.side = 'short'
            THEN coalesce(debt.family, ledger.chain_of(l.venue) || '/' || of.debt)
            ELSE coalesce(collateral.family, ledger.chain_of(l.venue) || '/' || of.collateral)
       END,
       CASE WHEN taken.side = 'short' THEN coalesce(debt.family, debt_token.symbol)
            ELSE coalesce(collateral.family, collateral_token.symbol) END,
       '', NULL, NULL, NULL,
       l.repaid_asset, repaid.symbol, ledger.scaled(l.repaid_raw, repaid.decimals),
       l.seized_asset, seized.symbol, ledger.scaled(l.seized_raw, seized.decimals),
       worth.repaid_usd, 'repaid', worth.price_source, worth.repaid_quality, worth.repaid_trust,
       worth.repaid_as_of_at,
       l.block_number, l.block_at, left(l.event_key, 66), log.key, left(l.event_key, 66),
       l.block_number <= stream.finalized_block IS NOT FALSE, l.event_key
FROM ledger.lending_liquidation l
LEFT JOIN LATERAL (
    SELECT v.price_source, v.repaid_usd, v.repaid_quality, v.repaid_trust, v.repaid_as_of_at
    FROM ledger.valuation v
    WHERE (v.venue, v.block_at, v.event_key, v.account)
        = (l.venue, l.block_at, l.event_key, l.account)
      AND v.price_source = ANY ('{event,oracle,feed_log,reference,par}'::text[])
      AND v.repaid_usd IS NOT NULL
    ORDER BY array_position('{event,oracle,feed_log,reference,par}'::text[], v.price_source)
    LIMIT 1
) worth ON true
LEFT JOIN ledger.stream ON stream.chain = ledger.chain_of(l.venue)
CROSS JOIN LATERAL (
    SELECT split_part(l.event_key, '/', 1) || '/' || split_part(l.event_key, '/', 2)
) log (key)
CROSS JOIN LATERAL (
    SELECT CASE WHEN l.repaid_asset IS NOT NULL OR log.key = l.event_key THEN l.repaid_asset
           ELSE (SELECT first.repaid_asset FROM ledger.lending_liquidation first
                 WHERE (first.account, first.venue, first.event_key)
                     = (l.account, l.venue, log.key)) END,
           CASE WHEN l.seized_is_shares THEN coalesce(
               (SELECT rate.underlying FROM ledger.share_rate rate
                WHERE (rate.chain, rate.asset, rate.block_number)
                    = (ledger.chain_of(l.venue), l.seized_asset, l.block_number)),
               l.seized_asset) ELSE l.seized_asset END
) of (debt, collateral)
LEFT JOIN ledger.asset_kin debt
    ON (debt.chain, debt.address) = (ledger.chain_of(l.venue), of.debt)
LEFT JOIN ledger.asset_kin collateral
    ON (collateral.chain, collateral.address) = (ledger.chain_of(l.venue), of.collateral)
LEFT JOIN ledger.asset debt_token
    ON (debt_token.chain, debt_token.address) = (ledger.chain_of(l.venue), of.debt)
LEFT JOIN ledger.asset collateral_token
    ON (collateral_token.chain, collateral_token.address)
     = (ledger.chain_of(l.venue), of.collateral)
LEFT JOIN ledger.asset repaid
    ON (repaid.chain, repaid.address) = (ledger.chain_of(l.venue), l.repaid_asset)
LEFT JOIN ledger.asset seized
    ON (seized.chain, seized.address) = (ledger.chain_of(l.venue), l.seized_asset)
CROSS JOIN LATERAL (
    SELECT CASE WHEN of.debt IS NULL OR of.collateral IS NULL THEN NULL
                WHEN debt.family = 'USD' AND collateral.family IS DISTINCT FROM 'USD'
                THEN 'long'
                WHEN collateral.family = 'USD' AND debt.family IS DISTINCT FROM 'USD'
                THEN 'short' END
) taken (side);
"""

VIEWS = """
CREATE VIEW liq.fills AS
SELECT l.venue || '/' || l.event_key || '/' || l.account || '/' || leg.leg AS key, l.venue,
       coalesce(nullif(ledger.chain_of(l.venue), ''), l.venue) AS chain, leg.leg, leg.account,
       leg.dir, leg.is_published, l.account AS liquidated, l.method, l.market, l.dex, l.quote,
       leg.side, l.size, l.price, l.notional,
       CASE WHEN liq.at_par(l.quote) THEN l.notional END AS notional_usd,
       l.trade_id, l.order_id, l.tx_hash, l.block_number, l.block_at,
       l.venue || '/' || l.event_key || '/' || l.account AS liquidation_key
FROM ledger.liquidation l
CROSS JOIN LATERAL (
    SELECT 'liquidated', l.account, l.dir_liquidated, l.side, l.legs_seen <> 'counterparty'
    UNION ALL
    SELECT 'counterparty', l.counterparty, l.dir_counterparty,
           CASE WHEN l.counterparty_kind IS DISTINCT FROM 'adl_winner' THEN l.side
                WHEN l.side = 'long' THEN 'short'
                WHEN l.side = 'short' THEN 'long' END,
           true
    WHERE l.legs_seen <> 'liquidated'
) leg (leg, account, dir, side, is_published);

CREATE VIEW liq.stretches AS
SELECT venue, facts, min(block_from) AS block_from, max(block_to) AS block_to,
       min(first_at) AS first_at, max(last_at) AS last_at,
       array_agg(DISTINCT verification ORDER BY verification) AS verifications
FROM (
    SELECT *, count(*) FILTER (WHERE begins) OVER in_order AS stretch
    FROM (
        SELECT venue, facts, lower(blocks) AS block_from, upper(blocks) AS block_to,
               lower(times) AS first_at, upper(times) AS last_at, verification,
               lag(upper(blocks)) OVER (PARTITION BY venue, facts ORDER BY blocks)
                   IS DISTINCT FROM lower(blocks) AS begins
        FROM ledger.coverage
    ) ranges
    WINDOW in_order AS (PARTITION BY venue, facts ORDER BY block_from)
) numbered
GROUP BY venue, facts, stretch;

CREATE VIEW liq.accounts AS
SELECT known.*,
       ARRAY(SELECT DISTINCT said.label FROM liq.labels said
             WHERE said.account = known.account AND said.state = 'current'
             ORDER BY said.label) AS labels
FROM (
    SELECT account, array_agg(DISTINCT venue ORDER BY venue) AS venues,
           min(block_at) AS first_at, max(block_at) AS last_at, count(*) AS liquidations,
           count(*) FILTER (WHERE line = 'counted') AS counted,
           count(*) FILTER (WHERE line = 'counted' AND usd IS NULL) AS unvalued,
           sum(usd) FILTER (WHERE line = 'counted' AND kind = 'perp') AS fill_usd,
           sum(usd) FILTER (WHERE line = 'counted' AND kind = 'lending') AS repaid_usd,
           max(usd) FILTER (WHERE line = 'counted') AS largest_usd,
           bool_or(account_is_protocol_vault) AS account_is_protocol_vault
    FROM liq.liquidations_usd
    GROUP BY account
) known;
"""

# How much of a bucket was read: as store/proof.py says of a window.
BUCKETS = """
CREATE VIEW liq.{view} AS
WITH stretches AS MATERIALIZED (
    SELECT venue, first_at, last_at FROM liq.stretches WHERE facts = 'liquidations'
)
SELECT sums.{column}, sums.venue, sums.chain, sums.kind, sums.basis, sums.asset, sums.side,
       sums.method, sums.line, sums.liquidations, sums.unvalued, sums.usd, sums.largest_usd,
       sums.accounts, read.share AS share_read, read.share = 1 AS is_read
FROM (
    SELECT {bucket} AS {column}, venue, chain, kind, basis, asset, side, method, line,
           count(*) AS liquidations, count(*) - count(usd) AS unvalued, sum(usd) AS usd,
           max(usd) AS largest_usd, count(DISTINCT account) AS accounts
    FROM liq.liquidations_usd
    GROUP BY {bucket}, venue, chain, kind, basis, asset, side, method, line
) sums
CROSS JOIN LATERAL (
    SELECT sum(greatest(extract(epoch FROM least(s.last_at, {high}) - greatest(s.first_at, {low})),
                        0)) / {seconds} AS share
    FROM stretches s WHERE s.venue = sums.venue
) read;
"""
HOURLY = BUCKETS.format(
    view="hourly",
    column="hour",
    bucket="date_bin(interval '1 hour', block_at, timestamptz '2000-01-01 00:00:00+00')",
    low="sums.hour",
    high="sums.hour + interval '1 hour'",
    seconds=3600,
)
DAILY = BUCKETS.format(
    view="daily",
    column="day",
    bucket="(block_at AT TIME ZONE 'UTC')::date",
    low="sums.day::timestamp AT TIME ZONE 'UTC'",
    high="(sums.day + 1)::timestamp AT TIME ZONE 'UTC'",
    seconds=86400,
)

LABELS = """
CREATE VIEW liq.label_history AS
SELECT venue, account, label, rule, rule_version, parameters, confidence, evidence,
       lower(valid_during) AS valid_from, upper(valid_during) AS valid_to,
       lower(recorded_during) AS recorded_at, upper(recorded_during) AS withdrawn_at,
       valid_during, recorded_during
FROM ledger.label;

CREATE OR REPLACE FUNCTION liq.labels_at(
    valid_at timestamptz, known_at timestamptz DEFAULT now()
) RETURNS TABLE (
    venue text, account text, label text, rule text, rule_version int, parameters jsonb,
    confidence numeric, evidence jsonb, valid_from timestamptz, valid_to timestamptz,
    recorded_at timestamptz, withdrawn_at timestamptz
)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT l.venue, l.account, l.label, l.rule, l.rule_version, l.parameters, l.confidence,
           l.evidence, l.valid_from, l.valid_to, l.recorded_at, l.withdrawn_at
    FROM liq.label_history l
    WHERE l.valid_during @> valid_at AND l.recorded_during @> known_at;
END;
"""

# An order or an action is of one block. An episode may reach beyond a window, but only where a row
# lies within the gap of its edge: the further rows of these accounts alone are looked up, and
# OFFSET 0 leaves no other way to find them than by their account.
LEVELS = """
CREATE FUNCTION liq.orders_between(low timestamptz, high timestamptz)
RETURNS TABLE (
    key text, kind text, venue text, account text, market text, market_name text, order_id text,
    side text, first_at timestamptz, last_at timestamptz, liquidations bigint, unvalued bigint,
    methods text[], size numeric, basis text, usd numeric, lines text[]
)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT l.venue || '/' || l.account || '/' || l.market || '/' || l.order_id, l.kind, l.venue,
           l.account, l.market, min(l.market_name), l.order_id, min(l.side), min(l.block_at),
           max(l.block_at), count(*), count(*) - count(l.usd),
           array_agg(DISTINCT l.method ORDER BY l.method), sum(l.size), l.basis, sum(l.usd),
           array_agg(DISTINCT l.line ORDER BY l.line)
    FROM liq.liquidations_usd l
    WHERE l.block_at >= low AND l.block_at < high
    GROUP BY l.kind, l.basis, l.venue, l.account, l.market, l.order_id;
END;

CREATE FUNCTION liq.actions_between(low timestamptz, high timestamptz)
RETURNS TABLE (
    key text, kind text, venue text, account text, action text, liquidators text[],
    first_at timestamptz, last_at timestamptz, liquidations bigint, unvalued bigint,
    markets text[], methods text[], basis text, usd numeric, lines text[]
)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT l.venue || '/' || l.account || '/' || l.action, l.kind, l.venue, l.account, l.action,
           array_agg(DISTINCT l.liquidator ORDER BY l.liquidator)
               FILTER (WHERE l.liquidator IS NOT NULL),
           min(l.block_at), max(l.block_at), count(*), count(*) - count(l.usd),
           array_agg(DISTINCT l.market ORDER BY l.market),
           array_agg(DISTINCT l.method ORDER BY l.method), l.basis, sum(l.usd),
           array_agg(DISTINCT l.line ORDER BY l.line)
    FROM liq.liquidations_usd l
    WHERE l.block_at >= low AND l.block_at < high
    GROUP BY l.kind, l.basis, l.venue, l.account, l.action;
END;

CREATE FUNCTION liq.episodes_between(
    low timestamptz, high timestamptz, gap interval DEFAULT interval '900 seconds'
)
RETURNS TABLE (
    key text, kind text, venue text, account text, dex text, first_at timestamptz,
    last_at timestamptz, liquidations bigint, unvalued bigint, orders bigint, actions bigint,
    assets text[], methods text[], basis text, usd numeric, long_usd numeric, short_usd numeric,
    account_is_protocol_vault boolean, lines text[]
)
LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH inside AS MATERIALIZED (
        SELECT l.kind, l.basis, l.venue, l.account, l.dex, l.block_at, l.usd, l.market, l.order_id,
               l.action, l.asset, l.method, l.side, l.account_is_protocol_vault, l.line
        FROM liq.liquidations_usd l
        WHERE l.block_at >= low AND l.block_at < high
    ), named AS (
        SELECT i.account, i.venue, i.dex, min(i.block_at) AS first_at, max(i.block_at) AS last_at
        FROM inside i GROUP BY i.account, i.venue, i.dex
    ), whole AS (
        SELECT * FROM inside
        UNION ALL
        SELECT before.* FROM named CROSS JOIN LATERAL (
            SELECT l.kind, l.basis, l.venue, l.account, l.dex, l.block_at, l.usd, l.market,
                   l.order_id, l.action, l.asset, l.method, l.side, l.account_is_protocol_vault,
                   l.line
            FROM liq.liquidations_usd l
            WHERE l.account = named.account AND l.venue = named.venue AND l.dex = named.dex
              AND l.block_at < low
            OFFSET 0
        ) before
        WHERE named.first_at <= low + gap
        UNION ALL
        SELECT after.* FROM named CROSS JOIN LATERAL (
            SELECT l.kind, l.basis, l.venue, l.account, l.dex, l.block_at, l.usd, l.market,
                   l.order_id, l.action, l.asset, l.method, l.side, l.account_is_protocol_vault,
                   l.line
            FROM liq.liquidations_usd l
            WHERE l.account = named.account AND l.venue = named.venue AND l.dex = named.dex
              AND l.block_at >= high
            OFFSET 0
        ) after
        WHERE named.last_at >= high - gap
    )
    SELECT e.venue || '/' || e.account || '/' || e.dex || '@'
               || to_char(min(e.block_at) AT TIME ZONE 'UTC', 'YYYYMMDD"T"HH24MISS.US'),
           e.kind, e.venue, e.account, e.dex, min(e.block_at), max(e.block_at), count(*),
           count(*) - count(e.usd), count(DISTINCT (e.market, e.order_id)),
           count(DISTINCT e.action), array_agg(DISTINCT e.asset ORDER BY e.asset),
           array_agg(DISTINCT e.method ORDER BY e.method), e.basis, sum(e.usd),
           sum(e.usd) FILTER (WHERE e.side = 'long'), sum(e.usd) FILTER (WHERE e.side = 'short'),
           bool_or(e.account_is_protocol_vault), array_agg(DISTINCT e.line ORDER BY e.line)
    FROM (
        SELECT s.*, count(*) FILTER (WHERE s.is_late) OVER (
                   PARTITION BY s.account, s.venue, s.dex ORDER BY s.block_at
                   ROWS UNBOUNDED PRECEDING
               ) AS episode
        FROM (
            SELECT w.*, w.block_at - lag(w.block_at) OVER (
                       PARTITION BY w.account, w.venue, w.dex ORDER BY w.block_at
                   ) > liq.checked_gap(gap) AS is_late
            FROM whole w
        ) s
    ) e
    GROUP BY e.kind, e.basis, e.venue, e.account, e.dex, e.episode
    HAVING max(e.block_at) >= low AND min(e.block_at) < high;
END;

CREATE FUNCTION liq.largest(
    low timestamptz, high timestamptz, top int DEFAULT 10,
    gap interval DEFAULT interval '900 seconds'
)
RETURNS TABLE (
    level text, kind text, place bigint, key text, venue text, account text, basis text,
    usd numeric, liquidations bigint, first_at timestamptz, last_at timestamptz
)
LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH counted AS MATERIALIZED (
        SELECT s.*, count(*) FILTER (WHERE s.is_late) OVER (
                   PARTITION BY s.account, s.venue, s.dex ORDER BY s.block_at
                   ROWS UNBOUNDED PRECEDING
               ) AS episode
        FROM (
            SELECT l.kind, l.basis, l.venue, l.account, l.dex, l.market, l.order_id, l.action,
                   l.key, l.block_at, l.usd,
                   l.block_at - lag(l.block_at) OVER (
                       PARTITION BY l.account, l.venue, l.dex ORDER BY l.block_at
                   ) > liq.checked_gap(gap) AS is_late
            FROM liq.liquidations_usd l
            WHERE l.line = 'counted' AND l.block_at >= low AND l.block_at < high
        ) s
    ), units AS (
        SELECT 'fill' AS level, c.kind, c.basis, c.venue, c.account, min(c.key) AS key,
               sum(c.usd) AS usd, count(*) AS liquidations, min(c.block_at) AS first_at,
               max(c.block_at) AS last_at
        FROM counted c
        GROUP BY c.kind, c.basis, c.venue, c.account,
                 CASE c.kind WHEN 'perp' THEN c.key ELSE c.order_id END
        UNION ALL
        SELECT 'order', c.kind, c.basis, c.venue, c.account,
               c.venue || '/' || c.account || '/' || c.market || '/' || c.order_id, sum(c.usd),
               count(*), min(c.block_at), max(c.block_at)
        FROM counted c GROUP BY c.kind, c.basis, c.venue, c.account, c.market, c.order_id
        UNION ALL
        SELECT 'action', c.kind, c.basis, c.venue, c.account,
               c.venue || '/' || c.account || '/' || c.action, sum(c.usd), count(*),
               min(c.block_at), max(c.block_at)
        FROM counted c GROUP BY c.kind, c.basis, c.venue, c.account, c.action
        UNION ALL
        SELECT 'episode', c.kind, c.basis, c.venue, c.account,
               c.venue || '/' || c.account || '/' || c.dex || '@'
                   || to_char(min(c.block_at) AT TIME ZONE 'UTC', 'YYYYMMDD"T"HH24MISS.US'),
               sum(c.usd), count(*), min(c.block_at), max(c.block_at)
        FROM counted c GROUP BY c.kind, c.basis, c.venue, c.account, c.dex, c.episode
        UNION ALL
        SELECT 'account', c.kind, c.basis, c.venue, c.account, c.venue || '/' || c.account,
               sum(c.usd), count(*), min(c.block_at), max(c.block_at)
        FROM counted c GROUP BY c.kind, c.basis, c.venue, c.account
    )
    SELECT p.level, p.kind, p.place, p.key, p.venue, p.account, p.basis, p.usd, p.liquidations,
           p.first_at, p.last_at
    FROM (
        SELECT u.*, row_number() OVER (
                   PARTITION BY u.level, u.kind ORDER BY u.usd DESC, u.venue, u.key
               ) AS place
        FROM units u WHERE u.usd IS NOT NULL
    ) p
    WHERE p.place <= top
    ORDER BY array_position('{fill,order,action,episode,account}'::text[], p.level), p.kind,
             p.place;
END;
"""

CONTRACT = """
CREATE VIEW liq.contract AS
SELECT object, kind, since, version, shape, md5(array_to_string(shape, ', ')) AS hash
FROM ledger.contract;

CREATE FUNCTION liq.contract_version() RETURNS text
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT version FROM liq.contract ORDER BY string_to_array(version, '.')::int[] DESC LIMIT 1;
END;
"""

FUNCTION_COMMENTS = {
    "liq.labels_at(timestamptz, timestamptz)": "What we thought of accounts at a moment, as known"
    " at another.",
    "liq.orders_between(timestamptz, timestamptz)": "Level 2: forced orders of perpetuals, and"
    " liquidations of loans with all their parts, of a window.",
    "liq.actions_between(timestamptz, timestamptz)": "Level 3: all that one transaction did to an"
    " account, of a window.",
    "liq.episodes_between(timestamptz, timestamptz, interval)": "Level 4: liquidations of one"
    " account on one venue with no gap longer than the one given, that touch a window; each is"
    " whole, whatever lines of strict/v1 its rows stand on.",
    "liq.largest(timestamptz, timestamptz, int, interval)": "The largest of a window at five"
    " levels, of perpetuals and of loans, of what strict/v1 counts in it.",
    "liq.contract_version()": "The version of all that the schema liq holds: the first number rises"
    " when something that was there is there no more or is another, the second when there is more.",
}

TABLE_COMMENTS = {"contract": "What the schema liq promised when, object by object."}
VIEW_COMMENTS = {
    "liquidations_usd": "Every liquidation of perpetuals and of loans, with names and dollars: one"
    " row for each forced trade, and for each asset of a loan. usd is the notional at the fill of"
    " perpetuals and the debt repaid of loans, as basis says. Where line is counted they add up to"
    " the totals of strict/v1. Ask with a time or an account: values are looked up row by row.",
    "fills": "Forced trades of perpetuals leg by leg: the liquidated account''s, and its"
    " counterparty''s where it is known. Never add both legs of a trade.",
    "stretches": "Blocks that were read whole without a hole between them.",
    "accounts": "Every account that was ever liquidated, one row whatever the venues.",
    "hourly": "What was liquidated in each hour, as venues, assets, sides, methods and lines of"
    " strict/v1 split it. An hour without a row had no liquidation, as far as it was read:"
    " liq.stretches.",
    "daily": "What was liquidated on each UTC day, split as liq.hourly.",
    "label_history": "What we think of accounts and ever thought, also what was withdrawn.",
    "contract": "What the schema liq promises: each view and function, and since which version.",
}

COMMENTS = {
    "object": "The view, or the function with the types of its arguments.",
    "shape": "Its columns in their order, each with its type; those of a function''s rows.",
    "since": "Version of the contract that it came with.",
    "version": "Version of the contract in which its columns last changed.",
    "hash": "Digest of shape.",
    "key": "Key of the row, unique; indexer explain takes that of a liquidation.",
    "kind": "perp or lending.",
    "venue": "A protocol on a chain, e.g. aave_v3.ethereum, or hyperliquid.",
    "protocol": "The protocol of the venue.",
    "chain": "The chain that it happened on.",
    "method": "How it was liquidated, e.g. market, backstop, repay_seize.",
    "line": "Where strict/v1 has it: counted; or what keeps it out of that total, which is"
    " not_final, permissionless, protocol_vault, other_method, or further_part: collateral of a"
    " liquidation whose debt stands on another row.",
    "account": "Address that was liquidated, lower case.",
    "account_is_protocol_vault": "The account is the exchange''s own.",
    "liquidator": "Who took it over, or whose call it was; NULL where nobody did, or nobody tells.",
    "side": "long or short; of loans long where dollars were owed for something else, short where"
    " something else was owed for dollars; NULL where neither, or unknown.",
    "market": "As the venue names it: a coin, a contract or an id.",
    "market_name": "The market in words, of loans collateral/debt. Symbols are what contracts say:"
    " no identity. NULL where unknown.",
    "asset": "What was bet on: ETH, BTC and so on with all that is worth one; of a token without"
    " such a name chain/address. As liq.counted has it.",
    "asset_name": "The same as a name to show: no identity; NULL where unknown.",
    "dex": "A part of hyperliquid with accounts of its own; empty of its main one and elsewhere.",
    "size": "Executed size, in units of the market; of perpetuals alone.",
    "price": "Execution price in the quote token; of perpetuals alone.",
    "quote": "Token that price and notional are in; of perpetuals alone.",
    "repaid_asset": "Token of the debt; of loans alone.",
    "repaid_symbol": "What the token calls itself: no identity.",
    "repaid": "Debt in whole tokens; NULL where the decimals are unknown or absurd.",
    "seized_asset": "Token of the collateral, or of its shares; of loans alone.",
    "seized_symbol": "What the token calls itself: no identity.",
    "seized": "Collateral in whole tokens or shares; NULL where the decimals are unknown.",
    "usd": "US dollars on the basis; NULL where it has no value: liq.unvalued says why.",
    "basis": "What usd is: fill, the notional of a perpetual at its execution price; repaid, the"
    " debt of a loan. Other bases: liq.valuations.",
    "price_source": "Who said the price: par, event, oracle, feed_log or reference.",
    "price_quality": "A, A-, B or B-: see docs/values.md.",
    "price_trust": "governed, or market where anybody could have made the market.",
    "price_as_of_at": "When the price was set, where its source tells.",
    "block_number": "Height of the block; NULL where the venue names none.",
    "block_at": "Time of the block, UTC.",
    "tx_hash": "Hash of the transaction; NULL where there is none.",
    "order_id": "The forced order; of a loan its log; of what has neither its transaction.",
    "action": "The transaction, or the event where there is none.",
    "is_final": "Its block can not be replaced any more.",
    "event_key": "Names the event on its venue.",
    "leg": "liquidated or counterparty.",
    "dir": "What the exchange calls the fill.",
    "is_published": "The venue published this leg; false: it follows from the other.",
    "liquidated": "The account that was liquidated.",
    "notional": "Size times price, in the quote token.",
    "notional_usd": "The same in dollars, dollar tokens at par; NULL for other quotes.",
    "trade_id": "The venue''s number of the trade.",
    "liquidation_key": "Key of the liquidation, the same for both legs.",
    "facts": "What was taken from the blocks: liquidations, account_days, ledger_liquidations.",
    "block_from": "First height.",
    "block_to": "First height after.",
    "first_at": "Time of the first block.",
    "last_at": "Time of the last block.",
    "verifications": "How it is known that nothing is missing: see liq.coverage.",
    "venues": "Where it was liquidated.",
    "liquidations": "Number of rows of liq.liquidations_usd.",
    "counted": "How many of them strict/v1 counts; the sums are of these.",
    "unvalued": "How many of them have no value and are in no sum.",
    "fill_usd": "Dollars of perpetuals at their fills.",
    "repaid_usd": "Dollars of debt repaid. Add it to fill_usd knowingly.",
    "largest_usd": "The largest single row.",
    "labels": "Labels that hold now: liq.labels.",
    "hour": "Begin of the hour, UTC.",
    "day": "UTC day.",
    "accounts": "How many accounts; those of two rows may be the same.",
    "share_read": "How much of the time was read of the venue, 0 to 1; NULL where none of its"
    " blocks ever was: samples.",
    "is_read": "All of the time was read; NULL where share_read is.",
    "label": "What the account is called.",
    "rule": "The rule that says so.",
    "rule_version": "Version of the rule.",
    "parameters": "Parameters of the rule.",
    "confidence": "0 to 1.",
    "evidence": "What the rule saw.",
    "valid_from": "Start of validity, in chain time.",
    "valid_to": "End of validity, in chain time; NULL while it lasts.",
    "recorded_at": "When we wrote it down.",
    "withdrawn_at": "When we took it back; NULL where we still think so.",
    "valid_during": "From valid_from to valid_to.",
    "recorded_during": "From recorded_at to withdrawn_at.",
}


def upgrade() -> None:
    for statements in (TABLES, LIQUIDATIONS_USD, LABELS, VIEWS, HOURLY, DAILY, LEVELS, CONTRACT):
        op.get_bind().exec_driver_sql(statements.replace("%", "%%"))
    for function, text in FUNCTION_COMMENTS.items():
        op.execute(f"COMMENT ON FUNCTION {function} IS '{text}'")
    comments = {name: text.replace("''", "'") for name, text in COMMENTS.items()}
    for table, text in TABLE_COMMENTS.items():
        comment_on(op.get_bind(), "TABLE", f"ledger.{table}", text, comments)
    for view, text in VIEW_COMMENTS.items():
        comment_on(op.get_bind(), "VIEW", f"liq.{view}", text.replace("''", "'"), comments)
    publish(op.get_bind(), "1.0")
