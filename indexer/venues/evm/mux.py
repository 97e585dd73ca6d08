"""MUX. In v1 a pool closes the one position of a sub-account; in v3 one contract closes a position
of an account that may have more, for all pools that back it.

mux-world/mux-protocol:contracts/core/Trade.sol, mux-world/mux3-protocol:contracts/core/trade
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
    Fact,
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
MARKET = Lookup("mux_market", (EMITTER, "marketId"))
# of amounts, prices and dollars: mux-world/mux-protocol:contracts/libraries/LibMath.sol,
# mux-world/mux3-protocol:contracts/interfaces/IFacetTrade.sol
PLACES = 18


def _closed(
    row: PerpLiquidation, *, is_long: bool, size: int, price: int, fee: int, pnl: int
) -> PerpLiquidation:
    return row.with_(
        side="long" if is_long else "short",
        size=scaled(size, PLACES),
        price=scaled(price, PLACES),
        notional=scaled(size * price, 2 * PLACES),
        position_before=scaled(size if is_long else -size, PLACES),
        position_after=Decimal(0),
        is_full_close=True,
        fee=scaled(fee, PLACES),
        realised_pnl=scaled(pnl, PLACES),
    )


def _of_pool(row: PerpLiquidation, args: dict[str, Any]) -> PerpLiquidation:
    return _closed(
        row,
        is_long=args["args.isLong"],
        size=args["args.amount"],
        price=args["args.assetPrice"],
        fee=args["args.feeUsd"],
        pnl=args["args.pnlUsd"] if args["args.hasProfit"] else -args["args.pnlUsd"],
    )


def _of_account(row: PerpLiquidation, args: dict[str, Any]) -> PerpLiquidation:
    """A position's number is its owner and, in the last 12 bytes, an index.

    mux-world/mux3-protocol:contracts/libraries/LibCodec.sol"""
    row = row.with_(account=f"{row.account}:{int(args['positionId'][42:], 16)}")
    return _closed(
        row,
        is_long=args["isLong"],
        size=args["size"],
        price=args["tradingPrice"],
        fee=args["positionFeeUsd"] + args["borrowingFeeUsd"],
        pnl=sum(args["poolPnlUsds"]),
    )


def _asset(missing: MissingFact, deployed: Sequence[Deployment]) -> Inquiry:
    """The first word of what the pool knows of it.

    mux-world/mux-protocol:contracts/core/Getter.sol, Types.sol"""
    pool, _, asset = missing.subject.partition("/")
    (answer,) = yield [call(pool, "getAssetInfo(uint8)", int(asset))]
    return _told(missing, CallResult(answer.is_ok, answer.data[:WORD]))


def _market(missing: MissingFact, deployed: Sequence[Deployment]) -> Inquiry:
    """Its symbol, and whether it is of longs, as there are two of each.

    mux-world/mux3-protocol:contracts/interfaces/IFacetReader.sol, marketState"""
    core, _, market = missing.subject.partition("/")
    (answer,) = yield [call(core, "marketState(bytes32)", market)]
    # behind the offset of the symbol stands the boolean: without it, a text as any other
    start = 2 * WORD
    is_text = answer.data[:WORD] == start.to_bytes(WORD, "big")
    text = WORD.to_bytes(WORD, "big") + answer.data[start:] if is_text else b""
    return _told(missing, CallResult(answer.is_ok, text))


def _told(missing: MissingFact, answer: CallResult) -> tuple[Fact, ...]:
    text = clean(raw_text(answer))
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
                    then=_of_pool,
                )
            },
        ),
        "core": Contract(
            abi="mux_core.json",
            events={
                "LiquidatePosition": PerpMap(
                    account="owner",
                    market=("marketId", MARKET),
                    quote=USD_QUOTE,
                    margin_mode="cross",
                    then=_of_account,
                )
            },
        ),
    },
    deployments=deployments("mux"),
    asks={ASSET.fact: _asset, MARKET.fact: _market},
    methodology=(
        "Each event closes the whole position: `args.amount` at `args.assetPrice` dollars, with the"
        " pool's spread, and in v3 `size` at `tradingPrice`. Realised is `args.pnlUsd` as the price"
        " has it, of which a bankrupt account pays no more than its collateral, and in v3 the sum"
        " of `poolPnlUsds`, which is cut to that. The fee is `args.feeUsd`, in v3 `positionFeeUsd`"
        " and `borrowingFeeUsd` together. An account of v3 is its owner with a colon and the index"
        " at the end of `positionId`. Who called is not told."
    ),
)
