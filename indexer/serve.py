"""Answers monitors over HTTP: /metrics for Prometheus, /health and /ready.

Nothing of a request is repeated in an answer, there is no secret in one, and who asks often gets
the answer of before: a probe is asked again after a second at the soonest, and after twenty times
as long as it took, so that no scraper takes more than a twentieth of the database's time."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from typing import Any, NamedTuple

import psycopg
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from indexer.errors import ConfigError
from indexer.store import metrics
from indexer.store.database import Connection
from indexer.store.metrics import CHAINS, COVERAGE, PREFIX, PROBES, Probe, Row

KEPT_SECONDS = 1.0
KEPT_TIMES = 20  # of what a probe took
ROUND_SECONDS = 5.0  # for all probes of an answer; what is left waits for the next
AT_ONCE = 8
REQUEST_SECONDS = 15.0  # for a whole request, however slowly it drips

_UP = "Whether the database answers."
_TOOK = "How long a probe took."
_AGE = "How old what a probe found is."
_FAILED = "Whether a probe failed, most often by taking too long."
_BUILD = "What runs, in its labels."

OWN = (
    ("up", "gauge", (), _UP),
    ("build_info", "gauge", ("version",), _BUILD),
    ("probe_seconds", "gauge", ("probe",), _TOOK),
    ("probe_age_seconds", "gauge", ("probe",), _AGE),
    ("probe_failed", "gauge", ("probe",), _FAILED),
)


class Found(NamedTuple):
    """What a probe found and when; the rows are of before where it failed."""

    rows: Sequence[Row]
    at: float
    took_seconds: float
    has_failed: bool

    def is_kept(self, now: float) -> bool:
        """Whether it is not yet time to ask again."""
        return now - self.at < max(KEPT_SECONDS, KEPT_TIMES * self.took_seconds)


class Board:
    """The last answers to some probes, over a connection of its own; one thread asks at a time."""

    def __init__(self, connect: Callable[[], Connection], probes: Sequence[Probe]) -> None:
        self._connect = connect
        self._probes = probes
        self._connection: Connection | None = None
        self._lock = threading.Lock()
        self._found: dict[str, Found] = {}
        self._tried_at = float("-inf")
        self._is_up = False

    def read(self) -> dict[str, Found] | None:
        """What the probes found, by name; None where the database does not answer."""
        if not self._lock.acquire(timeout=2 * ROUND_SECONDS):
            return None
        try:
            now = time.monotonic()
            if now - self._tried_at >= KEPT_SECONDS:
                self._is_up = self._refresh()
                self._tried_at = time.monotonic()
            return dict(self._found) if self._is_up else None
        finally:
            self._lock.release()

    def _refresh(self) -> bool:
        """Ask what is due, the longest waiting first; gives whether the database answers."""
        begun = time.monotonic()
        try:
            connection = self._opened()
            connection.execute("SELECT 1")
            for probe in sorted(self._probes, key=self._asked_at):
                if time.monotonic() - begun > ROUND_SECONDS:
                    break
                self._ask(connection, probe)
        except (ConfigError, psycopg.OperationalError):
            self.close()
            return False
        return True

    def _opened(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = self._connect()
        return self._connection

    def _asked_at(self, probe: Probe) -> float:
        found = self._found.get(probe.name)
        return float("-inf") if found is None else found.at

    def _ask(self, connection: Connection, probe: Probe) -> None:
        before, begun = self._found.get(probe.name), time.monotonic()
        if before is not None and before.is_kept(begun):
            return
        rows, has_failed = before.rows if before else (), False
        try:
            rows = metrics.ask(connection, probe)
        except psycopg.errors.QueryCanceled:
            has_failed = True
        except psycopg.OperationalError:
            raise
        except psycopg.Error:  # a lock, a right, a number out of range: the others go on
            has_failed = True
        now = time.monotonic()
        self._found[probe.name] = Found(rows, now, now - begun, has_failed)

    def close(self) -> None:
        """Close the connection; the next answer opens another."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None


class _Collector(Collector):
    """One answer as families of metrics."""

    def __init__(self, probes: Sequence[Probe], found: dict[str, Found] | None) -> None:
        self._probes = probes
        self._found = found

    def collect(self) -> Iterator[Family]:
        yield GaugeMetricFamily(f"{PREFIX}up", _UP, int(self._found is not None))
        build = GaugeMetricFamily(f"{PREFIX}build_info", _BUILD, labels=["version"])
        build.add_metric([version("liquidation-indexer")], 1)
        yield build
        if self._found is not None:
            yield from self._own(self._found)
            for probe in self._probes:
                if probe.name in self._found:
                    yield from _families(probe, self._found[probe.name].rows)

    def _own(self, found: dict[str, Found]) -> Iterator[Family]:
        now = time.monotonic()
        took = GaugeMetricFamily(f"{PREFIX}probe_seconds", _TOOK, labels=["probe"])
        age = GaugeMetricFamily(f"{PREFIX}probe_age_seconds", _AGE, labels=["probe"])
        failed = GaugeMetricFamily(f"{PREFIX}probe_failed", _FAILED, labels=["probe"])
        for name, one in sorted(found.items()):
            took.add_metric([name], one.took_seconds)
            age.add_metric([name], now - one.at)
            failed.add_metric([name], int(one.has_failed))
        yield from (took, age, failed)


