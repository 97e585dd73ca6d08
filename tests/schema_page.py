"""docs/schema.md: what the database itself says of the schema `liq`.

python -m tests.schema_page
"""

from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

from indexer.store import database
from indexer.store.database import Connection
from tests.postgres import cluster, new_database

PAGE = Path(__file__).resolve().parents[1] / "docs" / "schema.md"
REMEDY = "the schema has changed: python -m tests.schema_page"

HEAD = """# The schema `liq`

What you may build on: views and functions, each with what it says of itself. Made by
`python -m tests.schema_page` from the comments of a migrated database; `\\d+` shows the same in
psql. [cookbook.md](cookbook.md) asks questions of it. Tables are in the schema `ledger`, which is
nobody's contract.

Amounts ending in `_raw` are base units, in `_usd` dollars; times are UTC, addresses and hashes
lower case. NULL is unknown or does not apply, never 0. Numbers are exact: `numeric`, no floats. The
end of a range is not part of it.
"""

# A purpose and what serves it: the only thing here that the database does not say.
GROUPS: Mapping[str, Sequence[str]] = {
    "Liquidations": (
        *("liquidations_usd", "orders_between", "actions_between", "episodes_between", "largest"),
        *("hourly", "daily", "liquidations", "lending_liquidations", "orders", "actions"),
        *("episodes", "fills", "ledger_liquidations", "anonymous_liquidations"),
        *("liquidated_positions", "liquidation_parts", "auctions"),
    ),
    "Values and prices": (
        *("valuations", "lending_values", "unvalued", "unvalued_reasons", "suspects", "prices"),
        *("price_files", "source_rank", "at_par", "assets", "market_minutes"),
    ),
    "Totals under a definition": (
        *("definitions", "total", "counted", "beside", "largest_accounts", "price_set", "totals"),
    ),
    "Labels and sizes": (
        *(
            "labels",
            "labels_at",
            "label_history",
            "flags",
            "sized_episodes",
            "label_sets",
            "set_labels",
        ),
        *("label_conflicts", "never_labelled"),
    ),
    "Accounts": (
        *("accounts", "account_days", "liquidators", "protocol_vaults", "exchange_roles", "owners"),
        *("account_codes", "account_owners"),
    ),
    "What stood before, and what stands now": (
        *("open_interest", "open_interest_days", "open_interest_missing", "debts"),
        *("positions_now", "whales_under_water", "closest_to_liquidation"),
    ),
    "What was read, and what was not": (
        *("coverage", "stretches", "missing", "undecoded", "quarantine", "chains", "checks"),
        "reorgs",
        *("orphaned_liquidations", "sources", "samples", "violations", "content_hash"),
    ),
    "Who may read, and what is promised": (
        *("contract", "contract_version", "roles", "reader_limits"),
    ),
    "Operations": ("alerts", "endpoints"),
    "Helpers": ("checked_gap",),
}


VIEWS = """
    SELECT c.relname, obj_description(c.oid, 'pg_class'),
           array_agg(ARRAY[a.attname::text, format_type(a.atttypid, a.atttypmod),
                           col_description(c.oid, a.attnum)] ORDER BY a.attnum)
    FROM pg_class c
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE c.relnamespace = 'liq'::regnamespace AND c.relkind IN ('v', 'm')
    GROUP BY c.oid, c.relname
"""
FUNCTIONS = """
    SELECT p.proname, obj_description(p.oid, 'pg_proc'),
           ARRAY(SELECT concat_ws(' ', name, format_type(type, NULL))
                        || coalesce(' = ' || pg_get_function_arg_default(p.oid, at::int), '')
                 FROM unnest(p.proargnames, coalesce(p.proallargtypes, p.proargtypes::oid[]),
                             p.proargmodes) WITH ORDINALITY AS one (name, type, mode, at)
                 WHERE coalesce(mode, 'i') = 'i' ORDER BY at),
           ARRAY(SELECT ARRAY[name, format_type(type, NULL)]
                 FROM unnest(p.proargnames, p.proallargtypes, p.proargmodes)
                      WITH ORDINALITY AS one (name, type, mode, at)
                 WHERE mode IN ('t', 'o') ORDER BY at),
           format_type(p.prorettype, NULL)
    FROM pg_proc p WHERE p.pronamespace = 'liq'::regnamespace
    ORDER BY p.proname, p.pronargs DESC, p.oid::regprocedure::text
"""
TYPES = """
    SELECT t.typname, obj_description(t.oid, 'pg_type'),
           CASE WHEN t.typtype = 'd' THEN format_type(t.typbasetype, t.typtypmod)
                ELSE (SELECT string_agg(quote_literal(e.enumlabel), ', ' ORDER BY e.enumsortorder)
                      FROM pg_enum e WHERE e.enumtypid = t.oid) END
    FROM pg_type t WHERE t.typnamespace = 'liq'::regnamespace AND t.typtype IN ('d', 'e')
"""


