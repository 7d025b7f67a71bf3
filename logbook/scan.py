"""Tolerant look at the bytes of a segment file, sealed or not: what is whole, what is damaged, where the tail is cut.

Nothing here raises on damage: it is the subject. Layout and reasons: logbook/segment.py."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from mcap.opcode import Opcode
from mcap.records import Channel, Header, Metadata, MetadataIndex, Schema

from logbook import records
from logbook.closing import DATA_END_BYTES, Closing, closing_of_bytes, parse, record_at
from logbook.segment_writer import FORMAT, HEAD, HEAD_FRAMES, PROFILE, RECOVERED, SEGMENT, After, Head, Identity


class Chunk(NamedTuple):
    """A whole chunk: its mark stands at `mark_start`, its Chunk record is data[start:end]."""

    sequence: int
    mark_start: int
    start: int
    end: int
    head: records.ChunkHead


class Stretch(NamedTuple):
    """A part of the file that holds nothing whole, and why."""

    start: int
    end: int
    reason: str


@dataclass
class Scan:
    """What was found. `end` is the offset after the last whole thing of the data section; `tail` says what follows it."""

    head: Head | None = None
    head_end: int = 0
    head_problem: str = ""
    chunks: list[Chunk] = field(default_factory=list)
    damage: list[Stretch] = field(default_factory=list)
    scars: list[Stretch] = field(default_factory=list)
    end: int = 0
    tail: str = ""
    closing: Closing | None = None

    @property
    def after(self) -> After | None:
        """What was durable when the file was made; None if its head does not say."""
        return self.head.after if self.head else None

    @property
    def schemas(self) -> dict[int, Schema]:
        """By id; from the summary if the head is damaged."""
        source = self.head or self.closing
        return {schema.id: schema for schema in source.schemas} if source else {}

    @property
    def channels(self) -> dict[int, Channel]:
        """By id; from the summary if the head is damaged."""
        source = self.head or self.closing
        return {channel.id: channel for channel in source.channels} if source else {}


TORN = "torn tail"
ZEROS = "tail of zeros"
UNFINISHED_SEAL = "unfinished seal"


def scan(data: bytes) -> Scan:
    """All that can be known of the file's bytes `data`."""
    result = scan_head(data)
    result.closing = closing_of_bytes(data)
    limit = result.closing.data_end if result.closing else len(data)
    position = result.head_end or len(records.MAGIC)
    if not result.head_end:
        # A damaged head: the chunks may be whole all the same.
        position = _next_whole(data, position, limit) or limit
    result.end = position
    while position < limit:
        after = _whole_at(data, position, limit, result)
        if after is None:
            found = _next_whole(data, position + 1, limit)
            if found is None:
                break
            result.damage.append(Stretch(position, found, _why(data, position)))
            after = found
        position = result.end = after
    if position < limit:
        if result.closing:
            result.damage.append(Stretch(position, limit, _why(data, position)))
            result.end = limit
        else:
            result.tail = _tail(data, position)
    return result


def chunk_messages(data: bytes, chunk: Chunk) -> Iterator[records.RawMessage]:
    """The messages of a whole chunk; raises records.DamagedChunk if its content contradicts its header."""
    return records.messages(records.chunk_content(data, chunk.head))


def scan_head(data: bytes) -> Scan:
    """Only the head of a file that begins with `data`, or what is wrong with it."""
    result = Scan()
    if not data.startswith(records.MAGIC):
        result.head_problem = "no MCAP magic at the start"
        return result
    position = len(records.MAGIC)
    header: Header | None = None
    segment: tuple[MetadataIndex, dict[str, str]] | None = None
    schemas: list[Schema] = []
    listed: list[Channel] = []
    while (bounds := record_at(data, position)) is not None:
        opcode, start, end = bounds
        if opcode == Opcode.HEADER:
            header = parse(Header, data[start:end])
        elif opcode == Opcode.SCHEMA and (schema := parse(Schema, data[start:end])):
            schemas.append(schema)
        elif opcode == Opcode.CHANNEL and (channel := parse(Channel, data[start:end])):
            listed.append(channel)
        elif opcode == Opcode.METADATA and (metadata := parse(Metadata, data[start:end])):
            if metadata.name == SEGMENT:
                segment = (MetadataIndex(position, end - position, SEGMENT), metadata.metadata)
            elif metadata.name == HEAD:
                if metadata.metadata.get("crc32") != f"{zlib.crc32(data[:position]):08x}":
                    result.head_problem = "head does not match its CRC"
                elif header is None or header.profile != PROFILE or segment is None or segment[1].get("format") != FORMAT:
                    result.head_problem = f"not a segment of format {FORMAT}"
                else:
                    identity = Identity(*(segment[1].get(name, "") for name in Identity._fields))
                    result.head = Head(identity, schemas, listed, segment[0], After.of(segment[1]))
                    result.head_end = end
                return result
        else:
            break
        position = end
    result.head_problem = "head is not whole"
    return result


