"""Roles: who reads what strangers may build on, and nothing else; who writes rows, and no table.

Roles belong to the whole server: several databases share them, and several migrations may make them
at once. Whoever may not make a role migrates all the same; `indexer db roles` says what is lacking,
and `indexer db roles --repair` makes it when somebody may. A reader needs no right on the tables:
views read them with their owner's, and so do those functions of `liq` that go beyond the views.
"""

from alembic import op

from indexer.store.comments import comment_on
from indexer.store.contract import publish

revision = "0024"
down_revision = "0023"

TABLES = """
CREATE TABLE ledger.reader_limit (
    role text COLLATE "C" PRIMARY KEY,
    statement interval NOT NULL CHECK (statement > interval '0'),
    idle interval NOT NULL CHECK (idle > interval '0'),
    whole interval NOT NULL CHECK (whole > interval '0'),
    recorded_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO ledger.reader_limit VALUES ('indexer_reader', '10 minutes', '1 minute', '30 minutes');
"""

# What reads tables in its body; a fixed path, so that no caller chooses what names mean. What only
# calls these stays as it is, for the planner to see through.
AS_OWNER = (
    "liq.content_hash(text, timestamptz, timestamptz)",
    "liq.largest_accounts(text, timestamptz, timestamptz, int)",
    "liq.price_set(text, timestamptz, timestamptz, bigint, bigint)",
    "liq.total(text, timestamptz, timestamptz, bigint, bigint)",
    "ledger.has_read(text, bigint, bigint)",
    "ledger.has_read(text, timestamptz, timestamptz)",
    "ledger.last_owner(text, text)",
    "ledger.lines(text, timestamptz, timestamptz, bigint, bigint)",
    "ledger.moment_of(text, text)",
    "ledger.reached()",
)

# As it was, but with names that were looked up once: a reader may not look into ledger.
LOOKED_UP = """
CREATE OR REPLACE FUNCTION liq.liquidated_positions(
    max_age interval DEFAULT interval '300 seconds', of_accounts text[] DEFAULT NULL
)
RETURNS TABLE (
    key text, venue text, account text, dex text, market text, episode_key text,
    first_at timestamptz, last_at timestamptz, liquidations bigint, size numeric,
    notional_usd numeric, open_interest numeric, open_interest_at timestamptz,
    open_interest_source text, account_is_protocol_vault boolean
)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
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
    ) before ON true;
END;
"""

