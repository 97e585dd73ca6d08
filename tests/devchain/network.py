"""A chain with protocols on it, and what the indexer must be told of them."""

from pathlib import Path

import msgspec

from indexer.decode import Decoder
from indexer.evm_model import Decoded, Deployment, FactKey, Facts, Learnt
from indexer.venues.evm import specs
from tests.devchain.aave import Aave
from tests.devchain.aave_v2 import AaveV2
from tests.devchain.aave_v3 import AaveV3
from tests.devchain.anvil import Anvil
from tests.devchain.compound import Compound
from tests.devchain.compound_v2 import CompoundV2
from tests.devchain.contracts import Deployer
from tests.devchain.lending import Lending
from tests.devchain.morpho_blue import MorphoBlue
from tests.devchain.venus_core import VenusCore
from tests.devchain.venus_isolated import VenusIsolated


class Chain:
    """A node and some protocols on it."""

    def __init__(self, node: Anvil, *protocols: Lending) -> None:
        self.node = node
        self.protocols = {protocol.name: protocol for protocol in protocols}

    def deployments(self) -> list[Deployment]:
        """Of all protocols."""
        return [at for protocol in self.protocols.values() for at in protocol.deployments()]

    def write_deployments(self, file: Path) -> Path:
        """As INDEXER_DEPLOYMENTS wants them: each with the name of its protocol."""
        listed = [{"protocol": at.name, **msgspec.to_builtins(at)} for at in self.deployments()]
        file.write_bytes(msgspec.json.encode(listed))
        return file

    def decoded(self, tx_hash: str) -> list[Decoded]:
        """What our decoder makes of a transaction, given its whole receipt."""
        receipt = self.node.receipt(tx_hash)
        return self.decoder().transaction(receipt.logs, self.facts(), is_whole=True)

    def decoder(self) -> Decoder:
        """Ours, told of what stands on this chain."""
        own = {name: tuple(one.deployments()) for name, one in self.protocols.items()}
        return Decoder(
            [
                msgspec.structs.replace(
                    spec, deployments=(*spec.deployments, *own.get(spec.name, ()))
                )
                for spec in specs()
            ]
        )

    def facts(self) -> Facts:
        """What the logs of the chain teach, and what the contracts say when they are asked."""
        decoder, facts = self.decoder(), self._said()
        for log in self.node.logs():
            outcome = decoder.decode(log, facts)
            if isinstance(outcome, Learnt):
                facts |= {fact.key: fact.value for fact in outcome.facts}
        return facts

    def _said(self) -> dict[FactKey, str | None]:
        said = (fact for protocol in self.protocols.values() for fact in protocol.facts())
        return {fact.key: fact.value for fact in said}


class Network(Chain):
    """The six protocols that most of the tests are about."""

    def __init__(self, node: Anvil) -> None:
        deployer = Deployer(node)
        self.aave_v2 = AaveV2(deployer)
        self.aave_v3 = AaveV3(deployer)
        self.compound_v2 = CompoundV2(deployer)
        self.morpho_blue = MorphoBlue(deployer)
        self.venus_core = VenusCore(deployer)
        self.venus_isolated = VenusIsolated(deployer)
        super().__init__(
            node, self.aave_v2, self.aave_v3, self.compound_v2, self.morpho_blue, self.venus_core,
            self.venus_isolated,
        )  # fmt: skip

    @property
    def aave(self) -> dict[str, Aave]:
        """Both versions, by name."""
        return {protocol.name: protocol for protocol in (self.aave_v2, self.aave_v3)}

    @property
    def compound(self) -> dict[str, Compound]:
        """Those with comptrollers that keep nothing for themselves, by name."""
        return {protocol.name: protocol for protocol in (self.compound_v2, self.venus_core)}
