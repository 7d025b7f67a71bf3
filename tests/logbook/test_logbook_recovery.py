"""Recovery: random cuts, one-bit flips, zeroed pages, a killed process. Every whole chunk is kept, nothing wrong is ever accepted."""

import fcntl
import os
import random
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import pytest
from mcap.reader import make_reader
from mcap.stream_reader import StreamReader

from logbook import channels, files, records
from logbook.reader import Message, SegmentError, info, read, verify
from logbook.recovery import Busy, Report, last_head_frames, recover, recover_spool
from logbook.segment_writer import Entry, Identity, SegmentWriter

pytestmark = pytest.mark.timeout(60)


def content(messages: list[Message]) -> list[Entry]:
    """What was written, without the Gaps that recovery added."""
    return [Entry(*message[:4]) for message in messages if message.topic != "/gap"]


def gaps(path: Path) -> list[Any]:
    return [message.message for message in read(path) if message.topic == "/gap"]


def check_sealed(report: Report) -> None:
    """A recovered file is an ordinary one for us and for `mcap`."""
    assert report.recovered and report.path.suffix == ".mcap" and verify(report.path) == []
    with report.path.open("rb") as file:
        seeking = sum(1 for _ in make_reader(file, validate_crcs=True).iter_messages())
    with report.path.open("rb") as file:
        streamed = sum(type(record).__name__ == "Message" for record in StreamReader(file, validate_crcs=True).records)
    assert seeking == streamed == sum(1 for _ in read(report.path))


@pytest.mark.parametrize("stream", channels.STREAMS)
def test_a_cut_anywhere_keeps_every_chunk_that_was_whole(make_open, stream: str) -> None:
    made = make_open(stream)
    dice = random.Random(1)
    cuts = [*made.durable, *(dice.randrange(len(made.data) + 1) for _ in range(130))]
    for number, cut in enumerate(cuts):
        path = made.fresh(made.data[:cut], f"cut-{number}")
        report = recover(path)
        assert not path.exists()
        if cut < made.durable[0]:
            assert not report.recovered and report.path.name.endswith(".damaged")
            assert report.path.read_bytes() == made.data[:cut], "set aside as it was"
            continue
        whole = sum(cut >= end for end in made.durable[1:])
        assert report.kept_chunks == whole
        assert report.cut_bytes == cut - made.durable[whole]
        assert content(list(read(report.path))) == made.entries(whole)
        assert (report.reason == "not sealed") == (report.cut_bytes == 0) == report.lossless
        (gap,) = gaps(report.path)
        assert gap == report.gaps[0] and "without sealing" in gap.reason and gap.source == stream
        if number % 10 == 0:
            check_sealed(report)


@pytest.mark.parametrize("stream", channels.STREAMS)
def test_after_a_power_cut_every_synced_chunk_is_there_whatever_follows_it(make_open, stream: str) -> None:
    made = make_open(stream)
    dice = random.Random(2)
    for number in range(80):
        chunks = dice.randrange(len(made.chunks))
        in_flight = made.data[made.durable[chunks] : made.durable[chunks + 1]]
        kind = dice.choice(["zeros", "noise", "holes", "short"])
        if kind == "zeros":
            tail = bytes(dice.randrange(1, 9_000))
        elif kind == "noise":
            tail = dice.randbytes(dice.randrange(1, 9_000))
        elif kind == "holes":  # the size arrived, a page of the content did not
            start = dice.randrange(len(in_flight) - 8)
            length = min(512, len(in_flight) - start)
            tail = in_flight[:start] + bytes(length) + in_flight[start + length :]
        else:
            tail = in_flight[: dice.randrange(len(in_flight))] + dice.randbytes(dice.randrange(50))
        report = recover(made.fresh(made.data[: made.durable[chunks]] + tail, f"power-{number}"))
        if kind == "holes" and tail == in_flight:  # the page held zeros anyway
            chunks += 1
        assert content(list(read(report.path))) == made.entries(chunks)
        if kind == "zeros":
            assert report.reason == "tail of zeros"
        if number % 10 == 0:
            check_sealed(report)


