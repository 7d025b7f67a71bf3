"""Tracks and pictures of an export: GPX 1.1 in segments split at gaps, the camera's own bytes under names that tell time and place."""

import hashlib
import json
from pathlib import Path
from xml.etree import ElementTree as ET

import cv2
import imagecodecs
import numpy as np
import pytest
from exported import SECOND, UTC, clock, entry, fix, table, write
from foxglove_schemas_protobuf.CompressedImage_pb2 import CompressedImage
from typer.testing import CliRunner, Result

from logbook import channels, images
from logbook.segment_writer import Entry
from logbook.tool import app

pytestmark = pytest.mark.timeout(60)

GPX = "{http://www.topografix.com/GPX/1/1}"
# The order of a wptType's children in the schema of GPX 1.1.
ORDER = (
    *("ele", "time", "magvar", "geoidheight", "name", "cmt", "desc", "src", "link", "sym", "type"),
    *("fix", "sat", "hdop", "vdop", "pdop", "ageofdgpsdata", "dgpsid", "extensions"),
)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["export", *map(str, arguments)], env={"COLUMNS": "80", "TERM": "dumb"})


def picture(at: int, data: bytes, camera: str = "front", format: str = "jpeg") -> Entry:
    return entry(f"/camera/{camera}", at, CompressedImage(frame_id=camera, format=format, data=data))


def jpeg(seed: int = 1) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, (48, 64, 3)).astype(np.uint8)
    return cv2.imencode(".jpg", noise)[1].tobytes()


def test_a_track_is_valid_gpx_split_where_fixes_are_missing(tmp_path: Path) -> None:
    fixes = [fix(n * SECOND, 35.0 + n / 1000, 139.0, altitude=12.5, speed=5.0, bearing=np.pi / 2) for n in (1, 2, 3)]
    tunnel = fix(4 * SECOND, 35.004, 139.0, valid=False)
    later = [fix(n * SECOND, 35.1, 139.1, utc_ns=UTC + n * SECOND) for n in (5, 6, 30)]
    write(tmp_path / "spool", 1, [[*fixes, tunnel, *later, clock(SECOND, UTC)]], truck="truck-1")
    assert run(tmp_path / "spool", "--gpx", tmp_path / "t.gpx").exit_code == 0
    root = ET.parse(tmp_path / "t.gpx").getroot()
    assert root.tag == f"{GPX}gpx" and root.attrib["version"] == "1.1" and root.attrib["creator"]
    (track,) = root.findall(f"{GPX}trk")
    assert [child.tag.removeprefix(GPX) for child in track] == ["name", "desc", "trkseg", "trkseg", "trkseg"]
    assert [len(segment) for segment in track.findall(f"{GPX}trkseg")] == [3, 2, 1], "invalid fix, and 24 s without one"
    for point in root.iter(f"{GPX}trkpt"):
        places = [ORDER.index(child.tag.removeprefix(GPX)) for child in point]
        assert places == sorted(places) and set(point.attrib) == {"lat", "lon"}
    first = next(root.iter(f"{GPX}trkpt"))
    assert (first.attrib, first.findtext(f"{GPX}time")) == ({"lat": "35.001000000", "lon": "139.000000000"}, "2026-09-21T14:13:20.000Z")
    assert (first.findtext(f"{GPX}ele"), first.findtext(f"{GPX}fix")) == ("12.500", "3d")
    told = [(element.tag.partition("}")[2], element.text) for element in first.find(f"{GPX}extensions").iter()]
    assert told[2:] == [("speed", "5.000"), ("course", "90.000")]


def test_fixes_whose_utc_nobody_knows_are_in_no_track_and_counted(tmp_path: Path) -> None:
    write(tmp_path / "spool", 1, [[fix(SECOND, 35.0, 139.0)]])
    result = run(tmp_path / "spool", "--gpx", tmp_path / "t.gpx")
    assert result.exit_code == 0 and "0 points" in result.stdout and "1 left out: their UTC is not known" in result.stdout
    assert list(ET.parse(tmp_path / "t.gpx").getroot()) == []


