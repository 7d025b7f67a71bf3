"""`cruisers segment export`: every message comes out once, raw and typed side by side, in the order of time, with UTC back to the boot."""

import fcntl
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from exported import BOOT, COLUMNS, SECOND, UTC, clock, entry, fix, imu, reading, table, write
from typer.testing import CliRunner, Result

from logbook import export_files, export_source
from logbook.export_clock import Statement, Utc
from logbook.export_source import Losses
from logbook.schemas import cruisers_pb2 as pb
from logbook.tool import app

pytestmark = pytest.mark.timeout(60)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["export", *map(str, arguments)], env={"COLUMNS": "80", "TERM": "dumb"})


def csv_of(tmp_path: Path, *paths: Path, code: int = 0) -> Path:
    """The folder of tables that an export of `paths` writes."""
    folder = tmp_path / "tables"
    result = run(*(paths or [tmp_path / "spool"]), "--csv", folder, "--force")
    assert result.exit_code == code, result.stderr
    return folder


def test_raw_and_typed_stand_side_by_side_and_a_reason_where_there_is_no_number(tmp_path: Path) -> None:
    rows = [[4, 8, 1], [101, 8, 1], [-4, 8, 0], [5, 9, 0x0801]]
    samples = [reading("sht45", SECOND, b"\1\2", 7, humidity=50.5, temperature="bad checksum")]
    write(tmp_path / "spool", 1, [[imu(SECOND, rows), *samples, clock(SECOND, UTC)]])
    folder = csv_of(tmp_path)
    found = table(folder / "imu.csv")
    assert [(row["acceleration_x"], row["acceleration_x_raw"], row["acceleration_x_reason"]) for row in found] == [
        ("2.0", "4", ""), ("", "101", "saturated"), ("-2.0", "-4", ""), ("2.5", "5", ""),
    ]  # fmt: skip
    assert [(row["magnetic_field_x"], row["magnetic_field_x_raw"], row["magnetic_field_x_reason"]) for row in found] == [
        ("-1.0", "8", ""), ("-1.0", "8", ""), ("", "8", "no new sample"), ("", "9", "saturated"),
    ]  # fmt: skip
    assert [row["mag_status_raw"] for row in found] == ["1", "1", "0", "2049"]
    assert [row["boottime_ns"] for row in found] == ["1000000000", "1010000000", "1020000000", "1030000000"]
    assert found[1]["time"] == "2026-09-21T14:13:20.010000000Z"
    (row,) = table(folder / "sht45.csv")
    assert (row["humidity"], row["humidity_reason"], row["temperature"], row["temperature_reason"]) == ("50.5", "", "", "bad checksum")
    assert (row["raw"], row["sequence"], row["head_boot"], row["truck"], row["boot"]) == ("0102", "7", "5", "truck-1", BOOT)
    assert row["segment"] == "truck-1-89abcdef-01234567-000001-readings"


