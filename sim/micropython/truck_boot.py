"""What the board does before the program: gives `micropython` its kbd_intr, then runs the module named on the command line.

The built-in module `micropython` is not found on the path and takes no attributes, but an object in sys.modules stands in for it. The
interrupt character is imitated by sim/head.py, which sees the bytes of the USB serial; the unix port's own kbd_intr would only change
signals.
"""

import asyncio.core
import gc
import sys

import machine  # noqa: F401  (on the board it is in flash: here its compilation must not scatter the program's heap)
import micropython as _builtin
import truck_wire as wire
import utime


class _Micropython:
    def __getattr__(self, name):
        return getattr(_builtin, name)

    @staticmethod
    def kbd_intr(char):
        """Byte `char` on the serial line interrupts the program; -1: none does."""
        wire.request[wire.BODY] = char & 0xFF
        wire.call(wire.INTERRUPT_CHAR, 1)


sys.modules["micropython"] = _Micropython()

# The scheduler's task queue is C and counts the port's own ticks; its Python half must count the same, not the 30-bit ones of our `time`.
asyncio.core.ticks = utime.ticks_ms
asyncio.core.ticks_add = utime.ticks_add
asyncio.core.ticks_diff = utime.ticks_diff

gc.collect()
_name = sys.argv[1]
__import__(_name)
_program = sys.modules[_name]
if hasattr(_program, "run"):
    _program.run()
