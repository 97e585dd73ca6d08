"""What each protocol's own oracle is asked, the price that comes of it, and why there is none."""

from decimal import Decimal, localcontext

import pytest
from eth_utils import keccak
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.evm_model import (
    NATIVE,
    NOBODY,
    USD,
    Bonus,
    CallResult,
    EventMap,
    Feed,
    NoQuote,
    ProtocolSpec,
    PythFeed,
    Quote,
    RedstoneFeed,
    RedstonePush,
    Subject,
)
from indexer.inquiry import inquire
from indexer.oracles import power_of_ten, scaled
from indexer.venues.evm.aave_v2 import ETHER
from indexer.venues.evm.compound_v2 import COINS
from tests.evm_logs import DECODER, SPECS
from tests.fake_chain import NOTHING, RESULTS, REVERTED, Answers, FakeChain, asked, says


def spec_of(protocol: str) -> ProtocolSpec:
    return DECODER.spec_of(f"{protocol}.anywhere")


def quote(protocol: str, subject: Subject, chain: FakeChain) -> Quote | NoQuote:
    """What a protocol's oracle makes of an asset on a chain that answers so."""
    spec = spec_of(protocol)
    assert spec.oracle is not None
    return inquire({0: spec.oracle(subject, spec.deployments)}, chain.call_many)[0]


def address(digit: str) -> str:
    return "0x" + 40 * digit


MARKET, ASSET, BASE, PROVIDER, ORACLE, FEED, AGGREGATOR, OTHER = map(address, "12345678")
WETH = "0xc02aaa39b223fe8d0a0e5c4f27ead9083c756cc2"
WETH_OF_POLYGON = "0x7ceb23fd6bc0add59e62ac25578270cff1b9f619"
DOLLARS_OF_V2 = "0x10f7fc1f91ba351f9c629c5947ad69bd03c05b96"


def of(chain: str, asset: str = ASSET, market: str = MARKET) -> Subject:
    return Subject(chain, market, asset, market)


ROUND = 2**64 + 7


def plain(price: int, feed: str = FEED) -> Answers:
    """A proxy of Chainlink: round, answer, both times, round answered in."""
    return {
        asked(feed, "aggregator()"): says("address", AGGREGATOR),
        asked(feed, "latestRoundData()"): says(
            "uint80 int256 uint256 uint256 uint80", ROUND, price, 1, 1, ROUND
        ),
    }


FEED_ID = "0x" + b"ETH".hex().ljust(64, "0")  # as RedStone names its feeds: text in 32 bytes
NO_ID = "0x" + 64 * "0"


def redstone(price: int, kept: int, adapter: str = AGGREGATOR, feed_id: str = FEED_ID) -> Answers:
    """A price feed of RedStone's, always in round 1, and the adapter that keeps its price."""
    return {
        asked(FEED, "latestRoundData()"): says(
            "uint80 int256 uint256 uint256 uint80", 1, price, 1_720_000_000, 1_720_000_000, 1
        ),
        asked(FEED, "getPriceFeedAdapter()"): says("address", adapter),
        asked(FEED, "getDataFeedId()"): says("bytes32", bytes.fromhex(feed_id[2:])),
        asked(AGGREGATOR, "getLastUpdateDetailsUnsafe(bytes32)", bytes.fromhex(FEED_ID[2:])): says(
            "uint256 uint256 uint256", 1_719_999_999_000, 1_720_000_000, kept
        ),
    }


# Aave v1 to v3: which getter of the pool names its addresses provider
PROVIDERS = {
    "aave_v1": "addressesProvider()",
    "aave_v2": "getAddressesProvider()",
    "agave": "getAddressesProvider()",
    "radiant": "getAddressesProvider()",
    "aave_v3": "ADDRESSES_PROVIDER()",
}
GET_PRICE, GET_SOURCE = "getAssetPrice(address)", "getSourceOfAsset(address)"
WAY = (MARKET, PROVIDER, ORACLE)


def aave(protocol: str, price: int, decimals: int, asset: str = ASSET) -> Answers:
    """A pool whose oracle says nothing of its unit."""
    return {
        asked(MARKET, PROVIDERS[protocol]): says("address", PROVIDER),
        asked(PROVIDER, "getPriceOracle()"): says("address", ORACLE),
        asked(ORACLE, GET_PRICE, asset): says("uint256", price),
        asked(ORACLE, GET_SOURCE, asset): says("address", FEED),
        asked(asset, "decimals()"): says("uint8", decimals),
    }


def in_base(currency: str, unit: int) -> Answers:
    return {
        asked(ORACLE, "BASE_CURRENCY()"): says("address", currency),
        asked(ORACLE, "BASE_CURRENCY_UNIT()"): says("uint256", unit),
    }


DOLLARS = in_base(NOBODY, 10**8)
OLD = {asked(ORACLE, "WETH()"): says("address", WETH)}
V3 = aave("aave_v3", 2000 * 10**8, 18) | DOLLARS


# Compound's family
CTOKEN, OTHER_CTOKEN, POOL = address("a"), address("b"), address("c")
GET_UNDERLYING = "getUnderlyingPrice(address)"


def compound(price: int, *, pool: str = POOL, market: str = CTOKEN) -> Answers:
    """A market of ASSET whose comptroller's oracle says this of it."""
    return {
        asked(CTOKEN, "comptroller()"): says("address", pool),
        asked(CTOKEN, "underlying()"): says("address", ASSET),
        asked(pool, "oracle()"): says("address", ORACLE),
        asked(ORACLE, GET_UNDERLYING, market): says("uint256", price),
    }


