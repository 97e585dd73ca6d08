"""README, docs and --help are true: their examples run, and nothing that exists goes unnamed."""

import json
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_type_hints

import click
import msgspec
import pytest

from indexer import resources, settings, sync
from indexer.cli import main
from indexer.evm_model import LendingMethod, Proof
from indexer.labels import rules
from indexer.methodology.definition import (
    Assets,
    Definition,
    Labels,
    Repeat,
    Sample,
    WindowRule,
    parse,
    presets,
)
from indexer.methodology.windows import resolve
from indexer.report.pictures import PICTURES
from indexer.store.database import Connection
from indexer.venues.evm import specs
from tests import fault_table
from tests.chain_model.chain import Config, ModelChain
from tests.chain_model.node import Node, comet_of
from tests.conftest import Command
from tests.exchange_stub import Exchange
from tests.ledger_rows import rows
from tests.perp_stub import Perps
from tests.simulator import simulate, small, write_by_block, write_misc
from tests.test_prose import values_of

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
DATA = (ROOT / "docs" / "data.md").read_text()
CHAINS = (ROOT / "docs" / "chains.md").read_text()
VALUES = (ROOT / "docs" / "values.md").read_text()
DEFINITIONS = (ROOT / "docs" / "definitions.md").read_text()
LABELS = (ROOT / "docs" / "labels.md").read_text()
ALERTS = (ROOT / "docs" / "alerts.md").read_text()
REPORTS = (ROOT / "docs" / "reports.md").read_text()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A node's data folder."""
    folder = tmp_path_factory.mktemp("hl") / "data"
    sim = simulate(small(5))
    write_by_block(sim, folder)
    write_misc(sim, folder)
    return folder


@pytest.fixture
def price_file(tmp_path: Path) -> None:
    """A price file where the commands run."""
    (tmp_path / "prices.csv").write_text(
        "chain,asset,time,usd\nhyperliquid,USDC,2025-10-10T21:15:00Z,0.9991\n"
    )


@pytest.fixture
def interest_file(tmp_path: Path) -> None:
    """A daily file of open interest where the commands run."""
    (tmp_path / "20251010.csv").write_text(
        "time,coin,open_interest\n2025-10-10T21:15:00Z,BTC,30000.5\n"
    )


@pytest.fixture
def definition_file(tmp_path: Path) -> None:
    """The definition that the docs show, where the commands run."""
    (tmp_path / "mine.toml").write_text(blocks(DEFINITIONS, "toml")[0])


@pytest.fixture
def label_files(tmp_path: Path) -> None:
    """Labels of others and a file of truth where the commands run."""
    account = "0x" + 40 * "a"
    (tmp_path / "whales.csv").write_text(f"account,label\n{account},whale\n")
    (tmp_path / "truth.csv").write_text(f"account,label,truth\n{account},whale,yes\n")
    (tmp_path / "ours.csv").write_text(blocks(LABELS, "csv")[0])


@pytest.fixture
def alert_targets(tmp_path: Path) -> None:
    """Where alerts go that are never sent: nothing large happened since the first start."""
    (tmp_path / "targets.txt").write_text("desk jsons://1.1.1.1/liquidations\n")
    (tmp_path / "targets.txt").chmod(0o600)


@cache
def model() -> ModelChain:
    """A hundred blocks from 20M on."""
    chain = ModelChain(Config(seed=3))
    chain.mine(100)
    return chain


@pytest.fixture(scope="module")
def ethereum() -> Iterator[str]:
    """The address of a node of it."""
    with Node(model(), calls=comet_of(model())) as served:
        yield served.url


@pytest.fixture
def exchange() -> Iterator[str]:
    """The address of an exchange that knows nobody."""
    with Exchange() as served:
        yield served.url


@pytest.fixture
def perps() -> Iterator[dict[str, str]]:
    """The addresses of other exchanges, where nothing was traded."""
    with Perps() as served:
        yield served.environment


