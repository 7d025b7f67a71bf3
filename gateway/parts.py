"""Every part a Linux machine can read by itself, watched as on the head: same drivers, same states, no frames. `Part` is for the eye
(`cruisers sense`); the recorder writes down what is said (own_parts.py)."""

import importlib
import os
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, NamedTuple, Protocol

from drivers.addresses import LEGAL, clash
from firmware import frames
from firmware.supervisor import Watched
from gateway.linux_bus import LinuxI2C, LinuxUart

NO_NEW_SAMPLE = "no new sample"  # of one quantity in a sample that has others: what came before it still holds
_TICKS = 0x3FFF_FFFF  # ms, as the head's

# Part → module and class of its driver.
I2C_DRIVERS = {
    "icm20948": ("icm20948", "ICM20948"),
    "bmp390": ("bmp390", "BMP390"),
    "sht45": ("sht45", "SHT45"),
    "opt3001": ("opt3001", "OPT3001"),
    "as7331": ("as7331", "AS7331"),
    "sps30": ("sps30_i2c", "SPS30I2C"),
    "veml7700": ("veml7700", "VEML7700"),
}


class OnUart(NamedTuple):
    """Module and class of a driver, and the baud to begin with."""

    module: str
    kind: str
    baud: int


UART_DRIVERS = {
    "sps30": OnUart("sps30", "SPS30", 115_200),
    "pms5003": OnUart("pms5003", "PMS5003", 9_600),
    "neo_m9n": OnUart("neo_m9n", "NEOM9N", 38_400),
    "first_fleet": OnUart("first_fleet", "FirstFleetBox", 115_200),
}
OWN_SECTION = {"neo_m9n": "receiver", "first_fleet": "box"}  # parts that the recorder reads as sources of their own


class Place(NamedTuple):
    """Where a part is: `at` is an I2C address or the path of a serial port."""

    part: str
    at: int | str

    @property
    def shown(self) -> str:
        """0x68, or the path."""
        return f"0x{self.at:02x}" if isinstance(self.at, int) else self.at


class PartError(Exception):
    """A part that is not known or cannot be where it is said to be, in one line."""


def on_i2c(chips: Iterable[str], without: Iterable[str], bus: int, uart_parts: Iterable[str]) -> list[Place]:
    """Every known part at its default address, but where `chips` ("opt3001@0x46") says another one, and not those `without`, nor a part
    that is on a UART unless `chips` names it. Raises PartError, also where two are at one address."""
    named: dict[str, int] = {}
    for text in chips:
        part, at, address = text.partition("@")
        _known(part)
        if part in named:
            raise PartError(f"{part} is named twice; one bus has one of each part")
        try:
            named[part] = int(address, 0) if at else LEGAL[part][0]
        except ValueError:
            raise PartError(f"{address!r} is not an address (e.g. opt3001@0x46)") from None
    left_out = set()
    for part in without:
        _known(part)
        if part in named:
            raise PartError(f"{part} is to be read, and to be left out")
        left_out.add(part)
    left_out |= {part for part in uart_parts if part not in named}
    places = [Place(part, named.get(part, addresses[0])) for part, addresses in LEGAL.items() if part not in left_out]
    wrong = clash([(place.part, bus, int(place.at)) for place in places])
    if wrong:
        raise PartError(wrong)
    return places


def _known(part: str) -> None:
    if part not in LEGAL:
        raise PartError(f"no driver for {part!r} (there are {', '.join(LEGAL)})")


def on_uarts(texts: Iterable[str], named: str = "--uart") -> list[Place]:
    """Of each "PATH=PART", as the setting `named` has them. Raises PartError, also where two are on one port."""
    places: list[Place] = []
    for text in texts:
        path, _, part = text.rpartition("=")
        if part not in UART_DRIVERS or not path:
            raise PartError(f"{named} {text}: it takes PATH=PART, PART one of {', '.join(UART_DRIVERS)}")
        for place in places:
            if os.path.realpath(str(place.at)) == os.path.realpath(path):
                raise PartError(f"{place.part} and {part} clash: both on {path}")
        places.append(Place(part, path))
    return places


