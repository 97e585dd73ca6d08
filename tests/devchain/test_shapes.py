"""Shape tests: contracts of ours stand where the protocols' do and log what each golden case has,
through a real node. They show that what a node makes of an event is what we read, whatever emitted
it; not that a protocol emits it."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from indexer.evm_model import Log
from tests.devchain.anvil import Anvil, anvil
from tests.devchain.compiler import compiled
from tests.devchain.contracts import Contract, Deployer
from tests.evm_logs import GOLDEN, SPECS, Case, decoded

HERE = Path(__file__).parent
LAST_OF_EVM = 0x11  # addresses below are the machine's own since Prague: EIP-2537
CASES = [
    pytest.param(path, id=f"{path.parent.name}-{path.stem}")
    for spec in SPECS
    for path in sorted((GOLDEN / spec.name).glob("*.json"))
]


class Stage:
    """A chain on which any contract logs what it is told to."""

    def __init__(self, node: Anvil) -> None:
        codes = compiled({"Shapes.sol": (HERE / "Shapes.sol").read_text("utf-8")})
        self._owner = Deployer(node)
        self._conductor: Contract = self._owner.deploy(codes["Conductor"])
        made = self._owner.deploy(codes["Emitter"]).address
        self._filler = made
        self._code = node.rpc("eth_getCode", made, "latest")
        self._node = node
        self._placed: set[str] = set()

    def played(self, case: Case) -> Case:
        """The case with the logs as the node has them, in the place where it says that they were.

        Where an index is missing there something else is logged."""
        by_index = {log.log_index: log for log in case.logs}
        last = max(by_index)
        logs = [by_index.get(index) for index in range(last + 1)]
        for log in case.logs:
            self._place(log.address)
        receipt = self._owner.send(
            self._conductor,
            "play",
            [self._filler if log is None else log.address for log in logs],
            [b"\0" if log is None else _told(log.topics, log.data) for log in logs],
        )
        first = receipt.logs[0].log_index
        real = {log.log_index - first: log for log in receipt.logs}
        return msgspec.structs.replace(
            case, logs=[_placed(real[index], log) for index, log in sorted(by_index.items())]
        )

    def _place(self, address: str) -> None:
        assert int(address, 16) > LAST_OF_EVM
        if address not in self._placed:
            self._node.rpc("anvil_setCode", address, self._code)
            self._placed.add(address)


def _placed(log: Log, like: Log) -> Log:
    """What a node has, where and when the case says that it was."""
    return msgspec.structs.replace(like, address=log.address, topics=log.topics, data=log.data)


def _told(topics: tuple[str, ...], data: str) -> bytes:
    words = b"".join(bytes.fromhex(topic[2:]) for topic in topics)
    return bytes([len(topics)]) + words + bytes.fromhex(data[2:])


@pytest.fixture(scope="module")
def stage(packages: list[Path]) -> Iterator[Stage]:
    with anvil() as node:
        yield Stage(node)


@pytest.mark.parametrize("path", CASES)
def test_what_a_node_makes_of_an_event_decodes_to_the_golden_case(stage: Stage, path: Path) -> None:
    case = msgspec.json.decode(path.read_bytes(), type=Case)

    played = stage.played(case)

    assert len(played.logs) == len(case.logs)
    assert msgspec.json.encode(decoded(played)) == msgspec.json.encode(case.outcomes)
