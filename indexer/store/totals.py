"""Totals under a definition: computed in one snapshot, saved with all that they stand on, and
computed again to see whether they still hold."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from importlib.metadata import version
from typing import Any

import msgspec
import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from indexer.errors import ConfigError
from indexer.methodology.definition import Definition, Instrument
from indexer.methodology.windows import Window
from indexer.model import EXACT, Facts
from indexer.store import counting
from indexer.store.database import Connection
from indexer.store.proof import coverings

PACKAGE = "liquidation-indexer"


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line of a total, as `liq.total` gives it. `name` is None on the total itself, and for what
    is unknown. Counts are None where the split does not count them; `usd` is None where there are
    records and none has a value."""

    section: str
    name: str | None = None
    usd: Decimal | None = None
    long_usd: Decimal | None = None
    short_usd: Decimal | None = None
    records: int | None = None
    fills: int | None = None
    orders: int | None = None
    actions: int | None = None
    positions: int | None = None
    episodes: int | None = None
    accounts: int | None = None
    unvalued: int | None = None
    venue: str | None = None
    account: str | None = None
    key: str | None = None
    first_at: datetime | None = None
    last_at: datetime | None = None


class Missing(msgspec.Struct, frozen=True, omit_defaults=True):
    """A part of a window that was not read: times, blocks or both, half-open; None where open."""

    low: datetime | None = None
    high: datetime | None = None
    block_from: int | None = None
    block_to: int | None = None


class Scope(msgspec.Struct, frozen=True):
    """What was read of a venue that a total speaks of: how much of the window, how far in all, and
    what in the window waits to be decoded. `facts` are those that coverage is of, `share` is from 0
    to 1."""

    venue: str
    facts: Facts
    share: Decimal
    missing: tuple[Missing, ...]
    verifications: tuple[str, ...]
    undecoded: int
    as_of_block: int | None
    as_of_at: datetime | None

    @property
    def is_whole(self) -> bool:
        """Whether every block of the window was read, and all that was found is decoded."""
        return not self.missing and self.undecoded == 0

    @property
    def name(self) -> str:
        """The venue, and what of it where that is not what all totals but one are made of."""
        return self.venue if self.facts == "liquidations" else f"{self.venue} {self.facts}"


class Total(msgspec.Struct, frozen=True):
    """A number and what it means. `price_set` is the number and a digest of the values in it,
    `labels_as_of` when labels were as this total takes them."""

    definition: Definition
    window: Window
    lines: tuple[Line, ...]
    scopes: tuple[Scope, ...]
    price_set: str
    labels_as_of: datetime
    code_version: str
    is_simulated: bool

    @property
    def is_complete(self) -> bool:
        """Whether each venue in scope is whole in the window, and there is any."""
        return bool(self.scopes) and all(scope.is_whole for scope in self.scopes)

    def section(self, name: str) -> tuple[Line, ...]:
        """The lines of one section, the largest first."""
        found = (line for line in self.lines if line.section == name)
        return tuple(sorted(found, key=lambda line: (-(line.usd or 0), line.name or "")))

    @property
    def line(self) -> Line:
        """The total itself."""
        return self.section("total")[0]


def compute(
    connection: Connection,
    definition: Definition,
    window: Window,
    first_blocks: Mapping[str, int] | None = None,
    now: datetime | None = None,
) -> Total:
    """The total of a window, read in one snapshot. `first_blocks` says from which block on a venue
    exists, where that is known; labels are as known `now`, unless the definition says when."""
    with snapshot(connection):
        return within(connection, definition, window, first_blocks or {}, now or datetime.now(UTC))


@contextmanager
def snapshot(connection: Connection) -> Iterator[None]:
    """Everything that is read in it is read as of one moment, with room for a day of rows."""
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        counting.make_room(connection)
        yield


def within(
    connection: Connection,
    definition: Definition,
    window: Window,
    first_blocks: Mapping[str, int],
    now: datetime,
) -> Total:
    """As `compute`, in a snapshot of the caller's."""
    moment = definition.labels.as_of
    as_of = now if moment is None else datetime.fromisoformat(moment)
    lines, price_set = _lines(connection, with_labels(definition, as_of), window)
    return Total(
        definition=definition,
        window=window,
        lines=lines,
        scopes=scopes(connection, [definition], window, first_blocks),
        price_set=price_set,
        labels_as_of=as_of,
        code_version=code_version(),
        is_simulated=is_simulated(connection),
    )


