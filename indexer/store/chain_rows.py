"""Writes and reads the rows of a followed chain. Everything runs in the caller's transaction.

What is written stands under a fence (see `chain_coverage`), so it is new: rows are copied straight
into their tables, and a key that is there already is a broken promise that rolls everything back.
"""

from binascii import a2b_hex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from io import BytesIO
from typing import Any, NamedTuple

import psycopg
from psycopg import sql
from psycopg.copy import FileWriter
from psycopg.types.string import BytesBinaryDumper

from indexer.errors import Conflict
from indexer.evm_model import (
    TRANSACTION_FACT,
    BlockRef,
    ChainRow,
    Fact,
    FactKey,
    LendingLiquidation,
    Log,
    PerpLiquidation,
    Quarantined,
    ShareRate,
    UndecodedLog,
)
from indexer.store.database import Connection
from indexer.tokens import Token


def utc(seconds: int) -> datetime:
    """A block's time."""
    return datetime.fromtimestamp(seconds, UTC)


def facts(connection: Connection, chain: str) -> dict[FactKey, str | None]:
    """All facts of a chain but what transactions are, of which there may be many: see `calls`."""
    rows = connection.execute(
        "SELECT chain, fact, subject, value FROM ledger.fact WHERE chain = %s AND fact <> %s",
        (chain, TRANSACTION_FACT),
    )
    return {(chain, fact, subject): value for chain, fact, subject, value in rows}  # type: ignore[misc]


def calls(connection: Connection, chain: str, hashes: Iterable[str]) -> dict[FactKey, str | None]:
    """What some transactions are, as far as it was asked."""
    rows = connection.execute(
        "SELECT chain, fact, subject, value FROM ledger.fact"
        " WHERE chain = %s AND fact = %s AND subject = ANY(%s)",
        (chain, TRANSACTION_FACT, list(hashes)),
    )
    return {(chain, fact, subject): value for chain, fact, subject, value in rows}  # type: ignore[misc]


def blocks_down(connection: Connection, chain: str, below: int, count: int) -> list[BlockRef]:
    """Stored blocks below a height, the highest first."""
    rows = connection.execute(
        """
        SELECT chain, block_number, hash, coalesce(parent_hash, ''),
               extract(epoch FROM block_at)::bigint
        FROM ledger.block WHERE chain = %s AND block_number < %s
        ORDER BY block_number DESC LIMIT %s
        """,
        (chain, below, count),
    )
    return [BlockRef(*row) for row in rows]  # type: ignore[arg-type]


class Packed(NamedTuple):
    """So many rows of one chain in the binary form of COPY; `heights` are the least and the most.

    To pack asks nothing of the server: a thread that reads ahead does it while another writes."""

    data: bytes
    rows: int
    chain: str
    heights: tuple[int, int]


def _pack(
    connection: Connection, columns: Mapping[str, str], rows: Iterable[Sequence[object]]
) -> bytes:
    packed = BytesIO()
    with (
        connection.cursor() as cursor,  # which lends its adapters
        psycopg.Copy(cursor, binary=True, writer=FileWriter(packed)) as stream,
    ):
        _write(stream, columns, rows)
    return packed.getvalue()


def _write(
    stream: psycopg.Copy, columns: Mapping[str, str], rows: Iterable[Sequence[object]]
) -> None:
    # of psycopg's two for bytea the types would choose the one in Python: 0.6 µs a raw log
    stream.cursor.adapters.register_dumper(bytes, BytesBinaryDumper)
    stream.set_types(list(columns.values()))
    for row in rows:
        stream.write_row(row)


