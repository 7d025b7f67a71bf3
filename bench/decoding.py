"""What conversion costs: each driver's `decode` against a bare `struct.unpack` of the same bytes, and against real time at the sensor's
rate; the IMU's whole way through the gateway, from the bytes of the serial line to the journal, against real time."""

import struct
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np

from bench.measure import Row, own
from drivers import as7331, bmp390, first_fleet, icm20948, neo_m9n, opt3001, pms5003, sht45, sps30, veml7700
from firmware import frames
from gateway.clock import Clock
from gateway.convert import Converter
from gateway.head_log import HeadLog
from gateway.imu_times import HeadClock
from gateway.journal import Entry
from gateway.live import LiveSender
from gateway.snapshot import Snapshot
from sim.world import World

RUNS = 5
SAMPLES = 2_000  # decoded in a run
DRAIN_US, BATCH_FRAMES = 50_000, 20
SLOW_HZ, BOX_HZ = 1.0, 100.0
H = bytes.fromhex
IMU_SECONDS = 60
ACCEL_LSB, GYRO_LSB, MAG_LSB, TEMPERATURE_LSB = (
    4096 / 9.80665,
    65.5 * 180 / np.pi,
    1 / 0.15e-6,
    333.87,
)  # facts of the ICM-20948 at ±8 g and ±500 °/s
TRIM = bytes([0x1D, 0x1B, 0, 10, 10])


def fifo_frames() -> list[bytes]:
    """One minute of the simulated truck's IMU as FIFO frames."""
    world = World(seed=1)
    frames = []
    for number in range(int(IMU_SECONDS * 1125 / 11)):
        now = world.at(round((number + 2000) * 11e6 / 1125))
        axes = [round(now[f"acceleration_{axis}"] * ACCEL_LSB) for axis in "xyz"]
        axes += [round(now[f"angular_rate_{axis}"] * GYRO_LSB) for axis in "xyz"]
        field = [round(now[f"magnetic_field_{axis}"] * MAG_LSB) * sign for axis, sign in (("x", 1), ("y", -1), ("z", -1))]
        die = round((now["temperature_imu"] - 294.15) * TEMPERATURE_LSB)
        frames.append(struct.pack(">7h", *axes, die) + b"\x01" + struct.pack("<3h", *field) + b"\x00\x10")
    return frames


class Sample(NamedTuple):
    """One sample of a sensor as it comes: facts of docs/formats.md 1, values from the vectors of the drivers' tests."""

    module: ModuleType
    trim: bytes
    raw: bytes
    layout: str  # what struct would have to take apart at least
    rate_hz: float


def _samples(frame: bytes, trim: bytes) -> list[Sample]:
    nav_pvt = H("e5070c040b223b371a0000003c7bfaff0303ea1ad928aafedceedb1f30640100cda60000d305000011080000f9ffffff0400000009000000")
    nav_pvt = bytes(4) + nav_pvt + bytes(92 - 4 - len(nav_pvt))
    pms = H("424d001c000600090009000600090009051f016f003e0002000000009700") + H("0246")
    uva = struct.pack("<5HB", 0x0083, 0x0922, 1000, 900, 800, 0xA6)
    box_trim, box_raw = (
        bytes(first_fleet.TRIM_SIZE),
        struct.pack("<HHBB9h6H", 7, 1, 0, 0, *range(100, 109), 57000, 4096, 3346, 120, 900, 500),
    )
    return [
        Sample(icm20948, trim, frame, ">7hB3hBB", 1125 / 11),
        Sample(bmp390, H("a86bd749f9a2feb0f62300a061d67503f6064018c4"), H("000068000080"), "<6B", SLOW_HZ),
        Sample(sht45, bytes(4), H("6667a28000a2"), ">HBHB", SLOW_HZ),
        Sample(opt3001, H("3001"), H("34560000"), ">2H", SLOW_HZ),
        Sample(veml7700, bytes(veml7700.TRIM_SIZE), struct.pack("<2H", 1500, 0x1000), "<2H", SLOW_HZ),
        Sample(as7331, b"\xa6\x40\x40", uva, "<5HB", SLOW_HZ),
        Sample(sps30, b"\x02\x03ABC", struct.pack(">10f", 1.5, 2.5, 3.5, 4.5, 10, 11, 12, 13, 14, 0.5), ">10f", SLOW_HZ),
        Sample(pms5003, bytes(pms5003.TRIM_SIZE), pms, ">16H", SLOW_HZ),
        Sample(neo_m9n, b"", nav_pvt, "<IH6BIi4B4i2I", SLOW_HZ),
        Sample(first_fleet, box_trim, box_raw, "<HHBB9h6H", BOX_HZ),
    ]