def _whole_at(data: bytes, position: int, limit: int, result: Scan) -> int | None:
    """Notes the whole thing at `position` and returns the offset after it; None if there is none."""
    opcode = data[position]
    if opcode == records.MARK_OPCODE:
        chunk = _chunk_at(data, position, limit)
        if chunk is not None:
            result.chunks.append(chunk)
            return chunk.end
    elif opcode == records.SCAR_OPCODE:
        end = _scar_end(data, position, limit)
        if end is not None:
            result.scars.append(Stretch(position, end, "scar of an earlier recovery"))
            return end
    elif opcode == Opcode.METADATA and result.closing:
        bounds = record_at(data, position)
        if bounds is not None and bounds[2] <= limit and parse(Metadata, data[bounds[1] : bounds[2]]):
            return bounds[2]
    return None


def _chunk_at(data: bytes, position: int, limit: int) -> Chunk | None:
    start = position + records.MARK.size
    if start > limit:
        return None
    opcode, length, text, sequence, offset, chunk_length, crc = records.MARK.unpack_from(data, position)
    end = start + chunk_length
    if (opcode, length, text) != (records.MARK_OPCODE, records.MARK.size - records.RECORD.size, records.MARK_TEXT):
        return None
    if (
        offset != position
        or end > limit
        or crc == 0
        or zlib.crc32(memoryview(data)[start:end], zlib.crc32(data[position : start - 4])) != crc
    ):
        return None
    try:
        head = records.parse_chunk_head(data, start, end)
    except records.DamagedChunk:
        return None
    return Chunk(sequence, position, start, end, head)


def _scar_end(data: bytes, position: int, limit: int) -> int | None:
    if position + records.SCAR.size > limit:
        return None
    _, length, text, offset, crc = records.SCAR.unpack_from(data, position)
    end = position + records.RECORD.size + length
    if text != records.SCAR_TEXT or offset != position or end > limit:
        return None
    return end if zlib.crc32(data[position : position + records.SCAR.size - 4]) == crc else None


def _next_whole(data: bytes, start: int, limit: int) -> int | None:
    """The offset of the next whole chunk (its mark) or scar from `start` on."""
    candidates: list[int] = []
    for text, is_whole in ((records.MARK_TEXT, _chunk_at), (records.SCAR_TEXT, _scar_end)):
        position = start + records.RECORD.size
        while (position := data.find(text, position, limit)) >= 0:
            if is_whole(data, position - records.RECORD.size, limit) is not None:
                candidates.append(position - records.RECORD.size)
                break
            position += 1
    return min(candidates, default=None)


def _why(data: bytes, position: int) -> str:
    """Names the damage that begins at `position`."""
    if data[position] == records.MARK_OPCODE and data.startswith(records.MARK_TEXT, position + records.RECORD.size):
        return "damaged chunk"
    return "damaged mark"


def _tail(data: bytes, position: int) -> str:
    if data.count(0, position) == len(data) - position:
        return ZEROS
    bounds = record_at(data, position)
    if bounds is None:
        return TORN
    opcode, start, end = bounds
    metadata = parse(Metadata, data[start:end]) if opcode == Opcode.METADATA else None
    if metadata is not None and metadata.name in (HEAD_FRAMES, RECOVERED):
        return UNFINISHED_SEAL
    return UNFINISHED_SEAL if opcode == Opcode.DATA_END and end - position == DATA_END_BYTES else TORN
