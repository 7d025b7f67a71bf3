"""The tables of an export: which columns they have, and how messages become their rows (Arrow record batches).

Every table begins with `time` (UTC, null where the boot knows none) and `boottime_ns` (CLOCK_BOOTTIME, the identity of a moment within a
boot), and ends with `truck`, `boot` (the kernel's id) and `segment`. A quantity is a column of numbers in its SI unit, and beside it
`<quantity>_reason` where there is no number; never both. What the chip said stands beside it: `raw`, its bytes, or for the IMU
`<quantity>_raw`, its register. One batch is of one boot and sorted by `boottime_ns`."""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa  # type: ignore[import-untyped]

from logbook import block
from logbook.export_clock import Utc
from logbook.export_source import Item, Survey
from logbook.quantities import BY_ID
from logbook.schemas import cruisers_pb2 as pb

ROWS = 65_536  # of a batch of rows: some 20 MB at most
IMU_ROWS = 65_536  # 11 minutes

IMU = "imu"
TIME = pa.timestamp("ns", "UTC")
_REASONS = pa.array(block.REASONS[1:], pa.string())
_TEXT = pa.dictionary(pa.int32(), pa.string())  # repeats itself

# How a column is best written in Parquet (measured on the recorded drive: bench/compression.py).
DELTA = "DELTA_BINARY_PACKED"
SPLIT = "BYTE_STREAM_SPLIT"
DICTIONARY = "dictionary"
PLAIN = "PLAIN"


class Column(NamedTuple):
    """`unit` is "" where there is none; `name` is for people."""

    id: str
    type: pa.DataType
    encoding: str = DICTIONARY
    unit: str = ""
    name: str = ""

    @property
    def field(self) -> pa.Field:
        """As Arrow has it, with unit and name."""
        told = {"unit": self.unit, "name": self.name}
        return pa.field(self.id, self.type, metadata={key: value for key, value in told.items() if value})


class Table(NamedTuple):
    """`own` are the columns between `boottime_ns` and `truck`."""

    name: str
    own: tuple[Column, ...]

    @property
    def columns(self) -> tuple[Column, ...]:
        """All of them."""
        return (*_FIRST, *self.own, *_LAST)

    @property
    def schema(self) -> pa.Schema:
        """As Arrow has it."""
        return pa.schema([column.field for column in self.columns])


class Whose(NamedTuple):
    """The boot that rows belong to."""

    truck: str
    boot_id: str
    utc: Utc


_FIRST = (Column("time", TIME, DELTA, "UTC"), Column("boottime_ns", pa.int64(), DELTA, "ns", "time since boot, CLOCK_BOOTTIME"))
_LAST = (Column("truck", _TEXT), Column("boot", _TEXT), Column("segment", _TEXT))
_HEAD = (Column("head_boot", pa.uint32()),)
_SEQUENCE = Column("sequence", pa.uint32(), DELTA)


def _quantity(id: str, encoding: str = SPLIT) -> Column:
    known = BY_ID.get(id)
    return Column(id, pa.float64(), encoding, known.unit if known else "", known.name if known else "")


def _number(id: str, unit: str) -> Column:
    return Column(id, pa.float64(), SPLIT, unit)


_POSITION = Table(
    "position",
    (
        Column("valid", pa.bool_(), PLAIN),
        Column("mode", pa.uint32()),
        Column("receiver_time", TIME, DELTA, "UTC", "as the receiver said it"),
        *(_quantity(id) for id in ("latitude", "longitude", "altitude", "speed", "bearing")),
        _number("horizontal_error", "m"),
        _number("speed_error", "m/s"),
        _number("bearing_error", "rad"),
        _number("time_error", "s"),
        Column("reason", _TEXT),
        Column("raw", pa.binary(), PLAIN),
    ),
)
_SPAN = (Column("from_boottime_ns", pa.int64(), DELTA, "ns"), Column("to_boottime_ns", pa.int64(), DELTA, "ns"))
_FIXED: dict[type[Any], Table] = {
    pb.Position: _POSITION,
    pb.Gap: Table("gap", (Column("source", _TEXT), Column("reason", _TEXT), *_SPAN, Column("count", pa.uint64(), DELTA))),
    pb.Event: Table("event", (Column("kind", _TEXT), Column("source", _TEXT), Column("detail", pa.string(), PLAIN))),
    pb.Health: Table("health", (Column("source", _TEXT), Column("counter", _TEXT), _number("value", ""))),
    pb.Trim: Table("trim", (Column("sensor", _TEXT), *_HEAD, Column("trim", pa.binary()))),
    pb.BoxFrames: Table(
        "box_frames",
        (Column("box", _TEXT), Column("offsets_us", pa.list_(pa.uint32()), PLAIN, "µs"), Column("frames", pa.binary(), PLAIN)),
    ),
}
CLOCK = Table("clock", (Column("utc", TIME, DELTA, "UTC"), Column("source", _TEXT), _number("error_s", "s")))
IMAGE = Table(
    "index",
    (
        Column("camera", _TEXT),
        Column("file", pa.string(), PLAIN),
        Column("bytes", pa.uint64(), DELTA),
        *(_quantity(id) for id in ("latitude", "longitude", "altitude")),
    ),
)


