"""The doctor at a real hub (ejabberd): what a truck may do there is found without publishing anything; and certificates that do not do."""

import asyncio
import json
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from doctor_machine import Trees, told
from gateway_recording import truck

from fleet import doctor_hub, doctor_link
from fleet.doctor_finding import GREEN, RED, YELLOW
from gateway.config import Truck
from hub import certificates
from sox.account import Hub as Address
from sox.client import SoxClient
from sox.nodes import channel, data

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 60.0
TRUCKS = ("doctor-well", "doctor-poor")

pytestmark = pytest.mark.timeout(120)


class Hub:
    """`python -m hub serve` as a child; `info` is its ready file."""

    def __init__(self, folder: Path) -> None:
        ready = folder / "hub.json"
        files = ["--home", str(folder / "hub"), "--ready", str(ready), "--trucks", ",".join(TRUCKS), "--no-reaper"]
        self.process = subprocess.Popen([sys.executable, "-m", "hub", "serve", *files], cwd=ROOT, stderr=subprocess.PIPE, text=True)
        until = time.monotonic() + START_SECONDS
        while not ready.exists():
            if self.process.poll() is not None or time.monotonic() > until:
                self.process.kill()
                pytest.fail(f"the hub did not start: {self.process.communicate()[1]}")
            time.sleep(0.05)
        self.info: dict[str, Any] = json.loads(ready.read_text("utf-8"))

    def client(self, user: str) -> SoxClient:
        password = Path(self.info["secrets"], user).read_text("ascii").strip()
        return SoxClient(f"{user}@{self.info['domain']}", password, self.info["host"], self.info["c2s_port"], self.info["ca_file"])

    def truck(self, name: str, folder: Path, **changes: Any) -> Truck:
        """A truck whose hub this is."""
        password = folder / "hub.password"
        password.write_text(Path(self.info["secrets"], name).read_text("ascii"))
        password.chmod(0o600)
        address = Address(self.info["domain"], self.info["host"], self.info["c2s_port"], self.info["ca_file"], str(password))
        return msgspec.structs.replace(truck(folder), name=name, hub=msgspec.structs.replace(address, **changes))


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    if shutil.which("erl") is None:
        pytest.skip("ejabberd is not installed")
    hub = Hub(tmp_path_factory.mktemp("hub"))
    yield hub
    hub.process.send_signal(signal.SIGTERM)
    hub.process.communicate(timeout=30)


def findings(config: Truck, folder: Path) -> dict[str, str]:
    return told(doctor_hub.check(Trees(folder / "machine").visit(config)))


def test_a_truck_with_all_its_rights_is_green_and_publishes_nothing(hub: Hub, tmp_path: Path) -> None:
    before = asyncio.run(items(hub, TRUCKS[0]))
    assert findings(hub.truck(TRUCKS[0], tmp_path), tmp_path) == {
        "hub_certificate": GREEN, "hub_logged_in": GREEN, "hub_rights": GREEN, "hub_reads": GREEN, "hub_takes": GREEN,
    }  # fmt: skip
    assert asyncio.run(items(hub, TRUCKS[0])) == before


async def items(hub: Hub, name: str) -> list[Any]:
    """What stands on the truck's nodes."""
    center = hub.client("center")
    await center.connect()
    try:
        return [[item_id for item_id, _ in await center.items(node)] for node in (data(name), data(channel(name, "segments")))]
    finally:
        await center.disconnect()


def test_rights_that_were_taken_are_named(hub: Hub, tmp_path: Path) -> None:
    name = TRUCKS[1]

    async def take() -> None:
        admin = hub.client("admin")
        await admin.connect()
        try:
            for node in (data(name), data(channel(name, "receipts"))):
                await admin.set_affiliations(node, {f"{name}@{hub.info['domain']}": "none"})
        finally:
            await admin.disconnect()

    asyncio.run(take())
    config = hub.truck(name, tmp_path)
    found = doctor_hub.check(Trees(tmp_path / "machine").visit(config))
    assert told(found)["hub_rights_lack"] == RED and told(found)["hub_reads_not"] == RED
    lacking = next(finding for finding in found if finding.saw.key == "hub_rights_lack").saw.values
    assert lacking["names"] == f"{data(name)}, {data(channel(name, 'receipts'))}" and lacking["count"] == 2


def test_a_wrong_password_a_lost_file_and_an_open_file_are_told(hub: Hub, tmp_path: Path) -> None:
    config = hub.truck(TRUCKS[0], tmp_path)
    password = Path(config.hub.password_file)
    password.chmod(0o644)
    assert findings(config, tmp_path)["hub_password_open"] == YELLOW
    password.write_text("not this one")
    assert findings(config, tmp_path)["hub_login"] == RED
    password.unlink()
    assert findings(config, tmp_path) == {"hub_certificate": GREEN, "hub_no_password": RED}


