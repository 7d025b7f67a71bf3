"""What the truck's link is good for now: its class, and so who may use it (config.Uplink).

The interface is the one whose route leads to the hub's address (uplink_route.py). The class is that of the first rule of the
configuration that fits it by interface, SSID and hour of UTC; else what NetworkManager knows (metered, or not); else `unmetered`. Where
there is no route at all it is `metered`, so that nothing begins that the next link might forbid. A link whose monthly budget is used up
carries live values, events and health only.

Looked at every second, and at once when the kernel tells of links, addresses or routes, or NetworkManager of anything. Limits: traffic is
taken to leave by the route to the hub's first address (one name for XMPP and upload); a name is asked for every NAME_SECONDS, and when it
cannot be found, its last address counts. An SSID is known through NetworkManager alone.
"""

import asyncio
import socket
from collections.abc import Callable
from fnmatch import fnmatchcase
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, NamedTuple

from gateway.config import LinkClass, LinkRule, Truck
from gateway.network_manager import Known, NetworkManager
from gateway.uplink_books import Books
from gateway.uplink_budget import Budget
from gateway.uplink_route import Routes

LOOK_SECONDS = 1.0
SETTLE_SECONDS = 0.05  # news come in bursts
NAME_SECONDS, RETRY_SECONDS = 60.0, 1.0  # between two questions for a name that was found, and was not
USERS = ("packed", "readings", "requested", "images")  # each has its least class in the configuration
FREE = ("live", "events", "health")  # these use any link, budget or not
CLASSES = {"any": ("metered", "unmetered", "depot"), "unmetered": ("unmetered", "depot"), "depot": ("depot",)}


class Way(NamedTuple):
    """The link now. `budget` and `used` in bytes of this month (budget None: none); `why` says in words how its class is known."""

    interface: str | None = None
    ssid: str | None = None
    link: LinkClass = "metered"
    budget: int | None = None
    used: int = 0
    why: str = "not yet looked at"

    @property
    def spent(self) -> bool:
        """Whether the month's budget is used up."""
        return self.budget is not None and self.used >= self.budget