# A role that somebody made at the same moment is as good as ours.
FUNCTIONS = """
CREATE FUNCTION ledger.make_roles() RETURNS SETOF text
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    name text;
    one record;
BEGIN
    FOREACH name IN ARRAY '{indexer_reader,indexer_writer}'::text[] LOOP
        IF to_regrole(name) IS NULL THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', name);
            EXCEPTION
                WHEN duplicate_object OR unique_violation THEN NULL;
                WHEN insufficient_privilege THEN
                    RETURN NEXT format('%s may not make the role %s', current_user, name);
            END;
        END IF;
    END LOOP;
    FOR one IN
        SELECT rolname FROM pg_roles WHERE rolname IN ('indexer_reader', 'indexer_writer')
        ORDER BY 1
    LOOP
        EXECUTE format('REVOKE ALL ON SCHEMA liq, ledger FROM %I', one.rolname);
        EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA liq FROM %I', one.rolname);
        EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA ledger FROM %I', one.rolname);
        EXECUTE format('REVOKE ALL ON ALL SEQUENCES IN SCHEMA ledger FROM %I', one.rolname);
        EXECUTE format('GRANT USAGE ON SCHEMA liq TO %I', one.rolname);
        EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA liq TO %I', one.rolname);
        EXECUTE format('GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA liq TO %I', one.rolname);
        EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA liq GRANT SELECT ON TABLES TO %I',
                       one.rolname);
        EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA liq GRANT EXECUTE ON FUNCTIONS TO %I',
                       one.rolname);
    END LOOP;
    IF to_regrole('indexer_writer') IS NOT NULL THEN
        GRANT USAGE ON SCHEMA ledger TO indexer_writer;
        GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA ledger TO indexer_writer;
        GRANT USAGE ON ALL SEQUENCES IN SCHEMA ledger TO indexer_writer;
        GRANT EXECUTE ON ALL ROUTINES IN SCHEMA ledger TO indexer_writer;
        ALTER DEFAULT PRIVILEGES IN SCHEMA ledger
            GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO indexer_writer;
        ALTER DEFAULT PRIVILEGES IN SCHEMA ledger
            GRANT USAGE ON SEQUENCES TO indexer_writer;
        ALTER DEFAULT PRIVILEGES IN SCHEMA ledger
            GRANT EXECUTE ON ROUTINES TO indexer_writer;
        -- what migrations say, and what the guard goes by
        REVOKE INSERT, UPDATE, DELETE
            ON ledger.alembic_version, ledger.contract, ledger.reader_limit FROM indexer_writer;
    END IF;
END $$;

-- Beyond its limit a statement is cancelled, and if it does not heed that its session ends; a
-- transaction that idles, or goes on and on, can only be ended with its session.
CREATE FUNCTION ledger.guard()
RETURNS TABLE (pid int, role text, done text, why text, since interval)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    grace CONSTANT interval := interval '5 seconds';
    one record;
BEGIN
    FOR one IN
        SELECT a.pid, a.usename::text AS role, a.state, l.statement, l.idle, l.whole,
               clock_timestamp() - a.query_start AS running,
               clock_timestamp() - a.state_change AS idling,
               clock_timestamp() - a.xact_start AS lasting
        FROM pg_stat_activity a
        JOIN pg_roles r ON r.oid = a.usesysid
        CROSS JOIN LATERAL (
            SELECT l.* FROM ledger.reader_limit l
            WHERE l.role IN (a.usename, 'indexer_reader')
            ORDER BY l.role = 'indexer_reader' LIMIT 1
        ) l
        WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()
          AND pg_has_role(r.oid, to_regrole('indexer_reader'), 'USAGE')
          AND NOT coalesce(pg_has_role(r.oid, to_regrole('indexer_writer'), 'USAGE'), false)
          AND NOT r.rolsuper
          AND r.oid <> (SELECT nspowner FROM pg_namespace WHERE nspname = 'ledger')
    LOOP
        pid := one.pid;
        role := one.role;
        done := NULL;
        IF one.state = 'active' AND one.running > one.statement THEN
            done := CASE WHEN one.running > one.statement + grace THEN 'ended' ELSE 'cancelled' END;
            why := 'a statement longer than ' || one.statement;
            since := one.running;
        ELSIF one.state LIKE 'idle in transaction%' AND one.idling > one.idle THEN
            done := 'ended';
            why := 'a transaction idle for longer than ' || one.idle;
            since := one.idling;
        ELSIF one.lasting > one.whole THEN
            done := 'ended';
            why := 'a transaction longer than ' || one.whole;
            since := one.lasting;
        END IF;
        IF done IS NOT NULL THEN
            BEGIN
                IF done = 'cancelled' THEN
                    PERFORM pg_cancel_backend(one.pid);
                ELSE
                    PERFORM pg_terminate_backend(one.pid);
                END IF;
            EXCEPTION WHEN insufficient_privilege THEN
                done := 'refused';
            END;
            RETURN NEXT;
        END IF;
    END LOOP;
END $$;

-- A writer makes all episodes anew without the index, and owns no table.
CREATE PROCEDURE ledger.unindex_episodes()
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DROP INDEX ledger.episode_size;
END $$;
ALTER PROCEDURE ledger.index_episodes() SECURITY DEFINER;
ALTER PROCEDURE ledger.index_episodes() SET search_path = pg_catalog, pg_temp;
REVOKE EXECUTE ON FUNCTION ledger.make_roles(), ledger.guard() FROM PUBLIC;
REVOKE EXECUTE ON PROCEDURE ledger.index_episodes(), ledger.unindex_episodes() FROM PUBLIC;
"""