def on_own_wires(device: str, chips: Iterable[str], without: Iterable[str], uarts: Sequence[str]) -> tuple[list[Place], list[Place]]:
    """What the recorder looks for on the I2C bus `device` ("": none) and on serial ports. Raises PartError, also where two of one part
    would share its records, and for parts that are a source of their own."""
    at_ports = on_uarts(uarts, "uarts:")
    named = [place.part for place in at_ports]
    for place in at_ports:
        if place.part in OWN_SECTION:
            raise PartError(f"{place.part} on {place.shown} is read by section [{OWN_SECTION[place.part]}]")
        if named.count(place.part) > 1:
            raise PartError(f"{place.part} is on two serial ports: the record tells parts by their names")
    if not device:
        if not at_ports or list(chips) or list(without):
            raise PartError("no bus is named (i2c)")
        return [], at_ports
    number = int(re.sub("[^0-9]", "", device.rpartition("-")[2]) or 0)
    on_bus = on_i2c(chips, without, number, named)
    for place in on_bus:
        if place.part in named:
            raise PartError(f"{place.part} is on the bus and on a serial port: the record tells parts by their names")
    return on_bus, at_ports


class Outbox(Protocol):
    """Where a driver's supervisor says what it has to say: the face of firmware/outbox.py, whose `sensor` is not needed here."""

    @property
    def ticks(self) -> "Stamps":
        """The clock that is asked for the time."""

    def sample(self, sensor: int, driver: Any, /) -> int:
        """Reads what the driver has ready, or a part of it; returns the number of samples. Bus errors pass through."""

    def trim(self, sensor: int, trim: bytes, /) -> None:
        """The trim constants."""

    def gap(self, sensor: int, reason: int, count: int, /) -> None:
        """So many samples are missing before the next one."""

    def state(self, sensor: int, state: int, reason: int, failures: int, /) -> None:
        """The state has changed."""


class Stamps(Protocol):
    """The clock of an outbox."""

    def stamp(self) -> None:
        """Notes the time, for what is said next."""


@dataclass
class Readings:
    """What one watched part has said: an Outbox. Times are those of the last `stamp`, in ticks.

    `room`: bytes that the driver may hand over at once."""

    room: int
    now: int = 0
    stamped: int = 0
    constants: bytes = b""
    newest: list[bytes] = field(default_factory=list)  # all samples of the last drain
    sampled: int | None = None
    samples: int = 0
    gaps: int = 0  # reports of missing samples

    @property
    def ticks(self) -> "Readings":
        """The clock that `stamp` is asked of."""
        return self

    def stamp(self) -> None:
        """Notes the time."""
        self.stamped = self.now

    def sample(self, sensor: int, driver: Any) -> int:
        """Reads what the driver has ready; returns the number of samples. Bus errors pass through."""
        buffer = bytearray(self.room)
        size = driver.read_into(buffer)
        self.newest = [bytes(buffer[start : start + driver.RAW_SIZE]) for start in range(0, size, driver.RAW_SIZE)]
        self.samples += len(self.newest)
        self.sampled = self.stamped
        return len(self.newest)

    def trim(self, sensor: int, trim: bytes) -> None:
        """Keeps the trim constants."""
        self.constants = trim

    def gap(self, sensor: int, reason: int, count: int) -> None:
        """Counts the report."""
        self.gaps += 1

    def state(self, sensor: int, state: int, reason: int, failures: int) -> None:
        """The state is asked of Watched when it is shown."""


class Supervised:
    """One driver under the head's supervision, which tells `outbox`."""

    def __init__(self, place: Place, driver: Any, module: ModuleType, outbox: Outbox) -> None:
        self.place = place
        self.sensor: str = module.SENSOR
        self._watched = Watched(0, driver, outbox)  # type: ignore[arg-type]  # an outbox without frames

    @property
    def state(self) -> str:
        """absent, configuring, ok, degraded or failed."""
        return frames.STATES[self._watched.state]

    @property
    def reason(self) -> str:
        """Why it is not ok; "" if it is."""
        return frames.REASONS[self._watched.reason] if self._watched.reason else ""

    @property
    def failures(self) -> int:
        """Failed transactions so far."""
        return self._watched.failures

    @property
    def quiet(self) -> bool:
        """It converts, and traffic on its bus would disturb it."""
        return bool(getattr(self._watched.driver, "quiet", False))

    def start(self, now_ms: int) -> None:
        """The first start."""
        self._watched.start(now_ms & _TICKS)

    def step(self, now_ms: int) -> None:
        """One turn of the driver."""
        self._watched.step(now_ms & _TICKS)

    def stop(self) -> None:
        """For good: a part that can be told to rest (a box of the first fleet, whose fan we started) is told; it may be gone already."""
        stop = getattr(self._watched.driver, "stop", None)
        if stop is not None:
            with suppress(OSError):
                stop()


