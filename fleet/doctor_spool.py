"""The spool: who works on it, what waits, what is set aside, and files that nobody looks after.

A spool may hold 20,000 segments: of each sealed one the last bytes are looked at (it ends in MCAP's magic), not its contents; `cruisers
segment` does that for one. Limits: an `.open` file counts as owned while a process holds its lock (/proc/locks)."""

import os
from pathlib import Path

from fleet.doctor_finding import Finding, green, grey, red, say, yellow
from fleet.doctor_visit import Visit
from gateway import status
from gateway.sweeper_disk import Spooled, is_flocked, spooled

MAGIC = b"\x89MCAP0\r\n"
GB = 1e9
QUOTA_NEARLY = 0.9
INODES_LITTLE, INODES_LAST = 0.05, 0.01  # of the file system's, free
HOURS_LONG = 24.0  # what a shift leaves behind must go in a day
SHOWN = 3


def check(visit: Visit) -> list[Finding]:
    """Everything of the spool. Raises BadStatus, OSError."""
    if not visit.spool.is_dir():
        return [red("spool_none", say("do_mount"), spool=str(visit.spool))]
    segments = spooled(visit.spool)
    return [
        *processes(visit), *backlog(visit), *room(visit, segments), *opened(visit.spool, segments), *damaged(visit.spool, segments),
        *inodes(visit.spool),
    ]  # fmt: skip


def processes(visit: Visit) -> list[Finding]:
    """Recorder, uplink and sweeper run, and what they complain of."""
    found, well = [], []
    if visit.parked:
        found.append(grey("parked"))
    elif visit.recorder_runs:
        well.append("recorder")
    else:
        found.append(red("process_not_running", say("do_start", name="recorder"), name="recorder"))
    for name in (status.UPLINK, status.SWEEPER):
        process = visit.uplink if name == status.UPLINK else status.process(visit.spool, name)
        wrong = process.wrong()
        problem = (process.says or {}).get("problem")
        if wrong is not None:
            make = red if not process.runs else yellow
            found.append(make("process_not_running", say("do_start", name=name), name=name))
        elif problem:
            found.append(yellow("process_problem", say("do_status"), name=name, problem=str(problem)))
        else:
            well.append(name)
    return [green("process_runs", names=", ".join(well)), *found] if well else found


def backlog(visit: Visit) -> list[Finding]:
    """What waits for the hub, and what was set aside."""
    says = visit.uplink.says
    if says is None or not says.get("classes"):
        return [grey("backlog_unknown")]
    report = status.load(visit.spool)
    size = sum(one["bytes"] for one in report.backlog.values())
    values = {"size": size / GB, "segments": sum(one["segments"] for one in report.backlog.values())}
    if report.hours is not None and report.hours > HOURS_LONG:
        found = [yellow("backlog_long", say("do_backlog"), hours=report.hours, **values)]
    else:
        found = [green("backlog", **values)]
    aside = says.get("set_aside") or []
    if aside:
        first = aside[0]
        found.append(yellow("set_aside", say("do_set_aside"), count=len(aside), segment=first["segment_id"], reason=first["reason"]))
    return found


def room(visit: Visit, segments: list[Spooled]) -> list[Finding]:
    """The quota."""
    used, quota = sum(segment.size for segment in segments), visit.truck.spool_quota_bytes
    values = {"used": used / GB, "quota": quota / GB, "segments": len(segments)}
    if used > quota:
        return [red("quota_over", say("do_sweeper"), **values)]
    if used > QUOTA_NEARLY * quota:
        return [yellow("quota_nearly", say("do_backlog"), **values)]
    return [green("quota_well", **values)]


def opened(spool: Path, segments: list[Spooled]) -> list[Finding]:
    """Files being written that nobody writes: a killed recorder's, which the next one seals."""
    left = [one for one in segments if not one.sealed and not is_flocked(spool / one.folder / one.name)]
    return [yellow("open_left", say("do_recorder"), count=len(left), names=_names(left))] if left else []


def damaged(spool: Path, segments: list[Spooled]) -> list[Finding]:
    """Sealed files that do not end as one."""
    broken = [one for one in segments if one.sealed and not _whole(spool / one.folder / one.name)]
    if not broken:
        return []
    first = spool / broken[0].folder / broken[0].name
    return [yellow("damaged", say("do_damaged", path=str(first)), count=len(broken), names=_names(broken))]


def _whole(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            file.seek(-len(MAGIC), os.SEEK_END)
            return file.read() == MAGIC
    except FileNotFoundError:  # delivered in this moment
        return True
    except OSError:  # shorter than the magic, or the disk does not give it
        return False


def _names(segments: list[Spooled]) -> str:
    names = ", ".join(f"{one.folder}/{one.name}" for one in segments[:SHOWN])
    return names + (", …" if len(segments) > SHOWN else "")


def inodes(spool: Path) -> list[Finding]:
    """Files that the file system can still hold."""
    disk = os.statvfs(spool)
    if not disk.f_files:  # btrfs makes them as needed
        return []
    left = disk.f_favail / disk.f_files
    if left < INODES_LAST:
        return [red("inodes", say("do_inodes"), left=100 * left)]
    return [yellow("inodes", say("do_inodes"), left=100 * left)] if left < INODES_LITTLE else []
