"""Synthetix v3, its core: an account is an NFT, of a contract that the core names. A vault that was
liquidated as a whole is nobody's account.

Synthetixio/synthetix-v3:protocol/synthetix/contracts/interfaces/IAccountModule.sol
"""

from collections.abc import Sequence

from indexer.abi_calls import address_of, call
from indexer.account_model import Answer, Asking, Held, Unreadable, Way
from indexer.evm_model import NOBODY, Deployment
from indexer.owner_answers import by_nft, number_of


def ask(held: Held, vouchers: Sequence[Deployment]) -> Asking[Answer]:
    """The market is the core itself, which is a deployment."""
    assert held.market is not None
    (answer,) = yield [call(held.market, "getAccountTokenAddress()")]
    nft = address_of(answer)
    if nft is None or nft == NOBODY:
        return Unreadable("a core without NFTs")
    return (yield from by_nft(held, (nft,)))


WAY = Way(
    method="synthetix_v3_core",
    ask=ask,
    is_for=lambda held: held.market is not None and number_of(held.account) is not None,
    protocol="synthetix_v3_core",
    needs_voucher=False,
    before=True,
)
