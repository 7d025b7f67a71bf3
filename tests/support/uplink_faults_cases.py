"""The faults of the uplink's matrix: each is a function that does its evil to a Truck (uplink_faults_rig.py) that has segments to send, and
returns when the fault is over. New segments are sealed before, during and after it. Times are multiples of the rig's shortened ones:
longer than a stall, than two pings, than the repetition of an announcement."""

import os
import signal
from collections.abc import Callable
from typing import NamedTuple

from hostile_link import Lane
from uplink_faults_rig import DOWN, RULES, SHORT, UP, Truck, end

LONG = 2.5 * SHORT.ping + SHORT.stall  # every watchdog has noticed
STATUSES = (301, 302, 401, 403, 408, 409, 412, 413, 429, 500, 502, 503)
LINK, HTTP, KILLS = "link", "http", "kills"


class Case(NamedTuple):
    """A row of the table. `kind`: link; http (objects go to the hostile web server); kills (processes of the whole city: alone)."""

    kind: str
    name: str
    fault: Callable[[Truck], None]
    quota_bytes: int = 10**12
    uplink: str = ""  # of the truck's configuration


def _nothing(truck: Truck) -> None:
    truck.seal(2)


def _lossy(truck: Truck) -> None:
    truck.link.set(up=Lane(6e6, 0.05, loss=0.2, stall=0.2), down=Lane(6e6, 0.05, loss=0.2, stall=0.2))
    truck.seal(3)
    truck.pause(4)
    truck.link.set(UP, DOWN)


def _slow(truck: Truck) -> None:
    """Slower than any time-out would allow for a whole object: only silence may cut it."""
    truck.link.set(up=Lane(200e3, 0.1), down=Lane(200e3, 0.1))
    truck.seal(1, "images")
    truck.pause(3 * SHORT.stall)
    truck.link.set(UP, DOWN)


def _resets(truck: Truck) -> None:
    before = truck.link.counts()["resets"]
    truck.link.set(UP._replace(reset_after=60_000), DOWN._replace(reset_after=20_000))
    truck.link.cut()
    for _ in range(20):
        truck.seal(1)
        truck.pause(0.7)
        if truck.link.counts()["resets"] >= before + len(truck.turns(10)):
            break
    truck.link.set(UP, DOWN)


def _half_open(truck: Truck) -> None:
    for _ in truck.turns(2):
        truck.seal(2, "images", 400_000)
        truck.pause(0.2, 0.6)
        truck.link.half_open()
        truck.pause(LONG)


def _short_tunnels(truck: Truck) -> None:
    for _ in truck.turns(5):
        truck.seal(1)
        truck.pause(0.2, 0.5)
        truck.link.dark(True)
        truck.pause(0.2, 0.8)
        truck.link.dark(False)


def _long_tunnel(truck: Truck) -> None:
    truck.seal(2, "images", 400_000)
    truck.pause(0.1, 0.3)
    truck.link.dark(True)
    truck.seal(2)
    truck.pause(LONG)
    truck.link.dark(False)


def _forgetful_tunnel(truck: Truck) -> None:
    """At its end the carrier's address translation has forgotten the connections: the first byte is answered by a reset."""
    truck.seal(2, "images", 400_000)
    truck.pause(0.1, 0.3)
    truck.link.dark(True)
    truck.seal(2)
    truck.pause(LONG)
    truck.link.cut()
    truck.link.dark(False)


def _no_dns(truck: Truck) -> None:
    truck.no_dns.touch()
    truck.link.cut()
    truck.seal(2)
    truck.until(lambda: not truck.status().get("connected", True), "word of the name that does not resolve")
    truck.pause(2)
    truck.no_dns.unlink()


def _accept_then_close(truck: Truck) -> None:
    truck.link.closing(True)
    truck.link.cut()
    truck.seal(2)
    truck.pause(3)
    truck.link.closing(False)


