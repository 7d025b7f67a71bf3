"""Stored segments as Delta tables: every row once, whatever is killed and whatever comes late."""

import datetime
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from center_keeping import SECOND, Drive, Said, keep
from deltalake import DeltaTable

from center.archive import Archive
from center.tables import Tables
from center.tables_delta import Delta

pytestmark = pytest.mark.timeout(120)

UTC_S = 1_793_000_000  # of boot time 0; 2026-10-26T07:33:20Z
GNSS = Said(5, UTC_S + 5, 1e-6)


def table_all(archive: Archive, limit: int = 100) -> Tables:
    tables = Tables(archive, held_s=0.0)
    while tables.table(limit):
        pass
    return tables


def rows(archive: Archive, name: str) -> pa.Table:
    table = Delta(archive.objects).table(name)
    assert table is not None, name
    return table.to_pyarrow_table().sort_by([("truck", "ascending"), ("boottime_ns", "ascending")])


def counts(archive: Archive) -> dict[str, int]:
    return {name: len(rows(archive, name)) for name in archive.objects.tables_there()}


@pytest.fixture
def drive(tmp_path):
    return Drive(tmp_path / "spool")


def test_a_segment_becomes_rows_of_each_kind_with_utc_and_a_partition_a_date(archive, drive):
    keep(archive, drive.readings(0, 20, [GNSS]))
    table_all(archive)
    assert counts(archive) == {"clock": 1, "event": 1, "health": 2, "imu": 200, "position": 20, "sps30": 20, "trim": 1}
    pm = rows(archive, "sps30")
    assert pm.column("pm2_5").to_pylist() == [second * 1e-9 for second in range(20)]
    assert pm.column("boottime_ns").to_pylist() == [second * SECOND for second in range(20)]
    assert pm.column("time")[7].as_py() == datetime.datetime.fromtimestamp(UTC_S + 7, datetime.UTC)
    assert set(pm.column("date").to_pylist()) == {datetime.date(2026, 10, 26)}
    assert (archive.folder / "_tables" / "sps30" / "date=2026-10-26").is_dir()
    assert np.allclose(rows(archive, "imu").column("acceleration_x").to_numpy()[:10], 0)


def test_many_segments_of_many_trucks_are_one_file_of_each_table_and_date(archive, tmp_path):
    for number in range(4):
        drive = Drive(tmp_path / f"spool{number}", f"truck-{number}")
        for minute in range(3):
            keep(archive, drive.readings(minute * 10, 10, [GNSS] if minute == 0 else []))
    table_all(archive)
    assert counts(archive)["sps30"] == 120
    assert len(list((archive.folder / "_tables").glob("sps30/date=*/*.parquet"))) == 1
    assert counts(archive)["clock"] == counts(archive)["trim"] == 4, "what every segment restates has one row"


def test_nothing_is_tabled_twice_and_the_order_of_arrival_does_not_matter(archive, drive):
    first, second, third = (drive.readings(start, 10, [GNSS] if start == 0 else []) for start in (0, 10, 20))
    keep(archive, third)
    table_all(archive)
    keep(archive, first)
    keep(archive, third)  # stored once more: the same row of the index
    table_all(archive)
    keep(archive, second)
    table_all(archive)
    table_all(archive)
    assert rows(archive, "sps30").column("boottime_ns").to_pylist() == [second * SECOND for second in range(30)]


def test_rows_without_utc_get_it_when_the_clock_of_their_boot_is_known(archive, drive):
    keep(archive, drive.readings(0, 10))
    table_all(archive)
    early = rows(archive, "imu")
    assert early.column("time").null_count == early.column("date").null_count == 100
    keep(archive, drive.readings(10, 10, [Said(15, UTC_S + 15, 1e-6)]))
    table_all(archive)
    imu = rows(archive, "imu")
    assert len(imu) == 200
    assert imu.column("time").null_count == imu.column("date").null_count == 0
    assert imu.column("time")[0].as_py() == datetime.datetime.fromtimestamp(UTC_S, datetime.UTC)
    assert counts(archive)["clock"] == 1


