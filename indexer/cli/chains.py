"""The verbs on chains: which venues, which endpoints; everything else is called."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

import click
import psycopg
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from indexer import settings
from indexer.chain.values import LAST_SECONDS, Valuer, terms_of
from indexer.cli import logs
from indexer.cli.console import connected, err, fail, out, prepared, say, usage
from indexer.decode import Decoder
from indexer.errors import ConfigError, IndexerError, SourceFault
from indexer.evm_model import ProtocolSpec
from indexer.settings import Settings
from indexer.store import prices, rollups, values
from indexer.store.database import Connection, connect, connect_briefly, conninfo_of
from indexer.venues import evm

if TYPE_CHECKING:
    from indexer.chain.follow import Watch
    from indexer.sources.evm import EvmSource

# What reaches web3 is imported where it is needed: that takes a second, and most commands do not.


class Budget(NamedTuple):
    """The most requests to one endpoint."""

    per_second: float | None
    per_day: int | None

    def halved(self) -> "Budget":
        """For each of two that ask the same endpoints side by side."""
        return Budget(
            None if self.per_second is None else self.per_second / 2,
            None if self.per_day is None else max(self.per_day // 2, 1),
        )


def budgeted(command: Callable[..., None]) -> Callable[..., None]:
    """The options that spare an endpoint."""
    for option in (
        click.option("--per-day", type=click.IntRange(min=1), help="Most requests a day, for each"
                     " endpoint."),
        click.option("--per-second", type=click.FloatRange(min=0.01), help="Most requests a second,"
                     " for each endpoint."),
    ):  # fmt: skip
        command = option(command)
    return command


def specs_of(chosen: Settings) -> list[ProtocolSpec]:
    """All protocols, with the deployments of the user's file."""
    specs = evm.specs()
    if chosen.deployments is not None:
        try:
            specs = evm.with_deployments(specs, chosen.deployments.read_bytes())
        except OSError as error:
            raise ConfigError(f"{chosen.deployments}: {error.strerror}") from None
        except ConfigError as error:
            raise ConfigError(f"{chosen.deployments}: {error}") from None
    return specs


class Chosen(NamedTuple):
    """The venues that are meant, by chain, and all that reading them needs."""

    settings: Settings
    decoder: Decoder
    venues: dict[str, list[str]]


def choose(names: Sequence[str]) -> Chosen:
    """What the words of a command mean; a name that is neither a venue nor a chain is a usage
    error."""
    chosen = settings.read()
    decoder = Decoder(specs_of(chosen))
    known = decoder.venues()
    chains = {chain_of(venue) for venue in known}
    found: dict[str, list[str]] = {}
    for name in names:
        if name in chains:
            found[name] = _venues_of(name, decoder)
        elif name in known:
            venues = found.setdefault(chain_of(name), [])
            venues += [name] if name not in venues else []
        else:
            raise usage(_unknown(name, known, chains))
    return Chosen(chosen, decoder, found)


def chain_of(venue: str) -> str:
    """The chain of a venue."""
    return venue.rpartition(".")[2]


def _venues_of(chain: str, decoder: Decoder) -> list[str]:
    return [venue for venue in decoder.venues() if chain_of(venue) == chain]


def _unknown(name: str, known: Sequence[str], chains: set[str]) -> str:
    protocol, _, chain = name.rpartition(".")
    if chain in chains:
        near = [venue for venue in known if venue.endswith(f".{chain}")]
    else:
        near = [venue for venue in known if venue.startswith(f"{protocol or name}.")]
    if near:
        return f"no venue {name!r}; there are {', '.join(near)}"
    return f"no venue or chain {name!r}; chains are {', '.join(sorted(chains))}"


@contextmanager
def source_of(chosen: Settings, chain: str, budget: Budget, conninfo: str) -> Iterator["EvmSource"]:
    """The endpoints of a chain; what they are asked is counted in the database of `conninfo`."""
    from indexer.chain.told import Teller
    from indexer.sources.chains import profile_of
    from indexer.sources.endpoints import Budget as EndpointBudget
    from indexer.sources.evm import EvmSource

    profile = profile_of(chain)
    urls = [url for url in chosen.endpoints(chain) if not _announces(url)]
    limits = EndpointBudget(budget.per_second, budget.per_day)
    with (
        closing(EvmSource(profile, urls, budget=limits)) as source,
        closing(Teller(chain, source.endpoints.all, lambda: connect_briefly(conninfo))),
    ):
        source.chain_id()
        yield source


class Asked(NamedTuple):
    """A chain that is asked about some of its venues."""

    connection: Connection
    source: "EvmSource"
    decoder: Decoder
    chain: str
    venues: list[str]