def test_parquet_holds_what_csv_holds_with_units_in_its_fields(tmp_path: Path) -> None:
    health = entry("/health", SECOND, pb.Health(source="head", boottime_ns=SECOND, counters={"heap_free": 48.0, "uptime_s": 3.0}))
    rows = [[4, 8, 1], [101, 8, 0]]
    write(tmp_path / "spool", 1, [[imu(SECOND, rows), reading("bmp390", SECOND, pressure=101325.25), health, clock(SECOND, UTC)]])
    result = run(tmp_path / "spool", "--parquet", tmp_path / "pq", "--csv", tmp_path / "csv")
    assert result.exit_code == 0
    assert sorted(path.stem for path in (tmp_path / "pq").iterdir()) == sorted(path.stem for path in (tmp_path / "csv").iterdir())
    found = pq.read_table(tmp_path / "pq" / "imu.parquet")
    assert found["acceleration_x"].to_pylist() == [2.0, None] and found["acceleration_x_reason"].to_pylist() == [None, "saturated"]
    assert found["acceleration_x_raw"].to_pylist() == [4, 101] and found.schema.field("acceleration_x_raw").type == pa.int16()
    assert found.schema.field("acceleration_x").metadata[b"unit"] == "m/s²".encode()
    assert found["time"].cast(pa.int64()).to_pylist() == [UTC, UTC + 10_000_000]
    assert found.schema.field("time").type == pa.timestamp("ns", "UTC")
    pressure = pq.read_table(tmp_path / "pq" / "bmp390.parquet")
    assert pressure["pressure"].to_pylist() == [101325.25] and pressure["raw"].to_pylist() == [b"\1"]
    assert pressure.schema.field("pressure").metadata == {b"unit": b"Pa", b"name": b"Pressure"}
    assert pq.read_table(tmp_path / "pq" / "health.parquet")["counter"].to_pylist() == ["heap_free", "uptime_s"]
    group = pq.ParquetFile(tmp_path / "pq" / "imu.parquet").metadata.row_group(0)
    assert group.sorting_columns[0].column_index == 1
    packed = {group.column(index).path_in_schema: group.column(index) for index in range(group.num_columns)}
    assert "DELTA_BINARY_PACKED" in packed["acceleration_x_raw"].encodings and packed["acceleration_x_raw"].compression == "ZSTD"


def test_compact_leaves_typed_columns_out_and_says_how_to_read_the_raw_ones(tmp_path: Path) -> None:
    write(tmp_path / "spool", 1, [[imu(SECOND, [[4, 8, 1], [101, 8, 0]])]])
    assert run(tmp_path / "spool", "--parquet", tmp_path / "pq", "--compact").exit_code == 0
    found = pq.read_table(tmp_path / "pq" / "imu.parquet")
    assert "acceleration_x" not in found.column_names and found["acceleration_x_raw"].to_pylist() == [4, 101]
    assert [json.loads(text) for text in found["columns"].to_pylist()] == [COLUMNS, COLUMNS]


