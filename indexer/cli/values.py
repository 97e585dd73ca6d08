"""The verbs on prices and values: which venues, which endpoints; everything else is called."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
from rich.markup import escape

from indexer import settings, sync
from indexer.chain.values import terms_of
from indexer.cli import chains, completion, dydx
from indexer.cli.console import Duration, connected, fail, out, say
from indexer.cli.shown import Listing, formatted, listing, show
from indexer.errors import SourceFault
from indexer.store import price_files, rollups, values
from indexer.store import prices as stored
from indexer.store.database import Connection, conninfo_of

REASONS_SHOWN = 3
UNMET_SHOWN = 5


@click.command()
@click.argument("venues", nargs=-1, metavar="[VENUE...]", shell_complete=completion.venues)
@click.option("--again", is_flag=True, help="Ask once more for prices that were asked in vain.")
@click.option(
    "--offline", is_flag=True,
    help="Ask nobody: value with the prices that are stored, or that stored events carry.",
)  # fmt: skip
@formatted()
@chains.budgeted
def value(
    venues: tuple[str, ...],
    again: bool,
    offline: bool,
    form: str,
    per_second: float | None,
    per_day: int | None,
) -> None:
    """Say what liquidations were worth in USD: fetch the prices that are missing, value, and count
    what has no price and why.

    A VENUE is hyperliquid, dydx_v4, a protocol on a chain as aave_v3.ethereum, or a chain; all that
    is indexed where none is named. Prices of a chain are asked of RPC_<CHAIN>.

    Example: indexer value hyperliquid

    Example: indexer value aave_v3.ethereum --offline
    """
    of_no_chain = (sync.VENUE, dydx.VENUE)
    chosen = chains.choose([name for name in venues if name not in of_no_chain])
    with connected() as connection:
        if not venues:
            chosen = chains.choose(_indexed(connection, chosen))
        names = [name for of_chain in chosen.venues.values() for name in of_chain]
        names += [name for name in of_no_chain if name in venues or not venues]
        faults: list[str] = []
        if offline:
            for chain, of_chain in chosen.venues.items():
                chains.price_offline(connection, chain, chosen.decoder, of_chain, again=again)
        else:
            budget = chains.Budget(per_second, per_day)
            faults = _fill(connection, chosen, budget, again, is_all=not venues)
        values.value_all(connection, terms=terms_of(chosen.decoder), venues=names)
        rollups.refresh(connection, now=datetime.now(UTC))
        _show(stored.summary(connection, names), form)
    if faults:
        fail("; ".join(faults))


def _indexed(connection: Connection, chosen: chains.Chosen) -> list[str]:
    known = set(chosen.decoder.venues())
    return [venue for venue in stored.indexed(connection) if venue in known]


def _fill(
    connection: Connection,
    chosen: chains.Chosen,
    budget: chains.Budget,
    again: bool,
    *,
    is_all: bool,
) -> list[str]:
    """Ask for missing prices, chain by chain; gives what failed. What nobody named and has no
    endpoint is left out aloud."""
    faults: list[str] = []
    for chain, venues in chosen.venues.items():
        if is_all and not chosen.settings.has_endpoints(chain):
            say(f"{chain}: no endpoint, so no new prices; set {settings.rpc_name(chain)}")
            continue
        try:
            with chains.source_of(
                chosen.settings, chain, budget, conninfo_of(connection)
            ) as source:
                chains.price(connection, source, chosen.decoder, venues, again=again)
        except SourceFault as fault:
            faults.append(str(fault))
    return faults


def _show(found: Sequence[stored.Summary], form: str) -> None:
    if form != "table":
        show(listing("values", _OF_VALUES, found), form)
        return
    for one in found:
        out.print(escape(_line(one)), soft_wrap=True)
    if not found:
        out.print("nothing to value yet: indexer backfill")


_OF_VALUES = {
    "venue": "venue", "valued": "valued", "unvalued": "without a value", "suspects": "suspect",
    "reasons": "",
}  # fmt: skip


def _line(one: stored.Summary) -> str:
    text = f"{one.venue}: {one.valued:,} valued, {one.unvalued:,} without a value"
    if one.reasons:
        shown = [f"{reason} {count:,}" for reason, count in one.reasons[:REASONS_SHOWN]]
        text += f" ({', '.join(shown)}{', …' if len(one.reasons) > REASONS_SHOWN else ''})"
    return f"{text}, {one.suspects:,} suspect"


@click.group()
def prices() -> None:
    """Price files of your own: a named source beside the protocols' oracles.

    Example: indexer prices list
    """


@prices.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--name", required=True, help="What the source is called: small letters, digits.")
@click.option("--chain", help="The chain of all its assets, where the file has no column chain.")
@click.option(
    "--max-age", type=Duration(), default="1h", show_default=True,
    help="How long after its time a price may be used.",
)  # fmt: skip
@click.option("--replace", is_flag=True, help="Take the place of a source of this name.")
def import_prices(
    file: Path, name: str, chain: str | None, max_age: timedelta, replace: bool
) -> None:
    """Import a CSV or Parquet file of prices: asset, time, usd for one whole token. It may come
    before the rows that it is for.

    Example: indexer prices import prices.csv --name kaiko --chain hyperliquid --max-age 5m
    """
    known = {chains.chain_of(venue) for venue in chains.choose(()).decoder.venues()} | {sync.VENUE}
    with connected() as connection:
        imported = price_files.import_file(
            connection, file, name, chains=known, max_age=max_age, replace=replace, chain=chain
        )
        assets, unmet = price_files.unmet(connection, name)
    out.print(f"{name}: {imported.points:,} prices")
    if imported.repeats:
        rest = ", …" if imported.repeats > len(imported.first_repeats) else ""
        say(
            f"{imported.repeats:,} lines say again what others say:"
            f" {', '.join(map(str, imported.first_repeats))}{rest}"
        )
    if unmet:
        rest = ", …" if len(unmet) > UNMET_SHOWN else ""
        say(
            f"{len(unmet):,} of {assets:,} assets are in no row yet:"
            f" {', '.join(unmet[:UNMET_SHOWN])}{rest}"
        )


@prices.command("list")
@formatted()
def list_prices(form: str) -> None:
    """The price files that are imported.

    Example: indexer prices list
    """
    with connected() as connection:
        rows = [
            (one.name, one.points, int(one.max_age.total_seconds()), one.imported_at, one.uri)
            for one in stored.files(connection)
        ]
    show(
        Listing("price files", _OF_FILES, rows), form,
        "no price files: indexer prices import FILE --name NAME",
    )  # fmt: skip


_OF_FILES = {
    "name": "name", "prices": "prices", "max_age_s": "max age", "imported_at": "imported (UTC)",
    "file": "file",
}  # fmt: skip
