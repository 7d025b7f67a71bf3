"""The profile `carsensor`: a truck as the first fleet of Keio University published it, so that its consumers go on unchanged (facts:
sox.md 2.1; docs/formats.md 5). Pure.

Two devices a truck, NNN its number with three digits: `carsensorNNN`, about once a second, with the newest of everything; and
`carsensorNNN_100Hz`, one item a sample. Type, ids, spellings (`Cource`) and labels of units are those of that fleet. What follows is
decided by what its consumers do:

- Both typedValue and rawValue are sent, with the same text. The first fleet sent rawValue alone, in the unit of the label, and its map
  reads that; the CMU specification, python-sox and soxlib need typedValue; for JSoxLib both are optional.
- Angular Velocity is labelled rad/s, and the number is in DEGREES per second: the first fleet's formula spans ±2000, a range in °/s. A
  consumer that looks at numbers goes on; one that believes the label was wrong before. The truck's own node has true rad/s.
- Times have milliseconds and +09:00, for SoxJS drops the zone. Each value has the time of its own collection.
- The namespace is sent; the first fleet's items inherited one. The labels (`°C`, "" for numbers without unit) are outside the CMU schema.

Left out of items: Satellite Number, which the truck's snapshot does not have, and `Error Message`, which that fleet sent undescribed.
A quantity without number is not sent: there is no way to say why here.
"""

import math
from collections import deque
from collections.abc import Mapping
from typing import NamedTuple
from xml.etree import ElementTree as ET

from logbook.quantities import BY_ID
from sox import nodes
from sox.documents import TransducerValue, data_document, element
from sox.times import japan_time

DEVICE_TYPE = "outdoor weather"  # not vehicle
NUMBER_MOST = 999
HZ_MOST = 100
INDEX_LIMIT = 1 << 24  # the box counted samples in 24 bits
MEAN_OF_MOST = 100  # PM2.5 values; the first fleet began anew at so many
POSITION = ("longitude", "latitude", "altitude", "speed", "bearing")  # came in items of their own on the node of samples
PM2_5 = "pm2_5"

# Transducer id, label of its unit, quantity: numbers are in the unit in which the table shows them (logbook/quantities.py).
TRANSDUCERS: tuple[tuple[str, str, str | None], ...] = (
    ("Data Index", "", None),
    ("Serial Number", "", None),
    ("Acceleration X", "m/s^2", "acceleration_x"),
    ("Acceleration Y", "m/s^2", "acceleration_y"),
    ("Acceleration Z", "m/s^2", "acceleration_z"),
    ("Angular Velocity X", "rad/s", "angular_rate_x"),
    ("Angular Velocity Y", "rad/s", "angular_rate_y"),
    ("Angular Velocity Z", "rad/s", "angular_rate_z"),
    ("Geomagnetism X", "µT", "magnetic_field_x"),
    ("Geomagnetism Y", "µT", "magnetic_field_y"),
    ("Geomagnetism Z", "µT", "magnetic_field_z"),
    ("Atmospheric Pressure", "hPa", "pressure"),
    ("Atmospheric Temperature", "°C", "temperature"),
    ("Atmospheric Humidity", "%RH", "humidity"),
    ("UV", "W/m^2", "uva"),
    ("Illuminance", "Lx", "illuminance"),
    ("PM2.5", "µg/m^3", PM2_5),
    ("Satellite Number", "", None),
    ("Longitude", "", "longitude"),
    ("Latitude", "", "latitude"),
    ("Altitude", "m", "altitude"),
    ("Speed", "km/hr", "speed"),
    ("Cource", "°", "bearing"),
)
QUANTITIES = frozenset(quantity for _, _, quantity in TRANSDUCERS if quantity is not None)


class Reading(NamedTuple):
    """A quantity's value in SI, and when it was collected (UTC in ns)."""

    value: float
    utc_ns: int


def device(number: int) -> str:
    """The device of about one item a second, e.g. carsensor014; raises ValueError beyond 0 to 999."""
    if not 0 <= number <= NUMBER_MOST:
        raise ValueError(f"a carsensor's number is 0 to {NUMBER_MOST}, not {number}")
    return f"carsensor{number:03d}"


def device_of_samples(number: int) -> str:
    """The device of one item a sample. It has this name at every rate."""
    return f"{device(number)}_100Hz"


def carsensor_nodes(number: int, samples: bool = True) -> list[str]:
    """The nodes of a truck of this number, with or without those of `samples`. The truck writes them, max_items 1, rising ids."""
    devices = [device(number), device_of_samples(number)] if samples else [device(number)]
    return [node for name in devices for node in (nodes.meta(name), nodes.data(name))]


def description(name: str) -> ET.Element:
    """The description of one of the two devices, for its meta node."""
    root = element("device", {"name": name, "id": name, "type": DEVICE_TYPE})
    root.extend(element("transducer", {"name": identity, "id": identity, "units": units}) for identity, units, _ in TRANSDUCERS)
    return root


def item(number: int, index: int, readings: Mapping[str, Reading]) -> ET.Element | None:
    """The item with `readings` (by quantity, SI), in the order of TRANSDUCERS; None if it would hold none. `index` counts samples.

    Raises OverflowError where a time is beyond the year 9999."""
    known = {quantity: reading for quantity, reading in readings.items() if quantity in QUANTITIES and math.isfinite(reading.value)}
    if not known:
        return None
    newest = japan_time(max(reading.utc_ns for reading in known.values()))
    own = {"Data Index": f"{index % INDEX_LIMIT:03d}", "Serial Number": f"{number:03d}"}
    values = []
    for identity, _, quantity in TRANSDUCERS:
        if identity in own:
            values.append(TransducerValue(identity, own[identity], own[identity], newest))
        elif quantity in known:
            text = f"{BY_ID[quantity].display.shown(known[quantity].value):.12g}"
            values.append(TransducerValue(identity, text, text, japan_time(known[quantity].utc_ns)))
    return data_document(values)


class Mean:
    """PM2.5 between two items: the mean of what came since the last one, a negative as 0, of the newest MEAN_OF_MOST."""

    def __init__(self) -> None:
        self._values: deque[Reading] = deque(maxlen=MEAN_OF_MOST)

    def add(self, reading: Reading) -> None:
        """A further value; one that is no number is none."""
        if math.isfinite(reading.value):
            self._values.append(reading)

    def take(self) -> Reading | None:
        """The mean, at the time of its newest value, and begin anew; None if nothing came."""
        if not self._values:
            return None
        newest = self._values[-1].utc_ns
        mean = math.fsum(max(0.0, reading.value) for reading in self._values) / len(self._values)
        self._values.clear()
        return Reading(mean, newest)


class Rate:
    """Which samples make so many a second, 1 to 100 of them: all of a slower source, evenly chosen ones of a faster."""

    def __init__(self, hz: int) -> None:
        if not 1 <= hz <= HZ_MOST:
            raise ValueError(f"the rate of samples is 1 to {HZ_MOST} a second, not {hz}")
        self._period_ns = 1_000_000_000 // hz
        self._due_ns = 0

    def passes(self, at_ns: int) -> bool:
        """Whether the sample at `at_ns` (of a clock that does not step) is one of them."""
        late = at_ns - self._due_ns
        if -self._period_ns <= late < 0:
            return False
        # In step with the rate while samples come in time; begun anew after a gap, or where times went back.
        self._due_ns = (self._due_ns if 0 <= late < self._period_ns else at_ns) + self._period_ns
        return True
