"""Public feeds of other perpetual exchanges, over real HTTP and WebSocket on loopback: what is a
row, what stands apart for want of an account, what stays undecoded; and what feeds do wrong.

All trades are made up, in the shapes that the exchanges document."""

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from indexer import perp_samples
from indexer.errors import ConfigError, SourceFault
from indexer.hyperliquid_format import utc_of_ms
from indexer.labels import rules
from indexer.model import AnonymousLiquidation, Liquidation, Undecoded
from indexer.perp_feeds import ASTER, EXTENDED, FEEDS, LIGHTER, PARADEX, Feed
from indexer.perp_samples import Asked, Sampler
from indexer.sources.hyperliquid_api import Silent
from indexer.sources.hyperliquid_stream import Heard as OnWire
from indexer.sources.hyperliquid_stream import Lost, Opened, Quiet
from indexer.sources.perp_trades import Market, TradesApi, TradeStream
from indexer.store import labels as labeler
from indexer.store.database import Connection
from indexer.venues.perp_trades import Heard, decode
from tests.conftest import Command
from tests.ledger_rows import rows
from tests.perp_stub import Perps, Unasked, aster, extended, lighter, paradex
from tests.processes import following, soon, stopped
from tests.rpc_proxy import FakeClock, Http
from tests.stream_stub import Close
from tests.stream_stub import Feed as Spoken

DOCS = Path(__file__).parents[1] / "docs" / "other-perps.md"
AT = utc_of_ms(1773854156654)
SINCE, UNTIL = AT - timedelta(hours=1), AT + timedelta(hours=1)
LATER = datetime(2026, 6, 1, tzinfo=UTC)
ETH = Market("0", "ETH")
ANONYMOUS = (
    "SELECT venue, event_key, block_at, method, market, quote, side, size, price, notional,"
    " trade_id, lacks, completeness FROM ledger.anonymous_liquidation"
)


@pytest.fixture
def perps() -> Iterator[Perps]:
    with Perps() as served:
        yield served


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def api(perps: Perps, clock: FakeClock) -> Iterator[Callable[[Feed], TradesApi]]:
    opened: list[TradesApi] = []

    def of(feed: Feed) -> TradesApi:
        opened.append(TradesApi(feed, f"{perps.url}/{feed.venue}", clock.clock))
        return opened[-1]

    yield of
    for one in opened:
        one.close()


def decoded(feed: Feed, trade: Any) -> Any:
    body = trade if isinstance(trade, bytes) else json.dumps(trade).encode()
    found = decode(feed, Heard(body, "made up", 1, LATER), {"0": "ETH"})
    return None if found is None else found[1]


def told(api: TradesApi, market: Market, since: datetime = SINCE) -> list[Any]:
    pages = api.trades(market, since, UNTIL)
    return [json.loads(one) for page in pages for one in page.trades]


def pull(connection: Connection, feed: Feed, api: TradesApi) -> tuple[Asked, list[str]]:
    said: list[str] = []
    sampler = Sampler(connection, feed)
    asked = perp_samples.pull(
        connection, sampler, feed, api, api.markets(), source="api trades", since=SINCE,
        until=UNTIL, say=said.append,
    )  # fmt: skip
    return asked, said


# -- what a trade is


def test_a_liquidation_of_lighter_is_that_of_the_taker() -> None:
    assert decoded(LIGHTER, lighter(7)) == Liquidation(
        venue="lighter", event_key="0/7", account="57890", block_number=198321831, block_at=AT,
        tx_hash="019f2b9c", method="market", market="ETH", dex="", quote="usd", side="long",
        size=Decimal("0.2"), price=Decimal("2181.83"), notional=Decimal("436.366"),
        mark_price=None, notional_mark=None, position_before=Decimal("0.5"),
        position_after=Decimal("0.3"), is_full_close=False, fee=None, fee_asset=None,
        realised_pnl=None, margin_mode=None, order_id="281476612587355", trade_id="7",
        counterparty="317068", counterparty_kind="maker", liquidator=None,
        account_is_protocol_vault=False, dir_liquidated=None, dir_counterparty=None,
        legs_seen="both", decoder_version=1,
    )  # fmt: skip


def test_a_short_of_lighter_is_closed_by_the_bid() -> None:
    found = decoded(LIGHTER, lighter(7, is_maker_ask=True, taker_position_size_before="-0.2"))

    assert (found.account, found.counterparty, found.side) == ("317068", "57890", "short")
    assert (found.order_id, found.position_after, found.is_full_close) == (
        "562948334068259", Decimal(0), True,
    )  # fmt: skip


