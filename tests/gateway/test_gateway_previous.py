"""What a recorder learns from the folders of those before it."""

import itertools
import os
from pathlib import Path

import pytest

from gateway.previous import last_messages
from logbook import reader
from logbook.channels import CLOCK, POSITION, READINGS
from logbook.schemas import cruisers_pb2 as pb
from logbook.segment import Segments

pytestmark = pytest.mark.timeout(60)

BOOT = "0a1b2c3d"


def last_times(spool: Path, topics: list[str]) -> dict[str, int]:
    return {topic: message.log_time for topic, message in last_messages(spool, BOOT, topics).items()}


def folder(spool: Path, name: str, segments: list[dict[str, list[int]]]) -> None:
    """A sealed folder with these segments: times by topic."""
    number = itertools.count(1).__next__
    for times in segments:
        written = Segments(
            spool, "truck-1", "0" * 36, READINGS, name, number, 60.0,
            on_durable=lambda token: None, on_sealed=lambda path: None, on_error=lambda error: None,
        )  # fmt: skip
        for topic, moments in times.items():
            message = pb.Position() if topic == POSITION else pb.ClockMapping()
            for at in moments:
                written.write(topic, at, 0, message.SerializeToString())
        assert written.close()
    order = int(name[-1])
    os.utime(spool / name, ns=(order * 10**9, order * 10**9))


def test_the_newest_time_of_each_topic_counts_also_from_the_segment_before_the_last(tmp_path: Path) -> None:
    folder(tmp_path, f"{BOOT}-1", [{POSITION: [1, 9]}, {POSITION: [20, 10], CLOCK: [30]}, {CLOCK: [40]}])
    assert last_times(tmp_path, [POSITION, CLOCK]) == {POSITION: 20, CLOCK: 40}
    assert last_times(tmp_path, [CLOCK]) == {CLOCK: 40}


def test_a_recorder_killed_before_a_source_spoke_does_not_hide_the_one_before(tmp_path: Path) -> None:
    folder(tmp_path, f"{BOOT}-1", [{POSITION: [5], CLOCK: [6]}])
    folder(tmp_path, f"{BOOT}-2", [{CLOCK: [8]}])
    assert last_times(tmp_path, [POSITION, CLOCK]) == {POSITION: 5, CLOCK: 8}


def test_times_of_another_boot_of_the_kernel_mean_nothing(tmp_path: Path) -> None:
    folder(tmp_path, "ffffffff-1", [{POSITION: [5]}])
    assert last_times(tmp_path, [POSITION]) == {}


def test_a_damaged_segment_is_said_and_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder(tmp_path, f"{BOOT}-1", [{POSITION: [5]}])
    (tmp_path / f"{BOOT}-1" / "000002-readings.mcap").write_bytes(b"no segment")
    assert last_times(tmp_path, [POSITION]) == {POSITION: 5}
    assert "000002-readings.mcap" in capsys.readouterr().err


def test_messages_that_do_not_count_are_passed_over(tmp_path: Path) -> None:
    folder(tmp_path, f"{BOOT}-1", [{POSITION: [5, 7]}, {POSITION: [9]}])
    found = last_messages(tmp_path, BOOT, [POSITION], lambda message: message.log_time != 9)
    assert found[POSITION].log_time == 7 and isinstance(found[POSITION].message, pb.Position)


def test_images_are_read_only_where_a_camera_is_asked_for_and_no_more_than_the_newest_that_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder(tmp_path, f"{BOOT}-1", [{POSITION: [5]}])
    read: list[str] = []
    monkeypatch.setattr(reader, "read", lambda path: read.append(path.name) or iter(()))
    for number in (2, 3, 4):
        (tmp_path / f"{BOOT}-1" / f"00000{number}-images.mcap").touch()
    last_messages(tmp_path, BOOT, [POSITION])
    assert read == ["000001-readings.mcap"]
    seen = reader.Message("/camera/front", 9, 0, b"", None, {}, 1)
    monkeypatch.setattr(reader, "read", lambda path: read.append(path.name) or iter([seen] if "images" in path.name else ()))
    assert last_messages(tmp_path, BOOT, ["/camera/front"]) == {"/camera/front": seen}
    assert read[1:] == ["000004-images.mcap"]
