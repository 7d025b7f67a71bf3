"""Shocks from the IMU: when the magnitude of the body's acceleration within a band is above a threshold.

The band. Gravity, slopes, braking and turning are slower than 1 Hz; above 30 Hz sheet metal rings, and near 51 Hz the samples of 102 Hz
fold back what is faster; what a kerb, a pothole, a container that is set down hard or a collision does to the body lies between. Each axis
goes through a high-pass and a low-pass of second order (Butterworth, bilinear; R. Bristow-Johnson, Audio EQ Cookbook), sample by sample
and causal, the state carried over from block to block. The three results make one magnitude, so it does not matter how the box is turned.

The threshold, 10 m/s² (1.02 g). Telematics units call 0.7 g (FleetFreedom) to 1 to 2.5 g (PosiTrace: "standard") a crash, 0.2 to 0.55 g
harsh driving (the same; Digital Matter). The seat of a garbage truck has a weighted 0.99 m/s² r.m.s. over a shift (Paschold 2015, doi
10.4236/ojsst.2015.54011); with the crest factor of 9 up to which ISO 2631-1 trusts an r.m.s., its ordinary peaks stay below 9 m/s². So 10
is just above what every shift has. The recorded drive, a car on city streets, reaches 6.8 in its minute. It does not tell a kerb from a
collision: the peak in the record is for whoever must. A body is stiffer than a seat and takes containers: nobody has measured one yet, so
look at the peaks of the first weeks, and set the threshold by them.

How large a half sine of one axis must be to be found, by its length: 60 ms 12 m/s², 30 ms 14, 20 ms 18, and 11 ms 17 to 65, as the samples
fall (22 to 36 if the chip's own filter of 50 Hz is of second order, which TDK does not say). Shorter ones may fall between two samples.
The time of the peak is late by up to 14 ms, most of it the low-pass's delay.

What the samples cannot say. A gap, or a sample beyond the chip's range, breaks the filter: it begins anew at the next sample, as if that
had stood for ever, and is not judged for 1/low_hz (1 s): the error of that beginning is then down to 1.2 %. So a gap never makes a shock,
and one within a second after it is missed. A sample beyond the range is itself a shock, without a number: its peak is null."""

import json
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gateway import config
from gateway.events import Events

SHOCK = "shock"
NANO = 1_000_000_000
LONGEST_SECONDS = 10.0  # one that goes on is told in parts: what is only remembered is lost with the power

Floats = npt.NDArray[np.float64]


class Section:
    """One filter of second order, transposed direct form II: `b` and `a` (a0 = 1) of its transfer function."""

    def __init__(self, b: tuple[float, float, float], a: tuple[float, float]) -> None:
        self._b = b
        self._a = a
        self._z = (0.0, 0.0)

    def begin(self, value: float) -> float:
        """Forgets what was, as if `value` had stood for ever; what then comes out."""
        b0, b1, b2 = self._b
        a1, a2 = self._a
        out = value * (b0 + b1 + b2) / (1 + a1 + a2)
        self._z = (out - b0 * value, b2 * value - a2 * out)
        return out

    def run(self, values: list[float]) -> list[float]:
        """The next `values`, filtered."""
        b0, b1, b2 = self._b
        a1, a2 = self._a
        z1, z2 = self._z
        result = []
        for value in values:
            out = b0 * value + z1
            z1 = b1 * value - a1 * out + z2
            z2 = b2 * value - a2 * out
            result.append(out)
        self._z = (z1, z2)
        return result


def high_pass(corner_hz: float, rate_hz: float) -> Section:
    """Butterworth of second order: half the power at `corner_hz`, samples at `rate_hz`."""
    cosine, alpha = _angles(corner_hz, rate_hz)
    middle = -(1 + cosine)
    return _section((-middle / 2, middle, -middle / 2), cosine, alpha)


def low_pass(corner_hz: float, rate_hz: float) -> Section:
    """Butterworth of second order: half the power at `corner_hz`, samples at `rate_hz`."""
    cosine, alpha = _angles(corner_hz, rate_hz)
    middle = 1 - cosine
    return _section((middle / 2, middle, middle / 2), cosine, alpha)


def _angles(corner_hz: float, rate_hz: float) -> tuple[float, float]:
    omega = 2 * math.pi * corner_hz / rate_hz
    return math.cos(omega), math.sin(omega) / math.sqrt(2)  # alpha = sin / 2Q, Q = 1/sqrt(2)


def _section(b: tuple[float, float, float], cosine: float, alpha: float) -> Section:
    a0 = 1 + alpha
    return Section((b[0] / a0, b[1] / a0, b[2] / a0), (-2 * cosine / a0, (1 - alpha) / a0))


