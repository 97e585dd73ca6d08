"""Feeds of fills over a real WebSocket on loopback: each vendor's form, and what feeds do wrong."""

import json
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from indexer import samples, sync
from indexer.errors import ConfigError
from indexer.sources.hyperliquid_stream import Fills, Heard, Lost, Opened, Quiet, Stream
from indexer.sources.hyperliquid_vendors import VENDORS
from indexer.store.database import Connection, connect
from tests.conftest import Command
from tests.ledger_rows import rows
from tests.processes import following, soon, stopped
from tests.simulator import Simulation, simulate, small, write_by_block
from tests.stream_stub import Close, Cut, Feed

ACCOUNT = "0x61fb9e7583dc92cc76eb52f93d88addaa0f02265"
KEY = "sk_a-secret-key-of-mine"


def recorded(real_data: Path, name: str) -> Any:
    return json.loads((real_data / "hyperliquid" / name).read_text())


@pytest.fixture(scope="module")
def sim() -> Simulation:
    return simulate(small(1))


def marked(sim: Simulation) -> list[tuple[str, dict[str, Any]]]:
    """All legs of liquidations, as a vendor sends them."""
    return [(user, one) for block in sim.blocks for user, one in block.events
            if "liquidation" in one]  # fmt: skip


@pytest.fixture
def fills(sim: Simulation) -> list[tuple[str, dict[str, Any]]]:
    return marked(sim)[:6]


def listen(feed: Feed, name: str, until: Callable[[list[Heard]], bool], **kwargs: Any) -> Any:
    """What is heard of a vendor's feed until it is enough, but that nothing came."""
    vendor = VENDORS[name]
    key = KEY if vendor.key_in == "query" else None
    found: list[Heard] = []
    stream = Stream(vendor, feed.url, key, [ACCOUNT], cool_seconds=0.01, **kwargs)
    end = time.monotonic() + 60

    def is_over() -> bool:
        return until(found) or time.monotonic() > end

    for heard in stream.listen(is_over):
        if not isinstance(heard, Quiet):
            found.append(heard)
    assert until(found), found
    return found


def told(found: list[Heard]) -> list[tuple[str, Any]]:
    return [
        (one.user, json.loads(one.fill))
        for heard in found if isinstance(heard, Fills) for one in heard.fills
    ]  # fmt: skip


def count(kind: type[Heard], number: int) -> Callable[[list[Heard]], bool]:
    return lambda found: sum(isinstance(heard, kind) for heard in found) >= number


# -- the forms


def goldrush(*fills: Any) -> Any:
    return {"channel": "liquidationFills", "fills": fills}


def hydromancer(seq: int, *fills: Any) -> Any:
    return {"type": "liquidationFills", "channel": "liquidationFills", "seq": seq,
            "cursor": "500:1704067200000:3", "fills": fills}  # fmt: skip


def quicknode(*fills: Any) -> Any:
    return {"stream": "hl.trades", "block_number": 1, "data": {
        "local_time": "2026-05-08T16:57:35.818386641",
        "block_time": "2026-05-08T16:57:35.663766253", "block_number": 1, "events": fills,
    }}  # fmt: skip


FORMS: dict[str, tuple[str, list[Any], Callable[..., Any]]] = {
    "goldrush": ("goldrush", [{"channel": "subscriptionResponse", "data": {}}], goldrush),
    "goldrush as the exchange": (
        "goldrush", [{"channel": "pong"}],
        lambda *fills: {"channel": "liquidationFills", "data": {"fills": fills}},
    ),
    "hydromancer": (
        "hydromancer",
        [{"type": "connected", "sessionId": "s"}, {"type": "subscriptionUpdate"}],
        lambda *fills: hydromancer(1, *fills),
    ),
    "quicknode": ("quicknode", [{"id": 1, "result": {"subscribed": ["trades"]}}], quicknode),
}  # fmt: skip


