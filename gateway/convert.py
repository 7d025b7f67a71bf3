"""From a chip's raw bytes to numbers: the driver's `decode`, the table's range, the unit's calibration. Pure but for what is kept of
the trims. Raw bytes are stored beside the result, so everything here can be done again later and better."""

import math
import struct
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from calibration.profile import Calibrated, Profile, applicable, apply
from drivers import as7331, bmp390, first_fleet, first_fleet_sample, icm20948, neo_m9n, opt3001, pms5003, sht45, sps30, veml7700
from logbook.quantities import BY_ID

IMU = icm20948.SENSOR
IMU_AT_ONCE = icm20948.FRAMES_AT_ONCE  # a SAMPLE with fewer has emptied the FIFO
# What drivers/icm20948.py configures (±8 g, ±500 °/s, divider 10): lets a file describe its columns before the head has spoken.
IMU_TRIM = bytes((0x1D, 0x1B, 0, 10, 10))

DRIVERS: dict[str, ModuleType] = {
    driver.SENSOR: driver for driver in (icm20948, bmp390, sht45, opt3001, as7331, sps30, veml7700, pms5003, first_fleet, neo_m9n)
}
QUANTITIES: dict[str, tuple[str, ...]] = {sensor: tuple(driver.QUANTITIES) for sensor, driver in DRIVERS.items()}

# One FIFO frame: acceleration, angular rate, temperature; ST1, field, TMPS, ST2 of the magnetometer (docs/formats.md 1).
_IMU_FRAME = np.dtype([("inertial", ">i2", 7), ("st1", "u1"), ("field", "<i2", 3), ("tmps", "u1"), ("st2", "u1")])

NO_TRIM = "no trim"
IMPLAUSIBLE = "implausible"


class BadSample(ValueError):
    """A SAMPLE frame whose payload is not what its sensor sends."""


class Samples(NamedTuple):
    """The samples of one SAMPLE frame, oldest first."""

    sensor: str
    raw: list[bytes]


def split_payload(payload: bytes, sensors: dict[int, str]) -> Samples:
    """The samples in a SAMPLE frame's payload (docs/formats.md 1); raises BadSample. `sensors`: names by id."""
    if len(payload) < 2 or payload[0] not in sensors or sensors[payload[0]] not in DRIVERS:
        raise BadSample(f"sample of unknown sensor {payload[:1].hex() or 'none'}")
    sensor, count, raw = sensors[payload[0]], payload[1], payload[2:]
    size = DRIVERS[sensor].RAW_SIZE
    if count == 0 or len(raw) != count * size:
        raise BadSample(f"{count} samples of {sensor} in {len(raw)} bytes")
    return Samples(sensor, [raw[start : start + size] for start in range(0, len(raw), size)])


def imu_rows(raw: Iterable[bytes]) -> npt.NDArray[np.int16]:
    """FIFO frames as the columns of a block, int16 [n, 11] (icm20948.split of all at once). BadSample if one is of another size."""
    frames = list(raw)
    if any(len(frame) != icm20948.RAW_SIZE for frame in frames):
        raise BadSample(f"frames of {icm20948.SENSOR} are of {icm20948.RAW_SIZE} bytes")
    table = np.frombuffer(b"".join(frames), dtype=_IMU_FRAME)
    columns = np.empty((len(table), 11), dtype=np.int16)
    columns[:, :7] = table["inertial"]
    columns[:, 7:10] = table["field"]
    columns[:, 10] = (table["st1"] | table["st2"].astype(np.uint16) << 8).view(np.int16)
    return columns


def plausible(values: dict[str, float | str]) -> dict[str, float | str]:
    """`values` with a reason in place of a number that is not finite or outside the range of logbook/quantities.py."""
    return {
        quantity: value
        if isinstance(value, str) or (math.isfinite(value) and BY_ID[quantity].low <= value <= BY_ID[quantity].high)
        else IMPLAUSIBLE
        for quantity, value in values.items()
    }


