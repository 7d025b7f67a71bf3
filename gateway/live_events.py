"""Every event goes to the uplink at once, for the city to know within seconds (docs/formats.md 4, `event`). The record is in the segment;
this is the quick news of it.

An uplink that is not there, or has no room, is given it again with what comes next, up to MOST_WAITING events; then the oldest go. Events
of the machinery (a loose contact tells its state with every batch) are news up to MACHINERY_MOST a minute. What is passed over is counted,
and shows as a gap in the numbers."""

import threading
from collections import deque
from typing import Any

from gateway.clock import NANO, Clock, boottime_ns
from gateway.journal import Entry, Journal
from gateway.live import KIND, LiveSender
from gateway.sweeper_events import MACHINERY
from logbook.channels import EVENT
from logbook.schemas import cruisers_pb2 as pb

NEWS = "event"
MOST_WAITING = 256
MACHINERY_MOST = 60  # a minute
MINUTE_NS = 60 * NANO
DETAIL_MOST = 2000  # characters: a HELLO has 400


class LiveEvents:
    """Observes what `journal` writes; `send()` about once a second sends what waited. `passed_over` counts events that are no news."""

    def __init__(self, truck: str, boot: str, clock: Clock, journal: Journal, sender: LiveSender) -> None:
        self._truck = truck
        self._boot = boot
        self._clock = clock
        self._sender = sender
        self._lock = threading.Lock()
        self._waiting: deque[dict[str, Any]] = deque()
        self._machinery: deque[int] = deque(maxlen=MACHINERY_MOST)  # boot times of the newest
        self._number = 0
        self.passed_over = 0
        journal.observe(EVENT, self._hear)

    def _hear(self, entry: Entry) -> None:
        found = pb.Event.FromString(entry.data)
        with self._lock:
            self._number += 1
            if not self._is_news(found.kind):
                self.passed_over += 1
                return
            mapping = self._clock.mapping(found.boottime_ns)
            self._waiting.append({
                KIND: NEWS,
                "truck": self._truck,
                "boot": self._boot,
                "number": self._number,
                "boottime_ns": found.boottime_ns,
                "utc_ns": mapping.utc_ns,
                "event": found.kind,
                "source": found.source,
                "detail": found.detail[:DETAIL_MOST],
            })  # fmt: skip
            if len(self._waiting) > MOST_WAITING:
                self._waiting.popleft()
                self.passed_over += 1
        self.send()

    def _is_news(self, kind: str) -> bool:
        if kind not in MACHINERY:
            return True
        now = boottime_ns()
        if len(self._machinery) == MACHINERY_MOST and now - self._machinery[0] < MINUTE_NS:
            return False
        self._machinery.append(now)
        return True

    def send(self) -> None:
        """Sends what waits, in order, until the uplink takes no more."""
        with self._lock:
            while self._waiting and self._sender.send(self._waiting[0]):
                self._waiting.popleft()
