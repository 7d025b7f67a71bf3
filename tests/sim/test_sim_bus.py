"""The wires: acknowledges, repeated starts, the time bytes take on a UART, and the clock behind them."""

import pytest
from chip_bench import Bench
from wire_parts import Echo, Recorder

from sim.bus import I2CBus, NoAcknowledge, UartLine
from sim.clock import Clock


def test_a_transfer_is_start_data_repeated_start_read_stop():
    chip = Recorder()
    bus = I2CBus([chip], Bench().clock)
    assert bus.transfer(0x42, b"\x01\x02", 2) == b"\x5a\x5a"
    assert chip.events == ["@0", "W", "01", "02", "R", "?", "?", "P"]


def test_a_stop_can_stand_between_writing_and_reading_and_be_left_out_at_the_end():
    chip = Recorder()
    bus = I2CBus([chip], Bench().clock)
    bus.transfer(0x42, b"\x01", 1, stop_between=True)
    assert chip.events == ["@0", "W", "01", "P", "R", "?", "P"]
    chip.events.clear()
    bus.transfer(0x42, b"\x01", 0, stop_at_end=False)
    assert chip.events == ["@0", "W", "01"]


def test_nobody_at_an_address_is_no_acknowledge():
    bus = I2CBus([Recorder()], Bench().clock)
    with pytest.raises(NoAcknowledge) as caught:
        bus.transfer(0x43, b"\x01", 0)
    assert (caught.value.address, caught.value.sent) == (0x43, 0)


def test_a_refused_byte_ends_the_transfer_with_a_stop():
    chip = Recorder()
    bus = I2CBus([chip], Bench().clock)
    with pytest.raises(NoAcknowledge) as caught:
        bus.transfer(0x42, b"\x01\xee\x03", 4)
    assert caught.value.sent == 2
    assert chip.events == ["@0", "W", "01", "ee", "P"]


def test_a_busy_chip_does_not_acknowledge_its_address():
    chip = Recorder(awake=False)
    with pytest.raises(NoAcknowledge):
        I2CBus([chip], Bench().clock).transfer(0x42, b"", 1)
    assert chip.events == ["@0", "R", "P"]


def test_a_scan_finds_exactly_the_chips_that_answer():
    bus = I2CBus([Recorder(0x10), Recorder(0x20, awake=False), Recorder(0x77)], Bench().clock)
    assert bus.scan() == [0x10, 0x77]


def test_two_chips_at_one_address_are_a_wiring_error():
    with pytest.raises(ValueError, match="0x42"):
        I2CBus([Recorder(), Recorder()], Bench().clock)


def test_chips_are_brought_to_the_present_before_the_first_bit():
    bench = Bench()
    chip = Recorder()
    bus = I2CBus([chip], bench.clock)
    bench.wait_us(1_234)
    bus.transfer(0x42, b"", 1)
    assert chip.events[0] == "@1234"


def test_uart_bytes_arrive_one_by_one_after_the_latency():
    bench = Bench()
    line = UartLine(Echo(), bench.clock)
    line.write(b"0123456789")
    bench.wait_us(UartLine.LATENCY_US)
    assert line.any() == 0
    bench.wait_us(435)  # five bytes of 10 bits at 115200 baud take 434 µs
    assert line.any() == 5
    assert line.read(3) == b"012"
    bench.wait_us(1_000)
    assert line.read(100) == b"3456789"
    assert line.read(100) == b""


def test_bytes_beyond_the_receive_buffer_are_lost_and_counted():
    bench = Bench()
    line = UartLine(Echo(), bench.clock, rxbuf=32)
    line.write(bytes(range(40)))
    bench.wait_us(100_000)
    assert line.read(100) == bytes(range(32))
    assert line.lost == 8


def test_another_baud_rate_than_the_chips_reaches_nothing():
    bench = Bench()
    line = UartLine(Echo(), bench.clock)
    line.open(9600, 256)
    line.write(b"hello")
    bench.wait_us(100_000)
    assert line.any() == 0
    line.open(115_200, 256)
    line.write(b"hello")
    bench.wait_us(100_000)
    assert line.any() == 5


def test_a_chip_that_changes_its_speed_is_heard_at_the_new_one_only():
    bench = Bench()
    chip = Echo()
    line = UartLine(chip, bench.clock, baud=9600)
    chip.baud = 9600
    line.write(b"before")
    bench.wait_us(100_000)
    assert line.read(100) == b"before"
    chip.baud = 38_400
    line.write(b"lost")
    chip.output = b"noise"
    assert line.any() == 0 and chip.output == b""
    bench.wait_us(100_000)
    assert line.any() == 0
    line.open(38_400, 256)
    line.write(b"after")
    bench.wait_us(100_000)
    assert line.read(100) == b"after"


def test_a_stopped_clock_freezes_chips_but_not_wires():
    now = [5_000_000]
    clock = Clock(lambda: now[0])
    now[0] += 2_000_000
    assert clock.now_us() == 2_000
    assert clock.stop() == 2_000 and clock.stopped
    now[0] += 1_000_000
    assert (clock.now_us(), clock.running_us()) == (2_000, 3_000)
    assert clock.stop() == 2_000
    assert clock.boottime_ns(2_000) == 7_000_000


def test_the_default_clock_is_boottime():
    clock = Clock()
    before = clock.now_us()
    assert 0 <= before <= clock.now_us()
    assert clock.boottime_ns(0) == clock.start_boottime_ns
