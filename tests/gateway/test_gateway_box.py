"""The first fleet's box as a source of the recorder: every frame on disk, exact gaps, and nobody else disturbed."""

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from gateway_recording import PATIENCE, Bench, Recording, Running, start_process, truck, wait_for

from drivers import first_fleet
from gateway.box import Box
from gateway.box_positions import BoxPositions
from gateway.config import Box as BoxSettings
from gateway.config import Truck, load
from logbook.channels import BOX_FRAMES
from logbook.quantities import BY_ID
from sim.box import BoxOnPty
from sim.chips.first_fleet import FirstFleetBox, gga, vtg
from sim.clock import Clock

pytestmark = pytest.mark.timeout(60)

WORLD = {
    **{f"acceleration_{axis}": 3.0 for axis in "xyz"},
    **{f"angular_rate_{axis}": -0.25 for axis in "xyz"},
    **{f"magnetic_field_{axis}": 30e-6 for axis in "xyz"},
    "pressure": 101_325.0, "humidity": 60.0, "temperature": 293.15, "uva": 12.7, "illuminance": 20_000.0, "pm2_5": 40e-9,
    "latitude": 35.35, "longitude": 139.48, "altitude": 21.0, "speed": 7.5, "bearing": 1.0,
}  # fmt: skip


class Rig:
    """The model on a pty, with its truth."""

    def __init__(self, folder: Path) -> None:
        self.link = folder / "box"
        self.chip = FirstFleetBox(lambda t_us: WORLD, lambda *_: None)
        self.pty = BoxOnPty(self.chip, Clock(), self.link)

    def config(self, folder: Path) -> Truck:
        config = truck(folder)
        config.box = BoxSettings(str(self.link))
        return config


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path)
    yield made
    made.pty.close()


def recorded(recording: Recording) -> list[bytes]:
    """All frames in the files, in order, cut by their own sizes."""
    found = []
    for message in recording.decoded(BOX_FRAMES):
        data, number = message.frames, 0
        while data:
            sizes = {0x8A: 39, 0x8B: 13, 0x88: 4, 0x90: 21, 0xBD: 7, 0x8F: 5, 0xBC: 4}
            size = 10 + data[8] if data[1] == 0x8C else sizes[data[1]]
            found.append(data[:size])
            data, number = data[size:], number + 1
        assert len(message.offsets_us) == number and list(message.offsets_us) == sorted(message.offsets_us)
    return found


def numbers(recording: Recording) -> list[int]:
    """The numbers of all recorded samples."""
    return [int.from_bytes(frame[4:7], "little") for frame in recorded(recording) if frame[1] == 0x8A]


def test_every_sample_is_on_disk_and_decodes_with_the_trim_of_the_file(tmp_path: Path, rig: Rig) -> None:
    running = Running(rig.config(tmp_path))
    with running as recorder:
        wait_for(lambda: recorder._snapshot.counts().get("samples.first_fleet", 0) > 250, "samples")
        snapshot = recorder._snapshot.build()
    assert running.whole
    recording = Recording(tmp_path / "spool")
    found = numbers(recording)
    assert found == list(range(len(found))) and rig.chip.samples - len(found) <= 20  # what the box sent while it was told to stop
    (identity,) = recording.events("box_identity")
    assert json.loads(identity.detail) == {
        "serial": "0007", "version": "0001", "model": "CARSENSOR1", "clean_air_mv": 600, "clean_air_celsius": 25.0,
    }  # fmt: skip
    trim = recording.decoded("/trim")[0]
    assert (trim.sensor, len(trim.trim)) == ("first_fleet", 22)
    values = first_fleet.decode(trim.trim, [frame for frame in recorded(recording) if frame[1] == 0x8A][-1][2:-1])
    for name, value in values.items():
        assert not isinstance(value, str) and abs(value - WORLD[name]) <= FirstFleetBox.EPSILON[name] * 1.001, name
        assert snapshot["values"][name]["value"] == value and snapshot["values"][name]["raw"]
    readings = recording.decoded("/reading/first_fleet")
    assert 2 <= len(readings) <= 6
    assert {value.quantity: value.number for value in readings[-1].values} == values
    positions = [position for position in recording.decoded("/position") if position.valid]
    assert positions and not positions[0].HasField("utc_ns") and positions[0].mode == 2
    for name in ("latitude", "longitude", "altitude", "speed", "bearing"):
        assert getattr(positions[0], name) == pytest.approx(WORLD[name], abs=1e-3)
    assert recording.gaps("first_fleet") == [] and recording.events("source_failed") == []
    wait_for(lambda: not rig.chip._running, "the fan to rest: the ignition is off")


