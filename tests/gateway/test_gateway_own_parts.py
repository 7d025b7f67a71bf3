"""Chips on this machine's own bus: written down as a head's, whatever happens to bus, disk and recorder. In virtual time."""

import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from gateway_recording import Recording
from own_bench import DEVICE, OwnBench

import gateway.own_parts
from gateway.config import Bus
from gateway.own_parts import OWN_BOOT, OwnWire
from gateway.recorder import main
from logbook import block, files

pytestmark = pytest.mark.timeout(120)

SECOND = 10**9
IMU = "icm20948"
SLOW = ("bmp390", "sht45", "opt3001")
FIFO = 23  # samples that a FIFO's drain before the first one may have thrown away


def accounted(own: OwnBench, recording: Recording) -> int:
    """IMU samples made since the first delivered one, less those delivered and those reported missing."""
    made = [at for at in own.made(IMU) if recording.imu_times[0] - 6_000_000 <= at <= recording.imu_times[-1] + 4_000_000]
    return len(made) - len(recording.imu_times) - sum(gap.count for gap in recording.gaps(IMU))


def test_samples_trims_states_and_values_are_written_and_shown_as_a_heads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = OwnBench(tmp_path, monkeypatch, (IMU, *SLOW))
    own.run(12)
    trims = {entry.topic for entry in own.wire.trims()}
    snapshot = own.bench.snapshot.build()
    recording = own.close()
    assert trims == {"/trim"} and {trim.sensor for trim in recording.decoded("/trim")} == {IMU, *SLOW}
    assert {trim.head_boot for trim in recording.decoded("/trim")} == {OWN_BOOT} == {0}
    for sensor in SLOW:
        readings = recording.decoded(f"/reading/{sensor}")
        assert [reading.sequence for reading in readings] == list(range(1, len(readings) + 1)) and len(readings) >= 10
        assert {reading.head_boot for reading in readings} == {0}
        for value in readings[-1].values:
            assert value.number == pytest.approx(own.world[value.quantity], rel=1e-3)
    assert recording.gaps(IMU) == [] and accounted(own, recording) == 0
    boot, _, _ = block.decode(recording.messages["/imu/block"][0].data)
    assert boot == 0
    settled = [at for at in recording.imu_times if at > recording.imu_times[0] + 10 * SECOND]
    made = own.made(IMU)
    assert max(min(abs(at - true) for true in made) for at in settled) < 1_000_000
    assert 100 <= len(recording.decoded("/imu")) <= 125  # ten a second
    assert {sensor: state["state"] for sensor, state in snapshot["sensors"].items()} == dict.fromkeys((IMU, *SLOW, DEVICE), "ok")
    assert snapshot["values"]["pressure"]["value"] == pytest.approx(own.world["pressure"], rel=1e-3)
    assert snapshot["counts"][f"samples.{IMU}"] == len(recording.imu_times)
    assert {event.source for event in recording.events("sensor_state") if event.detail.startswith("ok")} == {IMU, *SLOW}


def test_a_bus_that_is_absent_at_the_start_is_told_and_taken_up_when_it_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = OwnBench(tmp_path, monkeypatch, ("sht45",))
    own.pull()
    own.run(10, (4.0, own.plug))
    recording = own.close()
    (lost,) = recording.events("source_lost")
    assert (lost.source, lost.detail) == (DEVICE, "No such file or directory")
    (back,) = recording.events("source_delivers")
    assert back.source == DEVICE and back.boottime_ns >= 10**12 + 4 * SECOND
    assert len(recording.decoded("/reading/sht45")) >= 4
    assert recording.gaps("sht45") == []  # it never delivered before


def test_an_adapter_that_is_pulled_is_an_event_and_what_its_chips_lost_is_a_gap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = OwnBench(tmp_path, monkeypatch, (IMU, "sht45"))
    own.run(75, (65.0, own.pull), (68.0, own.plug))
    snapshot = own.bench.snapshot.build()
    recording = own.close()
    lost = recording.events("source_lost")
    assert [event.detail for event in lost] == ["No such device", "No such file or directory"] and {event.source for event in lost} == {
        DEVICE
    }
    assert len(recording.events("source_delivers")) == 2
    (gap,) = recording.gaps("sht45")
    assert gap.reason == "no acknowledge" and gap.count in (3, 4)
    assert gap.from_boottime_ns < 10**12 + 65 * SECOND and gap.to_boottime_ns > 10**12 + 68 * SECOND
    assert {gap.reason for gap in recording.gaps(IMU)} == {"no acknowledge"}  # the chips kept their supply: counted exactly
    assert accounted(own, recording) == 0
    assert snapshot["sensors"][DEVICE] == {"state": "ok", "reason": ""}


