"""Files of labels that others made, in the formats that they are published in.

oli                  openlabelsinitiative/OLI:2_label_pool/tooling_read, rows of the label pool as
                     CSV, Parquet or JSON: chain_id, address, tag_id, tag_value (or value), revoked
eth-labels           dawsbot/eth-labels:data/csv/accounts.csv, data/json/accounts.json:
                     address, chainId, label, nameTag
etherscan-labels     brianleect/etherscan-labels:data/etherscan/combined/combinedAllLabels.json,
                     {address: {name, labels}}; data/etherscan/accounts/LABEL.csv: Address, Name Tag
ofac                 0xB10C/ofac-sanctioned-digital-currency-addresses:sanctioned_addresses_ETH.txt
                     (or .json), an address a line; they hold on every chain, whatever the asset
hyperliquid-aliases  {address: name}, as api.hypurrscan.io/globalAliases answers
csv                  account, label and maybe name, chain, confidence, valid_from, valid_to

A label is in lower case; `kind:value` where a kind has one value, as `is_contract:true`. What only
says a name is the label `alias`.
"""

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, NamedTuple

from indexer.errors import ConfigError

Format = Literal[
    "oli", "eth-labels", "etherscan-labels", "ofac", "hyperliquid-aliases", "csv"
]  # fmt: skip

EVERYWHERE = "*"  # every chain where the address is an account
LONGEST_LABEL = 200
DEEPEST = 50  # brackets within brackets; the formats have three

_ADDRESS = re.compile(r"0x[0-9a-f]{40}")
_ACCOUNT = re.compile(r"0x[0-9a-f]{40}(:[0-9]{1,78})?|0x[0-9a-f]{64}")  # Dolomite's, Liquity's
_CHAIN_ID = re.compile(r"[0-9]{1,20}")
_SECONDS = re.compile(r"[0-9]{1,11}")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_BRACKET = re.compile(r"[][{}]")
_CONFIDENCE = re.compile(r"[01]?\.?[0-9]{1,18}")
# openlabelsinitiative/OLI:1_label_schema/tags/tag_definitions.yml: the tags that say what an
# account is, beside those that begin with is_; the others are about code, deployment and tokens
_OLI_KINDS = ("owner_project", "usage_category", "paymaster_category")


class Said(NamedTuple):
    """What a record says of an account. `where` names the record, `place` counts them.

    `chain` is a chain of ours, `hyperliquid`, `eip155:ID` of a chain that is none of ours, or `*`.
    `confidence` is the record's own, above 0 to 1; `raw` its JSON text as published."""

    place: int
    where: str
    chain: str
    account: str
    label: str
    name: str | None
    confidence: Decimal
    valid_from: datetime | None
    valid_to: datetime | None
    raw: str


class Dropped(NamedTuple):
    """A sound record that says nothing of an account of ours, and why."""

    why: str


