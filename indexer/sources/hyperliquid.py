"""Hyperliquid block files, as a node or the public archive writes them, and API records.

Layouts, told apart by the folder's name or else by the first line:

    by_block   {"block_time":..,"block_number":..,"events":[..]}, every height has its line
    streaming  the same envelope, one block spread over many lines
    fills      ["0xuser",{fill}], no envelope: the height stands in the hash
    misc       as by_block, the events are ledger updates
    records    JSON answers of the API, which prove no range of blocks

Hour files are cut by the node's clock and named 0 .. 23, so neither the order of their names nor
their edges mean anything: the heights in the lines decide.
"""

import contextlib
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from indexer.errors import ConfigError, SourceFault
from indexer.hyperliquid_format import block_in_hash, utc, utc_of_ms
from indexer.model import BlockLine, Stretch
from indexer.sources.block_lines import ByBlock, Lines, Merged, Placed
from indexer.sources.files import READ_BYTES, File, list_files, read_lines

Layout = Literal["by_block", "streaming", "fills", "misc", "records"]
BLOCK_LAYOUTS: tuple[Layout, ...] = ("by_block", "streaming", "fills", "misc")

# Longest first: every name begins with "node_fills".
_FOLDERS: tuple[tuple[str, Layout], ...] = (
    ("misc_events_by_block", "misc"),
    ("node_fills_streaming", "streaming"),
    ("node_fills_by_block", "by_block"),
    ("node_fills", "fills"),
)
_HOUR = re.compile(r"(?P<day>\d{8})/(?P<hour>\d{1,2})(?:\.lz4)?$")
SIMULATED_MARK = "SIMULATED.txt"
_ONE_HOUR = timedelta(hours=1)
_LOOK_SECONDS = 0.5  # how often to look for the file of a later hour
_LATE_SECONDS = 3.0  # how long a node may still write to the file of the hour before


class HourFile(NamedTuple):
    """One file of a known layout; `hour` is None for a file outside the hourly tree."""

    layout: Layout
    hour: datetime | None
    file: File


class Listing(NamedTuple):
    """The files to read, in the order of time, and those we do not know. A tree with a file
    `SIMULATED.txt` was made by a simulator, and everything read from it says so."""

    files: list[HourFile]
    ignored: list[str]
    is_simulated: bool = False


def discover(location: str) -> Listing:
    """Find the block files below a directory or S3 prefix, or take the one file named.

    Raises ConfigError when there is none, SourceFault when a named file is of no known form.
    """
    found = list_files(location)
    if len(found) == 1 and found[0].uri == location:
        file = found[0]
        layout = _layout_by_name(file.uri) or _layout_by_content(file)
        return Listing([HourFile(layout, _hour_of(file.uri), file)], [])
    listing = _hourly(found)
    if not listing.files:
        raise ConfigError(
            f"{location}: no block files; expected e.g. node_fills_by_block/hourly/20251027/17.lz4"
        )
    return listing


def _hourly(found: list[File]) -> Listing:
    files, ignored, is_simulated = [], [], False
    for file in found:
        if file.uri.endswith(f"/{SIMULATED_MARK}"):
            is_simulated = True
            continue
        layout, hour = _layout_by_name(file.uri), _hour_of(file.uri)
        if layout is None or hour is None:
            ignored.append(file.uri)
        else:
            files.append(HourFile(layout, hour, file))
    files.sort(key=lambda file: (file.layout, file.hour))
    return Listing(files, ignored, is_simulated)


def is_simulated(location: str) -> bool:
    """Whether a tree says of itself that a simulator made it."""
    return _hourly(list_files(location)).is_simulated


def _hour_of(uri: str) -> datetime | None:
    match = _HOUR.search(uri)
    if match is None or int(match["hour"]) > 23:
        return None
    try:
        day = datetime.strptime(match["day"], "%Y%m%d").replace(tzinfo=UTC)
    except ValueError:
        return None
    return day.replace(hour=int(match["hour"]))


def _layout_by_name(uri: str) -> Layout | None:
    for part in reversed(uri.split("/")):
        for folder, layout in _FOLDERS:
            if part.startswith(folder):
                return layout
    return None


def _layout_by_content(file: File) -> Layout:
    head = next(read_lines(file), Lines(b"", 0, 0, 0)).text.lstrip()
    if head.startswith((b'["0x', b"[null")):
        return "fills"
    if b'"block_number":' in head[:400]:
        return "misc" if b'"inner":' in head else "by_block"
    if head.startswith((b"[", b"{")):
        return "records"
    raise SourceFault(f"{file.uri}:1", "neither block lines nor JSON records")


def scanner(layout: Layout, *, only_marked: bool, allow_replay: bool = False) -> ByBlock | Merged:
    """A fresh scanner for files of a layout."""
    if _runs_on(layout):
        return Merged(allow_replay=allow_replay)
    return ByBlock(only_marked=only_marked, allow_replay=allow_replay)


