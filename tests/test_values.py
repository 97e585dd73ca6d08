"""What liquidations were worth, from rows and prices that stand in the database."""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from indexer.evm_model import BlockRef, Bonus, Position
from indexer.store import chain_coverage, database, values
from indexer.store.database import Connection
from indexer.store.lending_values import Terms
from tests.ledger_rows import Rows, rows
from tests.processes import soon

Made = Callable[..., str]
Beside = Callable[[Callable[[Connection], object]], Future[object]]

T0 = datetime(2025, 10, 10, 21, tzinfo=UTC)
VENUE = "aave_v3.ethereum"
MARKET, USDC, WETH, WBTC = ("0x" + 40 * digit for digit in "1234")
ALICE, CAROL = ("0x" + 40 * digit for digit in "ac")
USDC_USD, WETH_USD = Decimal("0.0000009998"), Decimal("0.0000000000000041001234")
AAVE = {"aave_v3": Terms(Bonus(Decimal("1.0"), Decimal("1.2"), "test"), "on_top")}

BASES = "SELECT event_key, basis, price_source, usd, price, quality, trust FROM liq.valuations"
REASONS = "SELECT event_key, basis, price_source, reason FROM liq.unvalued"
SUSPECTS = "SELECT event_key, rule, detail FROM liq.suspects"


@pytest.fixture
def lending(connection: Connection) -> Made:
    """Stores a lending liquidation; gives its key."""

    def make(number: int, part: int = 0, **changes: Any) -> str:
        key = f"0x{number:064x}/7" + (f"/{part}" if part else "")
        block = changes.pop("block", 100 + number)
        row = {
            "venue": VENUE, "event_key": key, "account": ALICE, "block_number": block,
            "block_at": T0 + timedelta(seconds=12 * (block - 100)), "method": "repay_seize",
            "market": MARKET, "repaid_asset": USDC, "repaid_raw": 4_000_000_000,
            "seized_asset": WETH, "seized_raw": 1_020_000_000_000_000_001,
            "seized_is_shares": False, "protocol_fee_raw": 3_000_000_000_000_000,
            "fee_in_seized": False, "decoder_version": 1, **changes,
        }  # fmt: skip
        insert(connection, "lending_liquidation", row)
        return key

    return make


@pytest.fixture
def price(connection: Connection) -> Callable[..., None]:
    """Stores a price."""

    def make(asset: str, usd: str | Decimal, block: int = 101, **changes: Any) -> None:
        row = {
            "venue": VENUE, "market": MARKET, "asset": asset, "block_number": block,
            "log_index": -1, "source": "oracle", "usd": Decimal(usd), "quality": "A",
            "trust": "governed", "via": [MARKET], "as_of_block": block, "as_of_at": T0, **changes,
        }  # fmt: skip
        insert(connection, "price", row)

    return make


@pytest.fixture
def perp(connection: Connection) -> Made:
    """Stores a liquidation of Hyperliquid; gives its key."""

    def make(number: int, **changes: Any) -> str:
        row = {
            "venue": "hyperliquid", "event_key": f"1/ETH/{number}", "account": ALICE,
            "block_number": 1, "block_at": T0, "tx_hash": f"0x{number}", "method": "market",
            "market": "ETH", "dex": "", "quote": "USDC", "side": "long", "size": Decimal("0.1037"),
            "price": Decimal(2316), "notional": Decimal("240.1692"),
            "mark_price": Decimal("2323.3"), "notional_mark": Decimal("240.92621"),
            "position_before": Decimal("0.1037"), "realised_pnl": Decimal("-9.94483"),
            "account_is_protocol_vault": False, "legs_seen": "both", "decoder_version": 1,
            **changes,
        }  # fmt: skip
        insert(connection, "liquidation", row)
        return str(row["event_key"])

    return make


def insert(connection: Connection, table: str, row: dict[str, Any]) -> None:
    names, places = ", ".join(row), ", ".join(f"%({name})s" for name in row)
    connection.execute(f"INSERT INTO ledger.{table} ({names}) VALUES ({places})", row)


def prices_of(price: Callable[..., None], block: int = 101, **changes: Any) -> None:
    """Of both tokens in one block."""
    price(USDC, USDC_USD, block, **changes)
    price(WETH, WETH_USD, block, **changes)


def import_points(connection: Connection, *points: tuple[str, str, datetime, str]) -> None:
    """A price file `mine`, good for an hour: chain, asset, time, usd."""
    connection.execute(
        "INSERT INTO ledger.price_file (name, uri, sha256, max_age, points)"
        " VALUES ('mine', 'mine.csv', 'x', '1 hour', 1)"
    )
    for chain, asset, at, usd in points:
        insert(
            connection, "price_point",
            {"name": "mine", "chain": chain, "asset": asset, "at": at, "usd": Decimal(usd)},
        )  # fmt: skip


def decimals(connection: Connection, **found: int) -> None:
    for address, number in found.items():
        row = {"chain": "ethereum", "address": address, "decimals": number}
        insert(connection, "asset", row)


def everything(connection: Connection) -> dict[str, Rows]:
    """All that a pass writes."""
    return {
        name: rows(connection, f"SELECT * FROM ledger.{name}")
        for name in ("valuation", "unvalued", "suspect")
    }


def usd(connection: Connection, key: str, source: str = "oracle") -> dict[str, Decimal]:
    """What a liquidation was worth, by basis."""
    found = connection.execute(
        "SELECT basis, usd FROM liq.valuations WHERE event_key = %s AND price_source = %s",
        (key, source),
    )
    return dict(found.fetchall())  # type: ignore[arg-type]


# -- lending -------------------------------------------------------------------------------------


