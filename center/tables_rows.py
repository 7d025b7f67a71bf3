"""From the bytes of stored segments to rows: the tables of logbook/export_tables.py, and one of pictures.

A segment is decoded by itself, its rows without UTC at first: what the whole batch says about the clock decides it, afterwards. What the
segment restates of earlier ones (trims, statements of the clock) is handed over apart, for one of them has the row. Copies for viewers
(`/imu`, `/position/fix`) and the record of head frames are left out, unparsed."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
from foxglove_schemas_protobuf.CompressedImage_pb2 import CompressedImage

from center.ingest_check import Content, Doubt, spans
from logbook import block, channels, records
from logbook.export_clock import Statement, Utc
from logbook.export_source import Item, Survey
from logbook.export_tables import CLOCK, DELTA, TIME, Column, Imu, Rows, Table, Whose, own_values, table_of, tables
from logbook.scan import Scan, scan
from logbook.schemas.cruisers_pb2 import ClockMapping, Reading, Trim
from logbook.segment_writer import SEGMENT

LEFT_OUT = (channels.IMU, channels.FIX, channels.HEAD_FRAMES)
CAMERAS = channels.camera_topic("")
NO_UTC = Utc(())

# `bytes` are those in the segment, which may be packed (`format` says how); latitude and longitude come later (center/tables_places.py).
IMAGES = Table(
    "images",
    (
        Column("camera", pa.string()),
        Column("sequence", pa.int64(), DELTA),
        Column("format", pa.string()),
        Column("bytes", pa.int64(), DELTA),
        Column("latitude", pa.float64(), unit="°"),
        Column("longitude", pa.float64(), unit="°"),
        Column("altitude", pa.float64(), unit="m"),
    ),
)


class Part(NamedTuple):
    """Rows of one table and one boot, by boot time, not yet with their UTC."""

    table: str
    rows: pa.RecordBatch


class Restated(NamedTuple):
    """A message that other segments of the boot may have too, and its rows."""

    digest: bytes
    boottime_ns: int
    values: list[tuple[Any, ...]]
    table: Table


@dataclass
class Decoded:
    """A segment's content. `wrong` counts what was not what its channel says."""

    segment_id: str
    truck: str
    boot_id: str
    parts: list[Part] = field(default_factory=list)
    statements: list[Statement] = field(default_factory=list)
    restated: list[Restated] = field(default_factory=list)
    wrong: int = 0


class Unreadable(ValueError):
    """Bytes that are no segment."""


def decode(data: bytes) -> Decoded:
    """The rows of a segment, whole or scarred; raises Unreadable."""
    found = scan(data)
    identity = _identity(found)
    if not found.channels or not identity.get("boot_id"):
        raise Unreadable(found.head_problem or "nobody says who wrote it")
    decoded = Decoded(identity["segment_id"], identity["truck"], identity["boot_id"])
    items = list(_items(data, found, decoded))
    whose = Whose(decoded.truck, decoded.boot_id, NO_UTC)
    survey = _survey(found, items)
    imu = Imu(survey, False, lambda table, rows: decoded.parts.append(Part(table.name, rows)))
    kinds = {table.name: table for table in (*tables(survey), IMAGES)}
    rows = {name: Rows(table, _adder(decoded, name)) for name, table in kinds.items()}
    items.sort(key=lambda item: item.log_time)
    for item in items:
        if item.topic == channels.IMU_BLOCK:
            try:
                imu.add(whose, item)
            except block.BlockError:
                decoded.wrong += 1
        elif isinstance(item.message, ClockMapping):
            decoded.statements.append(Statement.of(item.message))
        elif isinstance(item.message, CompressedImage):
            image = item.message
            values = (item.topic.removeprefix(CAMERAS), item.sequence, image.format, len(image.data), None, None, None)
            rows[IMAGES.name].add(whose, item.log_time, values, item.segment_id)
        elif name := table_of(item):
            if isinstance(item.message, Trim):
                digest = hashlib.sha256(item.data).digest()
                decoded.restated.append(Restated(digest, item.log_time, own_values(item, kinds[name]), kinds[name]))
                continue
            for values in own_values(item, kinds[name]):
                rows[name].add(whose, item.log_time, values, item.segment_id)
    imu.flush()
    for table in rows.values():
        table.flush()
    return decoded


