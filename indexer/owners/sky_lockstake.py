"""Sky's staking engine: its urns are contracts of their own, and it keeps whose they are."""

from indexer.account_model import Way
from indexer.evm_model import Deployment
from indexer.owner_answers import has_code, kept_by

WAY = Way(
    method="sky_lockstake",
    ask=kept_by("urnOwners(address)"),  # makerdao/lockstake:src/LockstakeEngine.sol
    is_for=has_code,
    vouchers=(
        Deployment(
            "ethereum", "0xCe01C90dE7FD1bcFa39e237FE6D8D9F569e8A6a3", "sky", "lockstake_engine",
            None, "Sky's governance spells, LOCKSTAKE_ENGINE_NEW",
        ),
    ),
)  # fmt: skip