@pytest.mark.any_postgres
def test_every_basis_is_an_amount_times_its_price(
    connection: Connection, lending: Made, price: Callable[..., None]
) -> None:
    key = lending(1)
    prices_of(price)

    counts = values.value(connection, terms=AAVE)

    gross = 1_023_000_000_000_000_001 * WETH_USD
    net = 1_020_000_000_000_000_001 * WETH_USD
    repaid = 4_000_000_000 * USDC_USD
    assert rows(connection, BASES) == sorted(
        [
            (key, "bonus", "oracle", net - repaid, None, "A", "governed"),
            (key, "repaid", "oracle", repaid.normalize(), USDC_USD, "A", "governed"),
            (key, "seized", "oracle", gross, WETH_USD, "A", "governed"),
            (key, "seized_net", "oracle", net, WETH_USD, "A", "governed"),
        ],
        key=repr,
    )
    assert rows(connection, REASONS) == rows(connection, SUSPECTS) == []
    assert counts == {"liquidations": 1, "valuation": 1, "written": 1}


def test_a_fee_within_is_taken_from_what_the_liquidator_gets(
    connection: Connection, lending: Made, price: Callable[..., None]
) -> None:
    key = lending(1, seized_raw=10**18, protocol_fee_raw=10**16, fee_in_seized=True)
    prices_of(price)

    values.value(connection)

    found = usd(connection, key)
    assert found["seized"] == 10**18 * WETH_USD
    assert found["seized_net"] == 99 * 10**16 * WETH_USD


@pytest.mark.parametrize(
    ("fee", "expected"),
    [
        (None, {"repaid", "seized"}),
        ("within", {"repaid", "seized"}),
        ("none", {"repaid", "seized", "seized_net", "bonus"}),
        ("on_top", {"repaid", "seized_net", "bonus"}),
    ],
)
def test_with_an_unknown_fee_the_rule_of_the_protocol_decides(
    connection: Connection,
    lending: Made,
    price: Callable[..., None],
    fee: Any,
    expected: set[str],
) -> None:
    key = lending(1, protocol_fee_raw=None, fee_in_seized=None)
    prices_of(price)

    values.value(connection, terms={"aave_v3": Terms(fee=fee)})

    assert set(usd(connection, key)) == expected
    unknown = {"seized", "seized_net", "bonus"} - expected
    assert rows(connection, REASONS) == [
        (key, basis, "oracle", "the protocol fee is unknown") for basis in sorted(unknown)
    ]


def test_what_the_liquidator_got_is_kept_when_it_is_all_that_is_known(
    connection: Connection, lending: Made, price: Callable[..., None]
) -> None:
    key = lending(1, protocol_fee_raw=None, fee_in_seized=None)
    price(WETH, WETH_USD)

    values.value(connection, terms=AAVE)

    assert usd(connection, key) == {"seized_net": 1_020_000_000_000_000_001 * WETH_USD}


def test_a_missing_price_is_a_reason_and_never_a_number(
    connection: Connection, lending: Made, price: Callable[..., None]
) -> None:
    asked, unasked, nameless = lending(1), lending(2), lending(3, repaid_asset=None)
    price(USDC, USDC_USD, 101)
    price(WETH, WETH_USD, 103)
    no_price = {"venue": VENUE, "market": MARKET, "asset": WETH, "block_number": 101}
    insert(connection, "no_price", {**no_price, "log_index": -1, "reason": "the oracle reverted"})
    insert(connection, "no_price", {**no_price, "log_index": 7, "reason": "the feed said nothing"})

    values.value(connection, terms=AAVE)

    said, waits = "the feed said nothing", "no price was asked for yet"
    assert rows(connection, REASONS) == sorted(
        [
            *((asked, basis, "oracle", said) for basis in ("seized", "seized_net", "bonus")),
            *(
                (unasked, basis, "oracle", waits)
                for basis in ("repaid", "seized", "seized_net", "bonus")
            ),
            *((nameless, basis, "oracle", "the asset is unknown") for basis in ("repaid", "bonus")),
        ],
        key=repr,
    )
    assert {key: set(usd(connection, key)) for key in (asked, unasked, nameless)} == {
        asked: {"repaid"},
        unasked: set(),
        nameless: {"seized", "seized_net"},
    }
    assert rows(
        connection,
        "SELECT basis, reason, liquidations FROM liq.unvalued_reasons WHERE basis = 'repaid'",
    ) == [("repaid", waits, 1), ("repaid", "the asset is unknown", 1)]


def test_the_price_at_the_log_itself_comes_before_that_of_the_block(
    connection: Connection, lending: Made, price: Callable[..., None]
) -> None:
    key = lending(1)
    prices_of(price)
    price(WETH, "0.000000000000004", log_index=7, quality="B", as_of_at=None)
    price(WETH, "0.000000000000005", log_index=8)

    values.value(connection, terms=AAVE)

    assert usd(connection, key)["seized_net"] == Decimal("4080.000000000000004")
    assert rows(
        connection,
        "SELECT DISTINCT quality, as_of_at FROM liq.valuations WHERE basis = 'seized'",
    ) == [("B", None)]


def test_sources_stand_side_by_side_and_never_mix(
    connection: Connection, lending: Made, price: Callable[..., None]
) -> None:
    key = lending(1)
    price(USDC, USDC_USD)
    price(WETH, WETH_USD, source="reference", quality="B", trust="market")
    price(USDC, "0.000001", source="feed_log", quality="B")

    values.value(connection, terms=AAVE)

    assert [row[1:3] for row in rows(connection, BASES)] == [
        ("repaid", "feed_log"),
        ("repaid", "oracle"),
        ("seized", "reference"),
        ("seized_net", "reference"),
    ]
    assert rows(connection, REASONS) == [
        (key, "bonus", "oracle", "no one source has a price for every leg")
    ]
    best = "SELECT repaid_source, seized_source, seized_trust, bonus_usd FROM liq.lending_values"
    assert rows(connection, best) == [("oracle", "reference", "market", None)]


