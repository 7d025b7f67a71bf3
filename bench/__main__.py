"""`make bench`: what the narrow way costs, as ratios to the bare machine measured in the same run. Absolute times are not printed: on
shared machines they mean nothing.

- images to disk: a segment file against write + fdatasync of the same bytes in the same portions
- a segment at the center: `verify` (marks, CRCs, every message) against SHA-256 over the same file
- the IMU on disk: bytes of raw rows over bytes of column blocks in zstd, and of rows in zstd
- the IMU on a core: recorded time over the CPU time to split, encode, decode and type it (times real time); and its whole way through the
  gateway, from the bytes of the serial line to the journal
- each driver's `decode`: CPU of a sample over that of struct.unpack of the same bytes, and times real time at the sensor's rate
"""

import hashlib
import os
import statistics
import struct
import tempfile
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import numpy as np
import zstandard
from rich.console import Console
from rich.table import Table

from bench.decoding import decoding, imu_through_the_gateway
from drivers import icm20948
from gateway.convert import imu_rows
from logbook import block, reader
from logbook.channels import IMAGES, camera_topic
from logbook.segment import Segments
from sim.world import World

RUNS = 5
IMAGE_BYTES, IMAGES_A_RUN, IMAGES_A_CHUNK = 100_000, 240, 24
IMU_SECONDS, BLOCK_SAMPLES = 60, 51
ACCEL_LSB, GYRO_LSB, MAG_LSB, TEMPERATURE_LSB = (
    4096 / 9.80665,
    65.5 * 180 / np.pi,
    1 / 0.15e-6,
    333.87,
)  # facts of the ICM-20948 at ±8 g and ±500 °/s
TRIM = bytes([0x1D, 0x1B, 0, 10, 10])


def seconds(work: Callable[[], object]) -> float:
    """Wall time of `work` in seconds."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def cpu(work: Callable[[], object]) -> float:
    """CPU time of `work` in seconds."""
    start = time.process_time()
    work()
    return time.process_time() - start


def ratios(ours: Callable[[Path], float], other: Callable[[Path], float]) -> list[float]:
    """other / ours, run in turn, after one run of each for the caches. Above 1: ours is faster."""
    found = []
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        for run in range(RUNS + 1):
            pair = ours(Path(folder) / f"ours{run}"), other(Path(folder) / f"other{run}")
            if run:
                found.append(pair[1] / pair[0])
    return found


def images_to_disk(picture: bytes) -> list[float]:
    """Segment file against bare write + fdatasync."""

    def ours(folder: Path) -> float:
        segments = Segments(
            folder, "truck-1", "0" * 32, IMAGES, "bench", count(1).__next__, 3600, chunk_bytes=IMAGE_BYTES * IMAGES_A_CHUNK,
            on_durable=lambda token: None, on_sealed=lambda path: None, on_error=_refuse, topics=[camera_topic("front")],
        )  # fmt: skip

        def work() -> None:
            for number in range(IMAGES_A_RUN):
                while segments.stats().waiting_bytes > 10 * IMAGE_BYTES * IMAGES_A_CHUNK:
                    time.sleep(0.001)
                segments.write(camera_topic("front"), number, 0, picture)
            segments.close()

        return seconds(work)

    def other(folder: Path) -> float:
        def work() -> None:
            folder.mkdir()
            with open(folder / "bare", "wb") as file:
                for _ in range(IMAGES_A_RUN // IMAGES_A_CHUNK):
                    file.write(picture * IMAGES_A_CHUNK)
                    file.flush()
                    os.fdatasync(file.fileno())

        return seconds(work)

    return ratios(ours, other)


def _refuse(error: OSError) -> None:
    raise error


def verify_at_center(picture: bytes) -> list[float]:
    """`reader.verify` against SHA-256 of the same file."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        segments = Segments(
            folder, "truck-1", "0" * 32, IMAGES, "bench", count(1).__next__, 3600,
            on_durable=lambda token: None, on_sealed=lambda path: None, on_error=_refuse, topics=[camera_topic("front")],
        )  # fmt: skip
        for number in range(IMAGES_A_RUN):
            segments.write(camera_topic("front"), number, 0, picture)
        segments.close()
        path = next(folder.glob("*/*.mcap"))
        found = []
        for _ in range(RUNS):
            hashing = cpu(lambda: hashlib.sha256(path.read_bytes()).hexdigest())
            found.append(hashing / cpu(lambda: reader.verify(path)))
    return found