def test_a_position_that_is_left_out_is_unknown() -> None:
    trade = lighter(7)
    del trade["taker_position_size_before"]

    found = decoded(LIGHTER, trade)

    assert (found.position_before, found.position_after, found.is_full_close) == (None,) * 3


def nameless(feed: Feed, trade: Any) -> tuple[Any, ...]:
    found = decoded(feed, trade)
    assert isinstance(found, AnonymousLiquidation)
    return (
        found.event_key, found.method, found.market, found.quote, found.side, str(found.notional),
        found.trade_id, found.lacks, found.completeness,
    )  # fmt: skip


def test_what_has_no_account_says_what_it_lacks() -> None:
    assert nameless(LIGHTER, lighter(7, "deleverage")) == (
        "0/7", None, "ETH", "usd", None, "436.366", "7", ("account", "method", "side"), "sample",
    )  # fmt: skip
    assert nameless(PARADEX, paradex(12345643)) == (
        "BTC-USD-PERP/LIQUIDATION/12345643", None, "BTC-USD-PERP", "usd", None, "300.012",
        "12345643", ("account", "method", "side"), "sample",
    )  # fmt: skip
    assert nameless(EXTENDED, extended(1844000421446684673)) == (
        "BTC-USD/1844000421446684673", None, "BTC-USD", "usd", None, "2479.940",
        "1844000421446684673", ("account", "method", "side"), "sample",
    )  # fmt: skip
    assert nameless(EXTENDED, extended(3, "DELEVERAGE"))[1::6] == (
        "adl_of_user", ("account", "side"),
    )  # fmt: skip
    assert nameless(ASTER, aster()["o"])[1:] == (
        "market", "BTCUSDT", None, "long", "138.754", None, ("account",), "lower bound",
    )  # fmt: skip
    assert nameless(ASTER, aster(S="BUY")["o"])[4] == "short"


@pytest.mark.parametrize(
    ("feed", "trade"),
    [
        (LIGHTER, lighter(7, "trade")),
        (LIGHTER, lighter(7, "market-settlement")),
        (PARADEX, paradex(7, "FILL")),
        (PARADEX, paradex(7, "RPI")),
        (EXTENDED, extended(7, "TRADE")),
    ],
)
def test_an_ordinary_trade_is_nothing(feed: Feed, trade: Any) -> None:
    assert decoded(feed, trade) is None


UNKNOWN: list[tuple[Feed, Any, str]] = [
    (LIGHTER, lighter(7, "buy"), "type 'buy': not known to be a liquidation or none"),
    (PARADEX, paradex(7, "UNWIND_TRANSFER"),
     "trade_type 'UNWIND_TRANSFER': not known to be a liquidation or none"),
    (ASTER, aster(X="PARTIALLY_FILLED")["o"],
     "X 'PARTIALLY_FILLED': not known to be a liquidation or none"),
    (LIGHTER, b'{"type":', "type None: not known to be a liquidation or none"),
    (LIGHTER, lighter(7, size=0.2), "size 0.2 is no amount"),
    (LIGHTER, lighter(7, size="NaN"), "size 'NaN' is no amount"),
    (LIGHTER, lighter(7, size="0"), "0 at 2181.83"),
    (LIGHTER, lighter(7, timestamp=1773854156), "timestamp 1773854156 is no time in milliseconds"),
    (LIGHTER, lighter(7, is_maker_ask=None), "is_maker_ask None"),
    (LIGHTER, lighter(7, ask_account_id=None), "ask_account_id None is no number"),
    (LIGHTER, lighter(7, taker_position_size_before="-0.5"),
     "a long liquidation of 0.2 from a position of -0.5"),
    (LIGHTER, lighter(7, taker_position_size_before="0.1"),
     "a long liquidation of 0.2 from a position of 0.1"),
    (ASTER, aster(S="sell")["o"], "S 'sell'"),
]  # fmt: skip


@pytest.mark.parametrize(("feed", "trade", "reason"), UNKNOWN)
def test_what_cannot_be_read_is_undecoded_with_the_reason(
    feed: Feed, trade: Any, reason: str
) -> None:
    found = decoded(feed, trade)

    assert isinstance(found, Undecoded)
    assert (found.venue, found.reason) == (feed.venue, reason)


