"""What the head's STATE frames say of each sensor: which is the present one, and which is to be written down.

Numbered frames are changes, and each is written. Behind every HELLO the head also says, with sequence 0, the present state of each sensor
(docs/formats.md 1). Frames follow each other by their ticks, so when the first frame that was made behind that word comes, everything
before it has come or is lost. Only where frames were lost, and what this recorder wrote last is something else or nothing, can the change
itself be among them: then the present state is written in its place. In all other cases it stands written already, by this recorder or by
one before it.

Limit: of changes that were lost the last is known, and when it was known."""

from collections.abc import Iterator
from typing import NamedTuple

from firmware import frames


class Told(NamedTuple):
    """A present state (numbers of firmware/frames.py), made at the head's `ticks`."""

    source: str
    state: int
    reason: int
    failures: int
    ticks: int


class HeadStates:
    """Of one boot of the head; `begin` at the next. One thread."""

    def __init__(self) -> None:
        self._written: dict[str, tuple[int, int]] = {}  # state and reason
        self._present: dict[str, Told] = {}  # until a frame made behind it comes
        self._uncertain: set[str] = set()  # frames were lost since what is written
        self._ahead: set[str] = set()  # what is written is a present state

    def begin(self) -> None:
        """Another boot, in which all is said anew."""
        self._written.clear()
        self._present.clear()
        self._uncertain.clear()
        self._ahead.clear()

    def lost(self) -> None:
        """Frames will not come, and nobody knows what they said."""
        self._uncertain.update(frames.SENSORS.values())

    def present(self, told: Told) -> None:
        """The head says how a sensor is."""
        self._present[told.source] = told

    def standing(self, source: str, ticks: int) -> Told | None:
        """The present state, where it is newer than a change at `ticks`."""
        told = self._present.get(source)
        return told if told is not None and told.ticks > ticks else None

    def due(self, ticks: int) -> Iterator[Told]:
        """Those to be written before a frame that was made at `ticks` is."""
        if not self._present:
            return
        for source, told in list(self._present.items()):
            if told.ticks >= ticks:
                continue
            del self._present[source]
            known = self._written.get(source)
            self._written[source] = told.state, told.reason
            if source in self._uncertain and known != self._written[source]:
                self._ahead.add(source)
                yield told
            self._uncertain.discard(source)

    def changed(self, source: str, state: int, reason: int) -> bool:
        """A numbered frame; whether it is to be written. It is not where its word stands already: a head that had too many changes to say
        says the last one later (firmware/supervisor.py)."""
        again = source in self._ahead and self._written.get(source) == (state, reason)
        self._ahead.discard(source)
        self._uncertain.discard(source)
        self._written[source] = state, reason
        return not again
