"""dYdX v4 from a node of our own making to rows, coverage, totals and proofs in a real database.
Everything that it publishes is made up; see `dydx_node`."""

import json
import os
import signal
import subprocess
import sys
from base64 import b64decode
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from indexer.dydx_format import (
    Block,
    Perpetual,
    Result,
    fields,
    operations,
    perpetual_of,
    perpetual_request,
)
from indexer.model import Liquidation, RawEvent, Undecoded
from indexer.store.database import Connection
from indexer.venues import dydx as venue
from tests.conftest import Command
from tests.dydx_node import ALICE, BOB, CAROL, DAVE, GENESIS, Dydx, Fill, event, tx_hash
from tests.ledger_rows import in_order, rows
from tests.processes import following, soon, stopped
from tests.rpc_proxy import Http

# 0.5 BTC of Alice's long sold to two makers at 60,000 and 59,990; she pays 1.5 % of the first to
# the insurance fund, and the fund pays 2 USDC of the second. Bob pays a maker's and a builder's
# fee.
FIRST = Fill(
    (ALICE, 0), (BOB, 0), 0, -3_000_000_000, 18_000_000_000, "liquidation",
    maker_fee=1_800_000, insurance=270_000_000, builder_fee=90_000,
)  # fmt: skip
SECOND = Fill(
    (ALICE, 0), (CAROL, 128), 0, -2_000_000_000, 11_998_000_000, "liquidation",
    insurance=-2_000_000,
)  # fmt: skip
# Dave's short of 2 ETH bought back at 4,000 from Bob, without any fee.
SHORT = Fill((DAVE, 3), (BOB, 0), 1, 2_000_000_000, 8_000_000_000, "liquidation")
# Carol's long of 1,230 PEPE, whose quantum is ten, given to Bob at the bankruptcy price.
DELEVERAGED = Fill((CAROL, 0), (BOB, 1), 7, -123, 12_300, "deleveraging")
SETTLED = Fill((CAROL, 0), (DAVE, 0), 7, -50, 5_000, "settlement")
ORDINARY = Fill((BOB, 0), (CAROL, 0), 0, 1_000_000_000, 6_000_000_000, taker_fee=3_000_000)


@pytest.fixture
def dydx() -> Iterator[Dydx]:
    """Blocks 100 to 119, with forced trades in three of them and an ordinary one."""
    with Dydx() as node:
        node.fills = {
            103: [ORDINARY, FIRST, SECOND],
            105: [ORDINARY],
            110: [SHORT],
            112: [DELEVERAGED, SETTLED],
        }
        yield node


def backfill(
    command: Command, node: Dydx, low: int = 100, high: int = 119, **environment: str
) -> tuple[int, str, str]:
    """What the command said of some blocks; the last block's results are left for later."""
    done = command(
        "backfill", "dydx", "--from", low, "--to", high, RPC_DYDX=node.url, **environment
    )
    return done.returncode, done.stdout, done.stderr


def told(blocks: int, liquidations: int, undecoded: int = 0, settlements: int = 0) -> str:
    return (
        f"dydx_v4: {blocks} new blocks, {liquidations} liquidations, {undecoded} undecoded,"
        f" {settlements} final settlements left out\n"
    )


ROWS = """
    SELECT event_key, account, block_number, block_at, tx_hash, method, market, quote, side, size,
           price, notional, fee, fee_asset, order_id, counterparty, counterparty_kind, legs_seen
    FROM ledger.liquidation WHERE venue = 'dydx_v4'
"""


def row(node: Dydx, height: int, place: int, *said: Any) -> tuple[Any, ...]:
    """A row of ROWS; `place` is that of its event among those of the block's transactions."""
    tx = tx_hash(node.fills[height])
    account, method, market, side, size, price, notional, fee, order, other, kind = said
    at = GENESIS + timedelta(seconds=height - 100, microseconds=123456)
    return (
        f"{height}/{tx}/{place}", account, height, at, tx, method, market, "USDC", side,
        Decimal(size), Decimal(price), Decimal(notional), Decimal(fee), "USDC",
        f"{height}/{account}/{order}", other, kind, "both",
    )  # fmt: skip


