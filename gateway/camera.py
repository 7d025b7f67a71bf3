"""A camera's JPEGs as they are, byte for byte, however they come (decoding and encoding again costs 16 ms CPU a frame; facts/measured.md):
- http://: MJPEG over HTTP, read by ourselves (gateway/mjpeg.py, which says what it reads);
- /dev/...: V4L2 without conversion (gateway/capture.py);
- any other address (https://, rtsp://), and an http:// camera that answers in another form (chunked, a redirect, Digest): OpenCV's FFmpeg.
Reconnecting; opening and reading have time-outs.

USB cameras deliver torn frames and frames padded past their end (facts/store-and-forward.md f): an image is kept only from SOI to
EOI (gateway/jpeg.py); what is torn is counted, written down as a Gap with its count, and not stored. The first torn frame is told at
once, more of them once a second: so a kill costs no more of that account than of everything else.

A frame is copied twice on its way to the writer: into the buffer or array that the camera's reader hands out, and from there into the
message."""

import threading
from collections.abc import Mapping
from typing import Protocol

from foxglove_schemas_protobuf.CompressedImage_pb2 import CompressedImage

from gateway import capture
from gateway.capture import CameraError, Frames, Opened
from gateway.clock import Clock, boottime_ns
from gateway.journal import Journal, event, gap
from gateway.jpeg import HUFFMAN_TABLES, scan_without_tables, whole
from gateway.mjpeg import OtherForm
from gateway.mjpeg_open import open_stream
from gateway.snapshot import Snapshot
from gateway.supervision import Outage
from logbook.channels import camera_topic

__all__ = ["Camera", "CameraError", "compressed_image", "open_camera"]

OPEN_MS = 3_000
READ_MS = 3_000  # a camera gives at least a frame a second; also the longest a stop waits for a hanging one
RECONNECT_SECONDS = 1.0
TORN_LIMIT = 20  # torn frames in a row: the stream has lost its frame borders, open it anew
TORN_NS = 1_000_000_000  # from Gap to Gap about torn frames
UTC_NS = 1_000_000_000  # for so long a mapping to UTC is used: to ask for one costs as much as all else that we do with a frame
FORMAT = "jpeg"

_DATA_TAG = b"\x12"  # CompressedImage.data: field 2, bytes


class Images(Protocol):
    """Where whole images go: the image policy, and behind it the writer."""

    def write(self, topic: str, log_time: int, publish_time: int, data: bytes, /) -> object:
        """Takes one CompressedImage; never waits."""


def open_camera(source: str, wanted: Mapping[str, float] | None = None) -> Opened:
    """An opened raw MJPEG stream: an address (http://...), or a V4L2 device (/dev/...) that is set as `wanted` (config.Camera.settings).
    Raises CameraError."""
    if source.startswith("/dev/"):
        return capture.open_v4l2(source, wanted or {})
    if source.startswith("http://"):
        try:
            return Opened(open_stream(source, OPEN_MS / 1e3, READ_MS / 1e3), "")
        except OtherForm:
            pass  # FFmpeg knows more of them
    return Opened(capture.open_address(source, OPEN_MS, READ_MS), "")


def compressed_image(utc_ns: int, image: tuple[bytes | memoryview, ...], rest: bytes) -> bytes:
    """A foxglove.CompressedImage whose data is the parts of `image`, one behind the other; `rest` are its other fields, encoded. The
    library would copy the image three times: into bytes, into its message, and out again."""
    head = b""
    if utc_ns:
        stamped = CompressedImage()
        stamped.timestamp.FromNanoseconds(utc_ns)
        head = stamped.SerializeToString()
    return b"".join((head, _DATA_TAG, _varint(sum(map(len, image))), *image, rest))


