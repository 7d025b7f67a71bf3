"""What every chip model shares: the types of its two connections to the world, and the register pointer of an I2C chip."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

# The physical values (SI, keyed by the quantity ids of logbook/quantities.py) at chip time t_us.
Source = Callable[[int], Mapping[str, float]]
# log(sensor, t_us, values): the exact values a conversion took, before the chip's rounding and clipping.
Log = Callable[[str, int, Mapping[str, float]], None]


def word(value: float, low: int = -32768, high: int = 32767) -> int:
    """`value` as the nearest number a register can hold; beyond it saturates, as the silicon does."""
    return max(low, min(high, round(value)))


class RegisterFace(ABC):
    """The I2C face of a chip with 8-bit registers: the first byte written sets the pointer, data moves it on."""

    address = 0

    def __init__(self) -> None:
        self._pointer = 0
        self._pointer_next = False

    def start(self, read: bool) -> bool:
        """Acknowledges its address always; after a start for writing the next byte is the register pointer."""
        self._pointer_next = not read
        return True

    def write(self, byte: int) -> bool:
        """The pointer, then data for the register it points at."""
        if self._pointer_next:
            self._pointer = byte
            self._pointer_next = False
        else:
            self.put(self._pointer, byte)
            self._pointer = self.after(self._pointer)
        return True

    def read(self) -> int:
        """The register the pointer points at; the pointer moves on."""
        value = self.get(self._pointer)
        self._pointer = self.after(self._pointer)
        return value

    def stop(self) -> None:
        """The stop condition: nothing is pending in a register chip."""
        self._pointer_next = False

    def after(self, register: int) -> int:
        """The register that follows `register` in a burst."""
        return (register + 1) & 0xFF

    @abstractmethod
    def get(self, register: int) -> int:
        """The byte of one register, with the side effects of reading it."""

    @abstractmethod
    def put(self, register: int, value: int) -> None:
        """Writes one register, with its side effects."""
