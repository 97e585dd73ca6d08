"""Cut the lines of Hyperliquid block files into blocks, and say which heights were read whole.

Pure: text in, `Stretch` out. In by-block files every height has its line, empty blocks too, so a
missing height is missing data. The streaming form and the older `[user, fill]` lines have no line
for a block without fills, so there the heights between two lines are covered as `fills_only`.
"""

from collections import deque
from datetime import UTC, datetime
from typing import Annotated, NamedTuple

import msgspec

from indexer.errors import SourceFault
from indexer.hyperliquid_format import NEEDLE, SAMPLE_LINES, block_in_hash, utc, utc_of_ms
from indexer.model import BlockLine, CoveredBlocks, Stretch

# An envelope is some 120 bytes up to `events`.
_HEAD_BYTES = 240
_NUMBER = b'"block_number":'
_TIME = b'"block_time":"'
_TIME_BYTES = len("2025-10-27T16:59:59.797563798") + len('",')
_COLON, _OPEN, _BRACKET, _BRACE = b":[]}"
_EVENTS = b'"events":'
_Q = NEEDLE.index(b"q")
_FALSE_HITS = 64
_DIGITS = 18  # a height of as many still fits a bigint


class Lines(NamedTuple):
    """Whole lines, each with its newline: `text` from `start` to `stop`.

    `is_cut` marks a last line without a newline; `size` counts stored bytes read so far."""

    text: bytes
    start: int
    stop: int
    size: int
    is_cut: bool = False


class Envelope(msgspec.Struct):
    """One line of a by-block or streaming file."""

    block_number: Annotated[int, msgspec.Meta(ge=0, lt=10**_DIGITS)]
    block_time: str
    events: msgspec.Raw


class FillHead(msgspec.Struct):
    """What places a fill in time and in the chain."""

    time: int
    hash: str | None = None


_NO_TIME = datetime.min.replace(tzinfo=UTC)
_ENVELOPE = msgspec.json.Decoder(Envelope)
_EVENT_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_PAIR_HEAD = msgspec.json.Decoder(tuple[str | None, FillHead])


