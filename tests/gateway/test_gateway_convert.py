import struct

import numpy as np
import pytest
from gateway_head import OPT3001_RAW, SHT45_RAW, imu_raw
from hypothesis import given
from hypothesis import strategies as st

from calibration.profile import Line, Profile
from drivers import icm20948
from firmware import frames
from gateway.convert import (
    DRIVERS,
    IMU_AT_ONCE,
    IMU_TRIM,
    QUANTITIES,
    BadSample,
    Converter,
    imu_rows,
    plausible,
    raw_numbers,
    split_payload,
)
from logbook import block

# facts 1.9 (driver_vectors.py): NVM, pressure and temperature registers -> °C, Pa
BMP390_NVM = bytes.fromhex("a86bd749f9a2feb0f62300a061d67503f6064018c4")
BMP390_RAW = (6815744).to_bytes(3, "little") + (8388608).to_bytes(3, "little")
SPS30_RAW = struct.pack(">10f", 1.5, 2.5, 3.5, 4.5, 10, 11, 12, 13, 14, 0.5)  # facts 1.2
# STATUS conversion done, TEMP 0x922 = 50 °C (facts 1.7), counts
AS7331_RAW = struct.pack("<5HB", 0x0803, 0x922, 1000, 200, 30, 0xA6)
VEML7700_RAW = struct.pack("<2H", 12345, 0x1000)
PMS5003_RAW = bytes.fromhex("424D001C000600090009000600090009051F016F003E00020000000097000246")  # facts 1.3, a real sensor's

RAW = {
    "bmp390": BMP390_RAW, "sht45": SHT45_RAW, "opt3001": OPT3001_RAW, "sps30": SPS30_RAW, "as7331": AS7331_RAW, "veml7700": VEML7700_RAW,
    "icm20948": imu_raw(5), "pms5003": PMS5003_RAW, "first_fleet": bytes(36),
    "neo_m9n": bytes(92),  # no fix
}  # fmt: skip


def test_a_payload_is_split_into_samples_of_the_drivers_size() -> None:
    raw = [imu_raw(number) for number in range(3)]
    samples = split_payload(bytes((1, 3)) + b"".join(raw), frames.SENSORS)
    assert (samples.sensor, samples.raw) == ("icm20948", raw)


@pytest.mark.parametrize("payload", [b"", b"\x01", b"\x07\x01" + bytes(6), b"\x00\x01\x00", b"\x02\x00", b"\x02\x01" + bytes(5)])
def test_a_payload_that_is_no_sample_is_refused(payload: bytes) -> None:
    with pytest.raises(BadSample):
        split_payload(payload, frames.SENSORS)


def test_the_barometers_numbers_are_those_of_the_facts() -> None:
    converter = Converter()
    converter.trim("bmp390", BMP390_NVM)
    values = converter.typed("bmp390", BMP390_RAW, 0).values
    assert values["pressure"] == pytest.approx(98_941.2560, abs=0.02)
    assert values["temperature_barometer"] == pytest.approx(23.427346 + 273.15, abs=1e-5)


def test_without_trim_every_quantity_of_the_sensor_says_so() -> None:
    typed = Converter().typed("bmp390", BMP390_RAW, 0)
    assert typed.values == {"pressure": "no trim", "temperature_barometer": "no trim"}


def test_a_trim_of_wrong_length_is_a_reason_and_no_crash() -> None:
    converter = Converter()
    converter.trim("bmp390", b"short")
    assert set(converter.typed("bmp390", BMP390_RAW, 0).values) == set(QUANTITIES["bmp390"])
    assert all(isinstance(value, str) for value in converter.typed("bmp390", BMP390_RAW, 0).values.values())


def test_a_trim_counts_as_changed_only_when_it_is_another() -> None:
    converter = Converter()
    assert converter.trim("sht45", b"1234")
    assert not converter.trim("sht45", b"1234")
    converter.forget()
    assert converter.trim("sht45", b"1234")


def test_a_number_outside_of_the_tables_range_is_no_number() -> None:
    assert plausible({"pressure": 29_999.0, "humidity": 50.0, "uva": float("nan"), "pm2_5": "not ready"}) == {
        "pressure": "implausible", "humidity": 50.0, "uva": "implausible", "pm2_5": "not ready",
    }  # fmt: skip


def test_a_profile_of_the_unit_corrects_and_is_named() -> None:
    profile = Profile("unit-1", "sht45", "sht45-2026", {"humidity": Line(offset=2.0)})
    converter = Converter([profile])
    converter.trim("sht45", bytes(4))
    assert converter.typed("sht45", SHT45_RAW, 0).profile == ""  # another unit
    converter.unit = "unit-1"
    typed = converter.typed("sht45", SHT45_RAW, 0)
    assert typed.values["humidity"] == pytest.approx(58.50095, abs=1e-4)
    assert (typed.profile, typed.corrected) == ("sht45-2026", frozenset({"humidity"}))


