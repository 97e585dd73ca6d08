"""How fast the logs of a chain become committed rows, and how late at its head.

    python -m benchmarks.chains --rounds 3

History comes from `tests.chain_model.bulk`, the head from `tests.chain_model.live`, each in a
process of its own. What was stored is compared with what the chain holds; wrong rows of history
end the run with exit code 1. Linux only.
"""

import json
import os
import platform
import resource
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import click
import msgspec
import psycopg

from benchmarks.chain_contestants import NAIVE_BLOCKS, VENUE
from benchmarks.chain_head import HEADS, MS_ASKED, Head, Seen, watch
from benchmarks.contestants import Measured
from benchmarks.machine import (
    ROOT,
    code_digest,
    commit,
    cpu_model,
    description,
    durable_server,
    line_from,
    server_cpu_seconds,
    spread,
    started,
    tell,
)
from indexer.store import server
from tests.chain_model.bulk import Config
from tests.postgres import database as fresh_database

RESULTS = ROOT / "benchmarks/CHAINS.md"
FIRST = Config.first_block


class Turn(NamedTuple):
    """What a round does once."""

    label: str
    contestant: str
    has_timestamps: bool = True  # in the logs; where not, block headers must be fetched


OURS = Turn("ours, block times in the logs", "backfill")
HEADERS = Turn("ours, block times from headers", "backfill", has_timestamps=False)
COMMAND = Turn("`indexer backfill --no-values`, start-up included", "command")
REDECODE = Turn("ours, `redecode` from stored raw logs", "redecode")
COPY = Turn("bare COPY of rows that are ready, same tables and indexes", "copy")
NAIVE = Turn("naive web3.py loop, decoded rows only", "naive")
TURNS = (OURS, HEADERS, COMMAND, REDECODE, COPY, NAIVE)


class Result(NamedTuple):
    """One turn measured; `requests` to the node over HTTP."""

    events: int
    wall_seconds: float
    cpu_seconds: float
    server_cpu_seconds: float
    peak_bytes: int
    requests: int

    @property
    def rate(self) -> float:
        """Events per second of wall time."""
        return self.events / self.wall_seconds

    @property
    def all_cpu_seconds(self) -> float:
        """Of the contestant and the whole Postgres cluster."""
        return self.cpu_seconds + self.server_cpu_seconds

    @property
    def event_seconds(self) -> float:
        """The same for one event."""
        return self.all_cpu_seconds / self.events


@dataclass
class Bulk:
    """A node with a long history."""

    url: str
    end: int

    def stats(self) -> dict[str, Any]:
        """What was asked so far, and what a table of all its logs must hold."""
        with urllib.request.urlopen(f"{self.url}/stats") as answer:
            found: dict[str, Any] = json.load(answer)
        return found


@dataclass
class Run:
    """Everything one run of the benchmark measured, and where."""

    stated: Bulk
    silent: Bulk
    server: server.Server
    naive_end: int
    results: dict[Turn, list[Result]] = field(default_factory=lambda: {turn: [] for turn in TURNS})
    seen: dict[Head, Seen] = field(default_factory=dict)
    loads: list[float] = field(default_factory=list)
    checks: int = 0

    def node(self, turn: Turn) -> Bulk:
        """Whom a turn asks."""
        return self.stated if turn.has_timestamps else self.silent


class WrongResult(click.ClickException):
    """A contestant stored something else than the chain holds."""


# -- one turn ----------------------------------------------------------------------------------


@contextmanager
def bulk_node(blocks: int, logs: int, *, has_timestamps: bool) -> Iterator[Bulk]:
    """A node of our own with so many logs."""
    arguments = ["--blocks", str(blocks), "--logs", str(logs)]
    if not has_timestamps:
        arguments.append("--no-timestamps")
    with started("tests.chain_model.bulk", *arguments) as node:
        yield Bulk(f"http://127.0.0.1:{line_from(node).strip()}", FIRST + blocks)
        node.kill()


