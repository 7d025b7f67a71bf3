"""From the head's frames to the journal: IMU samples delivered + samples reported missing = samples made, whatever happens between."""

import random
import struct
from pathlib import Path

import numpy as np
import pytest
from gateway_head import imu_raw
from gateway_recording import Bench, Recording
from imu_drains import NOMINAL_US, Chip, Draining

from drivers.errors import FIFO_OVERFLOW, NO_ACKNOWLEDGE, POWER_ON_VALUES
from firmware import frames
from gateway.convert import IMU, IMU_AT_ONCE, IMU_TRIM, Converter
from gateway.head_log import HeadLog
from gateway.imu_times import HeadClock

pytestmark = pytest.mark.timeout(60)

BOOT = 77
NOW = 10**15
BATCH_US = 500_000
DECIDE_US = 250_000  # gateway/head.py


class Sending:
    """A chip, its head, and a HeadLog that takes its frames and commits as gateway/head.py does."""

    def __init__(self, folder: Path, seed: int, oscillator: float) -> None:
        self.bench = Bench(folder)
        self.log = HeadLog(self.bench.journal, self.bench.snapshot, self.bench.clock, Converter())
        self.random = random.Random(seed)
        self.chip = Chip(self.random, NOMINAL_US * (1 + oscillator), jitter_us=20)
        self.head = Draining(self.chip, self, seed + 1, late=0.01)
        self.delivered: list[int] = []
        self.lost_frames: list[frames.Frame] = []
        self.losing = False
        self.full_drains = 0  # that end with a full frame
        self._sequence = 0
        self._next = 1  # sequence the log takes next
        self._began = 0
        self._reason = FIFO_OVERFLOW
        clock = HeadClock()
        clock.exchange(NOW, 0, NOW)
        self.log.hello(BOOT, {"unique_id": "u"}, clock)
        self._keep(frames.TRIM, bytes((1,)) + IMU_TRIM, 0)

    def _keep(self, kind: int, payload: bytes, ticks: int) -> None:
        self._sequence += 1
        frame = frames.Frame(kind, BOOT, self._sequence, ticks, payload)
        if self.losing:  # the ring is full: it never arrives
            self.lost_frames.append(frame)
            return
        if self.log.frames and ticks - self._began >= BATCH_US + (DECIDE_US if self.log.undecided else 0):
            assert self.log.commit() and not self.log.undecided
        if not self.log.frames:
            self._began = ticks
        if frame.sequence > self._next:
            self.log.missing(self._next, frame.sequence - 1, "ring full", frame)
        self._next = frame.sequence + 1
        assert self.log.has_way(frame)
        self.log.add(frame)

    def sample(self, ticks: int, numbers: list[int]) -> None:
        """A drain as SAMPLE frames; one whose number divides by the frame's room ends with a full frame."""
        self.full_drains += len(numbers) % IMU_AT_ONCE == 0
        for start in range(0, len(numbers), IMU_AT_ONCE):
            part = numbers[start : start + IMU_AT_ONCE]
            if not self.losing:
                self.delivered += part
            self._keep(frames.SAMPLE, bytes((1, len(part))) + b"".join(map(imu_raw, part)), ticks)

    def gap(self, ticks: int) -> None:
        self._keep(frames.GAP, struct.pack("<BBI", 1, self._reason, 0), ticks)
        self._reason = FIFO_OVERFLOW
        self._keep(frames.STATE, struct.pack("<BBBH", 1, frames.OK, 0, 1), ticks)

    def stopped(self, ticks: int, power_on: bool) -> None:
        self._reason = POWER_ON_VALUES if power_on else NO_ACKNOWLEDGE
        state = frames.CONFIGURING if power_on else frames.FAILED
        self._keep(frames.STATE, struct.pack("<BBBH", 1, state, self._reason, 3), ticks)

    def end(self) -> Recording:
        self.head.run(0.5)
        assert self.log.commit()
        return self.bench.close()


def check(recording: Recording, sending: Sending) -> None:
    """Every sample of the chip up to the newest is in the file or in the count of a gap, whose time covers it."""
    assert recording.imu_numbers == sending.delivered
    gaps = recording.gaps(IMU)
    made = sending.delivered[-1] + 1 - sending.delivered[0]
    assert len(sending.delivered) + sum(gap.count for gap in gaps) == made
    taken = NOW + np.array(sending.chip.times) * 1e3
    for lost in sorted(set(range(sending.delivered[0], sending.delivered[-1])) - set(sending.delivered)):
        assert any(gap.from_boottime_ns - 12e6 <= taken[lost] <= gap.to_boottime_ns + 12e6 for gap in gaps)


