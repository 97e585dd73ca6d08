"""Liquity v2 and its forks. One call liquidates troves of a branch: an operation for each of them,
then one event with their sums and the price, which is what we ask nodes for.

A redemption moves the same state by the same event with another number, far more often and at the
will of whoever holds the coin: it is no liquidation.
liquity/bold:contracts/src/TroveManager.sol, batchLiquidateTroves and _liquidate
"""

from collections.abc import Iterable, Sequence
from typing import cast

from indexer.abi_calls import address_of, call, getter
from indexer.evm_model import (
    EMITTER,
    EMITTER_FACT,
    NOBODY,
    SIBLING,
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
    Par,
    PriceMap,
    ProtocolSpec,
    Sibling,
    UndecodedLog,
    Value,
)
from indexer.oracles import contract_of
from indexer.venues.evm import deployments

LIQUIDATE = 5  # liquity/bold:contracts/src/Interfaces/ITroveEvents.sol; 6 is a redemption
COIN = Lookup("liquity_coin", (EMITTER,))
COLLATERAL = Lookup("liquity_collateral", (EMITTER,))
TROVE_NFT = Lookup("liquity_trove_nft", (EMITTER,))
# In dollars of 18 decimals, for so much collateral as would have 18: a base unit has 36.
PRICE_PLACES = 36
MOST_BRANCHES = 10  # liquity/bold:contracts/src/CollateralRegistry.sol
# Felix has renamed the getter; DefiLlama/dimension-adapters:fees/felix.ts
COINS = ("boldToken()", "feUSDToken()")


def _sums(row: LendingLiquidation, args: dict[str, Value]) -> LendingLiquidation:
    """All troves of the call together; what the owners may claim back was not taken."""

    def leg(known: Leg | None, *names: str) -> Leg | None:
        return known and Leg(known.asset, sum(cast(int, args[name]) for name in names))

    return row.with_(
        repaid=leg(row.repaid, "_debtOffsetBySP", "_debtRedistributed"),
        seized=leg(row.seized, "_collSentToSP", "_collRedistributed", "_collGasCompensation"),
    )


def join(events: Sequence[Joinable], facts: Facts) -> Iterable[LendingLiquidation | UndecodedLog]:
    """Divide each call among its troves. Their NFTs are burnt on the way, which tells the owners,
    and whoever called is paid for it in the very next log."""
    troves: list[Sibling] = []
    owners: dict[tuple[str, object], str] = {}  # by NFT and trove
    after = {event.log_index - 1: event for event in events}
    for event in events:
        match event:
            case Sibling(name="TroveOperation"):
                troves.append(event)
            case Sibling(args={"tokenId": trove, "from": owner, "to": to}) if to == NOBODY:
                owners[event.log.address, trove] = str(owner)
            case LendingLiquidation():
                own = [one for one in troves if one.log.address == event.emitter]
                troves = [one for one in troves if one not in own]
                liquidated = [one for one in own if one.number("_operation") == LIQUIDATE]
                yield from _divided(event, liquidated, owners, after.get(event.log_index))


def _divided(
    row: LendingLiquidation,
    troves: list[Sibling],
    owners: dict[tuple[str, object], str],
    following: Joinable | None,
) -> Iterable[LendingLiquidation]:
    """A row for each trove. What came back of its collateral is known of one trove alone. Troves
    that do not add up to the sums divide nothing: one row of the branch says what is certain."""
    all_repaid, all_seized = row.repaid, row.seized
    assert all_repaid is not None
    assert all_seized is not None
    nft = row.owner or ""
    row = row.with_(owner=None, liquidator=_paid(following))
    debts = [-trove.number("_debtChangeFromOperation") for trove in troves]
    collaterals = [-trove.number("_collChangeFromOperation") for trove in troves]
    back = sum(collaterals) - all_seized.raw
    if not troves or sum(debts) != all_repaid.raw or back < 0:
        yield row
        return
    for number, (trove, debt, collateral) in enumerate(
        zip(troves, debts, collaterals, strict=True)
    ):
        seized = Leg(all_seized.asset, collateral) if back == 0 else None
        part = row if number == 0 else row.part(number)
        yield part.with_(
            account=f"0x{trove.number('_troveId'):064x}",
            owner=owners.get((nft, trove.number("_troveId"))),
            repaid=Leg(all_repaid.asset, debt),
            seized=all_seized if len(troves) == 1 else seized,
        )