def play_round(run: Run) -> None:
    """Every turn once, each on a fresh migrated database; those that need rows get ours."""
    with ExitStack() as stack:

        def fresh() -> str:
            return stack.enter_context(fresh_database(run.server, template=server.NAME))

        filled = fresh()
        _take(OURS, run, filled)
        _take(REDECODE, run, filled)
        _take(COPY, run, fresh(), filled)
        _take(HEADERS, run, fresh())
        _take(COMMAND, run, fresh())
        _take(NAIVE, run, fresh())


def _take(turn: Turn, run: Run, conninfo: str, filled: str = "") -> None:
    run.loads.append(os.getloadavg()[0])
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("CHECKPOINT")  # or the turn would flush what was before it
    node = run.node(turn)
    asked, used = node.stats()["requests"], server_cpu_seconds(run.server)
    end = run.naive_end if turn is NAIVE else node.end
    if turn is COMMAND:
        measured = _commanded(node, conninfo)
    else:
        measured = _raced(turn, node, conninfo, end, filled)
    result = Result(
        _count(conninfo), measured.wall_seconds, measured.cpu_seconds,
        server_cpu_seconds(run.server) - used, measured.peak_bytes,
        node.stats()["requests"] - asked,
    )  # fmt: skip
    if turn is not NAIVE:
        _check(turn, node, conninfo)
        run.checks += 1
    run.results[turn].append(result)
    click.echo(f"{turn.label}: {result.rate:,.0f} events/s")


def _raced(turn: Turn, node: Bulk, conninfo: str, end: int, filled: str) -> Measured:
    arguments = (turn.contestant, node.url, conninfo, str(FIRST), str(end), filled)
    with started("benchmarks.chain_contestants", *arguments) as runner:
        line_from(runner)
        tell(runner, "go")
        return msgspec.json.decode(line_from(runner), type=Measured)


def _commanded(node: Bulk, conninfo: str) -> Measured:
    command = [sys.executable, "-m", "indexer", "backfill", VENUE]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(
        [*command, "--from", str(FIRST), "--to", str(node.end), "--no-values"], cwd=ROOT,
        check=True, capture_output=True,
        env={**os.environ, "DATABASE_URL": conninfo, "RPC_ETHEREUM": node.url},
    )  # fmt: skip
    ended, after = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Measured(began, ended, used, 0, 0)


# -- the truth ---------------------------------------------------------------------------------


def _count(conninfo: str) -> int:
    return int(_row(conninfo, "SELECT count(*) FROM ledger.lending_liquidation")[0])


def _check(turn: Turn, node: Bulk, conninfo: str) -> None:
    truth = node.stats()
    rows = _row(
        conninfo,
        "SELECT count(*), count(DISTINCT left(event_key, 66)), sum(repaid_raw), sum(seized_raw)"
        " FROM ledger.lending_liquidation",
    )
    _same(
        turn, "rows, transactions, repaid and seized", rows,
        (truth["logs"], truth["transactions"], truth["repaid_raw"], truth["seized_raw"]),
    )  # fmt: skip
    _same(turn, "raw logs", _row(conninfo, "SELECT count(*) FROM ledger.raw_log"), (truth["logs"],))
    if turn is not COPY:
        covered = _row(
            conninfo,
            "SELECT sum(upper(blocks) - lower(blocks)), sum(logs) FROM ledger.coverage",
        )
        _same(turn, "covered blocks and their logs", covered, (node.end - FIRST, truth["logs"]))


def _row(conninfo: str, query: str) -> tuple[Any, ...]:
    with psycopg.connect(conninfo) as connection:
        found = connection.execute(query).fetchone()
    assert found is not None
    return found


def _same(turn: Turn, what: str, found: object, truth: object) -> None:
    if found != truth:
        raise WrongResult(f"{turn.label}: {what}: found {found}, the chain holds {truth}")


# -- the report --------------------------------------------------------------------------------


class Target(NamedTuple):
    """What was promised of history, and what came."""

    label: str
    asked: str
    found: str
    is_met: bool


