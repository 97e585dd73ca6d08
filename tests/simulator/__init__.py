"""A seeded simulator of the Hyperliquid exchange that writes node files and knows their truth.

It shares no code with the indexer on purpose: it is the second opinion. Written from
the data facts in docs only: positions, fees and profits come from a ledger of its own.
"""

from tests.simulator.config import RECORDING, SHORT_STORIES, STORIES, Config, labelled, small
from tests.simulator.exchange import PROTOCOL_VAULTS
from tests.simulator.run import Simulation, simulate
from tests.simulator.truth import Truth
from tests.simulator.write import (
    SIMULATED,
    write_by_block,
    write_fills,
    write_misc,
    write_recording,
    write_streaming,
)

__all__ = [
    "PROTOCOL_VAULTS",
    "RECORDING",
    "SHORT_STORIES",
    "SIMULATED",
    "STORIES",
    "Config",
    "Simulation",
    "Truth",
    "labelled",
    "simulate",
    "small",
    "write_by_block",
    "write_fills",
    "write_misc",
    "write_recording",
    "write_streaming",
]
