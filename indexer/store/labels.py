"""Runs the rules: what a rule finds now stands, what it no longer finds is withdrawn.

A rule depends on the facts of an account alone. So it looks at the accounts whose facts changed
since it last ran, and what comes of it is what looking at all of them would give. Where the rule
itself changed, it looks at all.
"""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from indexer.errors import IndexerError
from indexer.model import Rule
from indexer.store.database import Connection


class Change(NamedTuple):
    """What one run of a rule did, and how much of it stands now."""

    rule: Rule
    new: int
    withdrawn: int
    standing: int


class NeverLabelled(IndexerError):
    """A rule called an account a whale or a victim that can be neither; nothing was written."""


# What identifies an opinion, and what it says; a change in what it says is a new row.
_SAYS = {
    "flags": (
        "flag",
        ("venue", "account", "level", "subject_key"),
        ("value_usd", "threshold_usd", "occurred_at"),
    ),
    "labels": (
        "label",
        ("venue", "account", "label", "valid_during"),
        ("confidence", "evidence"),
    ),
}
HARMLESS = ("protocol_vault",)  # labels that say what an account is; all others are opinions on it


def apply(connection: Connection, rules: Sequence[Rule], *, again: bool = False) -> list[Change]:
    """Make flags and labels equal to what the rules find, in one transaction; `again` looks at all
    accounts, whether anything changed or not.

    Nothing is overwritten: a row that no longer holds is closed in recorded time. The result does
    not depend on how often or after which data it ran before. Raises NeverLabelled."""
    with connection.transaction():
        # one run at a time: a second would take the changes of the first for done
        connection.execute("LOCK TABLE ledger.label_run IN SHARE ROW EXCLUSIVE MODE")
        changed = _take_changed(connection)
        changes = [
            _apply(connection, rule, None)
            if again or _is_new(connection, rule)
            else _apply(connection, rule, _to_look_at(rule, changed))
            for rule in rules
        ]
        _withdraw_rules(connection, rules)
        _check(connection)
    return changes


def _take_changed(connection: Connection) -> dict[str, set[str]]:
    """The accounts whose facts changed since the last run, by the facts."""
    found = defaultdict[str, set[str]](set)
    for facts, account in connection.execute(_TAKE_ACCOUNTS):
        found[str(facts)].add(str(account))
    # One span at a time: what a join of them would cost, the planner cannot guess.
    for span in connection.execute(_TAKE_TIMES).fetchall():
        found["liquidations"].update(str(one) for (one,) in connection.execute(_VALUED, span))
    return found


def _to_look_at(rule: Rule, changed: Mapping[str, set[str]]) -> list[str]:
    reads = changed if rule.reads is None else rule.reads
    return sorted(set[str]().union(*(changed.get(facts, ()) for facts in reads)))


_TAKE_ACCOUNTS = "DELETE FROM ledger.changed_account RETURNING facts, account"
_TAKE_TIMES = """
    WITH taken AS (DELETE FROM ledger.changed_times RETURNING venue, times)
    SELECT venue, lower(span)::text, upper(span)::text  -- they may be infinite
    FROM (SELECT venue, unnest(range_agg(times)) AS span FROM taken GROUP BY venue) spans
"""
_VALUED = """
    SELECT DISTINCT account FROM ledger.valuation
    WHERE venue = %s AND block_at >= %s::timestamptz AND block_at <= %s::timestamptz
"""


def _meaning(rule: Rule) -> str:
    said = (rule.version, rule.makes, rule.query, sorted(_parameters(rule).items()))
    return hashlib.sha256(msgspec.json.encode(said)).hexdigest()


def _parameters(rule: Rule) -> dict[str, Any]:
    return {name: msgspec.to_builtins(value) for name, value in rule.parameters.items()}


def _is_new(connection: Connection, rule: Rule) -> bool:
    """Whether a rule never ran as it is now."""
    row: Any = connection.execute(
        "SELECT meaning FROM ledger.label_run WHERE rule = %s", (rule.id,)
    ).fetchone()
    return row is None or row[0] != _meaning(rule)


