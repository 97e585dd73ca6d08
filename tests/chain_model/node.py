"""A JSON-RPC node over a model chain, honest unless its faults say otherwise."""

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

from tests.chain_model.chain import Block, Branch, ModelChain
from tests.chain_model.events import Log, topic
from tests.chain_model.faults import Fault, Faults
from tests.chain_model.render import SentLog, SentReceipt, array, encode, hex_of, sent
from tests.chain_model.serve import Asked, Reply, Request, Result, RpcError, Server, exchange

NULL = b"null"
TAGS = ("latest", "pending", "safe", "finalized")
RECEIPT_METHODS = frozenset({"eth_getBlockReceipts", "eth_getTransactionReceipt"})
STATUSES: dict[Fault, int] = {"http_500": 500, "http_429": 429}
UNKNOWN_BLOCK: Result = RpcError(-32000, "unknown block")
BASE_TOKEN = topic("baseToken()")[:10]  # compound-finance/comet:contracts/CometMainInterface.sol

HONEST = Faults()

Method = Callable[..., Result]
Lies = dict[Fault, Callable[[], bytes]]
Calls = Callable[[str, str], str | RpcError]  # (to, data) -> what the contract returns


def no_contract(to: str, data: str) -> str | RpcError:
    """What an address without code returns."""
    return "0x"


def comet_of(chain: ModelChain) -> Calls:
    """The one view function that a liquidation of the model needs: Comet's baseToken()."""
    places = chain.config.places

    def call(to: str, data: str) -> str | RpcError:
        if (to.lower(), data) == (places.comet, BASE_TOKEN):
            return "0x" + places.comet_base[2:].rjust(64, "0")
        return no_contract(to, data)

    return call


class View(NamedTuple):
    """One of the machines behind a URL: so many blocks behind; it knows replaced blocks or not."""

    chain: ModelChain
    blocks_behind: int = 0
    keeps_orphans: bool = True

    def branch(self) -> Branch:
        """What it takes for the chain now."""
        return self.chain.branch.behind(self.blocks_behind)


class Late(NamedTuple):
    """For so many seconds after a block was first served eth_getLogs has only its first `logs`."""

    seconds: float = 0.7
    logs: int = 0


class Limits(NamedTuple):
    """What a node refuses: methods that it lacks, answers with more logs."""

    unsupported: Collection[str] = ()
    most_logs: int | None = None


class LogQuery(NamedTuple):
    """The filter of eth_getLogs; None in a place means anything."""

    addresses: frozenset[str] | None
    topics: tuple[frozenset[str] | None, ...]

    @classmethod
    def of(cls, params: dict[str, Any]) -> "LogQuery":
        """As clients send it: one value, a list or null."""
        topics = tuple(map(_one_of, params.get("topics") or ()))
        return cls(_one_of(params.get("address")), topics)

    def wants(self, log: Log) -> bool:
        """Whether it matches."""
        if self.addresses is not None and log.address not in self.addresses:
            return False
        if len(self.topics) > len(log.topics):
            return False
        return all(
            wanted is None or topic in wanted
            for wanted, topic in zip(self.topics, log.topics, strict=False)
        )


def _one_of(said: str | list[str] | None) -> frozenset[str] | None:
    if not said:
        return None
    return frozenset(map(str.lower, [said] if isinstance(said, str) else said))


