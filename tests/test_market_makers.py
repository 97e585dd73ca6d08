"""What accounts made of what they traded, against sums of a dull reader; and who is a market maker
by it, on hand-typed days."""

import json
import random
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from indexer import labels, sync
from indexer.model import BlockLine
from indexer.store import labels as labeler
from indexer.store.database import Connection
from indexer.venues.hyperliquid_days import AccountDays
from tests.ledger_rows import Rows, in_order, rows
from tests.simulator import RECORDING, Simulation, simulate, write_by_block

D = Decimal
MAKER = "0x00000000000000000000000000000000000000aa"
OTHER = "0x00000000000000000000000000000000000000bb"
DAY = date(2025, 10, 10)
LABELS = "SELECT account, label, confidence, valid_from, valid_to FROM liq.labels"
IN_THE_BOOK = (
    "Open Long", "Open Short", "Close Long", "Close Short", "Long > Short", "Short > Long",
)  # fmt: skip


@pytest.fixture(scope="module")
def sim() -> Simulation:
    return simulate(RECORDING)


@pytest.fixture
def tree(sim: Simulation, tmp_path: Path) -> Path:
    write_by_block(sim, tmp_path)
    return tmp_path


# -- what is added up ------------------------------------------------------------------------------


def events_of(tree: Path) -> list[tuple[datetime, int, str, dict[str, Any]]]:
    """All fills of plain files: time and height of the block, account, fill."""
    blocks = [
        json.loads(line)
        for path in tree.rglob("*")
        if path.is_file() and "node_fills_by_block" in str(path)
        for line in path.read_text().splitlines()
    ]
    return [
        (datetime.fromisoformat(block["block_time"][:26] + "+00:00"), block["block_number"], *event)
        for block in sorted(blocks, key=lambda block: block["block_number"])
        for event in block["events"]
    ]


def made(tree: Path) -> Rows:
    """Account, day, quote token, what was bought and sold as a maker, where: by a dull reader."""
    bought: dict[Any, Decimal] = defaultdict(Decimal)
    sold: dict[Any, Decimal] = defaultdict(Decimal)
    markets: dict[Any, set[str]] = defaultdict(set)
    keys = set()
    for at, _, account, fill in events_of(tree):
        is_perp = fill["coin"][0] not in "@#" and "/" not in fill["coin"]
        quote = fill["feeToken"] if ":" in fill["coin"] else "USDC"
        key = (account, at.date(), quote)
        keys.add(key)
        if is_perp and fill["dir"] in IN_THE_BOOK and fill["crossed"] is False:
            side = bought if fill["side"] == "B" else sold
            side[key] += Decimal(fill["px"]) * Decimal(fill["sz"])
            markets[key].add(fill["coin"])
    return in_order((*key, bought[key], sold[key], sorted(markets[key])) for key in keys)


DAYS = "SELECT account, day, quote, maker_bought, maker_sold, maker_markets FROM liq.account_days"


@pytest.mark.any_postgres
def test_what_an_account_made_is_what_a_dull_reader_finds(
    connection: Connection, tree: Path
) -> None:
    sync.backfill(connection, str(tree))

    expected = made(tree)
    assert sum(bool(markets) for *_, markets in expected) >= 50
    assert sum(len(markets) > 3 for *_, markets in expected) >= 10
    assert rows(connection, DAYS) == expected


def test_the_order_of_files_and_reading_them_again_change_nothing(
    connection: Connection, conninfo: str, tree: Path
) -> None:
    files = sorted(path for path in tree.rglob("*") if path.is_file() and "by_block" in str(path))
    assert len(files) >= 3
    random.Random(7).shuffle(files)
    for path in (*files, files[0], tree):
        sync.backfill(connection, str(path))

    assert rows(connection, DAYS) == made(tree)


def fill(coin: str = "BTC", **other: Any) -> dict[str, Any]:
    base = {
        "coin": coin, "px": "10.5", "sz": "2.0", "side": "B", "time": 1, "startPosition": "0.0",
        "dir": "Open Long", "closedPnl": "0.0", "crossed": False, "feeToken": "USDC",
    }  # fmt: skip
    return {name: value for name, value in (base | other).items() if value is not ...}


def day_of(*fills: dict[str, Any]) -> tuple[Any, ...]:
    """Volume, bought, sold and markets of an account with these fills; and what is in no sum."""
    at = datetime(2025, 10, 10, 21, tzinfo=UTC)
    events = json.dumps([[MAKER, one] for one in fills]).encode()
    days = AccountDays()
    unknown = list(days.add([BlockLine(1, at, events, False, "file", 1)]))
    (row,) = days.rows()
    return row.volume, row.maker_bought, row.maker_sold, row.maker_markets, len(unknown)


