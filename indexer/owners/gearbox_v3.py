"""Gearbox v3: a credit account is a contract that is lent to one owner after another, and a whole
liquidation takes it back in 3.0. So its credit manager is asked at the block before.

Gearbox-protocol/core-v3:contracts/credit/CreditManagerV3.sol
"""

from collections.abc import Sequence

from indexer.abi_calls import call
from indexer.account_model import Answer, Asking, Held, Way
from indexer.evm_model import Deployment
from indexer.owner_answers import is_address, owner_of

BORROWER = "getBorrowerOrRevert(address)"


def ask(held: Held, vouchers: Sequence[Deployment]) -> Asking[Answer]:
    """The market is the credit manager of the facade that was read, which a register vouched for.

    Gearbox-protocol/core-v3:contracts/interfaces/ICreditManagerV3.sol"""
    assert held.market is not None
    (answer,) = yield [call(held.market, BORROWER, held.account)]
    return owner_of(held.market, BORROWER, answer)


WAY = Way(
    method="gearbox_v3",
    ask=ask,
    is_for=lambda held: held.market is not None and is_address(held),
    protocol="gearbox_v3",
    needs_voucher=False,
    before=True,
)