def expected(node: Dydx) -> list[tuple[Any, ...]]:
    """Worked out by hand from the fills above."""
    return in_order([
        row(node, 103, 2, f"{ALICE}:0", "market", "BTC-USD:BTC", "long", "0.3", "60000", "18000",
            "270", 0, f"{BOB}:0", "maker"),
        row(node, 103, 3, f"{ALICE}:0", "market", "BTC-USD:BTC", "long", "0.2", "59990", "11998",
            "-2", 0, f"{CAROL}:128", "maker"),
        row(node, 110, 1, f"{DAVE}:3", "market", "ETH-USD:ETH", "short", "2", "4000", "8000",
            "0", 1, f"{BOB}:0", "maker"),
        row(node, 112, 1, f"{CAROL}:0", "adl_of_user", "PEPE-USD:PEPE", "long", "1230", "0.00001",
            "0.0123", "0", 7, f"{BOB}:1", "adl_winner"),
    ])  # fmt: skip


def coverage(connection: Connection) -> list[tuple[Any, ...]]:
    return rows(
        connection,
        "SELECT lower(blocks), upper(blocks), verification FROM ledger.coverage"
        " WHERE (venue, facts) = ('dydx_v4', 'liquidations')",
    )


# -- rows ----------------------------------------------------------------------------------------


def test_every_forced_fill_becomes_the_row_that_it_was(
    quick_indexer: Command, connection: Connection, dydx: Dydx
) -> None:
    assert backfill(quick_indexer, dydx) == (0, told(19, 4, 0, 1), "")

    assert rows(connection, ROWS) == expected(dydx)
    assert rows(connection, "SELECT * FROM ledger.undecoded") == []
    assert coverage(connection) == [(100, 119, "every_height")]


def test_doing_it_again_reads_nothing_and_changes_nothing(
    quick_indexer: Command, connection: Connection, dydx: Dydx
) -> None:
    backfill(quick_indexer, dydx, 100, 108)
    dydx.asked.clear()

    assert backfill(quick_indexer, dydx) == (0, told(11, 2, 0, 1), "")
    assert backfill(quick_indexer, dydx) == (0, told(0, 0), "")

    read = sorted(height for method, height in dydx.asked if method == "block")
    assert read == list(range(108, 119))
    assert rows(connection, ROWS) == expected(dydx)
    assert coverage(connection) == [(100, 119, "every_height")]


def test_the_raw_event_is_what_was_published(
    quick_indexer: Command, connection: Connection, dydx: Dydx
) -> None:
    backfill(quick_indexer, dydx)

    stored = rows(connection, "SELECT event_key, body FROM ledger.raw_event WHERE chain='dydx_v4'")

    btc, pepe = tx_hash(dydx.fills[103]), tx_hash(dydx.fills[112])
    assert [key for key, _ in stored] == [
        f"103/{btc}/2", f"103/{btc}/3", f"110/{tx_hash(dydx.fills[110])}/1",
        f"112/{pepe}/1", f"112/{pepe}/1/deleveraging",
        f"112/{pepe}/2", f"112/{pepe}/2/final_settlement",
    ]  # fmt: skip
    assert stored[0][1] == json.dumps(FIRST.event())


def test_a_final_settlement_is_no_row_and_its_reason_is_stored(
    quick_indexer: Command, connection: Connection, dydx: Dydx
) -> None:
    backfill(quick_indexer, dydx)

    (stored,) = rows(
        connection,
        "SELECT body FROM ledger.raw_event WHERE event_key LIKE '%/final_settlement'",
    )
    said = dict(fields(b64decode(stored[0])))
    assert (said[2], said[4]) == (7, 1)
    assert rows(connection, f"{ROWS} AND counterparty = '{DAVE}:0'") == []


# -- what is unknown -----------------------------------------------------------------------------


def test_a_market_that_nobody_tells_waits_with_a_reason_until_it_is_told(
    quick_indexer: Command, connection: Connection, dydx: Dydx
) -> None:
    known = dydx.markets.pop(7)

    assert backfill(quick_indexer, dydx) == (0, told(19, 3, 1, 1), "")
    assert rows(connection, "SELECT reason FROM liq.undecoded") == [
        ("perpetual 7: its resolution is unknown",)
    ]

    dydx.markets[7] = known
    assert backfill(quick_indexer, dydx) == (0, told(0, 1), "")
    assert rows(connection, ROWS) == expected(dydx)
    assert rows(connection, "SELECT * FROM ledger.undecoded") == []


