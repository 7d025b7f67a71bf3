"""Writing segments: what is on disk and when, what mcap's own readers see, what happens when the disk stalls or refuses."""

import errno
import struct
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from foxglove_schemas_protobuf.CompressedImage_pb2 import CompressedImage
from mcap.exceptions import EndOfFile
from mcap.reader import make_reader
from mcap.records import Channel, Metadata, Schema
from mcap.stream_reader import StreamReader

from logbook import channels, files, records
from logbook.reader import info, read, verify
from logbook.recovery import recover, recover_spool
from logbook.schemas.cruisers_pb2 import Event, Gap, HeadFrames
from logbook.segment_writer import Entry, Identity, SegmentWriter

pytestmark = pytest.mark.timeout(60)

IMAGE = CompressedImage(data=bytes(9_000), format="jpeg").SerializeToString()
SMALL_IMAGE = CompressedImage(data=bytes(3_000), format="jpeg").SerializeToString()
EVENT = Event(kind="bookmark", source="test").SerializeToString()


def until(condition: Callable[[], Any], seconds: float = 20.0) -> None:
    """Waits for something another thread does; the time is a limit, not a measure."""
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "did not happen"
        time.sleep(0.005)


def open_files(spool: Path) -> list[Path]:
    return sorted(spool.glob("*/*.open"))


@pytest.mark.parametrize("stream", channels.STREAMS)
def test_mcaps_own_readers_read_every_sealed_file(make_stream, stream: str) -> None:
    made = make_stream(stream, chunk_seconds=0.02, segment_seconds=0.2)
    topic = "/event" if stream == channels.READINGS else "/camera/front"
    payload = EVENT if stream == channels.READINGS else b""
    for index in range(60):
        assert made.segments.write(topic, 1000 + index, 0, payload, index)
        time.sleep(0.01)
    assert made.segments.close()
    assert made.durable == list(range(60))
    assert len(made.sealed) >= 2 and made.errors == []
    times: list[int] = []
    for path in made.sealed:
        assert verify(path) == []
        with path.open("rb") as file:
            seeking = make_reader(file, validate_crcs=True)
            summary = seeking.get_summary()
            assert summary is not None and summary.statistics is not None
            found = [message.log_time for _, _, message in seeking.iter_messages()]
            assert {metadata.name for metadata in seeking.iter_metadata()} >= {"segment"}
            assert summary.statistics.message_count == len(found)
            assert summary.statistics.chunk_count == len(summary.chunk_indexes)
        with path.open("rb") as file:
            streamed = [record for record in StreamReader(file, validate_crcs=True).records if type(record).__name__ == "Message"]
        assert [record.log_time for record in streamed] == found == [message.log_time for message in read(path)]
        assert [record.sequence for record in streamed] == list(range(1, len(found) + 1))
        times += found
    assert times == list(range(1000, 1060))
    assert open_files(made.spool) == []


def test_everything_before_the_first_chunk_is_in_the_file_and_describes_all_channels(make_open) -> None:
    made = make_open(channels.IMAGES, 0)
    found: list[Any] = []
    with made.path_open.open("rb") as file, pytest.raises(EndOfFile):
        for record in StreamReader(file).records:
            found.append(record)
    metadata = [record for record in found if isinstance(record, Metadata)]
    assert metadata[0].name == "segment"
    assert metadata[0].metadata == {
        "segment_id": "truck-1-89abcdef-01234567-000001-images",
        "truck": "truck-1",
        "stream": "images",
        "boot_id": "89abcdef-boot",
        "format": "1",
    }
    assert [record.topic for record in found if isinstance(record, Channel)] == ["/camera/front", "/gap", "/event"]
    assert {record.name for record in found if isinstance(record, Schema)} == {
        "foxglove.CompressedImage", "cruisers.Gap", "cruisers.Event",
    }  # fmt: skip


def test_the_head_is_synced_with_its_folder_before_the_first_chunk_and_each_chunk_before_it_is_told(make_stream, monkeypatch) -> None:
    steps: list[str] = []
    for name in ("write_whole", "sync_all", "sync_data", "sync_folder"):
        real = getattr(files, name)
        monkeypatch.setattr(files, name, lambda *args, name=name, real=real: (real(*args), steps.append(name)))
    made = make_stream(on_durable=lambda token: steps.append(f"durable {token}"))
    made.segments.write("/event", 1, 0, EVENT, "a")
    made.segments.write("/event", 2, 0, EVENT, "b")
    made.segments.close()
    steps = steps[steps.index("write_whole") :]  # before it: the folders
    assert steps == [
        "write_whole", "sync_all", "sync_folder",
        "write_whole", "sync_data", "durable a", "durable b",
        "write_whole", "sync_data", "sync_folder",
    ]  # fmt: skip


