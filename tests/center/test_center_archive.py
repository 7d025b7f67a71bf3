"""The archive: what is stored is found again, in order, and nothing that a crash leaves behind is mistaken for it."""

import math
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from center_keeping import keep

from center.archive import Archive, ArchiveError, file_sha256
from logbook.quantities import G


def test_a_stored_segment_is_the_very_file_and_is_known(archive, maker):
    made = maker.readings()
    assert archive.known(made.announcement.segment_id) is None
    stored = keep(archive, made)
    assert archive.known(stored.segment_id) == stored
    path = archive.path("truck-1", stored.segment_id)
    assert path.read_bytes() == made.path.read_bytes()
    assert stored.sha256 == file_sha256(path)
    assert stored.first_utc_ns > 0


def test_every_imu_sample_comes_back_from_the_column_blocks_in_si_units(archive, maker):
    keep(archive, maker.readings(samples=50))
    times, values = archive.samples("truck-1", "acceleration_x")
    assert times.dtype == np.uint64
    assert len(times) == len(values) == 50
    assert np.allclose(values, np.arange(50) * G / 4096, rtol=1e-12)
    assert np.all(np.diff(times.astype(np.int64)) == 9_778_000)


def test_a_sample_without_number_is_counted_and_is_not_a_number(archive, maker):
    keep(archive, maker.readings(samples=50))
    _, saturated = archive.samples("truck-1", "acceleration_y")
    assert [index for index, value in enumerate(saturated) if math.isnan(value)] == [7]
    _, magnetic = archive.samples("truck-1", "magnetic_field_x")
    assert np.isnan(magnetic).sum() == 25
    assert np.allclose(magnetic[1::2], 200 * 0.15e-6)


def test_a_quantity_that_older_files_have_no_column_for_has_no_samples(archive, maker):
    keep(archive, maker.readings())
    times, values = archive.samples("truck-1", "temperature_imu")
    assert len(times) == len(values) == 0


def test_slow_readings_and_positions_come_back_with_their_absences(archive, maker):
    keep(archive, maker.readings())
    times, pressures = archive.samples("truck-1", "pressure")
    assert len(times) == 3
    assert pressures[:2].tolist() == [101_300.0, 101_301.0]
    assert math.isnan(pressures[2])
    _, latitudes = archive.samples("truck-1", "latitude")
    assert latitudes[:2].tolist() == [35.3, 36.3]
    assert math.isnan(latitudes[2])
    _, speeds = archive.samples("truck-1", "speed")  # never sent: absent, not zero
    assert np.isnan(speeds).all()


def test_samples_are_in_order_of_time_whatever_the_order_of_arrival(archive, maker):
    early, late = maker.readings(start_ns=1_000_000_000), maker.readings(start_ns=61_000_000_000)
    keep(archive, late)
    keep(archive, early)
    times, _ = archive.samples("truck-1", "acceleration_x")
    assert len(times) == 100
    assert np.all(np.diff(times.astype(np.int64)) > 0)


def test_two_boots_are_not_mixed(archive, maker):
    for boot, start in (("11111111-00000000", 5), ("22222222-00000000", 1), ("11111111-00000000", 65)):
        keep(archive, maker.readings(start_ns=start * 1_000_000_000, boot=boot))
    boots = [segment.boot for segment in archive.segments("truck-1", "readings")]
    assert sorted(boots) == boots or sorted(boots, reverse=True) == boots


def test_a_truck_without_segments_has_no_samples_and_an_unknown_quantity_is_an_error(archive, maker):
    times, values = archive.samples("truck-1", "pressure")
    assert (len(times), len(values)) == (0, 0)
    keep(archive, maker.readings())
    with pytest.raises(KeyError):
        archive.samples("truck-1", "colour")


def test_a_file_that_lost_its_index_row_in_a_power_cut_is_adopted(tmp_path, maker):
    archive = Archive(tmp_path / "archive")
    stored = keep(archive, maker.readings())
    archive.close()
    for index in (tmp_path / "archive").glob("index.sqlite*"):
        index.unlink()
    archive = Archive(tmp_path / "archive")
    assert archive.adopted == 1
    known = archive.known(stored.segment_id)
    assert known is not None
    assert known[:11] == stored[:11]
    archive.close()


def test_a_damaged_file_without_row_is_not_adopted_and_a_row_without_file_is_forgotten(tmp_path, maker):
    archive = Archive(tmp_path / "archive")
    damaged, gone = keep(archive, maker.readings()), keep(archive, maker.readings())
    archive.close()
    archive.path("truck-1", gone.segment_id).unlink()
    (tmp_path / "archive/index.sqlite").rename(tmp_path / "kept.sqlite")
    path = archive.path("truck-1", damaged.segment_id)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    again = Archive(tmp_path / "archive")
    assert again.adopted == 0
    assert again.known(damaged.segment_id) is None
    again.close()
    for index in (tmp_path / "archive").glob("index.sqlite*"):
        index.unlink()
    (tmp_path / "kept.sqlite").rename(tmp_path / "archive/index.sqlite")
    last = Archive(tmp_path / "archive")
    assert last.vanished == 1
    assert last.counts("truck-1").stored == 1
    last.close()


