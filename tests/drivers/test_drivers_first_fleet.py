"""The first fleet's box: its checks on both interpreters, and driver against model over a faulty line."""

import math
from collections.abc import Callable, Iterable

import both_interpreters as both
import pytest
from chip_bench import Bench, steady
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers import first_fleet
from drivers.errors import BusError
from drivers.first_fleet_frames import Frames
from logbook.quantities import BY_ID
from sim.chips.first_fleet import FirstFleetBox, frame

pytestmark = pytest.mark.timeout(60)

TRIM = b"00070001CARSENSOR1\x58\x02\xfa\x00"
REASONS = {"saturated", "not ready", "implausible"}


@both.each_check(__file__, "first_fleet_on_both.py")
def test_check_on_both_interpreters(run: Callable[[], None]) -> None:
    run()


def world(share: float) -> dict[str, float]:
    """Each quantity at the same share of its range."""
    return {name: low + (high - low) * share for name, (low, high) in FirstFleetBox.RANGE.items()}


class Rig:
    """Driver and model on one line. `samples` and `missing` are what came, and what the driver says did not."""

    def __init__(self, values: dict[str, float], **changes: object) -> None:
        self.bench = Bench()
        self.chip = FirstFleetBox(steady(values), self.bench.record, **changes)  # type: ignore[arg-type]
        self.uart = self.bench.uart(self.chip)
        self.driver = first_fleet.FirstFleetBox(self.uart)
        self.driver.start(0)
        self.now = 0
        self.samples: list[bytes] = []
        self.missing = 0

    def run(self, milliseconds: int, pace: int = 10) -> None:
        buffer = bytearray(first_fleet.FRAMES_AT_ONCE * first_fleet.RAW_SIZE)
        for _ in range(0, milliseconds, pace):
            self.bench.wait_us(pace * 1000)
            self.now += pace
            try:
                while self.driver.poll(self.now):
                    size = self.driver.read_into(buffer)
                    self.samples += [bytes(buffer[at : at + 36]) for at in range(0, size, 36)]
            except BusError:
                self.driver.start(self.now)
        self.missing += self.driver.missing
        self.driver.missing = 0

    def decoded(self) -> dict[str, float | str]:
        return first_fleet.decode(self.driver.trim(), self.samples[-1])


def test_a_box_of_version_0000_which_tells_its_clean_air_big_endian_gives_the_same_values() -> None:
    new, old = Rig(world(0.4), version=b"0001"), Rig(world(0.4), version=b"0000")
    new.run(500)
    old.run(500)
    assert old.driver.trim()[18:20] == new.driver.trim()[19:17:-1] and old.decoded() == new.decoded()


@pytest.mark.parametrize("shared", [False, True])
def test_every_sample_comes_once_whether_or_not_the_other_events_count_with_them(shared: bool) -> None:
    rig = Rig(world(0.4) | {"latitude": 35.3, "longitude": 139.4, "altitude": 9.0, "speed": 8.0, "bearing": 3.0}, shared_index=shared)
    rig.chip.index = 0xFFFFFF - 200
    rig.run(6_000)
    assert rig.chip.samples - len(rig.samples) in (0, 1, 2) and rig.chip.samples > 500  # the newest is not confirmed yet
    assert rig.missing == 0 and rig.driver.bad == 0 and rig.driver.gap_reason == 0


def test_what_an_overflowing_receive_buffer_loses_is_counted_exactly() -> None:
    rig = Rig(world(0.4))
    rig.run(1_000)
    for _ in range(70):  # the buffer holds six frames, the rest of 0.7 s is lost
        rig.bench.wait_us(10_000)
        rig.uart.any()
    rig.run(1_000)
    assert rig.missing > 40
    assert rig.chip.samples - len(rig.samples) - rig.missing in (0, 1, 2)


def test_after_a_power_cut_it_is_set_up_again() -> None:
    rig = Rig(world(0.4))
    rig.run(1_000)
    rig.chip.power_cycle()
    rig.chip.serial = 8
    before = len(rig.samples)
    rig.run(4_000)
    assert len(rig.samples) > before + 100 and rig.driver.trim()[:4] == b"0008"


