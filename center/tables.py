"""Readings, positions, events and pictures of stored segments as Delta tables: what center/query.py asks. The segments stay the truth.

A batch of segments at a time. Its steps, any of which a kill may end:

1. The index names the batch: its number and its segments, in one change. From here on it is the same batch, whoever does it.
2. Its segments are decoded. What they say about clocks goes into the index (again: no change).
3. Table by table, its rows are committed under its number and synced; a table that has that number is passed over.
4. One change of the index says that its segments are tabled, ends it, and marks what has to be written again because of it.

So a row is in its table once: a kill in step 3 leaves tables that have the batch and tables that do not, and the next one to come writes
the latter. Rows whose UTC was not known, or is known better by 10 ms or more since a later statement of the same boot, and pictures whose
fixes came later, are written again by a batch that replaces the rows of its segments in one commit a table.

A power cut between commit and sync may leave a table's log torn, which delta-rs then refuses to read: `cruisers center rebuild`.

Limits: a message that stands in two segments (a disk error cut the file, and its continuation repeats the chunk) has a row of each.
Times are in µs, for Delta has no finer ones; `boottime_ns` is exact.
"""

import logging
from collections import defaultdict
from collections.abc import Callable

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]

from center import clock
from center.archive import Archive
from center.tables_books import APART_NS, HELD_S, Batch, Books, Boot, Tabled, Waiting
from center.tables_delta import UNKNOWN, Delta, condition
from center.tables_places import Places, placed
from center.tables_rows import IMAGES, Decoded, Unreadable, decode, timed, told
from logbook import channels
from logbook.export_clock import NANO, Utc
from sox.segments import parse_segment_id

SETTLE_H = 26.0  # a date that nobody wrote to for so long is sorted; a day's late segments have mostly come by then

log = logging.getLogger("center.tables")


class Stopped(Exception):
    """Asked to stop; the batch under way is finished by whoever comes next."""


