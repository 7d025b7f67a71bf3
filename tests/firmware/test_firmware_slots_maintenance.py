"""The frame MAINTENANCE, on the simulated truck's head with its heap of 192 kB."""

import time
from pathlib import Path

import pytest
import serial

from firmware import frames
from sim.clock import Clock
from sim.head import SimulatedHead


@pytest.mark.timeout(60)
def test_a_head_asked_into_maintenance_marks_it_and_resets(tmp_path: Path) -> None:
    reading = dict.fromkeys(("pressure", "temperature_barometer"), 300.0)
    with (
        SimulatedHead(tmp_path, lambda t_us: reading, lambda *made: None, Clock(), fit=["bmp390"]) as head,
        serial.Serial(head.port, 115200, timeout=0.02) as port,
    ):
        marker = head.flash / "maintenance"
        end = time.monotonic() + 30
        while not marker.exists() or head.starts < 2:
            port.write(frames.pack(frames.MAINTENANCE, 0, 0, 0, 0, bytes(8)))
            port.read(4096)
            assert time.monotonic() < end, (marker.exists(), head.starts)
            time.sleep(0.1)
    assert (tmp_path / "head.log").read_text() == ""
