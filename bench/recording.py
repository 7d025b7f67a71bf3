"""What recording costs at the load of a day of 252 GB (30 images/s of 97 kB, the head at 102 Hz, the slow chips at 1 Hz), against `dd` of
the same bytes with a sync a second; start beside weeks of sealed segments; recovery of a torn segment; the whole recorder process.

`dd` reads a file that is in memory and writes it with O_DSYNC, 2.92 MB at a time, so a second of recording has one sync; ours has a commit
each 4 MB here, because nothing waits for the beat, and, in the second row, each half second of recorded time, as on a truck."""

import hashlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from foxglove_schemas_protobuf.CompressedImage_pb2 import CompressedImage

from bench.measure import Cost, Row, child, own
from bench.mjpeg import jpeg_of
from logbook import block, channels, reader
from logbook.recovery import recover
from logbook.schemas import cruisers_pb2 as pb
from logbook.segment import Segments

RUNS = 5
WARM_UP = 2  # runs before them: the allocator and the caches settle; a recorder runs all day
SECONDS = 60  # of recorded time in a run: 175 MB
FPS, IMAGE_BYTES = 30, 97_000
AHEAD = 90  # images that wait for the disk: two chunks
DAY_BYTES_PER_S = FPS * IMAGE_BYTES + 10_000
BLOCK_BYTES = 18 + 51 * (4 + 2 * 11)  # half a second of the IMU, uncompressed
SLOW = ("bmp390", "sht45", "opt3001", "as7331", "sps30")
TORN_BYTES = 64_000_000
SEALED = 16_000
WHOLE_SECONDS = 25.0


class Disk:
    """Two streams as the recorder opens them, in `folder`; `image` waits while AHEAD of them are not yet on disk."""

    def __init__(self, folder: Path, images_segment_bytes: int = 16_000_000) -> None:
        number = itertools.count(1).__next__
        self._room = threading.Semaphore(AHEAD)
        told: dict[str, Any] = {"on_durable": lambda token: self._room.release(), "on_sealed": lambda path: None, "on_error": _refuse}
        camera = [channels.camera_topic("front")]
        self.readings = Segments(folder, "truck-1", "0" * 36, channels.READINGS, "bench", number, 60, **told)
        self.images = Segments(
            folder, "truck-1", "0" * 36, channels.IMAGES, "bench", number, 60, images_segment_bytes, topics=camera, **told
        )

    def image(self, at_ns: int, jpeg: bytes) -> None:
        """One image of the camera, as soon as there is room."""
        self._room.acquire()
        image = CompressedImage(frame_id="front", data=jpeg, format="jpeg")
        self.images.write(channels.camera_topic("front"), at_ns, 0, image.SerializeToString(), token=at_ns)

    def close(self) -> None:
        """Seals both."""
        assert self.images.close() and self.readings.close()


def _refuse(error: OSError) -> None:
    raise error


