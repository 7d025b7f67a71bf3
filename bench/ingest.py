"""What the center's ingest costs: SHA-256, verification, durable storing and tabling of segments that were fetched, and the same with the
fetching over HTTPS, as speed over that of `sha256sum` and of OpenSSL's SHA-256 (which takes the CPU's own instructions) on the same bytes.

A truck's minute is what a truck of 252 GB a day makes: eleven segments of images of 16 MB and one of readings. Readings alone are a
thousandth of the bytes; what they cost is not their bytes but their 10,000 rows a minute, so they have a figure of their own: time recorded
over time taken."""

import asyncio
import functools
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from foxglove_schemas_protobuf.CompressedImage_pb2 import CompressedImage

from bench.decoding import TRIM, fifo_frames
from bench.measure import Row, child, own
from bench.mjpeg import jpeg_of
from center.archive import Archive, file_sha256
from center.ingest_take import Taker
from center.tables import Tables
from drivers import icm20948
from gateway.convert import imu_rows
from hub import certificates
from logbook import block, channels, reader
from logbook.schemas import cruisers_pb2 as pb
from logbook.segment import Segments
from sox.segments import STORED, Announcement
from sox.transfer import fetch

RUNS = 3
IMAGE_BYTES, FPS = 97_000, 30
IMAGE_SEGMENTS, READINGS_SEGMENTS = 11, 30
SLOW = {"bmp390": ("pressure", "temperature"), "sht45": ("humidity", "temperature"), "opt3001": ("illuminance",), "as7331": ("uva",),
        "sps30": ("pm2_5",)}  # fmt: skip
UTC_NS = 1_793_000_000_000_000_000
SECOND = 1_000_000_000

Objects = list[tuple[Path, Announcement]]


