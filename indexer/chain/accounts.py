"""Asks what liquidated accounts are and whose: at the block of the first liquidation, where an
endpoint keeps that state, and at the newest final block. An owner that is found is asked the same,
for it may be a proxy with an owner of its own.

Only final blocks are asked, so that no reorg can take an answer back."""

from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Generic, NamedTuple, TypeVar

from indexer.account_kinds import code_at
from indexer.account_model import (
    Asking,
    Code,
    CodeOf,
    Held,
    Owned,
    Question,
    SlotOf,
    Unreadable,
    Way,
)
from indexer.decode import Decoder
from indexer.evm_model import BlockRef, CallResult, Deployment, EthCall
from indexer.inquiry import inquire
from indexer.owner_answers import is_address
from indexer.owners import ways
from indexer.sources import evm_calls
from indexer.sources.evm import EvmSource
from indexer.sources.evm_accounts import Place, states_at
from indexer.store import accounts as store
from indexer.store.accounts import SeenCode, SeenOwner, Wanted
from indexer.store.database import Connection

ACCOUNTS_AT_ONCE = 200
MOST_HOPS = 4  # urn, proxy, Safe, and a key that signs for it

K = TypeVar("K")
R = TypeVar("R")
NOTHING = CallResult(is_ok=False, data=b"")


class Tally:
    """What was asked and found. `told` are accounts of which anybody had the state at some block,
    `untold` those of which nobody had it at some other; `unreadable` are answers that cannot be
    right, each with an account as an example."""

    def __init__(self) -> None:
        self.asked = 0
        self.kinds: Counter[str] = Counter()
        self.owned: Counter[str] = Counter()
        self.told: set[str] = set()
        self.untold: set[str] = set()
        self.unreadable: Counter[str] = Counter()
        self.example: dict[str, str] = {}


def fill(
    connection: Connection,
    source: EvmSource,
    decoder: Decoder,
    venues: Sequence[str],
    *,
    again: bool = False,
) -> Tally:
    """Ask for the accounts of some venues of a chain that were not asked and store what they are,
    batch by batch. Raises SourceFault; what was stored before stays."""
    chain, tally = source.profile.name, Tally()
    now = source.header(source.finalized())
    asker = Accounts(source, decoder, now)
    for batch in _batches(store.wanted(connection, chain, venues, now.number, again=again)):
        codes, owners = asker.ask(batch, tally)
        asked = [
            (one.account, one.venue)
            for one in batch
            if one.account in tally.told or one.account not in tally.untold
        ]
        store.append(connection, chain, asked, now, codes, owners)
    return tally


def _batches(found: Iterator[Wanted]) -> Iterator[list[Wanted]]:
    while batch := list(islice(found, ACCOUNTS_AT_ONCE)):
        yield batch


class _At(NamedTuple):
    """A question and the block at whose end it is asked."""

    block: BlockRef
    question: Question


class _Spot(NamedTuple):
    """An account of the chain at the end of a block."""

    account: str
    block: BlockRef


class _Ask(NamedTuple):
    """A way to ask for the owner of what, under which venue or chain, at which block."""

    way: Way
    venue: str
    held: Held
    block: BlockRef


class _Inquiry(NamedTuple, Generic[R]):
    """What is asked about an account at the end of a block."""

    account: str
    block: BlockRef
    asking: Asking[R]


