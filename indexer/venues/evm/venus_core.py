"""Venus core pool on BSC (Compound v2 code). Everybody liquidates through the Liquidator contract,
which names who really did it; debt in VAI is the VAI controller's own event."""

from collections.abc import Iterable, Sequence

from indexer.evm_model import (
    EMITTER,
    EMITTER_FACT,
    NATIVE,
    SIBLING,
    USD,
    Contract,
    Deployment,
    Dialogue,
    EventMap,
    Fact,
    FactMap,
    Facts,
    Joinable,
    LendingLiquidation,
    Lookup,
    NoQuote,
    ProtocolSpec,
    Quote,
    Sibling,
    Subject,
    UndecodedLog,
)
from indexer.oracles import scaled
from indexer.venues.evm import deployments
from indexer.venues.evm.compound_v2 import ASKS, BONUS, SHARE_RATE, oracle

BORROW = EventMap(
    account="borrower",
    liquidator="liquidator",
    repaid=(Lookup("underlying", (EMITTER,)), "repayAmount"),
    seized=("vTokenCollateral", "seizeTokens"),
    seized_is_shares=True,
)


def join(events: Sequence[Joinable], facts: Facts) -> Iterable[LendingLiquidation | UndecodedLog]:
    """Put the liquidator whom the Liquidator names after it in the place of the Liquidator."""
    waiting: list[LendingLiquidation] = []
    for event in events:
        if isinstance(event, Sibling):
            row = next((row for row in waiting if _is_of(row, event)), None)
            if row is None:
                yield event.alone("no LiquidateBorrow before it", SPEC.decoder_version)
            else:
                waiting.remove(row)
                yield row.with_(
                    liquidator=event.text("liquidator"),
                    protocol_fee_raw=event.number("seizeTokensForTreasury"),
                    fee_in_seized=True,
                )
        elif _is_by_the_liquidator(event, facts):
            waiting.append(event)
        else:
            yield event
    for row in waiting:
        yield row.with_(liquidator=None)


def _is_by_the_liquidator(row: LendingLiquidation, facts: Facts) -> bool:
    protocol, _, chain = row.venue.partition(".")
    said = facts.get((chain, EMITTER_FACT, row.liquidator or ""))
    return said == f"{protocol}/liquidator"


def _is_of(row: LendingLiquidation, named: Sibling) -> bool:
    """Older revisions of the Liquidator leave the borrowed market out."""
    return (row.liquidator, row.account, row.seized and row.seized.asset, row.emitter) == (
        named.log.address,
        named.text("borrower"),
        named.text("vTokenCollateral"),
        named.args.get("vTokenBorrowed", row.emitter),
    )


VAI_CONTROLLER = "0x004065d34c6b18ce4370ced1cebde94865dbfafe"
VAI = "0x4bd17003473389a42daf6a0a729f6fdb328bbbd7"
VAI_DECIMALS = 18
of_market = oracle("comptroller()")


def oracle_of(subject: Subject, deployed: Sequence[Deployment]) -> Dialogue[Quote | NoQuote]:
    """As Compound's; but debt in VAI is a dollar by decree, no oracle is asked.

    VenusProtocol/venus-protocol:contracts/Lens/ComptrollerLens.sol,
    liquidateVAICalculateSeizeTokens"""
    if (subject.market, subject.asset) == (VAI_CONTROLLER, VAI):
        return Quote(scaled(1, VAI_DECIMALS), USD, (VAI_CONTROLLER,))
    return (yield from of_market(subject, deployed))


SPEC = ProtocolSpec(
    name="venus_core",
    kind="lending",
    contracts={
        "comptroller": Contract(
            abi="venus_core_comptroller.json",
            events={"MarketListed": FactMap(proves={"vToken": "market"})},
        ),
        "market": Contract(abi="venus_core_vtoken.json", events={"LiquidateBorrow": BORROW}),
        "vai_controller": Contract(
            abi="venus_core_vai_controller.json", events={"LiquidateVAI": BORROW}
        ),
        "liquidator": Contract(
            abi="venus_core_liquidator.json", events={"LiquidateBorrowedTokens": SIBLING}
        ),
    },
    join=join,
    facts=(
        # vBNB has no underlying(), the controller's debt is VAI; VenusProtocol/vips
        Fact("bsc", "underlying", "0xa07c5b74c9b40447a954e1466938b865b6bbea36", NATIVE),
        Fact("bsc", "underlying", VAI_CONTROLLER, VAI),
    ),
    deployments=deployments("venus_core"),
    # VenusProtocol/venus-protocol:contracts/Comptroller/ComptrollerStorage.sol
    asks=ASKS,
    share_rate=SHARE_RATE,
    oracle=oracle_of,
    bonus=BONUS,
    evidence="contracts",
    methodology=(
        "Debt `repayAmount` in the underlying of the emitting market, or in VAI; collateral"
        " `seizeTokens` are shares of `vTokenCollateral`. The liquidator and the fee"
        " `seizeTokensForTreasury` within the collateral are what the Liquidator contract emits"
        " after it; `liquidator` is unknown where it emitted nothing."
    ),
)
