"""The local chain with prices: the protocols of tests/devchain with their own oracles or ours, and
stand-ins for two whose contracts no registry has."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from indexer.evm_model import NATIVE, Deployment
from tests.devchain.anvil import Anvil
from tests.devchain.compiler import dev
from tests.devchain.contracts import Deployer
from tests.devchain.exactly import ExactlyInEther
from tests.devchain.priced_aave import PricedV2, PricedV3
from tests.devchain.priced_compound import (
    CompoundInEther,
    PricedCompoundV2,
    PricedCore,
    PricedIsolated,
    PricedVai,
)
from tests.devchain.priced_markets import Comet, Euler, PricedMorpho

# Ether where Ethereum has it, as no other token counts for Aave v2.
# aave/protocol-v2:markets/aave/commons.ts, WETH
WETH = "0xc02aaa39b223fe8d0a0e5c4f27ead9083c756cc2"


class Priced:
    """A node and the protocols on it; what a test does not use it need not deploy."""

    def __init__(self, node: Anvil) -> None:
        self.node = node
        self.deployer = Deployer(node)
        ether = self.deployer.place(WETH, dev()["Token"], "Ether", 18)
        self.aave = PricedV3(self.deployer, ether=ether)
        self._told = self.aave.deployments()

    def tell(self, deployments: Sequence[Deployment]) -> None:
        """The indexer is to know of these too."""
        self._told += deployments

    def aave_v2(self) -> PricedV2:
        """A market in ether."""
        made = PricedV2(self.deployer, ether=self.aave.ether)
        self.tell(made.deployments())
        return made

    def compound_v2(self) -> PricedCompoundV2:
        """Compound, in which shares have begun to earn."""
        made = PricedCompoundV2(self.deployer)
        made.earn()
        self.tell(made.deployments())
        return made

    def compound_in_ether(self) -> CompoundInEther:
        """Compound as it was; the indexer knows the address."""
        made = CompoundInEther(self.deployer, ether=self.deployer.at(NATIVE))
        made.earn()
        return made

    def core(self) -> PricedCore:
        """Venus' core pool, in which shares have begun to earn."""
        made = PricedCore(self.deployer)
        made.earn()
        self.tell(made.deployments())
        return made

    def vai(self) -> PricedVai:
        """Debt that Venus' core pool mints, where BNB Chain has it."""
        made = PricedVai(self.deployer)
        made.earn()
        self.tell(made.deployments())
        return made

    def isolated(self) -> PricedIsolated:
        """An isolated pool of Venus, in which shares have begun to earn."""
        made = PricedIsolated(self.deployer)
        made.earn()
        self.tell(made.deployments())
        return made

    def morpho(self) -> PricedMorpho:
        """A market that lends Aave's dollar."""
        made = PricedMorpho(self.deployer, dollar=self.aave.dollar)
        self.tell(made.deployments())
        return made

    def play_money(self) -> PricedMorpho:
        """A market whose two tokens nobody but its opener prices."""
        made = PricedMorpho(self.deployer)
        self.tell(made.deployments())
        return made

    def comet(self) -> Comet:
        """A market of Aave's ether."""
        made = Comet(self.deployer, self.aave.ether)
        self.tell(made.deployments())
        return made

    def euler(self) -> Euler:
        """Vaults of Aave's ether and dollar."""
        made = Euler(self.deployer, self.aave.ether, self.aave.dollar)
        self.tell(made.deployments())
        return made

    def exactly(self) -> ExactlyInEther:
        """A market of Aave's ether and one of dollars."""
        made = ExactlyInEther(self.deployer, ether=self.aave.ether)
        self.tell(made.deployments())
        return made

    def write_deployments(self, file: Path) -> Path:
        """As INDEXER_DEPLOYMENTS wants them."""
        listed = [{"protocol": at.name, **msgspec.to_builtins(at)} for at in self._told]
        file.write_bytes(msgspec.json.encode(listed))
        return file
