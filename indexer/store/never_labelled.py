"""The list of accounts that can never be called a whale or a victim."""

from collections.abc import Collection
from typing import Literal, NamedTuple

from indexer.never_labelled import Never
from indexer.store.database import Connection

Origin = Literal["project", "user"]


class Kept(NamedTuple):
    """What became of a part of the list."""

    standing: int
    new: int
    gone: int


def keep(connection: Connection, origin: Origin, accounts: Collection[Never]) -> Kept:
    """Make the project's or the user's part of the list equal to these accounts; an account of
    which something else is said now counts as gone and new."""
    columns = {name: [one[n] for one in accounts] for n, name in enumerate(Never._fields)}
    with connection.transaction():
        # two programs, one after the other
        connection.execute("LOCK TABLE ledger.never_labelled IN SHARE ROW EXCLUSIVE MODE")
        gone = connection.execute(_DELETE, {**columns, "origin": origin}).rowcount
        new = connection.execute(_INSERT, {**columns, "origin": origin}).rowcount
    return Kept(len(accounts), new, gone)


_DELETE = """
    DELETE FROM ledger.never_labelled
    WHERE origin = %(origin)s AND (chain, account, why, source) NOT IN (
        SELECT * FROM unnest(%(chain)s::text[], %(account)s::text[], %(why)s::text[],
                             %(source)s::text[])
    )
"""
_INSERT = """
    INSERT INTO ledger.never_labelled (chain, account, why, source, origin)
    SELECT said.*, %(origin)s
    FROM unnest(%(chain)s::text[], %(account)s::text[], %(why)s::text[], %(source)s::text[]) said
    ON CONFLICT DO NOTHING
"""
