"""One sensor of the head in virtual time, with faults in front of its chip: the real driver under the real supervisor, in a world that
changes all the time, and everything it delivered judged against what the chip's model converted.

A `Rig` lives on a bus or line of its own; `on_one_bus` puts several on one, as on the head."""

import importlib
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from chip_bench import Bench, BenchI2C, BenchUart
from parts import Part

import firmware.bus
from drivers.portable import later
from firmware.frames import OK, REASONS, STATES
from firmware.supervisor import Watched
from sim.bus import I2CBus, UartLine
from sim.faults import Fault, Faults

STEP_US = 10_000
FIRST_TICK = (1 << 30) - 4_000  # the ticks wrap four seconds after the start
US_PER_BYTE = 25  # of a bus at 400 kHz, address and stops shared out
WORLD_S = 97.3  # in which every quantity goes up and down through half of its range
SILENT_PERIODS = 2.6  # ok for longer than so many periods without a sample is a lie: the supervisor takes 2.5, and looks each 10 ms
SILENT_S = {"icm20948": 0.65, "first_fleet": 2.1}  # of those that count their samples themselves: until the driver says time-out
FRESH_S = 0.45  # how old a value may be when it is delivered: read late once, or held until the status behind it is there
# By how much the number of samples delivered and reported missing may be off the periods that passed. What is left over of a period counts
# with the next one, so it is up to one less; a sample that comes early, after a start in between, counts as a whole one.
FEWER, MORE = 1.1, 0.25
AFTER_STALL_S = 1.1  # beside the stall itself: what waited in a buffer
# Reasons instead of a number in a world in the middle of every range: of some samples, or of the first one after a start.
EXPECTED = {"icm20948": ("no new sample",)}
FIRST_EXPECTED = {"as7331": ("saturated",)}  # it begins with a gain that may not fit the light
# Where a flipped bit in data cannot be noticed: the FIFO gives each byte once, without a checksum.
UNDETECTABLE = {"icm20948": "a FIFO frame is read once and has no checksum"}
# Where half of a quantity's range is the wrong place to be. The first fleet's formula for PM2.5 jumps at 40 °C; the heater heats where it
# is wet and not hot.
RANGES = {
    "first_fleet": {"temperature": (233.15, 323.15)},
    "sht45-heater": {"temperature": (263.15, 303.15), "humidity": (95.4, 99.4)},
}
WET_MS = 298_500  # so long has it been wet already when the heater's driver sees it: 1.5 s before it heats


class Transaction(NamedTuple):
    """One transfer of a healthy run."""

    t_us: int
    write: bytes
    read_n: int


class Sent(NamedTuple):
    """One byte on a serial line: "read" from the chip, or "written" to it."""

    t_us: int
    part: str
    byte: int


class TracedBus(I2CBus):
    """Takes its time, and remembers its transfers."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.trace: list[Transaction] = []

    def transfer(self, address: int, write: bytes, read_n: int, stop_between: bool = False, stop_at_end: bool = True) -> bytes:
        self.trace.append(Transaction(self._clock.running_us(), write, read_n))
        data = super().transfer(address, write, read_n, stop_between, stop_at_end)
        self._clock.wait_us(US_PER_BYTE * (2 + len(write) + read_n))
        return data


class TracedLine(UartLine):
    """Remembers its bytes, in the order in which faults count them."""

    def __init__(self, chip: Any, *arguments: Any, **options: Any) -> None:
        super().__init__(chip, *arguments, **options)
        self.trace: list[Sent] = []
        self._take, chip.read = chip.read, self._taken

    def _taken(self, count: int) -> bytes:
        data: bytes = self._take(count)
        self.trace += [Sent(self._clock.running_us(), "read", byte) for byte in data]
        return data

    def write(self, data: bytes) -> int:
        if self.baud == self.speed:
            self.trace += [Sent(self._clock.running_us(), "written", byte) for byte in data]
        return super().write(data)


def machine_on(bus: I2CBus) -> Any:
    """MicroPython's machine with one I2C controller, on SDA 4 and SCL 5."""

    class Pin:
        OPEN_DRAIN = 2

        def __init__(self, number: int, mode: int = -1, value: int | None = None) -> None:
            self._number = number
            if value is not None:
                self.value(value)

        def value(self, level: int | None = None) -> int | None:
            sda = self._number == 4
            if level is None:
                return bus.sda() if sda else bus.scl()
            return bus.drive_sda(level) if sda else bus.drive_scl(level)

    def i2c(number: int, scl: Pin, sda: Pin, freq: int) -> BenchI2C:
        bus.release()
        return BenchI2C(bus)

    return types.SimpleNamespace(Pin=Pin, I2C=i2c)