def test_a_deleveraging_that_its_block_does_not_propose_is_not_guessed_at(
    quick_indexer: Command, connection: Connection, dydx: Dydx
) -> None:
    stray = DELEVERAGED._replace(maker=(DAVE, 9)).event()

    def with_stray(method: str, height: int, said: Any) -> Any:
        if (method, height) == ("block_results", 115):
            said["finalize_block_events"].append(stray)
        return said

    dydx.tweak = with_stray
    assert backfill(quick_indexer, dydx) == (0, told(19, 4, 1, 1), "")
    assert rows(connection, "SELECT event_key, reason FROM liq.undecoded") == [
        (
            "115/finalize_block/1",
            "its block does not say whether this deleveraging is a final settlement",
        )
    ]


def marked(**changed: str | None) -> venue.Marked:
    """FIRST with some attributes changed, or left out where None."""
    said = {one["key"]: one["value"] for one in FIRST.event()["attributes"]} | changed
    kept = {key: value for key, value in said.items() if value is not None}
    body = json.dumps(event("match", kept))
    return venue.Marked(RawEvent("dydx_v4", "103/X/2", 103, GENESIS, body, "made up", 103))


BTC = {0: Perpetual("BTC-USD", -10)}


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"is_liquidation": None}, "no attribute is_liquidation"),
        ({"is_liquidation": "yes"}, "is_liquidation is 'yes'"),
        ({"is_deleverage": "true"}, "both a liquidation and a deleveraging"),
        ({"taker_subaccount": None}, "no attribute taker_subaccount"),
        ({"taker_subaccount": "dydx1 ; DROP"}, "taker_subaccount is 'dydx1 ; DROP'"),
        ({"taker_subaccount_number": "-1"}, "taker_subaccount_number is -1"),
        ({"perpetual_id": "0x0"}, "perpetual_id is '0x0'"),
        ({"perpetual_id": "4294967296"}, "perpetual_id is 4294967296"),
        ({"perpetual_id": "5"}, "perpetual 5: its resolution is unknown"),
        (
            {"insurance_fund_delta_quote_quantums": "1e6"},
            "insurance_fund_delta_quote_quantums is '1e6'",
        ),
        (
            {"insurance_fund_delta_quote_quantums": "0"},
            "the sides disagree: base -3000000000 and 3000000000, quote without fees 17730000000"
            " and -18000000000",
        ),
        (
            {"taker_perpetual_quantums_delta_base_quantums": "-2"},
            "the sides disagree: base -2 and 3000000000, quote without fees 18000000000 and"
            " -18000000000",
        ),
    ],
)
def test_an_event_that_cannot_be_right_is_undecoded_with_the_reason(
    changed: dict[str, str | None], reason: str
) -> None:
    found = venue.decode(marked(**changed), BTC)

    assert found == Undecoded("dydx_v4", "103/X/2", 103, GENESIS, reason, 1)


def test_an_event_of_the_versions_before_builder_fees_is_read_as_well() -> None:
    found = venue.decode(
        venue.Marked(
            RawEvent(
                "dydx_v4", "103/X/2", 103, GENESIS,
                json.dumps(FIRST._replace(builder_fee=None).event()), "made up", 103,
            )
        ),
        BTC,
    )  # fmt: skip

    assert isinstance(found, Liquidation)
    assert (found.notional, found.fee) == (Decimal(18000), Decimal(270))


def test_a_price_without_an_end_is_cut_and_the_notional_is_not() -> None:
    third = Fill((ALICE, 0), (BOB, 0), 0, -30_000_000_000, 10_000_000, "liquidation")
    raw = RawEvent("dydx_v4", "1/X/0", 1, GENESIS, json.dumps(third.event()), "made up", 1)

    found = venue.decode(venue.Marked(raw), BTC)

    assert isinstance(found, Liquidation)
    assert (found.size, found.notional) == (Decimal(3), Decimal(10))
    assert found.price == Decimal("3.333333333333333333333333333")


@pytest.mark.parametrize(
    "message", [b"\x0a", b"\x0a\x05ab", b"\x08" + b"\xff" * 11, b"\x0b", b"\xff"]
)
def test_bytes_that_are_no_protobuf_are_refused(message: bytes) -> None:
    with pytest.raises(ValueError, match="protobuf"):
        list(fields(message))


def test_an_answer_about_another_market_is_refused() -> None:
    with pytest.raises(ValueError, match="not about perpetual 3"):
        perpetual_of(b"", 3)
    assert perpetual_request(300) == b"\x08\xac\x02"
    assert operations(b"") == (0, ())


