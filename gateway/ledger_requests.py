"""The ledger's tables for what the center asks: its requests, where the truck was, and segments that are no longer here.

Functions take the Ledger, as Books calls them; those of `forget` take its connection and run in its commit. Nothing here is the only copy:
a ledger begun anew looks into the segments again, and the hub has requests and answers.

Bounds: each table keeps its newest rows. A day of driving makes some 10,000 points of the track and up to 16,000 images segments."""

import sqlite3
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from gateway.ledger import Ledger, Segment

SCHEMA = """
CREATE TABLE requests (
  number INTEGER PRIMARY KEY AUTOINCREMENT, request_id TEXT NOT NULL UNIQUE, document TEXT NOT NULL, state TEXT NOT NULL DEFAULT '',
  marked TEXT NOT NULL DEFAULT '', answer TEXT NOT NULL DEFAULT '', published INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE track (
  number INTEGER PRIMARY KEY AUTOINCREMENT, boot TEXT NOT NULL, boottime_ns INTEGER NOT NULL, utc_ns INTEGER NOT NULL,
  latitude REAL NOT NULL, longitude REAL NOT NULL, UNIQUE (boot, boottime_ns)
);
CREATE INDEX track_by_latitude ON track (latitude);
CREATE TABLE clocks (
  boot TEXT PRIMARY KEY, boottime_ns INTEGER NOT NULL, utc_ns INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE looked (
  segment_id TEXT PRIMARY KEY, images INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE gone (
  number INTEGER PRIMARY KEY AUTOINCREMENT, segment_id TEXT NOT NULL UNIQUE, path TEXT NOT NULL, stream TEXT NOT NULL,
  size INTEGER NOT NULL, images INTEGER NOT NULL, first_boottime_ns INTEGER, last_boottime_ns INTEGER, last_utc_ns INTEGER,
  derived INTEGER NOT NULL, keep_every INTEGER NOT NULL, delivered INTEGER NOT NULL, successor TEXT NOT NULL
);
"""
REQUESTS_MOST = 4000  # twice what the hub keeps on a node: a request still read there is never forgotten here
TRACK_MOST = 200_000  # two weeks and more
GONE_MOST = 100_000


class Asked(NamedTuple):
    """A request that is entered. `document` and `answer` are JSON of sox.requests; `state` is that of the answer ("" before the first),
    `marked` what became of a bookmark's mark ("" before)."""

    request_id: str
    document: str
    state: str
    marked: str
    answer: str
    published: int


class Point(NamedTuple):
    """Where the truck was: BOOTTIME ns of a boot (its first 8 hex digits), UTC ns or 0, degrees."""

    boot: str
    boottime_ns: int
    utc_ns: int
    latitude: float
    longitude: float


class Kept(NamedTuple):
    """A segment with images, in the spool or gone. `state` is the ledger's, or "delivered", or "gone"; `successor` is the id of the one
    that stands in its place."""

    segment_id: str
    boot: str
    state: str
    size: int
    images: int
    first_boottime_ns: int
    last_boottime_ns: int
    derived: int
    keep_every: int
    successor: str
    requested: int


_ASKED = ", ".join(Asked._fields)
_KEPT = f"""
SELECT {", ".join(Kept._fields)} FROM (
  SELECT s.segment_id, substr(path, 1, 8) AS boot, state, size, images, first_boottime_ns, last_boottime_ns, place IS NOT NULL AS derived,
    iif(place IS NULL, 1, keep_every) AS keep_every, iif(state='superseded', reason, '') AS successor, requested
  FROM segments AS s JOIN looked USING (segment_id) WHERE stream='images'
  UNION ALL
  SELECT segment_id, substr(path, 1, 8), iif(delivered, 'delivered', 'gone'), size, images, first_boottime_ns, last_boottime_ns,
    derived, keep_every, successor, 0 FROM gone WHERE stream='images'
)"""


# -- requests


def known_requests(ledger: "Ledger") -> set[str]:
    """The ids of all requests that are entered."""
    return {row[0] for row in ledger.db.execute("SELECT request_id FROM requests")}