def targets(run: Run) -> Iterator[Target]:
    """All of them, from the medians of the rounds."""
    for turn in (OURS, HEADERS):
        found = run.results[turn]
        pairs = list(zip(found, run.results[NAIVE], strict=True))
        rates = [one.rate for one in found]
        faster = [one.rate / naive.rate for one, naive in pairs]
        cheaper = [naive.event_seconds / one.event_seconds for one, naive in pairs]
        requests = max(one.requests for one in found)
        used = [one.all_cpu_seconds for one in found]
        peak = max(one.peak_bytes for one in found) / 1e6
        yield _at_least(f"{turn.label}: events/s", 20_000, rates, ",.0f")
        yield _at_least(f"{turn.label}: times the naive loop", 30, faster, ".1f")
        yield _at_least(f"{turn.label}: the same in CPU with Postgres", 30, cheaper, ".1f")
        yield Target(f"{turn.label}: HTTP requests", "<= 400", str(requests), requests <= 400)
        yield Target(
            f"{turn.label}: CPU seconds with Postgres", "<= 8", spread(used, ".2f"),
            median(used) <= 8,
        )  # fmt: skip
        yield Target(f"{turn.label}: peak MB", "<= 250", f"{peak:.0f}", peak <= 250)
    rates = [one.rate for one in run.results[REDECODE]]
    yield _at_least(f"{REDECODE.label}: events/s", 30_000, rates, ",.0f")
    for head, seen in run.seen.items():
        text = f"{seen.median_ms:.0f}"
        yield Target(
            f"head, {head.label}: median ms", f"< {MS_ASKED}", text, seen.median_ms < MS_ASKED
        )
        yield Target(
            f"head, {head.label}: missing / stale / doubled", "0 / 0 / 0", str(seen.after),
            seen.is_right,
        )  # fmt: skip


def _at_least(label: str, asked: int, found: Sequence[float], digits: str) -> Target:
    return Target(label, f">= {asked:,}", spread(found, digits), median(found) >= asked)


def report(run: Run, blocks: int, seconds: float) -> str:
    """The run as Markdown."""
    load = run.loads
    lines = [
        "# EVM chains: from JSON-RPC to committed rows",
        "",
        "Written by `python -m benchmarks.chains`; run it again instead of editing.",
        "",
        *(f"- {name}: {text}" for name, text in _circumstances(run)),
        "",
        "## What was asked",
        "",
        "| | asked | found | |",
        "| --- | ---: | ---: | --- |",
        *(
            f"| {one.label} | {one.asked} | {one.found} | {'yes' if one.is_met else 'NO'} |"
            for one in targets(run)
        ),
        "",
        "## History",
        "",
        f"Medians of {len(run.results[OURS])} rounds, in brackets the least and the most. Ours"
        " stores the raw log, the row, the block and the coverage under all indexes; every commit"
        " is synced. CPU is user + sys; that of Postgres is of the whole cluster. The naive loop"
        f" reads {run.naive_end - FIRST:,} blocks; its CPU is scaled to all events.",
        "",
        "| | events | events/s | wall s | CPU s | Postgres CPU s | peak MB | HTTP requests |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        *(_turn_row(turn, run) for turn in TURNS),
        "",
        "## Head",
        "",
        f"{blocks} live blocks, one every {seconds} s, followed as `indexer follow ethereum` does,"
        " all venues of the chain, by a process that knows the time between blocks (of ethereum it"
        " would expect 12 s, and learn). Milliseconds from the moment when the node first shows a"
        " block until its rows are committed, as a second connection that looks every millisecond"
        " sees them; of the blocks that came after the first was stored, and that stayed. *reorg*:"
        " every 10 blocks the last 3 are replaced. *late*: `eth_getLogs` leaves the logs of a block"
        " out for 700 ms. *partial*: all but the first. Wrong events are counted when the last"
        " block is stored, and again when all blocks are final and were checked; in brackets those"
        " that are stored and wait for a receipt or a fact.",
        "",
        "| | events | reorgs | median ms | p95 ms | most ms | blocks behind, most"
        " | missing / stale / doubled | the check says | then | CPU s | Postgres CPU s |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- | ---: | ---: | ---: |",
        *(_head_row(head, seen) for head, seen in run.seen.items()),
        "",
        f"{run.checks} times the stored rows were compared with the chain, all equal: number of"
        " rows, transactions and raw logs, sums of both amounts, covered blocks. Load average"
        " (1 min) at the start, the most, and at the end:"
        f" {load[0]:.2f}, {max(load):.2f}, {load[-1]:.2f}.",
        "",
    ]
    return "\n".join(lines)


