"""The demo's orchestrator without its processes: what it refuses, and what it calls whole."""

import fcntl
import json
import os
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from sim import demo as room
from sim import outcome
from sim.demo import Demo, DemoError, Options
from sim.processes import Child, ChildFailed

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def gpsd_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "find_gpsd", lambda: "/usr/sbin/gpsd")


@pytest.mark.usefixtures("gpsd_there")
class TestRefusals:
    """One line each, before anything is started."""

    @pytest.mark.parametrize("seconds", [0, -3])
    def test_no_time_to_run(self, seconds: float) -> None:
        with pytest.raises(DemoError, match="--seconds"):
            room.check(Options(seconds=seconds))

    def test_a_home_that_holds_something(self, tmp_path: Path) -> None:
        (tmp_path / "logs").mkdir()
        with pytest.raises(DemoError, match="not an empty folder"):
            room.check(Options(home=tmp_path))
        assert [path.name for path in tmp_path.iterdir()] == ["logs"]

    def test_a_home_that_is_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "home").write_text("mine")
        with pytest.raises(DemoError, match="not an empty folder"):
            room.check(Options(home=tmp_path / "home"))

    def test_an_outcome_that_could_not_be_written_at_the_end(self, tmp_path: Path) -> None:
        with pytest.raises(DemoError, match="no folder"):
            room.check(Options(json_file=tmp_path / "nowhere" / "outcome.json"))

    def test_a_taken_port(self) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            with pytest.raises(DemoError, match=str(taken.getsockname()[1])):
                room.check(Options(page_port=taken.getsockname()[1]))

    def test_a_drive_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(DemoError, match="nowhere"):
            room.check(Options(drive=tmp_path / "nowhere"))

    def test_what_is_right_is_not_refused(self, tmp_path: Path) -> None:
        room.check(Options(seconds=1, home=tmp_path / "new", json_file=tmp_path / "outcome.json", page_port=room.free_port()))
        room.check(Options(home=tmp_path, json_file=Path("outcome.json")))


def test_a_missing_gpsd_is_refused_with_the_way_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room.shutil, "which", lambda name, path: None)
    with pytest.raises(DemoError, match="apt-get install gpsd"):
        room.check(Options())


class Shift(Demo):
    """A demo whose truck, spool and uplink are files that the test writes."""

    def __init__(self, home: Path) -> None:
        super().__init__(Options(seconds=5), home)
        self.truck = {"start_boottime_ns": 1, "start_utc_ns": 2}
        (home / "spool" / "boot").mkdir(parents=True)

    def spool(self, *names: str, **status: Any) -> None:
        for name in names:
            (self.home / "spool" / "boot" / name).touch()
        (self.home / "spool" / "uplink.json").write_text(json.dumps(status))


WHOLE = outcome.Archive({}, 100, 1, 2, 0, [], 0, None, 0)