class Ways:
    """`now` is the link; run() keeps it so. `on_change` are called, in the event loop, when `now` allows others than before, or leads over
    another interface. Raises OSError where the kernel cannot be asked."""

    def __init__(self, truck: Truck, books: Books, utc_ns: Callable[[], int], bus: str | None = None) -> None:
        self._settings = truck.uplink
        self._host = truck.hub.host
        self._utc_ns = utc_ns
        self._routes = Routes()
        self._budget = Budget(books, utc_ns)
        self._news = asyncio.Event()
        self._manager = NetworkManager(self._news.set, bus) if truck.uplink.network_manager else None
        self._address: IPv4Address | IPv6Address | None = None
        self._asked_at: float | None = None  # for the address of the name
        self._finding: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()  # a new one for each change
        self.on_change: list[Callable[[], None]] = []
        self.now = Way()
        self.problem: str | None = None
        if self._manager is None and any(rule.ssid is not None for rule in truck.uplink.rules):
            self.problem = "a rule names an SSID, and only NetworkManager knows it, which is not asked (network_manager = false)"

    def allows(self, user: str) -> bool:
        """Whether `user`, one of FREE or USERS, may use the link now."""
        if user in FREE:
            return True
        return not self.now.spent and self.now.link in CLASSES[getattr(self._settings, user)]

    async def allowed(self, user: str) -> None:
        """Wait until `user` may use the link."""
        while not self.allows(user):
            await self._changed.wait()

    def count(self, size: int) -> None:
        """`size` bytes went over the link."""
        if self.now.interface is not None and self.now.budget is not None:
            self._budget.count(self.now.interface, size)

    async def run(self) -> None:
        """Look, and look again, until cancelled. Raises sqlite3.OperationalError when the ledger's disk refuses."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._routes.fileno(), self._heard)
        manager = asyncio.create_task(self._manager.run()) if self._manager is not None else None
        try:
            while True:
                self._news.clear()
                await self.look()
                await self._budget.write()
                if manager is not None and manager.done():
                    manager.result()
                try:
                    async with asyncio.timeout(LOOK_SECONDS):
                        await self._news.wait()
                    await asyncio.sleep(SETTLE_SECONDS)
                except TimeoutError:
                    continue
        finally:
            loop.remove_reader(self._routes.fileno())
            for task in (manager, self._finding):
                if task is not None:
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)

    async def close(self) -> None:
        """Enter what was counted. Raises sqlite3.OperationalError."""
        self._routes.close()
        await self._budget.used("")  # dates what was counted
        await self._budget.write(at_once=True)

    def abandon(self) -> None:
        """Close what was opened, instead of run() and close()."""
        self._routes.close()

    async def look(self) -> None:
        """Look once."""
        before, allowed = self.now, self._users()
        self.now = await self._way()
        if self._users() != allowed or self.now.interface != before.interface:
            self._changed.set()
            self._changed = asyncio.Event()
            for call in self.on_change:
                call()

    def status(self) -> dict[str, Any]:
        """For the status file."""
        way = self.now
        return {
            "interface": way.interface, "ssid": way.ssid, "class": way.link, "why": way.why, "allows": self._users(),
            "budget_bytes": way.budget, "budget_used_bytes": way.used,
        }  # fmt: skip

    def _users(self) -> list[str]:
        return [user for user in USERS if self.allows(user)]

    def _heard(self) -> None:
        self._routes.heard()
        self._news.set()

    async def _way(self) -> Way:
        self._find()
        interface = self._routes.interface(self._address) if self._address is not None else None
        if interface is None:
            return Way(why=f"no way to {self._host}" if self._address else f"no address of {self._host} is known")
        known = await self._manager.of(interface) if self._manager is not None else Known()
        number, rule = self._rule(interface, known.ssid)
        if rule is None:
            if known.metered is None:
                asked = f" ({self._manager.problem})" if self._manager is not None and self._manager.problem else ""
                return Way(interface, known.ssid, "unmetered", why=f"nobody knows it otherwise{asked}")
            return Way(interface, known.ssid, "metered" if known.metered else "unmetered", why="NetworkManager")
        way = Way(interface, known.ssid, rule.link, why=f"rule {number}")
        if rule.monthly_bytes is None:
            return way
        way = way._replace(budget=rule.monthly_bytes, used=await self._budget.used(interface))
        return way._replace(why=f"{way.why}, its budget of the month is used up") if way.spent else way

    def _rule(self, interface: str, ssid: str | None) -> tuple[int, LinkRule | None]:
        """The first rule that fits, with its number from 1."""
        minute = self._utc_ns() // 60_000_000_000 % 1440 if self._utc_ns() else None
        for number, rule in enumerate(self._settings.rules, 1):
            if not fnmatchcase(interface, rule.interface):
                continue
            if rule.ssid is not None and (ssid is None or not fnmatchcase(ssid, rule.ssid)):
                continue
            if rule.hours is None or (minute is not None and within(rule.hours, minute)):
                return number, rule
        return 0, None

    def _find(self) -> None:
        """The hub's address; a name is asked for meanwhile, and its answer is news."""
        try:
            self._address = ip_address(self._host)
            return
        except ValueError:  # a name
            now = asyncio.get_running_loop().time()
        patience = RETRY_SECONDS if self._address is None else NAME_SECONDS
        if (self._finding is None or self._finding.done()) and (self._asked_at is None or now - self._asked_at >= patience):
            self._asked_at = now
            self._finding = asyncio.create_task(self._resolve())

    async def _resolve(self) -> None:
        try:
            found = await asyncio.get_running_loop().getaddrinfo(self._host, None, type=socket.SOCK_STREAM)
        except OSError:  # no name service now: the last address counts, if there is one
            return
        self._address = ip_address(str(found[0][4][0]).partition("%")[0])
        self._news.set()


def within(hours: str, minute: int) -> bool:
    """Whether the minute of a day is in the window "13:00-21:00", its end excluded; "22:00-05:00" passes midnight, "00:00-00:00" is the
    whole day."""
    begin, end = (int(text[:2]) * 60 + int(text[3:]) for text in hours.split("-"))
    return (minute - begin) % 1440 < ((end - begin) % 1440 or 1440)
