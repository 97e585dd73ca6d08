"""Exports give every value back in every format, and leave no half file behind."""

import csv
import io
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args

import psycopg
import pyarrow as pa
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import dict_row
from psycopg.sql import SQL, Identifier
from pyarrow import dataset as hive
from pyarrow import parquet

from indexer.export.formats import Form
from indexer.export.run import Asked, to_stream
from indexer.store import database, exports
from indexer.store.database import Connection
from indexer.store.datasets import DATASETS, Scope
from indexer.store.server import Server
from tests.conftest import Command
from tests.postgres import database as throw_away
from tests.processes import soon
from tests.quick_start import Starter

BEGIN = datetime(2025, 10, 10, 23, 59, 59, 999_999, tzinfo=UTC)
UINT256 = 2**256 - 1  # 78 digits
NUMBERS = [
    None, Decimal(0), Decimal(-1), Decimal("-0.000000000000000001"), Decimal("12345.678900"),
    Decimal("0.0000000000000000001"), Decimal("-99999999999999999999.999999999999999999"),
    Decimal("100000000000000000000"), Decimal(f"-{'9' * 78}"), Decimal("1." + "123456789" * 5),
    Decimal("1.0000000000000000000000"), Decimal(UINT256),
]  # fmt: skip
HOSTILE = [
    "=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", "＋1", "－1", "＠x",
    '=HYPERLINK("http://x","y")', "'=1", " =1", "", "\\.", "\\N", "NULL", 'a"b', "a,b", "a\nb",
    "a\r\nb", "é€😀", "\x01\x02", "-", "=",
]  # fmt: skip


def fill(connection: Connection) -> None:
    """Rows with all that a number or a text may be."""
    connection.execute("INSERT INTO ledger.source (uri, is_simulated) VALUES ('a test', true)")
    connection.execute(
        """
        INSERT INTO ledger.coverage (venue, facts, blocks, times, verification, decoder_version)
        SELECT venue, 'liquidations', int8range(1, 100), tstzrange(%s, %s, '[]'), 'every_height', 1
        FROM unnest(ARRAY['hyperliquid', 'gmx_v2.arbitrum', 'aave_v3.ethereum']) venue
        """,
        (BEGIN - timedelta(days=1), BEGIN + timedelta(days=3)),
    )
    with connection.cursor() as cursor:
        for place, text in enumerate(HOSTILE):
            cursor.execute(
                """
                INSERT INTO ledger.liquidation (venue, event_key, account, block_number, block_at,
                    method, market, dex, quote, side, size, price, notional, fee, is_full_close,
                    order_id, account_is_protocol_vault, legs_seen, decoder_version)
                VALUES (%s, %s, '0xab', %s, %s, 'market', %s, '', 'USDC', 'long', %s, %s, %s, %s,
                        %s, %s, false, 'both', 1)
                """,
                (
                    "hyperliquid" if place % 3 else "gmx_v2.arbitrum", f"{place}/k", place,
                    BEGIN + timedelta(hours=6 * place), text, *[NUMBERS[place % len(NUMBERS)]] * 3,
                    NUMBERS[(place + 1) % len(NUMBERS)], place % 2 == 0,
                    None if place % 5 else text,
                ),
            )  # fmt: skip
            cursor.execute(
                """
                INSERT INTO ledger.lending_liquidation
                VALUES ('aave_v3.ethereum', %s, '0xab', %s, %s, 'repay_seize', %s, NULL, NULL,
                        '0xd', %s, '0xc', %s, false, NULL, NULL, NULL, NULL, 1)
                """,
                (f"0x{place:064x}/{place}", place, BEGIN + timedelta(hours=6 * place), text,
                 UINT256 - place, None if place % 2 else 10**77),
            )  # fmt: skip
            cursor.execute(
                """
                INSERT INTO ledger.label (venue, account, label, rule, rule_version, confidence,
                    evidence, valid_during, recorded_during)
                VALUES ('*', '0xab', %s, 'R', 1, 0.5, %s, tstzrange(now(), NULL),
                        tstzrange(now(), NULL))
                """,
                (text, json.dumps({"said": text})),
            )
        cursor.execute(
            """
            INSERT INTO ledger.asset (chain, address, symbol, name, decimals)
            VALUES ('ethereum', '0xd', '=cmd', '+cmd', 18), ('ethereum', '0xc', '-1', '@x', 0);
            INSERT INTO ledger.valuation (venue, block_at, event_key, account, price_source,
                repaid_usd, repaid_price)
            SELECT venue, block_at, event_key, account, 'oracle', block_number * 1.5, 1e-30
            FROM ledger.lending_liquidation
            """
        )


