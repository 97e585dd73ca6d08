"""The verb on what accounts of the exchange are: whom to ask about; everything else is called."""

from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import click

from indexer import settings, sync
from indexer.cli.console import Duration, Number, connected, fail, out, say, usage
from indexer.cli.watch import Address, until_stopped
from indexer.report.text import count_of
from indexer.roles import ROLES
from indexer.store import roles as stored

if TYPE_CHECKING:
    from indexer.census import Census

# What reaches web3 is imported where it is needed: that takes a second, and most commands do not.

MIN_USD = Decimal(100_000)


@click.command()
@click.option(
    "--min-usd", type=Number(),
    help="Accounts that were liquidated for as much in sum, and whales; by default 100_000.",
)  # fmt: skip
@click.option(
    "--max-age", type=Duration(), default="30d", show_default=True,
    help="Leave out who was asked about since.",
)  # fmt: skip
@click.option(
    "--account", "accounts", type=Address(), multiple=True, metavar="0x…",
    help="Ask about this account, in place of all those.",
)  # fmt: skip
@click.option(
    "--weight", type=click.IntRange(60, 1_200), default=1_200, show_default=True,
    help="The most weight a minute, of the 1,200 that an address of yours has.",
)  # fmt: skip
def roles(
    min_usd: Decimal | None, max_age: timedelta, accounts: tuple[str, ...], weight: int
) -> None:
    """Ask Hyperliquid what accounts are, the largest first: user, vault and its leader, sub-account
    and its master, agent. Run it again to go on: liq.exchange_roles.

    The exchange is asked at HYPERLIQUID_API. Exits with 1 when somebody could not be asked about.

    Example: indexer roles --account 0xdfc24b077bc1425ad1dea75bcb6f8158e10df303
    """
    if accounts and min_usd is not None:
        raise usage("--min-usd picks accounts: those of --account are asked about anyway")
    from indexer import census
    from indexer.sources.hyperliquid_api import HyperliquidApi

    url = settings.read().hyperliquid_api
    with until_stopped(), connected() as connection, closing(HyperliquidApi(url, weight)) as api:
        wanted = list(dict.fromkeys(accounts)) or stored.wanted(
            connection, sync.VENUE, MIN_USD if min_usd is None else min_usd,
            datetime.now(UTC) - max_age,
        )  # fmt: skip
        asked = census.ask(connection, api, wanted, say)
        out.print(_line(asked), soft_wrap=True)
        if asked.failed:
            fail(f"{count_of(asked.failed, 'account')} could not be asked about")


def _line(asked: "Census") -> str:
    found = ", ".join(f"{asked.roles[role]:,} {role}" for role in ROLES)
    return f"{count_of(asked.accounts, 'account')}, {asked.failed:,} failed; {found}"
