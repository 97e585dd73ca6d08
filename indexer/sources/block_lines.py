"""Cut the lines of Hyperliquid block files into blocks, and say which heights were read whole.

Pure: text in, `Stretch` out. In by-block files every height has its line, empty blocks too, so a
missing height is missing data. The streaming form and the older `[user, fill]` lines have no line
for a block without fills, so there the heights between two lines are covered as `fills_only`.
"""

from collections import deque
from datetime import datetime
from typing import NamedTuple

import msgspec

from indexer.errors import SourceFault
from indexer.hyperliquid_format import block_in_hash, utc, utc_of_ms
from indexer.model import BlockLine, CoveredBlocks, Stretch

SAMPLE_LINES = 1000
# An envelope is some 120 bytes up to `events`.
_HEAD_BYTES = 240
_NUMBER = b'"block_number":'
_TIME = b'"block_time":"'


class Lines(NamedTuple):
    """Whole lines, each with its newline, from line `first_line` on.

    `is_cut` marks a last line without a newline; `size` counts stored bytes read so far."""

    text: bytes
    first_line: int
    size: int
    is_cut: bool = False


class Envelope(msgspec.Struct):
    """One line of a by-block or streaming file."""

    block_number: int
    block_time: str
    events: msgspec.Raw


class FillHead(msgspec.Struct):
    """What places a fill in time and in the chain."""

    time: int
    hash: str | None = None


_ENVELOPE = msgspec.json.Decoder(Envelope)
_PAIR_HEAD = msgspec.json.Decoder(tuple[str | None, FillHead])


class ByBlock:
    """Scans by-block lines: fills or ledger updates, one height a line, none left out.

    `needle` picks the lines that a decoder must see; None picks all. Feed one file in order. With
    `allow_replay`, heights that a restarted node writes again are given to the decoder, which
    compares them with what is stored, and not covered again; without, they are a fault.
    """

    def __init__(self, needle: bytes | None, *, allow_replay: bool = False) -> None:
        self._needle = needle
        self._allow_replay = allow_replay
        self._next: int | None = None  # the height that must follow
        self._previous = b""
        self._recent: deque[Lines] = deque()

    def feed(self, lines: Lines, source: str) -> Stretch:
        """The hot loop: a few searches a line; only lines with the needle are parsed."""
        text, needle, expected = lines.text, self._needle, self._next
        kept: list[BlockLine] = []
        sample: list[BlockLine] = []
        runs: list[tuple[int, int, int, int]] = []  # heights and line offsets
        fault: SourceFault | None = None
        run_from, run_start, last_start = 0, -1, -1
        hit = text.find(needle) if needle else 0
        start = end = 0
        line_number = lines.first_line - 1
        while start < len(text):
            line_number += 1
            end = text.find(b"\n", start)
            end = end if end >= 0 else len(text)
            try:
                number = _number_in(text, start, end)
                if number != expected and expected is not None:
                    if number < expected and self._allow_replay:
                        if needle is None or 0 <= hit < end:
                            kept.append(_block(text[start:end], source, line_number))
                            hit = text.find(needle, end) if needle else 0
                        start = end + 1
                        continue
                    if number < expected:
                        previous = (
                            text[last_start : start - 1] if last_start >= 0 else self._previous
                        )
                        _refuse_unless_repeated(number, expected, text[start:end] == previous)
                        start = end + 1
                        continue
                    if run_start >= 0:
                        runs.append((run_from, expected, run_start, last_start))
                        run_start = -1
                if needle is None or 0 <= hit < end:
                    kept.append(_block(text[start:end], source, line_number))
                    hit = text.find(needle, end) if needle else 0
                elif line_number <= SAMPLE_LINES or lines.is_cut:
                    sample.append(_block(text[start:end], source, line_number))
            except ValueError as error:
                what = "line cut off" if lines.is_cut else str(error)
                fault = SourceFault(f"{source}:{line_number}", what)
                break
            if run_start < 0:
                run_from, run_start = number, start
            expected, last_start = number + 1, start
            start = end + 1
        if run_start >= 0 and expected is not None:
            runs.append((run_from, expected, run_start, last_start))
            self._previous = text[last_start:].partition(b"\n")[0]
        self._next = expected
        self._remember(lines)
        covered = tuple(
            CoveredBlocks(low, high, _time_in(text, first), _time_in(text, last), "every_height")
            for low, high, first, last in runs
        )
        unread = max(len(text) - end - 1, 0) if fault else 0
        return Stretch(covered, tuple(kept), tuple(sample), lines.size, fault, unread)

    def finish(self, source: str) -> Stretch:
        """Nothing is held back; the last lines of the file join the sample."""
        if self._needle is None:
            return Stretch()
        numbered = [
            (lines.first_line + index, text)
            for lines in self._recent
            for index, text in enumerate(lines.text.splitlines())
        ]
        return Stretch(
            sample=tuple(
                _block(text, source, line_number)
                for line_number, text in numbered[-SAMPLE_LINES:]
                if line_number > SAMPLE_LINES and self._needle not in text
            )
        )

    def _remember(self, lines: Lines) -> None:
        self._recent.append(lines)
        while (
            len(self._recent) > 1 and lines.first_line - self._recent[1].first_line > SAMPLE_LINES
        ):
            self._recent.popleft()


