"""Euler v2. The emitter is the vault that was borrowed from, collateral is another vault's shares,
and the debt moves to the liquidator. An account is one of 256 of its owner, who differs from it in
the last byte only; the Ethereum Vault Connector logs the owner once."""

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal

from indexer.abi_calls import address_of, call, getter, rate_by, uint_of, vouched_for
from indexer.evm_model import (
    EMITTER,
    EMITTER_FACT,
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
    Feed,
    Inquiry,
    Joinable,
    Learn,
    Leg,
    LendingLiquidation,
    Lookup,
    MissingFact,
    NoQuote,
    ProtocolSpec,
    PythFeed,
    Quote,
    RedstoneFeed,
    Sibling,
    Subject,
    UndecodedLog,
    Value,
)
from indexer.oracles import (
    UNKNOWN_UNIT,
    contract_of,
    feed_state,
    number_of,
    oracle_of,
    redstone_push,
    scaled,
    unit_itself,
)
from indexer.venues.evm import deployments

# 0x and 19 bytes; euler-xyz/ethereum-vault-connector:src/EthereumVaultConnector.sol
PREFIX = 2 + 2 * 19


def _asset(args: dict[str, Value]) -> Iterator[tuple[str, str, str]]:
    """A vault's proxy carries asset, oracle and unit of account, 20 bytes each.

    euler-xyz/euler-vault-kit:src/EVault/shared/lib/ProxyUtils.sol"""
    trailing = str(args["trailingData"])
    if len(trailing) == 2 + 2 * 60:
        yield "underlying", str(args["proxy"]), trailing[: 2 + 2 * 20]


def join(events: Sequence[Joinable], facts: Facts) -> Iterable[LendingLiquidation | UndecodedLog]:
    """Add the debt that was socialised just before; drop calls that did nothing at all: a healthy
    account can be "liquidated" for nothing, and the event is emitted all the same."""
    socialised: list[Sibling] = []
    for event in events:
        if isinstance(event, Sibling):
            socialised.append(event)
            continue
        own = [
            s for s in socialised if s.says("DebtSocialized", event.emitter, account=event.account)
        ]
        socialised = [s for s in socialised if s not in own]
        row = _with_bad_debt(event, own)
        if any(leg.raw for leg in (row.repaid, row.seized) if leg):
            yield row
        elif row.bad_debt:
            yield row.with_(method="write_off")
    for left in socialised:
        yield left.alone("no Liquidate of the account after it", SPEC.decoder_version)


def _with_bad_debt(row: LendingLiquidation, socialised: list[Sibling]) -> LendingLiquidation:
    if not socialised or row.repaid is None:
        return row
    raw = sum(event.number("assets") for event in socialised)
    return row.with_(bad_debt=Leg(row.repaid.asset, raw))


def _owner(missing: MissingFact, deployed: Sequence[Deployment]) -> Inquiry:
    """Nobody, where the connector has no owner yet. To borrow registers the owner, so that only a
    call that did nothing can name such an account; if it borrows later, a log tells its owner.

    euler-xyz/ethereum-vault-connector:src/EthereumVaultConnector.sol"""
    connectors = [one.address for one in deployed if one.role == "evc"]
    account = f"{missing.subject}00"  # any of the 256
    answers = yield [call(one, "getAccountOwner(address)", account) for one in connectors]
    match list({address_of(answer) for answer in answers} - {NOBODY}):
        case [str(owner)] if owner.startswith(missing.subject):
            return (missing.told(owner),)
        case [] if answers:
            return (missing.told(None),)
    return ()


# Both are asked, for the digits that 10**18 leaves in a unit of 8 decimals; vaults refuse more than
# 2**112 - 1. euler-xyz/euler-vault-kit:src/EVault/shared/Constants.sol, MAX_SANE_AMOUNT
QUOTED = (30, 18)
# By ISO 4217, with 18 decimals, as whatever states none.
# euler-xyz/euler-price-oracle:src/adapter/BaseAdapter.sol
DOLLAR = f"0x{840:040x}"
DOLLAR_DECIMALS = 18
MAX_CURRENCY = 999


def oracle(subject: Subject, deployed: Sequence[Deployment]) -> Dialogue[Quote | NoQuote]:
    """What the vault that was borrowed from has its router quote, for its own asset and for shares
    of collateral alike; the middle of bid and ask, as in a liquidation.

    euler-xyz/euler-vault-kit:src/EVault/modules/Liquidation.sol,
    euler-xyz/euler-price-oracle:src/EulerRouter.sol"""
    vault, asset = subject.market, subject.asset
    told, unit_told = yield [call(vault, "oracle()"), call(vault, "unitOfAccount()")]
    router, unit = oracle_of(told), address_of(unit_told)
    if isinstance(router, NoQuote):
        return router
    if unit is None or (unit != DOLLAR and int(unit, 16) <= MAX_CURRENCY):
        return UNKNOWN_UNIT
    if unit == asset:
        return unit_itself(asset, (vault,))
    answers = yield [
        call(router, "getQuote(uint256,address,address)", 10**places, asset, unit)
        for places in QUOTED
    ]
    quotes = [number_of(answer) for answer in answers]
    for places, quote in zip(QUOTED, quotes, strict=True):
        if not isinstance(quote, NoQuote):
            is_dollar = unit == DOLLAR
            per_unit = scaled(quote, places + (DOLLAR_DECIMALS if is_dollar else 0))
            adapter, feed, at_round = yield from _feed(router, asset, unit)
            return Quote(
                per_unit,
                USD if is_dollar else unit,
                (vault, router, *adapter),
                trust="market",
                feed=feed,
                feed_round=at_round,
            )
    return next(quote for quote in reversed(quotes) if isinstance(quote, NoQuote))


