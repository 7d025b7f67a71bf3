"""The head's board: which pin is what, and the sensors that are fitted on it (hardware.md has the same tables)."""

from drivers.portable import TYPE_CHECKING
from firmware.bus import I2CBus, Supply
from firmware.outbox import Outbox
from firmware.supervisor import Watched

if TYPE_CHECKING:
    from types import ModuleType

    from firmware.parts import Row

I2C_FREQUENCY = 400_000
# controller, SDA, SCL (GP numbers). The AS7331 has a bus of its own: traffic disturbs its conversion.
I2C_MAIN = (0, 4, 5)
I2C_UV = (1, 6, 7)
# UART of the particle sensor: number, TX, RX; 256 bytes bridge a garbage collection and a flash erase.
UART_PM = (1, 8, 9)
UART_BUFFER = 256
# ON of the load switch of its 5 V. A sensor on I2C is not switched: without supply it would hold the bus down through its inputs.
POWER_PM = 10
# UART of a GNSS receiver, where the truck has none on its Pi.
UART_GNSS = (0, 0, 1)

# By the names of the wires in the head's list of parts.
_I2C = {"I2C0": I2C_MAIN, "I2C1": I2C_UV}
_UART = {"UART0": UART_GNSS, "UART1": UART_PM}


def sensors(machine: "ModuleType", outbox: Outbox, rows: "list[Row]") -> "list[list[Watched]]":
    """The supervised sensors of the fitted parts, in three lists: main I2C bus, UV bus, UARTs. `machine` is MicroPython's module."""
    buses = {wire: _bus(machine, wire, rows) for wire in _I2C}
    groups: dict[str, list[Watched]] = {"I2C0": [], "I2C1": [], "UART": []}
    for number, kind, wire, address, speed, options in rows:
        if wire in _UART:
            controller, tx, rx = _UART[wire]
            uart = machine.UART(controller, speed, tx=machine.Pin(tx), rx=machine.Pin(rx), rxbuf=UART_BUFFER)
            supply = Supply(machine, POWER_PM, tx) if wire == "UART1" else None
            groups["UART"].append(Watched(number, kind(uart, **options), outbox, None, supply))
        else:
            bus = buses[wire]
            groups[wire].append(Watched(number, kind(bus.i2c, address, **options), outbox, bus))
    return [groups["I2C0"], groups["I2C1"], groups["UART"]]


def _bus(machine: "ModuleType", wire: str, rows: "list[Row]") -> I2CBus:
    """The bus, as fast as its slowest part."""
    controller, sda, scl = _I2C[wire]
    return I2CBus(machine, controller, sda, scl, min([I2C_FREQUENCY] + [row[4] for row in rows if row[2] == wire]))