def test_utc_is_computed_backwards_to_the_boot_and_is_empty_where_a_boot_never_knew_it(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    write(spool, 1, [[reading("bmp390", SECOND, pressure=1.0), clock(SECOND, 0, float("inf"), "none")]])
    write(spool, 2, [[reading("bmp390", 90 * SECOND, pressure=2.0), clock(100 * SECOND, UTC)]])
    write(spool, 3, [[reading("bmp390", 5 * SECOND, pressure=3.0)]], boot="11111111-0000-4000-8000-000000000000")
    folder = csv_of(tmp_path)
    times = {row["pressure"]: row["time"] for row in table(folder / "bmp390.csv")}
    assert times == {"3.0": "", "1.0": "2026-09-21T14:11:41.000000000Z", "2.0": "2026-09-21T14:13:10.000000000Z"}
    told = [(row["boottime_ns"], row["utc"], row["source"]) for row in table(folder / "clock.csv")]
    assert told == [("1000000000", "", "none"), ("100000000000", "2026-09-21T14:13:20.000000000Z", "gnss")]


def test_of_several_statements_of_the_clock_each_moment_takes_the_one_that_errs_least_there() -> None:
    good, rough = Statement(100 * SECOND, 1000 * SECOND, "gnss", 0.02), Statement(5000 * SECOND, 5950 * SECOND, "ntp", 0.03)
    bad = Statement(101 * SECOND, 9999 * SECOND, "ntp", 5.0)
    utc = Utc([rough, bad, good, Statement(50 * SECOND, 0, "none", float("inf"))])
    # Halfway 0.02 s and 0.03 s have grown by 50 ppm: they are equal at 2650 s.
    asked = np.array([0, 100, 101, 2600, 2700, 9000], np.int64) * SECOND
    assert (utc.of(asked) - asked).tolist() == [900 * SECOND] * 4 + [950 * SECOND] * 2
    assert Utc([]).of(asked).tolist() == [0] * 6


def test_late_and_overlapping_segments_are_merged_by_time_and_what_stands_twice_comes_once(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    trim = entry("/trim", SECOND, pb.Trim(sensor="bmp390", head_boot=5, trim=b"\1"))
    twice = reading("bmp390", 5 * SECOND, pressure=5.0)
    write(spool, 1, [[trim, reading("bmp390", 4 * SECOND, pressure=4.0), reading("bmp390", 1 * SECOND, pressure=1.0)], [twice]])
    write(spool, 2, [[trim._replace(log_time=2 * SECOND), twice, reading("bmp390", 2 * SECOND, pressure=2.0)]])
    write(spool, 3, [[trim._replace(log_time=3 * SECOND), reading("bmp390", 3 * SECOND, pressure=3.0)]])
    folder = csv_of(tmp_path)
    assert [row["pressure"] for row in table(folder / "bmp390.csv")] == ["1.0", "2.0", "3.0", "4.0", "5.0"]
    assert len(table(folder / "trim.csv")) == 1
    first = (folder / "bmp390.csv").read_bytes()
    csv_of(tmp_path, *sorted(spool.rglob("*.mcap"), reverse=True))
    assert (folder / "bmp390.csv").read_bytes() == first, "the order of the arguments does not matter"


def test_only_segments_that_overlap_are_in_memory(tmp_path: Path) -> None:
    paths = [write(tmp_path / "spool", n, [[reading("bmp390", n * SECOND + k, sequence=k) for k in range(10)]]) for n in range(1, 30)]
    losses, opened = Losses(), list[int]()
    found = export_source.survey(paths, losses, lambda size: None)
    given = 0
    for _ in export_source.in_order(found.boots[0], losses, opened.append, pictures=False):
        assert len(opened) <= given // 10 + 2, "a segment was read long before its turn"
        given += 1
    assert (given, len(opened)) == (290, 29)


def test_a_damaged_chunk_costs_itself_and_is_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "spool", 1, [[reading("bmp390", n * SECOND, pressure=float(n))] for n in range(1, 5)])
    data = bytearray(path.read_bytes())
    data[data.find(b"CRMK", data.find(b"CRMK") + 10) + 60] ^= 1
    path.write_bytes(data)
    folder = csv_of(tmp_path, code=3)
    assert [row["pressure"] for row in table(folder / "bmp390.csv")] == ["1.0", "3.0", "4.0"]
    result = run(tmp_path / "spool", "--csv", folder, "--force", "--json")
    assert "damaged stretches of files: 1" in result.stderr and "damaged chunk" in result.stderr
    assert json.loads(result.stdout)["missing"] == {"damaged": 1}


def test_what_the_truck_told_missing_and_what_cannot_be_read_at_all_is_exit_code_3(tmp_path: Path) -> None:
    gap = entry("/gap", SECOND, pb.Gap(source="icm20948", reason="FIFO overflow", from_boottime_ns=1, to_boottime_ns=SECOND, count=51))
    path = write(tmp_path / "spool", 1, [[gap, imu(SECOND, [[1, 2, 3]])]])
    (path.parent / "000002-readings.mcap.damaged").write_bytes(b"junk")
    write(tmp_path / "spool", 3, [[reading("bmp390", SECOND)]], sealed=False)
    result = run(tmp_path / "spool", "--csv", tmp_path / "tables")
    assert result.exit_code == 3
    assert "files that cannot be read: 1; gaps told by the trucks (table gap): 1" in result.stderr
    assert "000003-readings.mcap.open: not sealed: read as it is" in result.stderr
    (row,) = table(tmp_path / "tables" / "gap.csv")
    assert (row["source"], row["reason"], row["count"], row["from_boottime_ns"]) == ("icm20948", "FIFO overflow", "51", "1")


def test_a_block_or_message_without_sense_is_counted_and_the_rest_comes(tmp_path: Path) -> None:
    block = imu(SECOND, [[1, 2, 3]])
    broken = [block._replace(data=b"CB\2", log_time=2 * SECOND), reading("bmp390", SECOND)._replace(data=b"\xff", log_time=2 * SECOND)]
    write(tmp_path / "spool", 1, [[block, *broken, reading("bmp390", 3 * SECOND, pressure=3.0)]])
    result = run(tmp_path / "spool", "--csv", tmp_path / "tables", "--json")
    assert result.exit_code == 3 and json.loads(result.stdout)["missing"] == {"messages": 2}
    assert json.loads(result.stdout)["rows"] == {"imu": 1, "bmp390": 1}


def test_a_file_being_written_is_passed_over_in_a_spool_and_refused_when_named(tmp_path: Path) -> None:
    write(tmp_path / "spool", 1, [[reading("bmp390", SECOND, pressure=1.0)]])
    open_path = write(tmp_path / "spool", 2, [[reading("bmp390", 2 * SECOND, pressure=2.0)]], sealed=False)
    with open_path.open("rb") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        result = run(tmp_path / "spool", "--csv", tmp_path / "tables")
        assert result.exit_code == 0 and result.stderr == f"{open_path}: being written: skipped\n"
        assert [row["pressure"] for row in table(tmp_path / "tables" / "bmp390.csv")] == ["1.0"]
        assert run(open_path, "--csv", tmp_path / "other").exit_code == 1
        assert not (tmp_path / "other").exists()


def test_what_is_there_is_not_overwritten_without_force(tmp_path: Path) -> None:
    write(tmp_path / "spool", 1, [[reading("bmp390", SECOND, pressure=1.0), fix(SECOND, 35.0, 139.0)]])
    for option, target, there in (
        ("--csv", "t", "t/bmp390.csv"),
        ("--parquet", "p", "p/position.parquet"),
        ("--gpx", "g", "g"),
        ("--images", "i", "i/x"),
    ):
        mine = tmp_path / there
        mine.parent.mkdir(parents=True, exist_ok=True)
        mine.write_text("mine")
        result = run(tmp_path / "spool", option, tmp_path / target)
        assert result.exit_code == 2 and result.stderr.splitlines() == [
            f"{tmp_path / (there if option[2] in 'cp' else target)}: exists already; --force replaces it"
        ]
        assert mine.read_text() == "mine" and [path.name for path in mine.parent.iterdir() if path.name.startswith(".")] == []
        assert run(tmp_path / "spool", option, tmp_path / target, "--force").exit_code == 0
        assert option == "--images" or mine.read_bytes() != b"mine"


def test_a_file_is_not_made_where_a_folder_is_nor_the_other_way_round(tmp_path: Path) -> None:
    write(tmp_path / "spool", 1, [[fix(SECOND, 35.0, 139.0)]])
    (tmp_path / "file").write_text("mine")
    for option, target, problem in (("--gpx", tmp_path / "spool", "is a folder"), ("--images", tmp_path / "file", "is a file")):
        result = run(tmp_path / "spool", option, target, "--force")
        assert result.exit_code == 2 and result.stderr == f"{target}: {problem}\n"
    assert (tmp_path / "file").read_text() == "mine"


def test_an_export_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "spool", 1, [[reading("bmp390", SECOND, pressure=1.0), fix(SECOND, 35.0, 139.0), clock(SECOND, UTC)]])

    def full(self: object, batch: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export_files.Parquet, "write", full)
    out = tmp_path / "out"
    result = run(tmp_path / "spool", "--csv", out, "--parquet", out, "--gpx", out / "t.gpx", "--images", out / "pictures")
    assert result.exit_code == 1 and "No space left on device" in result.stderr
    assert list(out.rglob("*")) == []