class Converter:
    """Typed values of one head's chips. `unit` is the head's unique id; `profiles` the calibrations known on this truck."""

    def __init__(self, profiles: Iterable[Profile] = ()) -> None:
        self._profiles = tuple(profiles)
        self._trims: dict[str, bytes] = {}
        self.unit = ""

    @property
    def trims(self) -> dict[str, bytes]:
        """Trim constants by sensor, as the head last said."""
        return dict(self._trims)

    def trim(self, sensor: str, trim: bytes) -> bool:
        """The head says the trim of a chip; True if it is another than before."""
        changed = self._trims.get(sensor) != trim
        self._trims[sensor] = trim
        return changed

    def forget(self) -> None:
        """Another head, or another boot of it: its trims come again."""
        self._trims.clear()

    def typed(self, sensor: str, raw: bytes, utc_ns: int) -> Calibrated:
        """SI values (or reasons) of one sample taken at `utc_ns` (0: unknown)."""
        trim = self._trims.get(sensor)
        if trim is None:
            return Calibrated(dict.fromkeys(QUANTITIES[sensor], NO_TRIM), "", frozenset())
        try:
            values = DRIVERS[sensor].decode(trim, raw)
        except ValueError as error:  # a trim of wrong length: the chip is not what the head takes it for
            return Calibrated(dict.fromkeys(QUANTITIES[sensor], str(error)), "", frozenset())
        calibrated = apply(applicable(self._profiles, self.unit, sensor, utc_ns), plausible(values))
        return calibrated._replace(values=plausible(calibrated.values))


# --- the chip's own numbers, as text: SoX carries them as rawValue

Reader = Callable[[bytes], str]


def _little(start: int, size: int) -> Reader:
    return lambda raw: str(int.from_bytes(raw[start : start + size], "little"))


def _big(start: int) -> Reader:
    return lambda raw: str(int.from_bytes(raw[start : start + 2], "big"))


def _signed(start: int) -> Reader:
    return lambda raw: str(int.from_bytes(raw[start : start + 4], "little", signed=True))


def _column(index: int) -> Reader:
    return lambda raw: str(icm20948.split(raw)[index])


def _word_of_box(index: int) -> Reader:
    return lambda raw: str(first_fleet_sample.numbers(raw)[index])


def _float(index: int) -> Reader:
    return lambda raw: repr(struct.unpack_from(">f", raw, 4 * index)[0])


# Layouts: docs/formats.md 1, "Raw bytes of a SAMPLE". SPS30: mass concentrations, number concentrations, typical size.
_SPS30 = ("pm1", "pm2_5", "pm4", "pm10", "particles_0_5", "particles_1", "particles_2_5", "particles_4", "particles_10", "particle_size")
_NUMBERS: dict[str, dict[str, Reader]] = {
    "icm20948": {quantity: _column(index) for index, quantity in enumerate(icm20948.QUANTITIES)},
    "bmp390": {"pressure": _little(0, 3), "temperature_barometer": _little(3, 3)},
    "sht45": {"temperature": _big(0), "humidity": _big(3)},
    "opt3001": {"illuminance": _big(0)},
    "veml7700": {"illuminance": _little(0, 2)},
    "as7331": {"temperature_uv": _little(2, 2), "uva": _little(4, 2), "uvb": _little(6, 2), "uvc": _little(8, 2)},
    "first_fleet": {quantity: _word_of_box(index) for index, quantity in enumerate(first_fleet.QUANTITIES)},
    "neo_m9n": {"longitude": _signed(24), "latitude": _signed(28), "altitude": _signed(36), "speed": _signed(60), "bearing": _signed(64)},
    "pms5003": {quantity: _big(10 + 2 * index) for index, quantity in enumerate(pms5003.QUANTITIES)},
    "sps30": {quantity: _float(index) for index, quantity in enumerate(_SPS30)},
}


def raw_numbers(sensor: str, raw: bytes) -> dict[str, str]:
    """The chip's number behind each quantity of one sample, as text."""
    return {quantity: read(raw) for quantity, read in _NUMBERS[sensor].items()}
