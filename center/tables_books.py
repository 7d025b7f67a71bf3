"""What the tables are made of, in the archive's index: which segments wait to be tabled (again), which batch is under way, what was said
about the clock of each boot.

    to_table     segments that wait: `again` where their rows are there and wrong by now. A trigger adds every segment that is stored
    batches      one at most is open: its number, and (batch_segments) what it is made of; the number rises for ever
    tabled       segments whose rows are in the tables, with the UTC that their ends have there (0: unknown)
    statements   what the clock of a boot said, each once, with the segment that has its row; `told`: the same for what segments restate
    touched      parts of tables (date) that were written since they were last settled
"""

import sqlite3
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from center.archive_index import Index
from logbook import channels
from logbook.export_clock import NANO, Statement, Utc

APART_NS = 10 * NANO  # logbook/export_gpx.py: fixes further apart say nothing of what is between
HELD_S = 180.0  # pictures wait so long for the readings of their time, which are sealed a minute later
RETIMED_NS = 10_000_000  # rows whose UTC is wrong by more are written again: a sample of the IMU
READINGS_BYTES = 10_000_000  # of a batch: the minute of a hundred trucks, which takes some 350 MB of memory

SCHEMA = """
CREATE TABLE IF NOT EXISTS to_table (segment_id TEXT PRIMARY KEY, again INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS batches (batch INTEGER PRIMARY KEY AUTOINCREMENT, again INTEGER NOT NULL, open INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS batch_segments (batch INTEGER NOT NULL, segment_id TEXT NOT NULL, PRIMARY KEY (batch, segment_id)) STRICT;
CREATE TABLE IF NOT EXISTS tabled (
  segment_id TEXT PRIMARY KEY, truck TEXT NOT NULL, boot TEXT NOT NULL, boot_id TEXT NOT NULL, stream TEXT NOT NULL,
  first_boottime_ns INTEGER NOT NULL, last_boottime_ns INTEGER NOT NULL, first_utc_ns INTEGER NOT NULL, last_utc_ns INTEGER NOT NULL,
  batch INTEGER NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS tabled_by_boot ON tabled (truck, boot, stream, first_boottime_ns);
CREATE INDEX IF NOT EXISTS tabled_by_boot_id ON tabled (truck, boot_id);
CREATE TABLE IF NOT EXISTS statements (
  truck TEXT NOT NULL, boot_id TEXT NOT NULL, boottime_ns INTEGER NOT NULL, utc_ns INTEGER NOT NULL, source TEXT NOT NULL,
  error_s REAL NOT NULL, segment_id TEXT NOT NULL, PRIMARY KEY (truck, boot_id, boottime_ns, utc_ns, source, error_s)) STRICT;
CREATE INDEX IF NOT EXISTS statements_by_segment ON statements (segment_id);
CREATE TABLE IF NOT EXISTS told (
  truck TEXT NOT NULL, boot_id TEXT NOT NULL, digest BLOB NOT NULL, segment_id TEXT NOT NULL, PRIMARY KEY (truck, boot_id, digest)) STRICT;
CREATE TABLE IF NOT EXISTS touched (
  name TEXT NOT NULL, date TEXT NOT NULL, written_utc_ns INTEGER NOT NULL, compacted_utc_ns INTEGER NOT NULL,
  PRIMARY KEY (name, date)) STRICT;
CREATE TRIGGER IF NOT EXISTS stored AFTER INSERT ON segments WHEN NOT EXISTS (SELECT 1 FROM tabled WHERE segment_id = NEW.segment_id)
  BEGIN INSERT OR IGNORE INTO to_table VALUES (NEW.segment_id, 0); END;
"""
TO_BE_EMPTIED = 1  # user_version of the index, from `forget` until the tables are empty
FORGET = ("to_table", "batch_segments", "tabled", "statements", "told", "touched")


class Waiting(NamedTuple):
    """A segment of a batch. Times in ns of its boot."""

    segment_id: str
    truck: str
    boot: str
    stream: str
    first_ns: int
    last_ns: int


