"""The sensor box: which chip is soldered to which pins of the head (design section 5), and what all of them have made so far."""

from sim.bus import ClockFace, I2CBus, UartLine
from sim.chips.as7331 import AS7331
from sim.chips.bmp390 import BMP390
from sim.chips.faces import Log, Source
from sim.chips.icm20948 import ICM20948
from sim.chips.opt3001 import OPT3001
from sim.chips.sht45 import SHT45
from sim.chips.sps30 import SPS30
from sim.faults import Faults


class Board:
    """All chips of one head. `i2c` is keyed by (controller, SDA, SCL), `uart` by (UART, TX, RX); `faults` are in front of all of them."""

    def __init__(self, source: Source, log: Log, clock: ClockFace, faults: Faults | None = None) -> None:
        self.icm20948 = ICM20948(source, log)
        self.bmp390 = BMP390(source, log)
        self.sht45 = SHT45(source, log)
        self.opt3001 = OPT3001(source, log)
        self.as7331 = AS7331(source, log)
        self.sps30 = SPS30(source, log)
        self.i2c = {
            (0, 4, 5): I2CBus((self.icm20948, self.icm20948.magnetometer, self.bmp390, self.sht45, self.opt3001), clock, faults),
            # Alone: bus traffic disturbs its conversion (facts 1.0).
            (1, 6, 7): I2CBus((self.as7331,), clock, faults),
        }
        self.uart = {(1, 8, 9): UartLine(self.sps30, clock, faults=faults)}

    def advance(self) -> None:
        """Brings every chip to the present."""
        for bus in self.i2c.values():
            bus.advance()
        for line in self.uart.values():
            line.advance()

    def counters(self) -> dict[str, dict[str, int]]:
        """Per sensor the number of `samples` (conversions) it made; the ICM-20948 also says where its FIFO samples went."""
        chips = (self.icm20948, self.bmp390, self.sht45, self.opt3001, self.as7331, self.sps30)
        counters = {chip.SENSOR: {"samples": chip.samples} for chip in chips}
        fifo = self.icm20948.fifo
        counters[self.icm20948.SENSOR].update(
            taken=fifo.taken, overwritten=fifo.overwritten, refused=fifo.refused, discarded=fifo.discarded, waiting=fifo.waiting
        )
        return counters
