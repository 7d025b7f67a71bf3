"""The whole way, on real parts: chip register to center, as `cruisers demo` runs it."""

import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from demo_runs import RunningDemo, listening, processes, wait_for

from logbook.quantities import BY_ID, TEN

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
FIRST, SECOND = (pytest.mark.xdist_group(f"demo-{number}") for number in (1, 2))  # one demo of each beside each other, as long together

DRIVE = Path(__file__).parents[3] / "shared" / "data" / "drive-comma2k19"
Start = Callable[..., RunningDemo]


def tolerance(quantity_id: str, value: float) -> float:
    """One step of the chip's register. The OPT3001 is a floating point chip: its step grows with the value (12 bit mantissa)."""
    step = BY_ID[quantity_id].resolution
    return max(step, abs(value) / 2047) if quantity_id == "illuminance" else step


def assert_whole(outcome: dict[str, Any]) -> None:
    """Everything arrived, equal to the truth within each chip's resolution, no sample lost or delivered twice."""
    assert outcome["missing"] == []
    for quantity_id in TEN:
        row = outcome["quantities"][quantity_id]
        assert row["count"] > 0, quantity_id
        assert row["unit"] == BY_ID[quantity_id].unit
        assert row["max_abs_error"] is not None, quantity_id
        assert row["max_abs_error"] <= tolerance(quantity_id, row["last"]), (quantity_id, row)
    imu = outcome["imu"]
    assert abs(imu["chip_samples"] - imu["center_samples"]) <= 1, imu
    assert outcome["head_frames"] == {"missing": 0, "repeated": 0}
    assert outcome["images"] >= 1
    assert outcome["segments"]["receipted"] >= 1
    assert outcome["segments"]["receipted"] == outcome["segments"]["announced"]
    assert outcome["head"]["runtime"].startswith("micropython")
    assert outcome["peak_memory_bytes"]["recorder"] > 1_000_000


@FIRST
def test_every_quantity_images_and_receipts_arrive_and_equal_the_truth_of_the_synthetic_world(demo: Start) -> None:
    running = demo("--seconds", "20")
    code, out, err = running.wait(240)
    assert code == 0, out + err
    outcome = running.outcome()
    assert_whole(outcome)
    assert outcome["gaps"] == []
    assert "everything arrived" in out


@SECOND
def test_a_recorder_killed_at_random_moments_loses_no_sample_of_the_head_and_delivers_none_twice(demo: Start) -> None:
    running = demo("--seconds", "25", "--seed", "7")
    running.child("gateway.recorder")
    moments = [round(random.uniform(0.2, 7.0), 2) for _ in range(3)]
    for moment in moments:
        time.sleep(moment)
        victim = running.child("gateway.recorder")
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda victim=victim: running.child("gateway.recorder") != victim, 15, "the recorder comes back")  # type: ignore[misc]
    code, out, err = running.wait(240)
    assert code == 0, (moments, out + err)
    outcome = running.outcome()
    assert_whole(outcome)
    assert outcome["restarts"] == {"recorder": len(moments)}, moments
    # A killed writer cannot know whether half a second of pictures was in its memory: that, and nothing else, is reported.
    assert {gap.split(" (")[0] for gap in outcome["gaps"] if not gap.startswith(("camera/", "gnss"))} <= {
        "readings: writer ended without sealing",
        "images: writer ended without sealing",
    }, outcome["gaps"]


@FIRST
def test_a_recorder_that_is_away_for_14_s_loses_no_sample_of_the_head(demo: Start) -> None:
    """Each one that comes back is killed while it still starts, so that the head's ring has to bridge the whole time."""
    running = demo("--seconds", "24")
    running.child("gateway.recorder")
    time.sleep(4)
    until = time.monotonic() + 13.0  # and one more second until the next is started, then its own start
    kills = 0
    while time.monotonic() < until:
        alive = [pid for pid, words in processes() if words[1:3] == ["-m", "gateway.recorder"] and str(running.home) in " ".join(words)]
        for pid in alive:
            os.kill(pid, signal.SIGKILL)
            kills += 1
        time.sleep(0.05)
    code, out, err = running.wait(240)
    assert code == 0, out + err
    outcome = running.outcome()
    assert_whole(outcome)
    assert outcome["restarts"]["recorder"] >= kills - 1 > 5