@pytest.mark.parametrize("stream", channels.STREAMS)
def test_one_flipped_bit_costs_at_most_the_chunk_it_hit_and_is_said(make_open, stream: str) -> None:
    made = make_open(stream, 12)
    dice = random.Random(3)
    # The first 60 bytes of a chunk (and its mark) are where MCAP alone is blind: half of the flips there.
    places = [made.durable[dice.randrange(12)] + dice.randrange(97) for _ in range(100)]
    places += [dice.randrange(len(made.data)) for _ in range(100)]
    for number, place in enumerate(places):
        flipped = bytearray(made.data)
        flipped[place] ^= 1 << dice.randrange(8)
        path = made.fresh(bytes(flipped), f"flip-{number}")
        report = recover(path)
        if place < made.durable[0]:
            assert not report.recovered and report.path.read_bytes() == flipped
            assert report.gaps[0].from_boottime_ns == made.chunks[0][0].log_time
            continue
        hit = sum(place >= end for end in made.durable) - 1
        kept = [entry for index, entries in enumerate(made.chunks) if index != hit for entry in entries]
        assert content(list(read(report.path))) == kept
        assert not report.lossless and report.kept_chunks == 11
        found = gaps(report.path)
        if hit < 11:
            assert report.damaged_chunks == 1
            assert found[0].count == len(made.chunks[hit])
            assert found[0].from_boottime_ns == (made.chunks[hit - 1][-1].log_time if hit else 0)
            assert found[0].to_boottime_ns == made.chunks[hit + 1][0].log_time
        else:
            assert found[0].from_boottime_ns == made.chunks[10][-1].log_time and "cut" in found[0].reason
        if number % 10 == 0:
            check_sealed(report)


def test_several_damaged_chunks_are_each_skipped_and_counted(make_open) -> None:
    made = make_open(channels.READINGS, 12)
    data = bytearray(made.data)
    for chunk in (2, 3, 7):
        data[made.durable[chunk] + 50] ^= 0xFF
    data[made.durable[9] : made.durable[9] + 200] = bytes(200)
    report = recover(made.fresh(bytes(data)))
    kept = [entry for index, entries in enumerate(made.chunks) if index not in (2, 3, 7, 9) for entry in entries]
    assert content(list(read(report.path))) == kept
    assert (report.kept_chunks, report.damaged_chunks) == (8, 4)
    assert [gap.count for gap in gaps(report.path)] == [10, 5, 5, 0]
    check_sealed(report)


def test_messages_missing_over_two_damaged_stretches_are_counted_once(make_open) -> None:
    made = make_open(channels.READINGS, 1)
    writer = SegmentWriter.create(
        made.path_open.with_name("000002-readings.mcap"), Identity("i", "t", channels.READINGS, "b"), channels.channel_types("readings"), {}
    )
    ends = [writer.size]
    for number in range(7):  # an event only in chunks 0, 2, 4 and 6: chunk 3 says nothing about the hole in its numbers
        topics = ["/gap", "/event"] if number % 2 == 0 else ["/gap"]
        writer.append([Entry(topic, number, 0, b"") for topic in topics])
        ends.append(writer.size)
    writer.close()
    data = bytearray(writer.open_path.read_bytes())
    for chunk in (2, 4):
        data[ends[chunk] + 50] ^= 0xFF
    writer.open_path.write_bytes(data)
    report = recover(writer.open_path)
    counts = [gap.count for gap in report.gaps if gap.reason == "damaged chunk"]
    assert len(counts) == 2 and sum(counts) == 4, "two of /gap, two of /event, whatever the stretch"
    check_sealed(report)


