"""Workers side by side on one archive: real processes that fetch from a real HTTPS server, killed at any moment; each segment once."""

import asyncio
import contextlib
import ssl
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from center_keeping import Drive, Made, Said, keep

from center.archive import Archive
from center.ingest_desk import SOCKET_NAME, Desk, WorkerError, short_path
from center.receive import Receiver
from center.tables_delta import Delta
from hub import certificates
from sox.segments import Receipt

pytestmark = pytest.mark.timeout(100)

CONFIG = """
archive = "{archive}"
trucks = ["truck-14"]
free_reserve_bytes = 0
[hub]
domain = "localhost"
host = "127.0.0.1"
port = 1
ca_file = "{ca_file}"
password_file = "none"
[tables]
every_s = 0.3
"""


class Objects:
    """An HTTPS server: objects by path, how often each was asked for; `slow` ones come in pieces, some seconds long."""

    def __init__(self, tls: certificates.Files) -> None:
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(tls.server, tls.server_key)
        self.objects: dict[str, bytes] = {}
        self.asked: Counter[str] = Counter()
        self.slow: set[str] = set()
        self.port = 0

    def put(self, made: Made, name: str = "") -> str:
        """The object's address."""
        path = f"/{name or made.announcement.segment_id}"
        self.objects[path] = made.path.read_bytes()
        return f"https://127.0.0.1:{self.port}{path}"

    @contextlib.asynccontextmanager
    async def serving(self):
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            path = head.split(b" ")[1].decode()
            self.asked[path] += 1
            data = self.objects[path]
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(data))
            for start in range(0, len(data), 1000):
                writer.write(data[start : start + 1000])
                await writer.drain()
                if path in self.slow:
                    await asyncio.sleep(0.3)
            writer.close()


class City:
    """The center's part that hands out and answers, and worker processes."""

    def __init__(self, folder: Path, ca_file: Path) -> None:
        self.folder, self.config = folder, folder / "center.toml"
        self.config.write_text(CONFIG.format(archive=folder / "archive", ca_file=ca_file))
        self.archive = Archive(folder / "archive")
        self.desk = Desk(self.archive.folder)
        self.receipts: list[Receipt] = []
        self.receiver = Receiver(self.archive, self.desk.take, self._publish, self._stored, ["127.0.0.1"], 10**8, retry_first_s=0.05)
        self.workers: dict[str, subprocess.Popen] = {}

    async def _publish(self, truck: str, receipt: Receipt) -> None:
        self.receipts.append(receipt)

    async def _stored(self, truck: str, stream: str) -> None:
        pass

    def start(self, name: str, *options: str) -> subprocess.Popen:
        with (self.folder / f"{name}.log").open("ab") as log:
            arguments = [sys.executable, "-m", "center.ingest", str(self.config), "--worker", name, *options]
            self.workers[name] = subprocess.Popen(arguments, stdout=log, stderr=log)
        return self.workers[name]

    def announce(self, made: Made, url: str, **changes: object) -> None:
        self.receiver.announced("truck-14", made.announcement.segment_id, made.announcement._replace(url=url, **changes))

    async def until(self, found, seconds: float = 60.0) -> None:
        end = asyncio.get_running_loop().time() + seconds
        while not found():
            logs = "\n".join(path.read_text() for path in self.folder.glob("*.log"))
            assert asyncio.get_running_loop().time() < end, logs
            await asyncio.sleep(0.03)

    @contextlib.asynccontextmanager
    async def working(self):
        async with self.desk.serving():
            receiving = asyncio.create_task(self.receiver.run())
            try:
                yield self
            finally:
                receiving.cancel()
                await asyncio.gather(receiving, return_exceptions=True)

    def stop(self) -> None:
        for process in self.workers.values():
            process.terminate()
        for process in self.workers.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.archive.close()


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    return certificates.ensure(tmp_path_factory.mktemp("tls"), "localhost", "127.0.0.1")


@pytest.fixture
def city(tmp_path, tls):
    made = City(tmp_path, tls.ca)
    yield made
    made.stop()


async def test_three_workers_a_kill_and_duplicates_leave_each_segment_once_in_archive_and_tables(city, tls, tmp_path):
    drive = Drive(tmp_path / "spool")
    segments = [drive.readings(0, 10, [Said(5, 1_793_000_005, 1e-6)]), *(drive.readings(10 * number, 10) for number in range(1, 10))]
    pictures = [drive.images(start + 0.5, [bytes(2000)] * 2) for start in range(0, 60, 10)]
    async with Objects(tls).serving() as objects, city.working():
        urls = {made.announcement.segment_id: objects.put(made) for made in (*segments, *pictures)}
        held = [f"/{made.announcement.segment_id}" for made in pictures[:2]]
        objects.slow.update(held)
        for name in ("one", "two", "three"):
            city.start(name)
        for made in (*pictures, *segments):
            city.announce(made, urls[made.announcement.segment_id])
        await city.until(lambda: objects.asked[held[0]])
        for made in segments:  # the truck repeats itself
            city.announce(made, urls[made.announcement.segment_id])
        victim = next(worker.name for worker in city.desk._workers for job in worker.open if job == 1)
        city.workers[victim].kill()
        await city.until(lambda: objects.asked[held[0]] == 2)
        objects.slow.clear()
        await city.until(lambda: len({receipt.segment_id for receipt in city.receipts}) == len(urls) and not city.receiver.open)
        await city.until(lambda: tabled(city.archive) == 100)
    assert {receipt.state for receipt in city.receipts} == {"stored"}
    assert city.archive.counts("truck-14")[:2] == (16, 16)
    for made in (*segments, *pictures):
        assert city.archive.path("truck-14", made.announcement.segment_id).read_bytes() == made.path.read_bytes()
    again = [path for path, times in objects.asked.items() if times > 1]
    assert held[0] in again
    assert len(again) <= 2, "what the killed worker had in hand, and nothing else"


