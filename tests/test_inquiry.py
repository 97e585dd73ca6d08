"""What protocols ask the chain for, and what they make of honest, silent and lying answers."""

from collections.abc import Callable, Generator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.evm_model import (
    EMITTER_FACT,
    NOBODY,
    CallResult,
    EthCall,
    Fact,
    MissingFact,
    ProtocolSpec,
    ShareRate,
)
from indexer.inquiry import inquire
from tests.evidence import cases
from tests.evm_logs import DECODER, SPECS
from tests.fake_chain import NOTHING, RESULTS, REVERTED, Answers, FakeChain, asked, says


def spec_of(protocol: str) -> ProtocolSpec:
    return DECODER.spec_of(f"{protocol}.anywhere")


def told(protocol: str, missing: MissingFact, answers: Answers) -> tuple[Fact, ...]:
    """What a protocol learns of a missing fact from a chain that answers so."""
    spec = spec_of(protocol)
    deployed = [one for one in spec.deployments if one.chain == missing.chain]
    inquiry = spec.asks[missing.fact](missing, deployed)
    return inquire({"it": inquiry}, FakeChain(answers).call_many)["it"]


def place(protocol: str, chain: str, role: str) -> str:
    """Where this is deployed, once."""
    (address,) = [
        one.address
        for one in spec_of(protocol).deployments
        if (one.name, one.chain, one.role) == (protocol, chain, role)
    ]
    return address


def address(digit: str) -> str:
    return "0x" + 40 * digit


MARKET, TOKEN, POOL, STRANGER = map(address, "1234")
COMPTROLLER = place("compound_v2", "ethereum", "comptroller")
CAPYFI = place("capyfi", "ethereum", "comptroller")
REGISTRY = place("venus_isolated", "bsc", "pool_registry")
KNOWN_POOL = place("venus_isolated", "base", "comptroller")
EVC = place("euler_v2", "base", "evc")
OWNER = "0x" + 38 * "5" + "ab"
PREFIX = OWNER[:-2]
SPOKE, HUB = address("6"), address("7")
LISTED = asked(POOL, "isMarketListed(address)", MARKET)
IN_REGISTRY = asked(REGISTRY, "getPoolByComptroller(address)", POOL)
MORPHO = place("morpho_blue", "ethereum", "morpho")

# wstETH/USDC on Ethereum, 86 %; that its parameters hash to its id shows that both are right
WSTETH_USDC = "0xb323495f7e4148be5643a4ea4a8221eef163e4bccfdedc2a6f4696baacbc86cc"
USDC, WSTETH = (
    "0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48",
    "0x7f39c581f595b53c5cb19bd0b3f8da6c935e2ca0",
)
PARAMETERS = says(
    "address address address address uint256", USDC, WSTETH,
    "0x48f7e36eb6b826b2df4b2e630b62cd25e89e40e2", "0x870ac11d48b15db9a138cf899d20f13f79ba00bc",
    86 * 10**16,
)  # fmt: skip
OF_ID = asked(MORPHO, "idToMarketParams(bytes32)", bytes.fromhex(WSTETH_USDC[2:]))
LOAN = MissingFact("ethereum", "morpho_loan_token", WSTETH_USDC)
COLLATERAL = MissingFact("ethereum", "morpho_collateral_token", WSTETH_USDC)
LLTV = Fact("ethereum", "morpho_lltv", WSTETH_USDC, "860000000000000000")
RESERVE = MissingFact("ethereum", "aave_v4_asset", f"{SPOKE}/7")
HUB_ASSET = MissingFact("ethereum", "aave_v4_underlying", f"{HUB}/3")
OF_RESERVE = asked(SPOKE, "getReserve(uint256)", 7)
OF_HUB_ASSET = asked(HUB, "getAssetUnderlyingAndDecimals(uint256)", 3)
FELIX = place("felix", "hyperevm", "collateral_registry")
OF_BRANCH = asked(FELIX, "getTroveManager(uint256)", 3)
NUMBERED = MissingFact("arbitrum", "dolomite_token", f"{MARKET}/17")
RESERVE_TYPES = "address address uint16 uint8 uint24 uint8 uint32"


