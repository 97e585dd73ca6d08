"""docs/cookbook.md: questions, their SQL, and what it answers over a simulated evening.

python -m tests.cookbook
"""

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from subprocess import CompletedProcess
from tempfile import TemporaryDirectory
from typing import NamedTuple

from indexer.methodology.definition import presets
from indexer.store import database, definitions
from indexer.store.database import Connection
from indexer.store.server import Server
from tests import cookbook_world
from tests.postgres import cluster
from tests.postgres import database as database_on
from tests.quick_start import Starter, starter

PAGE = Path(__file__).resolve().parents[1] / "docs" / "cookbook.md"
REMEDY = "an answer has changed: python -m tests.cookbook"
MOST_ROWS = 12
NUMBERS = {"numeric", "int4", "int8"}

_QUESTION = re.compile(
    r"^### (?P<title>.+)\n\n```sql\n(?P<sql>[^`]+)```\n\n(?:```text\n[^`]*```\n)?",
    re.MULTILINE,
)


class Question(NamedTuple):
    """A heading of the page and the SQL under it, as it stands there."""

    title: str
    sql: str


def questions(text: str) -> list[Question]:
    """All of the page, in its order."""
    return [Question(found["title"], found["sql"]) for found in _QUESTION.finditer(text)]


def page(connection: Connection) -> str:
    """The page with the answers that it must have."""
    return _QUESTION.sub(lambda found: _answered(connection, found), PAGE.read_text("utf-8"))


def _answered(connection: Connection, found: re.Match[str]) -> str:
    answer = shown(connection, found["sql"])
    return f"### {found['title']}\n\n```sql\n{found['sql']}```\n\n```text\n{answer}```\n"


def shown(connection: Connection, query: str) -> str:
    """An answer as psql shows it, its first rows."""
    cursor = connection.execute(query)
    assert cursor.description and cursor.pgresult
    result, columns = cursor.pgresult, range(len(cursor.description))
    rows = [
        [(result.get_value(row, at) or b"").decode() for at in columns]
        for row in range(min(result.ntuples, MOST_ROWS))
    ]
    names = [column.name for column in cursor.description]
    widths = [max(len(cells[at]) for cells in (names, *rows)) for at in columns]
    to_right = [column.type_display in NUMBERS for column in cursor.description]
    lines = [
        " | ".join(map(str.ljust, names, widths)),
        "-+-".join("-" * width for width in widths),
        *(" | ".join(map(_aligned, row, widths, to_right)) for row in rows),
        *(["…"] if result.ntuples > MOST_ROWS else []),
        f"({result.ntuples} row{'s' * (result.ntuples != 1)})",
    ]
    return "".join(line.rstrip() + "\n" for line in lines)


def _aligned(cell: str, width: int, to_right: bool) -> str:
    return cell.rjust(width) if to_right else cell.ljust(width)


@contextmanager
def world(on: Server, start: Starter, migrated: str | None = None) -> Iterator[Connection]:
    """A connection to a database with the simulated evening in it."""
    with ExitStack() as stack:
        conninfo = stack.enter_context(database_on(on, template=migrated))
        if migrated is None:
            _migrate(conninfo)
        folder = Path(stack.enter_context(TemporaryDirectory()))
        settings = {**os.environ, "DATABASE_URL": conninfo}

        def run(*arguments: object, **environment: str) -> CompletedProcess[str]:
            return start.run([*map(str, arguments)], {**settings, **environment}, folder, None)

        cookbook_world.read(conninfo, run, folder)
        yield stack.enter_context(database.connect(conninfo))


def _migrate(conninfo: str) -> None:
    database.migrate(conninfo)
    with database.connect(conninfo) as connection:
        definitions.keep(connection, presets().values())


if __name__ == "__main__":
    with cluster() as server, starter() as begun, world(server, begun) as opened:
        PAGE.write_text(page(opened), "utf-8")
