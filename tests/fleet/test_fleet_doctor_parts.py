"""Head, sensors, receiver and cameras: real serial ports (ptys), the real gpsd, real sockets; a camera's driver is played."""

import errno
import fcntl
import json
import os
import pty
import shutil
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import serial
from doctor_machine import Trees, told
from gateway_camera import Stream
from gateway_head import HeadStandIn
from gateway_recording import Running, truck, wait_for

from firmware import frames
from firmware.parts import STANDARD
from fleet import doctor_camera, doctor_head, doctor_head_live, doctor_receiver, doctor_sensors
from fleet.doctor_finding import GREEN, GREY, RED, YELLOW
from fleet.doctor_ports import owner
from fleet.doctor_visit import Visit
from gateway import head_duty
from gateway.clock import boottime_ns
from gateway.config import Bus, Camera, Gpsd, Truck
from gateway.head_console import Follower
from gateway.head_duty import Duty, SelfTestError
from gateway.live import LiveReceiver
from gateway.uplink_status import View, write_json
from sim.clock import Clock
from sim.faults import parse
from sim.head import SimulatedHead
from sim.receiver import Receiver
from sim.unit import desk

GPSD = shutil.which("gpsd", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def head(tmp_path: Path) -> Iterator[HeadStandIn]:
    head = HeadStandIn(tmp_path)
    head.send_raw_frame(frames.HEALTH, struct.pack("<6I", 40_000, 10, 0, 900, 1, 0))
    yield head
    head.close()


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_head_live, "ENOUGH_SECONDS", 0.2)


def visit(config: Truck) -> Visit:
    return Visit(config, Trees(Path(config.spool).parent / "machine").machine)


def tell(config: Truck, recorder: dict | None) -> None:
    """An uplink's status file, of this process, with what a recorder told it."""
    status = {"truck": "truck-1", "pid": os.getpid(), "boottime_ns": boottime_ns(), "connected": True, "problem": None}
    write_json(Path(config.spool) / "uplink.json", status | {"recorder": recorder})


# --- the head


def test_a_head_that_nobody_reads_is_asked_and_loses_nothing(tmp_path: Path, head: HeadStandIn) -> None:
    kept = head.ring[0][0]
    found = visit(truck(tmp_path, head.link))
    told_of_head = doctor_head.check(found)
    assert told(told_of_head) == {"head_is": GREEN, "head_health": GREEN}
    assert told_of_head[0].saw.values["unique_id"] == "e6614103e7"
    sensors = doctor_sensors.check(found)
    assert told(sensors) == {"sensors_well": GREEN} and sensors[0].saw.values["names"] == "icm20948, sht45, opt3001"
    assert head.hellos == [(0, 0)] and not head.acks and head.ring[0][0] == kept  # asked once, and nothing released


def test_the_half_frame_with_which_it_begins_is_no_damage(head: HeadStandIn) -> None:
    with head.lock:
        os.write(head._master, b"the end of a frame that another program had begun to read\0")
    heard = doctor_head_live.ask(str(head.link), 5.0)
    assert heard.hello is not None and heard.bad == 0 and heard.frames > 0


