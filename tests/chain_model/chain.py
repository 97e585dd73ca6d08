"""A tree of blocks with genuine headers, of which one branch is the chain. Pure, seeded."""

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

import rlp
from eth_hash.auto import keccak

from tests.chain_model import events
from tests.chain_model.events import Log, Market, Meaning, Places, Row, Script, Stranger

EMPTY_ROOT = keccak(rlp.encode(b""))  # of a trie without nodes
NO_UNCLES = keccak(rlp.encode([]))
NOISE = 0.4  # the chance of an unrelated transfer before and after what a transaction is for

Field = bytes | int
Does = Callable[[Script, frozenset[Market]], None]

KINDS: Mapping[str, Does] = MappingProxyType(
    {
        "aave": lambda script, _: events.aave(script),
        "stranger": lambda script, _: events.stranger(script),
        "morpho": events.morpho,
        "comet": lambda script, _: events.absorb(script),
        "perpetual": lambda script, _: events.perpetual(script),
        "transfer": lambda script, _: events.transfer(script),
    }
)
OFTEN = MappingProxyType({"aave": 4, "stranger": 1, "morpho": 4, "comet": 3, "transfer": 3})
WITH_PERPETUALS = MappingProxyType({**OFTEN, "perpetual": 6})


@dataclass(frozen=True)
class Config:
    """What to simulate; everything follows from it and from what is asked of the chain.

    `started` is the time of the first block in seconds since 1970; `block_seconds` may be a
    fraction, times are cut to seconds. A block `depth` below the head is final, with None only
    what `finalize` says. `often` weighs the kinds of transactions.
    """

    seed: int = 1
    chain: str = "ethereum"
    places: Places = events.ETHEREUM
    first_block: int = 20_000_000
    started: int = 1_720_000_000
    block_seconds: float = 12
    depth: int | None = 8
    empty_percent: int = 25
    most_transactions: int = 4
    often: Mapping[str, int] = field(default_factory=lambda: OFTEN)


class Transaction(NamedTuple):
    """What a transaction does where its markets are as it expects, and nothing where not."""

    hash: str
    kind: str
    logs: tuple[Log, ...]
    meanings: tuple[Meaning, ...]
    strangers: tuple[int, ...]
    creates: frozenset[Market]
    needs: frozenset[Market]
    sent: events.Sent

    def succeeds(self, markets: frozenset[Market]) -> bool:
        """Whether it does not revert."""
        return self.needs <= markets | self.creates and not self.creates & markets


class Receipt(NamedTuple):
    """A transaction in a block; `first_log` is the index of its first log there."""

    transaction: Transaction
    has_succeeded: bool
    first_log: int

    @property
    def logs(self) -> tuple[Log, ...]:
        """None of a transaction that reverted."""
        return self.transaction.logs if self.has_succeeded else ()


@dataclass(frozen=True, eq=False)
class Block:
    """`header` holds the hashed fields in their order, `markets` exist after the block."""

    number: int
    hash: str
    time: int
    header: Mapping[str, Field]
    receipts: tuple[Receipt, ...]
    markets: frozenset[Market]

    @property
    def parent_hash(self) -> str:
        """The block before it."""
        return _hex(self.header["parentHash"])

    @property
    def logs(self) -> Iterator[tuple[Receipt, int, Log]]:
        """All logs in order, each with its index in the block."""
        for receipt in self.receipts:
            for index, log in enumerate(receipt.logs, receipt.first_log):
                yield receipt, index, log

    def rows(self, chain: str) -> Iterator[Row]:
        """What must be in our tables because of this block."""
        for receipt in self.receipts:
            for meaning in receipt.transaction.meanings if receipt.has_succeeded else ():
                yield self._row(receipt, meaning, chain)

    def _row(self, receipt: Receipt, meaning: Meaning, chain: str) -> Row:
        index = receipt.first_log + meaning.at
        return Row(
            *(f"{meaning.protocol}.{chain}", receipt.transaction.hash, index),
            *(self.number, self.hash, meaning.account, meaning.liquidator, meaning.market),
            *(meaning.repaid or (None, None)),
            *(meaning.seized or (None, None)),
            *(meaning.method, meaning.part),
        )

    def strangers(self) -> Iterator[Stranger]:
        """What must be quarantined because of this block."""
        for receipt in self.receipts:
            for at in receipt.transaction.strangers if receipt.has_succeeded else ():
                log, index = receipt.logs[at], receipt.first_log + at
                place = (receipt.transaction.hash, index, self.number, self.hash)
                yield Stranger(*place, log.address, log.topics[0])


