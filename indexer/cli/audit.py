"""The verb on proofs: which venues, which window; everything else is called."""

import sys
from collections.abc import Sequence
from datetime import datetime
from decimal import ROUND_DOWN, Decimal
from typing import Any, Protocol

import click
import msgspec
from rich.markup import escape
from rich.table import Table

from indexer import sync
from indexer.cli import chains, completion, dydx
from indexer.cli.console import Moment, connected, err, out
from indexer.cli.shown import Listing, formatted, show_all
from indexer.decode import Decoder, layouts
from indexer.evm_model import EventMap, PerpMap, SiblingMap
from indexer.store import proof, rollups
from indexer.store.database import Connection
from indexer.store.proof import Audit, Checked, Covering, Hole, Run, Topics, Violation

SHOWN = 20  # holes, and violations, of a venue


class Window(click.ParamType[tuple[datetime, datetime]]):
    """Two UTC times as FROM..TO, the second itself outside."""

    name = "window"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[datetime, datetime]:
        if isinstance(value, tuple):
            return value
        begin, dots, end = value.partition("..")
        if not dots:
            self.fail(f"{value!r} is no window; write 2025-10-10..2025-10-11", param, ctx)
        low, high = Moment().convert(begin, param, ctx), Moment().convert(end, param, ctx)
        if low >= high:
            self.fail(f"{value!r} ends before it begins", param, ctx)
        return low, high


@click.command()
@click.argument("venues", nargs=-1, metavar="[VENUE...]", shell_complete=completion.venues)
@click.option(
    "--window", type=Window(), metavar="FROM..TO",
    help="Block times, UTC, the end itself outside; by default all that is stored.",
)  # fmt: skip
@formatted()
def audit(venues: tuple[str, ...], window: tuple[datetime, datetime] | None, form: str) -> None:
    """Say what was read of a window and how that is known, try the invariants that prove it from
    the data itself, and print a hash of the content.

    A VENUE is hyperliquid, dydx_v4, a protocol on a chain as aave_v3.ethereum, or a chain; all that
    is indexed where none is named. Violations are kept in the view liq.violations until an audit of
    their time no longer finds them. Where no VENUE is named, stored totals of days are compared
    with the rows as well. Exits with 1 when any differs, and at a violation or a hole.

    Example: indexer audit hyperliquid

    Example: indexer audit hyperliquid --window 2025-10-27T23:30..2025-10-28
    """
    of_no_chain = [one for one in (sync.VENUE, dydx.VENUE) if one in venues]
    chosen = chains.choose([name for name in venues if name not in of_no_chain])
    with connected() as connection:
        names = [name for of_chain in chosen.venues.values() for name in of_chain]
        names += of_no_chain
        if not venues:
            names = proof.venues(connection)
        if not names and form == "table":
            out.print("nothing is indexed yet: indexer backfill")
        told: Told = _Told() if form == "table" else _Listed()
        sound = [_audit(connection, chosen.decoder, name, window, told) for name in names]
        if not venues:
            days = rollups.compare(connection, *(window or ()))
            told.days(days)
            sound.append(not any(one.differs for one in days))
    if isinstance(told, _Listed):
        show_all(told.listings(), form)
    if not all(sound):
        sys.exit(1)


def _audit(
    connection: Connection,
    decoder: Decoder,
    venue: str,
    window: tuple[datetime, datetime] | None,
    told: "Told",
) -> bool:
    """Audit one venue and tell it; gives whether there is neither a hole nor a violation."""
    between = window or proof.extent(connection, venue)
    if between is None:
        err.print(f"{venue}: nothing is covered")
        return False
    is_known = venue in decoder.venues()
    first_block = decoder.since(venue) if is_known else None
    covering = proof.covered(connection, venue, *between, first_block)
    topics = _topics(decoder, venue) if is_known else Topics()
    low, high = window or (None, None)
    found = proof.audit(connection, venue, low, high, topics)
    is_sound = not any(one.violated for one in found.checked)
    violations = [] if is_sound else proof.violations(connection, venue, low, high, SHOWN)
    told.venue(covering, found, violations)
    return covering.is_whole and is_sound


def _topics(decoder: Decoder, venue: str) -> Topics:
    uses = [
        (layout.topic0, use)
        for contract in decoder.spec_of(venue).contracts.values()
        for layout, use in layouts(contract)
    ]
    return Topics(
        [topic for topic, use in uses if isinstance(use, EventMap | PerpMap)],
        [topic for topic, use in uses if isinstance(use, SiblingMap) and not use.is_candidate],
        [topic for topic, use in uses if isinstance(use, SiblingMap) and use.is_candidate],
    )


