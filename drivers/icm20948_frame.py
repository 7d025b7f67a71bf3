"""What an ICM-20948's FIFO frame says, without the chip: scales, limits, reasons (registers and sources: drivers/icm20948.py)."""

import struct

from drivers.portable import const

RAW_SIZE = 23  # accel x y z, gyro x y z, temperature (s16 BE), ST1, HX HY HZ (s16 LE), TMPS, ST2
TRIM_SIZE = 5  # ACCEL_CONFIG, GYRO_CONFIG_1, ACCEL_SMPLRT_DIV u16 BE, GYRO_SMPLRT_DIV
_ST1 = const(14)
_ST2 = const(22)

_G = 9.80665  # m/s², standard gravity
_DEGREE = 0.017453292519943295  # rad
_ACCEL_STEPS = (16384.0, 8192.0, 4096.0, 2048.0)  # per g, by FS code
_GYRO_STEPS = (131.0, 65.5, 32.8, 16.4)  # per °/s, by FS code
# The last numbers within the range: 8 g would be 32768; 500 °/s are 32750; 1000 °/s would be 32800.
_ACCEL_LIMIT = const(32766)
_GYRO_LIMITS = (32749, 32749, 32766, 32766)
_KELVIN_PER_STEP = 1 / 333.87
_KELVIN_AT_ZERO = 273.15 + 21.0  # not (raw - 21) / 333.87 + 21, as two public drivers have it
_COLDEST, _HOTTEST = -20366, 21367  # -40 and 85 °C, what the part is made for
_MAG_STEP = 0.15e-6  # T
_MAG_SIGN = (1.0, -1.0, -1.0)  # mount matrix
_MAG_LIMIT = const(32752)
_MAG_STATUS_MASK = const(0x0801)  # ST2 HOFL (magnetic overflow) and ST1 DRDY ...
_MAG_STATUS_GOOD = const(0x0001)  # ... a sample counts if it is new and did not overflow
_STATUS_COLUMN = const(10)
_AXES = ("x", "y", "z")

QUANTITIES = tuple(
    ["acceleration_" + axis for axis in _AXES]
    + ["angular_rate_" + axis for axis in _AXES]
    + ["temperature_imu"]
    + ["magnetic_field_" + axis for axis in _AXES]
)
_last_trim = b""
_last_rows: "list[tuple[str, float, float, int, int, bool]]" = []


def _rows(trim: bytes) -> "list[tuple[str, float, float, int, int, bool]]":
    """(id, scale, offset, lowest, highest, of the magnetometer) of each quantity in the order of `split`; kept for the next call."""
    global _last_trim, _last_rows  # trims hardly ever change, and a frame shall not pay for them
    if trim == _last_trim and _last_rows:
        return _last_rows
    if len(trim) != TRIM_SIZE:
        raise ValueError("icm20948: wrong length of trim")
    acceleration = _G / _ACCEL_STEPS[trim[0] >> 1 & 3]
    code = trim[1] >> 1 & 3
    rate, limit = _DEGREE / _GYRO_STEPS[code], _GYRO_LIMITS[code]
    rows = [(name, acceleration, 0.0, -_ACCEL_LIMIT, _ACCEL_LIMIT, False) for name in QUANTITIES[:3]]
    rows += [(name, rate, 0.0, -limit, limit, False) for name in QUANTITIES[3:6]]
    rows.append((QUANTITIES[6], _KELVIN_PER_STEP, _KELVIN_AT_ZERO, _COLDEST, _HOTTEST, False))
    for index in range(3):
        rows.append((QUANTITIES[7 + index], _MAG_SIGN[index] * _MAG_STEP, 0.0, -_MAG_LIMIT, _MAG_LIMIT, True))
    _last_trim, _last_rows = bytes(trim), rows
    return rows


def sample_rate(trim: bytes) -> float:
    """Nominal samples a second (Hz). The chip's oscillator is off by up to some percent: times come from the gateway."""
    _rows(trim)
    return 1125.0 / (1 + trim[4])


def split(raw: bytes) -> tuple[int, ...]:
    """The eleven s16 columns of one FIFO frame: accel x y z, gyro x y z, temperature, mag x y z, ST1 + 256 * ST2. ValueError if the length
    is wrong."""
    if len(raw) != RAW_SIZE:
        raise ValueError("icm20948: wrong length of raw")
    status = raw[_ST1] | raw[_ST2] << 8
    return struct.unpack_from(">7h", raw, 0) + struct.unpack_from("<3h", raw, 15) + (status - 0x10000 if status & 0x8000 else status,)


def columns(trim: bytes) -> "list[dict]":
    """How to read the columns of `split` (docs/formats.md section 3): typed = raw * scale + offset within lowest..highest.

    The magnetometer's Y and Z point the other way than the accelerometer's (SparkFun, mount matrix 1 -1 -1): in the sign of `scale`.
    Accelerometer and gyroscope stay at their end values beyond their range, so those count as saturated; the magnetometer has its
    own flag."""
    table = []
    for name, scale, offset, lowest, highest, magnetic in _rows(trim):
        if magnetic:
            table.append(_column(name, scale, offset, lowest, highest, _STATUS_COLUMN, _MAG_STATUS_MASK, _MAG_STATUS_GOOD))
        else:
            table.append(_column(name, scale, offset, lowest, highest, None, 0, 0))
    table.append(_column("mag_status", 1.0, 0.0, -32768, 32767, None, 0, 0))
    return table


def _column(
    name: str, scale: float, offset: float, lowest: int, highest: int, status: "int | None", mask: int, value: int
) -> "dict[str, str | float | None]":
    return {
        "id": name,
        "scale": scale,
        "offset": offset,
        "lowest": lowest,
        "highest": highest,
        "status": status,
        "mask": mask,
        "value": value,
    }


def decode(trim: bytes, raw: bytes) -> "dict[str, float | str]":
    """SI values of one FIFO frame, or why there is none. ValueError if a length is wrong."""
    numbers = split(raw)
    magnetic_reason = "" if raw[_ST1] & 1 else "no new sample"
    if not magnetic_reason and raw[_ST2] & 0x08:
        magnetic_reason = "saturated"
    values: dict[str, float | str] = {}
    for number, row in zip(numbers, _rows(trim)):  # noqa: B905  # the status is left over; MicroPython has no strict
        name, scale, offset, lowest, highest, magnetic = row
        if magnetic and magnetic_reason:
            values[name] = magnetic_reason
        elif lowest <= number <= highest:
            values[name] = number * scale + offset
        else:
            values[name] = "saturated"
    return values
