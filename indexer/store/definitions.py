"""The definitions that this database knows, with the SQL and the words that they compile to."""

from collections.abc import Iterable
from typing import Any

import msgspec
from psycopg import sql

from indexer.errors import ConfigError
from indexer.methodology.definition import Calendar, Definition
from indexer.methodology.prose import paragraph
from indexer.store import counting
from indexer.store.database import Connection


class _Row(msgspec.Struct, frozen=True):
    """A row of `ledger.definition`, but for the gap and when it was registered."""

    id: str
    hash: str
    body: str
    says: str
    mirrors: str
    fidelity: str
    zone: str
    is_additive: bool
    is_one_sum: bool
    paragraph_en: str
    paragraph_zh: str
    query: str
    account_query: str | None


def keep(connection: Connection, definitions: Iterable[Definition]) -> None:
    """Make the database know these definitions, as this program compiles them.

    Writes nothing where it does already: a command that only reads needs no right to write. What a
    definition means never changes: ConfigError where its id is known with another meaning."""
    wanted = {definition.id: definition for definition in definitions}
    stored = _stored(connection, list(wanted))
    for definition in wanted.values():
        row = _row(definition)
        known = stored.get(definition.id)
        if known is not None and known.hash != row.hash:
            raise ConfigError(
                f"{definition.id} is known with another meaning: its hash was"
                f" {known.hash[:12]} and is {row.hash[:12]} now; give it a new version"
            )
        if known != row:
            _write(connection, row, definition.repeat.gap_seconds)


def known(connection: Connection, id: str) -> Definition:
    """The definition of an id; ConfigError where there is none."""
    row: Any = connection.execute(
        "SELECT body FROM ledger.definition WHERE id = %s", (id,)
    ).fetchone()
    if row is None:
        ids = ", ".join(str(one) for (one,) in connection.execute(_IDS))
        raise ConfigError(f"there is no definition {id!r}; known are {ids}, or name a file")
    return msgspec.json.decode(row[0], type=Definition)


def summary(connection: Connection) -> list[tuple[Any, ...]]:
    """Id, fidelity, what it says and whose number it mirrors, of each."""
    return connection.execute(
        "SELECT id, fidelity, says, mirrors FROM ledger.definition ORDER BY id"
    ).fetchall()


def query(connection: Connection, id: str) -> str:
    """The SQL that a known definition compiles to."""
    row: Any = connection.execute(
        "SELECT query FROM ledger.definition WHERE id = %s", (id,)
    ).fetchone()
    return str(row[0])


_IDS = "SELECT id FROM ledger.definition ORDER BY id"


def _row(definition: Definition) -> _Row:
    window = definition.window
    return _Row(
        id=definition.id, hash=definition.hash, body=definition.canonical(),
        says=definition.says, mirrors=definition.mirrors, fidelity=definition.fidelity,
        zone=window.zone if isinstance(window, Calendar) else "UTC",
        is_additive=definition.is_additive, is_one_sum=definition.is_one_sum,
        paragraph_en=paragraph(definition, "en"), paragraph_zh=paragraph(definition, "zh"),
        query=counting.query(definition).as_string(None),
        account_query=counting.query_of_accounts(definition).as_string(None)
        if definition.is_of_accounts
        else None,
    )  # fmt: skip


def _stored(connection: Connection, ids: list[str]) -> dict[str, _Row]:
    rows: Iterable[Any] = connection.execute(
        sql.SQL("SELECT {} FROM ledger.definition WHERE id = ANY (%s)").format(_COLUMNS), (ids,)
    )
    return {row[0]: _Row(*row) for row in rows}


def _write(connection: Connection, row: _Row, gap_seconds: int) -> None:
    """Stored sums of days go with the query that they were made by."""
    with connection.transaction():
        connection.execute(_UPSERT, [*msgspec.structs.astuple(row), gap_seconds])
        connection.execute("DELETE FROM ledger.rolled_day WHERE definition = %s", (row.id,))


_NAMES = _Row.__struct_fields__
_COLUMNS = sql.SQL(", ").join(map(sql.Identifier, _NAMES))
_UPSERT = sql.SQL(
    """
    INSERT INTO ledger.definition ({columns}, gap) VALUES ({values}, %s * interval '1 s')
    ON CONFLICT (id) DO UPDATE SET {changes}
    WHERE definition.hash = excluded.hash
    """
).format(
    columns=_COLUMNS,
    values=sql.SQL(", ").join(sql.Placeholder() * len(_NAMES)),
    changes=sql.SQL(", ").join(
        sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name)) for name in _NAMES
    ),
)
