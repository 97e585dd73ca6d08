"""Totals of whole UTC days, kept beside the sums by account and forgotten with them.

`liq.total` of such a day is what was made of its rows when it was added up, with all its lines in
their order; every other window is read from rows. Whatever is to prove a total reads rows:
`ledger.total_of_rows`.
"""

from alembic import op

from indexer.store.comments import comment_on

revision = "0016"
down_revision = "0015"

TABLES = """
CREATE TABLE ledger.day_total (
    definition text COLLATE "C" NOT NULL,
    day date NOT NULL,
    place int NOT NULL,
    {total},
    PRIMARY KEY (definition, day, place),
    FOREIGN KEY (definition, day) REFERENCES ledger.rolled_day ON DELETE CASCADE
);

-- Days that were added up before have no totals: they are added up again.
TRUNCATE ledger.rolled_day, ledger.account_total, ledger.day_total;
"""

# The order of lines is that in which they are told, so that it is the same however a plan found
# them: the total, its splits, what stands beside, the largest.
FUNCTIONS = """
CREATE FUNCTION ledger.total_of_rows(
    definition text, low timestamptz, high timestamptz,
    block_from bigint DEFAULT NULL, block_to bigint DEFAULT NULL
) RETURNS TABLE ({total})
LANGUAGE plpgsql STABLE SET work_mem = '64MB' SET jit = off AS $$
DECLARE
    one ledger.definition := ledger.defined(definition);
BEGIN
    RETURN QUERY EXECUTE 'SELECT * FROM (' || ledger.total_query(one.query) || ') line'
            ' ORDER BY array_position(''{total,instrument,venue,asset,method,side,price_source,'
            'beside,largest}'', section), name COLLATE "C"'
        USING low, high, ledger.venues_with_rows(), block_from, block_to, one.gap,
            one.is_one_sum;
END $$;

CREATE FUNCTION ledger.accounts_of_rows(definition text, low timestamptz, high timestamptz)
RETURNS TABLE (venue text, account text, usd numeric, long_usd numeric, short_usd numeric,
               records bigint, unvalued bigint)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT l.venue COLLATE "C", l.unit COLLATE "C", sum(l.usd),
           sum(l.usd) FILTER (WHERE l.side = 'long'), sum(l.usd) FILTER (WHERE l.side = 'short'),
           count(*), count(*) - count(l.usd)
    FROM ledger.lines(definition, low, high, NULL, NULL) l
    WHERE l.line = 'counted' GROUP BY 1, 2;
END;

CREATE OR REPLACE FUNCTION liq.total(
    definition text, low timestamptz, high timestamptz,
    block_from bigint DEFAULT NULL, block_to bigint DEFAULT NULL
) RETURNS TABLE ({total})
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN QUERY
        SELECT {columns}
        FROM ledger.day_total t
        WHERE t.definition = total.definition AND t.day = (total.low AT TIME ZONE 'UTC')::date
          AND total.low = t.day::timestamp AT TIME ZONE 'UTC'
          AND total.high = (t.day + 1)::timestamp AT TIME ZONE 'UTC'
          AND total.block_from IS NULL AND total.block_to IS NULL
        ORDER BY t.place;
    IF NOT FOUND THEN  -- of a day without a row there is a line, that of the total
        RETURN QUERY
            SELECT * FROM ledger.total_of_rows(definition, low, high, block_from, block_to);
    END IF;
END $$;

CREATE OR REPLACE FUNCTION ledger.roll_up(definition text, day date) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    low timestamptz := day::timestamp AT TIME ZONE 'UTC';
    high timestamptz := (day + 1)::timestamp AT TIME ZONE 'UTC';
    one ledger.definition;
BEGIN
    PERFORM ledger.check_isolation();
    -- who compiles it anew waits, and forgets then what was made by the query before
    PERFORM FROM ledger.definition d WHERE d.id = roll_up.definition FOR SHARE;
    PERFORM pg_advisory_xact_lock(hashtext('indexer roll up'));
    one := ledger.defined(definition);
    IF NOT one.is_additive
       OR one.body::jsonb ->> 'account_unit' IS DISTINCT FROM 'address'
       OR one.body::jsonb -> 'labels'
            IS DISTINCT FROM '{"only": [], "without": [], "as_of": null}' THEN
        RETURN false;
    END IF;
    INSERT INTO ledger.rolled_day VALUES (definition, day) ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        RETURN true;
    END IF;
    INSERT INTO ledger.day_total
    SELECT roll_up.definition, roll_up.day, t.ordinality, {columns}
    FROM ledger.total_of_rows(definition, low, high) WITH ORDINALITY t;
    IF EXISTS (SELECT FROM ledger.day_total t
               WHERE (t.definition, t.day) = (roll_up.definition, roll_up.day)
                 AND (t.section, t.name) = ('beside', 'not_final')) THEN
        DELETE FROM ledger.rolled_day r
        WHERE (r.definition, r.day) = (roll_up.definition, roll_up.day);
        RETURN false;
    END IF;
    INSERT INTO ledger.account_total
    SELECT roll_up.definition, roll_up.day, a.*
    FROM ledger.accounts_of_rows(definition, low, high) a;
    RETURN true;
END $$;
"""

