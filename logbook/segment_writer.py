"""One segment file being written: create, append chunks, seal. Blocking and for one thread; `logbook.segment.Segments` drives it.

Every method that touches the disk raises OSError. After one, the file must be abandoned: a second fsync on the same file may
return success although the data is gone (USENIX ATC'20, "Can Applications Recover from fsync Failures?")."""

import os
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from mcap.opcode import Opcode
from mcap.records import (
    Channel,
    ChunkIndex,
    DataEnd,
    Footer,
    Header,
    McapRecord,
    Metadata,
    MetadataIndex,
    Schema,
    Statistics,
    SummaryOffset,
)

from logbook import channels, files, records
from logbook.crc import combined
from logbook.schemas.cruisers_pb2 import HeadFrames

OPEN_SUFFIX = ".open"
PROFILE = "cruisers"
FORMAT = "1"

# Names of the Metadata records.
SEGMENT = "segment"
HEAD = "head"
HEAD_FRAMES = "head_frames"
RECOVERED = "recovered"

FOLDER = "folder"  # `scope` of `head_frames`: all segments of the folder up to this one


class Identity(NamedTuple):
    """What the Metadata record `segment` says. `derived_from` is set in a segment that stands in the place of others (thinned, shrunk, or
    the record of what was dropped): their ids, with spaces between; `derivation` says how, in the words of who derived it."""

    segment_id: str
    truck: str
    stream: str
    boot_id: str
    derived_from: str = ""
    derivation: str = ""

    def metadata(self) -> dict[str, str]:
        """As keys of the record; an original has none of the last two."""
        return {name: value for name, value in self._asdict().items() if value or name not in ("derived_from", "derivation")}


class Entry(NamedTuple):
    """One message to write: `log_time` CLOCK_BOOTTIME in ns, `publish_time` UTC in ns (0 if unknown), `data` as its channel says."""

    topic: str
    log_time: int
    publish_time: int
    data: bytes


class After(NamedTuple):
    """What of the stream was durable when a file was made: the number of the segment that held its end, how many chunks that had, and the
    newest log_time in ns. All 0 for the first file of a recorder. Recovery learns from it whether a writer went on in another file."""

    number: int = 0
    chunks: int = 0
    boottime_ns: int = 0

    def metadata(self) -> dict[str, str]:
        """As keys of the Metadata record `segment`; none for a first file."""
        return {f"after_{name}": str(value) for name, value in self._asdict().items()} if self.number else {}

    @classmethod
    def of(cls, metadata: Mapping[str, str]) -> "After":
        """What the Metadata record `segment` says."""
        values = [metadata.get(f"after_{name}", "") for name in cls._fields]
        return cls(*map(int, values)) if all(value.isdecimal() for value in values) else cls()


class Head(NamedTuple):
    """The file before its first chunk, as records; all of it is repeated in the summary."""

    identity: Identity
    schemas: list[Schema]
    channels: list[Channel]
    segment_metadata: MetadataIndex
    after: After = After()


def library_name() -> str:
    """The `library` of the file's header: `cruisers <version>`."""
    return f"cruisers {version('cruisers')}"


def compression_of(stream: str) -> str:
    """Chunks of images are not compressed: zstd gains 0 to 7 % on JPEGs (facts/store-and-forward.md f)."""
    return records.UNCOMPRESSED if stream == channels.IMAGES else records.ZSTD


def head_frames_metadata(newest: Mapping[int, int], of_folder: bool = False) -> dict[str, str]:
    """Content of the Metadata record `head_frames`: head boot -> sequence, and `crc32` of them (MCAP gives Metadata no CRC).

    `of_folder`: they are of all segments of the folder up to this one, so that a restarted recorder need not look at the others."""
    numbers = sorted(newest.items())
    lines = "".join(f"{boot} {sequence}\n" for boot, sequence in numbers) + (f"{FOLDER}\n" if of_folder else "")
    scope = {"scope": FOLDER} if of_folder else {}
    return {**{str(boot): str(sequence) for boot, sequence in numbers}, **scope, "crc32": f"{zlib.crc32(lines.encode()):08x}"}


def build_head(
    identity: Identity,
    types: Sequence[channels.ChannelType],
    metadata: Mapping[str, Mapping[str, str]],
    library: str,
    after: After = After(),  # noqa: B008 (a constant)
) -> tuple[bytes, Head]:
    """The bytes of a new file up to its first mark, and the same as records. `metadata` is per topic.

    The last record, Metadata `head`, has the CRC-32 of all bytes before it: MCAP's own records before the chunks have none."""
    parts = [records.MAGIC, records.encoded(Header(PROFILE, library))]
    offset = sum(map(len, parts))
    parts.append(records.encoded(Metadata(SEGMENT, {**identity.metadata(), "format": FORMAT, **after.metadata()})))
    segment_metadata = MetadataIndex(offset, len(parts[-1]), SEGMENT)
    schema_ids: dict[str, int] = {}
    schemas: list[Schema] = []
    for schema in dict.fromkeys(kind.schema for kind in types if kind.schema):
        schema_ids[schema] = len(schemas) + 1
        schemas.append(Schema(id=schema_ids[schema], data=channels.descriptor_set(schema), encoding="protobuf", name=schema))
    listed = [
        Channel(number, kind.topic, kind.encoding, dict(metadata.get(kind.topic, {})), schema_ids.get(kind.schema, 0))
        for number, kind in enumerate(types, start=1)
    ]
    parts.extend(records.encoded(record) for record in (*schemas, *listed))
    data = b"".join(parts)
    data += records.encoded(Metadata(HEAD, {"crc32": f"{zlib.crc32(data):08x}"}))
    return data, Head(identity, schemas, listed, segment_metadata, after)


