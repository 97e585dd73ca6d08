"""A transaction as a golden case, the form of the files in tests/golden. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from indexer.decode import Decoder
from indexer.evm_model import Decoded, Fact, FactKey, Log


class Case(msgspec.Struct, frozen=True):
    """All logs of a transaction as published, the facts that decoding them needs, and what they
    are together. `source` says where the logs are from, or that they are made up."""

    what: str
    source: str
    is_whole: bool
    facts: Sequence[Fact]
    logs: Sequence[Log]
    outcomes: Sequence[dict[str, Any]]


def case_of(
    decoder: Decoder, what: str, source: str, facts: Iterable[Fact], logs: Sequence[Log]
) -> Case:
    """The case of a whole receipt; nothing but `facts` is known of it."""
    given = sorted(facts, key=lambda fact: fact.key)
    known: Mapping[FactKey, str | None] = {
        **decoder.known_facts,
        **{fact.key: fact.value for fact in given},
    }
    found = decoder.transaction(logs, known, is_whole=True)
    return Case(what, source, True, given, logs, outcomes_of(found))


def outcomes_of(found: Iterable[Decoded]) -> list[dict[str, Any]]:
    """Outcomes as values, each under its name; a log within them is named by its key."""
    return [{type(one).__name__: _values(one)} for one in found]


def _values(outcome: Decoded) -> dict[str, Any]:
    values: dict[str, Any] = msgspec.to_builtins(outcome)
    log = values.pop("log", None)
    if log is None:
        return values
    return {"event_key": f"{log['tx_hash']}/{log['log_index']}", **values}


def written(case: Case) -> bytes:
    """The file."""
    return msgspec.json.format(msgspec.json.encode(case), indent=1) + b"\n"