def ask_each(names: Sequence[str], budget: Budget, ask: Callable[[Asked], None]) -> None:
    """Ask each chain that the names mean, all that is indexed where there are none; those without
    an endpoint are left out aloud then. A fault of one ends the command with 1 after the others."""
    chosen = choose(names)
    faults: list[str] = []
    with connected() as connection:
        conninfo = conninfo_of(connection)
        if not names:
            known = set(chosen.decoder.venues())
            chosen = choose([one for one in prices.indexed(connection) if one in known])
        for chain, venues in chosen.venues.items():
            if not names and not chosen.settings.has_endpoints(chain):
                say(f"{chain}: no endpoint, so nobody is asked; set {settings.rpc_name(chain)}")
                continue
            try:
                with source_of(chosen.settings, chain, budget, conninfo) as source:
                    ask(Asked(connection, source, chosen.decoder, chain, venues))
            except SourceFault as fault:
                faults.append(str(fault))
    if faults:
        fail("; ".join(faults))


def _announces(url: str) -> bool:
    return url.startswith(("ws://", "wss://"))


@contextmanager
def _announcements(chosen: Settings, chain: str) -> Iterator["Watch"]:
    """Where new blocks are announced; the clock alone without an address for that."""
    from indexer.sources.heads import Clockwork, Heads

    urls = [url for url in chosen.endpoints(chain) if _announces(url)]
    with closing(Heads(urls[0], say) if urls else Clockwork()) as watch:
        yield watch


def backfill(
    connection: Connection,
    chosen: Chosen,
    first: int,
    end: int,
    budget: Budget,
    *,
    with_values: bool = True,
) -> None:
    """Index final blocks, the chains one after the other, and value what is stored from `first` on:
    also what was written before a backfill was broken off."""
    from indexer.chain import redecode, sync

    decoder = chosen.decoder
    for chain, venues in chosen.venues.items():
        changed: list[datetime] = []
        with source_of(chosen.settings, chain, budget, conninfo_of(connection)) as source:
            redecode.settle(connection, source, decoder, wrote=changed.append)
            if with_values:
                settled = min(changed, default=None)
                _value(connection, source, decoder, _venues_of(chain, decoder), settled)
            with progress_of(chain) as progress:
                tally = sync.backfill(
                    connection, source, decoder, venues, first, end, progress=progress
                )
            counts = tally.counts
            out.print(
                f"{chain}: {counts['blocks']:,} new blocks,"
                f" {counts['liquidations']:,} liquidations, {counts['undecoded']:,} undecoded,"
                f" {counts['quarantined']:,} quarantined"
            )
            if tally.not_final:
                say(
                    f"{chain}: {tally.not_final:,} blocks up to {end:,} are not final yet:"
                    f" indexer follow {chain}"
                )
            if with_values:
                since = values.first_at(connection, chain, first)
                _value(connection, source, decoder, venues, since)
    if with_values:
        rollups.refresh(connection, now=datetime.now(UTC))


def price(
    connection: Connection,
    source: "EvmSource",
    decoder: Decoder,
    venues: Sequence[str],
    *,
    again: bool = False,
    since: datetime | None = None,
) -> None:
    """Ask for the prices that are missing and say how many came. Raises SourceFault."""
    from indexer.chain import prices

    counts = prices.fill(connection, source, decoder, venues, again=again, since=since)
    if counts.total():
        say(
            f"{source.profile.name}: {counts['prices']:,} new prices,"
            f" {counts['in_vain']:,} asked in vain"
        )


def price_offline(
    connection: Connection,
    chain: str,
    decoder: Decoder,
    venues: Sequence[str],
    *,
    again: bool = False,
) -> None:
    """Take the prices that need no asking and say how many came."""
    from indexer.chain import prices

    counts = prices.from_events(connection, decoder, chain, venues, again=again)
    if counts.total():
        say(f"{chain}: {counts['prices']:,} new prices")


def _value(
    connection: Connection,
    source: "EvmSource",
    decoder: Decoder,
    venues: Sequence[str],
    since: datetime | None,
) -> None:
    """Ask for the prices that rows want and value them, from `since` on; nothing without. A price
    that nobody tells now is left to `indexer value`, aloud."""
    if since is None:
        return
    chain = source.profile.name
    try:
        price(connection, source, decoder, venues, since=since)
    except SourceFault as fault:
        say(f"{chain}: prices are missing: {fault}; ask again with indexer value {chain}")
    values.value(connection, terms=terms_of(decoder), venues=venues, since=since)


@contextmanager
def progress_of(chain: str) -> Iterator[Callable[[int, int, int], None]]:
    """A bar over blocks with events and ETA, on a terminal; lines of steps in JSON."""
    if logs.steps_are_wanted():
        yield lambda done, total, events: say(
            f"chain={chain} done={done} of={total} events={events}"
        )
        return
    bar = Progress(
        TextColumn(chain), BarColumn(), MofNCompleteColumn(), TextColumn("blocks"),
        TextColumn("{task.fields[events]:,} events"), TimeRemainingColumn(),
        console=err, transient=True, disable=not err.is_terminal,
    )  # fmt: skip
    with bar:
        task = bar.add_task("reading", events=0)
        yield lambda done, total, events: bar.update(
            task, completed=done, total=total, events=events
        )


