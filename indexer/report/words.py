"""The sentences that all formats of the report share."""

import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from indexer.report.text import ABSENT, clean, count_of, exact, listed, moment, round_usd, usd
from indexer.report.whales import Decoders, Largest, Line, Unpriced, WhaleReport

SIMULATED = "SIMULATED DATA"
SIMULATED_WHY = "made by a simulator: none of these accounts, trades and liquidations ever existed"
WATCHED = "Open positions of watched accounts as they were last seen, whatever the window."
UNCHANGED = (
    "Money is the same at every level; only counts and the largest single change with the level."
)
_NUMBER = re.compile(r"-?[0-9]{1,30}(\.[0-9]{1,30})?")
# What a row is called where people read it; anything else is shown as it is stored.
NAMES = {
    "user": "all users",
    "market": "market (book or pool)",
    "backstop": "backstop (taken over)",
    "adl_of_user": "ADL of users",
    "protocol_vault": "protocol vaults",
    "borrow": "borrow liquidations",
    "borrow_partial": "borrow, partial",
    "borrow_backstop": "borrow, backstop",
}
SHORT_NAMES = NAMES | {"market": "market", "backstop": "backstop", "adl_of_user": "ADL"}


def name_of(line: str) -> str:
    return NAMES.get(line, clean(line))


def short_name_of(line: str) -> str:
    return SHORT_NAMES.get(line, clean(line))


def threshold(value: Decimal) -> str:
    """`≥ $10M`."""
    return f"≥ {round_usd(value)}"


def window(report: WhaleReport) -> str:
    """Both bounds to the last digit; the second is not inside."""
    return f"from {exact(report.window_from)} up to, not including, {exact(report.window_to)}"


def as_of(report: WhaleReport) -> str:
    """How far every venue was read, and when the database was asked."""
    blocks = ", ".join(
        f"{clean(reach.venue)} block {reach.last_block:,} of {exact(reach.last_at)}"
        for reach in report.as_of
    )
    return f"{blocks}; database read {moment(report.read_at)}"


def definition(report: WhaleReport) -> str:
    """Which definition the total is of, and whether this is just it."""
    said = report.methodology
    departs = f", but for its {' and '.join(said.departs)}" if said.departs else ""
    return f"{said.id}, hash {said.hash}{departs}"


def verdict(report: WhaleReport) -> str:
    return "complete" if report.coverage.is_complete else "not complete"


def coverage(report: WhaleReport) -> str:
    """The counts behind the verdict, whether good or bad."""
    found = report.coverage
    level = {
        "every_height": "every height seen",
        "fills_only": "source without empty blocks",
    }
    levels = ", ".join(level.get(name, name) for name in found.verifications) or "none"
    return (
        f"{count_of(found.blocks, 'block')} read in {count_of(len(found.covered), 'range')},"
        f" {found.missing_blocks:,} missing, {count_of(found.undecoded_events, 'undecoded event')},"
        f" verification: {levels}"
    )


def notes(report: WhaleReport) -> list[str]:
    """What a reader must know before adding the numbers up, or nothing."""
    lines = (report.total, *report.apart)
    return [
        *(_unpriced(row) for row in report.unpriced),
        *(
            f"{name_of(line.name)}: {count_of(line.without_mark, 'fill')} without a mark price,"
            " left out of the mark notional"
            for line in lines
            if line.without_mark
        ),
        *(
            f"{name_of(line.name)}: {count_of(line.without_pnl, 'fill')} without the account's own"
            " leg, left out of the realised PnL"
            for line in lines
            if line.without_pnl
        ),
    ]


def _unpriced(row: Unpriced) -> str:
    token = f"in {clean(row.quote)}" if row.quote else "in an unknown token"
    return (
        f"{name_of(row.line)}: {count_of(row.fills, 'fill')} {token} without a dollar value,"
        f" notional {row.notional:,f}, counted in no dollar column"
    )


def counts(line: Line) -> str:
    return (
        f"{count_of(line.fills, 'fill')} · {count_of(line.orders, 'order')}"
        f" · {count_of(line.actions, 'action')} · {count_of(line.episodes, 'episode')}"
    )


def where(row: Largest) -> str:
    """`ETH long`, with at most three markets."""
    return f"{listed(row.markets)} {'/'.join(row.sides)}"


def methods(names: Iterable[str]) -> str:
    """In the order in which they came."""
    return " → ".join(map(short_name_of, names))


def facts(evidence: dict[str, Any]) -> list[tuple[str, str]]:
    """Evidence as name and value; a list of keys is counted, its members are in the JSON."""
    return [
        (clean(name).removesuffix("_usd").replace("_", " "), _fact(name, value))
        for name, value in evidence.items()
    ]


def _fact(name: str, value: Any) -> str:
    if isinstance(value, list | dict):
        return f"{len(value)} listed"
    if name.endswith("_usd") and _NUMBER.fullmatch(str(value)):
        return usd(Decimal(str(value)))
    return ABSENT if value is None else clean(str(value))


def whales_line(report: WhaleReport) -> str:
    """How many labelled accounts are shown, and how many exist beside them."""
    others = report.whales_labelled - report.whales_active
    hidden = report.whales_active - len(report.whales)
    shown = f"; the largest {len(report.whales)} are shown" if hidden else ""
    return (
        f"{count_of(report.whales_active, 'labelled account')} liquidated in the window{shown};"
        f" {others:,} more labelled whale, not liquidated in it"
    )


def number(value: Decimal) -> str:
    """`0.9`, without trailing zeros or an exponent."""
    return f"{value:f}".rstrip("0").rstrip(".") if value % 1 else f"{value:.0f}"


def versions(made: Decoders) -> str:
    """`version 1`, `versions 1, 2`."""
    noun = "version" if len(made.versions) == 1 else "versions"
    return f"{noun} {', '.join(map(str, made.versions))}"
