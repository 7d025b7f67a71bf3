"""ICM-20948 and AK09916 models on the byte level. Vectors: facts/sensors-and-head.md 1.10 (SparkFun; Pimoroni tests/test_read.py)."""

import math
import random
import struct

import pytest
from chip_bench import Bench, BenchI2C, steady

from sim.chips.fifo import SampleFifo
from sim.chips.icm20948 import ICM20948, G

ADDRESS = 0x68
STILL = {
    **dict.fromkeys(("acceleration_x", "acceleration_y"), 0.0),
    "acceleration_z": G,
    **dict.fromkeys(("angular_rate_x", "angular_rate_y", "angular_rate_z"), 0.0),
    "magnetic_field_x": 30e-6,
    "magnetic_field_y": 4.5e-6,
    "magnetic_field_z": -37.5e-6,
    "temperature_imu": 273.15 + 31.0009,
}
FRAME = struct.Struct(">7h9s")
SIZE = FRAME.size


def powered(bench: Bench, source=None, **errors) -> tuple[ICM20948, BenchI2C]:
    chip = ICM20948(source or steady(STILL), bench.record, **errors)
    return chip, bench.i2c(chip, chip.magnetometer)


def put(i2c: BenchI2C, bank: int, register: int, *values: int) -> None:
    i2c.writeto_mem(ADDRESS, 0x7F, bytes([bank << 4]))
    i2c.writeto_mem(ADDRESS, register, bytes(values))


def get(i2c: BenchI2C, bank: int, register: int, count: int = 1) -> bytes:
    i2c.writeto_mem(ADDRESS, 0x7F, bytes([bank << 4]))
    return i2c.readfrom_mem(ADDRESS, register, count)


def magnetometer_register(bench: Bench, i2c: BenchI2C, register: int, value: int) -> None:
    put(i2c, 3, 0x13, 0x0C, register, 0x80, value)  # address, register, enable, data: SLV4
    i2c.writeto_mem(ADDRESS, 0x7F, b"\x30")
    i2c.writeto_mem(ADDRESS, 0x16, bytes([value]))
    i2c.writeto_mem(ADDRESS, 0x15, b"\x80")
    bench.wait_us(20_000)
    assert get(i2c, 0, 0x17)[0] & 0x50 == 0x40


def run(bench: Bench, i2c: BenchI2C) -> None:
    """Wakes the chip: 102.27 Hz, ±8 g, ±500 °/s, magnetometer at 100 Hz through SLV0, everything into the FIFO."""
    put(i2c, 0, 0x06, 0x01)
    put(i2c, 0, 0x03, 0x20)
    put(i2c, 2, 0x00, 10)
    put(i2c, 2, 0x01, 3 << 3 | 1 << 1 | 1)
    put(i2c, 2, 0x10, 0, 10)
    put(i2c, 2, 0x14, 3 << 3 | 2 << 1 | 1)
    magnetometer_register(bench, i2c, 0x31, 0x08)
    put(i2c, 3, 0x03, 0x8C, 0x10, 0x89)
    put(i2c, 0, 0x66, 0x01)
    put(i2c, 0, 0x67, 0x1F)
    put(i2c, 0, 0x68, 0x1F)
    put(i2c, 0, 0x68, 0x1E)
    put(i2c, 0, 0x03, 0x60)


def count(i2c: BenchI2C) -> int:
    return int.from_bytes(get(i2c, 0, 0x70, 2), "big")


def test_after_power_on_it_names_itself_and_sleeps():
    bench = Bench()
    chip, i2c = powered(bench)
    assert get(i2c, 0, 0x00) == b"\xea"
    assert get(i2c, 0, 0x06) == b"\x41"
    bench.wait_us(1_000_000)
    assert get(i2c, 0, 0x2D, 12) == bytes(12)
    assert bench.log == [] and chip.samples == 0


def test_a_reset_takes_its_time_and_then_reads_41():
    bench = Bench()
    _, i2c = powered(bench)
    run(bench, i2c)
    put(i2c, 0, 0x06, 0x80)
    assert get(i2c, 0, 0x06)[0] & 0x80
    put(i2c, 0, 0x06, 0x01)  # too early: not taken
    bench.wait_us(100_000)
    assert get(i2c, 0, 0x06) == b"\x41"
    assert get(i2c, 2, 0x00) == b"\x00"
    assert count(i2c) == 0