def check(connection: Connection, chosen: Chosen, last: int, budget: Budget) -> None:
    """Read the newest final blocks a second time, and value what was corrected."""
    from indexer.chain import check as checks

    unsettled: list[str] = []
    decoder = chosen.decoder
    for chain, venues in chosen.venues.items():
        changed: list[datetime] = []
        with source_of(chosen.settings, chain, budget, conninfo_of(connection)) as source:
            high = source.finalized() + 1
            low = max(high - last, 0)
            tally = checks.check(
                connection, source, decoder, venues, low, high, wrote=changed.append
            )
            out.print(
                f"{chain}: {tally.blocks:,} blocks with {tally.logs:,} logs read again:"
                f" {tally.missing:,} logs were missing, {tally.untrue:,} untrue"
            )
            _value(connection, source, decoder, venues, min(changed, default=None))
        unsettled += tally.unsettled
    for text in unsettled:
        say(f"unsettled: {text}")
    if unsettled:
        fail("two readings differ, and nobody gave the receipts that would decide")


def redecode(connection: Connection, chosen: Chosen) -> None:
    """Derive rows again from what is stored, and value what changed from the prices that are, in
    one transaction."""
    from indexer.chain import redecode as again

    terms = terms_of(chosen.decoder)
    for chain, venues in chosen.venues.items():

        def value(since: datetime, venues: Sequence[str] = venues) -> None:
            values.value(connection, terms=terms, venues=venues, since=since)

        counts = again.redecode(connection, chosen.decoder, venues, wrote=value)
        out.print(
            f"{chain}: {counts['logs']:,} raw logs gave {counts['liquidations']:,} liquidations;"
            f" {counts['changed']:,} rows changed"
        )


def follow(
    chosen: Chosen, budget: Budget, check_seconds: float, is_over: Callable[[], bool]
) -> None:
    """Follow chains side by side, each in a thread with a connection and endpoints of its own.

    A chain that must stop says so and leaves the others running."""
    for chain in chosen.venues:
        chosen.settings.endpoints(chain)
    conninfo = prepared().conninfo
    failed: dict[str, str] = {}

    def run(chain: str) -> None:
        try:
            _follow(chosen, chain, conninfo, budget, check_seconds, is_over)
        except IndexerError as error:
            failed[chain] = str(error)
            say(f"{chain} stopped: {error}")

    threads = [threading.Thread(target=run, args=(chain,), name=chain) for chain in chosen.venues]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        threads[0].join(0.2)  # leaves the main thread to the signals
        threads = [thread for thread in threads if thread.is_alive()] or threads
    if failed:
        fail("; ".join(failed.values()))


def _follow(
    chosen: Chosen,
    chain: str,
    conninfo: str,
    budget: Budget,
    check_seconds: float,
    is_over: Callable[[], bool],
) -> None:
    from indexer.chain import follow as follower

    named, venues = chosen.settings, chosen.venues[chain]
    own = budget.halved()
    with (
        source_of(named, chain, own, conninfo) as source,
        _announcements(named, chain) as wake,
        _valuing(chosen, chain, conninfo, own) as valuer,
    ):
        say(f"following {chain}: {', '.join(venues)}; stop with Ctrl-C")
        follower.follow(
            lambda: connect(conninfo), source, chosen.decoder, venues,
            is_over=is_over, say=say, wake=wake, check_seconds=check_seconds, wrote=valuer.wrote,
        )  # fmt: skip


@contextmanager
def _valuing(chosen: Chosen, chain: str, conninfo: str, budget: Budget) -> Iterator[Valuer]:
    """Values what the follower writes or settles, of whatever venue of the chain, over a connection
    and endpoints of its own."""
    from indexer.chain import prices

    decoder, terms = chosen.decoder, terms_of(chosen.decoder)
    venues = _venues_of(chain, decoder)
    opened: list[EvmSource] = []  # at the first liquidation, and then kept
    complaints: set[str] = set()

    def roll_up(connection: Connection) -> None:
        """One day at a time: rows that are new do not wait long. A failure only costs speed."""
        try:
            rollups.refresh(connection, now=datetime.now(UTC), most=1)
        except psycopg.Error as error:
            text = str(error).strip().partition("\n")[0]
            if text not in complaints:
                say(f"{chain}: days are not added up: {text}")
            complaints.add(text)

    with ExitStack() as stack:

        def value(since: datetime) -> None:
            if not opened:
                opening = source_of(chosen.settings, chain, budget, conninfo)
                opened.append(stack.enter_context(opening))
            with connect(conninfo) as connection:
                try:
                    prices.fill(connection, opened[0], decoder, venues, since=since)
                finally:  # what has a price, as from a file, does not wait for what has none yet
                    values.value(connection, terms=terms, venues=venues, since=since)
                roll_up(connection)

        def value_stored(since: datetime) -> None:
            with connect(conninfo) as connection:
                values.hurry(connection, LAST_SECONDS)
                prices.from_events(connection, decoder, chain, venues, since=since)
                values.value(connection, terms=terms, venues=venues, since=since)

        with closing(Valuer(chain, value, value_stored, say)) as valuer:
            yield valuer
