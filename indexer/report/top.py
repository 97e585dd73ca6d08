"""One frame of the live view: as many rows and columns as the terminal has room for."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from indexer.report.text import (
    ABSENT,
    clean,
    clock,
    compact_usd,
    count_of,
    percent,
    short,
    usd,
)
from indexer.store.now import Lag, Newest, Sum

WIDE, MIDDLE = 110, 70  # columns from which there is room for more
LATE = timedelta(minutes=15)
_LAGS_SHOWN = 5
_NEWEST_KEPT = 5  # rows of the newest that lags never take the place of
_AROUND = 8  # lines that are neither


class Frame(NamedTuple):
    """What is shown at a moment; `fault` says what could not be read since."""

    at: datetime
    definition: str
    reached: datetime | None
    newest: Sequence[Newest]
    sums: Sequence[Sum]
    lags: Sequence[Lag]
    fault: str | None = None


def drawn(frame: Frame, width: int, height: int | None) -> RenderableType:
    """The frame, cut to so many lines; whole without a height."""
    parts = [_head(frame, width), _sums(frame, width)]
    if not frame.lags:
        if not frame.fault:  # who could not look does not know
            parts.append(Text("nothing is indexed yet: indexer backfill"))
        return Group(*parts)
    room = None if height is None else max(height - _AROUND - len(frame.sums), 2)
    lags = frame.lags if room is None else frame.lags[: _lines_of_lags(room)]
    newest = frame.newest if room is None else frame.newest[: max(room - len(lags), 1)]
    return Group(*parts, Text(), _newest(newest, width), Text(), _lags(lags, frame, width))


def _lines_of_lags(room: int) -> int:
    return max(min(_LAGS_SHOWN, room - _NEWEST_KEPT), 1)


def _head(frame: Frame, width: int) -> Text:
    reached = f"read up to {clock(frame.reached)}" if frame.reached else "nothing read"
    head = Text("indexer top", "bold", no_wrap=True, overflow="ellipsis")
    head.append(f"  {clock(frame.at)} UTC  {reached}", "not bold")
    if width >= WIDE:
        head.append(f"  definition {clean(frame.definition)}   q ends", "not bold")
    if frame.fault:
        head.append(f"\n{clean(frame.fault)}", "bold red")
    late = sum(one.lag_s > LATE.total_seconds() for one in frame.lags)
    stopped = [one.venue for one in frame.lags if one.is_stopped]
    said = [f"{count_of(late, 'venue')} more than {LATE.seconds // 60} min behind"] if late else []
    said += [f"stopped: {', '.join(map(clean, stopped[:3]))}"] if stopped else []
    if said:
        head.append(f"\n{'; '.join(said)}", "yellow")
    return head


def _table(*columns: str, right: Sequence[str] = ()) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for name in columns:
        table.add_column(
            name, justify="right" if name in right else "left", no_wrap=True, overflow="ellipsis"
        )
    return table


def _sums(frame: Frame, width: int) -> RenderableType:
    money = usd if width >= WIDE else compact_usd
    numbers = ("liquidated", "long", "rows", "accounts")
    table = _table("last", *numbers, right=numbers)
    for one in frame.sums:
        whole = (one.long_usd or Decimal(0)) + (one.short_usd or Decimal(0))
        table.add_row(
            f"{one.hours} h", money(one.usd), percent(one.long_usd or Decimal(0), whole),
            f"{one.records:,}", ABSENT if one.accounts is None else f"{one.accounts:,}",
        )  # fmt: skip
    return table


def _newest(rows: Sequence[Newest], width: int) -> Table:
    columns = ["UTC", "USD", "what", "venue", "account"]
    if width < MIDDLE:
        columns = ["UTC", "USD", "what"]
    elif width >= WIDE:
        columns = ["UTC", "USD", "what", "how", "venue", "account"]
    table = _table(*columns, right=("USD",))
    for row in rows:
        cells = dict(_cells(row, width))
        table.add_row(*(Text(clean(cells[name]), _style(row, name)) for name in columns))
    return table


def _cells(row: Newest, width: int) -> Iterator[tuple[str, str]]:
    yield "UTC", f"{row.block_at.astimezone(UTC):%H:%M:%S}"
    yield "USD", usd(row.usd) if width >= WIDE else compact_usd(row.usd)
    yield "what", f"{row.side or 'loan'} {_market(row)}"
    yield "how", row.method
    yield "venue", row.venue
    yield "account", f"{short(row.account)} {', '.join(row.labels)}".rstrip()


def _market(row: Newest) -> str:
    """The address of a loan's market says less than its venue."""
    return short(row.market) if row.side is None else row.market


def _style(row: Newest, column: str) -> str:
    if column == "account" and "whale" in row.labels:
        return "bold magenta"
    return {"long": "red", "short": "green"}.get(row.side or "", "") if column == "what" else ""


def _lags(rows: Sequence[Lag], frame: Frame, width: int) -> Table:
    columns = ["venue", "behind", "missing", "undecoded"]
    table = _table(*columns, right=columns[1:])
    for row in rows:
        is_late = row.is_stopped or row.lag_s > LATE.total_seconds()
        behind = "stopped" if row.is_stopped else str(timedelta(seconds=max(row.lag_s, 0)))
        table.add_row(
            Text(clean(row.venue)), Text(behind, "yellow" if is_late else ""),
            f"{row.missing:,}", f"{row.undecoded:,}",
        )  # fmt: skip
    rest = len(frame.lags) - len(rows)
    if rest:
        table.add_row(Text(f"and {count_of(rest, 'venue')} that are less behind", "dim"))
    return table
