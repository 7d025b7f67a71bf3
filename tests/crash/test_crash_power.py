"""Power cuts on a file system of ours that forgets what was not synced; the judge itself is tried with writers that are broken.

The long form is `make crash CUTS=1000`."""

import errno
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from crash import ALLOWED_SECONDS, cut_recovery, judge_cut
from crash_disk import Disk
from crash_fuse import mounted, unavailable
from crash_judge import CAMERA, STEP, judge, write_image
from crash_truck import CUT_SECONDS, Cut, driving
from foxglove_schemas_protobuf.CompressedImage_pb2 import CompressedImage

from logbook import channels, files, reader
from logbook.recovery import recover_spool
from logbook.segment import Segments
from logbook.segment_writer import Entry, Identity, SegmentWriter

pytestmark = [pytest.mark.timeout(100), pytest.mark.skipif(bool(unavailable()), reason=f"no FUSE here: {unavailable()}")]

CUTS = 14
PAGE = 4096
IMAGE = CompressedImage(data=bytes(97_000), format="jpeg").SerializeToString()


def until(condition: Callable[[], object], what: str, seconds: float = 20.0) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, f"waited in vain: {what}"
        time.sleep(0.01)


@pytest.fixture
def disk() -> Disk:
    return Disk(1)


@pytest.fixture
def spool(disk: Disk, tmp_path: Path) -> Iterator[Path]:
    with mounted(disk, tmp_path / "disk") as folder:
        yield folder


@pytest.mark.parametrize("faults", [False, True], ids=["a disk that only forgets", "a disk that also stalls and refuses"])
def test_after_a_power_cut_nothing_acknowledged_is_lost_and_every_hole_is_said(tmp_path: Path, faults: bool) -> None:
    seed = 41 + faults
    dice = random.Random(seed)
    cuts: list[Cut] = []
    with driving(tmp_path, seed, faults) as truck:
        for _ in range(CUTS):
            time.sleep(dice.uniform(0, 2 * CUT_SECONDS))
            cuts.append(truck.cut(dice))
    assert any(path.endswith(".mcap") for path in cuts[-1].image), "segments change under way"
    verdicts = [verdict for cut in cuts for _, verdict in judge_cut(cut)]
    assert [verdict for verdict in verdicts if not verdict.ok(ALLOWED_SECONDS)] == []
    assert sum(verdict.acknowledged for verdict in verdicts) > 1_000 and sum(verdict.ranges for verdict in verdicts) > 10


@pytest.mark.parametrize(
    "broken",
    [
        {"sync_data": lambda fd: None},
        {"sync_folder": lambda folder: None},
        {"write_whole": lambda fd, *parts: files.os.write(fd, b"".join(parts)[:-1])},
    ],
    ids=["chunks are not synced", "names are not synced", "a byte of each write is missing"],
)
def test_a_broken_writer_is_found_out_by_the_judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: dict[str, object]) -> None:
    for name, function in broken.items():
        monkeypatch.setattr(files, name, function)
    with driving(tmp_path, 40, faults=False) as truck:
        until(lambda: all(notes.acknowledged for notes in truck.notes.values()), "acknowledgements")
        cut = truck.cut(random.Random(1), "forgotten")
        monkeypatch.undo()
    write_image(cut.image, tmp_path / "spool")
    verdict = judge(tmp_path / "spool", cut.seed, cut.known)
    assert verdict.lost and not verdict.ok(ALLOWED_SECONDS)


def test_a_judge_who_is_lied_to_about_the_content_finds_wrong_samples(tmp_path: Path) -> None:
    with driving(tmp_path, 40, faults=False) as truck:
        until(lambda: all(notes.acknowledged for notes in truck.notes.values()), "acknowledgements")
        cut = truck.cut(random.Random(1), "kept")
    write_image(cut.image, tmp_path / "spool")
    verdict = judge(tmp_path / "spool", cut.seed + 1, cut.known)
    assert verdict.wrong >= cut.known[channels.IMAGES].acknowledged > 0


def test_recovery_itself_may_be_cut_at_each_of_its_changes(tmp_path: Path) -> None:
    dice = random.Random(3)
    with driving(tmp_path, 44, faults=False) as truck:
        until(lambda: all(len(notes.acknowledged) > 20 for notes in truck.notes.values()), "acknowledgements")
        cut = truck.cut(dice, "garbled")
    for operation in range(1, 14, 2):
        image = cut_recovery(
            cut.image, dice, dice.choice(["torn", "zeroed", "garbled", "forgotten"]), operation, tmp_path / f"disk-{operation}"
        )
        write_image(image, tmp_path / f"again-{operation}")
        verdict = judge(tmp_path / f"again-{operation}", cut.seed, cut.known)
        assert verdict.ok(ALLOWED_SECONDS), f"cut at change {operation}: {verdict}"


class Never(random.Random):
    """Of a sync that fails nothing at all reaches the disk."""

    def random(self) -> float:
        return 1.0


class Stream:
    """One stream on the file system that forgets, with what it told."""

    def __init__(self, spool: Path, stream: str) -> None:
        self.durable: list[object] = []
        self.errors: list[OSError] = []
        self.recovered: list[OSError] = []
        numbers = iter(range(1, 1_000))
        self.segments = Segments(
            spool, "truck-1", "89abcdef-boot", stream, "89abcdef-01234567", lambda: next(numbers), 60.0, 16_000_000,
            on_durable=self.durable.append, on_sealed=lambda path: None, on_error=self.errors.append, on_recovered=self.recovered.append,
            topics=[CAMERA] if stream == channels.IMAGES else [],
        )  # fmt: skip


