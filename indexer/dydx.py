"""The conductor of dYdX v4: blocks of a node become rows and coverage, in one transaction a step.

A height that cannot be read is left out of coverage, aloud, and the next one is read; only a node
that is silent ends a run. Heights that are covered are not read again.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from indexer.dydx_format import Block, Perpetual
from indexer.errors import Conflict, Fenced, IndexerError, SourceFault
from indexer.evm_model import Fact
from indexer.model import CoveredBlocks, Liquidation, Undecoded
from indexer.plan import Heights, append_joined
from indexer.sources.dydx import DydxNode, Unreadable
from indexer.sources.dydx_api import DydxApi, Trade
from indexer.store import chain_rows, dydx_rows, ledger, values
from indexer.store.database import Connection
from indexer.venues import dydx as venue

VENUE = venue.SPEC.name
STEP_BLOCKS = 200
MOST_UNREADABLE = 100  # heights of one run: more is a sick node, not a few holes
BEHIND = timedelta(minutes=1)
POLL_SECONDS = 0.5
SILENT_SECONDS = 5.0
_ATTEMPTS = 20
TICKER, RESOLUTION = "ticker", "atomic_resolution"

Say = Callable[[str], None]


@dataclass
class Tally:
    """What a run wrote and what went wrong; `not_there` and `gone` are heights that were wanted
    and that the node has not yet, or no more. `since` is the time of the first new row."""

    counts: Counter[str] = field(default_factory=Counter)
    faults: list[IndexerError] = field(default_factory=list)
    unreadable: int = 0
    not_there: tuple[int, int] | None = None
    gone: tuple[int, int] | None = None
    since: datetime | None = None


class Reader:
    """Reads heights side by side and sees that each block names the one before it."""

    def __init__(self, node: DydxNode) -> None:
        self._node = node
        self._last: Block | None = None

    def blocks(
        self, low: int, high: int
    ) -> Iterator[tuple[Block, list[venue.Marked]] | Unreadable]:
        """Each height with its forced matches, or why it cannot be read. Raises Silent."""
        with ThreadPoolExecutor(self._node.at_once) as threads:
            for read in threads.map(self._block, range(low, high)):
                yield read if isinstance(read, Unreadable) else self._checked(read)

    def _block(self, height: int) -> Block | Unreadable:
        try:
            return self._node.block(height)
        except Unreadable as fault:
            return fault

    def _checked(self, block: Block) -> tuple[Block, list[venue.Marked]] | Unreadable:
        last = self._last
        if last is not None and last.height == block.height - 1 and last.hash != block.parent_hash:
            return Unreadable(
                block.source, f"block {block.height} follows {block.parent_hash[:16]}, not"
                f" {last.hash[:16]}, as block {last.height} was told",
            )  # fmt: skip
        try:
            found = venue.marked(block)
        except venue.Contradiction as error:
            return Unreadable(block.source, f"block {block.height}: {error}")
        self._last = block
        return block, found


class Writer:
    """Writes steps and knows what the markets' quantums are."""

    def __init__(self, connection: Connection, node: DydxNode) -> None:
        self._connection = connection
        self._node = node
        self._perpetuals = known_perpetuals(connection)
        self.tally = Tally()

    def step(self, reader: Reader, low: int, high: int) -> None:
        """Read some heights and write them: rows, markets and coverage together or not at all.

        Raises Fenced when somebody else covered one of them, or Silent: nothing is written then."""
        covered: list[CoveredBlocks] = []
        events: list[venue.Marked] = []
        unreadable: list[Unreadable] = []
        for read in reader.blocks(low, high):
            if isinstance(read, Unreadable):
                unreadable.append(read)
                continue
            block, found = read
            append_joined(
                covered,
                CoveredBlocks(block.height, block.height + 1, block.at, block.at, "every_height"),
            )
            events += found
        learnt = self._learn(events, high - 1)
        with self._connection.transaction():
            counts, faults = self._write(events, covered, learnt)
        tally = self.tally
        tally.counts += counts
        tally.faults += [*unreadable, *faults]
        tally.unreadable += len(unreadable)
        if counts["liquidations"]:
            first = min(event.raw.block_at for event in events)
            tally.since = min(first, tally.since or first)
        if tally.unreadable >= MOST_UNREADABLE:
            raise SourceFault(
                "dydx", f"{tally.unreadable} heights could not be read, the last of them before"
                f" {high}; stopped there",
            )  # fmt: skip

    def settle(self) -> None:
        """Decode again what waits, as for a market that was not told."""
        waiting = [venue.Marked(*raws) for raws in dydx_rows.undecoded(self._connection, VENUE)]
        if not waiting:
            return
        heights = [event.raw.block_number or 0 for event in waiting]
        learnt = self._learn(waiting, max(heights))
        rows = [venue.decode(event, self._perpetuals) for event in waiting]
        settled = [row for row in rows if isinstance(row, Liquidation)]
        with self._connection.transaction():
            chain_rows.append_facts(self._connection, learnt)
            ledger.append_liquidations(self._connection, settled)
        self.tally.counts += Counter(liquidations=len(settled), settled=len(settled))
        for row in settled:
            self.tally.since = min(row.block_at, self.tally.since or row.block_at)

    def _learn(
        self, events: Sequence[venue.Marked], height: int
    ) -> list[tuple[Fact, int, str | None]]:
        """Ask for the markets of these events that are not known. A market keeps its resolution.

        [S] dydxprotocol/v4-chain:protocol/x/perpetuals/keeper/perpetual.go: ModifyPerpetual"""
        learnt: list[tuple[Fact, int, str | None]] = []
        for number in sorted(
            {n for event in events if (n := venue.perpetual_of(event)) is not None}
        ):
            if number in self._perpetuals or (told := self._perpetual(number)) is None:
                continue
            self._perpetuals[number] = told
            for fact, value in ((TICKER, told.ticker), (RESOLUTION, str(told.atomic_resolution))):
                learnt.append((Fact(venue.SPEC.chain, fact, str(number), value), height, None))
        return learnt

    def _perpetual(self, number: int) -> Perpetual | None:
        try:
            return self._node.perpetual(number)
        except Unreadable as fault:  # the events wait, with a reason
            self.tally.faults.append(fault)
            return None

    def _write(
        self,
        events: Sequence[venue.Marked],
        covered: Sequence[CoveredBlocks],
        learnt: Sequence[tuple[Fact, int, str | None]],
    ) -> tuple[Counter[str], list[IndexerError]]:
        connection = self._connection
        chain_rows.append_facts(connection, learnt)
        raws = [raw for event in events for raw in event if raw is not None]
        differing = ledger.append_raw(connection, raws, is_simulated=False)
        wrong = {one.event_key for one in differing}
        rows = [
            venue.decode(event, self._perpetuals)
            for event in events
            if not event.is_settlement and event.raw.event_key not in wrong
        ]
        liquidations = [row for row in rows if isinstance(row, Liquidation)]
        undecoded = [row for row in rows if isinstance(row, Undecoded)]
        ledger.append_liquidations(connection, liquidations)
        ledger.append_undecoded(connection, undecoded)
        ledger.cover(connection, VENUE, "liquidations", covered, venue.SPEC.decoder_version)
        counts = Counter(
            liquidations=len(liquidations),
            undecoded=len(undecoded),
            settlements=sum(event.is_settlement for event in events),
            blocks=sum(piece.block_to - piece.block_from for piece in covered),
        )
        return counts, [
            Conflict(f"{one.event_key} says other than the same event read from {one.stored_at};"
                     " the first stays")
            for one in differing
        ]  # fmt: skip