def test_no_feed_has_a_word_for_both() -> None:
    assert [feed.venue for feed in FEEDS.values() if set(feed.kinds) & feed.ordinary] == []


# -- what the APIs say


def test_markets_are_perpetuals_alone(api: Callable[[Feed], TradesApi]) -> None:
    assert api(LIGHTER).markets() == [Market("1", "BTC"), Market("0", "ETH")]
    assert api(PARADEX).markets() == [Market("BTC-USD-PERP", "BTC-USD-PERP")]
    assert api(EXTENDED).markets() == [Market("BTC-USD", "BTC-USD")]


def test_all_pages_are_asked_for_until_they_are_too_old(
    perps: Perps, api: Callable[[Feed], TradesApi]
) -> None:
    perps.page_trades = 2
    minutes = [lighter(n, timestamp=1773854156654 - 60_000 * n) for n in range(200)]
    perps.trades["lighter"] = minutes

    found = told(api(LIGHTER), ETH, AT - timedelta(minutes=5))

    assert [one["trade_id"] for one in found] == [0, 1, 2, 3, 4, 5]
    assert [path.partition("&cursor=")[2] for path in perps.asked] == ["", "2", "4", "6", ""]
    assert [f"type={kind}" in path for kind, path in zip(
        [*["liquidation"] * 4, "deleverage"], perps.asked, strict=True
    )] == [True] * 5  # fmt: skip


def test_paradex_is_asked_from_a_time_on(perps: Perps, api: Callable[[Feed], TradesApi]) -> None:
    perps.trades["paradex"] = [paradex(n, created_at=1773854156654 + n) for n in range(150)]

    found = told(api(PARADEX), Market("BTC-USD-PERP", "BTC-USD-PERP"))

    assert Counter(one["id"] for one in found) == Counter(str(n) for n in range(150))
    assert perps.asked == [
        "/paradex/trades?market=BTC-USD-PERP&start_at=1773850556654&page_size=1000",
        "/paradex/trades?market=BTC-USD-PERP&start_at=1773850556654&page_size=1000&cursor=100",
    ]


def test_an_address_asks_no_more_often_than_it_may(
    api: Callable[[Feed], TradesApi], clock: FakeClock
) -> None:
    opened = api(LIGHTER)
    for _ in range(41):
        opened.markets()

    assert clock.slept == [60.0]  # 40 a minute


def test_too_many_requests_are_waited_for_and_then_given_up(
    perps: Perps, api: Callable[[Feed], TradesApi], clock: FakeClock
) -> None:
    perps.play(Http(status=429, headers={"Retry-After": "7"}))
    assert len(api(LIGHTER).markets()) == 2
    assert 7.0 <= clock.slept[0] <= 7.7

    perps.play(Http(status=429), times=4)
    with pytest.raises(Silent, match=r"^127\.0\.0\.1 #1: /orderBooks: HTTP 429$"):
        api(LIGHTER).markets()


NOT_FOUND = b'{"status":"ERROR","error":{"code":"NOT_FOUND","message":"Market not found"}}'
REFUSED: dict[str, tuple[Http, str]] = {
    "an error": (Http(NOT_FOUND, 404), r"HTTP 404 .*Market not found"),
    "no JSON": (Http(b"<html>"), "JSON is malformed"),
    "no list": (Http(b'{"code":29404,"message":"busy"}'), "an answer without trades: .*busy"),
    "no trade": (Http(b'{"trades":[{"price":"1"}]}'), "not a trade: no type"),
    "a time in words": (
        Http(b'{"trades":[{"type":"trade","timestamp":"now"}]}'), "timestamp is no number",
    ),
    "a time to come": (
        Http(b'{"trades":[{"type":"trade","timestamp":9000000000000}]}'), "still to come",
    ),
    "no order": (
        Http(json.dumps({"trades": [lighter(n, timestamp=t) for n, t in enumerate(
            (1773854156654, 1773854156653, 1773854156655))]}).encode()),
        "no order of time",
    ),
    "cut": (Http(b'{"trades":[]}', cut=3), ""),
}  # fmt: skip


