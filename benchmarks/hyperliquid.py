"""How fast an LZ4 hour file becomes committed rows, beside what bounds it and what it replaces.

    python -m benchmarks.hyperliquid --bytes 1e9 --rounds 3

The contestants take turns, so that a machine that slows down slows all of them. What ours stored
is compared with the truth of the file; wrong rows end the run with exit code 1. Linux only.
"""

import gc
import hashlib
import os
import platform
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import NamedTuple

import click
import msgspec
import psycopg

from benchmarks.contestants import Measured
from benchmarks.machine import (
    ROOT,
    code_digest,
    commit,
    cpu_model,
    description,
    durable_server,
    folder,
    line_from,
    server_cpu_seconds,
    spread,
    started,
    tell,
)
from indexer.store import server
from tests.postgres import database as fresh_database
from tests.simulator import bulk
from tests.simulator.bulk import BulkTruth

RESULTS = ROOT / "benchmarks/RESULTS.md"
PEAK_MB_ASKED = 200


class Hour(NamedTuple):
    """One generated hour file and what is in it."""

    path: Path
    truth: BulkTruth


class Turn(NamedTuple):
    """What a round does once: run a contestant on `files` hour files, one process for each."""

    label: str
    contestant: str
    files: int
    is_pinned: bool

    @property
    def stores(self) -> bool:
        """Whether the turn writes rows, which are then checked."""
        return self.contestant in ("liquidations", "with_accounts")


BOUND = Turn("LZ4 decompression alone, 512 KiB reads as ours", "decompress", 1, is_pinned=True)
BEST = Turn("LZ4 decompression alone, 128 KiB reads", "decompress_best", 1, is_pinned=True)
OBVIOUS = Turn("obvious program, stores nothing", "parse_every_line", 1, is_pinned=True)
OBVIOUS_TABLE = Turn(
    "obvious program, with account table, stores nothing", "add_up_every_fill", 1, is_pinned=True
)
OURS = Turn("ours, liquidations only", "liquidations", 1, is_pinned=True)
FULL = Turn("ours, with account table", "with_accounts", 1, is_pinned=True)
OURS_FREE = Turn("ours, liquidations only, not pinned", "liquidations", 1, is_pinned=False)
OURS_TWO = Turn("ours, liquidations only, 2 files in 2 processes", "liquidations", 2, False)
FULL_FREE = Turn("ours, with account table, not pinned", "with_accounts", 1, is_pinned=False)
FULL_TWO = Turn("ours, with account table, 2 files in 2 processes", "with_accounts", 2, False)
TURNS = (
    BOUND, BEST, OBVIOUS, OBVIOUS_TABLE, OURS, FULL, OURS_FREE, OURS_TWO, FULL_FREE, FULL_TWO,
)  # fmt: skip


class Ratio(NamedTuple):
    """The speed of one turn over that of another, and the least that was promised."""

    label: str
    of: Turn
    to: Turn
    asked: Decimal | None


RATIOS = (
    Ratio("ours, liquidations only / decompression alone", OURS, BOUND, Decimal("0.45")),
    Ratio("the same / decompression in its fastest reads", OURS, BEST, None),
    Ratio("ours, liquidations only / obvious program", OURS, OBVIOUS, Decimal(5)),
    Ratio("ours, with account table / obvious program", FULL, OBVIOUS, Decimal(1)),
    Ratio("the same / obvious program with account table", FULL, OBVIOUS_TABLE, None),
    Ratio("liquidations only: 2 processes / 1", OURS_TWO, OURS_FREE, None),
    Ratio("with account table: 2 processes / 1", FULL_TWO, FULL_FREE, None),
)


class Result(NamedTuple):
    """One turn measured. CPU seconds are user + sys, summed over the processes of the turn."""

    bytes: int
    wall_seconds: float
    cpu_seconds: float
    server_cpu_seconds: float
    peak_bytes: int

    @property
    def wall_rate(self) -> float:
        """Uncompressed MB per second of wall time."""
        return self.bytes / 1e6 / self.wall_seconds

    @property
    def cpu_rate(self) -> float:
        """Uncompressed MB per second of CPU of the measured processes."""
        return self.bytes / 1e6 / self.cpu_seconds

    @property
    def all_cpu_rate(self) -> float:
        """Uncompressed MB per second of CPU, the Postgres server's included."""
        return self.bytes / 1e6 / (self.cpu_seconds + self.server_cpu_seconds)


