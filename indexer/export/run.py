"""One export: rows of one moment to a file, a folder by venue and day, or an open stream."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

import msgspec

from indexer.export.files import META, check_free, fresh_file, fresh_folder, meta_of
from indexer.export.formats import (
    EXACT,
    PRECISION,
    SCALE,
    SHAPES,
    Form,
    Writer,
    writer,
)
from indexer.methodology.definition import Definition
from indexer.methodology.prose import paragraph
from indexer.store import changes, exports
from indexer.store.changes import CHANGE, Cursor
from indexer.store.database import Connection
from indexer.store.datasets import Column, Dataset, Scope

NUMBERS: dict[Form, str] = {
    "csv": "Numbers with all their digits. A text that a spreadsheet would compute (it begins with"
    " = + - @, a tab, a line break or a full-width form of these) has a ' before it.",
    "jsonl": "Exact numbers with digits behind the point, and amounts in base units, are texts:"
    " most readers would round them.",
    "arrow": "",
    "parquet": "",
}
OF_TABLES = (
    f"Columns of the kind decimal are decimal128({PRECISION}, {SCALE}); what does not fit stands in"
    f" the column {EXACT}. Amounts in base units, of up to 78 digits, are texts."
)


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be exported. `definition` is for the rows of one; `since` for what changed."""

    dataset: Dataset
    form: Form
    columns: tuple[str, ...]
    scope: Scope
    is_partitioned: bool = False
    definition: Definition | None = None
    since: Cursor | None = None
    methods: Mapping[str, str] = field(default_factory=dict)  # of each venue how rows are made


@dataclass(frozen=True, slots=True)
class Done:
    """What an export wrote; no cursor where its changes cannot be asked for."""

    rows: int
    files: int
    cursor: str | None


def to_path(connection: Connection, asked: Asked, path: Path, *, overwrite: bool) -> Done:
    """Write a file, or a folder, that is there whole or not at all; IndexerError where something
    stands in its place already."""
    check_free(path, overwrite=overwrite, is_folder=asked.is_partitioned)
    with exports.one_moment(connection):
        job = _Job(connection, asked)
        if asked.is_partitioned:
            with fresh_folder(path, overwrite=overwrite) as folder:
                counts = [job.day(folder, *each) for each in job.days()]
                done = job.done(sum(counts), len(counts))
                with fresh_file(folder / META, overwrite=False) as file:
                    file.write(job.meta(asked.scope, done.rows))
            return done
        with fresh_file(path, overwrite=overwrite) as file:
            done = job.done(job.write(file, asked.scope), 1)
            # before the file: where that is, what is known of it is there, too
            with fresh_file(meta_of(path), overwrite=True) as meta:
                meta.write(job.meta(asked.scope, done.rows))
        return done


def to_stream(connection: Connection, asked: Asked, file: BinaryIO) -> Done:
    """Write to an open stream, as it comes."""
    with exports.one_moment(connection):
        job = _Job(connection, asked)
        return job.done(job.write(file, asked.scope), 0)


class _Job:
    """What all files of an export share."""

    def __init__(self, connection: Connection, asked: Asked) -> None:
        self._connection = connection
        self._asked = asked
        self._columns = exports.columns(connection, asked.dataset, asked.columns)
        self._around = exports.surroundings(connection, asked.dataset, asked.scope)
        self._cursor = self._next_cursor()
        if asked.since is not None:
            changes.check(connection, asked.since, asked.dataset)

    def days(self) -> list[Any]:
        return exports.days(self._connection, self._asked.dataset, self._asked.scope)

    def day(self, folder: Path, venue: str, day: object, between: Any) -> int:
        """Write the file of a venue's day; gives the number of its rows."""
        place = folder / f"venue={quote(venue, safe='')}" / f"day={day}"
        place.mkdir(parents=True)
        with fresh_file(place / f"part-0.{self._asked.form}", overwrite=False) as file:
            return self.write(file, self._asked.scope.of_day(venue, between))

    def write(self, file: BinaryIO, scope: Scope) -> int:
        """Write the rows of a scope; gives their number."""
        asked, rows = self._asked, 0
        shape = SHAPES[asked.form]
        if asked.since is None:
            pieces = exports.stream(self._connection, asked.dataset, self._columns, scope, shape)
        else:
            pieces = changes.stream(
                self._connection, asked.dataset, self._columns, asked.since, shape
            )
        # closed at once, also when a write fails: nothing else can be asked while it goes on
        with (
            closing(pieces),
            _ended(writer(asked.form, file, self._written(), self.meta(scope))) as out,
        ):
            for piece in pieces:
                out.add(piece)
                rows += 1
        return rows

    def done(self, rows: int, files: int) -> Done:
        return Done(rows, files, self._cursor)

    def meta(self, scope: Scope, rows: int | None = None) -> bytes:
        """What the numbers mean, as JSON; in a file itself without their count."""
        asked = self._asked
        form_says = NUMBERS[asked.form] or OF_TABLES
        found = {
            "dataset": asked.dataset.name,
            "schema_version": asked.dataset.version,
            "says": asked.dataset.says,
            "made_by": f"liquidation-indexer {version('liquidation-indexer')}",
            "format": asked.form,
            "numbers": form_says,
            "columns": [one._asdict() for one in self._written()],
            "key": list(asked.dataset.key),
            "venues": list(scope.venues) or None,
            "from": scope.low,
            "to": scope.high,
            "since": None if asked.since is None else asked.since.as_of,
            "definition": _definition(asked.definition),
            "methodology": self._methodology(scope),
            **self._within(scope),
            "rows": rows,
            "cursor": self._cursor,
        }
        return msgspec.json.format(msgspec.json.encode(found), indent=1)

    def _written(self) -> list[Column]:
        return self._columns if self._asked.since is None else [CHANGE, *self._columns]

    def _next_cursor(self) -> str | None:
        asked = self._asked
        if not changes.can_follow(asked.dataset, asked.columns):
            return None
        return changes.now(self._connection, asked.dataset, asked.columns, asked.scope)

    def _methodology(self, scope: Scope) -> dict[str, str]:
        venues = {one["venue"] for one in self._within(scope)["coverage"]}
        return {
            venue: self._asked.methods[venue] for venue in sorted(venues & {*self._asked.methods})
        }

    def _within(self, scope: Scope) -> dict[str, Any]:
        """What surrounds one file."""
        return {
            **self._around,
            "coverage": [*_within(self._around["coverage"], scope, "first_at", "last_at")],
            "missing": [*_within(self._around["missing"], scope, "after_at", "before_at")],
        }


def _within(
    found: Iterable[dict[str, Any]], scope: Scope, first: str, last: str
) -> Iterator[dict[str, Any]]:
    for one in found:
        is_of = not scope.venues or one["venue"] in scope.venues
        is_late = scope.low is not None and one[last] < scope.low
        is_early = scope.high is not None and one[first] >= scope.high
        if is_of and not is_late and not is_early:
            yield one


def _definition(one: Definition | None) -> dict[str, str] | None:
    if one is None:
        return None
    return {"id": one.id, "hash": one.hash, "methodology": paragraph(one, "en")}


@contextmanager
def _ended(out: Writer) -> Iterator[Writer]:
    try:
        yield out
        out.end()
    finally:
        out.stop()
