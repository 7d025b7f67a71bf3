"""Shifts of a recorder whose ignition is wired, as a process: the input device is a FIFO, evdev's ioctls answer from a file."""

import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from gateway_recording import PATIENCE, Recording, truck, wait_for, write_config

from gateway.config import Inputs
from gateway.live import LiveReceiver

pytestmark = pytest.mark.timeout(90)

IGNITION = 202
# The recorder, with the ioctls of linux/input.h answered from the file `argv[2]`: the key codes that are pressed.
PROGRAM = f"""
import sys
from pathlib import Path
import gateway.inputs
from gateway import recorder
def ioctl(fd, request, argument):
    if request == 0x400445A0:  # EVIOCSCLOCKID
        return 0
    codes = {{ {IGNITION} }} if request == 0x80604521 else set(map(int, Path(sys.argv[2]).read_text().split()))
    for code in codes:
        argument[code // 8] |= 1 << code % 8
    return len(argument)
gateway.inputs.ioctl = ioctl
sys.exit(recorder.main(sys.argv[1:2]))
"""


class Cab:
    """A truck whose ignition is wired, and its recorder."""

    def __init__(self, folder: Path) -> None:
        self._pressed = folder / "pressed"
        self._device = folder / "event0"
        os.mkfifo(self._device)
        self._writer = os.open(self._device, os.O_RDWR)
        self._write_pressed(str(IGNITION))
        config = truck(folder)
        self.spool = Path(config.spool)
        inputs = Inputs([str(self._device)], ignition=IGNITION, ignition_seconds=0.3)
        path = write_config(msgspec.structs.replace(config, inputs=inputs), folder)
        self._live = LiveReceiver(config.live_socket)
        self.process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(path), str(self._pressed)], stderr=subprocess.PIPE)

    def turn(self, on: bool) -> None:
        """The key of the ignition."""
        self._write_pressed(str(IGNITION) if on else "")
        os.write(self._writer, struct.pack("@llHHi", 0, 0, 1, IGNITION, int(on)) + struct.pack("@llHHi", 0, 0, 0, 0, 0))

    def unplug(self) -> None:
        """The device is gone."""
        self._device.unlink()

    def _write_pressed(self, codes: str) -> None:
        part = self._pressed.with_suffix(".part")  # so that the recorder never reads half of it
        part.write_text(codes)
        part.replace(self._pressed)

    def snapshot(self) -> dict[str, Any]:
        """The newest, or an empty one."""
        return self._live.newest() or {}

    def folders(self) -> list[Path]:
        """One a shift."""
        return sorted((path for path in self.spool.glob("*") if path.is_dir()), key=lambda path: path.stat().st_mtime_ns)

    def close(self) -> None:
        """Whatever still runs."""
        self.process.kill()
        self.process.wait(PATIENCE)
        self._live.close()
        os.close(self._writer)


@pytest.fixture
def cab(tmp_path: Path) -> Iterator[Cab]:
    made = Cab(tmp_path)
    yield made
    made.close()


def test_ignition_off_seals_the_shift_and_parks_and_ignition_on_begins_the_next_one(cab: Cab) -> None:
    wait_for(lambda: cab.snapshot().get("parked") is False, "the first shift")
    (first,) = cab.folders()
    cab.turn(on=False)
    wait_for(lambda: cab.snapshot().get("parked") is True, "the truck to park")
    assert not list(first.glob("*.open")) and list(first.glob("*-readings.mcap")), "all sealed: the uplink can announce it"
    assert cab.process.poll() is None
    cab.turn(on=True)
    wait_for(lambda: len(cab.folders()) == 2 and cab.snapshot().get("parked") is False, "the second shift")
    cab.process.send_signal(signal.SIGTERM)
    assert cab.process.wait(PATIENCE) == 0
    recording = Recording(cab.spool)
    assert [(event.kind, event.source) for event in recording.decoded("/event") if event.kind.startswith("ignition")] == [
        ("ignition_on", "recorder"), ("ignition_off", "ignition"), ("ignition_off", "recorder"),
        ("ignition_on", "recorder"), ("ignition_off", "recorder"),
    ]  # fmt: skip


def test_a_parked_recorder_ends_at_once_when_it_is_told_to(cab: Cab) -> None:
    wait_for(lambda: cab.snapshot().get("parked") is False, "the first shift")
    cab.turn(on=False)
    wait_for(lambda: cab.snapshot().get("parked") is True, "the truck to park")
    cab.process.send_signal(signal.SIGTERM)
    assert cab.process.wait(PATIENCE) == 0
    assert len(cab.folders()) == 1


def test_a_switch_that_cannot_be_read_keeps_no_truck_parked(cab: Cab) -> None:
    wait_for(lambda: cab.snapshot().get("parked") is False, "the first shift")
    cab.turn(on=False)
    wait_for(lambda: cab.snapshot().get("parked") is True, "the truck to park")
    cab.unplug()
    wait_for(lambda: len(cab.folders()) == 2 and cab.snapshot().get("parked") is False, "a shift all the same")
