"""Compound v2 and its forks. The emitter is the market that was borrowed from, collateral is
counted in the other market's shares, and nothing is indexed. Comptrollers list their markets."""

from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

from indexer.abi_calls import address_of, call, is_silent, rate_by, uint_of, vouched_for
from indexer.evm_model import (
    EMITTER,
    EMITTER_FACT,
    NATIVE,
    NOBODY,
    USD,
    Bonus,
    CallResult,
    Contract,
    Deployment,
    Dialogue,
    EthCall,
    EventMap,
    Fact,
    FactMap,
    Inquiry,
    Lookup,
    MissingFact,
    NoQuote,
    OracleOf,
    ProtocolSpec,
    Quote,
    Subject,
)
from indexer.oracles import (
    NOT_LISTED,
    UNKNOWN_ORACLE,
    UNKNOWN_UNIT,
    number_of,
    oracle_of,
    scaled,
    unit_itself,
)
from indexer.venues.evm import deployments
from indexer.venues.evm.aave_v2 import ETHER


def underlying(missing: MissingFact, deployed: Sequence[Deployment]) -> Inquiry:
    """A market of the chain's coin is without this function, some forks' says the zero address:
    there is none then. compound-finance/compound-protocol:contracts/CTokenInterfaces.sol"""
    (answer,) = yield [call(missing.subject, "underlying()")]
    address = address_of(answer)
    if address is None and not is_silent(answer):
        return ()
    return (missing.told(None if address == NOBODY else address),)


ASKS = {
    # isListed comes first in all forks, what follows differs;
    # compound-finance/compound-protocol:contracts/ComptrollerStorage.sol
    EMITTER_FACT: vouched_for("comptroller", "markets(address)", "market", of=None),
    "underlying": underlying,
}
# scaled by 10**18; compound-finance/compound-protocol:contracts/CToken.sol
SHARE_RATE = rate_by("exchangeRateStored()", underlying="underlying()")

PRICE = "getUnderlyingPrice(address)"
PRICE_PLACES = 36  # of a base unit, whatever the token's decimals
RATE_PLACES = 18
COIN_DECIMALS = 18
WETH = ETHER["ethereum"]
WBNB = "0xbb4cdb9cbd36b01bd1cbaebf2de08d9173bc095c"  # aave-address-book:src/ts/AaveV3BNB.ts


class _Coin(NamedTuple):
    """What tells an oracle that counts in the chain's coin: it answers exactly 10**18 for it."""

    wrapped: str
    getter: str
    asked_of: str

    def proof(self, oracle: str) -> EthCall:
        """How to ask the oracle."""
        return call(oracle, self.getter, self.asked_of)


# By comptroller, those whose oracle ever counted in the chain's coin; all others count in dollars.
# Compound until 2020: compound-finance/compound-protocol:contracts/PriceOracleProxy.sol
# Cream: messari/subgraphs:subgraphs/compound-forks/protocols/cream-finance/src/mapping.ts
# Fuse: Rari-Capital/fuse-contracts:contracts/oracles/MasterPriceOracle.sol
COINS = {
    "0x3d9819210a31b4961b30ef54be2aed79b9c9cd3b": _Coin(
        WETH, PRICE, "0x4ddc2d193948926d02f9b1fe9e1daa0718270ed5"
    ),
    "0x3d5bc3c8d13dcb8bf317092d84783c2697ae9258": _Coin(
        WETH, PRICE, "0xd06527d5e56a3495252a528c4987003b712860ee"
    ),
    "0x589de0f0ccf905477646599bb3e5c622c84cc0ba": _Coin(
        WBNB, PRICE, "0x1ffe17b99b439be0afc831239ddecda2a790ff3a"
    ),
    "0x621579dd26774022f33147d3852ef4e00024b763": _Coin(WETH, "price(address)", WETH),
    "0x814b02c1ebc9164972d888495927fe1697f0fb4c": _Coin(WETH, "price(address)", WETH),
    "0x2a6b72539c020f751e45e235606667c53c105aaf": _Coin(WETH, "price(address)", WETH),
    "0x35de88f04ad31a396aedb33f19aebe7787c02560": _Coin(WETH, "price(address)", WETH),
}


