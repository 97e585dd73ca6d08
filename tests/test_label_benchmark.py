"""The benchmark of labels checks what it measured, and says so; no test asserts a time."""

import re
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

if sys.platform != "linux":
    pytest.skip("the benchmark reads /proc", allow_module_level=True)

from benchmarks import labels as benchmark
from benchmarks import large_rows
from benchmarks.large_rows import USD, Episode, Flag, Model, Repeated, Truth
from benchmarks.year_of_days import labelled_by_days
from benchmarks.year_of_rows import DAY_MS, Row
from indexer.labels import rules
from indexer.store import labels as labeler
from indexer.store.database import Connection
from indexer.store.server import Server

ROOT = Path(__file__).parents[1]
NOTHING = Truth(Counter(), set())
MINUTE = 60_000
LINES = (
    "labels of a new block, ms, median", "labels of a new block, ms, 95th percentile",
    "full rebuild, s", benchmark.REBUILD, benchmark.IDLE, benchmark.NEW, benchmark.GONE,
    benchmark.LATE, benchmark.NAIVE, benchmark.EMPTY,
)  # fmt: skip


def test_a_tiny_run_compares_what_stands_and_writes_every_table(tmp_path: Path) -> None:
    results = tmp_path / "LABELS.md"
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.labels", "--rows", "20_000", "--blocks", "2",
         "--results", str(results)],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    text = results.read_text() if results.exists() else ""

    assert (ended.returncode, ended.stderr) == (0, "")
    assert text in ended.stdout
    rows = [row[0] for row in re.findall(r"^\| (.*?) \|( .*? \|)+$", text, re.MULTILINE)]
    assert [row for row in rows if row in LINES] == list(LINES)
    assert "6 times what stands was compared: with the formulas in whole numbers" in text
    assert "20,000 liquidations of one year" in text
    assert "and 4,000 account days; 6,911 accounts" in text
    assert "fsync, synchronous_commit, full_page_writes on" in text


@pytest.fixture
def run(postgres: Server) -> benchmark.Run:
    return benchmark.Run(20_000, 1, postgres)


def test_flags_that_the_formula_does_not_have_fail_the_run(
    run: benchmark.Run, connection: Connection
) -> None:
    flagged = ("aave_v3.base", "0xa", "order", Decimal(2_000_000), Decimal(1_000_000))
    at = datetime(2025, 5, 1, tzinfo=UTC)
    connection.execute(
        "INSERT INTO ledger.flag VALUES"
        " (%s, %s, %s, 'key', 'SIZE_ABS', 3, %s, %s, %s, tstzrange(now(), NULL))",
        (*flagged, at),
    )

    benchmark.check("as it is", run, connection, Truth(Counter([Flag(*flagged, at)]), set()), {})
    with pytest.raises(benchmark.WrongResult, match="SIZE_ABS: 1 found, 0 by the formula"):
        benchmark.check("none", run, connection, NOTHING, {})
    dearer = Flag(*flagged, at)._replace(value_usd=Decimal("2000000.00000001"))
    with pytest.raises(benchmark.WrongResult, match="SIZE_ABS: 1 found, 1 by the formula"):
        benchmark.check("dearer", run, connection, Truth(Counter([dearer]), set()), {})


def test_labels_that_are_missing_fail_the_run(run: benchmark.Run, connection: Connection) -> None:
    whale = Repeated("hyperliquid", "0xa", at(1), at(91), 3, Decimal(4_000_000))

    with pytest.raises(benchmark.WrongResult, match="REPEAT: 0 found, 1 by the formula"):
        benchmark.check("no whale", run, connection, Truth(Counter(), {whale}), {})
    with pytest.raises(benchmark.WrongResult, match="account days: 0 found, 4 by the formula"):
        by_days = {"ROLE_MM": labelled_by_days(40_000)["ROLE_MM"]}
        benchmark.check("no maker", run, connection, NOTHING, by_days)


def test_what_looking_at_all_would_change_fails_the_run(
    run: benchmark.Run, connection: Connection
) -> None:
    labeler.apply(connection, rules())
    benchmark.compare_with_all(run, connection)
    connection.execute(
        "INSERT INTO ledger.flag VALUES ('hyperliquid', '0xa', 'order', 'key', 'SIZE_ABS', 3,"
        " 1000000, 1000000, now(), tstzrange(now(), NULL))"
    )

    with pytest.raises(benchmark.WrongResult, match=r"all accounts give .*'SIZE_ABS': \(0, 1\)"):
        benchmark.compare_with_all(run, connection)


# -- the model by itself -------------------------------------------------------------------------


def row(minute: int, usd: int, order: str = "1", action: str = "1", line: str = "counted") -> Row:
    return Row(
        line, "perp", "hyperliquid", "0xa", "C1", "C1", "long", "market", "par", minute * MINUTE,
        order, action, False, usd * USD, "",
    )  # fmt: skip


def at(days: int, minutes: int = 0) -> datetime:
    return large_rows.moment(days * DAY_MS + minutes * MINUTE)


def test_a_model_adds_up_orders_actions_and_episodes() -> None:
    model = Model()
    model.add([row(0, 600_000), row(0, 500_000), row(0, 1_000_000, "2")])
    model.add([row(15, 9_000_000, "3", "2"), row(15, 9_000_000, "4", "2", "protocol_vault")])
    model.add([row(31, 999_999, "5", "3")])

    def flag(level: str, usd: int, threshold: int, minute: int) -> Flag:
        return Flag(
            "hyperliquid", "0xa", level, Decimal(usd), Decimal(threshold), at(0, minute)
        )  # fmt: skip

    assert model.truth() == Truth(
        Counter([
            flag("liquidation", 1_000_000, 1_000_000, 0),
            flag("liquidation", 9_000_000, 1_000_000, 15),
            flag("order", 1_100_000, 1_000_000, 0),
            flag("order", 1_000_000, 1_000_000, 0),
            flag("order", 9_000_000, 1_000_000, 15),
            flag("action", 2_100_000, 1_000_000, 0),
            flag("action", 9_000_000, 1_000_000, 15),
            flag("episode", 11_100_000, 10_000_000, 15),
        ]),
        set(),
    )  # fmt: skip


def test_a_model_knows_who_repeats() -> None:
    days = (0, 89, 90, 100, 300, 301, 389, 390)
    episodes = [
        Episode("hyperliquid", "0xa", day * DAY_MS, day * DAY_MS, 10**6 * USD) for day in days
    ]

    assert large_rows.repeated(episodes) == {
        Repeated("hyperliquid", "0xa", at(100), at(190), 3, Decimal(3_000_000)),
        Repeated("hyperliquid", "0xa", at(389), at(480), 4, Decimal(4_000_000)),
    }
    assert large_rows.repeated(episodes[:3]) == set()