def test_what_one_source_lacks_is_no_reason_where_another_has_it(
    connection: Connection, lending: Made, price: Callable[..., None]
) -> None:
    lending(1)
    prices_of(price)
    price(USDC, USDC_USD, source="reference", quality="B")

    values.value(connection, terms=AAVE)

    assert rows(connection, REASONS) == []


def test_a_bonus_is_no_better_than_its_worst_price(
    connection: Connection, lending: Made, price: Callable[..., None]
) -> None:
    lending(1)
    price(USDC, USDC_USD, quality="A-", trust="market")
    price(WETH, WETH_USD)

    values.value(connection, terms=AAVE)

    assert [row[1::4] for row in rows(connection, BASES)] == [
        ("bonus", "A-"),
        ("repaid", "A-"),
        ("seized", "A"),
        ("seized_net", "A"),
    ]
    assert rows(connection, "SELECT DISTINCT trust FROM liq.valuations WHERE basis = 'bonus'") == [
        ("market",)
    ]


def test_the_bonus_of_several_collaterals_is_one_number(
    connection: Connection, lending: Made, price: Callable[..., None]
) -> None:
    first = lending(1, seized_raw=10**18, protocol_fee_raw=0)
    second = lending(
        1, 1, repaid_asset=None, repaid_raw=None, seized_asset=WBTC, seized_raw=10**8,
        protocol_fee_raw=0,
    )  # fmt: skip
    prices_of(price)

    values.value(connection)
    assert "bonus" not in usd(connection, first)
    assert (first, "bonus", "oracle", "no one source has a price for every leg") in rows(
        connection, REASONS
    )

    price(WBTC, "0.001", quality="B")
    values.value(connection)

    total = 10**18 * WETH_USD + 100_000 - 4_000_000_000 * USDC_USD
    assert usd(connection, first)["bonus"] == total
    assert set(usd(connection, second)) == {"seized", "seized_net"}
    assert rows(connection, "SELECT quality FROM liq.valuations WHERE basis = 'bonus'") == [("B",)]
    assert rows(connection, REASONS) == []


def test_debt_written_off_is_a_basis_and_a_part_of_its_own(
    connection: Connection, lending: Made, price: Callable[..., None]
) -> None:
    own = lending(1, bad_debt_asset=USDC, bad_debt_raw=5_000_000)
    part = lending(
        1, 1, method="write_off", repaid_asset=None, repaid_raw=None, seized_asset=None,
        seized_raw=None, protocol_fee_raw=None, fee_in_seized=None, bad_debt_asset=WBTC,
        bad_debt_raw=3,
    )  # fmt: skip
    prices_of(price)
    price(WBTC, "0.0011")

    values.value(connection, terms=AAVE)

    assert usd(connection, own)["bad_debt"] == 5_000_000 * USDC_USD
    assert "bonus" in usd(connection, own)
    assert usd(connection, part) == {"bad_debt": Decimal("0.0033")}
    assert rows(connection, REASONS) == []


def test_who_absorbs_gets_no_collateral_and_no_bonus(
    connection: Connection, lending: Made, price: Callable[..., None]
) -> None:
    key = lending(1, method="absorb", protocol_fee_raw=None, fee_in_seized=None)
    prices_of(price)

    values.value(connection)

    assert set(usd(connection, key)) == {"repaid", "seized"}
    assert rows(connection, REASONS) == []


# -- price files ---------------------------------------------------------------------------------


@pytest.mark.any_postgres  # powers of ten are not the same in all versions
def test_a_file_prices_whole_tokens_and_what_shares_stand_for(
    connection: Connection, lending: Made
) -> None:
    key = lending(1, seized_asset=WBTC, seized_raw=300, seized_is_shares=True)
    decimals(connection, **{USDC: 6, WETH: 18})
    rate = {"chain": "ethereum", "asset": WBTC, "block_number": 101, "underlying": WETH}
    insert(connection, "share_rate", {**rate, "shares_raw": 4, "assets_raw": 10**16})
    import_points(
        connection,
        ("ethereum", USDC, T0 - timedelta(hours=2), "0.5"),
        ("ethereum", USDC, T0 + timedelta(seconds=12), "0.99"),
        ("ethereum", USDC, T0 + timedelta(seconds=13), "0.7"),
        ("ethereum", WETH, T0, "4000"),
        ("base", USDC, T0, "7"),
    )

    values.value(connection, terms={"aave_v3": Terms(fee="on_top")})

    assert [row[1:] for row in rows(connection, BASES)] == [
        ("bonus", "file:mine", Decimal(-960), None, "C", "governed"),
        ("repaid", "file:mine", Decimal(3960), Decimal("9.9E-7"), "C", "governed"),
        ("seized", "file:mine", Decimal("3.000000000000300E+16").normalize(), Decimal(10), "C",
         "governed"),
        ("seized_net", "file:mine", Decimal(3000), Decimal(10), "C", "governed"),
    ]  # fmt: skip
    assert rows(connection, "SELECT DISTINCT as_of_at FROM liq.valuations WHERE basis = 'repaid'")[
        0
    ] == (T0 + timedelta(seconds=12),)
    assert {reason for *_, reason in rows(connection, REASONS)} == {"no price was asked for yet"}
    assert usd(connection, key) == {}


