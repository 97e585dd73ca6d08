"""A chain that grows while it is watched: the scenarios of the head of the chain.

*reorg*: every 10 blocks the last 3 are replaced by siblings, half of which lose their logs, and
what was replaced is unknown to the node. *late*: a block's logs are missing from eth_getLogs for
700 ms after it was first served. *partial*: all but the first are missing.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from itertools import count
from queue import SimpleQueue
from typing import Literal, NamedTuple

import msgspec
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import Server, ServerConnection, serve

from tests.chain_model.chain import Block, Config, ModelChain
from tests.chain_model.node import RECEIPT_METHODS, Late, Limits, Node, View, comet_of
from tests.chain_model.render import sent
from tests.chain_model.serve import Request

REORG_EVERY, REORG_DEPTH = 10, 3
SUBSCRIPTION = "0x1"

Scenario = Literal["plain", "reorg", "late", "partial"]
LATE = {"late": Late(0.7, 0), "partial": Late(0.7, 1)}


class LiveChain:
    """Mines in a thread of its own, with the times of the clock. Use as a context manager.

    `visible_at` is the time, in seconds since 1970, when a block became visible, by hash;
    `is_done` is set after the last block.
    """

    def __init__(
        self, chain: ModelChain, blocks: int, seconds: float = 0.5, *, has_reorgs: bool = False
    ) -> None:
        self.chain = chain
        self.visible_at: dict[str, float] = {}
        self.is_done = threading.Event()
        self.reorgs = 0
        self._blocks = blocks
        self._seconds = seconds
        self._has_reorgs = has_reorgs
        self._stop = threading.Event()
        self._listeners: list[SimpleQueue[Block | None]] = []
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "LiveChain":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def heads(self) -> "SimpleQueue[Block | None]":
        """New heads from now on, each of a reorg included; None is the end."""
        queue: SimpleQueue[Block | None] = SimpleQueue()
        self._listeners.append(queue)
        if self.is_done.is_set():
            queue.put(None)
        return queue

    def _run(self) -> None:
        started = time.monotonic()
        for tick, new in enumerate(self._steps(), 1):
            self._publish(new)
            if self._stop.wait(max(started + tick * self._seconds - time.monotonic(), 0)):
                break
        self.is_done.set()
        for queue in self._listeners:
            queue.put(None)

    def _steps(self) -> Iterator[list[Block]]:
        """What appears tick by tick; a reorg has a tick of its own and leaves the height alone."""
        loses_logs = (number % 2 == 0 for number in count())
        for mined in range(1, self._blocks + 1):
            yield self.chain.mine(time=int(time.time()))
            if self._has_reorgs and mined % REORG_EVERY == 0:
                self.reorgs += 1
                yield self.chain.siblings([next(loses_logs) for _ in range(REORG_DEPTH)])

    def _publish(self, new: list[Block]) -> None:
        self.visible_at |= dict.fromkeys((block.hash for block in new), time.time())
        for block in new:
            for queue in self._listeners:
                queue.put(block)


class HeadsSocket:
    """eth_subscribe newHeads over a WebSocket. Use as a context manager."""

    def __init__(self, live: LiveChain) -> None:
        self._server: Server = serve(partial(_push, live), "127.0.0.1", 0)
        self.url = f"ws://127.0.0.1:{self._server.socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> "HeadsSocket":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()


def _push(live: LiveChain, connection: ServerConnection) -> None:
    """One client: it subscribes, then it gets every new head until the chain ends."""
    with suppress(ConnectionClosed):
        request = msgspec.json.decode(connection.recv(), type=Request)
        answer = {"jsonrpc": "2.0", "id": request.id}
        if (request.method, request.params) != ("eth_subscribe", ["newHeads"]):
            error = {"code": -32601, "message": "only eth_subscribe newHeads"}
            connection.send(msgspec.json.encode(answer | {"error": error}).decode())
            return
        heads = live.heads()
        connection.send(msgspec.json.encode(answer | {"result": SUBSCRIPTION}).decode())
        while (block := heads.get()) is not None:
            connection.send(_notice(block))


def _notice(block: Block) -> str:
    params = {"subscription": SUBSCRIPTION, "result": msgspec.Raw(sent(block).header)}
    notice = {"jsonrpc": "2.0", "method": "eth_subscription", "params": params}
    return msgspec.json.encode(notice).decode()


class Live(NamedTuple):
    """A scenario at work; `history` blocks were there before it began."""

    chain: ModelChain
    live: LiveChain
    node: Node
    heads_url: str


@contextmanager
def playing(
    scenario: Scenario,
    blocks: int,
    *,
    seconds: float = 0.5,
    has_receipts: bool = True,
    history: int = 20,
    config: Config | None = None,
) -> Iterator[Live]:
    """A scenario over HTTP and WebSocket, with `history` blocks before its first one."""
    config = config or Config(empty_percent=10)
    started = int(time.time() - (history + 1) * config.block_seconds)
    chain = ModelChain(replace(config, started=started))
    chain.mine(history)
    live = LiveChain(chain, blocks, seconds, has_reorgs=scenario == "reorg")
    node = Node(
        [View(chain, keeps_orphans=scenario != "reorg")],
        limits=Limits(unsupported=() if has_receipts else RECEIPT_METHODS),
        late=LATE.get(scenario),
        calls=comet_of(chain),
    )
    with ExitStack() as stack:
        stack.enter_context(node)
        socket = stack.enter_context(HeadsSocket(live))
        stack.enter_context(live)
        yield Live(chain, live, node, socket.url)
