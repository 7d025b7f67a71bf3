"""The oracle of the uplink's proofs: it owes every sealed segment, by the bytes in the spool when it was sealed.

    oracle = Oracle("truck-1", spool, archive, graveyard)
    oracle.owe(path)            # after it was sealed
    with oracle.watching(): ... # while anything may be killed, looks every LOOK_SECONDS
    oracle.verdict()

It reads three places and believes none of the processes: the spool's files, the archive's files, the ledger. At each look:

  - what the ledger counts as delivered must be in the archive, with the bytes owed;
  - what is no longer in the spool must be in the archive (or be replaced by a derived segment that names it: thinned, or dropped with a
    record). Nothing else may ever be deleted. Derived segments are replaced themselves, within milliseconds at times: those that are
    gone are read in the graveyard, where each file gets a second name before the sweeper takes its first (uplink_faults_process.py).

At the end: everything owed (derived segments are owed in the place of their originals) is in the archive once, nothing else is, and the
books balance to the byte:

    sealed = receipted + deleted as delivered + backlog + freed by thinning, dropping, shrinking
"""

import hashlib
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from gateway.ledger import LEDGER_NAME
from gateway.sweeper_derivation import derived_identity

LOOK_SECONDS = 0.1
_FREED = ("thinned_bytes", "dropped_images_bytes", "dropped_readings_bytes", "shrunk_bytes")


class Owed(NamedTuple):
    """What was sealed."""

    segment_id: str
    path: Path
    size: int
    sha256: str
    derived_from: tuple[str, ...]


class Books(NamedTuple):
    """The ledger in bytes: sealed by the oracle's count, and where the ledger says that they are."""

    sealed: int
    receipted: int
    deleted: int
    backlog: int
    freed: int

    @property
    def off(self) -> int:
        """By how many bytes they do not balance."""
        return self.sealed - self.receipted - self.deleted - self.backlog - self.freed


class Verdict(NamedTuple):
    """What came of it: segments owed at the end, and the ids of those with which something is wrong."""

    segments: int
    lost: list[str]
    duplicated: list[str]
    damaged: list[str]
    unowed: list[str]
    deleted_unreceipted: list[str]
    receipted_unstored: list[str]
    books: Books | None

    @property
    def problems(self) -> list[str]:
        """All of it in words; empty: the promise was kept."""
        said = [
            f"{name.replace('_', ' ')}: {', '.join(sorted(ids))}" for name, ids in self._asdict().items() if isinstance(ids, list) and ids
        ]
        if self.books is None:
            said.append("no ledger")
        elif self.books.off:
            said.append(f"the books are off by {self.books.off} bytes: {self.books}")
        return said


