"""Synthetix perps v3: an account is an NFT."""

from collections.abc import Sequence

from indexer.account_model import Answer, Asking, Held, Way
from indexer.evm_model import Deployment
from indexer.owner_answers import by_nft, number_of

DOCS = "Synthetixio/Synthetix-Gitbook-v3:deployment-info"


def ask(held: Held, vouchers: Sequence[Deployment]) -> Asking[Answer]:
    """Synthetixio/synthetix-v3:markets/perps-market, PerpsAccountProxy"""
    return (yield from by_nft(held, [one.address.lower() for one in vouchers]))


WAY = Way(
    method="synthetix_v3",
    ask=ask,
    is_for=lambda held: (
        (held.venue or "").startswith("synthetix_perps_v3.") and number_of(held.account) is not None
    ),
    vouchers=(
        Deployment(
            "base", "0xcb68b813210aFa0373F076239Ad4803f8809e8cf", "synthetix_v3", "accounts", None,
            f"{DOCS}/8453-andromeda.md, PerpsAccountProxy",
        ),
        Deployment(
            "arbitrum", "0xD935444f5dc75A407ed475C9F387e124911d36C6", "synthetix_v3", "accounts",
            None, f"{DOCS}/42161-main.md, PerpsAccountProxy",
        ),
    ),
    before=True,
)  # fmt: skip
