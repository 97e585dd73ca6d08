"""Silo v1. A liquidation takes all collateral for all debt of an account, and is logged once for
each asset of the silo that it touched, one log right after the other.

silo-finance/silo-core-v1:contracts/BaseSilo.sol, _userLiquidation
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest

from indexer.abi_calls import address_of, bool_of, call, uint_of
from indexer.evm_model import (
    EMITTER_FACT,
    NOBODY,
    SIBLING,
    Contract,
    Deployment,
    Dialogue,
    EventMap,
    FactMap,
    Facts,
    Inquiry,
    Joinable,
    Leg,
    LendingLiquidation,
    MissingFact,
    NoQuote,
    ProtocolSpec,
    Quote,
    Sibling,
    Subject,
    UndecodedLog,
)
from indexer.oracles import NOT_LISTED, decimals_of, followed, number_of, scaled, unit_itself
from indexer.venues.evm import deployments


def join(events: Sequence[Joinable], facts: Facts) -> Iterable[LendingLiquidation | UndecodedLog]:
    """Make one row of each liquidation, with a part for each further asset."""
    transfers: list[Sibling] = []  # since the liquidation before
    legs: list[Sibling] = []
    for event in events:
        if legs and not _goes_on(legs, event):
            yield from _liquidation(legs, transfers)
            legs, transfers = [], []
        match event:
            case LendingLiquidation():
                yield event
            case Sibling(name="Liquidate"):
                legs.append(event)
            case Sibling():
                transfers.append(event)
    if legs:
        yield from _liquidation(legs, transfers)


def _goes_on(legs: list[Sibling], event: Joinable) -> bool:
    """The next log, of the same silo and account, and of an asset that was not there yet."""
    return (
        isinstance(event, Sibling)
        and event.log_index == legs[-1].log_index + 1
        and event.says("Liquidate", legs[0].log.address, user=legs[0].args["user"])
        and event.args["asset"] not in {leg.args["asset"] for leg in legs}
    )


def _liquidation(legs: list[Sibling], transfers: list[Sibling]) -> Iterator[LendingLiquidation]:
    repaid = [_leg(leg, "shareAmountRepaid") for leg in legs if leg.number("shareAmountRepaid")]
    seized = [_leg(leg, "seizedCollateral") for leg in legs if leg.number("seizedCollateral")]
    log = legs[0].log
    paid = [one for one in transfers if one.args["from"] == log.address]
    paid = [one for one in paid if one.log.address in {leg.asset for leg in seized}]
    takers = {one.text("to") for one in paid}
    row = LendingLiquidation(
        legs[0].venue or "", log.event_key, log.block_number, log.block_hash, log.tx_hash,
        log.log_index, log.address, log.address, "lending", "repay_seize", legs[0].text("user"),
        None, takers.pop() if len(takers) == 1 else None, None, None, False, SPEC.decoder_version,
    )  # fmt: skip
    for number, (debt, collateral) in enumerate(zip_longest(repaid, seized)):
        part = row if number == 0 else row.part(number)
        part = part.with_(repaid=debt, seized=collateral)
        yield part if row.liquidator is None else _with_fee(part, paid)


def _leg(leg: Sibling, amount: str) -> Leg:
    return Leg(leg.text("asset"), leg.number(amount))


def _with_fee(row: LendingLiquidation, paid: list[Sibling]) -> LendingLiquidation:
    """What of the collateral the silo did not pay out it kept.

    silo-finance/silo-core-v1:contracts/BaseSilo.sol, _applyLiquidationFee"""
    if row.seized is None:
        return row
    given = sum(one.number("value") for one in paid if one.log.address == row.seized.asset)
    if not 0 < given <= row.seized.raw:
        return row
    return row.with_(protocol_fee_raw=row.seized.raw - given, fee_in_seized=True)


def _silo(missing: MissingFact, deployed: Sequence[Deployment]) -> Inquiry:
    """The emitter names its repository, which must know it and have one of the factories.

    silo-finance/silo-core-v1:contracts/interfaces/ISiloRepository.sol, contracts/SiloFactory.sol"""
    (named,) = yield [call(missing.subject, "siloRepository()")]
    repository = address_of(named)
    if repository is None or repository == NOBODY:
        return ()
    factories = [one for one in deployed if one.role == "factory"]
    known, *repositories = yield [
        call(repository, "isSilo(address)", missing.subject),
        *(call(one.address, "siloRepository()") for one in factories),
    ]
    names = {
        one.name
        for one, answer in zip(factories, repositories, strict=True)
        if address_of(answer) == repository
    }
    if not bool_of(known) or len(names) != 1:
        return ()
    return (missing.told(f"{names.pop()}/silo"),)


def oracle(subject: Subject, deployed: Sequence[Deployment]) -> Dialogue[Quote | NoQuote]:
    """Of a whole token, in base units of the token that the repository of prices quotes in.

    silo-finance/silo-core-v1:contracts/interfaces/IPriceProvidersRepository.sol"""
    silo, asset = subject.market, subject.asset
    way = yield from followed(silo, "siloRepository()", "priceProvidersRepository()")
    if isinstance(way, NoQuote):
        return way
    prices = way[-1]
    quoted, priced, counted, held = yield [
        call(prices, "quoteToken()"),
        call(prices, "getPrice(address)", asset),
        call(asset, "decimals()"),
        call(silo, "interestData(address)", asset),
    ]
    # harvested and open fees, a time and the state of the asset, 0 where it has none
    if not uint_of(held, 3, of=4):
        return NOT_LISTED
    unit, price, places = address_of(quoted), number_of(priced), decimals_of(counted)
    if isinstance(price, NoQuote):
        return price
    if isinstance(places, NoQuote):
        return places
    if unit is None or unit == NOBODY:
        return NoQuote("the unit of the oracle is unknown")
    if unit == asset:
        return unit_itself(asset, way)
    return Quote(scaled(price, places), unit, way)


SPEC = ProtocolSpec(
    name="silo_v1",
    kind="lending",
    evidence="real",
    contracts={
        "factory": Contract(
            abi="silo_v1_factory.json",
            events={"NewSiloCreated": FactMap(proves={"silo": "silo"})},
        ),
        "silo": Contract(abi="silo_v1_silo.json", events={"Liquidate": SIBLING}),
        # nobody's role: with it, the event of an unknown silo is kept, and its emitter asked about
        "unproved": Contract(
            abi="silo_v1_silo.json",
            events={
                "Liquidate": EventMap(
                    account="user",
                    repaid=("asset", "shareAmountRepaid"),
                    seized=("asset", "seizedCollateral"),
                )
            },
        ),
    },
    bystander=Contract(abi="erc20.json", events={"Transfer": SIBLING}),
    join=join,
    deployments=deployments("silo_v1"),
    asks={EMITTER_FACT: _silo},
    oracle=oracle,
    # no bonus: all collateral is taken, however much it is worth
    methodology=(
        "The logs of a silo for one `user`, one after the other and each of another `asset`, are"
        " one liquidation: debt is each `shareAmountRepaid`, an amount of the token in spite of"
        " its name, collateral each `seizedCollateral`; what there is more than one of is a"
        " further part. The liquidator is whom the silo paid the collateral to, unknown where that"
        " is more than one; of the collateral the silo kept what is more than the `value` that it"
        " paid out."
        " No bounds of the bonus: the liquidator takes all of the collateral and sells it himself."
    ),
)
