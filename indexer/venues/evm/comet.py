"""Compound v3. One absorbed account is an AbsorbDebt after an AbsorbCollateral for each asset.

`basePaidOut` is the change of the account's balance. What the collateral was worth above the debt
stays with the account as a positive balance, minted in the very next log: not debt. A later
BuyCollateral sells what the protocol took and is no second liquidation.
compound-finance/comet:contracts/Comet.sol, absorbInternal
"""

from collections.abc import Iterable, Sequence

from indexer.abi_calls import getter
from indexer.evm_model import (
    EMITTER,
    NOBODY,
    SIBLING,
    Contract,
    EventMap,
    Facts,
    Joinable,
    Leg,
    LendingLiquidation,
    Lookup,
    ProtocolSpec,
    Sibling,
    UndecodedLog,
)
from indexer.venues.evm import deployments


def join(events: Sequence[Joinable], facts: Facts) -> Iterable[LendingLiquidation | UndecodedLog]:
    """Take the refund out of the debt and give the row its collateral, a part for each asset."""
    collateral = [e for e in events if isinstance(e, Sibling) and e.name == "AbsorbCollateral"]
    after = {event.log_index - 1: event for event in events}
    for row in events:
        if isinstance(row, LendingLiquidation):
            own = [c for c in collateral if _is_of(row, c)]
            collateral = [c for c in collateral if c not in own]
            yield from _absorbed(row, _refund(row, after.get(row.log_index)), own)
    for taken in collateral:
        yield taken.alone("no AbsorbDebt of the account after it", SPEC.decoder_version)


def _is_of(row: LendingLiquidation, taken: Sibling) -> bool:
    return taken.log_index < row.log_index and taken.says(
        "AbsorbCollateral", row.emitter, borrower=row.account
    )


def _refund(row: LendingLiquidation, following: Joinable | None) -> int:
    if isinstance(following, Sibling) and following.says(
        "Transfer", row.emitter, from_=NOBODY, to=row.account
    ):
        return following.number("value")
    return 0


def _absorbed(
    row: LendingLiquidation, refund: int, taken: list[Sibling]
) -> Iterable[LendingLiquidation]:
    assert row.repaid is not None
    row = row.with_(repaid=Leg(row.repaid.asset, row.repaid.raw - refund))
    legs = [Leg(event.text("asset"), event.number("collateralAbsorbed")) for event in taken]
    yield row.with_(seized=legs[0] if legs else None)
    for number, leg in enumerate(legs[1:], start=1):
        yield row.part(number, seized=leg)


SPEC = ProtocolSpec(
    name="comet",
    kind="lending",
    contracts={
        "comet": Contract(
            abi="comet.json",
            events={
                "AbsorbDebt": EventMap(
                    account="borrower",
                    liquidator="absorber",
                    method="absorb",
                    repaid=(Lookup("underlying", (EMITTER,)), "basePaidOut"),
                ),
                "AbsorbCollateral": SIBLING,
            },
        )
    },
    bystander=Contract(abi="erc20.json", events={"Transfer": SIBLING}),
    needs_receipt=True,
    join=join,
    deployments=deployments("comet"),
    # compound-finance/comet:contracts/CometMainInterface.sol
    asks={"underlying": getter("baseToken()")},
    methodology=(
        "Debt is `basePaidOut` minus the `value` minted back to the account in the next log;"
        " collateral is `collateralAbsorbed` of each `asset`, taken by the protocol. The"
        " liquidator is the `absorber`, who gets points and no collateral. `usdValue` is not used:"
        " its unit is the quote of the market, which may be ETH or BTC."
    ),
)
