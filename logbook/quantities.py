"""The one table of quantities: gateway, SoX documents, center and docs all read it; no unit is written twice.

Everywhere in the house a value is a float in the SI unit of `Quantity.unit` (latitude and longitude: degrees, as in WGS 84 and in
the SoX schema). `display` is what people read (hPa, µT, °C, µg/m³), `sox` what goes over the wire: a unit of the CMU sensor schema
with its unitScaler where the schema has one. Three SoX units are extensions, because the schema (v0.0.18) has none for them:
"radian per second", "watt per square meter" and "reciprocal cubic meter".
"""

from typing import NamedTuple


class Scale(NamedTuple):
    """A linear unit: shown = si * factor + offset."""

    unit: str
    factor: float = 1.0
    offset: float = 0.0

    def shown(self, si: float) -> float:
        """The SI value `si` in this unit."""
        return si * self.factor + self.offset

    def si(self, shown: float) -> float:
        """The value `shown` of this unit in SI."""
        return (shown - self.offset) / self.factor


class Quantity(NamedTuple):
    """One row of the table.

    `id` names it everywhere (and is its SoX transducer id); `sensor` is the chip of the standard fit that gives it (a spare may give it
    instead: VEML7700 illuminance, PMS5003 particulate mass); `unit` is the SI unit; `low`, `high` and `resolution` are in `unit`: the
    range in which a value is plausible (outside it there is a reason instead of a number) and one step of the chip's register.
    `sox_unit` with 10**`sox_scaler` is the unit on the wire.
    """

    id: str
    name: str
    name_ja: str
    sensor: str
    unit: str
    low: float
    high: float
    resolution: float
    display: Scale
    decimals: int
    sox_unit: str
    sox_scaler: int = 0

    @property
    def sox(self) -> Scale:
        """The unit on the SoX wire."""
        return Scale(self.sox_unit, 10.0**-self.sox_scaler)


G = 9.80665  # m/s², standard gravity (CGPM 1901)
DEGREE = 0.017453292519943295  # rad

_METER_PER_SECOND_SQUARED = Scale("m/s²")
_DEGREE_PER_SECOND = Scale("°/s", 1 / DEGREE)
_MICROTESLA = Scale("µT", 1e6)
_CELSIUS = Scale("°C", 1.0, -273.15)
_MICROGRAM = Scale("µg/m³", 1e9)
_PER_CUBIC_CENTIMETER = Scale("1/cm³", 1e-6)

