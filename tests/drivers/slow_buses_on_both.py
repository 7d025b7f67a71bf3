"""The slow I2C chips: what their drivers do about light, wetness, flipped bits and brown-outs."""

import checking
from buses_on_both import NVM
from checking import near, raises
from mock_buses import As7331, Bmp390, Bus, Opt3001, Sht45, Veml7700
from turns import failing, running, turn

from drivers import as7331, bmp390, opt3001, sht45, veml7700
from drivers.crc8 import crc8
from drivers.errors import BAD_CHECKSUM, DEVICE_FAULT, HEATER_ON, POWER_ON_VALUES, TIME_OUT, WRONG_IDENTITY, BusError

SERIAL = bytes.fromhex("BEEF92000081")
GOOD = bytes.fromhex("6667a28000a2")


class FlippingBus(Bus):
    """Flips one bit of what the next read of `register` but `before` brings, once: `mask` of its byte `place`."""

    register = None
    place = 0
    mask = 0x08
    before = 0

    def readfrom_mem_into(self, address, register, buf):
        super().readfrom_mem_into(address, register, buf)
        if register == self.register:
            self.before -= 1
        if register == self.register and self.before < 0:
            self.register = None
            buf[self.place] ^= self.mask


def steady_light():
    chip = As7331()
    chip.words = (0, 1838, 10_000, 200, 50)  # within 5 and 80 %: the gain stays
    return chip


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


def despite_errors(driver, bus, now, until):
    """The samples until that tick; a BusError is no reason to stop."""
    samples = []
    buf = bytearray(16)
    while now < until:
        bus.advance(now)
        try:
            if driver.poll(now):
                samples.append(bytes(buf[: driver.read_into(buf)]))
        except BusError:
            pass
        now += 10
    return samples


def check_an_overflow_flag_that_is_lost_in_one_reply_makes_no_number():
    light = Opt3001()
    light.result, light.overflow = 0xBFFF, True
    uv = As7331()
    uv.words = (0x2000, 1838, 10_000, 200, 50)  # ADCOF alone: the counters look well
    for chip, kind, decode, register, place, mask in (
        (light, opt3001.OPT3001, opt3001.decode, 1, 0, 0x01),
        (uv, as7331.AS7331, as7331.decode, 0, 1, 0x20),
    ):
        for reply in range(6):
            bus = FlippingBus(chip)
            driver = kind(bus)
            running(driver, bus, 0, 950)
            bus.register, bus.place, bus.mask, bus.before = register, place, mask, reply
            samples = despite_errors(driver, bus, 950, 5000)
            assert bus.register is None and len(samples) >= 3
            for raw in samples:
                values = decode(driver.trim(), raw)
                values.pop("temperature_uv", None)
                assert set(values.values()) == {"saturated"}, (driver.SENSOR, reply, values)


def check_a_trim_that_reads_differently_twice_is_not_taken():
    bus = FlippingBus(Bmp390(NVM))
    bus.register = 0x31
    bus.epoch = 0
    driver = bmp390.BMP390(bus)
    driver.start(0)
    assert failing(driver, bus, 0, 100)[0] == BAD_CHECKSUM
    assert not driver.configured and driver.trim() == b""
    assert running(driver, bus) and driver.trim() == NVM
    for byte in (b"\x00", b"\xff"):  # nor one that a stuck bus made, twice the same
        bus = Bus(Bmp390(byte * 21))
        bus.epoch = 0
        driver = bmp390.BMP390(bus)
        driver.start(0)
        assert failing(driver, bus, 0, 100)[0] == BAD_CHECKSUM


def check_a_setting_that_did_not_arrive_is_noticed_before_its_values_are_believed():
    chip = Bmp390(NVM)
    bus = Bus(chip)
    driver = bmp390.BMP390(bus)
    running(driver, bus)
    for register, wrong in ((0x1F, 0x02), (0x1A, 0x00), (0x1C, 0x02), (0x1D, 0x01)):  # a filter nobody asked for; no I2C watchdog …
        right, chip.registers[register] = chip.registers[register], wrong
        assert failing(driver, bus, 400, 2000)[0] == POWER_ON_VALUES
        chip.registers[register] = right
        running(driver, bus)
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


def check_bmp390_with_one_of_two_flags_has_not_ended():
    for flag in (0x20, 0x40):
        chip = Bmp390(NVM)
        bus = Bus(chip)
        driver = bmp390.BMP390(bus)
        running(driver, bus)
        chip.reading = lambda register, chip=chip, flag=flag: Bmp390.reading(chip, register) & (flag if register == 0x03 else 0xFF)
        assert failing(driver, bus, 400, 3000)[0] == TIME_OUT


