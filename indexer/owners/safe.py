"""A Safe belongs to all its owners together: they stand in the proof and are never made one."""

from collections.abc import Sequence

from indexer.abi_calls import call
from indexer.account_kinds import owners_and_threshold
from indexer.account_model import Answer, Asking, Held, Owned, Unreadable, Way
from indexer.evm_model import Deployment


def ask(held: Held, vouchers: Sequence[Deployment]) -> Asking[Answer]:
    """safe-global/safe-smart-account:contracts/base/OwnerManager.sol"""
    answers = yield [call(held.account, "getOwners()"), call(held.account, "getThreshold()")]
    found = owners_and_threshold(answers)
    if found is None:
        return Unreadable("owners of a Safe that cannot be")
    owners, threshold = found
    sole = owners[0] if len(owners) == 1 else None
    return Owned(sole, {"contract": held.account, "owners": owners, "threshold": threshold})


WAY = Way(
    method="safe",
    ask=ask,
    is_for=lambda held: held.code is not None and held.code.kind == "safe",
    needs_voucher=False,
)
