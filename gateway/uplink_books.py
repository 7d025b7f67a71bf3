"""The ledger from an event loop: every call runs in one thread of its own, so that a stall of the disk never stops live data."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Concatenate, ParamSpec, TypeVar

from gateway.ledger import Ledger

P = ParamSpec("P")
T = TypeVar("T")


class Books:
    """`await books(Ledger.totals)` calls `totals` of the ledger in the ledger's thread; calls keep their order."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._thread = ThreadPoolExecutor(1, "ledger")
        self.rebuilt = ledger.rebuilt

    async def __call__(self, method: Callable[Concatenate[Ledger, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The method's result; raises what it raises (sqlite3.OperationalError when the disk refuses)."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: method(self._ledger, *args, **kwargs))

    def close(self) -> None:
        """Finish what was asked, close the ledger."""
        self._thread.shutdown(wait=True)
        self._ledger.close()
