"""start, poll and read_into of each driver against register maps, on both interpreters."""

import errno

import checking
from checking import raises, without_heap
from mock_buses import As7331, Bmp390, Bus, Opt3001, Sht45
from mock_icm20948 import Icm20948
from turns import WRAP, failing, running, turn

from drivers import as7331, bmp390, icm20948, opt3001, sht45
from drivers.errors import (
    BAD_CHECKSUM,
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
    samples = running(driver, bus, WRAP - 3000, 9900)
    assert driver.trim() == b"\x30\x01" and len(samples) == chip.conversions == 10
    checking.near(opt3001.decode(driver.trim(), samples[0])["illuminance"], 2818.56, 1e-6)
    chip.overflow = True
    samples = turn(driver, bus, 6900, 1000)
    assert opt3001.decode(b"", samples[0]) == {"illuminance": "saturated"}


def check_opt3001_brown_out_silence_and_another_chip():
    chip = Opt3001()
    bus = Bus(chip)
    driver = opt3001.OPT3001(bus)
    running(driver, bus)
    chip.registers[1] = 0xC810
    assert failing(driver, bus, 400, 500)[0] == POWER_ON_VALUES
    running(driver, bus)
    chip.registers[1] |= 0x0400  # a flipped bit of the command: it measures on and on
    chip.next_at = None
    assert failing(driver, bus, 400, 1000)[0] == POWER_ON_VALUES
    chip.dead = True
    running(driver, bus)
    assert failing(driver, bus, 400, 4000)[0] == TIME_OUT
    chip.registers[0x7F] = 0x1234
    driver.start(0)
    assert raises(BusError, driver.poll, 0).code == WRONG_IDENTITY


class LosingBus(Bus):
    """Loses the next command to the OPT3001, or the next reply that has its ready flag, which that reading clears."""

    command = False
    flag = False

    def writeto_mem(self, address, register, buf):
        if self.command:
            self.command = False  # a flipped address bit: acknowledged by another chip
        else:
            super().writeto_mem(address, register, buf)

    def readfrom_mem_into(self, address, register, buf):
        super().readfrom_mem_into(address, register, buf)
        if self.flag and register == 1 and buf[1] & 0x80:
            self.flag = False
            raise OSError(errno.ETIMEDOUT)


def check_opt3001_whose_command_or_ready_flag_was_lost_measures_again_at_the_first_look():
    bus = LosingBus(Opt3001())
    driver = opt3001.OPT3001(bus)
    assert len(running(driver, bus, 0, 950)) == 1
    bus.command = True
    code, waited = failing(driver, bus, 950, 3000)
    assert not bus.command and code == TIME_OUT and waited <= 50 + 700 + 10  # not after the deadline of 2 s
    now = 950 + waited
    assert len(turn(driver, bus, now, 900)) == 1
    bus.flag = True
    assert failing(driver, bus, now + 900, 2000)[0] == TIME_OUT and not bus.flag  # the lost reply itself
    lost = bus.now
    code, waited = failing(driver, bus, lost + 10, 1000)
    assert code == TIME_OUT and waited <= 40
    assert len(turn(driver, bus, lost + 10 + waited, 900)) == 1


def check_as7331_measures_undisturbed_once_a_second():
    chip = As7331()
    chip.words = (0, 1838, 10_000, 200, 300)  # within 5 and 80 %: the gain stays
    bus = Bus(chip)
    driver = as7331.AS7331(bus)
    samples = running(driver, bus, WRAP - 1500, 5000)
    assert driver.trim() == b"\xa6\x40\x40" and len(samples) == chip.conversions == 5 and chip.traffic == 0
    values = as7331.decode(driver.trim(), samples[4])
    checking.near(values["uva"], 10_000 * 340.0 / 128 * 0.01, 1e-9)
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
    chips = (Bmp390(NVM), Sht45(bytes.fromhex("BEEF92000081"), bytes.fromhex("6667a28000a2")), Opt3001(), As7331())
    buf = bytearray(250)
    for chip, kind in zip(chips, (bmp390.BMP390, sht45.SHT45, opt3001.OPT3001, as7331.AS7331)):  # noqa: B905
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
        assert without_heap(lambda d=driver: d.read_into(buf, 19)) == driver.RAW_SIZE


if __name__ == "__main__":
    checking.run(globals())
