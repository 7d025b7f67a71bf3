import struct
import termios
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import serial
from gateway_head import HeadStandIn
from gateway_recording import PATIENCE, Bench, Recording, wait_for

import gateway.head
from drivers.errors import NO_ACKNOWLEDGE
from firmware import frames
from gateway.convert import Converter
from gateway.head import ASK, ASKS, IGNORE, REPEAT, TAKE, HeadLink, Intake
from gateway.head_log import HeadLog
from logbook import files

pytestmark = pytest.mark.timeout(60)

BOOT = 0x1234567


class Linked:
    """A HeadLink on a bench, serving a stand-in."""

    def __init__(self, folder: Path, head: HeadStandIn, resume: dict[int, int] | None = None) -> None:
        self.bench = Bench(folder)
        self.head = head
        self.log = HeadLog(self.bench.journal, self.bench.snapshot, self.bench.clock, Converter())
        self.link = HeadLink(str(head.link), self.log, self.bench.journal, self.bench.snapshot, resume or {})
        self.bench.on_durable = self.link.durable
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.link.run, args=(self.stop,), daemon=True)
        self.thread.start()

    def durable(self) -> list[int]:
        """Sequences that came back as durable, in their order."""
        return [token[1] for token in self.bench.durable if isinstance(token, tuple)]

    def end(self) -> Recording:
        self.head.sampling = False
        self.stop.set()
        self.thread.join()
        return self.bench.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small batches, first PINGs at once: the tests wait for acknowledgements."""
    monkeypatch.setattr(gateway.head, "BATCH_SECONDS", 0.1)


@pytest.fixture
def head(tmp_path: Path) -> Iterator[HeadStandIn]:
    stand_in = HeadStandIn(tmp_path, BOOT)
    yield stand_in
    stand_in.close()


def everything_once(recording: Recording, head: HeadStandIn) -> None:
    assert recording.imu_numbers == list(range(head.samples))
    assert set(recording.sequences().values()) == {1}
    assert recording.gaps("head") == []


# --- Intake: which frame is taken


def test_before_hello_no_frame_is_taken() -> None:
    intake = Intake({})
    assert intake.decide(BOOT, 1) == IGNORE
    intake.hello(BOOT, 1)
    assert intake.decide(BOOT, 1) == TAKE and intake.hole is None


def test_frames_that_were_durable_before_the_restart_are_repeats() -> None:
    intake = Intake({BOOT: 7})
    intake.hello(BOOT, 5)
    assert [intake.decide(BOOT, number) for number in (5, 6, 7, 8)] == [REPEAT, REPEAT, REPEAT, TAKE]


def test_a_missing_number_is_asked_for_before_it_counts_as_lost() -> None:
    intake = Intake({})
    intake.hello(BOOT, 1)
    assert intake.decide(BOOT, 1) == TAKE
    for _ in range(ASKS):
        assert intake.decide(BOOT, 3) == ASK
        assert intake.decide(BOOT, 4) == IGNORE
        intake.hello(BOOT, 1)
        assert intake.decide(BOOT, 1) == REPEAT
    assert intake.decide(BOOT, 3) == TAKE
    assert intake.hole == (2, 2, "lost on the link")
    assert intake.decide(BOOT, 4) == TAKE and intake.hole is None


def test_what_the_ring_no_longer_has_is_a_hole_at_once() -> None:
    intake = Intake({BOOT: 10})
    intake.hello(BOOT, 15)
    assert intake.decide(BOOT, 15) == TAKE
    assert intake.hole == (11, 14, "ring full")


def test_a_frame_of_another_boot_is_asked_about() -> None:
    intake = Intake({})
    intake.hello(BOOT, 1)
    assert intake.decide(BOOT, 1) == TAKE
    assert intake.decide(BOOT + 1, 1) == ASK
    intake.hello(BOOT + 1, 1)
    assert intake.decide(BOOT + 1, 1) == TAKE and intake.hole is None


def test_durable_never_goes_back() -> None:
    intake = Intake({BOOT: 9})
    intake.set_durable(BOOT, 4)
    assert intake.durable(BOOT) == 9


# --- the link, over a pty


def test_every_frame_is_written_once_and_acknowledged_when_durable(tmp_path: Path, head: HeadStandIn) -> None:
    linked = Linked(tmp_path, head)
    wait_for(lambda: head.acknowledged > 20, "acknowledgements")
    acknowledged = head.acknowledged
    assert acknowledged <= max(linked.durable()) and linked.durable() == sorted(linked.durable())
    recording = linked.end()
    everything_once(recording, head)
    assert head.acknowledged == head.sequence and head.ring == []
    assert {trim.sensor for trim in recording.decoded("/trim")} == {"icm20948", "sht45", "opt3001"}


def test_nothing_is_acknowledged_while_the_disk_has_not_taken_it(
    tmp_path: Path, head: HeadStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = threading.Event()
    sync = files.sync_data

    def stalled(fd: int) -> None:
        blocked.wait()
        sync(fd)

    monkeypatch.setattr(files, "sync_data", stalled)
    linked = Linked(tmp_path, head)
    wait_for(lambda: linked.log.frames or head.hellos, "the head being asked")
    wait_for(lambda: head.sequence > 30, "frames")
    assert head.acks == []
    blocked.set()
    wait_for(lambda: head.acks, "acknowledgement after the disk")
    everything_once(linked.end(), head)


def test_damaged_frames_are_sent_again_and_nothing_is_lost(tmp_path: Path, head: HeadStandIn) -> None:
    linked = Linked(tmp_path, head)
    wait_for(lambda: head.acknowledged > 5, "acknowledgements")
    head.damage = 1
    wait_for(lambda: linked.link.bad, "the damaged frame")
    wait_for(lambda: len(head.hellos) == 2, "HELLO? after the damage")
    behind = head.sequence
    wait_for(lambda: head.acknowledged > behind, "acknowledgements after the damage")
    everything_once(linked.end(), head)


def test_a_frame_that_cannot_be_had_is_a_gap_with_its_count(tmp_path: Path, head: HeadStandIn) -> None:
    linked = Linked(tmp_path, head)
    wait_for(lambda: head.acknowledged > 5, "acknowledgements")
    with head.lock:
        lost = head.sequence + 3
        head.lose.add(lost)
    wait_for(lambda: head.acknowledged > lost + 5, "acknowledgements behind the loss")
    recording = linked.end()
    (gap,) = recording.gaps("head")
    assert (gap.reason, gap.count) == ("lost on the link", 1)
    assert gap.from_boottime_ns < gap.to_boottime_ns
    lost_samples = recording.gaps("icm20948")  # if there were some in that frame
    assert linked.bench.snapshot.counts()["gaps"] == 1 + len(lost_samples)


def test_the_port_may_vanish_and_return_and_nothing_is_lost(tmp_path: Path, head: HeadStandIn) -> None:
    linked = Linked(tmp_path, head)
    wait_for(lambda: head.acknowledged > 5, "acknowledgements")
    head.unplug()
    wait_for(lambda: linked.bench.snapshot.build()["sensors"]["head"]["state"] == "failed", "the loss being noticed")
    head.plug()
    behind = head.sequence
    wait_for(lambda: head.acknowledged > behind, "acknowledgements after the return")
    recording = linked.end()
    everything_once(recording, head)
    assert recording.events("source_lost") and len(recording.events("source_delivers")) == 2
    assert linked.bench.snapshot.build()["sensors"]["head"]["state"] == "ok"


def test_a_head_that_restarts_begins_anew_and_the_restart_is_a_gap(tmp_path: Path, head: HeadStandIn) -> None:
    linked = Linked(tmp_path, head)
    wait_for(lambda: head.acknowledged > 5, "acknowledgements")
    head.reboot(BOOT + 1)
    wait_for(lambda: head.acknowledged > 5, "acknowledgements of the new boot")
    recording = linked.end()
    assert set(recording.sequences().values()) == {1}
    assert {boot for boot, _ in recording.sequences()} == {BOOT, BOOT + 1}
    assert sorted(number for boot, number in recording.sequences() if boot == BOOT + 1) == list(range(1, head.sequence + 1))
    (gap,) = recording.gaps("head")
    assert gap.reason == "head restarted (power on)" and gap.from_boottime_ns <= gap.to_boottime_ns


def test_a_resumed_link_asks_from_the_newest_durable_frame(tmp_path: Path, head: HeadStandIn) -> None:
    wait_for(lambda: head.sequence >= 30, "frames in the ring")
    linked = Linked(tmp_path, head, resume={BOOT: 20, 99: 5})
    wait_for(lambda: head.acknowledged > 30, "acknowledgements")
    assert head.hellos[0] == (BOOT, 20)
    recording = linked.end()
    assert min(number for _, number in recording.sequences()) == 21
    assert recording.gaps("head") == []


@pytest.mark.parametrize("older", [False, True], ids=["this firmware", "an older one"])
def test_a_new_recorder_shows_every_sensor_though_all_was_acknowledged_and_writes_nothing_of_it(
    tmp_path: Path, head: HeadStandIn, older: bool
) -> None:
    head.older = older
    head.send_raw_frame(frames.STATE, struct.pack("<BBBH", 4, frames.ABSENT, NO_ACKNOWLEDGE, 3))
    with head.lock:
        acknowledged, head.ring = head.sequence, []
    linked = Linked(tmp_path, head, resume={BOOT: acknowledged})
    wait_for(lambda: head.acknowledged > acknowledged, "acknowledgements")
    states = linked.bench.snapshot.build()["sensors"]
    assert states.get("opt3001") == (None if older else {"state": "absent", "reason": "no acknowledge"})
    assert ({"icm20948", "sht45"} <= states.keys()) is not older
    recording = linked.end()
    assert recording.events("sensor_state") == [] and recording.gaps("head") == []


def test_frames_dropped_from_a_full_ring_are_one_gap(tmp_path: Path, head: HeadStandIn) -> None:
    head.ring_frames = 15
    wait_for(lambda: head.dropped > 10, "a ring that has run over")
    with head.lock:
        head.ring_frames = 4_000
        head.send_gap(frames.HEAD, frames.RING_FULL, head.dropped)
    linked = Linked(tmp_path, head)
    wait_for(lambda: head.acknowledged > head.dropped + 5, "acknowledgements")
    recording = linked.end()
    (gap,) = recording.gaps("head")
    assert (gap.reason, gap.count) == ("ring full", head.dropped)
    assert len(recording.events("ring_full")) == 1  # the head says it too: told, but not counted twice


def test_a_head_that_falls_silent_is_told_and_taken_up_again(tmp_path: Path, head: HeadStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway.head, "SILENCE_SECONDS", 1.5)
    monkeypatch.setattr(gateway.head, "HELLO_SECONDS", 0.5)
    linked = Linked(tmp_path, head)
    wait_for(lambda: head.acknowledged > 5, "acknowledgements")
    head.silent = True
    wait_for(lambda: linked.bench.snapshot.build()["sensors"]["head"]["state"] == "failed", "the silence being noticed")
    head.silent = False
    behind = head.sequence
    wait_for(lambda: head.acknowledged > behind, "acknowledgements after the silence")
    recording = linked.end()
    everything_once(recording, head)
    assert [event.detail for event in recording.events("source_lost")] == ["the head does not answer"]


def test_while_memory_is_full_frames_stay_in_the_head(tmp_path: Path, head: HeadStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    linked = Linked(tmp_path, head)
    wait_for(lambda: head.acknowledged > 5, "acknowledgements")
    monkeypatch.setattr(linked.bench.journal, "has_room", lambda: False)
    before = head.acknowledged
    wait_for(lambda: head.sequence > before + 20, "frames")
    assert head.acknowledged <= before + 20 and linked.log.frames > 0
    monkeypatch.undo()
    everything_once(linked.end(), head)


def test_a_head_without_a_port_ends_in_order(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    log = HeadLog(bench.journal, bench.snapshot, bench.clock, Converter())
    link = HeadLink(str(tmp_path / "absent"), log, bench.journal, bench.snapshot, {})
    stop = threading.Event()
    thread = threading.Thread(target=link.run, args=(stop,))
    thread.start()
    wait_for(lambda: bench.snapshot.build()["sensors"], "the missing port being noticed")
    stop.set()
    thread.join()
    recording = bench.close()
    assert recording.events("source_lost")[0].source == "head"
    assert len(recording.events("source_lost")) == 1  # said once, not at each attempt


# --- ignition off


def test_a_stop_ends_while_the_head_goes_on_sampling_and_leaves_nothing_behind(
    tmp_path: Path, head: HeadStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway.head, "DRAIN_SECONDS", 1_000.0)  # the limit is not what ends it
    linked = Linked(tmp_path, head)
    wait_for(lambda: head.acknowledged > 5, "acknowledgements")
    with head.lock:
        linked.stop.set()
        held = head.sequence
    linked.thread.join(PATIENCE)
    assert not linked.thread.is_alive() and head.sampling
    recording = linked.bench.close()
    newest = max(number for _, number in recording.sequences())
    assert newest >= held
    wait_for(lambda: head.acknowledged == newest, "the last acknowledgement being read")
    assert sorted(recording.sequences().elements()) == [(BOOT, number) for number in range(1, newest + 1)]


def test_a_stop_takes_the_whole_ring_of_a_head_behind_a_slow_line(
    tmp_path: Path, head: HeadStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway.head, "DRAIN_SECONDS", 1_000.0)
    wait_for(lambda: head.sequence > 40, "frames in the ring")
    head.bytes_at_once = 100
    linked = Linked(tmp_path, head)
    wait_for(lambda: head.hellos, "the first question")
    with head.lock:
        linked.stop.set()
        held = head.sequence
        assert len(head.ring) > 40
    linked.thread.join(PATIENCE)
    assert not linked.thread.is_alive()
    recording = linked.bench.close()
    newest = max(number for _, number in recording.sequences())
    assert newest >= held
    wait_for(lambda: head.acknowledged == newest, "the last acknowledgement being read")
    assert recording.imu_numbers == list(range(len(recording.imu_numbers)))


def test_a_stop_right_after_the_start_drains_too(tmp_path: Path, head: HeadStandIn) -> None:
    wait_for(lambda: head.sequence > 10, "frames in the ring")
    linked = Linked(tmp_path, head)
    everything_once(linked.end(), head)
    wait_for(lambda: head.ring == [], "the last acknowledgement being read")


def test_a_silent_head_does_not_hold_the_stop(tmp_path: Path, head: HeadStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway.head, "DRAIN_SECONDS", 1_000.0)
    monkeypatch.setattr(gateway.head, "SILENCE_SECONDS", 0.5)
    linked = Linked(tmp_path, head)
    wait_for(lambda: head.acknowledged > 5, "acknowledgements")
    head.silent = True
    linked.stop.set()
    linked.thread.join(PATIENCE)
    assert not linked.thread.is_alive()
    linked.bench.close()


# --- trouble


def test_a_head_that_greets_unasked_behind_a_frame_of_its_new_boot_is_taken_up(tmp_path: Path, head: HeadStandIn) -> None:
    linked = Linked(tmp_path, head)
    wait_for(lambda: head.acknowledged > 5, "acknowledgements")
    with head.lock:
        head.reboot(BOOT + 1)
        head.announce()
    wait_for(lambda: head.acknowledged > 5, "acknowledgements of the new boot")
    recording = linked.end()
    assert sorted(number for boot, number in recording.sequences().elements() if boot == BOOT + 1) == list(range(1, head.sequence + 1))


@pytest.mark.parametrize("state", ["silent", "in_repl"])
def test_a_head_that_hangs_or_was_left_in_its_repl_is_opened_anew_and_told_once(
    tmp_path: Path, head: HeadStandIn, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    for name, seconds in (("SILENCE_SECONDS", 0.2), ("HANGING_SECONDS", 0.4), ("REOPEN_SECONDS", 0.05), ("PING_SECONDS", 0.1)):
        monkeypatch.setattr(gateway.head, name, seconds)
    opened: list[str] = []
    real = serial.Serial

    def counting(port: str, *arguments: object, **settings: object) -> serial.Serial:
        opened.append(port)
        return real(port, *arguments, **settings)

    monkeypatch.setattr(serial, "Serial", counting)
    setattr(head, state, True)
    linked = Linked(tmp_path, head)
    wait_for(lambda: len(opened) >= 4, "the port being opened again")
    recording = linked.end()
    assert [event.detail for event in recording.events("source_lost")] == ["the head does not answer"]


def test_a_port_that_goes_while_it_is_opened_is_an_outage_not_a_failure(
    tmp_path: Path, head: HeadStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*arguments: object, **settings: object) -> None:
        raise termios.error(5, "Input/output error")

    monkeypatch.setattr(serial, "Serial", gone)
    linked = Linked(tmp_path, head)
    wait_for(lambda: linked.bench.snapshot.build()["sensors"], "the trouble being noticed")
    monkeypatch.undo()
    wait_for(lambda: head.acknowledged > 5, "acknowledgements")
    everything_once(linked.end(), head)


@pytest.mark.parametrize(("undecided", "longest_s"), [(False, 0.5), (True, 0.75)])
def test_a_batch_is_due_within_three_quarters_of_a_second_of_its_first_frame(
    undecided: bool, longest_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is still undecided about gaps: a power cut may cost 1.0 s."""
    monkeypatch.undo()  # BATCH_SECONDS as they are
    now = [10**15]
    monkeypatch.setattr(gateway.head, "boottime_ns", lambda: now[0])
    log = SimpleNamespace(frames=1, undecided=undecided)
    link = HeadLink("none", log, None, None, {})  # type: ignore[arg-type]
    link._batch_began = now[0]
    due = []
    for millisecond in range(1_000):
        now[0] = 10**15 + millisecond * 1_000_000
        if link._batch_is_due():
            due.append(millisecond)
    assert due[0] == pytest.approx(longest_s * 1_000) and len(due) == 1_000 - due[0]
