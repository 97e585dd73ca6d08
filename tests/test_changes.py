"""A consumer who applies what changed holds exactly the table, in whatever order others commit."""

import io
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from psycopg.types.json import Jsonb

from indexer.errors import ConfigError
from indexer.export.run import Asked, to_stream
from indexer.store import changes, database
from indexer.store.database import Connection
from indexer.store.datasets import DATASETS, Scope
from indexer.store.server import Server
from tests.conftest import Command
from tests.postgres import database as throw_away

BEGIN = datetime(2025, 10, 10, tzinfo=UTC)
FOLLOWED = ("liquidations", "lending_liquidations", "labels")
KEYS = {
    "liquidations": ("key",),
    "lending_liquidations": ("key",),
    "labels": ("account", "venue", "label", "rule", "valid_from"),
}

Row = dict[str, Any]
ALL = Scope()


def exported(
    connection: Connection, name: str, since: str | None = None, scope: Scope = ALL
) -> tuple[list[Row], str]:
    """The rows of an export, and its cursor."""
    of = DATASETS[name]
    cursor = None if since is None else changes.read(since)
    scope = scope if cursor is None else cursor.scope
    out = io.BytesIO()
    done = to_stream(connection, Asked(of, "jsonl", of.columns, scope, since=cursor), out)
    assert done.cursor is not None
    return [json.loads(line) for line in out.getvalue().splitlines()], done.cursor


class Consumer:
    """Somebody with a copy, who takes what changed and nothing else."""

    def __init__(self, connection: Connection, name: str, scope: Scope = ALL) -> None:
        self.connection, self.name, self.scope = connection, name, scope
        rows, self.cursor = exported(connection, name, scope=scope)
        self.rows = {self._key(row): row for row in rows}

    def catch_up(self) -> list[str]:
        """Apply an increment; gives what it said of each row."""
        told, self.cursor = exported(self.connection, self.name, self.cursor)
        assert len({self._key(row) for row in told}) == len(told)
        for row in told:
            self._apply(row.pop("change"), row)
        return [*map(str, told)]

    def _apply(self, change: str, row: Row) -> None:
        key = self._key(row)
        # the word is true, too, and not only the outcome
        assert (key in self.rows) == (change != "inserted"), (change, key)
        if change == "withdrawn":
            del self.rows[key]
        else:
            self.rows[key] = row

    def _key(self, row: Row) -> tuple[Any, ...]:
        return tuple(row[name] for name in KEYS[self.name])

    def assert_same(self) -> None:
        """As who exports everything now."""
        rows, _ = exported(self.connection, self.name, scope=self.scope)
        assert self.rows == {self._key(row): row for row in rows}


# -- writers -------------------------------------------------------------------------------------


