"""The center as its own process against the real hub (ejabberd, TLS, SCRAM, node rights): a truck uploads, announces, reads receipts."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from center.archive import file_sha256
from sox import nodes
from sox.client import SoxClient
from sox.documents import TransducerValue, data_document, parse_data, parse_device
from sox.errors import SoxError
from sox.segments import RECEIPTED, announcement_document
from sox.transfer import put_file

pytestmark = pytest.mark.timeout(120)

TRUCKS = [f"truck-{number}" for number in range(1, 8)]  # one for each test: they share a hub


def wait_for_file(path: Path, process: subprocess.Popen, log: Path, seconds: float = 60) -> dict:
    until = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, f"ended with {process.returncode}: {log.read_text()}"
        assert time.monotonic() < until, f"not ready after {seconds} s: {log.read_text()}"
        time.sleep(0.05)
    return json.loads(path.read_text())


def start(folder: Path, name: str, *arguments: object) -> tuple[subprocess.Popen, Path]:
    log = folder / f"{name}.log"
    with log.open("ab") as output:
        return subprocess.Popen([sys.executable, "-m", *map(str, arguments)], stdout=output, stderr=output), log


def stop(process: subprocess.Popen) -> int:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        return process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """The ready file of a hub with all TRUCKS."""
    if not (shutil.which("ejabberdctl") or Path("/usr/sbin/ejabberdctl").exists()):
        pytest.skip("ejabberd is not installed")
    folder = tmp_path_factory.mktemp("hub")
    process, log = start(
        folder, "hub", "hub", "serve", "--home", folder / "home", "--ready", folder / "ready", "--trucks", ",".join(TRUCKS)
    )
    try:
        yield wait_for_file(folder / "ready", process, log)
    finally:
        stop(process)


class Center:
    """A center process of one test."""

    def __init__(self, folder: Path, hub: dict, trucks: list[str], workers: int = 0) -> None:
        self.folder, self.archive, self.url = folder, folder / "archive", ""
        self._process: subprocess.Popen | None = None
        secret = Path(hub["secrets"]) / "center"
        (folder / "center.toml").write_text(
            f'archive = "{self.archive}"\ntrucks = {json.dumps(trucks)}\nfree_reserve_bytes = 0\nworkers = {workers}\n'
            f'[hub]\ndomain = "{hub["domain"]}"\n'
            f'host = "{hub["host"]}"\nport = {hub["c2s_port"]}\nca_file = "{hub["ca_file"]}"\npassword_file = "{secret}"\n'
        )

    def start(self) -> None:
        ready = self.folder / "center.ready"
        ready.unlink(missing_ok=True)
        self._process, log = start(self.folder, "center", "center", self.folder / "center.toml", "--ready", ready)
        content = wait_for_file(ready, self._process, log)
        assert content["pid"] == self._process.pid
        self.url = content["url"]

    def stop(self) -> int:
        if self._process is None:
            return 0
        process, self._process = self._process, None
        return stop(process)

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, timeout=20)

    async def until(self, found: Callable[[], object], seconds: float = 30) -> object:
        """What `found` returns once it is true."""
        return await until(lambda: asyncio.to_thread(found), seconds, lambda: (self.folder / "center.log").read_text())


async def until(found, seconds: float = 30, explain: Callable[[], str] = str) -> object:
    end = time.monotonic() + seconds
    while not (result := await found()):
        assert time.monotonic() < end, explain()
        await asyncio.sleep(0.05)
    return result


@pytest.fixture
def center(tmp_path, hub):
    """`center(trucks)` makes one; it is stopped at the end."""
    made: list[Center] = []

    def make(*trucks: str, workers: int = 0) -> Center:
        made.append(Center(tmp_path, hub, list(trucks), workers))
        return made[-1]

    yield make
    for each in made:
        each.stop()


class Truck:
    """A truck's side of the conversation."""

    def __init__(self, hub: dict, name: str) -> None:
        self.name, self._hub = name, hub
        password = (Path(hub["secrets"]) / name).read_text().strip()
        self.client = SoxClient(f"{name}@{hub['domain']}", password, hub["host"], hub["c2s_port"], hub["ca_file"])
        self.receipts: list[dict[str, str]] = []  # in the order they came
        self._numbers = iter(range(1, 1000))

    async def __aenter__(self) -> "Truck":
        self.client.on_item(self._item)
        await self.client.connect()
        await self.client.subscribe(nodes.data(nodes.channel(self.name, "receipts")))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.disconnect()

    def _item(self, node: str, item_id: str, element) -> None:
        if node == nodes.data(nodes.channel(self.name, "receipts")):
            self.receipts.append({"id": item_id} | {value.id: value.typed or "" for value in parse_data(element)})

    async def live(self, values: list[TransducerValue]) -> None:
        await self.client.publish(nodes.data(self.name), str(next(self._numbers)), data_document(values))

    async def upload(self, made) -> str:
        slot = await self.client.upload_slot(made.path.name, made.path.stat().st_size)
        await put_file(slot, made.path, self._hub["ca_file"])
        return slot.get

    async def announce(self, made, url: str, **changes: str) -> None:
        document = announcement_document(made.announcement._replace(url=url, **changes))
        await self.client.publish(nodes.data(nodes.channel(self.name, "segments")), made.announcement.segment_id, document)

    async def receipt(self, number: int = 1, seconds: float = 30) -> dict[str, str]:
        """The receipt that came as `number`-th."""

        async def found() -> bool:
            return len(self.receipts) >= number

        await until(found, seconds, lambda: f"receipts: {self.receipts}")
        return self.receipts[number - 1]


