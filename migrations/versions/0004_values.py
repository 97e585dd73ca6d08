"""What liquidations were worth: prices with their origin, values, and what looks wrong.

Values stand in one row for each liquidation and price source, a column for each basis: with a row
for each basis a pass over a million liquidations took four times as long, most of it in the index.
Their keys begin with venue and time, so that a pass in the order of time writes at the end of them.
"""

from alembic import op

from indexer.store.comments import comment_on

revision = "0004"
down_revision = "0003"

TABLES = """
CREATE TABLE ledger.price (
    venue text NOT NULL,
    market text NOT NULL,
    asset text NOT NULL,
    block_number bigint NOT NULL,
    log_index int NOT NULL,
    source text NOT NULL CHECK (source IN ('oracle', 'reference', 'feed_log')),
    usd numeric NOT NULL CHECK (usd > 0 AND usd < 'Infinity'),
    quality text COLLATE "C" NOT NULL CHECK (quality IN ('A', 'A-', 'B', 'B-')),
    trust text COLLATE "C" NOT NULL CHECK (trust IN ('governed', 'market')),
    via text[] NOT NULL,
    as_of_block bigint NOT NULL,
    as_of_at timestamptz,
    PRIMARY KEY (venue, block_number, market, asset, source, log_index)
);
CREATE INDEX price_asset ON ledger.price (asset, trust);

CREATE TABLE ledger.no_price (
    venue text NOT NULL,
    market text NOT NULL,
    asset text NOT NULL,
    block_number bigint NOT NULL,
    log_index int NOT NULL,
    reason text NOT NULL,
    asked_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (venue, block_number, market, asset, log_index)
);

CREATE TABLE ledger.price_file (
    name text PRIMARY KEY CHECK (name ~ '^[a-z0-9][a-z0-9_-]*$'),
    uri text NOT NULL,
    sha256 text NOT NULL,
    max_age interval NOT NULL CHECK (max_age > interval '0'),
    points bigint NOT NULL,
    imported_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE ledger.price_point (
    name text NOT NULL REFERENCES ledger.price_file ON DELETE CASCADE,
    chain text NOT NULL,
    asset text NOT NULL,
    at timestamptz NOT NULL,
    usd numeric NOT NULL CHECK (usd > 0 AND usd < 'Infinity'),
    PRIMARY KEY (name, chain, asset, at)
);

CREATE TABLE ledger.valuation (
    venue text NOT NULL,
    block_at timestamptz NOT NULL,
    event_key text COLLATE "C" NOT NULL,
    account text NOT NULL,
    price_source text NOT NULL,
    repaid_usd numeric,
    repaid_price numeric,
    repaid_quality text COLLATE "C",
    repaid_trust text COLLATE "C",
    repaid_as_of_block bigint,
    repaid_as_of_at timestamptz,
    seized_usd numeric,
    seized_price numeric,
    seized_quality text COLLATE "C",
    seized_trust text COLLATE "C",
    seized_as_of_block bigint,
    seized_as_of_at timestamptz,
    seized_net_usd numeric,
    bad_debt_usd numeric,
    bad_debt_price numeric,
    bad_debt_quality text COLLATE "C",
    bad_debt_trust text COLLATE "C",
    bad_debt_as_of_block bigint,
    bad_debt_as_of_at timestamptz,
    bonus_usd numeric,
    bonus_quality text COLLATE "C",
    bonus_trust text COLLATE "C",
    fill_usd numeric,
    mark_usd numeric,
    bankruptcy_usd numeric,
    margin_lost_usd numeric,
    realised_usd numeric,
    quote_price numeric,
    quote_quality text COLLATE "C",
    quote_trust text COLLATE "C",
    quote_as_of_at timestamptz,
    PRIMARY KEY (venue, block_at, event_key, account, price_source)
);

CREATE TABLE ledger.unvalued (
    venue text NOT NULL,
    block_at timestamptz NOT NULL,
    event_key text COLLATE "C" NOT NULL,
    account text NOT NULL,
    price_source text NOT NULL,
    reason text NOT NULL,
    bases text[] NOT NULL,
    PRIMARY KEY (venue, block_at, event_key, account, price_source, reason)
);

CREATE TABLE ledger.suspect (
    venue text NOT NULL,
    block_at timestamptz NOT NULL,
    event_key text COLLATE "C" NOT NULL,
    account text NOT NULL,
    rule text NOT NULL,
    detail text NOT NULL,
    PRIMARY KEY (venue, block_at, event_key, account, rule)
);

CREATE TABLE ledger.asset_kin (
    chain text NOT NULL,
    address text NOT NULL CHECK (address = lower(address)),
    family text NOT NULL,
    relation text NOT NULL CHECK (relation IN ('self', 'wrapped', 'bridged', 'staked', 'pegged')),
    source text NOT NULL,
    PRIMARY KEY (chain, address)
);
"""

