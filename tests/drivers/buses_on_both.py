"""start, poll and read_into of each driver against register maps, on both interpreters."""

import checking
from checking import raises, without_heap
from mock_buses import As7331, Bmp390, Bus, Icm20948, Opt3001, Sht45, Sps30Line, encode_reply

from drivers import as7331, bmp390, icm20948, opt3001, sht45, sps30
from drivers.errors import (
    BAD_CHECKSUM,
    FIFO_ODD,
    FIFO_OVERFLOW,
    NO_ACKNOWLEDGE,
    OTHER,
    POWER_ON_VALUES,
    TIME_OUT,
    WRONG_IDENTITY,
    BusError,
    from_oserror,
)
from drivers.portable import elapsed, later, reached

NVM = bytes.fromhex("a86bd749f9a2feb0f62300a061d67503f6064018c4")
WRAP = 1 << 30


def turn(driver, bus, start, milliseconds, pace=10):
    """Poll every `pace` ms from tick `start` on and read what is ready; the list of raw samples. Chip time is the tick less bus.epoch."""
    samples = []
    buf = bytearray(256)
    for now in range(0, milliseconds, pace):
        bus.advance((start + now - bus.epoch) % WRAP)
        count = driver.poll((start + now) % WRAP)
        while count:
            size = driver.read_into(buf, 3)
            for begin in range(3, 3 + size, driver.RAW_SIZE):
                samples.append(bytes(buf[begin : begin + driver.RAW_SIZE]))
            count -= size // driver.RAW_SIZE
    return samples


def running(driver, bus, start=0, milliseconds=400):
    bus.epoch = start
    driver.start(start)
    assert driver.trim() == b""
    samples = turn(driver, bus, start, milliseconds)
    assert driver.configured
    return samples


def failing(driver, bus, now, milliseconds, pace=10):
    """Poll until it raises; (code, ms until then)."""
    for wait in range(0, milliseconds, pace):
        bus.advance((now + wait - bus.epoch) % WRAP)
        try:
            if driver.poll((now + wait) % WRAP):
                driver.read_into(bytearray(256))
        except BusError as error:
            return error.code, wait
        except OSError as error:
            return from_oserror(error).code, wait
    raise AssertionError("it did not fail")


def check_ticks_wrap():
    assert elapsed(5, WRAP - 5) == 10 and elapsed(7, 7) == 0
    assert later(WRAP - 1, 1000) == 999 and later(0, 1000) == 1000
    assert reached(3, WRAP - 3) and not reached(WRAP - 3, 3) and reached(4, 4)


def check_errno_of_every_port_is_normalised():
    for number, code in (
        (5, NO_ACKNOWLEDGE),
        (19, NO_ACKNOWLEDGE),
        (121, NO_ACKNOWLEDGE),
        (6, NO_ACKNOWLEDGE),
        (110, TIME_OUT),
        (22, OTHER),
    ):
        assert from_oserror(OSError(number)).code == code
    assert from_oserror(OSError()).code == OTHER


def check_bmp390_measures_once_a_second_over_the_wrap_of_the_ticks():
    chip = Bmp390(NVM)
    chip.raw = bytes((0x00, 0x00, 0x68, 0x00, 0x00, 0x80))
    bus = Bus(chip)
    driver = bmp390.BMP390(bus)
    samples = running(driver, bus, WRAP - 3000, 10_000)
    assert driver.trim() == NVM
    assert len(samples) == chip.conversions == 10 and set(samples) == {chip.raw}
    checking.near(bmp390.decode(driver.trim(), samples[0])["pressure"], 98941.2560, 0.02)


def check_bmp390_notices_a_brown_out_and_a_conversion_that_never_ends():
    chip = Bmp390(NVM)
    bus = Bus(chip)
    driver = bmp390.BMP390(bus)
    running(driver, bus)
    chip.reset()
    assert failing(driver, bus, 400, 2000)[0] == POWER_ON_VALUES
    running(driver, bus)
    chip.dead = True
    code, waited = failing(driver, bus, 400, 3000)
    assert code == TIME_OUT and waited < 1000
    chip.registers[0] = 0x50  # a BMP388
    driver.start(0)
    assert raises(BusError, driver.poll, 0).code == WRONG_IDENTITY


