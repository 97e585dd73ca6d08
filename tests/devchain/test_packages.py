"""The cache of packages, with registries of our own making."""

import base64
import hashlib
import io
import os
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.devchain import compiler
from tests.devchain.packages import Package, folder, program

FILES = {
    "package/kept/One.json": b"one",
    "package/kept/One.dbg.json": b"only for debuggers",
    "package/other.txt": b"not wanted",
}
NPM = """#!/bin/sh
echo fetched >> "$0.log"
test -f "$0.tgz" || { echo "no such package" >&2; exit 1; }
cp "$0.tgz" "$5/scope-name-1.0.0.tgz"
"""


def archive() -> bytes:
    """What npm would fetch."""
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w:gz") as members:
        for name, content in FILES.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            members.addfile(member, io.BytesIO(content))
    return whole.getvalue()


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program `npm` that knows one package."""
    monkeypatch.delenv("CI", raising=False)
    found = tmp_path / "bin" / "npm"
    found.parent.mkdir()
    found.write_text(NPM)
    found.chmod(0o755)
    found.with_suffix(".tgz").write_bytes(archive())
    monkeypatch.setenv("PATH", str(found.parent), prepend=os.pathsep)
    return found


def package(npm: Path) -> Package:
    """The one that this registry has."""
    sha512 = hashlib.sha512(npm.with_suffix(".tgz").read_bytes()).digest()
    return Package("@scope/name", "1.0.0", base64.b64encode(sha512).decode(), ("kept/",))


def files(below: Path) -> dict[str, bytes]:
    """Path to content."""
    found = (file for file in below.rglob("*") if file.is_file())
    return {str(file.relative_to(below)): file.read_bytes() for file in found}


def test_a_package_is_fetched_once_and_only_what_is_wanted_kept(npm: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    wanted = package(npm)

    first, second = folder(wanted, cache), folder(wanted, cache)

    assert files(first) == {"kept/One.json": b"one"}
    assert first == second
    assert list(cache.iterdir()) == [first]
    assert npm.with_suffix(".log").read_text() == "fetched\n"


def test_a_wheel_is_fetched_with_nothing_that_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a folder in the place of the registry."""
    wheel = tmp_path / "dists" / "some_name-1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    about = "some_name-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as members:
        members.writestr("kept/One.json", "one")
        members.writestr("other.txt", "not wanted")
        needs = "Metadata-Version: 2.1\nName: some-name\nVersion: 1.0\nRequires-Dist: what-is-not\n"
        members.writestr(f"{about}/METADATA", needs)
        members.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    sha512 = base64.b64encode(hashlib.sha512(wheel.read_bytes()).digest()).decode()
    pinned = Package("some-name", "1.0", sha512, ("kept/",), is_wheel=True)

    assert files(folder(pinned, tmp_path / "cache")) == {"kept/One.json": b"one"}


def test_a_package_that_is_not_the_pinned_one_is_refused(npm: Path, tmp_path: Path) -> None:
    other = Package("@scope/name", "1.0.0", "pinned", ("kept/",))

    with pytest.raises(ValueError, match="pinned expected"):
        folder(other, tmp_path / "cache")

    assert list((tmp_path / "cache").iterdir()) == []


def test_two_processes_can_fetch_at_once(npm: Path, tmp_path: Path) -> None:
    wanted = package(npm)
    cache = tmp_path / "cache"

    with ThreadPoolExecutor(8) as threads:
        found = {one.result() for one in [threads.submit(folder, wanted, cache) for _ in range(8)]}

    (ready,) = found
    assert list(cache.iterdir()) == [ready]
    assert files(ready) == {"kept/One.json": b"one"}


def test_what_an_interrupted_fetch_left_is_not_taken_for_a_package(
    npm: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    (cache / "unfinished-abc" / "unpacked").mkdir(parents=True)
    assert files(folder(package(npm), cache)) == {"kept/One.json": b"one"}


def test_without_a_registry_the_test_is_skipped(npm: Path, tmp_path: Path) -> None:
    wanted = package(npm)
    npm.with_suffix(".tgz").unlink()

    with pytest.raises(pytest.skip.Exception, match=r"cannot be fetched: no such package"):
        folder(wanted, tmp_path / "cache")


def test_without_node_the_test_is_skipped(npm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(npm.parent))
    with pytest.raises(pytest.skip.Exception, match="node is not installed"):
        program("node")


def test_in_ci_nothing_may_be_missing(npm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(npm.parent))
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="node is not installed"):
        program("node")


@pytest.mark.usefixtures("packages")
def test_a_source_that_does_not_compile_says_why(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Expected ';'"):
        compiler.compiled({"Bad.sol": "contract Bad { uint256 x }"}, tmp_path)
    assert list(tmp_path.iterdir()) == []