@pytest.mark.parametrize(
    ("at", "places", "is_shares", "reason"),
    [
        (T0 + timedelta(seconds=13), 18, False, "the file has no point before it"),
        (T0 - timedelta(hours=1), 18, False, "the last point of the file is too old"),
        (T0, 40, False, "the decimals of the token are unknown"),
        (T0, 18, True, "what the shares were worth is unknown"),
    ],
)
def test_a_file_says_why_it_has_no_price_for_what_it_names(
    connection: Connection, lending: Made, at: datetime, places: int, is_shares: bool, reason: str
) -> None:
    key = lending(1, seized_is_shares=is_shares)
    decimals(connection, **{USDC: 6, WETH: places})
    fact = {"chain": "ethereum", "fact": "underlying", "subject": WETH, "value": WETH}
    insert(connection, "fact", {**fact, "block_number": 1})
    import_points(connection, ("ethereum", WETH, at, "4000"), ("ethereum", USDC, T0, "1"))

    values.value(connection, terms=AAVE)

    said = "SELECT event_key, basis, reason FROM liq.unvalued WHERE price_source = 'file:mine'"
    assert rows(connection, said) == [
        (key, "bonus", reason),
        (key, "seized", reason),
        (key, "seized_net", reason),
    ]
    assert set(usd(connection, key, "file:mine")) == {"repaid"}


def test_a_file_is_not_trusted_in_a_permissionless_market(
    connection: Connection, lending: Made
) -> None:
    key = lending(1)
    decimals(connection, **{USDC: 6})
    import_points(connection, ("ethereum", USDC, T0, "1"))

    values.value(connection, terms={"aave_v3": Terms(is_permissionless=True)})

    assert [row[1:] for row in rows(connection, BASES)] == [
        ("repaid", "file:mine", Decimal(4000).normalize(), Decimal("1E-6"), "C", "market")
    ]
    assert usd(connection, key, "file:mine") == {"repaid": 4000}


def test_a_file_may_come_before_the_rows_that_it_is_for(
    connection: Connection, lending: Made
) -> None:
    import_points(connection, ("ethereum", USDC, T0, "0.5"))
    assert values.value(connection) == {}
    key = lending(1)
    of_file = f"{REASONS} WHERE price_source = 'file:mine'"

    values.value(connection)
    assert rows(connection, of_file) == [
        (key, "repaid", "file:mine", "the decimals of the token are unknown")
    ]

    decimals(connection, **{USDC: 6})
    values.value(connection)
    assert rows(connection, of_file) == []
    assert usd(connection, key, "file:mine") == {"repaid": 2000}


def test_what_the_chain_could_not_price_stays_counted_where_a_file_does(
    connection: Connection, lending: Made
) -> None:
    key = lending(1)
    decimals(connection, **{USDC: 6, WETH: 18})
    import_points(connection, ("ethereum", USDC, T0, "1"), ("ethereum", WETH, T0, "4000"))

    values.value(connection, terms=AAVE)

    bases = ["bonus", "repaid", "seized", "seized_net"]
    assert sorted(usd(connection, key, "file:mine")) == bases
    assert rows(connection, REASONS) == [
        (key, basis, "oracle", "no price was asked for yet") for basis in bases
    ]


# -- passes --------------------------------------------------------------------------------------


def test_a_second_pass_changes_nothing(
    connection: Connection, lending: Made, price: Callable[..., None], perp: Made
) -> None:
    lending(1)
    lending(2)
    lending(1, 1, seized_asset=WBTC)
    perp(1, method="backstop")
    perp(2, quote=None)
    prices_of(price)
    decimals(connection, **{USDC: 6})
    import_points(connection, ("ethereum", USDC, T0, "1"), ("hyperliquid", "USDC", T0, "0.999"))
    values.value(connection, terms=AAVE)
    before = everything(connection)
    assert len(before["valuation"]) >= 4

    counts = values.value(connection, terms=AAVE)

    assert (counts["written"], counts["removed"]) == (0, 0)
    assert everything(connection) == before