def test_banks_are_separate_and_the_selector_is_in_all_of_them():
    bench = Bench()
    _, i2c = powered(bench)
    put(i2c, 2, 0x00, 10)
    put(i2c, 3, 0x03, 0x8C)
    assert get(i2c, 2, 0x00) == b"\x0a"
    assert i2c.readfrom_mem(ADDRESS, 0x7F, 1) == b"\x20"
    assert get(i2c, 0, 0x00) == b"\xea"
    assert get(i2c, 3, 0x03) == b"\x8c"


@pytest.mark.parametrize(
    ("full_scale", "quantity", "si", "register", "raw"),
    [
        (0, "acceleration_x", 9.80665, 0x2D, 16384),
        (0, "acceleration_x", -9.80665, 0x2D, -16384),
        (3, "acceleration_y", 222 / 2048 * 9.80665, 0x2F, 222),
        (0, "angular_rate_x", math.radians(444 / 131), 0x33, 444),
        (1, "angular_rate_y", math.radians(10), 0x35, 655),
        (2, "angular_rate_z", math.radians(-100), 0x37, -3280),
        (0, "acceleration_z", 30.0, 0x31, 32767),
        (0, "angular_rate_z", math.radians(-260), 0x37, -32768),
    ],
)
def test_physical_values_become_the_vendors_counts_and_saturate(full_scale, quantity, si, register, raw):
    bench = Bench()
    _, i2c = powered(bench, steady(STILL | {quantity: si}))
    put(i2c, 2, 0x01, full_scale << 1 | 1)
    put(i2c, 2, 0x14, full_scale << 1 | 1)
    put(i2c, 0, 0x06, 0x01)
    bench.wait_us(5_000)
    assert struct.unpack(">h", get(i2c, 0, register, 2)) == (raw,)


def test_the_frame_carries_acceleration_rate_and_the_field_in_the_magnetometers_own_axes():
    bench = Bench()
    _, i2c = powered(bench)
    run(bench, i2c)
    bench.wait_us(30_000)
    frame = get(i2c, 0, 0x72, 23)
    ax, ay, az, gx, gy, gz, die, field = FRAME.unpack(frame)
    assert (ax, ay, az, gx, gy, gz, die) == (0, 0, 4096, 0, 0, 0, 3339)
    st1, hx, hy, hz, _, st2 = struct.unpack("<B3hBB", field)
    assert st1 & 1 and not st2 & 8
    assert (hx, hy, hz) == (200, -30, 250)
    assert bench.log[0][2] == STILL


@pytest.mark.parametrize("ppm", [-10_000.0, 0.0, 800.0])
def test_the_output_rate_is_1125_by_eleven_with_the_oscillators_error(ppm):
    bench = Bench()
    chip, i2c = powered(bench, ppm=ppm)
    run(bench, i2c)
    for _ in range(100):
        bench.wait_us(100_000)
        get(i2c, 0, 0x72, 506)
    times = [t_us for _, t_us, _ in bench.log]
    period = (times[-1] - times[0]) / (len(times) - 1)
    assert 1e6 / period == pytest.approx(1125 / 11 * (1 + ppm * 1e-6), rel=1e-5)


