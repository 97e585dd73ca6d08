"""The simulator is only worth something if it obeys the real files and counts correctly."""

import json
import os
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path

import lz4.frame
import pytest

from tests.simulator import (
    PROTOCOL_VAULTS,
    RECORDING,
    SIMULATED,
    Config,
    Simulation,
    simulate,
    small,
    write_by_block,
    write_fills,
    write_misc,
    write_recording,
    write_streaming,
)
from tests.simulator.bulk import write_hour
from tests.simulator.config import FAULTS
from tests.simulator.validate import trades, violations

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "hyperliquid"
HOUSEKEEPING = {"Net Child Vaults", "Settlement", "Spot Dust Conversion"}
QUOTES = {"km": "USDH", "cash": "USDT0"}
SEEDS = (1, 2, 3)


def real_lines(name: str) -> list[str]:
    path = SHARED / name
    if not path.exists():
        if "CI" in os.environ:
            pytest.fail(f"{path} is missing")
        pytest.skip(f"no real sample {path}")
    return path.read_text().splitlines()


@cache
def simulation(seed: int) -> Simulation:
    return simulate(small(seed))


def contents(paths: list[Path]) -> dict[str, bytes]:
    return {"/".join(path.parts[-4:]): path.read_bytes() for path in paths}


def all_formats(sim: Simulation, directory: Path) -> dict[str, bytes]:
    writers = (write_by_block, write_fills, write_streaming, write_misc)
    return contents([path for write in writers for path in write(sim, directory)])


def lines_of(paths: list[Path]) -> list[str]:
    return [line for path in paths for line in path.read_text().splitlines()]


def legs_of(lines: list[str]) -> list[list]:
    return [event for line in lines for event in json.loads(line)["events"]]


# -- the same facts as the real data


def test_real_blocks_obey_the_facts() -> None:
    assert violations(real_lines("node_fills_by_block_20251027_17_uncut.jsonl")) == []


def test_real_blocks_with_a_gap_obey_the_facts_but_for_the_gap() -> None:
    lines = real_lines("node_fills_by_block_20260315_00_with_gap.jsonl")
    assert violations(lines, frozenset({923_950_858})) == []
    assert violations(lines) == ["block 923950859: heights do not follow"]


@pytest.mark.parametrize("seed", SEEDS)
def test_simulated_blocks_obey_the_facts(seed: int, tmp_path: Path) -> None:
    assert violations(lines_of(write_by_block(simulation(seed), tmp_path))) == []


def test_twelve_blocks_a_second_obey_the_facts(tmp_path: Path) -> None:
    sim = simulate(Config(seed=4, blocks=600, stories=("rare_shapes", "shared_hash")))
    assert violations(lines_of(write_by_block(sim, tmp_path))) == []


def test_a_removed_leg_and_a_removed_line_are_noticed(tmp_path: Path) -> None:
    lines = lines_of(write_by_block(simulation(1), tmp_path))
    assert violations(lines[:50] + lines[51:])[0].endswith("heights do not follow")
    block = json.loads(next(line for line in lines if '"market"' in line))
    del block["events"][0]
    assert violations([json.dumps(block, separators=(",", ":"))]) != []


# -- files


def test_the_same_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    first = all_formats(simulate(small(5)), tmp_path / "a")
    assert all_formats(simulate(small(5)), tmp_path / "b") == first
    assert all_formats(simulation(1), tmp_path / "c") != first


def test_hours_are_cut_by_the_nodes_clock_and_named_without_a_zero(tmp_path: Path) -> None:
    written = all_formats(simulation(1), tmp_path)
    assert sorted(written) == [
        "misc_events_by_block/hourly/20251027/23",
        "misc_events_by_block/hourly/20251028/0",
        "node_fills/hourly/20251027/23",
        "node_fills/hourly/20251028/0",
        "node_fills_by_block/hourly/20251027/23",
        "node_fills_by_block/hourly/20251028/0",
        "node_fills_streaming/hourly/20251027/23",
        "node_fills_streaming/hourly/20251028/0",
    ]


def test_the_first_line_of_an_hour_may_be_of_the_hour_before(tmp_path: Path) -> None:
    sim = simulate(Config(seed=6, blocks=200, stories=()))
    paths = write_by_block(sim, tmp_path)
    first = json.loads(paths[1].read_text().splitlines()[0])
    assert [path.name for path in paths] == ["16", "17"]
    assert first["block_time"][:16] == "2025-10-27T16:59"
    assert first["local_time"][:16] == "2025-10-27T17:00"


