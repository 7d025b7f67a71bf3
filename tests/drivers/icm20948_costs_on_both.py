"""The ICM-20948's driver: its magnetometer comes and goes, and what steady work costs. On both interpreters."""

import struct

import checking
from checking import near, raises, without_heap
from mock_buses import Bus
from mock_icm20948 import FRAME, Icm20948, made, numbers
from turns import WRAP, running, turn

from drivers import icm20948
from drivers.errors import FIFO_BROKEN, FIFO_ODD, FIFO_OVERFLOW, NO_ACKNOWLEDGE, TIME_OUT

# --- the magnetometer


def check_magnetometer_that_answers_late_is_set_up():
    chip = Icm20948()
    chip.mag_answers_after = 9
    bus = Bus(chip)
    driver = icm20948.ICM20948(bus)
    samples = running(driver, bus, 0, 1200)
    assert chip.master_resets == 9 and driver.degraded == 0 and icm20948.split(samples[-1])[10] & 1 == 1


def check_without_magnetometer_six_axes_go_on_and_it_is_set_up_when_it_comes():
    chip = Icm20948()
    chip.mag_answers_after = 25
    bus = Bus(chip)
    driver = icm20948.ICM20948(bus)
    samples = running(driver, bus, 0, 3000)
    assert driver.degraded == NO_ACKNOWLEDGE and len(samples) > 200
    assert icm20948.decode(driver.trim(), samples[-1])["magnetic_field_x"] == "no new sample"
    newest = numbers(samples[-1:])[0]
    for start in range(3000, 16_000, 1000):
        samples = turn(driver, bus, start, 1000)
        assert numbers(samples) == list(range(newest + 1, newest + 1 + len(samples)))
        newest += len(samples)
    assert driver.degraded == 0 and driver.gap_reason == 0 and chip.resets == 1
    near(icm20948.decode(driver.trim(), samples[-1])["magnetic_field_x"], 15e-6, 1e-12)


def check_magnetometer_that_lost_its_mode_is_set_up_again_while_the_other_axes_go_on():
    chip = Icm20948()
    bus = Bus(chip)
    driver = icm20948.ICM20948(bus)
    samples = running(driver, bus, 0, 1000)
    chip.mag[0x31] = 0
    now = 1000
    while not driver.degraded and now < 4000:
        samples += turn(driver, bus, now, 10)
        now += 10
    assert driver.degraded == TIME_OUT and 3000 <= now <= 3100
    samples += turn(driver, bus, now, 500)  # it was in order since the start: the first time it is set up again at once
    assert driver.degraded == 0 and chip.mag[0x31] == 8 and chip.resets == 1 and chip.master_resets == 0
    assert numbers(samples) == list(range(1, len(samples) + 1)) and driver.gap_reason == 0


def check_magnetometer_that_falls_silent_degrades_it_until_it_speaks():
    chip = Icm20948()
    bus = Bus(chip)
    driver = icm20948.ICM20948(bus)
    running(driver, bus, 0, 1000)
    chip.mag_ready = False
    turn(driver, bus, 1000, 9000)
    assert driver.degraded == TIME_OUT
    chip.mag_ready = True
    turn(driver, bus, 10_000, 200)
    assert driver.degraded == 0


def check_a_magnetometer_whose_mode_is_not_known_gives_no_sample():
    chip = Icm20948()
    chip.mag_mode_lost = True  # its mode reads back as another
    bus = Bus(chip)
    driver = icm20948.ICM20948(bus)
    running(driver, bus, 0, 1200)
    chip.mag[0x31] = 8  # from here on it says data-ready
    samples = turn(driver, bus, 1200, 1000)
    assert len(samples) > 90 and driver.degraded == NO_ACKNOWLEDGE
    assert chip.fifo == b"" or chip.fifo[14] == 1
    assert not [raw for raw in samples if raw[14] & 1]
    assert icm20948.decode(driver.trim(), samples[-1])["magnetic_field_x"] == "no new sample"
    chip.mag_mode_lost = False
    samples = turn(driver, bus, 2200, 6000)
    assert driver.degraded == 0 and samples[-1][14] == 1


def check_a_magnetometer_that_acknowledges_nothing_leaves_no_old_sample_behind():
    for after in range(0, 50, 7):  # at any moment between two drains
        chip = Icm20948()
        bus = Bus(chip)
        driver = icm20948.ICM20948(bus)
        running(driver, bus, 0, 1000)
        samples = turn(driver, bus, 1000, 300 + after)
        good = chip.samples
        chip.mag_away = True
        away = turn(driver, bus, 1300 + after, 2500)
        assert driver.degraded == TIME_OUT and driver.gap_reason == 0
        samples += away
        assert not [raw for raw in samples if numbers([raw])[0] > good and raw[14] & 1], after
        assert [raw for raw in samples if raw[14] & 1]
        chip.mag_away = False
        samples = turn(driver, bus, 3800 + after, 6000)
        assert driver.degraded == 0 and samples[-1][14] & 1 and chip.resets == 1


