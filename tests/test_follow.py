"""`indexer follow` beside a node that writes as nodes do: in pieces, hour after hour, and through
the restarts of both."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path

import lz4.frame
import pytest

from indexer import sync
from indexer.store import database, ledger, status
from indexer.store.database import Connection
from indexer.store.server import Server
from tests import processes
from tests.ledger_rows import LIQUIDATIONS, everything, rows, true_liquidations
from tests.postgres import database as throw_away
from tests.processes import soon
from tests.simulator import Config, Simulation, simulate, write_by_block, write_misc
from tests.simulator.write import write_streaming

FIRST = 777_290_000
# Files of two hours by the node's clock: 22 has 60 heights, 23 has 200.
CONFIG = Config(
    seed=11,
    start=datetime(2025, 10, 27, 22, 50, 0, tzinfo=UTC),
    first_block=FIRST,
    blocks=260,
    block_interval_ms=10_000,
    accounts=20,
)


@pytest.fixture(scope="module")
def sim() -> Simulation:
    return simulate(CONFIG)


@pytest.fixture(scope="module")
def finished(sim: Simulation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree that the node will have written in the end, fills and ledger updates."""
    folder = tmp_path_factory.mktemp("finished")
    write_by_block(sim, folder)
    write_misc(sim, folder)
    return folder


@pytest.fixture
def other(postgres: Server, migrated: str) -> Iterator[Connection]:
    """A second fresh database, to backfill the finished tree into."""
    with throw_away(postgres, template=migrated) as fresh, database.connect(fresh) as opened:
        yield opened


class Node:
    """Writes the files of a finished tree again, as a node does: one line after the other."""

    def __init__(self, finished: Path, folder: Path) -> None:
        self.folder = folder
        self.lines = [
            (path.relative_to(finished), line)
            for path in sorted(finished.rglob("*"))
            if path.is_file()
            for line in path.read_text().splitlines(keepends=True)
        ]
        folder.mkdir()

    def append(self, path: Path, text: str) -> None:
        """Append to a file and let it be seen at once."""
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("a") as file:
            file.write(text)

    def of(self, layout: str, hour: int) -> list[str]:
        return [line for path, line in self.lines if path == self.path(layout, hour)]

    @staticmethod
    def path(layout: str, hour: int) -> Path:
        return Path(layout) / "hourly" / "20251027" / str(hour)

    def finish(self, layout: str, hour: int) -> None:
        """Write a whole hour that ended long ago, so that nothing waits for more of it."""
        self.write(layout, hour)
        os.utime(self.folder / self.path(layout, hour), (0, 0))

    def write(self, layout: str, hour: int, low: int = 0, high: int | None = None) -> None:
        """Append some lines of an hour, by their index in it."""
        self.append(self.path(layout, hour), "".join(self.of(layout, hour)[low:high]))


FILLS, MISC, STREAM = "node_fills_by_block", "misc_events_by_block", "node_fills_streaming"


@pytest.fixture
def node(finished: Path, tmp_path: Path) -> Node:
    return Node(finished, tmp_path / "node")


def following(conninfo: str, folder: Path) -> AbstractContextManager[subprocess.Popen[str]]:
    """`indexer follow` of a node's folder."""
    return processes.following(conninfo, folder.parent, "hyperliquid", "--from", str(folder))


def until_covered(connection: Connection, facts: str, height: int) -> None:
    """Wait until a height is covered."""

    def is_covered() -> bool:
        ranges = ledger.covered(connection, "hyperliquid", facts)  # type: ignore[arg-type]
        return any(low <= height < high for low, high in ranges)

    soon(is_covered)


def stopped(process: subprocess.Popen[str]) -> tuple[int, list[str]]:
    """Stop with SIGTERM; the exit code and what went wrong on the way."""
    said = processes.stopped(process)
    assert "Traceback" not in said
    return process.returncode, [line for line in said.splitlines() if "fault" in line]


LAST = FIRST + 259


