"""The command `indexer`: parse, build, call, print."""

import errno
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import psycopg
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from indexer import labels, resources, settings, sync
from indexer.errors import ConfigError, IndexerError
from indexer.report import render, whales
from indexer.sources.hyperliquid import HourFile
from indexer.store import labels as labeler
from indexer.store import place, server, status
from indexer.store.database import Connection, connect

DEMO_DATABASE = "indexer_demo"
HOLES_SHOWN = 20

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


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


class Commands(click.Group):
    """Turns what can go wrong into one line and exit code 1; wrong usage exits with 2."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except IndexerError as error:
            _fail(str(error))
        except psycopg.errors.DiskFull as error:
            _fail(f"the database's disk is full; what was committed is kept: {_first(error)}")
        except psycopg.Error as error:
            _fail(f"database: {_first(error)}")
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise  # the reader had enough, as in `indexer status | head`: click ends quietly
            _fail(f"{error.filename or 'output'}: {error.strerror}")


def _first(error: psycopg.Error) -> str:
    return error.diag.message_primary or str(error).strip().partition("\n")[0]


def _fail(message: str) -> None:
    err.print(f"[bold red]indexer:[/] {escape(message)}", soft_wrap=True)
    sys.exit(1)


def _say(message: str) -> None:
    err.print(escape(message), soft_wrap=True)


def _place(name: str | None = None) -> place.Place:
    chosen = settings.read()
    return place.prepare(chosen.database_url, chosen.data_dir, chosen.pg_bin, name=name, say=_say)


@contextmanager
def _connected() -> Iterator[Connection]:
    with connect(_place().conninfo) as connection:
        yield connection


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="liquidation-indexer")
def main() -> None:
    """On-chain DEX liquidations in Postgres, each row traceable to its published bytes.

    Without DATABASE_URL a PostgreSQL server of our own is started and kept.

    Example: indexer demo
    """


VENUE = click.argument("venue", type=click.Choice([sync.VENUE]))
FROM = click.option(
    "--from",
    "location",
    required=True,
    metavar="DIR",
    help="A directory, a file or s3://bucket/prefix.",
)
ACCOUNTS = click.option(
    "--accounts/--no-accounts", default=True, show_default=True,
    help="Also add up every account's fills by day, or take liquidations only (much faster).",
)  # fmt: skip


@main.command()
@VENUE
@FROM
@ACCOUNTS
@click.option("--account", metavar="0x…", help="Whose fills an API answer holds that does not say.")
def backfill(venue: str, location: str, accounts: bool, account: str | None) -> None:
    """Index finished block files; reading them again changes nothing.

    Exits with 1 when a file is faulty or heights are missing; what could be read is kept.

    Example: indexer backfill hyperliquid --from ~/hl/data
    """
    with _connected() as connection:
        _report_backfill(connection, location, accounts, account)


def _report_backfill(
    connection: Connection, location: str, accounts: bool, account: str | None
) -> None:
    with _progress() as progress:
        tally = sync.backfill(
            connection, location, with_accounts=accounts, account=account, progress=progress
        )
    counts = tally.counts
    out.print(
        f"{counts['blocks']:,} new blocks, {counts['liquidations']:,} liquidations,"
        f" {counts['ledger_liquidations']:,} ledger liquidations,"
        f" {counts['undecoded']:,} undecoded"
    )
    if tally.ignored:
        _say(f"{len(tally.ignored)} other files left alone, e.g. {tally.ignored[0]}")
    missing = (
        status.holes(connection, low=tally.low, high=tally.high) if tally.low is not None else []
    )
    for problem in (*tally.faults, *missing[:HOLES_SHOWN]):
        err.print(f"[bold red]fault:[/] {escape(str(problem))}", soft_wrap=True)
    if len(missing) > HOLES_SHOWN:
        _say(f"and {len(missing) - HOLES_SHOWN} more holes: indexer status")
    if tally.faults or missing:
        sys.exit(1)


@contextmanager
def _progress() -> Iterator[sync.Progress]:
    """A bar over all stored bytes with an ETA, on a terminal; nothing elsewhere."""
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn(),
        console=err, transient=True, disable=not err.is_terminal,
    )  # fmt: skip
    with bar:
        task = bar.add_task("reading")
        done: dict[str, int] = {}

        def update(file: HourFile, size: int, total: int) -> None:
            done[file.file.uri] = max(size, done.get(file.file.uri, 0))
            bar.update(
                task,
                total=total,
                completed=sum(done.values()),
                description=Path(file.file.uri).name,
            )

        yield update


@main.command()
@VENUE
@FROM
@ACCOUNTS
def follow(venue: str, location: str, accounts: bool) -> None:
    """Index what a running node appends, until stopped with Ctrl-C or SIGTERM.

    Example: indexer follow hyperliquid --from ~/hl/data
    """
    stopped = False

    def stop(*_: object) -> None:
        nonlocal stopped
        stopped = True

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    with _connected() as connection:
        _say(f"following {location}; stop with Ctrl-C")
        tally = sync.follow(
            connection, location, with_accounts=accounts, is_over=lambda: stopped, say=_say
        )
    if tally.faults:
        _fail(f"stopped; {len(tally.faults)} faults on the way, see above and indexer status")


@main.command()
def label() -> None:
    """Flag large liquidations and label whales; withdraw what no longer holds.

    Example: indexer label
    """
    with _connected() as connection:
        _label(connection)


def _label(connection: Connection) -> None:
    table = Table("rule", "makes", "new", "withdrawn", "standing", "what it says", box=None)
    for rule in labels.rules():
        change = labeler.apply(connection, rule)
        table.add_row(
            f"{rule.id} v{rule.version}", rule.makes, str(change.new), str(change.withdrawn),
            str(change.standing), str(rule),
        )  # fmt: skip
    out.print(table)


@main.group()
def report() -> None:
    """Reports over a window of chain time."""


@report.command("whales")
@click.option(
    "--since", type=Duration(), default="24h", show_default=True,
    help="Length of the window; it ends with the last covered block.",
)  # fmt: skip
@click.option(
    "--until", type=Moment(),
    help="End of the window, UTC, itself outside; by default just after the last covered block.",
)  # fmt: skip
@click.option(
    "--gap", type=Duration(), default="15m", show_default=True,
    help="Quiet time that ends an episode; more than 30s.",
)  # fmt: skip
@click.option("--top", type=click.IntRange(min=1), default=20, show_default=True)
@click.option(
    "--format", "form", type=click.Choice(["table", "html", "md", "json"]), default="table",
    show_default=True,
)  # fmt: skip
@click.option(
    "--output", "-o", type=click.Path(dir_okay=False, path_type=Path), help="Write to a file."
)
def report_whales(
    since: timedelta,
    until: datetime | None,
    gap: timedelta,
    top: int,
    form: str,
    output: Path | None,
) -> None:
    """The largest liquidations of a window, the whales among them, and what is missing.

    Example: indexer report whales --since 24h
    """
    with _connected() as connection:
        found = whales.collect(connection, since=since, until=until, gap=gap, top=top)
    _write(found, form, output)


def _write(found: whales.WhaleReport, form: str, output: Path | None) -> None:
    if form == "table" and output is None:
        render.to_terminal(found, out)
        return
    if form == "table":
        raise ConfigError("a table goes to the terminal; --output takes --format html, md or json")
    text = {"html": render.to_html, "md": render.to_markdown, "json": render.to_json}[form](found)
    if output is None:
        click.echo(text)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise IndexerError(f"{output}: {error.strerror}") from error
    _say(f"wrote {output}")


@main.command("status")
def show_status() -> None:
    """Per venue: what is covered, missing, undecoded, and how far behind.

    Example: indexer status
    """
    with _connected() as connection:
        rows, missing = status.status(connection), status.holes(connection)
    if not rows:
        out.print("nothing is indexed yet: indexer backfill hyperliquid --from DIR")
        return
    table = Table(
        "venue", "facts", "covered blocks", "from", "to (UTC)", "missing", "undecoded", "lag",
        "read as", box=None,
    )  # fmt: skip
    for row in rows:
        table.add_row(
            row.venue, row.facts, f"{row.blocks:,}", f"{row.first_at:%Y-%m-%d %H:%M:%S}",
            f"{row.last_at:%Y-%m-%d %H:%M:%S}", f"{row.missing:,}", f"{row.undecoded:,}",
            str(timedelta(seconds=row.lag_s)), row.verification,
        )  # fmt: skip
    out.print(table)
    for hole in missing[:HOLES_SHOWN]:
        out.print(escape(str(hole)), soft_wrap=True)
    if len(missing) > HOLES_SHOWN:
        out.print(f"and {len(missing) - HOLES_SHOWN} more in the view liq.missing")


@main.command()
@click.argument("key")
def explain(key: str) -> None:
    """Walk from the published bytes to the row and the opinions on it.

    KEY is that of a row of liq.liquidations, or venue/event_key of liq.undecoded.

    Example: indexer explain hyperliquid/777010856/WLFI/87867877881544/0xa59f…
    """
    with _connected() as connection:
        found = status.explain(connection, key)
    _section("published", found.published)
    _section("undecoded", [found.undecoded] if found.undecoded else [])
    _section("row", [found.liquidation] if found.liquidation else [])
    _section("the exchange's ledger on the same action", found.ledger)
    _section("part of", found.levels)
    _section("flags", found.flags)
    _section("labels of the account", found.labels)


def _section(title: str, rows: Iterable[dict[str, Any]]) -> None:
    for row in rows:
        out.print(f"[bold]{title}[/]")
        table = Table(box=None, show_header=False, padding=(0, 2))
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in row.items():
            table.add_row(name, escape(_shown(value)))
        out.print(table)


def _shown(value: object) -> str:
    return "unknown" if value is None else "".join(c for c in str(value) if c.isprintable())


@main.command()
@click.option(
    "--html", type=click.Path(dir_okay=False, path_type=Path), default="report-whales.html",
    show_default=True, help="Where to write the page.",
)  # fmt: skip
def demo(html: Path) -> None:
    """Index the bundled recording, label it and report on it, in a database of its own.

    The recording is SIMULATED: it was made by this project's simulator of the exchange.

    Example: indexer demo
    """
    found = _place(DEMO_DATABASE)
    with connect(found.conninfo) as connection:
        _report_backfill(connection, str(resources.recording()), True, None)
        _label(connection)
        whale_report = whales.collect(connection, since=timedelta(hours=24))
    render.to_terminal(whale_report, out)
    _write(whale_report, "html", html)
    out.print(f"\nQuery it:\n  {escape(found.psql)}", soft_wrap=True)


@main.group()
def db() -> None:
    """The embedded PostgreSQL server, and the database in use."""


@db.command()
def start() -> None:
    """Start the server if it does not run, and bring the schemas up to date."""
    out.print(escape(_place().psql), soft_wrap=True)


@db.command()
def stop() -> None:
    """Stop the embedded server; its data stays."""
    chosen = settings.read()
    if chosen.database_url is not None:
        raise ConfigError("DATABASE_URL is set: that server is not ours to stop")
    out.print("stopped" if server.stop(chosen.data_dir) else "was not running")


@db.command("status")
def db_status() -> None:
    """Say whether the embedded server runs, and where."""
    chosen = settings.read()
    if chosen.database_url is not None:
        out.print("DATABASE_URL is set: the embedded server is not used")
        return
    running = server.status(chosen.data_dir)
    out.print(
        f"running, data in {running.data_dir}" if running else f"not running; {chosen.data_dir}"
    )


@db.command(context_settings={"ignore_unknown_options": True})
@click.option("--demo", "is_demo", is_flag=True, help="Open the database of the demo.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def psql(is_demo: bool, arguments: tuple[str, ...]) -> None:
    """Open the database with psql; further arguments go to psql.

    Example: indexer db psql -c 'SELECT * FROM liq.liquidations LIMIT 5'
    """
    found = _place(DEMO_DATABASE if is_demo else None)
    environment = settings.environment_with(PGPASSWORD=found.password)
    command = [*shlex.split(found.psql), *arguments]
    sys.exit(subprocess.run(command, env=environment, check=False).returncode)  # noqa: S603 - the user's own words
