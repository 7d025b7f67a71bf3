"""The reaper on a real hub: objects are uploaded, announced and receipted by real accounts, and looked for on the hub's disk."""

import asyncio
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from hub.reaper import Reaper, Settings, main
from hub.reaper_decide import BAR_SECONDS
from hub.reaper_folder import owner_of
from hub.reaper_process import reaper_beside
from sox.client import SoxClient
from sox.segments import REFUSED, STORED, Announcement, Receipt, announcement_document, receipt_document
from sox.transfer import put_file

pytestmark = pytest.mark.timeout(120)
ROOT = Path(__file__).resolve().parents[2]
DAY = 86_400.0
numbers = count(1)


class City:
    """A hub with truck-1, truck-2 and the center connected, and its upload folder."""

    def __init__(self, hub, folder: Path, truck: SoxClient, other: SoxClient, center: SoxClient) -> None:
        self.hub, self.folder, self.truck, self.other, self.center = hub, folder, truck, other, center
        self.status_file = folder / "reaper.json"

    async def upload(self, client: SoxClient, content: bytes) -> tuple[str, Path]:
        """Address and file of a new object."""
        source = self.folder / "source"
        source.write_bytes(content)
        slot = await client.upload_slot("segment.mcap", len(content))
        await put_file(slot, source, self.hub.info["ca_file"])
        file = self.hub.home / "upload" / Path(*urlsplit(slot.get).path.split("/")[-3:])
        assert file.read_bytes() == content
        return slot.get, file

    async def receipt(self, announced: Announcement, state: str, **other: object) -> None:
        receipt = Receipt(announced.segment_id, state, announced.sha256, announced.size, "")._replace(**other)
        await self.center.publish(f"{announced.truck}_receipts_data", announced.segment_id, receipt_document(receipt, time.time_ns()))

    @asynccontextmanager
    async def reaper(self, **settings: object) -> AsyncIterator[Callable[[], dict]]:
        """A reaper at work, connected; gives its status."""
        given = Settings(self.hub.ready, self.hub.home / "upload", self.status_file, interval_s=0.2, retry_s=0.2)._replace(**settings)
        reaper = Reaper(given)
        running = asyncio.create_task(reaper.run())

        def status() -> dict:
            reaper.write_status()
            return json.loads(self.status_file.read_text("utf-8"))

        try:
            await until(lambda: status()["trucks"] == 4)
            yield status
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def announce(client: SoxClient, url: str, content: bytes, segment_id: str | None = None) -> Announcement:
    truck = client.jid.partition("@")[0]
    segment_id = segment_id or f"{truck}-0000abcd-0000ef01-{next(numbers):06}-readings"
    announced = Announcement(segment_id, url, len(content), hashlib.sha256(content).hexdigest(), "readings", 1, 2, 0, 0, truck)
    await client.publish(f"{truck}_segments_data", segment_id, announcement_document(announced))
    return announced


async def until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not happened():  # noqa: ASYNC110 # files and other processes tell nobody
            await asyncio.sleep(0.02)


async def looks(status_file: Path, times: int = 2) -> None:
    """Waits until the reaper has looked at the disk `times` more: what was due is gone then."""

    def number() -> int:
        return json.loads(status_file.read_text("utf-8"))["looks"] if status_file.exists() else 0

    before = number()
    await until(lambda: number() >= before + times)


@pytest.fixture
def in_city(hub, tmp_path):
    def run(work: Callable[[City], Awaitable[None]]) -> None:
        async def go() -> None:
            clients = [hub.client(name) for name in ("truck-1", "truck-2", "center")]
            for client in clients:
                await client.connect()
            try:
                await work(City(hub, tmp_path, *clients))
            finally:
                for client in clients:
                    await client.disconnect()

        asyncio.run(go())

    return run