def test_frames_of_a_file_set_aside_under_any_name_are_not_durable(make_open) -> None:
    made = make_open(channels.READINGS, 3)
    folder = made.path_open.parent
    for name in ("000001-readings.mcap.damaged", "000001-readings.mcap.damaged.2"):
        made.path_open.rename(folder / name)
        assert last_head_frames(folder.parent) == {}
        (folder / name).rename(made.path_open)
    assert last_head_frames(folder.parent) == {9: 12}


def test_a_mark_that_says_another_number_or_place_is_damage(make_open) -> None:
    made = make_open(channels.READINGS, 3)
    for place in (*range(13, 17), *range(17, 33)):
        data = bytearray(made.data)
        data[made.durable[1] + place] ^= 0x10
        report = recover(made.fresh(bytes(data), f"mark-{place}"))
        assert (report.kept_chunks, report.damaged_chunks) == (2, 1)
        assert [gap.count for gap in report.gaps][0] == 5


def test_every_flipped_bit_of_a_sealed_file_is_found_by_verify_and_no_wrong_message_is_read(make_open) -> None:
    made = make_open(channels.READINGS, 4)
    sealed = recover(made.fresh(made.data)).path.read_bytes()
    originals = set(made.entries(4))
    dice = random.Random(4)
    path = made.path_open.with_name("000009-readings.mcap")
    for _ in range(300):
        flipped = bytearray(sealed)
        flipped[dice.randrange(len(sealed))] ^= 1 << dice.randrange(8)
        path.write_bytes(flipped)
        assert verify(path) != []
        try:
            messages = content(list(read(path)))
        except SegmentError:
            continue
        assert set(messages) <= originals and len(messages) >= 15


def test_a_segment_inside_an_image_is_not_mistaken_for_chunks_of_the_file(make_open, tmp_path) -> None:
    inner = make_open(channels.IMAGES, 3)
    types = channels.channel_types(channels.IMAGES, ["front"])
    path = tmp_path / "outer" / "a" / "000001-images.mcap"
    writer = SegmentWriter.create(path, Identity("i", "t", channels.IMAGES, "b"), types, {})
    evil = Entry("/camera/front", 5, 0, inner.data)
    writer.append([evil])
    writer.append([Entry("/gap", 6, 0, b"")])
    writer.close()
    data = bytearray(writer.open_path.read_bytes())
    data[data.index(inner.data) - 70] ^= 1  # damage the chunk that holds it: the search walks through the inner segment
    writer.open_path.write_bytes(data)
    report = recover(writer.open_path)
    assert (report.kept_chunks, report.damaged_chunks) == (1, 1)
    assert [message.topic for message in read(report.path)] == ["/gap"] * 3


@pytest.mark.parametrize("cut_from_end", [0, 1, 8, 40, 200, 2_000, 10_000])
def test_a_seal_cut_anywhere_loses_nothing(make_open, cut_from_end: int) -> None:
    made = make_open(channels.READINGS, 5)
    sealed = recover(made.fresh(made.data)).path.read_bytes()
    chunks_end = sealed.rindex(b"CRMK")  # the Gap chunk is the last one
    cut = max(len(sealed) - cut_from_end, chunks_end + 400)
    report = recover(made.fresh(sealed[:cut], "again"))
    assert content(list(read(report.path))) == made.entries(5)
    assert report.damaged_chunks == 0
    if cut_from_end == 0:
        assert report.reason == "sealed but not renamed" and report.path.read_bytes() == sealed
    check_sealed(report)