def with_labels(definition: Definition, as_of: datetime) -> Definition:
    """What we know now is what we will have known at this moment, whenever it is asked again. A
    definition that says itself as of when stays."""
    asked = definition.labels
    if asked.as_of is not None or not (asked.only or asked.without):
        return definition
    labels = msgspec.structs.replace(definition.labels, as_of=as_of.isoformat())
    return msgspec.structs.replace(definition, labels=labels)


def _lines(
    connection: Connection, definition: Definition, window: Window
) -> tuple[tuple[Line, ...], str]:
    """The lines of a total and its price set."""
    query = counting.query(definition).as_string(None)
    row: Any = connection.execute(
        "SELECT ledger.total_query(%(query)s), ledger.price_set_query(%(query)s)", {"query": query}
    ).fetchone()
    total, price_set = row
    bounds = bounds_of(connection, window)
    gap = f"{definition.repeat.gap_seconds} s"
    with psycopg.RawCursor(connection) as cursor:
        found = cursor.execute(total, [*bounds, gap, definition.is_one_sum])
        lines = sorted(map(line_of, found), key=lambda line: (line.section, line.name or ""))
        (said,) = cursor.execute(price_set, bounds).fetchone() or ("",)
    return tuple(lines), str(said)


def line_of(row: Any) -> Line:
    """A row of a total's query; amounts without the zeros that a sum brings along."""
    values: Any = (plain(value) if isinstance(value, Decimal) else value for value in row)
    return Line(*values)


def plain(number: Decimal) -> Decimal:
    """Without an exponent, and without the zeros that a sum brings along."""
    return Decimal(format(EXACT.normalize(number), "f"))


def bounds_of(connection: Connection, window: Window) -> list[Any]:
    """`$1` to `$5` of a definition's query."""
    row: Any = connection.execute("SELECT ledger.venues_with_rows()").fetchone()
    return [
        window.low or "-infinity", window.high or "infinity", row[0],
        window.block_from, window.block_to,
    ]  # fmt: skip


def bound(connection: Connection, query: sql.Composable, window: Window) -> sql.SQL:
    """A definition's query with its parameters written out: none may stand in what makes a table.
    Blocks are not among them."""
    low, high, venues, *_ = bounds_of(connection, window)
    values = {
        "$1": sql.SQL("{}::timestamptz").format(str(low)),
        "$2": sql.SQL("{}::timestamptz").format(str(high)),
        "$3": sql.SQL("{}::text[]").format(sql.Literal(venues)),
    }
    text = query.as_string(connection)
    for name, value in values.items():
        text = text.replace(name, value.as_string(connection))
    return sql.SQL(text)


# -- what was read -------------------------------------------------------------------------------


def scopes(
    connection: Connection,
    definitions: Sequence[Definition],
    window: Window,
    first_blocks: Mapping[str, int],
) -> tuple[Scope, ...]:
    """What was read of a window, of each venue that any of the definitions speaks of."""
    of_facts: dict[Facts, list[Definition]] = {}
    for definition in definitions:
        is_ledger = "ledger_update" in definition.methods
        of_facts.setdefault("ledger_liquidations" if is_ledger else "liquidations", []).append(
            definition
        )
    return tuple(
        scope
        for facts, chosen in of_facts.items()
        for scope in _scopes(connection, facts, chosen, window, first_blocks)
    )


def _scopes(
    connection: Connection,
    facts: Facts,
    definitions: Iterable[Definition],
    window: Window,
    first_blocks: Mapping[str, int],
) -> Iterator[Scope]:
    rows: Iterable[Any] = connection.execute(
        _READ, {"facts": facts, "low": window.low, "high": window.high,
                "block_from": window.block_from, "block_to": window.block_to}
    )  # fmt: skip
    read = {row[0]: row for row in rows}
    trades = {venue: row[1] for venue, row in read.items()}
    venues = sorted({venue for one in definitions for venue in _in_scope(one, trades)})
    shares = (
        _shares_of_times(connection, facts, venues, window.low, window.high, first_blocks)
        if window.low is not None and window.high is not None
        else _shares_of_blocks(connection, facts, venues, window)
    )
    for venue, share in zip(venues, shares, strict=True):
        yield Scope(venue, facts, *share, *read.get(venue, _UNREAD)[2:])


