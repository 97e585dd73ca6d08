"""Announcements over a WebSocket: they end a wait, and whatever a node does there, nothing more."""

import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager

import pytest
from websockets.sync.server import ServerConnection, serve

from indexer.sources import heads
from indexer.sources.heads import Clockwork, Heads
from tests.chain_model.live import playing
from tests.rpc_proxy import plays

CANARY = "c4n4ry-of-a-key"
LONG_SECONDS = 20.0  # no wait of a test takes so long, unless it fails
MANY = 3_000  # the library's own queue holds 500
MEBIBYTE = 1024 * 1024
QUIET = logging.getLogger("tests.heads")  # the node's own log may hold the key
QUIET.disabled = True

Talk = Callable[[ServerConnection], object]


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is cut off tries again at once."""
    monkeypatch.setattr(heads, "COOL_SECONDS", 0.02)
    monkeypatch.setattr(heads, "MOST_COOL_SECONDS", 0.02)


class Announcer:
    """A node that has a talk prepared for each connection, the last one for all further ones."""

    def __init__(self, *talks: Talk) -> None:
        self.talks = list(talks)
        self.connections = 0
        self.is_over = threading.Event()

    def __call__(self, connection: ServerConnection) -> None:
        """Take the subscription, then talk."""
        self.connections += 1
        request = json.loads(connection.recv())
        assert (request["method"], request["params"]) == ("eth_subscribe", ["newHeads"])
        connection.send(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": "0x1"}))
        talk = self.talks.pop(0) if len(self.talks) > 1 else self.talks[0]
        talk(connection)

    def silent(self, connection: ServerConnection) -> None:
        """Say nothing, and stay."""
        self.is_over.wait(LONG_SECONDS)

    def after(self, *messages: str) -> Talk:
        """Say this and stay."""

        def talk(connection: ServerConnection) -> None:
            for message in messages:
                connection.send(message)
            self.silent(connection)

        return talk


def hang_up(connection: ServerConnection) -> None:
    """End the connection as it should be ended."""


def head(number: int, extra_bytes: int = 0) -> str:
    """The announcement of a block."""
    header = {"number": hex(number), "extraData": "0x" + extra_bytes * "00"}
    params = {"subscription": "0x1", "result": header}
    return json.dumps({"jsonrpc": "2.0", "method": "eth_subscription", "params": params})


@contextmanager
def served(node: Announcer) -> Iterator[str]:
    """The URL of a node, with a key in it."""
    with serve(node, "127.0.0.1", 0, logger=QUIET) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}/v2/{CANARY}"
        node.is_over.set()
        server.shutdown()
        thread.join()


class Listener:
    """Heads that listen to a node, and what they said."""

    def __init__(self, url: str, silent_seconds: float = LONG_SECONDS) -> None:
        self.said: list[str] = []
        self.heads = Heads(url, self.said.append, silent_seconds)

    def close(self) -> None:
        """Stop listening."""
        self.heads.close()

    def is_woken(self) -> bool:
        """Whether a long wait ends early."""
        started = time.monotonic()
        self.heads.wait(LONG_SECONDS)
        return time.monotonic() - started < LONG_SECONDS / 2


@pytest.fixture
def listens() -> Iterator[Callable[..., Listener]]:
    """Make a listener to a node."""
    with ExitStack() as stack:

        def to(node: Announcer, silent_seconds: float = LONG_SECONDS) -> Listener:
            url = stack.enter_context(served(node))
            return stack.enter_context(closing(Listener(url, silent_seconds)))

        yield to


Listens = Callable[..., Listener]


def until(is_so: Callable[[], object]) -> None:
    """Wait for something to come true."""
    deadline = time.monotonic() + LONG_SECONDS
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def lost(why: str) -> list[str]:
    """What is said once."""
    return [f"127.0.0.1: no announcements of blocks ({why}); asking instead"]


def test_each_new_block_wakes_the_wait() -> None:
    with (
        playing("plain", 1_000, seconds=0.05) as live,
        closing(Listener(live.heads_url)) as listener,
    ):
        woken = [listener.is_woken() for _ in range(3)]

    assert (woken, listener.said) == ([True, True, True], [])


def test_without_an_announcement_a_wait_is_as_long_as_it_was_meant(listens: Listens) -> None:
    node = Announcer()
    node.talks.append(node.silent)
    listener = listens(node)
    until(lambda: listener.heads.is_connected)
    started = time.monotonic()

    listener.heads.wait(0.1)

    assert time.monotonic() - started >= 0.1


def test_who_is_cut_off_says_so_once_and_connects_again(listens: Listens) -> None:
    node = Announcer(hang_up)
    node.talks.append(node.after(head(1)))

    listener = listens(node)

    assert listener.is_woken()
    assert (listener.said, node.connections) == (lost("closed"), 2)


def test_a_node_that_cannot_be_reached_is_said_once_and_waits_go_on() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
    with closing(Listener(f"ws://127.0.0.1:{port}/v2/{CANARY}")) as listener:
        until(lambda: listener.said)
        listener.heads.wait(0.2)

    assert listener.said == lost("ProviderConnectionError")
    assert not listener.heads.is_connected


def test_a_flood_of_announcements_stops_nothing(listens: Listens) -> None:
    node = Announcer()
    flood = [head(number) for number in range(MANY)]
    is_drained = threading.Event()

    def talk(connection: ServerConnection) -> None:
        for message in flood:
            connection.send(message)
        is_drained.wait(LONG_SECONDS)
        node.after(head(MANY))(connection)

    node.talks.append(talk)
    listener = listens(node)
    first = listener.is_woken()
    until(lambda: _is_quiet(listener))
    is_drained.set()

    assert (first, listener.is_woken(), listener.said) == (True, True, [])


def _is_quiet(listener: Listener) -> bool:
    started = time.monotonic()
    listener.heads.wait(0.3)
    return time.monotonic() - started >= 0.3


def test_a_message_of_more_than_a_mebibyte_is_taken(listens: Listens) -> None:
    node = Announcer()
    node.talks.append(node.after(head(1, MEBIBYTE)))

    listener = listens(node)

    assert (listener.is_woken(), listener.said) == (True, [])


@pytest.mark.parametrize("message", [head(1, 4 * MEBIBYTE), "<html>", "7"])
def test_a_message_that_is_none_cuts_off_and_is_survived(listens: Listens, message: str) -> None:
    node = Announcer()
    node.talks += [node.after(message), node.after(head(1))]

    listener = listens(node)

    assert listener.is_woken()
    assert (len(listener.said), node.connections) == (1, 2)


@plays("T22", "a subscription goes silent, its socket stays open", "ask as ever; subscribe again")
def test_silence_ends_a_subscription(listens: Listens) -> None:
    node = Announcer()
    node.talks += [node.silent, node.after(head(1))]

    listener = listens(node, 0.2)

    assert listener.is_woken()
    assert (listener.said[:1], node.connections >= 2) == (lost("TimeoutError"), True)


@plays("T23", "heads left out, repeated, in any order", "each is only a reason to look")
def test_heads_in_any_order_are_reasons_to_look(listens: Listens) -> None:
    node = Announcer()
    node.talks.append(node.after(*map(head, (100, 102, 101, 101, 7))))

    listener = listens(node)

    assert (listener.is_woken(), listener.said) == (True, [])


def test_closing_ends_the_thread_and_may_be_done_twice(listens: Listens) -> None:
    node = Announcer()
    node.talks.append(node.silent)
    listener = listens(node)
    until(lambda: listener.heads.is_connected)

    listener.close()
    listener.close()

    assert "heads" not in [thread.name for thread in threading.enumerate()]


def test_closing_does_not_wait_for_a_node_that_never_answers() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as mute:
        listener = Listener(f"ws://127.0.0.1:{mute.getsockname()[1]}")
        connection, _ = mute.accept()
        started = time.monotonic()
        listener.close()
        connection.close()

    assert time.monotonic() - started < LONG_SECONDS / 4
    assert "heads" not in [thread.name for thread in threading.enumerate()]


def test_no_log_and_nothing_said_holds_the_key(
    listens: Listens, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    node = Announcer(hang_up)
    node.talks.append(node.after(head(1)))
    listener = listens(node)
    listener.is_woken()
    listener.close()

    seen = "".join(listener.said) + caplog.text
    assert (CANARY in seen, "Connecting to: ***" in seen) == (False, True)


def test_a_clockwork_only_waits() -> None:
    started = time.monotonic()
    clockwork = Clockwork()
    clockwork.wait(0.05)
    clockwork.close()
    assert (time.monotonic() - started >= 0.05, clockwork.is_connected) == (True, False)
