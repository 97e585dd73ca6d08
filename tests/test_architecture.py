"""Who may import whom: the table of the design, read from the source with ast."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "indexer"

PURE = {
    *(
        "errors",
        "model",
        "evm_model",
        "hyperliquid_format",
        "dydx_format",
        "plan",
        "step",
        "decode",
        "venues",
    ),
    *("labels", "abi_calls", "oracles", "inquiry", "tokens", "families", "chain_step", "pricing"),
    *("methodology", "positions", "roles"),
    *("label_files", "label_truth", "never_labelled", "interest"),
    *("candidates", "perp_feeds"),
    *("account_model", "account_kinds", "owner_answers", "owners"),
    *("catalogue", "golden", "published"),
    *("outbound", "explorers", "alert_model"),
}

# A file or folder of indexer/ and the others that it may import. A new one wants a row here.
MAY_IMPORT = {
    "__init__": set(),
    "errors": set(),
    "hyperliquid_format": set(),
    "dydx_format": set(),
    "model": {"errors"},
    "evm_model": {"model"},
    "perp_feeds": {"model"},
    "plan": {"errors", "model", "evm_model"},
    "labels": {"errors", "model"},
    "abi_calls": {"evm_model"},
    "oracles": {"evm_model", "abi_calls"},
    "inquiry": {"evm_model"},
    "tokens": {"evm_model", "abi_calls"},
    "families": {"errors"},
    "pricing": {"evm_model", "abi_calls", "oracles"},
    "price_files": {"errors"},
    "label_files": {"errors"},
    "interest": {"errors", "price_files", "venues"},
    "label_truth": {"errors", "label_files"},
    "never_labelled": {"errors", "evm_model", "label_files"},
    "methodology": {"errors", "model", "evm_model", "families"},
    "venues": {
        *("errors", "model", "evm_model", "hyperliquid_format", "dydx_format", "perp_feeds"),
        *("abi_calls", "oracles", "tokens", "families"),
    },
    "decode": {"evm_model", "oracles", "resources"},
    "catalogue": {"evm_model", "decode", "venues"},
    "golden": {"evm_model", "decode"},
    "published": {"evm_model", "decode"},
    "step": {"errors", "model", "hyperliquid_format", "plan", "venues"},
    "chain_step": {"evm_model", "decode"},
    "positions": {"model", "evm_model", "hyperliquid_format", "abi_calls", "oracles", "venues"},
    "roles": {"venues"},
    "account_model": {"evm_model"},
    "account_kinds": {"evm_model", "abi_calls", "account_model"},
    "owner_answers": {"evm_model", "abi_calls", "account_model"},
    "owners": {"evm_model", "abi_calls", "account_model", "account_kinds", "owner_answers"},
    "sources": {
        "errors",
        "model",
        "evm_model",
        "hyperliquid_format",
        "dydx_format",
        "positions",
        "roles",
        "interest",
        "candidates",
        "perp_feeds",
    },
    "resources": set(),
    "store": {
        "errors",
        "model",
        "evm_model",
        "resources",
        "tokens",
        "families",
        "pricing",
        "price_files",
        "interest",
        "label_files",
        "label_truth",
        "never_labelled",
        "methodology",
        "positions",
        "roles",
        "account_model",
        "alert_model",
    },
    "settings": {"errors", "store"},
    "sync": (PURE | {"sources", "store"}) - {"labels"},
    "chain": (PURE | {"sources", "store"}) - {"labels"},
    "dydx": {
        *("errors", "model", "evm_model", "dydx_format", "plan", "venues", "sources", "store"),
    },
    "watch": {"errors", "evm_model", "decode", "inquiry", "positions", "sources", "store"},
    "census": {"errors", "roles", "sources", "store"},
    "candidates": {"hyperliquid_format"},
    "samples": {
        "errors",
        "model",
        "hyperliquid_format",
        "plan",
        "candidates",
        "sources",
        "store",
        "sync",
        "venues",
    },
    "perp_samples": {"errors", "model", "perp_feeds", "sources", "store", "venues"},
    "outbound": set(),
    "explorers": set(),
    "alert_model": {"model"},
    "alerts": {"errors", "outbound", "explorers", "alert_model", "report", "store"},
    "serve": {"errors", "store"},
    "studies": {"errors", "model", "venues"},
    "report": {"errors", "model", "explorers", "methodology", "store"},
    "export": {"errors", "methodology", "store"},
    "cli": PURE
    | {"resources", "settings", "sources", "store", "sync", "report", "export", "chain"}
    | {"watch", "census", "samples", "dydx", "perp_samples", "alerts", "serve"},
    "__main__": {"cli"},
}

OUTSIDE_WORLD = {  # what makes an answer depend on more than the arguments
    *("aiohttp", "alembic", "boto3", "botocore", "click", "http", "httpx", "os", "psycopg"),
    *("random", "requests", "secrets", "socket", "sqlalchemy", "subprocess", "time", "urllib"),
    *("urllib3", "web3"),
}


def room(path: Path) -> str:
    """The first name below indexer/: a file without its ending, or a folder."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported(path: Path) -> Iterator[str]:
    """Dotted names; `from a import b` gives a.b, which may be a module or something in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Import(names):
                yield from (name.name for name in names)
            case ast.ImportFrom(module, names, level):
                start = "." * level + (module or "")
                yield from (f"{start}.{name.name}" for name in names)


def words(path: Path) -> Iterator[str]:
    """Every name and attribute that the code mentions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Name(word) | ast.Attribute(attr=word) | ast.alias(name=word):
                yield word


FILES = sorted(PACKAGE.rglob("*.py"))
each_room = pytest.mark.parametrize("name", sorted(MAY_IMPORT))


def imported_in(name: str) -> set[str]:
    """What the files of one room import; a room without files is an error in the table."""
    inside = [path for path in FILES if room(path) == name]
    assert inside != []
    return {module for path in inside for module in imported(path)}


def test_each_file_is_in_a_room_of_the_table() -> None:
    assert {room(path) for path in FILES} == set(MAY_IMPORT)


@each_room
def test_a_room_imports_only_the_rooms_of_its_row(name: str) -> None:
    others = {module.split(".")[1] for module in imported_in(name) if module.startswith("indexer.")}
    assert others - {name} - MAY_IMPORT[name] == set()


@each_room
def test_imports_are_written_so_that_this_file_understands_them(name: str) -> None:
    assert {module for module in imported_in(name) if module[0] == "." or module == "indexer"} == (
        set()
    )


@pytest.mark.parametrize("name", sorted(PURE))
def test_a_pure_room_knows_nothing_of_the_world_outside(name: str) -> None:
    assert {module.split(".")[0] for module in imported_in(name)} & OUTSIDE_WORLD == set()


def test_only_settings_reads_the_environment() -> None:
    readers = {room(path) for path in FILES if {"environ", "getenv"} & set(words(path))}
    assert readers == {"settings"}


def test_only_the_command_line_knows_click() -> None:
    users = {name for name in MAY_IMPORT if any(m.startswith("click") for m in imported_in(name))}
    assert users == {"cli"}
