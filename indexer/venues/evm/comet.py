"""Compound v3. One absorbed account is an AbsorbDebt after an AbsorbCollateral for each asset.

`basePaidOut` is the change of the account's balance. What the collateral was worth above the debt
stays with the account as a positive balance, minted in the very next log: not debt. A later
BuyCollateral sells what the protocol took and is no second liquidation.
compound-finance/comet:contracts/Comet.sol, absorbInternal
"""

import re
from collections.abc import Iterable, Sequence
from decimal import ROUND_HALF_EVEN, Context
from typing import NamedTuple

from indexer.abi_calls import WORD, address_of, call, getter, uint_of
from indexer.evm_model import (
    EMITTER,
    NOBODY,
    SIBLING,
    USD,
    CallResult,
    Contract,
    Deployment,
    Dialogue,
    EventMap,
    Facts,
    Joinable,
    Leg,
    LendingLiquidation,
    Lookup,
    NoQuote,
    ProtocolSpec,
    Quote,
    Sibling,
    Subject,
    UndecodedLog,
)
from indexer.oracles import (
    NOT_LISTED,
    UNREADABLE,
    number_of,
    plain_feed,
    power_of_ten,
    scaled,
    unit_itself,
)
from indexer.venues.evm import deployments


def join(events: Sequence[Joinable], facts: Facts) -> Iterable[LendingLiquidation | UndecodedLog]:
    """Take the refund out of the debt and give the row its collateral, a part for each asset."""
    collateral = [e for e in events if isinstance(e, Sibling) and e.name == "AbsorbCollateral"]
    after = {event.log_index - 1: event for event in events}
    for row in events:
        if isinstance(row, LendingLiquidation):
            own = [c for c in collateral if _is_of(row, c)]
            collateral = [c for c in collateral if c not in own]
            yield from _absorbed(row, _refund(row, after.get(row.log_index)), own)
    for taken in collateral:
        yield taken.alone("no AbsorbDebt of the account after it", SPEC.decoder_version)


def _is_of(row: LendingLiquidation, taken: Sibling) -> bool:
    return taken.log_index < row.log_index and taken.says(
        "AbsorbCollateral", row.emitter, borrower=row.account
    )


def _refund(row: LendingLiquidation, following: Joinable | None) -> int:
    if isinstance(following, Sibling) and following.says(
        "Transfer", row.emitter, from_=NOBODY, to=row.account
    ):
        return following.number("value")
    return 0


def _absorbed(
    row: LendingLiquidation, refund: int, taken: list[Sibling]
) -> Iterable[LendingLiquidation]:
    assert row.repaid is not None
    row = row.with_(repaid=Leg(row.repaid.asset, row.repaid.raw - refund))
    legs = [Leg(event.text("asset"), event.number("collateralAbsorbed")) for event in taken]
    yield row.with_(seized=legs[0] if legs else None)
    for number, leg in enumerate(legs[1:], start=1):
        yield row.part(number, seized=leg)


PRICE_DECIMALS = 8  # compound-finance/comet:contracts/CometCore.sol, PRICE_FEED_DECIMALS
ONE = 10**PRICE_DECIMALS
RATIO = Context(prec=60, rounding=ROUND_HALF_EVEN)  # digits: far more than a feed has


class _Asset(NamedTuple):
    """What a market knows of a token: its feed, and as a power of ten its base units."""

    feed: str
    decimals: int


