"""Faults on the wires: what each does to a transaction, to the levels of the lines, and to a byte on a UART; and scripts of them."""

import json

import pytest
from chip_bench import Bench
from wire_parts import Echo, Recorder

from sim.bus import I2CBus, NoAcknowledge, TimeOut, UartLine
from sim.faults import Fault, FaultError, Faults, parse

pytestmark = pytest.mark.timeout(30)


def wires(*faults: Fault, chips: tuple[Recorder, ...] = ()) -> tuple[Bench, Recorder, I2CBus]:
    bench = Bench()
    chip = Recorder()
    return bench, chip, I2CBus((chip, *chips), bench.clock, Faults(faults))


def after_advance(chip: Recorder) -> list[str]:
    return [event for event in chip.events if not event.startswith("@")]


def fault(kind: str, **fields) -> Fault:  # type: ignore[no-untyped-def]
    return Fault(kind=kind, chip=0x42, **fields)  # type: ignore[arg-type]


def test_a_refused_address_reaches_nobody():
    bench, chip, bus = wires(fault("nack", part="address"))
    with pytest.raises(NoAcknowledge) as caught:
        bus.transfer(0x42, b"\x01", 1)
    assert caught.value.sent == 0 and after_advance(chip) == []


def test_a_refused_data_byte_has_been_taken_by_the_chip():
    bench, chip, bus = wires(fault("nack", part="written", byte=1, times=1))
    with pytest.raises(NoAcknowledge) as caught:
        bus.transfer(0x42, b"\x01\x02\x03", 0)
    assert caught.value.sent == 2 and after_advance(chip) == ["W", "01", "02", "P"]
    bus.transfer(0x42, b"\x01\x02\x03", 0)


def test_a_bit_is_flipped_in_what_the_chip_or_the_controller_hears():
    bench, chip, bus = wires(
        fault("flip", part="written", byte=0, bit=7, times=1), fault("flip", part="read", byte=1, bit=0, skip=1, times=1)
    )
    assert bus.transfer(0x42, b"\x01", 2) == b"\x5a\x5a"
    assert after_advance(chip) == ["W", "81", "R", "?", "?", "P"]
    assert bus.transfer(0x42, b"\x01", 2) == b"\x5a\x5b"


def test_a_flipped_address_is_another_chips_or_nobodys():
    other = Recorder(0x43)
    bench, chip, bus = wires(fault("flip", part="address", byte=0, bit=1, times=1), chips=(other,))
    bus.transfer(0x42, b"\x01", 0)
    assert after_advance(other) == ["W", "01", "P"] and after_advance(chip) == []
    bench, chip, bus = wires(fault("flip", part="address", byte=0, bit=7))
    with pytest.raises(NoAcknowledge):
        bus.transfer(0x42, b"\x01", 0)


def test_a_write_heard_as_a_read_is_not_acknowledged_and_a_read_heard_as_a_write_writes_ones():
    bench, chip, bus = wires(fault("flip", part="address", byte=0, bit=0, times=1))
    with pytest.raises(NoAcknowledge) as caught:
        bus.transfer(0x42, b"\x01", 0)
    assert caught.value.sent == 1 and after_advance(chip) == ["R", "?", "P"]
    bench, chip, bus = wires(fault("flip", part="address", byte=1, bit=0))
    assert bus.transfer(0x42, b"\x01", 2) == b"\xff\xff"
    assert after_advance(chip) == ["W", "01", "W", "ff", "ff", "P"]


def test_a_stretch_takes_its_time_and_beyond_fifty_milliseconds_is_a_time_out():
    bench, chip, bus = wires(fault("stretch", microseconds=3_000, times=1), fault("stretch", microseconds=80_000, skip=1, times=1))
    assert bus.transfer(0x42, b"", 1) == b"\x5a" and bench.clock.now_us() == 3_000
    with pytest.raises(TimeOut):
        bus.transfer(0x42, b"", 1)
    assert bench.clock.now_us() == 53_000 and bus.scl() == 0
    assert bus.transfer(0x42, b"", 1) == b"\x5a"  # the controller waits for the rest
    assert 83_000 <= bench.clock.now_us() < 89_000


