"""What shows that a protocol is read rightly: derived from golden cases, the records beside the
checkout and from the local chain, never from what its SPEC claims."""

import importlib
import inspect
import json
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from indexer.evm_model import Evidence, Log, ProtocolSpec
from indexer.sources.chains import BY_NAME, profile_of
from tests import devchain
from tests.evm_logs import CHAINS, GOLDEN, Case, recorded

MADE_UP = re.compile("Made up, encoded from the ABI.*")
RECORDED = re.compile(r"Real: 0x[0-9a-f]{8}(?: and 0x[0-9a-f]{8})*, shared/data/evm/(\w+)\.jsonl\.")
SAVED = re.compile(
    r"Real: (0x[0-9a-f]{64}) of (\S+) \(chain (\d+)\), saved by indexer verify\.", re.DOTALL
)
LOCAL = BY_NAME["anvil"].chain_id


def cases(spec: ProtocolSpec) -> dict[str, Case]:
    """The golden cases of a protocol, by file."""
    return {
        path.name: msgspec.json.decode(path.read_bytes(), type=Case)
        for path in sorted((GOLDEN / spec.name).glob("*.json"))
    }


def is_known_source(case: Case) -> bool:
    """Whether it says in one of our ways where its logs are from."""
    return any(form.fullmatch(case.source) for form in (MADE_UP, RECORDED, SAVED))


def is_real(case: Case) -> bool:
    """Whether it says that its logs are of a public chain; `is_true` says whether they are."""
    return RECORDED.fullmatch(case.source) is not None or _is_saved(case)


def _is_saved(case: Case) -> bool:
    """A whole transaction that anybody with a node can read again under its hash."""
    found = SAVED.fullmatch(case.source)
    if found is None:
        return False
    tx_hash, chain, chain_id = found.groups()
    return (
        {(log.tx_hash, log.chain) for log in case.logs} == {(tx_hash, chain)}
        and int(chain_id) != LOCAL
        and int(chain_id) == profile_of(chain).chain_id
    )


def is_true(case: Case, real_data: Path) -> bool:
    """Whether all its logs stand in the file of records that it names."""
    found = RECORDED.fullmatch(case.source)
    if found is None:
        return True
    there = set(map(_content, records(real_data / "evm" / f"{found[1]}.jsonl")))
    return {_content(log) for log in case.logs} <= there


def _content(log: Log) -> tuple[object, ...]:
    return log.chain, log.address, log.topics, log.data, log.block_number, log.tx_hash


def records(file: Path) -> Iterator[Log]:
    """All logs of a file."""
    for line in file.read_text("utf-8").splitlines():
        row: dict[str, Any] = json.loads(line)
        if row["chain_id"] in CHAINS:
            logs = row["receipt"]["logs"] if "receipt" in row else [row["log"]]
            yield from (recorded(log, row["chain_id"]) for log in logs)


def is_liquidation_of(spec: ProtocolSpec, outcome: dict[str, Any]) -> bool:
    """Whether an outcome is a row, of whatever kind, of a deployment of the protocol."""
    ((kind, values),) = outcome.items()
    names = {spec.name, *(one.name for one in spec.deployments)}
    return kind.endswith("Liquidation") and values["venue"].partition(".")[0] in names


def liquidated_on_the_local_chain() -> set[str]:
    """The protocols whose real contracts tests deploy and liquidate: the classes of tests/devchain
    with a name, a `liquidate`, and a test that names them."""
    modules = [
        importlib.import_module(f"{devchain.__name__}.{found.name}")
        for found in pkgutil.iter_modules(devchain.__path__)
        if not found.name.startswith("test_")
    ]
    names = {
        one.name
        for module in modules
        for _, one in inspect.getmembers(module, inspect.isclass)
        if not inspect.isabstract(one)
        and isinstance(getattr(one, "name", None), str)
        and callable(getattr(one, "liquidate", None))
    }
    tested = "".join(
        path.read_text("utf-8") for path in Path(devchain.__path__[0]).glob("test_*.py")
    )
    return {name for name in names if f'"{name}"' in tested}


def derived(spec: ProtocolSpec) -> Evidence:
    """The strongest that there is."""
    if any(
        is_real(case) and any(is_liquidation_of(spec, one) for one in case.outcomes)
        for case in cases(spec).values()
    ):
        return "real"
    return "contracts" if spec.name in liquidated_on_the_local_chain() else "abi"
