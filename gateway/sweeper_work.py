"""The single steps of the sweeper, each over a line to the uplink: delete, thin, drop, shrink. Their order is gateway/sweeper.py's."""

import logging
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from gateway import config, shrink, thinning
from gateway.clock import boottime_ns
from gateway.ledger import KEEP_EVERY_MOST, kernel_boot_id
from gateway.sweeper_derive import Content, Unfit, Writer, is_image, is_note, load, publish
from gateway.sweeper_disk import Reserve, free_bytes, is_full, remove
from gateway.sweeper_events import Events
from gateway.thinning import Derived
from gateway.uplink_desk import ASK_MOST
from gateway.uplink_socket import Line, NoUplink, Refused
from logbook.segment_writer import Entry

BATCH = 50  # segments in one question; the pressure is measured anew after each
DROP_BATCH = 20  # segments that one record tells of at a time
SETTLED_NS = 60_000_000_000  # an event is on the disk by then: the head's ring and a stalling disk hold it back for some seconds
RECORD_BYTES = 256_000  # a record of drops that has so many bytes takes up no more: some 2,000 segments
RECORD_COSTS = 16_000  # a record with its head and summary takes some 7 kB: so much more is dropped, or nothing would be gained
RECORD_ROOM = 1_000_000  # of the reserve, for records and the ledger; thinning leaves it alone
OVERHEAD_BYTES = 64_000  # head, marks and summary of a derived segment, generously

_RELATIVE = re.compile(r"[A-Za-z0-9-]+/\d{6,}-[a-z]+\.mcap")

log = logging.getLogger("sweeper")


class Offered(msgspec.Struct, frozen=True):
    """A segment as the uplink names it; `path` in the spool."""

    segment_id: str
    path: str
    size: int
    keep_every: int

    @property
    def boot(self) -> str:
        """The first 8 hex digits of the kernel's boot in which it was recorded."""
        return self.path.partition("-")[0]


# What this process did, for the status; bytes are those that became free.
COUNTS = (
    "deleted_segments", "deleted_bytes", "thinned_segments", "thinned_images", "thinned_bytes",
    "dropped_images_segments", "dropped_images", "dropped_images_bytes",
    "dropped_readings_segments", "dropped_readings", "dropped_readings_bytes", "shrunk_segments", "shrunk_bytes",
)  # fmt: skip


