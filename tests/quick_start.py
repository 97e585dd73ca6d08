"""Starts the command line by forking a process that has it imported already.

Each command is a process of its own with its own files and exit code, as a user starts it; only
the second that its imports take (SQLAlchemy, Alembic, boto3) is paid once for all.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from subprocess import CompletedProcess
from tempfile import TemporaryDirectory


class Starter:
    """The process to fork from; `run` asks it for a command and waits for its end."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self._process = process
        self._out, self._err = folder / "out", folder / "err"

    def run(
        self, arguments: list[str], environment: Mapping[str, str], cwd: Path, out: str | None
    ) -> CompletedProcess[str]:
        """Run `indexer`; `out` is a file to write to instead, which is not read back."""
        assert self._process.stdin and self._process.stdout
        order = {
            "arguments": arguments, "environment": dict(environment), "cwd": str(cwd),
            "out": out or str(self._out), "err": str(self._err),
        }  # fmt: skip
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        code = int(self._process.stdout.readline())
        said = "" if out else self._out.read_text()
        return CompletedProcess(arguments, code, said, self._err.read_text())


@contextmanager
def starter() -> Iterator[Starter]:
    """A starter with a wide terminal, ended at the end of the block."""
    with TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.quick_start"], cwd=Path(__file__).parents[1],
            env={**os.environ, "COLUMNS": "200"}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        with process:
            yield Starter(process, Path(folder))
            assert process.stdin
            process.stdin.close()


def serve() -> None:
    """Fork for each line of stdin; the child leaves through the top, as a program does."""
    import apprise
    import boto3  # noqa: F401 - what S3 and the chains need is imported once too

    apprise.Apprise.instantiate("json://localhost")  # reads all its plugins, which takes a second
    import indexer.chain.follow  # noqa: F401
    from indexer.cli import main

    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            become(order)
            main(order["arguments"], prog_name="indexer")
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def become(order: dict) -> None:
    """Take on the folder, environment and files of the command."""
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["environment"])
    for number, path in enumerate((os.devnull, order["out"], order["err"])):
        mode = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        opened = os.open(path, mode, 0o644)
        os.dup2(opened, number)
        os.close(opened)


if __name__ == "__main__":
    serve()
