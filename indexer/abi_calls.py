"""How to ask a contract, and to read what it answers strictly: contracts may be hostile.

Encoding as in https://docs.soliditylang.org/en/latest/abi-spec.html
"""

from collections.abc import Sequence
from functools import cache

from eth_hash.auto import keccak

from indexer.evm_model import (
    NOBODY,
    Ask,
    CallResult,
    Deployment,
    Dialogue,
    EthCall,
    Inquiry,
    MissingFact,
    ShareRate,
    ShareRateOf,
)

WORD = 32


@cache
def selector(signature: str) -> str:
    """What a call of a function begins with."""
    return "0x" + keccak(signature.encode())[:4].hex()


def call(to: str, signature: str, *words: str | int) -> EthCall:
    """`words` are what fits one word exactly: integers, addresses and 32 bytes as `0x` text."""
    return EthCall(to.lower(), selector(signature) + "".join(map(_word, words)))


def _word(value: str | int) -> str:
    digits = f"{value:x}" if isinstance(value, int) else value.removeprefix("0x")
    return digits.rjust(2 * WORD, "0")


def is_silent(result: CallResult) -> bool:
    """It reverted or returned nothing, as a contract without the function does."""
    return not (result.is_ok and result.data)


def uint_of(result: CallResult, at: int = 0, of: int | None = 1, bits: int = 256) -> int | None:
    """The word number `at` of exactly `of` words (None: of any number); None where it is none."""
    size = len(result.data)
    if not result.is_ok or size != (of or size // WORD) * WORD or size < (at + 1) * WORD:
        return None
    number = int.from_bytes(result.data[at * WORD : (at + 1) * WORD], "big")
    return number if number < 2**bits else None


def address_of(result: CallResult, at: int = 0, of: int | None = 1) -> str | None:
    """As `uint_of`, in lower case; the zero address too is one."""
    number = uint_of(result, at, of, bits=160)
    return None if number is None else f"0x{number:040x}"


def bool_of(result: CallResult, at: int = 0, of: int | None = 1) -> bool | None:
    """As `uint_of`."""
    number = uint_of(result, at, of, bits=1)
    return None if number is None else number == 1


def getter(signature: str) -> Ask:
    """The subject itself names an address that it always has: anything else does not tell."""

    def ask(missing: MissingFact, deployed: Sequence[Deployment]) -> Inquiry:
        (answer,) = yield [call(missing.subject, signature)]
        address = address_of(answer)
        return () if address in (None, NOBODY) else (missing.told(address),)

    return ask


def vouched_for(by: str, signature: str, role: str, of: int | None = 1) -> Ask:
    """Deployments of the role `by` are asked; those whose first word is true bear one name."""

    def ask(missing: MissingFact, deployed: Sequence[Deployment]) -> Inquiry:
        registries = [one for one in deployed if one.role == by]
        answers = yield [call(one.address, signature, missing.subject) for one in registries]
        vouchers = zip(registries, answers, strict=True)
        names = {one.name for one, answer in vouchers if bool_of(answer, of=of)}
        return (missing.told(f"{names.pop()}/{role}"),) if len(names) == 1 else ()

    return ask


def rate_by(signature: str, *words: int, underlying: str) -> ShareRateOf:
    """The shares themselves say what 10**18 base units of them are worth, and in which token."""

    def ask(chain: str, asset: str, block_number: int) -> Dialogue[ShareRate | None]:
        rate, token = yield [call(asset, signature, *words), call(asset, underlying)]
        assets_raw, named = uint_of(rate), address_of(token)
        if assets_raw is None:
            return None
        named = None if named == NOBODY else named
        return ShareRate(chain, asset, block_number, named, 10**18, assets_raw)

    return ask
