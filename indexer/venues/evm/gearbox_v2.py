"""Gearbox v2. Its facade has v3's event with other arguments indexed, and names the borrower
instead of the credit account: a borrower has one in each credit manager.

Gearbox-protocol/core-v2:contracts/interfaces/ICreditFacade.sol
"""

from collections.abc import Sequence

import msgspec

from indexer.abi_calls import call
from indexer.evm_model import (
    EMITTER_FACT,
    Contract,
    Deployment,
    Inquiry,
    MissingFact,
    ProtocolSpec,
)
from indexer.oracles import contract_of
from indexer.venues.evm import deployments
from indexer.venues.evm.gearbox_v3 import ASKS, BESIDE, FULL, join, oracle, registered

WHOLE_ACCOUNT = msgspec.structs.replace(FULL, account="borrower")


def _facade(missing: MissingFact, deployed: Sequence[Deployment]) -> Inquiry:
    """Gearbox-protocol/core-v2:contracts/interfaces/IAddressProvider.sol, IContractsRegister.sol"""
    providers = [one for one in deployed if one.role == "address_provider"]
    answers = yield [call(one.address, "getContractsRegister()") for one in providers]
    named = zip(providers, map(contract_of, answers), strict=True)
    registers = {at: one.name for one, at in named if at}
    return (yield from registered(missing, registers, "facade"))


SPEC = ProtocolSpec(
    name="gearbox_v2",
    kind="lending",
    evidence="contracts",
    contracts={
        "address_provider": Contract(abi="gearbox_address_provider.json", events={}),
        "facade": Contract(
            abi="gearbox_v2_facade.json",
            events={
                "LiquidateCreditAccount": WHOLE_ACCOUNT,
                "LiquidateExpiredCreditAccount": WHOLE_ACCOUNT,
            },
        ),
    },
    bystander=BESIDE,
    needs_receipt=True,
    join=join,
    deployments=deployments("gearbox_v2"),
    asks={EMITTER_FACT: _facade, **ASKS},
    # Gearbox-protocol/core-v2:contracts/interfaces/IPriceOracleBase.sol
    oracle=oracle("governed"),
    # no bonus: a whole account's collateral is unknown
    methodology=(
        "Debt is the last `value` that the pool was paid before it logged the repayment, less the"
        " `profit` in it, so principal and interest; bad debt is the `loss`; unknown where nothing"
        " of that is in the transaction. The collateral is unknown. An account is a `borrower` in"
        " one credit manager, which is the market. Accounts that ran out of their time are"
        " liquidated too, in an event of their own, and may be healthy."
        " No bounds of the bonus: the collateral is unknown."
    ),
)
