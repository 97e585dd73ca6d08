"""What stood before a liquidation: the market's open interest, the account's debt.

What rules say of an account may change with either. Open interest names no account: those are noted
that were liquidated in its markets within the time that it may be used for.
"""

from alembic import op

from indexer.store.comments import comment_on

revision = "0015"
down_revision = "0014"

TABLES = """
CREATE TABLE ledger.interest_file (
    file_id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    venue text NOT NULL,
    uri text NOT NULL,
    sha256 text NOT NULL,
    day date NOT NULL,
    missing tstzmultirange NOT NULL,
    markets int NOT NULL,
    observations bigint NOT NULL,
    imported_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (venue, sha256)
);

CREATE TABLE ledger.open_interest (
    venue text NOT NULL,
    market text COLLATE "C" NOT NULL,
    at timestamptz NOT NULL,
    open_interest numeric NOT NULL CHECK (open_interest >= 0 AND open_interest < 'Infinity'),
    file_id int REFERENCES ledger.interest_file,
    PRIMARY KEY (venue, market, at)
);

CREATE TABLE ledger.debt_before (
    venue text NOT NULL,
    account text NOT NULL CHECK (account = lower(account)),
    market text NOT NULL,
    block_number bigint NOT NULL,
    block_hash text NOT NULL,
    block_at timestamptz NOT NULL,
    debt numeric CHECK (debt >= 0),
    collateral numeric CHECK (collateral >= 0),
    health_factor numeric,
    liquidation_threshold numeric,
    quote text,
    quote_usd numeric CHECK (quote_usd > 0 AND quote_usd < 'Infinity'),
    via text[],
    reason text,
    asked_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account, venue, market, block_number),
    CHECK ((reason IS NULL) = (debt IS NOT NULL AND quote_usd IS NOT NULL))
);

CREATE INDEX account_state_block ON ledger.account_state (account, venue)
    WHERE block_number IS NOT NULL;

ALTER TABLE ledger.flag DROP CONSTRAINT flag_level_check,
    ADD CONSTRAINT flag_level_check
        CHECK (level IN ('liquidation', 'order', 'position', 'action', 'episode'));
"""

VIEWS = """
CREATE VIEW liq.open_interest AS
SELECT o.venue, o.market, o.at, o.open_interest, coalesce(f.uri, 'metaAndAssetCtxs') AS source
FROM ledger.open_interest o LEFT JOIN ledger.interest_file f USING (file_id);

CREATE VIEW liq.open_interest_missing AS
SELECT venue, day, lower(hole) AS after_at, upper(hole) AS before_at
FROM (
    -- what no file of the day has
    SELECT venue, day, unnest(range_intersect_agg(missing)) AS hole
    FROM ledger.interest_file GROUP BY venue, day
) holes;

CREATE VIEW liq.open_interest_days AS
SELECT f.venue, f.day, 1440 - coalesce(holes.minutes, 0) AS minutes,
       coalesce(holes.minutes, 0) AS minutes_missing, f.markets, f.sources, f.imported_at
FROM (
    SELECT venue, day, max(markets) AS markets, array_agg(uri ORDER BY file_id) AS sources,
           max(imported_at) AS imported_at
    FROM ledger.interest_file GROUP BY venue, day
) f
LEFT JOIN (
    SELECT venue, day, (sum(extract(epoch FROM before_at - after_at)) / 60)::int AS minutes
    FROM liq.open_interest_missing GROUP BY venue, day
) holes USING (venue, day);

CREATE VIEW liq.debts AS
SELECT d.venue, d.account, d.market, d.block_number, d.block_hash, d.block_at AS at, d.debt,
       d.collateral, d.health_factor, d.quote, d.quote_usd, d.debt * d.quote_usd AS debt_usd,
       d.via, 'debt' AS asked_by, d.reason
FROM ledger.debt_before d
UNION ALL
-- who has no position owes nothing, in whatever unit
SELECT a.venue, a.account, a.dex, a.block_number, NULL, a.observed_at,
       CASE WHEN a.positions = 0 THEN 0 ELSE p.debt END,
       CASE WHEN a.positions = 0 THEN a.equity ELSE p.value END, p.health_factor, a.quote,
       CASE WHEN a.quote = 'usd' OR liq.at_par(a.quote) THEN 1 END,
       CASE WHEN a.positions = 0 THEN 0
            WHEN a.quote = 'usd' OR liq.at_par(a.quote) THEN p.debt END,
       NULL, 'watch', NULL
FROM ledger.account_state a
LEFT JOIN ledger.position_state p
    ON (p.account, p.venue, p.dex, p.market, p.observed_at)
     = (a.account, a.venue, a.dex, a.dex, a.observed_at)
WHERE a.block_number IS NOT NULL;
"""

