"""Derives rows again from the stored raw logs and facts, without a node; and settles what waits.

A decoder that was mended, a deployment that was added and a fact that arrived all come down to the
same: the rows of some blocks are made again, and the difference is written."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

from indexer.chain.sync import Reader, rare_collections, stored_facts
from indexer.chain.values import Wrote, nobody
from indexer.chain_step import ChainStep, Knowledge
from indexer.decode import Decoder
from indexer.errors import SourceFault
from indexer.evm_model import RECEIPT_FACT, TRANSACTION_FACT, Log, MissingFact
from indexer.plan import Piece, pieces
from indexer.sources.evm import EvmSource
from indexer.store import chain_coverage, chain_rows
from indexer.store.chain_rows import Waiting
from indexer.store.database import Connection

_ROUNDS = 4  # an event that got its fact may want its receipt next
LOGS_AT_ONCE = 20_000  # in memory, and of one look, for which the head may have to wait

# Told after each step: raw logs so far, the block that is reached.
Redecoded = Callable[[int, int], None]


def redecode(
    connection: Connection,
    decoder: Decoder,
    venues: Sequence[str],
    *,
    told: Redecoded = lambda logs, block: None,
    wrote: Wrote = nobody,
) -> Counter[str]:
    """Derive the rows of some venues of one chain again, wherever they are covered.

    First everything is looked through, piece by piece, beside the head. What differs is then
    derived once more and written in one transaction, for which the head waits: whoever reads sees
    all of it or none. `wrote` is called in that transaction, so that its values come with the rows.
    """
    chain = venues[0].rpartition(".")[2]
    covered = {
        venue: chain_coverage.covered(connection, venue, decoder.filter_hash(venue))
        for venue in venues
    }
    counts: Counter[str] = Counter()
    differing: list[Piece] = []
    for piece in pieces(covered):
        facts = chain_rows.facts(connection, chain)
        known = Knowledge(decoder, piece.venues, facts)
        at = piece.block_from
        while at < piece.block_to:
            high = chain_rows.blocks_with_logs(connection, chain, at, piece.block_to, LOGS_AT_ONCE)
            part = Piece(at, high, piece.venues)
            with rare_collections():
                looked = _look(connection, known, chain, part)
            counts += looked
            if looked["differs"]:
                differing.append(part)
            told(counts["logs"], high)
            at = high
    del counts["differs"]
    with connection.transaction():
        chain_coverage.lock(connection, chain)
        counts["changed"] = _swap(connection, decoder, chain, differing, wrote)
        for venue in venues:
            version = decoder.spec_of(venue).decoder_version
            chain_coverage.decoded_by(connection, venue, version)
    return counts


def _look(connection: Connection, known: Knowledge, chain: str, piece: Piece) -> Counter[str]:
    """Whether what is derived differs from what is stored; facts that it teaches are kept."""
    low, high, venues = piece
    with connection.transaction():
        chain_coverage.lock(connection, chain)
        made = _derive(connection, known, chain, piece)
        if made is None:
            return Counter()
        chain_rows.append_facts(connection, stored_facts(made.step, made.last_block))
        differs = bool(made.moved()) or chain_rows.differs(
            connection, chain, venues, (low, high), made.derived
        )
    return Counter(logs=made.logs, liquidations=len(made.derived.liquidations), differs=differs)


def _swap(
    connection: Connection,
    decoder: Decoder,
    chain: str,
    differing: Sequence[Piece],
    wrote: Wrote,
) -> int:
    """Write what differs, in the caller's transaction; gives the number of rows that changed."""
    facts = chain_rows.facts(connection, chain)
    times: list[datetime] = []
    changed = 0
    for piece in differing:
        with rare_collections():
            changed += _redecode(
                connection, Knowledge(decoder, piece.venues, facts), chain, piece, times.append
            )["changed"]
    if times:
        wrote(min(times))
    return changed


class _Made(NamedTuple):
    """What was derived of some blocks, and of which logs."""

    step: ChainStep
    derived: chain_rows.Derived
    logs: int
    last_block: int
    venue_of: dict[str, str | None]

    def moved(self) -> list[tuple[Log, str]]:
        """Logs that turned out to be a venue's."""
        return [
            (raw.log, raw.venue)
            for raw in self.step.raw()
            if raw.venue and self.venue_of[raw.log.event_key] is None
        ]


