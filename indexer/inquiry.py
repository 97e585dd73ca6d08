"""Many questions to a chain at once: each goes on as soon as its own calls are answered. Pure."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from indexer.evm_model import CallResult, Dialogue, EthCall, R

K = TypeVar("K")
CallMany = Callable[[Sequence[EthCall]], Sequence[CallResult]]


def inquire(inquiries: Mapping[K, Dialogue[R]], call_many: CallMany) -> dict[K, R]:
    """What each returns. All calls of a round go out as one, a call that several want only once.

    Raises ValueError when `call_many` does not give one result a call."""
    answers: dict[K, R] = {}
    waiting: dict[K, Sequence[EthCall]] = {}

    def go_on(key: K, results: Sequence[CallResult] | None) -> None:
        inquiry = inquiries[key]
        try:
            waiting[key] = next(inquiry) if results is None else inquiry.send(results)
        except StopIteration as end:
            waiting.pop(key, None)
            answers[key] = end.value

    for key in inquiries:
        go_on(key, None)
    while waiting:
        calls = list(dict.fromkeys(call for wanted in waiting.values() for call in wanted))
        results = dict(zip(calls, call_many(calls) if calls else (), strict=True))
        for key, wanted in list(waiting.items()):
            go_on(key, [results[call] for call in wanted])
    return answers
