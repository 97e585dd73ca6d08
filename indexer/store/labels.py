"""Runs the rules: what a rule finds now stands, what it no longer finds is withdrawn."""

from typing import NamedTuple

from psycopg import sql

from indexer.model import Rule
from indexer.store.database import Connection


class Change(NamedTuple):
    """What one run of a rule did."""

    rule: Rule
    new: int
    withdrawn: int
    standing: int


# What identifies an opinion, and what it says; a change in what it says is a new row.
_SAYS = {
    "flags": (
        "flag",
        ("venue", "account", "level", "subject_key"),
        ("value_usd", "threshold_usd", "occurred_at"),
    ),
    "labels": (
        "label",
        ("venue", "account", "label"),
        ("confidence", "evidence", "valid_during"),
    ),
}


def apply(connection: Connection, rule: Rule) -> Change:
    """Make the flags or labels of a rule equal to what its query finds, in one transaction.

    Nothing is overwritten: a row that no longer holds is closed in recorded time. The result does
    not depend on how often or after which data it ran before.
    """
    table, key, says = _SAYS[rule.makes]
    columns = sql.SQL(", ").join(map(sql.Identifier, (*key, *says)))
    names = {
        "table": sql.Identifier("ledger", table),
        "columns": columns,
        "same": sql.SQL(
            "({stored}, stored.rule_version) IS NOT DISTINCT FROM ({found}, %(rule_version)s)"
        ).format(
            stored=_prefixed("stored", (*key, *says)), found=_prefixed("found", (*key, *says))
        ),
    }
    values = {"rule": rule.id, "rule_version": rule.version}
    with connection.transaction():
        connection.execute("DROP TABLE IF EXISTS found_now")
        connection.execute(
            "CREATE TEMP TABLE found_now ON COMMIT DROP AS " + rule.query,
            {**rule.parameters, "as_of": _as_of(connection)},
        )
        withdrawn = connection.execute(
            sql.SQL(
                """
                UPDATE {table} stored
                SET recorded_during = tstzrange(lower(recorded_during), clock_timestamp())
                WHERE rule = %(rule)s AND upper_inf(recorded_during)
                  AND NOT EXISTS (SELECT FROM found_now found WHERE {same})
                """
            ).format(**names),
            values,
        ).rowcount
        new = connection.execute(
            sql.SQL(
                """
                INSERT INTO {table} ({columns}, rule, rule_version, recorded_during)
                SELECT {columns}, %(rule)s, %(rule_version)s, tstzrange(clock_timestamp(), NULL)
                FROM found_now found
                WHERE NOT EXISTS (
                    SELECT FROM {table} stored
                    WHERE rule = %(rule)s AND upper_inf(recorded_during) AND {same}
                )
                """
            ).format(**names),
            values,
        ).rowcount
        standing = connection.execute("SELECT count(*) FROM found_now").fetchone()
    return Change(rule, new, withdrawn, int(standing[0]) if standing else 0)  # type: ignore[call-overload]


def _prefixed(alias: str, columns: tuple[str, ...]) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(alias, column) for column in columns)


def _as_of(connection: Connection) -> object:
    row = connection.execute(
        "SELECT coalesce(max(upper(times)), '-infinity') FROM ledger.coverage"
    ).fetchone()
    return row[0] if row else None
