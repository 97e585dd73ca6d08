"""How nodes fail and lie: by chance from a seed, or as a script says, and counted when they did."""

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Literal, TypeVar

T = TypeVar("T")

Fault = Literal[
    "dropped",  # the connection ends without an answer
    "http_500",
    "http_429",
    "truncated_json",
    "lagging_head",  # one to three blocks behind, and no word of them
    "stale_fork",  # the chain as it was before the last reorg
    "null_block",
    "wrong_block",  # another block than the one asked for
    "forged_block",  # another block's fields under the hash and number asked for
    "empty_logs",
    "partial_logs",  # only the first
    "duplicated_logs",
    "logs_of_another_block",
    "foreign_logs",  # of an emitter or topic that the filter excludes
    "removed_logs",  # with "removed": true
    "empty_for_unknown",  # [] for a hash that it does not know
    "null_receipts",
    "empty_receipts",  # no receipts at all
    "bare_receipts",  # receipts without their logs
    "partial_receipts",  # only the first
]

TRANSPORT: tuple[Fault, ...] = ("dropped", "http_500", "http_429", "truncated_json")
HEADS: tuple[Fault, ...] = ("lagging_head", "stale_fork")
BLOCKS: tuple[Fault, ...] = ("null_block", "wrong_block", "forged_block")
LOGS: tuple[Fault, ...] = (
    *("empty_logs", "partial_logs", "duplicated_logs", "logs_of_another_block"),
    *("foreign_logs", "removed_logs", "empty_for_unknown"),
)
RECEIPTS: tuple[Fault, ...] = (
    *("null_receipts", "empty_receipts", "bare_receipts", "partial_receipts"),
)
ALL = (*TRANSPORT, *HEADS, *BLOCKS, *LOGS, *RECEIPTS)


class Faults:
    """`chances` are probabilities, `script` faults to play one after the other, each at its first
    opportunity. `served` counts the answers that differed from the honest one.

    Leave RECEIPTS (or LOGS) out and there is one honest source of proof. May be changed while
    the node runs: `chances.clear()` makes it honest.
    """

    def __init__(
        self,
        chances: Mapping[Fault, float] | None = None,
        seed: int = 1,
        script: Iterable[Fault] = (),
    ) -> None:
        self.chances = dict(chances or {})
        self.script = list(script)
        self.served: Counter[Fault] = Counter()
        self.rng = random.Random(seed)
        self._lock = threading.RLock()

    def tell(self, fault: Fault, honest: T, lie: Callable[[], T]) -> T:
        """The lie if it is due and differs, else the honest answer."""
        with self._lock:
            is_next = self.script[:1] == [fault]
            if not is_next and self.rng.random() >= self.chances.get(fault, 0.0):
                return honest
            told = lie()
            if told == honest:
                return honest
            self.served[fault] += 1
            del self.script[: int(is_next)]
            return told

    def tell_one(self, honest: T, lies: Mapping[Fault, Callable[[], T]]) -> T:
        """At most one of several lies about the same thing."""
        for fault, lie in lies.items():
            if (told := self.tell(fault, honest, lie)) is not honest:
                return told
        return honest


def every(chance: float, *groups: Iterable[Fault]) -> dict[Fault, float]:
    """The same chance for all faults of some groups."""
    return {fault: chance for group in groups for fault in group}
