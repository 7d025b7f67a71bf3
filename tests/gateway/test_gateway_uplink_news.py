"""What happens now, from the recorder's datagrams through the real uplink and hub to the real center: packed blocks, events, health; and
what the truck says of itself on the way (status, metrics)."""

import asyncio
import json
import socket
import time
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gateway_uplink_parts import until
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

from center import config as center_config
from center.fleet_state import Fleet, TruckState
from center.link import Link
from cruisers.__main__ import app
from gateway.clock import boottime_ns
from gateway.config import load
from gateway.ledger import kernel_boot_id
from gateway.live import LiveSender
from gateway.uplink import Pace, Uplink
from logbook import block
from sox import nodes
from sox.client import SoxClient
from sox.events import events_device

pytestmark = pytest.mark.timeout(90)

ROOT = Path(__file__).resolve().parents[2]
BOOT = f"{kernel_boot_id()[:8]}-bbbbbbbb"
TRUCKS = ("whole", "cut", "bare")
COLUMNS = block.describe([{"id": "acceleration_x", "scale": 0.5}, {"id": "mag_status", "scale": 1.0}])


def client(hub: dict[str, Any], user: str) -> SoxClient:
    password = Path(hub["secrets"], user).read_text().strip()
    return SoxClient(f"{user}@{hub['domain']}", password, hub["host"], hub["c2s_port"], hub["ca_file"])


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def truck_file(hub: dict[str, Any], name: str, folder: Path, port: int | None = None, metrics: int = 0) -> Path:
    path = folder / "truck.toml"
    (folder / "spool").mkdir(exist_ok=True)
    path.write_text(
        f'name = "{name}"\nspool = "{folder / "spool"}"\nlive_socket = "{folder / "live"}"\n[hub]\ndomain = "{hub["domain"]}"\n'
        f'host = "{hub["host"]}"\nport = {port or hub["c2s_port"]}\nca_file = "{hub["ca_file"]}"\n'
        f'password_file = "{Path(hub["secrets"], name)}"\n[uplink]\nnetwork_manager = false\nmetrics_port = {metrics}\n'
    )
    return path


@asynccontextmanager
async def running(*works: Callable[[], Any]) -> AsyncIterator[None]:
    """The coroutines run meanwhile."""
    tasks = [asyncio.ensure_future(work()) for work in works]
    try:
        yield
        for task in tasks:
            assert not task.done() or task.result() is None
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def uplink_of(file: Path) -> AsyncIterator[tuple[Uplink, LiveSender]]:
    truck = load(file)
    uplink = Uplink(truck, Pace(back_off_first=0.05, look_seconds=0.1))
    sender = LiveSender(truck.live_socket)
    try:
        async with running(uplink.run):
            yield uplink, sender
            uplink.stop()
            await asyncio.sleep(0.2)
    finally:
        sender.close()


@asynccontextmanager
async def center(hub: dict[str, Any], answered: Callable[..., None] | None = None) -> AsyncIterator[Fleet]:
    fleet = Fleet(TRUCKS)
    settings = center_config.Hub(hub["domain"], hub["host"], hub["c2s_port"], hub["ca_file"], str(Path(hub["secrets"], "center")))
    async with running(Link(settings, fleet, lambda *_: None, 0.05, answered).run):
        yield fleet


def snapshot(truck: str, number: int, utc_ns: int) -> dict[str, Any]:
    at = boottime_ns()
    return {
        "truck": truck, "boot": BOOT, "number": number, "boottime_ns": at, "utc_ns": utc_ns, "utc_source": "gnss" if utc_ns else "none",
        "utc_error_s": 0.3 if utc_ns else None, "counts": {"gaps": 2}, "parked": False, "place": None,
        "sensors": {"bmp390": {"state": "ok", "reason": ""}, "sps30": {"state": "failed", "reason": "time-out"}},
        "values": {"pressure": {"value": 101_000.0, "reason": None, "raw": "7", "boottime_ns": at, "calibrated": False}},
    }  # fmt: skip


def packed(truck: str, number: int, utc_ns: int) -> dict[str, Any]:
    at = boottime_ns()
    raw = np.zeros((102, 2), np.int16)
    raw[:, 0] = np.arange(102)
    data = block.live([block.encode(7, at + np.arange(102) * 9_778_000, raw)])
    return {
        "kind": "packed", "truck": truck, "boot": BOOT, "number": number, "boottime_ns": at, "utc_ns": utc_ns, "utc_source": "gnss",
        "utc_error_s": 0.3, "columns": COLUMNS, "block": data,
    }  # fmt: skip


def happened(truck: str, number: int, kind: str = "shock", utc_ns: int = 0) -> dict[str, Any]:
    return {
        "kind": "event", "truck": truck, "boot": BOOT, "number": number, "boottime_ns": boottime_ns(), "utc_ns": utc_ns, "event": kind,
        "source": "icm20948", "detail": "",
    }  # fmt: skip


def kinds(truck: TruckState) -> list[tuple[str, bool]]:
    """Of each event, oldest first: its kind, and whether its UTC is known."""
    return [(event.kind, bool(event.utc_ns)) for event in reversed(truck.events.newest())]


