"""The dbt project fits the schema: each of its tests is run as SQL, without dbt."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from psycopg.sql import SQL, Identifier, Literal

from indexer import resources, sync
from indexer.store import database
from indexer.store.database import Connection
from indexer.store.server import Server
from tests.postgres import database as throw_away

PROJECT = Path(__file__).parents[1] / "dbt"


class Declared(NamedTuple):
    """A test of a column, as the project declares it."""

    table: str
    column: str
    name: str
    arguments: dict[str, Any]


def of_table(table: dict[str, Any]) -> Iterator[Declared]:
    for column in table["columns"]:
        for test in column.get("data_tests", []):
            (name, said) = (test, {}) if isinstance(test, str) else next(iter(test.items()))
            yield Declared(table["name"], column["name"], name, said.get("arguments", {}))


(LIQ,) = yaml.safe_load((PROJECT / "models/sources.yml").read_text())["sources"]
MODELS = yaml.safe_load((PROJECT / "models/models.yml").read_text())["models"]
DECLARED = [test for table in LIQ["tables"] for test in of_table(table)]


def failures(connection: Connection, test: Declared) -> int:
    """How many rows dbt's test of this name would find."""
    column, table = Identifier(test.column), Identifier("liq", test.table)
    match test.name, test.arguments:
        case "not_null", _:
            query = SQL("SELECT count(*) FROM {} WHERE {} IS NULL").format(table, column)
        case "unique", _:
            query = SQL("SELECT count({1}) - count(DISTINCT {1}) FROM {0}").format(table, column)
        case "accepted_values", {"values": values}:
            query = SQL("SELECT count(*) FROM {} WHERE {} <> ALL ({})").format(
                table, column, Literal(values)
            )
        case "relationships", {"to": to, "field": field}:
            found = re.fullmatch(r"source\('liq', '(\w+)'\)", to)
            assert found is not None
            query = SQL(
                "SELECT count(*) FROM {0}"
                " WHERE {1} IS NOT NULL AND {1} NOT IN (SELECT {2} FROM {3})"
            ).format(table, column, Identifier(field), Identifier("liq", found[1]))
        case _:
            raise AssertionError(f"no such test: {test}")
    (number,) = connection.execute(query).fetchone() or (None,)
    return int(str(number))


@pytest.fixture(scope="module")
def recorded(postgres: Server, migrated: str) -> Iterator[Connection]:
    """The bundled recording, and a loan with its value."""
    with (
        throw_away(postgres, template=migrated) as conninfo,
        database.connect(conninfo) as connection,
    ):
        sync.backfill(connection, str(resources.recording()))
        connection.execute(
            """
            INSERT INTO ledger.lending_liquidation
            VALUES ('aave_v3.ethereum', '0x1/1', '0xab', 1, now(), 'repay_seize', 'm', NULL, NULL,
                    '0xd', 1, '0xc', 1, false, NULL, NULL, NULL, NULL, 1);
            INSERT INTO ledger.valuation (venue, block_at, event_key, account, price_source,
                repaid_usd)
            SELECT venue, block_at, event_key, account, 'oracle', 1 FROM ledger.lending_liquidation
            """.replace("0x1/1", f"0x{'1' * 64}/1")
        )
        yield connection


def test_each_declared_test_holds(recorded: Connection) -> None:
    assert len(DECLARED) >= 30
    assert {test.name for test in DECLARED} == {
        "not_null", "unique", "relationships", "accepted_values",
    }  # fmt: skip
    assert [(test, n) for test in DECLARED if (n := failures(recorded, test))] == []


def test_a_declared_test_finds_what_is_wrong(recorded: Connection) -> None:
    sides = next(test for test in DECLARED if test.column == "side")

    assert failures(recorded, sides._replace(arguments={"values": ["long"]})) > 0


def test_the_model_gives_the_columns_that_it_declares(recorded: Connection) -> None:
    (model,) = MODELS
    text = (PROJECT / f"models/{model['name']}.sql").read_text()
    query = re.sub(r"\{\{ source\('liq', '(\w+)'\) \}\}", r"liq.\1", text)

    cursor = recorded.execute(query)  # type: ignore[arg-type]
    names = [one.name for one in cursor.description or []]

    assert {one["name"] for one in model["columns"]} <= {*names}
    assert sum(int(str(row[names.index("liquidations")])) for row in cursor) > 100
