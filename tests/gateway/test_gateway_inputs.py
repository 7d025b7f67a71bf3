"""Switches, at the calls of the kernel: the bytes of input events through a FIFO, and the ioctls of evdev in its place. No test of this has
met a real input device."""

import errno
import os
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from gateway_recording import Bench, Recording, wait_for

import gateway.inputs
from gateway.clock import boottime_ns
from gateway.config import Inputs as Settings
from gateway.events import Events
from gateway.inputs import Inputs
from gateway.journal import Entry
from logbook.channels import EVENT
from logbook.schemas import cruisers_pb2 as pb

pytestmark = pytest.mark.timeout(60)

# linux/input.h as a C compiler gives it (x86-64), not as gateway/inputs.py computes it
EVIOCGKEY_96, EVIOCGBIT_KEY_96, EVIOCSCLOCKID = 0x80604518, 0x80604521, 0x400445A0
EV_SYN, EV_KEY, SYN_REPORT, SYN_DROPPED = 0, 1, 0, 3
BOOKMARK, LID, IGNITION, OTHER = 148, 149, 202, 30
S = 1_000_000_000
MINUTE = 60.0  # of the ignition


def bits(codes: set[int]) -> bytes:
    data = bytearray(96)
    for code in codes:
        data[code >> 3] |= 1 << (code & 7)
    return bytes(data)


class Switches:
    """A gpio-keys device: a FIFO for its events, and what its ioctls answer. `pressed` is its state now."""

    def __init__(self, path: Path, keys: set[int]) -> None:
        self.path = path
        self.keys = keys
        self.pressed: set[int] = set()
        self.boot_time = True
        self.clock_asked: list[int] = []
        self.now: Callable[[], int] = boottime_ns
        self._writer = -1
        os.mkfifo(path)

    def plug(self) -> None:
        self._writer = os.open(self.path, os.O_RDWR)

    def plug_again(self) -> None:
        os.mkfifo(self.path)
        self.plug()

    def unplug(self) -> None:
        """The reader's next read finds the end, as evdev's finds ENODEV."""
        os.close(self._writer)
        self.path.unlink()

    def write(self, data: bytes) -> None:
        os.write(self._writer, data)

    def send(self, *events: tuple[int, int, int], at_ns: int | None = None) -> int:
        """Events (type, code, value) and a report behind them; the time they carry, to the microsecond."""
        at = (self.now() if at_ns is None else at_ns) // 1000
        seconds, microseconds = divmod(at, 1_000_000)
        os.write(
            self._writer, b"".join(struct.pack("qqHHi", seconds, microseconds, *event) for event in (*events, (EV_SYN, SYN_REPORT, 0)))
        )
        return at * 1000

    def key(self, code: int, value: int, at_ns: int | None = None) -> int:
        (self.pressed.add if value else self.pressed.discard)(code)
        return self.send((EV_KEY, code, value), at_ns=at_ns)

    def ioctl(self, request: int, argument: bytes | bytearray) -> int:
        if request == EVIOCSCLOCKID:
            self.clock_asked.append(struct.unpack("i", argument)[0])
            if not self.boot_time:
                raise OSError(errno.EINVAL, "Invalid argument")
            return 0
        assert isinstance(argument, bytearray)
        argument[:] = bits({EVIOCGKEY_96: self.pressed, EVIOCGBIT_KEY_96: self.keys}[request])
        return len(argument)


class Cab:
    """Inputs on a bench, running from `start` to `end`; `skip` puts their clock forward. `ignition` is what the recorder was told."""

    def __init__(self, folder: Path, devices: list[Switches], patch: pytest.MonkeyPatch) -> None:
        self.devices = devices
        self.bench = Bench(folder)
        self.heard: list[tuple[str, int]] = []
        self.ignition: list[bool] = []
        self.lost: list[str] = []  # reasons
        self.bench.journal.observe(EVENT, self._event)
        events = Events(self.bench.journal, self.bench.snapshot)
        events.subscribe(lambda kind, at_ns: self.heard.append((kind, at_ns)))
        paths = [str(device.path) for device in devices]
        settings = Settings(paths, bookmark=BOOKMARK, opened=LID, ignition=IGNITION, ignition_seconds=MINUTE)
        self.inputs = Inputs(settings, events, self.bench.journal, self.bench.snapshot, self.ignition.append)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self.inputs.run, args=(self._stop,), daemon=True)
        self._ahead_ns = 0
        for device in devices:
            device.now = self.now
        patch.setattr(gateway.inputs, "boottime_ns", self.now)
        patch.setattr(gateway.inputs, "ioctl", self._ioctl)
        patch.setattr(gateway.inputs, "REOPEN_SECONDS", 0.05)

    def _ioctl(self, fd: int, request: int, argument: bytes | bytearray) -> int:
        path = os.readlink(f"/proc/self/fd/{fd}")
        return next(device for device in self.devices if str(device.path) == path).ioctl(request, argument)

    def _event(self, entry: Entry) -> None:
        event = pb.Event.FromString(entry.data)
        if event.kind == "source_lost":
            self.lost.append(event.detail)

    def start(self) -> None:
        self._thread.start()
        wait_for(lambda: self.lost or all(device.clock_asked for device in self.devices), "the devices being opened")

    def now(self) -> int:
        return boottime_ns() + self._ahead_ns

    def skip(self, seconds: float) -> None:
        self._ahead_ns += int(seconds * S)

    def wait(self, count: int) -> list[str]:
        """The kinds of the first `count` events."""
        wait_for(lambda: len(self.heard) >= count, f"{count} events")
        return [kind for kind, _ in self.heard]

    def end(self) -> Recording:
        self._stop.set()
        self._thread.join()
        return self.bench.close()


