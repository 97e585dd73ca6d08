"""Curve's crvUSD: the loans that mint it. A controller logs a liquidation that ends a loan, or a
part of it. What the market sells of the collateral before that, band by band, is a trade and no
liquidation; it comes back here as `stablecoin_received`, coins that stand for collateral.

Owners may liquidate themselves, in health too: liquidator and account are then the same.
curvefi/curve-stablecoin:contracts/Controller.vy, _liquidate
"""

from collections.abc import Iterable, Sequence

from indexer.abi_calls import address_of, call, uint_of
from indexer.evm_model import (
    EMITTER,
    EMITTER_FACT,
    USD,
    Contract,
    Deployment,
    Dialogue,
    EventMap,
    Fact,
    FactMap,
    Facts,
    Inquiry,
    Joinable,
    Learn,
    LendingLiquidation,
    Lookup,
    MissingFact,
    NoQuote,
    Par,
    ProtocolSpec,
    Quote,
    Sibling,
    Subject,
    UndecodedLog,
)
from indexer.oracles import (
    NOT_LISTED,
    UNREADABLE,
    contract_of,
    decimals_of,
    followed,
    number_of,
    scaled,
)
from indexer.venues.evm import deployments

BORROWED = Lookup("crvusd_borrowed", (EMITTER,))
COLLATERAL = Lookup("crvusd_collateral", (EMITTER,))
PRICE_PLACES = 18  # curvefi/curve-stablecoin:contracts/AMM.vy, price_oracle
DECIMALS = 18  # of crvUSD
MOST_MARKETS = 1_000  # nine were added in three years


def join(events: Sequence[Joinable], facts: Facts) -> Iterable[LendingLiquidation | UndecodedLog]:
    """Coins that the collateral had already become are a second part of the collateral."""
    for row in events:
        assert not isinstance(row, Sibling)
        coins, row = row.bad_debt, row.with_(bad_debt=None)
        yield row
        if coins is not None and coins.raw:
            yield row.part(1, seized=coins)


CONTROLLER = Contract(
    abi="crvusd_controller.json",
    events={
        "Liquidate": EventMap(
            account="user",
            liquidator="liquidator",
            repaid=(BORROWED, "debt"),
            seized=(COLLATERAL, "collateral_received"),
            bad_debt="stablecoin_received",  # for the join, which knows better
        )
    },
)
METHODOLOGY = (
    "Debt `debt` in the borrowed token of the controller; collateral `collateral_received`, and as"
    " a second part `stablecoin_received`: what the market had already sold of it, in the borrowed"
    " token. The `liquidator` keeps both and pays all of the debt. Where `liquidator` and `user`"
    " are the same the account has liquidated itself, which it may at any time."
    " No bounds of the bonus: bands sell on their own, so that what is seized may be worth"
    " anything."
)


def tokens(missing: MissingFact, deployed: Sequence[Deployment]) -> Inquiry:
    """Of both sides, as the market has them: the first controllers name one of them only.

    curvefi/curve-stablecoin:curve_stablecoin/AMM.vy, coins"""
    (told,) = yield [call(missing.subject, "amm()")]
    amm = contract_of(told)
    if amm is None:
        return ()
    answers = yield [call(amm, "coins(uint256)", index) for index in (0, 1)]
    borrowed, collateral = map(contract_of, answers)
    if borrowed is None or collateral is None:
        return ()
    return (
        Fact(missing.chain, BORROWED.fact, missing.subject, borrowed),
        Fact(missing.chain, COLLATERAL.fact, missing.subject, collateral),
    )


def market(subject: Subject) -> Dialogue[tuple[str, str, str, int] | NoQuote]:
    """The controller's market, its borrowed token and its collateral, and what the market's oracle
    says of a whole token of collateral, whatever the decimals of both.

    curvefi/curve-stablecoin:contracts/AMM.vy, price_oracle"""
    way = yield from followed(subject.market, "amm()")
    if isinstance(way, NoQuote):
        return way
    amm = way[-1]
    *answers, told = yield [
        call(amm, "coins(uint256)", 0),
        call(amm, "coins(uint256)", 1),
        call(amm, "price_oracle()"),
    ]
    borrowed, collateral = map(contract_of, answers)
    if borrowed is None or collateral is None:
        return UNREADABLE
    price = number_of(told)
    if isinstance(price, NoQuote):
        return price
    return amm, borrowed, collateral, price


def oracle(subject: Subject, deployed: Sequence[Deployment]) -> Dialogue[Quote | NoQuote]:
    """Dollars: oracles of these markets multiply by what crvUSD trades at, and debts are weighed
    against that as they stand.

    curvefi/curve-stablecoin:contracts/CryptoWithStablePrice.vy, _raw_price"""
    found = yield from market(subject)
    if isinstance(found, NoQuote):
        return found
    amm, borrowed, collateral, price = found
    if subject.asset == borrowed:
        return Quote(scaled(1, DECIMALS), USD, (amm,))
    if subject.asset != collateral:
        return NOT_LISTED
    (told,) = yield [call(collateral, "decimals()")]
    decimals = decimals_of(told)
    if isinstance(decimals, NoQuote):
        return decimals
    return Quote(scaled(price, PRICE_PLACES + decimals), USD, (subject.market, amm))


def _emitter(missing: MissingFact, deployed: Sequence[Deployment]) -> Inquiry:
    """Factories number their controllers.

    curvefi/curve-stablecoin:contracts/ControllerFactory.vy"""
    factories = [one for one in deployed if one.role == "factory"]
    counts = yield [call(one.address, "n_collaterals()") for one in factories]
    places = [
        (one, index)
        for one, count in zip(factories, map(uint_of, counts), strict=True)
        if count is not None and count <= MOST_MARKETS
        for index in range(count)
    ]
    answers = yield [call(one.address, "controllers(uint256)", index) for one, index in places]
    names = {
        one.name
        for (one, _), answer in zip(places, answers, strict=True)
        if address_of(answer) == missing.subject
    }
    return (missing.told(f"{names.pop()}/controller"),) if len(names) == 1 else ()


SPEC = ProtocolSpec(
    name="crvusd",
    kind="lending",
    contracts={
        "factory": Contract(
            abi="crvusd_factory.json",
            events={
                "AddMarket": FactMap(
                    learns=(Learn(COLLATERAL.fact, ("controller",), ("collateral",)),),
                    proves={"controller": "controller"},
                )
            },
        ),
        "controller": CONTROLLER,
    },
    join=join,
    deployments=deployments("crvusd"),
    asks={EMITTER_FACT: _emitter, BORROWED.fact: tokens, COLLATERAL.fact: tokens},
    oracle=oracle,
    par=Par(
        BORROWED.fact,
        DECIMALS,
        "curvefi/curve-stablecoin:contracts/CryptoWithStablePrice.vy, _raw_price",
    ),
    # no bonus: what is left to a liquidator depends on how far the market had come, and owners who
    # liquidate themselves may be worth any multiple of their debt
    fee="none",  # curvefi/curve-stablecoin:contracts/Controller.vy, _liquidate
    methodology=METHODOLOGY,
)