class Writer:
    """One of several at work, each with a chain and accounts of its own: nobody waits for another,
    however long a transaction is open."""

    def __init__(self, connection: Connection, number: int, random: Random) -> None:
        self.connection, self.number, self.random = connection, number, random
        connection.execute("SET lock_timeout = '5s'")
        self.chain = f"c{number}"
        self.savepoints = 0

    def act(self) -> None:
        """Do one thing."""
        acts: list[Callable[[], object]] = [
            *([self.insert] * 4), self.update, self.delete, self.move, self.value, self.revalue,
            self.unvalue, self.asset, self.rate, self.unrate, self.label, self.end_label,
            *([self.savepoint, self.back, self.release] if self.is_open() else [self.begin] * 3),
            *([self.commit] * 2 + [self.rollback] if self.is_open() else []),
        ]  # fmt: skip
        self.random.choice(acts)()

    def is_open(self) -> bool:
        return self.connection.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS

    def begin(self) -> None:
        self.connection.execute("BEGIN")
        self.savepoints = 0

    def commit(self) -> None:
        self.connection.execute("COMMIT")

    def rollback(self) -> None:
        self.connection.execute("ROLLBACK")

    def savepoint(self) -> None:
        self.savepoints += 1
        self.connection.execute(f"SAVEPOINT s{self.savepoints}")  # type: ignore[arg-type]

    def back(self) -> None:
        if self.savepoints:
            self.connection.execute(f"ROLLBACK TO s{self.savepoints}")  # type: ignore[arg-type]

    def release(self) -> None:
        if self.savepoints:
            self.connection.execute(f"RELEASE s{self.savepoints}")  # type: ignore[arg-type]
            self.savepoints -= 1

    def values(self) -> dict[str, Any]:
        place = self.random.randrange(12)
        return {
            "chain": self.chain, "perps": f"gmx_v2.{self.chain}", "loans": f"aave_v3.{self.chain}",
            "account": f"0xa{self.number}{place % 3}", "key": f"0x{place}/{place % 4}",
            "block": 100 + place, "at": BEGIN + timedelta(hours=5 * place),
            "size": self.random.randrange(1, 10**6), "token": f"0xt{self.random.randrange(3)}",
            "many": self.random.randrange(1, 4),
            "price": self.random.choice(["oracle", "feed_log"]),
            "label": Jsonb({"n": self.random.randrange(10**6)}),
        }  # fmt: skip

    def run(self, text: str) -> None:
        self.connection.execute(text, self.values())  # type: ignore[arg-type]

    def insert(self) -> None:
        self.run(
            self.random.choice([
                """INSERT INTO ledger.liquidation (venue, event_key, account, block_number,
                       block_at, method, market, dex, quote, side, size, price, notional,
                       account_is_protocol_vault, legs_seen, decoder_version)
                   SELECT %(perps)s, %(key)s || '/' || i, %(account)s, %(block)s,
                          %(at)s::timestamptz + i * interval '7 hours', 'market', 'BTC', '', 'USDC',
                          'long', %(size)s, 2, %(size)s * 2, false, 'both', 1
                   FROM generate_series(1, %(many)s) i ON CONFLICT DO NOTHING""",
                """INSERT INTO ledger.lending_liquidation
                   SELECT %(loans)s, %(key)s || '/' || i, %(account)s, %(block)s,
                          %(at)s::timestamptz + i * interval '7 hours', 'repay_seize', 'm', NULL,
                          NULL, %(token)s, %(size)s, '0xt2', %(size)s * 3, i = 1, NULL, NULL, NULL,
                          NULL, 1
                   FROM generate_series(1, %(many)s) i ON CONFLICT DO NOTHING""",
            ])
        )  # fmt: skip

    def update(self) -> None:
        self.run(
            self.random.choice([
                "UPDATE ledger.liquidation SET size = %(size)s WHERE venue = %(perps)s"
                " AND account = %(account)s",
                "UPDATE ledger.lending_liquidation SET repaid_raw = %(size)s"
                " WHERE venue = %(loans)s AND account = %(account)s",
            ])
        )  # fmt: skip

    def move(self) -> None:
        """Another time of the block, as a finer source tells it."""
        self.run(
            "UPDATE ledger.liquidation SET block_at = block_at + interval '1 day'"
            " WHERE venue = %(perps)s AND account = %(account)s"
        )

    def delete(self) -> None:
        self.run(
            self.random.choice([
                "DELETE FROM ledger.liquidation WHERE venue = %(perps)s"
                " AND block_number = %(block)s",
                "DELETE FROM ledger.lending_liquidation WHERE venue = %(loans)s"
                " AND block_number >= %(block)s",
            ])
        )  # fmt: skip

    def value(self) -> None:
        scope = {"venue": f"aave_v3.{self.chain}", "low": "2025-01-01Z", "high": "2026-01-01Z"}
        says = self.random.choice(["", json.dumps(scope)])
        self.connection.execute("SELECT set_config('indexer.valued', %s, false)", (says,))
        self.run(
            """INSERT INTO ledger.valuation (venue, block_at, event_key, account, price_source,
                   repaid_usd)
               SELECT venue, block_at, event_key, account, %(price)s, %(size)s
               FROM ledger.lending_liquidation WHERE venue = %(loans)s AND account = %(account)s
               ON CONFLICT DO NOTHING"""
        )

    def revalue(self) -> None:
        self.run("UPDATE ledger.valuation SET repaid_usd = %(size)s WHERE venue = %(loans)s")

    def unvalue(self) -> None:
        self.run(
            "DELETE FROM ledger.valuation WHERE venue = %(loans)s AND price_source = %(price)s"
        )

    def asset(self) -> None:
        self.run(
            """INSERT INTO ledger.asset (chain, address, symbol, decimals)
               VALUES (%(chain)s, %(token)s, 'S' || %(size)s, 2)
               ON CONFLICT (chain, address) DO UPDATE SET symbol = excluded.symbol"""
        )

    def rate(self) -> None:
        self.run(
            """INSERT INTO ledger.share_rate VALUES
                   (%(chain)s, '0xt2', %(block)s, '0xu', 10, %(size)s) ON CONFLICT DO NOTHING"""
        )

    def unrate(self) -> None:
        self.run(
            "DELETE FROM ledger.share_rate WHERE chain = %(chain)s AND block_number = %(block)s"
        )

    def label(self) -> None:
        self.run(
            """INSERT INTO ledger.label (venue, account, label, rule, rule_version, confidence,
                   evidence, valid_during, recorded_during)
               VALUES (%(chain)s, %(account)s, 'whale/x', 'R', 1, 1, %(label)s,
                       tstzrange(%(at)s, NULL), tstzrange(%(at)s, NULL)) ON CONFLICT DO NOTHING"""
        )

    def end_label(self) -> None:
        self.run(
            """UPDATE ledger.label
               SET recorded_during = tstzrange(lower(recorded_during), '2026-01-01')
               WHERE venue = %(chain)s AND account = %(account)s AND upper_inf(recorded_during)"""
        )


