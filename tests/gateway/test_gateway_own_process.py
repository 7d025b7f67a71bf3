"""The recorder's process before the simulated truck's chips on this machine's own bus and port: real smbus2, real pyserial."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from gateway_recording import Recording
from kernel_rig import cruisers
from parts import PARTS

from logbook import block, reader
from sim import truth

pytestmark = [pytest.mark.clock, pytest.mark.xdist_group("clock"), pytest.mark.timeout(180)]

ON_BUS = ("icm20948", "bmp390", "sht45", "opt3001", "as7331")
SLOW = (*ON_BUS[1:], "sps30")
SECONDS = 12
LATE_NS = 3_000_000_000  # from a conversion to its being read: a period, and what a busy machine takes
CONFIG = """
name = "truck-1"
spool = "{folder}/spool"
live_socket = "{folder}/live.sock"
[hub]
domain = "d"
host = "h"
port = 5222
ca_file = "c"
password_file = "p"
[bus]
i2c = "/dev/i2c-1"
uarts = ["{folder}/pm=sps30"]
"""


def recorded(folder: Path, *options: str, signals: tuple[str, ...] = ("TERM",)) -> Recording:
    """What recorders wrote that were ended one after another by `signals`, each after so many seconds."""
    config = folder / "truck.toml"
    config.write_text(CONFIG.format(folder=folder))
    shifts = [f"timeout --preserve-status -s {name} {SECONDS} python -m gateway.recorder {config}" for name in signals]
    done = cruisers(
        *("sim", "run", "--i2c", "1", "--chips", ",".join(ON_BUS), "--uart", f"{folder}/pm=sps30", "--truth", str(folder), *options),
        *("--", "sh", "-c", "; ".join(shifts)),
        timeout=150,
    )
    assert done.returncode == 0, done.stderr
    return Recording(folder / "spool")


def imu_runs(recording: Recording) -> list[tuple[np.ndarray, np.ndarray]]:
    """Times (ns) and acceleration x y z (SI) of the samples between two gaps."""
    cuts = sorted(gap.to_boottime_ns for gap in recording.gaps("icm20948"))
    times, values = [], []
    for path in recording.paths:
        for message in reader.read(path):
            if message.topic == "/imu/block":
                _, at, columns = block.decode(message.data)
                typed = block.typed(message.metadata["columns"], columns)
                times.append(at.astype(np.int64))
                values.append(np.stack([typed[f"acceleration_{axis}"][0] for axis in "xyz"], axis=1))
    all_times, all_values = np.concatenate(times), np.concatenate(values)
    places = np.searchsorted(all_times, cuts)
    return list(zip(np.split(all_times, places), np.split(all_values, places), strict=True))


def test_every_value_on_disk_is_one_that_its_chip_converted_and_every_imu_sample_is_accounted_for(tmp_path: Path) -> None:
    recording = recorded(tmp_path)
    made = truth.read(tmp_path)
    for part in PARTS:
        if part.name not in SLOW:
            continue
        at, true = made[part.name]
        readings = recording.decoded(f"/reading/{part.name}")
        assert len(readings) >= SECONDS // 3, part.name
        for reading in readings:
            for value in (value for value in reading.values if value.WhichOneof("result") == "number" and value.quantity in true):
                recent = (at <= reading.boottime_ns) & (at > reading.boottime_ns - LATE_NS)
                near = np.abs(true[value.quantity][recent] - value.number)
                assert near.min() <= part.epsilon(value.quantity, value.number) * 1.01, (value, near)
    at, true = made["icm20948"]
    axes = np.stack([true[f"acceleration_{axis}"] for axis in "xyz"], axis=1)
    step = 9.80665 / 4096
    for times, values in imu_runs(recording):
        if not len(times):
            continue
        near = int(np.searchsorted(at, times[0]))
        starts = range(max(0, near - 3), min(near + 4, len(axes) - len(values) + 1))  # a young line may err by an interval
        errors = [np.abs(axes[start : start + len(values)] - values).max() for start in starts]
        assert min(errors) <= step / 2 * 1.01
    gaps = recording.gaps("icm20948")
    assert {re.sub(r" \(±\d+\)", "", gap.reason) for gap in gaps} <= {"FIFO overflow"}, "a busy machine may empty it too late, and says so"
    said = [gap.reason for gap in gaps] + [event.detail for event in recording.events("nothing_missing")]
    uncertain = sum(int(number) for number in re.findall(r"±(\d+)", " ".join(said)))
    within = np.count_nonzero((at >= recording.imu_times[0] - 6_000_000) & (at <= recording.imu_times[-1] + 6_000_000))
    between = sum(gap.count for gap in gaps if gap.to_boottime_ns <= recording.imu_times[-1])  # at the very end one has no sample behind it
    assert abs(within - len(recording.imu_times) - between) <= uncertain + 1
    assert {trim.sensor for trim in recording.decoded("/trim")} == {*ON_BUS, "sps30"}


def test_a_part_that_is_unplugged_is_told_and_a_gap_and_the_others_go_on(tmp_path: Path) -> None:
    (tmp_path / "faults.json").write_text(json.dumps({"faults": [{"kind": "unplugged", "chip": "sht45", "begin_s": 5, "end_s": 8}]}))
    recording = recorded(tmp_path, "--faults", str(tmp_path / "faults.json"))
    states = [event.detail.split(",")[0] for event in recording.events("sensor_state") if event.source == "sht45"]
    assert "failed: no acknowledge" in states and states[-1] == "ok"
    assert any(gap.reason == "no acknowledge" and gap.count >= 2 for gap in recording.gaps("sht45"))
    assert {event.source for event in recording.events("sensor_state") if "no acknowledge" in event.detail} == {"sht45", "veml7700"}
    assert len(recording.decoded("/reading/bmp390")) >= SECONDS // 3


def test_a_recorder_that_is_killed_leaves_what_it_had_and_the_next_one_says_what_is_missing(tmp_path: Path) -> None:
    recording = recorded(tmp_path, signals=("KILL", "TERM"))
    assert len(recording.events("ignition_on")) == 2 and len(recording.events("ignition_off")) == 1
    for sensor in SLOW:
        times = [message.log_time for message in recording.messages[f"/reading/{sensor}"]]
        (gap,) = [gap for gap in recording.gaps(sensor) if gap.reason == "recorder was not running"]
        behind = times.index(gap.to_boottime_ns)
        assert times[behind - 1] == gap.from_boottime_ns and times == sorted(times)
    (gap,) = [gap for gap in recording.gaps("icm20948") if gap.reason.startswith("recorder was not running")]
    assert gap.from_boottime_ns in recording.imu_times and gap.to_boottime_ns in recording.imu_times
    would = (gap.to_boottime_ns - gap.from_boottime_ns) / 1e9 * 1125 / 11 - 1
    assert abs(gap.count - would) <= int(gap.reason.split("±")[1][:-1]) + would * 0.01
    assert len(recording.gaps("readings")) == 1, "the killed one's segment ended without sealing"
