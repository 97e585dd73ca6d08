"""What a window is of: days of any zone, hours, blocks and the swings of a price."""

import hashlib
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.errors import ConfigError
from indexer.methodology.definition import Blocks, Calendar, Rolling, Segment, WindowRule
from indexer.methodology.windows import Swing, Window, resolve, segments, series_hash

NOW = datetime(2025, 10, 12, 8, 30, tzinfo=UTC)
START = datetime(2025, 10, 10, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SWINGS = Segment(series="mark:hyperliquid/BTC", threshold=Decimal("0.1"))
BERLIN = Calendar(zone="Europe/Berlin")
SHANGHAI = Calendar(zone="Asia/Shanghai")
NEW_YORK = Calendar(zone="America/New_York")

Points = list[tuple[datetime, Decimal]]


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def window(rule: WindowRule, asked: str) -> tuple[datetime | None, datetime | None]:
    found = resolve(rule, asked, NOW)
    return found.low, found.high


def prices(*those: str) -> Points:
    """A price a minute."""
    return [(START + n * MINUTE, Decimal(price)) for n, price in enumerate(those)]


# -- times ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "asked", "low", "high"),
    [
        (Calendar(), "2025-10-10", "2025-10-10T00:00", "2025-10-11T00:00"),
        (SHANGHAI, "2025-10-10", "2025-10-09T16:00", "2025-10-10T16:00"),
        (BERLIN, "2025-03-30", "2025-03-29T23:00", "2025-03-30T22:00"),  # 23 hours
        (BERLIN, "2025-10-26", "2025-10-25T22:00", "2025-10-26T23:00"),  # 25 hours
        (NEW_YORK, "2025-03-09", "2025-03-09T05:00", "2025-03-10T04:00"),  # 23 hours
        (NEW_YORK, "2025-11-02", "2025-11-02T04:00", "2025-11-03T05:00"),  # 25 hours
        # Cairo's clocks went from midnight to one; Havana's from one to midnight.
        (Calendar(zone="Africa/Cairo"), "2023-04-28", "2023-04-27T22:00", "2023-04-28T21:00"),
        (Calendar(zone="America/Havana"), "2025-11-02", "2025-11-02T04:00", "2025-11-03T05:00"),
        (BERLIN, "2025-10", "2025-09-30T22:00", "2025-10-31T23:00"),
        (Calendar(), "2025-12", "2025-12-01T00:00", "2026-01-01T00:00"),
        (Calendar(), "2024-02", "2024-02-01T00:00", "2024-03-01T00:00"),
        (BERLIN, "2025-10-25..2025-10-27", "2025-10-24T22:00", "2025-10-26T23:00"),
        (Rolling(), "2025-10-10", "2025-10-10T00:00", "2025-10-11T00:00"),
        (Rolling(hours=1), "2025-10-10", "2025-10-10T23:00", "2025-10-11T00:00"),
        (Rolling(), "2025-10", "2025-10-01T00:00", "2025-11-01T00:00"),
        (Rolling(), "2025-10-10..2025-10-12", "2025-10-10T00:00", "2025-10-12T00:00"),
        (Rolling(), "2025-10-11T05:15:30Z", "2025-10-10T05:15:30", "2025-10-11T05:15:30"),
        (Rolling(), "now", "2025-10-11T08:30", "2025-10-12T08:30"),
        (Calendar(), "now", "2025-10-12T00:00", "2025-10-13T00:00"),
        (Rolling(), "7d", "2025-10-05T08:30", "2025-10-12T08:30"),
        (SHANGHAI, "90s", "2025-10-12T08:28:30", "2025-10-12T08:30"),
        (SWINGS, "2025-10", "2025-10-01T00:00", "2025-11-01T00:00"),
        (SHANGHAI, "2025-10-10T21:15Z..2025-10-10T21:27Z", "2025-10-10T21:15", "2025-10-10T21:27"),
        (Rolling(), "2025-10-10T21:15..2025-10-10T21:27", "2025-10-10T21:15", "2025-10-10T21:27"),
        (SWINGS, "2025-10-10T21:15Z..2025-10-11", "2025-10-10T21:15", "2025-10-11T00:00"),
    ],
)
def test_a_time_becomes_a_window(rule: WindowRule, asked: str, low: str, high: str) -> None:
    assert resolve(rule, asked, NOW) == Window(said=asked, low=utc(low), high=utc(high))


def test_one_moment_is_on_different_days() -> None:
    """The cascade of 10 October 2025 began at 21:15 UTC: 11 October in China."""
    moment = "2025-10-10T21:15Z"

    assert window(Calendar(), moment) == window(Calendar(), "2025-10-10")
    assert window(SHANGHAI, moment) == window(SHANGHAI, "2025-10-11")
    assert window(SHANGHAI, moment) == (utc("2025-10-10T16:00"), utc("2025-10-11T16:00"))
    assert window(SHANGHAI, "2025-10-11T05:15+08:00") == window(SHANGHAI, moment)