def _varint(number: int) -> bytes:
    """Seven bits a byte, lowest first, the highest bit set in all but the last (protobuf's encoding of a length)."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


class Camera:
    """The source: `run(stop)` hands the images of one camera to `images` until `stop` is set. `torn` counts what was no JPEG. `wanted`:
    see open_camera; `since_ns`: see Outage."""

    def __init__(
        self,
        name: str,
        source: str,
        clock: Clock,
        images: Images,
        journal: Journal,
        snapshot: Snapshot,
        since_ns: int | None = None,
        wanted: Mapping[str, float] | None = None,
    ) -> None:
        self._topic = camera_topic(name)
        self._source = source
        self._wanted = wanted
        self._clock = clock
        self._images = images
        self._journal = journal
        self._snapshot = snapshot
        self._label = f"camera/{name}"
        self._rest = CompressedImage(frame_id=name, format=FORMAT).SerializeToString()
        self._outage = Outage(journal, self._label, grace_seconds=READ_MS / 1000, since_ns=since_ns)
        self._refused = ""
        self._without_tables = False
        self._mapping = clock.mapping(0)
        self._untold: list[int] = []  # boot times of torn frames that no Gap tells of yet
        self._torn_told = 0
        self.torn = 0

    def run(self, stop: threading.Event) -> None:
        """Until `stop` is set."""
        while not stop.is_set():
            try:
                frames, refused = open_camera(self._source, self._wanted)
            except CameraError as error:
                self._missing(str(error))
                stop.wait(RECONNECT_SECONDS)
                continue
            try:
                self._tell_refused(refused)
                self._read(frames, stop)
            finally:
                frames.release()
        self._tell_torn()
        self._outage.finish()

    def _read(self, frames: Frames, stop: threading.Event) -> None:
        torn_in_a_row = 0
        while not stop.is_set():
            try:
                frame = frames.read()
            except CameraError as error:
                if not stop.is_set():
                    self._missing(str(error))
                    stop.wait(RECONNECT_SECONDS)
                return
            at = boottime_ns()
            self._snapshot.count("images_received")
            image = whole(frame)
            if image is not None:
                torn_in_a_row = 0
                self._take(image, at)
            else:
                torn_in_a_row += 1
                self._tear(at)
            if self._untold and at - self._torn_told >= TORN_NS:
                self._tell_torn()
            if torn_in_a_row >= TORN_LIMIT:
                self._missing("only torn images")
                return

    def _take(self, image: memoryview, at: int) -> None:
        parts: tuple[bytes | memoryview, ...] = (image,)
        scan = scan_without_tables(image)
        if scan is not None:
            parts = image[:scan], HUFFMAN_TABLES, image[scan:]
            if not self._without_tables:
                self._without_tables = True
                detail = f"frames without Huffman tables: the standard ones, {len(HUFFMAN_TABLES)} bytes, are inserted"
                self._journal.write([event("camera_tables", self._label, detail, at)])
        utc = self._utc_ns(at)
        self._images.write(self._topic, at, utc, compressed_image(utc, parts, self._rest))
        if self._outage.down:
            self._snapshot.sensor(self._label, "ok", "")
        self._outage.seen(at)

    def _utc_ns(self, at: int) -> int:
        if at - self._mapping.boottime_ns >= UTC_NS:
            self._mapping = self._clock.mapping(at)
        return self._mapping.utc_ns + at - self._mapping.boottime_ns if self._mapping.utc_ns else 0

    def _tear(self, at: int) -> None:
        self.torn += 1
        self._untold.append(at)
        self._snapshot.count("images_torn")

    def _tell_torn(self) -> None:
        if self._untold:
            self._torn_told = boottime_ns()
            self._journal.write([gap(self._label, "torn images", self._untold[0], self._untold[-1], len(self._untold))])
            self._untold.clear()

    def _tell_refused(self, refused: str) -> None:
        """Once for each answer of the device: it may be opened many times."""
        if refused and refused != self._refused:
            self._journal.write([event("camera_settings", self._label, refused)])
        self._refused = refused

    def _missing(self, reason: str) -> None:
        self._tell_torn()
        self._outage.lost(reason)
        self._snapshot.sensor(self._label, "failed", reason)
