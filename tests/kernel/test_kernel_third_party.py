"""Drivers of other people, as they come from the registry, read our chip models through the simulated kernel.

They were written against silicon, so they judge the models as our own drivers cannot. Where such a driver has a constant that is known
to be wrong (facts/sensors-and-head.md 1.7, 1.10), the test says so in its name and compares with what that constant makes of the truth.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from chip_bench import steady
from kernel_rig import Kernel, kernel, port

from sim.chips.as7331 import AS7331
from sim.chips.bmp390 import BMP390
from sim.chips.icm20948 import ICM20948
from sim.chips.neo_m9n import NEOM9N
from sim.chips.pms5003 import PMS5003
from sim.chips.sht45 import SHT45
from sim.chips.sps30 import SPS30
from sim.chips.sps30_i2c import SPS30I2C
from sim.chips.veml7700 import VEML7700

BLINKA = Path(__file__).parents[2] / ".venv" / "blinka-drivers"
G = 9.80665

TRUTH = {
    **{"acceleration_x": 0.5, "acceleration_y": -1.25, "acceleration_z": 9.9},
    **{"angular_rate_x": 0.1, "angular_rate_y": -0.2, "angular_rate_z": 0.3},
    **{"magnetic_field_x": 20.1e-6, "magnetic_field_y": -5.1e-6, "magnetic_field_z": -39.9e-6},
    **{"temperature": 296.15, "temperature_imu": 301.15, "temperature_barometer": 299.4, "temperature_uv": 298.0},
    **{"pressure": 98_765.4, "humidity": 54.3, "illuminance": 4321.0, "uva": 12.5, "uvb": 0.4, "uvc": 0.1},
    **{"pm1": 7.2e-9, "pm2_5": 9.1e-9, "pm4": 10.3e-9, "pm10": 11.4e-9, "particle_size": 0.56e-6},
    **{"particles_0_5": 50.5e6, "particles_1": 60.1e6, "particles_2_5": 61.2e6, "particles_4": 61.3e6, "particles_10": 61.4e6},
    **{f"particles_above_{size}": count * 1e4 for size, count in {"0_3": 1311, "0_5": 367, "1": 62, "2_5": 2, "5": 1, "10": 0}.items()},
    **{"latitude": 35.3387312, "longitude": 139.4870123, "altitude": 17.25, "speed": 6.381, "bearing": math.radians(214.5)},
}
SOURCE = steady(TRUTH)

# Blinka's own `busio.I2C` asks for a board it knows by name; its Linux I2C under the same lock is what adafruit-extended-bus makes of it.
BUS = """
import json, sys, threading, time
from adafruit_blinka import Lockable
from adafruit_blinka.microcontroller.generic_linux.i2c import I2C

class Bus(Lockable):
    def __init__(self, number):
        self._i2c = I2C(number)
        self._lock = threading.RLock()
        self.scan, self.readfrom_into, self.writeto_then_readfrom = self._i2c.scan, self._i2c.readfrom_into, self._i2c.writeto_then_readfrom
        self.writeto = self._i2c.writeto
"""


def unlogged(sensor: str, t_us: int, values: object) -> None:
    """The world stands still: there is no need to know when what was read."""


@pytest.fixture(scope="module")
def k() -> Iterator[Kernel]:
    imu = ICM20948(SOURCE, unlogged)
    others = [chip(SOURCE, unlogged) for chip in (BMP390, SHT45, AS7331, VEML7700)]
    others.append(SPS30I2C(SOURCE, unlogged, wait_us=0))  # the vendor's own driver reads right behind the command
    with kernel(imu, imu.magnetometer, *others) as made:
        yield made


def told(k: Kernel, program: str, *arguments: str) -> dict[str, float]:
    """The JSON that a program prints."""
    return json.loads(k.run(program, *arguments))


def blinka(k: Kernel, program: str) -> dict[str, float]:
    return json.loads(k.run(BUS + program, extra={"PYTHONPATH": k.environment["PYTHONPATH"] + f":{BLINKA}"}))


def near(values: list[float], expected: list[float], tolerance: float) -> None:
    assert values == pytest.approx(expected, abs=tolerance)


def vector(name: str, factor: float = 1.0) -> list[float]:
    return [TRUTH[f"{name}_{axis}"] * factor for axis in "xyz"]


def magnetometer_axes() -> list[float]:
    """µT along the AK09916's own axes: y and z are turned against the IMU's (facts 1.10)."""
    x, y, z = vector("magnetic_field", 1e6)
    return [x, -y, -z]


def test_pimoroni_icm20948_reads_motion_and_the_magnetic_field_along_the_magnetometers_own_axes(k: Kernel) -> None:
    found = told(
        k,
        """
        import json, time
        from icm20948 import ICM20948
        imu = ICM20948()
        time.sleep(0.05)
        motion = imu.read_accelerometer_gyro_data()
        print(json.dumps([motion[:3], motion[3:], imu.read_magnetometer_data(), imu.read_temperature()]))
        """,
    )
    near(found[0], vector("acceleration", 1 / G), 0.51 / 2048)
    near(found[1], vector("angular_rate", 180 / math.pi), 0.51 / 131)
    near(found[2], magnetometer_axes(), 0.076)
    # It takes the room temperature's offset for steps: 21 / 333.87 °C too low.
    near([found[3]], [TRUTH["temperature_imu"] - 273.15 - 21 / 333.87], 0.51 / 333.87)


def test_adafruit_icm20x_reads_motion_and_the_magnetic_field_along_the_magnetometers_own_axes(k: Kernel) -> None:
    found = blinka(
        k,
        """
