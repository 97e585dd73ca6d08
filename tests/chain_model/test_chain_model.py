"""The model is right by itself, its nodes do what they are told, and our client reads them."""

import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
import requests
from websockets.sync.client import connect

from indexer.decode import Decoder
from indexer.evm_model import (
    BlockRef,
    Decoded,
    FactKey,
    Leg,
    LendingLiquidation,
    Log,
    LogFilter,
    Quarantined,
    UndecodedLog,
)
from indexer.sources import wire
from indexer.sources.chains import BY_NAME
from indexer.sources.endpoints import BlockUnknown
from indexer.sources.evm import EvmSource
from indexer.venues.evm import specs
from tests.chain_model import bulk, faults, live
from tests.chain_model.chain import Block, Config, ModelChain, Receipt
from tests.chain_model.events import (
    ABSORB_COLLATERAL,
    ABSORB_DEBT,
    CREATE_MARKET,
    ETHEREUM,
    LIQUIDATE,
    LIQUIDATION_CALL,
    TRANSFER,
    Row,
    Stranger,
)
from tests.chain_model.faults import Fault, Faults
from tests.chain_model.node import RECEIPT_METHODS, Late, Limits, Node, View, comet_of
from tests.chain_model.render import sent

CHAIN = "ethereum"
EVENTS = (LIQUIDATION_CALL, CREATE_MARKET, LIQUIDATE, ABSORB_DEBT, ABSORB_COLLATERAL)
WANTED = LogFilter(frozenset(ETHEREUM[:3]), frozenset(EVENTS))
UNKNOWN = "0x" + 64 * "9"


def restless(seed: int = 1) -> ModelChain:
    """A chain after 20 reorgs of up to 6 blocks."""
    chain = ModelChain(Config(seed=seed))
    for turn in range(20):
        chain.mine(6)
        chain.fork(1 + turn % 6, 1 + turn % 6 + turn % 3)
    return chain


@pytest.fixture(scope="module")
def chain() -> ModelChain:
    return restless()


@pytest.fixture(scope="module")
def url(chain: ModelChain) -> Iterator[str]:
    with Node(chain, calls=comet_of(chain)) as node:
        yield node.url


@pytest.fixture
def source(url: str) -> Iterator[EvmSource]:
    with closing(EvmSource(BY_NAME[CHAIN], [url])) as source:
        yield source


def ask(url: str, method: str, *params: Any) -> Any:
    """The whole answer of a node."""
    body = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}
    return requests.post(url, json=body, timeout=5).json()


def result(url: str, method: str, *params: Any) -> Any:
    """The result alone."""
    return ask(url, method, *params)["result"]


# events


def test_the_model_shares_no_code_with_the_indexer() -> None:
    files = Path(__file__).parent.glob("*.py")
    uses = re.compile("^(from|import) indexer", re.MULTILINE)
    users = {path.name for path in files if uses.search(path.read_text("utf-8"))}
    assert users == {"test_chain_model.py"}


def test_the_topics_are_those_of_our_interfaces() -> None:
    decoder = Decoder(specs())
    venues = [f"{name}.{CHAIN}" for name in ("aave_v2", "morpho_blue", "comet")]
    ours = {topic for venue in venues for topic in decoder.topics(venue)}
    assert set(EVENTS) - ours == set()


def test_the_liquidation_call_has_the_topic_seen_on_chain() -> None:
    seen = "0xe413a321e8681d831f4dbccbca790d2952b56f977908e45be37335533e005286"
    assert seen == LIQUIDATION_CALL


def test_the_places_are_deployments() -> None:
    decoder = Decoder(specs())
    assert ETHEREUM.aave_v2 in decoder.addresses("aave_v2.ethereum")
    assert ETHEREUM.morpho_blue in decoder.addresses("morpho_blue.ethereum")
    assert ETHEREUM.comet in decoder.addresses("comet.ethereum")


# blocks


def test_a_header_hashes_to_its_hash(chain: ModelChain) -> None:
    headers = [wire.HEADER.decode(sent(block).header) for block in chain.known.values()]
    assert [header for header in headers if not header.is_genuine()] == []


