"""A disk that refuses for long: the head's live view goes on, nothing is acknowledged, and what its ring lost meanwhile is one Gap."""

import errno
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from gateway_head import HeadStandIn
from gateway_recording import Bench, Recording, wait_for
from refusing_disk import Disk, Refused

import gateway.disk_trouble
import gateway.head
import gateway.journal
from firmware import frames
from gateway.convert import Converter
from gateway.disk_trouble import DiskTrouble
from gateway.head_live import HeadLive
from gateway.head_log import HeadLog
from gateway.imu_times import HeadClock

pytestmark = pytest.mark.timeout(120)

BOOT = 0x1234567
ROOM = 20_000  # bytes of the journal's memory: some seconds of frames
HELD = 20
RING = 40  # frames: 2 s


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    monkeypatch.setattr(gateway.head, "BATCH_SECONDS", 0.1)
    monkeypatch.setattr(gateway.head, "HELD_FRAMES", HELD)
    monkeypatch.setattr(gateway.journal, "ROOM_BYTES", ROOM)
    return Disk(monkeypatch)


@pytest.fixture
def head(tmp_path: Path) -> Iterator[HeadStandIn]:
    stand_in = HeadStandIn(tmp_path, BOOT)
    yield stand_in
    stand_in.close()


def accounted(recording: Recording, head: HeadStandIn) -> None:
    """Each frame is there once or in one Gap, and so is each IMU sample."""
    sequences = recording.sequences()
    assert set(sequences.values()) == {1}
    assert len(sequences) + sum(gap.count for gap in recording.gaps("head")) == head.sequence
    delivered = recording.imu_numbers
    assert delivered == sorted(set(delivered)) and delivered[-1] == head.samples - 1


def test_a_disk_that_refuses_for_5_s_costs_nothing_where_the_ring_holds_it(tmp_path: Path, head: HeadStandIn, disk: Disk) -> None:
    refused = Refused(tmp_path, head.link)
    wait_for(lambda: head.acknowledged > 20, "acknowledgements")
    disk.dead = True
    wait_for(refused.live_only, "live only")
    acknowledged, hellos, shown = head.acknowledged, len(head.hellos), refused.shown_ns()
    assert refused.state()["reason"] == "live only: disk refused: Input/output error"
    wait_for(lambda: refused.shown_ns() > shown + 5 * 10**9, "the live view going on")
    assert head.acknowledged == acknowledged and len(head.hellos) == hellos, "nothing is acknowledged, and nothing asked"
    held = refused.log.frames
    wait_for(lambda: refused.shown_ns() > shown + 6 * 10**9, "the live view going on")
    assert refused.log.frames == held, "nothing of it is kept"
    disk.dead = False
    behind = head.sequence
    wait_for(lambda: head.acknowledged > behind, "acknowledgements when the disk is back")
    assert refused.state() == {"state": "ok", "reason": ""}
    head.sampling = False
    recording = refused.end()
    accounted(recording, head)
    assert recording.gaps("head") == [] and recording.gaps("icm20948") == []
    assert recording.imu_numbers == list(range(head.samples))


def test_what_the_ring_lost_while_the_disk_refused_is_one_gap_with_the_disks_words(tmp_path: Path, head: HeadStandIn, disk: Disk) -> None:
    refused = Refused(tmp_path, head.link)
    time.sleep(8)  # the gateway learns the chip's clock, for the count (imu_gaps.py)
    wait_for(lambda: head.acknowledged > 100, "acknowledgements")
    head.ring_frames = RING
    disk.dead = True
    wait_for(refused.live_only, "live only")
    began = refused.shown_ns()
    wait_for(lambda: refused.shown_ns() > began + 10 * 10**9, "10 s of live view")
    head.ring_frames = 4_000
    disk.dead = False
    behind = head.sequence
    wait_for(lambda: head.acknowledged > behind, "acknowledgements when the disk is back")
    head.sampling = False
    recording = refused.end()
    accounted(recording, head)
    (gap,) = recording.gaps("head")
    assert gap.reason == "disk refused: Input/output error" and gap.count > 80
    missing = head.samples - len(recording.imu_numbers)
    told = recording.gaps("icm20948")
    assert told[0].reason.startswith("disk refused: Input/output error")
    # The stand-in stamps as late as this machine is busy; a chip's samples are counted exactly (test_gateway_head_log_gaps.py).
    said = " ".join([part.reason for part in told] + [event.detail for event in recording.events("nothing_missing")])
    uncertain = 1 + sum(int(number) for number in re.findall(r"±(\d+)", said))
    assert missing > 400 and abs(sum(part.count for part in told) - missing) <= uncertain < 20


