"""The recorder as a process: killed at any moment, stopped in order, and refusing what it cannot work with."""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from gateway_head import HeadStandIn
from gateway_recording import PATIENCE, Recording, Running, start_process, truck, wait_for

import gateway.head
from gateway.config import load
from gateway.live import LiveReceiver
from logbook import reader
from logbook.channels import IMU_BLOCK, READINGS, channel_types
from logbook.segment import WriterDied
from logbook.segment_writer import Entry, Identity, SegmentWriter

pytestmark = pytest.mark.timeout(60)

KILLS = 4
EXAMPLE = Path(__file__).parents[2] / "docs" / "truck.example.toml"


@pytest.fixture
def head(tmp_path: Path) -> Iterator[HeadStandIn]:
    stand_in = HeadStandIn(tmp_path)
    yield stand_in
    stand_in.close()


def handles_sigterm(pid: int) -> bool:
    """Whether the process has got so far that SIGTERM is a wish (proc(5): SigCgt)."""
    caught = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) & 1 << (signal.SIGTERM - 1))


def test_killed_at_any_moment_no_frame_is_lost_and_none_is_twice(tmp_path: Path, head: HeadStandIn) -> None:
    config = truck(tmp_path, head.link)
    moment = random.Random(20261122)
    for _ in range(KILLS):
        process = start_process(config, tmp_path)
        before = head.acknowledged
        wait_for(lambda before=before: head.acknowledged > before, "acknowledgements")  # type: ignore[misc]
        time.sleep(moment.random() * 0.8)
        process.kill()
        process.wait(PATIENCE)
    head.sampling = False
    process = start_process(config, tmp_path)
    wait_for(lambda: handles_sigterm(process.pid), "the recorder's start")  # the head may have nothing left to be acknowledged
    wait_for(lambda: head.acknowledged == head.sequence, "the rest being acknowledged")
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 0
    recording = Recording(tmp_path / "spool")
    assert recording.imu_numbers == list(range(head.samples))
    sequences = recording.sequences()
    assert set(sequences.values()) == {1}
    assert sorted(number for _, number in sequences) == list(range(1, head.sequence + 1))
    assert recording.gaps("head") == [] and recording.gaps("icm20948") == []
    assert len({path.parent for path in recording.paths}) == KILLS + 1


def test_what_a_full_ring_lost_while_no_recorder_ran_is_counted_from_its_newest_sample(tmp_path: Path, head: HeadStandIn) -> None:
    config = truck(tmp_path, head.link)
    with Running(config):
        wait_for(lambda: head.acknowledged > 20, "acknowledgements")
    (newest,) = [max(Recording(tmp_path / "spool").imu_times)]
    with head.lock:
        head.ring_frames, dropped = 10, head.dropped
    wait_for(lambda: head.dropped > dropped + 15, "a full ring")
    with Running(config):
        head.sampling = False
        wait_for(lambda: head.acknowledged == head.sequence, "acknowledgements")
    recording = Recording(tmp_path / "spool")
    made = recording.imu_numbers[-1] + 1
    (gap,) = recording.gaps("icm20948")
    assert gap.from_boottime_ns == newest < gap.to_boottime_ns < recording.imu_times[-1]
    assert gap.reason.startswith("ring full (±")
    assert abs(gap.count - (made - len(recording.imu_numbers))) <= int(gap.reason.split("±")[1][:-1]) < 20


def test_ignition_off_drains_seals_and_acknowledges_everything(tmp_path: Path, head: HeadStandIn) -> None:
    receiver = LiveReceiver(tmp_path / "live.sock")
    process = start_process(truck(tmp_path, head.link), tmp_path)
    wait_for(lambda: head.acknowledged > 20, "acknowledgements")
    head.sampling = False
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 0
    assert process.stderr is not None and process.stderr.read() == b""
    wait_for(lambda: head.ring == [] and head.acknowledged == head.sequence, "the last acknowledgement being read")
    assert list((tmp_path / "spool").glob("*/*.open")) == []
    recording = Recording(tmp_path / "spool")
    assert [event.kind for event in recording.decoded("/event")][0] == "ignition_on"
    assert recording.events("ignition_off")
    snapshot = receiver.newest()
    assert snapshot is not None
    assert snapshot["counts"]["samples.icm20948"] == head.samples
    assert snapshot["truck"] == "truck-1" and snapshot["boot"] == recording.paths[0].parent.name
    receiver.close()


def test_a_head_that_goes_on_sampling_does_not_hold_the_stop(tmp_path: Path, head: HeadStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway.head, "DRAIN_SECONDS", 1_000.0)  # the limit is not what ends it
    running = Running(truck(tmp_path, head.link))
    with running:
        wait_for(lambda: head.acknowledged > 5, "acknowledgements")
    assert running.whole
    recording = Recording(tmp_path / "spool")
    assert recording.imu_numbers == list(range(len(recording.imu_numbers)))
    newest = max(number for _, number in recording.sequences())
    wait_for(lambda: head.acknowledged == newest, "the last acknowledgement being read")
    assert recording.events("source_failed") == []


