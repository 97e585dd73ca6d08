"""What watched accounts hold, asked of a real HTTP server on loopback and of genuine contracts; and
what became of positions that are not there any more."""

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from indexer.cli.watch import until_stopped
from indexer.errors import ConfigError, SourceFault
from indexer.hyperliquid_format import utc_of_ms
from indexer.positions import AccountState, Dex, Position
from indexer.sources.hyperliquid_api import HyperliquidApi, Silent
from indexer.store import positions
from indexer.store.database import Connection, connect
from tests.conftest import Command
from tests.devchain.anvil import anvil
from tests.devchain.packages import ALL, folder
from tests.devchain.priced import WETH, Priced
from tests.exchange_stub import (
    RECORDED,
    RECORDED_AT,
    RECORDED_SAFE,
    RECORDED_SHORT,
    Exchange,
    state,
)
from tests.ledger_rows import in_order, rows
from tests.processes import soon
from tests.rpc_proxy import FakeClock, Http

WHALE, OTHER, THIRD = (f"0x{digit * 40}" for digit in "abc")
MAIN, XYZ = Dex("", "USDC"), Dex("xyz", "USDH")
D = Decimal


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def exchange(clock: FakeClock) -> Iterator[Exchange]:
    """Its questions are noted with the time of the fake clock."""
    with Exchange(now=lambda: clock.seconds) as served:
        yield served


@pytest.fixture
def api(exchange: Exchange, clock: FakeClock) -> Iterator[HyperliquidApi]:
    opened = HyperliquidApi(exchange.url, clock=clock.clock)
    yield opened
    opened.close()


def changed(**fields: Any) -> dict[str, Any]:
    """The recorded short with other fields."""
    return {**RECORDED_SHORT, **fields}


# -- what the exchange says


def test_the_recorded_state_is_read_whole(exchange: Exchange, api: HyperliquidApi) -> None:
    exchange.held[WHALE, ""] = RECORDED

    found = api.account_state(WHALE, MAIN)

    position = Position(
        market="ETH", side="long", size=D("0.0335"), entry_price=D("2986.3"),
        mark_price=D("2985.9"), liquidation_price=D("2866.26936529"), value=D("100.02765"),
        unrealised=D("-0.0134"), leverage=D(20), margin_mode="isolated", margin_used=D("4.967826"),
    )  # fmt: skip
    assert found == AccountState(
        venue="hyperliquid", account=WHALE, dex="", observed_at=utc_of_ms(RECORDED_AT),
        quote="USDC", equity=D("13109.482328"), margin_used=D("4.967826"),
        maintenance_margin=D(0), withdrawable=D("13104.514502"), positions=(position,),
    )  # fmt: skip
    assert found.positions[0].distance == D("0.040065184604")


def test_a_short_and_a_position_that_no_price_can_liquidate(
    exchange: Exchange, api: HyperliquidApi
) -> None:
    exchange.held[WHALE, ""] = state(RECORDED_SHORT, RECORDED_SAFE)

    short, safe = api.account_state(WHALE, MAIN).positions

    assert (short.side, short.size, short.mark_price) == ("short", D("0.00785"), D("26961.2"))
    assert short.distance == D("5.423998038795")
    assert (safe.mark_price, safe.liquidation_price, safe.distance) == (D("1706.71"), None, None)


def test_an_account_that_nobody_knows_holds_nothing(api: HyperliquidApi) -> None:
    found = api.account_state(OTHER, XYZ)

    assert (found.dex, found.quote, found.equity, found.positions) == ("xyz", "USDH", D(0), ())


def test_dexes_are_listed_with_what_they_settle_in(exchange: Exchange, api: HyperliquidApi) -> None:
    known = api.dexes()
    exchange.play(Http(b'[null, {"name": "new"}]'), "perpDexs")

    assert known == [MAIN, XYZ]
    assert api.dexes() == [MAIN, Dex("new", None)]


BROKEN = {
    "null": b"null",
    "a list": b"[]",
    "no JSON": b"<html>",
    "half of it": json.dumps(RECORDED).encode()[:300],
    "no time": json.dumps({**state(RECORDED_SHORT), "time": None}).encode(),
    "no equity": json.dumps({**state(RECORDED_SHORT), "marginSummary": {}}).encode(),
    "no liquidation price": json.dumps(
        state({k: v for k, v in RECORDED_SHORT.items() if k != "liquidationPx"})
    ).encode(),
    "a size that is no number": json.dumps(state(changed(szi="many"))).encode(),
    "not a number": json.dumps(state(changed(szi="NaN"))).encode(),
    "no end": json.dumps(state(changed(entryPx="Infinity"))).encode(),
    "a price of a million digits": json.dumps(state(changed(entryPx="1e999999"))).encode(),
    "a value below 0": json.dumps(state(changed(positionValue="-1"))).encode(),
    "a margin nobody knows": json.dumps(
        state(changed(leverage={"type": "shared", "value": 1}))
    ).encode(),
    "a coin of another dex": json.dumps(state(changed(coin="xyz:TSLA"))).encode(),
    "a spot coin": json.dumps(state(changed(coin="@107"))).encode(),
    "a coin twice": json.dumps(state(RECORDED_SHORT, RECORDED_SHORT)).encode(),
    "a day to come": json.dumps(state(RECORDED_SHORT, at=1_800_000_061_000)).encode(),
}


