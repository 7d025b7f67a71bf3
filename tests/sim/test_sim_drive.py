"""A recorded drive replaces the world quantity by quantity, and says in one line why it cannot."""

import csv
import math
from pathlib import Path

import pytest

from sim.drive import DriveError, overlay
from sim.traces import KNOT
from sim.world import World

pytestmark = pytest.mark.timeout(60)

RECORDED = Path(__file__).parents[3] / "shared" / "data" / "drive-comma2k19"
WORLD = World(1)

GNSS_HEADER = "t_s,latitude_deg,longitude_deg,speed_m_s,utc_ms,altitude_m,bearing_deg\n"
GNSS = GNSS_HEADER + "0.5,35.0,139.0,5.0,0,10.0,350.0\n1.5,35.0001,139.0002,7.0,0,12.0,20.0\n"
ACCELEROMETER = "t_s,x_m_s2,y_m_s2,z_m_s2\n0.0,1.0,2.0,9.0\n0.01,2.0,0.0,10.0\n0.02,3.0,-2.0,9.5\n"
GPX = """<?xml version="1.0"?>
<gpx version="1.1" creator="t" xmlns="http://www.topografix.com/GPX/1/1">
<trk><trkseg>
<trkpt lat="35.3400" lon="139.4900"><ele>12.5</ele><time>2026-05-01T01:00:00Z</time></trkpt>
<trkpt lat="35.3401" lon="139.4900"><ele>13.5</ele><time>2026-05-01T01:00:02Z</time></trkpt>
<trkpt lat="35.3401" lon="139.4902"><ele>13.0</ele><time>2026-05-01T01:00:04.500Z</time></trkpt>
</trkseg></trk></gpx>
"""


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


def sentence(body: str) -> str:
    checksum = 0
    for byte in body.encode():
        checksum ^= byte
    return f"${body}*{checksum:02X}\r\n"