def rows() -> Iterator[Row]:
    """For each sensor CPU of `decode` over CPU of struct.unpack, and real time over CPU time at its rate."""
    for sample in _samples(fifo_frames()[0], TRIM):
        decode, part = sample.module.decode, sample.raw[: struct.calcsize(sample.layout)]

        def ours(sample: Sample = sample, decode: Callable[[bytes, bytes], object] = decode) -> None:
            for _ in range(SAMPLES):
                decode(sample.trim, sample.raw)

        def bare(sample: Sample = sample, part: bytes = part) -> None:
            for _ in range(SAMPLES):
                struct.unpack(sample.layout, part)

        runs = [(own(ours).cpu, own(bare).cpu) for _ in range(RUNS + 1)][1:]
        yield Row(sample.module.SENSOR, "struct.unpack", [mine / other for mine, other in runs])
        yield Row(f"{sample.module.SENSOR}: speed", "real time, one core", [SAMPLES / sample.rate_hz / mine for mine, _ in runs])


class _Counting:
    """A journal whose disk costs nothing."""

    def __init__(self) -> None:
        self.messages = 0

    def has_room(self) -> bool:
        return True

    def describe(self, topic: str, metadata: dict[str, str]) -> None:
        """Nothing is written."""

    def write(self, entries: Sequence[Entry], token: object = None) -> bool:
        self.messages += len(entries)
        return True


def _line(fifo: list[bytes], trim: bytes) -> list[bytes]:
    """The bytes of the serial line of one boot of a head, a drain each: TRIM first, then the FIFO frames."""
    period_us = 1e6 * 11 / 1125
    sequence = 1
    pieces = [frames.pack(frames.TRIM, 5, sequence, 0, 0, b"\x01" + trim)]
    taken, ticks = 0, 0
    while taken < len(fifo):
        ticks += DRAIN_US
        due = min(len(fifo), int(ticks / period_us)) - taken
        piece = b""
        while due > 0:
            count = min(due, icm20948.FRAMES_AT_ONCE)
            sequence += 1
            payload = bytes((1, count)) + b"".join(fifo[taken : taken + count])
            piece += frames.pack(frames.SAMPLE, 5, sequence, ticks & 0x3FFF_FFFF, ticks >> 30, payload)
            taken += count
            due -= count
        pieces.append(piece)
    return pieces


def imu_through_the_gateway(fifo: list[bytes], trim: bytes) -> list[float]:
    """Recorded time over CPU time: frames decoded, samples counted and dated, typed for the live view, encoded as column blocks."""
    pieces = _line(fifo, trim)
    recorded = len(fifo) * 11 / 1125
    found = []
    for _ in range(RUNS):
        with tempfile.TemporaryDirectory(prefix="bench-") as name:
            sender = LiveSender(Path(name) / "live.sock")
            utc, clock, journal = Clock(system=lambda: None), HeadClock(), _Counting()
            log = HeadLog(journal, Snapshot("truck-1", "bench", utc, sender), utc, Converter())  # type: ignore[arg-type]
            clock.exchange(1_000_000_000, 0, 1_000_300_000)
            log.hello(5, {}, clock)
            decoder = frames.Decoder()

            def work(log: HeadLog = log, decoder: frames.Decoder = decoder) -> None:
                for piece in pieces:
                    for frame in decoder.feed(piece):
                        log.add(frame)
                    if log.frames >= BATCH_FRAMES:
                        log.commit()
                log.commit()

            found.append(recorded / own(work).cpu)
            sender.close()
            assert journal.messages > 0
    return found