@SECOND
def test_a_gpx_route_alone_drives_the_truck_and_its_end_is_the_end_of_the_demo(demo: Start, tmp_path: Path) -> None:
    points = "".join(
        f'<trkpt lat="{35.34 + second * 1e-4:.7f}" lon="139.49"><time>2026-05-01T01:00:{second:02d}Z</time></trkpt>' for second in range(16)
    )
    route = tmp_path / "route.gpx"
    route.write_text(f'<gpx xmlns="http://www.topografix.com/GPX/1/1"><trk><trkseg>{points}</trkseg></trk></gpx>')
    running = demo("--drive", str(route))
    code, out, err = running.wait(200)
    assert code == 0, out + err
    outcome = running.outcome()
    assert_whole(outcome)
    assert 35.34 < outcome["quantities"]["latitude"]["last"] <= 35.3415 + 1e-7
    assert outcome["quantities"]["speed"]["last"] == pytest.approx(1e-4 * 111_000, rel=0.05)


@pytest.mark.skipif(not DRIVE.is_dir(), reason="../shared/data/drive-comma2k19 is absent")
@SECOND
def test_a_recorded_drive_comes_out_at_the_center_as_it_stands_in_its_csv(demo: Start) -> None:
    from sim import outcome as arrived
    from sim import truth

    running = demo("--seconds", "20", "--drive", str(DRIVE))
    code, out, err = running.wait(240)
    assert code == 0, out + err
    assert_whole(running.outcome())
    start_ns, start_utc_ns = running.outcome()["start"]["boottime_ns"], running.outcome()["start"]["utc_ns"]
    archive = arrived.read_archive(running.home / "archive" / "truck-001")
    chips = truth.read(running.home / "truck")
    files = {
        "acceleration": ("accelerometer.csv", ("x_m_s2", "y_m_s2", "z_m_s2"), 1.0),
        "angular_rate": ("gyroscope.csv", ("x_rad_s", "y_rad_s", "z_rad_s"), 1.0),
        "magnetic_field": ("magnetometer.csv", ("x_uT", "y_uT", "z_uT"), 1e-6),
    }
    # The CSV is read here by numpy alone and interpolated at the chip's own sample times: independent of sim/drive.py.
    for prefix, (name, columns, scale) in files.items():
        table = np.genfromtxt(DRIVE / name, delimiter=",", names=True)
        for axis, column in zip("xyz", columns, strict=True):
            quantity = f"{prefix}_{axis}"
            times, values = archive.series[quantity]
            n = min(len(values), len(chips["icm20948"][0]))
            seconds = (chips["icm20948"][0][:n] - start_ns) / 1e9
            expected = np.interp(seconds, table["t_s"], table[column] * scale)
            good = ~np.isnan(values[:n])
            assert np.sum(good) > 1000
            step = BY_ID[quantity].resolution
            # the magnetometer samples on its own 100 Hz clock: up to 10 ms older than the FIFO frame that carries it
            slope = np.max(np.abs(np.gradient(table[column] * scale, table["t_s"]))) * 0.0101 if prefix == "magnetic_field" else 0.0
            assert np.max(np.abs(values[:n] - expected)[good]) <= step * 0.51 + slope, quantity
            assert np.max(np.abs(times[:n] - chips["icm20948"][0][:n])) < 20e6, "sample times within 20 ms"
    gnss = np.genfromtxt(DRIVE / "gnss.csv", delimiter=",", names=True)
    for quantity, column in (("latitude", "latitude_deg"), ("longitude", "longitude_deg"), ("speed", "speed_m_s")):
        utc, values = archive.series[quantity]
        seconds = (utc - start_utc_ns) / 1e9
        expected = np.interp(seconds, gnss["t_s"], gnss[column])
        assert len(values) >= 15
        assert np.max(np.abs(values - expected)) <= BY_ID[quantity].resolution * 1.01, quantity


