"""A recorded drive laid over the world, quantity by quantity; what was not recorded stays synthetic.

A folder holds any of accelerometer.csv (t_s, x_m_s2, y_m_s2, z_m_s2), gyroscope.csv (t_s, x_rad_s, ...), magnetometer.csv (t_s, x_uT,
...) and gnss.csv (t_s, latitude_deg, longitude_deg, speed_m_s, altitude_m, bearing_deg); further columns and files are not used. A
GPX or NMEA file (instead of the folder, or in it instead of gnss.csv) gives the route alone.

The drive's t_s = 0 is moved to the start of the simulation. Between rows every value is interpolated linearly (the bearing along the
shorter way, over north too); before the first row of a file the first row holds, after its last row the last. The recorder's axes are
taken as the body's. The drive ends at `duration_us`, the last row of any file.
"""

import csv
import math
from bisect import bisect_right
from pathlib import Path
from typing import NamedTuple, Protocol

from sim.traces import DriveError, Point, check_rising, complete, number, read_gpx, read_nmea, read_text

__all__ = ["Drive", "DriveError", "Source", "overlay"]

STANDING_BELOW = 0.3  # m/s: a receiver at rest shows some cm/s


class Source(Protocol):
    """What the chips, the receiver and the camera ask: the world or a drive over it."""

    seed: int
    start_utc_ns: int

    def at(self, t_us: int) -> dict[str, float]:
        """All quantities at `t_us`."""
        ...


class _Column(NamedTuple):
    quantity: str
    column: str
    scale: float = 1.0
    low: float = -math.inf
    high: float = math.inf


_FILES: dict[str, tuple[_Column, ...]] = {
    "accelerometer.csv": tuple(_Column(f"acceleration_{axis}", f"{axis}_m_s2") for axis in "xyz"),
    "gyroscope.csv": tuple(_Column(f"angular_rate_{axis}", f"{axis}_rad_s") for axis in "xyz"),
    "magnetometer.csv": tuple(_Column(f"magnetic_field_{axis}", f"{axis}_uT", 1e-6) for axis in "xyz"),
    "gnss.csv": (
        _Column("latitude", "latitude_deg", low=-90, high=90),
        _Column("longitude", "longitude_deg", low=-180, high=180),
        _Column("speed", "speed_m_s", low=0),
        _Column("altitude", "altitude_m"),
        _Column("bearing", "bearing_deg", math.radians(1), 0, 360),
    ),
}


class _Series(NamedTuple):
    """Rows of one file: `times` in s, one tuple of values a row in the order of `quantities`."""

    quantities: tuple[str, ...]
    times: list[float]
    rows: list[tuple[float, ...]]

    def at(self, seconds: float) -> tuple[float, ...]:
        """The values at `seconds`."""
        after = bisect_right(self.times, seconds)
        if after == 0 or after == len(self.times):
            return self.rows[max(after - 1, 0)]
        start = self.times[after - 1]
        share = (seconds - start) / (self.times[after] - start)
        return tuple(a + (b - a) * share for a, b in zip(self.rows[after - 1], self.rows[after], strict=True))


class Drive:
    """A world with recorded quantities in it: the same face as sim.world.World. `replaced` names what was recorded; `duration_us` is
    the end of the recording."""

    def __init__(self, world: Source, series: list[_Series]) -> None:
        self.seed = world.seed
        self.start_utc_ns = world.start_utc_ns
        self.duration_us = round(max(one.times[-1] for one in series) * 1e6)
        self.replaced = tuple(quantity for one in series for quantity in one.quantities if quantity != "distance")
        self._world = world
        self._series = series

    def at(self, t_us: int) -> dict[str, float]:
        """All quantities at `t_us`, as World.at."""
        values = self._world.at(t_us)
        for one in self._series:
            values.update(zip(one.quantities, one.at(t_us / 1e6), strict=True))
        if "bearing" in self.replaced:
            values["bearing"] %= 2 * math.pi
            values["standing"] = 1.0 if values["speed"] < STANDING_BELOW else 0.0
            values["along"] = values["distance"]
        return values