def test_beside_a_head_and_gpsd_it_is_recorded_and_not_shown(tmp_path: Path, rig: Rig) -> None:
    config = rig.config(tmp_path)
    both = truck(tmp_path, tmp_path / "no-head", gpsd_port=9)
    config.head, config.gpsd = both.head, both.gpsd
    running = Running(config)
    with running as recorder:
        wait_for(lambda: recorder._snapshot.counts().get("samples.first_fleet", 0) > 150, "samples")
        snapshot = recorder._snapshot.build()
    assert not set(snapshot["values"]) & set(first_fleet.QUANTITIES)
    assert snapshot["sensors"]["first_fleet"] == {"state": "ok", "reason": ""}
    recording = Recording(tmp_path / "spool")
    assert numbers(recording) and recording.decoded("/reading/first_fleet") and recording.decoded("/position") == []


def test_unplugged_and_plugged_it_comes_back_and_the_gap_is_told(tmp_path: Path, rig: Rig) -> None:
    running = Running(rig.config(tmp_path))
    with running as recorder:
        wait_for(lambda: recorder._snapshot.counts().get("samples.first_fleet", 0) > 50, "samples")
        rig.pty.unplug()
        wait_for(lambda: recorder._snapshot.build()["sensors"]["first_fleet"]["state"] == "failed", "the loss")
        assert recorder._snapshot.build()["values"]["pressure"]["value"] is None
        before = recorder._snapshot.counts()["samples.first_fleet"]
        rig.pty.plug()
        wait_for(lambda: recorder._snapshot.counts()["samples.first_fleet"] > before + 50, "samples again")
    assert running.whole
    recording = Recording(tmp_path / "spool")
    (gap,) = recording.gaps("first_fleet")
    assert gap.reason.startswith("port: ") and gap.to_boottime_ns > gap.from_boottime_ns
    found = numbers(recording)
    assert len(set(found)) == len(found) and recording.events("source_failed") == []
    assert gap.count == found[-1] + 1 - len(found) > 0  # the box ran on: delivered and missing are what it made


def test_a_box_that_lost_its_power_meanwhile_has_a_gap_without_a_number(tmp_path: Path, rig: Rig) -> None:
    with Running(rig.config(tmp_path)) as recorder:
        wait_for(lambda: recorder._snapshot.counts().get("samples.first_fleet", 0) > 50, "samples")
        with rig.pty.lock:
            rig.chip.power_cycle()
        before = recorder._snapshot.counts()["samples.first_fleet"]
        wait_for(lambda: recorder._snapshot.counts()["samples.first_fleet"] > before + 50, "samples again")
    recording = Recording(tmp_path / "spool")
    assert {(gap.count, gap.reason) for gap in recording.gaps("first_fleet")} == {(0, "time-out")}
    assert numbers(recording).count(0) >= 2  # a busy machine may think once more that it is away


def test_a_killed_recorder_leaves_what_it_wrote_and_the_next_tells_the_gap(tmp_path: Path, rig: Rig) -> None:
    config = rig.config(tmp_path)
    process = start_process(config, tmp_path)
    wait_for(lambda: rig.chip.samples > 200, "samples")
    made = rig.chip.samples
    process.kill()
    process.wait(PATIENCE)
    process = start_process(config, tmp_path)
    wait_for(lambda: len(list((tmp_path / "spool").glob("*-*/"))) == 2, "the second recorder's folder")
    begun = rig.chip.samples
    wait_for(lambda: rig.chip.samples > begun + 250, "samples again")
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 0
    assert process.stderr is not None and process.stderr.read() == b""
    recording = Recording(tmp_path / "spool")
    found = numbers(recording)
    assert len(set(found)) == len(found)
    assert made - sum(1 for number in found if number < made) <= 200  # 1.0 s and what this busy machine adds
    (gap,) = recording.gaps("first_fleet")
    assert gap.reason == "recorder was not running"
    assert gap.count == found[-1] + 1 - len(found) > 0, "delivered and missing are what the box made"
    times = [message.boottime_ns + offset * 1000 for message in recording.decoded(BOX_FRAMES) for offset in message.offsets_us]
    assert gap.from_boottime_ns in times, "a gap begins where the recording ends"


