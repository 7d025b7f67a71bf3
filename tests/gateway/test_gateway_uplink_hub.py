"""The uplink against the real hub (ejabberd), with a stand-in center that fetches what is announced and answers as the test wants."""

import asyncio
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from gateway import uplink_bulk
from gateway.config import load
from gateway.ledger import REFUSALS_MAX, Ledger, Totals
from gateway.live import LiveSender
from gateway.uplink import Pace, Uplink
from logbook.quantities import TABLE
from logbook.schemas.cruisers_pb2 import ClockMapping
from logbook.segment import Segments
from sox import nodes
from sox.client import SoxClient
from sox.documents import TransducerValue, data_document, parse_data, parse_device, xep0082
from sox.transfer import fetch

pytestmark = pytest.mark.timeout(60)

ROOT = Path(__file__).resolve().parents[2]
FOLDER = "aaaaaaaa-bbbbbbbb"
UTC_NS = 1_800_000_000_000_000_000
TRUCKS = (
    "way",
    "kill",
    "password",
    "repeat",
    "refused",
    "rebuilt",
    "away",
    "busy",
    "poor",
    "metered",
)  # one a test: they share a hub, not nodes
NO_HUB_SECONDS = 60.0


class Hub:
    """`python -m hub serve` as a child. Started again it has the same ports."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.info: dict[str, Any] = {}
        self.start()

    def start(self) -> None:
        """Start it and wait until it is ready."""
        ports = ["--c2s-port", str(self.info["c2s_port"]), "--http-port", str(self.info["http_port"])] if self.info else []
        files = ["--home", str(self.folder / "hub"), "--ready", str(self.folder / "hub.json")]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "hub", "serve", *files, "--trucks", ",".join(TRUCKS), *ports],
            cwd=ROOT, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        until = time.monotonic() + NO_HUB_SECONDS
        while not (self.folder / "hub.json").exists():
            if self.process.poll() is not None or time.monotonic() > until:
                self.process.kill()
                pytest.fail(f"the hub did not start: {self.process.communicate()[1]}")
            time.sleep(0.05)
        self.info = json.loads((self.folder / "hub.json").read_text("utf-8"))

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=30)

    def client(self, user: str) -> SoxClient:
        password = Path(self.info["secrets"], user).read_text("utf-8").strip()
        return SoxClient(f"{user}@{self.info['domain']}", password, self.info["host"], self.info["c2s_port"], self.info["ca_file"])


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    hub = Hub(tmp_path_factory.mktemp("hub"))
    yield hub
    hub.stop()


class Center:
    """A center for one truck: `answer(segment id, values, bytes)` gives the receipt's values, or None to stay silent."""

    def __init__(self, hub: Hub, truck: str, folder: Path) -> None:
        self.client = hub.client("center")
        self.truck = truck
        self.folder = folder
        self.ca_file = hub.info["ca_file"]
        self.answer: Callable[[str, dict[str, str], bytes], dict[str, str] | None] = stored
        self.announced: list[tuple[str, dict[str, str]]] = []
        self.live: list[tuple[int, list[TransducerValue]]] = []
        self.held: dict[str, bytes] = {}
        self._fetches = 0
        self.client.on_item(self._item)

    async def start(self) -> "Center":
        """Connect, subscribe, then read what was announced before (a notification to an absent center is not kept)."""
        await self.client.connect()
        announcements = nodes.data(f"{self.truck}_segments")
        for node in (nodes.data(self.truck), announcements):
            await self.client.subscribe(node)
        for item_id, element in await self.client.items(announcements):
            await self._item(announcements, item_id, element)
        return self

    async def _item(self, node: str, item_id: str, element: ET.Element) -> None:
        if node == nodes.data(self.truck):
            self.live.append((int(item_id), parse_data(element)))
            return
        values = {value.id: value.typed or "" for value in parse_data(element)}
        self.announced.append((item_id, values))
        self._fetches += 1
        target = self.folder / f"fetched-{self._fetches}"
        assert await fetch(values["url"], self.ca_file, target, int(values["size"])) == values["sha256"]
        receipt = self.answer(item_id, values, target.read_bytes())
        if receipt is not None:
            if receipt["state"] == "stored":
                self.held[item_id] = target.read_bytes()
            await self.receipt(item_id, receipt)

    async def receipt(self, segment_id: str, values: dict[str, str]) -> None:
        document = data_document([TransducerValue(name, value, None, xep0082(UTC_NS)) for name, value in values.items()])
        await self.client.publish(nodes.data(f"{self.truck}_receipts"), segment_id, document)


