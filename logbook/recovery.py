"""Makes an ordinary sealed segment of a file whose writer died (logbook/segment.py, "Recovery"), and says what is missing.

Can itself be cut at any moment: it appends and overwrites only what is damaged, so the next run starts from the same whole chunks.

What it reads is what the disk has (files.read_from_disk): pages that a failed fsync left in the cache, marked clean, are no data. A file
that its writer left because the disk refused ends where the next file of the stream says (After.chunks): what stands behind it was written
again there, and nothing is missing at its end."""

import os
import re
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from google.protobuf.message import DecodeError

from logbook import channels, files, records
from logbook.closing import closing_of_file
from logbook.scan import TORN, UNFINISHED_SEAL, ZEROS, Chunk, Scan, Stretch, chunk_messages, scan, scan_head
from logbook.schemas.cruisers_pb2 import Gap, HeadFrames
from logbook.segment_writer import FOLDER, HEAD_FRAMES, OPEN_SUFFIX, Entry, Head, SegmentWriter, head_frames_metadata

DAMAGED_SUFFIX = ".damaged"
SEGMENT_SUFFIX = ".mcap"

# No writer makes a segment so large (16 MB and a chunk): a larger file is a damaged file system's and is not read into memory.
MAX_SEGMENT_BYTES = 2 * records.MAX_CHUNK_BYTES
_HEAD_BYTES = 65_536  # a head is 4 to 12 kB

_NAME = re.compile(rf"(?P<number>[0-9]+)-(?P<stream>[a-z]+){re.escape(SEGMENT_SUFFIX)}(?P<open>{re.escape(OPEN_SUFFIX)})?")


class Busy(BlockingIOError):
    """The file is being written: its writer holds the lock."""


@dataclass
class Report:
    """What recovery found in one file and did with it.

    `path` is where the file is now; `recovered` False: it was set aside (or, with `error`, left as it was for the next time).
    `gaps` are the Gap messages written into it; for a file set aside the one that the recorder should write elsewhere."""

    path: Path
    kept_chunks: int = 0
    damaged_chunks: int = 0
    cut_bytes: int = 0
    reason: str = ""
    recovered: bool = True
    error: str = ""
    gaps: list[Gap] = field(default_factory=list)

    @property
    def lossless(self) -> bool:
        """True if everything that reached the file was kept."""
        return self.recovered and not self.damaged_chunks and not self.cut_bytes


def recover(path_open: Path) -> Report:
    """Seals the `.open` file of a dead writer. Raises Busy, ValueError (no `.open` file), OSError (the disk; nothing is lost by it)."""
    path_open = Path(path_open)
    if not path_open.name.endswith(SEGMENT_SUFFIX + OPEN_SUFFIX):
        raise ValueError(f"{path_open} is not an open segment")
    path = path_open.with_name(path_open.name.removesuffix(OPEN_SUFFIX))
    fd = os.open(path_open, os.O_RDWR)
    try:
        if not files.try_lock(fd):
            raise Busy(f"{path_open} is being written")
        size = os.fstat(fd).st_size
        if size > MAX_SEGMENT_BYTES:
            return _set_aside(path_open, b"", f"{size} bytes are no segment")
        data = files.read_from_disk(fd, size)
        found = scan(data)
        if found.head is None:
            return _set_aside(path_open, data, found.head_problem)
        if path.exists():
            return _set_aside(path_open, data, f"{path.name} exists already")
        if any(stretch.end - stretch.start < records.SCAR.size for stretch in found.damage if stretch.end < found.end):
            return _set_aside(path_open, data, "bytes between two chunks that no writer puts there")
        return _seal(fd, path, data, found, found.head)
    finally:
        os.close(fd)


def recover_spool(spool: Path) -> list[Report]:
    """Recovers every open file of a spool that nobody writes. One that the disk refuses is reported and left for the next time."""
    reports = []
    opened = [folder / name.string for folder in _folders(spool) for name in _names(folder) if name["open"]]
    for path_open in sorted(opened):
        try:
            reports.append(recover(path_open))
        except Busy:
            continue  # a living recorder's
        except OSError as error:
            reports.append(Report(path_open, recovered=False, error=str(error), reason="disk error"))
    return reports