async def test_an_announced_segment_is_fetched_verified_stored_and_receipted(hub, center, maker):
    city = center("truck-1", workers=2)
    city.start()
    made = maker.readings("truck-1")
    async with Truck(hub, "truck-1") as truck:
        await truck.announce(made, await truck.upload(made))
        receipt = await truck.receipt()
        [(_, description)] = await truck.client.items(nodes.meta(nodes.channel("truck-1", "receipts")))
    assert [transducer.id for transducer in parse_device(description).transducers] == list(RECEIPTED)
    assert receipt == {
        "id": made.announcement.segment_id, "state": "stored", "sha256": file_sha256(made.path), "size": str(made.path.stat().st_size),
        "reason": "",
    }  # fmt: skip
    stored = city.archive / "truck-1" / f"{made.announcement.segment_id}.mcap"
    assert stored.read_bytes() == made.path.read_bytes()
    [row] = city.get("api/segments?truck=truck-1").json()["segments"]
    assert row["segment_id"] == made.announcement.segment_id
    await city.until(lambda: city.get("api/trucks").json()["trucks"][0]["segments"]["receipted"] == 1)
    assert city.stop() == 0


async def test_damaged_objects_are_refused_with_a_reason_and_kept_in_quarantine(hub, center, maker):
    city = center("truck-2")
    city.start()
    wrong, flipped = maker.readings("truck-2"), maker.images([b"\xff\xd8" + bytes(9000) + b"\xff\xd9"], "truck-2")
    data = bytearray(flipped.path.read_bytes())
    data[data.index(b"\xff\xd8") + 4000] ^= 0x40
    flipped.path.write_bytes(data)
    async with Truck(hub, "truck-2") as truck:
        await truck.announce(wrong, await truck.upload(wrong), sha256="0" * 64)
        first = await truck.receipt(1)
        await truck.announce(flipped, await truck.upload(flipped), sha256=file_sha256(flipped.path))
        second = await truck.receipt(2)
    assert (first["id"], first["state"], second["id"], second["state"]) == (
        wrong.announcement.segment_id, "refused", flipped.announcement.segment_id, "refused",
    )  # fmt: skip
    assert "SHA-256" in first["reason"]
    assert "damaged" in second["reason"]
    kept = {path.read_bytes() for path in (city.archive / "_quarantine").glob("*.mcap")}
    assert kept == {wrong.path.read_bytes(), bytes(data)}
    assert not list((city.archive).glob("truck-2/*"))


async def test_the_announcement_of_a_known_segment_is_answered_again_and_not_stored_twice(hub, center, maker):
    city = center("truck-3")
    city.start()
    made = maker.readings("truck-3")
    async with Truck(hub, "truck-3") as truck:
        url = await truck.upload(made)
        await truck.announce(made, url)
        first = await truck.receipt(1)
        [stored] = (city.archive / "truck-3").iterdir()
        before = stored.stat()
        await truck.announce(made, url)
        assert await truck.receipt(2) == first
    after = stored.stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert len(city.get("api/segments").json()["segments"]) == 1


