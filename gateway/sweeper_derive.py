"""Segments read whole, and segments written in the place of others.

A derived segment becomes visible in one step. It is written and sealed in `<spool>/.deriving/<folder>/`, where neither the uplink nor a
recovery looks (a half-written one, sealed by a recovery, would name originals that it does not hold), and then gets its place in
`<spool>/<folder>/` by a rename. What a killed sweeper left in `.deriving` is removed at the next start: the originals are all there.

`<folder>` is `<boot>-<random>`: the boot is that of the originals, whose boot times it holds, the random part is this process's."""

import io
import itertools
import json
import secrets
import shutil
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mcap.reader import make_reader

from gateway.sweeper_derivation import Derivation, derivation_of
from logbook import channels, files, records
from logbook.images import AS_TAKEN
from logbook.scan import chunk_messages, scan
from logbook.segment import CHUNK_BYTES
from logbook.segment_writer import Entry, Identity, SegmentWriter

WORK_FOLDER = ".deriving"


class Unfit(Exception):
    """A file that is no segment; the text says why."""


@dataclass
class Content:
    """What a segment holds. `as_taken`: of each image by topic and order, the SHA-256 of the bytes that the camera gave where it holds
    others (shrunk), else None. `problem`: what is damaged, "" if nothing; then `entries` has what is whole, `counts` the messages by topic
    and `span` the boot times (ns) of all that were in the file, as far as can be known."""

    identity: Identity
    derivation: Derivation
    types: list[channels.ChannelType]
    metadata: dict[str, dict[str, str]]
    entries: list[Entry]
    as_taken: dict[str, list[str | None]] = field(default_factory=dict)
    problem: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    span: tuple[int, int] | None = None


def load(path: Path) -> Content:
    """The segment at `path`. Raises Unfit, OSError."""
    data = path.read_bytes()
    found = scan(data)
    if found.head is None:
        raise Unfit(found.head_problem)
    problem = "" if found.closing is not None else "no whole summary"
    if found.closing is not None and zlib.crc32(memoryview(data)[: found.closing.data_end]) != found.closing.data_crc:
        problem = "data section does not match its CRC"
    listed = found.channels
    names = {schema.id: schema.name for schema in found.head.schemas}
    entries = []
    for chunk in found.chunks:
        try:
            for message in chunk_messages(data, chunk):
                entries.append(Entry(listed[message.channel].topic, message.log_time, message.publish_time, message.data))
        except (records.DamagedChunk, KeyError) as error:
            problem = f"chunk {chunk.sequence}: {error!r}"
    try:
        derivation = derivation_of(found.head.identity)
        as_taken = {c.topic: json.loads(c.metadata[AS_TAKEN]) for c in listed.values() if AS_TAKEN in c.metadata}
    except ValueError as error:
        raise Unfit(f"derivation: {error}") from error
    if found.damage or found.tail:
        problem = "; ".join(stretch.reason for stretch in found.damage) or found.tail
    types = [channels.ChannelType(c.topic, c.message_encoding, names.get(c.schema_id, "")) for c in found.head.channels]
    metadata = {c.topic: c.metadata for c in found.head.channels}
    content = Content(found.head.identity, derivation, types, metadata, entries, as_taken, problem)
    if problem and found.closing is not None:
        content.counts, content.span = _summed_up(data)
    return content


def _summed_up(data: bytes) -> tuple[dict[str, int], tuple[int, int] | None]:
    """Messages by topic, and first and last log_time, of a file whose closing part is whole, as that has them."""
    summary = make_reader(io.BytesIO(data)).get_summary()
    if summary is None or summary.statistics is None:
        return {}, None
    statistics = summary.statistics
    counts = {channel.topic: statistics.channel_message_counts.get(channel.id, 0) for channel in summary.channels.values()}
    return counts, (statistics.message_start_time, statistics.message_end_time)


def is_image(topic: str) -> bool:
    """Whether messages of the topic are images."""
    return topic.startswith(channels.camera_topic(""))


def is_note(topic: str) -> bool:
    """Whether messages of the topic are never dropped: what is missing, and what happened."""
    return topic in (channels.GAP, channels.EVENT)


class Writer:
    """Writes the derived segments of one sweeper process."""

    def __init__(self, spool: Path, truck: str) -> None:
        self._spool = spool
        self._truck = truck
        self._random = secrets.token_hex(4)
        self._numbers = itertools.count(1)
        self._work = spool / WORK_FOLDER

    def clear(self) -> None:
        """Remove what a killed sweeper, or a failed attempt, left half-written. Raises OSError."""
        if self._work.exists():
            shutil.rmtree(self._work)

    def write(
        self, content: Content, originals: Sequence[str], folder: str, derivation: Derivation, entries: Sequence[Entry]
    ) -> tuple[Path, Path]:
        """Write and seal a segment with `entries`, in the place of `originals` (ids), the first of which lies in `folder`; stream, boot,
        channels and their metadata are those of `content`. Returns (where it is now, where `publish` is to put it). Raises OSError."""
        number = f"{next(self._numbers):06d}"
        folder = f"{folder.partition('-')[0]}-{self._random}"
        stream = content.identity.stream
        identity = Identity(
            f"{self._truck}-{folder}-{number}-{stream}",
            self._truck,
            stream,
            content.identity.boot_id,
            " ".join(originals),
            derivation.text(),
        )
        path = self._work / folder / f"{number}-{stream}.mcap"
        metadata = {**content.metadata}
        for topic, taken in content.as_taken.items():
            metadata[topic] = {**metadata.get(topic, {}), AS_TAKEN: json.dumps(taken)}
        writer = SegmentWriter.create(path, identity, content.types, metadata)
        try:
            for chunk in _chunks(entries):
                writer.append(chunk)
            writer.seal()
        except OSError:
            writer.discard()
            path.unlink(missing_ok=True)
            raise
        return path, self._spool / folder / path.name


def publish(written: Path, place: Path) -> None:
    """Give a written segment its place, durably: from here on it stands for its originals. Raises OSError."""
    files.make_folder(place.parent)
    written.rename(place)
    files.sync_folder(place.parent)


def _chunks(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    chunk: list[Entry] = []
    size = 0
    for entry in entries:
        if chunk and size + len(entry.data) > CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
        chunk.append(entry)
        size += len(entry.data)
    if chunk:
        yield chunk
