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


def plain_feed(source: str | None, price: int) -> Dialogue[tuple[str | None, int | None]]:
    """The price source itself and the round it is at, where it is Chainlink's proxy and no adapter
    that caps or multiplies: it names its aggregator, and answers the protocol's price to the digit.

    smartcontractkit/chainlink:contracts/src/v0.6/AggregatorProxy.sol"""
    if source is None or source == NOBODY:
        return None, None
    aggregator, latest = yield [call(source, "aggregator()"), call(source, "latestRoundData()")]
    is_proxy = address_of(aggregator) not in (None, NOBODY)
    is_plain = is_proxy and uint_of(latest, 1, of=5) == price
    return (source, uint_of(latest, 0, of=5)) if is_plain else (None, None)


class FeedState(NamedTuple):
    """What a feed answers in which round, None where it is silent; `emitter` logs its answers."""

    emitter: str | None
    answer: int | None
    round: int | None = None


def feed_state(feed: Feed) -> Dialogue[FeedState]:
    """Chainlink's proxy names its aggregator; one without the function is its own. The round of a
    feed that others push is the time of its price, which only rises.

    smartcontractkit/chainlink-evm:contracts/src/v0.7/dev/AggregatorProxy.sol,
    pyth-network/pyth-sdk-solidity:PythStructs.sol (price, confidence, exponent, time),
    euler-xyz/euler-price-oracle:src/adapter/redstone/RedstoneCoreOracle.sol"""
    match feed:
        case PythFeed():
            (price,) = yield [call(feed.pyth, "getPriceUnsafe(bytes32)", feed.id)]
            return FeedState(feed.pyth, uint_of(price, 0, of=4, bits=63), uint_of(price, 3, of=4))
        case RedstoneFeed():
            (price,) = yield [call(feed.adapter, "cache()")]
            return FeedState(feed.adapter, uint_of(price, 0, of=2), uint_of(price, 1, of=2))
        case str():
            named, latest = yield [call(feed, "aggregator()"), call(feed, "latestRoundData()")]
            return FeedState(
                contract_of(named), uint_of(latest, 1, of=5, bits=255), uint_of(latest, 0, of=5)
            )


def contract_of(answer: CallResult) -> str | None:
    """The contract that an answer names, if any."""
    address = address_of(answer)
    return None if address == NOBODY else address
