"""What is left to do, from headers and coverage alone. Pure."""

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import msgspec

from indexer.evm_model import BlockRef, Position
from indexer.model import CoveredBlocks


class Heights:
    """A set of block heights, as disjoint half-open ranges in order."""

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._ranges = sorted(ranges)
        self._last = (0, 0)

    @classmethod
    def joined(cls, ranges: Iterable[tuple[int, int]]) -> "Heights":
        """The union of ranges that may overlap."""
        runs: list[tuple[int, int]] = []
        for low, high in sorted(ranges):
            if runs and low <= runs[-1][1]:
                runs[-1] = (runs[-1][0], max(runs[-1][1], high))
            else:
                runs.append((low, high))
        return cls(runs)

    def __contains__(self, height: int | None) -> bool:
        if height is None:
            return False
        low, high = self._last
        if low <= height < high:  # heights are asked for in order
            return True
        at = bisect_left(self._ranges, (height + 1,)) - 1
        if at < 0 or height >= self._ranges[at][1]:
            return False
        self._last = self._ranges[at]
        return True

    def overlaps(self, low: int, high: int) -> list[tuple[int, int]]:
        """The parts of `low` to `high` that are in the set."""
        at = max(bisect_left(self._ranges, (low,)) - 1, 0)
        parts = []
        for start, end in self._ranges[at:]:
            if start >= high:
                break
            if end > low:
                parts.append((max(start, low), min(end, high)))
        return parts

    def missing(self, low: int, high: int) -> list[tuple[int, int]]:
        """The parts of `low` to `high` that are not in the set."""
        parts = []
        for start, end in self.overlaps(low, high):
            if low < start:
                parts.append((low, start))
            low = end
        if low < high:
            parts.append((low, high))
        return parts

    def add(self, low: int, high: int) -> None:
        """Put a range in that overlaps none of those present."""
        at = bisect_left(self._ranges, (low,))
        if at and self._ranges[at - 1][1] == low:
            low = self._ranges.pop(at - 1)[0]
            at -= 1
        if at < len(self._ranges) and self._ranges[at][0] == high:
            high = self._ranges.pop(at)[1]
        insort(self._ranges, (low, high))


def not_yet(blocks: CoveredBlocks, known: Heights) -> Iterator[CoveredBlocks]:
    """The parts of a range that are not covered. A part keeps the times of the whole: it touches
    the covered part that bounds it, and the two are joined when they are stored."""
    low = blocks.block_from
    for start, end in known.overlaps(blocks.block_from, blocks.block_to):
        if low < start:
            yield msgspec.structs.replace(blocks, block_from=low, block_to=start)
        low = end
    if low < blocks.block_to:
        yield msgspec.structs.replace(blocks, block_from=low)


def append_joined(ranges: list[CoveredBlocks], blocks: CoveredBlocks) -> None:
    """Append a range, or widen the last one where it goes on from there equally well read."""
    if ranges:
        last = ranges[-1]
        if (last.block_to, last.verification) == (blocks.block_from, blocks.verification):
            ranges[-1] = msgspec.structs.replace(
                last, block_to=blocks.block_to, last_at=max(last.last_at, blocks.last_at)
            )
            return
    ranges.append(blocks)


def before(blocks: CoveredBlocks, height: int) -> CoveredBlocks | None:
    """The part of a range below a height."""
    if blocks.block_from >= height:
        return None
    return msgspec.structs.replace(blocks, block_to=min(blocks.block_to, height))


def after(blocks: CoveredBlocks, height: int) -> CoveredBlocks | None:
    """The part of a range above a height."""
    if blocks.block_to <= height + 1:
        return None
    return msgspec.structs.replace(blocks, block_from=max(blocks.block_from, height + 1))


class Piece(NamedTuple):
    """Blocks that the same venues want, end excluded."""

    block_from: int
    block_to: int
    venues: tuple[str, ...]


def pieces(wanted: Mapping[str, Sequence[tuple[int, int]]]) -> list[Piece]:
    """What several venues want, cut where one begins or ends, so that each piece is one read."""
    sets = {venue: Heights.joined(ranges) for venue, ranges in wanted.items()}
    ends = {end for ranges in wanted.values() for low_high in ranges for end in low_high}
    cuts = sorted(ends)
    found: list[Piece] = []
    for low, high in pairwise(cuts):
        venues = tuple(sorted(venue for venue, heights in sets.items() if low in heights))
        if venues:
            found.append(Piece(low, high, venues))
    return found


class AdvanceRange(NamedTuple):
    """Read final blocks, end excluded."""

    block_from: int
    block_to: int


class AdvanceBlock(NamedTuple):
    """Read one block by its hash: it is the child of our tip."""

    block: BlockRef


class LookBack(NamedTuple):
    """The chain has replaced blocks that we hold: find the last that both share."""

    why: str


class Wait(NamedTuple):
    """There is nothing to read yet."""


def plan(
    at: Position, head: BlockRef, finalized: int, child: BlockRef | None
) -> AdvanceRange | AdvanceBlock | LookBack | Wait:
    """The next step at the head; `child` is the block at our next height, where there is one.

    A lower head is never a reorg: an endpoint may lag behind what another has shown us."""
    if at.next_block <= finalized:
        return AdvanceRange(at.next_block, finalized + 1)
    if child is not None:
        if child.parent_hash == at.tip_hash:
            return AdvanceBlock(child)
        return LookBack(f"block {child.number} {child.hash} is no child of {at.tip_hash}")
    if head.number == at.next_block - 1 and head.hash != at.tip_hash:
        return LookBack(f"the head {head.number} is {head.hash}, not {at.tip_hash}")
    return Wait()
