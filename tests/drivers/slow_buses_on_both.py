"""The slow I2C chips: what their drivers do about light, wetness, flipped bits and brown-outs; and that steady work allocates nothing."""

import checking
from buses_on_both import NVM, Canned
from checking import near, raises, without_heap
from mock_buses import As7331, Bmp390, Bus, Opt3001, Sht45, Veml7700
from turns import failing, running, turn

from drivers import as7331, bmp390, opt3001, sht45, veml7700
from drivers.crc8 import crc8
from drivers.errors import BAD_CHECKSUM, DEVICE_FAULT, HEATER_ON, POWER_ON_VALUES, TIME_OUT, WRONG_IDENTITY, BusError

SERIAL = bytes.fromhex("BEEF92000081")
GOOD = bytes.fromhex("6667a28000a2")


class FlippingBus(Bus):
    """Flips one bit of what the next read of `register` brings, once."""

    register = None

    def readfrom_mem_into(self, address, register, buf):
        super().readfrom_mem_into(address, register, buf)
        if register == self.register:
            self.register = None
            buf[0] ^= 0x08


def steady_light():
    chip = As7331()
    chip.words = (0, 1838, 10_000, 200, 50)  # within 5 and 80 %: the gain stays
    return chip


def pairs():
    return (
        (Bmp390(NVM), bmp390.BMP390),
        (Sht45(SERIAL, GOOD), sht45.SHT45),
        (Opt3001(), opt3001.OPT3001),
        (As7331(), as7331.AS7331),
        (Veml7700(), veml7700.VEML7700),
    )


def ready_at(driver, bus, now, limit=2000):
    """The tick of the poll that finds a sample ready."""
    end = now + limit
    while now < end:
        bus.advance(now)
        if driver.poll(now):
            return now
        now += 10
    raise AssertionError("no sample")


# --- one flipped bit


def check_a_flipped_bit_in_the_data_is_a_bad_checksum_and_the_same_data_come_at_the_next_poll():
    for chip, kind, register in (
        (Bmp390(NVM), bmp390.BMP390, 0x04),
        (Opt3001(), opt3001.OPT3001, 0x00),
        (steady_light(), as7331.AS7331, 0x01),
        (Veml7700(), veml7700.VEML7700, 0x04),
    ):
        bus = FlippingBus(chip)
        driver = kind(bus)
        good = running(driver, bus, 0, 2900)[-1]
        bus.register = register
        now = 3000
        while bus.register is not None:  # polled until the flip has happened
            now += 10
            bus.advance(now)
            code = 0
            try:
                assert driver.poll(now) == 0
            except BusError as error:
                code = error.code
        assert code == BAD_CHECKSUM, driver.SENSOR
        assert turn(driver, bus, now + 10, 20) == [good], driver.SENSOR


def check_a_flipped_bit_in_a_status_delivers_nothing_early_or_late():
    chip = Bmp390(NVM)
    bus = FlippingBus(chip)
    driver = bmp390.BMP390(bus)
    running(driver, bus, 0, 2900)
    chip.dead = True  # the conversion does not end, and one reply says that it had
    assert failing(driver, bus, 3000, 1000)[0] == TIME_OUT

    def lie(register, read=chip.reading):
        return 0x60 if register == 0x03 and not lies.append(1) and len(lies) == 1 else read(register)

    lies = []
    chip.reading = lie
    assert failing(driver, bus, 4000, 1000)[0] == TIME_OUT and lies


def check_a_trim_that_reads_differently_twice_is_not_taken():
    bus = FlippingBus(Bmp390(NVM))
    bus.register = 0x31
    bus.epoch = 0
    driver = bmp390.BMP390(bus)
    driver.start(0)
    assert failing(driver, bus, 0, 100)[0] == BAD_CHECKSUM
    assert not driver.configured and driver.trim() == b""
    assert running(driver, bus) and driver.trim() == NVM


def check_a_setting_that_did_not_arrive_is_noticed_before_its_values_are_believed():
    chip = Bmp390(NVM)
    bus = Bus(chip)
    driver = bmp390.BMP390(bus)
    running(driver, bus)
    chip.registers[0x1F] = 0x02  # a filter nobody asked for
    assert failing(driver, bus, 400, 2000)[0] == POWER_ON_VALUES
    chip = As7331()
    bus = Bus(chip)
    driver = as7331.AS7331(bus)
    running(driver, bus)
    start = ready_at(driver, bus, 1000)
    driver.read_into(bytearray(11))
    bus.advance(start + 1000)
    driver.poll(start + 1000)  # converting
    chip.configuration[6] = 0x26
    assert failing(driver, bus, start + 1010, 500)[0] == POWER_ON_VALUES


