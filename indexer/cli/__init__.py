"""The command `indexer`: parse, build, call, print."""

import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from indexer import labels, resources, settings, sync
from indexer.cli import (
    access,
    accounts,
    alerts,
    audit,
    chains,
    completion,
    debt,
    dydx,
    episodes,
    export,
    feeds,
    fills,
    interest,
    label_sets,
    logs,
    roles,
    serve,
    streams,
    top,
    totals,
    trades,
    values,
    venues,
    verify,
    watch,
    whales,
)
from indexer.cli.console import (
    Commands,
    Duration,
    Height,
    Moment,
    connected,
    err,
    fail,
    fault,
    out,
    prepared,
    say,
    usage,
    write_report,
)
from indexer.cli.shown import Listing, exact, formatted, listing, show, show_all, to_json
from indexer.errors import ConfigError
from indexer.model import Rule
from indexer.perp_feeds import FEEDS
from indexer.report import render
from indexer.report import whales as whale_reports
from indexer.sources.hyperliquid import HourFile
from indexer.store import explain as explanation
from indexer.store import labels as labeler
from indexer.store import never_labelled, rollups, server, sizes, status
from indexer.store.database import Connection, connect

DEMO_DATABASE = "indexer_demo"
HOLES_SHOWN = 20


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="liquidation-indexer")
def main() -> None:
    """On-chain DEX liquidations in Postgres, each row traceable to its published bytes.

    Without DATABASE_URL a PostgreSQL server of our own is started and kept.

    Example: indexer demo
    """
    logs.begin()


VENUES = click.argument(
    "venues", nargs=-1, required=True, metavar="VENUE...", shell_complete=completion.venues
)
ACCOUNTS = click.option(
    "--accounts/--no-accounts", default=True, show_default=True,
    help="hyperliquid: also add up every account's fills by day, or take liquidations only (much"
    " faster).",
)  # fmt: skip
RPC = click.option(
    "--rpc", multiple=True, metavar="URL", help="dydx: a node's RPC address; else RPC_DYDX."
)


@main.command()
@VENUES
@click.option(
    "--from", "begin", required=True, metavar="DIR|HEIGHT",
    help="hyperliquid: a directory, a file or s3://bucket/prefix. Chains: the first block.",
)  # fmt: skip
@click.option("--to", "end", type=Height(), help="Chains: the first block not to read.")
@ACCOUNTS
@click.option(
    "--values/--no-values", "with_values", default=True, show_default=True,
    help="Say what the rows were worth, for which chains are asked for prices; indexer value does"
    " it later.",
)  # fmt: skip
@click.option("--account", metavar="0x…", help="Whose fills an API answer holds that does not say.")
@RPC
@chains.budgeted
@logs.logged
def backfill(
    venues: tuple[str, ...],
    begin: str,
    end: int | None,
    accounts: bool,
    with_values: bool,
    account: str | None,
    rpc: tuple[str, ...],
    per_second: float | None,
    per_day: int | None,
) -> None:
    """Index finished block files, or final blocks of a chain; again changes nothing.

    A VENUE is hyperliquid, dydx, a protocol on a chain as aave_v3.ethereum, or a chain, which means
    all its venues. Exits with 1 when a file is faulty or heights are missing; what could be read is
    kept.

    Example: indexer backfill hyperliquid --from ~/hl/data

    Example: indexer backfill aave_v3.ethereum --from 18M --to 19M
    """
    if _is_hyperliquid(venues):
        if end is not None:
            raise usage("--to is for chains; --from names all files to read")
        with connected() as connection:
            _report_backfill(
                connection, begin, account, with_accounts=accounts, with_values=with_values
            )
        return
    is_dydx = _is_dydx(venues, rpc)
    chosen = chains.choose(() if is_dydx else venues)
    first = Height().convert(begin, None, click.get_current_context())
    if end is None:
        raise usage("give the end of the blocks with --to, or follow the chain")
    budget = chains.Budget(per_second, per_day)
    if is_dydx:
        dydx.backfill(first, end, rpc, budget, with_values=with_values)
        return
    with connected() as connection:
        chains.backfill(connection, chosen, first, end, budget, with_values=with_values)


