"""A truck and the center that go about their business while the hub is attacked, in a thread of their own."""

import asyncio
import threading
import time
from typing import Any

from sox.client import SoxClient
from sox.documents import TransducerValue, data_document

SECONDS = 20.0
NODE = "truck-3_data"


class Honest:
    """truck-3 publishes some 40 values a second, the center gets them. Start and stop; `goes_on()` in between."""

    def __init__(self, hub: Any) -> None:
        self._truck: SoxClient = hub.client("truck-3")
        self._center: SoxClient = hub.client("center")
        self._thread = threading.Thread(target=lambda: asyncio.run(self._work()), daemon=True)
        self._over = threading.Event()
        self._standing = threading.Event()
        self.received = 0
        self.sent = 0
        self.slowest = 0.0
        self.trouble: list[str] = []

    def start(self) -> "Honest":
        self._thread.start()
        assert self._standing.wait(SECONDS), self.trouble
        return self

    def stop(self) -> None:
        self._over.set()
        self._thread.join(SECONDS)
        assert not self._thread.is_alive()

    def goes_on(self, count: int = 2) -> None:
        """Returns when `count` values that were published after the call have come, on the connections that stood from the start."""
        wanted, until = self.sent + count, time.monotonic() + SECONDS
        while self.received < wanted:
            assert not self.trouble, self.trouble
            assert time.monotonic() < until, f"{self.received} of {wanted} within {SECONDS:g} s"
            time.sleep(0.005)

    async def _work(self) -> None:
        for who, client in (("truck", self._truck), ("center", self._center)):
            client.on_disconnected(lambda error, who=who: error and self.trouble.append(f"{who}: {error}"))  # type: ignore[misc]
            await client.connect()
        self._center.on_item(self._take)
        await self._center.subscribe(NODE)
        try:
            while not self._over.is_set():
                began = time.monotonic()
                value = data_document([TransducerValue("n", str(self.sent + 1), None, "2026-05-09T01:02:03.000000Z")])
                await self._truck.publish(NODE, f"honest-{self.sent + 1}", value)
                self.sent += 1
                self.slowest = max(self.slowest, time.monotonic() - began)
                self._standing.set()
                await asyncio.sleep(0.02)
        except Exception as error:  # noqa: BLE001 - told by goes_on()
            self.trouble.append(repr(error))
        finally:
            await self._truck.disconnect()
            await self._center.disconnect()

    def _take(self, node: str, item_id: str, _: object) -> None:
        if node == NODE and item_id.startswith("honest-"):
            self.received = max(self.received, int(item_id.removeprefix("honest-")))
