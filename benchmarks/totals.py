"""How fast totals, reconciliations and rankings come from ten million stored liquidations.

    python -m benchmarks.totals --rows 10_000_000 --rounds 5

A year of simulated rows is made in the database (`benchmarks.year_of_rows`). Every answer that is
measured is compared with one that Python makes of the same formula in whole numbers; a wrong one,
and a plan that reads a large table from end to end, ends the run with exit code 1. Linux only.
"""

import os
import platform
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from importlib.metadata import version
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import click
import psycopg

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
from benchmarks.year_of_rows import BEGIN, BUSY_DAY, VENUES, Row, digest_of, filled, rows_of
from indexer.methodology.definition import presets
from indexer.methodology.windows import Window
from indexer.store import counting, database, rollups, server, totals
from indexer.store.database import Connection
from indexer.store.reconciliation import Asked, reconcile

RESULTS = ROOT / "benchmarks/TOTALS.md"
ASKED_MS = 200  # a total, the largest accounts
ASKED_RECONCILIATION_MS = 5_000
A, B = "strict/v1", "gross_legs/v1"  # they differ in six groups: 64 hybrids
AGAIN = 3  # calls after the first one
TOP = 20  # accounts
DAYS = 30  # of the largest accounts
GAP_MS = 900_000  # that ends an episode of A
E8 = Decimal("1e-8")
LARGE_TABLES = {"liquidation", "lending_liquidation", "valuation"}


class WrongResult(click.ClickException):
    """What was measured is not what the rows give, or came another way than it should."""


def _days(first: int, number: int, said: str) -> Window:
    low = BEGIN + timedelta(days=first)
    return Window(said=said, low=low, high=low + timedelta(days=number))


BUSIEST = _days(BUSY_DAY, 1, "busiest day")
MONTH = _days(BUSY_DAY + 1 - DAYS, DAYS, f"{DAYS} days that end with the busiest")


def average_day(round_number: int) -> Window:
    """A day that no round before has read."""
    return _days((100 + 17 * round_number) % (BUSY_DAY - DAYS), 1, "average day")


def off_day(day: Window) -> Window:
    """As long and as full, and no day that could be stored."""
    assert day.low is not None and day.high is not None
    low, high = (moment + timedelta(hours=6) for moment in (day.low, day.high))
    return Window(said="24 hours from 06:00", low=low, high=high)


OFF_DAY = off_day(BUSIEST).said


# -- what is asked, and what the formula answers -------------------------------------------------


class Turn(NamedTuple):
    """A question: what is run, and what it gives of the rows of its window."""

    label: str
    run: Callable[[Connection, Window], Any]
    expected: Callable[[Sequence[Row]], Any]


def _asked(query: str) -> Callable[[Connection, Window], Any]:
    def run(connection: Connection, window: Window) -> Any:
        found = connection.execute(
            query, {"definition": A, "low": window.low, "high": window.high, "top": TOP}
        )
        return found.fetchall()

    return run


TOTAL_LINES = """
    SELECT section, name, usd, long_usd, short_usd, records, accounts, fills, orders, actions,
           positions, episodes, unvalued
    FROM liq.total(%(definition)s, %(low)s, %(high)s)
"""


def total_expected(rows: Sequence[Row]) -> list[tuple[Any, ...]]:
    """The lines of a total, in any order."""
    counted = [row for row in rows if row.line == "counted"]
    return [
        *_split(counted, "total", lambda row: None),
        *(line for name in SECTIONS for line in _split(counted, name, attrgetter(name))),
        *_split([row for row in rows if row.line != "counted"], "beside", attrgetter("line")),
        *_largest(counted),
    ]


SECTIONS = ("instrument", "venue", "asset", "method", "side", "price_source")
_HAS_COUNTS = ("total", "instrument", "venue")
_NO_ACCOUNTS = ("method", "side", "price_source")


def _split(
    rows: Iterable[Row], section: str, name_of: Callable[[Row], str | None]
) -> Iterator[tuple[Any, ...]]:
    groups = defaultdict(list)
    for row in rows:
        groups[name_of(row)].append(row)
    for name, group in groups.items():
        accounts = None if section in _NO_ACCOUNTS else len({row.account for row in group})
        counts = _counts(group) if section in _HAS_COUNTS else [None] * 5
        yield section, name, *_money(group), len(group), accounts, *counts, 0


def _money(rows: Iterable[Row]) -> tuple[Decimal | None, ...]:
    """Dollars of all, of longs and of shorts; None where there is no row."""
    sums: dict[str | None, int] = defaultdict(int)
    for row in rows:
        sums[row.side] += row.e8
    return sum(sums.values()) * E8, *(
        sums[side] * E8 if side in sums else None for side in ("long", "short")
    )


