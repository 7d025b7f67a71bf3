"""The way to the hub as the doctor sees it: certificates that do not do, names, ports, the link. At a hub that runs:
tests/hub/test_hub_doctor.py, where one runs for all."""

import asyncio
import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from doctor_machine import Trees, told
from gateway_recording import truck

from fleet import doctor_hub, doctor_link
from fleet.doctor_finding import GREEN, RED, YELLOW
from hub import certificates
from sox.account import Hub as Address


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
