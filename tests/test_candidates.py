"""The experimental way without any vendor: recorded trades, made-up actions, real sockets."""

import json
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from indexer import samples
from indexer.candidates import Action, Candidate, Candidates, Counts, Trade
from indexer.hyperliquid_format import block_in_hash
from indexer.sources.hyperliquid_fills_api import FillsApi
from indexer.sources.hyperliquid_trades import Feeds
from indexer.store.database import Connection
from tests.conftest import Command
from tests.exchange_stub import Exchange
from tests.ledger_rows import rows
from tests.simulator import Simulation, simulate, small
from tests.stream_stub import Cut, Feed

BUYER, SELLER = (f"0x{digit * 40}" for digit in "ab")


def tx(block: int, n: int = 1) -> str:
    """A hash that names a block."""
    return f"0x{n:020x}04{block:08x}{n:034x}"


def trade(tx_hash: str, tid: int = 1, side: Any = "A", time: int = 1_787_047_504_010) -> Trade:
    return Trade("BTC", side, time, tx_hash, tid, (BUYER, SELLER))


def action(tx_hash: str, kind: str = "order") -> Action:
    found = block_in_hash(tx_hash)
    assert found is not None
    return Action(tx_hash, found, {"type": msgspec.Raw(json.dumps(kind).encode())})


def shown(*blocks: int) -> list[Action]:
    """Blocks that the explorer shows, with an action that trades nothing."""
    return [action(tx(block, 99), "cancel") for block in blocks]


def test_recorded_trades_are_read_with_their_taker(real_data: Path) -> None:
    lines = (real_data / "hyperliquid" / "ws_trades.jsonl").read_text().splitlines()

    first, second = (msgspec.json.decode(line, type=Trade) for line in lines)

    assert (first.side, first.taker) == ("A", "0x4a8a68b2ec7c67cbb79060d98157b68c47eba0e6")
    assert (second.side, second.taker) == ("B", "0xd0bd58f100b3a25aecc1b9ac900c6a6868acf729")


def test_takers_of_trades_that_nobody_explains_are_asked_for_once_held_long_enough() -> None:
    held = Candidates(held_seconds=15)
    held.act(shown(7))
    held.trade([trade(tx(8, 1), 1), trade(tx(8, 1), 2), trade(tx(8, 2), 3)], now=0.0)
    held.trade([trade(tx(8, 1), 1)], now=1.0)  # again
    held.act([action(tx(8, 2)), *shown(9)])

    assert held.due(14.9) == []
    assert held.due(15.0) == [Candidate(SELLER, (1_787_047_504_010,), 2)]
    assert held.due(99.0) == []
    assert held.counts == Counts(explained=1, candidates=2)


@pytest.mark.parametrize("kind", ["SetGlobalAction", "liquidate", "cancel", "anything new"])
def test_what_is_no_order_explains_no_trade(kind: str) -> None:
    held = Candidates(held_seconds=0)
    held.act(shown(7, 9))
    held.act([action(tx(8), kind)])
    held.trade([trade(tx(8))], now=0.0)

    assert [one.account for one in held.due(0.0)] == [SELLER]


def test_an_explanation_may_come_first_and_a_trade_without_a_hash_is_none() -> None:
    held = Candidates(held_seconds=0)
    held.act([action(tx(8)), *shown(7, 9)])
    held.trade([trade(tx(8), 1), trade("0x" + 64 * "0", 2)], now=0.0)

    assert held.due(0.0) == []
    assert held.counts == Counts(explained=1, without_hash=1)


@pytest.mark.parametrize("blocks", [(), (8,), (9, 10), (5, 7)])
def test_a_block_that_the_explorer_did_not_reach_or_pass_is_not_judged(
    blocks: tuple[int, ...],
) -> None:
    held = Candidates(held_seconds=0)
    held.act(shown(*blocks))
    held.trade([trade(tx(8))], now=0.0)

    assert held.due(0.0) == []
    assert held.counts == Counts(not_shown=1)


def test_what_was_held_while_the_explorer_was_away_is_not_judged() -> None:
    held = Candidates(held_seconds=0)
    held.act(shown(7))
    held.trade([trade(tx(8))], now=0.0)
    held.lost()
    held.act(shown(9, 10))

    assert held.due(0.0) == []
    assert held.counts == Counts(not_shown=1)


def test_what_is_too_much_is_left_out_and_counted() -> None:
    held = Candidates(held_seconds=0, most=2)
    held.act(shown(7, 9))
    held.trade([trade(tx(8, n), n) for n in range(1, 6)], now=0.0)

    assert [one.trades for one in held.due(0.0)] == [2]
    assert held.counts == Counts(dropped=3, candidates=2)