def _is_hyperliquid(venues: tuple[str, ...]) -> bool:
    if sync.VENUE in venues and len(venues) > 1:
        raise usage(f"{sync.VENUE} is read from files: give it a command of its own")
    return venues == (sync.VENUE,)


def _is_dydx(venues: tuple[str, ...], rpc: tuple[str, ...]) -> bool:
    is_dydx = dydx.is_meant(venues)
    if rpc and not is_dydx:
        raise usage("--rpc is for dydx; chains are read from RPC_<CHAIN>")
    return is_dydx


def _report_backfill(
    connection: Connection,
    location: str,
    account: str | None = None,
    *,
    with_accounts: bool = True,
    with_values: bool = True,
) -> None:
    with _progress() as progress:
        tally = sync.backfill(
            connection, location, with_accounts=with_accounts, account=account, progress=progress
        )
    counts = tally.counts
    if with_values and (counts["liquidations"] or counts["ledger_liquidations"]):
        sync.value(connection, tally.since)
        rollups.refresh(connection, now=datetime.now(UTC))
    out.print(
        f"{counts['blocks']:,} new blocks, {counts['liquidations']:,} liquidations,"
        f" {counts['ledger_liquidations']:,} ledger liquidations,"
        f" {counts['undecoded']:,} undecoded"
    )
    if tally.ignored:
        say(f"{len(tally.ignored)} other files left alone, e.g. {tally.ignored[0]}")
    missing = (
        status.holes(connection, low=tally.low, high=tally.high) if tally.low is not None else []
    )
    for problem in (*tally.faults, *missing[:HOLES_SHOWN]):
        fault(str(problem))
    if len(missing) > HOLES_SHOWN:
        say(f"and {len(missing) - HOLES_SHOWN} more holes: indexer status")
    if tally.faults or missing:
        sys.exit(1)


@contextmanager
def _progress() -> Iterator[sync.Progress]:
    """A bar over all stored bytes with an ETA, on a terminal; lines of files in JSON."""
    if logs.steps_are_wanted():
        yield _FileLines()
        return
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


class _FileLines:
    """A line for each file when it is begun."""

    def __init__(self) -> None:
        self._last = ""

    def __call__(self, file: HourFile, size: int, total: int) -> None:
        if file.file.uri != self._last:
            self._last = file.file.uri
            say(f"venue={sync.VENUE} file={Path(file.file.uri).name} of_bytes={total}")


@main.command()
@VENUES
@click.option("--from", "location", metavar="DIR", help="hyperliquid: where its node writes.")
@ACCOUNTS
@streams.chosen
@click.option(
    "--check-every", type=Duration(), default="10m", show_default=True,
    help="Chains: how often blocks that became final are read a second time.",
)  # fmt: skip
@RPC
@chains.budgeted
@access.guarded
@logs.logged
def follow(
    venues: tuple[str, ...],
    location: str | None,
    accounts: bool,
    stream: str | None,
    vendor: str | None,
    key_file: Path | None,
    file: Path | None,
    by_candidates: bool,
    check_every: timedelta,
    rpc: tuple[str, ...],
    per_second: float | None,
    per_day: int | None,
) -> None:
    """Index what a node appends or a chain adds, until stopped with Ctrl-C or SIGTERM.

    A VENUE is hyperliquid, dydx, a protocol on a chain as aave_v3.ethereum, or a chain, which means
    all its venues; or lighter, paradex, extended or aster, whose public trades are a sample. A
    chain is followed from its finalized height on, or from where it was left.

    Without a node, hyperliquid is followed as far as a --vendor of fills sends them: a sample,
    which covers no blocks. Its key comes from HYPERLIQUID_STREAM_KEY or a file.

    Example: indexer follow hyperliquid --from ~/hl/data

    Example: indexer follow hyperliquid --vendor goldrush --key-file goldrush.key

    Example: indexer follow hyperliquid --vendor exchange --watch-list whales.txt

    Example: indexer follow ethereum base arbitrum

    Example: indexer follow lighter
    """
    over = _until_signal()
    listened = streams.Choice(stream, vendor, key_file, file, by_candidates)
    if perps := set(venues) & set(FEEDS):
        if len(venues) > 1:
            raise usage(f"{min(perps)} is no chain: give it a command of its own")
        if location is not None or listened.is_any:
            raise usage("--from, --stream, --vendor, --watch-list and the like are for hyperliquid")
        trades.follow(venues[0], over)
        return
    if not _is_hyperliquid(venues):
        if location is not None:
            raise usage("--from is for hyperliquid; chains are read from RPC_<CHAIN>")
        if listened.is_any:
            raise usage("--stream, --vendor, --watch-list and the like are for hyperliquid")
        budget = chains.Budget(per_second, per_day)
        if _is_dydx(venues, rpc):
            dydx.follow(rpc, budget, over)
            return
        chains.follow(chains.choose(venues), budget, check_every.total_seconds(), over)
        return
    if listened.is_any:
        if location is not None:
            raise usage("--from reads what a node writes, --vendor what others send: give one")
        streams.follow(listened, over)
        return
    if location is None:
        raise usage("say where the node writes: --from DIR; or who sends fills: --vendor NAME")
    with connected() as connection:
        say(f"following {location}; stop with Ctrl-C")
        tally = sync.follow(connection, location, with_accounts=accounts, is_over=over, say=say)
    if tally.faults:
        fail(f"stopped; {len(tally.faults)} faults on the way, see above and indexer status")


