"""Euler v2: the connector says whose an account is, once the owner has used any of his 256.

For accounts of which no liquidation tells it yet. euler-xyz/ethereum-vault-connector
"""

from collections.abc import Sequence

from indexer.abi_calls import call
from indexer.account_model import Answer, Asking, Held, Owned, Unreadable, Way
from indexer.evm_model import Deployment
from indexer.owner_answers import is_address, owner_of

OWNER = "getAccountOwner(address)"
PREFIX = 2 + 2 * 19  # 0x and the 19 bytes that an owner and his accounts share


def ask(held: Held, vouchers: Sequence[Deployment]) -> Asking[Answer]:
    """An owner who does not share the first 19 bytes cannot be one."""
    connectors = [one.address.lower() for one in vouchers if one.role == "evc"]
    if len(connectors) != 1:
        return Unreadable("not one connector on the chain")
    (connector,) = connectors
    (answer,) = yield [call(connector, OWNER, held.account)]
    found = owner_of(connector, OWNER, answer)
    if not isinstance(found, Owned) or found.owner is None:
        return found
    if found.owner[:PREFIX] != held.account[:PREFIX]:
        return Unreadable("an owner with other first 19 bytes")
    number = int(found.owner[-2:], 16) ^ int(held.account[-2:], 16)
    return Owned(found.owner, {**found.proof, "sub_account": number})


WAY = Way(
    method="euler_v2",
    ask=ask,
    is_for=is_address,
    protocol="euler_v2",
)
