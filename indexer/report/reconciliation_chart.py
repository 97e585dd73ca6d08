"""Where the bars of a waterfall stand, in per cent of its box; no colours, no markup."""

from collections.abc import Callable, Iterator
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import NamedTuple

from indexer.methodology.reconcile import Outside, Reconciliation
from indexer.report.chart import Rect, Tick, box, round_step, to_hundredths
from indexer.report.text import round_usd

_HAIRLINE = Decimal("0.5")  # a step that changes nothing can be seen
_FILLED = Decimal("0.64")  # of a column; the rest is what keeps it from the next


class Range(NamedTuple):
    """The most and the least of a step over all orders, counted from where its bar begins: at `x`,
    from `top` down to `bottom`; both ends are as wide as from `left` to `right`."""

    x: Decimal
    left: Decimal
    right: Decimal
    top: Decimal
    bottom: Decimal


class Bar(NamedTuple):
    """A total from the axis, or what changes the total before it; `usd` is its height in dollars.
    Its middle is at `middle`; a line from its `end` leads to `next_x`, where the next begins."""

    name: str
    usd: Decimal
    rect: Rect
    middle: Decimal
    end: Decimal
    next_x: Decimal
    range: Range | None

    @property
    def right(self) -> Decimal:
        return self.rect.x + self.rect.width

    @property
    def highest(self) -> Decimal:
        """Of the bar and its range, in per cent from the top."""
        return min(self.rect.y, self.range.top) if self.range else self.rect.y


class Waterfall(NamedTuple):
    """All that a renderer needs."""

    bars: tuple[Bar, ...]
    up: tuple[Tick, ...]

    @property
    def kinds(self) -> set[str]:
        """What a legend must name."""
        return {bar.rect.kind for bar in self.bars}


class _Fall(NamedTuple):
    """A bar in dollars; `could` is where it would end with the least and the most of the
    step over all orders."""

    name: str
    kind: str
    begins: Decimal
    ends: Decimal
    could: tuple[Decimal, ...] = ()


def draw(reconciliation: Reconciliation) -> Waterfall:
    """The bars are of the kinds total, up, down and unexplained."""
    falls = list(_falls(reconciliation))
    levels = [level for fall in falls for level in (fall.begins, fall.ends, *fall.could)]
    step = round_step(max(max(levels), -min(levels)))
    top = (max(levels) / step).to_integral_value(ROUND_CEILING) * step
    bottom = (min(levels) / step).to_integral_value(ROUND_FLOOR) * step
    if top == bottom:
        top += step
    scale = 100 / (top - bottom)

    def y(level: Decimal) -> Decimal:
        return (top - level) * scale

    ticks = (bottom + step * place for place in range(int((top - bottom) / step) + 1))
    return Waterfall(
        tuple(_bar(fall, place, len(falls), y) for place, fall in enumerate(falls)),
        tuple(Tick(to_hundredths(y(level)), round_usd(level)) for level in ticks),
    )


def _falls(reconciliation: Reconciliation) -> Iterator[_Fall]:
    zero = Decimal(0)
    running = reconciliation.a.usd
    yield _Fall("A", "total", zero, running)
    for step in reconciliation.steps:
        could = (running + step.least_usd, running + step.most_usd)
        kind = "up" if step.usd >= 0 else "down"
        yield _Fall(step.group, kind, running, step.running_usd, could)
        running = step.running_usd
    b = reconciliation.b
    if isinstance(b, Outside):
        if b.meant is not None:
            yield _Fall("supposed", "total", zero, running)
        yield _Fall("unexplained", "unexplained", running, b.usd)
    yield _Fall("B", "total", zero, b.usd)


def _bar(fall: _Fall, place: int, places: int, y: Callable[[Decimal], Decimal]) -> Bar:
    column = Decimal(100) / places
    middle, width = column * place + column / 2, column * _FILLED
    upper, lower = y(max(fall.begins, fall.ends)), y(min(fall.begins, fall.ends))
    height = max(lower - upper, _HAIRLINE)
    return Bar(
        fall.name,
        fall.ends - fall.begins,
        box(fall.kind, middle - width / 2, upper, width, height),
        to_hundredths(middle),
        to_hundredths(y(fall.ends)),
        to_hundredths(middle + column - width / 2),
        _range(fall, middle, width / 8, y),
    )


def _range(
    fall: _Fall, middle: Decimal, half: Decimal, y: Callable[[Decimal], Decimal]
) -> Range | None:
    """None where the order does not matter."""
    if len(set(fall.could)) < 2:
        return None
    across = (middle, middle - half, middle + half)
    return Range(*map(to_hundredths, (*across, y(max(fall.could)), y(min(fall.could)))))