# -- heights that cannot be read -----------------------------------------------------------------


def test_results_without_the_events_that_were_proposed_are_a_hole_and_filled_by_the_next_run(
    quick_indexer: Command, connection: Connection, dydx: Dydx
) -> None:
    def without_events(method: str, height: int, said: Any) -> Any:
        if (method, height) == ("block_results", 103):
            said["txs_results"][0]["events"] = []
        return said

    dydx.tweak = without_events
    code, said, faults = backfill(quick_indexer, dydx)

    assert (code, said) == (1, told(18, 2, 0, 1))
    assert faults.splitlines() == [
        "fault: 127.0.0.1 #1 block_results: block 103: its transactions hold 2 fills of"
        " liquidations and 0 of deleveragings, its results 0 and 0",
        "fault: dydx_v4 liquidations: block 103 is missing, between 2025-10-10 21:00:02.123456 and"
        " 2025-10-10 21:00:04.123456 UTC",
    ]
    assert coverage(connection) == [(100, 103, "every_height"), (104, 119, "every_height")]

    dydx.tweak = lambda method, height, said: said
    assert backfill(quick_indexer, dydx) == (0, told(1, 2), "")
    assert rows(connection, ROWS) == expected(dydx)
    assert coverage(connection) == [(100, 119, "every_height")]


def test_results_of_no_transaction_of_a_block_that_has_some_are_a_hole(
    quick_indexer: Command, connection: Connection, dydx: Dydx
) -> None:
    def empty(method: str, height: int, said: Any) -> Any:
        if (method, height) == ("block_results", 105):
            said["txs_results"] = None
        return said

    dydx.tweak = empty
    code, _, faults = backfill(quick_indexer, dydx)

    assert code == 1
    assert "block 105: 2 transactions, 0 results" in faults
    assert coverage(connection) == [(100, 105, "every_height"), (106, 119, "every_height")]


def test_a_block_that_does_not_follow_the_one_before_it_is_a_hole(
    quick_indexer: Command, connection: Connection, dydx: Dydx
) -> None:
    def other_parent(method: str, height: int, said: Any) -> Any:
        if (method, height) == ("block", 107):
            said["block"]["header"]["last_block_id"]["hash"] = "00" * 32
        return said

    dydx.tweak = other_parent
    code, _, faults = backfill(quick_indexer, dydx)

    assert code == 1
    assert f"block 107 follows 0000000000000000, not {dydx.hash(106)[:16]}" in faults
    assert coverage(connection) == [(100, 107, "every_height"), (108, 119, "every_height")]


def test_results_that_were_thrown_away_are_a_hole_that_is_not_asked_for_again_and_again(
    quick_indexer: Command, connection: Connection, dydx: Dydx
) -> None:
    def gone(method: str, height: int, said: Any) -> Any:
        error = {"code": -32603, "message": "Internal error",
                 "data": f"could not find results for height #{height}"}  # fmt: skip
        return {"error": error} if (method, height) == ("block_results", 104) else said

    dydx.tweak = gone
    code, _, faults = backfill(quick_indexer, dydx)

    assert code == 1
    assert "block 104: 127.0.0.1 #1: could not find results for height #104" in faults
    assert dydx.asked.count(("block_results", 104)) == 1
    assert coverage(connection) == [(100, 104, "every_height"), (105, 119, "every_height")]


def test_what_a_node_has_no_more_or_not_yet_is_said_in_a_line(
    quick_indexer: Command, connection: Connection, dydx: Dydx
) -> None:
    code, said, faults = backfill(quick_indexer, dydx, 90, 130)

    assert (code, said) == (1, told(19, 4, 0, 1))
    assert faults.splitlines() == [
        "dydx_v4: 10 blocks 90 to 99 are gone from this node: give one that keeps history",
        "dydx_v4: 11 blocks 119 to 129 are not there yet: indexer follow dydx",
    ]
    assert coverage(connection) == [(100, 119, "every_height")]


@pytest.mark.parametrize("answer", [Http(b"bad gateway", 502), Http(b"<html>"), Http(b"{}", cut=1)])
def test_a_node_that_breaks_off_ends_the_run_and_loses_nothing(
    quick_indexer: Command, connection: Connection, dydx: Dydx, answer: Http
) -> None:
    dydx.tweak = lambda method, height, said: answer if method == "block_results" else said
    code, said, faults = backfill(quick_indexer, dydx)

    assert (code, said) == (1, told(0, 0))
    assert faults.startswith("fault: dydx: block 10")
    assert coverage(connection) == []

    dydx.tweak = lambda method, height, said: said
    assert backfill(quick_indexer, dydx) == (0, told(19, 4, 0, 1), "")