class Batch(NamedTuple):
    """`again`: its segments have rows already, which it replaces."""

    number: int
    again: bool
    segments: list[Waiting]


class Tabled(NamedTuple):
    """A segment that has its rows: the boot's whole id and the UTC in ns that its first and last moment have in them."""

    segment: Waiting
    boot_id: str
    first_utc_ns: int
    last_utc_ns: int


Boot = tuple[str, str]  # (truck, boot id)


class Books:
    """The tables' part of an index. One process at a time writes here (center/tables_turn.py)."""

    def __init__(self, index: Index) -> None:
        self._index = index

    def prepare(self) -> None:
        """Make what is not there, and queue what was stored and never tabled; raises sqlite3.Error. Tables that are older than the index
        (it was lost) hold rows that nobody knows of: they are to be emptied."""
        new = not self._index.rows("SELECT 1 FROM sqlite_master WHERE name = 'touched'")
        self._index.script(f"BEGIN IMMEDIATE; {SCHEMA} {f'PRAGMA user_version = {TO_BE_EMPTIED};' if new else ''} COMMIT;")
        with self._index.change() as index:
            _queue_all(index)

    def waiting(self) -> tuple[int, int]:
        """How many segments wait to be tabled, and how many of the tabled ones to be tabled again."""
        found = dict(self._index.rows("SELECT again, count(*) FROM to_table GROUP BY again"))
        return found.get(0, 0), found.get(1, 0)

    def batch(self, limit: int, now_ns: int, held_s: float = HELD_S) -> Batch | None:
        """The batch under way, else a new one of at most `limit` segments; None if there is nothing to do now."""
        found = self._index.rows("SELECT batch, again FROM batches WHERE open")
        if not found:
            found = self._begin(limit, now_ns - int(held_s * NANO))
        if not found:
            return None
        [(number, again)] = found
        query = (
            "SELECT s.segment_id, s.truck, s.boot, s.stream, s.first_boottime_ns, s.last_boottime_ns FROM batch_segments"
            " JOIN segments s USING (segment_id) WHERE batch = ? ORDER BY truck, boot, stream, first_boottime_ns"
        )
        return Batch(number, bool(again), [Waiting(*row) for row in self._index.rows(query, (number,))])

    def _begin(self, limit: int, before_ns: int) -> list[tuple[int, int]]:
        with self._index.change() as index:
            ids, again = _new(index, limit, before_ns), 0
            if not ids:
                again = 1
                ids = [row[0] for row in index.execute("SELECT segment_id FROM to_table WHERE again ORDER BY rowid LIMIT ?", (limit,))]
            if not ids:
                return []
            number = index.execute("INSERT INTO batches (again, open) VALUES (?, 1)", (again,)).lastrowid
            assert number is not None
            index.executemany("INSERT INTO batch_segments VALUES (?, ?)", [(number, segment_id) for segment_id in ids])
            return [(number, again)]

    def state(self, rows: Iterable[tuple[Boot, Statement, str]], told: Iterable[tuple[Boot, bytes, str]]) -> None:
        """Add statements of clocks and digests of what is restated, with the segments that have them; the first one keeps each."""
        with self._index.change() as index:
            statements = [(*boot, *statement, segment_id) for boot, statement, segment_id in rows]
            index.executemany("INSERT OR IGNORE INTO statements VALUES (?, ?, ?, ?, ?, ?, ?)", statements)
            index.executemany(
                "INSERT OR IGNORE INTO told VALUES (?, ?, ?, ?)", [(*boot, digest, segment) for boot, digest, segment in told]
            )

    def statements_of(self, segment_id: str) -> list[Statement]:
        """Those that have their row in this segment."""
        query = "SELECT boottime_ns, utc_ns, source, error_s FROM statements WHERE segment_id = ? ORDER BY 1, 2, 3, 4"
        return [Statement(*row) for row in self._index.rows(query, (segment_id,))]

    def teller(self, boot: Boot, digest: bytes) -> str:
        """The segment that has the row of what several restate."""
        [(segment_id,)] = self._index.rows("SELECT segment_id FROM told WHERE truck = ? AND boot_id = ? AND digest = ?", (*boot, digest))
        return str(segment_id)

    def utc(self, boot: Boot) -> Utc:
        """UTC of a boot's times, by all that is known now."""
        query = "SELECT boottime_ns, utc_ns, source, error_s FROM statements WHERE truck = ? AND boot_id = ?"
        return Utc(Statement(*row) for row in self._index.rows(query, boot))

    def readings_of(self, truck: str, boot: str, first_ns: int, last_ns: int, batch: int) -> list[str]:
        """Segments of readings that overlap a time of a boot, among those that are tabled or in `batch`."""
        query = (
            "SELECT segment_id FROM segments s WHERE truck = ? AND stream = ? AND boot = ? AND first_boottime_ns <= ?"
            " AND last_boottime_ns >= ? AND (EXISTS (SELECT 1 FROM tabled t WHERE t.segment_id = s.segment_id)"
            " OR EXISTS (SELECT 1 FROM batch_segments b WHERE b.segment_id = s.segment_id AND b.batch = ?)) ORDER BY first_boottime_ns"
        )
        return [row[0] for row in self._index.rows(query, (truck, channels.READINGS, boot, last_ns, first_ns, batch))]

    def dates_of(self, segment_ids: Sequence[str]) -> set[int]:
        """The UTC in ns of both ends of tabled segments, 0 where unknown."""
        marks = ", ".join("?" * len(segment_ids))
        rows = self._index.rows(f"SELECT first_utc_ns, last_utc_ns FROM tabled WHERE segment_id IN ({marks})", segment_ids)
        return {moment for row in rows for moment in row}

    def done(self, batch: Batch, tabled: Sequence[Tabled], touched: Iterable[tuple[str, str]], now_ns: int) -> int:
        """The batch is in the tables: one change of the index, with which it ends. Marks what has to be tabled again because of it:
        segments whose time is known better now, pictures whose place is. Returns how many."""
        ids = [(segment.segment_id,) for segment in batch.segments]
        with self._index.change() as index:
            for segment, boot_id, first_utc, last_utc in tabled:
                row = (segment.segment_id, segment.truck, segment.boot, boot_id, segment.stream, segment.first_ns, segment.last_ns)
                index.execute(
                    "INSERT OR REPLACE INTO tabled VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (*row, first_utc, last_utc, batch.number)
                )
            index.executemany("DELETE FROM to_table WHERE segment_id = ?", ids)
            wrong = _retimed(index, {(one.segment.truck, one.boot_id) for one in tabled if one.segment.stream == channels.READINGS})
            if not batch.again:
                wrong |= _replaced(index, [one.segment for one in tabled if one.segment.stream == channels.READINGS], batch.number)
            index.executemany("INSERT OR IGNORE INTO to_table VALUES (?, 1)", [(segment_id,) for segment_id in sorted(wrong)])
            for name, date in touched:
                index.execute(
                    "INSERT INTO touched VALUES (?, ?, ?, 0) ON CONFLICT DO UPDATE SET written_utc_ns = excluded.written_utc_ns",
                    (name, date, now_ns),
                )
            index.execute("DELETE FROM batch_segments WHERE batch = ?", (batch.number,))
            index.execute("UPDATE batches SET open = 0 WHERE batch = ?", (batch.number,))
            index.execute("DELETE FROM batches WHERE batch < ? AND NOT open", (batch.number,))
        return len(wrong)

    def forget(self) -> None:
        """Nothing is tabled any more and everything waits; numbers of batches go on rising."""
        with self._index.change() as index:
            index.execute("UPDATE batches SET open = 0")
            for table in FORGET:
                index.execute(f"DELETE FROM {table}")
            _queue_all(index)
            index.execute(f"PRAGMA user_version = {TO_BE_EMPTIED}")

    @property
    def to_be_emptied(self) -> bool:
        """Whether the tables still hold what was forgotten."""
        return self._index.rows("PRAGMA user_version") == [(TO_BE_EMPTIED,)]

    def emptied(self) -> None:
        """The tables are empty."""
        self._index.write("PRAGMA user_version = 0")

    def touched(self) -> list[tuple[str, str, int, int]]:
        """(table, date, written, compacted) of what was written since it was settled; times in UTC ns."""
        return self._index.rows("SELECT name, date, written_utc_ns, compacted_utc_ns FROM touched ORDER BY name, date")

    def compacted(self, name: str, date: str, now_ns: int) -> None:
        """A part of a table has few files now."""
        self._index.write("UPDATE touched SET compacted_utc_ns = ? WHERE name = ? AND date = ?", (now_ns, name, date))

    def settled(self, name: str, date: str, written_ns: int) -> None:
        """A part of a table is in order, unless it was written meanwhile."""
        self._index.write("DELETE FROM touched WHERE name = ? AND date = ? AND written_utc_ns = ?", (name, date, written_ns))