def test_a_head_that_is_silent_or_not_there_is_red(tmp_path: Path, head: HeadStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    head.silent = True
    assert told(doctor_head.live(doctor_head_live.ask(str(head.link), 0.3), "port")) == {"head_silent": RED}
    gone = truck(tmp_path, tmp_path / "nowhere")
    assert told(doctor_head.check(visit(gone))) == {"port_absent": RED}
    assert told(doctor_sensors.check(visit(gone))) == {"sensors_no_head": GREY}
    assert told(doctor_head.check(visit(truck(tmp_path)))) == {"head_none": GREY}


def test_what_the_head_complains_of_is_told() -> None:
    heard = doctor_head_live.Heard({"reset_cause": "watchdog", "parts_error": "no part x"}, {"heap_free": 4000, "uptime_s": 60}, {}, 9, 2)
    assert told(doctor_head.live(heard, "port")) == {
        "head_is": GREEN, "head_parts": RED, "head_watchdog": YELLOW, "head_bad_frames": YELLOW, "head_heap": YELLOW,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("marker", "complaint"), [("maintenance", {}), ("error", {"head_reset_itself": YELLOW}), (None, {"head_watchdog": YELLOW})]
)
def test_a_reset_that_the_head_made_itself_is_not_the_watchdogs(marker: str | None, complaint: dict[str, str]) -> None:
    hello = {"reset_cause": "watchdog", "boot_count": 4} | ({"marker": marker} if marker else {})
    found = doctor_head.identity(hello)
    assert told(found) == {"head_is": GREEN} | complaint


def test_while_the_recorder_owns_the_head_its_words_count_and_the_port_is_left_alone(tmp_path: Path, head: HeadStandIn) -> None:
    config = truck(tmp_path, head.link)
    live = LiveReceiver(config.live_socket)
    view = View(tmp_path / "spool", None)  # type: ignore[arg-type]  # no ledger is asked
    snapshots: list[dict] = []

    def heard() -> bool:
        snapshots.extend(one for one in live.waiting() if "kind" not in one)
        return bool(snapshots) and {"head", "sht45"} <= snapshots[-1]["sensors"].keys()

    with Running(config) as recorder:
        wait_for(heard, "the recorder's snapshot")
        folder = tmp_path / "spool" / recorder.folder
        wait_for(lambda: None not in doctor_head.written(folder), "HELLO and HEALTH in the open segment")
        view.on_datagram(snapshots[-1])
        tell(config, view.status()["recorder"])
        asked = len(head.hellos)
        seen = visit(config)
        assert seen.recorder_runs
        assert told(doctor_head.check(seen)) == {"head_owned": GREEN, "head_is": GREEN, "head_health": GREEN}
        sensors = doctor_sensors.check(seen)
        assert told(sensors) == {"sensors_well": GREEN} and sensors[0].saw.values["count"] == 3
        assert len(head.hellos) == asked
        tell(config, None)
        assert told(doctor_head.check(visit(config))) == {"head_untold": YELLOW}
        assert told(doctor_sensors.check(visit(config))) == {"sensors_untold": YELLOW}
    live.close()
    assert not visit(config).recorder_runs


def test_a_port_that_another_program_has_open_is_not_opened(tmp_path: Path, head: HeadStandIn) -> None:
    config = truck(tmp_path, head.link)
    seen = Visit(config)  # the machine's own /proc
    port = os.open(head.link, os.O_RDWR | os.O_NOCTTY)
    other = subprocess.Popen(["sleep", "30"], stdin=port)
    os.close(port)
    try:
        wait_for(lambda: owner(seen.machine, str(head.link)), "the other program")
        found = doctor_head.check(seen)
        assert told(found) == {"port_taken": RED} and found[0].saw.values["pid"] == other.pid and not head.hellos
        assert told(doctor_sensors.check(seen)) == {"sensors_no_head": GREY}
    finally:
        other.kill()
        other.wait(10)


# --- sensors


def test_each_state_of_a_sensor_has_its_colour_and_a_spare_is_not_missed() -> None:
    states = {"bmp390": "ok", "sps30": "failed", "sht45": "absent", "as7331": "degraded", "icm20948": "configuring", "opt3001": "ok"}
    told_states = {name: {"state": state, "reason": ""} for name, state in states.items()}
    others = {"head": {"state": "failed", "reason": ""}, "camera/front": {"state": "failed", "reason": ""}}
    found = doctor_sensors.judged(told_states | others | {"veml7700": {"state": "absent", "reason": ""}})
    assert {finding.saw.values["name"]: finding.colour for finding in found if finding.saw.key == "sensor_state"} == {
        "sps30": RED, "sht45": RED, "as7331": YELLOW, "icm20948": YELLOW,
    }  # fmt: skip
    assert told(found)["sensors_spare"] == GREY and told(found)["sensors_well"] == GREEN
    assert told(doctor_sensors.judged({})) == {"sensors_silent": RED}
    (switch,) = doctor_sensors.judged({"inputs/platform-button@16-event": {"state": "failed", "reason": "No such file or directory"}})
    assert switch.colour == RED and switch.do is not None and switch.do.key == "do_input"


def lose(head: SimulatedHead, name: str) -> None:
    """Acknowledges what the real head says, until its ring no longer tells that the sensor is absent."""
    (number,) = [number for number, sensor in frames.SENSORS.items() if sensor == name]
    decoder, gone, until = frames.Decoder(), 0, time.monotonic() + 30
    with serial.Serial(head.port, timeout=0.05) as port:
        port.write(frames.pack(frames.HELLO_REQUEST, 0, 0, 0, 0, bytes(8)))
        while True:
            assert time.monotonic() < until, "waited in vain: the sensor's state, and an answer behind it"
            for frame in decoder.feed(port.read(4096)):
                if frame.type == frames.STATE and frame.sequence and frame.payload[:2] == bytes((number, frames.ABSENT)):
                    gone = frame.sequence
                elif frame.type == frames.HELLO and gone and json.loads(frame.payload)["oldest"] > gone:
                    return
                if frame.sequence and gone:
                    port.write(frames.pack(frames.HELLO_REQUEST, 0, 0, 0, 0, struct.pack("<II", frame.boot, frame.sequence)))


def test_a_sensor_that_is_missing_is_named_long_after_its_change_by_doctor_console_and_self_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head_duty, "ABSENT_S", 0.0)
    faults = parse(b'{"faults": [{"kind": "unplugged", "chip": "opt3001"}]}')
    with SimulatedHead(tmp_path, desk, lambda *_: None, Clock(), faults=faults) as head:
        lose(head, "opt3001")
        port = str(head.link)
        heard = doctor_head_live.Heard()

        def asked() -> bool:
            nonlocal heard
            heard = doctor_head_live.ask(port, 0.5)
            return heard.sensors.keys() == set(STANDARD)

        wait_for(asked, "the state of every sensor")
        (found,) = [one for one in doctor_sensors.judged(heard.sensors) if one.saw.values.get("name") == "opt3001"]
        assert found.colour == RED and found.saw.values["reason"] == "no acknowledge"
        assert found.do is not None and found.do.key == "do_sensor_absent"
        follower = Follower(port)
        console = follower.seen.sensors
        wait_for(lambda: follower.step() or {one.name for one in console()} == set(STANDARD), "every sensor on the console's page")
        follower.close()
        assert [(one.state, one.reason) for one in console() if one.name == "opt3001"] == [("absent", "no acknowledge")]
        with Duty(port) as duty, pytest.raises(SelfTestError, match=r"^opt3001: absent \(no acknowledge\)$"):
            duty.self_test({"opt3001"}, lambda passed, of: None)