def check_sht45_measures_once_a_second_and_asks_again_after_a_bad_checksum():
    good = bytes.fromhex("6667a28000a2")
    chip = Sht45(bytes.fromhex("BEEF92000081"), good)
    bus = Bus(chip)
    driver = sht45.SHT45(bus)
    assert running(driver, bus, 0, 5000) == [good] * 5
    assert chip.resets == 1 and chip.measurements == 5 and driver.trim() == bytes.fromhex("BEEF0000")
    chip.reply = bytes.fromhex("6667a38000a2")
    code, waited = failing(driver, bus, 5000, 1000)
    assert code == BAD_CHECKSUM
    chip.reply = good
    assert turn(driver, bus, 5000 + waited, 300) == [good]  # in the same second


def check_sht45_that_never_answers_is_no_acknowledge():
    chip = Sht45(bytes.fromhex("BEEF92000081"), bytes.fromhex("6667a28000a2"))
    bus = Bus(chip)
    driver = sht45.SHT45(bus)
    running(driver, bus, 0, 100)
    chip.acknowledges = lambda read: not read
    code, waited = failing(driver, bus, 1000, 1000)
    assert code == NO_ACKNOWLEDGE and 50 <= waited <= 100


def check_opt3001_delivers_every_conversion_once():
    chip = Opt3001()
    bus = Bus(chip)
    driver = opt3001.OPT3001(bus)
    samples = running(driver, bus, WRAP - 3000, 8100)
    assert driver.trim() == b"\x30\x01" and len(samples) == chip.conversions == 10
    checking.near(opt3001.decode(driver.trim(), samples[0])["illuminance"], 2818.56, 1e-6)
    chip.overflow = True
    samples = turn(driver, bus, 5100, 800)
    assert opt3001.decode(b"", samples[0]) == {"illuminance": "saturated"}


def check_opt3001_brown_out_silence_and_another_chip():
    chip = Opt3001()
    bus = Bus(chip)
    driver = opt3001.OPT3001(bus)
    running(driver, bus)
    chip.registers[1] = 0xC810
    assert failing(driver, bus, 400, 500)[0] == POWER_ON_VALUES
    running(driver, bus)
    chip.next_at = None
    assert failing(driver, bus, 400, 4000)[0] == TIME_OUT
    chip.registers[0x7F] = 0x1234
    driver.start(0)
    assert raises(BusError, driver.poll, 0).code == WRONG_IDENTITY


def check_as7331_measures_undisturbed_once_a_second():
    chip = As7331()
    bus = Bus(chip)
    driver = as7331.AS7331(bus)
    samples = running(driver, bus, WRAP - 1500, 5000)
    assert driver.trim() == b"\xa6\x40\x40" and len(samples) == chip.conversions == 5 and chip.traffic == 0
    values = as7331.decode(driver.trim(), samples[4])
    checking.near(values["uva"], 100 * 340.0 / 128 * 0.01, 1e-9)
    checking.near(values["temperature_uv"], 298.15, 1e-9)


def check_as7331_brown_out_during_a_measurement_and_a_conversion_that_never_ends():
    chip = As7331()
    bus = Bus(chip)
    driver = as7331.AS7331(bus)
    running(driver, bus)
    for now in range(400, 1020, 10):
        bus.advance(now)
        driver.poll(now)
    chip.reset()
    assert failing(driver, bus, 1020, 200)[0] == POWER_ON_VALUES
    running(driver, bus)
    chip.advance = lambda now: None
    chip.done_at = 1
    assert failing(driver, bus, 400, 2000)[0] == TIME_OUT
    chip.configuration[2] = 0x20
    chip.reset = lambda: None
    driver.start(0)
    chip.done_at = None
    driver.poll(0)
    assert raises(BusError, driver.poll, 10).code == WRONG_IDENTITY


