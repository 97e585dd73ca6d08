"""What Fraxlend, Abracadabra, Exactly and Synthetix's core ask the chain for."""

import json
from decimal import Decimal, localcontext
from pathlib import Path

import pytest

from indexer.decode import Layout, load_abi
from indexer.evm_model import (
    EMITTER_FACT,
    NATIVE,
    NOBODY,
    USD,
    CallResult,
    Fact,
    MissingFact,
    NoQuote,
    ProtocolSpec,
    Quote,
    ShareRate,
    Subject,
)
from indexer.inquiry import inquire
from tests.evm_logs import DECODER
from tests.fake_chain import NOTHING, REVERTED, Answers, FakeChain, asked, says


def spec_of(protocol: str) -> ProtocolSpec:
    return DECODER.spec_of(f"{protocol}.anywhere")


def places(protocol: str, chain: str, role: str) -> list[str]:
    return [
        one.address
        for one in spec_of(protocol).deployments
        if (one.chain, one.role) == (chain, role)
    ]


def told(protocol: str, missing: MissingFact, answers: Answers) -> tuple[Fact, ...]:
    spec = spec_of(protocol)
    deployed = [one for one in spec.deployments if one.chain == missing.chain]
    inquiry = spec.asks[missing.fact](missing, deployed)
    return inquire({0: inquiry}, FakeChain(answers).call_many)[0]


def quote(protocol: str, subject: Subject, answers: Answers) -> Quote | NoQuote:
    spec = spec_of(protocol)
    assert spec.oracle is not None
    deployed = [one for one in spec.deployments if one.chain == subject.chain]
    with localcontext() as context:
        context.prec = 1  # no number may go through the context
        return inquire({0: spec.oracle(subject, deployed)}, FakeChain(answers).call_many)[0]


def address(digit: str) -> str:
    return "0x" + 40 * digit


MARKET, TOKEN, OTHER, BOX, AUDITOR, FEED, AGGREGATOR, WETH = map(address, "12345678")
REGISTRY, *_ = places("fraxlend", "ethereum", "registry")
DEPLOYER, *_ = places("fraxlend", "ethereum", "deployer")
DEGENBOX = places("abracadabra", "ethereum", "box")[1]
MASTER, *_ = places("abracadabra", "ethereum", "master")
OUR_AUDITOR, *_ = places("exactly", "optimism", "auditor")
(CORE,) = places("synthetix_v3_core", "base", "core")
PAIRS = "getAllPairAddresses()"
DATA = "uint128 uint8 uint8 bool address"  # of a market, as the auditor has it


def emitter(chain: str) -> MissingFact:
    return MissingFact(chain, EMITTER_FACT, MARKET)


def listed(feed: str, decimals: int = 18, *, is_listed: bool = True) -> CallResult:
    return says(DATA, 8 * 10**17, decimals, 1, is_listed, feed)


def proved(chain: str, role: str) -> tuple[Fact, ...]:
    return (Fact(chain, EMITTER_FACT, MARKET, role),)


EMITTERS = [
    (
        "a pair of the registry",
        "fraxlend",
        "ethereum",
        {asked(REGISTRY, PAIRS): says("address[]", [OTHER, MARKET])},
        proved("ethereum", "fraxlend/pair"),
    ),
    (
        "a pair that only a deployer knows",
        "fraxlend",
        "ethereum",
        {
            asked(REGISTRY, PAIRS): says("address[]", [OTHER]),
            asked(DEPLOYER, PAIRS): says("address[]", [MARKET, OTHER]),
        },
        proved("ethereum", "fraxlend/pair"),
    ),
    (
        "a pair of both",
        "fraxlend",
        "ethereum",
        {asked(at, PAIRS): says("address[]", [MARKET]) for at in (REGISTRY, DEPLOYER)},
        proved("ethereum", "fraxlend/pair"),
    ),
    (
        "a pair of no list",
        "fraxlend",
        "ethereum",
        {asked(REGISTRY, PAIRS): says("address[]", [OTHER])},
        (),
    ),
    (
        "a list that ends too early",
        "fraxlend",
        "ethereum",
        {asked(REGISTRY, PAIRS): says("uint256 uint256 address", 32, 2, MARKET)},
        (),
    ),
    (
        "a clone of a master of ours",
        "abracadabra",
        "ethereum",
        {asked(DEGENBOX, "masterContractOf(address)", MARKET): says("address", MASTER)},
        proved("ethereum", "abracadabra/cauldron"),
    ),
    (
        "a clone of another master",
        "abracadabra",
        "ethereum",
        {asked(DEGENBOX, "masterContractOf(address)", MARKET): says("address", OTHER)},
        (),
    ),
    (
        "what no box cloned",
        "abracadabra",
        "ethereum",
        {asked(DEGENBOX, "masterContractOf(address)", MARKET): says("address", NOBODY)},
        (),
    ),
    (
        "a market of the auditor",
        "exactly",
        "optimism",
        {asked(OUR_AUDITOR, "markets(address)", MARKET): listed(FEED)},
        proved("optimism", "exactly/market"),
    ),
    (
        "what the auditor does not know",
        "exactly",
        "optimism",
        {asked(OUR_AUDITOR, "markets(address)", MARKET): says(DATA, 0, 0, 0, False, NOBODY)},
        (),
    ),
]


