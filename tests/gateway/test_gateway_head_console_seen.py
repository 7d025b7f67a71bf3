"""What the technician's console makes of a head's frames, and the page it shows."""

import io
import json
import re
import struct
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from rich.console import Console

from drivers import opt3001
from firmware import frames
from gateway.head_console_page import as_json, page
from gateway.head_console_seen import SILENT_S, Seen
from logbook.quantities import BY_ID

SHT45, OPT3001 = 3, 4
LIT, SATURATED = bytes.fromhex("4000ce10"), bytes.fromhex("bfffcf10")
US = 1_000_000


class Head:
    """Makes a head's frames; `tell` gives them to a console. Its clock is `ticks`, and the console's now is the same in seconds."""

    def __init__(self) -> None:
        self.seen = Seen()
        self.boot = 7
        self.ticks = 0
        self._numbers: Iterator[int] = count(1)

    @property
    def now(self) -> float:
        return self.ticks / US

    def passing(self, kind: int, payload: bytes) -> None:
        self.seen.take(frames.Frame(kind, self.boot, 0, self.ticks, payload), self.now)

    def kept(self, kind: int, payload: bytes, *, sequence: int | None = None) -> None:
        number = next(self._numbers) if sequence is None else sequence
        self.seen.take(frames.Frame(kind, self.boot, number, self.ticks, payload), self.now)

    def hello(self, **more: Any) -> None:
        about = {"firmware": "0.1.0", "runtime": "micropython 1.29.0 rp2", "unique_id": "e6614c311b7d4f2a", "reset_cause": "watchdog"}
        self.passing(frames.HELLO, json.dumps({**about, "ring_bytes": 65536, "oldest": 1, "newest": 1, "slot": "a", **more}).encode())

    def state(self, sensor: int, state: int, reason: int = 0, failures: int = 0) -> None:
        self.kept(frames.STATE, struct.pack("<BBBH", sensor, state, reason, failures))

    def stands(self, sensor: int, state: int, reason: int = 0, failures: int = 0) -> None:
        self.passing(frames.STATE, struct.pack("<BBBH", sensor, state, reason, failures))

    def health(self, dropped: int = 0, used: int = 4000) -> None:
        self.kept(frames.HEALTH, struct.pack("<6I", 40_000, used, dropped, 12_300, 75, 0))

    def light(self, raw: bytes) -> None:
        self.passing(frames.TRIM, bytes((OPT3001,)) + bytes.fromhex("3001"))
        self.kept(frames.SAMPLE, bytes((OPT3001, 1)) + raw)

    def page(self, height: int | None = None, trouble: str = "") -> list[str]:
        console = Console(width=78, record=True, file=io.StringIO())
        console.print(page(self.seen, "/dev/ttyACM0", trouble, self.now, height))
        return [line.rstrip() for line in console.export_text().splitlines()]

    def json(self) -> Any:
        return json.loads(json.dumps(as_json(self.seen, "/dev/ttyACM0", self.now)))

    def sensor(self, name: str) -> Any:
        (found,) = [one for one in self.json()["sensors"] if one["sensor"] == name]
        return found


@pytest.fixture
def head() -> Head:
    made = Head()
    made.hello()
    return made


def test_a_reading_is_shown_with_its_unit_and_a_saturated_one_with_its_reason(head: Head) -> None:
    head.light(LIT)
    expected = opt3001.decode(bytes.fromhex("3001"), LIT)["illuminance"]
    sensor = head.sensor("opt3001")
    assert (sensor["sensor"], sensor["state"]) == ("opt3001", "ok")  # no STATE since it was acknowledged: it delivers
    assert sensor["values"]["illuminance"]["value"] == expected and sensor["values"]["illuminance"]["unit"] == BY_ID["illuminance"].unit
    assert any(re.match(rf"opt3001 +ok +0\.0 s Illuminance {expected:.0f} lx", line) for line in head.page())
    head.light(SATURATED)
    assert head.sensor("opt3001")["values"] == {"illuminance": {"reason": "saturated"}}
    assert any(line.endswith("Illuminance saturated") for line in head.page())


def test_what_a_sensor_said_before_it_failed_is_no_value_any_more(head: Head) -> None:
    head.light(LIT)
    head.state(OPT3001, frames.FAILED, 1, 12)
    head.ticks += 3 * US
    sensor = head.sensor("opt3001")
    assert (sensor["state"], sensor["reason"], sensor["failures"]) == ("failed", "no acknowledge", 12)
    assert sensor["values"] == {"illuminance": {"reason": "no acknowledge"}} and sensor["age_s"] == 3
    (line,) = [line for line in head.page() if line.startswith("opt3001")]
    assert line == "opt3001   failed    3.0 s no acknowledge, 12 failures"


def test_a_sensor_of_the_standard_fit_that_says_nothing_is_silent_once_all_of_the_ring_has_come(head: Head) -> None:
    assert head.json()["sensors"] == [] and not head.seen.settled
    head.light(LIT)
    assert head.sensor("sht45")["state"] == "silent" and head.sensor("opt3001")["state"] == "ok"
    assert any(line.startswith("sht45     silent          says nothing: absent, or not in") for line in head.page())
    assert "veml7700" not in "".join(head.page())
    head.health()
    assert head.seen.settled


