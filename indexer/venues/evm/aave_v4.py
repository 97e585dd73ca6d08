"""Aave v4: accounts live on Spokes, assets on Hubs, and events name reserves by number.

AddReserve of the Spoke and AddAsset of the Hub say which token a number is. Bad debt is reported
after the liquidation, by the Spoke in shares and, just before that, by the Hub in rays.
"""

from collections.abc import Iterable, Sequence

from indexer.abi_calls import address_of, call, uint_of
from indexer.evm_model import (
    EMITTER,
    NOBODY,
    SIBLING,
    Contract,
    Deployment,
    EventMap,
    FactMap,
    Facts,
    Inquiry,
    Joinable,
    Learn,
    Leg,
    LendingLiquidation,
    Lookup,
    MissingFact,
    ProtocolSpec,
    Sibling,
    UndecodedLog,
    Value,
)
from indexer.venues.evm import deployments

RAY = 10**27


def _token(reserve: str) -> Lookup:
    return Lookup("aave_v4_underlying", (Lookup("aave_v4_asset", (EMITTER, reserve)),))


def _fee(row: LendingLiquidation, args: dict[str, Value]) -> LendingLiquidation:
    """What the protocol kept, at the shares' own price, rounded down."""
    shares, to_liquidator, removed = (
        int(str(args[name]))
        for name in (
            "collateralSharesLiquidated",
            "collateralSharesToLiquidator",
            "collateralAmountRemoved",
        )
    )
    if not 0 < to_liquidator <= shares:
        return row
    fee = removed * (shares - to_liquidator) // shares
    return row.with_(protocol_fee_raw=fee, fee_in_seized=True)


def join(events: Sequence[Joinable], facts: Facts) -> Iterable[LendingLiquidation | UndecodedLog]:
    """Give each liquidation the deficits that its Spoke and its Hub reported after it."""
    calls: list[list[LendingLiquidation]] = []  # each with its parts
    of_hub: list[Sibling] = []
    for event in events:
        if isinstance(event, LendingLiquidation):
            calls.append([event])
        elif "spoke" in event.args:
            of_hub.append(event)
        else:
            call = next((call for call in reversed(calls) if _is_of(call[0], event)), None)
            amount = next((hub for hub in reversed(of_hub) if _is_amount(hub, event)), None)
            if call is None:
                yield event.alone("no LiquidationCall before it", SPEC.decoder_version)
            elif amount is None:
                yield event.alone("no ReportDeficit of the Hub before it", SPEC.decoder_version)
            else:
                of_hub.remove(amount)
                debt = _deficit(event, amount, facts)
                if isinstance(debt, UndecodedLog):
                    yield debt
                else:
                    _add(call, debt)
    for rest in of_hub:
        yield rest.alone("no ReportDeficit of a Spoke after it", SPEC.decoder_version)
    for call in calls:
        yield from call


def _is_of(row: LendingLiquidation, report: Sibling) -> bool:
    return report.says("ReportDeficit", row.emitter, user=row.account)


def _is_amount(hub: Sibling, report: Sibling) -> bool:
    """Spoke and Hub name the reserve by different numbers, but the same shares."""
    return hub.args["spoke"] == report.log.address and all(
        hub.args[name] == value for name, value in report.args.items() if name in hub.args
    )


def _deficit(report: Sibling, hub: Sibling, facts: Facts) -> Leg | UndecodedLog:
    """The Hub names asset and amount; rays are rounded up, as the Hub itself does."""
    fact = report.log.chain, "aave_v4_underlying", f"{hub.log.address}/{hub.args['assetId']}"
    if fact not in facts:
        missing = MissingFact(*fact)
        return UndecodedLog(
            report.venue or "", report.log, str(missing), SPEC.decoder_version, missing
        )
    return Leg(facts[fact], -(-hub.number("deficitAmountRay") // RAY))


def _add(call: list[LendingLiquidation], debt: Leg) -> None:
    row = call[0]
    if row.bad_debt is None and row.repaid is not None and row.repaid.asset == debt.asset:
        call[0] = row.with_(bad_debt=debt)
    else:
        call.append(row.part(len(call), method="write_off", bad_debt=debt))


def _hub_asset(missing: MissingFact, deployed: Sequence[Deployment]) -> Inquiry:
    """Underlying, Hub and number at the Hub are the first three of a reserve's seven members.

    bgd-labs/aave-address-book:src/ts/abis/ISpokeV4.ts"""
    spoke, _, reserve = missing.subject.partition("/")
    (answer,) = yield [call(spoke, "getReserve(uint256)", int(reserve))]
    hub, asset = address_of(answer, 1, of=7), uint_of(answer, 2, of=7, bits=16)
    return () if hub in (None, NOBODY) or asset is None else (missing.told(f"{hub}/{asset}"),)


def _underlying(missing: MissingFact, deployed: Sequence[Deployment]) -> Inquiry:
    """Beside its decimals. bgd-labs/aave-address-book:src/ts/abis/IHubV4.ts"""
    hub, _, asset = missing.subject.partition("/")
    (answer,) = yield [call(hub, "getAssetUnderlyingAndDecimals(uint256)", int(asset))]
    underlying = address_of(answer, 0, of=2)
    return () if underlying in (None, NOBODY) else (missing.told(underlying),)


SPEC = ProtocolSpec(
    name="aave_v4",
    kind="lending",
    contracts={
        "spoke": Contract(
            abi="aave_v4_spoke.json",
            events={
                "AddReserve": FactMap(
                    learns=(Learn("aave_v4_asset", (EMITTER, "reserveId"), ("hub", "assetId")),)
                ),
                "LiquidationCall": EventMap(
                    account="user",
                    liquidator="liquidator",
                    repaid=(_token("debtReserveId"), "debtAmountRestored"),
                    seized=(_token("collateralReserveId"), "collateralAmountRemoved"),
                    then=_fee,
                ),
                "ReportDeficit": SIBLING,
            },
        ),
        "hub": Contract(
            abi="aave_v4_hub.json",
            events={
                "AddAsset": FactMap(
                    learns=(Learn("aave_v4_underlying", (EMITTER, "assetId"), ("underlying",)),)
                ),
                "ReportDeficit": SIBLING,
            },
        ),
    },
    join=join,
    deployments=deployments("aave_v4"),
    asks={"aave_v4_asset": _hub_asset, "aave_v4_underlying": _underlying},
    methodology=(
        "Debt `debtAmountRestored` of the reserve `debtReserveId` and collateral"
        " `collateralAmountRemoved` of `collateralReserveId`, gross. The fee within it is the part"
        " of `collateralSharesLiquidated` that is not in `collateralSharesToLiquidator`. Bad debt"
        " is the Hub's `deficitAmountRay`, rounded up to base units."
    ),
)
