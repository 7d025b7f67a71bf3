"""The truck as the first fleet published it: what is offered, what is left out, and over the real hub to a consumer that subscribes as
Keio's JSoxLib does (full JID, the stored item at once)."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import sox_readers as keio
from gateway_uplink_parts import BOOT_NS, FOLDER, UTC_NS, until

from gateway.config import load
from gateway.ledger import LEDGER_NAME, Ledger
from gateway.uplink_books import Books
from gateway.uplink_carsensor import IN_FLIGHT, MOST_SECONDS, CarSensor
from gateway.uplink_link import Link
from gateway.uplink_live import Snapshot, snapshot
from gateway.uplink_sender import Numbers
from hub.nodes import Node, nodes_of
from hub.rights import Rights
from logbook.block import describe, encode, live
from sox import nodes
from sox.carsensor import carsensor_nodes
from sox.client import PUBSUB, SoxClient
from sox.documents import TransducerValue, data_document, parse_data
from sox.errors import SoxError

pytestmark = pytest.mark.timeout(60)

ROOT = Path(__file__).resolve().parents[2]
SECOND = 1_000_000_000
NUMBER = 14
AXES = [f"{kind}_{axis}" for kind in ("acceleration", "angular_rate", "magnetic_field") for axis in "xyz"]
COLUMNS = describe([{"id": axis, "scale": 0.001 if axis[0] == "a" else 1e-7} for axis in AXES])


def told(number: int, longitude: float | None = 139.49, moved: bool = True, utc_ns: int = UTC_NS, **values: float | None) -> dict[str, Any]:
    """Datagram `number` of a truck that moves on, one a second; all its values are of now, a position that did not come again of then."""
    now = BOOT_NS + number * SECOND

    def value(si: float | None, at_ns: int = now) -> dict[str, Any]:
        return {"value": si, "reason": "no fix" if si is None else None, "raw": "1", "boottime_ns": at_ns, "calibrated": False}

    place = {"longitude": longitude, "latitude": 35.38, "speed": 10.0, "bearing": 1.0}
    every = {name: value(si, now if moved else BOOT_NS) for name, si in place.items()}
    every |= {name: value(si) for name, si in ({"temperature": 298.15, "acceleration_x": 1.0} | values).items()}
    at_utc_ns = utc_ns and utc_ns + number * SECOND
    return {"truck": "old", "boot": FOLDER, "number": number, "boottime_ns": now, "utc_ns": at_utc_ns, "values": every}


def found(number: int, **changed: Any) -> Snapshot:
    """The same, read."""
    return snapshot(told(number, **changed), "old")


def packed(second: int, hz: int = 100) -> bytes:
    """A second of samples; the first axis counts them."""
    times = BOOT_NS + second * SECOND + np.arange(hz, dtype=np.int64) * (SECOND // hz)
    columns = np.zeros((hz, len(AXES)), dtype=np.int16)
    columns[:, 0] = second * hz + np.arange(hz)
    return encode(1, times, columns)


def utc_of(boottime_ns: int) -> int:
    return boottime_ns - BOOT_NS + UTC_NS


class FakeClient:
    """A hub that takes what is published while its gate is open, and refuses the next `refuse`."""

    def __init__(self) -> None:
        self.published: list[tuple[str, int, ET.Element]] = []
        self.under_way = self.most_under_way = self.refuse = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def items(self, node: str) -> list[tuple[str, ET.Element]]:
        return []

    async def publish(self, node: str, item_id: str, element: ET.Element) -> None:
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await self.gate.wait()
        self.under_way -= 1
        if self.refuse and node.endswith("_data"):
            self.refuse -= 1
            raise SoxError("resource-constraint")
        self.published.append((node, int(item_id), element))

    def data(self, device: str) -> list[dict[str, str | None]]:
        """The items of a device, each as transducer -> raw."""
        return [{value.id: value.raw for value in parse_data(element)} for node, _, element in self.published if node == nodes.data(device)]


class FakeLink:
    """A link that is always connected."""

    def __init__(self) -> None:
        self.fake = FakeClient()

    async def client(self) -> FakeClient:
        return self.fake


class FakeWays:
    """A link's class that a test sets, and the bytes counted on it."""

    def __init__(self) -> None:
        self.allowed = True
        self.counted = 0

    def allows(self, user: str) -> bool:
        return self.allowed and user == "packed"

    def count(self, size: int) -> None:
        self.counted += size


@pytest.fixture
async def books(tmp_path: Path) -> AsyncIterator[Books]:
    books = Books(Ledger(tmp_path / LEDGER_NAME))
    yield books
    books.close()