def _counts(rows: Sequence[Row]) -> list[int]:
    """Fills, orders, actions, positions, episodes; each row is a fill."""
    return [len(rows), *(len(_units(rows, level)) for level in LEVELS)]


LEVELS: dict[str, Callable[[Row], tuple[str | None, ...]]] = {
    "order": lambda row: (row.venue, row.account, row.market, row.order),
    "action": lambda row: (row.venue, row.account, row.action),
    "position": lambda row: (row.venue, row.account, row.market, row.side or ""),
    "episode": lambda row: (row.venue, row.account),
}


def _units(rows: Iterable[Row], level: str) -> list[int]:
    """What each unit of a level sums up to. An episode ends with a pause, a position also when it
    is flat at the end of a block."""
    of = LEVELS[level]
    if level in ("order", "action"):
        sums: dict[Any, int] = defaultdict(int)
        for row in rows:
            sums[of(row)] += row.e8
        return list(sums.values())
    units = []
    for _, group in groupby(sorted(rows, key=lambda row: (*of(row), row.at_ms, row.is_flat)), of):
        last = None
        for row in group:
            is_over = last and level == "position" and last.is_flat
            if last is None or row.at_ms - last.at_ms > GAP_MS or is_over:
                units.append(0)
            units[-1] += row.e8
            last = row
    return units


def _largest(rows: Sequence[Row]) -> Iterator[tuple[Any, ...]]:
    tops = {
        "fill": max(row.e8 for row in rows),
        **{level: max(_units(rows, level)) for level in ("order", "action", "episode")},
        "account": max(sum(row.e8 for row in group) for group in _by_account(rows).values()),
    }
    for level, e8 in tops.items():
        yield "largest", level, e8 * E8, *([None] * 10)


def _by_account(rows: Iterable[Row]) -> dict[tuple[str, str], list[Row]]:
    accounts = defaultdict(list)
    for row in rows:
        accounts[row.venue, row.account].append(row)
    return accounts


def _strict(rows: Iterable[Row]) -> list[Row]:
    return [row for row in rows if row.line == "counted"]


def price_set_expected(rows: Sequence[Row]) -> list[tuple[str]]:
    """Number of the values and the sum of their digests."""
    counted = _strict(rows)
    return [(f"{len(counted)}:{sum(digest_of(row) for row in counted)}",)]


def accounts_expected(rows: Sequence[Row]) -> list[tuple[Any, ...]]:
    """The accounts with the largest sums."""
    found = [
        (*account, *_money(group), len(group), 0)
        for account, group in _by_account(_strict(rows)).items()
    ]
    return sorted(found, key=lambda one: (-one[2], one[:2]))[:TOP]


# What somebody would write who knows the tables: the one sum, of users and governed prices.
OBVIOUS_SUM = """
    SELECT sum(usd) FROM (
        SELECT v.fill_usd AS usd
        FROM ledger.liquidation l JOIN ledger.valuation v
            USING (venue, block_at, event_key, account)
        WHERE l.block_at >= %(low)s AND l.block_at < %(high)s AND v.price_source = 'par'
          AND NOT l.account_is_protocol_vault
        UNION ALL
        SELECT v.repaid_usd
        FROM ledger.lending_liquidation l JOIN ledger.valuation v
            USING (venue, block_at, event_key, account)
        WHERE l.block_at >= %(low)s AND l.block_at < %(high)s AND v.price_source = 'oracle'
          AND v.repaid_trust = 'governed'
    ) line
"""


def sum_expected(rows: Sequence[Row]) -> list[tuple[Decimal | None]]:
    return [_money(_strict(rows))[:1]]


class Reconciled(NamedTuple):
    """Both ends of a waterfall, and how far its steps and its parts go."""

    a: Decimal
    b: Decimal
    by_steps: Decimal
    by_parts: Decimal
    hybrids: int


def reconciled(connection: Connection, window: Window) -> Reconciled:
    """The reconciliation as the command makes it."""
    known = presets()
    found = reconcile(connection, Asked(known[A], window), Asked(known[B], window), {}, "")
    return Reconciled(
        found.a.usd, found.b.usd, sum(step.usd for step in found.steps),
        sum(part.usd for part in found.parts), 2 ** len(found.steps),
    )  # fmt: skip


def reconciled_expected(rows: Sequence[Row]) -> Reconciled:
    """Each perpetual's trade has two legs, of users and vaults alike."""
    a = _money(_strict(rows))[0] or Decimal(0)
    b = 2 * sum(row.e8 for row in rows if row.instrument == "perp") * E8
    return Reconciled(a, b, b - a, b - a, 64)