def _record(folder: Path, jpegs: list[bytes], half_seconds: bool) -> None:
    """SECONDS of recorded time as fast as the disk takes them."""
    disk = Disk(folder)
    columns, raw = os.urandom(BLOCK_BYTES), os.urandom(40)
    for half in range(2 * SECONDS):
        at = half * 500_000_000
        for number in range(FPS // 2):
            disk.image(at + number, jpegs[number])
        disk.readings.write(channels.IMU_BLOCK, at, 0, columns)
        if half % 2:
            for sensor in SLOW:
                reading = pb.Reading(sensor=sensor, boottime_ns=at, raw=raw)
                disk.readings.write(channels.reading_topic(sensor), at, 0, reading.SerializeToString())
        if half_seconds:
            disk.images.flush()
            disk.readings.flush()
    disk.close()


def against_dd(folder: Path) -> list[Row]:
    """Wall time against dd's; CPU against dd's and that of one CRC-32 pass."""
    jpegs = [jpeg_of(IMAGE_BYTES) for _ in range(FPS)]
    wall: dict[bool, list[float]] = {False: [], True: []}
    cpu: dict[bool, list[float]] = {False: [], True: []}
    speed: list[float] = []
    for run in range(-WARM_UP, RUNS):
        costs: dict[bool, Cost] = {}
        for half_seconds in (False, True):
            target = folder / f"ours{run}{half_seconds}"
            costs[half_seconds] = own(lambda target=target, half_seconds=half_seconds: _record(target, jpegs, half_seconds))  # type: ignore[misc]
        content = [path.read_bytes() for path in sorted((folder / f"ours{run}False").glob("*/*.mcap"))]
        same = folder / "same"
        same.write_bytes(b"".join(content))
        size = same.stat().st_size
        argv = ["dd", f"if={same}", f"of={folder / f'dd{run}'}", f"bs={DAY_BYTES_PER_S}", "oflag=dsync", "status=none"]
        dd = child(lambda argv=argv: subprocess.run(argv, check=True))  # type: ignore[misc]
        crc = own(lambda content=content: [zlib.crc32(part) for part in content])  # type: ignore[misc]
        for path in folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if run >= 0:
            for half_seconds, cost in costs.items():
                wall[half_seconds].append(cost.wall / dd.wall)
                cpu[half_seconds].append(cost.cpu / (dd.cpu + crc.cpu))
            speed.append(size / costs[False].wall / 2.92e6)
    return [
        Row("recording, commits of 4 MB: wall", "dd, a sync a second", wall[False], "<= 1.25"),
        Row("recording, commits of 0.5 s: wall", "dd, a sync a second", wall[True]),
        Row("recording, commits of 4 MB: CPU", "dd + one CRC-32 pass", cpu[False], "<= 1.25"),
        Row("recording, commits of 0.5 s: CPU", "dd + one CRC-32 pass", cpu[True], "<= 1.25"),
        Row("most that is recorded", "252 GB/day", speed, ">= 20"),
    ]


@contextmanager
def one_core() -> Iterator[None]:
    """This process and its threads to come on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def recovery(folder: Path) -> Row:
    """A torn images segment of 64 MB, against SHA-256 of the same bytes."""
    jpegs = [jpeg_of(IMAGE_BYTES) for _ in range(FPS)]
    disk = Disk(folder, 2 * TORN_BYTES)
    for number in range(TORN_BYTES // IMAGE_BYTES):
        disk.image(number, jpegs[number % FPS])
    disk.close()
    (whole,) = folder.glob("*/*-images.mcap")
    torn = whole.read_bytes()[: int(TORN_BYTES * 0.98)]
    found = []
    for run in range(RUNS):
        path = folder / f"torn{run}" / "000001-images.mcap.open"
        path.parent.mkdir()
        path.write_bytes(torn)
        hashing = own(lambda: hashlib.sha256(torn).hexdigest())
        found.append(own(lambda path=path: recover(path)).wall / hashing.wall)  # type: ignore[misc]
    return Row("recovery of a torn segment of 64 MB", "sha256 of it", found)


class Process:
    """`python -m gateway.recorder` with its configuration in `folder`; `extra` are its sources in TOML."""

    def __init__(self, folder: Path, spool: Path, extra: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        config = folder / "truck.toml"
        hub = '[hub]\ndomain = "hub.test"\nhost = "127.0.0.1"\nport = 5222\nca_file = "ca.pem"\npassword_file = "password"\n'
        config.write_text(f'name = "truck-1"\nspool = "{spool}"\nlive_socket = "{folder / "live.sock"}"\n{hub}{extra}')
        self._process = subprocess.Popen([sys.executable, "-m", "gateway.recorder", str(config)], stdin=subprocess.DEVNULL)

    def peak_bytes(self) -> int:
        """Resident memory at its highest (VmHWM, proc_pid_status(5))."""
        lines = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))

    def cpu_s(self) -> float:
        """CPU time so far (proc_pid_stat(5))."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        """Ignition off."""
        self._process.send_signal(signal.SIGTERM)
        if self._process.wait(30) != 0:
            raise RuntimeError(f"the recorder ended with exit code {self._process.returncode}")


def _first_chunk(spool: Path, known: set[str], seconds: float) -> float:
    """How long until a recorder has its first chunk on disk."""
    begin = time.perf_counter()
    while time.perf_counter() - begin < seconds:
        for folder in set(os.listdir(spool)) - known:
            for path in (spool / folder).glob("*.mcap*") if (spool / folder).is_dir() else ():
                if any(message.topic == channels.EVENT for message in _readable(path)):
                    return time.perf_counter() - begin
        time.sleep(0.005)
    raise RuntimeError(f"no chunk within {seconds:g} s")


def _readable(path: Path) -> list[reader.Message]:
    try:
        return list(reader.read(path))
    except (reader.SegmentError, FileNotFoundError):  # its head is not whole yet, or it has just been sealed
        return []


def start_beside(folder: Path) -> list[Row]:
    """From the start of the process to its first chunk on disk: with an empty spool, and with 16,000 sealed segments of this boot. In s."""
    made = folder / "made"
    disk = Disk(made)
    frames = pb.HeadFrames(head_boot=7, first_sequence=1, last_sequence=2).SerializeToString()
    rows = np.random.default_rng(1).integers(-500, 500, (51, 11), dtype=np.int16)
    for number in range(60):
        times = number * 10**9 + np.arange(51, dtype=np.uint64) * np.uint64(9_777_777)
        disk.readings.write(channels.IMU_BLOCK, number * 10**9, 0, block.encode(7, times, rows))
        disk.readings.write(channels.HEAD_FRAMES, number * 10**9, 0, frames)
    disk.close()
    (segment,) = made.glob("*/*.mcap")
    empty, full = folder / "empty", folder / "full"
    boot = Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
    for shift in range(8):  # linked: 16,000 names, each a file for whoever opens it
        (full / f"{boot}-{shift:08x}").mkdir(parents=True)
        for number in range(SEALED // 8):
            os.link(segment, full / f"{boot}-{shift:08x}" / f"{number + 1:06d}-readings.mcap")
    empty.mkdir()
    found: dict[str, list[float]] = {"empty": [], "full": []}
    for run in range(3):
        for name, spool in (("empty", empty), ("full", full)):
            known = set(os.listdir(spool))
            process = Process(folder / f"{name}{run}", spool)
            try:
                found[name].append(_first_chunk(spool, known, 60.0))
            finally:
                process.stop()
            for path in spool.iterdir():
                if path.name not in known and path.is_dir():
                    shutil.rmtree(path)
    beside = [full - empty for full, empty in zip(found["full"], found["empty"], strict=True)]
    return [
        Row("start of the recorder, s, empty spool", "process to first chunk", found["empty"]),
        Row("start with 16,000 sealed segments, s", "process to first chunk", found["full"], "<= 2"),
        Row("of that because of the segments, s", "the one minus the other", beside),
    ]


def whole_process(folder: Path) -> list[Row]:
    """The recorder with a simulated head on the real MicroPython, its receiver and a camera of 30 x 97 kB a second: its memory in MB, and
    its CPU for each second of recording against that of dd and one CRC pass for the same bytes."""
    truck = subprocess.Popen([sys.executable, "-m", "sim.truck", "--folder", str(folder / "truck")], stdin=subprocess.DEVNULL)
    camera = subprocess.Popen(
        [sys.executable, "-m", "bench.mjpeg", "--bytes", str(IMAGE_BYTES), "--fps", str(FPS)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert camera.stdout is not None
        address = camera.stdout.readline().strip()
        ready = folder / "truck" / "truck.json"
        until = time.monotonic() + 60
        while not ready.exists():
            if time.monotonic() > until or truck.poll() is not None:
                raise RuntimeError("the simulated truck does not start")
            time.sleep(0.1)
        ports = json.loads(ready.read_text())
        sources = (
            f'[head]\nport = "{ports["head_port"]}"\n[receiver]\nport = "{ports["gps_port"]}"\n'
            f'[[cameras]]\nname = "front"\nsource = "{address}"\n'
        )
        spool = folder / "spool"
        process = Process(folder / "recorder", spool, sources)
        try:
            time.sleep(5.0)
            cpu, began = process.cpu_s(), time.perf_counter()
            time.sleep(WHOLE_SECONDS)
            cpu, lasted = process.cpu_s() - cpu, time.perf_counter() - began
            peak = process.peak_bytes()
        finally:
            process.stop()
        size = sum(path.stat().st_size for path in spool.glob("*/*.mcap"))
        images = sum(message.topic.startswith("/camera/") for path in spool.glob("*/*-images.mcap") for message in reader.read(path))
        same = folder / "same"
        same.write_bytes(os.urandom(1_000_000) * int(DAY_BYTES_PER_S * lasted / 1e6))
        argv = ["dd", f"if={same}", f"of={folder / 'dd'}", f"bs={DAY_BYTES_PER_S}", "oflag=dsync", "status=none"]
        dd = child(lambda: subprocess.run(argv, check=True))
        data = same.read_bytes()
        crc = own(lambda: zlib.crc32(data))
    finally:
        truck.send_signal(signal.SIGTERM)
        truck.wait(30)
        assert camera.stdin is not None
        camera.stdin.close()
        camera.wait(10)
    rate = size / (lasted + 5.0) / 2.92e6
    return [
        Row("whole recorder: memory at its peak, MB", "-", [peak / 1e6], "<= 150"),
        Row("whole recorder: bytes on disk", "252 GB/day", [rate]),
        Row("whole recorder: images on disk each second", "-", [images / (lasted + 5.0)]),
        Row("whole recorder: CPU, share of one core", "-", [cpu / lasted]),
        Row("whole recorder: CPU", "dd + one CRC-32 pass", [cpu / (dd.cpu + crc.cpu)]),
    ]


def rows() -> Iterator[Row]:
    """All of it, each as it is found, on the disk that holds the temporary folder."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        for part in ("dd", "core", "recovery", "start", "whole"):
            (folder / part).mkdir()
        *costs, _ = against_dd(folder / "dd")
        yield from costs
        with one_core():
            most = against_dd(folder / "core")[-1]
        yield most._replace(what=f"{most.what}, on one core")
        yield recovery(folder / "recovery")
        yield from start_beside(folder / "start")
        yield from whole_process(folder / "whole")