def test_a_bus_on_which_nothing_answers_is_opened_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some adapters go on saying "not acknowledged" when they are gone, while the new one waits for the name."""
    own = OwnBench(tmp_path, monkeypatch, ("sht45",))

    def deaf() -> None:
        own.adapter.deaf = True

    def reopened() -> None:
        assert own.adapter.opened == 2, "closed after 5 s of silence"
        own.adapter.deaf = False

    own.run(14, (3.0, deaf), (9.9, reopened))
    recording = own.close()
    assert own.adapter.opened == 2
    (gap,) = recording.gaps("sht45")
    assert gap.reason == "no acknowledge"


def test_after_a_kill_the_next_recorder_says_what_it_did_not_see(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = OwnBench(tmp_path, monkeypatch, (IMU, "sht45"))
    own.run(20)
    first = own.close()
    since = {IMU: first.imu_times[-1], "sht45": first.messages["/reading/sht45"][-1].log_time}
    own.chips.wait_us(5_000_000)
    own.restart(since)
    own.run(10)
    own.close()
    recording = Recording(tmp_path / "spool")
    (slow,) = recording.gaps("sht45")
    assert (slow.reason, slow.from_boottime_ns, slow.count) == ("recorder was not running", since["sht45"], 0)
    assert slow.to_boottime_ns == recording.messages["/reading/sht45"][len(first.messages["/reading/sht45"])].log_time
    (gap,) = recording.gaps(IMU)
    assert gap.reason.startswith("recorder was not running (±") and gap.from_boottime_ns == since[IMU]
    seconds = (gap.to_boottime_ns - gap.from_boottime_ns) / SECOND
    uncertain = int(gap.reason.split("±")[1][:-1])
    assert 5.0 < seconds < 5.5 and uncertain < 25
    assert abs(gap.count - (seconds * 1125 / 11 - 1)) <= uncertain + 1
    assert {reading.sequence for reading in recording.decoded("/reading/sht45")} >= {1, 2, 3}


def test_what_a_full_memory_refuses_is_counted_by_sensor_and_the_live_view_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = OwnBench(tmp_path, monkeypatch, (IMU, "sht45"))
    write = own.bench.readings.write_group
    seen: list[int] = []

    def refuse() -> None:
        own.disk.told(OSError(28, "No space left on device"))
        monkeypatch.setattr(own.bench.readings, "write_group", lambda entries, token=None: False)

    def take() -> None:
        seen.append(own.bench.snapshot.build()["values"]["temperature"]["boottime_ns"])
        monkeypatch.setattr(own.bench.readings, "write_group", write)

    own.run(30, (10.0, refuse), (20.0, take))
    recording = own.close()
    assert seen[0] > 10**12 + 18 * SECOND, "shown while nothing could be written"
    made = {IMU: len(own.made(IMU)), "sht45": len(own.made("sht45"))}
    for sensor, delivered in ((IMU, len(recording.imu_times)), ("sht45", len(recording.decoded("/reading/sht45")))):
        (gap,) = recording.gaps(sensor)
        assert gap.reason == "disk refused: No space left on device"
        assert 0 <= made[sensor] - delivered - gap.count <= FIFO, "the rest is what was never read: before the start, behind the end"
        assert 9.0 < (gap.to_boottime_ns - gap.from_boottime_ns) / SECOND < 11.5
    (imu,) = recording.gaps(IMU)
    assert [at for at in recording.imu_times if imu.from_boottime_ns < at < imu.to_boottime_ns] == []
    assert accounted(own, recording) == 0


def test_a_drop_that_lasts_to_the_end_is_told_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = OwnBench(tmp_path, monkeypatch, ("sht45",))
    journal_write = own.bench.journal.write
    refuse = [False]
    monkeypatch.setattr(own.bench.journal, "write", lambda entries, token=None: not (refuse[0] and token) and journal_write(entries, token))
    own.run(8, (4.0, lambda: refuse.__setitem__(0, True)))
    recording = own.close()
    (gap,) = recording.gaps("sht45")
    assert gap.reason == "disk refused: no answer"
    assert gap.count + len(recording.decoded("/reading/sht45")) == len(own.made("sht45"))


def test_a_part_that_does_not_deliver_when_the_recorder_stops_is_a_gap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = OwnBench(tmp_path, monkeypatch, ("sht45", "bmp390"))
    own.run(10, (5.0, own.pull))
    recording = own.close()
    for sensor in ("sht45", "bmp390"):
        (gap,) = recording.gaps(sensor)
        assert gap.from_boottime_ns == recording.messages[f"/reading/{sensor}"][-1].log_time
        assert gap.to_boottime_ns >= 10**12 + 10 * SECOND and gap.reason == "no acknowledge"


def test_sampling_does_not_wait_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = OwnBench(tmp_path, monkeypatch, (IMU,))
    blocked = threading.Event()
    sync = files.sync_data

    def stalled(fd: int) -> None:
        blocked.wait()
        sync(fd)

    monkeypatch.setattr(files, "sync_data", stalled)
    own.run(20)  # it ends though the disk has not answered once
    blocked.set()
    recording = own.close()
    assert recording.gaps(IMU) == [] and accounted(own, recording) == 0 and len(recording.imu_times) > 1_900


def test_a_source_that_is_started_again_says_what_is_missing_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = OwnBench(tmp_path, monkeypatch, (IMU, "sht45"))
    own.run(20)
    own.chips.wait_us(2_000_000)
    own.run(5)
    recording = own.close()
    (slow,) = recording.gaps("sht45")
    (imu,) = recording.gaps(IMU)
    assert slow.reason == "source was started again" and imu.reason.startswith("source was started again (±")
    # The chip was set up anew and rested meanwhile: the count is of what it would have made.
    would = (imu.to_boottime_ns - imu.from_boottime_ns) / SECOND * 1125 / 11 - 1
    assert abs(imu.count - would) <= int(imu.reason.split("±")[1][:-1])
    assert imu.to_boottime_ns in recording.imu_times and imu.from_boottime_ns in recording.imu_times


@pytest.mark.parametrize(("undecided", "longest_s"), [(False, 0.5), (True, 0.75)])
def test_a_batch_is_due_within_three_quarters_of_a_second(
    undecided: bool, longest_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut may cost 1.0 s."""
    own = OwnBench(tmp_path, monkeypatch, ("sht45",))
    now = [10**15]
    monkeypatch.setattr(gateway.own_parts, "boottime_ns", lambda: now[0])
    wire: OwnWire = own.wire
    monkeypatch.setattr(wire, "_log", SimpleNamespace(undecided=undecided))
    assert not wire._due()
    wire._begin()
    due = []
    for millisecond in range(1_000):
        now[0] = 10**15 + millisecond * 1_000_000
        if wire._due():
            due.append(millisecond)
    assert due[0] == pytest.approx(longest_s * 1_000) and len(due) == 1_000 - due[0]
    own.bench.close()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"i2c": "/dev/i2c-1", "chips": ["opt3001@0x44"]}, "[bus] sht45 and opt3001 clash on I2C bus 1: both at 0x44"),
        ({"i2c": "/dev/i2c-1", "chips": ["bme280"]}, "[bus] no driver for 'bme280'"),
        ({"i2c": "/dev/i2c-1", "without": ["bme280"]}, "[bus] no driver for 'bme280'"),
        ({"i2c": "/dev/i2c-1", "uarts": ["/dev/a=sps30"], "chips": ["sps30"]}, "[bus] sps30 is on the bus and on a serial port"),
        ({"uarts": ["/dev/a=sps30", "/dev/b=sps30"]}, "[bus] sps30 is on two serial ports"),
        ({"uarts": ["/dev/a=sps30", "/dev/a=pms5003"]}, "[bus] sps30 and pms5003 clash: both on /dev/a"),
        ({"uarts": ["/dev/a=neo_m9n"]}, "[bus] neo_m9n on /dev/a is read by section [receiver]"),
        ({"uarts": ["/dev/a=first_fleet"]}, "[bus] first_fleet on /dev/a is read by section [box]"),
        ({"uarts": ["/dev/a"]}, "[bus] uarts: /dev/a: it takes PATH=PART"),
        ({"chips": ["opt3001"]}, "[bus] no bus is named (i2c)"),
        ({}, "[bus] no bus is named (i2c)"),
    ],
)
def test_own_wires_that_cannot_be_are_refused_in_one_line(settings: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError) as refused:
        Bus(**settings)  # type: ignore[arg-type]
    assert str(refused.value).startswith(told) and "\n" not in str(refused.value)