def test_a_sync_that_failed_is_not_believed_when_the_next_one_on_the_same_file_succeeds(disk: Disk, spool: Path) -> None:
    stream = Stream(spool, channels.READINGS)
    assert stream.segments.write("/event", 1, 0, b"", 1)
    until(lambda: stream.durable == [1], "the first chunk")
    failing = [errno.EIO]
    disk.fault = lambda operation, path: failing.pop() if operation == "sync" and failing else None
    disk.dice = random.Random(5)
    assert stream.segments.write("/event", 2, 0, b"", 2)
    until(lambda: stream.durable == [1, 2], "the second chunk, in another file")
    until(lambda: stream.recovered, "the end of the trouble")
    assert [error.errno for error in stream.errors] == [error.errno for error in stream.recovered] == [errno.EIO]
    image = disk.image(random.Random(1), "forgotten")
    assert stream.segments.close()
    folder = spool.parent / "after"
    write_image(image, folder)
    recover_spool(folder)
    times = [message.log_time for path in sorted(folder.glob("*/*.mcap")) for message in reader.read(path) if message.topic == "/event"]
    assert times == [1, 2]


def test_recovery_reads_the_disk_and_not_what_a_failed_sync_left_in_the_cache(disk: Disk, spool: Path, tmp_path: Path) -> None:
    sizes = [0]
    for filler in (0, lambda: -sizes[-1] % PAGE):  # whole pages: those the kernel keeps
        folder = tmp_path / f"ordinary-{len(sizes)}"
        identity = Identity("i", "truck-1", channels.IMAGES, "b")
        writer = SegmentWriter.create(folder / "000001-images.mcap", identity, channels.channel_types(channels.IMAGES, [CAMERA]), {})
        writer.append([Entry("/event", 1, 0, bytes(filler() if callable(filler) else filler))])
        writer.close()
        sizes.append(writer.size)
    whole = writer.open_path.read_bytes()
    assert len(whole) % PAGE == 0
    path = spool / "89abcdef-01234567" / "000001-images.mcap.open"
    path.parent.mkdir()
    with path.open("wb", buffering=0) as file:
        file.write(whole)
        disk.fault = lambda operation, name: errno.EIO if operation == "sync" else None
        disk.dice = Never()
        with pytest.raises(OSError):
            files.sync_all(file.fileno())
        disk.fault = lambda operation, name: None
        files.sync_all(file.fileno())
    assert path.read_bytes() == whole, "the kernel's cache shows what is on no disk"
    (report,) = recover_spool(spool)
    assert not report.recovered and report.kept_chunks == 0


@pytest.mark.parametrize("code", [errno.EIO, errno.EROFS, errno.ENOSPC])
def test_while_the_disk_refuses_nothing_ends_and_when_it_is_back_all_of_it_is_written(disk: Disk, spool: Path, code: int) -> None:
    streams = {stream: Stream(spool, stream) for stream in channels.STREAMS}
    disk.fault = lambda operation, path: code
    for stream, topic in ((channels.READINGS, "/event"), (channels.IMAGES, CAMERA)):
        for number in range(20):
            assert streams[stream].segments.write(topic, 1 + number, 0, IMAGE, number)
        streams[stream].segments.flush()
    for stream in streams.values():
        until(lambda stream=stream: len(stream.errors) > 1, "the disk's refusal")  # type: ignore[misc]
        problem = stream.segments.problem()
        assert problem is not None and problem.errno == code and stream.durable == []
    disk.fault = lambda operation, path: None
    for stream in streams.values():
        until(lambda stream=stream: stream.durable == list(range(20)), "all of it")  # type: ignore[misc]
        until(lambda stream=stream: stream.segments.problem() is None, "the end of the problem")  # type: ignore[misc]
        assert stream.segments.close() and len(stream.recovered) == 1
    assert list(spool.glob("*/*.open")) == []
    for path in spool.glob("*/*.mcap"):
        assert reader.verify(path) == []


def test_a_stall_of_ten_seconds_at_full_rate_loses_nothing_and_a_longer_one_drops_images_and_counts_each(disk: Disk, spool: Path) -> None:
    goes_on = threading.Event()
    readings, images = (Stream(spool, stream) for stream in channels.STREAMS)
    disk.before_sync = lambda path: None if goes_on.wait(60) else None
    ten_seconds = 10 * 30
    for number in range(ten_seconds):
        assert images.segments.write(CAMERA, STEP + number, 0, IMAGE, number), "30 images of 97 kB a second for 10 s"
        assert readings.segments.write("/event", STEP + number, 0, bytes(600), number), "18 kB of readings a second"
    taken = [images.segments.write(CAMERA, STEP + number, 0, IMAGE, number) for number in range(ten_seconds, 3 * ten_seconds)]
    for number in range(ten_seconds, 40 * ten_seconds):
        assert readings.segments.write("/event", STEP + number, 0, bytes(600), number), "readings have room for minutes"
    assert images.segments.stats().waiting_bytes <= 48_000_000 and images.segments.stats().dropped == taken.count(False) > 0
    assert images.segments.stats().stall_s > 0 and images.durable == []
    goes_on.set()
    assert readings.segments.close() and images.segments.close()
    kept = [*range(ten_seconds), *(ten_seconds + index for index, one in enumerate(taken) if one)]
    assert images.durable == kept and readings.durable == list(range(40 * ten_seconds))
    found = [message for path in sorted(spool.glob("*/*-images.mcap")) for message in reader.read(path)]
    assert [message.log_time - STEP for message in found if message.topic == CAMERA] == kept
    gaps = [message.message for message in found if message.topic == channels.GAP]
    assert sum(gap.count for gap in gaps) == taken.count(False)  # type: ignore[union-attr]
