"""Writes facts and coverage. Everything here runs inside the caller's transaction."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, get_args, get_type_hints

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

LEGS_AT_ONCE = 20_000


class Contradiction(NamedTuple):
    """A raw event that is stored with one body and was read with another. `is_sample` says that
    the stored one is of a sample."""

    event_key: str
    stored: str
    read: str
    stored_at: str
    is_sample: bool


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
    connection: Connection,
    events: Sequence[RawEvent],
    *,
    is_simulated: bool,
    is_sample: bool = False,
) -> list[Contradiction]:
    """Store raw events that are new; give back those that are stored with another body."""
    if not events:
        return []
    uris = sorted({event.source for event in events})
    sources = _source_ids(connection, uris, is_simulated, is_sample)
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
        SELECT staged.event_key, stored.body, staged.body, source.uri || ':' || stored.line,
               source.is_sample
        FROM staged_raw_event staged
        JOIN ledger.raw_event stored USING (chain, event_key)
        JOIN ledger.source ON source.source_id = stored.source_id
        WHERE stored.body <> staged.body
        ORDER BY 1
        """
    )
    return [Contradiction(*row) for row in differing]  # type: ignore[arg-type]


def replace_raw(connection: Connection, keys: Sequence[str]) -> None:
    """Put what was just read, and staged, in the place of what is stored under these keys."""
    if not keys:
        return
    connection.execute(
        """
        UPDATE ledger.raw_event stored
        SET body = staged.body, source_id = staged.source_id, line = staged.line,
            block_number = staged.block_number, block_at = staged.block_at
        FROM staged_raw_event staged
        WHERE (stored.chain, stored.event_key) = (staged.chain, staged.event_key)
          AND staged.event_key = ANY(%s)
        """,
        (list(keys),),
    )