@pytest.mark.parametrize("clocks", [1, 5, 9])
def test_a_chip_left_in_a_byte_holds_sda_until_it_has_its_clocks(clocks: int):
    bench, chip, bus = wires(fault("stuck_sda", part="read", byte=0, clocks=clocks, times=1))
    with pytest.raises(TimeOut):
        bus.transfer(0x42, b"\x01", 2)
    assert bench.clock.now_us() == 50_000 and (bus.sda(), bus.scl()) == (0, 1)
    with pytest.raises(TimeOut):
        bus.transfer(0x42, b"\x01", 2)
    for number in range(clocks):
        assert bus.sda() == 0, number
        bus.drive_scl(0)
        bus.drive_scl(1)
    assert bus.sda() == 1
    assert bus.transfer(0x42, b"\x01", 1) == b"\x5a"


def test_a_line_that_is_low_for_ever_is_low_whatever_is_clocked_until_its_end():
    for kind in ("stuck_sda", "stuck_scl"):
        bench, chip, bus = wires(fault(kind, begin_s=1.0, end_s=2.0))
        bus.transfer(0x42, b"", 1)
        bench.wait_us(1_000_000)
        with pytest.raises(TimeOut):
            bus.transfer(0x42, b"", 1)
        for _ in range(20):
            bus.drive_scl(0)
            bus.drive_scl(1)
        assert (bus.sda(), bus.scl()) == ((0, 1) if kind == "stuck_sda" else (1, 0))
        bench.wait_us(1_000_000)
        assert bus.transfer(0x42, b"", 1) == b"\x5a"


def test_lost_arbitration_is_no_acknowledge_at_once():
    bench, chip, bus = wires(fault("stuck_sda", end_s=1.0, error="no acknowledge"))
    with pytest.raises(NoAcknowledge):
        bus.transfer(0x42, b"", 1)
    assert bench.clock.now_us() == 0


def test_clocks_without_a_stop_write_garbage_behind_an_incomplete_byte_and_a_stop_prevents_it():
    for stop in (False, True):
        bench, chip, bus = wires(fault("stuck_sda", part="written", byte=0, clocks=1, times=1))
        with pytest.raises(TimeOut):
            bus.transfer(0x42, b"\x00\x55", 0)
        assert bus.sda() == 0  # its acknowledge
        chip.events.clear()
        for _ in range(10):
            bus.drive_scl(0)
            if stop:
                bus.drive_sda(0)
            bus.drive_scl(1)
            bus.drive_sda(1)
        assert after_advance(chip)[:2] == (["P", "P"] if stop else ["ff"])


def test_only_a_stop_that_sda_really_makes_ends_a_chip_that_sends():
    bench, chip, bus = wires()
    bus._lines.leave_sending([0, 1, 0, 1])
    bus.drive_sda(0)
    bus.drive_sda(1)
    assert bus.sda() == 0 and after_advance(chip) == []  # the chip holds it
    bus.drive_scl(0)
    bus.drive_sda(0)
    bus.drive_scl(1)
    bus.drive_sda(1)
    assert bus.sda() == 1 and after_advance(chip) == ["P"]
    bus.drive_scl(0)
    assert bus.sda() == 1  # it has forgotten the rest


def test_a_brown_out_happens_once_at_its_moment_and_unplugged_is_away_and_then_new():
    bench, chip, bus = wires(fault("brown_out", begin_s=1.0), fault("unplugged", begin_s=2.0, end_s=3.0))
    bench.wait_us(1_500_000)
    bus.transfer(0x42, b"", 1)
    assert chip.events == ["@1000000", "off", "@1500000", "R", "?", "P"]
    bench.wait_us(1_000_000)
    chip.events.clear()
    with pytest.raises(NoAcknowledge):
        bus.transfer(0x42, b"", 1)
    assert chip.events == ["@2000000", "off"]
    bench.wait_us(1_000_000)
    bus.transfer(0x42, b"", 1)
    assert chip.events == ["@2000000", "off", "@3000000", "off", "@3500000", "R", "?", "P"]


def test_a_chip_that_loses_its_supply_lets_go_of_sda():
    bench, chip, bus = wires(fault("stuck_sda", clocks=9, times=1), fault("brown_out", begin_s=1.0))
    with pytest.raises(TimeOut):
        bus.transfer(0x42, b"", 1)
    bench.wait_us(1_000_000)
    assert bus.sda() == 1 and bus.transfer(0x42, b"", 1) == b"\x5a"


def line(*faults: Fault) -> tuple[Bench, UartLine]:
    bench = Bench()
    return bench, UartLine(Echo(), bench.clock, faults=Faults(faults))


def echoed(bench: Bench, uart: UartLine, data: bytes = b"0123") -> bytes:
    uart.write(data)
    bench.wait_us(20_000)
    return uart.read(100)


