"""Logs, headers, receipts and calls of one chain: nothing lost, nothing doubled, nothing wrong."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import msgspec
import pytest
from eth_abi.abi import decode, encode

from indexer.errors import SourceFault
from indexer.evm_model import CallResult, EthCall, Log, LogFilter, LogRange, Sent
from indexer.sources import multicall, wire
from indexer.sources.chains import BY_NAME, CHAINS, MULTICALL3, ChainProfile, profile_of
from indexer.sources.endpoints import BlockUnknown, NoAnswer, NotServed, Width
from indexer.sources.evm import EvmSource
from indexer.sources.refusals import Refusal
from tests.chain_model.chain import ModelChain
from tests.chain_model.faults import Faults
from tests.chain_model.node import Node as ModelNode
from tests.rpc_proxy import (
    OTHER_POOL,
    OTHER_TOPIC,
    POOL,
    SENDER,
    TOPIC,
    WANTED,
    Chain,
    FakeClock,
    Json,
    Node,
    RpcError,
    plays,
)
from tests.sources.conftest import two_logs

ANVIL = BY_NAME["anvil"]
NO_BLOOM = msgspec.structs.replace(ANVIL, bloom_is_complete=False)


Open = Callable[..., EvmSource]


@pytest.fixture
def opened(clock: FakeClock) -> Iterator[Open]:
    """Make a source of some nodes; their chain ids are proved before anything is played."""
    with ExitStack() as stack:

        def of(*nodes: Node, profile: ChainProfile = ANVIL) -> EvmSource:
            urls = [node.url for node in nodes]
            source = stack.enter_context(closing(EvmSource(profile, urls, clock=clock.clock)))
            source.chain_id()
            return source

        yield of


@pytest.fixture
def source(opened: Open, node: Node) -> EvmSource:
    return opened(node)


@pytest.fixture
def pair(opened: Open, node: Node, second: Node) -> EvmSource:
    return opened(node, second)


def places(logs: Any) -> list[tuple[int, int]]:
    return [(log.block_number, log.log_index) for log in logs]


ALL = [(number, at) for number in range(0, 40, 3) for at in (0, 1)]


# ranges


def test_a_range_is_read_whole(source: EvmSource, node: Node, chain: Chain) -> None:
    found = source.logs(WANTED, 0, 40)
    assert places(found.logs) == ALL
    assert found.times == {number: 1_700_000_000 + 12 * number for number in range(0, 40, 3)}
    assert (found.first, found.last) == (chain.ref(0), chain.ref(39))
    assert (found.proof, found.endpoint) == ("unverified", "127.0.0.1 #1")
    assert node.posts == 5  # two for the chain id; headers, logs, headers


def test_a_log_becomes_a_noun_in_lower_case(source: EvmSource, node: Node, chain: Chain) -> None:
    node.edit_result(
        lambda logs: [{**log, "address": "0x" + "AA" * 20} for log in logs], "eth_getLogs"
    )
    log = source.logs(WANTED, 3, 4).logs[1]
    assert log == wire.Log(
        chain="anvil",
        address=POOL,
        topics=(TOPIC, "0x" + "00" * 31 + "01"),
        data="0x" + "00" * 31 + "01",
        block_number=3,
        block_hash=chain.blocks[3]["hash"],
        tx_hash=chain.blocks[3]["transactions"][0],
        log_index=1,
    )


@plays("L01", "[] for a block whose bloom holds our address and topic", "its receipts decide")
def test_L01_an_empty_answer_against_the_bloom_is_settled_by_receipts(
    source: EvmSource, node: Node, chain: Chain
) -> None:
    node.result([], "eth_getLogs")
    found = source.logs_of_block(chain.ref(3), WANTED)
    assert (places(found.logs), found.proof) == ([(3, 0), (3, 1)], "receipts")


def test_L01_a_negative_bloom_of_a_genuine_header_proves_emptiness(
    source: EvmSource, node: Node, chain: Chain
) -> None:
    found = source.logs_of_block(chain.ref(4), WANTED)
    assert (found.logs, found.proof) == ((), "negative_bloom")
    assert node.count("eth_getBlockReceipts") == 0


def test_L01_a_forged_bloom_proves_nothing(source: EvmSource, node: Node, chain: Chain) -> None:
    """A field that we do not know hides that the header is forged, and makes its bloom no proof."""
    forged = {"logsBloom": "0x" + "00" * 256, "ofALaterFork": "0x1"}
    node.edit_result(lambda block: {**block, **forged}, "eth_getBlockByHash", times=2)
    node.result([], "eth_getLogs")
    found = source.logs_of_block(chain.ref(3), WANTED)
    assert (places(found.logs), found.proof) == ([(3, 0), (3, 1)], "receipts")


def test_L01_logs_that_the_bloom_excludes_are_refused(
    source: EvmSource, node: Node, chain: Chain
) -> None:
    lie = {**chain.logs[chain.blocks[3]["hash"]][0], "blockNumber": "0x4"}
    node.result([{**lie, "blockHash": chain.blocks[4]["hash"]}], "eth_getLogs")
    found = source.logs_of_block(chain.ref(4), WANTED)
    assert (found.logs, found.proof) == ((), "negative_bloom")
    assert source.endpoints.all[0].faults == {"Untrue": 1}


def test_L01_an_empty_range_of_one_block_is_proved_by_its_bloom(source: EvmSource) -> None:
    assert source.logs(WANTED, 4, 5).proof == "negative_bloom"


def test_L01_an_empty_range_is_confirmed_elsewhere(
    pair: EvmSource, node: Node, second: Node
) -> None:
    assert pair.logs(WANTED, 4, 6).proof == "second_endpoint"
    assert (node.count("eth_getLogs"), second.count("eth_getLogs")) == (1, 1)


def test_L01_an_empty_range_without_a_second_endpoint_is_unverified(source: EvmSource) -> None:
    assert source.logs(WANTED, 4, 6).proof == "unverified"


@plays("L05", "[] for old blocks that have logs", "a second endpoint is asked; receipts decide")
def test_L01_a_wrongly_empty_range_is_settled_by_receipts(pair: EvmSource, node: Node) -> None:
    node.result([], "eth_getLogs")
    found = pair.logs(WANTED, 2, 8)
    assert (places(found.logs), found.proof) == ([(3, 0), (3, 1), (6, 0), (6, 1)], "receipts")
    assert found.times == {3: 1_700_000_036, 6: 1_700_000_072}


@plays("L02", "1 of 2 logs of a block", "receipts at the tip; the second read of a check")
def test_L02_a_partial_answer_at_the_tip_is_completed(
    source: EvmSource, node: Node, chain: Chain
) -> None:
    node.edit_result(lambda logs: logs[:1], "eth_getLogs")
    found = source.logs_of_block(chain.ref(3), WANTED)
    assert (places(found.logs), found.proof) == ([(3, 0), (3, 1)], "receipts")


@plays("L24", "a range read leaves out a log that the block has", "a check; receipts decide")
def test_L02_a_check_finds_a_partial_range(pair: EvmSource, node: Node) -> None:
    node.edit_result(lambda logs: logs[:-1], "eth_getLogs")
    found = pair.some_logs(WANTED, 0, 40, is_check=True)
    assert (places(found.logs), found.proof) == (ALL, "receipts")


def test_L02_a_check_that_agrees_says_so(pair: EvmSource) -> None:
    assert pair.some_logs(WANTED, 0, 40, is_check=True).proof == "second_endpoint"


def test_L02_without_receipts_two_endpoints_must_agree(
    pair: EvmSource, node: Node, second: Node, chain: Chain
) -> None:
    node.error(-32601, "no such method", "eth_getBlockReceipts")
    node.error(-32601, "no such method", "eth_getTransactionReceipt")
    second.error(-32601, "no such method", "eth_getBlockReceipts")
    second.error(-32601, "no such method", "eth_getTransactionReceipt")
    assert pair.logs_of_block(chain.ref(3), WANTED).proof == "second_endpoint"
    node.edit_result(lambda logs: logs[:1], "eth_getLogs")
    with pytest.raises(NoAnswer, match="disagree"):
        pair.logs_of_block(chain.ref(6), WANTED)


@plays("L03", "the range ends above the head of the backend that answers", "ask elsewhere")
def test_L03_an_endpoint_that_lacks_the_last_block_has_no_say(
    pair: EvmSource, node: Node, second: Node
) -> None:
    node.chain = Chain(30, two_logs)
    found = pair.logs(WANTED, 20, 40)
    assert places(found.logs) == [place for place in ALL if place[0] >= 20]
    assert found.endpoint == "127.0.0.1 #2"
    assert node.count("eth_getLogs") == 0


def test_L03_beyond_the_head_of_all_is_an_error(source: EvmSource) -> None:
    with pytest.raises(BlockUnknown, match="block 49 is null"):
        source.logs(WANTED, 30, 50)


def test_L03_a_last_block_that_changes_meanwhile_discards_the_logs(
    pair: EvmSource, node: Node, chain: Chain
) -> None:
    fork = chain.forked(38)  # block 38 has no logs: only its header tells
    node.edit_result(lambda logs: setattr(node, "chain", fork) or logs, "eth_getLogs")
    found = pair.logs(WANTED, 30, 39)
    assert (found.endpoint, found.last) == ("127.0.0.1 #2", chain.ref(38))


@plays("L04", "[] for the logs of a block hash that the endpoint does not know", "not believed")
def test_L04_the_hash_must_be_known_where_the_logs_are_asked(
    source: EvmSource, node: Node, chain: Chain
) -> None:
    orphan = chain.forked(39).ref(39)
    node.result([], "eth_getLogs", times=9)
    with pytest.raises(BlockUnknown, match="is null"):
        source.logs_of_block(orphan, WANTED)


def test_L04_an_orphan_is_told_within_a_second(
    source: EvmSource, chain: Chain, clock: FakeClock
) -> None:
    with pytest.raises(BlockUnknown):
        source.logs_of_block(chain.forked(39).ref(39), WANTED)
    assert sum(clock.slept) < 1.0


@plays("L06", "error 4444: pruned history", "another endpoint, remembered; else an error")
def test_L06_pruned_history_is_asked_elsewhere(
    pair: EvmSource, node: Node, second: Node, clock: FakeClock
) -> None:
    node.error(4444, "pruned history unavailable", "eth_getLogs")
    assert len(pair.logs(WANTED, 0, 20).logs) == 14
    assert pair.endpoints.all[0].pruned_below == 1
    assert clock.slept == []


def test_L06_without_an_archive_the_error_says_so(source: EvmSource, node: Node) -> None:
    node.error(-32000, "old data not available due to pruning", "eth_getLogs")
    with pytest.raises(NotServed, match="due to pruning"):
        source.logs(WANTED, 5, 20)
    with pytest.raises(NotServed, match="no endpoint goes back to block 4"):
        source.logs(WANTED, 4, 20)
    assert len(source.logs(WANTED, 6, 20).logs) == 10


@plays("L07", "result null for eth_getLogs", "an error of the endpoint, never []")
def test_L07_null_is_not_empty(source: EvmSource, node: Node) -> None:
    node.result(None, "eth_getLogs")
    assert len(source.logs(WANTED, 0, 40).logs) == 28
    assert source.endpoints.all[0].faults == {"Untrue": 1}


def infura(wanted: Json) -> None:
    """At most 6 logs an answer, in Infura's words."""
    low, high = int(wanted["fromBlock"], 16), int(wanted["toBlock"], 16)
    if sum(two_logs(number) for number in range(low, high + 1)) > 6:
        raise RpcError(
            -32005,
            "query returned more than 6 results. "
            f"Try with this block range [{hex(low)}, {hex(low + 8)}].",
        )


