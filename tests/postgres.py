"""Throw-away PostgreSQL for tests: one server for the session, one database for each test."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.sql import SQL, Identifier

from indexer.store import server
from indexer.store.server import Server


def cluster(bin_dir: Path | None = None) -> AbstractContextManager[Server]:
    """A server without fsync, deleted with its data at the end of the block (0.5 s)."""
    return server.ephemeral(fast_dir(), bin_dir=bin_dir)


def fast_dir() -> Path:
    """Memory where there is plenty: deleting a cluster from a virtual disk took 1.2 s of 2."""
    memory = Path("/dev/shm")
    if not memory.is_dir():
        return Path(tempfile.gettempdir())
    found = os.statvfs(memory)  # a container's has 64 MB and is noexec, which tests would notice
    roomy = found.f_bavail * found.f_frsize > 2_000_000_000
    return memory if roomy and not found.f_flag & os.ST_NOEXEC else Path(tempfile.gettempdir())


def new_database(on: Server, *, template: str | None = None) -> str:
    """Conninfo of a fresh database (20 ms); `template` names one to copy, with nobody in it."""
    name = f"test_{uuid4().hex[:12]}"
    _run(on, SQL("CREATE DATABASE {} TEMPLATE {}"), name, template or "template1")
    return on.conninfo_of(name)


def drop_database(on: Server, conninfo: str) -> None:
    """Also when a connection to it was left open."""
    _run(on, SQL("DROP DATABASE {} WITH (FORCE)"), str(conninfo_to_dict(conninfo)["dbname"]))


@contextmanager
def database(on: Server, *, template: str | None = None) -> Iterator[str]:
    """The conninfo of a database that is dropped at the end of the block."""
    conninfo = new_database(on, template=template)
    try:
        yield conninfo
    finally:
        drop_database(on, conninfo)


def _run(on: Server, statement: SQL, *names: str) -> None:
    with psycopg.connect(on.conninfo_of("postgres"), autocommit=True) as connection:
        connection.execute(statement.format(*map(Identifier, names)))