@dataclass
class Run:
    """Everything one run of the benchmark measured, and where."""

    hours: Sequence[Hour]
    core: int
    server: server.Server
    migrated: str  # the database that each turn gets a copy of
    results: dict[Turn, list[Result]] = field(default_factory=lambda: {turn: [] for turn in TURNS})
    loads: list[float] = field(default_factory=list)
    checks: int = 0


class WrongResult(click.ClickException):
    """A contestant counted or stored something else than the file holds."""


# -- the files ---------------------------------------------------------------------------------


def hours_in(folder: Path, target_bytes: int) -> list[Hour]:
    """Two hour files that follow each other, made only if they are not there yet."""
    maker = hashlib.sha256(Path(bulk.__file__).read_bytes()).hexdigest()[:12]
    tree = folder / f"hyperliquid-{target_bytes}-{maker}" / "node_fills_by_block/hourly/20251010"
    first = _hour(tree / "21.lz4", target_bytes, seed=1, first_block=758_790_000)
    after = first.truth.last_block + 1
    return [first, _hour(tree / "22.lz4", target_bytes, seed=2, first_block=after)]


def _hour(path: Path, target_bytes: int, *, seed: int, first_block: int) -> Hour:
    truth_path = path.with_suffix(".truth.json")
    if not truth_path.exists():
        click.echo(f"making {path}")
        start = datetime(2025, 10, 10, int(path.stem), tzinfo=UTC)
        truth = bulk.write_hour(path, target_bytes, seed=seed, start=start, first_block=first_block)
        truth_path.write_bytes(msgspec.json.encode(truth))
        gc.collect()
    path.read_bytes()  # into the page cache: the disk is nobody's contestant
    return Hour(path, msgspec.json.decode(truth_path.read_bytes(), type=BulkTruth))


# -- one turn ----------------------------------------------------------------------------------


def take_turn(turn: Turn, run: Run) -> Result:
    """Run one turn on a fresh, migrated database. Raises WrongResult."""
    hours = run.hours[: turn.files]
    with fresh_database(run.server, template=run.migrated) as conninfo:
        with psycopg.connect(conninfo, autocommit=True) as connection:
            connection.execute("CHECKPOINT")  # or the turn would flush the making of its database
        before = server_cpu_seconds(run.server)
        measured = _race(turn, hours, conninfo, run.core)
        used = server_cpu_seconds(run.server) - before
        _check(turn, hours, measured, conninfo)
    return Result(
        sum(hour.truth.bytes for hour in hours),
        max(m.ended for m in measured) - min(m.began for m in measured),
        sum(m.cpu_seconds for m in measured),
        used if turn.stores else 0.0,
        max(m.peak_bytes for m in measured),
    )


def _race(turn: Turn, hours: Sequence[Hour], conninfo: str, core: int) -> list[Measured]:
    """One process for each file, all let go when the last is ready."""
    where = str(core) if turn.is_pinned else "any"
    with ExitStack() as stack:
        runners = [
            stack.enter_context(
                started("benchmarks.contestants", turn.contestant, str(hour.path), conninfo, where)
            )
            for hour in hours
        ]
        for runner in runners:
            line_from(runner)
        for runner in runners:
            tell(runner, "go")
        return [msgspec.json.decode(line_from(runner), type=Measured) for runner in runners]


# -- the truth ---------------------------------------------------------------------------------


def _check(turn: Turn, hours: Sequence[Hour], measured: list[Measured], conninfo: str) -> None:
    truths = [hour.truth for hour in hours]
    found = [m.found for m in measured]
    _same(turn, "count", found, [_count_expected(turn, truth) for truth in truths])
    if not turn.stores:
        return
    with psycopg.connect(conninfo) as connection:
        _check_liquidations(turn, truths, connection)
        _check_account_days(turn, truths, connection)