def enter_request(ledger: "Ledger", request_id: str, document: str, state: str = "", answer: str = "", published: bool = False) -> bool:
    """Enter a request; False if it is known. One that is already answered comes with its answer."""
    entered = ledger.db.execute(
        "INSERT OR IGNORE INTO requests (request_id, document, state, answer, published) VALUES (?,?,?,?,?)",
        (request_id, document, state, answer, published),
    ).rowcount
    ledger.db.execute("DELETE FROM requests WHERE number <= (SELECT max(number) FROM requests) - ?", (REQUESTS_MOST,))
    return bool(entered)


def open_requests(ledger: "Ledger", final: Sequence[str]) -> list[Asked]:
    """Requests whose answer is none of the `final` states, oldest first."""
    marks = ",".join("?" * len(final))
    return [Asked(*row) for row in ledger.db.execute(f"SELECT {_ASKED} FROM requests WHERE state NOT IN ({marks}) ORDER BY number", final)]


def marked(ledger: "Ledger", request_id: str, words: str) -> None:
    """The mark of a bookmark was made, or cannot be, as `words` say."""
    ledger.db.execute("UPDATE requests SET marked=? WHERE request_id=?", (words, request_id))


def answer(ledger: "Ledger", request_id: str, state: str, text: str) -> None:
    """The answer is now this one; it is to be published if it is another."""
    ledger.db.execute(
        "UPDATE requests SET state=?1, answer=?2, published=0 WHERE request_id=?3 AND (state<>?1 OR answer<>?2)", (state, text, request_id)
    )


def unpublished(ledger: "Ledger", limit: int = 100) -> list[Asked]:
    """Requests with an answer that the hub has not taken, oldest first."""
    rows = ledger.db.execute(f"SELECT {_ASKED} FROM requests WHERE answer<>'' AND NOT published ORDER BY number LIMIT ?", (limit,))
    return [Asked(*row) for row in rows]


def published(ledger: "Ledger", request_id: str, text: str) -> None:
    """The hub has taken the answer `text`; a newer one stays to be published."""
    ledger.db.execute("UPDATE requests SET published=1 WHERE request_id=? AND answer=?", (request_id, text))


# -- what the segments hold


def to_look(ledger: "Ledger", limit: int = 20) -> "list[Segment]":
    """Segments that nobody has looked into: the newest first, for their bytes are still in memory. No records of drops."""
    from gateway.ledger import Segment  # the ledger imports this module for its tables

    rows = ledger.db.execute(
        "SELECT * FROM segments WHERE segment_id NOT IN (SELECT segment_id FROM looked) ORDER BY seq DESC LIMIT ?", (limit,)
    )
    return [Segment(*row) for row in rows]


def looked(ledger: "Ledger", segment_id: str, images: int, times: tuple[int, int, int, int] | None, points: Sequence[Point]) -> None:
    """Write down what a segment holds, in one commit: its images, its times (first and last BOOTTIME and UTC ns, 0: unknown; None where it
    could not be read) unless it is described, and the truck's way."""
    db = ledger.db
    db.execute("BEGIN IMMEDIATE")
    try:
        if db.execute("SELECT 1 FROM segments WHERE segment_id=?", (segment_id,)).fetchone():  # else it went meanwhile
            db.execute("INSERT OR IGNORE INTO looked VALUES (?,?)", (segment_id, images))
        if times is not None:
            db.execute(
                "UPDATE segments SET first_boottime_ns=?, last_boottime_ns=?, first_utc_ns=?, last_utc_ns=?"
                " WHERE segment_id=? AND sha256 IS NULL",
                (*times, segment_id),
            )
        db.executemany("INSERT OR IGNORE INTO track (boot, boottime_ns, utc_ns, latitude, longitude) VALUES (?,?,?,?,?)", points)
        if times is not None and times[3]:
            db.execute(
                "INSERT INTO clocks SELECT substr(path, 1, 8), ?1, ?2 FROM segments WHERE segment_id=?3"
                " ON CONFLICT (boot) DO UPDATE SET boottime_ns=?1, utc_ns=?2 WHERE boottime_ns < ?1",
                (times[1], times[3], segment_id),
            )
        if points:
            db.execute("DELETE FROM track WHERE number <= (SELECT max(number) FROM track) - ?", (TRACK_MOST,))
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def remember_gone(db: sqlite3.Connection, segment_id: str, successor: str) -> None:
    """Before the row of a segment is deleted: remember it, and in whose place `successor` stands (""; receipted: delivered)."""
    db.execute(
        "INSERT OR REPLACE INTO gone (segment_id, path, stream, size, images, first_boottime_ns, last_boottime_ns, last_utc_ns,"
        " derived, keep_every, delivered, successor)"
        " SELECT segment_id, path, stream, size, ifnull((SELECT images FROM looked AS l WHERE l.segment_id=s.segment_id), 0),"
        " first_boottime_ns, last_boottime_ns, last_utc_ns, place IS NOT NULL, iif(place IS NULL, 1, keep_every), state='receipted', ?"
        " FROM segments AS s WHERE segment_id=?",
        (successor, segment_id),
    )
    db.execute("DELETE FROM looked WHERE segment_id=?", (segment_id,))
    db.execute("DELETE FROM gone WHERE number <= (SELECT max(number) FROM gone) - ?", (GONE_MOST,))


