"""A user's file of prices, CSV or Parquet: `asset`, `time`, `usd` and, if no chain is given with
the file or in front of the asset, `chain`. `usd` is of one whole token.

A time is ISO 8601 with its zone, or whole seconds since 1970. Dollars are decimal: text in a CSV
file, text or a decimal column in Parquet. Whether there is such a chain or token is not asked here.
"""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import NamedTuple

from indexer.errors import ConfigError

REQUIRED = ("asset", "time", "usd")
COLUMNS = (*REQUIRED, "chain")
TOKENS_BY_NAME = ("hyperliquid",)  # chains that name tokens instead of addressing them

_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
_NAME = re.compile(r"[A-Za-z0-9]{1,20}")
_CHAIN = re.compile(r"[a-z0-9_.-]{1,40}")
_SECONDS = re.compile(r"[0-9]{1,11}")
_USD = re.compile(r"[0-9]{1,40}(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,2})?")


class Point(NamedTuple):
    """What one whole token was worth; `line` counts the header as 1, in Parquet the first row."""

    line: int
    chain: str
    asset: str
    at: datetime
    usd: Decimal


class BadLine(NamedTuple):
    """A line that says no price, and why; chain and token as far as it names them."""

    line: int
    what: str
    chain: str | None = None
    asset: str | None = None

    def __str__(self) -> str:
        return f"line {self.line}: {self.what}"


def read(path: Path, chain: str | None = None) -> Iterator[Point | BadLine]:
    """The lines of a file in order, `chain` where they name none; CSV unless it is `*.parquet`.
    Where the quotes of a CSV file do not close, its last line is that.

    Raises ConfigError when the file is none of ours at all: no such file, no header, a column too
    few, a float column, an unreadable encoding."""
    rows = _parquet(path) if path.suffix.lower() == ".parquet" else _csv(path)
    try:
        for line, row in rows:
            yield row if isinstance(row, BadLine) else _point(line, row, chain)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8") from None


_Row = Mapping[str, object]
_Rows = Iterator[tuple[int, _Row | BadLine]]


def _csv(path: Path) -> _Rows:
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file, strict=True)
        try:
            header = [name.strip().lower() for name in next(lines, [])]
        except csv.Error as error:
            raise ConfigError(f"{path}: line {lines.line_num}: {error}") from None
        _check_header(path, header)
        try:
            for values in lines:
                if len(values) == len(header):
                    yield lines.line_num, dict(zip(header, values, strict=True))
                elif values:
                    what = f"{len(values)} values under {len(header)} columns"
                    yield lines.line_num, BadLine(lines.line_num, what)
        except csv.Error as error:
            yield lines.line_num, BadLine(lines.line_num, f"{error}, so what follows is unread")


def _parquet(path: Path) -> _Rows:
    try:
        import pyarrow
        from pyarrow import parquet, types
    except ImportError:
        raise ConfigError(
            f"{path}: Parquet needs pyarrow: pip install 'liquidation-indexer[parquet]'"
        ) from None
    try:
        with parquet.ParquetFile(path) as file:
            schema = file.schema_arrow
            _check_header(path, schema.names)
            if types.is_floating(schema.field("usd").type):
                raise ConfigError(
                    f"{path}: usd is a float column, and a float is no exact price; write it as"
                    " decimal128 or as text"
                )
            columns = [name for name in schema.names if name in COLUMNS]
            line = 0
            for batch in file.iter_batches(columns=columns):
                for row in batch.to_pylist():
                    line += 1
                    yield line, row
    except pyarrow.ArrowException as error:
        raise ConfigError(f"{path}: {str(error).strip().splitlines()[0]}") from None


def _check_header(path: Path, names: Sequence[str]) -> None:
    if not names:
        raise ConfigError(f"{path}: it is empty")
    missing = [name for name in REQUIRED if name not in names]
    if missing:
        raise ConfigError(f"{path}: no column {' and no '.join(missing)}")
    twice = [name for name in COLUMNS if list(names).count(name) > 1]
    if twice:
        raise ConfigError(f"{path}: two columns {twice[0]}")


def _point(line: int, row: _Row, chain: str | None) -> Point | BadLine:
    named, asset = _asset(row, chain)
    at, usd = _time(row["time"]), _usd(row["usd"])
    if named and asset and at and usd and _CHAIN.fullmatch(named):
        return Point(line, named, asset, at, usd)
    faults: list[str] = []
    if named is None:
        faults.append(f"no chain is named for {_shown(row['asset'])}")
    elif not _CHAIN.fullmatch(named):
        faults.append(f"{_shown(named)} is no name of a chain")
        named = None
    elif asset is None:
        faults.append(f"{_shown(row['asset'])} is no token of {named}")
    if at is None:
        faults.append(f"{_shown(row['time'])} is no time with a zone")
    if usd is None:
        faults.append(f"{_shown(row['usd'])} is no price above 0")
    return BadLine(line, ", ".join(faults), named, asset)


def _asset(row: _Row, chain: str | None) -> tuple[str | None, str | None]:
    """Chain and token; `chain:token` names both, and must not contradict the column."""
    before, colon, after = _text(row["asset"]).rpartition(":")
    column = _text(row.get("chain")).lower()
    names = {name for name in (before.lower() if colon else "", column) if name}
    if len(names) > 1:
        return before.lower(), None
    named = next(iter(names), chain)
    if named is None:
        return None, None
    if named in TOKENS_BY_NAME:
        return named, after if _NAME.fullmatch(after) else None
    return named, after.lower() if _ADDRESS.fullmatch(after) else None


def _time(value: object) -> datetime | None:
    """An aware time in UTC; None for what is none."""
    try:
        if isinstance(value, int) or _SECONDS.fullmatch(_text(value)):
            return datetime.fromtimestamp(int(_text(value)), UTC)
        found = value if isinstance(value, datetime) else datetime.fromisoformat(_text(value))
        return None if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _usd(value: object) -> Decimal | None:
    """Exactly as written; None for what is no number above 0."""
    text = _text(value)
    if isinstance(value, Decimal):
        text = f"{value:f}"
    if not _USD.fullmatch(text):
        return None
    try:
        usd = Decimal(text)
    except InvalidOperation:
        return None
    return usd if usd > 0 else None


def _text(value: object) -> str:
    return "" if value is None else str(value).strip()


def _shown(value: object) -> str:
    return repr(_text(value)[:60])
