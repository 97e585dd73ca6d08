"""Exactly. The emitter is the market that was borrowed from, at fixed and floating rates alike; the
auditor lists the markets. What debt is left of an account without collateral each of its markets
logs by itself, in the call of the last liquidation or in a later one."""

from collections.abc import Sequence
from typing import NamedTuple

from indexer.abi_calls import WORD, address_of, bool_of, call, getter, uint_of
from indexer.evm_model import (
    EMITTER,
    EMITTER_FACT,
    NATIVE,
    USD,
    CallResult,
    Contract,
    Deployment,
    Dialogue,
    EventMap,
    FactMap,
    Inquiry,
    LendingLiquidation,
    Lookup,
    MissingFact,
    NoQuote,
    ProtocolSpec,
    Quote,
    Subject,
    Value,
)
from indexer.oracles import (
    NOT_LISTED,
    UNKNOWN_UNIT,
    number_of,
    oracle_of,
    plain_feed,
    scaled,
    unit_itself,
)
from indexer.venues.evm import deployments

DEBT = (Lookup("underlying", (EMITTER,)), "assets")
# exactly/protocol:contracts/Auditor.sol, MarketData
MEMBERS, DECIMALS, IS_LISTED, FEED = 5, 1, 3, 4


def _written_off(row: LendingLiquidation, args: dict[str, Value]) -> LendingLiquidation:
    return row.with_(repaid=None, bad_debt=row.repaid)


def _market(missing: MissingFact, deployed: Sequence[Deployment]) -> Inquiry:
    auditors = [one for one in deployed if one.role == "auditor"]
    answers = yield [call(one.address, "markets(address)", missing.subject) for one in auditors]
    vouchers = zip(auditors, answers, strict=True)
    names = {one.name for one, answer in vouchers if bool_of(answer, IS_LISTED, of=MEMBERS)}
    return (missing.told(f"{names.pop()}/market"),) if len(names) == 1 else ()


PRICE_PLACES = 18  # exactly/protocol:contracts/Auditor.sol, assetPrice
# Feeds of dollars have 8 decimals, those of ether have 18 and stand beside a market of ether that
# needs none. exactly/protocol:contracts/Auditor.sol, priceDecimals and BASE_FEED
DOLLAR_PLACES = 8
MOST_MARKETS = 256  # exactly/protocol:contracts/Auditor.sol, enableMarket


class _Listed(NamedTuple):
    """What the auditor knows of a market."""

    asset: str
    decimals: int
    feed: str


def oracle(subject: Subject, deployed: Sequence[Deployment]) -> Dialogue[Quote | NoQuote]:
    """What the auditor takes the token of any of its markets for, in dollars, or in the token of
    the one market that it asks no feed for.

    exactly/protocol:contracts/Auditor.sol, calculateSeize and assetPrice"""
    (told,) = yield [call(subject.market, "auditor()")]
    auditor = oracle_of(told)
    if isinstance(auditor, NoQuote):
        return auditor
    places_told, listed = yield [call(auditor, "priceDecimals()"), call(auditor, "allMarkets()")]
    places, markets = uint_of(places_told, bits=8), _addresses(listed)
    if places is None or places > PRICE_PLACES:
        return UNKNOWN_UNIT
    answers = yield [
        asked
        for market in markets
        for asked in (call(market, "asset()"), call(auditor, "markets(address)", market))
    ]
    known = [_listed(*pair) for pair in zip(answers[::2], answers[1::2], strict=True)]
    bases = {one for one in known if one and one.feed == NATIVE}
    found = next((one for one in known if one and one.asset == subject.asset), None)
    if found is None:
        return NOT_LISTED
    if len(bases) > 1 or (not bases and places != DOLLAR_PLACES):
        return UNKNOWN_UNIT
    base = bases.pop() if bases else None
    if found == base:
        return unit_itself(found.asset, (subject.market, auditor))
    (priced,) = yield [call(auditor, "assetPrice(address)", found.feed)]
    price = number_of(priced)
    if isinstance(price, NoQuote):
        return price
    plain, at_round = yield from plain_feed(found.feed, price // 10 ** (PRICE_PLACES - places))
    return Quote(
        scaled(price, PRICE_PLACES + found.decimals - (base.decimals if base else 0)),
        base.asset if base else USD,
        (subject.market, auditor, found.feed),
        feed=plain,
        feed_round=at_round,
    )


def _addresses(answer: CallResult) -> list[str]:
    """An array of them, behind its own offset; one that is not whole has none."""
    size = uint_of(answer, 1, of=None, bits=16)
    if uint_of(answer, 0, of=None) != WORD or size is None or size > MOST_MARKETS:
        return []
    found = [address_of(answer, 2 + at, of=2 + size) for at in range(size)]
    return [one for one in found if one is not None]


def _listed(asset: CallResult, data: CallResult) -> _Listed | None:
    token, feed = address_of(asset), address_of(data, FEED, of=MEMBERS)
    decimals = uint_of(data, DECIMALS, of=MEMBERS, bits=8)
    if token is None or feed is None or decimals is None:
        return None
    return _Listed(token, decimals, feed)


SPEC = ProtocolSpec(
    name="exactly",
    kind="lending",
    evidence="contracts",
    contracts={
        "auditor": Contract(
            abi="exactly_auditor.json",
            events={"MarketListed": FactMap(proves={"market": "market"})},
        ),
        "market": Contract(
            abi="exactly_market.json",
            events={
                "Liquidate": EventMap(
                    account="borrower",
                    liquidator="receiver",
                    repaid=DEBT,
                    seized=(Lookup("underlying", ("seizeMarket",)), "seizedAssets"),
                ),
                "SpreadBadDebt": EventMap(
                    account="borrower", method="write_off", repaid=DEBT, then=_written_off
                ),
            },
        ),
    },
    deployments=deployments("exactly"),
    asks={
        EMITTER_FACT: _market,
        # exactly/protocol:contracts/Market.sol, an ERC-4626
        "underlying": getter("asset()"),
    },
    oracle=oracle,
    # No bonus: it has no limit, and an account may have less than it. No fee rule: the liquidator
    # pays the lenders their part beside the debt, so that what is seized is not all for it.
    methodology=(
        "Debt `assets` of the token of the emitting market and collateral `seizedAssets` of that of"
        " `seizeMarket`, paid out to the `receiver`, who is the liquidator. For the debt it paid"
        " `lendersAssets` more, to the market's lenders: that is no debt, and what is seized makes"
        " up for it. Debt that is left without collateral is a row of its own, a write-off of"
        " `assets` for each market."
        " No bounds of the bonus: collateral may run short, and the rest of it is set by"
        " governance."
    ),
)
