"""A head from whatever it does now to a proved version: the one way of `cruisers flash` and `cruisers head update`.

    reach      a head on duty is asked into maintenance; a board with nothing but MicroPython is there already
    prepare    the caller's: what is on the flash, what shall be, the slot on trial (gateway/head_install.py)
    try        the slot runs; the self-test hears every sensor
    prove      in maintenance again, after that reset, every file on the flash is hashed once more; then the version is confirmed
    duty       a last reset, and the head says its version

Recovery. Cut anywhere, the version that ran before runs on, or the board has its REPL as it was delivered. A version on trial that was
reached and is not well is taken back at once; where the line itself failed, the head decides by its own trial, some 9 min at most.

Errors: LineError, SelfTestError, HeadError, and what `prepare` raises."""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from firmware import frames
from firmware.parts import PARTS, STANDARD
from gateway import head_reach
from gateway.head_duty import SelfTestError, Sensor
from gateway.head_install import Report
from gateway.head_reach import HeadError, identify, maintenance, on_duty, slots
from gateway.head_repl import LONG_CALL_S, LineError, Repl


@dataclass(frozen=True)
class Intent:
    """What `prepare` left on the head `unit`: `slot` runs from the next start on, as a trial that can be taken back if `tried`. `expected`:
    SHA-256 of every file outside of the other slot, by path. `parts`: its list of parts, None for the standard fit."""

    unit: str
    slot: str
    tried: bool
    expected: Mapping[str, str]
    parts: list[Any] | None


@dataclass(frozen=True)
class Proved:
    """The version that runs, confirmed, and what the self-test saw of each sensor."""

    version: str
    sensors: Mapping[str, Sensor]


def session(port: str, prepare: Callable[[Repl], Intent], report: Report) -> Proved:
    """All of it, at one port. Errors: see the module's text."""
    report("connect", 0.0)
    with maintenance(port) as line:
        intent = prepare(line)
    try:
        report("self-test", 0.7)
        sensors = _self_test(port, intent, report)
        report("prove", 0.9)
        with maintenance(port) as line:
            version = _prove(line, intent)
        with on_duty(port, intent.unit) as head:
            said = (head.hello(head_reach.REACH_S) or {}).get("firmware")
        if said != version:
            raise HeadError(f"the head runs {said!r}, not {version!r}")
    except (SelfTestError, HeadError):
        if intent.tried:
            _take_back(port, intent)
        raise
    report("done", 1.0)
    return Proved(version, sensors)


def _self_test(port: str, intent: Intent, report: Report) -> dict[str, Sensor]:
    names = [str(entry["part"]) for entry in intent.parts] if intent.parts else list(STANDARD)
    fitted = {frames.SENSORS[PARTS[name][0]] for name in names}
    with on_duty(port, intent.unit) as head:
        return head.self_test(fitted, lambda passed, of: report("self-test", 0.7 + 0.2 * passed / of))


def _prove(line: Repl, intent: Intent) -> str:
    """After the reset: every byte on the flash is what was meant, then the version is confirmed. The version."""
    if identify(line)[0] != intent.unit:
        raise HeadError("another unit is at the port now")
    slot = intent.slot
    found = {path: digest for path, (_, digest) in line.tree().items()}
    other = "b/" if slot == "a" else "a/"
    for path, digest in intent.expected.items():
        if found.pop(path, "") != digest:
            raise HeadError(f"{path} on the flash is not what was sent")
    strange = [path for path in found if not (path.startswith((other, "switch.")) or path == "maintenance" or path.endswith(".new"))]
    if strange:
        raise HeadError(f"{strange[0]} is on the flash, and nobody wrote it there")
    slots(line)
    fault = line.call(f"answer = slots.fault({slot!r})", LONG_CALL_S)
    if fault:
        raise HeadError(f"slot {slot} is not whole: {fault}")
    if line.call("answer = slots.state()[1]") == "trial":
        line.call("slots.confirm()")
    if line.call("answer = slots.state()")[:2] != [slot, "good"]:
        raise HeadError("the head did not stay with the new version")
    return str(line.call(f"answer = slots.version({slot!r})"))


def _take_back(port: str, intent: Intent) -> None:
    """The version before runs again, if the head can be reached; if not, its trial ends by itself."""
    with contextlib.suppress(LineError), maintenance(port) as line:
        slots(line)
        if identify(line)[0] == intent.unit and line.call("answer = slots.state()[0]") == intent.slot:
            line.call("slots.roll_back()", LONG_CALL_S)