def test_a_bloom_holds_every_log_and_excludes_most_others(chain: ModelChain) -> None:
    def may_hold(block: Block) -> bool:
        header = wire.HEADER.decode(sent(block).header)
        return wire.bloom_may_hold(header.logs_bloom, WANTED)

    def holds(block: Block) -> bool:
        return any(log.address in WANTED[0] and log.topics[0] in EVENTS for _, _, log in block.logs)

    blocks = chain.known.values()
    assert [block for block in blocks if holds(block) and not may_hold(block)] == []
    assert sum(may_hold(block) and not holds(block) for block in blocks) < len(blocks) / 20


def test_blocks_are_linked_and_times_never_run_backwards(chain: ModelChain) -> None:
    pairs = list(pairwise(chain.branch.blocks))
    assert [two for one, two in pairs if two.parent_hash != one.hash] == []
    assert [two for one, two in pairs if two.number != one.number + 1] == []
    assert [two for one, two in pairs if two.time < one.time] == []


def test_every_block_links_to_a_known_one(chain: ModelChain) -> None:
    first, *others = chain.known.values()
    assert [block for block in others if block.parent_hash not in chain.known] == []
    assert first.number == chain.config.first_block


def test_blocks_may_be_a_fraction_of_a_second_apart() -> None:
    times = [block.time for block in ModelChain(Config(block_seconds=0.4, started=100)).mine(6)]
    assert times == [100, 100, 101, 101, 102, 102]


def test_a_root_says_whether_there_are_transactions(chain: ModelChain) -> None:
    headers = [wire.HEADER.decode(sent(block).header) for block in chain.known.values()]
    empty = {header.hash for header in headers if header.receipts_root == wire.EMPTY_ROOT}
    assert empty == {header.hash for header in headers if not header.transactions}


def test_the_same_seed_makes_the_same_chain(chain: ModelChain) -> None:
    assert list(restless().known) == list(chain.known)
    assert list(restless(seed=2).known) != list(chain.known)


# truth


def receipts_of(chain: ModelChain) -> Iterator[list[Log]]:
    """The logs of each transaction of the chain, as our nouns."""
    for block in chain.branch.blocks:
        for receipt in block.receipts:
            yield [
                Log(CHAIN, *log, block.number, block.hash, receipt.transaction.hash, index)
                for index, log in enumerate(receipt.logs, receipt.first_log)
            ]


def decoded(chain: ModelChain) -> list[Decoded]:
    """What our decoder makes of the chain; it learns the markets on the way."""
    decoder = Decoder(specs())
    facts: dict[FactKey, str | None] = {(CHAIN, "underlying", ETHEREUM.comet): ETHEREUM.comet_base}
    outcomes: list[Decoded] = []
    for logs in receipts_of(chain):
        found = decoder.transaction(logs, facts, is_whole=True)
        facts |= {fact.key: fact.value for one in found for fact in getattr(one, "facts", ())}
        outcomes += found
    return outcomes


def as_row(one: LendingLiquidation) -> Row:
    """Our row in the words of the model."""
    repaid, seized = one.repaid or Leg(None, None), one.seized or Leg(None, None)
    part = one.event_key.removeprefix(f"{one.tx_hash}/{one.log_index}").removeprefix("/")
    return Row(
        *(one.venue, one.tx_hash, one.log_index, one.block_number, one.block_hash, one.account),
        *(one.liquidator, one.market, repaid.asset, repaid.raw, seized.asset, seized.raw),
        *(one.method, int(part or 0)),
    )


def as_stranger(log: Log) -> Stranger:
    """Our quarantined log in the words of the model."""
    place = (log.tx_hash, log.log_index, log.block_number, log.block_hash)
    return Stranger(*place, log.address, log.topics[0])


def test_the_decoder_makes_of_the_receipts_what_the_truth_says(chain: ModelChain) -> None:
    outcomes = decoded(chain)
    rows = [as_row(one) for one in outcomes if isinstance(one, LendingLiquidation)]
    strangers = [as_stranger(one.log) for one in outcomes if isinstance(one, Quarantined)]
    assert Counter(rows) == Counter(chain.truth().rows)
    assert strangers == chain.truth().strangers
    assert [one for one in outcomes if isinstance(one, UndecodedLog)] == []


