"""Every driver with the model of its chip: what the contract sweep, the fault matrix and the fuzzers go through. Pure data."""

import importlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple


class Part(NamedTuple):
    """One pair. `wire` is "i2c" or "uart"; `speed` is the UART's baud rate. Options are keyword arguments (they go through JSON to
    MicroPython). `name` is the driver's module, with a suffix where one driver is there twice."""

    name: str
    wire: str
    module: str
    kind: str
    chip_module: str
    options: Mapping[str, Any] = {}
    chip_options: Mapping[str, Any] = {}
    speed: int = 0

    def driver(self, bus: Any) -> Any:
        """The driver on a bus or line."""
        return getattr(importlib.import_module(self.module), self.kind)(bus, **self.options)

    def chip(self, source: Any, log: Any) -> Any:
        """The chip in a world."""
        return getattr(importlib.import_module(self.chip_module), self.kind)(source, log, **self.chip_options)

    def model(self) -> Any:
        """The class of the chip's model (RANGE, EPSILON)."""
        return getattr(importlib.import_module(self.chip_module), self.kind)

    def epsilon(self, quantity: str, value: float) -> float:
        """How far a decoded value may be from the set `value`: the model's EPSILON, or what it says of this value."""
        model = self.model()
        return float(model.epsilon(quantity, value)) if hasattr(model, "epsilon") else float(model.EPSILON[quantity])

    def options_json(self) -> str:
        """The driver's options for another interpreter."""
        return json.dumps(dict(self.options))


def _i2c(kind: str, name: str = "", **options: Any) -> Part:
    module = name.split("-")[0] or kind.lower()
    return Part(name or module, "i2c", f"drivers.{module}", kind, f"sim.chips.{module}", options)


def _uart(kind: str, name: str, speed: int) -> Part:
    return Part(name, "uart", f"drivers.{name}", kind, f"sim.chips.{name}", speed=speed)


PARTS: tuple[Part, ...] = (
    _i2c("ICM20948"),
    _i2c("BMP390"),
    _i2c("BMP390", "bmp390-normal", normal=True),
    _i2c("SHT45"),
    _i2c("SHT45", "sht45-heater", heater=True),
    _i2c("OPT3001"),
    _i2c("AS7331"),
    _i2c("VEML7700"),
    _uart("SPS30", "sps30", 115_200),
    _i2c("SPS30I2C", "sps30_i2c"),
    _uart("PMS5003", "pms5003", 9600),
    _uart("NEOM9N", "neo_m9n", 38_400),
    _uart("FirstFleetBox", "first_fleet", 115_200),  # a source of the gateway, not one of the head's sensors
)
