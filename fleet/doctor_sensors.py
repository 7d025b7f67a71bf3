"""Every chip: its state as the recorder tells it, or, where none runs, as the head or the chips on this machine's own wires answer."""

import time
from collections.abc import Mapping

from fleet.doctor_finding import Finding, Say, green, grey, red, say, yellow
from fleet.doctor_ports import missing, owner
from fleet.doctor_visit import Visit
from gateway.config import Bus
from gateway.parts import Part, on_own_wires, open_parts, turn

# Of the recorder's "sensors" those that other checks look at.
OTHERS = ("head", "gnss", "disk", "first_fleet", "inputs")
CAMERA = "camera/"
SWITCH = "inputs/"
LISTEN_SECONDS = 7.0  # an SPS30 starts its fan, and speaks within 5 s
TURN_SECONDS = 0.004
# One that stands in for another: absent beside it, it is not missed.
ALTERNATES = {"veml7700": "opt3001", "opt3001": "veml7700", "pms5003": "sps30", "sps30": "pms5003"}
ADVICE = {"absent": "do_sensor_absent", "failed": "do_sensor_failed", "degraded": "do_sensor_degraded", "configuring": "do_wait"}


def check(visit: Visit) -> list[Finding]:
    """All of them."""
    truck = visit.truck
    if visit.recorder_runs:
        if visit.sensors is None:
            return [yellow("sensors_untold", say("do_uplink"))]
        return judged(visit.sensors)
    if truck.head is not None:
        if missing(truck.head.port) is not None or owner(visit.machine, truck.head.port) is not None:
            return [grey("sensors_no_head")]
        try:
            return judged(visit.head(truck.head.port).sensors)
        except OSError:  # the check of the head says why
            return [grey("sensors_no_head")]
    if truck.bus is not None:
        try:
            return judged(on_wires(truck.bus))
        except OSError as error:
            path = error.filename or truck.bus.i2c
            return [red("sensors_bus", say("do_bus"), path=path, error=error.strerror or str(error))]
    return [grey("sensors_none")]


def judged(states: Mapping[str, Mapping[str, str]]) -> list[Finding]:
    """A finding for each that is not well, and one for all that are. Pure."""
    chips = {name: state for name, state in states.items() if name not in OTHERS and not name.startswith((CAMERA, "/dev/"))}
    well = [name for name, state in chips.items() if state["state"] == "ok"]
    spare = [name for name, state in chips.items() if state["state"] == "absent" and ALTERNATES.get(name) in well]
    found = [_one(name, state) for name, state in chips.items() if name not in well and name not in spare]
    if spare:
        found.append(grey("sensors_spare", names=", ".join(spare)))
    if well:
        return [green("sensors_well", count=len(well), names=", ".join(well)), *found]
    return found or [red("sensors_silent", say("do_head"))]


def _one(name: str, state: Mapping[str, str]) -> Finding:
    values: dict[str, str | Say] = {"name": name, "state": say(f"state_{state['state']}"), "reason": state.get("reason", "")}
    make = yellow if state["state"] in ("degraded", "configuring") else red
    return make("sensor_state", say("do_input" if name.startswith(SWITCH) else ADVICE[state["state"]]), **values)


def on_wires(bus: Bus, seconds: float = LISTEN_SECONDS) -> dict[str, dict[str, str]]:
    """The states of the chips on this machine's own buses, when all have settled or after `seconds`. Raises OSError."""
    i2c, uarts = on_own_wires(bus.i2c, bus.chips, bus.without, bus.uarts)
    parts: list[Part] = open_parts(bus.i2c or None, i2c, uarts)
    until = time.monotonic() + seconds
    for part in parts:
        part.start(_now_ms())
    while time.monotonic() < until and not all(part.settled for part in parts):
        turn(parts, _now_ms)
        time.sleep(TURN_SECONDS)
    for part in parts:
        part.stop()
    return {part.place.part: {"state": part.state, "reason": part.reason} for part in parts}


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000