def test_another_authority_and_another_domain_are_not_trusted(hub: Hub, tmp_path: Path) -> None:
    other = certificates.ensure(tmp_path / "tls", "hub.test", "127.0.0.1")
    assert findings(hub.truck(TRUCKS[0], tmp_path, ca_file=str(other.ca)), tmp_path) == {"hub_untrusted": RED}
    assert findings(hub.truck(TRUCKS[0], tmp_path, domain="example.com"), tmp_path) in ({"hub_untrusted": RED}, {"hub_no_tls": RED})
    assert findings(hub.truck(TRUCKS[0], tmp_path, ca_file=str(tmp_path / "none.pem")), tmp_path) == {"hub_ca_file": RED}


class Front:
    """The first words of XMPP and a certificate, for one connection: what is shown before anybody logs in."""

    def __init__(self, files: certificates.Files) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(files.server, files.server_key)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.listener.getsockname()[1])
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self) -> None:
        connection, _ = self.listener.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(b"<stream:stream><stream:features><starttls/></stream:features>")
            connection.recv(4096)
            connection.sendall(b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
            try:
                with self.context.wrap_socket(connection, server_side=True) as secured:
                    secured.recv(1)
            except OSError:  # who does not trust the certificate hangs up
                return

    def close(self) -> None:
        self.thread.join(10)
        self.listener.close()


@pytest.mark.parametrize(
    ("days_ago", "key", "colour"),
    [
        (0, "hub_certificate", GREEN),
        (390, "hub_certificate", YELLOW),
        (395, "hub_certificate", RED),
        (400, "hub_untrusted", RED),
        (-9, "hub_untrusted", RED),
    ],
)
def test_a_certificate_is_told_before_it_ends_and_when_it_has_ended(tmp_path: Path, days_ago: int, key: str, colour: str) -> None:
    files = certificates.ensure(tmp_path / "tls", "hub.test", "127.0.0.1", datetime.now(UTC) - timedelta(days=days_ago))
    front = Front(files)
    found, reached = asyncio.run(doctor_hub.reach(Address("hub.test", "127.0.0.1", front.port, str(files.ca), "")))
    front.close()
    assert told(found) == {key: colour} and reached == (key == "hub_certificate")
    if days_ago in (400, -9):
        assert found[0].do is not None and found[0].do.key == {400: "do_certificate_expired", -9: "do_certificate_clock"}[days_ago]


def test_no_name_no_port_and_no_xmpp_are_told_apart(tmp_path: Path) -> None:
    files = certificates.ensure(tmp_path / "tls", "hub.test", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = int(silent.getsockname()[1])

        def hang_up() -> None:
            connection, _ = silent.accept()
            connection.recv(4096)
            connection.close()

        thread = threading.Thread(target=hang_up, daemon=True)
        thread.start()
        assert told(asyncio.run(doctor_hub.reach(Address("hub.test", "127.0.0.1", port, str(files.ca), "")))[0]) == {"hub_no_tls": RED}
        thread.join(10)
    assert told(asyncio.run(doctor_hub.reach(Address("hub.test", "127.0.0.1", port, str(files.ca), "")))[0]) == {"hub_refused": RED}
    assert told(asyncio.run(doctor_hub.reach(Address("hub.test", "no.such.invalid", port, str(files.ca), "")))[0]) == {"hub_no_name": RED}


def test_the_link_is_found_by_the_uplinks_own_rules_where_none_runs(tmp_path: Path) -> None:
    config = truck(tmp_path)
    rules = [{"link": "metered", "interface": "l*", "monthly_bytes": 5}]
    uplink = msgspec.convert({"rules": rules, "network_manager": False}, type(config.uplink))
    trees = Trees(tmp_path / "machine")
    found = doctor_link.check(trees.visit(msgspec.structs.replace(config, uplink=uplink)))
    assert told(found) == {"link_waiting": GREEN}
    assert found[0].saw.values["interface"] == "lo" and found[0].saw.values["waiting"] == "images"


def test_the_link_of_a_running_uplink_is_what_its_status_says(tmp_path: Path) -> None:
    link = {"interface": "wwan0", "class": "metered", "why": "rule 2", "allows": [], "budget_bytes": 5, "budget_used_bytes": 6}
    assert told([doctor_link.judged(link)]) == {"link_spent": YELLOW}
    assert told([doctor_link.judged({"interface": None, "why": "no way to hub.test"})]) == {"link_none": RED}
    allowed = ["packed", "readings", "requested", "images"]
    assert told([doctor_link.judged(link | {"budget_bytes": None, "class": "depot", "allows": allowed})]) == {"link_is": GREEN}
