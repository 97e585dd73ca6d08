"""The benchmark runs, checks what it measured, and says so; no test asserts a time."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

if sys.platform != "linux":
    pytest.skip("the benchmark reads /proc and pins processes to cores", allow_module_level=True)

from benchmarks import chains, exports, totals, values
from benchmarks import hyperliquid as benchmark
from benchmarks import report as reports
from benchmarks.hyperliquid import OBVIOUS, OURS, RATIOS, TURNS, Hour, Run, WrongResult
from benchmarks.year_of_rows import rows_of
from indexer.methodology.definition import presets
from indexer.report import whales
from indexer.store import definitions
from indexer.store.database import Connection
from indexer.store.server import Server

ROOT = Path(__file__).parents[1]


def test_a_tiny_run_checks_its_results_and_writes_every_row(tmp_path: Path) -> None:
    results = tmp_path / "RESULTS.md"
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.hyperliquid", "--bytes", "3e6", "--rounds", "1",
         "--dir", str(tmp_path), "--results", str(results)],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    text = results.read_text() if results.exists() else ""

    assert (ended.returncode, ended.stderr) == (0, "")
    assert text in ended.stdout
    rows = [row[0] for row in re.findall(r"^\| (.*?) \|( .*? \|)+$", text, re.MULTILINE)]
    turns, ratios = [turn.label for turn in TURNS], [ratio.label for ratio in RATIOS]
    assert rows == ["Contestant", "---", *turns, "Ratio", "---", *ratios]
    assert "12 results were compared with the truth of the files, all equal" in text
    assert "fsync, synchronous_commit, full_page_writes on" in text


@pytest.fixture
def small(tmp_path: Path, postgres: Server, migrated: str) -> Run:
    """A run with one file of which one liquidation is said to be missing."""
    hour = benchmark.hours_in(tmp_path, 500_000)[0]
    methods = hour.truth.liquidations_by_method
    truth = replace(
        hour.truth,
        liquidations=hour.truth.liquidations + 1,
        liquidations_by_method={**methods, "market": methods["market"] + 1},
    )
    core = max(os.sched_getaffinity(0))
    return Run([Hour(hour.path, truth)], core, postgres, migrated)


def test_a_contestant_that_miscounts_fails_the_run(small: Run) -> None:
    with pytest.raises(WrongResult, match=r"obvious program.*: count: found"):
        benchmark.take_turn(OBVIOUS, small)


def test_rows_that_differ_from_the_truth_fail_the_run(
    small: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark, "_count_expected", lambda turn, truth: truth.liquidations - 1)
    with pytest.raises(WrongResult, match="rows by method: found"):
        benchmark.take_turn(OURS, small)


def test_a_tiny_run_over_chains_compares_its_rows_and_writes_every_table(tmp_path: Path) -> None:
    results = tmp_path / "CHAINS.md"
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.chains", "--blocks", "300", "--logs", "600",
         "--rounds", "1", "--live", "40", "--seconds", "0.2", "--head", "plain",
         "--results", str(results)],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    text = results.read_text() if results.exists() else ""

    assert (ended.returncode, ended.stderr) == (0, "")
    assert text in ended.stdout
    rows = [row[0] for row in re.findall(r"^\| (.*?) \|( .*? \|)+$", text, re.MULTILINE)]
    assert set(rows) >= {turn.label for turn in chains.TURNS} | {"plain, polling"}
    assert "5 times the stored rows were compared with the chain, all equal" in text
    assert (
        "| head, plain, polling: missing / stale / doubled | 0 / 0 / 0 | 0 / 0 / 0 | yes |" in text
    )
    assert "fsync, synchronous_commit, full_page_writes on" in text


def test_rows_of_a_chain_that_differ_from_it_fail_the_run(
    conninfo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = chains.Bulk("nowhere", 0)
    sums = {"logs": 1, "transactions": 1, "repaid_raw": 1, "seized_raw": 1}
    monkeypatch.setattr(chains.Bulk, "stats", lambda self: sums)
    with pytest.raises(chains.WrongResult, match="rows, transactions, repaid and seized: found"):
        chains._check(chains.OURS, node, conninfo)


def test_a_tiny_run_over_values_compares_its_sums_and_writes_every_table(tmp_path: Path) -> None:
    results = tmp_path / "VALUES.md"
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.values", "--rows", "500", "--rounds", "1",
         "--results", str(results)],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    text = results.read_text() if results.exists() else ""

    assert (ended.returncode, ended.stderr) == (0, "")
    assert text in ended.stdout
    rows = [row[0] for row in re.findall(r"^\| (.*?) \|( .*? \|)+$", text, re.MULTILINE)]
    asked = ["liquidations valued a second", "HTTP requests a liquidation, prices fetched"]
    labels = [*asked, *(turn.label for turn in values.TURNS)]
    assert [row for row in rows if row in labels] == labels
    assert "3 times the values were compared with sums of whole numbers, all equal" in text
    assert "2,200 prices for 2,000 liquidations in 200 blocks" in text


def test_values_that_differ_from_the_truth_fail_the_run(connection: Connection) -> None:
    with pytest.raises(values.WrongResult, match=r"first pass: found .*, the rows give \(50,"):
        values._check(values.FIRST, connection, values.expected(50))


def test_a_tiny_run_over_totals_compares_its_answers_and_writes_every_table(tmp_path: Path) -> None:
    results = tmp_path / "TOTALS.md"
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.totals", "--rows", "20_000", "--rounds", "1",
         "--results", str(results)],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    text = results.read_text() if results.exists() else ""

    assert (ended.returncode, ended.stderr) == (0, "")
    assert text in ended.stdout
    rows = [row[0] for row in re.findall(r"^\| (.*?) \|( .*? \|)+$", text, re.MULTILINE)]
    turns = (totals.RECONCILIATION, totals.FROM_ROWS, totals.FROM_SUMS)
    asked = [target.label for target in totals.TARGETS]
    assert set(rows) >= {*asked, totals.ROLL_UP, *(turn.label for turn in turns)}
    assert [rows.count(turn.label) for turn in (*totals.OF_A_DAY, totals.STORED)] == [2, 2, 2, 2]
    assert "44 answers were compared with those of the formula in whole numbers, all equal" in text
    assert "lending_liquidation_venue_time, liquidation_venue_time, valuation_pkey" in text
    assert "fsync, synchronous_commit, full_page_writes on" in text


def test_a_tiny_run_over_reports_compares_their_totals_and_writes_every_table(
    tmp_path: Path,
) -> None:
    results = tmp_path / "REPORT.md"
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.report", "--rows", "20_000", "--rounds", "1",
         "--no-year", "--results", str(results)],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    text = results.read_text() if results.exists() else ""

    assert (ended.returncode, ended.stderr) == (0, "")
    assert text in ended.stdout
    rows = [row[0] for row in re.findall(r"^\| (.*?) \|( .*? \|)+$", text, re.MULTILINE)]
    windows = [totals.OFF_DAY, totals.BUSIEST.said, totals.MONTH.said]
    assert set(rows) >= {*windows, *(f"a report of {said}, ms" for said in windows[:2])}
    assert "compared with that of the formula in whole numbers, all equal" in text


def test_a_report_that_differs_from_the_formula_fails_the_run(connection: Connection) -> None:
    definitions.keep(connection, presets().values())
    found = whales.collect(
        connection, definition=presets()[reports.DEFINITION], window=totals.BUSIEST
    )
    run = reports.Run(20_000, 1, None)  # type: ignore[arg-type]
    with pytest.raises(totals.WrongResult, match=r"busiest day: .*Decimal\('0'\)"):
        reports.check(run, totals.BUSIEST, found, "")


def test_answers_that_differ_from_the_formula_fail_the_run(connection: Connection) -> None:
    definitions.keep(connection, presets().values())
    found = totals.TOTAL.run(connection, totals.BUSIEST)
    truth = totals.TOTAL.expected(rows_of(20_000, totals.BUSIEST))
    with pytest.raises(totals.WrongResult, match=r"liq.total.*Decimal\('0'\)"):
        totals.check(totals.TOTAL, found, truth)


def test_a_total_that_reads_a_large_table_from_end_to_end_fails_the_run(
    connection: Connection,
) -> None:
    definitions.keep(connection, presets().values())
    connection.execute("SET enable_indexscan = off")
    connection.execute("SET enable_bitmapscan = off")
    connection.execute("SET enable_indexonlyscan = off")
    with pytest.raises(totals.WrongResult, match="liquidation, valuation from end to end"):
        totals.indexes_read(connection, totals.BUSIEST)


def test_a_tiny_run_over_exports_compares_its_file_and_writes_every_table(tmp_path: Path) -> None:
    results = tmp_path / "EXPORTS.md"
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.exports", "--rows", "400", "--rounds", "1",
         "--results", str(results)],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    text = results.read_text() if results.exists() else ""

    assert (ended.returncode, ended.stderr) == (0, "")
    rows = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("|")]
    noted = [f"`{table}`" for table in exports.NOTED]
    assert rows == [
        "", "---", "400 rows to Parquet, s", "peak memory, MB",
        "", "---", *exports.EXPORTS, exports.BARE, "", "---", *noted,
    ]  # fmt: skip
    assert "fsync, synchronous_commit, full_page_writes on" in text
