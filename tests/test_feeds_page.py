"""What docs/feeds.md shows is true: its commands and programs run, its tables are the code's."""

import io
import json
import os
import re
from collections.abc import Iterator
from contextlib import redirect_stdout
from decimal import Decimal
from pathlib import Path

import pytest

from indexer import resources, sync
from indexer.cli.export import export
from indexer.export.formats import PRECISION, SCALE
from indexer.store import database, publication
from indexer.store.datasets import DATASETS
from indexer.store.server import Server
from tests.postgres import database as throw_away
from tests.quick_start import Starter

PAGE = (Path(__file__).parents[1] / "docs/feeds.md").read_text()


def blocks(language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    return [text for of, text in found if of == language]


@pytest.fixture(scope="module")
def recorded(postgres: Server, migrated: str) -> Iterator[str]:
    with throw_away(postgres, template=migrated) as conninfo:
        with database.connect(conninfo) as connection:
            sync.backfill(connection, str(resources.recording()))
        yield conninfo


@pytest.fixture(scope="module")
def folder(
    recorded: str, start: Starter, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """Where the commands of the page were run."""
    place = tmp_path_factory.mktemp("feeds")
    lines = [line for block in blocks("") for line in block.splitlines()]
    commands = [line.split()[1:] for line in lines if line.startswith("indexer ")]
    settings = {**os.environ, "DATABASE_URL": recorded}
    done = [start.run(words, settings, place, None) for words in commands]
    assert len(done) == 8
    assert [(run.args, run.stderr) for run in done if run.returncode] == []
    yield place


def test_the_programs_of_the_page_find_the_rows(
    folder: Path, recorded: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    said, found = io.StringIO(), []
    for program in blocks("python"):
        names: dict[str, object] = {}
        with redirect_stdout(said):
            exec(compile(program, "docs/feeds.md", "exec"), names)
        found.append(names)

    with database.connect(recorded) as connection:
        row = connection.execute(
            "SELECT sum(notional_usd) FROM liq.liquidations WHERE NOT account_is_protocol_vault"
        ).fetchone()
    assert row is not None
    duck, pandas, polars, _ = found
    total = "SELECT sum(notional_usd) FROM 'perps/**/*.parquet' WHERE NOT account_is_protocol_vault"
    assert duck["duckdb"].sql(total).fetchall() == [(row[0],)]  # type: ignore[attr-defined]
    assert pandas["usd"].sum() == row[0]  # type: ignore[attr-defined]
    assert polars["usd"]["notional_usd"].sum() == row[0]  # type: ignore[index]
    assert isinstance(polars["usd"]["notional_usd"].sum(), Decimal)  # type: ignore[index]
    assert "('hyperliquid', " in said.getvalue()


def test_what_changed_is_nothing_when_nothing_did(folder: Path) -> None:
    assert (folder / "changes-2.jsonl").read_text() == ""
    assert len((folder / "all.jsonl").read_text().splitlines()) > 300


def test_the_table_of_datasets_is_that_of_the_code() -> None:
    lines = re.findall(r"^\| `(\w+)` \| (.*) \|$", PAGE, re.MULTILINE)

    assert lines == [(one.name, one.says) for one in DATASETS.values()]


def test_the_page_says_what_the_code_does() -> None:
    (notice,) = blocks("json")

    assert f"`decimal128({PRECISION}, {SCALE})`" in PAGE
    assert [*json.loads(notice)] == [
        "facts", "venue", "change", "rows", "first_block", "last_block",
    ]  # fmt: skip
    assert f"publication `{publication.NAME}`" in PAGE


def test_the_help_names_every_dataset() -> None:
    said = export.help or ""

    assert [name for name in DATASETS if not re.search(rf"\b{name}\b", said)] == []
