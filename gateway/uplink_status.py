"""What the status says beside what each part says of itself (docs/formats.md 6): the backlog by class and its oldest segment, the rate at
which the center receipts, the recorder's state as its newest snapshot tells it, the disk. And how status files are written: one JSON
object, replaced as a whole, never half-written."""

import asyncio
import logging
import os
from collections import deque
from pathlib import Path
from typing import Any

import msgspec
from mcap.exceptions import McapError
from mcap.reader import make_reader

from gateway import ledger_view
from gateway.clock import NANO, boottime_ns
from gateway.ledger import Segment, kernel_boot_id
from gateway.uplink_books import Books

LOOK_SECONDS = 5.0  # a look takes 16 ms of the ledger where 20,000 segments wait
RATE_STEP_NS = 10 * NANO
RATE_STEPS = 60  # so the rate is of the last ten minutes in which something waited
RATE_LEAST_NS = 5 * NANO  # a rate over less says nothing

log = logging.getLogger("uplink")


def write_json(path: Path, status: dict[str, Any]) -> None:
    """Replace `path` by `status`. Not synced: a status is worth nothing after a power cut."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(msgspec.json.encode(status) + b"\n")
    temporary.replace(path)


class Rate:
    """Bytes/s that the center receipts, over the newest time in which something waited (RATE_STEPS * RATE_STEP_NS of it): while nothing
    waits it neither rises nor falls, in a tunnel it falls."""

    def __init__(self) -> None:
        self._steps: deque[list[int]] = deque(maxlen=RATE_STEPS)  # busy ns, bytes
        self._last: tuple[int, int] | None = None

    def add(self, now_ns: int, delivered_bytes: int, waits: bool) -> None:
        """`delivered_bytes` for ever at boot time `now_ns`; `waits`: there was a backlog until now."""
        if self._last is not None:
            then_ns, before = self._last
            if waits or delivered_bytes > before:
                if not self._steps or self._steps[-1][0] >= RATE_STEP_NS:
                    self._steps.append([0, 0])
                self._steps[-1][0] += now_ns - then_ns
                self._steps[-1][1] += max(0, delivered_bytes - before)
        self._last = now_ns, delivered_bytes

    @property
    def bytes_per_s(self) -> float | None:
        """None as long as too little is known."""
        busy = sum(step[0] for step in self._steps)
        return sum(step[1] for step in self._steps) * NANO / busy if busy >= RATE_LEAST_NS else None


class View:
    """Looks every `look_seconds`; `status()` is the last look."""

    def __init__(self, spool: Path, books: Books, look_seconds: float = LOOK_SECONDS) -> None:
        self._spool = spool
        self._books = books
        self._look_seconds = look_seconds
        self._boot = kernel_boot_id()[:8]
        self._rate = Rate()
        self._snapshot: dict[str, Any] = {}
        self._heard_ns = 0
        self._oldest: tuple[str, int, int] = ("", 0, 0)  # segment id, boot time and UTC of its first message
        self._found: dict[str, Any] = {"classes": None, "oldest": None, "delivered_bytes": None, "receipted_bytes_per_s": None,
                                       "disk_free_bytes": None}  # fmt: skip

    def on_datagram(self, datagram: dict[str, Any]) -> None:
        """Any datagram of the recorder; the snapshots tell its state."""
        if "kind" not in datagram:
            self._snapshot, self._heard_ns = datagram, boottime_ns()

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(self._look_seconds)

    async def look(self) -> None:
        """One look into the ledger and at the disk; raises sqlite3.OperationalError, OSError."""
        found = await self._books(ledger_view.view)
        backlog = sum(one.bytes for one in found.classes.values())
        self._rate.add(boottime_ns(), found.delivered_bytes, bool(backlog))
        if found.oldest is not None and found.oldest.segment_id != self._oldest[0]:
            self._oldest = (found.oldest.segment_id, *await asyncio.to_thread(_first_times, self._spool, found.oldest))
        self._found = {
            "classes": {name: one._asdict() for name, one in found.classes.items()},
            "oldest": None if found.oldest is None else self._told_oldest(found.oldest),
            "delivered_bytes": found.delivered_bytes,
            "receipted_bytes_per_s": self._rate.bytes_per_s,
            "disk_free_bytes": await asyncio.to_thread(_free_bytes, self._spool),
        }

    def _told_oldest(self, segment: Segment) -> dict[str, Any]:
        _, first_boottime, first_utc = self._oldest
        boot = segment.path.partition("-")[0]
        utc, boottime = self._snapshot.get("utc_ns"), self._snapshot.get("boottime_ns")
        if not first_utc and boot == self._boot and isinstance(utc, int) and isinstance(boottime, int) and utc and first_boottime:
            first_utc = first_boottime + utc - boottime
        return {
            "segment_id": segment.segment_id,
            "class": ledger_view.class_of(segment),
            "boot": boot,
            "boottime_ns": first_boottime,
            "utc_ns": first_utc,
        }

    def status(self) -> dict[str, Any]:
        """For the status file."""
        return {**self._found, "recorder": self._recorder()}

    def _recorder(self) -> dict[str, Any] | None:
        if not self._heard_ns:
            return None
        told = self._snapshot
        counts = told.get("counts")
        return {
            "heard_boottime_ns": self._heard_ns,
            **{key: told.get(key) for key in ("boot", "number", "boottime_ns", "utc_ns", "utc_source", "utc_error_s", "place", "parked")},
            "sensors": told.get("sensors") or {},
            "gaps": counts.get("gaps", 0) if isinstance(counts, dict) else 0,
        }


def _first_times(spool: Path, segment: Segment) -> tuple[int, int]:
    """Boot time and UTC (ns, 0 unknown) of the first message of a segment that may not be described yet."""
    if segment.first_boottime_ns is not None:
        return segment.first_boottime_ns, segment.first_utc_ns or 0
    try:
        with (spool / segment.path).open("rb") as file:
            first = next(iter(make_reader(file).iter_messages()), None)
    except (OSError, McapError, ValueError) as error:  # it is told as poison when its turn to be sent comes
        log.warning("%s: its first message: %s", segment.path, error)
        return 0, 0
    return (0, 0) if first is None else (first[2].log_time, first[2].publish_time)


def _free_bytes(spool: Path) -> int:
    disk = os.statvfs(spool)
    return disk.f_bavail * disk.f_frsize
