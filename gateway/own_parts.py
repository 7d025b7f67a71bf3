"""Chips on this machine's own I2C bus and serial ports as sources of the recorder (section [bus]), written down as a head's are.

Drivers and supervision are the head's (gateway/parts.py), messages come from where the head's come from (chip_log.py). What differs:

- Ticks are boot time itself, in µs: a drain of the IMU's FIFO is stamped with CLOCK_BOOTTIME, and no second clock is to be estimated.
  Which number a sample has and how many are missing is found as for a head (imu_gaps.py).
- `head_boot` of everything is OWN_BOOT, 0, which no head has; `sequence` counts the samples of a sensor since the recorder started.
- There is no ring. A chip goes on while nobody reads it (the IMU's FIFO holds 0.2 s), so the loop that reads never waits for the disk, and
  each bus and each port has a thread of its own: one that hangs in the kernel holds up its own parts only.

What is lost. Killed, or by a power cut: a batch at its longest (0.5 s, 0.75 where a gap is being counted; its chunk is closed at once) and
the disk's own time. The next recorder of the same kernel boot writes "recorder was not running" from the newest sample on disk to the
first new one. While the disk refuses and the writer's memory is full, batches are dropped and the live view goes on; what was dropped is
counted by sensor and written as Gaps when there is room again, with the trims and gaps of these batches (the newest KEPT_ENTRIES; the
writer counts all by topic, too). A part that does not deliver when the recorder stops is a Gap from its last sample on."""

import threading
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from firmware import frames
from gateway.chip_log import ChipLog
from gateway.clock import Clock, boottime_ns
from gateway.config import Bus
from gateway.convert import IMU, Converter, Samples
from gateway.disk_trouble import DiskTrouble
from gateway.imu_gaps import Phase
from gateway.imu_times import HeadClock
from gateway.journal import Entry, Journal, gap
from gateway.own_wires import OwnI2C, OwnUart
from gateway.parts import UART_DRIVERS, Place, Supervised, driver_on_bus, driver_on_port, on_own_wires, turn
from gateway.snapshot import Snapshot
from gateway.supervision import Outage
from logbook.channels import GAP, TRIM

NANO = 1_000_000_000
OWN_BOOT = 0
TURN_SECONDS = 0.005  # between two turns of all parts of a wire
BATCH_SECONDS = 0.5
DECIDE_SECONDS = 0.25  # longer, where the next drains tell how many IMU samples a gap is (imu_gaps.py)
NOT_RUNNING = "recorder was not running"
RESTARTED = "source was started again"
KEPT = (TRIM, GAP)
KEPT_ENTRIES = 1_000


class _Outbox:
    """What one driver says under its supervision, into its wire's log."""

    def __init__(self, wire: "OwnWire", module: ModuleType) -> None:
        self._wire = wire
        self._sensor: str = module.SENSOR
        self._size: int = module.RAW_SIZE
        self._buffer = bytearray(getattr(module, "FRAMES_AT_ONCE", 1) * module.RAW_SIZE)
        self._ticks = 0

    @property
    def ticks(self) -> "_Outbox":
        """The clock that `stamp` is asked of."""
        return self

    def stamp(self) -> None:
        """Notes the time."""
        self._ticks = boottime_ns() // 1000

    def sample(self, sensor: int, driver: Any) -> int:
        """Reads what the driver has ready; returns the number of samples. Bus errors pass through."""
        size = driver.read_into(self._buffer)
        raw = [bytes(self._buffer[start : start + self._size]) for start in range(0, size, self._size)]
        if raw:
            self._wire.sampled(Samples(self._sensor, raw), self._ticks)
        return len(raw)

    def trim(self, sensor: int, trim: bytes) -> None:
        """The trim constants."""
        self._wire.trimmed(self._sensor, trim, self._ticks)

    def gap(self, sensor: int, reason: int, count: int) -> None:
        """So many samples are missing before the next one."""
        self._wire.missed(self._sensor, frames.REASONS[reason], count, self._ticks)

    def state(self, sensor: int, state: int, reason: int, failures: int) -> None:
        """The state has changed."""
        self._wire.stated(self._sensor, state, reason, failures, self._ticks)