def test_recovery_cut_at_any_write_starts_again_from_the_same_chunks(make_open, monkeypatch) -> None:
    made = make_open(channels.READINGS, 8)
    data = bytearray(made.data)
    data[made.durable[3] + 60] ^= 0xFF
    data += b"torn"
    kept = [entry for index, entries in enumerate(made.chunks) if index != 3 for entry in entries]
    real_write, real_sync = files.write_whole, files.sync_data
    for fail_at in range(1, 5):
        path = made.fresh(bytes(data), f"fail-{fail_at}")
        steps = [0]

        def step(fd: int, *parts: bytes, steps: list[int] = steps, fail_at: int = fail_at) -> None:
            steps[0] += 1
            written = b"".join(parts)
            if steps[0] == fail_at:
                if parts:
                    real_write(fd, written[: len(written) // 3])
                raise OSError(28, "full")
            real_write(fd, written) if parts else real_sync(fd)

        monkeypatch.setattr(files, "write_whole", step)
        monkeypatch.setattr(files, "sync_data", step)
        with pytest.raises(OSError):
            recover(path)
        monkeypatch.setattr(files, "write_whole", real_write)
        monkeypatch.setattr(files, "sync_data", real_sync)
        report = recover(path)
        assert content(list(read(report.path))) == kept
        assert any(gap.count == 5 for gap in gaps(report.path)), "the damaged chunk is said in the end"
        check_sealed(report)


def test_a_file_being_written_is_left_alone(make_open) -> None:
    made = make_open(channels.READINGS, 3)
    with made.path_open.open("rb") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        with pytest.raises(Busy):
            recover(made.path_open)
        assert recover_spool(made.path_open.parent.parent) == []
        assert made.path_open.read_bytes() == made.data
    (report,) = recover_spool(made.path_open.parent.parent)
    assert report.kept_chunks == 3


def test_only_open_files_are_touched_and_a_sealed_name_is_never_overwritten(make_open) -> None:
    made = make_open(channels.READINGS, 3)
    folder = made.path_open.parent
    sealed = folder / "000001-readings.mcap"
    sealed.write_bytes(b"sealed before")
    (folder / "notes.txt").write_bytes(b"mine")
    with pytest.raises(ValueError):
        recover(sealed)
    (report,) = recover_spool(folder.parent)
    assert not report.recovered and report.path.read_bytes() == made.data
    assert sealed.read_bytes() == b"sealed before" and (folder / "notes.txt").read_bytes() == b"mine"
    made.path_open.write_bytes(b"")  # a second one of the same name is set aside beside the first
    (again,) = recover_spool(folder.parent)
    assert again.path != report.path and report.path.read_bytes() == made.data


def test_a_disk_that_refuses_is_reported_and_the_file_stays_for_the_next_time(make_open, monkeypatch) -> None:
    made = make_open(channels.READINGS, 3)

    def refuse(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "sync_data", refuse)
    (report,) = recover_spool(made.path_open.parent.parent)
    assert "No space left" in report.error and not report.recovered and made.path_open.exists()
    monkeypatch.undo()
    (report,) = recover_spool(made.path_open.parent.parent)
    assert content(list(read(report.path))) == made.entries(3)


def test_the_newest_durable_head_frames_are_found_in_sealed_open_and_damaged_files(make_open) -> None:
    made = make_open(channels.READINGS, 6)
    spool = made.path_open.parent.parent
    assert last_head_frames(spool) == {9: 24}
    data = bytearray(made.data)
    data[made.durable[5] + 60] ^= 1  # the newest chunk is damaged: its frames are not durable
    made.path_open.write_bytes(data)
    assert last_head_frames(spool) == {9: 20}
    (report,) = recover_spool(spool)
    assert last_head_frames(spool) == {9: 20}
    sealed = bytearray(report.path.read_bytes())
    place = sealed.rindex(b"head_frames", 0, sealed.rindex(b"head_frames"))  # the record itself, not its index
    sealed[sealed.index(b"20", place)] ^= 1  # "20" becomes "30": its CRC says no, the chunks are read
    report.path.write_bytes(sealed)
    assert last_head_frames(spool) == {9: 20}


WRITER = """
import itertools, os, sys, time
from pathlib import Path
from typing import Any
from logbook.schemas.cruisers_pb2 import Event
from logbook.segment import Segments
numbers = itertools.count(1)
streams = Segments(Path(sys.argv[1]), "truck-1", "boot", "readings", sys.argv[2], lambda: next(numbers), 0.15, None, 0.01,
                   on_durable=lambda token: os.write(1, b"%d\\n" % token), on_sealed=lambda path: None, on_error=lambda error: None)
for index in itertools.count():
    streams.write("/event", index, 0, Event(detail="x" * (index % 300)).SerializeToString(), index)
    time.sleep(0.0005)
"""


def test_a_writer_killed_at_any_moment_loses_nothing_it_told(tmp_path) -> None:
    dice = random.Random(5)
    for attempt in range(8):
        child = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), f"run-{attempt}"], stdout=subprocess.PIPE)
        assert child.stdout is not None
        told = os.read(child.stdout.fileno(), 100_000)
        time.sleep(dice.uniform(0, 0.3))
        child.send_signal(signal.SIGKILL)
        told += child.stdout.read()
        child.wait()
        tokens = [int(line) for line in told.split(b"\n")[:-1]]
        reports = recover_spool(tmp_path)
        assert len(reports) <= 2, "the open file, and beside it the next one where a change of segment was cut"
        times = []
        for path in sorted((tmp_path / f"run-{attempt}").glob("*.mcap")):
            assert verify(path) == []
            times += [message.log_time for message in read(path) if message.topic == "/event"]
        assert tokens == list(range(len(tokens)))
        assert times == list(range(len(times))), "nothing missing in between, nothing twice"
        assert len(times) >= len(tokens) > 0