class Band:
    """The band-pass over three axes at `rate_hz`."""

    def __init__(self, low_hz: float, high_hz: float, rate_hz: float) -> None:
        self._axes = [(high_pass(low_hz, rate_hz), low_pass(high_hz, rate_hz)) for _ in range(3)]

    def begin(self, sample: Floats) -> None:
        """Forgets what was: `sample` [3] is taken to have stood for ever."""
        for (high, low), value in zip(self._axes, sample.tolist(), strict=True):
            low.begin(high.begin(value))

    def magnitude(self, samples: Floats) -> Floats:
        """Of the next samples [n, 3], within the band [n]."""
        filtered = [low.run(high.run(samples[:, axis].tolist())) for axis, (high, low) in enumerate(self._axes)]
        return np.sqrt(np.square(np.array(filtered)).sum(axis=0))


@dataclass
class _Shock:
    """One that goes on: boot times in ns, `peak` in m/s²."""

    began_ns: int
    last_ns: int
    peak: float = 0.0
    peak_ns: int = 0
    saturated: int = 0


class Shocks:
    """Finds shocks in the samples of one IMU (`source`, at `rate_hz`) and tells `events`: foretold at the first sample above the
    threshold, told when it was quiet for quiet_seconds, or after LONGEST_SECONDS."""

    def __init__(self, settings: config.Shock, rate_hz: float, source: str, events: Events) -> None:
        self._threshold = settings.threshold
        self._quiet_ns = int(settings.quiet_seconds * NANO)
        self._settle_ns = int(NANO / settings.low_hz)
        self._band = Band(settings.low_hz, settings.high_hz, rate_hz)
        self._source = source
        self._events = events
        self._fresh = True  # the filter has no past
        self._judged_from_ns = 0
        self._now: _Shock | None = None

    def take(self, times_ns: npt.NDArray[np.uint64], acceleration: Floats) -> None:
        """The next samples, without a gap: boot times [n], m/s² of the three axes [n, 3], NaN where one was beyond the range."""
        missing = np.isnan(acceleration[:, 0] + acceleration[:, 1] + acceleration[:, 2])
        edges = np.flatnonzero(np.diff(missing)) + 1
        for part in np.split(np.arange(len(missing)), edges):
            if missing[part[0]]:
                self._saturated(times_ns[part])
            else:
                self._measured(times_ns[part], acceleration[part])
        if self._now is not None and int(times_ns[-1]) - self._now.last_ns > self._quiet_ns:
            self.finish()

    def interrupted(self) -> None:
        """The next samples do not follow those before: a shock that went on is told as it stands."""
        self._fresh = True
        self.finish()

    def finish(self) -> None:
        """Nothing comes for a while, or ever: a shock that went on is told as it stands."""
        shock, self._now = self._now, None
        if shock is None:
            return
        detail = {
            "peak": None if shock.saturated else round(shock.peak, 2),
            "peak_boottime_ns": shock.peak_ns,
            "duration": round((shock.last_ns - shock.began_ns) / NANO, 3),
            "saturated": shock.saturated,
        }
        self._events.tell(SHOCK, self._source, json.dumps(detail), shock.began_ns)

    def _saturated(self, times_ns: npt.NDArray[np.uint64]) -> None:
        self._fresh = True
        for at in times_ns.tolist():
            shock = self._at(at)
            if not shock.saturated:
                shock.peak_ns = at
            shock.saturated += 1

    def _measured(self, times_ns: npt.NDArray[np.uint64], acceleration: Floats) -> None:
        if self._fresh:
            self._fresh = False
            self._band.begin(acceleration[0])
            self._judged_from_ns = int(times_ns[0]) + self._settle_ns
        magnitude = self._band.magnitude(acceleration)
        above = (magnitude > self._threshold) & (times_ns >= self._judged_from_ns)
        for at, value in zip(times_ns[above].tolist(), magnitude[above].tolist(), strict=True):
            shock = self._at(at)
            if value > shock.peak and not shock.saturated:
                shock.peak, shock.peak_ns = value, at

    def _at(self, at_ns: int) -> _Shock:
        """The shock that a sample above the threshold belongs to."""
        shock = self._now
        if shock is not None and (at_ns - shock.last_ns > self._quiet_ns or at_ns - shock.began_ns > LONGEST_SECONDS * NANO):
            self.finish()
            shock = None
        if shock is None:
            shock = self._now = _Shock(at_ns, at_ns)
            self._events.foretell(SHOCK, at_ns)
        shock.last_ns = at_ns
        return shock
