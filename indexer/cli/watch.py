"""The verbs on open positions: whom to watch, how often; everything else is called."""

import logging
import re
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NoReturn

import click
import psycopg

from indexer import settings, sync
from indexer.cli import chains, completion, logs
from indexer.cli.console import Duration, Number, connected, fail, out, say, usage
from indexer.cli.shown import formatted, listing, show_all
from indexer.errors import SourceFault
from indexer.report import positions as shown
from indexer.report.text import count_of, moment
from indexer.store import positions
from indexer.store.database import Connection, conninfo_of

if TYPE_CHECKING:
    from indexer.sources.evm import EvmSource
    from indexer.sources.hyperliquid_api import HyperliquidApi
    from indexer.watch import Looked

# What reaches web3 is imported where it is needed: that takes a second, and most commands do not.


class Address(click.ParamType[str]):
    """An address as 0x and 40 hexadecimal digits."""

    name = "address"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        if re.fullmatch("0x[0-9a-fA-F]{40}", value) is None:
            self.fail(f"{value!r} is no address", param, ctx)
        return str(value).lower()


@click.command()
@click.argument("venues", nargs=-1, metavar="[VENUE...]", shell_complete=completion.venues)
@click.option("--label", default="whale", show_default=True, help="Whom to watch.")
@click.option(
    "--account", "accounts", type=Address(), multiple=True, metavar="0x…",
    help="Watch this account, labelled or not, in place of all that bear the label.",
)  # fmt: skip
@click.option("--min-usd", type=Number(), help="Only accounts whose labels name as much, as 10e6.")
@click.option("--once", is_flag=True, help="Look once and end.")
@click.option(
    "--every", type=Duration(), default="60s", show_default=True,
    help="From the begin of a round to that of the next, unless it takes longer.",
)  # fmt: skip
@click.option(
    "--weight", type=click.IntRange(20, 1_200), default=1_200, show_default=True,
    help="hyperliquid: the most weight a minute, of the 1,200 that an address of yours has.",
)  # fmt: skip
@chains.budgeted
@logs.logged
def watch(
    venues: tuple[str, ...],
    label: str,
    accounts: tuple[str, ...],
    min_usd: Decimal | None,
    once: bool,
    every: timedelta,
    weight: int,
    per_second: float | None,
    per_day: int | None,
) -> None:
    """Look again and again at what labelled accounts hold, the largest first, until stopped with
    Ctrl-C, and store it: liq.positions_now.

    A VENUE is hyperliquid, a protocol on a chain as aave_v3.ethereum, or a chain; all that the
    accounts are labelled on where none is named, hyperliquid with --account. The exchange is asked
    at HYPERLIQUID_API, a chain at RPC_<CHAIN>. With --once, exits with 1 when somebody could not be
    looked at.

    Example: indexer watch --once

    Example: indexer watch hyperliquid --label whale --min-usd 10e6 --once
    """
    if accounts and min_usd is not None:
        raise usage("--min-usd is for labelled accounts: those of --account are watched anyway")
    named = chains.choose([name for name in venues if name != sync.VENUE])
    only = [name for of_chain in named.venues.values() for name in of_chain]
    only += [sync.VENUE] if sync.VENUE in venues or (accounts and not venues) else []
    budget = chains.Budget(per_second, per_day)
    with until_stopped(), connected() as connection, ExitStack() as stack:
        watcher = _Watcher(connection, stack, weight, budget)
        for number in _rounds(once, every):
            if accounts:
                wanted = [(venue, who) for venue in only for who in dict.fromkeys(accounts)]
            else:
                found = positions.labelled(connection, label, min_usd)
                wanted = [(one.venue, one.account) for one in found]
                wanted = [one for one in wanted if not only or one[0] in only]
            looked = watcher.look(wanted)
            out.print(_line(number, looked, positions.summary(connection)), soft_wrap=True)
            if once and looked.accounts == 0:
                say(f"nobody is labelled {label} now: indexer label")
            if once and looked.failed:
                fail(f"{count_of(looked.failed, 'account')} could not be looked at")


@contextmanager
def until_stopped() -> Iterator[None]:
    """Ctrl-C and SIGTERM end what is within at once, a wait or a statement, and say so. What is
    half written is rolled back."""
    asked = False

    def stop(*_: object) -> NoReturn:
        nonlocal asked
        asked = True
        logging.getLogger("psycopg").setLevel(logging.CRITICAL)
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except (KeyboardInterrupt, psycopg.Error):
        # An interrupt between a statement's sending and its answer leaves a connection that can
        # not even be rolled back in words: it fails where it is closed, and the server does it.
        if not asked:
            raise
        say("stopped")


