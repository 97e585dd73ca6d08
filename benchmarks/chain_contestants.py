"""One contestant over a chain of logs, in a process of its own: made ready, told to go, measured.

    python -m benchmarks.chain_contestants NAME NODE DATABASE FIRST END [FILLED]

NODE is the address of a `tests.chain_model.bulk`, FIRST to END its blocks, FILLED a database to
take ready rows from. The clock starts when all modules are imported and all is prepared. The last
line of output is a `Measured`.
"""

import gc
import json
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
import psycopg
from web3 import HTTPProvider, Web3

from benchmarks.contestants import Measured, cpu_seconds, peak_bytes
from indexer.chain import redecode as again
from indexer.chain import sync
from indexer.decode import Decoder
from indexer.resources import folder
from indexer.sources.chains import profile_of
from indexer.sources.evm import EvmSource
from indexer.store import database
from indexer.venues import evm

VENUE = "aave_v2.ethereum"  # its rows need no receipts
NAIVE_BLOCKS = 2_000  # the width of a range that most providers allow
TABLES = ("block", "raw_log", "lending_liquidation")


class Job(NamedTuple):
    """What to do it with; `end` is the block after the last."""

    node: str
    conninfo: str
    first: int
    end: int
    filled: str


def backfill(job: Job) -> Callable[[], int]:
    """Ours, as the command does it. Counts rows."""
    decoder = Decoder(evm.specs())

    def run() -> int:
        with (
            database.connect(job.conninfo) as connection,
            closing(EvmSource(profile_of("ethereum"), [job.node])) as source,
        ):
            tally = sync.backfill(connection, source, decoder, [VENUE], job.first, job.end)
        return tally.counts["liquidations"]

    return run


def redecode(job: Job) -> Callable[[], int]:
    """Ours, rows derived again from the stored raw logs. Counts rows; none may change."""
    decoder = Decoder(evm.specs())

    def run() -> int:
        with database.connect(job.conninfo) as connection:
            counts = again.redecode(connection, decoder, [VENUE])
        if counts["changed"]:
            raise ValueError(f"{counts['changed']} rows changed")
        return counts["liquidations"]

    return run


def naive(job: Job) -> Callable[[], int]:
    """The obvious program: web3.py, a block request a block, decoded rows only. Counts rows."""
    node = Web3(HTTPProvider(job.node))
    pool: Any = node.eth.contract(
        abi=json.loads((folder("abis") / "aave_v2_pool.json").read_text())
    )
    event = pool.events.LiquidationCall()
    asked: dict[str, Any] = {
        "address": [node.to_checksum_address(one) for one in Decoder(evm.specs()).addresses(VENUE)],
        "topics": [event.topic],
    }

    def run() -> int:
        count = 0
        with psycopg.connect(job.conninfo) as connection:
            for low in range(job.first, job.end, NAIVE_BLOCKS):
                high = min(low + NAIVE_BLOCKS, job.end) - 1
                logs = node.eth.get_logs({**asked, "fromBlock": low, "toBlock": high})  # type: ignore[typeddict-item]
                times = {
                    number: datetime.fromtimestamp(node.eth.get_block(number)["timestamp"], UTC)
                    for number in {log["blockNumber"] for log in logs}
                }
                rows = [_row(event.process_log(log), times) for log in logs]
                connection.cursor().executemany(_INSERT, rows)
                connection.commit()
                count += len(rows)
        return count

    return run


_INSERT = """
    INSERT INTO ledger.lending_liquidation (
        venue, event_key, account, block_number, block_at, method, market, liquidator,
        repaid_asset, repaid_raw, seized_asset, seized_raw, seized_is_shares, decoder_version
    )
    VALUES (%s, %s, %s, %s, %s, 'repay_seize', %s, %s, %s, %s, %s, %s, false, 1)
    ON CONFLICT DO NOTHING
"""


def _row(event: Any, times: Mapping[Any, datetime]) -> tuple[object, ...]:
    said, number = event["args"], event["blockNumber"]
    return (
        VENUE, f"{event['transactionHash'].to_0x_hex()}/{event['logIndex']}", said["user"].lower(),
        number, times[number], event["address"].lower(), said["liquidator"].lower(),
        said["debtAsset"].lower(), said["debtToCover"], said["collateralAsset"].lower(),
        said["liquidatedCollateralAmount"],
    )  # fmt: skip


def copy(job: Job) -> Callable[[], int]:
    """The bound of the sink: rows that are ready in memory, in Postgres' own form, by COPY into
    the same tables with the same indexes. Counts rows."""
    with psycopg.connect(job.filled) as connection:
        ready = {table: _copied_out(connection, table) for table in TABLES}

    def run() -> int:
        with psycopg.connect(job.conninfo, autocommit=True) as connection:
            for table, parts in ready.items():
                statement = f"COPY ledger.{table} FROM STDIN (FORMAT BINARY)"
                with connection.cursor() as cursor:
                    with cursor.copy(statement) as stream:
                        for part in parts:
                            stream.write(part)
                    count = cursor.rowcount
        return count

    return run


def _copied_out(connection: psycopg.Connection, table: str) -> list[bytes]:
    statement = f"COPY ledger.{table} TO STDOUT (FORMAT BINARY)"
    with connection.cursor() as cursor, cursor.copy(statement) as stream:
        rows = [bytes(row) for row in stream]
    return [b"".join(rows[at : at + 1_000]) for at in range(0, len(rows), 1_000)]


CONTESTANTS: dict[str, Callable[[Job], Callable[[], int]]] = {
    "backfill": backfill,
    "redecode": redecode,
    "naive": naive,
    "copy": copy,
}


def main(name: str, node: str, conninfo: str, first: str, end: str, filled: str = "") -> None:
    run = CONTESTANTS[name](Job(node, conninfo, int(first), int(end), filled))
    gc.collect()
    print("ready", flush=True)
    sys.stdin.readline()
    cpu_before, began = cpu_seconds(), time.monotonic()
    found = run()
    ended, cpu_after = time.monotonic(), cpu_seconds()
    measured = Measured(began, ended, cpu_after - cpu_before, peak_bytes(), found)
    print(msgspec.json.encode(measured).decode())


if __name__ == "__main__":
    main(*sys.argv[1:])
