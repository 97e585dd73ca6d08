"""What is kept of what tokens say of themselves: honest ones, old ones and hostile ones."""

import unicodedata

import pytest
from eth_abi import abi
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.evm_model import NATIVE, CallResult
from indexer.inquiry import inquire
from indexer.tokens import RAW_BYTES, TEXT_CHARACTERS, Token, clean, describe, raw_text
from tests.fake_chain import NOTHING, RESULTS, REVERTED, FakeChain, asked, says

TOKEN = "0x" + 40 * "2"
MKR = b"MKR".ljust(32, b"\0")
LONGEST = 2**256 - 1


def described(*answers: CallResult) -> Token:
    """What is said of a token that answers symbol(), name() and decimals() so."""
    getters = [asked(TOKEN, getter) for getter in ("symbol()", "name()", "decimals()")]
    chain = FakeChain(dict(zip(getters, answers, strict=True)))
    token = inquire({0: describe("ethereum", TOKEN)}, chain.call_many)[0]
    assert chain.rounds == [getters]
    return token


def string(raw: bytes) -> CallResult:
    """`string` with any bytes in it: bytes and strings are encoded alike."""
    return says("bytes", raw)


def words(*values: int, tail: bytes = b"") -> CallResult:
    return CallResult(is_ok=True, data=b"".join(v.to_bytes(32, "big") for v in values) + tail)


def test_an_honest_token() -> None:
    said = string(b"USDC"), string("USD Coin – bridged".encode()), says("uint8", 6)
    assert described(*said) == Token(
        "ethereum", TOKEN, "USDC", "USD Coin – bridged",
        b"USDC", "USD Coin – bridged".encode(), 6,
    )  # fmt: skip


def test_an_old_token_with_bytes32() -> None:
    said = CallResult(True, MKR), CallResult(True, b"Maker".ljust(32, b"\0")), says("uint256", 18)
    assert described(*said) == Token("ethereum", TOKEN, "MKR", "Maker", b"MKR", b"Maker", 18)


@pytest.mark.parametrize("silence", [REVERTED, NOTHING, CallResult(False, MKR)])
def test_a_token_that_says_nothing(silence: CallResult) -> None:
    nothing = Token("ethereum", TOKEN, None, None, None, None, None)
    assert described(silence, silence, silence) == nothing


def test_the_coin_of_a_chain_is_known_without_a_call() -> None:
    chain = FakeChain({})
    coins = {name: describe(name, NATIVE) for name in ("ethereum", "bsc", "elsewhere")}

    assert inquire(coins, chain.call_many) == {
        "ethereum": Token("ethereum", NATIVE, "ETH", None, None, None, 18),
        "bsc": Token("bsc", NATIVE, "BNB", None, None, None, 18),
        "elsewhere": Token("elsewhere", NATIVE, None, None, None, None, None),
    }
    assert chain.rounds == []


@pytest.mark.parametrize(
    ("answer", "decimals"),
    [
        (words(0), 0),
        (words(36), 36),
        (words(255), 255),
        (words(256), None),
        (words(LONGEST), None),
        (words(6, 0), None),
        (CallResult(True, b"\x06"), None),
    ],
)
def test_decimals_are_kept_as_said_while_they_are_a_uint8(
    answer: CallResult, decimals: int | None
) -> None:
    assert described(REVERTED, REVERTED, answer).decimals == decimals


@pytest.mark.parametrize(
    ("answer", "raw"),
    [
        (string(b""), b""),
        (words(0), b""),
        (string(b"x" * 10_000), b"x" * RAW_BYTES),
        (CallResult(True, b"\0A".ljust(32, b"\0")), b"\0A"),
        (words(32, 4, tail=b"USDC"), b"USDC"),  # without the padding that the ABI wants
        (words(32, 5, tail=b"USDC"), None),
        (words(32, LONGEST, tail=b"USDC"), None),
        (words(LONGEST, 4, tail=b"USDC"), None),
        (words(64, 0, 4, tail=b"USDC"), None),
        (words(32), b"\0" * 31 + b" "),
        (CallResult(True, b"USDC"), None),
        (CallResult(True, b"\xff" * 63), None),
    ],
)
def test_the_bytes_of_a_text(answer: CallResult, raw: bytes | None) -> None:
    assert raw_text(answer) == raw