@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN)
def test_an_answer_that_cannot_be_right_is_asked_again_and_never_used(
    exchange: Exchange, api: HyperliquidApi, body: bytes
) -> None:
    exchange.play(Http(body), times=4)

    with pytest.raises(SourceFault, match=r"^127\.0\.0\.1 #1: clearinghouseState: ") as raised:
        api.account_state(WHALE, MAIN)

    assert not isinstance(raised.value, Silent)
    assert exchange.count("clearinghouseState") == 4


WHOLE = json.dumps(state(RECORDED_SHORT)).encode()


@pytest.mark.parametrize(
    ("answer", "waited"),
    [
        (Http(b"", 429, {"Retry-After": "7"}), 7.0),
        (Http(b"", 429), 10.0),
        (Http(b"null", 500), 0.5),
        (Http(b"<html>Bad Gateway</html>", 502), 0.5),
        (Http(WHOLE, cut=100), 0.5),
        (Http(WHOLE[:100]), 0.5),
    ],
    ids=["Retry-After", "429", "500", "502", "cut", "half"],
)
def test_a_passing_fault_is_waited_out(
    exchange: Exchange, api: HyperliquidApi, clock: FakeClock, answer: Http, waited: float
) -> None:
    exchange.held[WHALE, ""] = json.loads(WHOLE)
    exchange.play(answer)

    (position,) = api.account_state(WHALE, MAIN).positions

    (slept,) = clock.slept
    assert position.market == "BTC"
    assert waited <= slept <= waited * 1.1


@pytest.mark.parametrize("status", [429, 503])
def test_an_exchange_that_does_not_answer_is_silent(
    exchange: Exchange, api: HyperliquidApi, status: int
) -> None:
    exchange.play(Http(b"", status), times=4)

    with pytest.raises(Silent, match=f"clearinghouseState: HTTP {status}"):
        api.account_state(WHALE, MAIN)


def test_a_question_that_is_refused_is_not_asked_again(
    exchange: Exchange, api: HyperliquidApi
) -> None:
    exchange.play(Http(b"Failed to deserialize", 422))

    with pytest.raises(SourceFault, match="clearinghouseState: HTTP 422"):
        api.account_state(WHALE, MAIN)

    assert exchange.count("clearinghouseState") == 1


@pytest.mark.parametrize("answer", [Http(b"", 403), Http(b"", 302, {"Location": "/elsewhere"})])
def test_what_only_the_user_can_mend_is_an_error_of_the_settings(
    exchange: Exchange, api: HyperliquidApi, answer: Http
) -> None:
    exchange.play(answer)

    with pytest.raises(ConfigError, match=r"^127\.0\.0\.1 #1: HTTP .*; see HYPERLIQUID_API$"):
        api.account_state(WHALE, MAIN)


def test_a_key_in_the_address_is_in_no_error() -> None:
    with Exchange(path="/5ecretkey5ecretkey") as exchange:
        exchange.play(Http(b"", 403))
        api = HyperliquidApi(exchange.url)
        with pytest.raises(ConfigError) as raised:
            api.account_state(WHALE, MAIN)
        api.close()

    assert "5ecret" not in f"{raised.value!r} {raised.value.__cause__} {raised.value.__context__}"


