"""Many calls in one: Multicall3's aggregate3, encoded and read. Pure.

https://github.com/mds1/multicall: aggregate3((address target, bool allowFailure, bytes callData)[])
returns ((bool success, bytes returnData)[])."""

from collections.abc import Sequence

from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError
from eth_hash.auto import keccak

from indexer.evm_model import CallResult, EthCall
from indexer.sources.rpc import Untrue

_SELECTOR = keccak(b"aggregate3((address,bool,bytes)[])")[:4]


REVERTED = CallResult(is_ok=False, data=b"")


def encoded(calls: Sequence[EthCall]) -> str:
    """The call data that asks all of these."""
    asked = [(call.to, True, bytes.fromhex(call.data[2:])) for call in calls]
    return "0x" + (_SELECTOR + encode(["(address,bool,bytes)[]"], [asked])).hex()


def results(returned: bytes, calls: int) -> list[CallResult]:
    """What each call returned; raises Untrue where it is not one result a call."""
    try:
        (pairs,) = decode(["(bool,bytes)[]"], returned)
    except DecodingError:
        pairs = ()
    if len(pairs) != calls:
        raise Untrue("Multicall3 did not return one result a call")
    return [CallResult(is_ok=is_ok, data=data) for is_ok, data in pairs]