class TestCsv:
    def test_values_between_rows_are_interpolated_and_the_ends_hold(self, tmp_path: Path) -> None:
        drive = overlay(write(tmp_path, accelerometer__csv=ACCELEROMETER), WORLD)
        assert drive.duration_us == 20_000
        assert drive.at(10_000)["acceleration_x"] == 2.0
        assert drive.at(2_500)["acceleration_x"] == pytest.approx(1.25)
        assert drive.at(15_000)["acceleration_y"] == pytest.approx(-1.0)
        assert drive.at(9_000_000)["acceleration_z"] == 9.5

    def test_what_is_absent_stays_synthetic(self, tmp_path: Path) -> None:
        drive = overlay(write(tmp_path, accelerometer__csv=ACCELEROMETER), WORLD)
        assert drive.replaced == ("acceleration_x", "acceleration_y", "acceleration_z")
        world, driven = WORLD.at(12_000), drive.at(12_000)
        assert {name for name in world if world[name] != driven[name]} == set(drive.replaced)
        assert world.keys() == driven.keys()

    def test_bearing_goes_the_shorter_way_over_north(self, tmp_path: Path) -> None:
        drive = overlay(write(tmp_path, gnss__csv=GNSS), WORLD)
        assert math.degrees(drive.at(1_000_000)["bearing"]) == pytest.approx(5.0)
        assert math.degrees(drive.at(600_000)["bearing"]) == pytest.approx(353.0)
        assert math.degrees(drive.at(1_500_000)["bearing"]) == pytest.approx(20.0)

    def test_route_gives_place_height_speed_and_distance(self, tmp_path: Path) -> None:
        values = overlay(write(tmp_path, gnss__csv=GNSS), WORLD).at(1_000_000)
        assert values["latitude"] == pytest.approx(35.00005, abs=1e-12)
        assert values["longitude"] == pytest.approx(139.0001, abs=1e-12)
        assert (values["altitude"], values["speed"], values["standing"]) == (11.0, 6.0, 0.0)
        assert values["distance"] == values["along"] == pytest.approx(3.0)

    def test_microtesla_become_tesla(self, tmp_path: Path) -> None:
        text = "t_s,x_uT,y_uT,z_uT\n0,-162.5,0,50\n0.1,-162.5,1,50\n"
        assert overlay(write(tmp_path, magnetometer__csv=text), WORLD).at(0)["magnetic_field_x"] == pytest.approx(-162.5e-6)

    def test_columns_may_stand_in_any_order_beside_others(self, tmp_path: Path) -> None:
        text = "note,z_rad_s,x_rad_s,t_s,y_rad_s\na,3,1,0.0,2\nb,3,1,1.0,2\n"
        values = overlay(write(tmp_path, gyroscope__csv=text), WORLD).at(500_000)
        assert [values[f"angular_rate_{axis}"] for axis in "xyz"] == [1.0, 2.0, 3.0]

    @pytest.mark.parametrize(
        ("name", "text", "message"),
        [
            ("accelerometer.csv", "t_s,x_m_s2,y_m_s2\n0,1,2\n", "accelerometer.csv: missing column z_m_s2"),
            ("gnss.csv", "t_s,latitude_deg\n0,1\n", "gnss.csv: missing column longitude_deg, speed_m_s, altitude_m, bearing_deg"),
            ("accelerometer.csv", "", "accelerometer.csv: empty file"),
            ("accelerometer.csv", "t_s,x_m_s2,y_m_s2,z_m_s2\n", "accelerometer.csv: no rows"),
            ("accelerometer.csv", ACCELEROMETER + "0.03,1,two,3\n", "accelerometer.csv:5: y_m_s2 is not a number: 'two'"),
            ("accelerometer.csv", ACCELEROMETER + "0.03,1,nan,3\n", "accelerometer.csv:5: y_m_s2 nan is out of range"),
            ("accelerometer.csv", ACCELEROMETER + "0.03,1,2\n", "accelerometer.csv:5: 3 values, the header has 4"),
            ("accelerometer.csv", ACCELEROMETER + "0.02,1,2,3\n", "accelerometer.csv:5: time 0.02 s does not rise"),
            ("accelerometer.csv", "t_s,x_m_s2,y_m_s2,z_m_s2\n0,1,2,3\n", "the drive has no length"),
            ("gnss.csv", GNSS + "2.5,95.0,139.0,5,0,10,20\n", "gnss.csv:4: latitude_deg 95.0 is out of range"),
            ("gnss.csv", GNSS + "2.5,35.0,139.0,-5,0,10,20\n", "gnss.csv:4: speed_m_s -5 is out of range"),
            ("notes.txt", "nothing", "no accelerometer.csv, gyroscope.csv, magnetometer.csv, gnss.csv, .gpx or .nmea file in it"),
        ],
    )
    def test_bad_input_is_one_line_that_says_where(self, tmp_path: Path, name: str, text: str, message: str) -> None:
        (tmp_path / name).write_text(text)
        with pytest.raises(DriveError) as error:
            overlay(tmp_path, WORLD)
        assert message in str(error.value) and "\n" not in str(error.value)
        assert str(tmp_path) in str(error.value)

    def test_what_is_not_there_or_not_text_is_said(self, tmp_path: Path) -> None:
        with pytest.raises(DriveError, match="nowhere: No such file or directory"):
            overlay(tmp_path / "nowhere", WORLD)
        (tmp_path / "gnss.csv").write_bytes(b"t_s,\xff\xfe\n")
        with pytest.raises(DriveError, match=r"gnss.csv: not a text file"):
            overlay(tmp_path, WORLD)
        (tmp_path / "gnss.csv").unlink()
        (tmp_path / "gnss.csv").mkdir()
        with pytest.raises(DriveError, match=r"gnss.csv: Is a directory"):
            overlay(tmp_path, WORLD)


