"""Open positions of watched accounts, on the terminal, in Markdown and in JSON."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec
from rich.console import Console
from rich.markup import escape

from indexer.report.markdown import plain, table_header, table_row
from indexer.report.terminal import show
from indexer.report.text import clean, count_of, moment
from indexer.report.watched import WHAT, tables
from indexer.store import positions
from indexer.store.database import Connection
from indexer.store.positions import Shown, Summary


class Report(NamedTuple):
    """How watched positions stood `as_of`, and at most so many of each kind."""

    as_of: datetime
    summary: Summary
    under_water: list[Shown]
    closest: list[Shown]
    ended: list[Shown]


def collect(connection: Connection, top: int) -> Report:
    """As of now."""
    return Report(
        datetime.now(UTC),
        positions.summary(connection),
        positions.under_water(connection, top),
        positions.closest(connection, top),
        positions.ended(connection, top),
    )


def to_terminal(report: Report, console: Console) -> None:
    """Tables between lines of text; hostile words are escaped."""
    for text in _head(report):
        console.print(escape(clean(text)), soft_wrap=True)
    for table in tables(report.under_water, report.closest, report.ended):
        show(table, console)
    console.print()
    for text in WHAT:
        console.print(escape(text), style="dim", soft_wrap=True)


def to_markdown(report: Report) -> str:
    """The same as tables of Markdown, with whole addresses."""
    lines = ["# Watched positions", "", *(f"- {plain(text)}" for text in _head(report))]
    for name, columns, rows in tables(report.under_water, report.closest, report.ended):
        lines += ["", f"## {name}", "", *table_header("account", *columns)]
        lines += [table_row(map(plain, row)) for row in rows]
    return "\n".join([*lines, "", *(f"- {plain(text)}" for text in WHAT), ""])


def to_json(report: Report) -> str:
    """Everything, decimals as text."""
    data = {
        "as_of": report.as_of,
        "summary": report.summary._asdict(),
        **dict(kinds(report)),
    }
    return msgspec.json.format(msgspec.json.encode(data), indent=2).decode()


def kinds(report: Report) -> list[tuple[str, list[Shown]]]:
    """The positions by what they are shown for."""
    return [
        ("under_water", report.under_water), ("closest", report.closest), ("ended", report.ended),
    ]  # fmt: skip


def _head(report: Report) -> Iterable[str]:
    stand = report.summary
    if stand.observed_at is None:
        yield "nothing was observed yet: indexer watch --once"
        return
    yield f"last look {moment(stand.observed_at)}"
    yield (
        f"{count_of(stand.open, 'position')} open, {stand.under_water:,} of them under water,"
        f" {stand.at_risk:,} at risk"
    )
    yield (
        f"{stand.liquidated:,} liquidated, {stand.closed:,} closed, {stand.gone:,} gone,"
        f" {stand.stale:,} stale"
    )
