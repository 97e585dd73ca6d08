"""The verb on episodes: which ones; everything else is called."""

from datetime import UTC, datetime, timedelta

import click

from indexer.cli.console import Duration, connected, out, usage
from indexer.cli.shown import Listing, formatted, listing, show_all
from indexer.errors import ConfigError
from indexer.methodology.definition import Calendar
from indexer.methodology.windows import resolve
from indexer.report import episode as shown
from indexer.store.database import Connection
from indexer.store.episodes import PerpStory
from indexer.store.loan_episodes import LoanStory


@click.command("episode")
@click.argument("key", required=False)
@click.option(
    "--since", type=Duration(), metavar="DURATION",
    help="Without a key: the largest of the time before the last covered block, by default 24h.",
)  # fmt: skip
@click.option(
    "--window", "asked", metavar="WORDS",
    help="Without a key: the largest of a window, as of indexer total, in UTC.",
)  # fmt: skip
@click.option("--top", type=click.IntRange(min=1), help="Without a key: how many, by default 5.")
@click.option(
    "--gap", type=Duration(), default="15m", show_default=True,
    help="Quiet time that ends an episode; more than 30s.",
)  # fmt: skip
@formatted(says="csv has a row for each episode.")
def report_episode(
    key: str | None,
    since: timedelta | None,
    asked: str | None,
    top: int | None,
    gap: timedelta,
    form: str,
) -> None:
    """What befell one account, told as one story: what was taken and by whom, the prices, the
    loss, what is left, and what cannot be known.

    KEY is that of an episode, as liq.episodes() and the largest of indexer total have it, or that
    of a liquidation in it. Without one the largest episodes of a window are told, whole ones: by
    notional at execution price, of loans by the debt repaid.

    Example: indexer report episode --since 24h --top 1
    """
    if key is not None and (since, asked, top) != (None, None, None):
        raise usage("a key names one episode; --since, --window and --top are for the largest")
    if since is not None and asked is not None:
        raise usage("--since and --window are two ways to say one thing")
    with connected() as connection:
        if key is not None:
            found = shown.of_key(connection, key, gap)
        else:
            low, high = _window(connection, since or timedelta(hours=24), asked)
            found = shown.of_window(connection, low, high, top or 5, gap)
    match form:
        case "json":
            click.echo(shown.to_json(found))
        case "md":
            click.echo(shown.to_markdown(found))
        case "csv":
            show_all([_flat("perp", PerpStory, found), _flat("lending", LoanStory, found)], form)
        case _:
            shown.to_terminal(found, out)


def _flat(name: str, kind: type[PerpStory] | type[LoanStory], found: shown.Stories) -> Listing:
    """Stories of one kind with what is told of each once: no steps, no fees, no markets."""
    fields = kind.__struct_fields__[: kind.__struct_fields__.index("labels")]
    stories = (story for story in found.stories if isinstance(story, kind))
    return listing(name, {field: field for field in fields}, stories)


def _window(
    connection: Connection, since: timedelta, asked: str | None
) -> tuple[datetime, datetime]:
    if asked is None:
        return shown.since(connection, since)
    window = resolve(Calendar(), asked, datetime.now(UTC))
    if window.low is None or window.high is None:
        raise ConfigError(f"{asked!r} is no window of time")
    return window.low, window.high
