"""Synthetix perps v2 on Optimism, of which Kwenta and Polynomial v1 were front ends. The proxy of a
market emits the event, with nothing indexed; the account is often a smart margin contract."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from indexer.abi_calls import call
from indexer.evm_model import (
    EMITTER,
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

COIN = Lookup("synthetix_coin", (EMITTER,))  # what a market is of: ETH
PLACES = 18  # Synthetixio/synthetix:contracts/SafeDecimalMath.sol


def _closed(row: PerpLiquidation, args: dict[str, Any]) -> PerpLiquidation:
    size, price = args["size"], args["price"]
    return row.with_(
        side="long" if size > 0 else "short",
        size=scaled(abs(size), PLACES),
        price=scaled(price, PLACES),
        notional=scaled(abs(size) * price, 2 * PLACES),
        position_before=scaled(size, PLACES),
        position_after=Decimal(0),
        is_full_close=True,
        fee=scaled(args["flaggerFee"] + args["liquidatorFee"] + args["stakersFee"], PLACES),
    )


def _coin(missing: MissingFact, deployed: Sequence[Deployment]) -> Inquiry:
    """`sETHPERP` of ETH. Synthetixio/synthetix:contracts/PerpsV2MarketBase.sol, marketKey, and its
    publish/deployed/mainnet-ovm/perpsv2-markets.json for what keys look like"""
    (answer,) = yield [call(missing.subject, "marketKey()")]
    key = clean(raw_text(answer))
    if key is None or not (key.startswith("s") and key.endswith("PERP")):
        return ()
    return (missing.told(key[1:-4]),)


SPEC = ProtocolSpec(
    name="synthetix_perps_v2",
    kind="perp",
    contracts={
        "market": Contract(
            abi="synthetix_perps_v2_market.json",
            events={
                "PositionLiquidated": PerpMap(
                    account="account",
                    liquidator="liquidator",
                    market=(EMITTER, COIN),
                    quote="sUSD",
                    margin_mode="isolated",
                    then=_closed,
                )
            },
        )
    },
    deployments=deployments("synthetix_perps_v2"),
    asks={COIN.fact: _coin},
    methodology=(
        "Each event closes the whole position `size`, long where it is positive, at"
        " `price` sUSD; the fee is `flaggerFee`, `liquidatorFee` and `stakersFee` together, all"
        " that was left of the margin. The flag before it, in a transaction of its own, is not"
        " counted."
    ),
)
