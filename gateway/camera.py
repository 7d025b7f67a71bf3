"""A camera's JPEGs as they are, byte for byte: OpenCV's FFmpeg backend opened raw (0.1 ms CPU a frame where decoding and encoding
again costs 16 ms; facts/measured.md), or V4L2 without conversion (opencv#25681). Reconnecting; opening and reading have time-outs.

USB cameras deliver torn frames and frames padded past their end (facts/store-and-forward.md f): an image is kept only from SOI to
EOI, zero padding is cut off, what is torn is counted and not stored."""

import os
import threading

# FFmpeg talks to the libraries' own stderr about every refused connection; we tell the same as an event. Read at import of cv2.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "3")  # s, as READ_MS; 10 by default, and no property of a capture

import cv2
from foxglove_schemas_protobuf.CompressedImage_pb2 import CompressedImage

from gateway.clock import Clock, boottime_ns
from gateway.journal import Journal
from gateway.snapshot import Snapshot
from gateway.supervision import Outage
from logbook.channels import camera_topic
from logbook.segment import Segments

OPEN_MS = 3_000
READ_MS = 3_000  # a camera gives at least a frame a second; also the longest a stop waits for a hanging one
RECONNECT_SECONDS = 1.0
TORN_LIMIT = 20  # torn frames in a row: the stream has lost its frame borders, open it anew
SOI, EOI = b"\xff\xd8", b"\xff\xd9"
FORMAT = "jpeg"


class CameraError(Exception):
    """The camera cannot be opened as a raw MJPEG stream: why, in one line."""


def whole_jpeg(data: bytes) -> bytes | None:
    """The JPEG in `data` from SOI to EOI without padding behind it; None if it is torn."""
    if not data.startswith(SOI):
        return None
    end = data.rfind(EOI)
    if end < 0 or data[end + 2 :].strip(b"\0"):
        return None
    return data[: end + 2]


def open_camera(source: str) -> cv2.VideoCapture:
    """An opened raw MJPEG stream: an address (http://...) or a V4L2 device (/dev/...). Raises CameraError."""
    return _open_v4l2(source) if source.startswith("/dev/") else _open_stream(source)


def _open_stream(address: str) -> cv2.VideoCapture:
    parameters = [
        cv2.CAP_PROP_FORMAT, -1,
        cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, OPEN_MS,
        cv2.CAP_PROP_READ_TIMEOUT_MSEC, READ_MS,
    ]  # fmt: skip
    capture = cv2.VideoCapture(address, cv2.CAP_FFMPEG, parameters)
    if not capture.isOpened():
        capture.release()
        raise CameraError("cannot be opened")
    return capture


def _open_v4l2(device: str) -> cv2.VideoCapture:
    """The order counts: no conversion first, then the format (opencv#25681); what the driver made of it is read back."""
    capture = cv2.VideoCapture(device, cv2.CAP_V4L2)
    if not capture.isOpened():
        capture.release()
        raise CameraError("cannot be opened")
    mjpg = cv2.VideoWriter.fourcc(*"MJPG")
    capture.set(cv2.CAP_PROP_CONVERT_RGB, 0)
    capture.set(cv2.CAP_PROP_FOURCC, mjpg)
    if int(capture.get(cv2.CAP_PROP_FOURCC)) != mjpg or capture.get(cv2.CAP_PROP_CONVERT_RGB) != 0:
        capture.release()
        raise CameraError("does not deliver MJPEG")
    return capture


class Camera:
    """The source: `run(stop)` writes the images of one camera into `images` until `stop` is set. `torn` counts what was no JPEG."""

    def __init__(
        self, name: str, source: str, clock: Clock, images: Segments, journal: Journal, snapshot: Snapshot, since_ns: int | None = None
    ) -> None:
        self._name = name
        self._source = source
        self._clock = clock
        self._images = images
        self._snapshot = snapshot
        self._label = f"camera/{name}"
        self._outage = Outage(journal, self._label, grace_seconds=READ_MS / 1000, since_ns=since_ns)
        self.torn = 0

    def run(self, stop: threading.Event) -> None:
        """Until `stop` is set."""
        while not stop.is_set():
            try:
                capture = open_camera(self._source)
            except CameraError as error:
                self._missing(str(error))
                stop.wait(RECONNECT_SECONDS)
                continue
            try:
                self._read(capture, stop)
            finally:
                capture.release()
        self._outage.finish()

    def _read(self, capture: cv2.VideoCapture, stop: threading.Event) -> None:
        torn_in_a_row = 0
        while not stop.is_set():
            got, frame = capture.read()
            at = boottime_ns()
            if not got or frame is None:
                if not stop.is_set():
                    self._missing("no image")
                    stop.wait(RECONNECT_SECONDS)
                return
            image = whole_jpeg(frame.tobytes())
            if image is not None:
                torn_in_a_row = 0
                self._store(image, at)
                continue
            self.torn += 1
            torn_in_a_row += 1
            self._snapshot.count("images_torn")
            if torn_in_a_row >= TORN_LIMIT:
                self._missing("only torn images")
                return

    def _store(self, image: bytes, at: int) -> None:
        utc = self._clock.utc_ns(at)
        message = CompressedImage(frame_id=self._name, data=image, format=FORMAT)
        if utc:
            message.timestamp.FromNanoseconds(utc)
        stored = self._images.write(camera_topic(self._name), at, utc, message.SerializeToString())
        if self._outage.down:
            self._snapshot.sensor(self._label, "ok", "")
        self._outage.seen(at)
        if stored:  # else the disk stalls and memory is full: the writer counts it and writes a Gap
            self._snapshot.image(self._name, at, len(image))

    def _missing(self, reason: str) -> None:
        self._outage.lost(reason)
        self._snapshot.sensor(self._label, "failed", reason)
