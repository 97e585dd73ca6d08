"""Aave v1 (2020 to 2024), one pool. The chain's coin is written 0xEeee...EEeE."""

from indexer.evm_model import Contract, EventMap, ProtocolSpec
from indexer.venues.evm import deployments
from indexer.venues.evm.aave_v2 import oracle

SPEC = ProtocolSpec(
    name="aave_v1",
    kind="lending",
    contracts={
        "pool": Contract(
            abi="aave_v1_pool.json",
            events={
                "LiquidationCall": EventMap(
                    account="_user",
                    liquidator="_liquidator",
                    repaid=("_reserve", "_purchaseAmount"),
                    seized=("_collateral", "_liquidatedCollateralAmount"),
                )
            },
        )
    },
    deployments=deployments("aave_v1"),
    # aave/aave-protocol:contracts/lendingpool/LendingPool.sol
    oracle=oracle("addressesProvider()", is_in_ether=True),
    # aave/aave-protocol:contracts/lendingpool/LendingPoolLiquidationManager.sol
    # beside an origination fee that it may take of the collateral
    fee="on_top",
    evidence="real",
    methodology=(
        "Debt `_purchaseAmount` of `_reserve` and collateral `_liquidatedCollateralAmount` of"
        " `_collateral`, both as emitted; `_accruedBorrowInterest` is not added. No bounds of the"
        " bonus are checked."
    ),
)