def oracle(*comptroller: str) -> OracleOf:
    """What comptrollers of this family ask for a price; `comptroller` are the names of a market's
    getter for its own. Shares are worth the price of what they stand for times their rate.

    compound-finance/compound-protocol:contracts/PriceOracle.sol, contracts/Comptroller.sol
    (liquidateCalculateSeizeTokens)"""

    def ask(subject: Subject, deployed: Sequence[Deployment]) -> Dialogue[Quote | NoQuote]:
        market, asset = subject.market, subject.asset
        token, *named = yield [
            call(market, "underlying()"),
            *(call(one, getter) for one in (market, asset) for getter in comptroller),
        ]
        pool = _first(named[: len(comptroller)])
        if pool is None:
            return UNKNOWN_ORACLE
        is_debt = asset in (NATIVE, address_of(token))
        if not is_debt and _first(named[len(comptroller) :]) != pool:
            return NOT_LISTED
        (told,) = yield [call(pool, "oracle()")]
        oracle = oracle_of(told)
        if isinstance(oracle, NoQuote):
            return oracle
        coin = COINS.get(pool)
        priced, rated, *proved = yield [
            call(oracle, PRICE, market if is_debt else asset),
            call(market if is_debt else asset, "exchangeRateStored()"),
            *([coin.proof(oracle)] if coin else []),
        ]
        price = number_of(priced)
        rate = 10**RATE_PLACES if is_debt else number_of(rated)
        if isinstance(price, NoQuote):
            return price
        if isinstance(rate, NoQuote):
            return NoQuote("the shares do not tell their rate")
        unit = _unit(coin, proved)
        if unit is None:
            return UNKNOWN_UNIT
        places = PRICE_PLACES + RATE_PLACES - (0 if unit == USD else COIN_DECIMALS)
        via = (market, pool, oracle) if is_debt else (asset, pool, oracle)
        if unit == asset:
            return unit_itself(asset, via)
        return Quote(scaled(price * rate, places), unit, via)

    return ask


def _first(answers: Sequence[CallResult]) -> str | None:
    return next((one for one in map(address_of, answers) if one and one != NOBODY), None)


def _unit(coin: _Coin | None, proved: Sequence[CallResult]) -> str | None:
    if coin is None:
        return USD
    one = uint_of(proved[0])
    return None if one is None else coin.wrapped if one == 10**COIN_DECIMALS else USD


# The bounds of the first comptroller; later ones and Venus set none above, but stay within. The
# room below is for amounts of a few base units, which are rounded.
BONUS = Bonus(
    Decimal("0.999"),
    Decimal("1.5"),
    "compound-finance/compound-protocol:contracts/ComptrollerG1.sol,"
    " liquidationIncentiveMaxMantissa",
)

SPEC = ProtocolSpec(
    name="compound_v2",
    kind="lending",
    contracts={
        "comptroller": Contract(
            abi="compound_v2_comptroller.json",
            events={"MarketListed": FactMap(proves={"cToken": "market"})},
        ),
        "market": Contract(
            abi="compound_v2_ctoken.json",
            events={
                "LiquidateBorrow": EventMap(
                    account="borrower",
                    liquidator="liquidator",
                    repaid=(Lookup("underlying", (EMITTER,)), "repayAmount"),
                    seized=("cTokenCollateral", "seizeTokens"),
                    seized_is_shares=True,
                )
            },
        ),
    },
    facts=(
        # cETH has no underlying(); compound-finance/compound-config:networks/mainnet.json
        Fact("ethereum", "underlying", "0x4ddc2d193948926d02f9b1fe9e1daa0718270ed5", NATIVE),
    ),
    deployments=deployments("compound_v2"),
    asks=ASKS,
    share_rate=SHARE_RATE,
    # jTokens of Trader Joe name theirs differently
    oracle=oracle("comptroller()", "joetroller()"),
    bonus=BONUS,
    evidence="real",
    methodology=(
        "Debt `repayAmount` in the underlying of the emitting market; collateral `seizeTokens` are"
        " shares of the market `cTokenCollateral`, with what newer markets keep for their reserves."
    ),
)
