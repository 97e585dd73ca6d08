"""How fast the whale report comes from ten million stored liquidations.

    python -m benchmarks.report --rows 10_000_000 --rounds 3

A year of simulated rows is made in the database (`benchmarks.year_of_rows`). The total of every
report that is measured is compared with the one that Python makes of the same formula in whole
numbers; a wrong one ends the run with exit code 1. Linux only.
"""

import os
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import click

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
from benchmarks.totals import (
    BUSIEST,
    MONTH,
    OFF_DAY,
    WrongResult,
    average_day,
    empty_caches,
    off_day,
    total_expected,
)
from benchmarks.year_of_rows import BEGIN, VENUES, filled, rows_of
from indexer.methodology.definition import presets
from indexer.methodology.windows import Window
from indexer.report import pictures, render, whales
from indexer.store import database, server
from indexer.store.database import Connection

RESULTS = ROOT / "benchmarks/REPORT.md"
ASKED_MS = 10_000
DEFINITION = "strict/v1"
YEAR = Window(said="the whole year", low=BEGIN, high=BEGIN + timedelta(days=365))


class Result(NamedTuple):
    """One report, in ms: reading it, showing it as a page, CPU of the whole cluster for it."""

    read: float
    shown: float
    server_cpu: float

    @property
    def wall(self) -> float:
        """From the question to the page."""
        return self.read + self.shown


@dataclass
class Run:
    """Everything one run of the benchmark measured, and where."""

    rows: int
    rounds: int
    server: server.Server
    results: dict[str, list[Result]] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    truths: dict[str, list[tuple[Any, ...]]] = field(default_factory=dict)
    bytes_database: int = 0
    png_ms: list[float] = field(default_factory=list)
    loads: list[float] = field(default_factory=list)


def take(run: Run, window: Window, conninfo: str, *, is_checked: bool = True) -> None:
    """One report on a connection of its own, after the files were dropped from the system's cache;
    its total is checked."""
    definition = presets()[DEFINITION]
    with database.connect(conninfo) as connection:
        empty_caches(run.server, connection)
        run.loads.append(os.getloadavg()[0])
        used, began = server_cpu_seconds(run.server), time.monotonic()
        found = whales.collect(connection, definition=definition, window=window, top=20)
        read = time.monotonic() - began
        used = server_cpu_seconds(run.server) - used
    began = time.monotonic()
    page = render.to_html(found)
    shown = time.monotonic() - began
    if is_checked:
        check(run, window, found, page)
    run.sizes.setdefault(window.said, found.total.records or 0)
    run.results.setdefault(window.said, []).append(Result(read * 1e3, shown * 1e3, used * 1e3))
    click.echo(f"{window.said}: {read:.2f} s and {shown:.2f} s to show")
    if window is BUSIEST:
        began = time.monotonic()
        pictures.to_png(found, "card")
        run.png_ms.append((time.monotonic() - began) * 1e3)


def check(run: Run, window: Window, found: whales.WhaleReport, page: str) -> None:
    """WrongResult where a line of the total is another than the formula's."""
    key = f"{window.low}"
    if key not in run.truths:
        run.truths[key] = total_expected(rows_of(run.rows, window))
    told = {
        (one.section, one.name, one.usd, one.long_usd, one.short_usd, one.records, one.accounts,
         one.fills, one.orders, one.actions, one.positions, one.episodes, one.unvalued)
        for one in found.lines
    }  # fmt: skip
    if told != set(run.truths[key]):
        raise WrongResult(f"{window.said}: {told ^ set(run.truths[key])}")
    if f"{found.total.usd:,.2f}" not in page:
        raise WrongResult(f"{window.said}: the page lacks its total")


def play_round(run: Run, conninfo: str, number: int) -> None:
    """A report of each window once."""
    take(run, off_day(average_day(number)), conninfo)
    take(run, BUSIEST, conninfo)
    take(run, MONTH, conninfo)


# -- the report ----------------------------------------------------------------------------------


