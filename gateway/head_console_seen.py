"""What a technician's console knows of a head on duty, from its frames (docs/formats.md section 1). It sends nothing and keeps nothing.

Moments are the head's own ticks, so a frame that comes again out of the ring is as old as it is. Behind HELLO the head says how each of
its sensors is; a change from before that is only listed. An older head does not, and one that was acknowledged says no STATE again until
it changes: then a sensor that delivers is taken to be `ok` until the head says otherwise, and one of the standard fit that neither
delivers nor says anything is silent. Of the ring's oldest frame the head tells only when it is asked; since then it is what was dropped
more."""

import json
import struct
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from firmware import frames
from firmware.parts import STANDARD
from gateway.convert import BadSample, Converter, split_payload
from gateway.head_live import health, missing, state
from gateway.parts import NO_NEW_SAMPLE

SILENT_S = 2.0  # without any frame: a head with an IMU sends 20 a second
SILENT = "silent"
_FRESH_US = 1_500_000  # slow chips are read once a second
_RATE_S = 5.0
_RATE_LEAST_S = 2.0
_KEPT = 50  # changes


class Change(NamedTuple):
    """A STATE or GAP frame in words, at the head's `ticks` (µs); `state` colours it, "" for a gap."""

    ticks: int
    source: str
    state: str
    text: str


@dataclass
class Sensor:
    """What one sensor has said. `values` (SI or a reason, by quantity) are those of its newest sample at `ticks`, None before the first."""

    name: str
    state: str = ""
    reason: str = ""
    failures: int = 0
    told: int = -1  # the state's ticks
    samples: int = 0
    ticks: int | None = None
    raw: list[bytes] = field(default_factory=list)
    values: dict[str, float | str] = field(default_factory=dict)

    @property
    def settled(self) -> bool:
        """Nothing more is to be waited for."""
        return self.samples > 0 or self.state in ("absent", "failed")


