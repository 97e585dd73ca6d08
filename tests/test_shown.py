"""Rows for people and for programs: nothing is lost in one, and nothing runs in the other."""

import csv
import io
import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from indexer.cli.shown import Listing, csv_cell, show, show_all

AT = datetime(2025, 10, 10, 21, 15, 30, 123456, UTC)
HEADS = {"name": "name", "raw": "raw", "usd": "USD", "at": "at (UTC)", "lag_s": "lag", "key": ""}
ROW = ("a|b", 2**200, Decimal("1234567.000000000000000001"), AT, 3661, "k/1")
ONE = Listing("rows", HEADS, [ROW, (None, 0, None, None, 0, "k/2")])

HOSTILE = "\x1b]0;x\x07[red]<b>**x**|\u202e=1"


def printed(capsys: pytest.CaptureFixture[str], form: str, one: Listing = ONE) -> str:
    show(one, form, "there are none")
    return capsys.readouterr().out


def test_json_has_whole_numbers_and_null_for_what_is_unknown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert json.loads(printed(capsys, "json")) == [
        {"name": "a|b", "raw": 2**200, "usd": "1234567.000000000000000001",
         "at": "2025-10-10T21:15:30.123456Z", "lag_s": 3661, "key": "k/1"},
        {"name": None, "raw": 0, "usd": None, "at": None, "lag_s": 0, "key": "k/2"},
    ]  # fmt: skip


def test_csv_has_the_same_as_text_and_nothing_for_what_is_unknown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert list(csv.reader(io.StringIO(printed(capsys, "csv")))) == [
        ["name", "raw", "usd", "at", "lag_s", "key"],
        ["a|b", str(2**200), "1234567.000000000000000001", "2025-10-10T21:15:30.123456Z", "3661",
         "k/1"],
        ["", "0", "", "", "0", "k/2"],
    ]  # fmt: skip


def test_a_table_and_markdown_have_headings_and_leave_out_columns_without_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    one = Listing("rows", HEADS, [("a|b", 1234, Decimal("5.50"), AT, 3661, "k/1")])

    table, markdown = printed(capsys, "table", one), printed(capsys, "md", one)

    assert [line.split() for line in table.splitlines()] == [
        ["name", "raw", "USD", "at", "(UTC)", "lag"],
        ["a|b", "1,234", "5.50", "2025-10-10", "21:15:30", "1:01:01"],
    ]
    assert markdown == (
        "| name | raw | USD | at \\(UTC\\) | lag |\n| --- | --- | --- | --- | --- |\n"
        "| a\\|b | 1,234 | 5.50 | 2025-10-10 21:15:30 | 1:01:01 |\n"
    )


def test_a_table_without_rows_says_why_and_the_others_are_empty(
    capsys: pytest.CaptureFixture[str],
) -> None:
    none = Listing("rows", {"name": "name"}, [])

    found = {form: printed(capsys, form, none) for form in ("table", "json", "csv", "md")}

    assert found == {
        "table": "there are none\n", "json": "[]\n", "csv": "name\n", "md": "| name |\n| --- |\n",
    }  # fmt: skip


def test_several_kinds_are_a_list_each_in_json_and_one_table_in_csv(
    capsys: pytest.CaptureFixture[str],
) -> None:
    kinds = [
        Listing("a", {"x": "x", "y": "y"}, [(1, 2)]), Listing("b", {"y": "y", "z": "z"}, [(3, 4)]),
        Listing("c", {"w": "w"}, []),
    ]  # fmt: skip

    show_all(kinds, "json")
    as_json = json.loads(capsys.readouterr().out)
    show_all(kinds, "csv")

    assert as_json == {"a": [{"x": 1, "y": 2}], "b": [{"y": 3, "z": 4}], "c": []}
    assert capsys.readouterr().out == "section,x,y,z,w\na,1,2,,\nb,,3,4,\n"


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1", "\n=1", "＝1", "＋1", "－1", "＠x"]
)
def test_a_cell_of_text_is_no_formula(text: str) -> None:
    assert csv_cell(text) == f"'{text}"


@pytest.mark.parametrize(
    ("number", "cell"), [(-1, "-1"), (Decimal("-1.50"), "-1.50"), (0, "0"), (None, "")]
)
def test_a_cell_of_a_number_stays_one(number: object, cell: str) -> None:
    assert csv_cell(number) == cell


def test_a_list_or_an_object_is_json_in_a_cell_and_no_formula() -> None:
    assert csv_cell(["=1", "b"]) == '["=1","b"]'
    assert csv_cell({"b": Decimal("1.10"), "a": None}) == '{"a":null,"b":"1.10"}'


def test_hostile_words_reach_neither_the_terminal_nor_the_markup(
    capsys: pytest.CaptureFixture[str],
) -> None:
    one = Listing("rows", {"name": "name"}, [(HOSTILE,), ([HOSTILE],), ({HOSTILE: HOSTILE},)])

    table, markdown = printed(capsys, "table", one), printed(capsys, "md", one)

    assert [c for c in table + markdown if c in "\x1b\x07\u202e"] == []
    assert "[red]<b>**x**|=1" in table
    assert "\\[red\\]&#60;b&#62;\\*\\*x\\*\\*\\|=1" in markdown
