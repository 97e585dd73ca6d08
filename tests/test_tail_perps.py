"""What gTrade, Nado, MUX, HMX and Level ask the chain for, and what their rows are worth."""

from decimal import Decimal, localcontext

import msgspec
import pytest
from eth_abi import abi

from indexer.evm_model import CallResult, Fact, MissingFact
from indexer.inquiry import inquire
from indexer.store import values
from indexer.store.database import Connection
from indexer.venues.evm.nado import subaccount
from tests.evm_logs import DECODER, GOLDEN, Case, decoded
from tests.fake_chain import NOTHING, REVERTED, Answers, FakeChain, asked, says
from tests.ledger_rows import rows
from tests.oracle_world import write_case

DIAMOND = "0xff162c694eaa571f685030649814282ea457f169"
CALLBACKS = "0x298a695906e16aea0a184a2815a76ead1a0b7522"
PAIR = "(string,string,(address,address,uint8,uint256),uint256,uint256,uint256)"
COLLATERAL = "address bool uint88 uint128 uint128"
FEED = (DIAMOND, DIAMOND, 0, 0)


def told(protocol: str, missing: MissingFact, answers: Answers) -> tuple[Fact, ...]:
    spec = DECODER.spec_of(f"{protocol}.anywhere")
    deployed = [one for one in spec.deployments if one.chain == missing.chain]
    inquiry = spec.asks[missing.fact](missing, deployed)
    return inquire({0: inquiry}, FakeChain(answers).call_many)[0]


def pair(base: str, quote: str) -> CallResult:
    return CallResult(is_ok=True, data=abi.encode([PAIR], [(base, quote, FEED, 0, 0, 0)]))


def gtrade(fact: str, subject: str, call: str, *values: int, says: CallResult) -> str | None:
    """What the diamond's or the contract's answer tells; None where it tells nothing."""
    to = DIAMOND if "pairs" in call or "Collateral" in call else subject
    found = told("gtrade", MissingFact("arbitrum", fact, subject), {asked(to, call, *values): says})
    assert all((one.chain, one.fact, one.subject) == ("arbitrum", fact, subject) for one in found)
    return found[0].value if found else None


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        pytest.param(pair("BTC", "USD"), "BTC", id="in dollars"),
        pytest.param(pair("USD", "JPY"), "USD/JPY", id="in yen"),
        pytest.param(pair("", ""), None, id="no such pair"),
        pytest.param(pair("\u202e", "USD"), None, id="a name that shows nothing"),
        pytest.param(CallResult(is_ok=True, data=b"\0" * 31 + b" "), None, id="one word"),
        pytest.param(
            CallResult(is_ok=True, data=b"\0" * 31 + b" " + b"\xff" * 64), None, id="beyond its end"
        ),
        pytest.param(CallResult(is_ok=True, data=b"\xff" * 640), None, id="no struct"),
        pytest.param(REVERTED, None, id="reverted"),
        pytest.param(NOTHING, None, id="nothing"),
    ],
)
@pytest.mark.parametrize("emitter", [DIAMOND, CALLBACKS])
def test_the_diamond_names_pairs_also_of_what_was_before_it(
    emitter: str, answer: CallResult, name: str | None
) -> None:
    subject = f"{emitter}/21"
    assert gtrade("gtrade_pair", subject, "pairs(uint256)", 21, says=answer) == name


@pytest.mark.parametrize(
    ("answer", "decimals"),
    [
        pytest.param(says(COLLATERAL, DIAMOND, True, 0, 10**6, 10**12), "6", id="six"),
        pytest.param(says(COLLATERAL, DIAMOND, False, 0, 10**18, 1), "18", id="not active"),
        pytest.param(says(COLLATERAL, DIAMOND, True, 0, 0, 0), None, id="no such collateral"),
        pytest.param(says(COLLATERAL, DIAMOND, True, 0, 5 * 10**6, 1), None, id="no power of ten"),
        pytest.param(says("uint128", 10**6), None, id="another answer"),
        pytest.param(REVERTED, None, id="reverted"),
    ],
)
def test_the_diamond_knows_the_precision_of_a_collateral(
    answer: CallResult, decimals: str | None
) -> None:
    call = "getCollateral(uint8)"
    assert gtrade("gtrade_decimals", f"{DIAMOND}/3", call, 3, says=answer) == decimals


@pytest.mark.parametrize(
    ("answer", "decimals"),
    [
        pytest.param(says("uint128 uint128", 10**6, 10**12), "6", id="v7"),
        pytest.param(REVERTED, "18", id="v6 has no such question and DAI only"),
        pytest.param(NOTHING, "18", id="v6 behind a fallback"),
        pytest.param(says("uint128", 10**6), None, id="another answer"),
    ],
)
def test_a_contract_of_one_collateral_knows_its_precision(
    answer: CallResult, decimals: str | None
) -> None:
    assert gtrade("gtrade_decimals", CALLBACKS, "collateralConfig()", says=answer) == decimals


