"""What a definition makes of one window, read once into temporary tables.

A report asks many questions of the same rows: `counted` has each row that the definition looks at,
with the line it stands on, its episode, and what it is worth otherwise. Its total is made by the
query of `liq.total`, and so are those of the definitions next to it, which differ in one choice.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec
import psycopg
from psycopg import sql

from indexer.methodology.definition import LENDING_METHODS, Definition
from indexer.methodology.windows import Window
from indexer.store import counting, totals
from indexer.store.database import Connection
from indexer.store.legs import Sql, legs
from indexer.store.totals import Line

GAPS = (60, 900, 3600)  # of episodes: section 5.1 of the methodology
# The rows of a cascade's day stand there twice, half a gigabyte, and are read a dozen times; what
# does not fit is written to disk and read back. Both are taken as they are used.
BUFFERS, WORK_MEMORY = "512MB", "128MB"


class Neighbour(NamedTuple):
    """A definition that differs in one choice: `switch` is the field, `value` what it says."""

    switch: str
    value: str
    definition: Definition


class Beside(msgspec.Struct, frozen=True):
    """What a total would be with another choice. As in a total, `usd` is None where loans and
    perpetuals cannot be added up, or nothing has a value. Episodes are counted where the choice is
    of their gap."""

    switch: str
    value: str
    is_chosen: bool
    usd: Decimal | None
    perp_usd: Decimal | None
    lending_usd: Decimal | None
    records: int
    unvalued: int
    episodes: int | None


def make_room(connection: Connection) -> None:
    """Of a session that has not used temporary tables yet; with others they stay as they are."""
    with suppress(psycopg.errors.InvalidParameterValue):
        connection.execute(sql.SQL("SET temp_buffers = {}").format(BUFFERS))


def read(
    connection: Connection, definition: Definition, window: Window, others: Sequence[Neighbour]
) -> None:
    """Fill `seen` and `counted` for the transaction, to which they belong."""
    connection.execute(sql.SQL("SET LOCAL work_mem = {}").format(WORK_MEMORY))
    ways = _ways(definition, others)
    asked = [definition, *(other.definition for other in others)]
    for name, query in (
        ("seen", totals.bound(connection, legs(asked, ways), window)),
        ("counted", _counted(definition, ways)),
    ):
        table = sql.Identifier(name)
        connection.execute(sql.SQL("DROP TABLE IF EXISTS pg_temp.{}").format(table))
        connection.execute(
            sql.SQL("CREATE TEMP TABLE {} ON COMMIT DROP AS {}").format(table, query)
        )
        if name == "counted":  # what is grouped and joined by; the rest is only read
            connection.execute("ANALYZE pg_temp.counted (line, venue, dex, unit, block_at, action)")


def lines(connection: Connection, definition: Definition) -> tuple[tuple[Line, ...], str]:
    """The lines of the total of what was read, and its price set."""
    row: Any = connection.execute(
        "SELECT ledger.total_query(%(q)s), ledger.price_set_query(%(q)s)", {"q": _FROM_COUNTED}
    ).fetchone()
    total, price_set = row
    gap = sql.SQL("interval '1 second' * {}").format(definition.repeat.gap_seconds)
    for name, value in (("$6", gap), ("$7", sql.Literal(definition.is_one_sum))):
        total = total.replace(name, value.as_string(connection))
    found = sorted(
        map(totals.line_of, connection.execute(total, prepare=False)),
        key=lambda line: (line.section, line.name or ""),
    )
    said: Any = connection.execute(price_set, prepare=False).fetchone()
    return tuple(found), str(said[0])


def beside(
    connection: Connection, definition: Definition, others: Sequence[Neighbour]
) -> Iterator[Beside]:
    """The totals next to the one that was read: one reading of all rows has all of them, but of
    definitions that leave out rows for what others are."""
    ways = _ways(definition, others)
    money = list(dict.fromkeys(one.definition for one in others if one.switch != "repeat"))
    sums = (
        _sums(connection, money, ways) if definition.is_additive
        else {one: _sum(connection, one, ways) for one in money}
    )  # fmt: skip
    chosen = sums.get(definition) or _sum(connection, definition, ways)
    episodes = _episodes(connection, definition, [o for o in others if o.switch == "repeat"])
    for other in others:
        found = chosen if other.switch == "repeat" else sums[other.definition]
        yield _beside(other, definition, found, episodes.get(other.definition))


_Sums = Mapping[str, tuple[Decimal | None, int, int]]
"""Dollars, rows and those without a value, by instrument."""


def _sums(
    connection: Connection, definitions: Sequence[Definition], ways: Sequence[Definition]
) -> dict[Definition, _Sums]:
    if not definitions:
        return {}
    told, summed = [], []
    for number, one in enumerate(definitions):
        way = _way(one, ways)
        names = {"usd": sql.Identifier(f"usd_of_{number}"), "is": sql.Identifier(f"is_{number}")}
        told.append(_TOLD.format(
            **names, worth=counting.usd_of(one, way), test=counting.is_counted(one, way)
        ))  # fmt: skip
        summed.append(_SUMMED.format(**names))
    query = _ALL_SUMS.format(told=sql.SQL(", ").join(told), summed=sql.SQL(", ").join(summed))
    rows: Iterable[Any] = connection.execute(query, prepare=False).fetchall()
    return {
        one: {row[0]: row[1 + 3 * n : 4 + 3 * n] for row in rows if row[2 + 3 * n]}
        for n, one in enumerate(definitions)
    }


def _sum(connection: Connection, definition: Definition, ways: Sequence[Definition]) -> _Sums:
    rows: Iterable[Any] = connection.execute(
        _ONE_SUM.format(
            rows=counting.rows(
                definition, _SEEN, value=_way(definition, ways), window=sql.SQL("true")
            )
        ),
        prepare=False,
    )
    return {row[0]: row[1:] for row in rows}


def _episodes(
    connection: Connection, definition: Definition, others: Sequence[Neighbour]
) -> dict[Definition, int]:
    """How many episodes there are at each gap. Which rows count may hang on it, too."""
    if definition.repeat.keep != "all" or definition.minimum_usd:
        others = [other for other in others if other.definition == definition]
    counts = [
        sql.SQL("count(*) FILTER (WHERE pause IS NULL OR pause > interval '1 second' * {})").format(
            other.definition.repeat.gap_seconds
        )
        for other in others
    ]
    row: Any = connection.execute(
        _GAPS.format(counts=sql.SQL(", ").join(counts)), prepare=False
    ).fetchone()
    return {other.definition: row[place] for place, other in enumerate(others)}


def _beside(other: Neighbour, chosen: Definition, of: _Sums, episodes: int | None) -> Beside:
    sums = {instrument: row[0] for instrument, row in of.items()}
    known = [usd for usd in sums.values() if usd is not None]
    is_sum = other.definition.is_one_sum or len(of) < 2
    usd = sum(known, Decimal(0)) if is_sum and (known or not of) else None
    return Beside(
        switch=other.switch, value=other.value, is_chosen=other.definition == chosen,
        usd=None if usd is None else totals.plain(usd),
        perp_usd=_plain(sums.get("perp")), lending_usd=_plain(sums.get("lending")),
        records=sum(row[1] for row in of.values()), unvalued=sum(row[2] for row in of.values()),
        episodes=episodes,
    )  # fmt: skip


def _plain(usd: Decimal | None) -> Decimal | None:
    return None if usd is None else totals.plain(usd)


# -- which definitions stand next to one ---------------------------------------------------------


def neighbours(d: Definition) -> tuple[Neighbour, ...]:
    """The choices that move a number most, one at a time: what is counted, whose, which side, at
    what value, and how long a pause ends an episode. Choices that a definition cannot have are
    left out."""
    if "ledger_update" in d.methods:  # the exchange's own words: at mark, of whole accounts
        return tuple(_of_gaps(d))
    return tuple(_of_values(d)) + tuple(_of_counting(d)) + tuple(_of_gaps(d))


def _of_values(d: Definition) -> Iterator[Neighbour]:
    if "perp" in d.instruments:
        for value in ("fill", "mark"):
            yield _with(d, "perp_value", value)
        if d.leg == "liquidated":
            yield _with(d, "perp_value", "realised")
    if "lending" in d.instruments:
        for value in ("repaid", "seized"):
            yield _with(d, "lending_value", value)
    if d.prices:
        for value in ("par", "market"):
            yield _with(d, "stablecoins", value)


def _of_counting(d: Definition) -> Iterator[Neighbour]:
    if "perp" in d.instruments:
        yield _with(d, "parties", "user", ("user",))
        yield _with(d, "parties", "user+protocol_vault", ("protocol_vault", "user"))
        adl = {"adl_of_user", "adl_of_vault"}
        rest = tuple(method for method in d.methods if method not in adl)
        if len(rest) < len(d.methods) and any(m not in _LENDING for m in rest):
            yield _with(d, "methods", "without_adl", rest)
    if d.instruments == ("perp",) and d.perp_value in ("fill", "mark"):
        for leg in ("liquidated", "both"):
            yield _with(d, "leg", leg)
    for trust in ("governed", "any"):
        yield _with(d, "trust", trust)
    for finality in ("finalized", "latest"):
        yield _with(d, "finality", finality)


def _of_gaps(d: Definition) -> Iterator[Neighbour]:
    for seconds in sorted({*GAPS, d.repeat.gap_seconds}):
        repeat = msgspec.structs.replace(d.repeat, gap_seconds=seconds)
        yield _with(d, "repeat", str(seconds), repeat)


_LENDING = frozenset(LENDING_METHODS)


def _with(d: Definition, name: str, said: str, value: object = None) -> Neighbour:
    return Neighbour(
        name, said, msgspec.structs.replace(d, **{name: said if value is None else value})
    )


# -- the tables ----------------------------------------------------------------------------------

_SEEN = sql.SQL("SELECT * FROM pg_temp.seen")
_FROM_COUNTED = "SELECT * FROM pg_temp.counted"


def _ways(definition: Definition, others: Sequence[Neighbour]) -> list[Definition]:
    """One definition for each way to value; those at mark and of what was realised are always
    there, as the report shows them beside."""
    at = msgspec.structs.replace
    asked = [
        definition, at(definition, perp_value="mark"), at(definition, perp_value="realised"),
        *(other.definition for other in others),
    ]  # fmt: skip
    return list({_value(one): one for one in asked}.values())


def _way(definition: Definition, ways: Sequence[Definition]) -> int:
    return [_value(one) for one in ways].index(_value(definition))


def _value(d: Definition) -> tuple[object, ...]:
    return d.perp_value, d.lending_value, d.stablecoins, d.prices


def _counted(definition: Definition, ways: Sequence[Definition]) -> Sql:
    at = msgspec.structs.replace
    mark, realised = (
        f"usd_{_way(at(definition, perp_value=value), ways)}" for value in ("mark", "realised")
    )
    rows = counting.rows(
        definition, _SEEN, value=_way(definition, ways), window=sql.SQL("true"),
        further=tuple(dict.fromkeys((mark, realised))),
    )  # fmt: skip
    return _COUNTED.format(
        columns=sql.SQL(", ").join(map(sql.Identifier, counting.SHOWN)),
        mark=sql.Identifier(mark), realised=sql.Identifier(realised), rows=rows,
        gap=sql.SQL("interval '1 second' * {}").format(definition.repeat.gap_seconds),
    )  # fmt: skip


_COUNTED = sql.SQL(
    """
    SELECT {columns}, CASE WHEN instrument = 'perp' THEN {mark} END AS mark_usd,
           CASE WHEN instrument = 'perp' AND leg = 'liquidated' THEN {realised} END
               AS realised_usd
    FROM ({rows}) line
    """
)
# OFFSET 0: each test is made once, and not again for each sum.
_TOLD = sql.SQL("{test} AS {is}, {worth} AS {usd}")
_SUMMED = sql.SQL(
    "sum({usd}) FILTER (WHERE {is}), count(*) FILTER (WHERE {is}),"
    " count(*) FILTER (WHERE {is} AND {usd} IS NULL)"
)
_ALL_SUMS = sql.SQL(
    "SELECT instrument, {summed} FROM (SELECT instrument, {told} FROM pg_temp.seen legs OFFSET 0)"
    " told GROUP BY instrument"
)
_ONE_SUM = sql.SQL(
    "SELECT instrument, sum(usd), count(*), count(*) - count(usd)"
    " FROM ({rows}) line WHERE line = 'counted' GROUP BY instrument"
)
_GAPS = sql.SQL(
    """
    SELECT {counts}
    FROM (
        SELECT block_at - lag(block_at) OVER (
                   PARTITION BY unit, venue, dex ORDER BY block_at) AS pause
        FROM pg_temp.counted WHERE line = 'counted'
    ) spaced
    """
)