class TestGpx:
    def test_speed_and_bearing_come_from_the_way_between_points(self, tmp_path: Path) -> None:
        drive = overlay(write(tmp_path, ride__gpx=GPX) / "ride.gpx", WORLD)
        assert drive.duration_us == 4_500_000
        start, end = drive.at(0), drive.at(4_500_000)
        assert start["speed"] == pytest.approx(11.12 / 2, rel=1e-3)  # 0.0001° of latitude in 2 s
        assert math.degrees(start["bearing"]) == pytest.approx(0.0)
        assert math.degrees(end["bearing"]) == pytest.approx(90.0)
        assert end["speed"] == pytest.approx(18.14 / 2.5, rel=1e-3)
        assert drive.at(1_000_000)["altitude"] == pytest.approx(13.0)
        assert set(drive.replaced) == {"latitude", "longitude", "altitude", "speed", "bearing"}

    def test_recorded_speed_and_course_are_taken(self, tmp_path: Path) -> None:
        text = GPX.replace("<ele>12.5</ele>", "<extensions><x:speed>3.5</x:speed><x:course>45</x:course></extensions>")
        drive = overlay(write(tmp_path, ride__gpx=text), WORLD)  # in a folder without gnss.csv
        assert drive.at(0)["speed"] == 3.5 and math.degrees(drive.at(0)["bearing"]) == pytest.approx(45)
        assert "altitude" not in drive.replaced, "not every point has a height"

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("</trkseg>", "", "ride.gpx:7: mismatched tag"),
            ('lat="35.3401" lon="139.4900"', 'lon="139.4900"', "ride.gpx:5: trkpt without lat"),
            ('lat="35.3400"', 'lat="135"', "ride.gpx:4: lat 135 is out of range"),
            ("<time>2026-05-01T01:00:02Z</time>", "", "ride.gpx:5: trkpt without time"),
            ("2026-05-01T01:00:02Z", "yesterday", "ride.gpx:5: not a time: 'yesterday'"),
            ("01:00:02Z", "00:59:59Z", "ride.gpx:5: time -1 s does not rise"),
            ("trkpt", "wpt", "ride.gpx: no track points"),
        ],
    )
    def test_bad_gpx_is_one_line_that_says_where(self, tmp_path: Path, old: str, new: str, message: str) -> None:
        write(tmp_path, ride__gpx=GPX.replace(old, new))
        with pytest.raises(DriveError) as error:
            overlay(tmp_path / "ride.gpx", WORLD)
        assert message in str(error.value) and "\n" not in str(error.value)


