"""GMX v1 and v2: what the chain is asked, what has no token on its chain, and what looks alike."""

import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from eth_abi import abi
from eth_utils import keccak

from indexer.chain import redecode, sync
from indexer.chain_step import ChainStep, Knowledge, RawLog
from indexer.decode import Layout, layouts, load_abi
from indexer.evm_model import (
    NOBODY,
    Dismissed,
    Fact,
    Log,
    MissingFact,
    PerpMap,
    Sent,
    SiblingMap,
)
from indexer.inquiry import inquire
from indexer.store import proof
from indexer.store.database import Connection
from indexer.store.explain import explain
from indexer.venues.evm.gmx_v2 import KNOWN, Index
from tests.campaign import with_vault, world
from tests.chain_model.chain import Config, ModelChain
from tests.chain_model.faults import Faults
from tests.evm_logs import DECODER, GOLDEN, Case, known, recorded
from tests.fake_chain import NOTHING, Answers, FakeChain, asked, says
from tests.ledger_rows import in_order, rows
from tests.test_parts import published

VAULT = "0x489ee077994b6658eafa855c308275ead8097c4a"
MARKET, STORE, TOKEN = ("0x" + 40 * digit for digit in "123")
NAME = keccak(abi.encode(["string"], ["INDEX_TOKEN"]))
PLACE = keccak(abi.encode(["address", "bytes32"], [MARKET, NAME]))


def told(protocol: str, fact: str, subject: str, answers: Answers) -> tuple[Fact, ...]:
    ask = DECODER.spec_of(f"{protocol}.anywhere").asks[fact]
    inquiry = ask(MissingFact("arbitrum", fact, subject), ())
    return inquire({0: inquiry}, FakeChain(answers).call_many)[0]


# what the chain is asked


@pytest.mark.parametrize(
    ("answer", "coin"),
    [(says("string", "WETH"), "WETH"), (says("bytes32", b"MKR"), "MKR"), (NOTHING, None)],
)
def test_a_token_of_v1_says_its_symbol(answer: object, coin: str | None) -> None:
    answers: Answers = {asked(TOKEN, "symbol()"): answer}  # type: ignore[dict-item]
    assert told("gmx_v1", "gmx_v1_coin", TOKEN, answers) == (
        Fact("arbitrum", "gmx_v1_coin", TOKEN, coin),
    )


STORED: Answers = {
    asked(MARKET, "dataStore()"): says("address", STORE),
    asked(STORE, "getAddress(bytes32)", PLACE): says("address", TOKEN),
}
SYMBOL, DECIMALS = asked(TOKEN, "symbol()"), asked(TOKEN, "decimals()")


@pytest.mark.parametrize(
    ("answers", "value"),
    [
        ({SYMBOL: says("string", "W/E"), DECIMALS: says("uint8", 18)}, f"{TOKEN}/18/W/E"),
        ({SYMBOL: NOTHING, DECIMALS: NOTHING}, f"{TOKEN}//"),
        ({DECIMALS: says("uint256", 256)}, f"{TOKEN}//"),
    ],
)
def test_the_store_of_a_market_has_its_token(answers: Answers, value: str) -> None:
    found = told("gmx_v2", "gmx_v2_index", MARKET, STORED | answers)
    assert found == (Fact("arbitrum", "gmx_v2_index", MARKET, value),)


@pytest.mark.parametrize(
    "answers",
    [
        {},
        {asked(MARKET, "dataStore()"): says("address", NOBODY)},
        STORED | {asked(STORE, "getAddress(bytes32)", PLACE): says("address", NOBODY)},
    ],
)
def test_what_is_no_market_tells_nothing(answers: Answers) -> None:
    assert told("gmx_v2", "gmx_v2_index", MARKET, answers) == ()


# what has no token on its chain


