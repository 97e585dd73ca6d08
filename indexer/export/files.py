"""Files that are there whole or not at all.

They are written beside their place under a name with a dot before it and `.partial` behind, and
take their name when all of it is on disk. Who is killed leaves at most such a file.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from indexer.errors import IndexerError

META = "_meta.json"  # within a folder; readers of partitioned folders skip a leading _


def meta_of(path: Path) -> Path:
    """Where what is known of a file stands."""
    return path.with_name(f"{path.name}.meta.json")


def check_free(path: Path, *, overwrite: bool, is_folder: bool) -> None:
    """IndexerError where something stands that must not be replaced."""
    if not path.parent.is_dir():
        raise IndexerError(f"{path}: there is no folder {path.parent}")
    if not os.path.lexists(path):
        return
    if not overwrite:
        raise IndexerError(f"{path} exists: name another, or give --overwrite")
    if is_folder != path.is_dir():
        raise IndexerError(f"{path} is {'no folder' if is_folder else 'a folder'}: remove it first")
    if is_folder and any(path.iterdir()) and not (path / META).is_file():
        raise IndexerError(f"{path} is no folder of an export, so it is not replaced: remove it")


@contextmanager
def fresh_file(path: Path, *, overwrite: bool) -> Iterator[BinaryIO]:
    """A file that gets its name at the end of the block, and is gone when the block fails."""
    partial = _partial(path)
    try:
        with partial.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        _name(partial, path, overwrite=overwrite)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def fresh_folder(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """A folder of which the same holds."""
    partial = _partial(path)
    partial.mkdir()
    try:
        yield partial
        if overwrite and path.exists():
            old = _partial(path)
            path.rename(old)
            partial.rename(path)
            shutil.rmtree(old)
        elif os.path.lexists(path):
            raise _appeared(path)
        else:
            partial.rename(path)
        _sync(path.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid4().hex[:8]}.partial")


def _name(partial: Path, path: Path, *, overwrite: bool) -> None:
    if overwrite:
        partial.replace(path)
    else:
        try:
            path.hardlink_to(partial)  # unlike a rename it replaces nothing
        except FileExistsError:
            raise _appeared(path) from None
        except OSError:  # a file system without links
            if os.path.lexists(path):
                raise _appeared(path) from None
            partial.rename(path)
    _sync(path.parent)


def _appeared(path: Path) -> IndexerError:
    return IndexerError(f"{path} came into being meanwhile: nothing was written")


def _sync(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