def test_a_node_of_another_chain_is_refused(quick_indexer: Command, dydx: Dydx) -> None:
    dydx.network = "dydx-testnet-4"

    code, said, faults = backfill(quick_indexer, dydx)

    assert (code, said) == (1, "")
    assert faults == (
        "indexer: dydx: no node left, correct RPC_DYDX or --rpc: status: 127.0.0.1 #1: serves"
        " 'dydx-testnet-4', not dydx-mainnet-1\n"
    )


def test_a_second_node_steps_in_and_no_key_is_ever_shown(
    quick_indexer: Command, connection: Connection, dydx: Dydx
) -> None:
    with Dydx(path="/secret-key-0123456789") as sick:
        url = f"{sick.url.replace('http://', 'http://user:hush-hush@')}?apikey=supersecret"
        sick.tweak = lambda method, height, said: Http(b"no", 500)
        alone = quick_indexer("backfill", "dydx", "--from", 100, "--to", 119, "--rpc", url)
        both = quick_indexer(
            "backfill", "dydx", "--from", 100, "--to", 119, RPC_DYDX=f"{url},{dydx.url}"
        )

    assert (alone.returncode, both.returncode) == (1, 0)
    assert rows(connection, ROWS) == expected(dydx)
    stored = json.dumps(rows(connection, "SELECT uri FROM ledger.source"))
    texts = alone.stdout + alone.stderr + both.stdout + both.stderr + stored
    assert not [word for word in ("hush", "supersecret", "0123456789") if word in texts]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("backfill", "dydx", "--from", "100", "--to", "110"), "set RPC_DYDX"),
        (("backfill", "dydx", "--from", "100"), "give the end of the blocks with --to"),
        (("backfill", "dydx", "hyperliquid", "--from", "1"), "give it a command of its own"),
        (("follow", "dydx", "--from", "x"), "--from is for hyperliquid"),
        (("backfill", "ethereum", "--from", "1", "--to", "2", "--rpc", "http://x"), "is for dydx"),
        (
            ("backfill", "dydx", "--from", "1", "--to", "2", "--rpc", "ws://secret"),
            "address 1 is not http:// or https://",
        ),
        (("check", "ethereum", "--api", "http://x"), "--api is for dydx"),
        (("check", "dydx"), "nothing is indexed yet"),
    ],
)
def test_wrong_words_are_said_in_a_line(
    quick_indexer: Command, words: tuple[str, ...], said: str
) -> None:
    done = quick_indexer(*words)

    assert done.returncode in (1, 2)
    assert said in done.stderr
    assert "Traceback" not in done.stderr


# -- following -----------------------------------------------------------------------------------


def test_follow_goes_on_where_it_was_killed(
    connection: Connection, conninfo: str, dydx: Dydx, tmp_path: Path
) -> None:
    dydx.last = 101
    environment = {"RPC_DYDX": dydx.url}

    def reached(height: int) -> bool:
        return [run for run in coverage(connection) if run[1] == height] != []

    with following(conninfo, tmp_path, "dydx", **environment) as process:
        soon(lambda: dydx.asked.count(("status", 0)) > 2)  # the first two tell where to begin
        dydx.last = 104
        soon(lambda: reached(104))
        os.kill(process.pid, signal.SIGKILL)
    dydx.last = 119
    with following(conninfo, tmp_path, "dydx", **environment) as process:
        soon(lambda: reached(119))
        said = stopped(process)

    assert process.returncode == 0
    assert rows(connection, ROWS) == expected(dydx)
    assert coverage(connection) == [(101, 119, "every_height")]
    assert "the node is behind: its last block 119 is of 2025-10-10 21:00:19 UTC" in said
    assert "venue=dydx_v4 to=118 blocks=15 liquidations=2 settlements=1" in said
    valued = rows(connection, "SELECT DISTINCT basis FROM liq.valuations WHERE venue = 'dydx_v4'")
    assert ("fill",) in valued