def test_every_venue_and_shape_occurs(chain: ModelChain) -> None:
    truth = chain.truth()
    assert {row.venue for row in truth.rows} == {
        "aave_v2.ethereum",
        "morpho_blue.ethereum",
        "comet.ethereum",
    }
    assert {row.part for row in truth.rows} == {0, 1, 2}
    assert {row.seized_asset is None for row in truth.rows} == {True, False}
    assert truth.strangers != []


def test_the_truth_ends_at_the_height_asked_for(chain: ModelChain) -> None:
    height = chain.head.number - 30
    whole, part = chain.truth(), chain.truth(height)
    assert part.rows == [row for row in whole.rows if row.block_number <= height]
    assert part.strangers == [one for one in whole.strangers if one.block_number <= height]
    assert len(part.rows) < len(whole.rows)


# forks


def two_branches(chain: ModelChain) -> Iterator[tuple[Receipt, Block, Receipt, Block]]:
    """Transactions that are in an orphaned block and in a canonical one."""
    for tx_hash, blocks in chain.where.items():
        for one in blocks:
            for two in filter(chain.branch.has, blocks):
                if one is not two:
                    yield _receipt(one, tx_hash), one, _receipt(two, tx_hash), two


def _receipt(block: Block, tx_hash: str) -> Receipt:
    return next(one for one in block.receipts if one.transaction.hash == tx_hash)


def test_a_fork_replaces_the_last_blocks_and_their_rows() -> None:
    chain = ModelChain()
    chain.mine(20)
    before, head = chain.truth(), chain.head
    new = chain.fork(5, 6)
    after, common = chain.truth(), head.number - 5
    assert [block.number for block in new] == list(range(common + 1, common + 7))
    assert not chain.branch.has(head)
    assert chain.known[head.hash] is head
    assert chain.truth(common).rows == [row for row in before.rows if row.block_number <= common]
    assert {row.block_hash for row in after.rows} & {row.block_hash for row in before.rows} == (
        {row.block_hash for row in chain.truth(common).rows}
    )
    assert after.rows != before.rows


def test_a_transaction_comes_again_in_another_block_or_place(chain: ModelChain) -> None:
    pairs = list(two_branches(chain))
    assert any(one.number != two.number for _, one, _, two in pairs)
    assert any(one.first_log != two.first_log for one, _, two, _ in pairs)


def test_a_transaction_comes_again_with_other_contents(chain: ModelChain) -> None:
    assert any(one.transaction != two.transaction for one, _, two, _ in two_branches(chain))


def test_a_transaction_disappears(chain: ModelChain) -> None:
    gone = [tx for tx, blocks in chain.where.items() if not any(map(chain.branch.has, blocks))]
    assert gone != []


def test_no_transaction_is_twice_on_the_chain(chain: ModelChain) -> None:
    hashes = [receipt.transaction.hash for b in chain.branch.blocks for receipt in b.receipts]
    assert len(set(hashes)) == len(hashes)


def test_a_market_is_created_again_after_its_creation_was_orphaned(chain: ModelChain) -> None:
    creations = [
        (market, block)
        for block in chain.known.values()
        for receipt in block.receipts
        for market in receipt.transaction.creates
    ]
    orphaned = {market for market, block in creations if not chain.branch.has(block)}
    assert orphaned & {market for market, block in creations if chain.branch.has(block)} != set()


def test_a_liquidation_of_a_market_that_is_gone_reverts() -> None:
    chains = map(restless, range(3))
    receipts = [r for chain in chains for b in chain.known.values() for r in b.receipts]
    reverted = [receipt for receipt in receipts if not receipt.has_succeeded]
    assert reverted != []
    assert [receipt for receipt in reverted if receipt.logs] == []


def test_siblings_keep_their_transactions_or_lose_them() -> None:
    chain = ModelChain(Config(empty_percent=0))
    old = chain.mine(12)[-2:]
    new = chain.siblings([True, False])
    assert [block.number for block in new] == [block.number for block in old]
    assert new[0].receipts == ()
    assert [one.transaction for one in new[1].receipts] == [
        one.transaction for one in old[1].receipts
    ]
    assert new[1].hash != old[1].hash


