"""The head's ticks in boot time, to less than a millisecond: whatever the crystal, its temperature and the serial line do."""

import random
from pathlib import Path

import pytest
from gateway_head import SHT45_RAW
from gateway_recording import Bench

from firmware import frames
from gateway.convert import Converter
from gateway.head import FIRST_PINGS
from gateway.head_log import HeadLog
from gateway.imu_times import HeadClock

pytestmark = pytest.mark.timeout(60)

MS = 1_000_000
SECOND = 1_000_000_000
BOOT = 77
LIMIT_NS = 1 * MS
START_NS = 10**15


class Crystal:
    """A head's crystal, `ppm` slow at first and `ramp_ppm` more over `ramp_s` (a box in the sun, a box opened in winter)."""

    def __init__(self, ppm: float, ramp_ppm: float, ramp_s: float = 600.0) -> None:
        self._slow = ppm * 1e-6
        self._ramp = ramp_ppm * 1e-6 / ramp_s
        self._ramp_s = ramp_s

    def ticks(self, true_ns: float) -> int:
        """µs at so many ns since the head's start."""
        t = true_ns / SECOND
        ramped = min(t, self._ramp_s)
        late = self._slow * t + self._ramp * ramped * ramped / 2 + self._ramp * self._ramp_s * max(0.0, t - self._ramp_s)
        return int((t - late) * 1e6)


class Line:
    """What a message needs one way (ns): a full-speed USB frame and a thread's waking; now and then a turn of Python's lock."""

    def __init__(self, seed: int, slow: float) -> None:
        self._random = random.Random(seed)
        self._slow = slow

    def way(self) -> float:
        """Never less than 0.15 ms."""
        delay = 0.15 + self._random.expovariate(1 / 0.3) + self._random.choice((0.0, 0.0, 1.0))
        if self._random.random() < self._slow:
            delay += self._random.choice((5.0, 16.0, 80.0))
        return delay * MS


@pytest.mark.parametrize("slow", [0.05, 0.5])
@pytest.mark.parametrize(("ppm", "ramp_ppm"), [(50.0, 0.0), (-50.0, 20.0), (50.0, -20.0), (0.0, 30.0)])
def test_ticks_are_placed_within_a_millisecond_through_jitter_drift_and_a_changing_temperature(
    ppm: float, ramp_ppm: float, slow: float
) -> None:
    worst = 0.0
    for seed in range(2):
        crystal, line, clock = Crystal(ppm, ramp_ppm), Line(seed, slow), HeadClock()
        now = 0.0
        for exchange in range(700):
            out, back = line.way(), line.way()
            clock.exchange(int(START_NS + now), crystal.ticks(now + out), int(START_NS + now + out + back))
            now += SECOND if exchange >= FIRST_PINGS else out + back + 20 * MS
            if exchange < (FIRST_PINGS if slow < 0.1 else 30):  # half of all exchanges slow: it takes some fast ones
                continue
            for ahead in (0.0, 0.3, 0.7, 1.0):  # of frames until the next exchange
                at = now - SECOND + ahead * SECOND
                worst = max(worst, abs(clock.boottime_ns(crystal.ticks(at)) - START_NS - at))
    assert worst < LIMIT_NS


def test_a_slow_sensors_reading_has_its_ticks_moment(tmp_path: Path) -> None:
    crystal, line, clock = Crystal(50.0, 20.0), Line(9, 0.1), HeadClock()
    bench = Bench(tmp_path)
    log = HeadLog(bench.journal, bench.snapshot, bench.clock, Converter())
    true: list[float] = []
    now = 0.0
    for exchange in range(200):
        out, back = line.way(), line.way()
        clock.exchange(int(START_NS + now), crystal.ticks(now + out), int(START_NS + now + out + back))
        now += SECOND
        if exchange == FIRST_PINGS:
            log.hello(BOOT, {"unique_id": "u"}, clock)
        if exchange >= FIRST_PINGS:
            true.append(START_NS + now - 400 * MS)
            ticks = crystal.ticks(now - 400 * MS)
            log.add(frames.Frame(frames.SAMPLE, BOOT, exchange - FIRST_PINGS + 1, ticks, bytes((3, 1)) + SHT45_RAW))
            assert log.commit()
    readings = bench.close().decoded("/reading/sht45")
    assert len(readings) == len(true)
    assert max(abs(reading.boottime_ns - at) for reading, at in zip(readings, true, strict=True)) < LIMIT_NS
