"""Gathers what a source read until it is written in one transaction. Pure."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from decimal import localcontext
from itertools import takewhile

import msgspec

from indexer.errors import Conflict, SourceFault
from indexer.hyperliquid_format import SAMPLE_LINES
from indexer.model import (
    EXACT,
    AccountDay,
    BlockLine,
    CoveredBlocks,
    Facts,
    LedgerLiquidation,
    MarketMinute,
    RawEvent,
    Stretch,
    Undecoded,
)
from indexer.plan import Heights, after, append_joined, before, not_yet
from indexer.venues import hyperliquid as venue
from indexer.venues.hyperliquid_days import AccountDays, UnreadableEvents
from indexer.venues.hyperliquid_ledger import ledger_liquidations

# A step is written when one of these is reached: they bound memory, not correctness.
FULL_EVENTS = 20_000
FULL_SUMS = 50_000
FULL_BLOCKS = 1_000_000


class Unreadable(SourceFault):
    """A line whose events cannot be read; `rest` is what the stretch holds after it."""

    def __init__(self, line: BlockLine, what: str, rest: Stretch) -> None:
        super().__init__(line.where, what)
        self.rest = rest


class NeedleLied(Exception):
    """A line without the needle's letters holds a mark: the file must be parsed whole."""


class Step:
    """What one transaction will write.

    `known` are the heights covered when the step began; account days add up only blocks that are
    not among them. `faults` are contradictions found on the way; what they concern is left out.
    """

    def __init__(self, known: Mapping[Facts, Heights], *, with_accounts: bool) -> None:
        self._known = known
        self._with_accounts = with_accounts
        self._days = AccountDays()
        self.legs: dict[str, venue.Leg] = {}
        self.raw: dict[str, RawEvent] = {}
        self.undecoded: dict[str, Undecoded] = {}
        self.ledger: dict[str, LedgerLiquidation] = {}
        self.covered: dict[Facts, list[CoveredBlocks]] = defaultdict(list)
        self.read_again: list[tuple[int, int]] = []
        self.faults: list[Conflict] = []
        self._blocks = 0

    @property
    def is_full(self) -> bool:
        """Whether it is time to write."""
        return (
            len(self.raw) >= FULL_EVENTS
            or len(self._days) >= FULL_SUMS
            or self._blocks >= FULL_BLOCKS
        )

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to write."""
        return not self.raw and not any(self.covered.values())

    def account_days(self) -> list[AccountDay]:
        """The account days of the blocks that this step is the first to cover."""
        return self._days.rows()

    def market_minutes(self) -> list[MarketMinute]:
        """The last trades of each minute in the blocks that this step is the first to cover."""
        return self._days.minutes()

    def trades(self) -> dict[str, list[venue.Leg]]:
        """The legs read in this step, by trade."""
        trades: dict[str, list[venue.Leg]] = defaultdict(list)
        for leg in self.legs.values():
            trades[venue.trade_key(leg)].append(leg)
        return trades

    def take_fills(self, stretch: Stretch, *, trust_needle: bool) -> None:
        """Take blocks of fills. Raises Unreadable at a line that cannot be opened, after the
        lines before it were taken; NeedleLied when the prefilter must not be trusted."""
        facts: tuple[Facts, ...] = ("liquidations",)
        new_days: list[CoveredBlocks] = []
        if self._with_accounts:
            facts = ("liquidations", "account_days")
            known = self._known["account_days"]
            new_days = [part for blocks in stretch.covered for part in not_yet(blocks, known)]
        for line in stretch.sample:
            _check_needle(line)
        lines = stretch.lines
        marked = [line for line in lines if line.has_needle] if trust_needle else lines
        broken = next((line for line in marked if venue.unreadable(line)), None)
        end = len(lines) if broken is None else lines.index(broken)
        try:
            with localcontext(EXACT):
                for raw, undecoded in self._days.add(_of_blocks(lines[:end], new_days)):
                    self._keep(raw, undecoded)
        except UnreadableEvents as error:
            end = lines.index(error.line)
        for line in marked if end == len(lines) else [m for m in marked if m in lines[:end]]:
            self._take_legs(line, trust_needle=trust_needle)
        if trust_needle:
            for line in takewhile(_is_sampled, lines[:end]):
                _check_needle(line)
        self._cover_up_to(end, facts, stretch)

    def take_updates(self, stretch: Stretch) -> None:
        """Take blocks of ledger updates. Raises Unreadable as `take_fills`."""
        end = 0
        for line in stretch.lines:
            if venue.unreadable(line):
                break
            end += 1
            for raw, row in ledger_liquidations(line):
                if isinstance(row, Undecoded):
                    self._keep(raw, row)
                elif self._keep(raw):
                    self.ledger[row.event_key] = row
        self._cover_up_to(end, ("ledger_liquidations",), stretch)

    def _cover_up_to(self, end: int, facts: Sequence[Facts], stretch: Stretch) -> None:
        """Cover the blocks of a stretch, or those before line `end`, the first unreadable one."""
        if end == len(stretch.lines):
            self._cover(facts, stretch.covered)
            return
        line, covered = stretch.lines[end], stretch.covered
        height = line.block_number
        if height is None:
            height, covered = 0, ()
        self._cover(facts, [part for b in covered if (part := before(b, height))])
        rest = msgspec.structs.replace(
            stretch,
            covered=tuple(part for b in covered if (part := after(b, height))),
            lines=stretch.lines[end + 1 :],
            sample=(),
        )
        raise Unreadable(line, f"events cannot be read: {venue.unreadable(line)}", rest)

    def _take_legs(self, line: BlockLine, *, trust_needle: bool) -> None:
        for leg in venue.forced_legs(line, trust_needle=trust_needle):
            if not isinstance(leg, venue.Leg):
                self._keep(*leg)
            elif self._keep(leg.raw):
                self.legs[leg.raw.event_key] = leg

    def _keep(self, raw: RawEvent, undecoded: Undecoded | None = None) -> bool:
        """Keep an event; a second one under its key must say the same."""
        first = self.raw.setdefault(raw.event_key, raw)
        if first is not raw and not venue.is_same(first.body, raw.body):
            self.faults.append(contradiction(raw, f"{first.source}:{first.line}"))
        if undecoded and first is raw:
            self.undecoded[undecoded.event_key] = undecoded
        return first is raw

    def _cover(self, facts: Sequence[Facts], covered: Sequence[CoveredBlocks]) -> None:
        for fact in facts:
            for blocks in covered:
                self._blocks += blocks.block_to - blocks.block_from
                known = self._known[fact]
                again = known.overlaps(blocks.block_from, blocks.block_to)
                if fact == "liquidations":
                    self.read_again += again
                for part in not_yet(blocks, known):
                    append_joined(self.covered[fact], part)
                    known.add(part.block_from, part.block_to)


def contradiction(raw: RawEvent, stored_at: str) -> Conflict:
    """The message for an event that was published twice with different content."""
    return Conflict(
        f"{raw.source}:{raw.line}: block {raw.block_number}: {raw.event_key} says other than the"
        f" same event read from {stored_at}; the first stays"
    )


def correction(raw: RawEvent, stored_at: str) -> Conflict:
    """The message for an event that a sample told with other content than its block has."""
    return Conflict(
        f"{raw.source}:{raw.line}: block {raw.block_number}: {raw.event_key} says other than the"
        f" sample {stored_at}; what the block says stands"
    )


def _is_sampled(line: BlockLine) -> bool:
    return line.line <= SAMPLE_LINES


def _of_blocks(lines: Sequence[BlockLine], blocks: Sequence[CoveredBlocks]) -> Sequence[BlockLine]:
    """The lines of some blocks, without those that a restarted node wrote again."""
    if not lines or not blocks:
        return ()
    low, high = blocks[0].block_from, blocks[0].block_to
    first, last = lines[0].block_number, lines[-1].block_number
    if len(blocks) == 1 and first is not None and last is not None and low <= first <= last < high:
        return [line for line in lines if not line.is_again]
    heights = Heights((part.block_from, part.block_to) for part in blocks)
    return [line for line in lines if line.block_number in heights and not line.is_again]


def _check_needle(line: BlockLine) -> None:
    """Raises NeedleLied also for a line that cannot be read: parsing the file whole will say which
    fill is at fault, or refuse the line."""
    if line.has_needle:
        return
    try:
        is_honest = venue.is_needle_honest(line)
    except msgspec.MsgspecError:
        is_honest = False
    if not is_honest:
        raise NeedleLied(line.where)