SHARES = compound(2000 * 10**18, market=OTHER_CTOKEN) | {
    asked(OTHER_CTOKEN, "comptroller()"): says("address", POOL),
    asked(OTHER_CTOKEN, "exchangeRateStored()"): says("uint256", 200_123456789012345678901234),
}
COMPOUND, CETH = (
    "0x3d9819210a31b4961b30ef54be2aed79b9c9cd3b",
    "0x4ddc2d193948926d02f9b1fe9e1daa0718270ed5",
)
FUSE = "0x621579dd26774022f33147d3852ef4e00024b763"
VAI, VAI_CONTROLLER = (
    "0x4bd17003473389a42daf6a0a729f6fdb328bbbd7",
    "0x004065d34c6b18ce4370ced1cebde94865dbfafe",
)

# Comet
GET_INFO = "getAssetInfoByAddress(address)"
INFO = "uint8 address address uint64 uint64 uint64 uint64 uint128"
BASE_FEED = address("d")


def comet(
    price: int, scale: int, base_price: int, base_scale: int, description: str, asset: str = ASSET
) -> Answers:
    return {
        asked(MARKET, "baseToken()"): says("address", BASE),
        asked(MARKET, "baseScale()"): says("uint256", base_scale),
        asked(MARKET, "baseTokenPriceFeed()"): says("address", BASE_FEED),
        asked(MARKET, GET_INFO, asset): says(INFO, 1, asset, FEED, scale, 1, 1, 1, 1),
        asked(MARKET, "getPrice(address)", FEED): says("uint256", price),
        asked(MARKET, "getPrice(address)", BASE_FEED): says("uint256", base_price),
        asked(BASE_FEED, "description()"): says("string", description),
    }


IN_DOLLARS = comet(2000_50000000, 10**18, 99990000, 10**6, "USDC / USD")
IN_ETHER = comet(29_87654321, 10**8, 10**8, 10**18, "Constant price feed")

# Morpho Blue
MORPHO = "0xbbbbbbbbbb9cc5e90e3b3af64bdaf62c37eeffcb"
# wstETH/USDC on Ethereum, 86 %; that its parameters hash to its id shows that both are right
WSTETH_USDC = "0xb323495f7e4148be5643a4ea4a8221eef163e4bccfdedc2a6f4696baacbc86cc"
USDC, WSTETH, WSTETH_ORACLE = (
    "0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48",
    "0x7f39c581f595b53c5cb19bd0b3f8da6c935e2ca0",
    "0x48f7e36eb6b826b2df4b2e630b62cd25e89e40e2",
)
OF_ID = asked(MORPHO, "idToMarketParams(bytes32)", bytes.fromhex(WSTETH_USDC[2:]))
PARAMETERS = says(
    "address address address address uint256", USDC, WSTETH, WSTETH_ORACLE,
    "0x870ac11d48b15db9a138cf899d20f13f79ba00bc", 86 * 10**16,
)  # fmt: skip
PRICE_OF_WSTETH = asked(WSTETH_ORACLE, "price()")
# wstETH at 2,341.5: 2341.5 * 10**6 base units of USDC for 10**18
LENDING = {OF_ID: PARAMETERS, PRICE_OF_WSTETH: says("uint256", 23415 * 10**23)}

IDLE = says("address address address address uint256", USDC, WSTETH, NOBODY, NOBODY, 0)
IDLE_ID = "0x" + keccak(IDLE.data).hex()
OF_IDLE = asked(MORPHO, "idToMarketParams(bytes32)", bytes.fromhex(IDLE_ID[2:]))

# Euler
GET_QUOTE = "getQuote(uint256,address,address)"
DOLLAR = "0x" + 37 * "0" + "348"


def euler(unit: str, quoted: dict[int, int], asset: str = ASSET) -> Answers:
    """A vault with this unit of account, and what its router says of some amounts."""
    return {
        asked(MARKET, "oracle()"): says("address", ORACLE),
        asked(MARKET, "unitOfAccount()"): says("address", unit),
    } | {
        asked(ORACLE, GET_QUOTE, amount, asset, unit): says("uint256", said)
        for amount, said in quoted.items()
    }


RESOLVE = "resolveOracle(uint256,address,address)"
PRICE_ID = "0x" + 64 * "e"


def adapted(**getters: CallResult) -> Answers:
    """The vault in dollars once more, whose router chooses an adapter with these getters."""
    return {
        **euler(DOLLAR, {10**30: 9999 * 10**38}),
        asked(ORACLE, RESOLVE, 10**18, ASSET, DOLLAR): says(
            "uint256 address address address", 10**18, ASSET, DOLLAR, OTHER
        ),
        **{asked(OTHER, f"{name}()"): answer for name, answer in getters.items()},
    }


def through(feed: Feed | None, at_round: int | None) -> Quote:
    return Quote(
        Decimal("0.9999") / 10**6, USD, (MARKET, ORACLE, OTHER),
        trust="market", feed=feed, feed_round=at_round,
    )  # fmt: skip


# Aave v4
RESERVE = "address address uint16 uint8 uint24 uint8 uint32"
GET_RESERVE, RESERVE_PRICE = "getReserve(uint256)", "getReservePrice(uint256)"


def spoke(decimals: int, prices: dict[int, int]) -> Answers:
    """A Spoke of three reserves, those with a price being of the asset."""
    return (
        {
            asked(MARKET, "ORACLE()"): says("address", ORACLE),
            asked(MARKET, "getReserveCount()"): says("uint256", 3),
            asked(ORACLE, "getReserveSource(uint256)", min(prices)): says("address", FEED),
        }
        | {
            asked(MARKET, GET_RESERVE, number): says(
                RESERVE, ASSET if number in prices else OTHER, BASE, 9, decimals, 0, 4, 1
            )
            for number in range(3)
        }
        | {
            asked(ORACLE, RESERVE_PRICE, number): says("uint256", price)
            for number, price in prices.items()
        }
    )


