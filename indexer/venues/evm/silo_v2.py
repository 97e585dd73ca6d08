"""Silo v2. The emitter is the hook of a market of two silos, one for each token; only the silo of
the debt is named. Collateral may be of the same silo, so that whose shares the account lost tells.

silo-finance/silo-contracts-v2:silo-core/contracts/hooks/liquidation/PartialLiquidation.sol
"""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import NamedTuple

from indexer.abi_calls import address_of, bool_of, call
from indexer.evm_model import (
    EMITTER,
    EMITTER_FACT,
    NOBODY,
    SIBLING,
    Bonus,
    CallResult,
    Contract,
    Deployment,
    Dialogue,
    EventMap,
    Facts,
    Inquiry,
    Joinable,
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
)
from indexer.oracles import (
    NOT_LISTED,
    UNKNOWN_UNIT,
    UNREADABLE,
    number_of,
    scaled,
    unit_itself,
)
from indexer.venues.evm import deployments

MARKET = Lookup("silo_v2_market", (EMITTER,))  # CONFIG/SILO/TOKEN/PROTECTED/SILO/TOKEN/PROTECTED
WORDS = 17  # of a silo's ConfigData; silo-core/contracts/interfaces/ISiloConfig.sol
TOKEN, PROTECTED, ORACLE, HOOK = 3, 4, 7, 15


class _Silo(NamedTuple):
    """A silo is its own share token; deposits that are not lent on have another one."""

    silo: str
    token: str
    protected: str


def join(events: Sequence[Joinable], facts: Facts) -> Iterable[LendingLiquidation | UndecodedLog]:
    """Give each liquidation the tokens of its market. In a defaulting one nobody repays: lenders
    of the debt give up deposits and take the collateral, which the silo of the debt logs first."""
    transfers: list[Sibling] = []
    defaulted: set[str] = set()
    for event in events:
        match event:
            case LendingLiquidation():
                yield event
            case Sibling(name="DefaultingLiquidation"):
                defaulted.add(event.log.address)
            case Sibling(name="Transfer"):
                transfers.append(event)
            case Sibling(args={"borrower": _, "silo": silo}):
                yield _row(event, transfers, facts, is_default=silo in defaulted)
                transfers, defaulted = [], set()
            case Sibling():
                reason = "an older shape of the event, which names no account"
                yield event.alone(reason, SPEC.decoder_version)


def _row(
    call: Sibling, transfers: list[Sibling], facts: Facts, *, is_default: bool
) -> LendingLiquidation | UndecodedLog:
    log, account = call.log, call.text("borrower")
    key = log.chain, MARKET.fact, log.address
    if key not in facts:
        missing = MissingFact(*key)
        return UndecodedLog(call.venue or "", log, str(missing), SPEC.decoder_version, missing)
    config, *words = (facts[key] or "").split("/")
    silos = [_Silo(*words[at : at + 3]) for at in (0, 3) if len(words) == 6]
    debt = next((one for one in silos if one.silo == call.args["silo"]), None)
    if debt is None:
        return call.alone("a silo that is not of this market", SPEC.decoder_version)
    lost = {one.log.address for one in transfers if one.args["from"] == account}
    taken = [one.token for one in silos if lost & {one.silo, one.protected}]
    collateral = taken[0] if len(taken) == 1 else None
    return LendingLiquidation(
        call.venue or "", log.event_key, log.block_number, log.block_hash, log.tx_hash,
        log.log_index, log.address, config, "lending", "absorb" if is_default else "repay_seize",
        account, None, call.text("liquidator"), Leg(debt.token, call.number("repayDebtAssets")),
        Leg(collateral, call.number("withdrawCollateral")), False, SPEC.decoder_version,
    )  # fmt: skip


def _configs(config: str) -> Dialogue[tuple[CallResult, CallResult] | None]:
    """What a market's configuration says of each silo."""
    (silos,) = yield [call(config, "getSilos()")]
    first, second = address_of(silos, 0, of=2), address_of(silos, 1, of=2)
    if first is None or second is None:
        return None
    one, other = yield [call(config, "getConfig(address)", silo) for silo in (first, second)]
    return one, other


def _named(told: CallResult, at: int) -> str | None:
    return address_of(told, at, of=WORDS)


def _config_of(hook: str) -> Dialogue[str | None]:
    (answer,) = yield [call(hook, "siloConfig()")]
    config = address_of(answer)
    return None if config == NOBODY else config


