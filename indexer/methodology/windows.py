"""Which stretch of time, or of a chain, a definition's total is of."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from operator import itemgetter
from zoneinfo import ZoneInfo

import msgspec

from indexer.errors import ConfigError
from indexer.methodology.definition import Blocks, Calendar, Rolling, Segment, WindowRule
from indexer.model import EXACT

Points = Sequence[tuple[datetime, Decimal]]
"""A price series: aware times, prices above 0, in any order."""

_DATE = re.compile(r"[0-9]{4}-[0-9][0-9]-[0-9][0-9]")
_MONTH = re.compile(r"([0-9]{4})-([0-9][0-9])")
_MOMENT = re.compile(r"[0-9]{4}-[0-9][0-9]-[0-9][0-9]T.+")
_DURATION = re.compile(r"0*([1-9][0-9]{0,8})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_HEIGHT = re.compile(r"([0-9][0-9_]{0,18})(?:\.([0-9]{1,9}))?([kM]?)")
_TIMES = "2025-10-10, 2025-10, 2025-10-10..2025-10-12, 2025-10-10T21:15Z, now or 24h"


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """What a total is of: block times [low, high), in UTC, or the heights [block_from, block_to) of
    a chain; the pair that was not asked for is None.

    `said` is how the user asked. `series_hash` is that of the prices that a segment follows from.
    """

    said: str
    low: datetime | None = None
    high: datetime | None = None
    chain: str | None = None
    block_from: int | None = None
    block_to: int | None = None
    series_hash: str | None = None


class Swing(msgspec.Struct, frozen=True):
    """The times [low, high) between two turning points; at `known_at` the price had come back from
    the second, and no later price changes it."""

    low: datetime
    high: datetime
    known_at: datetime


def resolve(
    rule: WindowRule,
    asked: str,
    now: datetime,
    series: Points = (),
    chain: str | None = None,
) -> Window:
    """The window that `asked` names under a rule. `now` is aware, `series` are the prices of a rule
    of segments, `chain` that of a rule of blocks.

    | asked | calendar | rolling | segment | blocks |
    | --- | --- | --- | --- | --- |
    | `2025-10-10` | that day of the zone | the hours that end with that day | - | - |
    | `2025-10` | that month of the zone | that month | that month | - |
    | `2025-10-10T21:15Z` | the zone's day it is in | the hours before it | its segment | - |
    | `now` | as that moment | as that moment | as that moment | - |
    | `24h`, `90s`, `30m`, `7d` | what ends now | what ends now | - | - |
    | `A..B`, two dates or moments | as it stands | as it stands | as it stands | - |
    | `18M..18_000_100` | - | - | - | those heights |

    The second end is never inside. Dates begin at midnight of a calendar's zone, else of UTC; a
    moment without a zone is UTC. ConfigError says what else was asked, and which segments or days
    there are not.
    """
    try:
        window = _resolve(rule, asked, now.astimezone(UTC), series, chain)
    except (ValueError, OverflowError):  # no such date, or none that a calendar can count to
        raise ConfigError(f"{asked!r} is no window; write {_TIMES}") from None
    if window.low is not None and window.high is not None and window.low >= window.high:
        raise ConfigError(f"the window {asked!r} is empty: it ends where it begins, or before")
    return window


def _resolve(
    rule: WindowRule, asked: str, now: datetime, series: Points, chain: str | None
) -> Window:
    if isinstance(rule, Blocks):
        block_from, block_to = _heights(asked)
        return Window(said=asked, chain=chain, block_from=block_from, block_to=block_to)
    zone = ZoneInfo(rule.zone if isinstance(rule, Calendar) else "UTC")
    if ".." in asked:
        first, _, second = asked.partition("..")
        return Window(said=asked, low=_end(first, zone), high=_end(second, zone))
    if found := _MONTH.fullmatch(asked):
        month = date(int(found[1]), int(found[2]), 1)
        return _dates(asked, month, (month + timedelta(days=31)).replace(day=1), zone)
    if found := _DURATION.fullmatch(asked):
        if isinstance(rule, Segment):
            raise ConfigError(_of_segments(asked))
        return Window(
            said=asked, low=now - timedelta(**{_UNITS[found[2]]: int(found[1])}), high=now
        )
    if _DATE.fullmatch(asked):
        return _of_day(rule, asked, date.fromisoformat(asked), zone)
    return _of_moment(rule, asked, now if asked == "now" else _moment(asked), zone, series)


def _of_day(rule: Calendar | Rolling | Segment, asked: str, day: date, zone: ZoneInfo) -> Window:
    match rule:
        case Calendar():
            return _dates(asked, day, day + timedelta(days=1), zone)
        case Rolling(hours=hours):
            high = _midnight(day + timedelta(days=1), zone)
            return Window(said=asked, low=high - timedelta(hours=hours), high=high)
        case Segment():
            raise ConfigError(_of_segments(asked))


def _of_moment(
    rule: Calendar | Rolling | Segment, asked: str, moment: datetime, zone: ZoneInfo, series: Points
) -> Window:
    match rule:
        case Calendar():
            day = moment.astimezone(zone).date()
            return _dates(asked, day, day + timedelta(days=1), zone)
        case Rolling(hours=hours):
            return Window(said=asked, low=moment - timedelta(hours=hours), high=moment)
        case Segment():
            return _of_swing(rule, asked, moment, series)


def _of_swing(rule: Segment, asked: str, moment: datetime, series: Points) -> Window:
    points = _in_order(series)
    if not points:
        raise ConfigError(f"no prices of {rule.series}: no segments can be found")
    swings = segments(points, rule.threshold)
    found = next((swing for swing in swings if swing.low <= moment < swing.high), None)
    if found is None and moment < points[0][0]:
        raise ConfigError(f"the prices of {rule.series} begin after {asked}, at {points[0][0]}")
    if found is None:
        begins = swings[-1].high if swings else points[0][0]
        raise ConfigError(
            f"the segment of {asked} begins at {begins} and is not over: "
            f"{rule.series} has not turned again, and later prices may move its end"
        )
    known = [point for point in points if point[0] <= found.known_at]
    return Window(said=asked, low=found.low, high=found.high, series_hash=series_hash(known))


def _of_segments(asked: str) -> str:
    return f"{asked!r} names no segment; write a moment in it, as 2025-10-10T21:15Z, or both ends"


def _dates(asked: str, first: date, second: date, zone: ZoneInfo) -> Window:
    return Window(said=asked, low=_midnight(first, zone), high=_midnight(second, zone))


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    """When a day begins. A midnight that clocks skip is when they skip it, one that they strike
    twice is the first, as PEP 495 has it; a day that a zone skipped whole begins as the next."""
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)


def _end(text: str, zone: ZoneInfo) -> datetime:
    if _DATE.fullmatch(text):
        return _midnight(date.fromisoformat(text), zone)
    return _moment(text)


def _moment(text: str) -> datetime:
    if not _MOMENT.fullmatch(text):
        raise ValueError(text)
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)


def _heights(asked: str) -> tuple[int, int]:
    first, _, second = asked.partition("..")
    heights = [_height(text) for text in (first, second)]
    if heights[0] is None or heights[1] is None:
        raise ConfigError(f"{asked!r} is no range of blocks; write 18000000..18000100 or 18M..19M")
    if heights[0] >= heights[1]:
        raise ConfigError(f"the window {asked!r} is empty: it ends where it begins, or before")
    return heights[0], heights[1]


def _height(text: str) -> int | None:
    """18000000, 18_000_000, 18M or 18.5M."""
    found = _HEIGHT.fullmatch(text)
    digits = {"": 0, "k": 3, "M": 6}[found[3]] if found else 0
    if found is None or len(found[2] or "") > digits:
        return None
    return int(found[1].replace("_", "") + (found[2] or "").ljust(digits, "0"))


def segments(points: Points, threshold: Decimal) -> list[Swing]:
    """The swings of a price, in order; the first begins with the prices.

    A turning point is the extreme since the one before, the earliest of equals, once the price has
    come back from it by at least `threshold`, a share of the extreme. What follows the last one is
    no segment yet: later prices may move its end."""
    ordered = _in_order(points)
    low = ordered[0][0] if ordered else None
    found = []
    for turned_at, known_at in _turns(ordered, threshold):
        if low is not None and low < turned_at:  # the first price may itself be the first turn
            found.append(Swing(low, turned_at, known_at))
        low = turned_at
    return found


def _turns(points: Points, threshold: Decimal) -> Iterator[tuple[datetime, datetime]]:
    """Times of turning points, each with that of the price that tells it."""
    top = bottom = points[0] if points else None  # what may turn next: both, until one has
    for point in points:
        at, price = point
        if top is not None and _reaches(EXACT.subtract(top[1], price), top[1], threshold):
            yield top[0], at
            top, bottom = None, point
        elif bottom is not None and _reaches(
            EXACT.subtract(price, bottom[1]), bottom[1], threshold
        ):
            yield bottom[0], at
            top, bottom = point, None
        elif top is not None and price > top[1]:
            top = point
        elif bottom is not None and price < bottom[1]:
            bottom = point


def _reaches(way_back: Decimal, extreme: Decimal, threshold: Decimal) -> bool:
    return way_back >= EXACT.multiply(extreme, threshold)


def _in_order(points: Points) -> list[tuple[datetime, Decimal]]:
    """Prices by time, in UTC; ConfigError where two have one time or one is not above 0."""
    ordered = sorted(((at.astimezone(UTC), price) for at, price in points), key=itemgetter(0))
    for (at, _), (later, _) in pairwise(ordered):
        if at == later:
            raise ConfigError(f"the series has two prices of {at}")
    for at, price in ordered:
        if not (price.is_finite() and price > 0):
            raise ConfigError(f"the series has the price {price} at {at}: no share of it is known")
    return ordered


def series_hash(points: Points) -> str:
    """SHA-256, in hex, of a series: by time, lines such as `2025-10-10T21:15:00Z 4123.5`."""
    lines = (
        f"{at.isoformat().removesuffix('+00:00')}Z {EXACT.normalize(price):f}\n"
        for at, price in _in_order(points)
    )
    return hashlib.sha256("".join(lines).encode()).hexdigest()
