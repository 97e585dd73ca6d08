"""The live view: one frame as data, and the real command in a terminal."""

import fcntl
import io
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from indexer import resources
from indexer.report.top import Frame, drawn
from indexer.store import database
from indexer.store.database import Connection
from indexer.store.now import Lag, Newest, Sum
from indexer.store.server import Server
from tests.conftest import Command
from tests.postgres import database as throw_away
from tests.quick_start import Starter

ROOT = Path(__file__).resolve().parents[1]
AT = datetime(2025, 10, 10, 21, 15, 30, tzinfo=UTC)
WHALE = f"0x{'1f' * 20}"
EVIL = "\x1b]0;pwned\x07\x1b[2J[red]\u202eX"

ROW = Newest(
    AT, "hyperliquid", "BTC", "long", "market", Decimal("1234567.891"), WHALE, ["whale"], "k"
)
LOAN = ROW._replace(venue="aave_v3.base", market=WHALE, side=None, usd=None, labels=[])
SUMS = [
    Sum(1, Decimal(3_000_000), Decimal(2_000_000), Decimal(1_000_000), 7, 3),
    Sum(24, None, None, None, 0, None),
]
LAGS = [
    Lag("aave_v3.base", 3_600, AT, 5, 2, is_stopped=False),
    Lag("hyperliquid", 2, AT, 0, 0, is_stopped=False),
]
FRAME = Frame(AT, "strict/v1", AT, [ROW, LOAN], SUMS, LAGS)


def text(frame: Frame, width: int, height: int | None = None) -> list[str]:
    """What a frame looks like, line by line."""
    console = Console(width=width, height=height or 100, record=True, file=io.StringIO())
    console.print(drawn(frame, width, height))
    return [line.rstrip() for line in console.export_text().splitlines()]


def test_a_frame_has_the_sums_the_newest_and_who_is_behind() -> None:
    assert text(FRAME, 120) == [
        "indexer top  2025-10-10 21:15:30 UTC  read up to 2025-10-10 21:15:30  definition strict/v1"
        "   q ends",
        "1 venue more than 15 min behind",
        "last    liquidated   long rows accounts",
        "1 h  $3,000,000.00 66.7 %    7        3",
        "24 h             –      –    0        –",
        "",
        "UTC                USD what             how    venue        account",
        "21:15:30 $1,234,567.89 long BTC         market hyperliquid  0x1f1f…1f1f whale",
        "21:15:30             – loan 0x1f1f…1f1f market aave_v3.base 0x1f1f…1f1f",
        "",
        "venue         behind missing undecoded",
        "aave_v3.base 1:00:00       5         2",
        "hyperliquid  0:00:02       0         0",
    ]


@pytest.mark.parametrize("width", [30, 40, 69, 80, 110, 200])
def test_a_frame_is_no_wider_and_no_higher_than_the_terminal(width: int) -> None:
    many = FRAME._replace(newest=[ROW, LOAN] * 50, lags=LAGS * 50)

    for height in (10, 16, 24, 60):
        lines = text(many, width, height)
        assert max(map(len, lines)) <= width
        assert len(lines) <= max(height, 14)


def test_who_has_not_looked_yet_does_not_say_that_nothing_is_indexed() -> None:
    nothing = Frame(AT, "strict/v1", None, [], [], [])

    assert "nothing is indexed yet: indexer backfill" in text(nothing, 120)
    assert "nothing is indexed" not in "".join(text(nothing._replace(fault="looking"), 120))


def test_what_is_stopped_and_what_cannot_be_read_is_said() -> None:
    stopped = LAGS[0]._replace(is_stopped=True)

    lines = text(FRAME._replace(lags=[stopped], fault="the database is away"), 120)

    assert lines[1:3] == [
        "the database is away", "1 venue more than 15 min behind; stopped: aave_v3.base",
    ]  # fmt: skip
    assert lines[-1].split() == ["aave_v3.base", "stopped", "5", "2"]


