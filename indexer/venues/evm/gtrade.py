"""gTrade of Gains Network. One event executes every order that a trigger waits for; its layout
changed with each release. Since v8 one contract has it, for every collateral; before, each
collateral had its own, and before v7 there was DAI only.

GainsNetwork-org/sdk:abi/GNSMultiCollatDiamond.json (v8 to v10), abi/GNSTradingCallbacks.json (v7),
abi/GNSTradingCallbacksV6_4.json and V6_3_2.json
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from indexer.abi_calls import WORD, call, is_silent, uint_of
from indexer.evm_model import (
    EMITTER,
    NOBODY,
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
from indexer.oracles import power_of_ten, scaled
from indexer.tokens import clean, raw_text
from indexer.venues.evm import deployments

PAIR = "gtrade_pair"  # of CONTRACT/NUMBER: what is priced, BTC, or EUR/JPY where not in dollars
DECIMALS = "gtrade_decimals"  # of CONTRACT/COLLATERAL or, before v8, of CONTRACT
# GainsNetwork-org/sdk:src/trade; places of prices, of the collateral's in dollars and of leverage
PRICE, USD, LEVERAGE = 10, 8, 3
SIZE = 18  # places that a size is cut to: a quotient, which v10 itself keeps with as many
# DefiLlama/dimension-adapters:dexs/gains-network/index.ts
DAI, DAI_PLACES = "DAI", 18
# LIQ_CLOSE of PendingOrderType and, before v8, LIQ of LimitOrder: GainsNetwork-org/sdk:src/trade,
# GainsNetwork/gTrade-v6.1:contracts/interfaces/StorageInterfaceV5.sol
LIQ_CLOSE, LIQ = 6, 2


class _Trade(NamedTuple):
    """What of a trade its liquidation tells; `usd` is the price of one collateral, or unknown."""

    is_long: bool
    margin_raw: int
    leverage: int  # with `leverage_places`
    leverage_places: int
    open_price: int
    price: int
    sent_raw: int
    usd: int | None


def _diamond(row: PerpLiquidation, args: dict[str, Any]) -> PerpLiquidation:
    """In v8 the price of execution is `price`, later `marketPrice`."""
    return _closed(
        row,
        _Trade(
            args["t.long"], args["t.collateralAmount"], args["t.leverage"], LEVERAGE,
            args["t.openPrice"], args["price"] if "price" in args else args["marketPrice"],
            args["amountSentToTrader"], args["collateralPriceUsd"],
        ),
    )  # fmt: skip


def _callbacks(row: PerpLiquidation, args: dict[str, Any]) -> PerpLiquidation:
    """The position is the event's own, not that of the trade, which v6 kept in tokens. Leverage is
    a whole number. DefiLlama/dimension-adapters:dexs/gains-network/index.ts reads it the same."""
    return _closed(
        row,
        _Trade(
            args["t.buy"], args["positionSizeDai"], args["t.leverage"], 0, args["t.openPrice"],
            args["price"], args["daiSentToTrader"], args.get("collateralPriceUsd"),
        ),
    )  # fmt: skip


def _closed(row: PerpLiquidation, trade: _Trade) -> PerpLiquidation:
    """A profit is (price - open price) / open price * leverage of the collateral, so the position
    is worth as many units as collateral * leverage bought at the open price.

    GainsNetwork-org/sdk:src/trade/pnl/index.ts"""
    decimals, _, market = row.market.partition(":")
    row = row.with_(
        market=market,
        liquidator=None if row.liquidator == NOBODY else row.liquidator,
        side="long" if trade.is_long else "short",
        quote=DAI if trade.usd is None else USD_QUOTE,
        price=scaled(trade.price, PRICE),
        position_after=Decimal(0),
        is_full_close=True,
    )
    if not decimals.isdecimal():
        return row
    usd, usd_places = (1, 0) if trade.usd is None else (trade.usd, USD)
    places = int(decimals) + usd_places
    entry, entry_places = trade.margin_raw * trade.leverage * usd, places + trade.leverage_places
    row = row.with_(
        notional_entry=scaled(entry, entry_places),
        realised_pnl=scaled((trade.sent_raw - trade.margin_raw) * usd, places),
    )
    if trade.open_price == 0:
        return row
    size_raw = entry * 10 ** (PRICE + SIZE) // (trade.open_price * 10**entry_places)
    return row.with_(
        size=scaled(size_raw, SIZE),
        notional=scaled(size_raw * trade.price, SIZE + PRICE),
        position_before=scaled(size_raw if trade.is_long else -size_raw, SIZE),
    )


def _pair(missing: MissingFact, deployed: Sequence[Deployment]) -> Inquiry:
    """What was before the diamond of a chain had the numbers that it took over.

    GainsNetwork-org/sdk:abi/GNSMultiCollatDiamond.json, pairs"""
    emitter, _, number = missing.subject.partition("/")
    diamonds = [one.address.lower() for one in deployed if one.role == "diamond"]
    asked = [emitter] if emitter in diamonds else diamonds
    answers = yield [call(diamond, "pairs(uint256)", int(number)) for diamond in asked]
    names = {_name(answer) for answer in answers} - {None}
    return (missing.told(names.pop()),) if len(names) == 1 else ()


def _name(answer: CallResult) -> str | None:
    base, quote = _text(answer, 0), _text(answer, 1)
    if base is None or quote is None:
        return None
    return base if quote == "USD" else f"{base}/{quote}"


def _text(answer: CallResult, at: int) -> str | None:
    """The text that word `at` of a struct points to; the struct is all that is returned."""
    struct = answer.data[WORD:]
    if not answer.is_ok or int.from_bytes(answer.data[:WORD], "big") != WORD:
        return None
    text = struct[int.from_bytes(struct[at * WORD : (at + 1) * WORD], "big") :]
    return clean(raw_text(CallResult(is_ok=True, data=WORD.to_bytes(WORD, "big") + text)))


def _decimals(missing: MissingFact, deployed: Sequence[Deployment]) -> Inquiry:
    """A contract without the question is of v6 and has DAI.

    GainsNetwork-org/sdk:abi/GNSMultiCollatDiamond.json, getCollateral, and
    abi/GNSTradingCallbacks.json, collateralConfig"""
    contract, _, collateral = missing.subject.partition("/")
    if collateral:
        (answer,) = yield [call(contract, "getCollateral(uint8)", int(collateral))]
        decimals = power_of_ten(uint_of(answer, at=3, of=5, bits=128))
    else:
        (answer,) = yield [call(contract, "collateralConfig()")]
        precision = uint_of(answer, at=0, of=2, bits=128)
        decimals = DAI_PLACES if is_silent(answer) else power_of_ten(precision)
    return () if decimals is None else (missing.told(str(decimals)),)


SPEC = ProtocolSpec(
    name="gtrade",
    kind="perp",
    contracts={
        "diamond": Contract(
            abi="gtrade_diamond.json",
            events={
                "LimitExecuted": PerpMap(
                    account="t.user",
                    liquidator="triggerCaller",
                    # the first is for `_closed`, which takes it away
                    market=(
                        Lookup(DECIMALS, (EMITTER, "t.collateralIndex")),
                        "t.pairIndex",
                        Lookup(PAIR, (EMITTER, "t.pairIndex")),
                    ),
                    margin_mode="isolated",
                    when={"orderType": (LIQ_CLOSE,)},
                    then=_diamond,
                )
            },
        ),
        "callbacks": Contract(
            abi="gtrade_callbacks.json",
            events={
                "LimitExecuted": PerpMap(
                    account="t.trader",
                    liquidator="nftHolder",
                    market=(
                        Lookup(DECIMALS, (EMITTER,)),
                        "t.pairIndex",
                        Lookup(PAIR, (EMITTER, "t.pairIndex")),
                    ),
                    margin_mode="isolated",
                    when={"orderType": (LIQ,)},
                    then=_callbacks,
                )
            },
        ),
    },
    deployments=deployments("gtrade"),
    asks={PAIR: _pair, DECIMALS: _decimals},
    methodology=(
        "Of all orders that a trigger executes those whose `orderType` is a liquidation, always of"
        " the whole trade, at `marketPrice` (`price` before v9), which is the oracle's or the"
        " liquidation price itself and has no spread. The position at entry is `t.collateralAmount`"
        " (`positionSizeDai` before v8) times `t.leverage`, in dollars at `collateralPriceUsd`; v6"
        " has DAI only and rows of it are in DAI. No event tells the size as the profit is computed"
        " (`t.positionSizeToken` leaves the impact on the price out, and is 0 for older trades): it"
        " is the position at entry over `t.openPrice`, cut to 18 digits after the point, and the"
        " notional that times the price. The loss is all of the collateral but"
        " `amountSentToTrader`, so fees are in it. A close by the trader himself that loses as much"
        " is no liquidation."
    ),
)
