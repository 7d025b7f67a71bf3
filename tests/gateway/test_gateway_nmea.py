"""GGA and VTG: the standard's own examples, what must not become a number, and any bytes."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.nmea import Gga, Vtg, decode_nmea
from sim.chips.first_fleet import sentence

GGA = b"$GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*47\r\n"
VTG = b"$GPVTG,054.7,T,034.4,M,005.5,N,010.2,K*48\r\n"


def test_the_common_examples_of_the_standard() -> None:
    place = decode_nmea(GGA)
    assert isinstance(place, Gga) and place.fix
    assert place.latitude == pytest.approx(48 + 7.038 / 60, abs=1e-12) and place.longitude == pytest.approx(11 + 31 / 60, abs=1e-12)
    assert place.altitude == 545.4
    course = decode_nmea(VTG)
    assert isinstance(course, Vtg)
    assert course.speed == pytest.approx(10.2 / 3.6) and course.bearing == pytest.approx(math.radians(54.7))


@pytest.mark.parametrize(
    ("fields", "check", "decoded"),
    [
        ("GPRMC,081836,A,3751.65,S,14507.36,E,000.0,360.0,130998,011.3,E", b"62", None),  # another sentence
        ("GPRMC,092751.000,A,5321.6802,N,00630.3371,W,0.06,31.66,280511,,,A", b"45", None),
        ("GPGGA,180126.905,4254.931,N,07702.496,W,0,00,,,M,,M,,", b"54", Gga(False, None, None, None)),
    ],
)
def test_the_published_checksums(fields: str, check: bytes, decoded: Gga | None) -> None:
    """facts/sensors-and-head.md 1.11 (tests of micropyGPS)."""
    data = b"$" + fields.encode() + b"*" + check
    assert sentence(fields) == data + b"\r\n" and decode_nmea(data) == decoded
    place = decode_nmea(sentence("GPGGA,180126.905,4254.931,N,07702.496,W,1,04,,12.5,M,,M,,"))  # with a fix it is one
    assert place == Gga(True, pytest.approx(42 + 54.931 / 60), pytest.approx(-(77 + 2.496 / 60)), 12.5)


def test_every_hemisphere_and_every_end_of_line() -> None:
    place = decode_nmea(sentence("GNGGA,000000.00,3530.5000,S,13945.2500,W,2,12,0.7,-3.5,M,,M,,")[:-2])
    assert place == Gga(True, -(35 + 30.5 / 60), -(139 + 45.25 / 60), -3.5)
    assert decode_nmea(sentence("GPVTG,,T,,M,3.0,N,,K,A")) == Vtg(pytest.approx(3 * 1852 / 3600), None)


@pytest.mark.parametrize(
    "fields",
    [
        "GPGGA,123519,,,,,0,00,,,M,,M,,",
        "GPGGA,123519,4807.038,N,01131.000,E,0,08,0.9,545.4,M,46.9,M,,",  # the last place of a lost fix
        "GPGGA,123519,4807.038,N,01131.000,E,6,08,0.9,545.4,M,46.9,M,,",  # dead reckoning
        "GPGGA,123519,4807.038,N,01131.000,E,8,08,0.9,545.4,M,46.9,M,,",  # simulated
    ],
)
def test_without_a_fix_there_is_no_place(fields: str) -> None:
    assert decode_nmea(sentence(fields)) == Gga(False, None, None, None)


@pytest.mark.parametrize(
    "angle", ["4860.000,N", "4807.038,E", "4807.038,", "9100.000,N", "407.038,N", "4807.038x,N", "-4807.038,N", "4807.,N", "nan,N", ",N"]
)
def test_a_latitude_that_is_none_is_absent(angle: str) -> None:
    place = decode_nmea(sentence(f"GPGGA,123519,{angle},01131.000,E,1,08,0.9,545.4,M,46.9,M,,"))
    assert isinstance(place, Gga) and place.fix and place.latitude is None and place.longitude is not None


def test_a_course_that_is_not_measured_is_absent() -> None:
    assert decode_nmea(sentence("GPVTG,0.0,T,,M,0.0,N,0.0,K,N")) == Vtg(None, None)
    assert decode_nmea(sentence("GPVTG,,,,,,,,")) == Vtg(None, None)
    assert decode_nmea(sentence("GPVTG,inf,T,,M,1e9,N,nan,K,A")) == Vtg(None, None)


@pytest.mark.parametrize(
    "data", [b"", GGA[:-5] + b"*48\r\n", GGA[1:], GGA.replace(b"*47", b""), GGA[:-7] + GGA[-5:], b"$GPGSV,3,1,11*7C\r\n"]
)
def test_what_is_broken_or_another_sentence_is_nothing(data: bytes) -> None:
    assert decode_nmea(data) is None


@given(st.one_of(st.binary(max_size=90), st.text("0123456789.,NSEWMKTA-", max_size=70).map(lambda text: sentence("GPGGA," + text))))
def test_any_bytes_are_nothing_or_on_earth(data: bytes) -> None:
    decoded = decode_nmea(data)
    if isinstance(decoded, Gga):
        assert decoded.latitude is None or abs(decoded.latitude) <= 90
        assert decoded.longitude is None or abs(decoded.longitude) <= 180
