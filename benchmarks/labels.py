"""How fast labels follow a new block on top of ten million stored liquidations.

    python -m benchmarks.labels --rows 10_000_000 --blocks 200 --rounds 1

A year of simulated rows and account days is made in the database (`benchmarks.year_of_rows`,
`benchmarks.year_of_days`). What stands after each step is compared with what Python makes of the
same formulas in whole numbers (`benchmarks.large_rows`), and what came of changes with what comes
of all; a difference ends the run with exit code 1. Linux only.
"""

import os
import platform
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import click

from benchmarks.large_rows import (
    Account,
    Block,
    Flag,
    Model,
    Repeated,
    Truth,
    after_year,
    blocks_of_year,
    large_block,
    moment,
)
from benchmarks.machine import (
    ROOT,
    code_digest,
    commit,
    cpu_model,
    description,
    durable_server,
    server_cpu_seconds,
)
from benchmarks.year_of_days import labelled_by_days, put_days
from benchmarks.year_of_rows import (
    LOAN_VALUES,
    LOANS,
    PERP_VALUES,
    PERPS,
    VAULT,
    VENUES,
    Row,
    filled,
    loans_of,
    perps_of,
    put,
)
from indexer.labels import rules
from indexer.model import AccountDay
from indexer.store import database, ledger, server, sizes
from indexer.store import labels as labeler
from indexer.store.database import Connection

RESULTS = ROOT / "benchmarks/LABELS.md"
FULL_ROWS, FULL_BLOCKS = 10_000_000, 200
ASKED_BLOCK_MS = 10
ASKED_REBUILD_S = 60
ASKED_ACCOUNTS = 500_000
REPLACED = 10  # blocks of the year that go, and come late


class WrongResult(click.ClickException):
    """What stands is not what the rows give."""


# -- what is measured ----------------------------------------------------------------------------

REBUILD = "full rebuild: nothing was labelled before"
IDLE = "nothing is new"
NEW = "new block"
EMPTY = "new block on an empty database: the bound"
GONE = "block of the year goes, as in a reorg"
LATE = "block of the year comes late"
NAIVE = "every rule over all accounts, one block later"


class Result(NamedTuple):
    """One run of all rules, in ms; CPU of the whole cluster."""

    wall: float
    server_cpu: float


@dataclass
class Run:
    """Everything one run of the benchmark measured, and where."""

    rows: int
    blocks: int
    server: server.Server
    results: dict[str, list[Result]] = field(default_factory=lambda: defaultdict(list))
    standing: dict[str, int] = field(default_factory=dict)
    accounts: int = 0
    days: int = 0
    bytes_database: int = 0
    checks: int = 0
    loads: list[float] = field(default_factory=list)

    def walls(self, label: str) -> list[float]:
        return [result.wall for result in self.results[label]]


@dataclass(frozen=True)
class Truths:
    """What the formulas say: of the year, with the new blocks after it, without those that go, and
    of the new blocks alone."""

    year: Truth
    longer: Truth
    shorter: Truth
    new: Truth
    by_days: Mapping[str, set[str]]


def truths(run: Run) -> Truths:
    """Everything that is compared; two minutes for ten million rows."""
    gone = replaced(run)
    keys = {_key(rows) for one in gone for rows in one.rows(run.rows)}
    watched = {
        (row.venue, row.account) for one in gone for rows in one.rows(run.rows) for row in rows
    }
    all_of_it, rest, new = Model(), Model(), Model()
    for rows in blocks_of_year(run.rows):
        all_of_it.add(rows)
        if _key(rows) not in keys:
            rest.add(_of(rows, watched))
    year = all_of_it.truth()
    for one in new_blocks(run):
        for rows in one.rows(run.rows):
            all_of_it.add(rows)
            rest.add(_of(rows, watched))
            new.add(rows)
    longer = all_of_it.truth()
    shorter = longer.without(watched) | rest.truth()
    return Truths(year, longer, shorter, new.truth(), labelled_by_days(run.rows))


def replaced(run: Run) -> list[Block]:
    """The blocks of the year that go and come late: each has a large liquidation, if it can."""
    return [large_block(run.rows, share, REPLACED) for share in range(REPLACED)]


