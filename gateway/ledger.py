"""The ledger: what happened to each sealed segment on its way to the center. Written by the uplink alone (or by the sweeper
that stands in for one that is not there, under the uplink's lock).

Promise: a segment is `receipted` only when the center's receipt said `stored` with our own SHA-256 and size. Everything else is
"not delivered", whatever a web server answered.

    sealed ──PUT answered 200/201──> uploaded ──announcement accepted by the hub──> announced ──receipt: stored──> receipted
      ^  └──refused REFUSALS_MAX times──> refused (set aside: visible, tried again every SET_ASIDE_SECONDS, blocks nothing)
      └────────────receipt: refused (bounded by the same count)─────────────┘
    sealed or refused ──a segment derived from it was found──> superseded (thinned, shrunk or dropped: never sent, its file may go)

Durability: SQLite, WAL, synchronous=FULL: a change that returned is on disk. Order of changes: a step is written down only after it
happened, so a cut repeats a step and never skips one; segment ids are item ids on the hub, so a repeated step is harmless.

Derived segments (gateway/sweeper.py) take the place of their originals, in the same commit: in the order of upload, and in the counters of
what was dropped. An original that is on its way or delivered is not replaced: then the derived one is superseded.

Recovery: nothing in here is the only copy. A ledger that is missing, damaged or of another version is put aside (`.damaged`) and
begun anew: the folder says which segments exist, the receipts node says which of them are delivered, the rest is uploaded again.

Limits: rows of deleted segments are removed and counted, so the ledger is as long as the spool is. The order of upload is the order of
entry (`seq`, or the `place` inherited from an original), not a clock: only after a rebuild does it rest on the files' modification times.
"""

import json
import sqlite3
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import NamedTuple

from gateway import ledger_budgets, ledger_outbox, ledger_requests
from gateway.clock import boottime_ns
from gateway.sweeper_derivation import ORIGINAL, Derivation
from sox.segments import STORED, Receipt

REFUSALS_MAX = 5  # refusals of one segment (by the hub's web server, its slot service or the center) until it is set aside
SET_ASIDE_SECONDS = 6 * 3600.0  # a hub wrongly configured for a day must not lose a segment for ever; 16 MB per 6 h cost little
LEDGER_NAME = "ledger.sqlite"
VERSION = 3
STATES = ("sealed", "uploaded", "announced", "receipted", "refused", "superseded")
KEEP_EVERY_MOST = 64  # thinning ends there: at 30 images a second one in two seconds is left

SCHEMA = """
CREATE TABLE segments (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  segment_id TEXT NOT NULL UNIQUE,
  path TEXT NOT NULL,
  stream TEXT NOT NULL,
  size INTEGER NOT NULL,
  sha256 TEXT,
  first_boottime_ns INTEGER, last_boottime_ns INTEGER, first_utc_ns INTEGER, last_utc_ns INTEGER,
  state TEXT NOT NULL DEFAULT 'sealed' CHECK (state IN ('sealed', 'uploaded', 'announced', 'receipted', 'refused', 'superseded')),
  url TEXT,
  refusals INTEGER NOT NULL DEFAULT 0,
  reason TEXT NOT NULL DEFAULT '',
  answered TEXT NOT NULL DEFAULT '',
  changed_boot TEXT NOT NULL,
  changed_boottime_ns INTEGER NOT NULL,
  place INTEGER,
  keep_every INTEGER NOT NULL DEFAULT 1,
  shrunk INTEGER NOT NULL DEFAULT 0,
  requested INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX by_state ON segments (state, seq);
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
"""
# Tables of other duties in the same file; their modules act on `Ledger.db`.
_BESIDE = ledger_outbox.SCHEMA + ledger_requests.SCHEMA + ledger_budgets.SCHEMA

# Counters for ever of what the sweeper did with segments that were not delivered; bytes are those it freed.
DROPPED = (
    "thinned_images", "thinned_bytes", "dropped_images", "dropped_images_bytes", "dropped_readings", "dropped_readings_bytes",
    "shrunk_segments", "shrunk_bytes",
)  # fmt: skip
_SEGMENTS = "SELECT * FROM segments"
_ORDER = "ifnull(place, seq), seq"
_UNSENT = "state IN ('sealed', 'refused')"
# The classes of segments in the order of upload (design 4: P2, P3, P4), and which rows are of each.
CLASSES = {
    "readings": "stream='readings'",
    "requested": "stream='images' AND requested",
    "images": "stream='images' AND NOT requested",
}


