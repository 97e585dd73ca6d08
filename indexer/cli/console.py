"""What all commands share: the terminal, the kinds of arguments, errors in one line."""

import errno
import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

import click
import psycopg
from rich.console import Console

from indexer import families, settings
from indexer.errors import ConfigError, IndexerError
from indexer.methodology.definition import presets
from indexer.store import definitions, kin, place
from indexer.store.database import Connection, connect

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)
LOG = logging.getLogger("indexer.cli")  # who writes its lines, and how: indexer.cli.logs
_FAULT = "fault: "


_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class Duration(click.ParamType[timedelta]):
    """A span of time such as 90s, 30m, 24h or 7d."""

    name = "duration"

    def convert(self, value: Any, param: Any, ctx: Any) -> timedelta:
        if isinstance(value, timedelta):
            return value
        number, unit = value[:-1], _UNITS.get(value[-1:])
        if re.fullmatch(r"0*[1-9][0-9]{0,8}", number) is None or unit is None:
            self.fail(f"{value!r} is no duration; write 90s, 30m, 24h or 7d", param, ctx)
        return timedelta(**{unit: int(number)})


class Moment(click.ParamType[datetime]):
    """A UTC time such as 2025-10-10T21:15 or 2025-10-10T21:15:00Z."""

    name = "time"

    def convert(self, value: Any, param: Any, ctx: Any) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no time; write 2025-10-10T21:15:00Z", param, ctx)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


class Height(click.ParamType[int]):
    """A block height such as 18000000, 18_000_000, 18M or 18.5M."""

    name = "height"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        if isinstance(value, int):
            return value
        found = re.fullmatch(r"(\d[\d_]{0,18})(?:\.(\d{1,9}))?([kM]?)", value)
        digits = {"": 0, "k": 3, "M": 6}[found[3]] if found else 0
        if found is None or len(found[2] or "") > digits:
            self.fail(f"{value!r} is no block height; write 18000000 or 18M", param, ctx)
        return int(found[1].replace("_", "") + (found[2] or "").ljust(digits, "0"))


class Number(click.ParamType[Decimal]):
    """A number such as 190000000, 190_000_000, 190e6 or 1.7e9."""

    name = "number"

    def convert(self, value: Any, param: Any, ctx: Any) -> Decimal:
        if isinstance(value, Decimal):
            return value
        if re.fullmatch(r"\d[\d_]{0,30}(\.\d{1,18})?(e\d{1,2})?", value) is None:
            self.fail(f"{value!r} is no number; write 190e6", param, ctx)
        return Decimal(format(Decimal(value), "f"))


class Commands(click.Group):
    """Turns what can go wrong into one line and exit code 1; wrong usage exits with 2."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except IndexerError as error:
            fail(str(error))
        except psycopg.errors.DiskFull as error:
            fail(f"the database's disk is full; what was committed is kept: {_first(error)}")
        except psycopg.errors.InsufficientPrivilege as error:
            fail(
                f"database: {_first(error)}: the role in DATABASE_URL may not do this; commands"
                " need the role that made the schemas, others may read liq with psql"
            )
        except psycopg.Error as error:
            fail(f"database: {_first(error)}")
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise  # the reader had enough, as in `indexer status | head`: click ends quietly
            fail(f"{error.filename or 'output'}: {error.strerror}")


def _first(error: psycopg.Error) -> str:
    return error.diag.message_primary or str(error).strip().partition("\n")[0]


def fail(message: str) -> None:
    LOG.error(message)
    sys.exit(1)


def usage(message: str) -> click.UsageError:
    """Wrong words on the command line: exit code 2, with the way to the help."""
    return click.UsageError(message, click.get_current_context())


def fault(message: str) -> None:
    """Something that was left out, or is wrong, and ends nothing."""
    LOG.warning(message)


def say(message: str) -> None:
    """A line on stderr. One of a step is of pairs: chain=base to=9 liquidations=2 ms=3."""
    if message.startswith(_FAULT):
        fault(message.removeprefix(_FAULT))
    else:
        LOG.info(message)


def prepared(name: str | None = None) -> place.Place:
    chosen = settings.read()
    found = place.prepare(chosen.database_url, chosen.data_dir, chosen.pg_bin, name=name, say=say)
    with connect(found.conninfo) as connection:
        kin.keep(connection, families.kin())
        definitions.keep(connection, presets().values())
    return found


@contextmanager
def connected() -> Iterator[Connection]:
    with connect(prepared().conninfo) as connection:
        yield connection


class Report(Protocol):
    """A module that shows a kind of report."""

    def to_terminal(self, report: Any, console: Console) -> None: ...

    def to_markdown(self, report: Any) -> str: ...

    def to_html(self, report: Any) -> str: ...

    def to_json(self, report: Any) -> str: ...


OVERWRITE = click.option("--overwrite", is_flag=True, help="Replace the output if it is there.")


def write_report(
    found: object, as_report: Report, form: str, output: Path | None, *, overwrite: bool = False
) -> None:
    """Show a report on the terminal, or write it in one of the formats for files."""
    if form == "table" and output is None:
        as_report.to_terminal(found, out)
        return
    if form == "table":
        raise ConfigError("a table goes to the terminal; --output takes --format html, md or json")
    shown = {"html": as_report.to_html, "md": as_report.to_markdown, "json": as_report.to_json}
    text = shown[form](found)
    if output is None:
        click.echo(text)
        return
    write_file(output, text.encode(), overwrite=overwrite)


def check_output(output: Path | None, *, overwrite: bool) -> None:
    """Refuses early what `write_file` would refuse after the work."""
    if output is not None and not output.parent.is_dir():
        raise ConfigError(f"{output}: No such file or directory")
    if output is not None and output.is_file() and not overwrite:
        raise ConfigError(f"{output} is there already: --overwrite replaces it")


def write_file(output: Path, data: bytes, *, overwrite: bool) -> None:
    """All of it under its name, or nothing. What is no file, as a pipe, is written to as it is."""
    try:
        if output.exists() and not output.is_file():
            output.write_bytes(data)
        else:
            _in_one(output, data, overwrite)
    except FileExistsError:
        raise ConfigError(f"{output} is there already: --overwrite replaces it") from None
    except OSError as error:
        raise IndexerError(f"{output}: {error.strerror}") from error
    say(f"wrote {output}")


def _in_one(output: Path, data: bytes, overwrite: bool) -> None:
    target = output.resolve()  # a link stays one
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with part.open("xb") as file:
            file.write(data)
        if overwrite:
            part.replace(target)
        else:
            target.hardlink_to(part)  # unlike a rename it never replaces what came meanwhile
    finally:
        part.unlink(missing_ok=True)