def refusing(node: Node, refuse: Callable[[Json], None], monkeypatch: pytest.MonkeyPatch) -> None:
    honest = node.eth_getLogs

    def get_logs(wanted: Json) -> Json:
        refuse(wanted)
        return honest(wanted)

    monkeypatch.setattr(node, "eth_getLogs", get_logs)


def test_L08_the_hint_leads_through_the_range_without_waiting(
    source: EvmSource, node: Node, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing(node, infura, monkeypatch)
    assert places(source.logs(WANTED, 0, 40).logs) == ALL
    assert (node.count("eth_getLogs"), clock.slept) == (6, [])


def test_L08_a_refusal_in_unknown_words_is_an_error_not_a_hole(
    source: EvmSource, node: Node
) -> None:
    node.error(-32000, "computer says no", "eth_getLogs", times=99)
    with pytest.raises(NoAnswer, match="error -32000: computer says no"):
        source.logs(WANTED, 0, 40)


@plays("L09", "-32005 limit exceeded, which may mean rate or size", "one block as a probe")
def test_L09_an_ambiguous_limit_that_lets_one_block_pass_is_a_size(
    source: EvmSource, node: Node, clock: FakeClock
) -> None:
    node.error(-32005, "limit exceeded", "eth_getLogs")
    found = source.some_logs(WANTED, 0, 40)
    assert (found.block_to, clock.slept) == (20, [])


def test_L09_an_ambiguous_limit_that_stops_one_block_too_is_a_rate(
    source: EvmSource, node: Node, clock: FakeClock
) -> None:
    node.error(-32005, "limit exceeded", "eth_getLogs", times=2)
    found = source.some_logs(WANTED, 0, 40)
    assert (found.block_to, len(clock.slept)) == (40, 1)


@pytest.mark.parametrize("hint", ["30-10", "100-120", "0-39", "0-400", "5-45"])
@plays("L10", "a suggested range that is inverted, outside or not narrower", "half instead")
def test_L10_a_useless_hint_is_ignored(source: EvmSource, node: Node, hint: str) -> None:
    node.error(-32602, f"query exceeds max results 9, retry with the range {hint}", "eth_getLogs")
    assert source.some_logs(WANTED, 0, 40).block_to == 20


def too_large_by_number(wanted: Json) -> None:
    if "fromBlock" in wanted:
        raise RpcError(-32602, "Log response size exceeded.")


def too_large_for_two(wanted: Json) -> None:
    if "fromBlock" in wanted or len(wanted["address"]) > 1:
        raise RpcError(-32602, "Log response size exceeded.")


def too_large(wanted: Json) -> None:
    raise RpcError(-32602, "Log response size exceeded.")


@pytest.mark.parametrize(
    ("refuse", "proof"),
    [
        (too_large_by_number, "unverified"),
        (too_large_for_two, "unverified"),
        (too_large, "receipts"),
    ],
)
@plays("L11", "too large even for one block", "by hash, by half the addresses, by receipts")
def test_L11_one_large_block_is_read_in_other_ways(
    source: EvmSource,
    node: Node,
    clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
    refuse: Callable[[Json], None],
    proof: str,
) -> None:
    refusing(node, refuse, monkeypatch)
    wanted = LogFilter(frozenset({POOL, OTHER_POOL}), frozenset({TOPIC}))
    found = source.logs(wanted, 3, 4)
    assert (places(found.logs), found.proof, clock.slept) == ([(3, 0), (3, 1)], proof, [])


def test_L11_when_nothing_helps_it_is_an_error(
    source: EvmSource, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing(node, too_large, monkeypatch)
    node.error(-32601, "no such method", "eth_getBlockReceipts")
    node.error(-32601, "no such method", "eth_getTransactionReceipt")
    with pytest.raises(NoAnswer):
        source.logs(WANTED, 3, 4)


UNTRUE = [
    pytest.param(lambda logs: [*logs, logs[0]], id="L12"),
    pytest.param(lambda logs: [{**logs[0], "address": OTHER_POOL}, *logs[1:]], id="L13-address"),
    pytest.param(lambda logs: [{**logs[0], "topics": [OTHER_TOPIC]}, *logs[1:]], id="L13-topic"),
    pytest.param(lambda logs: [{**logs[0], "topics": []}, *logs[1:]], id="L13-no-topic"),
    pytest.param(lambda logs: [*logs, {**logs[0], "blockNumber": "0x28"}], id="L13-range"),
    pytest.param(lambda logs: [{**logs[0], "blockHash": TOPIC}, *logs[1:]], id="L14-mixed"),
    pytest.param(
        lambda logs: [{**log, "blockHash": TOPIC} for log in logs[:2]] + logs[2:], id="L14-other"
    ),
    pytest.param(lambda logs: [{**logs[0], "removed": True}, *logs[1:]], id="L15"),
    pytest.param(lambda logs: [{**logs[0], "transactionHash": None}, *logs[1:]], id="L18-null"),
    pytest.param(
        lambda logs: [{**logs[0], "transactionHash": "0x" + "00" * 32}, *logs[1:]], id="L18-zero"
    ),
    pytest.param(lambda logs: [{**logs[0], "logIndex": "0xfffffff7"}, *logs[1:]], id="T27"),
    pytest.param(lambda logs: [{**logs[0], "logIndex": "0x1"}, *logs[1:]], id="L16"),
    pytest.param(lambda logs: [{**logs[0], "data": "0x123"}, *logs[1:]], id="odd-data"),
    pytest.param(lambda logs: [{**logs[0], "data": None}, *logs[1:]], id="no-data"),
    pytest.param(
        lambda logs: [{**logs[0], "topics": [TOPIC, "0x" + "zz" * 32]}, *logs[1:]],
        id="topic-that-is-no-hex",
    ),
    pytest.param(lambda logs: {"logs": logs}, id="no-list"),
    pytest.param(lambda logs: "0x", id="text"),
]


@pytest.mark.parametrize("lie", UNTRUE)
def test_an_answer_that_cannot_be_right_is_discarded_whole(
    pair: EvmSource, node: Node, lie: Callable[[Json], Json]
) -> None:
    node.edit_result(lie, "eth_getLogs")
    found = pair.logs(WANTED, 0, 40)
    assert (places(found.logs), found.endpoint) == (ALL, "127.0.0.1 #2")
    assert pair.endpoints.all[0].faults == {"Untrue": 1}


def refused(pair: EvmSource, node: Node, lie: Callable[[Json], Json]) -> bool:
    """Whether a lie of one endpoint is seen and the answer taken from the other."""
    node.edit_result(lie, "eth_getLogs")
    found = pair.logs(WANTED, 0, 40)
    return (places(found.logs), found.endpoint) == (ALL, "127.0.0.1 #2")


@plays("L12", "the same log twice in one answer", "the answer is discarded; ask elsewhere")
def test_L12_a_double_log_discards_the_answer(pair: EvmSource, node: Node) -> None:
    assert refused(pair, node, lambda logs: [*logs, logs[0]])


@plays("L13", "logs of another address, topic or block than asked", "discarded; ask elsewhere")
def test_L13_a_log_that_was_not_asked_for_discards_the_answer(pair: EvmSource, node: Node) -> None:
    assert refused(pair, node, lambda logs: [{**logs[0], "address": OTHER_POOL}, *logs[1:]])


@plays("L14", "two block hashes at one height, or not that of the header", "ask elsewhere")
def test_L14_an_answer_of_two_forks_is_discarded(pair: EvmSource, node: Node) -> None:
    assert refused(pair, node, lambda logs: [{**logs[0], "blockHash": TOPIC}, *logs[1:]])


def test_L14_a_fork_in_the_middle_is_seen_when_times_are_looked_up(
    pair: EvmSource, node: Node, chain: Chain
) -> None:
    fork = chain.forked(20, two_logs)
    stale = fork.logs[fork.blocks[21]["hash"]]

    def mixed(logs: Json) -> Json:
        kept = [log for log in logs if log["blockNumber"] != hex(21)] + stale
        return [{**log, "blockTimestamp": None} for log in kept]

    assert refused(pair, node, mixed)


@plays("L15", "removed: true in eth_getLogs", "the answer is discarded; ask elsewhere")
def test_L15_a_removed_log_discards_the_answer(pair: EvmSource, node: Node) -> None:
    assert refused(pair, node, lambda logs: [{**logs[0], "removed": True}, *logs[1:]])


@plays("B27", "a log of a transaction that is not in its block", "discarded; ask elsewhere")
def test_B27_a_log_of_a_foreign_transaction_discards_the_answer(
    pair: EvmSource, node: Node, chain: Chain
) -> None:
    node.edit_result(lambda logs: [{**logs[0], "transactionHash": TOPIC}], "eth_getLogs")
    found = pair.logs_of_block(chain.ref(3), WANTED)
    assert (places(found.logs), found.endpoint) == ([(3, 0), (3, 1)], "127.0.0.1 #2")
    assert pair.endpoints.all[0].faults == {"Untrue": 1}


@plays("L16", "two logs of a block with one index", "the answer is discarded; ask elsewhere")
def test_L16_a_double_index_discards_the_answer(pair: EvmSource, node: Node) -> None:
    assert refused(pair, node, lambda logs: [{**logs[0], "logIndex": "0x1"}, *logs[1:]])


@plays("L18", "transactionHash null or zero", "the answer is discarded; ask elsewhere")
def test_L18_a_log_without_a_transaction_discards_the_answer(pair: EvmSource, node: Node) -> None:
    assert refused(pair, node, lambda logs: [{**logs[0], "transactionHash": None}, *logs[1:]])


@plays("T27", "logIndex 0xfffffff7", "the answer is discarded; ask elsewhere")
def test_T27_an_absurd_index_discards_the_answer(pair: EvmSource, node: Node) -> None:
    assert refused(pair, node, lambda logs: [{**logs[0], "logIndex": "0xfffffff7"}, *logs[1:]])


@plays("L17", "another endpoint numbers the logs of a block one higher", "taken as agreement")
def test_L17_shifted_log_numbers_are_no_disagreement(pair: EvmSource, second: Node) -> None:
    second.edit_result(
        lambda logs: [{**log, "logIndex": hex(int(log["logIndex"], 16) + 1)} for log in logs],
        "eth_getLogs",
    )
    assert pair.some_logs(WANTED, 0, 40, is_check=True).proof == "second_endpoint"


TIMES = [
    pytest.param(lambda log: {**log, "blockTimestamp": None}, id="null"),
    pytest.param(lambda log: {**log, "blockTimestamp": "0x0"}, id="zero"),
    pytest.param(
        lambda log: {key: log[key] for key in log if key != "blockTimestamp"}, id="missing"
    ),
    pytest.param(lambda log: {**log, "blockTimestamp": hex(1_700_000_001)}, id="wrong"),
]


@pytest.mark.parametrize("change", TIMES)
@plays("L19", "blockTimestamp missing, zero or wrong", "times from headers, in one batch")
def test_L19_times_come_from_headers_where_logs_do_not_tell(
    source: EvmSource, node: Node, change: Callable[[Json], Json]
) -> None:
    node.edit_result(lambda logs: [change(log) for log in logs], "eth_getLogs")
    found = source.logs(WANTED, 0, 40)
    assert found.times == {number: 1_700_000_000 + 12 * number for number in range(0, 40, 3)}
    assert node.posts == 6


@plays("L20", "logs in descending order", "sorted by block and index")
def test_L20_logs_are_sorted(source: EvmSource, node: Node) -> None:
    node.edit_result(lambda logs: logs[::-1], "eth_getLogs")
    assert places(source.logs(WANTED, 0, 40).logs) == ALL


@plays("L21", "a chain whose bloom is useless", "the bloom is not looked at; receipts decide")
def test_L21_a_useless_bloom_is_no_proof(opened: Open, node: Node, chain: Chain) -> None:
    source = opened(node, profile=NO_BLOOM)
    assert source.logs_of_block(chain.ref(4), WANTED).proof == "receipts"


@plays("L22", "receipts of transactions that the header leaves out", "the profile says so: taken")
def test_L22_logs_of_system_transactions_are_in_no_bloom(
    opened: Open, node: Node, chain: Chain
) -> None:
    own = msgspec.structs.replace(NO_BLOOM, system_transactions=True)
    (moved,) = node.eth_getBlockReceipts(chain.blocks[3]["hash"])
    logs = [{**log, "transactionHash": TOPIC, "blockHash": chain.blocks[4]["hash"],
             "blockNumber": "0x4"} for log in moved["logs"]]  # fmt: skip
    system = {"transactionHash": TOPIC, "blockHash": chain.blocks[4]["hash"], "logs": logs}
    node.edit_result(lambda sent: [*sent, {**moved, **system}], "eth_getBlockReceipts")
    found = opened(node, profile=own).logs_of_block(chain.ref(4), WANTED)
    assert (places(found.logs), found.proof) == ([(4, 0), (4, 1)], "receipts")


@plays("L23", "headers that are served before their bloom is ready", "the profile says so")
def test_L23_blooms_are_proof_only_where_a_source_says_so() -> None:
    trusted = {profile.name for profile in CHAINS if profile.bloom_is_complete}
    assert trusted == {"ethereum", "optimism", "base", "unichain", "gnosis", "anvil"}


@plays("L26", "none: our own requests are looked at", "bounds are numbers or a hash, never tags")
def test_L26_ranges_have_numeric_bounds(source: EvmSource, node: Node, chain: Chain) -> None:
    source.logs(WANTED, 0, 40)
    source.logs_of_block(chain.ref(3), WANTED)
    asked = [params[0] for method, params in node.asked if method == "eth_getLogs"]
    assert [{**one, "topics": 0, "address": 0} for one in asked] == [
        {"fromBlock": "0x0", "toBlock": "0x27", "topics": 0, "address": 0},
        {"blockHash": chain.blocks[3]["hash"], "topics": 0, "address": 0},
    ]


def test_an_empty_filter_is_refused_by_ourselves(source: EvmSource) -> None:
    with pytest.raises(ValueError, match="would mean: everything"):
        source.logs(LogFilter(frozenset(), frozenset({TOPIC})), 0, 40)


def test_a_filter_without_addresses_reads_all_emitters(source: EvmSource, node: Node) -> None:
    assert len(source.logs(LogFilter(None, frozenset({TOPIC})), 0, 40).logs) == 28
    assert "address" not in node.asked[-4][1][0]


def test_an_event_that_means_more_is_asked_for_by_its_second_topic(
    source: EvmSource, node: Node, chain: Chain
) -> None:
    """As GMX v2 logs all that it does under one first topic."""
    second = "0x" + f"{1:064x}"
    wanted = LogFilter(None, frozenset({TOPIC, OTHER_TOPIC}), frozenset({(TOPIC, second)}))
    by_range = places(source.logs(wanted, 0, 40).logs)
    asked = [params[0]["topics"] for method, params in node.asked if method == "eth_getLogs"]
    by_hash = places(source.logs_of_block(chain.ref(3), wanted).logs)
    by_receipts = places(source.logs_by_receipts(chain.ref(3), wanted).logs)

    assert by_range == [place for place in ALL if place[1] == 1]
    assert asked == [[[OTHER_TOPIC]], [[TOPIC], [second]]]
    assert by_hash == by_receipts == [(3, 1)]


def test_a_bloom_is_asked_for_the_second_topic_too(chain: Chain) -> None:
    bloom = chain.blocks[3]["logsBloom"]
    pairs = [frozenset({(TOPIC, f"0x{second:064x}")}) for second in (1, 7)]
    filters = [LogFilter(None, frozenset({TOPIC}), one) for one in (frozenset(), *pairs)]

    assert [wire.bloom_may_hold(bloom, one) for one in filters] == [True, True, False]


@plays("T25", "too many addresses (by text, or HTTP 413)", "the list in halves, all must succeed")
def test_T25_a_long_address_list_is_split(
    source: EvmSource, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(wanted: Json) -> None:
        if len(wanted["address"]) > 3:
            raise RpcError(-32602, "exceed max addresses or topics per search position")

    refusing(node, refuse, monkeypatch)
    pools = {f"0x{number:040x}" for number in range(9)}
    found = source.logs(LogFilter(frozenset({*pools, POOL}), frozenset({TOPIC})), 0, 40)
    assert (places(found.logs), source.endpoints.all[0].terms) == (ALL, 3)


# width


def test_width_doubles_until_it_was_refused_then_grows_by_a_tenth() -> None:
    width = Width(100, 10_000)
    width.served(100, 5)
    width.served(200, 5)
    width.refused(Refusal("too_many"), 0, 400)
    halved = width.blocks
    width.served(200, 5)
    assert (halved, width.blocks) == (200, 220)


def test_width_never_grows_beyond_a_stated_limit() -> None:
    width = Width(1_000, 1_000_000)
    width.refused(Refusal("too_wide", blocks=(800,)), 0, 1_000)
    width.served(800, 0)
    width.served(800, 0)
    assert width.blocks == 800


def test_width_does_not_grow_into_a_known_limit_of_logs() -> None:
    width = Width(1_000, 1_000_000)
    width.refused(Refusal("too_many", logs=10_000), 0, 1_000)
    width.served(500, 9_900)
    assert width.blocks == 500


def test_width_of_a_hint_that_fails_again_is_one_less() -> None:
    assert Refusal("too_wide", blocks=(2_048,)).width(0, 2_048) == 2_047


# headers


@plays("B07", "finalized goes back, is null, or the tag is not served", "the highest ever; depth")
def test_B07_finalized_never_goes_backwards(source: EvmSource, node: Node) -> None:
    first = source.finalized()
    node.finalized = 20
    assert (first, source.finalized()) == (30, 30)


def test_B07_without_the_tag_depth_counts(opened: Open, node: Node) -> None:
    node.error(-32000, "finalized is not a supported commitment level", "finalized")
    shallow = msgspec.structs.replace(ANVIL, depth=7)
    assert opened(node, profile=shallow).finalized() == 32


def test_B07_a_null_tag_is_no_tag(opened: Open, node: Node) -> None:
    node.finalized = None
    shallow = msgspec.structs.replace(ANVIL, depth=7)
    assert opened(node, profile=shallow).finalized() == 32


@plays("B08", "a chain that does not honour its tag", "the profile has depth instead")
def test_B08_the_tag_is_not_asked_where_it_is_not_honoured(opened: Open, node: Node) -> None:
    deep = msgspec.structs.replace(ANVIL, finality=None, depth=7)
    assert opened(node, profile=deep).finalized() == 32
    assert node.asked[-1] == ("eth_getBlockByNumber", ["latest", False])


def test_B09_a_block_that_is_null_below_the_head_is_asked_for_again(
    source: EvmSource, node: Node, chain: Chain
) -> None:
    node.result(None, "eth_getBlockByNumber")
    assert source.header(20) == chain.ref(20)


@plays("B11", "another block than asked for", "discarded; ask elsewhere")
def test_B11_another_block_is_refused(pair: EvmSource, node: Node, chain: Chain) -> None:
    node.result(chain.blocks[19], "eth_getBlockByNumber")
    assert pair.header(20) == chain.ref(20)
    assert pair.endpoints.all[0].faults == {"Untrue": 1}


@plays("B12", "a batch of headers from two forks", "discarded; ask elsewhere")
def test_B12_headers_that_do_not_link_are_refused(
    pair: EvmSource, node: Node, chain: Chain
) -> None:
    fork = chain.forked(5)
    node.edit(lambda replies: [{**replies[0], "result": fork.blocks[5]}, *replies[1:]])
    assert pair.headers([5, 6, 7]) == [chain.ref(5), chain.ref(6), chain.ref(7)]
    assert pair.endpoints.all[0].faults == {"Untrue": 1}


@pytest.mark.parametrize("time", [0, 1_900_000_000])
@plays("B14", "a block time of zero, in the future, or running backwards", "ask elsewhere")
def test_B14_an_impossible_time_is_refused(
    opened: Open, node: Node, second: Node, chain: Chain, time: int
) -> None:
    strict = msgspec.structs.replace(ANVIL, future_seconds=86_400)
    source = opened(node, second, profile=strict)
    node.edit_result(lambda block: {**block, "timestamp": hex(time)}, "eth_getBlockByNumber")
    assert source.header(20) == chain.ref(20)
    assert source.endpoints.all[0].faults == {"Untrue": 1}


@plays("B21", "receipts null, too few, or of another block", "ask elsewhere")
@pytest.mark.parametrize(
    "change",
    [
        lambda sent: None,
        lambda sent: [],
        lambda sent: [None],
        lambda sent: [{**sent[0], "blockHash": TOPIC}],
        lambda sent: [{**sent[0], "transactionHash": TOPIC}],
        lambda sent: [{**sent[0], "logs": sent[0]["logs"][1:]}],
        lambda sent: [{**sent[0], "logs": sent[0]["logs"][:1]}],
        lambda sent: [{**sent[0], "logs": []}],
    ],
)
def test_B21_incomplete_receipts_are_refused(
    pair: EvmSource, node: Node, second: Node, chain: Chain, change: Callable[[Json], Json]
) -> None:
    node.edit_result(change, "eth_getBlockReceipts")
    found = pair.receipts(chain.ref(3))
    assert [places(one.logs) for one in found] == [[(3, 0), (3, 1)]]
    assert second.count("eth_getBlockReceipts") == 1


@plays("B22", "a header with a transactions root and no transactions", "ask elsewhere")
def test_B22_a_block_without_its_transactions_is_refused(
    pair: EvmSource, node: Node, chain: Chain
) -> None:
    node.edit_result(lambda block: {**block, "transactions": []}, "eth_getBlockByNumber")
    assert pair.header(21) == chain.ref(21)
    assert pair.endpoints.all[0].faults == {"Untrue": 1}


def test_B21_receipts_without_logs_are_refused_by_the_bloom_of_their_block(
    clock: FakeClock,
) -> None:
    chain = ModelChain()
    chain.mine(9)
    faults = Faults(script=["bare_receipts"])
    with (
        ModelNode(chain, faults=faults) as node,
        closing(EvmSource(BY_NAME["ethereum"], [node.url], clock=clock.clock)) as source,
    ):
        block = source.header(next(one.number for one in chain.branch.blocks if [*one.logs]))
        found = source.receipts(block)
    assert (faults.served, source.endpoints.all[0].faults) == ({"bare_receipts": 1}, {"Untrue": 1})
    assert [log.log_index for one in found for log in one.logs] == [
        index for _, index, _ in chain.known[block.hash].logs
    ]


@plays("B23", "a header that does not hash to its hash", "ask elsewhere; its bloom is no proof")
@pytest.mark.parametrize(
    "read", [EvmSource.header_by_hash, lambda source, block: source.receipts(source.header(7))]
)
def test_B23_another_blocks_fields_under_a_hash_are_refused(
    pair: EvmSource, node: Node, chain: Chain, read: Callable[[EvmSource, str], object]
) -> None:
    claimed = {name: chain.blocks[7][name] for name in ("hash", "number")}
    node.result({**chain.blocks[6], **claimed}, "eth_getBlockByHash")
    read(pair, chain.blocks[7]["hash"])
    assert pair.endpoints.all[0].faults == {"Untrue": 1}


def test_B23_a_header_of_a_later_fork_is_not_taken_for_forged(
    source: EvmSource, node: Node, chain: Chain
) -> None:
    later = {"blockAccessListHash": TOPIC, "hash": TOPIC}  # EIP-7928
    node.result({**chain.blocks[7], **later}, "eth_getBlockByHash")
    expected = msgspec.structs.replace(chain.ref(7), hash=TOPIC)
    assert source.header_by_hash(TOPIC) == expected


def test_B23_headers_of_chains_that_hash_otherwise_are_not_hashed(
    opened: Open, node: Node, chain: Chain
) -> None:
    source = opened(node, profile=msgspec.structs.replace(ANVIL, has_ethereum_headers=False))
    node.result({**chain.blocks[7], "hash": TOPIC}, "eth_getBlockByHash")
    assert source.header_by_hash(TOPIC).hash == TOPIC


def test_B23_a_header_is_genuine_when_it_hashes_to_its_hash() -> None:
    genesis = wire.Header(  # of Ethereum: yellow paper, appendix I
        number="0x0",
        hash="0xd4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3",
        parent_hash="0x" + "00" * 32,
        timestamp="0x0",
        logs_bloom="0x" + "00" * 256,
        sha3_uncles="0x1dcc4de8dec75d7aab85b567b6ccd41ad312451b948a7413f0a142fd40d49347",
        miner="0x" + "00" * 20,
        state_root="0xd7f8974fb5ac78d9ac099b9ad5018bedc2ce0a72dad1827a1709da30580f0544",
        transactions_root=wire.EMPTY_ROOT,
        receipts_root=wire.EMPTY_ROOT,
        difficulty="0x400000000",
        gas_limit="0x1388",
        gas_used="0x0",
        extra_data="0x11bbe8db4e347b4e8c937c1c8370e4b5ed33adb3db69cbdb7a38e1e50b1b82fa",
        mix_hash="0x" + "00" * 32,
        nonce="0x0000000000000042",
    )
    forged = msgspec.structs.replace(genesis, logs_bloom="0x" + "ff" * 256)
    assert (genesis.is_genuine(), forged.is_genuine()) == (True, False)


# receipts


def known(chain: Chain, number: int, **changes: object) -> dict[str, list[Log]]:
    """The only transaction of a block, and the first of its logs."""
    sent = msgspec.convert(chain.logs[chain.blocks[number]["hash"]][:1], list[wire.WireLog])
    (found,) = wire.check_logs(sent, "anvil", None, number, number + 1).logs
    return {found.tx_hash: [msgspec.structs.replace(found, **changes)]}


def test_whole_transactions_are_read_in_one_request(
    source: EvmSource, node: Node, chain: Chain
) -> None:
    posts = node.posts
    found = source.transactions(known(chain, 3) | known(chain, 6))
    assert [places(logs) for logs in found.values()] == [[(3, 0), (3, 1)], [(6, 0), (6, 1)]]
    assert node.posts == posts + 1


def test_no_transactions_are_no_request(source: EvmSource, node: Node) -> None:
    posts = node.posts
    assert (source.transactions({}), node.posts) == ({}, posts)


OF_ANOTHER = [
    pytest.param(lambda sent: None, "Missing", id="null"),
    pytest.param(lambda sent: {**sent, "transactionHash": TOPIC}, "Untrue", id="transaction"),
    pytest.param(lambda sent: {**sent, "blockHash": TOPIC}, "Untrue", id="block"),
    pytest.param(
        lambda sent: {**sent, "logs": [{**log, "transactionHash": TOPIC} for log in sent["logs"]]},
        "Untrue",
        id="logs-of-another-transaction",
    ),
    pytest.param(
        lambda sent: {**sent, "logs": [{**log, "blockHash": TOPIC} for log in sent["logs"]]},
        "Untrue",
        id="logs-of-another-block",
    ),
    pytest.param(
        lambda sent: {**sent, "logs": [{**log, "blockNumber": "0x4"} for log in sent["logs"]]},
        "Untrue",
        id="logs-of-another-height",
    ),
    pytest.param(lambda sent: {**sent, "logs": sent["logs"][1:]}, "Untrue", id="a-log-left-out"),
]


@pytest.mark.parametrize(("change", "fault"), OF_ANOTHER)
def test_the_receipt_of_something_else_is_asked_elsewhere(
    pair: EvmSource, node: Node, chain: Chain, change: Callable[[Json], Json], fault: str
) -> None:
    node.edit_result(change, "eth_getTransactionReceipt")
    found = pair.transactions(known(chain, 3))
    assert [places(logs) for logs in found.values()] == [[(3, 0), (3, 1)]]
    assert [one.faults for one in pair.endpoints.all] == [{fault: 1}, {}]


def test_a_transaction_that_nobody_knows_is_an_error(source: EvmSource, chain: Chain) -> None:
    (logs,) = known(chain, 3, tx_hash=TOPIC).values()
    with pytest.raises(BlockUnknown, match="a receipt is null"):
        source.transactions({TOPIC: logs})


def test_the_receipt_of_a_moved_transaction_is_an_error(source: EvmSource, chain: Chain) -> None:
    with pytest.raises(NoAnswer, match="of another block"):
        source.transactions(known(chain, 3, block_hash=TOPIC))


# calls that transactions are


def firsts(chain: Chain, *numbers: int) -> dict[str, Log]:
    """The first log of the only transaction of each block."""
    return {tx: logs[0] for number in numbers for tx, logs in known(chain, number).items()}


def test_what_many_transactions_are_is_read_in_one_request(
    source: EvmSource, node: Node, chain: Chain
) -> None:
    posts, logs = node.posts, firsts(chain, *range(3, 40, 3))
    found = source.sent(logs)
    assert found == {
        tx: Sent(SENDER, POOL, f"0x{log.block_number:08x}") for tx, log in logs.items()
    }
    assert (len(found), node.posts) == (13, posts + 1)


def test_no_transaction_at_all_is_no_request(source: EvmSource, node: Node) -> None:
    posts = node.posts
    assert (source.sent({}), node.posts) == ({}, posts)


def test_a_transaction_that_makes_a_contract_is_sent_to_nobody(
    source: EvmSource, node: Node, chain: Chain
) -> None:
    node.edit_result(lambda sent: {**sent, "to": None}, "eth_getTransactionByHash")
    assert list(source.sent(firsts(chain, 3)).values()) == [Sent(SENDER, "", "0x00000003")]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        pytest.param(lambda sent: None, "Missing", id="null"),
        pytest.param(lambda sent: {**sent, "hash": TOPIC}, "Untrue", id="transaction"),
        pytest.param(lambda sent: {**sent, "blockHash": TOPIC}, "Untrue", id="block"),
        pytest.param(lambda sent: {**sent, "blockHash": None}, "Untrue", id="pending"),
        pytest.param(lambda sent: {**sent, "input": "0x123"}, "Untrue", id="half-a-byte"),
        pytest.param(lambda sent: {**sent, "from": "0x12"}, "Untrue", id="sender"),
    ],
)
def test_another_transaction_than_was_asked_for_is_asked_elsewhere(
    pair: EvmSource, node: Node, chain: Chain, change: Callable[[Json], Json], fault: str
) -> None:
    node.edit_result(change, "eth_getTransactionByHash")
    (found,) = pair.sent(firsts(chain, 3)).values()
    assert found == Sent(SENDER, POOL, "0x00000003")
    assert [one.faults for one in pair.endpoints.all] == [{fault: 1}, {}]


def of_receipts(chain: Chain, logs: tuple[Log, ...], whole: dict[str, tuple[Log, ...]]) -> LogRange:
    """Block 3 as its receipts have it."""
    block = chain.ref(3)
    return LogRange(
        block_from=3, block_to=4, logs=logs, times={3: block.time} if logs else {}, first=block,
        last=block, proof="receipts", endpoint="127.0.0.1 #1", whole=whole,
    )  # fmt: skip


def test_the_receipts_of_a_block_have_its_wanted_logs_and_whole_transactions(
    source: EvmSource, chain: Chain
) -> None:
    found = source.logs_by_receipts(chain.ref(3), WANTED)
    assert found == of_receipts(chain, found.logs, dict.fromkeys(known(chain, 3), found.logs))
    assert places(found.logs) == [(3, 0), (3, 1)]


def test_receipts_without_a_wanted_log_are_an_empty_range(source: EvmSource, chain: Chain) -> None:
    other = LogFilter(None, frozenset({OTHER_TOPIC}))
    assert source.logs_by_receipts(chain.ref(3), other) == of_receipts(chain, (), {})


@pytest.mark.parametrize(("change", "fault"), OF_ANOTHER)
def test_receipts_one_by_one_that_are_of_something_else_are_asked_elsewhere(
    pair: EvmSource, node: Node, chain: Chain, change: Callable[[Json], Json], fault: str
) -> None:
    node.error(-32601, "no such method", "eth_getBlockReceipts")
    node.edit_result(change, "eth_getTransactionReceipt")
    found = pair.logs_by_receipts(chain.ref(3), WANTED)
    assert (places(found.logs), found.endpoint) == ([(3, 0), (3, 1)], "127.0.0.1 #2")
    assert pair.endpoints.all[0].faults == {fault: 1}


def test_an_endpoint_without_receipts_leaves_them_to_another(
    pair: EvmSource, node: Node, chain: Chain
) -> None:
    node.error(-32601, "no such method", "eth_getBlockReceipts")
    node.error(-32601, "no such method", "eth_getTransactionReceipt")
    found = pair.logs_by_receipts(chain.ref(3), WANTED)
    assert (places(found.logs), found.endpoint) == ([(3, 0), (3, 1)], "127.0.0.1 #2")


def test_a_header_by_hash(source: EvmSource, chain: Chain) -> None:
    assert source.header_by_hash(chain.blocks[7]["hash"]) == chain.ref(7)


@plays("B24", "a chain that answers old state with the newest", "calls there are refused")
def test_B24_old_state_is_not_asked_where_it_is_not_served(opened: Open, node: Node) -> None:
    forgetful = msgspec.structs.replace(ANVIL, serves_old_state=False, depth=5)
    source = opened(node, profile=forgetful)
    with pytest.raises(SourceFault, match="no endpoint tells the state at block 3"):
        source.call_many([EthCall(POOL, "0x")], 3)


# calls

CALLS = [EthCall(POOL, f"0x0{number}") for number in range(5)]


def word(data: str) -> bytes:
    return bytes.fromhex(data[2:]).rjust(32, b"\0")


def answer_singly(call: Json) -> str:
    """Every contract returns its call data; 0x03 reverts."""
    if call["data"] == "0x03":
        raise RpcError(3, "execution reverted: no")
    return "0x" + word(call["data"]).hex()


class Contracts:
    """eth_call with a Multicall3; `starved` calls fail in it although they are fine."""

    def __init__(self, starved: tuple[str, ...] = (), most: int = 100) -> None:
        self.starved = starved
        self.most = most

    def __call__(self, call: Json, _: Json) -> str:
        if call["to"] != MULTICALL3:
            return answer_singly(call)
        (asked,) = decode(["(address,bool,bytes)[]"], bytes.fromhex(call["data"][10:]))
        if len(asked) > self.most:
            raise RpcError(-32000, "out of gas")
        pairs = []
        for _target, _may_fail, data in asked:
            text = "0x" + data.hex()
            fails = text == "0x03" or text in self.starved
            pairs.append((not fails, b"" if fails else word(text)))
        return "0x" + encode(["(bool,bytes)[]"], [pairs]).hex()


EXPECTED = [
    CallResult(is_ok=True, data=word("0x00")),
    CallResult(is_ok=True, data=word("0x01")),
    CallResult(is_ok=True, data=word("0x02")),
    CallResult(is_ok=False, data=b""),
    CallResult(is_ok=True, data=word("0x04")),
]


@pytest.mark.parametrize("contracts", [Contracts(), Contracts(("0x01",)), Contracts(most=2)])
def test_many_calls_go_through_multicall(
    source: EvmSource, node: Node, monkeypatch: pytest.MonkeyPatch, contracts: Contracts
) -> None:
    monkeypatch.setattr(node, "eth_call", contracts)
    assert source.call_many(CALLS, 30) == EXPECTED


def test_without_multicall_calls_are_asked_in_a_batch(
    source: EvmSource, node: Node, chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        node,
        "eth_call",
        lambda call, _: "0x" if call["to"] == MULTICALL3 else answer_singly(call),
    )
    posts = node.posts
    assert source.call_many(CALLS, chain.ref(30)) == EXPECTED
    assert node.posts == posts + 2
    at = {"blockHash": chain.blocks[30]["hash"], "requireCanonical": True}
    assert node.asked[-1] == ("eth_call", [{"to": POOL, "data": "0x04"}, at])


def test_an_error_that_is_no_revert_is_not_taken_for_an_answer(
    source: EvmSource, node: Node, clock: FakeClock
) -> None:
    node.error(-32000, "header not found", "eth_call", times=99)
    with pytest.raises(BlockUnknown):
        source.call_many(CALLS, 30)


def test_a_multicall_with_too_few_results_is_refused() -> None:
    returned = encode(["(bool,bytes)[]"], [[(True, b"")]])
    with pytest.raises(wire.Untrue, match="one result a call"):
        multicall.results(returned, 2)


# chains


def test_each_chain_is_there_once() -> None:
    assert len({profile.name for profile in CHAINS}) == len(CHAINS)
    assert len({profile.chain_id for profile in CHAINS}) == len(CHAINS)


def test_an_unknown_chain_takes_nothing_on_trust() -> None:
    profile = profile_of("katana")
    assert (profile.bloom_is_complete, profile.depth) == (False, 256)
