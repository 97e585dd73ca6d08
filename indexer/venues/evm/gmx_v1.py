"""GMX v1, Gambit before it and the many forks of its vault, which emits the event with nothing
indexed and amounts in dollars.

gmx-io/gmx-contracts:contracts/core/Vault.sol, liquidatePosition
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from indexer.abi_calls import call
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
from indexer.families import coin
from indexer.oracles import scaled
from indexer.tokens import clean, raw_text
from indexer.venues.evm import deployments

COIN = Lookup("gmx_v1_coin", ("indexToken",))  # what the token says that it is: WETH
PLACES = 30  # gmx-io/gmx-contracts:contracts/core/Vault.sol, PRICE_PRECISION


def _closed(row: PerpLiquidation, args: dict[str, Any]) -> PerpLiquidation:
    """The vault takes the whole position at the price that it marks it with."""
    price = scaled(args["markPrice"], PLACES)
    return row.with_(
        side="long" if args["isLong"] else "short",
        price=price,
        mark_price=price,
        notional_entry=scaled(args["size"], PLACES),
        position_after=Decimal(0),
        is_full_close=True,
    )


def _coin(missing: MissingFact, deployed: Sequence[Deployment]) -> Inquiry:
    """Its family's name, so that ether is one asset on all venues, else its own symbol; a token
    without one has no name here either."""
    (answer,) = yield [call(missing.subject, "symbol()")]
    name = coin(missing.chain, missing.subject) or clean(raw_text(answer))
    return (missing.told(name),)


SPEC = ProtocolSpec(
    name="gmx_v1",
    kind="perp",
    contracts={
        "vault": Contract(
            abi="gmx_v1_vault.json",
            events={
                "LiquidatePosition": PerpMap(
                    account="account",
                    market=("indexToken", COIN),
                    quote=USD_QUOTE,
                    margin_mode="isolated",
                    then=_closed,
                )
            },
        )
    },
    deployments=deployments("gmx_v1"),
    asks={COIN.fact: _coin},
    methodology=(
        "Each event closes a whole position, of `size` dollars at the price of its opening, at"
        " `markPrice`. What it was worth at the close and how much of the token it was is unknown:"
        " the event leaves out the price of the opening. All of `collateral` is lost; its"
        " `realisedPnl` is what closes before this one realised. The liquidator is unknown. Not"
        " counted are positions above the highest leverage with collateral left: the liquidator's"
        " call then closes them as their owner would, with the same events, and only the call"
        " itself would tell. Forks are taken to emit the same event; nobody checked each."
    ),
)
