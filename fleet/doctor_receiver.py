"""The GNSS receiver: gpsd's JSON stream over TCP (gpsd.io/gpsd_json.html) where gpsd owns it, else what the recorder says of its own.

A receiver that our driver has set up sends NAV-PVT alone (drivers/neo_m9n.py), of which gpsd makes no report of satellites: then the
fix is judged by its error."""

import json
import socket
import time
from dataclasses import dataclass, field
from typing import Any

from fleet.doctor_finding import Finding, green, grey, red, say, yellow
from fleet.doctor_ports import missing
from fleet.doctor_visit import Visit
from gateway.config import Gpsd
from gateway.fixes import SOURCE
from gateway.positions import LINE_BYTES, WATCH, is_valid, number, parse_time

CONNECT_SECONDS = 3.0
LISTEN_SECONDS = 4.0  # a report a second; SKY may come every few
POOR_SATELLITES = 5  # used for a fix: four are the least for a position in space
POOR_METRES = 25.0  # horizontal error; in the open it is 2


@dataclass
class Heard:
    """What gpsd said: its release, its devices, the newest fix and sky. `not_gpsd`: what answered speaks something else."""

    release: str = ""
    devices: list[str] = field(default_factory=list)
    fix: dict[str, Any] | None = None
    sky: dict[str, Any] | None = None
    not_gpsd: bool = False


def check(visit: Visit) -> list[Finding]:
    """The truck's receiver, whoever owns it. Raises OSError."""
    truck = visit.truck
    if truck.gpsd is not None:
        try:
            heard = ask(truck.gpsd)
        except OSError as error:
            values = {"host": truck.gpsd.host, "port": truck.gpsd.port, "error": error.strerror or str(error)}
            return [red("gpsd_refused", say("do_gpsd"), **values)]
        return judged(heard)
    if truck.receiver is not None and (trouble := missing(truck.receiver.port)) is not None:
        return [trouble]
    if truck.receiver is None and truck.head is None and truck.box is None:
        return [grey("receiver_none")]
    if visit.parked:
        return [grey("parked")]
    if not visit.recorder_runs:
        return [grey("receiver_not_asked", say("do_recorder"))]
    return [by_recorder(visit)]


def by_recorder(visit: Visit) -> Finding:
    """Its state as the recorder tells it."""
    state = (visit.sensors or {}).get(SOURCE)
    if state is None:
        return yellow("receiver_untold", say("do_uplink" if visit.sensors is None else "do_wait"))
    if state["state"] == "ok":
        return green("receiver_well")
    values = {"state": say(f"state_{state['state']}"), "reason": state["reason"]}
    return (yellow if state["state"] == "degraded" else red)("receiver_state", say("do_antenna"), **values)


def ask(gpsd: Gpsd, seconds: float = LISTEN_SECONDS) -> Heard:
    """What gpsd says, until there is a fix and a sky, or after `seconds`. Raises OSError."""
    heard, buffer = Heard(), b""
    with socket.create_connection((gpsd.host, gpsd.port), CONNECT_SECONDS) as connection:
        connection.sendall(WATCH)
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not heard.not_gpsd:
            connection.settimeout(left)
            try:
                data = connection.recv(4096)
            except TimeoutError:
                break
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                take(heard, line)
            if not data or len(buffer) > LINE_BYTES:
                heard.not_gpsd = not heard.release
                break
            if heard.sky is not None and heard.fix is not None:
                break
    return heard


def take(heard: Heard, line: bytes) -> None:
    """One line."""
    try:
        report = json.loads(line)
    except ValueError:
        report = None
    if not isinstance(report, dict):
        heard.not_gpsd = heard.not_gpsd or not heard.release
        return
    kind = report.get("class")
    if kind == "VERSION":
        heard.release = str(report.get("release", "?"))
    elif kind == "DEVICES":
        heard.devices = [str(device.get("path", "?")) for device in report.get("devices", [])]
    elif kind == "TPV":
        heard.fix = report
    elif kind == "SKY" and ("satellites" in report or "uSat" in report):
        heard.sky = report


def judged(heard: Heard) -> list[Finding]:
    """Device, fix, satellites. Pure."""
    if heard.not_gpsd or not heard.release:
        return [red("gpsd_stranger", say("do_gpsd"))]
    if not heard.devices:
        return [red("gpsd_no_device", say("do_gpsd_device"), release=heard.release)]
    found = [green("gpsd_device", release=heard.release, device=", ".join(heard.devices))]
    if heard.fix is None:
        return [*found, red("gpsd_silent", say("do_receiver_cable"))]
    used, seen = satellites(heard.sky)
    mode = heard.fix.get("mode", 0)
    if not is_valid(heard.fix):
        return [*found, yellow("gpsd_no_fix", say("do_antenna"), mode=mode, used=_shown(used), seen=_shown(seen))]
    if parse_time(heard.fix.get("time")) is None:
        return [*found, yellow("gpsd_no_time", say("do_antenna"), mode=mode)]
    error = number(heard.fix, "eph", "epx")
    values = {"mode": mode, "error": "?" if error is None else f"{error:.1f}", "used": _shown(used), "seen": _shown(seen)}
    if (used is not None and used < POOR_SATELLITES) or (error is not None and error > POOR_METRES):
        return [*found, yellow("gpsd_poor", say("do_antenna"), **values)]
    return [*found, green("gpsd_fix" if used is not None else "gpsd_fix_alone", **values)]


def _shown(count: int | None) -> str:
    return "?" if count is None else str(count)


def satellites(sky: dict[str, Any] | None) -> tuple[int | None, int | None]:
    """Used and seen; None where gpsd did not say. gpsd before 3.23 has no counts, only the list. Pure."""
    if sky is None:
        return None, None
    listed = [one for one in sky.get("satellites", []) if isinstance(one, dict)]
    used = sky.get("uSat", sum(bool(one.get("used")) for one in listed))
    return used, sky.get("nSat", len(listed))
