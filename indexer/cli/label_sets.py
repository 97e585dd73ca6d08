"""The verbs on labels: imports, exports and how good they are; everything else is called."""

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import cast

import click
import msgspec
from rich.markup import escape

from indexer.cli.console import Moment, Number, connected, out, say
from indexer.cli.shown import (
    Listing,
    formatted,
    listing,
    show,
    streamed_json,
    write_csv,
)
from indexer.label_files import FORMATS, Context, Format
from indexer.label_truth import Score, Share, evaluate, read
from indexer.labels import rules
from indexer.never_labelled import Never, of_project
from indexer.never_labelled import read as read_never
from indexer.sources import chains
from indexer.store import label_sets, never_labelled
from indexer.venues.evm import specs

UNKNOWN_SHOWN = 5

# an official list; tags that a company keeps; what anybody may say
WEIGHTS: dict[str, Decimal] = {
    "oli": Decimal("0.5"),
    "eth-labels": Decimal("0.7"),
    "etherscan-labels": Decimal("0.7"),
    "ofac": Decimal("0.95"),
    "hyperliquid-aliases": Decimal("0.5"),
    "csv": Decimal("0.5"),
}


@click.group()
def labels() -> None:
    """Labels that others made, labels to take away, and how good they are.

    Example: indexer labels list
    """


@labels.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--format", "form", type=click.Choice(FORMATS), required=True)
@click.option("--source", required=True, help="Whose labels: small letters, digits, - and _.")
@click.option("--version", required=True, help="Which of its versions, as a commit or a day.")
@click.option(
    "--weight", type=Number(), metavar="0..1",
    help="How far the source is trusted; by default as docs/labels.md says of the format.",
)  # fmt: skip
@click.option("--retrieved", type=Moment(), metavar="TIME", help="When the file was taken, UTC.")
@click.option("--chain", help="The chain of rows that name none; * for every chain.")
@click.option("--replace", is_flag=True, help="Take the place of this version of the source.")
@click.option("--skip-broken", is_flag=True, help="Leave broken rows out, and list them.")
def import_labels(
    file: Path,
    form: str,
    source: str,
    version: str,
    weight: Decimal | None,
    retrieved: datetime | None,
    chain: str | None,
    replace: bool,
    skip_broken: bool,
) -> None:
    """Import a file of labels, whole or not at all; it takes the place of what its source said
    before, which stays as history.

    Labels come of it with the next indexer label.

    Example: indexer labels import whales.csv --format csv --source mine --version 1 --chain base
    """
    origin = label_sets.Origin(
        source, version, WEIGHTS[form] if weight is None else weight, retrieved
    )
    context = Context(known_chains(), chain)
    with connected() as connection:
        found = label_sets.import_file(
            connection, file, cast(Format, form), origin, context, replace=replace,
            skip_broken=skip_broken,
        )  # fmt: skip
    for broken in found.skipped:
        say(f"skipped: {broken}")
    counts = {
        "rows merged": found.merged,
        **{f"dropped, {why}": count for why, count in sorted(found.dropped.items())},
        "broken rows skipped": len(found.skipped),
    }
    said = "".join(f"; {what}: {count:,}" for what, count in counts.items() if count)
    stood = "" if found.is_new else " (it stood already)"
    out.print(escape(f"{source} {version}: {found.labels:,} labels{said}{stood}"), soft_wrap=True)


def known_chains() -> dict[int, str]:
    """The names of all chains that we know, by their ids."""
    known = {number: name for name, number in chains.OTHER_IDS.items()}
    return known | {profile.chain_id: profile.name for profile in chains.CHAINS}


@labels.command("list")
@formatted()
def list_labels(form: str) -> None:
    """The label sets that are imported, those that were replaced too.

    Example: indexer labels list
    """
    with connected() as connection:
        rows = [
            (
                one.source, one.version, one.format, one.weight, one.labels, one.merged,
                sum(one.dropped.values()), one.skipped, one.retrieved_at, one.imported_at,
                one.replaced_at,
            )
            for one in label_sets.sets(connection)
        ]  # fmt: skip
    show(
        Listing("label sets", _OF_SETS, rows), form,
        "no label sets: indexer labels import FILE --format FORMAT --source NAME",
    )  # fmt: skip


_OF_SETS = {
    "source": "source", "version": "version", "format": "format", "weight": "weight",
    "labels": "labels", "merged": "merged", "dropped": "dropped", "skipped": "skipped",
    "retrieved_at": "retrieved", "imported_at": "imported (UTC)", "replaced_at": "replaced",
}  # fmt: skip