def _source_ids(
    connection: Connection, uris: list[str], is_simulated: bool, is_sample: bool
) -> dict[str, int]:
    connection.execute(
        """
        INSERT INTO ledger.source (uri, is_simulated, is_sample)
        SELECT uri, %(is_simulated)s, %(is_sample)s FROM unnest(%(uris)s::text[]) AS uri
        WHERE NOT EXISTS (SELECT FROM ledger.source known WHERE known.uri = uri.uri)
        ON CONFLICT DO NOTHING
        """,
        {"uris": uris, "is_simulated": is_simulated, "is_sample": is_sample},
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


def unconfirmed(
    connection: Connection, chain: str, blocks: Sequence[tuple[int, int]], read: Iterable[str]
) -> list[RawEvent]:
    """Fills that samples told of some blocks, all but those under the keys that were read there."""
    if not blocks:
        return []
    rows = connection.execute(
        """
        SELECT chain, event_key, block_number, block_at, body, uri, line
        FROM unnest(%s::int8range[]) AS range
        JOIN ledger.raw_event ON chain = %s
            -- not <@, which no index on heights serves
            AND block_number >= lower(range) AND block_number < upper(range)
        JOIN ledger.source USING (source_id)
        WHERE is_sample AND event_key NOT LIKE 'ledger/%%' AND event_key <> ALL(%s)
        ORDER BY event_key
        """,
        ([Range(low, high) for low, high in blocks], chain, list(read)),
    )
    return [RawEvent(*row) for row in rows]  # type: ignore[arg-type]


def without_height(connection: Connection, chain: str) -> list[RawEvent]:
    """Fills that samples told and of which nothing names the block."""
    rows = connection.execute(
        """
        SELECT chain, event_key, block_number, block_at, body, uri, line
        FROM ledger.raw_event JOIN ledger.source USING (source_id)
        WHERE chain = %s AND block_number IS NULL AND is_sample
          AND event_key NOT LIKE 'ledger/%%'
        ORDER BY event_key
        """,
        (chain,),
    )
    return [RawEvent(*row) for row in rows]  # type: ignore[arg-type]


def legs_in_order(connection: Connection, chain: str) -> Iterator[RawEvent]:
    """All stored raw fills by their keys, so that the legs of a trade follow each other; as a
    stream, within the caller's transaction."""
    with connection.cursor(name="legs") as cursor:
        cursor.itersize = LEGS_AT_ONCE
        cursor.execute(
            """
            SELECT chain, event_key, block_number, block_at, body, uri, line
            FROM ledger.raw_event JOIN ledger.source USING (source_id)
            WHERE chain = %s AND event_key NOT LIKE 'ledger/%%'
            ORDER BY event_key
            """,
            (chain,),
        )
        for row in cursor:
            yield RawEvent(*row)  # type: ignore[arg-type]


def forget_staged(connection: Connection) -> None:
    """Empty the temporary rows of a transaction that goes on."""
    connection.execute(
        """
        CREATE TEMP TABLE IF NOT EXISTS staged_liquidation (LIKE ledger.liquidation)
            ON COMMIT DELETE ROWS;
        CREATE TEMP TABLE IF NOT EXISTS staged_undecoded (LIKE ledger.undecoded)
            ON COMMIT DELETE ROWS;
        TRUNCATE staged_liquidation, staged_undecoded
        """
    )


def now_decoded(connection: Connection, venue: str, keys: Sequence[str]) -> None:
    """Forget why single events were no rows: they have become legs of trades."""
    connection.execute(
        "DELETE FROM ledger.undecoded WHERE venue = %s AND event_key = ANY(%s)", (venue, list(keys))
    )


def decoded_by(connection: Connection, venue: str, facts: Facts, decoder_version: int) -> None:
    """Say that all rows of a venue are made by this version of its decoder."""
    connection.execute(
        "UPDATE ledger.coverage SET decoder_version = %s"
        " WHERE (venue, facts) = (%s, %s) AND decoder_version <> %s",
        (decoder_version, venue, facts, decoder_version),
    )


def stored_body(connection: Connection, chain: str, event_key: str) -> str | None:
    """The bytes of a stored raw event."""
    row = connection.execute(
        "SELECT body FROM ledger.raw_event WHERE (chain, event_key) = (%s, %s)", (chain, event_key)
    ).fetchone()
    return str(row[0]) if row else None


def was_read_at(connection: Connection, venue: str, at: datetime) -> bool:
    """Whether blocks before and after a time, or of it, were read whole with all between."""
    row = connection.execute(
        """
        SELECT EXISTS (
            SELECT FROM ledger.coverage
            WHERE venue = %s AND facts = 'liquidations' AND times && tstzrange(%s, %s)
        )
        """,
        (venue, at, at + timedelta(milliseconds=1)),
    ).fetchone()
    return bool(row and row[0])


def stored_at(connection: Connection, chain: str, at: datetime) -> list[RawEvent]:
    """The stored raw fills of a millisecond, by whichever source."""
    rows = connection.execute(
        """
        SELECT chain, event_key, block_number, block_at, body, uri, line
        FROM ledger.raw_event JOIN ledger.source USING (source_id)
        WHERE chain = %s AND block_at >= %s AND block_at < %s AND event_key NOT LIKE 'ledger/%%'
        """,
        (chain, at, at + timedelta(milliseconds=1)),
    )
    return [RawEvent(*row) for row in rows]  # type: ignore[arg-type]


def has_samples(connection: Connection) -> bool:
    """Whether any event came from a sample."""
    row = connection.execute("SELECT EXISTS (SELECT FROM ledger.source WHERE is_sample)").fetchone()
    return bool(row and row[0])


def withdraw(
    connection: Connection, venue: str, chain: str, events: Sequence[str], trades: Sequence[str]
) -> None:
    """Take events back, and what was made of their trades."""
    connection.execute(
        "DELETE FROM ledger.raw_event WHERE chain = %s AND event_key = ANY(%s)",
        (chain, list(events)),
    )
    keys = [*events, *trades]
    for table in ("liquidation", "undecoded"):
        connection.execute(
            sql.SQL("DELETE FROM {} WHERE venue = %s AND event_key = ANY(%s)").format(
                sql.Identifier("ledger", table)
            ),
            (venue, keys),
        )


# What a row without it may get from a later one: no key, and unknown from some legs or sources.
_FILLED_IN = tuple(
    column
    for column, kind in get_type_hints(Liquidation).items()
    if type(None) in get_args(kind) and column != "block_number"
)


def append_liquidations(connection: Connection, rows: Sequence[Liquidation]) -> None:
    """Store liquidations; a row stands until one from more legs or by a newer decoder comes. One
    by the same decoder never takes away what was known; it says what was not."""
    if not rows:
        return
    columns = Liquidation.__struct_fields__
    _stage(connection, "liquidation", columns, map(msgspec.structs.astuple, rows))
    connection.execute(
        sql.SQL(
            """
            INSERT INTO ledger.liquidation AS stored SELECT * FROM staged_liquidation
            ON CONFLICT (account, venue, event_key) DO UPDATE SET {values}
            WHERE excluded.decoder_version > stored.decoder_version
               OR excluded.decoder_version = stored.decoder_version
              AND ((excluded.legs_seen = 'both') > (stored.legs_seen = 'both')
                OR stored.legs_seen IN ('both', excluded.legs_seen)
               AND (({says_more}) OR {finer} > stored.block_at))
            """
        ).format(
            values=sql.SQL(", ").join(map(_value, columns)),
            says_more=sql.SQL(" OR ").join(
                sql.SQL("stored.{0} IS NULL AND excluded.{0} IS NOT NULL").format(
                    sql.Identifier(column)
                )
                for column in _FILLED_IN
            ),
            finer=sql.SQL(_FINER),
        )
    )
    connection.execute(
        """
        DELETE FROM ledger.undecoded u USING staged_liquidation l
        WHERE l.venue = u.venue AND l.event_key = u.event_key
        """
    )


# Fills tell the time of their block to the millisecond, cut; lines of blocks to the microsecond.
_FINER = """CASE WHEN date_trunc('milliseconds', excluded.block_at)
                     = date_trunc('milliseconds', stored.block_at)
                 THEN greatest(excluded.block_at, stored.block_at) ELSE stored.block_at END"""


def _value(column: str) -> sql.Composed:
    """What a column of a stored row becomes; a newer decoder may take back what an older said."""
    if column == "block_at":
        return sql.SQL(
            "block_at = CASE WHEN excluded.decoder_version > stored.decoder_version"
            f" THEN excluded.block_at ELSE {_FINER} END"
        ).format()
    may_fill = column in _FILLED_IN
    more = "coalesce(excluded.{0}, stored.{0})" if may_fill else "excluded.{0}"
    same = "coalesce(stored.{0}, excluded.{0})" if may_fill else "stored.{0}"
    return sql.SQL(
        f"{{0}} = CASE WHEN excluded.decoder_version > stored.decoder_version THEN excluded.{{0}}"
        f" WHEN (excluded.legs_seen = 'both') > (stored.legs_seen = 'both') THEN {more}"
        f" ELSE {same} END"
    ).format(sql.Identifier(column))


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


def sampled(
    connection: Connection,
    venue: str,
    source: str,
    account: str | None,
    since: datetime,
    until: datetime,
    *,
    lacks: str | None = None,
) -> None:
    """Note that a sample was taken of a time, joined with what touches it and lacks the same."""
    times = Range(since, max(since, until), "[]")
    joined = connection.execute(
        """
        DELETE FROM ledger.sample
        WHERE (venue, source) = (%s, %s) AND account IS NOT DISTINCT FROM %s
          AND lacks IS NOT DISTINCT FROM %s AND times && %s
        RETURNING lower(times), upper(times)
        """,
        (venue, source, account, lacks, times),
    ).fetchall()
    for low, high in joined:
        since, until = min(since, low), max(until, high)  # type: ignore[call-overload]
    connection.execute(
        "INSERT INTO ledger.sample (venue, source, account, times, lacks)"
        " VALUES (%s, %s, %s, %s, %s)",
        (venue, source, account, Range(since, max(since, until), "[]"), lacks),
    )


def sampled_until(
    connection: Connection, venue: str, source: str, accounts: Sequence[str]
) -> dict[str, datetime]:
    """Up to when samples of accounts were taken from a source."""
    rows = connection.execute(
        """
        SELECT account, max(upper(times)) FROM ledger.sample
        WHERE (venue, source) = (%s, %s) AND account = ANY(%s) GROUP BY account
        """,
        (venue, source, list(accounts)),
    )
    return {str(account): at for account, at in rows}  # type: ignore[misc]


def unread(connection: Connection, venue: str) -> list[tuple[datetime, datetime]]:
    """Times between two runs of blocks that were read whole for their liquidations, and between
    two times that a sample of all accounts was taken from one source."""
    rows = connection.execute(
        """
        SELECT after_at, before_at FROM liq.missing
        WHERE venue = %(venue)s AND facts = 'liquidations'
        UNION
        SELECT upper(times), next_at
        FROM (
            SELECT times, lead(lower(times)) OVER (PARTITION BY source ORDER BY times) AS next_at
            FROM ledger.sample WHERE venue = %(venue)s AND account IS NULL
        ) heard
        WHERE next_at > upper(times)
        ORDER BY 1, 2
        """,
        {"venue": venue},
    )
    return list(rows)  # type: ignore[arg-type]


def liquidated_between(
    connection: Connection, venue: str, low: datetime, high: datetime
) -> list[str]:
    """Whoever was liquidated between two times."""
    rows = connection.execute(
        "SELECT DISTINCT account FROM ledger.liquidation"
        " WHERE venue = %s AND block_at BETWEEN %s AND %s ORDER BY 1",
        (venue, low, high),
    )
    return [str(account) for (account,) in rows]