def test_a_half_fetched_object_is_gone_after_a_restart(tmp_path):
    archive = Archive(tmp_path / "archive")
    part = archive.incoming("x")
    part.write_bytes(b"half")
    archive.close()
    Archive(tmp_path / "archive").close()
    assert not part.exists()


def test_the_quarantine_is_bounded_and_the_newest_stays(tmp_path, maker):
    archive = Archive(tmp_path / "archive", quarantine_bytes=1500)
    for index in range(3):
        announcement = maker.readings(samples=1).announcement
        part = archive.incoming(announcement.segment_id)
        part.write_bytes(bytes(1000))
        archive.quarantine(part, announcement, f"reason {index}")
        assert archive.refusal(announcement) == f"reason {index}"
    kept = list((tmp_path / "archive/_quarantine").iterdir())
    assert sorted(path.suffix for path in kept) == [".json", ".mcap"]
    assert announcement.segment_id in kept[0].name
    assert archive.counts("truck-1").refused == 3
    addresses = [path for path in (tmp_path / "archive").rglob("*") if path.is_file() and announcement.url.encode() in path.read_bytes()]
    assert addresses == [], "an address is a capability: it is not written down"
    archive.close()


def test_counts_follow_what_is_stored_and_receipted(archive, maker):
    stored = keep(archive, maker.readings())
    keep(archive, maker.readings())
    assert archive.counts("truck-1")[:2] == (2, 0)
    archive.mark_receipted(stored.segment_id)
    assert archive.counts("truck-1")[:2] == (2, 1)
    keep(archive, maker.images([b"1", b"2", b"3"]))
    assert archive.counts("truck-1").pictures == 3
    assert archive.counts("truck-2") == (0, 0, 0, 0, 0)
    assert [segment.truck for segment in archive.newest(None, 1)] == ["truck-1"]
    assert archive.newest("truck-2", 10) == []


def test_a_folder_that_cannot_be_used_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ArchiveError) as caught:
        Archive(tmp_path / "file")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("truck", ["incoming", "quarantine", "index", "lock"])
def test_no_name_of_a_truck_collides_with_the_archives_own_folders(tmp_path, maker, truck):
    archive = Archive(tmp_path / "archive", quarantine_bytes=0)
    stored = keep(archive, maker.readings(truck))
    refused = maker.readings("truck-1").announcement
    part = archive.incoming(refused.segment_id)
    part.write_bytes(b"damaged")
    archive.quarantine(part, refused, "damaged")
    archive.close()
    again = Archive(tmp_path / "archive")
    assert again.known(stored.segment_id) == stored
    again.close()


def test_a_second_center_on_the_same_archive_is_refused(archive):
    with pytest.raises(ArchiveError, match="another center"):
        Archive(archive.folder)


def test_a_whole_file_under_a_name_that_is_not_its_own_is_left_alone(tmp_path, maker):
    archive = Archive(tmp_path / "archive")
    stored = keep(archive, maker.readings())
    path = archive.path("truck-1", stored.segment_id)
    archive.close()
    for name in ("truck-1/copy.mcap", "truck-2/" + path.name, f"truck-1/{stored.segment_id[:-8]}images.mcap"):
        (tmp_path / "archive" / name).parent.mkdir(exist_ok=True)
        shutil.copy(path, tmp_path / "archive" / name)
    again = Archive(tmp_path / "archive")
    assert again.adopted == 0
    assert again.counts("truck-1").stored == 1
    again.close()


def test_a_truck_folder_is_synced_once_by_every_process_before_anything_in_it_counts(archive, maker, monkeypatch):
    """One that another thread has just made, or an earlier process made before it died, may not be on the disk yet."""
    synced: list[Path] = []
    monkeypatch.setattr("center.store.sync", synced.append)
    archive.path("truck-1", "x").parent.mkdir()
    keep(archive, maker.readings())
    keep(archive, maker.readings())
    assert synced.count(archive.folder) == 1


def test_what_the_page_reads_does_not_wait_for_a_write_to_the_disk(archive, maker):
    stored = keep(archive, maker.readings())
    read = []
    with archive.index.writing:  # held while a row is synced, however long the disk takes
        reading = threading.Thread(target=lambda: read.extend([archive.counts("truck-1").stored, archive.newest(None, 1)]), daemon=True)
        reading.start()
        reading.join(20)
        assert read == [1, [stored]]


def test_images_and_positions_of_people_are_for_the_centers_own_user_only(archive):
    assert archive.folder.stat().st_mode & 0o077 == 0
