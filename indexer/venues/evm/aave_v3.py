"""Aave v3 and the forks that kept its event: Spark, HyperLend, ZeroLend, Avalon and others.

The event leaves out what the protocol keeps of the bonus, and the bad debt of v3.3 and later; both
stand in logs of the same call before it.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from indexer.evm_model import (
    SIBLING,
    Contract,
    Facts,
    Joinable,
    Leg,
    LendingLiquidation,
    ProtocolSpec,
    Sibling,
    UndecodedLog,
)
from indexer.venues.evm import deployments
from indexer.venues.evm.aave_v2 import BONUS, LIQUIDATION_CALL, oracle


def join(events: Sequence[Joinable], facts: Facts) -> Iterable[LendingLiquidation | UndecodedLog]:
    """Give each liquidation the fee and the deficits that its own call logged before it."""
    deficits: list[Sibling] = []
    transfers: list[Sibling] = []
    for event in events:
        match event:
            case Sibling(name="DeficitCreated"):
                deficits.append(event)
            case Sibling():
                transfers.append(event)
            case LendingLiquidation():
                of_this = [d for d in deficits if _is_deficit_of(event, d)]
                deficits = [d for d in deficits if d not in of_this]
                yield from _with_deficits(_with_fee(event, transfers), of_this)
                transfers = []
    for deficit in deficits:
        yield deficit.alone("no LiquidationCall of the account after it", SPEC.decoder_version)


def _is_deficit_of(row: LendingLiquidation, deficit: Sibling) -> bool:
    return deficit.says("DeficitCreated", row.emitter, user=row.account)


def _with_deficits(
    row: LendingLiquidation, deficits: list[Sibling]
) -> Iterable[LendingLiquidation]:
    """The deficit of the repaid asset belongs to the row, those of other debts are parts."""
    debts = [
        Leg(deficit.text("debtAsset"), deficit.number("amountCreated")) for deficit in deficits
    ]
    own = next((debt for debt in debts if row.repaid and debt.asset == row.repaid.asset), None)
    yield row.with_(bad_debt=own)
    others = (debt for debt in debts if debt is not own)
    for number, debt in enumerate(others, start=1):
        yield row.part(number, method="write_off", bad_debt=debt)


class _Move(NamedTuple):
    """A transfer that gives the liquidator all that was seized, paid out or as aTokens."""

    log_index: int
    atoken: str
    is_paid_out: bool


def _move(row: LendingLiquidation, transfer: Sibling) -> _Move | None:
    """The aToken pays the underlying out itself, or moves between the two as itself."""
    assert row.seized is not None and row.seized.asset is not None
    underlying, emitter = row.seized.asset, transfer.log.address
    given = {"to": row.liquidator, "value": row.seized.raw}
    if transfer.says("Transfer", underlying, **given):
        return _Move(transfer.log_index, transfer.text("from"), is_paid_out=True)
    if emitter != underlying and transfer.says("Transfer", emitter, from_=row.account, **given):
        return _Move(transfer.log_index, emitter, is_paid_out=False)
    return None


def _with_fee(row: LendingLiquidation, transfers: list[Sibling]) -> LendingLiquidation:
    """The fee is what the account's aToken moves after it has satisfied the liquidator.

    The last such move before the event is the call's own, whatever was logged before it. Anybody
    can call a token of his own an aToken: where none was paid out for, all must agree on one.
    aave-dao/aave-v3-origin:src/contracts/protocol/libraries/logic/LiquidationLogic.sol
    """
    moves = [move for transfer in transfers if (move := _move(row, transfer))]
    if not moves:
        return row
    own = moves[-1]
    if not own.is_paid_out and {move.atoken for move in moves} != {own.atoken}:
        return row
    fees = [
        transfer.number("value")
        for transfer in transfers
        if transfer.log_index > own.log_index
        and transfer.says("Transfer", own.atoken, from_=row.account)
    ]
    if len(fees) > 1:
        return row
    return row.with_(protocol_fee_raw=sum(fees), fee_in_seized=False)


SPEC = ProtocolSpec(
    name="aave_v3",
    kind="lending",
    contracts={
        "pool": Contract(
            abi="aave_v3_pool.json",
            events={"LiquidationCall": LIQUIDATION_CALL, "DeficitCreated": SIBLING},
        )
    },
    bystander=Contract(abi="erc20.json", events={"Transfer": SIBLING}),
    decoder_version=2,
    join=join,
    deployments=deployments("aave_v3"),
    # aave-dao/aave-v3-origin:src/contracts/interfaces/IPool.sol
    oracle=oracle("ADDRESSES_PROVIDER()"),
    bonus=BONUS,
    # aave-dao/aave-v3-origin:src/contracts/protocol/libraries/logic/LiquidationLogic.sol
    fee="on_top",
    evidence="real",
    methodology=(
        "Debt `debtToCover` of `debtAsset` and collateral `liquidatedCollateralAmount` of"
        " `collateralAsset`, which is what the liquidator received. The protocol's fee comes on"
        " top: the `value` that the account's aToken sends to the treasury in the same call, where"
        " the receipt was read. Bad debt is `amountCreated` of the call's deficits (v3.3 and"
        " later), a part of its own for each further `debtAsset`."
    ),
)
