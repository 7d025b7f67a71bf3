"""For tests of cameras: JPEGs, a server of MJPEG streams, and cameras on a bench."""

import socket
import threading
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from gateway_recording import Bench, Recording

from gateway import config
from gateway.camera import Camera
from gateway.image_policy import ImagePolicy
from gateway.travel import Travel


def jpeg(number: int) -> bytes:
    """A small JPEG with its number in a comment segment behind SOI."""
    picture = np.full((48, 64, 3), number * 7 % 256, dtype=np.uint8)
    done, data = cv2.imencode(".jpg", picture)
    assert done
    whole = data.tobytes()
    return whole[:2] + b"\xff\xfe\x00\x06" + number.to_bytes(4, "big") + whole[2:]


def decoded(image: bytes) -> np.ndarray:
    """Its picture: rows, columns, BGR."""
    picture = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    return picture


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


class Answers:
    """An HTTP server on loopback that says what it is told, byte for byte: `answers` one after the other, the last of them again and again.
    `requests` are what it was asked. After an answer it closes the connection, or with `holds` keeps it open and says no more."""

    def __init__(self, *answers: Sequence[bytes], holds: bool = False) -> None:
        self.answers = list(answers)
        self.holds = holds
        self.requests: list[bytes] = []
        self.stop = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.place = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.url = f"http://{self.place}/stream"
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
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.requests.append(connection.recv(4096))
                for piece in self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]:
                    try:
                        connection.sendall(piece)
                    except OSError:
                        break  # the reader has heard enough
                if self.holds:
                    self.stop.wait()

    def close(self) -> None:
        self.stop.set()
        self.thread.join()
        self.listener.close()


class Watching:
    """Cameras on a bench, each reading its stream, under one image policy."""

    def __init__(
        self,
        folder: Path,
        *urls: str,
        since_ns: int | None = None,
        images: config.Images | None = None,
        wanted: dict[str, float] | None = None,
    ) -> None:
        names = ("front", "rear", "left", "right")[: len(urls)]
        self.bench = Bench(folder, cameras=names)
        bench = self.bench
        self.policy = ImagePolicy(images or config.Images(), bench.images, Travel(), bench.journal, bench.snapshot)
        self.cameras = {
            name: Camera(name, url, bench.clock, self.policy, bench.journal, bench.snapshot, since_ns, wanted)
            for name, url in zip(names, urls, strict=True)
        }
        self.camera = self.cameras["front"]
        self.stop = threading.Event()
        self.threads = [threading.Thread(target=camera.run, args=(self.stop,), daemon=True) for camera in self.cameras.values()]
        for thread in self.threads:
            thread.start()

    def count(self, name: str) -> int:
        return self.bench.snapshot.counts().get(name, 0)

    def images(self) -> int:
        return self.count("images")

    def state(self, camera: str = "front") -> str:
        return self.bench.snapshot.build()["sensors"].get(f"camera/{camera}", {}).get("state", "")

    def end(self) -> Recording:
        self.stop.set()
        for thread in self.threads:
            thread.join(20)
            assert not thread.is_alive()
        self.policy.finish()
        return self.bench.close()
