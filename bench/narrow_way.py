"""The narrow way against its peers: speed or size saved over the peer's, above 1 is better than the peer.

- images to disk: a segment file against write + fdatasync of the same bytes in the same portions
- a segment at the center: `verify` (marks, CRCs, every message) against SHA-256 over the same file
- the IMU on disk: bytes of raw rows over bytes of column blocks in zstd, and of rows in zstd
- the IMU on a core: recorded time over the CPU time to split, encode, decode and type it (times real time); and its whole way through the
  gateway, from the bytes of the serial line to the journal"""

import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import numpy as np
import zstandard

from bench.decoding import IMU_SECONDS, TRIM, fifo_frames, imu_through_the_gateway
from bench.measure import Row, own
from drivers import icm20948
from gateway.convert import imu_rows
from logbook import block, reader
from logbook.channels import IMAGES, camera_topic
from logbook.segment import Segments

RUNS = 5
IMAGE_BYTES, IMAGES_A_RUN, IMAGES_A_CHUNK = 100_000, 240, 24
BLOCK_SAMPLES = 51


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

        return own(work).wall

    def other(folder: Path) -> float:
        def work() -> None:
            folder.mkdir()
            with open(folder / "bare", "wb") as file:
                for _ in range(IMAGES_A_RUN // IMAGES_A_CHUNK):
                    file.write(picture * IMAGES_A_CHUNK)
                    file.flush()
                    os.fdatasync(file.fileno())

        return own(work).wall

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
            hashing = own(lambda: hashlib.sha256(path.read_bytes()).hexdigest()).cpu
            found.append(hashing / own(lambda: reader.verify(path)).cpu)
    return found


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

    return [IMU_SECONDS / own(work).cpu for _ in range(RUNS)]


def rows() -> Iterator[Row]:
    """All of it, each as it is found."""
    picture = b"\xff\xd8" + os.urandom(IMAGE_BYTES - 4) + b"\xff\xd9"
    frames = fifo_frames()
    yield Row("images to a segment file", "write + fdatasync", images_to_disk(picture))
    yield Row("verify a segment", "sha256 of it", verify_at_center(picture))
    blocks, plain = imu_on_disk(frames)
    yield Row("IMU in column blocks, zstd", "raw int16 rows", [blocks])
    yield Row("IMU in rows, zstd", "raw int16 rows", [plain])
    yield Row("IMU from frames to values", "real time, one core", imu_on_a_core(frames), ">= 50")
    yield Row("IMU, serial line to journal", "real time, one core", imu_through_the_gateway(frames, TRIM), ">= 50")
