"""Positions of a receiver on the head, where the truck's computer has none: the same messages as of one that it reads itself
(gateway/receiver.py), in the batch of the head's frames that they came in: after a crash they come again together, or not at all."""

from collections.abc import Sequence

from gateway import receiver
from gateway.clock import Clock
from gateway.fixes import Fixes
from gateway.journal import Entry
from gateway.snapshot import Snapshot


class HeadPositions:
    """Used by HeadLog, in its thread. `since_ns`: see Outage. Until the head speaks of a receiver, none is missed."""

    def __init__(self, clock: Clock, snapshot: Snapshot, since_ns: int | None = None) -> None:
        self._clock = clock
        self._snapshot = snapshot
        self._since_ns = since_ns
        self._known: Fixes | None = None
        self._entries: list[Entry] = []

    def take(self, trim: bytes, raw: bytes, at_ns: int) -> list[Entry]:
        """What to write of one NAV-PVT payload, whole at boot time `at_ns`."""
        receiver.take(self._fixes(), trim, raw, at_ns)
        return self._taken()

    def missing(self, reason: str) -> list[Entry]:
        """What to write when the receiver does not deliver, because of `reason`."""
        self._fixes().missing(reason)
        return self._taken()

    def finish(self) -> list[Entry]:
        """What to write when the recorder stops."""
        if self._known is not None:
            self._known.finish()
        return self._taken()

    def write(self, entries: Sequence[Entry]) -> bool:
        """The journal of `Fixes`: kept for the batch."""
        self._entries += entries
        return True

    def _fixes(self) -> Fixes:
        if self._known is None:
            self._known = Fixes(self._clock, self, self._snapshot, self._since_ns)
        return self._known

    def _taken(self) -> list[Entry]:
        taken, self._entries = self._entries, []
        return taken
