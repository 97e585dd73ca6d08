"""Many questions to a chain at once: each goes on as soon as its own calls are answered. Pure."""

from collections.abc import Callable, Generator, Hashable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from indexer.evm_model import CallResult, Dialogue, EthCall, R

K = TypeVar("K")
C = TypeVar("C", bound=Hashable)  # EthCall, or CallAt where the questions are about several blocks


class CallAt(NamedTuple):
    """A call and the height at whose end it is asked."""

    block_number: int
    call: EthCall


def inquire(
    inquiries: Mapping[K, Generator[Sequence[C], Sequence[CallResult], R]],
    call_many: Callable[[Sequence[C]], Sequence[CallResult]],
) -> dict[K, R]:
    """What each returns. All calls of a round go out as one, a call that several want only once.

    Raises ValueError when `call_many` does not give one result a call."""
    answers: dict[K, R] = {}
    waiting: dict[K, Sequence[C]] = {}

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


def at_block(
    block_number: int, dialogue: Dialogue[R]
) -> Generator[Sequence[CallAt], Sequence[CallResult], R]:
    """The same dialogue, all of its calls at one height."""
    try:
        calls = next(dialogue)
        while True:
            results = yield [CallAt(block_number, call) for call in calls]
            calls = dialogue.send(results)
    except StopIteration as end:
        returned: R = end.value
        return returned
