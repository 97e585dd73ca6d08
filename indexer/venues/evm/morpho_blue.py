"""Morpho Blue and Lista's Moolah. The event names the market; CreateMarket told us its two tokens.

Pre-liquidation contracts, which a borrower opts into, come from a factory and emit their own event;
Morpho itself then only logs a repayment and a withdrawal."""

from collections.abc import Sequence

from eth_hash.auto import keccak

from indexer.abi_calls import address_of, call, vouched_for
from indexer.evm_model import (
    EMITTER_FACT,
    Contract,
    Deployment,
    EventMap,
    Fact,
    FactMap,
    Inquiry,
    Learn,
    Lookup,
    MissingFact,
    ProtocolSpec,
)
from indexer.venues.evm import deployments

LOAN = Lookup("morpho_loan_token", ("id",))
COLLATERAL = Lookup("morpho_collateral_token", ("id",))


def _tokens(missing: MissingFact, deployed: Sequence[Deployment]) -> Inquiry:
    """Both tokens. An id is the hash of its market's parameters, so that an answer proves itself,
    and the zeros of a market that does not exist prove nothing.

    morpho-org/morpho-blue:src/interfaces/IMorpho.sol, src/libraries/MarketParamsLib.sol"""
    morphos = [one.address for one in deployed if one.role == "morpho"]
    answers = yield [call(one, "idToMarketParams(bytes32)", missing.subject) for one in morphos]
    for answer in answers:
        loan, collateral = address_of(answer, 0, of=5), address_of(answer, 1, of=5)
        if loan and collateral and "0x" + keccak(answer.data).hex() == missing.subject:
            return (
                Fact(missing.chain, LOAN.fact, missing.subject, loan),
                Fact(missing.chain, COLLATERAL.fact, missing.subject, collateral),
            )
    return ()


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
    asks={
        # morpho-org/pre-liquidation:src/interfaces/IPreLiquidationFactory.sol
        EMITTER_FACT: vouched_for(
            "pre_liquidation_factory", "isPreLiquidation(address)", "pre_liquidation"
        ),
        LOAN.fact: _tokens,
        COLLATERAL.fact: _tokens,
    },
    methodology=(
        "Debt `repaidAssets` in the market's `marketParams.loanToken` and collateral `seizedAssets`"
        " in its `marketParams.collateralToken`, as emitted; bad debt in `badDebtAssets`, which"
        " `repaidAssets` does not contain. Anybody can open a market with any token."
    ),
)
