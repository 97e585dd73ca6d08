"""Synthetix perps v2 on Optimism, of which Kwenta and Polynomial v1 were front ends. The proxy of a
market emits the event, with nothing indexed; the account is often a smart margin contract.

Markets are those of the manager, which still has those of the version before under other keys.
Synthetixio/synthetix:contracts/FuturesMarketManager.sol
"""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

from indexer.abi_calls import address_of, call
from indexer.evm_model import (
    EMITTER,
    EMITTER_FACT,
    Contract,
    Deployment,
    FactMap,
    Inquiry,
    Lookup,
    MissingFact,
    PerpLiquidation,
    PerpMap,
    ProtocolSpec,
    Value,
)
from indexer.oracles import scaled
from indexer.tokens import clean, raw_text
from indexer.venues.evm import deployments

NAME = "synthetix_perps_v2"
COIN = Lookup("synthetix_coin", (EMITTER,))  # what a market is of: ETH
PLACES = 18  # Synthetixio/synthetix:contracts/SafeDecimalMath.sol
# The form of 2023 tells the stakers' part, that of the first weeks (v2.86.1) only the other two
# together. Synthetixio/synthetix:contracts/PerpsV2MarketLiquidate.sol
FEES = ("flaggerFee", "liquidatorFee", "stakersFee", "fee")


def closed_whole(row: PerpLiquidation, args: dict[str, Any]) -> PerpLiquidation:
    """Synthetix' markets close all of a position, until v3 came."""
    size, price = args["size"], args["price"]
    return row.with_(
        side="long" if size > 0 else "short",
        size=scaled(abs(size), PLACES),
        price=scaled(price, PLACES),
        notional=scaled(abs(size) * price, 2 * PLACES),
        position_before=scaled(size, PLACES),
        position_after=Decimal(0),
        is_full_close=True,
        fee=scaled(sum(args[fee] for fee in FEES if fee in args), PLACES),
    )


def _coin_of(key: bytes | None) -> str | None:
    """`sETHPERP` of ETH; no such key is one of the version before.

    Synthetixio/synthetix:publish/deployed/mainnet-ovm/perpsv2-markets.json"""
    text = clean(key)
    if text is None or not (text.startswith("s") and text.endswith("PERP")):
        return None
    return text[1:-4] or None


def _added(args: dict[str, Value]) -> Iterable[tuple[str, str, str]]:
    """A market and what it is of, from the key that the manager took it in under."""
    coin = _coin_of(bytes.fromhex(str(args["marketKey"])[2:]).rstrip(b"\0"))
    if coin is not None:
        market = str(args["market"])
        yield EMITTER_FACT, market, f"{NAME}/market"
        yield COIN.fact, market, coin


def _market(missing: MissingFact, deployed: Sequence[Deployment]) -> Inquiry:
    """A market says what its key is, the manager whether that key is this market's."""
    (said,) = yield [call(missing.subject, "marketKey()")]
    if _coin_of(raw_text(said)) is None or len(said.data) != 32:
        return ()
    managers = [one for one in deployed if one.role == "manager"]
    key = "0x" + said.data.hex()
    answers = yield [call(one.address, "marketForKey(bytes32)", key) for one in managers]
    for manager, answer in zip(managers, answers, strict=True):
        if address_of(answer) == missing.subject:
            return (missing.told(f"{manager.name}/market"),)
    return ()


def _coin(missing: MissingFact, deployed: Sequence[Deployment]) -> Inquiry:
    """Synthetixio/synthetix:contracts/PerpsV2MarketBase.sol, marketKey"""
    (answer,) = yield [call(missing.subject, "marketKey()")]
    coin = _coin_of(raw_text(answer))
    return () if coin is None else (missing.told(coin),)


SPEC = ProtocolSpec(
    name=NAME,
    kind="perp",
    evidence="contracts",
    contracts={
        "manager": Contract(
            abi="synthetix_perps_v2_manager.json", events={"MarketAdded": FactMap(also=_added)}
        ),
        "market": Contract(
            abi="synthetix_perps_v2_market.json",
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
        ),
    },
    deployments=deployments(NAME),
    asks={EMITTER_FACT: _market, COIN.fact: _coin},
    methodology=(
        "Each event closes the whole position `size`, long where it is positive, at"
        " `price` sUSD; the fee is `flaggerFee`, `liquidatorFee` and `stakersFee` together, all"
        " that was left of the margin. The first form of the event has but one `fee`, which is"
        " without the part of the stakers. The flag before it, in a transaction of its own, is"
        " not counted. Markets are those that the manager has added under a `marketKey` that ends"
        " in PERP."
    ),
)