def _percent(share: Decimal) -> str:
    """Rounded down: 100 % is said of nothing less."""
    return f"{(share * 100).quantize(Decimal('0.0001'), ROUND_DOWN)} %"


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S.%f}"


def _blocks(begin: int | None, end: int | None) -> str:
    if begin is None:
        return "no block is covered" if end is None else f"blocks before {end}"
    if end is None:
        return f"blocks from {begin} on"
    return f"block {begin}" if end - begin == 1 else f"{end - begin:,} blocks {begin} to {end - 1}"


class Told(Protocol):
    """Who is told what was found."""

    def venue(self, covering: Covering, found: Audit, violations: Sequence[Violation]) -> None: ...

    def days(self, found: Sequence[rollups.Compared]) -> None: ...


class _Told:
    """Prints it at once: an audit takes its time."""

    def venue(self, covering: Covering, found: Audit, violations: Sequence[Violation]) -> None:
        _show_covering(covering)
        _show_audit(found)
        for one in violations:
            out.print(escape(f"  {one.invariant} {one.subject}: {one.detail}"), soft_wrap=True)
        if violations:
            out.print("  all of them: select * from liq.violations")

    def days(self, found: Sequence[rollups.Compared]) -> None:
        wrong = [one for one in found if one.differs]
        if found:
            out.print(f"[bold]totals of days[/]: {len(found):,} compared, {len(wrong):,} differ")
        for one in wrong:
            out.print(escape(f"  {one.definition} {one.day}: {', '.join(one.differs)}"))
        if wrong:
            out.print(
                "  delete from ledger.rolled_day forgets them; indexer value makes them again"
            )


class _Listed:
    """Keeps it as rows of each kind."""

    def __init__(self) -> None:
        self._rows: dict[str, list[tuple[Any, ...]]] = {name: [] for name in _OF_AUDIT}

    def venue(self, covering: Covering, found: Audit, violations: Sequence[Violation]) -> None:
        name, add = covering.venue, self._rows
        add["venues"].append((
            name, covering.low, covering.high, covering.is_whole, covering.share, found.records,
            f"{found.digest}", found.undecoded, found.quarantined,
        ))  # fmt: skip
        add["read"] += [(name, *msgspec.structs.astuple(one)) for one in covering.runs]
        add["holes"] += [(name, *msgspec.structs.astuple(one)) for one in covering.holes]
        add["invariants"] += [(name, *msgspec.structs.astuple(one)) for one in found.checked]
        add["violations"] += [(name, *msgspec.structs.astuple(one)) for one in violations]

    def days(self, found: Sequence[rollups.Compared]) -> None:
        self._rows["days"] += [(one.definition, one.day, list(one.differs)) for one in found]

    def listings(self) -> list[Listing]:
        """What was kept."""
        return [
            Listing(name, {column: column for column in columns}, self._rows[name])
            for name, columns in _OF_AUDIT.items()
        ]


_OF_AUDIT = {
    "venues": ("venue", "low", "high", "is_whole", "share", "records", "digest", "undecoded",
               "quarantined"),
    "read": ("venue", *Run.__struct_fields__),
    "holes": ("venue", *Hole.__struct_fields__),
    "invariants": ("venue", *Checked.__struct_fields__),
    "violations": ("venue", *Violation.__struct_fields__),
    "days": ("definition", "day", "differs"),
}  # fmt: skip


def _show_covering(found: Covering) -> None:
    part = f"{_percent(found.share)} of the time, holes: {len(found.holes)}"
    whole = "whole" if found.is_whole else part
    between = f"{_time(found.low)} to {_time(found.high)} UTC"
    out.print(f"[bold]{found.venue}[/] {between}: {whole}", soft_wrap=True)
    for run in found.runs:
        out.print(
            f"  read: {_blocks(run.block_from, run.block_to)}, {_time(run.first_at)} to"
            f" {_time(run.last_at)}, {', '.join(run.verifications)}",
            soft_wrap=True,
        )
    for hole in found.holes[:SHOWN]:
        between = f"{_time(hole.low)} to {_time(hole.high)}"
        out.print(f"  hole: {_blocks(hole.block_from, hole.block_to)}, {between}", soft_wrap=True)
    if len(found.holes) > SHOWN:
        out.print(f"  and {len(found.holes) - SHOWN} more holes")


def _show_audit(found: Audit) -> None:
    out.print(f"  content: {found.records:,} records, hash {found.digest}")
    out.print(f"  undecoded {found.undecoded:,}, quarantined on the chain {found.quarantined:,}")
    table = Table("invariant", "checked", "violated", box=None, padding=(0, 2))
    for one in found.checked:
        table.add_row(one.invariant, f"{one.units:,}", f"{one.violated:,}")
    out.print(table)