# Making sums and forgetting them each has to see what the other wrote while it waited: a snapshot
# of before would keep sums of rows that are not there any more, or not forget such sums.
FORGETTING = """
CREATE FUNCTION ledger.check_isolation() RETURNS void
LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF current_setting('transaction_isolation') NOT LIKE 'read %' THEN
        RAISE EXCEPTION 'liquidations and sums of days change in transactions of isolation level'
            ' READ COMMITTED alone'
            USING ERRCODE = 'invalid_transaction_state';
    END IF;
END $$;

CREATE OR REPLACE FUNCTION ledger.forget_days(low timestamptz, high timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM ledger.check_isolation();
    PERFORM pg_advisory_xact_lock_shared(hashtext('indexer roll up'));
    DELETE FROM ledger.rolled_day
    WHERE day BETWEEN (low AT TIME ZONE 'UTC')::date AND (high AT TIME ZONE 'UTC')::date;
END $$;

CREATE FUNCTION ledger.forget_days_of_heads() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtext('indexer roll up'));
    PERFORM ledger.forget_days(min(l.block_at), 'infinity')
    FROM ledger.lending_liquidation l
    WHERE ledger.chain_of(l.venue) = NEW.chain AND l.block_number > NEW.finalized_block;
    RETURN NULL;
END $$;

CREATE TRIGGER forget_days_of_heads_on_insert AFTER INSERT ON ledger.stream
    FOR EACH ROW EXECUTE FUNCTION ledger.forget_days_of_heads();
CREATE TRIGGER forget_days_of_heads_on_update AFTER UPDATE ON ledger.stream
    FOR EACH ROW WHEN (NEW.finalized_block < OLD.finalized_block)
    EXECUTE FUNCTION ledger.forget_days_of_heads();
"""

OF_TOTAL = {
    "section": "text", "name": "text", "usd": "numeric", "long_usd": "numeric",
    "short_usd": "numeric", "records": "bigint", "fills": "bigint", "orders": "bigint",
    "actions": "bigint", "positions": "bigint", "episodes": "bigint", "accounts": "bigint",
    "unvalued": "bigint", "venue": "text", "account": "text", "key": "text",
    "first_at": "timestamptz", "last_at": "timestamptz",
}  # fmt: skip

FUNCTION_COMMENTS = {
    "ledger.total_of_rows(text, timestamptz, timestamptz, bigint, bigint)": "A total as liq.total"
    " gives it, made of the rows of its window whatever is stored of its days.",
    "ledger.accounts_of_rows(text, timestamptz, timestamptz)": "What each account sums up to in a"
    " window, made of its rows.",
    "liq.total(text, timestamptz, timestamptz, bigint, bigint)": "A total under a definition: money"
    " and counts, split by instrument, venue, asset, method, side and price source; what stands"
    " beside it; the largest of each level. A whole UTC day comes as it is stored, where it is.",
    "ledger.roll_up(text, date)": "Adds up a day, its total and its sums by account; false where"
    " not all of it is final, where sums of days do not add up or opinions move them, and of"
    " owners, who become known later.",
    "ledger.check_isolation()": "An error in a transaction that does not see what others commit"
    " while it waits.",
    "ledger.forget_days(timestamptz, timestamptz)": "Totals and sums of these days do not hold any"
    " more.",
    "ledger.forget_days_of_heads()": "Nor when what counted as final is not: a chain begins to be"
    " followed below it, or its finalized block goes back.",
}
TABLE_COMMENTS = {
    "rolled_day": "UTC days whose totals stand in day_total and whose sums by account stand in"
    " account_total.",
    "day_total": "The total of one UTC day under a definition, each line as liq.total gives it.",
}
COMMENTS = {
    "definition": "Id of the definition.",
    "day": "UTC day.",
    "place": "Place of the line in the total, from 1.",
    "section": "What the line is of: total, instrument, venue, asset, method, side, price_source,"
    " beside or largest.",
    "name": "Which instrument, venue and so on; NULL of the total, and of what is unknown.",
    "usd": "US dollars; NULL where there are rows and none has a value.",
    "long_usd": "Of long positions; of loans whose collateral fell against dollars.",
    "short_usd": "Of short positions; of loans that owed something else and lost dollars.",
    "records": "Number of rows.",
    "fills": "Number of fills; NULL, as in the next ones, where the split does not count them.",
    "orders": "Number of orders.",
    "actions": "Number of actions: transactions, or triggers of the exchange.",
    "positions": "Number of positions.",
    "episodes": "Number of episodes.",
    "accounts": "Number of accounts.",
    "unvalued": "Rows among them without a value, in no sum.",
    "venue": "Venue of the largest; NULL of other lines.",
    "account": "Account of the largest.",
    "key": "Key of the largest.",
    "first_at": "Time of its first row.",
    "last_at": "Time of its last row.",
}


def upgrade() -> None:
    total = ", ".join(f"{name} {kind}" for name, kind in OF_TOTAL.items())
    columns = ", ".join(f"t.{name}" for name in OF_TOTAL)
    for statements in (TABLES, FORGETTING, FUNCTIONS):
        _run(statements.replace("{total}", total).replace("{columns}", columns))
    for function, text in FUNCTION_COMMENTS.items():
        _run(f"COMMENT ON FUNCTION {function} IS '{text}'")
    for table, text in TABLE_COMMENTS.items():
        comment_on(op.get_bind(), "TABLE", f"ledger.{table}", text, COMMENTS)


def _run(statements: str) -> None:
    """As it stands: colons and percent signs are no parameters."""
    op.get_bind().exec_driver_sql(statements.replace("%", "%%"))
