"""A V4L2 camera at the level of OpenCV's calls: there is no device here."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from gateway_camera import Watching, jpeg
from gateway_recording import wait_for

import gateway.camera
import gateway.capture
from gateway import config
from gateway.camera import CameraError, open_camera

pytestmark = pytest.mark.timeout(60)


class Device:
    """Stands for cv2.VideoCapture on a V4L2 device. `calls` are the properties set, in order; `has` is what reads back; `limits` are values
    that the device has instead, None: not at all. `frames` are what it gives, then nothing."""

    def __init__(self, frames: list[bytes], limits: dict[int, float | None]) -> None:
        self.calls: list[tuple[int, float]] = []
        self.has: dict[int, float] = {cv2.CAP_PROP_FOURCC: 0, cv2.CAP_PROP_CONVERT_RGB: 1}
        self.frames = frames
        self.limits = limits
        self.released = False

    def __call__(self, device: str, backend: int) -> "Device":
        assert (device, backend) == ("/dev/video0", cv2.CAP_V4L2)
        self.released = False
        return self

    def isOpened(self) -> bool:
        return True

    def set(self, number: int, value: float) -> bool:
        self.calls.append((number, value))
        limit = self.limits.get(number, value)
        if limit is not None:
            self.has[number] = limit
        return limit is not None

    def get(self, number: int) -> float:
        return self.has.get(number, -1.0)

    def read(self) -> tuple[bool, np.ndarray | None]:
        if not self.frames:
            return False, None
        return True, np.frombuffer(self.frames.pop(0), np.uint8).reshape(1, -1)  # as cap_v4l.cpp: one row of bytes

    def release(self) -> None:
        self.released = True


ALL = {"width": 1920, "height": 1080, "fps": 30.0, "exposure": 50, "focus": 0}
MJPG = cv2.VideoWriter.fourcc(*"MJPG")


def on_device(monkeypatch: pytest.MonkeyPatch, frames: list[bytes] | None = None, limits: dict[int, float | None] | None = None) -> Device:
    device = Device(frames or [], limits or {})
    monkeypatch.setattr(gateway.capture.cv2, "VideoCapture", device)
    return device


def test_a_v4l2_device_is_set_in_the_order_that_opencv_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    device = on_device(monkeypatch)
    assert open_camera("/dev/video0", ALL).refused == ""
    assert device.calls == [
        (cv2.CAP_PROP_CONVERT_RGB, 0),
        (cv2.CAP_PROP_FOURCC, MJPG),
        (cv2.CAP_PROP_FRAME_WIDTH, 1920),
        (cv2.CAP_PROP_FRAME_HEIGHT, 1080),
        (cv2.CAP_PROP_FPS, 30.0),
        (cv2.CAP_PROP_AUTO_EXPOSURE, 1),
        (cv2.CAP_PROP_EXPOSURE, 50),
        (cv2.CAP_PROP_AUTOFOCUS, 0),
        (cv2.CAP_PROP_FOCUS, 0),
    ]


def test_what_the_configuration_does_not_name_is_left_to_the_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    device = on_device(monkeypatch)
    open_camera("/dev/video0", config.Camera("front", "/dev/video0").settings())
    assert [number for number, _ in device.calls] == [cv2.CAP_PROP_CONVERT_RGB, cv2.CAP_PROP_FOURCC]


@pytest.mark.parametrize("limits", [{cv2.CAP_PROP_FOURCC: 0x56595559}, {cv2.CAP_PROP_CONVERT_RGB: 1}])
def test_a_device_without_mjpeg_is_no_camera(monkeypatch: pytest.MonkeyPatch, limits: dict[int, float | None]) -> None:
    device = on_device(monkeypatch, limits=limits)
    with pytest.raises(CameraError, match="does not deliver MJPEG of 1920 x 1080"):
        open_camera("/dev/video0", ALL)
    assert device.released


def test_what_a_device_does_not_take_is_told_once_however_often_it_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway.camera, "RECONNECT_SECONDS", 0.01)
    limits = {cv2.CAP_PROP_FRAME_WIDTH: 1280, cv2.CAP_PROP_FRAME_HEIGHT: 720, cv2.CAP_PROP_FPS: 29.97, cv2.CAP_PROP_FOCUS: None}
    device = on_device(monkeypatch, [jpeg(1), jpeg(2)], limits)
    watching = Watching(tmp_path, "/dev/video0", wanted=ALL)
    wait_for(lambda: len(device.calls) >= 4 * 9, "four openings")
    recording = watching.end()
    (event,) = recording.events("camera_settings")
    assert event.source == "camera/front"
    assert event.detail == "width 1920: the device has 1280; height 1080: the device has 720; focus 0: the device has none"
    assert [image.data for image in recording.decoded("/camera/front")] == [jpeg(1), jpeg(2)]


def test_padded_and_torn_frames_of_a_device_are_cut_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_device(monkeypatch, [jpeg(1) + bytes(70_000), jpeg(2)[:-9], jpeg(3)[4:], jpeg(4)])
    watching = Watching(tmp_path, "/dev/video0")
    wait_for(lambda: watching.state() == "failed", "the device's end")
    assert watching.count("gaps") == 2  # what was torn is told before the loss, not at the recorder's end
    recording = watching.end()
    assert [image.data for image in recording.decoded("/camera/front")] == [jpeg(1), jpeg(4)]
    assert sum(gap.count for gap in recording.gaps("camera/front") if gap.reason == "torn images") == 2
    assert watching.count("images_received") == 4 == watching.images() + watching.count("images_torn")


def test_a_device_that_does_not_exist_cannot_be_opened() -> None:
    with pytest.raises(CameraError, match="cannot be opened"):
        open_camera("/dev/video99")


def test_a_v4l2_camera_that_hangs_does_so_no_longer_than_a_stream() -> None:
    assert int(os.environ["OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT"]) * 1_000 == gateway.camera.READ_MS


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ('[[cameras]]\nname = "Front"\nsource = "/dev/a"', "at `$.cameras[0].name`"),
        ('[[cameras]]\nname = "a"\nsource = ""', "length >= 1 - at `$.cameras[0].source`"),
        ('[[cameras]]\nname = "a"\nsource = "/dev/a"\nwidth = 640', "camera a: width and height go together - at `$.cameras[0]`"),
        ('[[cameras]]\nname = "a"\nsource = "http://a"\nfocus = 0', "camera a: focus can be set on a V4L2 device only, not at http://a"),
        ('[[cameras]]\nname = "a"\nsource = "/dev/a"\nexposure = 0', ">= 1 - at `$.cameras[0].exposure`"),
        ('[[cameras]]\nname = "a"\nsource = "/dev/a"\n' * 2, "two [[cameras]] of one name: a"),
        ("".join(f'[[cameras]]\nname = "{name}"\nsource = "/dev/a"\n' for name in "ab"), "two [[cameras]] of one source: /dev/a"),
        ("".join(f'[[cameras]]\nname = "{name}"\nsource = "/dev/{name}"\n' for name in "abcde"), "5 cameras, not up to 4"),
    ],
)
def test_settings_that_cannot_be_are_one_clear_line(tmp_path: Path, more: str, words: str) -> None:
    path = tmp_path / "truck.toml"
    hub = '[hub]\ndomain = "d"\nhost = "h"\nport = 1\nca_file = "c"\npassword_file = "p"\n'
    path.write_text(f'name = "t"\nspool = "s"\nlive_socket = "l"\n{hub}{more}\n')
    with pytest.raises(config.ConfigError) as refused:
        config.load(path)
    assert words in str(refused.value) and "\n" not in str(refused.value)
