"""What every benchmark says of its machine, its server and its code."""

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import click
import psycopg

from indexer.store import database, server

ROOT = Path(__file__).parents[1]
TICKS = os.sysconf("SC_CLK_TCK")


def server_cpu_seconds(on: server.Server) -> float:
    """User and sys of the postmaster and all its children, living, ended and reaped."""
    postmaster = (on.data_dir / "cluster/postmaster.pid").read_text().partition("\n")[0]
    total = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # ended meanwhile, and not one of ours: Postgres reaps later than we look
        if postmaster in (stat.parent.name, fields[1]):
            total += sum(map(int, fields[11:15]))  # utime, stime, cutime, cstime of proc(5)
    return total / TICKS


def spread(found: Sequence[float], digits: str) -> str:
    """The median, in brackets the least and the most."""
    return f"{median(found):{digits}} ({min(found):{digits}}-{max(found):{digits}})"


def cpu_model() -> str:
    """The processor's name."""
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return found[1] if found else platform.machine()


def commit() -> str:
    """What was checked out, and whether `indexer/` differs from it."""
    git = shutil.which("git")
    if git is None:
        return "unknown"
    found = _said(git, "rev-parse", "--short", "HEAD")
    changed = " with changes" if found and _said(git, "status", "--porcelain", "indexer") else ""
    return f"{found or 'unknown'}{changed}"


def _said(*command: str) -> str:
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return ended.stdout.strip()


def code_digest() -> str:
    """Changes with anything that the contestants run."""
    digest = hashlib.sha256()
    for path in sorted([*ROOT.glob("indexer/**/*.py"), *ROOT.glob("benchmarks/*.py")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()


@contextmanager
def folder(kept: Path | None) -> Iterator[Path]:
    """The folder to keep files in, or one that is removed; open to the server's own user."""
    if kept is not None:
        yield kept
        return
    with tempfile.TemporaryDirectory(prefix="indexer-benchmark-") as made:
        Path(made).chmod(0o755)
        yield Path(made)


@contextmanager
def durable_server() -> Iterator[server.Server]:
    """A server of our own that syncs every commit to disk, with a migrated database."""
    with folder(None) as made:
        on = server.ensure_running(made / "data")
        try:
            description(on)
            database.migrate(on.conninfo)
            yield on
        finally:
            server.stop(made / "data")


def description(on: server.Server) -> str:
    """Version and settings of the server; ClickException when a commit may be lost."""
    names = ("server_version", "fsync", "synchronous_commit", "full_page_writes")
    with psycopg.connect(on.conninfo) as connection:
        found = [connection.execute(f"SHOW {name}").fetchone() for name in names]
    number, *durable = (str(row[0]) for row in found if row)
    if durable != ["on", "on", "on"]:
        raise click.ClickException(f"the server is not durable: {names[1:]} are {durable}")
    return f"PostgreSQL {number} with {', '.join(names[1:])} on"


@contextmanager
def started(module: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A process of ours with pipes; killed when the block fails."""
    command = [sys.executable, "-m", module, *arguments]
    runner = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with runner:
        failed = True
        try:
            yield runner
            failed = False
        finally:
            if failed:
                runner.kill()


def line_from(runner: subprocess.Popen[str]) -> str:
    """The next line of output; ClickException when it ended instead."""
    assert runner.stdout is not None
    line = runner.stdout.readline()
    if not line:
        raise click.ClickException(f"{runner.args!r} failed")
    return line


def tell(runner: subprocess.Popen[str], word: str) -> None:
    """Send it a line."""
    assert runner.stdin is not None
    runner.stdin.write(f"{word}\n")
    runner.stdin.flush()
