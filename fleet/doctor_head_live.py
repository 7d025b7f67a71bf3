"""The sensor head, asked at its serial port while no recorder runs.

It is asked with HELLO? for boot 0: the head then sends its ring from the beginning and lets nothing of it go (docs/formats.md 1), so
the recorder that comes next still finds every frame. Nothing is acknowledged. Behind HELLO the head says how each of its sensors is,
however long ago that changed; an older head only says what its ring still tells. Takes at most LISTEN_SECONDS."""

import json
import struct
import time
from dataclasses import dataclass, field
from typing import Any

from firmware import frames
from gateway.convert import BadSample, split_payload
from gateway.head_live import health, state
from gateway.linux_bus import LinuxUart

LISTEN_SECONDS = 6.5  # HEALTH comes every 5 s, and the newest stands in the ring
ASK_SECONDS = 1.0
ENOUGH_SECONDS = 1.5  # behind HELLO and HEALTH, for slow chips
LOOK_SECONDS = 0.01
_BYTES = 4096


@dataclass
class Heard:
    """`hello`: the fields of HELLO, None if it did not answer; `health`: counters; `sensors`: states, as in the live snapshot. `frames`
    that came whole, `bad` those that did not, from HELLO on: what was on its way before begins in its middle."""

    hello: dict[str, Any] | None = None
    health: dict[str, int] | None = None
    sensors: dict[str, dict[str, str]] = field(default_factory=dict)
    frames: int = 0
    bad: int = 0
    told: dict[tuple[str, int], int] = field(default_factory=dict)  # ticks of a state, by sensor and boot


def ask(port: str, seconds: float = LISTEN_SECONDS) -> Heard:
    """What the head at `port` says. Raises OSError: the port cannot be opened, or went away."""
    heard, decoder = Heard(), frames.Decoder()
    uart = LinuxUart(port)
    try:
        until = time.monotonic() + seconds
        asked, before = 0.0, 0
        buffer = bytearray(_BYTES)
        while time.monotonic() < until:
            if heard.hello is None and time.monotonic() - asked >= ASK_SECONDS:
                asked = time.monotonic()
                uart.write(b"\0" + frames.pack(frames.HELLO_REQUEST, 0, 0, 0, 0, struct.pack("<II", 0, 0)))
            count = uart.readinto(buffer)
            if not count:
                time.sleep(LOOK_SECONDS)
                continue
            came = decoder.feed(bytes(buffer[:count]))
            if heard.hello is None:
                before = decoder.bad
            for frame in came:
                whole_before = heard.hello is not None and heard.health is not None
                take(heard, frame)
                if not whole_before and heard.hello is not None and heard.health is not None:
                    until = min(until, time.monotonic() + ENOUGH_SECONDS)
    finally:
        uart.close()
    heard.bad += decoder.bad - before
    return heard


def take(heard: Heard, frame: frames.Frame) -> None:
    """One frame. What contradicts the format counts as bad."""
    try:
        _take(heard, frame)
        heard.frames += 1
    except (BadSample, ValueError, KeyError, IndexError, struct.error):
        heard.bad += 1


def _take(heard: Heard, frame: frames.Frame) -> None:
    if frame.type == frames.HELLO:
        said = json.loads(frame.payload)
        if not isinstance(said, dict):
            raise ValueError("HELLO is no object")
        heard.hello = said
    elif frame.type == frames.HEALTH:
        heard.health = health(frame.payload)
    elif frame.type == frames.STATE:
        name, number, reason, _ = state(frame.payload)
        if frame.ticks < heard.told.get((name, frame.boot), 0):  # a change that the ring tells behind the present state
            return
        heard.told[name, frame.boot] = frame.ticks
        heard.sensors[name] = {"state": frames.STATES[number], "reason": frames.REASONS[reason] if reason else ""}
    elif frame.type == frames.SAMPLE:
        sensor, _ = split_payload(frame.payload, frames.SENSORS)
        heard.sensors.setdefault(sensor, {"state": "ok", "reason": ""})
