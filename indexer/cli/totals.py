"""The verbs on totals: which definition, which window; everything else is called."""

import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import click
from rich.markup import escape

from indexer.cli import chains, completion
from indexer.cli.console import (
    OVERWRITE,
    Number,
    connected,
    out,
    say,
    usage,
    write_report,
)
from indexer.cli.shown import Listing, formatted, listing, show
from indexer.methodology.definition import Blocks, Definition, Segment, read
from indexer.methodology.prose import paragraph
from indexer.methodology.reconcile import Outside
from indexer.methodology.windows import Window, resolve
from indexer.report import reconciliation as report
from indexer.report import total as shown
from indexer.report.text import usd
from indexer.store import definitions, reconciliation, totals
from indexer.store.database import Connection

DEFINITION = click.option(
    "--definition", "name", default="strict/v1", show_default=True, metavar="ID|FILE",
    shell_complete=completion.definitions,
    help="A definition that is known, or a .toml or .json file with one.",
)  # fmt: skip
LANGUAGE = click.option(
    "--language", type=click.Choice(["en", "zh"]), default="en", show_default=True,
    help="Of the methodology.",
)  # fmt: skip


@click.command()
@DEFINITION
@click.option(
    "--window", "asked", default="24h", show_default=True,
    help="A day as 2025-10-10, a range of days or times as FROM..TO, a time, 24h, or blocks.",
)  # fmt: skip
@formatted(says="csv has a row for each line of the total.")
@LANGUAGE
@click.option("--save", is_flag=True, help="Store it in liq.totals, to be verified later.")
@click.option("--verify", is_flag=True, help="Compute all saved totals again and compare.")
def total(
    name: str, asked: str, form: str, language: shown.Language, save: bool, verify: bool
) -> None:
    """Add up the liquidations of a window under a definition, and say what the number means.

    Days are of the definition's time zone, times UTC, the end is never inside. With --verify, exits
    with 1 where a saved total is not what it was.

    Example: indexer total --definition strict/v1 --window 2025-10-27

    Example: indexer total --definition gross_legs/v1 --window 2025-10-27T22:00..2025-10-27T23:00
    """
    if save and verify:
        raise usage("--save and --verify are two things to do")
    with connected() as connection:
        if verify:
            _verify(connection, form)
            return
        definition = chosen(connection, name)
        found = totals.compute(
            connection, definition, window_of(connection, definition, asked), first_blocks()
        )
        number = totals.save(connection, found) if save else None
    match form:
        case "json":
            click.echo(shown.to_json(found))
        case "md":
            click.echo(shown.to_markdown(found, language))
        case "csv":
            show(_lines(found), form)
        case _:
            shown.to_terminal(found, language, out)
    if number is not None:
        say(f"saved as total {number}")


def chosen(connection: Connection, name: str) -> Definition:
    """The definition of an id or a file; a file's is known from then on."""
    if not name.endswith((".toml", ".json")):
        return definitions.known(connection, name)
    definition = read(Path(name))
    definitions.keep(connection, [definition])
    return definition


def window_of(connection: Connection, definition: Definition, asked: str) -> Window:
    """What the user's words mean under a definition's rule."""
    rule = definition.window
    prices = totals.series(connection, rule.series) if isinstance(rule, Segment) else ()
    chain = definition.chains[0] if isinstance(rule, Blocks) else None
    return resolve(rule, asked, datetime.now(UTC), prices, chain)


def first_blocks() -> dict[str, int]:
    """Before which block a venue of a chain cannot have anything, where that is known."""
    decoder = chains.choose(()).decoder
    return {venue: first for venue in decoder.venues() if (first := decoder.since(venue)) > 0}


def _lines(found: totals.Total) -> Listing:
    """Each line of a total with what it is of: a line of a file may stand alone."""
    window, names = found.window, totals.Line.__struct_fields__
    of_total = (
        found.definition.id, found.definition.hash, window.low, window.high, window.chain,
        window.block_from, window.block_to, found.is_complete, found.is_simulated,
    )  # fmt: skip
    rows = [(*of_total, *(getattr(line, name) for name in names)) for line in found.lines]
    return Listing("lines", {name: name for name in (*_OF_TOTAL, *names)}, rows)


_OF_TOTAL = (
    "definition", "definition_hash", "window_from", "window_to", "chain", "block_from", "block_to",
    "is_complete", "is_simulated",
)  # fmt: skip


def _verify(connection: Connection, form: str) -> None:
    found = totals.verify(connection, first_blocks())
    if form != "table":
        show(listing("saved totals", _OF_SAVED, found), form)
    elif not found:
        out.print("no total is saved yet: indexer total --save")
    else:
        _show_verified(found)
    if any(one.differences for one in found):
        sys.exit(1)


_OF_SAVED = {
    "total_id": "total", "definition": "definition", "said": "window", "usd": "was, USD",
    "usd_now": "is, USD", "differences": "what differs",
}  # fmt: skip


