"""The pace of bulk: every transfer asks here before it hands over a chunk, and pings over the same link say how fast (uplink_rate.py).

Several transfers may ask at once: one of a higher class that came later has its chunks first, but every SHARE-th goes to the lowest
class, so that no transfer under way falls silent. Pings go only while bulk does. While there is no connection to ping over, or the hub
refuses pings, the rate stays as it was: then TCP alone protects what else is on the link.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from gateway.uplink_link import Link
from gateway.uplink_rate import PING_SECONDS, Rate
from sox.errors import SoxError

SHARE = 8
AHEAD_SECONDS = 0.02  # that a chunk may go before its time: what the event loop slept too long is made up for
RETRY_SECONDS = 1.0  # after a ping that failed


class _Asking(NamedTuple):
    rank: int
    number: int
    size: int
    granted: asyncio.Future[None]


class Pacer:
    """`take` waits for the time of a chunk; run() is the task of the pings."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self.rate = Rate()
        self._asking: list[_Asking] = []
        self._number = 0
        self._grants = 0
        self._sent = 0
        self._next = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._active = asyncio.Event()

    def another_link(self) -> None:
        """What was learnt holds no longer."""
        self.rate = Rate()

    async def take(self, size: int, rank: int) -> None:
        """Wait until `size` bytes of a transfer may go; a lower `rank` is served first."""
        self._active.set()
        self._number += 1
        asking = _Asking(rank, self._number, size, asyncio.get_running_loop().create_future())
        self._asking.append(asking)
        if self._timer is None:
            self._serve()
        await asking.granted

    def _serve(self) -> None:
        """Grant one, if it is time. The next one in the next turn of the loop: the transfer that has it is to ask again before."""
        self._timer = None
        now = asyncio.get_running_loop().time()
        self._asking = [asking for asking in self._asking if not asking.granted.done()]  # of a transfer that was cut
        if self._asking and self._next - AHEAD_SECONDS <= now:
            self._grants += 1
            choose = max if self._grants % SHARE == 0 else min
            asking = choose(self._asking)
            self._asking.remove(asking)
            self._sent += asking.size
            self._next = max(self._next, now - AHEAD_SECONDS) + asking.size / self.rate.now(now)
            asking.granted.set_result(None)
        if self._asking:
            self._timer = asyncio.get_running_loop().call_at(self._next - AHEAD_SECONDS, self._serve)

    async def run(self) -> None:
        """Ping while bulk is on its way, until cancelled."""
        while True:
            await self._active.wait()
            sent = self._sent
            ping: Callable[[], Awaitable[Any]] = (await self._link.client()).ping
            try:
                await asyncio.gather(self._ping(ping), asyncio.sleep(PING_SECONDS))
            except SoxError:  # the link is told of it by the connection itself; here there is only nothing to learn
                await asyncio.sleep(RETRY_SECONDS)
            if self._sent == sent and not self._asking:
                self._active.clear()

    async def _ping(self, ping: Callable[[], Awaitable[Any]]) -> None:
        rate, began, sent = self.rate, asyncio.get_running_loop().time(), self._sent
        answer = asyncio.ensure_future(ping())
        try:
            while not (await asyncio.wait({answer}, timeout=PING_SECONDS))[0]:
                rate.overdue(asyncio.get_running_loop().time() - began)
            answer.result()
        finally:
            answer.cancel()
        rate.trip(began, asyncio.get_running_loop().time() - began, sent)

    def status(self) -> dict[str, float]:
        """For the status file: bytes a second that may go, and seconds that live values wait for bulk in the link."""
        return {"bytes_per_second": round(self.rate.now(asyncio.get_running_loop().time())), "waiting_seconds": round(self.rate.waiting, 3)}