def running_from(folder: Path) -> list[list[str]]:
    """Command lines of the processes that name `folder`."""
    return [words for _, words in processes() if any(str(folder) in word for word in words)]


@pytest.fixture
def temporary() -> Iterator[Path]:
    """An empty TMPDIR with a short name (sockets of the kernel's local kind have at most 107 characters)."""
    with tempfile.TemporaryDirectory(prefix="e2e-") as folder:
        yield Path(folder)


@FIRST
def test_ctrl_c_leaves_no_process_no_port_and_no_folder_and_a_second_demo_runs_beside_the_first(temporary: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(temporary)}
    both = [
        subprocess.Popen([sys.executable, "-m", "cruisers", "demo", "--truck", name], env=environment, stderr=subprocess.DEVNULL)
        for name in ("truck-1", "truck-2")
    ]
    try:
        wait_for(lambda: len([words for words in running_from(temporary) if "gateway.recorder" in words]) == 2, 120, "both record")
        ports = [port for one in both for _, port in listening(one.pid)]
        assert len(ports) >= 8, "two hubs with two ports each, two pages, two gpsd at least"
        time.sleep(3)
        assert all(one.poll() is None for one in both)
    finally:
        for one in both:
            one.send_signal(signal.SIGINT)
        codes = [one.wait(90) for one in both]
    assert codes == [0, 0]
    assert list(temporary.iterdir()) == []
    assert running_from(temporary) == []
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))


def refused(temporary: Path, *arguments: str, path: str | None = None) -> str:
    """The one line with which `cruisers demo ARGUMENTS` refuses (exit code 2, nothing on stdout, nothing left behind)."""
    environment = {**os.environ, "TMPDIR": str(temporary)}
    done = subprocess.run(
        [sys.executable, "-m", "cruisers", "demo", "--seconds", "5", *arguments],
        capture_output=True, text=True, timeout=100, env=environment if path is None else {**environment, "PATH": path}, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stdout == ""
    lines = [line for line in done.stderr.splitlines() if not line.startswith("starting ")]
    assert len(lines) == 1, done.stderr
    assert running_from(temporary) == []
    assert list(temporary.iterdir()) == []
    return lines[0]


def test_a_truck_name_with_illegal_characters_is_refused_in_one_line(temporary: Path) -> None:
    assert "Truck 1/ä" in refused(temporary, "--truck", "Truck 1/ä")


def test_a_taken_page_port_is_refused_in_one_line(temporary: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert str(port) in refused(temporary, "--page-port", str(port))


def test_an_unreadable_drive_folder_is_refused_in_one_line(temporary: Path, tmp_path: Path) -> None:
    assert str(tmp_path / "nowhere") in refused(temporary, "--drive", str(tmp_path / "nowhere"))


def test_a_missing_csv_column_is_refused_in_one_line_that_names_it(temporary: Path, tmp_path: Path) -> None:
    (tmp_path / "accelerometer.csv").write_text("t_s,x_m_s2,y_m_s2\n0.0,0.1,0.2\n0.1,0.1,0.2\n")
    line = refused(temporary, "--drive", str(tmp_path))
    assert "accelerometer.csv" in line and "z_m_s2" in line


def test_a_missing_ejabberd_is_refused_in_one_line_that_says_how_to_install_it(temporary: Path, tmp_path: Path) -> None:
    line = refused(temporary, path=str(tmp_path))  # Erlang, which ejabberd needs, is looked up on the PATH
    assert "ejabberd" in line and "apt-get install ejabberd" in line