@pytest.mark.parametrize(
    ("protocol", "chain", "answers", "facts"), [pytest.param(*c, id=w) for w, *c in EMITTERS]
)
def test_who_an_emitter_is(
    protocol: str, chain: str, answers: Answers, facts: tuple[Fact, ...]
) -> None:
    assert told(protocol, emitter(chain), answers) == facts


@pytest.mark.parametrize(
    ("protocol", "fact", "getter"),
    [
        ("fraxlend", "underlying", "asset()"),
        ("fraxlend", "fraxlend_collateral", "collateralContract()"),
        ("abracadabra", "abracadabra_mim", "magicInternetMoney()"),
        ("exactly", "underlying", "asset()"),
        ("synthetix_v3_core", "synthetix_usd", "getUsdToken()"),
    ],
)
def test_which_tokens_a_market_is_of(protocol: str, fact: str, getter: str) -> None:
    missing = MissingFact("ethereum", fact, MARKET)
    answers = {asked(MARKET, getter): says("address", TOKEN)}
    assert told(protocol, missing, answers) == (missing.told(TOKEN),)


@pytest.mark.parametrize(
    ("answer", "decimals"),
    [(says("uint8", 6), ["6"]), (REVERTED, ["18"]), (NOTHING, ["18"]), (says("uint256", 256), [])],
)
def test_decimals_by_which_amounts_are_taken_back(answer: CallResult, decimals: list[str]) -> None:
    missing = MissingFact("base", "synthetix_decimals", TOKEN)
    facts = told("synthetix_v3_core", missing, {asked(TOKEN, "decimals()"): answer})
    assert [fact.value for fact in facts] == decimals


# what shares and tokens are worth

EXCHANGE, RATE = "exchangeRate()", "toAmount(address,uint256,bool)"
CAULDRON = "0x207763511da879a900973a5e092382117c3c1588"  # of CRV, on Ethereum


def cauldron(at: str = CAULDRON) -> Answers:
    """Of a token at 2,000 dollars, of which the box gives a quarter more than it got."""
    return {
        asked(at, EXCHANGE): says("uint256", 5 * 10**14),
        asked(at, "bentoBox()"): says("address", BOX),
        asked(at, "collateral()"): says("address", TOKEN),
        asked(BOX, RATE, TOKEN, 10**18, False): says("uint256", 125 * 10**16),
    }


def test_shares_of_a_box_say_what_they_are_worth() -> None:
    share_rate = spec_of("abracadabra").share_rate
    assert share_rate is not None

    def rate(answers: Answers) -> ShareRate | None:
        return inquire({0: share_rate("ethereum", CAULDRON, 9)}, FakeChain(answers).call_many)[0]

    known = cauldron()
    assert rate(known) == ShareRate("ethereum", CAULDRON, 9, TOKEN, 10**18, 125 * 10**16)
    assert [rate({k: a for k, a in known.items() if k != lost}) for lost in list(known)[1:]] == [
        None, None, None,
    ]  # fmt: skip


def pair(info: CallResult, *pairs: str) -> Answers:
    return {
        asked(MARKET, "asset()"): says("address", TOKEN),
        asked(MARKET, "collateralContract()"): says("address", OTHER),
        asked(MARKET, "exchangeRateInfo()"): info,
        asked(REGISTRY, PAIRS): says("address[]", pairs),
    }