@contextmanager
def writers(conninfo: str, random: Random, number: int = 3) -> Iterator[list[Writer]]:
    with ExitStack() as stack:
        opened = [stack.enter_context(database.connect(conninfo)) for _ in range(number)]
        yield [Writer(one, place, random) for place, one in enumerate(opened)]
        for one in opened:
            one.rollback()


@pytest.mark.any_postgres
@pytest.mark.parametrize("seed", range(12))
def test_a_consumer_ends_with_exactly_the_table_in_every_order_of_commits(
    conninfo: str, connection: Connection, seed: int
) -> None:
    random = Random(seed)
    with writers(conninfo, random) as several:
        for _ in range(40):
            random.choice(several).act()
        consumers = [
            Consumer(connection, name, scope)
            for name in FOLLOWED
            for scope in (Scope(), Scope(("aave_v3.c1", "gmx_v2.c1", "c1")))
        ]
        for _ in range(12):
            for _ in range(random.randrange(1, 14)):
                random.choice(several).act()
            # a vacuum that freezes must not hide who wrote a row
            connection.execute("VACUUM (FREEZE) ledger.liquidation, ledger.label, ledger.written")
            for one in random.sample(consumers, 3):
                one.catch_up()
                one.assert_same()
        for writer in several:
            if writer.is_open():
                writer.commit()
        for one in consumers:
            one.catch_up()
            one.assert_same()
            assert one.catch_up() == []


# -- cursors that do not hold --------------------------------------------------------------------


def perp(connection: Connection, key: str) -> None:
    connection.execute(
        """
        INSERT INTO ledger.liquidation (venue, event_key, account, block_at, method, market, dex,
            side, size, price, notional, account_is_protocol_vault, legs_seen, decoder_version)
        VALUES ('hyperliquid', %s, '0xa', now(), 'market', 'BTC', '', 'long', 1, 1, 1, false,
                'both', 1)
        """,
        (key,),
    )


def test_a_row_of_a_transaction_that_was_open_at_the_cursor_is_not_missed(
    conninfo: str, connection: Connection
) -> None:
    with database.connect(conninfo) as slow:
        slow.execute("BEGIN")
        perp(slow, "early")
        perp(connection, "between")
        first, cursor = exported(connection, "liquidations")
        slow.execute("COMMIT")

        told, _ = exported(connection, "liquidations", cursor)

    assert [row["event_key"] for row in first] == ["between"]
    assert [(row["change"], row["event_key"]) for row in told] == [("inserted", "early")]


