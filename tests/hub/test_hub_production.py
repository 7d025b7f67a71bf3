"""A city's hub for real: two ejabberd nodes on two loopback addresses, a PostgreSQL of our own, trucks and center on both."""

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from demo_runs import listening

from hub import accounts, certificates, changes
from hub.ejabberd import find_libraries
from hub.errors import HubError
from hub.production import backup, city, node
from sox.client import SoxClient, SoxError
from sox.documents import TransducerValue, data_document, parse_data
from sox.segments import STORED, Announcement, Receipt, announcement_document, receipt_document
from sox.transfer import TransferError, fetch, put_file

pytestmark = pytest.mark.timeout(600)  # the long form on a busy machine takes minutes
ROOT = Path(__file__).resolve().parents[2]
DOMAIN = "cruisers.test"
ADDRESSES = ("127.0.0.1", "127.0.0.2")
SCHEMA = Path("/usr/share/ejabberd/sql/pg.sql")
TIME = "2026-05-09T01:02:03.000000Z"
AS_OTHER = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups") if os.getuid() == 0 else ()  # postgres refuses root


def missing() -> str:
    """What of a city's software is not on this machine."""
    try:
        libraries = find_libraries()
    except HubError as error:
        return str(error)
    if not list(Path("/usr/lib/postgresql").glob("*/bin/postgres")) or shutil.which("pg_dump") is None:
        return "PostgreSQL is not installed: sudo apt-get install postgresql"
    if not [*Path("/usr/lib/erlang/lib").glob("p1_pgsql-*"), *libraries.glob("p1_pgsql-*")]:
        return "ejabberd's driver for PostgreSQL is not installed: sudo apt-get install erlang-p1-pgsql"
    return "" if SCHEMA.exists() else f"{SCHEMA} is not there"


