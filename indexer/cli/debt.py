"""The verb on debts before liquidations: which chains, which endpoints; everything else is
called."""

from decimal import Decimal
from typing import TYPE_CHECKING

import click

from indexer.cli import chains, completion
from indexer.cli.console import Number, out, say
from indexer.report.text import count_of

if TYPE_CHECKING:
    from indexer.chain.debts import Tally

# What reaches web3 is imported where it is needed: that takes a second, and most commands do not.

MIN_USD = Decimal(100_000)


@click.command()
@click.argument("names", nargs=-1, metavar="[CHAIN...]", shell_complete=completion.venues)
@click.option(
    "--min-usd", type=Number(), default=MIN_USD, show_default=True,
    help="Only where what was liquidated of an account in a block was worth as much.",
)  # fmt: skip
@click.option("--again", is_flag=True, help="Ask once more for debts that were asked in vain.")
@chains.budgeted
def debt(
    names: tuple[str, ...],
    min_usd: Decimal,
    again: bool,
    per_second: float | None,
    per_day: int | None,
) -> None:
    """Ask what liquidated accounts owed at the block before, for the rule DEBT_SIZE: liq.debts.

    A CHAIN is one of ours, or a protocol on it as aave_v3.base; all that is indexed where none is
    named. Pools of Aave v2, v3 and their forks tell it. Liquidations without a value are left out.
    RPC_<CHAIN> is asked, an archive for all but the newest blocks. Run it again to go on. Exits
    with 1 when a chain could not be asked.

    Example: indexer debt ethereum --min-usd 1e6
    """
    chains.ask_each(
        names,
        chains.Budget(per_second, per_day),
        lambda asked: _ask(asked, min_usd, again=again),
    )


def _ask(asked: chains.Asked, min_usd: Decimal, *, again: bool) -> None:
    from indexer.chain import debts

    connection, source, decoder, chain, venues = asked
    telling = [venue for venue in venues if debts.tells(decoder, venue)]
    tally = debts.fill(connection, source, decoder, telling, min_usd, again=again)
    out.print(f"{chain}: {_found(tally)}", soft_wrap=True)
    for reason, count in sorted(tally.failed.items()):
        say(f"{chain}: {reason}: {count:,}, e.g. {tally.example[reason]}")


def _found(tally: "Tally") -> str:
    return f"{count_of(tally.asked, 'debt')} asked for, {tally.told:,} told"
