"""HMX v2. An account is liquidated whole, all its positions one event each, and no event has a
price: what a position was worth follows from its size, as it was opened, and its loss.

HMXOrg/v2-evm:src/services/LiquidationService.sol
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from indexer.abi_calls import WORD, address_of, call
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
from indexer.oracles import scaled
from indexer.tokens import clean, raw_text
from indexer.venues.evm import deployments

ASSET = Lookup("hmx_asset", (EMITTER, "marketIndex"))
PLACES = 30  # of sizes and dollars: HMXOrg/v2-evm:src/storages/PerpStorage.sol


def _closed(row: PerpLiquidation, args: dict[str, Any]) -> PerpLiquidation:
    """A loss is size * (price moved) / price at entry. A profit may be less than that: it is cut to
    what was reserved for it, and 0 for a position too young.

    HMXOrg/v2-evm:src/contracts/Calculator.sol, getDelta"""
    size, delta = args["size"], args["delta"]
    worth = size - delta if size > 0 else -size + delta
    is_told = not args["isProfit"] and worth >= 0
    return row.with_(
        account=f"{row.account}:{args['subAccountId']}",
        side=None if size == 0 else "long" if size > 0 else "short",
        notional=scaled(worth, PLACES) if is_told else None,
        notional_entry=scaled(abs(size), PLACES),
        position_after=Decimal(0),
        is_full_close=True,
        realised_pnl=scaled(delta if args["isProfit"] else -delta, PLACES),
    )


def _asset(missing: MissingFact, deployed: Sequence[Deployment]) -> Inquiry:
    """A market's configuration begins with what it is of, as text.

    HMXOrg/v2-evm:src/storages/interfaces/IConfigStorage.sol, configs/.arbitrum.one.market.json"""
    service, _, index = missing.subject.partition("/")
    (said,) = yield [call(service, "configStorage()")]
    storage = address_of(said)
    if storage in (None, NOBODY):
        return ()
    (config,) = yield [call(storage, "getMarketConfigByIndex(uint256)", int(index))]
    text = clean(raw_text(CallResult(config.is_ok, config.data[:WORD])))
    return () if text is None else (missing.told(text),)


SPEC = ProtocolSpec(
    name="hmx",
    kind="perp",
    contracts={
        "service": Contract(
            abi="hmx_liquidation.json",
            events={
                "LogLiquidationPosition": PerpMap(
                    account="account",
                    market=("marketIndex", ASSET),
                    quote=USD_QUOTE,
                    margin_mode="cross",
                    then=_closed,
                )
            },
        )
    },
    deployments=deployments("hmx"),
    asks={ASSET.fact: _asset},
    methodology=(
        "Each event closes a whole position whose `size` is in dollars as it was opened, long where"
        " positive. No event has a price, so neither it nor the size in units is known. What the"
        " position was worth is the size less the loss `delta`, of a short the size and the loss;"
        " where `isProfit`, the profit may have been cut, and the worth is unknown. An account is"
        " `account` with a colon and the `subAccountId`, and all of its positions go at once. Fees"
        " are told for all of them together and are on none of the rows."
    ),
)