def test_a_correction_out_of_range_is_implausible() -> None:
    converter = Converter([Profile("u", "sht45", "p", {"humidity": Line(offset=90.0)})])
    converter.unit = "u"
    converter.trim("sht45", bytes(4))
    assert converter.typed("sht45", SHT45_RAW, 0).values["humidity"] == "implausible"


@pytest.mark.parametrize("sensor", sorted(DRIVERS))
def test_every_quantity_of_a_sensor_has_a_value_and_a_raw_number(sensor: str) -> None:
    converter = Converter()
    trims = {"bmp390": BMP390_NVM, "icm20948": IMU_TRIM, "as7331": bytes((0xA6, 0x40, 0x40)), "first_fleet": bytes(22)}
    converter.trim(sensor, trims.get(sensor, bytes(4)))
    values = converter.typed(sensor, RAW[sensor], 0).values
    assert set(values) == set(raw_numbers(sensor, RAW[sensor])) == set(QUANTITIES[sensor])


def test_raw_numbers_are_the_chips_own() -> None:
    assert raw_numbers("bmp390", BMP390_RAW) == {"pressure": "6815744", "temperature_barometer": "8388608"}
    assert raw_numbers("sht45", SHT45_RAW) == {"temperature": "26215", "humidity": "32768"}
    assert raw_numbers("opt3001", OPT3001_RAW) == {"illuminance": "13398"}
    assert raw_numbers("as7331", AS7331_RAW) == {"temperature_uv": "2338", "uva": "1000", "uvb": "200", "uvc": "30"}
    assert raw_numbers("sps30", SPS30_RAW)["pm2_5"] == "2.5" and raw_numbers("sps30", SPS30_RAW)["particle_size"] == "0.5"
    assert raw_numbers("icm20948", imu_raw(5))["acceleration_x"] == "5"
    assert raw_numbers("icm20948", imu_raw(5))["magnetic_field_y"] == "-100"


def test_the_block_read_with_its_columns_gives_what_decode_gives() -> None:
    raw = [imu_raw(number) for number in range(4)]
    stale = raw[1][:14] + bytes((0,)) + raw[1][15:]  # no new sample of the magnetometer
    overflow = raw[2][:22] + bytes((0x18,))
    both = stale[:22] + bytes((0x08,))
    cold = raw[3][:12] + b"\x80\x00" + raw[3][14:]
    some = [raw[0], stale, overflow, both, cold]
    rows = imu_rows(some)
    assert rows.dtype == np.int16 and rows.shape == (5, 11)
    assert [tuple(row) for row in rows.tolist()] == [icm20948.split(frame) for frame in some]
    typed = block.typed(icm20948.columns(IMU_TRIM), rows)
    assert typed["magnetic_field_x"][1].tolist() == [block.OK, block.NO_NEW_SAMPLE, block.SATURATED, block.NO_NEW_SAMPLE, block.OK]
    for index, frame in enumerate(some):
        for quantity, value in icm20948.decode(IMU_TRIM, frame).items():
            number, status = typed[quantity][0][index], typed[quantity][1][index]
            if isinstance(value, str):
                assert block.REASONS[status] == value and np.isnan(number)
            else:
                assert number == pytest.approx(value, rel=1e-12, abs=1e-15)


@given(frame=st.binary(min_size=23, max_size=23), ranges=st.tuples(st.integers(0, 3), st.integers(0, 3)))
def test_any_frame_says_the_same_through_the_block_and_through_decode(frame: bytes, ranges: tuple[int, int]) -> None:
    trim = bytes((0x19 | ranges[0] << 1, 0x19 | ranges[1] << 1, 0, 10, 10))
    rows = imu_rows([frame])
    assert tuple(rows[0].tolist()) == icm20948.split(frame)
    typed = block.typed(icm20948.columns(trim), rows)
    for quantity, value in icm20948.decode(trim, frame).items():
        (number,), (status,) = typed[quantity]
        assert block.REASONS[status] == value if isinstance(value, str) else number == value


def test_frames_of_another_size_are_no_rows() -> None:
    with pytest.raises(BadSample):
        imu_rows([imu_raw(1), imu_raw(2)[:-2]])
    assert imu_rows([]).shape == (0, 11)


def test_the_trim_taken_before_the_head_speaks_is_what_the_driver_configures() -> None:
    assert icm20948.sample_rate(IMU_TRIM) == pytest.approx(102.27, abs=0.01)
    scales = {column["id"]: column["scale"] for column in icm20948.columns(IMU_TRIM)}
    assert scales["acceleration_x"] == pytest.approx(9.80665 / 4096)  # ±8 g
    assert scales["angular_rate_x"] == pytest.approx(0.017453292519943295 / 65.5)  # ±500 °/s
    assert IMU_AT_ONCE * icm20948.RAW_SIZE + 2 <= frames.PAYLOAD_MAX
