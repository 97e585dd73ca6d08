"""Readers see the old state or the new one: while rows are derived again, while views change."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import copytree

import pytest

from indexer import resources, sync
from indexer.chain import redecode
from indexer.chain.values import nobody
from indexer.chain_step import Knowledge
from indexer.errors import ConfigError
from indexer.plan import Piece
from indexer.store import chain_rows, database, ledger, values
from indexer.store.database import Connection
from indexer.store.dependents import dependents
from indexer.store.migration import upgrade
from indexer.store.server import Server
from tests.campaign import VENUES, World
from tests.chain_model.chain import Config
from tests.conftest import Command
from tests.evm_logs import DECODER
from tests.ledger_rows import rows
from tests.postgres import database as throw_away
from tests.test_chain_follow import at, chain, fill

__all__ = ["at", "chain"]  # fixtures

# -- rows that are derived again -----------------------------------------------------------------

# How many rows are as an older decoder left them, how many are not, and of how many it is told
# neither what they are worth nor why that is unknown.
STATE = """
    SELECT count(*) FILTER (WHERE l.liquidator = '0xold'),
           count(*) FILTER (WHERE l.liquidator IS DISTINCT FROM '0xold'),
           count(*) FILTER (WHERE NOT EXISTS (
               SELECT FROM liq.valuations v WHERE v.key = l.key)
               AND NOT EXISTS (SELECT FROM liq.unvalued u WHERE u.key = l.key))
    FROM liq.lending_liquidations l
"""


class Watched:
    """What a reader beside saw, each state once."""

    def __init__(self, conninfo: str, state: str = STATE) -> None:
        self._state = state
        self.states: set[tuple[int, int, int]] = set()
        self.over = threading.Event()
        self._thread = threading.Thread(target=self._look, args=(conninfo,))

    def _look(self, conninfo: str) -> None:
        with database.connect(conninfo) as connection:
            while not self.over.is_set():
                self.states.update(connection.execute(self._state).fetchall())  # type: ignore[arg-type]

    def __enter__(self) -> "Watched":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._thread.join()


@pytest.fixture
def of_an_older_decoder(connection: Connection, at: World) -> int:
    """A chain whose rows are all to change, and are valued; gives their number."""
    at.chain.mine(60)
    fill(connection, at)
    redecode.settle(connection, at.source, DECODER)
    connection.execute("UPDATE ledger.lending_liquidation SET liquidator = '0xold'")
    connection.execute("UPDATE ledger.coverage SET decoder_version = 0")
    values.value(connection)
    return int(str(connection.execute("SELECT count(*) FROM ledger.lending_liquidation")
                   .fetchone()[0]))  # fmt: skip  # type: ignore[index]


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Three logs at a time; told after each look."""
    monkeypatch.setattr(redecode, "LOGS_AT_ONCE", 3)
    yield []


def test_whoever_reads_beside_a_redecode_sees_all_of_it_or_none(
    connection: Connection, conninfo: str, of_an_older_decoder: int, small_pieces: list[int]
) -> None:
    number = of_an_older_decoder
    with Watched(conninfo) as watched:
        counts = redecode.redecode(
            connection, DECODER, VENUES,
            told=lambda logs, block: small_pieces.append(block),
            wrote=lambda since: values.value(connection, venues=VENUES, since=since) and None,
        )  # fmt: skip

    assert len(small_pieces) > 10  # in pieces, and yet
    assert watched.states <= {(number, 0, 0), (0, number, 0)}
    assert connection.execute(STATE).fetchone() == (0, number, 0)
    assert counts["changed"] >= 2 * number  # one goes, one comes
    assert rows(connection, "SELECT DISTINCT decoder_version FROM ledger.coverage") == [(1,)]


def test_that_test_sees_a_redecode_that_commits_piece_by_piece(
    connection: Connection, conninfo: str, at: World, of_an_older_decoder: int
) -> None:
    number, facts = of_an_older_decoder, chain_rows.facts(connection, "ethereum")
    end = at.chain.head.number + 1
    with Watched(conninfo) as watched:
        for low in range(Config().first_block, end, 3):
            piece = Piece(low, low + 3, tuple(VENUES))
            known = Knowledge(DECODER, VENUES, facts)
            redecode._redecode(connection, known, "ethereum", piece, nobody)

    assert rows(connection, STATE)[0][:2] == (0, number)
    assert not watched.states <= {(number, 0, 0), (0, number, 0)}


