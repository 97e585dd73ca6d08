"""Morpho Blue and Lista's Moolah. The event names the market; CreateMarket told us its two tokens.

Pre-liquidation contracts, which a borrower opts into, come from a factory and emit their own event;
Morpho itself then only logs a repayment and a withdrawal."""

from indexer.evm_model import Contract, EventMap, FactMap, Learn, Lookup, ProtocolSpec
from indexer.venues.evm import deployments

LOAN = Lookup("morpho_loan_token", ("id",))
COLLATERAL = Lookup("morpho_collateral_token", ("id",))

SPEC = ProtocolSpec(
    name="morpho_blue",
    kind="lending",
    contracts={
        "morpho": Contract(
            abi="morpho_blue.json",
            events={
                "CreateMarket": FactMap(
                    learns=(
                        Learn("morpho_loan_token", ("id",), ("marketParams.loanToken",)),
                        Learn(
                            "morpho_collateral_token", ("id",), ("marketParams.collateralToken",)
                        ),
                    )
                ),
                "Liquidate": EventMap(
                    account="borrower",
                    liquidator="caller",
                    market="id",
                    repaid=(LOAN, "repaidAssets"),
                    seized=(COLLATERAL, "seizedAssets"),
                    bad_debt="badDebtAssets",
                ),
            },
        ),
        "pre_liquidation_factory": Contract(
            abi="morpho_pre_liquidation_factory.json",
            events={"CreatePreLiquidation": FactMap(proves={"preLiquidation": "pre_liquidation"})},
        ),
        "pre_liquidation": Contract(
            abi="morpho_pre_liquidation.json",
            events={
                "PreLiquidate": EventMap(
                    account="borrower",
                    liquidator="liquidator",
                    market="id",
                    method="pre_liquidation",
                    repaid=(LOAN, "repaidAssets"),
                    seized=(COLLATERAL, "seizedAssets"),
                )
            },
        ),
    },
    deployments=deployments("morpho_blue"),
    methodology=(
        "Debt `repaidAssets` in the market's `marketParams.loanToken` and collateral `seizedAssets`"
        " in its `marketParams.collateralToken`, as emitted; bad debt in `badDebtAssets`, which"
        " `repaidAssets` does not contain. Anybody can open a market with any token."
    ),
)