_UNREAD = (None, None, 0, None, None)
_READ = """
    SELECT venue, coalesce(named.instrument,
                           CASE ledger.chain_of(venue) WHEN '' THEN 'perp' ELSE 'lending' END),
           coalesce(waiting.events, 0), reach.block, reach.at
    FROM (
        SELECT venue FROM ledger.coverage WHERE facts = %(facts)s
        UNION SELECT unnest(ledger.venues_with_rows())
    ) venues
    LEFT JOIN (
        SELECT venue, max(upper(blocks)) - 1 AS block, max(upper(times)) AS at
        FROM ledger.coverage WHERE facts = %(facts)s GROUP BY venue
    ) reach USING (venue)
    LEFT JOIN (
        SELECT venue, count(*) AS events FROM ledger.undecoded
        WHERE block_at >= coalesce(%(low)s, '-infinity'::timestamptz)
          AND block_at < coalesce(%(high)s, 'infinity'::timestamptz)
          AND (%(block_from)s::bigint IS NULL
               OR block_number >= %(block_from)s AND block_number < %(block_to)s)
        GROUP BY venue
    ) waiting USING (venue)
    LEFT JOIN ledger.venue named USING (venue)
    ORDER BY venue
"""


def reached(connection: Connection, definition: Definition) -> datetime | None:
    """The time of the last block that was read of any venue that a definition speaks of."""
    facts = "ledger_liquidations" if "ledger_update" in definition.methods else "liquidations"
    rows: list[Any] = connection.execute(
        _READ, {"facts": facts, "low": "infinity", "high": None, "block_from": None,
                "block_to": None}
    ).fetchall()  # fmt: skip
    venues = _in_scope(definition, {row[0]: row[1] for row in rows})
    return max((row[4] for row in rows if row[0] in venues and row[4]), default=None)


def _in_scope(definition: Definition, venues: Mapping[str, Instrument]) -> list[str]:
    """Of the venues that were read, with what each trades in, those that a definition speaks of;
    and what it names of which nothing was read."""
    d = definition
    found = [
        venue for venue, instrument in venues.items()
        if instrument in d.instruments
        and (not d.venues or {venue, venue.partition(".")[0]} & set(d.venues))
        and (not d.chains or (venue.partition(".")[2] or venue) in d.chains)
    ]  # fmt: skip
    read = {name for venue in found for name in (venue, *venue.split("."))}
    return [*found, *(name for name in (*d.venues, *d.chains) if name not in read)]


_Share = tuple[Decimal, tuple[Missing, ...], tuple[str, ...]]


def _shares_of_times(
    connection: Connection,
    facts: Facts,
    venues: Sequence[str],
    low: datetime,
    high: datetime,
    first_blocks: Mapping[str, int],
) -> list[_Share]:
    return [
        (
            one.share,
            tuple(Missing(hole.low, hole.high, hole.block_from, hole.block_to)
                  for hole in one.holes),
            tuple(sorted({said for run in one.runs for said in run.verifications})),
        )
        for one in coverings(connection, venues, low, high, first_blocks, facts)
    ]  # fmt: skip


def _shares_of_blocks(
    connection: Connection, facts: Facts, venues: Sequence[str], window: Window
) -> list[_Share]:
    rows: Iterable[Any] = connection.execute(
        _OF_BLOCKS, (venues, window.block_from, window.block_to, facts)
    )
    return [
        (share, tuple(Missing(None, None, hole.lower, hole.upper) for hole in holes), tuple(said))
        for share, holes, said in rows
    ]


_OF_BLOCKS = """
    SELECT 1 - (SELECT coalesce(sum(upper(h) - lower(h)), 0) FROM unnest(missing) h)
               / (upper(asked) - lower(asked))::numeric,
           ARRAY(SELECT unnest(missing)), said
    FROM unnest(%s::text[]) WITH ORDINALITY AS venues (venue, place)
    CROSS JOIN LATERAL (SELECT int8range(%s, %s)) window_of (asked)
    CROSS JOIN LATERAL (
        SELECT int8multirange(asked) - coalesce(range_agg(c.blocks), '{}') AS missing,
               coalesce(array_agg(DISTINCT c.verification), '{}') AS said
        FROM ledger.coverage c
        WHERE c.venue = venues.venue AND c.facts = %s AND c.blocks && asked
    ) read
    ORDER BY place
"""


def code_version() -> str:
    """Of this program."""
    return version(PACKAGE)


def is_simulated(connection: Connection) -> bool:
    row: Any = connection.execute(
        "SELECT EXISTS (SELECT FROM ledger.source WHERE is_simulated)"
    ).fetchone()
    return bool(row[0])


# -- prices of a segment -------------------------------------------------------------------------


