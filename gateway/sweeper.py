"""The sweeper keeps the spool bounded: `python -m gateway.sweeper CONFIG`.

Limits
  - It works while the spool's segments take more than `spool_quota_bytes`, or the disk has less than `free_reserve_bytes` left (what is
    missing in the thinning reserve counts as missing too), or the recorder calls because the disk refused (gateway/sweeper_call.py):
    then CALL_BYTES must go, whatever the file system says about free space. It looks every 10 s.
  - Nothing is touched that is being uploaded, or uploaded or announced and waits for its receipt.

Order, each step only while it is still too much:
  1. superseded segments (others stand in their place; also without pressure), then receipted ones, oldest first;
  2. images that are not sent are thinned: the least thinned segments first, of them the oldest, down to every 64th image, never an image
     within 10 s of an event. Neighbours become one segment while that stays below `images_segment_bytes`: files get fewer as images do.
     A segment whose last image is younger than 60 s waits: its events may not be on the disk yet;
  3. whole segments of images that are not sent, oldest first;
  4. readings that are not sent, oldest first, and only when the disk has less than a sixteenth of `free_reserve_bytes` left (the hard
     floor: 62 MB by default, an hour of readings) and no image is left in the spool, not even one that is being written or sent. A quota
     never costs readings: the status says that it presses.

Nothing goes without a record of it that is durable before. Thinning, dropping and shrinking are one machinery: a derived segment (own id,
`derived_from`) holds what is left, the Gaps about what is not, and all Gaps and events of its originals; whole segments leave a record
with nothing else, which takes up later drops until it has RECORD_BYTES. The uplink sends derived segments as any other, in their originals'
place in the order, and its ledger counts for ever what they say was dropped.

    take the originals on the ledger's socket → read → write and seal in .deriving, paid for by the reserve → take again: still ours? →
    rename into the spool → tell the uplink to look: it enters the derived segment and supersedes the originals in one commit →
    delete the originals → tell the uplink

  Killed in the first four steps, the originals stand and .deriving is cleared at the next start. Killed behind the rename, both stand: the
  uplink's next look supersedes the originals (it need not be told), and the next sweep deletes them. If the ledger is lost as well, the
  derived file's head names them. An upload of a superseded original that has already begun ends unannounced.

Without an uplink nothing is known about what is on its way, so nothing goes; only below the hard floor, or when the recorder calls, does
the sweeper stand in for it (gateway/sweeper_stand_in.py).

While the truck is parked (no recorder holds the spool) and there is room, images that were not sent are shrunk without loss, if `shrink`
says so (gateway/shrink.py), newest first; a recorder's start ends that between two images.
"""

import logging
import os
import re
import signal
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gateway import config, notify
from gateway.clock import boottime_ns
from gateway.shrink import missing
from gateway.sweeper_call import Bell
from gateway.sweeper_disk import free_bytes, is_flocked, is_full, spooled, spooled_bytes
from gateway.sweeper_stand_in import stand_in
from gateway.sweeper_work import COUNTS, Work
from gateway.uplink_arguments import Parser, seconds
from gateway.uplink_lock import InUse, lock
from gateway.uplink_socket import Line, NoUplink, Refused
from gateway.uplink_status import write_json
from logbook.channels import IMAGES, READINGS

SWEEP_SECONDS = 10.0  # 252 GB a day are 2.9 MB/s: 30 MB between two looks, a small part of the 1 GB reserve
REST_SECONDS = 0.5  # between two sweeps, however often the recorder calls
SWEEP_MOST_SECONDS = 20.0  # then the status is written before it goes on
STAND_IN_SECONDS = 2.0  # an uplink that starts meanwhile waits for 3 s
CALL_BYTES = 64_000_000  # that must go at a call of the recorder: 20 s of images at their full rate …
CALL_PART = 16  # … but of a small spool only so much
FLOOR_PART = 16  # of the free reserve
STATUS_NAME = "sweeper.json"
RECORDER_LOCK = "recorder.lock"

log = logging.getLogger("sweeper")