def head_bus(wire: I2CBus, bench: Bench) -> firmware.bus.I2CBus:
    """The head's own bus on `wire`; its microseconds are the bench's."""
    firmware.bus.time = types.SimpleNamespace(sleep_us=bench.wait_us)  # type: ignore[assignment, attr-defined]
    return firmware.bus.I2CBus(machine_on(wire), 0, 4, 5, 400_000)


def wire_chips(chip: Any) -> tuple[Any, ...]:
    """What stands on the wire with `chip`."""
    return (chip, chip.magnetometer) if hasattr(chip, "magnetometer") else (chip,)


class _Diary:
    """The outbox of the sensor: what was said, and when."""

    def __init__(self, rig: "Rig") -> None:
        self.ticks = self
        self._rig = rig
        self._buffer = bytearray(231)  # what a SAMPLE frame holds; the first fleet's box has another reader

    def stamp(self) -> None:
        """The bench has the time."""

    def sample(self, sensor: int, driver: Any) -> int:
        if len(self._buffer) < self._rig.most:
            self._buffer = bytearray(self._rig.most)
        size = driver.read_into(self._buffer)
        count: int = size // driver.RAW_SIZE
        for index in range(count):
            self._rig.judge(bytes(self._buffer[index * driver.RAW_SIZE : (index + 1) * driver.RAW_SIZE]))
        return count

    def state(self, sensor: int, state: int, reason: int, failures: int) -> None:
        self._rig.states.append((self._rig.now_us, state, reason))

    def gap(self, sensor: int, reason: int, count: int) -> None:
        self._rig.gaps.append((self._rig.now_us, reason, count))

    def trim(self, sensor: int, trim: bytes) -> None:
        self._rig.trim = trim


