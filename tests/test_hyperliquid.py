"""Each golden file is one block as published and the rows we must make of it."""

import random
from datetime import UTC, datetime
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import msgspec
import pytest

from indexer.hyperliquid_format import NEEDLE, block_in_hash, utc, utc_of_ms
from indexer.model import BlockLine, Stretch, Undecoded
from indexer.plan import Heights
from indexer.step import NeedleLied, Step
from indexer.venues import hyperliquid as venue
from indexer.venues.hyperliquid_days import AccountDays

GOLDEN = sorted((Path(__file__).parent / "golden" / "hyperliquid").glob("*.json"))


class Case(msgspec.Struct, forbid_unknown_fields=True):
    """What the venue published and what must come of it."""

    what: str
    block_number: int | None
    block_time: str
    events: msgspec.Raw
    liquidations: list[dict[str, Any]] = []
    undecoded: list[dict[str, Any]] = []


TINY = Decimal("1e-10")


def line_of(events: bytes, number: int | None = 777010856) -> BlockLine:
    return BlockLine(number, utc("2025-10-27T17:00:02.387173000"), events, True, "test", 1)


def decoded(line: BlockLine) -> dict[str, list[dict[str, Any]]]:
    """Everything a step makes of one block, as plain values."""
    step = Step({"liquidations": Heights()}, with_accounts=False)
    step.take_fills(Stretch(lines=(line,)), trust_needle=True)
    rows = [venue.decode(legs) for legs in step.trades().values()]
    undecoded = [row for row in (*rows, *step.undecoded.values()) if isinstance(row, Undecoded)]
    return {
        "liquidations": [
            msgspec.to_builtins(row) for row in rows if not isinstance(row, Undecoded)
        ],
        "undecoded": [{"event_key": row.event_key, "reason": row.reason} for row in undecoded],
    }


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden(path: Path) -> None:
    case = msgspec.json.decode(path.read_bytes(), type=Case)
    line = BlockLine(
        case.block_number, utc(case.block_time), bytes(case.events), True, str(path), 1
    )

    assert decoded(line) == {"liquidations": case.liquidations, "undecoded": case.undecoded}


def test_there_is_a_golden_case_for_every_method() -> None:
    cases = [msgspec.json.decode(path.read_bytes(), type=Case) for path in GOLDEN]

    assert {row["method"] for case in cases for row in case.liquidations} == {
        "market", "backstop", "adl_of_user", "adl_of_vault", "borrow_partial", "borrow_backstop",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("tx_hash", "block_number"),
    [
        ("0xdc25d330b40799afdd9f043ebc4c38000060eb164f0ab8817fee7e83730b739a", 1052527672),
        ("0x922ada1583e0175a93a4042d3a6101010100f1fb1ee3362c35f3856842e3f145", 758800641),
        ("0x651383a8fda3daaf31cc0308597c0000f7f51388f97acf0df28797ee97ae278a", None),
        ("0x" + 64 * "0", None),
        ("0x1328...", None),
        ("0x" + 20 * "0" + "04zzzzzzzz" + 34 * "0", None),
        (None, None),
    ],
)
def test_the_height_is_read_out_of_the_hash(tx_hash: str | None, block_number: int | None) -> None:
    assert block_in_hash(tx_hash) == block_number


@pytest.mark.parametrize(
    ("coin", "perp"),
    [
        ("BTC", ("", "USDC")),
        ("kPEPE", ("", "USDC")),
        ("xyz:TSLA", ("xyz", None)),
        ("@107", None),
        ("PURR/USDC", None),
        ("#1890", None),
        ("+12", None),
    ],
)
def test_a_coin_tells_whether_it_is_a_perpetual(
    coin: str, perp: tuple[str, str | None] | None
) -> None:
    assert venue.market_of(coin) == perp


def test_times_are_cut_to_microseconds_and_never_rounded() -> None:
    assert utc("2025-10-27T16:59:59.999999999") == datetime(
        2025, 10, 27, 16, 59, 59, 999999, tzinfo=UTC
    )
    assert utc_of_ms(1761584399797) == datetime(2025, 10, 27, 16, 59, 59, 797000, tzinfo=UTC)


def test_every_published_form_of_a_mark_holds_the_needle() -> None:
    marks = (
        b'"liquidation":{"liquidatedUser":"0x"}', b'"liquidation" : {', b"Liquidated Cross Long",
        b"Partial Borrow Liquidation", b"Backstop Borrow Liquidation",
    )  # fmt: skip

    assert all(NEEDLE in mark for mark in marks)


def test_a_mark_that_hides_from_the_needle_is_noticed() -> None:
    hidden = rb'[["0x1",{"coin":"BTC","px":"1","sz":"1","side":"A","time":1,"dir":"Close Long","\u006ciquidation":{"liquidatedUser":"0x1","markPx":"1","method":"market"}}]]'  # noqa: E501 - one published line
    escaped = hidden.replace(b"\\u006ciquidation", b"l\\u0069quidation").replace(
        b"liquidatedUser", b"l\\u0069quidatedUser"
    )
    line = BlockLine(1, utc("2025-10-27T17:00:02.387173000"), escaped, False, "file", 7)
    step = Step({"liquidations": Heights()}, with_accounts=False)

    with pytest.raises(NeedleLied, match="file:7"):
        step.take_fills(Stretch(sample=(line,)), trust_needle=True)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", "1e-999"])