def told(decoded: Decoded, statements: list[Statement], restated: list[Restated]) -> list[Part]:
    """The rows of what this segment is the first to say."""
    parts: list[Part] = []
    whose = Whose(decoded.truck, decoded.boot_id, NO_UTC)
    clock = Rows(CLOCK, lambda rows: parts.append(Part(CLOCK.name, rows)))
    for one in statements:
        clock.add(whose, one.boottime_ns, (one.utc_ns or None, one.source, one.error_s), decoded.segment_id)
    clock.flush()
    for again in restated:
        rows = Rows(again.table, lambda rows, name=again.table.name: parts.append(Part(name, rows)))  # type: ignore[misc]
        for values in again.values:
            rows.add(whose, again.boottime_ns, values, decoded.segment_id)
        rows.flush()
    return parts


def timed(rows: pa.RecordBatch, utc: Utc) -> pa.Table:
    """Rows with their UTC, as Delta has them: `date` behind the other columns, times in µs, no unsigned numbers. Texts that repeat
    themselves stay dictionaries on the way: as strings the names of truck, boot and segment alone would be half of a batch."""
    moments = utc.of(rows.column("boottime_ns").to_numpy())
    unknown = moments == 0
    time = pa.array(moments // 1000, pa.int64(), mask=unknown).cast(pa.timestamp("us", "UTC"))
    names, arrays = list(rows.schema.names), list(rows.columns)
    arrays[0] = time
    for index in range(1, len(arrays)):
        arrays[index] = _plain(arrays[index])
    date = pa.array((moments // 86_400_000_000_000).astype(np.int32), pa.int32(), mask=unknown).cast(pa.date32())
    return pa.table([*arrays, date], names=[*names, "date"])


def _plain(array: pa.Array) -> pa.Array:
    kind = array.type
    if pa.types.is_unsigned_integer(kind):
        return array.cast(pa.int64())
    if pa.types.is_list(kind):
        return array.cast(pa.list_(pa.int64()))
    if kind == TIME:
        return array.cast(pa.timestamp("us", "UTC"), safe=False)
    return array


def _adder(decoded: Decoded, name: str) -> Any:
    return lambda rows: decoded.parts.append(Part(name, rows))


def _identity(found: Scan) -> dict[str, str]:
    if found.head:
        return found.head.identity._asdict()
    return dict(found.closing.metadata.get(SEGMENT, {})) if found.closing else {}


def _survey(found: Scan, items: list[Item]) -> Survey:
    survey = Survey()
    for channel in found.channels.values():
        if channel.topic == channels.IMU_BLOCK and "columns" in channel.metadata:
            survey.columns[channel.metadata["columns"]] = None
    for item in items:
        if isinstance(item.message, Reading):
            quantities = survey.quantities.setdefault(item.message.sensor, {})
            for value in item.message.values:
                quantities[value.quantity] = None
    return survey


def _items(data: bytes, found: Scan, decoded: Decoded) -> Iterator[Item]:
    schemas = found.schemas
    wanted = {
        channel.id: (channel, schemas[channel.schema_id].name if channel.schema_id in schemas else "")
        for channel in found.channels.values()
        if channel.topic not in LEFT_OUT
    }
    for chunk in found.chunks:
        head = chunk.head
        try:
            if head.compression:
                unpacked = records.chunk_content(data, head)
                content = Content(unpacked, 0, len(unpacked))
            else:
                content = Content(data, head.data_start, head.data_end)
            for span in spans(content):
                if span.channel not in wanted:
                    continue
                channel, schema = wanted[span.channel]
                message = content.data[span.start : span.end]
                try:
                    parsed = channels.parse(channel.message_encoding, schema, message)
                except channels.WrongMessage:
                    decoded.wrong += 1
                    continue
                kept = b"" if isinstance(parsed, CompressedImage) else message
                yield Item(span.log_time, channel.topic, kept, decoded.segment_id, span.sequence, parsed, channel.metadata)
        except (records.DamagedChunk, Doubt):
            decoded.wrong += 1
