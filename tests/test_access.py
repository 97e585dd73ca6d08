"""Roles, as somebody who logs in with one finds them; and the guard over readers."""

import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.sql import SQL, Identifier

from indexer.errors import ConfigError
from indexer.store import access, database
from indexer.store.access import READER, WRITER, Limits
from indexer.store.database import Connection
from indexer.store.migration import upgrade
from indexer.store.server import Server
from tests.conftest import Command
from tests.ledger_rows import rows
from tests.postgres import cluster, new_database
from tests.postgres import database as throw_away
from tests.processes import following, soon, stopped
from tests.simulator import simulate, small, write_by_block
from tests.test_totals import store_by_hand

PASSWORD = "canary-of-a-password"
RECORDING = Path(access.__file__).parents[1] / "recording"


def login(conninfo: str, name: str) -> str:
    parts: dict[str, Any] = dict(conninfo_to_dict(conninfo))
    return make_conninfo(**{**parts, "user": name, "password": PASSWORD})


@contextmanager
def logged_in(conninfo: str, name: str) -> Iterator[Connection]:
    with psycopg.connect(login(conninfo, name), autocommit=True) as connection:
        yield connection


def name_of_login() -> str:
    """Roles are of the whole server: each test has its own."""
    return f"r_{uuid4().hex[:12]}"


@pytest.fixture
def make(connection: Connection) -> Iterator[Callable[..., str]]:
    """Makes logins that go with the test."""
    made: list[str] = []

    def run(group: Any = READER, connections: int = 5, **limits: timedelta) -> str:
        name = name_of_login()
        chosen = Limits(**limits) if group == READER else None
        access.make_login(connection, name, group, PASSWORD, connections, chosen)
        made.append(name)
        return name

    yield run
    for name in made:
        connection.execute(SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(Identifier(name)))


# -- what a reader may ---------------------------------------------------------------------------

VIEWS = """
    SELECT 'SELECT * FROM liq.' || quote_ident(relname) FROM pg_class
    WHERE relnamespace = 'liq'::regnamespace AND relkind IN ('v', 'm', 'r', 'p')
"""
# Each function with some arguments that it takes.
FUNCTIONS = """
    SELECT 'SELECT * FROM liq.' || quote_ident(proname) || '(' || (
        SELECT coalesce(string_agg(quote_literal(CASE
                   WHEN arg = 'text'::regtype AND proargnames[n] = 'definition' THEN 'strict/v1'
                   WHEN arg = 'text'::regtype AND proargnames[n] IN ('low', 'high')
                   THEN '2025-10-1' || n - 2
                   WHEN arg = 'timestamptz'::regtype THEN '2025-10-1' || n || 'Z'
                   WHEN arg = 'text'::regtype THEN 'hyperliquid'
                   WHEN arg = 'interval'::regtype THEN '5 min'
                   WHEN arg = 'text[]'::regtype THEN '{0xa}'
                   ELSE '3' END) || '::' || format_type(arg, NULL), ', ' ORDER BY n), '')
        FROM unnest(proargtypes::oid[]) WITH ORDINALITY args (arg, n)) || ')'
    FROM pg_proc WHERE pronamespace = 'liq'::regnamespace
"""


@pytest.mark.any_postgres
def test_a_reader_reads_every_view_and_calls_every_function(
    connection: Connection, conninfo: str, make: Callable[..., str]
) -> None:
    store_by_hand(connection)
    readable = rows(connection, VIEWS) + rows(connection, FUNCTIONS)
    assert len(readable) > 70

    with logged_in(conninfo, make()) as reader:
        for (query,) in readable:
            reader.execute(query).fetchall()
        assert rows(reader, "SELECT count(*) FROM liq.counted('strict/v1', '2025-10-10',"
                            " '2025-10-11')") == [(15,)]  # fmt: skip