def tabled(archive: Archive) -> int:
    table = Delta(archive.objects).table("sps30")
    return 0 if table is None else table.count()


async def test_a_damaged_object_is_refused_kept_and_a_new_upload_of_it_is_taken(city, tls, tmp_path):
    made = Drive(tmp_path / "spool").readings(0, 10)
    async with Objects(tls).serving() as objects, city.working():
        city.start("one")
        url = objects.put(made, "damaged")
        objects.objects["/damaged"] = made.path.read_bytes()[:-1] + b"x"
        city.announce(made, url)
        await city.until(lambda: len(city.receipts) == 1)
        assert (city.receipts[0].state, "SHA-256" in city.receipts[0].reason) == ("refused", True)
        assert [path.read_bytes() for path in (city.archive.folder / "_quarantine").glob("*.mcap")] == [objects.objects["/damaged"]]
        city.announce(made, objects.put(made, "anew"))
        await city.until(lambda: len(city.receipts) == 2)
    assert city.receipts[1].state == "stored"
    assert city.archive.path("truck-14", made.announcement.segment_id).read_bytes() == made.path.read_bytes()


async def test_a_worker_outlives_the_center_unless_it_was_started_by_it(city, tls, tmp_path):
    made = Drive(tmp_path / "spool").readings(0, 10)
    stays, goes = city.start("stays"), city.start("goes", "--with-center")
    async with city.working():
        await city.until(lambda: city.desk.names == ["goes", "stays"])
    await city.until(lambda: goes.poll() is not None)
    assert (goes.returncode, stays.poll()) == (0, None)
    async with Objects(tls).serving() as objects, city.working():
        city.announce(made, objects.put(made))
        await city.until(lambda: city.receipts)
    assert city.receipts[0].state == "stored"


async def test_a_worker_that_says_nothing_any_more_loses_what_it_has_in_hand(tmp_path, maker):
    desk = Desk(tmp_path, lapse_s=0.2)
    async with desk.serving():
        with short_path(tmp_path) as path:
            reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b'{"worker": "mute", "slots": 1}\n')
        taking = asyncio.create_task(desk.take(maker.readings().announcement))
        assert msgspec.json.decode(await reader.readline())["job"] == 1
        with pytest.raises(WorkerError, match="mute was silent"):
            await taking
        assert desk.names == []
        writer.close()
    assert not (tmp_path / SOCKET_NAME).exists()


async def test_what_is_no_worker_is_cut_and_harms_nobody(tmp_path, maker):
    desk = Desk(tmp_path)
    async with desk.serving():
        for nonsense in (b"hello\n", b"[]\n", b'{"slots": 1}\n', b'{"worker": "x", "slots": "many"}\n', b"x" * 100_000):
            with short_path(tmp_path) as path:
                reader, writer = await asyncio.open_unix_connection(path)
            writer.write(nonsense)
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()
        assert desk.names == []


def test_tables_are_rebuilt_beside_a_worker_that_is_running(city, tmp_path):
    for start in (0, 10):
        keep(city.archive, Drive(tmp_path / f"spool{start}", boot=f"{start:08d}").readings(start, 10))
    city.start("one")
    deadline = time.monotonic() + 60
    while tabled(city.archive) < 20:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    command = [sys.executable, "-m", "cruisers", "center", "rebuild", "--config", str(city.config)]
    assert subprocess.run(command, capture_output=True, timeout=60).returncode == 0
    assert tabled(city.archive) == 20


def test_two_processes_have_incoming_folders_of_their_own_and_one_that_is_gone_leaves_nothing(tmp_path):
    center = Archive(tmp_path / "archive")
    worker = Archive.join(tmp_path / "archive")
    half = worker.incoming("x")
    half.write_bytes(b"half")
    assert center.incoming("x") != half
    Archive.join(tmp_path / "archive").close()
    assert half.exists(), "its process is alive"
    left = tmp_path / "archive" / "_incoming" / "1-killed"
    left.mkdir()
    (left / "x.part").write_bytes(b"half")
    Archive.join(tmp_path / "archive").close()
    assert not left.exists()
    worker.close()
    center.close()
