"""Rows of a dataset as a stream of COPY, and what has to be known with them.

Only views of `liq` are read: who may read those may export.
"""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from typing import Any, Literal

from psycopg import sql
from psycopg.rows import dict_row

from indexer.errors import ConfigError
from indexer.store.database import Connection
from indexer.store.datasets import DATASETS, Column, Dataset, Day, Kind, Scope

Shape = Literal["cells", "safe cells", "objects"]
_KINDS: dict[int, Kind] = {
    16: "bool", 20: "int64", 21: "int16", 23: "int32", 114: "json", 1009: "json", 1082: "date",
    1184: "time", 1700: "decimal", 3802: "json",
}  # fmt: skip
# First characters that make a spreadsheet compute a cell, with their full-width forms:
# OWASP, CSV Injection, and ASVS 1.2.10.
FORMULA_STARTS = "=+-@\t\n\r＝＋－＠"


@contextmanager
def one_moment(connection: Connection) -> Iterator[None]:
    """All that is read in the block is of one moment; nothing can be written."""
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        connection.execute("SET LOCAL jit = off")
        yield


def columns(connection: Connection, of: Dataset, chosen: Sequence[str]) -> list[Column]:
    """The chosen columns of a dataset, with what the database says of them."""
    names = sql.SQL(", ").join(map(sql.Identifier, chosen))
    empty = Scope(definition="strict/v1")
    query = sql.SQL("SELECT {} FROM {} LIMIT 0").format(names, rows(of, sql.SQL("true"), empty))
    found = connection.execute(query).description or []
    said: Any = connection.execute(
        """
            SELECT attname, min(col_description(attrelid, attnum)) FROM pg_attribute
            WHERE attrelid = ANY (%s::regclass[]) AND attnum > 0 GROUP BY attname
            """,
        ([f"liq.{view}" for view in of.views],),
    )
    comments = dict(said.fetchall()) | dict(of.comments)
    return [Column(one.name, _kind(of, one), str(comments.get(one.name) or "")) for one in found]


def _kind(of: Dataset, column: Any) -> Kind:
    kind = _KINDS.get(column.type_code, "text")
    is_long = column.name in of.digits or column.name.endswith("_raw")
    return "digits" if kind == "decimal" and is_long else kind


def stream(
    connection: Connection, of: Dataset, wanted: Sequence[Column], scope: Scope, shape: Shape
) -> Generator[bytes]:
    """The rows, each as one piece: as cells of CSV, or as objects of JSON."""
    yield from copied(connection, query(of, wanted, scope, shape), shape)


def query(of: Dataset, wanted: Sequence[Column], scope: Scope, shape: Shape) -> sql.Composed:
    """The SELECT of an export."""
    first = (name for name in (of.venue, of.at) if name is not None)
    order = list(dict.fromkeys((*first, *of.key)))
    needed = list(dict.fromkeys((*(one.name for one in wanted), *order)))
    return sql.SQL("SELECT {cells} FROM (SELECT {all} FROM {rows}) r ORDER BY {order}").format(
        cells=cells(wanted, shape), all=sql.SQL(", ").join(map(sql.Identifier, needed)),
        rows=rows(of, conditions(of, scope), scope),
        order=sql.SQL(", ").join(sql.Identifier("r", one) for one in order),
    )  # fmt: skip


def cells(wanted: Sequence[Column], shape: Shape) -> sql.Composable:
    """Columns of a row `r` as they are to be written."""
    return sql.SQL(", ").join(_cell(one, shape) for one in wanted)


def copied(connection: Connection, query: sql.Composable, shape: Shape) -> Generator[bytes]:
    """What a SELECT finds, a piece for each row."""
    # No control character stands bare in JSON: nothing is quoted, and a line is an object.
    how = sql.SQL(", QUOTE E'\\x01', DELIMITER E'\\x02'" if shape == "objects" else "")
    if shape == "objects":
        query = sql.SQL("SELECT row_to_json(o)::text FROM ({}) o").format(query)
    copy = sql.SQL("COPY ({}) TO STDOUT (FORMAT csv{})").format(query, how)
    with connection.cursor().copy(copy) as found:
        for piece in found:
            yield bytes(piece)


def _cell(column: Column, shape: Shape) -> sql.Composable:
    name = sql.Identifier("r", column.name)
    as_name = sql.Identifier(column.name)
    text = sql.SQL("{}::text AS {}").format(name, as_name)
    match column.kind, shape:
        case (("decimal" | "digits"), "objects"):
            return text
        case "json", ("cells" | "safe cells"):
            return sql.SQL("to_jsonb({})::text AS {}").format(name, as_name)
        case "text", "safe cells":
            return sql.SQL(
                "CASE WHEN ascii({0}::text) IN ({1}) THEN '''' || {0}::text ELSE {0}::text END"
                " AS {2}"
            ).format(name, sql.SQL(", ").join(map(sql.Literal, map(ord, FORMULA_STARTS))), as_name)
        case "text", _:
            return text
        case _:
            return sql.SQL("{} AS {}").format(name, as_name)