def units(files: list[HourFile]) -> Iterator[list[HourFile]]:
    """Files that must be read together, in order: those of one layout and consecutive hours where
    a block may go on in the next file, each by itself where it may not."""
    unit: list[HourFile] = []
    for file in files:
        if unit and not (_runs_on(file.layout) and _follows(unit[-1], file)):
            yield unit
            unit = []
        unit.append(file)
    if unit:
        yield unit


def _runs_on(layout: Layout) -> bool:
    return layout in ("streaming", "fills")


def read(files: list[HourFile], *, only_marked: bool) -> Iterator[tuple[HourFile, Stretch]]:
    """Read the files of a unit. A file that breaks off ends with a stretch whose `fault` says
    where; the next file is read all the same."""
    scan = scanner(files[0].layout, only_marked=only_marked)
    for file in files:
        scan.line = 0
        try:
            for lines in read_lines(file.file):
                stretch = scan.feed(lines, file.file.uri)
                if stretch.fault:
                    yield file, _with_open_block(stretch, scan, file)
                    break
                yield file, stretch
        except SourceFault as fault:
            where = f"{file.file.uri}:{scan.line + 1}"
            broken = Stretch(fault=SourceFault(where, fault.what))
            yield file, _with_open_block(broken, scan, file)
    yield files[-1], scan.finish(files[-1].file.uri)


def _with_open_block(stretch: Stretch, scan: ByBlock | Merged, file: HourFile) -> Stretch:
    """A stretch that ends in a fault, and the block that was open there: whatever comes next, the
    blocks between are not known to be whole."""
    last = scan.finish(file.file.uri)
    return msgspec.structs.replace(
        stretch, lines=stretch.lines + last.lines, sample=stretch.sample + last.sample
    )


def _follows(last: HourFile, file: HourFile) -> bool:
    is_next = last.hour is not None and file.hour == last.hour + _ONE_HOUR
    return is_next and file.layout == last.layout


class Tail:
    """The growing end of one layout's tree: reads what a running node has appended since.

    A last line without its newline is half-written and waits. When a file of a later hour exists
    and this one has given nothing for a while, the later one is next. A node that was restarted may
    repeat heights: they are read again but not covered again. Finished hours may be compressed.
    """

    def __init__(self, location: str, layout: Layout, since: datetime | None) -> None:
        self._location = location
        self._layout = layout
        self._look_at = 0.0
        self._after = None if since is None else since.replace(minute=0, second=0, microsecond=0)
        self._scan: ByBlock | Merged | None = None
        self._file: HourFile | None = None
        self._packed: Iterator[Lines] | None = None
        self._at = 0
        self._text = b""
        self._followed_at: float | None = None  # when the file of a later hour was first seen

    def poll(self) -> Stretch | None:
        """What is new since the last call, or None; lines after a faulty one come with the next.

        Raises SourceFault when the file cannot be read."""
        if self._file is None and not self._open(self._next_file()):
            return None
        if stretch := self._read_on():
            return stretch
        following = self._next_file()
        if following is None or not self._is_settled():
            return None
        # The node may have written between our last read and the birth of the next file.
        if stretch := self._read_on():
            return stretch
        assert self._file is not None and self._scan is not None
        fault = self._cut_off() if self._text else None
        is_joined = _follows(self._file, following) and fault is None
        last = Stretch() if is_joined else self._scan.finish(self._file.file.uri)
        self._open(following)
        return msgspec.structs.replace(last, fault=fault) if last.lines or fault else None

    def _is_settled(self) -> bool:
        """Whether the node, which is writing a later file, will not come back to this one."""
        assert self._file is not None
        now = time.monotonic()
        self._followed_at = self._followed_at or now
        with contextlib.suppress(OSError):
            if time.time() - Path(self._file.file.uri).stat().st_mtime > _LATE_SECONDS:
                return True
        return now - self._followed_at > _LATE_SECONDS

    def _read_on(self) -> Stretch | None:
        assert self._file is not None and self._scan is not None
        uri = self._file.file.uri
        if uri.endswith(".lz4"):
            return self._unpack(self._file)
        if b"\n" not in self._text:
            self._text += self._appended(uri)
        whole, newline, rest = self._text.rpartition(b"\n")
        if not newline:
            return None
        text = whole + newline
        stretch = self._scan.feed(Lines(text, 0, len(text), self._at), uri)
        self._text = text[len(text) - stretch.unread :] + rest
        return _with_open_block(stretch, self._scan, self._file) if stretch.fault else stretch

    def _unpack(self, hour: HourFile) -> Stretch | None:
        """The next piece of a compressed file, which is finished."""
        assert self._scan is not None
        if self._packed is None:
            self._packed = read_lines(hour.file)
        try:
            lines = next(self._packed, None)
        except SourceFault as fault:
            where = f"{hour.file.uri}:{self._scan.line + 1}"
            broken = Stretch(fault=SourceFault(where, fault.what))
            return _with_open_block(broken, self._scan, hour)
        if lines is None:
            return None
        stretch = self._scan.feed(lines, hour.file.uri)
        if not stretch.fault:
            return stretch
        self._packed = iter(())
        return _with_open_block(stretch, self._scan, hour)

    def _appended(self, uri: str) -> bytes:
        try:
            with Path(uri).open("rb") as file:
                file.seek(self._at)
                data = file.read(16 * READ_BYTES)
        except OSError as error:
            raise SourceFault(uri, f"cannot be read: {error.strerror}") from error
        self._at += len(data)
        return data

    def _cut_off(self) -> SourceFault:
        assert self._file is not None and self._scan is not None
        where = f"{self._file.file.uri}:{self._scan.line + 1}"
        return SourceFault(where, "line cut off, and a later hour has begun")

    def _next_file(self) -> HourFile | None:
        now = time.monotonic()
        if now < self._look_at:
            return None
        self._look_at = now + _LOOK_SECONDS
        last = self._file.hour if self._file else None
        for file in _hourly(list_files(self._location)).files:
            if file.layout != self._layout or file.hour is None:
                continue
            if (last is None or file.hour > last) and (
                self._after is None or file.hour >= self._after
            ):
                return file
        return None

    def _open(self, file: HourFile | None) -> bool:
        if file is None:
            return False
        if self._scan is None or self._file is None or not _follows(self._file, file):
            self._scan = scanner(self._layout, only_marked=False, allow_replay=True)
        self._scan.line = 0
        self._file, self._at, self._text, self._look_at = file, 0, b"", 0.0
        self._packed = self._followed_at = None
        return True