HUB = '[hub]\ndomain = "d"\nhost = "h"\nport = 5222\nca_file = "c"\npassword_file = "p"\n'


@pytest.mark.parametrize(
    ("sections", "told"),
    [
        ('[bus]\ni2c = "/dev/i2c-1"\nchips = ["opt3001@0x44"]\n', "sht45 and opt3001 clash on I2C bus 1: both at 0x44"),
        ('[bus]\ni2c = "/dev/i2c-1"\n[head]\nport = "/dev/a"\n', "[head] and [bus] would be two sources of the same readings"),
        ('[bus]\nuarts = ["/dev/a=sps30"]\n[box]\nport = "/dev/a"\n', "port of [box] and uarts of [bus] are the same: /dev/a"),
        ('[bus]\nuarts = ["/dev/a=sps30"]\n[gpsd]\ndevice = "/dev/a"\n', "device of [gpsd] and uarts of [bus] are the same: /dev/a"),
    ],
)
def test_a_configuration_with_such_wires_is_one_line_and_exit_code_2(
    sections: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "truck.toml"
    path.write_text(f'name = "t"\nspool = "{tmp_path}/spool"\nlive_socket = "{tmp_path}/live"\n{HUB}{sections}')
    assert main([str(path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"recorder: {path}: ") and error.count("\n") == 1 and told in error