def test_all_fill_formats_carry_the_same_fills(tmp_path: Path) -> None:
    sim = simulation(1)
    legs = legs_of(lines_of(write_by_block(sim, tmp_path)))
    streamed = lines_of(write_streaming(sim, tmp_path))
    without_twap = [[user, {k: v for k, v in fill.items() if k != "twapId"}] for user, fill in legs]
    assert legs_of(streamed) == legs
    assert [json.loads(line) for line in lines_of(write_fills(sim, tmp_path))] == without_twap
    assert len(streamed) > len({json.loads(line)["block_number"] for line in streamed})


def test_compressed_files_hold_the_plain_bytes(tmp_path: Path) -> None:
    plain = contents(write_misc(simulation(1), tmp_path))
    packed = contents(write_misc(simulation(1), tmp_path, compress=True))
    unpacked = {name[: -len(".lz4")]: lz4.frame.decompress(data) for name, data in packed.items()}
    assert unpacked == plain


# -- truth against a second, naive count


def moment_of(text: str) -> datetime:
    return datetime.fromisoformat(text[:26]).replace(tzinfo=UTC)


def liquidation_legs(lines: list[str]) -> Iterator[tuple[dict, list[list]]]:
    for line in lines:
        block = json.loads(line)
        for legs in trades(block["events"]):
            if "liquidation" in legs[0][1]:
                yield block, legs


def method_of(own: dict, other: dict, account: str) -> str:
    if "Borrow" in own["dir"]:
        return "borrow_partial" if own["dir"].startswith("Partial") else "borrow_backstop"
    if other["dir"] == "Auto-Deleveraging":
        return "adl_of_vault" if account in PROTOCOL_VAULTS else "adl_of_user"
    return own["liquidation"]["method"]


def recounted_liquidations(lines: list[str]) -> list[tuple]:
    rows = []
    for block, legs in liquidation_legs(lines):
        account = legs[0][1]["liquidation"]["liquidatedUser"]
        own = next(fill for user, fill in legs if user == account)
        counterparty, other = next(leg for leg in legs if leg[0] != account)
        size, price = Decimal(own["sz"]), Decimal(own["px"])
        mark = Decimal(own["liquidation"]["markPx"])
        before = Decimal(own["startPosition"])
        after = before - size if own["side"] == "A" else before + size
        dex = own["coin"].partition(":")[0] if ":" in own["coin"] else ""
        rows.append(
            (
                *(block["block_number"], moment_of(block["block_time"]), own["coin"], own["tid"]),
                *(own["hash"], own["oid"], account, counterparty, other["oid"]),
                *(method_of(own, other, account), "long" if own["side"] == "A" else "short"),
                *(size, price, size * price, mark, size * mark, before, after, after == 0),
                *(Decimal(own["fee"]), own["feeToken"], Decimal(own["closedPnl"])),
                *(own["dir"], other["dir"], dex, QUOTES.get(dex, "USDC")),
            )
        )
    return rows


def recounted_days(lines: list[str]) -> dict[tuple, list]:
    days: dict[tuple, list] = {}
    for line in lines:
        block = json.loads(line)
        for account, fill in block["events"]:
            coin = fill["coin"]
            quote = QUOTES.get(coin.partition(":")[0], "USDC")
            zeros = [0, 0, Decimal(0), Decimal(0), Decimal(0), ""]
            day = days.setdefault((account, moment_of(block["block_time"]).date(), quote), zeros)
            if coin[0] in "@#" or "/" in coin or fill["dir"] in HOUSEKEEPING:
                day[1] += 1
                continue
            size, price = Decimal(fill["sz"]), Decimal(fill["px"])
            start = Decimal(fill["startPosition"])
            after = start - size if fill["side"] == "A" else start + size
            day[0] += 1
            day[2] += size * price
            day[3] += Decimal(fill["closedPnl"])
            if max(abs(start), abs(after)) * price > day[4]:
                day[4], day[5] = max(abs(start), abs(after)) * price, coin
    return days


def recounted_ledger(lines: list[str]) -> list[tuple]:
    return [
        (
            event["inner"]["LedgerUpdate"]["users"][0],
            event["hash"],
            block["block_number"],
            moment_of(event["time"]),
            Decimal(delta["accountValue"]),
            delta["leverageType"],
            Decimal(delta["liquidatedNtlPos"]),
            tuple((each["coin"], Decimal(each["szi"])) for each in delta["liquidatedPositions"]),
        )
        for block in map(json.loads, lines)
        for event in block["events"]
        if (delta := event["inner"]["LedgerUpdate"]["delta"])["type"] == "liquidation"
    ]


def values(row: object, but: tuple[str, ...] = ()) -> tuple:
    return tuple(value for name, value in vars(row).items() if name not in but)


