"""Open interest of markets as Hyperliquid publishes it: daily files of all minutes, and what its
API says of now. Pure.

The archive's documentation names the files and not their columns:
https://hyperliquid.gitbook.io/hyperliquid-docs/historical-data. The header is as public readers of
them have it, kanekoshoyu/anysignal:CLAUDE.md among others: time, coin, funding, open_interest,
prev_day_px, day_ntl_vlm, premium, oracle_px, mark_px, mid_px, impact_bid_px, impact_ask_px.
"""

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import NamedTuple

import msgspec

from indexer.errors import ConfigError
from indexer.price_files import BadLine
from indexer.venues import hyperliquid

COLUMNS = ("time", "coin", "open_interest")  # all others are left alone

_DAY = re.compile(r"(\d{8})\.csv(\.lz4)?")
_AMOUNT = re.compile(r"[0-9]{1,30}(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,2})?")


class Observation(NamedTuple):
    """The open interest of a market at a moment, in its units; `line` counts the header as 1."""

    line: int
    market: str
    at: datetime
    open_interest: Decimal


def read(name: str, texts: Iterable[bytes]) -> Iterator[Observation | BadLine]:
    """The lines of a daily file in order, given as pieces of whole lines. All of them are of one
    UTC day: that of a name as `20251010.csv.lz4`, else that of the first line.

    Raises ConfigError when it is no such file at all: not text, no header, a column too few."""
    rows = csv.reader(_lines(name, texts), strict=True)
    day = _day_of(name)
    try:
        header = [column.strip().lower() for column in next(rows, [])]
        _check(name, header)
        for values in rows:
            if values:
                found = _observation(rows.line_num, header, values, day)
                if isinstance(found, Observation):
                    day = day or found.at.date()
                yield found
    except csv.Error as error:
        raise ConfigError(f"{name}: line {rows.line_num}: {error}") from None


def _lines(name: str, texts: Iterable[bytes]) -> Iterator[str]:
    for text in texts:
        try:
            yield from text.decode("utf-8-sig").splitlines()
        except UnicodeDecodeError:
            raise ConfigError(f"{name}: not UTF-8") from None


def _day_of(name: str) -> date | None:
    found = _DAY.search(name)
    try:
        return datetime.strptime(found[1], "%Y%m%d").date() if found else None  # noqa: DTZ007 - a day
    except ValueError:
        return None


def _check(name: str, header: Sequence[str]) -> None:
    if not header:
        raise ConfigError(f"{name}: it is empty")
    missing = [column for column in COLUMNS if column not in header]
    if missing:
        raise ConfigError(f"{name}: no column {' and no '.join(missing)}")
    twice = [column for column in COLUMNS if header.count(column) > 1]
    if twice:
        raise ConfigError(f"{name}: two columns {twice[0]}")


def _observation(
    line: int, header: Sequence[str], values: Sequence[str], day: date | None
) -> Observation | BadLine:
    if len(values) != len(header):
        return BadLine(line, f"{len(values)} values under {len(header)} columns")
    row: Mapping[str, str] = dict(zip(header, values, strict=True))
    at, coin, text = _time(row["time"]), row["coin"], row["open_interest"]
    if at is None:
        return BadLine(line, f"{row['time'][:60]!r} is no time with a zone")
    if day is not None and at.date() != day:
        return BadLine(line, f"{row['time'][:60]} is not on {day}")
    if hyperliquid.market_of(coin) is None:
        return BadLine(line, f"{coin[:60]!r} is no perpetual")
    if _AMOUNT.fullmatch(text) is None:
        return BadLine(line, f"{text[:60]!r} is no open interest")
    return Observation(line, coin, at, Decimal(text))


def _time(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
        return None if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


# -- what the API says


class _Asset(msgspec.Struct):
    name: str


class _Meta(msgspec.Struct):
    universe: list[_Asset]


class _Context(msgspec.Struct, rename="camel"):
    open_interest: str


_ANSWER = msgspec.json.Decoder(tuple[_Meta, list[_Context]])


def now(body: bytes, dex: str) -> dict[str, Decimal]:
    """What a `metaAndAssetCtxs` says of each market of a dex; MsgspecError or ValueError for what
    is no such answer. It names no time.

    https://hyperliquid.gitbook.io/hyperliquid-docs/for-developers/api/info-endpoint/perpetuals"""
    meta, contexts = _ANSWER.decode(body)
    if len(meta.universe) != len(contexts):
        raise ValueError(f"{len(contexts)} contexts of {len(meta.universe)} markets")
    found: dict[str, Decimal] = {}
    for asset, context in zip(meta.universe, contexts, strict=True):
        perp = hyperliquid.market_of(asset.name)
        if perp is None or perp.dex != dex:
            raise ValueError(f"{asset.name!r} is no perpetual of the dex {dex!r}")
        if asset.name in found:
            raise ValueError(f"{asset.name} is there twice")
        if _AMOUNT.fullmatch(context.open_interest) is None:
            raise ValueError(f"{context.open_interest[:60]!r} is no open interest")
        found[asset.name] = Decimal(context.open_interest)
    return found