def test_a_clock_that_was_wrong_by_a_day_is_corrected_in_every_table_and_the_date_with_it(archive, drive):
    keep(archive, drive.readings(0, 10, [Said(2, UTC_S - 86_400, 100_000.0, "rtc")]))
    table_all(archive)
    assert set(rows(archive, "sps30").column("date").to_pylist()) == {datetime.date(2026, 10, 25)}
    keep(archive, drive.readings(10, 10, [Said(12, UTC_S + 12, 1e-6)]))
    table_all(archive)
    for name, number in {"sps30": 20, "imu": 200, "position": 20}.items():
        assert len(rows(archive, name)) == number
        assert set(rows(archive, name).column("date").to_pylist()) == {datetime.date(2026, 10, 26)}


def test_a_statement_that_moves_nothing_by_a_sample_writes_nothing_again(archive, drive):
    keep(archive, drive.readings(0, 10, [GNSS]))
    table_all(archive)
    version = DeltaTable(archive.objects.tables + "/imu").version()
    keep(archive, drive.readings(10, 10, [Said(15, UTC_S + 15.0001, 1e-7)]))
    table_all(archive)
    assert DeltaTable(archive.objects.tables + "/imu").version() == version + 1


def test_pictures_have_the_place_between_two_fixes_and_none_where_nobody_knows(archive, drive):
    keep(archive, drive.readings(0, 20, [GNSS]))
    keep(archive, drive.images(4.5, [b"one", b"three"]))
    keep(archive, drive.images(100.0, [b"far away"]))
    table_all(archive)
    images = rows(archive, "images").to_pylist()
    assert [image["bytes"] for image in images] == [3, 5, 8]
    assert np.allclose([images[0]["latitude"], images[0]["longitude"], images[0]["altitude"]], [35.0, 139.0 + 4.5 * 1.1e-4, 10.0])
    assert np.isclose(images[1]["longitude"], 139.0 + 5.5 * 1.1e-4)
    assert (images[2]["latitude"], images[2]["longitude"]) == (None, None)
    assert images[0]["time"] == datetime.datetime.fromtimestamp(UTC_S + 4.5, datetime.UTC)
    assert images[0]["camera"] == "front"


def test_pictures_that_came_before_their_fixes_get_their_place_later(archive, drive):
    keep(archive, drive.images(4.5, [b"one", b"two"]))
    table_all(archive)
    assert rows(archive, "images").column("latitude").null_count == 2
    keep(archive, drive.readings(0, 20, [GNSS]))
    table_all(archive)
    images = rows(archive, "images")
    assert len(images) == 2
    assert images.column("latitude").null_count == images.column("time").null_count == 0


def test_pictures_wait_for_the_readings_of_their_time_but_not_for_ever(archive, drive):
    keep(archive, drive.images(4.5, [b"one"]))
    patient = Tables(archive)
    assert patient.table(10) == 0
    keep(archive, drive.readings(0, 20, [GNSS]))
    assert patient.table(10) == 2
    keep(archive, drive.images(1000.0, [b"two"]))
    assert patient.table(10) == 0
    assert Tables(archive, held_s=0.0).table(10) == 1


KILLED = """
import os, signal, sys
from pathlib import Path
import center.tables_delta, center.tables_books
from center.archive import Archive
from center.tables import Tables
place, at = sys.argv[1], int(sys.argv[2])
steps = 0
def before(real):
    def step(*arguments, **named):
        global steps
        steps += 1
        if steps == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **named)
    return step
books, delta = center.tables_books.Books, center.tables_delta
for name in ("batch", "state", "done"):
    setattr(books, name, before(getattr(books, name)))
real = delta.write_deltalake
def write(*arguments, **named):
    before(real)(*arguments, **named)
    before(lambda: None)()
delta.write_deltalake = write
tables = Tables(Archive.join(place), held_s=0.0)
while tables.table(3):
    pass
print(steps)
"""


def run_killed(folder: Path, at: int) -> int:
    return subprocess.run([sys.executable, "-c", KILLED, str(folder), str(at)], capture_output=True, text=True, timeout=60).returncode


