"""Every numeric vector of the six chips (project facts, sensors-and-head.md 1.1 to 1.10, which names their sources), on both interpreters.

Bosch's rows were made by running its C code in both modes; those of the particle sensors are in particle_vectors_on_both.py."""

import math
import struct

import checking
from checking import near

from drivers import as7331, bmp390, icm20948, opt3001, sht45, sps30
from drivers.crc8 import crc8

H = bytes.fromhex


def check_sht4x_replies():
    for reply, celsius, percent, millicelsius, millipercent in (
        ("6667A28000A2", 25.00267, 56.50095, 25001, 56500),
        ("BEEF92BEEF92", 85.5230, 87.2307, None, None),
        ("6400575EB80D", 23.36042, 40.2501, None, None),
        ("000081000081", -45.0, -6.0, -45000, -6000),
        ("FFFFACFFFFAC", 130.0, 119.0, 129997, 118998),
    ):
        raw = H(reply)
        t, rh = sht45.convert(raw[0] << 8 | raw[1], raw[3] << 8 | raw[4])
        near(t, celsius, 1e-4)
        near(rh, percent, 1e-4)
        if millicelsius is not None:  # the vendor's integer form divides by 65536: up to 3 mK and 2 m% low
            assert 0 <= t * 1000 - millicelsius <= 3.01 and 0 <= rh * 1000 - millipercent <= 2.01
        values = sht45.decode(b"", raw)
        if -40 <= celsius <= 125:
            near(values["temperature"], celsius + 273.15, 1e-4)
            near(values["humidity"], percent, 1e-4)
        else:  # outside the chip's range: no measurement
            assert values == {"temperature": "implausible", "humidity": "implausible"}


def check_sht4x_humidity_is_cropped_and_stuck_buses_are_rejected():
    fog = H("6400") + bytes((crc8(H("6400")),)) + H("FFFFAC")
    assert sht45.decode(b"", fog)["humidity"] == 100.0
    dry = H("6400") + bytes((crc8(H("6400")),)) + H("000081")
    assert sht45.decode(b"", dry)["humidity"] == 0.0
    for stuck in ("FFFFFFFFFFFF", "000000000000", "6667A38000A2", "6667A28000A3"):
        assert sht45.decode(b"", H(stuck)) == {"temperature": "bad checksum", "humidity": "bad checksum"}


def check_opt3001_results():
    for result, lux in (
        (0x0001, 0.01),
        (0x0FFF, 40.95),
        (0x3456, 88.80),
        (0x789A, 2818.56),
        (0x8800, 5242.88),
        (0x9400, 5242.88),
        (0xA200, 5242.88),
        (0xB100, 5242.88),
        (0xB001, 20.48),
        (0xBFFF, 83865.60),
    ):
        near(opt3001.illuminance(result), lux, 1e-6)
        near(opt3001.decode(b"", bytes((result >> 8, result & 0xFF, 0xC8, 0x91)))["illuminance"], lux, 1e-6)
    assert opt3001.decode(b"", H("BFFFC991")) == {"illuminance": "saturated"}
    assert opt3001.decode(b"", H("C000C891")) == {"illuminance": "implausible"}


def _as7331(counts, gain_code, time_code, status=0x0803, temperature=1838):
    raw = struct.pack("<5HB", status, temperature, counts, counts, counts, gain_code << 4 | time_code)
    return as7331.decode(b"\xa6\x40\x40", raw)


def check_as7331_irradiance():
    # counts, gain code (2048x = 0, 4x = 9, 2x = 10, 1x = 11), µW/cm² by Adafruit: 340.447 a step at 1x and 1 ms, the data sheet has 340
    for counts, gain, adafruit in ((385, 0, 1.0), (1000, 9, 1329.870), (20000, 10, 53194.805), (65535, 11, 348612.16)):
        near(counts * as7331.irradiance_per_count(348_160.0, gain << 4 | 6) * 100 * 340.446753 / 340.0, adafruit, 0.01)
        if counts < 65535:  # which decodes to "saturated"
            near(_as7331(counts, gain, 6)["uva"] * 100 / adafruit, 340.0 / 340.446753, 1e-6)
    # Linux as73211.c: 340000 nW/cm² per count at 1 ms and 1x; SparkFun, data sheet equation 3: the same
    near(as7331.irradiance_per_count(348_160.0, 0xB6) * 65535 * 100, 348154.69, 0.01)
    near(as7331.irradiance_per_count(348_160.0, 0xB0) * 100, 340.0, 1e-9)
    near(as7331.irradiance_per_count(387_072.0, 0xB0) * 100, 378.0, 1e-9)
    near(as7331.irradiance_per_count(169_984.0, 0xB0) * 100, 166.0, 1e-9)
    values = _as7331(1000, 10, 6)
    near(values["uvb"] / values["uva"], 378 / 340, 1e-9)
    near(values["uvc"] / values["uva"], 166 / 340, 1e-9)