def _until_signal() -> Callable[[], bool]:
    """Says whether we were asked to stop."""
    stopped = False

    def stop(*_: object) -> None:
        nonlocal stopped
        stopped = True

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    return lambda: stopped


@main.command()
@VENUES
@click.option(
    "--last", type=Height(), default="10k", show_default=True,
    help="How many of the newest final blocks.",
)  # fmt: skip
@click.option("--api", metavar="URL", help="dydx: the public indexer to compare with.")
@chains.budgeted
def check(
    venues: tuple[str, ...],
    last: int,
    api: str | None,
    per_second: float | None,
    per_day: int | None,
) -> None:
    """Read final blocks of chains a second time, correct what differs, write down what it was.
    Of dydx, compare rows with what the public indexer says, and print what differs.

    Exits with 1 when two readings differ and no receipts could settle it.

    Example: indexer check aave_v3.ethereum --last 10k
    """
    if dydx.is_meant(venues):
        dydx.check(last, api)
        return
    if api is not None:
        raise usage("--api is for dydx")
    chosen = chains.choose(venues)
    with connected() as connection:
        chains.check(connection, chosen, last, chains.Budget(per_second, per_day))


@main.command()
@VENUES
def redecode(venues: tuple[str, ...]) -> None:
    """Derive rows again from the stored raw logs of chains, or legs of hyperliquid, without a node.

    Whoever reads the database sees all of it, or what was before.

    Example: indexer redecode aave_v3.ethereum

    Example: indexer redecode hyperliquid
    """
    if _is_hyperliquid(venues):
        with connected() as connection:
            counts = sync.redecode(connection)
        out.print(
            f"{counts['legs']:,} legs, {counts['liquidations']:,} liquidations,"
            f" {counts['undecoded']:,} undecoded"
        )
        return
    chosen = chains.choose(venues)
    with connected() as connection:
        chains.redecode(connection, chosen)


main.add_command(values.value)
main.add_command(values.prices)
main.add_command(audit.audit)
main.add_command(export.export)
main.add_command(totals.total)
main.add_command(totals.list_definitions)
main.add_command(totals.reconcile)
main.add_command(watch.watch)
main.add_command(alerts.alert)
main.add_command(fills.fills)
main.add_command(trades.trades)
main.add_command(roles.roles)
main.add_command(accounts.accounts)
main.add_command(interest.interest)
main.add_command(debt.debt)
main.add_command(label_sets.labels)
main.add_command(venues.venues)
main.add_command(verify.verify)
main.add_command(completion.completion)
main.add_command(serve.serve)
main.add_command(top.top)


