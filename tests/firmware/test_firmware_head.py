"""The whole head on the real MicroPython, with the simulated truck's chips, buses and serial line."""

import collections
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import serial

from firmware import frames
from firmware.parts import STANDARD
from sim.clock import Clock
from sim.head import SimulatedHead

STILL = {
    "acceleration_x": 0.0,
    "acceleration_y": 0.0,
    "acceleration_z": 9.80665,
    "angular_rate_x": 0.0,
    "angular_rate_y": 0.0,
    "angular_rate_z": 0.0,
    "magnetic_field_x": 30e-6,
    "magnetic_field_y": 0.0,
    "magnetic_field_z": -35e-6,
    "pressure": 101_325.0,
    "temperature_barometer": 295.0,
    "temperature": 293.15,
    "humidity": 50.0,
    "illuminance": 5000.0,
    "uva": 10.0,
    "uvb": 1.0,
    "uvc": 0.0,
    "temperature_uv": 295.0,
    "pm1": 5e-9,
    "pm2_5": 8e-9,
    "pm4": 9e-9,
    "pm10": 1e-8,
    "particles_0_5": 3e7,
    "particles_1": 4e7,
    "particles_2_5": 4e7,
    "particles_4": 4e7,
    "particles_10": 4e7,
    "particle_size": 5e-7,
}


class Gateway:
    """A gateway that only counts: everything it has read it acknowledges when told to."""

    def __init__(self, head: SimulatedHead) -> None:
        self.head = head
        self.boot = 0
        self.sequence = 0
        self.repeats = 0
        self.samples: collections.Counter[str] = collections.Counter()
        self.seen: list[frames.Frame] = []
        self.decoder = frames.Decoder()
        self.port: serial.Serial | None = None

    def open(self) -> None:
        self.port = serial.Serial(self.head.port, 115200, timeout=0.02)
        self.decoder = frames.Decoder()
        self.say(frames.HELLO_REQUEST)

    def say(self, kind: int) -> None:
        assert self.port is not None
        self.port.write(frames.pack(kind, 0, 0, 0, 0, struct.pack("<II", self.boot, self.sequence)))

    def close(self) -> None:
        assert self.port is not None
        self.port.close()

    def listen(self, until: object, seconds: float = 30.0) -> None:
        """Read until `until()` is true; fails after `seconds`."""
        assert callable(until) and self.port is not None
        end = time.monotonic() + seconds
        acknowledged = time.monotonic()
        while not until():
            assert time.monotonic() < end, (self.samples, self.head.starts)
            for frame in self.decoder.feed(self.port.read(4096)):
                self.take(frame)
            if time.monotonic() - acknowledged > 0.4:
                acknowledged = time.monotonic()
                self.say(frames.ACK)

    def take(self, frame: frames.Frame) -> None:
        self.boot = frame.boot
        if frame.sequence == 0:
            self.seen.append(frame)
        elif frame.sequence <= self.sequence:
            self.repeats += 1
        else:
            assert frame.sequence == self.sequence + 1
            self.sequence = frame.sequence
            self.seen.append(frame)
            if frame.type == frames.SAMPLE:
                self.samples[frames.SENSORS[frame.payload[0]]] += frame.payload[1]

    def overflows(self) -> int:
        """How many times the head has reported an overflow of the IMU's FIFO."""
        return sum(frame.type == frames.GAP and frame.payload[:2] == b"\x01\x06" for frame in self.seen)

    def kinds(self) -> set[int]:
        return {frame.type for frame in self.seen}


@pytest.fixture
def truck(tmp_path: Path) -> Iterator[tuple[SimulatedHead, Clock, collections.Counter[str]]]:
    made: collections.Counter[str] = collections.Counter()
    clock = Clock()
    head = SimulatedHead(tmp_path, lambda t_us: STILL, lambda sensor, t_us, values: made.update([sensor]), clock, ticks_before_wrap_s=3)
    try:
        yield head, clock, made
    finally:
        head.stop()


@pytest.mark.timeout(60)
def test_every_sample_of_every_chip_arrives_once_over_a_closed_port_and_a_wrap_of_the_ticks(
    truck: tuple[SimulatedHead, Clock, collections.Counter[str]],
) -> None:
    head, _, made = truck
    gateway = Gateway(head)
    gateway.open()
    gateway.listen(lambda: gateway.samples.keys() == set(STANDARD))
    gateway.close()
    time.sleep(1.5)  # nobody listens: the ring keeps it
    gateway.open()
    gateway.listen(lambda: any(frame.ticks >> 30 == 1 for frame in gateway.seen))
    head.stop_clock()
    # The simulated FIFO is as small as the real one: on a host that stops this process for 200 ms it overflows, and the head must say so.
    gateway.listen(lambda: gateway.samples == made or gateway.overflows())
    gateway.close()
    assert gateway.samples["icm20948"] > 250
    assert head.starts == 1
    if gateway.overflows():
        made.subtract(gateway.samples)
        assert made["icm20948"] > 0
    else:
        assert [frame for frame in gateway.seen if frame.type == frames.GAP] == []
    assert gateway.kinds() >= {frames.HELLO, frames.TRIM, frames.SAMPLE, frames.STATE}
