"""The files of an export: written beside their final names and given them at the end, all or none; Parquet and CSV.

CSV is RFC 4180 (comma, CRLF, quotes where needed), UTF-8, one header line with units in brackets; an empty field is a null; times are ISO
8601 with nanoseconds; bytes are hexadecimal; numbers have as many digits as give the same number back."""

import csv
import os
import secrets
import shutil
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from logbook.export_tables import DICTIONARY, TIME, Table

LEVEL = 9  # of zstd: within 1 % of 19 on the recorded drive, several times faster


class Exists(FileExistsError):
    """A target is there already."""


class Targets:
    """The files that an export makes. With `force` they replace what has their names; without it Exists is raised at once.

    Leaving the `with` block by an exception removes everything that was begun; `finish` gives all files their names. Raises OSError."""

    def __init__(self, force: bool) -> None:
        self._force = force
        self._mark = f".part-{secrets.token_hex(4)}"
        self._begun: dict[Path, Path] = {}  # final name -> where it is written

    def __enter__(self) -> "Targets":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for part in self._begun.values():
            if part.is_dir():
                shutil.rmtree(part)
            else:
                part.unlink(missing_ok=True)

    def refuse(self, target: Path, folder: bool = False) -> None:
        """Raises Exists if `target`, a file or a `folder`, is there and is not to be replaced, or is the other of the two."""
        if target.exists() and target.is_dir() != folder:
            raise Exists(f"{target}: is a {'file' if folder else 'folder'}")
        if not self._force and target.exists() and not (folder and not any(target.iterdir())):  # an empty folder is nothing
            raise Exists(f"{target}: exists already; --force replaces it")

    def file(self, target: Path) -> Path:
        """Where to write what will be `target`; its folder is made."""
        self.refuse(target)
        return self._begin(target)

    def folder(self, target: Path) -> Path:
        """As `file`, for a folder of files; it is made."""
        self.refuse(target, folder=True)
        part = self._begin(target)
        part.mkdir()
        return part

    def finish(self) -> list[Path]:
        """Gives all files their names; these, sorted."""
        for target, part in self._begun.items():
            if part.is_dir() and target.is_dir():
                _into(part, target)
            else:
                os.replace(part, target)
        done, self._begun = sorted(self._begun), {}
        return done

    def _begin(self, target: Path) -> Path:
        target.parent.mkdir(parents=True, exist_ok=True)
        self._begun[target] = target.with_name(f".{target.name}{self._mark}")
        return self._begun[target]


def _into(part: Path, target: Path) -> None:
    """Moves all files below `part` to the same places below `target`."""
    for file in sorted(path for path in part.rglob("*") if path.is_file()):
        place = target / file.relative_to(part)
        place.parent.mkdir(parents=True, exist_ok=True)
        os.replace(file, place)
    shutil.rmtree(part)


class Writer(Protocol):
    """Takes the batches of one table."""

    def write(self, batch: pa.RecordBatch) -> None: ...

    def close(self) -> None: ...


class Parquet:
    """One table as a Parquet file: zstd, each column in its encoding, units in the fields' metadata, a batch is a row group."""

    def __init__(self, path: Path, table: Table) -> None:
        dictionaries = [column.id for column in table.columns if column.encoding == DICTIONARY]
        sorted_by = pq.SortingColumn(table.schema.get_field_index("boottime_ns"))
        self._writer = pq.ParquetWriter(
            path, table.schema, compression="zstd", compression_level=LEVEL, use_dictionary=dictionaries, sorting_columns=[sorted_by],
            write_statistics=["time", "boottime_ns"],  # what people look for; a minute's other statistics were a tenth of its file
            column_encoding={_leaf(table, column.id): column.encoding for column in table.columns if column.encoding != DICTIONARY},
        )  # fmt: skip

    def write(self, batch: pa.RecordBatch) -> None:
        """One row group."""
        self._writer.write_batch(batch, row_group_size=max(1, batch.num_rows))

    def close(self) -> None:
        """Writes the footer."""
        self._writer.close()


def _leaf(table: Table, id: str) -> str:
    """Parquet's name of a column: a list's numbers have their own."""
    return f"{id}.list.element" if pa.types.is_list(table.schema.field(id).type) else id


class Csv:
    """One table as a CSV file."""

    def __init__(self, path: Path, table: Table) -> None:
        self._file = path.open("w", encoding="utf-8", newline="")
        self._writer = csv.writer(self._file, lineterminator="\r\n")
        self._writer.writerow(f"{column.id} [{column.unit}]" if column.unit else column.id for column in table.columns)

    def write(self, batch: pa.RecordBatch) -> None:
        """Its rows."""
        self._writer.writerows(zip(*(_texts(column) for column in batch.columns), strict=True))

    def close(self) -> None:
        """Ends the file."""
        self._file.close()


def _texts(column: pa.Array) -> list[Any]:
    """The fields of one column."""
    if column.type == TIME:
        times = np.datetime_as_string(column.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False).view("datetime64[ns]"), unit="ns")
        return [f"{time}Z" if there else None for time, there in zip(times, column.is_valid().to_pylist(), strict=True)]
    values = column.to_pylist()
    if pa.types.is_binary(column.type):
        return [None if value is None else value.hex() for value in values]
    if pa.types.is_boolean(column.type):
        return [None if value is None else str(value).lower() for value in values]
    if pa.types.is_list(column.type):
        return [None if value is None else " ".join(map(str, value)) for value in values]
    return values
