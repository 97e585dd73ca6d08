"""EXPERIMENTAL. The exchange's public feeds that name no liquidation: all trades, and what users
did. Both over WebSocket, each in a thread of its own."""

import json
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import msgspec
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from indexer.candidates import Action, Trade
from indexer.sources.secrets import Secrets

TRADES_URL = "wss://api.hyperliquid.xyz/ws"
EXPLORER_URL = "wss://rpc.hyperliquid.xyz/ws"  # nktkas/hyperliquid: .../_methods/explorerTxs.ts
MOST_COINS = 1_000  # subscriptions of an address: /for-developers/api/rate-limits
MOST_BYTES = 32 * 1024 * 1024
MOST_WAITING = 10_000  # messages; more means that we are too slow, and is said
SILENT_SECONDS = 60.0
LOOK_SECONDS = 0.25
PING_SECONDS = 30.0
COOL_SECONDS = 1.0
MOST_COOL_SECONDS = 60.0
_PING = json.dumps({"method": "ping"})


class Trades(NamedTuple):
    """Some trades."""

    trades: tuple[Trade, ...]


class Actions(NamedTuple):
    """What the explorer shows."""

    actions: tuple[Action, ...]


class Broken(NamedTuple):
    """A feed was not listened to for a while."""

    why: str
    is_explorer: bool


class _Channel(msgspec.Struct):
    channel: str = ""
    data: msgspec.Raw = msgspec.Raw(b"null")


_CHANNEL = msgspec.json.Decoder(_Channel)
_TRADES = msgspec.json.Decoder(tuple[Trade, ...])
_ACTIONS = msgspec.json.Decoder(tuple[Action, ...])

Heard = Trades | Actions | Broken


class Feeds:
    """Listens to both feeds. Use as a context manager."""

    def __init__(
        self,
        coins: Sequence[str],
        trades_url: str = TRADES_URL,
        explorer_url: str = EXPLORER_URL,
        cool_seconds: float = COOL_SECONDS,
    ) -> None:
        trades = [{"type": "trades", "coin": coin} for coin in coins[:MOST_COINS]]
        self._heard: queue.Queue[Heard] = queue.Queue(MOST_WAITING)
        self._over = threading.Event()
        self._cool_seconds = cool_seconds
        feeds = ((trades_url, trades, _of_trades), (explorer_url, _EXPLORED, _of_actions))
        self._threads = [
            threading.Thread(target=self._listen, args=feed, daemon=True) for feed in feeds
        ]

    def __enter__(self) -> "Feeds":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(timeout=10)

    def heard(self) -> Iterator[Heard]:
        """What has come since the last call; waits a moment where nothing has."""
        try:
            yield self._heard.get(timeout=LOOK_SECONDS)
            while True:
                yield self._heard.get_nowait()
        except queue.Empty:
            return

    def _listen(
        self,
        url: str,
        wanted: Sequence[dict[str, str]],
        read: Callable[[str | bytes], Heard | None],
    ) -> None:
        secrets = Secrets(url)
        cool = self._cool_seconds
        logging.getLogger("websockets.client").addFilter(secrets)
        while not self._over.is_set():
            begun = time.monotonic()
            why = self._listen_once(url, wanted, read)
            if self._over.is_set():
                return
            self._put(Broken(why, read is _of_actions))
            held = time.monotonic() - begun > MOST_COOL_SECONDS
            cool = self._cool_seconds if held else min(2 * cool, MOST_COOL_SECONDS)
            self._over.wait(cool)

    def _listen_once(
        self,
        url: str,
        wanted: Sequence[dict[str, str]],
        read: Callable[[str | bytes], Heard | None],
    ) -> str:
        try:
            with connect(url, max_size=MOST_BYTES, close_timeout=1.0) as socket:
                for subscription in wanted:
                    socket.send(json.dumps({"method": "subscribe", "subscription": subscription}))
                heard_at = pinged_at = time.monotonic()
                while not self._over.is_set():
                    now = time.monotonic()
                    if now - heard_at > SILENT_SECONDS:
                        return "silent"
                    if now - pinged_at > PING_SECONDS:
                        socket.send(_PING)
                        pinged_at = now
                    try:
                        heard = read(socket.recv(timeout=LOOK_SECONDS))
                    except TimeoutError:
                        continue
                    if heard is not None:
                        heard_at = now
                        self._put(heard)
        except msgspec.MsgspecError:
            return "a message that cannot be read"
        except (OSError, WebSocketException) as error:
            return type(error).__name__
        return "over"

    def _put(self, heard: Heard) -> None:
        try:
            self._heard.put_nowait(heard)
        except queue.Full:  # what is lost is what has waited longest
            with self._heard.mutex:
                self._heard.queue.clear()
            self._heard.put_nowait(Broken("too much at once", is_explorer=True))


_EXPLORED = [{"type": "explorerTxs"}]


def _of_trades(text: str | bytes) -> Trades | None:
    message = _CHANNEL.decode(text)
    return Trades(_TRADES.decode(message.data)) if message.channel == "trades" else None


def _of_actions(text: str | bytes) -> Actions | None:
    """The explorer's feed comes as a bare list; what else comes is an object."""
    body = text.encode() if isinstance(text, str) else text
    return Actions(_ACTIONS.decode(body)) if body.lstrip().startswith(b"[") else None
