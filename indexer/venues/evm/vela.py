"""The vaults of Vela's second version, whose event says all of a position; that of the first names
a key only, and is not read. No address of Vela's own is sourced: known is UniDex v4, with its code.

VelaExchange/vela-exchange-contracts:contracts/core/LiquidateVault.sol
"""

from decimal import Decimal
from typing import Any

from indexer.evm_model import (
    USD_QUOTE,
    Contract,
    PerpLiquidation,
    PerpMap,
    ProtocolSpec,
)
from indexer.oracles import scaled
from indexer.venues.evm import deployments

# of prices and dollars: VelaExchange/vela-exchange-contracts:contracts/access/Constants.sol
PLACES = 30
SIZE = 18  # places that a size in units is cut to


def _closed(row: PerpLiquidation, args: dict[str, Any]) -> PerpLiquidation:
    """`posData` is collateral, size in dollars, entry price, price and nothing."""
    collateral, size, entry_price, price, _ = args["posData"]
    is_long = args["isLong"]
    row = row.with_(
        side="long" if is_long else "short",
        price=scaled(price, PLACES),
        notional_entry=scaled(size, PLACES),
        position_after=Decimal(0),
        is_full_close=True,
        realised_pnl=scaled(-collateral, PLACES),
    )
    if entry_price == 0:
        return row
    units = size * 10**SIZE // entry_price
    return row.with_(
        size=scaled(units, SIZE),
        notional=scaled(units * price, SIZE + PLACES),
        position_before=scaled(units if is_long else -units, SIZE),
    )


SPEC = ProtocolSpec(
    name="vela",
    kind="perp",
    contracts={
        "vault": Contract(
            abi="vela_liquidate_vault.json",
            events={
                "LiquidatePosition": PerpMap(
                    account="account",
                    market=("tokenId",),
                    quote=USD_QUOTE,
                    margin_mode="isolated",
                    then=_closed,
                )
            },
        )
    },
    deployments=deployments("vela"),
    methodology=(
        "Each event closes a whole position; `posData` has its collateral, its size in dollars as"
        " it was opened, its entry price and the price of the close. The size in units is the"
        " dollars over the entry price, cut to 18 digits after the point, and the notional that"
        " times the price. The loss is all of the collateral, which goes to who called and to the"
        " vault; `pnlData` is not used. A market is the number `tokenId`, which no list names."
    ),
)
