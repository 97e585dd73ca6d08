"""The verbs on feeds of a database: what it publishes, whether it notifies."""

import click

from indexer.cli.console import connected, out, say
from indexer.store import changes, publication


@click.command("publication")
@click.option("--print", "is_print", is_flag=True, help="Print the statement, touch nothing.")
def publish(is_print: bool) -> None:
    """Publish the tables of facts for logical replication: docs/feeds.md.

    Again after an update of the program: tables may have been added.

    Example: indexer db publication --print
    """
    if is_print:
        click.echo(publication.statement())
        return
    with connected() as connection:
        is_new = publication.create(connection)
    say(f"{'created' if is_new else 'updated'} the publication {publication.NAME}")


@click.command("notify")
@click.argument("state", type=click.Choice(["on", "off"]))
def notify(state: str) -> None:
    """Whether writers notify the channel indexer_rows of what they wrote: docs/feeds.md.

    It is on at first. Commits that notify wait for each other, which many writers may not want.

    Example: indexer db notify off
    """
    with connected() as connection:
        changes.set_notifying(connection, state == "on")
    out.print(f"notifying is {state}")