def _circumstances(run: Run) -> Iterator[tuple[str, str]]:
    truth = run.stated.stats()
    cores = len(os.sched_getaffinity(0))
    yield "date", f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, commit {commit()}"
    yield (
        "chain",
        f"{truth['logs']:,} LiquidationCall logs of {VENUE} in {run.stated.end - FIRST:,} blocks"
        f" and {truth['transactions']:,} transactions; the node gives at most"
        f" {Config.most_logs:,} logs an answer and refuses more as Infura does. Simulated",
    )
    yield "machine", f"{cpu_model()}, {cores} cores, {platform.system()} {platform.release()}"
    yield (
        "software",
        f"Python {platform.python_version()}, {description(run.server)}, msgspec"
        f" {version('msgspec')}, psycopg {version('psycopg')}, web3 {version('web3')}",
    )
    yield (
        "clock",
        "starts when all modules are imported and the database is migrated, but for the whole"
        " command; connecting and the last commit are inside. Node, contestant and Postgres share"
        " the cores",
    )


def _turn_row(turn: Turn, run: Run) -> str:
    results = run.results[turn]
    events = run.results[OURS][0].events
    scale = events / results[0].events
    peak = max(one.peak_bytes for one in results) / 1e6
    cells = (
        turn.label,
        f"{results[0].events:,}",
        spread([one.rate for one in results], ",.0f"),
        spread([one.wall_seconds for one in results], ".2f"),
        spread([one.cpu_seconds * scale for one in results], ".2f"),
        spread([one.server_cpu_seconds * scale for one in results], ".2f"),
        f"{peak:.0f}" if peak else "-",
        str(max(one.requests for one in results)),
    )
    return f"| {' | '.join(cells)} |"


def _head_row(head: Head, seen: Seen) -> str:
    cells = (
        head.label,
        f"{seen.events:,}",
        str(seen.reorgs),
        f"{seen.median_ms:.0f}",
        f"{seen.late_ms:.0f}",
        f"{seen.longest_ms:.0f}",
        str(seen.behind),
        str(seen.before),
        seen.checked,
        str(seen.after),
        f"{seen.cpu_seconds:.2f}",
        f"{seen.server_cpu_seconds:.2f}",
    )
    return f"| {' | '.join(cells)} |"


# -- the command -------------------------------------------------------------------------------


@click.command()
@click.option("--blocks", default=100_000, help="Blocks of history.")
@click.option("--logs", default=200_000, help="Logs in them.")
@click.option("--rounds", type=click.IntRange(1), default=3, help="Turns of each contestant.")
@click.option("--live", default=60, help="Live blocks of each scenario.")
@click.option("--seconds", default=0.5, help="Between two of them.")
@click.option("--head", "scenario", help="Play only this scenario of the head.")
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS, help="What to write.")
def main(
    blocks: int,
    logs: int,
    rounds: int,
    live: int,
    seconds: float,
    scenario: str | None,
    results: Path,
) -> None:
    """Measure, check, print and write the tables.

    Example: python -m benchmarks.chains --blocks 10_000 --logs 20_000 --rounds 1 --live 20
    """
    code = code_digest()
    with (
        durable_server() as on,
        bulk_node(blocks, logs, has_timestamps=True) as stated,
        bulk_node(blocks, logs, has_timestamps=False) as silent,
    ):
        run = Run(stated, silent, on, min(FIRST + NAIVE_BLOCKS, stated.end))
        for _ in range(rounds):
            play_round(run)
        for head in (one for one in HEADS if scenario in (None, one.scenario)):
            run.loads.append(os.getloadavg()[0])
            with fresh_database(on, template=server.NAME) as conninfo:
                run.seen[head] = watch(head, live, seconds, on, conninfo)
            click.echo(f"head, {head.label}: {run.seen[head].median_ms:.0f} ms")
        run.loads.append(os.getloadavg()[0])
        text = report(run, live, seconds)
    if code_digest() != code:
        raise click.ClickException("the code changed meanwhile: the turns ran different programs")
    results.write_text(text)
    click.echo(f"\n{text}")


if __name__ == "__main__":
    main()
