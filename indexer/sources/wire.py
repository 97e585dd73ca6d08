"""What nodes send, as typed shapes, and the tests that an answer must pass. Pure.

An answer that fails raises `Untrue`: nothing of it is used, another endpoint is asked.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from operator import attrgetter, lt
from typing import Annotated, NamedTuple, TypeVar

import msgspec
from eth_hash.auto import keccak

from indexer.evm_model import BlockRef, Log, LogFilter
from indexer.sources.rpc import Missing, Untrue, is_null

MOST_INDEX = 1 << 24  # a block with 16 million logs does not exist; 0xfffffff7 is an underflow
MOST_QUANTITY = 1 << 63
EMPTY_ROOT = (
    "0x56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421"  # of no trie nodes
)

T = TypeVar("T")
Quantity = str | int
Hash = Annotated[str, msgspec.Meta(pattern="^0[xX][0-9a-fA-F]{64}$")]


class Header(msgspec.Struct, rename="camel", gc=False):
    """A block without its transactions; the fields that make up its hash as they were sent."""

    number: Quantity
    hash: Hash
    parent_hash: Hash
    timestamp: Quantity
    logs_bloom: str | None = None
    transactions: list[str] = []
    sha3_uncles: str | None = None
    miner: str | None = None
    state_root: str | None = None
    transactions_root: str | None = None
    receipts_root: str | None = None
    difficulty: Quantity | None = None
    gas_limit: Quantity | None = None
    gas_used: Quantity | None = None
    extra_data: str | None = None
    mix_hash: str | None = None
    nonce: str | None = None
    base_fee_per_gas: Quantity | None = None
    withdrawals_root: str | None = None
    blob_gas_used: Quantity | None = None
    excess_blob_gas: Quantity | None = None
    parent_beacon_block_root: str | None = None
    requests_hash: str | None = None

    def ref(self, chain: str) -> BlockRef:
        """The same as a noun of ours."""
        return BlockRef(
            chain=chain,
            number=quantity(self.number),
            hash=self.hash.lower(),
            parent_hash=self.parent_hash.lower(),
            time=quantity(self.timestamp),
        )

    def is_genuine(self) -> bool:
        """Whether its fields hash to its hash, as the yellow paper (section 4.4) and the EIPs
        1559, 4895, 4844, 4788 and 7685 have it. False on chains with other fields."""
        try:
            return keccak(rlp_list(self._hashed())).hex() == self.hash[2:].lower()
        except (TypeError, ValueError, Untrue):
            return False

    def _hashed(self) -> Iterator[bytes]:
        for text in (
            *(self.parent_hash, self.sha3_uncles, self.miner, self.state_root),
            *(self.transactions_root, self.receipts_root, self.logs_bloom),
        ):
            yield _bytes(text)
        for number in (self.difficulty, self.number, self.gas_limit, self.gas_used, self.timestamp):
            yield _minimal(number)
        for text in (self.extra_data, self.mix_hash, self.nonce):
            yield _bytes(text)
        if self.base_fee_per_gas is not None:  # later forks only appended
            yield _minimal(self.base_fee_per_gas)
        if self.withdrawals_root is not None:
            yield _bytes(self.withdrawals_root)
        if self.blob_gas_used is not None:
            yield _minimal(self.blob_gas_used)
            yield _minimal(self.excess_blob_gas)
        for text in (self.parent_beacon_block_root, self.requests_hash):
            if text is not None:
                yield _bytes(text)


def rlp_list(items: Iterable[bytes]) -> bytes:
    """A list of byte strings as the yellow paper's appendix B writes it: the library takes six
    times as long, which is more than all else that we do with a header."""
    body = b"".join([_rlp(item) for item in items])
    return _rlp_head(0xC0, len(body)) + body


def _rlp(item: bytes) -> bytes:
    if len(item) == 1 and item[0] < 0x80:
        return item
    return _rlp_head(0x80, len(item)) + item


def _rlp_head(offset: int, length: int) -> bytes:
    if length < 56:
        return bytes((offset + length,))
    size = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((offset + 55 + len(size),)) + size


def _bytes(text: str | None) -> bytes:
    if text is None:
        raise Untrue("a header without a field")
    return bytes.fromhex(text[2:])


def _minimal(number: Quantity | None) -> bytes:
    value = quantity(number, most=1 << 256)
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


class WireLog(msgspec.Struct, rename="camel", gc=False):
    """A log as nodes send it."""

    address: str
    topics: tuple[str, ...]
    data: str
    block_number: Quantity
    block_hash: str
    transaction_hash: str
    log_index: Quantity
    removed: bool | None = None
    block_timestamp: Quantity | None = None


class WireReceipt(msgspec.Struct, rename="camel", gc=False):
    """A receipt, as far as we read it."""

    transaction_hash: Hash
    transaction_index: Quantity
    block_hash: Hash
    block_number: Quantity
    logs: list[WireLog]
    status: Quantity | None = None


class WireTransaction(msgspec.Struct, rename="camel", gc=False):
    """A transaction, of which we only ask whether a node knows it."""

    hash: Hash


class WireCall(msgspec.Struct, rename="camel", gc=False):
    """A transaction as the call that it is."""

    hash: Hash
    block_hash: Hash
    sender: str = msgspec.field(name="from")
    input: str
    to: str | None = None


HEADER = msgspec.json.Decoder(Header)
LOGS = msgspec.json.Decoder(list[WireLog])
RECEIPT = msgspec.json.Decoder(WireReceipt)
RECEIPTS = msgspec.json.Decoder(list[WireReceipt])
CALL = msgspec.json.Decoder(WireCall)
TRANSACTION = msgspec.json.Decoder(WireTransaction)
NUMBER: msgspec.json.Decoder[Quantity] = msgspec.json.Decoder(Quantity)
TEXT = msgspec.json.Decoder(str)


def read(shape: msgspec.json.Decoder[T], raw: msgspec.Raw) -> T:
    """A result in its shape; raises Untrue for any other, null included."""
    try:
        return shape.decode(raw)
    except msgspec.MsgspecError:
        what = "null" if is_null(raw) else "not of the expected shape"
    raise Untrue(f"the result is {what}")


def read_block(shape: msgspec.json.Decoder[T], raw: msgspec.Raw, what: str) -> T:
    """As `read`, where null means that the endpoint lacks the block."""
    if is_null(raw):
        raise Missing(f"{what} is null")
    return read(shape, raw)


def quantity(said: Quantity | None, most: int = MOST_QUANTITY) -> int:
    """A whole number: "0x1f", also "0x001F" or 31 in JSON; anything else is refused."""
    value = _hex(said) if isinstance(said, str) else said
    if type(value) is int and 0 <= value < most:
        return value
    raise Untrue(f"not a quantity: {str(said)[:40]!r}")


def _quantities(
    said: Iterable[Quantity | None], most: int = MOST_QUANTITY
) -> dict[Quantity | None, int]:
    """What is said among them, each once."""
    return {one: quantity(one, most) for one in set(said) if one is not None}


@lru_cache(maxsize=8192)  # block numbers and log indexes come again and again
def _hex(text: str) -> int | None:
    if text[:2] not in ("0x", "0X") or not text[2:].isalnum():
        return None
    try:
        return int(text, 16)
    except ValueError:
        return None


def check_header(header: Header, *, utc: float, future_seconds: float | None) -> Header:
    """Refuse a header that cannot be right by itself."""
    time = quantity(header.timestamp)
    if time == 0 and quantity(header.number) > 0:
        raise Untrue("a block from 1970")
    if future_seconds is not None and time > utc + future_seconds:
        raise Untrue("a block from the future")
    if not header.transactions and (header.transactions_root or EMPTY_ROOT).lower() != EMPTY_ROOT:
        raise Untrue("a block without the transactions that its header names")
    return header


def check_links(blocks: Sequence[BlockRef]) -> None:
    """Neighbours in number must be parent and child, and time must not run backwards."""
    for parent, child in pairwise(blocks):
        if child.number == parent.number + 1 and child.parent_hash != parent.hash:
            raise Untrue(f"block {child.number} is no child of the {parent.number} sent with it")
        if child.number > parent.number and child.time < parent.time:
            raise Untrue(f"block {child.number} is older than block {parent.number}")


class Logs(NamedTuple):
    """Checked logs in order. `times` are block times as the logs themselves state them, by number,
    None where one does not; `hashes` the block hashes."""

    logs: list[Log]
    times: dict[int, int | None]
    hashes: dict[int, str]


def check_logs(
    sent: Iterable[WireLog], chain: str, wanted: LogFilter | None, block_from: int, block_to: int
) -> Logs:
    """The logs of blocks `block_from` up to, not including, `block_to`, if each can be right."""
    logs: list[Log] = []
    times: dict[int, int | None] = {}
    hashes: dict[int, str] = {}
    formed = _formed(list(sent))
    numbers = _quantities([log.block_number for log in formed])
    indexes = _quantities([log.log_index for log in formed], MOST_INDEX)
    stamps = _quantities([log.block_timestamp for log in formed])
    for log in formed:
        number, block_hash = numbers[log.block_number], log.block_hash
        if log.removed:
            raise Untrue(f"a removed log in block {number}")
        if not block_from <= number < block_to:
            raise Untrue(f"a log of block {number}, which was not asked for")
        if hashes.setdefault(number, block_hash) != block_hash:
            raise Untrue(f"two blocks {number} in one answer")
        time = stamps.get(log.block_timestamp) or None
        if times.setdefault(number, time) != time:
            raise Untrue(f"two times for block {number} in one answer")
        index, tx_hash = indexes[log.log_index], log.transaction_hash
        made = Log(chain, log.address, log.topics, log.data, number, block_hash, tx_hash, index)
        logs.append(made)
    if wanted is not None and not all(map(wanted.wants, logs)):
        raise Untrue(f"a log from block {block_from} on that the filter does not want")
    return Logs(_in_order(logs), times, hashes)


_place = attrgetter("block_number", "log_index")


def _in_order(logs: list[Log]) -> list[Log]:
    places = list(map(_place, logs))
    if all(map(lt, places, places[1:])):
        return logs
    logs.sort(key=_place)
    for one, two in pairwise(logs):
        if _place(one) == _place(two):
            raise Untrue(f"log {one.log_index} of block {one.block_number} twice")
    return logs


_ZERO_HASH = "0x" + "0" * 64
_DIGITS = b"0123456789abcdef"


def _formed(sent: list[WireLog]) -> list[WireLog]:
    """The logs in lower case, which all but few endpoints send."""
    if not _are_formed(sent):
        sent = [_lower(log) for log in sent]
        for log in sent:
            if not _are_formed([log]):
                raise Untrue(f"a log in block {quantity(log.block_number)} without its proper form")
    return sent


def _lower(log: WireLog) -> WireLog:
    return msgspec.structs.replace(
        log,
        address=log.address.lower(),
        topics=tuple([topic.lower() for topic in log.topics]),
        data=log.data.lower(),
        block_hash=log.block_hash.lower(),
        transaction_hash=log.transaction_hash.lower(),
    )


def _are_formed(sent: list[WireLog]) -> bool:
    """Whether all their words have their length and are hexadecimal in lower case. All at once, and
    words that come again only once: to look at each log by itself takes several times as long."""
    data = [log.data for log in sent]
    addresses = {log.address for log in sent}
    transactions = {log.transaction_hash for log in sent}
    hashes = {log.block_hash for log in sent} | transactions
    hashes |= {topic for log in sent for topic in log.topics}
    words = [*addresses, *hashes, *data]
    return (
        set(map(len, addresses)) <= {42}
        and set(map(len, hashes)) <= {66}
        and all(len(word) % 2 == 0 for word in data)
        and all(len(log.topics) <= 4 for log in sent)
        and _ZERO_HASH not in transactions
        and {word[:2] for word in words} <= {"0x"}
        and "".join(words).encode(errors="replace").translate(None, _DIGITS) == b"x" * len(words)
    )


def bloom_may_hold(bloom: str | None, wanted: LogFilter) -> bool:
    """Whether a header's bloom allows a log that the filter wants; an honest False is certain.

    Yellow paper, section 4.3.1: three bits of 2048 from the keccak of address and topic."""
    if bloom is None or len(bloom) != 514:
        return True
    bits = int(bloom, 16)
    some_address = wanted.addresses is None or any(_is_in(bits, one) for one in wanted.addresses)
    chosen = {first for first, _ in wanted.pairs}
    return some_address and (
        any(_is_in(bits, one) for one in wanted.topics0 - chosen)
        or any(_is_in(bits, first) and _is_in(bits, second) for first, second in wanted.pairs)
    )


def _is_in(bits: int, word: str) -> bool:
    mask = bloom_bits(word)
    return bits & mask == mask


@lru_cache(maxsize=8192)
def bloom_bits(word: str) -> int:
    """The bits that an address or topic sets."""
    digest = keccak(bytes.fromhex(word[2:]))
    mask = 0
    for at in (0, 2, 4):
        mask |= 1 << (int.from_bytes(digest[at : at + 2], "big") & 2047)
    return mask


def same_logs(one: Iterable[Log], two: Iterable[Log]) -> bool:
    """Whether two sources saw the same events, even if they number the logs of a block
    differently (system transactions counted or not)."""
    return _content(one) == _content(two)


def _content(logs: Iterable[Log]) -> Counter[tuple[object, ...]]:
    return Counter((log.block_hash, log.tx_hash, log.address, log.topics, log.data) for log in logs)
