"""What a truck's status files say, joined (docs/formats.md 6): <spool>/uplink.json, <spool>/sweeper.json. `cruisers status` prints it and
the Prometheus metrics are made of it; the health document says the same to the city.

A status is what its process said last: how long ago that was, and whether the process still runs, is part of the report."""

from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from gateway.clock import NANO, boottime_ns
from gateway.ledger import CLASSES
from sox.health import hours

UPLINK, SWEEPER = "uplink", "sweeper"
OLD_SECONDS = {UPLINK: 10.0, SWEEPER: 60.0}  # they write every 1 s and 10 s
SILENT_SECONDS = 15.0  # a recorder says something each second, parked every 10 s
BAD_STATES = ("failed", "absent")

# Losses by reason: of `dropped` in uplink.json, what is lost (the bytes that its partners freed are no loss).
LOSSES = {
    "dropped_images": "images dropped: disk full",
    "thinned_images": "images thinned: disk full",
    "dropped_readings": "readings dropped: disk full",
    "gaps": "gaps told by the recorder since it started",
}


class BadStatus(Exception):
    """There is nothing to report on: why, in one line."""


class Process(NamedTuple):
    """A process by its status file: `age_s` of the file (None: it is of before the last reboot), `runs`, what it `says` (None: no file)."""

    name: str
    says: dict[str, Any] | None
    age_s: float | None
    runs: bool

    def wrong(self) -> str | None:
        """What is wrong with the process itself, in words."""
        if self.says is None:
            return f"{self.name}: has never written its status here"
        if not self.runs:
            return f"{self.name}: is not running"
        if self.age_s is None or self.age_s > OLD_SECONDS[self.name]:
            return f"{self.name}: runs, and its status is {age_text(self.age_s)} old"
        return None


class Report(NamedTuple):
    """Everything known of one truck. `wrong` is empty if all is well. `backlog`: {class: {"segments", "bytes"}}; `hours` at the measured
    `rate` (bytes/s), both None where not known; `losses` by reason (LOSSES)."""

    truck: str
    uplink: Process
    sweeper: Process
    backlog: dict[str, dict[str, int]]
    rate: float | None
    hours: float | None
    oldest: dict[str, Any] | None
    oldest_age_s: float | None
    losses: dict[str, int]
    link: dict[str, Any]
    last_receipt: dict[str, Any] | None
    last_receipt_age_s: float | None
    wrong: list[str]


def load(spool: Path) -> Report:
    """The report on the truck of `spool`; raises BadStatus."""
    if not spool.is_dir():
        raise BadStatus(f"{spool}: no such folder")
    return report(process(spool, UPLINK), process(spool, SWEEPER), boottime_ns())


def report(uplink: Process, sweeper: Process, now_ns: int) -> Report:
    """The report at boot time `now_ns`. Pure."""
    says = uplink.says or {}
    this_boot = uplink.age_s is not None
    recorder = says.get("recorder") or {}
    backlog = {name: (says.get("classes") or {}).get(name) or {"segments": 0, "bytes": 0} for name in CLASSES}
    rate = says.get("receipted_bytes_per_s")
    oldest, receipt = says.get("oldest"), says.get("last_receipt")
    utc = recorder.get("utc_ns") or 0
    now_utc = utc + now_ns - recorder["boottime_ns"] if utc and this_boot else 0
    return Report(
        truck=str(says.get("truck") or (sweeper.says or {}).get("truck") or ""),
        uplink=uplink,
        sweeper=sweeper,
        backlog=backlog,
        rate=rate,
        hours=hours(sum(one["bytes"] for one in backlog.values()), rate) if says.get("classes") else None,
        oldest=oldest,
        oldest_age_s=(now_utc - oldest["utc_ns"]) / NANO if oldest and oldest["utc_ns"] and now_utc else None,
        losses={**{name: (says.get("dropped") or {}).get(name, 0) for name in LOSSES}, "gaps": recorder.get("gaps", 0)},
        link=says.get("link") or {},
        last_receipt=receipt,
        last_receipt_age_s=(now_ns - receipt["boottime_ns"]) / NANO if receipt and this_boot else None,
        wrong=list(_wrong(uplink, sweeper, recorder, now_ns)),
    )


def _wrong(uplink: Process, sweeper: Process, recorder: dict[str, Any], now_ns: int) -> list[str]:
    found = [wrong for process in (uplink, sweeper) if (wrong := process.wrong())]
    for process in (uplink, sweeper):
        if process.says and process.runs and process.says.get("problem"):
            found.append(f"{process.name}: {process.says['problem']}")
    if uplink.says is None or not uplink.runs or uplink.age_s is None:
        return found  # what it knew is no longer so
    says = uplink.says
    if not says.get("connected") and not says.get("problem"):
        found.append("uplink: not connected to the hub")
    if says.get("live_waiting"):
        found.append(f"live: {says['live_waiting']}")
    found += [f"set aside: {one['segment_id']}: {one['reason']}" for one in says.get("set_aside") or []]
    if not recorder:
        return [*found, "recorder: has said nothing to this uplink"]
    silent = (now_ns - recorder["heard_boottime_ns"]) / NANO
    if silent > SILENT_SECONDS:
        found.append(f"recorder: has said nothing for {age_text(silent)}")
    for name, state in recorder["sensors"].items():
        if state.get("state") in BAD_STATES:
            found.append(f"sensor {name}: {state['state']}" + (f": {state['reason']}" if state.get("reason") else ""))
    return found


def age_text(age_s: float | None) -> str:
    """An age as a technician says it; None is one of before the last reboot."""
    if age_s is None:
        return "(written before the last reboot)"
    for limit, size, unit in ((90, 1, "s"), (5400, 60, "min"), (172_800, 3600, "h")):
        if age_s < limit:
            return f"{max(age_s, 0.0) / size:.0f} {unit}"
    return f"{age_s / 86_400:.0f} d"


def process(spool: Path, name: str) -> Process:
    """What `<name>.json` in `spool` says; raises BadStatus if that is no status."""
    path = spool / f"{name}.json"
    try:
        says = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        pid, at = int(says["pid"]), int(says["boottime_ns"])
    except FileNotFoundError:
        return Process(name, None, None, False)
    except OSError as error:
        raise BadStatus(f"{path}: {error.strerror}") from error
    except (msgspec.DecodeError, KeyError, TypeError, ValueError) as error:
        raise BadStatus(f"{path}: is no status: {error}") from error
    age = (boottime_ns() - at) / NANO
    if age < 0:
        return Process(name, says, None, False)
    return Process(name, says, age, Path(f"/proc/{pid}").exists())