def test_hostile_names_are_words(capfd: pytest.CaptureFixture[str]) -> None:
    evil = ROW._replace(market=EVIL, venue=EVIL, labels=[EVIL], account=EVIL, method=EVIL)
    lag = LAGS[0]._replace(venue=EVIL)
    console = Console(width=200, force_terminal=True)

    console.print(drawn(FRAME._replace(newest=[evil], lags=[lag], fault=EVIL), 200, None))
    said = capfd.readouterr().out

    assert ("pwned" in said, "\x1b]" in said, "\x07" in said, "\u202e" in said, "\x1b[2J" in said
            ) == (True, False, False, False, False)  # fmt: skip
    assert "[red]" in said


# -- the command ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def filled(
    postgres: Server, migrated: str, start: Starter, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The conninfo of a database with the recording and a hostile row after it."""
    with throw_away(postgres, template=migrated) as conninfo:
        folder = tmp_path_factory.mktemp("top")
        for words in (["backfill", "hyperliquid", "--from", str(resources.recording())], ["label"]):
            assert start.run(words, {"DATABASE_URL": conninfo}, folder, None).returncode == 0
        with database.connect(conninfo) as connection:
            connection.execute(HOSTILE, (EVIL,))
        yield conninfo


HOSTILE = """
    INSERT INTO ledger.liquidation
    SELECT (jsonb_populate_record(l, jsonb_build_object(
        'event_key', 'evil', 'market', %s::text, 'block_at', (
            SELECT max(block_at) + interval '1 ms' FROM ledger.liquidation)))).*
    FROM ledger.liquidation l ORDER BY block_at DESC LIMIT 1
