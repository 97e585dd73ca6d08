"""The head of a chain, played live: how late rows come, and whether they are the right ones.

    python -m benchmarks.chain_head play SCENARIO BLOCKS SECONDS always|check|never
    python -m benchmarks.chain_head follow SECONDS DATABASE NODE [HEADS]

The first plays a scenario of `tests.chain_model.live` in a process of its own, or its threads
would take turns with ours. It prints a `Played`; told `finish` it waits for the last block and
prints a `Truth`; told `finalize` it makes all of it final, adds one block, with which a follower
writes that down, and prints its hash; at the end of its input it ends. The
last argument says when its node serves receipts: always, from `finalize` on, or never. The
second follows it as the command does, of all venues, but knows how long the blocks of this chain
take: ethereum's profile says 12 s.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from math import ceil
from select import select
from statistics import median
from typing import Literal, NamedTuple, cast

import msgspec
import psycopg

from benchmarks.machine import ROOT, line_from, server_cpu_seconds, started, tell
from indexer.chain import check
from indexer.chain import follow as follower
from indexer.chain.follow import FINALIZED_EVERY_SECONDS
from indexer.chain.redecode import settle
from indexer.decode import Decoder
from indexer.sources.chains import profile_of
from indexer.sources.evm import EvmSource
from indexer.sources.heads import Clockwork, Heads
from indexer.store import database, server
from indexer.venues import evm
from tests.chain_model import live
from tests.chain_model.node import Limits

CHAIN = "ethereum"
LOOK_SECONDS = 0.001  # between two looks at the database
CATCH_UP_SECONDS = 20.0
HISTORY = 3  # blocks before: none of them is final when the follower comes, so it reads them all
MS_ASKED = 50


Receipts = Literal["always", "check", "never"]  # when the node serves them
RECEIPTS: dict[Receipts, str] = {
    "always": "",
    "check": ", receipts for the check alone",
    "never": ", no receipts at all",
}


class Head(NamedTuple):
    """A scenario, and how it is watched."""

    scenario: live.Scenario
    has_announcements: bool = False
    receipts: Receipts = "always"

    @property
    def label(self) -> str:
        """As the table names it."""
        how = "newHeads" if self.has_announcements else "polling"
        return f"{self.scenario}, {how}{RECEIPTS[self.receipts]}"


HEADS = (
    Head("plain"),
    Head("plain", has_announcements=True),
    Head("reorg"),
    Head("late"),
    Head("partial"),
    Head("late", receipts="check"),
    Head("partial", receipts="check"),
    Head("late", receipts="never"),
)


class Played(msgspec.Struct):
    """Where a scenario is played."""

    node: str
    heads: str


Event = tuple[str, str]  # venue and event key


class Truth(msgspec.Struct):
    """What happened: when each block became visible, which of them stayed, and their events."""

    visible_at: dict[str, float]
    chain: dict[int, str]
    events: dict[int, list[Event]]


class Wrong(NamedTuple):
    """Events of the chain that are not stored, stored ones that are not on it, and doubles.

    `waiting` are stored and no row yet."""

    missing: int
    stale: int
    doubled: int
    waiting: int

    def __str__(self) -> str:
        waiting = f" ({self.waiting} wait)" if self.waiting else ""
        return f"{self.missing} / {self.stale} / {self.doubled}{waiting}"


class Seen(NamedTuple):
    """What a scenario gave. Latencies are of the blocks that came after the first was stored and
    that stayed; `behind` is the most of them that were visible and not stored at one moment."""

    events: int
    reorgs: int
    latencies: list[float]
    behind: int
    before: Wrong
    after: Wrong
    checked: str
    cpu_seconds: float
    server_cpu_seconds: float

    @property
    def median_ms(self) -> float:
        """From a block that is visible to its rows."""
        return median(self.latencies) * 1000

    @property
    def late_ms(self) -> float:
        """The same, of the slowest of twenty."""
        return sorted(self.latencies)[ceil(0.95 * len(self.latencies)) - 1] * 1000

    @property
    def longest_ms(self) -> float:
        """The same, of the slowest."""
        return max(self.latencies) * 1000

    @property
    def is_right(self) -> bool:
        """Whether exactly the events of the chain are stored at the end."""
        return self.after[:3] == (0, 0, 0)


# -- the measuring side ------------------------------------------------------------------------


def watch(head: Head, blocks: int, seconds: float, on: server.Server, conninfo: str) -> Seen:
    """Play a scenario and follow it, on a fresh database."""
    arguments = ("play", head.scenario, str(blocks), str(seconds), head.receipts)
    with started("benchmarks.chain_head", *arguments) as player:
        played = msgspec.json.decode(line_from(player), type=Played)
        urls = [played.node, *([played.heads] if head.has_announcements else [])]
        before = server_cpu_seconds(on)
        with psycopg.connect(conninfo, autocommit=True) as connection:
            with _follower(str(seconds), conninfo, *urls) as running:
                tell(player, "finish")
                stored_at = _stored(connection, lambda _: _has_spoken(player))
                truth = msgspec.json.decode(line_from(player), type=Truth)
                stored_at = _stored(connection, _until(truth.chain[max(truth.chain)])) | stored_at
                wrong = _compared(connection, truth)
                tell(player, "finalize")
                _stored(connection, _until(line_from(player).strip()))
            checked = _check(conninfo, played.node, truth)
            row = connection.execute("SELECT count(*) FROM liq.reorgs").fetchone()
            after = _compared(connection, truth)
        used = server_cpu_seconds(on) - before
    latencies, behind = _lag(truth, stored_at)
    return Seen(
        sum(map(len, truth.events.values())), cast(int, row and row[0]), latencies, behind, wrong,
        after, checked, running.cpu_seconds, used,
    )  # fmt: skip


class _Follower:
    """The follower at work; `cpu_seconds` of it once it has ended."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.cpu_seconds = 0.0