@pytest.mark.parametrize("seed", range(8))
def test_delivered_and_missing_samples_are_all_samples(tmp_path: Path, seed: int) -> None:
    sending = Sending(tmp_path, seed, (seed % 5 - 2) * 0.01)
    sending.head.run(15)
    for _ in range(6):
        fault = sending.random.randrange(5)
        if fault == 0:
            sending.head.outage(sending.random.uniform(0.3, 6))
        elif fault == 1:
            sending.head.stall(sending.random.uniform(0.08, 1))  # drains of 10 and 20 samples, or an overflow
        elif fault == 2:
            sending.head.broken_read()
        elif fault == 3:
            sending.head.empty()
        else:
            sending.losing = True
            sending.head.run(sending.random.uniform(0.1, 5))
            sending.losing = False
        sending.head.run(sending.random.uniform(0.05, 4))
    sending.head.run(3)
    check(sending.end(), sending)


def test_a_gap_of_lost_frames_is_counted_in_frames_and_in_samples(tmp_path: Path) -> None:
    sending = Sending(tmp_path, 20, 0.01)
    sending.head.run(12)
    sending.losing = True
    sending.head.run(3)
    sending.losing = False
    sending.head.run(2)
    recording = sending.end()
    check(recording, sending)
    assert sum(gap.count for gap in recording.gaps("head")) == len(sending.lost_frames)
    assert {gap.reason for gap in recording.gaps(IMU)} == {"ring full"}


@pytest.mark.parametrize("seed", range(30, 34))
def test_what_a_ring_lost_while_the_disk_refused_for_half_a_minute_is_counted_to_the_sample(tmp_path: Path, seed: int) -> None:
    sending = Sending(tmp_path, seed, (seed % 4 - 2) * 0.01)
    sending.head.run(75)
    sending.losing = True
    sending.head.run(30)
    sending.losing = False
    sending.head.run(2)
    recording = sending.end()
    check(recording, sending)
    assert sum(gap.count for gap in recording.gaps("head")) == len(sending.lost_frames) > 400
    assert {gap.reason for gap in recording.gaps(IMU)} == {"ring full"}, "exactly: without a doubt"


def test_drains_that_end_with_a_full_frame_are_whole_and_lose_nothing(tmp_path: Path) -> None:
    sending = Sending(tmp_path, 21, 0.0)
    sending.head.run(11)
    sending.head.delayed = 0.0
    for _ in range(100):
        sending.head.stall(sending.random.uniform(0.03, 0.12))
        sending.head.drain()
    recording = sending.end()
    assert sending.full_drains >= 5
    assert recording.gaps(IMU) == []
    check(recording, sending)


def test_a_brown_out_is_a_gap_whose_reason_says_how_well_it_is_counted(tmp_path: Path) -> None:
    sending = Sending(tmp_path, 22, -0.01)
    sending.head.run(12)
    last, delivered = sending.chip.times[sending.delivered[-1]], len(sending.delivered)
    sending.head.power_loss(1.5)
    sending.head.run(2)
    (gap,) = sending.end().gaps(IMU)
    would_be = (sending.chip.times[sending.delivered[delivered]] - last) / sending.chip.interval(0) - 1
    assert gap.reason == "registers back at power-on values; FIFO overflow (±1)" or gap.reason.startswith(
        "registers back at power-on values"
    )
    assert gap.reason.endswith("(±1)") and abs(gap.count - would_be) <= 1


def test_what_is_acknowledged_has_its_gap_in_the_journal_though_no_sample_is_behind_it(tmp_path: Path) -> None:
    sending = Sending(tmp_path, 23, 0.0)
    sending.head.run(12)
    sending.head.outage(3)
    sending.gap(int(sending.head.now))
    assert sending.log.undecided
    assert sending.log.commit()  # the head fell silent, or the truck is switched off
    recording = sending.bench.close()
    assert recording.resume == {BOOT: sending._sequence}
    (gap,) = recording.gaps(IMU)
    assert 270 < gap.count < 290  # 307 less what may wait in the chip's FIFO


def test_a_report_of_the_head_that_proves_to_be_of_no_sample_is_an_event(tmp_path: Path) -> None:
    sending = Sending(tmp_path, 24, 0.0)
    sending.head.run(12)
    sending.gap(int(sending.head.now))
    sending.head.run(1)
    recording = sending.end()
    assert recording.gaps(IMU) == []
    assert [event.source for event in recording.events("nothing_missing")] == [IMU]
