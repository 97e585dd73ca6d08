"""The simulator knows what really happened; the ledger must say the same, however it was read."""

import json
import random
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from indexer import step, sync
from indexer.sources import files
from indexer.store import database, ledger, status
from indexer.store.database import Connection
from indexer.store.server import Server
from tests.ledger_rows import (
    LIQUIDATIONS,
    Rows,
    everything,
    in_order,
    rows,
    true_groups,
    true_liquidations,
)
from tests.postgres import database as throw_away
from tests.simulator import (
    Simulation,
    simulate,
    small,
    write_by_block,
    write_fills,
    write_misc,
    write_streaming,
)
from tests.simulator.market import text
from tests.simulator.truth import episodes, grouped

SEEDS = (1, 2, 3)


@pytest.fixture(scope="module", params=SEEDS)
def sim(request: pytest.FixtureRequest) -> Simulation:
    return simulate(small(request.param))


@pytest.fixture(scope="module")
def tree(sim: Simulation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("node")
    write_by_block(sim, folder, compress=True)
    write_misc(sim, folder)
    return folder


@pytest.fixture
def other(postgres: Server, migrated: str) -> Iterator[Connection]:
    """A second fresh database, to compare with."""
    with throw_away(postgres, template=migrated) as fresh, database.connect(fresh) as opened:
        yield opened


@pytest.mark.any_postgres
def test_every_liquidation_has_the_numbers_that_really_were(
    connection: Connection, sim: Simulation, tree: Path
) -> None:
    sync.backfill(connection, str(tree))

    assert rows(connection, LIQUIDATIONS) == true_liquidations(sim.truth)


def test_both_legs_are_seen_and_agree(connection: Connection, tree: Path) -> None:
    sync.backfill(connection, str(tree))

    assert rows(connection, "SELECT DISTINCT legs_seen FROM ledger.liquidation") == [("both",)]
    assert rows(connection, "SELECT * FROM ledger.undecoded") == []


@pytest.mark.any_postgres
def test_orders_actions_and_episodes_are_those_of_the_truth(
    connection: Connection, sim: Simulation, tree: Path
) -> None:
    sync.backfill(connection, str(tree))
    of_users = [*sim.truth.of_users, *sim.truth.without_object]

    orders = grouped(of_users, lambda row: (row.account, row.coin, str(row.oid)))
    assert levels(connection, "liq.orders", "account, market, order_id") == true_groups(orders)
    actions = grouped(of_users, lambda row: (row.account, row.hash))
    assert levels(connection, "liq.actions", "account, tx_hash") == true_groups(actions)
    assert levels(connection, "liq.episodes()", "account, dex") == true_groups(
        episodes(of_users, 900)
    )
    assert levels(connection, "liq.episodes('60 s')", "account, dex") == true_groups(
        episodes(of_users, 60)
    )


def levels(connection: Connection, view: str, key: str) -> Rows:
    return rows(
        connection,
        f"""
        SELECT {key}, first_at, last_at, liquidations, notional_usd,
               coalesce(notional_mark_usd, 0)
        FROM {view} WHERE NOT account_is_protocol_vault
        """,
    )


def test_an_episode_gap_within_the_cooldown_is_refused(connection: Connection, tree: Path) -> None:
    sync.backfill(connection, str(tree))

    with pytest.raises(psycopg.errors.InvalidParameterValue, match="cooldown of 30 seconds"):
        connection.execute("SELECT * FROM liq.episodes('30 s')")


@pytest.mark.any_postgres
def test_every_account_has_its_days(connection: Connection, sim: Simulation, tree: Path) -> None:
    sync.backfill(connection, str(tree))

    assert rows(
        connection,
        """
        SELECT account, day, quote, fills, volume, realised_pnl, largest_position
        FROM ledger.account_day WHERE fills > 0
        """,
    ) == in_order(
        (d.account, d.day, d.quote, d.fills, d.volume, d.realised_pnl, d.largest_position)
        for d in sim.truth.account_days
        if d.fills
    )
    others = sum(d.other_fills for d in sim.truth.account_days)
    assert rows(connection, "SELECT sum(other_fills) FROM ledger.account_day") == in_order(
        [(Decimal(others),)]
    )


def test_the_ledger_says_what_equity_there_was(
    connection: Connection, sim: Simulation, tree: Path
) -> None:
    sync.backfill(connection, str(tree))

    assert rows(
        connection,
        """
        SELECT account, tx_hash, block_number, block_at, account_value, margin_mode, notional_mark,
               (SELECT array_agg(row(p ->> 'coin', p ->> 'szi')::text ORDER BY p ->> 'coin')
                FROM jsonb_array_elements(positions) p)
        FROM ledger.ledger_liquidation
        """,
    ) == in_order(
        (
            said.account, said.hash, said.block_number, said.time, said.account_value,
            said.leverage_type.lower(), said.liquidated_ntl,
            [f"({coin},{text(size)})" for coin, size in sorted(said.positions)],
        )
        for said in sim.truth.ledger_liquidations
    )  # fmt: skip


def test_the_ledgers_notional_is_that_of_the_fills_of_whole_takeovers(
    connection: Connection, tree: Path
) -> None:
    sync.backfill(connection, str(tree))

    checked = rows(
        connection,
        """
        SELECT equity IS NOT NULL, notional_mark_usd - ledger_notional_mark FROM liq.actions
        WHERE methods = ARRAY['backstop'] AND NOT account_is_protocol_vault
        """,
    )
    assert set(checked) == {(True, Decimal(0))}


def test_reading_twice_changes_nothing(connection: Connection, tree: Path) -> None:
    sync.backfill(connection, str(tree))
    once = everything(connection)

    again = sync.backfill(connection, str(tree))

    assert everything(connection) == once
    assert again.faults == []
    assert again.counts["blocks"] == 0


def test_files_in_any_order_give_the_same_rows(
    connection: Connection, other: Connection, tree: Path, sim: Simulation
) -> None:
    sync.backfill(connection, str(tree))
    files = [path for path in tree.rglob("*") if path.is_file()]
    random.Random(sim.config.seed).shuffle(files)

    for path in files:
        sync.backfill(other, str(path))

    assert everything(other) == everything(connection)


def test_overlapping_pieces_give_the_same_rows(
    connection: Connection, other: Connection, tree: Path, sim: Simulation, tmp_path: Path
) -> None:
    sync.backfill(connection, str(tree / "node_fills_by_block"))
    lines = block_lines(sim, tmp_path)
    dice = random.Random(sim.config.seed)

    for piece in range(8):
        start = dice.randrange(len(lines))
        write(tmp_path / f"node_fills_by_block_{piece}", lines[start : start + 400])
        sync.backfill(other, str(tmp_path / f"node_fills_by_block_{piece}"))
    write(tmp_path / "node_fills_by_block_all", lines)
    sync.backfill(other, str(tmp_path / "node_fills_by_block_all"))

    ours, theirs = everything(other), everything(connection)
    assert [ours[what] for what in ("liquidations", "raw", "days", "episodes")] == [
        theirs[what] for what in ("liquidations", "raw", "days", "episodes")
    ]
    assert status.holes(other) == []


def test_liquidations_first_and_accounts_later_give_the_same_rows(
    connection: Connection, other: Connection, tree: Path
) -> None:
    sync.backfill(connection, str(tree))

    sync.backfill(other, str(tree), with_accounts=False)
    assert rows(other, "SELECT * FROM ledger.account_day") == []
    sync.backfill(other, str(tree))

    assert everything(other) == everything(connection)


def test_small_steps_give_the_same_rows(
    connection: Connection, other: Connection, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync.backfill(connection, str(tree))

    monkeypatch.setattr(step, "FULL_BLOCKS", 1)
    monkeypatch.setattr(files, "READ_BYTES", 5000)
    sync.backfill(other, str(tree))

    assert everything(other) == everything(connection)


@pytest.mark.parametrize("lost", ["liquidated", "counterparty"])
def test_a_lost_leg_is_made_up_for_by_the_other_and_filled_in_later(
    connection: Connection, other: Connection, sim: Simulation, tmp_path: Path, lost: str
) -> None:
    whole = block_lines(sim, tmp_path)
    write(tmp_path / "node_fills_by_block_whole", whole)
    write(tmp_path / "node_fills_by_block_cut", [without_leg(line, lost) for line in whole])
    sync.backfill(connection, str(tmp_path / "node_fills_by_block_whole"))
    both = everything(connection)

    sync.backfill(other, str(tmp_path / "node_fills_by_block_cut"), with_accounts=False)
    assert rows(other, MIRRORED) == rows(connection, MIRRORED)
    seen = "counterparty" if lost == "liquidated" else "liquidated"
    assert rows(other, LEGS_OF_MARKET_FILLS) == [(seen,)]

    tally = sync.backfill(other, str(tmp_path / "node_fills_by_block_whole"))
    assert everything(other) == both
    assert "now has" in str(tally.faults[0])


@pytest.mark.parametrize("first", ["liquidated", "counterparty"])
def test_legs_that_come_one_by_one_make_the_row_of_both(
    connection: Connection, other: Connection, sim: Simulation, tmp_path: Path, first: str
) -> None:
    second = "liquidated" if first == "counterparty" else "counterparty"
    whole = block_lines(sim, tmp_path)
    write(tmp_path / "node_fills_by_block_whole", whole)
    sync.backfill(connection, str(tmp_path / "node_fills_by_block_whole"), with_accounts=False)

    for lost in (second, first):
        path = tmp_path / f"node_fills_by_block_without_{lost}"
        write(path, [without_leg(line, lost) for line in whole])
        sync.backfill(other, str(path), with_accounts=False)

    assert rows(other, LIQUIDATIONS) == rows(connection, LIQUIDATIONS)
    assert rows(other, "SELECT DISTINCT legs_seen FROM ledger.liquidation") == [("both",)]


# What a row must say whichever of its legs was lost.
MIRRORED = """
    SELECT event_key, account, block_at, tx_hash, market, dex, side, size, price, notional,
           mark_price, notional_mark, account_is_protocol_vault
    FROM ledger.liquidation WHERE market <> '@107'
"""
LEGS_OF_MARKET_FILLS = """
    SELECT DISTINCT legs_seen FROM ledger.liquidation
    WHERE method = 'market' AND account <> coalesce(counterparty, '')
"""


def without_leg(line: str, lost: str) -> str:
    """The line without one leg of each liquidation that carries the object."""
    block = json.loads(line)
    block["events"] = [
        (user, fill)
        for user, fill in block["events"]
        if "liquidation" not in fill
        or (user == fill["liquidation"]["liquidatedUser"]) != (lost == "liquidated")
    ]
    return json.dumps(block, separators=(",", ":")) + "\n"


def test_a_streamed_block_on_many_lines_is_one_block(
    connection: Connection, other: Connection, sim: Simulation, tree: Path, tmp_path: Path
) -> None:
    sync.backfill(connection, str(tree / "node_fills_by_block"))

    write_streaming(sim, tmp_path)
    tally = sync.backfill(other, str(tmp_path))

    assert tally.faults == []
    assert rows(other, LIQUIDATIONS) == rows(connection, LIQUIDATIONS)
    assert rows(other, "SELECT DISTINCT verification FROM ledger.coverage") == [("fills_only",)]
    # the first and the last block with fills may go on in files we lack
    blocks = sim.truth.blocks
    assert blocks is not None
    numbers = [block.number for block in sim.blocks if block.events]
    assert ledger.covered(other, "hyperliquid", "liquidations") == [(numbers[0] + 1, numbers[-1])]


def test_lines_of_user_and_fill_decode_as_blocks_do(
    connection: Connection, other: Connection, sim: Simulation, tree: Path, tmp_path: Path
) -> None:
    sync.backfill(connection, str(tree / "node_fills_by_block"))

    write_fills(sim, tmp_path)
    tally = sync.backfill(other, str(tmp_path))

    assert tally.faults == []
    cut_to_ms = LIQUIDATIONS.replace("block_at,", "date_trunc('milliseconds', block_at),")
    assert rows(other, cut_to_ms) == rows(connection, cut_to_ms)


def test_lines_of_user_and_fill_lose_no_fill_of_any_account(
    connection: Connection, sim: Simulation, tmp_path: Path
) -> None:
    """Blocks of TWAP fills alone name no height; their fills count all the same."""
    write_fills(sim, tmp_path)

    sync.backfill(connection, str(tmp_path))

    # the first block and the last may go on in files we lack; what names no height joins the next
    named = [b for b in sim.blocks if any(int(fill["hash"], 16) for _, fill in b.events)]
    last = max(b.number for b in sim.blocks if b.events)
    inside = [
        b for b in sim.blocks if named[0].number < b.number < last and b.number <= named[-1].number
    ]
    assert rows(connection, "SELECT sum(fills + other_fills) FROM ledger.account_day") == in_order(
        [(Decimal(sum(len(b.events) for b in inside)),)]
    )


FAULTS = ("unknown_method", "object_on_spot_sell", "missing_tid", "foreign_hash", "legs_disagree")


def test_what_cannot_be_decoded_is_kept_with_a_reason(
    connection: Connection, tmp_path: Path
) -> None:
    sim = simulate(small(4, faults=FAULTS))
    write_by_block(sim, tmp_path)

    sync.backfill(connection, str(tmp_path))

    assert rows(connection, LIQUIDATIONS) == true_liquidations(sim.truth)
    found = connection.execute("SELECT block_number, reason FROM liq.undecoded").fetchall()
    assert {number for number, _ in found} == {u.block_number for u in sim.truth.undecoded}
    reasons = {reason.split(" 'p")[0].split(" on @")[0] for _, reason in found}
    assert any("unknown method" in reason for reason in reasons)
    assert any("no perpetual" in reason for _, reason in found)
    assert any("no trade id" in reason for reason in reasons)
    assert any("hash names block" in reason for reason in reasons)
    assert any("legs disagree: sz" in reason for reason in reasons)


def test_a_crash_before_commit_leaves_nothing_and_the_next_run_all(
    connection: Connection, other: Connection, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync.backfill(connection, str(tree))
    empty = everything(other)

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken, pytest.raises(KeyboardInterrupt):
        broken.setattr(ledger, "cover", crash)
        sync.backfill(other, str(tree))

    assert everything(other) == empty
    sync.backfill(other, str(tree))
    assert everything(other) == everything(connection)


def test_two_writers_of_the_same_blocks_count_nothing_twice(
    connection: Connection, other: Connection, conninfo: str, tree: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The second one commits everything while the first has read and not yet written."""
    sync.backfill(other, str(tree))
    real, is_first = ledger.append_raw, True

    def overtaken(*args: Any, **kwargs: Any) -> Any:
        nonlocal is_first
        if is_first:
            is_first = False
            with database.connect(conninfo) as rival:
                sync.backfill(rival, str(tree))
        return real(*args, **kwargs)

    monkeypatch.setattr(ledger, "append_raw", overtaken)
    sync.backfill(connection, str(tree))

    assert everything(connection) == everything(other)


def block_lines(sim: Simulation, folder: Path) -> list[str]:
    """All block lines of the simulation, in order."""
    paths = write_by_block(sim, folder / "lines")
    return [line for path in paths for line in path.read_text().splitlines(keepends=True)]


def write(path: Path, lines: list[str]) -> None:
    path.write_text("".join(lines))
