"""The only reader of the environment.

DATABASE_URL       use this PostgreSQL (14 or newer) instead of the embedded one
INDEXER_DATA_DIR   where the embedded PostgreSQL keeps its data
INDEXER_PG_BIN     bin folder of the PostgreSQL programs to run as the embedded server
AWS_*              read by boto3 for s3:// addresses
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from indexer.errors import ConfigError
from indexer.store.server import default_data_dir


@dataclass(frozen=True, slots=True)
class Settings:
    """What a command may be told from outside; never printed, the URL holds a password."""

    database_url: str | None
    data_dir: Path
    pg_bin: Path | None

    def __repr__(self) -> str:
        return f"Settings(embedded={self.database_url is None})"


def read(environment: Mapping[str, str] = os.environ) -> Settings:
    """Settings from environment variables. Raises ConfigError for one that is set but empty:
    an empty DATABASE_URL must not send anybody's data to another database in silence."""
    for name in ("DATABASE_URL", "INDEXER_DATA_DIR", "INDEXER_PG_BIN"):
        if name in environment and not environment[name].strip():
            raise ConfigError(f"{name} is set but empty: give it a value or unset it")
    data_dir = environment.get("INDEXER_DATA_DIR")
    pg_bin = environment.get("INDEXER_PG_BIN")
    return Settings(
        database_url=environment.get("DATABASE_URL"),
        data_dir=Path(data_dir) if data_dir else default_data_dir(),
        pg_bin=Path(pg_bin) if pg_bin else None,
    )


def environment_with(**added: str | None) -> dict[str, str]:
    """Our environment for a program that we start, with what is added; None adds nothing."""
    return {**os.environ, **{name: value for name, value in added.items() if value is not None}}