def images(folder: Path) -> Objects:
    """A truck's minute of images."""
    pictures = [jpeg_of(IMAGE_BYTES) for _ in range(FPS)]
    segments, sealed = _segments(folder, channels.IMAGES, itertools.count(1).__next__)
    for number in range(FPS * 62):
        image = CompressedImage(frame_id="front", data=pictures[number % FPS], format="jpeg")
        at = number * SECOND // FPS
        segments.write(channels.camera_topic("front"), at, UTC_NS + at, image.SerializeToString())
        if number % (FPS // 2) == 0:
            segments.flush()
    assert segments.close()
    return _announced(sealed[:IMAGE_SEGMENTS])


def readings(folder: Path) -> Objects:
    """READINGS_SEGMENTS minutes of readings as the recorder writes them, a commit each half second."""
    rows = imu_rows(fifo_frames())
    half = len(rows) // 120
    noise, numbers, sealed = np.random.default_rng(1), itertools.count(1).__next__, []
    for minute in range(READINGS_SEGMENTS):
        segments, done = _segments(folder, channels.READINGS, numbers)
        segments.describe(channels.IMU_BLOCK, {"columns": block.describe(icm20948.columns(TRIM))})
        for number in range(minute * 120, minute * 120 + 120):
            at = number * SECOND // 2
            times = at + (np.arange(half) * 11e9 / 1125).astype(np.int64)
            segments.write(channels.IMU_BLOCK, at, UTC_NS + at, block.encode(7, times, rows[number % 120 * half :][:half]))
            for tenth in range(5):
                values = [pb.Value(quantity=f"acceleration_{axis}", number=float(noise.normal())) for axis in "xyz"]
                segments.write(channels.IMU, at + tenth, UTC_NS + at, pb.Imu(boottime_ns=at, values=values).SerializeToString())
            if number % 2 == 0:
                _slow(segments, at, noise)
            segments.flush()
        assert segments.close()
        sealed += done
    return _announced(sealed)


def _slow(segments: Segments, at: int, noise: np.random.Generator) -> None:
    for sensor, quantities in SLOW.items():
        values = [pb.Value(quantity=quantity, number=float(noise.normal())) for quantity in quantities]
        reading = pb.Reading(sensor=sensor, head_boot=7, boottime_ns=at, raw=os.urandom(8), values=values)
        segments.write(channels.reading_topic(sensor), at, UTC_NS + at, reading.SerializeToString())
    position = pb.Position(
        boottime_ns=at, valid=True, mode=3, utc_ns=UTC_NS + at, raw=os.urandom(92), latitude=35 + at * 1e-16, longitude=139 + at * 1e-16,
        altitude=12.0, speed=5.0, bearing=1.0,
    )  # fmt: skip
    segments.write(channels.POSITION, at, UTC_NS + at, position.SerializeToString())
    if at % (10 * SECOND) == 0:
        mapping = pb.ClockMapping(boottime_ns=at, utc_ns=UTC_NS + at, source="gnss", error_s=1e-6)
        segments.write(channels.CLOCK, at, UTC_NS + at, mapping.SerializeToString())


def _segments(folder: Path, stream: str, numbers: Callable[[], int]) -> tuple[Segments, list[Path]]:
    sealed: list[Path] = []
    topics = [channels.camera_topic("front")] if stream == channels.IMAGES else []
    made = Segments(
        folder, "truck-1", "0123abcd-0000-4000-8000-000000000000", stream, "0123abcd-00000001", numbers, 3600, 16_000_000,
        on_durable=lambda token: None, on_sealed=sealed.append, on_error=_refuse, topics=topics,
    )  # fmt: skip
    return made, sealed


def _refuse(error: OSError) -> None:
    raise error


def _announced(paths: Sequence[Path]) -> Objects:
    found = []
    for path in paths:
        info = reader.info(path)
        found.append((path, Announcement(
            info.segment_id, f"https://127.0.0.1/{path.name}", info.bytes, file_sha256(path), info.stream, info.first_time, info.last_time,
            info.first_utc, info.last_utc, info.truck,
        )))  # fmt: skip
    return found


def ingested(folder: Path, objects: Objects, tabled: bool, get: Callable[[str, Path, int], object]) -> None:
    """All of them through one worker's steps into a new archive."""

    async def work() -> None:
        async def fetched(url: str, part: Path, size: int) -> object:
            return await found if asyncio.iscoroutine(found := get(url, part, size)) else found

        taker = Taker(archive, fetched, 0)
        receipts = await asyncio.gather(*(taker.take(announcement) for _, announcement in objects))
        assert {receipt.state for receipt in receipts} == {STORED}

    archive = Archive(folder)
    try:
        tables = Tables(archive, held_s=0.0) if tabled else None
        asyncio.run(work())
        while tables is not None and tables.table(1000):
            pass
    finally:
        archive.close()


def ratios(folder: Path, objects: Objects, tabled: bool = True) -> tuple[list[float], list[float], list[float]]:
    """Speed over sha256sum's and over OpenSSL's of the same files in the same run; and seconds taken. Objects lie in the page cache, as
    after a fetch; the SHA-256 is taken by us too."""
    by_path = {announcement.url: path for path, announcement in objects}

    def link(url: str, part: Path, size: int) -> None:
        os.link(by_path[url], part)

    program, openssl, seconds = [], [], []
    for run in range(-1, RUNS):
        theirs = child(lambda: _sha256sum(objects)).wall
        bare = own(lambda: [file_sha256(path) for path, _ in objects]).wall
        archive = folder / f"archive{run}"
        ours = own(lambda archive=archive: ingested(archive, objects, tabled, link)).wall  # type: ignore[misc]
        shutil.rmtree(archive)
        if run >= 0:  # the run before warms up
            program.append(theirs / ours)
            openssl.append(bare / ours)
            seconds.append(ours)
    return program, openssl, seconds


def fetching(folder: Path, objects: Objects) -> list[float]:
    """Speed over sha256sum's with the fetching over HTTPS on loopback: another process gives them, so two cores are busy."""
    tls = certificates.ensure(folder / "tls", "localhost", "127.0.0.1")
    argv = [sys.executable, "-m", "bench.objects", str(objects[0][0].parent), str(tls.server), str(tls.server_key)]
    found = []
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None and server.stdout is not None
        base = f"https://127.0.0.1:{int(server.stdout.readline())}"
        get = functools.partial(_get, base, str(tls.ca))
        for run in range(RUNS):
            theirs = child(
                lambda: subprocess.run(["sha256sum", *(path for path, _ in objects)], stdout=subprocess.DEVNULL, check=True)
            ).wall
            archive = folder / f"fetched{run}"
            found.append(theirs / own(lambda archive=archive: ingested(archive, objects, True, get)).wall)  # type: ignore[misc]
            shutil.rmtree(archive)
        server.stdin.close()
    return found


def _sha256sum(objects: Objects) -> None:
    subprocess.run(["sha256sum", *(path for path, _ in objects)], stdout=subprocess.DEVNULL, check=True)


async def _get(base: str, ca_file: str, url: str, part: Path, size: int) -> str:
    return await fetch(f"{base}/{url.rpartition('/')[2]}", ca_file, part, size)


def rows() -> Iterator[Row]:
    """All of it, on the disk that holds the temporary folder."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        pictures, minutes = images(folder / "images"), readings(folder / "readings")
        program, openssl, _ = ratios(folder, pictures)
        yield Row("images of 16 MB: verify, store, table", "sha256sum", program, ">= 0.5")
        yield Row("the same", "OpenSSL's SHA-256", openssl)
        program, openssl, _ = ratios(folder, [*pictures, minutes[0]])
        yield Row("a truck's minute: verify, store, table", "sha256sum", program, ">= 0.5")
        yield Row("the same", "OpenSSL's SHA-256", openssl)
        yield Row("images: fetch over HTTPS, verify, store, table", "sha256sum", fetching(folder, pictures), ">= 0.5")
        program, _, _ = ratios(folder, minutes, tabled=False)
        yield Row("readings alone: verify, store", "sha256sum", program, ">= 0.5")
        program, _, seconds = ratios(folder, minutes)
        yield Row("readings alone: verify, store, table", "sha256sum", program, ">= 0.5")
        yield Row("readings: trucks whose readings one worker keeps up with", "real time", [60 * len(minutes) / one for one in seconds])
