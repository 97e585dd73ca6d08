"""Imports a user's price files: each is a price source of its own, taken whole or not at all."""

import hashlib
from collections.abc import Collection, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from psycopg.errors import CheckViolation

from indexer.errors import ConfigError
from indexer.price_files import BadLine, Point, read
from indexer.store.database import Connection

SHOWN = 5  # bad lines in a message


def import_file(
    connection: Connection,
    path: Path,
    name: str,
    *,
    chains: Collection[str],
    max_age: timedelta,
    replace: bool = False,
    chain: str | None = None,
) -> int:
    """Import a file as the source `file:NAME`; gives the number of its points, without those that
    are in it twice. `chains` are those that there are, `chain` is that of assets which name none.
    No row has to name a token yet. Values follow with the next pass.

    Raises ConfigError, and imports nothing, where a line is no price of a token on one of the
    chains, where two lines contradict each other, and where the name stands for something else
    already."""
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    with connection.transaction():
        # two imports of one name, one after the other
        connection.execute("LOCK TABLE ledger.price_file IN SHARE ROW EXCLUSIVE MODE")
        stored = connection.execute(
            "SELECT points FROM ledger.price_file WHERE (name, sha256, max_age) = (%s, %s, %s)",
            (name, sha256, max_age),
        ).fetchone()
        if stored is not None:
            return int(str(stored[0]))
        _make_way(connection, name, replace=replace)
        _stage(connection, path, chain)
        _check(connection, path, chains)
        return _store(connection, path, name, sha256, max_age)


def _make_way(connection: Connection, name: str, *, replace: bool) -> None:
    taken = connection.execute(
        "SELECT uri FROM ledger.price_file WHERE name = %s", (name,)
    ).fetchone()
    if taken is None:
        return
    if not replace:
        raise ConfigError(
            f"{name} was imported from {taken[0]} with other content or another greatest age;"
            " choose another name, or replace it"
        )
    connection.execute("DELETE FROM ledger.price_file WHERE name = %s", (name,))


def _stage(connection: Connection, path: Path, chain: str | None) -> None:
    """COPY the points into a temporary table as they are read."""
    connection.execute(
        """
        CREATE TEMP TABLE IF NOT EXISTS staged_price_point (
            line bigint, chain text, asset text, at timestamptz, usd numeric
        ) ON COMMIT DELETE ROWS;
        TRUNCATE staged_price_point
        """
    )
    bad: list[BadLine] = []
    with (
        connection.cursor() as cursor,
        cursor.copy(
            "COPY staged_price_point (line, chain, asset, at, usd) FROM STDIN (FORMAT BINARY)"
        ) as stream,
    ):
        stream.set_types(["int8", "text", "text", "timestamptz", "numeric"])
        for point in _good(read(path, chain), bad):
            stream.write_row(point)
    _refuse(path, len(bad), bad[:SHOWN])


def _good(lines: Iterator[Point | BadLine], bad: list[BadLine]) -> Iterator[Point]:
    for line in lines:
        if isinstance(line, BadLine):
            bad.append(line)
        else:
            yield line


def _check(connection: Connection, path: Path, chains: Collection[str]) -> None:
    if connection.execute("SELECT FROM staged_price_point LIMIT 1").fetchone() is None:
        raise ConfigError(f"{path}: there is no price in it")
    for query in (_NO_CHAIN, _NO_NAME, _CONTRADICTING):
        found: Any = connection.execute(query, {"chains": list(chains)}).fetchall()
        _refuse(path, len(found), [BadLine(*line) for line in found[:SHOWN]])


def _refuse(path: Path, count: int, first: list[BadLine]) -> None:
    """Raises ConfigError unless there is nothing bad."""
    if count:
        rest = f"; and {count - len(first)} more" if count > len(first) else ""
        raise ConfigError(
            f"{path}: nothing was imported, bad lines: {count}: {'; '.join(map(str, first))}{rest}"
        )


_NO_CHAIN = """
    SELECT min(line), format('%%s is no chain that we know', chain)
    FROM staged_price_point
    WHERE chain <> ALL (%(chains)s)
    GROUP BY chain ORDER BY 1
"""
# An address that no row has met may be in one tomorrow; a name that none has is a slip of the pen.
_NO_NAME = """
    SELECT min(line), format('%%s is no quote token of %%s', asset, chain)
    FROM staged_price_point p
    WHERE chain = 'hyperliquid' AND NOT liq.at_par(asset)
      AND NOT EXISTS (SELECT FROM ledger.liquidation WHERE quote = p.asset)
    GROUP BY chain, asset ORDER BY 1
"""
_CONTRADICTING = """
    SELECT max(line), format(
        '%%s has another price at that time than in line %%s', asset, min(line)
    )
    FROM staged_price_point
    GROUP BY chain, asset, at HAVING count(DISTINCT usd) > 1 ORDER BY 1
"""


def _store(connection: Connection, path: Path, name: str, sha256: str, max_age: timedelta) -> int:
    try:
        connection.execute(
            "INSERT INTO ledger.price_file (name, uri, sha256, max_age, points)"
            " SELECT %s, %s, %s, %s, count(DISTINCT (chain, asset, at)) FROM staged_price_point",
            (name, str(path), sha256, max_age),
        )
    except CheckViolation:
        raise ConfigError(
            f"{name!r} with a greatest age of {max_age}: a name has small letters, digits, - and"
            " _, and the age is above 0"
        ) from None
    return connection.execute(
        "INSERT INTO ledger.price_point (name, chain, asset, at, usd)"
        " SELECT DISTINCT ON (chain, asset, at) %s, chain, asset, at, usd FROM staged_price_point"
        " ORDER BY chain, asset, at, line",
        (name,),
    ).rowcount


def unmet(connection: Connection, name: str) -> tuple[int, list[str]]:
    """How many assets a file names, and those that are in no row yet, as `chain:asset`."""
    found: Any = connection.execute(
        """
        SELECT count(*), coalesce(array_agg(chain || ':' || asset ORDER BY chain, asset) FILTER (
            WHERE NOT CASE WHEN chain = 'hyperliquid'
                THEN EXISTS (SELECT FROM ledger.liquidation WHERE quote = p.asset)
                ELSE EXISTS (SELECT FROM ledger.asset a
                             WHERE (a.chain, a.address) = (p.chain, p.asset)) END
        ), '{}')
        FROM (SELECT DISTINCT chain, asset FROM ledger.price_point WHERE name = %s) p
        """,
        (name,),
    ).fetchone()
    return found[0], found[1]