def last_head_frames(spool: Path) -> dict[int, int]:
    """head_boot -> newest sequence that is durable in any segment of the spool. Raises OSError.

    Reads the end of the newest sealed segment of each folder, which speaks for the older ones too; more only where the newest do not
    (recovered ones, and those of before `scope`), and all of open or damaged ones. A file that the disk cannot read is passed over: its
    frames are asked for again, and may then stand twice, but are not lost."""
    newest: dict[int, int] = {}
    for folder in _folders(spool):
        names = [name for name in _names(folder) if name["stream"] == channels.READINGS]
        for name in sorted(names, key=lambda name: int(name["number"]), reverse=True):
            try:
                numbers, of_folder = _head_frames(folder / name.string)
            except OSError as error:
                print(f"recovery: {folder / name.string}: {error}", file=sys.stderr, flush=True)
                continue
            for boot, sequence in numbers.items():
                newest[boot] = max(sequence, newest.get(boot, 0))
            if of_folder:
                break
    return newest


def _folders(spool: Path) -> Iterator[Path]:
    """The folders of a spool; none where there is no spool."""
    if spool.is_dir():
        with os.scandir(spool) as entries:
            yield from (Path(entry.path) for entry in entries if entry.is_dir())


def _names(folder: Path) -> Iterator[re.Match[str]]:
    """The segments' names in a folder, sealed and open; not what was set aside (its frames are not delivered)."""
    return filter(None, map(_NAME.fullmatch, os.listdir(folder)))


def _seal(fd: int, path: Path, data: bytes, found: Scan, head: Head) -> Report:
    """Repairs and seals the locked file `fd` whose bytes are `data`. Raises OSError."""
    if found.closing is not None and not found.damage and zlib.crc32(memoryview(data)[: found.closing.data_end]) == found.closing.data_crc:
        # Only the rename was missing.
        files.sync_all(fd)
        files.rename(path.with_name(path.name + OPEN_SUFFIX), path)
        files.sync_folder(path.parent)
        return Report(path, kept_chunks=len(found.chunks), reason="sealed but not renamed")

    known, went_on = _went_on(path, head)
    chunks, damage = _keepable(data, found, known)
    end = max([found.head_end, *(chunk.end for chunk in chunks), *(scar.end for scar in found.scars)])
    inner = [stretch for stretch in damage if stretch.end <= end]
    tail = _tail_reason(found, end, damage)
    report = Report(path, kept_chunks=len(chunks), cut_bytes=len(data) - end if tail else 0)
    report.damaged_chunks = sum(_chunks_missing(stretch, chunks) for stretch in inner)
    counts = _messages_missing(data, chunks, inner, found.scars)
    report.gaps = [_damage_gap(stretch, count, chunks, head) for stretch, count in zip(inner, counts, strict=True)]
    report.reason = "; ".join([*(gap.reason for gap in report.gaps), *([tail] if tail else [])]) or "not sealed"
    if went_on and (chunks[-1].sequence if chunks else 0) >= (known or 0):
        report.reason = "; ".join([*(gap.reason for gap in report.gaps), "left at a disk error, written on in the next segment"])
        report.cut_bytes = 0  # no loss: all of it stands in the next one
    elif tail or (found.closing is None and found.tail != UNFINISHED_SEAL):
        reason = f"writer ended without sealing: {tail}, {report.cut_bytes} bytes cut" if tail else "writer ended without sealing"
        last = max((chunk.head.last_time for chunk in chunks), default=head.after.boottime_ns)
        report.gaps.append(Gap(source=head.identity.stream, reason=reason, from_boottime_ns=last))

    scars = [(stretch.start, records.scar(stretch.start, stretch.end - stretch.start)) for stretch in inner]
    repaired = bytearray(data[:end])
    for offset, scar in scars:
        repaired[offset : offset + len(scar)] = scar
    writer = _account(SegmentWriter(path, os.dup(fd), head), bytes(repaired), found.head_end, chunks)
    try:
        os.ftruncate(fd, end)
        os.lseek(fd, end, os.SEEK_SET)
        if report.gaps:
            # First what is missing, then the scars: cut in between, the next run says it twice rather than never.
            writer.append(
                [Entry(channels.GAP, gap.from_boottime_ns or gap.to_boottime_ns, 0, gap.SerializeToString()) for gap in report.gaps]
            )
        for offset, scar in scars:
            files.write_at(fd, scar, offset)
        notes = {"reason": report.reason, "kept_chunks": str(report.kept_chunks)}
        writer.seal({**notes, "damaged_chunks": str(report.damaged_chunks), "cut_bytes": str(report.cut_bytes)})
    except OSError:
        writer.close()
        raise
    return report


