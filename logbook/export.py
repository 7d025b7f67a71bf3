"""From segments to what a researcher opens: Parquet and CSV tables, GPX tracks, image files (docs/formats.md 8).

Every message is read once, in the order of time (export_source.py), and handed to whatever wants it; nothing but what overlaps in time and
one batch a table is in memory. Left out are only copies: the 10 Hz typed IMU and LocationFix, which are there for viewers, and the
record of head frames, which is there for recovery."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa  # type: ignore[import-untyped]
from foxglove_schemas_protobuf.CompressedImage_pb2 import CompressedImage

from logbook import block, channels
from logbook.export_files import Csv, Parquet, Targets, Writer
from logbook.export_gpx import Gpx
from logbook.export_images import Images
from logbook.export_source import Boot, Item, Losses, Survey, in_order, survey
from logbook.export_tables import CLOCK, IMAGE, IMU, Imu, Rows, Table, Whose, own_values, table_of, tables
from logbook.schemas.cruisers_pb2 import Position


class Wanted(NamedTuple):
    """Where to: folders for tables and images, a file for tracks; None: not wanted. `compact`: the IMU without typed columns."""

    parquet: Path | None = None
    csv: Path | None = None
    gpx: Path | None = None
    images: Path | None = None
    compact: bool = False
    force: bool = False


@dataclass
class Report:
    """What was done. `rows` by table; `images` and `points` (of tracks) written; `twice`: images that stood in two segments;
    `without_time`: fixes that are in no track, for nobody knows their UTC."""

    segments: int = 0
    rows: dict[str, int] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)
    images: int = 0
    points: int = 0
    twice: int = 0
    without_time: int = 0
    losses: Losses = field(default_factory=Losses)


def export(paths: list[Path], wanted: Wanted, began: Callable[[str, int], None], read: Callable[[int], None]) -> Report:
    """Exports the segments `paths`. `began` is told each of the two passes, with its bytes; `read` how many are done.

    Raises export_files.Exists if a target is there, OSError."""
    report = Report(segments=len(paths))
    with Targets(wanted.force) as targets, ExitStack() as stack:
        if wanted.gpx is not None:
            targets.refuse(wanted.gpx)
        if wanted.images is not None:
            targets.refuse(wanted.images, folder=True)
        began("looking", sum(path.stat().st_size for path in paths))
        found = survey(paths, report.losses, read)
        outputs = _Outputs(found, wanted, targets, report, stack)
        began("exporting", found.bytes)
        for boot in found.boots:
            outputs.boot(boot, read)
        outputs.finish()
        stack.close()
        report.files = targets.finish()
    return report


class _Tables:
    """The tables of one folder in one format; a file is begun with its first row."""

    def __init__(self, folder: Path, suffix: str, make: Callable[[Path, Table], Writer], targets: Targets, stack: ExitStack) -> None:
        self._folder, self._suffix, self._make = folder, suffix, make
        self._targets, self._stack = targets, stack
        self._writers: dict[str, Writer] = {}

    def refuse(self, table: Table) -> None:
        """Raises Exists if the table's file is there."""
        self._targets.refuse(self._path(table))

    def write(self, table: Table, batch: pa.RecordBatch) -> None:
        """The next batch of a table."""
        if table.name not in self._writers:
            self._writers[table.name] = self._make(self._targets.file(self._path(table)), table)
            self._stack.callback(self._writers[table.name].close)
        self._writers[table.name].write(batch)

    def _path(self, table: Table) -> Path:
        return self._folder / f"{table.name}{self._suffix}"


class _Outputs:
    """Everything that an export writes."""

    def __init__(self, found: Survey, wanted: Wanted, targets: Targets, report: Report, stack: ExitStack) -> None:
        self._report = report
        self._formats: list[_Tables] = []
        if wanted.parquet is not None:
            self._formats.append(_Tables(wanted.parquet, ".parquet", Parquet, targets, stack))
        if wanted.csv is not None:
            self._formats.append(_Tables(wanted.csv, ".csv", Csv, targets, stack))
        self._imu = Imu(found, wanted.compact, self._write)
        self._rows = {table.name: Rows(table, partial(self._write, table)) for table in tables(found)}
        for one in self._formats:
            for table in (self._imu.table, *(rows.table for rows in self._rows.values())):
                one.refuse(table)
        self._gpx: Gpx | None = None
        if wanted.gpx is not None:
            self._gpx = Gpx(targets.file(wanted.gpx))
            stack.callback(self._gpx.close)
        self._images: Images | None = None
        if wanted.images is not None:
            folder = targets.folder(wanted.images)
            index = Csv(folder / "index.csv", IMAGE)
            stack.callback(index.close)
            self._index = Rows(IMAGE, index.write)
            self._images = Images(folder, self._index, report.losses)

    def boot(self, boot: Boot, read: Callable[[int], None]) -> None:
        """All of one boot."""
        whose = Whose(boot.truck, boot.boot_id, boot.utc)
        for one, segment_id in sorted(boot.clock.items()):
            self._rows[CLOCK.name].add(whose, one.boottime_ns, (one.utc_ns or None, one.source, one.error_s), segment_id)
        for item in in_order(boot, self._report.losses, read, pictures=self._images is not None):
            self._take(whose, item)

    def finish(self) -> None:
        """Writes what waits, and what was counted into the report."""
        if self._images is not None:
            self._images.close()
            self._index.flush()
            self._report.images, self._report.twice = self._images.count, self._images.twice
        if self._gpx is not None:
            self._report.points, self._report.without_time = self._gpx.points, self._gpx.without_time
        self._imu.flush()
        for rows in self._rows.values():
            rows.flush()
        counts = {IMU: self._imu.count, **{name: rows.count for name, rows in self._rows.items()}}
        self._report.rows = {name: count for name, count in counts.items() if count}

    def _take(self, whose: Whose, item: Item) -> None:
        if item.topic == channels.IMU_BLOCK:
            try:
                self._imu.add(whose, item)
            except block.BlockError as error:
                self._report.losses.messages += 1
                self._report.losses.notes.append(f"{item.segment_id}: {item.topic} at {item.log_time}: {error}")
            return
        if isinstance(item.message, CompressedImage):
            if self._images is not None:
                self._images.add(whose, item, item.message)
            return
        if isinstance(item.message, Position):
            if self._gpx is not None:
                self._gpx.add(whose, item.message)
            if self._images is not None:
                self._images.position(whose, item.message)
        if item.topic == channels.GAP:
            self._report.losses.gaps += 1
        name = table_of(item)
        if name:
            rows = self._rows[name]
            for values in own_values(item, rows.table):
                rows.add(whose, item.log_time, values, item.segment_id)

    def _write(self, table: Table, batch: pa.RecordBatch) -> None:
        for one in self._formats:
            one.write(table, batch)
