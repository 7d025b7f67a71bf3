"""The sensor head and the box of the first fleet, at their serial ports.

While the recorder runs it owns them: then its own words count, and what the head last said of itself in the newest readings of the
spool. Only a port that nobody has open is opened, and the head asked (fleet/doctor_head_live.py)."""

import json
from pathlib import Path
from typing import Any

from fleet.doctor_finding import Finding, green, grey, red, say, yellow
from fleet.doctor_head_live import Heard
from fleet.doctor_ports import missing, owner
from fleet.doctor_visit import Visit
from gateway.head_live import HEAD
from gateway.head_log import cause
from logbook import reader
from logbook.channels import EVENT, HEALTH, READINGS

BOX = "first_fleet"
LEAST_HEAP = 8_000  # bytes; below it a head of 192 kB can no longer make a long frame
LOOP_MOST_US = 200_000  # the IMU's FIFO holds 0.41 s
SEGMENTS = 2  # of the newest: one may have just begun


def check(visit: Visit) -> list[Finding]:
    """Each of the two that is configured."""
    found = []
    if visit.truck.head is not None:
        found += _head(visit, visit.truck.head.port)
    if visit.truck.box is not None:
        found += _box(visit, visit.truck.box.port)
    return found or [grey("head_none")]


def _head(visit: Visit, port: str) -> list[Finding]:
    if (trouble := missing(port)) is not None:
        return [trouble]
    if visit.recorder_runs:
        return _by_recorder(visit, HEAD, port, [*_told(visit)])
    if (stranger := owner(visit.machine, port)) is not None:
        return [red("port_taken", say("do_end_process", pid=stranger.pid), port=port, name=stranger.name, pid=stranger.pid)]
    try:
        return live(visit.head(port), port)
    except OSError as error:
        return [red("port_error", say("do_cable"), port=port, error=error.strerror or str(error))]


def _box(visit: Visit, port: str) -> list[Finding]:
    if (trouble := missing(port)) is not None:
        return [trouble]
    if visit.recorder_runs:
        return _by_recorder(visit, BOX, port, [])
    if (stranger := owner(visit.machine, port)) is not None:
        return [red("port_taken", say("do_end_process", pid=stranger.pid), port=port, name=stranger.name, pid=stranger.pid)]
    return [grey("box_not_asked", say("do_recorder"), port=port)]


def _by_recorder(visit: Visit, sensor: str, port: str, more: list[Finding]) -> list[Finding]:
    """The recorder owns the port."""
    if visit.sensors is None:
        return [yellow("head_untold", say("do_uplink"), port=port), *more]
    state = visit.sensors.get(sensor)
    if state is None:
        return [yellow("head_unheard", say("do_wait"), port=port), *more]
    values = {"port": port, "state": say(f"state_{state['state']}"), "reason": state["reason"]}
    if state["state"] == "ok":
        return [green("head_owned", port=port), *more]
    if state["state"] in ("degraded", "configuring"):
        return [yellow("head_state", say("do_wait"), **values), *more]
    return [red("head_state", say("do_head"), **values), *more]


def _told(visit: Visit) -> list[Finding]:
    """What the head last said of itself, by the newest readings of this recorder."""
    folder = (visit.recorder or {}).get("boot")
    if not folder:
        return []
    hello, counters = written(visit.spool / folder)
    found = [] if hello is None else identity(hello)
    return found if counters is None else [*found, *_health(counters)]


def written(folder: Path) -> tuple[dict[str, Any] | None, dict[str, int] | None]:
    """HELLO and HEALTH of the head, as far as the newest readings have them; a segment may be one that is being written."""
    hello, counters = None, None
    newest = sorted(folder.glob(f"*-{READINGS}.mcap*"), key=lambda path: path.name.partition("-")[0])[-SEGMENTS:]
    for path in newest:
        try:
            for message in reader.read(path):
                said: Any = message.message
                if message.topic == EVENT and said is not None and said.kind == "head_identity":
                    hello = json.loads(said.detail)
                elif message.topic == HEALTH and said is not None and said.source == HEAD:
                    counters = {name: int(value) for name, value in said.counters.items()}
        except FileNotFoundError:  # sealed, or delivered, in this moment
            continue
        except reader.SegmentError:  # one that has just begun has no channels yet; damage is told by the check of the spool
            continue
    return hello, counters


def live(heard: Heard, port: str) -> list[Finding]:
    """What the head said when it was asked. Pure."""
    if heard.hello is None:
        if heard.frames:
            return [yellow("head_no_hello", say("do_flash"), port=port, frames=heard.frames)]
        return [red("head_silent", say("do_head"), port=port)]
    found = identity(heard.hello)
    if heard.bad:
        found.append(yellow("head_bad_frames", say("do_usb"), bad=heard.bad, frames=heard.frames))
    return found if heard.health is None else [*found, *_health(heard.health)]


def identity(hello: dict[str, Any]) -> list[Finding]:
    """Firmware and the reason of its last start. Pure."""
    names = {name: str(hello.get(name, "?")) for name in ("firmware", "runtime", "unique_id")}
    found = [green("head_is", **names, reset_cause=cause(hello))]
    if hello.get("parts_error"):
        found.append(red("head_parts", say("do_flash"), error=str(hello["parts_error"])))
    marker = hello.get("marker")
    if marker is None and hello.get("reset_cause") == "watchdog":
        found.append(yellow("head_watchdog", say("do_watch_head")))
    elif marker is not None and marker != "maintenance":
        found.append(yellow("head_reset_itself", say("do_watch_head"), marker=str(marker)))
    return found


def _health(counters: dict[str, int]) -> list[Finding]:
    values = {"uptime": counters.get("uptime_s", 0) / 60, "heap": counters.get("heap_free", 0) / 1000}
    if counters.get("heap_free", LEAST_HEAP) < LEAST_HEAP:
        return [yellow("head_heap", say("do_watch_head"), **values)]
    if counters.get("longest_loop_us", 0) > LOOP_MOST_US:
        return [yellow("head_slow", say("do_watch_head"), loop=counters["longest_loop_us"] / 1000, **values)]
    return [green("head_health", dropped=counters.get("ring_dropped", 0), **values)]
