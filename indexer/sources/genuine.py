"""What a header proves: that it is the one of its hash, and which words its block's logs hold."""

from collections.abc import Iterable

import msgspec

from indexer.evm_model import Log
from indexer.sources.rpc import Untrue
from indexer.sources.wire import Header, bloom_bits

# ethereum/execution-apis: what every header has, and what a block has that its hash leaves out
_ALWAYS_HASHED = {
    *("parentHash", "sha3Uncles", "miner", "stateRoot", "transactionsRoot", "receiptsRoot"),
    *("logsBloom", "difficulty", "number", "gasLimit", "gasUsed", "timestamp", "extraData"),
    *("mixHash", "nonce"),
}
_NOT_HASHED = {"author", "size", "totalDifficulty", "uncles", "withdrawals"}
_KNOWN = _NOT_HASHED | {field.encode_name for field in msgspec.structs.fields(Header)}
_NAMES = msgspec.json.Decoder(dict[str, msgspec.Raw])


def check_genuine(header: Header, raw: msgspec.Raw) -> None:
    """Refuse a header whose fields do not hash to its hash. Where one is left out, or there is one
    that we do not know and that a later fork may have put into the hash, nobody can tell."""
    if header.is_genuine():
        return
    names = _NAMES.decode(raw).keys()
    if _ALWAYS_HASHED <= names <= _KNOWN:
        raise Untrue("a header whose fields do not hash to its hash")


def bloom_of(logs: Iterable[Log]) -> str:
    """The bloom of a block with these logs, as headers write it."""
    bits = 0
    for word in {word for log in logs for word in (log.address, *log.topics)}:
        bits |= bloom_bits(word)
    return f"0x{bits:0512x}"
