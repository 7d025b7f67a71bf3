"""The archive's index: one SQLite file (WAL) that the center and its workers, several processes and threads each, share.

It says what is stored and what was refused, and (center/tables_books.py) what is in the tables. A row that says "stored" is itself
durable (synchronous=FULL). Writers wait for each other in the database, at most BUSY_S; readers never wait for a writer's disk.
"""

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

NAME = "index.sqlite"
BUSY_S = 60.0  # another process syncs its row; a disk's own stall counts too

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


class Index:
    """One process's two connections to the index, one for those who write and one for those who read. From any thread."""

    def __init__(self, folder: Path, read_only: bool = False) -> None:
        """Open or make it (`read_only`: it must be there); raises OSError, sqlite3.Error."""
        path = folder / NAME
        self.writing = threading.Lock()  # held while the disk syncs
        self._reading = threading.Lock()  # never held while the disk is waited for
        self._counts: dict[str, Counts] = {}  # the page asks every second; counting 100,000 rows takes 10 ms
        self._version = -1  # of the database, when they were counted
        with contextlib.ExitStack() as opened:
            if read_only and not path.is_file():
                raise FileNotFoundError(2, "no index", str(path))
            self._view = opened.enter_context(contextlib.closing(_connect(path)))
            if read_only:
                self._view.execute("PRAGMA query_only=ON")
            else:
                self._index = opened.enter_context(contextlib.closing(_connect(path)))
                self._index.execute("PRAGMA journal_mode=WAL")
                self._index.execute("PRAGMA synchronous=FULL")  # a row says "durable": it must be so itself
                self.script(SCHEMA)
            self._opened = opened.pop_all()

    def close(self) -> None:
        """Close both connections."""
        with self.writing, self._reading:
            self._opened.close()

    def script(self, statements: str) -> None:
        """Make tables and indexes that are not there yet."""
        with self.writing:
            self._index.executescript(statements)

    def rows(self, query: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """What a query finds, as of the last commit of anybody."""
        with self._reading:
            return self._view.execute(query, values).fetchall()

    def write(self, statement: str, values: Sequence[object] = ()) -> None:
        """One change, durable when this returns."""
        with self.writing:
            self._index.execute(statement, values)

    @contextlib.contextmanager
    def change(self) -> Iterator[sqlite3.Connection]:
        """Several changes, all or none, durable at the end of the context. What is read in it is read of this very state."""
        with self.writing:
            self._index.execute("BEGIN IMMEDIATE")
            try:
                yield self._index
            except BaseException:
                self._index.execute("ROLLBACK")
                raise
            self._index.execute("COMMIT")

    def counts(self, truck: str, count: Callable[[sqlite3.Connection], Counts]) -> Counts:
        """What `count` finds, remembered until anybody changes the index."""
        with self._reading:
            (version,) = self._view.execute("PRAGMA data_version").fetchone()
            if version != self._version:
                self._counts, self._version = {}, version
            if truck not in self._counts:
                self._counts[truck] = count(self._view)
            return self._counts[truck]


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=BUSY_S, check_same_thread=False, isolation_level=None)
