"""Trades of perpetual exchanges: page by page over HTTP, or as they happen over WebSocket."""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote

import msgspec
import requests
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt
from websockets.sync.client import ClientConnection

from indexer.errors import ConfigError, SourceFault
from indexer.hyperliquid_format import utc_of_ms
from indexer.perp_feeds import Feed, Pages, Wire
from indexer.sources.endpoints import REAL
from indexer.sources.hyperliquid_api import AHEAD, ATTEMPTS, Silent, Weights, wait_seconds
from indexer.sources.hyperliquid_fills import Told
from indexer.sources.hyperliquid_stream import COOL_SECONDS, Fills, Heard, Lists, Lost, Stream
from indexer.sources.hyperliquid_vendors import Vendor
from indexer.sources.rpc import (
    CONNECT_SECONDS,
    SILENT_SECONDS,
    CheckedProvider,
    Clock,
    Disabled,
    Fault,
    RateLimited,
    Refused,
    Unreachable,
    Untrue,
)

MOST_PAGES = 1_000  # of one market; more means that a cursor leads nowhere
NEWEST_ALONE = "the API tells the latest trades of a market alone"

_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_EPOCH = utc_of_ms(0)
_MS = timedelta(milliseconds=1)

T = TypeVar("T")


_REFUSALS = {HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY}


class Market(NamedTuple):
    """What the API asks for, and what it calls it."""

    id: str
    name: str


class Page(NamedTuple):
    """Some trades to the byte; `lacks` says what is known to be left out."""

    trades: tuple[bytes, ...]
    lacks: str | None = None


class _Get(CheckedProvider):
    """The careful exchange of JSON-RPC for an API that is asked by its paths."""

    def __init__(self, url: str, clock: Clock) -> None:
        super().__init__(url, 1, clock)
        session = requests.Session()
        # Extended takes no request without a name: api.docs.extended.exchange, REST API
        headers = {"User-Agent": "liquidation-indexer", "Accept-Encoding": "gzip, deflate"}

        def get(body: bytes) -> requests.Response:
            return session.get(
                url + body.decode(),
                headers=headers,
                stream=True,
                allow_redirects=False,
                timeout=(CONNECT_SECONDS, SILENT_SECONDS),
            )

        self._post = get
        self._session = session

    def close(self) -> None:
        """Close its connections."""
        self._session.close()
        super().close()

    def get(self, path: str) -> bytes:
        """The body of an answer; raises a Fault."""
        return self._exchange(path.encode())

    def _status_fault(self, response: requests.Response, body: bytes) -> Fault:
        status = response.status_code
        if status in (
            HTTPStatus.BAD_REQUEST,
            HTTPStatus.NOT_FOUND,
            HTTPStatus.UNPROCESSABLE_ENTITY,
        ):
            text = self._secrets.hide(body.decode("utf-8", "replace"))
            return Refused(f"HTTP {status} {text}".strip(), "other")
        return super()._status_fault(response, body)


