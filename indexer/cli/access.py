"""The verbs on who may read the database, and on what others built on it."""

import signal
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from pathlib import Path
from typing import Any

import click
import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from rich.markup import escape

from indexer import settings
from indexer.cli.console import Duration, connected, fail, out, prepared, say
from indexer.cli.shown import Listing, formatted, listing, show, show_all
from indexer.errors import ConfigError, IndexerError
from indexer.store import access, dependents, place
from indexer.store.access import READER, WRITER, Group, Limits
from indexer.store.database import connect

GUARD_SECONDS = 1.0


@click.command()
@click.option("--repair", is_flag=True, help="Make what is lacking, as far as we may.")
@formatted()
def roles(repair: bool, form: str) -> None:
    """The roles of readers and writers, their rights, and who may log in as one.

    Exits with 1 when a role is not there, or has other rights than it should.

    Example: indexer db roles
    """
    with connected() as connection:
        refused = access.repair(connection) if repair else []
        found, logins = access.roles(connection), access.logins(connection)
    said = len if form == "table" else list  # a role without any rights lacks a hundred
    rights = [(one.role, one.is_there, said(one.lacks), said(one.exceeds)) for one in found]
    show_all([Listing("roles", _OF_ROLES, rights), _logins(logins)], form)
    for refusal in refused:
        say(refusal)
    wrong = [role.role for role in found if not role.is_right]
    if wrong:
        fail(
            f"{', '.join(wrong)}: not as they should be, see liq.roles;"
            " indexer db roles --repair, as a role with CREATEROLE"
        )


_OF_ROLES = {"role": "role", "is_there": "there", "lacks": "lacks", "exceeds": "has too much"}


def _logins(logins: list[access.Login]) -> Listing:
    """Who may log in, and with which limits, if any."""
    heads = {
        "name": "login", "group": "member of", "connections": "connections",
        "statement": "statement", "idle": "idle", "whole": "transaction",
    }  # fmt: skip
    rows = [
        (
            one.name, one.group, None if one.connections < 0 else one.connections,
            *(one.limits or (None, None, None)),
        )
        for one in logins
    ]  # fmt: skip
    return Listing("logins", heads, rows)


_PASSWORD = click.option(
    "--password-file", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Its first line is the password; else INDEXER_LOGIN_PASSWORD is, else it is asked for.",
)  # fmt: skip


@click.command()
@click.argument("name")
@_PASSWORD
@click.option(
    "--connections", type=click.IntRange(min=0), default=5, show_default=True,
    help="The most at a time: the server refuses more.",
)  # fmt: skip
@click.option(
    "--statement", type=Duration(), default="10m", show_default=True,
    help="The longest statement: the guard cancels it.",
)  # fmt: skip
@click.option(
    "--idle", type=Duration(), default="1m", show_default=True,
    help="The longest pause within a transaction: the guard ends it.",
)  # fmt: skip
@click.option(
    "--transaction", type=Duration(), default="30m", show_default=True,
    help="The longest transaction: the guard ends it.",
)  # fmt: skip
def reader(
    name: str,
    password_file: Path | None,
    connections: int,
    statement: timedelta,
    idle: timedelta,
    transaction: timedelta,
) -> None:
    """Make a login that reads what strangers may build on, and nothing else; or give one that is
    there another password and limits.

    Example: indexer db reader analyst --connections 3 --statement 60s
    """
    _make(name, READER, password_file, connections, Limits(statement, idle, transaction))


@click.command()
@click.argument("name")
@_PASSWORD
@click.option("--connections", type=click.IntRange(min=-1), default=-1, help="The most at a time.")
def writer(name: str, password_file: Path | None, connections: int) -> None:
    """Make a login that indexes: it writes rows, but neither makes nor changes a table.

    Example: indexer db writer feeder
    """
    _make(name, WRITER, password_file, connections, None)


def _make(
    name: str, group: Group, file: Path | None, connections: int, limits: Limits | None
) -> None:
    password = _password(file)
    found = prepared()
    with connect(found.conninfo) as connection:
        access.make_login(connection, name, group, password, connections, limits)
    parts: dict[str, Any] = {
        key: value for key, value in conninfo_to_dict(found.conninfo).items()
        if key not in ("password", "passfile", "user")
    }  # fmt: skip
    out.print(escape(make_conninfo(**parts, user=name)), soft_wrap=True)


