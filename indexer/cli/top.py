"""The live view: what is asked how often, and the keys; everything else is called."""

import os
import select
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta

import click
import psycopg
from rich.live import Live

from indexer.cli import completion
from indexer.cli.console import Duration, out, prepared, usage
from indexer.cli.shown import formatted, listing, show_all
from indexer.cli.watch import until_stopped
from indexer.errors import ConfigError
from indexer.report.top import Frame, drawn
from indexer.store import definitions, now
from indexer.store.database import Connection, connect_briefly

MOST_ROWS = 100
HOURS = (1, 24)
STATEMENT_SECONDS = 10
SHARE = 10  # sums are added up again after as many times what that took, so that others have time

_OF_NEWEST = {name: name.replace("_", " ") for name in now.Newest._fields}
_OF_SUMS = {name: name.replace("_", " ") for name in now.Sum._fields}
_OF_LAGS = {name: name.replace("_", " ") for name in now.Lag._fields}


@click.command()
@click.option("--once", is_flag=True, help="Print one frame and end.")
@click.option(
    "--every", type=Duration(), default="1s", show_default=True, help="How often to look again.",
)  # fmt: skip
@click.option(
    "--definition", default="strict/v1", show_default=True, metavar="ID",
    shell_complete=completion.definitions, help="What the sums count: indexer definitions.",
)  # fmt: skip
@formatted(says="All but table with --once.")
def top(once: bool, every: timedelta, definition: str, form: str) -> None:
    """Watch liquidations, the sums of the last hour and day, and how far behind venues are, until
    q or Ctrl-C.

    Times are UTC; the last hour and day end where reading has got to. Dollars of a row are its
    notional at execution, or the debt repaid.

    Example: indexer top --once
    """
    if form != "table" and not once:
        raise usage("--format json, csv and md are for --once")
    conninfo = prepared().conninfo
    with closing(connect_briefly(conninfo, STATEMENT_SECONDS)) as connection:
        definitions.known(connection, definition)
        if once:
            _print(_Looker(connection, definition).look(), form)
            return
    if not (sys.stdout.isatty() and sys.stdin.isatty()):
        raise usage("this is no terminal: indexer top --once prints one frame")
    with until_stopped():
        _watch(conninfo, definition, every.total_seconds())


def _print(frame: Frame, form: str) -> None:
    if form == "table":
        out.print(drawn(frame, out.width, None))
        return
    show_all([
        listing("newest", _OF_NEWEST, frame.newest), listing("sums", _OF_SUMS, frame.sums),
        listing("venues", _OF_LAGS, frame.lags),
    ], form)  # fmt: skip


class _Looker:
    """Makes frames over one connection; sums are those of before while they would cost too much."""

    def __init__(self, connection: Connection, definition: str) -> None:
        self._connection = connection
        self._definition = definition
        self._sums: list[now.Sum] = []
        self._sum_again_at = float("-inf")

    def look(self) -> Frame:
        """The frame of now."""
        reached = now.reached(self._connection)
        if reached is not None and time.monotonic() >= self._sum_again_at:
            begun = time.monotonic()
            self._sums = [
                now.summed(self._connection, self._definition, reached, hours) for hours in HOURS
            ]
            self._sum_again_at = begun + (SHARE + 1) * (time.monotonic() - begun)
        return Frame(
            datetime.now(UTC), self._definition, reached, now.newest(self._connection, MOST_ROWS),
            self._sums, now.lags(self._connection),
        )  # fmt: skip


class _Looking:
    """Looks again and again in a thread, so that a key or a new size never waits for a query."""

    def __init__(self, conninfo: str, definition: str, every_seconds: float) -> None:
        self.frame = Frame(datetime.now(UTC), definition, None, [], [], [], "looking")
        self._conninfo = conninfo
        self._definition = definition
        self._every_seconds = every_seconds
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="top", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop; a query that still runs ends with the process."""
        self._is_over.set()
        self._thread.join(0.2)

    def _run(self) -> None:
        while not self._is_over.is_set():
            try:
                with closing(connect_briefly(self._conninfo, STATEMENT_SECONDS)) as connection:
                    self._look(_Looker(connection, self._definition))
            except (psycopg.Error, ConfigError) as error:
                text = str(error).strip().partition("\n")[0]
                self.frame = self.frame._replace(at=datetime.now(UTC), fault=text)
                self._is_over.wait(max(self._every_seconds, 1.0))

    def _look(self, looker: _Looker) -> None:
        while not self._is_over.is_set():
            begun = time.monotonic()
            self.frame = looker.look()
            self._is_over.wait(max(begun + self._every_seconds - time.monotonic(), 0))


def _watch(conninfo: str, definition: str, every_seconds: float) -> None:
    with (
        closing(_Looking(conninfo, definition, every_seconds)) as looking,
        _keys() as pressed,
        Live(console=out, screen=True, auto_refresh=False, transient=True) as live,
    ):
        while True:
            width, height = out.size
            live.update(drawn(looking.frame, width, height), refresh=True)
            if pressed(0.2) in ("q", "Q"):
                return


_Pressed = Callable[[float], str]


def _no_key(seconds: float) -> str:
    time.sleep(seconds)
    return ""


def _key(seconds: float) -> str:
    """The key that is pressed within so long, or nothing; q when nobody is there any more."""
    if not select.select([sys.stdin], [], [], seconds)[0]:
        return ""
    return os.read(sys.stdin.fileno(), 1).decode("latin-1") or "q"


@contextmanager
def _keys() -> Iterator[_Pressed]:
    """Keys one by one, as they are pressed; the terminal is as before at the end."""
    try:
        import termios
        import tty
    except ImportError:  # not on Windows: Ctrl-C ends it there too
        yield _no_key
        return
    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    try:
        yield _key
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