def check_bmp390_in_normal_mode_delivers_each_conversion_once():
    chip = Bmp390(NVM)
    bus = Bus(chip)
    driver = bmp390.BMP390(bus, 0x77, True)
    assert driver.PERIOD_MS == 640
    samples = running(driver, bus, 0, 10_000)
    assert [chip.registers[register] for register in range(0x1A, 0x20)] == [6, 0x33, 3, 7, 0, 0]
    assert len(samples) == chip.conversions == 16
    assert bus.transactions < 30 * len(samples)  # it does not ask all the time
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


def check_sht45_each_word_has_its_checksum():
    for broken in ("6667a38000a2", "6667a28000a3"):
        chip = Sht45(SERIAL, GOOD)
        bus = Bus(chip)
        driver = sht45.SHT45(bus)
        running(driver, bus, 0, 900)
        chip.reply = bytes.fromhex(broken)
        assert failing(driver, bus, 900, 1000)[0] == BAD_CHECKSUM


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


def measuring_uv(*words):
    """(chip, driver, bus) 30 ms after the start, with these counts of UV-A, UV-B and UV-C."""
    chip = As7331()
    chip.words = (0, 1838) + words
    bus = Bus(chip)
    driver = as7331.AS7331(bus)
    running(driver, bus, 0, 30)
    return chip, driver, bus


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
    chip, driver, bus = measuring_uv(100, 200, 50)
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
    chip, driver, bus = measuring_uv(100, 53_000, 50)
    codes, now = gains(chip, driver, bus, 30, 1)
    chip.words = (0, 1838, 100, 26_500, 50)
    codes, now = gains(chip, driver, bus, now, 3)
    assert [code for code, _ in codes] == [11, 11, 11] and chip.traffic == 0
    for words in ((50, 100, 53_000), (53_000, 100, 50), (0xFFFF, 100, 50), (100, 50, 0xFFFF)):  # a full counter sets 1x at once
        chip, driver, bus = measuring_uv(10, 10, 10)
        _, now = gains(chip, driver, bus, 30, 3)
        chip.words = (0, 1838) + words
        codes, now = gains(chip, driver, bus, now, 2)
        assert [code for code, _ in codes] == [7, 11 if 0xFFFF in words else 8], words


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
    for wrong in (0x40, 0x80):  # powered down, or start still set, whatever the status says
        chip = As7331()
        bus = Bus(chip)
        driver = as7331.AS7331(bus)
        running(driver, bus)
        chip._words = lambda chip=chip, wrong=wrong: (As7331._words(chip)[0] | wrong,) + As7331._words(chip)[1:]
        assert failing(driver, bus, 400, 2000)[0] == TIME_OUT


def check_as7331_wants_quiet_only_while_it_converts():
    chip = As7331()
    bus = Bus(chip)
    driver = as7331.AS7331(bus)
    running(driver, bus, 0, 990)
    quiet = []
    for now in range(990, 2990, 10):
        bus.advance(now)
        if driver.poll(now):
            driver.read_into(bytearray(11))
        assert driver.quiet or chip.done_at is None
        quiet.append(driver.quiet)
    assert sum(quiet) == 2 * 9  # 88 ms, looked at each 10 ms
    while not driver.quiet:
        now += 10
        bus.advance(now)
        driver.poll(now)
    driver.start(now)
    assert not driver.quiet


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
    running(driver, bus, 0, 400)
    write = bus.writeto_mem
    bus.writeto_mem = lambda address, register, buf: None if register == 0 and buf[0] & 1 else write(address, register, buf)
    assert failing(driver, bus, 400, 3000)[0] == POWER_ON_VALUES  # it cannot be shut down: an integration would mix two settings
    bus.writeto_mem = lambda address, register, buf: None if register == 3 else write(address, register, buf)
    chip.registers[3] = 1  # power saving cannot be switched off: integrations with pauses
    driver.start(0)
    assert raises(BusError, driver.poll, 0).code == POWER_ON_VALUES
    bus.writeto_mem = write
    chip.write = lambda byte: chip._bytes.append(0x05)  # whatever is asked for: the white channel
    driver.start(0)
    assert raises(BusError, driver.poll, 0).code == WRONG_IDENTITY


if __name__ == "__main__":
    checking.run({name: value for name, value in globals().items() if name.startswith("check_")})
