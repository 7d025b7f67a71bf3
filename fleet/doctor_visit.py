"""One visit of the doctor: a truck's configuration, its machine, and what its running processes say of themselves. Checks ask here, so
that what two of them need is found once; any thread may ask."""

import threading
from functools import cached_property
from pathlib import Path
from typing import Any

from fleet import doctor_head_live
from fleet.doctor_machine import Machine
from gateway import status
from gateway.clock import NANO, boottime_ns
from gateway.config import Truck
from gateway.sweeper_disk import is_flocked

RECORDER_LOCK = "recorder.lock"


class Visit:
    """`truck` is its configuration."""

    def __init__(self, truck: Truck, machine: Machine | None = None) -> None:
        self.truck = truck
        self.machine = machine or Machine()
        self.spool = Path(truck.spool)
        self._lock = threading.Lock()
        self._heads: list[doctor_head_live.Heard] = []

    @cached_property
    def recorder_runs(self) -> bool:
        """Whether a recorder holds this spool, and with it the truck's ports. Found without touching the lock."""
        return is_flocked(self.spool / RECORDER_LOCK)

    @cached_property
    def uplink(self) -> status.Process:
        """The uplink by its status file. Raises status.BadStatus."""
        return status.process(self.spool, status.UPLINK)

    @cached_property
    def recorder(self) -> dict[str, Any] | None:
        """What the recorder told a running uplink in the last SILENT_SECONDS (docs/formats.md 6, `recorder`); None: nothing that
        counts."""
        uplink = self.uplink
        told = (uplink.says or {}).get("recorder")
        if not told or not uplink.runs or not (self.recorder_runs or told["parked"]):
            return None
        fresh = (boottime_ns() - told["heard_boottime_ns"]) / NANO <= status.SILENT_SECONDS
        return dict(told) if fresh else None

    @property
    def sensors(self) -> dict[str, dict[str, str]] | None:
        """States of sensors by the recorder; None: nothing is known of it now."""
        return None if self.recorder is None else self.recorder["sensors"]

    @property
    def parked(self) -> bool:
        """Whether the recorder waits for the ignition: then it holds neither the spool nor a port."""
        return not self.recorder_runs and bool(self.recorder and self.recorder["parked"])

    def head(self, port: str) -> doctor_head_live.Heard:
        """What the head says when asked at its port: for a port that nobody owns. Asked once. Raises OSError."""
        with self._lock:
            if not self._heads:
                self._heads.append(doctor_head_live.ask(port))
            return self._heads[0]
