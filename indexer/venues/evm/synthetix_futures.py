"""Synthetix futures on Optimism in 2022, the version before perps v2. A market liquidates in one
step, without a flag.

Synthetixio/synthetix:contracts/frozen/FuturesMarketBase.sol, _liquidatePosition
"""

from collections.abc import Sequence

from indexer.abi_calls import call
from indexer.evm_model import (
    EMITTER,
    Contract,
    Deployment,
    Inquiry,
    Lookup,
    MissingFact,
    PerpMap,
    ProtocolSpec,
)
from indexer.tokens import clean, raw_text
from indexer.venues.evm import deployments
from indexer.venues.evm.synthetix_perps_v2 import closed_whole

COIN = Lookup("synthetix_futures_coin", (EMITTER,))


def _coin(missing: MissingFact, deployed: Sequence[Deployment]) -> Inquiry:
    """`sETH` of ETH. Synthetixio/synthetix:publish/deployed/mainnet-ovm/futures-markets.json"""
    (answer,) = yield [call(missing.subject, "marketKey()")]
    key = clean(raw_text(answer))
    return (missing.told(key[1:]),) if key and key.startswith("s") and key != "s" else ()


SPEC = ProtocolSpec(
    name="synthetix_futures",
    kind="perp",
    evidence="contracts",
    contracts={
        "market": Contract(
            abi="synthetix_futures_market.json",
            events={
                "PositionLiquidated": PerpMap(
                    account="account",
                    liquidator="liquidator",
                    market=(EMITTER, COIN),
                    quote="sUSD",
                    margin_mode="isolated",
                    then=closed_whole,
                )
            },
        )
    },
    deployments=deployments("synthetix_futures"),
    asks={COIN.fact: _coin},
    methodology=(
        "Each event closes the whole position `size`, long where it is positive, at `price` sUSD;"
        " `fee` is the liquidator's, what was left of the margin beyond it no event tells."
    ),
)
