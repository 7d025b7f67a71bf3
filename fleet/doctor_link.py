"""Which link leads to the hub, of which class it is, and what may use it: as the uplink says; where none runs, by the same rules
(gateway/uplink_ways.py)."""

import asyncio
import time
from typing import Any, NoReturn

import msgspec

from fleet.doctor_finding import Finding, green, red, say, yellow
from fleet.doctor_visit import Visit
from gateway.clock import Clock, boottime_ns
from gateway.config import Truck
from gateway.status import OLD_SECONDS, UPLINK
from gateway.uplink_ways import USERS, Ways

LOOK_SECONDS = 1.5  # for the name of the hub, and for NetworkManager to answer
STEP_SECONDS = 0.05


def check(visit: Visit) -> list[Finding]:
    """The link. Raises BadStatus, OSError."""
    uplink = visit.uplink
    told = (uplink.says or {}).get("link") if uplink.runs else None
    if told and uplink.age_s is not None and uplink.age_s <= OLD_SECONDS[UPLINK]:
        return [judged(told)]
    return [judged(asyncio.run(look(visit.truck)))]


async def look(truck: Truck) -> dict[str, Any]:
    """The link by our own look; budgets are the ledger's, and left out. Raises OSError."""
    rules = [msgspec.structs.replace(rule, monthly_bytes=None) for rule in truck.uplink.rules]
    without = msgspec.structs.replace(truck, uplink=msgspec.structs.replace(truck.uplink, rules=rules))
    ways = Ways(without, _no_books, lambda: Clock().utc_ns(boottime_ns()))  # type: ignore[arg-type]  # never called: there is no budget
    looking = asyncio.create_task(ways.run())
    try:
        until = time.monotonic() + LOOK_SECONDS
        while time.monotonic() < until and not looking.done():
            await asyncio.sleep(STEP_SECONDS)
            if ways.now.interface is not None and not truck.uplink.network_manager:
                break
        if looking.done():
            looking.result()
        return ways.status()
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
        ways.abandon()


def _no_books(*_: object) -> NoReturn:
    raise AssertionError("a link without budget asks no ledger")


def judged(told: dict[str, Any]) -> Finding:
    """What the status says of the link. Pure."""
    interface, why = told.get("interface"), told.get("why") or ""
    if not interface:
        return red("link_none", say("do_link"), reason=why)
    allows = told.get("allows") or []
    waiting = [user for user in USERS if user not in allows]
    values = {"interface": interface, "ssid": told.get("ssid") or "-", "link": say(f"link_{told.get('class')}"), "why": why}
    budget, used = told.get("budget_bytes"), told.get("budget_used_bytes") or 0
    if budget is not None and used >= budget:
        return yellow("link_spent", say("do_budget"), budget=budget / 1e9, **values)
    if waiting:
        return green("link_waiting", waiting=", ".join(waiting), **values)
    return green("link_is", **values)
