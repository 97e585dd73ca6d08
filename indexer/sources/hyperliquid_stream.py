"""Fills as they happen, over WebSocket: whoever sends them, told in one form, with what is lost.

A feed cannot be read again and never proves that nothing was left out. What shows that something
was, is said: a number that is left out, a connection that ends, a feed that falls silent.
"""

import contextlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

import msgspec
from websockets.exceptions import ConnectionClosed, InvalidStatus, InvalidURI, WebSocketException
from websockets.sync.client import ClientConnection, connect

from indexer.errors import ConfigError
from indexer.sources.hyperliquid_fills import Told, head_of
from indexer.sources.hyperliquid_vendors import Vendor
from indexer.sources.secrets import Secrets

MOST_BYTES = 32 * 1024 * 1024  # of one message: a snapshot of 2,000 fills has 1 MB
OPEN_SECONDS = 10.0
LOOK_SECONDS = 0.25  # how often to look whether to stop
PING_SECONDS = 30.0
COOL_SECONDS = 1.0  # doubles until a connection holds
MOST_COOL_SECONDS = 60.0
_REFUSED = {401, 402, 403}
# RFC 6455 7.4.1: policy; and what servers of our kind use for a key that they do not take
_REFUSED_CODES = {1008, 4001, 4003, 4401, 4403}
_REFUSED_WORDS = ("unauthor", "api key", "apikey", "invalid token", "forbidden", "auth")
_TALKATIVE = ("websockets.client", "websockets.protocol")

Lists = msgspec.json.Decoder(list[msgspec.Raw])
_TUPLE = msgspec.json.Decoder(tuple[str, msgspec.Raw])
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Opened(NamedTuple):
    """The feed is listened to from now on."""


class Fills(NamedTuple):
    """What one message told."""

    fills: tuple[Told, ...]


class Lost(NamedTuple):
    """Something was, or may have been, left out here. `is_open` while the connection holds."""

    why: str
    is_open: bool


class Quiet(NamedTuple):
    """Nothing came for a moment, and the connection holds."""


Heard = Opened | Fills | Lost | Quiet


class Stream:
    """Listens to a feed of a vendor until told to stop, again and again.

    Raises ConfigError where nothing but a person can help: a key that is refused."""

    def __init__(
        self,
        vendor: Vendor,
        url: str | None,
        key: str | None,
        users: Sequence[str] = (),
        *,
        silent_seconds: float | None = None,
        cool_seconds: float = COOL_SECONDS,
    ) -> None:
        self._vendor = vendor
        self._url = _address(vendor, url, key)
        self._secrets = Secrets(self._url)
        self._users = users
        self._silent_seconds = silent_seconds or vendor.silent_seconds
        self._cool_seconds = cool_seconds
        self.name = self._secrets.hide(urlsplit(self._url).hostname or "?")

    def listen(self, is_over: Callable[[], bool]) -> Iterator[Heard]:
        """What is heard, from the first connection on."""
        with _discreet(self._secrets):
            yield from self._listen(is_over)

    def _listen(self, is_over: Callable[[], bool]) -> Iterator[Heard]:
        cool = self._cool_seconds
        while not is_over():
            why, refused = "closed", ""
            try:
                with self._connected() as socket:
                    self._subscribe(socket)
                    yield Opened()
                    for heard in self._messages(socket, is_over):
                        cool = self._cool_seconds
                        yield heard
                    if is_over():
                        return
                    why = f"silent for {self._silent_seconds:.0f} s"
            except ConnectionClosed as error:
                why, refused = self._closed(error)
            except (OSError, WebSocketException) as error:
                why = type(error).__name__
            if refused:  # outside of the handlers: a library's exception may repeat the key
                raise ConfigError(f"{self.name}: {refused}: {self._advice()}")
            yield Lost(f"{self.name}: {why}; connecting anew", is_open=False)
            end = time.monotonic() + cool
            cool = min(2 * cool, MOST_COOL_SECONDS)
            while not is_over() and time.monotonic() < end:
                time.sleep(min(LOOK_SECONDS, self._cool_seconds))

    def _connected(self) -> ClientConnection:
        refused = ""
        try:
            return connect(
                self._url, open_timeout=OPEN_SECONDS, max_size=MOST_BYTES, close_timeout=1.0
            )
        except InvalidStatus as error:
            if error.response.status_code not in _REFUSED:
                raise
            refused = f"HTTP {error.response.status_code}"
        except InvalidURI:
            refused = "no address of a WebSocket"
        # outside of the handlers: a library's exception holds the address
        raise ConfigError(f"{self.name}: {refused}: {self._advice()}")

    def _advice(self) -> str:
        if self._vendor.key_in == "url":
            return "see the address of --stream"
        return "see HYPERLIQUID_STREAM_KEY or --key-file"

    def _closed(self, error: ConnectionClosed) -> tuple[str, str]:
        """Why a connection ended; and how we were refused, if we were."""
        close = error.rcvd
        if close is None:
            return "cut off", ""
        said = f"{close.code} {self._secrets.hide(close.reason)}"
        return f"closed with {close.code}", said if close.code in _REFUSED_CODES else ""

    def _subscribe(self, socket: ClientConnection) -> None:
        wanted = self._vendor.subscribe
        if not self._vendor.of_users:
            socket.send(json.dumps(wanted))
            return
        for user in self._users:
            subscription = {**wanted["subscription"], "user": user}
            socket.send(json.dumps({**wanted, "subscription": subscription}))

    def _messages(self, socket: ClientConnection, is_over: Callable[[], bool]) -> Iterator[Heard]:
        """What comes over one connection, until it falls silent or we are to stop."""
        vendor = self._vendor
        heard_at = pinged_at = time.monotonic()
        seq: int | None = None
        while not is_over():
            now = time.monotonic()
            if now - heard_at > self._silent_seconds:
                return
            if vendor.ping is not None and now - pinged_at > self._ping_seconds:
                socket.send(json.dumps(vendor.ping))
                pinged_at = now
            try:
                text = socket.recv(timeout=LOOK_SECONDS)
            except TimeoutError:
                yield Quiet()
                continue
            message = _object(text)
            name = _text(message.get(vendor.named_at))
            is_of_feed = name in vendor.names or (
                not vendor.names and _at(message, vendor.fills_at[0]) is not None
            )
            # pings say that the socket lives, not that the feed does, but where users may be quiet
            if is_of_feed or vendor.of_users:
                heard_at = time.monotonic()
            if answer := vendor.pings.get(name):
                socket.send(json.dumps(answer))
                continue
            if not is_of_feed:
                self._refuse_error(message, name)
                continue
            if vendor.seq is not None:
                number = _number(message.get(vendor.seq))
                if number is not None and number != (seq or 0) + 1:
                    after = "the first" if seq is None else f"after {seq}"
                    yield Lost(f"{self.name}: message {number} came {after}", is_open=True)
                seq = number if number is not None else seq
            yield from self._told(message)

    @property
    def _ping_seconds(self) -> float:
        return min(PING_SECONDS, self._silent_seconds / 2)

    def _refuse_error(self, message: dict[str, msgspec.Raw], name: str) -> None:
        """Raises ConfigError for an answer that says that we may not listen."""
        if name != "error" and "error" not in message:
            return
        said = next(
            (bytes(message[key]).decode(errors="replace")
             for key in ("message", "error", "data", "reason") if key in message), "",
        )  # fmt: skip
        said = self._secrets.hide(said)
        if any(word in said.lower() for word in _REFUSED_WORDS):
            raise ConfigError(f"{self.name}: {said}: {self._advice()}")
        raise ConfigError(f"{self.name}: the feed is refused: {said}")

    def _told(self, message: dict[str, msgspec.Raw]) -> Iterator[Heard]:
        user = _at(message, self._vendor.user_at) if self._vendor.user_at else None
        for keys in self._vendor.fills_at:
            found = _at(message, keys)
            if found is None:
                continue
            try:
                fills = tuple(_tuples(found, _text(user) if user is not None else None))
                for told in fills:
                    head_of(told)
            except (msgspec.MsgspecError, ValueError) as error:
                what = self._secrets.hide(str(error))
                yield Lost(f"{self.name}: a message that cannot be read: {what}", is_open=True)
                return
            yield Fills(fills)
            return
        yield Lost(f"{self.name}: a message of the feed without fills", is_open=True)