class TestNmea:
    LOG = (
        sentence("GPGGA,010000.00,3520.4000,N,13929.4000,E,1,09,0.9,12.5,M,38.0,M,,")
        + sentence("GPRMC,010000.00,A,3520.4000,N,13929.4000,E,010.0,350.0,010526,,,A")
        + sentence("GPGSV,1,1,00")
        + sentence("GPRMC,010001.00,V,,,,,,,010526,,,N")
        + sentence("GNRMC,010002.50,A,3520.4100,N,13929.4000,E,020.0,,010526,,,A")
        + sentence("GNGGA,010002.50,3520.4100,N,13929.4000,E,1,09,0.9,14.5,M,38.0,M,,")
    )

    def test_valid_rmc_sentences_make_the_route_with_heights_of_gga(self, tmp_path: Path) -> None:
        drive = overlay(write(tmp_path, log__nmea=self.LOG), WORLD)
        assert drive.duration_us == 2_500_000
        start, end = drive.at(0), drive.at(2_500_000)
        assert start["latitude"] == pytest.approx(35 + 20.4 / 60) and start["longitude"] == pytest.approx(139 + 29.4 / 60)
        assert start["speed"] == pytest.approx(10 * KNOT) and end["speed"] == pytest.approx(20 * KNOT)
        assert math.degrees(start["bearing"]) == pytest.approx(350.0)
        assert math.degrees(end["bearing"]) == pytest.approx(0.0), "without a course: the way from the point before"
        assert (start["altitude"], end["altitude"]) == (12.5, 14.5)

    def test_published_sentences_are_read(self, tmp_path: Path) -> None:
        # micropyGPS tests/test_micropyGPS.py
        text = "$GPRMC,081836,A,3751.65,S,14507.36,E,000.0,360.0,130998,011.3,E*62\n"
        later = sentence("GPRMC,081838,A,3751.65,S,14507.36,E,000.0,,130998,011.3,E")
        values = overlay(write(tmp_path, a__nmea=text + later) / "a.nmea", WORLD).at(0)
        assert values["latitude"] == pytest.approx(-(37 + 51.65 / 60)) and values["longitude"] == pytest.approx(145 + 7.36 / 60)
        assert values["bearing"] == 0.0 and values["standing"] == 1.0

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (LOG.replace("350.0", "351.0"), "log.nmea:2: checksum is "),
            (sentence("GPRMC,010000,A,3520.4,N"), "log.nmea:1: RMC sentence is cut short"),
            (sentence("GPRMC,010000,A,3560.4,N,13929.4,E,1,2,010526,,,A"), "log.nmea:1: not a position: '3560.4' 'N'"),
            (sentence("GPRMC,010000,A,3520.4,X,13929.4,E,1,2,010526,,,A"), "log.nmea:1: not a position: '3520.4' 'X'"),
            (sentence("GPRMC,256000,A,3520.4,N,13929.4,E,1,2,010526,,,A"), "log.nmea:1: not a date and time: '010526' '256000'"),
            (LOG + sentence("GPRMC,010002.50,A,3520.4,N,13929.4,E,1,2,010526,,,A"), "log.nmea:7: time 2.5 s does not rise"),
            ("hello\n", "log.nmea: no valid RMC sentence"),
        ],
    )
    def test_bad_nmea_is_one_line_that_says_where(self, tmp_path: Path, text: str, message: str) -> None:
        write(tmp_path, log__nmea=text)
        with pytest.raises(DriveError) as error:
            overlay(tmp_path / "log.nmea", WORLD)
        assert message in str(error.value) and "\n" not in str(error.value)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    write(tmp_path, ride__fit="x")
    with pytest.raises(DriveError, match=r"neither a folder nor a \.gpx or \.nmea file"):
        overlay(tmp_path / "ride.fit", WORLD)
    write(tmp_path, a__gpx=GPX, b__gpx=GPX)
    with pytest.raises(DriveError, match=r"more than one route: a\.gpx, b\.gpx"):
        overlay(tmp_path, WORLD)


@pytest.mark.skipif(not RECORDED.is_dir(), reason="../shared/data/drive-comma2k19 is not there")
def test_the_recorded_drive_gives_back_its_own_rows() -> None:
    drive = overlay(RECORDED, WORLD)
    assert 59e6 < drive.duration_us < 61e6
    assert len(drive.replaced) == 14
    for name, quantity, scale in (
        ("accelerometer.csv", "acceleration_z", 1.0),
        ("gyroscope.csv", "angular_rate_x", 1.0),
        ("magnetometer.csv", "magnetic_field_x", 1e-6),
        ("gnss.csv", "latitude", 1.0),
        ("gnss.csv", "bearing", math.radians(1)),
    ):
        column = {"acceleration_z": "z_m_s2", "angular_rate_x": "x_rad_s", "magnetic_field_x": "x_uT", "bearing": "bearing_deg"}.get(
            quantity, "latitude_deg"
        )
        with open(RECORDED / name) as file:
            for row in list(csv.DictReader(file))[::17]:
                value = drive.at(round(float(row["t_s"]) * 1e6))[quantity]
                assert value == pytest.approx(float(row[column]) * scale, rel=1e-9, abs=1e-12)