def test_an_abandoned_branch_comes_back() -> None:
    chain = ModelChain()
    chain.mine(20)
    before = chain.truth()
    head = chain.head
    chain.fork(3)
    assert chain.truth() != before
    assert chain.revive(head.hash)[-1] is head
    assert chain.truth() == before


def test_what_is_final_stays_unless_the_test_wants_the_catastrophe() -> None:
    chain = ModelChain()
    chain.mine(20)
    assert chain.finalized == chain.head.number - 8
    with pytest.raises(ValueError, match="is final"):
        chain.fork(9)
    assert len(chain.fork(9, breaks_finality=True)) == 9


def test_a_height_is_made_final_by_hand() -> None:
    chain = ModelChain(Config(depth=None, first_block=100))
    chain.mine(20)
    assert chain.finalized == 100
    chain.finalize(115)
    assert chain.finalized == 115


# nodes


def test_a_node_answers_as_nodes_do(chain: ModelChain, url: str) -> None:
    head = chain.head
    assert result(url, "eth_chainId") == "0x1"
    assert result(url, "eth_blockNumber") == hex(head.number)
    assert result(url, "eth_getBlockByNumber", "latest", False)["hash"] == head.hash
    assert result(url, "eth_getBlockByNumber", "safe", False)["number"] == hex(chain.finalized)
    assert result(url, "eth_getBlockByNumber", hex(head.number + 1), False) is None
    assert result(url, "eth_getBlockByHash", head.parent_hash, False)["number"] == (
        hex(head.number - 1)
    )
    assert result(url, "eth_getBlockByHash", UNKNOWN, False) is None
    assert result(url, "eth_getBlockReceipts", UNKNOWN) is None
    assert result(url, "eth_getTransactionReceipt", UNKNOWN) is None
    assert ask(url, "eth_getLogs", {"blockHash": UNKNOWN})["error"] == {
        "code": -32000,
        "message": "unknown block",
    }
    assert ask(url, "eth_feeHistory")["error"]["code"] == -32601


def test_a_batch_is_answered_in_order(url: str) -> None:
    batch = [{"jsonrpc": "2.0", "id": n, "method": "eth_chainId"} for n in (3, 1, 2)]
    answers = requests.post(url, json=batch, timeout=5).json()
    assert answers == [{"jsonrpc": "2.0", "id": n, "result": "0x1"} for n in (3, 1, 2)]


def test_logs_are_filtered_by_address_and_topics(chain: ModelChain, url: str) -> None:
    everything = {"fromBlock": "earliest", "toBlock": hex(chain.head.number + 5)}
    strangers = everything | {"address": ETHEREUM.stranger, "topics": [LIQUIDATION_CALL]}
    found = result(url, "eth_getLogs", strangers)
    assert [log["transactionHash"] for log in found] == [
        one.tx_hash for one in chain.truth().strangers
    ]
    by_asset = strangers | {"topics": [None, found[0]["topics"][1:2]]}
    assert {log["topics"][1] for log in result(url, "eth_getLogs", by_asset)} == {
        found[0]["topics"][1]
    }
    assert result(url, "eth_getLogs", everything | {"topics": [[TRANSFER], None, None, "0x1"]}) == (
        []
    )


def test_receipts_hold_the_logs_of_their_block(chain: ModelChain, url: str) -> None:
    block = next(block for block in chain.branch.blocks if len(block.receipts) > 2)
    receipts = result(url, "eth_getBlockReceipts", block.hash)
    logs = [log for receipt in receipts for log in receipt["logs"]]
    assert logs == result(url, "eth_getLogs", {"blockHash": block.hash})
    assert [log["logIndex"] for log in logs] == [hex(at) for at in range(len(logs))]
    assert receipts[1] == result(
        url, "eth_getTransactionReceipt", block.receipts[1].transaction.hash
    )


