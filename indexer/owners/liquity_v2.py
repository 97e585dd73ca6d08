"""Liquity v2 and its forks: a trove is an NFT, which a liquidation burns. So it is asked at the
block before, of troves whose liquidation does not tell.

liquity/bold:contracts/src/TroveManager.sol, TroveNFT.sol
"""

from collections.abc import Sequence

from indexer.abi_calls import address_of, call
from indexer.account_model import Answer, Asking, Held, Unreadable, Way
from indexer.evm_model import NOBODY, Deployment
from indexer.owner_answers import by_nft, number_of


def ask(held: Held, vouchers: Sequence[Deployment]) -> Asking[Answer]:
    """The market is the trove manager that was read, which a registry vouched for."""
    assert held.market is not None
    (answer,) = yield [call(held.market, "troveNFT()")]
    nft = address_of(answer)
    if nft is None or nft == NOBODY:
        return Unreadable("a trove manager without NFTs")
    return (yield from by_nft(held, (nft,)))


WAY = Way(
    method="liquity_v2",
    ask=ask,
    is_for=lambda held: held.market is not None and number_of(held.account) is not None,
    protocol="liquity_v2",
    needs_voucher=False,
    before=True,
)