def known_perpetuals(connection: Connection) -> dict[int, Perpetual]:
    """The markets whose quantums were asked for."""
    facts = chain_rows.facts(connection, venue.SPEC.chain)
    return {
        int(subject): Perpetual(ticker, int(facts[chain, RESOLUTION, subject] or 0))
        for (chain, fact, subject), ticker in facts.items()
        if fact == TICKER and ticker is not None
    }


def backfill(
    connection: Connection,
    node: DydxNode,
    low: int,
    high: int,
    *,
    progress: Callable[[int, int, int], None] = lambda done, total, events: None,
) -> Tally:
    """Read heights that are not covered yet, `high` excluded; doing it again changes nothing."""
    writer = Writer(connection, node)
    tally = writer.tally
    status = node.status()
    # The results of the last block may not be stored yet: those of the one before it are.
    end = min(high, status.last)
    begin = max(low, status.first)
    tally.not_there = (max(end, low), high) if end < high else None
    tally.gone = (low, min(begin, high)) if low < begin else None
    writer.settle()
    for _ in range(_ATTEMPTS):
        left = Heights(ledger.covered(connection, VENUE, "liquidations")).missing(begin, end)
        total = sum(piece[1] - piece[0] for piece in left)
        done = 0
        try:
            for first, last in left:
                reader = Reader(node)
                for at in range(first, last, STEP_BLOCKS):
                    step_end = min(at + STEP_BLOCKS, last)
                    writer.step(reader, at, step_end)
                    done += step_end - at
                    progress(done, total, tally.counts["liquidations"])
            return tally
        except Fenced:
            continue  # look again at what is left
        except SourceFault as fault:
            tally.faults.append(fault)
            return tally
    raise Fenced(f"{VENUE}: another process keeps covering these blocks")


