"""What others built on our schemas: their views and functions, which no migration may break in
silence."""

from collections.abc import Iterable
from typing import Any, NamedTuple


class Dependent(NamedTuple):
    """Somebody's view, table or function outside our schemas; `on` is what of ours it uses, itself
    or through another, and `definition` the SQL that makes it again, None of a table."""

    kind: str
    name: str
    owner: str
    on: tuple[str, ...]
    definition: str | None

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


# From each object of ours to what refers to it, and on from there. A rule stands for its view.
_DEPENDENTS = """
    WITH RECURSIVE ours AS (
        SELECT 'pg_class'::regclass::oid AS class, c.oid AS id,
               n.nspname || '.' || c.relname AS name
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname IN ('liq', 'ledger') AND c.relkind IN ('v', 'm', 'r', 'p')
        UNION ALL
        SELECT 'pg_type'::regclass, c.reltype, n.nspname || '.' || c.relname
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname IN ('liq', 'ledger') AND c.relkind IN ('v', 'm', 'r', 'p')
        UNION ALL
        SELECT 'pg_proc'::regclass, p.oid, n.nspname || '.' || p.proname
        FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE n.nspname IN ('liq', 'ledger')
    ), used AS (
        SELECT class, id, name, true AS is_ours FROM ours
        UNION
        SELECT CASE d.classid WHEN 'pg_rewrite'::regclass THEN 'pg_class'::regclass
                    ELSE d.classid END,
               coalesce(rule.ev_class, d.objid), used.name, false
        FROM used
        JOIN pg_depend d ON (d.refclassid, d.refobjid) = (used.class, used.id)
            AND d.deptype = 'n'
            AND d.classid IN ('pg_rewrite'::regclass, 'pg_proc'::regclass, 'pg_class'::regclass)
        LEFT JOIN pg_rewrite rule ON d.classid = 'pg_rewrite'::regclass AND rule.oid = d.objid
        WHERE (CASE d.classid WHEN 'pg_rewrite'::regclass THEN 'pg_class'::regclass
                    ELSE d.classid END, coalesce(rule.ev_class, d.objid))
              NOT IN (SELECT class, id FROM ours)
    )
    SELECT kind, name, owner, uses, definition
    FROM (
        SELECT c.oid AS id,
               CASE c.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view'
                    ELSE 'table' END AS kind,
               quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS name,
               pg_get_userbyid(c.relowner) AS owner,
               array_agg(DISTINCT used.name ORDER BY used.name) AS uses,
               CASE c.relkind WHEN 'v' THEN 'CREATE VIEW '
                              WHEN 'm' THEN 'CREATE MATERIALIZED VIEW ' END
                   || quote_ident(n.nspname) || '.' || quote_ident(c.relname) || ' AS' || chr(10)
                   || pg_get_viewdef(c.oid, true) AS definition
        FROM used JOIN pg_class c ON (used.class, used.id) = ('pg_class'::regclass, c.oid)
        JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE NOT used.is_ours AND c.relkind IN ('v', 'm', 'r', 'p')
        GROUP BY c.oid, n.nspname, c.relname, c.relkind, c.relowner
        UNION ALL
        SELECT p.oid, 'function', p.oid::regprocedure::text, pg_get_userbyid(p.proowner),
               array_agg(DISTINCT used.name ORDER BY used.name), pg_get_functiondef(p.oid)
        FROM used JOIN pg_proc p ON (used.class, used.id) = ('pg_proc'::regclass, p.oid)
        WHERE NOT used.is_ours AND p.prokind IN ('f', 'p')
        GROUP BY p.oid, p.proowner
    ) found
    ORDER BY id
"""


def dependents(connection: Any) -> list[Dependent]:
    """All of them in the order of their making, on a connection of ours or of a migration."""
    run = getattr(connection, "exec_driver_sql", connection.execute)
    found: Iterable[Any] = run(_DEPENDENTS).fetchall()
    return [Dependent(row[0], row[1], row[2], tuple(row[3]), row[4]) for row in found]


def drop(connection: Any, chosen: Iterable[Dependent]) -> None:
    """Drop views and functions of others, and what stands on them in turn."""
    run = getattr(connection, "exec_driver_sql", connection.execute)
    for one in chosen:
        if one.definition is not None:  # quoted by the server
            run(f"DROP {one.kind.upper()} IF EXISTS {one.name} CASCADE")