def test_what_is_followed_equals_what_is_read_when_finished(
    connection: Connection, other: Connection, conninfo: str, node: Node, finished: Path,
    sim: Simulation,
) -> None:  # fmt: skip
    """Lines in pieces, an hour that ends late, ledger updates beside, kill -9 in the middle."""
    sync.backfill(other, str(finished))
    cut = node.of(FILLS, 22)[30]
    with following(conninfo, node.folder) as process:
        node.write(FILLS, 22, 0, 30)
        node.append(node.path(FILLS, 22), cut[:100])
        node.write(MISC, 22, 0, 45)
        until_covered(connection, "liquidations", FIRST + 29)
        until_covered(connection, "ledger_liquidations", FIRST + 44)
        assert ledger.covered(connection, "hyperliquid", "liquidations") == [(FIRST, FIRST + 30)]
        node.append(node.path(FILLS, 22), cut[100:])
        until_covered(connection, "liquidations", FIRST + 30)
        node.append(node.path(FILLS, 22), node.of(FILLS, 22)[31][:3000])
        process.kill()
        process.wait()

    node.append(node.path(FILLS, 22), node.of(FILLS, 22)[31][3000:])
    node.write(FILLS, 22, 32, 58)
    with following(conninfo, node.folder) as process:
        until_covered(connection, "liquidations", FIRST + 57)
        # the next hour is born while the last lines of this one are still to come
        node.write(FILLS, 23, 0, 10)
        time.sleep(0.7)  # longer than follow takes to notice the new file
        node.write(FILLS, 22, 58, 59)
        node.append(node.path(FILLS, 22), node.of(FILLS, 22)[59][:50])
        time.sleep(0.1)
        node.append(node.path(FILLS, 22), node.of(FILLS, 22)[59][50:])
        node.write(MISC, 22, 45)
        node.write(MISC, 23)
        node.write(FILLS, 23, 10)
        until_covered(connection, "liquidations", LAST)
        until_covered(connection, "ledger_liquidations", LAST)
        assert stopped(process) == (0, [])

    assert everything(connection) == everything(other)
    assert rows(connection, LIQUIDATIONS) == true_liquidations(sim.truth)


def test_a_restarted_node_repeats_heights_and_nothing_counts_twice(
    connection: Connection, other: Connection, conninfo: str, node: Node, finished: Path
) -> None:
    sync.backfill(other, str(finished / FILLS))
    node.finish(FILLS, 22)
    node.write(FILLS, 23, 0, 50)
    # all at once, so that the lines and their repetition are read in one go
    node.write(FILLS, 23, 30, 60)
    with following(conninfo, node.folder) as process:
        until_covered(connection, "liquidations", FIRST + 119)
        node.write(FILLS, 23, 40, 50)
        node.write(FILLS, 23, 50)
        until_covered(connection, "liquidations", LAST)
        assert stopped(process) == (0, [])

    assert everything(connection) == everything(other)


@pytest.mark.parametrize("length", [20, 110, 130, 2000])
def test_half_a_line_of_a_killed_node_is_a_fault_and_its_heights_come_again(
    connection: Connection, other: Connection, conninfo: str, node: Node, finished: Path,
    length: int,
) -> None:  # fmt: skip
    """The node goes on in the line that it left: what is in that line is nobody's, what is
    repeated after it counts."""
    sync.backfill(other, str(finished / FILLS))
    node.finish(FILLS, 22)
    node.write(FILLS, 23, 0, 50)
    node.append(node.path(FILLS, 23), node.of(FILLS, 23)[50][:length])
    node.write(FILLS, 23, 45)
    with following(conninfo, node.folder) as process:
        until_covered(connection, "liquidations", LAST)
        code, faults = stopped(process)

    assert code == 1
    assert faults[0].startswith(f"fault: {node.folder / node.path(FILLS, 23)}:51: ")
    assert faults[1:] == ["indexer: stopped; 1 faults on the way, see above and indexer status"]
    assert everything(connection) == everything(other)


def test_half_a_line_that_is_not_repeated_is_a_hole_of_its_height_and_the_next(
    connection: Connection, conninfo: str, node: Node
) -> None:
    node.finish(FILLS, 22)
    node.write(FILLS, 23, 0, 50)
    node.append(node.path(FILLS, 23), node.of(FILLS, 23)[50][:110])
    node.write(FILLS, 23, 51)
    with following(conninfo, node.folder) as process:
        until_covered(connection, "liquidations", LAST)
        code, faults = stopped(process)

    assert (code, len(faults)) == (1, 2)
    assert [(hole.facts, hole.block_from, hole.block_to) for hole in status.holes(connection)] == [
        ("account_days", FIRST + 110, FIRST + 112),
        ("liquidations", FIRST + 110, FIRST + 112),
    ]


def test_lines_after_an_unreadable_one_are_read(
    connection: Connection, conninfo: str, node: Node
) -> None:
    broken = node.of(FILLS, 23)[50].replace('"events":[', '"events":{')
    node.finish(FILLS, 22)
    node.write(FILLS, 23, 0, 50)
    node.append(node.path(FILLS, 23), broken)
    node.write(FILLS, 23, 51)
    with following(conninfo, node.folder) as process:
        until_covered(connection, "liquidations", LAST)
        code, faults = stopped(process)

    assert (code, len(faults)) == (1, 2)
    assert [(hole.facts, hole.block_from, hole.block_to) for hole in status.holes(connection)] == [
        ("account_days", FIRST + 110, FIRST + 111),
        ("liquidations", FIRST + 110, FIRST + 111),
    ]


