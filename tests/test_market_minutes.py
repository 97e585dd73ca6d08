"""The last trade of each market and minute against a dull reader, and what it is good for."""

import json
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from benchmarks.contestants import obvious_tables
from indexer import sync
from indexer.model import BlockLine, MarketMinute
from indexer.store import ledger, values
from indexer.store.database import Connection
from indexer.venues.hyperliquid_days import AccountDays
from tests.ledger_rows import Rows, in_order, rows
from tests.simulator import RECORDING, Simulation, bulk, simulate, write_by_block

D = Decimal
NOON = datetime(2025, 10, 10, 12, tzinfo=UTC)
ALICE = "0x" + "a" * 40
BOB = "0x" + "b" * 40
TAKEOVERS = ("Auto-Deleveraging", "Settlement", "Net Child Vaults")
MINUTES = "SELECT market, minute, token, quote, last_price, last_at, last_block FROM"


@pytest.fixture(scope="module")
def sim() -> Simulation:
    return simulate(RECORDING)


@pytest.fixture
def tree(sim: Simulation, tmp_path: Path) -> Path:
    write_by_block(sim, tmp_path)
    return tmp_path


# -- what is kept ----------------------------------------------------------------------------------


def last_trades(tree: Path) -> Rows:
    """Of each perpetual and minute the last trade in the book: by a dull reader."""
    blocks = [
        json.loads(line)
        for path in tree.rglob("*")
        if path.is_file() and "node_fills_by_block" in str(path)
        for line in path.read_text().splitlines()
    ]
    found = {}
    for block in sorted(blocks, key=lambda block: block["block_number"]):
        at = datetime.fromisoformat(block["block_time"][:26] + "+00:00")
        for _, fill in block["events"]:
            coin = fill["coin"]
            is_perp = coin[0] not in "@#" and "/" not in coin
            if is_perp and not fill["dir"].startswith(("Liquidated", *TAKEOVERS)):
                quote = fill["feeToken"] if ":" in coin else "USDC"
                found[coin, at.replace(second=0, microsecond=0)] = (
                    None, quote, D(fill["px"]), at, block["block_number"],
                )  # fmt: skip
    return in_order((*key, *last) for key, last in found.items())


@pytest.mark.any_postgres
def test_the_last_trade_of_each_minute_is_what_a_dull_reader_finds(
    connection: Connection, tree: Path
) -> None:
    sync.backfill(connection, str(tree))

    expected = last_trades(tree)
    assert len({minute for _, minute, *_ in expected}) >= 2
    assert len({market for market, *_ in expected}) >= 10
    assert rows(connection, f"{MINUTES} liq.market_minutes") == expected


def test_the_order_of_files_and_reading_them_again_change_nothing(
    connection: Connection, tree: Path
) -> None:
    files = sorted(path for path in tree.rglob("*") if path.is_file() and "by_block" in str(path))
    random.Random(3).shuffle(files)
    for path in (*files, files[0], tree):
        sync.backfill(connection, str(path))

    assert rows(connection, f"{MINUTES} ledger.market_minute") == last_trades(tree)


def fill(coin: str = "BTC", px: str = "10.5", **other: Any) -> dict[str, Any]:
    base = {
        "coin": coin, "px": px, "sz": "2.0", "side": "B", "time": 1, "startPosition": "0.0",
        "dir": "Open Long", "closedPnl": "0.0", "crossed": False, "feeToken": "USDC",
    }  # fmt: skip
    return base | other


def block(number: int, after: float, *fills: dict[str, Any]) -> BlockLine:
    """A block some seconds after noon."""
    events = json.dumps([[ALICE, one] for one in fills]).encode()
    return BlockLine(number, NOON + timedelta(seconds=after), events, False, "file", number)


def minutes_of(*stretches: list[BlockLine]) -> list[MarketMinute]:
    days = AccountDays()
    for lines in stretches:
        list(days.add(lines))
    return days.minutes()