@contextmanager
def _follower(*arguments: str) -> Iterator[_Follower]:
    command = [sys.executable, "-m", "benchmarks.chain_head", "follow", *arguments]
    process = subprocess.Popen(command, cwd=ROOT)
    follower = _Follower(process)
    try:
        yield follower
    finally:
        process.send_signal(signal.SIGTERM)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        follower.cpu_seconds = used.ru_utime + used.ru_stime


_NEWEST = """
    SELECT hash FROM ledger.block WHERE chain = 'ethereum' ORDER BY block_number DESC LIMIT 6
"""


def _stored(
    connection: psycopg.Connection, is_over: Callable[[dict[str, float]], bool]
) -> dict[str, float]:
    """When each block was first seen in the database, by hash."""
    found: dict[str, float] = {}
    while not is_over(found):
        rows = connection.execute(_NEWEST).fetchall()
        now = time.time()
        for (block_hash,) in rows:
            found.setdefault(block_hash, now)
        time.sleep(LOOK_SECONDS)
    return found


def _until(block_hash: str) -> Callable[[dict[str, float]], bool]:
    """Whether a block is stored, or nobody believes any more that it will be."""
    end = time.monotonic() + CATCH_UP_SECONDS
    return lambda found: block_hash in found or time.monotonic() > end


def _has_spoken(player: subprocess.Popen[str]) -> bool:
    assert player.stdout is not None
    return bool(select([player.stdout], [], [], 0)[0])


def _lag(truth: Truth, stored_at: dict[str, float]) -> tuple[list[float], int]:
    first = min((at for one, at in stored_at.items() if one in truth.visible_at), default=0.0)
    end = max(stored_at.values(), default=0.0)
    spans = [
        (at, stored_at.get(block_hash, end))
        for block_hash in truth.chain.values()
        if (at := truth.visible_at.get(block_hash, 0.0)) > first
    ]
    behind = max((sum(low <= at < high for low, high in spans) for at, _ in spans), default=0)
    return [stored - visible for visible, stored in spans], behind


