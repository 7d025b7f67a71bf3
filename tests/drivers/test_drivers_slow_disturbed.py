"""One flipped bit, at any bit of any byte of any transaction (address, register, command, setting, status, data), one brown-out or one
failed transaction anywhere: a slow chip's driver may lose samples, it never delivers a number that its chip has not measured just now."""

import errno
import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from chip_bench import Bench, BenchI2C
from parts import PARTS, Part

from drivers.errors import POWER_ON_VALUES, WRONG_IDENTITY, BusError, from_oserror

pytestmark = pytest.mark.timeout(120)

SLOW = [part for part in PARTS if part.name.split("-")[0] in ("bmp390", "sht45", "opt3001", "as7331", "veml7700")]
NEIGHBOURS = ("bmp390", "sht45", "opt3001", "veml7700")  # on one bus: a flipped address may find one of them
PACE_MS = 10
SECONDS = 4


def changing(t_us: int) -> Mapping[str, float]:
    """A world in which a value of half a second ago is a wrong one."""
    t = t_us / 1e6
    return {
        "pressure": 95_000.0 + 300.0 * t, "temperature_barometer": 290.0 + t, "temperature": 285.0 + t, "humidity": 40.0 + t,
        "illuminance": 300.0 + 40.0 * t, "uva": 20.0 + 3.0 * t, "uvb": 1.0 + 0.2 * t, "uvc": 0.1 + 0.1 * t, "temperature_uv": 290.0 + t,
    }  # fmt: skip


@pytest.mark.parametrize("ppm", [0.0, -94_000.0, 100_000.0])
@pytest.mark.parametrize("part", SLOW, ids=lambda part: part.name)
def test_any_oscillator_and_any_pace_of_polling_give_a_sample_a_period_and_no_error(part: Part, ppm: float) -> None:
    """10 % fast to 10.4 % slow: OPT3001's 883 ms. A driver that is asked each millisecond waits by itself for what takes its time."""
    for pace_ms in (1, 10):
        bench = Bench()
        model = part.model()
        options = {"ppm": ppm} if "ppm" in inspect.signature(model.__init__).parameters else {}
        driver: Any = part.driver(bench.i2c(model(changing, bench.record, **options)))
        raw, samples = bytearray(16), 0
        driver.start(0)
        for now in range(0, 4950, pace_ms):
            if driver.poll(now):
                driver.read_into(raw)
                samples += 1
            bench.wait_us(pace_ms * 1000)
        assert samples in (4950 // driver.PERIOD_MS, 4950 // driver.PERIOD_MS + 1), pace_ms


FLIP, BROWN_OUT, UNHEARD, UNANSWERED = "flip", "brown-out", "unheard", "unanswered"


class Disturbed:
    """machine.I2C's methods with one disturbance, where the count `at` is reached:

    flip        bit `at` of all that crosses the wire (7 bits of each address, 8 of each byte) arrives inverted
    brown-out   the chip is at its power-on values before transaction `at`
    unheard     transaction `at` reaches nobody, and is a missing acknowledge
    unanswered  transaction `at` reaches the chip, and is a time-out here"""

    def __init__(self, i2c: BenchI2C, chip: Any, kind: str, at: int) -> None:
        self._i2c = i2c
        self._chip = chip
        self._kind = kind
        self._at = at
        self.bits = 0
        self.transactions = 0

    def _cross(self, value: int, width: int) -> int:
        at = self._at - self.bits
        self.bits += width
        return value ^ 1 << at if self._kind == FLIP and 0 <= at < width else value

    def _bytes(self, data: bytes) -> bytes:
        if self._kind != FLIP or not 0 <= self._at - self.bits < 8 * len(data):  # most transfers: nothing to look for byte by byte
            self.bits += 8 * len(data)
            return data
        return bytes(self._cross(byte, 8) for byte in data)

    def _transfer(self, move: Callable[[], bytes]) -> bytes:
        here = self.transactions == self._at
        self.transactions += 1
        if here and self._kind == BROWN_OUT:
            self._chip.power_cycle()
        if here and self._kind == UNHEARD:
            raise OSError(errno.EIO)
        data = move()
        if here and self._kind == UNANSWERED:
            raise OSError(errno.ETIMEDOUT)
        return data

    def writeto(self, address: int, buf: bytes) -> None:
        self._transfer(lambda: self._i2c.writeto(self._cross(address, 7), self._bytes(bytes(buf))).to_bytes(1, "big"))

    def readfrom_into(self, address: int, buf: bytearray) -> None:
        buf[:] = self._transfer(lambda: self._bytes(self._i2c.readfrom(self._cross(address, 7), len(buf))))

    def writeto_mem(self, address: int, register: int, buf: bytes) -> None:
        self._transfer(lambda: self._i2c.writeto_mem(self._cross(address, 7), self._cross(register, 8), self._bytes(bytes(buf))) or b"")

    def readfrom_mem_into(self, address: int, register: int, buf: bytearray) -> None:
        buf[:] = self._transfer(lambda: self._bytes(self._i2c.readfrom_mem(self._cross(address, 7), self._cross(register, 8), len(buf))))


def run(part: Part, kind: str, at: int) -> tuple[Disturbed, int]:
    """(the wires, samples delivered) of a few seconds with one disturbance, under a supervisor like the head's."""
    bench = Bench()
    name = part.name.split("-")[0]
    chips = {
        other.name: other.chip(changing, bench.record) for other in PARTS if other.name in (NEIGHBOURS if name in NEIGHBOURS else (name,))
    }
    bus = Disturbed(bench.i2c(*chips.values()), chips[name], kind, at)
    driver: Any = part.driver(bus)
    decode = importlib.import_module(part.module).decode
    raw = bytearray(64)
    delivered = failures = 0
    driver.start(0)
    for now in range(0, SECONDS * 1000, PACE_MS):
        try:
            if driver.poll(now):
                size = driver.read_into(raw)
                truth = [values for sensor, _, values in bench.log if sensor == driver.SENSOR][-1]
                for quantity, value in decode(driver.trim(), bytes(raw[:size])).items():
                    if not isinstance(value, str):
                        allowed = part.epsilon(quantity, truth[quantity]) * 1.001
                        assert abs(value - truth[quantity]) <= allowed, f"{kind} {at}: {quantity} {value}, true {truth[quantity]}"
                delivered += 1
                failures = 0
        except (BusError, OSError) as error:
            code = error.code if isinstance(error, BusError) else from_oserror(error).code
            failures += 1
            if failures == 3 or not driver.configured or code in (POWER_ON_VALUES, WRONG_IDENTITY):
                driver.start(now)
                failures = 0
        bench.wait_us(PACE_MS * 1000)
    return bus, delivered


@pytest.mark.parametrize("kind", [FLIP, BROWN_OUT, UNHEARD, UNANSWERED])
@pytest.mark.parametrize("part", SLOW, ids=lambda part: part.name)
def test_no_disturbance_makes_a_wrong_number_and_the_next_samples_come(part: Part, kind: str) -> None:
    wires, undisturbed = run(part, kind, -1)
    assert undisturbed >= 3
    for at in range(wires.bits if kind == FLIP else wires.transactions):
        assert run(part, kind, at)[1] >= 1, f"{kind} {at}: it stays silent"