def _show_verified(found: Sequence[totals.Verified]) -> None:
    for one in found:
        what = f"was {usd(one.usd)}; what differs:" if one.differences else "as it was"
        out.print(
            escape(
                f"total {one.total_id}, {one.definition}, {one.said}: {usd(one.usd_now)}, {what}"
            )
        )
        for difference in one.differences:
            out.print(escape(f"  {difference}"), soft_wrap=True)


@click.command()
@click.argument("a", shell_complete=completion.definitions)
@click.argument("b", required=False, shell_complete=completion.definitions)
@click.option(
    "--window", "asked", default="24h", show_default=True, help="As of indexer total, for both.",
)  # fmt: skip
@click.option("--window-b", "asked_b", help="Another window for B.")
@click.option("--external", type=Number(), metavar="USD", help="A published number, as 190e6.")
@click.option("--source", help="Where it was published.")
@click.option("--stated", help="The method that it was published with.")
@click.option("--meant", metavar="ID", help="The preset that it may mean; by default the nearest.")
@formatted("table", "html", "md", "json", "csv", says="csv has the steps from one to the other.")
@click.option(
    "--output", "-o", type=click.Path(dir_okay=False, path_type=Path), help="Write to a file."
)
@OVERWRITE
def reconcile(
    a: str,
    b: str | None,
    asked: str,
    asked_b: str | None,
    external: Decimal | None,
    source: str | None,
    stated: str | None,
    meant: str | None,
    form: str,
    output: Path | None,
    overwrite: bool,
) -> None:
    """Say why two totals differ: step by step, in any order, and by which rows.

    A and B are definitions, each an id or a file. With --external, B is a number that somebody
    published, and what nothing here explains of it stands on a line of its own.

    Example: indexer reconcile strict/v1 gross_legs/v1 --window 2025-10-27

    Example: indexer reconcile strict/v1 --external 190e6 --source "a news page" --window 2025-10-27
    """
    if (b is None) == (external is None):
        raise usage("name a second definition, or a number with --external")
    if external is not None and source is None:
        raise usage("say where the number was published: --source")
    if b is not None and (source or stated or meant):
        raise usage("--source, --stated and --meant are of a number with --external")
    if form == "csv" and output is not None:
        raise usage("csv goes to the output of the command: leave --output out")
    with connected() as connection:
        one = _asked(connection, a, asked)
        known, command = first_blocks(), _command()
        if b is not None:
            other = _asked(connection, b, asked_b or asked)
            found = reconciliation.reconcile(connection, one, other, known, command)
        else:
            assert external is not None and source is not None
            outside = Outside(usd=external, source=source, stated_method=stated)
            found = reconciliation.reconcile_outside(
                connection, one, outside, meant, known, command
            )
    if form != "csv":
        write_report(found, report, form, output, overwrite=overwrite)
    else:
        show(listing("steps", _OF_STEPS, found.steps), form)


_OF_STEPS = {
    name: name for name in ("group", "usd", "running_usd", "least_usd", "most_usd", "mean_usd")
}  # fmt: skip


def _asked(connection: Connection, name: str, words: str) -> reconciliation.Asked:
    definition = chosen(connection, name)
    return reconciliation.Asked(definition, window_of(connection, definition, words))


def _command() -> str:
    """What was typed, to be typed again."""
    return shlex.join(["indexer", *sys.argv[1:]])


@click.command("definitions")
@click.argument("name", required=False, metavar="[ID|FILE]", shell_complete=completion.definitions)
@LANGUAGE
@formatted()
def list_definitions(name: str | None, language: shown.Language, form: str) -> None:
    """The definitions that totals can have; of one all that it says, in words, as data and as SQL.

    Example: indexer definitions

    Example: indexer definitions strict/v1
    """
    with connected() as connection:
        if name is None:
            show(Listing("definitions", _OF_ALL, definitions.summary(connection)), form)
            return
        definition = chosen(connection, name)
        query = definitions.query(connection, definition.id)
    texts = (definition.says, paragraph(definition, language), definition.canonical(), query)
    if form != "table":
        row = (definition.id, definition.fidelity, definition.hash, *texts)
        show(Listing("definition", _OF_ONE, [row]), form)
        return
    out.print(escape(f"{definition.id}, {definition.fidelity}, hash {definition.hash}"))
    for text in texts:
        out.print()
        out.print(escape(text), soft_wrap=True)


_OF_ALL = {
    "definition": "definition", "fidelity": "fidelity", "says": "what it counts", "mirrors": "as",
}  # fmt: skip
_OF_ONE = {
    "definition": "definition", "fidelity": "fidelity", "hash": "hash", "says": "what it counts",
    "methodology": "methodology", "body": "as data", "query": "as SQL",
}  # fmt: skip
