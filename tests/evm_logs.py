"""Logs for tests: encoded from an ABI by eth_abi, or read from the records; outcomes as values."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
from eth_abi import abi
from eth_utils import keccak

from indexer.decode import AbiEvent, Argument, Decoder, Layout, layouts
from indexer.evm_model import Decoded, EventMap, Fact, Facts, Log
from indexer.venues.evm import specs

GOLDEN = Path(__file__).parent / "golden"
SPECS = specs()
DECODER = Decoder(SPECS)
CHAINS = {1: "ethereum", 42161: "arbitrum", 747474: "katana"}


def encoded(
    event: AbiEvent,
    args: dict[str, Any],
    *,
    chain: str,
    address: str,
    log_index: int = 0,
    tx_hash: str = "0x" + 64 * "7",
) -> Log:
    """The log that a contract with this ABI emits, as the ABI specification says."""

    def word(argument: Argument) -> str:
        if argument.type == "string":
            return "0x" + keccak(text=args[argument.name]).hex()
        return "0x" + abi.encode([argument.kind], [args[argument.name]]).hex()

    plain = [argument for argument in event.inputs if not argument.indexed]
    body = abi.encode([a.kind for a in plain], [args[a.name] for a in plain])
    topics = (Layout(event).topic0, *(word(a) for a in event.inputs if a.indexed))
    block_hash = "0x" + 64 * "b"
    return Log(
        chain, address.lower(), topics, "0x" + body.hex(), 1000, block_hash, tx_hash, log_index
    )


def looks_like(log: Log) -> tuple[str, ...]:
    """The protocols with a liquidation event of a log's shape, read from what they say of it."""
    return tuple(
        spec.name
        for spec in SPECS
        if any(
            isinstance(use, EventMap) and (layout.topic0, layout.topics) == shape(log)
            for contract in spec.contracts.values()
            for layout, use in layouts(contract)
        )
    )


def shape(log: Log) -> tuple[str, int]:
    """What decoders are keyed by."""
    return log.topics[0], len(log.topics)


def _number(value: Any) -> int:
    """Nodes write 0x1f, one of the recorded caches 31n."""
    return value if isinstance(value, int) else int(value.rstrip("n"), 0)


def recorded(log: dict[str, Any], chain_id: int) -> Log:
    """A log as one of the records has it; what a record left out is empty or 0."""
    return Log(
        CHAINS[chain_id], log["address"].lower(), tuple(log["topics"]), log["data"],
        _number(log["blockNumber"]), log.get("blockHash", ""), log["transactionHash"],
        _number(log.get("logIndex", 0)),
    )  # fmt: skip


class Case(msgspec.Struct, forbid_unknown_fields=True):
    """All logs of a transaction as published, and what they must be together."""

    what: str
    source: str
    is_whole: bool
    facts: list[Fact]
    logs: list[Log]
    outcomes: list[dict[str, Any]]


def known(facts: Iterable[Fact]) -> Facts:
    """The facts that venue files know themselves, and these."""
    return {**DECODER.known_facts, **{fact.key: fact.value for fact in facts}}


def plain(outcomes: Iterable[Decoded]) -> list[dict[str, Any]]:
    """Outcomes as values, each under its name; a log within them is named by its key."""
    return [{type(outcome).__name__: _values(outcome)} for outcome in outcomes]


def _values(outcome: Decoded) -> dict[str, Any]:
    values: dict[str, Any] = msgspec.to_builtins(outcome)
    if "log" in values:
        log = values.pop("log")
        values = {"event_key": f"{log['tx_hash']}/{log['log_index']}", **values}
    return values


def decoded(case: Case) -> list[dict[str, Any]]:
    """What the decoder makes of a case."""
    return plain(DECODER.transaction(case.logs, known(case.facts), is_whole=case.is_whole))
