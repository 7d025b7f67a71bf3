"""Which link the truck is on and who may use it: rules, hours, budgets, and the kernel's routes in a network namespace of the test."""

import asyncio
import json
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from gateway_uplink_parts import until

from gateway import ledger_budgets
from gateway.config import Truck
from gateway.ledger import Ledger
from gateway.network_manager import Known
from gateway.uplink_books import Books
from gateway.uplink_ways import USERS, Ways, within

pytestmark = pytest.mark.timeout(60)

ROOT = Path(__file__).resolve().parents[2]
NOON_NS = 1_800_014_400_000_000_000  # 2027-01-15T12:00:00Z
DAY_NS = 86_400_000_000_000
LTE = {"link": "metered", "interface": "wwan*"}


def truck(host: str = "127.0.0.1", **uplink: object) -> Truck:
    hub = {"domain": "hub.test", "host": host, "port": 1, "ca_file": "x", "password_file": "x"}
    return msgspec.convert({"name": "truck-1", "spool": "x", "live_socket": "x", "hub": hub, "uplink": uplink}, Truck)


@pytest.fixture
async def books(tmp_path: Path) -> AsyncIterator[Books]:
    books = Books(Ledger(tmp_path / "ledger.sqlite"))
    yield books
    books.close()


class Manager:
    """What NetworkManager would know."""

    problem = None

    def __init__(self, **known: object) -> None:
        self.known = Known(**known)  # type: ignore[arg-type]

    async def of(self, interface: str) -> Known:
        return self.known


async def looked(books: Books, settings: Truck, manager: Manager | None = None, utc_ns: int = NOON_NS) -> Ways:
    ways = Ways(settings, books, lambda: utc_ns)
    ways._manager = manager  # type: ignore[assignment]
    await ways.look()
    ways.abandon()
    return ways


@pytest.mark.parametrize(
    ("rules", "known", "link", "why"),
    [
        ([], {}, "unmetered", "nobody knows it otherwise"),
        ([], {"metered": True}, "metered", "NetworkManager"),
        ([], {"metered": False}, "unmetered", "NetworkManager"),
        ([LTE], {"metered": True}, "metered", "NetworkManager"),
        ([LTE, {"link": "depot", "interface": "l?"}, {"link": "metered"}], {"metered": True}, "depot", "rule 2"),
        ([{"link": "depot", "ssid": "depot-*"}], {"ssid": "depot-south"}, "depot", "rule 1"),
        ([{"link": "depot", "ssid": "depot-*"}], {"ssid": "café"}, "unmetered", "nobody knows it otherwise"),
        ([{"link": "depot", "ssid": "*"}], {}, "unmetered", "nobody knows it otherwise"),
        ([{"link": "metered", "hours": "06:00-12:00"}], {}, "unmetered", "nobody knows it otherwise"),
        ([{"link": "metered", "hours": "12:00-12:01"}], {}, "metered", "rule 1"),
    ],
)
async def test_the_first_rule_that_fits_says_the_class_else_network_manager_else_it_is_unmetered(
    books: Books, rules: list[object], known: dict[str, object], link: str, why: str
) -> None:
    ways = await looked(books, truck(rules=rules), Manager(**known))
    assert (ways.now.interface, ways.now.link, ways.now.why) == ("lo", link, why)


@pytest.mark.parametrize(
    ("link", "allowed"),
    [
        ("metered", ["packed", "readings", "requested"]),
        ("unmetered", ["packed", "readings", "requested", "images"]),
        ("depot", ["packed", "readings", "requested", "images"]),
    ],
)
async def test_by_default_images_wait_for_an_unmetered_link_and_live_values_events_and_health_for_none(
    books: Books, link: str, allowed: list[str]
) -> None:
    ways = await looked(books, truck(rules=[{"link": link}]))
    assert [user for user in USERS if ways.allows(user)] == allowed == ways.status()["allows"]
    assert ways.allows("live") and ways.allows("events") and ways.allows("health")
    assert not (await looked(books, truck(rules=[{"link": "unmetered"}], images="depot"))).allows("images")


def test_a_window_of_hours_excludes_its_end_and_may_pass_midnight() -> None:
    assert [minute for minute in (779, 780, 1259, 1260) if within("13:00-21:00", minute)] == [780, 1259]
    assert [minute for minute in (0, 299, 300, 1319, 1320) if within("22:00-05:00", minute)] == [0, 299, 1320]
    assert all(within("00:00-00:00", minute) for minute in (0, 720, 1439))


async def test_without_a_clock_no_rule_with_hours_fits(books: Books) -> None:
    ways = await looked(books, truck(rules=[{"link": "metered", "hours": "00:00-00:00"}]), utc_ns=0)
    assert ways.now.link == "unmetered"


async def test_a_used_up_budget_leaves_live_values_and_events_until_the_month_is_over(books: Books) -> None:
    now = [NOON_NS]
    rules = [{"link": "unmetered", "interface": "lo", "monthly_bytes": 1000}]
    ways = Ways(truck(rules=rules, network_manager=False), books, lambda: now[0])
    changes: list[bool] = []
    ways.on_change.append(lambda: changes.append(ways.allows("readings")))
    await ways.look()
    assert ways.allows("images") and changes == [True]
    ways.count(999)
    await ways.look()
    assert ways.allows("images") and (ways.now.used, ways.now.budget) == (999, 1000)
    ways.count(1)
    await ways.look()
    assert changes == [True, False] and not any(ways.allows(user) for user in USERS) and ways.allows("live") and ways.allows("events")
    assert "used up" in ways.status()["why"]
    await ways.close()
    assert await books(ledger_budgets.moved, "lo", "2027-01") == 1000
    again = Ways(truck(rules=rules, network_manager=False), books, lambda: now[0])
    await again.look()
    assert not again.allows("readings"), "a restart forgets nothing"
    now[0] += 20 * DAY_NS
    await again.look()
    assert again.allows("readings") and again.now.used == 0
    again.abandon()


