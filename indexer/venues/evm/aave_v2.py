"""Aave v2 and the forks that kept its event. Bad debt leaves no trace on chain.

All versions up to 3 price assets alike: the pool's addresses provider names the oracle."""

from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

from indexer.abi_calls import address_of, call, is_silent, uint_of
from indexer.evm_model import (
    NATIVE,
    NOBODY,
    USD,
    Bonus,
    CallResult,
    Contract,
    Deployment,
    Dialogue,
    EventMap,
    NoQuote,
    OracleOf,
    ProtocolSpec,
    Quote,
    Subject,
)
from indexer.oracles import (
    UNKNOWN_UNIT,
    decimals_of,
    followed,
    number_of,
    plain_feed,
    power_of_ten,
    scaled,
    unit_itself,
)
from indexer.venues.evm import deployments

LIQUIDATION_CALL = EventMap(
    account="user",
    liquidator="liquidator",
    repaid=("debtAsset", "debtToCover"),
    seized=("collateralAsset", "liquidatedCollateralAmount"),
)
# v2 gives BASE_CURRENCY this address for the dollar, v3 the zero address.
# aave/protocol-v2:markets/matic/commons.ts, UsdAddress;
# aave-dao/aave-v3-origin:src/contracts/misc/AaveOracle.sol
DOLLARS = (NOBODY, "0x10f7fc1f91ba351f9c629c5947ad69bd03c05b96")
# Ether, in which oracles older than BASE_CURRENCY count, on the two chains that have such.
# aave/protocol-v2:markets/aave/commons.ts and markets/matic/commons.ts, WETH
ETHER = {
    "ethereum": "0xc02aaa39b223fe8d0a0e5c4f27ead9083c756cc2",
    "polygon": "0x7ceb23fd6bc0add59e62ac25578270cff1b9f619",
}
ETHER_DECIMALS = 18
UNIT_GETTERS = ("BASE_CURRENCY()", "BASE_CURRENCY_UNIT()", "WETH()")
# Above 10000 when set, and 16 bits of hundredths of a percent; the room below is for amounts of a
# few base units, which are rounded.
# aave/protocol-v2:contracts/protocol/lendingpool/LendingPoolConfigurator.sol
# aave-dao/aave-v3-origin:src/contracts/protocol/pool/PoolConfigurator.sol
BONUS = Bonus(
    Decimal("0.999"),
    Decimal("6.5535"),
    "aave-dao/aave-v3-origin:src/contracts/protocol/libraries/configuration/"
    "ReserveConfiguration.sol, MAX_VALID_LIQUIDATION_BONUS",
)


def oracle(provider: str, *, is_in_ether: bool = False) -> OracleOf:
    """`provider` is the pool's getter, `is_in_ether` where oracles are too old to name their unit.

    aave-dao/aave-v3-origin:src/contracts/interfaces/IPriceOracleGetter.sol"""

    def ask(subject: Subject, deployed: Sequence[Deployment]) -> Dialogue[Quote | NoQuote]:
        asset = subject.asset
        way = yield from followed(subject.market, provider, "getPriceOracle()")
        if isinstance(way, NoQuote):
            return way
        priced, source, stated, *unit_is = yield [
            call(way[-1], "getAssetPrice(address)", asset),
            call(way[-1], "getSourceOfAsset(address)", asset),
            call(asset, "decimals()"),
            *(call(way[-1], getter) for getter in UNIT_GETTERS),
        ]
        price = number_of(priced)
        if isinstance(price, NoQuote):
            return price
        decimals = ETHER_DECIMALS if asset == NATIVE else decimals_of(stated)
        if isinstance(decimals, NoQuote):
            return decimals
        unit = _unit(subject.chain, *unit_is, is_in_ether=is_in_ether)
        if isinstance(unit, NoQuote):
            return unit
        if unit.asset == asset:
            return unit_itself(asset, way)
        unit_decimals = yield from _decimals_of(unit.asset)
        if isinstance(unit_decimals, NoQuote):
            return unit_decimals
        per_unit = scaled(price, unit.places + decimals - unit_decimals)
        feed, at_round = yield from plain_feed(address_of(source), price)
        return Quote(per_unit, unit.asset, way, feed=feed, feed_round=at_round)

    return ask


class _Unit(NamedTuple):
    """What an oracle counts in: its 10**`places` are one whole `asset`."""

    asset: str
    places: int


def _unit(
    chain: str,
    currency: CallResult,
    currency_unit: CallResult,
    ether: CallResult,
    *,
    is_in_ether: bool,
) -> _Unit | NoQuote:
    """Before BASE_CURRENCY oracles said for which token they answer 10**18, and v1 not even that.

    aave/protocol-v2:contracts/misc/AaveOracle.sol,
    aave/aave-protocol:contracts/misc/ChainlinkProxyPriceProvider.sol"""
    known = ETHER.get(chain)
    if is_silent(currency):
        is_known = known is not None and (is_in_ether or address_of(ether) == known)
        return _Unit(known, ETHER_DECIMALS) if known and is_known else UNKNOWN_UNIT
    asset, places = address_of(currency), power_of_ten(uint_of(currency_unit))
    if asset is None or places is None:
        return UNKNOWN_UNIT
    return _Unit(USD if asset in DOLLARS else asset, places)


def _decimals_of(unit: str) -> Dialogue[int | NoQuote]:
    """Quotes are in whole dollars, but in base units of a token."""
    if unit == USD:
        return 0
    (stated,) = yield [call(unit, "decimals()")]
    return decimals_of(stated)


# aave/protocol-v2:contracts/interfaces/ILendingPool.sol
ORACLE = oracle("getAddressesProvider()")

SPEC = ProtocolSpec(
    name="aave_v2",
    kind="lending",
    contracts={
        "pool": Contract(abi="aave_v2_pool.json", events={"LiquidationCall": LIQUIDATION_CALL})
    },
    deployments=deployments("aave_v2"),
    oracle=ORACLE,
    bonus=BONUS,
    # aave/protocol-v2:contracts/protocol/lendingpool/LendingPoolCollateralManager.sol
    fee="none",
    evidence="real",
    methodology=(
        "Debt `debtToCover` of `debtAsset` and collateral `liquidatedCollateralAmount` of"
        " `collateralAsset`, both as emitted. Token transfers of the same transaction differ from"
        " them by interest and are not used."
    ),
)
