"""Packed blocks on a link that is slow, gone or forbidden; health when something changes. The hub stands still or refuses: what is shown
here is what the truck does about it."""

import asyncio
from typing import Any

import pytest
from gateway_uplink_parts import until

from gateway import uplink_health
from gateway.clock import NANO, boottime_ns
from gateway.uplink_health import HealthNews, health_of
from gateway.uplink_packed import MOST_AGE_NS, MOST_WAITING, PackedBlocks
from sox.errors import SoxError
from sox.health import read_health
from sox.packed import read_packed


class Channel:
    """Takes items while `open`, as the hub would; `error` is raised instead where set."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.items: list[Any] = []
        self.error: SoxError | None = None

    async def publish(self, item: Any, describe: Any, version: str = "", item_id: str = "") -> None:
        await self.open.wait()
        if self.error is not None:
            raise self.error
        self.items.append(item)


def datagram(number: int, at_ns: int | None = None, truck: str = "truck-1") -> dict[str, Any]:
    return {
        "kind": "packed", "truck": truck, "boot": "0123abcd-89ab4567", "number": number, "boottime_ns": at_ns or boottime_ns(), "utc_ns": 0,
        "utc_source": "none", "utc_error_s": None, "columns": "[]", "block": "Q0I=",
    }  # fmt: skip


async def published(part: PackedBlocks | HealthNews) -> asyncio.Task[None]:
    return asyncio.create_task(part.run())


async def test_a_slow_link_costs_the_oldest_blocks_and_counts_them() -> None:
    channel = Channel()
    part = PackedBlocks("truck-1", channel, lambda user: user == "packed", 0.01)  # type: ignore[arg-type]
    task = await published(part)
    for number in range(1, MOST_WAITING + 6):
        part.on_datagram(datagram(number))
        await asyncio.sleep(0)
    channel.open.set()
    await until(lambda: part.published == MOST_WAITING + 1)  # one was on its way already
    assert [read_packed(item).number for item in channel.items] == [1, *range(6, MOST_WAITING + 6)]
    assert (part.passed_over, part.status()["packed"]["problem"]) == (4, None)
    task.cancel()


async def test_what_waited_in_a_tunnel_for_longer_than_it_is_live_is_not_sent() -> None:
    channel = Channel()
    channel.open.set()
    part = PackedBlocks("truck-1", channel, lambda user: True, 0.01)  # type: ignore[arg-type]
    part.on_datagram(datagram(1, boottime_ns() - MOST_AGE_NS - NANO))
    part.on_datagram(datagram(2))
    task = await published(part)
    await until(lambda: part.published == 1)
    assert [read_packed(item).number for item in channel.items] == [2] and part.passed_over == 1
    task.cancel()


async def test_where_the_link_may_not_carry_them_none_waits() -> None:
    part = PackedBlocks("truck-1", Channel(), lambda user: False, 0.01)  # type: ignore[arg-type]
    part.on_datagram(datagram(1))
    assert part.status()["packed"]["withheld"] == 1


async def test_a_foreign_or_broken_datagram_is_counted_and_other_kinds_are_not_looked_at() -> None:
    part = PackedBlocks("truck-1", Channel(), lambda user: True, 0.01)  # type: ignore[arg-type]
    for wrong in (datagram(1, truck="truck-2"), {"kind": "packed"}, {**datagram(1), "number": "1"}):
        part.on_datagram(wrong)
    for other in ({"truck": "truck-1"}, {"kind": "event"}):
        part.on_datagram(other)
    assert part.malformed == 3


async def test_a_hub_that_refuses_is_told_and_tried_with_the_next_block() -> None:
    channel = Channel()
    channel.open.set()
    channel.error = SoxError("item-not-found", "no such node")
    part = PackedBlocks("truck-1", channel, lambda user: True, 0.01)  # type: ignore[arg-type]
    task = await published(part)
    part.on_datagram(datagram(1))
    await until(lambda: part.failed == 1)
    assert "no such node" in (part.problem or "")
    channel.error = None
    part.on_datagram(datagram(2))
    await until(lambda: part.published == 1 and part.problem is None)
    task.cancel()


async def test_health_is_told_at_a_change_and_not_at_every_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uplink_health, "CHANGE_SECONDS", 0.05)
    channel = Channel()
    channel.open.set()
    status: dict[str, Any] = {"connected": True, "disk_free_bytes": 5, "link": {"class": "metered", "interface": "wwan0", "why": "x"}}
    part = HealthNews(channel, lambda: status, 0.01)  # type: ignore[arg-type]
    task = await published(part)
    await until(lambda: part.published == 1)
    status["disk_free_bytes"] = 4
    await asyncio.sleep(0.3)
    assert part.published == 1
    status["link"] = {"class": "unmetered", "interface": "wlan0", "why": "x"}
    await until(lambda: part.published == 2)
    assert read_health(channel.items[1]).link == "unmetered"
    task.cancel()


def test_health_of_a_truck_that_knows_nothing_yet_says_nothing_wrong() -> None:
    told = health_of({"connected": False}, "0123abcd")
    assert (told.utc_ns, told.rate, told.oldest, told.sensors, told.hours) == (0, None, "", {}, 0.0)
