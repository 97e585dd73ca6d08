"""What Fluid, Silo, Gearbox and Euler v1 ask the chain for, and what they make of the answers."""

from decimal import Decimal

import pytest

from indexer.evm_model import (
    NATIVE,
    NOBODY,
    USD,
    CallResult,
    EthCall,
    Fact,
    MissingFact,
    NoQuote,
    ProtocolSpec,
    Quote,
    Subject,
)
from indexer.inquiry import inquire
from tests.evm_logs import DECODER
from tests.fake_chain import NOTHING, REVERTED, Answers, FakeChain, asked, says


def spec_of(protocol: str) -> ProtocolSpec:
    return DECODER.spec_of(f"{protocol}.anywhere")


def told(protocol: str, missing: MissingFact, answers: Answers) -> tuple[Fact, ...]:
    spec = spec_of(protocol)
    deployed = [one for one in spec.deployments if one.chain == missing.chain]
    inquiry = spec.asks[missing.fact](missing, deployed)
    return inquire({0: inquiry}, FakeChain(answers).call_many)[0]


def quote(protocol: str, chain: str, market: str, asset: str, answers: Answers) -> Quote | NoQuote:
    spec = spec_of(protocol)
    assert spec.oracle is not None
    subject = Subject(chain, market, asset, market)
    return inquire({0: spec.oracle(subject, spec.deployments)}, FakeChain(answers).call_many)[0]


def deployed(protocol: str, chain: str, role: str) -> list[str]:
    return [
        one.address
        for one in spec_of(protocol).deployments
        if (one.chain, one.role) == (chain, role)
    ]


def address(digit: str) -> str:
    return "0x" + 40 * digit


EMITTER, TOKEN, COIN, OTHER, EXCHANGE, ORACLE, CONFIG, MANAGER = map(address, "12345678")
WETH = "0xc02aaa39b223fe8d0a0e5c4f27ead9083c756cc2"
SLOT = bytes(32)


# Fluid

(FLUID,) = deployed("fluid", "ethereum", "factory")
CONSTANTS = asked(EMITTER, "constantsView()")


def plain_vault(collateral: str = TOKEN, debt: str = COIN) -> Answers:
    """liquidity, factory, two implementations, both tokens, their decimals, number, four slots"""
    types = "address address address address address address uint8 uint8 uint256" + 4 * " bytes32"
    told = says(types, OTHER, FLUID, OTHER, OTHER, collateral, debt, 18, 6, 7, *4 * [SLOT])
    return {CONSTANTS: told}


def smart_vault(second: str = NOBODY, second_debt: str = NOBODY) -> Answers:
    """liquidity, factory, three implementations, deployer, both layers, two tokens of each side"""
    types = " ".join(12 * ["address"] + 2 * ["uint256"] + 4 * ["bytes32"])
    layer, debt_layer = (EXCHANGE if one != NOBODY else OTHER for one in (second, second_debt))
    told = says(
        types, OTHER, FLUID, OTHER, OTHER, OTHER, OTHER, layer, debt_layer, TOKEN, second, COIN,
        second_debt, 7, 20000, *4 * [SLOT],
    )  # fmt: skip
    return {CONSTANTS: told}


def sides(collateral: str, debt: str) -> tuple[Fact, ...]:
    return (
        Fact("ethereum", "fluid_collateral", EMITTER, collateral),
        Fact("ethereum", "fluid_debt", EMITTER, debt),
    )


@pytest.mark.parametrize("fact", ["fluid_collateral", "fluid_debt"])
@pytest.mark.parametrize(
    ("answers", "facts"),
    [
        (plain_vault(), sides(TOKEN, COIN)),
        (plain_vault(NATIVE), sides(NATIVE, COIN)),
        (smart_vault(), sides(TOKEN, COIN)),
        (smart_vault(second=COIN), sides(EXCHANGE, COIN)),
        (smart_vault(second_debt=TOKEN), sides(TOKEN, EXCHANGE)),
        (plain_vault(NOBODY), ()),
        ({CONSTANTS: says("address address", TOKEN, COIN)}, ()),
        ({CONSTANTS: REVERTED}, ()),
        ({CONSTANTS: NOTHING}, ()),
    ],
)
def test_a_fluid_vault_tells_both_sides_at_once(
    fact: str, answers: Answers, facts: tuple[Fact, ...]
) -> None:
    assert told("fluid", MissingFact("ethereum", fact, EMITTER), answers) == facts


