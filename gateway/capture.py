"""A camera through OpenCV: V4L2 without conversion (opencv#25681), or any address that FFmpeg's demuxers know, opened raw: the JPEGs as
they are. Opening and reading have time-outs."""

import os
from collections.abc import Mapping
from typing import NamedTuple, Protocol

# FFmpeg talks to the libraries' own stderr about every refused connection; we tell the same as an event. Read at import of cv2.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "3")  # s, as camera.READ_MS; 10 by default, and no property of a capture

import cv2

NO_IMAGE = "no image"

# V4L2's controls, in the order of setting: (our name, property, what must be off before it can be set, and its value for off).
CONTROLS = (
    ("exposure", cv2.CAP_PROP_EXPOSURE, cv2.CAP_PROP_AUTO_EXPOSURE, 1),  # V4L2_EXPOSURE_MANUAL
    ("focus", cv2.CAP_PROP_FOCUS, cv2.CAP_PROP_AUTOFOCUS, 0),
)
SIZE_AND_RATE = (("width", cv2.CAP_PROP_FRAME_WIDTH), ("height", cv2.CAP_PROP_FRAME_HEIGHT), ("fps", cv2.CAP_PROP_FPS))
FPS_NEARLY = 0.01  # of the rate: 30 is 29.97 in many a device


class CameraError(Exception):
    """The camera cannot be opened, or gives no more: why, in one line."""


class Frames(Protocol):
    """A camera that delivers JPEGs, whole or torn."""

    def read(self) -> memoryview:
        """The next frame's bytes, to be used before the next `read`. Raises CameraError if none comes in time."""

    def release(self) -> None:
        """Closes it."""


class Opened(NamedTuple):
    """`refused` says which settings the camera did not take, and what it has instead ("" for none)."""

    frames: Frames
    refused: str


class Capture:
    """Frames of an opened cv2.VideoCapture: each read makes a new array."""

    def __init__(self, capture: cv2.VideoCapture) -> None:
        self._capture = capture

    def read(self) -> memoryview:
        """See Frames."""
        got, frame = self._capture.read()
        if not got or frame is None:
            raise CameraError(NO_IMAGE)
        return frame.reshape(-1).data

    def release(self) -> None:
        """See Frames."""
        self._capture.release()


def open_address(address: str, open_ms: int, read_ms: int) -> Capture:
    """Through FFmpeg. Raises CameraError."""
    parameters = [
        cv2.CAP_PROP_FORMAT, -1,
        cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, open_ms,
        cv2.CAP_PROP_READ_TIMEOUT_MSEC, read_ms,
    ]  # fmt: skip
    capture = cv2.VideoCapture(address, cv2.CAP_FFMPEG, parameters)
    if not capture.isOpened():
        capture.release()
        raise CameraError("cannot be opened")
    return Capture(capture)


def open_v4l2(device: str, wanted: Mapping[str, float]) -> Opened:
    """A device, set as `wanted` (config.Camera.settings). Raises CameraError.

    The order counts (opencv#25681, cap_v4l.cpp): no conversion before the format; the format before the size, for with each of them
    OpenCV sets the rate again that it got with the one before, and uncompressed at full size that is a slow one; the rate last. Only
    then is read back what the driver made of it."""
    capture = cv2.VideoCapture(device, cv2.CAP_V4L2)
    if not capture.isOpened():
        capture.release()
        raise CameraError("cannot be opened")
    mjpg = cv2.VideoWriter.fourcc(*"MJPG")
    capture.set(cv2.CAP_PROP_CONVERT_RGB, 0)
    capture.set(cv2.CAP_PROP_FOURCC, mjpg)
    for name, number in SIZE_AND_RATE:
        if name in wanted:
            capture.set(number, wanted[name])
    if int(capture.get(cv2.CAP_PROP_FOURCC)) != mjpg or capture.get(cv2.CAP_PROP_CONVERT_RGB) != 0:
        capture.release()
        size = f" of {wanted['width']:g} x {wanted['height']:g}" if "width" in wanted else ""
        raise CameraError(f"does not deliver MJPEG{size}")
    for name, number, automatic, off in CONTROLS:
        if name in wanted:
            capture.set(automatic, off)
            capture.set(number, wanted[name])
    return Opened(Capture(capture), _refused(capture, wanted))


def _refused(capture: cv2.VideoCapture, wanted: Mapping[str, float]) -> str:
    """The settings that the device reads back otherwise than `wanted`."""
    numbers = dict(SIZE_AND_RATE) | {name: number for name, number, _, _ in CONTROLS}
    found = []
    for name, value in wanted.items():
        has = capture.get(numbers[name])
        if abs(has - value) > (FPS_NEARLY * value if name == "fps" else 0):
            found.append(f"{name} {value:g}: " + ("the device has none" if has < 0 else f"the device has {has:g}"))
    return "; ".join(found)