def _copy(
    connection: Connection,
    table: str,
    columns: Mapping[str, str],
    rows: Iterable[Sequence[object]] | bytes,
) -> None:
    """COPY in binary form, packed or not; `columns` are names and types."""
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(
        sql.Identifier(*table.split(".")), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    with connection.cursor() as cursor, cursor.copy(statement) as stream:
        if isinstance(rows, bytes):
            stream.write(rows)
        else:
            _write(stream, columns, rows)


def _stage(
    connection: Connection,
    table: str,
    columns: Mapping[str, str],
    rows: Iterable[Sequence[object]] | bytes,
    *,
    anew: bool = False,
) -> None:
    """COPY into a temporary twin of a ledger table; it empties itself at commit, and `anew` before:
    a longer transaction has several turns."""
    staged = f"staged_{table}"
    connection.execute(
        sql.SQL("CREATE TEMP TABLE IF NOT EXISTS {} (LIKE ledger.{}) ON COMMIT DELETE ROWS").format(
            sql.Identifier(staged), sql.Identifier(table)
        )
    )
    if anew:
        connection.execute(sql.SQL("TRUNCATE {}").format(sql.Identifier(staged)))
    _copy(connection, staged, columns, rows)


def _copied(connection: Connection, table: str, columns: Mapping[str, str], rows: Packed) -> bool:
    """COPY rows of one chain straight into a ledger table.

    False where another venue's reading was here before, or is at this moment; nothing is written
    then. Against merging in each row this takes a quarter of the time."""
    where = sql.SQL("SELECT FROM {} WHERE chain = %s AND block_number BETWEEN %s AND %s LIMIT 1")
    name = sql.Identifier("ledger", table)
    if connection.execute(where.format(name), (rows.chain, *rows.heights)).fetchone() is not None:
        return False
    try:
        with connection.transaction():
            _copy(connection, f"ledger.{table}", columns, rows.data)
    except psycopg.errors.UniqueViolation:
        return False
    return True


BLOCK = {
    "chain": "text", "block_number": "int8", "hash": "text", "parent_hash": "text",
    "block_at": "timestamptz",
}  # fmt: skip


def append_blocks(connection: Connection, blocks: Sequence[BlockRef]) -> None:
    """As `append_packed_blocks`."""
    append_packed_blocks(connection, pack_blocks(connection, blocks))


def pack_blocks(connection: Connection, blocks: Sequence[BlockRef]) -> Packed:
    """Blocks, at least one, for `append_packed_blocks`."""
    rows = ((b.chain, b.number, b.hash, b.parent_hash or None, utc(b.time)) for b in blocks)
    numbers = [block.number for block in blocks]
    heights = min(numbers), max(numbers)
    return Packed(_pack(connection, BLOCK, rows), len(blocks), blocks[0].chain, heights)


def append_packed_blocks(connection: Connection, blocks: Packed) -> None:
    """Store blocks; one that is stored under another hash is a broken chain: Conflict."""
    if _copied(connection, "block", BLOCK, blocks):
        return
    _stage(connection, "block", BLOCK, blocks.data)
    inserted = connection.execute(
        """
        INSERT INTO ledger.block AS stored SELECT * FROM staged_block
        ON CONFLICT (chain, block_number) DO UPDATE SET parent_hash = excluded.parent_hash
        WHERE stored.parent_hash IS NULL AND stored.hash = excluded.hash
          AND excluded.parent_hash IS NOT NULL
        """
    )
    if inserted.rowcount == blocks.rows:  # nothing that differs stood in the way
        connection.execute("TRUNCATE staged_block")
        return
    other = connection.execute(
        """
        SELECT chain, block_number FROM staged_block read JOIN ledger.block stored
            USING (chain, block_number)
        WHERE read.hash <> stored.hash ORDER BY 2 LIMIT 1
        """
    ).fetchone()
    if other is not None:
        raise Conflict(f"{other[0]}: block {other[1]} is stored with another hash than read now")
    connection.execute("TRUNCATE staged_block")


RAW_LOG = {
    "chain": "text", "block_number": "int8", "log_index": "int4", "venue": "text",
    "tx_hash": "bytea", "emitter": "bytea", "topics": "bytea", "data": "bytea", "is_whole": "bool",
}  # fmt: skip


def append_logs(
    connection: Connection, chain: str, logs: Sequence[tuple[Log, str | None, bool]]
) -> None:
    """As `append_packed_logs`."""
    if logs:
        append_packed_logs(connection, pack_logs(connection, chain, logs))


def pack_logs(
    connection: Connection, chain: str, logs: Sequence[tuple[Log, str | None, bool]]
) -> Packed:
    """Raw logs, at least one, for `append_packed_logs`: (log, its venue, whether its whole
    transaction is stored)."""
    rows = (
        (
            chain, log.block_number, log.log_index, venue, a2b_hex(log.tx_hash[2:]),
            a2b_hex(log.address[2:]), a2b_hex("".join(log.topics).replace("0x", "")),
            a2b_hex(log.data[2:]), is_whole,
        )
        for log, venue, is_whole in logs
    )  # fmt: skip
    heights = logs[0][0].block_number, logs[-1][0].block_number
    return Packed(_pack(connection, RAW_LOG, rows), len(logs), chain, heights)


def append_packed_logs(connection: Connection, logs: Packed) -> None:
    """Store raw logs. One that another venue's reading stored before gains what is known now."""
    if _copied(connection, "raw_log", RAW_LOG, logs):
        return
    _stage(connection, "raw_log", RAW_LOG, logs.data)
    connection.execute(
        """
        INSERT INTO ledger.raw_log AS stored SELECT * FROM staged_raw_log
        ON CONFLICT (chain, block_number, log_index) DO UPDATE
        SET venue = coalesce(excluded.venue, stored.venue),
            is_whole = stored.is_whole OR excluded.is_whole
        WHERE (excluded.tx_hash, excluded.emitter, excluded.topics, excluded.data)
            = (stored.tx_hash, stored.emitter, stored.topics, stored.data)
        """
    )
    other = connection.execute(
        """
        SELECT block_number, log_index FROM staged_raw_log read JOIN ledger.raw_log stored
            USING (chain, block_number, log_index)
        WHERE (read.tx_hash, read.emitter, read.topics, read.data)
           <> (stored.tx_hash, stored.emitter, stored.topics, stored.data)
        ORDER BY 1, 2 LIMIT 1
        """
    ).fetchone()
    if other is not None:
        where = f"{logs.chain}: log {other[1]} of block {other[0]}"
        raise Conflict(f"{where} is stored with other content")
    connection.execute("TRUNCATE staged_raw_log")


LENDING = {
    "venue": "text", "event_key": "text", "account": "text", "block_number": "int8",
    "block_at": "timestamptz", "method": "text", "market": "text", "owner": "text",
    "liquidator": "text", "repaid_asset": "text", "repaid_raw": "numeric", "seized_asset": "text",
    "seized_raw": "numeric", "seized_is_shares": "bool", "protocol_fee_raw": "numeric",
    "fee_in_seized": "bool", "bad_debt_asset": "text", "bad_debt_raw": "numeric",
    "decoder_version": "int4",
}  # fmt: skip


def _lending_rows(
    rows: Iterable[LendingLiquidation], times: Mapping[int, datetime]
) -> Iterable[tuple[object, ...]]:
    for row in rows:
        repaid, seized, bad_debt = row.repaid, row.seized, row.bad_debt
        yield (
            row.venue, row.event_key, row.account, row.block_number, times[row.block_number],
            row.method, row.market, row.owner, row.liquidator,
            repaid and repaid.asset, repaid and repaid.raw, seized and seized.asset,
            seized and seized.raw, row.seized_is_shares, row.protocol_fee_raw, row.fee_in_seized,
            bad_debt and bad_debt.asset, bad_debt and bad_debt.raw, row.decoder_version,
        )  # fmt: skip


PERP = {
    "venue": "text", "event_key": "text", "account": "text", "block_number": "int8",
    "block_at": "timestamptz", "tx_hash": "text", "method": "text", "market": "text", "dex": "text",
    "quote": "text", "side": "text", "size": "numeric", "price": "numeric", "notional": "numeric",
    "notional_entry": "numeric", "mark_price": "numeric", "notional_mark": "numeric",
    "position_before": "numeric", "position_after": "numeric", "is_full_close": "bool",
    "fee": "numeric", "fee_asset": "text", "realised_pnl": "numeric", "margin_mode": "text",
    "order_id": "text", "counterparty": "text", "counterparty_kind": "text", "liquidator": "text",
    "account_is_protocol_vault": "bool", "legs_seen": "text", "decoder_version": "int4",
}  # fmt: skip


def _perp_rows(
    rows: Iterable[PerpLiquidation], times: Mapping[int, datetime]
) -> Iterable[tuple[object, ...]]:
    for row in rows:
        yield (
            row.venue, row.event_key, row.account, row.block_number, times[row.block_number],
            row.tx_hash, row.method, row.market, "", row.quote, row.side, row.size, row.price,
            row.notional, row.notional_entry, row.mark_price, row.notional_mark,
            row.position_before, row.position_after, row.is_full_close, row.fee,
            row.quote if row.fee is not None else None, row.realised_pnl, row.margin_mode,
            row.order_id, row.counterparty, row.counterparty_kind, row.liquidator, False,
            "liquidated", row.decoder_version,
        )  # fmt: skip


class Liquidations(NamedTuple):
    """Rows of a step, packed for `append_liquidations`; None where there is none of a kind."""

    lending: bytes | None
    perps: bytes | None


def pack_liquidations(
    connection: Connection, rows: Sequence[ChainRow], times: Mapping[int, datetime]
) -> Liquidations:
    """Liquidations of all kinds for `append_liquidations`."""
    lending, perps = _by_kind(rows)
    return Liquidations(
        _pack(connection, LENDING, _lending_rows(lending, times)) if lending else None,
        _pack(connection, PERP, _perp_rows(perps, times)) if perps else None,
    )


def _by_kind(rows: Iterable[ChainRow]) -> tuple[list[LendingLiquidation], list[PerpLiquidation]]:
    lending: list[LendingLiquidation] = []
    perps: list[PerpLiquidation] = []
    for row in rows:
        match row:
            case LendingLiquidation():
                lending.append(row)
            case PerpLiquidation():
                perps.append(row)
    return lending, perps


def append_liquidations(connection: Connection, packed: Liquidations) -> None:
    """Store liquidations of blocks that are covered for the first time."""
    if packed.lending is not None:
        _copy(connection, "ledger.lending_liquidation", LENDING, packed.lending)
    if packed.perps is not None:
        _copy(connection, "ledger.liquidation", PERP, packed.perps)


UNDECODED = {
    "venue": "text", "event_key": "text", "block_number": "int8", "block_at": "timestamptz",
    "reason": "text", "decoder_version": "int4", "missing_fact": "text", "missing_subject": "text",
}  # fmt: skip


def _undecoded_rows(
    rows: Iterable[UndecodedLog], times: Mapping[int, datetime]
) -> Iterable[tuple[object, ...]]:
    for row in rows:
        log, missing = row.log, row.missing
        yield (
            row.venue, log.event_key, log.block_number, times[log.block_number], row.reason,
            row.decoder_version, missing and missing.fact, missing and missing.subject,
        )  # fmt: skip


def append_undecoded(
    connection: Connection, rows: Sequence[UndecodedLog], times: Mapping[int, datetime]
) -> None:
    """Store events of blocks that are covered for the first time and that are no row yet."""
    if rows:
        _copy(connection, "ledger.undecoded", UNDECODED, _undecoded_rows(rows, times))


QUARANTINE = {
    "chain": "text", "event_key": "text", "block_number": "int8", "block_at": "timestamptz",
    "emitter": "text", "topic0": "text", "looks_like": "text[]",
}  # fmt: skip


def _quarantine_rows(
    rows: Iterable[Quarantined], times: Mapping[int, datetime]
) -> Iterable[tuple[object, ...]]:
    for row in rows:
        log = row.log
        yield (
            log.chain, log.event_key, log.block_number, times[log.block_number], log.address,
            log.topics[0], list(row.looks_like),
        )  # fmt: skip


def append_quarantine(
    connection: Connection, rows: Sequence[Quarantined], times: Mapping[int, datetime]
) -> None:
    """Store events of unknown contracts; another venue's reading may have met them before."""
    if not rows:
        return
    _stage(connection, "quarantine", QUARANTINE, _quarantine_rows(rows, times))
    connection.execute(
        "INSERT INTO ledger.quarantine SELECT * FROM staged_quarantine ON CONFLICT DO NOTHING"
    )
    connection.execute("TRUNCATE staged_quarantine")


def append_facts(connection: Connection, learnt: Iterable[tuple[Fact, int, str | None]]) -> None:
    """Store facts: (fact, the block it is known from, the event that taught it). The first stands,
    unless all it said was that there is none."""
    rows = [
        (fact.chain, fact.fact, fact.subject, fact.value, block_number, event_key)
        for fact, block_number, event_key in learnt
    ]
    if not rows:
        return
    with connection.cursor() as cursor:
        cursor.executemany(
            """
            INSERT INTO ledger.fact AS stored VALUES (%s, %s, %s, %s, %s, %s)
            ON CONFLICT (chain, fact, subject) DO UPDATE
            SET value = excluded.value, block_number = excluded.block_number,
                event_key = excluded.event_key
            WHERE stored.value IS NULL AND excluded.value IS NOT NULL
            """,
            rows,
        )


def known_assets(connection: Connection, chain: str) -> set[str]:
    """The addresses of the tokens that are described."""
    rows = connection.execute("SELECT address FROM ledger.asset WHERE chain = %s", (chain,))
    return {str(address) for (address,) in rows}


def append_assets(connection: Connection, tokens: Iterable[Token]) -> None:
    """Store what tokens say of themselves; the first description stands."""
    with connection.cursor() as cursor:
        cursor.executemany(
            """
            INSERT INTO ledger.asset (
                chain, address, symbol, name, symbol_raw, name_raw, decimals
            )
            VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING
            """,
            [
                (t.chain, t.address, t.symbol, t.name, t.symbol_raw, t.name_raw, t.decimals)
                for t in tokens
            ],
        )


def append_share_rates(connection: Connection, rates: Iterable[tuple[ShareRate, str]]) -> None:
    """Store what shares were worth at a block: (rate, hash of the block), if it is still ours."""
    with connection.cursor() as cursor:
        cursor.executemany(
            """
            INSERT INTO ledger.share_rate (
                chain, asset, block_number, underlying, shares_raw, assets_raw
            )
            SELECT chain, %s, block_number, %s, %s, %s
            FROM ledger.block WHERE (chain, block_number, hash) = (%s, %s, %s)
            ON CONFLICT DO NOTHING
            """,
            [
                (rate.asset, rate.underlying, rate.shares_raw, rate.assets_raw, rate.chain,
                 rate.block_number, block_hash)
                for rate, block_hash in rates
            ],
        )  # fmt: skip


# reading what is stored, to derive it again or to compare it


def stored_logs(
    connection: Connection, chain: str, block_from: int, block_to: int
) -> Iterator[tuple[Log, int, str | None, bool]]:
    """Raw logs of some blocks in order: (log, time of its block in seconds, venue, is_whole)."""
    with connection.cursor(binary=True) as cursor:
        cursor.execute(
            """
            SELECT r.block_number, b.hash, extract(epoch FROM b.block_at)::bigint, r.log_index,
                   r.venue, encode(r.tx_hash, 'hex'), encode(r.emitter, 'hex'),
                   encode(r.topics, 'hex'), encode(r.data, 'hex'), r.is_whole
            FROM ledger.raw_log r JOIN ledger.block b USING (chain, block_number)
            WHERE r.chain = %s AND r.block_number >= %s AND r.block_number < %s
            ORDER BY r.block_number, r.log_index
            """,
            (chain, block_from, block_to),
        )
        rows: Iterable[Any] = cursor
        for number, block_hash, at, index, venue, tx, emitter, topics, data, is_whole in rows:
            cut = tuple(["0x" + topics[i : i + 64] for i in range(0, len(topics), 64)])
            log = Log(chain, f"0x{emitter}", cut, f"0x{data}", number, block_hash, f"0x{tx}", index)
            yield log, at, venue, is_whole


def quarantined_keys(
    connection: Connection, chain: str, block_from: int, block_to: int
) -> set[str]:
    """The events of some blocks that are in quarantine."""
    rows = connection.execute(
        "SELECT event_key FROM ledger.quarantine"
        " WHERE chain = %s AND block_number >= %s AND block_number < %s",
        (chain, block_from, block_to),
    )
    return {str(key) for (key,) in rows}


def blocks_with_logs(
    connection: Connection, chain: str, block_from: int, block_to: int, logs: int
) -> int:
    """The end of a range from `block_from` on that holds about so many raw logs."""
    row = connection.execute(
        """
        SELECT block_number FROM ledger.raw_log
        WHERE chain = %s AND block_number >= %s AND block_number < %s
        ORDER BY block_number, log_index OFFSET %s LIMIT 1
        """,
        (chain, block_from, block_to, logs),
    ).fetchone()
    return block_to if row is None else int(str(row[0])) + 1


class Derived(NamedTuple):
    """All rows that the raw logs of some blocks give."""

    liquidations: Sequence[ChainRow]
    undecoded: Sequence[UndecodedLog]
    quarantined: Sequence[Quarantined]
    times: Mapping[int, datetime]


def replace(
    connection: Connection, chain: str, venues: Sequence[str], blocks: tuple[int, int], to: Derived
) -> int:
    """Make the stored rows of some venues in some blocks equal to what was derived again; gives
    the number of rows that changed, came or went."""
    values = _stage_derived(connection, chain, venues, blocks, to)
    return sum(connection.execute(statement, values).rowcount for statement in _REPLACE)


def differs(
    connection: Connection, chain: str, venues: Sequence[str], blocks: tuple[int, int], to: Derived
) -> bool:
    """Whether `replace` would change anything."""
    values = _stage_derived(connection, chain, venues, blocks, to)
    return any(
        connection.execute(f"SELECT {rows} LIMIT 1", values).fetchone() is not None
        for rows in _DIFFERENT
    )


def _stage_derived(
    connection: Connection, chain: str, venues: Sequence[str], blocks: tuple[int, int], to: Derived
) -> dict[str, Any]:
    lending, perps = _by_kind(to.liquidations)
    for table, columns, rows in (
        ("lending_liquidation", LENDING, _lending_rows(lending, to.times)),
        ("liquidation", PERP, _perp_rows(perps, to.times)),
        ("undecoded", UNDECODED, _undecoded_rows(to.undecoded, to.times)),
        ("quarantine", QUARANTINE, _quarantine_rows(to.quarantined, to.times)),
    ):
        _stage(connection, table, columns, rows, anew=True)
    values: dict[str, Any] = {
        "venues": list(venues), "chain": chain, "low": blocks[0], "high": blocks[1],
    }  # fmt: skip
    values["since"], values["until"] = connection.execute(
        "SELECT min(block_at), max(block_at) FROM ledger.block WHERE chain = %(chain)s"
        " AND block_number >= %(low)s AND block_number < %(high)s",
        values,
    ).fetchone()  # type: ignore[misc]
    return values


# What is stored and was not derived so, and what was derived and is not stored.
_OTHER_ROWS = """
    FROM ledger.{table} l
    WHERE venue = ANY(%(venues)s) AND block_at BETWEEN %(since)s AND %(until)s
      AND block_number >= %(low)s AND block_number < %(high)s
      AND NOT EXISTS (
        SELECT FROM staged_{table} s
        WHERE (s.account, s.venue, s.event_key) = (l.account, l.venue, l.event_key)
          AND ROW(s.*) IS NOT DISTINCT FROM ROW(l.*)
      )
    """
_NEW_ROWS = """
    FROM staged_{table} s
    LEFT JOIN ledger.{table} l USING (account, venue, event_key)
    WHERE l.venue IS NULL
    """
_OTHER_UNDECODED = """
    FROM ledger.undecoded u
    WHERE venue = ANY(%(venues)s) AND block_number >= %(low)s AND block_number < %(high)s
      AND NOT EXISTS (
        SELECT FROM staged_undecoded s
        WHERE (s.venue, s.event_key) = (u.venue, u.event_key)
          AND ROW(s.*) IS NOT DISTINCT FROM ROW(u.*)
      )
    """
_NEW_UNDECODED = """
    FROM staged_undecoded s
    LEFT JOIN ledger.undecoded u USING (venue, event_key)
    WHERE u.venue IS NULL
    """
_OTHER_QUARANTINE = """
    FROM ledger.quarantine q
    WHERE chain = %(chain)s AND block_number >= %(low)s AND block_number < %(high)s
      AND NOT EXISTS (
        SELECT FROM staged_quarantine s WHERE (s.chain, s.event_key) = (q.chain, q.event_key)
      )
    """
_NEW_QUARANTINE = """
    FROM staged_quarantine s
    LEFT JOIN ledger.quarantine q USING (chain, event_key)
    WHERE q.chain IS NULL
    """
_KINDS = ("lending_liquidation", "liquidation")
_REPLACE = (
    *(
        statement.replace("{table}", table)
        for table in _KINDS
        for statement in (
            f"DELETE {_OTHER_ROWS}", f"INSERT INTO ledger.{{table}} SELECT s.* {_NEW_ROWS}",
        )
    ),
    f"DELETE {_OTHER_UNDECODED}",
    f"INSERT INTO ledger.undecoded SELECT s.* {_NEW_UNDECODED} ON CONFLICT DO NOTHING",
    f"DELETE {_OTHER_QUARANTINE}",
    f"INSERT INTO ledger.quarantine SELECT s.* {_NEW_QUARANTINE} ON CONFLICT DO NOTHING",
)  # fmt: skip
_DIFFERENT = (
    *(rows.replace("{table}", table) for table in _KINDS for rows in (_OTHER_ROWS, _NEW_ROWS)),
    *(_OTHER_UNDECODED, _NEW_UNDECODED, _OTHER_QUARANTINE, _NEW_QUARANTINE),
)


def move_logs(connection: Connection, moved: Iterable[tuple[Log, str]]) -> None:
    """Give raw logs to a venue, whose the emitter turned out to be: (log, venue)."""
    with connection.cursor() as cursor:
        cursor.executemany(
            """
            WITH moved AS (
                UPDATE ledger.raw_log r SET venue = %s
                WHERE (chain, block_number, log_index) = (%s, %s, %s)
                RETURNING venue, block_number, ledger.log_digest(r) AS digest
            )
            UPDATE ledger.coverage c SET logs = c.logs + 1, digest = c.digest + moved.digest
            FROM moved WHERE c.venue = moved.venue AND c.blocks @> moved.block_number
            """,
            [(venue, log.chain, log.block_number, log.log_index) for log, venue in moved],
        )


class Waiting(NamedTuple):
    """An event that waits for a fact."""

    venue: str
    tx_hash: str
    block_number: int
    fact: str
    subject: str


def waiting(connection: Connection, chain: str) -> list[Waiting]:
    """The undecoded events of a chain that a fact would help."""
    rows: Iterable[Any] = connection.execute(
        """
        SELECT venue, left(event_key, 66), block_number, missing_fact, missing_subject
        FROM ledger.undecoded
        WHERE ledger.chain_of(venue) = %s AND missing_fact IS NOT NULL
        ORDER BY block_number, event_key
        """,
        (chain,),
    )
    return [Waiting(*row) for row in rows]