def test_a_pass_in_small_parts_gives_the_same(
    connection: Connection,
    lending: Made,
    price: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for number in range(1, 8):
        lending(number, block=100 + number // 2)
    lending(3, 1, block=101, seized_asset=WBTC)
    for block in (100, 101, 102):
        prices_of(price, block)
    values.value(connection, terms=AAVE)
    before = everything(connection)
    connection.execute("TRUNCATE ledger.valuation, ledger.unvalued, ledger.suspect")

    monkeypatch.setattr(values, "ROWS_AT_ONCE", 1)
    counts = values.value(connection, terms=AAVE)

    assert everything(connection) == before
    assert counts["liquidations"] == 8


def test_a_pass_on_two_connections_gives_the_same(
    connection: Connection,
    lending: Made,
    price: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    day = timedelta(days=1)
    for number in range(1, 13):
        lending(number, block_at=T0 + 3 * number * day, seized_raw=number * 10**17)
        prices_of(price, 100 + number)
    values.value(connection, terms=AAVE)
    before = everything(connection)
    connection.execute("TRUNCATE ledger.valuation, ledger.unvalued, ledger.suspect")

    done: set[tuple[int | None, int]] = set()
    one_part = values._value

    def noted(on: Connection, part: Any) -> Counter[str]:
        done.add((part.half, on.info.backend_pid))
        return one_part(on, part)

    monkeypatch.setattr(values, "ROWS_AT_ONCE", 2)
    monkeypatch.setattr(values, "_value", noted)
    counts = values.value_all(connection, terms=AAVE, venues=[VENUE])

    pid = connection.info.backend_pid
    (other,) = {one for _, one in done} - {pid}
    assert everything(connection) == before
    assert counts["liquidations"] == 12
    assert done == {(0, pid), (1, other), (None, pid)}


def test_a_fault_of_either_connection_ends_the_pass(
    connection: Connection, lending: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1, 13):
        lending(number, block_at=T0 + timedelta(days=3 * number))

    def fail_in(half: int) -> None:
        def failing(on: Connection, part: Any) -> Counter[str]:
            if part.half == half:
                raise ZeroDivisionError(half)
            return Counter()

        monkeypatch.setattr(values, "_value", failing)

    monkeypatch.setattr(values, "ROWS_AT_ONCE", 1)
    for half in (0, 1):
        fail_in(half)
        with pytest.raises(ZeroDivisionError, match=str(half)):
            values.value_all(connection, terms=AAVE, venues=[VENUE])


def test_a_price_that_comes_changes_or_goes_moves_only_its_own_values(
    connection: Connection, lending: Made, price: Callable[..., None]
) -> None:
    one, two = lending(1), lending(2)
    prices_of(price, 101)
    values.value(connection, terms=AAVE)
    assert {row[0] for row in rows(connection, REASONS)} == {two}

    prices_of(price, 102)
    assert values.value(connection, terms=AAVE)["written"] == 1
    assert rows(connection, REASONS) == []

    connection.execute("UPDATE ledger.price SET usd = usd * 2 WHERE block_number = 102")
    counts = values.value(connection, terms=AAVE)
    assert (counts["written"], counts["removed"]) == (1, 1)
    assert usd(connection, two)["repaid"] == 2 * usd(connection, one)["repaid"]

    connection.execute("DELETE FROM ledger.price WHERE block_number = 102")
    values.value(connection, terms=AAVE)
    assert usd(connection, two) == {}
    assert {row[0] for row in rows(connection, REASONS)} == {two}


def test_a_pass_keeps_to_its_venues_and_its_time(
    connection: Connection, lending: Made, price: Callable[..., None]
) -> None:
    keys = [lending(number) for number in (1, 2, 3)]
    lending(4, venue="aave_v2.ethereum", block=102)
    for block in (101, 102, 103):
        prices_of(price, block)
        prices_of(price, block, venue="aave_v2.ethereum")
    at = T0 + timedelta(seconds=24)

    values.value(connection, terms=AAVE, venues=[VENUE], since=at, until=at + timedelta(seconds=1))

    assert rows(connection, "SELECT venue, event_key FROM ledger.valuation") == [(VENUE, keys[1])]


def test_a_pass_inside_a_longer_transaction_keeps_its_parts_apart(
    connection: Connection, lending: Made, price: Callable[..., None]
) -> None:
    with connection.transaction():
        lending(1)
        lending(1, venue="aave_v2.ethereum")
        prices_of(price)
        counts = values.value(connection, terms=AAVE)

    assert counts == {"liquidations": 2, "valuation": 1, "unvalued": 1, "written": 2}


# -- rows that go --------------------------------------------------------------------------------


def valued_with_suspicion(connection: Connection, lending: Made, price: Callable[..., None]) -> str:
    """A liquidation with rows in all three tables."""
    key = lending(1, seized_raw=10**19, bad_debt_asset=WBTC, bad_debt_raw=0)
    prices_of(price)
    values.value(connection, terms=AAVE)
    assert [len(found) for found in everything(connection).values()] == [1, 1, 1]
    return key


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM ledger.lending_liquidation",
        "UPDATE ledger.lending_liquidation SET seized_raw = 1",
        "WITH gone AS (DELETE FROM ledger.lending_liquidation RETURNING *) SELECT FROM gone",
    ],
)
def test_values_go_with_their_row(
    connection: Connection, lending: Made, price: Callable[..., None], change: str
) -> None:
    valued_with_suspicion(connection, lending, price)

    connection.execute(change)

    assert everything(connection) == {"valuation": [], "unvalued": [], "suspect": []}


def test_values_of_other_rows_stay(
    connection: Connection, lending: Made, price: Callable[..., None], perp: Made
) -> None:
    lending(1)
    key = lending(2, block=101, account=CAROL)
    prices_of(price)
    gone, stays = perp(1), perp(2)
    values.value(connection, terms=AAVE)

    connection.execute("DELETE FROM ledger.lending_liquidation WHERE account = %s", (ALICE,))
    connection.execute("DELETE FROM ledger.liquidation WHERE event_key = %s", (gone,))

    assert rows(connection, "SELECT event_key FROM ledger.valuation") == [(key,), (stays,)]


def test_a_reorg_takes_values_and_prices_of_its_blocks_back(
    connection: Connection, lending: Made, price: Callable[..., None]
) -> None:
    stays, gone = lending(1), lending(2)
    for block in (101, 102):
        prices_of(price, block)
    no_price = {"venue": VENUE, "market": MARKET, "asset": WBTC, "log_index": -1, "reason": "x"}
    insert(connection, "no_price", {**no_price, "block_number": 102})
    parent = BlockRef("ethereum", 101, "0x65", "0x64", int(T0.timestamp()) + 12)
    chain_coverage.begin(connection, parent, 99)
    insert(
        connection, "coverage",
        {"venue": VENUE, "facts": "liquidations", "blocks": "[100,103)", "decoder_version": 1,
         "times": f"[{T0}, {T0 + timedelta(seconds=24)}]", "verification": "receipts",
         "filter_hash": "x", "parent_hash": "0x63", "last_hash": "0x66", "logs": 0, "digest": 0,
         "read_from": ["x"]},
    )  # fmt: skip
    values.value(connection, terms=AAVE)

    at = Position("ethereum", 102, "0x65", 99, 0)
    with connection.transaction():
        chain_coverage.rewind(connection, at, parent, 102, "another child")

    assert rows(connection, "SELECT DISTINCT event_key FROM liq.valuations") == [(stays,)]
    assert rows(connection, "SELECT event_key FROM liq.orphaned_liquidations o JOIN"
                " ledger.orphan_lending_liquidation USING (reorg_id)") == [(gone,)]  # fmt: skip
    assert rows(connection, "SELECT DISTINCT block_number FROM ledger.price") == [(101,)]
    assert rows(connection, "SELECT * FROM ledger.no_price") == []


@pytest.fixture
def beside(connection: Connection, conninfo: str) -> Iterator[Beside]:
    """Begins something on a second connection: it is done then, or waits for the first."""
    with database.connect(conninfo) as other, ThreadPoolExecutor(1) as thread:

        def begin(work: Callable[[Connection], object]) -> Future[object]:
            doing = thread.submit(work, other)
            waits = "SELECT cardinality(pg_blocking_pids(%s)) > 0"
            pid = (other.info.backend_pid,)
            soon(lambda: doing.done() or connection.execute(waits, pid).fetchone() == (True,))
            return doing

        yield begin


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM ledger.lending_liquidation",
        "UPDATE ledger.lending_liquidation SET seized_raw = 1",
    ],
)
def test_a_row_that_goes_during_a_pass_takes_its_value_along(
    connection: Connection, lending: Made, price: Callable[..., None], beside: Beside, change: str
) -> None:
    lending(1, seized_raw=10**19, bad_debt_asset=WBTC, bad_debt_raw=0)
    prices_of(price)

    with connection.transaction():
        counts = values.value(connection, terms=AAVE)
        going = beside(lambda other: other.execute(change))
    going.result()

    assert (counts["valuation"], counts["unvalued"], counts["suspect"]) == (1, 1, 1)
    assert everything(connection) == {"valuation": [], "unvalued": [], "suspect": []}


