import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from gateway_recording import Bench, Recording, wait_for

import gateway.camera
from gateway.camera import Camera, CameraError, open_camera, whole_jpeg

pytestmark = pytest.mark.timeout(60)


def jpeg(number: int) -> bytes:
    """A small JPEG with its number in a comment segment behind SOI."""
    picture = np.full((48, 64, 3), number * 7 % 256, dtype=np.uint8)
    done, data = cv2.imencode(".jpg", picture)
    assert done
    whole = data.tobytes()
    return whole[:2] + b"\xff\xfe\x00\x06" + number.to_bytes(4, "big") + whole[2:]


class Stream:
    """An MJPEG server on loopback that sends what `picture(number)` gives, 20 a second; `sent` keeps it. `stalled`: says nothing."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.picture = jpeg
        self.stalled = threading.Event()
        self.stop = threading.Event()
        self.port = 0
        self.listen()

    def listen(self) -> None:
        self.stop.clear()
        self.listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self.listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/stream"
        self.thread = threading.Thread(target=self.accept, daemon=True)
        self.thread.start()

    def accept(self) -> None:
        self.listener.settimeout(0.05)
        while not self.stop.is_set():
            try:
                connection, _ = self.listener.accept()
            except TimeoutError:
                continue
            with connection:
                try:
                    self.serve(connection)
                except OSError:
                    continue  # the reader went; the next one comes

    def serve(self, connection: socket.socket) -> None:
        connection.recv(4096)
        if not self.stalled.is_set():
            connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=part\r\n\r\n")
        while not self.stop.wait(0.05):
            if self.stalled.is_set():
                continue
            data = self.picture(len(self.sent) + 1)
            self.sent.append(data)
            head = f"--part\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
            connection.sendall(head.encode() + data + b"\r\n")

    def close(self) -> None:
        self.stop.set()
        self.thread.join()
        self.listener.close()


class Watching:
    """A Camera on a bench, reading a stream."""

    def __init__(self, folder: Path, url: str, since_ns: int | None = None) -> None:
        self.bench = Bench(folder, cameras=("front",))
        bench = self.bench
        self.camera = Camera("front", url, bench.clock, bench.images, bench.journal, bench.snapshot, since_ns)
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.camera.run, args=(self.stop,), daemon=True)
        self.thread.start()

    def images(self) -> int:
        return self.bench.snapshot.counts().get("images", 0)

    def state(self) -> str:
        return self.bench.snapshot.build()["sensors"].get("camera/front", {}).get("state", "")

    def end(self) -> Recording:
        self.stop.set()
        self.thread.join()
        return self.bench.close()


@pytest.fixture
def stream() -> Iterator[Stream]:
    made = Stream()
    yield made
    made.close()


def test_images_are_stored_byte_for_byte(tmp_path: Path, stream: Stream) -> None:
    watching = Watching(tmp_path, stream.url)
    wait_for(lambda: watching.images() >= 5, "images")
    snapshot = watching.bench.snapshot.build()
    images = watching.end().decoded("/camera/front")
    assert len(images) >= 5
    assert all(image.data in stream.sent for image in images)
    order = [stream.sent.index(image.data) for image in images]
    assert order == sorted(set(order))  # none twice
    assert {image.format for image in images} == {"jpeg"} and {image.frame_id for image in images} == {"front"}
    assert snapshot["image"]["camera"] == "front" and snapshot["sensors"]["camera/front"] == {"state": "ok", "reason": ""}


def test_a_camera_that_goes_and_returns_is_a_gap_not_the_end(tmp_path: Path, stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway.camera, "READ_MS", 500)
    monkeypatch.setattr(gateway.camera, "RECONNECT_SECONDS", 0.2)
    watching = Watching(tmp_path, stream.url)
    wait_for(lambda: watching.images() >= 2, "images")
    stream.close()
    wait_for(lambda: watching.state() == "failed", "the loss being noticed")
    time.sleep(0.6)  # longer than the grace
    before = watching.images()
    stream.listen()
    wait_for(lambda: watching.images() >= before + 2, "images after the return")
    recording = watching.end()
    (gap,) = recording.gaps("camera/front")
    assert gap.reason in ("no image", "cannot be opened") and gap.to_boottime_ns - gap.from_boottime_ns > 500_000_000
    assert len(recording.events("source_delivers")) == 2


def test_torn_images_are_counted_and_not_stored(tmp_path: Path, stream: Stream) -> None:
    stream.picture = lambda number: jpeg(number) if number % 3 else jpeg(number)[:-40]
    watching = Watching(tmp_path, stream.url)
    wait_for(lambda: watching.images() >= 6 and watching.camera.torn >= 2, "whole and torn images")
    torn = watching.camera.torn
    recording = watching.end()
    assert all(whole_jpeg(image.data) == image.data for image in recording.decoded("/camera/front"))
    assert watching.bench.snapshot.counts()["images_torn"] >= torn


@pytest.mark.parametrize("silent_from_the_start", [True, False])
def test_a_camera_that_hangs_never_hangs_the_stop(
    tmp_path: Path, stream: Stream, monkeypatch: pytest.MonkeyPatch, silent_from_the_start: bool
) -> None:
    monkeypatch.setattr(gateway.camera, "READ_MS", 500)
    monkeypatch.setattr(gateway.camera, "OPEN_MS", 500)
    if silent_from_the_start:
        stream.stalled.set()
    watching = Watching(tmp_path, stream.url)
    if not silent_from_the_start:
        wait_for(lambda: watching.images() >= 2, "images")
        stream.stalled.set()
    wait_for(lambda: watching.state() == "failed", "the silence being noticed")
    watching.stop.set()
    watching.thread.join(10)
    assert not watching.thread.is_alive()
    assert watching.end().events("source_lost")


def test_what_is_no_camera_is_told_and_tried_again(tmp_path: Path) -> None:
    watching = Watching(tmp_path, "http://127.0.0.1:9/stream")  # discard: nobody listens
    wait_for(lambda: watching.state() == "failed", "the absent camera being noticed")
    recording = watching.end()
    assert [event.detail for event in recording.events("source_lost")] == ["cannot be opened"]
    assert recording.decoded("/camera/front") == []


def test_a_device_that_does_not_exist_cannot_be_opened() -> None:
    with pytest.raises(CameraError, match="cannot be opened"):
        open_camera("/dev/video99")


def test_images_missing_since_the_recorder_before_are_a_gap(tmp_path: Path, stream: Stream) -> None:
    since = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - 30 * 10**9
    watching = Watching(tmp_path, stream.url, since_ns=since)
    wait_for(lambda: watching.images() >= 1, "images")
    (gap,) = watching.end().gaps("camera/front")
    assert (gap.reason, gap.from_boottime_ns) == ("recorder was not running", since)


def test_an_image_that_memory_cannot_take_is_not_counted_as_one(tmp_path: Path, stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    refused: list[str] = []
    watching = Watching(tmp_path, stream.url)
    wait_for(lambda: watching.images() >= 1, "images")
    monkeypatch.setattr(watching.bench.images, "write", lambda topic, *_: bool(refused.append(topic)))
    wait_for(lambda: len(refused) >= 2, "a refused image")
    counted = watching.images()
    wait_for(lambda: len(refused) >= 5, "more refused images")
    assert watching.images() == counted and watching.state() == "ok"
    watching.end()


def test_a_v4l2_camera_that_hangs_does_so_no_longer_than_a_stream() -> None:
    assert int(os.environ["OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT"]) * 1_000 == gateway.camera.READ_MS


def test_a_jpeg_is_whole_from_soi_to_eoi_and_loses_only_padding() -> None:
    whole = jpeg(1)
    assert whole_jpeg(whole) == whole
    assert whole_jpeg(whole + bytes(512)) == whole
    for torn in (b"", whole[2:], whole[:-2], whole[:100], whole + b"\xff\xd8\x00rest", whole + bytes(8) + b"x"):
        assert whole_jpeg(torn) is None
