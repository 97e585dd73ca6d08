"""Compound v2 and its forks. The emitter is the market that was borrowed from, collateral is
counted in the other market's shares, and nothing is indexed. Comptrollers list their markets."""

from indexer.evm_model import (
    EMITTER,
    NATIVE,
    Contract,
    EventMap,
    Fact,
    FactMap,
    Lookup,
    ProtocolSpec,
)
from indexer.venues.evm import deployments

SPEC = ProtocolSpec(
    name="compound_v2",
    kind="lending",
    contracts={
        "comptroller": Contract(
            abi="compound_v2_comptroller.json",
            events={"MarketListed": FactMap(proves={"cToken": "market"})},
        ),
        "market": Contract(
            abi="compound_v2_ctoken.json",
            events={
                "LiquidateBorrow": EventMap(
                    account="borrower",
                    liquidator="liquidator",
                    repaid=(Lookup("underlying", (EMITTER,)), "repayAmount"),
                    seized=("cTokenCollateral", "seizeTokens"),
                    seized_is_shares=True,
                )
            },
        ),
    },
    facts=(
        # cETH has no underlying(); compound-finance/compound-config:networks/mainnet.json
        Fact("ethereum", "underlying", "0x4ddc2d193948926d02f9b1fe9e1daa0718270ed5", NATIVE),
    ),
    deployments=deployments("compound_v2"),
    methodology=(
        "Debt `repayAmount` in the underlying of the emitting market; collateral `seizeTokens` are"
        " shares of the market `cTokenCollateral`, with what newer markets keep for their reserves."
    ),
)