def test_a_pass_that_begins_while_a_row_goes_finds_it_gone(
    connection: Connection, lending: Made, price: Callable[..., None], beside: Beside
) -> None:
    lending(1, seized_raw=10**19, bad_debt_asset=WBTC, bad_debt_raw=0)
    prices_of(price)

    with connection.transaction():
        connection.execute("DELETE FROM ledger.lending_liquidation")
        valuing = beside(lambda other: values.value(other, terms=AAVE))
    valuing.result()

    assert everything(connection) == {"valuation": [], "unvalued": [], "suspect": []}


def test_a_pass_that_begins_while_a_row_changes_values_what_it_became(
    connection: Connection, lending: Made, price: Callable[..., None], beside: Beside
) -> None:
    valued_with_suspicion(connection, lending, price)

    with connection.transaction():
        connection.execute("DELETE FROM ledger.lending_liquidation")
        key = lending(1, repaid_raw=1_000_000_000)
        valuing = beside(lambda other: values.value(other, terms=AAVE))
    valuing.result()

    found = rows(connection, "SELECT event_key, repaid_usd FROM ledger.valuation")
    assert found == [(key, 1_000_000_000 * USDC_USD)]


def test_halves_of_a_venue_are_valued_apart_and_a_change_waits_for_both(
    connection: Connection, lending: Made, beside: Beside
) -> None:
    lending(1)
    lock = "SELECT ledger.lock_half_of_values(%s, %s, true)"

    def locked(half: int) -> Callable[[Connection], object]:
        return lambda other: other.execute(lock, (VENUE, half))

    for mine, of_other in ((0, 1), (1, 0)):
        with connection.transaction():
            locked(mine)(connection)
            assert beside(locked(of_other)).done()
            same = beside(locked(mine))
            assert not same.done()
        same.result()
        with connection.transaction():
            locked(mine)(connection)
            going = beside(lambda other: other.execute("DELETE FROM ledger.lending_liquidation"))
            assert not going.done()
        going.result()
        lending(1)


# -- suspects ------------------------------------------------------------------------------------


def test_a_bonus_out_of_bounds_is_marked_and_nothing_is_deleted(
    connection: Connection, lending: Made, price: Callable[..., None]
) -> None:
    fine, high = lending(1), lending(2, seized_raw=10**19)
    low, with_bad_debt = lending(3, seized_raw=10**17), lending(4, seized_raw=10**17)
    connection.execute(
        "UPDATE ledger.lending_liquidation SET bad_debt_raw = 1, bad_debt_asset = repaid_asset"
        " WHERE event_key = %s",
        (with_bad_debt,),
    )
    for block in (101, 102, 103, 104):
        price(USDC, "0.000001", block)
        price(WETH, "0.000000000000004", block)

    values.value(connection, terms=AAVE)

    bounds = "times the debt, beyond 1.0 to 1.2 (oracle)"
    found = rows(connection, f"{SUSPECTS} WHERE rule = 'bonus'")
    assert found == [
        (high, "bonus", f"the collateral is worth 10.0030 {bounds}"),
        (low, "bonus", f"the collateral is worth 0.1030 {bounds}"),
    ]
    assert {"repaid", "seized"} <= set(usd(connection, high)) & set(usd(connection, low))
    assert "bonus" in usd(connection, fine)


def test_dust_within_its_rounding_is_no_suspect(
    connection: Connection, lending: Made, price: Callable[..., None]
) -> None:
    lending(1, repaid_raw=1, seized_raw=1, protocol_fee_raw=0)
    price(USDC, "0.000001")
    price(WETH, "0.0000015")

    values.value(connection, terms=AAVE)

    assert rows(connection, SUSPECTS) == []


def test_a_fee_above_the_whole_bonus_is_marked(
    connection: Connection, lending: Made, price: Callable[..., None]
) -> None:
    key = lending(1, seized_raw=10**18, protocol_fee_raw=6 * 10**16, fee_in_seized=True)
    price(USDC, "0.000001")
    price(WETH, "0.0000000000000042")

    values.value(connection, terms=AAVE)

    said = "the protocol kept 252.00 USD of a bonus of 200.00 USD (oracle)"
    assert rows(connection, SUSPECTS) == [(key, "protocol_fee", said)]


