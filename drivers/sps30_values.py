"""What a Sensirion SPS30 says, on either wire (drivers/sps30.py, drivers/sps30_i2c.py): its sample as numbers, its status, its times."""

import struct

from drivers.portable import const

QUANTITIES = (
    "pm1", "pm2_5", "pm4", "pm10", "particles_0_5", "particles_1", "particles_2_5", "particles_4", "particles_10", "particle_size",
)  # fmt: skip
RAW_SIZE = 40  # ten big endian floats
TRIM_SIZE = 34  # firmware major, minor, serial (at most 32 ASCII)

SLEEP_SINCE = const(0x0200)  # firmware: major << 8 | minor
STATUS_SINCE = const(0x0202)
FAILURES = const(0x30)  # lowest byte of the status register: laser, fan
FAN_SPEED = const(0x20)  # byte above the middle: bit 21
HOLD_MS = const(3000)  # a failure must stay away for so long
CLEANING_MS = const(11_000)

# The sensor's highest value in its own unit, and SI per own unit as a fraction of whole numbers, by which the highest value stays exactly
# what it is: µg/m³, 1/cm³ and µm (data sheet, table 1 and section 4.3).
_MASS = (1000.0, 1.0, 1e9)
_NUMBER = (3000.0, 1e6, 1.0)
_VALUES = (_MASS, _MASS, _MASS, _MASS, _NUMBER, _NUMBER, _NUMBER, _NUMBER, _NUMBER, (10.0, 1.0, 1e6))


def decode(trim: bytes, raw: bytes) -> "dict[str, float | str]":
    """SI values of one sample, or why there is none. ValueError if the length is wrong; `trim` is only the identity."""
    if len(raw) != RAW_SIZE:
        raise ValueError("sps30: wrong length of raw")
    values: dict[str, float | str] = {}
    for index, (highest, factor, divisor) in enumerate(_VALUES):
        number = struct.unpack_from(">f", raw, 4 * index)[0]
        if number > highest:
            values[QUANTITIES[index]] = "implausible" if number > 1e9 else "saturated"
        elif number >= 0.0:
            values[QUANTITIES[index]] = number * factor / divisor
        else:  # negative, or not a number
            values[QUANTITIES[index]] = "implausible"
    return values
