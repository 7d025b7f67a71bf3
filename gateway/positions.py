"""Positions from gpsd's JSON stream (gpsd.io/gpsd_json.html; facts 1.11), reconnecting.

A position counts on the fix's validity (mode >= 2 with coordinates), UTC on the date's (gateway/clock.py). Every field but class and
mode is optional in a TPV; what did not come is absent, never 0. The line itself is stored beside what we read from it."""

import math
import socket
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from foxglove_schemas_protobuf.LocationFix_pb2 import LocationFix

from gateway.clock import Clock, boottime_ns, sane_date
from gateway.journal import Entry, Journal
from gateway.snapshot import Snapshot
from gateway.supervision import Outage
from logbook.channels import FIX, POSITION
from logbook.quantities import BY_ID, DEGREE
from logbook.schemas import cruisers_pb2 as pb

SOURCE = "gnss"
WATCH = b'?WATCH={"enable":true,"json":true};\n'
CONNECT_SECONDS = 3.0
SILENCE_SECONDS = 5.0  # without a report (they come once a second) the source counts as lost
GAP_SECONDS = 2.5  # from report to report: two have not come
POLL_SECONDS = 0.25  # how long a stop may wait for a silent gpsd
RECONNECT_SECONDS = 0.5
LINE_BYTES = 65_536  # gpsd's longest is about 10 kB (SKY); more without an end of line is not gpsd
MODE_2D = 2
FRAME = "gnss"  # of the LocationFix: the antenna
NANO = 1_000_000_000

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_COVARIANCE = LocationFix.PositionCovarianceType

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
        elif not BY_ID[quantity].low <= said * factor <= BY_ID[quantity].high:
            values[quantity] = "implausible"
        else:
            values[quantity] = said * factor
    return values


def is_valid(report: dict[str, Any]) -> bool:
    """A fix with coordinates that can be on Earth."""
    latitude, longitude = number(report, "lat"), number(report, "lon")
    mode = report.get("mode")
    return (
        isinstance(mode, int) and mode >= MODE_2D and latitude is not None and longitude is not None
        and abs(latitude) <= 90 and abs(longitude) <= 180
    )  # fmt: skip


def position(report: dict[str, Any], at_ns: int, line: bytes) -> pb.Position:
    """A TPV received at boot time `at_ns`, with the `line` itself."""
    valid = is_valid(report)
    mode = report.get("mode")
    message = pb.Position(boottime_ns=at_ns, valid=valid, mode=mode if isinstance(mode, int) and mode > 0 else 0, raw=line)
    if not valid:
        message.reason = "no fix" if message.mode < MODE_2D else "no coordinates"
    else:
        for quantity, value in values_of(report).items():
            if not isinstance(value, str):
                setattr(message, quantity, value)
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
    if valid and utc is not None and sane_date(utc):  # only a fix dates: a receiver without one makes up a time
        message.utc_ns = utc
    return message


def location_fix(message: pb.Position, utc_ns: int, vertical_error: float | None) -> LocationFix:
    """A valid position for Foxglove; `utc_ns` 0 leaves it without a time."""
    fix = LocationFix(frame_id=FRAME, latitude=message.latitude, longitude=message.longitude, altitude=message.altitude)
    if utc_ns:
        fix.timestamp.FromNanoseconds(utc_ns)
    if message.HasField("horizontal_error"):
        horizontal, vertical = message.horizontal_error**2, (vertical_error or 0.0) ** 2
        fix.position_covariance.extend((horizontal, 0, 0, 0, horizontal, 0, 0, 0, vertical))
        fix.position_covariance_type = _COVARIANCE.APPROXIMATED
    else:
        fix.position_covariance_type = _COVARIANCE.UNKNOWN
    return fix


class Positions:
    """The source: `run(stop)` reads gpsd at `host`:`port` until `stop` is set, and survives gpsd's going and coming.

    `malformed` counts lines that are not what gpsd sends. `since_ns`: see Outage."""

    def __init__(self, host: str, port: int, clock: Clock, journal: Journal, snapshot: Snapshot, since_ns: int | None = None) -> None:
        self._address = (host, port)
        self._clock = clock
        self._journal = journal
        self._snapshot = snapshot
        self._outage = Outage(journal, SOURCE, grace_seconds=GAP_SECONDS, since_ns=since_ns)
        self._fix: bool | None = None
        self._utc_told = False
        self.malformed = 0

    def run(self, stop: threading.Event) -> None:
        """Until `stop` is set."""
        while not stop.is_set():
            try:
                with socket.create_connection(self._address, timeout=CONNECT_SECONDS) as connection:
                    connection.sendall(WATCH)
                    self._read(connection, stop)
            except OSError as error:
                self._missing(f"gpsd: {error.strerror or error}")
            stop.wait(RECONNECT_SECONDS)
        self._outage.finish()

    def _read(self, connection: socket.socket, stop: threading.Event) -> None:
        connection.settimeout(POLL_SECONDS)
        buffer = b""
        heard = boottime_ns()
        while not stop.is_set():
            if boottime_ns() - heard > SILENCE_SECONDS * NANO:
                self._missing("no report from the receiver")
            try:
                data = connection.recv(4096)
            except TimeoutError:
                continue
            at = boottime_ns()
            if not data:
                self._missing("gpsd closed the connection")
                return
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                if line.strip() and self.line(line.strip(), at):
                    heard = at
            if len(buffer) > LINE_BYTES:
                self.malformed += 1
                self._missing("not gpsd's stream")
                return

    def _missing(self, reason: str) -> None:
        self._outage.lost(reason)
        self._fix = None
        self._snapshot.sensor(SOURCE, "failed", reason)
        self._snapshot.values(boottime_ns(), dict.fromkeys(FIELDS, reason), {})

    def line(self, line: bytes, at_ns: int) -> bool:
        """One line of the stream, received at boot time `at_ns`; True if it was a report of the receiver (TPV)."""
        try:
            report = msgspec.json.decode(line, type=dict[str, Any])
        except msgspec.DecodeError:
            self.malformed += 1
            return False
        if report.get("class") != "TPV":
            return False
        self._outage.seen(at_ns)
        message = position(report, at_ns, line)
        entries = [Entry(POSITION, at_ns, message.SerializeToString())]
        if message.valid:
            self._tell_clock(report, message)
            utc = message.utc_ns or self._clock.utc_ns(at_ns)
            fix = location_fix(message, utc, number(report, "epv"))
            entries.append(Entry(FIX, at_ns, fix.SerializeToString()))
        self._journal.write(entries)
        self._tell_live(report, message)
        return True

    def _tell_clock(self, report: dict[str, Any], message: pb.Position) -> None:
        """The date of a fix. The clock counts dates that cannot be true."""
        utc = parse_time(report.get("time"))
        if utc is not None:
            self._clock.observe_gnss(message.boottime_ns, utc, number(report, "ept"))

    def _tell_live(self, report: dict[str, Any], message: pb.Position) -> None:
        raw = {}
        for quantity, (names, _) in FIELDS.items():
            said = number(report, *names)
            raw[quantity] = "" if said is None else repr(said)
        self._snapshot.values(message.boottime_ns, values_of(report), raw)
        self._snapshot.count(f"samples.{SOURCE}")
        if message.valid != self._fix:
            self._fix = message.valid
            self._snapshot.sensor(SOURCE, "ok" if message.valid else "degraded", message.reason)
        if message.valid:
            self._snapshot.send()
