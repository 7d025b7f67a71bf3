"""Reads recorded routes, GPX and NMEA, into one form. Every error is one line that names the file and, where there is one, the line."""

import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from xml.parsers import expat

EARTH = 6_371_008.8  # m, mean radius
KNOT = 1852 / 3600  # m/s
MOVED = 0.5  # m between neighbours: below it a direction cannot be told, and the last one is kept


class DriveError(ValueError):
    """Why a recorded drive cannot be used, in one line."""


class Point(NamedTuple):
    """One recorded position: s since the first, degrees, and what the file gives: m, m/s, degrees clockwise from north or None."""

    seconds: float
    latitude: float
    longitude: float
    altitude: float | None
    speed: float | None
    bearing: float | None


def number(text: str, what: str, where: str, low: float = -math.inf, high: float = math.inf) -> float:
    """The finite number in `text`, low <= number <= high; `where` is file:line."""
    try:
        value = float(text)
    except ValueError:
        raise DriveError(f"{where}: {what} is not a number: {text.strip()[:40]!r}") from None
    if not math.isfinite(value) or not low <= value <= high:
        raise DriveError(f"{where}: {what} {text.strip()[:40]} is out of range")
    return value


def read_text(path: Path) -> str:
    """The text of `path`."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DriveError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DriveError(f"{path}: not a text file (byte {error.start})") from error


def check_rising(seconds: float, before: float, where: str) -> None:
    """Times must rise from row to row: there is one truth for each moment."""
    if seconds <= before:
        raise DriveError(f"{where}: time {seconds:g} s does not rise (before: {before:g} s)")


def _instant(text: str, where: str) -> float:
    """Seconds since 1970 of an ISO 8601 time, UTC unless it says otherwise."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise DriveError(f"{where}: not a time: {text.strip()[:40]!r}") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def read_gpx(path: Path) -> list[Point]:
    """The track points of a GPX 1.0 or 1.1 file with their times. Speed and course are read where the recorder wrote them."""
    parser = expat.ParserCreate()
    text: list[str] = []
    point: dict[str, Any] | None = None
    found: list[dict[str, Any]] = []

    def opened(tag: str, attributes: dict[str, str]) -> None:
        nonlocal point
        text.clear()
        if tag == "trkpt":
            point = {"where": f"{path}:{parser.CurrentLineNumber}"}
            for name, limit in (("lat", 90.0), ("lon", 180.0)):
                if name not in attributes:
                    raise DriveError(f"{point['where']}: trkpt without {name}")
                point[name] = number(attributes[name], name, point["where"], -limit, limit)

    def closed(tag: str) -> None:
        nonlocal point
        if point is None:
            return
        name = tag.rpartition(":")[2]  # extensions carry a prefix: gpxtpx:speed
        where = f"{path}:{parser.CurrentLineNumber}"
        if name in ("ele", "speed", "course"):
            point[name] = number("".join(text), name, where)
        elif name == "time":
            point[name] = _instant("".join(text), where)
        elif name == "trkpt":
            if "time" not in point:
                raise DriveError(f"{point['where']}: trkpt without time")
            found.append(point)
            point = None

    parser.StartElementHandler = opened
    parser.EndElementHandler = closed
    parser.CharacterDataHandler = text.append
    try:
        parser.Parse(read_text(path), True)
    except expat.ExpatError as error:
        raise DriveError(f"{path}:{error.lineno}: {expat.ErrorString(error.code)}") from error
    points: list[Point] = []
    for entry in found:
        seconds = entry["time"] - found[0]["time"]
        if points:
            check_rising(seconds, points[-1].seconds, entry["where"])
        points.append(Point(seconds, entry["lat"], entry["lon"], entry.get("ele"), entry.get("speed"), entry.get("course")))
    if not points:
        raise DriveError(f"{path}: no track points")
    return points