def test_what_reads_tables_for_a_caller_does_so_as_its_owner(connection: Connection) -> None:
    """A function that has no rows to look at would pass the test above, whatever it may do."""
    assert (
        rows(
            connection,
            """
        WITH RECURSIVE called AS (
            SELECT p.oid FROM pg_proc p WHERE p.pronamespace = 'liq'::regnamespace
            UNION
            SELECT d.refobjid
            FROM pg_depend d
            JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
            JOIN pg_class c ON c.oid = r.ev_class AND c.relnamespace = 'liq'::regnamespace
            WHERE d.refclassid = 'pg_proc'::regclass
            UNION
            SELECT d.refobjid FROM called
            JOIN pg_proc p ON p.oid = called.oid AND NOT p.prosecdef
            JOIN pg_depend d ON (d.classid, d.objid) = ('pg_proc'::regclass, p.oid)
                AND d.refclassid = 'pg_proc'::regclass
        )
        SELECT DISTINCT p.oid::regprocedure::text
        FROM called JOIN pg_proc p USING (oid)
        LEFT JOIN pg_depend d ON (d.classid, d.objid) = ('pg_proc'::regclass, p.oid)
            AND d.refclassid = 'pg_class'::regclass
        LEFT JOIN pg_class c ON c.oid = d.refobjid
        WHERE NOT p.prosecdef AND (
            c.relnamespace = 'ledger'::regnamespace AND c.relkind IN ('r', 'p')
            OR p.prosqlbody IS NULL AND p.prosrc ~* 'ledger[.][a-z_]+'
        ) AND p.pronamespace <> 'pg_catalog'::regnamespace
        """,
        )
        == []
    )


def test_functions_that_run_as_their_owner_have_a_fixed_path(connection: Connection) -> None:
    assert (
        rows(
            connection,
            """
        SELECT oid::regprocedure::text FROM pg_proc
        WHERE prosecdef AND pronamespace IN ('liq'::regnamespace, 'ledger'::regnamespace)
          AND NOT coalesce('search_path=pg_catalog, pg_temp' = ANY (proconfig), false)
        """,
        )
        == []
    )


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT FROM ledger.liquidation",
        "SELECT ledger.reached()",
        "SELECT ledger.make_roles()",
        "SELECT * FROM ledger.guard()",
        "DELETE FROM liq.sources",
        "INSERT INTO liq.chains (chain) VALUES ('x')",
        "UPDATE liq.assets SET symbol = 'x'",
        "CREATE VIEW liq.mine AS SELECT 1",
        "CREATE TABLE ledger.mine (x int)",
        "TRUNCATE ledger.liquidation",
        "SELECT * FROM pg_authid",
        "SET ROLE indexer_writer",
        "SELECT pg_read_file('/etc/passwd')",
    ],
)
def test_a_reader_may_do_nothing_else(
    conninfo: str, make: Callable[..., str], statement: str
) -> None:
    with logged_in(conninfo, make()) as reader:
        reader.execute("SET default_transaction_read_only = off")  # which is only a courtesy
        with pytest.raises((psycopg.errors.InsufficientPrivilege,
                            psycopg.errors.ObjectNotInPrerequisiteState,
                            psycopg.errors.FeatureNotSupported)):  # fmt: skip
            reader.execute(statement)


def test_a_session_of_a_reader_begins_read_only_in_utc_with_its_limits(
    conninfo: str, make: Callable[..., str]
) -> None:
    name = make(statement=timedelta(seconds=90), idle=timedelta(seconds=20))
    with logged_in(conninfo, name) as reader:
        assert [
            reader.execute(SQL("SHOW {}").format(Identifier(setting))).fetchone()
            for setting in (
                "default_transaction_read_only", "statement_timeout",
                "idle_in_transaction_session_timeout", "timezone", "search_path",
            )
        ] == [("on",), ("90s",), ("20s",), ("UTC",), ("liq",)]  # fmt: skip
        assert rows(reader, "SELECT count(*) FROM liquidations") == [(0,)]


def test_the_server_refuses_one_connection_more_than_the_limit(
    conninfo: str, make: Callable[..., str]
) -> None:
    name = make(connections=2)
    with (
        logged_in(conninfo, name),
        logged_in(conninfo, name),
        pytest.raises(psycopg.OperationalError, match=f'too many connections for role "{name}'),
    ):
        psycopg.connect(login(conninfo, name))
    soon(lambda: may_log_in(conninfo, name))  # one that ended makes room, when it is gone


def may_log_in(conninfo: str, name: str) -> bool:
    try:
        with logged_in(conninfo, name) as reader:
            return reader.execute("SELECT 1").fetchone() == (1,)
    except psycopg.OperationalError:
        return False