class Part(Supervised):
    """One that is shown. `values` and `raw` are by quantity id, as of the last `decode`."""

    def __init__(self, place: Place, driver: Any, module: ModuleType) -> None:
        self.readings = Readings(getattr(module, "FRAMES_AT_ONCE", 1) * module.RAW_SIZE)
        super().__init__(place, driver, module, self.readings)
        self.values: dict[str, float | str] = {}
        self.raw: dict[str, str] = {}
        self._module = module

    @property
    def settled(self) -> bool:
        """Nothing more is to be waited for: it has delivered, or it is not there."""
        return self.readings.samples > 0 or (self._watched.state == frames.ABSENT and self.failures > 0)

    def start(self, now_ms: int) -> None:
        """The first start."""
        self.readings.now = now_ms & _TICKS
        super().start(now_ms)

    def step(self, now_ms: int) -> None:
        """One turn of the driver."""
        self.readings.now = now_ms & _TICKS
        super().step(now_ms)

    def age_ms(self, now_ms: int) -> int | None:
        """Milliseconds since the newest sample was read; None before the first."""
        return None if self.readings.sampled is None else (now_ms - self.readings.sampled) & _TICKS

    def decode(self) -> None:
        """Brings `values` (SI, or a reason) and `raw` (the chip's own number as text) up to the newest samples."""
        from gateway import convert  # numpy: a tenth of a second that `--help` and a wrong option need not wait for

        newest, self.readings.newest = self.readings.newest, []
        for sample in newest:
            try:
                values = convert.plausible(self._module.decode(self.readings.constants, sample))
            except ValueError as error:  # a trim of wrong length: no chip of this kind
                values = dict.fromkeys(self._module.QUANTITIES, str(error))
            known = self.sensor in convert.DRIVERS
            numbers = convert.raw_numbers(self.sensor, sample) if known else dict.fromkeys(values, sample.hex())
            for quantity, value in values.items():
                if value != NO_NEW_SAMPLE or quantity not in self.values:
                    self.values[quantity] = value
                    self.raw[quantity] = numbers.get(quantity, "")


def turn(parts: Iterable[Supervised], now_ms: Callable[[], int]) -> None:
    """Each part is asked once; while one wants its bus quiet (AS7331), the others on it wait for the next turn: their chips keep."""
    parts = list(parts)
    for part in parts:
        if part.quiet or isinstance(part.place.at, str) or not any(other.quiet for other in parts):
            part.step(now_ms())


def driver_on_bus(place: Place, bus: Any) -> tuple[Any, ModuleType]:
    """The driver of a part on an I2C bus, and its module."""
    name, kind = I2C_DRIVERS[place.part]
    module = importlib.import_module(f"drivers.{name}")
    return getattr(module, kind)(bus, place.at), module


def driver_on_port(place: Place, port: Any) -> tuple[Any, ModuleType]:
    """The driver of a part on an opened serial port, and its module."""
    name, kind, _ = UART_DRIVERS[place.part]
    module = importlib.import_module(f"drivers.{name}")
    return getattr(module, kind)(port), module


def open_parts(device: str | None, i2c: list[Place], uarts: list[Place]) -> list[Part]:
    """The parts behind `device` and the serial ports. Raises OSError if one of them cannot be opened."""
    parts = []
    if device is not None and i2c:
        bus = LinuxI2C(device)
        parts += [Part(place, *driver_on_bus(place, bus)) for place in i2c]
    for place in uarts:
        port = LinuxUart(str(place.at), UART_DRIVERS[place.part].baud, replug=True)
        parts.append(Part(place, *driver_on_port(place, port)))
    return parts
