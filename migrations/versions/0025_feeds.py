"""What changed, for those who keep a copy: inserted, changed and withdrawn since they last asked.

Of rows that are written no list is kept, which would double the work of writing them. A statement
leaves one note a venue, and PostgreSQL itself keeps in each row, as xmin, the transaction that
wrote it: the rows of a note are those of its span with the xmin of the note. Of versions that go
there is a list; few ever do.
"""

from alembic import op

from indexer.store.comments import comment_on

revision = "0025"
down_revision = "0022"

TABLES = """
CREATE TABLE ledger.written (
    transaction xid8 NOT NULL,
    facts text NOT NULL,
    change text NOT NULL CHECK (change IN ('insert', 'update', 'delete')),
    venue text,
    rows bigint,
    first_block bigint,
    last_block bigint,
    first_at timestamptz,
    last_at timestamptz
);
CREATE INDEX written_transaction ON ledger.written (transaction);

CREATE TABLE ledger.replaced (
    transaction xid8 NOT NULL,
    facts text NOT NULL,
    venue text NOT NULL,
    event_key text COLLATE "C" NOT NULL,
    account text NOT NULL,
    block_at timestamptz,
    version xid
);
CREATE INDEX replaced_transaction ON ledger.replaced (transaction);

CREATE TABLE ledger.feed (
    notifies boolean NOT NULL
);
CREATE UNIQUE INDEX feed_is_one ON ledger.feed ((true));
INSERT INTO ledger.feed VALUES (true);
"""

# The functions have to be the same transaction, down to its savepoints, as the statement: none may
# catch an exception.
FUNCTIONS = """
CREATE FUNCTION ledger.note_written() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    told bigint;
BEGIN
    WITH note AS (
        INSERT INTO ledger.written
        SELECT pg_current_xact_id(), tg_table_name, lower(tg_op), venue, count(*),
               min(block_number), max(block_number), min(block_at), max(block_at)
        FROM changed GROUP BY venue
        RETURNING *
    )
    SELECT count(pg_notify('indexer_rows', json_build_object(
        'facts', facts || 's', 'venue', venue, 'change', change, 'rows', rows,
        'first_block', first_block, 'last_block', last_block
    )::text)) INTO told
    FROM note WHERE (SELECT notifies FROM ledger.feed);
    RETURN NULL;
END $$;

CREATE FUNCTION ledger.note_written_values() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    -- To read a venue and times from the rows themselves made an insert of them a fifth slower.
    scope json := nullif(current_setting('indexer.valued', true), '');
BEGIN
    INSERT INTO ledger.written (transaction, facts, change, venue, first_at, last_at)
    SELECT pg_current_xact_id(), tg_table_name, lower(tg_op), scope ->> 'venue',
           (scope ->> 'low')::timestamptz, (scope ->> 'high')::timestamptz;
    RETURN NULL;
END $$;

CREATE FUNCTION ledger.note_written_labels() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO ledger.written (transaction, facts, change, rows)
    SELECT pg_current_xact_id(), tg_table_name, lower(tg_op), count(*)
    FROM changed HAVING count(*) > 0;
    RETURN NULL;
END $$;

CREATE FUNCTION ledger.note_written_assets() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO ledger.written (transaction, facts, change, venue, rows)
    SELECT pg_current_xact_id(), tg_table_name, lower(tg_op), chain, count(*)
    FROM changed GROUP BY chain;
    RETURN NULL;
END $$;

CREATE FUNCTION ledger.note_written_rates() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO ledger.written (
        transaction, facts, change, venue, rows, first_block, last_block
    )
    SELECT pg_current_xact_id(), tg_table_name, lower(tg_op), chain, count(*),
           min(block_number), max(block_number)
    FROM changed GROUP BY chain;
    RETURN NULL;
END $$;

CREATE FUNCTION ledger.note_replaced() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO ledger.replaced VALUES (
        pg_current_xact_id(), tg_table_name, OLD.venue, OLD.event_key, OLD.account, OLD.block_at,
        OLD.xmin
    );
    RETURN NULL;
END $$;

CREATE FUNCTION ledger.note_replaced_label() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO ledger.replaced VALUES (
        pg_current_xact_id(), tg_table_name, OLD.venue, OLD.label || '/' || OLD.rule, OLD.account,
        lower(OLD.valid_during), OLD.xmin
    );
    RETURN NULL;
END $$;

CREATE FUNCTION ledger.note_replaced_values() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO ledger.replaced
    SELECT DISTINCT pg_current_xact_id(), tg_table_name, venue, event_key, account, block_at
    FROM changed WHERE fill_usd IS NULL;
    RETURN NULL;
END $$;
"""