@pytest.mark.parametrize(("name", "before", "form"), FORMS.values(), ids=FORMS)
def test_each_vendor_is_understood(
    name: str, before: list[Any], form: Callable[..., Any], fills: list[Any]
) -> None:
    with Feed([*before, form(*fills)]) as feed:
        found = listen(feed, name, count(Fills, 1))

    assert told(found) == fills
    assert found[0] == Opened()
    assert [heard for heard in found if isinstance(heard, Lost)] == []
    assert feed.heard[0] == VENDORS[name].subscribe
    assert "aggregateByTime" not in json.dumps(feed.heard)


def test_the_exchange_is_asked_for_each_account_and_its_recorded_snapshot_is_read(
    real_data: Path,
) -> None:
    snapshot = recorded(real_data, "ws_userFills_snapshot_own_market_liquidation.json")

    with Feed([{"channel": "subscriptionResponse", "data": {}}, snapshot]) as feed:
        found = listen(feed, "exchange", count(Fills, 1))

    assert told(found) == [(ACCOUNT, one) for one in snapshot["data"]["fills"]]
    assert feed.heard[0] == {
        "method": "subscribe", "subscription": {"type": "userFills", "user": ACCOUNT},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "path"),
    [("goldrush", f"/ws?key={KEY}"), ("hydromancer", f"/ws?token={KEY}"), ("exchange", "/ws")],
)
def test_the_key_stands_where_the_vendor_wants_it(name: str, path: str) -> None:
    with Feed([]) as feed:
        listen(feed, name, count(Opened, 1))

    assert feed.paths == [path]


def test_a_ping_of_the_vendor_is_answered(fills: list[Any]) -> None:
    with Feed([{"type": "ping"}, hydromancer(1, *fills)]) as feed:
        listen(feed, "hydromancer", lambda found: len(feed.heard) > 1)

    assert feed.heard[1] == {"type": "pong"}


# -- what feeds do wrong


def test_a_number_that_is_left_out_is_said_and_what_follows_is_heard(fills: list[Any]) -> None:
    one, two = fills[:1], fills[1:2]
    with Feed([hydromancer(1, *one), hydromancer(4, *two), hydromancer(5)]) as feed:
        found = listen(feed, "hydromancer", count(Fills, 3))

    assert told(found) == [*one, *two]
    assert found[2] == Lost("127.0.0.1: message 4 came after 1", is_open=True)


def test_numbers_begin_anew_with_each_connection(fills: list[Any]) -> None:
    with Feed(
        [hydromancer(1), hydromancer(2), Close(1001)], [hydromancer(1), Cut()], [hydromancer(2)]
    ) as feed:
        found = listen(feed, "hydromancer", count(Fills, 4))

    assert [heard for heard in found if isinstance(heard, Lost)] == [
        Lost("127.0.0.1: closed with 1001; connecting anew", is_open=False),
        Lost("127.0.0.1: cut off; connecting anew", is_open=False),
        Lost("127.0.0.1: message 2 came the first", is_open=True),
    ]


def test_a_feed_that_falls_silent_while_its_socket_answers_is_opened_anew() -> None:
    with Feed([goldrush()]) as feed:
        found = listen(feed, "goldrush", count(Opened, 3), silent_seconds=0.3)

    assert Lost("127.0.0.1: silent for 0 s; connecting anew", is_open=False) in found


BROKEN: dict[str, Any] = {
    "no list": {"channel": "liquidationFills", "fills": 7},
    "no tuple": goldrush({"coin": "BTC"}),
    "no address": goldrush(["me", {}]),
    "no fill": goldrush([ACCOUNT, {"coin": "BTC"}]),
    "nothing": {"channel": "liquidationFills"},
}


@pytest.mark.parametrize("message", BROKEN.values(), ids=BROKEN)
def test_a_message_that_cannot_be_read_is_said_and_the_next_is_heard(
    message: Any, fills: list[Any]
) -> None:
    with Feed(["hello", message, goldrush(*fills)]) as feed:
        found = listen(feed, "goldrush", count(Fills, 1))

    assert [type(heard) for heard in found] == [Opened, Lost, Fills]
    assert told(found) == fills