def _password(file: Path | None) -> str:
    """From a file, the environment or the terminal: whoever lists processes sees none of these."""
    if file is not None:
        password = file.read_text(encoding="utf-8").partition("\n")[0].strip()
    else:
        password = settings.read().login_password or _asked()
    if not password:
        raise ConfigError("the password is empty")
    return password


def _asked() -> str:
    if not sys.stdin.isatty():
        raise ConfigError("no password: set INDEXER_LOGIN_PASSWORD or give --password-file")
    return str(click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))


@click.command()
@click.option("--once", is_flag=True, help="Look once and end.")
@click.option(
    "--every", type=Duration(), default="1s", show_default=True, help="How often to look."
)
def guard(once: bool, every: timedelta) -> None:
    """Cancel what readers do for longer than they may, until stopped with Ctrl-C or SIGTERM.

    A reader can switch off its statement_timeout, and not this. `indexer follow` does the same
    while it runs.

    Example: indexer db guard --once
    """
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    with connected() as connection:
        while not over.is_set():
            for stopped in access.guard(connection):
                say(str(stopped))
            if once:
                return
            over.wait(every.total_seconds())


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """Watch over readers of the database for as long as a command runs, in a thread with a
    connection of its own. It never holds the command up, nor ends it."""

    @wraps(command)
    def run(*arguments: Any, **named: Any) -> None:
        over = threading.Event()
        thread = threading.Thread(target=_guard, args=(over,), name="guard", daemon=True)
        thread.start()
        try:
            command(*arguments, **named)
        finally:
            over.set()

    return run


def _guard(over: threading.Event) -> None:
    refused = False
    while not over.wait(GUARD_SECONDS):
        try:
            chosen = settings.read()
            conninfo = place.running(chosen.database_url, chosen.data_dir)
            if conninfo is None:
                continue
            with connect(conninfo) as connection:
                while not over.wait(GUARD_SECONDS):
                    for stopped in access.guard(connection):
                        say(str(stopped))
        except psycopg.errors.InsufficientPrivilege:
            if not refused:
                say("readers are not watched: this role may not; indexer db guard, as the owner")
            refused = True
            over.wait(60)
        except (psycopg.Error, IndexerError):
            over.wait(5)  # the command says what is wrong with the database


@click.command("dependents")
@formatted()
def list_dependents(form: str) -> None:
    """Views and functions that others built on liq, as SQL that makes them again.

    Example: indexer db dependents
    """
    with connected() as connection:
        found = dependents.dependents(connection)
    if form != "table":
        show(listing("dependents", _OF_DEPENDENTS, found), form)
        return
    for one in found:
        click.echo(f"-- {one} of {one.owner}, on {', '.join(one.on)}")
        if one.definition is not None:
            click.echo(one.definition.rstrip().rstrip(";") + ";\n")


_OF_DEPENDENTS = {
    "kind": "kind", "name": "name", "owner": "owner", "on": "on", "definition": "definition",
}  # fmt: skip


@click.command()
@click.option(
    "--drop-dependents", is_flag=True,
    help="Drop views and functions that others built on ours, after printing how to make them"
    " again.",
)  # fmt: skip
def migrate(drop_dependents: bool) -> None:
    """Bring the schemas up to date, as every command does; or with --drop-dependents, also where
    what others built on them is in the way.

    Example: indexer db migrate
    """
    if not drop_dependents:
        prepared()
        return
    from indexer.store.migration import upgrade

    chosen = settings.read()
    conninfo = place.running(chosen.database_url, chosen.data_dir)
    if conninfo is None:
        raise ConfigError("the server does not run: indexer db start")
    with connect(conninfo) as connection:
        for one in dependents.dependents(connection):
            if one.definition is not None:
                click.echo(one.definition.rstrip().rstrip(";") + ";\n")
    upgrade(conninfo, drops_dependents=True)