def test_a_dollar_token_that_is_worth_no_dollar_is_marked(
    connection: Connection, lending: Made, price: Callable[..., None]
) -> None:
    key = lending(1, repaid_raw=4_000)
    lending(2)
    decimals(connection, **{USDC: 6})
    kin = {"chain": "ethereum", "address": USDC, "family": "USD", "relation": "pegged"}
    insert(connection, "asset_kin", {**kin, "source": "test"})
    price(USDC, "0.00000052")
    price(USDC, "0.0000010999", 102)

    values.value(connection)

    said = "debt in a dollar token is not worth a dollar but 0.5200 (oracle)"
    assert rows(connection, SUSPECTS) == [(key, "peg", said)]


@pytest.mark.parametrize(
    ("lltv", "seized", "is_suspect"),
    [
        # 1 / (1 - 0.3 * (1 - 0.86)) = 1.04384133611691..., of 4000 USD at 4000 USD
        ("860000000000000000", 1_043_841_336_116_910_229, False),
        ("860000000000000000", 1_043_842_400_000_000_000, True),
        ("860000000000000000", 1_043_840_200_000_000_000, True),
        # the limit of 1.15 instead of 1 / (1 - 0.3 * 0.615) = 1.2262...
        ("385000000000000000", 1_150_000_000_000_000_000, False),
        ("385000000000000000", 1_226_241_569_589_209_074, True),
    ],
)
def test_morphos_incentive_is_that_of_its_lltv(
    connection: Connection,
    lending: Made,
    price: Callable[..., None],
    lltv: str,
    seized: int,
    is_suspect: bool,
) -> None:
    venue = "morpho_blue.ethereum"
    key = lending(1, venue=venue, seized_raw=seized, protocol_fee_raw=None, fee_in_seized=None)
    fact = {"chain": "ethereum", "fact": "morpho_lltv", "subject": MARKET, "value": lltv}
    insert(connection, "fact", {**fact, "block_number": 1})
    price(USDC, "0.000001", venue=venue)
    price(WETH, "0.000000000000004", venue=venue)

    values.value(connection, terms={"morpho_blue": Terms(fee="none")})

    found = [row[:2] for row in rows(connection, SUSPECTS)]
    assert found == ([(key, "morpho_bonus")] if is_suspect else [])


def test_a_mark_of_hyperliquid_of_the_last_minute_is_a_source(
    connection: Connection, lending: Made, perp: Made
) -> None:
    key, _ = lending(1), lending(9)  # 12 s and 108 s after the mark
    decimals(connection, **{WETH: 18, USDC: 6})
    for address, family, relation in ((WETH, "ETH", "wrapped"), (USDC, "USD", "pegged")):
        row = {"chain": "ethereum", "address": address, "family": family, "relation": relation}
        insert(connection, "asset_kin", row | {"source": "test"})
    perp(1)
    perp(2, market="xyz:ETH", dex="xyz", mark_price=Decimal(1), block_at=T0 + timedelta(seconds=1))

    values.value(connection)

    per_unit = Decimal("2323.3") / 10**18
    taken, gross = 1_020_000_000_000_000_001, 1_023_000_000_000_000_001
    assert rows(connection, f"{BASES} WHERE price_source = 'hyperliquid' ORDER BY basis") == [
        (key, "seized", "hyperliquid", gross * per_unit, per_unit, "C", "governed"),
        (key, "seized_net", "hyperliquid", taken * per_unit, per_unit, "C", "governed"),
    ]
    assert rows(connection, f"{REASONS} WHERE price_source = 'hyperliquid'") == []


# -- perps ---------------------------------------------------------------------------------------


@pytest.mark.any_postgres
def test_a_takeover_loses_what_it_was_worth_above_its_price(
    connection: Connection, perp: Made
) -> None:
    """The isolated long of hyperliquid.md: 0.1037 ETH at mark 2323.3, taken over at 2316."""
    key = perp(1, method="backstop")
    short = perp(2, method="backstop", side="short", price=Decimal("2330.6"))

    values.value(connection)

    assert usd(connection, key, "par") == {
        "fill": Decimal("240.1692"),
        "mark": Decimal("240.92621"),
        "margin_lost": Decimal("0.75701"),
        "realised": Decimal("-9.94483"),
    }
    assert usd(connection, short, "par")["margin_lost"] == Decimal("0.75701")
    assert rows(connection, "SELECT DISTINCT price, quality, trust, as_of_at FROM liq.valuations")[
        0
    ] == (Decimal(1), "A", "governed", T0)


def test_after_an_order_in_the_book_no_margin_is_lost(connection: Connection, perp: Made) -> None:
    key = perp(1)

    values.value(connection)

    assert set(usd(connection, key, "par")) == {"fill", "mark", "realised"}
    assert rows(connection, REASONS) == []


def test_the_exchanges_ledger_tells_the_equity_of_an_action_with_one_liquidation(
    connection: Connection, perp: Made
) -> None:
    alone = perp(1, method="adl_of_user")
    one, two = (perp(number, method="adl_of_user", tx_hash="0x2") for number in (2, 3))
    for tx_hash in ("0x1", "0x2"):
        insert(
            connection, "ledger_liquidation",
            {"venue": "hyperliquid", "event_key": f"ledger/{tx_hash}", "account": ALICE,
             "tx_hash": tx_hash, "block_at": T0, "account_value": Decimal("-0.756264"),
             "margin_mode": "isolated", "notional_mark": 1, "positions": "[]"},
        )  # fmt: skip

    values.value(connection)

    assert usd(connection, alone, "par")["margin_lost"] == Decimal("-0.756264")
    assert rows(connection, REASONS) == [
        (key, "margin_lost", "par", "neither mark nor equity of this liquidation is known")
        for key in (one, two)
    ]


