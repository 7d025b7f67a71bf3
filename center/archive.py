"""The archive: every received segment as the very file the truck wrote, and an index of them.

    <folder>/<truck>/<segment_id>.mcap      stored; the truth
    <folder>/_quarantine/<segment_id>-<first digits of its SHA-256>.mcap and .json     refused, with the reason
    <folder>/_incoming/<segment_id>.part    being fetched; worth nothing after a crash
    <folder>/index.sqlite                   rebuilt from the files where it disagrees with them
    <folder>/_lock                          held by the center that works here

No truck's name has a '_', so none can be the archive's own folder. Everything is for the center's own user: pictures of people and
where trucks were. Addresses of objects are capabilities: of a refused one only a hash is kept, to know it again.

Order of a commit: file synced, renamed, its folder synced, index row committed. Only then may a receipt go out: a power cut
between any two steps leaves either no file (the truck still has it) or a file without row (`heal` adopts it).
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from center import clock, samples
from logbook import channels, reader
from sox.segments import Announcement, parse_segment_id

CAMERA = channels.camera_topic("")

SCHEMA = """
CREATE TABLE IF NOT EXISTS segments (
  segment_id TEXT PRIMARY KEY, truck TEXT NOT NULL, boot TEXT NOT NULL, stream TEXT NOT NULL, size INTEGER NOT NULL,
  sha256 TEXT NOT NULL, first_boottime_ns INTEGER NOT NULL, last_boottime_ns INTEGER NOT NULL, first_utc_ns INTEGER NOT NULL,
  last_utc_ns INTEGER NOT NULL, pictures INTEGER NOT NULL, stored_utc_ns INTEGER NOT NULL,
  receipted_utc_ns INTEGER NOT NULL DEFAULT 0) STRICT;
CREATE INDEX IF NOT EXISTS by_truck ON segments (truck, stream, boot, first_boottime_ns);
CREATE INDEX IF NOT EXISTS by_storing ON segments (stored_utc_ns, segment_id);
CREATE INDEX IF NOT EXISTS by_picture ON segments (truck, iif(last_utc_ns, last_utc_ns, stored_utc_ns), last_boottime_ns)
  WHERE pictures > 0;
CREATE TABLE IF NOT EXISTS refusals (
  segment_id TEXT NOT NULL, url_sha256 TEXT NOT NULL, sha256 TEXT NOT NULL, truck TEXT NOT NULL, size INTEGER NOT NULL,
  reason TEXT NOT NULL, refused_utc_ns INTEGER NOT NULL, PRIMARY KEY (segment_id, url_sha256, sha256)) STRICT;
"""


class ArchiveError(Exception):
    """The archive cannot be used: which file and why, in one line."""


class Stored(NamedTuple):
    """A row of the index. Times in ns: CLOCK_BOOTTIME of the truck's boot `boot`, or UTC (0 = unknown)."""

    segment_id: str
    truck: str
    boot: str
    stream: str
    size: int
    sha256: str
    first_boottime_ns: int
    last_boottime_ns: int
    first_utc_ns: int
    last_utc_ns: int
    pictures: int
    stored_utc_ns: int
    receipted_utc_ns: int


class Counts(NamedTuple):
    """Of one truck: segments stored, of them receipted, bytes and pictures in them; objects refused."""

    stored: int
    receipted: int
    bytes: int
    pictures: int
    refused: int


