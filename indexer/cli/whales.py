"""The verb of the whale report: which window and definition, which language and form."""

from datetime import datetime, timedelta
from pathlib import Path

import click

from indexer.cli.console import (
    OVERWRITE,
    Duration,
    Moment,
    check_output,
    connected,
    usage,
    write_file,
    write_report,
)
from indexer.cli.shown import FORMATS, Listing, formatted, show
from indexer.cli.totals import chosen, first_blocks, window_of
from indexer.methodology.prose import Language
from indexer.report import pictures, render, whales
from indexer.store.totals import Line


@click.command("whales")
@click.option(
    "--definition", "name", default=whales.DEFINITION, show_default=True, metavar="ID|FILE",
    help="What is counted, and as what: indexer definitions.",
)  # fmt: skip
@click.option(
    "--since", type=Duration(),
    help="Length of the window, by default 24h; it ends with the last covered block.",
)  # fmt: skip
@click.option(
    "--until", type=Moment(),
    help="End of the window, UTC, itself outside; by default just after the last covered block.",
)  # fmt: skip
@click.option("--window", "asked", help="A day or range, as of indexer total, in their place.")
@click.option(
    "--venue", "venues", multiple=True, metavar="VENUE",
    help="Only this venue or protocol of what the definition counts; may be repeated.",
)  # fmt: skip
@click.option(
    "--gap", type=Duration(),
    help="Quiet time that ends an episode, more than 30s; by default the definition's.",
)  # fmt: skip
@click.option("--top", type=click.IntRange(min=1), default=20, show_default=True)
@formatted(*FORMATS, "html", "png", says="CSV has the lines of the total.")
@click.option("--language", type=click.Choice(["en", "zh"]), default="en", show_default=True)
@click.option(
    "--picture", type=click.Choice(pictures.PICTURES), default="card", show_default=True,
    help="With --format png: a card of 1200x675, a tall one of 1080x1350, or one chart.",
)  # fmt: skip
@click.option("--theme", type=click.Choice(["light", "dark"]), default="light", show_default=True)
@click.option(
    "--font", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The font file that pictures are set in; by default one of the system's.",
)  # fmt: skip
@click.option(
    "--output", "-o", type=click.Path(dir_okay=False, path_type=Path), help="Write to a file."
)
@OVERWRITE
def report_whales(
    name: str,
    since: timedelta | None,
    until: datetime | None,
    asked: str | None,
    venues: tuple[str, ...],
    gap: timedelta | None,
    top: int,
    form: str,
    language: Language,
    picture: pictures.Picture,
    theme: pictures.Theme,
    font: Path | None,
    output: Path | None,
    overwrite: bool,
) -> None:
    """The largest liquidations of a window, the whales among them, and what is missing.

    Its totals are those of liq.total under the definition, whose paragraph stands under them.

    Example: indexer report whales --since 24h

    Example: indexer report whales --definition strict/v1 --window 2025-10-27 --language zh
    """
    if asked is not None and (since, until) != (None, None):
        raise usage("--window and --since with --until are two ways to say one thing")
    if form == "png" and output is None:
        raise usage("a picture is written to a file: --output card.png")
    if form == "csv" and output is not None:
        raise usage("csv goes to the output of the command: leave --output out")
    check_output(output, overwrite=overwrite)
    with connected() as connection:
        definition = chosen(connection, name)
        window = None if asked is None else window_of(connection, definition, asked)
        found = whales.collect(
            connection, definition=definition, since=since, until=until, window=window,
            venues=venues, gap=gap, top=top, first_blocks=first_blocks(),
        )  # fmt: skip
    if form == "csv":
        show(_lines(found), form)
        return
    if form == "png" and output is not None:
        data = pictures.to_png(found, picture, language, theme, font)
        write_file(output, data, overwrite=overwrite)
        return
    write_report(found, render.In(language), form, output, overwrite=overwrite)


def _lines(found: whales.WhaleReport) -> Listing:
    """Each line of the total with what it is of: a line of a file may stand alone."""
    of_report = {
        "definition": found.definition.id, "definition_hash": found.definition.hash,
        "window_from": found.window_from, "window_to": found.window_to,
        "is_simulated": found.is_simulated,
    }  # fmt: skip
    names = Line.__struct_fields__
    rows = [(*of_report.values(), *(getattr(line, name) for name in names)) for line in found.lines]
    return Listing("lines", {name: name for name in (*of_report, *names)}, rows)