def test_a_reader_sees_what_a_later_migration_makes(
    connection: Connection, conninfo: str, make: Callable[..., str]
) -> None:
    connection.execute("CREATE VIEW liq.later AS SELECT uri FROM ledger.source")
    connection.execute("CREATE TABLE ledger.later (x int)")

    with logged_in(conninfo, make()) as reader:
        assert reader.execute("SELECT * FROM liq.later").fetchall() == []
    with logged_in(conninfo, make(WRITER)) as writer:
        writer.execute("INSERT INTO ledger.later VALUES (1)")
    assert [role.is_right for role in access.roles(connection)] == [True, True]


# -- what a writer may ---------------------------------------------------------------------------


def test_a_writer_does_the_work_of_every_day(
    conninfo: str, make: Callable[..., str], quick_indexer: Command
) -> None:
    feeder = {"DATABASE_URL": login(conninfo, make(WRITER))}

    done = [
        quick_indexer(*words, **feeder)
        for words in (
            ("backfill", "hyperliquid", "--from", RECORDING),
            ("label",),
            ("label", "--again"),
            ("value", "--offline"),
            ("total", "--window", "2025-10-27", "--save"),
            ("report", "whales"),
            ("audit",),
            ("status",),
            ("db", "guard", "--once"),
        )
    ]

    assert [(run.returncode, run.stderr) for run in done if run.returncode] == []


