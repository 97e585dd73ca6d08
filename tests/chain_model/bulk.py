"""One long history for benchmarks, served by a process of its own.

python -m tests.chain_model.bulk --port 0      prints its port; GET /stats says what was asked

Every log is a LiquidationCall of one pool, rendered when the process starts: an answer to
eth_getLogs is one slice of a buffer. Hashes are cheap but real enough: they name their block, they
link, and no two are equal; headers do not hash to them, which a field of our own excuses, and
blooms are all ones.
"""

import argparse
import hashlib
import json
import random
import threading
from array import array
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec

from tests.chain_model.chain import EMPTY_ROOT
from tests.chain_model.events import ETHEREUM, LIQUIDATION_CALL, Log, address, word
from tests.chain_model.node import NULL, UNKNOWN_BLOCK, LogQuery, Method, too_many
from tests.chain_model.render import array as array_of
from tests.chain_model.render import encode, hex_of
from tests.chain_model.serve import Asked, Reply, Request, Result, RpcError, Server, exchange

FINAL_DEPTH = 64
SAME_TRANSACTION = 0.256  # of the logs after a block's first: 171,000 transactions of 200,000 logs
POISSON = (1353, 2707, 2707, 1804, 902, 361, 120, 34, 9, 2, 1)  # of mean 2, for 0 to 10 logs
ACCOUNTS, LIQUIDATORS, ASSETS = 20_000, 300, 40
WORDS = tuple(word(address("bulk", number)) for number in range(ACCOUNTS + LIQUIDATORS + ASSETS))
EMPTY_TRIE = hex_of(EMPTY_ROOT)
UNCHANGING = {  # the rest of a header
    "logsBloom": "0x" + "f" * 512,
    "sha3Uncles": "0x" + "3" * 64,
    "miner": "0x" + "4" * 40,
    "stateRoot": "0x" + "5" * 64,
    "difficulty": "0x0",
    "totalDifficulty": "0x0",
    "gasLimit": "0x1c9c380",
    "gasUsed": "0x5208",
    "extraData": "0x",
    "mixHash": "0x" + "0" * 64,
    "nonce": "0x" + "0" * 16,
    "size": "0x400",
    "baseFeePerGas": "0x7",
    "uncles": [],
    "simulated": True,  # a field that nobody knows may be one that is hashed
}


@dataclass(frozen=True)
class Config:
    """`blocks` hold the logs, `empty` come after them; `most_logs` an answer."""

    seed: int = 7
    first_block: int = 16_000_000
    blocks: int = 100_000
    logs: int = 200_000
    empty: int = 200
    most_logs: int = 10_000
    has_timestamps: bool = True
    emitter: str = ETHEREUM.aave_v2
    started: int = 1_673_000_000
    block_seconds: int = 12

    @property
    def head(self) -> int:
        """The last empty block."""
        return self.first_block + self.blocks + self.empty - 1

    def time(self, number: int) -> int:
        """Of a block, in seconds since 1970."""
        return self.started + (number - self.first_block) * self.block_seconds


class Sums(NamedTuple):
    """What must be in a table of all logs."""

    logs: int
    transactions: int
    repaid_raw: int
    seized_raw: int


def block_hash(number: int) -> str:
    """The number is in its last digits: a hash leads to its block without a table."""
    return f"0x{_digest(b'block', number)}{number:08x}"


def transaction_hash(number: int, place: int) -> str:
    """As for blocks: height and place in the block are its last digits."""
    return f"0x{_digest(b'transaction', number << 8 | place)[:-2]}{number:08x}{place:02x}"


def _digest(what: bytes, number: int) -> str:
    return hashlib.blake2b(number.to_bytes(8, "big"), digest_size=28, person=what).hexdigest()


