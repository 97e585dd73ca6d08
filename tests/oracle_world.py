"""Contracts of a world of our own, told in words: oracles, feeds, tokens, and a node that answers
for them. Simulated."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from eth_abi import abi

from indexer.decode import Decoder
from indexer.errors import SourceFault
from indexer.evm_model import (
    NOBODY,
    BlockRef,
    CallResult,
    ChainRow,
    EthCall,
    Leg,
    LendingLiquidation,
    Log,
    LogFilter,
    LogRange,
)
from indexer.pricing import (
    ANSWER_UPDATED,
)
from indexer.sources.chains import BY_NAME, MULTICALL3
from indexer.sources.evm_calls import Question
from indexer.store import chain_rows
from indexer.store.database import Connection
from indexer.venues.evm import with_deployments
from tests.evm_logs import DECODER, GOLDEN, SPECS, Case, known
from tests.fake_chain import REVERTED, asked, says
from tests.rpc_proxy import Json, Node, RpcError


def address(digit: str) -> str:
    return "0x" + 40 * digit


TOKEN, FEED, AGGREGATOR = map(address, "a2b")
TIME = 1_720_000_000


def log_of(topics: tuple[str, ...], words: bytes, block: BlockRef, at: int, emitter: str) -> Log:
    tx = "0x" + 64 * "6"
    return Log(
        block.chain, emitter, topics, "0x" + words.hex(), block.number, block.hash, tx, at
    )  # fmt: skip


def answer_log(answer: int, block: BlockRef, log_index: int, emitter: str = AGGREGATOR) -> Log:
    topic = "0x" + abi.encode(["int256"], [answer]).hex()
    topics = (ANSWER_UPDATED, topic, "0x" + 64 * "0")
    return log_of(topics, abi.encode(["uint256"], [block.time]), block, log_index, emitter)


MAIN = "0x87870bca3f3fd6335c3f4ce8392d69350b4fa4e2"
PROVIDER, ORACLE = address("d"), address("e")
Said = Callable[[int], CallResult]
HEAD = 5_000


def always(types: str, *values: Any) -> Said:
    return lambda block: says(types, *values)


def aave(pool: str, provider: str, oracle: str) -> dict[EthCall, Said]:
    """A pool whose oracle counts in dollars of 8 decimals."""
    return {
        asked(pool, "ADDRESSES_PROVIDER()"): always("address", provider),
        asked(provider, "getPriceOracle()"): always("address", oracle),
        asked(oracle, "BASE_CURRENCY()"): always("address", NOBODY),
        asked(oracle, "BASE_CURRENCY_UNIT()"): always("uint256", 10**8),
    }


def listed(
    oracle: str, token: str, decimals: int, feed: str, at: Callable[[int], int]
) -> dict[EthCall, Said]:
    """A token at an oracle, with a plain feed."""

    def latest(block: int) -> CallResult:
        return says("uint80 int256 uint256 uint256 uint80", 1, at(block), 0, 0, 1)

    return {
        asked(oracle, "getAssetPrice(address)", token): lambda block: says("uint256", at(block)),
        asked(oracle, "getSourceOfAsset(address)", token): always("address", feed),
        asked(token, "decimals()"): always("uint8", decimals),
        asked(feed, "aggregator()"): always("address", AGGREGATOR),
        asked(feed, "latestRoundData()"): latest,
    }


class World:
    """Contracts and logs of a chain in the place of an EvmSource; has the state from a block on."""

    def __init__(
        self, said: dict[EthCall, Said], chain: str = "ethereum", state_from: int = 0
    ) -> None:
        self.said = said
        self.profile = BY_NAME[chain]
        self.state_from = state_from
        self.logged: list[Log] = []
        self.asked_at: list[int] = []
        self.fault: SourceFault | None = None

    def block(self, number: int) -> BlockRef:
        return BlockRef(self.profile.name, number, f"0x{number:064x}", "", TIME + 12 * number)

    def head(self) -> BlockRef:
        return self.block(HEAD)

    def finalized(self) -> int:
        return HEAD - 100

    def call_many(self, calls: Sequence[EthCall], block: BlockRef) -> list[CallResult]:
        silent: Said = lambda _: REVERTED  # noqa: E731 - one line for what has no function
        return [self.said.get(call, silent)(block.number) for call in calls]

    def call_many_at(self, questions: Sequence[Question]) -> list[list[CallResult] | None]:
        if self.fault:
            raise self.fault
        heights = [
            one.block if isinstance(one.block, int) else one.block.number for one in questions
        ]
        self.asked_at += heights
        return [
            None if height < self.state_from else self.call_many(one.calls, self.block(height))
            for one, height in zip(questions, heights, strict=True)
        ]

    def logs_of_blocks(self, blocks: Sequence[tuple[BlockRef, LogFilter]]) -> list[tuple[Log, ...]]:
        return [
            tuple(
                log for log in self.logged if log.block_number == block.number and wanted.wants(log)
            )
            for block, wanted in blocks
        ]

    def logs(self, wanted: LogFilter, low: int, high: int) -> LogRange:
        found = tuple(
            log for log in self.logged if low <= log.block_number < high and wanted.wants(log)
        )
        times = {log.block_number: self.block(log.block_number).time for log in found}
        ends = self.block(low), self.block(high - 1)
        return LogRange(low, high, found, times, *ends, "unverified", "here")

    def answers(self, answer: int, number: int, log_index: int) -> None:
        self.logged.append(answer_log(answer, self.block(number), log_index))


def jumping(block: int) -> int:
    """2000 dollars, from block 1000 on 2100."""
    return 200_000_000_000 if block < 1_000 else 210_000_000_000


class Multicalled:
    """eth_call of a node of the `World`, with a Multicall3."""

    def __init__(self, world: World, blocks: list[Json]) -> None:
        self.world = world
        self.blocks = blocks

    def __call__(self, call: Json, at: Json) -> str:
        number = self._height(at)
        if number < self.world.state_from:
            raise RpcError(-32000, "missing trie node")
        if call["to"] != MULTICALL3:
            found = self._answer(EthCall(call["to"], call["data"]), number)
            if not found.is_ok:
                raise RpcError(3, "execution reverted")
            return "0x" + found.data.hex()
        (calls,) = abi.decode(["(address,bool,bytes)[]"], bytes.fromhex(call["data"][10:]))
        results = [self._answer(EthCall(to, "0x" + data.hex()), number) for to, _, data in calls]
        return "0x" + abi.encode(["(bool,bytes)[]"], [[(r.is_ok, r.data) for r in results]]).hex()

    def _answer(self, call: EthCall, number: int) -> CallResult:
        return self.world.call_many([call], self.world.block(number))[0]

    def _height(self, at: Json) -> int:
        if isinstance(at, str):
            return int(at, 16)
        return next(n for n, one in enumerate(self.blocks) if one["hash"] == at["blockHash"])


BLOCKS = 250
LOCAL = "aave_v3.anvil"
LOCAL_DECODER = Decoder(
    with_deployments(
        SPECS,
        b'[{"protocol":"aave_v3","chain":"anvil","address":"%s","role":"pool","source":"a test"}]'
        % MAIN.encode(),
    )
)


def on_wire(node: Node, number: int, log_index: int) -> LendingLiquidation:
    block = node.chain.ref(number)
    tx = f"0x{number:060x}{log_index:04x}"
    return LendingLiquidation(
        LOCAL, f"{tx}/{log_index}", number, block.hash, tx, log_index, MAIN, MAIN, "lending",
        "repay_seize", address("9"), None, None, Leg(TOKEN, 1), None, False, 1,
    )  # fmt: skip


def write_wire(connection: Connection, node: Node, found: Sequence[LendingLiquidation]) -> None:
    blocks = [node.chain.ref(number) for number in sorted({row.block_number for row in found})]
    times = {block.number: chain_rows.utc(block.time) for block in blocks}
    with connection.transaction():
        chain_rows.append_blocks(connection, blocks)
        chain_rows.append_liquidations(
            connection, chain_rows.pack_liquidations(connection, found, times)
        )


def write_case(connection: Connection, name: str) -> list[LendingLiquidation]:
    """The blocks, logs and rows of a golden case, as a follower writes them; gives the loans."""
    golden = msgspec.json.decode((GOLDEN / f"{name}.json").read_bytes(), type=Case)
    first = golden.logs[0]
    block = BlockRef(first.chain, first.block_number, first.block_hash, "", TIME)
    outcomes = DECODER.transaction(golden.logs, known(golden.facts), is_whole=golden.is_whole)
    found = [one for one in outcomes if isinstance(one, ChainRow)]
    times = {block.number: chain_rows.utc(block.time)}
    with connection.transaction():
        chain_rows.append_blocks(connection, [block])
        chain_rows.append_logs(
            connection, first.chain, [(log, None, golden.is_whole) for log in golden.logs]
        )
        chain_rows.append_facts(connection, [(fact, 1, None) for fact in golden.facts])
        chain_rows.append_liquidations(
            connection, chain_rows.pack_liquidations(connection, found, times)
        )
    return [one for one in found if isinstance(one, LendingLiquidation)]