def test_a_kill_between_any_two_steps_neither_loses_nor_doubles_a_row(tmp_path, drive):
    """Before and after each commit of each table, before the index is told: the next one to come finishes the batch."""
    archive = Archive(tmp_path / "archive")
    keep(archive, drive.readings(0, 10))
    keep(archive, drive.images(4.5, [b"one", b"two"]))
    keep(archive, drive.readings(10, 10, [Said(15, UTC_S + 15, 1e-6)]))
    keep(archive, drive.readings(20, 10))
    stride = 1 if os.environ.get("CENTER_LONG") else 7
    at, kills = 1, 0
    while (code := run_killed(archive.folder, at)) == -signal.SIGKILL:
        kills += 1
        at += stride
    assert code == 0
    assert kills >= 3
    assert counts(archive) == {
        "clock": 1, "event": 3, "health": 6, "images": 2, "imu": 300, "position": 30, "sps30": 30, "trim": 1,
    }  # fmt: skip
    for name in ("imu", "sps30", "images"):
        assert rows(archive, name).column("time").null_count == 0
    archive.close()


def test_a_batch_that_was_committed_to_some_tables_only_is_finished_and_not_doubled(archive, drive, monkeypatch):
    keep(archive, drive.readings(0, 10, [GNSS]))
    real, written = Delta.write, []

    def write(self, name, *arguments):
        if len(written) == 3:
            raise OSError("the service is away")
        written.append(name)
        real(self, name, *arguments)

    monkeypatch.setattr(Delta, "write", write)
    with pytest.raises(OSError, match="away"):
        Tables(archive).table(10)
    monkeypatch.undo()
    assert archive.objects.tables_there() == written
    table_all(archive)
    assert counts(archive) == {"clock": 1, "event": 1, "health": 2, "imu": 100, "position": 10, "sps30": 10, "trim": 1}


def test_compaction_leaves_few_files_and_the_same_rows(archive, drive):
    for minute in range(4):
        keep(archive, drive.readings(minute * 10, 10, [GNSS] if minute == 0 else []))
        table_all(archive)
    before = rows(archive, "sps30")
    assert len(list((archive.folder / "_tables").glob("sps30/date=*/*.parquet"))) == 4
    tables = Tables(archive)
    assert tables.tidy(0.0, 0) > 0
    assert len(list((archive.folder / "_tables").glob("sps30/date=*/*.parquet"))) == 1
    assert rows(archive, "sps30").equals(before)
    assert tables.tidy(0.0, 0) == 0, "nothing was written since"


def test_tables_are_rebuilt_from_the_segments(archive, drive):
    keep(archive, drive.readings(0, 10, [GNSS]))
    keep(archive, drive.images(4.5, [b"one"]))
    tables = table_all(archive)
    before = {name: rows(archive, name) for name in archive.objects.tables_there()}
    tables.books.forget()  # and killed here
    table_all(archive)
    assert {name: rows(archive, name) for name in archive.objects.tables_there()} == before
    tables.rebuild()
    assert archive.objects.tables_there() == []
    table_all(archive)
    assert {name: rows(archive, name) for name in archive.objects.tables_there()} == before


def test_a_segment_that_was_stored_before_there_were_tables_is_tabled(tmp_path, drive):
    archive = Archive(tmp_path / "archive")
    keep(archive, drive.readings(0, 10, [GNSS]))
    assert archive.index.rows("SELECT name FROM sqlite_master WHERE name = 'to_table'") == []
    table_all(archive)
    assert counts(archive)["sps30"] == 10
    archive.close()


def test_an_index_that_was_lost_doubles_nothing_and_an_older_one_is_refused(tmp_path, drive):
    archive = Archive(tmp_path / "archive")
    keep(archive, drive.readings(0, 10, [GNSS]))
    table_all(archive)
    archive.close()
    index = tmp_path / "archive" / "index.sqlite"
    old = index.read_bytes()
    index.unlink()
    archive = Archive(tmp_path / "archive")
    assert archive.adopted == 1
    table_all(archive)
    assert counts(archive)["sps30"] == 10
    for start in (10, 20):
        keep(archive, drive.readings(start, 10))
        table_all(archive)
    archive.close()
    index.write_bytes(old)
    archive = Archive(tmp_path / "archive")
    with pytest.raises(OSError, match="cruisers center rebuild"):
        Tables(archive).table(10)
    Tables(archive).rebuild()
    table_all(archive)
    assert counts(archive)["sps30"] == 30
    archive.close()


def test_a_segment_whose_object_is_gone_holds_up_nothing(archive, drive):
    gone, kept = drive.readings(0, 10, [GNSS]), drive.readings(10, 10)
    keep(archive, gone)
    keep(archive, kept)
    archive.path("truck-14", gone.announcement.segment_id).unlink()
    table_all(archive)
    assert counts(archive)["sps30"] == 10
