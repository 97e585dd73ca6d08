"""Takes samples of perpetual exchanges that are no chain we read: liquidations among the trades
that their public feeds tell.

Those of an account stand among all others, under the name of their venue; those of nobody stand
apart. Nothing is covered, whatever was told: no feed proves that it left nothing out."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, NoReturn

from indexer.errors import IndexerError, SourceFault
from indexer.model import AnonymousLiquidation, Liquidation, RawEvent, Undecoded
from indexer.perp_feeds import Feed
from indexer.sources.hyperliquid_stream import Fills, Heard, Lost, Opened, Quiet
from indexer.sources.perp_trades import Market, TradesApi, TradeStream
from indexer.store import anonymous, ledger, values
from indexer.store.database import Connection
from indexer.venues import perp_trades as venue
from indexer.venues.hyperliquid import is_same

Say = Callable[[str], None]

AGAIN = timedelta(minutes=1)  # what was asked before is asked once more: answers may lag
NOTE_SECONDS = 10.0  # how often it is noted that a feed is still listened to
POLL_SECONDS = 60.0


class Sampler:
    """Writes what the feed of an exchange tells. `counts` are rows by kind; one that comes again
    counts again."""

    def __init__(self, connection: Connection, feed: Feed) -> None:
        self._connection = connection
        self._feed = feed
        self.counts: Counter[str] = Counter()
        self._since: datetime | None = None

    def take(
        self, trades: Sequence[bytes], source: str, markets: Mapping[str, str]
    ) -> list[IndexerError]:
        """Write the liquidations among some trades; gives what is wrong with them."""
        now = _now()
        found: dict[str, tuple[RawEvent, venue.Row]] = {}
        faults: list[IndexerError] = []
        for line, body in enumerate(trades, 1):
            decoded = venue.decode(self._feed, venue.Heard(body, source, line, now), markets)
            if decoded is None:
                continue
            key = decoded[0].event_key
            if key in found and not is_same(found[key][0].body, decoded[0].body):
                faults.append(_otherwise(decoded[0], f"{source}:{found[key][0].line}"))
            found.setdefault(key, decoded)
        if found:
            with self._connection.transaction():
                faults += self._write(found)
        return faults

    def _write(self, found: dict[str, tuple[RawEvent, venue.Row]]) -> list[IndexerError]:
        faults: list[IndexerError] = []
        raw = [event for event, _ in found.values()]
        for other in ledger.append_raw(self._connection, raw, is_simulated=False, is_sample=True):
            event, _ = found.pop(other.event_key)  # a row says what the stored bytes say
            if not is_same(other.stored, other.read):
                faults.append(_otherwise(event, other.stored_at))
        rows = [row for _, row in found.values()]
        known = [row for row in rows if isinstance(row, Liquidation)]
        nameless = [row for row in rows if isinstance(row, AnonymousLiquidation)]
        undecoded = [row for row in rows if isinstance(row, Undecoded)]
        others = [*(row.event_key for row in known), *(row.event_key for row in undecoded)]
        anonymous.withdraw(self._connection, self._feed.venue, others)
        ledger.append_liquidations(self._connection, known)
        anonymous.append(self._connection, nameless)
        ledger.append_undecoded(self._connection, undecoded)
        self.counts += Counter(
            liquidations=len(known), anonymous=len(nameless), undecoded=len(undecoded)
        )
        for row in known:
            self._since = min(row.block_at, self._since or row.block_at)
        return faults

    def value(self) -> None:
        """Say what was written was worth."""
        if self._since is not None:
            values.value(self._connection, venues=(self._feed.venue,), since=self._since)
            self._since = None


def _otherwise(event: RawEvent, stored_at: str) -> IndexerError:
    return IndexerError(
        f"{event.source}:{event.line}: {event.event_key} says other than {stored_at}; the first"
        " stands"
    )


class Asked(NamedTuple):
    """How many markets were asked for, how many of them failed, how many trades were told."""

    markets: int = 0
    failed: int = 0
    trades: int = 0


def pull(
    connection: Connection,
    sampler: Sampler,
    feed: Feed,
    api: TradesApi,
    markets: Sequence[Market],
    *,
    source: str,
    since: datetime,
    until: datetime,
    say: Say,
) -> Asked:
    """Ask for the trades of markets between two times. One that fails leaves the others as they
    are, but nothing is noted then, so that the next time asks for all of it again."""
    names = {market.id: market.name for market in markets}
    failed = told = 0
    lacks: dict[str, None] = {}
    for market in markets:
        before = sampler.counts.copy()
        try:
            for page in api.trades(market, since, until):
                told += len(page.trades)
                for fault in sampler.take(page.trades, f"{source} {market.name}", names):
                    say(f"fault: {fault}")
                if page.lacks:
                    lacks[page.lacks] = None
        except SourceFault as fault:
            say(f"{market.name}: {fault}")
            failed += 1
        sampler.value()
        if found := sampler.counts - before:
            say(f"venue={feed.venue} market={market.name} {_fields(found)}")
    if not failed:
        ledger.sampled(
            connection, feed.venue, source, None, since, until, lacks="; ".join(lacks) or None
        )
    return Asked(len(markets), failed, told)


def source_of(named: Sequence[str]) -> str:
    """What the trades of all markets are noted as, or those of some."""
    return "api trades" if not named else f"api trades of {', '.join(sorted(named))}"


def since_last(connection: Connection, feed: Feed, source: str, now: datetime) -> datetime:
    """From where a source was left, and a minute before; or a day ago."""
    left = anonymous.sampled_until(connection, feed.venue, source)
    return now - timedelta(hours=24) if left is None else left - AGAIN


def poll(connection: Connection, feed: Feed, api: TradesApi, say: Say) -> NoReturn:
    """Ask for the trades of all markets again and again, from where it was left. A round that fails
    is asked again with the next."""
    sampler, source = Sampler(connection, feed), source_of(())
    say(f"asking {feed.venue} for the trades of all markets")
    while True:
        begun, now = time.monotonic(), _now()
        since = since_last(connection, feed, source, now)
        try:
            pull(
                connection, sampler, feed, api, api.markets(), source=source, since=since,
                until=now, say=say,
            )  # fmt: skip
        except SourceFault as fault:
            say(f"fault: {fault}")
        time.sleep(max(begun + POLL_SECONDS - time.monotonic(), 0))


def listen(
    connection: Connection,
    feed: Feed,
    stream: TradeStream,
    is_over: Callable[[], bool],
    say: Say,
) -> int:
    """Write what a stream tells until told to stop; how often something was lost."""
    listener = _Listener(connection, feed, say)
    try:
        for heard in stream.listen(is_over):
            listener.hear(heard)
    finally:
        listener.close()
    return listener.lost


class _Listener:
    """Writes what is heard, and from when to when it was listened to."""

    def __init__(self, connection: Connection, feed: Feed, say: Say) -> None:
        self._connection = connection
        self._feed = feed
        self._say = say
        self._source = f"stream {feed.venue} trades"
        self._sampler = Sampler(connection, feed)
        self._since: datetime | None = None  # of the piece that is listened to now
        self._until: datetime | None = None
        self._noted_at = float("-inf")
        self.lost = 0

    def hear(self, heard: Heard) -> None:
        match heard:
            case Opened():
                self._say(f"listening to {self._source}")
                self._since = self._until = _now()
            case Fills(told):
                self._until = _now()
                self._write([one.fill for one in told])
            case Quiet():
                self._until = _now()
            case Lost(why, is_open):
                self._say(f"fault: {why}")
                self._note()
                self.lost += 1
                # what was lost lies between the last message and now
                self._since = self._until = _now() if is_open else None
        if time.monotonic() - self._noted_at > NOTE_SECONDS:
            self._note()
            self._sampler.value()

    def close(self) -> None:
        self._note()
        self._sampler.value()

    def _note(self) -> None:
        if self._since is not None and self._until is not None:
            lacks = "all but one of a market and second" if self._is_throttled else None
            ledger.sampled(
                self._connection, self._feed.venue, self._source, None, self._since, self._until,
                lacks=lacks,
            )  # fmt: skip
        self._noted_at = time.monotonic()

    @property
    def _is_throttled(self) -> bool:
        return self._feed.completeness == "lower bound"

    def _write(self, trades: Sequence[bytes]) -> None:
        before = self._sampler.counts.copy()
        for fault in self._sampler.take(trades, self._source, {}):
            self._say(f"fault: {fault}")
        if found := self._sampler.counts - before:
            self._say(f"venue={self._feed.venue} source={self._source} {_fields(found)}")


def _fields(found: Counter[str]) -> str:
    return " ".join(f"{name}={number}" for name, number in sorted(found.items()))


def _now() -> datetime:
    return datetime.now(UTC)
