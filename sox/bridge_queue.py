"""What waits for the other side of a bridge: bounded, oldest out first, counted."""

import asyncio
from collections import deque
from itertools import islice
from typing import Generic, TypeVar

QUEUE_MOST = 2_000  # messages: half an hour of one device a second; a few MB

T = TypeVar("T")


class Waiting(Generic[T]):
    """A queue for one taker. What it takes stays at the head until it says `done`: a connection that breaks in between loses nothing."""

    def __init__(self, most: int = QUEUE_MOST) -> None:
        self._entries: deque[T] = deque()
        self._most = most
        self._some = asyncio.Event()
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, entry: T) -> bool:
        return any(waiting is entry for waiting in self._entries)

    def put(self, entry: T) -> None:
        """Add an entry; where there is no room the oldest goes."""
        if len(self._entries) >= self._most:
            self._entries.popleft()
            self.dropped += 1
        self._entries.append(entry)
        self._some.set()

    async def heads(self, most: int) -> list[T]:
        """The oldest entries, at least one (it is waited for) and at most `most`; they stay."""
        while not self._entries:
            self._some.clear()
            await self._some.wait()
        return list(islice(self._entries, most))

    def done(self, entry: T) -> None:
        """The entry need not be kept any more (it may have been dropped meanwhile)."""
        if self._entries and self._entries[0] is entry:
            self._entries.popleft()
