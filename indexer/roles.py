"""What the exchange says that an account is: whose sub-account, whose vault, whose agent. Pure.

POST /info of https://hyperliquid.gitbook.io/hyperliquid-docs/for-developers/api/info-endpoint:
`userRole`, `vaultDetails`, `subAccounts`. Each reader raises MsgspecError or ValueError for what is
no such answer, or is one about somebody else.
"""

import re
from datetime import datetime
from typing import Any, Literal, get_args

import msgspec

from indexer.venues import hyperliquid

Role = Literal["user", "vault", "sub_account", "agent", "missing"]
ROLES: tuple[Role, ...] = get_args(Role)


class ExchangeRole(msgspec.Struct, frozen=True, kw_only=True):
    """What the exchange said of an account at a moment. `master` is the account that a sub-account
    belongs to, or that an agent signs for; `leader` leads a vault, of a child vault it is the
    parent. `said` are the fields that it stands on, as published."""

    venue: str = hyperliquid.SPEC.name
    account: str
    role: Role
    master: str | None = None
    leader: str | None = None
    name: str | None = None
    is_child: bool = False
    said: dict[str, Any]
    observed_at: datetime


class _Master(msgspec.Struct, omit_defaults=True):
    user: str | None = None
    master: str | None = None


class _UserRole(msgspec.Struct, omit_defaults=True):
    role: Literal["user", "vault", "subAccount", "agent", "missing"]
    data: _Master | None = None


class _Relationship(msgspec.Struct):
    type: Literal["normal", "parent", "child"]


class _Vault(msgspec.Struct, rename="camel"):
    name: str
    vault_address: str
    leader: str
    is_closed: bool
    relationship: _Relationship | None  # null in older answers


class _SubAccount(msgspec.Struct, rename="camel"):
    name: str
    sub_account_user: str
    master: str


_ROLE = msgspec.json.Decoder(_UserRole)
_VAULT = msgspec.json.Decoder(_Vault)
_SUB_ACCOUNTS = msgspec.json.Decoder(list[_SubAccount] | None)


def user_role(body: bytes, account: str, at: datetime) -> ExchangeRole:
    """What a `userRole` says. It does not repeat whom it is about, and names no leader."""
    said = _ROLE.decode(body)
    role, master = _of(said, account)
    return ExchangeRole(
        account=account, role=role, master=master, said=msgspec.to_builtins(said), observed_at=at
    )


def _of(said: _UserRole, account: str) -> tuple[Role, str | None]:
    data = said.data or _Master()
    match said.role:
        case "subAccount":
            return "sub_account", _other_than(account, data.master)
        case "agent":
            return "agent", _other_than(account, data.user)
        case role:
            return role, None


def vault(body: bytes, account: str, at: datetime) -> ExchangeRole:
    """What a `vaultDetails` says; one about another vault is an error."""
    said = _VAULT.decode(body)
    if _address(said.vault_address) != account:
        raise ValueError(f"the answer is about the vault {said.vault_address[:42]!r}")
    said.name = _clean(said.name)
    return ExchangeRole(
        account=account,
        role="vault",
        leader=_other_than(account, said.leader),
        name=said.name,
        is_child=said.relationship is not None and said.relationship.type == "child",
        said=msgspec.to_builtins(said),
        observed_at=at,
    )


def sub_accounts(body: bytes, master: str, at: datetime) -> list[ExchangeRole]:
    """What a `subAccounts` lists; null is none. One of another master is an error."""
    listed = _SUB_ACCOUNTS.decode(body) or []
    return [_sub_account(one, master, at) for one in listed]


def _sub_account(said: _SubAccount, master: str, at: datetime) -> ExchangeRole:
    if _address(said.master) != master:
        raise ValueError(f"a sub-account of {said.master[:42]!r}")
    said.name = _clean(said.name)
    return ExchangeRole(
        account=_other_than(master, said.sub_account_user),
        role="sub_account",
        master=master,
        name=said.name,
        said=msgspec.to_builtins(said),
        observed_at=at,
    )


def _other_than(account: str, text: str | None) -> str:
    found = _address(text)
    if found == account:
        raise ValueError(f"{account} is said to be its own")
    return found


def _address(text: str | None) -> str:
    if text is None or re.fullmatch("0x[0-9a-fA-F]{40}", text) is None:
        raise ValueError(f"{'nothing' if text is None else repr(text[:50])} is no address")
    return text.lower()


def _clean(name: str) -> str:
    """A name is its owner's own words; a database keeps no NUL."""
    return name.replace("\0", "")
