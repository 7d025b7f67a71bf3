"""The sensor box: which chip is soldered to which pins of the head (design section 5), and what all of them have made so far."""

from collections.abc import Callable, Iterable
from typing import Any

from sim.bus import ClockFace, I2CBus, UartLine
from sim.chips.as7331 import AS7331
from sim.chips.bmp390 import BMP390
from sim.chips.faces import Log, Source
from sim.chips.icm20948 import ICM20948
from sim.chips.neo_m9n import NEOM9N
from sim.chips.opt3001 import OPT3001
from sim.chips.pms5003 import PMS5003
from sim.chips.sht45 import SHT45
from sim.chips.sps30 import SPS30
from sim.chips.sps30_i2c import SPS30I2C
from sim.chips.veml7700 import VEML7700
from sim.faults import Faults
from sim.supply import LoadSwitch

# (controller, SDA, SCL), (UART, TX, RX)
I2C0, I2C1 = (0, 4, 5), (1, 6, 7)  # the AS7331 alone: bus traffic disturbs its conversion (facts 1.0)
UART0, UART1 = (0, 0, 1), (1, 8, 9)
POWER = 10  # ON of the load switch of what is at UART1

# What can be fitted, by the names of the head's list of parts: its model and its wire.
PARTS: dict[str, tuple[Callable[[Source, Log], Any], tuple[int, int, int]]] = {
    "icm20948": (ICM20948, I2C0),
    "bmp390": (BMP390, I2C0),
    "sht45": (SHT45, I2C0),
    "opt3001": (OPT3001, I2C0),
    "veml7700": (VEML7700, I2C0),
    "as7331": (AS7331, I2C1),
    "sps30": (SPS30, UART1),
    "sps30_i2c": (SPS30I2C, I2C0),
    "pms5003": (PMS5003, UART1),
    "neo_m9n": (NEOM9N, UART0),
}
STANDARD = ("icm20948", "bmp390", "sht45", "opt3001", "as7331", "sps30")


class Board:
    """The chips of one head that are in its `fit`, by name. `i2c` and `uart` are keyed by their pins; `faults` are in front of all of
    them. `switch` is the load switch of the particle sensor on UART1, where there is one, and `pins` what moves it: number → drive. Two
    parts on one UART, or at one address, are a wiring error (ValueError)."""

    def __init__(self, source: Source, log: Log, clock: ClockFace, faults: Faults | None = None, fit: Iterable[str] = STANDARD) -> None:
        faults = Faults() if faults is None else faults
        self.chips: dict[str, Any] = {}
        wired: dict[tuple[int, int, int], list[Any]] = {wire: [] for wire in (I2C0, I2C1, UART0, UART1)}
        for name in fit:
            model, wire = PARTS[name]
            chip = self.chips[name] = model(source, log)
            wired[wire] += [chip, chip.magnetometer] if name == "icm20948" else [chip]
        self.i2c = {wire: I2CBus(wired[wire], clock, faults) for wire in (I2C0, I2C1)}
        self.uart: dict[tuple[int, int, int], UartLine] = {}
        for wire in (UART0, UART1):
            if len(wired[wire]) > 1:
                raise ValueError(f"two parts on UART{wire[0]}")
            for chip in wired[wire]:
                self.uart[wire] = UartLine(chip, clock, getattr(chip, "BAUD", 115_200), faults=faults)
        self.switch: LoadSwitch | None = None
        self.pins: dict[int, Callable[[int], None]] = {}
        for chip in wired[UART1]:
            self.switch = LoadSwitch(chip, faults, clock)
            self.pins = {POWER: self.switch.drive_on, UART1[1]: self.switch.drive_line}

    def advance(self) -> None:
        """Brings every chip to the present."""
        for bus in self.i2c.values():
            bus.advance()
        for line in self.uart.values():
            line.advance()

    def counters(self) -> dict[str, dict[str, int]]:
        """Per sensor the number of `samples` (conversions) it made; the ICM-20948 also says where its FIFO samples went."""
        counters = {chip.SENSOR: {"samples": chip.samples} for chip in self.chips.values()}
        if "icm20948" in self.chips:
            fifo = self.chips["icm20948"].fifo
            counters["icm20948"].update(
                taken=fifo.taken, overwritten=fifo.overwritten, refused=fifo.refused, discarded=fifo.discarded, waiting=fifo.waiting
            )
        return counters
