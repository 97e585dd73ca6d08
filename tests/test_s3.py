"""An S3 prefix works like a directory: against moto's server, and a proxy that breaks off."""

import http.client
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from subprocess import CompletedProcess
from threading import Thread
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from indexer import sync
from indexer.store import database
from indexer.store.database import Connection
from indexer.store.server import Server
from tests.ledger_rows import LIQUIDATIONS, everything, rows, true_liquidations
from tests.postgres import database as throw_away
from tests.simulator import Config, Simulation, simulate, write_by_block, write_misc

CONFIG = Config(
    seed=5,
    start=datetime(2025, 10, 27, 22, 50, 0, tzinfo=UTC),
    first_block=777_290_000,
    blocks=450,
    block_interval_ms=10_000,
    accounts=20,
)
# Large enough that it is read in several pieces of half a megabyte.
LARGE = "node_fills_by_block/hourly/20251027/23"
CUT_AT = 700_000
SECRET = "c4n4rys3cr3tc4n4rys3cr3t"
KEYS = {"AWS_ACCESS_KEY_ID": "AKIAC4N4RY", "AWS_SECRET_ACCESS_KEY": SECRET}

Command = Callable[..., CompletedProcess[str]]


@pytest.fixture(scope="module")
def sim() -> Simulation:
    return simulate(CONFIG)