def _families(probe: Probe, rows: Sequence[Row]) -> Iterator[Family]:
    count = len(probe.labels)
    for place, metric in enumerate(probe.metrics, count):
        kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
        family: Any = kind(metric.name, metric.says, labels=probe.labels)
        for row in rows:
            if row[place] is not None:
                family.add_metric([str(label) for label in row[:count]], float(row[place]))
        yield family


class Answer(NamedTuple):
    """What is sent."""

    status: HTTPStatus
    content_type: str
    body: bytes


class Monitor:
    """What is answered on each path."""

    def __init__(
        self, connect: Callable[[], Connection], venues: Sequence[str], most_lag_s: int
    ) -> None:
        self._all = Board(connect, PROBES)
        self._soon = Board(connect, (COVERAGE, CHAINS))
        self._venues = venues
        self._most_lag_s = most_lag_s

    def answer(self, path: str) -> Answer:
        """The answer to a path without its query."""
        match path:
            case "/metrics":
                return self._metrics()
            case "/health":
                return self._health()
            case "/ready":
                return self._ready()
        return _json(HTTPStatus.NOT_FOUND, {"error": "there are /metrics, /health and /ready"})

    def _metrics(self) -> Answer:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Collector(PROBES, self._all.read()))
        return Answer(HTTPStatus.OK, CONTENT_TYPE_LATEST, generate_latest(registry))

    def _health(self) -> Answer:
        if self._soon.read() is None:
            return _json(HTTPStatus.SERVICE_UNAVAILABLE, {"healthy": False, "database": "away"})
        return _json(HTTPStatus.OK, {"healthy": True, "database": "answers"})

    def _ready(self) -> Answer:
        found = self._soon.read()
        if found is None:
            return _json(HTTPStatus.SERVICE_UNAVAILABLE, {"ready": False, "database": "away"})
        if len(found) < 2 or any(one.has_failed for one in found.values()):
            return _json(HTTPStatus.SERVICE_UNAVAILABLE, {"ready": False, "database": "slow"})
        rows = {name: one.rows for name, one in found.items()}
        stand = metrics.stand(rows, self._venues, self._most_lag_s)
        status = HTTPStatus.OK if stand.is_ready else HTTPStatus.SERVICE_UNAVAILABLE
        return _json(status, {
            "ready": stand.is_ready, "max_lag_s": self._most_lag_s,
            "late": [one._asdict() for one in stand.late], "stopped": stand.stopped,
            "nothing_covered": stand.absent,
        })  # fmt: skip

    def close(self) -> None:
        """Close the connections."""
        self._all.close()
        self._soon.close()


def _json(status: HTTPStatus, data: dict[str, Any]) -> Answer:
    return Answer(status, "application/json", (json.dumps(data) + "\n").encode())


class Server(ThreadingHTTPServer):
    """Serves a few at once, each for a limited time."""

    daemon_threads = True
    request_queue_size = 2 * AT_ONCE

    def __init__(self, address: tuple[str, int], monitor: Monitor) -> None:
        self.monitor = monitor
        self._free = threading.BoundedSemaphore(AT_ONCE)
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Take a request, unless there are too many."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve it, and cut it off when its time is up."""
        end = threading.Timer(REQUEST_SECONDS, _cut, [request])
        end.daemon = True
        end.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            end.cancel()
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is nobody's concern."""


def _cut(request: socket.socket) -> None:
    try:
        request.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it has ended meanwhile


class _Handler(BaseHTTPRequestHandler):
    """GET of a path; one request a connection. Says nothing of itself but the name."""

    server: Server
    server_version = "indexer"
    sys_version = ""
    timeout = 5.0  # between two bytes

    def do_GET(self) -> None:
        self._send(self.server.monitor.answer(self.path.partition("?")[0]))

    def send_error(self, code: int, *_: Any, **__: Any) -> None:
        """Without the words of the request, which the base class repeats."""
        is_method = code == HTTPStatus.NOT_IMPLEMENTED
        status = HTTPStatus.METHOD_NOT_ALLOWED if is_method else HTTPStatus(code)
        self._send(_json(status, {"error": status.phrase}))

    def _send(self, answer: Answer) -> None:
        self.close_connection = True
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        if answer.status is HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def log_message(self, *_: Any) -> None:
        """A scraper asks every few seconds: nothing is logged."""