# How many perpetuals an older decoder made, how many the one of today, how many have no value.
OF_PERPS = """
    SELECT count(*) FILTER (WHERE l.method = 'adl_of_vault' AND l.decoder_version = 0),
           count(*) FILTER (WHERE l.decoder_version > 0),
           count(*) FILTER (WHERE NOT EXISTS (
               SELECT FROM ledger.valuation v WHERE v.venue = l.venue AND v.event_key = l.event_key
                   AND v.account = l.account))
    FROM ledger.liquidation l
"""


def test_rows_of_the_exchange_are_derived_again_from_their_stored_legs_all_or_none(
    quick_indexer: Command,
    connection: Connection,
    conninfo: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    quick_indexer("backfill", "hyperliquid", "--from", resources.recording())
    before = rows(connection, "SELECT * FROM ledger.liquidation")
    valued = rows(connection, "SELECT * FROM ledger.valuation")
    waiting = rows(connection, "SELECT * FROM ledger.undecoded")
    connection.execute("UPDATE ledger.liquidation SET decoder_version = 0, method = 'adl_of_vault'")
    connection.execute("UPDATE ledger.coverage SET decoder_version = 0")
    connection.execute(
        "INSERT INTO ledger.undecoded SELECT 'hyperliquid', event_key, block_number, block_at,"
        " 'of an unknown shape', 0 FROM ledger.raw_event"
        " WHERE event_key NOT LIKE 'ledger/%' ORDER BY event_key LIMIT 1"
    )
    values.value(connection)
    monkeypatch.setattr(ledger, "LEGS_AT_ONCE", 10)

    with Watched(conninfo, OF_PERPS) as watched:
        counts = sync.redecode(connection)

    assert watched.states <= {(len(before), 0, 0), (0, len(before), 0)}
    assert rows(connection, "SELECT * FROM ledger.liquidation") == before
    assert rows(connection, "SELECT * FROM ledger.valuation") == valued
    assert rows(connection, "SELECT * FROM ledger.undecoded") == waiting
    assert counts["liquidations"] == len(before)
    assert rows(connection, "SELECT DISTINCT facts, decoder_version > 0 FROM ledger.coverage") == [
        ("account_days", False), ("ledger_liquidations", False), ("liquidations", True),
    ]  # fmt: skip

    again = quick_indexer("redecode", "hyperliquid")
    assert (again.returncode, rows(connection, "SELECT * FROM ledger.liquidation")) == (0, before)
    assert f"{len(before):,} liquidations" in again.stdout


def test_a_redecode_that_fails_on_the_way_leaves_the_old_rows(
    connection: Connection, of_an_older_decoder: int
) -> None:
    def fail(since: object) -> None:
        raise ConfigError("the disk is full")

    before = rows(connection, "SELECT * FROM ledger.lending_liquidation")
    with pytest.raises(ConfigError, match="the disk is full"):
        redecode.redecode(connection, DECODER, VENUES, wrote=fail)

    assert rows(connection, "SELECT * FROM ledger.lending_liquidation") == before
    assert connection.execute(STATE).fetchone() == (of_an_older_decoder, 0, 0)
    assert rows(connection, "SELECT DISTINCT decoder_version FROM ledger.coverage") == [(0,)]


def test_rights_on_the_views_are_as_before(
    connection: Connection, of_an_older_decoder: int
) -> None:
    rights = "SELECT relname, relacl::text FROM pg_class WHERE relnamespace = 'liq'::regnamespace"
    before = rows(connection, rights)

    redecode.redecode(connection, DECODER, VENUES)

    assert rows(connection, rights) == before


# -- views that change ---------------------------------------------------------------------------

Plan = Callable[[str], None]


@pytest.fixture
def then(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Plan:
    """Adds a migration of these statements to ours."""
    folder = copytree(resources.folder("migrations"), tmp_path / "migrations")
    newest = database.newest_revision()

    def run(statements: str) -> None:
        (folder / "versions" / "9999_then.py").write_text(
            f"from alembic import op\nrevision, down_revision = '9999', {newest!r}\n"
            f"def upgrade():\n    op.execute({statements!r})\n"
        )
        monkeypatch.setattr(resources, "folder", lambda name: folder)

    return run


MINE = """
    CREATE SCHEMA mine;
    CREATE VIEW mine.eth AS SELECT key, account, notional FROM liq.liquidations
        WHERE market = 'ETH';
    CREATE VIEW mine.largest AS SELECT * FROM mine.eth ORDER BY notional DESC LIMIT 10;
    CREATE MATERIALIZED VIEW mine.totals AS SELECT sum(notional) FROM liq.liquidations;
    CREATE FUNCTION mine.of(account text) RETURNS bigint LANGUAGE sql
    BEGIN ATOMIC SELECT count(*) FROM liq.liquidations l WHERE l.account = of.account; END;
    CREATE VIEW mine.other AS SELECT 1 AS x
"""
NAMES = [
    "view mine.eth", "view mine.largest", "materialized view mine.totals", "function mine.of(text)",
]  # fmt: skip
STANDING = """
    SELECT relname FROM pg_class WHERE relnamespace = 'mine'::regnamespace AND relkind IN ('v', 'm')
"""


@pytest.mark.any_postgres
def test_a_users_view_lives_through_all_migrations_from_that_of_its_making(
    postgres: Server,
) -> None:
    with throw_away(postgres) as conninfo:
        upgrade(conninfo, "0016")
        with database.connect(conninfo) as connection:
            connection.execute(MINE)
            before = rows(connection, STANDING)

            upgrade(conninfo)  # 0017 replaces liq.liquidations, and others do further views

            assert rows(connection, STANDING) == before
            assert connection.execute("SELECT * FROM mine.largest").fetchall() == []


def test_what_others_built_is_listed_with_what_it_stands_on(connection: Connection) -> None:
    connection.execute(MINE)
    found = dependents(connection)

    assert [str(one) for one in found] == NAMES
    assert [one.on for one in found] == [("liq.liquidations",)] * 4
    assert "market = 'ETH'" in (found[0].definition or "")


@pytest.mark.parametrize(
    "statements",
    [
        "DROP VIEW liq.liquidations CASCADE",
        "DROP VIEW liq.liquidations CASCADE; CREATE VIEW liq.liquidations AS SELECT 1 AS x",
        "DROP VIEW liq.liquidations",
    ],
)
def test_a_migration_that_would_take_them_along_is_refused_and_names_them(
    connection: Connection, conninfo: str, then: Plan, statements: str
) -> None:
    connection.execute(MINE)
    state = (
        "SELECT oid, relname FROM pg_class"
        " WHERE relnamespace IN ('liq'::regnamespace, 'mine'::regnamespace)"
    )
    before = rows(connection, state)
    then(statements)

    with pytest.raises(ConfigError, match="nothing was changed") as caught:
        upgrade(conninfo)

    assert [name for name in NAMES if name not in str(caught.value)] == []
    assert "mine.other" not in str(caught.value)
    assert rows(connection, state) == before
    assert rows(connection, "SELECT version_num FROM ledger.alembic_version") != [("9999",)]


def test_told_to_it_goes_on_without_them(connection: Connection, conninfo: str, then: Plan) -> None:
    connection.execute(MINE)
    then("DROP VIEW liq.liquidations CASCADE; CREATE VIEW liq.liquidations AS SELECT 1 AS x")

    upgrade(conninfo, drops_dependents=True)

    assert rows(connection, STANDING) == [("other",)]
    assert rows(connection, "SELECT x FROM liq.liquidations") == [(1,)]


def test_the_listing_makes_them_again(connection: Connection, indexer: Command) -> None:
    connection.execute(MINE)

    listed = indexer("db", "dependents")
    connection.execute("DROP SCHEMA mine CASCADE; CREATE SCHEMA mine")

    assert listed.returncode == 0
    connection.execute(listed.stdout)
    assert [str(one) for one in dependents(connection)] == NAMES


def test_a_migration_that_fails_on_the_way_leaves_the_old_state(
    connection: Connection, conninfo: str, then: Plan
) -> None:
    before = rows(connection, "SELECT object, shape FROM liq.contract")
    then("CREATE TABLE ledger.half (x int); DROP VIEW liq.sources; SELECT 1 / 0")

    with pytest.raises(Exception, match="division by zero"):
        upgrade(conninfo)

    assert rows(connection, "SELECT to_regclass('ledger.half')") == [(None,)]
    assert rows(connection, "SELECT object, shape FROM liq.contract") == before
    assert connection.execute("SELECT * FROM liq.sources").fetchall() == []