def check_icm20948_delivers_every_sample_in_order():
    chip = Icm20948()
    bus = Bus(chip)
    driver = icm20948.ICM20948(bus)
    samples = running(driver, bus, WRAP - 2000, 5000)
    assert driver.trim() == b"\x1d\x1b\x00\x0a\x0a" and driver.degraded == 0 and driver.gap_reason == 0
    assert len(samples) + len(chip.fifo) // 21 == chip.samples > 460
    assert [icm20948.split(raw)[0] for raw in samples] == list(range(1, len(samples) + 1))
    assert icm20948.split(samples[0])[6:] == (100, -50, 7, 0x1001)
    assert chip.mag[0x32] == 1 and chip.mag[0x31] == 8 and chip.banks[0][0x05] == 0 and chip.banks[0][0x69] == 0


def check_icm20948_reads_at_most_eleven_frames_and_never_more_than_fit():
    chip = Icm20948()
    bus = Bus(chip)
    driver = icm20948.ICM20948(bus)
    running(driver, bus)
    for _ in range(16):
        chip.push()
    expected = len(chip.fifo) // 21
    assert driver.poll(500) == expected > 15
    buf = bytearray(250)
    assert driver.read_into(buf, 19) == 11 * 21
    assert driver.poll(501) == expected - 11  # what was counted is delivered before it is counted anew
    assert driver.read_into(bytearray(50), 3) == 2 * 21
    assert driver.read_into(bytearray(20)) == 0
    assert driver.read_into(memoryview(buf), 19) == (expected - 13) * 21
    assert driver.poll(502) == 0 and not chip.fifo


def check_icm20948_overflow_and_odd_count_empty_the_fifo_and_are_counted_as_a_gap():
    chip = Icm20948()
    bus = Bus(chip)
    driver = icm20948.ICM20948(bus)
    running(driver, bus)
    for _ in range(40):
        chip.push()
    assert len(chip.fifo) == 512
    assert driver.poll(600) == 0 and driver.gap_reason == FIFO_OVERFLOW and not chip.fifo
    driver.gap_reason = 0
    chip.overflowed = True  # overflowed, but the count looks whole
    chip.fifo = bytearray(24 * 21)
    assert driver.poll(700) == 0 and driver.gap_reason == FIFO_OVERFLOW and not chip.fifo
    driver.gap_reason = 0
    chip.push()
    chip.fifo += b"\x00"
    assert driver.poll(800) == 0 and driver.gap_reason == FIFO_ODD and not chip.fifo
    chip.push()
    assert driver.poll(900) == 1
    assert driver.read_into(bytearray(21)) == 21


def check_icm20948_gives_up_after_more_than_ten_fifo_failures():
    chip = Icm20948()
    bus = Bus(chip)
    driver = icm20948.ICM20948(bus)
    running(driver, bus)
    for attempt in range(10):
        chip.fifo = bytearray(5)
        assert driver.poll(500 + 60 * attempt) == 0
    chip.fifo = bytearray(5)
    assert raises(BusError, driver.poll, 1500).code == FIFO_ODD


def check_icm20948_notices_brown_out_silence_and_another_chip():
    chip = Icm20948()
    bus = Bus(chip)
    driver = icm20948.ICM20948(bus)
    running(driver, bus)
    chip.reset()
    code, waited = failing(driver, bus, 400, 500)
    assert code == POWER_ON_VALUES and waited <= 120
    running(driver, bus)
    chip.frozen = True
    code, waited = failing(driver, bus, 400, 2000)
    assert code == TIME_OUT and 400 < waited < 700
    chip.banks[0][0] = 0x12
    driver.start(0)
    assert raises(BusError, driver.poll, 0).code == WRONG_IDENTITY