# Bodies are quoted, so that liq.episodes may be defined anew.
FUNCTIONS = """
CREATE FUNCTION ledger.checked_age(age interval) RETURNS interval
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    IF age > interval '1 hour' OR age < interval '0' THEN
        RAISE EXCEPTION 'open interest may be used for an hour at most, not for %', age
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN age;
END $$;

CREATE FUNCTION liq.liquidated_positions(
    max_age interval DEFAULT interval '300 seconds', of_accounts text[] DEFAULT NULL
)
RETURNS TABLE (
    key text, venue text, account text, dex text, market text, episode_key text,
    first_at timestamptz, last_at timestamptz, liquidations bigint, size numeric,
    notional_usd numeric, open_interest numeric, open_interest_at timestamptz,
    open_interest_source text, account_is_protocol_vault boolean
)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT closed.episode_key || '/' || closed.market, closed.venue, closed.account, closed.dex,
           closed.market, closed.episode_key, closed.first_at, closed.last_at,
           closed.liquidations, closed.size, closed.notional_usd,
           before.open_interest, before.at, before.source, closed.is_vault
    FROM (
        SELECT e.key AS episode_key, l.venue, l.account, l.dex, l.market,
               min(l.block_at) AS first_at, max(l.block_at) AS last_at, count(*) AS liquidations,
               sum(l.size) AS size,
               CASE WHEN bool_and(l.notional_usd IS NOT NULL) THEN sum(l.notional_usd) END
                   AS notional_usd,
               bool_or(l.account_is_protocol_vault) AS is_vault
        FROM liq.episodes() e
        JOIN liq.liquidations l ON (l.venue, l.account, l.dex) = (e.venue, e.account, e.dex)
            AND l.block_at >= e.first_at AND l.block_at <= e.last_at
        WHERE (of_accounts IS NULL OR e.account = ANY (of_accounts))
          AND (of_accounts IS NULL OR l.account = ANY (of_accounts))
        GROUP BY e.key, l.venue, l.account, l.dex, l.market
    ) closed
    LEFT JOIN LATERAL (
        SELECT o.open_interest, o.at, o.source
        FROM liq.open_interest o
        WHERE (o.venue, o.market) = (closed.venue, closed.market)
          AND o.at <= closed.first_at AND o.at >= closed.first_at - ledger.checked_age(max_age)
        ORDER BY o.at DESC LIMIT 1
    ) before ON true
$$;

CREATE FUNCTION ledger.note_open_interest() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    span record;
BEGIN
    -- one span at a time: what a join of them would cost, the planner cannot guess
    FOR span IN
        SELECT venue, min(at) AS low, max(at) + interval '1 hour' AS high,
               array_agg(DISTINCT market) AS markets
        FROM changed GROUP BY venue ORDER BY venue
    LOOP
        INSERT INTO ledger.changed_account (account, facts)
        SELECT DISTINCT l.account, 'open_interest' FROM ledger.liquidation l
        WHERE l.venue = span.venue AND l.block_at >= span.low AND l.block_at <= span.high
          AND l.market = ANY (span.markets)
        ORDER BY l.account ON CONFLICT DO NOTHING;
    END LOOP;
    RETURN NULL;
END $$;

CREATE FUNCTION ledger.note_watched_debts() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO ledger.changed_account (account, facts)
    SELECT DISTINCT c.account, 'debts' FROM changed c
    WHERE c.block_number IS NOT NULL AND EXISTS (
        SELECT FROM ledger.lending_liquidation l WHERE (l.account, l.venue) = (c.account, c.venue)
    )
    ORDER BY c.account ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
"""

TRIGGER = """
CREATE TRIGGER note_{what}_{event} AFTER {event} ON ledger.{table}
    REFERENCING {old_or_new} TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION ledger.{call};
"""
NOTE_DEBTS = "note_changed_accounts('debts')"
TRIGGERS = (
    ("interest", "open_interest", "INSERT", "NEW", "note_open_interest()"),
    ("interest", "open_interest", "UPDATE", "NEW", "note_open_interest()"),
    ("interest", "open_interest", "DELETE", "OLD", "note_open_interest()"),
    ("debts", "debt_before", "INSERT", "NEW", NOTE_DEBTS),
    ("debts", "debt_before", "UPDATE", "NEW", NOTE_DEBTS),
    ("debts", "debt_before", "DELETE", "OLD", NOTE_DEBTS),
    # rows are only added
    ("debts", "account_state", "INSERT", "NEW", "note_watched_debts()"),
)

