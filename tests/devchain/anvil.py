"""An anvil process of our own, and what tests ask of it over JSON-RPC."""

import itertools
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import requests

from indexer.evm_model import BlockRef, Log
from indexer.sources.chains import profile_of
from tests.devchain.packages import anvil_program

CHAIN = "anvil"
GENESIS_AT = 1_700_000_000
SECONDS_A_BLOCK = 12
# Of the blocks made last, those among them that a reorg or a revert took away (75 MB): what is
# older can be read no more, nor gone back to.
STATES_KEPT = 256
EPOCH = 4  # blocks: safe is one epoch below the head, finalized two
OPTIONS = (
    *("--prune-history", STATES_KEPT),  # without it every old state is written to disk
    *("--timestamp", GENESIS_AT),  # as all else here it makes every hash the same in each run
    *("--hardfork", "prague"),
    *("--slots-in-an-epoch", EPOCH),
    *("--block-base-fee-per-gas", 0),  # any other is not put back by a revert
    *("--accounts", 100),
    *("--gas-limit", 1_000_000_000),
    "--disable-code-size-limit",  # Venus' isolated comptroller has 24,929 bytes, 24,576 are allowed
    "--silent",
)
Json = Any


class RpcError(Exception):
    """The node answered with an error."""


class Reverted(Exception):
    """The transaction was mined and failed."""


class Tx(msgspec.Struct, frozen=True):
    """What to send from one of the node's own accounts; `to` is None where it makes a contract,
    `value` is of the chain's coin."""

    sender: str
    to: str | None
    data: str
    gas: int = 30_000_000
    value: int = 0

    @property
    def wire(self) -> Json:
        """As JSON-RPC writes it."""
        target = {} if self.to is None else {"to": self.to}
        numbers = {"gas": hex(self.gas), "value": hex(self.value)}
        return {"from": self.sender, "data": self.data, **numbers, **target}


class Receipt(msgspec.Struct, frozen=True):
    """What a transaction did; `contract` is the address of a new one."""

    tx_hash: str
    block_number: int
    block_hash: str
    has_succeeded: bool
    contract: str | None
    logs: tuple[Log, ...]


