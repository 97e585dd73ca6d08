"""LlamaLend: Curve's markets of crvUSD's kind that anybody may open, with any oracle, and in which
what is lent was lent by others. Of the second version only the factory is another one."""

from collections.abc import Sequence

from indexer.abi_calls import address_of, call, uint_of
from indexer.evm_model import (
    EMITTER_FACT,
    Contract,
    Deployment,
    Dialogue,
    FactMap,
    Inquiry,
    Learn,
    MissingFact,
    NoQuote,
    ProtocolSpec,
    Quote,
    Subject,
)
from indexer.oracles import NOT_LISTED, contract_of, decimals_of, scaled, unit_itself
from indexer.venues.evm import deployments
from indexer.venues.evm.crvusd import (
    BORROWED,
    COLLATERAL,
    CONTROLLER,
    METHODOLOGY,
    PRICE_PLACES,
    join,
    market,
    tokens,
)


def oracle(subject: Subject, deployed: Sequence[Deployment]) -> Dialogue[Quote | NoQuote]:
    """Base units of the borrowed token for one of the collateral."""
    found = yield from market(subject)
    if isinstance(found, NoQuote):
        return found
    amm, borrowed, collateral, price = found
    via = (subject.market, amm)
    if subject.asset == borrowed:
        return unit_itself(borrowed, via)
    if subject.asset != collateral:
        return NOT_LISTED
    places = []
    for told in (yield [call(token, "decimals()") for token in (borrowed, collateral)]):
        decimals = decimals_of(told)
        if isinstance(decimals, NoQuote):
            return decimals
        places.append(decimals)
    of_borrowed, of_collateral = places
    per_unit = scaled(price, PRICE_PLACES + of_collateral - of_borrowed)
    return Quote(per_unit, borrowed, via, trust="market")


def _emitter(missing: MissingFact, deployed: Sequence[Deployment]) -> Inquiry:
    """A controller names its vault, as what made it or by that name; the vault names its
    controller, and a factory reverts for a vault that it has not made.

    curvefi/curve-stablecoin:contracts/lending/OneWayLendingFactory.vy,
    curve_stablecoin/lending/LendController.vy and LendFactory.vy"""
    factories = [one for one in deployed if one.role == "factory"]
    named = yield [call(missing.subject, getter) for getter in ("factory()", "vault()")]
    vaults = [vault for vault in map(contract_of, named) if vault is not None]
    places = [(vault, one) for vault in vaults for one in factories]
    answers = yield [
        *(call(vault, "controller()") for vault, _ in places),
        *(call(one.address, "vaults_index(address)", vault) for vault, one in places),
    ]
    names = {
        one.name
        for (_, one), controller, index in zip(
            places, answers[: len(places)], answers[len(places) :], strict=True
        )
        if address_of(controller) == missing.subject and uint_of(index, bits=64) is not None
    }
    return (missing.told(f"{names.pop()}/controller"),) if len(names) == 1 else ()


SPEC = ProtocolSpec(
    name="llamalend",
    kind="lending",
    contracts={
        "factory": Contract(
            abi="llamalend_factory.json",
            events={
                "NewVault": FactMap(
                    learns=(
                        Learn(COLLATERAL.fact, ("controller",), ("collateral_token",)),
                        Learn(BORROWED.fact, ("controller",), ("borrowed_token",)),
                    ),
                    proves={"controller": "controller"},
                )
            },
        ),
        "controller": CONTROLLER,
    },
    join=join,
    deployments=deployments("llamalend"),
    asks={EMITTER_FACT: _emitter, BORROWED.fact: tokens, COLLATERAL.fact: tokens},
    oracle=oracle,
    # no bonus, as of crvUSD
    fee="none",
    is_permissionless=True,
    methodology=METHODOLOGY,
)