def test_an_object_goes_after_its_receipt_and_not_before(in_city):
    async def work(city: City) -> None:
        async with city.reaper() as status:
            url, file = await city.upload(city.truck, b"a" * 5000)
            announced = await announce(city.truck, url, b"a" * 5000)
            await looks(city.status_file)
            assert file.exists()
            before = status()["deleted"]["receipted"]
            await city.receipt(announced, STORED)
            await until(lambda: not file.exists())
            assert not file.parent.exists()
            after = status()
            assert after["deleted"]["receipted"] == {"objects": before["objects"] + 1, "bytes": before["bytes"] + 5000}
            assert after["latency_max_s"] < BAR_SECONDS and after["late"] == 0 and after["connected"]

    in_city(work)


def test_a_receipt_for_other_content_of_the_same_segment_deletes_nothing(in_city):
    async def work(city: City) -> None:
        async with city.reaper() as status:
            url, file = await city.upload(city.truck, b"mine")
            announced = await announce(city.truck, url, b"mine")
            for other in ({"sha256": "0" * 64}, {"size": 5}):
                await city.receipt(announced, STORED, **other)
            await looks(city.status_file)
            assert file.exists() and status()["unanswered"] >= 1
            file.write_bytes(b"other")  # not as long as announced: not what the receipt is about
            await city.receipt(announced, STORED)
            await until(lambda: status()["mismatched"] == 1)
            assert file.exists()

    in_city(work)


def test_what_was_refused_goes_after_a_day_and_the_new_upload_of_it_with_its_own_receipt(in_city):
    async def work(city: City) -> None:
        async with city.reaper() as status:
            old_url, old = await city.upload(city.truck, b"damaged")
            announced = await announce(city.truck, old_url, b"damaged")
            await city.receipt(announced, REFUSED)
            new_url, new = await city.upload(city.truck, b"whole")
            again = await announce(city.truck, new_url, b"whole", announced.segment_id)
            await city.receipt(again, STORED)
            await until(lambda: not new.exists())
            assert old.exists()
            refused_url, refused = await city.upload(city.truck, b"bad")
            await city.receipt(await announce(city.truck, refused_url, b"bad"), REFUSED)
            await looks(city.status_file)
            assert refused.exists()
            for file in (refused, old):
                os.utime(file, (time.time() - 1.1 * DAY,) * 2)
            await until(lambda: not refused.exists())
            assert status()["deleted"]["refused"]["objects"] == 1
            assert old.exists()  # its refusal was replaced by the receipt of the new upload: it waits for the retention

    in_city(work)


def test_what_has_no_receipt_goes_after_seven_days_with_or_without_a_hub_and_whosever_it_is(in_city):
    async def work(city: City) -> None:
        url, announced_file = await city.upload(city.truck, b"announced")
        await announce(city.truck, url, b"announced")
        _, never = await city.upload(city.truck, b"never announced")
        revoked = city.hub.home / "upload" / owner_of("gone@cruisers.test") / ("s" * 40) / "a.mcap"
        left_empty = city.hub.home / "upload" / owner_of("truck-1@cruisers.test") / ("e" * 40)
        revoked.parent.mkdir(parents=True)
        revoked.write_bytes(b"of a revoked truck")
        left_empty.mkdir()
        just_begun = left_empty.with_name("b" * 40)
        just_begun.mkdir()
        aged = (announced_file, never, revoked)
        for file in aged:
            os.utime(file, (time.time() - 6.9 * DAY,) * 2)
        os.utime(left_empty, (time.time() - DAY,) * 2)
        async with city.reaper():
            await looks(city.status_file)
            assert all(file.exists() for file in aged)
        no_hub = Settings(city.folder / "absent.json", city.hub.home / "upload", city.status_file, interval_s=0.1)
        running = asyncio.create_task(Reaper(no_hub).run())
        try:
            await looks(city.status_file, 1)
            for file in aged:
                os.utime(file, (time.time() - 7.1 * DAY,) * 2)
            await until(lambda: not any(file.exists() for file in aged))
            await looks(city.status_file)
            status = json.loads(city.status_file.read_text("utf-8"))
            assert status["deleted"]["expired"]["objects"] == 3 and not status["connected"] and "absent.json" in status["problem"]
            assert not left_empty.exists() and just_begun.exists()
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            just_begun.rmdir()

    in_city(work)


