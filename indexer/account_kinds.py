"""What stands at an address: read from its code, its storage and what it answers at one block.

A contract may be hostile and say whatever it likes. So a Safe is one whose singleton is known by
address or code, and a smart account one that an EntryPoint knows, or that it could call.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from eth_hash.auto import keccak

from indexer.abi_calls import WORD, address_of, call, uint_of
from indexer.account_model import Asking, Code, CodeOf, SlotOf
from indexer.evm_model import NOBODY, CallResult

DELEGATION = bytes.fromhex("ef0100")  # and the address; https://eips.ethereum.org/EIPS/eip-7702
# keccak("eip1967.proxy.implementation") - 1 and keccak("eip1967.proxy.beacon") - 1;
# https://eips.ethereum.org/EIPS/eip-1967
IMPLEMENTATION = int.from_bytes(keccak(b"eip1967.proxy.implementation"), "big") - 1
BEACON = int.from_bytes(keccak(b"eip1967.proxy.beacon"), "big") - 1
SINGLETON = 0  # safe-global/safe-smart-account:contracts/proxies/SafeProxy.sol
# https://eips.ethereum.org/EIPS/eip-1167
CLONE = (bytes.fromhex("363d3d373d3d3d363d73"), bytes.fromhex("5af43d82803e903d91602b57fd5bf3"))
MOST_OWNERS = 500

# safe-global/safe-deployments:src/assets: by address, and by code hash where it stands elsewhere
SINGLETONS = {
    "0xb6029ea3b2c51d09a50b53ca8012feeb05bda35a": "1.0.0",
    "0x34cfac646f301356faa8b21e94227e3583fe3f5f": "1.1.1",
    "0x6851d6fdfafd08c0295c392436245e5bc78b0185": "1.2.0",
    "0xd9db270c1b5e3bd161e8c8503c55ceabee709552": "1.3.0",
    "0x69f4d1788e39c87893c980c06edf4b7f686e2938": "1.3.0",
    "0xb00ce5cccdef57e539ddced01df43a13855d9910": "1.3.0",  # zkSync
    "0x3e5c63644e683549055b9be8653de26e0b4cd36e": "1.3.0",  # L2
    "0xfb1bffc9d739b8d520daf37df666da4c687191ea": "1.3.0",  # L2
    "0x1727c2c531cf966f902e5927b98490fdfb3b2b70": "1.3.0",  # L2, zkSync
    "0x41675c099f32341bf84bfc5382af534df5c7461a": "1.4.1",
    "0xc35f063962328ac65ced5d4c3fc5def8dec68dfa": "1.4.1",  # zkSync
    "0x29fcb43b46531bca003ddc8fcb67ffe91900c762": "1.4.1",  # L2
    "0x610fca2e0279fa1f8c00c8c2f71df522ad469380": "1.4.1",  # L2, zkSync
    "0xff51a5898e281db6dfc7855790607438df2ca44b": "1.5.0",
    "0xedd160febbd92e350d4d398fb636302fccd67c7e": "1.5.0",  # L2
}
SINGLETON_CODES = {
    "0xe1f1593df76e69abc2d692792c80f329457551d5e83dde597546a1d58764da80": "1.0.0",
    "0x56b8be58b5ad629a621593a2e5e5e8e9a28408dc06e95597497b303902772e45": "1.1.1",
    "0x2ae2d1231f0d754a7fa4f5e5d0e5554085e1b500d8e09f95aaaaa3f49c0db922": "1.2.0",
    "0xbba688fbdb21ad2bb58bc320638b43d94e7d100f6f3ebaab0a4e4de6304b1c2e": "1.3.0",
    "0x551b7fdfd2dbcec4f785059e1ef6e0b40ca2e44d792158c4e825bc0b092f15e9": "1.3.0",
    "0x21842597390c4c6e3c1239e434a682b054bd9548eee5e9b1d6a4482731023c0f": "1.3.0",
    "0xe2ca068330339d608367d83a0b25545efe39e619098597699ab8ff828cb1ddd8": "1.3.0",
    "0x1fe2df852ba3299d6534ef416eefa406e56ced995bca886ab7a553e6d0c5e1c4": "1.4.1",
    "0xfa4d4fc0fa9f1a061571a3f3f66502464edf1a519ab1ab93dc232addf4fbe30f": "1.4.1",
    "0xb1f926978a0f44a2c0ec8fe822418ae969bd8c3f18d61e5103100339894f81ff": "1.4.1",
    "0x520462ebe1156cd2d37b1d470c57f23e12fe0c4cda4c62502d96e03fa0cb44da": "1.4.1",
    "0xdda019cbd7c867a533a2a86e5c53434fdc50b13122b5a5ddb4a8df61b31c20f2": "1.5.0",
    "0x180193227186ccb85316c94db1f0d156ed932b14712cfaac78901899178572dc": "1.5.0",
}
# What a proxy of a Safe consists of: the code that the factory deploys, as published in
# @gnosis.pm/safe-contracts 1.3.0 and @safe-global/safe-contracts 1.4.1
PROXY_CODES = {
    "0xb89c1b3bdf2cf8827818646bce9a8f6e372885f8c55e5c07acbd307cb133b000": "1.3.0",
    "0xd7d408ebcd99b2b70be43e20253d6d92a8ea8fab29bd3be7f55b10032331fb4c": "1.4.1",
}


class EntryPoint(NamedTuple):
    """Who runs the operations of smart accounts, and how it calls them to validate one."""

    address: str
    version: str
    validate: bytes  # the selector of validateUserOp, which an account has and a paymaster has not


_VALIDATE_6 = keccak(
    b"validateUserOp((address,uint256,bytes,bytes,uint256,uint256,uint256,uint256,uint256,bytes,"
    b"bytes),bytes32,uint256)"
)[:4]
_VALIDATE_7 = keccak(
    b"validateUserOp((address,uint256,bytes,bytes,bytes32,uint256,bytes32,bytes,bytes),bytes32,"
    b"uint256)"
)[:4]
# eth-infinitism/account-abstraction: releases v0.6.0, v0.7.0 and v0.8.0
ENTRY_POINTS = (
    EntryPoint("0x5ff137d4b0fdcd49dca30c7cf57e578a026d2789", "0.6", _VALIDATE_6),
    EntryPoint("0x0000000071727de22e5e9d8baf0edac6f37da032", "0.7", _VALIDATE_7),
    EntryPoint("0x4337084d9e255ff0702461cf8895ce9e3b5ff108", "0.8", _VALIDATE_7),
)


def code_at(account: str) -> Asking[Code]:
    """What stands at an address."""
    (answer,) = yield [CodeOf(account)]
    code = answer.data
    if not code:
        return Code("none", hash_of(code), {})
    if code.startswith(DELEGATION) and len(code) == len(DELEGATION) + 20:
        return (yield from _delegated(account, code))
    singleton, implementation, beacon = yield [
        SlotOf(account, slot) for slot in (SINGLETON, IMPLEMENTATION, BEACON)
    ]
    evidence: dict[str, Any] = {}
    if (named := _pointed(implementation)) is not None:
        evidence = {"implementation": named, "by": "eip1967"}
    elif (cloned := _cloned(code)) is not None:
        evidence = {"implementation": cloned, "by": "eip1167"}
    if (shared := _pointed(beacon)) is not None:
        evidence["beacon"] = shared
    safe = yield from _safe(account, code, _pointed(singleton) or _cloned(code))
    if safe is not None:
        evidence["safe"] = safe
    runs = safe["singleton"] if safe else evidence.get("implementation")
    used = yield from _entry_point(account, code, runs)
    if used is not None:
        evidence["erc4337"] = used
    if safe is not None:
        return Code("safe", hash_of(code), evidence)
    return Code("contract" if used is None else "erc4337", hash_of(code), evidence)


def hash_of(code: bytes) -> str:
    """As the chain's own EXTCODEHASH, and that of no bytes where there is no code."""
    return "0x" + keccak(code).hex()


