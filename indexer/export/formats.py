"""The formats: each takes rows as pieces of CSV or JSON and writes a file, with constant memory."""

import csv
import io
import json
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, BinaryIO, Literal, Protocol

from indexer.errors import ConfigError
from indexer.store.datasets import Column, Kind
from indexer.store.exports import Shape

Form = Literal["csv", "jsonl", "arrow", "parquet"]
SHAPES: dict[Form, Shape] = {
    "csv": "safe cells", "jsonl": "objects", "arrow": "cells", "parquet": "cells"
}  # fmt: skip
# A row group: 8 MiB of CSV are about 16,000 liquidations; with twice as many a run took 300 MB.
AT_ONCE = 8 << 20
# Digits of a decimal, and those behind the point: DuckDB and polars know none with more than 38.
PRECISION, SCALE = 38, 18
EXACT = "exact"
EXACT_SAYS = (
    f"Numbers of the row that have more than {SCALE} digits behind the point, where their column"
    f" is cut off, or more than {PRECISION - SCALE} before it, where it is NULL: a JSON object with"
    " all their digits. NULL where every column is exact."
)


class Writer(Protocol):
    """Takes rows one by one; `end` is called when there are no more, `stop` in any case."""

    def add(self, piece: bytes) -> None: ...

    def end(self) -> None: ...

    def stop(self) -> None: ...


def writer(form: Form, file: BinaryIO, columns: Sequence[Column], meta: bytes) -> Writer:
    """A writer of one file; ConfigError where what it needs is not installed."""
    if form == "csv":
        return Lines(file, header(columns))
    return Lines(file) if form == "jsonl" else Tables(form, file, columns, meta)


def header(columns: Sequence[Column]) -> bytes:
    """The first line of a CSV file."""
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow([one.name for one in columns])
    return line.getvalue().encode()


class Lines:
    """CSV and JSON lines: as they come."""

    def __init__(self, file: BinaryIO, first: bytes = b"") -> None:
        self._file = file
        self._file.write(first)

    def add(self, piece: bytes) -> None:
        self._file.write(piece)

    def end(self) -> None:
        self._file.flush()

    def stop(self) -> None:
        pass


class Tables:
    """Arrow and Parquet. While a piece is parsed and written in a thread, the next is read."""

    def __init__(self, form: Form, file: BinaryIO, columns: Sequence[Column], meta: bytes) -> None:
        try:
            import pyarrow
            import pyarrow.csv
            import pyarrow.parquet
        except ImportError:
            raise ConfigError(
                f"{form} needs pyarrow: pip install 'liquidation-indexer[parquet]'"
            ) from None
        self._pa = pyarrow
        self._columns = columns
        self.schema = self._schema(meta)
        self._sink = self._open(form, file)
        self._thread = ThreadPoolExecutor(1)
        self._running: Future[None] | None = None
        self._buffer = bytearray()

    def add(self, piece: bytes) -> None:
        self._buffer += piece
        if len(self._buffer) >= AT_ONCE:
            self._hand_over()

    def end(self) -> None:
        if self._buffer:
            self._hand_over()
        self._wait()
        self._sink.close()

    def stop(self) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)
        with suppress(OSError, self._pa.ArrowException):  # while there is a file to be closed
            self._sink.close()

    def _hand_over(self) -> None:
        self._wait()
        self._running = self._thread.submit(self._write, self._buffer)
        self._buffer = bytearray()

    def _wait(self) -> None:
        if self._running is not None:
            self._running.result()

    def _open(self, form: Form, file: BinaryIO) -> Any:
        if form == "parquet":
            return self._pa.parquet.ParquetWriter(file, self.schema, compression="zstd")
        options = self._pa.ipc.IpcWriteOptions(compression="zstd")
        kind = self._pa.ipc.new_file if file.seekable() else self._pa.ipc.new_stream
        return kind(file, self.schema, options=options)

    def _schema(self, meta: bytes) -> Any:
        fields = [
            self._pa.field(one.name, self._type(one.kind), metadata={"comment": one.comment})
            for one in self._columns
        ]
        if self._decimals():
            text = self._pa.string()
            fields.append(self._pa.field(EXACT, text, metadata={"comment": EXACT_SAYS}))
        return self._pa.schema(fields, metadata={"liquidation_indexer": meta})

    def _type(self, kind: Kind) -> Any:
        pa = self._pa
        match kind:
            case "text" | "digits" | "json":
                return pa.string()
            case "decimal":
                return pa.decimal128(PRECISION, SCALE)
            case "int64":
                return pa.int64()
            case "int32":
                return pa.int32()
            case "int16":
                return pa.int16()
            case "bool":
                return pa.bool_()
            case "time":
                return pa.timestamp("us", tz="UTC")
            case "date":
                return pa.date32()

    def _decimals(self) -> list[str]:
        return [one.name for one in self._columns if one.kind == "decimal"]

    def _write(self, rows: bytearray) -> None:
        try:
            table = self._parsed(rows, {})
            if self._decimals():
                nothing = self._pa.nulls(len(table), self._pa.string())
                table = table.append_column(self.schema.field(EXACT), nothing)
        except self._pa.ArrowInvalid:  # a number that no decimal holds
            table = self._with_exact(rows)
        self._sink.write_table(table.cast(self.schema))

    def _parsed(self, rows: bytearray, types: dict[str, Any]) -> Any:
        pa_csv = self._pa.csv
        names = [one.name for one in self._columns]
        return pa_csv.read_csv(
            self._pa.BufferReader(self._pa.py_buffer(rows)),
            read_options=pa_csv.ReadOptions(
                column_names=names, block_size=2 * AT_ONCE, use_threads=False
            ),
            parse_options=pa_csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
            convert_options=pa_csv.ConvertOptions(
                column_types={one.name: self._type(one.kind) for one in self._columns} | types,
                # as COPY writes them: nothing is NULL, "" is an empty text
                null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False,
                true_values=["t"], false_values=["f"],
            ),
        )  # fmt: skip

    def _with_exact(self, rows: bytearray) -> Any:
        from pyarrow import compute

        text = self._pa.string()
        table = self._parsed(rows, dict.fromkeys(self._decimals(), text))
        exact: dict[int, dict[str, str]] = {}
        for name in self._decimals():
            said = table[name].combine_chunks()
            is_cut = compute.match_substring_regex(said, rf"\.\d{{{SCALE}}}\d*[1-9]")
            is_large = compute.match_substring_regex(
                said, rf"^-?\d{{{PRECISION - SCALE + 1}}}|[a-z]"
            )
            is_inexact = compute.or_(is_cut, is_large)
            for row in compute.indices_nonzero(is_inexact).to_pylist():
                exact.setdefault(row, {})[name] = said[row].as_py()
            cut = compute.replace_substring_regex(said, rf"(\.\d{{{SCALE}}})\d+", r"\1")
            kept = compute.if_else(is_large, self._pa.scalar(None, text), cut)
            place = table.schema.get_field_index(name)
            table = table.set_column(place, name, kept.cast(self._type("decimal")))
        told = [json.dumps(exact[row]) if row in exact else None for row in range(len(table))]
        return table.append_column(EXACT, self._pa.array(told, text))
