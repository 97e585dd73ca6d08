"""Fills that come one by one or as `[user, fill]` tuples, put in the place of the block that their
hash names. What they come from may leave out others of the same block, so nothing is covered."""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

from indexer.hyperliquid_format import block_in_hash, utc_of_ms
from indexer.model import BlockLine

_ADDRESS = re.compile("0x[0-9a-fA-F]{40}")
_FIRST_MS = 1_672_531_200_000  # 2023: block 901 of the chain is of 26 February of that year


class Told(NamedTuple):
    """A fill to the byte, and whose it is."""

    user: str
    fill: bytes


class Head(msgspec.Struct):
    """What places a fill. Without a coin, a price and a side it is none."""

    coin: str
    px: str
    side: str
    time: int
    hash: str | None = None


_HEAD = msgspec.json.Decoder(Head)


def head_of(told: Told) -> Head:
    """The place of a fill; raises ValueError where it has none that can be right."""
    try:
        head = _HEAD.decode(told.fill)
    except msgspec.MsgspecError as error:
        raise ValueError(f"not a fill: {error}") from None
    if _ADDRESS.fullmatch(told.user) is None:
        raise ValueError(f"a fill of {told.user[:50]!r}, which is no address")
    if head.time < _FIRST_MS:
        raise ValueError(f"a fill of the time {head.time}")
    return head


def block_lines(tolds: Iterable[Told], source: str, first_line: int = 1) -> Iterator[BlockLine]:
    """Fills as parts of blocks, those of one block together, in the order that they came.

    Raises ValueError as `head_of`; then none is given."""
    blocks: dict[tuple[int | None, int], list[tuple[int, bytes]]] = {}
    for line, told in enumerate(tolds, first_line):
        head = head_of(told)
        body = b'["%s",%s]' % (told.user.lower().encode(), told.fill)
        blocks.setdefault((block_in_hash(head.hash), head.time), []).append((line, body))
    for (number, time), events in blocks.items():
        # a tuple that comes twice in one answer is one event
        bodies = dict.fromkeys(body for _, body in events)
        text = b"[" + b",".join(bodies) + b"]"
        yield BlockLine(number, utc_of_ms(time), text, True, source, events[0][0])
