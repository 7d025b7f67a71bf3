"""A head on duty, heard through its own frames (docs/formats.md section 1), as a gateway hears it: who it is, and the self-test.

The self-test asks of every fitted sensor: state `ok` (its driver verified who-am-i and configured it), its trim, and every one of its
quantities as a plausible number from a frame with a right CRC. Nothing is acknowledged, so what the head measured meanwhile is still in
its ring for the gateway. The head says the state of each behind HELLO, however long ago it changed. A GNSS receiver needs to answer, not to
see the sky."""

import contextlib
import errno
import json
import struct
import termios
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import serial

from drivers.errors import NO_ACKNOWLEDGE
from firmware import frames
from gateway.convert import QUANTITIES, BadSample, Converter, split_payload
from gateway.head_repl import BusyError, LineError

HELLO_S = 0.4
SELF_TEST_S = 60.0  # the particle sensor's fan is at speed after 30
ABSENT_S = 10.0  # a chip that has not acknowledged its address by then, asked once a second, is not there
_ASK_EVERY_S = 0.5
_READ_S = 0.05
_NO_SKY = ("neo_m9n",)


class SelfTestError(Exception):
    """A sensor did not pass; one line names each and why."""


@dataclass(frozen=True)
class Sensor:
    """What the self-test saw of one sensor: its trim constants (hex, they hold serial numbers too) and one decoded reading, SI units."""

    trim: str
    values: Mapping[str, float]


@dataclass
class _Heard:
    """What one sensor has said so far."""

    state: int = frames.ABSENT
    reason: int = 0
    told: tuple[int, int] = (0, -1)  # the state's boot and ticks
    trim: bytes | None = None
    samples: int = 0
    values: dict[str, float] = field(default_factory=dict)
    instead: dict[str, str] = field(default_factory=dict)  # the last reason for a quantity without a number

    @property
    def is_gone(self) -> bool:
        """Whether it never acknowledged its address. One on a UART may only be slow."""
        return self.state == frames.ABSENT and self.reason == NO_ACKNOWLEDGE


class Duty:
    """The serial line of a head that runs its program. LineError if the port cannot be used, BusyError if another process has it; use it as
    a context."""

    def __init__(self, port: str) -> None:
        with _port_errors():
            self._port = serial.Serial(port, timeout=_READ_S, write_timeout=2.0, exclusive=True)
        self._decoder = frames.Decoder()

    def __enter__(self) -> "Duty":
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._port.close()

    def hello(self, limit_s: float = HELLO_S) -> dict[str, Any] | None:
        """What the head says of itself, None if nobody answers. LineError."""
        self._ask()
        until = time.monotonic() + limit_s
        while time.monotonic() < until:
            for frame in self.listen():
                if frame.type == frames.HELLO:
                    return _json(frame.payload)
        return None

    def command(self, kind: int) -> None:
        """Sends a command of 8 zero bytes. LineError."""
        with _port_errors():
            self._port.write(b"\0" + frames.pack(kind, 0, 0, 0, 0, bytes(8)))

    def self_test(self, sensors: set[str], told: Callable[[int, int], None]) -> dict[str, Sensor]:
        """Waits until each of `sensors` has passed, or none is left but those that are not there; `told(passed, of)` as they do.
        SelfTestError, LineError."""
        heard = {sensor: _Heard() for sensor in sensors}
        convert = Converter()
        self._ask()
        began = asked = time.monotonic()
        while time.monotonic() - began < SELF_TEST_S:
            if time.monotonic() - asked > _ASK_EVERY_S:  # so that the head knows that somebody reads
                asked = time.monotonic()
                self.command(frames.PING)
            for frame in self.listen():
                _hear(frame, heard, convert)
            lacking = [one for sensor, one in heard.items() if _lacks(sensor, one)]
            told(len(heard) - len(lacking), len(heard))
            if not lacking:
                return {sensor: Sensor((one.trim or b"").hex(), one.values) for sensor, one in sorted(heard.items())}
            if time.monotonic() - began >= ABSENT_S and all(one.is_gone for one in lacking):
                break
        raise SelfTestError("; ".join(f"{sensor}: {why}" for sensor, one in sorted(heard.items()) if (why := _lacks(sensor, one))))

    def _ask(self) -> None:
        self.command(frames.HELLO_REQUEST)

    @property
    def bad(self) -> int:
        """Frames so far that did not decode."""
        return self._decoder.bad

    def listen(self) -> "list[frames.Frame]":
        """The frames that came whole since it was called last; waits at most _READ_S. LineError."""
        with _port_errors():
            data = self._port.read(max(1, self._port.in_waiting))
        return self._decoder.feed(data)


def _json(payload: bytes) -> dict[str, Any]:
    try:
        about = json.loads(payload)
    except ValueError as error:
        raise LineError(f"a HELLO that makes no sense: {error}") from error
    return about if isinstance(about, dict) else {}


def _hear(frame: "frames.Frame", heard: dict[str, _Heard], convert: Converter) -> None:
    sensor = frames.SENSORS.get(frame.payload[0], "") if frame.payload else ""
    one = heard.get(sensor)
    if one is None:
        return
    if frame.type == frames.STATE:
        if frame.boot != one.told[0] or frame.ticks >= one.told[1]:  # else a change that the ring tells behind the present state
            one.told = frame.boot, frame.ticks
            _, one.state, one.reason, _ = struct.unpack_from("<BBBH", frame.payload)
    elif frame.type == frames.TRIM:
        one.trim = frame.payload[1:]
        convert.trim(sensor, one.trim)
    elif frame.type == frames.SAMPLE:
        with contextlib.suppress(BadSample):  # then it does not count
            for raw in split_payload(frame.payload, frames.SENSORS).raw:
                one.samples += 1
                for quantity, value in convert.typed(sensor, raw, 0).values.items():
                    if isinstance(value, str):
                        one.instead[quantity] = value
                    else:
                        one.values[quantity] = value


def _lacks(sensor: str, one: _Heard) -> str:
    """Why the sensor has not passed yet, "" if it has."""
    if one.state != frames.OK:
        reason = frames.REASONS[one.reason] if 0 < one.reason < len(frames.REASONS) else "not heard of" if one.state == 0 else ""
        return f"{frames.STATES[one.state]}{f' ({reason})' if reason else ''}"
    if one.trim is None:
        return "no trim constants"
    if not one.samples:
        return "no reading"
    missing = [quantity for quantity in QUANTITIES[sensor] if quantity not in one.values]
    if missing and sensor not in _NO_SKY:
        return f"{missing[0]}: {one.instead.get(missing[0], 'no value')}"
    return ""


@contextlib.contextmanager
def _port_errors() -> Iterator[None]:
    try:
        yield
    except (serial.SerialException, OSError, termios.error) as error:  # pyserial lets termios.error through: a port that just went
        kind = BusyError if getattr(error, "errno", None) == errno.EAGAIN else LineError  # EAGAIN: its lock
        raise kind(f"{type(error).__name__}: {error}") from error
