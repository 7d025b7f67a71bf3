"""The one small set of bus errors. Codes are the reasons of docs/formats.md section 1."""

from drivers.portable import const

NO_ACKNOWLEDGE = const(1)
TIME_OUT = const(2)
BUS_STUCK = const(3)
BAD_CHECKSUM = const(4)
WRONG_IDENTITY = const(5)
FIFO_OVERFLOW = const(6)
FIFO_ODD = const(7)
POWER_ON_VALUES = const(8)
OTHER = const(10)
FIFO_BROKEN = const(11)
HEATER_ON = const(12)
FAN_CLEANING = const(13)
DEVICE_FAULT = const(14)  # the device itself says that it is broken


class BusError(Exception):
    """Trouble with a chip or its bus; `code` is one of the constants above."""

    def __init__(self, code: int):
        super().__init__(code)
        self.code = code


# Who says "nobody answered" with which errno: rp2 hardware I2C EIO 5, SoftI2C ENODEV 19, Linux i2c-bcm2835 EREMOTEIO 121, other
# Linux adapters ENXIO 6; ETIMEDOUT is 110 everywhere.
_ERRNO = {5: NO_ACKNOWLEDGE, 19: NO_ACKNOWLEDGE, 121: NO_ACKNOWLEDGE, 6: NO_ACKNOWLEDGE, 110: TIME_OUT}


def code_of(error: OSError) -> int:
    """The code that says the same as `error` of machine.I2C, smbus2 or a serial port, OTHER if it is no bus's errno. Allocates nothing."""
    number: int = error.args[0] if error.args else 0  # rp2 raises OSError(5): args, not always .errno
    return _ERRNO.get(number, OTHER)


def from_oserror(error: OSError) -> BusError:
    """The BusError that says the same as `error`."""
    return BusError(code_of(error))