def test_a_fluid_vault_is_one_of_its_factory() -> None:
    missing = MissingFact("ethereum", "emitter", EMITTER)
    answers = {asked(FLUID, "isVault(address)", EMITTER): says("bool", True)}
    assert told("fluid", missing, answers) == (missing.told("fluid/vault"),)


STORED = asked(EMITTER, "readFromStorage(bytes32)", SLOT[:-1] + b"\1")
RATE, FIRST_RATE = (
    asked(ORACLE, "getExchangeRateLiquidate()"),
    asked(ORACLE, "getExchangeRate()"),
)
NAMED = {STORED: says("uint256", int(ORACLE, 16) << 96 | 0xFFF)}
# 2,500 coins of 6 decimals for a token of 18: 2500 * 10**(27 + 6 - 18)
PRICE = says("uint256", 2_500 * 10**15)


@pytest.mark.parametrize(
    ("asset", "answers", "found"),
    [
        (TOKEN, plain_vault() | NAMED | {RATE: PRICE}, ("0.0000000025", COIN, (EMITTER, ORACLE))),
        (TOKEN, plain_vault() | NAMED | {FIRST_RATE: PRICE},
         ("0.0000000025", COIN, (EMITTER, ORACLE))),
        (COIN, plain_vault(), ("1", COIN, (EMITTER,))),
        (COIN, smart_vault(second=COIN), ("1", COIN, (EMITTER,))),
    ],
)  # fmt: skip
def test_collateral_of_a_fluid_vault_is_worth_so_much_of_its_debt(
    asset: str, answers: Answers, found: tuple[str, str, tuple[str, ...]]
) -> None:
    per_unit, unit, via = found
    assert quote("fluid", "ethereum", EMITTER, asset, answers) == Quote(
        Decimal(per_unit), unit, via
    )


@pytest.mark.parametrize(
    ("asset", "answers", "reason"),
    [
        (OTHER, plain_vault(), "the market does not know the asset"),
        (TOKEN, plain_vault(), "the oracle's answer is unreadable"),
        (TOKEN, plain_vault() | {STORED: says("uint256", 0xFFF)}, "no oracle is set"),
        (TOKEN, plain_vault() | NAMED, "the oracle reverts"),
        (EXCHANGE, smart_vault(second=COIN), "shares of an exchange have no price here"),
        (TOKEN, smart_vault(second_debt=TOKEN),
         "a vault with an exchange names its oracle by a number"),
        (TOKEN, {}, "the oracle's answer is unreadable"),
    ],
)  # fmt: skip
def test_a_side_of_a_fluid_vault_without_a_price(asset: str, answers: Answers, reason: str) -> None:
    assert quote("fluid", "ethereum", EMITTER, asset, answers) == NoQuote(reason)


# Silo v1

FACTORIES = deployed("silo_v1", "ethereum", "factory")
OF_SILO = asked(EMITTER, "siloRepository()")
IS_SILO = asked(OTHER, "isSilo(address)", EMITTER)
OF_FACTORY = asked(FACTORIES[1], "siloRepository()")
PROVED = {
    OF_SILO: says("address", OTHER),
    IS_SILO: says("bool", True),
    OF_FACTORY: says("address", OTHER),
}
SILO = MissingFact("ethereum", "emitter", EMITTER)


def test_a_silo_is_known_to_the_repository_of_a_factory() -> None:
    assert told("silo_v1", SILO, PROVED) == (SILO.told("silo_v1/silo"),)


@pytest.mark.parametrize(
    "lie",
    [
        {OF_SILO: REVERTED},
        {OF_SILO: says("address", NOBODY)},
        {IS_SILO: says("bool", False)},
        {IS_SILO: REVERTED},
        {OF_FACTORY: says("address", TOKEN)},  # a repository of its own that vouches for it
    ],
)
def test_a_silo_that_nobody_vouches_for_is_none(lie: Answers) -> None:
    assert told("silo_v1", SILO, PROVED | lie) == ()


