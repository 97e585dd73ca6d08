"""Looks at watched accounts once: asks each venue what they hold, and stores what it states.

One account that fails, or one chain, leaves the others as they are."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from indexer.decode import Decoder
from indexer.errors import SourceFault
from indexer.evm_model import CallResult, EthCall
from indexer.inquiry import inquire
from indexer.positions import LENDERS, AccountState, loan_of, unit_of
from indexer.sources.evm import EvmSource
from indexer.sources.hyperliquid_api import HyperliquidApi, Silent
from indexer.store import positions
from indexer.store.database import Connection

Say = Callable[[str], None]

IN_A_ROW = 3  # accounts for which the exchange is silent: the rest is not asked in this round


class Looked(NamedTuple):
    """How many accounts were looked at, how many of them failed, what positions were found."""

    accounts: int = 0
    failed: int = 0
    positions: int = 0

    def and_(self, other: "Looked") -> "Looked":
        """Both together."""
        return Looked(*(one + two for one, two in zip(self, other, strict=True)))


def tells_accounts(decoder: Decoder, venue: str) -> bool:
    """Whether the pools of a venue of a chain tell what an account holds."""
    return venue in decoder.venues() and decoder.spec_of(venue).name in LENDERS


def at_exchange(
    connection: Connection, api: HyperliquidApi, accounts: Sequence[str], say: Say
) -> Looked:
    """Look at accounts on every perp dex, each dex an observation of its own."""
    try:
        dexes = api.dexes()
    except SourceFault as fault:
        say(f"nobody was looked at: {fault}")
        return Looked(len(accounts), len(accounts))
    found = Looked()
    silent = 0
    for account in accounts:
        try:
            held = [_observed(connection, api.account_state(account, dex)) for dex in dexes]
        except SourceFault as fault:
            say(f"{account}: {fault}")
            found = found.and_(Looked(1, 1))
            silent = silent + 1 if isinstance(fault, Silent) else 0
        else:
            found = found.and_(Looked(1, 0, sum(held)))
            silent = 0
        if silent == IN_A_ROW:
            left = len(accounts) - found.accounts
            say(f"the exchange is silent, {left} accounts are left for the next round")
            return found.and_(Looked(left, left))
    return found


def _observed(connection: Connection, state: AccountState) -> int:
    positions.append(connection, state)
    return len(state.positions)


def at_chain(
    connection: Connection,
    source: EvmSource,
    decoder: Decoder,
    accounts: Iterable[tuple[str, str]],
    say: Say,
) -> Looked:
    """Look at accounts, each on a venue of the chain, in all pools of the venue, at the end of the
    newest block. Raises SourceFault when nobody tells."""
    head = source.head()
    wanted = [(venue, pool, who) for venue, who in accounts for pool in decoder.addresses(venue)]

    def call_many(calls: Sequence[EthCall]) -> Sequence[CallResult]:
        return source.call_many(calls, head)

    units = inquire(
        {
            pool: unit_of(head.chain, pool, LENDERS[decoder.spec_of(venue).name])
            for venue, pool, _ in wanted
        },
        call_many,
    )
    states = inquire(
        {
            (venue, pool, who): loan_of(venue, pool, who, units[pool], head)
            for venue, pool, who in wanted
        },
        call_many,
    )
    told = {key: state for key, state in states.items() if state is not None}
    untold = Counter((venue, pool) for venue, pool, _ in states.keys() - told.keys())
    for (venue, pool), number in sorted(untold.items()):
        say(f"{venue}: the pool {pool} does not tell what {number} of the accounts hold")
    failed = {(venue, who) for venue, _, who in states.keys() - told.keys()}
    asked = {(venue, who) for venue, _, who in states}
    held = sum(_observed(connection, state) for state in told.values())
    return Looked(len(asked), len(failed), held)