def test_a_chunk_is_closed_by_the_timer_without_another_write(make_stream) -> None:
    made = make_stream(chunk_seconds=0.05)
    made.segments.write("/event", 1, 0, EVENT, "only")
    until(lambda: made.durable == ["only"])
    (path,) = open_files(made.spool)
    assert [message.log_time for message in read(path)] == [1]
    made.segments.close()


def test_flush_closes_the_chunk_now(make_stream) -> None:
    made = make_stream(chunk_seconds=1000)
    made.segments.write("/event", 1, 0, EVENT, "now")
    made.segments.flush()
    until(lambda: made.durable == ["now"])
    made.segments.close()


def test_a_chunk_is_closed_when_it_is_full(make_stream) -> None:
    made = make_stream(channels.IMAGES, chunk_seconds=1000, chunk_bytes=13_000)
    for index in range(4):
        made.segments.write("/camera/front", index, 0, SMALL_IMAGE, index)
    until(lambda: made.durable == [0, 1, 2, 3])
    made.segments.close()


def test_a_segment_ends_by_its_age_without_another_write(make_stream) -> None:
    made = make_stream(chunk_seconds=0.01, segment_seconds=0.05)
    made.segments.write("/event", 1, 0, EVENT)
    until(lambda: len(made.sealed) == 1)
    (waiting,) = open_files(made.spool)
    assert info(waiting).chunks == 0, "the next file is there before its first message, and nobody seals it empty"
    made.segments.close()
    assert len(made.sealed) == 1 and open_files(made.spool) == []


def test_a_segment_stays_below_its_bytes(make_stream) -> None:
    made = make_stream(channels.IMAGES, chunk_seconds=1000, chunk_bytes=20_000, segment_bytes=100_000)
    for index in range(60):
        made.segments.write("/camera/front", index, 0, IMAGE, index)
    made.segments.close()
    assert len(made.sealed) >= 6
    assert [path.name for path in made.sealed] == [f"{number:06d}-images.mcap" for number in range(1, len(made.sealed) + 1)]
    for path in made.sealed:
        assert sum(len(message.data) for message in read(path)) <= 100_000
    assert made.durable == list(range(60))


def test_the_preamble_is_restated_in_the_first_chunk_of_every_segment(make_stream) -> None:
    made = make_stream(chunk_seconds=0.01, segment_seconds=0.0, preamble=lambda: [("/event", 5, 0, b"")])
    for index in range(3):
        made.segments.write("/event", 10 + index, 0, EVENT, index)
        until(lambda index=index: len(made.sealed) == index + 1)
    made.segments.close()
    assert [[message.log_time for message in read(path)] for path in made.sealed] == [[10, 10], [11, 11], [12, 12]]


def test_a_group_stands_in_one_chunk_however_the_chunks_are_cut(make_stream) -> None:
    made = make_stream(chunk_seconds=0.0)
    for number in range(200):
        made.segments.write_group([Entry("/event", number * 3 + index, 0, EVENT) for index in range(3)], number)
    made.segments.close()
    assert made.durable == list(range(200))
    for path in made.sealed:
        with path.open("rb") as file:
            for chunk in StreamReader(file, emit_chunks=True).records:
                if type(chunk).__name__ == "Chunk":
                    content = records.chunk_content(chunk.data, records.ChunkHead(0, 0, chunk.uncompressed_size, chunk.uncompressed_crc,
                                                                                  chunk.compression, 0, len(chunk.data)))  # fmt: skip
                    times = [message.log_time for message in records.messages(content)]
                    assert len(times) % 3 == 0 and times[0] % 3 == 0


