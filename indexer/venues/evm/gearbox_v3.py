"""Gearbox v3. A full liquidation logs no amounts: what the pool was paid just before is its debt,
and the pool says what was fee and what was lost. A partial one, from 3.1 on, logs all of it.

Gearbox-protocol/core-v3:contracts/credit/CreditFacadeV3.sol, contracts/credit/CreditManagerV3.sol
"""

from collections.abc import Iterable, Sequence

from indexer.abi_calls import WORD, address_of, bool_of, call, getter, uint_of
from indexer.evm_model import (
    EMITTER,
    EMITTER_FACT,
    NOBODY,
    SIBLING,
    USD,
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
    OracleOf,
    ProtocolSpec,
    Quote,
    Sibling,
    Subject,
    Trust,
    UndecodedLog,
    Value,
)
from indexer.oracles import contract_of, followed, number_of, scaled
from indexer.venues.evm import deployments

MANAGER = Lookup("gearbox_credit_manager", (EMITTER,))
POOL = Lookup("gearbox_pool", (MANAGER,))
UNDERLYING = Lookup("gearbox_underlying", (MANAGER,))


def whole_account(row: LendingLiquidation, args: dict[str, Value]) -> LendingLiquidation:
    """The event has no debt; the join looks for it, and nothing tells the collateral."""
    return row.with_(repaid=row.repaid and Leg(row.repaid.asset, 0))


# `remainingFunds` is only here to name the asset; the join needs the pool
FULL = EventMap(
    account="creditAccount",
    owner=POOL,
    liquidator="liquidator",
    market=MANAGER,
    repaid=(UNDERLYING, "remainingFunds"),
    then=whole_account,
)


def join(events: Sequence[Joinable], facts: Facts) -> Iterable[LendingLiquidation | UndecodedLog]:
    """Give full liquidations the debt that was paid back since the one before."""
    repayments: list[Sibling] = []
    transfers: list[Sibling] = []
    for event in events:
        match event:
            case Sibling(name="Repay"):
                repayments.append(event)
            case Sibling():
                transfers.append(event)
            case LendingLiquidation(owner=str(pool)):
                yield _with_debt(event.with_(owner=None), pool, repayments, transfers)
                repayments, transfers = [], []
            case LendingLiquidation():
                yield event


def _with_debt(
    row: LendingLiquidation, pool: str, repayments: list[Sibling], transfers: list[Sibling]
) -> LendingLiquidation:
    """The last payment to the pool before it is told of one, less the fees in it."""
    own = [one for one in repayments if one.says("Repay", pool, creditManager=row.market)]
    if not own or row.repaid is None or row.repaid.asset is None:
        return row.with_(repaid=None)
    underlying, repayment = row.repaid.asset, own[-1]
    paid = [
        one.number("value")
        for one in transfers
        if one.log_index < repayment.log_index and one.says("Transfer", underlying, to=pool)
    ]
    debt = paid[-1] - repayment.number("profit") if paid else -1
    return row.with_(
        repaid=None if debt < 0 else Leg(underlying, debt),
        bad_debt=Leg(underlying, repayment.number("loss")) if repayment.number("loss") else None,
    )


def registered(missing: MissingFact, registers: dict[str, str], role: str) -> Inquiry:
    """The emitter names its credit manager, which must name it back and be in a register; these
    are by address, with the name of who vouches for them.

    Gearbox-protocol/core-v3:contracts/interfaces/base/IContractsRegister.sol"""
    (named,) = yield [call(missing.subject, "creditManager()")]
    manager = contract_of(named)
    if manager is None:
        return ()
    back, *listed = yield [
        call(manager, "creditFacade()"),
        *(call(register, "isCreditManager(address)", manager) for register in registers),
    ]
    names = {
        name for name, answer in zip(registers.values(), listed, strict=True) if bool_of(answer)
    }
    if address_of(back) != missing.subject or len(names) != 1:
        return ()
    return (missing.told(f"{names.pop()}/{role}"),)


def _key(text: str) -> str:
    return "0x" + text.encode().hex().ljust(2 * WORD, "0")


# Gearbox-protocol/core-v3:contracts/interfaces/IAddressProviderV3.sol,
# Gearbox-protocol/permissionless:contracts/libraries/ContractLiterals.sol
REGISTER, CONFIGURATORS = _key("CONTRACTS_REGISTER"), _key("MARKET_CONFIGURATOR_FACTORY")
PROVIDED = "getAddressOrRevert(bytes32,uint256)"
NO_VERSION = 0
MOST_CONFIGURATORS = 256  # there are some tens


