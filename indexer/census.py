"""Asks the exchange what accounts are, and stores what it says.

One account that fails leaves the others as they are; each is stored as soon as it is known, so that
the next run goes on where this one ended."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from indexer.errors import SourceFault
from indexer.roles import ExchangeRole, Role
from indexer.sources.hyperliquid_api import HyperliquidApi, Silent
from indexer.store import roles
from indexer.store.database import Connection

Say = Callable[[str], None]

IN_A_ROW = 3  # accounts for which the exchange is silent: the rest is left for the next run


class Census(NamedTuple):
    """How many accounts were to be asked about, of how many nothing was learned, and the roles of
    all that something was learned of, sub-accounts beside those who were asked."""

    accounts: int
    failed: int
    roles: Counter[Role]


def ask(connection: Connection, api: HyperliquidApi, accounts: Sequence[str], say: Say) -> Census:
    """Ask about accounts in their order; one that was told of along with another is not asked
    again."""
    told: dict[str, Role] = {}
    failed = silent = 0
    for number, account in enumerate(accounts, 1):
        if account in told:
            continue
        try:
            said = roles_of(api, account)
        except SourceFault as fault:
            say(f"{account}: {fault}")
            failed += 1
            silent = silent + 1 if isinstance(fault, Silent) else 0
        else:
            roles.append(connection, said)
            told |= {one.account: one.role for one in said}
            silent = 0
        if silent == IN_A_ROW:
            left = len(set(accounts[number:]) - told.keys())
            say(f"the exchange is silent, {left} accounts are left for the next run")
            failed += left
            break
    return Census(len(accounts), failed, Counter(told.values()))


def roles_of(api: HyperliquidApi, account: str) -> list[ExchangeRole]:
    """An account, and those that one more question tells of: the sub-accounts of its master or its
    own, the parent of a child vault. Raises SourceFault."""
    found = api.user_role(account)
    match found.role:
        case "vault":
            return _vault(api, account)
        case "user":
            return [found, *api.sub_accounts(account)]
        case "sub_account":
            listed = api.sub_accounts(found.master or "")
            is_listed = any(one.account == account for one in listed)
            return listed if is_listed else [found, *listed]
        case "agent" | "missing":
            return [found]


def _vault(api: HyperliquidApi, account: str) -> list[ExchangeRole]:
    found = api.vault(account)
    return [found, api.vault(found.leader)] if found.is_child and found.leader else [found]
