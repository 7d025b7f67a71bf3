"""Positions from gpsd's JSON stream (gpsd.io/gpsd_json.html; facts 1.11), reconnecting.

A position counts on the fix's validity (mode >= 2 with coordinates), UTC on the date's (gateway/clock.py). Every field but class and
mode is optional in a TPV; what did not come is absent, never 0. The line itself is stored beside what we read from it."""

import math
import socket
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from gateway import fixes
from gateway.clock import Clock, boottime_ns, sane_date
from gateway.convert import plausible
from gateway.journal import Journal
from gateway.snapshot import Snapshot
from logbook.quantities import DEGREE
from logbook.schemas import cruisers_pb2 as pb

WATCH = b'?WATCH={"enable":true,"json":true};\n'
CONNECT_SECONDS = 3.0
SILENCE_SECONDS = 5.0  # without a report (they come once a second) the source counts as lost
POLL_SECONDS = 0.25  # how long a stop may wait for a silent gpsd
RECONNECT_SECONDS = 0.5
LINE_BYTES = 65_536  # gpsd's longest is about 10 kB (SKY); more without an end of line is not gpsd
NANO = 1_000_000_000

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# Quantity of the table: (gpsd's names, first found counts; SI per gpsd's unit).
FIELDS: dict[str, tuple[tuple[str, ...], float]] = {
    "latitude": (("lat",), 1.0),
    "longitude": (("lon",), 1.0),
    "altitude": (("altMSL", "alt", "altHAE"), 1.0),  # alt is what gpsd before 3.20 had
    "speed": (("speed",), 1.0),
    "bearing": (("track",), DEGREE),
}


def number(report: dict[str, Any], *names: str) -> float | None:
    """The first of `names` that is a finite number in `report`; None if none is."""
    for name in names:
        value = report.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
    return None


def parse_time(text: object) -> int | None:
    """UTC in ns of gpsd's ISO 8601 time; None if it is none."""
    if not isinstance(text, str):
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        return None
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000


def values_of(report: dict[str, Any]) -> dict[str, float | str]:
    """SI values of the quantities in a TPV, or the reason why there is none."""
    if not is_valid(report):
        return dict.fromkeys(FIELDS, "no fix")
    values: dict[str, float | str] = {}
    for quantity, (names, factor) in FIELDS.items():
        said = number(report, *names)
        if said is None:
            values[quantity] = "not reported"
        else:
            values[quantity] = said * factor
    return plausible(values)


def is_valid(report: dict[str, Any]) -> bool:
    """A fix with coordinates that can be on Earth."""
    latitude, longitude = number(report, "lat"), number(report, "lon")
    mode = report.get("mode")
    return (
        isinstance(mode, int) and mode >= fixes.MODE_2D and latitude is not None and longitude is not None
        and abs(latitude) <= 90 and abs(longitude) <= 180
    )  # fmt: skip


def position(report: dict[str, Any], at_ns: int, line: bytes) -> pb.Position:
    """A TPV received at boot time `at_ns`, with the `line` itself."""
    mode = report.get("mode")
    message = fixes.position(at_ns, line, mode if isinstance(mode, int) and mode > 0 else 0, values_of(report))
    horizontal = number(report, "eph")
    if horizontal is None:  # gpsd 3.22 gives it by axis
        east, north = number(report, "epx"), number(report, "epy")
        horizontal = math.hypot(east, north) if east is not None and north is not None else None
    bearing_error = number(report, "epd")
    errors = {
        "horizontal_error": horizontal,
        "speed_error": number(report, "eps"),
        "bearing_error": None if bearing_error is None else bearing_error * DEGREE,
        "time_error": number(report, "ept"),
    }
    for field, error in errors.items():
        if error is not None:
            setattr(message, field, error)
    utc = parse_time(report.get("time"))
    if message.valid and utc is not None and sane_date(utc):  # only a fix dates: a receiver without one makes up a time
        message.utc_ns = utc
    return message


class Positions:
    """The source: `run(stop)` reads gpsd at `host`:`port` until `stop` is set, and survives gpsd's going and coming.

    `malformed` counts lines that are not what gpsd sends. `since_ns`: see Outage."""

    def __init__(self, host: str, port: int, clock: Clock, journal: Journal, snapshot: Snapshot, since_ns: int | None = None) -> None:
        self._address = (host, port)
        self._fixes = fixes.Fixes(clock, journal, snapshot, since_ns=since_ns)
        self.malformed = 0

    def run(self, stop: threading.Event) -> None:
        """Until `stop` is set."""
        while not stop.is_set():
            try:
                with socket.create_connection(self._address, timeout=CONNECT_SECONDS) as connection:
                    connection.sendall(WATCH)
                    self._read(connection, stop)
            except OSError as error:
                self._fixes.missing(f"gpsd: {error.strerror or error}")
            stop.wait(RECONNECT_SECONDS)
        self._fixes.finish()

    def _read(self, connection: socket.socket, stop: threading.Event) -> None:
        connection.settimeout(POLL_SECONDS)
        buffer = b""
        heard = boottime_ns()
        while not stop.is_set():
            if boottime_ns() - heard > SILENCE_SECONDS * NANO:
                self._fixes.missing("no report from the receiver")
            try:
                data = connection.recv(4096)
            except TimeoutError:
                continue
            at = boottime_ns()
            if not data:
                self._fixes.missing("gpsd closed the connection")
                return
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                if line.strip() and self.line(line.strip(), at):
                    heard = at
            if len(buffer) > LINE_BYTES:
                self.malformed += 1
                self._fixes.missing("not gpsd's stream")
                return

    def line(self, line: bytes, at_ns: int) -> bool:
        """One line of the stream, received at boot time `at_ns`; True if it was a report of the receiver (TPV)."""
        try:
            report = msgspec.json.decode(line, type=dict[str, Any])
        except msgspec.DecodeError:
            self.malformed += 1
            return False
        if report.get("class") != "TPV":
            return False
        message = position(report, at_ns, line)
        raw = {}
        for quantity, (names, _) in FIELDS.items():
            said = number(report, *names)
            raw[quantity] = "" if said is None else repr(said)
        self._fixes.take(message, values_of(report), raw, parse_time(report.get("time")), number(report, "epv"))
        return True