class ByBlock:
    """Scans by-block lines: fills or ledger updates, one height a line, none left out.

    With `only_marked`, lines without the letters of a liquidation mark are passed over, but for a
    sample. Feed one file in order. With `allow_replay`, heights that a restarted node writes again
    are given to the decoder, which compares them with what is stored, and not covered again;
    without, they are a fault.
    """

    def __init__(self, *, only_marked: bool, allow_replay: bool = False) -> None:
        self._only_marked = only_marked
        self._allow_replay = allow_replay
        self.line = 0  # lines of the file read so far
        self._next: int | None = None  # the height that must follow
        self._offset = 0  # of the height in the line before: it seldom moves
        self._previous = b""  # the line before, to tell a repetition from a contradiction
        self._recent: deque[tuple[int, Lines]] = deque()

    def feed(self, lines: Lines, source: str) -> Stretch:
        """Scan whole lines. Most are only looked at, not parsed."""
        text, start, stop = lines.text, lines.start, lines.stop
        found = _Found(lines)
        self._remember(lines)
        hit = find_needle(text, start, stop)
        while start < stop:
            if start < hit and self._offset and not self._allow_replay:
                if not self._only_marked:
                    start = self._keep_regular(text, start, hit, found, source)
                elif self.line >= SAMPLE_LINES:
                    start = self._skip_regular(text, start, hit, found)
                if start >= stop:
                    break
            self.line += 1
            end = text.find(b"\n", start, stop)
            end = end if end >= 0 else stop
            try:
                self._take(found, start, end, hit < end, source)
            except ValueError as error:
                what = "line cut off" if lines.is_cut else str(error)
                found.fault = SourceFault(f"{source}:{self.line}", what)
                found.unread = max(stop - end - 1, 0)
                break
            if hit < end:
                hit = find_needle(text, end, stop)
            start = end + 1
        if found.run_at >= 0 and self._next is not None:
            found.close_run(self._next)
            self._previous = text[found.last_at : stop].partition(b"\n")[0]
        if found.is_doubtful:
            found.sample.append(_sampled(b"", source, self.line))
        return found.stretch()

    def _skip_regular(self, text: bytes, start: int, limit: int, found: "_Found") -> int:
        """Pass lines that hold the very next height where the line before had it, end as a block
        line ends, and lie before `limit`. A few searches a line: most of a file goes this way."""
        expected = first = self._next or 0
        offset, find, startswith = self._offset, text.find, text.startswith
        at = start
        while startswith(b'"block_number":%d,' % expected, at + offset):
            end = find(b"\n", at + offset, limit)
            if end < 0 or text[end - 1] != _BRACE or text[end - 2] != _BRACKET:
                break
            expected += 1
            last, at = at, end + 1
        if expected > first:
            found.extend(first, start, last)
            self.line += expected - first
            self._next = expected
        return at

    def _keep_regular(
        self, text: bytes, start: int, limit: int, found: "_Found", source: str
    ) -> int:
        """The same for a decoder that must see all lines: they are cut out where the line before
        had its time and its events."""
        expected = first = self._next or 0
        offset, find, startswith = self._offset, text.find, text.startswith
        keep, line, from_iso = found.kept.append, self.line, datetime.fromisoformat
        at = start
        while startswith(head := b'"block_number":%d,"events":[' % expected, at + offset):
            end = find(b"\n", at + offset, limit)
            time_at = at + offset - _TIME_BYTES
            if end < 0 or text[end - 1] != _BRACE or text[end - 2] != _BRACKET:
                break
            if not startswith(_TIME, time_at - len(_TIME)):
                break
            try:
                # as utc(), written out: a call for each of a million lines shows
                block_at = from_iso(text[time_at : time_at + 26].decode() + "+00:00")
            except ValueError:
                break
            line += 1
            # an empty block, `:[]}`, has nothing for a decoder
            if text[end - 3] != _OPEN or text[end - 4] != _COLON:
                events = text[at + offset + len(head) - 1 : end - 1]
                keep(BlockLine(expected, block_at, events, False, source, line))
            expected += 1
            last, at = at, end + 1
        if expected > first:
            found.extend(first, start, last)
            self.line, self._next = line, expected
        return at

    def _take(self, found: "_Found", start: int, end: int, is_hit: bool, source: str) -> None:
        """One line in full; raises ValueError when it is no block line or contradicts the last."""
        text, expected = found.lines.text, self._next
        if self._allow_replay:
            _check(text[start:end])
        number, self._offset = _number_in(text, start, end)
        is_back = expected is not None and number < expected
        if is_back and not self._allow_replay:
            previous = text[found.last_at : start - 1] if found.last_at >= 0 else self._previous
            _refuse_unless_repeated(number, expected or 0, text[start:end] == previous)
            return
        if is_hit or not self._only_marked:
            block = _block(text, start, end, number, is_hit, source, self.line)
            if is_back:
                block = msgspec.structs.replace(block, is_again=True)
            found.kept.append(block)
        elif self.line <= SAMPLE_LINES or found.lines.is_cut:
            found.sample.append(_block(text, start, end, number, is_hit, source, self.line))
        if is_back:
            return
        if expected is not None and number > expected and found.run_at >= 0:
            found.close_run(expected)
        found.extend(number, start, start)
        self._next = number + 1

    def finish(self, source: str) -> Stretch:
        """Nothing is held back; the last lines of the file join the sample."""
        recent, self._recent = self._recent, deque()
        numbered = [
            (before + index, text)
            for before, lines in recent
            for index, text in enumerate(lines.text[lines.start : lines.stop].splitlines(), 1)
        ]
        return Stretch(
            sample=tuple(
                _sampled(text, source, line_number)
                for line_number, text in numbered[-SAMPLE_LINES:]
                if line_number > SAMPLE_LINES and NEEDLE not in text
            )
        )

    def _remember(self, lines: Lines) -> None:
        if not self._only_marked:
            return
        self._recent.append((self.line, lines))
        while len(self._recent) > 1 and self._recent[1][0] < self.line - SAMPLE_LINES:
            self._recent.popleft()


class _Found:
    """What one feed brings together."""

    def __init__(self, lines: Lines) -> None:
        self.lines = lines
        self.kept: list[BlockLine] = []
        self.sample: list[BlockLine] = []
        self.fault: SourceFault | None = None
        self.unread = 0
        self.is_doubtful = False  # a line that was only looked at is not what it looked like
        self.last_at = -1  # offset of the last line of the run
        self.run_at = -1  # offset of its first line
        self._run_from = 0
        self._covered: list[CoveredBlocks] = []

    def extend(self, number: int, first_at: int, last_at: int) -> None:
        """Lines of consecutive heights, the first of them `number`, join the run."""
        if self.run_at < 0:
            self._run_from, self.run_at = number, first_at
        self.last_at = last_at

    def close_run(self, block_to: int) -> None:
        """The run ends before a height. Its last line may have swallowed the next."""
        text = self.lines.text
        self.is_doubtful |= _events_in(text, self.last_at, len(text)) < 0
        try:
            first, last = _time_in(text, self.run_at), _time_in(text, self.last_at)
            covered = CoveredBlocks(self._run_from, block_to, first, last, "every_height")
            self._covered.append(covered)
        except ValueError:
            self.is_doubtful = True
        self.run_at = -1

    def stretch(self) -> Stretch:
        return Stretch(
            tuple(self._covered), tuple(self.kept), tuple(self.sample), self.lines.size,
            self.fault, self.unread,
        )  # fmt: skip


