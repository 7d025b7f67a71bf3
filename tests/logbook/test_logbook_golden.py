"""Golden segments: files written once stay readable for ever, and a fixed input still gives the very same bytes.

When the format changes on purpose: move the old file into a folder that says what it was (it stays readable for ever), and make the new one
by `python tests/logbook/test_logbook_golden.py` (it writes only what is absent). Another zstd or foxglove package may also change the
bytes of `readings`. So far: `six-sensors` had no channels for the spares, the receiver on the head and the first fleet's box; it and
`block-1` have column blocks of version 1."""

import json
from pathlib import Path

import numpy as np
import pytest
from foxglove_schemas_protobuf.CompressedImage_pb2 import CompressedImage
from foxglove_schemas_protobuf.LocationFix_pb2 import LocationFix
from mcap.reader import make_reader

from logbook import block, channels
from logbook.reader import info, read, verify
from logbook.schemas import cruisers_pb2 as pb
from logbook.segment_writer import Entry, Identity, SegmentWriter

pytestmark = pytest.mark.timeout(60)

GOLDEN = Path(__file__).parent / "golden"
COLUMNS = [
    {"id": "acceleration_x", "scale": 0.5, "lowest": -32767, "highest": 32766, "status": None, "mask": 0, "value": 0},
    {"id": "acceleration_y", "scale": -0.5, "lowest": -32767, "highest": 32766, "status": None, "mask": 0, "value": 0},
]
START = 123_000_000_000
UTC = 1_790_000_000_000_000_000


def readings() -> list[list[Entry]]:
    """Two chunks with one message of every kind."""
    times = np.arange(50, dtype=np.uint64) * 9_777_950 + START
    columns = np.stack([np.arange(50) * 3 - 70, 1000 - np.arange(50) ** 2], axis=1).astype(np.int16)
    value = pb.Value(quantity="pressure", number=101_325.0)
    fix = LocationFix(latitude=35.34, longitude=139.49)
    fix.timestamp.FromNanoseconds(UTC)
    first = [
        ("/trim", pb.Trim(sensor="bmp390", head_boot=5, trim=bytes(range(21)))),
        ("/clock", pb.ClockMapping(boottime_ns=START, utc_ns=UTC, source="gnss", error_s=0.01)),
        ("/imu", pb.Imu(boottime_ns=START, values=[pb.Value(quantity="acceleration_x", reason="saturated")])),
        ("/reading/bmp390", pb.Reading(sensor="bmp390", head_boot=5, sequence=7, boottime_ns=START, raw=b"\1\2\3\4\5\6", values=[value])),
        ("/position", pb.Position(boottime_ns=START, valid=True, mode=3, utc_ns=UTC, latitude=35.34, longitude=139.49, raw=b"{}")),
        ("/position/fix", fix),
        ("/head/frames", pb.HeadFrames(head_boot=5, first_sequence=1, last_sequence=7)),
    ]
    second = [
        ("/gap", pb.Gap(source="sps30", reason="no acknowledge", from_boottime_ns=START, to_boottime_ns=START + 1, count=1)),
        ("/event", pb.Event(kind="bookmark", source="button", boottime_ns=START, detail="道路")),
        ("/health", pb.Health(source="head", boottime_ns=START, counters={"heap_free": 48_000.0})),
        ("/head/frames", pb.HeadFrames(head_boot=5, first_sequence=8, last_sequence=9)),
    ]
    chunks = [
        [Entry(topic, START + place * 500_000_000 + index, UTC, message.SerializeToString(deterministic=True))
         for index, (topic, message) in enumerate(chunk)]
        for place, chunk in enumerate((first, second))
    ]  # fmt: skip
    chunks[0].insert(0, Entry("/imu/block", START, UTC, block.encode(5, times, columns)))
    return chunks


def images() -> list[list[Entry]]:
    """Two chunks of two small images."""
    jpeg = b"\xff\xd8" + bytes(range(200)) + b"\xff\xd9"
    result = []
    for chunk in range(2):
        result.append([])
        for index in range(2):
            image = CompressedImage(frame_id="front", format="jpeg", data=jpeg + bytes([chunk, index]))
            image.timestamp.FromNanoseconds(UTC)
            time = START + chunk * 1_000_000_000 + index * 500_000_000
            result[chunk].append(Entry("/camera/front", time, 0, image.SerializeToString(deterministic=True)))
    return result


def write(folder: Path, stream: str) -> Path:
    """The segment of the fixed input."""
    segment_id = f"golden-1-89abcdef-01234567-000001-{stream}"
    identity = Identity(segment_id, "golden-1", stream, "89abcdef-0000-4000-8000-000000000000")
    types = channels.channel_types(stream, ["front"] if stream == channels.IMAGES else [])
    metadata = {channels.IMU_BLOCK: {"columns": json.dumps(COLUMNS)}}
    writer = SegmentWriter.create(folder / f"000001-{stream}.mcap", identity, types, metadata, "cruisers golden")
    for chunk in readings() if stream == channels.READINGS else images():
        writer.append(chunk)
    return writer.seal()


@pytest.mark.parametrize("stream", channels.STREAMS)
def test_a_fixed_input_gives_the_golden_bytes(tmp_path: Path, stream: str) -> None:
    made = write(tmp_path, stream)
    assert made.read_bytes() == (GOLDEN / made.name).read_bytes()


@pytest.mark.parametrize("path", sorted(GOLDEN.rglob("*.mcap")), ids=lambda path: str(path.relative_to(GOLDEN)))
def test_the_golden_segment_stays_readable(path: Path) -> None:
    stream = path.stem.removeprefix("000001-")
    expected = [entry for chunk in (readings() if stream == channels.READINGS else images()) for entry in chunk]
    assert verify(path) == []
    messages = list(read(path))
    assert [Entry(*message[:4]) for message in messages if message.topic != channels.IMU_BLOCK] == [
        entry for entry in expected if entry.topic != channels.IMU_BLOCK
    ]
    found = info(path)
    assert (found.segment_id, found.truck, found.chunks) == (f"golden-1-89abcdef-01234567-000001-{stream}", "golden-1", 2)
    with path.open("rb") as file:
        found_by_mcap = [message.data for _, _, message in make_reader(file, validate_crcs=True).iter_messages()]
    assert sorted(found_by_mcap) == sorted(message.data for message in messages)
    if stream == channels.READINGS:
        head_boot, times, columns = block.decode(messages[0].data)
        assert np.array_equal(times, block.decode(expected[0].data)[1]) and np.array_equal(columns, block.decode(expected[0].data)[2])
        values, _ = block.typed(messages[0].metadata["columns"], columns)["acceleration_y"]
        assert (head_boot, int(times[0]), values[0], values[49]) == (5, START, -500.0, 700.5)


if __name__ == "__main__":
    import tempfile

    GOLDEN.mkdir(exist_ok=True)
    for name in channels.STREAMS:
        with tempfile.TemporaryDirectory() as scratch:
            new = write(Path(scratch), name)
            if not (GOLDEN / new.name).exists():
                (GOLDEN / new.name).write_bytes(new.read_bytes())