def test_a_chunk_with_a_crc_of_zero_counts_as_damage(make_open, forge) -> None:
    made = make_open(channels.IMAGES, 3)

    def record(four: bytes) -> bytes:  # without marked_chunk's care for a CRC of 0
        content = records.message_head(1, 1, 5, 0, 4) + four
        head = struct.pack("<QQQIIQ", 5, 5, len(content), zlib.crc32(content), 0, len(content))
        return records.RECORD.pack(6, len(head) + len(content)) + head + content

    offset = len(made.data)

    def mark(sequence: int, offset: int, record: bytes) -> bytes:
        start = records.MARK.pack(records.MARK_OPCODE, records.MARK.size - 9, records.MARK_TEXT, sequence, offset, len(record), 0)[:-4]
        return start + struct.pack("<I", zlib.crc32(start + record))

    zero = record(forge(lambda four: int.from_bytes(mark(4, offset, record(four))[-4:], "little")))
    good = record(b"good")
    data = made.data + mark(4, offset, zero) + zero
    data += mark(5, len(data), good) + good
    report = recover(made.fresh(data))
    assert (report.kept_chunks, report.damaged_chunks) == (4, 1)
    assert content(list(read(report.path)))[-1].data == b"good"


def test_no_file_however_mangled_makes_the_readers_fail_otherwise_than_by_their_own_errors(make_open) -> None:
    made = make_open(channels.READINGS, 4)
    sealed = recover(made.fresh(made.data)).path.read_bytes()
    dice = random.Random(6)
    path = made.path_open.with_name("000009-readings.mcap")
    for number in range(200):
        data = bytearray(sealed)
        for _ in range(dice.randrange(1, 8)):
            start = dice.randrange(len(data))
            kind = dice.randrange(4)
            if kind == 0:
                del data[start : start + dice.randrange(600)]
            elif kind == 1:
                data[start:start] = dice.randbytes(dice.randrange(40))
            elif kind == 2:
                data[start : start + 8] = b"\xff" * 8
            else:
                data[start:start] = data[dice.randrange(len(data)) :][: dice.randrange(3000)]
        path.write_bytes(data)
        assert verify(path) != []
        try:
            list(read(path))
            info(path)
        except SegmentError:
            pass
        report = recover(made.fresh(bytes(data), f"mangled-{number}"))
        if report.recovered:
            assert verify(report.path) == []
