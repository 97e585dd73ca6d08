"""Reads blocks of a chain for some of its venues and writes them, one transaction a step.

Rows, blocks, facts and coverage of a step are written together or not at all. What was learnt on
the way to a step that could not be written is forgotten: everything is known from the database.
"""

import gc
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from indexer.chain import assets as tokens
from indexer.chain.assets import Assets, Described
from indexer.chain_step import ChainStep, Knowledge, RawLog
from indexer.decode import Decoder
from indexer.errors import Fenced, SourceFault
from indexer.evm_model import (
    EMITTER_FACT,
    BlockRef,
    Deployment,
    Fact,
    Log,
    LogRange,
    MissingFact,
    Position,
    Proof,
)
from indexer.inquiry import inquire
from indexer.plan import Heights, Piece, pieces
from indexer.sources.evm import EvmSource
from indexer.store import chain_coverage, chain_rows
from indexer.store.chain_coverage import Seam
from indexer.store.chain_rows import Liquidations, Packed
from indexer.store.database import Connection

_ATTEMPTS = 20
_ROUNDS = 8  # of new facts in one step: a fact may make another one necessary, not for ever


class Reading(NamedTuple):
    """What was read of some blocks, what it became and which of the logs are kept."""

    found: LogRange
    step: ChainStep
    raw: Sequence[RawLog]


class Reader:
    """Reads blocks of one chain for some venues. Not to be used by two threads at once."""

    def __init__(self, source: EvmSource, known: Knowledge) -> None:
        self.source = source
        self.known = known
        self.chain = source.profile.name
        self.filter = known.decoder.filter(known.venues)

    def range(self, block_from: int, block_to: int, *, is_check: bool = False) -> Reading:
        """The first of some final blocks, as many as one read brings."""
        found = self.source.some_logs(self.filter, block_from, block_to, is_check=is_check)
        return self._decoded(found)

    def block(self, block: BlockRef) -> Reading:
        """One block, by its hash."""
        found = self.source.logs_of_block(block, self.filter)
        return self._decoded(found)

    def receipts(self, block: BlockRef) -> Reading:
        """One block as its receipts have it, which is the truth."""
        found = self.source.logs_by_receipts(block, self.filter)
        return self._decoded(found)

    def transaction(self, block: BlockRef, logs: Sequence[Log], proof: Proof) -> Reading:
        """One transaction of a block, of which these are all logs."""
        wanted = tuple(log for log in logs if self.filter.wants(log))
        whole = {log.tx_hash: tuple(logs) for log in wanted}
        times = {block.number: block.time} if wanted else {}
        return self._decoded(
            LogRange(
                block.number, block.number + 1, wanted, times, block, block, proof,
                endpoint="", whole=whole,
            )
        )  # fmt: skip

    def _decoded(self, found: LogRange) -> Reading:
        """Decode logs; ask the chain for the receipts and facts that they want.

        What no endpoint tells is left: those events wait, undecoded, and are tried again."""
        step = ChainStep(self.known, found.logs, found.whole)
        for _ in range(_ROUNDS):
            if not (self._complete(step) | self._read_calls(step) | self._answer(step)):
                break
        return Reading(found, step, step.raw())

    def _complete(self, step: ChainStep) -> bool:
        wanted = step.wants_receipts()
        if not wanted:
            return False
        try:
            step.complete(self.source.transactions(wanted))
        except SourceFault:
            return False
        return True

    def _read_calls(self, step: ChainStep) -> bool:
        wanted = step.wants_calls()
        try:
            sent = self.source.sent(wanted)
        except SourceFault:
            return False
        step.read_calls(sent)
        return bool(sent)

    def _answer(self, step: ChainStep) -> bool:
        facts = self.ask(step.questions())
        step.learn(facts)
        return bool(facts)

    def ask(self, questions: Mapping[MissingFact, Collection[str]]) -> list[Fact]:
        """What the contracts themselves say; an emitter that nobody lists is known as such."""
        inquiries = {
            (question, protocol): ask(question, self._deployments(protocol))
            for question, protocols in questions.items()
            for protocol in protocols
            if (ask := self.known.decoder.spec_of(protocol).asks.get(question.fact))
        }
        if not inquiries:
            return []
        try:
            head = self.source.head()
            answers = inquire(inquiries, lambda calls: self.source.call_many(calls, head))
        except SourceFault:
            return []
        facts = [fact for found in answers.values() for fact in found]
        told = {fact.key for fact in facts}
        return facts + [
            Fact(*_key(question), None)
            for question in {question for question, _ in inquiries}
            if question.fact == EMITTER_FACT and _key(question) not in told
        ]

    def _deployments(self, protocol: str) -> list[Deployment]:
        spec = self.known.decoder.spec_of(protocol)
        return [one for one in spec.deployments if one.chain == self.chain]


