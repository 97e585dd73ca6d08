"""MUX v1. A pool closes the one position of a sub-account, which is of a trader, a collateral, an
asset and a side.

mux-world/mux-protocol:contracts/core/Trade.sol, Events.sol
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from indexer.abi_calls import WORD, call
from indexer.evm_model import (
    EMITTER,
    USD_QUOTE,
    CallResult,
    Contract,
    Deployment,
    Inquiry,
    Lookup,
    MissingFact,
    PerpLiquidation,
    PerpMap,
    ProtocolSpec,
)
from indexer.oracles import scaled
from indexer.tokens import clean, raw_text
from indexer.venues.evm import deployments

ASSET = Lookup("mux_asset", (EMITTER, "assetId"))
PLACES = 18  # of all numbers: mux-world/mux-protocol:contracts/libraries/LibMath.sol


def _closed(row: PerpLiquidation, args: dict[str, Any]) -> PerpLiquidation:
    amount, price, pnl = args["args.amount"], args["args.assetPrice"], args["args.pnlUsd"]
    is_long = args["args.isLong"]
    return row.with_(
        side="long" if is_long else "short",
        size=scaled(amount, PLACES),
        price=scaled(price, PLACES),
        notional=scaled(amount * price, 2 * PLACES),
        position_before=scaled(amount if is_long else -amount, PLACES),
        position_after=Decimal(0),
        is_full_close=True,
        fee=scaled(args["args.feeUsd"], PLACES),
        realised_pnl=scaled(pnl if args["args.hasProfit"] else -pnl, PLACES),
    )


def _asset(missing: MissingFact, deployed: Sequence[Deployment]) -> Inquiry:
    """The first word of what the pool knows of it.

    mux-world/mux-protocol:contracts/core/Getter.sol, Types.sol"""
    pool, _, asset = missing.subject.partition("/")
    (answer,) = yield [call(pool, "getAssetInfo(uint8)", int(asset))]
    text = clean(raw_text(CallResult(answer.is_ok, answer.data[:WORD])))
    return () if text is None else (missing.told(text),)


SPEC = ProtocolSpec(
    name="mux",
    kind="perp",
    contracts={
        "pool": Contract(
            abi="mux_pool.json",
            events={
                "Liquidate": PerpMap(
                    account="trader",
                    market=("assetId", ASSET),
                    quote=USD_QUOTE,
                    margin_mode="isolated",
                    then=_closed,
                )
            },
        ),
    },
    deployments=deployments("mux"),
    asks={ASSET.fact: _asset},
    methodology=(
        "Each event closes the whole position, `args.amount` of the asset at `args.assetPrice`"
        " dollars, the pool's spread in it. Realised is `args.pnlUsd` as the price has it, of which"
        " a bankrupt account pays no more than its collateral, and the fee what was paid of it,"
        " `args.feeUsd`. Who called is not told."
    ),
)