@pytest.mark.parametrize(
    ("address", "index"),
    [
        # gmx-io/gmx-interface:sdk/src/configs/tokens.ts names both
        ("0x47904963fc8b2340414262125af798b9655e58cd", Index("BTC", 8)),
        ("0xc4da4c24fd591125c3f47b340b6f4f76111883d8", Index("DOGE", 8)),
        ("0x5503cf72f54b6d692d36bbcd391516a7de068687", Index("MEW", 5)),
        ("0x53186c8419beb83fe4da74f7875041a1287337ed", Index("ADA", 6)),
        ("0x938aef36caafbcb37815251b602168087ec14648", Index("TAO", 9)),
        ("0xe958f107b467d5172573f761d26931d658c1b436", Index("DOT", 10)),
        ("0x1e15d08f3ca46853b692ee28ae9c7a0b88a9c994", Index("ORDI", 18)),
        ("0x1ff7f3efbb9481cbd7db4f932cbcd4467144237c", Index("NEAR", 24)),
    ],
)
def test_what_has_no_token_is_known_by_the_address_that_its_symbol_makes(
    address: str, index: Index
) -> None:
    assert KNOWN["arbitrum", address] == index


def test_no_two_symbols_make_one_address() -> None:
    named = [(chain, index.symbol) for (chain, _), index in KNOWN.items()]
    assert (len(set(named)), len(named)) == (98, 98)


# what looks alike


def test_a_position_that_its_owner_closes_is_none(real_data: Path) -> None:
    """The vault logs DecreasePosition and ClosePosition, as for a liquidation with margin left."""
    lines = (real_data / "evm" / "not_liquidations.jsonl").read_text("utf-8").splitlines()
    (row,) = [row for row in map(json.loads, lines) if row["protocol"] == "gmx_v1"]
    logs = [recorded(log, row["chain_id"]) for log in row["receipt"]["logs"]]

    found = DECODER.transaction(logs, known([]), is_whole=True)

    assert [type(one) for one in found] == [Dismissed, Dismissed]
    assert [one.log for one in found] == [log for log in logs if log.log_index in (15, 16)]  # type: ignore[union-attr]
    assert VAULT in DECODER.addresses("gmx_v1.arbitrum")


def step_of(logs: Sequence[Log], whole: Sequence[Log] = ()) -> ChainStep:
    known_now = Knowledge(DECODER, ["gmx_v1.arbitrum"], {})
    return ChainStep(known_now, logs, {logs[0].tx_hash: whole} if whole else {})


def golden(name: str) -> Case:
    return msgspec.json.decode((GOLDEN / f"gmx_v1/{name}.json").read_bytes(), type=Case)


def test_of_a_close_that_its_router_explains_nothing_is_kept_or_asked() -> None:
    logs = golden("owner_closes_by_position_router").logs
    for step in (step_of(logs), step_of(logs, whole=logs)):
        assert (step.wants_calls(), step.wants_receipts(), step.raw()) == ({}, {}, [])


def test_what_only_the_call_explains_is_kept_with_the_call() -> None:
    case = golden("owner_closes_by_router")
    step = step_of(case.logs)
    waiting = step.wants_calls()
    sent = Sent.of(case.logs[0], known(case.facts))
    assert isinstance(sent, Sent)
    step.read_calls({case.logs[0].tx_hash: sent})

    assert waiting == {case.logs[0].tx_hash: case.logs[0]}
    assert (step.wants_calls(), step.undecoded(), step.liquidations()) == ({}, [], [])
    assert step.raw() == [RawLog(log, "gmx_v1.arbitrum", False) for log in case.logs]
    assert step.learnt() == [(case.facts[0], case.logs[0])]


def test_a_node_is_asked_for_the_orders_that_explain_closes() -> None:
    orders = {event.name: Layout(event).topic0 for event in load_abi("gmx_v1_orders.json")}
    wanted = DECODER.filter(["gmx_v1.arbitrum"])
    assert set(orders.values()) < wanted.topics0
    assert wanted.addresses is None


# the whole way


