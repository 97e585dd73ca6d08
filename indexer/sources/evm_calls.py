"""What contracts answer one endpoint, many calls in one request through Multicall3."""

from collections.abc import Sequence
from typing import Any

import msgspec

from indexer.evm_model import BlockRef, CallResult, EthCall
from indexer.sources import multicall
from indexer.sources.chains import MULTICALL3
from indexer.sources.endpoints import Endpoint
from indexer.sources.evm_headers import kept
from indexer.sources.rpc import Call, Fault, Refused, TooLarge, Untrue
from indexer.sources.wire import TEXT, read


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
    params = {"to": MULTICALL3, "data": multicall.encoded(calls)}
    try:
        returned = _bytes(endpoint.call(Call("eth_call", (params, at))))
    except (Refused, TooLarge) as fault:
        if isinstance(fault, Refused) and fault.kind == "other":
            raise
        half = len(calls) // 2
        return [*called(endpoint, calls[:half], at), *called(endpoint, calls[half:], at)]
    if not returned:  # no contract there, at this block
        return _called_singly(endpoint, calls, at)
    results = multicall.results(returned, len(calls))
    failed = [place for place, result in enumerate(results) if not result.is_ok]
    again = _called_singly(endpoint, [calls[place] for place in failed], at)
    for place, result in zip(failed, again, strict=True):
        results[place] = result
    return results


def _called_singly(endpoint: Endpoint, calls: Sequence[EthCall], at: Any) -> list[CallResult]:
    asked = [Call("eth_call", ({"to": call.to, "data": call.data}, at)) for call in calls]
    return [_call_result(raw) for raw in endpoint.batch(asked)]


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