def new_blocks(run: Run) -> list[Block]:
    return [after_year(run.rows, place) for place in range(run.blocks)]


def _key(rows: Sequence[Row]) -> tuple[str, int]:
    return rows[0].instrument, rows[0].at_ms


def _of(rows: Sequence[Row], accounts: set[Account]) -> list[Row]:
    return [row for row in rows if (row.venue, row.account) in accounts]


# -- blocks in the database ----------------------------------------------------------------------

# As a pass over values notes what it has valued.
NOTE = """
    INSERT INTO ledger.changed_times
    SELECT venue, tstzrange(min(block_at), max(block_at), '[]') FROM (
        SELECT venue, block_at FROM ledger.liquidation
        WHERE venue = 'hyperliquid' AND block_at = %(perps_at)s
        UNION ALL
        SELECT venue, block_at FROM ledger.lending_liquidation
        WHERE venue = ANY (%(venues)s) AND block_at = %(loans_at)s
    ) valued
    GROUP BY venue
"""
# Loans of one block may be of the moment of another one's perpetuals.
PERPS_AT = "venue = 'hyperliquid' AND block_at = %(perps_at)s"
LOANS_AT = "venue = ANY (%(venues)s) AND block_at = %(loans_at)s"
TAKE_PERPS = f"DELETE FROM ledger.liquidation WHERE {PERPS_AT}"
TAKE_LOANS = f"DELETE FROM ledger.lending_liquidation WHERE {LOANS_AT}"


def _scope(run: Run, one: Block) -> dict[str, object]:
    perps, loans = one.rows(run.rows)
    return {
        "venues": [*VENUES], "perps_at": moment(perps[0].at_ms), "loans_at": moment(loans[0].at_ms)
    }  # fmt: skip


def write(connection: Connection, run: Run, one: Block) -> None:
    """The rows of a block with their values, and the note of them, in one transaction."""
    scope = _scope(run, one)
    with connection.transaction():
        put(connection, PERPS, perps_of(run.rows), one.perps)
        put(connection, LOANS, loans_of(run.rows), one.loans)
        connection.execute(PERP_VALUES.format(where=f"WHERE {PERPS_AT}"), scope)
        connection.execute(LOAN_VALUES.format(where=f"AND {LOANS_AT}"), scope)
        connection.execute(NOTE, scope)


def write_days(connection: Connection, run: Run, one: Block) -> None:
    """What the liquidated accounts traded in a new block: nobody is labelled for it."""
    perps, _ = one.rows(run.rows)
    day = moment(perps[0].at_ms).date()
    with connection.transaction():
        ledger.add_account_days(
            connection, [_day(account, day) for account in {row.account for row in perps}]
        )


def _day(account: str, day: Any) -> AccountDay:
    traded, nothing = Decimal(6_000), Decimal(0)
    return AccountDay(
        "hyperliquid", account, day, "USDC", 6, 0, traded, nothing, traded, "C0", nothing, nothing,
        (),
    )  # fmt: skip


def take_away(connection: Connection, run: Run, one: Block) -> None:
    """The rows of a block go, as in a reorg; their values go with them."""
    scope = _scope(run, one)
    with connection.transaction():
        connection.execute(TAKE_PERPS, scope)
        connection.execute(TAKE_LOANS, scope)


@contextmanager
def prepared(run: Run, rows: int) -> Iterator[Connection]:
    """A database with so many rows, their account days and the exchange's vault, unlabelled."""
    with filled(run.server, rows) as conninfo, database.connect(conninfo) as connection:
        put_days(connection, rows)
        connection.execute(
            "INSERT INTO ledger.protocol_vault VALUES ('hyperliquid', %s, 'SIMULATED', NULL, NULL,"
            " 'benchmarks.labels')",
            (VAULT,),
        )
        yield connection


# -- one round -----------------------------------------------------------------------------------