@pytest.mark.parametrize("seed", SEEDS)
def test_truth_equals_a_naive_recount_of_the_files(seed: int, tmp_path: Path) -> None:
    sim = simulation(seed)
    lines = lines_of(write_by_block(sim, tmp_path))
    days = {(*key, *day) for key, day in recounted_days(lines).items()}
    assert [values(row, but=("variant",)) for row in sim.truth.liquidations] == (
        recounted_liquidations(lines)
    )
    assert {values(day) for day in sim.truth.account_days} == days
    assert len(sim.truth.account_days) == len(days)
    assert sim.truth.fills == len(legs_of(lines))
    assert [values(row) for row in sim.truth.ledger_liquidations] == (
        recounted_ledger(lines_of(write_misc(sim, tmp_path)))
    )


def test_blocks_are_counted(tmp_path: Path) -> None:
    sim = simulation(1)
    blocks = [json.loads(line) for line in lines_of(write_by_block(sim, tmp_path))]
    empty = sum(block["events"] == [] for block in blocks)
    assert values(sim.truth.blocks) == (
        blocks[0]["block_number"],
        blocks[-1]["block_number"],
        moment_of(blocks[0]["block_time"]),
        moment_of(blocks[-1]["block_time"]),
        1100,
        empty,
    )
    assert 20 <= empty * 100 // 1100 <= 30


def test_groups_add_up_to_the_liquidations_of_users() -> None:
    truth = simulation(1).truth
    total = sum(row.notional for row in truth.of_users)
    for groups in (truth.orders, truth.actions, truth.episodes):
        assert sum(group.notional for group in groups) == total
        assert sum(group.fills for group in groups) == len(truth.of_users)
    assert not {group.key[0] for group in truth.episodes} & set(PROTOCOL_VAULTS)


# -- the stories


def test_every_method_side_and_dex_occurs() -> None:
    rows = simulation(1).truth.liquidations
    assert {(row.method, row.side) for row in rows} >= {
        *(("market", "long"), ("market", "short"), ("backstop", "long"), ("backstop", "short")),
        *(("adl_of_user", "long"), ("adl_of_vault", "long"), ("adl_of_vault", "short")),
        *(("borrow_partial", "long"), ("borrow_backstop", "long")),
    }
    assert {(row.dex, row.quote) for row in rows} == {
        *(("", "USDC"), ("xyz", "USDC"), ("km", "USDH"), ("cash", "USDT0")),
    }
    assert {row.dir_liquidated for row in rows} == {
        *("Close Long", "Close Short", "Liquidated Cross Long", "Liquidated Cross Short"),
        *("Liquidated Isolated Long", "Liquidated Isolated Short"),
        *("Partial Borrow Liquidation", "Backstop Borrow Liquidation"),
    }


def test_every_ordinary_shape_occurs(tmp_path: Path) -> None:
    legs = legs_of(lines_of(write_by_block(simulation(1), tmp_path)))
    dirs = {fill["dir"] for _, fill in legs}
    twins = Counter((fill["tid"], user) for user, fill in legs if fill["tid"])
    assert dirs >= {
        *("Open Long", "Open Short", "Close Long", "Close Short", "Long > Short", "Short > Long"),
        *("Buy", "Sell", "Auto-Deleveraging", *HOUSEKEEPING),
    }
    assert {fill["coin"] for _, fill in legs} >= {"@107", "@142", "PURR/USDC", "#1890"}
    assert Counter(twins.values())[2] >= 2  # self-trades
    assert any("builderFee" in fill for _, fill in legs)
    assert any("cloid" in fill for _, fill in legs)
    assert len({user for user, fill in legs if fill["tid"] == 0}) > 10


def test_whales_of_one_ten_and_a_hundred_millions_are_found() -> None:
    truth = simulation(1).truth
    whales = truth.whales
    assert len(whales.episode_1m) >= 5
    assert len(whales.episode_10m) == 2
    assert len(whales.episode_100m) == 1
    assert whales.position_10m >= whales.episode_10m >= whales.episode_100m
    assert not whales.position_10m & set(PROTOCOL_VAULTS)


def test_the_largest_whale_goes_a_fifth_first_then_waits_and_ends_in_the_backstop() -> None:
    truth = simulation(1).truth
    (account,) = truth.whales.episode_100m
    rows = [row for row in truth.liquidations if row.account == account]
    times = sorted({row.block_time for row in rows})
    first_part = sum(row.size for row in rows if row.block_time == times[0])
    assert (rows[0].position_before, first_part) == (Decimal(40000), Decimal(8000))
    assert times[1] - times[0] > timedelta(seconds=30)
    assert (rows[-1].method, rows[-1].is_full_close) == ("backstop", True)
    assert len(rows) > 50


def test_one_account_is_liquidated_in_three_episodes_above_a_million() -> None:
    truth = simulation(1).truth
    large = Counter(group.key[0] for group in truth.episodes if group.notional > 1_000_000)
    ((account, count),) = large.most_common(1)
    first = next(group for group in truth.episodes if group.key[0] == account)
    assert count == 3
    assert timedelta(seconds=40) < first.last_at - first.first_at < timedelta(seconds=600)


