"""Bytes of files, on disk or in S3: opened, unpacked and cut into whole lines."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

import lz4.frame
from botocore.exceptions import BotoCoreError, ClientError
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from indexer.errors import ConfigError, SourceFault
from indexer.sources.block_lines import Lines

# Unpacked three times as large. Of 64 to 512 KiB the fastest for the whole way to the database.
READ_BYTES = 512 * 1024
SMALL_READ_BYTES = 4096


class Readable(Protocol):
    """What we need of an open file."""

    def read(self, size: int, /) -> bytes: ...
    def close(self) -> None: ...


class File(NamedTuple):
    """A file somewhere: `uri` is what messages and `explain` show, `size` is in stored bytes."""

    uri: str
    size: int
    s3: Any = None

    def open(self) -> Readable:
        """Open for reading; raises SourceFault when the file cannot be read."""
        if self.s3 is not None:
            return _S3Stream(self.s3, self.uri)
        try:
            return Path(self.uri).open("rb")
        except OSError as error:
            raise SourceFault(self.uri, f"cannot be read: {error.strerror}") from error


def list_files(location: str) -> list[File]:
    """All files under a directory or an `s3://bucket/prefix`, or the one file named.

    Raises ConfigError when there is nothing there or it may not be read.
    """
    if location.startswith("s3://"):
        return list(_list_s3(location))
    path = Path(location)
    if path.is_file():
        return [File(str(path), path.stat().st_size)]
    if not path.is_dir():
        raise ConfigError(f"{location}: no such file or directory")
    return [File(str(found), _size(found)) for found in sorted(_walk(path))]


def _walk(folder: Path) -> Iterator[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be listed: {error.strerror}") from error
    for entry in entries:
        if entry.is_dir():
            yield from _walk(entry)
        elif entry.is_file() or entry.is_symlink():  # one that leads nowhere is missing data
            yield entry


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # it has vanished; opening it will say so


def _list_s3(location: str) -> Iterator[File]:
    bucket, prefix = _s3_place(location)
    if not bucket:
        raise ConfigError(f"{location}: no bucket in it; write s3://bucket/prefix")
    import boto3  # a quarter of a second to import, for S3 only

    found = False
    try:
        client = boto3.client("s3")
        pages = client.get_paginator("list_objects_v2").paginate(
            Bucket=bucket, Prefix=prefix, RequestPayer="requester"
        )
        for page in pages:
            for item in page.get("Contents", ()):
                found = True
                yield File(f"s3://{bucket}/{item['Key']}", item["Size"], client)
    except (BotoCoreError, ClientError, ValueError) as error:  # ValueError: an impossible endpoint
        raise ConfigError(f"{location}: cannot be listed: {_one_line(error)}") from error
    if not found:
        raise ConfigError(f"{location}: no objects under this prefix")


def _s3_place(uri: str) -> tuple[str, str]:
    parts = urlsplit(uri)
    return parts.netloc, parts.path.lstrip("/")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _is_replaced(error: Exception) -> bool:
    return isinstance(error, ClientError) and error.response["Error"]["Code"] in (
        "PreconditionFailed", "412",
    )  # fmt: skip


class _S3Stream:
    """An object read front to back; a broken connection resumes at the byte where it broke."""

    def __init__(self, client: Any, uri: str) -> None:
        self._client = client
        self._uri = uri
        self._at = 0
        self._etag: str | None = None
        self._body: Any = None

    def read(self, size: int, /) -> bytes:
        policy = Retrying(
            retry=retry_if_exception_type((BotoCoreError, OSError)),
            stop=stop_after_attempt(5),
            wait=wait_exponential_jitter(initial=0.2, max=10),
            reraise=True,
        )
        try:
            data: bytes = policy(self._read_once, size)
        except (BotoCoreError, ClientError, OSError) as error:
            why = "the object was replaced meanwhile" if _is_replaced(error) else _one_line(error)
            raise SourceFault(self._uri, f"cannot be read on at byte {self._at}: {why}") from error
        self._at += len(data)
        return data

    def _read_once(self, size: int) -> bytes:
        if self._body is None:
            self._body = self._get()
        try:
            data: bytes = self._body.read(size)
        except (BotoCoreError, OSError):
            self.close()
            raise
        return data

    def _get(self) -> Any:
        bucket, key = _s3_place(self._uri)
        # The tag refuses to resume inside an object that was replaced meanwhile.
        resume = {"Range": f"bytes={self._at}-", "IfMatch": self._etag} if self._at else {}
        answer = self._client.get_object(Bucket=bucket, Key=key, RequestPayer="requester", **resume)
        self._etag = answer["ETag"]
        return answer["Body"]

    def close(self) -> None:
        if self._body is not None:
            with contextlib.suppress(OSError):
                self._body.close()
            self._body = None


def read_lines(file: File) -> Iterator[Lines]:
    """Stream a file, plain or LZ4, as blocks of whole lines, in a few MB of memory.

    Raises SourceFault after everything readable was given: a truncated or damaged LZ4 frame.
    """
    rest, size = b"", 0
    for text, size in _unpacked(file):
        stop = text.rfind(b"\n") + 1
        if stop == 0:
            rest += text
            continue
        start = 0
        if rest:
            # Only the line that crosses the border is copied, the rest stays where it is.
            start = text.find(b"\n") + 1
            head = rest + text[:start]
            yield Lines(head, 0, len(head), size)
        rest = text[stop:]
        yield Lines(text, start, stop, size)
    if rest:
        yield Lines(rest, 0, len(rest), size, is_cut=True)


def _unpacked(file: File) -> Iterator[tuple[bytes, int]]:
    if file.uri.endswith(".lz4"):
        yield from _up_to_damage(file)
        return
    with contextlib.closing(file.open()) as stream:
        size = 0
        while data := _read(file, stream):
            size += len(data)
            yield data, size
        if not size:
            raise SourceFault(file.uri, "empty file")


def _up_to_damage(file: File) -> Iterator[tuple[bytes, int]]:
    """The decompressor gives nothing of the piece in which it fails, so a damaged file is read a
    second time in small pieces, for what stands before the damage."""
    given = 0
    try:
        for text, size in _unlz4(file, READ_BYTES):
            given += len(text)
            yield text, size
    except _Damage:
        try:
            for text, size in _unlz4(file, SMALL_READ_BYTES):
                if given < len(text):
                    yield text[given:], size
                given = max(given - len(text), 0)
        except _Damage as damage:
            raise SourceFault(file.uri, str(damage)) from damage


class _Damage(Exception):
    """The bytes are no LZ4 frame, or no longer."""


def _unlz4(file: File, read_bytes: int) -> Iterator[tuple[bytes, int]]:
    with contextlib.closing(file.open()) as stream:
        yield from _frames(file, stream, read_bytes)


def _frames(file: File, stream: Readable, read_bytes: int) -> Iterator[tuple[bytes, int]]:
    frame = lz4.frame.LZ4FrameDecompressor()
    size = 0
    started = False
    is_frame = False
    while data := _read(file, stream, read_bytes):
        size += len(data)
        while data:
            started = True
            try:
                text = frame.decompress(data)
            except RuntimeError as error:
                what = f"damaged LZ4 frame near byte {size}" if is_frame else "not an LZ4 frame"
                raise _Damage(what) from error
            is_frame = True
            if text:
                yield text, size
            data = frame.unused_data or b"" if frame.eof else b""
            if frame.eof:
                frame, started = lz4.frame.LZ4FrameDecompressor(), False
    if started:
        raise SourceFault(file.uri, f"LZ4 frame cut off at byte {size}, the end of the file")
    if not size:
        raise SourceFault(file.uri, "empty file")


def _read(file: File, stream: Readable, read_bytes: int = READ_BYTES) -> bytes:
    try:
        return stream.read(read_bytes)
    except OSError as error:
        raise SourceFault(file.uri, f"cannot be read: {error.strerror}") from error