TOTAL = Turn("`liq.total` from rows", _asked(TOTAL_LINES), total_expected)
STORED = Turn("`liq.total` of a stored day", _asked(TOTAL_LINES), total_expected)
OBVIOUS = Turn("plain query of the tables: its one sum", _asked(OBVIOUS_SUM), sum_expected)
PRICE_SET = Turn(
    "`liq.price_set`: its digest",
    _asked("SELECT liq.price_set(%(definition)s, %(low)s, %(high)s)"),
    price_set_expected,
)
RECONCILIATION = Turn("reconciliation of 64 hybrids", reconciled, reconciled_expected)
LARGEST = "SELECT * FROM liq.largest_accounts(%(definition)s, %(low)s, %(high)s, %(top)s)"
FROM_ROWS = Turn("`liq.largest_accounts` from rows", _asked(LARGEST), accounts_expected)
FROM_SUMS = Turn("`liq.largest_accounts` from sums by day", _asked(LARGEST), accounts_expected)
ROLL_UP = "a day is added up: its total and sums"
OF_A_DAY = (TOTAL, OBVIOUS, PRICE_SET)


# -- one round -----------------------------------------------------------------------------------


class Result(NamedTuple):
    """One question asked several times in one connection, in ms: wall time of the first call, when
    the tables were not in the system's cache, and of those after it, and what CPU of the whole
    cluster one of these took."""

    first: float
    again: list[float]
    server_cpu: float


@dataclass
class Run:
    """Everything one run of the benchmark measured, and where."""

    rows: int
    rounds: int
    server: server.Server
    results: dict[tuple[str, str], list[Result]] = field(default_factory=dict)
    truths: dict[tuple[Turn, Window], Any] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    indexes: set[str] = field(default_factory=set)
    checks: int = 0
    bytes_database: int = 0
    loads: list[float] = field(default_factory=list)

    def truth(self, turn: Turn, window: Window) -> Any:
        """What the formula answers."""
        if (turn, window) not in self.truths:
            rows = rows_of(self.rows, window)
            self.sizes[window.said] = len(rows)
            for one in (*OF_A_DAY, STORED, RECONCILIATION, FROM_ROWS, FROM_SUMS):
                self.truths[one, window] = one.expected(rows)
        return self.truths[turn, window]

    def keep(self, label: str, said: str, result: Result) -> None:
        self.results.setdefault((label, said), []).append(result)

    def again(self, turn: Turn, said: str) -> list[float]:
        """Wall times of all calls but the first ones."""
        return [wall for result in self.results[turn.label, said] for wall in result.again]


def play_round(run: Run, conninfo: str, number: int) -> None:
    """Every question once."""
    day = average_day(number)
    for window in (off_day(day), BUSIEST):
        for turn in OF_A_DAY:
            take(turn, window, run, conninfo)
        with database.connect(conninfo) as connection:
            run.indexes |= indexes_read(connection, window)
    take(RECONCILIATION, day, run, conninfo)
    take(FROM_ROWS, MONTH, run, conninfo)
    add_up(day, run, conninfo)
    take(STORED, day, run, conninfo)
    add_up(MONTH, run, conninfo)
    take(STORED, BUSIEST, run, conninfo)
    take(FROM_SUMS, MONTH, run, conninfo)
    with database.connect(conninfo) as connection:
        connection.execute("TRUNCATE ledger.rolled_day, ledger.account_total, ledger.day_total")


def take(turn: Turn, window: Window, run: Run, conninfo: str) -> None:
    """Ask a question in a connection of its own, and check each answer."""
    truth = run.truth(turn, window)
    with database.connect(conninfo) as connection:
        empty_caches(run.server, connection)
        run.loads.append(os.getloadavg()[0])
        first, *again = [_call(turn, window, truth, run, connection) for _ in range(1 + AGAIN)]
    cpu = sum(cpu for _, cpu in again) / AGAIN
    result = Result(first[0], [wall for wall, _ in again], cpu)
    run.keep(turn.label, window.said, result)
    click.echo(f"{turn.label}, {window.said}: {first[0]:,.0f}, then {spread(result.again, ',.0f')}")


def _call(
    turn: Turn, window: Window, truth: Any, run: Run, connection: Connection
) -> tuple[float, float]:
    """Wall time and the cluster's CPU of one answer, in ms."""
    used, began = server_cpu_seconds(run.server), time.monotonic()
    found = turn.run(connection, window)
    wall = time.monotonic() - began
    used = server_cpu_seconds(run.server) - used
    check(turn, found, truth)
    run.checks += 1
    return wall * 1000, used * 1000


