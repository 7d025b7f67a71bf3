"""One sensor of the head in virtual time, with faults in front of its chip: the real driver under the real supervisor, in a world that
changes all the time, and everything it delivered judged against what the chip's model converted.

A run ends with an `Outcome`: what is wrong with it (`problems`, empty if nothing), how long the sensor needed to be well again, and how
many wrong values came out where no protocol can notice them (`undetectable`)."""

import importlib
import types
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from chip_bench import Bench, BenchI2C, BenchUart
from parts import Part

import firmware.bus
from drivers.portable import later
from firmware.frames import OK, REASONS, STATES
from firmware.supervisor import Watched
from sim.bus import I2CBus, UartLine
from sim.faults import Fault, Faults, Strike

STEP_US = 10_000
FIRST_TICK = (1 << 30) - 4_000  # the ticks wrap four seconds after the start
RECOVERED_S = 2.0  # the bar of issue 3
SILENT_PERIODS = 3.2  # ok for longer than so many periods without a sample is a lie
SILENT_S = {"icm20948": 0.8, "first_fleet": 2.2}  # of those that count their samples themselves: until the driver says time-out
FRESH_S = 3.5  # an SPS30's sample is held until its status was read
# What a part needs by itself before its first sample after its supply came back (its model's times): added to the bar.
WARM_UP_S = {"sps30": 1.5, "sps30_i2c": 2.5, "pms5003": 33.0, "neo_m9n": 4.0}
# Whatever the fault: the set-up of these begins with a stop, with looking for the speed, or with the fan's 30 s.
STARTS_ANEW = ("sps30", "sps30_i2c", "neo_m9n", "pms5003")
# Where a flipped bit in data cannot be noticed: the FIFO gives each byte once, without a checksum.
UNDETECTABLE = {"icm20948": "a FIFO frame is read once and has no checksum"}


class Outcome(NamedTuple):
    """`recovery_s` is from the fault's end to "ok" with a sample that came after it; None: never."""

    problems: list[str]
    recovery_s: float | None
    undetectable: int
    delivered: int
    reported: int
    states: list[str]


class Transaction(NamedTuple):
    """One transfer of a healthy run."""

    t_us: int
    write: bytes
    read_n: int


