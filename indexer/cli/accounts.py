"""The verb on what accounts are and whose: which chains, which endpoints; all else is called."""

from typing import TYPE_CHECKING

import click

from indexer.cli import chains, completion
from indexer.cli.console import out, say

if TYPE_CHECKING:
    from indexer.chain.accounts import Tally

NAMES = {
    "none": "without code", "contract": "contracts", "safe": "Safes",
    "erc4337": "smart accounts (ERC-4337)", "eip7702": "delegated keys (EIP-7702)",
}  # fmt: skip


@click.command()
@click.argument("names", nargs=-1, metavar="[CHAIN...]", shell_complete=completion.venues)
@click.option("--again", is_flag=True, help="Ask also for accounts that were asked before.")
@chains.budgeted
def accounts(
    names: tuple[str, ...], again: bool, per_second: float | None, per_day: int | None
) -> None:
    """Ask what liquidated accounts are and whose: contract, Safe, ERC-4337, EIP-7702; the owner of
    a proxy, an urn, a sub-account or an NFT.

    A CHAIN is one of ours, or a protocol on it as euler_v2.base; all that is indexed where none is
    named. RPC_<CHAIN> is asked at final blocks: at that of the first liquidation, if it keeps that
    state, and at the newest. Exits with 1 when a chain could not be asked.

    Example: indexer accounts ethereum
    """
    chains.ask_each(
        names, chains.Budget(per_second, per_day), lambda asked: _ask(asked, again=again)
    )


def _ask(asked: chains.Asked, *, again: bool) -> None:
    from indexer.chain.accounts import fill

    connection, source, decoder, chain, venues = asked
    tally = fill(connection, source, decoder, venues, again=again)
    out.print(f"{chain}: {_found(tally)}", soft_wrap=True)
    if tally.untold:
        say(
            f"{chain}: {len(tally.untold):,} accounts are unknown at an older block, e.g."
            f" {min(tally.untold)}: no endpoint keeps its state"
        )
    for reason, count in sorted(tally.unreadable.items()):
        say(f"{chain}: {reason}: {count:,}, e.g. {tally.example[reason]}")


def _found(tally: "Tally") -> str:
    kinds = [f"{tally.kinds[kind]:,} {name}" for kind, name in NAMES.items() if tally.kinds[kind]]
    owned = [f"{method} {count:,}" for method, count in sorted(tally.owned.items())]
    return (
        f"{tally.asked:,} accounts asked"
        + (f": {', '.join(kinds)}" if kinds else "")
        + f"; {tally.owned.total():,} owners proved"
        + (f" ({', '.join(owned)})" if owned else "")
    )
