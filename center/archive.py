"""The archive: every received segment as the very file the truck wrote, and an index of them.

    <archive>/<truck>/<segment_id>.mcap      stored; the truth (<archive> is a folder or s3://bucket/prefix: center/store.py)
    <archive>/_tables/<table>/               the same as tables (center/tables.py); may be rebuilt from the segments
    <state>/index.sqlite                     rebuilt from the segments where it disagrees with them
    <state>/_quarantine/<segment_id>-<first digits of its SHA-256>.mcap and .json     refused, with the reason
    <state>/_incoming/<process>/<segment_id>.part       being fetched; worth nothing after a crash
    <state>/_lock                            held by the center that works here

<state> is the archive's folder where the configuration names no other. No truck's name has a '_', so none can be the archive's own
folder. Everything is for the center's own user: pictures of people and where trucks were. Addresses of objects are capabilities: of a
refused one only a hash is kept, to know it again.

One process is the center of an archive; it alone heals it at its start. Any number of workers join it (`Archive.join`): they store,
refuse and table beside it, each with an incoming folder that is locked while it lives.

Order of a commit: object durable under its name, index row committed. Only then may a receipt go out: a power cut between the two
leaves an object without row (`_heal` adopts it). Two processes that store the same segment write the same bytes under the same name.
"""

import contextlib
import hashlib
import json
import os
import sqlite3
import tempfile
from pathlib import Path

import numpy as np

from center import clock, samples
from center.archive_folders import HeldByAnother, alone, incoming
from center.archive_index import Counts, Index, Stored
from center.store import FolderStore, Kept, Store, StoreError, free_bytes, key_of
from logbook import channels, reader
from sox.segments import Announcement, parse_segment_id

__all__ = ["CAMERA", "Archive", "ArchiveError", "Counts", "Stored", "file_sha256"]

CAMERA = channels.camera_topic("")
QUARANTINE_BYTES = 10_000_000_000


class ArchiveError(Exception):
    """The archive cannot be used: which file and why, in one line."""


