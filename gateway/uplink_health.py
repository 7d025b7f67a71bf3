"""How the truck is, to `<truck>_health_data` (P1): every HEALTH_SECONDS, and within CHANGE_SECONDS of a change of what a dispatcher acts on
(link, clock, a sensor's state, parked, what is wrong). Made from the very status that <spool>/uplink.json shows: one truth."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from gateway.clock import NANO, boottime_ns
from gateway.ledger import kernel_boot_id
from gateway.uplink_channel import Channel
from sox.account import back_off
from sox.errors import SoxError
from sox.health import Health, health_device, health_document

HEALTH_SECONDS = 30.0
CHANGE_SECONDS = 5.0  # a loose contact must not fill the link

log = logging.getLogger("uplink")


class HealthNews:
    """The task of the health; `latest()` gives the newest status (docs/formats.md 6), None before there is one."""

    def __init__(self, channel: Channel, latest: Callable[[], dict[str, Any] | None], back_off_first: float) -> None:
        self._channel = channel
        self._latest = latest
        self._back_off_first = back_off_first
        self._boot = kernel_boot_id()[:8]
        self._told: Health | None = None
        self.published = 0
        self.problem: str | None = None

    async def run(self) -> None:
        """Publish until cancelled."""
        failures = 0
        while True:
            status = self._latest()
            if status is None or not self._is_due(health := health_of(status, self._boot)):
                await asyncio.sleep(min(1.0, CHANGE_SECONDS / 5))
                continue
            try:
                await self._channel.publish(health_document(health), health_device)
            except SoxError as error:
                failures += 1
                self.problem = f"health: {error}"
                await asyncio.sleep(back_off(failures, self._back_off_first))
                continue
            failures, self.problem = 0, None
            self._told = health
            self.published += 1

    def _is_due(self, health: Health) -> bool:
        if self._told is None:
            return True
        seconds = (health.boottime_ns - self._told.boottime_ns) / NANO
        return seconds >= HEALTH_SECONDS or (seconds >= CHANGE_SECONDS and _essence(health) != _essence(self._told))

    def status(self) -> dict[str, Any]:
        """For the status file."""
        return {"health": {"published": self.published, "problem": self.problem}}


def _essence(health: Health) -> tuple[object, ...]:
    """What somebody acts on at once."""
    return health.parked, health.link, health.interface, health.clock_source, health.sensors, health.problem


def health_of(status: dict[str, Any], boot: str) -> Health:
    """The health that a status tells, now, in the kernel's boot `boot` (8 digits)."""
    now = boottime_ns()
    recorder = status.get("recorder") or {}
    link = status.get("link") or {}
    oldest = status.get("oldest") or {}
    classes = status.get("classes") or {}
    receipt = status.get("last_receipt") or {}
    utc = recorder.get("utc_ns") or 0
    offset = utc - (recorder.get("boottime_ns") or 0) if utc else None
    return Health(
        utc_ns=0 if offset is None else now + offset,
        boot=boot,
        boottime_ns=now,
        connected=bool(status.get("connected")),
        parked=bool(recorder.get("parked")),
        segments={name: one["segments"] for name, one in classes.items()},
        bytes={name: one["bytes"] for name, one in classes.items()},
        rate=status.get("receipted_bytes_per_s"),
        oldest=oldest.get("segment_id", ""),
        oldest_utc=oldest.get("utc_ns", 0),
        lost={**(status.get("dropped") or {}), "gaps": recorder.get("gaps", 0)},
        link=link.get("class") or "",
        interface=link.get("interface") or "",
        why=link.get("why") or "",
        last_receipt_utc=0 if offset is None or not receipt else receipt["boottime_ns"] + offset,
        disk_free=status.get("disk_free_bytes"),
        clock_source=recorder.get("utc_source") or "",
        clock_error=recorder.get("utc_error_s"),
        sensors={name: _said(state) for name, state in (recorder.get("sensors") or {}).items()},
        problem=status.get("problem") or "",
    )


def _said(state: dict[str, str]) -> str:
    return state.get("state", "") + (f": {state['reason']}" if state.get("reason") else "")
