"""How fast stored liquidations are valued from stored prices.

    python -m benchmarks.values --rounds 3

Rows and prices are made in the database, all of them simulated. What is valued is compared with
sums that Python makes of the same numbers; a wrong sum ends the run with exit code 1. Linux only.
"""

import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import click
from msgspec.structs import replace

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
from indexer.chain import prices
from indexer.evm_model import Bonus, Leg
from indexer.sources.chains import BY_NAME
from indexer.sources.evm import EvmSource
from indexer.store import database, server, values
from indexer.store.database import Connection
from indexer.store.lending_values import Terms
from tests.oracle_world import (
    BLOCKS,
    LOCAL,
    LOCAL_DECODER,
    MAIN,
    ORACLE,
    PROVIDER,
    Multicalled,
    World,
    aave,
    listed,
    on_wire,
    write_wire,
)
from tests.postgres import database as fresh_database
from tests.rpc_proxy import Chain, Json, Node

RESULTS = ROOT / "benchmarks/VALUES.md"
ASKED = 100_000  # liquidations a second
ASKED_REQUESTS = Decimal("0.1")  # a liquidation, at most, where prices must be fetched
PER_BLOCK = 10
DEBTS, COLLATERALS = 4, 7
BASES = 4  # repaid, seized, seized_net, bonus
TERMS = {"aave_v3": Terms(Bonus(Decimal("0.999"), Decimal("6.5535"), "as in the venue"), "on_top")}


class Turn(NamedTuple):
    """What a round does once."""

    label: str
    run: Callable[[Connection], object]


class WrongResult(click.ClickException):
    """The values are not those of the rows."""


class Result(NamedTuple):
    """One turn measured; CPU of the whole cluster."""

    wall_seconds: float
    server_cpu_seconds: float


@dataclass
class Run:
    """Everything one run of the benchmark measured, and where."""

    rows: int
    server: server.Server
    results: dict[str, list[Result]] = field(default_factory=dict)
    prices: int = 0
    bytes_valuation: int = 0
    loads: list[float] = field(default_factory=list)
    fetched: "Fetched | None" = None

    def rates(self, label: str) -> list[float]:
        """Liquidations a second."""
        return [self.rows / one.wall_seconds for one in self.results[label]]


# -- rows and prices -----------------------------------------------------------------------------

# One pool, and as in a bad week: ten liquidations in each of the blocks, in four debts and seven
# collaterals. A debt of up to 100,003 dollars; collateral for about 5 % more.
LIQUIDATIONS = """
    INSERT INTO ledger.lending_liquidation
    SELECT 'aave_v3.ethereum', '0x' || md5(i::text) || md5('t' || i) || '/' || i %% 300,
           '0x' || md5('a' || i %% 300000) || '00000000', 20000000 + i / %(per_block)s,
           timestamptz '2024-06-01Z' + i / %(per_block)s * interval '12 seconds', 'repay_seize',
           '0x87870bca3f3fd6335c3f4ce8392d69350b4fa4e2', NULL,
           '0x' || md5('l' || i %% 100) || '00000000',
           '0x' || md5('d' || i %% %(debts)s) || '00000000', 1000000::numeric * (i %% 100003 + 1),
           '0x' || md5('c' || i %% %(collaterals)s) || '00000000',
           500000000000000::numeric * (i %% 100003 + 1), false,
           2500000000000::numeric * (i %% 100003 + 1), false, NULL, NULL, 2
    FROM generate_series(0, %(rows)s - 1) i
"""
PRICES = """
    INSERT INTO ledger.price
    SELECT venue, market, asset, block_number, -1, 'oracle',
           CASE WHEN is_debt THEN (100000000 + block_number %% 10007) * 1e-14
                ELSE (210000000000 + block_number %% 1000003) * 1e-26 END,
           'A', 'governed', ARRAY['0x54586be62e3c3580375ae3723c145253060ca0c2'], block_number,
           block_at
    FROM (
        SELECT DISTINCT l.venue, l.market, leg.asset, l.block_number, l.block_at, leg.is_debt
        FROM ledger.lending_liquidation l
        CROSS JOIN LATERAL (VALUES (repaid_asset, true), (seized_asset, false)) leg (asset, is_debt)
    ) wanted
    ORDER BY block_number
"""


def expected(rows: int) -> tuple[int, Decimal, Decimal]:
    """Number of values, dollars repaid and seized with the fee, made of whole numbers."""
    repaid = seized = 0
    for i in range(rows):
        size, block = i % 100_003 + 1, 20_000_000 + i // PER_BLOCK
        repaid += 1_000_000 * size * (100_000_000 + block % 10_007)
        seized += 502_500_000_000_000 * size * (210_000_000_000 + block % 1_000_003)
    return rows, Decimal(f"{repaid}e-14"), Decimal(f"{seized}e-26")


