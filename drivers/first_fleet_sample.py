"""One sample of the first fleet's box (event A) as numbers. Pure. Source: ychen1986/CarSensorJLib (project facts, sox.md 2.1).

Scalings: acceleration ±16 g (before 2017-03-07 the old gateway published the same in mg; the box is unchanged), field ±4800 µT,
pressure 250 to 1110 hPa. Angular rate: raw * 4000 / 65535 was labelled rad/s, but ±2000 is a range of degrees per second: taken as °/s and
given in rad/s (derived, unverified). UV-A in W/m² is the old label, unverified. The old gateway cut the dust sensor's voltage to whole mV,
twice, and its difference to whole steps; here it is raw * 6600 / 4095 mV, not cut, so PM2.5 is up to 2.2 µg/m³ more than it was there."""

import struct

RAW_SIZE = 36  # the parameters of an event A: serial u16, number u24, errors u8, then QUANTITIES
TRIM_SIZE = 22  # serial 4, version 4, model 10 (ASCII), Vs u16, its temperature s16, as the box sends them

_G = 9.80665
_DEGREE = 0.017453292519943295
# Error bit, ends of the raw number (saturated), what of it is plausible, SI per step, SI at 0. Plausible is what can be on Earth (pressure
# from 300 hPa), what such a sensor works at (-40 to 125 °C) and no more than full sun (illuminance).
_ACCELERATION = (0x01, -32768, 32767, -32768, 32767, 32000 * _G / 1000 / 65535, 0.0)
_RATE = (0x01, -32768, 32767, -32768, 32767, 4000 * _DEGREE / 65535, 0.0)
_FIELD = (0x02, -32768, 32767, -32768, 32767, 9600e-6 / 65535, 0.0)
_VALUES = (
    ("acceleration_x", _ACCELERATION),
    ("acceleration_y", _ACCELERATION),
    ("acceleration_z", _ACCELERATION),
    ("angular_rate_x", _RATE),
    ("angular_rate_y", _RATE),
    ("angular_rate_z", _RATE),
    ("magnetic_field_x", _FIELD),
    ("magnetic_field_y", _FIELD),
    ("magnetic_field_z", _FIELD),
    ("pressure", (0x04, 0, 65535, 3811, 65535, 86000 / 65535, 25000.0)),
    ("humidity", (0x08, 0, 65535, 896, 7296, 1 / 64, -14.0)),
    ("temperature", (0x08, 0, 65535, 97, 8345, 0.02, 231.23)),
    ("uva", (0x10, -32768, 32767, 0, 32767, 0.0635, 0.0)),
    ("illuminance", (0x10, -32768, 32767, 0, 7000, 20.0, 0.0)),
)
QUANTITIES = tuple([quantity for quantity, _ in _VALUES] + ["pm2_5"])
# What each error bit says of. 0x20 was commented out in the old gateway: its meaning is unverified; here it takes PM2.5 away.
ERRORS = (
    (0x01, "acceleration and angular rate"),
    (0x02, "magnetic field"),
    (0x04, "pressure"),
    (0x08, "humidity and temperature"),
    (0x10, "UV-A and illuminance"),
    (0x20, "PM2.5"),
    (0x40, "GNSS"),
    (0x80, "error 80"),  # unknown
)
_NOT_READY = "not ready"  # the box says that this sensor fails


def numbers(raw: bytes) -> "tuple[int, ...]":
    """The raw numbers of one sample, in the order of QUANTITIES."""
    return struct.unpack_from("<9h3H2hH", raw, 6)


def clean_air(trim: bytes) -> "tuple[int, float]":
    """What the dust sensor says in clean air: mV, and at how many °C."""
    millivolts, tenths = struct.unpack_from(">Hh" if trim[4:8] == b"0000" else "<Hh", trim, 18)
    return millivolts, tenths / 10


def decode(trim: bytes, raw: bytes) -> "dict[str, float | str]":
    """SI values of one sample, or why there is none. ValueError if a length is wrong."""
    if len(trim) != TRIM_SIZE or len(raw) != RAW_SIZE:
        raise ValueError("first_fleet: wrong length of trim or raw")
    values: dict[str, float | str] = {}
    errors = raw[5]
    steps = numbers(raw)
    for index in range(len(_VALUES)):
        quantity, (bit, lowest, highest, low, high, scale, offset) = _VALUES[index]
        step = steps[index]
        if errors & bit:
            values[quantity] = _NOT_READY
        elif step in (lowest, highest):
            values[quantity] = "saturated"
        else:
            values[quantity] = step * scale + offset if low <= step <= high else "implausible"
    values["pm2_5"] = _NOT_READY if errors & 0x20 else _pm2_5(trim, steps[14], values["humidity"], values["temperature"])
    return values


def _pm2_5(trim: bytes, step: int, humidity: "float | str", temperature: "float | str") -> "float | str":
    """PM2.5 in kg/m³ from the dust sensor's ADC: 0.6 * beta * (V0 - Vs) µg/m³. The formula's Vs jumps where the air is 40 °C. A mass below
    0 is none (the old server published 0 then); without humidity and temperature there is no formula."""
    if step >= 4095:
        return "saturated" if step == 4095 else "implausible"
    if isinstance(humidity, str):
        return humidity
    if isinstance(temperature, str):
        return temperature
    clean, clean_celsius = clean_air(trim)
    if clean > 6600 or not -40.0 <= clean_celsius <= 125.0:
        return "implausible"
    celsius = temperature - 273.15
    slope = 6.0 if celsius <= 40.0 else 1.5
    beta = 1.0 if humidity <= 50.0 else 1.0 - 0.01467 * (humidity - 50.0)
    mass = 0.6 * beta * (step * 6600 / 4095 - (clean - slope * (clean_celsius - celsius))) * 1e-9
    return mass if 0.0 <= mass <= 1000e-9 else "implausible"
