"""Liquity v1 and its forks. Each liquidated trove has an event of its own, whose number says by
which rule; then comes one with the sums of the call, which is not added to them, and with the next
log whoever called is paid.

TroveUpdated says no more of a liquidated trove, and is logged of every redemption (by the trove
manager, with number 3) and of every change by the owner too (by another contract, with the number
that a liquidation has here). It is not asked for.
liquity/dev:packages/contracts/contracts/TroveManager.sol, batchLiquidateTroves
"""

from collections.abc import Iterable, Sequence

from indexer.abi_calls import call, is_silent
from indexer.evm_model import (
    EMITTER,
    NATIVE,
    SIBLING,
    USD,
    Contract,
    Deployment,
    Dialogue,
    EventMap,
    Fact,
    Facts,
    Inquiry,
    Joinable,
    Leg,
    LendingLiquidation,
    Lookup,
    MissingFact,
    NoQuote,
    Par,
    ProtocolSpec,
    Quote,
    Sibling,
    Subject,
    UndecodedLog,
)
from indexer.oracles import (
    UNKNOWN_UNIT,
    contract_of,
    decimals_of,
    followed,
    number_of,
    scaled,
)
from indexer.venues.evm import deployments

COIN = Lookup("liquity_v1_coin", (EMITTER,))
COLLATERAL = Lookup("liquity_v1_collateral", (EMITTER,))
PRICE_PLACES = 18  # liquity/dev:packages/contracts/contracts/PriceFeed.sol, TARGET_DIGITS
DECIMALS = 18
# How those name a token who have forked Liquity for one: DefiLlama/DefiLlama-Adapters:
# registries/liquity.js
TOKENS = ("collateralToken()", "collTokenAddress()", "collToken()")


def join(events: Sequence[Joinable], facts: Facts) -> Iterable[LendingLiquidation | UndecodedLog]:
    """Tell who called, and of a trove that was alone in its call what was taken: where only a part
    of the collateral is, the event leaves the caller's half per cent of it out."""
    troves: list[LendingLiquidation] = []
    after = {event.log_index - 1: event for event in events}
    for event in events:
        match event:
            case LendingLiquidation():
                troves.append(event)
            case Sibling(name="Liquidation"):
                own = [row for row in troves if row.emitter == event.log.address]
                troves = [row for row in troves if row not in own]
                if not own:
                    yield event.alone("no TroveLiquidated before it", SPEC.decoder_version)
                elif len(own) == 1:
                    own = [_with_all_taken(own[0], event)]
                for row in own:
                    yield row.with_(liquidator=_paid(row, event, after.get(event.log_index)))
    yield from troves


def _with_all_taken(row: LendingLiquidation, sums: Sibling) -> LendingLiquidation:
    raw = sums.number("_liquidatedColl") + sums.number("_collGasCompensation")
    return row.with_(seized=row.seized and Leg(row.seized.asset, raw))


def _paid(row: LendingLiquidation, sums: Sibling, following: Joinable | None) -> str | None:
    """The coins that each trove has set aside for its liquidation go to whoever called it."""
    if isinstance(following, Sibling) and following.says(
        "Transfer",
        (row.repaid and row.repaid.asset) or "",
        value=sums.number("_LUSDGasCompensation"),
    ):
        return following.text("to")
    return None


def _collateral(missing: MissingFact, deployed: Sequence[Deployment]) -> Inquiry:
    """A trove manager of a token names it; the first one knows the chain's coin only, which has no
    name. DefiLlama/DefiLlama-Adapters:projects/helper/liquity.js"""
    answers = yield [call(missing.subject, signature) for signature in TOKENS]
    token = next(filter(None, map(contract_of, answers)), None)
    if token is None and not all(map(is_silent, answers)):
        return ()
    return (missing.told(token or NATIVE),)