def emitter(chain: str, subject: str = MARKET) -> MissingFact:
    return MissingFact(chain, EMITTER_FACT, subject)


def underlying(chain: str) -> MissingFact:
    return MissingFact(chain, "underlying", MARKET)


def pool(comptroller: str) -> CallResult:
    """The registry's VenusPool: name, creator, comptroller, blockPosted, timestampPosted."""
    return says("(string,address,address,uint256,uint256)", ("DeFi", OWNER, comptroller, 1, 2))


# A missing fact, the answers that are needed to know it, and what is known then.
KNOWN: list[tuple[str, str, MissingFact, Answers, tuple[Fact, ...]]] = [
    (
        "a market of a comptroller with three words a market",
        "compound_v2",
        emitter("ethereum"),
        {asked(CAPYFI, "markets(address)", MARKET): says("bool uint256 bool", True, 5, False)},
        (Fact("ethereum", "emitter", MARKET, "capyfi/market"),),
    ),
    (
        "a market of a comptroller with two words a market",
        "compound_v2",
        emitter("ethereum"),
        {asked(COMPTROLLER, "markets(address)", MARKET): says("bool uint256", True, 5)},
        (Fact("ethereum", "emitter", MARKET, "compound_v2/market"),),
    ),
    (
        "the token of a market",
        "compound_v2",
        underlying("base"),
        {asked(MARKET, "underlying()"): says("address", TOKEN)},
        (Fact("base", "underlying", MARKET, TOKEN),),
    ),
    (
        "a market of Venus",
        "venus_core",
        emitter("bsc"),
        {
            asked(place("venus_core", "bsc", "comptroller"), "markets(address)", MARKET): says(
                "bool uint256 bool uint256 uint256 uint96 bool", True, 1, True, 2, 3, 0, True
            )
        },
        (Fact("bsc", "emitter", MARKET, "venus_core/market"),),
    ),
    (
        "a market of a pool that the registry names",
        "venus_isolated",
        emitter("bsc"),
        {
            asked(MARKET, "comptroller()"): says("address", POOL),
            IN_REGISTRY: pool(POOL),
            LISTED: says("bool", True),
        },
        (Fact("bsc", "emitter", MARKET, "venus_isolated/market"),),
    ),
    (
        "a market of a pool that we know, where no registry is known",
        "venus_isolated",
        emitter("base"),
        {
            asked(MARKET, "comptroller()"): says("address", KNOWN_POOL),
            asked(KNOWN_POOL, "isMarketListed(address)", MARKET): says("bool", True),
        },
        (Fact("base", "emitter", MARKET, "venus_isolated/market"),),
    ),
    (
        "the token of an isolated market",
        "venus_isolated",
        underlying("bsc"),
        {asked(MARKET, "underlying()"): says("address", TOKEN)},
        (Fact("bsc", "underlying", MARKET, TOKEN),),
    ),
    (
        "the base token of a Comet",
        "comet",
        underlying("base"),
        {asked(MARKET, "baseToken()"): says("address", TOKEN)},
        (Fact("base", "underlying", MARKET, TOKEN),),
    ),
    (
        "both tokens of a Morpho market, when the loan token is missing",
        "morpho_blue",
        LOAN,
        {OF_ID: PARAMETERS},
        (LOAN.told(USDC), COLLATERAL.told(WSTETH), LLTV),
    ),
    (
        "both tokens of a Morpho market, when the collateral token is missing",
        "morpho_blue",
        COLLATERAL,
        {OF_ID: PARAMETERS},
        (LOAN.told(USDC), COLLATERAL.told(WSTETH), LLTV),
    ),
    (
        "a pre-liquidation contract",
        "morpho_blue",
        emitter("base"),
        {
            asked(
                place("morpho_blue", "base", "pre_liquidation_factory"),
                "isPreLiquidation(address)",
                MARKET,
            ): says("bool", True)
        },
        (Fact("base", "emitter", MARKET, "morpho_blue/pre_liquidation"),),
    ),
    (
        "a vault of Euler",
        "euler_v2",
        emitter("base"),
        {
            asked(place("euler_v2", "base", "factory"), "isProxy(address)", MARKET): says(
                "bool", True
            )
        },
        (Fact("base", "emitter", MARKET, "euler_v2/vault"),),
    ),
    (
        "the asset of a vault",
        "euler_v2",
        underlying("base"),
        {asked(MARKET, "asset()"): says("address", TOKEN)},
        (Fact("base", "underlying", MARKET, TOKEN),),
    ),
    (
        "the owner of a sub-account",
        "euler_v2",
        MissingFact("base", "evc_owner", PREFIX),
        {asked(EVC, "getAccountOwner(address)", PREFIX + "00"): says("address", OWNER)},
        (Fact("base", "evc_owner", PREFIX, OWNER),),
    ),
    (
        "the Hub's number of a reserve",
        "aave_v4",
        RESERVE,
        {OF_RESERVE: says(RESERVE_TYPES, TOKEN, HUB, 3, 18, 0, 4, 1)},
        (RESERVE.told(f"{HUB}/3"),),
    ),
    (
        "the token of a Hub's asset",
        "aave_v4",
        HUB_ASSET,
        {OF_HUB_ASSET: says("address uint8", TOKEN, 6)},
        (HUB_ASSET.told(TOKEN),),
    ),
    (
        "a branch of Felix",
        "liquity_v2",
        emitter("hyperevm"),
        {OF_BRANCH: says("address", MARKET)},
        (Fact("hyperevm", "emitter", MARKET, "felix/trove_manager"),),
    ),
    (
        "both tokens of a branch, whose coin has a getter of its own name",
        "liquity_v2",
        MissingFact("hyperevm", "liquity_collateral", MARKET),
        {
            OF_BRANCH: says("address", MARKET),
            asked(FELIX, "getToken(uint256)", 3): says("address", TOKEN),
            asked(FELIX, "feUSDToken()"): says("address", HUB),
        },
        (
            Fact("hyperevm", "liquity_collateral", MARKET, TOKEN),
            Fact("hyperevm", "liquity_coin", MARKET, HUB),
        ),
    ),
    (
        "the NFT of a branch's troves",
        "liquity_v2",
        MissingFact("ethereum", "liquity_trove_nft", MARKET),
        {asked(MARKET, "troveNFT()"): says("address", TOKEN)},
        (Fact("ethereum", "liquity_trove_nft", MARKET, TOKEN),),
    ),
    (
        "the token of a numbered market",
        "dolomite",
        NUMBERED,
        {asked(MARKET, "getMarketTokenAddress(uint256)", 17): says("address", TOKEN)},
        (NUMBERED.told(TOKEN),),
    ),
]


