"""Takes samples: fills that a source tells of some accounts, or while we listen.

They join the rows of whole blocks under the same keys. They cover nothing, and where blocks were
read whole they add nothing either: a fill that such a block does not have is a fault of theirs.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec

from indexer import sync
from indexer.candidates import Candidate, Candidates, Counts
from indexer.errors import IndexerError, SourceFault
from indexer.hyperliquid_format import utc_of_ms
from indexer.model import BlockLine, RawEvent, Stretch
from indexer.plan import Heights
from indexer.sources import hyperliquid_fills_api
from indexer.sources.hyperliquid_api import Silent
from indexer.sources.hyperliquid_fills import block_lines
from indexer.sources.hyperliquid_fills_api import FillsApi
from indexer.sources.hyperliquid_stream import Fills, Heard, Lost, Opened, Quiet, Stream
from indexer.sources.hyperliquid_trades import Actions, Broken, Feeds, Trades
from indexer.store import ledger
from indexer.store.database import Connection
from indexer.venues import hyperliquid as venue

Say = Callable[[str], None]

VAULTS = tuple(vault.account for vault in venue.PROTOCOL_VAULTS)
IN_A_ROW = 3  # accounts for which the exchange is silent: the rest is not asked in this round
AGAIN = timedelta(minutes=1)  # what was asked before is asked once more: answers may lag
MOST_WAITING = 1_000  # candidates; at full weight that is half an hour
SAY_SECONDS = 60.0
NOTE_SECONDS = 10.0  # how often it is noted that a stream is still listened to
AROUND = timedelta(hours=1)  # who was liquidated so close to a hole may have been so within


class Sampler:
    """Writes what a sample tells. `counts` is what it wrote, `since` the time of its first fill."""

    def __init__(self, connection: Connection, *, is_simulated: bool = False) -> None:
        self._connection = connection
        self._writer = sync.Writer(
            connection, with_accounts=False, is_simulated=is_simulated, is_sample=True
        )
        self.since: datetime | None = None

    @property
    def counts(self) -> Counter[str]:
        """Rows written, by kind; one that comes again counts again."""
        return self._writer.tally.counts

    def take(self, lines: Sequence[BlockLine]) -> list[IndexerError]:
        """Write the fills of some lines; gives what is wrong with them."""
        if not lines:
            return []
        covered = Heights(ledger.covered(self._connection, sync.VENUE, "liquidations"))
        known: list[BlockLine] = []
        fresh: list[BlockLine] = []
        for line in lines:
            (known if self._was_read(line, covered) else fresh).append(line)
        faults: list[IndexerError] = list(self._compared(known))
        before = len(self._writer.tally.faults)
        self._writer.take("fills", Stretch(lines=tuple(fresh)), trust_needle=False)
        self._writer.write()
        self.since = min(*(line.block_at for line in lines), self.since or lines[0].block_at)
        return faults + self._writer.tally.faults[before:]

    def _was_read(self, line: BlockLine, covered: Heights) -> bool:
        """Whether the block of a line is stored whole. A line that names no height is placed by its
        time, where it holds a mark: all others say nothing that is stored."""
        if line.block_number is not None or not any(venue.forced_legs(line, trust_needle=False)):
            return line.block_number in covered
        return ledger.was_read_at(self._connection, sync.VENUE, line.block_at)

    def _compared(self, lines: Iterable[BlockLine]) -> Iterator[IndexerError]:
        """What a sample says other than the whole blocks that are stored."""
        for line in lines:
            for leg in venue.forced_legs(line, trust_needle=False):
                raw = leg.raw if isinstance(leg, venue.Leg) else leg[0]
                if raw.block_number is None and isinstance(leg, venue.Leg):
                    raw = self._placed(leg)
                if fault := self._against(raw):
                    yield fault

    def _placed(self, leg: venue.Leg) -> RawEvent:
        """The leg under the key that it has in its block, where the block holds it."""
        for raw in ledger.stored_at(self._connection, leg.raw.chain, leg.raw.block_at):
            stored = venue.leg_again(raw)
            if stored and (venue.timed_key(stored), stored.user, stored.fill.side) == (
                venue.timed_key(leg), leg.user, leg.fill.side
            ):  # fmt: skip
                return msgspec.structs.replace(leg.raw, event_key=raw.event_key)
        return leg.raw

    def _against(self, raw: RawEvent) -> IndexerError | None:
        stored = ledger.stored_body(self._connection, raw.chain, raw.event_key)
        if stored is None:
            return IndexerError(
                f"{raw.source}:{raw.line}: block {raw.block_number}, read whole, has no"
                f" {raw.event_key}; it is left out"
            )
        if not venue.is_same(stored, raw.body):
            return IndexerError(
                f"{raw.source}:{raw.line}: block {raw.block_number}: {raw.event_key} says other"
                " than the block, which was read whole; it is left out"
            )
        return None


class Asked(NamedTuple):
    """How many accounts were asked for, how many of them failed, how many fills were told."""

    accounts: int = 0
    failed: int = 0
    fills: int = 0

    def and_(self, other: "Asked") -> "Asked":
        """Both together."""
        return Asked(*(one + two for one, two in zip(self, other, strict=True)))


class Span(NamedTuple):
    """From when to when, both included."""

    since: datetime
    until: datetime


def ask(
    connection: Connection,
    sampler: Sampler,
    api: FillsApi,
    wanted: Mapping[str, Sequence[Span]],
    say: Say,
) -> Asked:
    """Ask for the fills of accounts in spans of time. One that fails leaves the others as they
    are; of a span that was not told to its end nothing is noted."""
    asked, silent = Asked(), 0
    for account, spans in wanted.items():
        fills = 0
        try:
            for span in spans:
                fills += _ask(connection, sampler, api, account, span, say)
        except SourceFault as fault:
            say(f"{account}: {fault}")
            asked = asked.and_(Asked(1, 1, fills))
            silent = silent + 1 if isinstance(fault, Silent) else 0
        else:
            asked = asked.and_(Asked(1, 0, fills))
            silent = 0
        if silent == IN_A_ROW and asked.accounts < len(wanted):
            left = len(wanted) - asked.accounts
            say(f"the exchange is silent, {left} accounts are left for the next time")
            return asked.and_(Asked(left, left))
    return asked


def _ask(
    connection: Connection, sampler: Sampler, api: FillsApi, account: str, span: Span, say: Say
) -> int:
    fills, lacks = 0, []
    source = hyperliquid_fills_api.SOURCE
    for page in api.fills(account, *span):
        for fault in sampler.take(list(block_lines(page.fills, f"{source} {account}"))):
            say(f"fault: {fault}")
        fills += len(page.fills)
        if page.lacks:
            say(page.lacks)
            lacks.append(page.lacks)
    ledger.sampled(connection, sync.VENUE, source, account, *span, lacks="; ".join(lacks) or None)
    return fills


def since_last(
    connection: Connection, accounts: Sequence[str], since: datetime, until: datetime
) -> dict[str, list[Span]]:
    """For each account the time from where it was last asked for, or from `since` on."""
    known = ledger.sampled_until(connection, sync.VENUE, hyperliquid_fills_api.SOURCE, accounts)
    return {
        account: [Span(known[account] - AGAIN if account in known else since, until)]
        for account in accounts
    }


def holes(connection: Connection, since: datetime | None, until: datetime) -> list[Span]:
    """Times between blocks that were read whole, and between two times that a stream was listened
    to; those that begin after `since` and before `until`."""
    found = [
        Span(max(low, since or low), min(high, until))
        for low, high in ledger.unread(connection, sync.VENUE)
    ]
    return [span for span in found if span.since <= span.until]


def around(connection: Connection, spans: Sequence[Span]) -> dict[str, list[Span]]:
    """Who may have been liquidated in holes, as far as it can be guessed: whoever was so within an
    hour of them; and the vaults of the exchange, which take over from others."""
    wanted: dict[str, list[Span]] = {vault: list(spans) for vault in VAULTS}
    for span in spans:
        low, high = span.since - AROUND, span.until + AROUND
        for account in ledger.liquidated_between(connection, sync.VENUE, low, high):
            if account not in VAULTS:
                wanted.setdefault(account, []).append(span)
    return wanted


class Listener:
    """Writes what a stream tells, and from when to when it was listened to.

    `accounts` are those that the stream is of; none means all."""

    def __init__(
        self, connection: Connection, source: str, accounts: Sequence[str], say: Say
    ) -> None:
        self._connection = connection
        self._source = source
        self._accounts: Sequence[str | None] = accounts or (None,)
        self._say = say
        self._sampler = Sampler(connection)
        self._since: datetime | None = None  # of the piece that is listened to now
        self._until: datetime | None = None
        self._noted_at = self._valued_at = float("-inf")
        self.lost = 0

    def hear(self, heard: Heard) -> None:
        """Write what was heard."""
        match heard:
            case Opened():
                self._say(f"listening to {self._source}")
                self._since = self._until = _now()
            case Fills(fills):
                self._until = _now()
                self._write(list(block_lines(fills, self._source)))
            case Quiet():
                self._until = _now()
            case Lost(why, is_open):
                self._say(f"fault: {why}")
                self.note()
                self.lost += 1
                # what was lost lies between the last message and now
                self._since = self._until = _now() if is_open else None
        if time.monotonic() - self._noted_at > NOTE_SECONDS:
            self.note()
        self._value()

    def note(self) -> None:
        """Note until when it was listened to."""
        if self._since is not None and self._until is not None:
            for account in self._accounts:
                ledger.sampled(
                    self._connection, sync.VENUE, self._source, account, self._since, self._until
                )
        self._noted_at = time.monotonic()

    def close(self) -> None:
        """Write what is left to say of it."""
        self.note()
        self._value(at_once=True)

    def _write(self, lines: list[BlockLine]) -> None:
        before = self._sampler.counts.copy()
        for fault in self._sampler.take(lines):
            self._say(f"fault: {fault}")
        new = self._sampler.counts - before
        if new:
            fields = " ".join(f"{name}={number}" for name, number in sorted(new.items()))
            self._say(f"venue={sync.VENUE} source={self._source} {fields}")

    def _value(self, *, at_once: bool = False) -> None:
        is_due = at_once or time.monotonic() - self._valued_at >= sync.VALUE_SECONDS
        if self._sampler.since is not None and is_due:
            sync.value(self._connection, self._sampler.since)
            self._sampler.since, self._valued_at = None, time.monotonic()


def _now() -> datetime:
    return datetime.now(UTC)


def listen(
    connection: Connection,
    stream: Stream,
    source: str,
    accounts: Sequence[str],
    is_over: Callable[[], bool],
    say: Say,
) -> int:
    """Listen until told to stop; how often something was lost. Raises ConfigError."""
    listener = Listener(connection, source, accounts, say)
    try:
        for heard in stream.listen(is_over):
            listener.hear(heard)
    finally:
        listener.close()
    return listener.lost


CANDIDATES = "candidates (experimental)"


def markets(api: FillsApi) -> list[str]:
    """The perpetuals of all dexes; raises SourceFault."""
    return sorted(coin for dex in api.dexes() for coin in api.open_interest(dex)[1])


def follow_candidates(
    connection: Connection,
    feeds: Feeds,
    api: FillsApi,
    is_over: Callable[[], bool],
    say: Say,
    candidates: Candidates | None = None,
) -> Counts:
    """EXPERIMENTAL. Ask for the fills of takers whose trades no user's action explains, as fast as
    the weight allows; who waits too long is left out. Until told to stop."""
    held = candidates or Candidates()
    listener = Listener(connection, CANDIDATES, (), say)
    listener.hear(Opened())
    waiting: deque[Candidate] = deque()
    dropped, said_at = 0, time.monotonic()
    try:
        with feeds:
            while not is_over():
                for heard in feeds.heard():
                    _judge(held, listener, heard)
                waiting += held.due(time.monotonic())
                while len(waiting) > MOST_WAITING:
                    dropped += waiting.popleft().trades
                while waiting and api.has_room() and not is_over():
                    _ask_candidate(api, listener, waiting.popleft())
                listener.hear(Quiet())
                if time.monotonic() - said_at > SAY_SECONDS:
                    said_at = time.monotonic()
                    say(_of_counts(held.counts, len(waiting), dropped))
    finally:
        listener.close()
    say(_of_counts(held.counts, len(waiting), dropped))
    return held.counts


def _judge(held: Candidates, listener: Listener, heard: Trades | Actions | Broken) -> None:
    match heard:
        case Trades(trades):
            held.trade(trades, time.monotonic())
        case Actions(actions):
            held.act(actions)
        case Broken(why, is_explorer):
            which = "the explorer" if is_explorer else "the trades"
            listener.hear(Lost(f"{which}: {why}", is_open=True))
            if is_explorer:
                held.lost()


def _ask_candidate(api: FillsApi, listener: Listener, wanted: Candidate) -> None:
    since, until = utc_of_ms(wanted.times[0]), utc_of_ms(wanted.times[-1])
    try:
        for page in api.fills(wanted.account, since, until):
            listener.hear(Fills(page.fills))
    except SourceFault as fault:
        listener.hear(Lost(f"{wanted.account}: {fault}", is_open=True))


def _of_counts(counts: Counts, waiting: int, dropped: int) -> str:
    fields = {**counts._asdict(), "waiting": waiting, "left_out": dropped}
    said = " ".join(f"{name}={number}" for name, number in fields.items())
    return f"venue={sync.VENUE} source={CANDIDATES!r} trades: {said}"