def check(turn: Turn, found: Any, truth: Any) -> None:
    """WrongResult where an answer is another than the formula's; lines may be in any order but
    that of a ranking."""
    if turn in (TOTAL, STORED):
        found, truth = set(found), set(truth)
    if found != truth:
        differ = found ^ truth if turn in (TOTAL, STORED) else (found, truth)
        raise WrongResult(f"{turn.label}: found and by the formula: {differ}")


def add_up(window: Window, run: Run, conninfo: str) -> None:
    """Add up the days of a window as a follower does, one by one, the newest first."""
    assert window.low is not None and window.high is not None
    low, high = window.low, window.high
    with database.connect(conninfo) as connection:
        for place in range((high - low).days):
            used, began = server_cpu_seconds(run.server), time.monotonic()
            rollups.refresh(connection, now=high, most=1)
            wall, used = time.monotonic() - began, server_cpu_seconds(run.server) - used
            said = BUSIEST.said if (window, place) == (MONTH, 0) else average_day(0).said
            run.keep(ROLL_UP, said, Result(wall * 1000, [], used * 1000))
        wanted = {(low + timedelta(days=place)).date() for place in range((high - low).days)}
        stored = {day for (day,) in connection.execute("SELECT DISTINCT day FROM ledger.day_total")}
        if not wanted <= stored:
            raise WrongResult(f"not added up: {wanted - stored}")
        if window is MONTH:
            connection.execute("VACUUM ANALYZE ledger.account_total")  # as after a night


def empty_caches(on: server.Server, connection: Connection) -> None:
    """Of what is stored the system keeps nothing in memory; the server keeps what it used last,
    which is none of a window that was not read."""
    connection.execute("CHECKPOINT")
    for file in (on.data_dir / "cluster/base").glob("*/*"):
        with file.open("rb") as opened:
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def indexes_read(connection: Connection, window: Window) -> set[str]:
    """The indexes in the plan of a total from rows, but for the order of its lines; WrongResult
    where the plan reads a large table from end to end."""
    with connection.transaction():
        counting.make_room(connection)
        found = connection.execute(
            "SELECT ledger.total_query(query), gap, is_one_sum FROM ledger.definition"
            " WHERE id = %s", (A,)
        ).fetchone()  # fmt: skip
        assert found is not None
        query, *rest = found
        with psycopg.RawCursor(connection) as cursor:
            row: Any = cursor.execute(
                f"EXPLAIN (FORMAT JSON) {query}", [*totals.bounds_of(connection, window), *rest]
            ).fetchone()
    nodes = list(_nodes(row[0][0]["Plan"]))
    whole = {
        node["Relation Name"] for node in nodes
        if node["Node Type"] == "Seq Scan" and node["Relation Name"] in LARGE_TABLES
    }  # fmt: skip
    if whole:
        raise WrongResult(f"the plan of a total reads {', '.join(sorted(whole))} from end to end")
    return {node["Index Name"] for node in nodes if "Index Name" in node}


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from _nodes(part)


# -- the report ----------------------------------------------------------------------------------


class Target(NamedTuple):
    """What a number should be, of the calls after the first."""

    label: str
    turn: Turn
    said: str
    asked_ms: int


TARGETS = (
    Target("a 24 h total with all its splits, a day that is stored, ms", STORED, "average day",
           ASKED_MS),
    Target("a 24 h total with all its splits, from rows, ms", TOTAL, OFF_DAY, ASKED_MS),
    Target("a reconciliation of 64 hybrids, ms", RECONCILIATION, "average day",
           ASKED_RECONCILIATION_MS),
    Target(f"the largest accounts of {DAYS} days, ms", FROM_SUMS, MONTH.said, ASKED_MS),
)  # fmt: skip