def groups(group: click.Group) -> list[click.Group]:
    """A group and all below it."""
    below = [one for one in group.commands.values() if isinstance(one, click.Group)]
    return [group, *(found for one in below for found in groups(one))]


def commands(group: click.Group, *path: str) -> list[tuple[tuple[str, ...], click.Command]]:
    """All commands below a group, with the words that call them."""
    found: list[tuple[tuple[str, ...], click.Command]] = []
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            found += commands(command, *path, name)
        else:
            found.append(((*path, name), command))
    return found


ALL_COMMANDS = commands(main)


@pytest.mark.parametrize("words", [words for words, _ in ALL_COMMANDS], ids=" ".join)
def test_every_command_is_in_the_readme(words: tuple[str, ...]) -> None:
    first, *rest = words
    assert f"indexer {first}" in README
    assert all(f"`{word}`" in README or f" {word}" in README for word in rest)


def examples_of(command: click.Command) -> list[str]:
    return re.findall(r"Example: indexer (.+)", command.help or "")


@pytest.mark.parametrize(
    ("words", "command"),
    ALL_COMMANDS,
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_every_help_has_an_example_of_its_command(
    words: tuple[str, ...], command: click.Command
) -> None:
    starts = [shlex.split(example)[: len(words)] for example in examples_of(command)]

    assert starts == [list(words)] * max(len(starts), 1)


def runnable(text: str, node: Path, key: str) -> list[str]:
    """An example's words, with a folder, a key, heights and a transaction that exist."""
    text = re.sub(r"0x[0-9a-f]{64}", model().truth().rows[0].tx_hash, text)
    text = re.sub(r"--rpc \S+", "--chain ethereum", text)
    text = re.sub(r"--from \d\S*", "--from 20M", text.replace("~/hl/data", str(node)))
    words = shlex.split(re.sub(r"--to \d\S*", "--to 20_000_010", text))
    return [key if word.startswith("hyperliquid/") else word for word in words]


@pytest.mark.usefixtures("price_file", "interest_file", "label_files", "alert_targets")
def test_the_examples_of_help_run(
    indexer: Command,
    connection: Connection,
    node: Path,
    ethereum: str,
    exchange: str,
    perps: dict[str, str],
) -> None:
    assert indexer("backfill", "hyperliquid", "--from", node).returncode == 0
    key = str(rows(connection, "SELECT min(key) FROM liq.liquidations")[0][0])
    # they never end; demo has a test of its own, and a server that is not ours is not stopped
    left_out = {("follow",), ("serve",), ("demo",), ("db", "stop")}
    of_groups = [example for one in groups(main) for example in examples_of(one)]
    examples = [
        example for words, command in ALL_COMMANDS if words not in left_out
        for example in examples_of(command)
    ]  # fmt: skip

    done = [
        indexer(
            *runnable(example, node, key),
            RPC_ETHEREUM=ethereum,
            HYPERLIQUID_API=exchange,
            INDEXER_LOGIN_PASSWORD="a password of a test",
            **perps,
        )
        for example in dict.fromkeys([*examples, *of_groups])
        if example != "demo"
    ]

    assert [(run.args[3:], run.stderr) for run in done if run.returncode != 0] == []


def blocks(page: str, language: str = "") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.DOTALL | re.MULTILINE)


def shown(page: str) -> list[str]:
    """The commands of a page that end by themselves and need nothing from outside."""
    lines = [line for block in blocks(page) for line in block.splitlines()
             if line.startswith("indexer ")]  # fmt: skip
    return [line for line in lines if "s3://" not in line and " follow " not in line]


@pytest.mark.usefixtures("alert_targets")
def test_the_examples_of_alerts_run(quick_indexer: Command) -> None:
    done = [quick_indexer(*shlex.split(line)[1:]) for line in shown(ALERTS)]

    assert len(done) == 3
    assert [(run.args, run.stderr) for run in done if run.returncode != 0] == []


