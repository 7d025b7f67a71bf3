"""The receiver's driver against the receiver's model, on a line that garbles what is sent at another baud rate."""

import math
from collections.abc import Iterable

import pytest

from drivers import nav_pvt
from drivers.errors import BAD_CHECKSUM, POWER_ON_VALUES, TIME_OUT, WRONG_IDENTITY, BusError
from drivers.neo_m9n import NEOM9N, QUANTITIES, decode
from sim.chips import neo_m9n as model
from sim.chips.ubx import nmea, ubx

PLACE = {"latitude": 35.3412345, "longitude": 139.4912347, "altitude": 21.123, "speed": 7.654, "bearing": 1.25}
STEP_MS = 5

pytestmark = pytest.mark.timeout(60)


class Wire:
    """machine.UART's methods; time is moved by hand. `cut`: nothing arrives either way. `lose`: numbers of the bytes that get lost."""

    def __init__(self, chip: model.NEOM9N) -> None:
        self.chip = chip
        self.now_ms = 0
        self.baud = 0
        self.bauds: list[int] = []
        self.cut = False
        self.written = b""
        self.flip: tuple[int, int] | None = None  # which bit of which byte that reaches the receiver is wrong
        self.heard = 0  # bytes that reached it
        self._received = bytearray()

    def wait(self) -> None:
        self.now_ms += STEP_MS
        self.chip.advance(self.now_ms * 1000)
        speed, data = self.chip.baud, self.chip.read(self.chip.any())
        if not self.cut:
            self._received += data if speed == self.baud else bytes((byte * 73 + 41) & 0xFF for byte in data)

    def init(self, baudrate: int) -> None:
        self.baud = baudrate
        self.bauds.append(baudrate)

    def write(self, data: bytes) -> int:
        self.written += data
        if not self.cut and self.baud == self.chip.baud:
            arriving = bytearray(data)
            if self.flip is not None and self.heard <= self.flip[0] < self.heard + len(data):
                arriving[self.flip[0] - self.heard] ^= 1 << self.flip[1]
            self.heard += len(data)
            self.chip.write(bytes(arriving))
        return len(data)

    def any(self) -> int:
        return len(self._received)

    def readinto(self, buf: bytearray) -> int | None:
        count = min(len(buf), len(self._received))
        buf[:count] = self._received[:count]
        del self._received[:count]
        return count or None

    def put(self, data: bytes) -> None:
        self._received += data


class Desk:
    """Driver and model, run for some time as the head's supervisor runs them."""

    def __init__(self, chip: model.NEOM9N, period_ms: int = 1000) -> None:
        self.wire = Wire(chip)
        self.driver = NEOM9N(self.wire, period_ms)
        self.codes: list[int] = []
        self.driver.start(0)

    def run(self, ms: int, limit: int = 1_000_000) -> list[bytes]:
        """The samples that came within `ms`, at most `limit` of them; errors are noted, and the driver started again as long as it is
        not configured."""
        samples = []
        end = self.wire.now_ms + ms
        buf = bytearray(92)
        while self.wire.now_ms < end and len(samples) < limit:
            try:
                if self.driver.poll(self.wire.now_ms):
                    assert self.driver.read_into(buf) == 92
                    samples.append(bytes(buf))
            except BusError as error:
                self.codes.append(error.code)
                if not self.driver.configured:
                    self.driver.start(self.wire.now_ms)
            self.wire.wait()
        return samples


def chip(values: dict[str, float] | None = None, **options: object) -> model.NEOM9N:
    world = values or PLACE
    return model.NEOM9N(lambda t_us: world, lambda *_: None, **options)  # type: ignore[arg-type]


# --- set-up


@pytest.mark.parametrize("lost", [False, True], ids=["acknowledged", "acknowledge lost in the change"])
def test_a_receiver_as_delivered_is_set_up_in_all_layers_within_a_second(lost: bool) -> None:
    desk = Desk(chip(lost_acknowledge=lost))
    samples = desk.run(3_000)
    receiver = desk.wire.chip
    assert desk.codes == [] and desk.driver.configured and len(samples) >= 2
    assert receiver.baud == 115_200 and desk.wire.bauds[0] == 38_400 and desk.wire.bauds[-1] == 115_200
    wanted = {key: value for key, value in model.TRUCK.items() if key in receiver.flash}
    assert receiver.flash == wanted == receiver.backup and receiver.ram == model.TRUCK
    assert set(receiver.flash) == set(model.TRUCK)
    assert desk.driver.trim() == b"EXT CORE 4.04 (7f89f7)" and len(desk.driver.trim()) <= desk.driver.TRIM_SIZE


@pytest.mark.parametrize("baud", [9600, 38400, 115200])
def test_it_is_found_at_every_baud_rate_of_the_list(baud: int) -> None:
    desk = Desk(chip(flash={model.BAUDRATE: baud}))
    assert desk.run(5_000, limit=1) and desk.codes == [] and desk.wire.chip.baud == 115_200