def test_a_change_that_the_ring_tells_behind_the_present_state_is_history() -> None:
    heard = doctor_head_live.Heard()
    for ticks, sequence, state in ((9, 0, frames.ABSENT), (5, 2, frames.OK)):
        doctor_head_live.take(heard, frames.Frame(frames.STATE, 7, sequence, ticks, struct.pack("<BBBH", 4, state, 0, 0)))
    assert heard.sensors["opt3001"]["state"] == "absent" and heard.bad == 0
    doctor_head_live.take(heard, frames.Frame(frames.STATE, 7, 3, 12, struct.pack("<BBBH", 4, frames.OK, 0, 0)))
    assert heard.sensors["opt3001"]["state"] == "ok"


def test_chips_on_a_port_of_this_machine_are_asked_themselves(tmp_path: Path) -> None:
    master, slave = pty.openpty()
    link = tmp_path / "pm"
    link.symlink_to(os.ttyname(slave))
    try:
        found = doctor_sensors.judged(doctor_sensors.on_wires(Bus(uarts=[f"{link}=sps30"]), 0.5))
    finally:
        os.close(master)
        os.close(slave)
    assert told(found) == {"sensor_state": RED} or told(found) == {"sensor_state": YELLOW}  # nobody answers; it may still be tried
    assert found[0].saw.values["name"] == "sps30"