class Work:
    """The steps for one truck. `kept`: segments that could go and do not (the disk refuses, or the file is not what the ledger knows)."""

    def __init__(self, truck: config.Truck) -> None:
        self._truck = truck
        self._spool = Path(truck.spool)
        self._writer = Writer(self._spool, truck.name)
        self._events = Events(self._spool)
        self._boot = kernel_boot_id()[:8]
        self.reserve = Reserve(self._spool, truck.thinning_reserve_bytes)
        self.counts: Counter[str] = Counter()
        self.kept: set[str] = set()
        self.last_deleted: str | None = None
        self._later: set[str] = set()  # not now: too young, or in other hands
        self._known_events: dict[str, list[int]] = {}

    def begin(self) -> None:
        """A new sweep: what was to wait is looked at again. Raises OSError."""
        self._later.clear()
        self._known_events.clear()
        self._writer.clear()
        self.reserve.grow()

    # -- what may be deleted

    def delete(self, line: Line, state: str, enough: int) -> int:
        """Delete segments that are `deletable` (receipted) or `superseded`, oldest first, until `enough` bytes are gone; returns the bytes.

        Raises NoUplink, Refused, OSError."""
        freed = 0
        while freed < enough:
            gone: list[Offered] = []
            for segment in self._ask(line, {"ask": state}):
                if freed >= enough:
                    break
                if self._delete(segment, state):
                    freed += segment.size
                    gone.append(segment)
            if not gone:
                break
            line.ask({"tell": "deleted", "segment_ids": [segment.segment_id for segment in gone]})
        return freed

    def _delete(self, segment: Offered, state: str) -> bool:
        """Delete the file of one segment, and first keep its events; False if it stays."""
        path = self._spool / segment.path
        try:
            self._check(path, segment)
            self._events.keep(segment.path)
            remove([path])
        except FileNotFoundError:
            return True
        except (OSError, _NotOurs) as trouble:
            self._keep(segment, trouble)
            return False
        self.kept.discard(segment.segment_id)
        log.info("deleted %s (%d bytes): %s", segment.path, segment.size, "receipted" if state == "deletable" else state)
        if state == "deletable":
            self.counts["deleted_segments"] += 1
            self.counts["deleted_bytes"] += segment.size
            self.last_deleted = segment.segment_id
        return True

    # -- what is not sent

    def thin(self, line: Line) -> int:
        """Thin one segment, or neighbours into one where that has room for them, so that files get fewer as images do; returns the bytes
        that became free, 0 if there is none to be thinned. Raises NoUplink, Refused, OSError."""
        while offered := self._free(line, "thinning", "images"):
            with self._taken(line, self._neighbours(offered)) as taken:
                thinned = [(segment, left) for segment in taken if (left := self._thinned(line, segment)) is not None]
                together = [(segment, left) for segment, left in thinned if thinning.fit(thinned[0][1], left)]
                if together:
                    derived = thinning.merge([left for _, left in together])
                    freed = self._replace(line, [segment for segment, _ in together], derived)
                    self.counts["thinned_segments"] += len(together)
                    self.counts["thinned_images"] += derived.derivation.dropped
                    self.counts["thinned_bytes"] += freed
                    return freed
        return 0

    def drop(self, line: Line, stream: str, enough: int) -> int:
        """Drop the oldest segments of `stream` until `enough` bytes are free, as many as one record takes; returns the bytes.

        Raises NoUplink, Refused, OSError."""
        offered = self._free(line, "dropping", stream)
        if not offered:
            return 0
        boot = offered[0].boot
        victims: list[Offered] = []
        for segment in offered:
            if segment.boot != boot or len(victims) == DROP_BATCH or sum(victim.size for victim in victims) >= enough + RECORD_COSTS:
                break
            victims.append(segment)
        records = [record for record in self._free(line, "records", stream) if record.boot == boot and record.size < RECORD_BYTES]
        with self._taken(line, [*victims, *records[:1]]) as taken:
            gaps: list[Entry] = []
            notes: list[Entry] = []
            boot_id = ""
            originals: list[Offered] = []
            for segment in taken:
                try:
                    content = load(self._spool / segment.path)
                except (Unfit, FileNotFoundError) as why:
                    gaps += thinning.lost_unread(segment.segment_id, stream, str(why))
                except OSError as trouble:
                    self._keep(segment, trouble)
                    continue
                else:
                    boot_id = content.identity.boot_id
                    notes += [entry for entry in content.entries if is_note(entry.topic)]
                    gaps += thinning.lost(content)
                originals.append(segment)
            dropped = [segment for segment in originals if segment.keep_every]
            if not dropped:
                return 0
            derived = thinning.drop_record(stream, boot_id, gaps, notes)
            log.warning("dropping %d segments of %s, from %s on: the disk is full", len(dropped), stream, dropped[0].path)
            freed = self._replace(line, originals, derived)
            for name, value in (("_segments", len(dropped)), ("", derived.derivation.dropped), ("_bytes", freed)):
                self.counts[f"dropped_{stream}{name}"] += value
            return freed

    def shrink(self, line: Line, go_on: Callable[[], bool]) -> bool:
        """Shrink one segment; False if none is left, or the truck is on its way again. Raises NoUplink, Refused, OSError."""
        while offered := self._free(line, "shrinking", "images"):
            for segment in offered:
                with self._taken(line, [segment]) as taken:
                    try:
                        derived = self._shrunk(line, segment, go_on) if taken else None
                    except shrink.Interrupted:
                        return False
                    if derived is not None:
                        self.counts["shrunk_bytes"] += self._replace(line, [segment], derived)
                        self.counts["shrunk_segments"] += 1
                        return True
        return False

    # -- in between

    def _neighbours(self, offered: list[Offered]) -> list[Offered]:
        """The first segment, and those right behind it of which the halves fill one segment with its half."""
        first = offered[0]
        size = 0
        for count, segment in enumerate(offered):
            size += segment.size
            if count and (
                size > 2 * self._truck.images_segment_bytes or (segment.boot, segment.keep_every) != (first.boot, first.keep_every)
            ):
                return offered[:count]
        return offered

    def _thinned(self, line: Line, segment: Offered) -> Derived | None:
        """What is left of a segment that was taken; None if it is not thinned now."""
        content = self._load(line, segment, KEEP_EVERY_MOST, shrunk=False)
        if content is None:
            return None
        newest = max((entry.log_time for entry in content.entries if is_image(entry.topic)), default=0)
        if segment.boot == self._boot and newest > boottime_ns() - SETTLED_NS:
            self._later.add(segment.segment_id)
            return None
        if segment.boot not in self._known_events:
            self._known_events[segment.boot] = self._events.of_boot(segment.boot)
        derived = thinning.thin(content, self._known_events[segment.boot])
        if derived is None:
            self._tried(line, segment, 2 * segment.keep_every, shrunk=False)
        return derived

    def _shrunk(self, line: Line, segment: Offered, go_on: Callable[[], bool]) -> Derived | None:
        content = self._load(line, segment, segment.keep_every, shrunk=True)
        if content is None:
            return None
        derived = shrink.shrink(content, self._truck.shrink, go_on)
        if derived is None:
            self._tried(line, segment, segment.keep_every, shrunk=True)
        return derived

    def _load(self, line: Line, segment: Offered, keep_every: int, shrunk: bool) -> Content | None:
        """A whole segment; None, and it is not tried again, for one that is not: a copy of it would look as if nothing were missing."""
        try:
            content = load(self._spool / segment.path)
            problem = content.problem
        except (Unfit, FileNotFoundError) as unfit:
            problem = str(unfit)
        except OSError as trouble:
            self._keep(segment, trouble)
            return None
        if not problem:
            return content
        log.warning("%s stays as it is: %s", segment.path, problem)
        self._tried(line, segment, keep_every, shrunk)
        return None

    def _replace(self, line: Line, originals: list[Offered], derived: Derived) -> int:
        """Let `derived` stand in the place of segments that were taken; returns the bytes that became free. Raises OSError, NoUplink."""
        identities = [segment.segment_id for segment in originals]
        size = sum(len(entry.data) + 100 for entry in derived.entries) + OVERHEAD_BYTES
        leave = 0 if derived.derivation.kind == "drop" else RECORD_ROOM
        written, place = self._write(derived, identities, originals[0].path, size, leave)
        if set(line.ask({"ask": "take", "segment_ids": identities})["taken"]) != set(identities):
            remove([written])
            raise NoUplink("it gave away what was taken")
        costs = written.stat().st_size
        publish(written, place)
        self._look(line)
        freed = self.delete(line, "superseded", sum(segment.size for segment in originals))
        self.reserve.grow()
        return freed - costs

    def _write(self, derived: Derived, identities: list[str], path: str, size: int, leave: int) -> tuple[Path, Path]:
        """A sealed derived segment, from the reserve where the disk has not enough. Raises OSError."""

        def write() -> tuple[Path, Path]:
            return self._writer.write(derived.content, identities, path, derived.derivation, derived.entries)

        if free_bytes(self._spool) < max(size, self._truck.free_reserve_bytes):
            self.reserve.lend(size, leave)
        try:
            return write()
        except OSError as error:
            # The file system said that there was room: quotas, reserved blocks, or another program that was quicker.
            if not is_full(error) or not self.reserve.lend(size, leave):
                raise
        return write()

    def _look(self, line: Line) -> None:
        """The uplink enters the derived segment. Its ledger needs room too. Raises NoUplink, Refused."""
        try:
            line.ask({"tell": "look"})
        except Refused as refused:
            log.warning("%s", refused)
            self.reserve.lend(RECORD_ROOM)
            line.ask({"tell": "look"})

    @contextmanager
    def _taken(self, line: Line, segments: list[Offered]) -> Iterator[list[Offered]]:
        """Those of `segments` that are ours for a while; the others wait for a later sweep."""
        identities = [segment.segment_id for segment in segments]
        taken = set(line.ask({"ask": "take", "segment_ids": identities})["taken"])
        self._later.update(identity for identity in identities if identity not in taken)
        try:
            yield [segment for segment in segments if segment.segment_id in taken]
        finally:
            with suppress(NoUplink):  # then everything is given back
                line.ask({"tell": "given back", "segment_ids": sorted(taken)})

    def _free(self, line: Line, purpose: str, stream: str) -> list[Offered]:
        """Segments for a purpose, without those that stay out of this sweep."""
        offered = self._ask(line, {"ask": "unsent", "purpose": purpose, "stream": stream})
        return [segment for segment in offered if segment.segment_id not in self._later and segment.segment_id not in self.kept]

    def _ask(self, line: Line, request: dict[str, Any]) -> list[Offered]:
        """The uplink's list. Those that cannot go are always the first: they must not hide the others."""
        limit = min(BATCH + len(self.kept) + len(self._later), ASK_MOST)
        try:
            return msgspec.convert(line.ask({**request, "limit": limit})["segments"], list[Offered])
        except (KeyError, msgspec.ValidationError) as error:
            raise Refused(f"the uplink's answer is no list of segments: {error}") from error

    def _tried(self, line: Line, segment: Offered, keep_every: int, shrunk: bool) -> None:
        line.ask({"tell": "tried", "segment_id": segment.segment_id, "keep_every": keep_every, "shrunk": shrunk})

    def _keep(self, segment: Offered, why: Exception) -> None:
        if segment.segment_id not in self.kept:
            log.error("kept %s: %s", segment.path, why)
        self.kept.add(segment.segment_id)

    def _check(self, path: Path, segment: Offered) -> None:
        """Raises _NotOurs if it is not exactly the file that the ledger knows, OSError."""
        if not _RELATIVE.fullmatch(segment.path):
            raise _NotOurs("not the path of a sealed segment")
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode) or found.st_size != segment.size:
            raise _NotOurs(f"not the file that the ledger knows (size {found.st_size}, known {segment.size})")


class _NotOurs(Exception):
    """Why a file is not deleted."""
