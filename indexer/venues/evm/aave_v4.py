"""Aave v4: accounts live on Spokes, assets on Hubs, and events name reserves by number.

AddReserve of the Spoke and AddAsset of the Hub say which token a number is. Bad debt is reported
after the liquidation, by the Spoke in shares and, just before that, by the Hub in rays.
"""

from collections.abc import Iterable, Sequence
from decimal import Decimal

from indexer.abi_calls import address_of, call, uint_of
from indexer.evm_model import (
    EMITTER,
    NOBODY,
    SIBLING,
    USD,
    Bonus,
    Contract,
    Deployment,
    Dialogue,
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
    NoQuote,
    ProtocolSpec,
    Quote,
    Sibling,
    Subject,
    UndecodedLog,
    Value,
)
from indexer.oracles import NOT_LISTED, UNREADABLE, number_of, oracle_of, plain_feed, scaled
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


# aave/aave-v4:src/spoke/Spoke.sol, ORACLE_DECIMALS; in dollars as the reference says
PRICE_DECIMALS = 8
MAX_RESERVES = 256  # asked for one price; the largest Spoke has some tens


def oracle(subject: Subject, deployed: Sequence[Deployment]) -> Dialogue[Quote | NoQuote]:
    """A Spoke's oracle knows its reserves by number, and a row names the token: all reserves of it
    must have one price, since an asset of two Hubs is two reserves.

    aave/aave-v4:src/spoke/AaveOracle.sol"""
    spoke = subject.market
    named, counted = yield [call(spoke, "ORACLE()"), call(spoke, "getReserveCount()")]
    oracle, count = oracle_of(named), uint_of(counted)
    if isinstance(oracle, NoQuote):
        return oracle
    if count is None or count > MAX_RESERVES:
        return UNREADABLE
    reserves = yield [call(spoke, "getReserve(uint256)", number) for number in range(count)]
    tokens = [address_of(reserve, 0, of=7) for reserve in reserves]
    numbers = [number for number, token in enumerate(tokens) if token == subject.asset]
    if None in tokens:
        return UNREADABLE
    if not numbers:
        return NOT_LISTED
    source, *priced = yield [
        call(oracle, "getReserveSource(uint256)", numbers[0]),
        *(call(oracle, "getReservePrice(uint256)", number) for number in numbers),
    ]
    price, *others = {number_of(answer) for answer in priced}
    decimals = uint_of(reserves[numbers[0]], 3, of=7, bits=8)
    if others:
        return NoQuote("reserves of the asset have different prices")
    if isinstance(price, NoQuote):
        return price
    if decimals is None:
        return UNREADABLE
    per_unit = scaled(price, PRICE_DECIMALS + decimals)
    feed, at_round = yield from plain_feed(address_of(source), price)
    return Quote(per_unit, USD, (spoke, oracle), feed=feed, feed_round=at_round)


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
    oracle=oracle,
    # at least 1, and below 1 over the collateral factor, of which 0.0001 is the least; the room
    # below is for amounts of a few base units, which are rounded
    bonus=Bonus(
        Decimal("0.999"),
        Decimal(10_000),
        "aave/aave-v4:src/spoke/Spoke.sol, _validateDynamicReserveConfig",
    ),
    evidence="real",
    methodology=(
        "Debt `debtAmountRestored` of the reserve `debtReserveId` and collateral"
        " `collateralAmountRemoved` of `collateralReserveId`, gross. The fee within it is the part"
        " of `collateralSharesLiquidated` that is not in `collateralSharesToLiquidator`. Bad debt"
        " is the Hub's `deficitAmountRay`, rounded up to base units."
    ),
)