def test_what_came_and_went_between_two_cursors_is_not_told(connection: Connection) -> None:
    _, cursor = exported(connection, "liquidations")
    perp(connection, "short")
    connection.execute("DELETE FROM ledger.liquidation")

    assert exported(connection, "liquidations", cursor)[0] == []


def test_a_row_that_is_withdrawn_says_its_key_alone(connection: Connection) -> None:
    perp(connection, "gone")
    _, cursor = exported(connection, "liquidations")
    connection.execute("DELETE FROM ledger.liquidation")

    (row,) = exported(connection, "liquidations", cursor)[0]

    assert {name: value for name, value in row.items() if value is not None} == {
        "change": "withdrawn", "key": "hyperliquid/gone/0xa", "venue": "hyperliquid",
        "event_key": "gone", "account": "0xa",
    }  # fmt: skip


REFUSED = "the cursor is of another database, or of a time before this one was restored"


@pytest.mark.parametrize(
    "rewrite",
    [
        "TRUNCATE ledger.liquidation",
        "VACUUM FULL ledger.liquidation",
        "ALTER TABLE ledger.liquidation ADD COLUMN added float DEFAULT random()",
    ],
)
def test_a_cursor_does_not_outlive_a_table_that_was_rewritten(
    connection: Connection, rewrite: str
) -> None:
    perp(connection, "a")
    _, cursor = exported(connection, "liquidations")
    connection.execute(rewrite)  # type: ignore[arg-type]

    with pytest.raises(ConfigError, match=REFUSED):
        exported(connection, "liquidations", cursor)


def test_a_cursor_is_refused_by_a_copy_of_its_database(postgres: Server, conninfo: str) -> None:
    with database.connect(conninfo) as connection:
        _, cursor = exported(connection, "liquidations")
    with (
        throw_away(postgres, template=str(conninfo_to_dict(conninfo)["dbname"])) as copied,
        database.connect(copied) as connection,
        pytest.raises(ConfigError, match=REFUSED),
    ):
        exported(connection, "liquidations", cursor)


def test_a_cursor_of_other_columns_is_refused(connection: Connection) -> None:
    of = DATASETS["liquidations"]
    _, token = exported(connection, "liquidations")
    old = changes.read(token)

    with pytest.raises(ConfigError, match="of version 0 of liquidations, which has other columns"):
        changes.check(connection, msgspec.structs.replace(old, version=0), of)


def test_increments_by_command_take_up_where_the_last_ended(
    quick_indexer: Command, connection: Connection, tmp_path: Path
) -> None:
    perp(connection, "a")
    done = [quick_indexer("export", "liquidations", "-o", "0.jsonl")]
    perp(connection, "b")
    done.append(
        quick_indexer("export", "liquidations", "--since", "0.jsonl.meta.json", "-o", "1.parquet")
    )
    connection.execute("DELETE FROM ledger.liquidation WHERE event_key = 'a'")
    token = json.loads((tmp_path / "1.parquet.meta.json").read_text())["cursor"]
    done.append(quick_indexer("export", "liquidations", "--since", token, "-o", "2.csv"))
    wrong = quick_indexer("export", "labels", "--since", token, "-o", "3.csv")
    chosen = quick_indexer(
        "export", "liquidations", "--since", token, "--venue", "x", "-o", "3.csv"
    )

    assert [(run.returncode, run.stderr) for run in done] == [
        (0, "wrote 1 rows to 0.jsonl\n"), (0, "wrote 1 rows to 1.parquet\n"),
        (0, "wrote 1 rows to 2.csv\n"),
    ]  # fmt: skip
    assert (tmp_path / "2.csv").read_text().splitlines()[1].startswith("withdrawn,hyperliquid/a/")
    assert (wrong.returncode, chosen.returncode) == (2, 2)
    assert "the cursor is of liquidations, not of labels" in wrong.stderr
    assert "takes venues, times and columns from its cursor" in chosen.stderr
    assert not (tmp_path / "3.csv").exists()
