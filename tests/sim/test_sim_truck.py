"""The truck process: it starts everything, says where, obeys its signals, and leaves nothing behind."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sim import truth
from sim.camera import read_comment
from sim.clock import Clock
from sim.head import HeadError
from sim.receiver import QUANTITIES, ReceiverError
from sim.truck import Truck, TruckError
from sim.world import World

pytestmark = pytest.mark.timeout(60)

PATIENCE = 40.0  # s, for a busy machine


def alive(pid: int) -> bool:
    """Whether the process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(what: Callable[[], bool], text: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < deadline, text
        time.sleep(0.05)


class Process:
    """`python -m sim.truck` in `folder`."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        argv = [sys.executable, "-m", "sim.truck", "--folder", str(folder), *arguments]
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)

    def ready(self) -> dict[str, Any]:
        """truck.json, once it is there."""
        file = self.folder / "truck.json"
        wait_for(lambda: file.exists() or self.process.poll() is not None, "truck.json does not come")
        assert file.exists(), self.process.communicate()[1]
        content: dict[str, Any] = json.loads(file.read_text())
        return content

    def stopped(self) -> dict[str, dict[str, int]]:
        """stopped.json, once it is there."""
        file = self.folder / "stopped.json"
        wait_for(file.exists, "stopped.json does not come")
        content: dict[str, dict[str, int]] = json.loads(file.read_text())
        return content

    def end(self) -> tuple[int, str]:
        """Ends it by SIGTERM; exit code and standard error."""
        self.process.send_signal(signal.SIGTERM)
        error = self.process.communicate(timeout=PATIENCE)[1]
        return self.process.returncode, error


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Starts trucks in folders of their own; what the test leaves running is ended."""
    made: list[Process] = []

    def begin(*arguments: str) -> Process:
        made.append(Process(tmp_path / f"truck{len(made)}", *arguments))
        return made[-1]

    yield begin
    for process in made:
        if process.process.poll() is None:
            process.end()


def test_a_truck_runs_stops_its_chips_and_ends_without_leaving_anything(start: Callable[..., Process]) -> None:
    truck = start("--seed", "3", "--start-utc", "2026-06-21T03:00:00Z")
    ready = truck.ready()
    assert ready["start_utc_ns"] == 1_782_010_800 * 10**9
    assert abs(time.clock_gettime_ns(time.CLOCK_BOOTTIME) - ready["start_boottime_ns"]) < PATIENCE * 1e9
    assert set(ready["pids"]) == {"truck", "camera", "micropython"} and all(alive(pid) for pid in ready["pids"].values())
    assert os.path.realpath(ready["head_port"]).startswith("/dev/pts/")

    port = os.open(ready["gps_port"], os.O_RDONLY | os.O_NOCTTY)
    assert os.read(port, 6) == b"$GNRMC"  # as delivered, at the speed that a port has by itself
    os.close(port)
    with urllib.request.urlopen(ready["camera_url"], timeout=PATIENCE) as stream:
        stream.readline(), stream.readline()
        length = int(stream.readline().split()[1])
        stream.readline()
        number, t_us = read_comment(stream.read(length))
    assert number >= 1 and t_us % 500_000 == 0

    wait_for(lambda: (truck.folder / "truth" / "gnss-0.bin").exists(), "no position")
    truck.process.send_signal(signal.SIGUSR1)
    stopped = truck.stopped()
    assert set(stopped) >= {"icm20948", "bmp390", "sht45", "opt3001", "as7331", "sps30", "gnss"}
    time.sleep(1.2)
    assert alive(ready["pids"]["micropython"]) and alive(ready["pids"]["camera"]), "only the chips stop"
    assert truck.end() == (0, "")
    assert not any(alive(pid) for pid in ready["pids"].values())
    assert not (truck.folder / "truck.json").exists(), "nobody may take ports from it that are gone"
    logged = truth.read(truck.folder)
    assert {sensor: len(times) for sensor, (times, _) in logged.items()} == {
        sensor: counts["samples"] for sensor, counts in stopped.items() if counts["samples"]
    }
    times, values = logged["gnss"]
    assert set(values) == set(QUANTITIES)
    assert len(times) == stopped["gnss"]["samples"] >= 1, "no epoch after the ignition went off, and none lost at the end"
    utc = times - ready["start_boottime_ns"] + ready["start_utc_ns"]
    assert all(utc % 10**9 == 0)


def test_the_end_of_a_drive_is_the_ignition_going_off(start: Callable[..., Process], tmp_path: Path) -> None:
    rows = "".join(f"{k / 10},{k / 10},0,9.8\n" for k in range(31))
    (tmp_path / "accelerometer.csv").write_text("t_s,x_m_s2,y_m_s2,z_m_s2\n" + rows)
    truck = start("--drive", str(tmp_path))
    ready = truck.ready()
    truck.stopped()
    assert time.clock_gettime_ns(time.CLOCK_BOOTTIME) - ready["start_boottime_ns"] >= 3_000_000_000
    assert truck.end() == (0, "")


def test_a_killed_truck_takes_its_camera_and_its_head_with_it(start: Callable[..., Process]) -> None:
    truck = start()
    ready = truck.ready()
    truck.process.kill()
    truck.process.communicate()
    wait_for(lambda: not any(alive(pid) for pid in ready["pids"].values()), "a child outlives the truck")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--drive", "/nowhere/drive"], "sim.truck: /nowhere/drive: No such file or directory\n"),
        (["--start-utc", "tomorrow"], "sim.truck: --start-utc 'tomorrow' is not an ISO 8601 time\n"),
    ],
)
def test_bad_input_is_one_line_and_exit_2_with_nothing_started(tmp_path: Path, arguments: list[str], message: str) -> None:
    argv = [sys.executable, "-m", "sim.truck", "--folder", str(tmp_path / "truck"), *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stderr, done.stdout) == (2, message, "")
    assert not (tmp_path / "truck").exists()


def test_a_drive_without_a_column_is_one_line_and_exit_2(tmp_path: Path) -> None:
    (tmp_path / "accelerometer.csv").write_text("t_s,x_m_s2,y_m_s2\n0,1,2\n1,1,2\n")
    argv = [sys.executable, "-m", "sim.truck", "--folder", str(tmp_path / "truck"), "--drive", str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "accelerometer.csv: missing column z_m_s2" in done.stderr
    assert not (tmp_path / "truck").exists()


def test_a_folder_that_cannot_be_made_is_one_line_and_exit_2(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    argv = [sys.executable, "-m", "sim.truck", "--folder", str(tmp_path / "file" / "truck")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stderr) == (2, f"sim.truck: {tmp_path}/file/truck: Not a directory\n")


class Part:
    """A part of the truck that says how it is."""

    def __init__(self, error: Exception | None) -> None:
        self._error = error

    def check(self) -> None:
        if self._error is not None:
            raise self._error


@pytest.mark.parametrize(("head", "receiver"), [(HeadError("buses broke"), None), (None, ReceiverError("receiver broke")), (None, None)])
def test_a_part_that_broke_ends_the_truck_with_its_words(tmp_path: Path, head: Exception | None, receiver: Exception | None) -> None:
    truck = Truck(tmp_path, World(), Clock(), [])
    truck._head, truck._receiver = Part(head), Part(receiver)  # type: ignore[assignment]
    if head or receiver:
        with pytest.raises(TruckError, match="broke"):
            truck.check()
    else:
        truck.check()
    truck._head = truck._receiver = None
    truck.stop()