def play_round(run: Run, truth: Truths) -> None:
    """Every step once, on databases of its own."""
    began = time.monotonic()
    with prepared(run, run.rows) as connection:
        _count(run, connection)
        click.echo(f"{run.rows:,} rows in {time.monotonic() - began:,.0f} s")
        take(REBUILD, run, connection, again=True)
        check(REBUILD, run, connection, truth.year, truth.by_days)
        connection.execute("VACUUM ANALYZE")  # as it would be after a night
        idle(run, connection)
        follow(NEW, run, connection)
        check(NEW, run, connection, truth.longer, truth.by_days)
        replace_blocks(run, connection, truth)
        compare_with_all(run, connection)
        run.standing = labeler.standing(connection)
    with prepared(run, 0) as connection:
        labeler.apply(connection, rules())
        connection.execute(KNOWN_LIQUIDATORS, {"vault": VAULT, "begin": moment(0)})
        follow(EMPTY, run, connection)
        check(EMPTY, run, connection, truth.new, {})


def idle(run: Run, connection: Connection) -> None:
    """Run the rules with nothing to look at: the first run after the vacuum plans, too."""
    for _ in range(REPLACED):
        take(IDLE, run, connection)
    _say(IDLE, run)


# After a year all of them are known. Where one is not, every rule looks at who may be one.
KNOWN_LIQUIDATORS = """
    INSERT INTO ledger.label (
        venue, account, label, rule, rule_version, confidence, evidence, valid_during,
        recorded_during
    )
    SELECT venue, account, 'liquidator', 'ROLE_LIQUIDATOR', 1, 0.9, '{}',
           tstzrange(%(begin)s, NULL), tstzrange(now(), NULL)
    FROM (
        SELECT chain, '0x' || md5('l' || i) || '00000000'
        FROM generate_series(0, 99) i CROSS JOIN unnest(ARRAY['ethereum', 'base']) chain
        UNION ALL VALUES ('hyperliquid', %(vault)s)
    ) known (venue, account)
"""


def follow(label: str, run: Run, connection: Connection) -> None:
    """Label after each of the new blocks."""
    for one in new_blocks(run):
        write(connection, run, one)
        write_days(connection, run, one)
        take(label, run, connection)
    _say(label, run)


def replace_blocks(run: Run, connection: Connection, truth: Truths) -> None:
    """Blocks of the year go, and come back."""
    for one in replaced(run):
        take_away(connection, run, one)
        take(GONE, run, connection)
    check(GONE, run, connection, truth.shorter, truth.by_days)
    for one in replaced(run):
        write(connection, run, one)
        take(LATE, run, connection)
    check(LATE, run, connection, truth.longer, truth.by_days)
    _say(GONE, run)
    _say(LATE, run)


def compare_with_all(run: Run, connection: Connection) -> None:
    """Looking at all accounts changes nothing that looking at the changed ones made."""
    before = standing_digest(connection)
    changes = take(NAIVE, run, connection, again=True)
    _say(NAIVE, run)
    moved = {one.rule.id: one[1:] for one in changes if one.new or one.withdrawn}
    check_same(before, standing_digest(connection), moved)
    run.checks += 1


def check_same(before: object, after: object, moved: Mapping[str, object]) -> None:
    """WrongResult where looking at all said anything else."""
    if moved or before != after:
        raise WrongResult(f"all accounts give {after} and not {before}: new, withdrawn {moved}")


def take(
    label: str, run: Run, connection: Connection, *, again: bool = False
) -> list[labeler.Change]:
    """Run all rules, and measure them alone."""
    if again:
        connection.execute("CHECKPOINT")  # or it would flush what was before it
    run.loads.append(os.getloadavg()[0])
    used, began = server_cpu_seconds(run.server), time.monotonic()
    changes = labeler.apply(connection, rules(), again=again)
    wall = time.monotonic() - began
    used = server_cpu_seconds(run.server) - used
    run.results[label].append(Result(wall * 1000, used * 1000))
    return changes


def _say(label: str, run: Run) -> None:
    click.echo(f"{label}: {median(run.walls(label)):,.1f} ms, at most {max(run.walls(label)):,.1f}")


def _count(run: Run, connection: Connection) -> None:
    row: Any = connection.execute(
        """
        SELECT count(*), (SELECT count(*) FROM ledger.account_day),
               pg_database_size(current_database())
        FROM (SELECT account FROM ledger.liquidation
              UNION SELECT account FROM ledger.lending_liquidation
              UNION SELECT account FROM ledger.account_day) known
        """
    ).fetchone()
    run.accounts, run.days, run.bytes_database = row
    if run.rows >= FULL_ROWS and run.accounts < ASKED_ACCOUNTS:
        raise WrongResult(f"{run.accounts:,} accounts are fewer than {ASKED_ACCOUNTS:,}")


