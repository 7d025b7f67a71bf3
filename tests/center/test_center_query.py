"""Questions to the tables: PM2.5 by street cell in one query, pictures by time and place, and the commands that ask."""

import json
import math
from collections import defaultdict

import cv2
import numpy as np
import pytest
import typer
from center_keeping import SECOND, Drive, Said, keep
from typer.testing import CliRunner

from center import tool
from center.archive import Archive
from center.query import APART_S, CELL_M, METRES_PER_DEGREE, Asking, QueryError
from center.tables import Tables

pytestmark = pytest.mark.timeout(60)

UTC_S = 1_793_000_000  # 2026-10-26T07:33:20Z
JPEG = cv2.imencode(".jpg", np.random.default_rng(1).integers(0, 255, (48, 64, 3), dtype=np.uint8))[1].tobytes()
HUB = """
archive = "{archive}"
trucks = ["truck-14"]
[hub]
domain = "h"
host = "127.0.0.1"
port = 1
ca_file = "a"
password_file = "b"
"""
APP = typer.Typer()
tool.add_to(APP)


@pytest.fixture(scope="module")
def city(tmp_path_factory):
    """An archive with a drive of two trucks, tabled, and its configuration."""
    folder = tmp_path_factory.mktemp("city")
    archive = Archive(folder / "archive")
    drive, other = Drive(folder / "spool"), Drive(folder / "other", "truck-15")
    keep(archive, drive.readings(0, 40, [Said(5, UTC_S + 5, 1e-6)]))
    keep(archive, drive.readings(40, 30, fixes=False))  # a tunnel
    keep(archive, drive.readings(86_400, 10))  # the next day
    keep(archive, other.readings(0, 10, [Said(5, UTC_S + 5, 1e-6)]))
    keep(archive, drive.images(4.5, [JPEG, JPEG], packed=True))
    tables = Tables(archive, held_s=0.0)
    while tables.table(10):
        pass
    config = folder / "center.toml"
    config.write_text(HUB.format(archive=archive.folder))
    yield archive, config
    archive.close()


def run(config, *arguments: str):
    return CliRunner().invoke(APP, [*arguments, "--config", str(config)], env={"COLUMNS": "100"})


def cells() -> dict[str, list[float]]:
    """What the drive's PM2.5 is by cell, reckoned here: µg/m³ of each sample, by the fix of its second, or of one up to 10 s ago."""
    height = CELL_M / METRES_PER_DEGREE
    line = math.floor(35.0 / height)
    width = height / math.cos(math.radians((line + 0.5) * height))
    found: dict[str, list[float]] = defaultdict(list)
    for second in range(70):
        fix = min(second, 39)
        if second - fix <= APART_S:
            found[f"{line}:{math.floor((139.0 + fix * 1.1e-4) / width)}"].append(float(second))
    return found


def test_one_query_answers_pm25_of_a_truck_yesterday_by_street_cell(city, monkeypatch):
    monkeypatch.setattr(tool.clock, "utc_ns", lambda: (UTC_S + 86_400) * SECOND)
    answer = run(city[1], "pm25", "--truck", "truck-14", "--date", "yesterday", "--json")
    assert answer.exit_code == 0, answer.output
    rows = json.loads(answer.stdout)
    assert {row["cell"]: row["samples"] for row in rows} == {cell: len(values) for cell, values in cells().items()}
    for row in rows:
        values = cells()[row["cell"]]
        assert math.isclose(row["mean_ug_m3"], sum(values) / len(values), rel_tol=1e-9, abs_tol=1e-9)
        assert abs(row["latitude"] - 35.0) * METRES_PER_DEGREE <= CELL_M
    assert [row["mean_ug_m3"] for row in rows] == sorted((row["mean_ug_m3"] for row in rows), reverse=True)


def test_a_date_is_one_of_the_zone_that_was_asked_for(city):
    late = run(city[1], "pm25", "--truck", "truck-14", "--date", "2026-10-26", "--zone", "Asia/Tokyo", "--json")
    assert sum(row["samples"] for row in json.loads(late.stdout)) == 50
    early = run(city[1], "pm25", "--truck", "truck-14", "--date", "2026-10-26", "--zone", "America/Los_Angeles")
    assert "2026-10-26T07:00:00 to 2026-10-27T07:00:00" in run(city[1], "pm25", "--truck", "x", "--date", "2026-10-26", "--zone",
                                                              "America/Los_Angeles").stdout  # fmt: skip
    assert early.exit_code == 0
    assert run(city[1], "pm25", "--truck", "truck-14", "--date", "soon").exit_code == 2


