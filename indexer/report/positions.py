"""Open positions of watched accounts, on the terminal, in Markdown and in JSON."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Context, Decimal
from typing import NamedTuple

import msgspec
from rich.console import Console
from rich.markup import escape

from indexer.report.markdown import plain, table_header, table_row
from indexer.report.terminal import plain_table
from indexer.report.text import ABSENT, clean, clock, count_of, moment, percent, short, usd
from indexer.store import positions
from indexer.store.database import Connection
from indexer.store.positions import Shown, Summary

Row = Sequence[str]

_TEN_DIGITS = Context(prec=10)

WHAT = (
    "under water: an open position with a loss that is not realised; a loan has none",
    "distance: the share of the mark price, or of a loan's collateral, that may be lost until"
    " liquidation is due",
    "at risk: still there, and closer than 5 %",
    "liquidated: a stored liquidation left nothing of it; closed: stored liquidations are whole and"
    " did not end it; gone: not there any more, and the ledger cannot tell why; stale: nobody"
    " looked for over an hour",
)


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
    for name, columns, rows in _tables(report):
        console.print()
        console.print(f"[bold]{name}[/]")
        table = plain_table("account", *columns)
        for account, *cells in rows:
            table.add_row(*(escape(clean(cell)) for cell in (short(account), *cells)))
        console.print(table)
    console.print()
    for text in WHAT:
        console.print(escape(text), style="dim", soft_wrap=True)


def to_markdown(report: Report) -> str:
    """The same as tables of Markdown, with whole addresses."""
    lines = ["# Watched positions", "", *(f"- {plain(text)}" for text in _head(report))]
    for name, columns, rows in _tables(report):
        lines += ["", f"## {name}", "", *table_header("account", *columns)]
        lines += [table_row(map(plain, row)) for row in rows]
    return "\n".join([*lines, "", *(f"- {plain(text)}" for text in WHAT), ""])


def to_json(report: Report) -> str:
    """Everything, decimals as text."""
    data = {
        "as_of": report.as_of,
        "summary": report.summary._asdict(),
        **{
            name: [one._asdict() for one in getattr(report, name)]
            for name in ("under_water", "closest", "ended")
        },
    }
    return msgspec.json.format(msgspec.json.encode(data), indent=2).decode()


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


def _tables(report: Report) -> Iterable[tuple[str, Row, list[Row]]]:
    if report.under_water:
        yield "Whales under water", (
            "what", "unrealised", "value", "entry", "mark", "liquidation", "leverage", "distance",
            "seen, UTC",
        ), [
            (
                one.account, _what(one), usd(one.unrealised_usd), usd(one.value_usd),
                _number(one.entry_price), _number(one.mark_price), _number(one.liquidation_price),
                _number(one.leverage), _share(one.distance), clock(one.observed_at),
            )
            for one in report.under_water
        ]  # fmt: skip
    if report.closest:
        yield "Closest to liquidation", (
            "what", "distance", "", "mark", "liquidation", "health", "value", "debt", "seen, UTC",
        ), [
            (
                one.account, _what(one), _share(one.distance), "at risk" if one.is_at_risk else "",
                _number(one.mark_price), _number(one.liquidation_price),
                _number(one.health_factor), usd(one.value_usd), usd(one.debt_usd),
                clock(one.observed_at),
            )
            for one in report.closest
        ]  # fmt: skip
    if report.ended:
        yield "Not there any more, or not looked at", (
            "what", "status", "liquidations", "value", "seen, UTC", "not there, UTC",
        ), [
            (
                one.account, _what(one), one.status,
                ABSENT if one.liquidations is None else f"{one.liquidations:,}",
                usd(one.value_usd), clock(one.observed_at),
                clock(one.gone_at) if one.gone_at else ABSENT,
            )
            for one in report.ended
        ]  # fmt: skip


def _what(one: Shown) -> str:
    """`BTC long`, with the venue of a loan in the place of its pool."""
    return f"{one.market} {one.side}" if one.side else f"loan on {one.venue}"


def _share(part: Decimal | None) -> str:
    return ABSENT if part is None else percent(part, Decimal(1))


def _number(value: Decimal | None) -> str:
    """To ten digits, without zeros at the end or an exponent."""
    return ABSENT if value is None else f"{_TEN_DIGITS.normalize(value):f}"