def test_dead_sources_never_stop_another(tmp_path: Path, head: HeadStandIn) -> None:
    """No gpsd, no camera, and then no head: the recorder goes on and says so."""
    config = truck(tmp_path, head.link, gpsd_port=9, cameras={"front": "http://127.0.0.1:9/stream"})
    running = Running(config)
    with running as recorder:
        wait_for(lambda: head.acknowledged > 5, "acknowledgements beside dead sources")
        head.unplug()
        wait_for(lambda: recorder._snapshot.build()["sensors"]["head"]["state"] == "failed", "the loss of the head")
        head.plug()
        behind = head.sequence
        wait_for(lambda: head.acknowledged > behind, "acknowledgements after its return")
        head.sampling = False
    assert running.whole
    recording = Recording(tmp_path / "spool")
    assert {event.source for event in recording.events("source_lost")} == {"gnss", "camera/front", "head"}
    assert recording.events("source_failed") == []
    assert recording.imu_numbers == list(range(head.samples))


def test_a_segment_can_be_read_alone_with_trims_and_clock(tmp_path: Path, head: HeadStandIn) -> None:
    config = truck(tmp_path, head.link)
    config.readings_segment_seconds = 0.2
    running = Running(config)
    with running:
        wait_for(lambda: len(list((tmp_path / "spool").glob("*/*.mcap"))) >= 3, "segments")
        head.sampling = False
    for path in Recording(tmp_path / "spool").paths[1:]:
        topics = [message.topic for message in reader.read(path)]
        assert topics[:4] == ["/trim", "/trim", "/trim", "/clock"]


def test_a_stop_when_nothing_can_be_written_any_more_still_ends_the_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running = Running(truck(tmp_path, tmp_path / "absent"))
    with running as recorder:

        def dead(entries: object, token: object = None) -> bool:
            raise WriterDied("gone")

        monkeypatch.setattr(recorder._journal, "write", dead)
    assert running.whole is False
    assert recorder._supervisor.join(0) == []


def test_a_second_recorder_in_the_same_spool_is_refused(tmp_path: Path) -> None:
    config = truck(tmp_path)
    with Running(config):
        second = start_process(config, tmp_path)
        assert second.wait(PATIENCE) == 2
        assert second.stderr is not None
        assert second.stderr.read().decode() == f"recorder: spool {config.spool}: another recorder writes there\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "No such file"),
        ("name = ", "truck.toml"),
        ('name = "Truck 1"', "truck.toml"),
        (EXAMPLE.read_text().replace("fujisawa-007", "Fujisawa 007"), "use 1 to 63 of a-z"),
        (EXAMPLE.read_text() + "colour = 1\n", "colour"),
        (EXAMPLE.read_text().replace('"/var/lib/cruisers/spool"', '"/dev/null/spool"'), "spool /dev/null/spool"),
    ],
)
def test_bad_configuration_is_one_line_and_exit_code_2(tmp_path: Path, text: str | None, said: str) -> None:
    path = tmp_path / "truck.toml"
    if text is not None:
        path.write_text(text)
    ended = subprocess.run([sys.executable, "-m", "gateway.recorder", str(path)], capture_output=True, text=True, timeout=PATIENCE)
    assert ended.returncode == 2
    assert said in ended.stderr and ended.stderr.count("\n") == 1


def test_no_argument_is_a_usage_line() -> None:
    ended = subprocess.run([sys.executable, "-m", "gateway.recorder"], capture_output=True, text=True, timeout=PATIENCE)
    assert (ended.returncode, ended.stderr) == (2, "usage: python -m gateway.recorder CONFIG\n")


def test_the_example_configuration_is_valid() -> None:
    config = load(EXAMPLE)
    assert config.head is not None and config.gpsd is not None and [camera.name for camera in config.cameras] == ["front"]


def test_a_block_nobody_can_read_does_not_keep_a_recorder_from_starting(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    identity = Identity(f"truck-1-{boot[:8]}-00000001-000001-readings", "truck-1", READINGS, boot)
    path = tmp_path / "spool" / f"{boot[:8]}-00000001" / "000001-readings.mcap"
    writer = SegmentWriter.create(path, identity, channel_types(READINGS), {})
    writer.append([Entry(IMU_BLOCK, 5, 0, b"CB\x63 of another version")])
    writer.seal()
    with Running(truck(tmp_path)) as recorder:
        assert not recorder.failed
    assert "IMU block in the spool" in capsys.readouterr().err
    path.unlink()
    assert len(Recording(tmp_path / "spool").events("ignition_off")) == 1
