"""The real command as a process that goes on, and how to wait for what it does."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def following(
    conninfo: str, folder: Path, *names: str, **environment: str
) -> Iterator[subprocess.Popen[str]]:
    """`indexer follow` on a database, from a folder; killed at the end if it still runs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "indexer", "follow", *names],
        env={**os.environ, "DATABASE_URL": conninfo, **environment},
        cwd=folder, text=True, stderr=subprocess.PIPE,
    )  # fmt: skip
    with process:
        try:
            yield process
        finally:
            process.kill()


def stopped(process: subprocess.Popen[str]) -> str:
    """Ask it to stop; what it said."""
    process.send_signal(signal.SIGTERM)
    return process.communicate(timeout=60)[1]


def soon(is_so: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until something holds; fails when it does not."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.01)