@pytest.fixture(scope="module")
def tree(sim: Simulation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two hours plain and the rest compressed."""
    folder = tmp_path_factory.mktemp("node")
    write_by_block(sim, folder)
    write_misc(sim, folder, compress=True)
    return folder


@pytest.fixture(scope="module")
def moto() -> Iterator[int]:
    """The port of a real S3 server on loopback."""
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    try:
        yield server.get_host_and_port()[1]
    finally:
        server.stop()


@pytest.fixture(scope="module")
def bucket(moto: int, tree: Path) -> Any:
    """A bucket with the tree under `archive/`, and other things beside it."""
    bucket = boto3.resource(
        "s3", endpoint_url=f"http://127.0.0.1:{moto}", region_name="us-east-1",
        aws_access_key_id="a", aws_secret_access_key="b",
    ).create_bucket(Bucket="node-data")  # fmt: skip
    for path in tree.rglob("*"):
        if path.is_file():
            bucket.upload_file(str(path), f"archive/{path.relative_to(tree)}")
    bucket.put_object(Key="other/readme", Body=b"nothing")
    return bucket


class Proxy(ThreadingHTTPServer):
    """Hands requests on to moto and remembers them; once it breaks a body off."""

    daemon_threads = True

    def __init__(self, moto: int) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.moto = moto
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.cut_key: str | None = None
        self.when_cut: Callable[[], object] = lambda: None

    def is_to_cut(self, path: str) -> bool:
        """Whether to break off this answer; the next one is whole."""
        if self.cut_key is None or self.cut_key not in path:
            return False
        self.cut_key = None
        return True

    def asked(self, key: str) -> list[dict[str, str]]:
        """The headers of the requests for a key, names in lower case."""
        return [headers for path, headers in self.seen if key in path]

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that has gone is no news."""


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    server: Proxy

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.seen.append((self.path, headers))
        behind = http.client.HTTPConnection("127.0.0.1", self.server.moto)
        behind.request("GET", self.path, headers=dict(self.headers))
        answer = behind.getresponse()
        body = answer.read()
        behind.close()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("connection", "content-length", "transfer-encoding"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.server.is_to_cut(self.path):
            self.wfile.write(body[:CUT_AT])
            self.server.when_cut()
            self.close_connection = True
            return
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def proxy(moto: int) -> Iterator[Proxy]:
    with Proxy(moto) as server:
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def backfill(quick_indexer: Command, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Command:
    """`indexer backfill` of an S3 address through the proxy; no secret is ever shown."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)

    def run(location: str, **environment: str) -> CompletedProcess[str]:
        chosen = {
            **KEYS,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{proxy.server_address[1]}",
            **environment,
        }
        result = quick_indexer("backfill", "hyperliquid", "--from", location, **chosen)
        assert SECRET not in result.stdout + result.stderr
        assert "Traceback" not in result.stderr
        return result

    return run


@pytest.fixture
def local(postgres: Server, migrated: str, tree: Path) -> Iterator[Connection]:
    """A database into which the same tree was read from the disk."""
    with throw_away(postgres, template=migrated) as fresh, database.connect(fresh) as opened:
        sync.backfill(opened, str(tree))
        yield opened


def test_a_prefix_gives_what_the_same_directory_gives(
    connection: Connection, local: Connection, bucket: Any, backfill: Command, proxy: Proxy
) -> None:
    result = backfill("s3://node-data/archive")

    assert (result.returncode, result.stderr) == (0, "")
    assert everything(connection) == everything(local)
    assert rows(connection, f"SELECT uri FROM ledger.source WHERE uri LIKE '%{LARGE}'") == [
        (f"s3://node-data/archive/{LARGE}",)
    ]
    assert {headers.get("x-amz-request-payer") for _, headers in proxy.seen} == {"requester"}


def test_one_object_may_be_named(
    connection: Connection, sim: Simulation, bucket: Any, backfill: Command
) -> None:
    result = backfill(f"s3://node-data/archive/{LARGE}")

    assert (result.returncode, result.stderr) == (0, "")
    assert rows(connection, LIQUIDATIONS) == [
        row
        for row in true_liquidations(sim.truth)
        if CONFIG.first_block + 60 <= row[0] < CONFIG.first_block + 420
    ]


def test_a_connection_that_breaks_is_taken_up_at_the_byte_where_it_broke(
    connection: Connection, local: Connection, bucket: Any, backfill: Command, proxy: Proxy
) -> None:
    proxy.cut_key = LARGE
    tag = bucket.Object(f"archive/{LARGE}").e_tag

    result = backfill("s3://node-data/archive")

    assert (result.returncode, result.stderr) == (0, "")
    assert everything(connection) == everything(local)
    assert [
        (asked.get("range"), asked.get("if-match"), asked["x-amz-request-payer"])
        for asked in proxy.asked(LARGE)
    ] == [(None, None, "requester"), (f"bytes={CUT_AT}-", tag, "requester")]


def test_an_object_that_was_replaced_meanwhile_is_not_pieced_together(
    connection: Connection, bucket: Any, backfill: Command, proxy: Proxy, tree: Path,
    sim: Simulation,
) -> None:  # fmt: skip
    for path in (tree / "node_fills_by_block").rglob("*"):
        if path.is_file():
            bucket.upload_file(str(path), f"replaced/{path.relative_to(tree)}")
    other = (tree / LARGE).read_bytes().replace(b"BTC", b"ETH")
    proxy.cut_key = LARGE
    proxy.when_cut = lambda: bucket.put_object(Key=f"replaced/{LARGE}", Body=other)

    result = backfill("s3://node-data/replaced/node_fills_by_block")

    lines = (tree / LARGE).read_bytes()[:CUT_AT].count(b"\n")
    low, high = CONFIG.first_block + 60 + lines, CONFIG.first_block + 420
    assert result.returncode == 1
    assert result.stderr.splitlines()[0] == (
        f"fault: s3://node-data/replaced/{LARGE}:{lines + 1}: cannot be read on at byte {CUT_AT}:"
        " the object was replaced meanwhile"
    )
    assert [line.partition(", between")[0] for line in result.stderr.splitlines()[1:]] == [
        f"fault: hyperliquid {facts}: {high - low} blocks {low} to {high - 1} are missing"
        for facts in ("account_days", "liquidations")
    ]
    assert rows(connection, LIQUIDATIONS) == [
        row for row in true_liquidations(sim.truth) if not low <= row[0] < high
    ]


@pytest.mark.parametrize(
    ("location", "what"),
    [
        ("s3://no-such-bucket/archive", "NoSuchBucket"),
        ("s3://node-data/nothing-here", "no objects under this prefix"),
        ("s3://node-data/other", "no block files"),
        ("s3:///archive", "no bucket in it"),
        ("s3://Not_A_Bucket!/x", "Invalid bucket name"),
    ],
)
def test_a_place_without_block_files_is_named(
    bucket: Any, backfill: Command, location: str, what: str
) -> None:
    result = backfill(location)

    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith(f"indexer: {location}: ")
    assert what in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "environment",
    [
        {"AWS_ENDPOINT_URL": "nonsense"},
        {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_MAX_ATTEMPTS": "1"},
        {"AWS_PROFILE": "nobody"},
    ],
)
def test_settings_that_cannot_work_are_one_message(
    bucket: Any, backfill: Command, environment: dict[str, str]
) -> None:
    result = backfill("s3://node-data/archive", **environment)

    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("indexer: s3://node-data/archive: cannot be listed: ")
    assert len(result.stderr.splitlines()) == 1