def test_what_was_receipted_while_the_reaper_was_away_goes_when_it_is_back(in_city, monkeypatch):
    monkeypatch.setattr("hub.reaper.NEWEST", 5)

    async def work(city: City) -> None:
        uploads = [await city.upload(city.truck, bytes([number]) * 100) for number in range(4)]
        for number, (url, _) in enumerate(uploads):
            announced = await announce(city.truck, url, bytes([number]) * 100)
            if number != 2:
                await city.receipt(announced, STORED)
        for _ in range(10):  # more than what is read first
            await city.receipt(announced._replace(segment_id=f"truck-1-0000abcd-0000ef01-{next(numbers):06}-readings"), STORED)
        async with city.reaper():
            await until(lambda: [file.exists() for _, file in uploads] == [False, False, True, False])

    in_city(work)


def test_a_connection_that_was_cut_is_made_again_and_what_it_missed_is_read(in_city):
    async def work(city: City) -> None:
        lines: list[asyncio.StreamWriter] = []

        async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while chunk := await reader.read(65_536):
                writer.write(chunk)
            writer.close()

        async def between(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            there, onward = await asyncio.open_connection(city.hub.info["host"], city.hub.info["c2s_port"])
            lines.extend((writer, onward))
            await asyncio.gather(carry(reader, onward), carry(there, writer), return_exceptions=True)

        server = await asyncio.start_server(between, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        ready = city.folder / "hub.json"
        ready.write_text(json.dumps({**city.hub.info, "c2s_port": port}), "utf-8")
        url, file = await city.upload(city.truck, b"cut")
        announced = await announce(city.truck, url, b"cut")
        async with city.reaper(ready=ready) as status:
            server.close()
            for line in lines:
                line.transport.abort()
            await until(lambda: "cannot connect" in (status()["problem"] or ""))
            await city.receipt(announced, STORED)
            await looks(city.status_file)
            assert file.exists()
            server = await asyncio.start_server(between, "127.0.0.1", port)
            await until(lambda: not file.exists())
            assert status()["problem"] is None
        server.close()
        for line in lines:
            line.transport.abort()

    in_city(work)


def test_a_truck_cannot_have_deleted_what_another_truck_uploaded_or_what_lies_outside(in_city):
    async def work(city: City) -> None:
        theirs_url, theirs = await city.upload(city.truck, b"theirs")
        outside = city.hub.home / "ejabberd.yml"
        mine = owner_of("truck-2@cruisers.test")
        base = theirs_url.rpartition("/upload/")[0] + "/upload"
        places = [
            theirs_url, f"{base}/{mine}/../{theirs_url.partition('/upload/')[2]}", f"{base}/{mine}/../../ejabberd.yml",
            f"{base}/{mine}/{'.' * 20}/x", f"{base}/{mine}/{'s' * 40}/..", f"https://x/{mine}/{'s' * 40}/%2e%2e", "https://x//etc/passwd",
            f"https://[/{mine}/{'s' * 40}/a", f"file://{theirs}", str(theirs),
        ]  # fmt: skip
        async with city.reaper() as status:
            already = status()["foreign"]
            for url in places:
                announced = await announce(city.other, url, b"theirs")
                await city.receipt(announced, STORED)  # a center that was fooled
            own_url, own = await city.upload(city.other, b"own")
            await city.receipt(await announce(city.other, own_url, b"own"), STORED)
            await until(lambda: not own.exists())  # all before was dealt with
            assert status()["foreign"] - already == len(places)
            assert theirs.read_bytes() == b"theirs" and outside.exists()

    in_city(work)


def test_at_fleet_load_the_folder_holds_what_waits_for_the_center_and_no_more(in_city):
    """Small objects, put in their places by hand (PUT is tested elsewhere): what counts is announcements, receipts and files."""
    each, window = 60, 8

    async def work(city: City) -> None:
        docroot = city.hub.home / "upload"
        peak = 0
        answered: dict[str, asyncio.Semaphore] = {}

        async def stored(node: str, segment_id: str, element: object) -> None:
            room = answered.get(segment_id)
            if room is not None:
                truck = node.partition("_")[0]
                content = segment_id.encode()
                digest = hashlib.sha256(content).hexdigest()
                answer = Receipt(segment_id, STORED, digest, len(content), "")
                await city.center.publish(f"{truck}_receipts_data", segment_id, receipt_document(answer, time.time_ns()))
                room.release()

        async def drive(client: SoxClient) -> None:
            nonlocal peak
            truck, room = client.jid.partition("@")[0], asyncio.Semaphore(window)
            for number in range(each):
                await room.acquire()
                segment_id = f"{truck}-0000abcd-0000ef02-{number:06}-readings"
                answered[segment_id] = room
                file = docroot / owner_of(client.jid) / f"{number:040}" / "load.mcap"
                file.parent.mkdir(parents=True)
                file.write_bytes(segment_id.encode())
                await announce(client, f"https://hub/upload/{file.relative_to(docroot)}", segment_id.encode(), segment_id)
                peak = max(peak, len(list(docroot.glob("*/*/load.mcap"))))

        city.center.on_item(stored)
        for client in (city.truck, city.other):
            await city.center.subscribe(f"{client.jid.partition('@')[0]}_segments_data")
        async with city.reaper() as status:
            before = status()["deleted"]["receipted"]["objects"]
            await asyncio.gather(drive(city.truck), drive(city.other))
            await until(lambda: not list(docroot.glob("*/*/load.mcap")))
            assert status()["deleted"]["receipted"]["objects"] - before == 2 * each
        assert peak <= each  # of 2 x each that passed; 2 x window wait for the center, the rest is on its way

    in_city(work)


def test_the_process_may_be_killed_and_goes_on_where_it_was(in_city):
    def start(city: City) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "hub.reaper", "--home", city.hub.home, "--ready", city.hub.ready, "--interval", "0.2"], cwd=ROOT
        )

    async def work(city: City) -> None:
        first_url, first = await city.upload(city.truck, b"first")
        second_url, second = await city.upload(city.truck, b"second")
        announced = [await announce(city.truck, first_url, b"first"), await announce(city.truck, second_url, b"second")]
        await city.receipt(announced[0], STORED)
        process = start(city)
        try:
            await until(lambda: not first.exists())
        finally:
            process.kill()
            process.wait(10)
        await city.receipt(announced[1], STORED)
        assert second.exists()
        process = start(city)
        try:
            await until(lambda: not second.exists())
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
        finally:
            process.kill()
            process.wait(10)
        status = json.loads((city.hub.home / "reaper.json").read_text("utf-8"))
        assert status["pid"] == process.pid and status["deleted"]["receipted"]["objects"] >= 1

    in_city(work)


