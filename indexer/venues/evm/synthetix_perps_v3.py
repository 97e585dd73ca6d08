"""Synthetix perps v3, of which Kwenta and Infinex were front ends. One contract has all markets, an
account is an NFT with a margin for all of its positions.

What is too large for a market is closed in windows, each a call and an event of its own. What it
was closed at stands in the update of the market in the log before, which every trade has too. An
account is flagged before its first window, and the attempt that closed the last of it says so: both
are kept as facts, from which liq.liquidation_parts tells one liquidation from the next.
Synthetixio/synthetix-v3:markets/perps-market/contracts/modules/LiquidationModule.sol,
_liquidateAccount
"""

from collections.abc import Iterable, Sequence
from decimal import Context
from typing import Any

from indexer.abi_calls import WORD, call, uint_of
from indexer.evm_model import (
    EMITTER,
    EVENT,
    SIBLING,
    USD_QUOTE,
    CallResult,
    Contract,
    Deployment,
    FactMap,
    Facts,
    Inquiry,
    Learn,
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

SYMBOL = Lookup("synthetix_v3_symbol", (EMITTER, "marketId"))
PLACES = 18  # Synthetixio/synthetix-v3:utils/core-contracts/contracts/utils/DecimalMath.sol
EXACT = Context(prec=100)  # digits: more than any two integers of the ABI have


def _window(row: PerpLiquidation, args: dict[str, Any]) -> PerpLiquidation:
    """What is left has the side of the position; of nothing left only the market's update says."""
    size, left = args["amountLiquidated"], args["currentPositionSize"]
    row = row.with_(
        account=str(args["accountId"]),
        size=scaled(size, PLACES),
        position_after=scaled(left, PLACES),
        is_full_close=left == 0,
    )
    if left == 0:
        return row
    before = left + size if left > 0 else left - size
    return row.with_(side="long" if left > 0 else "short", position_before=scaled(before, PLACES))


def join(events: Sequence[PerpJoinable], facts: Facts) -> Iterable[PerpLiquidation | UndecodedLog]:
    """Side and price from the update of the market right before."""
    before = {event.log_index + 1: event for event in events}
    for row in events:
        if isinstance(row, PerpLiquidation):
            update = before.get(row.log_index)
            yield _priced(row, update) if isinstance(update, Sibling) else row


def _priced(row: PerpLiquidation, update: Sibling) -> PerpLiquidation:
    """Of an update that is not this position's nothing is taken."""
    assert row.size is not None
    assert row.position_after is not None
    market, delta, price = (update.number(name) for name in ("marketId", "sizeDelta", "price"))
    side = "long" if delta < 0 else "short"
    if (
        (update.log.address, str(market)) != (row.emitter, row.market.partition(":")[0])
        or scaled(abs(delta), PLACES) != row.size
        or delta == 0
        or row.side not in (None, side)
    ):
        return row
    return row.with_(
        side=side,
        price=scaled(price, PLACES),
        notional=scaled(abs(delta) * price, 2 * PLACES),
        position_before=EXACT.subtract(row.position_after, scaled(delta, PLACES)),
    )


def _symbol(missing: MissingFact, deployed: Sequence[Deployment]) -> Inquiry:
    """The second of two texts: `Ethereum` and `ETH`.

    Synthetixio/synthetix-v3:markets/perps-market/contracts/interfaces/IPerpsMarketModule.sol"""
    contract, _, market = missing.subject.partition("/")
    (answer,) = yield [call(contract, "metadata(uint128)", int(market))]
    start = uint_of(answer, 1, of=None)
    if start is None:
        return ()
    # alone, as a call returns it
    text = CallResult(is_ok=True, data=WORD.to_bytes(WORD, "big") + answer.data[start:])
    symbol = clean(raw_text(text))
    return () if symbol is None else (missing.told(symbol),)


ATTEMPT = FactMap(
    learns=(
        Learn("synthetix_v3_attempt", ("accountId", EMITTER, EVENT), ("fullLiquidation", "reward")),
    )
)

SPEC = ProtocolSpec(
    name="synthetix_perps_v3",
    kind="perp",
    contracts={
        "market": Contract(
            abi="synthetix_perps_v3_market.json",
            events={
                "PositionLiquidated": PerpMap(
                    account="accountId",
                    market=("marketId", SYMBOL),
                    quote=USD_QUOTE,
                    margin_mode="cross",
                    then=_window,
                ),
                "AccountFlaggedForLiquidation": FactMap(
                    learns=(
                        Learn(
                            "synthetix_v3_flag",
                            ("accountId", EMITTER, EVENT),
                            ("availableMargin", "requiredMaintenanceMargin"),
                        ),
                    )
                ),
                # an earlier name of the same event, and the last one
                "AccountLiquidated": ATTEMPT,
                "AccountLiquidationAttempt": ATTEMPT,
            },
        )
    },
    # of every trade: too many to ask for
    bystander=Contract(abi="synthetix_perps_v3_updates.json", events={"MarketUpdated": SIBLING}),
    needs_receipt=True,
    join=join,
    deployments=deployments("synthetix_perps_v3"),
    asks={SYMBOL.fact: _symbol},
    methodology=(
        "A row for each window: `amountLiquidated` of a position of which `currentPositionSize` is"
        " left, at the `price` in dollars of the update of the same `marketId` in the log before;"
        " long where its `sizeDelta` is negative. An account is its `accountId`. All of its margin"
        " is taken when it is flagged, so that no fee is that of a window; who called, no event"
        " tells. Margin that is taken without a position is no row. Windows of an account from"
        " AccountFlaggedForLiquidation to an AccountLiquidationAttempt (AccountLiquidated before)"
        " with `fullLiquidation` are one liquidation."
    ),
)
