"""Heads with spares: the whole firmware on the real MicroPython, in virtual time, with each of the longest lists of parts. What the gateway
makes of its frames is what the chips measured."""

import json
import struct
from pathlib import Path

import pytest
from gateway_recording import Bench
from parts import PARTS, Part
from virtual_head import VirtualHead

from firmware import frames
from gateway.convert import Converter
from gateway.head_log import HeadLog
from gateway.imu_times import HeadClock

pytestmark = pytest.mark.timeout(60)

STARTED = 10**15  # boot time of the head's tick 0
SECOND = 1_000_000
BY_NAME = {part.name: part for part in PARTS}
COMMON = ("icm20948", "bmp390", "sht45", "as7331", "neo_m9n")
# Seconds of the head's life: a PMS5003 warms up for 30 s.
LIFE = {"sps30": 9, "sps30_i2c": 9, "pms5003": 42}


class Gateway:
    """Asks for everything once, acknowledges everything twice a second, and keeps it."""

    def __init__(self) -> None:
        self.frames: list[frames.Frame] = []
        self.hello: frames.Frame | None = None
        self._said_us = -SECOND

    def turn(self, found: list[frames.Frame], now_us: int) -> bytes:
        newest = self.frames[-1].sequence if self.frames else 0
        for frame in found:
            if frame.type == frames.HELLO:
                self.hello = frame
            elif not frame.sequence or frame.sequence > newest:
                self.frames.append(frame)
                newest = frame.sequence or newest
        if now_us - self._said_us < SECOND // 2:
            return b""
        self._said_us = now_us
        kind = frames.ACK if self.hello is not None else frames.HELLO_REQUEST
        boot = self.hello.boot if self.hello is not None else 0
        return frames.pack(kind, 0, 0, 0, 0, struct.pack("<II", boot, newest))


def world(fit: tuple[str, ...]) -> dict[str, float]:
    """Two thirds up the range of every part."""
    values: dict[str, float] = {}
    for name in fit:
        for quantity, (low, high) in BY_NAME[name].model().RANGE.items():
            values[quantity] = low + (high - low) * (0.01 if quantity in ("illuminance", "uva", "uvb", "uvc") else 0.66)
    return values


def close(part: Part, quantity: str, value: float, truth: float) -> bool:
    return abs(value - truth) <= part.epsilon(quantity, truth) * 1.001 + abs(truth) * 1e-9


@pytest.mark.parametrize("particles", LIFE)
@pytest.mark.parametrize("light", ["opt3001", "veml7700"])
def test_a_head_with_spares_delivers_their_samples_and_the_gateway_reads_them_right(tmp_path: Path, light: str, particles: str) -> None:
    fit = (*COMMON, light, particles)
    truth = world(fit)
    gateway = Gateway()
    with VirtualHead(lambda t_us: truth, lambda *told: None, gateway.turn, fit=fit) as head:
        head.until(LIFE[particles] * SECOND)
        made = {name: row["samples"] for name, row in head.board.counters().items()}
        assert head.resets == 0 and head.bad == 0, head.errors()
    assert gateway.hello is not None
    hello = json.loads(gateway.hello.payload)
    assert "parts_error" not in hello
    heap = [struct.unpack("<6I", frame.payload)[0] for frame in gateway.frames if frame.type == frames.HEALTH]
    assert heap and min(heap) > 8_000, heap

    bench = Bench(tmp_path)
    log = HeadLog(bench.journal, bench.snapshot, bench.clock, Converter())
    clock = HeadClock()
    clock.exchange(STARTED, 0, STARTED)
    log.hello(gateway.hello.boot, hello, clock)
    for frame in gateway.frames:
        if frame.sequence:
            assert log.has_way(frame)
            log.add(frame)
    assert log.commit() and log.malformed == 0
    recording = bench.close()

    assert recording.gaps("icm20948") == []
    for name in fit[1:]:
        part = BY_NAME[name]
        sensor = part.model().SENSOR
        readings = recording.decoded(f"/reading/{sensor}")
        first = 3 if sensor == "veml7700" or sensor == "as7331" else 0  # they find their range first
        assert made[sensor] - 3 <= len(readings) and len(readings) > first, (sensor, made[sensor], len(readings))
        for reading in readings[first:]:
            for value in reading.values:
                if value.quantity in part.model().RANGE:
                    assert value.WhichOneof("result") == "number", (sensor, value)
                    assert close(part, value.quantity, value.number, truth[value.quantity]), (sensor, value)