class Broken(NamedTuple):
    """A record that cannot be understood, and why."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


class Context(NamedTuple):
    """What a file does not say itself: the names of chains by their id, and the chain of records
    that name none."""

    chains: Mapping[int, str]
    chain: str | None = None


class Record(NamedTuple):
    """One record of a file: a line of CSV or text, a row of Parquet, an entry of JSON."""

    where: str
    fields: Any


def read(path: Path, form: Format, context: Context) -> Iterator[Said | Dropped | Broken]:
    """What the records of a file say, in order.

    Raises ConfigError when the file is none of this format at all: no such file, another kind, a
    column too few, an unreadable encoding."""
    kinds, columns, understand = _FORMATS[form]
    if path.suffix.lower() not in kinds:
        raise ConfigError(f"{path}: a file of {form} ends with {' or '.join(kinds)}")
    if context.chain is not None:
        _check_chain(context)
    for place, record in enumerate(records(path, columns), 1):
        if isinstance(record, Broken):
            yield record
            continue
        try:
            raw = _raw(record.fields)
            for said in understand(record.fields, path, context):
                if isinstance(said, Dropped):
                    yield said
                else:
                    yield _said(place, record.where, said, raw)
        except Faulty as fault:
            yield Broken(record.where, str(fault))


def _check_chain(context: Context) -> None:
    try:
        chain_of(context.chain, context)
    except Faulty as fault:
        raise ConfigError(str(fault)) from None


class Faulty(Exception):
    """Why a record cannot be understood."""


class _Statement(NamedTuple):
    chain: str
    account: str
    label: str
    name: str | None = None
    confidence: Decimal = Decimal(1)
    valid_from: datetime | None = None
    valid_to: datetime | None = None


_Statements = Iterable[_Statement | Dropped]


def _said(place: int, where: str, one: _Statement, raw: str) -> Said:
    label = " ".join(one.label.lower().split())
    if not label:
        raise Faulty("there is no label")
    if len(label) > LONGEST_LABEL:
        raise Faulty(f"a label of more than {LONGEST_LABEL} letters")
    return Said(place, where, *one._replace(label=label, name=one.name or None), raw)


# -- the formats ---------------------------------------------------------------------------------


def _oli(row: Any, _: Path, context: Context) -> _Statements:
    chain_id, tag = text(_field(row, "chain_id")), text(_field(row, "tag_id"))
    value = text(row["tag_value"] if "tag_value" in row else _field(row, "value"))
    if text(row.get("revoked")).lower() == "true":
        return (Dropped("revoked"),)
    if not chain_id.startswith("eip155:"):
        return (Dropped("not on an EVM chain"),)
    chain, account = chain_of(chain_id, context), _account(_field(row, "address"))
    if tag == "contract_name":
        return _alias(chain, account, value)
    if not tag.startswith("is_") and tag not in _OLI_KINDS:
        return (Dropped("a tag that does not say what the account is"),)
    if not value:
        raise Faulty(f"{tag} has no value")
    return (_Statement(chain, account, f"{tag}:{value}"),)


def _eth_labels(row: Any, _: Path, context: Context) -> _Statements:
    chain = chain_of(f"eip155:{text(_field(row, 'chainId'))}", context)
    account = _account(_field(row, "address"))
    return (_Statement(chain, account, text(_field(row, "label")), text(row.get("nameTag"))),)


def _etherscan_labels(entry: Any, path: Path, context: Context) -> _Statements:
    if path.suffix.lower() == ".csv":
        address, name, labels = entry["Address"], text(entry["Name Tag"]), [path.stem]
    else:
        address, about = _pair(entry)
        name, labels = text(_field(about, "name")), _field(about, "labels")
    if not text(address):
        return (Dropped("no account"),)  # the sum at the end of a page
    account, chain = _account(address), chain_of(None, context)
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise Faulty("labels is no list of texts")
    return [_Statement(chain, account, label, name) for label in labels] or [Dropped("no label")]


def _ofac(address: Any, _: Path, __: Context) -> _Statements:
    if not isinstance(address, str):
        raise Faulty(f"{shown(address)} is no address")
    # those of one asset may be on several chains: USDT is on Bitcoin, Tron and Ethereum
    if not address.strip().lower().startswith("0x"):
        return (Dropped("not on an EVM chain"),)
    return (_Statement(EVERYWHERE, _account(address), "sanctioned"),)


def _hyperliquid_aliases(entry: Any, _: Path, __: Context) -> _Statements:
    address, name = _pair(entry)
    if name is not None and not isinstance(name, str):
        raise Faulty(f"the name of {shown(address)} is no text")
    return _alias("hyperliquid", _account(address), text(name))


def _plain(row: Any, _: Path, context: Context) -> _Statements:
    account = account_of(row["account"])
    since, until = moment(row.get("valid_from")), moment(row.get("valid_to"))
    if since is not None and until is not None and since >= until:
        raise Faulty("valid_to is not after valid_from")
    return (
        _Statement(
            chain_of(row.get("chain"), context), account, text(row["label"]), text(row.get("name")),
            _confidence(row.get("confidence")), since, until,
        ),
    )  # fmt: skip


def _alias(chain: str, account: str, name: str) -> _Statements:
    return (_Statement(chain, account, "alias", name) if name else Dropped("no name"),)


_Understand = Callable[[Any, Path, Context], _Statements]
# endings of its files, columns that a table of it must have, what a record says
_FORMATS: Mapping[Format, tuple[tuple[str, ...], tuple[str, ...], _Understand]] = {
    "oli": ((".csv", ".parquet", ".json"), ("chain_id", "address", "tag_id"), _oli),
    "eth-labels": ((".csv", ".json"), ("address", "chainId", "label"), _eth_labels),
    "etherscan-labels": ((".json", ".csv"), ("Address", "Name Tag"), _etherscan_labels),
    "ofac": ((".txt", ".json"), (), _ofac),
    "hyperliquid-aliases": ((".json",), (), _hyperliquid_aliases),
    "csv": ((".csv",), ("account", "label"), _plain),
}
FORMATS = tuple(_FORMATS)


# -- the parts of a record -----------------------------------------------------------------------


def _field(row: Any, name: str) -> Any:
    if not isinstance(row, dict):
        raise Faulty(f"{shown(row)} is no row with columns")
    if name not in row:
        raise Faulty(f"there is no {name}")
    return row[name]


def _pair(entry: Any) -> tuple[str, Any]:
    if not isinstance(entry, dict) or len(entry) != 1:
        raise Faulty(f"{shown(entry)} is no address with what is said of it")
    return next(iter(entry.items()))


def _account(value: Any) -> str:
    account = text(value).lower()
    if not _ADDRESS.fullmatch(account):
        raise Faulty(f"{shown(value)} is no address")
    return account


def account_of(value: Any) -> str:
    """An account as venues name it: an address, one with a number, or the id of a position. Raises
    Faulty."""
    account = text(value).lower()
    if not _ACCOUNT.fullmatch(account):
        raise Faulty(f"{shown(value)} is no account")
    return account


def chain_of(value: Any, context: Context) -> str:
    """A chain by its name or its id as in CAIP-2; `eip155:any` is OLI's word for all. Raises
    Faulty."""
    named = text(value).lower() or context.chain
    if named is None:
        raise Faulty("no chain is named")
    if named in (EVERYWHERE, "eip155:any"):
        return EVERYWHERE
    before, colon, number = named.partition(":")
    if colon and before == "eip155" and _CHAIN_ID.fullmatch(number):
        return context.chains.get(int(number), f"eip155:{int(number)}")
    if named == "hyperliquid" or named in context.chains.values():
        return named
    raise Faulty(f"{shown(named)} is no chain that we know")


def _confidence(value: Any) -> Decimal:
    if not text(value):
        return Decimal(1)
    if _CONFIDENCE.fullmatch(text(value)) and 0 < Decimal(text(value)) <= 1:
        return Decimal(text(value))
    raise Faulty(f"{shown(value)} is no confidence above 0 to 1")


def moment(value: Any) -> datetime | None:
    """A time in UTC; a day is its first moment, nothing is None. Raises Faulty."""
    said = text(value)
    if not said:
        return None
    try:
        if _SECONDS.fullmatch(said):
            return datetime.fromtimestamp(int(said), UTC)
        found = datetime.fromisoformat(f"{said}T00:00Z" if _DAY.fullmatch(said) else said)
        if found.tzinfo is not None:
            return found.astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        pass
    raise Faulty(f"{shown(value)} is no day and no time with a zone")


def text(value: Any) -> str:
    """What a field says, without blanks around; nothing where it says nothing."""
    return "" if value is None else str(value).strip()


def shown(value: Any) -> str:
    """A field for a message."""
    return repr(text(value)[:60])


def _raw(fields: Any) -> str:
    """JSON text that PostgreSQL takes."""
    try:
        raw = json.dumps(fields, ensure_ascii=False, allow_nan=False, default=str)
        raw.encode()
    except UnicodeEncodeError:
        raise Faulty("half a character in it") from None
    except ValueError:
        raise Faulty("a number in it is none") from None
    if "\\u0000" in raw:
        raise Faulty("a NUL character in it")
    return raw


# -- the kinds of files --------------------------------------------------------------------------


def records(path: Path, columns: Sequence[str]) -> Iterator[Record | Broken]:
    """The records of a file by its ending: rows of .csv or .parquet as dicts, lines of .txt, the
    entries of a list or an object in .json. Raises ConfigError, as where a column is missing."""
    kind = {".csv": _csv, ".parquet": _parquet, ".json": _json, ".txt": _lines}
    try:
        yield from kind[path.suffix.lower()](path, columns)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8") from None


def _csv(path: Path, columns: Sequence[str]) -> Iterator[Record | Broken]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file, strict=True)
        try:
            header = [name.strip() for name in next(lines, [])]
            _check_header(path, header, columns)
            for values in lines:
                where = f"line {lines.line_num}"
                if len(values) == len(header):
                    yield Record(where, dict(zip(header, values, strict=True)))
                elif values:
                    yield Broken(where, f"{len(values)} values under {len(header)} columns")
        except csv.Error as error:
            raise ConfigError(f"{path}: line {lines.line_num}: {error}") from None


def _parquet(path: Path, columns: Sequence[str]) -> Iterator[Record]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise ConfigError(
            f"{path}: Parquet needs pyarrow: pip install 'liquidation-indexer[parquet]'"
        ) from None
    try:
        with parquet.ParquetFile(path) as file:
            _check_header(path, file.schema_arrow.names, columns)
            place = 0
            for batch in file.iter_batches():
                for row in batch.to_pylist():
                    place += 1
                    yield Record(f"row {place}", {k: _no_nan(v) for k, v in row.items()})
    except pyarrow.ArrowException as error:
        raise ConfigError(f"{path}: {str(error).strip().splitlines()[0]}") from None


def _no_nan(value: Any) -> Any:
    """Tables that pandas wrote say NaN where there is nothing; JSON knows no such number."""
    return None if isinstance(value, float) and value != value else value


def _json(path: Path, _: Sequence[str]) -> Iterator[Record]:
    """A key that stands twice is two entries."""
    content = path.read_text(encoding="utf-8-sig")
    # the parser recurses, and py_ecc, which web3 imports, takes Python's guard away
    if _depth(content) > DEEPEST:
        raise ConfigError(f"{path}: no JSON that we can read: too deep")
    try:
        whole = json.loads(
            content, object_pairs_hook=_Pairs, parse_float=Decimal, parse_constant=_no_number
        )
    except ValueError as error:
        raise ConfigError(f"{path}: no JSON that we can read: {error}") from None
    if isinstance(whole, _Pairs):
        whole = [{key: value} for key, value in whole]
    elif not isinstance(whole, list):
        raise ConfigError(f"{path}: neither a list nor an object")
    for place, entry in enumerate(whole, 1):
        yield Record(f"entry {place}", _as_dict(entry))


def _depth(content: str) -> int:
    brackets = _BRACKET.findall(_STRING.sub("", content))
    return max(accumulate(1 if bracket in "[{" else -1 for bracket in brackets), default=0)


class _Pairs(list[tuple[str, Any]]):
    """A JSON object with all its keys."""


def _as_dict(value: Any) -> Any:
    match value:
        case _Pairs():
            return {key: _as_dict(one) for key, one in value}
        case dict():
            return {key: _as_dict(one) for key, one in value.items()}
        case list():
            return [_as_dict(one) for one in value]
    return value


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _lines(path: Path, _: Sequence[str]) -> Iterator[Record]:
    with path.open(encoding="utf-8-sig") as file:
        for place, line in enumerate(file, 1):
            if line.strip():
                yield Record(f"line {place}", line.strip())


def _check_header(path: Path, names: Sequence[str], columns: Sequence[str]) -> None:
    if not names:
        raise ConfigError(f"{path}: it is empty")
    missing = [name for name in columns if name not in names]
    if missing:
        raise ConfigError(f"{path}: no column {' and no '.join(missing)}")
    twice = [name for name in names if name and list(names).count(name) > 1]
    if twice:
        raise ConfigError(f"{path}: two columns {twice[0]}")
