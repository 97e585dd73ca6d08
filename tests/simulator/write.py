"""The files a node writes, cut by its own clock, named by hour without a leading zero."""

import json
import random
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import lz4.frame

from tests.simulator.exchange import Block
from tests.simulator.run import Simulation

SECOND_NS = 1_000_000_000
SIMULATED = "SIMULATED.txt"

Line = tuple[int, object]  # local time in nanoseconds, what to print


def iso(time_ns: int) -> str:
    """`2025-10-27T17:00:00.063787823`: nine fraction digits, no zone."""
    seconds, rest = divmod(time_ns, SECOND_NS)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}"


def write_by_block(sim: Simulation, directory: Path, compress: bool = False) -> list[Path]:
    """`node_fills_by_block`: a line a block, empty ones too."""
    lines = ((block.local_time_ns, envelope(block, block.events)) for block in sim.blocks)
    return write_hours(directory / "node_fills_by_block", lines, compress)


def write_fills(sim: Simulation, directory: Path, compress: bool = False) -> list[Path]:
    """`node_fills`: the older shape, a line a fill, no block and no twapId."""
    lines = (
        (block.local_time_ns, [account, {k: v for k, v in fill.items() if k != "twapId"}])
        for block in sim.blocks
        for account, fill in block.events
    )
    return write_hours(directory / "node_fills", lines, compress)


def write_streaming(sim: Simulation, directory: Path, compress: bool = False) -> list[Path]:
    """`node_fills_streaming`: blocks in pieces as they happen; an empty block has no line."""
    rng = random.Random(sim.config.seed)
    lines = (
        (block.local_time_ns, envelope(block, piece))
        for block in sim.blocks
        for piece in pieces(block.events, rng)
    )
    return write_hours(directory / "node_fills_streaming", lines, compress)


def write_misc(sim: Simulation, directory: Path, compress: bool = False) -> list[Path]:
    """`misc_events_by_block`: a line a block with the ledger's events."""
    lines = ((block.local_time_ns, envelope(block, ledger_events(block))) for block in sim.blocks)
    return write_hours(directory / "misc_events_by_block", lines, compress)


def write_recording(sim: Simulation, directory: Path) -> list[Path]:
    """Fills and ledger events, compressed, and a text that says that they are simulated."""
    written = write_by_block(sim, directory, True) + write_misc(sim, directory, True)
    note = directory / SIMULATED
    note.write_text(
        "This data is SIMULATED. No account, trade or liquidation in it ever existed.\n"
        "Only the addresses of the exchange's own vaults are real.\n"
        "It was written by `python -m tests.simulator recording OUT_DIR` in the format of a\n"
        "Hyperliquid node, with blocks further apart than on the real chain.\n\n"
        f"seed {sim.config.seed}\n{sim.config}\n",
        encoding="utf-8",
    )
    return [*written, note]


def envelope(block: Block, events: list) -> dict[str, object]:
    return {
        "local_time": iso(block.local_time_ns),
        "block_time": iso(block.block_time_ns),
        "block_number": block.number,
        "events": events,
    }


def ledger_events(block: Block) -> list[dict[str, object]]:
    return [{"time": iso(block.block_time_ns), **event} for event in block.ledger_events]


def pieces(events: list, rng: random.Random) -> Iterable[list]:
    """Cut anywhere, also between the two legs of a trade."""
    start = 0
    while start < len(events):
        end = start + 1 + rng.randrange(5)
        yield events[start:end]
        start = end


def write_hours(root: Path, lines: Iterable[Line], compress: bool) -> list[Path]:
    """One file an hour of local time under `hourly/YYYYMMDD/H`, whole lines in order."""
    by_hour: dict[Path, list[str]] = {}
    for local_time_ns, content in lines:
        at = datetime.fromtimestamp(local_time_ns // SECOND_NS, UTC)
        name = f"{at.hour}.lz4" if compress else str(at.hour)
        path = root / "hourly" / f"{at:%Y%m%d}" / name
        by_hour.setdefault(path, []).append(json.dumps(content, separators=(",", ":")) + "\n")
    for path, texts in by_hour.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        data = "".join(texts).encode()
        path.write_bytes(lz4.frame.compress(data, compression_level=9) if compress else data)
    return list(by_hour)