def test_wrong_use_is_one_line_and_2(tmp_path: Path) -> None:
    path = write(tmp_path / "spool", 1, [[reading("bmp390", SECOND)]])
    for arguments in ((path,), ("/nowhere", "--csv", tmp_path / "t")):
        result = run(*arguments)
        assert result.exit_code == 2 and len(result.stderr.splitlines()) == 1


def test_csv_is_rfc_4180(tmp_path: Path) -> None:
    detail = 'comma, "quote"\r\nand a line, 道路'
    event = entry("/event", SECOND, pb.Event(kind="bookmark", source="button", boottime_ns=SECOND, detail=detail))
    write(tmp_path / "spool", 1, [[event, clock(SECOND, UTC)]])
    data = (csv_of(tmp_path) / "event.csv").read_bytes()
    heading, rest = data.split(b"\r\n", 1)
    assert heading.decode() == "time [UTC],boottime_ns [ns],kind,source,detail,truck,boot,segment"
    assert b',"comma, ""quote""\r\nand a line, ' in rest and rest.endswith(b"-readings\r\n")
    (row,) = table(tmp_path / "tables" / "event.csv")
    assert row["detail"] == detail


def test_a_box_of_the_first_fleet_comes_out_as_recorded(tmp_path: Path) -> None:
    frames = entry("/box/frames", SECOND, pb.BoxFrames(boottime_ns=SECOND, offsets_us=[0, 10_000], frames=b"\x9a\x8a\0", box="0042"))
    typed = reading("first_fleet", SECOND, bytes(36), 9, pressure=101_325.0, pm2_5="implausible")
    write(tmp_path / "spool", 1, [[frames, typed]])
    folder = csv_of(tmp_path)
    (row,) = table(folder / "box_frames.csv")
    assert (row["box"], row["offsets_us"], row["frames"]) == ("0042", "0 10000", "9a8a00")
    (row,) = table(folder / "first_fleet.csv")
    assert (row["pressure"], row["pm2_5"], row["pm2_5_reason"], row["raw"]) == ("101325.0", "", "implausible", "00" * 36)
    assert run(tmp_path / "spool", "--parquet", tmp_path / "pq").exit_code == 0
    assert pq.read_table(tmp_path / "pq" / "box_frames.parquet")["offsets_us"].to_pylist() == [[0, 10_000]]