def _key(question: MissingFact) -> tuple[str, str, str]:
    return question.chain, question.fact, question.subject


class Rows(NamedTuple):
    """What most of a step's bytes are, packed for COPY; None where there is none."""

    blocks: Packed
    logs: Packed | None
    liquidations: Liquidations


def pack(connection: Connection, reading: Reading) -> Rows:
    """The rows of a step. Nobody is asked for anything: the thread that reads ahead may call it
    while the connection is at work."""
    found, step, raw = reading
    liquidations = step.liquidations()
    times = _times(found) if liquidations else {}
    return Rows(
        chain_rows.pack_blocks(connection, _blocks(found, raw)),
        chain_rows.pack_logs(connection, found.first.chain, raw) if raw else None,
        chain_rows.pack_liquidations(connection, liquidations, times),
    )


def _times(found: LogRange) -> dict[int, datetime]:
    return {number: chain_rows.utc(time) for number, time in found.times.items()}


class Written(NamedTuple):
    """What a step put into the database."""

    position: Position | None
    counts: Counter[str]


def write(
    connection: Connection,
    decoder: Decoder,
    venues: Collection[str],
    reading: Reading,
    *,
    at: Position | None = None,
    finalized: int = 0,
    rows: Rows | None = None,
) -> Written:
    """Write a step whole: with `at`, the head, whose position it compares and sets. `rows` are
    those of the reading, where they are packed already.

    Raises Fenced when somebody else was here first; nothing is written then."""
    found, step, raw = reading
    with connection.transaction():
        moved = at and chain_coverage.advance(connection, at, found.last, finalized)
        chain_coverage.cover(connection, found, seams(decoder, venues))
        counts = append(connection, found, step, raw, rows)
        chain_coverage.count(connection, found, venues)
    return Written(moved, counts)


def seams(decoder: Decoder, venues: Collection[str]) -> list[Seam]:
    """What coverage says of each venue, but for its logs."""
    return [
        Seam(venue, decoder.filter_hash(venue), spec.decoder_version, spec.kind)
        for venue, spec in ((venue, decoder.spec_of(venue)) for venue in sorted(venues))
    ]


def append(
    connection: Connection,
    found: LogRange,
    step: ChainStep,
    raw: Sequence[RawLog],
    rows: Rows | None = None,
) -> Counter[str]:
    """Write the rows of a step, inside the caller's transaction."""
    rows = rows or pack(connection, Reading(found, step, raw))
    undecoded, quarantined = step.undecoded(), step.quarantined()
    times = _times(found) if undecoded or quarantined else {}
    chain_rows.append_packed_blocks(connection, rows.blocks)
    if rows.logs is not None:
        chain_rows.append_packed_logs(connection, rows.logs)
    chain_rows.append_liquidations(connection, rows.liquidations)
    chain_rows.append_undecoded(connection, undecoded, times)
    chain_rows.append_quarantine(connection, quarantined, times)
    chain_rows.append_facts(connection, stored_facts(step, found.last.number))
    return Counter(
        blocks=found.block_to - found.block_from,
        liquidations=len(step.liquidations()),
        undecoded=len(undecoded),
        quarantined=len(quarantined),
    )


def _blocks(found: LogRange, raw: Sequence[RawLog]) -> list[BlockRef]:
    """The ends of the range and the blocks with rows."""
    chain, times = found.first.chain, found.times
    hashes = {log.block_number: log.block_hash for log, _, _ in raw}
    blocks = {
        number: BlockRef(chain, number, block_hash, "", times[number])
        for number, block_hash in hashes.items()
    }
    return list((blocks | {end.number: end for end in (found.first, found.last)}).values())