class OwnWire:
    """One bus or port with its parts: `run(stop)` reads them until `stop` is set. `name` is the device's path.

    `since` is the boot time of each part's newest sample of a recorder before this one, in the same boot of the kernel."""

    def __init__(
        self,
        name: str,
        places: list[Place],
        clock: Clock,
        journal: Journal,
        snapshot: Snapshot,
        disk: DiskTrouble,
        since: Mapping[str, int],
    ) -> None:
        self.name = name
        self._places = places
        self._journal = journal
        self._snapshot = snapshot
        self._disk = disk
        self._log = ChipLog(journal, snapshot, clock, Converter(), since.get(IMU, 0))
        self._log.last.update(since)
        now_us = boottime_ns() // 1000
        boot_time = HeadClock()
        boot_time.exchange(now_us * 1000, now_us, now_us * 1000)  # the ticks are boot time: nothing is to be learned
        self._log.resume(OWN_BOOT, boot_time)
        self._outage = Outage(journal, name)
        self._why = NOT_RUNNING  # what came before is not followed by what comes
        self._expected: dict[str, str] = {}  # reasons by sensor, until its first sample
        self._numbers: dict[str, int] = {}
        self._began = 0  # boot time of the first thing said in the batch
        self._heard_ns = 0
        self._trouble = ""
        self._written: dict[str, int] = dict(since)  # boot time of the newest sample that the journal took
        self._dropped: dict[str, tuple[int, int]] = {}  # by sensor: newest sample written before, samples
        self._kept: list[Entry] = []

    def trims(self) -> tuple[Entry, ...]:
        """The trims as last told; any thread may ask."""
        return self._log.trims()

    def run(self, stop: threading.Event) -> None:
        """Until `stop` is set. Started again after a failure it begins with its parts anew."""
        wire, parts = self._open()
        self._expected = {part.sensor: self._why for part in parts if part.sensor in self._log.last}
        if IMU in self._expected:
            self._log.interrupted(self._expected.pop(IMU), Phase.ANEW)
        self._why = RESTARTED
        try:
            for part in parts:
                part.start(_now_ms())
            while not stop.wait(TURN_SECONDS):
                turn(parts, _now_ms)
                self._look(wire)
                if self._due():
                    self._commit()
            for part in parts:
                part.stop()
        finally:
            wire.close()
        self._finish(parts)

    def _open(self) -> tuple[OwnI2C | OwnUart, list[Supervised]]:
        """The device and its parts, new."""
        wire: OwnI2C | OwnUart
        if isinstance(self._places[0].at, int):
            wire = bus = OwnI2C(self.name)
            drivers = [driver_on_bus(place, bus) for place in self._places]
        else:
            wire = port = OwnUart(self.name, UART_DRIVERS[self._places[0].part].baud)
            drivers = [driver_on_port(place, port) for place in self._places]
        parts = [
            Supervised(place, driver, module, _Outbox(self, module)) for place, (driver, module) in zip(self._places, drivers, strict=True)
        ]
        return wire, parts

    # --- what the parts say

    def sampled(self, samples: Samples, ticks: int) -> None:
        """Samples of one sensor, read at `ticks`."""
        self._begin()
        sensor = samples.sensor
        reason = self._expected.pop(sensor, None)
        if reason is not None:
            self._log.gap(sensor, reason, 0, ticks)
        self._numbers[sensor] = self._numbers.get(sensor, 0) + len(samples.raw)
        self._log.sample(samples, ticks, self._numbers[sensor])

    def trimmed(self, sensor: str, trim: bytes, ticks: int) -> None:
        """The constants of a chip."""
        if sensor == IMU and not self._log.takes(trim):
            self._commit()
        self._begin()
        self._log.trim(sensor, trim, ticks)

    def missed(self, sensor: str, reason: str, count: int, ticks: int) -> None:
        """A part lost samples."""
        self._begin()
        self._log.gap(sensor, reason, count, ticks)

    def stated(self, sensor: str, state: int, reason: int, failures: int, ticks: int) -> None:
        """A part is in another state."""
        self._begin()
        self._log.state(sensor, state, reason, failures, ticks)

    def _look(self, wire: OwnI2C | OwnUart) -> None:
        """Whether the device is there."""
        if wire.trouble:
            if wire.trouble != self._trouble:
                self._outage.lost(wire.trouble)
                self._snapshot.sensor(self.name, "failed", wire.trouble)
        elif wire.heard_ns > self._heard_ns:
            self._heard_ns = wire.heard_ns
            if self._outage.down:
                self._snapshot.sensor(self.name, "ok", "")
            self._outage.seen()
        self._trouble = wire.trouble

    # --- batches

    def _begin(self) -> None:
        self._began = self._began or boottime_ns()

    def _due(self) -> bool:
        seconds = BATCH_SECONDS + (DECIDE_SECONDS if self._log.undecided else 0.0)
        return bool(self._began) and boottime_ns() - self._began >= seconds * NANO

    def _commit(self) -> None:
        """Hands the batch over; it is in the journal then, or counted as dropped."""
        self._began = 0
        batch = self._log.batch()
        kept = self._kept if self._journal.has_room() else []
        # A token closes the chunk at once; nobody waits for this one.
        if not (batch or kept) or self._journal.write([*kept, *batch], self.name):
            self._kept = self._kept[len(kept) :] + self._ended()
            self._written.update(self._log.last)
        else:
            for sensor, samples in self._log.samples.items():
                from_ns, before = self._dropped.get(sensor, (self._written.get(sensor, self._log.first[sensor]), 0))
                self._dropped[sensor] = (from_ns, before + samples)
            self._kept = [*self._kept, *(entry for entry in batch if entry.topic in KEPT)][-KEPT_ENTRIES:]
        self._log.written()

    def _ended(self) -> list[Entry]:
        """Gaps of what was dropped before the samples of this batch."""
        over = self._dropped.keys() & self._log.first.keys()
        return [self._dropped_gap(sensor, self._log.first[sensor]) for sensor in sorted(over)]

    def _dropped_gap(self, sensor: str, to_ns: int) -> Entry:
        from_ns, samples = self._dropped.pop(sensor)
        return gap(sensor, self._disk.reason(), from_ns, to_ns, samples)

    def _finish(self, parts: list[Supervised]) -> None:
        """The recorder stops: what is missing by now is told as it stands."""
        now = boottime_ns()
        for part in parts:
            if part.sensor in self._log.last and part.state in ("absent", "failed"):
                self._log.entries.append(gap(part.sensor, part.reason or part.state, self._log.last[part.sensor], now))
        self._commit()
        self._kept += [self._dropped_gap(sensor, now) for sensor in sorted(self._dropped)]
        if self._kept and self._journal.has_room():
            self._journal.write(self._kept)


class OwnParts:
    """All own wires of a truck, for the recorder to run: `wires`, each on a thread of its own. `since`: see OwnWire, by sensor.

    Raises PartError for a [bus] that cannot be (the configuration has been checked for that)."""

    def __init__(
        self, config: Bus, clock: Clock, journal: Journal, snapshot: Snapshot, disk: DiskTrouble, since: Mapping[str, int]
    ) -> None:
        on_bus, at_ports = on_own_wires(config.i2c, config.chips, config.without, config.uarts)
        groups = [(config.i2c, on_bus)] if on_bus else []
        groups += [(place.shown, [place]) for place in at_ports]
        self.wires = [
            OwnWire(name, places, clock, journal, snapshot, disk, {p.part: since[p.part] for p in places if p.part in since})
            for name, places in groups
        ]

    def trims(self) -> tuple[Entry, ...]:
        """The trims in force; any thread may ask."""
        return tuple(entry for wire in self.wires for entry in wire.trims())


def _now_ms() -> int:
    return boottime_ns() // 1_000_000
