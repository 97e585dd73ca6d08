"""What a reconciliation reads: the legs that either definition may count, once, in a temporary
table; every hybrid of the two from it; and the rows that tell them apart.

The SQL that is given out for the rows of a step or a part runs by itself: it begins with the legs.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from itertools import combinations
from typing import Any, NamedTuple

import msgspec
import psycopg
from psycopg import sql

from indexer.errors import ConfigError
from indexer.methodology.definition import (
    GROUPS,
    LEVELS,
    Calendar,
    Definition,
    presets,
)
from indexer.methodology.prose import difference, paragraph
from indexer.methodology.reconcile import (
    Affected,
    Counted,
    Covered,
    Difference,
    Moved,
    Near,
    OfVenue,
    Outside,
    Part,
    Reconciliation,
    Row,
    Rows,
    Sensitivity,
    Side,
    check_partition,
    nearest,
    residual,
    waterfall,
)
from indexer.methodology.windows import Window, resolve
from indexer.store import counting, totals
from indexer.store.database import Connection
from indexer.store.legs import Sql, legs
from indexer.store.totals import Total

TOP_ACCOUNTS = 3
TOP_ROWS = 20
ZONES = ("UTC", "Asia/Shanghai", "America/New_York")
GAPS = (60, 900, 3600)


class Asked(NamedTuple):
    """A definition with the window that was asked of it."""

    definition: Definition
    window: Window


def reconcile(
    connection: Connection,
    a: Asked,
    b: Asked,
    first_blocks: Mapping[str, int],
    command: str,
) -> Reconciliation:
    """From the total of one definition to that of another, in one snapshot."""
    with totals.snapshot(connection):
        work = _Work(connection, first_blocks, datetime.now(UTC))
        one, other = work.side(a), work.side(b)
        return work.reconciliation(a, b, one, other, other, (), command)


def reconcile_outside(
    connection: Connection,
    a: Asked,
    outside: Outside,
    meant: str | None,
    first_blocks: Mapping[str, int],
    command: str,
) -> Reconciliation:
    """From the total of a definition to a number that somebody else published of the same window:
    what it would be under each preset, the steps to the one that it may mean, or else to the
    nearest, and the rest that nothing explains."""
    if a.window.low is None:
        raise ConfigError("a published number is of a window of times, not of blocks")
    with totals.snapshot(connection):
        work = _Work(connection, first_blocks, datetime.now(UTC))
        near = work.near(outside.usd, a.window)
        # what only simulates a lossy feed is not what somebody publishes
        of_records = [one.definition_id for one in near if one.fidelity != "simulated"]
        name = meant or of_records[0]
        if name not in presets():
            raise ConfigError(f"{name!r} is no preset: indexer definitions")
        b = Asked(presets()[name], a.window)
        goal = work.side(b)
        outside = msgspec.structs.replace(outside, meant=goal)
        return work.reconciliation(a, b, work.side(a), goal, outside, near, command)


class _Work:
    """One reconciliation: the connection, in its snapshot, and what holds for all of it."""

    def __init__(
        self, connection: Connection, first_blocks: Mapping[str, int], now: datetime
    ) -> None:
        self._connection = connection
        self._first_blocks = first_blocks
        self._now = now
        self._sums: dict[tuple[str, Window], Counted] = {}

    def side(self, asked: Asked) -> Side:
        """The total of one definition."""
        _check(asked.definition)
        return _side(
            totals.within(
                self._connection, asked.definition, asked.window, self._first_blocks, self._now
            )
        )

    def reconciliation(
        self,
        a: Asked,
        b: Asked,
        one: Side,
        goal: Side,
        b_side: Side | Outside,
        near: Sequence[Near],
        command: str,
    ) -> Reconciliation:
        """Everything that the report shows."""
        window = _both(a.window, b.window)
        hybrids = Hybrids(self._connection, self._known(a), self._known(b), window)
        values = {groups: hybrids.total(groups) for groups in hybrids.all_groups()}
        steps = waterfall(hybrids.groups, values, hybrids.affected())
        parts = hybrids.parts()
        check_partition(parts, one.usd, goal.usd)
        scopes = totals.scopes(
            self._connection, [a.definition, b.definition], window, self._first_blocks
        )
        return Reconciliation(
            a=one,
            b=b_side,
            differences=tuple(
                Difference(*said) for said in difference(a.definition, b.definition, "en")
            ),
            steps=steps,
            parts=parts,
            rows=hybrids.rows(),
            sensitivity=tuple(self._sensitivity(a, b)),
            near=tuple(near),
            residual_usd=residual(one, b_side),
            coverage=tuple(
                Covered(
                    scope.name, scope.share, scope.is_whole, len(scope.missing),
                    scope.as_of_block, scope.as_of_at,
                ) for scope in scopes
            ),
            is_simulated=totals.is_simulated(self._connection),
            as_of=self._now,
            command=command,
        )  # fmt: skip

    def near(self, usd: Decimal, window: Window) -> tuple[Near, ...]:
        """Every preset over the window, the nearest first."""
        found = []
        for definition in presets().values():
            if not _problem(definition):
                counted = self._counted(Asked(definition, window))
                found.append((definition, counted.usd, counted.unvalued))
        return nearest(usd, found)

    def _known(self, asked: Asked) -> Asked:
        return Asked(totals.with_labels(asked.definition, self._now), asked.window)

    # -- how much hangs on one choice

    def _sensitivity(self, a: Asked, b: Asked) -> Iterator[Sensitivity]:
        for dimension, value, change in _choices():
            changed = (change(asked) for asked in (a, b))
            counted = (None if asked is None else self._counted(asked) for asked in changed)
            yield Sensitivity(dimension, value, *counted)

    def _counted(self, asked: Asked) -> Counted:
        definition, window = self._known(asked)
        query = _COUNTED.format(
            query=counting.query(definition),
            gap=sql.SQL("interval '1 second' * {}").format(definition.repeat.gap_seconds),
        ).as_string(None)
        if (query, window) not in self._sums:
            bounds = totals.bounds_of(self._connection, window)
            with psycopg.RawCursor(self._connection) as cursor:
                row: Any = cursor.execute(query, bounds).fetchone()
            self._sums[query, window] = Counted(totals.plain(row[0]), *row[1:])
        return self._sums[query, window]


_COUNTED = sql.SQL(
    """
    SELECT coalesce(sum(usd), 0), count(*) - count(usd),
           count(*) FILTER (WHERE goes_on IS NOT TRUE)
    FROM (
        SELECT usd, block_at - lag(block_at) OVER (
                   PARTITION BY venue, dex, unit ORDER BY block_at) <= {gap} AS goes_on
        FROM ({query}) line WHERE line = 'counted'
    ) counted
    """
)


Change = Callable[[Asked], Asked | None]


def _choices() -> Iterator[tuple[str, str, Change]]:
    for gap in GAPS:
        yield "episode gap", f"{gap} s", partial(_with_gap, gap)
    for zone in ZONES:
        yield "time zone", zone, partial(_in_zone, zone)
    for policy in ("par", "market"):
        yield "dollar tokens", policy, partial(_with, "stablecoins", policy)
    for value in ("fill", "mark"):
        yield "perpetuals at", value, partial(_valued_at, value)


def _with(name: str, value: object, asked: Asked) -> Asked:
    return Asked(msgspec.structs.replace(asked.definition, **{name: value}), asked.window)


def _with_gap(seconds: int, asked: Asked) -> Asked:
    repeat = msgspec.structs.replace(asked.definition.repeat, gap_seconds=seconds)
    return _with("repeat", repeat, asked)


def _in_zone(zone: str, asked: Asked) -> Asked | None:
    """The same words under another zone; a window without one, or of this very day, stays. None
    where a day of the zone begins after the time that ends the window."""
    rule, high = asked.definition.window, asked.window.high
    if not isinstance(rule, Calendar) or high is None or asked.window.said == "now":
        return asked
    rule = Calendar(zone=zone)
    try:
        window = resolve(rule, asked.window.said, high)
    except ConfigError:
        return None
    return Asked(_with("window", rule, asked).definition, window)


def _valued_at(value: str, asked: Asked) -> Asked | None:
    """What the exchange's own ledger says is at mark alone; what is not alike is no sum."""
    changed = _with("perp_value", value, asked)
    if "ledger_update" in asked.definition.methods and value != "mark":
        return None
    return changed if changed.definition.is_one_sum else None


