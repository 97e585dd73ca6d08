"""What all commands share: formats, exit codes, examples, completion."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import psycopg
import pytest
from click.testing import CliRunner
from psycopg import sql

from indexer import resources
from indexer.cli import main
from indexer.cli.completion import SHELLS
from indexer.cli.shown import FORMATS
from indexer.store.database import Connection
from tests.conftest import Command
from tests.ledger_rows import rows

ROOT = Path(__file__).resolve().parents[1]

# What reads nothing for people: it writes, asks others or goes on for ever, and says so in a line.
WRITERS = {
    *("accounts", "backfill", "check", "completion", "db psql", "db start", "db stop", "debt"),
    *("demo", "fills", "follow", "interest fetch", "interest import", "labels import"),
    *("labels never", "prices import", "redecode", "roles", "serve", "trades", "watch"),
    *("alert", "export", "db guard", "db migrate", "db notify", "db publication", "db reader"),
    "db writer",
}


def below(group: click.Group, *path: str) -> dict[str, click.Command]:
    """All commands and groups below a group, by the words that call them."""
    found: dict[str, click.Command] = {}
    for name, command in group.commands.items():
        found[" ".join([*path, name])] = command
        if isinstance(command, click.Group):
            found |= below(command, *path, name)
    return found


ALL = below(main)
COMMANDS = {words for words, command in ALL.items() if not isinstance(command, click.Group)}
READERS = sorted(COMMANDS - WRITERS)


def forms(command: click.Command) -> set[str]:
    """What its --format takes."""
    (option,) = [one for one in command.params if "--format" in one.opts]
    assert isinstance(option.type, click.Choice)
    return set(option.type.choices)


def test_every_writer_is_a_command() -> None:
    assert set() == WRITERS - COMMANDS


@pytest.mark.parametrize("words", READERS)
def test_every_reader_has_all_formats(words: str) -> None:
    assert set(FORMATS) - forms(ALL[words]) == set()


def run(*words: str) -> tuple[int, str, str]:
    """A command in this process: exit code, output and errors."""
    done = CliRunner().invoke(main, words, prog_name="indexer")
    return done.exit_code, done.stdout, done.stderr


@pytest.mark.parametrize("words", sorted({*ALL, ""}))
def test_an_unknown_option_is_wrong_usage_and_says_where_help_is(words: str) -> None:
    if words == "db psql":  # takes all options, for psql
        return
    code, output, errors = run(*words.split(), "--no-such-option")

    command = " ".join(["indexer", *words.split()])
    assert (code, output) == (2, "")
    assert f"Try '{command} -" in errors
    assert errors.splitlines()[-1].startswith("Error: No such option")


@pytest.mark.parametrize("words", READERS)
def test_an_unknown_format_is_wrong_usage_and_names_those_there_are(words: str) -> None:
    code, output, errors = run(*words.split(), "--format", "xlsx")

    assert (code, output) == (2, "")
    assert errors.splitlines()[-1].startswith("Error: Invalid value for '--format': 'xlsx' is not")
    assert [form for form in FORMATS if f"'{form}'" not in errors] == []


def test_a_command_that_is_none_is_wrong_usage() -> None:
    code, output, errors = run("statsu")

    assert (code, output) == (2, "")
    assert errors.splitlines()[-1].startswith("Error: No such command 'statsu'.")


@pytest.mark.parametrize("words", sorted({*ALL, ""}))
def test_every_help_ends_with_an_example(words: str) -> None:
    code, output, _ = run(*words.split(), "--help")

    assert code == 0
    assert "Example: indexer " in output


def options_of(words: str, connection: Connection) -> list[str]:
    """What a reader needs besides its name."""
    wanted: dict[str, list[str]] = {
        "explain": ["key"], "labels evaluate": ["truth.csv"],
        "total": ["--window", "2025-10-10..2025-11-10"],
        "reconcile": ["strict/v1", "gross_legs/v1", "--window", "2025-10-10..2025-11-10"],
        "report episode": ["--top", "2"], "top": ["--once"],
    }  # fmt: skip
    if words == "explain":
        return [str(rows(connection, "SELECT min(key) FROM liq.liquidations")[0][0])]
    return wanted.get(words, [])


def test_every_reader_prints_json_csv_and_markdown_that_programs_read(
    quick_indexer: Command, connection: Connection, tmp_path: Path
) -> None:
    assert quick_indexer("backfill", "hyperliquid", "--from", resources.recording()).returncode == 0
    assert quick_indexer("label").returncode == 0
    truth = f"account,label,truth\n0x{40 * 'a'},whale,yes\n"
    (tmp_path / "truth.csv").write_text(truth)
    tried = [one for one in READERS if one != "verify"]

    done = {
        (words, form): quick_indexer(*words.split(), *options_of(words, connection),
                                     "--format", form)
        for words in tried for form in ("json", "csv", "md")
    }  # fmt: skip

    assert {key: one.stderr for key, one in done.items() if one.returncode} == {}
    assert [words for words in tried if json.loads(done[words, "json"].stdout) is None] == []
    widths = {
        words: {len(line) for line in csv.reader(io.StringIO(done[words, "csv"].stdout))}
        for words in tried
    }
    assert {words: found for words, found in widths.items() if len(found) != 1} == {}
    assert [words for words in tried if done[words, "md"].stdout[0] not in "|#"] == []


def test_status_says_the_same_in_every_format(quick_indexer: Command) -> None:
    quick_indexer("backfill", "hyperliquid", "--from", resources.recording())

    table = quick_indexer("status", COLUMNS="200").stdout.splitlines()
    as_json = json.loads(quick_indexer("status", "--format", "json").stdout)
    as_csv = list(csv.DictReader(io.StringIO(quick_indexer("status", "--format", "csv").stdout)))

    assert set(as_json) == {"venues", "chains", "samples", "missing"}
    assert [one["facts"] for one in as_json["venues"]] == [
        "account_days", "ledger_liquidations", "liquidations",
    ]  # fmt: skip
    assert [f"{one['blocks']:,}" for one in as_json["venues"]] == [
        line.split()[2] for line in table[1:4]
    ]
    assert [(one["section"], int(one["blocks"])) for one in as_csv] == [
        ("venues", one["blocks"]) for one in as_json["venues"]
    ]


def test_csv_of_steps_goes_to_no_file(quick_indexer: Command) -> None:
    done = quick_indexer("reconcile", "strict/v1", "gross_legs/v1", "--format", "csv", "-o", "x")

    assert done.returncode == 2
    assert "leave --output out" in done.stderr


# -- data problems -------------------------------------------------------------------------------


@pytest.fixture
def stranger(connection: Connection) -> str:
    """The conninfo of a role that may connect and read nothing."""
    name = f"stranger_{os.getpid()}"
    parameters = connection.info.get_parameters()
    connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(name)))
    connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 's3cr3t'").format(
        sql.Identifier(name)))  # fmt: skip
    return psycopg.conninfo.make_conninfo(**{**parameters, "user": name, "password": "s3cr3t"})


@pytest.mark.parametrize("words", ["status", "definitions", "label", "total"])
def test_a_role_without_rights_is_told_so_in_one_line(
    quick_indexer: Command, stranger: str, words: str
) -> None:
    done = quick_indexer(words, DATABASE_URL=stranger)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("indexer: database: permission denied for ")
    assert "the role in DATABASE_URL may not do this" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "s3cr3t" not in done.stderr


def test_a_role_that_may_not_make_the_schemas_is_told_so_in_one_line(
    quick_indexer: Command, connection: Connection, stranger: str
) -> None:
    connection.execute("DROP SCHEMA ledger CASCADE; DROP SCHEMA liq CASCADE")

    done = quick_indexer("status", DATABASE_URL=stranger)

    assert (done.returncode, done.stdout) == (1, "")
    assert "this role may not migrate them: permission denied for database " in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_what_is_not_there_is_a_problem_of_data(quick_indexer: Command) -> None:
    wrong = (
        ("explain", "nobody/1/0xabc"), ("definitions", "no/v1"), ("total", "--window", "nonsense"),
        ("total", "--definition", "no/v1"), ("report", "episode", "no/key"), ("audit", "dydx_v4"),
    )  # fmt: skip

    done = [quick_indexer(*words) for words in wrong]

    assert [(one.returncode, one.stdout) for one in done] == [(1, "")] * len(wrong)
    assert [len(one.stderr.splitlines()) for one in done] == [1] * len(wrong)


# -- completion ----------------------------------------------------------------------------------


def completed(line: str, tmp_path: Path) -> set[str]:
    """What a real bash offers at the end of a line."""
    bash = shutil.which("bash")
    assert bash is not None
    program = tmp_path / "indexer"
    program.write_text(f"#!{sys.executable}\nfrom indexer.cli import main\n\nmain()\n")
    program.chmod(0o755)
    words = line.split(" ")
    quoted = " ".join(f"'{word}'" for word in words)
    script = f"""
        eval "$(indexer completion bash)"
        [[ $(complete -p indexer) == *_indexer_completion* ]] || exit 9
        COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}
        _indexer_completion indexer
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(
        [bash, "--norc", "-c", script], capture_output=True, text=True, timeout=60, check=True,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    return set(done.stdout.split())


def test_a_real_bash_completes_commands_options_venues_and_definitions(tmp_path: Path) -> None:
    assert completed("indexer rep", tmp_path) == {"report"}
    assert completed("indexer report epi", tmp_path) == {"episode"}
    assert completed("indexer status --for", tmp_path) == {"--format"}
    assert completed("indexer status --format ", tmp_path) == set(FORMATS)
    assert {"aave_v3.ethereum", "aave_v3.base"} <= completed("indexer audit aave_v3.", tmp_path)
    assert completed("indexer follow hyperliq", tmp_path) == {"hyperliquid"}
    assert completed("indexer total --definition stri", tmp_path) == {"strict/v1"}
    assert completed("indexer labels import --format ofa", tmp_path) == {"ofac"}


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_is_told_whom_to_ask(shell: str) -> None:
    code, output, errors = run("completion", shell)

    assert (code, errors) == (0, "")
    assert f"_INDEXER_COMPLETE={shell}_complete" in output


def test_another_shell_is_wrong_usage() -> None:
    assert run("completion", "tcsh")[0] == 2