def check_as7331_temperature_and_reasons():
    near(_as7331(0, 10, 6, temperature=0x922)["temperature_uv"], 50.0 + 273.15, 1e-9)
    near(_as7331(0, 10, 6, temperature=1838)["temperature_uv"], 25.0 + 273.15, 1e-9)
    for status in (0x4803, 0x2803):  # MRESOF, ADCOF
        values = _as7331(1000, 10, 6, status)
        assert values["uva"] == values["uvb"] == values["uvc"] == "saturated"
        near(values["temperature_uv"], 298.15, 1e-9)
    assert _as7331(65535, 11, 6)["uva"] == "saturated"
    assert set(_as7331(1, 10, 6, 0x0403).values()) == {"not ready"}


BMP390 = (
    (
        "a86bd749f9a2feb0f62300a061d67503f6064018c4",
        (
            (6815744, 8388608, 23.427346, 98941.2560, 2342, 9894125),
            (7400000, 8520000, 25.731332, 90005.0756, 2573, 9000507),
            (8388608, 7900000, 14.851968, 71952.3185, 1485, 7195231),
        ),
    ),
    (
        "ff6d3649f6b3fb34f41401d962ee74fcfa82370bd9",
        (
            (6815744, 8388608, 20.545585, 95389.3078, 2054, 9538930),
            (7400000, 8520000, 22.827383, 86009.7711, 2282, 8600976),
            (8388608, 7900000, 12.049488, 67507.3428, 1204, 6750734),
        ),
    ),
)


def check_bmp390_rows_of_boschs_code():
    for nvm, rows in BMP390:
        for pressure, temperature, celsius, pascal, centicelsius, centipascal in rows:
            t, p = bmp390.compensate(H(nvm), pressure, temperature)
            near(t, celsius, 1e-5)
            near(p, pascal, 0.02)
            assert 0 <= t * 100 - centicelsius < 1.001  # the integer form truncates
            near(p * 100, centipascal, 1.4)
            raw = struct.pack("<I", pressure)[:3] + struct.pack("<I", temperature)[:3]
            values = bmp390.decode(H(nvm), raw)
            near(values["pressure"], pascal, 0.02)
            near(values["temperature_barometer"], celsius + 273.15, 1e-5)


def check_bmp390_swapped_trim_bytes_are_implausible():
    # A real unit (Bosch forum): T1 B6 6B, T2 FD 48, T3 F6; read with bytes swapped it gives about -200 °C.
    rest = BMP390[0][0][10:]
    celsius = bmp390.compensate(H("b66bfd48f6" + rest), 6815744, 8388608)[0]
    assert 15 < celsius < 35
    raw = struct.pack("<I", 6815744)[:3] + struct.pack("<I", 8388608)[:3]
    swapped = H("6bb648fdf6" + rest)
    assert -260 < bmp390.compensate(swapped, 6815744, 8388608)[0] < -150
    assert bmp390.decode(swapped, raw) == {"pressure": "implausible", "temperature_barometer": "implausible"}


def _trim(accel_code=2, gyro_code=1):
    return bytes((0x19 | accel_code << 1, 0x19 | gyro_code << 1, 0, 10, 10))


def _icm(accel=(0, 0, 0), gyro=(0, 0, 0), die=0, mag=(0, 0, 0), st1=1, st2=0x10, accel_code=2, gyro_code=1):
    raw = struct.pack(">7h", *(tuple(accel) + tuple(gyro) + (die,))) + bytes((st1,)) + struct.pack("<3h", *mag) + bytes((0, st2))
    return icm20948.decode(_trim(accel_code, gyro_code), raw)


