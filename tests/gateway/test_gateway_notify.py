"""What systemd hears: real datagrams, from the module and from the three real processes of a truck."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway import notify

ROOT = Path(__file__).resolve().parents[2]
HEARD_SECONDS = 60.0  # a machine under load starts a process slowly


class Systemd:
    """The socket's other end."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.line = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.line.bind("\0" + address[1:] if address[0] == "@" else address)
        self.line.settimeout(HEARD_SECONDS)

    def hears(self) -> str:
        return self.line.recv(4096).decode()

    def hears_all(self) -> list[str]:
        """What waits now."""
        self.line.setblocking(False)
        heard = []
        while True:
            try:
                heard.append(self.hears())
            except BlockingIOError:
                return heard


@pytest.fixture(params=["path", "abstract"])
def systemd(request, tmp_path, monkeypatch) -> Iterator[Systemd]:
    there = Systemd(str(tmp_path / "notify") if request.param == "path" else f"@cruisers-test-{os.getpid()}")
    monkeypatch.setenv("NOTIFY_SOCKET", there.address)
    yield there
    there.line.close()


def test_ready_alive_and_stopping_are_one_datagram_each(systemd):
    notify.ready()
    notify.alive()
    notify.stopping()
    assert systemd.hears_all() == ["READY=1", "WATCHDOG=1", "STOPPING=1"]


def test_an_event_loop_beats_as_long_as_it_turns_and_not_longer(systemd):
    async def main() -> None:
        async with notify.beating(0.01):
            await asyncio.sleep(0.05)
            before = len(systemd.hears_all())
            time.sleep(0.1)  # noqa: ASYNC251  a loop that hangs
            during = len(systemd.hears_all())
            await asyncio.sleep(0.05)
            assert before >= 2 and during == 0 and len(systemd.hears_all()) >= 2
        systemd.hears_all()
        await asyncio.sleep(0.05)
        assert systemd.hears_all() == []

    asyncio.run(main())


@pytest.mark.parametrize("address", ["", "nonsense", "/nowhere/notify"])
def test_where_nobody_listens_nothing_happens(address, monkeypatch):
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    notify.ready()
    monkeypatch.delenv("NOTIFY_SOCKET")
    notify.alive()


def test_a_full_socket_does_not_stop_the_process(systemd):
    for _ in range(5000):
        notify.alive()
    assert 0 < len(systemd.hears_all()) < 5000


CONFIG = """
name = "truck-1"
spool = "{0}/spool"
live_socket = "{0}/live.sock"
[hub]
domain = "cruisers.test"
host = "127.0.0.1"
port = 1
ca_file = "{0}/ca.pem"
password_file = "{0}/password"
[uplink]
network_manager = false
"""


def test_recorder_uplink_and_sweeper_say_when_they_are_ready_alive_and_stopping(tmp_path):
    for name in ("ca.pem", "password"):
        (tmp_path / name).write_text("x")
    (tmp_path / "truck.toml").write_text(CONFIG.format(tmp_path))
    running = {}
    for duty in ("recorder", "uplink", "sweeper"):
        systemd = Systemd(str(tmp_path / duty))
        command = [sys.executable, "-m", f"gateway.{duty}", str(tmp_path / "truck.toml")]
        process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "NOTIFY_SOCKET": systemd.address}
        )
        running[duty] = (process, systemd)
    try:
        for duty, (process, systemd) in running.items():
            assert (duty, systemd.hears()) == (duty, "READY=1")
            assert (duty, systemd.hears()) == (duty, "WATCHDOG=1")
            process.send_signal(signal.SIGTERM)
        for duty, (process, systemd) in running.items():
            assert (duty, process.wait(HEARD_SECONDS)) == (duty, 0)
            heard = systemd.hears_all()
            assert "STOPPING=1" in heard and set(heard) <= {"WATCHDOG=1", "STOPPING=1"}
    finally:
        for process, systemd in running.values():
            process.kill()
            process.wait()
            systemd.line.close()