# -- what stands ---------------------------------------------------------------------------------

FLAGS = """
    SELECT venue, account, level, value_usd, threshold_usd, occurred_at
    FROM liq.flags WHERE rule = 'SIZE_ABS'
"""
REPEATED = """
    SELECT venue, account, valid_from, valid_to, jsonb_array_length(evidence -> 'episodes'),
           (evidence ->> 'usd')::numeric
    FROM liq.labels WHERE rule = 'REPEAT'
"""
BY_DAYS = "SELECT DISTINCT rule, account FROM liq.labels WHERE rule = ANY (%s)"
# Without when it was written down.
STANDING = """
    SELECT 'flags', count(*), coalesce(sum(('x' || left(md5(said::text), 15))::bit(60)::bigint), 0)
    FROM (SELECT venue, account, level, subject_key, rule, rule_version, trim_scale(value_usd),
                 trim_scale(threshold_usd), occurred_at, parameters FROM liq.flags) said
    UNION ALL
    SELECT 'labels', count(*), coalesce(sum(('x' || left(md5(said::text), 15))::bit(60)::bigint), 0)
    FROM (SELECT venue, account, label, rule, rule_version, trim_scale(confidence), evidence,
                 valid_from, valid_to, parameters FROM liq.labels) said
"""


def check(
    label: str, run: Run, connection: Connection, truth: Truth, by_days: Mapping[str, set[str]]
) -> None:
    """WrongResult where a flag of SIZE_ABS, a label of REPEAT, or whom the account days label, is
    another than the formulas say."""
    flags = Counter(Flag(*row) for row in connection.execute(FLAGS))  # type: ignore[arg-type]
    _same(f"{label}: SIZE_ABS", flags, truth.flags)
    repeated = Counter(Repeated(*row) for row in connection.execute(REPEATED))  # type: ignore[arg-type]
    _same(f"{label}: REPEAT", repeated, Counter(truth.repeated))
    found = connection.execute(BY_DAYS, (list(by_days),))
    wanted = Counter((rule, account) for rule, accounts in by_days.items() for account in accounts)
    _same(f"{label}: account days", Counter(found), wanted)
    run.checks += 1


def _same(said: str, found: Counter[Any], wanted: Counter[Any]) -> None:
    if found != wanted:
        raise WrongResult(
            f"{said}: {found.total():,} found, {wanted.total():,} by the formula; too many"
            f" {list((found - wanted).elements())[:3]}, too few"
            f" {list((wanted - found).elements())[:3]}"
        )


def standing_digest(connection: Connection) -> list[tuple[Any, ...]]:
    """Number and digest of all flags and labels that stand."""
    return connection.execute(STANDING).fetchall()


# -- the report ----------------------------------------------------------------------------------