async def test_announcements_made_while_the_center_was_away_are_read_when_it_connects(hub, center, maker):
    made = [maker.readings("truck-4") for _ in range(3)]
    city = center("truck-4")
    async with Truck(hub, "truck-4") as truck:
        for each in made:
            await truck.announce(each, await truck.upload(each))
        city.start()
        for number in range(1, 4):
            assert (await truck.receipt(number))["state"] == "stored"
        assert {receipt["id"] for receipt in truck.receipts} == {each.announcement.segment_id for each in made}
        assert city.stop() == 0
        # What is receipted already stands in the receipts node: a center that comes back says nothing twice, and the new one is answered.
        new = maker.readings("truck-4")
        await truck.announce(new, await truck.upload(new))
        city.start()
        assert (await truck.receipt(4))["id"] == new.announcement.segment_id
        assert len(truck.receipts) == 4


async def test_live_data_appears_and_an_older_item_does_not_replace_it(hub, center, live, maker):
    city = center("truck-5")
    city.start()
    now = time.time_ns()
    jpegs = [b"\xff\xd8first\xff\xd9", b"\xff\xd8last\xff\xd9"]

    def values() -> dict:
        return city.get("api/trucks").json()["trucks"][0]["values"]

    assert city.get("api/trucks/truck-5/image").status_code == 404
    async with Truck(hub, "truck-5") as truck:
        await truck.live(live(now, {"pressure": 101_325.0, "illuminance": "saturated", "latitude": 35.3, "longitude": 139.4}))
        await city.until(lambda: "pressure" in values())
        await truck.live(live(now - 10**9, {"pressure": 90_000.0, "humidity": 40.0}))
        await city.until(lambda: "humidity" in values())
        made = maker.images(jpegs, "truck-5")
        await truck.announce(made, await truck.upload(made))
        await truck.receipt()
    found = values()
    assert (found["pressure"]["value"], found["pressure"]["unit"]) == (101_325.0, "Pa")
    assert (found["illuminance"]["value"], found["illuminance"]["reason"]) == (None, "saturated")
    assert found["pressure"]["utc_ns"] // 1000 == now // 1000
    assert city.get("api/trucks").json()["trucks"][0]["status"] == "fresh"
    assert city.get("api/trucks/truck-5/image").content == jpegs[-1]


async def test_the_center_survives_the_end_of_the_hub_and_comes_back(hub, center, live, tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    arguments = ("--home", own / "home", "--ready", own / "ready", "--trucks", "truck-6")
    process, log = start(own, "hub", "hub", "serve", *arguments)
    city = None
    try:
        ready = wait_for_file(own / "ready", process, log)
        city = Center(tmp_path, ready, ["truck-6"])
        city.start()
        await city.until(lambda: city.get("api/status").json()["hub"]["connected"])
        stop(process)
        await city.until(lambda: not city.get("api/status").json()["hub"]["connected"])
        assert city.get("api/status").json()["hub"]["error"]
        process, log = start(own, "hub", "hub", "serve", *arguments, "--c2s-port", ready["c2s_port"], "--http-port", ready["http_port"])
        wait_for_file(own / "ready", process, log)
        async with Truck(ready, "truck-6") as truck:
            await truck.live(live(time.time_ns(), {"pressure": 100_000.0}))
        await city.until(lambda: city.get("api/trucks").json()["trucks"][0]["values"], 60)
        assert city.get("api/status").json()["hub"]["connections"] >= 2
    finally:
        if city is not None:
            assert city.stop() == 0
        stop(process)


async def test_a_truck_whose_nodes_are_missing_holds_up_nobody(hub, center, live):
    city = center("nobody-here", "truck-7")
    city.start()
    async with Truck(hub, "truck-7") as truck:
        await truck.live(live(time.time_ns(), {"pressure": 100_000.0}))
        await city.until(lambda: city.get("api/trucks").json()["trucks"][1]["values"])
    assert city.get("api/trucks").json()["trucks"][0]["values"] == {}
    with pytest.raises(SoxError):
        await truck.client.items("nobody-here_data")


def test_sigterm_ends_an_open_event_stream_and_leaves_no_process(center):
    city = center("truck-1", workers=1)
    city.start()
    pids = [city._process.pid]
    until = time.monotonic() + 20
    while len(pids) < 2:
        assert time.monotonic() < until
        pids = [pids[0], *map(int, Path(f"/proc/{pids[0]}/task/{pids[0]}/children").read_text().split())]
    with httpx.stream("GET", city.url + "events", timeout=20) as answer:
        assert next(answer.iter_lines()) == "event: fields"
        assert city.stop() == 0
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert not (city.folder / "center.ready").exists()