def check_icm20948_magnetometer_that_answers_late_is_set_up():
    chip = Icm20948()
    chip.mag_answers_after = 9
    bus = Bus(chip)
    driver = icm20948.ICM20948(bus)
    samples = running(driver, bus, 0, 1000)
    assert chip.master_resets == 9 and driver.degraded == 0 and icm20948.split(samples[-1])[9] & 1 == 1


def check_icm20948_without_magnetometer_still_gives_six_axes_and_says_so():
    chip = Icm20948()
    chip.mag_answers_after = 99
    bus = Bus(chip)
    driver = icm20948.ICM20948(bus)
    samples = running(driver, bus, 0, 3000)
    assert driver.degraded == NO_ACKNOWLEDGE and len(samples) > 200
    assert icm20948.decode(driver.trim(), samples[-1])["magnetic_field_x"] == "no new sample"


def check_icm20948_magnetometer_that_falls_silent_degrades_it_until_it_speaks():
    chip = Icm20948()
    bus = Bus(chip)
    driver = icm20948.ICM20948(bus)
    running(driver, bus, 0, 1000)
    chip.mag_ready = False
    turn(driver, bus, 1000, 3000)
    assert driver.degraded == TIME_OUT
    chip.mag_ready = True
    turn(driver, bus, 4000, 200)
    assert driver.degraded == 0


def check_icm20948_lost_bus_in_the_middle_of_the_fifo_does_not_shift_frames():
    chip = Icm20948()
    bus = Bus(chip)
    driver = icm20948.ICM20948(bus)
    running(driver, bus)
    for _ in range(5):
        chip.push()
    assert driver.poll(500) >= 5
    bus.errors = [110]
    raises(OSError, driver.read_into, bytearray(250))
    chip.fifo = chip.fifo[30:]  # half read
    assert driver.poll(600) == 0 and driver.gap_reason == FIFO_ODD


def check_sps30_delivers_every_sample_once():
    line = Sps30Line()
    driver = sps30.SPS30(line)
    samples = running(driver, line, WRAP - 2000, 10_000)
    assert line.commands[:5] == [0x11, 0x01, 0xD1, 0xD0, 0x00] and driver.trim() == b"\x02\x03ABC123"
    assert len(samples) == line.samples >= 9
    checking.near(sps30.decode(driver.trim(), samples[6])["pm2_5"], 7e-9, 1e-16)
    assert line.commands.count(0x03) < 30  # an empty reply is asked again after 100 ms, not at once


def check_sps30_of_firmware_1_that_ignores_wake_is_started():
    line = Sps30Line()
    line.answers = [b""]
    driver = sps30.SPS30(line)
    assert len(running(driver, line, 0, 3000)) == 2


def check_sps30_late_broken_and_missing_replies():
    line = Sps30Line()
    driver = sps30.SPS30(line)
    running(driver, line, 0, 1000)
    line.late(encode_reply(0x01, 0, b""))  # of an earlier command: thrown away
    assert len(turn(driver, line, 1000, 1000)) == 1
    line.answers = [b"\x7e\x00\x03\x00\x00\xfb\x7e"]
    assert failing(driver, line, 2000, 2000)[0] == BAD_CHECKSUM
    assert len(turn(driver, line, 4000, 500)) == 1
    line.answers = [encode_reply(0x03, 0, bytes(40))[:20]]
    assert failing(driver, line, 6000, 2000)[0] == TIME_OUT
    line.answers = [encode_reply(0x03, 0x43, b"")]
    assert failing(driver, line, 8000, 2000)[0] == OTHER
    line.answers = [encode_reply(0x03, 0, bytes(30))]
    assert failing(driver, line, 10_000, 2000)[0] == OTHER


def check_sps30_device_fault_is_degraded_not_an_error():
    line = Sps30Line()
    driver = sps30.SPS30(line)
    running(driver, line, 0, 1000)
    line.status = 0x80
    assert len(turn(driver, line, 1000, 1000)) == 1
    assert driver.degraded == OTHER