def minute(
    price: str, number: int, after: float, market: str = "BTC", quote: str = "USDC",
    token: str | None = None,
) -> MarketMinute:  # fmt: skip
    begins = NOON + timedelta(minutes=after // 60)
    at = NOON + timedelta(seconds=after)
    return MarketMinute("hyperliquid", market, begins, token, quote, D(price), at, number)


def test_the_last_of_a_block_stands_and_a_minute_ends_before_the_next() -> None:
    lines = [
        block(7, 0, fill(px="1.0"), fill(px="2.0"), fill("ETH", px="5.0")),
        block(8, 59.999999, fill(px="3.0"), fill(px="2.5"), fill("ETH", px="5.0")),
        block(9, 60, fill(px="4.0")),
    ]

    assert minutes_of(lines) == [
        minute("2.5", 8, 59.999999),
        minute("5.0", 8, 59.999999, "ETH"),
        minute("4.0", 9, 60),
    ]


def test_blocks_may_come_in_any_order() -> None:
    first, second, third = (block(n, n, fill(px=f"{n}.0"), fill("ETH")) for n in (1, 2, 3))

    expected = [minute("3.0", 3, 3), minute("10.5", 3, 3, "ETH")]
    assert minutes_of([first, second, third]) == expected
    assert minutes_of([second], [third], [first]) == expected
    assert minutes_of([third], [first, second]) == expected


@pytest.mark.parametrize(
    "other",
    [
        {"dir": "Liquidated Isolated Long"},
        {"dir": "Auto-Deleveraging"},
        {"dir": "Settlement"},
        {"dir": "Something New"},
        {"px": "0.0"},
        {"px": "-3.0"},
        {"px": "NaN"},
        {"px": "1e40"},
        {"sz": "0.0"},
        {"crossed": "no"},
    ],
)
def test_what_is_no_trade_in_the_book_is_no_price(other: dict[str, Any]) -> None:
    odd = fill(**({"px": "9.0"} | other))

    assert minutes_of([block(1, 1, fill()), block(2, 2, odd)]) == [minute("10.5", 1, 1)]
    assert minutes_of([block(1, 1, fill(), odd), block(2, 2, odd, fill(), odd)]) == [
        minute("10.5", 2, 2)
    ]


def test_a_fill_with_an_empty_position_is_in_no_sum() -> None:
    days = AccountDays()

    unknown = list(days.add([block(1, 1, fill(), fill(startPosition=""), fill(sz=""), fill())]))

    assert [undecoded.reason for _, undecoded in unknown] == 2 * [
        "in no account's day: number out of range"
    ]
    assert [(row.fills, row.volume) for row in days.rows()] == [(2, D("42.0"))]


def test_a_takeover_at_the_price_of_a_trade_hides_it_not() -> None:
    taken = fill(dir="Liquidated Cross Long")

    assert minutes_of([block(1, 1, taken, taken, fill(), taken)]) == [minute("10.5", 1, 1)]


def test_a_pair_of_dollar_tokens_prices_one_of_them_and_other_pairs_nothing() -> None:
    fills = [
        fill("@230", px="0.998", dir="Buy", feeToken="USDH"),
        fill("@150", px="0.65", dir="Sell"),
        fill("@166", px="NaN", dir="Sell"),
        fill("@166", px="0", dir="Sell"),
        fill("@166", px="1.1", dir="Spot Dust Conversion"),
        fill("@107", px="47.2", dir="Buy"),
        fill("PURR/USDC", px="0.2", dir="Buy"),
        fill("#1890", px="0.5", dir="Buy"),
        fill("km:US500", px="600.1", feeToken="USDH"),
    ]

    assert minutes_of([block(1, 1, *fills)]) == [
        minute("0.65", 1, 1, "@150", token="USDE"),
        minute("0.998", 1, 1, "@230", token="USDH"),
        minute("600.1", 1, 1, "km:US500", quote="USDH"),
    ]


def keep(connection: Connection, step: list[MarketMinute]) -> None:
    with connection.transaction():
        ledger.add_market_minutes(connection, step)


def test_of_two_steps_the_higher_block_stands(connection: Connection) -> None:
    steps = [
        [minute("2", 20, 2)],
        [minute("1", 10, 1), minute("9", 11, 1, "ETH")],
        [minute("3", 21, 3)],
    ]
    for step in steps[:2]:
        keep(connection, step)
    assert rows(connection, "SELECT market, last_price, last_block FROM liq.market_minutes") == (
        in_order([("BTC", D(2), 20), ("ETH", D(9), 11)])
    )

    keep(connection, steps[2])
    assert rows(connection, f"{MINUTES} liq.market_minutes") == in_order(
        [
            ("BTC", NOON, None, "USDC", D(3), NOON + timedelta(seconds=3), 21),
            ("ETH", NOON, None, "USDC", D(9), NOON + timedelta(seconds=1), 11),
        ]
    )


def test_the_obvious_program_of_the_benchmark_finds_the_same_tables(
    connection: Connection, tmp_path: Path
) -> None:
    path = tmp_path / "node_fills_by_block/hourly/20251010/21.lz4"
    bulk.write_hour(path, 2_000_000)
    sync.backfill(connection, str(path))

    days, minutes, _ = obvious_tables(path)

    assert len(days) > 500
    assert rows(
        connection,
        """
        SELECT account, day::text, quote, fills, other_fills, volume, realised_pnl,
               largest_position, largest_position_market, maker_bought, maker_sold, maker_markets
        FROM liq.account_days
        """,
    ) == in_order(
        (*key, day.fills, day.other_fills, day.volume, day.pnl, day.largest, day.largest_market,
         day.bought, day.sold, sorted(day.markets))
        for key, day in days.items()
    )  # fmt: skip
    assert rows(
        connection,
        "SELECT market, to_char(minute AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI'), last_price,"
        " last_block FROM liq.market_minutes",
    ) == in_order((*key, *last) for key, last in minutes.items())


# -- what it is good for ---------------------------------------------------------------------------

T0 = NOON + timedelta(minutes=10, seconds=30)
LOAN = {
    "venue": "aave_v3.ethereum", "account": BOB, "method": "repay_seize", "market": "0x1",
    "repaid_asset": "0x" + "c" * 40, "repaid_raw": 1, "seized_raw": 10**18, "protocol_fee_raw": 0,
    "seized_is_shares": False, "fee_in_seized": False, "decoder_version": 1,
}  # fmt: skip
VALUES = (
    "SELECT event_key, basis, usd, price, quality, trust, as_of_at FROM liq.valuations"
    " WHERE price_source = "
)


def insert(connection: Connection, table: str, row: dict[str, Any]) -> None:
    names, places = ", ".join(row), ", ".join(f"%({name})s" for name in row)
    connection.execute(f"INSERT INTO ledger.{table} ({names}) VALUES ({places})", row)


@pytest.fixture
def perp(connection: Connection) -> Callable[..., str]:
    """Stores a liquidation of two ETH at T0; gives its key."""

    def make(number: int, **changes: Any) -> str:
        row = {
            "venue": "hyperliquid", "event_key": f"1/ETH/{number}", "account": ALICE,
            "block_number": 1, "block_at": T0, "tx_hash": f"0x{number}", "method": "market",
            "market": "ETH", "dex": "", "quote": "USDC", "side": "long", "size": D(2),
            "price": D(2316), "notional": D(4632), "mark_price": D(2320),
            "notional_mark": D(4640), "position_before": D(2), "realised_pnl": D(-50),
            "account_is_protocol_vault": False, "legs_seen": "both", "decoder_version": 1,
            **changes,
        }  # fmt: skip
        insert(connection, "liquidation", row)
        return str(row["event_key"])

    return make


@pytest.fixture
def traded(connection: Connection) -> Callable[..., datetime]:
    """Stores the last trade of a minute, some seconds before T0; gives its time."""

    def make(price: str, before: float, market: str = "ETH", **more: Any) -> datetime:
        seconds = (T0 - NOON).total_seconds() - before
        keep(connection, [minute(price, int(10 * seconds), seconds, market, **more)])
        return NOON + timedelta(seconds=seconds)

    return make


NO_MARK = {"mark_price": None, "notional_mark": None}


def test_a_record_without_a_mark_is_worth_what_the_market_traded_at(
    connection: Connection, perp: Callable[..., str], traded: Callable[..., datetime]
) -> None:
    traded("2300", 130)
    at = traded("2310", 31)  # in the minute before
    traded("2400", -1)  # in this one, and after it
    quiet, _ = perp(1, **NO_MARK), perp(2)

    values.value(connection)

    assert rows(connection, f"{VALUES} 'hyperliquid_fills'") == in_order(
        (quiet, basis, D(usd), D(1), "C", "governed", at)
        for basis, usd in (("fill", 4632), ("mark", 4620), ("realised", -50))
    )
    assert rows(connection, "SELECT basis, price_source, reason FROM liq.unvalued") == [
        ("mark", "par", "the record carries no mark price")
    ]


@pytest.mark.parametrize(
    ("before", "is_worth"), [(120, True), (120.001, False), (0.001, True), (0, False), (-1, False)]
)
def test_a_trade_counts_for_two_minutes_and_never_backwards(
    connection: Connection, perp: Callable[..., str], traded: Callable[..., datetime],
    before: float, is_worth: bool,
) -> None:  # fmt: skip
    traded("2310", before)
    perp(1, **NO_MARK)

    values.value(connection)

    found = rows(connection, f"{VALUES} 'hyperliquid_fills' AND basis = 'mark'")
    assert [row[2] for row in found] == ([D(4620)] if is_worth else [])


def test_a_quote_token_is_worth_its_last_trade_and_the_published_mark_stays(
    connection: Connection, perp: Callable[..., str], traded: Callable[..., datetime]
) -> None:
    at = traded("0.5", 40, "@150", token="USDE")
    traded("0.999", 121, "@230", token="USDH")
    traded("9999", 20)
    of_usde = perp(1, quote="USDE", method="backstop", price=D(2300), notional=D(4600))
    perp(2, quote="USDH")
    perp(3, quote="FEUSD")
    perp(4, quote=None)

    values.value(connection)

    assert rows(connection, f"{VALUES} 'hyperliquid_fills'") == in_order(
        (of_usde, basis, D(usd), D("0.5"), "C", "governed", at)
        for basis, usd in (
            ("fill", 2300), ("mark", 2320), ("margin_lost", 20), ("realised", -25),
        )
    )  # fmt: skip
    at_par = rows(connection, f"{VALUES} 'par' AND basis = 'mark'")
    assert [(key, usd) for key, _, usd, *_ in at_par] == in_order(
        [(of_usde, D(4640)), ("1/ETH/2", D(4640))]
    )


def test_a_value_is_as_old_as_the_older_of_its_trades(
    connection: Connection, perp: Callable[..., str], traded: Callable[..., datetime]
) -> None:
    older = traded("2310", 45)
    traded("0.5", 40, "@150", token="USDE")
    key = perp(1, quote="USDE", **NO_MARK)

    values.value(connection)

    assert rows(connection, f"{VALUES} 'hyperliquid_fills' AND basis = 'mark'") == [
        (key, "mark", D(2310), D("0.5"), "C", "governed", older)
    ]


def test_a_mark_of_a_dex_that_anybody_deployed_is_the_deployers(
    connection: Connection, perp: Callable[..., str], traded: Callable[..., datetime]
) -> None:
    traded("2310", 45, "xyz:TSLA")
    perp(1, market="xyz:TSLA", dex="xyz", event_key="1/xyz:TSLA/1", **NO_MARK)

    values.value(connection)

    found = rows(connection, f"{VALUES} 'hyperliquid_fills'")
    assert [(basis, trust) for _, basis, _, _, _, trust, _ in found] == [
        ("fill", "governed"), ("mark", "market"), ("realised", "governed"),
    ]  # fmt: skip


def test_a_pass_that_is_repeated_changes_nothing(
    connection: Connection, perp: Callable[..., str], traded: Callable[..., datetime]
) -> None:
    perp(1, **NO_MARK)
    assert values.value(connection)["written"] > 0
    traded("2310", 45)
    assert values.value(connection)["written"] == 1

    assert values.value(connection)["written"] == 0


def test_a_coin_that_was_lent_is_worth_what_its_perpetual_traded_at(
    connection: Connection, traded: Callable[..., datetime]
) -> None:
    token = "0x" + "e" * 40
    insert(connection, "asset", {"chain": "ethereum", "address": token, "decimals": 18})
    insert(
        connection, "asset_kin",
        {"chain": "ethereum", "address": token, "family": "ETH", "relation": "wrapped",
         "source": "test"},
    )  # fmt: skip
    for number, at in ((1, T0), (2, T0 + timedelta(minutes=5))):
        insert(
            connection, "lending_liquidation",
            {**LOAN, "event_key": f"{number}/1", "block_number": number, "block_at": at,
             "seized_asset": token},
        )  # fmt: skip
    at = traded("2310", 45)
    traded("1", 44, "xyz:ETH")

    values.value(connection)

    assert rows(connection, f"{VALUES} 'hyperliquid_fills' AND basis = 'seized'") == [
        ("1/1", "seized", D(2310), D("2310E-18"), "C", "governed", at)
    ]