class Node:
    """Serves one or several views in turn, a view a request. Use as a context manager.

    `asked` counts calls by method, `first_served` is the monotonic time of a block's first
    header or logs, by hash.
    """

    def __init__(
        self,
        views: ModelChain | Sequence[View],
        *,
        chain_id: int = 1,
        limits: Limits = Limits(),  # noqa: B008  # frozen
        faults: Faults | None = None,
        late: Late | None = None,
        calls: Calls = no_contract,
        port: int = 0,
    ) -> None:
        self.views = (View(views),) if isinstance(views, ModelChain) else tuple(views)
        self.chain_id = chain_id
        self.limits = limits
        self.faults = faults or Faults()
        self.late = late
        self.calls = calls
        self.asked: Counter[str] = Counter()
        self.first_served: dict[str, float] = {}
        self._turn = itertools.cycle(self.views)
        self._lock = threading.Lock()
        self._server = Server(self.answer, port)
        self.url = self._server.url

    def __enter__(self) -> "Node":
        self._server.__enter__()
        return self

    def __exit__(self, *reason: object) -> None:
        self._server.__exit__(*reason)

    def answer(self, asked: Asked) -> Reply | None:
        """One HTTP answer, after what can go wrong on the way."""
        with self._lock:
            view = next(self._turn)
        tell = self.faults.tell
        if tell("dropped", False, lambda: True):
            return None
        for fault, status in STATUSES.items():
            if tell(fault, False, lambda: True):
                return Reply(b'{"error":"try again"}', status)
        reply = exchange(asked.body, lambda request: self.call(request, view))
        return tell("truncated_json", reply, lambda: Reply(reply.body[: len(reply.body) // 2]))

    def call(self, request: Request, view: View) -> Result:
        """One result, after what the node itself gets wrong."""
        with self._lock:
            self.asked[request.method] += 1
        method = METHODS.get(request.method)
        if method is None or request.method in self.limits.unsupported:
            return RpcError(-32601, f"the method {request.method} does not exist/is not available")
        branch = self._told_branch(method, request, view)
        return method(_Moment(self, view, branch, self.faults), *request.params)

    def _told_branch(self, method: Method, request: Request, view: View) -> Branch:
        """What is taken for the chain: another branch only where the answer differs."""
        honest = view.branch()

        def answer(branch: Branch) -> Result:
            return method(_Moment(self, view, branch, HONEST), *request.params)

        def seen(other: Branch) -> Branch:
            return other if answer(other) != answer(honest) else honest

        others = self._other_branches(view, honest)
        return self.faults.tell_one(honest, {fault: partial(seen, one) for fault, one in others})

    def _other_branches(self, view: View, branch: Branch) -> Iterator[tuple[Fault, Branch]]:
        yield "lagging_head", branch.behind(self.faults.rng.randint(1, 3))
        if view.chain.abandoned:
            yield "stale_fork", view.chain.abandoned[-1]

    def serves(self, block: Block) -> float:
        """Note that a block was served; for how many seconds it has been by now."""
        now = time.monotonic()
        return now - self.first_served.setdefault(block.hash, now)


class _Moment(NamedTuple):
    """One call, answered from one branch."""

    node: Node
    view: View
    branch: Branch
    faults: Faults

    # blocks

    def chain_id(self) -> Result:
        return encode(hex(self.node.chain_id))

    def block_number(self) -> Result:
        return encode(hex(self.branch.head.number))

    def block_by_number(self, number: str, _: bool = False) -> Result:
        return self._header(self._numbered(number))

    def block_by_hash(self, block_hash: str, _: bool = False) -> Result:
        return self._header(self._hashed(block_hash))

    def _numbered(self, number: str) -> Block | None:
        match number:
            case "latest" | "pending":
                return self.branch.head
            case "finalized" | "safe":
                return self.branch.at(self.branch.finalized)
            case "earliest":
                return self.branch.blocks[0]
            case _:
                return self.branch.at(int(number, 16))

    def _hashed(self, block_hash: str) -> Block | None:
        """A block above the branch's head is not known yet."""
        block = self.view.chain.known.get(block_hash.lower())
        if block is None or self.branch.has(block):
            return block
        is_known = self.view.keeps_orphans and block.number <= self.branch.head.number
        return block if is_known else None

    def _header(self, block: Block | None) -> bytes:
        if block is None:
            return NULL
        self.node.serves(block)
        lies: Lies = {
            "null_block": lambda: NULL,
            "wrong_block": lambda: sent(self._neighbour(block)).header,
            "forged_block": lambda: _forged(block, self._neighbour(block)),
        }
        return self.faults.tell_one(sent(block).header, lies)

    def _neighbour(self, block: Block) -> Block:
        return self.branch.at(block.number - 1) or self.branch.at(block.number + 1) or block

    # logs

    def logs(self, params: dict[str, Any]) -> Result:
        query = LogQuery.of(params)
        if "blockHash" in params:
            block = self._hashed(params["blockHash"])
            if block is None:
                return self.faults.tell("empty_for_unknown", UNKNOWN_BLOCK, lambda: b"[]")
            return self._logs((block,), query)
        low = self._numbered(params.get("fromBlock", "latest"))
        high = self._bound(params.get("toBlock", "latest"))
        return self._logs(self.branch.between(low.number, high) if low else (), query)

    def _bound(self, number: str) -> int:
        """A number above the head is taken without a word, as nodes do."""
        block = self._numbered(number) if number in TAGS else None
        return block.number if block else int(number, 16)

    def _logs(self, blocks: Sequence[Block], query: LogQuery) -> Result:
        by_block = [self._visible(block, query) for block in blocks]
        most = self.node.limits.most_logs
        if most is not None and sum(map(len, by_block)) > most:
            low = blocks[0].number
            return too_many(most, low, low + _fitting(most, by_block) - 1)
        logs = [log for found in by_block for log in found]
        return array([log.json for log in self._lied(logs, blocks, query)])

    def _visible(self, block: Block, query: LogQuery) -> list[SentLog]:
        found = [log for log in sent(block).logs if query.wants(log.log)]
        late, age = self.node.late, self.node.serves(block)
        return found[: late.logs] if late and age < late.seconds else found

    def _lied(self, logs: list[SentLog], blocks: Sequence[Block], query: LogQuery) -> list[SentLog]:
        lies: dict[Fault, Callable[[], list[SentLog]]] = {
            "empty_logs": list,
            "partial_logs": lambda: logs[:1],
            "duplicated_logs": lambda: logs + logs[:1],
            "removed_logs": lambda: list(map(_removed, logs)),
            "logs_of_another_block": lambda: self._elsewhere(logs, blocks, query),
            "foreign_logs": lambda: [*logs, *self._foreign(blocks, query)],
        }
        return self.faults.tell_one(logs, lies)

    def _elsewhere(
        self, logs: list[SentLog], blocks: Sequence[Block], query: LogQuery
    ) -> list[SentLog]:
        """Wanted logs of the newest other block that has some; it may be an orphan."""
        for block in reversed(self.view.chain.known.values()):
            if block not in blocks:
                found = [log for log in sent(block).logs if query.wants(log.log)]
                if found:
                    return found
        return logs

    def _foreign(self, blocks: Sequence[Block], query: LogQuery) -> list[SentLog]:
        """One log of these blocks that was not asked for."""
        every = (log for block in blocks for log in sent(block).logs)
        return list(itertools.islice((log for log in every if not query.wants(log.log)), 1))

    # receipts

    def block_receipts(self, block: str) -> Result:
        found = self._hashed(block) if len(block) == 66 else self._numbered(block)
        if found is None:
            return NULL
        receipts = sent(found).receipts
        lies: Lies = {
            "null_receipts": lambda: NULL,
            "empty_receipts": lambda: b"[]",
            "partial_receipts": lambda: _all(receipts[:1]),
            "bare_receipts": lambda: _all(receipts, has_logs=False),
        }
        return self.faults.tell_one(_all(receipts), lies)

    def transaction_receipt(self, tx_hash: str) -> Result:
        blocks = filter(self.branch.has, self.view.chain.where.get(tx_hash, ()))
        receipts = (receipt for block in blocks for receipt in sent(block).receipts)
        receipt = next((one for one in receipts if one.tx_hash == tx_hash), None)
        return NULL if receipt is None else self._receipt(receipt)

    def transaction_by_hash(self, tx_hash: str) -> Result:
        blocks = filter(self.branch.has, self.view.chain.where.get(tx_hash, ()))
        for block in blocks:
            for receipt in block.receipts:
                if receipt.transaction.hash == tx_hash:
                    said = receipt.transaction.sent._asdict()
                    said["from"] = said.pop("sender")
                    return self.faults.tell_one(
                        encode({"hash": tx_hash, "blockHash": block.hash, **said}),
                        {"null_receipts": lambda: NULL},
                    )
        return NULL

    def _receipt(self, receipt: SentReceipt) -> bytes:
        lies: Lies = {
            "null_receipts": lambda: NULL,
            "bare_receipts": lambda: receipt.json(has_logs=False),
        }
        return self.faults.tell_one(receipt.json(), lies)

    # calls

    def eth_call(self, call: dict[str, Any], at: Any = "latest", *_: Any) -> Result:
        block_hash = at.get("blockHash") if isinstance(at, dict) else None  # EIP-1898
        if block_hash is not None and self._hashed(block_hash) is None:
            return RpcError(-32000, "header for hash not found")
        returned = self.node.calls(call["to"], call.get("data") or call.get("input") or "0x")
        return returned if isinstance(returned, RpcError) else encode(returned)

    def eth_get_code(self, *_: Any) -> Result:
        """Accounts of the model are keys: there is no code."""
        return encode("0x")


METHODS: dict[str, Method] = {
    "eth_chainId": _Moment.chain_id,
    "eth_blockNumber": _Moment.block_number,
    "eth_getBlockByNumber": _Moment.block_by_number,
    "eth_getBlockByHash": _Moment.block_by_hash,
    "eth_getLogs": _Moment.logs,
    "eth_getBlockReceipts": _Moment.block_receipts,
    "eth_getTransactionReceipt": _Moment.transaction_receipt,
    "eth_getTransactionByHash": _Moment.transaction_by_hash,
    "eth_call": _Moment.eth_call,
    "eth_getCode": _Moment.eth_get_code,
}


def too_many(most: int, low: int, high: int) -> RpcError:
    """As Infura words it; from `low` to `high` would fit."""
    hint = f"Try with this block range [{hex(low)}, {hex(high)}]."
    return RpcError(-32005, f"query returned more than {most} results. {hint}")


def _fitting(most: int, by_block: Sequence[list[SentLog]]) -> int:
    """How many blocks from the first on have not more than `most` logs; at least one."""
    totals = itertools.accumulate(map(len, by_block))
    return max(len(list(itertools.takewhile(lambda total: total <= most, totals))), 1)


def _all(receipts: Sequence[SentReceipt], *, has_logs: bool = True) -> bytes:
    return array([receipt.json(has_logs=has_logs) for receipt in receipts])


def _removed(log: SentLog) -> SentLog:
    return log._replace(json=log.json.replace(b'"removed":false', b'"removed":true'))


def _forged(block: Block, other: Block) -> bytes:
    """Another block's header that claims to be this one."""
    header = sent(other).header.replace(other.hash.encode(), block.hash.encode())
    said, claimed = (f'"number":"{hex_of(one.number)}"'.encode() for one in (other, block))
    return header.replace(said, claimed)