def _delegated(account: str, code: bytes) -> Asking[Code]:
    delegate = "0x" + code[len(DELEGATION) :].hex()
    evidence: dict[str, Any] = {"delegate": delegate}
    if (used := (yield from _entry_point(account, code, delegate))) is not None:
        evidence["erc4337"] = used
    return Code("eip7702", hash_of(code), evidence)


def _pointed(word: CallResult) -> str | None:
    """The address in a word of storage, if it holds nothing else."""
    address = address_of(word)
    return None if address == NOBODY else address


def _cloned(code: bytes) -> str | None:
    begin, end = CLONE
    if len(code) == len(begin) + 20 + len(end) and code.startswith(begin) and code.endswith(end):
        return "0x" + code[len(begin) :][:20].hex()
    return None


def _safe(account: str, code: bytes, singleton: str | None) -> Asking[dict[str, Any] | None]:
    """Its singleton is known, it states that version, and its owners can reach the threshold."""
    if singleton is None:
        return None
    version = SINGLETONS.get(singleton)
    known_by = "address"
    if version is None:
        (answer,) = yield [CodeOf(singleton)]
        version, known_by = SINGLETON_CODES.get(hash_of(answer.data)), "code"
    if version is None:
        return None
    stated, owners, threshold = yield [
        call(account, "VERSION()"), call(account, "getOwners()"), call(account, "getThreshold()"),
    ]  # fmt: skip
    signers, needed = addresses_of(owners), uint_of(threshold)
    if text_of(stated) != version or not signers or not needed or needed > len(signers):
        return None
    return {
        "singleton": singleton,
        "version": version,
        "singleton_known_by": known_by,
        "proxy_is_known": hash_of(code) in PROXY_CODES,
    }