@pytest.mark.usefixtures("price_file", "interest_file", "definition_file", "label_files")
def test_the_examples_of_the_readme_run(
    indexer: Command, connection: Connection, node: Path, ethereum: str, exchange: str
) -> None:
    pages = (README, CHAINS, VALUES, DEFINITIONS, LABELS, REPORTS)
    lines = [line for page in pages for line in shown(page)]
    assert len(lines) >= 20

    done = [
        indexer(
            *runnable(line.removeprefix("indexer "), node, ""),
            RPC_ETHEREUM=ethereum,
            HYPERLIQUID_API=exchange,
        )
        for line in lines
    ]

    assert [(run.args[3:], run.stderr) for run in done if run.returncode != 0] == []
    assert len(connection.execute(blocks(README, "sql")[0]).fetchall()) == 10


def test_the_demo_says_what_it_is_and_prints_a_psql_line_that_works(
    indexer: Command, tmp_path: Path
) -> None:
    done = indexer("demo")

    assert done.returncode == 0
    assert "SIMULATED DATA" in done.stdout
    assert "SIMULATED DATA" in (tmp_path / "report-whales.html").read_text().upper()
    again = indexer("demo")
    assert "0 new blocks" in again.stdout
    asked = indexer("db", "psql", "--demo", "-Atc", "SELECT count(*) > 300 FROM liq.liquidations")
    assert asked.stdout == "t\n"


def test_the_demo_does_not_touch_the_database_of_the_user(
    indexer: Command, connection: Connection
) -> None:
    indexer("demo")

    assert rows(connection, "SELECT * FROM ledger.raw_event") == []


def test_explain_walks_from_bytes_to_labels(
    indexer: Command, connection: Connection, node: Path
) -> None:
    indexer("backfill", "hyperliquid", "--from", node)
    indexer("label")
    key, tx_hash, account = connection.execute(
        "SELECT key, tx_hash, account FROM liq.liquidations WHERE method = 'backstop'"
        " AND NOT account_is_protocol_vault ORDER BY notional DESC LIMIT 1"
    ).fetchone()  # type: ignore[misc]

    text = indexer("explain", key).stdout

    assert re.findall(r"^\w.*$", text, re.MULTILINE)[:2] == ["published", "published"]
    assert str(node / "node_fills_by_block") in text
    assert '"method":"backstop"' in re.sub(r"\s+", "", text)
    shown = (tx_hash, account, "account_value", "episode", "SIZE_ABS", "PEAK_POSITION")
    for part in (*shown, "margin_lost", "par"):
        assert str(part) in text


def test_explain_of_a_key_that_is_none_says_what_a_key_is(indexer: Command) -> None:
    done = indexer("explain", "hyperliquid/1/BTC/2/0xabc")

    assert done.returncode == 1
    assert done.stderr == (
        "indexer: no liquidation 'hyperliquid/1/BTC/2/0xabc': take a key from the views"
        " liq.liquidations or liq.lending_liquidations, or venue/event_key from liq.undecoded\n"
    )


def test_every_setting_is_documented() -> None:
    names = re.findall(r'"((?:DATABASE|INDEXER)_\w+)"', Path(settings.__file__).read_text())

    assert len(names) >= 4
    assert "`RPC_<CHAIN>`" in README
    assert [name for name in names if f"`{name}`" not in README] == []


def test_every_picture_and_explorer_of_the_report_is_documented() -> None:
    assert [name for name in PICTURES if f"`{name}`" not in REPORTS.replace("--picture ", "")] == []
    assert "`indexer/explorers.py`" in REPORTS


def test_every_rule_and_method_is_documented() -> None:
    assert [rule.id for rule in rules() if f"`{rule.id}`" not in DATA] == []
    assert f"`indexer backfill {sync.VENUE}" in README


def test_every_protocol_and_way_of_knowing_is_documented() -> None:
    methods, proofs = get_args(LendingMethod), get_args(Proof)
    words = (*(spec.name for spec in specs()), *methods, *proofs)

    assert [word for word in words if f"`{word}`" not in CHAINS] == []


