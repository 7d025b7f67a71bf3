"""Bytes that went over links with a monthly budget: counted in memory, in the ledger every WRITE_SECONDS.

Months are of UTC; what goes while no clock is known is entered in the first month that is. Limits: a kill forgets what was counted since
the last writing; bytes are what our own connections sent and received, not what other programs on the truck did; budgets of two networks
on one interface are one account.
"""

import time
from collections.abc import Callable

from gateway import ledger_budgets
from gateway.clock import boottime_ns
from gateway.uplink_books import Books

WRITE_SECONDS = 10.0


class Budget:
    """The account of one truck; `utc_ns()` is 0 while no clock is known."""

    def __init__(self, books: Books, utc_ns: Callable[[], int]) -> None:
        self._books = books
        self._utc_ns = utc_ns
        self._undated: dict[str, int] = {}
        self._unwritten: dict[tuple[str, str], int] = {}
        self._written: dict[tuple[str, str], int] = {}
        self._written_ns = boottime_ns()

    def month(self) -> str | None:
        """The month now, e.g. "2027-01"; None while no clock is known."""
        utc_ns = self._utc_ns()
        return time.strftime("%Y-%m", time.gmtime(utc_ns // 1_000_000_000)) if utc_ns else None

    def count(self, interface: str, size: int) -> None:
        """`size` bytes went over `interface`."""
        self._undated[interface] = self._undated.get(interface, 0) + size

    async def used(self, interface: str) -> int:
        """Bytes of this month over `interface`, all counted ones included. Raises sqlite3.OperationalError."""
        month = self.month()
        if month is None:
            return self._undated.get(interface, 0)
        for name, size in self._undated.items():
            self._unwritten[name, month] = self._unwritten.get((name, month), 0) + size
        self._undated = {}
        account = interface, month
        if account not in self._written:
            self._written[account] = await self._books(ledger_budgets.moved, *account)
        return self._written[account] + self._unwritten.get(account, 0)

    async def write(self, at_once: bool = False) -> None:
        """Enter what was counted, if it is time (or `at_once`). Raises sqlite3.OperationalError; nothing is forgotten then."""
        now = boottime_ns()
        if not self._unwritten or (not at_once and now - self._written_ns < WRITE_SECONDS * 1e9):
            return
        self._written_ns = now
        writing, self._unwritten = self._unwritten, {}
        try:
            await self._books(ledger_budgets.add, writing)
        except BaseException:
            for account, size in writing.items():
                self._unwritten[account] = self._unwritten.get(account, 0) + size
            raise
        for account, size in writing.items():
            if account in self._written:
                self._written[account] += size
