"""Fluid: a position is an NFT of the vault factory. The event of a liquidation names none, so that
the numbers have to come from elsewhere."""

from collections.abc import Sequence

from indexer.account_model import Answer, Asking, Held, Way
from indexer.evm_model import Deployment
from indexer.owner_answers import by_nft, number_of

FACTORY = "0x324c5Dc1fC42c7a4D43d92df1eBA58a54d13Bf2d"
FOLDERS = {
    "ethereum": "mainnet", "arbitrum": "arbitrum", "base": "base", "polygon": "polygon",
    "plasma": "plasma", "bsc": "bnb",
}  # fmt: skip


def ask(held: Held, vouchers: Sequence[Deployment]) -> Asking[Answer]:
    """Instadapp/fluid-contracts-public:contracts/protocols/vault/interfaces/iVaultFactory.sol"""
    return (yield from by_nft(held, [one.address.lower() for one in vouchers]))


WAY = Way(
    method="fluid",
    ask=ask,
    is_for=lambda held: (
        (held.venue or "").startswith("fluid.") and number_of(held.account) is not None
    ),
    vouchers=tuple(
        Deployment(
            chain, FACTORY, "fluid", "vault_factory", None,
            f"Instadapp/fluid-contracts-public:deployments/{folder}/VaultFactory.json",
        )
        for chain, folder in FOLDERS.items()
    ),
    before=True,
)  # fmt: skip