# -- a side --------------------------------------------------------------------------------------


def _check(definition: Definition) -> None:
    problem = _problem(definition)
    if problem:
        raise ConfigError(f"{definition.id} {problem}")


def _problem(definition: Definition) -> str:
    if definition.is_one_sum:
        return ""
    return "has no one sum to reconcile: what it counts of perpetuals and of loans is not alike"


def _side(total: Total) -> Side:
    definition, line = total.definition, total.line
    asks_labels = bool(definition.labels.only or definition.labels.without)
    return Side(
        definition_id=definition.id, definition_hash=definition.hash,
        fidelity=definition.fidelity, says=definition.says,
        paragraph_en=paragraph(definition, "en"), paragraph_zh=paragraph(definition, "zh"),
        window=total.window, usd=line.usd or Decimal(0), unvalued=line.unvalued or 0,
        counts={level: getattr(line, f"{level}s") or 0 for level in LEVELS},
        long_usd=line.long_usd or Decimal(0), short_usd=line.short_usd or Decimal(0),
        by_venue=tuple(
            OfVenue(one.name or "", one.usd or Decimal(0), one.records or 0, one.unvalued or 0)
            for one in total.section("venue")
        ),
        labels_as_of=total.labels_as_of if asks_labels else None,
        price_set=total.price_set,
    )  # fmt: skip


