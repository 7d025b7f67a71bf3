"""The segment file: what a truck has written down and acknowledged is never lost. This text is the design; docs/formats.md 2 the layout.

Limits
  - A power cut costs at most the last 1.0 s, plus the disk's own stall while one lasts: a chunk is closed 0.5 s after its first message
    (by a timer, not by the next write) and is then written and fdatasynced by a thread of its own. Sampling never waits for the disk.
  - Memory is bounded. While the disk stalls, messages wait in memory: images for 10 s at their full rate, readings for a quarter
    of an hour, so that readings drop last. What does not fit is refused (`write` says so), counted, and written down as a Gap when
    there is room.
  - A segment fits in memory: images 16 MB, readings about 1 MB a minute.

Layout
    magic · Header · Metadata `segment` · Schema … · Channel … · Metadata `head` (CRC-32 of all before it)   ← synced before the first chunk
    ( mark · Chunk ) …                                                                                ← each pair synced: the commit unit
    Metadata `head_frames` · Metadata `recovered`                                                     ← only when sealed, where they apply
    DataEnd (CRC-32 of the data section) · summary · summary offsets · Footer (CRC-32 of the summary) · magic
  It is MCAP from its first byte and `mcap`'s own readers read every sealed file. Opcodes 0x80 (mark) and 0x81 (scar) are private: readers
  skip them. MCAP protects neither a chunk's header nor the records before the chunks; of 480 one-bit flips in a chunk's first 60 bytes,
  64 stopped a plain scan and 128 were accepted with wrong times (facts/measured.md). So:
  - the mark before each chunk has the chunk's number, its own offset, the chunk's length and the CRC-32 of all that and of the whole Chunk
    record. A mark counts only where it says it stands, so a segment inside an image is no mark; the number says how many are missing;
  - Metadata `head` has the CRC of the records before it;
  - a CRC of 0 is damage (a zeroed page would have it); a chunk whose CRC came out as 0 gets a filler record that changes it;
  - messages count per channel and file from 1, so that a missing chunk's messages can be counted.
  `head_frames` (newest durable sequence of each head boot in this file and those before it in its folder, with a CRC) lets a restarted
  recorder read one file's end instead of all of a spool of 16,000.

Durability
  - Order: folder, file, head: fsync, fsync of the folder; then chunk after chunk: write, fdatasync, only then `on_durable`; then closing
    part: fdatasync, rename away from `.open`, fsync of the folder, only then `on_sealed`. Nothing is written into a file that has its name.
  - A failed write or fsync is never retried on the same file: Linux marks the pages clean and a second fsync succeeds although the data is
    gone (USENIX ATC'20). The file is left, cut back to its durable chunks; its unsynced messages are written again to a new segment,
    `on_error` is called, and `problem()` tells the error until a chunk is durable again. The left file is sealed by the next
    `recover_spool`, which knows by `after_chunks` of the new one where it ends. One without a durable chunk is removed when there is a new.
  - From the first message on there is always an open file: the next one is made, durably, before the one before is sealed. So whatever
    a power cut takes, some file without a seal says that something may be missing, and since when (`after_boottime_ns`). One that is still
    empty at the end of a recorder is removed.
  - The writer holds an exclusive flock on its file. Whoever finds `.open` without a lock found a dead writer's file.

Recovery (logbook/recovery.py) cuts a torn or zeroed tail, steps over damage by searching for marks, keeps every whole chunk, turns a
damaged stretch into a scar (private record 0x81: 25 bytes overwritten, the rest of the damage stays for the curious), writes a Gap
chunk that says what is missing, seals and renames. It never touches a file without `.open` and never deletes one: what has no whole
head is set aside.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from logbook import channels
from logbook.schemas.cruisers_pb2 import HeadFrames
from logbook.segment_writer import After, Entry, Identity, SegmentWriter
from logbook.waiting import Describe, Dropped, Group, memory_of

__all__ = ["Entry", "SegmentWriter", "Segments", "Stats", "WriterDied"]

CHUNK_SECONDS = 0.5  # half of the promised 1.0 s; the other half is for the disk
CHUNK_BYTES = 4_000_000

# Memory for messages that are not yet durable: 10 s of images at 30 frames/s of 97 kB (29 MB) with room for the chunk being
# written; readings are below 20 kB/s, so theirs last for 13 min.
MEMORY_BYTES = {channels.READINGS: 16_000_000, channels.IMAGES: 48_000_000}

# Waits between attempts while the disk fails: there is nothing to win by haste on a full or dead disk.
RETRY_SECONDS = (0.1, 0.5, 1.0, 2.0, 5.0)
CLOSE_ATTEMPTS = 3  # after that, close() gives up what is still in memory and says so
BEGIN_SECONDS = 2.0  # how long a new stream waits for its first file before it takes messages; a disk that stalls longer shall not stop it

_MAX_U64 = 0xFFFF_FFFF_FFFF_FFFF


class WriterDied(RuntimeError):
    """The writer thread ended by an exception (the cause): nothing is written any more."""


class Stats(NamedTuple):
    """Counters since the start. `longest_commit_s`: the disk's worst stall in seconds (one chunk or more, until it has caught up; with
    changes of segment and what it refused); `stall_s`: how long the present one has lasted (0: nothing is late)."""

    chunks: int
    segments: int
    messages: int
    dropped: int
    errors: int
    waiting_bytes: int
    longest_commit_s: float
    stall_s: float = 0.0


class Segments:
    """One stream of a recorder process: segment after segment. Thread-safe; the callbacks run in the writer thread.

    - `on_durable(token)`: the message written with `token` (and its whole group) is on disk. In the order of writing.
    - `on_sealed(path)`: a segment has its final name, durably.
    - `on_error(error)`: the disk refused; the messages are kept and written again to a new segment.
    - `on_recovered(error)`: the disk takes chunks again after `error`.
    - `preamble()`: messages to restate at the start of each segment (trims, clock mapping), as (topic, log_time, publish_time, data).
      An older one gets the log_time of the first message it is restated for: a segment does not begin when its trims were first read.

    A callback must not raise and not wait for this object; `on_error` may come while it is being made. If one raises, writing stops and
    the next `write` raises WriterDied."""

    def __init__(
        self,
        spool: Path,
        truck: str,
        boot_id: str,
        stream: str,
        folder_name: str,
        next_number: Callable[[], int],
        segment_seconds: float,
        segment_bytes: int | None = None,
        chunk_seconds: float = CHUNK_SECONDS,
        chunk_bytes: int = CHUNK_BYTES,
        *,
        on_durable: Callable[[object], None],
        on_sealed: Callable[[Path], None],
        on_error: Callable[[OSError], None],
        on_recovered: Callable[[OSError], None] = lambda error: None,
        preamble: Callable[[], Iterable[tuple[str, int, int, bytes]]] = tuple,
        topics: Sequence[str] = (),
        memory_bytes: int | None = None,
    ) -> None:
        """`topics`: the cameras' topics (stream `images`). `next_number` is shared by the streams of the process. Returns when the first
        file is there (or the disk refused it, or takes longer than BEGIN_SECONDS)."""
        self._folder = Path(spool) / folder_name
        self._folder_name = folder_name
        self._truck = truck
        self._boot_id = boot_id
        self._stream = stream
        self._next_number = next_number
        self._segment_seconds = segment_seconds
        self._segment_bytes = segment_bytes
        self._chunk_seconds = chunk_seconds
        self._chunk_bytes = chunk_bytes
        self._memory_bytes = memory_bytes or MEMORY_BYTES[stream]
        self._on_durable = on_durable
        self._on_sealed = on_sealed
        self._on_error = on_error
        self._on_recovered = on_recovered
        self._preamble = preamble
        self._types = channels.channel_types(stream, topics)
        self._topics = frozenset(kind.topic for kind in self._types)

        # Shared with the callers of write(), guarded by _changed.
        self._changed = threading.Condition()
        self._waiting: deque[Group | Describe] = deque()
        self._waiting_bytes = 0
        self._held_bytes = 0  # waiting and in the chunk being written
        self._dropped: dict[str, Dropped] = {}
        self._flush = False
        self._closing = False
        self._death: BaseException | None = None
        self._described: dict[str, dict[str, str]] = {}  # as the callers see it; the writer thread's is _metadata
        self._count = {"chunks": 0, "segments": 0, "messages": 0, "dropped": 0, "errors": 0}
        self._longest_commit = 0.0
        self._busy_since: float | None = None
        self._problem: OSError | None = None

        # The writer thread's own.
        self._metadata: dict[str, dict[str, str]] = {}
        self._file: SegmentWriter | None = None
        self._number = 0  # of the newest file
        self._unused = False  # the number's file was not made
        self._empty: list[SegmentWriter] = []  # left at an error without a chunk: to be removed when there is another
        self._opened = 0.0  # when the open file got its first chunk
        self._after = After()
        self._head_frames: Mapping[int, int] = {}
        self._lost = False
        self._begun = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"segments-{stream}", daemon=True)
        self._thread.start()
        self._begun.wait(BEGIN_SECONDS)

    def write(self, topic: str, log_time: int, publish_time: int, data: bytes, token: object = None) -> bool:
        """Takes one message; never waits for the disk. False: refused, memory is full; it will not be written.

        A refused message's token never becomes durable, but later ones may: a caller who acknowledges cumulatively must stop there.
        Raises ValueError for an unknown topic or impossible times, WriterDied, RuntimeError after close."""
        return self.write_group([Entry(topic, log_time, publish_time, data)], token)

    def write_group(self, entries: Sequence[Entry], token: object = None) -> bool:
        """As `write`, for messages that are to be durable together: they stand in one chunk, or none of them is written."""
        for entry in entries:
            self._check(entry)
        size = memory_of(entries)
        with self._changed:
            self._raise_if_over()
            if self._held_bytes and self._held_bytes + size > self._memory_bytes:
                self._count["dropped"] += len(entries)
                for entry in entries:
                    dropped = self._dropped.setdefault(entry.topic, Dropped(entry))
                    dropped.last = entry
                    dropped.count += 1
                return False
            self._waiting.append(Group(tuple(entries), token, size, time.monotonic()))
            self._waiting_bytes += size
            self._held_bytes += size
            if len(self._waiting) == 1 or self._waiting_bytes >= self._chunk_bytes:
                self._changed.notify_all()
        return True

    def describe(self, topic: str, metadata: Mapping[str, str]) -> None:
        """Gives a channel metadata (the column block's `columns`), for what is written from now on: a new segment begins if it differs."""
        if topic not in self._topics:
            raise ValueError(f"no topic {topic!r} in {self._stream}")
        with self._changed:
            self._raise_if_over()
            if self._described.get(topic, {}) != dict(metadata):
                self._described[topic] = dict(metadata)
                self._waiting.append(Describe(topic, dict(metadata)))
                self._changed.notify_all()

    def flush(self) -> None:
        """Closes the chunk now instead of after its time. Does not wait for the disk: `on_durable` tells."""
        with self._changed:
            self._flush = True
            self._changed.notify_all()

    def close(self) -> bool:
        """Writes what is waiting, seals and ends the thread. False if the disk refused to the end and messages were lost with it."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()
        if self._death is not None:
            raise WriterDied(f"writer of {self._stream} died: {self._death}") from self._death
        return not self._lost

    def problem(self) -> OSError | None:
        """The error with which the disk refused last; None once a chunk is durable again (and before the first error)."""
        with self._changed:
            return self._problem

    def stats(self) -> Stats:
        """Counters for the recorder's health message."""
        with self._changed:
            stall = time.monotonic() - self._busy_since if self._busy_since is not None else 0.0
            longest = max(self._longest_commit, stall)
            return Stats(**self._count, waiting_bytes=self._held_bytes, longest_commit_s=longest, stall_s=stall)

    # --- in the caller's thread ---

    def _check(self, entry: Entry) -> None:
        if entry.topic not in self._topics:
            raise ValueError(f"no topic {entry.topic!r} in {self._stream}")
        if not (0 <= entry.log_time <= _MAX_U64 and 0 <= entry.publish_time <= _MAX_U64):
            raise ValueError(f"times of {entry.topic} are no 64-bit nanoseconds: {entry.log_time}, {entry.publish_time}")
        if entry.topic == channels.HEAD_FRAMES:
            # The writer thread reads them: better an error here than there.
            channels.parse(channels.PROTOBUF, HeadFrames.DESCRIPTOR.full_name, entry.data)

    def _raise_if_over(self) -> None:
        if self._death is not None:
            raise WriterDied(f"writer of {self._stream} died: {self._death}") from self._death
        if self._closing:
            raise RuntimeError(f"{self._stream} is closed")

    # --- the writer thread ---

    def _run(self) -> None:
        try:
            with self._disk_at_work():
                self._turn()
            self._begun.set()
            while self._step():
                pass
        except BaseException as error:
            with self._changed:
                self._death = error
            raise
        finally:
            self._begun.set()
            if self._file is not None:
                self._file.close()

    def _step(self) -> bool:
        """One commit, one change of segment, or one wait. False when all is done."""
        work = self._next()
        with self._disk_at_work():
            if isinstance(work, Describe):
                self._metadata[work.topic] = work.metadata
                self._turn()
            elif work:
                self._commit(work)
            if self._is_due():
                self._turn()
            with self._changed:
                done = self._closing and not self._waiting and not self._dropped
            if done and self._file is not None:
                file, self._file = self._file, None
                self._end(file)
        return not done

    def _is_due(self) -> bool:
        """Whether the open segment is full or old enough."""
        if self._file is None or not self._file.chunks:
            return False
        full = self._segment_bytes is not None and self._file.size >= self._segment_bytes
        return full or time.monotonic() - self._opened >= self._segment_seconds

    def _next(self) -> list[Group] | Describe:
        """Waits until something is due and takes it: groups of one chunk, a change of metadata, or [] (a segment is due, or the end)."""
        with self._changed:
            while True:
                now = time.monotonic()
                full = self._waiting_bytes >= self._chunk_bytes
                first = self._waiting[0] if self._waiting else None
                if isinstance(first, Describe):
                    self._waiting.popleft()
                    return first
                # A Gap about dropped messages needs room again, or the next drop would come before it is written.
                gaps_due = bool(self._dropped) and self._held_bytes <= self._memory_bytes // 2
                # Without a file nothing on the disk would say that this is missing: then at once.
                wait = self._chunk_seconds if self._file is not None else 0.0
                due = first.arrived + wait if first is not None else None
                if full or self._flush or self._closing or gaps_due or (due is not None and due <= now):
                    groups = self._take()
                    self._flush = self._flush and bool(self._waiting)
                    return groups
                deadlines = [due] if due is not None else []
                if self._file is not None and self._file.chunks:
                    deadlines.append(self._opened + self._segment_seconds)
                if deadlines and min(deadlines) <= now:
                    return []
                self._changed.wait(min(deadlines) - now if deadlines else None)

    def _take(self) -> list[Group]:
        """The groups of the next chunk, and Gaps about what was dropped before. The lock is held."""
        groups: list[Group] = []
        size = 0
        while self._waiting and size < self._chunk_bytes:
            group = self._waiting[0]
            if isinstance(group, Describe):
                break
            self._waiting.popleft()
            groups.append(group)
            size += group.size
        self._waiting_bytes -= size
        if self._dropped:
            gaps = tuple(dropped.gap(topic) for topic, dropped in self._dropped.items())
            self._dropped.clear()
            groups.append(Group(gaps, None, 0, 0.0))
        return groups

    def _commit(self, groups: list[Group]) -> None:
        """Makes one chunk durable, however often the disk refuses, then tells."""
        attempt = 0
        while True:
            try:
                self._append(groups)
                break
            except OSError as error:
                attempt += 1
                self._refused(error)
            with self._changed:
                if self._closing and attempt >= CLOSE_ATTEMPTS:
                    self._lost = True
                    self._held_bytes -= sum(group.size for group in groups)
                    return
                self._changed.wait_for(lambda: self._closing, RETRY_SECONDS[min(attempt, len(RETRY_SECONDS)) - 1])
        with self._changed:
            self._held_bytes -= sum(group.size for group in groups)
            self._count["chunks"] += 1
            self._count["messages"] += sum(len(group.entries) for group in groups)
            over, self._problem = self._problem, None
        for group in groups:
            if group.token is not None:
                self._on_durable(group.token)
        if over is not None:
            self._on_recovered(over)

    def _append(self, groups: list[Group]) -> None:
        """Writes one chunk into the open segment, or into a new one. Raises OSError, having left the file that the disk refused."""
        entries = [entry for group in groups for entry in group.entries]
        size = sum(len(entry.data) for entry in entries)
        newest = max(entry.log_time for entry in entries)
        if self._file is not None and self._file.chunks and self._file.size + size > (self._segment_bytes or _MAX_U64):
            self._turn()
        if self._file is None:
            self._file = self._create()
        file = self._file
        if not file.chunks:
            begin = min(entry.log_time for entry in entries)
            restated = [Entry(*entry) for entry in self._preamble()]
            entries = [entry._replace(log_time=max(begin, entry.log_time)) for entry in restated] + entries
            self._opened = time.monotonic()
        try:
            file.append(entries)
        except OSError:
            self._file = None
            self._leave(file)
            raise
        self._after = After(self._number, file.chunks, max(newest, self._after.boottime_ns))
        self._head_frames = file.head_frames

    def _turn(self) -> None:
        """A new segment begins: its file is made before the open one ends, so that there always is one. If the disk refuses it, the open
        one stays without a seal, and the next chunk tries again."""
        file, self._file = self._file, None
        try:
            self._file = self._create()
        except OSError as error:
            if file is not None:
                self._leave(file)
            self._refused(error)
            return
        if file is not None:
            self._end(file)

    def _create(self) -> SegmentWriter:
        if not self._unused:
            self._number = self._next_number()
        self._unused = True
        number = f"{self._number:06d}"
        segment_id = f"{self._truck}-{self._folder_name}-{number}-{self._stream}"
        path = self._folder / f"{number}-{self._stream}.mcap"
        identity = Identity(segment_id, self._truck, self._stream, self._boot_id)
        try:
            file = SegmentWriter.create(path, identity, self._types, self._metadata, after=self._after, head_frames=self._head_frames)
        except (FileExistsError, BlockingIOError):
            self._unused = False  # a file that could not be removed has this name
            raise
        self._unused = False
        while self._empty:
            self._empty.pop().remove()
        return file

    def _end(self, file: SegmentWriter) -> None:
        """Seals a file. Its chunks are durable: if this fails, recovery does it at the next start. One without chunks is removed."""
        if not file.chunks:
            file.close()
            file.remove()
            return
        try:
            path = file.seal()
        except OSError as error:
            self._leave(file)
            self._refused(error)
            return
        with self._changed:
            self._count["segments"] += 1
        self._on_sealed(path)

    def _leave(self, file: SegmentWriter) -> None:
        """Lets go of a file before its seal."""
        file.abandon()
        if not file.chunks:
            self._empty.append(file)

    def _refused(self, error: OSError) -> None:
        """Counts and tells an error of the disk."""
        with self._changed:
            self._count["errors"] += 1
            self._problem = error
        self._on_error(error)

    @contextmanager
    def _disk_at_work(self) -> Iterator[None]:
        """Measures for how long the disk has not caught up: until no chunk that is due waits for it."""
        with self._changed:
            if self._busy_since is None:
                self._busy_since = time.monotonic()
        try:
            yield
        finally:
            with self._changed:
                now = time.monotonic()
                self._longest_commit = max(self._longest_commit, now - self._busy_since)
                first = self._waiting[0] if self._waiting else None
                if not isinstance(first, Group) or first.arrived + self._chunk_seconds > now:
                    self._busy_since = None