VIEWS = """
CREATE VIEW liq.roles AS
SELECT wanted.role, r.oid IS NOT NULL AS is_there,
       CASE WHEN r.oid IS NOT NULL THEN ARRAY(
           SELECT n.nspname || '.' || c.relname
           FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
           WHERE c.relkind IN ('r', 'p', 'v', 'm')
             AND (n.nspname = 'liq' AND NOT has_table_privilege(r.oid, c.oid, 'SELECT')
                  OR n.nspname = 'ledger' AND wanted.role = 'indexer_writer'
                     AND NOT has_table_privilege(r.oid, c.oid, 'SELECT'))
           UNION ALL
           SELECT 'liq.' || p.proname
           FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
           WHERE n.nspname = 'liq' AND NOT has_function_privilege(r.oid, p.oid, 'EXECUTE')
           ORDER BY 1
       ) END AS lacks,
       CASE WHEN r.oid IS NOT NULL THEN ARRAY(
           SELECT n.nspname || '.' || c.relname
           FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
           WHERE c.relkind IN ('r', 'p', 'v', 'm')
             AND (n.nspname = 'ledger' AND wanted.role = 'indexer_reader'
                  AND has_table_privilege(r.oid, c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE')
                  OR n.nspname = 'ledger' AND wanted.role = 'indexer_writer'
                     AND has_table_privilege(r.oid, c.oid, 'TRUNCATE')
                  OR n.nspname = 'liq'
                     AND has_table_privilege(r.oid, c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE'))
           UNION ALL
           SELECT n.nspname FROM pg_namespace n
           WHERE n.nspname IN ('liq', 'ledger') AND has_schema_privilege(r.oid, n.oid, 'CREATE')
           ORDER BY 1
       ) END AS exceeds
FROM (VALUES ('indexer_reader'), ('indexer_writer')) wanted (role)
LEFT JOIN pg_roles r ON r.rolname = wanted.role;

CREATE VIEW liq.reader_limits AS
SELECT role, statement, idle, whole, recorded_at FROM ledger.reader_limit;
"""

FUNCTION_COMMENTS = {
    "ledger.make_roles()": "Makes the roles that are not there, and gives both their rights; tells"
    " what it may not do.",
    "ledger.guard()": "Cancels statements of readers that are beyond their limit, ends the session"
    " where that did not help; tells what it did.",
}
TABLE_COMMENTS = {"reader_limit": "How long readers may take; set by indexer db reader."}
VIEW_COMMENTS = {
    "roles": "The roles that readers and writers are members of, what rights they lack and which"
    " they have too many of: indexer db roles --repair.",
    "reader_limits": "How long readers may take before the guard cancels them; of a reader without"
    " a row that of indexer_reader holds.",
}
COMMENTS = {
    "role": "Name of the role.",
    "is_there": "The server has the role.",
    "lacks": "Tables, views and functions that it should read and may not; NULL where it is not"
    " there.",
    "exceeds": "What it may change, or read, and should not; NULL where it is not there.",
    "statement": "The longest statement.",
    "idle": "The longest pause within a transaction.",
    "whole": "The longest transaction.",
    "recorded_at": "When it was set.",
}


def upgrade() -> None:
    bind = op.get_bind()
    for statements in (TABLES, LOOKED_UP, FUNCTIONS, VIEWS):
        bind.exec_driver_sql(statements.replace("%", "%%"))
    for function in AS_OWNER:
        bind.exec_driver_sql(
            f"ALTER FUNCTION {function} SECURITY DEFINER SET search_path = pg_catalog, pg_temp"
        )
    for function, text in FUNCTION_COMMENTS.items():
        bind.exec_driver_sql(f"COMMENT ON FUNCTION {function} IS '{text}'")
    bind.exec_driver_sql(
        "COMMENT ON PROCEDURE ledger.unindex_episodes() IS"
        " 'Drops the index that index_episodes makes again.'"
    )
    for table, text in TABLE_COMMENTS.items():
        comment_on(bind, "TABLE", f"ledger.{table}", text, COMMENTS)
    for view, text in VIEW_COMMENTS.items():
        comment_on(bind, "VIEW", f"liq.{view}", text, COMMENTS)
    publish(bind, "1.1")
    bind.exec_driver_sql("SELECT ledger.make_roles()")