FUNCTION_COMMENTS = {
    "ledger.checked_age(interval)": "How old open interest may be, refused above an hour: for so"
    " long after it liquidations are noted when it changes.",
    "liq.liquidated_positions(interval, text[])": "What was closed by force of each position, an"
    " account in a market, within an episode, and the open interest of the market just before: the"
    " last known one at or before the first fill that is not older than the age, else NULL.",
    "ledger.note_open_interest()": "What rules say of those liquidated in these markets in the hour"
    " after has to be looked at again.",
    "ledger.note_watched_debts()": "What rules say of these accounts has to be looked at again,"
    " where they were liquidated.",
}
COMMENTS = {
    "venue": "A protocol on a chain, e.g. hyperliquid or aave_v3.ethereum.",
    "account": "Address of the account concerned, lower case.",
    "market": "Coin as published, e.g. BTC or xyz:TSLA; of a debt the pool.",
    "at": "When it was so: as a file says, of an answer when we had it; of a debt the time of its"
    " block.",
    "open_interest": "Size of all open positions, as the exchange counts it: in units of the"
    " market, each contract once and not for both sides.",
    "file_id": "The file that says it; NULL where the exchange was asked.",
    "source": "The file that says it, or metaAndAssetCtxs where the exchange was asked.",
    "sources": "All files of the day that were imported.",
    "uri": "Path or s3:// address as it was given.",
    "sha256": "Hash of what is in the file, unpacked.",
    "day": "The UTC day of the file.",
    "missing": "Minutes of the day of which it has no market at all.",
    "minutes": "Minutes of the day, of 1,440, in which any market was observed.",
    "minutes_missing": "Minutes of the day of which no file has a market.",
    "markets": "How many markets are in it.",
    "observations": "How many lines are in it, each once.",
    "imported_at": "When it was imported.",
    "after_at": "When the hole begins.",
    "before_at": "When the hole ends.",
    "block_number": "The block at whose end the pool was asked.",
    "block_hash": "Hash of that block; NULL where the newest block was asked.",
    "block_at": "Time of that block, UTC.",
    "debt": "What the account owed in the pool, in the unit of its oracle.",
    "collateral": "What stood against it, in that unit.",
    "health_factor": "Below 1 it can be liquidated.",
    "liquidation_threshold": "Share of the collateral that the debt may reach.",
    "quote": "The unit of the pool's oracle: usd, or a token.",
    "quote_usd": "Dollars for one whole unit, at that block: 1 where the oracle counts in dollars,"
    " else what a reference oracle of the chain says. NULL where nobody does.",
    "debt_usd": "The debt in dollars.",
    "via": "The contracts that the debt and its dollars rest on: the pool's oracle, then those of"
    " the price of its unit. NULL where the unit alone was asked for.",
    "asked_by": "debt: indexer debt, at the block before a liquidation. watch: indexer watch.",
    "reason": "Why the debt is unknown, or its dollars are.",
    "asked_at": "When we asked.",
    "level": "What is flagged: liquidation (a fill), order, position (a market within an episode),"
    " action or episode.",
}
TABLE_COMMENTS = {
    "TABLE ledger.interest_file": "Files of open interest that were imported, each of one UTC day.",
    "TABLE ledger.open_interest": "Open interest of markets at moments, from files and from the"
    " exchange's API. No row: unknown.",
    "TABLE ledger.debt_before": "What a pool said of an account at the end of the block before a"
    " liquidation, or why that is unknown.",
    "VIEW liq.open_interest": "Open interest of markets at moments, and who says so.",
    "VIEW liq.open_interest_days": "How many minutes of each imported day have open interest.",
    "VIEW liq.open_interest_missing": "Holes in imported days: times of which no file has any"
    " market.",
    "VIEW liq.debts": "What accounts owed in pools at the end of blocks: watched, or asked for"
    " before a liquidation.",
}


def upgrade() -> None:
    triggers = (
        TRIGGER.format(what=what, table=table, event=event, old_or_new=old_or_new, call=call)
        for what, table, event, old_or_new, call in TRIGGERS
    )
    bind = op.get_bind()
    for statements in (TABLES, VIEWS, FUNCTIONS, *triggers):
        bind.exec_driver_sql(statements.replace("%", "%%"))
    for function, text in FUNCTION_COMMENTS.items():
        op.execute(f"COMMENT ON FUNCTION {function} IS '{text}'")
    for name, text in TABLE_COMMENTS.items():
        kind, _, relation = name.partition(" ")
        comment_on(bind, kind, relation, text, COMMENTS)
    for relation in ("ledger.flag", "liq.flags"):
        op.execute(f"COMMENT ON COLUMN {relation}.level IS '{COMMENTS['level']}'")