def test_follow_leaves_a_hole_where_a_height_cannot_be_read_and_goes_on(
    connection: Connection, conninfo: str, dydx: Dydx, tmp_path: Path
) -> None:
    dydx.last = 101

    def without_results(method: str, height: int, said: Any) -> Any:
        if (method, height) == ("block_results", 110):
            said["txs_results"] = None
        return said

    dydx.tweak = without_results
    with following(conninfo, tmp_path, "dydx", RPC_DYDX=dydx.url) as process:
        soon(lambda: dydx.asked.count(("status", 0)) > 2)  # the first two tell where to begin
        dydx.last = 119
        soon(lambda: (111, 119, "every_height") in coverage(connection))
        said = stopped(process)

    assert process.returncode == 1
    assert "block 110: 2 transactions, 0 results" in said
    assert coverage(connection) == [(101, 110, "every_height"), (111, 119, "every_height")]


def test_follow_asks_a_silent_node_again_until_it_answers(
    connection: Connection, conninfo: str, dydx: Dydx, tmp_path: Path
) -> None:
    dydx.last = 101
    is_silent = False

    def silent(method: str, height: int, said: Any) -> Any:
        return Http(b"no", 502) if is_silent and method == "block_results" else said

    dydx.tweak = silent
    with following(conninfo, tmp_path, "dydx", RPC_DYDX=dydx.url) as process:
        soon(lambda: dydx.asked.count(("status", 0)) > 2)
        is_silent = True
        dydx.last = 119
        soon(lambda: dydx.asked.count(("block_results", 101)) > 4)
        is_silent = False
        soon(lambda: coverage(connection) == [(101, 119, "every_height")])
        said = stopped(process)

    assert process.returncode == 0
    assert "127.0.0.1 #1: HTTP 502" in said
    assert rows(connection, ROWS) == expected(dydx)


def test_a_backfill_that_was_killed_goes_on_where_it_was(
    quick_indexer: Command, connection: Connection, conninfo: str, dydx: Dydx, tmp_path: Path
) -> None:
    dydx.last = 700
    dydx.tweak = lambda method, height, said: (
        Http(b"", late=60) if method == "block" and height > 500 else said
    )
    words = ("backfill", "dydx", "--from", "100", "--to", "700", "--rpc", dydx.url)
    process = subprocess.Popen(
        [sys.executable, "-m", "indexer", *words],
        env={**os.environ, "DATABASE_URL": conninfo}, cwd=tmp_path,
    )  # fmt: skip
    with process:
        soon(lambda: coverage(connection) == [(100, 500, "every_height")])
        process.kill()

    dydx.tweak = lambda method, height, said: said
    assert backfill(quick_indexer, dydx, 100, 700) == (0, told(200, 0), "")
    assert rows(connection, ROWS) == expected(dydx)
    assert coverage(connection) == [(100, 700, "every_height")]


def test_two_backfills_of_the_same_blocks_side_by_side_write_each_row_once(
    connection: Connection, conninfo: str, dydx: Dydx, tmp_path: Path
) -> None:
    dydx.last = 900
    words = ("backfill", "dydx", "--from", "100", "--to", "900", "--rpc", dydx.url)
    both = [
        subprocess.Popen(
            [sys.executable, "-m", "indexer", *words],
            env={**os.environ, "DATABASE_URL": conninfo}, cwd=tmp_path,
        )
        for _ in range(2)
    ]  # fmt: skip

    assert [process.wait(timeout=120) for process in both] == [0, 0]
    assert rows(connection, ROWS) == expected(dydx)
    assert coverage(connection) == [(100, 900, "every_height")]


def test_a_budget_is_kept(quick_indexer: Command, dydx: Dydx) -> None:
    done = quick_indexer(
        "backfill", "dydx", "--from", 100, "--to", 119, "--per-day", 5, RPC_DYDX=dydx.url
    )

    assert done.returncode == 1
    assert "the budget of requests for today is used up" in done.stderr
    assert len(dydx.asked) == 5


# -- what is made of the rows --------------------------------------------------------------------