REFUSALS: dict[str, tuple[Feed, str]] = {
    "HTTP 401": (Feed(status=401), "HTTP 401"),
    "HTTP 403": (Feed(status=403), "HTTP 403"),
    "a closing": (Feed([Close(4401, f"bad {KEY}")]), r"4401 bad \*\*\*"),
    "a message": (
        Feed([{"type": "error", "message": f"Invalid token {KEY}"}]), r"Invalid token \*\*\*",
    ),
    "any other": (
        Feed([{"type": "error", "message": "No such feed"}]), "is refused: .No such feed",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("feed", "said"), REFUSALS.values(), ids=REFUSALS)
def test_a_refusal_ends_it_and_never_shows_the_key(feed: Feed, said: str) -> None:
    with feed, pytest.raises(ConfigError, match=said) as raised:
        listen(feed, "hydromancer", count(Fills, 1))

    assert KEY not in str(raised.value)
    assert KEY not in repr(raised.value.__context__) + repr(raised.value.__cause__)
    assert len(feed.paths) == 1


def test_who_does_not_answer_is_asked_again() -> None:
    with Feed(status=503) as feed:
        listen(feed, "exchange", count(Lost, 3))

    assert len(feed.paths) >= 3


@pytest.mark.parametrize(
    ("name", "url", "key", "said"),
    [
        ("goldrush", None, None, "goldrush: no key; set HYPERLIQUID_STREAM_KEY"),
        ("quicknode", None, None, "quicknode: give the address of your endpoint"),
        ("goldrush", "https://example.org", KEY, "--stream is not ws:// or wss://"),
    ],
)
def test_what_is_missing_is_said_before_anything_is_opened(
    name: str, url: str | None, key: str | None, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        Stream(VENDORS[name], url, key)


# -- what is stored


def written(connection: Connection, feed: Feed, name: str, until: Callable[[], bool]) -> list[str]:
    said: list[str] = []
    end = time.monotonic() + 60
    key = KEY if VENDORS[name].key_in == "query" else None
    stream = Stream(VENDORS[name], feed.url, key, cool_seconds=0.05)
    samples.listen(
        connection, stream, f"stream {name}", [],
        lambda: until() or time.monotonic() > end, said.append,
    )  # fmt: skip
    return said


def test_a_feed_of_all_liquidations_gives_the_rows_of_the_blocks_and_no_coverage(
    connection: Connection, sim: Simulation, tmp_path: Path
) -> None:
    legs = marked(sim)
    messages = [goldrush(*legs[at : at + 9]) for at in range(0, len(legs), 9)]
    with_object = "SELECT * FROM ledger.liquidation WHERE mark_price IS NOT NULL"

    with Feed(messages) as feed:
        total = len({(fill["coin"], fill["tid"], fill["time"]) for _, fill in legs})
        written(connection, feed, "goldrush",
                lambda: len(rows(connection, with_object)) >= total)  # fmt: skip
    streamed = rows(connection, with_object.replace("*", "account, event_key, method, size, price,"
                                                    " position_before, legs_seen"))  # fmt: skip
    assert rows(connection, "SELECT * FROM ledger.coverage") == []
    write_by_block(sim, tmp_path)
    assert sync.backfill(connection, str(tmp_path)).faults == []

    assert streamed == rows(connection, with_object.replace(
        "*", "account, event_key, method, size, price, position_before, legs_seen"))  # fmt: skip
    assert rows(connection, "SELECT DISTINCT uri FROM liq.sources WHERE is_sample") == [
        ("stream goldrush",)
    ]


def test_what_was_lost_is_a_hole_between_two_times_of_listening(
    connection: Connection, fills: list[Any]
) -> None:
    with Feed(
        [hydromancer(1, *fills[:1]), hydromancer(3, *fills[1:2]), Cut()], [hydromancer(1)]
    ) as feed:
        said = written(connection, feed, "hydromancer", lambda: feed.connections > 1)

    pieces = sorted(rows(connection, "SELECT first_at, last_at FROM liq.samples"))
    assert len(pieces) == 3
    assert all(before[1] < after[0] for before, after in pairwise(pieces))
    assert "fault: 127.0.0.1: message 3 came after 1" in said
    spans = samples.holes(connection, None, pieces[-1][1])
    assert [tuple(span) for span in spans] == [
        (before[1], after[0]) for before, after in pairwise(pieces)
    ]


# -- the command


@pytest.fixture
def feed(sim: Simulation) -> Iterator[Feed]:
    legs = marked(sim)[:10]
    with Feed([goldrush(*legs)]) as served:
        yield served


def test_the_command_follows_a_vendor_until_stopped_and_keeps_the_key_to_itself(
    conninfo: str, tmp_path: Path, feed: Feed
) -> None:
    words = ("hyperliquid", "--stream", feed.url, "--vendor", "goldrush")
    with following(conninfo, tmp_path, *words, HYPERLIQUID_STREAM_KEY=KEY) as process:
        with connect(conninfo) as connection:
            soon(lambda: len(rows(connection, "SELECT FROM ledger.liquidation")) > 0)
            soon(lambda: len(rows(connection, "SELECT FROM liq.samples")) > 0)
        said = stopped(process)

    assert process.returncode == 0
    assert "listening to stream goldrush liquidationFills" in said
    assert "stopped; a sample: it covers no blocks. Something was lost 0 times" in said
    assert KEY not in said
    with connect(conninfo) as connection:
        assert KEY not in repr(rows(connection, "SELECT uri FROM ledger.source"))
        assert len(rows(connection, "SELECT FROM liq.valuations")) > 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--stream", "wss://example.org"], "say who sends it: --vendor exchange, goldrush"),
        (["--vendor", "nobody"], "no vendor 'nobody' is known: exchange, goldrush, hydromancer"),
        (["--vendor", "exchange"], "--watch-list FILE"),
        (["--vendor", "goldrush", "--watch-list", "list"], "--watch-list is for exchange"),
        (["--vendor", "exchange", "--watch-list", "long"], "long has 11 accounts; the exchange"),
        (["--vendor", "goldrush", "--from", "."], "give one"),
        ([], "or who sends fills: --vendor NAME"),
    ],
)
def test_wrong_words_are_refused_with_a_hint(
    quick_indexer: Command, tmp_path: Path, words: list[str], said: str
) -> None:
    (tmp_path / "list").write_text(ACCOUNT)
    (tmp_path / "long").write_text("\n".join(f"0x{n:040x}" for n in range(11)))

    done = quick_indexer("follow", "hyperliquid", *words)

    assert (done.returncode, said in done.stderr) == (2, True), done.stderr


def test_a_key_that_is_refused_is_one_line_and_exit_code_1(
    quick_indexer: Command, tmp_path: Path
) -> None:
    (tmp_path / "my.key").write_text(f"{KEY}\n")
    with Feed(status=401) as feed:
        done = quick_indexer(
            "follow", "hyperliquid", "--vendor", "goldrush", "--stream", feed.url,
            "--key-file", "my.key",
        )  # fmt: skip

    assert done.returncode == 1
    assert done.stderr == (
        "indexer: 127.0.0.1: HTTP 401: see HYPERLIQUID_STREAM_KEY or --key-file\n"
    )
    assert feed.paths == [f"/ws?key={KEY}"]


def test_the_docs_name_every_vendor_and_its_feed() -> None:
    page = (Path(__file__).parents[1] / "docs" / "hyperliquid-without-a-node.md").read_text()

    assert [
        name for name, vendor in VENDORS.items() if f"| `{name}` | `{vendor.feed}`" not in page
    ] == []
