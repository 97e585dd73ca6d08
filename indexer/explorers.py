"""Where people look a transaction or an account up; the one place that links are made.

A link is made of a hash or an address that has just that form, never of a name.
"""

import re

# wevm/viem:src/chains/definitions, `blockExplorers`; of gnosis, celo and optimism Etherscan's own,
# as those there have moved
EXPLORERS = {
    "arbitrum": "https://arbiscan.io",
    "avalanche": "https://snowtrace.io",
    "base": "https://basescan.org",
    "berachain": "https://berascan.com",
    "blast": "https://blastscan.io",
    "bsc": "https://bscscan.com",
    "celo": "https://celoscan.io",
    "ethereum": "https://etherscan.io",
    "fantom": "https://ftmscan.com",
    "fraxtal": "https://fraxscan.com",
    "gnosis": "https://gnosisscan.io",
    "hyperevm": "https://hyperevmscan.io",
    # the exchange's own page: /explorer/tx/ and /explorer/address/
    "hyperliquid": "https://app.hyperliquid.xyz/explorer",
    "ink": "https://explorer.inkonchain.com",
    "katana": "https://explorer.katanarpc.com",
    "linea": "https://lineascan.build",
    "mantle": "https://explorer.mantle.xyz",
    "metis": "https://explorer.metis.io",
    "monad": "https://monadvision.com",
    "moonbeam": "https://moonscan.io",
    "optimism": "https://optimistic.etherscan.io",
    "plasma": "https://plasmascan.to",
    "polygon": "https://polygonscan.com",
    "scroll": "https://scrollscan.com",
    "soneium": "https://soneium.blockscout.com",
    "sonic": "https://sonicscan.org",
    "unichain": "https://uniscan.xyz",
    "worldchain": "https://worldscan.org",
    "zksync-era": "https://explorer.zksync.io",
}
_HASH = re.compile("0x[0-9a-f]{64}")
_ADDRESS = re.compile("0x[0-9a-f]{40}")
_NO_HASH = "0x" + 64 * "0"  # of a fill that no transaction caused


def transaction(venue: str, tx_hash: str | None) -> str | None:
    """The page of a transaction, lower-case text; None where no explorer is known, or it is no
    hash. A venue is `hyperliquid` or a protocol on a chain, `aave_v3.base`."""
    root = EXPLORERS.get(chain_of(venue))
    if root is None or tx_hash is None or tx_hash == _NO_HASH or not _HASH.fullmatch(tx_hash):
        return None
    return f"{root}/tx/{tx_hash}"


def account(venue: str, address: str | None) -> str | None:
    """The page of an account; None where no explorer is known, or it is no address."""
    root = EXPLORERS.get(chain_of(venue))
    return f"{root}/address/{address}" if root and address and _ADDRESS.fullmatch(address) else None


def chain_of(venue: str) -> str:
    """Of a protocol on a chain the chain; an exchange of its own chain is named like it."""
    return venue.partition(".")[2] or venue
