"""Reads segment files, sealed or being written, whole or damaged: every whole chunk is read, damage is stepped over.

A segment fits in memory (images 16 MB), so a file is read at once; a file that grows meanwhile is read as it was."""

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from google.protobuf.message import Message as ProtobufMessage

from logbook import block, channels, records
from logbook.scan import Chunk, Scan, chunk_messages, scan
from logbook.segment_writer import OPEN_SUFFIX, SEGMENT, Identity


class SegmentError(ValueError):
    """A file that cannot be read as a segment, and why."""


class Message(NamedTuple):
    """One message. `log_time` CLOCK_BOOTTIME ns, `publish_time` UTC ns (0: unknown); `message` is the decoded protobuf, None for
    other encodings and schemas; `metadata` is the channel's (the column block's `columns`); `sequence` counts per channel and
    file, from 1."""

    topic: str
    log_time: int
    publish_time: int
    data: bytes
    message: ProtobufMessage | None
    metadata: dict[str, str]
    sequence: int


class SegmentInfo(NamedTuple):
    """What a segment holds. Times in ns, 0 if it holds no message (UTC: none with a known UTC); `messages` counts by topic.
    `derived_from`, `derivation`: see Identity; "" in an original."""

    segment_id: str
    truck: str
    stream: str
    boot_id: str
    derived_from: str
    derivation: str
    first_time: int
    last_time: int
    first_utc: int
    last_utc: int
    chunks: int
    messages: dict[str, int]
    bytes: int
    sealed: bool


def read(path: Path | str) -> Iterator[Message]:
    """The messages of all whole chunks, in file order (within a commit not always in the order of time).

    Raises OSError, SegmentError if not even the channels can be known or a whole chunk contradicts itself. Bytes that are not the message
    of their channel come with `message` None; `verify` finds them."""
    data, found = _load(path)
    yield from _messages(path, data, found, strict=False)


def info(path: Path | str) -> SegmentInfo:
    """What the segment holds, by its whole chunks. Raises OSError, SegmentError."""
    data, found = _load(path)
    identity = _identity(found)
    listed = found.channels
    counts: dict[str, int] = {}
    first_utc = last_utc = 0
    for chunk in found.chunks:
        for message in _raw(path, data, chunk):
            topic = listed[message.channel].topic if message.channel in listed else f"channel {message.channel}"
            counts[topic] = counts.get(topic, 0) + 1
            if message.publish_time:
                first_utc = min(first_utc or message.publish_time, message.publish_time)
                last_utc = max(last_utc, message.publish_time)
    return SegmentInfo(
        *identity,
        first_time=min((chunk.head.first_time for chunk in found.chunks), default=0),
        last_time=max((chunk.head.last_time for chunk in found.chunks), default=0),
        first_utc=first_utc,
        last_utc=last_utc,
        chunks=len(found.chunks),
        messages=counts,
        bytes=len(data),
        sealed=found.closing is not None,
    )


def verify(path: Path | str) -> list[str]:
    """Everything that is wrong with a sealed segment; [] if it is whole: every mark, every CRC, every message. Raises OSError."""
    data = Path(path).read_bytes()
    found = scan(data)
    problems = [] if found.head else [found.head_problem]
    if found.closing is None:
        problems.append("not sealed" if Path(path).name.endswith(OPEN_SUFFIX) else "no whole summary and footer at the end")
    elif zlib.crc32(memoryview(data)[: found.closing.data_end]) != found.closing.data_crc:
        problems.append("data section does not match its CRC")
    problems.extend(f"{stretch.reason} at {stretch.start}, {stretch.end - stretch.start} bytes" for stretch in found.damage)
    if found.tail:
        problems.append(f"{found.tail} at {found.end}, {len(data) - found.end} bytes")
    problems.extend(_sequence_problems(found))
    if found.head and found.closing and (found.head.schemas, found.head.channels) != (found.closing.schemas, found.closing.channels):
        problems.append("summary has other channels than the head")
    problems.extend(_content_problems(path, data, found))
    return problems


def _load(path: Path | str) -> tuple[bytes, Scan]:
    data = Path(path).read_bytes()
    found = scan(data)
    if not found.channels:
        raise SegmentError(f"{path}: {found.head_problem or 'no channels'}")
    return data, found


def _identity(found: Scan) -> Identity:
    if found.head:
        return found.head.identity
    metadata = found.closing.metadata.get(SEGMENT, {}) if found.closing else {}
    return Identity(*(metadata.get(name, "") for name in Identity._fields))


def _messages(path: Path | str, data: bytes, found: Scan, strict: bool) -> Iterator[Message]:
    listed, schemas = found.channels, found.schemas
    for chunk in found.chunks:
        for raw in _raw(path, data, chunk):
            channel = listed.get(raw.channel)
            if channel is None:
                raise SegmentError(f"{path}: message of a channel {raw.channel} that does not exist")
            schema = schemas[channel.schema_id].name if channel.schema_id in schemas else ""
            try:
                decoded = channels.parse(channel.message_encoding, schema, raw.data)
            except channels.WrongMessage as error:
                if strict:
                    raise SegmentError(f"{path}: {channel.topic} at {raw.log_time}: {error}") from error
                decoded = None
            yield Message(channel.topic, raw.log_time, raw.publish_time, raw.data, decoded, channel.metadata, raw.sequence)


def _raw(path: Path | str, data: bytes, chunk: Chunk) -> Iterator[records.RawMessage]:
    try:
        yield from chunk_messages(data, chunk)
    except records.DamagedChunk as error:
        raise SegmentError(f"{path}: chunk {chunk.sequence} at {chunk.start}: {error}") from error


def _sequence_problems(found: Scan) -> Iterator[str]:
    """Marks count 1, 2, 3, …; only a scar or damage may stand for missing ones."""
    before, end = 0, found.head_end
    for chunk in found.chunks:
        if chunk.sequence <= before or (chunk.sequence != before + 1 and chunk.mark_start == end):
            yield f"chunk {chunk.sequence} at {chunk.start} follows chunk {before}"
        before, end = chunk.sequence, chunk.end


def _content_problems(path: Path | str, data: bytes, found: Scan) -> Iterator[str]:
    """The first whole chunk's message that is not what its channel promises."""
    if not found.channels:
        return
    try:
        for message in _messages(path, data, found, strict=True):
            if message.topic == channels.IMU_BLOCK:
                block.decode(message.data)
    except (SegmentError, block.BlockError) as error:
        yield str(error)
