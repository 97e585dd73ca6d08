"""Solidity sources to contracts; what was compiled once is kept in the cache folder."""

import hashlib
import os
import posixpath
import re
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

import msgspec

from tests.devchain.contracts import Code
from tests.devchain.packages import (
    CACHE,
    GEARBOX_V2,
    GEARBOX_V3,
    MORPHO_BLUE,
    ONE_INCH,
    OPENZEPPELIN_2,
    OPENZEPPELIN_4,
    SOLC,
    SOLC_0_5,
    SYNTHETIX,
    Package,
    folder,
    program,
)

HERE = Path(__file__).parent
OUTPUT = ["abi", "evm.bytecode.object", "evm.bytecode.linkReferences"]
# Of the markets and of what they cannot be without.
SYNTHETIX_ROOTS = (
    "AddressResolver", "FlexibleStorage", "FuturesMarketManager", "PerpsV2Market",
    "PerpsV2MarketLiquidate", "PerpsV2MarketState", "PerpsV2MarketViews", "ProxyPerpsV2",
    "frozen/FuturesMarket",
)  # fmt: skip

# Of a market and of what it cannot be without.
GEARBOX_V2_ROOTS = (
    "core/ACL", "core/AccountFactory", "core/AddressProvider", "core/ContractsRegister",
    "factories/CreditManagerFactoryBase", "oracles/PriceOracle", "pool/LinearInterestRateModel",
    "pool/PoolService",
)  # fmt: skip
GEARBOX_V3_ROOTS = (
    "core/AliasedLossPolicyV3", "core/BotListV3", "core/DefaultAccountFactoryV3",
    "core/PriceOracleV3", "credit/CreditConfiguratorV3", "credit/CreditFacadeV3",
    "credit/CreditManagerV3", "pool/LinearInterestRateModelV3", "pool/PoolQuotaKeeperV3",
    "pool/PoolV3", "pool/TumblerV3",
)  # fmt: skip


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


def stubs() -> dict[str, Code]:
    """The contracts of Perps.sol, which stand around those of perpetuals."""
    return compiled({"Perps.sol": (HERE / "Perps.sol").read_text("utf-8")})


def around_lenders() -> dict[str, Code]:
    """The contracts of Lenders.sol, which stand around those of lenders."""
    return compiled({"Lenders.sol": (HERE / "Lenders.sol").read_text("utf-8")})


def synthetix() -> dict[str, Code]:
    """The contracts of markets of perps v2 and of futures (10 s the first time)."""
    places = {
        "contracts": folder(SYNTHETIX) / "contracts",
        "openzeppelin-solidity-2.3.0": folder(OPENZEPPELIN_2),
    }
    return compiled(_with_imports(SYNTHETIX_ROOTS, places), solc=SOLC_0_5)


def gearbox_v2() -> dict[str, Code]:
    """The contracts of a pool and a credit manager, and of those above them (10 s the first time);
    two files of others are ours."""
    places = {
        "contracts": folder(GEARBOX_V2) / "contracts",
        "@openzeppelin/contracts": folder(OPENZEPPELIN_4),
        "@chainlink/contracts/src/v0.8/interfaces": HERE / "gearbox",
        "@gearbox-protocol/integration-types/contracts": HERE / "gearbox",
    }
    return compiled(_with_imports(GEARBOX_V2_ROOTS, places))


def gearbox_v3() -> dict[str, Code]:
    """The contracts of a pool and a credit manager (10 s the first time)."""
    places = {
        "contracts": folder(GEARBOX_V3) / "contracts",
        "@openzeppelin/contracts": folder(OPENZEPPELIN_4),
        "@1inch/solidity-utils": folder(ONE_INCH),
    }
    return compiled(_with_imports(GEARBOX_V3_ROOTS, places))


def _with_imports(roots: Iterable[str], places: dict[str, Path]) -> dict[str, str]:
    """Files below `contracts` and all that they need, by path; paths begin with a place."""
    sources: dict[str, str] = {}
    wanted = [f"contracts/{name}.sol" for name in roots]
    while wanted:
        path = wanted.pop()
        if path not in sources:
            (at,) = (place for place in places if path.startswith(f"{place}/"))
            file = places[at] / path.removeprefix(f"{at}/")
            sources[path] = file.read_text("utf-8")
            wanted += _imported(sources[path], path)
    return sources


def _imported(source: str, path: str) -> list[str]:
    """The files that a file imports, as paths."""
    found: list[str] = re.findall(r'^import\b[^;"]*"([^"]+)";', source, re.MULTILINE)
    here = posixpath.dirname(path)
    return [
        posixpath.normpath(posixpath.join(here, one)) if one.startswith(".") else one
        for one in found
    ]


def compiled(sources: dict[str, str], cache: Path = CACHE, solc: Package = SOLC) -> dict[str, Code]:
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
    kept = cache / f"compiled-{solc.version}-{hashlib.sha256(question).hexdigest()[:16]}.json"
    if not kept.is_file():
        _write(kept, _answer(question, solc))
    output = msgspec.json.decode(kept.read_bytes(), type=_Output)
    return {
        name: Code.of(contract.abi, contract.evm.bytecode.object)
        for contracts in output.contracts.values()
        for name, contract in contracts.items()
    }


def _answer(question: bytes, solc: Package) -> bytes:
    script, soljson = HERE / "compile.js", folder(solc) / "soljson.js"
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
