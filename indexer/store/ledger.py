"""Writes facts and coverage. Everything here runs inside the caller's transaction."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec
import psycopg
from psycopg import sql
from psycopg.types.range import Range

from indexer.errors import Fenced
from indexer.model import (
    AccountDay,
    CoveredBlocks,
    Facts,
    LedgerLiquidation,
    Liquidation,
    MarketMinute,
    ProtocolVault,
    RawEvent,
    Undecoded,
)
from indexer.store.database import Connection


class Contradiction(NamedTuple):
    """A raw event that is stored with one body and was read with another."""

    event_key: str
    stored: str
    read: str
    stored_at: str


def covered(connection: Connection, venue: str, facts: Facts) -> list[tuple[int, int]]:
    """The covered heights as half-open ranges, in order, none touching the next."""
    rows = connection.execute(
        """
        SELECT lower(run), upper(run)
        FROM (
            SELECT unnest(range_agg(blocks)) AS run
            FROM ledger.coverage WHERE venue = %s AND facts = %s
        ) runs
        ORDER BY 1
        """,
        (venue, facts),
    )
    return [(int(low), int(high)) for low, high in rows]  # type: ignore[call-overload]


def covered_until(connection: Connection, venue: str) -> datetime | None:
    """The time of the last covered block of a venue."""
    row = connection.execute(
        "SELECT max(upper(times)) FROM ledger.coverage WHERE venue = %s", (venue,)
    ).fetchone()
    return row[0] if row else None  # type: ignore[return-value]


def cover(
    connection: Connection,
    venue: str,
    facts: Facts,
    blocks: Iterable[CoveredBlocks],
    decoder_version: int,
) -> None:
    """Record blocks as read whole, joined with the neighbours that were read equally well.

    Raises Fenced when another process covered one of them since the caller looked.
    """
    for piece in blocks:
        low, high, first_at, last_at = (
            piece.block_from, piece.block_to, piece.first_at, piece.last_at,
        )  # fmt: skip
        neighbours = connection.execute(
            """
            DELETE FROM ledger.coverage
            WHERE venue = %s AND facts = %s AND blocks -|- %s
              AND verification = %s AND decoder_version = %s
            RETURNING lower(blocks), upper(blocks), lower(times), upper(times)
            """,
            (venue, facts, Range(low, high), piece.verification, decoder_version),
        ).fetchall()
        for n_low, n_high, n_first, n_last in neighbours:
            low, high = min(low, n_low), max(high, n_high)  # type: ignore[call-overload]
            first_at, last_at = min(first_at, n_first), max(last_at, n_last)  # type: ignore[call-overload]
        try:
            connection.execute(
                """
                INSERT INTO ledger.coverage
                    (venue, facts, blocks, times, verification, decoder_version)
                VALUES (%s, %s, %s, %s, %s, %s)
                """,
                (
                    venue, facts, Range(low, high), Range(first_at, last_at, "[]"),
                    piece.verification, decoder_version,
                ),
            )  # fmt: skip
        except psycopg.errors.ExclusionViolation as error:
            raise Fenced(f"{venue}: blocks {low} to {high} were covered meanwhile") from error


def append_raw(
    connection: Connection, events: Sequence[RawEvent], *, is_simulated: bool
) -> list[Contradiction]:
    """Store raw events that are new; give back those that are stored with another body."""
    if not events:
        return []
    sources = _source_ids(connection, sorted({event.source for event in events}), is_simulated)
    rows = (
        (e.chain, e.event_key, e.block_number, e.block_at, e.body, sources[e.source], e.line)
        for e in events
    )
    columns = ("chain", "event_key", "block_number", "block_at", "body", "source_id", "line")
    _stage(connection, "raw_event", columns, rows)
    inserted = connection.execute(
        """
        INSERT INTO ledger.raw_event SELECT * FROM staged_raw_event
        ON CONFLICT (chain, event_key) DO NOTHING
        """
    ).rowcount
    if inserted == len(events):
        return []
    differing = connection.execute(
        """
        SELECT staged.event_key, stored.body, staged.body, source.uri || ':' || stored.line
        FROM staged_raw_event staged
        JOIN ledger.raw_event stored USING (chain, event_key)
        JOIN ledger.source ON source.source_id = stored.source_id
        WHERE stored.body <> staged.body
        ORDER BY 1
        """
    )
    return [Contradiction(*map(str, row)) for row in differing]


def _source_ids(connection: Connection, uris: list[str], is_simulated: bool) -> dict[str, int]:
    connection.execute(
        """
        INSERT INTO ledger.source (uri, is_simulated)
        SELECT uri, %(is_simulated)s FROM unnest(%(uris)s::text[]) AS uri
        WHERE NOT EXISTS (SELECT FROM ledger.source known WHERE known.uri = uri.uri)
        ON CONFLICT DO NOTHING
        """,
        {"uris": uris, "is_simulated": is_simulated},
    )
    rows = connection.execute(
        "SELECT uri, source_id FROM ledger.source WHERE uri = ANY(%s)", (uris,)
    )
    return {str(uri): int(number) for uri, number in rows}  # type: ignore[call-overload]


def _stage(
    connection: Connection, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]
) -> None:
    """COPY rows into a temporary twin of a ledger table; it empties itself at commit."""
    connection.execute(
        sql.SQL(
            "CREATE TEMP TABLE IF NOT EXISTS {staged} (LIKE ledger.{table}) ON COMMIT DELETE ROWS"
        ).format(staged=sql.Identifier(f"staged_{table}"), table=sql.Identifier(table))
    )
    copy = sql.SQL("COPY {staged} ({columns}) FROM STDIN").format(
        staged=sql.Identifier(f"staged_{table}"),
        columns=sql.SQL(", ").join(map(sql.Identifier, columns)),
    )
    with connection.cursor() as cursor, cursor.copy(copy) as stream:
        for row in rows:
            stream.write_row(row)


def stored_marks(
    connection: Connection, chain: str, blocks: Sequence[tuple[int, int]]
) -> dict[int, int]:
    """How many marked events are stored for each block of some ranges; none means no entry."""
    rows = connection.execute(
        """
        SELECT block_number, count(*)
        FROM ledger.raw_event
        WHERE chain = %s AND event_key NOT LIKE 'ledger/%%'
          AND block_number::bigint <@ ANY(%s::int8range[])
        GROUP BY 1
        """,
        (chain, [Range(low, high) for low, high in blocks]),
    )
    return {int(number): int(count) for number, count in rows}  # type: ignore[call-overload]


def stored_under(connection: Connection, chain: str, prefixes: Sequence[str]) -> list[RawEvent]:
    """The stored raw events whose key begins with one of the prefixes and a slash."""
    rows = connection.execute(
        """
        SELECT chain, event_key, block_number, block_at, body, uri, line
        FROM unnest(%s::text[]) AS prefix
        JOIN ledger.raw_event ON chain = %s
            -- '0' is the character after '/': all keys below the prefix, by the primary key
            AND event_key >= prefix || '/' COLLATE "C" AND event_key < prefix || '0' COLLATE "C"
        JOIN ledger.source USING (source_id)
        ORDER BY event_key
        """,
        (list(prefixes), chain),
    )
    return [RawEvent(*row) for row in rows]  # type: ignore[arg-type]


def append_liquidations(connection: Connection, rows: Sequence[Liquidation]) -> None:
    """Store liquidations; a row stands until one from more legs or by a newer decoder comes."""
    if not rows:
        return
    columns = Liquidation.__struct_fields__
    _stage(connection, "liquidation", columns, map(msgspec.structs.astuple, rows))
    replaced = sql.SQL(", ").join(
        sql.SQL("{0} = excluded.{0}").format(sql.Identifier(column)) for column in columns
    )
    connection.execute(
        sql.SQL(
            """
            INSERT INTO ledger.liquidation AS stored SELECT * FROM staged_liquidation
            ON CONFLICT (account, venue, event_key) DO UPDATE SET {replaced}
            WHERE (excluded.legs_seen = 'both') > (stored.legs_seen = 'both')
               OR excluded.decoder_version > stored.decoder_version
            """
        ).format(replaced=replaced)
    )
    connection.execute(
        """
        DELETE FROM ledger.undecoded u USING staged_liquidation l
        WHERE l.venue = u.venue AND l.event_key = u.event_key
        """
    )


def append_ledger(connection: Connection, rows: Sequence[LedgerLiquidation]) -> None:
    """Store the exchange ledger's liquidations; the first publication stands."""
    if not rows:
        return
    columns = LedgerLiquidation.__struct_fields__
    _stage(connection, "ledger_liquidation", columns, map(msgspec.structs.astuple, rows))
    connection.execute(
        """
        INSERT INTO ledger.ledger_liquidation (
            venue, event_key, account, tx_hash, block_number, block_at, account_value,
            margin_mode, notional_mark, positions
        )
        SELECT venue, event_key, account, tx_hash, block_number, block_at, account_value,
               margin_mode, notional_mark, positions
        FROM staged_ledger_liquidation
        ON CONFLICT DO NOTHING
        """
    )