@pytest.mark.parametrize(
    ("protocol", "missing", "answers", "facts"), [pytest.param(*c, id=w) for w, *c in KNOWN]
)
def test_the_chain_tells_a_missing_fact(
    protocol: str, missing: MissingFact, answers: Answers, facts: tuple[Fact, ...]
) -> None:
    assert told(protocol, missing, answers) == facts


def dirty(answer: CallResult) -> CallResult:
    return CallResult(is_ok=True, data=b"\xff" * len(answer.data))


def shorter(answer: CallResult) -> CallResult:
    return CallResult(is_ok=True, data=answer.data[:-1])


def longer(answer: CallResult) -> CallResult:
    return CallResult(is_ok=True, data=answer.data + b"\0")


def refused(answer: CallResult) -> CallResult:
    return CallResult(is_ok=False, data=answer.data)


def nothing(answer: CallResult) -> CallResult:
    return NOTHING


SILENT, GARBLED = (refused, nothing), (dirty, shorter, longer)
# Every answer that is needed, spoiled in every way.
SPOILED = [
    pytest.param(protocol, missing, answers | {call: spoil(answer)}, id=f"{what}, {spoil.__name__}")
    for what, protocol, missing, answers, _ in KNOWN
    for call, answer in answers.items()
    for spoil in (*SILENT, *GARBLED)
    if (protocol, missing.fact, spoil in SILENT) != ("compound_v2", "underlying", True)
]


@pytest.mark.parametrize(("protocol", "missing", "answers"), SPOILED)
def test_an_answer_that_cannot_be_read_tells_nothing(
    protocol: str, missing: MissingFact, answers: Answers
) -> None:
    assert told(protocol, missing, answers) == ()