def _metered(truck: Truck) -> None:
    """The depot's Wi-Fi gives way to LTE in the middle of an image, which must stop within a second."""
    for _ in truck.turns(3):
        truck.interface.write_text("wlan0")
        truck.link.set(up=UP._replace(rate=2e6))
        truck.seal(1, "images", 2_000_000)
        uploading = truck.until(lambda: (truck.status().get("uploading") or {}).get("sent", 0) > 200_000, "an image under way")
        truck.pause(min(uploading, 0.5))
        truck.interface.write_text("wwan0")
        truck.pause(1.5)  # a second, and what lies in the queue by then
        before = truck.link.counts()["up"]
        truck.pause(1.5)
        moved = truck.link.counts()["up"] - before
        if moved > 30_000:
            raise RuntimeError(f"{moved} bytes within 1.5 s, a second and a half after the link turned metered")
        truck.seal(1, "readings")
    truck.link.set(UP, DOWN)
    truck.interface.write_text("wlan0")


def _put(behaviour: str) -> Callable[[Truck], None]:
    def fault(truck: Truck) -> None:
        truck.city.web.plan("PUT", [behaviour] * 3)
        truck.seal(3)
        truck.until(lambda: not truck.city.web.planned(), "three requests")

    return fault


def _get(behaviour: str) -> Callable[[Truck], None]:
    def fault(truck: Truck) -> None:
        truck.city.web.plan("GET", [behaviour] * 3)
        truck.seal(3)
        truck.until(lambda: not truck.city.web.planned(), "three requests")

    return fault


def _poison(truck: Truck) -> None:
    """Everything is refused until all that is there was set aside."""
    truck.city.web.always("PUT", "413")
    truck.seal(2)
    truck.until(lambda: truck.status().get("segments", {}).get("refused", 0) >= 2, "segments set aside")
    truck.city.web.always("PUT", None)


def _random_http(truck: Truck) -> None:
    """A web server that has lost its mind for a while."""
    puts = ["lie", "halve", "flip", "another", "cut", "lost answer", "early 413", "500", "401", "noise", "store", "store"]
    gets = ["500", "halve", "short", "long", "flip", "another", "cut", "noise", "404", "serve", "serve"]
    for method, behaviours in (("PUT", puts), ("GET", gets)):
        truck.city.web.plan(method, truck.chance.choices(behaviours, k=len(truck.turns(12))))
    truck.seal(6)
    truck.until(lambda: not truck.city.web.planned(), "all that was planned")


def _kill_uplink(truck: Truck) -> None:
    for _ in truck.turns(6):
        truck.seal(1)
        truck.pause(0.1, 1.5)
        truck.kill()
        truck.start()


def _lost_ledger(truck: Truck) -> None:
    for _ in truck.turns(2):
        truck.seal(2)
        truck.pause(0.5, 1.5)
        truck.kill()
        for path in truck.spool.glob("ledger.sqlite*"):
            path.unlink()
        truck.start()


def _kill_center(truck: Truck) -> None:
    for _ in truck.turns(4):
        truck.seal(2)
        truck.pause(0.05, 0.6)
        truck.city.kill_center()
        truck.pause(0, 0.5)
        truck.city.start_center()


def _kill_worker(truck: Truck) -> None:
    """The process that fetches, verifies and stores for the center."""
    for _ in truck.turns(4):
        truck.seal(3)
        truck.pause(0.05, 0.6)
        truck.until(truck.city.kill_workers, "a worker to kill")


def _kill_hub(truck: Truck) -> None:
    for _ in truck.turns(2):
        truck.seal(3)
        truck.pause(0.05, 0.6)
        truck.city.kill_hub()
        truck.seal(1)
        truck.pause(0, 1)
        truck.city.start_hub()


def _kill_all(truck: Truck) -> None:
    """All three at random moments, over a link that resets."""
    truck.link.set(UP._replace(reset_after=300_000), DOWN)
    for _ in truck.turns(3):
        truck.seal(2)
        for strike in truck.chance.sample([truck.kill, truck.city.kill_center, truck.city.kill_hub], 3):
            truck.pause(0, 0.5)
            strike()
        for begin in truck.chance.sample([truck.start, truck.city.start_center, truck.city.start_hub], 3):
            begin()
        truck.pause(0.5, 1.5)
    truck.link.set(UP, DOWN)