@main.command()
@click.option(
    "--rules", "file", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A .toml file that sets parameters of rules or adds rules of your own.",
)  # fmt: skip
@click.option(
    "--definition", default=sizes.DEFINITION, show_default=True,
    shell_complete=completion.definitions,
    help="What a size is: indexer definitions.",
)  # fmt: skip
@click.option(
    "--since", type=Moment(), help="Look too at all accounts with facts from this time on, UTC."
)
@click.option("--again", is_flag=True, help="Look at all accounts, whether they changed or not.")
@formatted()
def label(
    file: Path | None, definition: str, since: datetime | None, again: bool, form: str
) -> None:
    """Flag large liquidations and label accounts; withdraw what no longer holds.

    Looks at the accounts whose facts changed since the last run, which gives what looking at all
    would give; at all where a rule, its parameters or the definition changed.

    Example: indexer label

    Example: indexer label --since 2025-10-10
    """
    rules = labels.rules(file.read_bytes() if file else b"")
    with connected() as connection:
        _label(connection, rules, form, definition=definition, since=since, again=again)


def _label(connection: Connection, rules: list[Rule], form: str = "table", **choices: Any) -> None:
    never_labelled.keep(connection, "project", label_sets.never_of_project())
    changes = labeler.apply(connection, rules, **choices)
    standing = labeler.standing(connection)
    rows = [
        (
            f"{change.rule.id} v{change.rule.version}", change.rule.makes, change.new,
            change.withdrawn, standing.get(change.rule.id, 0), str(change.rule),
        )
        for change in changes
    ]  # fmt: skip
    show(Listing("rules", _OF_RULES, rows), form)


_OF_RULES = {
    "rule": "rule", "makes": "makes", "new": "new", "withdrawn": "withdrawn",
    "standing": "standing", "says": "what it says",
}  # fmt: skip


@main.group()
def report() -> None:
    """Reports over a window of chain time.

    Example: indexer report whales --since 24h
    """


report.add_command(watch.report_positions)
report.add_command(episodes.report_episode)
report.add_command(whales.report_whales)


@main.command("status")
@formatted(says="csv and md have a section for each kind of source, json a list.")
def show_status(form: str) -> None:
    """Per venue: what is covered, missing, undecoded, and how far behind.

    Example: indexer status

    Example: indexer status --format json
    """
    with connected() as connection:
        found = [
            listing("venues", _OF_VENUES, status.status(connection)),
            listing("chains", _OF_CHAINS, status.chains(connection)),
            listing("samples", _OF_SAMPLES, status.samples(connection)),
        ]
        missing = status.holes(connection)
    if form != "table":
        show_all([*found, listing("missing", _OF_HOLES, missing)], form)
        return
    if not any(one.rows for one in found):
        out.print("nothing is indexed yet: indexer backfill hyperliquid --from DIR")
        return
    show_all(found, form)
    for hole in missing[:HOLES_SHOWN]:
        out.print(escape(str(hole)), soft_wrap=True)
    if len(missing) > HOLES_SHOWN:
        out.print(f"and {len(missing) - HOLES_SHOWN} more in the view liq.missing")


# Headings by column; a table has no room for those without one.
_OF_VENUES = {
    "venue": "venue", "facts": "facts", "blocks": "covered blocks", "block_from": "",
    "block_to": "", "first_at": "from", "last_at": "to (UTC)", "missing": "missing",
    "undecoded": "undecoded", "lag_s": "lag", "verification": "read as",
}  # fmt: skip
_OF_CHAINS = {
    "chain": "chain", "tip_block": "tip", "finalized_block": "final", "age_s": "written, ago",
    "reorgs": "reorgs", "waiting": "waiting", "quarantined": "quarantined",
    "checked_to": "checked to", "missed": "corrected", "stopped": "stopped",
}  # fmt: skip
_OF_SAMPLES = {
    "venue": "venue", "source": "source", "who": "accounts", "accounts": "", "first_at": "from",
    "last_at": "to (UTC)", "pieces": "pieces", "lacking": "lacking", "read_as": "read as",
}  # fmt: skip
_OF_HOLES = {
    "venue": "venue", "facts": "facts", "block_from": "from block", "block_to": "to before block",
    "after_at": "after (UTC)", "before_at": "before (UTC)",
}  # fmt: skip