@pytest.mark.parametrize("protocol", ["compound_v2", "venus_core"])
@pytest.mark.parametrize(
    "answer", [REVERTED, CallResult(is_ok=False, data=b"why"), NOTHING, says("address", NOBODY)]
)
def test_a_market_that_names_no_token_has_none(protocol: str, answer: CallResult) -> None:
    missing = underlying("bsc")
    answers = {asked(MARKET, "underlying()"): answer}
    assert told(protocol, missing, answers) == (missing.told(None),)


@pytest.mark.parametrize(
    ("protocol", "getter"),
    [("comet", "baseToken()"), ("venus_isolated", "underlying()"), ("euler_v2", "asset()")],
)
def test_the_zero_address_is_no_token_where_there_always_is_one(protocol: str, getter: str) -> None:
    answers = {asked(MARKET, getter): says("address", NOBODY)}
    assert told(protocol, underlying("base"), answers) == ()


def test_a_market_that_its_comptroller_does_not_list_is_not_proved() -> None:
    answers = {asked(COMPTROLLER, "markets(address)", MARKET): says("bool uint256", False, 0)}
    assert told("compound_v2", emitter("ethereum"), answers) == ()


def test_a_market_that_two_protocols_list_is_nobodys() -> None:
    answers = {
        asked(comptroller, "markets(address)", MARKET): says("bool uint256", True, 1)
        for comptroller in (COMPTROLLER, CAPYFI)
    }
    assert told("compound_v2", emitter("ethereum"), answers) == ()


def test_a_branch_that_two_protocols_list_is_nobodys() -> None:
    answers = {
        asked(place(name, "ethereum", "collateral_registry"), "getTroveManager(uint256)", 0): says(
            "address", MARKET
        )
        for name in ("ebisu", "defi_dollar")
    }
    assert told("liquity_v2", emitter("ethereum"), answers) == ()


@pytest.mark.parametrize("protocol", [spec.name for spec in SPECS if EMITTER_FACT in spec.asks])
def test_where_nothing_is_deployed_nothing_is_proved(protocol: str) -> None:
    assert told(protocol, emitter("nowhere"), {}) == ()


def test_where_no_connector_is_known_nobody_says_that_there_is_no_owner() -> None:
    assert told("euler_v2", MissingFact("nowhere", "evc_owner", PREFIX), {}) == ()


def test_only_the_factory_is_asked_for_a_vault() -> None:
    spec, chain = spec_of("euler_v2"), FakeChain({})
    on_base = [one for one in spec.deployments if one.chain == "base"]

    inquire({0: spec.asks[EMITTER_FACT](emitter("base"), on_base)}, chain.call_many)

    factory = place("euler_v2", "base", "factory")
    assert chain.rounds == [[asked(factory, "isProxy(address)", MARKET)]]
    assert {one.role for one in on_base} == {"evc", "factory"}


STRANGERS_POOL = {
    asked(MARKET, "comptroller()"): says("address", STRANGER),
    asked(STRANGER, "isMarketListed(address)", MARKET): says("bool", True),
}
LIES = [
    pytest.param(
        STRANGERS_POOL | {asked(REGISTRY, "getPoolByComptroller(address)", STRANGER): pool(NOBODY)},
        id="the registry does not know its comptroller",
    ),
    pytest.param(
        STRANGERS_POOL | {asked(REGISTRY, "getPoolByComptroller(address)", STRANGER): pool(POOL)},
        id="the registry names another comptroller",
    ),
    pytest.param(
        {
            asked(MARKET, "comptroller()"): says("address", POOL),
            IN_REGISTRY: pool(POOL),
            LISTED: says("bool", False),
        },
        id="the comptroller that it names does not list it",
    ),
    pytest.param(
        {
            asked(MARKET, "comptroller()"): says("address", POOL),
            IN_REGISTRY: says("uint256 uint256 address address", 0, 0, OWNER, POOL),
            LISTED: says("bool", True),
        },
        id="the registry returns no struct",
    ),
    pytest.param(
        {
            asked(MARKET, "comptroller()"): says("address", NOBODY),
            asked(REGISTRY, "getPoolByComptroller(address)", NOBODY): pool(NOBODY),
            asked(NOBODY, "isMarketListed(address)", MARKET): says("bool", True),
        },
        id="it names the zero address, which a registry names for any stranger",
    ),
    pytest.param(
        {
            asked(MARKET, "comptroller()"): says("address", MARKET),
            asked(MARKET, "isMarketListed(address)", MARKET): says("bool", True),
            asked(MARKET, "getPoolByComptroller(address)", MARKET): pool(MARKET),
        },
        id="it is its own comptroller",
    ),
]