def find_needle(text: bytes, start: int, stop: int) -> int:
    """Where the needle stands next, `stop` when nowhere, found by way of its q.

    No key, hash or usual coin has a q, and the search for one letter runs four times as fast as
    the one for seven (memchr). Where q turns out common, the plain search takes over.
    """
    at = start + _Q
    for _ in range(_FALSE_HITS):
        at = text.find(b"q", at, stop)
        if at < 0:
            return stop
        if text.startswith(NEEDLE, at - _Q):
            return at - _Q
        at += 1
    at = text.find(NEEDLE, at - _Q, stop)
    return at if at >= 0 else stop


def _number_in(text: bytes, start: int, end: int) -> tuple[int, int]:
    """The height of a line and its offset; raises ValueError when it is no whole block line."""
    found = text.find(_NUMBER, start, min(end, start + _HEAD_BYTES))
    if found < 0 or not text.startswith(b"]}", end - 2):
        return _parse(text[start:end]).block_number, 0
    at = found + len(_NUMBER)
    digits = text[at : at + _DIGITS + 1].partition(b",")[0]
    if len(digits) > _DIGITS or not digits.isdigit():
        return _parse(text[start:end]).block_number, 0
    return int(digits), found - start


def _events_in(text: bytes, start: int, end: int) -> int:
    """Where the events of a line begin, -1 when it must be parsed to know: also when another line
    begins in its head, as after the half line of a node that was killed."""
    at = text.find(_EVENTS, start, min(end, start + _HEAD_BYTES))
    if at < 0 or text.find(b"{", start + 1, at) >= 0:
        return -1
    return at + len(_EVENTS)


def _parse(line: bytes) -> Envelope:
    try:
        return _ENVELOPE.decode(line)
    except msgspec.ValidationError as error:
        raise ValueError(f"not a block line: {error}") from error
    except msgspec.DecodeError as error:
        raise ValueError(f"invalid JSON: {error}") from error


def _check(line: bytes) -> None:
    """Refuse what no decoder could read, so that its height counts when it is written again."""
    try:
        _EVENT_LIST.decode(_parse(line).events)
    except msgspec.MsgspecError as error:
        raise ValueError(f"events cannot be read: {error}") from error


def _time_in(text: bytes, start: int) -> datetime:
    at = text.find(_TIME, start, start + _HEAD_BYTES) + len(_TIME)
    if at < len(_TIME):
        return utc(_parse(text[start:].partition(b"\n")[0]).block_time)
    return utc(text[at : at + 26].decode())


def _refuse_unless_repeated(number: int, expected: int, is_same_line: bool) -> None:
    """A line repeated to the letter says nothing new; any other step back is a contradiction."""
    if number != expected - 1:
        raise ValueError(f"block {number} after block {expected - 1}: the height goes backwards")
    if not is_same_line:
        raise ValueError(f"block {number} stands here again with other content")


def _block(
    text: bytes, start: int, end: int, number: int, is_hit: bool, source: str, line: int
) -> BlockLine:
    """The block of a line; raises ValueError when it is none."""
    at = _events_in(text, start, end)
    if at < 0 or not text.startswith(b"]}", end - 2):
        envelope = _parse(text[start:end])
        number, at_time = envelope.block_number, utc(envelope.block_time)
        return BlockLine(number, at_time, bytes(envelope.events), is_hit, source, line)
    return BlockLine(number, _time_in(text, start), text[at : end - 1], is_hit, source, line)


def _sampled(text: bytes, source: str, line: int) -> BlockLine:
    """A line without the needle, to be parsed for its events alone."""
    at = _events_in(text, 0, len(text))
    return BlockLine(None, _NO_TIME, text[at:-1] if at >= 0 else b"", False, source, line)