BOUGHT = "gmx_v1.arbitrum/0x" + 64 * "7" + "/3/0x" + 38 * "0" + "a1"


def test_a_row_is_made_again_of_its_logs_and_its_call_which_explain_shows(
    connection: Connection,
) -> None:
    case = golden("above_the_highest_leverage")
    published(connection, "gmx_v1.arbitrum", case.facts, case.logs, is_whole=False)

    found = {one.title: one.records for one in explain(connection, BOUGHT)}
    made = rows(connection, "SELECT account, liquidator, size, notional FROM ledger.liquidation")
    again = redecode.redecode(connection, DECODER, ["gmx_v1.arbitrum"])

    (sent,) = [fact.value for fact in case.facts if fact.fact == "transaction"]
    assert sent in [fact["value"] for fact in found["facts"]]
    account, keeper = ("0x" + 38 * "0" + end for end in ("a1", "b2"))
    assert made == [(account, keeper, Decimal(25), Decimal(49_000))]
    assert again["changed"] == 0


def test_a_close_whose_call_nobody_tells_is_seen_until_it_is_told(connection: Connection) -> None:
    case = golden("waits_for_its_transaction")
    published(connection, "gmx_v1.arbitrum", case.facts, case.logs, is_whole=False)
    tx = case.logs[0].tx_hash
    query = "SELECT reason, missing_fact, missing_subject FROM liq.undecoded"
    assert rows(connection, query) == [(f"waits for transaction of {tx}", "transaction", tx)]


def audited(connection: Connection) -> list[tuple[str, int, int]]:
    roles = DECODER.spec_of("gmx_v1.arbitrum").contracts["vault"]
    uses = [(layout.topic0, use) for layout, use in layouts(roles)]
    topics = proof.Topics(
        [topic for topic, use in uses if isinstance(use, PerpMap)],
        candidates=[topic for topic, use in uses if isinstance(use, SiblingMap)],
    )
    checked = proof.audit(connection, "gmx_v1.arbitrum", None, None, topics).checked
    return [(one.invariant, one.units, one.violated) for one in checked]


@pytest.mark.parametrize("name", ["above_the_highest_leverage", "owner_closes_by_router"])
def test_audit_asks_of_a_close_that_its_call_was_looked_at(
    connection: Connection, name: str
) -> None:
    case = golden(name)
    published(connection, "gmx_v1.arbitrum", case.facts, case.logs, is_whole=False)
    connection.execute(
        "INSERT INTO ledger.stream (chain, next_block, tip_hash, finalized_block, epoch)"
        " VALUES ('arbitrum', 2000, '0xtip', 1999, 1)"
    )
    before = {name: violated for name, _, violated in audited(connection)}
    connection.execute("DELETE FROM ledger.fact WHERE fact = 'transaction'")
    connection.execute("DELETE FROM ledger.liquidation")
    after = {name: violated for name, _, violated in audited(connection)}
    assert (before["log_has_row"], after["log_has_row"]) == (0, 2)


def test_candidates_of_a_busy_range_cost_few_requests(connection: Connection) -> None:
    """Of some hundred closes a third are candidates; the requests are those of the range."""
    chain = ModelChain(Config(seed=9, depth=0, empty_percent=0, often={"perpetual": 1}))
    chain.mine(120)
    with world(chain, [Faults()]) as at:
        first, head = chain.branch.blocks[0].number, chain.head.number
        venue, source = "gmx_v1.ethereum", at.source
        sync.backfill(connection, source, with_vault(), [venue], first, head + 1)
        ((calls,),) = rows(
            connection, "SELECT count(*) FROM ledger.fact WHERE fact = 'transaction'"
        )
        requests = source.endpoints.all[0].requests
    assert calls == 148
    assert requests <= 12  # 9: all calls came in one
    truth = in_order((row.account, row.liquidator) for row in chain.truth().rows)
    assert rows(connection, "SELECT account, liquidator FROM ledger.liquidation") == truth
