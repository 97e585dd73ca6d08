"""One throw-away server for the session, one migrated database for each test that asks."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from indexer.methodology.definition import presets
from indexer.store import database, definitions
from indexer.store.database import Connection
from indexer.store.server import Server
from tests.postgres import cluster, new_database
from tests.postgres import database as throw_away
from tests.quick_start import Starter, starter

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """The wheel's server, or the one in INDEXER_TEST_PG_BIN."""
    chosen = os.environ.get("INDEXER_TEST_PG_BIN")
    with cluster(Path(chosen) if chosen else None) as server:
        yield server


@pytest.fixture(scope="session")
def migrated(postgres: Server) -> str:
    """The name of a migrated database to copy."""
    conninfo = new_database(postgres)
    database.migrate(conninfo)
    with database.connect(conninfo) as connection:  # as every command does
        definitions.keep(connection, presets().values())
    return str(conninfo_to_dict(conninfo)["dbname"])


@pytest.fixture
def conninfo(postgres: Server, migrated: str) -> Iterator[str]:
    """A fresh migrated database."""
    with throw_away(postgres, template=migrated) as fresh:
        yield fresh


@pytest.fixture
def connection(conninfo: str) -> Iterator[Connection]:
    """An open connection to a fresh migrated database."""
    with database.connect(conninfo) as opened:
        yield opened


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Real chain records beside the checkout; CI must have them."""
    if not SHARED.is_dir():
        if os.environ.get("CI"):
            pytest.fail(f"{SHARED} is absent in CI")
        pytest.skip("the folder of real records is not beside the checkout")
    return SHARED


Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def indexer(conninfo: str, tmp_path: Path) -> Command:
    """The real command line, on a fresh database, from an empty folder."""

    def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "indexer", *map(str, arguments)],
            env={**os.environ, "DATABASE_URL": conninfo, "COLUMNS": "200", **environment},
            cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    return run


@pytest.fixture(scope="session")
def start() -> Iterator[Starter]:
    """A process that has the command line imported and forks."""
    with starter() as found:
        yield found


@pytest.fixture
def quick_indexer(start: Starter, conninfo: str, tmp_path: Path) -> Command:
    """As `indexer`, in a fifth of the time; `out` names a file to take the place of stdout."""

    def run(
        *arguments: object, out: str | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        settings = {**os.environ, "DATABASE_URL": conninfo, **environment}
        return start.run([str(argument) for argument in arguments], settings, tmp_path, out)

    return run


Browser = Callable[..., str]


@pytest.fixture
def chromium(tmp_path: Path) -> Browser:
    """A real browser without a window; gives what it printed."""
    program = shutil.which("chromium")
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("chromium is absent in CI")
        pytest.skip("no chromium: apt-get install chromium")

    def run(page: Path, *options: str) -> str:
        flags = (
            "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run"
            " --disable-background-networking --disable-component-update --disable-sync"
            " --hide-scrollbars"
        )
        command = [program, *flags.split(), f"--user-data-dir={tmp_path / 'profile'}", *options]
        done = subprocess.run(
            [*command, page.as_uri()], capture_output=True, text=True, timeout=60, check=True
        )
        return done.stdout

    return run
