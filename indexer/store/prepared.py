"""Statements that are planned once in a session: to plan them takes longer than to run them."""

from collections.abc import Sequence
from typing import Any

import psycopg

from indexer.store.database import Connection

# To the end of the transaction a plan is made without a look at the values, and stays.
GENERIC = "SET LOCAL plan_cache_mode = force_generic_plan"


def execute(connection: Connection, text: str, values: Sequence[object]) -> list[Any]:
    """The rows of a statement with `$1` and so on, for few of them each time. Of each value its
    Python type says what it is, where the statement does not."""
    return psycopg.RawCursor(connection).execute(text, values, prepare=True).fetchall()