def value(connection: Connection, since: datetime | None) -> None:
    """Value what is stored of a time and after: all of it is in USDC."""
    values.value(connection, venues=(VENUE,), since=since)


def follow(
    connection: Connection, node: DydxNode, *, is_over: Callable[[], bool], say: Say
) -> Tally:
    """Read what the chain adds until told to stop, from where it was left, or from now on.

    What cannot be read is said and left as a hole; a silent node is asked again for ever."""
    writer, reader = Writer(connection, node), Reader(node)
    tally = writer.tally
    at: int | None = None
    said = ""
    while not is_over():
        try:
            status = node.status()
            if at is None:
                writer.settle()
                covered = ledger.covered(connection, VENUE, "liquidations")
                at = covered[-1][1] if covered else status.last
            if at < status.first:
                say(f"venue={VENUE} blocks {at} to {status.first - 1} are gone: a hole stays")
                at = status.first
            lag = datetime.now(UTC) - status.last_at
            is_behind = status.is_behind or lag > BEHIND
            said = _once(
                f"the node is behind: its last block {status.last} is of"
                f" {status.last_at:%Y-%m-%d %H:%M:%S} UTC" if is_behind else "", said, say
            )  # fmt: skip
            end = min(at + STEP_BLOCKS, status.last)  # the last block's results may still come
            known = Heights(ledger.covered(connection, VENUE, "liquidations"))
            for low, high in known.missing(at, end):
                _step_and_say(writer, reader, low, high, say)
            if at < end:
                at = end
                continue
        except Fenced:
            continue  # look again at what is left
        except Unreadable as fault:
            said = _once(f"fault: {fault}", said, say)
        except SourceFault as fault:
            if tally.unreadable >= MOST_UNREADABLE:
                raise
            said = _once(f"fault: {fault}", said, say)
            _sleep(SILENT_SECONDS, is_over)
        _sleep(POLL_SECONDS, is_over)
    return tally


def _once(text: str, said: str, say: Say) -> str:
    if text and text != said:
        say(text)
    return text


def _sleep(seconds: float, is_over: Callable[[], bool]) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and not is_over():
        time.sleep(0.05)


