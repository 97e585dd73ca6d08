"""The dashboard is one that Grafana takes, and each of its queries runs on what is there."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from indexer import resources
from indexer.store import database
from indexer.store.database import Connection
from indexer.store.server import Server
from tests.postgres import database as throw_away
from tests.quick_start import Starter

FILE = Path(__file__).resolve().parents[1] / "docs" / "grafana" / "liquidations.json"
BOARD = json.loads(FILE.read_text())
PANELS = BOARD["panels"]
QUERIES = [panel for panel in PANELS if panel["type"] != "row"]

LOW, HIGH = datetime(2025, 10, 1, tzinfo=UTC), datetime(2025, 11, 30, tzinfo=UTC)
TYPES = {"row", "stat", "table", "timeseries"}
SERIES = [panel for panel in QUERIES if panel["type"] == "timeseries"]


def sql_of(panel: dict[str, Any]) -> str:
    (target,) = panel["targets"]
    return str(target["rawSql"])


def expanded(query: str) -> str:
    """As Grafana sends it: variables, then macros, in whose arguments no bracket may stand
    [grafana/grafana:pkg/tsdb/grafana-postgresql-datasource/macros.go]."""
    query = query.replace("${definition:sqlstring}", "'strict/v1'").replace("$__interval", "1h")
    return re.sub(r"\$(\w+)\(([^)]*)\)", _macro, query)


def _macro(call: re.Match[str]) -> str:
    name, arguments = call[1], [one.strip() for one in call[2].split(",")]
    low, high = (f"'{at:%Y-%m-%dT%H:%M:%SZ}'" for at in (LOW, HIGH))
    known = {
        "__timeFrom": low, "__timeTo": high,
        "__timeFilter": f"{arguments[0]} BETWEEN {low} AND {high}",
        "__timeGroupAlias": f'floor(extract(epoch from {arguments[0]})/3600)*3600 AS "time"',
    }  # fmt: skip
    return known[name]


@pytest.fixture(scope="module")
def filled(
    postgres: Server, migrated: str, start: Starter, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Connection]:
    """A database with something for each panel."""
    with throw_away(postgres, template=migrated) as conninfo:
        folder = tmp_path_factory.mktemp("grafana")
        for words in (["backfill", "hyperliquid", "--from", str(resources.recording())], ["label"]):
            assert start.run(words, {"DATABASE_URL": conninfo}, folder, None).returncode == 0
        with database.connect(conninfo) as connection:
            connection.execute("""
                INSERT INTO ledger.coverage
                    (venue, facts, blocks, times, verification, decoder_version)
                SELECT 'aave_v3.base', 'liquidations', blocks::int8range, times::tstzrange,
                       'every_height', 1
                FROM (VALUES ('[1,2)', '[2025-10-10,2025-10-10]'),
                             ('[5,6)', '[2025-10-11,2025-10-11]')) AS one (blocks, times);
                INSERT INTO ledger.stream VALUES ('base', 31, '0xa', 20, 1, 'why', now());
                INSERT INTO ledger.undecoded
                VALUES ('aave_v3.base', 'a', 1, '2025-10-10', 'no market', 1, 'market', '0x1');
                INSERT INTO ledger.quarantine
                VALUES ('base', 'x', 1, '2025-10-10', '0x1', '0x2', '{a,b}');
                INSERT INTO ledger.unvalued
                VALUES ('aave_v3.base', '2025-10-10', 'a', '0x1', 'oracle', 'no price', '{repaid}');
                INSERT INTO ledger.reorg
                    (chain, ancestor, old_tip, old_tip_hash, found_by, why, found_at)
                VALUES ('base', 20, 23, '0x', 'reorg', 'w', '2025-10-10');
                INSERT INTO ledger.endpoint_state VALUES ('base', 'node #1', 70, true, now());
            """)
            yield connection


def test_each_panel_has_an_id_a_known_kind_and_a_place_of_its_own() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    assert {panel["type"] for panel in PANELS} == TYPES
    places = [panel["gridPos"] for panel in PANELS]
    assert [at for at in places if not (at["h"] > 0 < at["w"] and at["x"] + at["w"] <= 24)] == []
    assert [(a, b) for a, b in combinations(places, 2) if overlap(a, b)] == []


def overlap(a: dict[str, int], b: dict[str, int]) -> bool:
    is_beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
    return not (is_beside or a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"])


def test_each_panel_asks_the_chosen_data_source_and_says_what_it_shows() -> None:
    source = {"type": "grafana-postgresql-datasource", "uid": "${datasource}"}
    asked = [(panel["datasource"], panel["targets"][0]["datasource"]) for panel in QUERIES]

    assert asked == [(source, source)] * len(QUERIES)
    assert [panel["title"] for panel in QUERIES if not panel["description"].endswith(".")] == []
    formats = {"timeseries": "time_series", "table": "table", "stat": "table"}
    assert [panel["targets"][0]["format"] for panel in QUERIES] == [
        formats[panel["type"]] for panel in QUERIES
    ]


def test_the_variables_are_a_data_source_and_a_definition(filled: Connection) -> None:
    source, definition = BOARD["templating"]["list"]

    ids = [one for (one,) in filled.execute(definition["query"]).fetchall()]

    assert (source["name"], source["type"]) == ("datasource", "datasource")
    assert (definition["name"], definition["current"]["value"] in ids) == ("definition", True)
    used = set(re.findall(r"\$\{?(\w+)", FILE.read_text()))
    assert {word for word in used if not word.startswith("__")} == {"datasource", "definition"}


def test_queries_read_the_schema_for_readers_alone() -> None:
    assert [panel["title"] for panel in QUERIES if "ledger." in sql_of(panel)] == []


@pytest.mark.parametrize("panel", QUERIES, ids=lambda panel: panel["title"])
def test_the_query_of_a_panel_finds_rows(filled: Connection, panel: dict[str, Any]) -> None:
    found = filled.execute(expanded(sql_of(panel)))  # type: ignore[call-overload]
    columns = [column.name for column in found.description]

    assert len(found.fetchall()) > 0
    named = {one["matcher"]["options"] for one in panel["fieldConfig"]["overrides"]}
    assert named - set(columns) == set()


@pytest.mark.parametrize("panel", SERIES, ids=lambda panel: panel["title"])
def test_a_time_series_has_a_time_a_name_and_a_number(
    filled: Connection, panel: dict[str, Any]
) -> None:
    found = filled.execute(expanded(sql_of(panel)))  # type: ignore[call-overload]

    assert [column.name for column in found.description] == ["time", "metric", "value"]
    times = [float(time) for time, _, _ in found.fetchall()]
    assert times == sorted(times)


def test_series_and_tables_add_up_to_the_total(filled: Connection) -> None:
    of = {panel["title"]: expanded(sql_of(panel)) for panel in QUERIES}

    def total(query: str) -> Decimal:
        (row,) = filled.execute(query).fetchall()  # type: ignore[call-overload]
        return Decimal(row[0])

    expected = total("SELECT usd FROM liq.total('strict/v1', '2025-10-01', '2025-11-30')"
                     " WHERE section = 'total'")  # fmt: skip
    assert expected > 0
    assert total(of["Liquidated"].replace("SELECT usd AS total, long_usd AS long, short_usd AS"
                                          " short", "SELECT usd")) == expected  # fmt: skip
    for title in ("Dollars by venue", "Long and short"):
        assert total(f"SELECT sum(value) FROM ({of[title]}) series") == expected