def test_a_number_that_no_market_has_is_undecoded(number: str) -> None:
    fill = {
        "coin": "BTC", "px": number, "sz": "1.0", "side": "A", "time": 1761584402387,
        "dir": "Close Long", "tid": 5, "startPosition": "1.0",
        "liquidation": {"liquidatedUser": "0xaa", "markPx": "1", "method": "market"},
    }  # fmt: skip

    found = decoded(line_of(msgspec.json.encode([["0xaa", fill]])))

    assert found["liquidations"] == []
    assert "number out of range" in found["undecoded"][0]["reason"]


def test_an_account_day_keeps_quote_tokens_apart_and_counts_what_is_no_trade() -> None:
    def fill(coin: str, **other: Any) -> dict[str, Any]:
        base = {
            "coin": coin, "px": "10.5", "sz": "2.0", "side": "B", "time": 1, "dir": "Open Long",
            "startPosition": "-1.0", "closedPnl": "0.25", "feeToken": "USDC",
        }  # fmt: skip
        return base | other

    events = [
        ["0xaa", fill("BTC")],
        ["0xaa", fill("ETH", side="A", startPosition="3.0", closedPnl="-1.0")],
        ["0xaa", fill("km:US", feeToken="USDH")],
        ["0xaa", fill("@107", feeToken="HYPE")],
        ["0xaa", fill("BTC", dir="Settlement")],
    ]
    days = AccountDays()

    assert list(days.add([line_of(msgspec.json.encode(events))])) == []
    assert [(r.quote, r.fills, r.other_fills, r.volume, r.realised_pnl) for r in days.rows()] == [
        ("USDC", 2, 2, Decimal("42.0"), Decimal("-0.75")),
        ("USDH", 1, 0, Decimal("21.0"), Decimal("0.25")),
    ]
    assert [(r.largest_position, r.largest_position_market) for r in days.rows()] == [
        (Decimal("31.5"), "ETH"),
        (Decimal("10.5"), "km:US"),
    ]


def test_the_largest_position_is_exact_where_floats_cannot_tell_two_apart() -> None:
    """Sales and purchases of any direction, positions that differ in the 23rd digit."""
    chance = random.Random(11)
    held = [Decimal("1234567890123.4567890123") + chance.randint(-3, 3) * TINY for _ in range(300)]
    fills = [
        {
            "coin": chance.choice("AB"), "px": "0.7", "side": chance.choice("AB"),
            "sz": str(chance.choice([TINY, Decimal("1.5"), abs(start) * 2, start])),
            "startPosition": str(chance.choice([start, -start, Decimal("0.0")])),
            "dir": "Open Long", "closedPnl": "0.0", "crossed": True, "feeToken": "USDC",
        }
        for start in held
    ]  # fmt: skip
    expected: list[tuple[Decimal, str]] = []
    for count, fill in enumerate(fills, 1):
        with localcontext(prec=100):
            start, size = Decimal(fill["startPosition"]), Decimal(fill["sz"])
            end = start + size if fill["side"] == "B" else start - size
            position = max(abs(start), abs(end)) * Decimal(fill["px"])
        expected.append((-position, fill["coin"]))
        if count % 20:
            continue
        days = AccountDays()
        with localcontext(prec=100):
            assert not list(
                days.add([line_of(msgspec.json.encode([["0xaa", f] for f in fills[:count]]))])
            )
        (row,) = days.rows()
        assert (-row.largest_position, row.largest_position_market) == min(expected)


@pytest.mark.parametrize("start", ["", "NaN", "sNaN", "Infinity", "-Infinity", "one", "1e400"])
def test_a_position_that_is_no_number_is_in_no_day_however_large_the_others(start: str) -> None:
    base = {
        "coin": "BTC", "px": "10.5", "sz": "2.0", "side": "B", "dir": "Open Long",
        "closedPnl": "0.0", "crossed": True,
    }  # fmt: skip
    large, odd = {**base, "startPosition": "1000000.0"}, {**base, "startPosition": start}
    days = AccountDays()

    unknown = list(days.add([line_of(msgspec.json.encode([["0xaa", large], ["0xaa", odd]]))]))

    assert len(unknown) == 1
    assert [row.fills for row in days.rows()] == [1]


def test_a_fill_of_unknown_shape_is_in_no_day_and_says_so() -> None:
    days = AccountDays()

    unknown = list(days.add([line_of(b'[["0xaa",{"coin":"BTC"}]]')]))

    assert days.rows() == []
    assert [undecoded.reason for _, undecoded in unknown] == [
        "in no account's day: Object missing required field `px` - at `$[1]`"
    ]