@pytest.mark.parametrize(
    "statement",
    [
        "TRUNCATE ledger.liquidation",
        "DROP TABLE ledger.liquidation",
        "ALTER TABLE ledger.liquidation ADD COLUMN x int",
        "CREATE TABLE ledger.mine (x int)",
        "CREATE OR REPLACE VIEW liq.sources AS SELECT uri, is_simulated FROM ledger.source",
        "UPDATE ledger.alembic_version SET version_num = '0001'",
        "UPDATE ledger.contract SET version = '9.0'",
        "UPDATE ledger.reader_limit SET statement = '1 day'",
        "CREATE ROLE mine",
    ],
)
def test_a_writer_changes_no_table_and_no_rule(
    conninfo: str, make: Callable[..., str], statement: str
) -> None:
    with (
        logged_in(conninfo, make(WRITER)) as writer,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        writer.execute(statement)


def test_a_writer_is_told_that_it_may_not_migrate(
    postgres: Server, make: Callable[..., str]
) -> None:
    with throw_away(postgres) as old:
        upgrade(old, "0023")
        with pytest.raises(ConfigError, match="older version, and this role may not migrate"):
            upgrade(login(old, make(WRITER)))


# -- where roles come from -----------------------------------------------------------------------


def test_migrations_of_several_databases_make_the_roles_at_once() -> None:
    with cluster() as server:
        fresh = [new_database(server) for _ in range(3)]
        programs = [f"from indexer.store import database; database.migrate({x!r})" for x in fresh]
        all_three = [subprocess.Popen([sys.executable, "-c", program]) for program in programs]
        assert [process.wait(120) for process in all_three] == [0, 0, 0]
        with database.connect(fresh[2]) as connection:
            assert [role.is_right for role in access.roles(connection)] == [True, True]


def test_whoever_may_make_no_role_migrates_all_the_same_and_says_so() -> None:
    with cluster() as server:
        with database.connect(server.conninfo_of("postgres")) as admin:
            admin.execute("CREATE ROLE plain LOGIN")
            admin.execute("CREATE DATABASE theirs OWNER plain")
        theirs = login(server.conninfo_of("theirs"), "plain")
        upgrade(theirs)
        with database.connect(theirs) as connection:
            assert access.roles(connection) == [
                access.Role(READER, False, (), ()), access.Role(WRITER, False, (), ()),
            ]  # fmt: skip
            assert access.repair(connection) == [
                "plain may not make the role indexer_reader",
                "plain may not make the role indexer_writer",
            ]
            with pytest.raises(ConfigError, match="there is no role indexer_reader"):
                access.make_login(connection, "analyst", READER, PASSWORD, 1, Limits())

            with database.connect(server.conninfo_of("postgres")) as admin:
                admin.execute("ALTER ROLE plain CREATEROLE")
            assert access.repair(connection) == []
            assert [role.is_right for role in access.roles(connection)] == [True, True]

            # and is able to end what its readers started
            access.make_login(
                connection, "analyst", READER, PASSWORD, 1, Limits(timedelta(milliseconds=1))
            )
            with logged_in(theirs, "analyst") as reader, ThreadPoolExecutor(1) as thread:
                asleep = thread.submit(sleeps, reader)
                soon(lambda: [one.done for one in access.guard(connection)] == ["cancelled"])
                assert asleep.result(timeout=60) == "canceling statement due to user request"


def test_rights_that_drifted_are_shown_and_repaired(
    connection: Connection, indexer: Command
) -> None:
    connection.execute(
        "GRANT USAGE ON SCHEMA ledger TO indexer_reader;"
        "GRANT SELECT ON ledger.source TO indexer_reader;"
        "REVOKE SELECT ON liq.sources FROM indexer_reader;"
        "GRANT TRUNCATE ON ledger.source TO indexer_writer"
    )

    assert rows(connection, "SELECT role, lacks, exceeds FROM liq.roles") == [
        (READER, ["liq.sources"], ["ledger.source"]),
        (WRITER, [], ["ledger.source"]),
    ]
    shown = indexer("db", "roles")
    assert shown.returncode == 1
    assert "indexer_reader, indexer_writer: not as they should be" in shown.stderr
    repaired = indexer("db", "roles", "--repair")
    assert (repaired.returncode, repaired.stderr) == (0, "")


def test_a_name_that_is_somebody_elses_is_left_alone(connection: Connection) -> None:
    name = name_of_login()
    connection.execute(SQL("CREATE ROLE {}").format(Identifier(name)))
    try:
        for chosen, said in (
            (name, "is there already"),
            ("indexer_reader", "is no name for a login"),
            ('x"; DROP SCHEMA liq', "is no name for a login"),
            (connection.info.user, "is there already"),
        ):
            with pytest.raises(ConfigError, match=said):
                access.make_login(connection, chosen, READER, PASSWORD, 1, Limits())
    finally:
        connection.execute(SQL("DROP ROLE {}").format(Identifier(name)))


def test_the_password_reaches_neither_the_server_nor_what_is_printed(
    connection: Connection, indexer: Command, tmp_path: Path
) -> None:
    name = name_of_login()
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\n")
    try:
        made = indexer("db", "reader", name, "--password-file", file)
        again = indexer("db", "reader", name, "--connections", 2, INDEXER_LOGIN_PASSWORD=PASSWORD)
        nobody = indexer("db", "reader", name)

        assert (made.returncode, again.returncode, nobody.returncode) == (0, 0, 1)
        assert f"user={name}" in made.stdout
        assert "no password: set INDEXER_LOGIN_PASSWORD or give --password-file" in nobody.stderr
        assert PASSWORD not in "".join((made.stdout, made.stderr, again.stdout, again.stderr))
        stored = rows(
            connection,
            f"SELECT rolpassword, rolconnlimit FROM pg_authid WHERE rolname = '{name}'",
        )
        assert stored[0][0].startswith("SCRAM-SHA-256$")
        assert stored[0][1] == 2
        assert rows(connection, f"SELECT count(*) FROM pg_stat_activity WHERE query LIKE"
                                f" '%{PASSWORD[:12]}' || '{PASSWORD[12:]}%'") == [(0,)]  # fmt: skip
    finally:
        connection.execute(SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(Identifier(name)))


# -- the guard -----------------------------------------------------------------------------------


def sleeps(connection: Connection, seconds: int = 60) -> str:
    """What a statement that takes long ends with."""
    connection.execute("SET statement_timeout = 0")
    try:
        connection.execute("SELECT pg_sleep(%s)", (seconds,))
    except psycopg.Error as error:
        return str(error).partition("\n")[0]
    return "slept"


SHORT = {"statement": timedelta(milliseconds=300), "idle": timedelta(milliseconds=300)}


def test_a_statement_without_a_timeout_is_cancelled_all_the_same(
    connection: Connection, conninfo: str, make: Callable[..., str]
) -> None:
    with logged_in(conninfo, make(**SHORT)) as reader, ThreadPoolExecutor(1) as thread:
        asleep = thread.submit(sleeps, reader)
        time.sleep(0.1)
        assert access.guard(connection) == []  # not yet
        time.sleep(0.4)
        (done,) = access.guard(connection)

        assert asleep.result(timeout=60) == "canceling statement due to user request"
        assert (done.done, done.why) == ("cancelled", "a statement longer than 00:00:00.3")
        assert reader.execute("SELECT 1").fetchone() == (1,)  # the session goes on


def test_a_transaction_that_idles_is_ended(
    connection: Connection, conninfo: str, make: Callable[..., str]
) -> None:
    with logged_in(conninfo, make(**SHORT)) as reader:
        reader.execute("SET idle_in_transaction_session_timeout = 0")
        reader.execute("BEGIN")
        reader.execute("SELECT FROM liq.liquidations")
        time.sleep(0.4)

        assert [one.done for one in access.guard(connection)] == ["ended"]
        with pytest.raises(psycopg.OperationalError, match="terminating connection"):
            reader.execute("SELECT 1")


def test_a_transaction_that_goes_on_and_on_is_ended(
    connection: Connection, conninfo: str, make: Callable[..., str]
) -> None:
    with logged_in(conninfo, make(whole=timedelta(milliseconds=300))) as reader:
        reader.execute("BEGIN")
        for _ in range(5):
            reader.execute("SELECT 1")
            time.sleep(0.1)

        assert [one.why for one in access.guard(connection)] == [
            "a transaction longer than 00:00:00.3"
        ]
        with pytest.raises(psycopg.OperationalError, match="terminating connection"):
            reader.execute("SELECT 1")


def test_a_statement_that_does_not_heed_is_ended_with_its_session(
    connection: Connection, conninfo: str, make: Callable[..., str]
) -> None:
    name = make(statement=timedelta(milliseconds=1))
    with logged_in(conninfo, name) as reader, ThreadPoolExecutor(1) as thread:
        asleep = thread.submit(sleeps, reader)
        time.sleep(5.2)  # nobody looked before the grace was over

        assert [one.done for one in access.guard(connection)] == ["ended"]
        assert "terminating connection" in asleep.result(timeout=60)


def test_nobody_but_readers_is_looked_at(
    connection: Connection, conninfo: str, make: Callable[..., str]
) -> None:
    connection.execute("UPDATE ledger.reader_limit SET statement = '1 ms', idle = '1 ms'")
    with logged_in(conninfo, make(WRITER)) as writer, database.connect(conninfo) as owner:
        for session in (writer, owner):
            session.execute("BEGIN")
            session.execute("SELECT 1")
        time.sleep(0.1)

        assert access.guard(connection) == []


LOOKS = """
    SELECT count(*) > 0 FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE '%ledger.guard()'
"""


def test_follow_guards_readers_while_it_runs(
    connection: Connection, conninfo: str, make: Callable[..., str], tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    write_by_block(simulate(small(5)), folder)
    name = make(**SHORT)
    with (
        following(conninfo, tmp_path, "hyperliquid", "--from", str(folder)) as process,
        logged_in(conninfo, name) as reader,
    ):
        soon(lambda: rows(connection, LOOKS) == [(True,)])
        assert sleeps(reader) == "canceling statement due to user request"
        assert f"reader {name} " in stopped(process)


def test_the_guard_is_a_command_of_its_own(
    conninfo: str, make: Callable[..., str], quick_indexer: Command
) -> None:
    name = make(**SHORT)
    with logged_in(conninfo, name) as reader:
        thread = threading.Thread(target=sleeps, args=(reader,))
        thread.start()
        time.sleep(0.5)
        said = quick_indexer("db", "guard", "--once").stderr
        thread.join(timeout=60)

    assert re.fullmatch(
        rf"reader {name} pid=\d+ (cancelled|ended): a statement longer than 00:00:00.3\n", said
    )


# -- the page ------------------------------------------------------------------------------------


def test_the_queries_of_the_page_run_for_a_reader(conninfo: str, make: Callable[..., str]) -> None:
    page = (Path(__file__).parents[1] / "docs" / "access.md").read_text()
    queries = re.findall(r"^```sql\n(.*?)^```", page, re.DOTALL | re.MULTILINE)

    with logged_in(conninfo, make()) as reader:
        for query in queries:
            reader.execute(query)
    assert len(queries) == 3