@pytest.fixture
def shift(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shift:
    """Two segments, both receipted and in the archive, all quantities equal to the truth."""
    monkeypatch.setattr(outcome, "read_archive", lambda folder: WHOLE)
    monkeypatch.setattr(room.truth, "read", lambda folder: {})
    equal = {quantity: outcome.Comparison(5, 1.0, 0.0, 0.0, 0.0) for quantity in room.TEN}
    monkeypatch.setattr(outcome, "compare_all", lambda archive, truth, start: equal)
    made = Shift(tmp_path)
    made.spool("000001-readings.mcap", "000002-images.mcap", segments={"receipted": 2})
    return made


STOPPED = {outcome.IMU: {"samples": 100}}


def test_a_shift_that_arrived_is_whole(shift: Shift) -> None:
    result = shift.result(STOPPED)
    assert (result["ok"], result["missing"], result["wrong"]) == (True, [], [])
    assert result["segments"] == {"announced": 2, "receipted": 2}
    assert json.loads(json.dumps(result)) == result, "it can be written as JSON"


@pytest.mark.parametrize(
    ("archive", "missing"),
    [(WHOLE._replace(images=0), ["images"]), (WHOLE, [])],
)
def test_images_must_arrive(shift: Shift, monkeypatch: pytest.MonkeyPatch, archive: outcome.Archive, missing: list[str]) -> None:
    monkeypatch.setattr(outcome, "read_archive", lambda folder: archive)
    assert shift.result(STOPPED)["missing"] == missing


@pytest.mark.parametrize("row", [None, outcome.Comparison(0, None)])
def test_every_one_of_the_ten_must_arrive(shift: Shift, monkeypatch: pytest.MonkeyPatch, row: outcome.Comparison | None) -> None:
    found = {quantity: outcome.Comparison(5, 1.0, 0.0, 0.0, 0.0) for quantity in room.TEN if quantity != "uva"}
    monkeypatch.setattr(outcome, "compare_all", lambda archive, truth, start: found | ({"uva": row} if row else {}))
    result = shift.result(STOPPED)
    assert (result["ok"], result["missing"]) == (False, ["uva"])


def test_data_that_differs_from_the_truth_is_not_whole(shift: Shift, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {quantity: outcome.Comparison(5, 1.0, 0.0, 0.0, 0.0) for quantity in room.TEN}
    found["speed"] = found["speed"]._replace(max_abs_error=3.0, tolerances=3000.0)
    monkeypatch.setattr(outcome, "compare_all", lambda archive, truth, start: found)
    result = shift.result(STOPPED)
    assert not result["ok"] and result["wrong"] == ["speed: off by 3 m/s, 3000.0 times what it may be"]


def test_samples_that_did_not_arrive_are_not_whole(shift: Shift) -> None:
    assert shift.result({outcome.IMU: {"samples": 110}})["wrong"] == ["IMU: the chip made 110 samples, 100 arrived"]
    assert not shift.result({})["ok"]


@pytest.mark.parametrize(
    ("names", "status", "said"),
    [
        (["000003-readings.mcap"], {"segments": {"receipted": 2}}, "segments: 1 of 3 without receipt"),
        (["000003-readings.mcap.open"], {"segments": {"receipted": 2}}, "segments: 1 not sealed"),
        (["000003-readings.mcap"], {"segments": {"receipted": 3}}, "segments: 3 receipted, 2 in the archive"),
        ([], {"segments": {"receipted": 2}, "deleted_segments": 1}, "segments: 3 receipted, 2 in the archive"),
    ],
)
def test_segments_that_did_not_arrive_are_not_whole(shift: Shift, names: list[str], status: dict[str, Any], said: str) -> None:
    shift.spool(*names, **status)
    result = shift.result(STOPPED)
    assert not result["ok"] and result["wrong"] == [said]


def test_no_receipt_at_all_is_missing(shift: Shift) -> None:
    shift.spool(segments={"sealed": 2})
    assert shift.result(STOPPED)["missing"] == ["receipts"]


def test_all_is_delivered_when_every_sealed_segment_has_its_receipt(shift: Shift) -> None:
    assert shift.delivered()
    shift.spool("000003-readings.mcap", segments={"receipted": 2})
    assert not shift.delivered()
    (shift.home / "spool" / "uplink.json").unlink()
    assert shift.uplink_status() == {} and not shift.delivered()


def test_nothing_sealed_is_not_delivered(tmp_path: Path) -> None:
    made = Shift(tmp_path)
    made.spool(segments={"receipted": 0})
    assert not made.delivered()


# The recorder's end: it is awaited when it was just killed, and how it ended counts.

RECORDER = """
import fcntl, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit({code}))
lock = open({lock!r}, "w")
fcntl.flock(lock, fcntl.LOCK_EX)
time.sleep(100)
"""


def with_recorder(shift: Shift, code: int) -> Child:
    lock = shift.home / "spool" / "recorder.lock"
    recorder = Child("recorder", [sys.executable, "-c", RECORDER.format(lock=str(lock), code=code)], shift.home / "log", restart=True)
    shift.children = {room.RECORDER: recorder, room.TRUCK: Child("truck", ["sleep", "100"], shift.home / "truck.log")}
    for child in shift.children.values():
        child.start()
    (shift.home / "truck").mkdir()
    (shift.home / "truck" / "stopped.json").write_text(json.dumps(STOPPED))
    return recorder


@pytest.mark.parametrize(("code", "trouble"), [(0, []), (1, ["the recorder ended with exit code 1: exit code 1"])])
def test_a_recorder_killed_just_before_the_end_comes_back_and_ends_in_order(shift: Shift, code: int, trouble: list[str]) -> None:
    recorder = with_recorder(shift, code)
    recorder.signal(signal.SIGKILL)
    os.waitid(os.P_PID, recorder.pid, os.WEXITED | os.WNOWAIT)
    try:
        assert shift.ignition_off() == STOPPED
    finally:
        shift.children[room.TRUCK].stop(10)
        recorder.stop(10)
    assert recorder.restarts == 1 and recorder.returncode == code
    assert shift.trouble == trouble
    assert shift.result(STOPPED)["wrong"] == trouble


def test_a_recorder_that_must_be_killed_at_the_end_is_told(shift: Shift, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "GRACE_SECONDS", 0.1)
    recorder = with_recorder(shift, 0)
    recorder.argv = [
        *recorder.argv[:2],
        RECORDER.format(lock=str(shift.home / "spool" / "recorder.lock"), code=0).replace("sys.exit", "print"),
    ]
    recorder.stop(10)
    recorder.start()
    try:
        shift.ignition_off()
    finally:
        shift.children[room.TRUCK].stop(10)
    assert shift.trouble == ["the recorder did not end by itself and was killed"]


def test_a_lock_that_another_process_holds_is_no_recorder(shift: Shift, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "READY_SECONDS", 0.3)
    shift.children = {room.RECORDER: Child("recorder", ["false"], shift.home / "log", restart=True)}
    shift.children[room.RECORDER].start()
    os.waitid(os.P_PID, shift.children[room.RECORDER].pid, os.WEXITED | os.WNOWAIT)
    with (shift.home / "spool" / "recorder.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ChildFailed, match="does not come back"):
            shift._wait_for_recorder()


def test_a_part_that_refuses_its_input_is_a_refusal_of_the_demo_and_one_that_breaks_is_not(shift: Shift) -> None:
    for code, kind in ((2, DemoError), (1, ChildFailed)):
        argv = [sys.executable, "-c", f"print('bad name'); raise SystemExit({code})"]
        shift.children["hub"] = Child("hub", argv, shift.home / f"hub{code}.log")
        shift.children["hub"].start()
        with pytest.raises(kind, match="bad name"):
            shift._ready("hub", shift.home / "never.json")


class View:
    """No terminal."""

    said: list[str] = []

    def __init__(self, demo: Demo) -> None:
        self.demo = demo

    def __enter__(self) -> "View":
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def say(self, words: str) -> None:
        return None

    def update(self) -> None:
        self.demo.stopping.set() if self.demo.options.seconds == 99 else None

    def summary(self, result: dict[str, Any]) -> None:
        self.said.append(str(result["ok"]))


@pytest.mark.usefixtures("gpsd_there")
@pytest.mark.parametrize(
    ("seconds", "ok", "code"),
    [(0.01, True, 0), (0.01, False, 1), (99, True, room.INTERRUPTED)],
)
def test_the_exit_code_says_how_it_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, ok: bool, code: int) -> None:
    monkeypatch.setattr(Demo, "start", lambda self: None)
    monkeypatch.setattr(Demo, "ignition_off", lambda self: {})
    monkeypatch.setattr(Demo, "result", lambda self, stopped: {"ok": ok})
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    file = tmp_path / "outcome.json"
    options = Options(seconds=seconds, json_file=file, home=tmp_path / "home")
    assert room.run(options, View) == code  # type: ignore[arg-type]
    assert file.exists() == (code != room.INTERRUPTED)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers


@pytest.mark.usefixtures("gpsd_there")
def test_a_demo_that_cannot_start_stops_what_it_began_and_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Child] = []

    def start(self: Demo) -> None:
        child = Child(room.HUB, ["sleep", "100"], self.home / "log")
        self.children[room.HUB] = child
        child.start()
        started.append(child)
        raise DemoError("no hub")

    monkeypatch.setattr(Demo, "start", start)
    monkeypatch.setattr(room.tempfile, "tempdir", str(tmp_path))
    with pytest.raises(DemoError, match="no hub"):
        room.run(Options(seconds=1), View)  # type: ignore[arg-type]
    assert not started[0].running() and list(tmp_path.iterdir()) == []
    assert threading.active_count() < 20


def test_a_machine_without_the_micropython_unix_port_is_told_so_in_one_line() -> None:
    with pytest.raises(DemoError, match="MicroPython unix port is not installed .* has no build for"):
        room.check_micropython("a_module_that_is_not_there")


def test_ctrl_c_while_the_last_segments_travel_ends_the_waiting(tmp_path: Path) -> None:
    demo = Demo(Options(), tmp_path)
    truck, recorder = (Child(name, ["sleep", "60"], tmp_path / f"{name}.log") for name in ("truck", "recorder"))
    demo.children = {"truck": truck, "recorder": recorder}
    (tmp_path / "truck").mkdir()
    (tmp_path / "truck" / "stopped.json").write_text("{}")
    demo.stopping.set()
    with pytest.raises(KeyboardInterrupt):
        demo.ignition_off()
