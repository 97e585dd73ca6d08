"""Solidity sources to contracts; what was compiled once is kept in the cache folder."""

import hashlib
import os
import subprocess
import tempfile
from pathlib import Path

import msgspec

from tests.devchain.contracts import Code
from tests.devchain.packages import CACHE, MORPHO_BLUE, SOLC, folder, program

HERE = Path(__file__).parent
OUTPUT = ["abi", "evm.bytecode.object", "evm.bytecode.linkReferences"]


class _Bytecode(msgspec.Struct):
    object: str


class _Evm(msgspec.Struct):
    bytecode: _Bytecode


class _Contract(msgspec.Struct):
    abi: list[dict[str, object]]
    evm: _Evm


class _Message(msgspec.Struct, rename="camel"):
    severity: str
    formatted_message: str


class _Output(msgspec.Struct):
    contracts: dict[str, dict[str, _Contract]] = {}
    errors: list[_Message] = []


def dev() -> dict[str, Code]:
    """The contracts of Dev.sol."""
    return compiled({"Dev.sol": (HERE / "Dev.sol").read_text("utf-8")})


def stand_ins() -> dict[str, Code]:
    """The contracts of Values.sol: feeds, and protocols that no registry has."""
    return compiled({"Values.sol": (HERE / "Values.sol").read_text("utf-8")})


def morpho() -> dict[str, Code]:
    """Morpho and its libraries (3 s the first time)."""
    root = folder(MORPHO_BLUE)
    files = sorted(root.rglob("*.sol"))
    return compiled({str(file.relative_to(root)): file.read_text("utf-8") for file in files})


def compiled(sources: dict[str, str], cache: Path = CACHE) -> dict[str, Code]:
    """All contracts in these files, by name; raises ValueError with what the compiler says."""
    question = msgspec.json.encode(
        {
            "language": "Solidity",
            "sources": {path: {"content": text} for path, text in sources.items()},
            "settings": {
                "optimizer": {"enabled": True, "runs": 200},
                "outputSelection": {"*": {"*": OUTPUT}},
            },
        },
        order="sorted",
    )
    kept = cache / f"compiled-{SOLC.version}-{hashlib.sha256(question).hexdigest()[:16]}.json"
    if not kept.is_file():
        _write(kept, _answer(question))
    output = msgspec.json.decode(kept.read_bytes(), type=_Output)
    return {
        name: Code.of(contract.abi, contract.evm.bytecode.object)
        for contracts in output.contracts.values()
        for name, contract in contracts.items()
    }


def _answer(question: bytes) -> bytes:
    script, soljson = HERE / "compile.js", folder(SOLC) / "soljson.js"
    arguments: tuple[str | Path, ...] = (program("node"), script, soljson)
    answer = subprocess.run(arguments, input=question, capture_output=True, check=True).stdout
    errors = [
        message.formatted_message
        for message in msgspec.json.decode(answer, type=_Output).errors
        if message.severity == "error"
    ]
    if errors:
        raise ValueError("\n".join(errors))
    return answer


def _write(file: Path, content: bytes) -> None:
    """Whole or not at all, also when two do it at once."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=file.parent, prefix="unfinished-")
    with os.fdopen(handle, "wb") as unfinished:
        unfinished.write(content)
    Path(name).replace(file)
