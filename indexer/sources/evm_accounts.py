"""The code at addresses, and words of their storage, at several blocks in one request."""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from indexer.evm_model import BlockRef
from indexer.sources.endpoints import BULK, TIP, BlockUnknown, Endpoint, NotServed
from indexer.sources.evm import EvmSource
from indexer.sources.evm_calls import block_param
from indexer.sources.evm_headers import kept
from indexer.sources.rpc import Call, Fault, Missing, Untrue
from indexer.sources.wire import TEXT, read

WORD_BYTES = 32


class Place(NamedTuple):
    """The code at an address (`slot` None), or a word of its storage, at the end of a block."""

    block: BlockRef
    address: str
    slot: int | None = None


def states_at(source: EvmSource, places: Sequence[Place]) -> list[bytes | None]:
    """What stands at each place, in order. None where every endpoint says that it does not have the
    state at that block: there is no archive, or the block is orphaned. Raises NoAnswer."""
    found: dict[int, bytes] = {}
    left = _with_state(source, places)

    def ask(endpoint: Endpoint) -> list[bytes | Missing]:
        raws = endpoint.batch([_call(places[number]) for number in left])
        return [
            raw if isinstance(raw, Missing) else _bytes(raw, places[number])
            for number, raw in zip(left, raws, strict=True)
        ]

    def ask_for_all(endpoint: Endpoint) -> list[bytes | Missing]:
        answers = ask(endpoint)
        for answer in answers:
            if isinstance(answer, Missing):
                raise answer
        return answers

    # what the cheapest endpoint lacks is asked of one that has all of it
    for asking, patience in ((ask, BULK), (ask_for_all, TIP)):
        if not left:
            break
        try:
            answers = source.endpoints.ask(f"the state of {len(left)} accounts", asking, patience)
        except (BlockUnknown, NotServed):
            break
        told = zip(left, answers, strict=True)
        found |= {number: answer for number, answer in told if isinstance(answer, bytes)}
        left = [number for number in left if number not in found]
    return [found.get(number) for number in range(len(places))]


def _with_state(source: EvmSource, places: Sequence[Place]) -> list[int]:
    """Those that are about blocks whose state the chain's nodes keep."""
    if source.profile.serves_old_state:
        return list(range(len(places)))
    oldest = source.head().number - source.profile.depth
    return [number for number, place in enumerate(places) if place.block.number >= oldest]


def _call(place: Place) -> Call:
    at = block_param(place.block)
    if place.slot is None:
        return Call("eth_getCode", (place.address, at))
    return Call("eth_getStorageAt", (place.address, hex(place.slot), at))


def _bytes(raw: msgspec.Raw | Fault, place: Place) -> bytes:
    """A word is 32 bytes whatever zeros the node leaves out."""
    text = read(TEXT, kept(raw)).removeprefix("0x")
    if place.slot is not None:
        text = text.rjust(2 * WORD_BYTES, "0")
    try:
        found = bytes.fromhex(text)
    except ValueError:
        raise Untrue("the state is no hexadecimal text") from None
    if place.slot is not None and len(found) != WORD_BYTES:
        raise Untrue("a word of storage of more than 32 bytes")
    return found