def test_pictures_are_named_by_camera_and_time_and_lie_between_their_fixes(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    write(spool, 1, [[fix(2 * SECOND, 35.0, 179.999, altitude=10.0), fix(4 * SECOND, 36.0, -179.999, altitude=20.0), clock(SECOND, UTC)]])
    taken = [picture(n * SECOND // 2, jpeg(n)) for n in (2, 5, 8, 60)]
    write(spool, 2, [taken], stream=channels.IMAGES, cameras=("front",))
    result = run(spool, "--images", tmp_path / "out")
    assert result.exit_code == 0 and "4 pictures" in result.stdout
    rows = table(tmp_path / "out" / "index.csv")
    assert [row["time"] for row in rows[:2]] == ["2026-09-21T14:13:20.000000000Z", "2026-09-21T14:13:21.500000000Z"]
    assert rows[1]["file"] == "truck-1/front/20260921T141321.500000Z_89abcdef-2500000000.jpg"
    places = [[float(row[id]) for id in ("latitude", "longitude", "altitude") if row[id]] for row in rows]
    assert places == [[], pytest.approx([35.25, 179.9995, 12.5]), pytest.approx([36.0, -179.999, 20.0]), []]
    for row, number in zip(rows, (2, 5, 8, 60), strict=True):
        assert (tmp_path / "out" / row["file"]).read_bytes() == jpeg(number) and int(row["bytes"]) == len(jpeg(number))
        assert row["segment"] == "truck-1-89abcdef-01234567-000002-images"


def test_a_picture_between_fixes_with_a_gap_has_no_place(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    fixes = [
        fix(SECOND, 35.0, 139.0),
        fix(21 * SECOND, 36.0, 139.0),
        fix(22 * SECOND, 0.0, 0.0, valid=False),
        fix(23 * SECOND, 36.0, 139.0),
    ]
    write(spool, 1, [fixes])
    write(spool, 2, [[picture(n * SECOND + SECOND // 2, jpeg(n)) for n in (2, 21, 22)]], stream=channels.IMAGES, cameras=("front",))
    run(spool, "--images", tmp_path / "out")
    rows = table(tmp_path / "out" / "index.csv")
    assert [row["latitude"] for row in rows] == ["", "", ""] and [row["time"] for row in rows] == ["", "", ""]
    assert rows[0]["file"] == "truck-1/front/no-utc_89abcdef-2500000000.jpg"


def test_a_picture_that_stands_in_two_segments_is_written_once_and_another_of_the_same_moment_too(tmp_path: Path) -> None:
    spool, same = tmp_path / "spool", picture(SECOND, jpeg(1))
    write(spool, 1, [[same, picture(2 * SECOND, jpeg(2))]], stream=channels.IMAGES, cameras=("front",))
    write(spool, 2, [[same]], stream=channels.IMAGES, cameras=("front",))
    write(spool, 3, [[picture(SECOND, jpeg(3))]], stream=channels.IMAGES, cameras=("front",))
    assert run(spool, "--images", tmp_path / "out").exit_code == 0
    files = [row["file"] for row in table(tmp_path / "out" / "index.csv")]
    assert len(files) == 3 and len(list((tmp_path / "out").rglob("*.jpg"))) == 3
    assert {(tmp_path / "out" / file).read_bytes() for file in files} == {jpeg(1), jpeg(2), jpeg(3)}


def test_a_packed_picture_comes_out_as_the_cameras_own_bytes_and_one_that_cannot_is_counted(tmp_path: Path) -> None:
    taken = [hashlib.sha256(jpeg(1)).hexdigest(), "0" * 64]
    packed = [picture(n * SECOND, imagecodecs.jpegxl_encode_jpeg(jpeg(n)), format="jxl") for n in (1, 2)]
    write(
        tmp_path / "spool",
        1,
        [packed],
        stream=channels.IMAGES,
        cameras=("front",),
        metadata={"/camera/front": {images.AS_TAKEN: json.dumps(taken)}},
    )
    result = run(tmp_path / "spool", "--images", tmp_path / "out")
    assert result.exit_code == 3 and "pictures that are not the camera's bytes: 1" in result.stderr
    first, second = sorted((tmp_path / "out").rglob("*.jpg"))
    assert first.read_bytes() == jpeg(1)
    assert np.array_equal(cv2.imread(str(second)), cv2.imdecode(np.frombuffer(jpeg(2), np.uint8), cv2.IMREAD_COLOR)), (
        "the picture is the same"
    )


def test_no_name_in_a_segment_leads_out_of_the_folder(tmp_path: Path) -> None:
    camera = "../../../evil/../x"
    write(tmp_path / "spool", 1, [[picture(SECOND, jpeg(), camera)]], stream=channels.IMAGES, cameras=(camera,), truck="..")
    assert run(tmp_path / "spool", "--images", tmp_path / "a" / "b" / "out").exit_code == 0
    (file,) = tmp_path.rglob("*.jpg")
    assert file.is_relative_to(tmp_path / "a" / "b" / "out")


def test_pictures_are_left_where_they_are_without_images(tmp_path: Path) -> None:
    write(tmp_path / "spool", 1, [[picture(SECOND, jpeg())]], stream=channels.IMAGES, cameras=("front",))
    assert run(tmp_path / "spool", "--csv", tmp_path / "t").exit_code == 0
    assert list(tmp_path.rglob("*.jpg")) == []