def _both(a: Window, b: Window) -> Window:
    """The least window that holds both."""
    if (a.low is None) != (b.low is None):
        raise ConfigError("a window of blocks and one of times cannot be reconciled")
    if a.low is None:
        if a.chain != b.chain:
            raise ConfigError(f"blocks of {a.chain} and of {b.chain} cannot be reconciled")
        froms, tos = (a.block_from or 0, b.block_from or 0), (a.block_to or 0, b.block_to or 0)
        return Window(said="both", chain=a.chain, block_from=min(froms), block_to=max(tos))
    lows = [one.low for one in (a, b) if one.low is not None]
    highs = [one.high for one in (a, b) if one.high is not None]
    return Window(said="both", low=min(lows), high=max(highs))


# -- the hybrids ---------------------------------------------------------------------------------

_TEMPORARY = sql.Identifier("pg_temp", "reconciled")
_IDENTITY = ("id",)


class Hybrids:
    """Every mixture of two definitions: a set of groups names the one that has these from B and
    the rest from A. All are made of one temporary table of legs."""

    def __init__(self, connection: Connection, a: Asked, b: Asked, window: Window) -> None:
        self._connection = connection
        self._a, self._b = a, b
        self._sums: dict[str, Decimal] = {}
        self.groups = tuple(name for name in GROUPS if self._differ(name))
        self._values = list(dict.fromkeys(
            self._value_groups(frozenset(groups)) for groups in _subsets(("valuation", "price"))
        ))  # fmt: skip
        hybrids = [self._definition(groups) for groups in self._values]
        self._legs = _NUMBERED.format(
            legs=totals.bound(connection, legs([a.definition, b.definition], hybrids), window)
        )
        connection.execute("DROP TABLE IF EXISTS pg_temp.reconciled")
        connection.execute(
            sql.SQL("CREATE TEMP TABLE reconciled ON COMMIT DROP AS {}").format(self._legs)
        )
        connection.execute("ANALYZE pg_temp.reconciled")

    def _differ(self, group: str) -> bool:
        if group == "window":
            return _bounds(self._a.window) != _bounds(self._b.window)
        return self._a.definition.group(group) != self._b.definition.group(group)

    def all_groups(self) -> Iterator[frozenset[str]]:
        """All sets of the groups in which A and B differ."""
        return map(frozenset, _subsets(self.groups))

    def total(self, groups: frozenset[str]) -> Decimal:
        """What a mixture sums up to."""
        query = _SUM.format(self._rows(groups, _TEMPORARY)).as_string(self._connection)
        if query not in self._sums:  # a group need not change the money
            row: Any = self._connection.execute(query).fetchone()
            self._sums[query] = totals.plain(row[0])
        return self._sums[query]

    def _definition(self, groups: frozenset[str]) -> Definition:
        found = self._a.definition
        for name in groups:
            found = found.with_group(name, self._b.definition)
        return found

    def _value_groups(self, groups: frozenset[str]) -> frozenset[str]:
        return groups & {"valuation", "price"} & set(self.groups)

    def _rows(self, groups: frozenset[str], source: sql.Composable) -> Sql:
        window = (self._b if "window" in groups else self._a).window
        return counting.rows(
            self._definition(groups),
            sql.SQL("SELECT * FROM {}").format(source),
            value=self._values.index(self._value_groups(groups)),
            window=_is_in(window),
            further=_IDENTITY,
        )

    # -- steps

    def affected(self) -> dict[str, Affected]:
        """Of each step in the order of `GROUPS` what it moves."""
        return {
            group: self._moved(frozenset(self.groups[:place]), group)
            for place, group in enumerate(self.groups)
        }

    def _moved(self, before: frozenset[str], group: str) -> Affected:
        query = _MOVED.format(
            before=self._rows(before, _TEMPORARY), after=self._rows(before | {group}, _TEMPORARY)
        )
        summed: Any = self._connection.execute(_SUMMED.format(moved=query)).fetchone()
        accounts: Iterable[Any] = self._connection.execute(
            _TOP_ACCOUNTS.format(moved=query, top=TOP_ACCOUNTS)
        )
        return Affected(summed[0], summed[1], tuple(Moved(*row) for row in accounts),
                        self._shown(query))  # fmt: skip

    # -- parts

    def parts(self) -> tuple[Part, ...]:
        """The records that tell the totals apart, each with the first reason."""
        rows: Iterable[Any] = self._connection.execute(
            _PARTS.format(told=self._told(_TEMPORARY))
        ).fetchall()
        return tuple(
            Part(kind, reason, records, unvalued, usd, self._shown(
                _OF_PART.format(told=self._told(sql.Identifier("reconciled")), kind=kind,
                                reason=reason)
            ))
            for kind, reason, records, unvalued, usd in rows
        )  # fmt: skip

    def rows(self) -> Rows:
        """The largest records of each kind."""
        return Rows(**{kind: self._largest(kind) for kind in ("only_a", "only_b", "revalued")})

    def _largest(self, kind: str) -> tuple[Row, ...]:
        rows: Iterable[Any] = self._connection.execute(
            _LARGEST.format(told=self._told(_TEMPORARY), kind=kind, top=TOP_ROWS)
        )
        return tuple(Row(*row) for row in rows)

    def _told(self, source: sql.Composable) -> Sql:
        """Each record that counts on one side alone or at another value, with its reason."""
        everything = frozenset(self.groups)
        return _TOLD.format(
            source=source,
            a=self._rows(frozenset(), source),
            b=self._rows(everything, source),
            only_a=self._first_failing(everything),
            only_b=self._first_failing(frozenset()),
            by_valuation=self._by_valuation(),
        )

    def _first_failing(self, groups: frozenset[str]) -> Sql:
        """The first group whose test a record does not pass; the rest is what counts of several.

        Who vouches for a record may hang on how it is valued: where this side would trust it as
        the other one values it, what it is worth is the reason."""
        definition = self._definition(groups)
        window = (self._b if "window" in groups else self._a).window
        there = frozenset(self.groups) - groups
        tests, by_valuation, by_price = (
            counting.tests_of(definition, self._values.index(self._value_groups(chosen)))
            for chosen in (there, there ^ {"valuation"}, groups)
        )
        by_group = {
            "coverage": [tests["finality"]],
            "window": [_is_in(window)],
            "scope": [tests["scope"], tests["trust"]],
            "methods": [tests["methods"]],
            "party": [tests["party"], tests["itself"], tests["labels"]],
            "leg": [tests["leg"]],
            "valuation": [by_valuation["valuation"], by_valuation["trust"]],
            "price": [by_price["valuation"], by_price["trust"]],
        }
        cases = sql.SQL(" ").join(
            sql.SQL("WHEN ({}) IS NOT TRUE THEN {}").format(
                sql.SQL(" AND ").join(sql.SQL("({})").format(test) for test in said), name
            )
            for name, said in by_group.items()
        )
        return sql.SQL("CASE {} ELSE 'repeat' END").format(cases)

    def _by_valuation(self) -> Sql:
        """Whether what B values makes a difference by itself, at A's prices."""
        if "valuation" not in self.groups:
            return sql.SQL("false")
        number = self._values.index(frozenset({"valuation"}))
        worth = "round(legs.{}, 2)" if self._a.definition.rounding == "cents" else "legs.{}"
        return sql.SQL(f"{worth} IS DISTINCT FROM {worth}").format(
            sql.Identifier(f"usd_{number}"), sql.Identifier("usd_0")
        )

    def _shown(self, query: Sql) -> str:
        """SQL that runs by itself."""
        text = sql.SQL("WITH reconciled AS ({})\n{}").format(self._legs, query)
        said = text.as_string(self._connection)
        return said.replace(_TEMPORARY.as_string(self._connection), '"reconciled"')