FIRST = says("uint32 uint224", 1, 5 * 10**17)
LATER = says("address uint32 uint184 uint256 uint256", FEED, 5000, 1, 4 * 10**17, 5 * 10**17)


def auditor(places: int, price: int, feeds: tuple[str, str] = (FEED, AGGREGATOR)) -> Answers:
    """Of a market of TOKEN with 6 decimals and one of WETH."""
    second = address("a")
    return {
        asked(MARKET, "auditor()"): says("address", AUDITOR),
        asked(AUDITOR, "priceDecimals()"): says("uint256", places),
        asked(AUDITOR, "allMarkets()"): says("address[]", [MARKET, second]),
        asked(MARKET, "asset()"): says("address", TOKEN),
        asked(second, "asset()"): says("address", WETH),
        asked(AUDITOR, "markets(address)", MARKET): listed(feeds[0], 6),
        asked(AUDITOR, "markets(address)", second): listed(feeds[1]),
        asked(AUDITOR, "assetPrice(address)", feeds[0]): says("uint256", price),
    }


def plain(price: int) -> Answers:
    return {
        asked(FEED, "aggregator()"): says("address", AGGREGATOR),
        asked(FEED, "latestRoundData()"): says(
            "uint80 int256 uint256 uint256 uint80", 7, price, 1, 1, 7
        ),
    }


IN_DOLLARS = auditor(8, 999 * 10**15)
IN_ETHER = auditor(18, 5 * 10**14, (FEED, NATIVE))
PRICE_OF = "getCollateralPrice(address)"
COLLATERAL = {
    asked(CORE, PRICE_OF, TOKEN): says("uint256", 3 * 10**18),
    asked(TOKEN, "decimals()"): says("uint8", 6),
}


def of(chain: str, asset: str, market: str = MARKET) -> Subject:
    return Subject(chain, market.lower(), asset, market.lower())


WAY = (MARKET, AUDITOR, FEED)
QUOTES = [
    (
        "collateral of a pair of the first version",
        "fraxlend",
        of("ethereum", OTHER),
        pair(FIRST, MARKET),
        Quote(Decimal(2), TOKEN, (MARKET,)),
    ),
    (
        "collateral of a later pair goes by the low rate, which is the dearer one",
        "fraxlend",
        of("ethereum", OTHER),
        pair(LATER, MARKET),
        Quote(Decimal("2.5"), TOKEN, (MARKET,)),
    ),
    (
        "a pair that anybody may have opened",
        "fraxlend",
        of("ethereum", OTHER),
        pair(LATER),
        Quote(Decimal("2.5"), TOKEN, (MARKET,), trust="market"),
    ),
    (
        "what a pair lends",
        "fraxlend",
        of("ethereum", TOKEN),
        pair(LATER),
        Quote(Decimal(1), TOKEN, (MARKET,)),
    ),
    (
        "shares of a cauldron",
        "abracadabra",
        of("ethereum", CAULDRON, CAULDRON),
        cauldron(),
        Quote(Decimal("2.5e-15"), USD, (CAULDRON,)),
    ),
    (
        "shares of a cauldron that anybody may have cloned",
        "abracadabra",
        of("ethereum", MARKET),
        cauldron(MARKET),
        Quote(Decimal("2.5e-15"), USD, (MARKET,), trust="market"),
    ),
    (
        "a token of an auditor in dollars",
        "exactly",
        of("optimism", TOKEN),
        IN_DOLLARS,
        Quote(Decimal("0.999e-6"), USD, WAY),
    ),
    (
        "a plain feed",
        "exactly",
        of("optimism", TOKEN),
        IN_DOLLARS | plain(99_900_000),
        Quote(Decimal("0.999e-6"), USD, WAY, feed=FEED, feed_round=7),
    ),
    (
        "a token of an auditor in ether",
        "exactly",
        of("ethereum", TOKEN),
        IN_ETHER,
        Quote(Decimal(5 * 10**8), WETH, WAY),
    ),
    (
        "ether itself",
        "exactly",
        of("ethereum", WETH),
        IN_ETHER,
        Quote(Decimal(1), WETH, (MARKET, AUDITOR)),
    ),
    (
        "collateral of a core",
        "synthetix_v3_core",
        of("base", TOKEN, CORE),
        COLLATERAL,
        Quote(Decimal("0.000003"), USD, (CORE.lower(),)),
    ),
]