# PostgreSQL 14 and 15 give 0 for 10 ^ -18: a power has 16 digits after the point there.
SCALED = """
CREATE OR REPLACE FUNCTION ledger.scaled(raw numeric, decimals smallint) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN decimals <= 36 THEN raw * ('1e-' || decimals)::numeric END;
"""

# A value stands on the row as it was. The lock is the one that a pass holds while it values a part
# of the venue: the row cannot go while its value is on the way, nor come back unseen.
TRIGGERS = """
CREATE FUNCTION ledger.forget_values() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM gone) THEN
        RETURN NULL;
    END IF;
    PERFORM ledger.lock_values(venue, false)
    FROM (SELECT DISTINCT venue FROM gone ORDER BY venue) venues;
    DELETE FROM ledger.valuation v USING gone
    WHERE (v.venue, v.block_at, v.event_key, v.account)
        = (gone.venue, gone.block_at, gone.event_key, gone.account);
    DELETE FROM ledger.unvalued v USING gone
    WHERE (v.venue, v.block_at, v.event_key, v.account)
        = (gone.venue, gone.block_at, gone.event_key, gone.account);
    DELETE FROM ledger.suspect v USING gone
    WHERE (v.venue, v.block_at, v.event_key, v.account)
        = (gone.venue, gone.block_at, gone.event_key, gone.account);
    RETURN NULL;
END $$;

CREATE FUNCTION ledger.lock_values(of_venue text, alone boolean) RETURNS void
LANGUAGE sql VOLATILE
BEGIN ATOMIC
    SELECT CASE WHEN alone
        THEN pg_advisory_xact_lock(hashtext('indexer value'), hashtext(of_venue))
        ELSE pg_advisory_xact_lock_shared(hashtext('indexer value'), hashtext(of_venue))
    END;
END;

CREATE TRIGGER forget_values_of_deleted AFTER DELETE ON ledger.liquidation
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION ledger.forget_values();
CREATE TRIGGER forget_values_of_updated AFTER UPDATE ON ledger.liquidation
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION ledger.forget_values();
CREATE TRIGGER forget_values_of_deleted AFTER DELETE ON ledger.lending_liquidation
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION ledger.forget_values();
CREATE TRIGGER forget_values_of_updated AFTER UPDATE ON ledger.lending_liquidation
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION ledger.forget_values();
"""

