"""The simulated camera through the real OpenCV in raw pass-through: every JPEG arrives byte for byte."""

import math
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import cv2
import numpy as np
import pytest

from sim.camera import Camera, Frame, encode, read_comment
from sim.clock import Clock, boottime_ns
from sim.picture import HORIZON, Picture
from sim.world import World

MOST_JPEGS = 6.0  # 3.0 to 3.5 were measured

pytestmark = pytest.mark.timeout(60)

DAY, DUSK, NIGHT = math.radians(45), math.radians(1), math.radians(-12)


@pytest.fixture(scope="module")
def picture() -> Picture:
    return Picture(1)


@pytest.fixture
def frames() -> list[Frame]:
    return []


@pytest.fixture
def camera(frames: list[Frame]) -> Iterator[Camera]:
    made = Camera(World(1), Clock().now_us, fps=10, keep=frames.append)
    made.start()
    yield made
    made.stop()


def test_opencv_passes_the_stream_through_byte_for_byte(camera: Camera, frames: list[Frame]) -> None:
    capture = cv2.VideoCapture(camera.url, cv2.CAP_FFMPEG, [cv2.CAP_PROP_FORMAT, -1])
    assert capture.isOpened()
    arrived = []
    for _ in range(8):
        good, data = capture.read()
        assert good
        arrived.append(data.tobytes())
    capture.release()
    sent = {frame.number: frame for frame in frames}
    numbers = [read_comment(jpeg)[0] for jpeg in arrived]
    assert numbers == sorted(set(numbers)), "no frame twice, none out of order"
    for jpeg in arrived:
        number, t_us = read_comment(jpeg)
        assert jpeg == sent[number].jpeg
        assert t_us == sent[number].t_us and t_us % 100_000 == 0


def test_the_comment_leaves_a_whole_jpeg_of_the_right_size(picture: Picture) -> None:
    frame = encode(picture, World(1).at(5_000_000), 7, 5_000_000)
    assert read_comment(frame.jpeg) == (7, 5_000_000)
    image = cv2.imdecode(np.frombuffer(frame.jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None and image.shape == (720, 1280, 3)
    assert 30_000 < len(frame.jpeg) < 300_000
    with pytest.raises(ValueError, match="no frame"):
        read_comment(b"\xff\xd8\xff\xd9")


def test_two_readers_see_the_same_frames_and_a_gone_reader_harms_nobody(camera: Camera) -> None:
    host, port = camera.url.split("/")[2].split(":")
    with socket.create_connection((host, int(port)), timeout=10) as gone:
        gone.sendall(b"GET /stream.mjpg HTTP/1.0\r\n\r\n")
        assert gone.recv(15) == b"HTTP/1.0 200 OK"
    captures = [cv2.VideoCapture(camera.url, cv2.CAP_FFMPEG, [cv2.CAP_PROP_FORMAT, -1]) for _ in range(2)]
    seen: list[dict[int, bytes]] = []
    for capture in captures:
        jpegs = [capture.read()[1].tobytes() for _ in range(6)]
        seen.append({read_comment(jpeg)[0]: jpeg for jpeg in jpegs})
        capture.release()
    common = seen[0].keys() & seen[1].keys()
    assert all(seen[0][number] == seen[1][number] for number in common)
    assert len(seen[0]) == len(seen[1]) == 6


def test_another_path_is_not_found(camera: Camera) -> None:
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(camera.url.replace("stream", "other"), timeout=10)


def test_the_picture_moves_with_the_truck_and_repeats_for_the_same_place(picture: Picture) -> None:
    here, same, further = picture.render(40, 1.0, DAY), picture.render(40, 1.0, DAY), picture.render(41.5, 1.0, DAY)
    assert np.array_equal(here, same)
    assert np.mean(cv2.absdiff(here, further)) > 3


def test_the_sky_follows_the_sun(picture: Picture) -> None:
    day, dusk, night = (picture.render(40, 1.0, sun)[: HORIZON // 2, 600:700].mean(axis=(0, 1)) for sun in (DAY, DUSK, NIGHT))
    assert day.sum() > dusk.sum() > 2 * night.sum()
    assert day[0] > day[2] + 20, "blue by day"


def test_the_road_has_worn_markings_and_kerbs(picture: Picture) -> None:
    image = picture.render(40, 1.0, DAY)
    row = 600
    z = 900 * 2.2 / (row - HORIZON)
    line = image[row - 60 : row + 60, int(640 + 900 * 2.75 / z) - 40 : int(640 + 900 * 2.75 / z) + 40]
    asphalt = image[row - 10 : row + 10, 720:900]
    assert line.max() > 200 > 150 > asphalt.mean(), "white paint on grey asphalt"
    bright = (picture.render(k * 4.0, 1.0, DAY)[row, int(640 + 900 * 2.75 / z)].mean() > 160 for k in range(12))
    share = np.mean(list(bright))
    assert 0.3 < share < 1.0, "the side line is there, but not everywhere: it is worn"


def test_a_frame_costs_no_more_than_a_few_jpegs_of_its_picture(picture: Picture) -> None:
    """Of processor time, one thread; the least of five rounds on each side, taken in turn: what a busy machine adds is not the frame's."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    world = World(1)
    image = picture.render(0.0, 1.0, DAY)
    costs: dict[str, list[float]] = {"frame": [], "jpeg": []}
    for turn in range(6):  # the first warms up
        for name in costs:
            start = time.thread_time()
            for k in range(4):
                if name == "frame":
                    encode(picture, world.at((4 * turn + k) * 500_000), k, k * 500_000)
                else:
                    cv2.imencode(".jpg", image)
            costs[name].append(time.thread_time() - start)
    cv2.setNumThreads(threads)
    frame, jpeg = (min(costs[name][1:]) for name in ("frame", "jpeg"))
    assert frame < MOST_JPEGS * jpeg, f"a frame costs as much as {frame / jpeg:.2f} JPEGs"


def test_the_process_says_its_address_and_ends_with_its_standard_input() -> None:
    argv = [sys.executable, "-m", "sim.camera", "--start-boottime-ns", str(boottime_ns()), "--start-utc-ns", "0"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdin is not None
        url = process.stdout.readline().strip()
        with urllib.request.urlopen(url, timeout=15) as stream:
            assert stream.headers["Content-Type"].startswith("multipart/x-mixed-replace")
            assert stream.readline() == b"--cruisersframe\r\n"
        process.stdin.close()
        assert process.wait(15) == 0


def test_a_taken_port_is_one_line_and_exit_2() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        argv = [sys.executable, "-m", "sim.camera", "--start-boottime-ns", "0", "--start-utc-ns", "0", "--port", port]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
    assert done.returncode == 2
    assert done.stderr.startswith("sim.camera: ") and done.stderr.count("\n") == 1