class Postgres:
    """A PostgreSQL in a folder of its own, on loopback, by TLS and with a password."""

    password = "of-the-test"

    def __init__(self, folder: Path) -> None:
        tools = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))[-1].parent
        self.folder, self.port = folder, free_ports(1)[0]
        self.tls = certificates.ensure(folder / "tls", "database.test", "127.0.0.1")
        secret = folder / "password"
        secret.write_text(self.password, "utf-8")
        key = folder / "key.pem"
        shutil.copy(self.tls.server_key, key)
        if AS_OTHER:
            for path in (folder, secret, key):
                shutil.chown(path, "nobody", "nogroup")
        made = subprocess.run(
            [*AS_OTHER, tools / "initdb", "-D", folder / "data", "-U", "cruisers", "-A", "scram-sha-256", f"--pwfile={secret}", "-N",
             "--no-locale", "-E", "UTF8"], cwd=folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert made.returncode == 0, made.stderr
        shutil.copy(self.tls.server, folder / "server.pem")
        options = {
            "listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": "", "fsync": "off", "ssl": "on",
            "ssl_cert_file": folder / "server.pem", "ssl_key_file": key,
        }  # fmt: skip
        words = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        # PDEATHSIG: a test that is killed leaves no database behind
        self._command = ["setpriv", "--pdeathsig", "INT", *AS_OTHER[1:], tools / "postgres", "-D", folder / "data", *words]
        self.start()

    def start(self) -> None:
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(self._command, cwd=self.folder, stdout=log, stderr=log, start_new_session=True)
        until = time.monotonic() + 30
        while self.sql("postgres", "-c", "select 1", check=False).returncode:
            assert time.monotonic() < until and self.process.poll() is None, (self.folder / "log").read_text("utf-8")
            time.sleep(0.1)

    def sql(self, database: str, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["psql", "-qX", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", str(self.port), "-U", "cruisers", "-d", database, *arguments],
            env={**os.environ, "PGPASSWORD": self.password}, capture_output=True, text=True, check=check,
        )  # fmt: skip

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)  # "fast": sessions are ended
        self.process.wait(30)


class Process:
    """`python -m hub.production node` as a child."""

    def __init__(self, folder: Path, name: str, city_file: Path) -> None:
        self.home, self.ready = folder / name, folder / f"{name}.json"
        self.home.mkdir(exist_ok=True)
        options = ["--city", city_file, "--name", name, "--home", self.home, "--ready", self.ready]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "hub.production", "node", *options], cwd=ROOT, stderr=subprocess.PIPE, text=True
        )  # fmt: skip

    async def until_ready(self) -> dict:
        async with asyncio.timeout(90):
            while not self.ready.exists():
                assert self.process.poll() is None, self.process.communicate()[1]
                await asyncio.sleep(0.05)
        return json.loads(self.ready.read_text("utf-8"))

    def tell(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def stop(self) -> None:
        self.tell()
        try:
            self.process.wait(60)
        finally:
            self.process.kill()  # its ejabberd and reaper end with it
            if self.process.stderr is not None:
                self.process.stderr.close()


def free_ports(count: int) -> list[int]:
    """Ports that are free on both addresses."""
    with contextlib.ExitStack() as held:
        ports: list[int] = []
        while len(ports) < count:
            first = held.enter_context(socket.create_server((ADDRESSES[0], 0)))
            port = first.getsockname()[1]
            try:
                held.enter_context(socket.create_server((ADDRESSES[1], port)))
            except OSError:
                continue
            ports.append(port)
        return ports


class City:
    """The folder of a city, its database and its nodes."""

    def __init__(self, folder: Path, postgres: Postgres) -> None:
        self.folder, self.postgres = folder, postgres
        self.started: list[Process] = []
        (folder / "upload").mkdir()
        (folder / "password").write_text(postgres.password + "\n", "utf-8")

    def write(self, name: str, database: str, nodes: str) -> Path:
        """A city.toml; nodes "ab": a on the first address, b on the second."""
        c2s, objects, distribution, *put = free_ports(3 + len(nodes))
        text = (
            f'domain = "{DOMAIN}"\nupload_folder = "{self.folder}/upload"\nc2s_port = {c2s}\nobjects_port = {objects}\n'
            f'distribution_port = {distribution}\n[sql]\nserver = "127.0.0.1"\nport = {self.postgres.port}\ndatabase = "{database}"\n'
            f'user = "cruisers"\npassword_file = "{self.folder}/password"\nca_file = "{self.postgres.tls.ca}"\n'
        )
        for each, host, port in zip(nodes, ADDRESSES, put, strict=False):
            text += f'[[nodes]]\nname = "{each}"\nhost = "{host}"\nput_port = {port}\n'
        file = self.folder / name
        file.write_text(text, "utf-8")
        return file

    def start(self, name: str, city_file: Path) -> Process:
        self.started.append(Process(self.folder, name, city_file))
        return self.started[-1]

    @contextlib.asynccontextmanager
    async def connected(self, home: Path, user: str, host: str, port: int) -> AsyncIterator[SoxClient]:
        client = SoxClient(f"{user}@{DOMAIN}", (home / "secrets" / user).read_text("ascii"), host, port, home / "tls" / "ca.pem")
        await client.connect()
        try:
            yield client
        finally:
            await client.disconnect()


@pytest.fixture
def a_city() -> Iterator[City]:
    reason = missing()
    if reason:
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="cruisers-city-"))  # pytest's own folders are closed to the user nobody
    folder.chmod(0o755)
    place = folder / "postgres"
    place.mkdir()
    postgres = Postgres(place)
    made = City(folder, postgres)
    try:
        yield made
    finally:
        with contextlib.ExitStack() as stack:
            stack.callback(shutil.rmtree, folder)
            stack.callback(postgres.stop)
            for process in made.started:
                process.tell()
                stack.callback(process.stop)


@pytest.fixture
def domain_has_both_addresses(monkeypatch):
    """What DNS gives a city: one name with the addresses of all nodes."""
    known = socket.getaddrinfo

    def getaddrinfo(host, port, *arguments, **options):
        if host in (DOMAIN, DOMAIN.encode()):
            return [answer for address in ADDRESSES for answer in known(address, port, *arguments, **options)]
        return known(host, port, *arguments, **options)

    monkeypatch.setattr("socket.getaddrinfo", getaddrinfo)
    monkeypatch.setattr("aiohttp.connector.DefaultResolver", __import__("aiohttp").ThreadedResolver)