def test_buying_and_selling_as_a_maker_are_kept_apart() -> None:
    assert day_of(
        fill("ETH"), fill("BTC", side="A"), fill("BTC"), fill("BTC", sz="3.0", crossed=True)
    ) == (D("94.5"), D("42.0"), D("21.0"), ("BTC", "ETH"), 0)


def test_a_fill_that_does_not_say_who_took_is_not_made() -> None:
    fills = (fill(crossed=...), fill(crossed=None), fill())

    assert day_of(*fills) == (D("63.0"), D("21.0"), D(0), ("BTC",), 0)


def test_a_fill_that_says_nonsense_of_who_took_is_in_no_sum() -> None:
    assert day_of(fill(), fill(crossed="no"), fill(crossed=0)) == (
        D("21.0"), D("21.0"), D(0), ("BTC",), 2,
    )  # fmt: skip


@pytest.mark.parametrize(
    "direction", ["Liquidated Cross Long", "Auto-Deleveraging", "Something New"]
)
def test_who_is_taken_over_made_nothing(direction: str) -> None:
    """Of a takeover it is the victim whose fill says that it did not cross."""
    assert day_of(fill(dir=direction), fill("ETH", dir=direction)) == (D(42), D(0), D(0), (), 0)


def test_spot_and_housekeeping_are_not_made() -> None:
    fills = (fill("@107", dir="Buy"), fill("@230", dir="Buy"), fill(dir="Settlement"), fill("#18"))

    assert day_of(*fills) == (D(0), D(0), D(0), (), 0)


def test_a_day_that_was_counted_before_stays_unknown(
    connection: Connection, sim: Simulation, tree: Path
) -> None:
    first = min(path for path in tree.rglob("*") if path.is_file() and "by_block" in str(path))
    sync.backfill(connection, str(first))
    known = "SELECT account, day, quote FROM ledger.account_day WHERE {} IS NOT NULL"
    before = rows(connection, known.format("maker_bought"))
    connection.execute(
        "UPDATE ledger.account_day SET maker_bought = NULL, maker_sold = NULL, maker_markets = NULL"
    )

    sync.backfill(connection, str(tree))

    assert before
    for column in ("maker_bought", "maker_sold", "maker_markets"):
        after = rows(connection, known.format(column))
        assert after
        assert not set(after) & set(before)


# -- who is a market maker -------------------------------------------------------------------------


def traded(
    connection: Connection,
    day: date = DAY,
    *,
    volume: str | int = 1000,
    bought: str | int | None = 350,
    sold: str | int | None = 350,
    markets: range | None = range(30),
    account: str = MAKER,
    quote: str = "USDC",
) -> None:
    names = None if markets is None else sorted(f"M{number}" for number in markets)
    connection.execute(
        """
        INSERT INTO ledger.account_day (
            venue, account, day, quote, fills, other_fills, volume, realised_pnl, largest_position,
            largest_position_market, maker_bought, maker_sold, maker_markets
        ) VALUES ('hyperliquid', %s, %s, %s, 9, 0, %s, 0, 1, 'M1', %s, %s, %s)
        """,
        (account, day, quote, volume, bought, sold, names),
    )


def makers(connection: Connection) -> Rows:
    labeler.apply(connection, labels.rules())
    return rows(connection, f"{LABELS} WHERE rule = 'ROLE_MM'")


def held(first: date, last: date, account: str = MAKER) -> tuple[Any, ...]:
    """The label of an account from the first day to 90 days after the last."""
    from_, to = (datetime(day.year, day.month, day.day, tzinfo=UTC) for day in (first, last))
    return account, "market_maker", D("0.6").normalize(), from_, to + timedelta(days=91)


@pytest.mark.any_postgres
def test_the_thresholds_themselves_make_a_market_maker(connection: Connection) -> None:
    """70 % of 1000 is made, 25 % of that on the smaller side, in 30 markets."""
    traded(connection, bought=175, sold=525)

    assert makers(connection) == [held(DAY, DAY)]
    assert rows(connection, "SELECT evidence FROM liq.labels WHERE rule = 'ROLE_MM'") == [
        (
            {
                "day": "2025-10-10", "volume_usd": "1000", "maker_bought_usd": "175",
                "maker_sold_usd": "525", "maker_markets": 30, "days": 1,
            },
        )
    ]  # fmt: skip