@pytest.fixture(scope="module")
def world(postgres: Server, migrated: str) -> Iterator[str]:
    """The conninfo of a database with hostile rows."""
    with throw_away(postgres, template=migrated) as conninfo:
        with database.connect(conninfo) as connection:
            fill(connection)
        yield conninfo


@pytest.fixture
def export(start: Starter, world: str, tmp_path: Path) -> Command:
    """`indexer export` on that database."""

    def run(
        *arguments: object, out: str | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        settings = {**os.environ, "DATABASE_URL": world, **environment}
        return start.run(["export", *map(str, arguments)], settings, tmp_path, out)

    return run


def stored(conninfo: str, name: str, view: str | None = None) -> list[dict[str, Any]]:
    """What the view says, by its own names and types."""
    with psycopg.connect(conninfo, row_factory=dict_row) as connection:
        connection.execute("SET TIME ZONE 'UTC'")
        columns = SQL(", ").join(map(Identifier, DATASETS[name].columns))
        rows = SQL("SELECT {} FROM {} ORDER BY venue, block_at, event_key").format(
            columns, Identifier("liq", view or name)
        )
        return connection.execute(rows).fetchall()


def from_csv(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def table_of(path: Path) -> Any:
    if path.suffix == ".parquet":
        return parquet.read_table(path)
    with pa.ipc.open_file(path) as file:
        return file.read_all()


def whole(row: dict[str, Any]) -> dict[str, Any]:
    """A row of a table with the digits that its decimals could not hold."""
    exact = json.loads(row.pop("exact") or "{}")
    return row | {name: Decimal(text) for name, text in exact.items()}


# -- values --------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["arrow", "parquet"])
def test_tables_give_every_value_back(
    export: Command, world: str, tmp_path: Path, form: str
) -> None:
    done = export("liquidations", "--output", f"l.{form}")

    assert (done.returncode, done.stderr) == (0, f"wrote {len(HOSTILE)} rows to l.{form}\n")
    found = [whole(row) for row in table_of(tmp_path / f"l.{form}").to_pylist()]
    assert found == stored(world, "liquidations")


def test_decimals_are_cut_off_never_rounded_and_null_where_nothing_fits(
    export: Command, tmp_path: Path
) -> None:
    export("liquidations", "--columns", "block_number,size", "-o", "l.parquet")

    found = table_of(tmp_path / "l.parquet").to_pylist()

    sizes = {row["block_number"]: (row["size"], row["exact"]) for row in found}
    assert [sizes[place] for place in range(len(NUMBERS))] == [
        (None, None),
        (Decimal(0), None),
        (Decimal(-1), None),
        (Decimal("-0.000000000000000001"), None),
        (Decimal("12345.6789"), None),
        (Decimal(0), '{"size": "0.0000000000000000001"}'),
        (Decimal("-99999999999999999999.999999999999999999"), None),
        (None, '{"size": "100000000000000000000"}'),
        (None, f'{{"size": "-{"9" * 78}"}}'),
        (Decimal("1.123456789123456789"), f'{{"size": "1.{"123456789" * 5}"}}'),
        (Decimal(1), None),
        (None, f'{{"size": "{UINT256}"}}'),
    ]


def test_json_lines_give_every_value_back(export: Command, world: str, tmp_path: Path) -> None:
    assert export("liquidations", "-o", "l.jsonl").returncode == 0

    found = [json.loads(line) for line in (tmp_path / "l.jsonl").read_text().splitlines()]

    assert found == [
        {
            name: format(value, "f") if isinstance(value, Decimal)
            else value.isoformat() if isinstance(value, datetime) else value
            for name, value in row.items()
        }
        for row in stored(world, "liquidations")
    ]  # fmt: skip


def as_cell(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "t" if value else "f"
        case Decimal():
            return format(value, "f")
        case datetime():
            return value.isoformat(" ").removesuffix(":00")
        case str() if value[:1] in tuple("=+-@\t\r\n＝＋－＠"):
            return f"'{value}"
        case _:
            return str(value)


def test_csv_gives_every_value_back_and_no_text_is_a_formula(
    export: Command, world: str, tmp_path: Path
) -> None:
    assert export("liquidations", "-o", "l.csv").returncode == 0

    found = from_csv(tmp_path / "l.csv")

    assert [{k: v.rstrip("0") if "." in v else v for k, v in row.items()} for row in found] == [
        {k: v.rstrip("0") if "." in v else v
         for k, v in ((name, as_cell(value)) for name, value in row.items())}
        for row in stored(world, "liquidations")
    ]  # fmt: skip
    texts = [row["market"] for row in found]
    assert [text for text in texts if text[:1] in {*exports.FORMULA_STARTS}] == []
    assert sorted(text.removeprefix("'") for text in texts) == sorted(
        text.removeprefix("'") for text in HOSTILE
    )
    assert "-99999999999999999999.999999999999999999" in {row["size"] for row in found}


def test_csv_tells_an_empty_text_from_an_unknown_one(export: Command, tmp_path: Path) -> None:
    export("liquidations", "--columns", "dex,tx_hash", "-o", "l.csv")

    assert (tmp_path / "l.csv").read_text().splitlines()[1] == '"",'


def test_amounts_in_base_units_keep_all_78_digits_in_every_format(
    export: Command, world: str, tmp_path: Path
) -> None:
    truth = [UINT256 - place for place in range(len(HOSTILE))]
    for form in ("csv", "jsonl", "arrow", "parquet"):
        assert export("lending_liquidations", "-o", f"l.{form}").returncode == 0

    lines = (tmp_path / "l.jsonl").read_text().splitlines()
    assert [int(row["repaid_raw"]) for row in from_csv(tmp_path / "l.csv")] == truth
    assert [json.loads(line)["repaid_raw"] for line in lines] == [*map(str, truth)]
    for form in ("arrow", "parquet"):
        rows = [whole(row) for row in table_of(tmp_path / f"l.{form}").to_pylist()]
        assert [int(row["repaid_raw"]) for row in rows] == truth
        assert [row["repaid"] for row in rows] == [Decimal(f"{one}e-18") for one in truth]
        assert [row["repaid_usd"] for row in rows] == [
            Decimal("1.5") * place for place in range(len(HOSTILE))
        ]
        assert {row["seized_symbol"] for row in rows} == {"-1"}
    assert {row["seized_symbol"] for row in from_csv(tmp_path / "l.csv")} == {"'-1"}


@pytest.mark.parametrize("name", [name for name in DATASETS if name != "counted"])
def test_every_dataset_can_be_exported_in_every_format(world: str, name: str) -> None:
    of, forms = DATASETS[name], get_args(Form)
    with database.connect(world) as connection:
        done = [
            to_stream(connection, Asked(of, form, of.columns, Scope()), io.BytesIO()).rows
            for form in forms
        ]
        rows = SQL("SELECT count(*) FROM {}").format(exports.rows(of, SQL("true"), Scope()))
        (truth,) = connection.execute(rows).fetchone() or (None,)

    assert done == [truth] * len(forms)


def test_the_columns_of_each_version_are_what_they_were(world: str) -> None:
    """Who changes them gives the dataset a new version, and a new line here."""
    promised = json.loads((Path(__file__).parent / "export_columns.json").read_text())
    with database.connect(world) as connection:
        found = {
            f"{one.name}/{one.version}": {
                column.name: column.kind for column in exports.columns(connection, one, one.columns)
            }
            for one in DATASETS.values()
        }

    assert found == promised


def test_every_column_says_what_it_holds(world: str) -> None:
    with database.connect(world) as connection:
        silent = [
            (one.name, column.name)
            for one in DATASETS.values()
            for column in exports.columns(connection, one, one.columns)
            if not column.comment
        ]

    assert silent == []


# -- what is told with the numbers ---------------------------------------------------------------


def test_a_file_says_what_its_numbers_mean(export: Command, tmp_path: Path) -> None:
    export("liquidations", "--venue", "hyperliquid", "--to", "2025-10-12", "-o", "l.parquet")

    beside = json.loads((tmp_path / "l.parquet.meta.json").read_text())
    table = table_of(tmp_path / "l.parquet")
    within = json.loads(table.schema.metadata[b"liquidation_indexer"])

    assert within == {**beside, "rows": None}
    assert beside["rows"] == table.num_rows == 3
    assert (beside["dataset"], beside["schema_version"]) == ("liquidations", 1)
    assert (beside["venues"], beside["from"], beside["to"]) == (
        ["hyperliquid"], None, "2025-10-12T00:00:00Z",
    )  # fmt: skip
    assert [(one["venue"], one["block_from"], one["block_to"]) for one in beside["coverage"]] == [
        ("hyperliquid", 1, 100)
    ]
    assert "`liquidatedUser`" in beside["methodology"]["hyperliquid"]
    assert beside["is_simulated"] is True
    assert b"Execution price" in table.schema.field("price").metadata[b"comment"]


def test_rows_of_a_definition_say_which_and_what_it_means(export: Command, tmp_path: Path) -> None:
    window = ("--from", "2025-10-10", "--to", "2025-11-10")
    done = export("counted", "--definition", "strict/v1", *window, "-o", "c.jsonl")

    said = json.loads((tmp_path / "c.jsonl.meta.json").read_text())["definition"]
    assert done.returncode == 0
    assert said["id"] == "strict/v1"
    assert len(said["hash"]) == 64
    assert "strict/v1" in said["methodology"] or len(said["methodology"]) > 100


def test_a_folder_has_a_file_for_each_venue_and_day(
    export: Command, world: str, tmp_path: Path
) -> None:
    done = export("liquidations", "--format", "parquet", "--partitioned", "-o", "parts")

    truth = stored(world, "liquidations")
    places = {
        f"venue={row['venue']}/day={row['block_at']:%Y-%m-%d}/part-0.parquet" for row in truth
    }
    files = {str(one.relative_to(tmp_path / "parts")) for one in tmp_path.rglob("*.parquet")}
    read = hive.dataset(tmp_path / "parts", format="parquet", partitioning="hive")
    found = [whole(row) for row in read.to_table().to_pylist()]
    assert done.stderr == f"wrote {len(HOSTILE)} rows in {len(places)} files to parts\n"
    assert files == places
    assert sorted(row["key"] for row in found) == sorted(row["key"] for row in truth)
    assert all(row["day"] == row["block_at"].date().isoformat() for row in found)
    assert json.loads((tmp_path / "parts/_meta.json").read_text())["rows"] == len(HOSTILE)


def test_the_same_rows_make_the_same_files(export: Command, tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        export("liquidations", "-o", name)

    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_rows_go_to_the_standard_output(export: Command, tmp_path: Path) -> None:
    export("liquidations", "-o", "l.csv")

    done = export("liquidations", "--format", "csv", "--output", "-")

    assert done.stdout.encode() == (tmp_path / "l.csv").read_bytes().replace(
        b"\r\n", b"\n"
    ).replace(b"\r", b"\n")
    assert [one.name for one in tmp_path.iterdir() if "-" in one.name] == []


# -- what was wrong ------------------------------------------------------------------------------


def names_in(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir())


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["liquidations", "-o", "x.xlsx"], 2, "which format? --format csv, jsonl, arrow, parquet"),
        (["liquidations", "--format", "xlsx", "-o", "x"], 2, "'xlsx' is not one of 'csv'"),
        (["nothing", "-o", "x.csv"], 2, "'nothing' is not one of 'liquidations'"),
        (["liquidations", "--columns", "key,bank", "-o", "x.csv"], 2,
         "liquidations has no column 'bank'; it has key, venue"),
        (["liquidations", "--columns", "key,key", "-o", "x.csv"], 2, "names key twice"),
        (["liquidations", "--partitioned", "--format", "csv", "-o", "-"], 2, "writes a folder"),
        (["counted", "-o", "x.csv"], 2, "counted needs one"),
        (["counted", "--definition", "strict/v1", "-o", "x.csv"], 2, "counted needs a window"),
        (["liquidations", "--since", "eyJ9", "-o", "x.csv"], 1, "this is no cursor"),
        (["liquidations", "--since", "no/such/file.json", "-o", "x.csv"], 1, "this is no cursor"),
        (["liquidations", "-o", "no/such/x.csv"], 1, "there is no folder no/such"),
        (["assets", "--venue", "hyperliquid", "-o", "x.csv"], 1, "assets is of no venue"),
        (["labels", "--from", "2025-10-10", "-o", "x.csv"], 1, "labels is of no time"),
        (["labels", "--partitioned", "--format", "csv", "-o", "x"], 1,
         "labels cannot be partitioned by day; liquidations, lending_liquidations"),
    ],
)  # fmt: skip
def test_wrong_words_are_one_clear_line_and_no_file(
    export: Command, tmp_path: Path, words: list[str], code: int, said: str
) -> None:
    done = export(*words)

    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert names_in(tmp_path) == []


def test_what_stands_there_is_replaced_only_when_asked(export: Command, tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("mine")

    refused = export("coverage", "-o", "l.csv")
    kept = (tmp_path / "l.csv").read_text()
    replaced = export("coverage", "-o", "l.csv", "--overwrite")

    assert (refused.returncode, kept) == (1, "mine")
    assert refused.stderr == "indexer: l.csv exists: name another, or give --overwrite\n"
    assert replaced.returncode == 0
    assert (tmp_path / "l.csv").read_text().startswith("venue,facts")
    assert names_in(tmp_path) == ["l.csv", "l.csv.meta.json"]


def test_a_folder_that_is_no_export_is_never_replaced(export: Command, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home/letter").write_text("mine")
    words = ("liquidations", "--format", "csv", "--partitioned", "--overwrite", "-o")

    done = export(*words, "home")
    twice = [export(*words, "parts").returncode for _ in range(2)]

    assert (done.returncode, (tmp_path / "home/letter").read_text()) == (1, "mine")
    assert "home is no folder of an export" in done.stderr
    assert twice == [0, 0]
    assert names_in(tmp_path) == ["home", "parts"]


@pytest.fixture
def reader(world: str) -> Iterator[str]:
    """The conninfo of a role that may do nothing yet."""
    name = f"reader_{os.getpid()}_{time.monotonic_ns()}"
    with psycopg.connect(world, autocommit=True) as connection:
        connection.execute(SQL("CREATE ROLE {} LOGIN").format(Identifier(name)))
        yield make_conninfo(world, user=name)
        connection.execute(SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(Identifier(name)))


def test_a_role_without_rights_gets_one_line_and_no_file(
    export: Command, reader: str, tmp_path: Path
) -> None:
    done = export("liquidations", "-o", "l.csv", DATABASE_URL=reader)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("indexer: database: permission denied for schema liq: ")
    assert len(done.stderr.splitlines()) == 1
    assert names_in(tmp_path) == []


def test_a_role_that_may_read_the_views_alone_may_export_but_gets_no_cursor(
    export: Command, reader: str, world: str, tmp_path: Path
) -> None:
    role = Identifier(str(conninfo_to_dict(reader)["user"]))
    with psycopg.connect(world, autocommit=True) as connection:
        connection.execute(SQL("GRANT USAGE ON SCHEMA liq TO {}").format(role))
        connection.execute(SQL("GRANT SELECT ON ALL TABLES IN SCHEMA liq TO {}").format(role))

    done = export("coverage", "-o", "l.csv", DATABASE_URL=reader)
    rows = export("liquidations", "-o", "r.parquet", DATABASE_URL=reader)

    assert [(run.returncode, run.stderr.partition(" to ")[0]) for run in (done, rows)] == [
        (0, "wrote 3 rows"), (0, f"wrote {len(HOSTILE)} rows"),
    ]  # fmt: skip
    assert json.loads((tmp_path / "r.parquet.meta.json").read_text())["cursor"] is None


# -- what is interrupted -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def large(postgres: Server, migrated: str) -> Iterator[str]:
    """The conninfo of a database whose export takes a second or more."""
    with throw_away(postgres, template=migrated) as conninfo:
        with database.connect(conninfo) as connection:
            connection.execute(
                """
                INSERT INTO ledger.liquidation (venue, event_key, account, block_number, block_at,
                    method, market, dex, quote, side, size, price, notional,
                    account_is_protocol_vault, legs_seen, decoder_version)
                SELECT 'hyperliquid', i || '/BTC/1', '0x' || md5(i::text), i,
                       timestamptz '2025-10-10Z' + i * interval '1 s', 'market', 'BTC', '', 'USDC',
                       'long', 1, 2, 2, false, 'both', 1
                FROM generate_series(1, 100000) i
                """
            )
        yield conninfo


def started(conninfo: str, folder: Path, *words: str, **how: Any) -> subprocess.Popen[str]:
    """An export that has begun to write."""
    process = subprocess.Popen(
        [sys.executable, "-m", "indexer", "export", "liquidations", *words], cwd=folder,
        env={**os.environ, "DATABASE_URL": conninfo}, stderr=subprocess.PIPE, text=True, **how,
    )  # fmt: skip

    def writes() -> bool:
        sizes = [one.stat().st_size for one in folder.rglob("*") if one.is_file()]
        return sum(sizes) > 0 or process.poll() is not None

    soon(writes, 60)
    assert process.poll() is None
    return process


SINGLE = ("-o", "l.jsonl")
PARTITIONED = ("--format", "jsonl", "--partitioned", "-o", "parts")


@pytest.mark.parametrize("words", [SINGLE, PARTITIONED], ids=["file", "folder"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_export_that_is_stopped_leaves_nothing(
    large: str, tmp_path: Path, words: tuple[str, ...], number: signal.Signals
) -> None:
    process = started(large, tmp_path, *words)

    process.send_signal(number)
    _, said = process.communicate(timeout=60)

    assert process.returncode not in (0, -number)
    assert "Traceback" not in said
    assert names_in(tmp_path) == []


def test_an_export_that_is_killed_leaves_nothing_under_its_name_and_can_be_done_again(
    large: str, tmp_path: Path
) -> None:
    process = started(large, tmp_path, *SINGLE)

    process.kill()
    process.communicate(timeout=60)
    left = names_in(tmp_path)
    again = subprocess.run(
        [sys.executable, "-m", "indexer", "export", "liquidations", *SINGLE], cwd=tmp_path,
        env={**os.environ, "DATABASE_URL": large}, check=True, capture_output=True, text=True,
    )  # fmt: skip

    assert [name.startswith(".l.jsonl.") and name.endswith(".partial") for name in left] == [True]
    assert again.stderr == "wrote 100,000 rows to l.jsonl\n"


@pytest.mark.parametrize("words", [SINGLE, PARTITIONED, ("-o", "l.parquet")])
def test_an_export_that_loses_its_connection_says_so_and_leaves_nothing(
    large: str, tmp_path: Path, words: tuple[str, ...]
) -> None:
    lost = SQL(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        " WHERE datname = current_database() AND query ILIKE 'COPY%'"
    )
    process = started(large, tmp_path, *words)
    with psycopg.connect(large, autocommit=True) as connection:

        def terminated() -> bool:
            return connection.execute(lost).fetchone() != (0,) or process.poll() is not None

        soon(terminated, 30)
    _, said = process.communicate(timeout=60)

    assert (process.returncode, said.count("\n")) == (1, 1)
    assert said.startswith("indexer: database: ")
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("form", ["csv", "jsonl", "arrow", "parquet"])
def test_a_full_disk_is_one_line_and_leaves_nothing(large: str, tmp_path: Path, form: str) -> None:
    """A limit on the size of files is what a test has of a full disk."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, 600_000))

    done = subprocess.run(
        [sys.executable, "-m", "indexer", "export", "liquidations", "-o", f"l.{form}"],
        cwd=tmp_path, env={**os.environ, "DATABASE_URL": large}, capture_output=True, text=True,
        preexec_fn=limit, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "File too large" in done.stderr
    assert names_in(tmp_path) == []
