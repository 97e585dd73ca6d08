"""How protocols' own oracles are read: numbers into quotes without rounding, silence into reasons.

An oracle is a contract like any other: it may revert, answer 0 or below, or nothing that fits its
interface. Each of these is a `NoQuote` of its own. Pure.
"""

from decimal import Decimal
from typing import NamedTuple

from indexer.abi_calls import address_of, call, uint_of
from indexer.evm_model import (
    NOBODY,
    CallResult,
    Dialogue,
    Feed,
    NoQuote,
    PythFeed,
    Quote,
    RedstoneFeed,
    RedstonePush,
)

REVERTS = NoQuote("the oracle reverts")
UNREADABLE = NoQuote("the oracle's answer is unreadable")
ZERO = NoQuote("the oracle answers 0")
NEGATIVE = NoQuote("the oracle answers a negative number")
NO_ORACLE = NoQuote("no oracle is set")
UNKNOWN_ORACLE = NoQuote("the market does not tell its oracle")
NO_DECIMALS = NoQuote("the token states no decimals")
UNKNOWN_UNIT = NoQuote("the unit of the oracle is unknown")
NOT_LISTED = NoQuote("the market does not know the asset")


def unit_itself(asset: str, via: tuple[str, ...]) -> Quote:
    """A market prices its own unit in nothing else: one is one, and what that is in dollars
    others say."""
    return Quote(Decimal(1), asset, via)


def scaled(number: int, places: int) -> Decimal:
    """`number` / 10**`places`, exactly, whatever the context: from text nothing is rounded."""
    return Decimal(f"{number}e{-places}")


def power_of_ten(number: int | None) -> int | None:
    """The exponent where it is one, as every scale must be that divides without rounding."""
    digits = str(number)
    return len(digits) - 1 if digits == "1" + "0" * (len(digits) - 1) else None


def number_of(answer: CallResult) -> int | NoQuote:
    """A price or a rate: one word, greater than 0. One with the sign bit set was below."""
    number = uint_of(answer)
    if number is None:
        return UNREADABLE if answer.is_ok else REVERTS
    if number >= 2**255:
        return NEGATIVE
    return number or ZERO


def oracle_of(answer: CallResult) -> str | NoQuote:
    """The contract that a market, or what it names, names."""
    address = address_of(answer)
    return UNKNOWN_ORACLE if address is None else NO_ORACLE if address == NOBODY else address


def decimals_of(answer: CallResult) -> int | NoQuote:
    """What a token says; nobody else knows, and there is no default."""
    decimals = uint_of(answer, bits=8)
    return NO_DECIMALS if decimals is None else decimals


def followed(start: str, *signatures: str) -> Dialogue[tuple[str, ...] | NoQuote]:
    """Each getter is asked of what the one before it named: all addresses on the way."""
    way = [start]
    for signature in signatures:
        (answer,) = yield [call(way[-1], signature)]
        named = oracle_of(answer)
        if isinstance(named, NoQuote):
            return named
        way.append(named)
    return tuple(way)


class FeedState(NamedTuple):
    """What a feed answers in which round, None where it is silent; `emitter` logs its answers."""

    emitter: str | None
    answer: int | None
    round: int | None = None


def plain_feed(source: str | None, price: int) -> Dialogue[tuple[Feed | None, int | None]]:
    """The feed that a price source is and the round it is at, where it is Chainlink's proxy or a
    price feed of RedStone's and no adapter that caps or multiplies: it names its aggregator or
    adapter, and that answers the protocol's price to the digit.

    smartcontractkit/chainlink:contracts/src/v0.6/AggregatorProxy.sol"""
    if source is None or source == NOBODY:
        return None, None
    aggregator, latest = yield [call(source, "aggregator()"), call(source, "latestRoundData()")]
    if uint_of(latest, 1, of=5) != price:
        return None, None
    if contract_of(aggregator):
        return source, uint_of(latest, 0, of=5)
    push, state = yield from redstone_push(source)
    return (push if state.answer == price else None), None


def redstone_push(source: str) -> Dialogue[tuple[RedstonePush | None, FeedState]]:
    """What a price feed of RedStone's stands for, and what is answered there; None and silence of
    any other contract. An adapter keeps many feeds or is its only one itself. It takes at most one
    update of a feed in a block, so what answers the same at both ends of one did not move in it,
    and no round need tell: feeds that count none say 1 for ever.

    redstone-finance/redstone-oracles-monorepo:packages/on-chain-relayer/contracts/price-feeds/
    PriceFeedBase.sol, without-rounds/MultiFeedAdapterWithoutRounds.sol (_validateBlockTimestamp),
    without-rounds/PriceFeedWithoutRounds.sol, MergedPriceFeedAdapterCommon.sol"""
    adapter, number = yield [call(source, "getPriceFeedAdapter()"), call(source, "getDataFeedId()")]
    named, feed_id = contract_of(adapter), uint_of(number)
    if named is None or not feed_id:
        return None, FeedState(None, None)
    push = RedstonePush(named, f"0x{feed_id:064x}")
    return push, (yield from feed_state(push))


def feed_state(feed: Feed) -> Dialogue[FeedState]:
    """Chainlink's proxy names its aggregator; one without the function is its own. The round of a
    feed that others push is the time of its price, which only rises.

    smartcontractkit/chainlink-evm:contracts/src/v0.7/dev/AggregatorProxy.sol,
    pyth-network/pyth-sdk-solidity:PythStructs.sol (price, confidence, exponent, time),
    euler-xyz/euler-price-oracle:src/adapter/redstone/RedstoneCoreOracle.sol,
    redstone-finance/redstone-oracles-monorepo:packages/on-chain-relayer/contracts/price-feeds/
    without-rounds/MultiFeedAdapterWithoutRounds.sol (times of data and block, value); one that is
    its own price feed has Chainlink's function instead, with the time of the block"""
    match feed:
        case PythFeed():
            (price,) = yield [call(feed.pyth, "getPriceUnsafe(bytes32)", feed.id)]
            return FeedState(feed.pyth, uint_of(price, 0, of=4, bits=63), uint_of(price, 3, of=4))
        case RedstoneFeed():
            (price,) = yield [call(feed.adapter, "cache()")]
            return FeedState(feed.adapter, uint_of(price, 0, of=2), uint_of(price, 1, of=2))
        case RedstonePush():
            kept, latest = yield [
                call(feed.adapter, "getLastUpdateDetailsUnsafe(bytes32)", feed.id),
                call(feed.adapter, "latestRoundData()"),
            ]
            if (value := uint_of(kept, 2, of=3)) is not None:
                return FeedState(feed.adapter, value, uint_of(kept, 1, of=3))
            return FeedState(
                feed.adapter, uint_of(latest, 1, of=5, bits=255), uint_of(latest, 3, of=5)
            )
        case str():
            named, latest = yield [call(feed, "aggregator()"), call(feed, "latestRoundData()")]
            return FeedState(
                contract_of(named), uint_of(latest, 1, of=5, bits=255), uint_of(latest, 0, of=5)
            )


def contract_of(answer: CallResult) -> str | None:
    """The contract that an answer names, if any."""
    address = address_of(answer)
    return None if address == NOBODY else address