def _facade(missing: MissingFact, deployed: Sequence[Deployment]) -> Inquiry:
    """In 3.0 there is one register; in 3.1 each curator's configurator has one, and a factory lists
    the configurators. A facade that its manager has replaced since is not proved.

    Gearbox-protocol/permissionless:contracts/interfaces/IMarketConfiguratorFactory.sol"""
    first = [one for one in deployed if one.role == "address_provider"]
    later = [one for one in deployed if one.role == "address_provider_v31"]
    answers = yield [
        *(call(one.address, PROVIDED, REGISTER, NO_VERSION) for one in first),
        *(call(one.address, PROVIDED, CONFIGURATORS, NO_VERSION) for one in later),
    ]
    found = list(zip([*first, *later], map(contract_of, answers), strict=True))
    registers = {at: one.name for one, at in found if at and one in first}
    factories = [(one.name, at) for one, at in found if at and one in later]
    lists = yield [call(at, "getMarketConfigurators()") for _, at in factories]
    configurators = [
        (name, at)
        for (name, _), told in zip(factories, lists, strict=True)
        for at in _addresses(told)
    ]
    named = yield [call(at, "contractsRegister()") for _, at in configurators]
    for (name, _), answer in zip(configurators, named, strict=True):
        if at := contract_of(answer):
            registers[at] = name
    return (yield from registered(missing, registers, "facade"))


def _addresses(told: CallResult) -> list[str]:
    """An array of them, behind its own offset and length."""
    count = uint_of(told, 1, of=None)
    if uint_of(told, 0, of=None) != WORD or count is None or count > MOST_CONFIGURATORS:
        return []
    found = [address_of(told, 2 + at, of=2 + count) for at in range(count)]
    return [one for one in found if one is not None and one != NOBODY]


PRICED = 30  # 10**30 base units, for digits that a whole token of few decimals would not show
PRICE_PLACES = 8


def oracle(trust: Trust) -> OracleOf:
    """What a credit manager has its oracle convert, into dollars.

    Gearbox-protocol/core-v3:contracts/interfaces/IPriceOracleV3.sol, convertToUSD"""

    def ask(subject: Subject, deployed: Sequence[Deployment]) -> Dialogue[Quote | NoQuote]:
        way = yield from followed(subject.market, "priceOracle()")
        if isinstance(way, NoQuote):
            return way
        (answer,) = yield [
            call(way[-1], "convertToUSD(uint256,address)", 10**PRICED, subject.asset)
        ]
        price = number_of(answer)
        if isinstance(price, NoQuote):
            return price
        return Quote(scaled(price, PRICED + PRICE_PLACES), USD, way, trust=trust)

    return ask


# Gearbox-protocol/core-v3:contracts/interfaces/ICreditFacadeV3.sol, ICreditManagerV3.sol
ASKS = {
    MANAGER.fact: getter("creditManager()"),
    POOL.fact: getter("pool()"),
    UNDERLYING.fact: getter("underlying()"),
}
BESIDE = Contract(abi="gearbox_pool.json", events={"Repay": SIBLING, "Transfer": SIBLING})

SPEC = ProtocolSpec(
    name="gearbox_v3",
    kind="lending",
    evidence="contracts",
    contracts={
        "address_provider": Contract(abi="gearbox_address_provider.json", events={}),
        "address_provider_v31": Contract(abi="gearbox_address_provider.json", events={}),
        "facade": Contract(
            abi="gearbox_v3_facade.json",
            events={
                "LiquidateCreditAccount": FULL,
                "PartiallyLiquidateCreditAccount": EventMap(
                    account="creditAccount",
                    liquidator="liquidator",
                    market=MANAGER,
                    repaid=(UNDERLYING, "repaidDebt"),
                    seized=("token", "seizedCollateral"),
                ),
            },
        ),
    },
    bystander=BESIDE,
    needs_receipt=True,
    join=join,
    deployments=deployments("gearbox_v3"),
    asks={EMITTER_FACT: _facade, **ASKS},
    # from 3.1 on whoever opened the market chose the oracle
    oracle=oracle("market"),
    # no bonus: the discount is a curator's, and a whole account's collateral is unknown.
    # The fee is paid in the underlying; contracts/credit/CreditFacadeV3.sol
    fee="none",
    is_permissionless=True,
    methodology=(
        "A part of an account: debt `repaidDebt`, without the `fee` that the liquidator paid with"
        " it, for `seizedCollateral` of `token`. A whole account: debt is the last `value` that the"
        " pool was paid before it logged the repayment, less the `profit` in it, so principal and"
        " interest; bad debt is the `loss`. The collateral of a whole account is unknown, and its"
        " debt too where nothing of that is in the transaction. An account is a `creditAccount`, a"
        " contract that is lent to one owner after another: its owner no event tells. The market is"
        " the credit manager."
        " No bounds of the bonus: of a whole account the collateral is unknown, of a part each"
        " manager sets its own."
    ),
)
