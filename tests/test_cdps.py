"""What contracts of Maker, Liquity's forks and Curve's markets are asked, and what comes of it."""

from decimal import Decimal

import msgspec
import pytest

from indexer.chain_step import ChainStep, Knowledge
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
    Subject,
)
from indexer.inquiry import inquire
from indexer.oracles import NOT_LISTED, REVERTS, UNKNOWN_ORACLE, UNKNOWN_UNIT, UNREADABLE, ZERO
from tests.evm_logs import DECODER, GOLDEN, Case, known
from tests.fake_chain import NOTHING, REVERTED, Answers, FakeChain, asked, says

DOG, CAT = (
    "0x135954d155898d42c90d2a57824c690e0c7bef1b",
    "0xa5679c04fc3d9d8b0aab1f0ab83555b301ca70ea",
)
CHAINLOG = "0xda0ab1e0017debcd72be8599041a2aa3ba7e740f"
SPOTTER = "0x65c79fcb50ca1594b025960e539ed7a9a6d434a3"
CRVUSD_FACTORY = "0xc9332fdcb1c491dcc683bae86fe3cb70360738bc"
LLAMALEND_FACTORY = "0xcaec110c784c9df37240a8ce096d352a75922dea"
TROVES = "0xa39739ef8b0231dbfa0dcda07d7e29faabcf4bb2"


def address(digit: str) -> str:
    return "0x" + 40 * digit


CLIP, DAI, GEM, REGISTRY, VAT, AMM, VAULT, FEED, CONTROLLER = map(address, "123456789")
WORD = b"ETH-A".ljust(32, b"\0")
ILK = "0x" + WORD.hex()


def key(name: str) -> bytes:
    return name.encode().ljust(32, b"\0")


def spec_of(protocol: str) -> ProtocolSpec:
    return DECODER.spec_of(f"{protocol}.anywhere")


def told(protocol: str, missing: MissingFact, answers: Answers) -> tuple[Fact, ...]:
    spec = spec_of(protocol)
    deployed = [one for one in spec.deployments if one.chain == missing.chain]
    inquiry = spec.asks[missing.fact](missing, deployed)
    return inquire({0: inquiry}, FakeChain(answers).call_many)[0]


def quote(protocol: str, subject: Subject, answers: Answers) -> Quote | NoQuote:
    spec = spec_of(protocol)
    assert spec.oracle is not None
    deployed = [one for one in spec.deployments if one.chain == subject.chain]
    return inquire({0: spec.oracle(subject, deployed)}, FakeChain(answers).call_many)[0]


def of(fact: str, subject: str, chain: str = "ethereum") -> MissingFact:
    return MissingFact(chain, fact, subject)


OF_CLIP = asked(CLIP, "ilk()")
OF_DOG = asked(DOG, "ilks(bytes32)", WORD)
PROVED: Answers = {
    OF_CLIP: says("bytes32", WORD),
    OF_DOG: says("address uint256 uint256 uint256", CLIP, 10**18, 1, 2),
}
OF_LOG = asked(CHAINLOG, "getAddress(bytes32)", key("ILK_REGISTRY"))
GEMS: Answers = {
    OF_LOG: says("address", REGISTRY),
    asked(REGISTRY, "gem(bytes32)", WORD): says("address", GEM),
    asked(REGISTRY, "dec(bytes32)", WORD): says("uint256", 8),
}
GEM_FACTS = (
    Fact("ethereum", "maker_gem", f"{DOG}/{ILK}", GEM),
    Fact("ethereum", "maker_gem_decimals", f"{DOG}/{ILK}", "8"),
)
COINS: Answers = {
    asked(CONTROLLER, "amm()"): says("address", AMM),
    asked(AMM, "coins(uint256)", 0): says("address", DAI),
    asked(AMM, "coins(uint256)", 1): says("address", GEM),
}
COIN_FACTS = (
    Fact("ethereum", "crvusd_borrowed", CONTROLLER, DAI),
    Fact("ethereum", "crvusd_collateral", CONTROLLER, GEM),
)
OF_VAULT: Answers = {
    asked(VAULT, "controller()"): says("address", CONTROLLER),
    asked(LLAMALEND_FACTORY, "vaults_index(address)", VAULT): says("uint256", 0),
}

