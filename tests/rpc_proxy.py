"""A JSON-RPC node on loopback with a chain of our own making, and a script of faults to play.

`@plays` names the fault of the study (rpc-faults.json) that a test injects; `played` collects them
for the table in the docs.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType, ModuleType
from typing import Any, NamedTuple

import msgspec
import rlp
from eth_hash.auto import keccak

from indexer.evm_model import BlockRef, LogFilter
from indexer.sources import wire
from indexer.sources.rpc import Clock

UTC = 1_800_000_000.0
POOL = "0x" + "aa" * 20
OTHER_POOL = "0x" + "bb" * 20
TOPIC = "0x" + "11" * 32
OTHER_TOPIC = "0x" + "22" * 32
SENDER = "0x" + "cc" * 20
WANTED = LogFilter(frozenset({POOL}), frozenset({TOPIC}))
Json = Any
Edit = Callable[[Json], Json]


class Played(NamedTuple):
    """One row of the table: a fault, how a test injects it, what we do about it."""

    fault: str
    injected: str
    reaction: str
    test: str


def plays(fault: str, injected: str, reaction: str) -> Callable[[Any], Any]:
    """Mark a test as the proof of what we do about a fault."""

    def marked(test: Any) -> Any:
        test.plays = Played(fault, injected, reaction, test.__name__)
        return test

    return marked


def played(*modules: ModuleType) -> list[Played]:
    """All rows of some test modules, by id."""
    tests = (value for module in modules for value in vars(module).values())
    return sorted(test.plays for test in tests if hasattr(test, "plays"))


class FakeClock:
    """Time passes only by sleeping."""

    def __init__(self) -> None:
        self.seconds = 1_000.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.seconds += seconds

    @property
    def clock(self) -> Clock:
        """What the code under test takes."""
        return Clock(now=lambda: self.seconds, sleep=self.sleep, utc=lambda: UTC)


class RpcError(Exception):
    """What a node answers instead of a result."""

    def __init__(self, code: int | None, message: str, data: Json = None) -> None:
        super().__init__(message)
        self.body = {"code": code, "message": message} | ({} if data is None else {"data": data})


class Http(NamedTuple):
    """A whole HTTP answer; `cut` closes the connection after so many bytes of the body, `late`
    waits so many seconds before the first."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = MappingProxyType({})
    cut: int | None = None
    late: float = 0.0


class Chain:
    """Blocks with genuine hashes and blooms. `logs` tells how many each block gets."""

    def __init__(self, blocks: int, logs: Callable[[int], int] = lambda _: 0, fork: int = 0):
        self.blocks: list[dict[str, Json]] = []
        self.logs: dict[str, list[dict[str, Json]]] = {}
        for number in range(blocks):
            self._add(number, logs(number), fork)

    def _add(self, number: int, logs: int, fork: int) -> None:
        parent = self.blocks[-1]["hash"] if self.blocks else "0x" + "00" * 32
        bloom = 0
        for word in (POOL, TOPIC, *map(_word, range(logs))) if logs else ():
            bloom |= wire.bloom_bits(word)
        transactions = [_word(number * 1_000 + fork + 1)] if logs else []
        header = wire.Header(
            number=hex(number),
            hash="",
            parent_hash=parent,
            timestamp=hex(1_700_000_000 + 12 * number + (1 if fork else 0)),
            logs_bloom="0x" + bloom.to_bytes(256, "big").hex(),
            transactions=transactions,
            sha3_uncles=_word(1),
            miner="0x" + "00" * 20,
            state_root=_word(2),
            transactions_root=_word(3) if logs else wire.EMPTY_ROOT,
            receipts_root=wire.EMPTY_ROOT,
            difficulty="0x0",
            gas_limit="0x1388",
            gas_used="0x0",
            extra_data="0x" + bytes([fork]).hex(),
            mix_hash=_word(0),
            nonce="0x0000000000000000",
            base_fee_per_gas="0x7",
        )
        header.hash = "0x" + keccak(rlp.encode(list(header._hashed()))).hex()
        block = {name: value for name, value in msgspec.to_builtins(header).items() if value}
        self.blocks.append({**block, "transactions": transactions})
        self.logs[header.hash] = [self._log(block, at, transactions[0]) for at in range(logs)]

    def _log(self, block: dict[str, Json], at: int, tx_hash: str) -> dict[str, Json]:
        return {
            "address": POOL,
            "topics": [TOPIC, _word(at)],
            "data": _word(at),
            "blockNumber": block["number"],
            "blockHash": block["hash"],
            "blockTimestamp": block["timestamp"],
            "transactionHash": tx_hash,
            "transactionIndex": "0x0",
            "logIndex": hex(at),
            "removed": False,
        }

    def forked(self, at: int, logs: Callable[[int], int] = lambda _: 0) -> "Chain":
        """The same chain up to `at`, other blocks from there on, as many."""
        other = Chain(0)
        other.blocks = self.blocks[:at]
        other.logs = dict(self.logs)
        for number in range(at, len(self.blocks)):
            other._add(number, logs(number), fork=1)
        return other

    def ref(self, number: int) -> BlockRef:
        """A block as a noun of ours."""
        return msgspec.convert(self.blocks[number], wire.Header).ref("anvil")