def fifo_frames() -> list[bytes]:
    """One minute of the simulated truck's IMU as FIFO frames."""
    world = World(seed=1)
    frames = []
    for number in range(int(IMU_SECONDS * 1125 / 11)):
        now = world.at(round((number + 2000) * 11e6 / 1125))
        axes = [round(now[f"acceleration_{axis}"] * ACCEL_LSB) for axis in "xyz"]
        axes += [round(now[f"angular_rate_{axis}"] * GYRO_LSB) for axis in "xyz"]
        field = [round(now[f"magnetic_field_{axis}"] * MAG_LSB) * sign for axis, sign in (("x", 1), ("y", -1), ("z", -1))]
        die = round((now["temperature_imu"] - 294.15) * TEMPERATURE_LSB)
        frames.append(struct.pack(">7h", *axes, die) + b"\x01" + struct.pack("<3h", *field) + b"\x00\x10")
    return frames


def imu_on_disk(frames: list[bytes]) -> tuple[float, float]:
    """(bytes of raw rows / bytes of column blocks, raw rows / rows) with zstd in chunks of half a second."""
    packer = zstandard.ZstdCompressor()
    times = (np.arange(len(frames)) * 11e9 / 1125).astype(np.uint64)
    raw = blocks = rows = 0
    for start in range(0, len(frames), BLOCK_SAMPLES):
        part = frames[start : start + BLOCK_SAMPLES]
        columns = imu_rows(part)
        raw += columns[:, :-1].nbytes
        blocks += len(packer.compress(block.encode(1, times[start : start + len(part)], columns)))
        rows += len(packer.compress(columns[:, :-1].tobytes()))
    return raw / blocks, raw / rows


def imu_on_a_core(frames: list[bytes]) -> list[float]:
    """Recorded time over CPU time for split, encode, decode and type."""
    times = (np.arange(len(frames)) * 11e9 / 1125).astype(np.uint64)
    table = icm20948.columns(TRIM)

    def work() -> None:
        for start in range(0, len(frames), BLOCK_SAMPLES):
            part = frames[start : start + BLOCK_SAMPLES]
            _, _, columns = block.decode(block.encode(1, times[start : start + len(part)], imu_rows(part)))
            block.typed(table, columns)

    return [IMU_SECONDS / cpu(work) for _ in range(RUNS)]


def main() -> None:
    """Prints the table."""
    picture = b"\xff\xd8" + os.urandom(IMAGE_BYTES - 4) + b"\xff\xd9"
    frames = fifo_frames()
    on_disk = imu_on_disk(frames)
    table = Table(box=None, pad_edge=False)
    for title in ("what", "against", "ratio", "runs"):
        table.add_column(title, justify="left" if title in ("what", "against") else "right")
    for what, against, values in (
        ("images to a segment file", "write + fdatasync", images_to_disk(picture)),
        ("verify a segment", "sha256 of it", verify_at_center(picture)),
        ("IMU in column blocks, zstd", "raw int16 rows", [on_disk[0]]),
        ("IMU in rows, zstd", "raw int16 rows", [on_disk[1]]),
        ("IMU from frames to values", "real time, one core", imu_on_a_core(frames)),
        ("IMU, serial line to journal", "real time, one core", imu_through_the_gateway(frames, TRIM)),
    ):
        spread = f"{min(values):.2f} .. {max(values):.2f}" if len(values) > 1 else "exact"
        table.add_row(what, against, f"{statistics.median(values):.2f}", spread)
    Console().print(table)
    print("ratio: speed (or size saved) over that of the peer, median; above 1 is better than the peer\n")
    costs = Table(box=None, pad_edge=False)
    for title in ("decode of one sample", "CPU, struct.unpacks", "runs", "times real time"):
        costs.add_column(title, justify="left" if title.startswith("decode") else "right")
    for sensor, values, speeds in decoding(frames[0], TRIM):
        costs.add_row(
            sensor, f"{statistics.median(values):.1f}", f"{min(values):.1f} .. {max(values):.1f}", f"{statistics.median(speeds):,.0f}"
        )
    Console().print(costs)
    print("CPU of decode(trim, raw) over that of struct.unpack of the same bytes; one core, at the sensor's own rate")


if __name__ == "__main__":
    main()
