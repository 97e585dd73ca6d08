"""Contracts as a compiler leaves them, and as they stand on the chain."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
from eth_abi import abi
from eth_hash.auto import keccak

from indexer.decode import Argument
from tests.devchain.anvil import Anvil, Receipt, Reverted, Tx

VARIABLES = 32  # slots of storage; no contract here that is placed has more


class Function(msgspec.Struct, frozen=True):
    """A function as the ABI has it; a constructor is one without a name."""

    name: str = ""
    inputs: tuple[Argument, ...] = ()
    outputs: tuple[Argument, ...] = ()

    @property
    def selector(self) -> bytes:
        """The four bytes that call it."""
        return keccak(f"{self.name}({','.join(a.kind for a in self.inputs)})".encode())[:4]

    def encoded(self, arguments: tuple[Any, ...]) -> bytes:
        """The arguments as the ABI writes them."""
        return abi.encode([argument.kind for argument in self.inputs], arguments)

    def result(self, data: bytes) -> Any:
        """What it returned: one value as itself, several as a tuple."""
        values = abi.decode([output.kind for output in self.outputs], data)
        return values[0] if len(values) == 1 else values


class Place(msgspec.Struct, frozen=True):
    """Where an address of 20 bytes goes into the bytecode."""

    start: int
    length: int


class Code(msgspec.Struct, frozen=True):
    """A contract to deploy; `libraries` says where the address of each goes into the hex text."""

    functions: tuple[Function, ...]
    constructor: Function
    bytecode: str
    libraries: dict[str, tuple[Place, ...]] = {}

    @classmethod
    def of(
        cls,
        interface: Iterable[dict[str, Any]],
        bytecode: str,
        libraries: dict[str, tuple[Place, ...]] | None = None,
    ) -> "Code":
        """From what a compiler writes; `bytecode` with or without 0x."""
        entries = list(interface)
        functions = [entry for entry in entries if entry["type"] == "function"]
        constructor = next((entry for entry in entries if entry["type"] == "constructor"), {})
        return cls(
            msgspec.convert(functions, tuple[Function, ...]),
            msgspec.convert(constructor, Function),
            bytecode.removeprefix("0x"),
            libraries or {},
        )

    def linked(self, addresses: dict[str, str]) -> str:
        """The bytecode as hex text with the addresses of its libraries in it."""
        text = self.bytecode
        for library, places in self.libraries.items():
            address = addresses[library].removeprefix("0x")
            for place in places:
                at = 2 * place.start
                text = text[:at] + address + text[at + 2 * place.length :]
        return text


Places = dict[str, dict[str, tuple[Place, ...]]]  # by the file of the library, then by its name


class _Linked(msgspec.Struct, rename="camel"):
    object: str
    link_references: Places


class _Artifact(msgspec.Struct, rename="camel"):
    """As Hardhat writes it, or Foundry, which has the places beside the bytecode."""

    abi: list[dict[str, Any]]
    bytecode: str | _Linked
    link_references: Places = {}


def artifact(root: Path, name: str) -> Code:
    """A contract that was compiled or deployed, `Pool.sol/Pool` below a folder."""
    (file,) = root.rglob(f"{name}.json")
    found = msgspec.json.decode(file.read_bytes(), type=_Artifact)
    bytecode, places = found.bytecode, found.link_references
    if isinstance(bytecode, _Linked):
        bytecode, places = bytecode.object, bytecode.link_references
    libraries = {name: at for of_file in places.values() for name, at in of_file.items()}
    return Code.of(found.abi, bytecode, libraries)


class Contract:
    """A contract on the chain; functions are named as in its ABI, overloads told by their count."""

    def __init__(self, node: Anvil, address: str, functions: Iterable[Function]) -> None:
        self.node = node
        self.address = address.lower()
        # a function that two facets of a diamond share is one
        self._functions = {function.selector: function for function in functions}

    def _function(self, name: str, arguments: tuple[Any, ...]) -> Function:
        (found,) = (
            function
            for function in self._functions.values()
            if (function.name, len(function.inputs)) == (name, len(arguments))
        )
        return found

    def selector(self, name: str) -> bytes:
        """The four bytes that call a function of which there is one of this name."""
        (found,) = (one for one in self._functions.values() if one.name == name)
        return found.selector

    def data(self, name: str, *arguments: Any) -> str:
        """The call of a function as hex text."""
        function = self._function(name, arguments)
        return "0x" + (function.selector + function.encoded(arguments)).hex()

    def tx(self, sender: str, name: str, *arguments: Any) -> Tx:
        """The transaction that calls a function, not sent."""
        return Tx(sender, self.address, self.data(name, *arguments))

    def send(self, sender: str, name: str, *arguments: Any) -> Receipt:
        """Call a function in a transaction; raises Reverted with its name."""
        try:
            return self.node.send(self.tx(sender, name, *arguments))
        except Reverted as error:
            raise Reverted(f"{name}{arguments} in {error}") from error

    def read(
        self, name: str, *arguments: Any, at: int | None = None, time: int | None = None
    ) -> Any:
        """What a function returns at a height, or at the head, and were it another time; addresses
        in lower case."""
        data = self.node.call(self.address, self.data(name, *arguments), at, time)
        return self._function(name, arguments).result(data)

    def change(self, block_number: int, name: str, *arguments: Any) -> int:
        """By how much a number is higher after a block than before it."""
        after = self.read(name, *arguments, at=block_number)
        return int(after - self.read(name, *arguments, at=block_number - 1))


class Deployer:
    """An account that deploys contracts and owns them."""

    def __init__(self, node: Anvil) -> None:
        self.node = node
        self.address = node.new_account()

    def deploy(self, code: Code, *arguments: Any, **libraries: str) -> Contract:
        """A new contract, linked to these libraries."""
        data = code.linked(libraries) + code.constructor.encoded(arguments).hex()
        made = self.node.send(Tx(self.address, None, "0x" + data)).contract
        assert made is not None
        return self.at(made, code)

    def place(self, address: str, code: Code, *arguments: Any) -> Contract:
        """The same at an address that is given, with what the constructor stored in variables."""
        made = self.deploy(code, *arguments).address
        self.node.rpc("anvil_setCode", address, self.node.rpc("eth_getCode", made, "latest"))
        for slot in map(hex, range(VARIABLES)):
            stored = self.node.rpc("eth_getStorageAt", made, slot, "latest")
            self.node.rpc("anvil_setStorageAt", address, f"0x{int(slot, 16):064x}", stored)
        return self.at(address, code)

    def at(self, address: str, *codes: Code) -> Contract:
        """A contract that is there already, with the functions of all of these."""
        functions = [function for code in codes for function in code.functions]
        return Contract(self.node, address, functions)

    def send(self, to: Contract, name: str, *arguments: Any) -> Receipt:
        """Call a function as the owner."""
        return to.send(self.address, name, *arguments)
