"""The head's board: which pin is what, and the sensors that are fitted on it (hardware.md has the same tables)."""

from drivers.portable import TYPE_CHECKING
from firmware.bus import I2CBus
from firmware.outbox import Outbox
from firmware.parts import I2C0, I2C1, PARTS, UART0, UART1
from firmware.parts import STANDARD as STANDARD
from firmware.supervisor import Watched

if TYPE_CHECKING:
    from types import ModuleType

    from firmware.parts import Fit

I2C_FREQUENCY = 400_000
# controller, SDA, SCL (GP numbers). The AS7331 has a bus of its own: traffic disturbs its conversion.
I2C_MAIN = (0, 4, 5)
I2C_UV = (1, 6, 7)
# UART of the particle sensor: number, TX, RX; 256 bytes bridge a garbage collection and a flash erase.
UART_PM = (1, 8, 9)
UART_BUFFER = 256
# UART of a GNSS receiver, where the truck has none on its Pi.
UART_GNSS = (0, 0, 1)

_I2C = {I2C0: I2C_MAIN, I2C1: I2C_UV}
_UART = {UART0: UART_GNSS, UART1: UART_PM}


def sensors(machine: "ModuleType", outbox: Outbox, fit: "Fit") -> "list[list[Watched]]":
    """The supervised sensors of `fit`, in three lists: main I2C bus, UV bus, UARTs. `machine` is MicroPython's module."""
    main, uv = [_bus(machine, wire, fit) for wire in (I2C0, I2C1)]
    groups: list[list[Watched]] = [[], [], []]
    for name, address in fit.parts:
        number, _, wire, _, speed = PARTS[name]
        kind = fit.kinds[name]
        if wire in _UART:
            controller, tx, rx = _UART[wire]
            uart = machine.UART(controller, speed, tx=machine.Pin(tx), rx=machine.Pin(rx), rxbuf=UART_BUFFER)
            groups[2].append(Watched(number, kind(uart), outbox))
        else:
            bus = main if wire == I2C0 else uv
            groups[0 if wire == I2C0 else 1].append(Watched(number, kind(bus.i2c, address), outbox, bus))
    return groups


def _bus(machine: "ModuleType", wire: str, fit: "Fit") -> I2CBus:
    """The bus, as fast as its slowest part."""
    controller, sda, scl = _I2C[wire]
    frequency = min([I2C_FREQUENCY] + [PARTS[name][4] for name, _ in fit.parts if PARTS[name][2] == wire])
    return I2CBus(machine, controller, sda, scl, frequency)
