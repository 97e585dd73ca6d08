"""Aave v2 and the forks that kept its event. Bad debt leaves no trace on chain."""

from indexer.evm_model import Contract, EventMap, ProtocolSpec
from indexer.venues.evm import deployments

LIQUIDATION_CALL = EventMap(
    account="user",
    liquidator="liquidator",
    repaid=("debtAsset", "debtToCover"),
    seized=("collateralAsset", "liquidatedCollateralAmount"),
)

SPEC = ProtocolSpec(
    name="aave_v2",
    kind="lending",
    contracts={
        "pool": Contract(abi="aave_v2_pool.json", events={"LiquidationCall": LIQUIDATION_CALL})
    },
    deployments=deployments("aave_v2"),
    methodology=(
        "Debt `debtToCover` of `debtAsset` and collateral `liquidatedCollateralAmount` of"
        " `collateralAsset`, both as emitted. Token transfers of the same transaction differ from"
        " them by interest and are not used."
    ),
)