# -- what a request asks


def offsets(ledger: "Ledger") -> dict[str, int]:
    """UTC less BOOTTIME (ns) of each boot of which one is known: by its newest segment with a clock, for a clock is set right later."""
    return dict(ledger.db.execute("SELECT boot, utc_ns - boottime_ns FROM clocks"))


def points_near(ledger: "Ledger", south: float, north: float, west: float, east: float) -> list[Point]:
    """The truck's way within degrees of latitude and longitude, by boot and time; `west` may be greater than `east` (180° between)."""
    within = "longitude BETWEEN ?3 AND ?4" if west <= east else "(longitude >= ?3 OR longitude <= ?4)"
    rows = ledger.db.execute(
        "SELECT boot, boottime_ns, utc_ns, latitude, longitude FROM track"
        f" WHERE latitude BETWEEN ?1 AND ?2 AND {within} ORDER BY boot, boottime_ns",
        (south, north, west, east),
    )
    return [Point(*row) for row in rows]


def images_between(ledger: "Ledger", boot: str, first_ns: int, last_ns: int) -> list[Kept]:
    """Segments with images, here or gone, that hold messages of a boot between two boot times (ns), oldest first."""
    rows = ledger.db.execute(
        f"{_KEPT} WHERE boot=? AND images > 0 AND last_boottime_ns >= ? AND first_boottime_ns <= ? ORDER BY first_boottime_ns, segment_id",
        (boot, first_ns, last_ns),
    )
    return [Kept(*row) for row in rows]


def successor(ledger: "Ledger", segment_id: str) -> tuple[str, int, str] | None:
    """(state, keep_every, successor) of a segment that is here or gone, as in Kept; None if nothing is known of it."""
    row = ledger.db.execute(
        "SELECT state, keep_every, iif(state='superseded', reason, '') FROM segments WHERE segment_id=?1 UNION ALL"
        " SELECT iif(delivered, 'delivered', 'gone'), keep_every, successor FROM gone WHERE segment_id=?1 LIMIT 1",
        (segment_id,),
    ).fetchone()
    return (str(row[0]), int(row[1]), str(row[2])) if row else None


def recorded_between(ledger: "Ledger", boot: str, first_ns: int, last_ns: int) -> bool:
    """Whether anything at all was recorded of a boot between two boot times (ns)."""
    overlaps = "substr(path, 1, 8)=?1 AND last_boottime_ns >= ?2 AND first_boottime_ns <= ?3"
    row = ledger.db.execute(
        f"SELECT EXISTS (SELECT 1 FROM segments WHERE {overlaps}) OR EXISTS (SELECT 1 FROM gone WHERE {overlaps})",
        (boot, first_ns, last_ns),
    )
    return bool(row.fetchone()[0])


def without_clock(ledger: "Ledger", boots: Sequence[str]) -> int:
    """How many segments with images are of boots other than these: their UTC is not known."""
    marks = ",".join("?" * len(boots))
    row = ledger.db.execute(f"SELECT count(*) FROM ({_KEPT} WHERE images > 0 AND boot NOT IN ({marks}))", tuple(boots))
    return int(row.fetchone()[0])


def requested_bytes(ledger: "Ledger") -> int:
    """Bytes of images that were asked for and wait to be sent."""
    row = ledger.db.execute("SELECT total(size) FROM segments WHERE requested AND state IN ('sealed', 'refused')").fetchone()
    return int(row[0])


def still_to_look(ledger: "Ledger") -> int:
    """How many segments nobody has looked into."""
    row = ledger.db.execute("SELECT count(*) FROM segments WHERE segment_id NOT IN (SELECT segment_id FROM looked)").fetchone()
    return int(row[0])