class Archive:
    """One process's hold on an archive. Every method may be called from any thread; those that store wait for the disk or the service."""

    def __init__(self, place: str | Path | Store, quarantine_bytes: int = QUARANTINE_BYTES, state: Path | None = None) -> None:
        """As its center: open or make the archive and bring index and objects together; raises ArchiveError."""
        self._open(place, quarantine_bytes, state, center=True)

    @classmethod
    def join(cls, place: str | Path | Store, quarantine_bytes: int = QUARANTINE_BYTES, state: Path | None = None) -> "Archive":
        """As one of its workers, beside its center; raises ArchiveError."""
        joined = cls.__new__(cls)
        joined._open(place, quarantine_bytes, state, center=False)
        return joined

    @classmethod
    def look(cls, place: str | Path | Store, state: Path | None = None) -> "Archive":
        """As a reader, beside whoever works there: nothing is made or changed. Raises ArchiveError."""
        looking = cls.__new__(cls)
        looking.objects, looking.folder = _objects(place, state)
        try:
            looking.index = Index(looking.folder, read_only=True)
        except (OSError, sqlite3.Error) as error:
            raise ArchiveError(f"archive {looking.folder}: {_words(error)}") from error
        looking._opened = contextlib.ExitStack()
        looking._opened.callback(looking.index.close)
        looking._incoming = Path(looking._opened.enter_context(tempfile.TemporaryDirectory(prefix="cruisers-")))
        return looking

    def _open(self, place: str | Path | Store, quarantine_bytes: int, state: Path | None, center: bool) -> None:
        self.objects, self.folder = _objects(place, state)
        self._quarantine = self.folder / "_quarantine"
        self._quarantine_bytes = quarantine_bytes
        with contextlib.ExitStack() as opened:
            try:
                self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                if center:
                    opened.enter_context(alone(self.folder / "_lock"))
                self.objects.prepare()
                self._quarantine.mkdir(exist_ok=True)
                self._incoming = opened.enter_context(incoming(self.folder / "_incoming"))
                self.index = opened.enter_context(contextlib.closing(Index(self.folder)))
                self.adopted, self.vanished = self._heal() if center else (0, 0)
            except HeldByAnother as error:
                raise ArchiveError(f"archive {self.folder}: another center works in it") from error
            except (OSError, sqlite3.Error) as error:
                raise ArchiveError(f"archive {self.folder}: {_words(error)}") from error
            self._opened = opened.pop_all()

    def close(self) -> None:
        """Close the index and let another center have the archive."""
        self._opened.close()

    def incoming(self, segment_id: str) -> Path:
        """Where this process fetches the object of a segment to."""
        return self._incoming / f"{segment_id}.part"

    def path(self, truck: str, segment_id: str) -> Path:
        """Where a stored segment lies, in an archive that is a folder."""
        if not isinstance(self.objects, FolderStore):
            raise StoreError(f"{segment_id}: the archive is not a folder")
        return self.objects.path(key_of(truck, segment_id))

    def file(self, truck: str, segment_id: str) -> contextlib.AbstractContextManager[Path]:
        """A stored segment as a file, while the context lasts; raises OSError."""
        return self.objects.file(key_of(truck, segment_id), self._incoming)

    def data(self, truck: str, segment_id: str) -> bytes:
        """A stored segment's bytes; raises OSError."""
        return self.objects.read(key_of(truck, segment_id))

    def free_bytes(self) -> int:
        """Bytes free on the disk of the state folder, where objects come in (for an archive in a folder: its own)."""
        return free_bytes(self.folder)

    def known(self, segment_id: str) -> Stored | None:
        """The stored segment of that id, if its object is there."""
        found = self.index.rows("SELECT * FROM segments WHERE segment_id = ?", (segment_id,))
        if not found or self.objects.size(key_of(found[0][1], segment_id)) is None:
            return None
        return Stored(*found[0])

    def store(self, part: Path, announcement: Announcement, info: reader.SegmentInfo) -> Stored:
        """Make the verified file `part` a durable part of the archive; raises OSError or sqlite3.Error, then nothing is promised."""
        self.objects.put(part, key_of(announcement.truck, announcement.segment_id), announcement.sha256)
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
        self.index.write("INSERT OR REPLACE INTO refusals VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    def refusal(self, announcement: Announcement) -> str | None:
        """Why this very object (id, address, content) was refused before."""
        query = "SELECT reason FROM refusals WHERE segment_id = ? AND url_sha256 = ? AND sha256 = ?"
        found = self.index.rows(query, _object(announcement))
        return str(found[0][0]) if found else None

    def mark_receipted(self, segment_id: str) -> None:
        """The receipt of a stored segment was accepted by the hub."""
        statement = "UPDATE segments SET receipted_utc_ns = ? WHERE segment_id = ? AND receipted_utc_ns = 0"
        self.index.write(statement, (clock.utc_ns(), segment_id))

    def counts(self, truck: str) -> Counts:
        """What came from `truck`."""

        def count(view: sqlite3.Connection) -> Counts:
            stored = view.execute(
                "SELECT count(*), total(receipted_utc_ns > 0), total(size), total(pictures) FROM segments WHERE truck = ?", (truck,)
            ).fetchone()
            refused = view.execute("SELECT count(*) FROM refusals WHERE truck = ?", (truck,)).fetchone()
            return Counts(*(int(number) for number in (*stored, *refused)))

        return self.index.counts(truck, count)

    def newest(self, truck: str | None, limit: int) -> list[Stored]:
        """The `limit` segments stored last, newest first; of every truck if `truck` is None."""
        query = "SELECT * FROM segments WHERE ?1 IS NULL OR truck = ?1 ORDER BY stored_utc_ns DESC, segment_id DESC LIMIT ?2"
        return [Stored(*row) for row in self.index.rows(query, (truck, limit))]

    def newest_pictured(self, truck: str) -> Stored | None:
        """The segment with the pictures of `truck` that were taken last: by their UTC (by arrival where unknown), then by boot time."""
        query = (
            "SELECT * FROM segments WHERE truck = ? AND pictures > 0"
            " ORDER BY iif(last_utc_ns, last_utc_ns, stored_utc_ns) DESC, last_boottime_ns DESC LIMIT 1"
        )
        found = self.index.rows(query, (truck,))
        return Stored(*found[0]) if found else None

    def segments(self, truck: str, stream: str) -> list[Stored]:
        """All segments of a stream as recorded: boots by their UTC (by arrival where unknown), within a boot by boot time."""
        query = "SELECT * FROM segments WHERE truck = ? AND stream = ? ORDER BY stored_utc_ns"
        found = [Stored(*row) for row in self.index.rows(query, (truck, stream))]
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
        times, values = [np.empty(0, np.uint64)], [np.empty(0, np.float64)]
        for segment in self.segments(truck, channels.READINGS):
            with self.file(truck, segment.segment_id) as path:
                found = samples.of_file(path, quantity)
            times.append(found[0])
            values.append(found[1])
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
        self.index.write(f"INSERT OR REPLACE INTO segments VALUES ({', '.join('?' * len(row))})", row)
        return row

    def _heal(self) -> tuple[int, int]:
        """Adopt whole objects that have no row, forget rows that have no object. Returns how many of each."""
        rows = dict(self.index.rows("SELECT segment_id, truck FROM segments"))
        there: set[str] = set()
        adopted = 0
        for found in self.objects.listed():
            name = parse_segment_id(found.segment_id)
            if name is None or name.truck != found.truck:
                continue
            there.add(found.segment_id)
            if found.segment_id not in rows:
                adopted += self._adopt(found)
        gone = [(segment_id,) for segment_id in rows.keys() - there]
        with self.index.change() as index:
            index.executemany("DELETE FROM segments WHERE segment_id = ?", gone)
        return adopted, len(gone)

    def _adopt(self, found: Kept) -> bool:
        """Give an object its row, if it is whole and what its name says; made durable again, for nobody knows whether it is."""
        key = key_of(found.truck, found.segment_id)
        with self.objects.file(key, self._incoming) as path:
            if reader.verify(path):
                return False
            info = reader.info(path)
            if info.segment_id != found.segment_id:
                return False
            sha256 = file_sha256(path)
            if isinstance(self.objects, FolderStore):
                self.objects.put(path, key, sha256)
        self._add(sha256, found.size, info)
        return True

    def _bound_quarantine(self, newest: Path) -> None:
        files = sorted(self._quarantine.glob("*.mcap"), key=lambda path: path.stat().st_mtime_ns)
        total = sum(path.stat().st_size for path in files)
        for path in files:
            if total <= self._quarantine_bytes or path == newest:
                break
            total -= path.stat().st_size
            path.unlink(missing_ok=True)
            path.with_suffix(".json").unlink(missing_ok=True)


def _objects(place: str | Path | Store, state: Path | None) -> tuple[Store, Path]:
    """(where the objects are, the state folder)."""
    if isinstance(place, str | Path):
        return FolderStore(Path(place)), state or Path(place)
    if state is None:
        raise ArchiveError("an archive that is not a folder needs one for its state")
    return place, state


def _words(error: Exception) -> str:
    return " ".join(str(error).split())


def _object(announcement: Announcement) -> tuple[str, str, str]:
    """By what an announced object is known again: id, hash of its address, content."""
    return announcement.segment_id, hashlib.sha256(announcement.url.encode()).hexdigest(), announcement.sha256


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
