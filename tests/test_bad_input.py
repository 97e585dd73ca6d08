"""What bad input gets: one message with file and line, everything before it kept, the gap in
`indexer status`, exit code 1; wrong usage exits with 2 and a hint."""

import os
import re
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from subprocess import CompletedProcess

import lz4.frame
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from indexer.store.database import Connection
from tests.ledger_rows import LIQUIDATIONS, Rows, everything, in_order, rows, true_liquidations
from tests.rpc_proxy import plays
from tests.simulator import Config, Simulation, simulate, write_by_block, write_fills, write_misc
from tests.simulator.write import write_streaming

FIRST = 777_290_000
# Files of three hours by the node's clock: 22 has 60 heights, 23 has 360, 0 has 30.
CONFIG = Config(
    seed=7,
    start=datetime(2025, 10, 27, 22, 50, 0, tzinfo=UTC),
    first_block=FIRST,
    blocks=450,
    block_interval_ms=10_000,
    accounts=20,
)
HOUR_23, HOUR_0, END = FIRST + 60, FIRST + 420, FIRST + 450
# Lines of the file of hour 23: with a liquidation, and without.
MARKED, PLAIN = 156, 152

Command = Callable[..., CompletedProcess[str]]


@pytest.fixture(scope="module")
def sim() -> Simulation:
    return simulate(CONFIG)


