"""One option and one way to write rows, for every reader: a table, JSON, CSV or Markdown.

JSON and CSV have whole numbers: decimals as text, times in UTC, no thousands separators. Foreign
words can do no harm: a table shows no control characters, a cell of CSV is no formula, one of
Markdown no markup."""

import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

import click
import msgspec
from rich.markup import escape
from rich.table import Table

from indexer.cli.console import out
from indexer.report.markdown import plain, table_header, table_row
from indexer.report.text import clean

FORMATS = ("table", "json", "csv", "md")

# What a spreadsheet takes for a formula, in full width too: OWASP ASVS 1.2.10, CWE-1236.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # fmt: skip


class Listing(NamedTuple):
    """Rows of one kind. `heads` are the names of their columns with the headings of a table, which
    leaves out a column without one."""

    name: str
    heads: Mapping[str, str]
    rows: Sequence[Sequence[Any]]

    def objects(self) -> list[dict[str, Any]]:
        """The rows, each by the names of its columns."""
        return [dict(zip(self.heads, row, strict=True)) for row in self.rows]

    def shown(self) -> tuple[list[str], list[list[tuple[str, Any]]]]:
        """The headings of a table, and its rows as pairs of a column's name and a value."""
        rows = [
            [(name, value) for name, value in zip(self.heads, row, strict=True) if self.heads[name]]
            for row in self.rows
        ]
        return [head for head in self.heads.values() if head], rows


def listing(name: str, heads: Mapping[str, str], rows: Iterable[Any]) -> Listing:
    """Of objects that have the columns as attributes."""
    return Listing(name, heads, [[getattr(row, column) for column in heads] for row in rows])


def formatted(
    *forms: str, default: str = "table", says: str | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The option --format, with all of FORMATS unless some are named."""
    return click.option(
        "--format", "form", type=click.Choice(forms or FORMATS), default=default,
        show_default=True, help=says,
    )  # fmt: skip


def show(one: Listing, form: str, nothing: str = "") -> None:
    """Print rows; a table without any says why."""
    match form:
        case "table" if not one.rows and nothing:
            out.print(nothing)
        case "table":
            out.print(as_table(one))
        case "json":
            click.echo(to_json(one.objects()))
        case "csv":
            write_csv(one.heads, one.rows)
        case _:
            click.echo("\n".join(_markdown(one)))


def show_all(listings: Sequence[Listing], form: str) -> None:
    """Print rows of several kinds. JSON has a list for each; CSV is one table of all of them, whose
    first column says which kind a row is of, and in which what a kind has not is empty."""
    found = [one for one in listings if one.rows]
    match form:
        case "table":
            for number, one in enumerate(found):
                if number:
                    out.print()
                out.print(as_table(one))
        case "json":
            click.echo(to_json({one.name: one.objects() for one in listings}))
        case "csv":
            columns = list(dict.fromkeys(name for one in listings for name in one.heads))
            rows = (
                [one.name, *(row.get(column) for column in columns)]
                for one in found for row in one.objects()
            )  # fmt: skip
            write_csv(["section", *columns], rows)
        case _:
            texts = ["\n".join([f"## {plain(one.name)}", "", *_markdown(one)]) for one in found]
            click.echo("\n\n".join(texts))


def as_table(one: Listing) -> Table:
    """As rows are shown on a terminal."""
    heads, rows = one.shown()
    table = Table(*heads, box=None)
    for row in rows:
        table.add_row(*(escape(cell(name, value)) for name, value in row))
    return table


def cell(name: str, value: Any) -> str:
    """A value for people; one of seconds, which its name ends in, as a span of time."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case int() if name.endswith("_s"):
            return str(timedelta(seconds=value))
        case int():
            return f"{value:,}"
        case Decimal():
            return f"{value:f}"
        case datetime():
            return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
        case timedelta():
            return str(value)
        case list() | tuple() if all(isinstance(part, str) for part in value):
            return clean(", ".join(value))
        case str():
            return clean(value)
    return clean(exact(value))


def exact(value: Any) -> str:
    """A value for programs, as text: nothing of it is lost."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case Decimal():
            return f"{value:f}"
        case datetime():
            return value.isoformat().replace("+00:00", "Z")
        case date():
            return value.isoformat()
        case timedelta():
            return str(value // timedelta(seconds=1))
        case str():
            return value
        case bytes() | memoryview():
            return f"0x{bytes(value).hex()}"
    return json.dumps(
        msgspec.to_builtins(value), ensure_ascii=False, sort_keys=True, separators=(",", ":")
    )


def write_csv(columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    """Print rows as CSV, one at a time: a reader of many needs no memory for them."""
    click.echo(_line(columns), nl=False)
    for row in rows:
        click.echo(_line(row), nl=False)


def _line(values: Iterable[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(map(csv_cell, values))
    return text.getvalue()


def csv_cell(value: Any) -> str:
    """A value as a cell of CSV. Text that a spreadsheet would run has an apostrophe before it;
    numbers stay what they are."""
    text = exact(value)
    is_text = isinstance(value, str) or not isinstance(value, int | Decimal)
    return f"'{text}" if is_text and text.startswith(_FORMULA) else text


def to_json(data: Any) -> str:
    """JSON for people and programs."""
    text = msgspec.json.encode(data, enc_hook=exact)
    return msgspec.json.format(text, indent=2).decode()


def _markdown(one: Listing) -> Iterable[str]:
    heads, rows = one.shown()
    yield from table_header(*map(plain, heads))
    for row in rows:
        yield table_row(plain(cell(name, value)) for name, value in row)


def streamed_json(objects: Iterable[Any]) -> None:
    """Print a list of JSON, an object a line, one at a time."""
    before = "["
    for one in objects:
        sys.stdout.write(f"{before}\n{msgspec.json.encode(one, order='sorted').decode()}")
        before = ","
    click.echo("[]" if before == "[" else "\n]")
