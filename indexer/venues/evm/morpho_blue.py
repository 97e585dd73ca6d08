"""Morpho Blue and Lista's Moolah. The event names the market; CreateMarket told us its two tokens.

Pre-liquidation contracts, which a borrower opts into, come from a factory and emit their own event;
Morpho itself then only logs a repayment and a withdrawal."""

from collections.abc import Sequence
from decimal import Decimal

from eth_hash.auto import keccak

from indexer.abi_calls import address_of, call, uint_of, vouched_for
from indexer.evm_model import (
    EMITTER_FACT,
    NOBODY,
    Bonus,
    CallResult,
    Contract,
    Deployment,
    Dialogue,
    EventMap,
    Fact,
    FactMap,
    Inquiry,
    Learn,
    Lookup,
    MissingFact,
    NoQuote,
    ProtocolSpec,
    Quote,
    Subject,
)
from indexer.oracles import NO_ORACLE, NOT_LISTED, number_of, scaled, unit_itself
from indexer.venues.evm import deployments

LOAN = Lookup("morpho_loan_token", ("id",))
COLLATERAL = Lookup("morpho_collateral_token", ("id",))
LLTV = "morpho_lltv"  # scaled by 10**18


def _of_market(
    market: str, deployed: Sequence[Deployment]
) -> Dialogue[tuple[str, CallResult] | None]:
    """Morpho and the parameters of a market there: loan and collateral token, oracle and two more.
    An id is the hash of its market's parameters, so that an answer proves itself, and the zeros of
    a market that does not exist prove nothing.

    morpho-org/morpho-blue:src/interfaces/IMorpho.sol, src/libraries/MarketParamsLib.sol"""
    morphos = [one.address.lower() for one in deployed if one.role == "morpho"]
    answers = yield [call(one, "idToMarketParams(bytes32)", market) for one in morphos]
    for morpho, answer in zip(morphos, answers, strict=True):
        is_whole = address_of(answer, 0, of=5) and address_of(answer, 1, of=5)
        if is_whole and "0x" + keccak(answer.data).hex() == market:
            return morpho, answer
    return None


def _tokens(missing: MissingFact, deployed: Sequence[Deployment]) -> Inquiry:
    """Both tokens, and how much may be borrowed, which decides what a liquidator gets."""
    found = yield from _of_market(missing.subject, deployed)
    if found is None:
        return ()
    _, parameters = found
    return (
        Fact(missing.chain, LOAN.fact, missing.subject, address_of(parameters, 0, of=5)),
        Fact(missing.chain, COLLATERAL.fact, missing.subject, address_of(parameters, 1, of=5)),
        Fact(missing.chain, LLTV, missing.subject, str(uint_of(parameters, 4, of=5))),
    )


ORACLE_PLACES = 36


def oracle(subject: Subject, deployed: Sequence[Deployment]) -> Dialogue[Quote | NoQuote]:
    """Of base units of collateral in base units of the loan. The market's oracle is asked for a
    pre-liquidation too, though its terms may name another.

    morpho-org/morpho-blue:src/interfaces/IOracle.sol"""
    here = [one for one in deployed if one.chain == subject.chain]
    found = yield from _of_market(subject.market, here)
    if found is None:
        return NoQuote("the parameters of the market are unknown")
    morpho, parameters = found
    loan, collateral, named = (address_of(parameters, at, of=5) for at in range(3))
    if subject.asset == loan:
        return unit_itself(loan, (morpho,))
    if subject.asset != collateral or loan is None:
        return NOT_LISTED
    if named is None or named == NOBODY:
        return NO_ORACLE
    (answer,) = yield [call(named, "price()")]
    price = number_of(answer)
    if isinstance(price, NoQuote):
        return price
    return Quote(scaled(price, ORACLE_PLACES), loan, (morpho, named), trust="market")


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
                        Learn(LLTV, ("id",), ("marketParams.lltv",)),
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
    oracle=oracle,
    # of Morpho's own liquidations: a pre-liquidation may give up to 1 over the market's LLTV. The
    # room below is for amounts of a few base units: both sides are rounded against the liquidator.
    bonus=Bonus(
        Decimal("0.999"),
        Decimal("1.15"),
        "morpho-org/morpho-blue:src/libraries/ConstantsLib.sol, MAX_LIQUIDATION_INCENTIVE_FACTOR",
    ),
    # morpho-org/morpho-blue:src/Morpho.sol, liquidate
    fee="none",
    is_permissionless=True,
    evidence="real",
    methodology=(
        "Debt `repaidAssets` in the market's `marketParams.loanToken` and collateral `seizedAssets`"
        " in its `marketParams.collateralToken`, as emitted; bad debt in `badDebtAssets`, which"
        " `repaidAssets` does not contain. Anybody can open a market with any token."
    ),
)