def _number_in(text: bytes, start: int, end: int) -> int:
    """The height of a line; raises ValueError when it is no whole block line."""
    at = text.find(_NUMBER, start, min(end, start + _HEAD_BYTES)) + len(_NUMBER)
    if at < len(_NUMBER) or not text.startswith(b"]}", end - 2):
        return _parse(text[start:end]).block_number
    return int(text[at : text.find(b",", at, end)])


def _parse(line: bytes) -> Envelope:
    try:
        return _ENVELOPE.decode(line)
    except msgspec.ValidationError as error:
        raise ValueError(f"not a block line: {error}") from error
    except msgspec.DecodeError as error:
        raise ValueError(f"invalid JSON: {error}") from error


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


def _block(line: bytes, source: str, line_number: int) -> BlockLine:
    envelope = _parse(line)
    return BlockLine(
        envelope.block_number, utc(envelope.block_time), bytes(envelope.events), source, line_number
    )


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
        self._open: list[Placed] = []
        self._open_line = 0
        self._height: int | None = None  # of the last block that is complete
        self._covered_to: int | None = None

    def feed(self, lines: Lines, source: str) -> Stretch:
        """Scan whole lines; the last block stays open."""
        kept: list[BlockLine] = []
        covered: list[CoveredBlocks] = []
        texts = lines.text.splitlines(keepends=True)
        for index, text in enumerate(texts):
            line_number = lines.first_line + index
            try:
                placed = _place(text.rstrip())
                if self._open and placed.at < self._open[0].at:
                    self._refuse_backwards(placed)
                    kept.append(_replayed(placed, source, line_number))
                    continue
            except (ValueError, msgspec.MsgspecError) as error:
                what = "line cut off" if lines.is_cut else f"not a line of fills: {error}"
                fault = SourceFault(f"{source}:{line_number}", what)
                unread = sum(map(len, texts[index + 1 :]))
                return Stretch(tuple(covered), tuple(kept), (), lines.size, fault, unread)
            if self._open and self._open[0].at != placed.at:
                covered += self._cover()
                kept.append(self._close(source))
            if not self._open:
                self._open_line = line_number
            self._open.append(placed)
        return Stretch(tuple(covered), tuple(kept), (), lines.size)

    def finish(self, source: str) -> Stretch:
        """Give the block that was still open, uncovered, and forget where we were."""
        kept = (self._close(source),) if self._open else ()
        self._height = self._covered_to = None
        return Stretch((), kept)

    def _refuse_backwards(self, placed: Placed) -> None:
        if not self._allow_replay:
            raise ValueError(f"time {placed.at:%H:%M:%S.%f} after {self._open[0].at:%H:%M:%S.%f}")

    def _number(self) -> int | None:
        """The height of the open block: TWAP fills have no hash, their neighbours in it do."""
        return next((p.number for p in self._open if p.number is not None), self._height)

    def _cover(self) -> list[CoveredBlocks]:
        number, at = self._number(), self._open[0].at
        if number is None:
            return []
        is_first = self._covered_to is None
        low, self._covered_to = (self._covered_to or number), number + 1
        if is_first or low > number:
            return []
        return [CoveredBlocks(low, number + 1, at, at, "fills_only")]

    def _close(self, source: str) -> BlockLine:
        number = self._height = self._number()
        events = b"[" + b",".join(p.events for p in self._open if p.events) + b"]"
        block = BlockLine(number, self._open[0].at, events, source, self._open_line)
        self._open = []
        return block


def _replayed(placed: Placed, source: str, line_number: int) -> BlockLine:
    events = b"[" + placed.events + b"]"
    return BlockLine(placed.number, placed.at, events, source, line_number)


def _place(line: bytes) -> Placed:
    if line.startswith(b"["):
        _, head = _PAIR_HEAD.decode(line)
        return Placed(block_in_hash(head.hash), utc_of_ms(head.time), line)
    envelope = _parse(line)
    return Placed(
        envelope.block_number, utc(envelope.block_time), bytes(envelope.events).strip()[1:-1]
    )
