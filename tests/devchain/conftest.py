"""A chain of its own for each test that asks: 0.3 s, and no test can use up another's history."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.devchain.anvil import CHAIN, anvil
from tests.devchain.network import Network
from tests.devchain.packages import ALL, folder
from tests.devchain.priced import Priced


@pytest.fixture(scope="session")
def packages() -> list[Path]:
    """All that the registry has to give (157 MB the first time): without it the session waits for
    it once, and skips."""
    return [folder(package) for package in ALL]


@pytest.fixture
def devchain(packages: list[Path]) -> Iterator[Network]:
    """All protocols on a new chain; the node ends with the test."""
    with anvil() as node:
        yield Network(node)


@pytest.fixture
def priced(packages: list[Path], request: pytest.FixtureRequest) -> Iterator[Priced]:
    """A new chain with prices, on which only Aave v3 is deployed yet; a parameter names the chain
    that it passes for."""
    with anvil(getattr(request, "param", CHAIN)) as node:
        yield Priced(node)
