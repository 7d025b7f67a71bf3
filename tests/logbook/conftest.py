"""Segments made for the tests of the logbook: known messages, known durable lengths, a disk that can refuse."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from foxglove_schemas_protobuf.CompressedImage_pb2 import CompressedImage

from logbook import channels
from logbook.schemas.cruisers_pb2 import HeadFrames, Reading
from logbook.segment import Segments
from logbook.segment_writer import Entry, Identity, SegmentWriter

FOLDER = "89abcdef-01234567"


@dataclass
class Made:
    """An open segment whose writer has gone: its bytes, its chunks' messages, the file length after each durable step."""

    path_open: Path
    data: bytes
    chunks: list[list[Entry]]
    durable: list[int]  # durable[0]: the head; durable[n]: chunk n

    def entries(self, chunks: int) -> list[Entry]:
        """The messages of the first `chunks` chunks."""
        return list(itertools.chain.from_iterable(self.chunks[:chunks]))

    def fresh(self, data: bytes, name: str = "000001") -> Path:
        """A new spool folder beside the first with `data` as its only open file."""
        folder = self.path_open.parent.parent / f"copy-{name}" / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / self.path_open.name
        path.write_bytes(data)
        return path


def chunk_entries(number: int, stream: str) -> list[Entry]:
    """The messages of chunk `number` (from 0): different in every chunk, with head frames among the readings."""
    start = 1_000_000_000 + number * 500_000_000
    if stream == channels.IMAGES:
        pixels = bytes((number * 7 + index) % 251 for index in range(400))
        images = [CompressedImage(frame_id="front", data=pixels + bytes([index]), format="jpeg") for index in range(3)]
        return [Entry("/camera/front", start + index, 5_000 + start, image.SerializeToString()) for index, image in enumerate(images)]
    entries = []
    for index in range(4):
        sequence = number * 4 + index + 1
        reading = Reading(sensor="bmp390", head_boot=9, sequence=sequence, boottime_ns=start + index, raw=bytes([number % 256, index] * 3))
        entries.append(Entry("/reading/bmp390", start + index, 7_000 + start, reading.SerializeToString()))
    frames = HeadFrames(head_boot=9, first_sequence=number * 4 + 1, last_sequence=number * 4 + 4)
    return [*entries, Entry("/head/frames", start + 3, 7_000 + start, frames.SerializeToString())]


@pytest.fixture
def make_open(tmp_path: Path) -> Callable[..., Made]:
    """make_open(stream, chunks): an open file as a killed writer leaves it."""

    def make(stream: str = channels.READINGS, chunks: int = 20) -> Made:
        path = tmp_path / "spool" / FOLDER / f"000001-{stream}.mcap"
        identity = Identity(f"truck-1-{FOLDER}-000001-{stream}", "truck-1", stream, "89abcdef-boot")
        cameras = ["front"] if stream == channels.IMAGES else []
        types = channels.channel_types(stream, cameras)
        writer = SegmentWriter.create(path, identity, types, {"/imu/block": {"columns": "[]"}}, "cruisers test")
        durable, written = [writer.size], []
        for number in range(chunks):
            written.append(chunk_entries(number, stream))
            writer.append(written[-1])
            durable.append(writer.size)
        writer.close()
        return Made(writer.open_path, writer.open_path.read_bytes(), written, durable)

    return make


@dataclass
class Stream:
    """A Segments under test with everything it called back (which may be while it is made)."""

    spool: Path
    segments: Segments = field(init=False)
    durable: list[object] = field(default_factory=list)
    sealed: list[Path] = field(default_factory=list)
    errors: list[OSError] = field(default_factory=list)


@pytest.fixture
def make_stream(tmp_path: Path) -> Callable[..., Stream]:
    """make_stream(stream, **settings of Segments): a running stream, closed by the test."""
    numbers = itertools.count(1)

    def make(stream: str = channels.READINGS, **settings: object) -> Stream:
        made = Stream(tmp_path / "spool")
        settings.setdefault("segment_seconds", 60.0)
        settings.setdefault("topics", ["/camera/front"] if stream == channels.IMAGES else [])
        settings.setdefault("on_durable", lambda token: made.durable.append(token))
        made.segments = Segments(
            made.spool,
            "truck-1",
            "89abcdef-boot",
            stream,
            FOLDER,
            lambda: next(numbers),
            on_sealed=lambda path: made.sealed.append(path),
            on_error=lambda error: made.errors.append(error),
            **settings,  # type: ignore[arg-type]
        )
        return made

    return make


@pytest.fixture
def forge() -> Callable[[Callable[[bytes], int]], bytes]:
    """forge(crc): four bytes for which `crc` is 0. CRCs are affine, so 32 one-bit changes give the equations to solve."""

    def solve(crc: Callable[[bytes], int]) -> bytes:
        constant = crc(bytes(4))
        rows = [(crc((1 << bit).to_bytes(4, "little")) ^ constant, 1 << bit) for bit in range(32)]
        target, solution = constant, 0
        for bit in range(31, -1, -1):
            pivot = next(row for row in rows if row[0] >> bit & 1)
            rest = [row for row in rows if row is not pivot]
            rows = [(row[0] ^ pivot[0], row[1] ^ pivot[1]) if row[0] >> bit & 1 else row for row in rest]
            if target >> bit & 1:
                target, solution = target ^ pivot[0], solution ^ pivot[1]
        four = solution.to_bytes(4, "little")
        assert crc(four) == 0
        return four

    return solve