def test_a_total_counts_each_fill_once_and_sub_accounts_by_their_owner(
    quick_indexer: Command, dydx: Dydx, tmp_path: Path
) -> None:
    again = FIRST._replace(taker=(ALICE, 128), maker=(DAVE, 0))
    dydx.fills[114] = [again]
    backfill(quick_indexer, dydx)
    window = ("--window", "2025-10-10T21:00:01..2025-10-10T21:00:15", "--format", "json")
    owners = tmp_path / "owners.toml"
    owners.write_text(
        'id = "owners/v1"\nsays = "By owner."\nmirrors = ""\nfidelity = "exact"\n'
        'account_unit = "owner"\n'
    )

    strict = json.loads(quick_indexer("total", "--definition", "strict/v1", *window).stdout)
    owned = json.loads(quick_indexer("total", "--definition", owners, *window).stdout)

    # 18,000 + 11,998 + 8,000 + 0.0123 + 18,000
    assert (strict["usd"], strict["is_complete"]) == ("55998.0123", True)
    assert (owned["usd"], owned["is_complete"]) == ("55998.0123", True)
    assert counts(strict) == {"records": 5, "orders": 4, "actions": 4, "accounts": 4}
    assert counts(owned) == {"records": 5, "orders": 4, "actions": 4, "accounts": 3}
    assets = {one["name"]: one["usd"] for one in strict["lines"] if one["section"] == "asset"}
    assert assets == {"BTC": "47998", "ETH": "8000", "PEPE": "0.0123"}


def counts(total: Any) -> dict[str, int]:
    (line,) = (line for line in total["lines"] if line["section"] == "total")
    return {name: line[name] for name in ("records", "orders", "actions", "accounts")}


def test_explain_walks_from_the_published_event_to_its_worth(
    quick_indexer: Command, dydx: Dydx
) -> None:
    backfill(quick_indexer, dydx)
    key = f"dydx_v4/112/{tx_hash(dydx.fills[112])}/1/{CAROL}:0"

    text = quick_indexer("explain", key).stdout

    assert "taker_perpetual_quantums_delta_base_quantums" in text
    assert "/1/deleveraging" in text
    assert "127.0.0.1 #1 block_results" in text
    assert "adl_of_user" in text
    assert "0.0123" in text


def test_explain_shows_why_an_event_is_no_row(quick_indexer: Command, dydx: Dydx) -> None:
    del dydx.markets[7]
    backfill(quick_indexer, dydx)

    text = quick_indexer("explain", f"dydx_v4/112/{tx_hash(dydx.fills[112])}/1").stdout

    assert "perpetual 7: its resolution is unknown" in text
    assert "taker_perpetual_quantums_delta_base_quantums" in text


def audited(command: Command) -> tuple[int, str]:
    done = command("audit", "dydx_v4")
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_an_audit_finds_nothing_in_what_was_read(quick_indexer: Command, dydx: Dydx) -> None:
    backfill(quick_indexer, dydx)

    code, text = audited(quick_indexer)

    assert code == 0
    assert "dydx_v4 2025-10-10 21:00:00.123456 to 2025-10-10 21:00:18.123456 UTC: whole" in text
    table = [line.split() for line in text.splitlines()[-4:]]
    assert table == [
        ["invariant", "checked", "violated"],
        ["nets_to_zero", "4", "0"],
        ["row_of_legs", "4", "0"],
        ["trade_has_row", "5", "0"],
    ]


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (
            "UPDATE ledger.liquidation SET size = size * 10 WHERE size = 0.2",
            "size 2.0 for -2000000000",
        ),
        (
            "UPDATE ledger.liquidation SET notional = 1 WHERE size = 2",
            "notional 1, its event moved",
        ),
        ("UPDATE ledger.liquidation SET side = 'long' WHERE size = 2", "its event says the other"),
        ("UPDATE ledger.liquidation SET method = 'market' WHERE size = 1230", "method market"),
        ("UPDATE ledger.liquidation SET counterparty = 'x' WHERE size = 2", "counterparty x"),
        ("UPDATE ledger.liquidation SET fee = 0 WHERE size = 0.3", "fee 0, its event says"),
        ("DELETE FROM ledger.liquidation WHERE size = 2", "neither a liquidation nor undecoded"),
        ("DELETE FROM ledger.raw_event WHERE event_key LIKE '110/%'", "its event is not stored"),
        (
            "UPDATE ledger.raw_event SET body = replace(body, '\"2000000000\"', '\"2000000001\"')"
            " WHERE event_key LIKE '110/%'",
            "base 2000000001 and -2000000000",
        ),
        ("DELETE FROM ledger.raw_event WHERE event_key LIKE '%settlement'", "neither a liq"),
    ],
)
def test_an_audit_finds_what_was_harmed(
    quick_indexer: Command, connection: Connection, dydx: Dydx, harm: str, said: str
) -> None:
    backfill(quick_indexer, dydx)
    connection.execute(harm)

    code, text = audited(quick_indexer)

    assert code == 1
    assert said in text