import adafruit_icm20x
imu = adafruit_icm20x.ICM20948(Bus(1), address=0x68)
time.sleep(0.05)
print(json.dumps([imu.acceleration, imu.gyro, imu.magnetic]))
""",
    )
    near(found[0], vector("acceleration"), 0.51 * G / 4096)
    near(found[1], vector("angular_rate"), 0.51 * math.radians(1 / 65.5))
    near(found[2], magnetometer_axes(), 0.076)


def test_adafruit_bmp3xx_reads_pressure_and_temperature(k: Kernel) -> None:
    found = blinka(
        k,
        """
import adafruit_bmp3xx
barometer = adafruit_bmp3xx.BMP3XX_I2C(Bus(1))
time.sleep(0.01)  # it resets the chip and does not wait for it
barometer.pressure_oversampling = 8
print(json.dumps([barometer.pressure * 100, barometer.temperature]))
""",
    )
    near(found[:1], [TRUTH["pressure"]], 0.05)
    near(found[1:], [TRUTH["temperature_barometer"] - 273.15], 0.001)


def test_adafruit_veml7700_reads_illuminance_with_vishays_correction(k: Kernel) -> None:
    found = blinka(
        k,
        """
import adafruit_veml7700
light = adafruit_veml7700.VEML7700(Bus(1))
light.light_gain = light.ALS_GAIN_1_8
light.light_integration_time = light.ALS_100MS
time.sleep(0.3)
print(json.dumps(light.compute_lux(light.light, True)))
""",
    )
    near([found], [TRUTH["illuminance"]], VEML7700.epsilon("illuminance", TRUTH["illuminance"]) * 1.01)


def test_adafruit_as7331_reads_ultraviolet_with_sensitivities_up_to_half_a_percent_off(k: Kernel) -> None:
    found = blinka(
        k,
        """
