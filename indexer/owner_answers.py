"""What several ways to find an owner have in common: a number that is an NFT, a proxy that a
factory has made."""

from collections.abc import Callable, Sequence

from indexer.abi_calls import address_of, bool_of, call, is_silent
from indexer.account_model import Answer, Asking, Held, NotOwned, Owned, Unreadable
from indexer.evm_model import NOBODY, CallResult, Deployment

NO_ADDRESS = Unreadable("an owner that is no address")
TWO_VOUCH = Unreadable("two contracts vouch for it")


def owner_of(contract: str, signature: str, answer: CallResult) -> Answer:
    """What a contract says of an owner; where it reverts, or says zero, there is none."""
    if is_silent(answer):
        return NotOwned()
    owner = address_of(answer)
    if owner is None:
        return NO_ADDRESS
    if owner == NOBODY:
        return NotOwned()
    return Owned(owner, {"contract": contract, "call": signature})


def number_of(account: str) -> int | None:
    """An account that is a number: in decimal digits, or 32 bytes as `0x` text."""
    if account.isascii() and account.isdigit():
        number = int(account)
    elif account.startswith("0x") and len(account) == 66:
        number = int(account, 16)
    else:
        return None
    return number if number < 2**256 else None


def is_address(held: Held) -> bool:
    """Whether an account is one of the chain itself."""
    return held.account.startswith("0x") and len(held.account) == 42


def has_code(held: Held) -> bool:
    """Whether an account is an address at which a contract stands."""
    return is_address(held) and held.code is not None and held.code.kind not in ("none", "eip7702")


def by_nft(held: Held, contracts: Sequence[str]) -> Asking[Answer]:
    """The holder of the NFT of an account's number."""
    signature = "ownerOf(uint256)"
    number = number_of(held.account)
    if number is None:
        return Unreadable("an account that is no number")
    answers = yield [call(contract, signature, number) for contract in contracts]
    found = [
        owner_of(contract, signature, answer)
        for contract, answer in zip(contracts, answers, strict=True)
    ]
    return _one(found)


def made_by(
    knows: str, owner: str = "owner()"
) -> Callable[[Held, Sequence[Deployment]], Asking[Answer]]:
    """A proxy that a factory says it has made, by `knows`, and that says who owns it."""

    def ask(held: Held, vouchers: Sequence[Deployment]) -> Asking[Answer]:
        answers = yield [call(one.address, knows, held.account) for one in vouchers]
        makers = [
            one.address.lower()
            for one, answer in zip(vouchers, answers, strict=True)
            if bool_of(answer)
        ]
        if not makers:
            return NotOwned()
        (answer,) = yield [call(held.account, owner)]
        found = owner_of(held.account, owner, answer)
        if isinstance(found, Owned):
            return Owned(found.owner, {**found.proof, "made_by": makers[0], "known_by": knows})
        return found

    return ask


def kept_by(keeps: str) -> Callable[[Held, Sequence[Deployment]], Asking[Answer]]:
    """A registry keeps who owns an address, and knows none of those that it has not made."""

    def ask(held: Held, vouchers: Sequence[Deployment]) -> Asking[Answer]:
        answers = yield [call(one.address, keeps, held.account) for one in vouchers]
        return _one(
            [
                owner_of(one.address.lower(), keeps, answer)
                for one, answer in zip(vouchers, answers, strict=True)
            ]
        )

    return ask


def _one(found: Sequence[Answer]) -> Answer:
    """The only answer that says anything."""
    said = [answer for answer in found if not isinstance(answer, NotOwned)]
    if len(said) > 1:
        return TWO_VOUCH
    return said[0] if said else NotOwned()