# Resolutions: ICM-20948 at ±8 g and ±500 °/s, AK09916 0.15 µT; BMP390 decoded at ~0.016 Pa with the oversampling used; SHT45
# 16-bit words; OPT3001 0.01 lx at its lowest exponent (relative 2**-11 above); AS7331 half a step at 1x/64 ms, the most any of
# its gains is off (its driver goes down to 0.000026 W/m² a step); SPS30 sends float32.
TABLE: tuple[Quantity, ...] = (
    *(
        Quantity(
            f"acceleration_{axis}",
            f"Acceleration {axis.upper()}",
            f"加速度 {axis.upper()}",
            "icm20948",
            "m/s²",
            -16 * G,  # the first fleet's box and the ICM-20948's widest range
            16 * G,
            G / 4096,
            _METER_PER_SECOND_SQUARED,
            3,
            "meter per second squared",
        )
        for axis in "xyz"
    ),
    *(
        Quantity(
            f"angular_rate_{axis}",
            f"Angular rate {axis.upper()}",
            f"角速度 {axis.upper()}",
            "icm20948",
            "rad/s",
            -2000 * DEGREE,
            2000 * DEGREE,
            DEGREE / 65.5,
            _DEGREE_PER_SECOND,
            2,
            "radian per second",
        )
        for axis in "xyz"
    ),
    *(
        Quantity(
            f"magnetic_field_{axis}",
            f"Magnetic field {axis.upper()}",
            f"地磁気 {axis.upper()}",
            "icm20948",
            "T",
            -4912.8e-6,
            4912.8e-6,
            0.15e-6,
            _MICROTESLA,
            2,
            "tesla",
            -6,
        )
        for axis in "xyz"
    ),
    Quantity("pressure", "Pressure", "気圧", "bmp390", "Pa", 30_000, 125_000, 0.1, Scale("hPa", 0.01), 2, "pascal"),
    Quantity("humidity", "Humidity", "湿度", "sht45", "%", 0, 100, 125 / 65535, Scale("%"), 1, "percent"),
    Quantity("temperature", "Temperature", "気温", "sht45", "K", 233.15, 398.15, 175 / 65535, _CELSIUS, 2, "kelvin"),
    Quantity("uva", "UV-A", "紫外線 (UV-A)", "as7331", "W/m²", 0, 3_500, 0.03, Scale("W/m²"), 2, "watt per square meter"),
    Quantity("illuminance", "Illuminance", "照度", "opt3001", "lx", 0, 140_000, 0.01, Scale("lx"), 0, "lux"),
    Quantity("pm2_5", "PM2.5", "PM2.5", "sps30", "kg/m³", 0, 1000e-9, 1e-12, _MICROGRAM, 1, "kilogram per cubic meter", -9),
    Quantity("latitude", "Latitude", "緯度", "gnss", "°", -90, 90, 1e-7, Scale("°"), 6, "lat"),
    Quantity("longitude", "Longitude", "経度", "gnss", "°", -180, 180, 1e-7, Scale("°"), 6, "lon"),
    Quantity("altitude", "Altitude", "標高", "gnss", "m", -500, 9_000, 0.001, Scale("m"), 1, "meter"),
    Quantity("speed", "Speed", "速度", "gnss", "m/s", 0, 100, 0.001, Scale("km/h", 3.6), 1, "meter per second"),
    Quantity("bearing", "Bearing", "進行方向", "gnss", "rad", 0, 360 * DEGREE, 1e-4 * DEGREE, Scale("°", 1 / DEGREE), 1, "radian"),
    # What the chips measure beside the ten: recorded and sent like the others, shown to those who ask.
    Quantity("temperature_imu", "IMU temperature", "慣性センサ温度", "icm20948", "K", 233.15, 358.15, 1 / 333.87, _CELSIUS, 2, "kelvin"),
    Quantity("temperature_barometer", "Barometer temperature", "気圧計温度", "bmp390", "K", 233.15, 358.15, 0.005, _CELSIUS, 2, "kelvin"),
    Quantity("temperature_uv", "UV sensor temperature", "紫外線計温度", "as7331", "K", 233.15, 358.15, 0.05, _CELSIUS, 2, "kelvin"),
    Quantity("uvb", "UV-B", "紫外線 (UV-B)", "as7331", "W/m²", 0, 3_900, 0.03, Scale("W/m²"), 2, "watt per square meter"),
    Quantity("uvc", "UV-C", "紫外線 (UV-C)", "as7331", "W/m²", 0, 1_700, 0.02, Scale("W/m²"), 2, "watt per square meter"),
    Quantity("pm1", "PM1", "PM1", "sps30", "kg/m³", 0, 1000e-9, 1e-12, _MICROGRAM, 1, "kilogram per cubic meter", -9),
    Quantity("pm4", "PM4", "PM4", "sps30", "kg/m³", 0, 1000e-9, 1e-12, _MICROGRAM, 1, "kilogram per cubic meter", -9),
    Quantity("pm10", "PM10", "PM10", "sps30", "kg/m³", 0, 1000e-9, 1e-12, _MICROGRAM, 1, "kilogram per cubic meter", -9),
    *(
        Quantity(
            f"particles_{size}",
            f"Particles < {size.replace('_', '.')} µm",
            f"粒子数 < {size.replace('_', '.')} µm",
            "sps30",
            "1/m³",
            0,
            3000e6,
            1.0,
            _PER_CUBIC_CENTIMETER,
            1,
            "reciprocal cubic meter",
        )
        for size in ("0_5", "1", "2_5", "4", "10")
    ),
    *(  # the spare's counts: it counts what is larger, the SPS30 what is smaller
        Quantity(
            f"particles_above_{size}",
            f"Particles > {size.replace('_', '.')} µm",
            f"粒子数 > {size.replace('_', '.')} µm",
            "pms5003",
            "1/m³",
            0,
            655_350_000,
            10_000.0,
            _PER_CUBIC_CENTIMETER,
            1,
            "reciprocal cubic meter",
        )
        for size in ("0_3", "0_5", "1", "2_5", "5", "10")
    ),
    Quantity("particle_size", "Typical particle size", "代表粒径", "sps30", "m", 0, 10e-6, 1e-9, Scale("µm", 1e6), 2, "meter", -6),
)

BY_ID: dict[str, Quantity] = {quantity.id: quantity for quantity in TABLE}

# The ten quantities of the promise, axis by axis: what a truck must deliver to be whole.
TEN: tuple[str, ...] = (
    "acceleration_x", "acceleration_y", "acceleration_z", "angular_rate_x", "angular_rate_y", "angular_rate_z",
    "magnetic_field_x", "magnetic_field_y", "magnetic_field_z", "pressure", "humidity", "temperature", "uva", "illuminance",
    "pm2_5", "latitude", "longitude", "speed", "bearing",
)  # fmt: skip
