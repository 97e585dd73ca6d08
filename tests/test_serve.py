"""What monitors are told: the numbers of the database, what is late, and nothing else."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from indexer import resources, serve
from indexer.chain.told import Teller
from indexer.errors import ConfigError
from indexer.serve import AT_ONCE, OWN, Board, Monitor, Server
from indexer.sources.endpoints import REAL, UNLIMITED, Endpoint, Width
from indexer.store import database
from indexer.store.database import Connection, connect_briefly
from indexer.store.metrics import CHAINS, COVERAGE, PREFIX, PROBES, Metric, Probe, Row, stand
from tests.chain_model.chain import Config, ModelChain
from tests.chain_model.node import Node, comet_of
from tests.conftest import Command
from tests.ledger_rows import rows
from tests.processes import soon

ROOT = Path(__file__).resolve().parents[1]
CANARY = "c4naryKEYc4naryKEYc4naryKEY"
LONG = 10**10
LABELS = {metric.name: probe.labels for probe in PROBES for metric in probe.metrics} | {
    f"{PREFIX}{name}": labels for name, _, labels, _ in OWN
}


def ask(url: str, method: str = "GET") -> tuple[int, dict[str, str], str]:
    """Status, headers and body of an answer."""
    request = urllib.request.Request(url, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, dict(answer.headers), answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers), error.read().decode()


@contextmanager
def served(monitor: Monitor) -> Iterator[str]:
    """The address of a server in this process."""
    with closing(monitor), Server(("127.0.0.1", 0), monitor) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@contextmanager
def monitored(conninfo: str, *venues: str, lag_s: int = LONG) -> Iterator[str]:
    """The address of a server over a database."""
    with served(Monitor(lambda: connect_briefly(conninfo), venues, lag_s)) as url:
        yield url


def samples(text: str) -> dict[tuple[str, ...], float]:
    """By a metric's name and the values of its labels, in the order of the probe."""
    return {
        (one.name, *(one.labels[name] for name in LABELS[one.name])): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


COVER = """
    INSERT INTO ledger.coverage (venue, facts, blocks, times, verification, decoder_version)
    SELECT venue, 'liquidations', blocks::int8range,
           tstzrange(now() - 2 * lag::interval, now() - lag::interval, '[]'), 'every_height', 1
    FROM (VALUES {}) AS one (venue, blocks, lag)
"""


def cover(connection: Connection, *values: str) -> None:
    """Cover blocks of venues, the last of them so long ago."""
    connection.execute(COVER.format(", ".join(values)))  # type: ignore[arg-type]


# -- metrics -------------------------------------------------------------------------------------


def test_metrics_are_the_numbers_of_the_database(
    quick_indexer: Command, connection: Connection, conninfo: str
) -> None:
    assert quick_indexer("backfill", "hyperliquid", "--from", resources.recording()).returncode == 0
    assert quick_indexer("label").returncode == 0
    cover(connection, "('aave_v3.ethereum', '[10,20)', '90 s')",
          "('aave_v3.ethereum', '[25,30)', '30 s')")  # fmt: skip
    connection.execute("""
        INSERT INTO ledger.undecoded VALUES
            ('aave_v3.ethereum', 'a', 11, now(), 'no market', 1, 'market', '0x1'),
            ('aave_v3.ethereum', 'b', 12, now(), 'cut', 1, NULL, NULL);
        INSERT INTO ledger.quarantine VALUES
            ('ethereum', 'x', 12, now(), '0x1', '0x2', '{a,b}');
        INSERT INTO ledger.suspect VALUES ('aave_v3.ethereum', now(), 'a', '0x1', 'bonus', 'why');
        INSERT INTO ledger.stream VALUES ('ethereum', 31, '0xa', 20, 1, 'why', now());
        INSERT INTO ledger.reorg (chain, ancestor, old_tip, old_tip_hash, found_by, why)
        VALUES ('ethereum', 20, 23, '0x', 'reorg', 'w'), ('ethereum', 25, 26, '0x', 'reorg', 'w');
        INSERT INTO ledger.endpoint_state VALUES ('ethereum', 'node #1', 70, true, now());
        INSERT INTO ledger.endpoint_fault VALUES ('ethereum', 'node #1', 'TimedOut', 3, now())
    """)

    with monitored(conninfo) as url:
        status, headers, text = ask(f"{url}/metrics")
    found = samples(text)

    assert status == 200
    assert headers["Content-Type"].startswith("text/plain; version=")
    of_aave = ("aave_v3.ethereum", "liquidations")
    assert 30 <= found.pop(("indexer_lag_seconds", *of_aave)) < 90
    expected = {
        ("indexer_up",): 1, ("indexer_covered_blocks", *of_aave): 15,
        ("indexer_missing_blocks", *of_aave): 5,
        ("indexer_undecoded_events", "aave_v3.ethereum", "market"): 1,
        ("indexer_undecoded_events", "aave_v3.ethereum", ""): 1,
        ("indexer_quarantined_events", "ethereum"): 1,
        ("indexer_suspect_liquidations", "aave_v3.ethereum", "bonus"): 1,
        ("indexer_chain_tip_block", "ethereum"): 30,
        ("indexer_chain_finalized_block", "ethereum"): 20,
        ("indexer_chain_stopped", "ethereum"): 1,
        ("indexer_reorgs_total", "ethereum", "reorg"): 2,
        ("indexer_reorged_blocks_total", "ethereum", "reorg"): 4,
        ("indexer_endpoint_requests_total", "ethereum", "node #1"): 70,
        ("indexer_endpoint_disabled", "ethereum", "node #1"): 1,
        ("indexer_endpoint_faults_total", "ethereum", "node #1", "TimedOut"): 3,
    }  # fmt: skip
    assert {key: found.get(key) for key in expected} == expected
    counted = rows(connection, "SELECT method, count(*) FROM liq.liquidations GROUP BY method")
    assert {
        key[2]: int(value) for key, value in found.items() if key[0] == "indexer_liquidations"
    } == dict(counted)  # fmt: skip
    rules = {key[1] for key in found if key[0] == "indexer_label_run_timestamp_seconds"}
    assert ("PEAK_POSITION" in rules, "SIZE_ABS" in rules) == (True, True)
    assert {value for key, value in found.items() if key[0] == "indexer_probe_failed"} == {0}


def test_the_day_under_strict_is_what_the_total_of_the_day_is(
    connection: Connection, conninfo: str, quick_indexer: Command
) -> None:
    assert quick_indexer("backfill", "hyperliquid", "--from", resources.recording()).returncode == 0
    (day,) = [probe for probe in PROBES if probe.name == "day"]
    since = "(SELECT max(block_at) FROM ledger.liquidation)"
    query: Any = day.query.replace("now()", since)

    (found,) = connection.execute(query).fetchall()

    assert found == connection.execute(
        "SELECT 'hyperliquid', sum(notional_usd), count(*) FROM liq.liquidations l"
        " WHERE block_at >= (SELECT max(block_at) FROM ledger.liquidation) - interval '24 hours'"
        " AND block_at < (SELECT max(block_at) FROM ledger.liquidation)"
        " AND EXISTS (SELECT FROM liq.counted('strict/v1', '2025-01-01', '2026-01-01') c"
        "             WHERE c.key = l.key)"
    ).fetchone()  # fmt: skip


def test_every_metric_has_a_type_and_says_what_it_is(conninfo: str) -> None:
    with monitored(conninfo) as url:
        text = ask(f"{url}/metrics")[2]

    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    said = dict(re.findall(r"^# HELP (\S+) (.+)$", text, re.MULTILINE))
    own = {f"{PREFIX}{name}": kind for name, kind, *_ in OWN}
    metrics = {metric.name: metric.kind for probe in PROBES for metric in probe.metrics}
    assert kinds == own | metrics
    assert said.keys() == kinds.keys()
    assert [name for name, kind in kinds.items() if (kind == "counter") != name.endswith("_total")
            ] == []  # fmt: skip


def test_the_table_of_metrics_of_the_docs_is_that_of_the_code() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    lines = re.findall(r"^\| `(indexer_\w+)` \| (\w+) \| (.*?) \| (.+) \|$", page, re.MULTILINE)

    assert lines == [
        (name, kind, ", ".join(f"`{label}`" for label in labels), says)
        for name, kind, labels, says in [
            *((f"{PREFIX}{name}", kind, labels, says) for name, kind, labels, says in OWN),
            *((metric.name, metric.kind, probe.labels, metric.says)
              for probe in PROBES for metric in probe.metrics),
        ]
    ]  # fmt: skip


# -- health and readiness ------------------------------------------------------------------------


def test_ready_names_what_is_late_and_what_is_stopped(
    connection: Connection, conninfo: str
) -> None:
    cover(connection, "('aave_v3.ethereum', '[1,2)', '10 s')", "('comet.base', '[1,2)', '1 hour')")
    connection.execute("INSERT INTO ledger.stream VALUES ('base', 2, '0xa', 1, 1, 'why', now())")

    with monitored(conninfo, lag_s=900) as url, monitored(
        conninfo, "aave_v3.ethereum", lag_s=900
    ) as of_one, monitored(conninfo, "nobody.ethereum") as of_none:  # fmt: skip
        status, headers, text = ask(f"{url}/ready")
        one, none = ask(f"{of_one}/ready"), ask(f"{of_none}/ready")

    said = json.loads(text)
    (late,) = said.pop("late")
    assert (status, headers["Content-Type"]) == (503, "application/json")
    assert said == {"ready": False, "max_lag_s": 900, "stopped": ["base"], "nothing_covered": []}
    assert (late["venue"], 3600 <= late["lag_s"] < 3700) == ("comet.base", True)
    assert (one[0], json.loads(one[2])) == (
        200, {"ready": True, "max_lag_s": 900, "late": [], "stopped": [], "nothing_covered": []},
    )  # fmt: skip
    assert (none[0], json.loads(none[2])["nothing_covered"]) == (503, ["nobody.ethereum"])


def test_an_empty_database_is_healthy_and_not_ready(conninfo: str) -> None:
    with monitored(conninfo) as url:
        assert ask(f"{url}/health")[::2] == (200, '{"healthy": true, "database": "answers"}\n')
        assert (ask(f"{url}/ready")[0], "any" in ask(f"{url}/ready")[2]) == (503, True)


def test_only_liquidations_make_late() -> None:
    coverage = [("a", "account_days", 999, 1, 0, 0), ("a", "liquidations", 1, 1, 0, 0)]

    assert stand({COVERAGE.name: coverage, CHAINS.name: []}, [], 10).is_ready


def test_a_database_that_is_away_is_told_without_its_address() -> None:
    conninfo = f"postgresql://somebody:{CANARY}@127.0.0.1:1/base"

    with monitored(conninfo) as url:
        health, ready, metrics = (ask(f"{url}/{name}") for name in ("health", "ready", "metrics"))

    assert health[::2] == (503, '{"healthy": false, "database": "away"}\n')
    assert ready[::2] == (503, '{"ready": false, "database": "away"}\n')
    assert (metrics[0], samples(metrics[2])[("indexer_up",)]) == (200, 0)
    assert "127.0.0.1:1" not in health[2] + ready[2] + metrics[2]


def test_a_connection_that_was_cut_is_made_anew(connection: Connection, conninfo: str) -> None:
    cut = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    with monitored(conninfo) as url:
        first = ask(f"{url}/health")[0]
        connection.execute(cut)
        soon(lambda: ask(f"{url}/health")[0] == 503)
        soon(lambda: ask(f"{url}/health")[0] == 200)

    assert first == 200


# -- what it costs -------------------------------------------------------------------------------


def counting(query: str = "SELECT 1", labels: tuple[str, ...] = ()) -> Probe:
    return Probe("one", labels, (Metric("indexer_one", "gauge", "One."),), query)  # type: ignore[arg-type]


def test_who_asks_often_gets_the_answer_of_before(
    conninfo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def ask_once(connection: Connection, probe: Probe) -> list[Row]:
        asked.append(probe.name)
        return [(1,)]

    monkeypatch.setattr(serve.metrics, "ask", ask_once)
    with closing(Board(lambda: connect_briefly(conninfo), [counting()])) as board:
        found = [board.read() for _ in range(200)]

    assert asked == ["one"]
    assert [one for one in found if one is None] == []


def test_a_slow_probe_is_asked_rarely_and_a_failed_one_keeps_its_rows(
    conninfo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "KEPT_SECONDS", 0.0)
    took = (0.0, serve.Found((), 100.0, 2.0, has_failed=False))

    assert (took[1].is_kept(139.0), took[1].is_kept(140.5)) == (True, False)
    with closing(Board(lambda: connect_briefly(conninfo), [counting("SELECT 7")])) as board:
        first = board.read()
        board._probes = [counting("SELECT 1/0")]
        soon(lambda: (board.read() or {})["one"].has_failed)
        after = (board.read() or {})["one"]

    assert first is not None
    assert (first["one"].rows, after.rows, after.has_failed) == ([(7,)], [(7,)], True)


def test_a_statement_that_takes_too_long_fails_alone(conninfo: str) -> None:
    probes = [
        counting("SELECT 1 FROM pg_sleep(30)")._replace(name="slow"),
        counting("SELECT 2")._replace(name="quick"),
    ]
    begun = time.monotonic()
    with closing(Board(lambda: connect_briefly(conninfo, 1), probes)) as board:
        found = board.read() or {}

    assert time.monotonic() - begun < 6
    assert {name: (one.rows, one.has_failed) for name, one in found.items()} == {
        "slow": ((), True), "quick": ([(2,)], False),
    }  # fmt: skip


def test_what_is_served_at_once_is_bounded(conninfo: str) -> None:
    with monitored(conninfo) as url:
        port = int(url.rpartition(":")[2])
        idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(AT_ONCE)]
        time.sleep(0.3)
        with socket.create_connection(("127.0.0.1", port), timeout=5) as late:
            late.sendall(b"GET /health HTTP/1.0\r\n\r\n")
            with pytest.raises((ConnectionError, AssertionError)):
                assert late.recv(100) != b""
        for one in idle:
            one.close()
        soon(lambda: not_refused(f"{url}/health"))


def not_refused(url: str) -> bool:
    try:
        return ask(url)[0] == 200
    except (urllib.error.URLError, ConnectionError):
        return False


def test_a_request_that_drips_is_cut_off(conninfo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "REQUEST_SECONDS", 0.5)
    with monitored(conninfo) as url:
        port = int(url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=60) as slow:
            begun, is_open = time.monotonic(), True
            while is_open and time.monotonic() - begun < 8:
                is_open = drips(slow)

    assert not is_open
    assert time.monotonic() - begun < 4


def drips(slow: socket.socket) -> bool:
    """Send a byte; gives whether the other side still listens."""
    try:
        slow.sendall(b"G")
    except OSError:
        return False
    time.sleep(0.1)
    return True


# -- what is said --------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS", "CANARY"])
def test_only_get_is_served(conninfo: str, method: str) -> None:
    with monitored(conninfo) as url:
        status, headers, body = ask(f"{url}/metrics", method)

    assert (status, headers["Allow"]) == (405, "GET")
    assert body == ("" if method == "HEAD" else '{"error": "Method Not Allowed"}\n')


def test_nothing_of_a_request_is_repeated(conninfo: str) -> None:
    with monitored(conninfo) as url:
        answers = [
            ask(f"{url}/metrics?x={CANARY}"), ask(f"{url}/{CANARY}"),
            ask(f"{url}/ready?venue={CANARY}"), ask(f"{url}/metrics/../{CANARY}"),
        ]  # fmt: skip
        connection = HTTPConnection("127.0.0.1", int(url.rpartition(":")[2]), timeout=60)
        connection.putrequest("GET", "/health")
        connection.putheader(f"X-{CANARY}", "x" * 70_000)
        connection.endheaders()
        large = connection.getresponse()
        answers.append((large.status, dict(large.headers), large.read().decode()))
        connection.close()

    assert [status for status, _, _ in answers] == [200, 404, 503, 404, 431]
    assert [said for said in answers if CANARY in str(said)] == []
    assert {headers["Server"].strip() for _, headers, _ in answers} == {"indexer"}


# -- the command ---------------------------------------------------------------------------------


@contextmanager
def process(
    conninfo: str, folder: Path, *words: str, **environment: str
) -> Iterator[subprocess.Popen[str]]:
    """`indexer serve` as a process."""
    begun = subprocess.Popen(
        [sys.executable, "-m", "indexer", "serve", *words], cwd=folder, text=True,
        env={**os.environ, "DATABASE_URL": conninfo, "PYTHONPATH": str(ROOT), **environment},
        stderr=subprocess.PIPE,
    )  # fmt: skip
    with begun:
        try:
            yield begun
        finally:
            begun.kill()


def first_line(begun: subprocess.Popen[str]) -> str:
    assert begun.stderr
    return begun.stderr.readline()


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_the_command_answers_on_loopback_until_it_is_stopped(
    conninfo: str, tmp_path: Path, end: signal.Signals
) -> None:
    with process(conninfo, tmp_path, "--listen", "127.0.0.1:0") as begun:
        said = first_line(begun)
        (url,) = re.findall(r"http://127\.0\.0\.1:\d+", said)
        status = ask(f"{url}/metrics")[0]
        begun.send_signal(end)
        rest = begun.communicate(timeout=60)[1]

    assert (status, begun.returncode, rest) == (200, 0, "stopped\n")


def test_an_address_that_is_taken_is_said_in_one_line(conninfo: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with process(conninfo, tmp_path, "--listen", f"127.0.0.1:{port}") as begun:
            said = begun.communicate(timeout=60)[1]

    assert begun.returncode == 1
    assert said == f"indexer: cannot listen on 127.0.0.1:{port}: Address already in use\n"


@pytest.mark.parametrize("address", ["9464", "127.0.0.1", "127.0.0.1:65536", ":1", "a:b"])
def test_what_is_no_address_is_wrong_usage(quick_indexer: Command, address: str) -> None:
    done = quick_indexer("serve", "--listen", address)

    assert done.returncode == 2
    assert "is no address; write 127.0.0.1:9464" in done.stderr


def test_another_address_than_loopback_is_said_aloud(conninfo: str, tmp_path: Path) -> None:
    with process(conninfo, tmp_path, "--listen", "0.0.0.0:0") as begun:
        said = first_line(begun) + first_line(begun)

    assert "this address is not loopback: whoever reaches it sees the numbers" in said


# -- errors by endpoint --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def node() -> Iterator[tuple[Node, int, int]]:
    """A node of 40 blocks, and the first and the last final one."""
    chain = ModelChain(Config(seed=3))
    chain.mine(40)
    with Node(chain, calls=comet_of(chain)) as found:
        yield found, chain.branch.blocks[0].number, chain.finalized


def everywhere(connection: Connection, text: str) -> list[str]:
    """The tables and views in which a text stands."""
    names = rows(
        connection,
        "SELECT oid::regclass::text FROM pg_class WHERE relkind IN ('r', 'v')"
        " AND relnamespace IN ('ledger'::regnamespace, 'liq'::regnamespace)",
    )
    found: Callable[[str], Any] = lambda name: connection.execute(  # noqa: E731
        f"SELECT count(*) FROM {name} t WHERE t::text ILIKE %s",  # type: ignore[arg-type]
        (f"%{text}%",),
    ).fetchone()
    return [name for (name,) in names if found(name) != (0,)]


def test_errors_are_counted_by_endpoint_and_no_key_is_stored_or_told(
    quick_indexer: Command,
    connection: Connection,
    conninfo: str,
    node: tuple[Node, int, int],
) -> None:
    served_by, first, last = node
    good = served_by.url.replace("http://", f"http://{CANARY}:{CANARY}@")
    urls = f"http://{CANARY}:{CANARY}@localhost:1/{CANARY}?k={CANARY},{good}/{CANARY}?k={CANARY}"
    words = ("backfill", "aave_v3.ethereum", "--from", first, "--to", last + 1)

    done = [quick_indexer(*words, RPC_ETHEREUM=urls) for _ in range(2)]
    with monitored(conninfo) as url:
        text = ask(f"{url}/metrics")[2]

    counted: Any = connection.execute(
        "SELECT endpoint, requests, faults, faults_by_kind, is_disabled, last_fault_at IS NULL"
        " FROM liq.endpoints WHERE chain = 'ethereum' ORDER BY endpoint"
    ).fetchall()
    assert [one.returncode for one in done] == [0, 0]
    assert [(one[0], one[4]) for one in counted] == [
        ("127.0.0.1 #2", False),
        ("localhost #1", False),
    ]
    (_, asked, faults, _, _, has_none), (_, tried, failed, kinds, _, _) = counted
    assert (asked > 2, faults, has_none) == (True, 0, True)
    assert (tried >= 2, kinds) == (True, {"Unreachable": failed})
    found = samples(text)
    assert found["indexer_endpoint_requests_total", "ethereum", "127.0.0.1 #2"] == asked
    assert found[
        "indexer_endpoint_faults_total", "ethereum", "localhost #1", "Unreachable"
    ] == failed  # fmt: skip
    assert everywhere(connection, CANARY) == []
    assert CANARY.lower() not in (text + "".join(one.stdout + one.stderr for one in done)).lower()


def test_counts_that_cannot_be_written_are_written_later(conninfo: str) -> None:
    provider: Any = SimpleNamespace(name="node #1", close=lambda: None)
    endpoint = Endpoint(provider, Width(1, 1), UNLIMITED, REAL)
    endpoint.requests = 2
    endpoint.faults["TimedOut"] += 1
    is_away = True

    def connect() -> Connection:
        if is_away:
            raise ConfigError("away")
        return database.connect(conninfo)

    teller = Teller("base", [endpoint], connect, every_seconds=0.01)
    time.sleep(0.1)
    endpoint.requests, endpoint.disabled = 5, "a key"
    endpoint.faults["Disabled"] += 1
    is_away = False
    teller.close()

    with database.connect(conninfo) as connection:
        assert rows(connection, "SELECT endpoint, requests, faults, faults_by_kind, is_disabled"
                                " FROM liq.endpoints") == [
            ("node #1", 5, 2, {"Disabled": 1, "TimedOut": 1}, True)
        ]  # fmt: skip