VIEWS = """
CREATE FUNCTION liq.source_rank(price_source text) RETURNS int
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE price_source WHEN 'oracle' THEN 1 WHEN 'feed_log' THEN 2 WHEN 'reference' THEN 3
    WHEN 'par' THEN 5 ELSE 4 END;

CREATE VIEW liq.valuations AS
SELECT v.venue || '/' || v.event_key || '/' || v.account AS key,
       CASE WHEN v.fill_usd IS NULL THEN 'lending' ELSE 'perp' END AS kind,
       v.venue, split_part(v.venue, '.', 1) AS protocol,
       coalesce(nullif(ledger.chain_of(v.venue), ''), v.venue) AS chain,
       v.account, v.event_key, v.block_at, b.basis, v.price_source, b.usd, b.price, b.quality,
       b.trust, b.as_of_block, b.as_of_at
FROM ledger.valuation v
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
    ('mark', mark_usd, quote_price, quote_quality, quote_trust, NULL, quote_as_of_at),
    ('bankruptcy', bankruptcy_usd, quote_price, quote_quality, quote_trust, NULL, quote_as_of_at),
    ('margin_lost', margin_lost_usd, quote_price, quote_quality, quote_trust, NULL,
     quote_as_of_at),
    ('realised', realised_usd, quote_price, quote_quality, quote_trust, NULL, quote_as_of_at)
) b (basis, usd, price, quality, trust, as_of_block, as_of_at)
WHERE b.usd IS NOT NULL;

CREATE VIEW liq.lending_values AS
SELECT best.venue || '/' || best.event_key || '/' || best.account AS key,
       best.venue, split_part(best.venue, '.', 1) AS protocol,
       ledger.chain_of(best.venue) AS chain, best.account, best.event_key, best.block_at,
       (repaid).repaid_usd, (repaid).price_source AS repaid_source, (repaid).repaid_trust,
       (seized).seized_usd, (seized).price_source AS seized_source, (seized).seized_trust,
       (net).seized_net_usd, (net).price_source AS seized_net_source,
       (bonus).bonus_usd, (bonus).price_source AS bonus_source, (bonus).bonus_trust,
       (bad_debt).bad_debt_usd, (bad_debt).price_source AS bad_debt_source,
       (bad_debt).bad_debt_trust
FROM (
    SELECT v.venue, v.block_at, v.event_key, v.account,
           (array_agg(v ORDER BY liq.source_rank(v.price_source), v.price_source)
               FILTER (WHERE v.repaid_usd IS NOT NULL))[1] AS repaid,
           (array_agg(v ORDER BY liq.source_rank(v.price_source), v.price_source)
               FILTER (WHERE v.seized_usd IS NOT NULL))[1] AS seized,
           (array_agg(v ORDER BY liq.source_rank(v.price_source), v.price_source)
               FILTER (WHERE v.seized_net_usd IS NOT NULL))[1] AS net,
           (array_agg(v ORDER BY liq.source_rank(v.price_source), v.price_source)
               FILTER (WHERE v.bonus_usd IS NOT NULL))[1] AS bonus,
           (array_agg(v ORDER BY liq.source_rank(v.price_source), v.price_source)
               FILTER (WHERE v.bad_debt_usd IS NOT NULL))[1] AS bad_debt
    FROM ledger.valuation v WHERE v.fill_usd IS NULL
    GROUP BY v.venue, v.block_at, v.event_key, v.account
) best;

CREATE VIEW liq.unvalued AS
SELECT u.venue || '/' || u.event_key || '/' || u.account AS key,
       u.venue, split_part(u.venue, '.', 1) AS protocol,
       coalesce(nullif(ledger.chain_of(u.venue), ''), u.venue) AS chain,
       u.account, u.event_key, u.block_at, basis, u.price_source, u.reason
FROM ledger.unvalued u CROSS JOIN LATERAL unnest(u.bases) AS basis;

CREATE VIEW liq.unvalued_reasons AS
SELECT venue, basis, price_source, reason, count(*) AS liquidations,
       min(block_at) AS first_at, max(block_at) AS last_at
FROM ledger.unvalued CROSS JOIN LATERAL unnest(bases) AS basis
GROUP BY venue, basis, price_source, reason;

CREATE VIEW liq.suspects AS
SELECT s.venue || '/' || s.event_key || '/' || s.account AS key,
       s.venue, split_part(s.venue, '.', 1) AS protocol,
       coalesce(nullif(ledger.chain_of(s.venue), ''), s.venue) AS chain,
       s.account, s.event_key, s.block_at, s.rule, s.detail
FROM ledger.suspect s;

CREATE VIEW liq.prices AS
SELECT p.venue, split_part(p.venue, '.', 1) AS protocol, ledger.chain_of(p.venue) AS chain,
       p.market, p.asset, a.symbol, p.block_number, nullif(p.log_index, -1) AS log_index,
       p.source, p.usd,
       CASE WHEN a.decimals <= 36 THEN p.usd * ('1e' || a.decimals)::numeric END AS usd_per_token,
       p.quality, p.trust, p.via, p.as_of_block, p.as_of_at
FROM ledger.price p
LEFT JOIN ledger.asset a ON a.chain = ledger.chain_of(p.venue) AND a.address = p.asset;

CREATE VIEW liq.price_files AS
SELECT 'file:' || name AS price_source, uri, sha256, max_age, points, imported_at
FROM ledger.price_file;

CREATE OR REPLACE VIEW liq.assets AS
SELECT a.chain, a.address, a.symbol, a.name, a.decimals, kin.family, kin.relation,
       CASE WHEN EXISTS (
           SELECT FROM ledger.price p
           WHERE p.asset = a.address AND p.trust = 'governed'
             AND ledger.chain_of(p.venue) = a.chain
       ) THEN 'governed' ELSE 'unlisted' END AS trust
FROM ledger.asset a LEFT JOIN ledger.asset_kin kin USING (chain, address);
"""