def high(found: Sequence[float]) -> float:
    """The 95th percentile: the least that 95 % do not exceed."""
    return sorted(found)[-(-len(found) * 95 // 100) - 1]


def report(run: Run) -> str:
    """The run as Markdown."""
    new, empty, naive = (median(run.walls(label)) for label in (NEW, EMPTY, NAIVE))
    lines = [
        "# Labels: from new blocks to flags and labels",
        "",
        "Written by `python -m benchmarks.labels`; run it again instead of editing.",
        "",
        *(f"- {name}: {text}" for name, text in _circumstances(run)),
        "",
        "| | asked | found | |",
        "| --- | ---: | ---: | --- |",
        _target("labels of a new block, ms, median", ASKED_BLOCK_MS, new),
        _target("labels of a new block, ms, 95th percentile", ASKED_BLOCK_MS,
                high(run.walls(NEW))),
        _target("full rebuild, s", ASKED_REBUILD_S, max(run.walls(REBUILD)) / 1000),
        "",
        f"All {len(rules())} rules, sizes under `{sizes.DEFINITION}`. Wall time of"
        " `labels.apply` alone, until it was committed; writing the block and its values is not"
        " in it. A block is 12 liquidations of perpetuals and 2 of loans with a day of each account"
        " that lost a perpetual. Blocks that go or come late are spread over the year, each with a"
        " liquidation of 1,000,000 USD or more if its tenth of the year has one. The database was"
        " vacuumed after the rebuild. CPU is that of the whole cluster, the mean: its clock has"
        " ticks of 10 ms.",
        "",
        "| | times | median, ms | 95th percentile, ms | most, ms | Postgres CPU, ms |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        *(_row(label, results) for label, results in run.results.items()),
        "",
        f"A new block takes {new / empty:.1f} times as long as on a database that has the new"
        " blocks alone, and knows the liquidators: what rules and their statements take however"
        " little is stored. Every rule"
        f" over all accounts takes {naive / new:,.0f} times as long as looking at those of the"
        " block.",
        "",
        f"{run.checks} times what stands was compared: with the formulas in whole numbers (every"
        " flag of SIZE_ABS, every label of REPEAT with its times and dollars, every account that"
        " PEAK_POSITION, TRADED_VOLUME and ROLE_MM label), and all flags and labels with those of"
        " looking at all accounts. All equal. At the end stand"
        f" {', '.join(f'{rule} {count:,}' for rule, count in sorted(run.standing.items()))}."
        f" Load average (1 min) at the start, the most, and at the end: {run.loads[0]:.2f},"
        f" {max(run.loads):.2f}, {run.loads[-1]:.2f}.",
        "",
    ]  # fmt: skip
    return "\n".join(lines)


def _circumstances(run: Run) -> Iterator[tuple[str, str]]:
    yield "date", f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, commit {commit()}"
    yield (
        "rows",
        f"{run.rows:,} liquidations of one year, 80 % of perpetuals and 20 % of loans on"
        f" {len(VENUES)} venues, and {run.days:,} account days; {run.accounts:,} accounts. The"
        f" database takes {run.bytes_database / 1e9:.1f} GB before labels. Simulated",
    )
    cores = len(os.sched_getaffinity(0))
    yield "machine", f"{cpu_model()}, {cores} cores, {platform.system()} {platform.release()}"
    yield (
        "software",
        f"Python {platform.python_version()}, {description(run.server)}, psycopg"
        f" {version('psycopg')}; no other setting is changed",
    )


def _target(label: str, asked: int, found: float) -> str:
    return f"| {label} | < {asked} | {found:,.1f} | {'yes' if found < asked else 'NO'} |"


def _row(label: str, results: Sequence[Result]) -> str:
    walls = [result.wall for result in results]
    cpu = sum(result.server_cpu for result in results) / len(results)
    cells = (label, f"{len(walls)}", *(f"{one:,.1f}" for one in (
        median(walls), high(walls), max(walls), cpu)))  # fmt: skip
    return f"| {' | '.join(cells)} |"


# -- the command ---------------------------------------------------------------------------------


@click.command()
@click.option("--rows", type=click.IntRange(20_000), default=FULL_ROWS, help="Liquidations.")
@click.option("--blocks", type=click.IntRange(1), default=FULL_BLOCKS, help="New blocks.")
@click.option("--rounds", type=click.IntRange(1), default=1, help="Turns of each kind.")
@click.option(
    "--results", type=click.Path(path_type=Path),
    help="What to write; LABELS.md after a full run, else nothing.",
)  # fmt: skip
def main(rows: int, blocks: int, rounds: int, results: Path | None) -> None:
    """Measure, check, print and write the tables.

    Example: python -m benchmarks.labels --rows 200_000 --blocks 20
    """
    code = code_digest()
    with durable_server() as on:
        run = Run(rows, blocks, on)
        truth = truths(run)
        for _ in range(rounds):
            play_round(run, truth)
        text = report(run)
    if code_digest() != code:
        raise click.ClickException("the code changed meanwhile: the turns ran different programs")
    if results is None and rows >= FULL_ROWS and blocks >= FULL_BLOCKS:
        results = RESULTS
    if results is not None:
        results.write_text(text)
    click.echo(f"\n{text}")


if __name__ == "__main__":
    main()