def stored(segment_id: str, values: dict[str, str], data: bytes) -> dict[str, str]:
    return {"state": "stored", "sha256": values["sha256"], "size": str(len(data)), "reason": ""}


@pytest.fixture
async def center(hub: Hub, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Center]:
    center = await Center(hub, request.param, tmp_path).start()
    yield center
    await center.client.disconnect()


class Truck:
    """One truck's folder: configuration, spool, status, and the uplink as a child process."""

    def __init__(self, hub: Hub, name: str, folder: Path) -> None:
        self.name = name
        self.spool = folder / "spool"
        self.spool.mkdir()
        self.config = folder / "truck.toml"
        self.password = folder / "password"
        self.password.write_text(Path(hub.info["secrets"], name).read_text("utf-8"))
        self.live = folder / "live"
        self.config.write_text(
            f'name = "{name}"\nspool = "{self.spool}"\nlive_socket = "{self.live}"\n[hub]\ndomain = "{hub.info["domain"]}"\n'
            f'host = "{hub.info["host"]}"\nport = {hub.info["c2s_port"]}\nca_file = "{hub.info["ca_file"]}"\n'
            f'password_file = "{self.password}"\n'
        )
        self.number = 0
        self.process: subprocess.Popen[str] | None = None

    def seal(self, stream: str = "readings", count: int = 1) -> list[str]:
        """`count` sealed segments; returns their ids."""
        made = []
        for _ in range(count):
            self.number += 1
            number = self.number
            segments = Segments(
                self.spool, self.name, "boot", stream, FOLDER, lambda: number, 3600.0,  # noqa: B023  used before the next turn
                on_durable=lambda token: None, on_sealed=lambda path: None, on_error=lambda error: None,
            )  # fmt: skip
            at = 5_000_000_000_000 + number
            if stream == "readings":
                segments.write("/clock", at, UTC_NS, ClockMapping(boottime_ns=at, utc_ns=UTC_NS, source="gnss").SerializeToString())
            else:
                segments.write("/gap", at, 0, b"")
            segments.close()
            made.append(f"{self.name}-{FOLDER}-{number:06d}-{stream}")
        return made

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gateway.uplink", str(self.config), *arguments], cwd=ROOT, stderr=subprocess.PIPE, text=True
        )
        return self.process

    def status(self) -> dict[str, Any]:
        path = self.spool / "uplink.json"
        return (
            json.loads(path.read_text()) if path.exists() else {"segments": dict.fromkeys(("receipted", "refused"), 0), "connected": False}
        )

    def snapshot(self, number: int, utc_ns: int = UTC_NS) -> dict[str, Any]:
        values = {q.id: {"value": q.low, "reason": None, "raw": str(number), "boottime_ns": number} for q in TABLE}
        values["uva"] = {"value": None, "reason": "saturated", "raw": "65535", "boottime_ns": number}
        return {"truck": self.name, "boot": FOLDER, "number": number, "boottime_ns": number, "utc_ns": utc_ns, "values": values}


@pytest.fixture
def truck(hub: Hub, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Truck]:
    truck = Truck(hub, request.param, tmp_path)
    yield truck
    if truck.process is not None and truck.process.poll() is None:
        truck.process.kill()
        truck.process.communicate()


def on(name: str) -> pytest.MarkDecorator:
    """The test's own truck, with its center."""
    return pytest.mark.parametrize(("truck", "center"), [(name, name)], indirect=True)


async def until(condition: Callable[[], object], seconds: float = 40) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  another process's file has no event
            await asyncio.sleep(0.05)


async def ended(process: "subprocess.Popen[str]", seconds: float = 30) -> str:
    """Wait for the process; returns what it said on stderr."""
    return (await asyncio.to_thread(process.communicate, None, seconds))[1]