@main.command()
@click.argument("key")
@formatted(says="csv and md have a line for each value, json an object for each record.")
def explain(key: str, form: str) -> None:
    """Walk from the published bytes to the row and the opinions on it.

    KEY is that of a row of liq.liquidations or liq.lending_liquidations, venue/event_key of
    liq.undecoded, or chain/event_key of liq.quarantine.

    Example: indexer explain hyperliquid/777010856/WLFI/87867877881544/0xa59f…
    """
    with connected() as connection:
        found = explanation.explain(connection, key)
    match form:
        case "table":
            for section in found:
                _section(section.title, section.records)
        case "json":
            click.echo(
                to_json(
                    [
                        {"section": one.title, "record": record}
                        for one in found
                        for record in one.records
                    ]
                )
            )
        case _:
            show(Listing("explanation", _OF_VALUES, [
                (one.title, number, name, exact(value)) for one in found
                for number, record in enumerate(one.records, 1) for name, value in record.items()
            ]), form)  # fmt: skip


_OF_VALUES = {"section": "section", "record": "record", "name": "name", "value": "value"}


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
    found = prepared(DEMO_DATABASE)
    with connect(found.conninfo) as connection:
        _report_backfill(connection, str(resources.recording()))
        _label(connection, labels.rules())
        whale_report = whale_reports.collect(connection, since=timedelta(hours=24))
    render.to_terminal(whale_report, out)
    write_report(whale_report, render.In("en"), "html", html, overwrite=True)
    out.print(f"\nQuery it:\n  {escape(found.psql)}", soft_wrap=True)


@main.group()
def db() -> None:
    """The embedded PostgreSQL server, and the database in use.

    Example: indexer db status
    """


@db.command()
def start() -> None:
    """Start the server if it does not run, and bring the schemas up to date.

    Example: indexer db start
    """
    out.print(escape(prepared().psql), soft_wrap=True)


db.add_command(feeds.publish)
db.add_command(feeds.notify)


@db.command()
def stop() -> None:
    """Stop the embedded server; its data stays.

    Example: indexer db stop
    """
    chosen = settings.read()
    if chosen.database_url is not None:
        raise ConfigError("DATABASE_URL is set: that server is not ours to stop")
    out.print("stopped" if server.stop(chosen.data_dir) else "was not running")


@db.command("status")
@formatted()
def db_status(form: str) -> None:
    """Say whether the embedded server runs, and where.

    Example: indexer db status
    """
    chosen = settings.read()
    if chosen.database_url is not None:
        running, where = None, None
        said = "DATABASE_URL is set: the embedded server is not used"
    else:
        found = server.status(chosen.data_dir)
        running, where = found is not None, str(found.data_dir if found else chosen.data_dir)
        said = f"running, data in {where}" if found else f"not running; {where}"
    if form == "table":
        out.print(escape(said), soft_wrap=True)
        return
    show(Listing("server", _OF_SERVER, [(running is not None, running, where)]), form)


_OF_SERVER = {
    "is_embedded": "embedded", "is_running": "running", "data_dir": "data in",
}  # fmt: skip


db.add_command(access.roles)
db.add_command(access.reader)
db.add_command(access.writer)
db.add_command(access.guard)
db.add_command(access.list_dependents)
db.add_command(access.migrate)


@db.command(context_settings={"ignore_unknown_options": True})
@click.option("--demo", "is_demo", is_flag=True, help="Open the database of the demo.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def psql(is_demo: bool, arguments: tuple[str, ...]) -> None:
    """Open the database with psql; further arguments go to psql.

    Example: indexer db psql -c 'SELECT * FROM liq.liquidations LIMIT 5'
    """
    found = prepared(DEMO_DATABASE if is_demo else None)
    environment = settings.environment_with(PGPASSWORD=found.password)
    command = [*shlex.split(found.psql), *arguments]
    sys.exit(subprocess.run(command, env=environment, check=False).returncode)  # noqa: S603 - the user's own words
