"""The pace of bulk: the control against a model of a link in virtual time, and who is served first."""

import asyncio
import random
from typing import NamedTuple

import pytest
from gateway_uplink_parts import until

from gateway.uplink_pace import SHARE, Pacer
from gateway.uplink_rate import PING_SECONDS, WINDOW_SECONDS, Rate
from sox.errors import SoxError

pytestmark = pytest.mark.timeout(60)

STEP = 0.002
SETTLED = 5.0


class Seen(NamedTuple):
    """Over the time after SETTLED: used part of the capacity, and what live values waited (seconds, sorted)."""

    used: float
    waits: list[float]

    @property
    def p99(self) -> float:
        return self.waits[int(len(self.waits) * 0.99)]


def run(capacity: float, trip: float, queue_bytes: float = 20e6, seconds: float = 20.0, noise: float = 0.01, later: float = 0.0) -> Seen:
    """A link of `capacity` bytes/s with one queue; `trip`: its shortest round trip, after 8 s longer by `later`. Answers are late by
    `noise` s on average, and one in thirty by up to 0.4 s."""
    rate, chance = Rate(), random.Random(1)
    now = queue = used = next_ping = overdue = 0.0
    sent = 0.0
    ping: tuple[float, float, int] | None = None  # began, how long it takes, sent before
    waits: list[float] = []
    while now < seconds:
        entering = min(rate.now(now) * STEP, queue_bytes - queue)
        sent, queue = sent + entering, queue + entering
        leaving = min(queue, capacity * STEP)
        queue -= leaving
        if now > SETTLED:
            used += leaving
            waits.append(queue / capacity)
        if ping is None and now >= next_ping:
            late = chance.expovariate(1 / noise) + (chance.random() < 1 / 30) * chance.uniform(0, 0.4)
            ping, overdue = (now, trip + later * (now > 8) + queue / capacity + late, int(sent)), now + PING_SECONDS
        elif ping is not None and now >= ping[0] + ping[1]:
            rate.trip(*ping)
            ping, next_ping = None, max(now, ping[0] + PING_SECONDS)
        elif ping is not None and now >= overdue:
            rate.overdue(now - ping[0])
            overdue += PING_SECONDS
        now += STEP
    return Seen(used / capacity / (seconds - SETTLED), sorted(waits))


@pytest.mark.parametrize("megabits", [0.5, 5, 50])
@pytest.mark.parametrize("trip", [0.003, 0.06, 0.2])
def test_a_modem_that_would_queue_seconds_is_kept_full_and_its_queue_short(megabits: float, trip: float) -> None:
    seen = run(megabits * 1e6 / 8, trip)
    assert seen.used > 0.95 and seen.p99 < 0.9


@pytest.mark.parametrize("megabits", [5, 50])
def test_a_queue_shorter_than_the_target_is_used_to_the_full(megabits: float) -> None:
    assert run(megabits * 1e6 / 8, 0.06, queue_bytes=256_000).used > 0.95


def test_answers_that_are_late_for_another_reason_cost_little() -> None:
    seen = run(625e3, 0.06, noise=0.04)
    assert seen.used > 0.95 and seen.p99 < 0.9


def test_a_round_trip_that_has_become_longer_costs_the_window_and_no_more() -> None:
    """Another cell, another way: for WINDOW_SECONDS the longer trip looks like a queue."""
    assert run(625e3, 0.06, later=0.3, seconds=60.0).used > 1 - (WINDOW_SECONDS + 3) / (60 - SETTLED)


class Link:
    """A connection whose pings the test answers."""

    def __init__(self) -> None:
        self.pings = 0
        self.refuse = False

    async def client(self) -> "Link":
        return self

    async def ping(self) -> None:
        self.pings += 1
        if self.refuse:
            raise SoxError("forbidden")


async def test_chunks_go_at_the_rate_however_the_loop_sleeps_and_pings_go_only_meanwhile() -> None:
    link = Link()
    pacer = Pacer(link)  # type: ignore[arg-type]
    running = asyncio.create_task(pacer.run())
    await asyncio.sleep(0.05)
    assert link.pings == 0
    pacer.rate.now = lambda at: 1_000_000.0  # type: ignore[method-assign]
    loop = asyncio.get_running_loop()
    began = loop.time()
    for _ in range(50):
        await pacer.take(10_000, 0)
    assert loop.time() - began > 0.4, "0.5 MB at 1 MB/s, less what may go before its time"
    assert link.pings >= 1
    await until(lambda: not pacer._active.is_set())
    pings = link.pings
    await asyncio.sleep(0.3)
    assert link.pings == pings
    running.cancel()


async def test_the_highest_class_is_served_first_and_the_lowest_never_falls_silent() -> None:
    pacer = Pacer(Link())  # type: ignore[arg-type]
    served: list[int] = []

    async def transfer(rank: int) -> None:
        while len(served) < 10 * SHARE:
            await pacer.take(2_000, rank)
            served.append(rank)

    pacer.rate.now = lambda at: 1_000_000.0  # type: ignore[method-assign]
    await asyncio.gather(transfer(2), transfer(0))
    settled = served[3 * SHARE :]  # before it, what may go ahead of its time went to the first who asked
    assert 4 <= settled.count(2) <= 12, served


async def test_a_transfer_that_was_cut_while_it_waited_takes_nothing_from_the_others() -> None:
    pacer = Pacer(Link())  # type: ignore[arg-type]
    pacer.rate.now = lambda at: 100_000.0  # type: ignore[method-assign]
    await pacer.take(10_000, 0)
    cut = asyncio.create_task(pacer.take(1_000_000, 0))
    await asyncio.sleep(0)
    cut.cancel()
    await asyncio.wait_for(pacer.take(1_000, 1), 5)


async def test_a_hub_that_refuses_pings_leaves_the_rate_as_it_was() -> None:
    link = Link()
    link.refuse = True
    pacer = Pacer(link)  # type: ignore[arg-type]
    running = asyncio.create_task(pacer.run())
    rate = pacer.rate.now(0.0)
    await pacer.take(1_000, 0)
    await until(lambda: link.pings == 1)
    await asyncio.sleep(0.05)
    assert not running.done() and pacer.rate.now(0.0) == rate
    running.cancel()