def test_a_contract_answers_at_a_block_that_is_known(chain: ModelChain, url: str) -> None:
    asked = {"to": ETHEREUM.comet, "data": "0xc55dae63"}
    assert result(url, "eth_call", asked, "latest")[-40:] == ETHEREUM.comet_base[2:]
    assert result(url, "eth_call", asked | {"to": ETHEREUM.stranger}, "latest") == "0x"
    error = ask(url, "eth_call", asked, {"blockHash": UNKNOWN})["error"]
    assert error["message"] == "header for hash not found"


def test_a_node_refuses_what_it_does_not_serve(chain: ModelChain) -> None:
    with Node(chain, limits=Limits(unsupported=RECEIPT_METHODS)) as node:
        answer = ask(node.url, "eth_getBlockReceipts", chain.head.hash)
    assert answer["error"]["code"] == -32601


def test_too_many_logs_are_refused_with_a_range_that_fits(chain: ModelChain) -> None:
    low = chain.branch.blocks[0].number
    with Node(chain, limits=Limits(most_logs=40)) as node:
        wide = ask(node.url, "eth_getLogs", {"fromBlock": hex(low), "toBlock": "latest"})
        message = wide["error"]["message"]
        high = message.rpartition(", ")[2].removesuffix("].")
        fitting = result(node.url, "eth_getLogs", {"fromBlock": hex(low), "toBlock": high})
    assert message == (
        f"query returned more than 40 results. Try with this block range [{low:#x}, {high}]."
    )
    assert 30 < len(fitting) <= 40


def test_orphans_are_known_or_not(chain: ModelChain) -> None:
    orphan = next(block for block in chain.known.values() if not chain.branch.has(block))
    with Node([View(chain), View(chain, keeps_orphans=False)]) as node:
        answers = [result(node.url, "eth_getBlockByHash", orphan.hash, False) for _ in range(2)]
    assert [answer is not None for answer in answers] == [True, False]


def test_views_take_turns(chain: ModelChain) -> None:
    with Node([View(chain), View(chain, blocks_behind=3)]) as node:
        heads = [int(result(node.url, "eth_blockNumber"), 16) for _ in range(4)]
    head = chain.head.number
    assert heads == [head, head - 3, head, head - 3]


# faults


def busy_block(chain: ModelChain) -> Block:
    """With logs of several transactions, some of ours and some not."""
    return next(
        block
        for block in chain.branch.blocks[1:]
        if len({log.topics[0] for _, _, log in block.logs} & {LIQUIDATION_CALL, TRANSFER}) == 2
        and len(block.receipts) > 2
    )


def block_of(chain: ModelChain) -> Any:
    return ("eth_getBlockByHash", busy_block(chain).hash, False)


def head_of(chain: ModelChain) -> Any:
    return ("eth_getBlockByNumber", "latest", False)


def logs_of(chain: ModelChain) -> Any:
    wanted = {"blockHash": busy_block(chain).hash, "topics": [[*EVENTS]]}
    return ("eth_getLogs", wanted)


def all_logs_of(chain: ModelChain) -> Any:
    return ("eth_getLogs", {"blockHash": busy_block(chain).hash})


def unknown_logs_of(chain: ModelChain) -> Any:
    return ("eth_getLogs", {"blockHash": UNKNOWN})


def receipts_asked(chain: ModelChain) -> Any:
    return ("eth_getBlockReceipts", busy_block(chain).hash)


LIES: list[tuple[Fault, Callable[[ModelChain], Any]]] = [
    ("lagging_head", head_of),
    ("stale_fork", head_of),
    ("null_block", block_of),
    ("wrong_block", block_of),
    ("forged_block", block_of),
    ("empty_logs", logs_of),
    ("partial_logs", all_logs_of),
    ("duplicated_logs", logs_of),
    ("logs_of_another_block", logs_of),
    ("foreign_logs", logs_of),
    ("removed_logs", logs_of),
    ("empty_for_unknown", unknown_logs_of),
    ("null_receipts", receipts_asked),
    ("empty_receipts", receipts_asked),
    ("bare_receipts", receipts_asked),
    ("partial_receipts", receipts_asked),
]


def test_every_fault_has_a_test() -> None:
    assert {fault for fault, _ in LIES} | set(faults.TRANSPORT) == set(faults.ALL)


