"""docs/cookbook.md: every question asked, its answer against the page and against a model."""

import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from indexer.store.database import Connection
from indexer.store.server import Server
from tests import cookbook
from tests.cookbook_answers import ANSWERS
from tests.quick_start import Starter

QUESTIONS = {one.title: one.sql for one in cookbook.questions(cookbook.PAGE.read_text("utf-8"))}

ELSEWHERE = """
    SET LOCAL TIME ZONE 'Asia/Tokyo';
    SET LOCAL enable_hashagg = off;
    SET LOCAL enable_hashjoin = off;
    SET LOCAL enable_incremental_sort = off;
    SET LOCAL enable_indexscan = off;
    SET LOCAL enable_bitmapscan = off;
"""


@pytest.fixture(scope="module")
def evening(postgres: Server, migrated: str, start: Starter) -> Iterator[Connection]:
    """A connection to a database with the simulated evening in it."""
    with cookbook.world(postgres, start, migrated) as opened:
        yield opened


def asked(connection: Connection, title: str, columns: tuple[str, ...]) -> list[tuple[Any, ...]]:
    """Some columns of what a question of the page is answered with."""
    cursor = connection.execute(QUESTIONS[title])
    names = [column.name for column in cursor.description or ()]
    at = [names.index(column) for column in columns]
    return [tuple(row[place] for place in at) for row in cursor.fetchall()]


@pytest.mark.parametrize("title", ANSWERS)
def test_a_question_is_answered_as_the_model_answers_it(evening: Connection, title: str) -> None:
    columns, rows = ANSWERS[title]

    expected = rows()

    assert asked(evening, title, columns) == expected != []


def test_the_page_shows_what_its_queries_answer(evening: Connection) -> None:
    assert cookbook.PAGE.read_text("utf-8") == cookbook.page(evening), cookbook.REMEDY


def test_no_question_is_without_an_answer(evening: Connection) -> None:
    found = {title: evening.execute(sql).rowcount for title, sql in QUESTIONS.items()}

    assert len(found) == cookbook.PAGE.read_text("utf-8").count("```sql") >= 50
    assert [title for title, number in found.items() if number == 0] == []


def test_the_page_can_be_pasted_into_psql(postgres: Server, evening: Connection) -> None:
    psql = postgres.bin_dir / "psql"
    pasted = "SET TIME ZONE 'Asia/Tokyo';\n" + "\n".join(QUESTIONS.values())

    done = subprocess.run(
        [psql, "-X", "-q", "-v", "ON_ERROR_STOP=1", postgres.conninfo_of(evening.info.dbname)],
        input=pasted, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (0, "")


def test_an_answer_depends_neither_on_the_place_nor_on_the_plan(evening: Connection) -> None:
    here = {title: evening.execute(sql).fetchall() for title, sql in QUESTIONS.items()}
    with evening.transaction(force_rollback=True):
        evening.execute(ELSEWHERE)
        there = {title: evening.execute(sql).fetchall() for title, sql in QUESTIONS.items()}

    assert here == there


def test_every_question_is_in_the_contents() -> None:
    text = cookbook.PAGE.read_text("utf-8")

    assert re.findall(r"^- \[(.+)\]\(#", text, re.MULTILINE) == re.findall(
        r"^## (.+)", text, re.MULTILINE
    )
