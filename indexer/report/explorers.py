"""Links to transactions and accounts: made of our own addresses of explorers and of words that can
be nothing but a hash or an address, never of what a row says otherwise."""

import re

# The default explorer of a chain in wevm/viem:src/chains/definitions/<file>.ts, all of which have
# /tx/ and /address/; Hyperliquid's own is a page of its application.
EXPLORERS = {
    "arbitrum": "https://arbiscan.io",  # arbitrum.ts
    "avalanche": "https://snowtrace.io",  # avalanche.ts
    "base": "https://basescan.org",  # base.ts
    "berachain": "https://berascan.com",  # berachain.ts
    "blast": "https://blastscan.io",  # blast.ts
    "bsc": "https://bscscan.com",  # bsc.ts
    "ethereum": "https://etherscan.io",  # mainnet.ts
    "hyperevm": "https://hyperevmscan.io",  # hyperEvm.ts
    "hyperliquid": "https://app.hyperliquid.xyz/explorer",
    "linea": "https://lineascan.build",  # linea.ts
    "mantle": "https://explorer.mantle.xyz",  # mantle.ts
    "optimism": "https://explorer.optimism.io",  # optimism.ts
    "polygon": "https://polygonscan.com",  # polygon.ts
    "scroll": "https://scrollscan.com",  # scroll.ts
    "sonic": "https://sonicscan.org",  # sonic.ts
    "unichain": "https://uniscan.xyz",  # unichain.ts
    "zksync-era": "https://explorer.zksync.io",  # zksync.ts
}
_HASH = re.compile("0x[0-9a-f]{64}")
_ADDRESS = re.compile("0x[0-9a-f]{40}")
_NO_HASH = "0x" + "0" * 64  # of trades that no transaction of a user made


def transaction(venue: str, action: str | None) -> str | None:
    """The page of a transaction; None where no explorer is known, or it is no hash."""
    root = EXPLORERS.get(chain_of(venue))
    if root is None or action is None or action == _NO_HASH or not _HASH.fullmatch(action):
        return None
    return f"{root}/tx/{action}"


def account(venue: str, address: str) -> str | None:
    """The page of an account; None where no explorer is known, or it is no address."""
    root = EXPLORERS.get(chain_of(venue))
    return f"{root}/address/{address}" if root and _ADDRESS.fullmatch(address) else None


def chain_of(venue: str) -> str:
    """Of a protocol on a chain the chain; an exchange of its own chain is named like it."""
    return venue.partition(".")[2] or venue