def _address(vendor: Vendor, url: str | None, key: str | None) -> str:
    """The address with the key in its place. Raises ConfigError where one of them is missing."""
    url = url or vendor.url
    if url is None:
        raise ConfigError(f"{vendor.name}: give the address of your endpoint with --stream wss://…")
    if not url.startswith(("ws://", "wss://")):
        raise ConfigError("--stream is not ws:// or wss://")
    if vendor.key_in != "query" or f"{vendor.key_name}=" in urlsplit(url).query:
        return url
    if key is None:
        raise ConfigError(f"{vendor.name}: no key; set HYPERLIQUID_STREAM_KEY, or give --key-file")
    return f"{url}{'&' if urlsplit(url).query else '?'}{vendor.key_name}={quote(key, safe='')}"


@contextlib.contextmanager
def _discreet(secrets: Secrets) -> Iterator[None]:
    """The library writes addresses at DEBUG."""
    for logger in _TALKATIVE:
        logging.getLogger(logger).addFilter(secrets)
    try:
        yield
    finally:
        for logger in _TALKATIVE:
            logging.getLogger(logger).removeFilter(secrets)


def _object(text: str | bytes) -> dict[str, msgspec.Raw]:
    try:
        return _OBJECT.decode(text)
    except msgspec.MsgspecError:
        return {}  # greetings in plain words


def _at(message: dict[str, msgspec.Raw], keys: tuple[str, ...]) -> msgspec.Raw | None:
    """What stands in an object under a path of keys; None where nothing does."""
    for key in keys[:-1]:
        inner = message.get(key)
        message = {} if inner is None else _object(bytes(inner))
    return message.get(keys[-1])


def _tuples(found: msgspec.Raw, user: str | None) -> Iterator[Told]:
    for one in Lists.decode(found):
        if user is not None:
            yield Told(user, bytes(one))
        else:
            who, fill = _TUPLE.decode(one)
            yield Told(who, bytes(fill))


def _text(raw: msgspec.Raw | None) -> str:
    found: Any = None if raw is None else msgspec.json.decode(raw)
    return found if isinstance(found, str) else ""


def _number(raw: msgspec.Raw | None) -> int | None:
    found: Any = None if raw is None else msgspec.json.decode(raw)
    return found if isinstance(found, int) else None
