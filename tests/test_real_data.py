"""Every file of real records goes through the real command line. The expected values stand in the
README of the records and in the published reference, not in our code."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from indexer.store.database import Connection
from tests.conftest import Command
from tests.ledger_rows import rows

ROW = """
    SELECT block_number, account, method, market, dex, quote, side, size, price, notional,
           mark_price, position_before, position_after, is_full_close, fee, realised_pnl,
           margin_mode, counterparty, liquidator, legs_seen
    FROM ledger.liquidation
"""
VAULT = "0x2e3d94f0562703b25c83308a05046ddaf9a8dd14"


@pytest.fixture(scope="session")
def real(real_data: Path) -> Path:
    return real_data / "hyperliquid"


def test_667_uncut_blocks_hold_one_market_liquidation_with_both_legs(
    indexer: Command, connection: Connection, real: Path
) -> None:
    path = real / "node_fills_by_block_20251027_17_uncut.jsonl"

    done = indexer("backfill", "hyperliquid", "--from", path)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == ("667 new blocks, 1 liquidations, 0 ledger liquidations, 0 undecoded\n")
    assert rows(connection, ROW) == [
        (
            777010856, "0xa59f55114ccb120487c4fb5766cb89b123c13563", "market", "WLFI", "", "USDC",
            "short", Decimal(890), Decimal("0.15327"), Decimal("136.4103"), Decimal("0.15319"),
            Decimal(-890), Decimal(0), True, Decimal("0.061384"), Decimal("-11.3475"), None,
            "0x622450a3048ae44a5c54e2b54c91b082313e1d23", None, "both",
        )
    ]  # fmt: skip
    assert rows(
        connection, "SELECT facts, lower(blocks), upper(blocks), verification FROM ledger.coverage"
    ) == [
        ("account_days", 777010829, 777011496, "every_height"),
        ("liquidations", 777010829, 777011496, "every_height"),
    ]


def test_the_accounts_of_the_uncut_blocks_add_up_to_all_trades(
    indexer: Command, connection: Connection, real: Path
) -> None:
    path = real / "node_fills_by_block_20251027_17_uncut.jsonl"
    fills = [
        fill for line in path.read_text().splitlines() for _, fill in json.loads(line)["events"]
    ]
    assert len(fills) == 4756
    perps = [fill for fill in fills if fill["coin"][0] not in "@#" and "/" not in fill["coin"]]

    indexer("backfill", "hyperliquid", "--from", path)

    volume = sum(Decimal(fill["px"]) * Decimal(fill["sz"]) for fill in perps)
    profit = sum(Decimal(fill["closedPnl"]) for fill in perps)
    counted = "SELECT sum(fills), sum(other_fills), sum(volume), sum(realised_pnl)"
    assert rows(connection, f"{counted} FROM ledger.account_day") == [
        (Decimal(len(perps)), Decimal(352), volume.normalize(), profit.normalize())
    ]
    # README of the records: notional of all 2,378 trades; every trade has two legs
    spot = sum(Decimal(f["px"]) * Decimal(f["sz"]) for f in fills if f not in perps)
    assert (volume + spot) / 2 == Decimal("5032610.64420627")


def test_the_one_height_left_out_of_nine_lines_is_reported(
    indexer: Command, connection: Connection, real: Path
) -> None:
    done = indexer(
        "backfill", "hyperliquid", "--from", real / "node_fills_by_block_20260315_00_with_gap.jsonl"
    )

    assert done.returncode == 1
    between = "between 2026-03-14 23:59:59.991006 and 2026-03-15 00:00:00.270622 UTC"
    assert done.stderr == (
        f"fault: hyperliquid account_days: block 923950858 is missing, {between}\n"
        f"fault: hyperliquid liquidations: block 923950858 is missing, {between}\n"
    )
    assert "block 923950858 is missing" in indexer("status").stdout
    assert rows(connection, "SELECT quote, sum(fills) FROM ledger.account_day GROUP BY 1") == [
        ("USDC", Decimal(30)), ("USDH", Decimal(2)), ("USDT0", Decimal(10)),
    ]  # fmt: skip


def test_a_makers_leg_and_a_winners_leg_are_mirrored(
    indexer: Command, connection: Connection, real: Path, tmp_path: Path
) -> None:
    lines = (real / "node_fills_by_block_lines.jsonl").read_text().splitlines(keepends=True)
    for number, line in enumerate(lines):
        (tmp_path / f"node_fills_by_block_{number}").write_text(line)

        indexer("backfill", "hyperliquid", "--from", tmp_path / f"node_fills_by_block_{number}")

    unknown: tuple[Any, ...] = (None, None, None, None, None, None)
    assert rows(connection, ROW) == [
        (
            1052527672, "0x5ef843ccf26810073ee689a954f6d05f5b48fccb", "market", "SOL", "", "USDC",
            "short", Decimal("0.58"), Decimal("72.153"), Decimal("41.84874"), Decimal("72.149"),
            *unknown, "0xa775d1bd91ee2cc4cae6113e5fd9c0c17b355277", None, "counterparty",
        ),
        (
            758800641, VAULT, "adl_of_vault", "AVAX", "", "USDC", "long", Decimal("28.53"),
            Decimal("22.075"), Decimal("629.79975"), Decimal("22.025"), *unknown,
            "0xe92d2041199b18f611b137457f3acee8bedb22d3", None, "counterparty",
        ),
    ]  # fmt: skip


def test_lines_of_two_hours_in_one_file_go_backwards_and_are_refused(
    indexer: Command, connection: Connection, real: Path
) -> None:
    path = real / "node_fills_by_block_lines.jsonl"

    done = indexer("backfill", "hyperliquid", "--from", path)

    assert done.returncode == 1
    assert done.stderr == (
        f"fault: {path}:2: block 758800641 after block 1052527672: the height goes backwards\n"
    )
    assert rows(connection, "SELECT block_number FROM ledger.liquidation") == [(1052527672,)]


def test_a_vaults_fills_from_the_api_tell_of_two_takeovers(
    indexer: Command, connection: Connection, real: Path
) -> None:
    done = indexer(
        "backfill", "hyperliquid", "--account", VAULT,
        "--from", real / "api_userFills_liquidator_vault_backstop.json",
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (0, "")
    unknown: tuple[Any, ...] = (None, None, None, None, None)
    assert rows(connection, ROW.replace("block_number,", "")) == [
        (
            "0xcb02837caaee310c178501855b63bf7f4f4b1f8b", "backstop", "HMSTR", "", "USDC", "short",
            Decimal("13385820").normalize(), Decimal("0.000255"), Decimal("3413.3841"),
            Decimal("0.000231"), *unknown, "isolated", VAULT, VAULT, "counterparty",
        ),
        (
            "0xf4349a87d8c71a517ecadbefbbc4b0db70fc6108", "backstop", "PURR", "", "USDC", "short",
            Decimal(882), Decimal("0.11993"), Decimal("105.77826"), Decimal("0.10869"), *unknown,
            "isolated", VAULT, VAULT, "counterparty",
        ),
    ]  # fmt: skip
    assert rows(connection, "SELECT * FROM ledger.coverage") == []
    assert rows(connection, "SELECT * FROM ledger.account_day") == []


def test_the_same_liquidation_from_rest_and_websocket_is_one_row(
    indexer: Command, connection: Connection, real: Path
) -> None:
    account = "0x61fb9e7583dc92cc76eb52f93d88addaa0f02265"
    for name in ("ws_userFills_snapshot_own_market", "api_userFills_own_market"):
        path = next(real.glob(f"{name}*"))
        done = indexer("backfill", "hyperliquid", "--from", path, "--account", account)
        assert (done.returncode, done.stderr) == (0, "")

    assert rows(connection, ROW) == [
        (
            0x347F4741, account, "market", "xyz:SILVER", "xyz", "USDC", "long", Decimal("0.6"),
            Decimal("80.601"), Decimal("48.3606"), Decimal("80.498"), Decimal("0.6"), Decimal(0),
            True, Decimal("0.004178"), Decimal("-1.2843"), None, None, None, "liquidated",
        )
    ]  # fmt: skip


# The heights below stand in the hashes: 0x…0425257bd4… and 0x…04347f4741….
def test_single_fills_decode_or_say_why_not(
    indexer: Command, connection: Connection, real: Path
) -> None:
    done = indexer("backfill", "hyperliquid", "--from", real / "fills_single.jsonl")

    assert done.returncode == 0
    assert rows(connection, ROW) == [
        (
            0x25257BD4, "0x5078c2fbea2b2ad61bc840bc023e35fce56bedb6", "market", "BTC", "", "USDC",
            "short", Decimal("0.03046"), Decimal(106890), Decimal("3255.8694"), Decimal(106834),
            Decimal("-0.07668"), Decimal("-0.04622"), False, Decimal("0.846526"),
            Decimal("-43.4055"), None, None, None, "liquidated",
        )
    ]  # fmt: skip
    assert rows(connection, "SELECT reason FROM ledger.undecoded") == [
        ("the record does not say whose fill it is",),
        ("the record does not say whose fill it is",),
    ]


def test_three_records_of_one_backstop_agree_on_price_and_equity(
    indexer: Command, connection: Connection, real: Path
) -> None:
    account = "0x4e8ffa69c78d7a067e1795fbe16a5c80c90b6c05"

    done = indexer(
        "backfill", "hyperliquid", "--account", account,
        "--from", real / "backstop_three_records_one_event.json",
    )  # fmt: skip

    assert done.returncode == 0
    found = connection.execute(
        "SELECT price, mark_price, size, notional_mark_usd, margin_mode FROM liq.liquidations"
    ).fetchone()
    assert found == (
        Decimal("2316.0"), Decimal("2323.3"), Decimal("0.1037"), Decimal("240.92621"), "isolated",
    )  # fmt: skip
    said = connection.execute(
        "SELECT equity, ledger_notional_mark, margin_mode FROM liq.actions"
    ).fetchone()
    assert said == (Decimal("0.756264"), Decimal("240.92621"), "isolated")
    # backstop price = mark - equity / size, in five significant digits: 2316.007 is 2316.0
    assert round(Decimal("2323.3") - Decimal("0.756264") / Decimal("0.1037"), 1) == found[0]
    # the vault's leg is abridged at its source: no trade id
    assert rows(connection, "SELECT reason FROM ledger.undecoded") == [("no trade id",)]


def test_ledger_deltas_without_a_hash_are_kept_as_undecoded(
    indexer: Command, connection: Connection, real: Path
) -> None:
    account = "0x00000000000000000000000000000000000000aa"

    done = indexer(
        "backfill", "hyperliquid", "--account", account,
        "--from", real / "ledger_liquidation_deltas.jsonl",
    )  # fmt: skip

    assert done.returncode == 0
    assert rows(
        connection,
        "SELECT account, block_number, account_value, margin_mode, notional_mark, positions::text"
        " FROM ledger.ledger_liquidation",
    ) == [
        (
            account, None, Decimal("2.956494"), "cross", Decimal("356.80015"),
            '[{"szi": "29.21", "coin": "ATOM"}]',
        )
    ]  # fmt: skip
    assert len(rows(connection, "SELECT reason FROM ledger.undecoded")) == 3


def test_a_testnet_frame_of_nobody_is_kept_as_undecoded(
    indexer: Command, connection: Connection, real: Path
) -> None:
    name = "ws_user_event_fill_market_liquidation_testnet.json"

    assert indexer("backfill", "hyperliquid", "--from", real / name).returncode == 0
    assert rows(connection, "SELECT block_number, reason FROM ledger.undecoded") == [
        (589020873, "the record does not say whose fill it is")
    ]


@pytest.mark.parametrize(
    "name",
    [
        "api_userFillsByTime_2023-05_old_shape.json",
        "api_userFills_special_dirs.json",
        "api_userNonFundingLedgerUpdates_no_liquidation.json",
    ],
)
def test_records_without_a_liquidation_give_none(
    indexer: Command, connection: Connection, real: Path, name: str
) -> None:
    done = indexer("backfill", "hyperliquid", "--from", real / name, "--account", VAULT)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("0 new blocks, 0 liquidations, 0 ledger liquidations, 0 undec")
    assert rows(connection, "SELECT * FROM ledger.raw_event") == []


@pytest.mark.parametrize("name", ["node_trades_lines.jsonl", "ws_trades.jsonl"])
def test_trades_carry_no_mark_and_are_refused(indexer: Command, real: Path, name: str) -> None:
    done = indexer("backfill", "hyperliquid", "--from", real / name)

    assert done.returncode == 1
    assert done.stderr == (
        f"fault: {real / name}: no fills and no ledger updates in it; trades carry no mark\n"
    )


def test_published_studies_are_no_records(indexer: Command, real: Path) -> None:
    for path in sorted(real.glob("oct10_*")):
        done = indexer("backfill", "hyperliquid", "--from", path)

        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        assert str(path) in done.stderr


def test_no_file_of_the_records_is_left_out(real: Path) -> None:
    """Each file is named in a test above, or is a published study."""
    text = Path(__file__).read_text()
    prefixes = ("oct10_", "README", "ws_userFills_snapshot_own_market", "api_userFills_own_market")
    names = [path.name for path in real.iterdir() if not path.name.startswith(prefixes)]

    assert [name for name in names if name not in text] == []