# --- BMP390


def check_bmp390_in_normal_mode_delivers_each_conversion_once():
    chip = Bmp390(NVM)
    bus = Bus(chip)
    driver = bmp390.BMP390(bus, 0x77, True)
    assert driver.PERIOD_MS == 640
    samples = running(driver, bus, 0, 10_000)
    assert chip.registers[0x1B] == 0x33 and chip.registers[0x1D] == 7 and chip.registers[0x1A] == 6
    assert len(samples) == chip.conversions == 16
    chip.reset()
    assert failing(driver, bus, 10_000, 5000)[0] in (POWER_ON_VALUES, TIME_OUT)
    running(driver, bus, 0, 2000)
    chip.registers[0x10] = 0x01  # a power-on that left the settings alone
    assert failing(driver, bus, 2000, 2000)[0] == POWER_ON_VALUES


def check_bmp390_that_says_fatal_or_configuration_error_delivers_nothing():
    for normal in (False, True):
        for bit in (0x01, 0x02, 0x04):
            chip = Bmp390(NVM)
            bus = Bus(chip)
            driver = bmp390.BMP390(bus, 0x77, normal)
            running(driver, bus)
            chip.registers[0x02] = bit
            assert failing(driver, bus, 1000, 2000)[0] == DEVICE_FAULT
            assert not driver.configured
            assert running(driver, bus, 5000, 2000)


# --- SHT45


def reply(temperature, humidity):
    t, h = bytes((temperature >> 8, temperature & 0xFF)), bytes((humidity >> 8, humidity & 0xFF))
    return t + bytes((crc8(t),)) + h + bytes((crc8(h),))


WET = reply(0x6667, 53_000)


def check_sht45_never_heats_unless_it_is_told_to():
    chip = Sht45(SERIAL, WET)
    bus = Bus(chip)
    driver = sht45.SHT45(bus)
    assert len(running(driver, bus, 0, 700_000)) == 700 and chip.pulses == 0 and driver.gap_reason == 0


def check_sht45_wet_for_five_minutes_is_heated_once_and_silent_until_it_is_cool():
    chip = Sht45(SERIAL, WET)
    bus = Bus(chip)
    driver = sht45.SHT45(bus, 0x44, True)
    assert len(running(driver, bus, 0, 299_000)) == 299 and chip.pulses == 0
    assert len(turn(driver, bus, 299_000, 62_000)) in (1, 2)
    assert chip.pulses == 1 and driver.gap_reason == HEATER_ON
    driver.gap_reason = 0
    # As wet as before: the next pulse comes 5 min after the first sample that says so.
    assert len(turn(driver, bus, 361_000, 299_000)) >= 298 and chip.pulses == 1
    turn(driver, bus, 660_000, 4_000)
    assert chip.pulses == 2 and driver.gap_reason == HEATER_ON


def check_sht45_neither_hot_nor_wet_by_spells_is_heated():
    for dry in (reply(0x6667, 52_900), reply(41_300, 53_000)):  # below 95 %, above 65 °C
        chip = Sht45(SERIAL, WET)
        bus = Bus(chip)
        driver = sht45.SHT45(bus, 0x44, True)
        running(driver, bus, 0, 200_000)
        chip.reply = dry
        turn(driver, bus, 200_000, 2_000)
        chip.reply = WET
        turn(driver, bus, 202_000, 298_000)
        assert chip.pulses == 0


def check_sht45_damaged_says_8000_twice_and_that_is_no_measurement():
    assert set(sht45.decode(bytes(4), reply(0x8000, 0x8000)).values()) == {"implausible"}
    near(sht45.decode(bytes(4), reply(0x8001, 0x8000))["temperature"], 42.5 + 273.15, 0.01)


# --- AS7331


def gains(chip, driver, bus, now, samples):
    """(gain codes, values of UV-A) of the next samples."""
    found = []
    while len(found) < samples:
        now = ready_at(driver, bus, now) + 10
        raw = bytearray(11)
        driver.read_into(raw)
        found.append((raw[10] >> 4, as7331.decode(driver.trim(), raw)["uva"]))
    return found, now


