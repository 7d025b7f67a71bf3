"""Vectors of the slow I2C chips beyond vectors_on_both.py: VEML7700, the AS7331's gain that goes with each sample; and the edges of each
`decode`: what a stuck bus, a chip that has measured nothing, or a trim that is none would make of it."""

import struct

import checking
from checking import near, raises

from drivers import as7331, bmp390, opt3001, sht45, veml7700
from drivers.crc8 import crc8


def veml(counts, conf):
    return veml7700.decode(b"\x00\x10", struct.pack("<HH", counts, conf))["illuminance"]


def check_veml7700_resolution_is_the_one_of_the_data_sheet_of_2023():
    near(veml7700.lux_per_count(0x08C0), 0.0042, 1e-9)  # 2x, 800 ms; older sources say 0.0036
    near(veml7700.lux_per_count(0x0000), 0.0672, 1e-7)  # 1x, 100 ms: Vishay's application note 84323, rev. 2025
    for conf, step in ((0x1300, 2.1504), (0x1B00, 1.0752), (0x1200, 1.0752), (0x1000, 0.5376), (0x1800, 0.2688), (0x0880, 0.0084)):
        near(veml7700.lux_per_count(conf), step, 1e-6)


def check_veml7700_below_1000_lx_is_linear_and_above_by_the_polynomial():
    near(veml(1000, 0x1000), 537.6, 1e-3)
    near(veml(1860, 0x1000), 999.936, 1e-3)
    near(veml7700.corrected(1500.0), 1658.0, 0.5)  # facts 1.6
    near(veml7700.corrected(1000.001), 1075.0, 0.1)  # it does not join on: the source has no better
    assert veml(1861, 0x1000) > 1074.0


def check_veml7700_correction_rises_for_every_count():
    last = -1.0
    for counts in range(0, 0xFF00, 64):
        lux = veml7700.corrected(counts * 2.1504)
        assert lux > last
        last = lux


def check_veml7700_reasons():
    assert veml(0xFFFF, 0x0000) == veml(0xFF00, 0x1000) == "saturated"
    assert veml(48_000, 0x1000) == "saturated"  # 25 805 lx as seen are 189 klx: beyond what the chip can tell
    near(veml(44_500, 0x1000), 139_000.0, 500.0)
    assert veml(100, 0x0100) == "implausible"  # no such time
    raises(ValueError, veml7700.decode, b"", bytes(3))


def uv(counts, creg1, osr=0x0803):
    return as7331.decode(b"\xa6\x40\x40", struct.pack("<5HB", osr, 1838, counts, 1, 1, creg1))


def check_as7331_decodes_with_the_gain_of_the_sample():
    near(uv(1000, 0xA6)["uva"], 1000 * 3.4 / 2 / 64, 1e-9)
    near(uv(1000, 0x06)["uva"], 1000 * 3.4 / 2048 / 64, 1e-12)
    near(uv(65534, 0xB6)["uva"], 65534 * 3.4 / 64, 1e-6)
    near(uv(385, 0x06)["uva"] * 100, 1.0, 0.0014)  # Adafruit: 1 µW/cm² at 2048x
    assert uv(1000, 0xC6)["uva"] == uv(1000, 0x0F)["uva"] == "implausible"  # no such gain, no such time
    assert uv(1025, 0xB0)["uva"] == "implausible" and uv(1024, 0xB0)["uva"] > 3000  # 1 ms counts to 1024
    assert uv(1000, 0xA6, 0x4803)["uva"] == "saturated" and uv(0xFFFF, 0xA6)["uva"] == "saturated"


# --- edges

NVM = bytes.fromhex("a86bd749f9a2feb0f62300a061d67503f6064018c4")
OTHER_NVM = bytes.fromhex("ff6d3649f6b3fb34f41401d962ee74fcfa82370bd9")
NO_PRESSURE = {"pressure": "implausible", "temperature_barometer": "implausible"}


def counts24(pressure, temperature):
    return struct.pack("<I", pressure)[:3] + struct.pack("<I", temperature)[:3]