class Rows:
    """Rows of one table on their way to `write`, in batches. `add` takes the values of the own columns."""

    def __init__(self, table: Table, write: Callable[[pa.RecordBatch], None]) -> None:
        self.table = table
        self.count = 0
        self._write = write
        self._rows: list[tuple[Any, ...]] = []
        self._whose: Whose | None = None

    def add(self, whose: Whose, boottime_ns: int, values: Iterable[Any], segment_id: str) -> None:
        """One row of the boot `whose`; those of another boot are written first."""
        if self._whose is not whose or len(self._rows) >= ROWS:
            self.flush()
            self._whose = whose
        self._rows.append((boottime_ns, *values, segment_id))

    def flush(self) -> None:
        """Writes what waits."""
        if self._rows and self._whose is not None:
            times, *own, segments = zip(*self._rows, strict=True)
            arrays = [pa.array(values, column.type) for column, values in zip(self.table.own, own, strict=True)]
            self._write(_batch(self.table, self._whose, np.array(times, np.int64), arrays, pa.array(segments, _TEXT)))
            self.count += len(self._rows)
            self._rows = []


class _Samples(NamedTuple):
    """One column block, decoded; `columns` is how its channel describes it."""

    head_boot: int
    times: npt.NDArray[np.uint64]
    raw: npt.NDArray[np.int16]
    columns: str
    segment_id: str


class Imu:
    """The column blocks of the IMU on their way to `write`. `compact`: without typed columns; each row has how to read the raw ones."""

    def __init__(self, found: Survey, compact: bool, write: Callable[[Table, pa.RecordBatch], None]) -> None:
        self.count = 0
        self.table = _imu_table(found.columns, compact)
        self._write = write
        self._waiting: list[_Samples] = []
        self._samples = 0
        self._whose: Whose | None = None

    def add(self, whose: Whose, item: Item) -> None:
        """The samples of one block; raises block.BlockError, before anything of it is taken."""
        samples = _Samples(*block.decode(item.data), item.metadata.get("columns", "[]"), item.segment_id)
        if samples.raw.shape[1] != len(_ids(samples.columns)):
            raise block.BlockError(f"{len(_ids(samples.columns))} columns are described, {samples.raw.shape[1]} are in the block")
        if self._whose is not whose or self._samples >= IMU_ROWS:
            self.flush()
            self._whose = whose
        self._waiting.append(samples)
        self._samples += len(samples.times)

    def flush(self) -> None:
        """Writes what waits, in a batch for each description."""
        if self._whose is not None:
            for columns, run in groupby(self._waiting, lambda samples: samples.columns):
                self._write(self.table, self._batch(self._whose, columns, list(run)))
        self.count += self._samples
        self._waiting, self._samples = [], 0

    def _batch(self, whose: Whose, columns: str, run: list[_Samples]) -> pa.RecordBatch:
        counts = [len(samples.times) for samples in run]
        times = np.concatenate([samples.times for samples in run]).astype(np.int64)
        raw = np.concatenate([samples.raw for samples in run])
        boots = np.repeat(np.array([samples.head_boot for samples in run], np.uint32), counts)
        arrays: dict[str, pa.Array] = {"head_boot": pa.array(boots), "columns": _same(columns, len(times))}
        typed = block.typed(columns, raw)
        for index, id in enumerate(_ids(columns)):
            values, codes = typed[id]
            arrays |= {f"{id}_raw": pa.array(raw[:, index]), id: pa.array(values, mask=codes != block.OK), f"{id}_reason": _reasons(codes)}
        own = [arrays.get(column.id, pa.nulls(len(times), column.type)) for column in self.table.own]
        names = list(dict.fromkeys(samples.segment_id for samples in run))
        which = np.repeat(np.array([names.index(samples.segment_id) for samples in run], np.int32), counts)
        return _batch(self.table, whose, times, own, pa.DictionaryArray.from_arrays(pa.array(which), pa.array(names)))