def test_a_moment_without_a_zone_is_utc() -> None:
    assert window(Rolling(), "2025-10-10T21:15") == window(Rolling(), "2025-10-10T21:15Z")


def test_now_may_be_told_in_any_zone() -> None:
    ahead = NOW.astimezone(timezone(timedelta(hours=8)))

    assert resolve(Rolling(), "now", ahead) == resolve(Rolling(), "now", NOW)


@given(
    zone=st.sampled_from(["UTC", "Europe/Berlin", "Asia/Shanghai", "America/New_York"]),
    moment=st.datetimes(datetime(1971, 1, 1), datetime(2037, 1, 1)),  # noqa: DTZ001
)
def test_days_are_half_open_and_leave_nothing_between_them(zone: str, moment: datetime) -> None:
    rule = Calendar(zone=zone)

    low, high = window(rule, moment.isoformat())

    assert low is not None
    assert high is not None
    assert low <= moment.replace(tzinfo=UTC) < high
    assert window(rule, high.isoformat())[0] == high


@pytest.mark.parametrize(
    "rule", [Calendar(), Rolling(), SWINGS], ids=lambda rule: type(rule).__name__
)
@pytest.mark.parametrize(
    "asked",
    [
        *("", "today", "2025", "2025-13", "2025-02-30", "20251010", "2025-10-10 21:15"),
        *("2025-10-10T25:00", "2025-10-10T", "2025-10-10..", "..2025-10-10", "2025-10-10..now"),
        *("1..2..3", "18M..19M", "0h", "1.5h", "24", "-24h", "9999-12", "٢٠٢٥-10", "٢٤h"),
        *("0001-01-01T00:00+01:00", "9999-12-31T23:00-02:00"),
    ],
)
def test_what_is_no_time_is_refused(rule: WindowRule, asked: str) -> None:
    with pytest.raises(ConfigError) as error:
        resolve(rule, asked, NOW)

    assert str(error.value) == (
        f"{asked!r} is no window; write 2025-10-10, 2025-10, 2025-10-10..2025-10-12, "
        "2025-10-10T21:15Z, now or 24h"
    )


@pytest.mark.parametrize(
    ("rule", "asked"),
    [
        (Calendar(), "2025-10-10..2025-10-10"),
        (Calendar(), "2025-10-11..2025-10-10"),
        (Blocks(), "19M..18M"),
        (Blocks(), "18M..18000000"),
        # Samoa went from 29 to 31 December across the date line.
        (Calendar(zone="Pacific/Apia"), "2011-12-30"),
    ],
)
def test_an_empty_window_is_refused(rule: WindowRule, asked: str) -> None:
    with pytest.raises(ConfigError) as error:
        resolve(rule, asked, NOW)

    assert str(error.value) == f"the window {asked!r} is empty: it ends where it begins, or before"


# -- blocks --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "low", "high"),
    [
        ("18M..19M", 18_000_000, 19_000_000),
        ("18000000..18_000_100", 18_000_000, 18_000_100),
        ("18.5M..18500.5k", 18_500_000, 18_500_500),
        ("0..1", 0, 1),
    ],
)
def test_heights_become_a_window(asked: str, low: int, high: int) -> None:
    assert resolve(Blocks(), asked, NOW, chain="base") == Window(
        said=asked, chain="base", block_from=low, block_to=high
    )


@pytest.mark.parametrize(
    "asked", ["", "18M", "18M..", "1.5..2", "2025-10-10", "now", "24h", "-1..2", "1..2..3"]
)
def test_what_is_no_height_is_refused(asked: str) -> None:
    with pytest.raises(ConfigError) as error:
        resolve(Blocks(), asked, NOW, chain="base")

    assert str(error.value) == (
        f"{asked!r} is no range of blocks; write 18000000..18000100 or 18M..19M"
    )


# -- segments ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("those", "ends"),
    [
        ([], []),
        (["100"], []),
        (["100", "91"], []),  # 9 % down: not yet
        (["100", "90"], []),  # the first price was the turn: nothing before it
        (["100", "110"], []),
        (["100", "90", "99"], [(0, 1, 2)]),
        (["100", "105", "94.5"], [(0, 1, 2)]),
        (["100", "105", "94.51"], []),
        (["100", "105", "105", "94"], [(0, 1, 3)]),  # of equal extremes the earliest
        (["100", "120", "100", "90", "95", "100"], [(0, 1, 2), (1, 3, 5)]),
        (["100", "90.5", "99.6", "80"], [(0, 1, 2), (1, 2, 3)]),
        (
            ["100", "110", "100.5", "109.9", "99"],
            [(0, 1, 4)],
        ),  # 9.4 % up between counts for nothing
    ],
)
def test_swings_end_where_the_price_turned(
    those: list[str], ends: list[tuple[int, int, int]]
) -> None:
    assert segments(prices(*those), Decimal("0.1")) == [
        Swing(*(START + n * MINUTE for n in minutes)) for minutes in ends
    ]


series = st.lists(st.integers(80, 130), max_size=25).map(lambda those: prices(*map(str, those)))
thresholds = st.sampled_from([Decimal("0.03"), Decimal("0.1"), Decimal("0.25")])