def _feed(
    router: str, asset: str, unit: str
) -> Dialogue[tuple[tuple[str, ...], Feed | None, int | None]]:
    """The adapter that the router chooses, if it is Euler's own router, and what that reads, if it
    is one feed: Pyth's, RedStone's or Chainlink's. Whether the adapter says any more than its feed,
    as shares or the reciprocal of a price do, is seen when the feed moves.

    euler-xyz/euler-price-oracle:src/adapter/pyth/PythOracle.sol, redstone/RedstoneCoreOracle.sol,
    chainlink/ChainlinkOracle.sol"""
    (way,) = yield [
        call(router, "resolveOracle(uint256,address,address)", 10 ** QUOTED[-1], asset, unit)
    ]
    adapter = address_of(way, 3, of=4)
    if adapter is None or adapter == NOBODY:
        return (), None, None
    contract, price_id, cache, proxy = yield [
        call(adapter, "pyth()"),
        call(adapter, "feedId()"),
        call(adapter, "cache()"),
        call(adapter, "feed()"),
    ]
    feed: Feed | None = contract_of(proxy)
    if (pyth := contract_of(contract)) and (number := uint_of(price_id)):
        feed = PythFeed(pyth, f"0x{number:064x}")
    elif uint_of(cache, 1, of=2):
        feed = RedstoneFeed(adapter)
    if feed is None:
        return (adapter,), None, None
    state = yield from feed_state(feed)
    if isinstance(feed, str) and state.emitter is None:
        # no proxy of Chainlink's: of RedStone's, or by whose logs it changes nobody knows
        push, state = yield from redstone_push(feed)
        return (adapter,), push if state.answer else None, None
    return (adapter,), feed, state.round


SPEC = ProtocolSpec(
    name="euler_v2",
    kind="lending",
    contracts={
        "factory": Contract(
            abi="euler_v2_factory.json",
            events={"ProxyCreated": FactMap(proves={"proxy": "vault"}, also=_asset)},
        ),
        "evc": Contract(
            abi="euler_v2_evc.json",
            events={
                "OwnerRegistered": FactMap(
                    learns=(Learn("evc_owner", ("addressPrefix",), ("owner",)),)
                )
            },
        ),
        "vault": Contract(
            abi="euler_v2_vault.json",
            events={
                "Liquidate": EventMap(
                    account="violator",
                    owner=Lookup("evc_owner", ("violator",), head=PREFIX),
                    liquidator="liquidator",
                    method="debt_transfer",
                    repaid=(Lookup("underlying", (EMITTER,)), "repayAssets"),
                    seized=("collateral", "yieldBalance"),
                    seized_is_shares=True,
                ),
                "DebtSocialized": SIBLING,
            },
        ),
    },
    join=join,
    # who liquidates himself there does so of his own will, in four topics instead of three:
    # alchemix-finance/v2-foundry:src/interfaces/alchemist/IAlchemistV2Events.sol
    look_alike="alchemix_v2.json",
    deployments=deployments("euler_v2"),
    asks={
        # euler-xyz/euler-vault-kit:src/GenericFactory/GenericFactory.sol
        EMITTER_FACT: vouched_for("factory", "isProxy(address)", "vault"),
        # euler-xyz/euler-vault-kit:src/EVault/IEVault.sol
        "underlying": getter("asset()"),
        "evc_owner": _owner,
    },
    share_rate=rate_by("convertToAssets(uint256)", 10**18, underlying="asset()"),
    oracle=oracle,
    # 1 over what the discount leaves, which is 0.0001 at least; the room below is for amounts of a
    # few base units, which are rounded
    bonus=Bonus(
        Decimal("0.999"),
        Decimal(10_000),
        "euler-xyz/euler-vault-kit:src/EVault/modules/Governance.sol, setMaxLiquidationDiscount",
    ),
    # euler-xyz/euler-vault-kit:src/EVault/modules/Liquidation.sol
    fee="none",
    is_permissionless=True,
    evidence="real",
    methodology=(
        "Debt `repayAssets` in the asset of the emitting vault, taken over by the `liquidator`;"
        " collateral `yieldBalance` are shares of the vault `collateral`. Bad debt is `assets` of"
        " the debt socialised in the same call. A call with both amounts zero is no liquidation."
        " The owner of the account `violator` is the connector's `owner` of its `addressPrefix`."
    ),
)