def check_all_zeros_and_all_ones_are_never_a_number():
    for module, trim in ((bmp390, NVM), (bmp390, OTHER_NVM), (sht45, bytes(4)), (opt3001, b"\x30\x01"), (as7331, b"\xa6\x40\x40")):
        for byte in (b"\x00", b"\xff"):
            values = module.decode(trim, byte * module.RAW_SIZE)
            assert all([isinstance(value, str) for value in values.values()]), (module.SENSOR, byte, values)
    assert veml7700.decode(b"", b"\xff" * 4)["illuminance"] == "implausible"
    assert veml7700.decode(b"", bytes(4))["illuminance"] == 0.0  # darkness at 1x and 100 ms: the driver's mark tells a bus stuck low


def check_bmp390_whose_data_registers_stand_as_after_a_power_on_has_measured_nothing():
    for nvm in (NVM, OTHER_NVM):
        assert set(bmp390.decode(nvm, counts24(0x800000, 0x800000)).values()) == {"not ready"}
        for one in (counts24(0x800000, 0x7FFFFF), counts24(0x7FFFFF, 0x800000)):  # one of them is a reading like any other
            assert not [value for value in bmp390.decode(nvm, one).values() if isinstance(value, str)]


def check_bmp390_trim_of_equal_bytes_is_none():
    for byte in (b"\x00", b"\xff", b"\x80", b"\x7f"):
        for pressure in (0, 0x600000, 0x800000, 0xFFFFFF):
            for temperature in (0, 0x7FFFFF, 0x800001, 0xFFFFFF):
                assert bmp390.decode(byte * 21, counts24(pressure, temperature)) == NO_PRESSURE


def last_good(good, bad, kind):
    """The last whole number on the way from `good` to `bad` for which `kind` holds, and the next one."""
    while abs(bad - good) > 1:
        middle = (good + bad) // 2
        if kind(middle):
            good = middle
        else:
            bad = middle
    return good, bad


def check_bmp390_ends_exactly_at_its_operating_range():
    for nvm in (NVM, OTHER_NVM):
        for end, limit in ((0x200000, 233.15), (0xF00000, 358.15)):
            good, bad = last_good(
                8_000_000, end, lambda t, nvm=nvm: isinstance(bmp390.decode(nvm, counts24(7_000_000, t))["temperature_barometer"], float)
            )
            near(bmp390.decode(nvm, counts24(7_000_000, good))["temperature_barometer"], limit, 1e-4)
            assert bmp390.decode(nvm, counts24(7_000_000, bad)) == NO_PRESSURE  # nor a pressure compensated with such a temperature
        for end, limit in ((0xFFFFFF, 30_000.0), (0, 125_000.0)):
            good, bad = last_good(
                7_400_000, end, lambda p, nvm=nvm: isinstance(bmp390.decode(nvm, counts24(p, 8_300_000))["pressure"], float)
            )
            near(bmp390.decode(nvm, counts24(good, 8_300_000))["pressure"], limit, 0.05)
            values = bmp390.decode(nvm, counts24(bad, 8_300_000))
            assert values["pressure"] == "implausible" and isinstance(values["temperature_barometer"], float)


def words(temperature, humidity):
    t, h = struct.pack(">H", temperature), struct.pack(">H", humidity)
    return sht45.decode(bytes(4), t + bytes((crc8(t),)) + h + bytes((crc8(h),)))


def check_sht45_ends_exactly_at_its_range_and_crops_the_humidity_only():
    near(words(0x0751, 0x8001)["temperature"], 233.15, 2e-3)  # 1873: the first at or above -40 °C
    assert words(0x0750, 0x8001) == {"temperature": "implausible", "humidity": "implausible"}
    near(words(0xF8AE, 0x8001)["temperature"], 398.15, 2e-3)
    assert words(0xF8AF, 0x8001) == {"temperature": "implausible", "humidity": "implausible"}
    for humidity, percent in ((0, 0.0), (3145, 0.0), (0xD916, 100.0), (0xFFFF, 100.0)):
        assert words(0x6667, humidity)["humidity"] == percent
    near(words(0x6667, 3146)["humidity"], 0.0, 1e-3)
    assert words(0x6667, 3146)["humidity"] > 0.0 and 99.9 < words(0x6667, 0xD915)["humidity"] < 100.0