FUNCTION_COMMENTS = """
COMMENT ON FUNCTION liq.source_rank(text) IS
    'The order in which sources of prices are preferred: the protocol''s oracle, a feed''s log,'
    ' another protocol''s oracle, a file, par.';
COMMENT ON FUNCTION ledger.forget_values() IS
    'Values, reasons and suspicions go with the row that they are about, also when it changes.';
COMMENT ON FUNCTION ledger.lock_values(text, boolean) IS
    'Holds, to the end of the transaction, what a pass and a change of rows must not do at once.';
"""

TABLE_COMMENTS = {
    "price": "What one base unit of an asset was worth for liquidations of a market in a block, by"
    " source. log_index -1: wherever they stand in it; else for that log alone.",
    "no_price": "Prices that were asked for in vain, and why.",
    "price_file": "Price files of the user that were imported, each a price source of its own.",
    "price_point": "What one whole token was worth at a time, as a price file says.",
    "valuation": "What liquidations were worth, one row for each price source; a basis that is"
    " unknown is NULL and in ledger.unvalued. Never add seized of lending to a perp notional."
    " par: the venue's own amounts, hence quality A; that the token is a dollar is an assumption,"
    " and the source says so.",
    "unvalued": "What a liquidation could not be valued on, and why. oracle stands for all sources"
    " on the chain together.",
    "suspect": "Liquidations whose values contradict the protocol's own rules; they stay in every"
    " table.",
    "asset_kin": "What a token stands for: ETH can be asked for with and without its wrappers.",
}

VIEW_COMMENTS = {
    "valuations": "What liquidations were worth: one row for each basis and price source. Never add"
    " bases or sources, nor seized of lending to notionals of perps.",
    "lending_values": "Lending liquidations in dollars, each basis from its best source: oracle,"
    " feed_log, reference, file.",
    "unvalued": "What could not be valued, basis by basis, and why.",
    "unvalued_reasons": "How much could not be valued, by reason.",
    "suspects": "Liquidations whose values contradict the protocol's own rules.",
    "prices": "Prices of assets in blocks with liquidations, and where they are from.",
    "price_files": "Price files of the user that were imported.",
    "assets": "Tokens that rows name. A symbol is what the contract says, no identity.",
}