@contextmanager
def filled(run: Run) -> Iterator[Connection]:
    """A fresh database with rows and prices, vacuumed as it would be after a night."""
    numbers = {
        "rows": run.rows, "per_block": PER_BLOCK, "debts": DEBTS, "collaterals": COLLATERALS,
    }  # fmt: skip
    with (
        fresh_database(run.server, template=server.NAME) as conninfo,
        database.connect(conninfo) as connection,
    ):
        connection.execute(LIQUIDATIONS, numbers)
        run.prices = connection.execute(PRICES, {}).rowcount
        connection.execute("VACUUM ANALYZE")
        yield connection


# -- one round -----------------------------------------------------------------------------------


def first_pass(connection: Connection) -> object:
    """Everything is valued for the first time."""
    return values.value_all(connection, terms=TERMS, venues=["aave_v3.ethereum"])


def copy_ready(connection: Connection) -> object:
    """The same rows, ready, into the same table under the same index."""
    return connection.execute("INSERT INTO ledger.valuation SELECT * FROM public.ready")


FIRST = Turn("first pass", first_pass)
AGAIN = Turn("second pass, nothing changed", first_pass)
BARE = Turn("bare INSERT of the same rows, ready, in one transaction", copy_ready)
TURNS = (FIRST, AGAIN, BARE)


def play_round(run: Run, truth: tuple[int, Decimal, Decimal]) -> None:
    """Every turn once, on a database of its own."""
    with filled(run) as connection:
        _take(FIRST, run, connection)
        _check(FIRST, connection, truth)
        _take(AGAIN, run, connection)
        _check(AGAIN, connection, truth)
        size = "SELECT pg_total_relation_size('ledger.valuation')"
        run.bytes_valuation = int(_row(connection, size)[0])
        connection.execute("CREATE UNLOGGED TABLE public.ready AS SELECT * FROM ledger.valuation")
        connection.execute("TRUNCATE ledger.valuation")
        _take(BARE, run, connection)
        _check(BARE, connection, truth)


def _take(turn: Turn, run: Run, connection: Connection) -> None:
    connection.execute("CHECKPOINT")  # or the turn would flush what was before it
    run.loads.append(os.getloadavg()[0])
    used, began = server_cpu_seconds(run.server), time.monotonic()
    turn.run(connection)
    wall = time.monotonic() - began
    result = Result(wall, server_cpu_seconds(run.server) - used)
    run.results.setdefault(turn.label, []).append(result)
    click.echo(f"{turn.label}: {run.rows / wall:,.0f} liquidations/s")


def _check(turn: Turn, connection: Connection, truth: tuple[int, Decimal, Decimal]) -> None:
    found = _row(
        connection,
        "SELECT count(bonus_usd), sum(repaid_usd), sum(seized_usd) FROM ledger.valuation",
    )
    rest = _row(
        connection,
        "SELECT (SELECT count(*) FROM ledger.unvalued), (SELECT count(*) FROM ledger.suspect)",
    )
    if (found, rest) != (truth, (0, 0)):
        raise WrongResult(f"{turn.label}: found {found} and {rest}, the rows give {truth}")


def _row(connection: Connection, query: str) -> tuple[Any, ...]:
    found = connection.execute(query).fetchone()
    assert found is not None
    return found


# -- prices over HTTP ----------------------------------------------------------------------------


class Fetched(NamedTuple):
    """What it took to ask for the prices of a busy range."""

    liquidations: int
    blocks: int
    prices: int
    requests: int
    calls: int


class _Counted(Multicalled):
    """Counts the calls of contracts that the node is asked for, however many in a request."""

    calls = 0

    def __call__(self, call: Json, at: Json) -> str:
        self.calls += 1
        return super().__call__(call, at)


def fetch(run: Run) -> Fetched:
    """Ask a node over HTTP for prices at both ends of each block; ten liquidations a block."""
    tokens = [f"0x{number:040x}" for number in range(1, DEBTS + COLLATERALS + 1)]
    said = aave(MAIN, PROVIDER, ORACLE)
    for number, token in enumerate(tokens):
        said |= listed(ORACLE, token, 18, f"0x{0xFEED + number:040x}", lambda block: 10**8 + block)
    chain, low, high = Chain(BLOCKS), 20, 220
    with (
        fresh_database(run.server, template=server.NAME) as conninfo,
        database.connect(conninfo) as connection,
        Node(chain) as node,
        closing(EvmSource(BY_NAME["anvil"], [node.url])) as source,
    ):
        source.chain_id()
        node.eth_call = counted = _Counted(World(said), chain.blocks)  # type: ignore[method-assign, assignment]
        found = [
            replace(
                on_wire(node, block, place),
                repaid=Leg(tokens[place % DEBTS], 1),
                seized=Leg(tokens[DEBTS + place % COLLATERALS], 1),
            )
            for block in range(low, high)
            for place in range(PER_BLOCK)
        ]
        write_wire(connection, node, found)
        before = node.posts
        counts = prices.fill(connection, source, LOCAL_DECODER, [LOCAL])
        if counts["prices"] < (high - low) * (DEBTS + COLLATERALS) or counts["in_vain"]:
            raise WrongResult(f"fetched {dict(counts)}")
        return Fetched(len(found), high - low, counts["prices"], node.posts - before, counted.calls)