def test_any_question_may_be_asked_in_sql_and_a_wrong_one_is_one_line(city):
    answer = run(city[1], "query", "SELECT truck, count(*) AS n FROM pm2_5 GROUP BY truck ORDER BY truck", "--json")
    assert json.loads(answer.stdout) == [{"truck": "truck-14", "n": 80}, {"truck": "truck-15", "n": 10}]
    shown = run(city[1], "query", "SELECT time, latitude FROM position WHERE date = '2026-10-26' ORDER BY time LIMIT 2")
    assert "2026-10-26T07:33:20" in shown.stdout
    wrong = run(city[1], "query", "SELECT nothing FROM nowhere")
    assert wrong.exit_code == 2
    assert len(wrong.stderr.strip().splitlines()) == 1
    assert wrong.stderr.startswith("cruisers center query: ")


def test_files_of_other_dates_are_not_read(city):
    others = list((city[0].folder / "_tables" / "sps30" / "date=2026-10-26").glob("*.parquet"))
    asking = Asking(city[0])
    for path in others:
        path.rename(path.with_suffix(".away"))
    try:
        assert asking.ask("SELECT count(*), max(pm2_5) FROM sps30 WHERE date = '2026-10-27' AND truck = 'truck-14'").rows[0][0] == 10
        with pytest.raises(QueryError):
            asking.ask("SELECT count(*), max(pm2_5) FROM sps30 WHERE truck = 'truck-14'")
    finally:
        for path in others:
            path.with_suffix(".away").rename(path)
    asking.close()


def test_a_question_cannot_change_the_archive(city):
    asking = Asking(city[0])
    with pytest.raises(QueryError):
        asking.ask("DELETE FROM sps30")
    assert asking.ask("SELECT count(*) FROM sps30").rows == [(90,)]
    asking.close()


def test_a_picture_found_by_time_and_place_comes_out_bit_for_bit(city, tmp_path):
    found = run(city[1], "query", "SELECT segment, camera, boottime_ns, format FROM images WHERE cell(latitude, longitude) ="
                " cell(35.0, 139.0 + 4.5 * 1.1e-4) ORDER BY time LIMIT 1", "--json")  # fmt: skip
    [row] = json.loads(found.stdout)
    assert row["format"] == "jxl"
    target = tmp_path / "street.jpg"
    arguments = ("image", row["segment"], row["camera"], str(row["boottime_ns"]), "-o", str(target))
    answer = run(city[1], *arguments)
    assert answer.exit_code == 0, answer.output
    assert target.read_bytes() == JPEG
    assert run(city[1], *arguments).exit_code == 2, "it is there already"
    missing = run(city[1], "image", row["segment"], row["camera"], "1", "-o", str(tmp_path / "other.jpg"))
    assert (missing.exit_code, (tmp_path / "other.jpg").exists()) == (1, False)


def test_the_commands_say_what_is_there_within_80_columns(city):
    listed = run(city[1], "ls", "truck-14", "--limit", "2")
    status = run(city[1], "archive")
    for answer in (listed, status):
        assert answer.exit_code == 0
        assert max(map(len, answer.stdout.splitlines())) <= 100
    assert "truck-15" in status.stdout
    assert "to be tabled: 0 segments" in status.stdout
    assert json.loads(run(city[1], "archive", "--json").stdout)["trucks"]["truck-14"]["stored"] == 4
    assert len(json.loads(run(city[1], "ls", "--json").stdout)) == 5


def test_an_archive_that_is_not_there_is_one_line(tmp_path):
    config = tmp_path / "center.toml"
    config.write_text(
        'archive = "nowhere"\ntrucks = ["t"]\n[hub]\ndomain = "h"\nhost = "h"\nport = 1\nca_file = "a"\npassword_file = "b"\n'
    )
    answer = run(config, "archive")
    assert answer.exit_code == 2
    assert len(answer.stderr.strip().splitlines()) == 1


def test_tables_are_made_anew_by_command(city):
    archive, config = city
    before = Asking(archive)
    expected = before.ask("SELECT count(*), min(time), max(pm2_5) FROM sps30").rows
    before.close()
    assert run(config, "rebuild").exit_code == 0
    after = Asking(archive)
    assert after.ask("SELECT count(*), min(time), max(pm2_5) FROM sps30").rows == expected
    after.close()