@pytest.mark.parametrize("url", ["", "api.hyperliquid.xyz", "ftp://api.hyperliquid.xyz"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match=r"HYPERLIQUID_API is not http:// or https://"):
        HyperliquidApi(url)


def test_no_minute_holds_more_weight_than_allowed(exchange: Exchange, clock: FakeClock) -> None:
    """Three heavy questions, then light ones, of which one is limited and asked again."""
    api = HyperliquidApi(exchange.url, 100, clock.clock)
    exchange.play(Http(b"", 429, {"Retry-After": "3"}), "clearinghouseState")

    api.dexes()
    found = [api.account_state(f"0x{number:040x}", MAIN) for number in range(120)]
    api.close()

    weights = {"perpDexs": 20, "allPerpMetas": 20, "spotMeta": 20, "clearinghouseState": 2}
    spent = [(at, weights[kind]) for at, kind, _ in exchange.asked]
    begin, end = spent[0][0], spent[-1][0]
    in_a_minute = [
        sum(weight for other, weight in spent if at <= other < at + 60) for at, _ in spent
    ]
    assert len(found) == 120
    assert sum(weight for _, weight in spent) == 3 * 20 + 121 * 2
    assert max(in_a_minute) == 100
    assert end - begin == pytest.approx(183, abs=4)  # 302 of weight: three minutes are full


def test_a_question_heavier_than_all_that_is_allowed_has_a_minute_of_its_own(
    exchange: Exchange, clock: FakeClock
) -> None:
    api = HyperliquidApi(exchange.url, 10, clock.clock)

    api.dexes()
    api.close()

    first, second, third = (at for at, _, _ in exchange.asked)
    assert (second - first, third - second) == (60, 60)


# -- how far it is to liquidation

THIRD_OF_ONE = "0.333333333333"  # to twelve places


@pytest.mark.parametrize(
    ("position", "distance"),
    [
        (Position(market="A", side="long", mark_price=D(100), liquidation_price=D(90)), "0.1"),
        (Position(market="A", side="short", mark_price=D(100), liquidation_price=D(125)), "0.25"),
        (Position(market="A", side="long", mark_price=D(100), liquidation_price=D(101)), "-0.01"),
        (Position(market="A", side="short", mark_price=D(100), liquidation_price=D(99)), "-0.01"),
        (Position(market="A", side="long", mark_price=D(3), liquidation_price=D(2)), THIRD_OF_ONE),
        (Position(market="P", health_factor=D("1.25")), "0.2"),
        (Position(market="P", health_factor=D("0.8")), "-0.25"),
    ],
    ids=["long", "short", "long beyond", "short beyond", "no end", "loan", "loan beyond"],
)  # fmt: skip
def test_the_distance_is_a_share_of_the_mark_or_of_the_collateral(
    position: Position, distance: str
) -> None:
    assert position.distance == D(distance)


@pytest.mark.parametrize(
    "position",
    [
        Position(market="A", side="long", mark_price=D(100)),
        Position(market="A", side="long", liquidation_price=D(100)),
        Position(market="A", side="long", mark_price=D(0), liquidation_price=D(1)),
        Position(market="P", health_factor=D(0)),  # no collateral is left to lose
        Position(market="P"),
    ],
)
def test_an_unknown_distance_is_none(position: Position) -> None:
    assert position.distance is None


# -- what became of them

NOW = datetime.now(UTC).replace(microsecond=0)
SEEN, GONE = NOW - timedelta(minutes=20), NOW - timedelta(minutes=10)
BETWEEN = NOW - timedelta(minutes=15)
LONG = Position(
    market="BTC", side="long", size=D(2), mark_price=D(50_000), liquidation_price=D(49_000),
    value=D(100_000), unrealised=D(-5_000),
)  # fmt: skip


def observed(*held: Position, at: datetime, account: str = WHALE, dex: str = "") -> AccountState:
    return AccountState(
        venue="hyperliquid", account=account, dex=dex, observed_at=at, quote="USDC",
        equity=D(20_000), positions=held,
    )  # fmt: skip


def store(connection: Connection, *states: AccountState) -> None:
    for one in states:
        positions.append(connection, one)


def read_blocks(connection: Connection, venue: str, *ranges: tuple[datetime, datetime]) -> None:
    """Coverage of these times, each in a hundred blocks with a hole after it."""
    for number, (low, high) in enumerate(ranges):
        connection.execute(
            """
            INSERT INTO ledger.coverage (venue, facts, blocks, times, verification, decoder_version)
            VALUES (%s, 'liquidations', int8range(%s, %s), tstzrange(%s, %s, '[]'),
                    'every_height', 1)
            """,
            (venue, number * 200, number * 200 + 100, low, high),
        )


def liquidate(connection: Connection, *, is_full: bool | None = True, **other: Any) -> None:
    """A row of the ledger: a sale of the whale's BTC between the two observations."""
    row = {
        "venue": "hyperliquid", "event_key": "1/BTC/1", "account": WHALE, "block_at": BETWEEN,
        "method": "market", "market": "BTC", "dex": "", "quote": "USDC", "side": "long", "size": 1,
        "price": 49_000, "notional": 49_000, "is_full_close": is_full,
        "account_is_protocol_vault": False, "legs_seen": "both", "decoder_version": 1, **other,
    }  # fmt: skip
    connection.execute(
        f"INSERT INTO ledger.liquidation ({', '.join(row)})"
        f" VALUES ({', '.join(f'%({name})s' for name in row)})",
        row,
    )


WHOLE_TIME = ((NOW - timedelta(hours=1), NOW),)
ENDS_BEFORE = ((NOW - timedelta(hours=1), BETWEEN),)
BEGINS_AFTER = ((BETWEEN, NOW),)
WITH_A_HOLE = (
    (NOW - timedelta(hours=1), BETWEEN - timedelta(seconds=1)),
    (BETWEEN + timedelta(seconds=1), NOW),
)
HOLE_BEFORE = (
    (NOW - timedelta(hours=2), NOW - timedelta(hours=1)),
    (SEEN - timedelta(minutes=1), NOW),
)

NONE = {"account": THIRD}  # a liquidation that is none of the whale's

FATES: dict[str, tuple[Any, Any, tuple[str, int]]] = {
    "nothing liquidated it": (WHOLE_TIME, NONE, ("closed", 0)),
    "a hole long before": (HOLE_BEFORE, NONE, ("closed", 0)),
    "it was liquidated whole": (WHOLE_TIME, {"is_full": True}, ("liquidated", 1)),
    "it was liquidated in part": (WHOLE_TIME, {"is_full": False}, ("closed", 1)),
    "nobody saw what remained": (WHOLE_TIME, {"is_full": None}, ("gone", 1)),
    "it was before it was seen": (
        WHOLE_TIME, {"is_full": True, "block_at": SEEN}, ("closed", 0),
    ),
    "in the block of the look": (
        WHOLE_TIME,
        {"is_full": True, "block_at": GONE + timedelta(microseconds=999)},
        ("liquidated", 1),
    ),
    "it was after it was gone": (
        WHOLE_TIME,
        {"is_full": True, "block_at": GONE + timedelta(milliseconds=1)},
        ("closed", 0),
    ),
    "another market's": (WHOLE_TIME, {"is_full": True, "market": "ETH"}, ("closed", 0)),
    "another account's": (WHOLE_TIME, {"is_full": True, "account": OTHER}, ("closed", 0)),
    "it won an auto-deleveraging": (
        WHOLE_TIME,
        {
            "is_full": True, "account": OTHER, "counterparty": WHALE,
            "counterparty_kind": "adl_winner", "method": "adl_of_user",
        },
        ("closed", 0),
    ),
    "nothing was ever read": ((), NONE, ("gone", 0)),
    "what was read ends before": (ENDS_BEFORE, NONE, ("gone", 0)),
    "what was read begins after": (BEGINS_AFTER, NONE, ("gone", 0)),
    "a hole between": (WITH_A_HOLE, NONE, ("gone", 0)),
    "liquidated, and a hole": (WITH_A_HOLE, {"is_full": True}, ("liquidated", 1)),
    "in part, and a hole": (WITH_A_HOLE, {"is_full": False}, ("gone", 1)),
}  # fmt: skip


@pytest.mark.parametrize(("ranges", "liquidation", "fate"), FATES.values(), ids=FATES)
def test_a_position_that_is_not_there_any_more(
    connection: Connection, ranges: Any, liquidation: Any, fate: tuple[str, int]
) -> None:
    store(connection, observed(LONG, at=SEEN), observed(at=GONE), observed(at=NOW))
    read_blocks(connection, "hyperliquid", *ranges)
    liquidate(connection, **liquidation)

    assert rows(
        connection,
        "SELECT status, liquidations, observed_at, gone_at, is_at_risk FROM liq.positions_now",
    ) == [(*fate, SEEN, GONE, False)]


def test_late_data_tells_what_became_of_it(connection: Connection) -> None:
    store(connection, observed(LONG, at=SEEN), observed(at=GONE))
    before = rows(connection, "SELECT status FROM liq.positions_now")
    read_blocks(connection, "hyperliquid", *WHOLE_TIME)
    between = rows(connection, "SELECT status FROM liq.positions_now")
    liquidate(connection, is_full=True)

    after = rows(connection, "SELECT status FROM liq.positions_now")
    assert (before, between, after) == ([("gone",)], [("closed",)], [("liquidated",)])


def test_at_risk_is_open_and_not_liquidated(connection: Connection) -> None:
    store(connection, observed(LONG, at=NOW))
    liquidate(connection, is_full=False, block_at=NOW + timedelta(seconds=1))

    assert rows(
        connection,
        "SELECT status, gone_at, liquidations, distance, at_risk_below, is_at_risk,"
        " unrealised_usd, equity_usd FROM liq.positions_now",
    ) == [("open", None, None, D("0.02"), D("0.05"), True, D(-5000), D(20000))]


def test_a_position_that_nobody_looked_for_is_stale(connection: Connection) -> None:
    long_ago = NOW - timedelta(minutes=61)
    store(connection, observed(LONG, at=long_ago), observed(at=NOW, dex="xyz"))

    assert rows(connection, "SELECT status, observed_at FROM liq.positions_now") == [
        ("stale", long_ago)
    ]
    assert rows(connection, "SELECT * FROM liq.whales_under_water") == []
    assert rows(connection, "SELECT * FROM liq.closest_to_liquidation") == []


def test_a_position_that_came_back_is_open_as_it_is_now(connection: Connection) -> None:
    short = Position(market="BTC", side="short", size=D(1))
    store(connection, observed(LONG, at=SEEN), observed(at=GONE), observed(short, at=NOW))

    assert rows(connection, "SELECT status, side, size, is_at_risk FROM liq.positions_now") == [
        ("open", "short", D(1), None)
    ]


def test_the_same_observation_again_adds_nothing(connection: Connection) -> None:
    store(connection, observed(LONG, at=SEEN), observed(LONG, at=SEEN))

    assert rows(connection, "SELECT count(*) FROM ledger.account_state") == [(1,)]
    assert rows(connection, "SELECT count(*) FROM ledger.position_state") == [(1,)]


def test_losses_and_distances_have_lists_of_their_own(connection: Connection) -> None:
    far = Position(
        market="ETH",
        side="short",
        mark_price=D(100),
        liquidation_price=D(200),
        unrealised=D(-9_000),
    )
    safe = Position(market="SOL", side="long", mark_price=D(100), unrealised=D(-1))
    winner = Position(
        market="BTC", side="long", mark_price=D(100), liquidation_price=D(99), unrealised=D(7)
    )
    store(connection, observed(LONG, far, safe, at=NOW), observed(winner, at=NOW, account=OTHER))

    under_water = connection.execute("SELECT market, unrealised_usd FROM liq.whales_under_water")
    closest = connection.execute(
        "SELECT account, market, distance, is_at_risk FROM liq.closest_to_liquidation"
    )

    assert under_water.fetchall() == [("ETH", D(-9_000)), ("BTC", D(-5_000)), ("SOL", D(-1))]
    assert closest.fetchall() == [
        (OTHER, "BTC", D("0.01"), True),
        (WHALE, "BTC", D("0.02"), True),
        (WHALE, "ETH", D(1), False),
    ]


def test_what_is_in_no_dollar_token_has_no_dollars(connection: Connection) -> None:
    in_ether = AccountState(
        venue="hyperliquid", account=WHALE, dex="", observed_at=NOW, quote=WETH, equity=D(1),
        positions=(LONG,),
    )  # fmt: skip
    store(connection, in_ether)

    assert rows(
        connection,
        "SELECT value_usd, unrealised_usd, equity_usd, unrealised FROM liq.positions_now",
    ) == [(None, None, None, D(-5000))]


POOL, LOANS = f"0x{'d' * 40}", "aave_v3.ethereum"


def loan(debt: int, block: int, at: datetime) -> AccountState:
    held = Position(market=POOL, value=D(200), debt=D(debt), health_factor=D("1.02"))
    return AccountState(
        venue=LOANS, account=WHALE, dex=POOL, observed_at=at, block_number=block, quote="usd",
        equity=D(200 - debt), positions=(held,) if debt else (),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("bad_debt", "block", "fate"),
    [(5, 50, "liquidated"), (None, 50, "gone"), (5, 40, "closed"), (5, 61, "closed")],
    ids=["debt was written off", "who paid the rest is unknown", "before", "after"],
)
def test_a_loan_is_liquidated_where_the_chain_wrote_its_debt_off(
    connection: Connection, bad_debt: int | None, block: int, fate: str
) -> None:
    store(connection, loan(150, 40, SEEN), loan(0, 60, GONE))
    read_blocks(connection, LOANS, *WHOLE_TIME)
    connection.execute(
        """
        INSERT INTO ledger.lending_liquidation (
            venue, event_key, account, block_number, block_at, method, market, repaid_raw,
            seized_is_shares, bad_debt_raw, decoder_version
        ) VALUES (%s, '0x01/3', %s, %s, %s, 'repay_seize', %s, 100, false, %s, 1)
        """,
        (LOANS, WHALE, block, BETWEEN, POOL, bad_debt),
    )

    assert rows(connection, "SELECT status, debt_usd, unrealised FROM liq.positions_now") == [
        (fate, D(150), None)
    ]


# -- whom to watch


def label(
    connection: Connection, account: str, evidence: str, until: datetime | None = None
) -> None:
    connection.execute(
        """
        INSERT INTO ledger.label (
            venue, account, label, rule, rule_version, confidence, evidence, valid_during,
            recorded_during
        ) VALUES ('hyperliquid', %s, 'whale', 'TEST', 1, 1, %s, tstzrange(%s, %s),
                  tstzrange(now(), NULL))
        """,
        (account, evidence, SEEN, until),
    )


def test_the_largest_is_watched_first_and_who_is_no_whale_any_more_is_not(
    connection: Connection,
) -> None:
    label(connection, THIRD, '{"episodes": ["a"]}')
    label(connection, WHALE, '{"equity_usd": "2000000.5", "ledger_key": "x_usd"}')
    label(connection, OTHER, '{"largest_position_usd": 30000000}')
    label(connection, f"0x{'e' * 40}", '{"equity_usd": "9e9"}', until=GONE)

    assert positions.labelled(connection, "whale", None) == [
        ("hyperliquid", OTHER, D(30000000)),
        ("hyperliquid", WHALE, D("2000000.5")),
        ("hyperliquid", THIRD, None),
    ]
    assert positions.labelled(connection, "whale", D(3_000_000)) == [
        ("hyperliquid", OTHER, D(30000000))
    ]
    assert positions.labelled(connection, "minnow", None) == []


# -- the commands


@pytest.fixture
def served() -> Iterator[Exchange]:
    """Of now: one whale with a short that lost money, one account with nothing."""
    with Exchange() as opened:
        opened.held[WHALE, ""] = state(RECORDED_SHORT)
        yield opened


def after_time(text: str) -> str:
    """A line without when it was said."""
    return text.partition(" UTC ")[2]


def test_watch_looks_at_those_who_are_named(
    served: Exchange, quick_indexer: Command, connection: Connection
) -> None:
    done = quick_indexer(
        "watch", "--account", WHALE.upper().replace("0X", "0x"), "--account", OTHER, "--once",
        HYPERLIQUID_API=served.url,
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (0, "")
    assert after_time(done.stdout) == (
        "round 1: 2 accounts, 0 failed, 1 position; 1 under water, 0 at risk, 0 liquidated,"
        " 0 closed, 0 gone, 0 stale\n"
    )
    assert rows(
        connection, "SELECT account, dex, quote, positions FROM ledger.account_state"
    ) == [(WHALE, "", "USDC", 1), (WHALE, "xyz", "USDH", 0), (OTHER, "", "USDC", 0),
          (OTHER, "xyz", "USDH", 0)]  # fmt: skip


def test_one_who_fails_does_not_stop_the_others(
    served: Exchange, quick_indexer: Command, connection: Connection
) -> None:
    label(connection, OTHER, '{"equity_usd": "2"}')
    label(connection, WHALE, '{"equity_usd": "1"}')
    served.play(Http(b"Failed to deserialize", 422), OTHER)

    done = quick_indexer("watch", "--once", HYPERLIQUID_API=served.url)

    assert done.returncode == 1
    assert done.stderr == (
        f"{OTHER}: 127.0.0.1 #1: clearinghouseState: HTTP 422\n"
        "indexer: 1 account could not be looked at\n"
    )
    assert "round 1: 2 accounts, 1 failed, 1 position;" in done.stdout
    assert rows(connection, "SELECT account, status FROM liq.positions_now") == [(WHALE, "open")]


def test_nobody_to_watch_is_no_fault(quick_indexer: Command) -> None:
    done = quick_indexer("watch", "--once", HYPERLIQUID_API="http://127.0.0.1:9")

    assert (done.returncode, done.stderr) == (0, "nobody is labelled whale now: indexer label\n")


def test_an_exchange_that_is_silent_is_left_alone_until_the_next_round(
    served: Exchange, connection: Connection
) -> None:
    from indexer import watch

    clock = FakeClock()
    clock_of_now = clock.clock._replace(utc=lambda: datetime.now(UTC).timestamp())
    api = HyperliquidApi(served.url, clock=clock_of_now)
    served.play(Http(b"", 503), "clearinghouseState", times=100)
    said: list[str] = []

    looked = watch.at_exchange(
        connection, api, [f"0x{number:040x}" for number in range(50)], said.append
    )
    api.close()

    assert (looked, served.count("clearinghouseState")) == (watch.Looked(50, 50), 3 * 4)
    assert said[-1] == "the exchange is silent, 47 accounts are left for the next round"


@pytest.mark.parametrize(
    "words",
    [
        ("--account", "0x12"),
        ("--account", WHALE, "--min-usd", "1"),
        ("--weight", "1201"),
        ("nowhere",),
    ],
)
def test_wrong_words_are_a_usage_error(quick_indexer: Command, words: tuple[str, ...]) -> None:
    assert quick_indexer("watch", *words).returncode == 2


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_watch_goes_on_until_it_is_stopped(
    served: Exchange, conninfo: str, tmp_path: Path, stop: int
) -> None:
    stdout = watch_and_stop(conninfo, tmp_path, served, lambda: served.count("perpDexs") >= 2, stop)

    assert after_time(stdout.splitlines()[0]).startswith("round 1: 1 account, 0 failed, 1 position")


@pytest.mark.parametrize("table", ["account_state", "position_state", "watched_position"])
def test_a_watch_that_is_stopped_within_a_statement_writes_none_of_it(
    served: Exchange, conninfo: str, connection: Connection, tmp_path: Path, table: str
) -> None:
    connection.execute(
        f"""
        CREATE FUNCTION public.dawdle() RETURNS trigger LANGUAGE plpgsql AS
            $$BEGIN PERFORM pg_sleep(30); RETURN new; END$$;
        CREATE TRIGGER dawdle BEFORE INSERT ON ledger.{table}
            FOR EACH ROW EXECUTE FUNCTION public.dawdle()
        """
    )

    def writing() -> bool:
        (waiting,) = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
        ).fetchone() or (0,)
        return waiting == 1

    assert watch_and_stop(conninfo, tmp_path, served, writing, signal.SIGINT) == ""

    assert rows(connection, "SELECT * FROM ledger.account_state") == []


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.usefixtures("own_signals")
def test_a_stop_between_a_statement_and_its_answer_is_no_fault(
    conninfo: str, caplog: pytest.LogCaptureFixture, stop: int
) -> None:
    caplog.set_level(logging.INFO, "indexer.cli")
    with until_stopped(), connect(conninfo) as connection:
        connection.pgconn.send_query(b"SELECT pg_sleep(1)")
        try:
            signal.raise_signal(stop)
        finally:
            # As a transaction's end does where the interrupt came at a bad moment.
            connection.execute("ROLLBACK")

    assert caplog.messages == ["stopped"]


@pytest.mark.usefixtures("own_signals")
def test_a_fault_of_the_database_without_a_stop_stays_one(conninfo: str) -> None:
    with (
        pytest.raises(psycopg.errors.DivisionByZero),
        until_stopped(),
        connect(conninfo) as connection,
    ):
        connection.execute("SELECT 1 / 0")


@pytest.fixture
def own_signals() -> Iterator[None]:
    """What a command sets for the rest of its process is set back."""
    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}
    yield
    for one, handler in before.items():
        signal.signal(one, handler)
    logging.getLogger("psycopg").setLevel(logging.NOTSET)


