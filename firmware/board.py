"""The head's board: which pin is what, which chip sits where (hardware.md has the same table)."""

from drivers.as7331 import AS7331
from drivers.bmp390 import BMP390
from drivers.icm20948 import ICM20948
from drivers.opt3001 import OPT3001
from drivers.portable import TYPE_CHECKING
from drivers.sht45 import SHT45
from drivers.sps30 import SPS30
from firmware.bus import I2CBus
from firmware.outbox import Outbox
from firmware.supervisor import Watched

if TYPE_CHECKING:
    from types import ModuleType

I2C_FREQUENCY = 400_000
# controller, SDA, SCL (GP numbers). The AS7331 has a bus of its own: traffic disturbs its conversion.
I2C_MAIN = (0, 4, 5)
I2C_UV = (1, 6, 7)
# UART of the SPS30: number, TX, RX; 256 bytes bridge a garbage collection and a flash erase.
UART_PM = (1, 8, 9)
UART_BAUD = 115_200
UART_BUFFER = 256

ICM20948_ADDRESS = 0x68
BMP390_ADDRESS = 0x77
SHT45_ADDRESS = 0x44
OPT3001_ADDRESS = 0x45
AS7331_ADDRESS = 0x74


def sensors(machine: "ModuleType", outbox: Outbox) -> "list[list[Watched]]":
    """The supervised sensors, one list for each bus. `machine` is MicroPython's module."""
    main = I2CBus(machine, I2C_MAIN[0], I2C_MAIN[1], I2C_MAIN[2], I2C_FREQUENCY)
    uv = I2CBus(machine, I2C_UV[0], I2C_UV[1], I2C_UV[2], I2C_FREQUENCY)
    number, tx, rx = UART_PM
    uart = machine.UART(number, UART_BAUD, tx=machine.Pin(tx), rx=machine.Pin(rx), rxbuf=UART_BUFFER)
    return [
        [
            Watched(1, ICM20948(main.i2c, ICM20948_ADDRESS), outbox, main),
            Watched(2, BMP390(main.i2c, BMP390_ADDRESS), outbox, main),
            Watched(3, SHT45(main.i2c, SHT45_ADDRESS), outbox, main),
            Watched(4, OPT3001(main.i2c, OPT3001_ADDRESS), outbox, main),
        ],
        [Watched(5, AS7331(uv.i2c, AS7331_ADDRESS), outbox, uv)],
        [Watched(6, SPS30(uart), outbox)],
    ]
