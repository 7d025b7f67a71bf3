"""The newest of everything, for the live view: sources tell it, the recorder sends it once a second and at each fix (formats.md 4)."""

import math
import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any

from gateway.clock import Clock, boottime_ns
from gateway.live import LiveSender


class Snapshot:
    """Collects the newest values; any thread may tell and send. `truck` and `boot` (the spool folder's name) identify the sender."""

    def __init__(self, truck: str, boot: str, clock: Clock, sender: LiveSender) -> None:
        self._truck = truck
        self._boot = boot
        self._clock = clock
        self._sender = sender
        self._lock = threading.Lock()
        self._number = 0
        self._values: dict[str, dict[str, Any]] = {}
        self._counts: Counter[str] = Counter()
        self._sensors: dict[str, dict[str, str]] = {}
        self._head: dict[str, Any] | None = None
        self._image: dict[str, Any] | None = None
        self._parked = False
        self._place: str | None = None

    def values(
        self, at_ns: int, values: Mapping[str, float | str], raw: Mapping[str, str], calibrated: frozenset[str] = frozenset()
    ) -> None:
        """Newest values by quantity, of boot time `at_ns`: an SI number or the reason why there is none; `raw` as text."""
        rows = {}
        for quantity, value in values.items():
            number = None if isinstance(value, str) or not math.isfinite(value) else value
            rows[quantity] = {
                "value": number,
                "reason": None if number is not None else str(value),
                "raw": raw.get(quantity, ""),
                "boottime_ns": at_ns,
                "calibrated": quantity in calibrated,
            }
        with self._lock:
            self._values.update(rows)

    def count(self, name: str, number: int = 1) -> None:
        """`number` more of the counter `name` (formats.md 4)."""
        with self._lock:
            self._counts[name] += number

    def counts(self) -> dict[str, int]:
        """All counters."""
        with self._lock:
            return dict(self._counts)

    def sensor(self, sensor: str, state: str, reason: str) -> None:
        """The state of a sensor, and why."""
        with self._lock:
            self._sensors[sensor] = {"state": state, "reason": reason}

    def head(self, fields: Mapping[str, Any] | None) -> None:
        """What the head says of itself (HELLO, then HEALTH: added to what is known); None: it is another one, or gone."""
        with self._lock:
            self._head = None if fields is None else {**(self._head or {}), **fields}

    def image(self, camera: str, at_ns: int, size: int) -> None:
        """The newest image."""
        with self._lock:
            self._image = {"camera": camera, "boottime_ns": at_ns, "bytes": size}
            self._counts["images"] += 1

    def place(self, depot: str | None) -> None:
        """The depot that the truck is in, by its last valid position; None: in none."""
        with self._lock:
            self._place = depot

    def park(self) -> None:
        """The shift is over: the ignition went off, and nothing is recorded until it is on again."""
        with self._lock:
            self._parked = True

    def build(self) -> dict[str, Any]:
        """The snapshot of now; each has a higher number."""
        mapping = self._clock.mapping(boottime_ns())
        with self._lock:
            self._number += 1
            return {
                "truck": self._truck,
                "boot": self._boot,
                "number": self._number,
                "boottime_ns": mapping.boottime_ns,
                "utc_ns": mapping.utc_ns,
                "utc_source": mapping.source,
                "utc_error_s": mapping.error_s if mapping.utc_ns else None,
                "values": {quantity: dict(row) for quantity, row in self._values.items()},
                "counts": {"images": 0, "gaps": 0, "head_frames": 0, "head_repeats": 0, **self._counts},
                "sensors": {sensor: dict(row) for sensor, row in self._sensors.items()},
                "head": None if self._head is None else dict(self._head),
                "image": self._image,
                "place": self._place,
                "parked": self._parked,
            }

    def send(self) -> None:
        """Sends the snapshot of now; dropped if nobody listens."""
        self._sender.send(self.build())