def test_one_maker_order_meets_three_liquidated_accounts_under_one_hash() -> None:
    met: dict[tuple[str, int], set[str]] = {}
    for row in simulation(1).truth.liquidations:
        if row.method == "market":
            met.setdefault((row.hash, row.counterparty_oid), set()).add(row.account)
    assert max(len(accounts) for accounts in met.values()) == 3


def test_a_backstop_executes_at_the_bankruptcy_price_of_its_ledger_delta() -> None:
    truth = simulation(1).truth
    delta = next(each for each in truth.ledger_liquidations if len(each.positions) == 1)
    row = next(row for row in truth.liquidations if row.hash == delta.hash)
    assert delta.liquidated_ntl == row.notional_mark
    assert abs(row.mark_price - delta.account_value / row.size - row.price) < Decimal("0.1")


def test_planted_faults_are_in_the_files_and_are_told() -> None:
    sim = simulate(small(2, FAULTS))
    methods = Counter(
        fill["liquidation"]["method"]
        for block in sim.blocks
        for _, fill in block.events
        if "liquidation" in fill
    )
    accounts = {each.account for each in sim.truth.undecoded}
    assert [each.fault for each in sim.truth.undecoded] == list(FAULTS)
    assert methods["portfolio"] == 2
    assert sum("tid" not in fill for block in sim.blocks for _, fill in block.events) == 2
    assert not accounts & {row.account for row in sim.truth.liquidations}


def test_a_story_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(ValueError, match="whale_of_ten_millions"):
        simulate(Config(blocks=100, stories=("whale_of_ten_millions",)))


# -- the recording and the benchmark file


def test_the_bundled_recording_is_what_the_simulator_makes(tmp_path: Path) -> None:
    made = write_recording(simulate(RECORDING), tmp_path)
    bundled = Path(__file__).parents[1] / "indexer" / "recording"

    assert {path.relative_to(tmp_path) for path in made} == {
        path.relative_to(bundled) for path in bundled.rglob("*") if path.is_file()
    }
    for path in made:
        assert unpacked(bundled / path.relative_to(tmp_path)) == unpacked(path)


def unpacked(path: Path) -> bytes:
    data = path.read_bytes()
    return lz4.frame.decompress(data) if path.suffix == ".lz4" else data


def test_the_recording_is_small_and_crosses_hours_and_midnight(tmp_path: Path) -> None:
    sim = simulate(RECORDING)
    paths = write_recording(sim, tmp_path)
    assert [str(path.relative_to(tmp_path)) for path in paths] == [
        "node_fills_by_block/hourly/20251027/22.lz4",
        "node_fills_by_block/hourly/20251027/23.lz4",
        "node_fills_by_block/hourly/20251028/0.lz4",
        "misc_events_by_block/hourly/20251027/22.lz4",
        "misc_events_by_block/hourly/20251027/23.lz4",
        "misc_events_by_block/hourly/20251028/0.lz4",
        SIMULATED,
    ]
    assert sum(path.stat().st_size for path in paths) < 720_000
    assert f"seed {RECORDING.seed}" in paths[-1].read_text()
    assert len(sim.truth.whales.episode_100m) == 1
    assert {row.method for row in sim.truth.liquidations} == {
        *("market", "backstop", "adl_of_user", "adl_of_vault", "borrow_partial"),
        "borrow_backstop",
    }


def test_the_bulk_file_obeys_the_facts_and_knows_its_sums(tmp_path: Path) -> None:
    truth = write_hour(tmp_path / "21.lz4", 3_000_000, seed=9)
    lines = lz4.frame.decompress((tmp_path / "21.lz4").read_bytes()).decode().splitlines()
    rows = recounted_liquidations(lines)
    legs = legs_of(lines)
    assert violations(lines) == []
    assert (truth.lines, truth.fills, truth.liquidations) == (len(lines), len(legs), len(rows))
    assert truth.last_block == json.loads(lines[-1])["block_number"]
    assert truth.notional == sum(row[13] for row in rows)
    assert truth.volume == sum(Decimal(fill["px"]) * Decimal(fill["sz"]) for _, fill in legs)
    assert truth.users == len({user for user, _ in legs})
    assert truth.bytes == sum(len(line) + 1 for line in lines)


def test_bulk_files_follow_their_seed(tmp_path: Path) -> None:
    first, again, other = (
        write_hour(tmp_path / str(number) / "21", 200_000, seed=seed)
        for number, seed in enumerate((1, 1, 2))
    )
    assert first == again
    assert (tmp_path / "0" / "21").read_bytes() == (tmp_path / "1" / "21").read_bytes()
    assert first != other