def report(run: Run) -> str:
    """The run as Markdown."""
    ratios = {
        said: median(run.again(TOTAL, said)) / median(run.again(OBVIOUS, said))
        for said in (OFF_DAY, BUSIEST.said)
    }
    large = {name for name in run.indexes if name.startswith(tuple(LARGE_TABLES))}
    lines = [
        "# Totals: from stored rows and values to numbers",
        "",
        "Written by `python -m benchmarks.totals`; run it again instead of editing.",
        "",
        *(f"- {name}: {text}" for name, text in _circumstances(run)),
        "",
        "| | asked | found | |",
        "| --- | ---: | ---: | --- |",
        *(_target_row(target, run) for target in TARGETS),
        "",
        f"All under `{A}`; the reconciliation is with `{B}`, from which it differs in six groups."
        " What is asked of 24 hours is judged on an average day: once when the program has added"
        " it up, as it does by itself with days that have ended, and liq.total gives what is"
        f" stored; and once on {OFF_DAY} of that day, of which nothing is stored. The busiest day"
        f" has 3 % of all rows; it is among the {DAYS} days, and read from rows before it was added"
        " up. Wall time of a call in the program until its answer"
        f" was read: medians of {run.rounds} first calls, each on a connection of its own after"
        f" the files were dropped from the system's cache, and of the {AGAIN} calls after each, in"
        " brackets the least and the most. Targets are judged on those. CPU is that of the whole"
        " cluster for such a call. Each round has an average day of its own.",
        "",
        "| | window | first call, ms | after it, ms | Postgres CPU, ms |",
        "| --- | --- | ---: | ---: | ---: |",
        *(_result_row(label, said, results) for (label, said), results in run.results.items()),
        "",
        f"A total from rows takes {ratios[OFF_DAY]:.1f} times as long as the plain query on"
        f" {OFF_DAY} and {ratios[BUSIEST.said]:.1f} times on the busiest day: that one gives the"
        " sum alone, a total also counts, splits and the largest of each level.",
        "",
        "The plan of a total from rows reads the three large tables by"
        f" {', '.join(sorted(large))}, on each of the days; a sequential scan of one would have"
        " ended the run.",
        "",
        f"{run.checks} answers were compared with those of the formula in whole numbers, all"
        " equal: every line of a total, the digest of a price set, both ends of a reconciliation"
        f" and the way between them by steps and by parts, all {TOP} largest accounts. Load"
        f" average (1 min) at the start, the most, and at the end: {run.loads[0]:.2f},"
        f" {max(run.loads):.2f}, {run.loads[-1]:.2f}.",
        "",
    ]
    return "\n".join(lines)


def _circumstances(run: Run) -> Iterator[tuple[str, str]]:
    yield "date", f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, commit {commit()}"
    sizes = ", ".join(f"{said} {size:,}" for said, size in run.sizes.items())
    yield (
        "rows",
        f"{run.rows:,} liquidations of one year, 80 % of perpetuals and 20 % of loans on"
        f" {len(VENUES)} venues ({sizes}). The database takes"
        f" {run.bytes_database / 1e9:.1f} GB. Simulated",
    )
    cores = len(os.sched_getaffinity(0))
    yield "machine", f"{cpu_model()}, {cores} cores, {platform.system()} {platform.release()}"
    yield (
        "software",
        f"Python {platform.python_version()}, {description(run.server)}, psycopg"
        f" {version('psycopg')}; no other setting is changed",
    )


def _target_row(target: Target, run: Run) -> str:
    found = run.again(target.turn, target.said)
    is_met = median(found) < target.asked_ms
    cells = (
        target.label, f"< {target.asked_ms:,}", spread(found, ",.0f"), "yes" if is_met else "NO",
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _result_row(label: str, said: str, results: Sequence[Result]) -> str:
    firsts = [result.first for result in results]
    again = [wall for result in results for wall in result.again]
    after = spread(again, ",.0f") if again else ""
    cpu = spread([result.server_cpu for result in results], ",.0f")
    return f"| {label} | {said} | {spread(firsts, ',.0f')} | {after} | {cpu} |"


# -- the command ---------------------------------------------------------------------------------


@click.command()
@click.option("--rows", type=click.IntRange(20_000), default=10_000_000, help="Liquidations.")
@click.option("--rounds", type=click.IntRange(1), default=5, help="Turns of each kind.")
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS, help="What to write.")
def main(rows: int, rounds: int, results: Path) -> None:
    """Measure, check, print and write the tables.

    Example: python -m benchmarks.totals --rows 200_000 --rounds 1
    """
    code = code_digest()
    with durable_server() as on:
        run = Run(rows, rounds, on)
        began = time.monotonic()
        with filled(on, rows) as conninfo:
            click.echo(f"{rows:,} rows in {time.monotonic() - began:,.0f} s")
            with database.connect(conninfo) as connection:
                size: Any = connection.execute(
                    "SELECT pg_database_size(current_database())"
                ).fetchone()
            run.bytes_database = size[0]
            for number in range(rounds):
                play_round(run, conninfo, number)
        text = report(run)
    if code_digest() != code:
        raise click.ClickException("the code changed meanwhile: the turns ran different programs")
    results.write_text(text)
    click.echo(f"\n{text}")


if __name__ == "__main__":
    main()
