"""COMMENT ON for migrations: `\\d+` is to explain every table, view and column."""

from collections.abc import Mapping

from psycopg import sql
from sqlalchemy import Connection


def comment_on(
    connection: Connection, kind: str, name: str, text: str, columns: Mapping[str, str]
) -> None:
    """Comment on a table or view `schema.name` and on all its columns.

    Raises KeyError for a column without a comment.
    """
    schema, _, table = name.partition(".")
    relation = sql.Identifier(schema, table)
    _run(connection, sql.SQL("COMMENT ON {} {} IS {}").format(sql.SQL(kind), relation, text))
    found = connection.exec_driver_sql(
        "SELECT column_name FROM information_schema.columns"
        " WHERE table_schema = %s AND table_name = %s",
        (schema, table),
    )
    for (column,) in found.fetchall():
        target = sql.Identifier(schema, table, column)
        _run(
            connection,
            sql.SQL("COMMENT ON COLUMN {} IS {}").format(target, sql.Literal(columns[column])),
        )


def _run(connection: Connection, statement: sql.Composed) -> None:
    connection.exec_driver_sql(statement.as_string().replace("%", "%%"))
