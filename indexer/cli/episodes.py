"""The verb on episodes: which ones; everything else is called."""

from datetime import UTC, datetime, timedelta

import click

from indexer.cli.console import Duration, connected, out, usage
from indexer.errors import ConfigError
from indexer.methodology.definition import Calendar
from indexer.methodology.windows import resolve
from indexer.report import episode as shown
from indexer.store.database import Connection


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
@click.option(
    "--format", "form", type=click.Choice(["table", "md", "json"]), default="table",
    show_default=True,
)  # fmt: skip
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
        case _:
            shown.to_terminal(found, out)


def _window(
    connection: Connection, since: timedelta, asked: str | None
) -> tuple[datetime, datetime]:
    if asked is None:
        return shown.since(connection, since)
    window = resolve(Calendar(), asked, datetime.now(UTC))
    if window.low is None or window.high is None:
        raise ConfigError(f"{asked!r} is no window of time")
    return window.low, window.high