def check_sps30_absent_or_silent_is_a_time_out():
    line = Sps30Line()
    line.write = lambda data: len(data)
    line.epoch = 0
    driver = sps30.SPS30(line)
    driver.start(0)
    assert failing(driver, line, 0, 1000)[0] == TIME_OUT
    line = Sps30Line()
    driver = sps30.SPS30(line)
    running(driver, line, 0, 3000)
    line.next_at = None
    assert failing(driver, line, 3000, 10_000, 20)[0] == TIME_OUT


def check_every_driver_reports_an_absent_chip_and_sets_it_up_when_it_appears():
    chips = (Icm20948(), Bmp390(NVM), Sht45(bytes.fromhex("BEEF92000081"), bytes.fromhex("6667a28000a2")), Opt3001(), As7331())
    for chip, kind in zip(chips, (icm20948.ICM20948, bmp390.BMP390, sht45.SHT45, opt3001.OPT3001, as7331.AS7331)):  # noqa: B905
        bus = Bus()
        driver = kind(bus)
        driver.start(0)
        bus.epoch = 0
        assert failing(driver, bus, 0, 50)[0] == NO_ACKNOWLEDGE
        assert not driver.configured and driver.trim() == b""
        bus.chips[chip.address] = chip
        assert running(driver, bus, 0, 2500)


class Canned:
    """Answers every transaction from prepared bytes, without allocating."""

    def __init__(self):
        self.replies = {}
        self.otherwise = bytes(256)

    def readfrom_mem_into(self, address, register, buf):
        reply = self.replies.get(register, self.otherwise)
        for index in range(len(buf)):
            buf[index] = reply[index]

    def readfrom_into(self, address, buf):
        self.readfrom_mem_into(address, 0, buf)

    def writeto_mem(self, address, register, buf):
        pass

    def writeto(self, address, buf):
        pass


def check_read_into_allocates_nothing():
    chips = (Icm20948(), Bmp390(NVM), Sht45(bytes.fromhex("BEEF92000081"), bytes.fromhex("6667a28000a2")), Opt3001(), As7331())
    buf = bytearray(250)
    for chip, kind in zip(chips, (icm20948.ICM20948, bmp390.BMP390, sht45.SHT45, opt3001.OPT3001, as7331.AS7331)):  # noqa: B905
        bus = Bus(chip)
        driver = kind(bus)
        running(driver, bus)
        ready = 0
        now = 400
        while not ready:
            now += 10
            bus.advance(now)
            ready = driver.poll(now)
        canned = Canned()
        driver._i2c = canned
        assert without_heap(lambda d=driver: d.read_into(buf, 19)) == driver.RAW_SIZE * min(ready, 11)
    line = Sps30Line()
    driver = sps30.SPS30(line)
    running(driver, line, 0, 900)
    now = 900
    while not driver.poll(now):
        now += 10
        line.advance(now)
    assert without_heap(lambda: driver.read_into(buf, 19)) == 40


def check_waiting_and_fifo_polls_allocate_nothing():
    chip = Icm20948()
    bus = Bus(chip)
    driver = icm20948.ICM20948(bus)
    running(driver, bus)
    canned = Canned()
    canned.replies = {0x03: b"\x60\x00\x00\x01", 0x70: b"\x00\x2a"}
    driver._i2c = canned
    assert driver.poll(450) == 2 and driver.read_into(bytearray(50)) == 42
    assert without_heap(lambda: driver.poll(451)) == 0
    assert without_heap(lambda: driver.poll(600)) == 2
    driver.read_into(bytearray(50))
    canned.replies[0x70] = b"\x00\x2b"
    assert without_heap(lambda: driver.poll(800)) == 0 and driver.gap_reason == FIFO_ODD
    canned.replies[0x70] = b"\x02\x00"
    assert without_heap(lambda: driver.poll(900)) == 0 and driver.gap_reason == FIFO_OVERFLOW


if __name__ == "__main__":
    checking.run(globals())