class Seen:
    """`hello` and `health` are the newest, None before the first. `damaged`: frames that did not decode, or contradict the format. Moments
    `now` are seconds of a clock that only rises."""

    def __init__(self) -> None:
        self.hello: dict[str, Any] | None = None
        self.health: dict[str, int] | None = None
        self.changes: deque[Change] = deque(maxlen=_KEPT)
        self.damaged = 0
        self.boot = 0
        self.restarts = 0
        self.newest = 0
        self.heard: float | None = None  # when the last frame came
        self._sensors: dict[str, Sensor] = {}
        self._lists = False  # the head says of all its sensors how they are
        self._convert = Converter()
        self._ring: tuple[int, int] = (0, 0)  # oldest and newest as HELLO said
        self._dropped: int | None = None  # at about that time
        self._newest_ticks = 0  # of `newest`
        self._ticks = 0  # of the newest frame, which came at `_ticks_at`
        self._ticks_at = 0.0
        self._recent: deque[float] = deque()
        self._began: float | None = None

    # --- what comes

    def reconnect(self) -> None:
        """The line was opened anew: what is in the ring comes again after HELLO."""
        self.hello = None

    def take(self, frame: frames.Frame, now: float) -> None:
        """One frame. Kept ones count from HELLO on: what was on its way before comes again behind it."""
        self.heard = now
        if frame.boot != self.boot:
            self._meet(frame.boot)
        if frame.ticks >= self._ticks:
            self._ticks, self._ticks_at = frame.ticks, now
        try:
            if frame.sequence == 0:
                self._passing(frame)
                self._count(now)
            elif self.hello is not None and frame.sequence > self.newest:
                self.newest, self._newest_ticks = frame.sequence, frame.ticks
                self._numbered(frame)
                if frame.sequence > self._ring[1]:
                    self._count(now)
        except (BadSample, ValueError, KeyError, IndexError, struct.error):
            self.damage(1)

    def damage(self, count: int) -> None:
        """So many frames came damaged. Until HELLO, what was on its way begins in its middle."""
        if self.hello is not None:
            self.damaged += count

    def _meet(self, boot: int) -> None:
        """The head has started: nothing of the boot before counts, but the list of changes goes on."""
        if self.boot:
            self.restarts += 1
            self.changes = deque((change._replace(ticks=change.ticks - self._ticks) for change in self.changes), _KEPT)
            self.changes.append(Change(0, "head", "configuring", "started anew"))
        self.boot = boot
        self.hello = self.health = self._dropped = self._began = None
        self.newest = self._newest_ticks = self._ticks = 0
        self._sensors.clear()
        self._lists = False
        self._convert.forget()

    def _count(self, now: float) -> None:
        if self._began is None:
            self._began = now
        self._recent.append(now)

    def _passing(self, frame: frames.Frame) -> None:
        if frame.type == frames.HELLO:
            said = json.loads(frame.payload)
            if not isinstance(said, dict):
                raise ValueError("HELLO is no object")
            ring = (int(said["oldest"]), int(said["newest"]))
            if self.hello is None:
                self._ring, self._dropped = ring, None
            self.hello = said
        elif frame.type == frames.TRIM:
            self._trim(frame.payload)
        elif frame.type == frames.STATE:
            self._stands(*_state(frame.payload), frame.ticks)
            self._lists = True

    def _trim(self, payload: bytes) -> None:
        sensor = frames.SENSORS[payload[0]]
        self._convert.trim(sensor, bytes(payload[1:]))
        self._sensor(sensor)

    def _numbered(self, frame: frames.Frame) -> None:
        if frame.type == frames.SAMPLE:
            name, raw = split_payload(frame.payload, frames.SENSORS)
            sensor = self._sensor(name)
            sensor.raw, sensor.ticks = raw, frame.ticks
            sensor.samples += len(raw)
            sensor.state = sensor.state or "ok"
        elif frame.type == frames.TRIM:
            self._trim(frame.payload)
        elif frame.type == frames.STATE:
            self._change(frame)
        elif frame.type == frames.GAP:
            name, reason, count = missing(frame.payload)
            what = "frames" if name == "head" else "samples"
            number = f"{count} {what} missing" if count else f"{what} missing"
            self.changes.append(Change(frame.ticks, name, "", f"{number} ({frames.REASONS[reason]})"))
        elif frame.type == frames.HEALTH:
            self.health = health(frame.payload)
            if self._dropped is None or frame.sequence <= self._ring[1]:
                self._dropped = self.health["ring_dropped"]

    def _change(self, frame: frames.Frame) -> None:
        name, now, reason, failures = _state(frame.payload)
        words = f"{now} ({reason})" if reason else now
        self.changes.append(Change(frame.ticks, name, now, words + (f", {times(failures)}" if failures else "")))
        if name != "head":
            self._stands(name, now, reason, failures, frame.ticks)

    def _stands(self, name: str, now: str, reason: str, failures: int, ticks: int) -> None:
        sensor = self._sensor(name)
        if ticks >= sensor.told:
            sensor.state, sensor.reason, sensor.failures, sensor.told = now, reason, failures, ticks

    def _sensor(self, name: str) -> Sensor:
        return self._sensors.setdefault(name, Sensor(name))

    # --- what is known

    def sensors(self) -> Iterator[Sensor]:
        """In the order of their numbers, with `values` brought up to their newest sample."""
        for name in frames.SENSORS.values():
            if name not in self._sensors:
                if name in STANDARD and self.caught_up and not self._lists:
                    yield Sensor(name, SILENT, "says nothing: absent, or not in the head's list of parts")
            else:
                sensor = self._sensors[name]
                raw, sensor.raw = sensor.raw, []
                for sample in raw:
                    for quantity, value in self._convert.typed(name, sample, 0).values.items():
                        if value != NO_NEW_SAMPLE or quantity not in sensor.values:
                            sensor.values[quantity] = value
                yield sensor

    @property
    def caught_up(self) -> bool:
        """All that was in the ring has come."""
        return self.hello is not None and self.newest >= self._ring[1]

    @property
    def settled(self) -> bool:
        """The head said who and how it is, and nothing more is to be waited for of a sensor."""
        known = self._sensors.values()
        fresh = self.caught_up and self._ticks - self._newest_ticks < _FRESH_US  # frames wait in the line while the ring is sent
        return fresh and self.health is not None and bool(known) and all(sensor.settled for sensor in known)

    @property
    def oldest(self) -> int:
        """Sequence of the oldest frame in the ring, 0 if there is none."""
        dropped = 0 if self.health is None or self._dropped is None else self.health["ring_dropped"] - self._dropped
        return self._ring[0] + dropped if self._ring[0] else 0

    def age_s(self, ticks: int, now: float) -> float:
        """Seconds since the head's `ticks`."""
        return max(0.0, (self._ticks - ticks) / 1e6 + now - self._ticks_at)

    def silent(self, now: float) -> bool:
        """Whether nothing has come for a while."""
        return self.heard is None or now - self.heard > SILENT_S

    def rate(self, now: float) -> float | None:
        """New frames a second, of late; None before that can be said."""
        while self._recent and now - self._recent[0] > _RATE_S:
            self._recent.popleft()
        if self._began is None or now - self._began < _RATE_LEAST_S:
            return None
        return len(self._recent) / min(_RATE_S, now - self._began)


def _state(payload: bytes) -> tuple[str, str, str, int]:
    name, number, code, failures = state(payload)
    return name, frames.STATES[number], frames.REASONS[code] if code else "", failures


def times(failures: int) -> str:
    """1 failure, 2 failures."""
    return "1 failure" if failures == 1 else f"{failures} failures"
