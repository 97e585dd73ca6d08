"""The table of faults in the docs, from the tests that play them.

python -m tests.fault_table > docs/faults.md
"""

import importlib
import pkgutil
from collections.abc import Iterator
from types import ModuleType

import tests
from tests.rpc_proxy import Played, played

HEAD = """# What nodes, chains and databases do wrong, and what we do about it

Each line is a test that injects the fault over real HTTP, into a real PostgreSQL or into the
decoder, and asserts the reaction. The ids are those of this project's study of faults (T transport,
L logs, B blocks, F files, P PostgreSQL, S hostile content). Made by `python -m tests.fault_table`.

| Id | Injected | What we do | Verified by |
| --- | --- | --- | --- |
"""


def modules() -> Iterator[ModuleType]:
    """All test modules."""
    for found in pkgutil.walk_packages(tests.__path__, "tests."):
        if found.name.rpartition(".")[2].startswith("test_"):
            yield importlib.import_module(found.name)


def rows() -> list[Played]:
    """What is played, by id."""
    return sorted(set(played(*modules())), key=lambda row: (row.fault, row.test))


def page() -> str:
    """The whole page."""
    lines = (
        f"| {row.fault} | {_cell(row.injected)} | {_cell(row.reaction)} | `{row.test}` |"
        for row in rows()
    )
    return HEAD + "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    print(page(), end="")