class Archive:
    """One archive folder. Every method may be called from any thread; those that store wait for the disk."""

    def __init__(self, folder: str | Path, quarantine_bytes: int = 10_000_000_000) -> None:
        """Open or make the archive in `folder` and bring index and files together; raises ArchiveError."""
        self.folder = Path(folder)
        self._incoming = self.folder / "_incoming"
        self._quarantine = self.folder / "_quarantine"
        self._quarantine_bytes = quarantine_bytes
        self._lock = threading.Lock()  # of those who write: held while the disk syncs
        self._read_lock = threading.Lock()  # of those who read, and of the counts: never held while the disk is waited for
        self._counts: dict[str, Counts] = {}  # the page asks every second; counting 100,000 rows takes 10 ms
        self._synced: set[Path] = set()  # folders of trucks whose own entry this process has synced
        with contextlib.ExitStack() as opened:
            try:
                self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                opened.enter_context(_alone(self.folder / "_lock"))
                for directory in (self._incoming, self._quarantine):
                    directory.mkdir(exist_ok=True)
                for leftover in self._incoming.iterdir():
                    leftover.unlink()
                self._index = opened.enter_context(contextlib.closing(_connect(self.folder / "index.sqlite")))
                self._index.execute("PRAGMA journal_mode=WAL")
                self._index.execute("PRAGMA synchronous=FULL")  # a row says "durable": it must be so itself
                self._index.executescript(SCHEMA)
                self._view = opened.enter_context(contextlib.closing(_connect(self.folder / "index.sqlite")))
                self.adopted, self.vanished = self._heal()
            except (OSError, sqlite3.Error) as error:
                raise ArchiveError(f"archive {self.folder}: {error}") from error
            self._opened = opened.pop_all()

    def close(self) -> None:
        """Close the index and let another center have the folder."""
        with self._lock, self._read_lock:
            self._opened.close()

    def incoming(self, segment_id: str) -> Path:
        """Where the object of a segment is fetched to."""
        return self._incoming / f"{segment_id}.part"

    def path(self, truck: str, segment_id: str) -> Path:
        """Where a stored segment lies."""
        return self.folder / truck / f"{segment_id}.mcap"

    def free_bytes(self) -> int:
        """Bytes free on the archive's disk."""
        return shutil.disk_usage(self.folder).free

    def known(self, segment_id: str) -> Stored | None:
        """The stored segment of that id, if its file is there."""
        with self._read_lock:
            row = self._view.execute("SELECT * FROM segments WHERE segment_id = ?", (segment_id,)).fetchone()
        if row is None or not self.path(row[1], segment_id).is_file():
            return None
        return Stored(*row)

    def store(self, part: Path, announcement: Announcement, info: reader.SegmentInfo) -> Stored:
        """Make the verified file `part` a durable part of the archive; raises OSError or sqlite3.Error, then nothing is promised."""
        target = self.path(announcement.truck, announcement.segment_id)
        if target.parent not in self._synced:  # also one that was there: another thread may have made it only now
            target.parent.mkdir(exist_ok=True)
            sync(self.folder)
            self._synced.add(target.parent)
        sync(part)
        os.replace(part, target)
        sync(target.parent)
        return self._add(announcement.sha256, announcement.size, info)

    def quarantine(self, part: Path, announcement: Announcement, reason: str) -> None:
        """Remember that `announcement` was refused, and keep what was fetched (if anything) for a look."""
        if part.exists():
            kept = self._quarantine / f"{announcement.segment_id}-{announcement.sha256[:8]}.mcap"
            os.replace(part, kept)
            note = {**announcement._replace(url="")._asdict(), "reason": reason, "refused_utc_ns": clock.utc_ns()}
            kept.with_suffix(".json").write_text(json.dumps(note, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
            self._bound_quarantine(kept)
        row = (*_object(announcement), announcement.truck, announcement.size, reason, clock.utc_ns())
        self._write("INSERT OR REPLACE INTO refusals VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    def refusal(self, announcement: Announcement) -> str | None:
        """Why this very object (id, address, content) was refused before."""
        query = "SELECT reason FROM refusals WHERE segment_id = ? AND url_sha256 = ? AND sha256 = ?"
        with self._read_lock:
            row = self._view.execute(query, _object(announcement)).fetchone()
        return None if row is None else str(row[0])

    def mark_receipted(self, segment_id: str) -> None:
        """The receipt of a stored segment was accepted by the hub."""
        self._write("UPDATE segments SET receipted_utc_ns = ? WHERE segment_id = ? AND receipted_utc_ns = 0", (clock.utc_ns(), segment_id))

    def counts(self, truck: str) -> Counts:
        """What came from `truck`."""
        with self._read_lock:
            if truck in self._counts:
                return self._counts[truck]
            stored = self._view.execute(
                "SELECT count(*), total(receipted_utc_ns > 0), total(size), total(pictures) FROM segments WHERE truck = ?", (truck,)
            ).fetchone()
            refused = self._view.execute("SELECT count(*) FROM refusals WHERE truck = ?", (truck,)).fetchone()
            counts = self._counts[truck] = Counts(*(int(number) for number in (*stored, *refused)))
        return counts

    def newest(self, truck: str | None, limit: int) -> list[Stored]:
        """The `limit` segments stored last, newest first; of every truck if `truck` is None."""
        with self._read_lock:
            rows = self._view.execute(
                "SELECT * FROM segments WHERE ?1 IS NULL OR truck = ?1 ORDER BY stored_utc_ns DESC, segment_id DESC LIMIT ?2",
                (truck, limit),
            ).fetchall()
        return [Stored(*row) for row in rows]

    def newest_pictured(self, truck: str) -> Stored | None:
        """The segment with the pictures of `truck` that were taken last: by their UTC (by arrival where unknown), then by boot time."""
        with self._read_lock:
            row = self._view.execute(
                "SELECT * FROM segments WHERE truck = ? AND pictures > 0"
                " ORDER BY iif(last_utc_ns, last_utc_ns, stored_utc_ns) DESC, last_boottime_ns DESC LIMIT 1",
                (truck,),
            ).fetchone()
        return None if row is None else Stored(*row)

    def segments(self, truck: str, stream: str) -> list[Stored]:
        """All segments of a stream as recorded: boots by their UTC (by arrival where unknown), within a boot by boot time."""
        with self._read_lock:
            rows = self._view.execute(
                "SELECT * FROM segments WHERE truck = ? AND stream = ? ORDER BY stored_utc_ns", (truck, stream)
            ).fetchall()
        found = [Stored(*row) for row in rows]
        began: dict[str, int] = {}
        for segment in found:
            start = segment.first_utc_ns or segment.stored_utc_ns
            began[segment.boot] = min(start, began.get(segment.boot, start))
        return sorted(found, key=lambda segment: (began[segment.boot], segment.boot, segment.first_boottime_ns, segment.segment_id))

    def samples(self, truck: str, quantity: str) -> tuple[np.ndarray, np.ndarray]:
        """Every sample of `quantity` (an id of logbook.quantities) that is stored of `truck`, in order of boot and time.

        Returns boot times [n] (uint64, ns) and values [n] (float64, SI unit of the quantity). A sample that has a reason instead of a
        number (saturated, no new sample, no fix) is NaN, so n counts what the chip delivered. IMU axes come from the raw
        column blocks, at full rate. Boot times rise within a boot only. Raises KeyError for an unknown quantity.
        """
        parts = [samples.of_file(self.path(truck, segment.segment_id), quantity) for segment in self.segments(truck, "readings")]
        times = [part[0] for part in parts] or [np.empty(0, np.uint64)]
        values = [part[1] for part in parts] or [np.empty(0, np.float64)]
        return np.concatenate(times), np.concatenate(values)

    def _add(self, sha256: str, size: int, info: reader.SegmentInfo) -> Stored:
        name = parse_segment_id(info.segment_id)
        if name is None:
            raise ValueError(f"segment id {info.segment_id!r}")
        pictures = sum(count for topic, count in info.messages.items() if topic.startswith(CAMERA))
        row = Stored(
            info.segment_id, info.truck, name.boot, info.stream, size, sha256, info.first_time, info.last_time,
            info.first_utc, info.last_utc, pictures, clock.utc_ns(), 0,
        )  # fmt: skip
        self._write(f"INSERT OR REPLACE INTO segments VALUES ({', '.join('?' * len(row))})", row)
        return row

    def _write(self, statement: str, values: tuple[object, ...]) -> None:
        """Change the index, durably; raises sqlite3.Error."""
        with self._lock:
            self._index.execute(statement, values)
            with self._read_lock:  # after the commit: what was counted before it is forgotten, and not counted again meanwhile
                self._counts.clear()

    def _heal(self) -> tuple[int, int]:
        """Adopt whole files that have no row, forget rows that have no file. Returns how many of each."""
        with self._lock:
            rows = dict(self._index.execute("SELECT segment_id, truck FROM segments").fetchall())
        gone = [(segment_id,) for segment_id, truck in rows.items() if not self.path(truck, segment_id).is_file()]
        with self._lock, _transaction(self._index):
            self._index.executemany("DELETE FROM segments WHERE segment_id = ?", gone)
        adopted = 0
        for path in self.folder.glob("*/*.mcap"):
            name = parse_segment_id(path.stem)
            if name is None or name.truck != path.parent.name or path.stem in rows or reader.verify(path):
                continue
            info = reader.info(path)
            if info.segment_id == path.stem:
                sync(path)
                sync(path.parent)
                self._add(file_sha256(path), path.stat().st_size, info)
                adopted += 1
        return adopted, len(gone)

    def _bound_quarantine(self, newest: Path) -> None:
        files = sorted(self._quarantine.glob("*.mcap"), key=lambda path: path.stat().st_mtime_ns)
        total = sum(path.stat().st_size for path in files)
        for path in files:
            if total <= self._quarantine_bytes or path == newest:
                break
            total -= path.stat().st_size
            path.unlink()
            path.with_suffix(".json").unlink(missing_ok=True)


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, check_same_thread=False, isolation_level=None)


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Hold the archive for this center: a second one would throw away what the first is fetching. Raises ArchiveError, OSError."""
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ArchiveError(f"archive {lock.parent}: another center works in it") from error
        yield


def _object(announcement: Announcement) -> tuple[str, str, str]:
    """By what an announced object is known again: id, hash of its address, content."""
    return announcement.segment_id, hashlib.sha256(announcement.url.encode()).hexdigest(), announcement.sha256


def sync(path: Path) -> None:
    """fsync a file or a folder; raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