class Rig:
    """`part` with `faults` in front; `advance(seconds)` lets it run. Without `wired` it waits to be wired."""

    def __init__(
        self, part: Part, faults: Sequence[Fault] = (), seed: int = 0, *, bench: Bench | None = None, shared: Faults | None = None
    ) -> None:
        self.part = part
        self.bench = bench or Bench()
        self.faults = shared or Faults(faults, seed)
        self.range: dict[str, tuple[float, float]] = part.model().RANGE | RANGES.get(part.name, {})
        self.log: list[tuple[int, Mapping[str, float]]] = []  # the chip's conversions
        self.chip = part.chip(self._world, self._record)
        self.module = importlib.import_module(part.module)
        self.most = int(getattr(self.module, "FRAMES_AT_ONCE", 1)) * self.module.RAW_SIZE
        self.trace: list[Transaction] = []
        self.bytes: list[Sent] = []
        self.trim = b""
        self.problems: list[str] = []
        self.states: list[tuple[int, int, int]] = []
        self.gaps: list[tuple[int, int, int]] = []
        self.samples: list[int] = []  # when each with a number came
        self.delivered = 0
        self.undetectable = 0
        self.converted_us = -1  # when the chip made the newest sample that was delivered
        self.oldest_us = 0  # of all values delivered
        self.starts = 0  # of the driver, by the supervisor
        self.allow_wrong = False
        self._seen = 0  # of the chip's log
        self._skipped = 0  # conversions that were never delivered, of a chip that numbers them
        self._since_start = 0  # samples
        self._holes: list[tuple[int, int]] = []  # (from, to) µs between samples with conversions that never came
        self._last_us = 0
        self._fresh_us = FRESH_S * 1e6
        self._more = MORE
        if bench is None:
            self._alone()

    def _alone(self) -> None:
        if self.part.wire == "i2c":
            wire = TracedBus(wire_chips(self.chip), self.bench.clock, self.faults)
            self.trace = wire.trace
            bus = head_bus(wire, self.bench)
            self.attach(bus.i2c, bus)
        else:
            line = TracedLine(self.chip, self.bench.clock, self.part.speed, faults=self.faults)
            self.bytes = line.trace
            self.attach(BenchUart(line), None)

    def attach(self, wire: Any, bus: firmware.bus.I2CBus | None) -> None:
        """Puts the driver on its wire, and the supervisor above it."""
        self.driver = self.part.driver(wire)
        if self.part.name in SILENT_S:
            self.driver.PERIOD_MS = 0  # the first fleet's box has no supervisor on the truck; it counts by index, so it is taken for a FIFO
        if self.part.options.get("heater"):
            self._make_wet()
        start = self.driver.start

        def counted(now: int) -> None:
            self.starts += 1
            self._since_start = 0
            start(now)

        self.driver.start = counted
        self.watched = Watched(1, self.driver, _Diary(self), bus)  # type: ignore[arg-type]
        self.watched.start(FIRST_TICK)

    def _make_wet(self) -> None:
        driver = self.driver
        watch = driver._watch

        def watched(now: int) -> None:
            before = driver._wet
            watch(now)
            if driver._wet and not before:
                driver._wet_since = (now - WET_MS) & 0x3FFF_FFFF

        driver._watch = watched

    @property
    def now_us(self) -> int:
        """Virtual µs since the start."""
        return self.bench.clock.now_us()

    def _record(self, sensor: str, t_us: int, values: Mapping[str, float]) -> None:
        if sensor == self.chip.SENSOR:
            self.log.append((t_us, dict(values)))

    def _world(self, t_us: int) -> dict[str, float]:
        """Every quantity goes up and down through half of its range, so that a value of a moment ago is wrong."""
        turn = t_us / (WORLD_S * 1e6) % 1.0
        share = 0.2 + 0.5 * (2 * turn if turn < 0.5 else 2 - 2 * turn)
        return {name: low + (high - low) * share for name, (low, high) in self.range.items()}

    def turn(self) -> bool:
        """One turn of the supervisor; False if an exception escaped."""
        tick = later(FIRST_TICK, self.now_us // 1000)
        try:
            self.watched.step(tick)
        except Exception as error:  # noqa: BLE001  # any that escapes is the finding
            self.problem(f"{type(error).__name__} escaped: {error}")
            return False
        self._check_state()
        return True

    def advance(self, seconds: float, until: Callable[[], bool] | None = None) -> bool:
        """Lets so much time pass, or less if `until` comes true; whether it did."""
        end = self.now_us + round(seconds * 1e6)
        while self.now_us < end:
            if not self.turn():
                return False
            if until is not None and until():
                return True
            self.bench.wait_us(STEP_US)
        return False

    def stall(self, seconds: float) -> None:
        """The head does nothing for so long; what waited meanwhile is older when it comes, and the sample after it comes early."""
        self.bench.wait_us(round(seconds * 1e6))
        self._last_us = self.now_us
        self._fresh_us = (AFTER_STALL_S + seconds) * 1e6
        self._more = 1.0 + MORE

    def well(self) -> bool:
        """Ok, and it has delivered."""
        return self.watched.state == OK and bool(self.samples)

    def problem(self, text: str) -> None:
        """Something is wrong; the same is said once."""
        if text not in self.problems:
            self.problems.append(text)

    def judge(self, raw: bytes) -> None:
        """One sample was delivered: each number must be that of a conversion of the chip, newer than the last one delivered, and each
        reason one that is true of a chip in the middle of its range."""
        self.delivered += 1
        self._since_start += 1
        decoded = self.module.decode(self.trim, raw)
        numbers = {name: value for name, value in decoded.items() if not isinstance(value, str)}
        self._judge_reasons({value for value in decoded.values() if isinstance(value, str)})
        if not numbers:
            return
        first = self._seen
        while first < len(self.log) and self.now_us - self.log[first][0] > self._fresh_us:
            first += 1  # the world comes back to its values: those of now count first
        for index in (*range(first, len(self.log)), *range(self._seen, first)):
            if self._is(numbers, self.log[index][1]):
                self._follow(index)
                break
        else:
            self._wrong(numbers)
        self.samples.append(self.now_us)
        self._last_us = self.now_us

    def _follow(self, index: int) -> None:
        """It is conversion `index`."""
        if index > self._seen and self.samples:
            self._skipped += index - self._seen
            if not self.driver.PERIOD_MS:
                self._holes.append((self._last_us, self.now_us))
        self._seen = index + 1
        self.converted_us = self.log[index][0]
        age = self.now_us - self.log[index][0]
        self.oldest_us = max(self.oldest_us, age)
        if age > self._fresh_us:
            self.problem(f"a value {age / 1e6:.1f} s old")

    def _is(self, numbers: dict[str, float], truth: Mapping[str, float]) -> bool:
        compared = [name for name in numbers if name in truth]
        for name in compared:
            if not abs(numbers[name] - truth[name]) <= self.part.epsilon(name, truth[name]) * 1.001 + abs(truth[name]) * 1e-12:
                return False
        return bool(compared)

    def _judge_reasons(self, reasons: set[str]) -> None:
        for reason in reasons:
            expected = EXPECTED.get(self.part.name, ())
            if self._since_start == 1:
                expected += FIRST_EXPECTED.get(self.part.name, ())
            if reason not in expected and not (self.allow_wrong and self.part.name in UNDETECTABLE):
                self.problem(f"said {reason!r}, and it is not")

    def _wrong(self, numbers: dict[str, float]) -> None:
        log = self.log
        if self.allow_wrong and self.part.name in UNDETECTABLE:
            self.undetectable += 1
            self._seen += 1
            self.converted_us = self._last_us
            for name, value in numbers.items():
                low, high = self.range.get(name, (value, value))
                if not low - (high - low) <= value <= high + (high - low):  # the register's range: twice that of the quantity's half-range
                    self.problem(f"an undetectable {name} of {value:.6g} is outside of its range")
            return
        stale = next((entry for entry in log[: self._seen] if self._is(numbers, entry[1])), None)
        if stale is not None:
            self.problem("a conversion was delivered twice" if stale is log[self._seen - 1] else "an old conversion was delivered")
            return
        newest = log[-1][1] if log else {}
        name, value = next(
            ((name, value) for name, value in numbers.items() if name in newest and not self._is({name: value}, newest)),
            next(iter(numbers.items())),
        )
        self.problem(f"wrong value: {name} {value:.6g}, true {newest.get(name, float('nan')):.6g}")

    def _check_state(self) -> None:
        period = self.driver.PERIOD_MS
        longest = SILENT_PERIODS * period / 1000 if period else SILENT_S[self.part.name]
        if self.watched.state == OK and self.samples and self.now_us - self._last_us > longest * 1e6:
            self.problem(f"ok, but nothing came for {longest:.2f} s")

    def check_gaps(self) -> None:
        """What is missing must have been reported: conversions, of a chip that counts them; periods without a sample of the others."""
        period_us = self.driver.PERIOD_MS * 1000
        if not period_us:
            self._check_holes()
            return
        for before, after in zip(self.samples, self.samples[1:], strict=False):
            if after - before > 2.1 * period_us and not any(before <= t <= after and count for t, _, count in self.gaps):
                self.problem(f"{(after - before) / 1e6:.2f} s without sample at {before / 1e6:.2f} s and no GAP")
        if len(self.samples) > 1:
            passed, counted = self.count()
            if not passed - FEWER <= counted <= passed + self._more:
                self.problem(f"{passed:.2f} periods passed, {counted} samples delivered or reported missing")

    def count(self) -> tuple[float, int]:
        """(periods that passed between the first sample and the last, samples delivered or reported missing meanwhile)."""
        passed = (self.samples[-1] - self.samples[0]) / (self.driver.PERIOD_MS * 1000)
        return passed, self.delivered - 1 + sum(count for t, _, count in self.gaps if t > self.samples[0])

    def _check_holes(self) -> None:
        for begin, end in self._holes:
            if not any(begin <= t <= end for t, _, _ in self.gaps):
                self.problem(f"samples missing at {begin / 1e6:.2f} s and no GAP")
        if any(count for _, _, count in self.gaps):
            self.problem("a GAP of a sensor that counts by itself must say 0")
        missing = getattr(self.driver, "missing", None)
        # Where the box began anew, or its driver, nobody can know.
        if missing is not None and self.starts == 1 and not self.faults.cuts and missing != self._skipped:
            self.problem(f"{self._skipped} samples are missing, {missing} were counted")

    def story(self) -> list[str]:
        """The states it said, with reasons."""
        return [f"{t / 1e6:.2f} {STATES[state]}" + (f" ({REASONS[reason]})" if reason else "") for t, state, reason in self.states]


def on_one_bus(parts: Sequence[Part], faults: Sequence[Fault], seed: int = 0) -> tuple[list[Rig], TracedBus]:
    """A rig for each part, all on one bus with `faults`, and the bus."""
    bench = Bench()
    shared = Faults(faults, seed)
    rigs = [Rig(part, bench=bench, shared=shared) for part in parts]
    wire = TracedBus([chip for rig in rigs for chip in wire_chips(rig.chip)], bench.clock, shared)
    bus = head_bus(wire, bench)
    for rig in rigs:
        rig.attach(bus.i2c, bus)
    return rigs, wire


def advance(rigs: Sequence[Rig], seconds: float) -> None:
    """Lets all live so long; the head sleeps 10 ms after each round."""
    bench = rigs[0].bench
    end = bench.clock.now_us() + round(seconds * 1e6)
    while bench.clock.now_us() < end:
        for rig in rigs:
            rig.turn()
        bench.wait_us(STEP_US)