SPOKE = spoke(8, {1: 61234_56789013})

# What is asked for, of which protocol, what the chain answers and the price of one base unit.
PRICED: list[tuple[str, str, Subject, Answers, Quote]] = [
    (
        "WETH at 2,000 dollars",
        "aave_v3",
        of("ethereum"),
        V3,
        Quote(Decimal("2000") / 10**18, USD, WAY),
    ),
    (
        "WETH at 2,000 dollars, by a plain feed",
        "aave_v3",
        of("ethereum"),
        V3 | plain(2000 * 10**8),
        Quote(Decimal("2000") / 10**18, USD, WAY, feed=FEED, feed_round=ROUND),
    ),
    (
        "an adapter that caps its feed",
        "aave_v3",
        of("ethereum"),
        V3 | plain(2100 * 10**8),
        Quote(Decimal("2000") / 10**18, USD, WAY),
    ),
    (
        "a feed that names no aggregator",
        "aave_v3",
        of("ethereum"),
        V3 | plain(2000 * 10**8) | {asked(FEED, "aggregator()"): says("address", NOBODY)},
        Quote(Decimal("2000") / 10**18, USD, WAY),
    ),
    (
        "a price feed of RedStone's",
        "aave_v3",
        of("ethereum"),
        V3 | redstone(2000 * 10**8, 2000 * 10**8),
        Quote(Decimal("2000") / 10**18, USD, WAY, feed=RedstonePush(AGGREGATOR, FEED_ID)),
    ),
    (
        "a price feed of RedStone's that is its own adapter",
        "aave_v3",
        of("ethereum"),
        V3 | redstone(2000 * 10**8, 0, adapter=FEED),
        Quote(Decimal("2000") / 10**18, USD, WAY, feed=RedstonePush(FEED, FEED_ID)),
    ),
    (
        "a price feed of RedStone's before an adapter that logs no updates",
        "aave_v3",
        of("ethereum"),
        V3 | redstone(2000 * 10**8, 0, adapter=OTHER),
        Quote(Decimal("2000") / 10**18, USD, WAY),
    ),
    (
        "a price feed of RedStone's that says another price than is kept",
        "aave_v3",
        of("ethereum"),
        V3 | redstone(2000 * 10**8, 2100 * 10**8),
        Quote(Decimal("2000") / 10**18, USD, WAY),
    ),
    (
        "a feed with an adapter and no name",
        "aave_v3",
        of("ethereum"),
        V3 | redstone(2000 * 10**8, 2000 * 10**8, feed_id=NO_ID),
        Quote(Decimal("2000") / 10**18, USD, WAY),
    ),
    (
        "no source: a fallback oracle answers",
        "aave_v3",
        of("ethereum"),
        V3 | {asked(ORACLE, GET_SOURCE, ASSET): says("address", NOBODY)},
        Quote(Decimal("2000") / 10**18, USD, WAY),
    ),
    (
        "no decimals to divide by",
        "aave_v3",
        of("base"),
        aave("aave_v3", 13_37000001, 0) | DOLLARS,
        Quote(Decimal("13.37000001"), USD, WAY),
    ),
    (
        "6 decimals",
        "aave_v3",
        of("base"),
        aave("aave_v3", 1_00012347, 6) | DOLLARS,
        Quote(Decimal("0.00000100012347"), USD, WAY),
    ),
    (
        "8 decimals",
        "aave_v3",
        of("base"),
        aave("aave_v3", 61234_56789013, 8) | DOLLARS,
        Quote(Decimal("0.0006123456789013"), USD, WAY),
    ),
    (
        "27 decimals",
        "aave_v3",
        of("base"),
        aave("aave_v3", 27182819, 27) | DOLLARS,
        Quote(Decimal("27182819E-35"), USD, WAY),
    ),
    (
        "all digits of a word",
        "aave_v3",
        of("base"),
        aave("aave_v3", 2**255 - 1, 18) | DOLLARS,
        Quote(Decimal(f"{2**255 - 1}E-26"), USD, WAY),
    ),
    (
        "a unit of account in another token",
        "aave_v3",
        of("base"),
        aave("aave_v3", 25 * 10**6, 18)
        | in_base(BASE, 10**8)
        | {asked(BASE, "decimals()"): says("uint8", 6)},
        # 0.25 whole units of 6 decimals for 10**18
        Quote(Decimal("250000") / 10**18, BASE, WAY),
    ),
    (
        "USDC in ether, by an oracle older than BASE_CURRENCY",
        "aave_v2",
        of("ethereum"),
        aave("aave_v2", 5 * 10**14, 6) | OLD | {asked(WETH, "decimals()"): says("uint8", 18)},
        Quote(Decimal(5 * 10**14) / 10**6, WETH, WAY),
    ),
    (
        "the same on Polygon, by a plain feed",
        "aave_v2",
        of("polygon"),
        aave("aave_v2", 5 * 10**14, 6)
        | {asked(ORACLE, "WETH()"): says("address", WETH_OF_POLYGON)}
        | {asked(WETH_OF_POLYGON, "decimals()"): says("uint8", 18)}
        | plain(5 * 10**14),
        Quote(Decimal(5 * 10**14) / 10**6, WETH_OF_POLYGON, WAY, feed=FEED, feed_round=ROUND),
    ),
    (
        "the address that v2 has for the dollar",
        "aave_v2",
        of("avalanche"),
        aave("aave_v2", 99987654, 6) | in_base(DOLLARS_OF_V2, 10**8),
        Quote(Decimal("0.99987654") / 10**6, USD, WAY),
    ),
    (
        "a fork of v2",
        "radiant",
        of("arbitrum"),
        aave("radiant", 99987654, 6) | DOLLARS,
        Quote(Decimal("0.99987654") / 10**6, USD, WAY),
    ),
    (
        "another fork of v2",
        "agave",
        of("gnosis"),
        aave("agave", 99987654, 6) | DOLLARS,
        Quote(Decimal("0.99987654") / 10**6, USD, WAY),
    ),
    (
        "v1, which counts in ether without a word",
        "aave_v1",
        of("ethereum"),
        aave("aave_v1", 5 * 10**14, 6) | {asked(WETH, "decimals()"): says("uint8", 18)},
        Quote(Decimal(5 * 10**14) / 10**6, WETH, WAY),
    ),
    (
        "the chain's coin in v1, which has no decimals()",
        "aave_v1",
        of("ethereum", NATIVE),
        {asked(ORACLE, GET_PRICE, NATIVE): says("uint256", 10**18)}
        | {
            key: answer
            for key, answer in aave("aave_v1", 1, 1).items()
            if key.to in (MARKET, PROVIDER)
        }
        | {asked(WETH, "decimals()"): says("uint8", 18)},
        Quote(Decimal(1), WETH, WAY),
    ),
    (
        "a reserve of a Spoke",
        "aave_v4",
        of("ethereum"),
        SPOKE,
        Quote(Decimal("61234.56789013") / 10**8, USD, (MARKET, ORACLE)),
    ),
    (
        "two reserves of one asset at one price",
        "aave_v4",
        of("ethereum"),
        spoke(18, {0: 2000 * 10**8, 2: 2000 * 10**8}) | plain(2000 * 10**8),
        Quote(Decimal("2000") / 10**18, USD, (MARKET, ORACLE), feed=FEED, feed_round=ROUND),
    ),
    (
        "debt in a token of 6 decimals",
        "compound_v2",
        of("ethereum", market=CTOKEN),
        compound(99980000 * 10**22),  # 0.9998 * 10**(36 - 6)
        Quote(Decimal("0.9998") / 10**6, USD, (CTOKEN, POOL, ORACLE)),
    ),
    (
        "debt in a token without decimals",
        "compound_v2",
        of("ethereum", market=CTOKEN),
        compound(13 * 10**36),
        Quote(Decimal(13), USD, (CTOKEN, POOL, ORACLE)),
    ),
    (
        "debt in a token of 27 decimals",
        "compound_v2",
        of("ethereum", market=CTOKEN),
        compound(27182819 * 10),  # 0.27182819 * 10**(36 - 27)
        Quote(Decimal("0.27182819") / 10**27, USD, (CTOKEN, POOL, ORACLE)),
    ),
    (
        "debt in the chain's coin",
        "venus_core",
        of("bsc", NATIVE, CTOKEN),
        {
            key: answer
            for key, answer in compound(600 * 10**18).items()
            if key != asked(CTOKEN, "underlying()")
        },
        Quote(Decimal(600) / 10**18, USD, (CTOKEN, POOL, ORACLE)),
    ),
    (
        "shares of another market",
        "compound_v2",
        of("ethereum", OTHER_CTOKEN, CTOKEN),
        SHARES,
        # 2,000 dollars for 10**18, and 200123456.789012345678901234 of these for a share
        Quote(
            Decimal("4.00246913578024691357802468E-7"), USD, (OTHER_CTOKEN, POOL, ORACLE)
        ),
    ),
    (
        "shares of an isolated market",
        "venus_isolated",
        of("bsc", OTHER_CTOKEN, CTOKEN),
        SHARES,
        Quote(
            Decimal("4.00246913578024691357802468E-7"), USD, (OTHER_CTOKEN, POOL, ORACLE)
        ),
    ),
    (
        "shares of the market that was borrowed from",
        "compound_v2",
        of("ethereum", CTOKEN, CTOKEN),
        compound(10**30) | {asked(CTOKEN, "exchangeRateStored()"): says("uint256", 2 * 10**14)},
        Quote(Decimal(2) / 10**10, USD, (CTOKEN, POOL, ORACLE)),
    ),
    (
        "a market of Trader Joe",
        "compound_v2",
        of("avalanche", market=CTOKEN),
        {
            asked(CTOKEN, "joetroller()") if key == asked(CTOKEN, "comptroller()") else key: answer
            for key, answer in compound(10**30).items()
        },
        Quote(Decimal("0.000001"), USD, (CTOKEN, POOL, ORACLE)),
    ),
    (
        "Compound as long as it counted in ether",
        "compound_v2",
        of("ethereum", market=CTOKEN),
        compound(5 * 10**27, pool=COMPOUND)  # 0.005 * 10**(36 - 6)
        | {asked(ORACLE, GET_UNDERLYING, CETH): says("uint256", 10**18)},
        Quote(Decimal(5 * 10**15) / 10**6, WETH, (CTOKEN, COMPOUND, ORACLE)),
    ),
    (
        "Compound since it counts in dollars",
        "compound_v2",
        of("ethereum", market=CTOKEN),
        compound(10**30, pool=COMPOUND)
        | {asked(ORACLE, GET_UNDERLYING, CETH): says("uint256", 2000 * 10**18)},
        Quote(Decimal("0.000001"), USD, (CTOKEN, COMPOUND, ORACLE)),
    ),
    (
        "shares of a pool of Fuse",
        "compound_v2",
        of("ethereum", OTHER_CTOKEN, CTOKEN),
        compound(5 * 10**27, pool=FUSE, market=OTHER_CTOKEN)
        | {
            asked(OTHER_CTOKEN, "comptroller()"): says("address", FUSE),
            asked(OTHER_CTOKEN, "exchangeRateStored()"): says("uint256", 2 * 10**14),
            asked(ORACLE, "price(address)", WETH): says("uint256", 10**18),
        },
        Quote(Decimal(10**6), WETH, (OTHER_CTOKEN, FUSE, ORACLE)),
    ),
    (
        "debt in VAI, a dollar by decree",
        "venus_core",
        of("bsc", VAI, VAI_CONTROLLER),
        {},
        Quote(Decimal("1E-18"), USD, (VAI_CONTROLLER,)),
    ),
    (
        "collateral of a market in dollars",
        "comet",
        of("base"),
        IN_DOLLARS | plain(2000_50000000),
        Quote(Decimal("2000.5") / 10**18, USD, (MARKET, FEED), feed=FEED, feed_round=ROUND),
    ),
    (
        "collateral of a market in dollars, by a price feed of RedStone's",
        "comet",
        of("base"),
        IN_DOLLARS | redstone(2000_50000000, 2000_50000000),
        Quote(
            Decimal("2000.5") / 10**18, USD, (MARKET, FEED), feed=RedstonePush(AGGREGATOR, FEED_ID)
        ),
    ),
    (
        "base token of a market in dollars",
        "comet",
        of("base", BASE),
        IN_DOLLARS | {asked(MARKET, GET_INFO, BASE): REVERTED},
        Quote(Decimal("0.9999") / 10**6, USD, (MARKET, BASE_FEED)),
    ),
    (
        "a feed of Comet's own in dollars",
        "comet",
        of("mantle"),
        comet(10**8, 10**18, 10**8, 10**18, "Custom sUSDS / USD price feed"),
        Quote(Decimal("1E-18"), USD, (MARKET, FEED)),
    ),
    (
        "collateral of 8 decimals of a market in ether",
        "comet",
        of("base"),
        IN_ETHER | plain(29_87654321),
        # 29.87654321 * 10**18 for 10**8
        Quote(Decimal(298765432100), BASE, (MARKET, FEED), feed=FEED, feed_round=ROUND),
    ),
    (
        "collateral of a market whose base is no constant and no dollar",
        "comet",
        of("base"),
        comet(3 * 10**8, 10**8, 7 * 10**7, 10**8, "WBTC / BTC") | plain(3 * 10**8),
        # 3 / 0.7, to 60 digits
        Quote(
            Decimal("4.28571428571428571428571428571428571428571428571428571428571"),
            BASE,
            (MARKET, FEED, BASE_FEED),
        ),
    ),
    (
        "collateral of a market",
        "morpho_blue",
        of("ethereum", WSTETH, WSTETH_USDC),
        LENDING,
        Quote(
            Decimal(2341_500000) / 10**18, USDC, (MORPHO, WSTETH_ORACLE), trust="market"
        ),
    ),
    (
        "debt in dollars",
        "euler_v2",
        of("base"),
        euler(DOLLAR, {10**30: 9999 * 10**38, 10**18: 9999 * 10**26}),  # of 6 decimals
        Quote(Decimal("0.9999") / 10**6, USD, (MARKET, ORACLE), trust="market"),
    ),
    (
        "a share in a token of 8 decimals, to more digits than one of it has",
        "euler_v2",
        of("base"),
        euler(BASE, {10**30: 1234_567890123456, 10**18: 1234}),
        Quote(
            Decimal("1234.567890123456") / 10**18, BASE, (MARKET, ORACLE), trust="market"
        ),
    ),
    (
        "a router that cannot quote so much",
        "euler_v2",
        of("base"),
        euler(BASE, {10**18: 5 * 10**14}),
        Quote(Decimal("0.0005"), BASE, (MARKET, ORACLE), trust="market"),
    ),
    (
        "an adapter of Pyth",
        "euler_v2",
        of("base"),
        adapted(pyth=says("address", FEED), feedId=says("bytes32", bytes.fromhex(PRICE_ID[2:])))
        | {
            asked(FEED, "getPriceUnsafe(bytes32)", bytes.fromhex(PRICE_ID[2:])): says(
                "int64 uint64 int32 uint256", 99_990_000, 5, -8, 1_720_000_000
            )
        },
        through(PythFeed(FEED, PRICE_ID), 1_720_000_000),
    ),
    (
        "an adapter that keeps what RedStone signed",
        "euler_v2",
        of("base"),
        adapted(
            feedId=says("bytes32", bytes.fromhex(PRICE_ID[2:])),
            cache=says("uint208 uint48", 99_990_000, 1_720_000_000),
        ),
        through(RedstoneFeed(OTHER), 1_720_000_000),
    ),
    (
        "an adapter of Chainlink",
        "euler_v2",
        of("base"),
        adapted(feed=says("address", FEED)) | plain(99_990_000),
        through(FEED, ROUND),
    ),
    (
        "an adapter of a feed that names no aggregator",
        "euler_v2",
        of("base"),
        adapted(feed=says("address", FEED)) | plain(1) | {asked(FEED, "aggregator()"): REVERTED},
        through(None, None),
    ),
    (
        "an adapter of a price feed of RedStone's",
        "euler_v2",
        of("base"),
        adapted(feed=says("address", FEED)) | redstone(99_990_000, 99_990_000),
        through(RedstonePush(AGGREGATOR, FEED_ID), None),
    ),
    (
        "an adapter of two feeds",
        "euler_v2",
        of("base"),
        adapted(oracleBaseCross=says("address", FEED)),
        through(None, None),
    ),
    (
        "a numbered market",
        "dolomite",
        of("arbitrum"),
        {
            asked(MARKET, "getMarketIdByTokenAddress(address)", ASSET): says("uint256", 17),
            asked(MARKET, "getMarketPrice(uint256)", 17): says("uint256", 999 * 10**27),
        },
        Quote(Decimal("0.999") / 10**6, USD, (MARKET,)),  # of 6 decimals
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("protocol", "subject", "answers", "expected"), [pytest.param(*c, id=w) for w, *c in PRICED]
)
def test_the_oracle_says_what_a_base_unit_is_worth(
    protocol: str, subject: Subject, answers: Answers, expected: Quote
) -> None:
    with localcontext() as context:
        context.prec = 1  # no number may go through the context
        found = quote(protocol, subject, FakeChain(answers))
    assert found == expected


REVERTS = NoQuote("the oracle reverts")
UNREADABLE = NoQuote("the oracle's answer is unreadable")
ZERO = NoQuote("the oracle answers 0")
NEGATIVE = NoQuote("the oracle answers a negative number")
NO_ORACLE = NoQuote("no oracle is set")
UNKNOWN_ORACLE = NoQuote("the market does not tell its oracle")
NO_DECIMALS = NoQuote("the token states no decimals")
UNKNOWN_UNIT = NoQuote("the unit of the oracle is unknown")
NOT_LISTED = NoQuote("the market does not know the asset")

WSTETH_HERE = of("ethereum", WSTETH, WSTETH_USDC)
IN_VAULT = euler(DOLLAR, {10**30: 10**42, 10**18: 10**30})
# The call that says the price, of an answer that is otherwise whole.
PRICES = [
    ("aave_v3", of("ethereum"), V3, asked(ORACLE, GET_PRICE, ASSET)),
    ("aave_v4", of("ethereum"), SPOKE, asked(ORACLE, RESERVE_PRICE, 1)),
    (
        "compound_v2",
        of("ethereum", market=CTOKEN),
        compound(10**30),
        asked(ORACLE, GET_UNDERLYING, CTOKEN),
    ),
    ("comet", of("base"), IN_DOLLARS, asked(MARKET, "getPrice(address)", FEED)),
    ("comet", of("base"), IN_ETHER, asked(MARKET, "getPrice(address)", FEED)),
    (
        "comet",
        of("base"),
        comet(1, 1, 1, 1, "no unit"),
        asked(MARKET, "getPrice(address)", BASE_FEED),
    ),
    ("morpho_blue", WSTETH_HERE, LENDING, PRICE_OF_WSTETH),
    (
        "euler_v2",
        of("base"),
        {key: answer for key, answer in IN_VAULT.items() if key.to == MARKET},
        asked(ORACLE, GET_QUOTE, 10**18, ASSET, DOLLAR),
    ),
    (
        "dolomite",
        of("arbitrum"),
        {asked(MARKET, "getMarketIdByTokenAddress(address)", ASSET): says("uint256", 17)},
        asked(MARKET, "getMarketPrice(uint256)", 17),
    ),
]
BAD_PRICES = [
    ("reverts", REVERTED, REVERTS),
    ("reverts with words", CallResult(is_ok=False, data=b"\0" * 32), REVERTS),
    ("says nothing", NOTHING, UNREADABLE),
    ("says too little", CallResult(is_ok=True, data=b"\1" * 31), UNREADABLE),
    ("says too much", CallResult(is_ok=True, data=b"\1" * 64), UNREADABLE),
    ("says 0", says("uint256", 0), ZERO),
    ("says less", says("int256", -1), NEGATIVE),
    ("says the least", says("int256", -(2**255)), NEGATIVE),
]


@pytest.mark.parametrize(
    ("protocol", "subject", "answers", "reason"),
    [
        pytest.param(protocol, subject, answers | {price: bad}, reason, id=f"{protocol} {what}")
        for protocol, subject, answers, price in PRICES
        for what, bad, reason in BAD_PRICES
    ],
)
def test_an_oracle_that_says_no_price_gives_its_reason(
    protocol: str, subject: Subject, answers: Answers, reason: NoQuote
) -> None:
    assert quote(protocol, subject, FakeChain(answers)) == reason


# What is wrong, with whom, whom it is asked of, what the chain answers and the reason.
UNPRICED: list[tuple[str, str, Subject, Answers, NoQuote]] = [
    (
        "a pool without a provider",
        "aave_v3",
        of("base"),
        V3 | {asked(MARKET, "ADDRESSES_PROVIDER()"): NOTHING},
        UNKNOWN_ORACLE,
    ),
    (
        "a provider without an oracle",
        "aave_v3",
        of("base"),
        V3 | {asked(PROVIDER, "getPriceOracle()"): says("address", NOBODY)},
        NO_ORACLE,
    ),
    (
        "a token that states no decimals",
        "aave_v3",
        of("base"),
        V3 | {asked(ASSET, "decimals()"): REVERTED},
        NO_DECIMALS,
    ),
    (
        "a token with more decimals than fit",
        "aave_v3",
        of("base"),
        V3 | {asked(ASSET, "decimals()"): says("uint256", 256)},
        NO_DECIMALS,
    ),
    (
        "a unit that is no power of ten",
        "aave_v3",
        of("base"),
        V3 | in_base(NOBODY, 3),
        UNKNOWN_UNIT,
    ),
    ("a unit of 0", "aave_v3", of("base"), V3 | in_base(NOBODY, 0), UNKNOWN_UNIT),
    (
        "a unit that cannot be read",
        "aave_v3",
        of("base"),
        V3 | {asked(ORACLE, "BASE_CURRENCY()"): says("uint256", 2**160)},
        UNKNOWN_UNIT,
    ),
    (
        "a unit that states no decimals",
        "aave_v3",
        of("base"),
        V3 | in_base(BASE, 10**8),
        NO_DECIMALS,
    ),
    (
        "an old fork that counts in whatever",
        "aave_v2",
        of("fantom"),
        aave("aave_v2", 10**18, 18),
        UNKNOWN_UNIT,
    ),
    (
        "an old fork with another token as WETH",
        "aave_v2",
        of("ethereum"),
        aave("aave_v2", 10**18, 18) | {asked(ORACLE, "WETH()"): says("address", BASE)},
        UNKNOWN_UNIT,
    ),
    (
        "v1 on a chain where it is not",
        "aave_v1",
        of("base"),
        aave("aave_v1", 10**18, 18),
        UNKNOWN_UNIT,
    ),
    (
        "reserves of one asset at different prices",
        "aave_v4",
        of("ethereum"),
        spoke(8, {0: 100, 2: 101}),
        NoQuote("reserves of the asset have different prices"),
    ),
    ("no reserve of the asset", "aave_v4", of("ethereum", BASE), SPOKE, NOT_LISTED),
    (
        "a reserve of an earlier shape",
        "aave_v4",
        of("ethereum"),
        SPOKE
        | {
            asked(MARKET, GET_RESERVE, 0): says(f"{RESERVE} bool", OTHER, BASE, 9, 8, 0, 4, 1, True)
        },
        UNREADABLE,
    ),
    (
        "more reserves than anybody asks for",
        "aave_v4",
        of("ethereum"),
        SPOKE | {asked(MARKET, "getReserveCount()"): says("uint256", 257)},
        UNREADABLE,
    ),
    (
        "a Spoke without an oracle",
        "aave_v4",
        of("ethereum"),
        SPOKE | {asked(MARKET, "ORACLE()"): says("address", NOBODY)},
        NO_ORACLE,
    ),
    (
        "a market without a comptroller",
        "compound_v2",
        of("ethereum", market=CTOKEN),
        compound(10**30) | {asked(CTOKEN, "comptroller()"): says("address", NOBODY)},
        UNKNOWN_ORACLE,
    ),
    (
        "a comptroller without an oracle",
        "compound_v2",
        of("ethereum", market=CTOKEN),
        compound(10**30) | {asked(POOL, "oracle()"): says("address", NOBODY)},
        NO_ORACLE,
    ),
    (
        "shares of a market of another comptroller",
        "compound_v2",
        of("ethereum", OTHER_CTOKEN, CTOKEN),
        SHARES | {asked(OTHER_CTOKEN, "comptroller()"): says("address", OTHER)},
        NOT_LISTED,
    ),
    (
        "a token that is neither debt nor a share",
        "venus_isolated",
        of("bsc", OTHER, CTOKEN),
        compound(10**30),
        NOT_LISTED,
    ),
    (
        "shares without a rate",
        "compound_v2",
        of("ethereum", OTHER_CTOKEN, CTOKEN),
        SHARES | {asked(OTHER_CTOKEN, "exchangeRateStored()"): REVERTED},
        NoQuote("the shares do not tell their rate"),
    ),
    (
        "an oracle that may count in ether and does not say",
        "compound_v2",
        of("ethereum", market=CTOKEN),
        compound(10**30, pool=COMPOUND),
        UNKNOWN_UNIT,
    ),
    (
        "a token that a Comet does not list",
        "comet",
        of("base"),
        IN_DOLLARS | {asked(MARKET, GET_INFO, ASSET): REVERTED},
        NOT_LISTED,
    ),
    (
        "the information of another asset",
        "comet",
        of("base"),
        IN_DOLLARS | {asked(MARKET, GET_INFO, ASSET): says(INFO, 1, OTHER, FEED, 1, 1, 1, 1, 1)},
        UNREADABLE,
    ),
    (
        "a scale that is no power of ten",
        "comet",
        of("base"),
        comet(10**8, 10**18 + 1, 10**8, 10**6, "USDC / USD"),
        UNREADABLE,
    ),
    (
        "no base token",
        "comet",
        of("base"),
        IN_DOLLARS | {asked(MARKET, "baseToken()"): NOTHING},
        UNREADABLE,
    ),
    (
        "a third token",
        "morpho_blue",
        of("ethereum", OTHER, WSTETH_USDC),
        LENDING,
        NOT_LISTED,
    ),
    (
        "parameters that are not the market's",
        "morpho_blue",
        WSTETH_HERE,
        LENDING | {OF_ID: says("address address address address uint256", *4 * [NOBODY], 0)},
        NoQuote("the parameters of the market are unknown"),
    ),
    (
        "a market without an oracle",
        "morpho_blue",
        of("ethereum", WSTETH, IDLE_ID),
        {OF_IDLE: IDLE},
        NO_ORACLE,
    ),
    (
        "a chain without Morpho",
        "morpho_blue",
        of("nowhere", WSTETH, WSTETH_USDC),
        LENDING,
        NoQuote("the parameters of the market are unknown"),
    ),
    (
        "a vault that only takes deposits",
        "euler_v2",
        of("base"),
        IN_VAULT | {asked(MARKET, "oracle()"): says("address", NOBODY)},
        NO_ORACLE,
    ),
    ("the euro", "euler_v2", of("base"), euler("0x" + f"{978:040x}", {}), UNKNOWN_UNIT),
    ("a token that is no market", "dolomite", of("arbitrum"), {}, NOT_LISTED),
    ("no unit of account", "euler_v2", of("base"), euler(NOBODY, {}), UNKNOWN_UNIT),
]


@pytest.mark.parametrize(
    ("protocol", "subject", "answers", "reason"), [pytest.param(*c, id=w) for w, *c in UNPRICED]
)
def test_without_a_price_there_is_a_reason(
    protocol: str, subject: Subject, answers: Answers, reason: NoQuote
) -> None:
    assert quote(protocol, subject, FakeChain(answers)) == reason


THE_UNIT = [
    ("aave_v3", of("base"), V3 | in_base(ASSET, 10**8), WAY),
    (
        "compound_v2",
        of("ethereum", WETH, CTOKEN),
        compound(10**18, pool=FUSE)
        | {
            asked(CTOKEN, "underlying()"): says("address", WETH),
            asked(ORACLE, "price(address)", WETH): says("uint256", 10**18),
        },
        (CTOKEN, FUSE, ORACLE),
    ),
    ("comet", of("base", BASE), IN_ETHER, (MARKET, BASE_FEED)),
    ("morpho_blue", of("ethereum", USDC, WSTETH_USDC), LENDING, (MORPHO,)),
    ("euler_v2", of("base"), euler(ASSET, {}), (MARKET,)),
]


@pytest.mark.parametrize(("protocol", "subject", "answers", "via"), THE_UNIT)
def test_the_unit_of_a_market_is_worth_itself(
    protocol: str, subject: Subject, answers: Answers, via: tuple[str, ...]
) -> None:
    """Others say what that is in dollars."""
    assert quote(protocol, subject, FakeChain(answers)) == Quote(Decimal(1), subject.asset, via)


def test_a_description_that_is_no_text_is_no_dollar() -> None:
    told = IN_DOLLARS | {asked(BASE_FEED, "description()"): says("bytes32", b"USDC / USD")}
    # 2000.5 / 0.9999, of 18 decimals in 6
    with localcontext() as context:
        context.prec = 60
        per_unit = Decimal("2000.5") / 10**12 / Decimal("0.9999")

    found = quote("comet", of("base"), FakeChain(told))

    assert found == Quote(per_unit, BASE, (MARKET, FEED, BASE_FEED))


@pytest.mark.parametrize("description", ["LINK / USDC", "USD / ETH", "USD", "A / USD / B"])
def test_a_description_that_ends_in_something_else_is_no_dollar(description: str) -> None:
    found = quote("comet", of("base"), FakeChain(comet(1, 1, 10**8, 1, description)))
    assert found == Quote(Decimal("1E-8"), BASE, (MARKET, FEED))


def test_what_two_assets_of_a_market_have_in_common_is_asked_once() -> None:
    oracle = spec_of("aave_v3").oracle
    assert oracle is not None
    chain = FakeChain(V3)

    inquire({asset: oracle(of("base", asset), ()) for asset in (ASSET, OTHER)}, chain.call_many)

    # the provider; the oracle; its unit in three calls and three of each asset; one feed
    assert [len(calls) for calls in chain.rounds] == [1, 1, 9, 2]


# numbers


@given(st.integers(0, 2**256 - 1), st.integers(-18, 255))
def test_a_scaled_number_is_exact(number: int, places: int) -> None:
    with localcontext() as context:
        context.prec = 1
        found = scaled(number, places)
    with localcontext() as context:
        context.prec = 1000
        assert found * 10**255 == number * 10 ** (255 - places)


@pytest.mark.parametrize(
    ("number", "exponent"),
    [(1, 0), (10, 1), (10**77, 77), (0, None), (2, None), (101, None), (110, None), (None, None)],
)
def test_only_a_power_of_ten_has_an_exponent(number: int | None, exponent: int | None) -> None:
    assert power_of_ten(number) == exponent


# what holds of all protocols


each_spec = pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)