def test_a_receiver_that_was_set_up_before_is_only_asked_and_its_flash_spared() -> None:
    desk = Desk(chip(flash=model.TRUCK))
    desk.run(4_000, limit=1)
    assert desk.driver.configured and bytes.fromhex("b562068a") not in desk.wire.written


def test_another_period_is_set_and_kept() -> None:
    desk = Desk(chip(flash=model.TRUCK), period_ms=200)
    desk.run(3_000)
    assert desk.wire.chip.flash[model.RATE_MEAS] == 200 and len(desk.run(2_000)) == 10 and desk.codes == []
    with pytest.raises(ValueError, match="period"):
        NEOM9N(desk.wire, 20)


def test_an_older_receiver_that_refuses_valset_is_of_a_wrong_identity() -> None:
    desk = Desk(chip(generation=8))
    desk.run(3_000)
    assert desk.codes and set(desk.codes) == {WRONG_IDENTITY} and not desk.driver.configured
    assert desk.driver.version == b"ROM CORE 3.01 (107888)" and desk.driver.trim() == b""


def test_a_receiver_that_refuses_a_setting_is_not_called_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "_MODELS", (0,))
    desk = Desk(chip())
    desk.run(3_000)
    assert set(desk.codes) == {WRONG_IDENTITY} and not desk.driver.configured


def test_a_receiver_without_usb_is_set_up_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    usb = (model.USB_UBX_OUT, model.USB_NMEA_OUT, model.USB_PVT_OUT)
    monkeypatch.setattr(model, "DEFAULTS", {key: value for key, value in model.DEFAULTS.items() if key not in usb})
    desk = Desk(chip())
    assert desk.run(3_000, limit=1) and desk.codes == [] and desk.wire.chip.flash[model.BAUDRATE] == 115_200


def test_no_answer_is_a_time_out_and_a_receiver_that_appears_is_found() -> None:
    desk = Desk(chip())
    desk.wire.cut = True
    assert desk.run(9_000) == [] and set(desk.codes) == {TIME_OUT} and len(desk.codes) >= 3
    assert set(desk.wire.bauds) == {9600, 38400, 115200}
    desk.wire.cut = False
    assert desk.run(5_000, limit=1)


@pytest.mark.parametrize("flash", [None, model.TRUCK], ids=["as delivered", "set up before"])
def test_a_flipped_length_in_a_request_is_over_within_seconds(flash: dict[int, int] | None) -> None:
    """The receiver waits for as many bytes as it heard of, up to 1 KiB (as modelled), and takes all that comes for them."""
    healthy = Desk(chip(flash=flash))
    healthy.run(4_000)
    heard = healthy.wire.written[-healthy.wire.heard :]
    lengths = []  # places of their high bytes
    at = 0
    while at < len(heard):
        assert heard[at : at + 2] == b"\xb5\x62"
        lengths.append(at + 5)
        at += 8 + int.from_bytes(heard[at + 4 : at + 6], "little")
    assert len(lengths) == (7 if flash is None else 2)
    for place in lengths:
        for bit in (0, 1):
            desk = Desk(chip(flash=flash))
            desk.wire.flip = (place, bit)
            assert desk.run(9_000, limit=1), (place, bit, desk.codes)


def test_nothing_is_sent_that_breaks_frames_at_another_speed() -> None:
    """FF is a start bit and silence: a start bit of 38400 baud is a byte at 115200, one of 9600 baud a broken frame. A receiver that counts
    more than 100 of those in a second stops listening."""
    desk = Desk(chip())
    desk.wire.cut = True
    slow: list[tuple[int, int]] = []
    for _ in range(4_000):
        before = len(desk.wire.written)
        desk.run(5)
        if desk.wire.baud == 9600 and len(desk.wire.written) > before:
            slow.append((desk.wire.now_ms, len(desk.wire.written) - before))
    assert slow
    for moment, _ in slow:
        assert sum(count for then, count in slow if moment - 1000 < then <= moment) < 100


# --- what goes wrong later


def test_a_brown_out_of_a_receiver_that_keeps_its_settings_costs_its_own_start_only() -> None:
    desk = Desk(chip())
    desk.run(3_000)
    desk.wire.chip.power_cycle(backup=False)
    assert desk.run(1_500, limit=1) and desk.codes == []


def test_a_receiver_back_at_its_first_values_is_noticed_and_set_up_again() -> None:
    desk = Desk(chip())
    desk.run(3_000)
    desk.wire.chip.replace()
    assert desk.wire.chip.baud == 38_400
    assert desk.run(5_000, limit=1)
    assert desk.codes == [TIME_OUT, POWER_ON_VALUES] and desk.wire.chip.ram == model.TRUCK


def test_a_receiver_whose_settings_were_changed_is_set_up_again() -> None:
    desk = Desk(chip())
    desk.run(3_000)
    desk.wire.chip.ram[model.PVT_OUT] = 0
    assert desk.run(6_000, limit=1) and desk.codes == [TIME_OUT, POWER_ON_VALUES]