"""


def test_one_frame_is_printed_and_is_the_same_as_data(filled: str, quick_indexer: Command) -> None:
    shown = quick_indexer("top", "--once", DATABASE_URL=filled, COLUMNS="200")
    data = quick_indexer("top", "--once", "--format", "json", DATABASE_URL=filled)
    said = json.loads(data.stdout)
    newest = said["newest"]

    with database.connect(filled) as connection:
        expected: Any = connection.execute(
            "SELECT key FROM liq.liquidations ORDER BY block_at DESC, key LIMIT 100"
        ).fetchall()
        total: Any = connection.execute(
            "SELECT t.usd, t.records FROM (SELECT max(upper(times)) AS at FROM ledger.coverage"
            " WHERE facts = 'liquidations') c CROSS JOIN LATERAL liq.total('strict/v1',"
            " at - interval '24 hours', at + interval '1 us') t WHERE section = 'total'"
        ).fetchone()
    assert (shown.returncode, data.returncode, shown.stderr + data.stderr) == (0, 0, "")
    assert [one["key"] for one in newest] == [key for (key,) in expected]
    assert [one["hours"] for one in said["sums"]] == [1, 24]
    assert (Decimal(said["sums"][1]["usd"]), said["sums"][1]["records"]) == total
    assert [one["venue"] for one in said["venues"]] == ["hyperliquid"]
    assert {label for one in newest for label in one["labels"]} >= {"whale"}
    assert "pwned" in shown.stdout
    assert "\x1b" not in shown.stdout


def test_an_empty_database_says_how_to_begin(quick_indexer: Command) -> None:
    done = quick_indexer("top", "--once")

    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "nothing is indexed yet: indexer backfill"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--format", "json"], 2, "--format json, csv and md are for --once"),
        ([], 2, "this is no terminal: indexer top --once prints one frame"),
        (["--once", "--definition", "no/v1"], 1, "there is no definition 'no/v1'"),
    ],
)
def test_wrong_words_are_told(
    quick_indexer: Command, words: list[str], code: int, said: str
) -> None:
    done = quick_indexer("top", *words)

    assert done.returncode == code
    assert said in done.stderr


class Terminal:
    """The command in a terminal of its own."""

    def __init__(self, conninfo: str, folder: Path, columns: int = 100, lines: int = 30) -> None:
        self.us, self.them = pty.openpty()
        self.resize(columns, lines)
        self.before = termios.tcgetattr(self.them)
        environment = {key: value for key, value in os.environ.items()
                       if key not in ("COLUMNS", "LINES")}  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, "-m", "indexer", "top", "--every", "1s"], cwd=folder,
            env={**environment, "DATABASE_URL": conninfo, "PYTHONPATH": str(ROOT),
                 "TERM": "xterm-256color"},
            stdin=self.them, stdout=self.them, stderr=self.them, start_new_session=True,
        )  # fmt: skip
        self.said = b""

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self.us, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def until(self, word: bytes, seconds: float = 60, do: Callable[[], object] = bool) -> None:
        """Read until a word comes, and do something each time before."""
        end = time.monotonic() + seconds
        while word not in self.said:
            assert time.monotonic() < end, self.said[-2000:]
            do()
            self._read(0.2)

    def _read(self, seconds: float) -> None:
        if select.select([self.us], [], [], seconds)[0]:
            self.said += os.read(self.us, 65_536)

    def ended(self) -> int:
        """The exit code, with all that was said."""
        end = time.monotonic() + 60
        while self.process.poll() is None:
            assert time.monotonic() < end
            self._read(0.1)
        self._read(0.1)
        return int(self.process.returncode)


@contextmanager
def terminal(conninfo: str, folder: Path, **size: int) -> Iterator[Terminal]:
    opened = Terminal(conninfo, folder, **size)
    try:
        yield opened
    finally:
        opened.process.kill()
        opened.process.wait()
        os.close(opened.us)
        os.close(opened.them)


ALTERNATE, BACK = b"\x1b[?1049h", b"\x1b[?1049l"


def test_q_ends_it_and_leaves_the_terminal_as_it_was(filled: str, tmp_path: Path) -> None:
    with terminal(filled, tmp_path) as opened:
        opened.until(b"pwned")
        os.write(opened.us, b"xq")
        code = opened.ended()
        after = termios.tcgetattr(opened.them)

    assert code == 0
    assert opened.said.count(ALTERNATE) == opened.said.count(BACK) == 1
    assert after == opened.before
    assert (b"\x1b]" in opened.said, b"\x07" in opened.said) == (False, False)


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_too(filled: str, tmp_path: Path, end: signal.Signals) -> None:
    with terminal(filled, tmp_path) as opened:
        opened.until(b"hyperliquid")
        opened.process.send_signal(end)
        code = opened.ended()
        after = termios.tcgetattr(opened.them)

    assert (code, opened.said.count(BACK), after == opened.before) == (0, 1, True)


def test_it_sees_new_rows_and_fits_a_narrow_terminal(
    conninfo: str, connection: Connection, tmp_path: Path
) -> None:
    with terminal(conninfo, tmp_path, columns=40, lines=20) as opened:
        opened.until(b"nothing is indexed yet")
        connection.execute(
            "INSERT INTO ledger.coverage (venue, facts, blocks, times, verification,"
            " decoder_version) VALUES ('comet.base', 'liquidations', '[1,2)',"
            " tstzrange(now() - interval '1 minute', now()), 'every_height', 1)"
        )
        opened.until(b"comet.base")
        os.write(opened.us, b"q")
        code = opened.ended()

    frame = opened.said.rpartition(b"indexer top")[2].partition(BACK)[0].decode()
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", frame).splitlines()
    assert code == 0
    assert max(len(line.rstrip()) for line in lines) <= 40


def test_a_database_that_goes_away_is_said_and_found_again(
    conninfo: str, connection: Connection, tmp_path: Path
) -> None:
    cut = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    with terminal(conninfo, tmp_path) as opened:
        opened.until(b"nothing is indexed yet")
        opened.until(b"terminat", do=lambda: connection.execute(cut))
        opened.said = b""
        opened.until(b"nothing is indexed yet")
        os.write(opened.us, b"q")
        code = opened.ended()

    assert code == 0


def test_the_sums_wait_where_they_take_long(monkeypatch: pytest.MonkeyPatch) -> None:
    from indexer.cli import top

    asked: list[int] = []

    def summed(connection: Any, definition: str, until: datetime, hours: int) -> Sum:
        asked.append(hours)
        time.sleep(0.02)
        return SUMS[0]

    monkeypatch.setattr(top.now, "summed", summed)
    monkeypatch.setattr(top.now, "reached", lambda connection: AT)
    monkeypatch.setattr(top.now, "newest", lambda connection, most: [])
    monkeypatch.setattr(top.now, "lags", lambda connection: [])
    looker = top._Looker(None, "strict/v1")  # type: ignore[arg-type]
    end = time.monotonic() + 0.3
    while time.monotonic() < end:
        looker.look()

    assert asked == [1, 24]
    assert timedelta(0) < timedelta(seconds=looker._sum_again_at - time.monotonic())