def oracle(subject: Subject, deployed: Sequence[Deployment]) -> Dialogue[Quote | NoQuote]:
    """Prices of a market are dollars only if the feed of its base token says so. What else they
    are no contract tells: ether on WETH markets, whose base feed is a constant 1. The ratio of two
    prices is right in any unit, so that the base token is the unit then.

    compound-finance/comet:contracts/CometMainInterface.sol, deployments/mainnet/weth/deploy.ts"""
    comet = subject.market
    token, scale, feed, info = yield [
        call(comet, "baseToken()"),
        call(comet, "baseScale()"),
        call(comet, "baseTokenPriceFeed()"),
        call(comet, "getAssetInfoByAddress(address)", subject.asset),
    ]
    base_token, base = address_of(token), _asset(address_of(feed), uint_of(scale))
    if base_token is None or base is None:
        return UNREADABLE
    asset = base if subject.asset == base_token else _listed(subject.asset, info)
    if isinstance(asset, NoQuote):
        return asset
    priced, base_priced, description = yield [
        call(comet, "getPrice(address)", asset.feed),
        call(comet, "getPrice(address)", base.feed),
        call(base.feed, "description()"),
    ]
    price, base_price = number_of(priced), number_of(base_priced)
    if isinstance(price, NoQuote):
        return price
    via = (comet, asset.feed)
    if _is_in_dollars(description):
        plain, at_round = yield from plain_feed(asset.feed, price)
        return Quote(
            scaled(price, PRICE_DECIMALS + asset.decimals),
            USD,
            via,
            feed=plain,
            feed_round=at_round,
        )
    if asset is base:
        return unit_itself(base_token, via)
    if isinstance(base_price, NoQuote):
        return base_price
    per_unit = scaled(price, PRICE_DECIMALS + asset.decimals - base.decimals)
    if base_price == ONE:
        plain, at_round = yield from plain_feed(asset.feed, price)
        return Quote(per_unit, base_token, via, feed=plain, feed_round=at_round)
    ratio = RATIO.divide(per_unit, scaled(base_price, PRICE_DECIMALS))
    return Quote(ratio, base_token, (*via, base.feed))


def _asset(feed: str | None, scale: int | None) -> _Asset | None:
    decimals = power_of_ten(scale)
    return None if feed is None or decimals is None else _Asset(feed, decimals)


def _listed(asset: str, info: CallResult) -> _Asset | NoQuote:
    """Collateral, by its AssetInfo: after an offset come token, feed and scale, eight members in
    all. A Comet reverts for a token that it does not list."""
    if not info.is_ok:
        return NOT_LISTED
    known = _asset(address_of(info, 2, of=8), uint_of(info, 3, of=8, bits=64))
    return known if known and address_of(info, 1, of=8) == asset else UNREADABLE


def _is_in_dollars(description: CallResult) -> bool:
    """`USDC / USD`, or `mETH / USD price feed` of Comet's own feeds; a constant feed names no unit.

    compound-finance/comet:contracts/pricefeeds/ConstantPriceFeed.sol"""
    size = uint_of(description, 1, of=None)
    if uint_of(description, 0, of=None) != WORD or size is None:
        return False
    text = description.data[2 * WORD :][:size]
    return re.search(rb"/ ?USD( price feed)?$", text) is not None


SPEC = ProtocolSpec(
    name="comet",
    kind="lending",
    contracts={
        "comet": Contract(
            abi="comet.json",
            events={
                "AbsorbDebt": EventMap(
                    account="borrower",
                    liquidator="absorber",
                    method="absorb",
                    repaid=(Lookup("underlying", (EMITTER,)), "basePaidOut"),
                ),
                "AbsorbCollateral": SIBLING,
            },
        )
    },
    bystander=Contract(abi="erc20.json", events={"Transfer": SIBLING}),
    needs_receipt=True,
    join=join,
    deployments=deployments("comet"),
    # compound-finance/comet:contracts/CometMainInterface.sol
    asks={"underlying": getter("baseToken()")},
    # no bonus: an absorption takes all collateral, however much it is worth
    oracle=oracle,
    evidence="real",
    methodology=(
        "Debt is `basePaidOut` minus the `value` minted back to the account in the next log;"
        " collateral is `collateralAbsorbed` of each `asset`, taken by the protocol. The"
        " liquidator is the `absorber`, who gets points and no collateral. `usdValue` is not used:"
        " its unit is the quote of the market, which may be ETH or BTC."
    ),
)
