"""The bridge between the real hub (ejabberd) and a real broker (mosquitto), with a client of MQTT 3.1.1 as Keio's are."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import paho.mqtt.client
import pytest
from typer.testing import CliRunner

from cruisers.__main__ import app
from logbook.quantities import TABLE
from sox import nodes
from sox.account import Hub
from sox.bridge import Bridge
from sox.bridge_config import ConfigError, File, Lists, Ways, address, ways
from sox.bridge_queue import Waiting
from sox.client import SoxClient
from sox.documents import TransducerValue, data_document, device_document, parse_data, parse_device, xep0082
from sox.mqtt_session import Broker, BrokerError, Session

pytestmark = pytest.mark.timeout(90)
mqtt: Any = paho.mqtt.client
ROOT = Path(__file__).resolve().parents[2]
JST = ZoneInfo("Asia/Tokyo")
NOON = 1_512_529_200_000_000_000
TIME = "2017-12-06 12:00:00.000000"


class Mosquitto:
    """A broker on a free port of loopback with its own folder; started again it has the same port and what it wrote to disk."""

    def __init__(self, folder: Path, *settings: str) -> None:
        folder.mkdir()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._config = folder / "mosquitto.conf"
        user = ["user root"] if os.getuid() == 0 else []  # else it becomes `mosquitto`, who may not write here
        own = [f"listener {self.port} 127.0.0.1", "persistence true", f"persistence_location {folder}/", *user]
        self._config.write_text("\n".join([*own, *(settings or ["allow_anonymous true"])]) + "\n")
        self._log = folder / "log"
        self.start()

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(["mosquitto", "-c", str(self._config)], stdout=log, stderr=log)
        until = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert self.process.poll() is None and time.monotonic() < until, self._log.read_text()
                time.sleep(0.02)

    def stop(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)
        self.process.wait(20)


class Keio:
    """A client of MQTT 3.1.1 that hears every topic and publishes as sox_mqtt does."""

    def __init__(self, port: int) -> None:
        self.heard: list[tuple[str, Any, bool]] = []
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv311)
        self._client.on_message = lambda client, data, message: self._hear(message)
        self._client.on_connect = lambda client, *rest: client.subscribe("#", 2)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def publish(self, topic: str, payload: object) -> None:
        text = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        self._client.publish(topic, text, 2, retain=True).wait_for_publish(20)

    def _hear(self, message: Any) -> None:
        with contextlib.suppress(ValueError):  # what the tests publish as no JSON
            self.heard.append((message.topic, json.loads(message.payload), message.retain))

    def newest(self, topic: str) -> Any:
        return next((payload for found, payload, _ in reversed(self.heard) if found == topic), None)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


async def until(condition: Callable[[], object], seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  other processes' doings have no event
            await asyncio.sleep(0.02)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    if shutil.which("mosquitto") is None:
        pytest.skip("mosquitto is not installed")
    running = Mosquitto(tmp_path_factory.mktemp("broker") / "mosquitto")
    yield running
    running.stop()


@pytest.fixture
def start_broker(tmp_path: Path) -> Iterator[Callable[..., Mosquitto]]:
    """Start a broker of the test's own; it is stopped at the end if it still runs."""
    started: list[Mosquitto] = []

    def start(*settings: str) -> Mosquitto:
        started.append(Mosquitto(tmp_path / "mosquitto", *settings))
        return started[-1]

    yield start
    for own in started:
        if own.process.poll() is None:
            own.stop()


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The ready file of a hub with the trucks truck-1 and bridge, whose account the bridge has."""
    if shutil.which("erl") is None:
        pytest.skip("ejabberd is not installed")
    folder = tmp_path_factory.mktemp("hub")
    ready = folder / "hub.json"
    command = [sys.executable, "-m", "hub", "serve", "--home", str(folder / "hub"), "--ready", str(ready), "--trucks", "truck-1,bridge"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    limit = time.monotonic() + 60
    while not ready.exists():
        if process.poll() is not None or time.monotonic() > limit:
            process.kill()
            pytest.fail(f"the hub did not start: {process.communicate()[1]}")
        time.sleep(0.05)
    info = json.loads(ready.read_text("utf-8"))
    asyncio.run(_prepare(info))
    yield info
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)


def account(info: dict[str, Any], user: str) -> Hub:
    return Hub(info["domain"], info["host"], info["c2s_port"], info["ca_file"], str(Path(info["secrets"], user)))


async def _prepare(info: dict[str, Any]) -> None:
    """The bridge reads truck-1, and reads and writes the weather hut; `closed` exists and is not for it."""
    admin = account(info, "admin").client("admin")
    await admin.connect()
    config = {"access_model": "whitelist", "publish_model": "publishers", "max_items": 1, "persist_items": True, "deliver_payloads": True}
    bridge = f"bridge@{info['domain']}"
    for kind in (nodes.meta, nodes.data):
        await admin.set_affiliations(kind("truck-1"), {bridge: "member"})
        await admin.create_node(kind("hut"), config, {bridge: "publisher", f"center@{info['domain']}": "member"})
        await admin.create_node(kind("closed"), config, {})
    await admin.disconnect()


class Running:
    """A bridge at work; those that still run at the end of a test are stopped."""

    all: "list[Running]" = []

    def __init__(self, hub: dict[str, Any], broker: Broker, to_mqtt: list[str], to_sox: list[str], most: int = 100) -> None:
        self.bridge = Bridge(account(hub, "bridge"), "bridge", broker, to_mqtt, to_sox, JST, most, back_off_first=0.1)
        self._task = asyncio.create_task(self.bridge.run())
        Running.all.append(self)

    async def connected(self) -> "Running":
        await until(lambda: not any(self.bridge.problems.values()))
        return self

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


@pytest.fixture(autouse=True)
async def stopped() -> AsyncIterator[None]:
    yield
    for running in Running.all:
        await running.stop()
    Running.all.clear()


@pytest.fixture
async def truck(hub: dict[str, Any]) -> AsyncIterator[SoxClient]:
    client = account(hub, "truck-1").client("truck-1")
    await client.connect()
    yield client
    await client.disconnect()


@pytest.fixture
def keio(broker: Mosquitto) -> Iterator[Keio]:
    client = Keio(broker.port)
    yield client
    client.close()


def values(**typed: str) -> Any:
    return data_document([TransducerValue(name, text, None, xep0082(NOON)) for name, text in typed.items()])


def keios(**raw: object) -> dict[str, Any]:
    return {name: {"raw_value": value, "publish_timestamp": TIME} for name, value in raw.items()}


async def test_a_truck_appears_on_the_broker_and_a_device_of_the_broker_on_the_hub(
    hub: dict[str, Any], broker: Mosquitto, keio: Keio, truck: SoxClient
) -> None:
    await truck.publish(nodes.meta("truck-1"), "1", device_document("truck-1", TABLE, name="Truck 1"))
    await truck.publish(nodes.data("truck-1"), "1", values(pressure="1013.25"))
    running = await Running(hub, Broker("127.0.0.1", broker.port), ["truck-1", "nowhere"], ["hut", "closed"]).connected()
    center = account(hub, "center").client("center")
    await center.connect()
    got: list[tuple[str, str, Any]] = []
    center.on_item(lambda node, item_id, element: got.append((node, item_id, element)))
    for node in (nodes.meta("hut"), nodes.data("hut")):
        await center.subscribe(node)

    await until(lambda: keio.newest("truck-1") and keio.newest("truck-1_meta"))
    scale = {quantity.id: quantity.sox_scaler for quantity in TABLE}["pressure"]
    assert keio.newest("truck-1") == keios(pressure=pytest.approx(1013.25 * 10.0**scale))
    assert keio.newest("truck-1_meta")["descrption"] == "Truck 1" and len(keio.newest("truck-1_meta")["transducers"]) == len(TABLE)
    await truck.publish(nodes.data("truck-1"), "2", values(pressure="1014"))
    await until(lambda: keio.newest("truck-1") == keios(pressure=1014 * 10**scale))

    keio.publish(
        "hut_meta", {"transducers": {"temp": {"unit": "℃", "min_value": -40, "max_value": 60, "description": "air"}}, "descrption": "hut"}
    )
    keio.publish("hut", keios(temp=21.5))
    keio.publish("hut", b"{no json")
    keio.publish("hut", {"temp": {"raw_value": 1}})
    keio.publish("closed", keios(temp=1))
    keio.publish("other", keios(temp=1))
    await until(lambda: running.bridge.counts["refused"] >= 2 and running.bridge.counts["unreadable"] == 1 and len(got) == 2)
    assert [(node, item_id[:5]) for node, item_id, _ in got] == [(nodes.meta("hut"), "mqtt-"), (nodes.data("hut"), "mqtt-")]
    assert [(t.id, t.units) for t in parse_device(got[0][2]).transducers] == [("temp", "℃")]
    assert parse_data(got[1][2]) == [TransducerValue("temp", "21.5", "21.5", xep0082(NOON))]
    status = running.bridge.status()
    assert status["to_sox"] == 2 and status["values_left_out"] == 1 and status["dropped_to_sox"] == status["waiting_to_sox"] == 0
    assert "broker, hut: no JSON" in status["last"]["unreadable"] and "closed" in status["last"]["refused"]
    await center.disconnect()
    await running.stop()
    late = Keio(broker.port)
    await until(lambda: late.newest("truck-1") and late.newest("truck-1_meta"))
    assert all(retained for topic, _, retained in late.heard if topic.startswith("truck-1"))
    late.close()


async def test_what_the_bridge_wrote_it_does_not_bring_back_also_after_a_restart(
    hub: dict[str, Any], broker: Mosquitto, keio: Keio
) -> None:
    where = Broker("127.0.0.1", broker.port)
    other = account(hub, "bridge").client("bridge")  # another program of the same account: it gets what the bridge gets
    await other.connect()
    on_hub: list[str] = []
    ids: set[str] = set()

    def told(node: str, item_id: str, element: Any) -> None:
        if node == nodes.data("hut") and item_id not in ids:  # each subscription has the newest item delivered again
            ids.add(item_id)
            on_hub.append(parse_data(element)[0].typed or "")

    other.on_item(told)
    first = await Running(hub, where, ["hut"], ["hut"]).connected()
    keio.publish("hut", keios(temp="from mqtt"))
    await until(lambda: "from mqtt" in on_hub)
    await other.publish(nodes.data("hut"), "set-1", values(heat="from the hub"))
    await until(lambda: keio.newest("hut") == keios(heat="from the hub"))
    keio.publish("hut", keios(temp="last"))
    await until(lambda: on_hub[-1:] == ["last"])
    assert [text for text in on_hub if text == "from the hub"] == ["from the hub"], "it did not come back over MQTT"
    assert len([1 for topic, payload, _ in keio.heard if topic == "hut" and "temp" in payload]) <= 3, "two, and one retained from before"
    await first.stop()

    await other.publish(nodes.data("hut"), "set-2", values(heat="again"))  # now the hub retains its own, the broker what came from it
    second = await Running(hub, where, ["hut"], ["hut"]).connected()
    await until(lambda: keio.newest("hut") == keios(heat="again") and on_hub[-1] == "last")
    await second.stop()  # each side has what the other had
    heard, seen = len(keio.heard), len(on_hub)
    third = await Running(hub, where, ["hut"], ["hut"]).connected()
    await until(lambda: third.bridge.counts["echoes"] >= 2)
    keio.publish("hut", keios(temp="end"))
    await until(lambda: on_hub[-1:] == ["end"] and keio.newest("hut") == keios(temp="end"))
    assert on_hub[seen:] == ["end"], "what the broker retained of ours was known by its origin"
    assert [payload for topic, payload, _ in keio.heard[heard:] if topic == "hut"] == [keios(temp="end")]
    await third.stop()
    await other.disconnect()


async def test_a_broker_that_is_killed_gets_everything_again_when_it_is_back(
    hub: dict[str, Any], truck: SoxClient, start_broker: Callable[..., Mosquitto]
) -> None:
    await truck.publish(nodes.meta("truck-1"), "9", device_document("truck-1", TABLE, name="Truck 1"))
    own = start_broker()
    running = await Running(hub, Broker("127.0.0.1", own.port), ["truck-1"], [], most=5).connected()
    await truck.publish(nodes.data("truck-1"), "10", values(seen="0"))
    await until(lambda: running.bridge.counts["to_mqtt"] >= 1 and not running.bridge.status()["waiting_to_mqtt"])
    own.stop(signal.SIGKILL)
    await until(lambda: running.bridge.problems["broker"])
    for number in range(1, 13):
        await truck.publish(nodes.data("truck-1"), f"1{number}", values(seen=str(number)))
    await until(lambda: running.bridge.status()["dropped_to_mqtt"] >= 7)
    assert running.bridge.status()["waiting_to_mqtt"] == 5
    own.start()  # SIGKILL: what it retained in memory is gone
    late = Keio(own.port)
    await until(lambda: late.newest("truck-1") == keios(seen=12) and late.newest("truck-1_meta"))
    await until(lambda: running.bridge.problems["broker"] is None and not running.bridge.status()["waiting_to_mqtt"])
    seen = [payload["seen"]["raw_value"] for topic, payload, _ in late.heard if topic == "truck-1"]
    assert seen == sorted(seen), "in order"
    late.close()


async def test_a_hub_that_refuses_is_told_and_tried_again_while_the_broker_is_heard(
    hub: dict[str, Any], broker: Mosquitto, keio: Keio, truck: SoxClient, tmp_path: Path
) -> None:
    await truck.publish(nodes.data("truck-1"), "7", values(seen="1"))
    password = tmp_path / "password"
    password.write_text("guess")
    wrong = {**hub, "secrets": str(tmp_path)}
    (tmp_path / "bridge").symlink_to(password)
    running = Running(wrong, Broker("127.0.0.1", broker.port), ["truck-1"], ["hut"])
    await until(lambda: running.bridge.problems["broker"] is None and "not-authorized" in str(running.bridge.problems["hub"]))
    keio.publish("hut", keios(temp="while the hub was away"))
    await until(lambda: running.bridge.status()["waiting_to_sox"] >= 1)
    await asyncio.to_thread(shutil.copy, Path(hub["secrets"], "bridge"), password)
    await running.connected()
    await until(lambda: running.bridge.counts["to_mqtt"] >= 1 and not running.bridge.status()["waiting_to_sox"])
    center = account(hub, "center").client("center")
    await center.connect()
    assert parse_data((await center.items(nodes.data("hut")))[-1][1])[0].typed == "while the hub was away"
    await center.disconnect()


async def test_a_broker_with_tls_and_passwords_is_logged_in_to_and_a_wrong_one_is_told(
    hub: dict[str, Any], start_broker: Callable[..., Mosquitto], tmp_path: Path
) -> None:
    tls = Path(hub["ca_file"]).parent
    passwords = tmp_path / "passwords"
    making = ["mosquitto_passwd", "-b", "-c", str(passwords), "bridge", "secret"]
    await asyncio.to_thread(subprocess.run, making, check=True, capture_output=True)
    broker = start_broker(
        "allow_anonymous false", f"password_file {passwords}", f"certfile {tls / 'server.pem'}", f"keyfile {tls / 'server-key.pem'}"
    )
    (tmp_path / "password").write_text("secret\n")
    (tmp_path / "wrong").write_text("guess\n")
    (tmp_path / "ca.pem").write_bytes(b"")

    async def tried(ca: Path | None, password: str | None) -> str:
        file = tmp_path / password if password else None
        session = Session(Broker("127.0.0.1", broker.port, ca, "bridge" if password else None, file), "test", lambda arrived: None)
        try:
            await session.open()
            await session.publish("truck-1", "{}")
            return "taken"
        except BrokerError as error:
            return error.condition
        finally:
            await session.close()

    ca = Path(hub["ca_file"])
    assert await tried(ca, "password") == "taken"
    assert await tried(ca, "wrong") == "not-authorized" == await tried(ca, None)
    system = Path("/etc/ssl/certs/ca-certificates.crt")
    if system.exists():  # noqa: ASYNC240
        assert await tried(system, "password") == "certificate"
    assert await tried(None, "password") in ("disconnected", "timeout", "refused"), "in the clear to a port of TLS"
    broker.stop()
    assert await tried(ca, "password") == "refused"


async def test_the_command_bridges_until_it_is_told_to_end_and_says_what_it_did(
    hub: dict[str, Any], broker: Mosquitto, keio: Keio, tmp_path: Path
) -> None:
    config = tmp_path / "center.toml"
    config.write_text(
        f'archive = "/srv/x"\ntrucks = ["truck-1"]\n[hub]\ndomain = "{hub["domain"]}"\nhost = "{hub["host"]}"\nport = {hub["c2s_port"]}\n'
        f'ca_file = "{hub["ca_file"]}"\npassword_file = "{Path(hub["secrets"], "bridge")}"\nuser = "bridge"\nupload_hosts = []\n'
    )
    command = ["bridge", "mqtt", "--hub-config", str(config), "--broker", f"127.0.0.1:{broker.port}", "--trucks", "hut", "--to", "sox"]
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "cruisers", *command, cwd=ROOT, stdout=subprocess.PIPE)
    center = account(hub, "center").client("center")
    await center.connect()
    got: list[str] = []
    center.on_item(lambda node, item_id, element: got.extend(value.typed or "" for value in parse_data(element)))
    await center.subscribe(nodes.data("hut"))
    keio.publish("hut", keios(temp="by the command"))
    await until(lambda: "by the command" in got)
    process.send_signal(signal.SIGTERM)
    out, _ = await asyncio.wait_for(process.communicate(), 20)
    lines = out.decode().splitlines()
    assert process.returncode == 0 and lines[0].split() == ["to", "MQTT", "to", "SoX"] and lines[1].startswith("bridged"), lines
    assert max(map(len, lines)) <= 80
    await center.disconnect()


# -- without a broker


async def test_a_full_queue_lets_the_oldest_go_and_counts_it_and_keeps_what_is_not_done() -> None:
    waiting: Waiting[list[int]] = Waiting(2)
    entries = [[1], [2], [3]]
    for entry in entries:
        waiting.put(entry)
    assert waiting.dropped == 1 and await waiting.heads(9) == [[2], [3]] == await waiting.heads(9)
    waiting.done(entries[0])
    waiting.done(entries[1])
    assert entries[2] in waiting and [3] not in waiting and len(waiting) == 1
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            waiting.done(entries[2])
            await waiting.heads(1)


def test_what_goes_where_is_said_by_the_command_or_the_file() -> None:
    file = File(hub=None, trucks=["a"])  # type: ignore[arg-type]
    assert ways(file, [], None) == Ways(["a"], []) == ways(file, [], "mqtt")
    assert ways(file, ["b"], "both") == Ways(["b"], ["b"]) and ways(file, ["b"], "sox") == Ways([], ["b"])
    listed = File(hub=None, trucks=["a"], bridge=Lists(["c"], ["d"]))  # type: ignore[arg-type]
    assert ways(listed, [], None) == Ways(["c"], ["d"]) and ways(listed, ["b"], None) == Ways(["b"], [])
    for name in ("a/#", "+", "$SYS", "x" * 70_000):
        with pytest.raises(ConfigError, match="MQTT topic"):
            ways(file, [name], None)
    with pytest.raises(ConfigError, match="no devices"):
        ways(File(hub=None), [], None)  # type: ignore[arg-type]
    assert [address(text, False) for text in ("h", "h:99", "[::1]:99", "::1")] == [("h", 1883), ("h", 99), ("::1", 99), ("::1", 1883)]
    assert address("h", True) == ("h", 8883)
    for text in ("", ":99", "h:x", "h:0", "h:70000"):
        with pytest.raises(ConfigError, match="HOST"):
            address(text, False)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--zone", "Mars/Olympus"], "no time zone"),
        (["--broker", "h:x"], "HOST:PORT"),
        (["--trucks", "a/#"], "MQTT topic"),
        (["--broker-ca", "/nowhere.pem"], "/nowhere.pem: No such file"),
        (["--hub-config", "/nowhere.toml"], "/nowhere.toml: No such file"),
        (["--broker-password-file", "/dev/null"], "goes with --broker-user"),
    ],
)
def test_what_the_command_cannot_do_is_one_line_and_exit_code_2(tmp_path: Path, arguments: list[str], words: str) -> None:
    config = tmp_path / "hub.toml"
    config.write_text(
        'trucks = ["truck-1"]\n[hub]\ndomain = "hub.test"\nhost = "127.0.0.1"\nport = 1\n'
        'ca_file = "/dev/null"\npassword_file = "/dev/null"\n'
    )
    given = ["bridge", "mqtt", "--hub-config", str(config), "--broker", "127.0.0.1", *arguments]
    result = CliRunner().invoke(app, given)
    assert result.exit_code == 2 and words in result.stderr and result.stderr.count("\n") == 1, result.stderr
