"""Maker's vaults: an urn that the CDP manager has made belongs to whoever owns its number.

The manager tells the urn of a number and not the number of an urn. But it makes one contract for
each vault and none besides, so that urn N is the contract of its nonce N; the manager is asked
whether that is so. makerdao/dss-cdp-manager:src/DssCdpManager.sol, open
"""

from collections.abc import Sequence
from functools import lru_cache

from eth_hash.auto import keccak

from indexer.abi_calls import address_of, call, uint_of
from indexer.account_model import Answer, Asking, Held, NotOwned, Owned, Unreadable, Way
from indexer.evm_model import Deployment
from indexer.owner_answers import has_code, owner_of

MOST_VAULTS = 200_000  # 31,000 were opened in six years
STEP = 4_096  # so that a vault more does not make the list new


@lru_cache(maxsize=4)
def _urns(manager: str, most: int) -> dict[str, int]:
    """The contracts that an address makes with its first nonces."""
    return {_made(bytes.fromhex(manager[2:]), nonce): nonce for nonce in range(1, most + 1)}


def _made(maker: bytes, nonce: int) -> str:
    """As CREATE names a contract: keccak(rlp([maker, nonce])), the last 20 bytes."""
    digits = nonce.to_bytes((nonce.bit_length() + 7) // 8, "big")
    written = digits if nonce < 0x80 else bytes((0x80 + len(digits),)) + digits
    body = bytes((0x80 + len(maker),)) + maker + written
    return "0x" + keccak(bytes((0xC0 + len(body),)) + body)[12:].hex()


def ask(held: Held, vouchers: Sequence[Deployment]) -> Asking[Answer]:
    """The number of the vault, the manager's word for it, and the owner of that number."""
    managers = [one.address.lower() for one in vouchers]
    counts = yield [call(one, "cdpi()") for one in managers]
    for manager, count in zip(managers, map(uint_of, counts), strict=True):
        if count is None or count > MOST_VAULTS:
            return Unreadable("a number of vaults that cannot be")
        vault = _urns(manager, -(-count // STEP) * STEP).get(held.account)
        if vault is None or vault > count:
            continue
        urn, owner = yield [
            call(manager, "urns(uint256)", vault), call(manager, "owns(uint256)", vault)
        ]  # fmt: skip
        if address_of(urn) != held.account:
            return Unreadable("a vault whose urn is another one")
        found = owner_of(manager, "owns(uint256)", owner)
        if isinstance(found, Owned):
            return Owned(found.owner, {**found.proof, "vault": vault})
        return found
    return NotOwned()


WAY = Way(
    method="maker_cdp",
    ask=ask,
    is_for=has_code,
    vouchers=(
        Deployment(
            "ethereum", "0x5ef30b9986345249bc32d8928B7ee64DE9435E39", "maker", "cdp_manager",
            8928198, "makerdao/vdb-mcd-transformers:environments/backfillEvents.toml",
        ),
    ),
)  # fmt: skip