def document(text: str):
    return data_document([TransducerValue("text", text, None, TIME)])


def test_a_city_goes_on_when_a_node_is_killed_and_is_there_again_from_its_backup(a_city, domain_has_both_addresses):
    """One long way, because starting the servers is what takes the time. CITY_LONG=1: the killed node also comes back."""
    asyncio.run(whole_way(a_city))


async def whole_way(place: City) -> None:
    place.postgres.sql("postgres", "-c", "create database city", "-c", "create database restored")
    place.postgres.sql("city", "-f", SCHEMA)
    city_file, restored_file = place.write("city.toml", "city", "ab"), place.write("restored.toml", "restored", "c")
    given, restored = city.read(city_file), city.read(restored_file)
    home_a, home_b, home_c = (place.folder / name for name in "abc")
    home_a.mkdir()
    accounts.ensure_secrets(home_a / "secrets", ["truck-1", "truck-2"])
    node.prepare(home_a, given, given.nodes[0])
    (home_b / "tls").mkdir(parents=True)
    for name in (node.COOKIE, "tls/ca.pem", "tls/server.pem", "tls/server-key.pem"):  # what an operator copies
        shutil.copy(home_a / name, home_b / name)
    b, a = place.start("b", city_file), place.start("a", city_file)  # b waits for a
    info = await a.until_ready()
    await b.until_ready()
    served = (given.c2s_port, given.objects_port, given.nodes[0].put_port, given.distribution_port)
    assert sorted(listening(info["ejabberd_pid"])) == sorted((ADDRESSES[0], port) for port in served)
    nobody_without_our_certificate_joins(ADDRESSES[0], given.distribution_port)

    async with contextlib.AsyncExitStack() as stack:

        async def connect(user: str, host: str) -> SoxClient:
            return await stack.enter_async_context(place.connected(home_a, user, host, given.c2s_port))

        center, truck, other = (
            await connect("center", ADDRESSES[1]),
            await connect("truck-1", DOMAIN),
            await connect("truck-2", ADDRESSES[1]),
        )
        await rights_hold(truck, other)
        await what_is_said_at_one_node_is_heard_at_the_other(truck, center)
        backup.backup(given, home_a, place.folder / "first")
        await an_object_goes_after_its_receipt(place, truck, center)
        await a_revoked_truck_is_out_at_every_node(home_a, other, given.c2s_port)
        url = await an_object_put_at_one_node(place, truck, str(given.nodes[0].put_port))
        answered = await a_truck_publishes_while_its_node_is_killed(truck, center, info["ejabberd_pid"])
        assert a.process.wait(30) == 1
        assert {item_id for item_id, _ in await center.items("truck-1_segments_data")} >= answered
        await objects_go_on(place, home_a, truck, url, str(given.nodes[1].put_port))
        backup.backup(given, home_a, place.folder / "second")
        if os.environ.get("CITY_LONG"):
            await place.start("a", city_file).until_ready()
            await what_is_said_at_one_node_is_heard_at_the_other(await connect("truck-1", ADDRESSES[0]), center)
            desk_without_secrets = place.start("d", place.write("d.toml", "city", "d"))
            assert await asyncio.to_thread(desk_without_secrets.process.wait, 90) == 2
            assert "restore its backup" in desk_without_secrets.process.stderr.read()
            await truck.publish("truck-1_data", "2", document("still here"))
            await without_its_database_nothing_is_answered_and_with_it_all_goes_on(place, truck)
            await a_node_that_knows_another_cluster_does_not_serve_beside_this_one(place, city_file)

    with pytest.raises(HubError, match="not empty"):
        backup.restore(given, place.folder / "second", home_c)
    backup.restore(restored, place.folder / "second", home_c)
    shutil.copy(place.folder / "first" / "desk.tar", place.folder)  # an older backup has the truck that was revoked later
    assert "secrets/truck-2" in names_in(place.folder / "desk.tar") and not (home_c / "secrets" / "truck-2").exists()
    await place.start("c", restored_file).until_ready()
    async with place.connected(home_c, "truck-1", ADDRESSES[0], restored.c2s_port) as truck:
        await truck.publish("truck-1_data", "1", document("again"))
    async with place.connected(home_c, "center", ADDRESSES[0], restored.c2s_port) as center:
        assert {item_id for item_id, _ in await center.items("truck-1_segments_data")} >= answered
        assert [item_id for item_id, _ in await center.items("truck-1_data")] == ["1"]