def found_in(data: Iterable[int]) -> list[bytes]:
    frames = Frames()
    found = []
    for byte in data:
        there = frames.feed(byte)
        while there:
            found.append(bytes(frames.frame[: frames.length]))
            there = frames.again()
    there = frames.again(True)
    while there:
        found.append(bytes(frames.frame[: frames.length]))
        there = frames.again(True)
    return found


def check_plausible(values: dict[str, float | str]) -> None:
    for quantity, value in values.items():
        if isinstance(value, str):
            assert value in REASONS
        else:
            row = BY_ID[quantity]
            assert math.isfinite(value) and row.low <= value <= row.high, (quantity, value)


@given(raw=st.binary(min_size=36, max_size=36), trim=st.binary(min_size=22, max_size=22))
def test_any_sample_and_any_identity_give_a_plausible_number_or_a_reason(raw: bytes, trim: bytes) -> None:
    check_plausible(first_fleet.decode(trim, raw))
    check_plausible(first_fleet.decode(TRIM, raw))


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=60), st.sampled_from([b"\x9a", b"\x9a\x8a", b"\x9a\x8c\x00\x00\x00\x00\x00\x00\xff", frame(0x8F, b"\0\x13")])
        ),
        max_size=20,
    )
)
@settings(max_examples=300)
def test_any_bytes_raise_nothing_and_what_is_found_is_whole(pieces: list[bytes]) -> None:
    for one in found_in(b"".join(pieces)):
        assert one[0] == 0x9A and frame(one[1], one[2:-1]) == one


class Scripted:
    """A line with any bytes on it."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces

    def write(self, buf: bytes) -> int:
        return len(buf)

    def any(self) -> int:
        return len(self.pieces[0]) if self.pieces else 0

    def readinto(self, buf: bytearray) -> int:
        data = self.pieces[0][: len(buf)]
        self.pieces[0] = self.pieces[0][len(data) :]
        buf[: len(data)] = data
        return len(data)


STARTING = [frame(0x8F, b"\0\x13"), frame(0x90, TRIM[:18]), frame(0xBD, TRIM[18:]), frame(0xBC, b"\1"), frame(0x8F, b"\0\x13")]
GOOD = [frame(0x90, TRIM[:18]), frame(0xBD, TRIM[18:]), frame(0x8F, b"\0\x13"), frame(0xBC, b"\1")]


@given(
    st.lists(st.one_of(st.sampled_from(GOOD), st.binary(max_size=80), st.binary(min_size=36, max_size=36).map(lambda p: frame(0x8A, p))))
)
@settings(max_examples=300)
def test_any_line_gives_bus_errors_only_and_plausible_values(pieces: list[bytes]) -> None:
    line = Scripted([b"", *STARTING, b"", b"", b"", *pieces])
    driver = first_fleet.FirstFleetBox(line)  # type: ignore[arg-type]
    buffer = bytearray(first_fleet.FRAMES_AT_ONCE * 36)
    now = 0
    while line.pieces:
        try:
            if driver.poll(now):
                size = driver.read_into(buffer)
                for at in range(0, size, 36):
                    check_plausible(first_fleet.decode(driver.trim(), bytes(buffer[at : at + 36])))
        except BusError:
            driver.start(now)
        if not line.any():
            line.pieces.pop(0)
        now += 20


@given(st.data())
@settings(max_examples=200)
def test_lost_flipped_and_doubled_bytes_cost_samples_but_never_make_one(data: st.DataObject) -> None:
    sent = [frame(0x8A, b"\7\0" + number.to_bytes(3, "little") + b"\0" + bytes(range(number, number + 30))) for number in range(12)]
    wire = bytearray(b"".join(sent))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(39, len(wire) - 80))
        kind = data.draw(st.sampled_from(["lost", "doubled", "flipped"]))
        if kind == "lost":
            del wire[place]
        elif kind == "doubled":
            wire.insert(place, wire[place])
        else:
            wire[place] ^= 1 << data.draw(st.integers(0, 7))
    found = found_in(wire)
    whole = [one for one in found if one in sent]
    assert whole == sorted(whole, key=sent.index)
    assert len(whole) >= len(sent) - 8
    assert len(found) - len(whole) <= 1  # two flips of one bit are what an XOR cannot see