PRICES = address("a")
SILO_PRICE = asked(PRICES, "getPrice(address)", TOKEN)
STATE = asked(EMITTER, "interestData(address)", TOKEN)
QUOTED: Answers = {
    OF_SILO: says("address", OTHER),
    asked(OTHER, "priceProvidersRepository()"): says("address", PRICES),
    asked(PRICES, "quoteToken()"): says("address", WETH),
    SILO_PRICE: says("uint256", 5 * 10**14),
    asked(TOKEN, "decimals()"): says("uint8", 6),
    STATE: says("uint256 uint256 uint64 uint8", 0, 0, 1, 1),
}


def test_a_price_of_silo_v1_is_of_a_whole_token_in_wei() -> None:
    assert quote("silo_v1", "ethereum", EMITTER, TOKEN, QUOTED) == Quote(
        Decimal(5 * 10**8), WETH, (EMITTER, OTHER, PRICES)
    )


@pytest.mark.parametrize(
    ("lie", "reason"),
    [
        ({STATE: says("uint256 uint256 uint64 uint8", 0, 0, 0, 0)},
         "the market does not know the asset"),
        ({SILO_PRICE: says("uint256", 0)}, "the oracle answers 0"),
        ({SILO_PRICE: REVERTED}, "the oracle reverts"),
        ({asked(TOKEN, "decimals()"): NOTHING}, "the token states no decimals"),
        ({asked(PRICES, "quoteToken()"): NOTHING}, "the unit of the oracle is unknown"),
        ({OF_SILO: NOTHING}, "the market does not tell its oracle"),
    ],
)  # fmt: skip
def test_silo_v1_without_a_price(lie: Answers, reason: str) -> None:
    assert quote("silo_v1", "ethereum", EMITTER, TOKEN, QUOTED | lie) == NoQuote(reason)


# Silo v2

(V2,) = deployed("silo_v2", "ethereum", "factory")
S0, S1, P0, P1, D0, D1 = map(address, "9abcde")
HOOK = MissingFact("ethereum", "emitter", EMITTER)
OF_HOOK = asked(EMITTER, "siloConfig()")
SILOS = asked(CONFIG, "getSilos()")
BACK = asked(S0, "siloConfig()")
LISTED = asked(V2, "isSilo(address)", S0)


def config(
    silo: str, token: str, protected: str, debt: str, oracle: str = NOBODY, hook: str = EMITTER
) -> Answers:
    """The seventeen words of a silo's configuration."""
    types = " ".join(2 * ["uint256"] + 8 * ["address"] + 5 * ["uint256"] + ["address", "bool"])
    told = says(
        types, 0, 0, silo, token, protected, silo, debt, oracle, oracle, OTHER, 1, 1, 1, 1, 1,
        hook, False,
    )  # fmt: skip
    return {asked(CONFIG, "getConfig(address)", silo): told}


MARKET: Answers = {
    OF_HOOK: says("address", CONFIG),
    SILOS: says("address address", S0, S1),
    **config(S0, TOKEN, P0, D0, ORACLE),
    **config(S1, COIN, P1, D1),
    BACK: says("address", CONFIG),
    LISTED: says("bool", True),
}


def test_a_hook_is_that_of_silos_of_the_factory() -> None:
    assert told("silo_v2", HOOK, MARKET) == (HOOK.told("silo_v2/hook"),)


@pytest.mark.parametrize(
    "lie",
    [
        {OF_HOOK: REVERTED},
        {OF_HOOK: says("address", NOBODY)},
        {SILOS: NOTHING},
        {LISTED: says("bool", False)},
        {BACK: says("address", OTHER)},  # a configuration of its own with somebody's silo
        {**config(S0, TOKEN, P0, D0, hook=OTHER), **config(S1, COIN, P1, D1, hook=OTHER)},
        {asked(CONFIG, "getConfig(address)", S0): NOTHING},
    ],
)
def test_a_hook_that_only_says_so_is_none(lie: Answers) -> None:
    assert told("silo_v2", HOOK, MARKET | lie) == ()


def test_a_hook_tells_the_silos_of_its_market() -> None:
    missing = MissingFact("ethereum", "silo_v2_market", EMITTER)
    value = "/".join((CONFIG, S0, TOKEN, P0, S1, COIN, P1))

    assert told("silo_v2", missing, MARKET) == (missing.told(value),)
    assert told("silo_v2", missing, {OF_HOOK: REVERTED}) == ()
    assert told("silo_v2", missing, MARKET | {SILOS: NOTHING}) == ()
    assert (
        told("silo_v2", missing, MARKET | {asked(CONFIG, "getConfig(address)", S1): NOTHING}) == ()
    )


