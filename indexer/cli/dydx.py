"""The verbs on dYdX v4: which node, which heights; everything else is called."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.markup import escape

from indexer import settings
from indexer.cli.chains import Budget, progress_of
from indexer.cli.console import connected, err, fail, fault, out, say, usage
from indexer.store import rollups, status
from indexer.store.database import Connection, connect_briefly, conninfo_of

if TYPE_CHECKING:
    from indexer.sources.dydx import DydxNode

# What reaches web3 is imported where it is needed: that takes a second, and most commands do not.

VENUE = "dydx_v4"
NAMES = ("dydx", VENUE)
SHOWN = 20  # faults, holes and differences


def is_meant(venues: Sequence[str]) -> bool:
    """Whether a command is about dYdX, which has a node of its own kind."""
    if not set(NAMES) & set(venues):
        return False
    if len(venues) > 1:
        raise usage(f"{VENUE} is read from a node of its own kind: give it a command of its own")
    return True


@contextmanager
def _node(connection: Connection, rpc: Sequence[str], budget: Budget) -> Iterator["DydxNode"]:
    from indexer.chain.told import Teller
    from indexer.sources.dydx import DydxNode
    from indexer.sources.endpoints import Budget as EndpointBudget

    urls = rpc or settings.read().endpoints("dydx")
    limits = EndpointBudget(budget.per_second, budget.per_day)
    conninfo = conninfo_of(connection)
    with (
        closing(DydxNode(urls, budget=limits)) as node,
        closing(Teller("dydx", node.all, lambda: connect_briefly(conninfo))),
    ):
        yield node


def backfill(
    low: int, high: int, rpc: Sequence[str], budget: Budget, *, with_values: bool = True
) -> None:
    """Index blocks of the chain and value what is new; exits with 1 where heights are missing."""
    from indexer import dydx

    with connected() as connection, _node(connection, rpc, budget) as node:
        with progress_of(VENUE) as progress:
            tally = dydx.backfill(connection, node, low, high, progress=progress)
        if with_values and tally.since is not None:
            dydx.value(connection, tally.since)
            rollups.refresh(connection, now=datetime.now(UTC))
        missing = _missing(connection, low, high)
    counts = tally.counts
    out.print(
        f"{VENUE}: {counts['blocks']:,} new blocks, {counts['liquidations']:,} liquidations,"
        f" {counts['undecoded']:,} undecoded, {counts['settlements']:,} final settlements left out"
    )
    if tally.gone:
        say(f"{VENUE}: {_blocks(*tally.gone)} are gone from this node: give one that keeps history")
    if tally.not_there:
        say(f"{VENUE}: {_blocks(*tally.not_there)} are not there yet: indexer follow dydx")
    _show("fault", [*map(str, tally.faults), *missing])
    if tally.faults or tally.gone or missing:
        sys.exit(1)


def _missing(connection: Connection, low: int, high: int) -> list[str]:
    return [str(hole) for hole in status.holes(connection, low=low, high=high)
            if hole.venue == VENUE]  # fmt: skip


def _blocks(low: int, high: int) -> str:
    return f"{high - low:,} blocks {low} to {high - 1}"


def _show(word: str, lines: Sequence[str]) -> None:
    for line in lines[:SHOWN]:
        if word == "fault":
            fault(line)
        else:
            err.print(f"[bold red]{word}:[/] {escape(line)}", soft_wrap=True)
    if len(lines) > SHOWN:
        say(f"and {len(lines) - SHOWN} more")


def follow(rpc: Sequence[str], budget: Budget, is_over: Callable[[], bool]) -> None:
    """Index what the chain adds until asked to stop; exits with 1 where heights were left out."""
    from indexer import dydx

    with connected() as connection, _node(connection, rpc, budget) as node:
        say(f"following {VENUE}; stop with Ctrl-C")
        tally = dydx.follow(connection, node, is_over=is_over, say=say)
    if tally.faults:
        fail(f"stopped; {len(tally.faults)} faults on the way, see above and indexer status")


def check(last: int, api_url: str | None) -> None:
    """Compare the newest covered blocks with the public indexer; exits with 1 where they differ."""
    from indexer import dydx
    from indexer.sources.dydx_api import URL, DydxApi
    from indexer.store import ledger

    with connected() as connection, closing(DydxApi(api_url or URL)) as api:
        covered = ledger.covered(connection, VENUE, "liquidations")
        if not covered:
            fail("nothing is indexed yet: indexer backfill dydx --from HEIGHT --to HEIGHT")
        high = covered[-1][1]
        found = dydx.compare(connection, api, max(high - last, covered[0][0]), high)
    out.print(
        f"{VENUE}: {found.trades:,} forced fills of the API and {found.rows:,} rows compared,"
        f" {found.settlements:,} final settlements left out, {len(found.differences):,} differ"
    )
    _show("differs", found.differences)
    if found.differences:
        sys.exit(1)