@on("way")
async def test_segments_and_live_values_travel_to_the_center_and_only_its_receipt_counts(truck: Truck, center: Center) -> None:
    sealed = truck.seal("images") + truck.seal("readings", 2)
    silent = sealed[1]
    center.answer = lambda identity, values, data: None if identity == silent else stored(identity, values, data)
    process = truck.start("--drain", "20")
    sender = LiveSender(truck.live)
    await until(lambda: truck.status()["segments"]["receipted"] == 2)
    await until(lambda: truck.status()["segments"]["announced"] == 1)
    assert [identity for identity, _ in center.announced[:3]] == [sealed[1], sealed[2], sealed[0]], "readings first"
    values = dict(center.announced[0][1])
    path = truck.spool / FOLDER / "000002-readings.mcap"
    assert values["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest() and values["size"] == str(path.stat().st_size)
    assert (values["first_boottime_ns"], values["truck"], values["stream"]) == ("5000000000002", "way", "readings")
    assert values["first_utc"] == values["last_utc"] == xep0082(UTC_NS)
    assert center.announced[2][1]["first_utc"] == "", "no clock"

    sender.send(truck.snapshot(1, utc_ns=0))
    await until(lambda: "no UTC" in (truck.status()["live_waiting"] or ""))
    assert center.live == []
    for number in range(2, 5):
        sender.send(truck.snapshot(number))
        await until(lambda: center.live and center.live[-1][1][0].raw == str(number))  # noqa: B023  awaited in its turn
    assert [number for number, _ in center.live] == sorted({number for number, _ in center.live})
    shown = {value.id: value for value in center.live[-1][1]}
    for quantity in TABLE:
        if quantity.id == "uva":
            assert shown["uva.reason"].typed == "saturated" and "uva" not in shown
        else:
            typed = shown[quantity.id].typed
            assert typed is not None and quantity.sox.si(float(typed)) == pytest.approx(quantity.low)
    meta = await center.client.items(nodes.meta("way"))
    assert {transducer.id for transducer in parse_device(meta[0][1]).transducers} == {quantity.id for quantity in TABLE}
    assert len(await center.client.items(nodes.meta("way_segments"))) == 1

    # Ignition off: one more segment appears, and the silent one is answered while the uplink drains.
    last = truck.seal("readings")[0]
    process.send_signal(signal.SIGTERM)
    await until(lambda: last in center.held)
    assert process.poll() is None, "it waits for the receipt it lacks"
    await center.receipt(silent, stored(silent, values, path.read_bytes()))
    said = await ended(process)
    assert process.returncode == 0, said
    final = truck.status()
    assert {state: count for state, count in final["segments"].items() if count} == {"receipted": 4}
    assert (final["backlog_bytes"], final["backlog_segments"], final["connected"]) == (0, 0, False)
    assert final["last_receipt"]["segment_id"] == silent
    sender.close()


@on("kill")
async def test_sigkill_at_any_moment_loses_nothing_and_live_ids_still_rise(truck: Truck, center: Center) -> None:
    chance = random.Random(7)
    sealed: list[str] = []
    sender = LiveSender(truck.live)
    number = 0
    for published in (2, 0, 4, 1):  # killed at some moment after so many live values: before the first connection too
        sealed += truck.seal("readings", 2) + truck.seal("images")
        process = truck.start()
        seen = len(center.live)
        end = asyncio.get_running_loop().time() + 0.5 * chance.random()
        while len(center.live) < seen + published or asyncio.get_running_loop().time() < end:
            assert process.poll() is None
            number += 1
            sender.send(truck.snapshot(number))
            await asyncio.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        await ended(process)
    process = truck.start("--drain", "30")
    await until(lambda: truck.status()["connected"])
    process.send_signal(signal.SIGTERM)
    said = await ended(process, 40)
    assert process.returncode == 0, said
    assert {state: count for state, count in truck.status()["segments"].items() if count} == {"receipted": len(sealed)}
    assert sorted(center.held) == sorted(sealed)
    for identity, data in center.held.items():
        assert (truck.spool / FOLDER / f"{identity.removeprefix(f'kill-{FOLDER}-')}.mcap").read_bytes() == data
    ids = [item_id for item_id, _ in center.live]
    assert len(ids) >= 7 and ids == sorted(set(ids)), "an item id was used twice or went down"
    raws = [int(values[0].raw or "") for _, values in center.live]
    assert raws == sorted(raws), "an older snapshot was published after a newer one"
    sender.close()


@pytest.mark.parametrize("truck", ["password"], indirect=True)
async def test_a_wrong_password_is_one_clear_line_and_a_right_one_is_taken_without_restart(truck: Truck) -> None:
    right = truck.password.read_text()
    truck.password.write_text("wrong")
    work = Uplink(load(truck.config), Pace(back_off_first=0.2, look_seconds=0.1))
    running = asyncio.create_task(work.run())
    await until(lambda: "not-authorized" in (truck.status().get("problem") or ""))
    problem = truck.status()["problem"]
    assert len(problem.splitlines()) == 1 and "password@" in problem and "wrong" not in problem
    truck.password.write_text(right)
    await until(lambda: truck.status()["connected"] and truck.status()["problem"] is None)
    # Another interface leads to the hub: the connection over the old one is not waited for until it has been silent for long. (The uplink
    # looks at the routes by itself too, finds "lo" again, and connects once more: there may be three connections by now.)
    for interface in ("lo", "wlan0"):
        work._ways.now = work._ways.now._replace(interface=interface)
        work._way_changed()
    await until(lambda: truck.status()["connects"] >= 2 and truck.status()["connected"])
    work.stop()
    await running


@on("repeat")
async def test_an_announcement_without_receipt_is_repeated(truck: Truck, center: Center) -> None:
    identity = truck.seal()[0]
    center.answer = lambda *_: None
    work = Uplink(load(truck.config), Pace(repeat_seconds=0.5, back_off_first=0.2, look_seconds=0.1))
    running = asyncio.create_task(work.run())
    await until(lambda: len(center.announced) >= 3)
    assert {name for name, _ in center.announced} == {identity} and len({values["url"] for _, values in center.announced}) == 1
    assert truck.status()["segments"]["receipted"] == 0
    center.answer = stored
    await until(lambda: truck.status()["segments"]["receipted"] == 1)
    count = len(center.announced)
    await center.receipt(identity, stored(identity, center.announced[0][1], center.held[identity]))  # twice: harmless
    await center.receipt("repeat-00000000-00000000-000001-readings", stored("", {"sha256": "00"}, b""))  # unknown: harmless
    await center.receipt(identity, {"state": "perhaps"})  # nonsense: counted
    await until(lambda: truck.status()["receipts"].get("unreadable") == 1)
    assert truck.status()["receipts"]["duplicate"] >= 1 and truck.status()["receipts"]["unknown"] == 1
    assert truck.status()["segments"]["receipted"] == 1 and len(center.announced) == count, "delivered: not announced again"
    work.stop()
    await running


@on("refused")
async def test_a_refused_segment_is_uploaded_again_and_at_last_set_aside_without_stopping_others(truck: Truck, center: Center) -> None:
    once, never = truck.seal("readings", 2)
    seen: dict[str, int] = {}

    def answer(identity: str, values: dict[str, str], data: bytes) -> dict[str, str]:
        seen[identity] = seen.get(identity, 0) + 1
        if identity == never or (identity == once and seen[identity] == 1):
            return {"state": "refused", "sha256": values["sha256"], "size": values["size"], "reason": "object not found"}
        return stored(identity, values, data)

    center.answer = answer
    work = Uplink(load(truck.config), Pace(back_off_first=0.05, look_seconds=0.1))
    running = asyncio.create_task(work.run())
    await until(lambda: truck.status()["segments"]["refused"] == 1)
    other = truck.seal()[0]
    await until(lambda: truck.status()["segments"]["receipted"] == 2)
    assert sorted(center.held) == sorted([once, other])
    assert seen == {once: 2, never: REFUSALS_MAX, other: 1}
    urls = [values["url"] for identity, values in center.announced if identity == never]
    assert len(set(urls)) == REFUSALS_MAX, "uploaded anew each time"
    status = truck.status()
    assert status["set_aside"] == [{"segment_id": never, "reason": "center: object not found"}]
    assert status["backlog_segments"] == 1 and (truck.spool / FOLDER / "000002-readings.mcap").exists()
    work.stop()
    await running


@on("rebuilt")
async def test_a_lost_ledger_is_rebuilt_from_folder_and_receipts_without_sending_again(truck: Truck, center: Center) -> None:
    truck.seal("readings", 3)
    for _ in range(2):
        work = Uplink(load(truck.config), Pace(back_off_first=0.1, look_seconds=0.1))
        running = asyncio.create_task(work.run())
        await until(lambda: truck.status()["segments"]["receipted"] == 3)
        work.stop()
        await running
        for name in ("ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm", "uplink.json"):
            (truck.spool / name).unlink(missing_ok=True)
        announced = len(center.announced)
    assert announced == 3, "the second uplink took the receipts from the node"
    # A receipt whose bytes are not ours does not count, however it came.
    path = truck.spool / FOLDER / "000001-readings.mcap"
    truck.number = 0
    path.unlink()
    truck.seal("images")
    identity = f"rebuilt-{FOLDER}-000001-images"
    await center.receipt(identity, {"state": "stored", "sha256": "00" * 32, "size": "1", "reason": ""})
    work = Uplink(load(truck.config), Pace(back_off_first=0.1, look_seconds=0.1))
    running = asyncio.create_task(work.run())
    await until(lambda: truck.status()["segments"]["receipted"] == 3)
    assert [name for name, _ in center.announced[announced:]] == [identity]
    work.stop()
    await running


@on("away")
async def test_receipts_that_came_while_the_truck_was_away_are_read_at_connect(truck: Truck, center: Center) -> None:
    identity = truck.seal()[0]
    center.answer = lambda *_: None
    process = truck.start()
    await until(lambda: truck.status()["segments"].get("announced") == 1)
    process.send_signal(signal.SIGTERM)
    assert await ended(process) is not None and process.returncode == 0
    assert truck.status()["segments"]["announced"] == 1
    values = center.announced[0][1]
    await center.receipt(identity, {"state": "stored", "sha256": values["sha256"], "size": values["size"], "reason": ""})
    truck.start()
    await until(lambda: truck.status()["segments"]["receipted"] == 1)
    assert len(center.announced) == 1


@on("busy")
async def test_live_values_wait_neither_for_an_upload_nor_for_the_ledgers_disk(
    truck: Truck, center: Center, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploading, stalled, released = asyncio.Event(), threading.Event(), threading.Event()

    async def upload_for_ever(*_: object, **__: object) -> int:
        uploading.set()
        await asyncio.sleep(3600)
        return 0

    def stall(self: Ledger) -> Totals:
        stalled.set()
        released.wait(60)
        return real(self)

    real = Ledger.totals
    monkeypatch.setattr(uplink_bulk, "put_file", upload_for_ever)
    truck.seal()
    work = Uplink(load(truck.config), Pace(back_off_first=0.1, look_seconds=0.1))
    running = asyncio.create_task(work.run())
    sender = LiveSender(truck.live)
    await asyncio.wait_for(uploading.wait(), 30)
    assert truck.status()["uploading"] is None or truck.status()["uploading"]["sent"] == 0
    monkeypatch.setattr(Ledger, "totals", stall)
    await until(stalled.is_set)
    for number in range(1, 4):
        sender.send(truck.snapshot(number))
        await until(lambda: center.live and center.live[-1][1][0].raw == str(number), 20)  # noqa: B023  awaited in its turn
    released.set()
    work.stop()
    await asyncio.wait_for(running, 30)
    assert truck.status()["segments"]["sealed"] == 1
    sender.close()


@on("metered")
async def test_on_a_metered_link_readings_go_and_images_wait_for_another(truck: Truck, center: Center) -> None:
    truck.config.write_text(truck.config.read_text() + '[uplink]\nnetwork_manager = false\n[[uplink.rules]]\nlink = "metered"\n')
    images, readings = truck.seal("images")[0], truck.seal("readings")[0]
    process = truck.start("--drain", "30")
    await until(lambda: readings in center.held)
    await until(lambda: truck.status()["link"]["class"] == "metered" and truck.status()["hub_limits"]["max_file_bytes"])
    process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    assert "1 wait for another link" in await ended(process) and time.monotonic() - began < 20
    assert images not in center.held and truck.status()["segments"]["sealed"] == 1
    truck.config.write_text(truck.config.read_text().replace('link = "metered"', 'link = "unmetered"'))
    truck.start()
    await until(lambda: images in center.held)


@on("poor")
async def test_when_the_hub_goes_and_comes_the_uplink_connects_again_and_goes_on(hub: Hub, truck: Truck, center: Center) -> None:
    work = Uplink(load(truck.config), Pace(back_off_first=0.2, look_seconds=0.1))
    running = asyncio.create_task(work.run())
    try:
        await until(lambda: truck.status()["connected"])
        await asyncio.to_thread(hub.stop)
        identity = truck.seal()[0]
        await until(lambda: truck.status()["segments"]["sealed"] == 1 and truck.status()["problem"] and not truck.status()["connected"])
        assert not running.done()
        await asyncio.to_thread(hub.start)
        await center.start()
        await until(lambda: truck.status()["segments"]["receipted"] == 1)
        assert list(center.held) == [identity] and truck.status()["connects"] == 2
    finally:
        work.stop()
        await running