@pytest.mark.parametrize("answers", LIES)
def test_a_market_that_lies_about_its_comptroller_is_not_proved(answers: Answers) -> None:
    assert told("venus_isolated", emitter("bsc"), answers) == ()


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(says("address address address address uint256", *4 * [NOBODY], 0), id="zeros"),
        pytest.param(
            says("address address address address uint256", USDC, WSTETH, NOBODY, NOBODY, 0),
            id="parameters of another market",
        ),
    ],
)
def test_parameters_that_do_not_hash_to_the_id_prove_nothing(answer: CallResult) -> None:
    assert told("morpho_blue", LOAN, {OF_ID: answer}) == ()


def test_on_bsc_a_market_is_looked_for_at_morpho_and_at_moolah() -> None:
    missing = MissingFact("bsc", "morpho_loan_token", WSTETH_USDC)
    moolah = place("lista_moolah", "bsc", "morpho")
    answers = {EthCall(moolah.lower(), OF_ID.data): PARAMETERS}

    facts = told("morpho_blue", missing, answers)

    assert facts == (
        Fact("bsc", "morpho_loan_token", WSTETH_USDC, USDC),
        Fact("bsc", "morpho_collateral_token", WSTETH_USDC, WSTETH),
        Fact("bsc", "morpho_lltv", WSTETH_USDC, "860000000000000000"),
    )


@pytest.mark.parametrize(
    ("owner", "facts"),
    [
        (NOBODY, (Fact("base", "evc_owner", PREFIX, None),)),
        (STRANGER, ()),
    ],
)
def test_an_owner_is_one_of_the_256_accounts_or_not_registered(
    owner: str, facts: tuple[Fact, ...]
) -> None:
    answers = {asked(EVC, "getAccountOwner(address)", PREFIX + "00"): says("address", owner)}
    assert told("euler_v2", MissingFact("base", "evc_owner", PREFIX), answers) == facts


@pytest.mark.parametrize(
    "answer",
    [
        says(RESERVE_TYPES, NOBODY, NOBODY, 0, 0, 0, 0, 0),
        says(RESERVE_TYPES.replace("uint16", "uint256"), TOKEN, HUB, 2**16, 18, 0, 4, 1),
        # the struct of an earlier revision, nine members long
        says(f"{RESERVE_TYPES} uint8 uint8", TOKEN, HUB, 3, 18, 0, 4, 1, 0, 0),
    ],
)
def test_a_reserve_that_is_not_listed_or_of_another_shape_tells_nothing(answer: CallResult) -> None:
    assert told("aave_v4", RESERVE, {OF_RESERVE: answer}) == ()


def test_an_asset_that_the_hub_does_not_list_tells_nothing() -> None:
    answers = {OF_HUB_ASSET: says("address uint8", NOBODY, 0)}
    assert told("aave_v4", HUB_ASSET, answers) == ()


RATES = [
    ("compound_v2", "exchangeRateStored()", (), "underlying()"),
    ("venus_core", "exchangeRateStored()", (), "underlying()"),
    ("venus_isolated", "exchangeRateStored()", (), "underlying()"),
    ("euler_v2", "convertToAssets(uint256)", (10**18,), "asset()"),
]


def rate(protocol: str, answers: Answers) -> ShareRate | None:
    share_rate = spec_of(protocol).share_rate
    assert share_rate is not None
    return inquire({0: share_rate("base", MARKET, 9)}, FakeChain(answers).call_many)[0]