@pytest.mark.parametrize(("answer", "says"), REFUSED.values(), ids=REFUSED)
def test_an_answer_that_cannot_be_right_is_never_used(
    perps: Perps, api: Callable[[Feed], TradesApi], answer: Http, says: str
) -> None:
    perps.play(answer, "type=liquidation", times=4)

    with pytest.raises(SourceFault, match=r"^127\.0\.0\.1 #1: /trades: .*" + says):
        told(api(LIGHTER), ETH)


def test_a_cursor_that_leads_back_is_a_fault(
    perps: Perps, api: Callable[[Feed], TradesApi]
) -> None:
    page = {"trades": [lighter(1)], "next_cursor": "x"}
    perps.play(Http(json.dumps(page).encode()), "type=liquidation", times=2)

    with pytest.raises(SourceFault, match="ETH: a cursor leads back to itself"):
        told(api(LIGHTER), ETH)


# -- what is stored


def test_rows_are_stored_with_their_bytes_and_cover_nothing(
    connection: Connection, perps: Perps, api: Callable[[Feed], TradesApi]
) -> None:
    perps.trades["lighter"] = [lighter(1), lighter(2, "deleverage"), lighter(3, size="x")]

    assert pull(connection, LIGHTER, api(LIGHTER)) == (
        Asked(2, 0, 3), ["venue=lighter market=ETH anonymous=1 liquidations=1 undecoded=1"],
    )  # fmt: skip

    assert rows(connection, "SELECT key, account, market, method, side, notional_usd, chain"
                " FROM liq.liquidations") == [
        ("lighter/0/1/57890", "57890", "ETH", "market", "long", Decimal("436.366"), "lighter"),
    ]  # fmt: skip
    assert rows(connection, "SELECT key, lacks, notional_usd, source FROM"
                " liq.anonymous_liquidations") == [
        ("lighter/0/2", ["account", "method", "side"], Decimal("436.366"), "api trades ETH"),
    ]  # fmt: skip
    assert rows(connection, "SELECT event_key, reason FROM liq.undecoded") == [
        ("0/3", "size 'x' is no amount")
    ]
    assert rows(connection, "SELECT event_key, body FROM ledger.raw_event") == [
        (f"0/{one['trade_id']}", json.dumps(one)) for one in perps.trades["lighter"]
    ]
    assert rows(connection, "SELECT uri, is_sample, is_simulated FROM liq.sources") == [
        ("api trades ETH", True, False)
    ]
    assert rows(connection, "SELECT * FROM ledger.coverage") == []
    assert rows(
        connection, "SELECT venue, source, account, first_at, last_at, lacks FROM liq.samples"
    ) == [("lighter", "api trades", None, SINCE, UNTIL, None)]
    assert rows(connection, "SELECT venue, basis, usd, price_source FROM liq.valuations") == [
        ("lighter", "fill", Decimal("436.366"), "event"),
        ("lighter", "fill", Decimal("436.366"), "par"),
    ]


def test_the_same_trade_again_changes_nothing(
    connection: Connection, perps: Perps, api: Callable[[Feed], TradesApi]
) -> None:
    perps.trades["lighter"] = [lighter(1), lighter(2, "deleverage"), lighter(3, size="x")]
    tables = ("liquidation", "anonymous_liquidation", "undecoded", "raw_event", "valuation")

    def everything() -> list[Any]:
        return [rows(connection, f"SELECT * FROM ledger.{table}") for table in tables]

    pull(connection, LIGHTER, api(LIGHTER))
    once = everything()
    assert pull(connection, LIGHTER, api(LIGHTER))[0] == Asked(2, 0, 3)

    assert everything() == once


def test_one_trade_in_two_forms_is_one_and_another_content_is_a_fault(
    connection: Connection,
) -> None:
    trade = extended(1)
    turned = dict(reversed(trade.items()))
    sampler = Sampler(connection, EXTENDED)

    def take(*trades: Any) -> list[str]:
        bodies = [json.dumps(one).encode() for one in trades]
        return [str(fault) for fault in sampler.take(bodies, "stream", {})]

    assert take(trade, turned) == []
    assert take(turned) == []
    assert take(extended(1, p="1")) == [
        "stream:1: BTC-USD/1 says other than stream:1; the first stands"
    ]
    assert take(extended(2), extended(2, p="1")) == [
        "stream:2: BTC-USD/2 says other than stream:1; the first stands"
    ]
    assert rows(connection, "SELECT event_key, price FROM ledger.anonymous_liquidation") == [
        ("BTC-USD/1", Decimal("61998.5")), ("BTC-USD/2", Decimal("61998.5")),
    ]  # fmt: skip