KNOWN = [
    ("Dog's clipper of an ilk", "maker", of(EMITTER_FACT, CLIP), PROVED,
     (Fact("ethereum", "emitter", CLIP, "maker/clipper"),)),
    ("a clipper that no log has proved", "maker", of("maker_keeper", f"{CLIP}/7"), PROVED,
     (Fact("ethereum", "emitter", CLIP, "maker/clipper"),
      Fact("ethereum", "maker_keeper", f"{CLIP}/7", None))),
    ("Maker's coin", "maker", of("maker_coin", CAT),
     {asked(CHAINLOG, "getAddress(bytes32)", key("MCD_DAI")): says("address", DAI)},
     (Fact("ethereum", "maker_coin", CAT, DAI),)),
    ("the token of an ilk", "maker", of("maker_gem", f"{DOG}/{ILK}"), GEMS, GEM_FACTS),
    ("its decimals", "maker", of("maker_gem_decimals", f"{DOG}/{ILK}"), GEMS, GEM_FACTS),
    ("Liquity's coin", "liquity_v1", of("liquity_v1_coin", TROVES),
     {asked(TROVES, "lusdToken()"): says("address", DAI)},
     (Fact("ethereum", "liquity_v1_coin", TROVES, DAI),)),
    ("a fork's coin by a name of its own", "liquity_v1", of("liquity_v1_coin", TROVES),
     {asked(TROVES, "usdsToken()"): says("address", DAI)},
     (Fact("ethereum", "liquity_v1_coin", TROVES, DAI),)),
    ("a fork's collateral", "liquity_v1", of("liquity_v1_collateral", TROVES),
     {asked(TROVES, "collTokenAddress()"): says("address", GEM)},
     (Fact("ethereum", "liquity_v1_collateral", TROVES, GEM),)),
    ("both tokens of a market", "crvusd", of("crvusd_borrowed", CONTROLLER), COINS, COIN_FACTS),
    ("the same of LlamaLend's", "llamalend", of("crvusd_collateral", CONTROLLER), COINS,
     COIN_FACTS),
    ("the last of a factory's controllers", "crvusd", of(EMITTER_FACT, CONTROLLER),
     {asked(CRVUSD_FACTORY, "n_collaterals()"): says("uint256", 2),
      asked(CRVUSD_FACTORY, "controllers(uint256)", 1): says("address", CONTROLLER)},
     (Fact("ethereum", "emitter", CONTROLLER, "crvusd/controller"),)),
    ("the controller of a vault, by what made it", "llamalend",
     of(EMITTER_FACT, CONTROLLER, "arbitrum"),
     {asked(CONTROLLER, "factory()"): says("address", VAULT), **OF_VAULT},
     (Fact("arbitrum", "emitter", CONTROLLER, "llamalend/controller"),)),
    ("the controller of a vault of the second version", "llamalend",
     of(EMITTER_FACT, CONTROLLER, "arbitrum"),
     {asked(CONTROLLER, "vault()"): says("address", VAULT), **OF_VAULT},
     (Fact("arbitrum", "emitter", CONTROLLER, "llamalend/controller"),)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("protocol", "missing", "answers", "facts"), [pytest.param(*c, id=w) for w, *c in KNOWN]
)
def test_the_chain_tells_a_missing_fact(
    protocol: str, missing: MissingFact, answers: Answers, facts: tuple[Fact, ...]
) -> None:
    assert told(protocol, missing, answers) == facts


SPOILT = [
    pytest.param(protocol, missing, answers | {call: spoilt}, id=f"{what}, {name}")
    for what, protocol, missing, answers, _ in KNOWN
    for call, answer in answers.items()
    for name, spoilt in (
        ("dirty", CallResult(is_ok=True, data=b"\xff" * len(answer.data))),
        ("short", CallResult(is_ok=True, data=answer.data[:-1])),
        ("silent", NOTHING),
        ("reverted", REVERTED),
    )
    if missing.fact != "maker_keeper"
    if (missing.fact, name in ("silent", "reverted")) != ("liquity_v1_collateral", True)
]


@pytest.mark.parametrize(("protocol", "missing", "answers"), SPOILT)
def test_an_answer_that_cannot_be_read_tells_nothing(
    protocol: str, missing: MissingFact, answers: Answers
) -> None:
    assert told(protocol, missing, answers) == ()


def test_a_trove_manager_without_a_token_is_of_the_chains_coin() -> None:
    missing = of("liquity_v1_collateral", TROVES)
    assert told("liquity_v1", missing, {}) == (missing.told(NATIVE),)


def test_nobody_is_paid_by_a_clipper_that_is_nobodys() -> None:
    missing = of("maker_keeper", f"{CLIP}/7")
    assert told("maker", missing, {}) == (missing.told(None),)


def test_a_clipper_that_dog_does_not_name_is_not_proved() -> None:
    answers = PROVED | {OF_DOG: says("address uint256 uint256 uint256", GEM, 1, 1, 2)}
    assert told("maker", of(EMITTER_FACT, CLIP), answers) == ()


def test_of_other_peoples_contracts_makers_chainlog_says_nothing() -> None:
    answers = {asked(CHAINLOG, "getAddress(bytes32)", key("MCD_DAI")): says("address", DAI)}
    assert told("maker", of("maker_coin", GEM), answers) == ()


def test_a_vault_that_names_another_controller_proves_none() -> None:
    answers = {
        asked(CONTROLLER, "factory()"): says("address", VAULT),
        **OF_VAULT,
        asked(VAULT, "controller()"): says("address", GEM),
    }
    assert told("llamalend", of(EMITTER_FACT, CONTROLLER, "arbitrum"), answers) == ()


# auctions


def case(name: str) -> Case:
    return msgspec.json.decode((GOLDEN / f"maker/{name}.json").read_bytes(), type=Case)


def test_the_keeper_is_read_once_the_clipper_is_proved() -> None:
    started = case("auction_started")
    unproved = known(fact for fact in started.facts if fact.fact != EMITTER_FACT)
    step = ChainStep(Knowledge(DECODER, ["maker.ethereum"], unproved), started.logs)
    (question,) = step.questions()
    clip = question.subject.partition("/")[0]
    before = step.liquidations()

    step.learn([Fact("ethereum", EMITTER_FACT, clip, "maker/clipper"), question.told(None)])

    (row,) = step.liquidations()
    assert (before, question.fact) == ([], "maker_keeper")
    assert row.liquidator == started.outcomes[1]["LendingLiquidation"]["liquidator"]
    assert [raw.venue for raw in step.raw()] == 2 * ["maker.ethereum"]


def test_what_a_sale_brought_can_be_told_from_facts() -> None:
    """10 ether went for 19,000 DAI and 10 more for the rest of what was to be raised; of 21 the
    last was given back. The second transaction is a later one."""
    started, sale = case("auction_started"), case("nothing_sale")
    later = [msgspec.structs.replace(log, tx_hash="0x" + 64 * "8") for log in sale.logs]
    step = ChainStep(
        Knowledge(DECODER, ["maker.ethereum"], known(started.facts)), [*started.logs, *later]
    )
    (row,) = step.liquidations()
    facts = [fact for fact, _ in step.learnt()]

    ((house, number), (urn, tab, lot)) = next(
        (fact.subject.split("/"), (fact.value or "").split("/"))
        for fact in facts
        if fact.fact == "maker_auction"
    )
    takes = [fact for fact in facts if fact.fact == "maker_take"]
    owed = [int((fact.value or "").partition("/")[0]) for fact in takes]
    left = [int(fact.subject.split("/")[3]) for fact in takes]

    assert {fact.subject.rpartition(f"/{number}/")[0] for fact in takes} == {house}
    assert (urn, row.seized and row.seized.raw) == (row.account, int(lot))
    assert owed == [19_000 * 10**45, int(tab) - 19_000 * 10**45]
    assert (int(lot), left) == (21 * 10**18, [11 * 10**18, 10**18])


# oracles

RAY = 10**27
MAT = says("address uint256", FEED, 145 * RAY // 100)
VAT_ILK = says("uint256 uint256 uint256 uint256 uint256", 1, RAY, 2_000 * RAY, 3, 4)
MAKER: Answers = {
    asked(SPOTTER, "vat()"): says("address", VAT),
    asked(SPOTTER, "par()"): says("uint256", RAY),
    asked(SPOTTER, "ilks(bytes32)", WORD): MAT,
    asked(GEM, "decimals()"): says("uint8", 8),
    asked(VAT, "ilks(bytes32)", WORD): VAT_ILK,
}
IN_MAKER = Subject("ethereum", ILK, GEM, DOG)
PRICE_FEED = asked(TROVES, "priceFeed()")
LIQUITY: Answers = {
    PRICE_FEED: says("address", FEED),
    asked(FEED, "lastGoodPrice()"): says("uint256", 2_345 * 10**18),
}
IN_LIQUITY = Subject("ethereum", TROVES, NATIVE, TROVES)
MARKET: Answers = {
    **COINS,
    asked(AMM, "price_oracle()"): says("uint256", 60_000 * 10**18),
    asked(DAI, "decimals()"): says("uint256", 18),
    asked(GEM, "decimals()"): says("uint256", 8),
}


def in_market(asset: str) -> Subject:
    return Subject("ethereum", CONTROLLER, asset, CONTROLLER)


def test_maker_weighs_collateral_by_what_the_vat_holds_safe() -> None:
    # 2,000 DAI may be owed for one, 145 % are required: 2,900 dollars for 10**8 base units
    assert quote("maker", IN_MAKER, MAKER) == Quote(Decimal("0.000029"), USD, (SPOTTER, VAT))


def test_liquity_weighs_the_chains_coin_by_the_price_it_has_kept() -> None:
    assert quote("liquity_v1", IN_LIQUITY, LIQUITY) == Quote(
        Decimal("2345E-18"), USD, (TROVES, FEED)
    )


def test_crvusd_weighs_collateral_in_dollars_and_its_coin_as_one() -> None:
    assert quote("crvusd", in_market(GEM), MARKET) == Quote(
        Decimal("0.0006"), USD, (CONTROLLER, AMM)
    )
    assert quote("crvusd", in_market(DAI), MARKET) == Quote(Decimal("1E-18"), USD, (AMM,))


def test_llamalend_weighs_collateral_in_what_is_lent() -> None:
    # 60,000 whole coins of 18 decimals for 10**8 base units
    via = (CONTROLLER, AMM)
    assert quote("llamalend", in_market(GEM), MARKET) == Quote(
        Decimal(600_000_000_000_000), DAI, via, trust="market"
    )
    assert quote("llamalend", in_market(DAI), MARKET) == Quote(Decimal(1), DAI, via)


NONE = [
    ("of an ilk without a price", "maker", IN_MAKER,
     MAKER | {asked(VAT, "ilks(bytes32)", WORD): says("uint256 " * 4 + "uint256", 1, 1, 0, 1, 1)},
     ZERO),
    ("of other people's Dog", "maker", Subject("ethereum", ILK, GEM, GEM), MAKER, UNKNOWN_ORACLE),
    ("of a vat that is silent", "maker", IN_MAKER,
     {k: v for k, v in MAKER.items() if k.to != VAT}, UNREADABLE),
    ("of a fork's token with 8 decimals", "liquity_v1", Subject("ethereum", TROVES, GEM, TROVES),
     LIQUITY | {asked(GEM, "decimals()"): says("uint8", 8)}, UNKNOWN_UNIT),
    ("of a feed that is silent", "liquity_v1", IN_LIQUITY, {PRICE_FEED: LIQUITY[PRICE_FEED]},
     REVERTS),
    ("of a token of another market", "crvusd", in_market(FEED), MARKET, NOT_LISTED),
    ("the same of LlamaLend's", "llamalend", in_market(FEED), MARKET, NOT_LISTED),
    ("of a market of one token", "crvusd", in_market(GEM),
     MARKET | {asked(AMM, "coins(uint256)", 0): says("address", NOBODY)}, UNREADABLE),
]  # fmt: skip


@pytest.mark.parametrize(
    ("protocol", "subject", "answers", "why"), [pytest.param(*c, id=w) for w, *c in NONE]
)
def test_there_is_no_price(protocol: str, subject: Subject, answers: Answers, why: NoQuote) -> None:
    assert quote(protocol, subject, answers) == why