@each_spec
def test_a_protocol_without_an_oracle_has_prices_in_its_events_or_says_so(
    spec: ProtocolSpec,
) -> None:
    """Its methodology says "no price", and why. A perpetual's events have the amounts."""
    carries = DECODER.carries_prices(f"{spec.name}.anywhere")
    asks = spec.kind == "perp" or spec.oracle is not None
    assert asks or carries or "no price" in spec.methodology.lower()


@pytest.mark.parametrize(
    "bonus", [pytest.param(spec.bonus, id=spec.name) for spec in SPECS if spec.bonus]
)
def test_bounds_of_a_bonus_lie_around_none(bonus: Bonus) -> None:
    assert 0 < bonus.least <= 1 < bonus.most


@each_spec
def test_a_protocol_has_bounds_of_its_bonus_unless_it_absorbs_or_says_so(
    spec: ProtocolSpec,
) -> None:
    """Its methodology says "no bounds", and why; without an oracle there is nothing to bound."""
    methods = {
        use.method
        for contract in spec.contracts.values()
        for use in contract.events.values()
        if isinstance(use, EventMap)
    }
    is_bounded = spec.kind == "perp" or spec.bonus is not None or spec.oracle is None
    assert is_bounded or "absorb" in methods or "no bounds" in spec.methodology.lower()


def test_oracles_that_count_in_a_coin_are_of_known_comptrollers() -> None:
    known = {
        one.address.lower()
        for one in spec_of("compound_v2").deployments
        if one.role == "comptroller"
    }
    assert COINS.keys() - known == set()
    assert ETHER == {"ethereum": WETH, "polygon": WETH_OF_POLYGON}


@pytest.mark.parametrize(
    "spec", [spec for spec in SPECS if spec.oracle], ids=lambda spec: spec.name
)
def test_no_answer_raises_or_makes_a_price_of_nothing(spec: ProtocolSpec) -> None:
    @settings(deadline=None)
    @given(st.data(), st.sampled_from([ASSET, NATIVE, OTHER]))
    def check(data: st.DataObject, asset: str) -> None:
        subject = of(spec.deployments[0].chain, asset)
        assert spec.oracle is not None
        dialogue = spec.oracle(subject, spec.deployments)

        found = inquire({0: dialogue}, lambda calls: [data.draw(RESULTS) for _ in calls])[0]

        assert isinstance(found, NoQuote) or found.per_unit > 0

    check()
