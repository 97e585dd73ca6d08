"""Level on BNB Chain and Arbitrum, and Xena on Base with its code. The pool closes a position
whole; how a profit is written changed, and so did which arguments are topics.

level-fi/level-trading-contracts:src/interfaces/IPool.sol, src/pool/Pool.sol
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from indexer.abi_calls import call, uint_of
from indexer.evm_model import (
    USD_QUOTE,
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

DECIMALS = Lookup("level_decimals", ("indexToken",))  # for `_closed`
SYMBOL = Lookup("level_symbol", ("indexToken",))
# of dollars, and of a price times a base unit: level-fi/level-trading-contracts:
# src/oracle/PriceFeed.sol
PLACES = 30
SIZE = 18  # places that a size in units is cut to
SIDES: dict[int, Any] = {0: "long", 1: "short"}  # src/interfaces/IPool.sol


def _closed(row: PerpLiquidation, args: dict[str, Any]) -> PerpLiquidation:
    """A profit is size * (price - entry price) / entry price.

    level-fi/level-trading-contracts:src/lib/PositionUtils.sol, SignedInt.sol"""
    decimals, _, market = row.market.partition(":")
    pnl = args["pnl"] if "pnl" in args else args["pnl.abs"] * (1 if args["pnl.sig"] else -1)
    side, size, price = SIDES.get(args["side"]), args["size"], args["indexPrice"]
    worth = size - pnl if side == "short" else size + pnl
    row = row.with_(
        market=market,
        side=side,
        notional=scaled(worth, PLACES) if side and worth >= 0 else None,
        notional_entry=scaled(size, PLACES),
        position_after=Decimal(0),
        is_full_close=True,
        fee=scaled(args["feeValue"], PLACES),
        realised_pnl=scaled(pnl, PLACES),
    )
    if not decimals.isdecimal():
        return row
    row = row.with_(price=scaled(price, PLACES - int(decimals)))
    if row.notional is None or price == 0:
        return row
    units = worth * 10**SIZE // (price * 10 ** int(decimals))
    before = -units if side == "short" else units
    return row.with_(size=scaled(units, SIZE), position_before=scaled(before, SIZE))


def _decimals(missing: MissingFact, deployed: Sequence[Deployment]) -> Inquiry:
    (answer,) = yield [call(missing.subject, "decimals()")]
    decimals = uint_of(answer, bits=8)
    return () if decimals is None else (missing.told(str(decimals)),)


def _symbol(missing: MissingFact, deployed: Sequence[Deployment]) -> Inquiry:
    (answer,) = yield [call(missing.subject, "symbol()")]
    text = clean(raw_text(answer))
    return () if text is None else (missing.told(text),)


SPEC = ProtocolSpec(
    name="level",
    kind="perp",
    contracts={
        "pool": Contract(
            abi="level_pool.json",
            events={
                "LiquidatePosition": PerpMap(
                    account="account",
                    market=(DECIMALS, "indexToken", SYMBOL),
                    quote=USD_QUOTE,
                    margin_mode="isolated",
                    then=_closed,
                )
            },
        )
    },
    deployments=deployments("level"),
    asks={DECIMALS.fact: _decimals, SYMBOL.fact: _symbol},
    methodology=(
        "Each event closes a whole position whose `size` is in dollars as it was opened. What it"
        " was worth is that and the profit `pnl` (`pnl.abs`, a loss where `pnl.sig` is 0), of a"
        " short that less the profit; the size in units is that over `indexPrice`, cut to 18 digits"
        " after the point. The profit is as the price has it, before `feeValue` and the fixed fee"
        " of the liquidator, and may be more than the collateral. Who called is not told."
    ),
)
