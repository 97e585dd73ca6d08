"""The verb on what accounts are and whose: which chains, which endpoints; all else is called."""

from typing import TYPE_CHECKING

import click

from indexer import settings
from indexer.cli import chains
from indexer.cli.console import connected, fail, out, say
from indexer.errors import SourceFault
from indexer.store import prices as stored
from indexer.store.database import Connection

if TYPE_CHECKING:
    from indexer.chain.accounts import Tally

NAMES = {
    "none": "without code", "contract": "contracts", "safe": "Safes",
    "erc4337": "smart accounts (ERC-4337)", "eip7702": "delegated keys (EIP-7702)",
}  # fmt: skip


@click.command()
@click.argument("names", nargs=-1, metavar="[CHAIN...]")
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
    chosen = chains.choose(names)
    budget = chains.Budget(per_second, per_day)
    faults: list[str] = []
    with connected() as connection:
        if not names:
            known = set(chosen.decoder.venues())
            chosen = chains.choose([one for one in stored.indexed(connection) if one in known])
        for chain, venues in chosen.venues.items():
            if not names and not chosen.settings.has_endpoints(chain):
                say(f"{chain}: no endpoint, so nobody is asked; set {settings.rpc_name(chain)}")
                continue
            try:
                _ask(connection, chosen, chain, venues, budget, again)
            except SourceFault as fault:
                faults.append(str(fault))
    if faults:
        fail("; ".join(faults))


def _ask(
    connection: Connection,
    chosen: chains.Chosen,
    chain: str,
    venues: list[str],
    budget: chains.Budget,
    again: bool,
) -> None:
    from indexer.chain.accounts import fill

    with chains.source_of(chosen.settings, chain, budget) as source:
        tally = fill(connection, source, chosen.decoder, venues, again=again)
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
