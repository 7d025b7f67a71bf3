"""CPU of one 1080p image in pass-through: an MJPEG stream of 196 kB images on loopback, read by `gateway.camera.Camera` into segments
on disk, against OpenCV's bare `read()` of the same stream, and against a socket's `recv` of the same bytes: the kernel's copy, and that
the thread is woken, without which there is no image. The camera that sends is another process, and not counted."""

import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from bench.measure import Row
from bench.mjpeg import part_of
from gateway.camera import OPEN_MS, READ_MS, Camera
from gateway.capture import open_address
from gateway.clock import Clock
from gateway.config import Images
from gateway.image_policy import ImagePolicy
from gateway.journal import Journal
from gateway.live import LiveSender
from gateway.memory import keep_freed
from gateway.snapshot import Snapshot
from gateway.travel import Travel
from logbook.channels import IMAGES, READINGS, camera_topic
from logbook.segment import Segments

RUNS = 5
IMAGE_BYTES, FPS = 196_000, 30.0  # facts/measured.md: a 1080p image
FRAMES = 90  # of a run
NAME = "front"


class Cost(NamedTuple):
    """CPU of a frame in ms: of the camera's thread, and of the whole process with the writer's thread."""

    camera: float
    process: float


@contextmanager
def stream() -> Iterator[str]:
    """The address of a running stream."""
    command = [sys.executable, "-m", "bench.mjpeg", "--bytes", str(IMAGE_BYTES), "--fps", str(FPS)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()


def bare(address: str) -> float:
    """CPU of a frame in ms where OpenCV reads it and nothing is done with it."""
    capture = open_address(address, OPEN_MS, READ_MS)
    try:
        for _ in range(10):
            capture.read()
        began = time.process_time()
        for _ in range(FRAMES):
            capture.read()
        return (time.process_time() - began) / FRAMES * 1e3
    finally:
        capture.release()


def received(address: str) -> float:
    """CPU of a frame in ms where a socket receives its bytes, all of them in one call, and nothing is done with them."""
    place = urlsplit(address)
    with socket.create_connection((place.hostname or "", place.port or 80)) as connection:
        connection.sendall(f"GET {place.path} HTTP/1.0\r\n\r\n".encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += connection.recv(1)
        frame = bytearray(len(part_of(bytes(IMAGE_BYTES))))
        for _ in range(10):
            connection.recv_into(frame, len(frame), socket.MSG_WAITALL)
        began = time.process_time()
        for _ in range(FRAMES):
            assert connection.recv_into(frame, len(frame), socket.MSG_WAITALL) == len(frame)
        return (time.process_time() - began) / FRAMES * 1e3


def recorded(address: str, folder: Path) -> Cost:
    """The same of the product: camera, policy `all`, journal, snapshot, segments of both streams."""
    number = count(1).__next__
    told = {"on_durable": lambda token: None, "on_sealed": lambda path: None, "on_error": _refuse}
    readings = Segments(folder, "truck-1", "0" * 36, READINGS, "bench", number, 60, **told)  # type: ignore[arg-type]
    images = Segments(folder, "truck-1", "0" * 36, IMAGES, "bench", number, 60, 16_000_000, topics=[camera_topic(NAME)], **told)  # type: ignore[arg-type]
    clock, sender = Clock(), LiveSender(folder / "live.sock")
    snapshot = Snapshot("truck-1", "bench", clock, sender)
    journal = Journal(readings, clock)
    policy = ImagePolicy(Images(), images, Travel(), journal, snapshot)
    camera, stop = Camera(NAME, address, clock, policy, journal, snapshot), threading.Event()
    thread = threading.Thread(target=camera.run, args=(stop,))
    thread.start()
    try:
        _wait(snapshot, 10)
        own = time.pthread_getcpuclockid(thread.ident or 0)
        begun = snapshot.counts()["images"]
        camera_s, process_s = time.clock_gettime(own), time.process_time()
        _wait(snapshot, begun + FRAMES)
        frames = snapshot.counts()["images"] - begun
        camera_s, process_s = time.clock_gettime(own) - camera_s, time.process_time() - process_s
    finally:
        stop.set()
        thread.join()
        sender.close()
        assert images.close() and readings.close()
    return Cost(camera_s / frames * 1e3, process_s / frames * 1e3)


def _wait(snapshot: Snapshot, images: int) -> None:
    while snapshot.counts().get("images", 0) < images:
        time.sleep(0.1)


def _refuse(error: OSError) -> None:
    raise error


def rows() -> Iterator[Row]:
    """Ratios, and the absolute figure for which there is a bar."""
    keep_freed()  # as the recorder does
    receives, reads, costs = [], [], []
    wire_reads, wire_costs = [], []
    with stream() as address, tempfile.TemporaryDirectory(prefix="bench-") as name:
        for run in range(RUNS):
            receives.append(received(address))
            reads.append(bare(address))
            costs.append(recorded(address, Path(name) / str(run)))
            wire = address.replace("stream", "wire")
            wire_reads.append(bare(wire))
            wire_costs.append(recorded(wire, Path(name) / f"wire-{run}"))
    yield Row("camera's thread: from the stream to the writer's queue, ms a frame", "-", [cost.camera for cost in costs], "<= 0.2")
    yield Row("the socket's recv alone, ms a frame", "-", receives)
    yield Row("camera's thread", "a socket's recv", [cost.camera / receive for cost, receive in zip(costs, receives, strict=True)])
    yield Row("camera's thread", "OpenCV's bare read()", [cost.camera / read for cost, read in zip(costs, reads, strict=True)])
    what = "camera's thread, packet by packet as over 100 Mbit/s"
    yield Row(f"{what}, ms a frame", "-", [cost.camera for cost in wire_costs])
    yield Row(what, "OpenCV's bare read()", [cost.camera / read for cost, read in zip(wire_costs, wire_reads, strict=True)])
    yield Row("whole process, to the disk, ms a frame", "-", [cost.process for cost in costs])
    yield Row("whole process, to the disk", "OpenCV's bare read()", [cost.process / read for cost, read in zip(costs, reads, strict=True)])


if __name__ == "__main__":
    for row in rows():
        print(f"{row.what:70} {row.against:22} {row.median:.3f}  {[round(value, 3) for value in row.values]} {row.bar} {row.verdict}")
