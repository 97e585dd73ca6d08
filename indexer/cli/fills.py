"""The verb for people without a node or an archive: fills of some accounts, asked of the API."""

import re
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from indexer import settings
from indexer.cli import logs
from indexer.cli.console import Duration, Moment, connected, fail, out, say, usage
from indexer.cli.watch import Address, until_stopped
from indexer.errors import ConfigError
from indexer.report.text import count_of
from indexer.store import rollups
from indexer.store.database import Connection

if TYPE_CHECKING:
    from indexer.samples import Asked, Sampler

# What reaches web3 is imported where it is needed: that takes a second, and most commands do not.

_LINE = re.compile(r"(?P<address>0x[0-9a-fA-F]{40})?\s*(?:[,;\s].*|#.*)?")
_LONGEST = timedelta(days=3650)


class Since(click.ParamType[datetime]):
    """A UTC time such as 2025-10-10T21:15, or how long ago, such as 24h."""

    name = "time"

    def convert(self, value: Any, param: Any, ctx: Any) -> datetime:
        if isinstance(value, datetime):
            return value
        if re.fullmatch(r"\d+[smhd]", value):
            ago = Duration().convert(value, param, ctx)
            if ago > _LONGEST:
                self.fail(f"{value!r} is longer ago than there are fills", param, ctx)
            return datetime.now(UTC) - ago
        return Moment().convert(value, param, ctx)


def watch_list(path: Path) -> list[str]:
    """The addresses of a file, one a line; what follows one on its line, or #, is for its reader.

    Raises ConfigError with file and line where a line begins with something else."""
    found = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    for number, line in enumerate(lines, 1):
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise ConfigError(
                f"{path}:{number}: {line.strip()[:50]!r} does not begin with an address"
            )
        if match["address"]:
            found.append(match["address"].lower())
    if not found:
        raise ConfigError(f"{path}: no address in it")
    return list(dict.fromkeys(found))


@click.command()
@click.argument("accounts", nargs=-1, type=Address(), metavar="[0x…]...")
@click.option(
    "--watch-list", "file", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file with an address on each line.",
)  # fmt: skip
@click.option(
    "--liquidator-vaults", "with_vaults", is_flag=True,
    help="The vaults of the exchange, which take positions over: backstops alone, about 1 in 100"
    " liquidations.",
)  # fmt: skip
@click.option(
    "--holes", "of_holes", is_flag=True,
    help="Only times that are missing in what was read or listened to; where no account is named,"
    " of whoever was liquidated within an hour of them, and of the vaults.",
)  # fmt: skip
@click.option(
    "--since", type=Since(),
    help="From when on, UTC, or how long ago, as 24h.  [default: where it was left, or 24h]",
)  # fmt: skip
@click.option("--until", type=Since(), help="Until when.  [default: now]")
@click.option("--every", type=Duration(), help="Ask again and again, so long from begin to begin.")
@click.option(
    "--weight", type=click.IntRange(20, 1_200), default=1_200, show_default=True,
    help="The most weight a minute, of the 1,200 that an address of yours has. A page of fills"
    " weighs 20, and 1 more for each 20 fills.",
)  # fmt: skip
@logs.logged
def fills(
    accounts: tuple[str, ...],
    file: Path | None,
    with_vaults: bool,
    of_holes: bool,
    since: datetime | None,
    until: datetime | None,
    every: timedelta | None,
    weight: int,
) -> None:
    """Ask the exchange's API for fills of accounts, and store the liquidations among them.

    A sample and never a total: it covers no blocks, and whole blocks read later add what it lacks
    and correct it. The API knows the 10,000 newest fills of an account. It is asked at
    HYPERLIQUID_API; no key is needed. Exits with 1 when an account could not be asked for.

    Example: indexer fills --liquidator-vaults --since 24h

    Example: indexer fills 0x2e3d94f0562703b25c83308a05046ddaf9a8dd14 --since 2026-08-01

    Example: indexer fills --holes
    """
    if every is not None and until is not None:
        raise usage("--until ends what --every goes on with: give one of them")
    _check_times(since, until)
    chosen = [*accounts, *(watch_list(file) if file else ())]
    if not (chosen or with_vaults or of_holes):
        raise usage("say whose: 0x…, --watch-list FILE, --liquidator-vaults or --holes")
    with until_stopped(), connected() as connection:
        from indexer.samples import VAULTS, Sampler
        from indexer.sources.hyperliquid_fills_api import FillsApi

        wanted = tuple(dict.fromkeys([*chosen, *(VAULTS if with_vaults else ())]))
        sampler = Sampler(connection)
        api = FillsApi(settings.read().hyperliquid_api, weight)
        with closing(api):
            for first in _rounds(every):
                begin = since if first else None
                asked = _round(connection, sampler, api, wanted, begin, until, of_holes=of_holes)
                _value(connection, sampler)
                out.print(_line(asked, sampler), soft_wrap=True)
    if asked.failed:
        fail(f"{count_of(asked.failed, 'account')} could not be asked for")


def _check_times(since: datetime | None, until: datetime | None) -> None:
    now = datetime.now(UTC)
    if since is not None and since > now:
        raise usage("--since is still to come")
    if since is not None and since < now - _LONGEST:
        raise usage("--since is before there was the exchange")
    if until is not None and until <= (since or now - timedelta(hours=24)):
        raise usage("--until is before --since")


def _rounds(every: timedelta | None) -> Iterator[bool]:
    """Whether it is the first one."""
    begun = time.monotonic()
    yield True
    while every is not None:
        time.sleep(max(begun + every.total_seconds() - time.monotonic(), 0))
        begun = time.monotonic()
        yield False


def _round(
    connection: Connection,
    sampler: "Sampler",
    api: Any,
    accounts: tuple[str, ...],
    since: datetime | None,
    until: datetime | None,
    *,
    of_holes: bool,
) -> "Asked":
    from indexer import samples

    now = datetime.now(UTC)
    if of_holes:
        spans = samples.holes(connection, since, until or now)
        if not spans:
            say("there is no hole")
        wanted = dict.fromkeys(accounts, spans) if accounts else samples.around(connection, spans)
        wanted = {account: found for account, found in wanted.items() if found}
    elif since is not None:
        wanted = {account: [samples.Span(since, until or now)] for account in accounts}
    else:
        before = now - timedelta(hours=24)
        wanted = samples.since_last(connection, accounts, before, until or now)
    return samples.ask(connection, sampler, api, wanted, say)


def _value(connection: Connection, sampler: "Sampler") -> None:
    from indexer import sync

    if sampler.since is not None and sampler.counts["liquidations"]:
        sync.value(connection, sampler.since)
        sampler.since = None
        rollups.refresh(connection, now=datetime.now(UTC))


def _line(asked: "Asked", sampler: "Sampler") -> str:
    found = count_of(sampler.counts["liquidations"], "liquidation")
    return (
        f"{count_of(asked.accounts, 'account')}, {asked.failed:,} failed,"
        f" {count_of(asked.fills, 'fill')}; {found} among them,"
        f" {sampler.counts['undecoded']:,} undecoded. A sample: it covers no blocks"
    )