def test_a_line_that_is_never_finished_is_a_fault_when_the_hour_is_over(
    connection: Connection, conninfo: str, node: Node
) -> None:
    node.write(FILLS, 22, 0, 59)
    node.append(node.path(FILLS, 22), node.of(FILLS, 22)[59][:100])
    node.write(FILLS, 23)
    with following(conninfo, node.folder) as process:
        until_covered(connection, "liquidations", LAST)
        code, faults = stopped(process)

    where = node.folder / node.path(FILLS, 22)
    assert (code, faults) == (
        1,
        [
            f"fault: {where}:60: line cut off, and a later hour has begun",
            "indexer: stopped; 1 faults on the way, see above and indexer status",
        ],
    )
    assert [hole.block_from for hole in status.holes(connection)] == [FIRST + 59, FIRST + 59]


def test_compressed_hours_before_the_running_one_are_read(
    connection: Connection, other: Connection, conninfo: str, node: Node, finished: Path
) -> None:
    sync.backfill(other, str(finished / FILLS))
    node.finish(FILLS, 22)
    plain = node.folder / node.path(FILLS, 22)
    packed = plain.rename(plain.with_suffix(".lz4"))
    packed.write_bytes(lz4.frame.compress(packed.read_bytes()))
    os.utime(packed, (0, 0))
    node.write(FILLS, 23)
    with following(conninfo, node.folder) as process:
        until_covered(connection, "liquidations", LAST)
        assert stopped(process) == (0, [])

    assert everything(connection) == everything(other)


def test_streamed_blocks_are_followed_through_pieces_and_restarts(
    connection: Connection, other: Connection, conninfo: str, sim: Simulation, tmp_path: Path
) -> None:
    write_streaming(sim, tmp_path / "finished")
    sync.backfill(other, str(tmp_path / "finished"))
    node = Node(tmp_path / "finished", tmp_path / "node")
    lines = node.of(STREAM, 23)
    middle = len(lines) // 2
    with following(conninfo, node.folder) as process:
        node.finish(STREAM, 22)
        node.write(STREAM, 23, 0, middle)
        node.append(node.path(STREAM, 23), lines[middle][:300])
        until_covered(connection, "liquidations", FIRST + 100)
        node.append(node.path(STREAM, 23), lines[middle][300:])
        process.kill()
        process.wait()

    node.write(STREAM, 23, middle + 1, middle + 20)
    node.write(STREAM, 23, middle - 10, middle + 20)  # the node was restarted and repeats
    with following(conninfo, node.folder) as process:
        last = ledger.covered(other, "hyperliquid", "liquidations")[-1][1] - 1
        node.write(STREAM, 23, middle + 20)
        until_covered(connection, "liquidations", last)
        assert stopped(process) == (0, [])

    followed, backfilled = everything(connection), everything(other)
    del followed["coverage"], backfilled["coverage"]
    assert followed == backfilled


def test_a_backfill_beside_it_does_not_stop_it(
    connection: Connection, other: Connection, conninfo: str, node: Node, finished: Path
) -> None:
    sync.backfill(other, str(finished / FILLS))
    node.finish(FILLS, 22)
    with following(conninfo, node.folder) as process:
        until_covered(connection, "liquidations", FIRST + 59)
        with database.connect(conninfo) as rival:
            sync.backfill(rival, str(finished / FILLS))
        node.write(FILLS, 23, 0, 199)
        until_covered(connection, "liquidations", LAST)
        node.write(FILLS, 23, 199)
        time.sleep(0.3)
        assert stopped(process) == (0, [])

    assert everything(connection) == everything(other)


@pytest.mark.parametrize(
    ("location", "what"),
    [
        ("s3://bucket/node", "follow reads what a node appends to local files; an object in S3"),
        ("/nowhere/node", "/nowhere/node: no such file or directory"),
    ],
)
def test_a_place_that_cannot_be_followed_is_refused(
    indexer: Callable[..., subprocess.CompletedProcess[str]], location: str, what: str
) -> None:
    result = indexer("follow", "hyperliquid", "--from", location)

    assert (result.returncode, result.stdout) == (1, "")
    assert f"indexer: {what}" in result.stderr
