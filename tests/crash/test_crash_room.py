"""A disk that is full: a real ext4 of 32 MB, mounted through a loop device."""

import errno
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from foxglove_schemas_protobuf.CompressedImage_pb2 import CompressedImage

from logbook import channels, reader
from logbook.recovery import recover_spool
from logbook.segment import Segments

pytestmark = pytest.mark.timeout(100)

MEGABYTES = 32
CAMERA = "/camera/front"
IMAGE = CompressedImage(data=bytes(50_000), format="jpeg").SerializeToString()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    image, folder = tmp_path / "ext4.img", tmp_path / "small"
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(MEGABYTES << 20)
    for command in (["mkfs.ext4", "-q", "-m", "0", str(image)], ["mount", "-o", "loop", str(image), str(folder)]):
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except FileNotFoundError as error:
            pytest.skip(f"no ext4 through a loop device here: {error}")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no ext4 through a loop device here: {command[0]}: {error.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(path: Path) -> None:
    """Takes all the room that is left."""
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12):
            try:
                while True:
                    file.write(bytes(size))
            except OSError as error:
                assert error.errno == errno.ENOSPC


def test_on_a_full_disk_the_writer_keeps_its_messages_and_goes_on_when_there_is_room(small: Path) -> None:
    durable: list[object] = []
    errors: list[OSError] = []
    over: list[OSError] = []
    numbers = iter(range(1, 1_000))
    segments = Segments(
        small / "spool", "truck-1", "89abcdef-boot", channels.IMAGES, "89abcdef-01234567", lambda: next(numbers), 60.0, 4_000_000, 0.05,
        on_durable=durable.append, on_sealed=lambda path: None, on_error=errors.append, on_recovered=over.append, topics=[CAMERA],
    )  # fmt: skip

    def write(first: int, last: int) -> None:
        for number in range(first, last):
            assert segments.write(CAMERA, number, 0, IMAGE, number)
            time.sleep(0.002)

    def wait(count: int) -> None:
        limit = time.monotonic() + 30
        while len(durable) < count:
            assert time.monotonic() < limit, f"{len(durable)} of {count} durable; {errors[-1:]}"
            time.sleep(0.02)

    write(0, 40)
    wait(40)
    fill(small / "other program's")
    write(40, 120)
    limit = time.monotonic() + 20
    while len(errors) < 2 and time.monotonic() < limit:
        time.sleep(0.02)
    problem = segments.problem()
    assert problem is not None and problem.errno == errno.ENOSPC and {error.errno for error in errors} == {errno.ENOSPC}
    told = len(durable)
    assert told < 120 and segments.stats().waiting_bytes >= (120 - told) * 50_000
    (small / "other program's").unlink()
    wait(120)
    write(120, 140)
    wait(140)
    assert segments.problem() is None and len(over) >= 1
    assert segments.close()
    assert durable == list(range(140))
    recover_spool(small / "spool")
    paths = sorted((small / "spool").glob("*/*.mcap"))
    assert [problem for path in paths for problem in reader.verify(path)] == []
    messages = [message for path in paths for message in reader.read(path)]
    assert sorted(message.log_time for message in messages if message.topic == CAMERA) == list(range(140))
    assert [message for message in messages if message.topic == channels.GAP] == [], "nothing was missing, and nothing says so"
