"""Statements that are planned once in a session: to plan them takes longer than to run them."""

import hashlib
from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import sql

from indexer.store.database import Connection


def execute(
    connection: Connection, text: str, types: Sequence[str], values: Sequence[object]
) -> list[Any]:
    """The rows of a statement with `$1` and so on, of these types, for few of them each time.

    Its plan is made without a look at the values, and stays; to the end of the transaction that
    holds for all that is prepared."""
    name = hashlib.sha256(text.encode()).hexdigest()[:40]
    row: Any = connection.execute(_IS_PLANNED, (name,)).fetchone()
    if not row[1]:
        known = ", ".join(types)
        connection.execute(
            sql.SQL("PREPARE {} ({}) AS {}").format(
                sql.Identifier(name), sql.SQL(known), sql.SQL(text)
            )
        )
    places = sql.SQL(", ").join(sql.SQL("%s") for _ in values)
    # EXECUTE takes no parameters from the client: they are written out
    found = psycopg.ClientCursor(connection).execute(
        sql.SQL("EXECUTE {} ({})").format(sql.Identifier(name), places), values
    )
    return found.fetchall()


_IS_PLANNED = """
    SELECT set_config('plan_cache_mode', 'force_generic_plan', true),
           EXISTS (SELECT FROM pg_prepared_statements WHERE name = %s)
"""