class Segment(NamedTuple):
    """One row. `path` is relative to the spool; times are BOOTTIME ns and UTC ns (0 = unknown), all None until described. `place`: the
    `seq` of the original whose place it has. `keep_every` and `shrunk`: how far thinning and shrinking have come with it. `requested`: the
    center asked for it."""

    seq: int
    segment_id: str
    path: str
    stream: str
    size: int
    sha256: str | None
    first_boottime_ns: int | None
    last_boottime_ns: int | None
    first_utc_ns: int | None
    last_utc_ns: int | None
    state: str
    url: str | None
    refusals: int
    reason: str
    answered: str
    changed_boot: str
    changed_boottime_ns: int
    place: int | None
    keep_every: int
    shrunk: int
    requested: int


class Found(NamedTuple):
    """A sealed segment as the folder shows it; `derived_from` are the ids of those in whose place it stands."""

    segment_id: str
    path: str
    stream: str
    size: int
    derived_from: tuple[str, ...] = ()
    derivation: Derivation = ORIGINAL


class Description(NamedTuple):
    """What a segment's bytes say: size in bytes, SHA-256 in hex, times (BOOTTIME ns, UTC ns or 0)."""

    size: int
    sha256: str
    first_boottime_ns: int
    last_boottime_ns: int
    first_utc_ns: int
    last_utc_ns: int


class Totals(NamedTuple):
    """Rows and bytes by state, what the sweeper deleted so far, the segments set aside (at most 20, oldest first), and what was dropped for
    ever, by reason (DROPPED)."""

    segments: dict[str, int]
    bytes: dict[str, int]
    deleted_segments: int
    deleted_bytes: int
    set_aside: list[dict[str, str]]
    dropped: dict[str, int]