def _queue_all(index: sqlite3.Connection) -> None:
    index.execute(
        "INSERT OR IGNORE INTO to_table SELECT segment_id, 0 FROM segments WHERE segment_id NOT IN (SELECT segment_id FROM tabled)"
    )


def _new(index: sqlite3.Connection, limit: int, before_ns: int) -> list[str]:
    """New segments for a batch: readings first, for pictures take their places from them; pictures only once no readings are left out,
    and once those of their own time are there or have had time to come (stored before `before_ns`)."""
    query = (
        "SELECT segment_id, size FROM to_table JOIN segments s USING (segment_id) WHERE NOT again AND stream = ? ORDER BY to_table.rowid"
    )
    ids: list[str] = []
    size = 0
    for segment_id, bytes_ in index.execute(query, (channels.READINGS,)):
        if len(ids) >= limit or (ids and size + bytes_ > READINGS_BYTES):
            return ids
        ids.append(segment_id)
        size += bytes_
    pictures = (
        "SELECT segment_id FROM to_table JOIN segments s USING (segment_id) WHERE NOT again AND stream = ?1 AND (s.stored_utc_ns <= ?2 OR"
        " EXISTS (SELECT 1 FROM segments r WHERE r.truck = s.truck AND r.stream = ?3 AND r.boot = s.boot AND r.last_boottime_ns >="
        " s.last_boottime_ns + ?4)) ORDER BY to_table.rowid LIMIT ?5"
    )
    found = index.execute(pictures, (channels.IMAGES, before_ns, channels.READINGS, APART_NS, limit - len(ids)))
    return ids + [row[0] for row in found]