def _hook(missing: MissingFact, deployed: Sequence[Deployment]) -> Inquiry:
    """The emitter names its configuration, which must name it back, and whose silos must name the
    configuration and be of a factory.

    silo-finance/silo-contracts-v2:silo-core/contracts/SiloFactory.sol, IShareToken.sol"""
    config = yield from _config_of(missing.subject)
    told = None if config is None else (yield from _configs(config))
    if told is None:
        return ()
    silo = _named(told[0], 2)
    if silo is None or missing.subject not in {_named(one, HOOK) for one in told}:
        return ()
    factories = [one for one in deployed if one.role == "factory"]
    back, *listed = yield [
        call(silo, "siloConfig()"),
        *(call(one.address, "isSilo(address)", silo) for one in factories),
    ]
    names = {one.name for one, answer in zip(factories, listed, strict=True) if bool_of(answer)}
    if address_of(back) != config or len(names) != 1:
        return ()
    return (missing.told(f"{names.pop()}/hook"),)


def _market(missing: MissingFact, deployed: Sequence[Deployment]) -> Inquiry:
    config = yield from _config_of(missing.subject)
    told = None if config is None else (yield from _configs(config))
    if told is None:
        return ()
    words = [_named(one, at) for one in told for at in (2, TOKEN, PROTECTED)]
    if None in words:
        return ()
    return (missing.told("/".join(map(str, (config, *words)))),)


# Both are asked, for the digits that 10**18 leaves of a token of many; some oracles refuse more
QUOTED = (30, 18)


def oracle(subject: Subject, deployed: Sequence[Deployment]) -> Dialogue[Quote | NoQuote]:
    """What tells in a market whether an account is solvent. A token without an oracle counts as
    itself, and the other one's oracle quotes in it.

    silo-finance/silo-contracts-v2:silo-core/contracts/interfaces/ISiloOracle.sol"""
    config, asset = subject.market, subject.asset
    told = yield from _configs(config)
    if told is None:
        return UNREADABLE
    named = [_named(one, ORACLE) for one in told if _named(one, TOKEN) == asset]
    if not named:
        return NOT_LISTED
    source = named[0]
    if source is None:
        return UNREADABLE
    if source == NOBODY:
        return unit_itself(asset, (config,))
    quoted, *answers = yield [
        call(source, "quoteToken()"),
        *(call(source, "quote(uint256,address)", 10**places, asset) for places in QUOTED),
    ]
    unit = address_of(quoted)
    if unit is None or unit == NOBODY:
        return UNKNOWN_UNIT
    quotes = [number_of(answer) for answer in answers]
    for places, quote in zip(QUOTED, quotes, strict=True):
        if not isinstance(quote, NoQuote):
            return Quote(scaled(quote, places), unit, (config, source), trust="market")
    return next(quote for quote in reversed(quotes) if isinstance(quote, NoQuote))


SPEC = ProtocolSpec(
    name="silo_v2",
    kind="lending",
    contracts={
        "factory": Contract(abi="silo_v2_factory.json", events={}),
        "hook": Contract(abi="silo_v2_hook.json", events={"LiquidationCall": SIBLING}),
        # nobody's role: with it, the event of an unknown hook is kept, and its emitter asked about
        "unproved": Contract(
            abi="silo_v2_liquidation.json",
            events={
                "LiquidationCall": EventMap(
                    account="borrower", market=MARKET, liquidator="liquidator"
                )
            },
        ),
    },
    bystander=Contract(
        abi="silo_v2_beside.json",
        events={"Transfer": SIBLING, "DefaultingLiquidation": SIBLING},
    ),
    needs_receipt=True,
    join=join,
    deployments=deployments("silo_v2"),
    asks={EMITTER_FACT: _hook, MARKET.fact: _market},
    oracle=oracle,
    # 1 plus the liquidation fee, which is the liquidator's, of at most 0.3 by the factory; the
    # room below is for amounts of a few base units, which are rounded
    bonus=Bonus(
        Decimal("0.999"),
        Decimal("1.301"),
        "silo-finance/silo-contracts-v2:silo-core/contracts/SiloFactory.sol, maxLiquidationFee",
    ),
    # silo-finance/silo-contracts-v2:silo-core/contracts/hooks/liquidation/PartialLiquidation.sol
    fee="none",
    is_permissionless=True,
    methodology=(
        "Debt `repayDebtAssets` in the token of `silo`; collateral `withdrawCollateral` in the"
        " token of that silo of the market whose shares the `borrower` lost just before; where no"
        " shares tell, it is of an unknown token. With `receiveSToken` the liquidator got shares,"
        " and the amount is what they were worth. The market is the configuration that the hook"
        " names. Where `canceledDebt` was logged by the silo of the debt nobody repaid: lenders"
        " gave up deposits and got the collateral, by the method absorb, and what of the debt is"
        " more than `deductedFromCollateral` is not counted as bad debt. Two older shapes of the"
        " event name no account and are kept undecoded."
    ),
)