def test_every_basis_source_and_suspicion_is_documented(connection: Connection) -> None:
    comments = dict(
        rows(
            connection,
            """
            SELECT attname, string_agg(DISTINCT col_description(attrelid, attnum), ' ')
            FROM pg_attribute
            WHERE attrelid IN ('liq.valuations'::regclass, 'liq.suspects'::regclass) AND attnum > 0
            GROUP BY attname
            """,
        )
    )
    said = " ".join(comments[name] for name in ("basis", "price_source", "quality", "rule"))
    words = re.findall(r"\b[a-z]+_[a-z_]+\b|\b(?:repaid|seized|fill|mark|realised|oracle)\b", said)

    assert len(set(words)) >= 12
    assert [word for word in words if f"`{word}`" not in VALUES] == []


def table(page: str, header: str) -> list[list[str]]:
    """The cells of the table with this header, line by line."""
    lines = page.partition(f"{header}\n")[2].partition("\n")[2].partition("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split(" |")] for line in lines]


def of_struct(struct: Any, name: str = "") -> dict[str, str]:
    """Of each field its default as JSON, and nothing where it has none."""
    return {
        name + field.name: "" if field.required else json.dumps(msgspec.to_builtins(field.default))
        for field in msgspec.structs.fields(struct)
    }


INNER = {"assets": Assets, "labels": Labels, "repeat": Repeat, "sample": Sample}


def test_the_table_of_fields_is_that_of_the_struct() -> None:
    outer = of_struct(Definition)
    inner = [of_struct(struct, f"{name}.") for name, struct in INNER.items()]
    rules = [of_struct(rule, "window.") for rule in get_args(WindowRule)]
    expected = {"window.rule": '"calendar"'}
    for found in (outer, *inner, *rules):
        expected |= found

    fields = table(DEFINITIONS, "| Field | Values | Default |")

    gone = {*INNER, "window"}
    assert {name.strip("`"): default.strip("`") for name, _, default in fields} == {
        name: default for name, default in expected.items() if name not in gone
    }


def test_the_table_of_fields_has_every_value_that_a_field_may_have() -> None:
    hints = [(Definition, ""), *((struct, f"{name}.") for name, struct in INNER.items())]
    values = {
        f"{prefix}{name}": values_of(hint)
        for struct, prefix in hints for name, hint in get_type_hints(struct).items()
        if name not in INNER and not name.startswith("_")
    }  # fmt: skip
    said = {
        name.strip("`"): cell
        for name, cell, _ in table(DEFINITIONS, "| Field | Values | Default |")
    }

    assert [
        (name, value)
        for name, known in values.items() for value in known if f"`{value}`" not in said[name]
    ] == []  # fmt: skip


def test_the_table_of_presets_is_what_the_presets_say() -> None:
    assert table(DEFINITIONS, "| Id | Fidelity | What it counts | Whose number |") == [
        [f"`{one.id}`", one.fidelity, one.says, one.mirrors] for one in presets().values()
    ]


def test_the_table_of_windows_is_that_of_the_code() -> None:
    lines = [line.strip() for line in (resolve.__doc__ or "").splitlines()]

    assert "\n".join(line for line in lines if line.startswith("|")) in DEFINITIONS


def test_the_definition_that_the_docs_show_is_one() -> None:
    (text,) = blocks(DEFINITIONS, "toml")

    assert parse(text.encode()).id == "mine/v1"


def test_the_queries_of_the_docs_find_rows(indexer: Command, connection: Connection) -> None:
    assert indexer("backfill", "hyperliquid", "--from", resources.recording()).returncode == 0
    queries = [query for block in blocks(DEFINITIONS, "sql") for query in block.split(";\n")]

    found = {query: len(connection.execute(query).fetchall()) for query in queries if query.strip()}

    assert len(found) == 6
    assert [query for query, number in found.items() if number == 0] == []


def test_links_of_the_docs_lead_somewhere() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        targets = re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text())
        assert [target for target in targets if not (page.parent / target).exists()] == []


def test_the_table_of_faults_is_what_the_tests_play() -> None:
    assert (ROOT / "docs" / "faults.md").read_text() == fault_table.page()