@pytest.mark.parametrize(
    ("protocol", "subject", "answers", "expected"), [pytest.param(*c, id=w) for w, *c in QUOTES]
)
def test_what_the_oracle_says(
    protocol: str, subject: Subject, answers: Answers, expected: Quote
) -> None:
    assert quote(protocol, subject, answers) == expected


SHORT = says("uint256", 1)
SILENT = [
    ("fraxlend", of("ethereum", BOX), pair(LATER), "the market does not know the asset"),
    ("fraxlend", of("ethereum", OTHER), pair(REVERTED), "the oracle reverts"),
    ("fraxlend", of("ethereum", OTHER), pair(SHORT), "the oracle's answer is unreadable"),
    (
        "fraxlend",
        of("ethereum", OTHER),
        pair(says("uint32 uint224", 1, 0)),
        "the oracle answers 0",
    ),
    ("fraxlend", of("ethereum", OTHER), {}, "the oracle's answer is unreadable"),
    ("abracadabra", of("ethereum", TOKEN), cauldron(), "the market does not know the asset"),
    ("abracadabra", of("ethereum", MARKET), cauldron(), "the oracle reverts"),
    (
        "abracadabra",
        of("ethereum", MARKET),
        {asked(MARKET, EXCHANGE): says("uint256", 1)},
        "the shares do not tell their rate",
    ),
    ("exactly", of("optimism", TOKEN), {}, "the market does not tell its oracle"),
    ("exactly", of("optimism", OTHER), IN_DOLLARS, "the market does not know the asset"),
    (
        "exactly",
        of("optimism", TOKEN),
        auditor(18, 1),
        "the unit of the oracle is unknown",
    ),
    (
        "exactly",
        of("optimism", TOKEN),
        auditor(18, 1, (NATIVE, NATIVE)),
        "the unit of the oracle is unknown",
    ),
    ("exactly", of("optimism", TOKEN), auditor(19, 1), "the unit of the oracle is unknown"),
    ("exactly", of("optimism", TOKEN), auditor(8, 0), "the oracle answers 0"),
    ("synthetix_v3_core", of("base", TOKEN, CORE), {}, "the oracle reverts"),
    (
        "synthetix_v3_core",
        of("base", TOKEN, CORE),
        {asked(CORE, PRICE_OF, TOKEN): says("uint256", 1)},
        "the token states no decimals",
    ),
]


@pytest.mark.parametrize(("protocol", "subject", "answers", "reason"), SILENT)
def test_why_an_oracle_says_nothing(
    protocol: str, subject: Subject, answers: Answers, reason: str
) -> None:
    assert quote(protocol, subject, answers) == NoQuote(reason)


def test_topics_and_deployments_are_those_of_the_reference(real_data: Path) -> None:
    file = real_data.parent / "reference" / "evm-protocols.json"
    reference = [
        one
        for one in json.loads(file.read_text("utf-8"))
        if one["protocol"] in ("fraxlend", "abracadabra", "exactly")
        or one["version"] == "v3 core (LP vaults)"
    ]
    specs = [spec_of(n) for n in ("fraxlend", "abracadabra", "exactly", "synthetix_v3_core")]
    events = [
        event
        for spec in specs
        for contract in spec.contracts.values()
        for event in load_abi(contract.abi)
    ]

    theirs = {
        (event["canonical"], event["topic0"], tuple(event["indexed"]))
        for one in reference
        for event in one["events"]
    }
    ours = {
        (e.signature, Layout(e).topic0, tuple(a.name for a in e.inputs if a.indexed))
        for e in events
    }

    assert len(reference) == 4
    # each liquidation of Exactly's has one beside it, in the market that is seized
    assert {signature for signature, _, _ in theirs - ours} == {"Seize(address,address,uint256)"}
    assert {
        (at["chain"], at["address"].lower(), at["first_block"])
        for one in reference
        for at in one["deployments"]
    } <= {
        (at.chain, at.address.lower(), at.since_block) for spec in specs for at in spec.deployments
    }