@pytest.fixture(scope="module")
def whole(sim: Simulation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A faultless tree, not to be written to."""
    folder = tmp_path_factory.mktemp("whole")
    write_by_block(sim, folder)
    return folder


@pytest.fixture
def tree(whole: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(whole, tmp_path / "node"))


@pytest.fixture
def hour(tree: Path) -> Path:
    """The file in the middle, of 360 lines."""
    return tree / "node_fills_by_block" / "hourly" / "20251027" / "23"


@pytest.fixture
def indexer(quick_indexer: Command) -> Command:
    return quick_indexer


# -- what is said and what is stored


def said(result: CompletedProcess[str]) -> list[str]:
    """The messages of a run that failed in an orderly way, without the times beside a hole."""
    assert (result.returncode, "Traceback" in result.stderr) == (1, False), result.stderr
    return [line.partition(", between")[0] for line in result.stderr.splitlines()]


def holes(indexer: Command) -> list[str]:
    """The gaps that `indexer status` names."""
    lines = indexer("status").stdout.splitlines()
    return [line.partition(", between")[0] for line in lines if "missing, between" in line]


def missing(low: int, high: int, *facts: str) -> list[str]:
    """How the heights from `low` up to, not including, `high` are called missing."""
    which = f"block {low} is" if high == low + 1 else f"{high - low} blocks {low} to {high - 1} are"
    return [
        f"hyperliquid {name}: {which} missing" for name in facts or ("account_days", "liquidations")
    ]


def as_faults(messages: list[str]) -> list[str]:
    return [f"fault: {message}" for message in messages]


def true_rows(sim: Simulation, low: int, high: int) -> Rows:
    """The liquidations that really were, without those of the heights `low` to `high`."""
    return [row for row in true_liquidations(sim.truth) if not low <= row[0] < high]


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines(keepends=True)


def put(path: Path, lines: list[str]) -> None:
    path.write_text("".join(lines))


def run_with_gap(
    indexer: Command, connection: Connection, sim: Simulation, tree: Path, low: int, high: int
) -> list[str]:
    """Backfill a tree in which the heights `low` to `high` cannot be read; give its messages.

    All other rows must be there, and the gap, nothing else, in the report and in `status`.
    """
    messages = said(indexer("backfill", "hyperliquid", "--from", tree))
    assert rows(connection, LIQUIDATIONS) == true_rows(sim, low, high)
    assert holes(indexer) == missing(low, high)
    assert messages[-2:] == as_faults(missing(low, high))
    return messages[:-2]


# -- compressed files


def compress(path: Path, **options: object) -> Path:
    """Put an LZ4 file in the place of a plain one."""
    packed = path.with_suffix(".lz4")
    packed.write_bytes(lz4.frame.compress(path.read_bytes(), **options))
    path.unlink()
    return packed


@plays("F04", "an LZ4 frame that is cut off", "a fault with its byte; what came before is kept")
def test_a_truncated_lz4_frame_is_read_up_to_the_cut(
    indexer: Command, connection: Connection, sim: Simulation, tree: Path, hour: Path
) -> None:
    packed = compress(hour)
    size = packed.stat().st_size * 2 // 3
    os.truncate(packed, size)
    readable = lz4.frame.LZ4FrameDecompressor().decompress(packed.read_bytes()).count(b"\n")

    messages = run_with_gap(indexer, connection, sim, tree, HOUR_23 + readable, HOUR_0)

    assert messages == [
        f"fault: {packed}:{readable + 1}: LZ4 frame cut off at byte {size}, the end of the file"
    ]


def test_a_damaged_lz4_frame_is_read_up_to_the_damage(
    indexer: Command, connection: Connection, sim: Simulation, tree: Path, hour: Path
) -> None:
    packed = compress(hour, block_checksum=True, block_linked=False)
    data = bytearray(packed.read_bytes())
    at = len(data) * 2 // 3
    data[at] ^= 0xFF
    packed.write_bytes(data)

    messages = said(indexer("backfill", "hyperliquid", "--from", tree))

    found = re.fullmatch(rf"fault: {packed}:(\d+): damaged LZ4 frame near byte \d+", messages[0])
    assert found
    low = HOUR_23 + int(found[1]) - 1
    assert low > HOUR_23 + 100
    assert rows(connection, LIQUIDATIONS) == true_rows(sim, low, HOUR_0)
    assert holes(indexer) == missing(low, HOUR_0)
    assert messages[1:] == as_faults(missing(low, HOUR_0))


@plays("F05", "two LZ4 frames in one file", "both are read")
def test_frames_one_after_the_other_are_read(
    indexer: Command, connection: Connection, sim: Simulation, tree: Path, hour: Path
) -> None:
    lines = lines_of(hour)
    put(hour, lines[:MARKED])
    packed = compress(hour)
    with packed.open("ab") as file:
        file.write(lz4.frame.compress("".join(lines[MARKED:]).encode()))

    result = indexer("backfill", "hyperliquid", "--from", tree)

    assert (result.returncode, result.stderr) == (0, "")
    assert rows(connection, LIQUIDATIONS) == true_liquidations(sim.truth)


@plays("F06", "bytes after an LZ4 frame that are none", "a fault; the frame's own lines are kept")
def test_what_follows_a_frame_and_is_none_is_a_fault(
    indexer: Command, connection: Connection, sim: Simulation, tree: Path, hour: Path
) -> None:
    count = len(lines_of(hour))
    packed = compress(hour)
    with packed.open("ab") as file:
        file.write(b"and then some")

    messages = said(indexer("backfill", "hyperliquid", "--from", tree))

    assert messages[0].startswith(f"fault: {packed}:{count + 1}: ")
    assert rows(connection, LIQUIDATIONS) == true_liquidations(sim.truth)


def test_a_file_that_is_no_lz4_frame_is_called_so(
    indexer: Command, connection: Connection, sim: Simulation, tree: Path, hour: Path
) -> None:
    packed = hour.rename(hour.with_suffix(".lz4"))

    messages = run_with_gap(indexer, connection, sim, tree, HOUR_23, HOUR_0)

    assert messages == [f"fault: {packed}:1: not an LZ4 frame"]


@pytest.mark.parametrize("name", ["23", "23.lz4"])
@plays("F15", "a file of 0 bytes, plain or compressed", "a fault and a hole, not an empty hour")
def test_an_empty_file_is_a_fault(
    indexer: Command, connection: Connection, sim: Simulation, tree: Path, hour: Path, name: str
) -> None:
    hour.unlink()
    empty = hour.with_name(name)
    empty.touch()

    messages = run_with_gap(indexer, connection, sim, tree, HOUR_23, HOUR_0)

    assert messages == [f"fault: {empty}:1: empty file"]


# -- lines


def test_a_last_line_without_its_end_is_cut_off(
    indexer: Command, connection: Connection, sim: Simulation, tree: Path, hour: Path
) -> None:
    lines = lines_of(hour)[:MARKED]
    put(hour, [*lines[:-1], lines[-1][: len(lines[-1]) // 2]])

    messages = run_with_gap(indexer, connection, sim, tree, HOUR_23 + MARKED - 1, HOUR_0)

    assert messages == [f"fault: {hour}:{MARKED}: line cut off"]


def test_a_whole_last_line_may_lack_its_newline(
    indexer: Command, connection: Connection, sim: Simulation, tree: Path, hour: Path
) -> None:
    hour.write_bytes(hour.read_bytes()[:-1])

    result = indexer("backfill", "hyperliquid", "--from", tree)

    assert (result.returncode, result.stderr) == (0, "")
    assert rows(connection, LIQUIDATIONS) == true_liquidations(sim.truth)


@pytest.mark.parametrize(
    ("number", "share"), [(MARKED, 0.01), (MARKED, 0.5), (MARKED, 0.99), (PLAIN, 0.5)]
)
def test_half_a_line_in_the_middle_ends_the_file(
    indexer: Command, connection: Connection, sim: Simulation, tree: Path, hour: Path,
    number: int, share: float,
) -> None:  # fmt: skip
    lines = lines_of(hour)
    lines[number - 1] = lines[number - 1][: int(len(lines[number - 1]) * share)] + "\n"
    put(hour, lines)

    messages = run_with_gap(indexer, connection, sim, tree, HOUR_23 + number - 1, HOUR_0)

    assert re.fullmatch(rf"fault: {hour}:{number}: \S.*", messages[0])
    assert len(messages) == 1


def head_of(line: str) -> int:
    """Where the events of a block line begin."""
    return line.index('"events"')


@pytest.mark.parametrize("accounts", ["--accounts", "--no-accounts"])
def test_half_a_line_with_another_behind_it_stands_for_neither(
    indexer: Command, connection: Connection, sim: Simulation, tree: Path, hour: Path,
    accounts: str,
) -> None:  # fmt: skip
    """As a node leaves it that was killed while it wrote, and started again."""
    lines = lines_of(hour)
    half = lines[MARKED - 1][: head_of(lines[MARKED - 1])]
    put(hour, [*lines[: MARKED - 1], half + lines[MARKED], *lines[MARKED + 1 :]])
    low = HOUR_23 + MARKED - 1

    messages = said(indexer("backfill", "hyperliquid", "--from", tree, accounts))

    assert messages[0].startswith(f"fault: {hour}:{MARKED}: invalid JSON: ")
    assert rows(connection, LIQUIDATIONS) == true_rows(sim, low, HOUR_0)
    assert missing(low, HOUR_0, "liquidations")[0] in holes(indexer)


@pytest.mark.parametrize("number", [MARKED, PLAIN])
def test_invalid_json_is_refused_with_its_line(
    indexer: Command, connection: Connection, sim: Simulation, tree: Path, hour: Path, number: int
) -> None:
    lines = lines_of(hour)
    lines[number - 1] = lines[number - 1].replace('"px":', '"px"', 1)
    put(hour, lines)

    messages = run_with_gap(indexer, connection, sim, tree, HOUR_23 + number - 1, HOUR_0)

    assert re.fullmatch(
        rf"fault: {hour}:{number}: events cannot be read: JSON is malformed: .*", messages[0]
    )
    assert len(messages) == 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"block_number":', '"block_number":"'),
        ('"block_number":', '"block_number":-'),
        ('"block_number":', '"block_number":99999999999999'),
        ('"block_time":"2025', '"block_time":"soon'),
        ('"events":[', '"events":{'),
        ('"events":[', '"events":[\udcff'),
        ('"events":[', '"wrong":['),
    ],
)
@pytest.mark.parametrize("accounts", ["--accounts", "--no-accounts"])
def test_a_line_that_is_no_block_is_refused_with_its_line(
    indexer: Command, connection: Connection, sim: Simulation, tree: Path, hour: Path,
    old: str, new: str, accounts: str,
) -> None:  # fmt: skip
    lines = lines_of(hour)
    lines[MARKED - 1] = lines[MARKED - 1].replace(old, new, 1)
    hour.write_bytes("".join(lines).encode(errors="surrogateescape"))
    low = HOUR_23 + MARKED - 1

    messages = said(indexer("backfill", "hyperliquid", "--from", tree, accounts))

    assert re.fullmatch(rf"fault: {hour}:{MARKED}: \S.{{5,150}}", messages[0])
    assert rows(connection, LIQUIDATIONS) == true_rows(sim, low, HOUR_0)
    facts = ("account_days", "liquidations") if accounts == "--accounts" else ("liquidations",)
    assert messages[1:] == as_faults(missing(low, HOUR_0, *facts))


@pytest.mark.parametrize(
    ("key", "number"),
    [
        ("px", "NaN"),
        ("px", "one"),
        ("sz", "-Infinity"),
        ("startPosition", "1e999"),
        ("closedPnl", "NaN"),
        ("closedPnl", "1e999"),
    ],
)
def test_a_number_that_is_none_is_in_no_sum_and_undecoded(
    indexer: Command, connection: Connection, sim: Simulation, tree: Path, hour: Path,
    key: str, number: str,
) -> None:  # fmt: skip
    lines = lines_of(hour)
    lines[PLAIN - 1] = re.sub(f'"{key}":"[^"]*"', f'"{key}":"{number}"', lines[PLAIN - 1], count=1)
    put(hour, lines)

    result = indexer("backfill", "hyperliquid", "--from", tree)

    assert (result.returncode, result.stderr) == (0, "")
    assert rows(connection, "SELECT block_number, reason FROM ledger.undecoded") == [
        (HOUR_23 + PLAIN - 1, "in no account's day: number out of range")
    ]
    counted = sum(day.fills + day.other_fills for day in sim.truth.account_days)
    assert rows(connection, "SELECT sum(fills + other_fills)::int FROM ledger.account_day") == [
        (counted - 1,)
    ]
    assert rows(
        connection,
        "SELECT FROM ledger.account_day WHERE volume = 'NaN' OR realised_pnl = 'NaN'"
        " OR abs(volume) > 1e30 OR abs(realised_pnl) > 1e30",
    ) == []  # fmt: skip


def long_file(folder: Path) -> tuple[Path, list[str]]:
    """1,600 empty blocks: longer than the part that is always parsed."""
    lines = [
        f'{{"local_time":"2025-10-27T17:{n // 60:02}:{n % 60:02}.500000000",'
        f'"block_time":"2025-10-27T17:{n // 60:02}:{n % 60:02}.000000000",'
        f'"block_number":{FIRST + n},"events":[]}}\n'
        for n in range(1600)
    ]
    return folder / "node_fills_by_block_long", lines


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"events":[]}', '"eve'),
        ('"events":[]}', '"events":[[]}'),
        ('"block_time":"2025', '"block_time":"soon'),
    ],
)
def test_a_faulty_line_far_down_is_found_without_parsing_every_line(
    indexer: Command, connection: Connection, tmp_path: Path, old: str, new: str
) -> None:
    path, lines = long_file(tmp_path)
    lines[1199] = lines[1199].replace(old, new)
    put(path, lines[:1200])

    messages = said(indexer("backfill", "hyperliquid", "--from", path, "--no-accounts"))

    assert len(messages) == 1
    assert re.fullmatch(rf"fault: {path}:1200: \S.{{5,150}}", messages[0])


def test_a_block_number_that_goes_backwards_is_refused(
    indexer: Command, connection: Connection, sim: Simulation, tree: Path, hour: Path
) -> None:
    lines = lines_of(hour)
    put(hour, [*lines[:MARKED], lines[MARKED - 6], *lines[MARKED:]])
    low = HOUR_23 + MARKED

    messages = run_with_gap(indexer, connection, sim, tree, low, HOUR_0)

    assert messages == [
        f"fault: {hour}:{MARKED + 1}: block {low - 6} after block {low - 1}: the height goes"
        " backwards"
    ]


def test_a_line_repeated_to_the_letter_is_fine(
    indexer: Command, connection: Connection, sim: Simulation, tree: Path, hour: Path
) -> None:
    lines = lines_of(hour)
    put(hour, [*lines[:MARKED], lines[MARKED - 1], *lines[MARKED:]])

    result = indexer("backfill", "hyperliquid", "--from", tree)

    assert (result.returncode, result.stderr) == (0, "")
    assert rows(connection, LIQUIDATIONS) == true_liquidations(sim.truth)
    assert rows(connection, "SELECT sum(fills)::int FROM ledger.account_day") == [
        (sum(day.fills for day in sim.truth.account_days),)
    ]


def test_the_same_block_twice_in_a_file_with_other_content_is_refused(
    indexer: Command, connection: Connection, sim: Simulation, tree: Path, hour: Path
) -> None:
    lines = lines_of(hour)
    other = lines[MARKED - 1].replace('"sz":"', '"sz":"1', 1)
    put(hour, [*lines[:MARKED], other, *lines[MARKED:]])
    low = HOUR_23 + MARKED

    messages = run_with_gap(indexer, connection, sim, tree, low, HOUR_0)

    assert messages == [
        f"fault: {hour}:{MARKED + 1}: block {low - 1} stands here again with other content"
    ]


def test_the_same_block_in_another_file_with_other_content_is_refused(
    indexer: Command, connection: Connection, sim: Simulation, tree: Path, hour: Path
) -> None:
    assert indexer("backfill", "hyperliquid", "--from", tree).returncode == 0
    before = everything(connection)
    lines = lines_of(hour)
    lines[MARKED - 1] = lines[MARKED - 1].replace('"markPx":"', '"markPx":"1')
    other = hour.with_name("node_fills_by_block_other")
    put(other, lines)

    messages = said(indexer("backfill", "hyperliquid", "--from", other))

    assert everything(connection) == before
    height = HOUR_23 + MARKED - 1
    assert len(messages) == lines[MARKED - 1].count("markPx")
    assert {
        (
            message.startswith(f"fault: {other}:{MARKED}: block {height}: {height}/"),
            message.endswith(
                f" says other than the same event read from {hour}:{MARKED}; the first stays"
            ),
        )
        for message in messages
    } == {(True, True)}


# -- what is not there


def test_a_missing_height_is_named(
    indexer: Command, connection: Connection, sim: Simulation, tree: Path, hour: Path
) -> None:
    lines = lines_of(hour)
    put(hour, [*lines[: MARKED - 1], *lines[MARKED:]])
    height = HOUR_23 + MARKED - 1

    assert run_with_gap(indexer, connection, sim, tree, height, height + 1) == []


def test_a_missing_hour_is_a_hole(
    indexer: Command, connection: Connection, sim: Simulation, tree: Path, hour: Path
) -> None:
    hour.unlink()

    assert run_with_gap(indexer, connection, sim, tree, HOUR_23, HOUR_0) == []


def test_a_hole_is_closed_by_the_file_that_was_missing(
    indexer: Command, connection: Connection, sim: Simulation, tree: Path, hour: Path, whole: Path
) -> None:
    hour.unlink()
    assert indexer("backfill", "hyperliquid", "--from", tree).returncode == 1

    result = indexer("backfill", "hyperliquid", "--from", whole)

    assert (result.returncode, result.stderr) == (0, "")
    assert rows(connection, LIQUIDATIONS) == true_liquidations(sim.truth)
    assert holes(indexer) == []


@pytest.mark.parametrize("write", [write_streaming, write_fills])
def test_a_fault_in_a_file_without_every_height_leaves_a_hole_too(
    indexer: Command, connection: Connection, sim: Simulation, tmp_path: Path,
    write: Callable[..., list[Path]],
) -> None:  # fmt: skip
    """The lines after the fault are not covered by the next file's going on."""
    path = sorted(write(sim, tmp_path / "node"))[1]
    lines = lines_of(path)
    marked = [
        n for n, line in enumerate(lines, 1) if "iquidat" in line and "iquidat" not in lines[n - 2]
    ]
    number = marked[len(marked) // 2]
    put(path, [*lines[: number - 1], lines[number - 1][:200] + "\n", *lines[number:]])

    messages = said(indexer("backfill", "hyperliquid", "--from", tmp_path / "node"))

    assert messages[0].startswith(f"fault: {path}:{number}: not a line of fills: ")
    assert [message.partition(":")[0] for message in messages] == ["fault"] * 3
    gap = re.search(r"blocks (\d+) to (\d+) are", holes(indexer)[1])
    assert gap
    low, high = int(gap[1]), int(gap[2]) + 1
    stored = {row[0] for row in rows(connection, LIQUIDATIONS)}
    lost = {row[0] for row in true_liquidations(sim.truth)} - stored
    assert lost
    assert min(lost) - low in range(10)
    assert high - HOUR_0 in range(10)
    assert holes(indexer) == missing(low, high)


def test_a_ledger_file_is_judged_as_strictly(
    indexer: Command, connection: Connection, sim: Simulation, tmp_path: Path
) -> None:
    path = sorted(write_misc(sim, tmp_path / "node"))[1]
    lines = lines_of(path)
    number = next(n for n, line in enumerate(lines, 1) if "iquidat" in line)
    # the cut leaves a line that ends as a block line does
    lines[number - 1] = lines[number - 1][: lines[number - 1].index("]}") + 2] + "\n"
    put(path, lines)

    messages = said(indexer("backfill", "hyperliquid", "--from", tmp_path / "node"))

    low = HOUR_23 + number - 1
    assert messages[0].startswith(f"fault: {path}:{number}: events cannot be read: ")
    assert messages[1:] == as_faults(missing(low, HOUR_0, "ledger_liquidations"))
    assert rows(connection, "SELECT block_number FROM ledger.ledger_liquidation") == in_order(
        (said.block_number,)
        for said in sim.truth.ledger_liquidations
        if not low <= said.block_number < HOUR_0
    )


# -- files and folders


def test_a_folder_that_does_not_exist_is_named(indexer: Command, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"

    assert said(indexer("backfill", "hyperliquid", "--from", nowhere)) == [
        f"indexer: {nowhere}: no such file or directory"
    ]


def test_a_folder_without_block_files_is_named(indexer: Command, tmp_path: Path) -> None:
    (tmp_path / "node" / "replica_cmds").mkdir(parents=True)
    (tmp_path / "node" / "replica_cmds" / "777").write_text("{}\n")

    assert said(indexer("backfill", "hyperliquid", "--from", tmp_path / "node")) == [
        f"indexer: {tmp_path}/node: no block files; expected e.g."
        " node_fills_by_block/hourly/20251027/17.lz4"
    ]


def test_a_day_that_is_no_day_is_left_alone_and_said(
    indexer: Command, tree: Path, hour: Path
) -> None:
    stray = tree / "node_fills_by_block" / "hourly" / "20259999" / "23"
    stray.parent.mkdir()
    stray.write_text("{}\n")

    result = indexer("backfill", "hyperliquid", "--from", tree)

    assert (result.returncode, result.stderr) == (0, f"1 other files left alone, e.g. {stray}\n")


def test_an_hour_that_is_a_folder_is_a_hole(
    indexer: Command, connection: Connection, sim: Simulation, tree: Path, hour: Path
) -> None:
    hour.unlink()
    hour.mkdir()

    assert run_with_gap(indexer, connection, sim, tree, HOUR_23, HOUR_0) == []


def test_a_file_that_has_vanished_is_a_fault(
    indexer: Command, connection: Connection, sim: Simulation, tree: Path, hour: Path
) -> None:
    hour.unlink()
    hour.symlink_to("no-longer-there")

    messages = run_with_gap(indexer, connection, sim, tree, HOUR_23, HOUR_0)

    assert messages == [f"fault: {hour}:1: cannot be read: No such file or directory"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read_is_a_fault(
    indexer: Command, connection: Connection, sim: Simulation, tree: Path, hour: Path
) -> None:
    hour.chmod(0)

    messages = run_with_gap(indexer, connection, sim, tree, HOUR_23, HOUR_0)

    assert messages == [f"fault: {hour}:1: cannot be read: Permission denied"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_folder_that_may_not_be_listed_is_named(indexer: Command, hour: Path, tree: Path) -> None:
    hour.parent.chmod(0)

    messages = said(indexer("backfill", "hyperliquid", "--from", tree))
    hour.parent.chmod(0o755)

    assert messages == [f"indexer: {hour.parent}: cannot be listed: Permission denied"]


# -- other formats

CSV = "time,coin,px,sz,side\n1761586199000,BTC,114000.0,0.1,A\n"
TRADE = (
    '{"coin":"BTC","side":"A","time":"2025-05-01T00:00:00.1","px":"94000.0","sz":"0.1",'
    '"hash":"0x00","trade_dir_override":"Na","side_info":[{"user":"0x01","start_pos":"0.0",'
    '"oid":1,"twap_id":null,"cloid":null}]}\n'
)
PARQUET = b"PAR1\x15\x04\x15\x00\xff\xfe" + bytes(range(256)) * 20


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (CSV.encode(), ":1: neither block lines nor JSON records"),
        (PARQUET, ":1: neither block lines nor JSON records"),
        (b"", ": empty file"),
        (TRADE.encode(), ": no fills and no ledger updates in it; trades carry no mark"),
        (b'{"request":"x","time":null}\n', ": no fills and no ledger updates in it; trades carry"),
        (b'[{"coin":', ":1: invalid JSON: "),
    ],
    ids=["csv", "parquet", "empty", "trades", "other json", "cut json"],
)
def test_a_file_of_another_format_is_called_so(
    indexer: Command, tmp_path: Path, content: bytes, what: str
) -> None:
    path = tmp_path / "given"
    path.write_bytes(content)

    messages = said(indexer("backfill", "hyperliquid", "--from", path))

    assert len(messages) == 1
    assert f"{path}{what}" in messages[0]


@pytest.mark.parametrize("content", [CSV.encode(), PARQUET, TRADE.encode()])
def test_an_hour_of_another_format_is_refused_and_a_hole(
    indexer: Command, connection: Connection, sim: Simulation, tree: Path, hour: Path,
    content: bytes,
) -> None:  # fmt: skip
    hour.write_bytes(content)

    messages = run_with_gap(indexer, connection, sim, tree, HOUR_23, HOUR_0)

    assert len(messages) == 1
    assert re.fullmatch(rf"fault: {hour}:1: (not a block line|invalid JSON): .+", messages[0])


@pytest.mark.parametrize("stamp", ["null", '"soon"', "99999999999999999999", "-5e300", "{}"])
def test_a_record_with_an_impossible_time_is_refused(
    indexer: Command, tmp_path: Path, stamp: str
) -> None:
    path = tmp_path / "answer.json"
    path.write_text(
        f'[{{"coin":"BTC","px":"1.0","sz":"1.0","side":"A","dir":"Close Long","time":{stamp}}}]'
    )

    messages = said(indexer("backfill", "hyperliquid", "--from", path))

    assert len(messages) == 1
    assert messages[0].startswith(f"fault: {path}:1: ")


def test_a_line_of_user_and_fill_with_an_impossible_time_is_refused(
    indexer: Command, tmp_path: Path
) -> None:
    path = tmp_path / "node_fills"
    path.write_text('["0xab",{"time":99999999999999999999999}]\n')

    messages = said(indexer("backfill", "hyperliquid", "--from", path))

    assert len(messages) == 1
    assert messages[0].startswith(f"fault: {path}:1: not a line of fills: ")


# -- full disks


def test_a_full_disk_keeps_what_was_written(
    indexer: Command, connection: Connection, sim: Simulation, tree: Path, hour: Path
) -> None:
    hours = hour.parents[1]
    assert indexer("backfill", "hyperliquid", "--from", hours / "20251027" / "22").returncode == 0
    before = everything(connection)
    connection.execute(
        """
        CREATE FUNCTION no_space() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            RAISE 'could not extend file "base/1/2": No space left on device'
            USING ERRCODE = '53100';
        END $$;
        CREATE TRIGGER full_disk BEFORE INSERT ON ledger.coverage
            FOR EACH STATEMENT EXECUTE FUNCTION no_space();
        """
    )

    messages = said(indexer("backfill", "hyperliquid", "--from", tree))

    assert messages == [
        "indexer: the database's disk is full; what was committed is kept: could not extend file"
        ' "base/1/2": No space left on device'
    ]
    assert everything(connection) == before
    connection.execute("DROP TRIGGER full_disk ON ledger.coverage")
    assert indexer("backfill", "hyperliquid", "--from", tree).returncode == 0
    assert rows(connection, LIQUIDATIONS) == true_liquidations(sim.truth)


def test_a_report_to_a_full_disk_fails(indexer: Command, tree: Path) -> None:
    assert indexer("backfill", "hyperliquid", "--from", tree).returncode == 0

    to_file = indexer("report", "whales", "--format", "html", "--output", "/dev/full")
    to_stdout = indexer("report", "whales", "--format", "json", out="/dev/full")
    table = indexer("report", "whales", out="/dev/full")

    assert said(to_file) == ["indexer: /dev/full: No space left on device"]
    assert said(to_stdout) == ["indexer: output: No space left on device"]
    assert said(table) == ["indexer: output: No space left on device"]


# -- wrong usage


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ("backfill ostium --from .", "no venue or chain 'ostium'; chains are "),
        ("backfill hyperliquid", "Missing option '--from'"),
        ("follow hyperliquid", "say where the node writes: --from DIR"),
        ("report whales --since yesterday", "write 90s, 30m, 24h or 7d"),
        ("report whales --since ²h", "write 90s, 30m, 24h or 7d"),
        ("report whales --since 99999999999999d", "write 90s, 30m, 24h or 7d"),
        ("report whales --since 0h", "write 90s, 30m, 24h or 7d"),
        ("report whales --format pdf", "'pdf' is not one of"),
        ("reprot whales", "No such command 'reprot'"),
        ("explain", "Missing argument 'KEY'"),
    ],
)
def test_wrong_usage_exits_with_two_and_a_hint(indexer: Command, arguments: str, hint: str) -> None:
    result = indexer(*arguments.split())

    assert (result.returncode, result.stdout) == (2, "")
    assert hint in result.stderr
    assert "--help' for help." in result.stderr or "-h' for help." in result.stderr


def test_a_window_longer_than_time_itself_is_reported_or_refused(
    indexer: Command, tree: Path
) -> None:
    assert indexer("backfill", "hyperliquid", "--from", tree).returncode == 0

    messages = said(indexer("report", "whales", "--since", "999999999d", "--format", "md"))

    assert messages == ["indexer: 999999999d before 2025-10-28 00:04:54 UTC is no date"]


# -- secrets

CANARY = "c4n4ry"


@pytest.mark.parametrize(
    "password", [f"1#{CANARY}", f"{CANARY}#1", f"a/{CANARY}", f"{CANARY}/a", f"a@{CANARY}",
                 f"{CANARY}@a", f"%{CANARY}", f"a:{CANARY}", f"{CANARY}?x", f"[{CANARY}"],
)  # fmt: skip
def test_a_password_that_breaks_the_url_is_never_shown(indexer: Command, password: str) -> None:
    result = indexer("status", DATABASE_URL=f"postgresql://someone:{password}@127.0.0.1:1/liq")

    assert (result.returncode, result.stdout) == (1, "")
    assert CANARY not in result.stderr
    assert result.stderr.startswith("indexer: ")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("place", ["127.0.0.1:1/liq", "no-such-host.invalid/liq", "127.0.0.1:x/l"])
@plays("S04", "a database that cannot be reached", "one line that names it, without the password")
def test_a_password_is_never_shown(indexer: Command, place: str) -> None:
    result = indexer("status", DATABASE_URL=f"postgresql://someone:{CANARY}@{place}")

    assert (result.returncode, result.stdout) == (1, "")
    assert CANARY not in result.stderr
    assert result.stderr.startswith("indexer: ")
    assert len(result.stderr.splitlines()) == 1


def test_a_password_in_words_is_never_shown(indexer: Command) -> None:
    result = indexer("status", DATABASE_URL=f"host=127.0.0.1 port=1 user=a password={CANARY}")
    broken = indexer("status", DATABASE_URL=f"host=127.0.0.1 port=x password='{CANARY}")

    assert CANARY not in result.stdout + result.stderr + broken.stdout + broken.stderr
    assert (len(said(result)), len(said(broken))) == (1, 1)


def test_a_wrong_password_is_never_shown(
    indexer: Command, connection: Connection, conninfo: str
) -> None:
    parts = {key: str(value) for key, value in conninfo_to_dict(conninfo).items()}
    role = f"stranger_{parts['dbname']}"
    connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'another'")  # type: ignore[call-overload]
    wrong = psycopg.conninfo.make_conninfo(**{**parts, "user": role, "password": CANARY})
    try:
        result = indexer("status", DATABASE_URL=wrong)
    finally:
        connection.execute(f"DROP ROLE {role}")  # type: ignore[call-overload]

    assert (result.returncode, result.stdout, CANARY in result.stderr) == (1, "", False)
    assert len(result.stderr.splitlines()) == 1