TRIGGER = """
CREATE TRIGGER {name}_{event} AFTER {event} ON ledger.{table}
    REFERENCING {old_or_new} TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION ledger.{name}();
"""
TRIGGERS = (
    *(("note_written", table, "INSERT UPDATE DELETE") for table in (
        "liquidation", "lending_liquidation"
    )),
    ("note_written_labels", "label", "INSERT UPDATE"),
    ("note_written_assets", "asset", "INSERT UPDATE DELETE"),
    ("note_written_rates", "share_rate", "INSERT UPDATE DELETE"),
)  # fmt: skip
OLD_TRIGGERS = """
CREATE TRIGGER note_replaced AFTER UPDATE OR DELETE ON ledger.liquidation
    FOR EACH ROW EXECUTE FUNCTION ledger.note_replaced();
CREATE TRIGGER note_replaced AFTER UPDATE OR DELETE ON ledger.lending_liquidation
    FOR EACH ROW EXECUTE FUNCTION ledger.note_replaced();
CREATE TRIGGER note_replaced AFTER UPDATE OR DELETE ON ledger.label
    FOR EACH ROW WHEN (upper_inf(OLD.recorded_during))
    EXECUTE FUNCTION ledger.note_replaced_label();
CREATE TRIGGER note_written_values AFTER INSERT OR UPDATE ON ledger.valuation
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.note_written_values();
CREATE TRIGGER note_replaced_on_update AFTER UPDATE ON ledger.valuation
    REFERENCING OLD TABLE AS changed FOR EACH STATEMENT
    EXECUTE FUNCTION ledger.note_replaced_values();
CREATE TRIGGER note_replaced_on_delete AFTER DELETE ON ledger.valuation
    REFERENCING OLD TABLE AS changed FOR EACH STATEMENT
    EXECUTE FUNCTION ledger.note_replaced_values();
"""

TABLE_COMMENTS = {
    "written": "A note for each statement that wrote rows which feeds tell of, and venue. Its own"
    " xmin is that of the rows.",
    "replaced": "Versions of rows that went: withdrawn, or in place of which there is another.",
    "feed": "Settings of feeds: one row.",
}
COMMENTS = {
    "transaction": "The transaction that did it, without savepoints.",
    "facts": "Table of the rows.",
    "change": "insert, update or delete.",
    "venue": "Venue of the rows; of assets and rates their chain; NULL of labels, and"
    " of values that may be of any.",
    "rows": "How many rows; NULL of values.",
    "first_block": "The first block of the rows; NULL where they have none.",
    "last_block": "The last block of the rows.",
    "first_at": "Time of the first of them, or before it; NULL where not known.",
    "last_at": "Time of the last of them, or after it.",
    "event_key": "Key of the row; of a label itself and its rule.",
    "account": "Account of the row.",
    "block_at": "Time of the block that the row was of; of a label, since when it held.",
    "version": "xmin of the version that went; NULL of values.",
    "notifies": "Whether writers notify the channel indexer_rows. It makes commits wait for each"
    " other.",
}
FUNCTION_COMMENTS = {
    "note_written": "Notes of which venue, blocks and times rows were written, and notifies"
    " indexer_rows.",
    "note_written_values": "Notes that values were written: of which venue and times, says the"
    " setting indexer.valued, and where it says nothing they may be of any.",
    "note_written_labels": "Notes that labels were written.",
    "note_written_assets": "Notes of which chains what is known of tokens was written.",
    "note_written_rates": "Notes of which blocks what shares were worth was written.",
    "note_replaced": "Keeps the key of a version that went, and who wrote it.",
    "note_replaced_label": "Keeps the key of a label that does not stand any more.",
    "note_replaced_values": "Keeps whose values went.",
}


def upgrade() -> None:
    op.execute(TABLES)
    op.execute(FUNCTIONS)
    op.execute(OLD_TRIGGERS)
    for name, table, events in TRIGGERS:
        for event in events.split():
            old_or_new = "OLD" if event == "DELETE" else "NEW"
            op.execute(TRIGGER.format(name=name, table=table, event=event, old_or_new=old_or_new))
    for table, text in TABLE_COMMENTS.items():
        comment_on(op.get_bind(), "TABLE", f"ledger.{table}", text, COMMENTS)
    for function, text in FUNCTION_COMMENTS.items():
        op.execute(f"COMMENT ON FUNCTION ledger.{function}() IS '{text}'")
