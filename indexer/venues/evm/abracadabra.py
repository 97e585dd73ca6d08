"""Abracadabra. A cauldron lends MIM against one token, of which it counts shares of a box. From
version 3.1 on it logs liquidations; before, only the two halves of each, as those who repay and
withdraw by themselves also do.

Halves of a liquidation stand side by side. Whoever withdraws has the box move the shares before
anything else, and whoever repays has it move the MIM before that: both log a transfer in between.
Abracadabra-money/magic-internet-money:contracts/CauldronV2.sol, _removeCollateral, _repay and
liquidate; contracts/flat/CauldronMediumRiskV1.sol, contracts/CauldronV3_1.sol
"""

from collections.abc import Iterable, Iterator, Sequence

from indexer.abi_calls import address_of, call, getter
from indexer.evm_model import (
    EMITTER,
    EMITTER_FACT,
    SIBLING,
    USD,
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
    Lookup,
    MissingFact,
    NoQuote,
    Par,
    ProtocolSpec,
    Quote,
    ShareRate,
    Sibling,
    Subject,
    UndecodedLog,
    Value,
)
from indexer.oracles import NOT_LISTED, contract_of, number_of, scaled
from indexer.venues.evm import deployments
from indexer.venues.evm.comet import RATIO

MIM = Lookup("abracadabra_mim", (EMITTER,))
DEPLOYMENTS = deployments("abracadabra")
MASTERS = frozenset(one.address.lower() for one in DEPLOYMENTS if one.role == "master")


def _clone(args: dict[str, Value]) -> Iterator[tuple[str, str, str]]:
    """A box deploys clones of any master: on Ethereum it is Sushi's, with Kashi's pairs in it."""
    if args["masterContract"] in MASTERS:
        yield EMITTER_FACT, str(args["cloneAddress"]), "abracadabra/cauldron"


def join(events: Sequence[Joinable], facts: Facts) -> Iterable[LendingLiquidation | UndecodedLog]:
    """Make rows of two halves side by side that no event follows which says it whole."""
    at = {event.log_index: event for event in events}
    for event in events:
        match event, at.get(event.log_index - 1):
            case LendingLiquidation(), _:
                yield event
            case Sibling(name="LogRepay") as repaid, Sibling(name="LogRemoveCollateral") as taken:
                is_whole = isinstance(at.get(event.log_index + 1), LendingLiquidation)
                if not is_whole and _is_of_one(repaid, taken):
                    yield _liquidated(repaid, taken, facts)


def _is_of_one(repaid: Sibling, taken: Sibling) -> bool:
    return taken.says("LogRemoveCollateral", repaid.log.address, from_=repaid.args["to"])


def _liquidated(repaid: Sibling, taken: Sibling, facts: Facts) -> LendingLiquidation | UndecodedLog:
    """At the place of the repayment, as if the cauldron had said it."""
    log, venue, cauldron = repaid.log, repaid.venue or "", repaid.log.address
    missing = MissingFact(log.chain, MIM.fact, cauldron)
    key = (missing.chain, missing.fact, missing.subject)
    if key not in facts:
        return UndecodedLog(venue, log, str(missing), SPEC.decoder_version, missing)
    return LendingLiquidation(
        venue=venue,
        event_key=log.event_key,
        block_number=log.block_number,
        block_hash=log.block_hash,
        tx_hash=log.tx_hash,
        log_index=log.log_index,
        emitter=cauldron,
        market=cauldron,
        kind=SPEC.kind,
        method="repay_seize",
        account=repaid.text("to"),
        owner=None,
        liquidator=repaid.text("from"),
        repaid=Leg(facts[key], repaid.number("amount")),
        seized=Leg(cauldron, taken.number("share")),
        seized_is_shares=True,
        decoder_version=SPEC.decoder_version,
    )


def _cauldron(missing: MissingFact, deployed: Sequence[Deployment]) -> Inquiry:
    """A box tells of what it was cloned, the zero address of what it did not clone.

    Abracadabra-money/abracadabra-money-contracts:src/interfaces/IBentoBoxV1.sol"""
    boxes = [one for one in deployed if one.role == "box"]
    masters = {one.address.lower(): one.name for one in deployed if one.role == "master"}
    answers = yield [
        call(one.address, "masterContractOf(address)", missing.subject) for one in boxes
    ]
    names = {masters[master] for one in answers if (master := address_of(one)) in masters}
    return (missing.told(f"{names.pop()}/cauldron"),) if len(names) == 1 else ()