def test_an_audit_reads_over_what_is_no_match_at_all(
    quick_indexer: Command, connection: Connection, dydx: Dydx
) -> None:
    strange = [
        {"type": "match"},
        {"type": "match", "attributes": None},
        {"type": "match", "attributes": [{"key": "is_liquidation", "value": "\x00"}]},
        {"type": "match", "attributes": [7]},
        {"type": "match", "attributes": [{"key": "a"}, {"key": "a"}]},
    ]

    def with_strange(method: str, height: int, said: Any) -> Any:
        if (method, height) == ("block_results", 101):
            said["finalize_block_events"] = strange
        return said

    dydx.tweak = with_strange
    assert backfill(quick_indexer, dydx) == (0, told(19, 4, 5, 1), "")
    assert audited(quick_indexer)[0] == 0


# -- the public indexer --------------------------------------------------------------------------


def checked(command: Command, node: Dydx) -> tuple[int, str, str]:
    done = command("check", "dydx", "--api", node.url)
    return done.returncode, done.stdout, done.stderr


def test_the_public_indexer_says_the_same(quick_indexer: Command, dydx: Dydx) -> None:
    dydx.fills[106] = [ORDINARY._replace(base=n) for n in range(1, 151)]
    backfill(quick_indexer, dydx)
    dydx.publish()
    dydx.trades["BTC-USD"] = [
        one | {"createdAtHeight": str(101 + place % 18)} if one["type"] == "LIMIT" else one
        for place, one in enumerate(dydx.trades["BTC-USD"])
    ]

    assert checked(quick_indexer, dydx) == (
        0,
        "dydx_v4: 5 forced fills of the API and 4 rows compared, 1 final settlements left out,"
        " 0 differ\n",
        "",
    )


def test_what_only_one_of_both_has_is_printed(quick_indexer: Command, dydx: Dydx) -> None:
    backfill(quick_indexer, dydx)
    dydx.fills[110] = [SHORT._replace(quote=8_000_000_002)]
    dydx.publish()

    code, text, differences = checked(quick_indexer, dydx)

    assert code == 1
    assert text.endswith("2 differ\n")
    assert differences.splitlines() == [
        "differs: block 110 ETH-USD LIQUIDATED BUY 2 at 4000.000001: only the API has it",
        "differs: block 110 ETH-USD LIQUIDATED BUY 2 at 4000: the API does not have it",
    ]


def test_a_block_with_more_trades_than_a_page_is_a_fault(
    quick_indexer: Command, dydx: Dydx
) -> None:
    backfill(quick_indexer, dydx)
    dydx.fills[106] = [ORDINARY._replace(base=n) for n in range(1, 151)]
    dydx.publish()

    code, _, fault = checked(quick_indexer, dydx)

    assert (code, fault) == (
        1,
        "indexer: 127.0.0.1 #1: BTC-USD: block 106 does not fit on a page\n",
    )


# -- golden files --------------------------------------------------------------------------------

GOLDEN = sorted((Path(__file__).parent / "golden" / "dydx_v4").glob("*.json"))


class Case(msgspec.Struct, forbid_unknown_fields=True):
    """A block as a node tells it, the markets in it, and what must come of it."""

    what: str
    source: str
    height: int
    time: str
    txs: list[str]
    results: list[list[msgspec.Raw]]
    perpetuals: dict[int, Perpetual]
    liquidations: list[dict[str, Any]]
    undecoded: list[dict[str, Any]]
    settlements: list[str]


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden(path: Path) -> None:
    case = msgspec.json.decode(path.read_bytes(), type=Case)
    at = datetime.fromisoformat(case.time)
    txs = tuple(map(b64decode, case.txs))
    results = tuple(Result(0, tuple(map(bytes, events))) for events in case.results)
    block = Block(case.height, at, "AB", "CD", txs, results, (), "test")

    events = venue.marked(block)
    rows = [venue.decode(one, case.perpetuals) for one in events if not one.is_settlement]

    assert {
        "liquidations": [msgspec.to_builtins(one) for one in rows if isinstance(one, Liquidation)],
        "undecoded": [
            {"event_key": one.event_key, "reason": one.reason}
            for one in rows
            if isinstance(one, Undecoded)
        ],
        "settlements": [one.raw.event_key for one in events if one.is_settlement],
    } == {
        "liquidations": case.liquidations,
        "undecoded": case.undecoded,
        "settlements": case.settlements,
    }