def test_a_bus_or_port_that_cannot_be_opened_is_told_with_what_to_do(tmp_path: Path) -> None:
    config = msgspec.structs.replace(truck(tmp_path), bus=Bus(i2c=str(tmp_path / "i2c-1")))
    found = doctor_sensors.check(visit(config))
    assert told(found) == {"sensors_bus": RED} and found[0].saw.values["error"] == "No such file or directory"
    (tmp_path / "file").touch()  # a file is no serial port
    assert told(doctor_head.check(visit(truck(tmp_path, tmp_path / "file")))) == {"port_error": RED}
    assert told(doctor_sensors.check(visit(truck(tmp_path, tmp_path / "file")))) == {"sensors_no_head": GREY}


# --- the receiver


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.skipif(GPSD is None, reason="gpsd is not installed")
def test_the_real_gpsd_tells_device_and_fix(tmp_path: Path) -> None:
    place = {"latitude": 35.3412345, "longitude": 139.4912347, "altitude": 21.0, "speed": 7.654, "bearing": 1.25}
    receiver = Receiver(lambda t_us: place, lambda *_: None, Clock(), 1_795_288_393_250_000_000, period_us=200_000)
    port = free_port()
    assert GPSD is not None
    gpsd = subprocess.Popen([GPSD, "-N", "-n", "-b", "-S", str(port), receiver.port], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        receiver.start()
        heard = doctor_receiver.Heard()

        def fixed() -> bool:
            nonlocal heard
            try:
                heard = doctor_receiver.ask(Gpsd("127.0.0.1", port), 0.5)
            except OSError:  # it has just begun
                return False
            return heard.fix is not None and heard.fix.get("mode", 0) >= 2

        wait_for(fixed, "a fix of gpsd", 30)
    finally:
        gpsd.terminate()
        gpsd.wait(10)
        receiver.stop()
    found = doctor_receiver.judged(heard)
    assert told(found) == {"gpsd_device": GREEN, "gpsd_fix_alone": GREEN}  # NAV-PVT alone
    assert found[0].saw.values["device"] == receiver.port and found[1].saw.values["mode"] == 3


class Speaker:
    """Says `said` to whoever connects, and keeps the line open."""

    def __init__(self, said: bytes) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.listener.getsockname()[1])
        self.said = said
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self) -> None:
        connection, _ = self.listener.accept()
        with connection:
            connection.sendall(self.said)
            while connection.recv(4096):
                pass

    def close(self) -> None:
        self.thread.join(10)
        self.listener.close()


VERSION = {"class": "VERSION", "release": "3.25"}
DEVICES = {"class": "DEVICES", "devices": [{"path": "/dev/cruisers-gps"}]}
TPV = {"class": "TPV", "mode": 3, "lat": 35.0, "lon": 139.0, "time": "2026-11-28T05:00:00.000Z"}
SKY = {"class": "SKY", "nSat": 14, "uSat": 9}


@pytest.mark.parametrize(
    ("lines", "key", "colour"),
    [
        ([VERSION, {"class": "DEVICES", "devices": []}], "gpsd_no_device", RED),
        ([VERSION, DEVICES], "gpsd_silent", RED),
        ([VERSION, DEVICES, {"class": "TPV", "mode": 1}, SKY], "gpsd_no_fix", YELLOW),
        ([VERSION, DEVICES, {**TPV, "time": None}, SKY], "gpsd_no_time", YELLOW),
        ([VERSION, DEVICES, TPV, {"class": "SKY", "satellites": [{"used": True}, {"used": False}]}], "gpsd_poor", YELLOW),
        ([VERSION, DEVICES, {**TPV, "eph": 60.0}], "gpsd_poor", YELLOW),
        ([VERSION, DEVICES, {**TPV, "eph": 2.0}], "gpsd_fix_alone", GREEN),
        ([VERSION, DEVICES, TPV, SKY], "gpsd_fix", GREEN),
        (["SSH-2.0-OpenSSH_9.2"], "gpsd_stranger", RED),
    ],
)
def test_what_gpsd_lacks_is_told(lines: list, key: str, colour: str) -> None:
    speaker = Speaker(b"".join((json.dumps(line) if isinstance(line, dict) else line).encode() + b"\r\n" for line in lines))
    try:
        heard = doctor_receiver.ask(Gpsd("127.0.0.1", speaker.port), 0.15)
    finally:
        speaker.close()
    assert told(doctor_receiver.judged(heard))[key] == colour


