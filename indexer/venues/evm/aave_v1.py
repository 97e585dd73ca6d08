"""Aave v1 (2020 to 2024), one pool. The chain's coin is written 0xEeee...EEeE."""

from indexer.evm_model import Contract, EventMap, ProtocolSpec
from indexer.venues.evm import deployments

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
    methodology=(
        "Debt `_purchaseAmount` of `_reserve` and collateral `_liquidatedCollateralAmount` of"
        " `_collateral`, both as emitted; `_accruedBorrowInterest` is not added."
    ),
)
