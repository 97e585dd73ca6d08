"""Euler v1, which ended with the exploit of 13 March 2023. All of it is one contract, which counts
every token as if it had 18 decimals; the debt moves to the liquidator.

euler-xyz/euler-contracts:contracts/modules/Liquidation.sol, contracts/BaseLogic.sol
"""

from collections.abc import Sequence
from decimal import Decimal

from indexer.abi_calls import call, uint_of
from indexer.evm_model import (
    Bonus,
    Contract,
    Deployment,
    Dialogue,
    EventMap,
    Inquiry,
    Leg,
    LendingLiquidation,
    Lookup,
    MissingFact,
    NoQuote,
    ProtocolSpec,
    Quote,
    Subject,
    Value,
)
from indexer.oracles import (
    NO_DECIMALS,
    REVERTS,
    UNKNOWN_ORACLE,
    UNREADABLE,
    ZERO,
    decimals_of,
    scaled,
    unit_itself,
)
from indexer.venues.evm import deployments
from indexer.venues.evm.aave_v2 import ETHER

UNITS = "euler_v1_units"  # of a token: itself and its decimals, TOKEN/DECIMALS
DECIMALS = 18  # the most a token may have; contracts/modules/Markets.sol, doActivateMarket
WETH = ETHER["ethereum"]  # prices count in it; contracts/modules/RiskManager.sol, getPriceInternal


def _in_base_units(row: LendingLiquidation, args: dict[str, Value]) -> LendingLiquidation:
    """What is less than a base unit is dropped."""

    def leg(counted: Leg | None) -> Leg | None:
        token, _, places = ((counted and counted.asset) or "").partition("/")
        if counted is None or not places:
            return None
        return Leg(token, counted.raw // 10 ** (DECIMALS - int(places)))

    return row.with_(repaid=leg(row.repaid), seized=leg(row.seized))


def _units(missing: MissingFact, deployed: Sequence[Deployment]) -> Inquiry:
    (answer,) = yield [call(missing.subject, "decimals()")]
    places = uint_of(answer, bits=8)
    if places is None or places > DECIMALS:
        return ()
    return (missing.told(f"{missing.subject}/{places}"),)


def oracle(subject: Subject, deployed: Sequence[Deployment]) -> Dialogue[Quote | NoQuote]:
    """What liquidations went by: the average of a time, of a whole token, in wei.

    euler-xyz/euler-contracts:contracts/modules/Exec.sol, getPriceFull"""
    asset = subject.asset
    asked = [one for one in deployed if (one.chain, one.role) == (subject.chain, "exec")]
    if not asked:
        return UNKNOWN_ORACLE
    (exec_module,) = (one.address.lower() for one in asked)
    if asset == WETH:
        return unit_itself(WETH, (exec_module,))
    priced, counted = yield [
        call(exec_module, "getPriceFull(address)", asset),
        call(asset, "decimals()"),
    ]
    price, places = uint_of(priced, 0, of=3), decimals_of(counted)
    if price is None:
        return UNREADABLE if priced.is_ok else REVERTS
    if price == 0:
        return ZERO
    if isinstance(places, NoQuote):
        return NO_DECIMALS
    return Quote(scaled(price, places), WETH, (exec_module,), trust="market")


SPEC = ProtocolSpec(
    name="euler_v1",
    kind="lending",
    contracts={
        "euler": Contract(
            abi="euler_v1.json",
            events={
                "Liquidation": EventMap(
                    account="violator",
                    liquidator="liquidator",
                    method="debt_transfer",
                    repaid=(Lookup(UNITS, ("underlying",)), "repay"),
                    seized=(Lookup(UNITS, ("collateral",)), "yield"),
                    then=_in_base_units,
                )
            },
        ),
        "exec": Contract(abi="euler_v1_exec.json", events={}),
    },
    deployments=deployments("euler_v1"),
    asks={UNITS: _units},
    oracle=oracle,
    # 1 over what the discount leaves; the room below is for amounts of a few base units
    bonus=Bonus(
        Decimal("0.999"),
        Decimal("1.251"),
        "euler-xyz/euler-contracts:contracts/modules/Liquidation.sol, MAXIMUM_DISCOUNT",
    ),
    # the reserves' part is added to the liquidator's debt; contracts/modules/Liquidation.sol
    fee="none",
    is_permissionless=True,
    # of the exploit: messari/subgraphs:subgraphs/euler-finance, EULER_HACK_BLOCK_NUMBER
    methodology=(
        "Debt `repay` of the token `underlying`, taken over by the `liquidator`, who owes 2 % more"
        " to the reserves, which is not counted; collateral `yield` of the token `collateral`, by"
        " balances in the protocol. Both are logged with 18 decimals and are rounded down to base"
        " units. The `violator` is one of 256 accounts of its owner, whom nobody registered: the"
        " owner is unknown. The liquidations of 13 March 2023 from block 16,817,996 on are the"
        " exploit: accounts that had given their collateral away, liquidated by their own master."
        " They are rows like all others, since no column says so: leave that day out of totals."
    ),
)