@pytest.fixture
def switches(tmp_path: Path) -> Iterator[Switches]:
    device = Switches(tmp_path / "event0", {BOOKMARK, LID, IGNITION, OTHER})
    device.pressed = {IGNITION}
    device.plug()
    yield device


@pytest.fixture
def cab(tmp_path: Path, switches: Switches, monkeypatch: pytest.MonkeyPatch) -> Cab:
    return Cab(tmp_path, [switches], monkeypatch)


def test_button_and_lid_are_events_with_the_kernels_own_time(cab: Cab, switches: Switches) -> None:
    cab.start()
    at = [switches.key(BOOKMARK, 1), switches.key(BOOKMARK, 0), switches.key(LID, 1), switches.key(LID, 0)]
    assert cab.wait(3) == ["bookmark", "box_opened", "box_closed"]
    recording = cab.end()
    assert cab.heard == [("bookmark", at[0]), ("box_opened", at[2]), ("box_closed", at[3])]
    sources = {event.kind: event.source for event in recording.decoded("/event") if event.kind != "source_delivers"}
    assert sources == {"bookmark": "button", "box_opened": "lid", "box_closed": "lid"}
    assert switches.clock_asked == [7] and cab.ignition == []  # CLOCK_BOOTTIME


def test_other_keys_held_keys_and_other_types_are_passed_over(cab: Cab, switches: Switches) -> None:
    cab.start()
    switches.key(OTHER, 1)
    switches.send((EV_KEY, BOOKMARK, 1), (EV_KEY, BOOKMARK, 2), (EV_KEY, BOOKMARK, 2), (4, 4, 148), (2, BOOKMARK, 1))
    switches.key(LID, 1)
    switches.send((EV_KEY, LID, 2), (EV_KEY, LID, 2))  # autorepeat: still open
    switches.key(BOOKMARK, 1)
    assert cab.wait(3) == ["bookmark", "box_opened", "bookmark"]
    assert cab.end().events("source_lost") == []


def test_a_kernel_without_boot_times_gets_the_moment_of_reading(cab: Cab, switches: Switches) -> None:
    switches.boot_time = False
    before = boottime_ns()
    cab.start()
    switches.key(BOOKMARK, 1, at_ns=1_795_288_393 * S)  # the day
    cab.wait(1)
    assert before <= cab.heard[0][1] <= boottime_ns()
    cab.end()


def test_a_lid_that_is_open_at_the_start_is_told_and_a_button_held_then_is_no_bookmark(cab: Cab, switches: Switches) -> None:
    switches.pressed = {IGNITION, LID, BOOKMARK}
    cab.start()
    switches.key(LID, 0)
    assert cab.wait(2) == ["box_opened", "box_closed"]
    (opened,) = cab.end().events("box_opened")
    assert opened.detail == "found so"


# --- ignition


def test_a_starter_that_dips_the_supply_does_not_end_the_shift_and_an_ignition_that_stays_off_does(cab: Cab, switches: Switches) -> None:
    cab.start()
    for count in range(1, 5):
        switches.key(IGNITION, 0)
        switches.key(BOOKMARK, 1)
        cab.wait(count)
        cab.skip(MINUTE / 3)
        switches.key(IGNITION, 1)
    switches.key(BOOKMARK, 1)
    assert cab.wait(5) == ["bookmark"] * 5 and cab.ignition == []
    off = switches.key(IGNITION, 0)
    cab.skip(MINUTE)
    assert cab.wait(6)[5] == "ignition_off"
    wait_for(lambda: cab.ignition == [False], "the recorder being told")
    on = switches.key(IGNITION, 1)
    cab.wait(7)
    wait_for(lambda: cab.ignition == [False, True], "the recorder being told")
    recording = cab.end()
    assert cab.heard[5:] == [("ignition_off", off), ("ignition_on", on)]
    assert {event.source for event in (*recording.events("ignition_off"), *recording.events("ignition_on"))} == {"ignition"}


