"""What a token says of itself. Anybody can write a token that says anything: the bytes are kept,
the text is only for reading, and what a token is remains its chain and address. Pure.

https://eips.ethereum.org/EIPS/eip-20: symbol, name and decimals are all optional.
"""

import unicodedata

import msgspec

from indexer.abi_calls import WORD, call, uint_of
from indexer.evm_model import NATIVE, CallResult, Dialogue

RAW_BYTES = 256  # enough for TEXT_CHARACTERS of the longest UTF-8
TEXT_CHARACTERS = 64

# What is NATIVE on the chains where our protocols speak of it, with 18 decimals on both.
# ethereum-lists/chains:_data/chains/eip155-1.json, eip155-56.json
COINS = {"ethereum": "ETH", "bsc": "BNB"}

# Letters, marks and symbols that show nothing. All but the Braille blank are in
# https://www.unicode.org/Public/UCD/latest/ucd/DerivedCoreProperties.txt,
# Default_Ignorable_Code_Point; the others of that list are of a category that is dropped anyway.
INVISIBLE = {
    *map(chr, (0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180F, 0x2800, 0x3164, 0xFFA0)),
    *map(chr, range(0x180B, 0x180E)),
    *map(chr, range(0xFE00, 0xFE10)),
    *map(chr, range(0xE0100, 0xE01F0)),
}


class Token(msgspec.Struct, frozen=True, gc=False):
    """`symbol` and `name` are safe to print, not to trust; None where it says nothing readable.

    `decimals` are as said, 0 to 255. The raw bytes are cut to RAW_BYTES."""

    chain: str
    address: str
    symbol: str | None
    name: str | None
    symbol_raw: bytes | None
    name_raw: bytes | None
    decimals: int | None


def describe(chain: str, address: str) -> Dialogue[Token]:
    """The coin of a chain is described without a call, as far as we know it."""
    if address == NATIVE:
        coin = COINS.get(chain)
        return Token(chain, address, coin, None, None, None, None if coin is None else 18)
    said = yield [call(address, f"{what}()") for what in ("symbol", "name", "decimals")]
    symbol_raw, name_raw = raw_text(said[0]), raw_text(said[1])
    return Token(
        chain, address, clean(symbol_raw), clean(name_raw), symbol_raw, name_raw,
        uint_of(said[2], bits=8),
    )  # fmt: skip


def raw_text(result: CallResult) -> bytes | None:
    """A `string`, or the `bytes32` padded with zeros that MKR and its like return."""
    if not result.is_ok:
        return None
    if len(result.data) == WORD:
        return result.data.rstrip(b"\0")
    text = result.data[2 * WORD :]
    start, length = (_number(result.data[at : at + WORD]) for at in (0, WORD))
    return text[: min(length, RAW_BYTES)] if start == WORD and length <= len(text) else None


def _number(word: bytes) -> int:
    return int.from_bytes(word, "big")


def clean(raw: bytes | None) -> str | None:
    """Text for one line that commands no terminal and hides nothing.

    Without control, format, private and unassigned characters, surrogates, line ends and what
    shows nothing. HTML is left to whoever writes HTML."""
    decoded = (raw or b"").decode("utf-8", errors="replace")
    shown = "".join(character for character in decoded if _is_shown(character))
    return shown.strip()[:TEXT_CHARACTERS].strip() or None


def _is_shown(character: str) -> bool:
    category = unicodedata.category(character)
    return not (category[0] == "C" or category in ("Zl", "Zp") or character in INVISIBLE)