class Sweeper:
    """One truck's sweeper. `going_on`: the last sweep ended by its time, not because nothing was left to do."""

    def __init__(self, truck: config.Truck) -> None:
        self._truck = truck
        self._spool = Path(truck.spool)
        self._work = Work(truck)
        self._called = 0  # bytes that must still go because the recorder called
        self._standing_in = False
        self._until = 0.0
        self._ended = False
        self.calls = 0
        self.stood_in = 0
        self.going_on = False
        self.shrinking: str | None = None if truck.shrink != "no" else "shrink: not asked for"

    def end(self) -> None:
        """End what is under way at the next segment, or image while shrinking."""
        self._ended = True

    # -- keeping the disk bounded

    @property
    def floor(self) -> int:
        """The hard floor of free space, in bytes."""
        return self._truck.free_reserve_bytes // FLOOR_PART

    def excess(self) -> int:
        """Bytes that must go; 0 if all is well. While standing in for the uplink: what is missing to the hard floor, or was called for."""
        free = free_bytes(self._spool)
        if self._standing_in:
            return max(0, self.floor - free, self._called)
        over_quota = spooled_bytes(self._spool) - self._truck.spool_quota_bytes
        too_little = self._truck.free_reserve_bytes + self._work.reserve.missing() - free
        return max(0, over_quota, too_little, self._called)

    def sweep(self, called: bool = False) -> str | None:
        """Delete what must and may go; `called`: the recorder's disk is full. Returns the problem in one line when there is still too much,
        None when all is well. Raises OSError."""
        self.calls += called
        if called:
            self._called = min(CALL_BYTES, self._truck.spool_quota_bytes // CALL_PART)
        elif not self.going_on:
            self._called = 0
        self.going_on = False
        self._until = time.monotonic() + SWEEP_MOST_SECONDS
        self._work.begin()
        try:
            with Line(self._spool) as line:
                return self._sweep(line)
        except NoUplink as trouble:
            return self._without_uplink(trouble)
        except Refused as trouble:
            return f"{self.excess()} bytes too much, but the uplink says: {trouble}"

    def _without_uplink(self, trouble: NoUplink) -> str | None:
        excess = self.excess()
        if not excess:
            return None
        if not self._called and free_bytes(self._spool) >= self.floor:
            return f"{excess} bytes too much, but {trouble}"
        self._standing_in = True
        self._until = time.monotonic() + STAND_IN_SECONDS
        try:
            with stand_in(self._spool, self._truck.name), Line(self._spool) as line:
                self.stood_in += 1
                line.ask({"tell": "look"})
                problem = self._sweep(line)
        except (InUse, NoUplink, Refused, sqlite3.Error) as error:
            return f"{excess} bytes too much, but {trouble}; {error}"
        finally:
            self._standing_in = False
        return f"the disk is full and there is no uplink: what had to go went without it{f'; {problem}' if problem else ''}"

    def _sweep(self, line: Line) -> str | None:
        self._work.delete(line, "superseded", sys.maxsize)
        freed = 0
        trouble = ""
        steps: tuple[Callable[[int], int], ...] = (
            lambda excess: self._work.delete(line, "deletable", excess),
            lambda excess: self._work.thin(line),
            lambda excess: self._work.drop(line, IMAGES, excess),
            lambda excess: self._work.drop(line, READINGS, self._to_floor()) if self._readings_must_go(line, freed) else 0,
        )
        excess = 0
        for step in steps:
            while True:
                # Measured anew only when so much went: that is a look at every file of the spool.
                if excess <= 0 and (excess := self.excess()) <= 0:
                    return None
                if self._ended or time.monotonic() >= self._until:
                    self.going_on = not self._ended
                    return f"{excess} bytes too much, and more can go"
                try:
                    done = step(excess)
                except OSError as error:
                    if not is_full(error):
                        raise
                    trouble = f"; no room to write what is left of thinned segments, or what was dropped: {error.strerror}"
                    break
                if done <= 0:
                    break
                freed += done
                excess -= done
                self._called = max(0, self._called - done)
        return self._problem(line, trouble)

    def _to_floor(self) -> int:
        """Bytes that readings must give, and no more: what is missing to the floor, or one segment where the disk refuses above it."""
        return max(1, self.floor - free_bytes(self._spool))

    def _readings_must_go(self, line: Line, freed: int) -> bool:
        """Whether free space would otherwise be gone, and no image is left that could go instead, now or later."""
        no_room = free_bytes(self._spool) < self.floor or (self._called > 0 and not freed)
        if not no_room or any(segment.stream == IMAGES and not segment.sealed for segment in spooled(self._spool)):
            return False
        return line.ask({"ask": "images left"})["segments"] == 0

    def _problem(self, line: Line, trouble: str) -> str | None:
        excess = self.excess()
        self._called = 0
        if not excess:
            return None
        images = line.ask({"ask": "images left"})["segments"]
        if images:
            return f"{excess} bytes too much: {images} segments of images that are young, on their way, or kept{trouble}"
        return f"{excess} bytes too much, and only readings are left: they go for the last {self.floor} bytes of the disk alone{trouble}"

    # -- while parked

    def parked(self) -> bool:
        """Whether no recorder holds the spool."""
        return not is_flocked(self._spool / RECORDER_LOCK)

    def shrink(self) -> bool:
        """Shrink images for up to SWEEP_SECONDS, while the truck is parked; True if there is more to do. Raises OSError."""
        if self._truck.shrink == "no":
            return False
        self.shrinking = missing(self._truck.shrink) or (None if self.parked() else "shrink: waits until the truck is parked")
        if self.shrinking:
            return False
        until = time.monotonic() + SWEEP_SECONDS
        try:
            with Line(self._spool) as line:
                while self._work.shrink(line, self._may_shrink):
                    if time.monotonic() >= until:
                        return True
        except (NoUplink, Refused) as trouble:
            self.shrinking = f"shrink: {trouble}"
        return False

    def _may_shrink(self) -> bool:
        return not self._ended and self.parked()

    # -- what people see

    def write_status(self, problem: str | None) -> None:
        """Replace <spool>/sweeper.json. Raises OSError."""
        write_json(self._spool / STATUS_NAME, self.status(problem))

    def status(self, problem: str | None) -> dict[str, Any]:
        """What the status file says (docs/formats.md 6)."""
        return {
            "truck": self._truck.name,
            "pid": os.getpid(),
            "boottime_ns": boottime_ns(),
            "problem": problem,
            "spool_bytes": spooled_bytes(self._spool),
            "quota_bytes": self._truck.spool_quota_bytes,
            "free_bytes": free_bytes(self._spool),
            "reserve_bytes": self._truck.free_reserve_bytes,
            "floor_bytes": self.floor,
            "thinning_reserve_bytes": self._work.reserve.held(),
            **{name: self._work.counts[name] for name in COUNTS},
            "kept": len(self._work.kept),
            "last_deleted": self._work.last_deleted,
            "calls": self.calls,
            "stood_in": self.stood_in,
            "shrinking": self.shrinking,
        }


def main(arguments: list[str] | None = None) -> int:
    """Sweep until SIGTERM. Exit codes: 0 ended in order, 2 bad configuration (also: a second sweeper on the same spool)."""
    parser = Parser(prog="python -m gateway.sweeper", description="Keep a truck's disk from filling: delete, thin, shrink.")
    parser.add_argument("config", help="the truck's TOML file")
    parser.add_argument("--every", type=seconds, default=SWEEP_SECONDS, metavar="SECONDS", help="time between two looks")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    try:
        truck = config.load(options.config)
        Path(truck.spool).mkdir(parents=True, exist_ok=True)
        held = lock(Path(truck.spool), duty="sweeper")
        bell = Bell(Path(truck.spool))
        sweeper = Sweeper(truck)
    except (config.ConfigError, InUse) as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(f"spool {truck.spool}: {error.strerror}", file=sys.stderr)
        return 2

    def end(*_: object) -> None:
        sweeper.end()
        ended.append(True)
        bell.ring()

    ended: list[bool] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    notify.ready()
    _run(sweeper, bell, options.every, lambda: bool(ended))
    notify.stopping()
    bell.close()
    held.close()
    return 0


def _run(sweeper: Sweeper, bell: Bell, every: float, ended: Callable[[], bool]) -> None:
    said: str | None = None
    called = False
    while not ended():
        more = False
        try:
            problem = sweeper.sweep(called)
            sweeper.write_status(problem)
            more = sweeper.going_on or (problem is None and sweeper.shrink())
        except OSError as error:  # the disk itself: full for the status file, gone, read-only. Never an exit
            problem = f"disk: {error.strerror or error}"
        if problem and _kind(problem) != _kind(said):
            log.warning("%s", problem)
        said = problem
        notify.alive()
        if called:
            time.sleep(REST_SECONDS)
        called = bell.wait(0 if more else every)


def _kind(problem: str | None) -> str:
    """A problem without its numbers: the same one is logged once, not every ten seconds."""
    return re.sub(r"\d+", "", problem or "")


if __name__ == "__main__":
    sys.exit(main())
