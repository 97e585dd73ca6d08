"""The wheel, installed where the checkout cannot be seen, does all that the checkout does."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import indexer
from tests.postgres import fast_dir
from tests.simulator import RECORDING, simulate

ROOT = Path(__file__).parents[1]
# where a folder of the checkout is in the wheel
PLACES = {"indexer": "indexer", "migrations": "indexer/_migrations", "abis": "indexer/_abis"}

Run = Callable[..., str]


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """An empty folder; not tmp_path, which is closed to `nobody`, as whom root runs the server."""
    base = Path(tempfile.mkdtemp(prefix="indexer-wheel-", dir=fast_dir()))
    base.chmod(0o755)
    yield base
    shutil.rmtree(base)


@pytest.fixture(scope="module")
def wheel(place: Path) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(place)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return next(place.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(place: Path, wheel: Path) -> Iterator[Run]:
    """Runs a program of a virtual environment in which only the dependencies are borrowed."""
    home, here = place / "env", place / "here"
    venv.create(home, symlinks=True)
    pip = [sys.executable, "-m", "pip", "--python", str(home / "bin/python"), "install"]
    subprocess.run([*pip, "-q", "--no-deps", "--no-index", str(wheel)], check=True)
    ours = sysconfig.get_path("purelib", vars={"base": str(home), "platbase": str(home)})
    # a .pth inside the borrowed folder, that of the editable install, is not followed
    Path(ours, "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    here.mkdir()
    unwanted = ("DATABASE_URL", "INDEXER_PG_BIN", "PYTHONPATH")
    environment = {name: value for name, value in os.environ.items() if name not in unwanted}

    def run(program: str, *arguments: str) -> str:
        return subprocess.check_output(
            [home / "bin" / program, *arguments],
            env={**environment, "INDEXER_DATA_DIR": str(place / "data"), "COLUMNS": "200"},
            cwd=here, text=True, timeout=120,
        )  # fmt: skip

    yield run
    run("indexer", "db", "stop")


def test_the_wheel_holds_the_package_and_what_it_needs_and_no_tests(wheel: Path) -> None:
    found = set(zipfile.ZipFile(wheel).namelist())
    files = {
        Path(inside, path.relative_to(ROOT / folder)).as_posix()
        for folder, inside in PLACES.items()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in found if ".dist-info/" not in name} == files
    assert files > {
        "indexer/_migrations/versions/0001_ledger.py",
        "indexer/recording/node_fills_by_block/hourly/20251028/0.lz4",
        "indexer/report/whales.html.j2",
        "indexer/report/whales.sql",
    }


def test_the_installed_command_is_the_wheel_s(installed: Run, place: Path) -> None:
    said = installed("python", "-c", "import indexer; print(indexer.__file__)")
    assert Path(said).is_relative_to(place / "env")
    assert not Path(indexer.__file__).is_relative_to(place)
    assert installed("indexer", "--version") == "indexer, version 0.1.0\n"


def test_the_demo_works_from_any_folder_and_stops(installed: Run, place: Path) -> None:
    truth = simulate(RECORDING).truth
    expected = len(truth.liquidations) + len(truth.without_object)
    *_, printed_psql = installed("indexer", "demo").splitlines()
    query = f"{printed_psql} -Atc 'SELECT count(*) FROM ledger.liquidation'"
    assert subprocess.check_output(query, shell=True, text=True) == f"{expected}\n"
    assert [path.name for path in (place / "here").iterdir()] == ["report-whales.html"]
    assert installed("indexer", "db", "stop") == "stopped\n"
    assert installed("indexer", "db", "status").startswith("not running")
