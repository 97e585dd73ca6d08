"""The verbs on totals: which definition, which window; everything else is called."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.markup import escape
from rich.table import Table

from indexer.cli import chains
from indexer.cli.console import connected, out, say, usage
from indexer.methodology.definition import Blocks, Definition, Segment, read
from indexer.methodology.prose import paragraph
from indexer.methodology.windows import Window, resolve
from indexer.report import total as shown
from indexer.report.text import usd
from indexer.store import definitions, totals
from indexer.store.database import Connection

DEFINITION = click.option(
    "--definition", "name", default="strict/v1", show_default=True, metavar="ID|FILE",
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
@click.option(
    "--format", "form", type=click.Choice(["table", "md", "json"]), default="table",
    show_default=True,
)  # fmt: skip
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
            _verify(connection)
            return
        definition = chosen(connection, name)
        found = totals.compute(
            connection, definition, window_of(connection, definition, asked), _first_blocks()
        )
        number = totals.save(connection, found) if save else None
    match form:
        case "json":
            click.echo(shown.to_json(found))
        case "md":
            click.echo(shown.to_markdown(found, language))
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


def _first_blocks() -> dict[str, int]:
    """Before which block a venue of a chain cannot have anything, where that is known."""
    decoder = chains.choose(()).decoder
    return {venue: first for venue in decoder.venues() if (first := decoder.since(venue)) > 0}


def _verify(connection: Connection) -> None:
    found = totals.verify(connection, _first_blocks())
    if not found:
        out.print("no total is saved yet: indexer total --save")
    for one in found:
        what = "as it was" if not one.differences else f"was {usd(one.usd)}: now differ"
        out.print(
            escape(
                f"total {one.total_id}, {one.definition}, {one.said}: {usd(one.usd_now)}, {what}"
            )
        )
        for difference in one.differences:
            out.print(escape(f"  {difference}"), soft_wrap=True)
    if any(one.differences for one in found):
        sys.exit(1)


@click.command("definitions")
@click.argument("name", required=False, metavar="[ID|FILE]")
@LANGUAGE
def list_definitions(name: str | None, language: shown.Language) -> None:
    """The definitions that totals can have; of one all that it says, in words, as data and as SQL.

    Example: indexer definitions

    Example: indexer definitions strict/v1
    """
    with connected() as connection:
        if name is None:
            _list(definitions.summary(connection))
            return
        definition = chosen(connection, name)
        query = definitions.query(connection, definition.id)
    out.print(escape(f"{definition.id}, {definition.fidelity}, hash {definition.hash}"))
    for text in (definition.says, paragraph(definition, language), definition.canonical(), query):
        out.print()
        out.print(escape(text), soft_wrap=True)


def _list(rows: list[tuple[Any, ...]]) -> None:
    table = Table("definition", "fidelity", "what it counts", "as", box=None)
    for row in rows:
        table.add_row(*(escape(str(value)) for value in row))
    out.print(table)
