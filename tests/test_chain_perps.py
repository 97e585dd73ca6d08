"""Perpetuals of chains: from the log to the total, into the journal and back."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from indexer.chain import redecode
from indexer.decode import Decoder, Layout, load_abi, wanted_by
from indexer.evm_model import (
    BlockRef,
    Contract,
    Deployment,
    PerpLiquidation,
    PerpMap,
    Position,
    ProtocolSpec,
    Quarantined,
    Sibling,
    SiblingMap,
    UndecodedLog,
)
from indexer.report.story import sentence
from indexer.store import chain_coverage, episodes, proof, values
from indexer.store.chain_coverage import Seam
from indexer.store.database import Connection
from indexer.store.episodes import Place
from indexer.store.explain import explain
from tests.evm_logs import DECODER, encoded
from tests.ledger_rows import rows
from tests.oracle_world import TIME, write_case
from tests.test_venues import CHAIN, OURS, STRANGER, zero

VENUE = "synthetix_perps_v2.optimism"
ACCOUNT, KEEPER = ("0x" + 38 * "0" + end for end in ("a1", "b2"))
MARKET = "0x2b3bb4c683bfc5239b029131eef3b1d214478d93"
TX = "0x" + 64 * "7"
AT = datetime.fromtimestamp(TIME, UTC)
WORTH = Decimal("3750.0000000000000000125")  # 2.5 at 1500.000000000000000005

ROW = (
    "SELECT venue, event_key, account, block_number, block_at, tx_hash, method, market, dex, quote,"
    " side, size, price, notional, notional_entry, position_before, position_after, is_full_close,"
    " fee, fee_asset, margin_mode, counterparty_kind, liquidator, legs_seen FROM ledger.liquidation"
)
WHOLE = (
    VENUE, f"{TX}/0", ACCOUNT, 1000, AT, TX, "market", f"{MARKET}:ETH", "", "sUSD", "long",
    Decimal("2.5"), Decimal("1500.000000000000000005"), WORTH, None, Decimal("2.5"), Decimal(0),
    True, Decimal("5.1"), "sUSD", "isolated", "pool", KEEPER, "liquidated",
)  # fmt: skip


@pytest.fixture
def long(connection: Connection) -> Connection:
    """A long of 2.5 ETH, in block 1000 of which nothing is final yet."""
    connection.execute(
        "INSERT INTO ledger.stream (chain, next_block, tip_hash, finalized_block, epoch)"
        " VALUES ('optimism', 1001, '0xtip', 900, 1)"
    )
    write_case(connection, "synthetix_perps_v2/long")
    connection.execute("UPDATE ledger.raw_log SET venue = %s", (VENUE,))
    return connection


def finalize(connection: Connection) -> None:
    connection.execute("UPDATE ledger.stream SET finalized_block = 1000")


def covered(connection: Connection) -> None:
    seam = Seam(VENUE, DECODER.filter_hash(VENUE), 1, "perp")
    connection.execute(
        """
        INSERT INTO ledger.coverage (
            venue, facts, blocks, times, verification, decoder_version, filter_hash, parent_hash,
            last_hash, logs, digest, read_from
        ) SELECT %s, 'liquidations', '[990,1001)', tstzrange(%s, %s, '[]'), 'receipts', 1, %s,
                 '0xp', '0xtip', counted.logs, counted.digest, '{somebody}'
        FROM ledger.counted(%s, '[990,1001)') counted
        """,
        (VENUE, AT, AT, seam.filter_hash, VENUE),
    )
    connection.execute("INSERT INTO ledger.venue VALUES (%s, 'perp')", (VENUE,))


# -- from the log to the total -------------------------------------------------------------------


def test_a_liquidation_is_a_row_of_the_table_of_perpetuals(long: Connection) -> None:
    assert rows(long, ROW) == [WHOLE]


def test_it_is_worth_what_its_event_says_in_a_dollar_token(long: Connection) -> None:
    counts = values.value(long, venues=[VENUE])
    assert (counts["liquidations"], counts["written"]) == (1, 3)
    assert rows(
        long, "SELECT price_source, fill_usd, mark_usd, quote_quality FROM ledger.valuation"
    ) == [("par", WORTH, None, "A")]
    assert rows(long, "SELECT bases, reason FROM ledger.unvalued ORDER BY 1") == [
        (["mark"], "the record carries no mark price"),
        (["realised"], "the account's own leg was not seen"),
    ]


def test_what_an_event_has_in_dollars_needs_no_token_to_be_at_par(long: Connection) -> None:
    long.execute("UPDATE ledger.liquidation SET quote = 'usd'")
    values.value(long, venues=[VENUE])
    assert rows(long, "SELECT price_source, fill_usd FROM ledger.valuation ORDER BY 1") == [
        ("event", WORTH),
        ("par", WORTH),
    ]


def test_a_price_that_no_event_tells_is_no_value_and_a_reason(long: Connection) -> None:
    long.execute("UPDATE ledger.liquidation SET price = NULL, notional = NULL, quote = 'usd'")
    values.value(long, venues=[VENUE])
    assert rows(long, "SELECT fill_usd FROM ledger.valuation") == []
    assert ("no event tells the price of the close", ["fill"]) in rows(
        long, "SELECT reason, bases FROM ledger.unvalued"
    )


def total(connection: Connection, definition: str = "strict/v1") -> list[Any]:
    return rows(
        connection,
        "SELECT section, name, usd, long_usd, records, fills, accounts FROM liq.total("
        f"'{definition}', '{AT:%Y-%m-%d}', '{AT:%Y-%m-%d}'::date + 1 || '')"
        " WHERE section IN ('total', 'venue', 'asset', 'method', 'beside')",
    )


def test_a_total_counts_it_once_its_block_is_final(long: Connection) -> None:
    values.value(long, venues=[VENUE])
    before = total(long)
    finalize(long)
    assert before == [
        ("beside", "not_final", WORTH, WORTH, 1, None, 1),
        ("total", None, Decimal(0), None, 0, 0, 0),
    ]
    assert total(long) == [
        ("asset", "ETH", WORTH, WORTH, 1, None, 1),
        ("method", "market", WORTH, WORTH, 1, None, None),
        ("total", None, WORTH, WORTH, 1, 1, 1),
        ("venue", VENUE, WORTH, WORTH, 1, 1, 1),
    ]


def test_views_name_its_chain_and_whether_it_is_final(long: Connection) -> None:
    query = "SELECT chain, is_final, notional_usd FROM liq.liquidations"
    before = rows(long, query)
    finalize(long)
    assert (before, rows(long, query)) == (
        [("optimism", False, WORTH)],
        [("optimism", True, WORTH)],
    )


def test_explain_walks_from_the_log_to_the_value(long: Connection) -> None:
    values.value(long, venues=[VENUE])
    found = {one.title: one.records for one in explain(long, f"{VENUE}/{TX}/0/{ACCOUNT}")}
    assert found["published"][0]["emitter"] == MARKET
    assert found["facts"][0]["value"] == "ETH"
    assert found["row"][0]["size"] == Decimal("2.5")
    assert {level["level"] for level in found["part of"]} == {"order", "action", "episode"}
    assert [(one["basis"], one["usd"]) for one in found["worth"]] == [("fill", WORTH)]


def test_its_episode_names_no_order_book(long: Connection) -> None:
    with long.transaction():
        (story,) = episodes.read(long, [Place(VENUE, ACCOUNT, "", AT)], timedelta(minutes=15))
    assert "100.0 % taken by the pool or a liquidator" in sentence(story)


def test_audit_finds_the_row_of_its_log(long: Connection) -> None:
    covered(long)
    finalize(long)
    topics = proof.Topics(liquidations=DECODER.topics(VENUE))
    found = [(one.invariant, one.units, one.violated) for one in audit(long, topics)]
    long.execute("DELETE FROM ledger.liquidation")
    assert found == [("digest", 1, 0), ("log_has_row", 1, 0), ("row_has_log", 1, 0)]
    assert [(one.units, one.violated) for one in audit(long, topics)] == [(1, 0), (1, 1), (0, 0)]


def audit(connection: Connection, topics: proof.Topics) -> tuple[proof.Checked, ...]:
    return proof.audit(connection, VENUE, None, None, topics).checked


# -- away and back -------------------------------------------------------------------------------


def test_a_reorg_moves_it_into_the_journal_with_its_values(long: Connection) -> None:
    values.value(long, venues=[VENUE])
    covered(long)
    at = Position("optimism", 1001, "0xtip", 900, 1)
    parent = BlockRef("optimism", 998, "0xparent", "0xp", TIME)
    with long.transaction():
        chain_coverage.rewind(long, at, parent, 1000, "another branch")
    assert rows(long, ROW) == rows(long, "SELECT venue FROM ledger.valuation") == []
    assert rows(
        long,
        "SELECT venue, account, side, size, notional, quote, repaid_raw"
        " FROM liq.orphaned_liquidations",
    ) == [(VENUE, ACCOUNT, "long", Decimal("2.5"), WORTH, "sUSD", None)]
    assert rows(long, "SELECT liquidations FROM liq.reorgs") == [(1,)]


def test_rows_are_made_again_of_the_stored_logs(long: Connection) -> None:
    covered(long)
    long.execute("UPDATE ledger.liquidation SET price = 1")
    assert redecode.redecode(long, DECODER, [VENUE])["changed"] == 2
    assert rows(long, ROW) == [WHOLE]
    assert redecode.redecode(long, DECODER, [VENUE])["changed"] == 0


# -- events that mean more than liquidations -----------------------------------------------------


def spec(when: dict[str, tuple[Any, ...]]) -> ProtocolSpec:
    """Of an event with an address among its topics and a boolean in its data."""
    liquidated = PerpMap(account="user", market=("debtAsset",), when=when)
    return ProtocolSpec(
        name="chosen",
        kind="perp",
        contracts={"pool": Contract("aave_v2_pool.json", {"LiquidationCall": liquidated})},
        deployments=(Deployment(CHAIN, OURS, "chosen", "pool", None, "made up"),),
        methodology="",
    )


EVENT = next(one for one in load_abi("aave_v2_pool.json") if one.name == "LiquidationCall")
ARGS = {argument.name: zero(argument) for argument in EVENT.inputs}


def outcome(when: dict[str, tuple[Any, ...]], address: str = OURS, **args: Any) -> Any:
    log = encoded(EVENT, ARGS | args, chain=CHAIN, address=address)
    return Decoder([spec(when)]).decode(log, {})


@pytest.mark.parametrize(
    ("when", "args"),
    [
        pytest.param({"user": (STRANGER,)}, {"user": STRANGER}, id="topic"),
        pytest.param({"receiveAToken": (True,)}, {"receiveAToken": True}, id="data"),
        pytest.param({"debtToCover": (7, 8)}, {"debtToCover": 8}, id="one of two"),
    ],
)
def test_only_the_logs_with_the_chosen_value_are_ours(
    when: dict[str, tuple[Any, ...]], args: dict[str, Any]
) -> None:
    assert isinstance(outcome(when, **args), PerpLiquidation)
    assert outcome(when) is None
    assert isinstance(outcome(when, address=STRANGER, **args), Quarantined)
    assert outcome(when, address=STRANGER) is None


def test_logs_that_are_not_chosen_are_not_kept_either() -> None:
    when = {"receiveAToken": (True,)}
    decoder = Decoder([spec(when)])
    logs = [encoded(EVENT, ARGS | {"receiveAToken": is_ours}, chain=CHAIN, address=OURS)
            for is_ours in (True, False)]  # fmt: skip
    assert [decoder.venue_of(log, {}) for log in logs] == [f"chosen.{CHAIN}", None]
    assert decoder.filter_hash(f"chosen.{CHAIN}") != Decoder([spec({})]).filter_hash(
        f"chosen.{CHAIN}"
    )


def test_a_log_that_cannot_be_read_is_ours_and_says_why() -> None:
    log = encoded(EVENT, ARGS, chain=CHAIN, address=OURS)
    cut = msgspec.structs.replace(log, data=log.data[:-64])
    found = Decoder([spec({"receiveAToken": (True,)})]).decode(cut, {})
    assert isinstance(found, UndecodedLog)
    assert "bytes of data" in found.reason


def test_an_indexed_text_is_chosen_by_its_hash() -> None:
    """As GMX v2 names its events: keccak256("PositionDecrease") is the second topic."""
    named = msgspec.json.decode(
        b'{"type":"event","name":"Named","anonymous":false,"inputs":'
        b'[{"name":"name","type":"string","indexed":true}]}',
        type=type(EVENT),
    )
    wanted = wanted_by(Layout(named), {"name": ("PositionDecrease",)})
    # gmx-io/gmx-synthetics:contracts/position/PositionEventUtils.sol; hash as in the reference
    known = "0x07d51b51b408d7c62dcc47cc558da5ce6a6e0fd129a427ebce150f52b0e5171a"
    log = encoded(EVENT, ARGS, chain=CHAIN, address=OURS)
    assert wanted(msgspec.structs.replace(log, topics=(log.topics[0], known)))
    assert not wanted(msgspec.structs.replace(log, topics=(log.topics[0], log.topics[0])))


def only(is_ours: bool) -> ProtocolSpec:
    """Of an event whose arguments say together whether it is one."""

    def by_all(args: dict[str, Any]) -> bool:
        return args["debtToCover"] == 8 and args["receiveAToken"] is is_ours

    liquidated = PerpMap(account="user", market=("debtAsset",), only=by_all)
    contract = Contract("aave_v2_pool.json", {"LiquidationCall": liquidated})
    return msgspec.structs.replace(spec({}), contracts={"pool": contract})


def test_all_arguments_together_choose_where_no_single_value_does() -> None:
    decoder = Decoder([only(True)])
    logs = [
        encoded(EVENT, ARGS | {"debtToCover": covered, "receiveAToken": True}, chain=CHAIN,
                address=address)
        for address in (OURS, STRANGER)
        for covered in (8, 7)
    ]  # fmt: skip
    cut = msgspec.structs.replace(logs[1], data=logs[1].data[:-64])
    found = [type(decoder.decode(log, {})) for log in (*logs, cut)]
    assert found == [PerpLiquidation, type(None), Quarantined, type(None), UndecodedLog]
    assert [decoder.venue_of(log, {}) for log in logs[:2]] == [f"chosen.{CHAIN}", None]
    assert decoder.filter_hash(f"chosen.{CHAIN}") != Decoder([spec({})]).filter_hash(
        f"chosen.{CHAIN}"
    )


def test_a_join_sees_only_those_logs_of_others_that_are_chosen() -> None:
    seen: list[Any] = []

    def join(events: Any, facts: Any) -> Any:
        seen.extend(event.args["debtToCover"] for event in events if isinstance(event, Sibling))
        return ()

    chosen = SiblingMap(when={"debtToCover": (8,)})
    beside = Contract("aave_v2_pool.json", {"LiquidationCall": chosen})
    pool = {"debtToCover": (9,)}
    decoder = Decoder([msgspec.structs.replace(spec(pool), bystander=beside, join=join)])
    logs = [
        encoded(EVENT, ARGS | {"debtToCover": covered}, chain=CHAIN, address=OURS, log_index=at)
        for at, covered in enumerate((7, 8, 9))
    ]
    assert decoder.transaction(logs, {}, is_whole=True) == []
    assert seen == [8]


def test_a_node_is_asked_for_the_chosen_second_topic_where_all_venues_choose_one() -> None:
    """GMX v2 has one first topic for all that it logs; of another venue's event any will do."""
    emitted = "0x137a44067c8961cd7e1d876f4754a5a3a75989b4552f1843fc69c3b372def160"  # EventLog1
    chosen = "0x07d51b51b408d7c62dcc47cc558da5ce6a6e0fd129a427ebce150f52b0e5171a"
    alone = DECODER.filter(["gmx_v2.arbitrum"])
    both = DECODER.filter(["gmx_v2.arbitrum", "aave_v3.arbitrum"])

    assert (alone.topics0, alone.pairs) == ({emitted}, {(emitted, chosen)})
    assert both.pairs == alone.pairs
    assert both.topics0 == {emitted, *DECODER.topics("aave_v3.arbitrum")}
    assert [sorted(part.topics0) for part in both.parts(99)] == [
        sorted(DECODER.topics("aave_v3.arbitrum")), [emitted],
    ]  # fmt: skip