def check_icm20948_acceleration_in_every_range():
    near(_icm((16384, -16384, 0), accel_code=0)["acceleration_x"], 9.80665, 1e-9)
    near(_icm((16384, -16384, 0), accel_code=0)["acceleration_y"], -9.80665, 1e-9)
    for code, full_scale in enumerate((2, 4, 8, 16)):
        values = _icm((32768 // full_scale, -32768 // full_scale, 32766), accel_code=code)
        near(values["acceleration_x"], 9.80665, 1e-9)
        near(values["acceleration_y"], -9.80665, 1e-9)
        near(values["acceleration_z"], full_scale * 9.80665 * 32766 / 32768, 1e-9)
        assert _icm((32767, -32767, -32768), accel_code=code)["acceleration_x"] == "saturated"
        assert _icm((0, -32767, -32768), accel_code=code)["acceleration_y"] == "saturated"
        assert _icm((0, 0, -32768), accel_code=code)["acceleration_z"] == "saturated"
    values = _icm((111, 222, 333), accel_code=3)  # Pimoroni tests/test_read.py, two decimals
    for axis, g in (("x", 0.05), ("y", 0.11), ("z", 0.16)):
        near(values["acceleration_" + axis] / 9.80665, g, 0.005)


def check_icm20948_angular_rate_in_every_range():
    near(_icm(gyro=(655, 0, 0))["angular_rate_x"], 0.174533, 1e-6)
    near(_icm(gyro=(0, -3280, 0), gyro_code=2)["angular_rate_y"] * 180 / math.pi, -100.0, 1e-9)
    values = _icm(gyro=(444, 555, 666), gyro_code=0)  # Pimoroni, whole degrees
    for axis, degrees in (("x", 3), ("y", 4), ("z", 5)):
        assert int(values["angular_rate_" + axis] * 180 / math.pi) == degrees
    for code, steps, last in ((0, 131.0, 32749), (1, 65.5, 32749), (2, 32.8, 32766), (3, 16.4, 32766)):
        values = _icm(gyro=(last, -last, last + 1), gyro_code=code)
        near(values["angular_rate_x"], math.radians(last / steps), 1e-9)
        near(values["angular_rate_y"], -math.radians(last / steps), 1e-9)
        assert values["angular_rate_z"] == "saturated"
        assert _icm(gyro=(-32768, 0, 0), gyro_code=code)["angular_rate_x"] == "saturated"


def check_icm20948_temperature_of_the_die():
    for raw, celsius in ((0, 21.0), (3339, 31.0009), (-20366, -40.0), (21367, 85.0)):
        near(_icm(die=raw)["temperature_imu"] - 273.15, celsius, 3e-3 if abs(raw) > 9999 else 1e-4)
    # Not (raw - 21) / 333.87 + 21, which SparkFun and Pimoroni have and which is 0.063 K off.
    near(_icm(die=21)["temperature_imu"] - 273.15, 21.0629, 1e-4)
    for raw in (-20367, 21368, 32767, -32768):  # -40 to 85 °C, what the part is made for
        assert _icm(die=raw)["temperature_imu"] == "saturated"


def check_icm20948_magnetic_field_in_the_frame_of_the_accelerometer():
    near(_icm(mag=(100, 0, 0))["magnetic_field_x"], 15.0e-6, 1e-12)
    values = _icm(mag=(111, 222, 333))  # Pimoroni's numbers, with the mount matrix 1 -1 -1 it leaves out
    for axis, microtesla in (("x", 16.65), ("y", -33.3), ("z", -49.95)):
        near(values["magnetic_field_" + axis], microtesla * 1e-6, 1e-12)
    near(_icm(mag=(32752, 0, 0))["magnetic_field_x"], 4912.8e-6, 1e-9)


def check_icm20948_reasons_of_the_magnetometer():
    assert _icm(st1=0)["magnetic_field_x"] == "no new sample"
    assert _icm(st1=1, st2=0x18)["magnetic_field_z"] == "saturated"
    assert _icm(st1=0, st2=0x18)["magnetic_field_z"] == "no new sample"  # the overflow of an old one
    assert _icm(mag=(32753, 0, 0))["magnetic_field_x"] == "saturated"
    near(_icm(st1=3)["magnetic_field_x"], 0.0, 0)  # an overrun (DOR) lost an older sample, not this one


def check_icm20948_rate_is_1125_over_one_plus_divider():
    near(icm20948.sample_rate(_trim()), 102.27, 0.01)
    near(icm20948.sample_rate(bytes((0x1D, 0x1B, 0, 7, 7))), 140.6, 0.1)


def check_icm20948_columns_say_the_same_as_decode():
    for accel_code, gyro_code in ((2, 1), (0, 0), (3, 3), (1, 2)):
        trim = _trim(accel_code, gyro_code)
        for numbers in ((1, -2, 3, -4, 5, -6, 100, 7, -8, 9), (32767, 0, -32768, 1, 32767, -32750, -32768, 32752, -32752, 0)):
            for st1, st2 in ((1, 0x10), (0, 0x10), (3, 0x18), (1, 0x80), (0, 0x08)):
                raw = struct.pack(">7h", *numbers[:7]) + bytes((st1,)) + struct.pack("<3h", *numbers[7:]) + bytes((0, st2))
                row = icm20948.split(raw)
                assert len(row) == 11 and row[10] & 0xFFFF == st1 | st2 << 8 and -32768 <= row[10] <= 32767
                values = icm20948.decode(trim, raw)
                assert tuple(sorted(values)) == tuple(sorted(icm20948.QUANTITIES))
                for number, column in zip(row, icm20948.columns(trim)):  # noqa: B905  # MicroPython has no strict
                    if column["id"] == "mag_status":
                        continue
                    good = column["status"] is None or row[column["status"]] & column["mask"] == column["value"]
                    if good and column["lowest"] <= number <= column["highest"]:
                        near(values[column["id"]], number * column["scale"] + column["offset"], 0)
                    else:
                        assert isinstance(values[column["id"]], str)


def check_wrong_lengths_are_value_errors():
    for module in (bmp390, sht45, opt3001, as7331, sps30, icm20948):
        for trim in (b"", bytes(module.TRIM_SIZE)):
            checking.raises(ValueError, module.decode, trim, bytes(module.RAW_SIZE - 1))


if __name__ == "__main__":
    checking.run(globals())
