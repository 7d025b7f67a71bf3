"""Positions as GPX 1.1 (topografix.com/GPX/1/1): a track for each boot of each truck, a segment for each stretch without a gap.

Only valid fixes with a UTC are points: GPX knows no other time. Speed and course are not in GPX 1.1; they stand in
Garmin's TrackPointExtension v2, which most programs read. A stretch ends at a fix that is not valid, and where
fixes are more than APART_NS apart."""

from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np

from logbook.export_clock import NANO
from logbook.export_tables import Whose
from logbook.schemas.cruisers_pb2 import Position

APART_NS = 10 * NANO  # a receiver reports once a second; a tunnel or a dead receiver is longer

_HEAD = """<?xml version="1.0" encoding="UTF-8"?>
<gpx version="1.1" creator="cruisers" xmlns="http://www.topografix.com/GPX/1/1" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
 xmlns:tpx="http://www.garmin.com/xmlschemas/TrackPointExtension/v2"
 xsi:schemaLocation="http://www.topografix.com/GPX/1/1 http://www.topografix.com/GPX/1/1/gpx.xsd">
"""


class Gpx:
    """One GPX file; `points` counts what is in it, `without_time` the valid fixes that nobody knows the UTC of."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8")
        self._file.write(_HEAD)
        self._whose: Whose | None = None
        self._last: int | None = None  # boot time of the last point of a segment that is open
        self.points = 0
        self.without_time = 0

    def add(self, whose: Whose, position: Position) -> None:
        """The next position."""
        if whose is not self._whose:
            self._end_track()
        there = position.valid and position.HasField("latitude") and position.HasField("longitude")
        if not there or (self._last is not None and position.boottime_ns - self._last > APART_NS):
            self._end_segment()
        if not there:
            return
        utc = position.utc_ns or whose.utc.at(position.boottime_ns)
        if not utc:
            self.without_time += 1
            return
        if self._whose is None:
            self._file.write(f"<trk><name>{_text(whose.truck)}</name><desc>boot {_text(whose.boot_id)}</desc>\n")
            self._whose = whose
        if self._last is None:
            self._file.write("<trkseg>\n")
        self._last = position.boottime_ns
        self._file.write(_point(position, utc))
        self.points += 1

    def close(self) -> None:
        """Ends the file."""
        self._end_track()
        self._file.write("</gpx>\n")
        self._file.close()

    def _end_segment(self) -> None:
        if self._last is not None:
            self._file.write("</trkseg>\n")
        self._last = None

    def _end_track(self) -> None:
        self._end_segment()
        if self._whose is not None:
            self._file.write("</trk>\n")
        self._whose = None


def _point(position: Position, utc_ns: int) -> str:
    """In the order that the schema demands: ele, time, fix, extensions."""
    time = np.datetime_as_string(np.datetime64(utc_ns // 1_000_000, "ms"), unit="ms")
    parts = [f'<trkpt lat="{position.latitude:.9f}" lon="{position.longitude:.9f}">']
    if position.HasField("altitude"):
        parts.append(f"<ele>{position.altitude:.3f}</ele>")
    parts.append(f"<time>{time}Z</time><fix>{'3d' if position.mode >= 3 else '2d'}</fix>")
    motion = f"<tpx:speed>{position.speed:.3f}</tpx:speed>" if position.HasField("speed") else ""
    if position.HasField("bearing"):
        motion += f"<tpx:course>{np.degrees(position.bearing) % 360:.3f}</tpx:course>"
    if motion:
        parts.append(f"<extensions><tpx:TrackPointExtension>{motion}</tpx:TrackPointExtension></extensions>")
    return "".join([*parts, "</trkpt>\n"])


def _text(text: str) -> str:
    return quoteattr(text)[1:-1]
