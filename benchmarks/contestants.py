"""One contestant in a process of its own: started, told to go, measured, asked what it found.

    python -m benchmarks.contestants NAME FILE DATABASE CORE

All of them import the same modules before the clock starts; `ready` and `go` on the pipes stand
between. CORE is the one core to run on, or `any`. The last line of output is a `Measured`.
"""

import gc
import json
import os
import re
import resource
import sys
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import lz4.frame
import msgspec

from indexer import sync
from indexer.sources.files import READ_BYTES
from indexer.store import database

HOUSEKEEPING = ("Net Child Vaults", "Settlement", "Spot Dust Conversion")
TAKEOVERS = ("Liquidated ", "Auto-Deleveraging")


class Measured(msgspec.Struct, frozen=True):
    """What a contestant took. `began` and `ended` are of the machine's one monotonic clock, so
    that processes side by side can be compared; `found` is what it says it counted."""

    began: float
    ended: float
    cpu_seconds: float
    peak_bytes: int
    found: int

    @property
    def wall_seconds(self) -> float:
        """From the word `go` to the last byte or the last commit."""
        return self.ended - self.began


def decompress(path: Path, conninfo: str) -> int:
    """The bound: LZ4 decompression alone, in reads of the size that we use. Counts bytes."""
    return _decompress(path, READ_BYTES)


def decompress_best(path: Path, conninfo: str) -> int:
    """The same in reads that are fastest for a program that does nothing else.

    From 256 KiB on its buffers go back to the system and are faulted in again at every read,
    300,000 pages a gigabyte.
    """
    return _decompress(path, 128 * 1024)


def _decompress(path: Path, read_bytes: int) -> int:
    frame = lz4.frame.LZ4FrameDecompressor()
    size = 0
    with path.open("rb") as stream:
        while data := stream.read(read_bytes):
            size += len(frame.decompress(data))
    return size


def parse_every_line(path: Path, conninfo: str) -> int:
    """The obvious program: text, JSON, loops; stores nothing. Counts liquidation fills."""
    count = 0
    with lz4.frame.open(path, "rt") as stream:
        for line in stream:
            for _, fill in json.loads(line)["events"]:
                if "liquidation" in fill:
                    count += 1
    return count


class Day:
    """What an account did in a day in one quote token, as the obvious program adds it up."""

    def __init__(self) -> None:
        self.fills = self.other_fills = 0
        self.volume = self.pnl = self.largest = self.bought = self.sold = Decimal(0)
        self.largest_market = ""
        self.markets: set[str] = set()


Days = dict[tuple[str, str, str], Day]  # by account, day and quote token
Minutes = dict[
    tuple[str, str], tuple[Decimal, int]
]  # by coin and minute: the last price, its block


def obvious_tables(path: Path) -> tuple[Days, Minutes, int]:
    """Account days and last prices as they are defined, and the number of liquidation fills: text,
    JSON, dictionaries and decimal numbers. Of a file of the main dex alone."""
    days: Days = {}
    minutes: Minutes = {}
    count = 0
    with lz4.frame.open(path, "rt") as stream:
        for line in stream:
            block = json.loads(line)
            for account, fill in block["events"]:
                if "liquidation" in fill:
                    count += 1
                day = days.setdefault((account, block["block_time"][:10], "USDC"), Day())
                if fill["coin"][0] in "@#" or "/" in fill["coin"] or fill["dir"] in HOUSEKEEPING:
                    day.other_fills += 1
                    continue
                price, size = Decimal(fill["px"]), Decimal(fill["sz"])
                start = Decimal(fill["startPosition"])
                end = start + size if fill["side"] == "B" else start - size
                position = max(abs(start), abs(end)) * price
                if (-position, fill["coin"]) < (-day.largest, day.largest_market):
                    day.largest, day.largest_market = position, fill["coin"]
                day.fills += 1
                day.volume += price * size
                day.pnl += Decimal(fill["closedPnl"])
                if fill["dir"].startswith(TAKEOVERS):
                    continue
                minutes[fill["coin"], block["block_time"][:16]] = price, block["block_number"]
                if not fill["crossed"]:
                    day.markets.add(fill["coin"])
                    if fill["side"] == "B":
                        day.bought += price * size
                    else:
                        day.sold += price * size
    return days, minutes, count


def add_up_every_fill(path: Path, conninfo: str) -> int:
    """The obvious program for the account table; stores nothing. Counts liquidation fills."""
    return obvious_tables(path)[2]


def liquidations(path: Path, conninfo: str) -> int:
    """Ours without the account table. Counts rows."""
    return _backfill(path, conninfo, with_accounts=False)


def with_accounts(path: Path, conninfo: str) -> int:
    """Ours with the account table. Counts rows."""
    return _backfill(path, conninfo, with_accounts=True)


def _backfill(path: Path, conninfo: str, *, with_accounts: bool) -> int:
    with database.connect(conninfo) as connection:
        tally = sync.backfill(connection, str(path), with_accounts=with_accounts)
    if tally.faults:
        raise tally.faults[0]
    return tally.counts["liquidations"]


CONTESTANTS: dict[str, Callable[[Path, str], int]] = {
    "decompress": decompress,
    "decompress_best": decompress_best,
    "parse_every_line": parse_every_line,
    "add_up_every_fill": add_up_every_fill,
    "liquidations": liquidations,
    "with_accounts": with_accounts,
}


def peak_bytes() -> int:
    """The most memory this process ever held."""
    # Not ru_maxrss: that also remembers the process we were forked from, which made the file.
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def cpu_seconds() -> float:
    """User and sys of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main(name: str, path: str, conninfo: str, core: str) -> None:
    if core != "any":
        os.sched_setaffinity(0, {int(core)})
    gc.collect()
    print("ready", flush=True)
    sys.stdin.readline()
    cpu_before, began = cpu_seconds(), time.monotonic()
    found = CONTESTANTS[name](Path(path), conninfo)
    ended, cpu_after = time.monotonic(), cpu_seconds()
    measured = Measured(began, ended, cpu_after - cpu_before, peak_bytes(), found)
    print(msgspec.json.encode(measured).decode())


if __name__ == "__main__":
    main(*sys.argv[1:])