class Accounts:
    """Asks about batches of accounts on one chain."""

    def __init__(self, source: EvmSource, decoder: Decoder, now: BlockRef) -> None:
        self._source = source
        self._chain = source.profile.name
        self._now = now
        self._ways = ways()
        self._protocol_of = {venue: decoder.spec_of(venue).name for venue in decoder.venues()}
        self._deployed: dict[str, Sequence[Deployment]] = {
            decoder.spec_of(venue).name: decoder.spec_of(venue).deployments
            for venue in decoder.venues()
        }

    def ask(self, batch: Sequence[Wanted], tally: Tally) -> tuple[list[SeenCode], list[SeenOwner]]:
        """What the accounts are, and whose, with what is found of their owners."""
        codes: dict[_Spot, Code] = {}
        owners: list[SeenOwner] = []
        new = {spot for one in batch for spot in self._spots(one)}
        for hop in range(MOST_HOPS):
            told = self._codes(new, tally)
            codes |= told
            asked = [ask for spot in told for ask in self._of_address(spot, told[spot])]
            if hop == 0:
                asked += [ask for one in batch for ask in self._of_venue(one, told)]
            found = self._owners(asked, tally)
            owners += found
            new = {spot for seen in found for spot in _owner_of(seen)} - set(codes)
        self._count(batch, codes, owners, tally)
        return [SeenCode(*spot, code) for spot, code in codes.items()], owners

    def _spots(self, one: Wanted) -> Iterator[_Spot]:
        for account in {one.account, *one.owners}:
            if is_address(Held(self._chain, account)):
                yield _Spot(account, one.first)
                yield _Spot(account, self._now)

    def _codes(self, spots: Iterable[_Spot], tally: Tally) -> dict[_Spot, Code]:
        ordered = sorted(spots, key=lambda spot: (spot.account, spot.block.number))
        return self._told(
            {spot: _Inquiry(spot.account, spot.block, code_at(spot.account)) for spot in ordered},
            tally,
        )

    def _of_address(self, spot: _Spot, code: Code) -> Iterator[_Ask]:
        """Ways for whatever stands at an address."""
        held = Held(self._chain, spot.account, code=code)
        for way in self._ways:
            if way.protocol is None and not way.before and self._can(way, held):
                yield _Ask(way, self._chain, held, spot.block)

    def _of_venue(self, one: Wanted, codes: Mapping[_Spot, Code]) -> Iterator[_Ask]:
        """Ways for accounts of a protocol, where no liquidation names the owner."""
        if one.owners:
            return
        before = self._before(one.last)
        for way in self._ways:
            if way.protocol in (None, self._protocol_of.get(one.venue)) and (
                way.protocol is not None or way.before
            ):
                for block in (before,) if way.before else (one.first, self._now):
                    code = codes.get(_Spot(one.account, block))
                    held = Held(self._chain, one.account, one.venue, one.market, code)
                    if self._can(way, held):
                        yield _Ask(way, one.venue, held, block)

    def _before(self, block: BlockRef) -> BlockRef:
        """The parent, its time not yet known."""
        return BlockRef(self._chain, block.number - 1, block.parent_hash, "", 0)

    def _can(self, way: Way, held: Held) -> bool:
        return way.is_for(held) and (not way.needs_voucher or bool(self._vouching(way)))

    def _vouching(self, way: Way) -> list[Deployment]:
        return way.vouching(self._chain, self._deployed)

    def _owners(self, asked: Sequence[_Ask], tally: Tally) -> list[SeenOwner]:
        asks = dict(enumerate(self._timed(asked)))
        told = self._told(
            {
                number: _Inquiry(
                    one.held.account, one.block, one.way.ask(one.held, self._vouching(one.way))
                )
                for number, one in asks.items()
            },
            tally,
        )
        found: list[SeenOwner] = []
        for number, answer in told.items():
            one = asks[number]
            account = one.held.account
            if isinstance(answer, Unreadable):
                reason = f"{one.way.method}: {answer.reason}"
                tally.unreadable[reason] += 1
                tally.example.setdefault(reason, account)
            else:
                found.append(SeenOwner(account, one.venue, one.way.method, one.block, answer))
        return found

    def _timed(self, asked: Sequence[_Ask]) -> list[_Ask]:
        """The blocks before liquidations, as headers tell them."""
        numbers = sorted({one.block.number for one in asked if not one.block.time})
        headers = {block.number: block for block in self._source.headers(numbers)}
        return [one._replace(block=headers.get(one.block.number, one.block)) for one in asked]

    def _told(self, asked: Mapping[K, "_Inquiry[R]"], tally: Tally) -> dict[K, R]:
        """What came of those whose block somebody has the state of."""
        reader = _Reader(self._source)
        found = inquire(
            {key: _at(one.block, one.asking) for key, one in asked.items()}, reader.answers
        )
        told: dict[K, R] = {}
        for key, one in asked.items():
            if one.block in reader.absent:
                tally.untold.add(one.account)
            else:
                tally.told.add(one.account)
                told[key] = found[key]
        return told

    def _count(
        self,
        batch: Sequence[Wanted],
        codes: Mapping[_Spot, Code],
        owners: Iterable[SeenOwner],
        tally: Tally,
    ) -> None:
        accounts = {one.account for one in batch}
        tally.asked += len(accounts)
        for account in accounts:
            if (code := codes.get(_Spot(account, self._now))) is not None:
                tally.kinds[code.kind] += 1
        owned = {(one.account, one.method) for one in owners if isinstance(one.answer, Owned)}
        tally.owned.update(method for _, method in owned)


def _owner_of(seen: SeenOwner) -> Iterator[_Spot]:
    if isinstance(seen.answer, Owned) and seen.answer.owner is not None:
        yield _Spot(seen.answer.owner, seen.block)


class _Reader:
    """Answers questions about several blocks. `absent` are those whose state nobody has: what came
    of their questions means nothing."""

    def __init__(self, source: EvmSource) -> None:
        self._source = source
        self.absent: set[BlockRef] = set()

    def answers(self, asked: Sequence[_At]) -> list[CallResult]:
        """In order."""
        found = {**self._states(asked), **self._calls(asked)}
        return [found[at] for at in asked]

    def _states(self, asked: Sequence[_At]) -> dict[_At, CallResult]:
        places = {}
        for at in asked:
            match at.question:
                case CodeOf(address):
                    places[at] = Place(at.block, address)
                case SlotOf(address, slot):
                    places[at] = Place(at.block, address, slot)
                case EthCall():
                    pass
        states = states_at(self._source, list(places.values()))
        return {
            at: self._known(at.block, None if state is None else [CallResult(True, state)], 0)
            for at, state in zip(places, states, strict=True)
        }

    def _calls(self, asked: Sequence[_At]) -> dict[_At, CallResult]:
        by_block: dict[BlockRef, list[EthCall]] = {}
        for at in asked:
            if isinstance(at.question, EthCall):
                by_block.setdefault(at.block, []).append(at.question)
        answers = self._source.call_many_at(
            [evm_calls.Question(block, calls) for block, calls in by_block.items()]
        )
        return {
            _At(block, call): self._known(block, results, place)
            for (block, calls), results in zip(by_block.items(), answers, strict=True)
            for place, call in enumerate(calls)
        }

    def _known(
        self, block: BlockRef, results: Sequence[CallResult] | None, place: int
    ) -> CallResult:
        if results is None:
            self.absent.add(block)
            return NOTHING
        return results[place]


def _at(block: BlockRef, asking: Asking[R]) -> Generator[Sequence[_At], Sequence[CallResult], R]:
    """The same questions, all of them at one block."""
    try:
        questions = next(asking)
        while True:
            results = yield [_At(block, question) for question in questions]
            questions = asking.send(results)
    except StopIteration as end:
        returned: R = end.value
        return returned