@pytest.mark.parametrize(("fault", "asks"), LIES)
def test_a_lie_is_told_once_and_counted(
    chain: ModelChain, fault: Fault, asks: Callable[[ModelChain], Any]
) -> None:
    told = Faults(script=[fault])
    with Node(chain, faults=told) as node:
        answers = [ask(node.url, *asks(chain)) for _ in range(3)]
    assert answers[0] != answers[1] == answers[2]
    assert told.served == {fault: 1}


@pytest.mark.parametrize(
    ("fault", "asks", "expected"),
    [
        ("empty_logs", logs_of, lambda honest: []),
        ("partial_logs", all_logs_of, lambda honest: honest[:1]),
        ("duplicated_logs", logs_of, lambda honest: honest + honest[:1]),
        ("removed_logs", logs_of, lambda honest: [log | {"removed": True} for log in honest]),
        ("empty_for_unknown", unknown_logs_of, lambda honest: []),
        ("bare_receipts", receipts_asked, lambda honest: [one | {"logs": []} for one in honest]),
        ("partial_receipts", receipts_asked, lambda honest: honest[:1]),
    ],
)
def test_a_lie_is_what_it_is_called(
    chain: ModelChain, fault: Fault, asks: Any, expected: Callable[[Any], Any]
) -> None:
    with Node(chain, faults=Faults(script=[fault])) as node:
        lie, honest = (ask(node.url, *asks(chain)).get("result") for _ in range(2))
    assert lie == expected(honest)


def test_a_forged_block_claims_the_hash_and_does_not_have_it(chain: ModelChain) -> None:
    block = busy_block(chain)
    with Node(chain, faults=Faults(script=["forged_block"])) as node:
        header = msgspec.convert(
            result(node.url, "eth_getBlockByHash", block.hash, False), wire.Header
        )
    assert (header.hash, header.number) == (block.hash, hex(block.number))
    assert not header.is_genuine()


@pytest.mark.parametrize(("fault", "status"), [("http_500", 500), ("http_429", 429)])
def test_a_status_is_served(chain: ModelChain, fault: Fault, status: int) -> None:
    with Node(chain, faults=Faults(script=[fault])) as node:
        answers = [requests.post(node.url, b"{}", timeout=5).status_code for _ in range(2)]
    assert answers == [status, 200]


def test_a_connection_is_dropped(chain: ModelChain) -> None:
    told = Faults(script=["dropped"])
    with Node(chain, faults=told) as node:
        with pytest.raises(requests.ConnectionError):
            ask(node.url, "eth_chainId")
        assert result(node.url, "eth_chainId") == "0x1"
    assert told.served == {"dropped": 1}


def test_json_is_truncated(chain: ModelChain) -> None:
    with Node(chain, faults=Faults(script=["truncated_json"])) as node:
        with pytest.raises(requests.JSONDecodeError):
            ask(node.url, "eth_chainId")
        assert result(node.url, "eth_chainId") == "0x1"


def test_chances_come_from_the_seed(chain: ModelChain) -> None:
    def told(seed: int) -> list[Any]:
        lies = Faults(faults.every(0.3, faults.LOGS), seed)
        with Node(chain, faults=lies) as node:
            return [ask(node.url, *logs_of(chain)) for _ in range(20)]

    assert told(1) == told(1)
    assert told(1) != told(2)


def test_one_source_of_proof_stays_honest(chain: ModelChain) -> None:
    lies = Faults(faults.every(1.0, faults.LOGS))
    block = busy_block(chain)
    with Node(chain, faults=lies) as node:
        receipts = result(node.url, "eth_getBlockReceipts", block.hash)
        logs = result(node.url, "eth_getLogs", {"blockHash": block.hash})
    assert sum(len(receipt["logs"]) for receipt in receipts) == len(list(block.logs))
    assert logs == []


# our client


def ref(block: Block) -> BlockRef:
    """A block as a noun of ours."""
    return BlockRef(CHAIN, block.number, block.hash, block.parent_hash, block.time)


def wanted_of(blocks: Iterable[Block]) -> list[Log]:
    """The logs that our filter wants, as nouns of ours."""
    found = [
        Log(CHAIN, *log, block.number, block.hash, receipt.transaction.hash, index)
        for block in blocks
        for receipt, index, log in block.logs
    ]
    return [log for log in found if WANTED.wants(log)]