def test_no_gpsd_and_no_receiver_are_told(tmp_path: Path) -> None:
    found = doctor_receiver.check(visit(truck(tmp_path, gpsd_port=free_port())))
    assert told(found) == {"gpsd_refused": RED} and found[0].saw.values["error"] == "Connection refused"
    assert told(doctor_receiver.check(visit(truck(tmp_path)))) == {"receiver_none": GREY}


# --- cameras


class Driver:
    """What VIDIOC_ENUM_FMT answers."""

    def __init__(self, formats: list[bytes]) -> None:
        self.formats = formats

    def __call__(self, fd: int, request: int, buffer: bytearray) -> int:
        assert request == doctor_camera.ENUM_FORMATS
        index, kind = int.from_bytes(buffer[:4], "little"), int.from_bytes(buffer[4:8], "little")
        if index >= len(self.formats) or kind != 1:
            raise OSError(errno.EINVAL, "Invalid argument")
        buffer[44:48] = self.formats[index]
        return 0


def test_a_v4l2_camera_must_offer_mjpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = tmp_path / "video0"
    node.touch()
    camera = Camera("front", "/dev/video0")
    monkeypatch.setattr(camera, "source", str(node))
    values = {"name": "front", "source": str(node)}
    for formats, key, colour in (
        ([b"YUYV", b"MJPG"], "camera_well", GREEN),
        ([b"YUYV"], "camera_no_mjpg", RED),
        ([], "camera_no_mjpg", RED),
    ):
        monkeypatch.setattr(fcntl, "ioctl", Driver(formats))
        assert told([doctor_camera.device(camera, values)]) == {key: colour}
    monkeypatch.undo()
    assert told([doctor_camera.device(Camera("front", str(node)), values)]) == {"camera_error": RED}  # a file is no camera
    assert told([doctor_camera.device(Camera("front", "/dev/none"), values)]) == {"camera_absent": RED}


def test_a_camera_on_the_network_must_send_a_picture(tmp_path: Path) -> None:
    server = Stream()
    try:
        camera = Camera("front", server.url)
        found = doctor_camera.stream(camera, {"name": "front", "source": camera.source})
    finally:
        server.close()
    assert told([found]) == {"camera_well": GREEN}
    silent = Camera("rear", f"http://127.0.0.1:{free_port()}/")
    assert told([doctor_camera.stream(silent, {"name": "rear", "source": silent.source})]) == {"camera_error": RED}


def test_images_that_stopped_coming_are_red(tmp_path: Path) -> None:
    config = truck(tmp_path, cameras={"front": "http://127.0.0.1:1/"})
    seen = visit(config)
    folder = tmp_path / "spool" / "aaaaaaaa-bbbbbbbb"
    folder.mkdir(parents=True)
    recorder = {"boot": folder.name, "heard_boottime_ns": boottime_ns(), "parked": False, "sensors": {}}
    seen.__dict__ |= {"recorder_runs": True, "recorder": recorder}  # what cached properties have found
    assert told([doctor_camera.lately(seen)]) == {"images_none": YELLOW}
    image = folder / "000001-images.mcap.open"
    image.touch()
    assert told(doctor_camera.check(seen)) == {"camera_owned": GREY, "images_well": GREEN}
    past = time.time() - 3600
    os.utime(image, (past, past))
    assert told([doctor_camera.lately(seen)]) == {"images_old": RED}
    recorder["sensors"] = {"camera/front": {"state": "failed", "reason": "no image"}}
    assert told(doctor_camera.check(seen))["camera_state"] == RED
    assert told(doctor_camera.check(visit(msgspec.structs.replace(config, cameras=[])))) == {"camera_none": GREY}