def _retimed(index: sqlite3.Connection, boots: set[Boot]) -> set[str]:
    """Tabled segments of these boots whose rows have another UTC than the clock's statements give them now."""
    wrong: set[str] = set()
    for truck, boot_id in boots:
        query = "SELECT boottime_ns, utc_ns, source, error_s FROM statements WHERE truck = ? AND boot_id = ?"
        utc = Utc(Statement(*row) for row in index.execute(query, (truck, boot_id)))
        rows = index.execute(
            "SELECT segment_id, first_boottime_ns, last_boottime_ns, first_utc_ns, last_utc_ns FROM tabled WHERE truck = ? AND boot_id = ?",
            (truck, boot_id),
        ).fetchall()
        times = np.array([row[1:] for row in rows], np.int64).reshape(-1, 4)
        for end in (0, 1):
            moved = np.abs(utc.of(times[:, end]) - times[:, end + 2]) > RETIMED_NS
            wrong |= {rows[number][0] for number in np.flatnonzero(moved)}
    return wrong


def _replaced(index: sqlite3.Connection, readings: list[Waiting], batch: int) -> set[str]:
    """Pictures that were tabled before these readings of their time."""
    query = (
        "SELECT segment_id FROM tabled WHERE truck = ? AND boot = ? AND stream = ? AND first_boottime_ns <= ? AND last_boottime_ns >= ?"
        " AND batch < ?"
    )
    wrong: set[str] = set()
    for one in readings:
        span = (one.last_ns + APART_NS, one.first_ns - APART_NS)
        wrong |= {row[0] for row in index.execute(query, (one.truck, one.boot, channels.IMAGES, *span, batch))}
    return wrong
