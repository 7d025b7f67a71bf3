"""What happens to a truck, in one place: an event becomes a record on disk, a count in the live snapshot, and known to those who act on
it (the choice of images, the sweeper).

Kinds and who finds them: `shock`, `box_tilted` (gateway/watch.py, from the IMU), `depot_in`, `depot_out` (the same, from positions),
`bookmark`, `box_opened`, `box_closed`, `ignition_on`, `ignition_off` (gateway/inputs.py, from switches; a bookmark also from the center).
Their sources and details: docs/formats.md 2."""

from collections.abc import Callable

from gateway.clock import boottime_ns
from gateway.journal import Journal, event
from gateway.snapshot import Snapshot

Heard = Callable[[str, int], None]  # the kind of an event, and the boot time (ns) at which it happened

BOOKMARK = "bookmark"


class Events:
    """Takes events from any thread."""

    def __init__(self, journal: Journal, snapshot: Snapshot) -> None:
        self._journal = journal
        self._snapshot = snapshot
        self._hearers: list[Heard] = []

    def subscribe(self, heard: Heard) -> None:
        """`heard(kind, at_ns)` is called for every event from now on, in the thread of who tells it, and must return at once. It may be
        called twice for one event (`foretell`). To be called before the sources start."""
        self._hearers.append(heard)

    def foretell(self, kind: str, at_ns: int) -> None:
        """An event of `kind` has begun at boot time `at_ns` and is told, measured, when it ends: pictures cannot wait for that."""
        for heard in self._hearers:
            heard(kind, at_ns)

    def tell(self, kind: str, source: str, detail: str = "", at_ns: int | None = None) -> bool:
        """An event of `kind` happened (now, or at boot time `at_ns`). False if the record was refused, for the disk stalls and memory is
        full: the writer counts it and writes a Gap; the hearers know it all the same."""
        at = boottime_ns() if at_ns is None else at_ns
        self._snapshot.count(f"events.{kind}")
        taken = self._journal.write([event(kind, source, detail, at)])
        self.foretell(kind, at)
        return taken

    def bookmark(self, source: str, detail: str = "", at_ns: int | None = None) -> bool:
        """Somebody marks this moment: the `button` in the cab, or the `center`."""
        return self.tell(BOOKMARK, source, detail, at_ns)