class Line:
    """What stands between model and driver: a LinuxUart whose bytes a test can spoil."""

    def __init__(self, chip: FirstFleetBox, spoil: Callable[[bytes], bytes]) -> None:
        self._chip = chip
        self._clock = Clock()
        self._spoil = spoil
        self._data = bytearray()

    def close(self) -> None:
        pass

    def write(self, buf: bytes) -> int:
        self._chip.write(bytes(buf))
        return len(buf)

    def any(self) -> int:
        self._chip.advance(self._clock.now_us())
        self._data += self._spoil(self._chip.read(self._chip.any()))
        return len(self._data)

    def readinto(self, buf: bytearray) -> int:
        count = min(len(buf), len(self._data))
        buf[:count] = self._data[:count]
        del self._data[:count]
        return count


def served(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[bytes], bytes],
    enough: Callable[[FirstFleetBox], bool],
    chip: FirstFleetBox | None = None,
) -> tuple[FirstFleetBox, Recording]:
    """A box on a spoilt line until `enough`; the model and what was recorded."""
    chip = chip or FirstFleetBox(lambda t_us: WORLD, lambda *_: None)
    monkeypatch.setattr("gateway.box.LinuxUart", lambda port, baud: Line(chip, spoil))
    bench = Bench(tmp_path)
    box = Box("", True, bench.clock, bench.journal, bench.snapshot)
    stop = threading.Event()
    thread = threading.Thread(target=box.run, args=(stop,))
    thread.start()
    wait_for(lambda: enough(chip), "samples")
    stop.set()
    thread.join(PATIENCE)
    return chip, bench.close()


def test_lost_samples_are_told_with_their_exact_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lost: list[int] = []

    def spoil(data: bytes) -> bytes:
        """Cuts out whole samples, and flips a bit in others."""
        out = b""
        while data:
            size = 39 if data[1] == 0x8A else 10 + data[8] if data[1] == 0x8C else 13
            if data[1] in (0x90, 0xBD, 0x8F, 0xBC, 0x88):
                return out + data
            number = int.from_bytes(data[4:7], "little")
            if data[1] == 0x8A and (50 <= number < 60 or number in (100, 102)):
                lost.append(number)
                if number >= 100:
                    out += data[:20] + bytes((data[20] ^ 4,)) + data[21:size]
            else:
                out += data[:size]
            data = data[size:]
        return out

    chip, recording = served(tmp_path, monkeypatch, spoil, lambda chip: chip.samples > 160)
    assert lost == [*range(50, 60), 100, 102]
    found = numbers(recording)
    assert found == [number for number in range(found[-1] + 1) if number not in lost] and chip.samples - found[-1] < 30
    gaps = recording.gaps("first_fleet")
    assert [gap.count for gap in gaps] in ([10, 1, 1], [10, 2])  # one where both came in a single look
    assert all(gap.from_boottime_ns <= gap.to_boottime_ns for gap in gaps)
    assert sum(int(event.detail.split()[0]) for event in recording.events("broken_frames")) == 2


def test_the_boxs_own_faults_are_told_and_take_the_values_away(tmp_path: Path, rig: Rig) -> None:
    running = Running(rig.config(tmp_path))
    with running as recorder:
        rig.chip.errors = 0x04 | 0x40
        wait_for(lambda: recorder._snapshot.build()["values"].get("pressure", {}).get("reason") == "not ready", "the fault")
        rig.chip.errors = 0
        wait_for(lambda: recorder._snapshot.build()["values"]["pressure"]["value"], "the value")
    told = [event.detail for event in Recording(tmp_path / "spool").events("sensor_state")]
    assert told == ["degraded: pressure, GNSS", "ok"]


def test_a_sensor_that_fails_in_every_other_sample_is_told_no_more_than_once_a_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chip = FirstFleetBox(lambda t_us: WORLD, lambda *_: None)

    def spoil(data: bytes) -> bytes:
        chip.errors ^= 0x80 | 0x02
        return data

    _, recording = served(tmp_path, monkeypatch, spoil, lambda chip: chip.samples > 200, chip)
    told = [event.detail for event in recording.events("sensor_state")]
    assert "degraded: magnetic field, error 80" in told and len(told) <= len(recording.decoded(BOX_FRAMES)) + 1