def check_one_cycle_without_acknowledge_is_no_sample_of_the_field():
    chip, bus, driver = made()

    def stale():
        chip.mag_away = True
        chip.push()
        chip.mag_away = False
        return chip.samples

    for moment in range(9):
        number = stale()
        samples = turn(driver, bus, bus.now + 10, 200 + moment % 5 * 10)
        assert [raw[14] & 1 for raw in samples if numbers([raw])[0] == number] == [0]
        while len(chip.fifo) < (2 * moment + 3) * FRAME:  # up to three reads in a drain, the last frame is the old one
            chip.push()
        number = stale()
        samples = turn(driver, bus, bus.now + 10, 200)
        assert [raw[14] & 1 for raw in samples if numbers([raw])[0] == number] == [0]
    for _ in range(5):  # between the count and the question who answered: it is a frame of the next drain
        cycles = []
        chip.misread = lambda bank, register, value, cycles=cycles: (register == 0x71 and not cycles and cycles.append(stale())) or value
        samples = turn(driver, bus, bus.now + 10, 210)
        assert [raw[14] & 1 for raw in samples if numbers([raw])[0] == cycles[0]] == [0]
        assert len([raw for raw in samples if raw[14] & 1]) >= 8

    def broken(bank, register, value):
        if register == 0x17:
            raise OSError(5)
        return value

    number = stale()
    chip.misread = broken  # the question itself fails, and has cleared the answer
    raises(OSError, turn, driver, bus, bus.now + 10, 100)
    chip.misread = None
    assert driver.gap_reason == 0
    samples = turn(driver, bus, bus.now + 10, 210)
    assert driver.gap_reason == FIFO_BROKEN and numbers(samples)[0] > number  # what was read with it is not taken
    assert samples[0][14] & 1 == 0 and samples[-1][14] & 1 and driver.degraded == 0


# --- costs


class Canned:
    """Answers every transaction from prepared bytes by bank, without allocating."""

    def __init__(self, chip):
        self.banks = [bytes(bank) + bytes(128) for bank in chip.banks]
        self.bank = 0
        self.frame = bytes((0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0, 7, 1, 8, 0, 9, 0, 10, 0, 0, 0x10)) * 10
        self.count = b"\x00\x00"
        self.after = b"\x00\x00"

    def readfrom_mem_into(self, address, register, buf):
        if register == 0x7F:
            buf[0] = self.bank << 4
        elif register == 0x70:
            buf[0] = self.count[0]
            buf[1] = self.count[1]
            if len(buf) > 2:
                self.count = self.after
            for index in range(2, len(buf)):
                buf[index] = self.frame[index - 2]
        else:
            bank = self.banks[self.bank]
            for index in range(len(buf)):
                buf[index] = bank[register + index]

    def writeto_mem(self, address, register, buf):
        if register == 0x7F:
            self.bank = buf[0] >> 4


def check_steady_polls_reads_and_checks_allocate_nothing():
    chip, bus, driver = made()
    driver.poll(400)
    driver.read_into(bytearray(250))
    canned = Canned(chip)
    driver._registers._i2c = canned
    buf = bytearray(250)
    now = WRAP - 300
    driver._drained = driver._checked = driver._sampled = now
    for step in range(12):  # over the wrap of the ticks; every turn of the checks comes four times
        now = (now + 55) % WRAP
        canned.count = b"\x00\x8a"
        assert without_heap(lambda at=now: driver.poll(at)) == 6, step
        assert without_heap(lambda: driver.read_into(buf, 19)) == 6 * FRAME
        assert without_heap(lambda at=now: driver.poll(at)) == 0
    for count, reason in ((b"\x00\x2b", FIFO_ODD), (b"\x02\x00", FIFO_OVERFLOW)):
        now = (now + 55) % WRAP
        canned.count = count
        assert without_heap(lambda at=now: driver.poll(at)) == 0 and driver.gap_reason == reason
    now = (now + 55) % WRAP
    canned.count = b"\x00\x45"
    assert driver.poll(now) == 3
    canned.count = b"\x00\x01"
    assert without_heap(lambda: driver.read_into(buf, 19)) == 0
    driver.gap_reason = 0
    assert without_heap(lambda at=now: driver.poll(at)) == 0 and driver.gap_reason == FIFO_BROKEN


def check_setting_up_a_silent_magnetometer_again_allocates_nothing():
    chip, bus, driver = made()
    canned = Canned(chip)  # its I2C master never ends a transfer
    driver._registers._i2c = canned
    now = WRAP - 300
    driver._drained = driver._checked = driver._sampled = now
    driver._mended = now - 6000
    driver.degraded = TIME_OUT
    buf = bytearray(250)
    for step in range(60):
        now = (now + 20) % WRAP
        canned.count = b"\x00\x2e"
        if without_heap(lambda at=now: driver.poll(at)):
            assert without_heap(lambda: driver.read_into(buf, 19)) == 2 * FRAME and buf[19 + 14] == 0, step
    assert not driver._mending and not driver._magnetometer_set and driver._magnetometer._tries == 10


def check_the_checks_take_less_than_two_percent_of_the_bus():
    chip, bus, driver = made()
    turn(driver, bus, 400, 1000)
    transactions, bits, fifo = bus.transactions, bus.bits, bus.fifo_bits
    assert len(turn(driver, bus, 1400, 6000)) > 600
    a_second = (bus.transactions - transactions) / 6
    checks = (bus.bits - bits - bus.fifo_bits + fifo) / 6
    assert 90 <= a_second <= 140, a_second
    assert checks < 0.02 * 400_000, checks


def check_a_frame_says_its_temperature():
    raw = struct.pack(">7h", 0, 0, 0, 0, 0, 0, 3339) + bytes(9)
    near(icm20948.decode(bytes((0x1D, 0x1B, 0, 10, 10)), raw)["temperature_imu"] - 273.15, 31.0009, 1e-4)


if __name__ == "__main__":
    checking.run(globals())