def kernel_boot_id() -> str:
    """Which run of the kernel BOOTTIME belongs to."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


class Ledger:
    """The ledger in the file `path`. Not for two threads at once. Methods raise sqlite3.OperationalError when the disk refuses.

    `rebuilt` is the reason why a ledger was put aside at this start, or None.
    """

    def __init__(self, path: Path, boot: str | None = None, now: Callable[[], int] = boottime_ns) -> None:
        self._boot = boot or kernel_boot_id()
        self._now = now
        self.rebuilt: str | None = None
        try:
            self._db = _open(path)
        except _Damaged as damage:
            self.rebuilt = str(damage)
            for suffix in ("", "-wal", "-shm"):
                old = path.with_name(path.name + suffix)
                if old.exists():
                    old.replace(path.with_name(f"{path.name}.damaged{suffix}"))
            self._db = _open(path)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @property
    def db(self) -> sqlite3.Connection:
        """The database, for the modules with tables beside the segments'; in autocommit mode."""
        return self._db

    # -- what the folder says

    def add(self, found: Iterable[Found]) -> None:
        """Enter segments that are not yet known, in the order given, in one commit."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            for segment in _originals_first(list(found)):
                self._enter(segment)
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def _enter(self, found: Found) -> None:
        """One segment; if it is derived, in the place of its originals."""
        entered = self._db.execute(
            "INSERT OR IGNORE INTO segments (segment_id, path, stream, size, keep_every, shrunk, changed_boot, changed_boottime_ns)"
            " VALUES (?,?,?,?,?,?,?,?)",
            (*found[:4], found.derivation.keep_every, found.derivation.shrink != "no", self._boot, self._now()),
        )
        originals = [row for identity in found.derived_from if (row := self.segment(identity)) is not None]
        if not entered.rowcount or not originals:
            return
        if any(original.state not in ("sealed", "refused") for original in originals):
            self._change("state='superseded'", (), "segment_id=?", (found.segment_id,))
            return
        for original in originals:
            self._change("state='superseded', reason=?", (found.segment_id,), "segment_id=?", (original.segment_id,))
        place = min(original.seq if original.place is None else original.place for original in originals)
        requested = any(original.requested for original in originals)
        self._change("place=?, requested=?", (place, requested), "segment_id=?", (found.segment_id,))
        self._count(found, sum(original.size for original in originals) - found.size)

    def _count(self, found: Found, freed: int) -> None:
        match found.derivation.kind:
            case "thinning":
                self._add_to("thinned_images", found.derivation.dropped)
                self._add_to("thinned_bytes", freed)
            case "drop":
                self._add_to(f"dropped_{found.stream}", found.derivation.dropped)
                self._add_to(f"dropped_{found.stream}_bytes", freed)
            case "shrink":
                self._add_to("shrunk_segments", 1)
                self._add_to("shrunk_bytes", freed)

    def known(self) -> set[str]:
        """The ids of all rows."""
        return {row[0] for row in self._db.execute("SELECT segment_id FROM segments")}

    def describe(self, segment_id: str, description: Description) -> None:
        """Write down what the bytes of a segment say."""
        self._db.execute(
            "UPDATE segments SET size=?, sha256=?, first_boottime_ns=?, last_boottime_ns=?, first_utc_ns=?, last_utc_ns=?"
            " WHERE segment_id=?",
            (*description, segment_id),
        )

    # -- upload and announcement

    def segment(self, segment_id: str) -> Segment | None:
        """The row of `segment_id`."""
        row = self._db.execute("SELECT * FROM segments WHERE segment_id=?", (segment_id,)).fetchone()
        return Segment(*row) if row else None

    def next_upload(
        self, skip: frozenset[str] = frozenset(), set_aside_seconds: float = SET_ASIDE_SECONDS, classes: Collection[str] = tuple(CLASSES)
    ) -> Segment | None:
        """The segment of one of `classes` to upload now: in the order of CLASSES, oldest first; one that was set aside has its turn again
        after so long.

        Not only when nothing else waits: a truck may never catch up with its images. One refusal more puts it aside again.
        """
        rows = self._db.execute(
            "SELECT * FROM segments WHERE (state='sealed' OR (state='refused' AND (changed_boot<>? OR changed_boottime_ns<=?)))"
            f" AND ({' OR '.join(f'({CLASSES[name]})' for name in classes) or '0'})"
            f" ORDER BY stream<>'readings', NOT requested, {_ORDER}",
            (self._boot, self._now() - int(set_aside_seconds * 1e9)),
        )
        return next((segment for row in rows if (segment := Segment(*row)).segment_id not in skip), None)

    def request(self, segment_ids: Iterable[str]) -> None:
        """The center asked for these images: they are sent before others."""
        self._db.executemany("UPDATE segments SET requested=1 WHERE segment_id=? AND stream='images'", [(i,) for i in segment_ids])

    def uploaded(self, segment_id: str, url: str) -> None:
        """The web server answered the PUT with 200 or 201. Not a receipt. A receipt that came meanwhile stands."""
        self._change("state='uploaded', url=?", (url,), "segment_id=? AND state IN ('sealed', 'refused')", (segment_id,))

    def upload_refused(self, segment_id: str, reason: str) -> None:
        """Count a refusal of the hub; after REFUSALS_MAX of them the segment is set aside."""
        self._change(
            "state=CASE WHEN refusals+1>=? THEN 'refused' ELSE state END, refusals=refusals+1, reason=?",
            (REFUSALS_MAX, reason),
            "segment_id=? AND state IN ('sealed', 'refused')",
            (segment_id,),
        )

    def set_aside(self, segment_id: str, reason: str) -> None:
        """Set a segment aside at once: it cannot be sent as it is (gone, unreadable)."""
        self._change("state='refused', reason=?", (reason,), "segment_id=? AND state IN ('sealed', 'refused')", (segment_id,))

    def to_announce(self, repeat_seconds: float, limit: int = 100) -> list[Segment]:
        """Segments whose announcement is due: just uploaded, or announced `repeat_seconds` ago (or in another boot) and not receipted."""
        rows = self._db.execute(
            "SELECT * FROM segments WHERE state='uploaded'"
            " OR (state='announced' AND (changed_boot<>? OR changed_boottime_ns<=?)) ORDER BY state='announced', seq LIMIT ?",
            (self._boot, self._now() - int(repeat_seconds * 1e9), limit),
        )
        return [Segment(*row) for row in rows]

    def announced(self, segment_id: str, url: str) -> None:
        """The hub took the announcement of the upload at `url` (a refusal that came meanwhile has removed it and stands)."""
        self._change("state='announced'", (), "segment_id=? AND url=? AND state IN ('uploaded', 'announced')", (segment_id, url))

    def receipt(self, receipt: Receipt, answers_announcement: bool) -> str:
        """Take the center's receipt; returns what it changed, in one word or two.

        `answers_announcement`: the segment was announced on this connection, so that even a refusal equal to an earlier one counts
        anew; without it an equal one is the old item read again from the node. A segment must be described before `stored` can count.
        """
        segment = self.segment(receipt.segment_id)
        if segment is None:
            return "unknown"
        if segment.state == "receipted":
            return "duplicate"
        same = (receipt.sha256, receipt.size) == (segment.sha256, segment.size)
        if receipt.state == STORED and same:
            self._change("state='receipted', reason=''", (), "segment_id=?", (segment.segment_id,))
            return "delivered"
        answer = json.dumps(receipt)
        if segment.state not in ("uploaded", "announced") or (segment.answered == answer and not answers_announcement):
            return "stale"
        reason = f"center: {receipt.reason or 'refused'}" if receipt.state != STORED else "center stored another size or sha256"
        self._change(
            "state=CASE WHEN refusals+1>=? THEN 'refused' ELSE 'sealed' END, refusals=refusals+1, url=NULL, reason=?, answered=?",
            (REFUSALS_MAX, reason, answer),
            "segment_id=?",
            (segment.segment_id,),
        )
        return "set aside" if segment.refusals + 1 >= REFUSALS_MAX else "refused"

    # -- for the sweeper

    def deletable(self, limit: int = 100) -> list[Segment]:
        """Receipted segments, oldest first."""
        return self._rows(f"state='receipted' ORDER BY {_ORDER} LIMIT ?", limit)

    def superseded(self, limit: int = 100) -> list[Segment]:
        """Segments in whose place others stand: their files may go. Nothing but these and the receipted may be deleted."""
        return self._rows(f"state='superseded' ORDER BY {_ORDER} LIMIT ?", limit)

    def to_thin(self, limit: int = 100) -> list[Segment]:
        """Images that are not sent: the least thinned first, of them the oldest. Those that the center asked for only when no others are
        left: somebody waits for them."""
        return self._rows(
            f"{_UNSENT} AND stream='images' AND keep_every BETWEEN 1 AND ? AND (NOT requested OR NOT EXISTS (SELECT 1 FROM segments"
            f" WHERE {_UNSENT} AND stream='images' AND keep_every>0 AND NOT requested)) ORDER BY keep_every, {_ORDER} LIMIT ?",
            KEEP_EVERY_MOST // 2,
            limit,
        )

    def to_shrink(self, limit: int = 100) -> list[Segment]:
        """Images that were not yet sent or shrunk, newest first: the oldest, and those that were asked for, are sent next."""
        return self._rows(
            "state='sealed' AND stream='images' AND keep_every>0 AND NOT shrunk AND NOT requested ORDER BY ifnull(place, seq) DESC LIMIT ?",
            limit,
        )

    def to_drop(self, stream: str, limit: int = 100) -> list[Segment]:
        """Segments of `stream` that are not sent, oldest first; records of what was dropped are not among them, nor images that the center
        asked for, until they are as thin as can be (`to_thin`)."""
        return self._rows(
            f"{_UNSENT} AND stream=? AND keep_every>0 AND (NOT requested OR keep_every>=?) ORDER BY requested, {_ORDER} LIMIT ?",
            stream,
            KEEP_EVERY_MOST,
            limit,
        )

    def drop_records(self, stream: str, limit: int = 100) -> list[Segment]:
        """Records of what was dropped from `stream` that are not sent, oldest first."""
        return self._rows(f"{_UNSENT} AND stream=? AND keep_every=0 ORDER BY {_ORDER} LIMIT ?", stream, limit)

    def images_left(self) -> int:
        """Segments with images that are not delivered, those on their way included."""
        where = "stream='images' AND keep_every>0 AND state NOT IN ('receipted', 'superseded')"
        return int(self._db.execute(f"SELECT COUNT(*) FROM segments WHERE {where}").fetchone()[0])

    def unsent(self, segment_ids: Iterable[str]) -> set[str]:
        """Those of `segment_ids` that are neither delivered nor on their way nor superseded."""
        found = (self.segment(identity) for identity in segment_ids)
        return {row.segment_id for row in found if row is not None and row.state in ("sealed", "refused")}

    def tried(self, segment_id: str, keep_every: int, shrunk: bool) -> None:
        """Thinning to `keep_every`, or shrinking, would gain nothing: it is not tried again."""
        self._db.execute(
            "UPDATE segments SET keep_every=max(keep_every, ?), shrunk=max(shrunk, ?) WHERE segment_id=? AND keep_every>0",
            (keep_every, shrunk, segment_id),
        )

    def forget(self, segment_ids: Iterable[str]) -> int:
        """Receipted and superseded segments whose files are gone: rows of the first become counters, those of the second were counted
        when they were superseded. In one commit; others stay. Returns how many went."""
        gone = 0
        self._db.execute("BEGIN IMMEDIATE")
        try:
            for segment_id in segment_ids:
                row = self.segment(segment_id)
                if row is None or row.state not in ("receipted", "superseded"):
                    continue
                gone += 1
                ledger_requests.remember_gone(self._db, segment_id, row.reason if row.state == "superseded" else "")
                self._db.execute("DELETE FROM segments WHERE segment_id=?", (segment_id,))
                if row.state == "receipted":
                    self._add_to("deleted_segments", 1)
                    self._add_to("deleted_bytes", row.size)
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")
        return gone

    def totals(self) -> Totals:
        """Everything the status shows."""
        rows = self._db.execute("SELECT state, COUNT(*), SUM(size) FROM segments GROUP BY state").fetchall()
        counters = dict(self._db.execute("SELECT name, value FROM counters"))
        aside = self._db.execute("SELECT segment_id, reason FROM segments WHERE state='refused' ORDER BY seq LIMIT 20")
        return Totals(
            dict.fromkeys(STATES, 0) | {state: count for state, count, _ in rows},
            dict.fromkeys(STATES, 0) | {state: size for state, _, size in rows},
            counters.get("deleted_segments", 0),
            counters.get("deleted_bytes", 0),
            [{"segment_id": segment_id, "reason": reason} for segment_id, reason in aside],
            {name: counters.get(name, 0) for name in DROPPED},
        )

    # -- item ids of the nodes that keep one item

    def reserve_ids(self, at_least: int, count: int) -> int:
        """Reserve `count` rising item ids, durably; returns the first, which is >= `at_least` and above all reserved before."""
        row = self._db.execute("SELECT value FROM counters WHERE name='next_item_id'").fetchone()
        first = max(row[0] if row else 1, at_least)
        self._db.execute("INSERT OR REPLACE INTO counters (name, value) VALUES ('next_item_id', ?)", (first + count,))
        return first

    def _rows(self, where: str, *values: object) -> list[Segment]:
        return [Segment(*row) for row in self._db.execute(f"{_SEGMENTS} WHERE {where}", values)]

    def _add_to(self, counter: str, amount: int) -> None:
        self._db.execute(
            "INSERT INTO counters (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
            (counter, amount),
        )

    def _change(self, assignments: str, values: tuple[object, ...], where: str, keys: tuple[object, ...]) -> None:
        self._db.execute(
            f"UPDATE segments SET {assignments}, changed_boot=?, changed_boottime_ns=? WHERE {where}",
            (*values, self._boot, self._now(), *keys),
        )


def _originals_first(found: list[Found]) -> list[Found]:
    """The same segments, each behind those in whose place it stands: a clock that stepped may have given them any order."""
    waiting = {segment.segment_id: segment for segment in found}
    ordered: list[Found] = []

    def enter(segment: Found) -> None:
        for identity in segment.derived_from:
            if (original := waiting.pop(identity, None)) is not None:
                enter(original)
        ordered.append(segment)

    while waiting:
        enter(waiting.pop(next(iter(waiting))))
    return ordered


class _Damaged(Exception):
    """Why a ledger file cannot be used."""


def _open(path: Path) -> sqlite3.Connection:
    """The database, its tables made if new; raises _Damaged, or OperationalError when the disk refuses."""
    try:
        path.touch(mode=0o600)  # addresses of objects are capabilities; SQLite gives its other files the mode of this one
    except OSError as error:
        raise sqlite3.OperationalError(f"{path}: {error.strerror}") from error
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0)
    try:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0 and not db.execute("SELECT 1 FROM sqlite_master").fetchone():
            db.executescript(f"BEGIN IMMEDIATE; {SCHEMA} {_BESIDE} PRAGMA user_version={VERSION}; COMMIT;")
            return db
        if version != VERSION:
            raise _Damaged(f"ledger of version {version}, not {VERSION}")
        check = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if check != "ok":
            raise _Damaged(f"ledger damaged: {check}")
    except _Damaged:
        db.close()
        raise
    except sqlite3.OperationalError:  # disk full, locked, read-only: not damage, and not repaired by a new file
        db.close()
        raise
    except sqlite3.DatabaseError as error:
        db.close()
        raise _Damaged(f"ledger damaged: {error}") from error
    return db