def _compared(connection: psycopg.Connection, truth: Truth) -> Wrong:
    """Events from the first block that is covered, waiting ones and quarantine included."""
    row = connection.execute("SELECT min(lower(blocks)) FROM ledger.coverage").fetchone()
    low, high = cast(int, row and row[0]), max(truth.chain)
    rows, waiting, strangers = (
        [(str(venue), str(key)) for venue, key in connection.execute(query, (low, high))]
        for query in _STORED
    )
    stored = [*rows, *waiting, *strangers]
    expected = {
        event for number, events in truth.events.items() if number >= low for event in events
    }
    return Wrong(
        len(expected - set(stored)),
        len(set(stored) - expected),
        len(stored) - len(set(stored)),
        len(waiting),
    )


_STORED = (
    "SELECT venue, event_key FROM ledger.lending_liquidation WHERE block_number BETWEEN %s AND %s",
    "SELECT venue, event_key FROM ledger.undecoded WHERE block_number BETWEEN %s AND %s",
    "SELECT 'quarantine', event_key FROM ledger.quarantine WHERE block_number BETWEEN %s AND %s",
)


def _check(conninfo: str, node: str, truth: Truth) -> str:
    """Ask for what events wait for and read what became final a second time, as the follower does
    every ten minutes."""
    decoder = Decoder(evm.specs())
    with (
        database.connect(conninfo) as connection,
        closing(EvmSource(profile_of(CHAIN), [node])) as source,
    ):
        end = max(truth.chain) + 1
        settle(connection, source, decoder)
        tally = check.check(connection, source, decoder, _venues(decoder), min(truth.chain), end)
    unsettled = f", {len(tally.unsettled)} unsettled" if tally.unsettled else ""
    return f"{tally.missing} missing, {tally.untrue} untrue{unsettled}"


# -- the playing side --------------------------------------------------------------------------


def play(scenario: str, blocks: str, seconds: str, receipts: str) -> None:
    """Play a scenario until the input ends."""
    with live.playing(
        cast(live.Scenario, scenario),
        int(blocks),
        seconds=float(seconds),
        has_receipts=receipts == "always",
        history=HISTORY,
    ) as playing:
        print(msgspec.json.encode(Played(playing.node.url, playing.heads_url)).decode(), flush=True)
        for line in sys.stdin:
            if line.strip() == "finish":
                playing.live.is_done.wait()
                print(msgspec.json.encode(_truth(playing)).decode(), flush=True)
            else:
                playing.chain.finalize(playing.chain.head.number)
                if receipts == "check":
                    playing.node.limits = Limits()
                time.sleep(FINALIZED_EVERY_SECONDS)  # by then the follower asks what is final
                print(playing.chain.mine(time=int(time.time()))[0].hash, flush=True)


def _truth(playing: live.Live) -> Truth:
    blocks = playing.chain.branch.blocks
    events: dict[int, list[Event]] = {}
    truth = playing.chain.truth()
    for row in truth.rows:
        part = f"/{row.part}" if row.part else ""
        key = f"{row.tx_hash}/{row.log_index}{part}"
        events.setdefault(row.block_number, []).append((row.venue, key))
    for one in truth.strangers:
        key = f"{one.tx_hash}/{one.log_index}"
        events.setdefault(one.block_number, []).append(("quarantine", key))
    return Truth(
        dict(playing.live.visible_at), {block.number: block.hash for block in blocks}, events
    )


# -- the following side ------------------------------------------------------------------------


def follow(seconds: str, conninfo: str, node: str, *heads: str) -> None:
    """Follow the chain until the signal to end."""
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    profile = msgspec.structs.replace(profile_of(CHAIN), block_seconds=float(seconds))
    decoder = Decoder(evm.specs())
    with (
        closing(EvmSource(profile, [node])) as source,
        closing(Heads(heads[0], _ignore) if heads else Clockwork()) as wake,
    ):
        follower.follow(
            lambda: database.connect(conninfo), source, decoder, _venues(decoder),
            is_over=over.is_set, say=_ignore, wake=wake,
        )  # fmt: skip


def _ignore(text: str) -> None:
    """Nobody listens."""


def _venues(decoder: Decoder) -> list[str]:
    return [venue for venue in decoder.venues() if venue.endswith(f".{CHAIN}")]


ROLES: dict[str, Callable[..., None]] = {"play": play, "follow": follow}

if __name__ == "__main__":
    ROLES[sys.argv[1]](*sys.argv[2:])