def check_as7331_lowers_the_gain_at_once_and_raises_it_step_by_step():
    chip = As7331()
    chip.words = (0, 1838, 100, 200, 50)
    bus = Bus(chip)
    driver = as7331.AS7331(bus)
    running(driver, bus, 0, 30)
    codes, now = gains(chip, driver, bus, 30, 12)
    assert [code for code, _ in codes] == [10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0]
    near(codes[11][1], 100 * 3.4 / 2048 / 64, 1e-12)
    chip.words = (0x4000, 1838, 0xFFFF, 200, 50)
    codes, now = gains(chip, driver, bus, now, 3)
    assert codes == [(0, "saturated"), (11, "saturated"), (11, "saturated")]
    chip.words = (0, 1838, 60_000, 200, 50)
    assert gains(chip, driver, bus, now, 2)[0][1][0] == 11  # nothing lower
    assert driver.trim() == b"\xa6\x40\x40"


def check_as7331_near_full_scale_is_halved_by_its_brightest_channel():
    chip = As7331()
    chip.words = (0, 1838, 100, 53_000, 50)
    bus = Bus(chip)
    driver = as7331.AS7331(bus)
    running(driver, bus, 0, 30)
    codes, now = gains(chip, driver, bus, 30, 1)
    chip.words = (0, 1838, 100, 26_500, 50)
    codes, now = gains(chip, driver, bus, now, 3)
    assert [code for code, _ in codes] == [11, 11, 11] and chip.traffic == 0


def check_as7331_powered_down_or_never_started_has_no_new_data():
    chip = As7331()
    bus = Bus(chip)
    driver = as7331.AS7331(bus)
    running(driver, bus)
    write = chip.written

    def astray(register, value):
        write(register, value & 0x7F if register == 0 and value == 0x83 else value)  # start is lost

    chip.written = astray
    assert failing(driver, bus, 400, 2000)[0] == TIME_OUT


# --- VEML7700


def check_veml7700_delivers_one_integration_a_second():
    chip = Veml7700()
    bus = Bus(chip)
    driver = veml7700.VEML7700(bus)
    samples = running(driver, bus, (1 << 30) - 3000, 10_000)
    assert driver.trim() == b"\x00\x10" and len(samples) == chip.integrations == 10
    near(veml7700.decode(driver.trim(), samples[4])["illuminance"], veml7700.corrected(20_000 * 0.5376), 1e-9)
    assert chip.registers[0] == 0x1001  # asleep in between


def check_veml7700_follows_the_light_down_and_up():
    chip = Veml7700()
    bus = Bus(chip)
    driver = veml7700.VEML7700(bus)
    chip.counts = 100
    samples = running(driver, bus, 0, 7000)
    assert [raw[2] | raw[3] << 8 for raw in samples] == [0x1000, 0x1800, 0x0000, 0x0800, 0x0840, 0x0880, 0x0880]
    chip.counts = 0xFFFF
    samples = turn(driver, bus, 7000, 2000)
    assert veml7700.decode(b"", samples[0]) == {"illuminance": "saturated"} and samples[1][3] == 0x10
    chip.counts = 100
    turn(driver, bus, 9000, 2000)
    chip.counts = 60_000
    assert [raw[2] | raw[3] << 8 for raw in turn(driver, bus, 11_000, 3000)] == [0x0000, 0x1800, 0x1000]


def check_veml7700_brown_out_and_another_chip():
    chip = Veml7700()
    bus = Bus(chip)
    driver = veml7700.VEML7700(bus)
    running(driver, bus, 0, 1050)  # an integration under way
    chip.reset()
    assert failing(driver, bus, 1050, 1000)[0] == POWER_ON_VALUES
    running(driver, bus, 0, 400)
    chip.registers[1] = 0  # the mark alone
    assert failing(driver, bus, 400, 2000)[0] == POWER_ON_VALUES
    chip.write = lambda byte: chip._bytes.append(0x05)  # whatever is asked for: the white channel
    driver.start(0)
    assert raises(BusError, driver.poll, 0).code == WRONG_IDENTITY


# --- allocation


def check_every_poll_and_read_of_a_steady_second_allocates_nothing():
    options = (
        (Bmp390(NVM), lambda bus: bmp390.BMP390(bus, 0x77, True)),
        (Sht45(SERIAL, WET), lambda bus: sht45.SHT45(bus, 0x44, True)),
    )
    for chip, kind in pairs() + options:
        bus = Bus(chip)
        driver = kind(bus)
        before_it_heats = 300_000 if chip.address == 0x44 else 2900
        running(driver, bus, 0, before_it_heats)
        samples = locked(driver, bus, before_it_heats, 120)
        assert samples or chip.pulses == 1  # the last one is heated instead