@pytest.mark.parametrize(
    ("kind", "fields", "heard"),
    [
        ("lost", {"skip": 1, "times": 1}, b"023"),
        ("doubled", {"skip": 1, "times": 1}, b"01123"),
        ("flip", {"skip": 1, "times": 1, "bit": 0}, b"0023"),
        ("flip", {"skip": 1, "times": 1, "bit": 1, "part": "written"}, b"0323"),
        ("lost", {"skip": 1, "times": 1, "part": "written"}, b"023"),
        ("doubled", {"skip": 3, "times": 1, "part": "written"}, b"01233"),
        ("dead", {}, b""),
    ],
)
def test_bytes_on_a_uart_are_lost_doubled_flipped_or_dead(kind: str, fields: dict, heard: bytes):
    bench, uart = line(Fault(kind=kind, chip="echo", **fields))  # type: ignore[arg-type]
    assert echoed(bench, uart) == heard


def test_a_late_byte_delays_those_behind_it_and_noise_comes_before_its_byte():
    bench, uart = line(Fault(kind="late", chip="echo", microseconds=30_000, skip=2, times=1))
    assert echoed(bench, uart) == b"01"
    bench.wait_us(30_000)
    assert uart.read(100) == b"23"
    bench, uart = line(Fault(kind="noise", chip="echo", bytes=5, skip=2, times=1))
    heard = echoed(bench, uart)
    assert len(heard) == 9 and heard[:2] == b"01" and heard[-2:] == b"23"


def test_an_unplugged_uart_chip_hears_and_says_nothing():
    bench, uart = line(Fault(kind="unplugged", chip="echo", begin_s=0.0, end_s=1.0))
    assert echoed(bench, uart) == b""
    bench.wait_us(1_000_000)
    assert echoed(bench, uart) == b"0123"


def test_the_same_seed_chooses_the_same_and_counts_its_hits():
    def run(seed: int) -> list[bytes]:
        bench = Bench()
        faults = Faults([fault("flip", part="read", probability=0.5)], seed)
        bus = I2CBus([Recorder()], bench.clock, faults)
        heard = [bus.transfer(0x42, b"", 2) for _ in range(30)]
        assert faults.strikes[0].hits == sum(data != b"\x5a\x5a" for data in heard)
        return heard

    assert run(1) == run(1) != run(2)
    assert 5 < sum(data != b"\x5a\x5a" for data in run(1)) < 25


def test_a_script_is_parsed_and_names_chips_by_sensor_or_address():
    faults = parse(
        json.dumps(
            {"seed": 3, "faults": [{"kind": "nack", "chip": "0x42", "begin_s": 1, "end_s": 2.5}, {"kind": "unplugged", "chip": "echo"}]}
        )
    )
    assert faults.strikes[0].fault.means(Recorder()) and not faults.strikes[0].fault.means(Echo())
    assert faults.strikes[1].fault.means(Echo())
    assert faults.strikes[0].end_us == 2_500_000


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nonsense", "malformed"),
        ('{"faults": [{"kind": "flood", "chip": "bmp390"}]}', "flood"),
        ('{"faults": [{"kind": "nack"}]}', "chip"),
        ('{"faults": [{"kind": "nack", "chip": "x", "bits": 1}]}', "bits"),
        ('{"faults": [{"kind": "flip", "chip": "x", "bit": 9}]}', "`bit` must be 0 to 7, not 9"),
        ('{"faults": [{"kind": "nack", "chip": "x", "clocks": 2}]}', "nack has no `clocks`"),
        ('{"faults": [{"kind": "stretch", "chip": "x"}]}', "stretch needs `microseconds`"),
        ('{"faults": [{"kind": "nack", "chip": "x", "part": "read"}]}', "acknowledged by the controller"),
        ('{"faults": [{"kind": "stuck_sda", "chip": "x", "part": "address"}]}', "stuck_sda"),
        ('{"faults": [{"kind": "lost", "chip": "x", "part": "address"}]}', "a UART has no address"),
        ('{"faults": [{"kind": "late", "chip": "x", "microseconds": 5, "part": "written"}]}', "late has no `part`"),
        ('{"faults": [{"kind": "nack", "chip": "x", "begin_s": 2, "end_s": 1}]}', "`end_s` must come after"),
        ('{"faults": [{"kind": "nack", "chip": "x", "times": 0}]}', "`times` 1 or more"),
    ],
)
def test_a_script_that_means_nothing_is_refused_in_one_line(text: str, says: str):
    with pytest.raises(FaultError) as caught:
        parse(text)
    assert says in str(caught.value) and "\n" not in str(caught.value)