class Oracle:
    """Of one truck. Not before the archive's folder has its final place; the archive may be made later."""

    def __init__(self, truck: str, spool: Path, archive: Path, graveyard: Path) -> None:
        self._truck, self._spool, self._archive, self._graveyard = truck, spool, archive, graveyard
        self._lock = threading.Lock()
        self._owed: dict[str, Owed] = {}
        self._digests: dict[tuple[Path, int, int], str] = {}
        self._deleted: set[str] = set()
        self._unstored: set[str] = set()
        self._replaced: dict[str, set[str]] = {}  # original -> derived segments that name it
        self.ever_counted: set[str] = set()  # as delivered, at any look

    @property
    def owed(self) -> dict[str, Owed]:
        """Everything sealed so far, replaced originals included."""
        return dict(self._owed)

    def owe(self, path: Path) -> str:
        """Owe a sealed file; returns its id."""
        segment_id = f"{self._truck}-{path.parent.name}-{path.stem}"
        data = path.read_bytes()
        identity = derived_identity(path)
        originals = tuple(identity.derived_from.split()) if identity is not None else ()
        with self._lock:
            self._enter(Owed(segment_id, path, len(data), hashlib.sha256(data).hexdigest(), originals))
        return segment_id

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look again and again until the end."""
        over = threading.Event()
        failed: list[BaseException] = []

        def work() -> None:
            try:
                while not over.wait(LOOK_SECONDS):
                    self.look()
            except BaseException as error:  # noqa: BLE001  raised again where it is seen
                failed.append(error)

        thread = threading.Thread(target=work, name="oracle", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
        if failed:
            raise failed[0]

    def look(self) -> None:
        """One look: what is said first and what it rests on after, so that a step in between cannot be taken for a fault."""
        self._find_derived()
        counted = self.counted()
        self.ever_counted |= counted
        gone = [owed for owed in self.owed.values() if not owed.path.exists()]
        held = self.archived()
        for segment_id in counted - self._unstored:
            if segment_id in self._owed and not self._whole(segment_id, held):
                self._unstored.add(segment_id)
        missing = [
            owed for owed in gone if not self._whole(owed.segment_id, held) and not self._too_late(owed.segment_id, held, there=True)
        ]
        if any(owed.segment_id not in self._replaced for owed in missing):
            self._find_derived()  # what was derived since: a derived segment is in the spool before its originals go
        self._deleted.update(owed.segment_id for owed in missing if owed.segment_id not in self._replaced)

    def delivered(self, segment_ids: set[str] | None = None) -> bool:
        """Whether the ledger counts all of these (all owed and not replaced) as delivered."""
        wanted = {i for i in self.owed if i not in self._replaced} if segment_ids is None else segment_ids
        present = {i for i in wanted if self._owed[i].path.exists()}
        return present <= self.counted()

    def counted(self) -> set[str]:
        """What the ledger counts as delivered and has not forgotten."""
        return {row[0] for row in self._rows("SELECT segment_id FROM segments WHERE state='receipted'")}

    def receipted_at(self) -> list[tuple[int, str]]:
        """When each of those became so (BOOTTIME ns)."""
        return self._rows("SELECT changed_boottime_ns, segment_id FROM segments WHERE state='receipted'")

    def stored(self, segment_id: str) -> bool:
        """Whether it is in the archive as it was sealed."""
        return self._whole(segment_id, self.archived())

    def archived(self) -> dict[str, list[Path]]:
        """The archive's files of this truck, by segment id."""
        found: dict[str, list[Path]] = {}
        for path in self._archive.rglob("*.mcap"):
            if path.stem.startswith(f"{self._truck}-") and not any(part.startswith("_") for part in path.relative_to(self._archive).parts):
                found.setdefault(path.stem, []).append(path)
        return found

    def books(self) -> Books | None:
        """The ledger's account, None where there is no ledger to read. Derived segments are not sealed by the recorder: originals are."""
        rows = dict(self._rows("SELECT state, total(size) FROM segments GROUP BY state"))
        counters = dict(self._rows("SELECT name, value FROM counters"))
        if not rows and not counters:
            return None
        sealed = sum(owed.size for owed in self.owed.values() if not owed.derived_from)
        backlog = sum(size for state, size in rows.items() if state not in ("receipted", "superseded"))
        freed = sum(counters.get(name, 0) for name in _FREED)
        return Books(sealed, int(rows.get("receipted", 0)), counters.get("deleted_bytes", 0), int(backlog), freed)

    def verdict(self) -> Verdict:
        """The end: call it when the processes have ended in order."""
        self.look()
        held = self.archived()
        wanted = {i for i in self.owed if i not in self._replaced}
        return Verdict(
            segments=len(wanted),
            lost=[i for i in wanted if not self._kept(i, held)],
            duplicated=[i for i, paths in held.items() if len(paths) > 1] + self._indexed_twice(),
            damaged=[i for i in wanted if i in held and not self._whole(i, held)],
            unowed=[i for i in held if i not in self._owed],
            deleted_unreceipted=sorted(self._deleted),
            receipted_unstored=sorted(self._unstored),
            books=self.books(),
        )

    def _kept(self, segment_id: str, held: dict[str, list[Path]]) -> bool:
        """Whether it is in the archive, or, where a derived one came too late to replace them, its originals are."""
        return segment_id in held or self._too_late(segment_id, held)

    def _too_late(self, segment_id: str, held: dict[str, list[Path]], there: bool = False) -> bool:
        """Whether a derived segment came when one of its originals was on its way: then it stands for none of them, and each goes its own
        way: into the archive, or into another derived segment that does. `there`: or it is still in the spool."""
        originals = self._owed[segment_id].derived_from
        return bool(originals) and all(self._goes_on(original, held, there, {segment_id}) for original in originals)

    def _goes_on(self, segment_id: str, held: dict[str, list[Path]], there: bool, without: set[str]) -> bool:
        if self._whole(segment_id, held) or (there and self._owed[segment_id].path.exists()):
            return True
        others = self._replaced.get(segment_id, set()) - without
        return any(self._goes_on(other, held, there, without | {other}) for other in others)

    def _find_derived(self) -> None:
        for path in [*self._spool.glob("[!.]*/*.mcap"), *self._graveyard.iterdir()]:
            self._derived(path)

    def _derived(self, path: Path) -> None:
        """Owe a derived segment when it is first seen."""
        segment_id = path.stem if path.stem.startswith(f"{self._truck}-") else f"{self._truck}-{path.parent.name}-{path.stem}"
        if segment_id in self._owed:
            return
        try:
            identity = derived_identity(path)
            if identity is None:
                return
            data = path.read_bytes()
        except FileNotFoundError:  # gone since it was listed
            return
        place = self._spool / segment_id.removeprefix(f"{self._truck}-")[:17] / f"{segment_id.removeprefix(f'{self._truck}-')[18:]}.mcap"
        originals = tuple(identity.derived_from.split())
        with self._lock:
            self._enter(Owed(segment_id, place, len(data), hashlib.sha256(data).hexdigest(), originals))

    def _enter(self, owed: Owed) -> None:
        self._owed[owed.segment_id] = owed
        for original in owed.derived_from:
            self._replaced.setdefault(original, set()).add(owed.segment_id)

    def _whole(self, segment_id: str, held: dict[str, list[Path]]) -> bool:
        owed, paths = self._owed[segment_id], held.get(segment_id, [])
        return bool(paths) and all(self._digest(path) == owed.sha256 for path in paths)

    def _digest(self, path: Path) -> str:
        stat = path.stat()
        key = path, stat.st_size, stat.st_mtime_ns
        if key not in self._digests:
            with path.open("rb") as file:
                self._digests[key] = hashlib.file_digest(file, "sha256").hexdigest()
        return self._digests[key]

    def _indexed_twice(self) -> list[str]:
        """Segments whose content stands in the archive under two ids."""
        by_content: dict[str, list[str]] = {}
        for segment_id, paths in self.archived().items():
            by_content.setdefault(self._digest(paths[0]), []).append(segment_id)
        return [segment_id for ids in by_content.values() if len(ids) > 1 for segment_id in ids]

    def _rows(self, query: str) -> list[tuple]:
        """From the ledger, read only; nothing while it cannot be read (not there yet, being begun anew)."""
        path = self._spool / LEDGER_NAME
        if not path.exists():
            return []
        try:
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=2)) as db:
                return db.execute(query).fetchall()
        except sqlite3.OperationalError:
            return []
