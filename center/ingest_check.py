"""Whether a fetched file is a whole segment, and what it holds, in one reading and one CRC pass.

`reader.verify` and `reader.info` each read the file anew and sum its images three times (mark, chunk, file), for they look for damage
wherever it is. Here the file is taken to be whole: every mark directly behind the chunk before it, counted 1, 2, 3, …; a content that is
not compressed is summed once, and the other two sums come from that one (logbook/crc.py). Whatever does not fit raises Doubt, and then
the reader has the word, with its reasons: nothing is refused, and nothing scarred is accepted, by what stands here alone.

Column blocks are not unpacked, which took ten times as long as all the rest: their bytes are as the truck wrote them, and if it wrote one
wrong, another upload of the same would not be better. The tables leave such a block out, and say so (center/tables_rows.py).
"""

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mcap.opcode import Opcode
from mcap.records import Metadata

from logbook import block, channels, reader, records
from logbook.closing import closing_of_bytes, parse, record_at
from logbook.crc import combined
from logbook.scan import scan_head

COMBINED_BYTES = 1_000_000  # from here on a CRC is joined to another (50 µs) rather than summed again


class Doubt(Exception):
    """The file is not the plain case."""


class Damaged(Exception):
    """What the reader finds wrong with the file."""


class Span(NamedTuple):
    """A message: its data is content[start:end] of what it stands in. Times in ns."""

    channel: int
    sequence: int
    log_time: int
    publish_time: int
    start: int
    end: int


class Content(NamedTuple):
    """The messages of one chunk: data[start:end] of the file's bytes, or of its own where it was compressed."""

    data: bytes
    start: int
    end: int


def check(path: Path) -> reader.SegmentInfo:
    """What the segment holds, once it was seen to be whole. Raises Damaged, OSError."""
    try:
        return checked(path.read_bytes())
    except Doubt:
        pass
    problems = reader.verify(path)
    if problems:
        raise Damaged(problems[0])
    try:
        return reader.info(path)
    except reader.SegmentError as error:
        raise Damaged(str(error)) from error


def checked(data: bytes) -> reader.SegmentInfo:
    """The same of a file's bytes; raises Doubt unless every mark, every sum and every message is right."""
    found = scan_head(data)
    closing = closing_of_bytes(data)
    if found.head is None or closing is None or (found.head.schemas, found.head.channels) != (closing.schemas, closing.channels):
        raise Doubt
    schemas = found.schemas
    kinds = {
        channel.id: (channel.message_encoding, schemas[channel.schema_id].name if channel.schema_id in schemas else "")
        for channel in found.head.channels
    }
    blocks = {channel.id for channel in found.head.channels if channel.topic == channels.IMU_BLOCK}
    counts = dict.fromkeys(kinds, 0)
    first_time, last_time, first_utc, last_utc, chunks = 0, 0, 0, 0, 0
    for content, head in contents(data, found.head_end, closing.data_end, closing.data_crc):
        chunks += 1
        first_time = min(first_time, head.first_time) if chunks > 1 else head.first_time
        last_time = max(last_time, head.last_time)
        for span in spans(content):
            try:
                message = content.data[span.start : span.end]
                channels.parse(*kinds[span.channel], message)
            except (KeyError, channels.WrongMessage) as error:
                raise Doubt from error
            if span.channel in blocks and not message.startswith(block.MAGIC):
                raise Doubt
            counts[span.channel] += 1
            if span.publish_time:
                first_utc = min(first_utc or span.publish_time, span.publish_time)
                last_utc = max(last_utc, span.publish_time)
    messages = {channel.topic: counts[channel.id] for channel in found.head.channels if counts[channel.id]}
    return reader.SegmentInfo(
        *found.head.identity, first_time=first_time, last_time=last_time, first_utc=first_utc, last_utc=last_utc, chunks=chunks,
        messages=messages, bytes=len(data), sealed=True,
    )  # fmt: skip


def spans(content: Content) -> Iterator[Span]:
    """The messages of a chunk, none of them copied; raises Doubt where its records do not fit each other."""
    data, position = content.data, content.start
    while position < content.end:
        if position + records.RECORD.size > content.end:
            raise Doubt
        opcode, length = records.RECORD.unpack_from(data, position)
        end = position + records.RECORD.size + length
        if end > content.end or (opcode == Opcode.MESSAGE and length < records.MESSAGE.size - records.RECORD.size):
            raise Doubt
        if opcode == Opcode.MESSAGE:
            _, _, channel, sequence, log_time, publish_time = records.MESSAGE.unpack_from(data, position)
            yield Span(channel, sequence, log_time, publish_time, position + records.MESSAGE.size, end)
        position = end


def contents(data: bytes, position: int, limit: int, data_crc: int) -> Iterator[tuple[Content, records.ChunkHead]]:
    """Every chunk of data[position:limit], one behind the other from number 1; raises Doubt, also at the end if the whole does not sum up
    to `data_crc`."""
    view = memoryview(data)
    total, sequence = zlib.crc32(view[:position]), 0
    while position < limit:
        bounds = record_at(data, position)
        if data[position] == Opcode.METADATA and bounds and bounds[2] <= limit and parse(Metadata, data[bounds[1] : bounds[2]]):
            total, position = zlib.crc32(view[position : bounds[2]], total), bounds[2]
            continue
        sequence += 1
        content, head, stored_crc = _chunk(view, data, position, limit, sequence)
        yield content, head
        total = _with(zlib.crc32(view[position : head.data_start], total), view[head.data_start : head.data_end], stored_crc)
        position = head.data_end
    if total != data_crc:
        raise Doubt


def _chunk(view: memoryview, data: bytes, position: int, limit: int, sequence: int) -> tuple[Content, records.ChunkHead, int]:
    """The chunk whose mark stands at `position`, and the CRC of its records as they are stored."""
    start = position + records.MARK.size
    if start > limit:
        raise Doubt
    opcode, length, text, number, offset, chunk_length, crc = records.MARK.unpack_from(data, position)
    if (opcode, length, text, number, offset) != (
        records.MARK_OPCODE, records.MARK.size - records.RECORD.size, records.MARK_TEXT, sequence, position,
    ) or crc == 0 or start + chunk_length > limit:  # fmt: skip
        raise Doubt
    try:
        head = records.parse_chunk_head(data, start, start + chunk_length)
        stored = view[head.data_start : head.data_end]
        stored_crc = zlib.crc32(stored)
        if head.compression:
            unpacked = records.chunk_content(data, head)
            content = Content(unpacked, 0, len(unpacked))
        else:
            content = Content(data, head.data_start, head.data_end)
            if head.size != len(stored) or head.crc == 0 or head.crc != stored_crc:
                raise Doubt
    except records.DamagedChunk as error:
        raise Doubt from error
    marked = zlib.crc32(view[start : head.data_start], zlib.crc32(view[position : start - 4]))
    if _with(marked, stored, stored_crc) != crc:
        raise Doubt
    return content, head, stored_crc


def _with(crc: int, part: memoryview, part_crc: int) -> int:
    """The CRC of what has `crc` and of `part` behind it: by its own known CRC where summing it again takes longer."""
    return combined(crc, part_crc, len(part)) if len(part) > COMBINED_BYTES else zlib.crc32(part, crc)