def _coin(missing: MissingFact, deployed: Sequence[Deployment]) -> Inquiry:
    """Sable has renamed the getter, as others have to names that nobody has told us.

    liquity/dev:packages/contracts/contracts/Interfaces/ITroveManager.sol"""
    answers = yield [call(missing.subject, name) for name in ("lusdToken()", "usdsToken()")]
    coin = next(filter(None, map(contract_of, answers)), None)
    return () if coin is None else (missing.told(coin),)


def oracle(subject: Subject, deployed: Sequence[Deployment]) -> Dialogue[Quote | NoQuote]:
    """The price that the liquidation itself has fetched and left there. What an amount means that
    has not 18 decimals only its fork knows.

    liquity/dev:packages/contracts/contracts/Dependencies/LiquityMath.sol, _computeCR"""
    if subject.asset != NATIVE:
        (told,) = yield [call(subject.asset, "decimals()")]
        decimals = decimals_of(told)
        if isinstance(decimals, NoQuote):
            return decimals
        if decimals != DECIMALS:
            return UNKNOWN_UNIT
    way = yield from followed(subject.emitter, "priceFeed()")
    if isinstance(way, NoQuote):
        return way
    (answer,) = yield [call(way[-1], "lastGoodPrice()")]
    price = number_of(answer)
    if isinstance(price, NoQuote):
        return price
    return Quote(scaled(price, PRICE_PLACES + DECIMALS), USD, way)


# Tokens that no getter names: DefiLlama/DefiLlama-Adapters:registries/liquity.js. Which tokens BTCB
# and USDC are there: bgd-labs/aave-address-book:src/AaveV3BNB.sol, src/AaveV3Polygon.sol
NAMED = {
    ("bsc", "0x3cd34afeba07c02443becbb2840506f4230f84cb"): (
        "0x7130d2a12b9bcbfae4f2634d864a1ee1ce3ead9c"
    ),
    ("cronos", "0x7a47cf15a1fcbad09c66077d1d021430eed7ac65"): (
        "0x7a7c9db510ab29a2fc362a4c34260becb5ce3446"
    ),
    ("iotex", "0xff5f4ba96586edae7e7d838d8770dfb3376ec245"): (
        "0x236f8c0a61da474db21b693fb2ea7aab0c803894"
    ),
    ("polygon", "0x09273531f634391de6be7e63c819f4ccc086f41c"): (
        "0x2791bca1f2de4661ed88a30c99a7a9449aa84174"
    ),
}

SPEC = ProtocolSpec(
    name="liquity_v1",
    kind="lending",
    contracts={
        "trove_manager": Contract(
            abi="liquity_v1_trove_manager.json",
            events={
                "TroveLiquidated": EventMap(
                    account="_borrower",
                    method="absorb",
                    repaid=(COIN, "_debt"),
                    seized=(COLLATERAL, "_coll"),
                ),
                "Liquidation": SIBLING,
            },
        )
    },
    bystander=Contract(abi="erc20.json", events={"Transfer": SIBLING}),
    join=join,
    facts=tuple(
        Fact(chain, COLLATERAL.fact, trove_manager, token)
        for (chain, trove_manager), token in NAMED.items()
    ),
    deployments=deployments("liquity_v1"),
    asks={COIN.fact: _coin, COLLATERAL.fact: _collateral},
    oracle=oracle,
    # no bonus: the stability pool, or all other troves, take over both sides
    par=Par(
        COIN.fact,
        DECIMALS,
        "liquity/dev:packages/contracts/contracts/Dependencies/LiquityMath.sol, _computeCR",
    ),
    methodology=(
        "Debt `_debt` in the protocol's coin, with the 200 that each trove has set aside, and"
        " collateral `_coll` of each trove; where a trove was liquidated alone its collateral is"
        " `_liquidatedColl` and `_collGasCompensation`, the caller's part. Of several in one call a"
        " trove whose collateral was taken in part lacks that half per cent. The liquidator is"
        " whoever is sent `_LUSDGasCompensation` in the next log. Sums of a call are not added."
    ),
)