@labels.command("never")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def never(file: Path) -> None:
    """Keep a list of your own of accounts that are never called a whale or a victim, whole or not
    at all; it takes the place of the one before.

    FILE is CSV: chain, account, why, source. What it changes in labels comes with the next indexer
    label. The whole list, the project's part too, is the view liq.never_labelled.

    Example: indexer labels never ours.csv
    """
    accounts = read_never(file, known_chains())
    with connected() as connection:
        kept = never_labelled.keep(connection, "user", accounts)
    out.print(
        f"{kept.standing:,} accounts of yours are never called a whale: {kept.new:,} new,"
        f" {kept.gone:,} gone"
    )


def never_of_project() -> list[Never]:
    """The accounts that the project itself says are never called a whale."""
    return of_project(specs(), known_chains())


@labels.command("export")
@formatted(default="csv", says="csv and json need no memory for what they print.")
@click.option(
    "--as-of", type=Moment(), metavar="TIME",
    help="Only labels that hold at this chain time, UTC; by default whenever they hold.",
)  # fmt: skip
@click.option(
    "--known-at", type=Moment(), metavar="TIME",
    help="Labels as we knew them then, UTC; by default now.",
)  # fmt: skip
def export(form: str, as_of: datetime | None, known_at: datetime | None) -> None:
    """Print labels with their evidence, in the same order whenever they are the same.

    Example: indexer labels export --as-of 2025-10-10T21:15

    Example: indexer labels export --format json --known-at 2025-10-11T00:00
    """
    with connected() as connection:
        found = label_sets.labels_at(connection, as_of=as_of, known_at=known_at)
        match form:
            case "json":
                streamed_json(one._asdict() for one in found)
            case "csv":
                write_csv(label_sets.Label._fields, found)
            case _:
                show(listing("labels", _OF_LABELS, found), form)


_OF_LABELS = {name: name.replace("_", " ") for name in label_sets.Label._fields}


@labels.command("evaluate")
@click.argument("truth", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@formatted()
def evaluate_labels(truth: Path, form: str) -> None:
    """Say how often labels are right and how much they find, against a file of what is true.

    TRUTH is CSV: account, truth (yes or no), label or rule, and maybe venue, from, to. Shares come
    with their Wilson interval of 95 %.

    Example: indexer labels evaluate truth.csv
    """
    with connected() as connection:
        known = {rule.id for rule in rules()} | label_sets.rules_that_ran(connection)
        truths = read(truth, known)
        accounts = sorted({one.account for one in truths})
        strangers = label_sets.unknown(connection, accounts)
        scores = evaluate(
            truths,
            label_sets.opinions(connection, accounts),
            label_sets.counts_without(connection, accounts),
            strangers,
        )
    if form == "json":
        click.echo(_scores_as_json(truths_read=len(truths), scores=scores, unknown=strangers))
        return
    show(_of_scores(scores), form)
    if strangers and form == "table":
        shown = ", ".join(strangers[:UNKNOWN_SHOWN])
        rest = ", …" if len(strangers) > UNKNOWN_SHOWN else ""
        say(f"{len(strangers):,} of {len(accounts):,} accounts are in no table: {shown}{rest}")


def _of_scores(scores: Iterable[Score]) -> Listing:
    heads = {
        "label": "label", "rule": "rule", "right": "right", "wrong": "wrong", "missed": "missed",
        "rejected": "rejected", "precision": "precision", "recall": "recall",
        "unknown": "missed, unknown", "unjudged": "not judged",
    }  # fmt: skip
    rows = [
        (
            one.label, one.rule, one.right, one.wrong, one.missed, one.rejected,
            _share(one.precision), _share(one.recall), one.unknown, one.unjudged,
        )
        for one in scores
    ]  # fmt: skip
    return Listing("scores", heads, rows)


def _share(share: Share) -> str:
    if share.interval is None:
        return "–"
    low, high = share.interval
    return f"{share.part / share.of:.4f} ({low} to {high})"


def _scores_as_json(*, truths_read: int, scores: Iterable[Score], unknown: list[str]) -> str:
    data = {
        "lines": truths_read,
        "scores": [
            one._asdict()
            | {"precision": _share_as_data(one.precision), "recall": _share_as_data(one.recall)}
            for one in scores
        ],
        "unknown_accounts": unknown,
    }
    return msgspec.json.format(msgspec.json.encode(data), indent=2).decode()


def _share_as_data(share: Share) -> dict[str, object]:
    """The exact share as a fraction, its bounds as text; null where there is nothing to share."""
    low, high = share.interval or (None, None)
    return {
        "share": None if share.value is None else str(share.value), "low": low, "high": high,
    }  # fmt: skip
