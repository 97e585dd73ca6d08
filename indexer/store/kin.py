"""Keeps the table of kin equal to the data that ships with the code."""

from collections.abc import Iterable

from indexer.families import Kin
from indexer.store.database import Connection


def keep(connection: Connection, kin: Iterable[Kin]) -> None:
    """Make `ledger.asset_kin` equal to the data, in one transaction.

    Writes nothing when they are equal: a command that only reads needs no right to write."""
    wanted = sorted((one.chain, one.address, one.family, one.relation, one.source) for one in kin)
    stored = connection.execute(
        "SELECT chain, address, family, relation, source FROM ledger.asset_kin"
    )
    if set(stored) == set(wanted):
        return
    with connection.transaction(), connection.cursor() as cursor:
        # two commands that start at once would both insert; readers are not held up
        cursor.execute("LOCK TABLE ledger.asset_kin IN SHARE ROW EXCLUSIVE MODE")
        cursor.execute("DELETE FROM ledger.asset_kin")
        with cursor.copy(
            "COPY ledger.asset_kin (chain, address, family, relation, source) FROM STDIN"
        ) as stream:
            for row in wanted:
                stream.write_row(row)