class History:
    """All logs as JSON, joined by commas, and where those of each block are in it."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.example = Log(config.emitter, (LIQUIDATION_CALL,), "0x")  # any filter but by account
        self._rng = random.Random(config.seed)
        self._repaid = self._seized = self._transactions = 0
        self._places: list[tuple[int, ...]] = []  # of a block's logs: their transaction
        self._first = array("L", [0])  # the number of a block's first log
        self._starts = array("Q", [0])  # of each log in the buffer
        self._buffer = self._built()
        self.sums = Sums(len(self._starts) - 1, self._transactions, self._repaid, self._seized)

    def _built(self) -> bytes:
        parts: list[bytes] = []
        for number, count in enumerate(self._counts(), self.config.first_block):
            places = self._placed(count)
            parts += self._logs(number, places)
            self._places.append(places)
            self._first.append(len(parts))
        for part in parts:
            self._starts.append(self._starts[-1] + len(part) + 1)
        return b",".join(parts)

    def _counts(self) -> list[int]:
        """Logs of each block, at most 10; single ones are moved until the total is exact."""
        config, rng = self.config, self._rng
        counts = rng.choices(range(len(POISSON)), POISSON, k=config.blocks)
        while missing := config.logs - sum(counts):
            step = 1 if missing > 0 else -1
            for _ in range(abs(missing)):
                at = rng.randrange(config.blocks)
                if 0 <= counts[at] + step < len(POISSON):
                    counts[at] += step
        return counts

    def _placed(self, count: int) -> tuple[int, ...]:
        """In which transaction of its block each log is."""
        places: list[int] = []
        for _ in range(count):
            is_same = bool(places) and self._rng.random() < SAME_TRANSACTION
            places.append(places[-1] + (not is_same) if places else 0)
        self._transactions += places[-1] + 1 if places else 0
        return tuple(places)

    def _logs(self, number: int, places: tuple[int, ...]) -> list[bytes]:
        time = {"blockTimestamp": hex(self.config.time(number))}
        block = {
            "blockNumber": hex(number),
            "blockHash": block_hash(number),
            **(time if self.config.has_timestamps else {}),
        }
        return [
            encode(
                {
                    **self._said(),
                    **block,
                    "transactionHash": transaction_hash(number, place),
                    "transactionIndex": hex(place),
                    "logIndex": hex(index),
                    "removed": False,
                }
            )
            for index, place in enumerate(places)
        ]

    def _said(self) -> dict[str, object]:
        """What the contract logs: up to 9,444 tokens of 18 decimals repaid, up to 73 seized."""
        chance = self._rng.random
        collateral, debt = (WORDS[-1 - int(chance() * ASSETS)] for _ in range(2))
        account = WORDS[int(chance() * ACCOUNTS)]
        liquidator = WORDS[ACCOUNTS + int(chance() * LIQUIDATORS)]
        repaid, seized = self._rng.getrandbits(73), self._rng.getrandbits(66)
        self._repaid += repaid
        self._seized += seized
        return {
            "address": self.config.emitter,
            "topics": [LIQUIDATION_CALL, f"0x{collateral}", f"0x{debt}", f"0x{account}"],
            "data": f"0x{repaid:064x}{seized:064x}{liquidator}{repaid & 1:064x}",
        }

    def count(self, low: int, high: int) -> int:
        """How many logs the blocks `low` to `high`, both included, have."""
        first, last = self._span(low, high)
        return last - first

    def logs(self, low: int, high: int) -> bytes:
        """The logs of these blocks as a JSON array."""
        return self._array(*self._span(low, high))

    def widest(self, low: int, most: int) -> int:
        """The last block up to which there are not more than `most` logs."""
        at = low - self.config.first_block
        fits = bisect_right(self._first, self._first[at] + most) - 2
        return self.config.first_block + max(fits, at)

    def transactions(self, number: int) -> list[tuple[str, bytes]]:
        """Each transaction of a block and its logs."""
        at = number - self.config.first_block
        places = self._places[at] if 0 <= at < len(self._places) else ()
        ends = [bisect_right(places, place) for place in range(-1, max(places, default=-1) + 1)]
        first = self._first[at] if places else 0
        return [
            (transaction_hash(number, place), self._array(first + low, first + high))
            for place, (low, high) in enumerate(pairwise(ends))
        ]

    def _span(self, low: int, high: int) -> tuple[int, int]:
        """The numbers of the first log and of the one after the last."""
        start, blocks = self.config.first_block, self.config.blocks
        at = min(max(low - start, 0), blocks)
        return self._first[at], self._first[min(max(high + 1 - start, at), blocks)]

    def _array(self, first: int, last: int) -> bytes:
        if first == last:
            return b"[]"
        return b"[%b]" % self._buffer[self._starts[first] : self._starts[last] - 1]


class BulkNode:
    """Serves a history; the head does not move."""

    def __init__(self, history: History, *, chain_id: int = 1, port: int = 0) -> None:
        self.history = history
        self.config = history.config
        self.chain_id = chain_id
        self.server = Server(self.answer, port)
        self._calls: Counter[str] = Counter()
        self._requests = self._bytes = 0
        self._lock = threading.Lock()
        self._methods: dict[str, Method] = {
            "eth_chainId": lambda: encode(hex(chain_id)),
            "eth_blockNumber": lambda: encode(hex(self.config.head)),
            "eth_getBlockByNumber": lambda number, _=False: self._header(self._numbered(number)),
            "eth_getBlockByHash": lambda block, _=False: self._header(self._hashed(block)),
            "eth_getLogs": self._logs,
            "eth_getBlockReceipts": self._block_receipts,
            "eth_getTransactionReceipt": self._transaction_receipt,
            "eth_call": lambda *_: encode("0x"),
        }

    def answer(self, asked: Asked) -> Reply:
        """One HTTP answer; what is no POST is a question for the counts."""
        if asked.method != "POST":
            return Reply(json.dumps(self.stats()).encode())
        reply = exchange(asked.body, self._call)
        with self._lock:
            self._requests += 1
            self._bytes += len(reply.body)
        return reply

    def stats(self) -> dict[str, Any]:
        """What was asked so far, and what a table of all logs must hold."""
        asked = {"requests": self._requests, "bytes": self._bytes, "calls": dict(self._calls)}
        return asked | self.history.sums._asdict()

    def _call(self, request: Request) -> Result:
        with self._lock:
            self._calls[request.method] += 1
        method = self._methods.get(request.method)
        if method is None:
            return RpcError(-32601, f"the method {request.method} does not exist/is not available")
        return method(*request.params)

    def _numbered(self, number: str) -> int | None:
        match number:
            case "latest" | "pending":
                return self.config.head
            case "finalized" | "safe":
                return self.config.head - FINAL_DEPTH
            case "earliest":
                return self.config.first_block
            case _:
                return self._known(int(number, 16))

    def _known(self, number: int) -> int | None:
        return number if self.config.first_block <= number <= self.config.head else None

    def _hashed(self, text: str) -> int | None:
        number = self._known(int(text[-8:], 16))
        return number if number is not None and block_hash(number) == text else None

    def _header(self, number: int | None) -> bytes:
        if number is None:
            return NULL
        transactions = [tx_hash for tx_hash, _ in self.history.transactions(number)]
        fields = {
            "number": hex(number),
            "hash": block_hash(number),
            "parentHash": block_hash(number - 1),
            "timestamp": hex(self.config.time(number)),
            "transactionsRoot": "0x" + "1" * 64 if transactions else EMPTY_TRIE,
            "receiptsRoot": "0x" + "2" * 64 if transactions else EMPTY_TRIE,
            "transactions": transactions,
        }
        return encode(UNCHANGING | fields)

    def _logs(self, params: dict[str, Any]) -> Result:
        if "blockHash" in params:
            low = high = self._hashed(params["blockHash"])
        else:
            low = self._numbered(params.get("fromBlock", "latest"))
            high = self._numbered(params.get("toBlock", "latest")) or self.config.head
        if low is None or high is None:
            return UNKNOWN_BLOCK
        if not LogQuery.of(params).wants(self.history.example):
            return b"[]"
        if self.history.count(low, high) > self.config.most_logs:
            most = self.config.most_logs
            return too_many(most, low, self.history.widest(low, most))
        return self.history.logs(low, high)

    def _block_receipts(self, block: str) -> Result:
        number = self._hashed(block) if len(block) == 66 else self._numbered(block)
        return NULL if number is None else array_of(list(self._receipts(number).values()))

    def _transaction_receipt(self, tx_hash: str) -> Result:
        number = self._known(int(tx_hash[-10:-2], 16))
        return NULL if number is None else self._receipts(number).get(tx_hash, NULL)

    def _receipts(self, number: int) -> dict[str, bytes]:
        return {
            tx_hash: encode(
                {
                    "transactionHash": tx_hash,
                    "transactionIndex": hex(place),
                    "blockHash": block_hash(number),
                    "blockNumber": hex(number),
                    "status": "0x1",
                    "logs": msgspec.Raw(logs),
                }
            )
            for place, (tx_hash, logs) in enumerate(self.history.transactions(number))
        }


def main() -> None:
    """Build, print the port, serve until killed."""
    parser = argparse.ArgumentParser(prog="python -m tests.chain_model.bulk")
    parser.add_argument("--port", type=int, default=0)
    for name in ("seed", "first-block", "blocks", "logs", "empty", "most-logs"):
        default = getattr(Config, name.replace("-", "_"))
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default {default}")
    parser.add_argument("--no-timestamps", dest="has_timestamps", action="store_false")
    options = vars(parser.parse_args())
    port = options.pop("port")
    with BulkNode(History(Config(**options)), port=port).server as server:
        print(server.port, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
