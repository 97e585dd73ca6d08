"""How soon a message is at a webhook after the liquidation was committed.

    python -m benchmarks.alerts --rows 1_000_000 --rounds 100

The real `indexer alert` runs as a process of its own on a database with a year of simulated rows
(`benchmarks.year_of_rows`). Each round writes one liquidation of a new account, values it as
`indexer follow` does, and waits until the webhook, on loopback, has the message. At the end each
message has to have come once; otherwise the run ends with exit code 1. Linux only.
"""

import json
import os
import platform
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from statistics import median, quantiles
from typing import Any, NamedTuple

import click

from benchmarks.machine import ROOT, commit, cpu_model, description, durable_server
from benchmarks.year_of_rows import filled
from indexer.store import database, values
from indexer.store.database import Connection

RESULTS = ROOT / "benchmarks" / "ALERTS.md"
ASKED_MS = 1_000
WAIT_SECONDS = 30


class _Hook(BaseHTTPRequestHandler):
    arrived: "dict[str, list[float]]"

    def do_POST(self) -> None:
        at = time.monotonic()
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.arrived.setdefault(body["message"].split(" · ")[1], []).append(at)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


class Round(NamedTuple):
    """Seconds from the commit of the row, and of its value, to the webhook."""

    from_row: float
    from_value: float


def _account(number: int) -> str:
    return f"0x{number:06x}{'a' * 30}{number:04x}"


def _shown(account: str) -> str:
    return f"{account[:6]}…{account[-4:]}"


def _liquidate(connection: Connection, number: int) -> tuple[float, float]:
    """One row and its value; when each was committed."""
    at = datetime.now(UTC) + timedelta(minutes=1)
    row = {
        "venue": "hyperliquid", "event_key": f"b{number}", "account": _account(number),
        "block_number": 10**12 + number, "block_at": at, "tx_hash": f"0x{number:064x}",
        "order_id": str(number), "method": "market", "market": "ETH", "dex": "", "quote": "USDC",
        "side": "long", "size": Decimal(1_000), "price": Decimal(2_000),
        "notional": Decimal(2_000_000), "account_is_protocol_vault": False, "legs_seen": "both",
        "decoder_version": 1,
    }  # fmt: skip
    names, places = ", ".join(row), ", ".join(f"%({name})s" for name in row)
    connection.execute(f"INSERT INTO ledger.liquidation ({names}) VALUES ({places})", row)
    written = time.monotonic()
    values.value(connection, venues=["hyperliquid"], since=at)
    return written, time.monotonic()


def _rounds(connection: Connection, arrived: dict[str, list[float]], rounds: int) -> list[Round]:
    found = []
    for number in range(1, rounds + 1):
        written, valued = _liquidate(connection, number)
        who, end = _shown(_account(number)), time.monotonic() + WAIT_SECONDS
        while who not in arrived:
            if time.monotonic() > end:
                raise click.ClickException(f"the message of round {number} did not come")
            time.sleep(0.0005)
        found.append(Round(arrived[who][0] - written, arrived[who][0] - valued))
        time.sleep(0.037 * (number % 11))  # so that rounds begin at any part of a poll
    return found


@click.command()
@click.option("--rows", type=int, default=1_000_000, show_default=True)
@click.option("--rounds", type=click.IntRange(min=2), default=100, show_default=True)
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS)
def main(rows: int, rounds: int, results: Path) -> None:
    """Measure and write ALERTS.md."""
    load = os.getloadavg()[0]
    arrived: dict[str, list[float]] = {}
    _Hook.arrived = arrived
    hook = ThreadingHTTPServer(("127.0.0.1", 0), _Hook)
    threading.Thread(target=hook.serve_forever, daemon=True).start()
    with (
        durable_server() as server,
        filled(server, rows) as conninfo,
        database.connect(conninfo) as connection,
    ):
        process = subprocess.Popen(
            [sys.executable, "-m", "indexer", "alert", "--allow-private", "--above", "1M"],
            env={**os.environ, "DATABASE_URL": conninfo,
                 "INDEXER_ALERT_TO": f"json://127.0.0.1:{hook.server_port}/"},
            cwd=ROOT, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stderr is not None
        try:
            if "go to" not in process.stderr.readline():
                raise click.ClickException("indexer alert did not start")
            found = _rounds(connection, arrived, rounds)
        finally:
            process.terminate()
            process.wait(30)
        software = description(server)
    hook.shutdown()
    if sorted(map(len, arrived.values())) != [1] * rounds:
        raise click.ClickException(f"{rounds} messages were to come once each: {arrived}")
    text = _text(found, rows, software, (load, os.getloadavg()[0]))
    results.write_text(text, encoding="utf-8")
    click.echo(text)


def _text(found: list[Round], rows: int, software: str, load: tuple[float, float]) -> str:
    lines = [_line("the value, which makes it known", [one.from_value for one in found]),
             _line("the row", [one.from_row for one in found])]  # fmt: skip
    most = max(one.from_value for one in found) * 1_000
    return f"""# Alerts: from the commit to the webhook

Written by `python -m benchmarks.alerts`; run it again instead of editing.

- date: {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, commit {commit()}
- rows: {rows:,} liquidations stored before. Simulated
- machine: {cpu_model()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}
- software: Python {platform.python_version()}, {software}, {_packages()}

| | asked | found, the most of {len(found)} | |
| --- | ---: | ---: | --- |
| from commit to send, ms | < {ASKED_MS:,} | {most:,.0f} | {"yes" if most < ASKED_MS else "NO"} |

| ms from the commit of | median | 95th percentile | most |
| --- | ---: | ---: | ---: |
{chr(10).join(lines)}

{_HOW} Load average (1 min) at the start and at the end: {load[0]:.2f}, {load[1]:.2f}.
"""


_HOW = (
    "The real `indexer alert`, a process of its own that looks every 250 ms; until the request is"
    " at a webhook on loopback. Each message came once."
)


def _packages() -> str:
    return f"psycopg {version('psycopg')}, Apprise {version('apprise')}"


def _line(name: str, seconds: list[float]) -> str:
    ms = [one * 1_000 for one in seconds]
    return f"| {name} | {median(ms):,.0f} | {quantiles(ms, n=20)[-1]:,.0f} | {max(ms):,.0f} |"


if __name__ == "__main__":
    main()