def modelled(points: Points, threshold: Decimal) -> list[Swing]:
    """The definition read literally, with fractions and without state: after a turn at `start`,
    known at `known`, the next is the first later price that lies a share away from the extreme."""
    values = [Fraction(price) for _, price in points]
    share = Fraction(threshold)

    def back(kind: str, start: int, k: int) -> tuple[int, int] | None:
        stretch = values[start : k + 1]
        extreme = max(stretch) if kind == "top" else min(stretch)
        return (
            (start + stretch.index(extreme), k)
            if (extreme - values[k] if kind == "top" else values[k] - extreme) >= extreme * share
            else None
        )

    def turns(kinds: tuple[str, ...], start: int, known: int) -> list[tuple[int, int]]:
        found = (
            (kind, turn)
            for k in range(known + 1, len(values))
            for kind in kinds
            if (turn := back(kind, start, k)) is not None
        )
        kind, turn = next(found, ("", None))
        other = "bottom" if kind == "top" else "top"
        return [] if turn is None else [turn, *turns((other,), *turn)]

    bounds = [(0, 0), *turns(("top", "bottom"), 0, 0)]
    return [
        Swing(points[low][0], points[high][0], points[known][0])
        for (low, _), (high, known) in pairwise(bounds)
        if low < high
    ]


@given(points=series, threshold=thresholds)
def test_swings_are_those_of_the_definition(points: Points, threshold: Decimal) -> None:
    assert segments(points, threshold) == modelled(points, threshold)


@given(points=series, threshold=thresholds, random=st.randoms(use_true_random=False))
def test_swings_and_hash_are_the_same_in_whatever_order_prices_came(
    points: Points, threshold: Decimal, random: Random
) -> None:
    shuffled = random.sample(points, len(points))

    assert segments(shuffled, threshold) == segments(points, threshold)
    assert series_hash(shuffled) == series_hash(points)


@given(points=series, threshold=thresholds, first=st.integers(0, 25))
def test_later_prices_change_no_swing(points: Points, threshold: Decimal, first: int) -> None:
    known = segments(points[:first], threshold)

    assert segments(points, threshold)[: len(known)] == known


def test_a_segment_is_the_one_that_a_moment_is_in() -> None:
    points = prices("100", "120", "100", "90", "95", "100", "101")

    found = resolve(SWINGS, "2025-10-10T00:01Z", NOW, points)

    assert found == Window(
        said="2025-10-10T00:01Z",
        low=START + MINUTE,
        high=START + 3 * MINUTE,
        series_hash=series_hash(points[:6]),  # up to the price that told the turn
    )


def test_the_hash_of_a_series_is_of_its_lines() -> None:
    points = [(START + timedelta(microseconds=5), Decimal("0.00000010")), (START, Decimal("1E+3"))]
    lines = "2025-10-10T00:00:00Z 1000\n2025-10-10T00:00:00.000005Z 0.0000001\n"

    assert series_hash(points) == hashlib.sha256(lines.encode()).hexdigest()


@pytest.mark.parametrize(
    ("asked", "those", "message"),
    [
        (
            "2025-10-10T00:03Z",
            ["100", "120", "100", "90", "95"],
            "the segment of 2025-10-10T00:03Z begins at 2025-10-10 00:01:00+00:00 and is not over: "
            "mark:hyperliquid/BTC has not turned again, and later prices may move its end",
        ),
        (
            "now",
            ["100"],
            "the segment of now begins at 2025-10-10 00:00:00+00:00 and is not over: "
            "mark:hyperliquid/BTC has not turned again, and later prices may move its end",
        ),
        (
            "2025-10-09T23:59Z",
            ["100", "120", "100"],
            "the prices of mark:hyperliquid/BTC begin after 2025-10-09T23:59Z, "
            "at 2025-10-10 00:00:00+00:00",
        ),
        ("now", [], "no prices of mark:hyperliquid/BTC: no segments can be found"),
        (
            "now",
            ["100", "0"],
            "the series has the price 0 at 2025-10-10 00:01:00+00:00: no share of it is known",
        ),
        (
            "2025-10-10",
            ["100"],
            "'2025-10-10' names no segment; write a moment in it, as 2025-10-10T21:15Z, or both"
            " ends",
        ),
        (
            "24h",
            ["100"],
            "'24h' names no segment; write a moment in it, as 2025-10-10T21:15Z, or both ends",
        ),
    ],
)
def test_what_is_in_no_segment_is_refused(asked: str, those: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        resolve(SWINGS, asked, NOW, prices(*those))

    assert str(error.value) == message


def test_two_prices_of_one_time_are_refused() -> None:
    elsewhere = START.astimezone(timezone(timedelta(hours=8)))

    with pytest.raises(ConfigError) as error:
        segments([(START, Decimal(1)), (elsewhere, Decimal(1))], Decimal("0.1"))

    assert str(error.value) == "the series has two prices of 2025-10-10 00:00:00+00:00"