@pytest.mark.parametrize(
    "less",
    [
        {"volume": "1000.0000001"},
        {"bought": "174.9999", "sold": "525.0001"},
        {"sold": "174.9999", "bought": "525.0001"},
        {"bought": 0, "sold": 700},
        {"markets": range(29)},
        {"quote": "FEUSD"},
        {"bought": None, "sold": None, "markets": None},
        {"volume": 0, "bought": 0, "sold": 0},
    ],
)
def test_whoever_misses_one_threshold_is_none(connection: Connection, less: dict[str, Any]) -> None:
    traded(connection, **less)

    assert makers(connection) == []


def test_markets_are_united_over_thirty_days(connection: Connection) -> None:
    traded(connection, DAY, markets=range(20))
    traded(connection, DAY + timedelta(days=1), markets=range(10, 29))
    traded(connection, DAY + timedelta(days=29), markets=range(29, 30))
    traded(connection, DAY, account=OTHER, markets=range(20))
    traded(connection, DAY + timedelta(days=30), account=OTHER, markets=range(20, 30))

    assert makers(connection) == [held(DAY + timedelta(days=29), DAY + timedelta(days=29))]


def test_dollar_tokens_are_added_up(connection: Connection) -> None:
    traded(connection, markets=range(20), bought=700, sold=0)
    traded(connection, markets=range(20, 30), bought=0, sold=700, quote="USDH")

    assert makers(connection) == [held(DAY, DAY)]


def test_a_day_of_taking_ends_it_and_thirty_days_later_it_may_begin_again(
    connection: Connection,
) -> None:
    took = DAY + timedelta(days=1)
    again = took + timedelta(days=30)
    traded(connection, DAY)
    traded(connection, took, bought=0, sold=0, markets=range(0))
    traded(connection, again - timedelta(days=1))
    traded(connection, again + timedelta(days=100))

    last = again + timedelta(days=100)
    assert makers(connection) == in_order([held(DAY, DAY), held(last, last)])

    traded(connection, again)  # the day of taking is 30 days ago
    assert makers(connection) == in_order([held(DAY, again), held(last, last)])


def test_a_day_of_which_it_is_unknown_is_not_made(connection: Connection) -> None:
    unknown = {"bought": None, "sold": None, "markets": None}
    traded(connection, DAY, **unknown, volume=300)  # type: ignore[arg-type]
    traded(connection, DAY + timedelta(days=1), volume=700, bought=351, sold=349)
    assert makers(connection) == [held(DAY + timedelta(days=1), DAY + timedelta(days=1))]

    connection.execute("UPDATE ledger.account_day SET volume = 301 WHERE volume = 300")
    assert makers(connection) == []


def test_days_of_making_are_joined_and_the_busiest_is_evidence(connection: Connection) -> None:
    for number in range(3):
        traded(connection, DAY + timedelta(days=number), bought=500, sold=500)
    traded(connection, DAY + timedelta(days=200))

    later = DAY + timedelta(days=200)
    assert makers(connection) == in_order([held(DAY, DAY + timedelta(days=2)), held(later, later)])
    evidence = "SELECT evidence ->> 'day', evidence ->> 'volume_usd', evidence ->> 'days'"
    assert rows(connection, f"{evidence} FROM liq.labels WHERE rule = 'ROLE_MM'") == in_order(
        [("2025-10-12", "3000", "3"), ("2026-04-28", "1000", "1")]
    )


def test_looking_at_those_who_changed_is_looking_at_all(connection: Connection) -> None:
    rng = random.Random(5)
    for number in range(6):
        for account in (MAKER, OTHER):
            made_of = rng.randrange(600, 1000)
            traded(
                connection, DAY + timedelta(days=11 * number), account=account,
                bought=made_of // 2, sold=made_of // 2, markets=range(rng.randrange(15, 40)),
            )  # fmt: skip
            step_by_step = makers(connection)

    labeler.apply(connection, labels.rules(), again=True)
    assert step_by_step
    assert rows(connection, f"{LABELS} WHERE rule = 'ROLE_MM'") == step_by_step


def test_a_protocol_vault_may_be_a_market_maker(connection: Connection) -> None:
    """It says what an account does: HLP's own strategies are makers, and no whale for it."""
    strategy = "0x010461c14e146ac35fe42271bdc1134ee31c703a"
    connection.execute(
        "INSERT INTO ledger.protocol_vault (venue, account, name, source)"
        " VALUES ('hyperliquid', %s, 'HLP Strategy A', 'test')",
        (strategy,),
    )
    traded(connection, account=strategy)

    assert makers(connection) == [held(DAY, DAY, strategy)]