SHARES = 10**18  # what a rate is asked for


def _rate_of(cauldron: str) -> Dialogue[tuple[str, int | NoQuote] | None]:
    """The cauldron's collateral and what its box would give for shares of it; a box that has none
    gives as much. Abracadabra-money/abracadabra-money-contracts:src/interfaces/IBentoBoxV1.sol"""
    boxed, named = yield [call(cauldron, "bentoBox()"), call(cauldron, "collateral()")]
    box, token = contract_of(boxed), contract_of(named)
    if box is None or token is None:
        return None
    (answer,) = yield [call(box, "toAmount(address,uint256,bool)", token, SHARES, 0)]
    return token, number_of(answer)


def share_rate(chain: str, asset: str, block_number: int) -> Dialogue[ShareRate | None]:
    """Shares of a box are named by the cauldron that they were taken from."""
    found = yield from _rate_of(asset)
    if found is None or isinstance(found[1], NoQuote):
        return None
    return ShareRate(chain, asset, block_number, found[0], SHARES, found[1])


def oracle(subject: Subject, deployed: Sequence[Deployment]) -> Dialogue[Quote | NoQuote]:
    """The rate that the cauldron stored, as every liquidation makes it do first: base units of
    collateral for one dollar, which is 10**18 of MIM.

    Abracadabra-money/abracadabra-money-contracts:src/cauldrons/CauldronV4.sol,
    updateExchangeRate"""
    cauldron = subject.market
    if subject.asset != cauldron:
        return NOT_LISTED
    (told,) = yield [call(cauldron, "exchangeRate()")]
    exchange = number_of(told)
    if isinstance(exchange, NoQuote):
        return exchange
    found = yield from _rate_of(cauldron)
    rate = NO_RATE if found is None else found[1]
    if isinstance(rate, NoQuote):
        return NO_RATE
    is_ours = any((one.chain, one.address.lower()) == (subject.chain, cauldron) for one in deployed)
    return Quote(
        RATIO.divide(scaled(rate, 0), scaled(exchange * SHARES, 0)),
        USD,
        (cauldron,),
        trust="governed" if is_ours else "market",
    )


NO_RATE = NoQuote("the shares do not tell their rate")

SPEC = ProtocolSpec(
    name="abracadabra",
    kind="lending",
    contracts={
        "box": Contract(abi="abracadabra_box.json", events={"LogDeploy": FactMap(also=_clone)}),
        "master": Contract(abi="abracadabra_master.json", events={}),
        "cauldron": Contract(
            abi="abracadabra_cauldron.json",
            events={
                "LogLiquidation": EventMap(
                    account="user",
                    liquidator="from",
                    repaid=(MIM, "borrowAmount"),
                    seized=(EMITTER, "collateralShare"),
                    seized_is_shares=True,
                ),
                "LogRemoveCollateral": SIBLING,
                "LogRepay": SIBLING,
            },
        ),
    },
    join=join,
    # of the versions without an event no log would make us ask who the emitter is: all are listed
    deployments=DEPLOYMENTS,
    # Abracadabra-money/abracadabra-money-contracts:src/cauldrons/CauldronV4.sol
    asks={EMITTER_FACT: _cauldron, MIM.fact: getter("magicInternetMoney()")},
    share_rate=share_rate,
    oracle=oracle,
    par=Par(
        MIM.fact,
        18,
        "Abracadabra-money/magic-internet-money:contracts/flat/YearnChainLinkOracleV1.sol, where"
        " the feed of a dollar stands for MIM",
    ),
    # No bonus: each cauldron has its own, which its owner sets without a limit. No fee rule: later
    # versions have the liquidator pay a tenth of it in MIM beside the debt.
    is_permissionless=True,
    methodology=(
        "Debt `borrowAmount` in MIM; collateral `collateralShare` are shares of the emitting"
        " cauldron's token in its box. Versions 1 to 3 log no liquidation: a row is a repayment"
        " `amount` right after a withdrawal of `share` of the same account, which nothing but a"
        " liquidation logs. Anybody can clone a cauldron, with any token and oracle."
        " No bounds of the bonus: each cauldron has its own, and collateral may run short."
    ),
)