def test_a_head_that_restarts_while_the_disk_refuses_is_shown_and_then_recorded_from_its_start(
    tmp_path: Path, head: HeadStandIn, disk: Disk
) -> None:
    refused = Refused(tmp_path, head.link)
    wait_for(lambda: head.acknowledged > 20, "acknowledgements")
    disk.dead = True
    wait_for(refused.live_only, "live only")
    head.reboot(BOOT + 1)
    shown = refused.shown_ns()
    wait_for(lambda: refused.shown_ns() > shown + 2 * 10**9, "the new boot in the live view")
    disk.dead = False
    wait_for(lambda: head.acknowledged > 20, "acknowledgements of the new boot")
    head.sampling = False
    recording = refused.end()
    assert set(recording.sequences().values()) == {1}
    assert sorted(number for boot, number in recording.sequences() if boot == BOOT + 1) == list(range(1, head.sequence + 1))
    (gap,) = recording.gaps("head")
    assert gap.reason == "disk refused: Input/output error; head restarted (power on)"


def test_a_stop_while_the_disk_refuses_ends_and_acknowledges_nothing(
    tmp_path: Path, head: HeadStandIn, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway.head, "DRAIN_SECONDS", 1.0)
    monkeypatch.setattr(gateway.head, "ACK_SECONDS", 0.5)
    refused = Refused(tmp_path, head.link)
    wait_for(lambda: head.acknowledged > 20, "acknowledgements")
    disk.dead = True
    wait_for(refused.live_only, "live only")
    acknowledged = head.acknowledged
    refused.stop.set()
    refused.thread.join(20)
    assert not refused.thread.is_alive()
    assert refused.bench.readings.close() is False  # the disk refused to the end
    assert refused.bench.images.close()
    refused.bench.sender.close()
    assert head.acknowledged == acknowledged == max(Recording(refused.bench.spool, recover=True).resume.values())


def test_a_disk_that_only_stalls_is_no_silence_of_the_head(
    tmp_path: Path, head: HeadStandIn, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway.head, "SILENCE_SECONDS", 1.0)
    refused = Refused(tmp_path, head.link)
    wait_for(lambda: head.acknowledged > 5, "acknowledgements")
    monkeypatch.setattr(refused.bench.journal, "has_room", lambda: False)
    wait_for(refused.live_only, "live only")
    assert refused.state()["reason"] == "live only: disk refused: no answer"
    shown = refused.shown_ns()
    wait_for(lambda: refused.shown_ns() > shown + 2 * 10**9, "the live view going on")
    monkeypatch.undo()
    head.sampling = False
    recording = refused.end()
    assert recording.imu_numbers == list(range(head.samples))
    assert recording.events("source_lost") == []


def test_a_frame_that_has_no_way_into_the_batch_begins_live_only_and_comes_again(
    tmp_path: Path, head: HeadStandIn, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another range of the IMU needs a batch of its own, which the disk does not take."""
    monkeypatch.setattr(gateway.head, "HELD_FRAMES", 10_000)
    refused = Refused(tmp_path, head.link)
    wait_for(lambda: head.acknowledged > 5, "acknowledgements")
    monkeypatch.setattr(refused.bench.journal, "has_room", lambda: False)
    wait_for(lambda: refused.log.frames > 5, "samples of the range before in the batch")
    head.send_raw_frame(frames.TRIM, bytes((1, 0x1F, 0x1B, 0, 10, 10)))
    wait_for(refused.live_only, "live only")
    hellos = len(head.hellos)
    time.sleep(0.5)
    assert len(head.hellos) == hellos, "the head is not asked again and again"
    monkeypatch.setattr(refused.bench.journal, "has_room", lambda: True)
    behind = head.sequence
    wait_for(lambda: head.acknowledged > behind, "acknowledgements")
    head.sampling = False
    recording = refused.end()
    accounted(recording, head)
    assert recording.imu_numbers == list(range(head.samples))


def test_what_the_disk_said_a_minute_ago_is_another_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [10**12]
    monkeypatch.setattr(gateway.disk_trouble, "boottime_ns", lambda: now[0])
    disk = DiskTrouble()
    assert disk.reason() == "disk refused: no answer"
    disk.told(OSError(errno.ENOSPC, "No space left on device"))
    now[0] += 30 * 10**9
    assert disk.reason() == "disk refused: No space left on device"
    now[0] += 31 * 10**9
    assert disk.reason() == "disk refused: no answer"


def test_the_trims_of_frames_that_are_only_shown_do_not_change_what_is_written(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    converter = Converter()
    converter.trim("sht45", b"old!")
    clock = HeadClock()
    clock.exchange(10**12, 0, 10**12)
    live = HeadLog(bench.journal, bench.snapshot, bench.clock, converter).live()
    assert isinstance(live, HeadLive)
    live.show(frames.Frame(frames.TRIM, BOOT, 7, 0, b"\x03new!"), clock)
    live.show(frames.Frame(frames.SAMPLE, BOOT, 8, 0, b"\x03"), clock)  # malformed: told when it is written
    live.show(frames.Frame(frames.STATE, BOOT, 9, 0, bytes((3, frames.FAILED, 4, 1, 0))), clock)
    live.show(frames.Frame(frames.GAP, BOOT, 10, 0, bytes(6)), clock)
    assert converter.trims == {"sht45": b"old!"}
    assert bench.snapshot.build()["sensors"]["sht45"] == {"state": "failed", "reason": "bad checksum"}
    assert bench.close().messages == {}