def append_undecoded(connection: Connection, rows: Sequence[Undecoded]) -> None:
    """Store what could not be decoded; a trade that cannot be decoded has no liquidation."""
    if not rows:
        return
    _stage(connection, "undecoded", Undecoded.__struct_fields__, map(msgspec.structs.astuple, rows))
    connection.execute(
        """
        INSERT INTO ledger.undecoded SELECT * FROM staged_undecoded
        ON CONFLICT (venue, event_key) DO UPDATE
        SET reason = excluded.reason, decoder_version = excluded.decoder_version
        """
    )
    connection.execute(
        """
        DELETE FROM ledger.liquidation l USING staged_undecoded u
        WHERE l.venue = u.venue AND l.event_key = u.event_key
        """
    )


def add_account_days(connection: Connection, rows: Sequence[AccountDay]) -> None:
    """Add sums of newly covered blocks. In key order, so that two writers cannot deadlock."""
    if not rows:
        return
    columns = AccountDay.__struct_fields__
    staged = ((*msgspec.structs.astuple(row)[:-1], list(row.maker_markets)) for row in rows)
    _stage(connection, "account_day", columns, staged)
    connection.execute(
        """
        INSERT INTO ledger.account_day AS stored
        SELECT * FROM staged_account_day ORDER BY account, venue, day, quote
        ON CONFLICT (account, venue, day, quote) DO UPDATE SET
            fills = stored.fills + excluded.fills,
            other_fills = stored.other_fills + excluded.other_fills,
            volume = stored.volume + excluded.volume,
            realised_pnl = stored.realised_pnl + excluded.realised_pnl,
            largest_position = greatest(stored.largest_position, excluded.largest_position),
            largest_position_market = CASE
                WHEN excluded.largest_position > stored.largest_position
                    THEN excluded.largest_position_market
                WHEN excluded.largest_position < stored.largest_position
                    THEN stored.largest_position_market
                ELSE least(excluded.largest_position_market, stored.largest_position_market)
            END,
            -- unknown, as of days that were counted before these columns were there, stays so
            maker_bought = stored.maker_bought + excluded.maker_bought,
            maker_sold = stored.maker_sold + excluded.maker_sold,
            maker_markets = CASE WHEN stored.maker_markets @> excluded.maker_markets
                THEN stored.maker_markets
                ELSE ledger.united(stored.maker_markets, excluded.maker_markets) END
        """
    )