def test_a_line_that_was_cut_goes_on_without_being_set_up_again() -> None:
    desk = Desk(chip())
    desk.run(3_000)
    desk.wire.cut = True
    desk.run(60_000)
    desk.wire.cut, desk.wire.written = False, b""
    assert desk.run(2_500, limit=1)
    assert set(desk.codes) == {TIME_OUT} and bytes.fromhex("b562068a") not in desk.wire.written


@pytest.mark.parametrize("noise", [b"\xb5", b"\xb5\x62", b"\xb5\x62\x01\x07\x5c\x00garbage", b"\xb5\x62\x01\x07\xff\xff", b"\x00" * 700])
def test_noise_between_messages_costs_nothing_and_is_never_a_sample(noise: bytes) -> None:
    desk = Desk(chip())
    desk.run(3_500)  # half-way between two messages: what looks like the head of one is broken off by then
    good = []
    for _ in range(5):
        desk.wire.put(noise)
        good += desk.run(1_000)
    assert len(good) == 5 and set(desk.codes) <= {BAD_CHECKSUM} and desk.driver.configured
    assert all(decode(b"", raw)["latitude"] == pytest.approx(PLACE["latitude"], abs=1e-7) for raw in good)


def test_every_lost_doubled_or_flipped_byte_of_a_message_costs_that_message_alone() -> None:
    desk = Desk(chip())
    desk.run(3_500)
    frame = model.nav_pvt(model.START_UTC_NS, PLACE)
    for at in range(0, len(frame), 7):
        damaged = [frame[:at] + frame[at + 1 :], frame[: at + 1] + frame[at:], frame[:at] + bytes((frame[at] ^ 8,)) + frame[at + 1 :]]
        for wrong in damaged:
            desk.wire.put(wrong)
            whole = desk.run(1_000)
            expected = 2 if wrong.startswith(b"\xb5\xb5") else 1  # a doubled first byte is no damage
            assert len(whole) == expected and all(decode(b"", raw)["speed"] == pytest.approx(7.654) for raw in whole), (at, wrong.hex())
    assert set(desk.codes) == {BAD_CHECKSUM}


def test_other_messages_on_the_line_are_passed_over() -> None:
    desk = Desk(chip())
    desk.run(3_000)
    desk.wire.put(nmea(model.START_UTC_NS, PLACE) + ubx(0x0135, bytes(380)) + ubx(0x0107, bytes(84)))
    assert len(desk.run(2_000)) == 2 and desk.codes == []


# --- what it says


def test_a_cold_start_gives_reasons_until_there_is_a_fix_and_no_date_before_there_is_one() -> None:
    receiver = chip()
    receiver.fix_from_us, receiver.date_from_us = 6_000_000, 4_000_000
    samples = Desk(receiver).run(10_000)
    fixes = [raw for raw in samples if nav_pvt.mode(raw) == 3]
    dated = [raw for raw in samples if nav_pvt.utc(raw) is not None]
    assert 0 < len(fixes) < len(dated) < len(samples)
    assert all(set(decode(b"", raw).values()) == {"no fix"} for raw in samples if raw not in fixes)
    assert all(decode(b"", raw)["longitude"] == pytest.approx(PLACE["longitude"], abs=1e-7) for raw in fixes)


def test_the_time_is_right_also_where_nano_is_negative() -> None:
    receiver = chip()
    receiver.clock_offset_ns = -361_668
    samples = Desk(receiver).run(5_000)
    for raw in samples:
        assert int.from_bytes(raw[16:20], "little", signed=True) == -361_668
        moment = nav_pvt.utc(raw)
        assert moment is not None and (moment + 361_668) % 10**9 == 0 and abs(moment - model.START_UTC_NS) < 6e9


@pytest.mark.parametrize("weeks", [-1024, 1024, -2048])
def test_a_receiver_that_lost_count_of_the_weeks_has_a_place_and_no_date(weeks: int) -> None:
    receiver = chip()
    receiver.weeks = weeks
    samples = Desk(receiver).run(4_000)
    assert samples and all(nav_pvt.utc(raw) is None for raw in samples)
    assert all(isinstance(decode(b"", raw)["latitude"], float) for raw in samples)


def worlds() -> Iterable[dict[str, float]]:
    for step in range(25):
        yield {name: low + (high - low) * step / 24 for name, (low, high) in model.NEOM9N.RANGE.items()}


def test_every_value_of_the_range_comes_back_within_epsilon() -> None:
    assert set(model.NEOM9N.RANGE) == set(QUANTITIES)
    for world in worlds():
        raw = Desk(chip(world, flash=model.TRUCK)).run(4_000, limit=1)[0]
        for name, got in decode(b"", raw).items():
            assert isinstance(got, float) and abs(got - world[name]) <= model.NEOM9N.EPSILON[name], (name, world[name], got)


def test_the_errors_are_those_that_the_receiver_states() -> None:
    raw = Desk(chip()).run(4_000, limit=1)[0]
    expected = {"horizontal": 1.5, "vertical": 2.4, "speed": 0.05, "bearing": math.radians(0.5), "time": 25e-9}
    assert nav_pvt.errors(raw) == pytest.approx(expected)