def read_records(file: File, account: str | None) -> Iterator[tuple[Layout, BlockLine]]:
    """Every fill and ledger update in a JSON answer of the API, or in lines of such, whatever it
    is wrapped in, each as a block line of the layout that fits. `account` is whose they are where
    the record itself does not say.

    Raises SourceFault when the file is no JSON or holds nothing of the kind.
    """
    text = b"".join(lines.text[lines.start : lines.stop] for lines in read_lines(file))
    found = False
    for line_number, document in _documents(text, file.uri):
        for record in _placed(document, account, f"{file.uri}:{line_number}"):
            found = True
            layout: Layout = "misc" if b'"inner":' in record.events else "fills"
            yield (
                layout,
                BlockLine(record.number, record.at, record.events, True, file.uri, line_number),
            )
    if not found:
        raise SourceFault(file.uri, "no fills and no ledger updates in it; trades carry no mark")


def _documents(text: bytes, uri: str) -> Iterator[tuple[int, Any]]:
    try:
        yield 1, msgspec.json.decode(text)
    except msgspec.DecodeError:
        for line_number, line in enumerate(text.splitlines(), 1):
            try:
                yield line_number, msgspec.json.decode(line)
            except msgspec.DecodeError as error:
                raise SourceFault(f"{uri}:{line_number}", f"invalid JSON: {error}") from error


def _placed(document: Any, account: str | None, where: str) -> Iterator[Placed]:
    try:
        yield from _records(document, account)
    except ValueError as error:
        raise SourceFault(where, f"a record out of place: {error}") from error


def _records(node: Any, user: str | None) -> Iterator[Placed]:
    """Walk a document; the nearest `user` above a fill is whose it is."""
    if isinstance(node, list):
        for child in node:
            yield from _records(child, user)
    elif isinstance(node, dict):
        if {"coin", "px", "sz", "side", "dir"} <= node.keys():
            yield _record([user, node], node)
        elif "delta" in node or "inner" in node:
            yield _record(_as_ledger_event(node, user), node)
        else:
            request = node.get("request")
            asked = request.get("user") if isinstance(request, dict) else None
            user = node.get("user") or asked or user
            for child in node.values():
                yield from _records(child, user)


def _record(event: Any, node: dict[str, Any]) -> Placed:
    tx_hash = node.get("hash")
    number = block_in_hash(tx_hash) if isinstance(tx_hash, str) else None
    return Placed(number, _time_of(node), msgspec.json.encode([event]))


def _time_of(node: dict[str, Any]) -> datetime:
    match node.get("time", 0):
        case str(text):
            return utc(text)
        case int(milliseconds):
            return utc_of_ms(milliseconds)
        case other:
            raise ValueError(f"time {other!r}")


def _as_ledger_event(node: dict[str, Any], user: str | None) -> dict[str, Any]:
    """The API's {time, hash, delta} of a known user in the form of misc_events."""
    if "inner" in node:
        return node
    update = {"users": [user] if user else [], "delta": node["delta"]}
    return {"time": node.get("time"), "hash": node.get("hash"), "inner": {"LedgerUpdate": update}}