def watch_and_stop(
    conninfo: str, folder: Path, served: Exchange, when: Callable[[], bool], stop: int
) -> str:
    """What a watch prints that is stopped at a moment; it ends well and says so."""
    environment = {**os.environ, "DATABASE_URL": conninfo, "HYPERLIQUID_API": served.url}
    words = ["watch", "--account", WHALE, "--every", "1s"]
    with subprocess.Popen(
        [sys.executable, "-m", "indexer", *words], env=environment, cwd=folder, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            soon(when)
            process.send_signal(stop)
            stdout, stderr = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, stderr) == (0, "stopped\n")
    return stdout


def test_the_report_lists_who_is_under_water_who_is_close_and_what_is_gone(
    quick_indexer: Command, connection: Connection
) -> None:
    store(
        connection,
        observed(LONG, at=NOW),
        observed(Position(market="<b>", side="long", value=D(3)), at=SEEN, account=OTHER),
        observed(at=GONE, account=OTHER),
    )

    md = quick_indexer("report", "positions", "--format", "md")
    data = json.loads(quick_indexer("report", "positions", "--format", "json").stdout)
    table = quick_indexer("report", "positions", COLUMNS="200")

    assert (md.returncode, md.stderr, table.returncode, table.stderr) == (0, "", 0, "")
    at = f"{NOW:%Y-%m-%d %H:%M:%S}"
    assert md.stdout.splitlines()[:14] == [
        "# Watched positions",
        "",
        f"- last look {at} UTC",
        "- 1 position open, 1 of them under water, 1 at risk",
        "- 0 liquidated, 0 closed, 1 gone, 0 stale",
        "",
        "## Whales under water",
        "",
        "| account | what | unrealised | value | entry | mark | liquidation | leverage | distance"
        " | seen, UTC |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        f"| {WHALE} | BTC long | -\\$5,000.00 | \\$100,000.00 | – | 50000 | 49000 | – | 2.0 %"
        f" | {at} |",
        "",
        "## Closest to liquidation",
        "",
    ]
    assert "at risk" in md.stdout
    assert "<b>" not in md.stdout
    assert [data[name][0]["status"] for name in ("under_water", "closest", "ended")] == [
        "open", "open", "gone",
    ]  # fmt: skip
    assert data["closest"][0]["distance"] == "0.020000000000"
    assert "0xaaaa…aaaa" in table.stdout


