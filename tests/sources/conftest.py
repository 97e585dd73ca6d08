"""A small chain behind two nodes on loopback, which the tests of sources ask."""

from collections.abc import Iterator

import pytest

from tests.rpc_proxy import Chain, FakeClock, Node


def two_logs(number: int) -> int:
    """14 blocks of 40 have logs, 28 in all."""
    return 2 if number % 3 == 0 else 0


@pytest.fixture
def chain() -> Chain:
    return Chain(40, two_logs)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def node(chain: Chain) -> Iterator[Node]:
    with Node(chain) as node:
        yield node


@pytest.fixture
def second(chain: Chain) -> Iterator[Node]:
    with Node(chain) as node:
        yield node