def check_opt3001_ends_at_its_highest_range():
    near(opt3001.decode(b"", bytes.fromhex("BFFFC891"))["illuminance"], 83865.60, 1e-6)  # full scale without overflow is a reading
    assert opt3001.decode(b"", bytes.fromhex("BFFFC991"))["illuminance"] == "saturated"
    for result in ("C000", "C001", "FFFF"):
        assert opt3001.decode(b"", bytes.fromhex(result + "C891"))["illuminance"] == "implausible"
    for setting in ("0091", "B891", "D891"):  # nobody asked for a fixed range
        assert opt3001.decode(b"", bytes.fromhex("789A" + setting))["illuminance"] == "implausible"


def check_as7331_that_has_no_new_data_or_is_too_hot_says_so():
    assert set(as7331.decode(b"\xa6\x40\x40", struct.pack("<5HB", 0x0003, 1838, 1, 1, 1, 0xA6)).values()) == {"not ready"}
    assert set(as7331.decode(b"\xa6\x40\x40", struct.pack("<5HB", 0x0C03, 1838, 1, 1, 1, 0xA6)).values()) == {"not ready"}
    for temperature, kelvin in ((538, 233.15), (3038, 358.15)):
        near(hot(temperature), kelvin, 1e-9)
    for temperature in (0, 537, 3039, 0x0FFF, 0x1000 | 1838, 0xFFFF):  # -40 to 85 °C; the word has 12 bits
        assert hot(temperature) == "implausible"


def hot(temperature):
    values = as7331.decode(b"\xa6\x40\x40", struct.pack("<5HB", 0x0803, temperature, 1000, 1, 1, 0xA6))
    near(values["uva"], 1000 * 3.4 / 2 / 64, 1e-9)
    return values["temperature_uv"]


def check_as7331_near_full_scale():
    near(uv(0xFFFE, 0xB6)["uva"], 65534 * 3.4 / 64, 1e-6)
    near(uv(0xFFFE, 0x06)["uva"], 65534 * 3.4 / 2048 / 64, 1e-9)
    for overflow in (0x4803, 0x2803, 0x6803):
        for counts in (0, 0xFFFE, 0xFFFF):
            assert uv(counts, 0xB6, overflow)["uva"] == "saturated"
    only = as7331.decode(b"\xa6\x40\x40", struct.pack("<5HB", 0x0803, 1838, 0xFFFF, 7, 0, 0xB6))
    assert only["uva"] == "saturated" and only["uvc"] == 0.0
    near(only["uvb"], 7 * 3.78 / 64, 1e-9)


def check_veml7700_near_its_ends():
    near(veml(0xFEFF, 0x0880), 0xFEFF * 0.0084, 1e-6)  # where the polynomial plays no part
    assert veml(0xFF00, 0x0880) == "saturated"
    good, bad = last_good(40_000, 50_000, lambda counts: isinstance(veml(counts, 0x1000), float))
    assert 139_980.0 < veml(good, 0x1000) <= 140_000.0 and veml(bad, 0x1000) == "saturated"
    for conf in (0x1001, 0x9000, 0x1402, 0x1010):  # shut down, or bits that no setting has
        assert veml(100, conf) == "implausible"


def check_every_quantity_and_address_is_named():
    for module, addresses in (
        (bmp390, {0x76, 0x77}),
        (sht45, {0x44, 0x45, 0x46}),
        (opt3001, {0x44, 0x45, 0x46, 0x47}),
        (as7331, {0x74, 0x75, 0x76, 0x77}),
        (veml7700, {0x10}),
    ):
        assert set(module.ADDRESSES) == addresses and len(module.QUANTITIES) == len(set(module.QUANTITIES)) > 0


def check_as7331_temperature_at_its_limits_is_not_beyond_them():
    """Found by the fuzzer (seed 3000000 on): 233.14999999999998 K was below the table's 233.15."""
    for word, kelvin in ((538, 233.15), (3038, 358.15)):
        raw = struct.pack("<5HB", 0x0883, word, 1000, 1000, 1000, 0xA6)
        assert as7331.decode(b"\xa6\x40\x40", raw)["temperature_uv"] == kelvin, word
    for word in (537, 3039):
        raw = struct.pack("<5HB", 0x0883, word, 1000, 1000, 1000, 0xA6)
        assert as7331.decode(b"\xa6\x40\x40", raw)["temperature_uv"] == "implausible", word


if __name__ == "__main__":
    checking.run(globals())
