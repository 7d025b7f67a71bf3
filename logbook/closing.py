"""The closing part of a sealed segment (DataEnd, summary, footer), read from the end of the file without the rest of it."""

import os
import struct
import zlib
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import NamedTuple, TypeVar

from mcap.data_stream import ReadDataStream
from mcap.exceptions import McapError
from mcap.opcode import Opcode
from mcap.records import Channel, DataEnd, Footer, McapRecord, Metadata, MetadataIndex, Schema

from logbook import records

FOOTER_BYTES = len(records.encoded(Footer(0, 0, 0)))
DATA_END_BYTES = len(records.encoded(DataEnd(0)))
_R = TypeVar("_R", bound=McapRecord)


class Closing(NamedTuple):
    """A closing part whose summary CRC is right. `metadata` by the records' names; they stand outside of that CRC."""

    data_end: int  # offset of the DataEnd record
    data_crc: int
    schemas: list[Schema]
    channels: list[Channel]
    metadata: dict[str, dict[str, str]]


def closing_of_file(path: Path) -> Closing | None:
    """The closing part of the file; None if it does not end as a sealed segment. Raises OSError."""
    with path.open("rb") as file:
        return find_closing(lambda offset, length: os.pread(file.fileno(), length, offset), path.stat().st_size)


def closing_of_bytes(data: bytes) -> Closing | None:
    """The closing part of a whole file's bytes; None if there is none."""
    return find_closing(lambda offset, length: data[offset : offset + length], len(data))


def find_closing(read: Callable[[int, int], bytes], size: int) -> Closing | None:
    """The closing part of `size` bytes of which `read(offset, length)` gives any; None if there is none that is whole."""
    ending = len(records.MAGIC) + FOOTER_BYTES
    footer_start = size - ending
    if footer_start < DATA_END_BYTES + len(records.MAGIC):
        return None
    end = read(footer_start, ending)
    opcode, length = records.RECORD.unpack_from(end)
    if not end.endswith(records.MAGIC) or opcode != Opcode.FOOTER or length != FOOTER_BYTES - records.RECORD.size:
        return None
    summary_start, _, summary_crc = struct.unpack_from("<QQI", end, records.RECORD.size)
    data_end = summary_start - DATA_END_BYTES
    if not len(records.MAGIC) <= data_end <= footer_start:
        return None
    part = read(data_end, footer_start - data_end)
    summary = part[DATA_END_BYTES:]
    if summary_crc == 0 or zlib.crc32(end[: FOOTER_BYTES - 4], zlib.crc32(summary)) != summary_crc:
        return None
    opcode, length = records.RECORD.unpack_from(part)
    if opcode != Opcode.DATA_END or length != DATA_END_BYTES - records.RECORD.size:
        return None
    (data_crc,) = struct.unpack_from("<I", part, records.RECORD.size)
    closing = Closing(data_end, data_crc, [], [], {})
    for opcode, content in _records(summary):
        if opcode == Opcode.SCHEMA and (schema := parse(Schema, content)):
            closing.schemas.append(schema)
        elif opcode == Opcode.CHANNEL and (channel := parse(Channel, content)):
            closing.channels.append(channel)
        elif opcode == Opcode.METADATA_INDEX and (index := parse(MetadataIndex, content)) and index.offset + index.length <= size:
            for kind, found in _records(read(index.offset, index.length)):
                if kind == Opcode.METADATA and (metadata := parse(Metadata, found)):
                    closing.metadata[metadata.name] = metadata.metadata
    return closing


def record_at(data: bytes, position: int) -> tuple[int, int, int] | None:
    """(opcode, start, end of the content) of the record at `position`; None if it does not fit into `data`."""
    if position + records.RECORD.size > len(data):
        return None
    opcode, length = records.RECORD.unpack_from(data, position)
    start = position + records.RECORD.size
    return (opcode, start, start + length) if start + length <= len(data) else None


def parse(kind: type[_R], content: bytes) -> _R | None:
    """A record of `mcap.records`; None if its content is not one."""
    try:
        record = kind.read(ReadDataStream(BytesIO(content)))  # type: ignore[attr-defined]
    except (McapError, struct.error, UnicodeDecodeError):
        return None
    return record if isinstance(record, kind) else None


def _records(data: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while (bounds := record_at(data, position)) is not None:
        opcode, start, position = bounds
        yield opcode, data[start:position]
