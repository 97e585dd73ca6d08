"""Who may do what: the roles of readers and writers, their logins, and the guard over readers.

`statement_timeout` and its like are a courtesy: any role may set them to 0. What holds is the
server's CONNECTION LIMIT, and the guard, which looks at how long statements of readers take."""

import re
from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Final, Literal, NamedTuple

import psycopg
from psycopg import sql

from indexer.errors import ConfigError
from indexer.store.database import Connection

READER: Final = "indexer_reader"
WRITER: Final = "indexer_writer"
Group = Literal["indexer_reader", "indexer_writer"]

_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")


class Role(NamedTuple):
    """A role that logins are members of; `lacks` and `exceeds` are the objects on which it has too
    few rights and too many."""

    role: str
    is_there: bool
    lacks: tuple[str, ...]
    exceeds: tuple[str, ...]

    @property
    def is_right(self) -> bool:
        """Whether it is there, with just its rights."""
        return self.is_there and not self.lacks and not self.exceeds


class Limits(NamedTuple):
    """How long a reader may take: a statement, a pause within a transaction, a transaction."""

    statement: timedelta = timedelta(minutes=10)
    idle: timedelta = timedelta(minutes=1)
    whole: timedelta = timedelta(minutes=30)


class Login(NamedTuple):
    """A role that may log in as a reader or a writer; -1 connections: as many as there are."""

    name: str
    group: str
    connections: int
    limits: Limits | None


class Stopped(NamedTuple):
    """What the guard did to a session: cancelled its statement, ended it, or was refused."""

    pid: int
    role: str
    done: str
    why: str
    since: timedelta

    def __str__(self) -> str:
        return f"reader {self.role} pid={self.pid} {self.done}: {self.why}"


def roles(connection: Connection) -> list[Role]:
    """The two group roles as they are."""
    found: Iterable[Any] = connection.execute(
        "SELECT role, is_there, lacks, exceeds FROM liq.roles ORDER BY role"
    )
    return [Role(row[0], row[1], tuple(row[2] or ()), tuple(row[3] or ())) for row in found]


def repair(connection: Connection) -> list[str]:
    """Make the group roles and give them their rights; gives what we may not do."""
    return [str(said) for (said,) in connection.execute("SELECT ledger.make_roles()")]


def logins(connection: Connection) -> list[Login]:
    """Who may log in as a reader or a writer."""
    found: Iterable[Any] = connection.execute(
        """
        SELECT r.rolname, g.rolname, r.rolconnlimit, l.statement, l.idle, l.whole
        FROM pg_auth_members m
        JOIN pg_roles g ON g.oid = m.roleid AND g.rolname IN ('indexer_reader', 'indexer_writer')
        JOIN pg_roles r ON r.oid = m.member AND r.rolcanlogin AND NOT m.admin_option
        LEFT JOIN LATERAL (
            SELECT l.statement, l.idle, l.whole FROM liq.reader_limits l
            WHERE g.rolname = 'indexer_reader' AND l.role IN (r.rolname, 'indexer_reader')
            ORDER BY l.role = 'indexer_reader' LIMIT 1
        ) l ON true
        ORDER BY 2, 1
        """
    )
    return [Login(row[0], row[1], row[2], Limits(*row[3:]) if row[3] else None) for row in found]


def make_login(
    connection: Connection,
    name: str,
    group: Group,
    password: str,
    connections: int,
    limits: Limits | None,
) -> None:
    """Make a login, or give one that we made another password and limits; raises ConfigError for a
    name that is somebody else's, and where we may not. The server never sees the password."""
    if _NAME.fullmatch(name) is None or name.startswith("pg_") or name in (READER, WRITER):
        raise ConfigError(f"{name!r} is no name for a login: small letters, digits and _")
    try:
        with connection.transaction():
            _make_login(connection, name, group, password, connections)
            if limits is not None:
                _limit(connection, name, limits)
    except psycopg.errors.InsufficientPrivilege as error:
        raise ConfigError(
            f"may not make the login {name}: {error.diag.message_primary}; ask for CREATEROLE"
        ) from None


def _make_login(
    connection: Connection, name: str, group: Group, password: str, connections: int
) -> None:
    row: Any = connection.execute(
        """
        SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = %(name)s),
               to_regrole(%(group)s) IS NOT NULL,
               EXISTS (SELECT FROM pg_auth_members m WHERE m.member = to_regrole(%(name)s)
                       AND m.roleid = to_regrole(%(group)s)),
               (SELECT rolsuper FROM pg_roles WHERE rolname = current_user),
               has_database_privilege('public', current_database(), 'CONNECT'),
               to_regrole(%(name)s) = (SELECT nspowner FROM pg_namespace WHERE nspname = 'ledger')
        """,
        {"name": name, "group": group},
    ).fetchone()
    is_there, has_group, is_ours, is_super, may_anybody_connect, is_owner = row
    if not has_group:
        raise ConfigError(f"there is no role {group}: indexer db roles --repair")
    if is_there and (not is_ours or is_owner):
        raise ConfigError(f"the role {name} is there already, and is none of {group}")
    verb = "ALTER" if is_there else "CREATE"
    verifier = connection.pgconn.encrypt_password(
        password.encode(), name.encode(), b"scram-sha-256"
    ).decode()
    named = sql.Identifier(name)
    connection.execute(
        sql.SQL("{} ROLE {} LOGIN CONNECTION LIMIT {} PASSWORD {}").format(
            sql.SQL(verb), named, connections, verifier
        )
    )
    if not is_ours:
        connection.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(group), named))
    if not may_anybody_connect:
        database = sql.Identifier(str(connection.info.dbname))
        connection.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(database, named))
    if not is_super and not is_there:
        # else the guard, which runs as the owner, could not end what it started
        inherit = "WITH INHERIT TRUE" if connection.info.server_version >= 160000 else ""
        connection.execute(sql.SQL("GRANT {} TO CURRENT_USER {}").format(named, sql.SQL(inherit)))
    for setting, value in _DEFAULTS[group].items():
        connection.execute(
            sql.SQL("ALTER ROLE {} SET {} = {}").format(named, sql.Identifier(setting), value)
        )


# What a session begins with; it may choose otherwise.
_DEFAULTS: dict[str, dict[str, str]] = {
    READER: {"default_transaction_read_only": "on", "search_path": "liq", "timezone": "UTC"},
    WRITER: {"timezone": "UTC"},
}


def _limit(connection: Connection, name: str, limits: Limits) -> None:
    connection.execute(
        """
        INSERT INTO ledger.reader_limit (role, statement, idle, whole) VALUES (%s, %s, %s, %s)
        ON CONFLICT (role) DO UPDATE
        SET statement = excluded.statement, idle = excluded.idle, whole = excluded.whole,
            recorded_at = excluded.recorded_at
        """,
        (name, *limits),
    )
    for setting, limit in (
        ("statement_timeout", limits.statement),
        ("idle_in_transaction_session_timeout", limits.idle),
    ):
        milliseconds = str(limit // timedelta(milliseconds=1))
        connection.execute(
            sql.SQL("ALTER ROLE {} SET {} = {}").format(
                sql.Identifier(name), sql.Identifier(setting), milliseconds
            )
        )


def guard(connection: Connection) -> list[Stopped]:
    """Stop what readers of this database do for longer than they may, once."""
    found: Iterable[Any] = connection.execute("SELECT pid, role, done, why, since"
                                              " FROM ledger.guard()")  # fmt: skip
    return [Stopped(*row) for row in found]
