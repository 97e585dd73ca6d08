"""The schema explains itself and stays what the migrations say."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from indexer import resources
from indexer.errors import ConfigError
from indexer.store import database
from indexer.store.database import Connection
from indexer.store.migration import upgrade
from indexer.store.server import Server
from tests.ledger_rows import rows
from tests.postgres import database as throw_away
from tests.processes import soon
from tests.rpc_proxy import plays


@pytest.mark.any_postgres
def test_every_table_view_and_column_has_a_comment(connection: Connection) -> None:
    silent = """
        SELECT c.oid::regclass::text, a.attname
        FROM pg_class c
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum >= 0 AND NOT a.attisdropped
        WHERE c.relnamespace IN ('ledger'::regnamespace, 'liq'::regnamespace)
          AND c.relkind IN ('r', 'v') AND c.relname <> 'alembic_version'
          AND (col_description(c.oid, a.attnum) IS NULL OR obj_description(c.oid) IS NULL)
    """
    assert rows(connection, silent) == []


def test_every_function_has_a_comment(connection: Connection) -> None:
    silent = """
        SELECT proname FROM pg_proc
        WHERE pronamespace = 'liq'::regnamespace AND obj_description(oid) IS NULL
    """
    assert rows(connection, silent) == []


def test_no_column_is_a_float_or_a_time_without_zone(connection: Connection) -> None:
    loose = """
        SELECT table_name, column_name FROM information_schema.columns
        WHERE table_schema IN ('ledger', 'liq')
          AND data_type IN ('real', 'double precision', 'timestamp without time zone')
    """
    assert rows(connection, loose) == []


def test_the_newest_revision_is_what_alembic_calls_head() -> None:
    config = Config()
    config.set_main_option("script_location", str(resources.folder("migrations")))

    assert database.newest_revision() == ScriptDirectory.from_config(config).get_current_head()


@pytest.mark.any_postgres
def test_two_commands_migrate_an_empty_database_at_once(postgres: Server) -> None:
    with throw_away(postgres) as conninfo:
        program = f"from indexer.store import database; database.migrate({conninfo!r})"
        both = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(2)]

        assert [process.wait(60) for process in both] == [0, 0]
        with database.connect(conninfo) as connection:
            assert rows(connection, "SELECT version_num FROM ledger.alembic_version") == [
                (database.newest_revision(),)
            ]


@plays(
    "P15",
    "a reader's open transaction while a migration changes the table",
    "the change gives up after two seconds, lets writers pass, and is tried again",
)
def test_P15_a_long_reader_holds_up_a_migration_but_nobody_else(postgres: Server) -> None:
    with throw_away(postgres) as conninfo:
        upgrade(conninfo, "0002")
        with database.connect(conninfo) as reader, database.connect(conninfo) as writer:
            reader.execute("BEGIN")
            reader.execute("SELECT FROM ledger.coverage")
            with ThreadPoolExecutor(1) as thread:
                migration = thread.submit(upgrade, conninfo)
                until_it_waits(writer)
                writer.execute("SET statement_timeout = '10s'")
                writer.execute(COVER, ("[1,10)",))
                was_done = migration.done()
                reader.execute("COMMIT")
                migration.result(timeout=60)

            assert was_done is False
            assert rows(writer, "SELECT version_num FROM ledger.alembic_version") == [
                (database.newest_revision(),)
            ]


def until_it_waits(connection: Connection) -> None:
    """Until some transaction waits for a lock on a table."""
    query = "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND locktype = 'relation'"
    soon(lambda: rows(connection, query) == [(True,)])


COVER = """
    INSERT INTO ledger.coverage (venue, facts, blocks, times, verification, decoder_version)
    VALUES ('hyperliquid', 'liquidations', %s, tstzrange(now(), now(), '[]'), 'every_height', 1)
"""


def test_the_same_blocks_cannot_be_covered_twice(connection: Connection) -> None:
    connection.execute(COVER, ("[1,10)",))

    with pytest.raises(Exception, match="covered_once"):
        connection.execute(COVER, ("[9,12)",))


def test_a_database_that_cannot_be_reached_is_named_without_its_password() -> None:
    with pytest.raises(ConfigError) as caught:
        database.connect("postgresql://somebody:canary-secret@127.0.0.1:1/base")

    assert "127.0.0.1:1/base" in str(caught.value)
    assert "canary-secret" not in str(caught.value)
    assert caught.value.__cause__ is None