class SegmentWriter:
    """One open segment. `path` is the sealed file's; while open it has `.open` appended and an exclusive flock."""

    def __init__(self, path: Path, fd: int, head: Head) -> None:
        """Not for callers: use `create`, or recovery's way in, which then accounts for the chunks already in the file."""
        self.path = path
        self.open_path = path.with_name(path.name + OPEN_SUFFIX)
        self.size = 0
        self.chunks = 0
        self._fd = fd
        self._named = False
        self._head = head
        self._ids = {channel.topic: channel.id for channel in head.channels}
        self._crc = 0
        self._sequences = {channel.id: 0 for channel in head.channels}
        self._counts = {channel.id: 0 for channel in head.channels}
        self._chunk_indexes: list[ChunkIndex] = []
        self._metadata_indexes = [head.segment_metadata]
        self._mark_sequence = 0
        self._head_frames: dict[int, int] = {}
        self._of_folder = False
        self._head_frames_id = self._ids.get(channels.HEAD_FRAMES)

    @classmethod
    def create(
        cls,
        path: Path,
        identity: Identity,
        types: Sequence[channels.ChannelType],
        metadata: Mapping[str, Mapping[str, str]],
        library: str | None = None,
        after: After = After(),  # noqa: B008 (a constant)
        head_frames: Mapping[int, int] | None = None,
    ) -> "SegmentWriter":
        """Makes `path`.open with everything that stands before the first chunk, synced with its folder. Raises OSError.

        `head_frames`: newest sequences in the segments of the folder before this one, to be sealed with its own (None: not known)."""
        data, head = build_head(identity, types, metadata, library or library_name(), after)
        files.make_folder(path.parent)
        open_path = path.with_name(path.name + OPEN_SUFFIX)
        fd = files.create(open_path)
        # A recovery that looked in between may have locked the new file or set it aside: then it is not ours any more.
        if not files.lock_new(fd) or not open_path.exists() or os.fstat(fd).st_ino != open_path.stat().st_ino:
            os.close(fd)
            raise BlockingIOError(f"{open_path} was taken by a recovery")
        writer = cls(path, fd, head)
        try:
            files.write_whole(fd, data)
            files.sync_all(fd)
            files.sync_folder(path.parent)
        except OSError:
            writer.discard()
            raise
        writer.account_bytes(data)
        if head_frames is not None and writer._head_frames_id is not None:
            writer._head_frames, writer._of_folder = dict(head_frames), True
        return writer

    @property
    def identity(self) -> Identity:
        """Who wrote this file."""
        return self._head.identity

    @property
    def head_frames(self) -> Mapping[int, int]:
        """Newest durable sequence by head boot, in this file and in those that `create` was told of."""
        return self._head_frames

    def append(self, entries: Sequence[Entry]) -> None:
        """Writes the messages as one chunk and returns when they are on disk. Raises OSError, KeyError for an unknown topic."""
        parts: list[bytes] = []
        channels_written = []
        for entry in entries:
            channel = self._ids[entry.topic]
            channels_written.append(channel)
            self._sequences[channel] += 1
            sequence = self._sequences[channel] & 0xFFFF_FFFF
            parts += (records.message_head(channel, sequence, entry.log_time, entry.publish_time, len(entry.data)), entry.data)
        first, last = min(entry.log_time for entry in entries), max(entry.log_time for entry in entries)
        compression = compression_of(self.identity.stream)
        chunk = records.marked_chunk(self._mark_sequence + 1, self.size, parts, first, last, compression)
        files.write_whole(self._fd, chunk.mark, chunk.head, *chunk.data)
        files.sync_data(self._fd)
        self.account_bytes(chunk.mark)
        self._index(len(chunk.head) + chunk.stored, compression, chunk.stored, chunk.size, first, last)
        self.account_bytes(chunk.head)
        self._crc = combined(self._crc, chunk.crc, chunk.stored)
        self.size += chunk.stored
        self._mark_sequence += 1
        for channel, entry in zip(channels_written, entries, strict=True):
            self._counts[channel] += 1
            if channel == self._head_frames_id:
                self._note_head_frames(entry.data)

    def account_bytes(self, data: bytes) -> None:
        """Counts bytes of the data section that stand in the file."""
        self._crc = zlib.crc32(data, self._crc)
        self.size += len(data)

    def account_chunk(self, mark_sequence: int, record: bytes, content: bytes) -> None:
        """Counts a whole Chunk record (its mark is counted) that stands in the file."""
        head = records.parse_chunk_head(record, 0, len(record))
        self._index(len(record), head.compression, head.data_end - head.data_start, head.size, head.first_time, head.last_time)
        self.account_bytes(record)
        self._mark_sequence = mark_sequence
        for message in records.messages(content):
            self._counts[message.channel] = self._counts.get(message.channel, 0) + 1
            self._sequences[message.channel] = message.sequence
            if message.channel == self._head_frames_id:
                self._note_head_frames(message.data)

    def _index(self, length: int, compression: str, stored: int, size: int, first: int, last: int) -> None:
        """Counts a Chunk record of `length` bytes that stands at the end of what is accounted for."""
        self.chunks += 1
        self._chunk_indexes.append(
            ChunkIndex(
                chunk_length=length,
                chunk_start_offset=self.size,
                compression=compression,
                compressed_size=stored,
                message_end_time=last,
                message_index_length=0,
                message_index_offsets={},
                message_start_time=first,
                uncompressed_size=size,
            )
        )

    def _note_head_frames(self, data: bytes) -> None:
        frames = HeadFrames.FromString(data)
        self._head_frames[frames.head_boot] = max(frames.last_sequence, self._head_frames.get(frames.head_boot, 0))

    def seal(self, notes: Mapping[str, str] | None = None) -> Path:
        """Ends the file (data section, summary, footer), syncs it and gives it its name. Returns that path. Raises OSError.

        `notes` become the Metadata record `recovered`."""
        closing = bytearray()
        if self._head_frames or self._of_folder:
            self._add_metadata(closing, Metadata(HEAD_FRAMES, head_frames_metadata(self._head_frames, self._of_folder)))
        if notes:
            self._add_metadata(closing, Metadata(RECOVERED, dict(notes)))
        closing += records.encoded(DataEnd(zlib.crc32(closing, self._crc)))
        summary_start = self.size + len(closing)
        closing += self._summary(summary_start)
        files.write_whole(self._fd, bytes(closing))
        files.sync_data(self._fd)
        if self.path.exists():
            raise FileExistsError(f"{self.path} exists already")
        files.rename(self.open_path, self.path)
        self._named = True
        files.sync_folder(self.path.parent)
        self.close()
        return self.path

    def close(self) -> None:
        """Lets go of the file (and its lock) as it is."""
        os.close(self._fd)

    def abandon(self) -> None:
        """Closes the file after an error, cut back to its durable chunks if the disk lets us: what was not synced is written again
        elsewhere and should not stand twice (recovery cuts what the disk did not: After.chunks). Recovery seals it."""
        if not self._named:
            with suppress(OSError):  # the error that led here is the one to report
                files.truncate(self._fd, self.size)
        self.close()

    def discard(self) -> None:
        """Closes and removes a file that never got a head. One that cannot be removed stays for recovery."""
        self.close()
        self.remove()

    def remove(self) -> None:
        """Takes away a closed file without a durable chunk; one that the disk keeps stays for recovery."""
        with suppress(OSError):  # nothing is lost or told twice by an empty file
            files.remove(self.open_path)

    def _add_metadata(self, closing: bytearray, metadata: Metadata) -> None:
        record = records.encoded(metadata)
        self._metadata_indexes.append(MetadataIndex(self.size + len(closing), len(record), metadata.name))
        closing += record

    def _summary(self, start: int) -> bytes:
        """Summary, summary offsets, footer and magic of a file whose summary begins at `start`."""
        times = self._chunk_indexes
        statistics = Statistics(
            attachment_count=0,
            channel_count=len(self._head.channels),
            channel_message_counts={number: count for number, count in self._counts.items() if count},
            chunk_count=len(self._chunk_indexes),
            message_count=sum(self._counts.values()),
            message_end_time=max((index.message_end_time for index in times), default=0),
            message_start_time=min((index.message_start_time for index in times), default=0),
            metadata_count=len(self._metadata_indexes) + 1,  # `head` is not indexed: it is for recovery only
            schema_count=len(self._head.schemas),
        )
        groups: tuple[tuple[Opcode, Sequence[McapRecord]], ...] = (
            (Opcode.SCHEMA, self._head.schemas),
            (Opcode.CHANNEL, self._head.channels),
            (Opcode.STATISTICS, [statistics]),
            (Opcode.CHUNK_INDEX, self._chunk_indexes),
            (Opcode.METADATA_INDEX, self._metadata_indexes),
        )
        summary = bytearray()
        offsets = bytearray()
        for opcode, group in groups:
            if not group:
                continue
            data = b"".join(map(records.encoded, group))
            offsets += records.encoded(SummaryOffset(opcode, start + len(summary), len(data)))
            summary += data
        offsets_start = start + len(summary)
        summary += offsets
        # The summary's CRC covers the footer up to the CRC itself (MCAP, "Footer").
        footer = records.encoded(Footer(start, offsets_start, 0))[:-4]
        return bytes(summary) + records.encoded(Footer(start, offsets_start, zlib.crc32(footer, zlib.crc32(summary)))) + records.MAGIC