def _hex(value: Field) -> str:
    return "0x" + value.hex() if isinstance(value, bytes) else hex(value)


@lru_cache(maxsize=4096)
def bloom_bits(text: str) -> int:
    """The three of 2048 bits that an address or topic sets: yellow paper, section 4.3.1."""
    digest = keccak(bytes.fromhex(text[2:]))
    pairs = (digest[at] << 8 | digest[at + 1] for at in (0, 2, 4))
    return sum({1 << (pair & 2047) for pair in pairs})


def bloom_of(logs: Iterable[Log]) -> bytes:
    """All addresses and topics of some logs."""
    bits = 0
    for log in logs:
        for text in (log.address, *log.topics):
            bits |= bloom_bits(text)
    return bits.to_bytes(256, "big")


def header_of(
    parent_hash: str, number: int, time: int, receipts: Sequence[Receipt], extra: int
) -> dict[str, Field]:
    """The fields that are hashed, as of the Prague fork. Roots are no real tries: nobody can
    tell without the state, except that a root says whether there is anything."""
    logs = [log for receipt in receipts for log in receipt.logs]
    hashes = b"".join(bytes.fromhex(receipt.transaction.hash[2:]) for receipt in receipts)
    said = repr([(receipt.has_succeeded, receipt.logs) for receipt in receipts]).encode()
    return {
        "parentHash": bytes.fromhex(parent_hash[2:]),
        "sha3Uncles": NO_UNCLES,
        "miner": bytes(20),
        "stateRoot": keccak(b"state" + hashes),
        "transactionsRoot": keccak(hashes) if receipts else EMPTY_ROOT,
        "receiptsRoot": keccak(said) if receipts else EMPTY_ROOT,
        "logsBloom": bloom_of(logs),
        "difficulty": 0,
        "number": number,
        "gasLimit": 30_000_000,
        "gasUsed": 21_000 * len(receipts),
        "timestamp": time,
        "extraData": extra.to_bytes(4, "big"),
        "mixHash": bytes(32),
        "nonce": bytes(8),
        "baseFeePerGas": 7,
        "withdrawalsRoot": EMPTY_ROOT,
        "blobGasUsed": 0,
        "excessBlobGas": 0,
        "parentBeaconBlockRoot": bytes(32),
        "requestsHash": EMPTY_ROOT,
    }


class Branch(NamedTuple):
    """One line of blocks without gaps as it was at one moment; `finalized` is a height."""

    blocks: tuple[Block, ...]
    finalized: int

    @property
    def head(self) -> Block:
        """The newest block."""
        return self.blocks[-1]

    def at(self, number: int) -> Block | None:
        """The block of this height."""
        at = number - self.blocks[0].number
        return self.blocks[at] if 0 <= at < len(self.blocks) else None

    def between(self, low: int, high: int) -> tuple[Block, ...]:
        """The blocks `low` to `high`, both included, as far as there are."""
        first = self.blocks[0].number
        return self.blocks[max(low - first, 0) : max(high + 1 - first, 0)]

    def has(self, block: Block) -> bool:
        """Whether a block is on it."""
        return self.at(block.number) is block

    def behind(self, blocks: int) -> "Branch":
        """The same as it was so many blocks ago, as far as it goes back."""
        kept = self.blocks[: max(len(self.blocks) - blocks, 1)]
        return Branch(kept, min(self.finalized, kept[-1].number))


class Truth(NamedTuple):
    """What must be in our tables, in the order of the chain."""

    rows: list[Row]
    strangers: list[Stranger]