def test_a_number_that_jumps_by_hours_is_no_count_of_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil(data: bytes) -> bytes:
        """Sample 50 with two flipped bits, which its XOR does not show."""
        at = data.find(b"\x9a\x8a\x07\x00\x32\x00\x00")
        return data if at < 0 else data[: at + 6] + bytes((data[at + 6] ^ 16, data[at + 7] ^ 16)) + data[at + 8 :]

    _, recording = served(tmp_path, monkeypatch, spoil, lambda chip: chip.samples > 120)
    assert 50 + (16 << 16) in numbers(recording)
    assert [gap.count for gap in recording.gaps("first_fleet")] in ([0, 0], [0])  # there and back; one where both came in a single look


def test_a_receiver_in_the_box_that_falls_silent_is_told_while_the_box_delivers(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    taker = BoxPositions(bench.clock, bench.journal, bench.snapshot)
    taker.sentence(gga(datetime(2026, 11, 22, tzinfo=UTC), 35.0, 139.0, 20.0), 10 * S)
    for tenth in range(100, 145):
        taker.pass_time(tenth * S // 10)
    assert bench.snapshot.build()["sensors"]["gnss"]["state"] == "ok"
    for tenth in range(145, 160):
        taker.pass_time(tenth * S // 10)
    snapshot = bench.snapshot.build()
    assert snapshot["sensors"]["gnss"] == {"state": "failed", "reason": "no report from the receiver"}
    assert snapshot["values"]["latitude"]["value"] is None
    taker.lost("box: time-out")
    taker.finish()
    assert [event.detail for event in bench.close().events("source_lost")] == ["no report from the receiver", "box: time-out"]


def test_a_box_that_never_answers_is_lost_and_does_not_disturb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr("gateway.box.LinuxUart", lambda port, baud: Mute(asked))
    bench = Bench(tmp_path)
    box = Box("", True, bench.clock, bench.journal, bench.snapshot)
    stop = threading.Event()
    thread = threading.Thread(target=box.run, args=(stop,))
    thread.start()
    wait_for(lambda: bench.snapshot.build()["sensors"].get("first_fleet", {}).get("reason") == "time-out", "the loss")
    stop.set()
    began = time.monotonic()
    thread.join(PATIENCE)
    assert time.monotonic() - began < 2
    recording = bench.close()
    assert [event.detail for event in recording.events("source_lost")] == ["time-out"] and asked


class Mute:
    """A port on which nobody speaks."""

    def __init__(self, asked: list[int]) -> None:
        self._asked = asked

    def close(self) -> None:
        pass

    def write(self, buf: bytes) -> int:
        self._asked.append(len(buf))
        return len(buf)

    def any(self) -> int:
        return 0

    def readinto(self, buf: bytearray) -> None:
        return None


S = 1_000_000_000


def positions_of(tmp_path: Path, *told: tuple[float, bytes]) -> list[Any]:
    bench = Bench(tmp_path)
    taker = BoxPositions(bench.clock, bench.journal, bench.snapshot)
    for at, data in told:
        taker.sentence(data, int(at * S))
    taker.finish()
    return bench.close().decoded("/position")


def test_place_and_course_of_one_moment_are_one_position_in_either_order(tmp_path: Path) -> None:
    place = gga(datetime(2026, 11, 22, tzinfo=UTC), 35.0, 139.0, 20.0)
    course = vtg(10.0, 1.5)
    found = positions_of(
        tmp_path, (1.0, place), (1.1, course), (2.0, course), (2.1, place), (3.0, place), (4.0, place), (5.0, course), (6.0, b"$junk"),
        (7.0, b"$GPGGA,123519,,,,,0,00,,,M,,M,,*" + b"6B\r\n"),
    )  # fmt: skip
    assert [(p.boottime_ns / S, p.HasField("speed")) for p in found if p.valid] == [(1.0, True), (2.1, True), (3.0, False), (4.0, False)]
    assert found[0].raw == place + course and found[0].bearing == pytest.approx(1.5, abs=1e-3)


def test_the_configuration_takes_a_box_and_refuses_what_is_none(tmp_path: Path) -> None:
    text = 'name = "t"\nspool = "s"\nlive_socket = "l"\n[hub]\ndomain = "d"\nhost = "h"\nport = 1\nca_file = "c"\npassword_file = "p"\n'
    path = tmp_path / "truck.toml"
    path.write_text(text + '[box]\nport = "/dev/box"\n')
    assert load(path).box == BoxSettings("/dev/box", True)
    path.write_text(text + '[box]\nport = "/dev/box"\nbaud = 9600\n')
    with pytest.raises(ValueError, match="baud"):
        load(path)


def test_every_quantity_of_the_box_is_in_the_table() -> None:
    assert set(first_fleet.QUANTITIES) <= set(BY_ID)