def test_our_client_reads_the_whole_chain(chain: ModelChain, source: EvmSource) -> None:
    blocks = chain.branch.blocks
    found = source.some_logs(WANTED, blocks[0].number, chain.head.number + 1)
    assert list(found.logs) == wanted_of(blocks)
    assert found.times == {
        log.block_number: chain.branch.at(log.block_number).time for log in found.logs
    }
    assert (found.first, found.last) == (ref(blocks[0]), ref(blocks[-1]))
    assert source.head() == ref(chain.head)
    assert source.finalized() == chain.finalized


def test_our_client_proves_each_block_of_the_tip(chain: ModelChain, source: EvmSource) -> None:
    blocks = chain.branch.blocks[-40:]
    found = [source.logs_of_block(ref(block), WANTED) for block in blocks]
    assert [log for part in found for log in part.logs] == wanted_of(blocks)
    assert {part.proof for part in found} == {"receipts", "negative_bloom"}


def test_our_client_reads_receipts(chain: ModelChain, source: EvmSource) -> None:
    block = busy_block(chain)
    receipts = source.receipts(ref(block))
    assert [(one.tx_hash, one.has_succeeded, len(one.logs)) for one in receipts] == [
        (one.transaction.hash, one.has_succeeded, len(one.logs)) for one in block.receipts
    ]


def test_our_client_reads_receipts_one_by_one(chain: ModelChain) -> None:
    block = busy_block(chain)
    with (
        Node(chain, limits=Limits(unsupported={"eth_getBlockReceipts"})) as node,
        closing(EvmSource(BY_NAME[CHAIN], [node.url])) as source,
    ):
        receipts = source.receipts(ref(block))
    assert [log for one in receipts for log in one.logs if WANTED.wants(log)] == wanted_of([block])


def test_our_client_learns_that_a_block_is_unknown(chain: ModelChain) -> None:
    orphan = next(block for block in chain.known.values() if not chain.branch.has(block))
    with (
        Node([View(chain, keeps_orphans=False)]) as node,
        closing(EvmSource(BY_NAME[CHAIN], [node.url])) as source,
        pytest.raises(BlockUnknown),
    ):
        source.logs_of_block(ref(orphan), WANTED)


def test_our_client_follows_the_hint_of_a_refusal(chain: ModelChain) -> None:
    blocks = chain.branch.blocks
    with (
        Node(chain, limits=Limits(most_logs=60)) as node,
        closing(EvmSource(BY_NAME[CHAIN], [node.url])) as source,
    ):
        found = source.logs(WANTED, blocks[0].number, chain.head.number + 1)
    assert list(found.logs) == wanted_of(blocks)


# live


def test_late_logs_come_after_a_while() -> None:
    chain = ModelChain(Config(empty_percent=0))
    chain.mine(20)
    block = busy_block(chain)
    with Node(chain, late=Late(0.1)) as late, Node(chain, late=Late(0.1, logs=1)) as partial:
        early = [len(result(node.url, *all_logs_of(chain))) for node in (late, partial)]
        time.sleep(0.12)
        later = [len(result(node.url, *all_logs_of(chain))) for node in (late, partial)]
    assert early == [0, 1]
    assert later == [len(list(block.logs))] * 2


def test_receipts_are_not_late() -> None:
    chain = ModelChain(Config(empty_percent=0))
    chain.mine(20)
    with Node(chain, late=Late(60.0)) as node:
        receipts = result(node.url, *receipts_asked(chain))
    assert sum(len(one["logs"]) for one in receipts) == len(list(busy_block(chain).logs))


