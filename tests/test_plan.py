"""What to do next, from headers and coverage alone."""

import pytest

from indexer.evm_model import BlockRef, Position
from indexer.plan import (
    AdvanceBlock,
    AdvanceRange,
    Heights,
    LookBack,
    Piece,
    Wait,
    pieces,
    plan,
)


def block(number: int, name: str, parent: str = "") -> BlockRef:
    """A block of a chain whose hashes are words."""
    return BlockRef("c", number, name, parent, 0)


AT = Position("c", 11, "ten", 5, 1)


@pytest.mark.parametrize(
    ("head", "finalized", "child", "expected"),
    [
        (block(30, "x"), 20, None, AdvanceRange(11, 21)),
        (block(11, "x"), 11, None, AdvanceRange(11, 12)),
        (block(11, "eleven", "ten"), 5, block(11, "eleven", "ten"),
         AdvanceBlock(block(11, "eleven", "ten"))),
        (block(13, "x"), 5, block(11, "eleven", "ten"), AdvanceBlock(block(11, "eleven", "ten"))),
        (block(11, "other", "ten'"), 5, block(11, "other", "ten'"),
         LookBack("block 11 other is no child of ten")),
        (block(10, "ten'"), 5, None, LookBack("the head 10 is ten', not ten")),
        (block(10, "ten"), 5, None, Wait()),
        (block(7, "seven'"), 5, None, Wait()),
    ],
    ids=["final stretch", "one final block", "child is head", "child below head",
         "another branch", "head replaced", "nothing new", "a lower head is no reorg"],
)  # fmt: skip
def test_the_next_step_at_the_head(
    head: BlockRef, finalized: int, child: BlockRef | None, expected: object
) -> None:
    assert plan(AT, head, finalized, child) == expected


def test_venues_that_want_the_same_blocks_share_a_piece() -> None:
    wanted = {"a": [(0, 10), (20, 30)], "b": [(5, 25)], "c": [(5, 10)]}

    assert pieces(wanted) == [
        Piece(0, 5, ("a",)),
        Piece(5, 10, ("a", "b", "c")),
        Piece(10, 20, ("b",)),
        Piece(20, 25, ("a", "b")),
        Piece(25, 30, ("a",)),
    ]


def test_what_nobody_wants_is_no_piece() -> None:
    assert pieces({"a": [], "b": []}) == []


@pytest.mark.parametrize(
    ("low", "high", "missing"),
    [
        (0, 100, [(0, 10), (20, 30), (40, 100)]),
        (12, 18, []),
        (15, 35, [(20, 30)]),
        (22, 24, [(22, 24)]),
        (5, 5, []),
    ],
)
def test_what_is_missing_is_what_is_not_covered(
    low: int, high: int, missing: list[tuple[int, int]]
) -> None:
    assert Heights([(10, 20), (30, 40)]).missing(low, high) == missing
