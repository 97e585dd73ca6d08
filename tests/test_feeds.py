"""Who listens and who subscribes gets every row that is committed, and nothing before."""

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.sql import SQL, Literal

from indexer.errors import ConfigError
from indexer.store import changes, database, publication, server
from indexer.store.database import Connection
from indexer.store.server import Server
from tests.conftest import Command
from tests.ledger_rows import rows
from tests.postgres import cluster
from tests.postgres import database as throw_away
from tests.processes import soon

PERPS = """
    INSERT INTO ledger.liquidation (venue, event_key, account, block_number, block_at, method,
        market, dex, quote, side, size, price, notional, account_is_protocol_vault, legs_seen,
        decoder_version)
    SELECT venue, i::text, '0xa', i, timestamptz '2025-10-10Z' + i * interval '1 s', 'market',
           'BTC', '', 'USDC', 'long', 1, 2, 2, false, 'both', 1
    FROM generate_series(%s::int, %s) i, unnest(%s::text[]) venue
"""


@pytest.fixture
def listener(conninfo: str) -> Iterator[Connection]:
    with database.connect(conninfo) as opened:
        opened.execute("LISTEN indexer_rows")
        yield opened


def heard(listener: Connection, number: int = 0) -> list[dict[str, Any]]:
    """So many that come, or what came so far."""
    coming = listener.notifies(timeout=60 if number else 0.2, stop_after=number or None)
    return [json.loads(one.payload) for one in coming]


def test_a_listener_hears_of_what_is_committed_once_for_each_venue(
    connection: Connection, listener: Connection
) -> None:
    with connection.transaction():
        connection.execute(PERPS, (1, 3, ["gmx_v2.arbitrum", "hyperliquid"]))
        before = heard(listener)
    after = heard(listener, 2)
    with connection.transaction(force_rollback=True):
        connection.execute(PERPS, (4, 5, ["hyperliquid"]))
    connection.execute("DELETE FROM ledger.liquidation WHERE venue = 'hyperliquid'")
    connection.execute("DELETE FROM ledger.liquidation WHERE venue = 'nobody'")

    said = {"facts": "liquidations", "rows": 3, "first_block": 1, "last_block": 3}
    assert before == []
    assert sorted(after, key=lambda one: str(one["venue"])) == [
        {**said, "change": "insert", "venue": "gmx_v2.arbitrum"},
        {**said, "change": "insert", "venue": "hyperliquid"},
    ]
    assert heard(listener, 1) == [{**said, "change": "delete", "venue": "hyperliquid"}]


def test_notifying_can_be_turned_off_while_writers_run(
    quick_indexer: Command, connection: Connection, listener: Connection
) -> None:
    done = quick_indexer("db", "notify", "off")
    connection.execute(PERPS, (1, 3, ["hyperliquid"]))
    silent = heard(listener)
    changes.set_notifying(connection, True)
    connection.execute(PERPS, (4, 4, ["hyperliquid"]))

    assert (done.returncode, done.stdout, silent) == (0, "notifying is off\n", [])
    assert [one["rows"] for one in heard(listener, 1)] == [1]


# -- replication ---------------------------------------------------------------------------------


def test_a_server_without_logical_wal_says_what_to_do(
    quick_indexer: Command, connection: Connection
) -> None:
    with pytest.raises(ConfigError, match="wal_level = replica, and a subscriber needs logical"):
        publication.create(connection)

    done = quick_indexer("db", "publication")
    printed = quick_indexer("db", "publication", "--print")

    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert printed.stdout == f"{publication.statement()}\n"
    assert rows(connection, "SELECT pubname FROM pg_publication") == []


def test_every_published_table_has_a_key_that_finds_its_rows(connection: Connection) -> None:
    keyless = """
        SELECT t.name FROM unnest(%s::text[]) t (name)
        WHERE NOT EXISTS (SELECT FROM pg_index i WHERE i.indisprimary
                          AND i.indrelid = ('ledger.' || t.name)::regclass)
    """
    assert connection.execute(keyless, (list(publication.TABLES),)).fetchall() == []


@pytest.fixture
def publisher() -> Iterator[Server]:
    """A server of its own, since wal_level wants a restart."""
    with cluster() as first:
        with psycopg.connect(first.conninfo_of("postgres"), autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET wal_level = logical")
        server.stop(first.data_dir)
        yield server.ensure_running(first.data_dir)


def test_a_subscriber_has_the_same_rows_after_inserts_changes_and_withdrawals(
    publisher: Server,
) -> None:
    with throw_away(publisher) as source, throw_away(publisher) as target:
        for one in (source, target):
            database.migrate(one)
        with database.connect(source) as ours, database.connect(target) as theirs:
            ours.execute(PERPS, (1, 5, ["hyperliquid"]))
            assert [publication.create(ours), publication.create(ours)] == [True, False]
            # on one server a subscription that makes its slot itself would wait for itself
            ours.execute("SELECT pg_create_logical_replication_slot('copy', 'pgoutput')")
            theirs.execute("TRUNCATE ledger.venue")
            theirs.execute(
                SQL(
                    "CREATE SUBSCRIPTION copy CONNECTION {} PUBLICATION indexer"
                    " WITH (create_slot = false, slot_name = 'copy')"
                ).format(Literal(source))
            )
            try:
                ours.execute(PERPS, (6, 9, ["hyperliquid"]))
                ours.execute("UPDATE ledger.liquidation SET size = 7 WHERE block_number = 2")
                ours.execute("DELETE FROM ledger.liquidation WHERE block_number = 3")
                query = "SELECT * FROM ledger.liquidation"
                soon(lambda: rows(theirs, query) == rows(ours, query), 60)
                assert len(rows(theirs, query)) == 8
            finally:
                theirs.execute("ALTER SUBSCRIPTION copy DISABLE")
                theirs.execute("ALTER SUBSCRIPTION copy SET (slot_name = NONE)")
                theirs.execute("DROP SUBSCRIPTION copy")
                active = "SELECT active FROM pg_replication_slots"
                soon(lambda: rows(ours, active) == [(False,)])
                ours.execute("SELECT pg_drop_replication_slot('copy')")