def series(connection: Connection, name: str) -> list[tuple[datetime, Decimal]]:
    """The prices that a window of a segment follows: of `file:NAME/CHAIN/ASSET` the imported
    points, of `mark:VENUE/MARKET` the marks that forced trades carry, one for each block."""
    kind, _, path = name.partition(":")
    if kind == "file":
        file, _, token = path.partition("/")
        chain, _, asset = token.partition("/")
        rows: Iterable[Any] = connection.execute(
            "SELECT at, usd FROM ledger.price_point WHERE (name, chain, asset) = (%s, %s, %s)",
            (file, chain, asset),
        )
    else:
        venue, _, market = path.partition("/")
        rows = connection.execute(
            "SELECT DISTINCT ON (block_at) block_at, mark_price FROM ledger.liquidation"
            " WHERE (venue, market) = (%s, %s) AND mark_price > 0"
            " ORDER BY block_at, event_key DESC",
            (venue, market),
        )
    return list(rows)


# -- saved totals --------------------------------------------------------------------------------


class Verified(msgspec.Struct, frozen=True):
    """A saved total computed again; `differences` says what is not as it was."""

    total_id: int
    definition: str
    said: str
    usd: Decimal | None
    usd_now: Decimal | None
    differences: tuple[str, ...]


def save(connection: Connection, total: Total) -> int:
    """Store a total with all that is needed to compute it again; gives its number."""
    definition = with_labels(total.definition, total.labels_as_of)
    window = total.window
    row: Any = connection.execute(
        """
        INSERT INTO ledger.total (
            definition, definition_hash, body, said, low, high, block_from, block_to, usd,
            is_complete, result, coverage, price_set, labels_as_of, code_version
        ) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
        RETURNING total_id
        """,
        (
            total.definition.id, total.definition.hash, definition.canonical(), window.said,
            window.low, window.high, window.block_from, window.block_to, total.line.usd,
            total.is_complete, Jsonb(_data(total.lines)), Jsonb(_data(total.scopes)),
            total.price_set, total.labels_as_of, total.code_version,
        ),
    ).fetchone()  # fmt: skip
    return int(row[0])


def verify(
    connection: Connection,
    first_blocks: Mapping[str, int] | None = None,
    total_id: int | None = None,
) -> list[Verified]:
    """Compute saved totals again, all or one, and say where they differ from what was saved."""
    rows: Iterable[Any] = connection.execute(
        """
        SELECT total_id, definition, body, said, low, high, block_from, block_to, usd, result,
               coverage, price_set, labels_as_of
        FROM ledger.total WHERE %(id)s::bigint IS NULL OR total_id = %(id)s ORDER BY total_id
        """,
        {"id": total_id},
    ).fetchall()
    if total_id is not None and not rows:
        raise ConfigError(f"there is no saved total {total_id}")
    return [_verify(connection, row, first_blocks or {}) for row in rows]


def _verify(connection: Connection, row: Any, first_blocks: Mapping[str, int]) -> Verified:
    number, name, body, said, low, high, block_from, block_to, usd = row[:9]
    definition = msgspec.json.decode(body, type=Definition)
    window = Window(said=said, low=low, high=high, block_from=block_from, block_to=block_to)
    now = compute(connection, definition, window, first_blocks, row[12])
    return Verified(
        total_id=number, definition=name, said=said, usd=usd, usd_now=now.line.usd,
        differences=tuple(_differences(row, now)),
    )  # fmt: skip


def _differences(row: Any, now: Total) -> Iterator[str]:
    result, coverage, price_set = row[9:12]
    before = {(line["section"], line.get("name")): line for line in result}
    after = {(line["section"], line.get("name")): line for line in _data(now.lines)}
    for place in sorted(before.keys() | after.keys(), key=str):
        if before.get(place) != after.get(place):
            section, name = place
            yield section if section == "total" else f"{section} {name or 'unknown'}"
    if price_set != now.price_set:
        yield f"price set {now.price_set}, was {price_set}"
    if [*map(_of_window, coverage)] != [*map(_of_window, _data(now.scopes))]:
        yield "what was read of the window"


def _of_window(scope: Mapping[str, Any]) -> dict[str, Any]:
    """Without how far the venue was read in all, which grows and changes no number."""
    return {name: said for name, said in scope.items() if not name.startswith("as_of")}


def _data(values: Any) -> Any:
    """As JSON has it: decimals and times as text."""
    return msgspec.json.decode(msgspec.json.encode(values))