def overlay(path: str | Path, world: Source) -> Drive:
    """The drive in the folder or file `path` over `world`; raises DriveError."""
    path = Path(path)
    if path.is_dir():
        series = _read_folder(path)
    elif path.exists():
        series = [_route(path)]
    else:
        raise DriveError(f"{path}: No such file or directory")
    drive = Drive(world, series)
    if drive.duration_us <= 0:
        raise DriveError(f"{path}: the drive has no length (one row)")
    return drive


def _read_folder(folder: Path) -> list[_Series]:
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except OSError as error:
        raise DriveError(f"{folder}: {error.strerror}") from error
    series = [_read_csv(folder / name) for name in _FILES if name in names]
    if "gnss.csv" not in names:
        traces = [name for name in names if name.lower().endswith((".gpx", ".nmea"))]
        if len(traces) > 1:
            raise DriveError(f"{folder}: more than one route: {', '.join(traces)}")
        series += [_route(folder / name) for name in traces]
    if not series:
        raise DriveError(f"{folder}: no {', '.join(_FILES)}, .gpx or .nmea file in it")
    return series


def _read_csv(path: Path) -> _Series:
    columns = _FILES[path.name]
    reader = csv.reader(read_text(path).splitlines())
    header = [name.strip() for name in next(reader, [])]
    if not header:
        raise DriveError(f"{path}: empty file")
    missing = [name for name in ("t_s", *(one.column for one in columns)) if name not in header]
    if missing:
        raise DriveError(f"{path}: missing column {', '.join(missing)} (it has {', '.join(header)})"[:300])
    time_at, places = header.index("t_s"), [(one, header.index(one.column)) for one in columns]
    times: list[float] = []
    rows: list[tuple[float, ...]] = []
    for row in reader:
        if not row:
            continue
        where = f"{path}:{reader.line_num}"
        if len(row) != len(header):
            raise DriveError(f"{where}: {len(row)} values, the header has {len(header)}")
        seconds = number(row[time_at], "t_s", where, 0)
        if times:
            check_rising(seconds, times[-1], where)
        times.append(seconds)
        rows.append(tuple(number(row[at], one.column, where, one.low, one.high) * one.scale for one, at in places))
    if not times:
        raise DriveError(f"{path}: no rows")
    series = _Series(tuple(one.quantity for one in columns), times, rows)
    return _moving(series) if path.name == "gnss.csv" else series


def _route(path: Path) -> _Series:
    """The series of a GPX or NMEA file."""
    suffix = path.suffix.lower()
    if suffix == ".gpx":
        points = read_gpx(path)
    elif suffix in (".nmea", ".nma", ".log", ".txt"):
        points = read_nmea(path)
    else:
        raise DriveError(f"{path}: neither a folder nor a .gpx or .nmea file")
    names: tuple[str, ...] = ("latitude", "longitude", "speed", "bearing")
    rows = [_row(point) for point in complete(points)]
    if all(point.altitude is not None for point in points):
        names += ("altitude",)
        rows = [(*row, point.altitude or 0.0) for row, point in zip(rows, points, strict=True)]
    return _moving(_Series(names, [point.seconds for point in points], rows))


def _row(point: Point) -> tuple[float, ...]:
    return point.latitude, point.longitude, point.speed or 0.0, math.radians(point.bearing or 0.0)


def _moving(series: _Series) -> _Series:
    """The series with bearing unwrapped, so that linear interpolation goes the shorter way, and with `distance`, the
    integral of speed."""
    bearing_at, speed_at = series.quantities.index("bearing"), series.quantities.index("speed")
    rows: list[tuple[float, ...]] = []
    bearing, distance = series.rows[0][bearing_at], 0.0
    for k, row in enumerate(series.rows):
        bearing += math.remainder(row[bearing_at] - bearing, 2 * math.pi)
        if k:
            distance += (series.times[k] - series.times[k - 1]) * (row[speed_at] + series.rows[k - 1][speed_at]) / 2
        rows.append((*row[:bearing_at], bearing, *row[bearing_at + 1 :], distance))
    return _Series((*series.quantities, "distance"), series.times, rows)