def _rounds(once: bool, every: timedelta) -> Iterator[int]:
    number = 1
    while True:
        begun = time.monotonic()
        yield number
        if once:
            return
        time.sleep(max(begun + every.total_seconds() - time.monotonic(), 0))
        number += 1


class _Watcher:
    """Keeps what it has opened: the exchange's weights and the chains' budgets go on."""

    def __init__(
        self, connection: Connection, stack: ExitStack, weight: int, budget: chains.Budget
    ) -> None:
        self._connection = connection
        self._stack = stack
        self._weight = weight
        self._budget = budget
        self._chosen = chains.choose(())
        self._api: HyperliquidApi | None = None
        self._sources: dict[str, EvmSource] = {}
        self._said: set[str] = set()

    def look(self, wanted: Sequence[tuple[str, str]]) -> "Looked":
        """One round; who cannot be asked is left out aloud, once."""
        from indexer import watch

        looked = watch.Looked()
        by_chain: dict[str, list[tuple[str, str]]] = {}
        for venue, account in wanted:
            if venue != sync.VENUE and self._can_ask(venue):
                by_chain.setdefault(chains.chain_of(venue), []).append((venue, account))
        traders = [account for venue, account in wanted if venue == sync.VENUE]
        if traders:
            looked = looked.and_(
                watch.at_exchange(self._connection, self._exchange(), traders, say)
            )
        for chain, accounts in by_chain.items():
            looked = looked.and_(self._look_at_chain(chain, accounts))
        return looked

    def _look_at_chain(self, chain: str, accounts: list[tuple[str, str]]) -> "Looked":
        from indexer import watch

        decoder = self._chosen.decoder
        try:
            source = self._source(chain)
            return watch.at_chain(self._connection, source, decoder, accounts, say)
        except SourceFault as fault:
            say(f"{chain}: nobody was looked at: {fault}")
            return watch.Looked(len(accounts), len(accounts))

    def _can_ask(self, venue: str) -> bool:
        from indexer import watch

        if not watch.tells_accounts(self._chosen.decoder, venue):
            self._say_once(f"{venue}: no contract there tells what an account holds")
            return False
        chain = chains.chain_of(venue)
        if not self._chosen.settings.has_endpoints(chain):
            self._say_once(f"{chain}: no endpoint; set {settings.rpc_name(chain)}")
            return False
        return True

    def _say_once(self, text: str) -> None:
        if text not in self._said:
            say(text)
        self._said.add(text)

    def _exchange(self) -> "HyperliquidApi":
        from indexer.sources.hyperliquid_api import HyperliquidApi

        if self._api is None:
            api = HyperliquidApi(self._chosen.settings.hyperliquid_api, self._weight)
            self._api = self._stack.enter_context(closing(api))
        return self._api

    def _source(self, chain: str) -> "EvmSource":
        if chain not in self._sources:
            opening = chains.source_of(
                self._chosen.settings, chain, self._budget, conninfo_of(self._connection)
            )
            self._sources[chain] = self._stack.enter_context(opening)
        return self._sources[chain]


def _line(number: int, looked: "Looked", stand: positions.Summary) -> str:
    return (
        f"{moment(datetime.now(UTC))} round {number}: {count_of(looked.accounts, 'account')},"
        f" {looked.failed:,} failed, {count_of(looked.positions, 'position')};"
        f" {stand.under_water:,} under water, {stand.at_risk:,} at risk,"
        f" {stand.liquidated:,} liquidated, {stand.closed:,} closed, {stand.gone:,} gone,"
        f" {stand.stale:,} stale"
    )


@click.command("positions")
@click.option("--top", type=click.IntRange(min=1), default=20, show_default=True)
@formatted(says="csv has a row for each position.")
def report_positions(top: int, form: str) -> None:
    """Watched accounts: who is under water, who is closest to liquidation, and what became of
    positions that are not there any more.

    Example: indexer report positions --format md
    """
    with connected() as connection:
        found = shown.collect(connection, top)
    match form:
        case "json":
            click.echo(shown.to_json(found))
        case "md":
            click.echo(shown.to_markdown(found))
        case "csv":
            show_all(
                [listing(name, _OF_POSITIONS, rows) for name, rows in shown.kinds(found)], form
            )
        case _:
            shown.to_terminal(found, out)


_OF_POSITIONS = {name: name for name in positions.Shown.__struct_fields__}
