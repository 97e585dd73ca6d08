"""The verb on exports: which rows, in which form, to where; everything else is called."""

import json
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, get_args

import click
import psycopg

from indexer import settings
from indexer.catalogue import families
from indexer.catalogue import venues as venues_of
from indexer.cli import chains
from indexer.cli.console import Moment, prepared, say, usage
from indexer.cli.totals import chosen as definition_of
from indexer.errors import ConfigError
from indexer.export.files import META
from indexer.export.formats import Form
from indexer.export.run import Asked, Done, to_path, to_stream
from indexer.store import changes
from indexer.store.changes import Cursor
from indexer.store.database import connect
from indexer.store.datasets import DATASETS, Dataset, Scope

COUNTED = "counted"
STDOUT = Path("-")
FORMS: tuple[Form, ...] = get_args(Form)


@click.command()
@click.argument("dataset", type=click.Choice(list(DATASETS)), metavar="DATASET")
@click.option(
    "--format", "form", type=click.Choice(FORMS), help="By default as OUTPUT ends.",
)  # fmt: skip
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), required=True, metavar="PATH",
    help="A file, or with --partitioned a folder; - for the standard output.",
)  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace what stands there.")
@click.option("--venue", "venues", multiple=True, help="Rows of this venue; may be repeated.")
@click.option("--from", "low", type=Moment(), metavar="TIME", help="Rows from this UTC time on.")
@click.option("--to", "high", type=Moment(), metavar="TIME", help="Rows before this UTC time.")
@click.option("--columns", metavar="A,B,…", help="These columns alone.")
@click.option(
    "--partitioned", is_flag=True, help="A folder with a file for each venue and UTC day.",
)  # fmt: skip
@click.option("--definition", "name", metavar="ID|FILE", help="counted: the rows of this one.")
@click.option(
    "--since", metavar="FILE|CURSOR",
    help="Only what changed since an export: its .meta.json, or the cursor in it.",
)  # fmt: skip
def export(
    dataset: str,
    form: Form | None,
    output: Path,
    overwrite: bool,
    venues: tuple[str, ...],
    low: datetime | None,
    high: datetime | None,
    columns: str | None,
    partitioned: bool,
    name: str | None,
    since: str | None,
) -> None:
    """Write rows to a file that other tools read: docs/feeds.md.

    The file takes its name when it is whole. Beside it, in PATH.meta.json, stand the version of the
    columns, how rows are made, what was covered, and a cursor: with --since the next export says
    what was inserted, changed or withdrawn.

    DATASET is one of liquidations, lending_liquidations, valuations, counted, orders, actions,
    episodes, account_days, labels, flags, anonymous_liquidations, undecoded, orphaned_liquidations,
    coverage, assets, totals.

    Example: indexer export liquidations --output liquidations.csv

    Example: indexer export lending_liquidations --format parquet --partitioned --output loans

    Example: indexer export episodes --columns key,account,notional_usd --output episodes.jsonl
    """
    of = DATASETS[dataset]
    asked_form = form or _form_of(output)
    cursor = None if since is None else _cursor(since, of)
    if cursor is not None and (venues or low or high or columns or partitioned):
        raise usage("--since takes venues, times and columns from its cursor, and gives one file")
    if partitioned and output == STDOUT:
        raise usage("--partitioned writes a folder: name one with --output")
    if (of.name == COUNTED) != (name is not None):
        raise usage(f"--definition is for {COUNTED}, and {COUNTED} needs one")
    if of.name == COUNTED and (low is None or high is None):
        raise usage(f"{COUNTED} needs a window: --from and --to")
    names = cursor.columns if cursor else _columns(columns, of)
    scope = cursor.scope if cursor else Scope(venues, low, high)
    signal.signal(signal.SIGTERM, _end)  # what is half done is removed, as after Ctrl-C
    with connect(_conninfo()) as connection:
        definition = None if name is None else definition_of(connection, name)
        asked = Asked(
            of, asked_form, names, scope._replace(definition=definition.id if definition else None),
            is_partitioned=partitioned, definition=definition, since=cursor, methods=_methods(),
        )  # fmt: skip
        if output == STDOUT:
            _say(to_stream(connection, asked, sys.stdout.buffer), "the standard output")
        else:
            _say(to_path(connection, asked, output, overwrite=overwrite), str(output))


def _end(number: int, frame: object) -> None:
    sys.exit(128 + number)


def _form_of(output: Path) -> Form:
    found = output.suffix.removeprefix(".")
    for form in FORMS:
        if form == found:
            return form
    raise usage(f"which format? --format {', '.join(FORMS)}, or an --output that ends so")


def _columns(words: str | None, of: Dataset) -> tuple[str, ...]:
    if words is None:
        return of.columns
    names = tuple(word.strip() for word in words.split(","))
    for name in names:
        if name not in of.columns:
            raise usage(f"{of.name} has no column {name!r}; it has {', '.join(of.columns)}")
        if names.count(name) > 1:
            raise usage(f"--columns names {name} twice")
    return names


def _cursor(words: str, of: Dataset) -> Cursor:
    """The cursor of a file that an export wrote, or as it was copied from there."""
    file = Path(words)
    token: Any = words
    with suppress(OSError, ValueError, KeyError, TypeError):  # a token is too long for a name, too
        file = file / META if file.is_dir() else file
        if file.is_file():
            token = json.loads(file.read_bytes())["cursor"]
    if token is None:
        raise ConfigError(f"{words} has no cursor: changes of these rows or columns are not told")
    cursor = changes.read(str(token))
    if cursor.dataset != of.name:
        raise usage(f"the cursor is of {cursor.dataset}, not of {of.name}")
    return cursor


def _conninfo() -> str:
    """The database. A role that may only read finds it as others left it."""
    try:
        return prepared().conninfo
    except psycopg.errors.InsufficientPrivilege:
        url = settings.read().database_url
        if url is None:
            raise
        return url


def _methods() -> Mapping[str, str]:
    known = families(chains.specs_of(settings.read()))
    return {one.venue: one.family.methodology for one in venues_of(known)}


def _say(done: Done, where: str) -> None:
    files = f" in {done.files:,} files" if done.files > 1 else ""
    say(f"wrote {done.rows:,} rows{files} to {where}")