async def test_the_city_sees_seconds_events_and_health_and_the_technician_the_same(hub: dict[str, Any], tmp_path: Path) -> None:
    port = free_port()
    file = truck_file(hub, "whole", tmp_path, metrics=port)
    answers: list[tuple[str, str]] = []
    async with center(hub, lambda truck, item_id, _: answers.append((truck, item_id))) as fleet, uplink_of(file) as (uplink, sender):
        truck = fleet.trucks["whole"]
        await until(lambda: uplink._link.connected)
        sender.send(snapshot("whole", 1, 0))
        sender.send(happened("whole", 1))
        await until(lambda: kinds(truck) == [("shock", False)])  # a truck without clock tells it all the same
        assert truck.events.newest()[0].utc_ns == 0

        now = time.time_ns()
        sender.send(snapshot("whole", 2, now))
        for number in (1, 2, 4):
            sender.send(packed("whole", number, now))
        sender.send(happened("whole", 2, "bookmark", now))
        await until(lambda: kinds(truck) == [("shock", True), ("bookmark", True)])  # its time is told when it is known, in its own place
        assert abs(truck.events.newest()[1].utc_ns - now) < 60e9

        await until(lambda: truck.packed.items == 3)
        assert truck.packed.missing == 1
        seconds = truck.packed.seconds()
        assert len(seconds) == 3 and seconds[0].values["acceleration_x"][0][5] == 2.5
        assert seconds[0].utc_ns is not None and abs(int(seconds[0].utc_ns[0]) - now) < 1000  # XEP-0082 has microseconds

        await until(lambda: fleet.latency().count >= 1)
        found = fleet.live(reset=True)
        assert (found["blocks"], found["missing"], found["snapshots"]) == (3, 1, 1) and found["p99_s"] is not None
        assert fleet.live()["snapshots"] == 0

        await until(lambda: truck.health is not None and truck.health.sensors.get("sps30") == "failed: time-out")
        assert truck.health is not None and truck.health.connected and truck.health.lost["gaps"] == 2
        assert (truck.health.clock_source, truck.health.clock_error, truck.health.bytes["images"]) == ("gnss", 0.3, 0)
        assert abs(truck.health.utc_ns - now) < 60e9 and truck.health.disk_free

        connection = client(hub, "whole")
        await connection.connect()
        await connection.publish(nodes.data(nodes.channel("whole", "answers")), "request-1", events_device("x"))
        await connection.disconnect()
        await until(lambda: answers == [("whole", "request-1")])

        await until(lambda: json.loads((tmp_path / "spool" / "uplink.json").read_text())["packed"]["published"] == 3)
        scraped = await asyncio.to_thread(lambda: urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode())
        shown = await asyncio.to_thread(CliRunner().invoke, app, ["status", "--config", str(file), "--json"])
    told = json.loads(shown.stdout)
    section = (ROOT / "docs" / "formats.md").read_text().partition("## 6. ")[2].partition("## 7. ")[0]
    undescribed = {name for name in told["uplink"]["says"] if f"`{name}`" not in section}
    assert not undescribed, "fields of uplink.json that docs/formats.md does not have"
    metrics = {sample.name: sample for family in text_string_to_metric_families(scraped) for sample in family.samples if not sample.labels}
    assert metrics["cruisers_packed_published_total"].value == 3
    assert metrics["cruisers_hub_connected"].value == 1
    assert metrics["cruisers_clock_error_seconds"].value == 0.3
    assert shown.exit_code == 1 and told["truck"] == "whole"
    assert told["wrong"] == ["sweeper: has never written its status here", "sensor sps30: failed: time-out"]


async def test_events_of_a_tunnel_and_of_a_killed_uplink_arrive_once_and_in_order(hub: dict[str, Any], tmp_path: Path) -> None:
    now = time.time_ns()
    nowhere = truck_file(hub, "cut", tmp_path, port=free_port())
    async with uplink_of(nowhere) as (uplink, sender):
        for number in (1, 2, 3):
            sender.send(happened("cut", number, f"event_{number}", now))
        sender.send(happened("cut", 2, "event_2", now))  # a datagram that comes twice
        news = uplink._parts
        await until(lambda: any(part.status().get("events", {}).get("waiting") == 3 for part in news))
    file = truck_file(hub, "cut", tmp_path)
    async with center(hub) as fleet:
        async with uplink_of(file) as (uplink, sender):
            sender.send(happened("cut", 4, "event_4", now))
            await until(lambda: len(kinds(fleet.trucks["cut"])) == 4)
            await until(lambda: all(part.status().get("events", {}).get("waiting", 0) == 0 for part in uplink._parts))
        assert [kind for kind, _ in kinds(fleet.trucks["cut"])] == [f"event_{number}" for number in (1, 2, 3, 4)]
        async with uplink_of(file) as (uplink, sender):  # what was published is not published again
            await until(lambda: uplink._link.connected)
            assert [part.status()["events"]["published"] for part in uplink._parts if "events" in part.status()] == [0]


async def test_a_hub_without_the_new_nodes_costs_those_channels_and_no_other(hub: dict[str, Any], tmp_path: Path) -> None:
    admin = client(hub, "admin")
    await admin.connect()
    for channel in ("packed", "events"):
        await admin.delete_node(nodes.data(nodes.channel("bare", channel)))
    await admin.disconnect()
    async with center(hub) as fleet, uplink_of(truck_file(hub, "bare", tmp_path)) as (uplink, sender):
        await until(lambda: uplink._link.connected)
        for number in range(1, 4):
            sender.send(snapshot("bare", number, time.time_ns()))
            sender.send(packed("bare", number, time.time_ns()))
            sender.send(happened("bare", number, utc_ns=time.time_ns()))
            await asyncio.sleep(0.05)
        await until(lambda: fleet.trucks["bare"].health is not None and "pressure" in fleet.trucks["bare"].values)
        await until(lambda: "events: " in (json.loads((tmp_path / "spool" / "uplink.json").read_text())["problem"] or ""))
        assert uplink._link.connects == 1
    assert fleet.trucks["bare"].packed.items == 0