def _step_and_say(writer: Writer, reader: Reader, low: int, high: int, say: Say) -> None:
    tally = writer.tally
    counted, found, started = tally.counts.copy(), len(tally.faults), time.monotonic()
    writer.step(reader, low, high)
    new = tally.counts - counted
    if tally.since is not None:
        value(writer._connection, tally.since)
        tally.since = None
    if new["liquidations"] or new["undecoded"] or new["settlements"]:
        fields = " ".join(f"{name}={number}" for name, number in sorted(new.items()))
        say(f"venue={VENUE} to={high - 1} {fields} ms={1000 * (time.monotonic() - started):.0f}")
    for fault in tally.faults[found:]:
        say(f"fault: {fault}")


# -- the API beside the chain --------------------------------------------------------------------


class Compared(NamedTuple):
    """How many forced fills of the API and how many rows were compared, what of them differs, and
    how many fills are final settlements, which are no rows."""

    trades: int
    rows: int
    settlements: int
    differences: tuple[str, ...]


class _Fill(NamedTuple):
    """What a fill is to both: the quote in USDC quantums, which a rounded price may miss by one."""

    height: int
    market: str
    kind: str
    side: str
    size: Decimal

    def __str__(self) -> str:
        return f"block {self.height} {self.market} {self.kind} {self.side} {self.size:f}"


KINDS = {"market": "LIQUIDATED", "adl_of_user": "DELEVERAGED"}
SIDES = {"long": "SELL", "short": "BUY"}


def compare(connection: Connection, api: DydxApi, low: int, high: int) -> Compared:
    """Compare forced fills of covered blocks with those that the API tells, of every market."""
    end = min(high, api.height() + 1)
    covered = Heights(ledger.covered(connection, VENUE, "liquidations"))
    perpetuals = known_perpetuals(connection)
    ours = _by_fill(dydx_rows.fills(connection, VENUE, low, end))
    settled = [
        venue.decode(venue.Marked(*raws), perpetuals)
        for raws in dydx_rows.settlements(connection, venue.SPEC.chain, low, end)
    ]
    no_rows = _by_fill(
        (row.block_number or 0, row.market, row.method, row.side, row.size, row.notional)
        for row in settled
        if isinstance(row, Liquidation)
    )
    total, trades, settlements = sum(map(len, ours.values())), 0, 0
    differences = []
    for ticker in sorted({*api.tickers(), *(fill.market for fill in ours)}):
        for trade in api.trades(ticker, low, end):
            if trade.type not in KINDS.values() or trade.height not in covered:
                continue
            trades += 1
            fill = _Fill(trade.height, ticker, trade.type, trade.side, trade.size.normalize())
            if _take(ours, fill, trade):
                continue
            if _take(no_rows, fill, trade):
                settlements += 1
                continue
            differences.append(f"{fill} at {trade.price:f}: only the API has it")
    for fill, notionals in ours.items():
        differences += [
            f"{fill} at {(notional / fill.size).normalize():f}: the API does not have it"
            for notional in notionals
            if fill.height in covered
        ]
    return Compared(trades, total, settlements, tuple(sorted(differences)))


def _by_fill(rows: Iterable[dydx_rows.Fill]) -> Mapping[_Fill, deque[Decimal]]:
    found: dict[_Fill, deque[Decimal]] = {}
    for height, market, method, side, size, notional in rows:
        ticker = market.partition(":")[0]
        fill = _Fill(height, ticker, KINDS[method], SIDES[side], size.normalize())
        found.setdefault(fill, deque()).append(notional)
    return found


def _take(fills: Mapping[_Fill, deque[Decimal]], fill: _Fill, trade: Trade) -> bool:
    """Take one of these fills away if it is the trade: its price gives the same USDC, to the
    quantum that a rounded price may miss."""
    quantum = Decimal(1).scaleb(venue.QUOTE_EXPONENT)
    for notional in fills.get(fill, ()):
        if abs(trade.price * trade.size - notional) <= quantum:
            fills[fill].remove(notional)
            return True
    return False
