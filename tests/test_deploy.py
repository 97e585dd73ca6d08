"""The unit files and the container file are ones that their readers take."""

import configparser
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from indexer.cli import main

ROOT = Path(__file__).resolve().parents[1]
UNITS = sorted((ROOT / "deploy").glob("*.service"))
CONTAINER = (ROOT / "deploy" / "Containerfile").read_text()
PROGRAM = "/opt/indexer/.venv/bin/indexer"


def test_there_is_a_unit_for_each_command_that_goes_on() -> None:
    assert [unit.name for unit in UNITS] == ["indexer-follow.service", "indexer-serve.service"]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_runs_a_command_that_there_is(unit: Path) -> None:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(unit)

    program, *words = shlex.split(parser["Service"]["ExecStart"])

    command = main.commands[words[0]]
    assert (program, parser["Service"]["DynamicUser"]) == (PROGRAM, "yes")
    with click.Context(main, info_name="indexer") as parent:
        command.make_context(words[0], words[1:], parent=parent)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_takes_a_unit(unit: Path, tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("systemd-analyze is absent in CI")
        pytest.skip("no systemd-analyze: apt-get install systemd")
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text().replace(PROGRAM, "/bin/true"))

    done = subprocess.run(
        [program, "verify", "--man=no", copy], capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (0, "")


def test_what_a_container_copies_is_there() -> None:
    copied = [
        source for line in re.findall(r"^COPY (.+)$", CONTAINER, re.MULTILINE)
        for source in line.split()[:-1]
    ]  # fmt: skip

    assert {"indexer", "migrations", "abis", "requirements.lock"} <= set(copied)
    assert [source for source in copied if not (ROOT / source).exists()] == []


def test_a_container_runs_as_nobody_special_and_shows_the_help() -> None:
    instructions = re.findall(r"^([A-Z]+) (.+)$", CONTAINER, re.MULTILINE)
    known = {"FROM", "COPY", "RUN", "USER", "ENV", "VOLUME", "ENTRYPOINT", "CMD"}

    assert {name for name, _ in instructions} == known
    users = [value for name, value in instructions if name == "USER"]
    assert (users, dict(instructions)["ENTRYPOINT"]) == (["indexer"], '["indexer"]')
    assert CliRunner().invoke(main, ["--help"]).exit_code == 0
