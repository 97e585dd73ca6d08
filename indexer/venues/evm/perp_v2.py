"""Perpetual Protocol v2 (Curie) on Optimism. The clearing house moves a position, or a part of it,
to the liquidator at its mark price; its first versions sold it into the market's own pool.

A position's change is an event of its own, which every trade has too: before the liquidation that
of the account, and after it, since there is one, that of the liquidator, the other way round.
perpetual-protocol/perp-curie-contract:contracts/ClearingHouse.sol, _liquidate
"""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

from indexer.abi_calls import call
from indexer.evm_model import (
    SIBLING,
    Contract,
    Deployment,
    Facts,
    Inquiry,
    Lookup,
    MissingFact,
    PerpJoinable,
    PerpLiquidation,
    PerpMap,
    ProtocolSpec,
    Sibling,
    UndecodedLog,
)
from indexer.oracles import scaled
from indexer.tokens import clean, raw_text
from indexer.venues.evm import deployments

COIN = Lookup("perp_v2_coin", ("baseToken",))
# Of all amounts, whatever the decimals of what is deposited.
# perpetual-protocol/perp-curie-contract:contracts/lib/SettlementTokenMath.sol
PLACES = 18


def _taken_over(row: PerpLiquidation, args: dict[str, Any]) -> PerpLiquidation:
    """Amounts without a sign; no price is among them: that is rounded to as many places."""
    size, notional = args["positionSize"], args["positionNotional"]
    price_raw = (notional * 10**PLACES + size // 2) // size if size else None
    return row.with_(
        size=scaled(size, PLACES),
        price=None if price_raw is None else scaled(price_raw, PLACES),
        notional=scaled(notional, PLACES),
        fee=scaled(args["liquidationFee"], PLACES),
    )


def join(events: Sequence[PerpJoinable], facts: Facts) -> Iterable[PerpLiquidation | UndecodedLog]:
    """What the change of the account's position says of it, and who has it now."""
    changes: list[Sibling] = []
    for event in events:
        if isinstance(event, Sibling):
            changes.append(event)
        elif isinstance(event, PerpLiquidation):
            own = _change(event, changes)
            yield event if own is None else _changed(event, own, changes)
            changes = []


def _change(row: PerpLiquidation, changes: list[Sibling]) -> Sibling | None:
    """The last that is of the account and of so much: whatever else it traded, it did before."""
    token = row.market.partition(":")[0]
    return next(
        (
            one
            for one in reversed(changes)
            if one.says("PositionChanged", row.emitter, trader=row.account, baseToken=token)
            and scaled(abs(one.number("exchangedPositionSize")), PLACES) == row.size
        ),
        None,
    )


def _changed(row: PerpLiquidation, own: Sibling, changes: list[Sibling]) -> PerpLiquidation:
    """Nothing is left open exactly where nothing is left; how much was there before no event
    tells otherwise."""
    size, notional, left, pnl = map(
        own.number, ("exchangedPositionSize", "exchangedPositionNotional", "openNotional",
                     "realizedPnl")
    )  # fmt: skip
    if size == 0:
        return row
    is_taken_over = any(
        one.number("exchangedPositionSize") == -size
        for one in changes
        if one.log_index > own.log_index
        and one.says(
            "PositionChanged", row.emitter, trader=row.liquidator, baseToken=own.text("baseToken")
        )
    )
    return row.with_(
        side="long" if size < 0 else "short",
        # a fee on top is in the profit and not in the notional: then this is not the difference
        notional_entry=scaled(abs(notional - pnl), PLACES) if own.number("fee") == 0 else None,
        realised_pnl=scaled(pnl, PLACES),
        is_full_close=left == 0,
        position_before=scaled(-size, PLACES) if left == 0 else None,
        position_after=Decimal(0) if left == 0 else None,
        counterparty=row.liquidator if is_taken_over else None,
        counterparty_kind="liquidator" if is_taken_over else "pool",
    )


def _coin(missing: MissingFact, deployed: Sequence[Deployment]) -> Inquiry:
    """`vETH` of ETH. perpetual-protocol/perp-curie-subgraph:configs/optimism.json, pools"""
    (answer,) = yield [call(missing.subject, "symbol()")]
    symbol = clean(raw_text(answer))
    told = symbol is not None and len(symbol) > 1 and symbol.startswith("v")
    return (missing.told(symbol[1:]),) if symbol is not None and told else ()


SPEC = ProtocolSpec(
    name="perp_v2",
    kind="perp",
    evidence="contracts",
    contracts={
        "clearing_house": Contract(
            abi="perp_v2_clearing_house.json",
            events={
                "PositionLiquidated": PerpMap(
                    account="trader",
                    liquidator="liquidator",
                    market=("baseToken", COIN),
                    counterparty_kind=None,
                    quote="USDC",
                    margin_mode="cross",
                    then=_taken_over,
                )
            },
        )
    },
    # of every trade: too many to ask for
    bystander=Contract(abi="perp_v2_positions.json", events={"PositionChanged": SIBLING}),
    needs_receipt=True,
    join=join,
    deployments=deployments("perp_v2"),
    asks={COIN.fact: _coin},
    methodology=(
        "Each event closes `positionSize` of a market, `baseToken`, for `positionNotional` dollars"
        " of deposited USDC; the price is the one over the other. Long where"
        " `exchangedPositionSize` of the same `trader` in the transaction is negative; it was"
        " opened for `exchangedPositionNotional` less `realizedPnl`, and is closed whole where"
        " `openNotional` is 0 afterwards. `liquidationFee` is all that the account pays, of which"
        " the insurance fund gets a half. The `liquidator` takes the position over where its own"
        " changes by as much. Bad debt that the fund pays back has no column."
    ),
)
