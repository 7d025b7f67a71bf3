"""`cruisers doctor`: is this truck fit to drive? Each check looks at one thing, all at the same time, each within a time limit.

Nothing is changed and nothing is published. A check that fails itself is red with its error; one that does not end (a disk that hangs
in the kernel cannot be interrupted) is red, and left behind in its thread."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from fleet import (
    doctor_camera,
    doctor_clock,
    doctor_disk,
    doctor_head,
    doctor_head_keys,
    doctor_hub,
    doctor_link,
    doctor_power,
    doctor_receiver,
    doctor_sensors,
    doctor_spool,
)
from fleet.doctor_finding import GREEN, GREY, Finding, red, say, worst
from fleet.doctor_visit import Visit

Check = Callable[[Visit], list[Finding]]

CHECKS: dict[str, Check] = {
    "power": doctor_power.check,
    "disk": doctor_disk.check,
    "clock": doctor_clock.check,
    "head": lambda visit: [*doctor_head.check(visit), *doctor_head_keys.check(visit)],
    "sensors": doctor_sensors.check,
    "receiver": doctor_receiver.check,
    "camera": doctor_camera.check,
    "hub": doctor_hub.check,
    "link": doctor_link.check,
    "spool": doctor_spool.check,
}
LIMIT_SECONDS = 15.0
LIMITS = {"hub": 30.0}  # name, TLS and login over a slow mobile link


class Result(NamedTuple):
    """What a check found in `seconds`. `late`: it did not end in time, and goes on."""

    name: str
    findings: list[Finding]
    seconds: float
    late: bool = False

    @property
    def colour(self) -> str:
        """That of its worst finding."""
        return worst(self.findings)


def examine(
    visit: Visit, names: Iterable[str] = tuple(CHECKS), checks: Mapping[str, Check] = CHECKS, limits: Mapping[str, float] = LIMITS
) -> list[Result]:
    """The results of the checks `names`, in that order; raises nothing for what a check does."""
    began = time.monotonic()
    results: dict[str, Result] = {}
    threads = {name: threading.Thread(target=_run, args=(visit, name, checks[name], results), daemon=True) for name in names}
    for thread in threads.values():
        thread.start()
    for name, thread in threads.items():
        limit = limits.get(name, LIMIT_SECONDS)
        thread.join(max(0.0, began + limit - time.monotonic()))
        results.setdefault(name, Result(name, [red("check_late", say("do_late"), seconds=limit)], limit, late=thread.is_alive()))
    return [results[name] for name in threads]


def _run(visit: Visit, name: str, check: Check, results: dict[str, Result]) -> None:
    began = time.monotonic()
    try:
        findings = check(visit)
    except Exception as error:  # noqa: BLE001  whatever it is, the finding says it: one check must not take the others with it
        text = " ".join(str(error).split()) or type(error).__name__
        findings = [red("check_failed", say("do_report"), error=text, kind=type(error).__name__)]
    results.setdefault(name, Result(name, findings, time.monotonic() - began))


def all_well(results: Iterable[Result]) -> bool:
    """Whether nothing is to be seen to."""
    return all(result.colour in (GREEN, GREY) for result in results)
