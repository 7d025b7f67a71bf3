"""What chip models share: the types of their two connections to the world, and the mechanics of their wires: register pointers on I2C and
what waits to be sent on a UART. What a register or a message means is each chip's own."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Literal

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


class WordFace(ABC):
    """The I2C face of a chip with 16-bit registers: the first byte written sets the pointer, two more are a word for that register."""

    ORDER: Literal["big", "little"]  # of the two bytes
    BEHIND = b""  # what is read behind a word, before that word comes again

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """A brown-out: the pointer is at register 0, nothing is half written or half read."""
        self._pointer = 0
        self._bytes: list[int] = []
        self._output: list[int] = []

    def start(self, read: bool) -> bool:
        """Acknowledges its address always; after a start for writing the next byte is the register pointer."""
        if not read:
            self._bytes = []
        self._output = []
        return True

    def write(self, byte: int) -> bool:
        """Pointer and the two bytes of a word; more are not acknowledged."""
        self._bytes.append(byte)
        if len(self._bytes) == 1:
            self._pointer = byte
        elif len(self._bytes) == 3:
            self.put(self._pointer, int.from_bytes(self._bytes[1:], self.ORDER))
        return len(self._bytes) <= 3

    def read(self) -> int:
        """The word at the pointer byte by byte, and what the chip sends behind it; then the same anew."""
        if not self._output:
            self._output = [*self.get(self._pointer).to_bytes(2, self.ORDER), *self.BEHIND]
        return self._output.pop(0)

    def stop(self) -> None:
        """The stop condition: half a word is forgotten, the pointer stays."""
        self._bytes = []
        self._output = []

    @abstractmethod
    def get(self, register: int) -> int:
        """The word of one register, with the side effects of reading it."""

    @abstractmethod
    def put(self, register: int, value: int) -> None:
        """Writes one register, with its side effects."""


class SerialOutput:
    """The sending side of a chip on a UART: what it says waits in `_output` until the line takes it."""

    def __init__(self) -> None:
        self._output = bytearray()

    def any(self) -> int:
        """Bytes waiting to be sent."""
        return len(self._output)

    def read(self, count: int) -> bytes:
        """Takes at most `count` bytes of what it sends."""
        taken = bytes(self._output[:count])
        del self._output[:count]
        return taken
