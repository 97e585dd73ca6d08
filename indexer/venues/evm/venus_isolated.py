"""Venus isolated pools and all of Venus outside BSC: Compound's event with three indexed arguments,
accounts healed as a whole, and bad debt that is logged."""

from collections.abc import Iterable, Iterator, Sequence

from indexer.abi_calls import WORD, address_of, bool_of, call, getter, uint_of
from indexer.evm_model import (
    EMITTER,
    EMITTER_FACT,
    NOBODY,
    SIBLING,
    CallResult,
    Contract,
    Deployment,
    EventMap,
    FactMap,
    Facts,
    Inquiry,
    Joinable,
    Leg,
    LendingLiquidation,
    Lookup,
    MissingFact,
    ProtocolSpec,
    Sibling,
    UndecodedLog,
)
from indexer.venues.evm import deployments
from indexer.venues.evm.compound_v2 import BONUS, SHARE_RATE, oracle

DEBT = (Lookup("underlying", (EMITTER,)), "repayAmount")


def join(events: Sequence[Joinable], facts: Facts) -> Iterable[LendingLiquidation | UndecodedLog]:
    """Add what the market kept, and to a healing its collateral and its bad debt."""
    transfers: list[Sibling] = []
    bad_debts: list[Sibling] = []
    for event in events:
        match event:
            case Sibling(name="BadDebtIncreased"):
                bad_debts.append(event)
            case Sibling():
                transfers.append(event)
            case LendingLiquidation(method="heal"):
                own = [d for d in bad_debts if _is_of(event, d)]
                bad_debts = [d for d in bad_debts if d not in own]
                yield from _healed(event, own, transfers)
                transfers = [t for t in transfers if t.args["from"] != event.account]
            case LendingLiquidation(seized=Leg(asset=str(market), raw=seized)):
                given = _shares(event.account, event.liquidator, market, transfers)
                yield event if given is None else _keeping(event, seized - given)
                transfers = [t for t in transfers if t.args["from"] != event.account]
    for bad_debt in bad_debts:
        yield bad_debt.alone("no HealBorrow after it", SPEC.decoder_version)


def _is_of(row: LendingLiquidation, bad_debt: Sibling) -> bool:
    return bad_debt.says("BadDebtIncreased", row.emitter, borrower=row.account)


def _keeping(row: LendingLiquidation, kept: int) -> LendingLiquidation:
    """What the liquidator did not get of the seized shares is what the market kept: older markets
    sent it to themselves, newer ones say only its worth in underlying, as `ProtocolSeize`.

    VenusProtocol/isolated-pools:contracts/VToken.sol, `_seize`"""
    return row if kept < 0 else row.with_(protocol_fee_raw=kept, fee_in_seized=True)


def _shares(account: str, to: str | None, market: str, transfers: list[Sibling]) -> int | None:
    """The last transfer of a market's shares between these two."""
    for transfer in reversed(transfers):
        if transfer.says("Transfer", market, from_=account, to=to):
            return transfer.number("value")
    return None


def _healed(
    row: LendingLiquidation, bad_debts: list[Sibling], transfers: list[Sibling]
) -> Iterator[LendingLiquidation]:
    """All collateral is seized before the first debt is healed: the row takes the first of it,
    further markets are parts.

    No log has the sum of it. What a newer market kept is not said in shares and so unknown, and
    `seized` is then only what the payer got."""
    written_off = sum(bad_debt.number("badDebtDelta") for bad_debt in bad_debts)
    asset = None if row.repaid is None else row.repaid.asset
    row = row.with_(bad_debt=Leg(asset, written_off))
    markets = dict.fromkeys(
        transfer.log.address
        for transfer in transfers
        if transfer.args["from"] == row.account and transfer.args["to"] == row.liquidator
    )
    if not markets:
        yield row
    for number, market in enumerate(markets):
        given = _shares(row.account, row.liquidator, market, transfers) or 0
        kept = _shares(row.account, market, market, transfers)
        part = row if number == 0 else row.part(number)
        yield part.with_(
            seized=Leg(market, given + (kept or 0)),
            protocol_fee_raw=kept,
            fee_in_seized=None if kept is None else True,
        )


def _market(missing: MissingFact, deployed: Sequence[Deployment]) -> Inquiry:
    """The emitter names its pool's comptroller, which must list it and be one that we know or that
    a pool registry knows. VenusProtocol/isolated-pools:contracts/Comptroller.sol"""
    (answer,) = yield [call(missing.subject, "comptroller()")]
    pool = address_of(answer)
    if pool is None or pool == NOBODY:  # a registry "names" the zero address for any stranger
        return ()
    registries = [one for one in deployed if one.role == "pool_registry"]
    listed, *pools = yield [
        call(pool, "isMarketListed(address)", missing.subject),
        *(call(one.address, "getPoolByComptroller(address)", pool) for one in registries),
    ]
    names = [one.name for one in deployed if one.address.lower() == pool]
    by_registry = zip(registries, pools, strict=True)
    names += [one.name for one, told in by_registry if _is_pool(told, pool)]
    return (missing.told(f"{names[0]}/market"),) if names and bool_of(listed) else ()


def _is_pool(told: CallResult, pool: str) -> bool:
    """A struct of name, creator, comptroller and two times, behind its own offset.

    VenusProtocol/isolated-pools:contracts/Pool/PoolRegistryInterface.sol"""
    return uint_of(told, 0, of=None) == WORD and address_of(told, 3, of=None) == pool


SPEC = ProtocolSpec(
    name="venus_isolated",
    kind="lending",
    contracts={
        "pool_registry": Contract(
            abi="venus_isolated_pool_registry.json",
            events={"MarketAdded": FactMap(proves={"vTokenAddress": "market"})},
        ),
        "comptroller": Contract(
            abi="venus_isolated_comptroller.json",
            events={"MarketSupported": FactMap(proves={"vToken": "market"})},
        ),
        "market": Contract(
            abi="venus_isolated_vtoken.json",
            events={
                "LiquidateBorrow": EventMap(
                    account="borrower",
                    liquidator="liquidator",
                    repaid=DEBT,
                    seized=("vTokenCollateral", "seizeTokens"),
                    seized_is_shares=True,
                ),
                "HealBorrow": EventMap(
                    account="borrower",
                    liquidator="payer",
                    method="heal",
                    repaid=DEBT,
                    seized_is_shares=True,
                ),
                "BadDebtIncreased": SIBLING,
            },
        ),
    },
    bystander=Contract(abi="erc20.json", events={"Transfer": SIBLING}),
    decoder_version=2,
    join=join,
    deployments=deployments("venus_isolated"),
    # VenusProtocol/isolated-pools:contracts/VTokenInterfaces.sol
    asks={EMITTER_FACT: _market, "underlying": getter("underlying()")},
    share_rate=SHARE_RATE,
    # VenusProtocol/isolated-pools:contracts/Comptroller.sol, liquidateCalculateSeizeTokens
    oracle=oracle("comptroller()"),
    bonus=BONUS,
    evidence="real",
    methodology=(
        "Debt `repayAmount` in the underlying of the emitting market; collateral `seizeTokens` are"
        " shares of `vTokenCollateral`, of which the market keeps what is more than the `value`"
        " that the liquidator gets. A healing takes the shares sent to the `payer`, with those"
        " that an older market sends to itself; what a newer one keeps of them is unknown. It"
        " writes off `badDebtDelta`."
    ),
)