def add_market_minutes(connection: Connection, rows: Sequence[MarketMinute]) -> None:
    """Add last trades of newly covered blocks: the one in the highest block stands, in whatever
    order they come. In key order, so that two writers cannot deadlock."""
    if not rows:
        return
    columns = MarketMinute.__struct_fields__
    _stage(connection, "market_minute", columns, map(msgspec.structs.astuple, rows))
    connection.execute(
        """
        INSERT INTO ledger.market_minute AS stored
        SELECT * FROM staged_market_minute ORDER BY venue, market, minute
        ON CONFLICT (venue, market, minute) DO UPDATE SET
            token = excluded.token,
            quote = excluded.quote,
            last_price = excluded.last_price,
            last_at = excluded.last_at,
            last_block = excluded.last_block
        WHERE excluded.last_block > stored.last_block
        """
    )


def keep_vaults(connection: Connection, venue: str, vaults: Sequence[ProtocolVault]) -> None:
    """Make the table of protocol vaults equal to the list in the code."""
    with connection.transaction():
        for vault in vaults:
            connection.execute(
                """
                INSERT INTO ledger.protocol_vault
                    (venue, account, name, valid_from, valid_to, source)
                VALUES (%s, %s, %s, %s, %s, %s)
                ON CONFLICT (venue, account) DO UPDATE SET
                    name = excluded.name, valid_from = excluded.valid_from,
                    valid_to = excluded.valid_to, source = excluded.source
                WHERE protocol_vault IS DISTINCT FROM excluded
                """,
                (venue, *msgspec.structs.astuple(vault)),
            )
