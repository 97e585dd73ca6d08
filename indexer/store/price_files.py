"""Imports a user's price files: each is a price source of its own, taken whole or not at all."""

import hashlib
from collections.abc import Collection
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

from psycopg import sql
from psycopg.errors import CheckViolation

from indexer.errors import ConfigError
from indexer.price_files import BadLine, read
from indexer.store.database import Connection

SHOWN = 5  # faults of a kind in a message


class Imported(NamedTuple):
    """How many points a source has, and how many lines only said again what one before them says,
    with the first of them; of a file that was there already nobody counts them once more."""

    points: int
    repeats: int = 0
    first_repeats: tuple[int, ...] = ()


def import_file(
    connection: Connection,
    path: Path,
    name: str,
    *,
    chains: Collection[str],
    max_age: timedelta,
    replace: bool = False,
    chain: str | None = None,
) -> Imported:
    """Import a file as the source `file:NAME`. `chains` are those that there are, `chain` is that
    of assets which name none. No row has to name a token yet. Values follow with the next pass.

    Raises ConfigError, and imports nothing, where lines are no price of a token on one of the
    chains or contradict each other, with all of these faults at once, and where the name stands
    for something else already."""
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
            return Imported(int(str(stored[0])))
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
    """COPY the lines into a temporary table as they are read, bad ones with what they name."""
    connection.execute(
        """
        CREATE TEMP TABLE IF NOT EXISTS staged_price_point (
            line bigint, chain text, asset text, at timestamptz, usd numeric, fault text
        ) ON COMMIT DELETE ROWS;
        TRUNCATE staged_price_point
        """
    )
    with (
        connection.cursor() as cursor,
        cursor.copy(
            "COPY staged_price_point (line, chain, asset, at, usd, fault)"
            " FROM STDIN (FORMAT BINARY)"
        ) as stream,
    ):
        stream.set_types(["int8", "text", "text", "timestamptz", "numeric", "text"])
        for one in read(path, chain):
            stream.write_row(
                (one.line, one.chain, one.asset, None, None, one.what)
                if isinstance(one, BadLine)
                else (*one, None)
            )


def _check(connection: Connection, path: Path, chains: Collection[str]) -> None:
    """Raises ConfigError with all that is wrong with the file, so that one look at it is enough."""
    if connection.execute("SELECT FROM staged_price_point LIMIT 1").fetchone() is None:
        raise ConfigError(f"{path}: there is no price in it")
    values = {"chains": list(chains), "shown": SHOWN}
    count, rest, named = _one(connection, _FAULTS, values)
    if not count:
        return
    more = [f"and {rest} more"] if rest else []
    assets, unmet = _one(connection, _UNMET_STAGED, values)
    if unmet:
        hidden = ", …" if len(unmet) > SHOWN else ""
        what = f"{len(unmet)} of {assets} assets are in no row yet: {', '.join(unmet[:SHOWN])}"
        more.append(f"besides, {what}{hidden}")
    raise ConfigError(
        f"{path}: nothing was imported, bad lines: {count}: {'; '.join([*named, *more])}"
    )


def _one(connection: Connection, query: sql.SQL | sql.Composed, values: dict[str, Any]) -> Any:
    return connection.execute(query, values).fetchone()


# How many lines are bad, how many of these are not named, and the first of each kind of fault. A
# chain or a name is named once, with its first line. An address that no row has met may be in one
# tomorrow; a name that none has is a slip of the pen.
_FAULTS = sql.SQL("""
    WITH misnamed AS MATERIALIZED (
        SELECT chain, asset
        FROM (SELECT DISTINCT chain, asset FROM staged_price_point WHERE chain = 'hyperliquid') p
        WHERE NOT liq.at_par(asset)
          AND NOT EXISTS (SELECT FROM ledger.liquidation WHERE quote = p.asset)
    ), compared AS (
        SELECT line, asset, usd, first_value(line) OVER same AS first_line,
               first_value(usd) OVER same AS first_usd
        FROM staged_price_point WHERE fault IS NULL
        WINDOW same AS (PARTITION BY chain, asset, at ORDER BY line)
    ), fault AS (
        SELECT 1 AS kind, line, line AS named, fault AS what
        FROM staged_price_point WHERE fault IS NOT NULL
        UNION ALL
        SELECT 2, line, min(line) OVER (PARTITION BY chain),
               format('%%s is no chain that we know', chain)
        FROM staged_price_point WHERE chain <> ALL (%(chains)s)
        UNION ALL
        SELECT 3, line, min(line) OVER (PARTITION BY chain, asset),
               format('%%s is no quote token of %%s', asset, chain)
        FROM staged_price_point JOIN misnamed USING (chain, asset)
        UNION ALL
        SELECT 4, line, line,
               format('%%s has another price at that time than in line %%s', asset, first_line)
        FROM compared WHERE usd <> first_usd
    ), placed AS MATERIALIZED (
        SELECT *, dense_rank() OVER (PARTITION BY kind ORDER BY named) AS place FROM fault
    )
    SELECT count(DISTINCT line),
           count(DISTINCT line) - count(DISTINCT line) FILTER (WHERE place <= %(shown)s),
           ARRAY(
               SELECT format('line %%s: %%s', named, string_agg(what, ', ' ORDER BY kind))
               FROM (SELECT DISTINCT named, kind, what FROM placed WHERE place <= %(shown)s) first
               GROUP BY named ORDER BY named
           )
    FROM placed
""")


def _store(
    connection: Connection, path: Path, name: str, sha256: str, max_age: timedelta
) -> Imported:
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
    points = connection.execute(
        "INSERT INTO ledger.price_point (name, chain, asset, at, usd)"
        " SELECT DISTINCT ON (chain, asset, at) %s, chain, asset, at, usd FROM staged_price_point"
        " ORDER BY chain, asset, at, line",
        (name,),
    ).rowcount
    repeats, first = _one(connection, _REPEATS, {"shown": SHOWN})
    return Imported(points, repeats, tuple(first))


_REPEATS = sql.SQL("""
    SELECT count(*), coalesce((array_agg(line ORDER BY line))[:%(shown)s], '{}')
    FROM (SELECT line, row_number() OVER (PARTITION BY chain, asset, at ORDER BY line) AS nth
          FROM staged_price_point) point
    WHERE nth > 1
""")


# How many assets, and those that are in no row yet, as `chain:asset`.
_UNMET = sql.SQL("""
    SELECT count(*), coalesce(array_agg(chain || ':' || asset ORDER BY chain, asset) FILTER (
        WHERE NOT CASE WHEN chain = 'hyperliquid'
            THEN EXISTS (SELECT FROM ledger.liquidation WHERE quote = p.asset)
            ELSE EXISTS (SELECT FROM ledger.asset a
                         WHERE (a.chain, a.address) = (p.chain, p.asset)) END
    ), '{{}}')
    FROM (SELECT DISTINCT chain, asset FROM {}) p
""")
_UNMET_IMPORTED = _UNMET.format(sql.SQL("ledger.price_point WHERE name = %(name)s"))
# Without what is a fault already.
_UNMET_STAGED = _UNMET.format(
    sql.SQL("""staged_price_point WHERE chain = ANY (%(chains)s) AND asset IS NOT NULL
               AND (chain <> 'hyperliquid' OR liq.at_par(asset)
                    OR EXISTS (SELECT FROM ledger.liquidation WHERE quote = asset))""")
)


def unmet(connection: Connection, name: str) -> tuple[int, list[str]]:
    """How many assets a file names, and those that are in no row yet, as `chain:asset`."""
    assets, found = _one(connection, _UNMET_IMPORTED, {"name": name})
    return assets, found