@pytest.mark.parametrize(
    "name",
    [
        *("gtrade/v10_long", "gtrade/v10_short", "gtrade/v9_weth", "gtrade/v7", "gtrade/v6_3"),
        *("nado/long", "nado/short_isolated", "nado/spread", "mux/long", "mux/short"),
        *("hmx/all_positions", "level/short", "level/long", "level/profit"),
    ],
)
def test_no_number_goes_through_the_context(name: str) -> None:
    case = msgspec.json.decode((GOLDEN / f"{name}.json").read_bytes(), type=Case)
    with localcontext() as context:
        context.prec = 1
        found = decoded(case)
    assert msgspec.json.encode(found) == msgspec.json.encode(case.outcomes)


# -- Nado ----------------------------------------------------------------------------------------

CLEARINGHOUSE = "0xd218103918c19d0a10cf35300e4cfafbd444c5fe"
ENGINE, TOKEN = "0x" + 40 * "1", "0x" + 40 * "2"
BY_PRODUCT, TYPE = "getEngineByProduct(uint32)", "getEngineType()"
SPREAD = 2 << 16 | 1  # of spot product 1 and perpetual 2


@pytest.mark.parametrize(
    ("product", "asked_for", "kind", "number"),
    [
        pytest.param(f"{2}/False", 2, says("uint8", 1), "2", id="a perpetual"),
        pytest.param(f"{SPREAD}/True", 2, says("uint8", 1), "2", id="a spread"),
        pytest.param(f"{SPREAD}/False", SPREAD, says("uint8", 1), str(SPREAD), id="no spread"),
        pytest.param(f"{1}/False", 1, says("uint8", 0), None, id="a token"),
        pytest.param(f"{2}/False", 2, says("uint8", 2), None, id="what we do not know"),
        pytest.param(f"{2}/False", 2, REVERTED, None, id="reverted"),
    ],
)
def test_only_a_perpetual_has_the_number_of_one(
    product: str, asked_for: int, kind: CallResult, number: str | None
) -> None:
    missing = MissingFact("ink", "nado_perp", f"{CLEARINGHOUSE}/{product}")
    answers = {
        asked(CLEARINGHOUSE, BY_PRODUCT, asked_for): says("address", ENGINE),
        asked(ENGINE, TYPE): kind,
    }
    assert told("nado", missing, answers) == ((missing.told(number),) if number else ())


@pytest.mark.parametrize("engine", [says("address", "0x" + 40 * "0"), NOTHING, REVERTED])
def test_a_product_without_an_engine_is_asked_for_again(engine: CallResult) -> None:
    missing = MissingFact("ink", "nado_perp", f"{CLEARINGHOUSE}/2/False")
    assert told("nado", missing, {asked(CLEARINGHOUSE, BY_PRODUCT, 2): engine}) == ()


@pytest.mark.parametrize(
    ("symbol", "quote"),
    [
        pytest.param(says("string", "USD\u20ae0"), "USDT0", id="as on Ink"),
        pytest.param(says("string", "USDC"), "USDC", id="as on Arbitrum"),
        pytest.param(says("string", ""), None, id="no symbol"),
        pytest.param(REVERTED, None, id="reverted"),
    ],
)
def test_the_quote_is_what_its_token_calls_itself(symbol: CallResult, quote: str | None) -> None:
    missing = MissingFact("ink", "nado_quote", CLEARINGHOUSE)
    answers = {
        asked(CLEARINGHOUSE, "getQuote()"): says("address", TOKEN),
        asked(TOKEN, "symbol()"): symbol,
    }
    assert told("nado", missing, answers) == ((missing.told(quote),) if quote else ())


@pytest.mark.parametrize(
    ("name", "written"),
    [
        (b"default\0\0\0\0\0", ":default"),
        (b"twelve_chars", ":twelve_chars"),
        (bytes(12), ""),
        (b"\0" * 11 + b"a", ":0x" + 22 * "0" + "61"),
        (b"a b" + bytes(9), ":0x612062" + 18 * "0"),
        (b"\xff" * 12, ":0x" + 24 * "f"),
    ],
)
def test_a_sub_account_is_its_address_and_its_name(name: bytes, written: str) -> None:
    assert subaccount(ENGINE + name.hex()) == ENGINE + written


# -- the others ----------------------------------------------------------------------------------


def text32(text: str) -> bytes:
    return text.encode().ljust(32, b"\0")


