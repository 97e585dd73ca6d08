"""The only reader of the environment.

DATABASE_URL       use this PostgreSQL (14 or newer) instead of the embedded one
INDEXER_DATA_DIR   where the embedded PostgreSQL keeps its data
INDEXER_PG_BIN     bin folder of the PostgreSQL programs to run as the embedded server
INDEXER_LOGIN_PASSWORD  password of a login that `indexer db reader` or `writer` makes
INDEXER_DEPLOYMENTS a JSON file with further deployments of protocols, see docs/chains.md
RPC_<CHAIN>        endpoints of a chain, separated by commas: http(s):// to read, ws(s):// to be
                   told of new blocks; in capitals, with _ for -, as RPC_ZKSYNC_ERA
HYPERLIQUID_API    where to ask what accounts of the exchange hold
HYPERLIQUID_STREAM_KEY  what opens the feed of a vendor of its fills
LIGHTER_API, PARADEX_API, EXTENDED_API, EXTENDED_STREAM, ASTER_STREAM
                   where to ask other exchanges for trades, or to listen to them
INDEXER_ALERT_TO   where alerts go: Apprise addresses, separated by blanks
INDEXER_LOG        text or json: how lines on stderr are written
AWS_*              read by boto3 for s3:// addresses
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from indexer.errors import ConfigError
from indexer.store.server import default_data_dir

_NAMES = (
    *("DATABASE_URL", "INDEXER_DATA_DIR", "INDEXER_PG_BIN", "INDEXER_DEPLOYMENTS"),
    *("HYPERLIQUID_API", "HYPERLIQUID_STREAM_KEY"),
    *("INDEXER_LOGIN_PASSWORD", "INDEXER_ALERT_TO"),
)
_PERPS = ("LIGHTER_API", "PARADEX_API", "EXTENDED_API", "EXTENDED_STREAM", "ASTER_STREAM")
_HYPERLIQUID_API = "https://api.hyperliquid.xyz"


@dataclass(frozen=True, slots=True)
class Settings:
    """What a command may be told from outside; never printed, the URL holds a password."""

    database_url: str | None
    data_dir: Path
    pg_bin: Path | None
    deployments: Path | None
    rpc: Mapping[str, tuple[str, ...]]
    hyperliquid_api: str
    hyperliquid_stream_key: str | None
    login_password: str | None
    alert_to: str | None
    perps: Mapping[str, str]  # by the names of their variables

    def __repr__(self) -> str:
        return f"Settings(embedded={self.database_url is None})"

    def has_endpoints(self, chain: str) -> bool:
        """Whether an address is given for a chain."""
        return rpc_name(chain) in self.rpc

    def endpoints(self, chain: str) -> tuple[str, ...]:
        """The addresses given for a chain; raises ConfigError when there are none."""
        name = rpc_name(chain)
        if name not in self.rpc:
            raise ConfigError(f"{chain}: no endpoint; set {name} to one or more, comma separated")
        return self.rpc[name]


def rpc_name(chain: str) -> str:
    """The variable that holds the endpoints of a chain."""
    return f"RPC_{chain.upper().replace('-', '_')}"


def read(environment: Mapping[str, str] = os.environ) -> Settings:
    """Settings from environment variables. Raises ConfigError for one that is set but empty:
    an empty DATABASE_URL must not send anybody's data to another database in silence."""
    for name, value in environment.items():
        if (name in (*_NAMES, *_PERPS) or name.startswith("RPC_")) and not value.strip():
            raise ConfigError(f"{name} is set but empty: give it a value or unset it")
    data_dir = environment.get("INDEXER_DATA_DIR")
    pg_bin = environment.get("INDEXER_PG_BIN")
    deployments = environment.get("INDEXER_DEPLOYMENTS")
    return Settings(
        database_url=environment.get("DATABASE_URL"),
        data_dir=Path(data_dir) if data_dir else default_data_dir(),
        pg_bin=Path(pg_bin) if pg_bin else None,
        deployments=Path(deployments) if deployments else None,
        rpc={
            name: tuple(url.strip() for url in value.split(",") if url.strip())
            for name, value in environment.items()
            if name.startswith("RPC_")
        },
        hyperliquid_api=environment.get("HYPERLIQUID_API", _HYPERLIQUID_API),
        hyperliquid_stream_key=environment.get("HYPERLIQUID_STREAM_KEY"),
        login_password=environment.get("INDEXER_LOGIN_PASSWORD"),
        alert_to=environment.get("INDEXER_ALERT_TO"),
        perps={name: environment[name] for name in _PERPS if name in environment},
    )


def log_form(environment: Mapping[str, str] = os.environ) -> str:
    """How lines on stderr are written. Raises ConfigError for what is neither."""
    form = environment.get("INDEXER_LOG", "text")
    if form not in ("text", "json"):
        raise ConfigError("INDEXER_LOG is neither text nor json")
    return form


def secrets(environment: Mapping[str, str] = os.environ) -> tuple[list[str], list[str]]:
    """What may hold a key and must never be shown: addresses, and words. Raises nothing."""
    urls = [
        url.strip()
        for name, value in environment.items()
        if name.startswith("RPC_") or name in (*_PERPS, "HYPERLIQUID_API")
        for url in value.split(",")
        if url.strip()
    ]
    words = [
        value
        for name in ("DATABASE_URL", "HYPERLIQUID_STREAM_KEY", "PGPASSWORD")
        if (value := environment.get(name, "").strip())
    ]
    return urls, words


def environment_with(**added: str | None) -> dict[str, str]:
    """Our environment for a program that we start, with what is added; None adds nothing."""
    return {**os.environ, **{name: value for name, value in added.items() if value is not None}}