def _count_expected(turn: Turn, truth: BulkTruth) -> int:
    match turn.contestant:
        case "decompress" | "decompress_best":
            return truth.bytes
        case "parse_every_line" | "add_up_every_fill":
            return 2 * truth.liquidations  # both legs carry the mark
        case _:
            return truth.liquidations


def _check_liquidations(
    turn: Turn, truths: list[BulkTruth], connection: psycopg.Connection
) -> None:
    stored = connection.execute(
        "SELECT method, count(*), sum(notional) FROM ledger.liquidation GROUP BY 1"
    ).fetchall()
    methods = sum((Counter(truth.liquidations_by_method) for truth in truths), Counter[str]())
    _same(turn, "rows by method", {row[0]: row[1] for row in stored}, dict(methods))
    notional = sum((truth.notional for truth in truths), Decimal(0))
    _same(turn, "sum of notionals", sum(row[2] for row in stored), notional)
    covered = connection.execute(
        "SELECT sum(upper(blocks) - lower(blocks)) FROM ledger.coverage"
        " WHERE facts = 'liquidations'"
    ).fetchone()
    _same(turn, "covered blocks", covered, (sum(truth.lines for truth in truths),))
    undecoded = connection.execute("SELECT count(*) FROM ledger.undecoded").fetchone()
    _same(turn, "undecoded", undecoded, (0,))


def _check_account_days(
    turn: Turn, truths: list[BulkTruth], connection: psycopg.Connection
) -> None:
    stored = connection.execute(
        "SELECT coalesce(sum(fills), 0), coalesce(sum(volume), 0) FROM ledger.account_day"
    ).fetchone()
    fills, volume = 0, Decimal(0)
    if turn.contestant == "with_accounts":
        fills = sum(truth.fills for truth in truths)
        volume = sum((truth.volume for truth in truths), Decimal(0))
    _same(turn, "fills and volume of the account days", stored, (fills, volume))


def _same(turn: Turn, what: str, found: object, truth: object) -> None:
    if found != truth:
        raise WrongResult(f"{turn.label}: {what}: found {found}, the file holds {truth}")


# -- the report --------------------------------------------------------------------------------


def report(run: Run) -> str:
    """The run as Markdown."""
    rounds, load = len(run.results[BOUND]), run.loads
    lines = [
        "# Hyperliquid: from an LZ4 hour file to committed rows",
        "",
        "Written by `python -m benchmarks.hyperliquid`; run it again instead of editing.",
        "",
        *(f"- {name}: {text}" for name, text in _circumstances(run)),
        "",
        f"Medians of {rounds} rounds, in brackets the least and the most. MB are 10^6 bytes after"
        " decompression; CPU is user + sys of the measured process.",
        "",
        "| Contestant | MB/s wall | MB/s CPU | wall s | CPU s | Postgres CPU s | peak MB |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        *(_turn_row(turn, run.results[turn]) for turn in TURNS),
        "",
        "Ratios of speeds, made within each round. The last column counts the CPU of the Postgres"
        " server as ours.",
        "",
        "| Ratio | asked | wall | CPU | CPU with Postgres |",
        "| --- | ---: | ---: | ---: | ---: |",
        *(_ratio_row(ratio, run) for ratio in RATIOS),
        "",
        _memory(run),
        "",
        f"{run.checks} results were compared with the truth of the files, all equal: bytes, marked"
        " fills, rows by method, sum of notionals, covered blocks, fills and volume of all"
        " accounts. Load average (1 min) at the start, the most, and at the end:"
        f" {load[0]:.2f}, {max(load):.2f}, {load[-1]:.2f}.",
        "",
    ]
    return "\n".join(lines)