def test_a_report_on_nothing_says_how_to_begin(quick_indexer: Command) -> None:
    done = quick_indexer("report", "positions")

    assert done.stdout.splitlines()[0] == "nothing was observed yet: indexer watch --once"


# -- loans, on the local chain


@pytest.fixture(scope="session")
def packages() -> list[Path]:
    """The genuine contracts."""
    return [folder(package) for package in ALL]


@pytest.fixture
def priced(packages: list[Path], request: pytest.FixtureRequest) -> Iterator[Priced]:
    with anvil(getattr(request, "param", "anvil")) as node:
        yield Priced(node)


def watch_loans(
    priced: Priced, quick_indexer: Command, folder: Path, venue: str, *accounts: str
) -> subprocess.CompletedProcess[str]:
    """A round."""
    environment = {
        f"RPC_{priced.node.chain.upper()}": priced.node.url,
        "INDEXER_DEPLOYMENTS": str(priced.write_deployments(folder / "deployments.json")),
    }
    words = [word for account in accounts for word in ("--account", account)]
    return quick_indexer("watch", venue, *words, "--once", **environment)


OF_LOANS = """
    SELECT p.account, p.market, a.block_number, a.quote, a.equity, p.value, p.debt, p.health_factor,
           p.liquidation_threshold, p.distance
    FROM ledger.position_state p
    JOIN ledger.account_state a USING (account, venue, dex, observed_at)
"""


