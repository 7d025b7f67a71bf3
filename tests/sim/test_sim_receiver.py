"""The simulated receiver against the real gpsd: what goes in as a world comes out as a TPV."""

import fcntl
import json
import math
import os
import shutil
import socket
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import serial
from gateway_recording import wait_for

from sim.chips.neo_m9n import BAUDRATE, NMEA_OUT, PVT_OUT, VALSET
from sim.chips.ubx import nav_pvt, nmea, ubx
from sim.clock import Clock
from sim.receiver import QUANTITIES, UNREAD_LIMIT, Receiver, ReceiverError, garbled
from sim.world import World

GPSD = shutil.which("gpsd", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
START_UTC_NS = 1_790_000_000_250_000_000  # not on a whole second, so that the alignment of the epochs shows
Fix = tuple[int, dict[str, float]]

pytestmark = pytest.mark.timeout(60)


class TestMessage:
    def test_poll_frame_equals_the_published_bytes(self) -> None:
        # NAV-PVT poll and MON-VER poll as in SparkFun's and pyubx2's sources
        assert ubx(0x0107) == bytes.fromhex("b562010700000819")
        assert ubx(0x0A04) == bytes.fromhex("b5620a0400000e34")

    def test_fields_lie_where_the_protocol_puts_them(self) -> None:
        values = {
            "latitude": -35.12345678,
            "longitude": 139.4912349,
            "altitude": 12.3456,
            "speed": 5.1234,
            "bearing": math.radians(359.999999),
        }
        frame = nav_pvt(1_638_617_699_000_000_000 + 5, values)  # 2021-12-04 11:34:59
        payload = frame[6:-2]
        assert len(payload) == 92
        assert int.from_bytes(payload[4:6], "little") == 2021
        assert tuple(payload[6:11]) == (12, 4, 11, 34, 59)
        assert int.from_bytes(payload[0:4], "little") == ((5 * 24 + 24 + 11) * 3600 + 34 * 60 + 59 + 18) * 1000  # Saturday, +18 s
        assert int.from_bytes(payload[28:32], "little", signed=True) == -351234568
        assert int.from_bytes(payload[24:28], "little", signed=True) == 1394912349
        assert int.from_bytes(payload[36:40], "little", signed=True) == 12346
        assert int.from_bytes(payload[60:64], "little") == 5123
        assert int.from_bytes(payload[64:68], "little") == 0  # 359.999999° rounds to 360°, which is 0°

    def test_a_time_beside_the_hundredth_has_a_nano_of_either_sign(self) -> None:
        place = Standing().at(0)
        cases = ((59 * 10**9 - 361_668, 59, -361_668), (59 * 10**9 + 995_000_000, 0, -5_000_000), (10**9 // 5, 0, 200_000_000))
        for utc_ns, second, nano in cases:
            payload = nav_pvt(utc_ns, place)[6:-2]
            assert payload[10] == second and int.from_bytes(payload[16:20], "little", signed=True) == nano

    def test_sentences_are_those_of_the_same_place(self) -> None:
        place = {"latitude": -37.8608333, "longitude": 145.1226667, "altitude": 21.0, "speed": 10.0, "bearing": math.radians(54.7)}
        rmc, gga = nmea(1_795_288_393_250_000_000, place).decode().splitlines()
        assert rmc.startswith("$GNRMC,191313.25,A,3751.65000,S,14507.36000,E,19.438,54.70,211126,")
        assert gga.startswith("$GNGGA,191313.25,3751.65000,S,14507.36000,E,1,17,1.02,21.0,M,38.0,M,,*")
        for sentence in (rmc, gga, *nmea(0, place, fix=False).decode().splitlines()):
            total = 0
            for character in sentence[1:-3]:
                total ^= ord(character)
            assert sentence[-3:] == f"*{total:02X}"


class Standing:
    """A world whose truck stands, then drives: speed and place by a formula that can be asked again."""

    def at(self, t_us: int) -> dict[str, float]:
        seconds = t_us / 1e6
        speed = 0.0 if seconds < 1.5 else 7.6543
        bearing = math.radians(123.45678 + 10 * math.floor(seconds))
        place = {"latitude": 35.3412345 + 1e-5 * seconds, "longitude": 139.4912347 - 1e-5 * seconds}
        return {**place, "altitude": 21.123, "speed": speed, "bearing": bearing}


class Gpsd:
    """gpsd on `port`, with its JSON stream open."""

    def __init__(self, port: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            number = probe.getsockname()[1]
        assert GPSD is not None
        self.process = subprocess.Popen(
            [GPSD, "-N", "-n", "-b", "-S", str(number), port], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 15
        while True:
            try:
                self.socket = socket.create_connection(("127.0.0.1", number), timeout=1)
                break
            except OSError:
                assert self.process.poll() is None and time.monotonic() < deadline, "gpsd does not listen"
                time.sleep(0.05)
        self.socket.settimeout(15)
        self.socket.sendall(b'?WATCH={"enable":true,"json":true};\n')
        self.lines = self.socket.makefile("r")

    def fixes(self, count: int) -> list[dict[str, Any]]:
        """The next `count` TPV objects with a fix."""
        found: list[dict[str, Any]] = []
        while len(found) < count:
            report = json.loads(self.lines.readline())
            if report["class"] == "TPV" and report["mode"] > 1:
                found.append(report)
        return found

    def stop(self) -> None:
        self.lines.close()
        self.socket.close()
        self.process.terminate()
        self.process.wait(10)


@pytest.fixture
def logged() -> list[Fix]:
    return []


@pytest.fixture
def receiver(logged: list[Fix], tmp_path: Path) -> Iterator[Receiver]:
    clock = Clock()
    made = Receiver(
        Standing().at,
        lambda sensor, t_us, values: logged.append((t_us, dict(values))) if sensor == "gnss" else None,
        clock,
        START_UTC_NS,
        period_us=200_000,
        link=tmp_path / "gps.tty",
    )
    yield made
    made.stop()


@pytest.mark.skipif(GPSD is None, reason="gpsd is not installed")
def test_gpsd_reports_what_the_world_says_within_its_rounding(receiver: Receiver, logged: list[Fix]) -> None:
    gpsd = Gpsd(receiver.port)
    try:
        receiver.start()
        fixes = gpsd.fixes(12)
    finally:
        gpsd.stop()
    truth = {START_UTC_NS // 1000 + t_us: values for t_us, values in logged}
    for fix in fixes:
        utc_us = round(datetime.fromisoformat(str(fix["time"])).timestamp() * 1000) * 1000
        exact = truth[utc_us]  # the time is right to the millisecond, and it is an epoch of the log
        assert utc_us % 200_000 == 0
        assert fix["mode"] == 3
        assert abs(fix["lat"] - exact["latitude"]) <= 0.51e-7
        assert abs(fix["lon"] - exact["longitude"]) <= 0.51e-7
        assert abs(fix["altMSL"] - exact["altitude"]) <= 0.51e-3
        assert abs(fix["speed"] - exact["speed"]) <= 0.51e-3
        assert abs(math.remainder(fix["track"] - math.degrees(exact["bearing"]), 360)) <= 0.56e-4
        assert fix["eph"] == 1.5 and fix["eps"] == 0.05 and fix["epv"] == 2.4
    assert {fix["speed"] for fix in fixes} >= {0.0, 7.654}, "both while standing and while driving"


class Hand:
    """A clock moved by hand."""

    def __init__(self) -> None:
        self.ns = 0
        self.clock = Clock(lambda: self.ns)


def still(hand: Hand, **options: Any) -> Receiver:
    """A receiver whose thread does not run: the test steps it."""
    return Receiver(Standing().at, lambda *_: None, hand.clock, START_UTC_NS // 10**9 * 10**9, **options)


def received(port: int) -> bytes:
    """What came to an open port; the kernel carries the bytes across the pty in a thread of its own."""
    data = b""
    for _ in range(20):
        time.sleep(0.005)
        try:
            data += os.read(port, 65536)
        except BlockingIOError:
            if data:
                break
    return data


def unread(port: int) -> int:
    """Bytes that wait at an open port."""
    return int(struct.unpack("i", fcntl.ioctl(port, termios.FIONREAD, b"\0\0\0\0"))[0])


def test_what_nobody_reads_is_dropped_not_kept_for_a_late_reader() -> None:
    hand = Hand()
    receiver = still(hand)
    late = os.open(receiver.port, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
    for _ in range(60):
        before = unread(late)
        hand.ns += 10**9
        receiver.step()
        wait_for(lambda before=before: unread(late) not in (0, before), "the kernel to carry the bytes across")  # type: ignore[misc]
    waiting = received(late)
    os.close(late)
    receiver.stop()
    assert receiver.epochs == 60 and receiver.dropped > 30 * 100
    assert len(waiting) <= UNREAD_LIMIT + 100
    assert waiting.startswith(b"\xb5\x62\x01\x07")


def test_at_another_speed_than_its_own_nothing_is_understood_in_either_direction() -> None:
    hand = Hand()
    receiver = still(hand, as_delivered=True)
    with serial.Serial(receiver.port, 9600, timeout=0) as port:
        hand.ns += 1_100_000_000
        receiver.step()
        noise = received(port.fileno())
        assert noise and b"$" not in noise and b"\xb5\x62" not in noise
        port.write(ubx(0x0A04))
        time.sleep(0.05)
        receiver.step()
        assert received(port.fileno()) == b""
        port.baudrate = 38400
        hand.ns += 10**9
        receiver.step()
        assert received(port.fileno()).startswith(b"$GNRMC,")
        port.write(ubx(0x0A04))
        time.sleep(0.05)
        receiver.step()
        assert received(port.fileno()).startswith(b"\xb5\x62\x0a\x04")
    receiver.stop()
    assert b"$" not in garbled(bytes(range(256))) and min(garbled(bytes(range(256)))) >= 0x80


def test_it_takes_a_configuration_and_another_speed_on_its_port() -> None:
    hand = Hand()
    receiver = still(hand, as_delivered=True)
    keys = {NMEA_OUT: b"\0", PVT_OUT: b"\1", BAUDRATE: (115_200).to_bytes(4, "little")}
    with serial.Serial(receiver.port, 38400, timeout=0) as port:
        port.write(ubx(VALSET, bytes((0, 1, 0, 0)) + b"".join(key.to_bytes(4, "little") + value for key, value in keys.items())))
        time.sleep(0.05)
        receiver.step()
        assert received(port.fileno()) == ubx(0x0501, b"\x06\x8a")  # still at the old speed
        port.baudrate = 115200
        hand.ns += 1_100_000_000
        receiver.step()
        assert received(port.fileno()).startswith(b"\xb5\x62\x01\x07")
    receiver.stop()


def test_a_stopped_clock_ends_the_epochs(logged: list[Fix]) -> None:
    clock = Clock()
    world = World(1, START_UTC_NS)
    receiver = Receiver(world.at, lambda _, t_us, values: logged.append((t_us, dict(values))), clock, START_UTC_NS, period_us=50_000)
    receiver.start()
    deadline = time.monotonic() + 20
    while len(logged) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    stop = clock.stop()
    time.sleep(0.1)
    count = len(logged)
    time.sleep(0.3)
    receiver.stop()
    assert 3 <= len(logged) == count
    assert all(t_us <= stop and set(values) == set(QUANTITIES) for t_us, values in logged)
    assert all((t_us * 1000 + START_UTC_NS) % 50_000_000 == 0 for t_us, _ in logged)


def test_the_port_is_open_to_the_user_that_gpsd_becomes(receiver: Receiver, tmp_path: Path) -> None:
    assert os.stat(receiver.port).st_mode & 0o666 == 0o666
    assert os.readlink(tmp_path / "gps.tty") == receiver.port


def test_a_receiver_whose_world_broke_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(t_us: int) -> dict[str, float]:
        raise ZeroDivisionError("no such street")

    monkeypatch.setattr("threading.excepthook", lambda arguments: None)
    receiver = Receiver(broken, lambda *_: None, Clock(), START_UTC_NS, period_us=10_000)
    receiver.start()
    try:
        receiver._thread.join(20)
        with pytest.raises(ReceiverError, match="receiver broke"):
            receiver.check()
    finally:
        receiver.stop()