_SUM = sql.SQL("SELECT coalesce(sum(usd), 0) FROM ({}) line WHERE line = 'counted'")
_NUMBERED = sql.SQL("SELECT legs.*, row_number() OVER () AS id FROM ({legs}) legs")

_MOVED = sql.SQL(
    """
    SELECT coalesce(a.venue, b.venue) AS venue, coalesce(a.unit, b.unit) AS account,
           coalesce(a.event_key, b.event_key) AS event_key,
           coalesce(a.market, b.market) AS market, coalesce(a.block_at, b.block_at) AS block_at,
           a.usd AS usd_before, b.usd AS usd_after,
           coalesce(b.usd, 0) - coalesce(a.usd, 0) AS usd,
           a.id IS NOT NULL AND a.usd IS NULL OR b.id IS NOT NULL AND b.usd IS NULL AS is_unvalued
    FROM (SELECT * FROM ({before}) line WHERE line = 'counted') a
    FULL JOIN (SELECT * FROM ({after}) line WHERE line = 'counted') b ON b.id = a.id
    WHERE a.id IS NULL OR b.id IS NULL OR a.usd IS DISTINCT FROM b.usd
    """
)
_SUMMED = sql.SQL("SELECT count(*), count(*) FILTER (WHERE is_unvalued) FROM ({moved}) moved")
_TOP_ACCOUNTS = sql.SQL(
    """
    SELECT venue, account, sum(usd) FROM ({moved}) moved
    GROUP BY venue, account HAVING sum(usd) <> 0
    ORDER BY abs(sum(usd)) DESC, venue, account LIMIT {top}
    """
)
_TOLD = sql.SQL(
    """
    SELECT told.kind, told.reason, legs.venue || '/' || legs.event_key || '/' || legs.liquidated
               AS key,
           legs.venue, legs.account, legs.market, legs.block_at, told.usd_a, told.usd_b,
           coalesce(told.usd_b, 0) - coalesce(told.usd_a, 0) AS usd, told.is_unvalued
    FROM {source} legs
    JOIN (
        SELECT coalesce(a.id, b.id) AS id, a.usd AS usd_a, b.usd AS usd_b,
               a.id IS NOT NULL AND a.usd IS NULL OR b.id IS NOT NULL AND b.usd IS NULL
                   AS is_unvalued,
               CASE WHEN b.id IS NULL THEN 'only_a' WHEN a.id IS NULL THEN 'only_b'
                    ELSE 'revalued' END AS of_kind
        FROM (SELECT id, usd FROM ({a}) line WHERE line = 'counted') a
        FULL JOIN (SELECT id, usd FROM ({b}) line WHERE line = 'counted') b ON b.id = a.id
        WHERE a.id IS NULL OR b.id IS NULL OR a.usd IS DISTINCT FROM b.usd
    ) both_of ON both_of.id = legs.id
    CROSS JOIN LATERAL (
        SELECT both_of.of_kind, CASE both_of.of_kind
                   WHEN 'only_a' THEN {only_a} WHEN 'only_b' THEN {only_b}
                   ELSE CASE WHEN {by_valuation} THEN 'valuation' ELSE 'price' END END,
               both_of.usd_a, both_of.usd_b, both_of.is_unvalued
    ) told (kind, reason, usd_a, usd_b, is_unvalued)
    """
)
_PARTS = sql.SQL(
    """
    SELECT kind, reason, count(*), count(*) FILTER (WHERE is_unvalued), sum(usd)
    FROM ({told}) told GROUP BY kind, reason ORDER BY kind, abs(sum(usd)) DESC, reason
    """
)
_OF_PART = sql.SQL("SELECT * FROM ({told}) told WHERE kind = {kind} AND reason = {reason}")
_LARGEST = sql.SQL(
    """
    SELECT reason, key, venue, account, market, block_at, usd_a, usd_b
    FROM ({told}) told WHERE kind = {kind}
    ORDER BY abs(usd) DESC, key, account LIMIT {top}
    """
)


def _subsets(names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    for size in range(len(names) + 1):
        yield from combinations(names, size)


def _bounds(window: Window) -> tuple[Any, ...]:
    return window.low, window.high, window.chain, window.block_from, window.block_to


def _is_in(window: Window) -> Sql:
    if window.low is None or window.high is None:
        return sql.SQL("block_number >= {} AND block_number < {}").format(
            window.block_from, window.block_to
        )
    return sql.SQL("block_at >= {}::timestamptz AND block_at < {}::timestamptz").format(
        window.low.isoformat(), window.high.isoformat()
    )
