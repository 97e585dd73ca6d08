"""Where the bars of a chart stand, in per cent of its box; no colours, no markup."""

from datetime import datetime, timedelta
from decimal import ROUND_CEILING, Decimal
from typing import NamedTuple

from indexer.methodology.prose import Language
from indexer.report.text import compact_zh, round_usd
from indexer.report.whales import Bar, Chart

# From the axis upwards; what hangs below the axis is no user's money.
UP = ("market", "backstop", "adl", "lending", "other")
DOWN = "protocol_vault"
_HAIRLINE = Decimal("0.5")  # a bar that is there can be seen
_STEPS = (Decimal(1), Decimal(2), Decimal("2.5"), Decimal(5), Decimal(10))


class Rect(NamedTuple):
    """A piece of a bar; `kind` is one of UP, or DOWN."""

    kind: str
    x: Decimal
    y: Decimal
    width: Decimal
    height: Decimal


class Column(NamedTuple):
    """One bucket of time with what was liquidated in it, by kind."""

    begins: datetime
    ends: datetime
    usd: dict[str, Decimal]
    rects: tuple[Rect, ...]


class Tick(NamedTuple):
    """A label on an axis, at `percent` from the top or the left."""

    percent: Decimal
    text: str


class Drawing(NamedTuple):
    """All that a renderer needs; `zero` is where the axis lies, in per cent from the top."""

    columns: tuple[Column, ...]
    zero: Decimal
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]
    unread: tuple[Rect, ...]

    @property
    def kinds(self) -> list[str]:
        """Those that there are, in the order in which they are stacked."""
        found = {kind for column in self.columns for kind in column.usd}
        return [kind for kind in (*UP, DOWN) if kind in found]

    @property
    def highest(self) -> Column | None:
        """The bucket with most above the axis."""
        return max(self.columns, key=lambda column: above(column.usd), default=None)


def draw(chart: Chart, *, asset: str | None = None, language: Language = "en") -> Drawing:
    """The stacked bars of all assets together, or of what counts of one."""
    bars = [bar for bar in chart.bars if bar.asset == asset]
    stacks = _stacks(bars)
    high = max((above(usd) for usd in stacks.values()), default=Decimal(0))
    low = max((usd.get(DOWN, Decimal(0)) for usd in stacks.values()), default=Decimal(0))
    step = round_step(high)
    top = (high / step).to_integral_value(ROUND_CEILING) * step or Decimal(1)
    bottom = max(low, top / 14) if low else Decimal(0)
    scale = 100 / (top + bottom)
    zero = top * scale
    return Drawing(
        tuple(_column(chart, at, usd, zero, scale) for at, usd in sorted(stacks.items())),
        to_hundredths(zero),
        _times(chart, language),
        tuple(
            Tick(to_hundredths(zero - level * step * scale), _money(level * step, language))
            for level in range(int(top / step) + 1)
        ),
        tuple(_stretch(chart, begins, ends) for begins, ends in chart.unread),
    )


def _stacks(bars: list[Bar]) -> dict[datetime, dict[str, Decimal]]:
    stacks: dict[datetime, dict[str, Decimal]] = {}
    for bar in bars:
        usd = stacks.setdefault(bar.at, {})
        usd[bar.kind] = usd.get(bar.kind, Decimal(0)) + bar.usd
    return stacks


def above(usd: dict[str, Decimal]) -> Decimal:
    """What counts of a bucket."""
    return sum((usd.get(kind, Decimal(0)) for kind in UP), Decimal(0))


def round_step(high: Decimal) -> Decimal:
    """A round number of which the highest bar has at most five."""
    if not high:
        return Decimal(1)
    rough = high / 5
    power = Decimal(1).scaleb(rough.adjusted())
    return next(step * power for step in _STEPS if step * power >= rough)


def _column(
    chart: Chart, at: datetime, usd: dict[str, Decimal], zero: Decimal, scale: Decimal
) -> Column:
    ends = at + chart.bucket
    left, right = _across(chart, at), _across(chart, ends)
    gap = (right - left) / 8
    rects, y = [], zero
    for kind in UP:
        if usd.get(kind):
            height = max(usd[kind] * scale, _HAIRLINE)
            y -= height
            rects.append(box(kind, left + gap, y, right - left - 2 * gap, height))
    if usd.get(DOWN):
        height = max(usd[DOWN] * scale, _HAIRLINE)
        rects.append(box(DOWN, left + gap, zero, right - left - 2 * gap, height))
    return Column(at, ends, usd, tuple(rects))


def _stretch(chart: Chart, begins: datetime, ends: datetime) -> Rect:
    left = _across(chart, begins)
    width = max(_across(chart, ends) - left, _HAIRLINE)
    return box("unread", left, Decimal(0), width, Decimal(100))


def box(kind: str, x: Decimal, y: Decimal, width: Decimal, height: Decimal) -> Rect:
    return Rect(kind, *map(to_hundredths, (x, y, width, height)))


def _across(chart: Chart, at: datetime) -> Decimal:
    """Per cent from the left; a bucket of the clock may begin before the chart does."""
    whole = (chart.chart_to - chart.chart_from) // timedelta(microseconds=1)
    gone = (at - chart.chart_from) // timedelta(microseconds=1)
    return min(max(Decimal(100 * gone) / whole, Decimal(0)), Decimal(100))


def _money(value: Decimal, language: Language) -> str:
    return compact_zh(value) if language == "zh" else round_usd(value)


def _times(chart: Chart, language: Language) -> tuple[Tick, ...]:
    """Five to nine round times."""
    span = chart.chart_to - chart.chart_from
    steps = [timedelta(seconds=s) for s in (1, 2, 5, 10, 15, 30)]
    steps += [timedelta(minutes=m) for m in (1, 2, 5, 10, 15, 20, 30, 60, 120, 180, 360, 720)]
    steps += [timedelta(days=d) for d in (1, 2, 7, 14, 28, 91, 182, 364)]
    step = next((step for step in steps if span <= 8 * step), span / 6)
    start = chart.chart_from.replace(hour=0, minute=0, second=0, microsecond=0)
    at = start + -(-(chart.chart_from - start) // step) * step
    day = "%m-%d" if language == "zh" else "%d %b"
    pattern = day if step >= timedelta(days=1) else "%H:%M"
    if step < timedelta(minutes=1):
        pattern = "%H:%M:%S"
    ticks = []
    while at < chart.chart_to:
        is_midnight = at.hour == at.minute == at.second == 0
        text = at.strftime(day if is_midnight and step < timedelta(days=1) else pattern)
        ticks.append(Tick(to_hundredths(_across(chart, at)), text))
        at += step
    return tuple(ticks)


def to_hundredths(value: Decimal) -> Decimal:
    return value.quantize(Decimal("0.01"))