def read_nmea(path: Path) -> list[Point]:
    """The valid RMC sentences of an NMEA 0183 log, with the altitude of the GGA sentence of the same time. Sentences with a wrong
    checksum are an error; other sentences and lines are passed over."""
    altitudes: dict[str, float] = {}
    found: list[tuple[str, str, float, list[str]]] = []
    for row, line in enumerate(read_text(path).splitlines(), 1):
        where = f"{path}:{row}"
        if not line.startswith("$"):
            continue
        fields = _sentence(line, where)
        if fields[0].endswith("GGA") and len(fields) > 9 and fields[9]:
            altitudes[fields[1]] = number(fields[9], "altitude", where)
        elif fields[0].endswith("RMC"):
            if len(fields) < 10:
                raise DriveError(f"{where}: RMC sentence is cut short")
            if fields[2] == "A":
                found.append((where, fields[1], _nmea_time(fields[9], fields[1], where), fields))
    points: list[Point] = []
    for where, time, instant, fields in found:
        seconds = instant - found[0][2]
        if points:
            check_rising(seconds, points[-1].seconds, where)
        points.append(
            Point(
                seconds,
                _angle(fields[3], fields[4], "NS", 90, where),
                _angle(fields[5], fields[6], "EW", 180, where),
                altitudes.get(time),
                number(fields[7], "speed", where, 0) * KNOT if fields[7] else None,
                number(fields[8], "course", where, 0, 360) if fields[8] else None,
            )
        )
    if not points:
        raise DriveError(f"{path}: no valid RMC sentence")
    return points


def _sentence(line: str, where: str) -> list[str]:
    """The fields of `$...*hh`; the checksum is the exclusive or of what stands between $ and *."""
    body, star, tail = line[1:].strip().partition("*")
    if star:
        actual = 0
        for byte in body.encode():
            actual ^= byte
        if tail.upper() != f"{actual:02X}":
            raise DriveError(f"{where}: checksum is {tail[:8]!r}, not {actual:02X}")
    return body.split(",")


def _nmea_time(date: str, time: str, where: str) -> float:
    """Seconds since 1970 of ddmmyy and hhmmss.sss."""
    try:
        fraction = float("0" + time[6:]) if len(time) > 6 else 0.0
        return datetime.strptime(date + time[:6], "%d%m%y%H%M%S").replace(tzinfo=UTC).timestamp() + fraction
    except ValueError:
        raise DriveError(f"{where}: not a date and time: {date[:12]!r} {time[:12]!r}") from None


def _angle(text: str, letter: str, letters: str, limit: float, where: str) -> float:
    """Degrees of (d)ddmm.mmmm and its letter."""
    value = number(text, "position", where, 0)
    degrees, minutes = divmod(value, 100)
    if letter not in (*letters,) or minutes >= 60 or degrees + minutes / 60 > limit:
        raise DriveError(f"{where}: not a position: {text[:20]!r} {letter[:4]!r}")
    return (degrees + minutes / 60) * (1 if letter == letters[0] else -1)


def complete(points: list[Point]) -> list[Point]:
    """The same points with speed and bearing for each: the recorded ones, else those of the way between its neighbours."""
    whole: list[Point] = []
    bearing = 0.0
    for k, point in enumerate(points):
        before, after = points[max(k - 1, 0)], points[min(k + 1, len(points) - 1)]
        north = math.radians(after.latitude - before.latitude) * EARTH
        east = math.radians(math.remainder(after.longitude - before.longitude, 360)) * EARTH * math.cos(math.radians(point.latitude))
        distance, duration = math.hypot(north, east), after.seconds - before.seconds
        if point.bearing is not None:
            bearing = point.bearing
        elif distance > MOVED:
            bearing = math.degrees(math.atan2(east, north)) % 360
        speed = point.speed if point.speed is not None else distance / duration if duration else 0.0
        whole.append(point._replace(speed=speed, bearing=bearing))
    return whole