def names_in(archive: Path) -> list[str]:
    with tarfile.open(archive) as opened:
        return opened.getnames()


def nobody_without_our_certificate_joins(host: str, port: int) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with contextlib.ExitStack() as stack:
        line = stack.enter_context(context.wrap_socket(stack.enter_context(socket.create_connection((host, port), 10))))
        stack.enter_context(pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"))
        line.recv(1)  # TLS 1.3: said after the client believes it is through


async def rights_hold(truck: SoxClient, other: SoxClient) -> None:
    """The same rights as on the single hub, with SQL storage."""
    for attempt, condition in (
        (other.publish("truck-1_data", "x", document("x")), "forbidden"),
        (other.items("truck-1_segments_data"), "not-allowed"),
        (other.subscribe("truck-1_data"), "not-allowed"),
        (truck.publish("truck-1_receipts_data", "x", document("x")), "forbidden"),
        (truck.create_node("mine", {}, {}), "forbidden"),
    ):
        with pytest.raises(SoxError) as caught:
            await attempt
        assert caught.value.condition == condition


async def what_is_said_at_one_node_is_heard_at_the_other(truck: SoxClient, center: SoxClient) -> None:
    heard: asyncio.Queue[tuple[str, str | None]] = asyncio.Queue()
    center.on_item(lambda name, item_id, element: heard.put_nowait((item_id, parse_data(element)[0].typed)))
    await center.subscribe("truck-1_events_data")
    for text in ("first", "second", "second again"):
        await truck.publish("truck-1_events_data", text.partition(" ")[0], document(text))
    async with asyncio.timeout(20):
        assert [await heard.get() for _ in range(3)] == [("first", "first"), ("second", "second"), ("second", "second again")]
    items = [(item_id, parse_data(element)[0].typed) for item_id, element in await center.items("truck-1_events_data")]
    assert items == [("first", "first"), ("second", "second again")]


async def an_object_goes_after_its_receipt(place: City, truck: SoxClient, center: SoxClient) -> None:
    """The desk's reaper, in the folder of all nodes, whatever node heard of it."""
    content = b"announced"
    source = place.folder / "announced"
    source.write_bytes(content)
    slot = await truck.upload_slot("announced.mcap", len(content))
    await put_file(slot, source, truck._ca_file)
    file = place.folder / "upload" / Path(*slot.get.split("/")[-3:])
    assert file.read_bytes() == content
    segment_id = "truck-1-0000abcd-0000ef01-000001-readings"
    digest = hashlib.sha256(content).hexdigest()
    said = Announcement(segment_id, slot.get, len(content), digest, "readings", 1, 2, 0, 0, "truck-1")
    await truck.publish("truck-1_segments_data", segment_id, announcement_document(said))
    await center.publish("truck-1_receipts_data", segment_id, receipt_document(Receipt(segment_id, STORED, digest, len(content), ""), 0))
    async with asyncio.timeout(60):
        while file.exists():  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def an_object_put_at_one_node(place: City, truck: SoxClient, port: str) -> str:
    source = place.folder / "object"
    source.write_bytes(b"of the first node")
    slot = await truck.upload_slot("object.mcap", 17)
    assert f"//{DOMAIN}:{port}/" in slot.put
    await put_file(slot, source, truck._ca_file)
    return slot.get


async def a_truck_publishes_while_its_node_is_killed(truck: SoxClient, center: SoxClient, ejabberd_pid: int) -> set[str]:
    """What was answered; the truck reconnects to the same name, and only what was not answered is published again."""
    heard: set[str] = set()
    center.on_item(lambda name, item_id, element: heard.add(item_id))
    await center.subscribe("truck-1_segments_data")
    answered: list[str] = []
    ends = 0
    while len(answered) < 120:
        if len(answered) == 60 and not ends:
            os.kill(ejabberd_pid, signal.SIGKILL)
        try:
            if not truck.connected:
                await truck.connect()
            await truck.publish("truck-1_segments_data", f"n{len(answered)}", document("x"))
        except SoxError as error:
            assert error.condition in ("disconnected", "refused", "timeout"), error
            ends += 1
            assert ends < 100
            await asyncio.sleep(0.1)
        else:
            answered.append(f"n{len(answered)}")
    assert ends >= 1
    async with asyncio.timeout(20):
        while not heard >= set(answered[61:]):  # noqa: ASYNC110 # the center's own node lived: it hears the truck at its new place
            await asyncio.sleep(0.05)
    return set(answered)


async def without_its_database_nothing_is_answered_and_with_it_all_goes_on(place: City, truck: SoxClient) -> None:
    place.postgres.stop()
    with pytest.raises(SoxError) as caught:
        await truck.publish("truck-1_data", "3", document("lost?"))
    print(f"without PostgreSQL: {caught.value}")
    place.postgres.start()
    began = time.monotonic()
    async with asyncio.timeout(90):
        while True:
            try:
                if not truck.connected:
                    await truck.connect()
                await truck.publish("truck-1_data", "4", document("back"))
                break
            except SoxError:
                await asyncio.sleep(0.2)
    print(f"with PostgreSQL again: published after {time.monotonic() - began:.1f} s")
    assert [item_id for item_id, _ in await truck.items("truck-1_data")] == ["4"]


async def a_node_that_knows_another_cluster_does_not_serve_beside_this_one(place: City, city_file: Path) -> None:
    for process in place.started:
        process.tell()
    for process in place.started:
        await asyncio.to_thread(process.stop)
    shutil.rmtree(place.folder / "a" / "db")  # as after a restore
    await place.start("a", city_file).until_ready()
    stranger = place.start("b", city_file)
    assert await asyncio.to_thread(stranger.process.wait, 90) == 2
    assert "remove db/" in stranger.process.stderr.read()
    shutil.rmtree(place.folder / "b" / "db")
    await place.start("b", city_file).until_ready()


async def objects_go_on(place: City, home: Path, truck: SoxClient, url: str, port: str) -> None:
    """What the dead node took is given by the other, and new slots are the other's."""
    await fetch(url, home / "tls" / "ca.pem", place.folder / "fetched", 17)
    assert (place.folder / "fetched").read_bytes() == b"of the first node"
    slot = await truck.upload_slot("object.mcap", 17)
    assert f"//{DOMAIN}:{port}/" in slot.put
    await put_file(slot, place.folder / "object", home / "tls" / "ca.pem")
    foreign = slot._replace(put=slot.put.replace(slot.put.split("/")[-2], "s" * 40))
    with pytest.raises(TransferError):
        await put_file(foreign, place.folder / "object", home / "tls" / "ca.pem")


async def a_revoked_truck_is_out_at_every_node(home: Path, truck: SoxClient, port: int) -> None:
    """Revoked at the desk, connected at the other node."""
    password = (home / "secrets" / "truck-2").read_text("ascii")
    assert truck.connected
    assert await changes.revoke(home, "truck-2")
    async with asyncio.timeout(20):
        while truck.connected:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    for host in ADDRESSES:
        client = SoxClient(f"truck-2@{DOMAIN}", password, host, port, home / "tls" / "ca.pem")
        with pytest.raises(SoxError) as caught:
            await client.connect()
        assert caught.value.condition == "not-authorized"
