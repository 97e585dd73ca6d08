"""Price feeds of ours that look as Chainlink's do, and several calls in one transaction."""

from collections.abc import Sequence

from tests.devchain.anvil import Tx
from tests.devchain.compiler import stand_ins
from tests.devchain.contracts import Contract, Deployer

FEED_DECIMALS = 8
Call = tuple[Contract, str, *tuple[object, ...]]  # of what, which function, with what


class Feed:
    """An aggregator, and the proxy whose address others are told."""

    def __init__(
        self, deployer: Deployer, description: str, answer: int, decimals: int = FEED_DECIMALS
    ) -> None:
        self._deployer = deployer
        self._terms = decimals, description
        self.aggregator = self._aggregator(answer)
        self.proxy = deployer.deploy(stand_ins()["FeedProxy"], self.aggregator.address)

    def _aggregator(self, answer: int) -> Contract:
        return self._deployer.deploy(stand_ins()["Aggregator"], *self._terms, answer)

    @property
    def address(self) -> str:
        """Of the proxy."""
        return self.proxy.address

    def report(self, answer: int) -> None:
        """A new round, with its log."""
        self._deployer.send(self.aggregator, "report", answer)

    def replace(self, answer: int) -> None:
        """Another aggregator takes over, as Chainlink does it now and then."""
        self.aggregator = self._aggregator(answer)
        self._deployer.send(self.proxy, "turnTo", self.aggregator.address)


class Together:
    """A contract that makes several calls in one transaction; it is who makes them."""

    def __init__(self, deployer: Deployer) -> None:
        self._deployer = deployer
        self._contract = deployer.deploy(stand_ins()["Together"])
        self.address = self._contract.address

    def tx(self, calls: Sequence[Call]) -> Tx:
        """The transaction, not sent."""
        targets = [target.address for target, *_ in calls]
        data = [
            bytes.fromhex(target.data(name, *arguments)[2:]) for target, name, *arguments in calls
        ]
        return self._contract.tx(self._deployer.address, "run", targets, data)
