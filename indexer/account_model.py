"""The nouns of accounts: what is asked of an address, what it is found to be, whose it is."""

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeVar

import msgspec

from indexer.evm_model import CallResult, Deployment, EthCall

Kind = Literal[
    "none",  # no code: a key, or an address that nobody has used
    "contract",
    "safe",
    "erc4337",
    "eip7702",  # a key whose account runs the code of another address
]


class CodeOf(NamedTuple):
    """The code at an address."""

    address: str


class SlotOf(NamedTuple):
    """A word of an address's storage."""

    address: str
    slot: int


Question = EthCall | CodeOf | SlotOf
R = TypeVar("R")
# Yields questions about one block, is sent the answers in the same order; code and words are data.
Asking = Generator[Sequence[Question], Sequence[CallResult], R]


class Code(msgspec.Struct, frozen=True):
    """What stands at an address; `evidence` is what was read beside the code, as JSON."""

    kind: Kind
    code_hash: str
    evidence: dict[str, Any]


class Owned(msgspec.Struct, frozen=True):
    """A proof of who owns an account; `owner` is None where there are several."""

    owner: str | None
    proof: dict[str, Any]


class NotOwned(msgspec.Struct, frozen=True):
    """Who vouches was asked and knows no owner: no account of this way, or nobody's any more."""


class Unreadable(msgspec.Struct, frozen=True):
    """An answer that cannot be right, and why, in words that can be counted."""

    reason: str


Answer = Owned | NotOwned | Unreadable


class Held(msgspec.Struct, frozen=True):
    """An account to find the owner of, as its venue writes it; `code` where it is an address and
    has any. `market` is that of a liquidation of it."""

    chain: str
    account: str
    venue: str | None = None
    market: str | None = None
    code: Code | None = None


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """One way to find the owner of an account.

    `protocol` names the venue file whose accounts it is for, and whose deployments vouch; without
    one it is for addresses, and `vouchers` vouch, of the chain that they are on. `is_for` says of
    which accounts it asks at all. `before` asks at the block before the liquidation: what is
    liquidated may be burnt in it."""

    method: str
    ask: Callable[[Held, Sequence[Deployment]], Asking[Answer]]
    is_for: Callable[[Held], bool]
    vouchers: tuple[Deployment, ...] = ()
    protocol: str | None = None
    needs_voucher: bool = True
    before: bool = False

    def vouching(
        self, chain: str, deployed: Mapping[str, Sequence[Deployment]]
    ) -> list[Deployment]:
        """Who vouches on a chain; `deployed` are the deployments of protocols by name."""
        known = deployed.get(self.protocol, ()) if self.protocol else self.vouchers
        return [one for one in known if one.chain == chain]