def test_no_name_of_a_sensor_leads_out_of_the_folder_or_into_another_table(tmp_path: Path) -> None:
    gap = entry("/gap", SECOND, pb.Gap(source="sht45", reason="no acknowledge", from_boottime_ns=1, to_boottime_ns=SECOND))
    evil = [reading(sensor, SECOND, pressure=1.0)._replace(topic="/reading/bmp390") for sensor in ("../../evil", "gap", "")]
    write(tmp_path / "spool", 1, [[*evil, gap]])
    folder = csv_of(tmp_path, code=3)
    assert sorted(path.name for path in folder.iterdir()) == ["gap.csv", "reading_.csv", "reading_______evil.csv", "reading_gap.csv"]
    assert not list(tmp_path.rglob("evil*")) and table(folder / "gap.csv")[0]["source"] == "sht45"


def test_a_sensor_that_has_more_quantities_in_a_later_segment_has_a_column_for_each(tmp_path: Path) -> None:
    write(tmp_path / "spool", 1, [[reading("as7331", SECOND, uva=1.0)]])
    write(tmp_path / "spool", 2, [[reading("as7331", 2 * SECOND, uva=2.0, uvb=3.0)]])
    assert [(row["uva"], row["uvb"]) for row in table(csv_of(tmp_path) / "as7331.csv")] == [("1.0", ""), ("2.0", "3.0")]


def test_trucks_and_boots_come_one_after_the_other_by_their_time(tmp_path: Path) -> None:
    spool, other = tmp_path / "spool", "22222222-0000-4000-8000-000000000000"
    write(spool, 1, [[reading("bmp390", 900 * SECOND, pressure=2.0), clock(900 * SECOND, UTC)]])
    write(spool, 2, [[reading("bmp390", SECOND, pressure=1.0), clock(SECOND, UTC - 3600 * SECOND)]], boot=other)
    write(spool, 3, [[reading("bmp390", SECOND, pressure=3.0)]], truck="truck-2", boot="33333333-0000-4000-8000-000000000000")
    assert [row["pressure"] for row in table(csv_of(tmp_path) / "bmp390.csv")] == ["1.0", "2.0", "3.0"]