def test_a_live_chain_grows_and_is_reorganised() -> None:
    with live.playing("reorg", 20, seconds=0.005) as playing:
        assert playing.live.is_done.wait(5)
        head = result(playing.node.url, "eth_getBlockByNumber", "latest", False)
        orphan = next(b for b in playing.chain.known.values() if not playing.chain.branch.has(b))
        unknown = result(playing.node.url, "eth_getBlockByHash", orphan.hash, False)
    chain = playing.chain
    assert (playing.live.reorgs, len(chain.abandoned)) == (2, 2)
    assert head["hash"] == chain.head.hash
    assert chain.head.number == chain.config.first_block + 20 + 20
    assert unknown is None
    seen = [block.hash for block in chain.known.values()][21:]
    assert list(playing.live.visible_at) == seen
    assert len(seen) == 20 + 2 * 3


def test_a_live_node_may_lack_receipts() -> None:
    with live.playing("partial", 1, has_receipts=False) as playing:
        answer = ask(playing.node.url, "eth_getBlockReceipts", "latest")
    assert answer["error"]["code"] == -32601


def test_a_websocket_pushes_every_new_head() -> None:
    asked = {"jsonrpc": "2.0", "id": 1, "method": "eth_subscribe", "params": ["newHeads"]}
    with live.playing("plain", 12, seconds=0.02) as playing, connect(playing.heads_url) as socket:
        socket.send(msgspec.json.encode(asked).decode())
        subscribed = msgspec.json.decode(socket.recv())
        pushed = [msgspec.json.decode(text)["params"]["result"]["hash"] for text in socket]
    visible = list(playing.live.visible_at)
    assert subscribed == {"jsonrpc": "2.0", "id": 1, "result": "0x1"}
    assert len(pushed) > 5
    assert pushed == visible[-len(pushed) :]


# the long history

SMALL = bulk.Config(blocks=500, logs=1_000, empty=100, most_logs=300)


@pytest.fixture(scope="module")
def history() -> bulk.History:
    return bulk.History(SMALL)


def test_a_history_has_as_many_logs_as_asked_for(history: bulk.History) -> None:
    logs = msgspec.json.decode(history.logs(SMALL.first_block, SMALL.head))
    assert history.sums == bulk.Sums(
        logs=1_000,
        transactions=len({log["transactionHash"] for log in logs}),
        repaid_raw=sum(int(log["data"][2:66], 16) for log in logs),
        seized_raw=sum(int(log["data"][66:130], 16) for log in logs),
    )
    assert 800 < history.sums.transactions < 900


def test_our_client_reads_the_history_whole(history: bulk.History) -> None:
    wanted = LogFilter(frozenset({SMALL.emitter}), frozenset({LIQUIDATION_CALL}))
    first, end = SMALL.first_block, SMALL.first_block + SMALL.blocks
    node = bulk.BulkNode(history)
    with node.server, closing(EvmSource(BY_NAME[CHAIN], [node.server.url])) as source:
        found = source.logs(wanted, first, end)
        block = source.header(found.logs[0].block_number)
        tip = source.logs_of_block(block, wanted)
        finalized = source.finalized()
    assert len(found.logs) == 1_000
    assert found.times == {log.block_number: SMALL.time(log.block_number) for log in found.logs}
    assert sum(int(log.data[2:66], 16) for log in found.logs) == history.sums.repaid_raw
    assert tip.logs == tuple(log for log in found.logs if log.block_number == block.number)
    assert tip.proof == "receipts"
    assert finalized >= end
    assert node.stats()["calls"]["eth_getLogs"] > 4


def test_logs_may_come_without_times(history: bulk.History) -> None:
    bare = bulk.History(replace(SMALL, has_timestamps=False))
    first = SMALL.first_block
    logs, bare_logs = (msgspec.json.decode(one.logs(first, first + 9)) for one in (history, bare))
    assert bare_logs == [
        {name: value for name, value in log.items() if name != "blockTimestamp"} for log in logs
    ]


def test_a_history_is_served_by_a_process_of_its_own() -> None:
    command = [sys.executable, "-m", "tests.chain_model.bulk", "--blocks", "50", "--logs", "100"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        url = f"http://127.0.0.1:{process.stdout.readline().strip()}"
        head = result(url, "eth_blockNumber")
        stats = requests.get(f"{url}/stats", timeout=5).json()
        process.terminate()
    assert head == hex(16_000_000 + 50 + 200 - 1)
    assert (stats["requests"], stats["calls"], stats["logs"]) == (1, {"eth_blockNumber": 1}, 100)