def test_an_ignition_that_is_off_at_the_start_ends_the_shift_after_its_time(cab: Cab, switches: Switches) -> None:
    switches.pressed = set()
    cab.start()
    switches.key(BOOKMARK, 1)
    assert cab.wait(1) == ["bookmark"] and cab.ignition == []
    cab.skip(MINUTE)
    assert cab.wait(2) == ["bookmark", "ignition_off"]
    wait_for(lambda: cab.ignition == [False], "the recorder being told")
    cab.end()


def test_a_device_that_goes_while_the_ignition_may_be_off_ends_no_shift(cab: Cab, switches: Switches) -> None:
    cab.start()
    switches.key(IGNITION, 0)
    switches.key(BOOKMARK, 1)
    cab.wait(1)
    switches.unplug()
    wait_for(lambda: cab.lost, "the loss being noticed")
    assert cab.bench.snapshot.build()["sensors"]["inputs/event0"]["state"] == "failed"
    cab.skip(2 * MINUTE)
    switches.pressed = {IGNITION, LID}
    switches.plug_again()
    assert cab.wait(2) == ["bookmark", "box_opened"] and cab.ignition == []
    assert cab.bench.snapshot.build()["sensors"]["inputs/event0"]["state"] == "ok"
    assert {event.source for event in cab.end().events("source_lost")} == {"inputs/event0"}


# --- coming and going


def test_a_device_that_is_absent_is_opened_when_it_comes_and_after_it_went(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = Switches(tmp_path / "event0", {BOOKMARK, LID, IGNITION})
    device.pressed = {IGNITION}
    device.path.unlink()
    cab = Cab(tmp_path, [device], monkeypatch)
    cab.start()
    for count in (1, 2):
        device.plug_again()
        wait_for(lambda count=count: len(device.clock_asked) == count, "the device being opened")  # type: ignore[misc]
        device.key(BOOKMARK, 1)
        cab.wait(count)
        device.unplug()
    assert cab.lost[0] == "No such file or directory"
    recording = cab.end()
    assert len(recording.events("bookmark")) == 2
    assert len(recording.events("source_delivers")) == 2


def test_a_lid_opened_while_the_device_was_away_is_told_when_it_is_back(cab: Cab, switches: Switches) -> None:
    cab.start()
    switches.key(BOOKMARK, 1)
    cab.wait(1)
    switches.unplug()
    switches.pressed.add(LID)
    switches.plug_again()
    assert cab.wait(2) == ["bookmark", "box_opened"]
    cab.end()


def test_what_the_kernel_dropped_is_a_gap_and_the_state_is_asked_for(cab: Cab, switches: Switches) -> None:
    cab.start()
    before = switches.key(LID, 1)
    cab.wait(1)
    switches.pressed = {IGNITION}  # it was closed in what was dropped
    at = switches.send((EV_SYN, SYN_DROPPED, 0), (EV_KEY, BOOKMARK, 1))
    switches.key(BOOKMARK, 1)
    assert cab.wait(3) == ["box_opened", "box_closed", "bookmark"]  # not the bookmark before the report
    recording = cab.end()
    (gap,) = recording.gaps("inputs")
    assert (gap.reason, gap.from_boottime_ns, gap.to_boottime_ns, gap.count) == ("events dropped by the kernel", before, at, 0)


def test_each_key_may_be_on_a_device_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    devices = [Switches(tmp_path / f"event{key}", {key}) for key in (BOOKMARK, LID, IGNITION)]
    devices[2].pressed = {IGNITION}
    for device in devices:
        device.plug()
    cab = Cab(tmp_path, devices, monkeypatch)
    cab.start()
    for device, key in zip(devices[:2], (BOOKMARK, LID), strict=True):
        device.key(key, 1)
    assert sorted(cab.wait(2)) == ["bookmark", "box_opened"]
    devices[2].key(IGNITION, 0)
    cab.skip(MINUTE)
    assert cab.wait(3)[2] == "ignition_off"
    cab.end()


@pytest.mark.parametrize(("wrong", "words"), [("keys", "has none of the keys 148, 149, 202"), ("bytes", "not an input device")])
def test_what_is_no_such_device_is_said_in_one_line(cab: Cab, switches: Switches, wrong: str, words: str) -> None:
    if wrong == "keys":
        switches.keys = {OTHER}
    cab.start()
    if wrong == "bytes":
        switches.write(b"hello")
    wait_for(lambda: words in cab.lost, words)
    cab.end()
