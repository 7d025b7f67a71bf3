"""Which parts are soldered to this head: the standard fit, or what a file on its flash says (`fleet` writes it when it flashes a head).

The file `parts.json` is a JSON list of everything that is fitted, each entry an object with `part`, where the part is strapped to another
address than its first `address`, and where its driver shall not do what it does by itself `options` (OPTIONS below):

    [{"part": "icm20948", "options": {"acceleration_g": 16}}, {"part": "bmp390", "address": 118}, {"part": "pms5003"}]

A list that makes no sense (no JSON, an unknown part, an address or option it cannot have, two parts in one place or at one address, a
driver that is not on the flash) does not stop the head: it runs the standard fit, says why in HELLO (`parts_error`) and reports STATE of
itself.

A spare stands in the place of the standard part, never beside it: 20 s of ring and the heap are counted for one part in each place
(tests/firmware). So the longest list has seven parts: the standard fit, or spares in it, and a GNSS receiver."""

import json

from drivers.portable import TYPE_CHECKING, const
from firmware.wire import SENSORS

if TYPE_CHECKING:
    from typing import Any

    Row = tuple[int, Any, str, int, int, dict[str, int]]
    Chosen = tuple[str, int, dict[str, int]]

FILE = "parts.json"
_LONGEST = const(1024)  # bytes; all parts with an address each take 400
_NO_SUCH_FILE = const(2)

I2C0, I2C1, UART0, UART1 = "I2C0", "I2C1", "UART0", "UART1"

# Part (its driver's module): sensor number, class, wire, first address, speed (of an I2C bus the highest, of a UART the first).
PARTS = {
    "icm20948": (1, "ICM20948", I2C0, 0x68, 400_000),
    "bmp390": (2, "BMP390", I2C0, 0x77, 400_000),
    "sht45": (3, "SHT45", I2C0, 0x44, 400_000),
    "opt3001": (4, "OPT3001", I2C0, 0x45, 400_000),
    "as7331": (5, "AS7331", I2C1, 0x74, 400_000),  # alone: traffic disturbs its conversion
    "sps30": (6, "SPS30", UART1, 0, 115_200),
    "sps30_i2c": (6, "SPS30I2C", I2C0, 0x69, 100_000),
    "veml7700": (7, "VEML7700", I2C0, 0x10, 400_000),
    "pms5003": (8, "PMS5003", UART1, 0, 9600),
    "neo_m9n": (9, "NEOM9N", UART0, 0, 38_400),  # it finds its speed itself
}
STANDARD = ("icm20948", "bmp390", "sht45", "opt3001", "as7331", "sps30")  # also the names of the sensors
# The places that more than one part can take; every other part has its own.
PLACES = {"opt3001": "light", "veml7700": "light", "sps30": "particles", "sps30_i2c": "particles", "pms5003": "particles"}

# What can be chosen of a driver, and the values that it takes (0 and 1: false and true).
OPTIONS: dict[str, dict[str, tuple[int, ...]]] = {
    "icm20948": {"acceleration_g": (2, 4, 8, 16), "rate_dps": (250, 500, 1000, 2000)},
    "bmp390": {"normal": (0, 1)},
    "sht45": {"heater": (0, 1)},
}

_LARGEST = ("icm20948", "sps30", "sps30_i2c", "pms5003", "neo_m9n")


def load(path: str = FILE) -> "tuple[list[Row], str]":
    """What is fitted, a row each (sensor number, driver's class, wire, address, speed, options), and why the file is not followed ("" if
    it is).

    Only these drivers are imported, and the largest first: while one is compiled, it takes 40 kB for a moment. So this is called before
    anything else but the ring is made. The result keeps nothing of this module alive."""
    parts, error = fitted(path)
    try:
        return _rows(parts), error
    except ImportError:
        return _rows(standard()), "a driver is missing"


def _rows(parts: "list[Chosen]") -> "list[Row]":
    kinds = {}
    for largest in (True, False):
        for name, _, _ in parts:
            if (name in _LARGEST) == largest:
                kind = PARTS[name][1]
                kinds[name] = getattr(__import__("drivers." + name, None, None, (kind,)), kind)
    return [(PARTS[name][0], kinds[name], PARTS[name][2], address, PARTS[name][4], options) for name, address, options in parts]


def standard() -> "list[Chosen]":
    """The standard fit: (part, address, options), address 0 for a part on a UART."""
    return [(name, PARTS[name][3], {}) for name in STANDARD]


def fitted(path: str = FILE) -> "tuple[list[Chosen], str]":
    """What is fitted, (part, address, options) each, and why the file is not followed ("" if it is, or if there is none)."""
    try:
        with open(path, "rb") as file:
            text = file.read(_LONGEST + 1)
    except OSError as problem:
        return standard(), "" if problem.args[0] == _NO_SUCH_FILE else f"cannot be read: {problem.args[0]}"
    if len(text) > _LONGEST:
        return standard(), "longer than 1024 bytes"
    try:
        listed = json.loads(text.decode())
    except ValueError:
        return standard(), "not JSON"
    fit, error = chosen(listed)
    return (standard() if error else fit), error


def chosen(listed: object) -> "tuple[list[Chosen], str]":
    """The fit that a decoded list describes, and what is wrong with it. The text names no word of the file: it must fit into HELLO."""
    from drivers.addresses import clash  # only a head with a list of its own needs it

    fit: list[Chosen] = []
    if not isinstance(listed, list) or not listed:
        return fit, "not a list of parts"
    on_i2c = []
    taken: dict[str, str] = {}  # places
    for index, entry in enumerate(listed):
        where = f"entry {index + 1}: "
        if not isinstance(entry, dict) or "part" not in entry:
            return fit, where + "no part"
        name = entry["part"]
        if not isinstance(name, str) or name not in PARTS:
            return fit, where + "unknown part"
        number, _, wire, first, _ = PARTS[name]
        address = entry.get("address", first)
        if len(entry) > ("address" in entry) + ("options" in entry) + 1:
            return fit, where + "unknown key"
        if type(address) is not int or (wire[0] == "U" and "address" in entry):
            return fit, where + "no such address"
        place = PLACES.get(name, name)
        if place in taken:
            return fit, f"{taken[place]} and {name}: one place for both ({place})"
        taken[place] = name
        if wire[0] == "I":
            on_i2c.append((SENSORS[number], int(wire[3]), address))
        options = entry.get("options", {})
        if not _allowed(name, options):
            return fit, where + "no such option"
        fit.append((name, address, options))
    return fit, clash(on_i2c)


def _allowed(name: str, options: object) -> bool:
    known = OPTIONS.get(name, {})
    if not isinstance(options, dict):
        return False
    for option, value in options.items():
        if option not in known or type(value) not in (int, bool) or value not in known[option]:
            return False
    return True