# -- over real sockets


@pytest.fixture(scope="module")
def sim() -> Simulation:
    return simulate(small(1))


def public(sim: Simulation) -> list[Any]:
    """All trades as the exchange's feed tells them: without a mark."""
    found = []
    for block in sim.blocks:
        legs = {}
        for user, fill in block.events:
            legs.setdefault((fill["coin"], fill["tid"]), []).append((user, fill))
        for pair in legs.values():
            if len(pair) == 2 and pair[0][1]["side"] != pair[1][1]["side"]:
                buyer, seller = sorted(pair, key=lambda leg: leg[1]["side"], reverse=True)
                taker = next((fill for _, fill in pair if fill["crossed"]), pair[0][1])
                keys = ("coin", "px", "sz", "time", "hash", "tid")
                found.append({**{key: taker[key] for key in keys}, "side": taker["side"],
                              "users": [buyer[0], seller[0]]})  # fmt: skip
    return found


def explained(sim: Simulation) -> list[Any]:
    """What the explorer would show: an order for each hash that no liquidation has."""
    forced = {fill["hash"] for block in sim.blocks for _, fill in block.events
              if "liquidation" in fill}  # fmt: skip
    hashes = {one["hash"] for one in public(sim)} - forced
    return [
        {"action": {"type": "order", "orders": []}, "block": block_in_hash(one), "error": None,
         "hash": one, "time": 1, "user": BUYER}
        for one in sorted(hashes) if block_in_hash(one)
    ]  # fmt: skip


def liquidated(connection: Connection) -> set[Any]:
    return {account for (account,) in rows(connection, "SELECT account FROM ledger.liquidation")}


def test_liquidations_are_found_without_asking_for_anybody_else(
    connection: Connection, sim: Simulation
) -> None:
    by_user: dict[str, list[Any]] = {}
    for block in sim.blocks:
        for user, fill in block.events:
            by_user.setdefault(user, []).append(fill)
    forced = {one["liquidation"]["liquidatedUser"] for fills in by_user.values() for one in fills
              if one.get("liquidation", {}).get("method") == "market"}  # fmt: skip
    trades = [{"channel": "trades", "data": [one]} for one in public(sim)]
    first, last = sim.blocks[0].number, sim.blocks[-1].number
    edges = [
        {"action": {"type": "cancel"}, "block": block, "hash": tx(block, 5), "error": None}
        for block in (first - 1, last + 1)
    ]
    said: list[str] = []
    with (
        Exchange() as exchange,
        Feed([{"channel": "subscriptionResponse"}, *trades]) as told,
        Feed(["Websocket connection established.", edges, explained(sim)]) as explorer,
    ):
        exchange.fills = by_user
        api = FillsApi(exchange.url, 1_200_000)
        end = time.monotonic() + 60

        def is_over() -> bool:
            return liquidated(connection) >= forced or time.monotonic() > end

        counts = samples.follow_candidates(
            connection, Feeds(["BTC"], told.url, explorer.url, cool_seconds=0.05), api, is_over,
            said.append, Candidates(held_seconds=3),
        )  # fmt: skip
        asked = {user for _, kind, user in exchange.asked if kind == "userFillsByTime"}
        api.close()

    assert liquidated(connection) >= forced
    assert counts.candidates > 0
    assert counts.explained > 5 * counts.candidates
    assert len(asked) < len(by_user) / 2
    assert rows(connection, "SELECT * FROM ledger.coverage") == []
    assert rows(connection, "SELECT uri, is_sample FROM liq.sources") == [
        ("candidates (experimental)", True)
    ]


def test_a_feed_that_breaks_off_is_said_and_listened_to_again(connection: Connection) -> None:
    said: list[str] = []
    with Exchange() as exchange, Feed([Cut()], []) as told, Feed([]) as explorer:
        api = FillsApi(exchange.url)
        end = time.monotonic() + 60
        samples.follow_candidates(
            connection, Feeds(["BTC"], told.url, explorer.url, cool_seconds=0.01), api,
            lambda: told.connections > 1 or time.monotonic() > end, said.append,
        )  # fmt: skip
        api.close()

    assert told.connections == 2
    assert "fault: the trades: ConnectionClosedError" in said


def test_the_markets_of_all_dexes_are_listened_to() -> None:
    with Exchange() as exchange:
        api = FillsApi(exchange.url)
        assert samples.markets(api) == ["BTC", "ETH", "xyz:TSLA"]
        api.close()


def test_it_is_given_alone(quick_indexer: Command) -> None:
    done = quick_indexer("follow", "hyperliquid", "--candidates", "--vendor", "goldrush")

    assert (done.returncode, "give it alone" in done.stderr) == (2, True)