class TradesApi:
    """Asks an exchange for its markets and their trades, as often as an address may, until there is
    an answer that can be believed; then raises Silent or another SourceFault."""

    def __init__(self, feed: Feed, url: str | None = None, clock: Clock = REAL) -> None:
        if feed.pages is None:
            raise ConfigError(f"{feed.venue} tells liquidations only as they happen")
        self._feed = feed
        self._pages: Pages = feed.pages
        self._get = _Get((url or self._pages.url).rstrip("/"), clock)
        self._weights = Weights(self._pages.a_minute, clock)
        self._clock = clock

    def close(self) -> None:
        """Close its connections."""
        self._get.close()

    def markets(self) -> list[Market]:
        """All perpetuals, in the order of their names."""
        pages = self._pages

        def read(body: bytes) -> list[Market]:
            found = []
            for one in _list(body, pages.markets_at):
                said: Any = msgspec.json.decode(one)
                if pages.perps is None or said[pages.perps[0]] == pages.perps[1]:
                    found.append(Market(str(said[pages.market_id]), str(said[pages.market_name])))
            if not found:
                raise ValueError("no markets")
            return sorted(found, key=lambda market: market.name)

        return self._asked(pages.markets, read)

    def trades(self, market: Market, since: datetime, until: datetime) -> Iterator[Page]:
        """All that the API tells of a market between two times, both included. What came before a
        fault holds."""
        for kind in self._pages.kinds:
            yield from self._trades(market, kind, since, until)

    def _trades(
        self, market: Market, kind: str, since: datetime, until: datetime
    ) -> Iterator[Page]:
        low, high = (since - _EPOCH) // _MS, (until - _EPOCH) // _MS
        first = self._pages.trades.format(market=quote(market.id, safe=""), kind=kind, since=low)
        path, seen = first, set[str]()
        for _ in range(MOST_PAGES):
            trades, times, cursor = self._asked(path, self._read)
            within = tuple(
                one for one, at in zip(trades, times, strict=True) if low <= at <= high
            )  # fmt: skip
            yield Page(within, None if self._pages.cursor_at else NEWEST_ALONE)
            # some tell the newest first: what follows is older still
            is_past = bool(times) and times[0] >= times[-1] and times[-1] < low
            if not trades or cursor is None or is_past:
                return
            if cursor in seen:
                raise SourceFault(self._get.name, f"{market.name}: a cursor leads back to itself")
            seen.add(cursor)
            path = f"{first}&cursor={quote(cursor, safe='')}"
        raise SourceFault(self._get.name, f"{market.name}: more than {MOST_PAGES:,} pages")

    def _read(self, body: bytes) -> tuple[tuple[bytes, ...], list[int], str | None]:
        pages, fields = self._pages, self._feed.fields
        trades = tuple(_list(body, pages.trades_at))
        times = [_checked(one, fields.kind, fields.at_ms) for one in trades]
        if any(a < b for a, b in pairwise(times)) and any(a > b for a, b in pairwise(times)):
            raise ValueError("trades in no order of time")
        latest = (datetime.fromtimestamp(self._clock.utc(), UTC) + AHEAD - _EPOCH) // _MS
        if times and max(times) > latest:
            raise ValueError("a trade of a time that is still to come")
        said = _OBJECT.decode(body).get(pages.cursor_at) if pages.cursor_at else None
        cursor: Any = None if said is None else msgspec.json.decode(said)
        if cursor is not None and not isinstance(cursor, str):
            raise ValueError("a cursor that is no text")
        return trades, times, cursor or None

    def _asked(self, path: str, read: Callable[[bytes], T]) -> T:
        policy = Retrying(
            retry=retry_if_exception_type((Unreachable, RateLimited, Untrue)),
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_seconds,
            sleep=self._clock.sleep,
            reraise=True,
        )
        what = path.partition("?")[0]
        try:
            answer: T = policy(self._once, path, read)
            return answer
        except Disabled as fault:
            error: Exception = ConfigError(f"{self._get.name}: {what}: {fault}")
        except (Unreachable, RateLimited) as fault:
            error = Silent(self._get.name, f"{what}: {fault}")
        except Fault as fault:
            error = SourceFault(self._get.name, f"{what}: {fault}")
        raise error

    def _once(self, path: str, read: Callable[[bytes], T]) -> T:
        self._weights.spend(1)
        body = self._get.get(path)
        try:
            return read(body)
        except (msgspec.MsgspecError, ValueError, KeyError, TypeError) as error:
            text = f"{type(error).__name__}: {error}" if isinstance(error, KeyError) else str(error)
        raise Untrue(text)


def _list(body: bytes, name: str) -> list[bytes]:
    """The members of a list in an answer. One that is null has none."""
    said = _OBJECT.decode(body)
    if name not in said:
        text = body[:100].decode("utf-8", "replace")
        raise ValueError(f"an answer without {name}: {text}")
    if bytes(said[name]) == b"null":
        return []
    return [bytes(one) for one in Lists.decode(said[name])]


def _checked(trade: bytes, kind: str, at_ms: str) -> int:
    """The time of a trade; raises ValueError of what has none, or no word of what it was."""
    said: Mapping[str, msgspec.Raw] = _OBJECT.decode(trade)
    if kind not in said or at_ms not in said:
        raise ValueError(f"not a trade: no {kind if kind not in said else at_ms}")
    at = msgspec.json.decode(said[at_ms])
    if not isinstance(at, int) or isinstance(at, bool):
        raise ValueError(f"not a trade: {at_ms} is no number")
    return at


class TradeStream(Stream):
    """Listens to the feed of an exchange until told to stop, again and again. The trades that it
    tells are nobody's: their `user` is empty."""

    def __init__(
        self,
        feed: Feed,
        url: str | None = None,
        *,
        silent_seconds: float | None = None,
        cool_seconds: float = COOL_SECONDS,
    ) -> None:
        if feed.wire is None:
            raise ConfigError(f"{feed.venue} has no feed that can be listened to")
        self._feed = feed
        self._wire: Wire = feed.wire
        super().__init__(
            _vendor(feed, feed.wire), url, None,
            silent_seconds=silent_seconds, cool_seconds=cool_seconds,
        )  # fmt: skip

    def _subscribe(self, socket: ClientConnection) -> None:
        if self._wire.subscribe is not None:
            super()._subscribe(socket)

    def _told(self, message: dict[str, msgspec.Raw]) -> Iterator[Heard]:
        found, fields = message[self._wire.trades_at], self._feed.fields
        try:
            trades = Lists.decode(found) if self._wire.is_list else [found]
            for one in trades:
                _checked(bytes(one), fields.kind, fields.at_ms)
        except (msgspec.MsgspecError, ValueError) as error:
            what = self._secrets.hide(str(error))
            yield Lost(f"{self.name}: a message that cannot be read: {what}", is_open=True)
            return
        yield Fills(tuple(Told("", bytes(one)) for one in trades))


def _vendor(feed: Feed, wire: Wire) -> Vendor:
    return Vendor(
        name=feed.venue,
        url=wire.url,
        key_in="nowhere",
        key_name="",
        subscribe=dict(wire.subscribe or {}),
        named_at=wire.named_at,
        names=wire.names,
        fills_at=((wire.trades_at,),),
        user_at=(),
        seq=None,
        ping=None,
        pings={},
        silent_seconds=wire.silent_seconds,
        of_users=False,
        feed="trades",
        source=feed.source,
    )
