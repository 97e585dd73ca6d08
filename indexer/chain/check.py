"""Reads final blocks a second time and compares: endpoints leave logs out without a word.

Where the two readings differ the receipts of the block decide. What the first reading had missed is
added, what no receipt has is taken back into the journal, and both are written down.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from indexer.chain.sync import Reader, Reading, append, seams
from indexer.chain.values import Wrote, nobody
from indexer.chain_step import Knowledge
from indexer.decode import Decoder
from indexer.errors import SourceFault
from indexer.evm_model import BlockRef, Log, LogRange
from indexer.plan import pieces
from indexer.sources.endpoints import NotServed
from indexer.sources.evm import EvmSource
from indexer.store import chain_coverage, chain_rows
from indexer.store.database import Connection

# How much each way of knowing is worth; a check only ever raises it.
_WORTH = {
    "unverified": 0, "read_twice": 1, "second_endpoint": 2, "negative_bloom": 3, "receipts": 3,
    "bloom_or_receipts": 3,
}  # fmt: skip

_Content = tuple[str, str, str, tuple[str, ...], str]
Checked = Callable[[int], None]  # told after each read: the block that is reached


@dataclass
class CheckTally:
    """What a check found; `unsettled` says where nobody could decide."""

    blocks: int = 0
    logs: int = 0
    missing: int = 0
    untrue: int = 0
    unsettled: list[str] = field(default_factory=list)


def check(
    connection: Connection,
    source: EvmSource,
    decoder: Decoder,
    venues: Sequence[str],
    block_from: int,
    block_to: int,
    *,
    told: Checked = lambda block: None,
    wrote: Wrote = nobody,
) -> CheckTally:
    """Read what is covered of some blocks again, as far as it is final, `block_to` excluded."""
    high = min(block_to, source.finalized() + 1)
    if (held := chain_coverage.held_until(connection, source.profile.name)) is not None:
        high = min(high, held)  # above it we may hold a branch that the chain has left
    tally = CheckTally()
    if high <= block_from:
        return tally
    covered: dict[str, list[tuple[int, int]]] = {}
    for venue, low, end, proof in chain_coverage.proved(connection, venues, block_from, high):
        covered.setdefault(f"{venue} {proof}", []).append((low, end))
    for piece in pieces(covered):
        proofs = dict(key.split(" ") for key in piece.venues)
        facts = chain_rows.facts(connection, source.profile.name)
        reader = Reader(source, Knowledge(decoder, proofs, facts))
        at = piece.block_from
        while at < piece.block_to:
            reading = reader.range(at, piece.block_to, is_check=True)
            _compare(connection, reader, reading, proofs, tally, wrote)
            at = reading.found.block_to
            told(at)
    return tally


class _Difference(NamedTuple):
    """Blocks that the first reading had wrong, as their receipts have them."""

    truth: list[Reading]
    missing: int
    untrue: int


def _compare(
    connection: Connection,
    reader: Reader,
    reading: Reading,
    proofs: dict[str, str],
    tally: CheckTally,
    wrote: Wrote,
) -> None:
    found = reading.found
    low, high = found.block_from, found.block_to
    stored = _stored(connection, reader, proofs, low, high)
    read = _told(reading)
    tally.blocks += high - low
    tally.logs += len(read)
    try:
        difference = _settled(_afresh(connection, reader), stored, read)
    except SourceFault as fault:
        tally.unsettled.append(f"{reader.chain}: blocks {low} to {high - 1}: {fault}")
        return
    tally.missing += difference.missing
    tally.untrue += difference.untrue
    _write(connection, reader, found, proofs, difference)
    if difference.truth:
        wrote(chain_rows.utc(difference.truth[0].found.first.time))


def _stored(
    connection: Connection, reader: Reader, venues: Collection[str], low: int, high: int
) -> list[Log]:
    """What the first reading told: logs of the venues, and those in quarantine that look like."""
    strangers = chain_rows.quarantined_keys(connection, reader.chain, low, high)
    return [
        log
        for log, _, venue, _ in chain_rows.stored_logs(connection, reader.chain, low, high)
        if venue in venues
        or (log.event_key in strangers and log.topics[0] in reader.filter.topics0)
    ]


def _told(reading: Reading) -> list[Log]:
    strangers = {one.log.event_key for one in reading.step.quarantined()}
    return [
        raw.log for raw in reading.raw if raw.venue is not None or raw.log.event_key in strangers
    ]


def _afresh(connection: Connection, reader: Reader) -> Reader:
    """A reader that knows what is stored and nothing else: what the second reading asked for has
    to be asked again, so that it is stored with the rows that need it."""
    facts = chain_rows.facts(connection, reader.chain)
    return Reader(reader.source, Knowledge(reader.known.decoder, reader.known.venues, facts))


def _settled(reader: Reader, stored: Sequence[Log], read: Sequence[Log]) -> _Difference:
    """The receipts decide about the blocks of which two readings say different things."""
    disputed = _disputed(stored, read)
    if not disputed:
        return _Difference([], 0, 0)
    truth = _truth(reader, stored, read, disputed)
    before = _content(log for log in stored if log.block_number in disputed)
    after = _content(log for one in truth for log in _told(one))
    wrong = [
        one
        for one in truth
        if _content(_told(one))
        != _content(log for log in stored if log.block_number == one.found.block_from)
    ]
    return _Difference(wrong, (after - before).total(), (before - after).total())


def _truth(
    reader: Reader, stored: Sequence[Log], read: Sequence[Log], disputed: Sequence[int]
) -> list[Reading]:
    """What the receipts of the disputed blocks say. Where nobody serves receipts, a second reading
    that only adds to the first is believed: endpoints leave logs out, and each one passed the same
    tests as those of the first reading."""
    blocks = reader.source.headers(disputed)
    try:
        return [reader.receipts(block) for block in blocks]
    except NotServed:
        if _content(stored) - _content(read):
            raise
        return [reader.block(block) for block in blocks]


def _content(logs: Iterable[Log]) -> Counter[_Content]:
    """The logs without their numbers in the block, which endpoints count differently."""
    return Counter((log.block_hash, log.tx_hash, log.address, log.topics, log.data) for log in logs)


def _disputed(one: Sequence[Log], two: Sequence[Log]) -> list[int]:
    first, second = _content(one), _content(two)
    differ = {content[0] for content in (first - second) + (second - first)}
    return sorted({log.block_number for log in (*one, *two) if log.block_hash in differ})


def _write(
    connection: Connection,
    reader: Reader,
    found: LogRange,
    proofs: dict[str, str],
    difference: _Difference,
) -> None:
    """Correct the blocks that were wrong, raise the proof of the range, write down the check."""
    proof = "read_twice" if found.proof == "unverified" else found.proof
    raised = [venue for venue in proofs if _WORTH[proofs[venue]] < _WORTH[proof]]
    venues = sorted(proofs if difference.truth else raised)
    first, last = found.first, found.last
    chain = first.chain
    before = BlockRef(chain, first.number - 1, first.parent_hash, "", first.time)
    after = BlockRef(chain, last.number + 1, "", last.hash, last.time)
    with connection.transaction():
        chain_coverage.lock(connection, chain)
        chain_coverage.uncover(connection, venues, before, after)
        if difference.truth:
            blocks = [one.found.first for one in difference.truth]
            chain_coverage.take_back(
                connection, blocks, sorted(proofs), sorted(reader.filter.topics0),
                "a check found otherwise",
            )  # fmt: skip
        for one in difference.truth:
            append(connection, one.found, one.step, one.raw)
        chain_coverage.cover(connection, found, seams(reader.known.decoder, venues), proof)
        chain_coverage.count(connection, found, venues)
        chain_coverage.append_check(
            connection, found, sorted(proofs), proof,
            missing=difference.missing, untrue=difference.untrue,
        )  # fmt: skip
