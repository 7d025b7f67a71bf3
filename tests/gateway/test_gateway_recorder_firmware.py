"""The recorder with the real firmware on MicroPython: from the chips' registers to the file, through a SIGKILL and a pulled cable."""

import signal
import time
from pathlib import Path

import numpy as np
import pytest
from gateway_recording import PATIENCE, Recording, start_process, truck, wait_for

from firmware.parts import STANDARD
from logbook import block, reader
from logbook.quantities import TABLE, TEN
from logbook.recovery import last_head_frames
from sim.clock import Clock
from sim.head import SimulatedHead

SENSORS = set(STANDARD)
IMU_STEP = 9.80665 / 4096
UNPLUGGED_S = 15.0
TAKEN_UP_S = 4.5  # to find the port again, ask, and have it on the disk: less than one on a quiet machine; the head's ring holds 20
TIME_ERROR_S = 0.03  # of any sample on a busy machine; a mistake in numbering or clocks is far more


@pytest.mark.clock
@pytest.mark.xdist_group("clock")
@pytest.mark.timeout(150)
def test_every_sample_is_in_the_file_once_though_the_recorder_is_killed_and_the_head_unplugged_for_15_s(tmp_path: Path) -> None:
    middle = {quantity.id: (quantity.low + quantity.high) / 2 for quantity in TABLE}
    middle |= {f"magnetic_field_{axis}": 30e-6 for axis in "xyz"} | {"uva": 40.0, "uvb": 2.0, "uvc": 0.1}
    made: dict[str, list[tuple[int, dict[str, float]]]] = {}

    def source(t_us: int) -> dict[str, float]:
        return middle | {"acceleration_x": t_us % 7_000_000 * 1e-6}

    def durable() -> int:
        """The newest frame of the head that is on disk."""
        return max(last_head_frames(tmp_path / "spool").values(), default=0)

    clock = Clock()
    with SimulatedHead(
        tmp_path, source, lambda sensor, t_us, values: made.setdefault(sensor, []).append((t_us, dict(values))), clock
    ) as head:
        config = truck(tmp_path, head.link)
        first = start_process(config, tmp_path)
        wait_for(lambda: durable() > 20 and {*made} >= SENSORS, "durable frames of all sensors")
        first.kill()
        first.wait(PATIENCE)
        time.sleep(0.5)
        behind = durable()
        second = start_process(config, tmp_path)
        wait_for(lambda: durable() > behind + 20, "durable frames of the second recorder")
        head.unplug()
        time.sleep(UNPLUGGED_S)
        behind = durable()
        plugged = time.monotonic()
        head.plug()
        wait_for(lambda: durable() > behind + 20, "durable frames after the cable's return")
        taken_up = time.monotonic() - plugged
        head.stop_clock()
        second.send_signal(signal.SIGTERM)
        assert second.wait(PATIENCE) == 0
        counters = head.counters()
    recording = Recording(tmp_path / "spool")
    chip_times = np.array([clock.boottime_ns(t_us) for t_us, _ in made["icm20948"]])
    assert counters["icm20948"]["samples"] == len(chip_times)
    assert set(recording.sequences().values()) == {1}
    if taken_up > TAKEN_UP_S and [gap.reason for gap in recording.gaps("head")] == ["ring full"]:
        pytest.skip("this machine was too busy to take up the head in time")
    assert recording.gaps("head") == []
    lost = recording.gaps("icm20948")
    if lost and all(gap.reason.startswith("FIFO overflow") for gap in lost):
        # The simulated FIFO is as small as the real one: a host that stops the head for 200 ms overflows it, and then it must be said.
        assert len(recording.imu_times) < len(chip_times)
        pytest.skip("this machine was too busy to empty the IMU's FIFO in time")
    assert lost == []
    assert len(recording.imu_times) == len(chip_times)
    assert np.max(np.abs(np.array(recording.imu_times) - chip_times)) < TIME_ERROR_S * 1e9

    accelerations = []
    for path in recording.paths:
        for message in reader.read(path):
            if message.topic == "/imu/block":
                typed = block.typed(message.metadata["columns"], block.decode(message.data)[2])
                accelerations += typed["acceleration_x"][0].tolist()
    truth = np.array([values["acceleration_x"] for _, values in made["icm20948"]])
    assert np.max(np.abs(np.array(accelerations) - truth)) <= IMU_STEP / 2 * 1.001

    newest: dict[str, float] = {}
    for topic in ("/imu", "/reading/bmp390", "/reading/sht45", "/reading/opt3001", "/reading/as7331", "/reading/sps30"):
        for message in recording.decoded(topic):
            newest |= {value.quantity: value.number for value in message.values if value.WhichOneof("result") == "number"}
    assert {quantity for quantity in TEN if quantity not in newest} == {"latitude", "longitude", "speed", "bearing"}
    assert newest["pressure"] == pytest.approx(middle["pressure"], abs=1.0)
    assert newest["humidity"] == pytest.approx(middle["humidity"], abs=0.01)
    assert newest["pm2_5"] == pytest.approx(middle["pm2_5"], rel=1e-6)
