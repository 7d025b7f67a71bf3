"""What a recorder's start costs in a spool of weeks, and what it does with files that no writer left: counted in files opened and bytes
written, not in seconds."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from logbook import channels, files, recovery
from logbook.reader import info, read, verify
from logbook.recovery import last_head_frames, recover_spool
from logbook.schemas.cruisers_pb2 import HeadFrames
from logbook.segment_writer import After, Entry, Identity, SegmentWriter

pytestmark = pytest.mark.timeout(60)

_opened: list[str] = []
_counting = False


def _heard(event: str, arguments: tuple[Any, ...]) -> None:
    if _counting and event == "open":
        _opened.append(str(arguments[0]))


sys.addaudithook(_heard)


@pytest.fixture
def opened() -> Iterator[list[str]]:
    """The names of the files opened from now on."""
    global _counting
    _opened.clear()
    _counting = True
    yield _opened
    _counting = False


def sealed(folder: Path, number: int, stream: str = channels.READINGS, **told: Any) -> Path:
    identity = Identity(f"i-{number}", "truck-1", stream, "b")
    path = folder / f"{number:06d}-{stream}.mcap"
    writer = SegmentWriter.create(path, identity, channels.channel_types(stream), {}, **told)
    frames = HeadFrames(head_boot=9, first_sequence=number * 10, last_sequence=number * 10 + 9)
    topic, data = ("/head/frames", frames.SerializeToString()) if stream == channels.READINGS else ("/event", b"")
    writer.append([Entry(topic, number, 0, data)])
    return writer.seal()


def many(folder: Path, segments: int, **told: Any) -> None:
    """A folder with so many sealed segments, every second one readings."""
    first = {stream: sealed(folder, 1, stream, **(told if stream == channels.READINGS else {})).read_bytes() for stream in channels.STREAMS}
    (folder / "000001-images.mcap").unlink()
    for number in range(2, segments):
        stream = channels.STREAMS[number % 2]
        (folder / f"{number:06d}-{stream}.mcap").write_bytes(first[stream])
    sealed(folder, segments, **told)


def test_the_start_opens_one_file_a_folder_however_many_segments_there_are(tmp_path: Path, opened: list[str]) -> None:
    for folder in range(4):
        many(tmp_path / f"89abcdef-0000000{folder}", 1_000, head_frames={7: 70 + folder})
    opened.clear()
    assert recover_spool(tmp_path) == []
    assert last_head_frames(tmp_path) == {7: 73, 9: 10_009}
    assert [Path(name).name for name in opened] == ["001000-readings.mcap"] * 4


def test_the_newest_segment_of_a_folder_speaks_for_all_and_older_ones_only_for_themselves(tmp_path: Path, make_stream: Any) -> None:
    old = tmp_path / "spool" / "89abcdef-00000001"
    sealed(old, 1)
    sealed(old, 2)
    assert last_head_frames(old.parent) == {9: 29}
    made = make_stream(segment_seconds=0.0, chunk_seconds=0.0)
    for boot, sequence in ((5, 3), (5, 4), (6, 1)):
        frames = HeadFrames(head_boot=boot, first_sequence=sequence, last_sequence=sequence)
        made.segments.write("/head/frames", sequence, 0, frames.SerializeToString())
    made.segments.write("/event", 9, 0, b"")
    assert made.segments.close()
    for path in made.sealed[:-1]:
        path.unlink()
    assert last_head_frames(old.parent) == {9: 29, 5: 4, 6: 1}


def test_an_empty_file_and_one_that_no_writer_makes_are_set_aside_without_reading_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "89abcdef-00000001"
    folder.mkdir()
    (folder / "000001-readings.mcap.open").touch()
    with (folder / "000002-images.mcap.open").open("wb") as file:
        file.truncate(recovery.MAX_SEGMENT_BYTES + 1)
    real = files.read_from_disk
    sizes: list[int] = []
    monkeypatch.setattr(files, "read_from_disk", lambda fd, size: sizes.append(size) or real(fd, size))
    reports = recover_spool(tmp_path)
    assert [report.recovered for report in reports] == [False, False] and sizes == [0]
    assert f"{recovery.MAX_SEGMENT_BYTES + 1} bytes are no segment" in reports[1].reason
    assert all(report.path.exists() and report.gaps for report in reports)
    assert last_head_frames(tmp_path) == {} and recover_spool(tmp_path) == []


def writer_of(folder: Path, number: int, after: After) -> SegmentWriter:
    path = folder / f"{number:06d}-readings.mcap"
    identity = Identity(f"i-{number}", "truck-1", channels.READINGS, "b")
    return SegmentWriter.create(path, identity, channels.channel_types(channels.READINGS), {}, after=after)


def test_a_file_without_a_chunk_says_since_when_something_may_be_missing(tmp_path: Path) -> None:
    writer_of(tmp_path / "a", 4, After(3, 12, 777)).close()
    (report,) = recover_spool(tmp_path)
    (gap,) = report.gaps
    assert (gap.from_boottime_ns, gap.to_boottime_ns, gap.reason) == (777, 0, "writer ended without sealing")
    assert verify(report.path) == [] and info(report.path).chunks == 1


def test_a_file_left_at_a_disk_error_ends_where_the_next_one_says_and_nothing_is_missing_there(tmp_path: Path) -> None:
    left = writer_of(tmp_path / "a", 3, After())
    for number in range(3):
        left.append([Entry("/event", number, 0, b"")])
    left.close()  # its third chunk's sync failed, and the disk kept the chunk all the same
    following = writer_of(tmp_path / "a", 4, After(3, 2, 1))
    following.append([Entry("/event", 2, 0, b"")])
    following.seal()
    (report,) = recover_spool(tmp_path)
    assert report.gaps == [] and report.lossless and "written on in the next segment" in report.reason
    times = [message.log_time for path in sorted(tmp_path.glob("a/*.mcap")) for message in read(path)]
    assert times == [0, 1, 2], "each once, and no Gap"


def test_a_chunk_whose_sync_failed_does_not_contradict_the_file_that_was_to_hold_it_again(tmp_path: Path) -> None:
    left = writer_of(tmp_path / "a", 3, After())
    for number in range(3):
        left.append([Entry("/event", number, 0, b"")])
    left.close()
    writer_of(tmp_path / "a", 4, After(3, 2, 1)).close()  # the power went before its first chunk
    reports = recover_spool(tmp_path)
    assert [(gap.from_boottime_ns, gap.to_boottime_ns) for report in reports for gap in report.gaps] == [(1, 0), (1, 0)]
    messages = [message for path in sorted(tmp_path.glob("a/*.mcap")) for message in read(path)]
    assert [message.log_time for message in messages if message.topic == "/event"] == [0, 1]


def test_a_second_of_recording_costs_two_syncs_a_stream_and_a_segment_eight_more(make_stream: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    syncs: list[str] = []
    for name in ("sync_data", "sync_all", "sync_folder"):
        real = getattr(files, name)
        monkeypatch.setattr(files, name, lambda where, name=name, real=real: (syncs.append(name), real(where)))
    made = make_stream(chunk_seconds=0.1)  # a fifth of the real 0.5 s
    began = time.monotonic()
    while time.monotonic() < began + 1.0:
        made.segments.write("/event", 1, 0, b"x" * 20)
        time.sleep(0.01)
    lasted = time.monotonic() - began
    assert made.segments.close()
    chunks = made.segments.stats().chunks
    assert chunks <= lasted / 0.1 + 1, "2 a second at the real 0.5 s"
    assert syncs.count("sync_data") == chunks + 1, "one for each chunk, and one for the seal"
    assert len(syncs) - chunks <= 8, "folder, file and head at the start, the end of the file and its name at the end"


def test_what_stands_around_a_chunk_is_below_130_bytes(tmp_path: Path) -> None:
    types = channels.channel_types(channels.IMAGES, ["front"])
    writer = SegmentWriter.create(tmp_path / "000001-images.mcap", Identity("i", "t", channels.IMAGES, "b"), types, {})
    before = writer.size
    writer.append([Entry("/camera/front", 1, 0, bytes(1_000))])
    assert writer.size - before - 1_000 <= 130
    writer.close()
