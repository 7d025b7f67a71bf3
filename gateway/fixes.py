"""What becomes of a position, whoever found it (gpsd, or a receiver that this program reads itself): it is written down, a valid one
also for Foxglove, dates the boot, and is shown live."""

from collections.abc import Mapping

from foxglove_schemas_protobuf.LocationFix_pb2 import LocationFix

from gateway.clock import Clock, boottime_ns
from gateway.journal import Entry, Sink
from gateway.snapshot import Snapshot
from gateway.supervision import Outage
from logbook.channels import FIX, POSITION
from logbook.schemas import cruisers_pb2 as pb

SOURCE = "gnss"
QUANTITIES = ("latitude", "longitude", "altitude", "speed", "bearing")
FRAME = "gnss"  # of the LocationFix: the antenna
MODE_2D = 2  # as gpsd counts: 1 no fix, 3 with a height
GAP_SECONDS = 2.5  # from position to position: two have not come

_COVARIANCE = LocationFix.PositionCovarianceType


def position(at_ns: int, raw: bytes, mode: int, values: Mapping[str, float | str]) -> pb.Position:
    """The message of a position that came at boot time `at_ns`: read from `raw`, with those of the SI `values` that are numbers. Without a
    fix (`mode`) or without coordinates it is not valid, and has the reason instead."""
    message = pb.Position(boottime_ns=at_ns, mode=mode, raw=raw)
    if mode < MODE_2D:
        message.reason = "no fix"
    elif isinstance(values["latitude"], str) or isinstance(values["longitude"], str):
        message.reason = "no coordinates"
    else:
        message.valid = True
        for quantity, value in values.items():
            if not isinstance(value, str):
                setattr(message, quantity, value)
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


class Fixes:
    """Takes the positions of one source; its thread alone calls. `since_ns`: see Outage."""

    def __init__(self, clock: Clock, journal: Sink, snapshot: Snapshot, since_ns: int | None = None) -> None:
        self._clock = clock
        self._journal = journal
        self._snapshot = snapshot
        self._outage = Outage(journal, SOURCE, grace_seconds=GAP_SECONDS, since_ns=since_ns)
        self._fix: bool | None = None

    def missing(self, reason: str) -> None:
        """No position comes, because of `reason`."""
        self._outage.lost(reason)
        self._fix = None
        self._snapshot.sensor(SOURCE, "failed", reason)
        self._snapshot.values(boottime_ns(), dict.fromkeys(QUANTITIES, reason), {})

    def finish(self) -> None:
        """The recorder stops."""
        self._outage.finish()

    def take(
        self,
        message: pb.Position,
        values: Mapping[str, float | str],
        raw: Mapping[str, str],
        said_utc_ns: int | None,
        vertical_error: float | None,
    ) -> None:
        """A position, valid or not, with its SI `values` (or reasons) and the receiver's numbers as text. `said_utc_ns` is the receiver's
        date whatever it is: the clock counts those that cannot be true."""
        at = message.boottime_ns
        self._outage.seen(at)
        entries = [Entry(POSITION, at, message.SerializeToString())]
        if message.valid:
            if said_utc_ns is not None:
                self._clock.observe_gnss(at, said_utc_ns, message.time_error if message.HasField("time_error") else None)
            fix = location_fix(message, message.utc_ns or self._clock.utc_ns(at), vertical_error)
            entries.append(Entry(FIX, at, fix.SerializeToString()))
        self._journal.write(entries)
        self._tell_live(message, values, raw)

    def _tell_live(self, message: pb.Position, values: Mapping[str, float | str], raw: Mapping[str, str]) -> None:
        self._snapshot.values(message.boottime_ns, values, raw)
        self._snapshot.count(f"samples.{SOURCE}")
        if message.valid != self._fix:
            self._fix = message.valid
            self._snapshot.sensor(SOURCE, "ok" if message.valid else "degraded", message.reason)
        if message.valid:
            self._snapshot.send()