def test_a_row_says_no_more_than_its_stored_bytes(connection: Connection) -> None:
    short = lighter(1)
    del short["taker_position_size_before"]
    sampler = Sampler(connection, LIGHTER)

    faults = [sampler.take([json.dumps(one).encode()], "api", {}) for one in (short, lighter(1))]

    assert faults == [[], []]
    assert rows(connection, "SELECT position_before FROM ledger.liquidation") == [(None,)]
    assert rows(connection, "SELECT body FROM ledger.raw_event") == [(json.dumps(short),)]


def test_newer_rules_may_make_a_row_of_another_kind(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies = [json.dumps(lighter(1, "deleverage")).encode()]
    Sampler(connection, LIGHTER).take(bodies, "api", {})

    monkeypatch.setattr("indexer.venues.perp_trades.DECODER_VERSION", 2)
    known = LIGHTER._replace(kinds={"deleverage": LIGHTER.kinds["liquidation"]})
    Sampler(connection, known).take(bodies, "api", {})
    assert rows(connection, "SELECT event_key FROM ledger.liquidation") == [("0/1",)]
    assert rows(connection, "SELECT * FROM ledger.anonymous_liquidation") == []

    Sampler(connection, LIGHTER).take(bodies, "api", {})
    assert rows(connection, "SELECT event_key FROM ledger.anonymous_liquidation") == [("0/1",)]
    assert rows(connection, "SELECT * FROM ledger.liquidation") == []


def test_a_market_that_fails_leaves_the_others_and_is_asked_again(
    connection: Connection, perps: Perps, api: Callable[[Feed], TradesApi]
) -> None:
    perps.trades["lighter"] = [lighter(1)]
    perps.play(Http(b"{}"), "market_id=1", times=4)

    asked, said = pull(connection, LIGHTER, api(LIGHTER))

    assert asked == Asked(2, 1, 1)
    assert said == [
        "BTC: 127.0.0.1 #1: /trades: an answer without trades: {}",
        "venue=lighter market=ETH liquidations=1",
    ]
    assert rows(connection, "SELECT event_key FROM ledger.liquidation") == [("0/1",)]
    assert rows(connection, "SELECT * FROM liq.samples") == []  # nothing to go on from

    pull(connection, LIGHTER, api(LIGHTER))
    now = UNTIL + timedelta(hours=1)
    assert perp_samples.since_last(connection, LIGHTER, "api trades", now) == UNTIL - timedelta(
        minutes=1
    )


def test_the_latest_trades_alone_are_said_to_be_that(
    connection: Connection, perps: Perps, api: Callable[[Feed], TradesApi]
) -> None:
    perps.trades["extended"] = [extended(1), extended(2, "TRADE")]

    assert pull(connection, EXTENDED, api(EXTENDED))[0] == Asked(1, 0, 2)
    assert rows(connection, "SELECT lacks FROM liq.samples") == [
        ("the API tells the latest trades of a market alone",)
    ]


# -- totals, and labels


def total(connection: Connection) -> list[Any]:
    return rows(
        connection,
        "SELECT usd, records, accounts FROM liq.total('strict/v1',"
        " '2026-03-18'::timestamptz, '2026-03-19'::timestamptz) WHERE section = 'total'",
    )


def test_totals_never_count_who_is_nobody_and_are_never_complete(
    connection: Connection, perps: Perps, api: Callable[[Feed], TradesApi], indexer: Command
) -> None:
    perps.trades["lighter"] = [lighter(1), lighter(2, ask_account_id=3), lighter(4, "deleverage")]
    perps.trades["paradex"] = [paradex(n) for n in range(5)]
    pull(connection, LIGHTER, api(LIGHTER))
    pull(connection, PARADEX, api(PARADEX))

    assert rows(connection, "SELECT count(*) FROM liq.anonymous_liquidations") == [(6,)]
    assert total(connection) == [(Decimal("872.732"), 2, 2)]
    done = indexer("total", "--window", "2026-03-18", "--format", "json")
    said = json.loads(done.stdout)
    assert [(one["venue"], one["share"]) for one in said["coverage"]] == [("lighter", "0")]
    assert said["is_complete"] is False


def test_nobody_is_never_labelled(
    connection: Connection, perps: Perps, api: Callable[[Feed], TradesApi]
) -> None:
    perps.trades["lighter"] = [lighter(1, size="5000", taker_position_size_before="5000")]
    perps.trades["paradex"] = [paradex(n, size="5000") for n in range(5)]
    pull(connection, LIGHTER, api(LIGHTER))
    pull(connection, PARADEX, api(PARADEX))

    labeler.apply(connection, rules())

    assert rows(connection, "SELECT DISTINCT venue, account FROM liq.flags") == [
        ("lighter", "57890")
    ]


# -- what is heard


def listen(feed: Feed, url: str, until: Callable[[list[OnWire]], bool], **kwargs: Any) -> Any:
    found: list[OnWire] = []
    end = time.monotonic() + 60

    def is_over() -> bool:
        return until(found) or time.monotonic() > end

    for heard in TradeStream(feed, url, cool_seconds=0.01, **kwargs).listen(is_over):
        if not isinstance(heard, Quiet):
            found.append(heard)
    assert until(found), found
    return found


def enough(number: int) -> Callable[[list[OnWire]], bool]:
    return lambda found: len(found) >= number


def test_extended_speaks_unasked_of_all_markets_and_aster_is_asked() -> None:
    with Unasked([{"ts": 1, "data": [extended(1), extended(2, "TRADE")], "seq": 2}]) as served:
        found = listen(EXTENDED, served.url, enough(2))
    assert [json.loads(one.fill) for one in found[1].fills] == [extended(1), extended(2, "TRADE")]

    with Spoken([{"result": None, "id": 1}, aster()]) as served:
        found = listen(ASTER, served.url, enough(2))
    assert [json.loads(one.fill) for one in found[1].fills] == [aster()["o"]]
    assert served.heard == [{"method": "SUBSCRIBE", "params": ["!forceOrder@arr"], "id": 1}]


def test_what_is_lost_is_said() -> None:
    broken = {"ts": 1, "data": [{"m": "BTC-USD"}], "seq": 2}
    with Unasked([broken, Close()], [{"data": [extended(1)]}]) as served:
        found = listen(EXTENDED, served.url, enough(5))

    assert [type(one).__name__ for one in found] == ["Opened", "Lost", "Lost", "Opened", "Fills"]
    assert [(one.why, one.is_open) for one in found if isinstance(one, Lost)] == [
        ("127.0.0.1: a message that cannot be read: not a trade: no tT", True),
        ("127.0.0.1: closed with 1011; connecting anew", False),
    ]


def test_a_feed_that_falls_silent_is_opened_anew() -> None:
    with Unasked([]) as served:
        found = listen(EXTENDED, served.url, enough(3), silent_seconds=0.3)

    assert found == [Opened(), Lost("127.0.0.1: silent for 0 s; connecting anew", False), Opened()]


def test_what_is_followed_is_written_and_noted(
    connection: Connection, conninfo: str, tmp_path: Any
) -> None:
    with (
        Spoken([{"result": None, "id": 1}, aster(), aster(), aster(X="EXPIRED")]) as served,
        following(conninfo, tmp_path, "aster", ASTER_STREAM=served.url) as process,
    ):
        soon(lambda: len(rows(connection, "SELECT FROM ledger.undecoded")) > 0)
        said = stopped(process)

    assert process.returncode == 0
    assert "stopped; a lower bound: it covers nothing. Something was lost 0 times" in said
    assert [row[3:] for row in rows(connection, ANONYMOUS)] == [
        ("market", "BTCUSDT", None, "long", Decimal("0.014"), Decimal("9911"),
         Decimal("138.754"), None, ["account"], "lower bound"),
    ]  # fmt: skip
    assert rows(connection, "SELECT venue, source, lacks FROM liq.samples") == [
        ("aster", "stream aster trades", "all but one of a market and second")
    ]


def test_lighter_is_followed_by_asking(
    connection: Connection, conninfo: str, tmp_path: Any, perps: Perps
) -> None:
    now = int(time.time() * 1000)
    perps.trades["lighter"] = [lighter(1, timestamp=now - 60_000)]

    with following(conninfo, tmp_path, "lighter", **perps.environment) as process:
        soon(lambda: len(rows(connection, "SELECT FROM liq.samples")) > 0)
        said = stopped(process)

    assert (process.returncode, said.splitlines()) == (
        0,
        [
            "asking lighter for the trades of all markets",
            "venue=lighter market=ETH liquidations=1",
            "stopped",
            "a sample: it covers nothing",
        ],
    )


# -- commands


def test_one_look_at_an_exchange(indexer: Command, perps: Perps) -> None:
    perps.trades["paradex"] = [paradex(1), paradex(2, "FILL"), paradex(3, "NEW")]
    since = f"{SINCE:%Y-%m-%dT%H:%M}"

    done = indexer("trades", "paradex", "BTC-USD-PERP", "--since", since, **perps.environment)

    assert (done.returncode, done.stdout) == (
        0,
        "1 market, 0 failed, 3 trades; 0 liquidations among them, 1 without an account, 1"
        " undecoded. A sample: it covers nothing\n",
    )
    explained = indexer("explain", "paradex/BTC-USD-PERP/LIQUIDATION/1").stdout
    assert json.dumps(paradex(1)) in explained
    assert "lower" not in explained and "sample" in explained
    assert "api trades of BTC-USD-PERP" in indexer("status").stdout


WRONG: dict[str, tuple[tuple[str, ...], dict[str, str], int, str]] = {
    "an unknown exchange": (
        ("trades", "binance"), {}, 2, "no exchange 'binance' is known: lighter, paradex, extended",
    ),
    "one that cannot be asked": (
        ("trades", "aster"), {}, 2,
        "aster tells liquidations only as they happen: indexer follow aster",
    ),
    "an unknown market": (
        ("trades", "lighter", "DOGE"), {}, 2,
        "lighter has no perpetual 'DOGE'; it has BTC, ETH and so on",
    ),
    "a time to come": (("trades", "lighter", "--since", "2200-01-01"), {}, 2, "still to come"),
    "no address": (
        ("trades", "lighter"), {"LIGHTER_API": "lighter.xyz"}, 1,
        "LIGHTER_API is not http:// or https://",
    ),
    "an empty address": (("trades", "lighter"), {"ASTER_STREAM": ""}, 1, "set but empty"),
    "with others": (("follow", "lighter", "ethereum"), {}, 2, "lighter is no chain"),
    "with options of others": (
        ("follow", "lighter", "--vendor", "goldrush"), {}, 2, "are for hyperliquid",
    ),
    "no address of a stream": (
        ("follow", "aster"), {"ASTER_STREAM": "https://x"}, 1, "ASTER_STREAM is not ws:// or wss",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("words", "environment", "code", "says"), WRONG.values(), ids=WRONG)
def test_wrong_words_are_said(
    indexer: Command, perps: Perps, words: tuple[str, ...], environment: dict[str, str], code: int,
    says: str,
) -> None:  # fmt: skip
    done = indexer(*words, **{**perps.environment, **environment})

    assert (done.returncode, says in " ".join(done.stderr.split())) == (code, True), done.stderr


def test_a_market_that_could_not_be_asked_for_ends_with_1(indexer: Command, perps: Perps) -> None:
    perps.play(Http(b'{"message":"no"}', 400), "market_id=0")

    done = indexer("trades", "lighter", "--since", "1h", **perps.environment)

    assert done.returncode == 1
    assert 'ETH: 127.0.0.1 #1: /trades: HTTP 400 {"message":"no"}' in done.stderr
    assert "1 market could not be asked for" in done.stderr


def test_the_query_of_the_docs_adds_up_who_is_nobody(
    connection: Connection, perps: Perps, api: Callable[[Feed], TradesApi]
) -> None:
    perps.trades["paradex"] = [paradex(1), paradex(2)]
    pull(connection, PARADEX, api(PARADEX))

    [query] = re.findall(r"```sql\n(.*?);\n```", DOCS.read_text(), re.DOTALL)

    assert rows(connection, query) == [
        ("paradex", "sample", ["account", "method", "side"], 2, Decimal("600.024"))
    ]


def test_the_page_of_the_docs_names_each_feed_and_its_pace() -> None:
    page = DOCS.read_text()

    assert [venue for venue in FEEDS if f"`{venue}`" not in page] == []
    paces = [f"| {feed.pages.a_minute:,}" for feed in FEEDS.values() if feed.pages]
    assert [pace for pace in paces if pace not in page] == []


def test_an_exchange_without_pages_or_wire_says_so() -> None:
    with pytest.raises(ConfigError, match="aster tells liquidations only as they happen"):
        TradesApi(ASTER)
    with pytest.raises(ConfigError, match="paradex has no feed that can be listened to"):
        TradeStream(PARADEX)