async def test_what_went_before_the_clock_was_known_counts_in_the_first_month_that_is(books: Books) -> None:
    now = [0]
    ways = Ways(truck(rules=[{"link": "metered", "monthly_bytes": 10}], network_manager=False), books, lambda: now[0])
    await ways.look()
    ways.count(10)
    await ways.look()
    assert not ways.allows("readings")
    now[0] = NOON_NS
    await ways.look()
    await ways.close()
    assert await books(ledger_budgets.moved, "lo", "2027-01") == 10


async def test_without_a_way_or_an_address_nothing_begins_that_the_next_link_might_forbid(books: Books) -> None:
    ways = await looked(books, truck("no-such-host.invalid"))
    assert ways.now.interface is None and not ways.allows("images") and "no address of no-such-host.invalid" in ways.now.why


async def test_a_hub_with_a_name_is_found_when_the_name_service_is_there_again(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    there = [False]
    real = socket.getaddrinfo

    def lookup(host: str, *rest: object, **more: object) -> object:
        if not there[0]:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return real("127.0.0.1", *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    monkeypatch.setattr("gateway.uplink_ways.RETRY_SECONDS", 0.1)
    monkeypatch.setattr("gateway.uplink_ways.LOOK_SECONDS", 0.1)
    ways = Ways(truck("hub.city.test", network_manager=False), books, lambda: NOON_NS)
    running = asyncio.create_task(ways.run())
    await until(lambda: "no address of hub.city.test" in ways.now.why)
    there[0] = True
    await until(lambda: ways.now.interface == "lo")
    there[0] = False
    ways._asked_at = None
    await asyncio.sleep(0.3)
    assert ways.now.interface == "lo", "its last address counts"
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await ways.close()


async def test_an_ssid_that_nobody_can_tell_is_a_problem_in_words(books: Books) -> None:
    ways = await looked(books, truck(rules=[{"link": "depot", "ssid": "x"}], network_manager=False))
    assert "network_manager = false" in (ways.problem or "")


# Run in a network namespace of its own: links come and go there as on a truck.
IN_A_NAMESPACE = """
import asyncio, json, subprocess, sys, time
from pathlib import Path
import msgspec
from gateway.config import Truck
from gateway.ledger import Ledger
from gateway.uplink_books import Books
from gateway.uplink_ways import Ways

def ip(line):
    subprocess.run(["ip", *line.split()], check=True, capture_output=True)

async def main(folder):
    hub = {"domain": "hub.test", "host": "203.0.113.7", "port": 1, "ca_file": "x", "password_file": "x"}
    rules = [{"link": "metered", "interface": "wwan*"}, {"link": "depot", "interface": "wlan*"}]
    uplink = {"rules": rules, "network_manager": False}
    truck = msgspec.convert({"name": "truck-1", "spool": "x", "live_socket": "x", "hub": hub, "uplink": uplink}, Truck)
    books = Books(Ledger(Path(folder) / "ledger.sqlite"))
    ways = Ways(truck, books, lambda: 0)
    seen = []
    running = asyncio.create_task(ways.run())
    for name, lines in (
        ("nothing", ["link set lo up"]),
        ("lte", ["link add wwan0 type veth peer name tower", "link set tower up", "link set wwan0 up", "addr add 10.9.0.2/24 dev wwan0",
                 "route add default via 10.9.0.1 metric 700"]),
        ("wifi", ["link add wlan0 type veth peer name point", "link set point up", "link set wlan0 up", "addr add 10.8.0.2/24 dev wlan0",
                  "route add default via 10.8.0.1 metric 600"]),
        ("lte again", ["link set wlan0 down"]),
    ):
        before = ways.now.interface
        for line in lines:
            ip(line)
        began = time.monotonic()
        while ways.now.interface == before and time.monotonic() - began < (2 if name != "nothing" else 0.2):
            await asyncio.sleep(0.005)
        seen.append([name, ways.now.interface, ways.now.link, ways.allows("images"), time.monotonic() - began])
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await ways.close()
    books.close()
    print(json.dumps(seen))

asyncio.run(main(sys.argv[1]))
"""


def test_the_interface_that_leads_to_the_hub_is_followed_as_links_come_and_go(tmp_path: Path) -> None:
    alone = [tool for name in ("unshare", "ip") if (tool := shutil.which(name))]
    if (
        len(alone) < 2
        or subprocess.run(["unshare", "--user", "--map-root-user", "--net", "true"], check=False, capture_output=True).returncode
    ):
        pytest.skip("this machine gives no network namespace")
    command = ["unshare", "--user", "--map-root-user", "--net", sys.executable, "-c", IN_A_NAMESPACE, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=40, check=False)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert [tuple(row[:4]) for row in seen] == [
        ("nothing", None, "metered", False),
        ("lte", "wwan0", "metered", False),
        ("wifi", "wlan0", "depot", True),
        ("lte again", "wwan0", "metered", False),
    ]
    assert all(row[4] < 1.0 for row in seen), "the kernel tells, and a second is the longest between two looks"