Row = tuple[Any, ...]


class Part(NamedTuple):
    """What the page says of a view, a function or a type."""

    name: str
    title: str
    lines: str


def parts(connection: Connection) -> list[Part]:
    """All of the schema; what a view's rows are called is no type of its own."""
    functions = groupby(connection.execute(FUNCTIONS).fetchall(), key=itemgetter(0))
    return [
        *(Part(row[0], row[0], _view(*row)) for row in connection.execute(VIEWS).fetchall()),
        *(Part(name, f"{name}()", _function([*rows])) for name, rows in functions),
        *(Part(row[0], row[0], _type(*row)) for row in connection.execute(TYPES).fetchall()),
    ]


def _view(_: str, text: str, columns: list[list[str]]) -> str:
    table = "".join(f"| `{column}` | {type} | {cell(of)} |\n" for column, type, of in columns)
    return f"{text}\n\n| Column | Type | Meaning |\n| --- | --- | --- |\n{table}"


def _function(overloads: list[Row]) -> str:
    """All functions of a name; those of one name give the same columns."""
    called = "".join(
        f"- `{name}({', '.join(arguments)})`: {text}\n"
        for name, text, arguments, _, _ in overloads
    )  # fmt: skip
    given = {
        ", ".join(f"`{column}` {type}" for column, type in columns) or gives
        for _, _, _, columns, gives in overloads
    }
    (shown,) = given
    return f"{called}\nGives {shown}.\n"


def _type(_: str, text: str, of: str) -> str:
    return f"{text} A type: {of}.\n"


def cell(text: str) -> str:
    """For a table of Markdown."""
    return text.replace("|", "\\|").replace("\n", " ")


def page(connection: Connection) -> str:
    """The whole page. Raises ValueError for what no group names, or two, or that is not there."""
    found = {part.name: part for part in parts(connection)}
    named = [name for names in GROUPS.values() for name in names]
    if sorted(named) != sorted(found):
        odd = sorted({name for name in named if named.count(name) > 1} | found.keys() ^ set(named))
        raise ValueError(f"one group of tests/schema_page.py names each; look at {odd}")
    groups = {title: [found[name] for name in names] for title, names in GROUPS.items()}
    return HEAD + "\n" + "".join(map(_line, groups.items())) + "".join(map(_group, groups.items()))


def _line(group: tuple[str, list[Part]]) -> str:
    title, members = group
    links = ", ".join(f"[{part.title}](#{part.name})" for part in members)
    return f"- [{title}](#{title.lower().replace(' ', '-').replace(',', '')}): {links}\n"


def _group(group: tuple[str, list[Part]]) -> str:
    title, members = group
    return f"\n## {title}\n" + "".join(f"\n### {part.title}\n\n{part.lines}" for part in members)


if __name__ == "__main__":
    with cluster() as server:
        conninfo = new_database(server)
        database.migrate(conninfo)
        with database.connect(conninfo) as opened:
            PAGE.write_text(page(opened), "utf-8")