def test_what_a_record_does_not_tell_is_a_reason(connection: Connection, perp: Made) -> None:
    quiet = perp(1, mark_price=None, notional_mark=None, realised_pnl=None)
    no_quote, other_quote = perp(2, quote=None), perp(3, quote="FEUSD")

    values.value(connection)

    bases = ("fill", "mark", "realised")
    assert rows(connection, REASONS) == sorted(
        [
            (quiet, "mark", "par", "the record carries no mark price"),
            (quiet, "realised", "par", "the account's own leg was not seen"),
            *((no_quote, basis, "par", "the quote token is unknown") for basis in bases),
            *((other_quote, basis, "par", "the quote token is no dollar token") for basis in bases),
        ],
        key=repr,
    )
    assert set(usd(connection, quiet, "par")) == {"fill"}


def test_a_file_says_what_a_quote_token_was_worth(connection: Connection, perp: Made) -> None:
    usde, usdc = perp(1, quote="USDE"), perp(2)
    late = perp(3, quote="USDE", block_at=T0 + timedelta(hours=2))
    import_points(connection, ("hyperliquid", "USDE", T0 - timedelta(minutes=1), "0.65"))

    values.value(connection)

    assert usd(connection, usde, "file:mine") == {
        "fill": Decimal("156.109980"),
        "mark": Decimal("156.6020365"),
        "realised": Decimal("-6.4641395"),
    }
    assert usd(connection, usde, "par")["fill"] == Decimal("240.1692")
    assert usd(connection, usdc, "file:mine") == {}
    assert rows(connection, REASONS) == [
        (late, basis, "file:mine", "the last point of the file is too old")
        for basis in ("fill", "mark", "realised")
    ]


def test_a_mark_is_as_good_as_who_deployed_the_dex(connection: Connection, perp: Made) -> None:
    own = perp(1, method="backstop")
    other = perp(2, method="backstop", market="xyz:TSLA", dex="xyz", event_key="1/xyz:TSLA/2")
    equity = {"account_value": Decimal("-1"), "margin_mode": "isolated", "notional_mark": 1}
    insert(
        connection, "ledger_liquidation",
        {"venue": "hyperliquid", "event_key": "ledger/2", "account": ALICE, "tx_hash": "0x2",
         "block_at": T0, "positions": "[]", **equity},
    )  # fmt: skip

    values.value(connection)

    assert rows(connection, "SELECT event_key, basis, trust FROM liq.valuations") == sorted(
        [
            *((own, basis, "governed") for basis in ("fill", "mark", "margin_lost", "realised")),
            *((other, basis, "governed") for basis in ("fill", "realised")),
            *((other, basis, "market") for basis in ("mark", "bankruptcy", "margin_lost")),
        ],
        key=repr,
    )


def test_numbers_beyond_the_position_are_marked(connection: Connection, perp: Made) -> None:
    perp(1, notional=Decimal("240.1692000000001"))
    beyond = perp(2, position_before=Decimal("-0.1"))
    deep = perp(3, method="backstop", mark_price=Decimal(9000), notional_mark=Decimal("0.01"))

    values.value(connection)

    assert rows(connection, SUSPECTS) == [
        (beyond, "position", "the notional of 240.1692 is more than that of the position, 231.6"),
        (deep, "margin", "the margin lost of 693.1308 USD is more than the notional of 240.1692"
         " USD"),
    ]  # fmt: skip


# -- views ---------------------------------------------------------------------------------------


def test_a_token_is_governed_when_a_governed_oracle_priced_it_on_its_chain(
    connection: Connection, price: Callable[..., None]
) -> None:
    decimals(connection, **{USDC: 6, WETH: 18, WBTC: 8})
    price(USDC, USDC_USD)
    price(WETH, WETH_USD, trust="market")
    price(WBTC, "1", venue="aave_v3.base")
    kin = {"chain": "ethereum", "address": WETH, "family": "ETH", "relation": "wrapped"}
    insert(connection, "asset_kin", {**kin, "source": "test"})

    assert rows(connection, "SELECT address, family, relation, trust FROM liq.assets") == [
        (USDC, None, None, "governed"),
        (WETH, "ETH", "wrapped", "unlisted"),
        (WBTC, None, None, "unlisted"),
    ]


@pytest.mark.any_postgres
def test_prices_are_shown_of_whole_tokens_too(
    connection: Connection, price: Callable[..., None]
) -> None:
    decimals(connection, **{WETH: 18})
    price(WETH, WETH_USD)
    price(WBTC, "1", log_index=3)

    found = "SELECT asset, log_index, usd, usd_per_token FROM liq.prices"
    assert rows(connection, found) == [
        (WETH, None, WETH_USD, Decimal("4100.1234")),
        (WBTC, 3, Decimal(1), None),
    ]


def test_an_asset_says_what_it_is_a_share_of(connection: Connection) -> None:
    share, token, market = ("0x" + 40 * letter for letter in "abc")
    for address, symbol in ((share, "cTKN"), (token, "TKN"), (market, "oTKN")):
        connection.execute(
            "INSERT INTO ledger.asset (chain, address, symbol, symbol_raw, decimals)"
            " VALUES ('ethereum', %s, %s, %s, 8)",
            (address, symbol, symbol.encode() + b"\n"),
        )
    for block, assets in ((7, 3), (9, 4)):
        connection.execute(
            "INSERT INTO ledger.share_rate VALUES ('ethereum', %s, %s, %s, 2, %s)",
            (share, block, token, assets),
        )
    connection.execute(
        "INSERT INTO ledger.fact VALUES ('ethereum', 'underlying', %s, %s, 1, NULL)",
        (market, token),
    )

    assert rows(
        connection,
        "SELECT address, symbol_raw, underlying, shares_raw, assets_raw, rate_block"
        " FROM liq.assets ORDER BY address",
    ) == [
        (share, b"cTKN\n", token, 2, 4, 9),
        (token, b"TKN\n", None, None, None, None),
        (market, b"oTKN\n", token, None, None, None),
    ]