class Anvil:
    """A running node. Heights are numbers, times seconds since 1970, everything else `0x` text."""

    def __init__(self, port: int, chain: str) -> None:
        self.chain = chain
        self.url = f"http://127.0.0.1:{port}"
        self.ws_url = f"ws://127.0.0.1:{port}"
        self._ids = itertools.count(1)
        self._session = requests.Session()
        self._session.trust_env = False  # a proxy of the environment is not for loopback
        self._snapshots: dict[str, int] = {}
        self._accounts: list[str] = []
        self._taken = 0

    def close(self) -> None:
        """Let go of the connection; the process is not ours to end here."""
        self._session.close()

    def rpc(self, method: str, *params: Json) -> Json:
        """The result of one call; raises RpcError."""
        question: Json = {
            "jsonrpc": "2.0",
            "id": next(self._ids),
            "method": method,
            "params": params,
        }
        answer = self._session.post(self.url, json=question, timeout=60).json()
        if "error" in answer:
            raise RpcError(f"{method}: {answer['error']}")
        return answer["result"]

    # accounts

    def new_account(self) -> str:
        """One that nobody has used since the last snapshot that was gone back to."""
        self._accounts = self._accounts or self.rpc("eth_accounts")
        self._taken += 1
        return str(self._accounts[self._taken - 1])

    # reading

    def block(self, at: int | str) -> BlockRef:
        """The block at a height, or under a tag as `latest` or `finalized`."""
        name = at if isinstance(at, str) else hex(at)
        found = self.rpc("eth_getBlockByNumber", name, False)
        return BlockRef(
            self.chain, int(found["number"], 16), found["hash"], found["parentHash"],
            int(found["timestamp"], 16),
        )  # fmt: skip

    @property
    def head(self) -> int:
        """The height of the newest block."""
        return int(self.rpc("eth_blockNumber"), 16)

    def call(self, to: str, data: str, at: int | None = None, time: int | None = None) -> bytes:
        """What a contract returns at a height, or at the head, as if it were that time."""
        block = "latest" if at is None else hex(at)
        other: list[Json] = [] if time is None else [{}, {"time": hex(time)}]
        return bytes.fromhex(self.rpc("eth_call", {"to": to, "data": data}, block, *other)[2:])

    def receipt(self, tx_hash: str) -> Receipt:
        """What a transaction did; raises RpcError where it is on no block."""
        found = self.rpc("eth_getTransactionReceipt", tx_hash)
        if found is None:
            raise RpcError(f"no receipt of {tx_hash}")
        return self._receipt(found)

    def receipts(self, block_number: int) -> list[Receipt]:
        """What all transactions of a block did, in order."""
        return [self._receipt(one) for one in self.rpc("eth_getBlockReceipts", hex(block_number))]

    def logs(self, *topics0: str, first: int = 0) -> list[Log]:
        """All logs from a height on, with one of these first topics if there are any."""
        wanted = {"fromBlock": hex(first), "toBlock": "latest", "topics": [list(topics0)]}
        return [self._log(one) for one in self.rpc("eth_getLogs", wanted)]

    def signed(self, tx_hash: str) -> str:
        """A transaction as it was signed, to have it mined again by `reorg`."""
        return str(self.rpc("eth_getRawTransactionByHash", tx_hash))

    # writing

    def send(self, tx: Tx) -> Receipt:
        """Mine it alone in a block of its own; raises Reverted."""
        done = self._receipt(self.rpc("eth_sendTransactionSync", tx.wire))
        if not done.has_succeeded:
            raise Reverted(done.tx_hash)
        return done

    def send_together(self, *txs: Tx) -> list[Receipt]:
        """Mine them in one block, in this order where they have one sender; raises Reverted."""
        self.rpc("evm_setAutomine", False)
        for tx in txs:
            self.rpc("eth_sendTransaction", tx.wire)
        self.mine()
        self.rpc("evm_setAutomine", True)
        done = self.receipts(self.head)
        for receipt in done:
            if not receipt.has_succeeded:
                raise Reverted(receipt.tx_hash)
        return done

    def mine(self, blocks: int = 1) -> None:
        """Add empty blocks."""
        self.rpc("anvil_mine", hex(blocks))

    def set_time(self, at: int) -> None:
        """Give the next block this time."""
        self.rpc("evm_setNextBlockTimestamp", at)

    def reorg(self, depth: int, *again: tuple[Tx | str, int]) -> list[Receipt]:
        """Replace the newest blocks by as many others, and give what is in those.

        `again` are transactions to send, or signed ones, each with the block that it goes to: 0 is
        the lowest of the new ones. What was in the old blocks is gone; no socket is told so."""
        wire = [[tx.wire if isinstance(tx, Tx) else tx, offset] for tx, offset in again]
        self.rpc("anvil_reorg", depth, wire)
        head = self.head
        return [one for at in range(head - depth + 1, head + 1) for one in self.receipts(at)]

    def rollback(self, depth: int) -> None:
        """Forget the newest blocks: the head is lower afterwards."""
        self.rpc("anvil_rollback", depth)

    def snapshot(self) -> str:
        """A place to revert to, once."""
        made = str(self.rpc("evm_snapshot"))
        self._snapshots[made] = self._taken
        return made

    def revert(self, snapshot: str) -> None:
        """Go back to a snapshot: blocks, state and the accounts that are taken."""
        if not self.rpc("evm_revert", snapshot):
            raise RpcError(f"anvil does not know the snapshot {snapshot}")
        self._taken = self._snapshots.pop(snapshot)

    # what it answers

    def _log(self, wire: Json) -> Log:
        return Log(
            self.chain, wire["address"].lower(), tuple(wire["topics"]), wire["data"],
            int(wire["blockNumber"], 16), wire["blockHash"], wire["transactionHash"],
            int(wire["logIndex"], 16),
        )  # fmt: skip

    def _receipt(self, wire: Json) -> Receipt:
        return Receipt(
            wire["transactionHash"], int(wire["blockNumber"], 16), wire["blockHash"],
            wire["status"] == "0x1", wire["contractAddress"] and wire["contractAddress"].lower(),
            tuple(map(self._log, wire["logs"])),
        )  # fmt: skip


@contextmanager
def anvil(chain: str = CHAIN) -> Iterator[Anvil]:
    """A new chain at height 0, whose process ends with the block (0.1 s); under another name it
    passes for that chain, with nothing on it."""
    program = anvil_program()
    port = _free_port()
    with subprocess.Popen(_command(program, port, chain), stdout=subprocess.DEVNULL) as process:
        node = Anvil(port, chain)
        try:
            _await(node, process)
            node.rpc("anvil_setBlockTimestampInterval", SECONDS_A_BLOCK)
            yield node
        finally:
            node.close()
            _end(process)


def _command(program: Path, port: int, chain: str) -> list[str]:
    own = ("--port", port, "--chain-id", profile_of(chain).chain_id)
    return [str(part) for part in (program, *own, *OPTIONS)]


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _await(node: Anvil, process: subprocess.Popen[bytes], seconds: float = 20) -> None:
    """Until it answers; raises RuntimeError when it ends or takes too long."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and process.poll() is None:
        try:
            node.rpc("eth_chainId")
        except requests.ConnectionError:
            time.sleep(0.01)
        else:
            return
    raise RuntimeError(f"anvil did not start: exit code {process.poll()}")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
