"""Asks what accounts owed at the end of the block before they were liquidated: their pool, its
oracle for the unit, and where that is no dollar, a reference oracle of the chain for its price.

What cannot be right is stored with the reason. What no endpoint keeps is not stored at all: it is
wanted again next time, of an archive."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import islice
from typing import NamedTuple

from indexer.abi_calls import call
from indexer.decode import Decoder
from indexer.evm_model import USD, BlockRef, CallResult, Deployment, Dialogue, Quote, Subject
from indexer.inquiry import CallAt, at_block, inquire
from indexer.model import EXACT
from indexer.oracles import decimals_of, followed
from indexer.positions import LENDERS, AccountState, Unit, loan_of, unit_of
from indexer.pricing import references
from indexer.sources.evm import EvmSource
from indexer.sources.evm_calls import Question
from indexer.store import debts as store
from indexer.store.database import Connection
from indexer.store.debts import Debt, Told, Wanted

AT_ONCE = 200
REFERENCE = "aave_v3"  # the protocol whose oracles are asked for dollar prices

SILENT = "the pool does not tell"
NO_UNIT = "nobody states the unit of the pool's oracle"
NO_DOLLARS = "no oracle of the chain has a dollar price of the unit"
# not stored
NO_STATE = "no endpoint keeps the state of the block"
REPLACED = "the chain has another block there"

_REVERTED = CallResult(is_ok=False, data=b"")


class Tally:
    """How many debts were asked for and told; of those that failed, how many for which reason, and
    an account as an example of each."""

    def __init__(self) -> None:
        self.asked = 0
        self.told = 0
        self.failed: Counter[str] = Counter()
        self.example: dict[str, str] = {}

    def fail(self, reason: str, *those: Wanted) -> None:
        """Count them."""
        if those:
            self.failed[reason] += len(those)
            self.example.setdefault(reason, those[0].account)


def tells(decoder: Decoder, venue: str) -> bool:
    """Whether the pools of a venue tell what an account owes."""
    return decoder.spec_of(venue).name in LENDERS


def fill(
    connection: Connection,
    source: EvmSource,
    decoder: Decoder,
    venues: Sequence[str],
    min_usd: Decimal,
    *,
    again: bool = False,
) -> Tally:
    """Ask about liquidations of at least `min_usd` on some venues of a chain and store it, batch by
    batch, the newest first. Raises SourceFault; what was stored before stays."""
    chain, tally = source.profile.name, Tally()
    asker = _Asker(source, decoder)
    is_gone = False
    for batch in _batches(store.wanted(connection, chain, venues, min_usd, again=again)):
        tally.asked += len(batch)
        if is_gone:
            tally.fail(NO_STATE, *batch)
            continue
        before = tally.failed[NO_STATE]
        store.append(connection, asker.ask(batch, tally))
        # a state that is away stays away, and so do all before it
        is_gone = tally.failed[NO_STATE] - before == len(batch)
    return tally


def _batches(found: Iterator[Wanted]) -> Iterator[list[Wanted]]:
    while batch := list(islice(found, AT_ONCE)):
        yield batch


class _Answer(NamedTuple):
    """What a pool said of an account, the unit that it counts in, and what that rests on."""

    state: AccountState | None
    unit: Unit | None
    unit_usd: Decimal | None
    via: tuple[str, ...]


class _Asker:
    """Asks about batches of accounts on one chain."""

    def __init__(self, source: EvmSource, decoder: Decoder) -> None:
        self._source = source
        self._chain = source.profile.name
        self._provider = {
            venue: LENDERS[decoder.spec_of(venue).name]
            for venue in decoder.venues()
            if tells(decoder, venue)
        }
        spec = decoder.spec_of(f"{REFERENCE}.{self._chain}")
        self._oracle = spec.oracle
        self._deployed = [one for one in spec.deployments if one.chain == self._chain]
        self._pools = references(spec.deployments, self._chain)

    def ask(self, batch: Sequence[Wanted], tally: Tally) -> list[Told]:
        """What is to be stored; all else is counted."""
        numbers = sorted({one.block_number for one in batch})
        blocks = {block.number: block for block in self._source.headers(numbers)}
        standing = [one for one in batch if one.block_hash in ("", blocks[one.block_number].hash)]
        tally.fail(REPLACED, *(one for one in batch if one not in set(standing)))
        state = _State(self._source, blocks)
        answers = inquire(
            {
                one: at_block(one.block_number, self._asked(one, blocks[one.block_number]))
                for one in standing
            },
            state.call_many,
        )
        tally.fail(NO_STATE, *(one for one in standing if one.block_number in state.absent))
        told = [
            _told(one, blocks[one.block_number], answers[one])
            for one in standing
            if one.block_number not in state.absent
        ]
        for one in told:
            if one.reason is None:
                tally.told += 1
            else:
                tally.fail(one.reason, one.wanted)
        return told

    def _asked(self, one: Wanted, block: BlockRef) -> Dialogue[_Answer]:
        provider = self._provider[one.venue]
        way = yield from followed(one.market, provider, "getPriceOracle()")
        unit = yield from unit_of(self._chain, one.market, provider)
        state = yield from loan_of(one.venue, one.market, one.account, unit, block)
        oracle = way[-1:] if isinstance(way, tuple) else ()
        if unit is None or unit.quote == USD:
            return _Answer(state, unit, None if unit is None else Decimal(1), oracle)
        usd, via = yield from self._dollars(unit.quote)
        return _Answer(state, unit, usd, (*oracle, *via))

    def _dollars(self, token: str) -> Dialogue[tuple[Decimal | None, tuple[str, ...]]]:
        """What one whole token is worth, as the first reference says that knows it, and who was
        asked."""
        (stated,) = yield [call(token, "decimals()")]
        decimals = decimals_of(stated)
        if isinstance(decimals, int):
            for pool in self._pools:
                quote = yield from self._quoted(pool, token)
                if quote is not None:
                    return EXACT.multiply(quote.per_unit, Decimal(10**decimals)), quote.via
        return None, ()

    def _quoted(self, pool: Deployment, token: str) -> Dialogue[Quote | None]:
        if self._oracle is None:
            return None
        address = pool.address.lower()
        subject = Subject(self._chain, address, token, address)
        quote = yield from self._oracle(subject, self._deployed)
        return quote if isinstance(quote, Quote) and quote.unit == USD else None


def _told(one: Wanted, block: BlockRef, answer: _Answer) -> Told:
    state, unit, usd, via = answer
    if state is None:
        return Told(one, block, None, SILENT)
    if unit is None:
        return Told(one, block, None, NO_UNIT)
    (loan,) = state.positions or (None,)
    if loan is None:
        debt = Debt(Decimal(0), state.equity, None, None, unit.quote, usd, via)
    else:
        owed = loan.debt or Decimal(0)
        debt = Debt(
            owed, loan.value, loan.health_factor, loan.liquidation_threshold, unit.quote, usd, via
        )
    return Told(one, block, debt, NO_DOLLARS if usd is None else None)


class _State:
    """Calls at several blocks; those whose state nobody keeps are `absent` afterwards."""

    def __init__(self, source: EvmSource, blocks: Mapping[int, BlockRef]) -> None:
        self._source = source
        self._blocks = blocks
        self.absent: set[int] = set()

    def call_many(self, calls: Sequence[CallAt]) -> list[CallResult]:
        """What contracts answer; a revert where there is no state, which is not to be believed."""
        by_height: dict[int, list[CallAt]] = {}
        for one in calls:
            if one.block_number not in self.absent:
                by_height.setdefault(one.block_number, []).append(one)
        answers = self._source.call_many_at(
            [
                Question(self._blocks[height], [one.call for one in asked])
                for height, asked in by_height.items()
            ]
        )
        results: dict[CallAt, CallResult] = {}
        for (height, asked), answer in zip(by_height.items(), answers, strict=True):
            if answer is None:
                self.absent.add(height)
            else:
                results |= zip(asked, answer, strict=True)
        return [results.get(one, _REVERTED) for one in calls]
