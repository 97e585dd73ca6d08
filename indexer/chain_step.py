"""What the logs of some blocks become: rows, facts, and what waits for a fact. Pure."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain, groupby
from operator import attrgetter
from typing import NamedTuple

from indexer.decode import Decoder
from indexer.evm_model import (
    EMITTER_FACT,
    RECEIPT_FACT,
    ChainRow,
    Decoded,
    Fact,
    FactKey,
    Learnt,
    LendingLiquidation,
    Log,
    MissingFact,
    PerpLiquidation,
    Quarantined,
    UndecodedLog,
)

_of_transaction = attrgetter("tx_hash")


class RawLog(NamedTuple):
    """A log to keep: whose event it is, and whether all logs of its transaction are kept."""

    log: Log
    venue: str | None
    is_whole: bool


class Knowledge:
    """All that decoding some venues of a chain needs to know; facts are learnt as logs teach them.

    What is learnt here is not yet stored: after a failed write it must be made anew."""

    def __init__(
        self, decoder: Decoder, venues: Collection[str], facts: Mapping[FactKey, str | None]
    ) -> None:
        self.decoder = decoder
        self.venues = frozenset(venues)
        self.facts: dict[FactKey, str | None] = {**decoder.known_facts, **facts}

    def learn(self, facts: Iterable[Fact]) -> None:
        """Know facts from now on."""
        self.facts |= {fact.key: fact.value for fact in facts}


class ChainStep:
    """Logs of some blocks in the making: transactions are decoded, and again when a fact or the
    rest of a transaction arrives."""

    def __init__(
        self,
        known: Knowledge,
        logs: Sequence[Log],
        whole: Mapping[str, Sequence[Log]] | None = None,
    ) -> None:
        self._known = known
        self._whole = dict(whole or {})
        self._logs = {tx: list(group) for tx, group in groupby(logs, _of_transaction)}
        self._outcomes: dict[str, list[Decoded]] = {}
        self._asked: list[Fact] = []
        self._decode(self._logs)

    def _decode(self, transactions: Iterable[str]) -> None:
        known, transaction = self._known, self._known.decoder.transaction
        venues = known.venues
        for tx_hash in transactions:
            whole = self._whole.get(tx_hash)
            found = transaction(
                self._logs[tx_hash] if whole is None else whole,
                known.facts,
                is_whole=whole is not None,
            )
            # quarantine is everybody's
            ours = [one for one in found if isinstance(one, Quarantined) or one.venue in venues]
            self._outcomes[tx_hash] = ours
            for outcome in ours:
                if isinstance(outcome, Learnt):
                    known.learn(outcome.facts)

    # what is missing, and its arrival

    def wants_receipts(self) -> dict[str, Sequence[Log]]:
        """Transactions whose other logs a row wants, with those that are known."""
        rows, spec_of = self.liquidations(), self._known.decoder.spec_of
        venues = {one for one in {row.venue for row in rows} if spec_of(one).bystander is not None}
        wanted = [row.tx_hash for row in rows if row.venue in venues]
        wanted += [
            one.log.tx_hash
            for one in self.undecoded()
            if one.missing is not None and one.missing.fact == RECEIPT_FACT
        ]
        return {tx_hash: self._logs[tx_hash] for tx_hash in wanted if tx_hash not in self._whole}

    def complete(self, whole: Mapping[str, Sequence[Log]]) -> None:
        """Take all logs of some transactions and decode those again."""
        self._whole |= whole
        self._decode(whole)

    def questions(self) -> dict[MissingFact, tuple[str, ...]]:
        """Facts that events wait for, each with the protocols that may know how to ask."""
        known = self._known.facts
        return {
            fact: asked
            for fact, asked in _waits(self._all())
            if (fact.chain, fact.fact, fact.subject) not in known
        }

    def learn(self, facts: Sequence[Fact]) -> None:
        """Take facts that the chain was asked for and decode again what waits for one."""
        self._known.learn(facts)
        self._asked += facts
        news = {MissingFact(*fact.key) for fact in facts}
        waiting = [
            tx_hash
            for tx_hash, outcomes in self._outcomes.items()
            if any(question in news for question, _ in _waits(outcomes))
        ]
        self._decode(waiting)

    # what became of it

    def _all(self) -> Iterator[Decoded]:
        return chain.from_iterable(self._outcomes.values())

    def liquidations(self) -> list[ChainRow]:
        """The rows, in the order of their blocks."""
        return [one for one in self._all() if isinstance(one, LendingLiquidation | PerpLiquidation)]

    def undecoded(self) -> list[UndecodedLog]:
        """Events that are no row yet."""
        return [one for one in self._all() if isinstance(one, UndecodedLog)]

    def quarantined(self) -> list[Quarantined]:
        """Liquidation events by unknown contracts."""
        return [one for one in self._all() if isinstance(one, Quarantined)]

    def learnt(self) -> list[tuple[Fact, Log | None]]:
        """New facts, with the log that taught each; None where the chain was asked."""
        taught: list[tuple[Fact, Log | None]] = [
            (fact, one.log) for one in self._all() if isinstance(one, Learnt) for fact in one.facts
        ]
        return taught + [(fact, None) for fact in self._asked]

    def raw(self) -> list[RawLog]:
        """The logs to keep: of our venues, quarantined, or beside ours in a whole transaction."""
        return list(self._raw())

    def _raw(self) -> Iterator[RawLog]:
        facts, venues = self._known.facts, self._known.venues
        venue_of = self._known.decoder.venue_of
        foreign = {one.log.event_key for one in self.quarantined()}
        for tx_hash, logs in self._logs.items():
            whole = self._whole.get(tx_hash)
            for log in logs if whole is None else whole:
                venue = venue_of(log, facts)
                if venue in venues:
                    yield RawLog(log, venue, whole is not None)
                elif whole is not None or log.event_key in foreign:
                    yield RawLog(log, None, whole is not None)


Question = tuple[MissingFact, tuple[str, ...]]  # with the protocols that may know how to ask


def _waits(outcomes: Iterable[Decoded]) -> Iterator[Question]:
    for one in outcomes:
        match one:
            case UndecodedLog(missing=MissingFact() as fact) if fact.fact != RECEIPT_FACT:
                yield fact, (one.venue,)
            case Quarantined():
                emitter = MissingFact(one.log.chain, EMITTER_FACT, one.log.address)
                yield emitter, one.looks_like