def _word(number: int) -> str:
    return "0x" + number.to_bytes(32, "big").hex()


class Node:
    """A node that tells the truth, until something is played. Use as a context manager."""

    def __init__(self, chain: Chain, chain_id: int = 31337, path: str = "") -> None:
        self.chain = chain
        self.chain_id = chain_id
        self.finalized: int | None = max(len(chain.blocks) - 10, 0)
        self.asked: list[tuple[str, Json]] = []
        self.posts = 0
        self._script: list[tuple[str, Callable[[bytes, Json], Http | Json], int]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}{path}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> "Node":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    # the script

    def http(self, answer: Http, method: str = "", times: int = 1) -> None:
        """Answer requests that name this method with this, whatever they ask."""
        self._script.append((method, lambda body, honest: answer, times))

    def edit(self, edit: Edit, method: str = "", times: int = 1) -> None:
        """Change the honest JSON answer to requests that name this method."""
        self._script.append((method, lambda body, honest: edit(honest), times))

    def result(self, value: Json, method: str, times: int = 1) -> None:
        """Put this in the place of the result of this method."""
        self.edit_result(lambda _: value, method, times)

    def edit_result(self, edit: Edit, method: str, times: int = 1) -> None:
        """Change the result of this method, alone or in a batch."""

        def change(body: bytes, honest: Json) -> Json:
            asked = json.loads(body)
            requests = asked if isinstance(asked, list) else [asked]
            replies = honest if isinstance(honest, list) else [honest]
            for request, reply in zip(requests, replies, strict=True):
                if request["method"] == method and "result" in reply:
                    reply["result"] = edit(reply["result"])
            return honest

        self._script.append((method, change, times))

    def error(
        self, code: int | None, message: str, method: str, times: int = 1, data: Json = None
    ) -> None:
        """Answer this method with an error."""
        body = RpcError(code, message, data).body

        def change(_: bytes, honest: Json) -> Json:
            replies = honest if isinstance(honest, list) else [honest]
            failed = [{"jsonrpc": "2.0", "id": reply["id"], "error": body} for reply in replies]
            return failed if isinstance(honest, list) else failed[0]

        self._script.append((method, change, times))

    def count(self, method: str) -> int:
        """How often a method was asked."""
        return sum(asked == method for asked, _ in self.asked)

    # the answers

    def answer(self, body: bytes) -> Http:
        """The honest answer, unless the script has another."""
        self.posts += 1
        asked = json.loads(body)
        requests = asked if isinstance(asked, list) else [asked]
        replies = [self._reply(request) for request in requests]
        honest: Json = replies if isinstance(asked, list) else replies[0]
        for place, (method, play, times) in enumerate(self._script):
            if method.encode() in body:
                self._script[place : place + 1] = [(method, play, times - 1)] if times > 1 else []
                honest = play(body, honest)
                break
        return honest if isinstance(honest, Http) else Http(json.dumps(honest).encode())

    def _reply(self, request: Json) -> Json:
        self.asked.append((request["method"], request["params"]))
        try:
            result = getattr(self, request["method"])(*request["params"])
        except RpcError as error:
            return {"jsonrpc": "2.0", "id": request["id"], "error": error.body}
        return {"jsonrpc": "2.0", "id": request["id"], "result": result}

    def eth_chainId(self) -> Json:
        return hex(self.chain_id)

    def eth_getBlockByNumber(self, number: str, _: bool) -> Json:
        at = {"latest": len(self.chain.blocks) - 1, "finalized": self.finalized}.get(number)
        at = at if number in ("latest", "finalized") else int(number, 16)
        known = at is not None and at < len(self.chain.blocks)
        return self.chain.blocks[at] if known and at is not None else None

    def _block(self, block_hash: str) -> Json:
        return next((one for one in self.chain.blocks if one["hash"] == block_hash), None)

    def eth_getBlockByHash(self, block_hash: str, _: bool) -> Json:
        return self._block(block_hash)

    def _logs_of(self, block: Json, wanted: Json) -> Iterator[Json]:
        for log in self.chain.logs[block["hash"]]:
            if log["address"] in wanted.get("address", [log["address"]]) and all(
                topic in asked
                for topic, asked in zip(log["topics"], wanted["topics"], strict=False)
            ):
                yield log

    def eth_getLogs(self, wanted: Json) -> Json:
        if "blockHash" in wanted:
            block = self._block(wanted["blockHash"])
            if block is None:
                raise RpcError(-32000, "unknown block")
            return list(self._logs_of(block, wanted))
        low, high = int(wanted["fromBlock"], 16), int(wanted["toBlock"], 16)
        blocks = self.chain.blocks[low : high + 1]
        return [log for block in blocks for log in self._logs_of(block, wanted)]

    def eth_getBlockReceipts(self, block_hash: str) -> Json:
        block = self._block(block_hash)
        return (
            None if block is None else [self._receipt(block, one) for one in block["transactions"]]
        )

    def eth_getTransactionReceipt(self, tx_hash: str) -> Json:
        blocks = (one for one in self.chain.blocks if tx_hash in one["transactions"])
        return next((self._receipt(block, tx_hash) for block in blocks), None)

    def eth_getTransactionByHash(self, tx_hash: str) -> Json:
        """Each was sent to the pool, with the height of its block."""
        for block in self.chain.blocks:
            if tx_hash in block["transactions"]:
                return {
                    "hash": tx_hash,
                    "blockHash": block["hash"],
                    "from": SENDER,
                    "to": POOL,
                    "input": f"0x{int(block['number'], 16):08X}",
                }
        return None

    def _receipt(self, block: Json, tx_hash: str) -> Json:
        return {
            "transactionHash": tx_hash,
            "transactionIndex": "0x0",
            "blockHash": block["hash"],
            "blockNumber": block["number"],
            "status": "0x1",
            "logs": self.chain.logs[block["hash"]],
        }

    def eth_call(self, call: Json, _: Json) -> Json:
        """There is no contract anywhere, unless a test puts one here."""
        return "0x"


def _handler(node: Node) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body in one packet: two cost 40 ms of delayed acknowledgement

        def do_POST(self) -> None:
            answer = node.answer(self.rfile.read(int(self.headers["Content-Length"])))
            time.sleep(answer.late)
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body[: answer.cut])
            self.close_connection = self.close_connection or answer.cut is not None

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler
