"""Vectors of the slow I2C chips beyond vectors_on_both.py: VEML7700, and the AS7331's gain that goes with each sample."""

import struct

import checking
from checking import near, raises

from drivers import as7331, bmp390, opt3001, sht45, veml7700


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


def check_every_quantity_and_address_is_named():
    for module, addresses in (
        (bmp390, {0x76, 0x77}),
        (sht45, {0x44, 0x45, 0x46}),
        (opt3001, {0x44, 0x45, 0x46, 0x47}),
        (as7331, {0x74, 0x75, 0x76, 0x77}),
        (veml7700, {0x10}),
    ):
        assert set(module.ADDRESSES) == addresses and len(module.QUANTITIES) == len(set(module.QUANTITIES)) > 0


if __name__ == "__main__":
    checking.run(globals())