def _sweeper(truck: Truck) -> None:
    """The sweeper deletes what is receipted, for the quota is small; uplink and sweeper are killed meanwhile."""
    truck.start_sweeper()
    for _ in truck.turns(5):
        truck.seal(3)
        truck.pause(0.2, 1)
        truck.kill()
        if truck.sweeper is not None:
            truck.sweeper.kill()
            truck.sweeper.wait()
        truck.start()
        truck.start_sweeper()
    for _ in range(100):
        if truck.status().get("deleted_segments", 0):
            break
        truck.seal(1, "images")
        truck.pause(0.5)


def _stopped_in_order(truck: Truck) -> None:
    """SIGTERM with --drain at the end of a shift, again and again; and processes that only stand still (SIGSTOP) for a while."""
    for _ in truck.turns(3):
        truck.seal(2)
        truck.pause(0.1, 0.8)
        assert truck.process is not None
        os.kill(truck.process.pid, signal.SIGSTOP)
        truck.pause(0.5)
        os.kill(truck.process.pid, signal.SIGCONT)
        end(truck.process)
        truck.start()


CASES = [
    Case(LINK, "nothing", _nothing),
    Case(LINK, "20 % loss, as stalls", _lossy),
    Case(LINK, "slower than any time-out", _slow),
    Case(LINK, "resets at random bytes", _resets),
    Case(LINK, "half-open, twice", _half_open),
    Case(LINK, "short tunnels", _short_tunnels),
    Case(LINK, "long tunnel, connections live", _long_tunnel),
    Case(LINK, "long tunnel, connections gone", _forgetful_tunnel),
    Case(LINK, "DNS fails", _no_dns),
    Case(LINK, "accept, then close", _accept_then_close),
    Case(LINK, "turns metered within an image", _metered, uplink=RULES),
    Case(LINK, "uplink killed, 6 times", _kill_uplink),
    Case(LINK, "uplink stopped in order, frozen", _stopped_in_order),
    Case(LINK, "ledger lost, twice", _lost_ledger),
    Case(LINK, "small quota, sweeper killed", _sweeper, 400_000),
    *(Case(HTTP, f"PUT {status}", _put(str(status))) for status in (200, *STATUSES)),
    Case(HTTP, "PUT 413 until set aside", _poison),
    Case(HTTP, "PUT 413 before the body", _put("early 413")),
    Case(HTTP, "PUT 503 before the body", _put("early 503")),
    Case(HTTP, "PUT 201, nothing kept", _put("lie")),
    Case(HTTP, "PUT 201, half kept", _put("halve")),
    Case(HTTP, "PUT 201, a bit flipped", _put("flip")),
    Case(HTTP, "PUT 201, another's bytes kept", _put("another")),
    Case(HTTP, "PUT cut in the middle", _put("cut")),
    Case(HTTP, "PUT kept, answer lost", _put("lost answer")),
    Case(HTTP, "PUT answered late", _put("slow")),
    Case(HTTP, "PUT never answered", _put("silent")),
    Case(HTTP, "PUT not read", _put("deaf")),
    Case(HTTP, "PUT answered by noise", _put("noise")),
    *(Case(HTTP, f"GET {status}", _get(str(status))) for status in (301, 401, 403, 404, 429, 500, 503)),
    Case(HTTP, "GET ends in the middle", _get("halve")),
    Case(HTTP, "GET a byte too few", _get("short")),
    Case(HTTP, "GET a byte too many", _get("long")),
    Case(HTTP, "GET a bit flipped", _get("flip")),
    Case(HTTP, "GET another's bytes", _get("another")),
    Case(HTTP, "GET slow", _get("slow")),
    Case(HTTP, "GET cut", _get("cut")),
    Case(HTTP, "GET never answered", _get("silent")),
    Case(HTTP, "GET answered by noise", _get("noise")),
    Case(HTTP, "all of it at random", _random_http),
    Case(KILLS, "center killed, 4 times", _kill_center),
    Case(KILLS, "center's worker killed, 4 times", _kill_worker),
    Case(KILLS, "ejabberd killed, twice", _kill_hub),
    Case(KILLS, "all three killed at random", _kill_all),
]