class Tables:
    """The tables of an archive, and their only writer while it is used (center/tables_turn.py sees to that)."""

    def __init__(self, archive: Archive, stopping: Callable[[], bool] = lambda: False, held_s: float = HELD_S) -> None:
        """Raises sqlite3.Error. `held_s`: how long pictures wait for the readings of their time."""
        self._archive, self._stopping, self._held_s = archive, stopping, held_s
        self.books = Books(archive.index)
        self.books.prepare()
        self.delta = Delta(archive.objects)
        self._places = Places(self._decoded)

    def table(self, limit: int) -> int:
        """One batch of at most `limit` segments, or the rest of one that was begun; returns how many segments it had, 0 if there is
        nothing to do. Raises Stopped, OSError, DeltaError, sqlite3.Error."""
        if self.books.to_be_emptied:
            self._archive.objects.remove_tables()
            self.books.emptied()
        batch = self.books.batch(limit, clock.utc_ns(), self._held_s)
        if batch is None:
            return 0
        decoded = {segment.segment_id: found for segment in batch.segments if (found := self._read(segment)) is not None}
        self._state(list(decoded.values()))
        utc = {boot: self.books.utc(boot) for boot in {_boot(one) for one in decoded.values()}}
        rows, tabled = self._rows(batch, decoded, utc)
        touched = self._write(batch, [segment for segment in batch.segments if segment.segment_id in decoded], rows)
        again = self.books.done(batch, tabled, touched, clock.utc_ns())
        count = sum(len(table) for table in rows.values())
        log.info("batch %d: %d segments, %d rows, %d to be written again", batch.number, len(batch.segments), count, again)
        return len(batch.segments)

    def tidy(self, compact_every_s: float, keep_hours: int) -> int:
        """Compact what was written since, sort what is complete, remove files that nobody reads any more; returns how many partitions.
        Raises as `table`."""
        now, names = clock.utc_ns(), set()
        count = 0
        for name, day, written, compacted in self.books.touched():
            if self._stopping():
                raise Stopped
            if now - written >= SETTLE_H * 3600 * NANO:
                self.delta.settle(name, day)
                self.books.settled(name, day, written)
            elif written > compacted and now - compacted >= compact_every_s * NANO:
                self.delta.compact(name, day)
                self.books.compacted(name, day, now)
            else:
                continue
            names.add(name)
            count += 1
        for name in sorted(names):
            self.delta.vacuum(name, keep_hours)
        return count

    def rebuild(self) -> None:
        """Forget all tables: every segment waits to be tabled, into empty ones. Readers of the old ones lose their files at once."""
        self.books.forget()
        self._archive.objects.remove_tables()
        self.books.emptied()

    def _decoded(self, segment_id: str) -> Decoded:
        name = parse_segment_id(segment_id)
        if name is None:
            raise Unreadable(segment_id)
        return decode(self._archive.data(name.truck, segment_id))

    def _read(self, segment: Waiting) -> Decoded | None:
        """A segment of the batch; None, and said, if it is gone or nothing of it can be read."""
        if self._stopping():
            raise Stopped
        try:
            decoded = self._decoded(segment.segment_id)
        except (FileNotFoundError, Unreadable) as error:
            log.error("%s is not in the tables: %s", segment.segment_id, error)
            return None
        if decoded.wrong:
            log.warning("%s: %d messages or chunks without sense", segment.segment_id, decoded.wrong)
        if segment.stream == channels.READINGS:
            self._places.learn(decoded)
        return decoded

    def _state(self, segments: list[Decoded]) -> None:
        statements = [(_boot(one), statement, one.segment_id) for one in segments for statement in one.statements]
        restated = [(_boot(one), again.digest, one.segment_id) for one in segments for again in one.restated]
        self.books.state(statements, restated)

    def _rows(self, batch: Batch, decoded: dict[str, Decoded], utc: dict[Boot, Utc]) -> tuple[dict[str, pa.Table], list[Tabled]]:
        """The rows of each table, and what will be said of each segment."""
        parts: dict[str, list[pa.Table]] = defaultdict(list)
        tabled = []
        for segment in batch.segments:
            one = decoded.get(segment.segment_id)
            if one is None:
                continue
            boot = _boot(one)
            own = [again for again in one.restated if self.books.teller(boot, again.digest) == one.segment_id]
            for name, rows in (*one.parts, *told(one, self.books.statements_of(one.segment_id), own)):
                if name == IMAGES.name:
                    span = (segment.first_ns - APART_NS, segment.last_ns + APART_NS)
                    fixes = self._places.of(self.books.readings_of(segment.truck, segment.boot, *span, batch.number))
                    rows = placed(rows, fixes)
                parts[name].append(timed(rows, utc[boot]))
            first, last = utc[boot].of(np.array([segment.first_ns, segment.last_ns], np.int64)).tolist()
            tabled.append(Tabled(segment, one.boot_id, first, last))
        return {name: pa.concat_tables(tables, promote_options="default") for name, tables in sorted(parts.items())}, tabled

    def _write(self, batch: Batch, segments: list[Waiting], rows: dict[str, pa.Table]) -> list[tuple[str, str]]:
        """Commit the rows; returns which parts of which tables were written."""
        ids = [segment.segment_id for segment in segments]
        before = _days(self.books.dates_of(ids)) if batch.again else set()
        touched = []
        for name, table in rows.items():
            if self._stopping():
                raise Stopped
            days = {UNKNOWN if day is None else day.isoformat() for day in table.column("date").unique().to_pylist()}
            replaced = condition(ids, sorted(days | before)) if batch.again else None
            self.delta.write(name, table, batch.number, replaced)
            touched += [(name, day) for day in sorted(days | before)]
        return touched


def _boot(decoded: Decoded) -> Boot:
    return decoded.truck, decoded.boot_id


def _days(moments: set[int]) -> set[str]:
    return {str(np.datetime64(moment, "ns").astype("datetime64[D]")) if moment else UNKNOWN for moment in moments}