def test_beside_a_hub_a_reaper_that_ends_is_started_again_and_none_is_left_after_it(hub, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("hub.reaper_process.AGAIN_SECONDS", 0.01)
    told: list[str] = []

    def said() -> str:
        told.append(capsys.readouterr().err)
        return "".join(told)

    async def work() -> None:
        async with reaper_beside(tmp_path / "home", hub.ready):
            await until(lambda: "exit code 2" in said())  # it has no folder of uploads
            (tmp_path / "home" / "upload").mkdir(parents=True)
            await until((tmp_path / "home" / "reaper.json").exists)
            pid = json.loads((tmp_path / "home" / "reaper.json").read_text("utf-8"))["pid"]
            os.kill(pid, 0)
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)

    asyncio.run(work())


@pytest.mark.parametrize(("arguments", "said"), [
    (["--home", "/nonexistent"], "/nonexistent: no such folder"),
    (["--home", "/tmp", "--docroot", "/nonexistent"], "/nonexistent: no such folder"),
    (["--home", "/tmp", "--keep-days", "0"], "'0' is not a number above 0"),
    (["--home", "/tmp", "--interval", "soon"], "'soon' is not a number above 0"),
])  # fmt: skip
def test_bad_arguments_are_refused(capsys, arguments, said):
    try:
        code = main([*arguments, "--ready", "/nonexistent/hub.json"])
    except SystemExit as end:  # argparse
        code = end.code
    assert code == 2 and said in capsys.readouterr().err.splitlines()[-1]