UNIT = {asked(ORACLE, "quoteToken()"): says("address", COIN)}
LARGE, SMALL = (asked(ORACLE, "quote(uint256,address)", 10**n, TOKEN) for n in (30, 18))


@pytest.mark.parametrize(
    ("asset", "answers", "per_unit", "via", "trust"),
    [
        (TOKEN, UNIT | {LARGE: says("uint256", 3 * 10**21)}, "0.000000003", (CONFIG, ORACLE),
         "market"),
        (TOKEN, UNIT | {SMALL: says("uint256", 3 * 10**9)}, "0.000000003", (CONFIG, ORACLE),
         "market"),
        (COIN, {}, "1", (CONFIG,), "governed"),  # without an oracle it counts as itself
    ],
)  # fmt: skip
def test_silo_v2_quotes_one_token_in_another(
    asset: str, answers: Answers, per_unit: str, via: tuple[str, ...], trust: str
) -> None:
    found = quote("silo_v2", "ethereum", CONFIG, asset, MARKET | answers)

    assert isinstance(found, Quote)
    assert (found.per_unit, found.unit, found.via, found.trust) == (
        Decimal(per_unit), COIN, via, trust,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("asset", "answers", "reason"),
    [
        (OTHER, MARKET, "the market does not know the asset"),
        (TOKEN, MARKET, "the unit of the oracle is unknown"),
        (TOKEN, MARKET | UNIT, "the oracle reverts"),
        (TOKEN, MARKET | UNIT | {SMALL: says("uint256", 0)}, "the oracle answers 0"),
        (TOKEN, {}, "the oracle's answer is unreadable"),
    ],
)
def test_silo_v2_without_a_quote(asset: str, answers: Answers, reason: str) -> None:
    assert quote("silo_v2", "ethereum", CONFIG, asset, answers) == NoQuote(reason)


# Gearbox

FACADE = MissingFact("ethereum", "emitter", EMITTER)
REGISTER, FACTORY, CURATOR, CURATED = map(address, "9abc")
(V30,) = deployed("gearbox_v3", "ethereum", "address_provider")
(V31,) = deployed("gearbox_v3", "ethereum", "address_provider_v31")
(OLD,) = deployed("gearbox_v2", "ethereum", "address_provider")
PROVIDES = "getAddressOrRevert(bytes32,uint256)"


def key(text: str) -> bytes:
    return text.encode().ljust(32, b"\0")


OF_FACADE = asked(EMITTER, "creditManager()")
OF_MANAGER = asked(MANAGER, "creditFacade()")
CONNECTED: Answers = {
    OF_FACADE: says("address", MANAGER),
    OF_MANAGER: says("address", EMITTER),
    asked(V30, PROVIDES, key("CONTRACTS_REGISTER"), 0): says("address", REGISTER),
    asked(V31, PROVIDES, key("MARKET_CONFIGURATOR_FACTORY"), 0): says("address", FACTORY),
    asked(FACTORY, "getMarketConfigurators()"): says("address[]", [OTHER, CURATOR]),
    asked(CURATOR, "contractsRegister()"): says("address", CURATED),
}
IN_FIRST, IN_CURATED = (
    asked(register, "isCreditManager(address)", MANAGER) for register in (REGISTER, CURATED)
)


@pytest.mark.parametrize("listed", [IN_FIRST, IN_CURATED])
def test_a_facade_is_of_a_manager_in_a_register(listed: EthCall) -> None:
    answers = CONNECTED | {listed: says("bool", True)}
    assert told("gearbox_v3", FACADE, answers) == (FACADE.told("gearbox_v3/facade"),)


@pytest.mark.parametrize(
    "lie",
    [
        {IN_FIRST: says("bool", False)},
        {OF_FACADE: REVERTED},
        {OF_FACADE: says("address", NOBODY)},
        {OF_MANAGER: says("address", OTHER)},  # whoever names a manager is not yet its facade
    ],
)
def test_a_facade_that_its_manager_does_not_name_is_none(lie: Answers) -> None:
    assert told("gearbox_v3", FACADE, CONNECTED | {IN_FIRST: says("bool", True)} | lie) == ()


