"""How fast bulk may go so that live values do not wait behind it: from round trips of a small ping over the same link. Pure.

An LTE modem queues seconds of data, and whoever fills that queue waits at its end with everything else. So bulk keeps the queue short but
never empty: TARGET_SECONDS of waiting cost live values little, and cover the moments in which this program is busy elsewhere, so that the
link is never idle. Model: waiting grows by (rate - capacity) / capacity a second. Hence, from the bytes sent and the growth of the waiting
between two pings, the capacity; and from it the rate that brings the waiting to its target within SETTLE_SECONDS. While nothing waits the
capacity is unknown, and the rate doubles at each ping until something waits.

What counts as "nothing waits" is the shortest round trip of the last WINDOW_SECONDS. A link that is always full would hide it, so if none
has been near it for EASE_AFTER_SECONDS, bulk eases off for as long as what waits takes to leave, and the link is hardly idle for it.

Limits: a short queue that is always full (50 Mbit/s with 256 kB: 41 ms) never waits for TARGET_SECONDS; there TCP sets the rate, and live
values wait for those 41 ms. Queues of less than the target on slow links are used to the full in the same way.
"""

from collections import deque

TARGET_SECONDS = 0.15  # of waiting in the link
EMPTY_SECONDS = 0.06  # of waiting are noise: of the event loops and processors on the way
SETTLE_SECONDS = 0.4  # and two round trips
PING_SECONDS = 0.1
WINDOW_SECONDS = 15.0
EASE_AFTER_SECONDS, EASE_MOST_SECONDS = 7.0, 0.6
EASED = 0.2  # of the rate
EMPTY_TRIPS = 5  # pings in a row that did not wait: the capacity is unknown again
FIRST, LEAST = 128_000.0, 8_000.0  # bytes/s: at the beginning; and always, so that a wrong estimate heals
SMOOTHING = 0.8  # of an older estimate of the capacity, what is left after PING_SECONDS


class Rate:
    """Told of pings, it says how many bytes a second may go. Times in seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._rate = FIRST
        self.capacity = 0.0  # bytes/s, as last seen
        self.waiting = 0.0  # seconds in the link's queue, as last seen
        self._trips: deque[tuple[float, float]] = deque()
        self._last: tuple[float, int] | None = None  # when the last ping went, and what had been sent before it
        self._empty_at: float | None = None
        self._empty = 0  # pings in a row that did not wait
        self._ease_until = 0.0

    def now(self, at: float) -> float:
        """Bytes a second at the time `at`."""
        return max(LEAST, self._rate * (EASED if at < self._ease_until else 1.0))

    def trip(self, began: float, seconds: float, sent: int) -> None:
        """A ping that went at `began`, after `sent` bytes of bulk in all, took `seconds`."""
        self._trips.append((began, seconds))
        while self._trips[0][0] < began - WINDOW_SECONDS:
            self._trips.popleft()
        shortest = min(trip for _, trip in self._trips)
        waited, self.waiting = self.waiting, seconds - shortest
        last, self._last = self._last, (began, sent)
        if last is not None and began > last[0]:
            self._adapt(began - last[0], sent - last[1], self.waiting - waited, seconds)
        self._ease(began, self.waiting)

    def overdue(self, seconds: float) -> None:
        """A ping is under way for `seconds`: called every PING_SECONDS while it is."""
        shortest = min((trip for _, trip in self._trips), default=TARGET_SECONDS)
        if seconds - shortest > 2 * TARGET_SECONDS:
            self._rate = max(LEAST, self._rate * 0.5)

    def _adapt(self, elapsed: float, sent: int, growth: float, trip: float) -> None:
        """From one ping to the next: bytes sent, and by how many seconds the waiting grew."""
        flow = sent / elapsed
        self._empty = 0 if self.waiting > EMPTY_SECONDS else self._empty + 1
        if self.waiting > EMPTY_SECONDS:
            seen = flow / (1 + max(growth / elapsed, -0.5))
            self.capacity = seen + (self.capacity - seen) * SMOOTHING ** (elapsed / PING_SECONDS) if self.capacity else seen
        elif self.capacity and self._empty < EMPTY_TRIPS:
            self.capacity = max(self.capacity, flow)
        else:  # not full: find its capacity quickly, and not far above what really goes (a slow disk may be the limit)
            self._rate = max(FIRST, min(self._rate * 2, 3 * flow))
            return
        settle = SETTLE_SECONDS + 2 * trip  # what a change of the rate did is known two round trips later
        self._rate = max(LEAST, self.capacity * (1 + min(0.5, max(-1.0, (TARGET_SECONDS - self.waiting) / settle))))

    def _ease(self, at: float, waiting: float) -> None:
        if self._empty_at is None or waiting <= EMPTY_SECONDS:
            self._empty_at = at
        elif at - self._empty_at > EASE_AFTER_SECONDS:
            self._empty_at, self._ease_until = at, at + min(EASE_MOST_SECONDS, 1.2 * waiting)