def test_a_borrower_is_close_then_due_then_liquidated(
    priced: Priced, quick_indexer: Command, connection: Connection, tmp_path: Path
) -> None:
    """Genuine Aave v3: what is stored is what the pool's own view says, at each block."""
    aave, node = priced.aave, priced.node
    account, rich = aave.open_position(), node.new_account()
    aave.supply(rich, aave.ether, 10**18)

    def told() -> tuple[int, ...]:
        """Watch both, and say what the pool does: the block, its six numbers, the other's first."""
        done = watch_loans(priced, quick_indexer, tmp_path, "aave_v3.anvil", account, rich)
        assert (done.returncode, done.stderr) == (0, "")
        assert after_time(done.stdout).startswith("round 1: 2 accounts, 0 failed, 1 position;")
        of_rich = aave.pool.read("getUserAccountData", rich)[0]
        return node.head, *aave.pool.read("getUserAccountData", account), of_rich

    opened = told()
    aave.fall()
    fallen = told()
    aave.make(aave.attempt(account))
    loans = [opened, fallen, told()]

    assert rows(connection, OF_LOANS) == in_order(
        (
            account, aave.pool.address, block, "usd", D(collateral - debt).scaleb(-8),
            D(collateral).scaleb(-8), D(debt).scaleb(-8), D(health).scaleb(-18),
            D(threshold).scaleb(-4), round(1 - D(10) ** 18 / health, 12),
        )
        for block, collateral, debt, _, threshold, _, health, _ in loans
    )  # fmt: skip
    assert [health > 10**18 for *_, health, _ in loans] == [True, False, True]
    assert rows(
        connection, f"SELECT equity, positions FROM ledger.account_state WHERE account = '{rich}'"
    ) == in_order((D(raw).scaleb(-8), 0) for *_, raw in loans)