def test_new_channel_metadata_begins_a_new_segment_and_equal_metadata_does_not(make_stream) -> None:
    made = make_stream(chunk_seconds=1000)
    made.segments.describe("/imu/block", {"columns": "[1]"})
    made.segments.write("/imu/block", 1, 0, b"x")
    made.segments.describe("/imu/block", {"columns": "[1]"})
    made.segments.write("/imu/block", 2, 0, b"x")
    made.segments.describe("/imu/block", {"columns": "[2]"})
    made.segments.write("/imu/block", 3, 0, b"x")
    made.segments.close()
    found = [[(message.log_time, message.metadata["columns"]) for message in read(path)] for path in made.sealed]
    assert found == [[(1, "[1]"), (2, "[1]")], [(3, "[2]")]]


def test_writers_in_many_threads_lose_nothing_and_keep_their_order(make_stream) -> None:
    made = make_stream(chunk_seconds=0.01, segment_seconds=0.1)

    def work(thread: int) -> None:
        for index in range(200):
            made.segments.write("/event", thread * 1000 + index, 0, EVENT, (thread, index))

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    made.segments.close()
    times = [message.log_time for path in made.sealed for message in read(path)]
    assert [(time // 1000, time % 1000) for time in times] == made.durable
    for thread in range(4):
        assert [time for time in times if time // 1000 == thread] == [thread * 1000 + index for index in range(200)]


@pytest.mark.parametrize("operation", ["write_whole", "sync_data", "sync_all", "sync_folder"])
@pytest.mark.parametrize("at", [1, 2, 4, 7])
def test_what_the_disk_refused_is_written_again_to_a_new_segment(make_stream, monkeypatch, operation: str, at: int) -> None:
    real, calls, refused = getattr(files, operation), [0], []

    def sometimes(*args: Any) -> None:
        calls[0] += 1
        if calls[0] in (at, at + 1):
            refused.append(args[0])
            if operation == "write_whole":  # a torn write: half of it reaches the file
                whole = b"".join(args[1:])
                real(args[0], whole[: len(whole) // 2])
            raise OSError(errno.EIO, "refused by the test")
        real(*args)

    monkeypatch.setattr(files, operation, sometimes)
    made = make_stream(chunk_seconds=0.0, segment_seconds=0.02, preamble=lambda: [("/gap", 1, 0, Gap(source="p").SerializeToString())])
    for index in range(40):
        made.segments.write("/event", 100 + index, 0, EVENT, index)
        time.sleep(0.002)
    assert made.segments.close()
    monkeypatch.setattr(files, operation, real)
    assert len(made.errors) == len(refused)
    assert made.durable == list(range(40)), "each told once, in order"
    reports = recover_spool(made.spool)
    assert all(report.recovered for report in reports)
    paths = sorted(made.spool.glob("*/*.mcap"))
    for path in paths:
        assert verify(path) == []
    times = [message.log_time for path in paths for message in read(path) if message.topic == "/event"]
    assert sorted(times) == list(range(100, 140)), "nothing is missing and nothing stands twice"


def test_a_failed_sync_is_never_tried_again_on_the_same_file(make_stream, monkeypatch) -> None:
    real, names = files.sync_data, []

    def sync(fd: int) -> None:
        names.append(Path(f"/proc/self/fd/{fd}").resolve().name)
        if len(names) == 2:
            raise OSError(errno.EIO, "refused by the test")
        real(fd)

    monkeypatch.setattr(files, "sync_data", sync)
    made = make_stream(chunk_seconds=0.0)
    for index in range(5):
        made.segments.write("/event", index, 0, EVENT, index)
        until(lambda index=index: made.durable == list(range(index + 1)))
    made.segments.close()
    assert [name[:6] for name in names] == ["000001"] * 2 + ["000002"] * 5  # four more chunks and the seal
    assert open_files(made.spool) == [made.spool / "89abcdef-01234567" / "000001-readings.mcap.open"]
    report = recover(open_files(made.spool)[0])
    assert [message.log_time for message in read(report.path) if message.topic == "/event"] == [0]
    assert [message.log_time for message in read(made.sealed[0])] == [1, 2, 3, 4]


def test_a_new_file_that_fails_before_its_first_durable_chunk_leaves_nothing(make_stream, monkeypatch) -> None:
    real, left = files.sync_all, [3]

    def sync(fd: int) -> None:
        left[0] -= 1
        if left[0] >= 0:
            raise OSError(errno.ENOSPC, "full")
        real(fd)

    monkeypatch.setattr(files, "sync_all", sync)
    made = make_stream(chunk_seconds=0.0)
    made.segments.write("/event", 1, 0, EVENT, "x")
    until(lambda: made.durable == ["x"])
    made.segments.close()
    assert [error.errno for error in made.errors] == [errno.ENOSPC] * 3
    assert [path.name for path in made.spool.glob("*/*")] == ["000001-readings.mcap"], "and no number is lost"


def test_images_that_find_no_memory_are_refused_counted_and_written_down_as_a_gap(make_stream, monkeypatch) -> None:
    disk = threading.Event()
    real = files.sync_data
    monkeypatch.setattr(files, "sync_data", lambda fd: (disk.wait(), real(fd)))
    made = make_stream(channels.IMAGES, chunk_seconds=0.0, memory_bytes=100_000)
    taken = [made.segments.write("/camera/front", index, 77, IMAGE, index) for index in range(30)]
    assert taken[0] and not taken[-1]
    assert made.segments.stats().waiting_bytes <= 100_000
    assert made.segments.stats().dropped == taken.count(False)
    disk.set()
    until(lambda: made.segments.stats().waiting_bytes == 0)
    assert made.segments.write("/camera/front", 100, 77, IMAGE, 100)
    assert made.segments.close()
    assert made.durable == [index for index in range(30) if taken[index]] + [100]
    messages = [message for path in made.sealed for message in read(path)]
    (gap,) = [message.message for message in messages if message.topic == "/gap"]
    assert (gap.source, gap.count) == ("/camera/front", taken.count(False))
    refused = [index for index in range(30) if not taken[index]]
    assert (gap.from_boottime_ns, gap.to_boottime_ns) == (refused[0], refused[-1])


@pytest.mark.parametrize("together", [1, 10])
def test_the_memory_counted_for_what_waits_is_the_memory_it_takes(make_stream, monkeypatch, together: int) -> None:
    disk = threading.Event()
    real = files.sync_data
    monkeypatch.setattr(files, "sync_data", lambda fd: (disk.wait(), real(fd)))
    made = make_stream(chunk_seconds=1000)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(0, 5_000, together):  # small messages: what they cost beside their data counts most
            times = range(2**40 + number, 2**40 + number + together)
            assert made.segments.write_group([Entry("/event", at, 2**60 + at, bytes([at % 256]) * 40) for at in times], (9, 2**20 + number))
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
        disk.set()
    counted = made.segments.stats().waiting_bytes
    made.segments.close()
    assert 0.8 * taken < counted < 1.5 * taken


def test_write_never_waits_for_a_stalled_disk(make_stream, monkeypatch) -> None:
    disk = threading.Event()
    real = files.sync_data
    monkeypatch.setattr(files, "sync_data", lambda fd: (disk.wait(), real(fd)))
    made = make_stream(chunk_seconds=0.0)
    for index in range(500):  # the disk answers only after the last of these returned
        assert made.segments.write("/event", index, 0, EVENT, index)
    assert made.durable == []
    disk.set()
    made.segments.close()
    assert made.durable == list(range(500))
    assert made.segments.stats().longest_commit_s > 0


def test_close_on_a_dead_disk_ends_and_says_what_is_lost(make_stream, monkeypatch) -> None:
    def refuse(fd: int) -> None:
        raise OSError(errno.EROFS, "read-only")

    monkeypatch.setattr(files, "sync_all", refuse)
    made = make_stream(chunk_seconds=1000)
    made.segments.write("/event", 1, 0, EVENT, "x")
    assert made.segments.close() is False
    assert made.durable == [] and len(made.errors) == 1 + 3, "at its start, and three times at its end"


def test_wrong_messages_are_refused_at_the_caller_and_do_not_harm_the_writer(make_stream) -> None:
    made = make_stream()
    for wrong in (("/nowhere", 1, 0, b""), ("/event", -1, 0, b""), ("/event", 1 << 64, 0, b""), ("/event", 1, -5, b"")):
        with pytest.raises(ValueError):
            made.segments.write(*wrong)
    with pytest.raises(ValueError):
        made.segments.write("/head/frames", 1, 0, b"\xff\xff")
    made.segments.write("/head/frames", 1, 0, HeadFrames(head_boot=1, last_sequence=2).SerializeToString(), "ok")
    assert made.segments.close()
    assert made.durable == ["ok"]
    with pytest.raises(RuntimeError):
        made.segments.write("/event", 1, 0, EVENT)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_callback_that_raises_stops_the_writing_loudly(make_stream) -> None:
    def broken(token: object) -> None:
        raise RuntimeError("broken callback")

    made = make_stream(chunk_seconds=0.0, on_durable=broken)
    made.segments.write("/event", 1, 0, EVENT, "x")
    with pytest.raises(RuntimeError, match="broken callback"):
        made.segments.close()
    with pytest.raises(RuntimeError, match="died"):
        made.segments.write("/event", 2, 0, EVENT)


def test_a_chunk_whose_crc_would_be_zero_is_written_so_that_it_is_not(tmp_path, forge) -> None:
    data = forge(lambda four: zlib.crc32(records.message_head(1, 1, 5, 0, 4) + four))
    types = [channels.ChannelType("/raw", "raw", "")]
    writer = SegmentWriter.create(tmp_path / "000001-images.mcap", Identity("i", "t", "images", "b"), types, {})
    writer.append([Entry("/raw", 5, 0, data)])
    path = writer.seal()
    assert verify(path) == []
    with path.open("rb") as file:
        assert [message.data for _, _, message in make_reader(file, validate_crcs=True).iter_messages()] == [data]


def test_a_mark_whose_crc_would_be_zero_is_written_so_that_it_is_not(forge) -> None:
    def written(four: bytes) -> records.MarkedChunk:
        return records.marked_chunk(1, 500, [records.message_head(1, 1, 5, 0, 4), four], 5, 5, records.UNCOMPRESSED)

    start = written(b"four").mark[:-4]

    def stamp(four: bytes) -> int:
        content = records.message_head(1, 1, 5, 0, 4) + four
        head = struct.pack("<QQQIIQ", 5, 5, len(content), zlib.crc32(content), 0, len(content))
        return zlib.crc32(start + records.RECORD.pack(6, len(head) + len(content)) + head + content)

    data = forge(stamp)
    chunk = written(data)
    record = b"".join([chunk.head, *chunk.data])
    longer = records.MARK.pack(*records.MARK.unpack(written(data).mark)[:5], len(record), 0)[:-4]
    assert len(record) > records.MARK.unpack(start + bytes(4))[5], "a filler was added"
    assert int.from_bytes(chunk.mark[-4:], "little") == zlib.crc32(longer + record) != 0
    head = records.parse_chunk_head(record, 0, len(record))
    assert [message.data for message in records.messages(records.chunk_content(record, head))] == [data]


def test_what_is_restated_at_the_start_of_a_segment_does_not_make_it_begin_earlier(make_stream) -> None:
    old, new = ("/trim", 5, 90, b""), ("/clock", 1_005, 90, b"")
    made = make_stream(chunk_seconds=1000, preamble=lambda: [old, new])
    made.segments.write("/event", 1_000, 70, EVENT)
    made.segments.write("/event", 1_010, 80, EVENT)
    assert made.segments.close()
    found = [(message.topic, message.log_time) for message in read(made.sealed[0])]
    assert found == [("/trim", 1_000), ("/clock", 1_005), ("/event", 1_000), ("/event", 1_010)]
    told = info(made.sealed[0])
    assert (told.first_time, told.last_time, told.first_utc, told.last_utc) == (1_000, 1_010, 70, 90)


def test_info_tells_what_a_segment_holds(make_open) -> None:
    made = make_open(channels.READINGS, 6)
    found = info(made.path_open)
    assert found.segment_id == "truck-1-89abcdef-01234567-000001-readings"
    assert (found.truck, found.stream, found.sealed, found.chunks) == ("truck-1", "readings", False, 6)
    assert found.messages == {"/reading/bmp390": 24, "/head/frames": 6}
    assert (found.first_time, found.last_time) == (1_000_000_000, 3_500_000_003)
    assert (found.first_utc, found.last_utc) == (1_000_007_000, 3_500_007_000)
    assert found.bytes == len(made.data)


def test_a_recovery_beside_a_living_writer_leaves_its_file_alone(make_stream) -> None:
    made = make_stream(chunk_seconds=0.0)
    made.segments.write("/event", 1, 0, EVENT, "before")
    until(lambda: made.durable == ["before"])
    assert recover_spool(made.spool) == [] and files.is_locked(open_files(made.spool)[0])
    made.segments.write("/event", 2, 0, EVENT, "after")
    assert made.segments.close()
    assert [message.log_time for message in read(made.sealed[0])] == [1, 2]