class ModelChain:
    """It starts with one block. One thread may change it while others read `branch`, `abandoned`
    and `known`: a change replaces them whole, or adds to them."""

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or Config()
        self.known: dict[str, Block] = {}  # every block there ever was, by hash
        self.where: dict[str, list[Block]] = {}  # the blocks that hold a transaction
        self.abandoned: tuple[Branch, ...] = ()
        self._rng = random.Random(self.config.seed)
        self._waiting: dict[str, Transaction] = {}  # orphaned and not included again
        self._included: set[str] = set()
        self._made = 0  # transactions and blocks ever, to make their hashes differ
        self._final = 0  # by `finalize`
        first = self._block(None, (), self.config.started)
        self.branch = Branch((first,), first.number)

    @property
    def head(self) -> Block:
        """The newest block of the chain."""
        return self.branch.head

    @property
    def finalized(self) -> int:
        """The height that no fork may replace."""
        return self.branch.finalized

    # changes

    def mine(self, blocks: int = 1, time: int | None = None) -> list[Block]:
        """Add blocks; `time` takes the place of their configured time."""
        return self._grown(self.branch.blocks, blocks, time)

    def fork(
        self, depth: int, blocks: int | None = None, *, breaks_finality: bool = False
    ) -> list[Block]:
        """Replace the last `depth` blocks by as many others or more. Their transactions are kept,
        maybe in another place, or get other contents under their hash, or are gone."""
        if (blocks := blocks or depth) < depth:
            raise ValueError(f"{blocks} blocks in the place of {depth}")
        orphaned = self._abandon(depth, breaks_finality=breaks_finality)
        survivors = [self._survivor(one) for block in orphaned for one in _transactions(block)]
        self._waiting |= {one.hash: one for one in survivors if one}
        return self._grown(self.branch.blocks[:-depth], blocks, None)

    def siblings(self, loses_logs: Sequence[bool]) -> list[Block]:
        """Replace the last blocks by others with the same transactions or with none."""
        orphaned = self._abandon(len(loses_logs), breaks_finality=False)
        kept = self.branch.blocks[: -len(orphaned)]
        for block, is_empty in zip(orphaned, loses_logs, strict=True):
            transactions = () if is_empty else _transactions(block)
            kept += (self._block(kept[-1], transactions, block.time),)
        return self._adopt(kept, len(orphaned))

    def revive(self, block_hash: str) -> list[Block]:
        """Return to an abandoned branch, up to this block; the head must not get lower."""
        blocks = [self.known[block_hash]]
        while not self.branch.has(blocks[0]):
            blocks.insert(0, self.known[blocks[0].parent_hash])
        if blocks[-1].number < self.head.number:
            raise ValueError(f"block {blocks[-1].number} is below the head")
        shared, new = blocks[0], blocks[1:]
        self._abandon(self.head.number - shared.number, breaks_finality=False)
        common = self.branch.between(0, shared.number)
        self._included |= {one.hash for block in new for one in _transactions(block)}
        return self._adopt((*common, *new), len(new))

    def finalize(self, height: int) -> None:
        """Make a height final, and all below it."""
        self._final = max(self._final, height)
        self._adopt(self.branch.blocks, 0)

    def _abandon(self, depth: int, *, breaks_finality: bool) -> tuple[Block, ...]:
        """Give up the last blocks; they stay known."""
        if self.head.number - depth < self.finalized and not breaks_finality:
            raise ValueError(f"block {self.finalized} is final")
        if not 0 < depth < len(self.branch.blocks):
            raise ValueError(f"no {depth} blocks to replace")
        orphaned = self.branch.blocks[-depth:]
        self.abandoned += (self.branch,)
        self._included -= {one.hash for block in orphaned for one in _transactions(block)}
        return orphaned

    def _adopt(self, blocks: tuple[Block, ...], new: int) -> list[Block]:
        head, depth = blocks[-1].number, self.config.depth
        by_depth = head - depth if depth is not None else 0
        finalized = max(self._final, by_depth, self.branch.finalized)
        self.branch = Branch(blocks, min(finalized, head))
        return list(blocks[len(blocks) - new :])

    def _grown(self, blocks: tuple[Block, ...], count: int, time: int | None) -> list[Block]:
        new = [blocks[-1]]
        for _ in range(count):
            parent = new[-1]
            new.append(self._block(parent, self._chosen(parent), time or self._time(parent)))
        return self._adopt((*blocks, *new[1:]), count)

    # the truth

    def truth(self, to: int | None = None) -> Truth:
        """What must be known of the chain up to this height, which is included."""
        blocks = self.branch.between(0, self.head.number if to is None else to)
        return Truth(
            [row for block in blocks for row in block.rows(self.config.chain)],
            [stranger for block in blocks for stranger in block.strangers()],
        )

    # blocks

    def _time(self, parent: Block) -> int:
        height = parent.number + 1 - self.config.first_block
        return max(self.config.started + int(height * self.config.block_seconds), parent.time)

    def _block(self, parent: Block | None, chosen: Iterable[Transaction], time: int) -> Block:
        markets = parent.markets if parent else frozenset()
        receipts: list[Receipt] = []
        first_log = 0
        for transaction in chosen:
            receipts.append(Receipt(transaction, transaction.succeeds(markets), first_log))
            first_log += len(receipts[-1].logs)
            if receipts[-1].has_succeeded:
                markets |= transaction.creates
        number = parent.number + 1 if parent else self.config.first_block
        parent_hash = parent.hash if parent else self._new_hash()
        self._made += 1
        header = header_of(parent_hash, number, time, receipts, self._made)
        block_hash = _hex(keccak(rlp.encode(list(header.values()))))
        block = Block(number, block_hash, time, header, tuple(receipts), markets)
        self._remember(block)
        return block

    def _remember(self, block: Block) -> None:
        self.known[block.hash] = block
        for transaction in _transactions(block):
            self._included.add(transaction.hash)
            self.where.setdefault(transaction.hash, []).append(block)

    # transactions

    def _chosen(self, parent: Block) -> Iterator[Transaction]:
        """What a block gets: some that wait since a fork, some new. A new one fits the markets
        that exist when its turn comes; one that waited may revert."""
        if self._rng.randrange(100) < self.config.empty_percent:
            return
        markets = parent.markets
        for _ in range(self._rng.randint(1, self.config.most_transactions)):
            transaction = self._waited() or self._new(self._kind(), self._new_hash(), markets)
            if transaction.succeeds(markets):
                markets |= transaction.creates
            yield transaction

    def _waited(self) -> Transaction | None:
        waiting = [one for one in self._waiting if one not in self._included]
        if not waiting or self._rng.random() < 0.3:
            return None
        return self._waiting.pop(self._rng.choice(waiting))

    def _survivor(self, orphan: Transaction) -> Transaction | None:
        """Half of the orphaned are included again, one of six with other contents."""
        fate = self._rng.random()
        if fate < 1 / 6:
            return self._new(orphan.kind, orphan.hash, orphan.needs)
        return orphan if fate < 2 / 3 else None

    def _kind(self) -> str:
        kinds = self.config.often
        return self._rng.choices(list(kinds), list(kinds.values()))[0]

    def _new(self, kind: str, tx_hash: str, markets: frozenset[Market]) -> Transaction:
        script = Script(self._rng, self.config.places)
        for does in self._with_noise(kind):
            does(script, markets)
        return Transaction(
            *(tx_hash, kind, tuple(script.logs), tuple(script.meanings), tuple(script.strangers)),
            *(frozenset(script.creates), frozenset(script.needs), script.sent),
        )

    def _with_noise(self, kind: str) -> list[Does]:
        noise = KINDS["transfer"]
        before, after = ([noise] * (self._rng.random() < NOISE) for _ in range(2))
        return [*before, KINDS[kind], *after]

    def _new_hash(self) -> str:
        self._made += 1
        return _hex(keccak(f"{self.config.seed}/{self._made}".encode()))


def _transactions(block: Block) -> tuple[Transaction, ...]:
    return tuple(receipt.transaction for receipt in block.receipts)