class _TracedBus(I2CBus):
    """Remembers its transfers."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.trace: list[Transaction] = []

    def transfer(self, address: int, write: bytes, read_n: int, stop_between: bool = False, stop_at_end: bool = True) -> bytes:
        self.trace.append(Transaction(self._clock.running_us(), write, read_n))
        return super().transfer(address, write, read_n, stop_between, stop_at_end)


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


class _Diary:
    """The outbox of the sensor: what was said, and when."""

    def __init__(self, rig: "Rig") -> None:
        self.ticks = self
        self._rig = rig
        self._buffer = bytearray(231)  # what a SAMPLE frame holds

    def stamp(self) -> None:
        """The bench has the time."""

    def sample(self, sensor: int, driver: Any) -> int:
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
    """`part` with `faults` in front; `advance(seconds)` lets it run."""

    def __init__(self, part: Part, faults: Sequence[Fault] = (), seed: int = 0) -> None:
        self.part = part
        self.bench = Bench()
        self.faults = Faults(faults, seed)
        self.range: dict[str, tuple[float, float]] = part.model().RANGE
        self.chip = part.chip(self._world, self.bench.record)
        self.trace: list[Transaction] = []
        bus = None
        if part.wire == "i2c":
            extra = (self.chip.magnetometer,) if hasattr(self.chip, "magnetometer") else ()
            wire = _TracedBus((self.chip, *extra), self.bench.clock, self.faults)
            self.trace = wire.trace
            firmware.bus.time = types.SimpleNamespace(sleep_us=self.bench.wait_us)  # type: ignore[assignment, attr-defined]
            bus = firmware.bus.I2CBus(machine_on(wire), 0, 4, 5, 400_000)
            self.driver = part.driver(bus.i2c)
        else:
            self.driver = part.driver(BenchUart(UartLine(self.chip, self.bench.clock, part.speed, faults=self.faults)))
        if part.name in SILENT_S:
            self.driver.PERIOD_MS = 0  # the first fleet's box has no supervisor on the truck; it counts by index, so it is taken for a FIFO
        self.module = importlib.import_module(part.module)
        self.trim = b""
        self.problems: list[str] = []
        self.states: list[tuple[int, int, int]] = []
        self.gaps: list[tuple[int, int, int]] = []
        self.samples: list[int] = []  # when each with a number came
        self.delivered = 0
        self.undetectable = 0
        self.allow_wrong = False
        self._seen = 0  # of the chip's log
        self._holes: list[tuple[int, int]] = []  # (from, to) µs between samples with conversions that never came
        self._last_us = 0
        self.watched = Watched(1, self.driver, _Diary(self), bus)  # type: ignore[arg-type]
        self.watched.start(FIRST_TICK)

    @property
    def now_us(self) -> int:
        """Virtual µs since the start."""
        return self.bench.clock.now_us()

    def _world(self, t_us: int) -> dict[str, float]:
        """Every quantity goes up and down through half of its range in 97 s, so that a value of a moment ago is wrong."""
        turn = t_us / 97.3e6 % 1.0
        share = 0.2 + 0.5 * (2 * turn if turn < 0.5 else 2 - 2 * turn)
        return {name: low + (high - low) * share for name, (low, high) in self.range.items()}

    def advance(self, seconds: float, until: Callable[[], bool] | None = None) -> bool:
        """Lets so much time pass, or less if `until` comes true; whether it did."""
        end = self.now_us + round(seconds * 1e6)
        while self.now_us < end:
            tick = later(FIRST_TICK, self.now_us // 1000)
            try:
                self.watched.step(tick)
            except Exception as error:  # noqa: BLE001  # any that escapes is the finding
                self.problem(f"{type(error).__name__} escaped: {error}")
                return False
            self._check_state()
            if until is not None and until():
                return True
            self.bench.wait_us(STEP_US)
        return False

    def well(self) -> bool:
        """Ok, and it has delivered."""
        return self.watched.state == OK and bool(self.samples)

    def problem(self, text: str) -> None:
        """Something is wrong; the same is said once."""
        if text not in self.problems:
            self.problems.append(text)

    def judge(self, raw: bytes) -> None:
        """One sample was delivered: each number must be that of a conversion of the chip, newer than the last one delivered."""
        self.delivered += 1
        decoded = self.module.decode(self.trim, raw)
        numbers = {name: value for name, value in decoded.items() if not isinstance(value, str)}
        if not numbers:
            return
        log = self.bench.log
        first = self._seen
        while first < len(log) and self.now_us - log[first][1] > FRESH_S * 1e6:
            first += 1  # the world comes back to its values: those of now count first
        for index in (*range(first, len(log)), *range(self._seen, first)):
            if self._is(numbers, log[index][2]):
                if index > self._seen and self.samples and not self.driver.PERIOD_MS:
                    self._holes.append((self._last_us, self.now_us))
                self._seen = index + 1
                if self.now_us - log[index][1] > FRESH_S * 1e6:
                    self.problem(f"a value {(self.now_us - log[index][1]) / 1e6:.1f} s old")
                break
        else:
            self._wrong(numbers)
        self.samples.append(self.now_us)
        self._last_us = self.now_us

    def _is(self, numbers: dict[str, float], truth: Any) -> bool:
        compared = [name for name in numbers if name in truth]
        for name in compared:
            if not abs(numbers[name] - truth[name]) <= self.part.epsilon(name, truth[name]) * 1.001 + abs(truth[name]) * 1e-12:
                return False
        return bool(compared)

    def _wrong(self, numbers: dict[str, float]) -> None:
        log = self.bench.log
        if self.allow_wrong and self.part.name in UNDETECTABLE:
            self.undetectable += 1
            self._seen += 1
            for name, value in numbers.items():
                low, high = self.range.get(name, (value, value))
                if not low - (high - low) <= value <= high + (high - low):  # the register's range: twice that of the quantity's half-range
                    self.problem(f"an undetectable {name} of {value:.6g} is outside of its range")
            return
        stale = next((entry for entry in log[: self._seen] if self._is(numbers, entry[2])), None)
        if stale is not None:
            self.problem("a conversion was delivered twice" if stale is log[self._seen - 1] else "an old conversion was delivered")
            return
        newest = log[-1][2] if log else {}
        name, value = next(
            ((name, value) for name, value in numbers.items() if name in newest and not self._is({name: value}, newest)),
            next(iter(numbers.items())),
        )
        self.problem(f"wrong value: {name} {value:.6g}, true {newest.get(name, float('nan')):.6g}")

    def _check_state(self) -> None:
        period = self.driver.PERIOD_MS
        longest = SILENT_PERIODS * period / 1000 if period else SILENT_S[self.part.name]
        if self.watched.state == OK and self.samples and self.now_us - self._last_us > longest * 1e6:
            self.problem(f"ok, but nothing came for {longest:.1f} s")

    def check_gaps(self) -> None:
        """What is missing must have been reported: holes of the IMU, and periods without a sample of the others."""
        period_us = self.driver.PERIOD_MS * 1000
        if not period_us:
            for begin, end in self._holes:
                if not any(begin <= t <= end for t, _, _ in self.gaps):
                    self.problem(f"samples missing at {begin / 1e6:.2f} s and no GAP")
            if any(count for _, _, count in self.gaps):
                self.problem("the IMU's GAP must say 0")
            return
        for before, after in zip(self.samples, self.samples[1:], strict=False):
            if after - before > 2.1 * period_us and not any(before <= t <= after and count for t, _, count in self.gaps):
                self.problem(f"{(after - before) / 1e6:.2f} s without sample at {before / 1e6:.2f} s and no GAP")
        if len(self.samples) > 1:
            passed = (self.samples[-1] - self.samples[0]) / period_us
            counted = self.delivered - 1 + sum(count for t, _, count in self.gaps if t > self.samples[0])
            # A chip of its own pace is up to 5 % off the nominal one here (the models' oscillators).
            if not passed * 0.95 - 1.2 <= counted <= passed * 1.05 + 1.2:
                self.problem(f"{passed:.1f} periods passed, {counted} samples delivered or reported missing")

    def story(self) -> list[str]:
        """The states it said, with reasons."""
        return [f"{t / 1e6:.2f} {STATES[state]}" + (f" ({REASONS[reason]})" if reason else "") for t, state, reason in self.states]


def run(
    part: Part,
    faults: Sequence[Fault],
    seed: int = 0,
    *,
    visible: bool = False,
    settle_s: float = 1.5,
    wrong: bool = False,
) -> Outcome:
    """`part` from its start through `faults` until it is well again, and `settle_s` longer. `visible`: the state just before a fault's end
    must not be ok. `wrong`: the faults flip data bits."""
    rig = Rig(part, faults, seed)
    rig.allow_wrong = wrong
    strikes = rig.faults.strikes
    start = 3 * (RECOVERED_S + WARM_UP_S.get(part.name, 0.0))
    timed = [strike for strike in strikes if strike.end_us is not None]
    last_end = max((strike.end_us or 0 for strike in timed), default=0)

    def over() -> bool:
        return all(_over(strike, rig.now_us) for strike in strikes)

    if timed and visible:
        rig.advance((last_end - STEP_US - rig.now_us) / 1e6)
        if rig.watched.state == OK:
            rig.problem("ok at the end of the fault")
    rig.advance(max(start, last_end / 1e6 - rig.now_us / 1e6 + 0.1, max(strike.begin_us for strike in strikes) / 1e6 + 3.0), over)
    if not over():
        rig.problem("the fault never struck")
        return _outcome(rig, None)
    end_us = max(_end_us(strike) for strike in strikes)
    allowed = RECOVERED_S
    if part.name in STARTS_ANEW or any(fault.kind in ("brown_out", "unplugged") for fault in faults) or not rig.samples:
        allowed += WARM_UP_S.get(part.name, 0.0)  # its supply went, or it was hit in its first start
    rig.advance(allowed + 2.5, lambda: rig.well() and rig.samples[-1] > end_us)
    recovery = (rig.now_us - end_us) / 1e6
    if not (rig.well() and rig.samples[-1] > end_us):
        rig.problem(f"not well {recovery:.1f} s after the fault ({STATES[rig.watched.state]}, {REASONS[rig.watched.reason]})")
        return _outcome(rig, None)
    if recovery > allowed + STEP_US / 1e6:
        rig.problem(f"well only after {recovery:.2f} s")
    rig.advance(settle_s)
    rig.check_gaps()
    return _outcome(rig, recovery)


def _over(strike: Strike, now_us: int) -> bool:
    fault = strike.fault
    if fault.kind == "brown_out":
        return strike.hits > 0
    if fault.times is not None and strike.hits >= fault.times:
        return True
    return strike.end_us is not None and now_us >= strike.end_us


def _end_us(strike: Strike) -> int:
    if strike.fault.times is not None or strike.fault.kind == "brown_out" or strike.end_us is None:
        return strike.last_us or 0
    return strike.end_us


def _outcome(rig: Rig, recovery: float | None) -> Outcome:
    return Outcome(rig.problems, recovery, rig.undetectable, rig.delivered, sum(count for _, _, count in rig.gaps), rig.story())