@pytest.mark.parametrize("priced", ["ethereum"], indirect=True)
def test_a_market_in_ether_is_told_in_ether(
    priced: Priced, quick_indexer: Command, connection: Connection, tmp_path: Path
) -> None:
    aave = priced.aave_v2()
    account = aave.open_position()
    collateral, debt, *_ = aave.pool.read("getUserAccountData", account)

    done = watch_loans(priced, quick_indexer, tmp_path, "aave_v2.ethereum", account)

    # the pools that Ethereum has are not on this chain
    assert done.stderr.splitlines()[-1] == "indexer: 1 account could not be looked at"
    assert " does not tell what 1 of the accounts hold\n" in done.stderr
    assert aave.pool.address not in done.stderr
    assert rows(
        connection, "SELECT quote, value, debt, value_usd, debt_usd FROM liq.positions_now"
    ) == in_order([(WETH, D(collateral).scaleb(-18), D(debt).scaleb(-18), None, None)])


def test_a_market_whose_unit_nobody_names_has_a_distance_and_no_amounts(
    priced: Priced, quick_indexer: Command, connection: Connection, tmp_path: Path
) -> None:
    """On a chain whose ether is not known."""
    aave = priced.aave_v2()
    account = aave.open_position()

    watch_loans(priced, quick_indexer, tmp_path, "aave_v2.anvil", account)

    assert rows(
        connection, "SELECT quote, equity, value, debt, distance > 0 FROM liq.positions_now"
    ) == [(None, None, None, None, True)]


def test_a_venue_that_tells_no_accounts_is_left_out_aloud(quick_indexer: Command) -> None:
    done = quick_indexer("watch", "morpho_blue.ethereum", "--account", WHALE, "--once")

    assert done.returncode == 0
    assert done.stderr.splitlines()[0] == (
        "morpho_blue.ethereum: no contract there tells what an account holds"
    )
