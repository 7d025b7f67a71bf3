"""Two NMEA 0183 sentences, as the first fleet's box passes them on: GGA (place) and VTG (speed and course).

A sentence counts only with its checksum, a field only if it is written as the standard says; what is empty or odd is absent, never 0.
Source: the standard's field lists as gpsd documents them (gpsd.io/NMEA.html). GGA has a time of day and no date: it cannot set a clock."""

import re
from typing import NamedTuple

from logbook.quantities import DEGREE

KILOMETER_PER_HOUR = 1 / 3.6  # m/s
KNOT = 1852 / 3600  # m/s
_SENTENCE = re.compile(rb"\$([A-Z]{2})([A-Z]{3}),([\x20-\x7e]*)\*([0-9A-Fa-f]{2})\r?\n?")
_ANGLE = re.compile(r"(\d{2,3})(\d{2}(?:\.\d+)?)")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_GGA_FIELDS = 14
_VTG_FIELDS = 8  # before NMEA 2.3, which adds the mode


class Gga(NamedTuple):
    """Degrees (WGS 84), m over the sea. Without a fix there is no place."""

    fix: bool
    latitude: float | None
    longitude: float | None
    altitude: float | None


class Vtg(NamedTuple):
    """m/s, and rad from true north."""

    speed: float | None
    bearing: float | None


def decode_nmea(data: bytes) -> Gga | Vtg | None:
    """The sentence in `data`, whichever satellites it is from; None if it is another one, or broken."""
    match = _SENTENCE.fullmatch(data)
    if match is None:
        return None
    check = 0
    for byte in data[1 : data.rindex(b"*")]:
        check ^= byte
    if check != int(match[4], 16):
        return None
    kind, fields = match[2], match[3].decode("ascii").split(",")
    if kind == b"GGA" and len(fields) >= _GGA_FIELDS:
        return _gga(fields)
    if kind == b"VTG" and len(fields) >= _VTG_FIELDS:
        return _vtg(fields)
    return None


def _gga(fields: list[str]) -> Gga:
    if fields[5] not in ("1", "2", "3", "4", "5"):  # 0 no fix, 6 to 8 dead reckoning, by hand, simulated
        return Gga(False, None, None, None)
    latitude, longitude = _angle(fields[1], fields[2], "NS", 90), _angle(fields[3], fields[4], "EW", 180)
    return Gga(True, latitude, longitude, _number(fields[8]) if fields[9] == "M" else None)


def _vtg(fields: list[str]) -> Vtg:
    if len(fields) > _VTG_FIELDS and fields[8] not in ("A", "D"):  # mode: neither autonomous nor differential
        return Vtg(None, None)
    speed, knots = _number(fields[6]), _number(fields[4])
    if speed is not None and fields[7] == "K":
        speed *= KILOMETER_PER_HOUR
    elif knots is not None and fields[5] == "N":
        speed = knots * KNOT
    else:
        speed = None
    bearing = _number(fields[0]) if fields[1] == "T" else None
    return Vtg(speed, None if bearing is None else bearing * DEGREE)


def _angle(text: str, side: str, sides: str, limit: float) -> float | None:
    """Degrees of ddmm.mmmm with its side; None if it is none."""
    match = _ANGLE.fullmatch(text)
    if match is None or len(side) != 1 or side not in sides:
        return None
    minutes = float(match[2])
    degrees = int(match[1]) + minutes / 60
    if minutes >= 60 or degrees > limit:
        return None
    return degrees if side == sides[0] else -degrees


def _number(text: str) -> float | None:
    return float(text) if _NUMBER.fullmatch(text) else None
