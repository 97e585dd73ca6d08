"""What contracts answer one endpoint, many calls in one request through Multicall3."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from indexer.evm_model import BlockRef, CallResult, EthCall, Log, LogFilter
from indexer.sources import multicall
from indexer.sources.chains import MULTICALL3
from indexer.sources.endpoints import Endpoint
from indexer.sources.evm_headers import kept, logs_in
from indexer.sources.rpc import Call, Fault, Missing, Refused, TooLarge, Untrue
from indexer.sources.wire import LOGS, TEXT, WireLog, read

CALLS_AT_ONCE = 100  # in one aggregate3: at 50,000 gas each far below any node's call gas cap
CALLS_IN_A_REQUEST = 4_000  # of several blocks: 2 MB, where geth takes 5 (rpc/http.go)


def block_param(block: BlockRef | int) -> object:
    """A block as eth_call takes it: one that is known by its hash must be on the chain."""
    if isinstance(block, int):
        return hex(block)
    return {"blockHash": block.hash, "requireCanonical": True}  # EIP-1898


def called(endpoint: Endpoint, calls: Sequence[EthCall], at: Any) -> list[CallResult]:
    """One aggregate3 that runs out of gas is halved. What failed in company is asked alone:
    a hostile contract can use up the gas of the calls after it."""
    if len(calls) == 1:
        return _called_singly(endpoint, calls, at)
    try:
        returned = _bytes(endpoint.call(_aggregate(calls, at)))
    except (Refused, TooLarge) as fault:
        if isinstance(fault, Refused) and fault.kind == "other":
            raise
        return _halved(endpoint, calls, at)
    if not returned:  # no contract there, at this block
        return _called_singly(endpoint, calls, at)
    results = multicall.results(returned, len(calls))
    failed = [place for place, result in enumerate(results) if not result.is_ok]
    again = _called_singly(endpoint, [calls[place] for place in failed], at)
    for place, result in zip(failed, again, strict=True):
        results[place] = result
    return results


def _halved(endpoint: Endpoint, calls: Sequence[EthCall], at: Any) -> list[CallResult]:
    half = len(calls) // 2
    return [*called(endpoint, calls[:half], at), *called(endpoint, calls[half:], at)]


def _aggregate(calls: Sequence[EthCall], at: Any) -> Call:
    return Call("eth_call", ({"to": MULTICALL3, "data": multicall.encoded(calls)}, at))


def _single(call: EthCall, at: Any) -> Call:
    return Call("eth_call", ({"to": call.to, "data": call.data}, at))


def _called_singly(endpoint: Endpoint, calls: Sequence[EthCall], at: Any) -> list[CallResult]:
    return [_call_result(raw) for raw in endpoint.batch([_single(call, at) for call in calls])]


def _call_result(raw: msgspec.Raw | Fault) -> CallResult:
    """A revert is an answer, and so is running out of gas alone; any other fault is none."""
    if isinstance(raw, Refused) and raw.kind in ("reverted", "gas"):
        return multicall.REVERTED
    return CallResult(is_ok=True, data=_bytes(kept(raw)))


def _bytes(raw: msgspec.Raw) -> bytes:
    text = read(TEXT, raw)
    try:
        return bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        pass
    raise Untrue("a call returned no hexadecimal text")


# several blocks in one request


class Question(NamedTuple):
    """Calls at the end of one block."""

    block: BlockRef | int
    calls: Sequence[EthCall]


Answer = list[CallResult] | Missing  # Missing: this endpoint has no state at that block


class _Part(NamedTuple):
    """The calls of a question that one aggregate3 takes."""

    question: int
    at: Any
    calls: Sequence[EthCall]


def called_at(endpoint: Endpoint, questions: Sequence[Question]) -> list[Answer]:
    """As `called`, for several blocks: two requests in all unless gas runs out, the second for
    what failed in company."""
    answers: list[Answer] = []
    for some in _requests(questions):
        answers += _called_at(endpoint, some)
    return answers


def _requests(questions: Sequence[Question]) -> Iterator[Sequence[Question]]:
    some: list[Question] = []
    size = 0
    for question in questions:
        if some and size + len(question.calls) > CALLS_IN_A_REQUEST:
            yield some
            some, size = [], 0
        some.append(question)
        size += len(question.calls)
    if some:
        yield some


def _called_at(endpoint: Endpoint, questions: Sequence[Question]) -> list[Answer]:
    parts = [
        _Part(number, block_param(block), calls[at : at + CALLS_AT_ONCE])
        for number, (block, calls) in enumerate(questions)
        for at in range(0, len(calls), CALLS_AT_ONCE)
    ]
    raws = endpoint.batch(
        [
            _single(part.calls[0], part.at)
            if len(part.calls) == 1
            else _aggregate(part.calls, part.at)
            for part in parts
        ]
    )
    found = [_of_part(endpoint, part, raw) for part, raw in zip(parts, raws, strict=True)]
    _ask_alone(endpoint, parts, found)
    answers: list[Answer] = [[] for _ in questions]
    for part, results in zip(parts, found, strict=True):
        answer = answers[part.question]
        if isinstance(results, Missing):
            answers[part.question] = results
        elif isinstance(answer, list):
            answer += [result or multicall.REVERTED for result in results]
    return answers


def _of_part(
    endpoint: Endpoint, part: _Part, raw: msgspec.Raw | Fault
) -> list[CallResult | None] | Missing:
    """The results of a part; None where a call has to be asked alone."""
    if isinstance(raw, Missing):
        return raw
    if len(part.calls) == 1:
        return [_call_result(raw)]
    if isinstance(raw, TooLarge) or (isinstance(raw, Refused) and raw.kind != "other"):
        return [*_halved(endpoint, part.calls, part.at)]
    returned = _bytes(kept(raw))
    if not returned:
        return [None] * len(part.calls)
    results = multicall.results(returned, len(part.calls))
    return [result if result.is_ok else None for result in results]


def _ask_alone(
    endpoint: Endpoint, parts: Sequence[_Part], found: list[list[CallResult | None] | Missing]
) -> None:
    """Fill in what failed in the company of other calls, all of it in one request."""
    places = [
        (number, place)
        for number, results in enumerate(found)
        if not isinstance(results, Missing)
        for place, result in enumerate(results)
        if result is None
    ]
    if not places:
        return
    raws = endpoint.batch(
        [_single(parts[number].calls[place], parts[number].at) for number, place in places]
    )
    for (number, place), raw in zip(places, raws, strict=True):
        results = found[number]
        if isinstance(raw, Missing):
            found[number] = raw
        elif not isinstance(results, Missing):
            results[place] = _call_result(raw)


def logs_at(
    endpoint: Endpoint, blocks: Sequence[tuple[BlockRef, LogFilter]]
) -> list[tuple[Log, ...]]:
    """The wanted logs of single blocks by their hashes, all in one request."""
    calls = [
        Call(
            "eth_getLogs",
            (
                {
                    "blockHash": block.hash,
                    "address": sorted(wanted.addresses or ()),
                    "topics": [sorted(wanted.topics0)],
                },
            ),
        )
        for block, wanted in blocks
    ]
    raws = endpoint.batch(calls)
    found: list[tuple[Log, ...]] = []
    for (block, wanted), raw in zip(blocks, raws, strict=True):
        sent: list[WireLog] = read(LOGS, kept(raw))
        found.append(tuple(logs_in(block, sent, wanted)))
    return found
