"""Serial ports of a truck: whether they are there, and which process has them open. Nothing is opened here."""

import os
from pathlib import Path
from typing import NamedTuple

from fleet.doctor_finding import Finding, red, say
from fleet.doctor_machine import Machine, text

_PTY_MASTERS = {"/dev/ptmx", "/dev/pts/ptmx"}
RECORDER_WORDS = ("gateway.recorder",)


class Owner(NamedTuple):
    """A process that has a port open, and whether it is our recorder."""

    pid: int
    name: str
    recorder: bool


def missing(port: str) -> Finding | None:
    """Why a port cannot be used: it is not there, or not ours to open. None if it can."""
    if not Path(port).exists():
        return red("port_absent", say("do_cable"), port=port)
    if not os.access(port, os.R_OK | os.W_OK):
        return red("port_closed", say("do_dialout"), port=port)
    return None


def owner(machine: Machine, port: str) -> Owner | None:
    """Who has the port open; None: nobody, or a process of another user (only root sees those)."""
    real = os.path.realpath(port)
    for process in machine.proc.glob("[0-9]*"):
        if process.name == str(os.getpid()) or not _has(process, real):
            continue
        words = (text(process / "cmdline") or "").replace("\0", " ")
        return Owner(int(process.name), text(process / "comm") or "?", any(word in words for word in RECORDER_WORDS))
    return None


def _has(process: Path, port: str) -> bool:
    try:
        with os.scandir(process / "fd") as files:
            opened = {os.readlink(file.path) for file in files}
    except OSError:  # another user's, or it has ended meanwhile
        return False
    return port in opened and not (port.startswith("/dev/pts/") and opened & _PTY_MASTERS)  # a simulated device holds both ends of its pty
