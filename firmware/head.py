"""The head's program: one task for each bus, one for the serial line, one that watches them and feeds the watchdog.

Sampling never waits for the line: frames go into the ring, and the line takes them from there when it can."""

import asyncio
import gc
import json
import os
import select
import sys
import time

from drivers.portable import TYPE_CHECKING, const, elapsed
from firmware.link import Link
from firmware.outbox import Outbox
from firmware.ring import Ring
from firmware.ticks import Ticks, milliseconds
from firmware.wire import DEGRADED, HEAD, PARTS_REFUSED, PAYLOAD_MAX

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from firmware.boot_trial import Trial
    from firmware.leave import Leave
    from firmware.parts import Row

VERSION = "0.1.0"

_PACE_MS = (10, 20, 20)  # main bus (the IMU is due every 50 ms), UV bus, UARTs
_LINK_PAUSE_MS = const(5)
_LINK_BUSY_MS = const(1)
_WATCH_MS = const(500)
_HEALTH_MS = const(5000)
_MAINTENANCE, _TRIAL_OVER = const(1), const(3)  # firmware/leave.py
_WATCHDOG_MS = const(8000)  # the RP2040's longest is 8388
_LINE_TASK = const(3)
_TASKS = const(4)


def random_boot() -> int:
    """A number of 30 bits, not 0."""
    value = 0
    while value == 0:
        value = int.from_bytes(os.urandom(4), "little") & 0x3FFF_FFFF
    return value


def _text(about: dict) -> str:
    """Compact JSON: a HELLO has room for 233 bytes."""
    return json.dumps(about, separators=(",", ":"))


class Head:
    """All parts of the head, put together on `machine` (MicroPython's module). `ring` was made before all else (it is a third of the
    heap), and then `rows` and `parts_error` (firmware.parts.load). `slot` is the one it was started from, "" if from none; `start` is
    firmware.starts.begin's."""

    def __init__(self, ring: Ring, machine: "ModuleType", rows: "list[Row]", parts_error: str) -> None:
        from firmware.board import sensors  # not kept: main.forget

        self.slot = ""
        self.start = (0, "")
        self._machine = machine
        self._ring = ring
        self._trial: Trial | None = None
        self._outbox = Outbox(ring, Ticks(), random_boot())
        self._groups = sensors(machine, self._outbox, rows)
        self._parts_error = parts_error
        if parts_error:
            self._outbox.state(HEAD, DEGRADED, PARTS_REFUSED, 0)
        readable = select.poll()
        readable.register(sys.stdin, select.POLLIN)
        writable = select.poll()
        writable.register(sys.stdout, select.POLLOUT)
        self._sensors = [sensor for group in self._groups for sensor in group]
        self._link = Link(self._outbox, self._sensors, sys.stdin.buffer, sys.stdout.buffer, readable, writable, self.hello)
        self._progress = bytearray(_TASKS)
        self._longest_us = 0
        self._leave: Leave | None = None

    def hello(self) -> bytes:
        """The payload of HELLO (at most 233 bytes)."""
        ring = self._ring
        machine = self._machine
        version = sys.implementation.version
        cause = machine.reset_cause()
        names = {machine.PWRON_RESET: "power-on", machine.WDT_RESET: "watchdog"}
        about = {
            "firmware": VERSION,
            "runtime": f"{sys.implementation.name} {version[0]}.{version[1]}.{version[2]} {sys.platform}",
            "unique_id": "".join([f"{byte:02x}" for byte in machine.unique_id()]),
            "reset_cause": names.get(cause, str(cause)),
            "ring_bytes": ring.size,
            "oldest": ring.oldest if ring.used else 0,
            "newest": ring.newest,
        }
        if self.slot:
            about["slot"] = self.slot if self._trial is None else self.slot + " on trial"
        if self._parts_error:
            room = PAYLOAD_MAX - len(_text(about)) - len(',"parts_error":""')
            about["parts_error"] = self._parts_error[:room]
        for name, value in zip(("boot_count", "marker"), self.start):  # noqa: B905  # MicroPython has no strict
            if value:
                about[name] = value
                if len(_text(about)) > PAYLOAD_MAX:
                    del about[name]
        return _text(about).encode()

    async def run(self, record: str = "", alive: "Callable[[], None] | None" = None) -> None:
        """Run until an unexpected error ends one of the tasks, which is raised. `record` and `alive`: firmware.main."""
        if record:
            from firmware.boot_trial import Trial

            self._trial = Trial(record, milliseconds(), self._sensors, self._link)
        tasks = [self._sample(index) for index in range(len(self._groups))]
        await asyncio.gather(self._serve_line(), self._watch(alive), *tasks)

    async def _sample(self, index: int) -> None:
        group = self._groups[index]
        now = milliseconds()
        for sensor in group:
            sensor.start(now)
        before = time.ticks_us()
        while True:
            now = milliseconds()
            for sensor in group:
                sensor.step(now)
            if index == 0:
                after = time.ticks_us()
                self._longest_us = max(self._longest_us, time.ticks_diff(after, before))
                before = after
            self._progress[index] = 1
            await asyncio.sleep_ms(_PACE_MS[index])

    async def _serve_line(self) -> None:
        while True:
            moved = self._link.turn(milliseconds())
            self._progress[_LINE_TASK] = 1
            await asyncio.sleep_ms(_LINK_BUSY_MS if moved else _LINK_PAUSE_MS)

    def _try(self, trial: "Trial", now: int) -> None:
        """A version on trial that is good says so on the flash; one whose time is over resets, which costs it a start."""
        verdict = trial.step(now)
        if verdict < 0:
            self._go(_TRIAL_OVER)
        elif verdict > 0:
            try:
                trial.confirm()
            except OSError:  # the flash refuses: still on trial, the next turn tries again until its time is over
                return
            self._trial = None

    def _go(self, why: int) -> None:
        """One turn on the way to a reset because of `why`."""
        if self._leave is None:
            from firmware.leave import Leave  # there is room for it, just

            self._leave = Leave(self._machine, self._sensors, why)
        self._leave.turn()

    async def _watch(self, alive: "Callable[[], None] | None" = None) -> None:
        """Feed the watchdog only when every task came round since it was fed last; every 5 s, collect garbage and report."""
        watchdog = self._machine.WDT(timeout=_WATCHDOG_MS)
        if alive is not None:
            alive()
        reported = started = milliseconds()
        uptime_ms = 0
        while True:
            if all(self._progress):  # "in" is not implemented for a bytearray there
                for index in range(_TASKS):
                    self._progress[index] = 0
                watchdog.feed()
            self._outbox.report_drops()
            now = milliseconds()
            if self._trial is not None:
                self._try(self._trial, now)
            if self._link.maintenance:
                self._go(_MAINTENANCE)
            uptime_ms += elapsed(now, started)
            started = now
            if elapsed(now, reported) >= _HEALTH_MS:
                reported = now
                gc.collect()
                self._outbox.ticks.stamp()
                self._outbox.health(gc.mem_free(), self._longest_us, uptime_ms // 1000, self._link.refused)
                self._longest_us = 0
            await asyncio.sleep_ms(_WATCH_MS)