def report(run: Run) -> str:
    """The run as Markdown."""
    lines = [
        "# The whale report: from stored rows to a page",
        "",
        "Written by `python -m benchmarks.report`; run it again instead of editing.",
        "",
        *(f"- {name}: {text}" for name, text in _circumstances(run)),
        "",
        "| | asked | found | |",
        "| --- | ---: | ---: | --- |",
        *(_target_row(said, run) for said in (OFF_DAY, BUSIEST.said)),
        "",
        f"All under `{DEFINITION}`, with a top of 20. Wall time from the question to the page,"
        f" median of {run.rounds}, in brackets the least and the most; each report is read on a"
        " connection of its own after the files were dropped from the system's cache, and nothing"
        " was added up before: all of it comes from rows. What is asked is judged on 24 hours; how"
        " longer windows grow with their rows stands below.",
        "",
        "| window | rows that count | read, ms | page, ms | Postgres CPU, ms |",
        "| --- | ---: | ---: | ---: | ---: |",
        *(_result_row(said, run) for said in run.results),
        "",
        f"A card as PNG takes {spread(run.png_ms, ',.0f')} ms more, with looking for its font.",
        "",
        "Every line of the total of each report but that of the whole year was compared with that"
        " of the formula in whole numbers, all equal. Load average (1 min) at the start, the most,"
        f" and at the end: {run.loads[0]:.2f}, {max(run.loads):.2f}, {run.loads[-1]:.2f}.",
        "",
    ]
    return "\n".join(lines)


def _circumstances(run: Run) -> Iterator[tuple[str, str]]:
    yield "date", f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, commit {commit()}"
    yield (
        "rows",
        f"{run.rows:,} liquidations of one year, 80 % of perpetuals and 20 % of loans on"
        f" {len(VENUES)} venues; the busiest day has 3 % of them. The database takes"
        f" {Decimal(run.bytes_database) / 10**9:.1f} GB. Simulated",
    )
    cores = len(os.sched_getaffinity(0))
    yield "machine", f"{cpu_model()}, {cores} cores, {platform.system()} {platform.release()}"
    yield (
        "software",
        f"Python {platform.python_version()}, {description(run.server)}, psycopg"
        f" {version('psycopg')}; no other setting is changed",
    )


def _target_row(said: str, run: Run) -> str:
    found = [result.wall for result in run.results[said]]
    is_met = median(found) < ASKED_MS
    cells = (
        f"a report of {said}, ms", f"< {ASKED_MS:,}", spread(found, ",.0f"),
        "yes" if is_met else "NO",
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _result_row(said: str, run: Run) -> str:
    results = run.results[said]
    cells = (
        said, f"{run.sizes[said]:,}", spread([one.read for one in results], ",.0f"),
        spread([one.shown for one in results], ",.0f"),
        spread([one.server_cpu for one in results], ",.0f"),
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


# -- the command ---------------------------------------------------------------------------------


def database_size(connection: Connection) -> int:
    """In bytes."""
    row: Any = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    return int(row[0])


@click.command()
@click.option("--rows", type=click.IntRange(20_000), default=10_000_000, help="Liquidations.")
@click.option("--rounds", type=click.IntRange(1), default=3, help="Turns of each kind.")
@click.option("--year/--no-year", default=True, help="Also one report of the whole year.")
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS, help="What to write.")
def main(rows: int, rounds: int, year: bool, results: Path) -> None:
    """Measure, check, print and write the tables.

    Example: python -m benchmarks.report --rows 200_000 --rounds 1
    """
    code = code_digest()
    with durable_server() as on:
        run = Run(rows, rounds, on)
        began = time.monotonic()
        with filled(on, rows) as conninfo:
            click.echo(f"{rows:,} rows in {time.monotonic() - began:,.0f} s")
            with database.connect(conninfo) as connection:
                run.bytes_database = database_size(connection)
            for number in range(rounds):
                play_round(run, conninfo, number)
            if year:
                take(run, YEAR, conninfo, is_checked=False)
        text = report(run)
    if code_digest() != code:
        raise click.ClickException("the code changed meanwhile: the turns ran different programs")
    results.write_text(text)
    click.echo(f"\n{text}")


if __name__ == "__main__":
    main()