def _apply(connection: Connection, rule: Rule, accounts: list[str] | None) -> Change:
    table, key, says = _SAYS[rule.makes]
    columns = sql.SQL(", ").join(map(sql.Identifier, (*key, *says)))
    names = {
        "table": sql.Identifier("ledger", table),
        "columns": columns,
        "same": sql.SQL(
            # the account by itself, as a comparison of rows that may be NULL cannot be hashed
            "stored.account = found.account"
            " AND ({stored}, stored.rule_version, stored.parameters)"
            " IS NOT DISTINCT FROM ({found}, %(rule_version)s, %(parameters)s::jsonb)"
        ).format(
            stored=_prefixed("stored", (*key, *says)), found=_prefixed("found", (*key, *says))
        ),
        # of these accounts it was looked; what it said of others still stands
        "mine": sql.SQL("stored.rule = %(rule)s AND upper_inf(stored.recorded_during)")
        + sql.SQL("" if accounts is None else " AND stored.account = ANY (%(accounts)s::text[])"),
    }
    values = {
        "rule": rule.id, "rule_version": rule.version, "parameters": Jsonb(_parameters(rule)),
        "accounts": accounts,
    }  # fmt: skip
    connection.execute("DROP TABLE IF EXISTS pg_temp.found_now")
    # Parameters are written out: the planner has to see whether it is about few accounts or all.
    psycopg.ClientCursor(connection).execute(
        "CREATE TEMP TABLE found_now ON COMMIT DROP AS " + rule.query,
        {**rule.parameters, "accounts": accounts},
    )
    withdrawn = connection.execute(_WITHDRAW.format(**names), values).rowcount
    new = connection.execute(_INSERT.format(**names), values).rowcount
    connection.execute(
        "INSERT INTO ledger.label_run (rule, meaning) VALUES (%s, %s)"
        " ON CONFLICT (rule) DO UPDATE SET meaning = excluded.meaning, ran_at = now()",
        (rule.id, _meaning(rule)),
    )
    row: Any = connection.execute(_STANDING.format(**names), values).fetchone()
    return Change(rule, new, withdrawn, row[0])


_WITHDRAW = sql.SQL(
    """
    UPDATE {table} stored
    SET recorded_during = tstzrange(lower(recorded_during), clock_timestamp())
    WHERE {mine} AND NOT EXISTS (SELECT FROM found_now found WHERE {same})
    """
)
_INSERT = sql.SQL(
    """
    INSERT INTO {table} ({columns}, rule, rule_version, parameters, recorded_during)
    SELECT {columns}, %(rule)s, %(rule_version)s, %(parameters)s,
           tstzrange(clock_timestamp(), NULL)
    FROM found_now found
    WHERE NOT EXISTS (SELECT FROM {table} stored WHERE {mine} AND {same})
    """
)
_STANDING = sql.SQL(
    "SELECT count(*) FROM {table} WHERE rule = %(rule)s AND upper_inf(recorded_during)"
)


def _withdraw_rules(connection: Connection, rules: Sequence[Rule]) -> None:
    """What a rule said that is no more is withdrawn."""
    ids = [rule.id for rule in rules]
    for table in ("flag", "label"):
        connection.execute(
            sql.SQL(
                "UPDATE {} SET recorded_during = tstzrange(lower(recorded_during),"
                " clock_timestamp()) WHERE upper_inf(recorded_during) AND rule <> ALL (%s)"
            ).format(sql.Identifier("ledger", table)),
            (ids,),
        )
    connection.execute("DELETE FROM ledger.label_run WHERE rule <> ALL (%s)", (ids,))


def _check(connection: Connection) -> None:
    """No standing opinion is on an account that can never have one."""
    row: Any = connection.execute(
        """
        SELECT venue, account, what, ledger.never_because(venue, account)
        FROM (
            SELECT venue, account, label AS what FROM ledger.label
            WHERE upper_inf(recorded_during) AND label <> ALL (%s)
            UNION ALL
            SELECT venue, account, level FROM ledger.flag WHERE upper_inf(recorded_during)
        ) said
        WHERE ledger.never_because(venue, account) IS NOT NULL
        ORDER BY 1, 2, 3 LIMIT 1
        """,
        (list(HARMLESS),),
    ).fetchone()
    if row is not None:
        venue, account, what, why = row
        raise NeverLabelled(f"{account} of {venue} was to be called {what} and is {why}")


def _prefixed(alias: str, columns: tuple[str, ...]) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(alias, column) for column in columns)
