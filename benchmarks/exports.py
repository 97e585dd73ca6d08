"""How fast rows leave, how much memory that takes, and what noting their changes costs writers.

    python -m benchmarks.exports --rounds 3

Rows are those of `benchmarks.year_of_rows`, all of them simulated. Each export is a process of its
own; what it wrote is read back and compared with sums of the database. Linux only.
"""

import os
import platform
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import click
from psycopg.sql import SQL, Identifier
from pyarrow import compute, parquet

from benchmarks.machine import (
    ROOT,
    code_digest,
    commit,
    cpu_model,
    description,
    durable_server,
    server_cpu_seconds,
    spread,
)
from benchmarks.year_of_rows import filled
from indexer.store import changes, database, server
from indexer.store.database import Connection

RESULTS = ROOT / "benchmarks/EXPORTS.md"
ASKED_SECONDS, ASKED_MB = 10, 300
PARQUET = "liquidations to Parquet"
BARE = "bare COPY of the same columns as CSV to nowhere"
EXPORTS = {
    PARQUET: ("liquidations", "x.parquet"),
    "to Arrow": ("liquidations", "x.arrow"),
    "to CSV": ("liquidations", "x.csv"),
    "to JSON lines": ("liquidations", "x.jsonl"),
    "to Parquet by venue and day": ("liquidations", "parts"),
    "lending liquidations with values to Parquet": ("lending_liquidations", "l.parquet"),
}
# The table, the rows that are written to it once more, and what notes them.
NOTED = {
    "ledger.liquidation": ["note_written_insert"],
    "ledger.lending_liquidation": ["note_written_insert"],
    "ledger.valuation": ["note_written_values"],
}
COMMITS = 300
# A child's peak of memory is at least that of who starts it, so somebody small does.
LAUNCHER = """
import resource, subprocess, sys, time
began = time.monotonic()
subprocess.run([sys.executable, "-m", "indexer", "export", *sys.argv[1:]], check=True)
print(time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


class WrongResult(click.ClickException):
    """A file does not hold what the database does."""


class Result(NamedTuple):
    """One turn: wall clock of the whole process, its peak of memory, what it wrote."""

    seconds: float
    peak_mb: float
    rows: int
    file_mb: float


@dataclass
class Run:
    """Everything one run of the benchmark measured, and where."""

    rows: int
    server: server.Server
    results: dict[str, list[Result]] = field(default_factory=dict)
    bare: list[float] = field(default_factory=list)
    cpu: dict[tuple[str, bool], list[float]] = field(default_factory=dict)
    written: dict[str, int] = field(default_factory=dict)
    commits: dict[bool, list[float]] = field(default_factory=dict)
    loads: list[float] = field(default_factory=list)


def play_round(run: Run, conninfo: str) -> None:
    """Every turn once."""
    with database.connect(conninfo) as connection:
        truth = _sums(connection)
        run.loads.append(os.getloadavg()[0])
        run.bare.append(_bare(connection))
        for label, (dataset, name) in EXPORTS.items():
            with tempfile.TemporaryDirectory(prefix="indexer-benchmark-") as folder:
                found = _export(conninfo, dataset, Path(folder) / name)
                if label == PARQUET:
                    _check(Path(folder) / name, truth)
            run.results.setdefault(label, []).append(found)
            click.echo(f"{label}: {found.seconds:.1f} s, {found.peak_mb:.0f} MB")
        for table, triggers in NOTED.items():
            # by turns the first, which finds less in memory
            for is_noted in (False, True) if len(run.bare) % 2 else (True, False):
                found_cpu = _insert(run, connection, table, triggers, is_noted)
                run.cpu.setdefault((table, is_noted), []).append(found_cpu)
        for is_on in (True, False):
            changes.set_notifying(connection, is_on)
            run.commits.setdefault(is_on, []).append(_commits(conninfo))


def _export(conninfo: str, dataset: str, output: Path) -> Result:
    words = ["--format", "parquet", "--partitioned"] if not output.suffix else []
    ended = subprocess.run(
        [sys.executable, "-c", LAUNCHER, dataset, *words, "-o", str(output)],
        env={**os.environ, "DATABASE_URL": conninfo}, capture_output=True, text=True, cwd=ROOT,
        check=False,
    )  # fmt: skip
    if ended.returncode:
        raise click.ClickException(ended.stderr)
    wall, peak = map(float, ended.stdout.split())
    said = ended.stderr
    files = [output] if output.is_file() else [one for one in output.rglob("*") if one.is_file()]
    size = sum(one.stat().st_size for one in files)
    return Result(wall, peak / 1024, int(said.split()[1].replace(",", "")), size / 1e6)


def _bare(connection: Connection) -> float:
    """What the database alone takes: it formats, nobody reads."""
    began = time.monotonic()
    query = SQL("COPY (SELECT * FROM liq.liquidations ORDER BY venue, block_at, event_key, account)"
                " TO STDOUT (FORMAT csv)")  # fmt: skip
    with connection.cursor().copy(query) as pieces:
        for _ in pieces:
            pass
    return time.monotonic() - began


def _sums(connection: Connection) -> tuple[int, Decimal]:
    row: Any = connection.execute(
        "SELECT count(*), sum(notional_usd) FROM liq.liquidations"
    ).fetchone()
    return int(row[0]), Decimal(row[1])


def _check(path: Path, truth: tuple[int, Decimal]) -> None:
    table = parquet.read_table(path, columns=["notional_usd", "exact"])
    found = table.num_rows, compute.sum(table["notional_usd"]).as_py()
    if found != truth or table["exact"].null_count != table.num_rows:
        raise WrongResult(f"{path.name} has {found}, the database {truth}")


def _insert(
    run: Run, connection: Connection, table: str, triggers: list[str], is_noted: bool
) -> float:
    """CPU of the server for rows that are there already, under other keys; rolled back."""
    schema, name = table.split(".")
    names: Any = connection.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0"
        " AND NOT attisdropped ORDER BY attnum",
        (table,),
    ).fetchall()
    cells = SQL(", ").join(
        SQL("event_key || 'x'") if one == "event_key" else Identifier(one) for (one,) in names
    )
    target = Identifier(schema, name)
    with connection.transaction(force_rollback=True):
        for trigger in triggers:
            word = SQL("ENABLE" if is_noted else "DISABLE")
            connection.execute(
                SQL("ALTER TABLE {} {} TRIGGER {}").format(target, word, Identifier(trigger))
            )
        connection.execute(
            SQL("CREATE TEMP TABLE again ON COMMIT DROP AS SELECT {} FROM {} LIMIT 200000").format(
                cells, target
            )
        )
        connection.execute("SELECT set_config('indexer.valued', '{\"venue\": \"x\"}', true)")
        before = server_cpu_seconds(run.server)
        run.written[table] = connection.execute(
            SQL("INSERT INTO {} SELECT * FROM again").format(target)
        ).rowcount
        return server_cpu_seconds(run.server) - before


def _commits(conninfo: str) -> float:
    """Commits a second of two writers, each of one liquidation, synced."""

    def write(number: int) -> None:
        with database.connect(conninfo) as connection:
            for place in range(COMMITS):
                connection.execute(
                    """
                    INSERT INTO ledger.liquidation (venue, event_key, account, block_number,
                        block_at, method, market, dex, side, size, price, notional,
                        account_is_protocol_vault, legs_seen, decoder_version)
                    VALUES (%s, %s, '0x', %s, now(), 'market', 'BTC', '', 'long', 1, 1, 1, false,
                            'both', 1)
                    """,
                    (f"w{number}", str(place), place),
                )

    began = time.monotonic()
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(write, range(2)))
    wall = time.monotonic() - began
    with database.connect(conninfo) as connection:
        connection.execute("DELETE FROM ledger.liquidation WHERE venue IN ('w0', 'w1')")
    return 2 * COMMITS / wall


# -- the report ----------------------------------------------------------------------------------


def report(run: Run) -> str:
    """The run as Markdown."""
    main = run.results[PARQUET]
    seconds, peak = [one.seconds for one in main], [one.peak_mb for one in main]
    rows = main[0].rows
    lines = [
        "# Exports: from rows to files",
        "",
        "Written by `python -m benchmarks.exports`; run it again instead of editing.",
        "",
        f"- date: {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, commit {commit()}",
        f"- machine: {cpu_model()}, {len(os.sched_getaffinity(0))} cores, {platform.system()}"
        f" {platform.release()}",
        f"- software: Python {platform.python_version()}, {description(run.server)}, psycopg"
        f" {version('psycopg')}, pyarrow {version('pyarrow')}",
        f"- load average (1 min) at the start of rounds: {spread(run.loads, '.1f')}",
        "",
        "| | asked | found | |",
        "| --- | ---: | ---: | --- |",
        f"| {rows:,} rows to Parquet, s | < {ASKED_SECONDS} | {spread(seconds, '.1f')} |"
        f" {'yes' if median(seconds) < ASKED_SECONDS else 'NO'} |",
        f"| peak memory, MB | < {ASKED_MB} | {spread(peak, '.0f')} |"
        f" {'yes' if max(peak) < ASKED_MB else 'NO'} |",
        "",
        f"Medians of {len(main)} rounds, in brackets the least and the most. Seconds are of the"
        " whole process, its start of a second or so within. The sum of each Parquet file was"
        " compared with the database's, all equal.",
        "",
        "| | rows | s | rows/s | peak MB | file MB |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        *(_row(label, found) for label, found in run.results.items()),
        f"| {BARE} | {rows:,} | {spread(run.bare, '.1f')} | {rows / median(run.bare):,.0f} | | |",
        "",
        f"To Parquet takes {median(seconds) / median(run.bare):.2f} times as long as the bare"
        " COPY.",
        "",
        "## What the notes for feeds cost writers",
        "",
        "CPU of the whole server for one INSERT of rows that lie ready, with and without the"
        " trigger that notes them.",
        "",
        "| | rows | without, CPU s | with, CPU s | more |",
        "| --- | ---: | ---: | ---: | ---: |",
        *(_cost(run, table) for table in NOTED),
        "",
        f"Two writers with one liquidation a commit, synced: {spread(run.commits[False], ',.0f')}"
        f" commits/s, and with notices {spread(run.commits[True], ',.0f')}.",
        "",
    ]
    return "\n".join(lines)


def _row(label: str, found: list[Result]) -> str:
    seconds = [one.seconds for one in found]
    cells = (
        label, f"{found[0].rows:,}", spread(seconds, ".1f"),
        f"{found[0].rows / median(seconds):,.0f}", spread([one.peak_mb for one in found], ".0f"),
        f"{found[0].file_mb:,.0f}",
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _cost(run: Run, table: str) -> str:
    noted, plain = run.cpu[table, True], run.cpu[table, False]
    # the clock of the server ticks a hundred times a second: a tiny run takes none
    more = f"{median(noted) / median(plain) - 1:+.1%}" if median(plain) else "-"
    return (
        f"| `{table}` | {run.written[table]:,} | {spread(plain, '.2f')} | {spread(noted, '.2f')} |"
        f" {more} |"
    )


@click.command()
@click.option("--rows", default=1_000_000, help="Liquidations of perpetuals; of loans a quarter.")
@click.option("--rounds", type=click.IntRange(1), default=3, help="Turns of each kind.")
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS, help="What to write.")
def main(rows: int, rounds: int, results: Path) -> None:
    """Measure, check, print and write the tables.

    Example: python -m benchmarks.exports --rows 100_000 --rounds 1
    """
    code = code_digest()
    with durable_server() as on, filled(on, rows * 10 // 8) as conninfo:
        run = Run(rows, on)
        for _ in range(rounds):
            play_round(run, conninfo)
        text = report(run)
    if code_digest() != code:
        raise click.ClickException("the code changed meanwhile: the turns ran different programs")
    results.write_text(text)
    click.echo(f"\n{text}")


if __name__ == "__main__":
    main()