def _circumstances(run: Run) -> Iterator[tuple[str, str]]:
    first, second = (hour.truth for hour in run.hours)
    stored_mb = run.hours[0].path.stat().st_size / 1e6
    cores = sorted(os.sched_getaffinity(0))
    yield "date", f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, commit {commit()}"
    yield (
        "file",
        f"{first.bytes:,} bytes ({stored_mb:.1f} MB of LZ4), {first.lines:,} lines,"
        f" {first.fills:,} fills, {first.liquidations:,} liquidations in"
        f" {first.liquidation_lines:,} lines; the second file {second.bytes:,} bytes. Simulated,"
        " in the page cache",
    )
    yield "machine", f"{cpu_model()}, {len(cores)} cores, {platform.system()} {platform.release()}"
    yield (
        "software",
        f"Python {platform.python_version()}, {description(run.server)}, lz4 {version('lz4')},"
        f" msgspec {version('msgspec')}, psycopg {version('psycopg')}",
    )
    yield (
        "clock",
        "starts when all modules are imported and the database is migrated, for every contestant;"
        " connecting and the last commit are inside",
    )
    yield (
        "cores",
        f"each contestant is pinned to core {run.core} unless it says otherwise; the Postgres"
        f" server is free to run on all of {cores}",
    )


def _turn_row(turn: Turn, results: list[Result]) -> str:
    served = spread([r.server_cpu_seconds for r in results], ".2f") if turn.stores else "-"
    cells = (
        turn.label,
        spread([r.wall_rate for r in results], ".0f"),
        spread([r.cpu_rate for r in results], ".0f"),
        spread([r.wall_seconds for r in results], ".2f"),
        spread([r.cpu_seconds for r in results], ".2f"),
        served,
        f"{max(r.peak_bytes for r in results) / 1e6:.0f}",
    )
    return f"| {' | '.join(cells)} |"


def _ratio_row(ratio: Ratio, run: Run) -> str:
    pairs = list(zip(run.results[ratio.of], run.results[ratio.to], strict=True))
    wall = [of.wall_rate / to.wall_rate for of, to in pairs]
    cpu = [of.cpu_rate / to.cpu_rate for of, to in pairs]
    all_cpu = [of.all_cpu_rate / to.all_cpu_rate for of, to in pairs]
    asked = "-" if ratio.asked is None else f">= {ratio.asked}"
    cells = (ratio.label, asked, *(_verdict(found, ratio.asked) for found in (wall, cpu, all_cpu)))
    return f"| {' | '.join(cells)} |"


def _verdict(found: list[float], asked: Decimal | None) -> str:
    text = spread(found, ".2f")
    if asked is None:
        return text
    return f"{text} {'yes' if median(found) >= asked else 'NO'}"


def _memory(run: Run) -> str:
    peak = max(r.peak_bytes for turn in TURNS if turn.stores for r in run.results[turn]) / 1e6
    verdict = "yes" if peak < PEAK_MB_ASKED else "NO"
    return (
        f"Peak memory of ours, each process: {peak:.0f} MB, asked: < {PEAK_MB_ASKED} MB: {verdict}."
    )


# -- the command -------------------------------------------------------------------------------


@click.command()
@click.option("--bytes", "size", type=float, default=1e9, help="Size of a file, uncompressed.")
@click.option("--rounds", type=click.IntRange(1), default=3, help="Turns of each contestant.")
@click.option("--dir", "kept", type=click.Path(path_type=Path), help="Keep the files here.")
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS, help="What to write.")
def main(size: float, rounds: int, kept: Path | None, results: Path) -> None:
    """Measure, check, print and write the table.

    Example: python -m benchmarks.hyperliquid --bytes 1e8 --rounds 1 --dir /tmp/hours
    """
    code = code_digest()
    with folder(kept) as files, durable_server() as on:
        run = Run(hours_in(files, int(size)), max(os.sched_getaffinity(0)), on, server.NAME)
        for number in range(1, rounds + 1):
            for turn in TURNS:
                run.loads.append(os.getloadavg()[0])
                result = take_turn(turn, run)
                run.results[turn].append(result)
                run.checks += turn.files
                click.echo(f"round {number}: {turn.label}: {result.wall_rate:.0f} MB/s")
        run.loads.append(os.getloadavg()[0])
        text = report(run)
    if code_digest() != code:
        raise click.ClickException("the code changed meanwhile: the rounds ran different programs")
    results.write_text(text)
    click.echo(f"\n{text}")


if __name__ == "__main__":
    main()
