"""Cameras: the device is there, offers MJPEG, and pictures came lately.

Formats are asked of the driver (VIDIOC_ENUM_FMT, linux/videodev2.h), which disturbs nobody who streams meanwhile. A stream on the
network is opened only while no recorder reads it: many of these cameras serve one reader."""

import errno
import fcntl
import http.client
import os
import struct
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fleet.doctor_finding import Finding, green, grey, red, say, yellow
from fleet.doctor_sensors import CAMERA
from fleet.doctor_visit import Visit
from gateway.clock import NANO, boottime_ns, system_offset_ns
from gateway.config import Camera
from logbook.channels import IMAGES

ENUM_FORMATS = 0xC0405602  # _IOWR('V', 2, struct v4l2_fmtdesc)
CAPTURE = 1  # V4L2_BUF_TYPE_VIDEO_CAPTURE
_FORMAT = struct.Struct("=III32s4s16x")  # index, type, flags, description, pixelformat
MOST_FORMATS = 64
HTTP_SECONDS = 4.0
HTTP_BYTES = 65_536  # the header of a part stands in the first of them
JPEG_START = b"\xff\xd8"
SLACK_SECONDS = 30.0  # beyond the longest time between two kept images: a commit, a slow disk


def check(visit: Visit) -> list[Finding]:
    """Each camera, and the images of all."""
    cameras = visit.truck.cameras
    if not cameras:
        return [grey("camera_none")]
    found = [_camera(visit, camera) for camera in cameras]
    return [*found, lately(visit)] if visit.recorder_runs else found


def _camera(visit: Visit, camera: Camera) -> Finding:
    values: dict[str, Any] = {"name": camera.name, "source": camera.source}
    state = (visit.sensors or {}).get(CAMERA + camera.name)
    if state is not None and state["state"] != "ok" and visit.recorder_runs:
        return red("camera_state", say("do_camera"), reason=state["reason"], **values)
    if camera.source.startswith("/dev/"):
        return device(camera, values)
    return grey("camera_owned", **values) if visit.recorder_runs else stream(camera, values)


def device(camera: Camera, values: dict[str, Any]) -> Finding:
    """A V4L2 device."""
    if not Path(camera.source).exists():
        return red("camera_absent", say("do_camera"), **values)
    try:
        offered = formats(camera.source)
    except PermissionError:
        return red("camera_closed", say("do_video"), **values)
    except OSError as error:
        return red("camera_error", say("do_camera"), error=error.strerror or str(error), **values)
    if "MJPG" not in offered:
        return red("camera_no_mjpg", say("do_camera_mjpg"), formats=", ".join(offered) or "-", **values)
    return green("camera_well", **values)


def formats(path: str) -> list[str]:
    """The pixel formats that a capture device offers ("MJPG", "YUYV"); none where it captures nothing. Raises OSError."""
    fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = []
        for index in range(MOST_FORMATS):
            buffer = bytearray(_FORMAT.pack(index, CAPTURE, 0, b"", b""))
            try:
                fcntl.ioctl(fd, ENUM_FORMATS, buffer)
            except OSError as error:
                if error.errno == errno.EINVAL:  # there are no more
                    break
                raise
            found.append(_FORMAT.unpack(buffer)[4].decode("ascii", "replace"))
        return found
    finally:
        os.close(fd)


def stream(camera: Camera, values: dict[str, Any]) -> Finding:
    """An MJPEG address: a picture begins in what it sends first."""
    address = urlsplit(camera.source)
    kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
    connection = kind(address.hostname or "", address.port, timeout=HTTP_SECONDS)
    try:
        connection.request("GET", f"{address.path or '/'}{'?' + address.query if address.query else ''}")
        answer = connection.getresponse()
        begun = b""
        while answer.status == http.client.OK and JPEG_START not in begun and len(begun) < HTTP_BYTES and (more := answer.read1(4096)):
            begun += more
    except (OSError, http.client.HTTPException) as error:
        return red("camera_error", say("do_camera_net"), error=str(error) or type(error).__name__, **values)
    finally:
        connection.close()
    if answer.status != http.client.OK:
        return red("camera_error", say("do_camera_net"), error=f"HTTP {answer.status}", **values)
    return green("camera_well", **values) if JPEG_START in begun else red("camera_no_picture", say("do_camera_net"), **values)


def lately(visit: Visit) -> Finding:
    """When an image was last written, against the longest time that the policy leaves between two."""
    folder = (visit.recorder or {}).get("boot")
    times = [_changed_ns(path) for path in (visit.spool / folder).glob(f"*-{IMAGES}.mcap*")] if folder else []
    policy = visit.truck.images
    most = SLACK_SECONDS + (0.0 if policy.policy == "all" else policy.standing_seconds)
    if not times:
        return yellow("images_none", say("do_uplink" if not folder else "do_camera"))
    age = (boottime_ns() + system_offset_ns()[0] - max(times)) / NANO
    if age > most:
        return red("images_old", say("do_camera"), age=age)
    return green("images_well", age=max(0.0, age))


def _changed_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:  # sealed, or delivered, in this moment
        return 0
