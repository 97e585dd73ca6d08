"""A definition as SQL: the rows of `legs` that it counts, and those beside that it leaves out.

Each row has a `line`. What is out of the window, the scope, the methods or the legs of a definition
is no row; what is in but does not count stands on a line of its own: not_final, permissionless,
protocol_vault, self_liquidation, repeated, unsampled, too_small.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

from psycopg import sql

from indexer.methodology.definition import Definition, Level
from indexer.store.database import Connection
from indexer.store.legs import COLUMNS, Sql, legs

_TRUE = sql.SQL("true")


def query(definition: Definition) -> Sql:
    """All rows of a definition with their lines; `$1` to `$3` as in `legs`, `$4` and `$5` the
    blocks of a window of blocks, half-open."""
    return rows(definition, legs([definition], [definition]))


def query_of_accounts(definition: Definition) -> Sql:
    """The rows of a definition that concern accounts, `$4`; as `query` where that can be told
    without looking at others: see `Definition.is_of_accounts`."""
    return rows(definition, legs([definition], [definition], of_accounts=True), window=_TRUE)


def rows(
    definition: Definition,
    source: Sql,
    *,
    value: int = 0,
    window: Sql | None = None,
    further: Sequence[str] = (),
) -> Sql:
    """The rows that a definition makes of `source`, which has the columns of `legs`, each worth
    what its way to value number `value` says. `further` columns of the source come behind."""
    tests = tests_of(definition, value)
    hard = (tests[name] for name in ("scope", "methods", "labels", "leg", "valuation"))
    chosen: Sql = _CHOSEN.format(
        columns=_names([*COLUMNS, *further]),
        usd=_usd(definition, value),
        source=sql.SQL(f"source_{value}"),
        trust=sql.SQL(f"trust_{value}"),
        unit=_unit(definition),
        line=_line(tests),
        legs=source,
        tests=_all(window or _BLOCKS, *hard),
    )
    shown = [*SHOWN, *further]
    return _SHOWN.format(
        columns=_names(shown), rows=_without_repeats(definition, chosen, shown[1:])
    )


def is_counted(definition: Definition, value: int) -> Sql:
    """Whether a row of `legs` counts, of a definition that leaves out none for what others are."""
    tests = tests_of(definition, value)
    return _all(*tests.values())


def usd_of(definition: Definition, value: int) -> Sql:
    """What such a row is worth."""
    return _usd(definition, value)


def make_room(connection: Connection) -> None:
    """As the functions of the database run these queries, to the end of the transaction: a day of
    rows fits into memory, and compiling costs more than it saves."""
    connection.execute("SET LOCAL work_mem = '64MB'")
    connection.execute("SET LOCAL jit = off")


SHOWN = (
    "line", "instrument", "venue", "chain", "account", "unit", "market", "dex", "asset", "side",
    "method", "leg", "margin_mode", "block_number", "block_at", "event_key", "liquidated",
    "action", "order_id", "fill", "is_flat", "usd", "price_source", "trust",
)  # fmt: skip
_CHOSEN = sql.SQL(
    """
    SELECT {columns}, {usd} AS usd, {source} AS price_source, {trust} AS trust, {unit} AS unit,
           {line} AS line
    FROM ({legs}) legs
    WHERE {tests}
    """
)
_SHOWN = sql.SQL("SELECT {columns} FROM ({rows}) line")


# -- what counts ---------------------------------------------------------------------------------


# A window of times has no blocks, and these are NULL: the planner sees it before it plans.
_BLOCKS = sql.SQL(
    "($4::bigint IS NULL OR block_number >= $4) AND ($5::bigint IS NULL OR block_number < $5)"
)


def tests_of(definition: Definition, value: int) -> dict[str, Sql]:
    """By name, what a leg must be; `value` is the number of the way to value it."""
    d = definition
    is_trusted = _TRUE if d.trust == "any" else sql.SQL(f"trust_{value} IS DISTINCT FROM 'market'")
    return {
        "finality": sql.SQL("is_final") if d.finality == "finalized" else _TRUE,
        "scope": _all(
            _among("instrument", d.instruments),
            _any(_among("venue", d.venues), _among("split_part(venue, '.', 1)", d.venues)),
            _among("chain", d.chains),
            _among("market", d.markets),
            _all(_among("asset", d.assets.families), _among("relation", d.assets.relations))
            if d.assets.families
            else _TRUE,
            # all three are no test: the planner would take it for a rare thing
            _TRUE
            if len(d.margin_modes) == 3
            else _any(_among("instrument", ("lending",)), _among("margin_mode", d.margin_modes)),
        ),
        "trust": is_trusted,
        "methods": _all(
            _among("method", d.methods),
            _any(*(sql.SQL("starts_with(dir, {})").format(start) for start in d.dirs)),
        ),
        "party": _among("party", d.parties),
        "itself": sql.SQL("NOT is_self") if d.self_liquidations == "exclude" else _TRUE,
        "labels": _labels(d),
        "valuation": sql.SQL(f"source_{value} IS DISTINCT FROM 'absent'")
        if "lending" in d.instruments
        else _TRUE,
        "leg": {
            "liquidated": sql.SQL("leg = 'liquidated'"),
            "counterparty": sql.SQL("leg = 'counterparty'"),
            "both": sql.SQL("is_seen"),
        }[d.leg],
    }  # fmt: skip


def _line(tests: Mapping[str, Sql]) -> Sql:
    return sql.SQL(
        "CASE WHEN NOT ({finality}) THEN 'not_final' WHEN NOT ({trust}) THEN 'permissionless'"
        " WHEN NOT ({party}) THEN 'protocol_vault' WHEN NOT ({itself}) THEN 'self_liquidation'"
        " ELSE 'counted' END"
    ).format(**{name: tests[name] for name in ("finality", "trust", "party", "itself")})


def _labels(definition: Definition) -> Sql:
    labels = definition.labels
    moment = _as_of(labels.as_of)
    return _all(
        *(
            sql.SQL("{}({})").format(
                sql.SQL("" if is_wanted else "NOT "),
                _LABELLED.format(labels=sql.Literal(list(names)), known=moment),
            )
            for names, is_wanted in ((labels.only, True), (labels.without, False))
            if names
        )
    )


_LABELLED = sql.SQL(
    "EXISTS (SELECT FROM ledger.label said WHERE said.venue IN (legs.venue, legs.chain, '*')"
    " AND said.account = legs.account AND said.label = ANY ({labels}::text[])"
    " AND said.valid_during @> legs.block_at AND {known})"
)


def _as_of(moment: str | None) -> Sql:
    if moment is None:
        return sql.SQL("upper_inf(said.recorded_during)")
    return sql.SQL("said.recorded_during @> {}::timestamptz").format(
        datetime.fromisoformat(moment).isoformat()
    )


def _usd(definition: Definition, value: int) -> Sql:
    usd = sql.SQL(f"usd_{value}")
    return sql.SQL("round({}, 2)").format(usd) if definition.rounding == "cents" else usd


def _unit(definition: Definition) -> Sql:
    return sql.SQL("owner" if definition.account_unit == "owner" else "account")


def _among(column: str, names: Sequence[str]) -> Sql:
    """Whether a column is one of the names; no names: no matter which."""
    if not names:
        return _TRUE
    return sql.SQL("{} = ANY ({}::text[])").format(sql.SQL(column), sql.Literal(list(names)))


def _all(*tests: Sql) -> Sql:
    return _joined(tests, "AND")


def _any(*tests: Sql) -> Sql:
    return _joined(tests, "OR")


def _joined(tests: Sequence[Sql], word: str) -> Sql:
    said = [test for test in tests if test is not _TRUE]
    if not said:
        return _TRUE
    return sql.SQL("({})").format(sql.SQL(f" {word} ").join(said))


# -- what belongs together -----------------------------------------------------------------------

_PLACED = sql.SQL(
    """
    SELECT begun.*,
           count(*) FILTER (WHERE begins_episode) OVER of_episode AS episode,
           count(*) FILTER (WHERE begins_position) OVER of_position AS position
    FROM (
        SELECT chosen.*,
               block_at - lag(block_at) OVER of_episode > {gap} AS begins_episode,
               lag(is_flat) OVER of_position
                   OR block_at - lag(block_at) OVER of_position > {gap} AS begins_position
        FROM ({rows}) chosen
        WINDOW of_episode AS ({episode}), of_position AS ({position})
    ) begun
    WINDOW of_episode AS ({episode} ROWS UNBOUNDED PRECEDING),
           of_position AS ({position} ROWS UNBOUNDED PRECEDING)
    """
)
# A position that is flat at the end of a block has ended; blocks have no order that all legs tell.
_EPISODE = sql.SQL("PARTITION BY line, venue, dex, unit ORDER BY block_at")
_POSITION = sql.SQL(
    "PARTITION BY line, venue, dex, unit, market, side ORDER BY block_at, is_flat, event_key"
)


def _placed(definition: Definition, rows: Sql) -> Sql:
    gap = sql.SQL("interval '1 second' * {}").format(definition.repeat.gap_seconds)
    return _PLACED.format(gap=gap, rows=rows, episode=_EPISODE, position=_POSITION)


# What names a unit of each level, beside its venue. A trade of which both sides count is one fill.
KEYS: dict[Level, tuple[str, ...]] = {
    "record": ("event_key", "liquidated", "leg"),
    "fill": ("coalesce(fill, event_key || '/' || liquidated)",),
    "order": ("unit", "market", "order_id"),
    "action": ("unit", "action"),
    "position": ("unit", "dex", "market", "side", "position"),
    "episode": ("unit", "dex", "episode"),
    "account": ("unit",),
}


_LEFT_OUT = sql.SQL(
    """
    SELECT {columns}, CASE WHEN line <> 'counted' OR {is_kept} THEN line ELSE {name} END AS line
    FROM (
        SELECT rows.*, sum(usd) OVER of_unit AS unit_usd, min(block_at) OVER of_unit AS unit_from,
               max(block_at) OVER of_unit AS unit_to
        FROM ({rows}) rows
        WINDOW of_unit AS (PARTITION BY line, {of})
    ) rated
    """
)
_IS_FIRST = sql.SQL("dense_rank() OVER (PARTITION BY line, {of} ORDER BY {order}, {unit}) = 1")
_ORDERS = {
    "first": "unit_from",
    "last": "unit_to DESC",
    "largest": "unit_usd DESC NULLS LAST",
}


def _without_repeats(definition: Definition, rows: Sql, columns: Sequence[str]) -> Sql:
    """Takes off the counted line what the repeat policy, the sample and the minimum leave out, in
    this order."""
    d = definition
    if d.repeat.keep != "all":
        episode = ("venue", *KEYS["episode"])
        rows = _left_out(
            "repeated", _placed(d, rows), columns, episode, KEYS["action"], d.repeat.keep
        )
    if d.sample is not None:
        bucket = f"date_bin('{d.sample.seconds} s', block_at, 'epoch'::timestamptz)"
        within = ("venue", "market", bucket)
        rows = _left_out("unsampled", rows, columns, within, ("unit", "order_id"), d.sample.keep)
    if d.minimum_usd:
        if d.count in ("position", "episode"):  # of what is left
            rows = _placed(d, rows)
        of = ("venue", *KEYS[d.count])
        is_kept = sql.SQL("unit_usd >= {}").format(d.minimum_usd)
        rows = _split_off("too_small", rows, columns, of, (), is_kept)
    return rows


def _left_out(
    name: str, rows: Sql, columns: Sequence[str], of: Sequence[str], unit: Sequence[str], keep: str
) -> Sql:
    """Of the units in each group one stays."""
    is_kept = _IS_FIRST.format(of=_names(of), unit=_names(unit), order=sql.SQL(_ORDERS[keep]))
    return _split_off(name, rows, columns, of, unit, is_kept)


def _split_off(
    name: str,
    rows: Sql,
    columns: Sequence[str],
    of: Sequence[str],
    unit: Sequence[str],
    is_kept: Sql,
) -> Sql:
    return _LEFT_OUT.format(
        columns=_names(columns), name=name, rows=rows, of=_names((*of, *unit)), is_kept=is_kept,
    )  # fmt: skip


def _names(names: Sequence[str]) -> Sql:
    return sql.SQL(", ").join(map(sql.SQL, names))
