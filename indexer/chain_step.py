"""What the logs of some blocks become: rows, facts, and what waits for a fact. Pure."""

from collections import ChainMap
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain, groupby
from operator import attrgetter
from typing import Any, NamedTuple

from indexer.decode import Decoder
from indexer.evm_model import (
    EMITTER_FACT,
    RECEIPT_FACT,
    TRANSACTION_FACT,
    ChainRow,
    Decoded,
    Dismissed,
    Fact,
    FactKey,
    Learnt,
    LendingLiquidation,
    Log,
    MissingFact,
    PerpLiquidation,
    Quarantined,
    Sent,
    UndecodedLog,
)

_of_transaction = attrgetter("tx_hash")
_OF_SOURCE = (RECEIPT_FACT, TRANSACTION_FACT)  # what no contract is asked for


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
        calls: Mapping[FactKey, str | None] | None = None,
    ) -> None:
        self._known = known
        self._whole = dict(whole or {})
        self._calls = dict(calls or {})  # not among the facts of `known`: they are of one step
        self._logs = {tx: list(group) for tx, group in groupby(logs, _of_transaction)}
        self._outcomes: dict[str, list[Decoded]] = {}
        self._asked: list[tuple[Fact, Log | None]] = []
        self._decode(self._logs)

    def _decode(self, transactions: Iterable[str]) -> None:
        known, transaction = self._known, self._known.decoder.transaction
        venues = known.venues
        facts: Any = ChainMap(self._calls, known.facts) if self._calls else known.facts
        for tx_hash in transactions:
            whole = self._whole.get(tx_hash)
            found = transaction(
                self._logs[tx_hash] if whole is None else whole,
                facts,
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
        venues = {
            venue
            for venue in {row.venue for row in rows}
            if (spec := spec_of(venue)).bystander is not None and not spec.asks_for_bystander
        }
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

    def wants_calls(self) -> dict[str, Log]:
        """Transactions of which a join wants to know what they are, with a log of each."""
        return {
            one.log.tx_hash: one.log
            for one in self.undecoded()
            if one.missing is not None and one.missing.fact == TRANSACTION_FACT
        }

    def read_calls(self, sent: Mapping[str, Sent]) -> None:
        """Take what some transactions are and decode those again."""
        logs = self.wants_calls()
        facts = [(sent[tx_hash].fact(logs[tx_hash]), logs[tx_hash]) for tx_hash in sent]
        self._calls |= {fact.key: fact.value for fact, _ in facts}
        self._asked += facts
        self._decode(sent)

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
        self._asked += [(fact, None) for fact in facts]
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
        """New facts, with the log that taught each or of whose transaction it is; None where
        contracts were asked."""
        taught: list[tuple[Fact, Log | None]] = [
            (fact, one.log) for one in self._all() if isinstance(one, Learnt) for fact in one.facts
        ]
        return taught + self._asked

    def raw(self) -> list[RawLog]:
        """The logs to keep: of our venues unless dismissed, quarantined, or beside those in a whole
        transaction."""
        return list(self._raw())

    def _raw(self) -> Iterator[RawLog]:
        facts, venues = self._known.facts, self._known.venues
        venue_of = self._known.decoder.venue_of
        foreign = {one.log.event_key for one in self.quarantined()}
        dismissed = {one.log.event_key for one in self._all() if isinstance(one, Dismissed)}
        for tx_hash, logs in self._logs.items():
            whole = self._whole.get(tx_hash)
            found: list[RawLog] = []
            has_ours = False
            for log in logs if whole is None else whole:
                venue = None if log.event_key in dismissed else venue_of(log, facts)
                is_ours = venue in venues
                has_ours = has_ours or is_ours or log.event_key in foreign
                if is_ours or whole is not None or log.event_key in foreign:
                    found.append(RawLog(log, venue if is_ours else None, whole is not None))
            if has_ours:
                yield from found


Question = tuple[MissingFact, tuple[str, ...]]  # with the protocols that may know how to ask


def _waits(outcomes: Iterable[Decoded]) -> Iterator[Question]:
    for one in outcomes:
        match one:
            case UndecodedLog(missing=MissingFact() as fact) if fact.fact not in _OF_SOURCE:
                yield fact, (one.venue,)
            case Quarantined():
                emitter = MissingFact(one.log.chain, EMITTER_FACT, one.log.address)
                yield emitter, one.looks_like