COMMENTS = {
    "key": "Key of the liquidation; indexer explain takes it.",
    "kind": "lending or perp.",
    "venue": "A protocol on a chain, e.g. aave_v3.ethereum.",
    "protocol": "The protocol of the venue.",
    "chain": "The chain it was published on.",
    "market": "Contract or id of the market, as the liquidation names it.",
    "asset": "Token, as rows of the market name it: shares are priced as shares.",
    "account": "Address that was liquidated, lower case.",
    "event_key": "Key of the liquidation at its venue.",
    "block_number": "Height of the liquidation's block.",
    "block_at": "Time of the liquidation's block, UTC.",
    "log_index": "The one log that the price holds for; -1, in views NULL: all of the block.",
    "source": "oracle: the protocol's own. reference: another governed protocol's. feed_log: a"
    " Chainlink answer as logged.",
    "price_source": "oracle, reference, feed_log, file:NAME, hyperliquid (the mark of a perpetual"
    " there), or par: a dollar token is one dollar.",
    "usd": "US dollars.",
    "usd_per_token": "US dollars for one whole token; NULL where its decimals are unknown.",
    "price": "US dollars for one base unit of the leg's asset, or for one quote token.",
    "quality": "A: carried by the event, or the oracle at just that position. A-: the oracle at the"
    " end of a block in which it moved. B: a feed's log or another protocol's oracle. B-: by"
    " another's oracle, and it moved in the block. C: imported.",
    "trust": "governed: governance chose asset and oracle. market: whoever opened the market did;"
    " in no default total.",
    "via": "Contracts that were asked, in order.",
    "as_of_block": "Block that the price is from; NULL for files and perps.",
    "as_of_at": "Time that the price is from, UTC.",
    "reason": "Why there is none, in words that can be counted.",
    "asked_at": "When it was asked for.",
    "name": "Name that the file was imported under; its prices have the source file:NAME.",
    "uri": "Path as it was given.",
    "sha256": "Hash of the file.",
    "max_age": "How old a point may be at the time of a liquidation.",
    "points": "Number of points.",
    "imported_at": "When it was imported.",
    "at": "Time of the point, UTC.",
    "basis": "Lending: repaid, seized, seized_net, bonus, bad_debt. Perps: fill, mark,"
    " bankruptcy, margin_lost, realised.",
    "bases": "Which bases of the liquidation.",
    "rule": "bonus, morpho_bonus, protocol_fee, peg, position or margin.",
    "detail": "What contradicts what, with the numbers.",
    "fill_usd": "Size times execution price.",
    "mark_usd": "Size times the mark price that the record carries.",
    "bankruptcy_usd": "Size times the price at which nothing is left of the account's equity, which"
    " the exchange's ledger states; where it differs from the fill, whose price has fewer digits.",
    "margin_lost_usd": "Margin that went with the position. Takeovers: the equity that the"
    " exchange's ledger states of an action with this one liquidation, else size times mark minus"
    " price, sign by side. After a liquidation in the book the rest stays with the account: NULL.",
    "realised_usd": "Profit or loss that the fill realised, before fees; a loss is negative.",
    "repaid_usd": "Debt repaid or taken over.",
    "seized_usd": "Collateral that the account lost, the protocol's fee within; where the fee comes"
    " on top of what is logged and is unknown, without it.",
    "seized_net_usd": "Collateral that the liquidator got; NULL where the protocol took it all.",
    "bad_debt_usd": "Debt written off.",
    "bonus_usd": "seized_net minus repaid, over all parts of the liquidation, on its first row.",
    **{
        f"{leg}_{name}": text
        for leg in ("repaid", "seized", "bad_debt", "quote")
        for name, text in {
            "price": "US dollars for one base unit of its asset, or for one quote token.",
            "quality": "Quality of this price: A, A-, B, B- or C.",
            "trust": "Who vouches for this price: governed or market.",
            "as_of_block": "Block that this price is from; NULL for files.",
            "as_of_at": "Time that this price is from, UTC.",
            "source": "Price source of this value.",
        }.items()
    },
    "bonus_quality": "The worst quality among the prices in it.",
    "bonus_trust": "market, where one of the prices in it is.",
    "bonus_source": "Price source of this value.",
    "seized_net_source": "Price source of this value.",
    "liquidations": "Number of liquidations, and of further parts of them.",
    "first_at": "Time of the first of them.",
    "last_at": "Time of the last of them.",
    "address": "Address of the token, lower case.",
    "symbol": "Symbol as the contract says it, cleaned for display.",
    "decimals": "Decimals as the contract says, 0 to 255; amounts are scaled up to 36.",
    "family": "What it stands for, e.g. ETH or USD; NULL where nobody has said.",
    "relation": "self, wrapped, bridged, staked or pegged.",
}

OF_ASSETS = {
    "chain": "The chain of the token.",
    "name": "Name as the contract says it, cleaned for display.",
    "trust": "governed: a governed oracle has priced it. unlisted: none has, as far as we asked.",
}
OF_KIN = {"chain": "The chain of the token.", "source": "Where this is known from."}
OF_POINTS = {"asset": "Address of the token, or its name on hyperliquid."}


def upgrade() -> None:
    for statements in (TABLES, SCALED, TRIGGERS, VIEWS, FUNCTION_COMMENTS):
        op.execute(statements)
    others = {"asset_kin": OF_KIN, "price_point": OF_POINTS, "assets": OF_ASSETS}
    for table, text in TABLE_COMMENTS.items():
        columns = COMMENTS | others.get(table, {})
        comment_on(op.get_bind(), "TABLE", f"ledger.{table}", text, columns)
    for view, text in VIEW_COMMENTS.items():
        columns = COMMENTS | others.get(view, {})
        comment_on(op.get_bind(), "VIEW", f"liq.{view}", text, columns)