def _entry_point(account: str, code: bytes, runs: str | None) -> Asking[dict[str, Any] | None]:
    """The EntryPoint that counts its operations, or that it names and could be called by.

    A paymaster names its EntryPoint too: only accounts have validateUserOp."""
    named, *nonces = yield [
        call(account, "entryPoint()"),
        *(call(one.address, "getNonce(address,uint192)", account, 0) for one in ENTRY_POINTS),
    ]
    for one, nonce in zip(ENTRY_POINTS, nonces, strict=True):
        if uint_of(nonce):
            return {"entry_point": one.address, "version": one.version, "by": "nonce"}
    known = [one for one in ENTRY_POINTS if one.address == address_of(named)]
    if not known:
        return None
    bodies = [code]
    if runs is not None:
        (answer,) = yield [CodeOf(runs)]
        bodies.append(answer.data)
    if not any(known[0].validate in body for body in bodies):
        return None
    return {"entry_point": known[0].address, "version": known[0].version, "by": "interface"}


def addresses_of(result: CallResult) -> list[str] | None:
    """An `address[]`, alone and exact; None where it is none."""
    if not result.is_ok or len(result.data) < 2 * WORD:
        return None
    offset, count = (uint_of(result, at, of=None) for at in (0, 1))
    if offset != WORD or count is None or count > MOST_OWNERS:
        return None
    words = 2 + count
    found = [address_of(result, at, of=words) for at in range(2, words)]
    whole = [one for one in found if one is not None]
    return whole if len(result.data) == words * WORD and len(whole) == count else None


def text_of(result: CallResult) -> str | None:
    """A `string` of at most one word, alone; None where it is none."""
    offset, size = (uint_of(result, at, of=3) for at in (0, 1))
    if offset != WORD or size is None or size > WORD:
        return None
    try:
        return result.data[2 * WORD :][:size].decode()
    except UnicodeDecodeError:
        return None


def owners_and_threshold(result: Sequence[CallResult]) -> tuple[list[str], int] | None:
    """What a Safe answers to getOwners() and getThreshold()."""
    owners, threshold = addresses_of(result[0]), uint_of(result[1])
    if not owners or not threshold or threshold > len(owners):
        return None
    return owners, threshold
