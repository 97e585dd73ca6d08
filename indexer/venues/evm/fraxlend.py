"""Fraxlend. A pair lends one token against one other. Its event names no liquidator: the repayment
that the same call logs after it does."""

from collections.abc import Iterable, Sequence
from typing import cast

from indexer.abi_calls import WORD, address_of, call, getter, uint_of
from indexer.evm_model import (
    EMITTER,
    EMITTER_FACT,
    SIBLING,
    CallResult,
    Contract,
    Deployment,
    Dialogue,
    EventMap,
    FactMap,
    Facts,
    Inquiry,
    Joinable,
    LendingLiquidation,
    Lookup,
    MissingFact,
    NoQuote,
    ProtocolSpec,
    Quote,
    Sibling,
    Subject,
    UndecodedLog,
    Value,
)
from indexer.oracles import NOT_LISTED, REVERTS, UNREADABLE, ZERO, scaled, unit_itself
from indexer.venues.evm import deployments
from indexer.venues.evm.comet import RATIO

ASSET = Lookup("underlying", (EMITTER,))
COLLATERAL = Lookup("fraxlend_collateral", (EMITTER,))


def _with_fee(row: LendingLiquidation, args: dict[str, Value]) -> LendingLiquidation:
    """Pairs of the first version know no fee, which is why their event is without it.

    FraxFinance/fraxlend:src/liquidatorBot/abis/FraxlendPair.mjs"""
    return row.with_(protocol_fee_raw=cast(int, args.get("_feesAmount", 0)), fee_in_seized=False)


def join(events: Sequence[Joinable], facts: Facts) -> Iterable[LendingLiquidation | UndecodedLog]:
    """The next repayment of the account at the pair is the call's own, made before anything else.

    FraxFinance/fraxlend:src/contracts/FraxlendPairCore.sol, liquidate and _repayAsset"""
    repayments = [event for event in events if isinstance(event, Sibling)]
    for row in events:
        if isinstance(row, LendingLiquidation):
            own = next((one for one in repayments if _is_of(row, one)), None)
            yield row if own is None else row.with_(liquidator=own.text("payer"))


def _is_of(row: LendingLiquidation, repayment: Sibling) -> bool:
    return repayment.log_index > row.log_index and repayment.says(
        "RepayAsset",
        row.emitter,
        borrower=row.account,
        amountToRepay=row.repaid.raw if row.repaid else None,
    )


def _lists(answer: CallResult, pair: str) -> bool:
    """An array of addresses, behind its own offset."""
    size = uint_of(answer, 1, of=None, bits=16)
    if uint_of(answer, 0, of=None) != WORD or size is None:
        return False
    return any(address_of(answer, 2 + at, of=2 + size) == pair for at in range(size))


# of the registry and of each deployer; FraxFinance/fraxlend:src/contracts/FraxlendPairRegistry.sol,
# src/contracts/FraxlendPairDeployer.sol
PAIRS = "getAllPairAddresses()"


def _pair(missing: MissingFact, deployed: Sequence[Deployment]) -> Inquiry:
    """Deployers are asked for what they made before there was a registry."""
    lists = [one for one in deployed if one.role in ("registry", "deployer")]
    answers = yield [call(one.address, PAIRS) for one in lists]
    by_list = zip(lists, answers, strict=True)
    names = {one.name for one, answer in by_list if _lists(answer, missing.subject)}
    return (missing.told(f"{names.pop()}/pair"),) if len(names) == 1 else ()


# Of collateral for 10**18 of the asset, in base units of both.
RATE_ONE = 10**18
# By the number of members of an ExchangeRateInfo, which of them liquidations go by: the only rate
# of the first version, then the low one after oracle, deviation and time.
RATE_AT = {2: 1, 5: 3}


def oracle(subject: Subject, deployed: Sequence[Deployment]) -> Dialogue[Quote | NoQuote]:
    """The rate that the pair stored, as every liquidation makes it do first. A pair that no
    registry lists anybody may have opened, with an oracle out of a list.

    FraxFinance/fraxlend:src/contracts/FraxlendPairCore.sol, exchangeRateInfo"""
    pair, asset = subject.market, subject.asset
    registries = [one for one in deployed if (one.role, one.chain) == ("registry", subject.chain)]
    lent, taken, told, *lists = yield [
        call(pair, "asset()"),
        call(pair, "collateralContract()"),
        call(pair, "exchangeRateInfo()"),
        *(call(one.address, PAIRS) for one in registries),
    ]
    unit = address_of(lent)
    if unit is None:
        return UNREADABLE
    if asset == unit:
        return unit_itself(asset, (pair,))
    if asset != address_of(taken):
        return NOT_LISTED
    members = len(told.data) // WORD
    rate = uint_of(told, RATE_AT.get(members, 0), of=members) if members in RATE_AT else None
    if rate is None:
        return UNREADABLE if told.is_ok else REVERTS
    if rate == 0:
        return ZERO
    is_listed = any(_lists(answer, pair) for answer in lists)
    per_unit = RATIO.divide(scaled(RATE_ONE, 0), scaled(rate, 0))
    return Quote(per_unit, unit, (pair,), trust="governed" if is_listed else "market")


SPEC = ProtocolSpec(
    name="fraxlend",
    kind="lending",
    contracts={
        "registry": Contract(
            abi="fraxlend_registry.json",
            events={"AddPair": FactMap(proves={"pairAddress": "pair"})},
        ),
        "deployer": Contract(abi="fraxlend_deployer.json", events={}),
        "pair": Contract(
            abi="fraxlend_pair.json",
            events={
                # with and without a fee
                "Liquidate": EventMap(
                    account="_borrower",
                    repaid=(ASSET, "_amountLiquidatorToRepay"),
                    seized=(COLLATERAL, "_collateralForLiquidator"),
                    bad_debt="_amountToAdjust",
                    then=_with_fee,
                ),
                "RepayAsset": SIBLING,
            },
        ),
    },
    join=join,
    deployments=deployments("fraxlend"),
    asks={
        EMITTER_FACT: _pair,
        # FraxFinance/fraxlend:src/contracts/interfaces/IFraxlendPair.sol
        ASSET.fact: getter("asset()"),
        COLLATERAL.fact: getter("collateralContract()"),
    },
    oracle=oracle,
    # no bonus: each pair has its own, without a limit, and whoever repays a whole debt gets what
    # collateral there is
    methodology=(
        "Debt `_amountLiquidatorToRepay` of the token that the pair lends and collateral"
        " `_collateralForLiquidator` of its other token, which is what the liquidator received. The"
        " protocol's fee `_feesAmount` comes on top; pairs of the first version take none. Bad debt"
        " is `_amountToAdjust`, which `_amountLiquidatorToRepay` does not contain. The liquidator"
        " is the `payer` of the repayment in the same call."
        " No bounds of the bonus: each pair has its own, and collateral may run short."
    ),
)