def _set_aside(path_open: Path, data: bytes, problem: str) -> Report:
    """Renames a file that cannot be made a segment; its bytes stay as they are. Raises OSError."""
    base = path_open.name.removesuffix(OPEN_SUFFIX) + DAMAGED_SUFFIX
    target = path_open.with_name(base)
    attempt = 1
    while target.exists():
        attempt += 1
        target = path_open.with_name(f"{base}.{attempt}")
    files.rename(path_open, target)
    files.sync_folder(target.parent)
    found = scan(data)
    stream = path_open.name.removesuffix(SEGMENT_SUFFIX + OPEN_SUFFIX).partition("-")[2]
    gap = Gap(
        source=stream,
        reason=f"{target.name} set aside: {problem}",
        from_boottime_ns=min((chunk.head.first_time for chunk in found.chunks), default=0),
        to_boottime_ns=max((chunk.head.last_time for chunk in found.chunks), default=0),
    )
    return Report(
        target, damaged_chunks=len(found.chunks), cut_bytes=len(data), reason=f"set aside: {problem}", recovered=False, gaps=[gap]
    )


def _went_on(path: Path, head: Head) -> tuple[int | None, bool]:
    """How many chunks of this file its writer knew to be durable when it began another (None: it began none), and whether that has chunks.

    Raises OSError."""
    number = int(path.name.partition("-")[0])
    known = None
    later = [name for name in _names(path.parent) if name["stream"] == head.identity.stream and int(name["number"]) > number]
    for name in sorted(later, key=lambda name: int(name["number"])):
        with (path.parent / name.string).open("rb") as file:
            after = scan_head(file.read(_HEAD_BYTES)).after
            if after is None or after.number > number:
                continue
            if known is None:
                known = after.chunks if after.number == number else 0
            file.seek(0)
            if scan(file.read(MAX_SEGMENT_BYTES)).chunks:
                return known, True
    return known, False


def _keepable(data: bytes, found: Scan, known: int | None = None) -> tuple[list[Chunk], list[Stretch]]:
    """The whole chunks whose content is messages too, and the damage with those that are not (a writer's fault, not the disk's); without
    those behind the `known` ones, which the writer did not know to be durable and was to write again elsewhere."""
    chunks, damage = [], list(found.damage)
    listed = found.channels
    for chunk in found.chunks:
        if known is not None and chunk.sequence > known:
            continue
        try:
            for message in chunk_messages(data, chunk):
                channel = listed[message.channel]
                if channel.topic == channels.HEAD_FRAMES:
                    HeadFrames.FromString(message.data)
            chunks.append(chunk)
        except (records.DamagedChunk, DecodeError, KeyError):
            damage.append(Stretch(chunk.mark_start, chunk.end, "chunk without sense"))
    return chunks, sorted(damage)


def _tail_reason(found: Scan, end: int, damage: list[Stretch]) -> str:
    """Why bytes after `end` that may have held data are cut; "" if none did."""
    if found.tail in (TORN, ZEROS):
        return found.tail
    return next((stretch.reason for stretch in damage if stretch.start >= end), "")