def test_a_head_that_says_how_its_sensors_are_leaves_none_silent_and_names_the_one_that_is_absent(head: Head) -> None:
    head.ticks += 100 * US
    head.stands(OPT3001, frames.OK)
    head.stands(SHT45, frames.ABSENT, 1, 95)
    head.light(LIT)
    head.health()
    (absent,) = [one for one in head.json()["sensors"] if one["sensor"] != "opt3001"]  # the standard parts not in its list are not missed
    assert (absent["sensor"], absent["state"], absent["reason"], absent["failures"]) == ("sht45", "absent", "no acknowledge", 95)
    assert any(line.startswith("sht45     absent          no acknowledge, 95 failures") for line in head.page())
    assert head.seen.settled and not head.seen.changes


def test_a_change_out_of_the_ring_does_not_undo_the_present_state_but_a_new_one_does(head: Head) -> None:
    head.ticks += 100 * US
    head.stands(SHT45, frames.OK, 0, 3)
    head.ticks -= 5 * US
    head.state(SHT45, frames.FAILED, 1, 3)  # made before, sent behind it
    assert head.sensor("sht45")["state"] == "ok" and [change.state for change in head.seen.changes] == ["failed"]
    head.ticks += 6 * US
    head.state(SHT45, frames.DEGRADED, 4, 4)
    assert (head.sensor("sht45")["state"], head.sensor("sht45")["failures"]) == ("degraded", 4)


def test_kept_frames_count_from_hello_on_and_each_once() -> None:
    head = Head()
    head.state(SHT45, frames.FAILED, 1, 3)
    head.seen.damage(1)  # the half frame with which it began
    assert not head.seen.changes and head.seen.damaged == 0
    head.hello()
    for _ in range(2):
        head.kept(frames.STATE, struct.pack("<BBBH", SHT45, frames.FAILED, 1, 3), sequence=1)
    assert [change.text for change in head.seen.changes] == ["failed (no acknowledge), 3 failures"]
    head.kept(frames.STATE, struct.pack("<BBBH", SHT45, 99, 1, 3), sequence=2)
    assert head.seen.damaged == 1


def test_the_last_changes_are_told_with_their_age_by_the_heads_own_clock(head: Head) -> None:
    head.state(SHT45, frames.DEGRADED, 4, 1)
    head.ticks += 90 * US
    head.kept(frames.GAP, struct.pack("<BBI", SHT45, 1, 17))
    head.ticks += 5 * US
    head.passing(frames.PONG, bytes(8))
    assert head.page()[-3:] == [
        "last changes",
        " 1 min ago  sht45     degraded (bad checksum), 1 failure",
        " 5.0 s ago  sht45     17 samples missing (no acknowledge)",
    ]
    assert [change["age_s"] for change in head.json()["changes"]] == [95, 5]


def test_the_head_itself_is_told_in_four_lines_and_keys_it_does_not_send_are_left_out(head: Head) -> None:
    head.health(dropped=2)
    head.health(dropped=5)
    assert head.page()[:4] == [
        "head e6614c311b7d4f2a  firmware 0.1.0, slot a  /dev/ttyACM0",
        "micropython 1.29.0 rp2, started by watchdog",
        "up 1 min, heap 40.0 kB free, longest turn 12 ms",
        "ring: frames 4 to 2, 4.0 of 65.5 kB, 5 dropped",
    ]
    head.hello(boot_count=17, marker="maintenance", slot="b on trial", parts_error="no part 'bme280'")
    lines = head.page()
    assert lines[0].startswith("head e6614c311b7d4f2a  firmware 0.1.0, slot b on trial")
    assert lines[1] == "micropython 1.29.0 rp2, started by its own reset (maintenance), boot 17"
    assert lines[5] == "list of parts refused: no part 'bme280'"


def test_a_head_that_starts_anew_is_asked_anew_and_the_list_of_changes_goes_on(head: Head) -> None:
    head.state(SHT45, frames.FAILED, 1, 3)
    head.ticks += 10 * US
    head.passing(frames.PONG, bytes(8))
    head.boot, head.ticks = 8, 0
    head.passing(frames.PONG, bytes(8))
    assert head.seen.hello is None and head.seen.restarts == 1 and not list(head.seen.sensors())
    assert [change.text for change in head.seen.changes] == ["failed (no acknowledge), 3 failures", "started anew"]
    assert head.json()["changes"][0]["age_s"] == 10


def test_a_head_that_sends_nothing_is_called_silent_and_a_port_that_went_is_named(head: Head) -> None:
    head.light(LIT)
    assert not head.seen.silent(head.now) and head.seen.silent(head.now + SILENT_S + 1)
    assert head.page(trouble="/dev/ttyACM0 is gone")[4] == "line: /dev/ttyACM0 is gone"


def test_in_any_window_every_sensor_keeps_its_state_and_no_line_is_wider_than_the_page(head: Head) -> None:
    for sensor in frames.SENSORS:
        for failures in range(20):
            head.state(sensor, frames.CONFIGURING, 8, failures)
    head.state(SHT45, frames.FAILED, 7, 65_535)
    head.light(LIT)
    head.health(dropped=4_000_000_000)
    whole = head.page()
    assert len(whole) > 22
    for height in (16, 18, 23, 40):
        lines = head.page(height)
        assert len(lines) <= height and max(map(len, lines)) <= 78
        assert [line.split()[0] for line in lines if line[:1] not in (" ", "") and line.split()[0] in frames.SENSORS.values()] == list(
            frames.SENSORS.values()
        )