# -- the report ----------------------------------------------------------------------------------


def report(run: Run) -> str:
    """The run as Markdown."""
    rates, fetched = run.rates(FIRST.label), run.fetched
    assert fetched is not None
    is_met = median(rates) >= ASKED
    lines = [
        "# Values: from stored rows and prices to dollars",
        "",
        "Written by `python -m benchmarks.values`; run it again instead of editing.",
        "",
        *(f"- {name}: {text}" for name, text in _circumstances(run)),
        "",
        "| | asked | found | |",
        "| --- | ---: | ---: | --- |",
        f"| liquidations valued a second | >= {ASKED:,} | {spread(rates, ',.0f')} |"
        f" {'yes' if is_met else 'NO'} |",
        f"| HTTP requests a liquidation, prices fetched | <= {ASKED_REQUESTS} |"
        f" {fetched.requests / fetched.liquidations:.4f} |"
        f" {'yes' if fetched.requests <= ASKED_REQUESTS * fetched.liquidations else 'NO'} |",
        "",
        f"Medians of {len(rates)} rounds, in brackets the least and the most. A liquidation is one"
        f" row of `ledger.valuation`, which holds {BASES} bases with their prices; a basis is a row"
        f" of `liq.valuations`. A pass goes in parts of at most {values.ROWS_AT_ONCE:,}"
        " liquidations, each a synced transaction, with all checks for what is suspect, on two"
        " connections. CPU is that of the whole cluster.",
        "",
        "| | liquidations/s | bases/s | wall s | Postgres CPU s |",
        "| --- | ---: | ---: | ---: | ---: |",
        *(_turn_row(turn, run) for turn in TURNS),
        "",
        f"Fetched: {fetched.prices:,} prices for {fetched.liquidations:,} liquidations in"
        f" {fetched.blocks:,} blocks, each oracle asked at both ends of its block, took"
        f" {fetched.requests:,} HTTP requests with {fetched.calls:,} `eth_call`s in them, most of"
        " them a Multicall3.",
        "",
        f"{len(run.loads)} times the values were compared with sums of whole numbers, all equal:"
        " number, dollars repaid and seized, nothing unvalued and nothing suspect. Load average"
        f" (1 min) at the start, the most, and at the end:"
        f" {run.loads[0]:.2f}, {max(run.loads):.2f}, {run.loads[-1]:.2f}.",
        "",
    ]
    return "\n".join(lines)


def _circumstances(run: Run) -> Iterator[tuple[str, str]]:
    yield "date", f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, commit {commit()}"
    yield (
        "rows",
        f"{run.rows:,} liquidations of aave_v3.ethereum in {run.rows // PER_BLOCK:,} blocks, with"
        f" {run.prices:,} prices of {DEBTS + COLLATERALS} tokens; the values take"
        f" {run.bytes_valuation / 1e6:,.0f} MB with their index. Simulated",
    )
    cores = len(os.sched_getaffinity(0))
    yield "machine", f"{cpu_model()}, {cores} cores, {platform.system()} {platform.release()}"
    yield (
        "software",
        f"Python {platform.python_version()}, {description(run.server)}, psycopg"
        f" {version('psycopg')}",
    )


def _turn_row(turn: Turn, run: Run) -> str:
    rates, results = run.rates(turn.label), run.results[turn.label]
    cells = (
        turn.label,
        spread(rates, ",.0f"),
        spread([rate * BASES for rate in rates], ",.0f"),
        spread([one.wall_seconds for one in results], ".2f"),
        spread([one.server_cpu_seconds for one in results], ".2f"),
    )
    return f"| {' | '.join(cells)} |"


# -- the command ---------------------------------------------------------------------------------


@click.command()
@click.option("--rows", default=1_000_000, help="Liquidations.")
@click.option("--rounds", type=click.IntRange(1), default=3, help="Turns of each kind.")
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS, help="What to write.")
def main(rows: int, rounds: int, results: Path) -> None:
    """Measure, check, print and write the tables.

    Example: python -m benchmarks.values --rows 100_000 --rounds 1
    """
    code, truth = code_digest(), expected(rows)
    with durable_server() as on:
        run = Run(rows, on)
        for _ in range(rounds):
            play_round(run, truth)
        run.fetched = fetch(run)
        text = report(run)
    if code_digest() != code:
        raise click.ClickException("the code changed meanwhile: the turns ran different programs")
    results.write_text(text)
    click.echo(f"\n{text}")


if __name__ == "__main__":
    main()
