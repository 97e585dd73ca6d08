"""Dolomite. The event has both sides' signed changes; markets are numbers, accounts numbered by
their owner. Before an operation its contract logs the price of every market in it."""

from collections.abc import Sequence
from decimal import Decimal

from indexer.abi_calls import call, uint_of
from indexer.evm_model import (
    EMITTER,
    USD,
    Bonus,
    Contract,
    Deployment,
    Dialogue,
    EventMap,
    Inquiry,
    LendingLiquidation,
    Lookup,
    MissingFact,
    NoQuote,
    PriceMap,
    ProtocolSpec,
    Quote,
    Subject,
    Value,
)
from indexer.oracles import NOT_LISTED, contract_of, number_of, scaled
from indexer.venues.evm import deployments

TOKEN = "dolomite_token"  # noqa: S105 - a fact's name: the token of CONTRACT/MARKET
PRICE_PLACES = (
    36  # of a base unit; dolomite-exchange/dolomite-margin:contracts/protocol/lib/Monetary.sol
)


def _token_of(market: str) -> Lookup:
    return Lookup(TOKEN, (EMITTER, market))


def _numbered(row: LendingLiquidation, args: dict[str, Value]) -> LendingLiquidation:
    """`OWNER:NUMBER`."""
    return row.with_(owner=row.account, account=f"{row.account}:{args['liquidAccountNumber']}")


def _written_off(row: LendingLiquidation, args: dict[str, Value]) -> LendingLiquidation:
    account = f"{row.account}:{args['vaporAccountNumber']}"
    return row.with_(owner=row.account, account=account, repaid=None, bad_debt=row.repaid)


def _token(missing: MissingFact, deployed: Sequence[Deployment]) -> Inquiry:
    """dolomite-exchange/dolomite-margin:contracts/protocol/Getters.sol"""
    margin, _, market = missing.subject.partition("/")
    (answer,) = yield [call(margin, "getMarketTokenAddress(uint256)", int(market))]
    token = contract_of(answer)
    return () if token is None else (missing.told(token),)


def oracle(subject: Subject, deployed: Sequence[Deployment]) -> Dialogue[Quote | NoQuote]:
    """As logged before an operation, for those whose receipt nobody has.

    dolomite-exchange/dolomite-margin:contracts/protocol/Getters.sol"""
    margin = subject.market
    (listed,) = yield [call(margin, "getMarketIdByTokenAddress(address)", subject.asset)]
    market = uint_of(listed)
    if market is None:
        return NOT_LISTED
    (answer,) = yield [call(margin, "getMarketPrice(uint256)", market)]
    price = number_of(answer)
    if isinstance(price, NoQuote):
        return price
    return Quote(scaled(price, PRICE_PLACES), USD, (margin,))


SPEC = ProtocolSpec(
    name="dolomite",
    kind="lending",
    contracts={
        "margin": Contract(
            abi="dolomite_margin.json",
            events={
                "LogLiquidate": EventMap(
                    account="liquidAccountOwner",
                    liquidator="solidAccountOwner",
                    repaid=(_token_of("owedMarket"), "liquidOwedUpdate.deltaWei.value"),
                    seized=(_token_of("heldMarket"), "liquidHeldUpdate.deltaWei.value"),
                    then=_numbered,
                ),
                "LogVaporize": EventMap(
                    account="vaporAccountOwner",
                    liquidator="solidAccountOwner",
                    method="write_off",
                    repaid=(_token_of("owedMarket"), "vaporOwedUpdate.deltaWei.value"),
                    then=_written_off,
                ),
            },
        )
    },
    # of every operation of anybody's: too many to keep, and few are of a liquidation
    bystander=Contract(
        abi="dolomite_prices.json",
        events={"LogOraclePrice": PriceMap(_token_of("market"), "price.value", PRICE_PLACES)},
    ),
    deployments=deployments("dolomite"),
    asks={TOKEN: _token},
    oracle=oracle,
    # the spread, 0.5 at most, times two premiums of 1 + 2 at most; the room below is for amounts of
    # a few base units, which are rounded
    bonus=Bonus(
        Decimal("0.999"),
        Decimal("5.5"),
        "dolomite-exchange/dolomite-margin:contracts/protocol/lib/Storage.sol, RiskLimits, and"
        " getRiskLimits of its migrations",
    ),
    # dolomite-exchange/dolomite-margin:contracts/protocol/impl/OperationImpl.sol, _liquidate
    fee="none",
    methodology=(
        "Debt `liquidOwedUpdate.deltaWei.value` in the token of `owedMarket` and collateral"
        " `liquidHeldUpdate.deltaWei.value` in that of `heldMarket`, both by balances that the"
        " liquidator `solidAccountOwner` has in the protocol. An account is `liquidAccountOwner`"
        " with a colon and the `liquidAccountNumber`. Debt that is left without collateral is"
        " written off by another event: bad debt `vaporOwedUpdate.deltaWei.value`. A token is"
        " worth the `price.value` that the contract logged last in the transaction for its"
        " `market`."
    ),
)
