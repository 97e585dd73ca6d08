"""What one endpoint says of blocks, each answer checked by itself and against what was asked; and
logs against the blocks that they say they are of."""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from indexer.evm_model import BlockRef, Log, LogFilter
from indexer.sources.chains import ChainProfile
from indexer.sources.endpoints import Endpoint
from indexer.sources.genuine import check_genuine
from indexer.sources.rpc import Call, Clock, Fault, Untrue
from indexer.sources.wire import (
    HEADER,
    Header,
    Logs,
    WireLog,
    check_header,
    check_links,
    check_logs,
    quantity,
    read_block,
)


class Headers:
    """The blocks of a chain as single endpoints have them; every method raises a Fault."""

    def __init__(self, profile: ChainProfile, clock: Clock) -> None:
        self._profile = profile
        self._clock = clock

    def tagged(self, endpoint: Endpoint, tag: str) -> BlockRef:
        """The block that a tag stands for now."""
        raw = endpoint.call(Call("eth_getBlockByNumber", (tag, False)))
        return self.checked(raw, tag).ref(self._profile.name)

    def refs(self, endpoint: Endpoint, numbers: Sequence[int]) -> list[BlockRef]:
        """The blocks at some heights; neighbours are linked by their hashes."""
        refs = [header.ref(self._profile.name) for header in self.numbered(endpoint, numbers)]
        check_links(refs)
        return refs

    def numbered(self, endpoint: Endpoint, numbers: Sequence[int]) -> list[Header]:
        """The headers at some heights."""
        calls = [Call("eth_getBlockByNumber", (hex(number), False)) for number in numbers]
        raws = endpoint.batch(calls)
        return [self.checked(kept(raw), number) for raw, number in zip(raws, numbers, strict=True)]

    def checked(self, raw: msgspec.Raw, asked: int | str) -> Header:
        """A header that can be right, and is the one that was asked for by number, hash or tag.

        Its fields must hash to its hash where that can be told: a forged one would carry its time
        and its parent into our rows."""
        header = read_block(HEADER, raw, f"block {asked}")
        check_header(header, utc=self._clock.utc(), future_seconds=self._profile.future_seconds)
        is_asked = quantity(header.number) == asked or header.hash.lower() == asked
        if not is_asked and asked not in ("latest", self._profile.finality):
            raise Untrue(f"another block than {asked}")
        if self._profile.has_ethereum_headers:
            check_genuine(header, raw)
        return header


def kept(raw: msgspec.Raw | Fault) -> msgspec.Raw:
    """One result of a batch; raises the fault that came in its place."""
    if isinstance(raw, Fault):
        raise raw
    return raw


def logs_in(block: BlockRef, sent: Iterable[WireLog], wanted: LogFilter | None) -> list[Log]:
    """The logs of one block, if each can be right."""
    found = check_logs(sent, block.chain, wanted, block.number, block.number + 1)
    check_hashes(found, {block.number: block})
    return found.logs


def check_hashes(found: Logs, seen: Mapping[int, BlockRef]) -> None:
    """Refuse logs of other blocks than those that we have seen."""
    for number, block in seen.items():
        if found.hashes.get(number, block.hash) != block.hash:
            raise Untrue(f"logs of another block {number} than its header")