CORPUS = [
    ("NUL", b"US\0DC", "USDC"),
    ("right-to-left override", "\u202eCDSU".encode(), "CDSU"),
    ("isolates and marks of direction", "\u2066U\u200fS\u2069\u061cD".encode(), "USD"),
    ("zero width", "U\u200bS\u200dD\ufeffC\u2060".encode(), "USDC"),
    ("invisible letters", "U\u3164S\u115fD\uffa0C\u034f\u2800".encode(), "USDC"),
    ("variation selectors and tags", "U\ufe0fS\U000e0100D\U000e0041C".encode(), "USDC"),
    ("terminal escape", b"\x1b[31mUSDC\x1b[0m\x07", "[31mUSDC[0m"),
    ("C1 controls", "\x9b2JUSDC\x85".encode(), "2JUSDC"),
    ("line ends", "US\r\nD\u2028C\u2029\t".encode(), "USDC"),
    ("HTML, to be escaped by who prints it", b"<b onload=x>&", "<b onload=x>&"),
    ("no UTF-8", b"US\xff\xfeDC", "US��DC"),
    ("a lone surrogate", b"A\xed\xa0\x80B", "A���B"),
    ("private and unassigned", "A\ue000B\u0378C\U0010ffffD".encode(), "ABCD"),
    ("spaces around", " \u00a0 USDC\u3000 ".encode(), "USDC"),
    ("nothing but blanks", " \u200b\u3164 ".encode(), None),
    ("nothing", b"", None),
    ("long", b"x" * 10_000, "x" * TEXT_CHARACTERS),
    ("cut at a space", b"x" * 63 + b" y", "x" * 63),
    ("look-alikes stay: the address tells", "USDС".encode(), "USDС"),
    ("other scripts", "円 Ünïcode 🐋".encode(), "円 Ünïcode 🐋"),
]


@pytest.mark.parametrize(("raw", "text"), [pytest.param(r, t, id=what) for what, r, t in CORPUS])
def test_a_text_that_can_be_printed(raw: bytes, text: str | None) -> None:
    assert clean(raw) == text


@pytest.mark.parametrize("raw", [pytest.param(raw, id=what) for what, raw, _ in CORPUS])
def test_hostile_bytes_are_kept_beside_their_text(raw: bytes) -> None:
    token = described(string(raw), string(raw), words(18))
    kept = raw[:RAW_BYTES]
    assert token == Token("ethereum", TOKEN, clean(kept), clean(kept), kept, kept, 18)


@settings(deadline=None)
@given(st.binary(max_size=400) | st.text(max_size=100).map(lambda t: t.encode("utf-8", "replace")))
def test_no_text_has_what_a_terminal_or_a_database_chokes_on(raw: bytes) -> None:
    text = clean(raw) or "?"
    assert {c for c in text if unicodedata.category(c)[0] == "C"} == set()
    assert 0 < len(text) <= TEXT_CHARACTERS
    assert text == text.strip()
    assert clean(text.encode()) == text


@settings(deadline=None)
@given(RESULTS, RESULTS, RESULTS)
def test_no_answer_raises(symbol: CallResult, name: CallResult, decimals: CallResult) -> None:
    token = described(symbol, name, decimals)
    assert len(token.symbol_raw or b"") <= RAW_BYTES
    assert (token.decimals or 0) in range(256)


@settings(deadline=None)
@given(st.text(max_size=80))
def test_a_string_is_read_as_it_was_encoded(text: str) -> None:
    raw = text.encode("utf-8", "replace")
    answer = CallResult(True, abi.encode(["string"], [raw.decode()]))
    assert raw_text(answer) == raw[:RAW_BYTES]