def reading_table(sensor: str, quantities: Iterable[str]) -> Table:
    """The table of a slow sensor: of its name, where that can be a file's and is not another table's."""
    own = [*_HEAD, _SEQUENCE]
    for id in quantities:
        own += [_quantity(id), Column(f"{id}_reason", _TEXT)]
    return Table(_name(sensor), (*own, Column("raw", pa.binary(), PLAIN), Column("profile", _TEXT)))


def tables(found: Survey) -> list[Table]:
    """The tables of rows (all but the IMU's and the images') that `found` may fill."""
    return [*(reading_table(sensor, quantities) for sensor, quantities in found.quantities.items()), *_FIXED.values(), CLOCK]


def own_values(item: Item, table: Table) -> list[tuple[Any, ...]]:
    """The rows of a message in its table, without what all tables have: none but for Health more than one."""
    message = item.message
    if isinstance(message, pb.Reading):
        told = {value.quantity: value for value in message.values}
        values: list[Any] = []
        for column in table.own[2:-2:2]:
            value = told.get(column.id)
            kind = value.WhichOneof("result") if value is not None else None
            values += [value.number if value and kind == "number" else None, value.reason if value and kind == "reason" else None]
        return [(message.head_boot, message.sequence, *values, message.raw, message.profile)]
    if isinstance(message, pb.Position):
        optional = [column.id for column in table.own[3:12]]
        utc = message.utc_ns if message.HasField("utc_ns") else None
        numbers = (getattr(message, id) if message.HasField(id) else None for id in optional)
        return [(message.valid, message.mode, utc, *numbers, message.reason or None, message.raw)]
    if isinstance(message, pb.Gap):
        return [(message.source, message.reason, message.from_boottime_ns, message.to_boottime_ns, message.count)]
    if isinstance(message, pb.Event):
        return [(message.kind, message.source, message.detail)]
    if isinstance(message, pb.Health):
        return [(message.source, name, value) for name, value in sorted(message.counters.items())]
    if isinstance(message, pb.Trim):
        return [(message.sensor, message.head_boot, message.trim)]
    if isinstance(message, pb.BoxFrames):
        return [(message.box, list(message.offsets_us), message.frames)]
    return []


def table_of(item: Item) -> str:
    """The name of the table that a message has its rows in; "" for one that has none."""
    if isinstance(item.message, pb.Reading):
        return _name(item.message.sensor)
    table = _FIXED.get(type(item.message))
    return table.name if table else ""


def _name(sensor: str) -> str:
    taken = (IMU, CLOCK.name, *(table.name for table in _FIXED.values()))
    safe = re.sub("[^a-z0-9_]", "_", sensor)
    return sensor if safe == sensor and sensor and sensor not in taken else f"reading_{safe}"


def _imu_table(descriptions: Iterable[str], compact: bool) -> Table:
    """Of all columns that any of the files describes, in their order."""
    described: dict[str, bool] = {}
    for text in descriptions:
        columns = json.loads(text)
        flags = {columns[column["status"]]["id"] for column in columns if column.get("status") is not None}
        described |= {column["id"]: column["id"] in flags for column in columns}
    own = list(_HEAD)
    for id, is_flags in described.items():
        raw = Column(f"{id}_raw", pa.int16(), DELTA)
        own += (
            [raw]
            if compact or is_flags
            else [_quantity(id, DICTIONARY), raw, Column(f"{id}_reason", pa.dictionary(pa.int8(), pa.string()))]
        )
    if compact:
        own.append(Column("columns", _TEXT, name="how to read the raw columns: docs/formats.md 3"))
    return Table(IMU, tuple(own))


def _batch(table: Table, whose: Whose, times: np.ndarray, own: Sequence[pa.Array], segments: pa.Array) -> pa.RecordBatch:
    utc = whose.utc.of(times)
    first = [pa.array(utc, pa.int64(), mask=utc == 0).cast(TIME), pa.array(times)]
    last = [_same(whose.truck, len(times)), _same(whose.boot_id, len(times)), segments]
    return pa.record_batch([*first, *own, *last], schema=table.schema)


@cache
def _ids(columns: str) -> tuple[str, ...]:
    """The columns of a description, in their order."""
    return tuple(column["id"] for column in json.loads(columns))


def _same(text: str, count: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), pa.array([text]))


def _reasons(codes: np.ndarray) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int8) - np.int8(1), mask=codes == block.OK), _REASONS)