def rows(of: Dataset, condition: sql.Composable, scope: Scope) -> sql.Composed:
    """What stands behind FROM, under a condition on the columns of the dataset."""
    return sql.SQL(of.rows).format(
        scope=condition, definition=sql.Literal(scope.definition), low=sql.Literal(scope.low),
        high=sql.Literal(scope.high),
    )  # fmt: skip


def conditions(of: Dataset, scope: Scope) -> sql.Composable:
    """A scope as conditions on the columns of a dataset; ConfigError where it has none such."""
    found: list[sql.Composable] = []
    if scope.venues:
        if of.venue is None:
            raise ConfigError(f"{of.name} is of no venue: --venue is not for it")
        found.append(sql.SQL("venue = ANY ({})").format(sql.Literal(list(scope.venues))))
    if scope.low or scope.high:
        if of.at is None:
            raise ConfigError(f"{of.name} is of no time: --from and --to are not for it")
        at = sql.SQL("({}::timestamp AT TIME ZONE 'UTC')" if of.at == "day" else "{}").format(
            sql.Identifier(of.at)
        )
        found += [
            sql.SQL("{} {} {}").format(at, sql.SQL(than), sql.Literal(moment))
            for than, moment in ((">=", scope.low), ("<", scope.high))
            if moment is not None
        ]
    return sql.SQL(" AND ").join(found) if found else sql.SQL("true")


def days(connection: Connection, of: Dataset, scope: Scope) -> list[tuple[str, date, Day]]:
    """Venues and UTC days with rows, found by jumping from one to the next in the index."""
    if not of.by_day:
        able = ", ".join(one.name for one in DATASETS.values() if one.by_day)
        raise ConfigError(f"{of.name} cannot be partitioned by day; {able} can")
    query = sql.SQL(
        """
        WITH RECURSIVE first AS (
            (SELECT venue, {at} AS at FROM {rows} ORDER BY venue, {at} LIMIT 1)
            UNION ALL
            SELECT next.venue, next.at
            FROM first CROSS JOIN LATERAL (
                SELECT venue, {at} AS at FROM {rows}
                AND (venue, {at})
                    >= (first.venue, date_trunc('day', first.at, 'UTC') + interval '24 hours')
                ORDER BY venue, {at} LIMIT 1
            ) next
        )
        SELECT venue, (at AT TIME ZONE 'UTC')::date, date_trunc('day', at, 'UTC'),
               date_trunc('day', at, 'UTC') + interval '24 hours'
        FROM first
        """
    ).format(
        at=sql.Identifier(str(of.at)),
        rows=sql.SQL("{} WHERE {}").format(
            sql.Identifier("liq", of.views[0]), conditions(of, scope)
        ),
    )
    found: Any = connection.execute(query).fetchall()
    return [(venue, day, (low, high)) for venue, day, low, high in found]


def surroundings(connection: Connection, of: Dataset, scope: Scope) -> dict[str, Any]:
    """As of when, and what was read of the scope: covered ranges, holes, heads of chains."""
    asked = {"venues": list(scope.venues), "low": scope.low, "high": scope.high}
    as_of, is_simulated = _row(
        connection, "SELECT now(), EXISTS (SELECT FROM liq.sources WHERE is_simulated)"
    )
    has_venue = of.venue is not None
    return {
        "as_of": as_of,
        "is_simulated": is_simulated,
        "coverage": _records(connection, _COVERAGE, asked) if has_venue else [],
        "missing": _records(connection, _MISSING, asked) if has_venue else [],
        "heads": _records(connection, _HEADS, asked),
    }


_COVERAGE = """
    SELECT venue, facts, block_from, block_to, first_at, last_at, verification, decoder_version
    FROM liq.coverage
    WHERE (%(venues)s::text[] = '{}' OR venue = ANY (%(venues)s::text[]))
      AND last_at >= coalesce(%(low)s, '-infinity'::timestamptz)
      AND first_at < coalesce(%(high)s, 'infinity'::timestamptz)
    ORDER BY venue, facts, block_from
"""
_MISSING = """
    SELECT venue, facts, block_from, block_to, after_at, before_at FROM liq.missing
    WHERE (%(venues)s::text[] = '{}' OR venue = ANY (%(venues)s::text[]))
      AND before_at >= coalesce(%(low)s, '-infinity'::timestamptz)
      AND after_at < coalesce(%(high)s, 'infinity'::timestamptz)
    ORDER BY venue, facts, block_from
"""
_HEADS = "SELECT chain, tip_block, finalized_block, updated_at FROM liq.chains ORDER BY chain"


def _records(connection: Connection, query: str, asked: dict[str, Any]) -> list[dict[str, Any]]:
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query, asked).fetchall()


def _row(connection: Connection, query: str) -> Any:
    return connection.execute(query).fetchone()
