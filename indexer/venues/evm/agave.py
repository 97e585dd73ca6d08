"""Agave on Gnosis (Aave v2 code) with one boolean more in the event.

The signature is second hand (contango-xyz/envio-indexer:config.yaml), no real log was seen.
"""

from indexer.evm_model import Contract, ProtocolSpec
from indexer.venues.evm import deployments
from indexer.venues.evm.aave_v2 import BONUS, LIQUIDATION_CALL, ORACLE

SPEC = ProtocolSpec(
    name="agave",
    kind="lending",
    contracts={
        "pool": Contract(abi="agave_pool.json", events={"LiquidationCall": LIQUIDATION_CALL})
    },
    deployments=deployments("agave"),
    oracle=ORACLE,
    bonus=BONUS,
    fee="none",
    methodology=(
        "Debt `debtToCover` of `debtAsset` and collateral `liquidatedCollateralAmount` of"
        " `collateralAsset`, both as emitted; `useAToken` is not used."
    ),
)