def _paid(following: Joinable | None) -> str | None:
    match following:
        case Sibling(name="Transfer", args={"value": _, "to": caller}):
            return str(caller)
    return None


def _branch(
    trove_manager: str, deployed: Sequence[Deployment]
) -> Dialogue[tuple[Deployment, int] | None]:
    """The registry that lists a trove manager, and at which place."""
    places = [
        (one, index)
        for one in deployed
        if one.role == "collateral_registry"
        for index in range(MOST_BRANCHES)
    ]
    answers = yield [call(one.address, "getTroveManager(uint256)", at) for one, at in places]
    found = [
        place
        for place, answer in zip(places, answers, strict=True)
        if address_of(answer) == trove_manager
    ]
    return found[0] if len({one.name for one, _ in found}) == 1 else None


def _emitter(missing: MissingFact, deployed: Sequence[Deployment]) -> Inquiry:
    found = yield from _branch(missing.subject, deployed)
    return () if found is None else (missing.told(f"{found[0].name}/trove_manager"),)


def _tokens(missing: MissingFact, deployed: Sequence[Deployment]) -> Inquiry:
    """Of both sides, as the registry has them.

    liquity/bold:contracts/src/Interfaces/ICollateralRegistry.sol"""
    found = yield from _branch(missing.subject, deployed)
    if found is None:
        return ()
    registry, index = found
    collateral, *coins = yield [
        call(registry.address, "getToken(uint256)", index),
        *(call(registry.address, signature) for signature in COINS),
    ]
    token, coin = contract_of(collateral), next(filter(None, map(contract_of, coins)), None)
    if token is None or coin is None:
        return ()
    return (
        Fact(missing.chain, COLLATERAL.fact, missing.subject, token),
        Fact(missing.chain, COIN.fact, missing.subject, coin),
    )


SPEC = ProtocolSpec(
    name="liquity_v2",
    kind="lending",
    contracts={
        "trove_manager": Contract(
            abi="liquity_v2_trove_manager.json",
            events={
                "Liquidation": EventMap(
                    account=EMITTER,
                    owner=TROVE_NFT,  # for the join, which knows of which trove
                    method="absorb",
                    repaid=(COIN, "_debtOffsetBySP"),
                    seized=(COLLATERAL, "_collSentToSP"),
                    price=PriceMap(COLLATERAL, "_price", PRICE_PLACES),
                    then=_sums,
                )
            },
        ),
        "collateral_registry": Contract(abi="liquity_v2_collateral_registry.json", events={}),
    },
    # of every operation on a trove and every transfer: too many to ask for
    bystander=Contract(
        abi="liquity_v2_troves.json", events={"TroveOperation": SIBLING, "Transfer": SIBLING}
    ),
    needs_receipt=True,
    join=join,
    deployments=deployments("liquity_v2"),
    asks={
        EMITTER_FACT: _emitter,
        COIN.fact: _tokens,
        COLLATERAL.fact: _tokens,
        # liquity/bold:contracts/src/Interfaces/ITroveManager.sol
        TROVE_NFT.fact: getter("troveNFT()"),
    },
    # no oracle: the event has the price, and of its own coin the protocol asks for none. No bonus:
    # the stability pool, or all other troves, take over both sides.
    par=Par(COIN.fact, 18, "liquity/bold:contracts/src/Dependencies/LiquityMath.sol, _computeCR"),
    methodology=(
        "A row for each trove `_troveId` with `_operation` 5 before the event: debt"
        " `_debtChangeFromOperation` in the protocol's coin, collateral"
        " `_collChangeFromOperation` less `_collSurplus`, which its owner may claim back and which"
        " is only known of the whole call: with several troves and a surplus their collateral is"
        " unknown. The owner is `from` of the burnt `tokenId`, the liquidator `to` of the payment"
        " after the event. Redemptions, `_operation` 6, are dropped. Collateral is worth `_price`,"
        " debt one dollar a coin, as the protocol itself reckons."
    ),
)
