"""UBX-NAV-PVT (class 01, id 07, 92 bytes): position, velocity and time of one epoch, as numbers. Pure; not run on the head.

Layout and two real messages: pyubx2 (project facts 1.11); flags3 bit 0 (invalid position) is from public drivers only. Latitude and
longitude exceed the RP2040's small integers and its 32-bit floats: the head copies the payload, whoever has doubles decodes it."""

import struct

RAW_SIZE = 92
QUANTITIES = ("latitude", "longitude", "altitude", "speed", "bearing")

# Plausible at all, as in the table of quantities: m above sea level, m/s.
_LOWEST, _HIGHEST, _FASTEST = -500.0, 9000.0, 100.0
_RADIAN = 0.017453292519943295 * 1e-5  # per step of headMot and headAcc
_ANY_DIRECTION = 18_000_000  # headAcc of 180°: the receiver's own word for "no direction" (real message 1 of the facts)
_UNKNOWN = 0xFFFFFFFF

# Of drivers that run where the date is used; gateway/clock.py has the same rule for what gpsd says.
BUILD_S = 1_767_225_600  # 2026-01-01: no truck that runs this lives earlier
ROLL_OVER_S = 1024 * 7 * 86_400  # a receiver that lost count of the weeks is 19.6 years wrong, either way

_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def mode(raw: bytes) -> int:
    """As gpsd counts: 1 no fix, 2 without height, 3 with it. A fix is gnssFixOK (within the receiver's own limits) and fixType 2, 3 or
    4 (with dead reckoning); dead reckoning alone and time alone are none."""
    return (2 if raw[20] == 2 else 3) if raw[21] & 1 and 2 <= raw[20] <= 4 else 1


def decode(trim: bytes, raw: bytes) -> "dict[str, float | str]":
    """Degrees, m (above mean sea level), m/s and radians of one NAV-PVT, or why there is none. ValueError if the length is wrong; `trim`
    is only the version.

    The bearing is the receiver's at any speed, as gpsd gives it: how far it can be trusted is headAcc (`errors`), which the receiver
    knows better than a limit of ours on the speed. Only where it says 180°, any direction, there is none."""
    if len(raw) != RAW_SIZE:
        raise ValueError("nav_pvt: wrong length of raw")
    fix = mode(raw)
    if fix == 1:
        return dict.fromkeys(QUANTITIES, "no fix")
    longitude, latitude, _, height = struct.unpack_from("<iiii", raw, 24)
    speed, heading, _, accuracy = struct.unpack_from("<iiII", raw, 60)
    placed = not raw[78] & 1  # flags3: position invalid
    on_earth = abs(latitude) <= 900_000_000 and abs(longitude) <= 1_800_000_000
    values: dict[str, float | str] = {
        "latitude": latitude * 1e-7 if on_earth else "implausible",
        "longitude": longitude * 1e-7 if on_earth else "implausible",
        "altitude": height * 1e-3 if _LOWEST <= height * 1e-3 <= _HIGHEST else "implausible",
        "speed": speed * 1e-3 if 0 <= speed * 1e-3 <= _FASTEST else "implausible",
        "bearing": heading * _RADIAN if 0 <= heading <= 36_000_000 else "implausible",
    }
    if not placed:
        values["latitude"] = values["longitude"] = "no fix"
    if not placed or fix == 2:
        values["altitude"] = "no fix"
    if accuracy >= _ANY_DIRECTION:
        values["bearing"] = "not ready"
    return values


def errors(raw: bytes) -> "dict[str, float]":
    """The receiver's own estimates (1 sigma): horizontal, vertical (m), speed (m/s), bearing (rad), time (s); what it does not know is
    absent. ValueError if the length is wrong."""
    if len(raw) != RAW_SIZE:
        raise ValueError("nav_pvt: wrong length of raw")
    found = {}
    for name, offset, factor in (
        ("horizontal", 40, 1e-3),
        ("vertical", 44, 1e-3),
        ("speed", 68, 1e-3),
        ("bearing", 72, _RADIAN),
        ("time", 12, 1e-9),
    ):
        number = struct.unpack_from("<I", raw, offset)[0]
        if number != _UNKNOWN and (name != "bearing" or number < _ANY_DIRECTION):
            found[name] = number * factor
    return found


def moment(raw: bytes) -> "int | None":
    """The receiver's time of the epoch in ns since 1970 (UTC), None where it does not vouch for it (date, time, fully resolved) or there
    is no such date. It may be wrong by whole weeks: see `utc`. ValueError if the length is wrong.

    `nano` may be negative. The leap second 23:59:60 is the same number as the second after it, as everywhere in POSIX."""
    if len(raw) != RAW_SIZE:
        raise ValueError("nav_pvt: wrong length of raw")
    if raw[11] & 0x07 != 0x07:
        return None
    year, month, day, hour, minute, second = struct.unpack_from("<HBBBBB", raw, 4)
    nano: int = struct.unpack_from("<i", raw, 16)[0]
    if not (1 <= month <= 12 and 1 <= day <= _DAYS[month - 1] + (month == 2 and _is_leap(year)) and hour < 24 and minute < 60):
        return None
    if second > (60 if hour == 23 and minute == 59 else 59) or not -1_000_000_000 < nano < 1_000_000_000:
        return None
    seconds = ((_days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second
    return seconds * 1_000_000_000 + nano


def utc(raw: bytes, not_before_s: int = BUILD_S) -> "int | None":
    """UTC of the epoch in ns since 1970, None where there is no `moment` or it cannot be true: outside of the 1024 weeks from
    `not_before_s` (s since 1970)."""
    said = moment(raw)
    if said is None or not not_before_s * 1_000_000_000 <= said < (not_before_s + ROLL_OVER_S) * 1_000_000_000:
        return None
    return said


def _is_leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def _days(year: int, month: int, day: int) -> int:
    """Days from 1970-01-01. Counted in years that begin in March: then the leap day is the last one."""
    month = (month + 9) % 12
    if month > 9:
        year -= 1
    return 365 * year + year // 4 - year // 100 + year // 400 + (153 * month + 2) // 5 + day - 719_469