def check_a_change_of_gain_and_time_allocates_nothing():
    def uv(*words):
        return "words", (0, 1838) + words

    changes = (
        (As7331, as7331.AS7331, uv(100, 200, 50), uv(100, 60_000, 50), 10),  # up to now raised each second; now nearly full
        (As7331, as7331.AS7331, uv(100, 200, 50), ("words", (0x4000, 1838, 0xFFFF, 200, 50)), 10),  # saturated
        (As7331, as7331.AS7331, uv(10_000, 200, 50), uv(100, 200, 50), 10),
        (Veml7700, veml7700.VEML7700, ("counts", 20_000), ("counts", 100), 2),
        (Veml7700, veml7700.VEML7700, ("counts", 100), ("counts", 60_000), 2),
        (Veml7700, veml7700.VEML7700, ("counts", 100), ("counts", 0xFFFF), 2),
    )
    for chip_kind, kind, first, then, place in changes:
        chip = chip_kind()
        setattr(chip, first[0], first[1])
        bus = Bus(chip)
        driver = kind(bus)
        running(driver, bus, 0, 2900)
        setattr(chip, then[0], then[1])
        samples = locked(driver, bus, 2900, 220)
        assert len(samples) >= 2 and len({sample[place:] for sample in samples}) >= 2, (driver.SENSOR, then)


def locked(driver, bus, now, polls):
    """Polls and reads every 10 ms with the heap locked; the samples.

    The mock chips allocate: what they would say is recorded in a dry run on a twin, and answered without a heap."""
    buf = bytearray(64)
    samples = []
    for _ in range(polls):
        bus.advance(now)
        tape = Tape(bus)
        driver._i2c = tape
        before = snapshot(driver)
        count = driver.poll(now)
        restore(driver, before)
        tape.rewind()
        assert without_heap(lambda d=driver, t=now: d.poll(t)) == count
        if count:
            assert without_heap(lambda d=driver: d.read_into(buf, 19)) == driver.RAW_SIZE
            samples.append(bytes(buf[19 : 19 + driver.RAW_SIZE]))
        driver._i2c = bus
        now += 10
    return samples


class Tape:
    """Passes transactions to a bus and records the replies; rewound, it gives them again without allocating."""

    def __init__(self, bus):
        self.bus = bus
        self.replies = []
        self.at = -1

    def rewind(self):
        self.at = 0

    def readfrom_mem_into(self, address, register, buf):
        if self.at < 0:
            self.bus.readfrom_mem_into(address, register, buf)
            self.replies.append(bytes(buf))
        else:
            reply = self.replies[self.at]
            self.at += 1
            for index in range(len(buf)):
                buf[index] = reply[index]

    def readfrom_into(self, address, buf):
        if self.at < 0:
            self.bus.readfrom_into(address, buf)
            self.replies.append(bytes(buf))
        else:
            self.readfrom_mem_into(address, 0, buf)

    def writeto_mem(self, address, register, buf):
        if self.at < 0:
            self.bus.writeto_mem(address, register, buf)

    def writeto(self, address, buf):
        if self.at < 0:
            self.bus.writeto(address, buf)


def snapshot(driver):
    """The integers of a driver's state, and copies of its buffers."""
    return {name: bytes(value) if isinstance(value, bytearray) else value for name, value in driver.__dict__.items() if name != "_i2c"}


def restore(driver, before):
    for name, value in before.items():
        now = getattr(driver, name)
        if isinstance(now, bytearray):
            now[:] = value
        else:
            setattr(driver, name, value)


def check_read_into_of_every_slow_chip_sends_nothing():
    for chip, kind in pairs():
        bus = Bus(chip)
        driver = kind(bus)
        running(driver, bus, 0, 2900)
        ready_at(driver, bus, 2900)
        sent = bus.transactions
        driver._i2c = Canned()
        buf = bytearray(64)
        assert driver.read_into(buf, 5) == driver.RAW_SIZE and bytes(buf[:5]) == bytes(5)
        assert bytes(buf[5 + driver.RAW_SIZE :]) == bytes(59 - driver.RAW_SIZE) and bus.transactions == sent


if __name__ == "__main__":
    checking.run({name: value for name, value in globals().items() if name.startswith("check_")})
