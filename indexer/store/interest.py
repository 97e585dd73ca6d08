"""Open interest of markets: files of a day, whole or not at all, and what the exchange said."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from psycopg.rows import class_row

from indexer.errors import ConfigError
from indexer.interest import Observation
from indexer.price_files import BadLine
from indexer.store.database import Connection

SHOWN = 5  # bad lines in a message


class Imported(NamedTuple):
    """What a file has: a UTC day, how many lines, each once, and of how many markets; `again` are
    lines that it has twice. `is_new` says whether it was not imported before."""

    day: date
    observations: int
    markets: int
    again: int
    is_new: bool


class Hole(NamedTuple):
    """A time of an imported day of which no file has any market."""

    after_at: datetime
    before_at: datetime


class Day(NamedTuple):
    """A day of which files were imported; `minutes_missing` are in none of them."""

    venue: str
    day: date
    minutes: int
    minutes_missing: int
    markets: int
    sources: list[str]
    imported_at: datetime


def days(connection: Connection) -> list[Day]:
    """All of them, in order."""
    with connection.cursor(row_factory=class_row(Day)) as cursor:
        return cursor.execute("SELECT * FROM liq.open_interest_days ORDER BY venue, day").fetchall()


def import_file(
    connection: Connection,
    venue: str,
    uri: str,
    lines: Iterable[Observation | BadLine],
    sha256: Callable[[], str],
    *,
    replace: bool = False,
) -> Imported:
    """Import the lines of a file, in one transaction; `sha256` gives the hash of them once they are
    read. A file that was imported stays as it is.

    Raises ConfigError, and imports nothing, where a line is broken and where two lines, or a line
    and another source, contradict each other; with `replace` the file is right about others."""
    with connection.transaction():
        # two imports of one day, one after the other
        connection.execute("LOCK TABLE ledger.interest_file IN SHARE ROW EXCLUSIVE MODE")
        lines_read = _stage(connection, uri, lines)
        _refuse(connection, uri, _CONTRADICTING, {})
        counted: Any = connection.execute(_COUNTED).fetchone()
        day, observations, markets = counted
        if day is None:
            raise ConfigError(f"{uri}: there is no open interest in it")
        found = Imported(day, observations, markets, lines_read - observations, is_new=False)
        values = {"venue": venue, "uri": uri, "sha256": sha256(), **found._asdict()}
        if connection.execute(_STORED, values).fetchone() is not None:
            return found
        if not replace:
            _refuse(connection, uri, _OTHERWISE, values)
        connection.execute(_STORE, values)
        return found._replace(is_new=True)


def _stage(connection: Connection, uri: str, lines: Iterable[Observation | BadLine]) -> int:
    """COPY the observations into a temporary table as they are read; gives their number."""
    connection.execute(
        """
        CREATE TEMP TABLE IF NOT EXISTS staged_interest (
            line bigint, market text COLLATE "C", at timestamptz, open_interest numeric
        ) ON COMMIT DELETE ROWS;
        TRUNCATE staged_interest
        """
    )
    bad: list[BadLine] = []
    with (
        connection.cursor() as cursor,
        cursor.copy(
            "COPY staged_interest (line, market, at, open_interest) FROM STDIN (FORMAT BINARY)"
        ) as stream,
    ):
        stream.set_types(["int8", "text", "timestamptz", "numeric"])
        number = 0
        for one in _good(lines, bad):
            stream.write_row(one)
            number += 1
    _raise(uri, len(bad), bad[:SHOWN])
    return number


def _good(lines: Iterable[Observation | BadLine], bad: list[BadLine]) -> Iterator[Observation]:
    for line in lines:
        if isinstance(line, BadLine):
            bad.append(line)
        else:
            yield line


def _refuse(connection: Connection, uri: str, query: str, values: Mapping[str, object]) -> None:
    found: Any = connection.execute(query, values).fetchall()
    _raise(uri, len(found), [BadLine(*line) for line in found[:SHOWN]])


def _raise(uri: str, count: int, first: list[BadLine]) -> None:
    """Raises ConfigError unless there is nothing bad."""
    if count:
        rest = f"; and {count - len(first)} more" if count > len(first) else ""
        raise ConfigError(
            f"{uri}: nothing was imported, bad lines: {count}: {'; '.join(map(str, first))}{rest}"
        )


_CONTRADICTING = """
    SELECT max(line), format('%%s has another open interest at that time than in line %%s',
                             market, min(line))
    FROM staged_interest
    GROUP BY market, at HAVING count(DISTINCT open_interest) > 1 ORDER BY 1
"""
_OTHERWISE = """
    SELECT min(s.line), format('%%s has another open interest at that time in %%s',
                               s.market, o.source)
    FROM staged_interest s
    JOIN liq.open_interest o ON (o.venue, o.market, o.at) = (%(venue)s, s.market, s.at)
    WHERE o.open_interest <> s.open_interest
    GROUP BY s.market, o.source ORDER BY 1
"""
_COUNTED = """
    SELECT min(at AT TIME ZONE 'UTC')::date, count(DISTINCT (market, at)), count(DISTINCT market)
    FROM staged_interest
"""
_STORED = "SELECT FROM ledger.interest_file WHERE (venue, sha256) = (%(venue)s, %(sha256)s)"
_STORE = """
    WITH file AS (
        INSERT INTO ledger.interest_file
            (venue, uri, sha256, day, missing, markets, observations)
        SELECT %(venue)s, %(uri)s, %(sha256)s, %(day)s,
               tstzmultirange(tstzrange(whole.begin_at, whole.begin_at + interval '1 day'))
                   - seen.minutes,
               %(markets)s, %(observations)s
        FROM (SELECT %(day)s::timestamp AT TIME ZONE 'UTC' AS begin_at) whole
        CROSS JOIN (
            SELECT range_agg(tstzrange(minute, minute + interval '1 minute')) AS minutes
            FROM (SELECT DISTINCT date_trunc('minute', at, 'UTC') AS minute FROM staged_interest) m
        ) seen
        RETURNING file_id
    )
    INSERT INTO ledger.open_interest AS stored (venue, market, at, open_interest, file_id)
    SELECT %(venue)s, s.market, s.at, min(s.open_interest), file.file_id
    FROM staged_interest s CROSS JOIN file
    GROUP BY s.market, s.at, file.file_id
    ON CONFLICT (venue, market, at) DO UPDATE
    SET open_interest = excluded.open_interest, file_id = excluded.file_id
    WHERE stored.open_interest <> excluded.open_interest
"""


def holes(connection: Connection, venue: str, day: date) -> list[Hole]:
    """What no imported file of a day has, in order."""
    with connection.cursor(row_factory=class_row(Hole)) as cursor:
        return cursor.execute(
            "SELECT after_at, before_at FROM liq.open_interest_missing"
            " WHERE (venue, day) = (%s, %s) ORDER BY after_at",
            (venue, day),
        ).fetchall()


def append(connection: Connection, venue: str, at: datetime, said: Mapping[str, Decimal]) -> None:
    """Store what the exchange said of its markets at a moment."""
    connection.execute(
        "INSERT INTO ledger.open_interest (venue, market, at, open_interest)"
        " SELECT %s, market, %s, open_interest"
        " FROM unnest(%s::text[], %s::numeric[]) AS said (market, open_interest)"
        " ON CONFLICT DO NOTHING",
        (venue, at, list(said), list(said.values())),
    )