def stored_facts(step: ChainStep, last: int) -> list[tuple[Fact, int, str | None]]:
    """The facts of a step with the block and event each is known from. What contracts were asked is
    known from the last block: it goes with it, should that be taken back."""
    return [
        (fact, log.block_number, log.event_key) if log else (fact, last, None)
        for fact, log in step.learnt()
    ]


# backfill


@dataclass
class ChainTally:
    """What a run over some blocks wrote."""

    counts: Counter[str] = field(default_factory=Counter)
    not_final: int = 0  # blocks that were wanted and may still change


# Told after each step: blocks done, blocks in all, events so far.
ChainProgress = Callable[[int, int, int], None]


def backfill(
    connection: Connection,
    source: EvmSource,
    decoder: Decoder,
    venues: Sequence[str],
    block_from: int,
    block_to: int,
    *,
    progress: ChainProgress = lambda done, total, events: None,
) -> ChainTally:
    """Read final blocks that are not covered yet, `block_to` excluded; doing it again changes
    nothing. Blocks that are not final, or that `follow` has not reached, are left to it."""
    high = min(block_to, source.finalized() + 1)
    if (held := chain_coverage.held_until(connection, source.profile.name)) is not None:
        high = min(high, held)
    tally = ChainTally(not_final=max(block_to - max(high, block_from), 0))
    for _ in range(_ATTEMPTS):
        left = _uncovered(connection, decoder, venues, block_from, high)
        if not left:
            return tally
        try:
            for piece in left:
                _fill(connection, source, decoder, piece, left, tally, progress)
            return tally
        except Fenced:
            continue  # look again at what is left
    raise Fenced(f"{source.profile.name}: another process keeps covering these blocks")


def _uncovered(
    connection: Connection, decoder: Decoder, venues: Sequence[str], low: int, high: int
) -> list[Piece]:
    return pieces(
        {
            venue: Heights(
                chain_coverage.covered(connection, venue, decoder.filter_hash(venue))
            ).missing(max(low, decoder.since(venue)), high)
            for venue in venues
        }
    )


@contextmanager
def rare_collections() -> Iterator[None]:
    """Look for cyclic garbage at every 100,000 new objects: logs and rows hold no cycles, and to
    look at every 700 took a fifth of the CPU of a backfill."""
    before = gc.get_threshold()
    gc.set_threshold(100_000, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


@contextmanager
def short_turns() -> Iterator[None]:
    """Let threads take turns every 0.5 ms: at Python's 5 ms the thread that writes waited so long
    at every answer of Postgres for the one that decodes, a quarter of the time of a backfill."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.0005)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


class Ahead(NamedTuple):
    """A step that waits for its turn to be written."""

    reading: Reading
    described: Described
    rows: Rows


def _fill(
    connection: Connection,
    source: EvmSource,
    decoder: Decoder,
    piece: Piece,
    left: Sequence[Piece],
    tally: ChainTally,
    progress: ChainProgress,
) -> None:
    """Read a piece; while one step is written, a second thread reads, decodes and packs the next:
    with the packing left to the writer 200,000 logs took 4.1 s instead of 3.7."""
    chain = source.profile.name
    reader = Reader(source, Knowledge(decoder, piece.venues, chain_rows.facts(connection, chain)))
    assets = Assets(source, decoder, chain_rows.known_assets(connection, chain))
    total = sum(one.block_to - one.block_from for one in left)
    before = sum(one.block_to - one.block_from for one in left[: left.index(piece)])

    def read(at: int) -> Ahead:
        reading = reader.range(at, piece.block_to)
        described = assets.ask(reading.step.liquidations())
        return Ahead(reading, described, pack(connection, reading))

    with rare_collections(), short_turns(), ThreadPoolExecutor(1) as thread:
        ahead: Future[Ahead] | None = thread.submit(read, piece.block_from)
        while ahead is not None:
            reading, described, rows = ahead.result()
            reached = reading.found.block_to
            ahead = thread.submit(read, reached) if reached < piece.block_to else None
            tally.counts += write(connection, decoder, piece.venues, reading, rows=rows).counts
            tokens.store(connection, described)
            events = tally.counts["liquidations"] + tally.counts["undecoded"]
            progress(before + reached - piece.block_from, total, events)