def _account(writer: SegmentWriter, data: bytes, head_end: int, chunks: list[Chunk]) -> SegmentWriter:
    """The writer with everything counted that stands in `data`."""
    position = head_end
    writer.account_bytes(data[:head_end])
    for chunk in chunks:
        writer.account_bytes(data[position : chunk.start])
        writer.account_chunk(chunk.sequence, data[chunk.start : chunk.end], records.chunk_content(data, chunk.head))
        position = chunk.end
    writer.account_bytes(data[position:])
    return writer


def _neighbours(stretch: Stretch, chunks: list[Chunk]) -> tuple[Chunk | None, Chunk | None]:
    before = [chunk for chunk in chunks if chunk.end <= stretch.start]
    after = [chunk for chunk in chunks if chunk.mark_start >= stretch.end]
    return (before[-1] if before else None), (after[0] if after else None)


def _chunks_missing(stretch: Stretch, chunks: list[Chunk]) -> int:
    """How many chunks stood in a damaged stretch, by the marks' sequence (1 where it ends at a scar: that cannot be known)."""
    before, after = _neighbours(stretch, chunks)
    if after is None or after.mark_start != stretch.end:
        return 1
    return max(1, after.sequence - (before.sequence if before else 0) - 1)


def _messages_missing(data: bytes, chunks: list[Chunk], damage: list[Stretch], scars: list[Stretch]) -> list[int]:
    """How many messages each damaged stretch cost, by their sequence numbers per channel.

    Numbers of a channel that are missing over several stretches count once, in the last of them; what lies before a scar was told by
    the recovery that made it."""
    counts = [0] * len(damage)
    ends = sorted([(stretch.end, index) for index, stretch in enumerate(damage)] + [(scar.end, -1) for scar in scars])
    last: dict[int, int] = {}
    passed, where = 0, -1
    for chunk in chunks:
        while passed < len(ends) and ends[passed][0] <= chunk.mark_start:
            where = ends[passed][1]
            passed += 1
        for message in chunk_messages(data, chunk):
            if where >= 0:
                counts[where] += max(0, message.sequence - last.get(message.channel, 0) - 1)
            last[message.channel] = message.sequence
    return counts


def _damage_gap(stretch: Stretch, count: int, chunks: list[Chunk], head: Head) -> Gap:
    """What a damaged stretch cost: between which times, and how many messages."""
    before, after = _neighbours(stretch, chunks)
    return Gap(
        source=head.identity.stream,
        reason=stretch.reason,
        from_boottime_ns=before.head.last_time if before else head.after.boottime_ns,
        to_boottime_ns=after.head.first_time if after else 0,
        count=count,
    )


def _head_frames(path: Path) -> tuple[dict[int, int], bool]:
    """head_boot -> newest sequence in one file, {} for one that is not a segment; and whether that is so for the older ones of its folder
    too. Raises OSError."""
    closing = closing_of_file(path)
    if closing is not None:
        noted = closing.metadata.get(HEAD_FRAMES)
        if noted is None:
            return {}, False
        numbers = {int(boot): int(sequence) for boot, sequence in noted.items() if boot.isdecimal() and sequence.isdecimal()}
        of_folder = noted.get("scope") == FOLDER
        if head_frames_metadata(numbers, of_folder) == noted:
            return numbers, of_folder
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        data = files.read_from_disk(file.fileno(), size) if size <= MAX_SEGMENT_BYTES else b""
    found = scan(data)
    newest: dict[int, int] = {}
    for chunk in _keepable(data, found)[0]:
        for message in chunk_messages(data, chunk):
            if found.channels[message.channel].topic == channels.HEAD_FRAMES:
                frames = HeadFrames.FromString(message.data)
                newest[frames.head_boot] = max(frames.last_sequence, newest.get(frames.head_boot, 0))
    return newest, False