class Bench:
    """A CarSensor on a link that is always connected."""

    def __init__(self, books: Books, hz: int) -> None:
        self.hz = hz
        self.link = FakeLink()
        self.hub = self.link.fake
        self.ways = FakeWays()
        self.sensor = CarSensor("old", NUMBER, hz, Numbers(books), self.link, self.ways, 0.01)  # type: ignore[arg-type]
        self.task = asyncio.create_task(self.sensor.run())

    def status(self) -> dict[str, Any]:
        return self.sensor.status()["carsensor"]

    def seconds(self) -> list[dict[str, str | None]]:
        return self.hub.data("carsensor014")

    def samples(self) -> list[dict[str, str | None]]:
        return self.hub.data("carsensor014_100Hz")


@pytest.fixture
async def bench(books: Books, request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    bench = Bench(books, getattr(request, "param", 0))
    yield bench
    bench.task.cancel()
    await asyncio.gather(bench.task, return_exceptions=True)


# --- about one item a second


async def test_an_item_follows_each_new_position_with_the_newest_of_everything(bench: Bench) -> None:
    bench.sensor.offer(found(1))
    await until(lambda: len(bench.seconds()) == 1)
    bench.sensor.offer(found(2, moved=False, temperature=299.15))
    bench.sensor.offer(found(3, moved=False, temperature=299.15))
    bench.sensor.offer(found(4, temperature=300.15))
    await until(lambda: len(bench.seconds()) == 2)
    assert [item["Atmospheric Temperature"] for item in bench.seconds()] == ["25", "27"]
    assert bench.seconds()[1]["Data Index"] == "004" and bench.seconds()[1]["Speed"] == "36"
    assert bench.status()["waiting"] is None and bench.sensor.problem is None
    wire = sum(len(keio.on_the_wire(element)) for node, _, element in bench.hub.published if node.endswith("_data"))
    assert wire < bench.ways.counted < 2 * wire, "the link's budget knows of them"
    assert [node for node, _, _ in bench.hub.published] == ["carsensor014_meta", *["carsensor014_data"] * 2], "described once a connection"


async def test_a_position_that_does_not_come_again_is_published_once(bench: Bench) -> None:
    for number in range(5):
        bench.sensor.offer(found(number, moved=False))
    await until(lambda: len(bench.seconds()) == 1)
    await asyncio.sleep(0.05)
    assert len(bench.seconds()) == 1


async def test_pm2_5_is_the_mean_since_the_last_item_also_of_snapshots_without_position(bench: Bench) -> None:
    bench.sensor.offer(found(1, pm2_5=4e-9))
    await until(lambda: len(bench.seconds()) == 1)
    for number, mass in ((2, -9e-9), (3, 6e-9), (4, None)):
        bench.sensor.offer(found(number, moved=False, pm2_5=mass))
    bench.sensor.offer(found(5, pm2_5=12e-9))
    await until(lambda: len(bench.seconds()) == 2)
    bench.sensor.offer(found(6))
    await until(lambda: len(bench.seconds()) == 3)
    assert [item.get("PM2.5") for item in bench.seconds()] == ["4", "6", None], "0, 6 and 12; then nothing came"


@pytest.mark.parametrize(("offered", "why"), [
    (found(1, utc_ns=0), "no UTC"), (found(1, longitude=None), "no position"),
    (found(1, temperature=None, acceleration_x=None), "no values"),
])  # fmt: skip
async def test_without_utc_position_or_values_nothing_is_published_and_it_says_why(bench: Bench, offered: Snapshot, why: str) -> None:
    bench.sensor.offer(offered)
    assert why in bench.status()["waiting"]
    bench.sensor.offer(found(2))
    await until(lambda: len(bench.seconds()) == 1)


async def test_a_newer_item_replaces_one_that_waits_and_ids_rise_after_a_refusal(bench: Bench) -> None:
    bench.hub.refuse = 1
    bench.hub.gate.clear()
    bench.sensor.offer(found(1))
    await until(lambda: bench.hub.under_way == 1)
    for number in range(2, 6):
        bench.sensor.offer(found(number))
    bench.hub.gate.set()
    await until(lambda: bench.status()["failed"] == 1)
    assert "resource-constraint" in (bench.sensor.problem or "")
    bench.sensor.offer(found(6))
    await until(lambda: len(bench.seconds()) == 1)
    ids = [identity for _, identity, _ in bench.hub.published]
    assert ids == sorted(set(ids))
    assert bench.seconds()[0]["Data Index"] == "006" and bench.status()["conflated"] >= 3


async def test_on_a_new_connection_the_device_is_described_again(bench: Bench) -> None:
    bench.sensor.offer(found(1))
    await until(lambda: len(bench.seconds()) == 1)
    bench.hub = bench.link.fake = FakeClient()
    bench.sensor.offer(found(2))
    await until(lambda: len(bench.seconds()) == 1)
    assert [node for node, _, _ in bench.hub.published] == ["carsensor014_meta", "carsensor014_data"]


async def test_without_a_rate_blocks_are_not_read(bench: Bench) -> None:
    bench.sensor.offer_block("no JSON", b"", utc_of)
    bench.sensor.offer(found(1))
    await until(lambda: len(bench.seconds()) == 1)
    assert bench.samples() == [] and bench.status()["malformed"] == 0


async def test_a_time_beyond_the_calendar_is_counted_and_stops_nothing(bench: Bench) -> None:
    bench.sensor.offer(found(1, utc_ns=1 << 62 << 8))
    await until(lambda: bench.sensor.malformed == 1)
    bench.sensor.offer(found(2))
    await until(lambda: len(bench.seconds()) == 1)


# --- an item a sample


@pytest.mark.parametrize("bench", [100, 20], indirect=True)
async def test_samples_are_published_in_order_at_the_rate_with_the_newest_slow_quantities(bench: Bench) -> None:
    hz = bench.hz
    bench.sensor.offer(found(0))
    for second in range(2):
        bench.sensor.offer_block(COLUMNS, packed(second), utc_of)
        await until(lambda: len(bench.samples()) == 1 + hz * (second + 1))  # noqa: B023  awaited in its turn
    place, *samples = bench.samples()
    assert set(place) == {"Data Index", "Serial Number", "Longitude", "Latitude", "Speed", "Cource"}, "in an item of its own"
    assert [float(item["Acceleration X"] or "") for item in samples] == pytest.approx([n / 1000 for n in range(0, 200, 100 // hz)])
    assert [int(item["Data Index"] or "") for item in samples] == list(range(1, 201, 100 // hz)), "samples that do not pass count"
    assert all(item["Atmospheric Temperature"] == "25" and "Longitude" not in item for item in samples)
    assert bench.hub.most_under_way <= IN_FLIGHT + 1 and bench.status()["samples"] == 1 + 2 * hz
    ids = [identity for node, identity, _ in bench.hub.published if node == "carsensor014_100Hz_data"]
    assert ids == sorted(set(ids))


@pytest.mark.parametrize("bench", [100], indirect=True)
async def test_on_a_slow_link_the_oldest_samples_go_and_are_counted(bench: Bench) -> None:
    bench.sensor.offer_block(COLUMNS, packed(0), utc_of)
    await until(lambda: bool(bench.hub.published))  # described
    bench.hub.gate.clear()
    for second in range(1, 8):
        bench.sensor.offer_block(COLUMNS, packed(second), utc_of)
        await asyncio.sleep(0.01)
    bench.hub.gate.set()
    await until(lambda: bool(bench.samples()) and bench.samples()[-1]["Data Index"] == "800")
    shown = [int(item["Data Index"] or "") for item in bench.samples()]
    assert shown == sorted(set(shown)), "the oldest first, none twice"
    assert len(shown) + bench.status()["samples_left_out"] == 800
    assert shown[-MOST_SECONDS * 100 :] == list(range(801 - MOST_SECONDS * 100, 801))


@pytest.mark.parametrize("bench", [50], indirect=True)
async def test_a_refused_sample_is_not_sent_again_and_the_next_ones_are(bench: Bench) -> None:
    bench.hub.refuse = 3
    bench.sensor.offer_block(COLUMNS, packed(0), utc_of)
    await until(lambda: bench.status()["samples"] == 47)
    shown = [int(item["Data Index"] or "") for item in bench.samples()]
    assert shown == sorted(set(shown)) and bench.status()["failed"] == 3


@pytest.mark.parametrize("bench", [50], indirect=True)
@pytest.mark.parametrize(("columns", "block"), [
    (COLUMNS, b"CB"), ("", packed(0)), ("[]", packed(0)), (json.dumps([1] * 9), packed(0)), (json.dumps([{}] * 9), packed(0)),
    (json.dumps([{"id": "a", "scale": 1, "status": 99}] * 9), packed(0)),
], ids=["no block", "no JSON", "too few columns", "no objects", "nothing said", "no such status"])  # fmt: skip
async def test_a_block_that_cannot_be_read_is_counted_and_stops_nothing(bench: Bench, columns: str, block: bytes) -> None:
    bench.sensor.offer_block(columns, block, utc_of)
    assert bench.status()["malformed"] == 1
    bench.sensor.offer_block(COLUMNS, packed(0), lambda _: 0)
    bench.sensor.offer_block(COLUMNS, packed(1), utc_of)
    await until(lambda: bench.status()["samples"] == 50)


@pytest.mark.parametrize("bench", [50], indirect=True)
async def test_a_link_that_may_not_carry_packed_blocks_carries_no_samples(bench: Bench) -> None:
    bench.ways.allowed = False
    bench.sensor.offer_block(COLUMNS, packed(0), utc_of)
    bench.sensor.offer(found(1))
    await until(lambda: len(bench.seconds()) == 1 and len(bench.samples()) == 1)  # the position
    assert bench.status()["blocks_withheld"] == 1
    bench.ways.allowed = True
    bench.sensor.offer_block(COLUMNS, packed(2), utc_of)
    await until(lambda: bench.status()["samples"] == 51)


# --- the recorder's datagrams


@pytest.mark.parametrize("bench", [100], indirect=True)
async def test_snapshots_and_packed_blocks_are_taken_from_the_recorders_datagrams_and_others_passed_over(bench: Bench) -> None:
    block = {
        "kind": "packed", "truck": "old", "boot": FOLDER, "number": 1, "boottime_ns": BOOT_NS, "utc_ns": UTC_NS, "utc_source": "gnss",
        "utc_error_s": 0.1, "columns": COLUMNS, "block": live([packed(0)]),
    }  # fmt: skip
    wrong = [{"kind": "packed"}, {}, block | {"block": "?"}, block | {"truck": "new"}, told(2) | {"truck": "new"}]
    for datagram in (told(1), block, {"kind": "event"}, *wrong):
        bench.sensor.on_datagram(datagram)
    await until(lambda: len(bench.seconds()) == 1 and len(bench.samples()) == 101)
    assert bench.status()["malformed"] == len(wrong)
    assert [int(item["Data Index"] or "") for item in bench.samples()][1:] == list(range(1, 101))


async def test_without_utc_of_a_block_its_samples_are_not_published(books: Books) -> None:
    bench = Bench(books, 100)
    bench.sensor.offer_block(COLUMNS, packed(0), lambda _: 0)
    await asyncio.sleep(0.02)
    assert bench.samples() == [] and bench.status()["samples_left_out"] == 0
    bench.task.cancel()
    await asyncio.gather(bench.task, return_exceptions=True)


# --- over the real hub


class Hub:
    """The room's hub with the truck `old` and the account `viewer`, a stranger to it."""

    def __init__(self, info: dict[str, Any]) -> None:
        self.info = info

    def client(self, user: str) -> SoxClient:
        info = self.info
        password = Path(info["secrets"], user).read_text("utf-8").strip()
        return SoxClient(f"{user}@{info['domain']}", password, info["host"], info["c2s_port"], info["ca_file"])

    async def open_nodes(self) -> None:
        """The nodes of carsensor014 as open data, written by the truck `old` alone."""
        config = nodes_of("old", Rights(open_data={"old": False}))[1].config
        admin = self.client("admin")
        await admin.connect()
        for name in carsensor_nodes(NUMBER):
            node = Node(name, config, "old", ("center",))
            await admin.create_node(node.name, node.config, node.rights(admin.domain))
        await admin.disconnect()


@pytest.fixture(name="old_hub")
def of_the_first_fleet(hub: dict[str, Any]) -> Hub:
    return Hub(hub)


class Consumer:
    """An old consumer: it reads the description, asks for subscriptions of its own (JSoxLib ends those), subscribes to the data with its
    full JID, and has the texts as they came."""

    def __init__(self, client: SoxClient) -> None:
        self.client = client
        self.texts: dict[str, list[str]] = {}
        self.ids: list[int] = []
        client.on_item(self._item)

    def _item(self, node: str, item_id: str, element: ET.Element) -> None:
        self.texts.setdefault(node, []).append(keio.on_the_wire(element))
        self.ids.append(int(item_id))

    async def meta(self, device: str) -> str:
        found: list[tuple[str, ET.Element]] = []

        async def published() -> bool:
            found[:] = await self.client.items(nodes.meta(device), 1)
            return bool(found)

        until_s = asyncio.get_running_loop().time() + 30.0
        while not await published():  # each device says what it is before its first values, in its own time
            assert asyncio.get_running_loop().time() < until_s, f"{device} has no description"
            await asyncio.sleep(0.05)
        return keio.on_the_wire(found[-1][1])

    async def subscribe(self, device: str) -> None:
        stream = self.client._stream
        assert stream is not None
        asked = {"node": nodes.data(device)}
        for kind, name, attributes in (("get", "subscriptions", asked), ("set", "subscribe", asked | {"jid": stream._xmpp.boundjid.full})):
            request = ET.Element(f"{{{PUBSUB}}}pubsub")
            request.append(ET.Element(f"{{{PUBSUB}}}{name}", attributes))
            await self.client._request(kind, request)  # type: ignore[arg-type]

    def seen(self, device: str) -> list[dict[str, keio.Seen]]:
        return [keio.jsoxlib_data(text) for text in self.texts.get(nodes.data(device), [])]


def truck_config(hub: Hub, folder: Path) -> Path:
    info, path = hub.info, folder / "truck.toml"
    path.write_text(
        f'name = "old"\nspool = "{folder}"\nlive_socket = "{folder / "live"}"\n[hub]\ndomain = "{info["domain"]}"\n'
        f'host = "{info["host"]}"\nport = {info["c2s_port"]}\nca_file = "{info["ca_file"]}"\n'
        f'password_file = "{Path(info["secrets"], "old")}"\n'
        f"[uplink]\ncarsensor = {NUMBER}\ncarsensor_hz = 50\n"
    )
    return path


async def nothing(client: SoxClient) -> None:
    """The link has nothing else to prepare."""


async def reached(condition: Callable[[], object]) -> None:
    await until(lambda: bool(condition()))


async def test_an_old_consumer_reads_both_devices_over_the_hub_and_cannot_write_them(old_hub: Hub, books: Books, tmp_path: Path) -> None:
    truck = load(truck_config(old_hub, tmp_path))
    assert truck.uplink.carsensor is not None
    link = Link(truck, nothing, 0.1)
    sensor = CarSensor("old", truck.uplink.carsensor, truck.uplink.carsensor_hz, Numbers(books), link, FakeWays(), 0.1)  # type: ignore[arg-type]
    tasks = [asyncio.create_task(link.run()), asyncio.create_task(sensor.run())]
    consumer = Consumer(old_hub.client("viewer"))
    try:
        sensor.offer(found(0))
        await reached(lambda: "item-not-found" in (sensor.problem or ""))  # nobody has made its nodes yet
        await old_hub.open_nodes()
        sensor.offer(found(1))
        await reached(lambda: sensor.status()["carsensor"]["published"] == 1)

        await consumer.client.connect()
        described = keio.jsoxlib_device(await consumer.meta("carsensor014"))
        assert len(described) == 23 and described["Cource"] == "°"
        assert keio.soxjs_device(await consumer.meta("carsensor014_100Hz")) == list(described)
        for device in ("carsensor014", "carsensor014_100Hz"):
            await consumer.subscribe(device)
        await reached(lambda: consumer.seen("carsensor014"))  # the stored item, at once
        assert consumer.seen("carsensor014")[0]["Longitude"].raw == "139.49"

        for number in range(2, 5):
            sensor.offer(found(number, longitude=139.0 + number))
            await reached(lambda: consumer.seen("carsensor014")[-1]["Data Index"].raw == f"{number:03d}")  # noqa: B023  awaited in its turn
        latest = consumer.texts["carsensor014_data"][-1]
        assert keio.soxjs_data(latest, list(described))["Longitude"].raw == keio.soxlib_data(latest)["Longitude"] == "143"
        assert keio.python_sox_data(latest)["Speed"] == "36"

        def samples_seen() -> list[dict[str, keio.Seen]]:
            return [item for item in consumer.seen("carsensor014_100Hz") if "Acceleration X" in item]

        assert samples_seen() == []
        sensor.offer_block(COLUMNS, packed(5), utc_of)
        await reached(lambda: len(samples_seen()) >= 50)
        samples = samples_seen()
        assert [float(item["Acceleration X"].typed or "") for item in samples] == pytest.approx([n / 1000 for n in range(500, 600, 2)])
        assert len({item["Acceleration X"].timestamp for item in samples}) == 50

        with pytest.raises(SoxError, match="forbidden"):
            await consumer.client.publish(
                "carsensor014_data", "1", data_document([TransducerValue("a", "1", None, "2027-01-15T08:00:00Z")])
            )
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await consumer.client.disconnect()