@pytest.mark.parametrize(("protocol", "getter", "values", "token"), RATES)
def test_shares_say_what_they_are_worth(
    protocol: str, getter: str, values: tuple[int, ...], token: str
) -> None:
    worth = {asked(MARKET, getter, *values): says("uint256", 2 * 10**17)}
    named = worth | {asked(MARKET, token): says("address", TOKEN)}

    assert rate(protocol, named) == ShareRate("base", MARKET, 9, TOKEN, 10**18, 2 * 10**17)
    unnamed = ShareRate("base", MARKET, 9, None, 10**18, 2 * 10**17)
    assert rate(protocol, worth) == unnamed
    assert rate(protocol, worth | {asked(MARKET, token): says("address", NOBODY)}) == unnamed
    assert rate(protocol, named | {asked(MARKET, getter, *values): NOTHING}) is None


# the rounds


def countdown(name: str, rounds: int) -> Generator[Sequence[EthCall], Sequence[CallResult], str]:
    """Asks once a round; its name and everybody's letter."""
    said = ""
    for left in range(rounds, 0, -1):
        mine, shared = yield [EthCall(name, f"0x0{left}"), EthCall("all", "0x")]
        said += (mine.data + shared.data).decode()
    return said


def echo(calls: Sequence[EthCall]) -> list[CallResult]:
    return [CallResult(is_ok=True, data=f"{call.to}{call.data[2:]} ".encode()) for call in calls]


def counting(rounds: list[int]) -> Callable[[Sequence[EthCall]], list[CallResult]]:
    def call_many(calls: Sequence[EthCall]) -> list[CallResult]:
        rounds.append(len(calls))
        return echo(calls)

    return call_many


def test_all_calls_of_a_round_go_out_together_and_a_shared_one_once() -> None:
    rounds: list[int] = []

    answers = inquire(
        {1: countdown("a", 1), 2: countdown("b", 2), 3: countdown("c", 0)}, counting(rounds)
    )

    assert answers == {1: "a01 all ", 2: "b02 all b01 all ", 3: ""}
    assert rounds == [3, 2]


def test_without_inquiries_nothing_is_asked() -> None:
    rounds: list[int] = []
    assert (inquire({}, counting(rounds)), rounds) == ({}, [])


def test_a_chain_that_answers_too_little_is_an_error() -> None:
    with pytest.raises(ValueError, match="shorter"):
        inquire({1: countdown("a", 1)}, lambda calls: echo(calls)[:-1])


# whatever a contract returns


def subject_of(spec: ProtocolSpec, fact: str) -> str:
    """What a fact is asked of, as a golden case has it."""
    found = cases(spec).values()
    known = [one.subject for case in found for one in case.facts if one.fact == fact]
    missing = [
        values["missing"]["subject"]
        for case in found
        for outcome in case.outcomes
        for values in outcome.values()
        if (values.get("missing") or {}).get("fact") == fact
    ]
    return next(iter((*known, *missing)), MARKET)


ASKS = [(spec, fact) for spec in SPECS for fact in spec.asks]


@pytest.mark.parametrize(
    ("spec", "fact"), [pytest.param(*a, id=f"{a[0].name}-{a[1]}") for a in ASKS]
)
def test_no_answer_raises_or_tells_of_something_else(spec: ProtocolSpec, fact: str) -> None:
    subject = subject_of(spec, fact)

    @settings(deadline=None)
    @given(st.data(), st.sampled_from(sorted({one.chain for one in spec.deployments})))
    def check(data: st.DataObject, chain: str) -> None:
        missing = MissingFact(chain, fact, subject)
        deployed = [one for one in spec.deployments if one.chain == chain]
        inquiry = spec.asks[fact](missing, deployed)

        facts = inquire({0: inquiry}, lambda calls: [data.draw(RESULTS) for _ in calls])[0]

        names = {one.name for one in deployed}
        assert [f for f in facts if (f.chain, f.subject) != (chain, missing.subject)] == []
        assert {f.fact for f in facts} <= spec.asks.keys()
        assert {f.value for f in facts if f.fact == EMITTER_FACT} <= {
            f"{name}/{role}" for name in names for role in spec.contracts
        }

    check()


@settings(deadline=None)
@given(RESULTS, RESULTS)
def test_no_answer_about_shares_raises(first: CallResult, second: CallResult) -> None:
    answers = {
        asked(MARKET, "convertToAssets(uint256)", 10**18): first,
        asked(MARKET, "asset()"): second,
    }
    assert isinstance(rate("euler_v2", answers), ShareRate | None)