@pytest.mark.parametrize(
    "list_of_curators",
    [NOTHING, REVERTED, says("uint256 uint256", 32, 10**9), says("address", CURATOR)],
)
def test_a_list_of_curators_that_is_none_proves_nobody(list_of_curators: CallResult) -> None:
    listed = asked(FACTORY, "getMarketConfigurators()")
    answers = CONNECTED | {IN_CURATED: says("bool", True), listed: list_of_curators}
    assert told("gearbox_v3", FACADE, answers) == ()


def test_a_facade_of_v2_is_in_the_first_register() -> None:
    answers = CONNECTED | {
        asked(OLD, "getContractsRegister()"): says("address", REGISTER),
        IN_FIRST: says("bool", True),
    }
    assert told("gearbox_v2", FACADE, answers) == (FACADE.told("gearbox_v2/facade"),)
    assert told("gearbox_v2", FACADE, CONNECTED) == ()


PRICE_ORACLE = {asked(MANAGER, "priceOracle()"): says("address", ORACLE)}
CONVERTED = asked(ORACLE, "convertToUSD(uint256,address)", 10**30, TOKEN)


@pytest.mark.parametrize(
    ("protocol", "trust"), [("gearbox_v3", "market"), ("gearbox_v2", "governed")]
)
def test_gearbox_converts_to_dollars(protocol: str, trust: str) -> None:
    """10**30 units of a token of 6 decimals at 1.5 dollars, with 8 decimals."""
    answers = PRICE_ORACLE | {CONVERTED: says("uint256", 15 * 10**31)}

    found = quote(protocol, "ethereum", MANAGER, TOKEN, answers)

    assert isinstance(found, Quote)
    assert (found.per_unit, found.unit, found.via, found.trust) == (
        Decimal("0.0000015"), USD, (MANAGER, ORACLE), trust,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("answers", "reason"),
    [({}, "the market does not tell its oracle"), (PRICE_ORACLE, "the oracle reverts")],
)
def test_gearbox_without_a_price(answers: Answers, reason: str) -> None:
    assert quote("gearbox_v3", "ethereum", MANAGER, TOKEN, answers) == NoQuote(reason)


# Euler v1

UNITS = MissingFact("ethereum", "euler_v1_units", TOKEN)
DECIMALS = asked(TOKEN, "decimals()")
(EXEC,) = deployed("euler_v1", "ethereum", "exec")
FULL_PRICE = asked(EXEC, "getPriceFull(address)", TOKEN)
AVERAGE = {FULL_PRICE: says("uint256 uint256 uint256", 6 * 10**14, 1800, 5 * 10**14)}


@pytest.mark.parametrize(
    ("answer", "value"),
    [(says("uint8", 6), f"{TOKEN}/6"), (says("uint8", 18), f"{TOKEN}/18")],
)
def test_euler_v1_asks_tokens_for_their_decimals(answer: CallResult, value: str) -> None:
    assert told("euler_v1", UNITS, {DECIMALS: answer}) == (UNITS.told(value),)


@pytest.mark.parametrize("answer", [says("uint8", 19), NOTHING, REVERTED])
def test_decimals_that_euler_v1_refuses_are_none(answer: CallResult) -> None:
    assert told("euler_v1", UNITS, {DECIMALS: answer}) == ()


def test_euler_v1_went_by_an_average_in_wei() -> None:
    answers = AVERAGE | {DECIMALS: says("uint8", 6)}
    assert quote("euler_v1", "ethereum", EXEC, TOKEN, answers) == Quote(
        Decimal(6 * 10**8), WETH, (EXEC.lower(),), trust="market"
    )
    assert quote("euler_v1", "ethereum", EXEC, WETH, {}) == Quote(Decimal(1), WETH, (EXEC.lower(),))


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ({}, "the oracle reverts"),
        ({FULL_PRICE: NOTHING}, "the oracle's answer is unreadable"),
        ({FULL_PRICE: says("uint256 uint256 uint256", 0, 0, 0)}, "the oracle answers 0"),
        (AVERAGE, "the token states no decimals"),
    ],
)
def test_euler_v1_without_a_price(answers: Answers, reason: str) -> None:
    assert quote("euler_v1", "ethereum", EXEC, TOKEN, answers) == NoQuote(reason)


def test_euler_v1_is_asked_where_it_was() -> None:
    assert quote("euler_v1", "base", EXEC, TOKEN, AVERAGE) == NoQuote(
        "the market does not tell its oracle"
    )
