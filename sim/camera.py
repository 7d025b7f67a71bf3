"""The camera of the simulated truck: an MJPEG stream over HTTP on loopback, a process of its own.

    python -m sim.camera --start-boottime-ns N --start-utc-ns N [--seed N] [--drive PATH] [--fps 2] [--port 0]

It prints its stream's address when it listens, and ends when its standard input ends (so that it cannot outlive the truck that started
it) or at SIGTERM. `/stream.mjpg` is multipart/x-mixed-replace; a reader that is slow misses frames, it does not delay them. Every JPEG
says in a comment segment (JPEG marker FFFE) which frame it is and which moment it shows: `cruisers frame=12 t_us=6000000`.
"""

import argparse
import re
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import FrameType
from typing import NamedTuple

import cv2

from sim.clock import boottime_ns
from sim.drive import DriveError, Source, overlay
from sim.picture import Picture
from sim.processes import as_program
from sim.world import World

FRAMES_PER_SECOND = 2.0
QUALITY = 80  # JPEG: about 110 kB a frame
BOUNDARY = "cruisersframe"
SEND_TIMEOUT = 10.0  # s that a reader may leave its connection full

_COMMENT = re.compile(rb"cruisers frame=(\d+) t_us=(\d+)")


class Frame(NamedTuple):
    """One picture: its number from 1, the moment it shows (µs of simulated time) and its bytes."""

    number: int
    t_us: int
    jpeg: bytes


def encode(picture: Picture, values: Mapping[str, float], number: int, t_us: int) -> Frame:
    """The frame of the world's `values` at `t_us`."""
    image = picture.render(values["along"], values["bearing"], values["sun_elevation"])
    done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    if not done:
        raise RuntimeError("OpenCV cannot encode JPEG")
    jpeg = data.tobytes()
    text = b"cruisers frame=%d t_us=%d" % (number, t_us)
    comment = b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text
    return Frame(number, t_us, jpeg[:2] + comment + jpeg[2:])  # right after the start of image


def read_comment(jpeg: bytes) -> tuple[int, int]:
    """(frame number, t_us) that a frame of this camera carries; ValueError if it is none."""
    found = _COMMENT.search(jpeg, 0, 256)
    if found is None:
        raise ValueError("no frame of the simulated camera")
    return int(found[1]), int(found[2])


class Camera:
    """Renders frames on the beat of the simulated time and serves the newest to any number of readers. `now_us` is the time since the
    start; `keep` (tests) is called with every frame."""

    def __init__(
        self,
        source: Source,
        now_us: Callable[[], int],
        fps: float = FRAMES_PER_SECOND,
        port: int = 0,
        keep: Callable[[Frame], None] | None = None,
    ) -> None:
        self._source = source
        self._now_us = now_us
        self._period_us = round(1e6 / fps)
        self._keep = keep
        self._picture = Picture(source.seed)
        self._newest: Frame | None = None
        self._changed = threading.Condition()
        self._ending = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self._server.daemon_threads = True
        self._threads = [
            threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.2}, name="http", daemon=True),
            threading.Thread(target=self._render, name="render", daemon=True),
        ]

    @property
    def url(self) -> str:
        """Where the stream is."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/stream.mjpg"

    def start(self) -> None:
        """Begins to render and to serve."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ends all streams and closes the port."""
        self._ending.set()
        with self._changed:
            self._changed.notify_all()
        self._server.shutdown()
        for thread in self._threads:
            thread.join()
        self._server.server_close()

    def after(self, number: int) -> Frame | None:
        """The newest frame, once there is a newer one than `number`; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._ending.is_set() or (self._newest is not None and self._newest.number > number))
            return None if self._ending.is_set() else self._newest

    def _render(self) -> None:
        number = 0
        t_us = -(-self._now_us() // self._period_us) * self._period_us
        while not self._ending.wait(max(0.0, (t_us - self._now_us()) / 1e6)):
            number += 1
            frame = encode(self._picture, self._source.at(t_us), number, t_us)
            if self._keep is not None:
                self._keep(frame)
            with self._changed:
                self._newest = frame
                self._changed.notify_all()
            t_us = max(t_us + self._period_us, self._now_us() // self._period_us * self._period_us)  # late: skip, never hurry

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        camera = self

        class Handler(BaseHTTPRequestHandler):
            timeout = SEND_TIMEOUT

            def do_GET(self) -> None:
                if self.path != "/stream.mjpg":
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={BOUNDARY}")
                self.send_header("Cache-Control", "no-store")
                self.end_headers()
                self.close_connection = True
                number = 0
                try:
                    while (frame := camera.after(number)) is not None:
                        number = frame.number
                        head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(frame.jpeg)}\r\n\r\n"
                        self.wfile.write(head.encode() + frame.jpeg + b"\r\n")
                except (ConnectionError, TimeoutError):
                    return  # the reader has gone, or reads no more: that is its right

            def log_message(self, format: str, *args: object) -> None:
                """Requests are not worth a line."""

        return Handler


def main(arguments: list[str] | None = None) -> int:
    """The camera process; returns its exit code."""
    parser = argparse.ArgumentParser(prog="sim.camera", description="the simulated truck's camera")
    parser.add_argument("--start-boottime-ns", type=int, required=True)
    parser.add_argument("--start-utc-ns", type=int, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--solar-hour", type=float)
    parser.add_argument("--drive")
    parser.add_argument("--fps", type=float, default=FRAMES_PER_SECOND)
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args(arguments)
    as_program()
    cv2.setNumThreads(1)  # 5 ms of work twice a second: threads would only wake each other
    source: Source = World(options.seed, options.start_utc_ns, options.solar_hour)
    try:
        if options.drive:
            source = overlay(options.drive, source)
        camera = Camera(source, lambda: (boottime_ns() - options.start_boottime_ns) // 1000, options.fps, options.port)
    except (DriveError, OSError) as error:
        print(f"sim.camera: {error}", file=sys.stderr)
        return 2

    def ended(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, ended)
    try:
        camera.start()
        print(camera.url, flush=True)
        sys.stdin.read()
    except KeyboardInterrupt:
        pass  # SIGTERM and Ctrl-C end it in order
    camera.stop()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
