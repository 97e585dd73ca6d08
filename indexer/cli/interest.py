"""The verbs on open interest: which files, or the exchange; everything else is called."""

import hashlib
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from indexer import interest as lines
from indexer import settings, sync
from indexer.cli.console import Duration, connected, fail, out, say
from indexer.cli.shown import formatted, listing, show
from indexer.cli.watch import until_stopped
from indexer.errors import ConfigError, SourceFault
from indexer.report.text import count_of, moment
from indexer.sources.files import File, list_files, read_lines
from indexer.store import interest as stored
from indexer.store.database import Connection

if TYPE_CHECKING:
    from indexer.sources.hyperliquid_api import HyperliquidApi

HOLES_SHOWN = 5


@click.group()
def interest() -> None:
    """Open interest of Hyperliquid's markets, for the rule SIZE_OI: liq.open_interest.

    Example: indexer interest list
    """


@interest.command("import")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option(
    "--replace", is_flag=True, help="Where a file contradicts what is stored, it is right."
)
def import_interest(files: tuple[str, ...], replace: bool) -> None:
    """Import daily files of hyperliquid-archive/asset_ctxs, LZ4 or plain: time, coin and
    open_interest of each minute.

    A FILE is a file, a directory or s3://bucket/prefix. Each is taken whole or not at all. What
    minutes of a day are missing is said: liq.open_interest_missing. Exits with 1 when a file could
    not be taken.

    Example: indexer interest import 20251010.csv
    """
    faults: list[str] = []
    with connected() as connection:
        for file in (found for name in files for found in list_files(name)):
            try:
                _import(connection, file, replace)
            except (ConfigError, SourceFault) as fault:
                faults.append(str(fault))
    if faults:
        fail("; ".join(faults))


def _import(connection: Connection, file: File, replace: bool) -> None:
    digest = hashlib.sha256()

    def texts() -> Iterator[bytes]:
        for part in read_lines(file):
            text = part.text[part.start : part.stop]
            digest.update(text)
            yield text

    found = stored.import_file(
        connection, sync.VENUE, file.uri, lines.read(file.uri, texts()), digest.hexdigest,
        replace=replace,
    )  # fmt: skip
    holes = stored.holes(connection, sync.VENUE, found.day)
    out.print(_line(found, holes), soft_wrap=True)
    for hole in holes[:HOLES_SHOWN]:
        say(f"{found.day}: nothing from {hole.after_at:%H:%M} to {_end(hole)}")
    if len(holes) > HOLES_SHOWN:
        say(f"and {len(holes) - HOLES_SHOWN} more holes in the view liq.open_interest_missing")


def _line(found: stored.Imported, holes: list[stored.Hole]) -> str:
    missing = sum(((hole.before_at - hole.after_at) for hole in holes), timedelta())
    minutes = 1_440 - int(missing.total_seconds()) // 60
    text = (
        f"{found.day}: {minutes:,} of 1,440 minutes,"
        f" {count_of(found.observations, 'observation')} of {count_of(found.markets, 'market')}"
    )
    if found.again:
        text += f", {count_of(found.again, 'line')} twice"
    return text if found.is_new else f"{text}; was imported before"


def _end(hole: stored.Hole) -> str:
    return "24:00" if hole.before_at.date() > hole.after_at.date() else f"{hole.before_at:%H:%M}"


@interest.command("fetch")
@click.option(
    "--every", type=Duration(), help="Ask again and again until stopped with Ctrl-C, as 60s."
)
@click.option(
    "--weight", type=click.IntRange(20, 1_200), default=1_200, show_default=True,
    help="The most weight a minute, of the 1,200 that an address of yours has.",
)  # fmt: skip
def fetch_interest(every: timedelta | None, weight: int) -> None:
    """Ask Hyperliquid for the open interest of all markets of all perp dexes, and store it.

    The exchange is asked at HYPERLIQUID_API: a weight of 60 for the list of dexes, and 20 for each
    of them. Exits with 1 when it does not tell, unless it is to ask again.

    Example: indexer interest fetch
    """
    from indexer.sources.hyperliquid_api import HyperliquidApi

    url = settings.read().hyperliquid_api
    with until_stopped(), connected() as connection, closing(HyperliquidApi(url, weight)) as api:
        while True:
            begun = time.monotonic()
            faults = _fetch(connection, api)
            for fault in faults:
                say(fault)
            if every is None:
                break
            time.sleep(max(begun + every.total_seconds() - time.monotonic(), 0))
    if faults:
        fail("not all of it could be asked for")


def _fetch(connection: Connection, api: "HyperliquidApi") -> list[str]:
    """One round; gives what failed. A dex that does not tell leaves the others."""
    faults: list[str] = []
    markets = 0
    try:
        dexes = api.dexes()
    except SourceFault as fault:
        return [str(fault)]
    for dex in dexes:
        try:
            at, said = api.open_interest(dex)
        except SourceFault as fault:
            faults.append(str(fault))
            continue
        stored.append(connection, sync.VENUE, at, said)
        markets += len(said)
    now = moment(datetime.now(UTC))
    out.print(f"{now} open interest of {count_of(markets, 'market')}", soft_wrap=True)
    return faults


@interest.command("list")
@formatted()
def list_interest(form: str) -> None:
    """The days of which open interest is stored, and how many of their minutes are missing.

    Example: indexer interest list
    """
    with connected() as connection:
        days = stored.days(connection)
    show(
        listing("days", _OF_DAYS, days), form,
        "no open interest: indexer interest import FILE, or indexer interest fetch",
    )  # fmt: skip


_OF_DAYS = {
    "venue": "venue", "day": "day", "minutes": "minutes", "minutes_missing": "missing",
    "markets": "markets", "sources": "read from", "imported_at": "imported (UTC)",
}  # fmt: skip