import adafruit_as7331
ultraviolet = adafruit_as7331.AS7331(Bus(1))
ultraviolet.gain = adafruit_as7331.GAIN_2X
ultraviolet.integration_time = adafruit_as7331.TIME_64MS
print(json.dumps(ultraviolet.one_shot()))
""",
    )
    # µW/cm² a count of the data sheet's full-scale ranges (Linux, SparkFun) against its table of responsivities (this driver).
    for value, name, full_scale, responsivity in zip(
        found, ("uva", "uvb", "uvc"), (348_160, 387_072, 169_984), (385, 347, 794), strict=True
    ):
        step = full_scale / (2 * 64 * 1024)
        theirs = 2048 / (responsivity * 2)
        assert abs(theirs / step - 1) < 0.006
        near([value], [TRUTH[name] * 100 * theirs / step], 0.51 * theirs)


def test_sensirions_sht4x_driver_reads_with_plain_write_and_read(k: Kernel) -> None:
    found = told(
        k,
        """
        import json
        from sensirion_i2c_driver import I2cConnection, LinuxI2cTransceiver
        from sensirion_i2c_sht.sht4x import Sht4xI2cDevice
        with LinuxI2cTransceiver("/dev/i2c-1") as transceiver:
            sensor = Sht4xI2cDevice(I2cConnection(transceiver))
            serial = sensor.read_serial_number()
            temperature, humidity = sensor.single_shot_measurement()
        print(json.dumps([serial, temperature.degrees_celsius, humidity.percent_rh]))
        """,
    )
    assert found[0] == 0x0F1E2D3C
    near(found[1:2], [TRUTH["temperature"] - 273.15], SHT45.EPSILON["temperature"] * 1.01)
    near(found[2:], [TRUTH["humidity"]], SHT45.EPSILON["humidity"] * 1.01)


MASSES = ("pm1", "pm2_5", "pm4", "pm10")
NUMBERS = ("particles_0_5", "particles_1", "particles_2_5", "particles_4", "particles_10")


def check_particles(found: list[float]) -> None:
    near(found[:4], [TRUTH[name] * 1e9 for name in MASSES], 1e-4)
    near(found[4:9], [TRUTH[name] * 1e-6 for name in NUMBERS], 1e-3)
    near(found[9:], [TRUTH["particle_size"] * 1e6], 1e-5)


def test_sensirions_sps30_driver_reads_over_i2c(k: Kernel) -> None:
    found = told(
        k,
        """
        import json, time
        from sensirion_driver_adapters.i2c_adapter.linux_i2c_channel_provider import LinuxI2cChannelProvider
        from sensirion_i2c_driver import CrcCalculator
        from sensirion_i2c_sps30.commands import OutputFormat
        from sensirion_i2c_sps30.device import Sps30Device
        with LinuxI2cChannelProvider("/dev/i2c-1") as provider:
            provider.prepare_channel()
            channel = provider.get_channel(slave_address=0x69, crc_parameters=(8, 0x31, 0xFF, 0x00))
            sensor = Sps30Device(channel)
            serial = sensor.read_serial_number()
            sensor.start_measurement(OutputFormat.OUTPUT_FORMAT_FLOAT)
            while not sensor.read_data_ready_flag():
                time.sleep(0.1)
            print(json.dumps([serial, *sensor.read_measurement_values_float()]))
            sensor.stop_measurement()
        """,
    )
    assert found[0].startswith("5A1D0C0FFEE00301")
    check_particles(found[1:])


def test_sensirions_sps30_driver_reads_over_its_serial_line(k: Kernel, tmp_path: Path) -> None:
    program = """
        import json, sys, time
        from sensirion_driver_adapters.shdlc_adapter.shdlc_channel import ShdlcChannel
        from sensirion_shdlc_driver import ShdlcSerialPort
        from sensirion_uart_sps30.commands import OutputFormat
        from sensirion_uart_sps30.device import Sps30Device
        with ShdlcSerialPort(port=sys.argv[1], baudrate=115200) as port:
            sensor = Sps30Device(ShdlcChannel(port, shdlc_address=0))
            serial = sensor.read_serial_number()
            sensor.start_measurement(OutputFormat.OUTPUT_FORMAT_FLOAT)
            time.sleep(1.1)
            print(json.dumps([serial, *sensor.read_measurement_values_float()]))
    """
    with port(tmp_path / "pm", SPS30(SOURCE, unlogged), 115_200) as link:
        found = told(k, program, str(link))
    assert found[0].startswith("5A1D0C0FFEE00301")
    check_particles(found[1:])


def test_pms7003_reads_the_pms5003(k: Kernel, tmp_path: Path) -> None:
    program = """
        import json, sys
        from pms7003 import Pms7003Sensor, PmsSensorException
        sensor = Pms7003Sensor(sys.argv[1])
        for _ in range(5):
            try:
                print(json.dumps(sensor.read()))
                break
            except PmsSensorException:  # it opened the port in the middle of a frame
                continue
    """
    with port(tmp_path / "pm", PMS5003(SOURCE, unlogged), 9_600, age_s=60) as link:
        found = told(k, program, str(link))
    near([found[name] for name in ("pm1_0", "pm2_5", "pm10")], [TRUTH[name] * 1e9 for name in ("pm1", "pm2_5", "pm10")], 0.51)
    counts = [TRUTH[f"particles_above_{size}"] * 1e-4 for size in ("0_3", "0_5", "1", "2_5", "5", "10")]  # per 0.1 l
    near([found[name] for name in ("n0_3", "n0_5", "n1_0", "n2_5", "n5_0", "n10")], counts, 0.51)


def test_pyubx2_configures_the_receiver_and_reads_its_positions(k: Kernel, tmp_path: Path) -> None:
    program = """
        import json, sys, serial
        from pyubx2 import UBX_PROTOCOL, UBXMessage, UBXReader
        with serial.Serial(sys.argv[1], 38400, timeout=3) as port:
            reader = UBXReader(port, protfilter=UBX_PROTOCOL)
            settings = [("CFG_UART1OUTPROT_NMEA", 0), ("CFG_UART1OUTPROT_UBX", 1), ("CFG_MSGOUT_UBX_NAV_PVT_UART1", 1)]
            port.write(UBXMessage.config_set(1, 0, settings).serialize())
            seen = []
            while "NAV-PVT" not in seen:
                _, message = reader.read()
                seen.append(message.identity)
        print(json.dumps([seen, message.lat, message.lon, message.hMSL, message.gSpeed, message.headMot, message.fixType, message.year]))
    """
    with port(tmp_path / "gnss", NEOM9N(SOURCE, unlogged), 38_400) as link:
        seen, latitude, longitude, height, speed, heading, fix, _ = told(k, program, str(link))
    assert "ACK-ACK" in seen and fix == 3
    near([latitude, longitude], [TRUTH["latitude"], TRUTH["longitude"]], 0.6e-7)
    near([height, speed], [TRUTH["altitude"] * 1000, TRUTH["speed"] * 1000], 0.51)
    near([heading], [math.degrees(TRUTH["bearing"])], 1e-5)
