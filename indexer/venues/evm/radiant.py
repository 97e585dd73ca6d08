"""Radiant (Aave v2 code). The pool's own ABI declares Aave's event, but the collateral manager
that it delegates to emits one argument more, and that is what is on the chain.

radiant-capital/v2:contracts/lending/lendingpool/LendingPoolCollateralManager.sol
"""

from indexer.evm_model import Contract, EventMap, ProtocolSpec
from indexer.venues.evm import deployments
from indexer.venues.evm.aave_v2 import BONUS, ORACLE

SPEC = ProtocolSpec(
    name="radiant",
    kind="lending",
    contracts={
        "pool": Contract(
            abi="radiant_pool.json",
            events={
                "LiquidationCall": EventMap(
                    account="user",
                    liquidator="liquidator",
                    repaid=("principal", "debtToCover"),
                    seized=("collateral", "liquidatedCollateralAmount"),
                )
            },
        )
    },
    deployments=deployments("radiant"),
    oracle=ORACLE,
    bonus=BONUS,
    methodology=(
        "Debt `debtToCover` of `principal` and collateral `liquidatedCollateralAmount` of"
        " `collateral`, as emitted; the part of the bonus that went to `liquidationFeeTo` is in no"
        " event."
    ),
)