@pytest.mark.parametrize(
    ("answer", "asset"),
    [
        pytest.param(says("bytes32 address uint8", text32("ETH"), TOKEN, 3), "ETH", id="a symbol"),
        pytest.param(says("bytes32 address uint8", bytes(32), TOKEN, 3), None, id="none"),
        pytest.param(NOTHING, None, id="nothing"),
        pytest.param(REVERTED, None, id="reverted"),
    ],
)
def test_a_pool_of_mux_begins_with_the_symbol_of_an_asset(
    answer: CallResult, asset: str | None
) -> None:
    missing = MissingFact("bsc", "mux_asset", f"{ENGINE}/3")
    answers = {asked(ENGINE, "getAssetInfo(uint8)", 3): answer}
    assert told("mux", missing, answers) == ((missing.told(asset),) if asset else ())


@pytest.mark.parametrize(
    ("storage", "config", "asset"),
    [
        (says("address", TOKEN), says("bytes32 uint256", text32("BTC"), 1), "BTC"),
        (says("address", TOKEN), REVERTED, None),
        (says("address", "0x" + 40 * "0"), says("bytes32", text32("BTC")), None),
        (REVERTED, says("bytes32", text32("BTC")), None),
    ],
)
def test_a_market_of_hmx_is_what_its_configuration_begins_with(
    storage: CallResult, config: CallResult, asset: str | None
) -> None:
    missing = MissingFact("arbitrum", "hmx_asset", f"{ENGINE}/1")
    answers = {
        asked(ENGINE, "configStorage()"): storage,
        asked(TOKEN, "getMarketConfigByIndex(uint256)", 1): config,
    }
    assert told("hmx", missing, answers) == ((missing.told(asset),) if asset else ())


@pytest.mark.parametrize(
    ("fact", "call", "answer", "value"),
    [
        ("level_decimals", "decimals()", says("uint8", 8), "8"),
        ("level_decimals", "decimals()", says("uint256", 256), None),
        ("level_decimals", "decimals()", REVERTED, None),
        ("level_symbol", "symbol()", says("string", "WBTC"), "WBTC"),
        ("level_symbol", "symbol()", REVERTED, None),
    ],
)
def test_a_token_of_level_says_what_it_is(
    fact: str, call: str, answer: CallResult, value: str | None
) -> None:
    missing = MissingFact("bsc", fact, TOKEN)
    assert told("level", missing, {asked(TOKEN, call): answer}) == (
        (missing.told(value),) if value else ()
    )


@pytest.mark.parametrize(
    ("case", "source", "worth"),
    [
        pytest.param("gtrade/v10_long", "event", [Decimal("4909.509")], id="dollars"),
        pytest.param("gtrade/v6_4", "par", [Decimal("455.5")], id="an older dollar token"),
        pytest.param("nado/long", "par", [Decimal(49500)], id="a dollar token"),
        pytest.param("nado/backstop", "par", [Decimal(7000)], id="taken by the venue"),
        pytest.param(
            "hmx/all_positions", "event", [Decimal(900), Decimal(1100), None], id="one is not told"
        ),
        pytest.param("level/short", "event", [Decimal(550)], id="by its loss"),
        pytest.param("mux/long", "event", [Decimal(3001)], id="by its price"),
    ],
)
def test_rows_are_worth_what_their_events_say(
    connection: Connection, case: str, source: str, worth: list[Decimal | None]
) -> None:
    write_case(connection, case)
    values.value(connection)
    found = connection.execute(
        "SELECT v.fill_usd FROM ledger.liquidation l LEFT JOIN ledger.valuation v ON"
        " (v.venue, v.event_key, v.account, v.price_source)"
        " = (l.venue, l.event_key, l.account, %s) ORDER BY l.event_key",
        (source,),
    )
    assert [usd for (usd,) in found] == worth
    assert rows(connection, "SELECT rule FROM ledger.suspect") == []


@pytest.mark.parametrize(
    ("answer", "symbol"),
    [
        pytest.param(says("string bool", "BTC", True), "BTC", id="of longs"),
        pytest.param(says("string bool", "", False), None, id="no symbol"),
        pytest.param(says("string", "BTC"), None, id="another answer"),
        pytest.param(NOTHING, None, id="nothing"),
        pytest.param(REVERTED, None, id="reverted"),
    ],
)
def test_the_core_of_mux_names_its_markets(answer: CallResult, symbol: str | None) -> None:
    market = "0x" + 64 * "a"
    missing = MissingFact("arbitrum", "mux_market", f"{ENGINE}/{market}")
    call = asked(ENGINE, "marketState(bytes32)", bytes.fromhex(market[2:]))
    assert told("mux", missing, {call: answer}) == ((missing.told(symbol),) if symbol else ())