def test_no_sample_is_miscounted_whatever_the_steps_of_reading():
    random.seed(20948)
    bench = Bench()
    chip, i2c = powered(bench)
    run(bench, i2c)
    read = 0
    for _ in range(300):
        bench.wait_us(random.choice((997, 9_973, 48_611, 50_021, 131_071, 230_003)))
        waiting = count(i2c)
        assert waiting == len(chip.fifo) and waiting <= 512
        if waiting >= 512:  # alignment is lost: as drivers do
            put(i2c, 0, 0x68, 0x1F)
            put(i2c, 0, 0x68, 0x1E)
            continue
        assert waiting % SIZE == 0
        frames = random.randint(0, waiting // SIZE)
        get(i2c, 0, 0x72, frames * SIZE)
        read += frames
    fifo = chip.fifo
    assert fifo.taken == read
    assert fifo.overwritten > 0 and fifo.discarded > 0
    assert chip.samples == len(bench.log) == read + fifo.overwritten + fifo.discarded + fifo.waiting


def test_drained_in_time_every_sample_arrives_once_and_in_order():
    bench = Bench()
    chip, i2c = powered(bench, lambda t_us: STILL | {"acceleration_x": (t_us % 10_000_000) * 1e-6})
    run(bench, i2c)
    got = []
    for _ in range(200):
        bench.wait_us(49_999)
        waiting = count(i2c)
        data = get(i2c, 0, 0x72, waiting)
        got += [FRAME.unpack_from(data, at)[0] for at in range(0, waiting, SIZE)]
    expected = [round(values["acceleration_x"] / (G / 4096)) for _, _, values in bench.log]
    assert got == expected
    assert chip.fifo.overwritten == chip.fifo.discarded == 0


def test_an_overflowing_fifo_holds_512_bytes_says_so_and_has_lost_its_alignment():
    bench = Bench()
    chip, i2c = powered(bench)
    run(bench, i2c)
    bench.wait_us(1_000_000)
    assert count(i2c) == 512
    assert get(i2c, 0, 0x1B)[0] & 1
    assert get(i2c, 0, 0x1B)[0] == 0  # cleared by reading
    assert chip.fifo.overwritten == chip.samples - chip.fifo.waiting
    put(i2c, 0, 0x68, 0x1F)
    bench.wait_us(100_000)
    assert count(i2c) == 0  # held in reset
    put(i2c, 0, 0x68, 0x00)
    bench.wait_us(100_000)
    assert count(i2c) % SIZE == 0 and count(i2c) > 0


def test_reading_the_empty_fifo_gives_ff_and_takes_nothing():
    bench = Bench()
    chip, i2c = powered(bench)
    assert get(i2c, 0, 0x72, 3) == b"\xff\xff\xff"
    assert chip.fifo.taken == 0


def test_a_frame_without_data_ready_repeats_the_old_field():
    bench = Bench()
    _, i2c = powered(bench, ppm=0.0, magnetometer_ppm=0.0)
    run(bench, i2c)
    ready = total = 0
    for _ in range(100):
        bench.wait_us(100_000)
        data = get(i2c, 0, 0x72, count(i2c))
        flags = [data[at + 14] & 1 for at in range(0, len(data), SIZE)]
        ready += sum(flags)
        total += len(flags)
    # 100 Hz conversions seen at 102.27 Hz: 2.2 % of the frames have nothing new.
    assert total - ready == pytest.approx(total * (1 - 100 / (1125 / 11)), abs=3)


def test_the_magnetometer_locks_until_st2_is_read_and_counts_what_it_could_not_show():
    bench = Bench()
    field = dict(STILL)
    chip, i2c = powered(bench, lambda t_us: field)
    put(i2c, 0, 0x06, 0x01)
    put(i2c, 0, 0x0F, 0x02)  # bypass: it answers on the outer bus
    assert i2c.readfrom_mem(0x0C, 0x00, 2) == b"\x48\x09"
    i2c.writeto_mem(0x0C, 0x31, b"\x08")
    bench.wait_us(15_000)
    assert i2c.readfrom_mem(0x0C, 0x10, 1) == b"\x01"
    before = i2c.readfrom_mem(0x0C, 0x11, 2)  # begins to read, does not end
    field["magnetic_field_x"] = -30e-6
    bench.wait_us(15_000)
    assert i2c.readfrom_mem(0x0C, 0x11, 2) == before
    i2c.readfrom_mem(0x0C, 0x18, 1)
    bench.wait_us(25_000)  # two conversions, nobody read the first: overrun
    assert i2c.readfrom_mem(0x0C, 0x10, 1) == b"\x03"
    assert struct.unpack("<h", i2c.readfrom_mem(0x0C, 0x11, 2)) == (-200,)


def test_a_field_beyond_the_magnetometers_range_is_flagged():
    bench = Bench()
    _, i2c = powered(bench, steady(STILL | {"magnetic_field_y": 4920e-6}))
    run(bench, i2c)
    bench.wait_us(30_000)
    field = get(i2c, 0, 0x72, SIZE)[14:]
    assert field[8] & 8
    assert struct.unpack_from("<h", field, 3) == (-32752,)


def test_without_bypass_the_magnetometer_is_not_on_the_outer_bus():
    bench = Bench()
    _, i2c = powered(bench)
    with pytest.raises(OSError) as caught:
        i2c.readfrom_mem(0x0C, 0x00, 1)
    assert caught.value.errno == 5


def test_slv4_reaches_only_the_address_that_is_there():
    bench = Bench()
    _, i2c = powered(bench)
    put(i2c, 0, 0x06, 0x01)
    put(i2c, 0, 0x03, 0x20)
    put(i2c, 3, 0x13, 0x8C, 0x01, 0x80)
    bench.wait_us(2_000)
    assert get(i2c, 0, 0x17)[0] & 0x50 == 0x40
    assert get(i2c, 3, 0x17) == b"\x09"
    put(i2c, 3, 0x13, 0x8D, 0x01, 0x80)
    bench.wait_us(2_000)
    assert get(i2c, 0, 0x17)[0] & 0x10


def test_a_brown_out_puts_both_dies_back():
    bench = Bench()
    chip, i2c = powered(bench)
    run(bench, i2c)
    chip.power_cycle()
    bench.wait_us(100_000)
    assert get(i2c, 0, 0x06) == b"\x41"
    assert get(i2c, 0, 0x2D, 6) == bytes(6)
    assert chip.magnetometer.get(0x31) == 0


def test_power_on_registers_are_those_of_the_datasheet():
    """DS-000189 1.3, sections 8 to 11: all 0 but these."""
    bench = Bench()
    _, i2c = powered(bench)
    expected = {(0, 0x00): 0xEA, (0, 0x05): 0x40, (0, 0x06): 0x41, (2, 0x01): 0x01, (2, 0x14): 0x01}
    for bank in range(4):
        found = get(i2c, bank, 0x00, 0x72)
        assert {(bank, at): value for at, value in enumerate(found) if value} == {k: v for k, v in expected.items() if k[0] == bank}


@pytest.mark.parametrize(
    ("choice", "frame"),
    [
        (0x1F, ("a", "x", "y", "z", "t", "m")),
        (0x1E, ("a", "x", "y", "z", "m")),
        (0x11, ("a", "t", "m")),
        (0x09, ("z", "t", "m")),
        (0x01, ("t", "m")),
    ],
)
def test_a_fifo_frame_is_in_the_order_of_the_output_registers(choice, frame):
    bench = Bench()
    rates = {"angular_rate_x": math.radians(1 / 65.5), "angular_rate_y": math.radians(2 / 65.5), "angular_rate_z": math.radians(3 / 65.5)}
    _, i2c = powered(bench, steady(STILL | rates))
    run(bench, i2c)
    put(i2c, 0, 0x67, choice)
    put(i2c, 0, 0x68, 0x1F)
    put(i2c, 0, 0x68, 0x00)
    bench.wait_us(30_000)
    parts = {"a": struct.pack(">3h", 0, 0, 4096), "x": b"\0\1", "y": b"\0\2", "z": b"\0\3", "t": struct.pack(">h", 3339)}
    inertial = b"".join(parts[part] for part in frame[:-1])
    size = len(inertial) + 9
    assert count(i2c) % size == 0 and count(i2c) > 0
    assert get(i2c, 0, 0x72, size)[:-9] == inertial


def test_a_burst_from_the_count_runs_on_into_the_fifo_and_stays_there():
    bench = Bench()
    chip, i2c = powered(bench)
    run(bench, i2c)
    bench.wait_us(30_000)
    waiting = count(i2c)
    burst = get(i2c, 0, 0x70, 2 + waiting)
    assert int.from_bytes(burst[:2], "big") == waiting and waiting >= 2 * SIZE
    assert FRAME.unpack_from(burst, 2)[2] == FRAME.unpack_from(burst, 2 + SIZE)[2] == 4096
    assert count(i2c) == 0 and chip.fifo.taken == waiting // SIZE


def test_the_high_byte_of_the_count_latches_the_low_one():
    bench = Bench()
    chip, i2c = powered(bench)
    run(bench, i2c)
    bench.wait_us(105_000)
    assert len(chip.fifo) < 256
    high = get(i2c, 0, 0x70)
    before = len(chip.fifo)
    bench.wait_us(150_000)
    low = get(i2c, 0, 0x71)
    assert len(chip.fifo) > 256 and (high[0] << 8 | low[0]) == before
    assert count(i2c) == len(chip.fifo)


def test_snapshot_mode_refuses_whole_samples_and_says_so():
    bench = Bench()
    chip, i2c = powered(bench)
    run(bench, i2c)
    put(i2c, 0, 0x69, 0x01)
    bench.wait_us(1_000_000)
    assert count(i2c) == 22 * SIZE and chip.fifo.refused > 70 and chip.fifo.overwritten == 0
    assert get(i2c, 0, 0x1B)[0] & 1
    put(i2c, 0, 0x69, 0x00)
    bench.wait_us(20_000)
    assert count(i2c) == 512 and chip.fifo.overwritten > 0


def test_the_die_temperature_stands_still_when_it_is_switched_off():
    bench = Bench()
    world = dict(STILL)
    _, i2c = powered(bench, lambda t_us: world)
    run(bench, i2c)
    bench.wait_us(30_000)
    put(i2c, 0, 0x06, 0x09)
    world["temperature_imu"] = 250.0
    bench.wait_us(30_000)
    assert get(i2c, 0, 0x39, 2) == struct.pack(">h", 3339)
    put(i2c, 0, 0x06, 0x01)
    bench.wait_us(30_000)
    assert struct.unpack(">h", get(i2c, 0, 0x39, 2)) == (round((250.0 - 294.15) * 333.87),)


@pytest.mark.parametrize("power", [0x41, 0x07])
def test_asleep_or_with_its_clock_stopped_it_makes_nothing(power):
    bench = Bench()
    chip, i2c = powered(bench)
    run(bench, i2c)
    put(i2c, 0, 0x06, power)
    made = chip.samples
    bench.wait_us(200_000)
    get(i2c, 0, 0x00)
    assert chip.samples == made
    put(i2c, 0, 0x06, 0x01)
    bench.wait_us(200_000)
    get(i2c, 0, 0x00)
    assert chip.samples >= made + 19


def test_a_slave_0_that_finds_nobody_leaves_the_bytes_and_says_so():
    bench = Bench()
    _, i2c = powered(bench)
    run(bench, i2c)
    bench.wait_us(30_000)
    put(i2c, 3, 0x03, 0x8D)
    before = get(i2c, 0, 0x3B, 9)
    get(i2c, 0, 0x17)
    bench.wait_us(30_000)
    assert get(i2c, 0, 0x17)[0] & 0x01 and get(i2c, 0, 0x3B, 9) == before
    assert count(i2c) % SIZE == 0  # the frame keeps its length


def test_a_snapshot_fifo_refuses_instead_of_overwriting():
    fifo = SampleFifo(50)
    fifo.stream = False
    for number in range(5):
        fifo.push(bytes([number]) * 21)
    assert (fifo.made, fifo.refused, len(fifo)) == (5, 3, 42)
    assert [fifo.pop() for _ in range(42)] == [0] * 21 + [1] * 21
    assert fifo.taken == 2


def test_a_sample_half_read_and_then_overwritten_is_not_taken():
    fifo = SampleFifo(42)
    fifo.push(bytes(21))
    fifo.push(bytes(21))
    for _ in range(10):
        fifo.pop()
    fifo.push(bytes(21))
    assert (fifo.overwritten, fifo.taken, fifo.waiting, len(fifo)) == (1, 0, 2, 42)


def test_the_highest_bit_of_a_register_address_does_not_count() -> None:
    bench = Bench()
    chip, i2c = powered(bench)
    assert i2c.readfrom_mem(ADDRESS, 0x80, 1) == b"\xea"
    i2c.writeto_mem(ADDRESS, 0x86, b"\x01")
    assert get(i2c, 0, 0x06) == b"\x01"
