"""Positions of the first fleet's box, where it is the only receiver: its GGA and VTG become Position messages, one a second.

Which of the two comes first is not known: a GGA and a VTG within PAIR_SECONDS are one moment. NMEA gives no date, so there is no UTC; no
errors of the fix, so these are absent; and no dimension of it, so `mode` is 2: a fix of two dimensions at least."""

from gateway.clock import Clock
from gateway.convert import plausible
from gateway.fixes import MODE_2D, QUANTITIES, Fixes, position
from gateway.journal import Journal
from gateway.nmea import Gga, Vtg, decode_nmea
from gateway.snapshot import Snapshot
from gateway.supervision import NANO

OTHERS = (b"GSV", b"GSA", b"RMC", b"GLL", b"ZDA", b"TXT")  # sentences a receiver sends, too
PAIR_SECONDS = 0.5
SILENCE_SECONDS = 5.0  # of the receiver in a box that delivers else, as gpsd's


class BoxPositions:
    """Takes the box's sentences; one thread. `malformed` counts sentences that are broken or unknown. `since_ns`: see Outage."""

    def __init__(self, clock: Clock, journal: Journal, snapshot: Snapshot, since_ns: int | None = None) -> None:
        self._fixes = Fixes(clock, journal, snapshot, since_ns)
        self._gga: tuple[int, Gga, bytes] | None = None
        self._vtg: tuple[int, Vtg, bytes] | None = None
        self._silent_since: int | None = None
        self.malformed = 0

    def sentence(self, data: bytes, at_ns: int) -> None:
        """One sentence, which came at boot time `at_ns`."""
        self._pair(at_ns)
        decoded = decode_nmea(data)
        if isinstance(decoded, Gga):
            if self._gga is not None:
                self._write()
            self._gga = (at_ns, decoded, data)
            self._silent_since = at_ns
        elif isinstance(decoded, Vtg):
            self._vtg = (at_ns, decoded, data)
        else:
            self.malformed += data[3:6] not in OTHERS
        if self._gga is not None and self._vtg is not None:
            self._write()

    def pass_time(self, now_ns: int) -> None:
        """To be called again and again while the box delivers: waits for no sentence for ever."""
        self._pair(now_ns)
        if self._silent_since is None:
            self._silent_since = now_ns
        elif now_ns - self._silent_since > SILENCE_SECONDS * NANO:
            self._fixes.missing("no report from the receiver")
            self._silent_since = now_ns

    def lost(self, reason: str) -> None:
        """The box delivers nothing, because of `reason`."""
        if self._gga is not None:
            self._write()
        self._vtg = self._silent_since = None
        self._fixes.missing(reason)

    def finish(self) -> None:
        """The recorder stops."""
        if self._gga is not None:
            self._write()
        self._fixes.finish()

    def _pair(self, now_ns: int) -> None:
        """A GGA whose VTG does not come is written without it; a VTG alone says nothing."""
        if self._gga is not None and now_ns - self._gga[0] > PAIR_SECONDS * NANO:
            self._write()
        if self._vtg is not None and now_ns - self._vtg[0] > PAIR_SECONDS * NANO:
            self._vtg = None

    def _write(self) -> None:
        assert self._gga is not None
        at, gga, raw = self._gga
        vtg = Vtg(None, None)
        if self._vtg is not None:
            _, vtg, other = self._vtg
            raw += other
        self._gga = self._vtg = None
        values = _values(gga, vtg)
        said = {quantity: "" if isinstance(value, str) else repr(value) for quantity, value in values.items()}
        self._fixes.take(position(at, raw, MODE_2D if gga.fix else 0, values), values, said, None, None)


def _values(gga: Gga, vtg: Vtg) -> dict[str, float | str]:
    """SI values, or the reason why there is none."""
    if not gga.fix:
        return dict.fromkeys(QUANTITIES, "no fix")
    said = {**gga._asdict(), **vtg._asdict()}
    return plausible({quantity: "not reported" if said[quantity] is None else said[quantity] for quantity in QUANTITIES})