class Placed(NamedTuple):
    """One line in its place: height where known, time, and its events without brackets."""

    number: int | None
    at: datetime
    events: bytes


class Merged:
    """Scans forms in which one block has several lines: streaming, and `[user, fill]` lines.

    A block ends where the next begins. The first and the last block of a run of files are given
    to the decoder but not called covered: their other part may stand in a file that we lack.
    Feed files in the order of their hours; call `finish` at a missing hour and at the end.
    """

    def __init__(self, *, allow_replay: bool = False) -> None:
        self._allow_replay = allow_replay
        self.line = 0  # lines of the file read so far
        self._open: list[Placed] = []
        self._open_line = 0
        self._height: int | None = None  # of the last block that is complete
        self._covered_to: int | None = None

    def feed(self, lines: Lines, source: str) -> Stretch:
        """Scan whole lines; the last block stays open."""
        kept: list[BlockLine] = []
        covered: list[CoveredBlocks] = []
        texts = lines.text[lines.start : lines.stop].splitlines(keepends=True)
        for index, text in enumerate(texts):
            self.line += 1
            try:
                placed = _place(text.rstrip())
                if self._open and placed.at < self._open[-1].at:
                    self._refuse_backwards(placed)
                    kept.append(_replayed(placed, source, self.line))
                    continue
            except (ValueError, msgspec.MsgspecError) as error:
                what = "line cut off" if lines.is_cut else f"not a line of fills: {error}"
                fault = SourceFault(f"{source}:{self.line}", what)
                unread = sum(map(len, texts[index + 1 :]))
                return Stretch(tuple(covered), tuple(kept), (), lines.size, fault, unread)
            if self._is_over(placed):
                covered += self._cover()
                kept.append(self._close(source))
            if not self._open:
                self._open_line = self.line
            self._open.append(placed)
        return Stretch(tuple(covered), tuple(kept), (), lines.size)

    def finish(self, source: str) -> Stretch:
        """Give the block that was still open, uncovered, and forget where we were."""
        kept = (self._close(source),) if self._open else ()
        self._height = self._covered_to = None
        return Stretch((), kept)

    def _refuse_backwards(self, placed: Placed) -> None:
        if not self._allow_replay:
            raise ValueError(f"time {placed.at:%H:%M:%S.%f} after {self._open[-1].at:%H:%M:%S.%f}")

    def _is_over(self, placed: Placed) -> bool:
        """Whether a line belongs to a later block. TWAP fills have no hash: where a block has no
        others, nothing names its height, and it joins the next."""
        if not self._open or self._open[-1].at == placed.at:
            return False
        return any(line.number is not None for line in self._open)

    def _number(self) -> int | None:
        """The height of the open block, which its lines with a hash name."""
        return next((p.number for p in self._open if p.number is not None), self._height)

    def _cover(self) -> list[CoveredBlocks]:
        number, at = self._number(), self._open[-1].at
        if number is None:
            return []
        is_first = self._covered_to is None
        low, self._covered_to = (self._covered_to or number), number + 1
        if is_first or low > number:
            return []
        return [CoveredBlocks(low, number + 1, at, at, "fills_only")]

    def _close(self, source: str) -> BlockLine:
        number = self._height = self._number()
        events = _once(b"[" + b",".join(p.events for p in self._open if p.events) + b"]")
        block = BlockLine(
            number, self._open[-1].at, events, NEEDLE in events, source, self._open_line
        )
        self._open = []
        return block


def _once(events: bytes) -> bytes:
    """Without the events that a restarted node wrote again, cut into other lines: no two events of
    a block are the same to the letter. A list that cannot be read is left to the decoder."""
    try:
        bodies = [bytes(body) for body in _EVENT_LIST.decode(events)]
    except msgspec.MsgspecError:
        return events
    different = dict.fromkeys(bodies)
    return events if len(different) == len(bodies) else b"[" + b",".join(different) + b"]"


def _replayed(placed: Placed, source: str, line_number: int) -> BlockLine:
    events = b"[" + placed.events + b"]"
    return BlockLine(
        placed.number, placed.at, events, NEEDLE in events, source, line_number, is_again=True
    )


def _place(line: bytes) -> Placed:
    if line.startswith(b"["):
        _, head = _PAIR_HEAD.decode(line)
        return Placed(block_in_hash(head.hash), utc_of_ms(head.time), line)
    envelope = _parse(line)
    return Placed(
        envelope.block_number, utc(envelope.block_time), bytes(envelope.events).strip()[1:-1]
    )