def _derive(connection: Connection, known: Knowledge, chain: str, piece: Piece) -> _Made | None:
    low, high, venues = piece
    logs: list[Log] = []
    times: dict[int, datetime] = {}
    venue_of: dict[str, str | None] = {}
    whole: dict[str, list[Log]] = {}
    for log, time, venue, is_whole in chain_rows.stored_logs(connection, chain, low, high):
        logs.append(log)
        venue_of[log.event_key] = venue
        if log.block_number not in times:
            times[log.block_number] = chain_rows.utc(time)
        if is_whole:
            whole.setdefault(log.tx_hash, []).append(log)
    if not logs:
        return None
    calls = (
        chain_rows.calls(connection, chain, {log.tx_hash for log in logs})
        if any(known.decoder.spec_of(venue).reads_calls for venue in venues)
        else {}
    )
    step = ChainStep(known, logs, whole, calls)
    derived = chain_rows.Derived(step.liquidations(), step.undecoded(), step.quarantined(), times)
    return _Made(step, derived, len(logs), logs[-1].block_number, venue_of)


def _redecode(
    connection: Connection, known: Knowledge, chain: str, piece: Piece, wrote: Wrote
) -> Counter[str]:
    low, high, venues = piece
    with connection.transaction():
        chain_coverage.lock(connection, chain)
        made = _derive(connection, known, chain, piece)
        if made is None:
            return Counter()
        chain_rows.append_facts(connection, stored_facts(made.step, made.last_block))
        changed = chain_rows.replace(connection, chain, venues, (low, high), made.derived)
        chain_rows.move_logs(connection, made.moved())
    if changed:
        wrote(min(made.derived.times.values()))
    return Counter(logs=made.logs, liquidations=len(made.derived.liquidations), changed=changed)


def settle(
    connection: Connection, source: EvmSource, decoder: Decoder, *, wrote: Wrote = nobody
) -> int:
    """Ask once more for what undecoded events wait for; gives the number of rows that changed."""
    changed = 0
    for _ in range(_ROUNDS):
        more = _settle(connection, source, decoder, wrote)
        changed += more
        if not more:
            break
    return changed


def _settle(connection: Connection, source: EvmSource, decoder: Decoder, wrote: Wrote) -> int:
    chain = source.profile.name
    waiting = chain_rows.waiting(connection, chain)
    if not waiting:
        return 0
    known = Knowledge(decoder, {one.venue for one in waiting}, chain_rows.facts(connection, chain))
    reader = Reader(source, known)
    _fetch_receipts(connection, source, waiting)
    _fetch_calls(connection, source, waiting)
    since = min(
        one.block_number for one in waiting
    )  # as long as the event stands, so does its fact
    facts = reader.ask(
        {
            MissingFact(chain, one.fact, one.subject): (one.venue,)
            for one in waiting
            if one.fact not in (RECEIPT_FACT, TRANSACTION_FACT)
        }
    )
    with connection.transaction():
        chain_rows.append_facts(connection, [(fact, since, None) for fact in facts])
    numbers = {one.block_number for one in waiting}
    return _redecode_blocks(connection, decoder, numbers, chain, wrote)


def _fetch_receipts(connection: Connection, source: EvmSource, waiting: Iterable[Waiting]) -> None:
    chain = source.profile.name
    known = _logs_that_wait(connection, chain, waiting, RECEIPT_FACT)
    try:
        whole = source.transactions(known)
    except SourceFault:
        return
    with connection.transaction():
        for logs in whole.values():
            chain_rows.append_logs(connection, chain, [(log, None, True) for log in logs])


def _fetch_calls(connection: Connection, source: EvmSource, waiting: Iterable[Waiting]) -> None:
    known = _logs_that_wait(connection, source.profile.name, waiting, TRANSACTION_FACT)
    try:
        sent = source.sent({tx_hash: logs[0] for tx_hash, logs in known.items()})
    except SourceFault:
        return
    facts = [(call.fact(log := known[tx_hash][0]), log) for tx_hash, call in sent.items()]
    with connection.transaction():
        chain_rows.append_facts(
            connection, [(fact, log.block_number, log.event_key) for fact, log in facts]
        )


def _logs_that_wait(
    connection: Connection, chain: str, waiting: Iterable[Waiting], fact: str
) -> dict[str, list[Log]]:
    """The stored logs of transactions that wait for something of themselves."""
    places = {one.tx_hash: one.block_number for one in waiting if one.fact == fact}
    known: dict[str, list[Log]] = {tx_hash: [] for tx_hash in places}
    for number in set(places.values()):
        for log, *_ in chain_rows.stored_logs(connection, chain, number, number + 1):
            if log.tx_hash in places:
                known[log.tx_hash].append(log)
    return known


def _redecode_blocks(
    connection: Connection, decoder: Decoder, numbers: Iterable[int], chain: str, wrote: Wrote
) -> int:
    changed = 0
    for number in sorted(numbers):
        venues = chain_coverage.venues_at(connection, chain, number)
        known = Knowledge(decoder, venues, chain_rows.facts(connection, chain))
        piece = Piece(number, number + 1, tuple(venues))
        changed += _redecode(connection, known, chain, piece, wrote)["changed"]
    return changed
