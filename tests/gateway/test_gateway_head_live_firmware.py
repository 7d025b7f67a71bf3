"""The real firmware on MicroPython before a gateway that speaks, reads and does not acknowledge: its disk refuses."""

import re
import time
from pathlib import Path

import pytest
from gateway_recording import wait_for
from refusing_disk import Disk, Refused

import gateway.head
import gateway.journal
from logbook.quantities import TABLE
from sim.clock import Clock
from sim.head import SimulatedHead

pytestmark = [pytest.mark.clock, pytest.mark.xdist_group("clock"), pytest.mark.timeout(180)]

REFUSED_SECONDS = 5
SETTLING_SECONDS = 5  # the gateway learns the chip's clock, for the count
ROOM, HELD = 20_000, 60


def test_the_head_goes_on_and_every_sample_is_recorded_or_counted_when_the_disk_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway.journal, "ROOM_BYTES", ROOM)
    monkeypatch.setattr(gateway.head, "HELD_FRAMES", HELD)
    disk = Disk(monkeypatch)
    middle = {quantity.id: (quantity.low + quantity.high) / 2 for quantity in TABLE}
    middle |= {f"magnetic_field_{axis}": 30e-6 for axis in "xyz"} | {"uva": 40.0, "uvb": 2.0, "uvc": 0.1}
    made: list[int] = []

    def note(sensor: str, t_us: int, values: object) -> None:
        if sensor == "icm20948":
            made.append(t_us)

    with SimulatedHead(tmp_path, lambda t_us: middle, note, Clock()) as head:
        refused = Refused(tmp_path, head.link)
        wait_for(lambda: len(refused.bench.durable) > 5, "durable batches")
        time.sleep(SETTLING_SECONDS)
        disk.dead = True
        wait_for(refused.live_only, "live only")
        durable, shown = len(refused.bench.durable), refused.shown_ns()
        wait_for(lambda: refused.shown_ns() > shown + REFUSED_SECONDS * 10**9, "the live view", 60)
        assert len(refused.bench.durable) == durable
        disk.dead = False
        wait_for(lambda: not refused.live_only() and len(refused.bench.durable) > durable + 3, "the disk's return")
        wait_for(lambda: refused.durable() >= refused.link._newest, "the ring being written", 60)
        head.stop_clock()
        recording = refused.end()
    assert set(recording.sequences().values()) == {1}
    numbers = sorted(number for _, number in recording.sequences())
    (boot,) = {boot for boot, _ in recording.sequences()}
    assert numbers[-1] == len(numbers) + sum(gap.count for gap in recording.gaps("head")) and boot
    gaps = recording.gaps("icm20948")
    if not any("FIFO" in gap.reason for gap in gaps):  # else this machine was too busy to empty the FIFO, and the head has said so
        said = " ".join([gap.reason for gap in gaps] + [event.detail for event in recording.events("nothing_missing")])
        uncertain = sum(int(number) for number in re.findall(r"±(\d+)", said))
        assert abs(len(made) - len(recording.imu_times) - sum(gap.count for gap in gaps)) <= uncertain
    assert recording.events("source_lost") == []
