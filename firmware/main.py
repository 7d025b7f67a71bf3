"""Where the head starts: the board's own main.py is `import firmware.main; firmware.main.run()`."""

from firmware.ring import Ring

# Before anything else is imported: 64 kB in one piece are only certain in an empty heap.
RING = Ring()

# While modules are compiled the heap is swept this often: swept only when full, it ends with code scattered among what the compiler left,
# 46 kB free and no 5 kB in one piece (measured, heap of 192 kB).
_SWEEP_BYTES = 4096
_LAST_WORDS_MS = 200  # for the text to leave


def forget() -> None:
    """Give the memory back (5 kB) of what was only needed to put the head together."""
    import sys

    import firmware

    for name in ("parts", "board"):
        del sys.modules["firmware." + name]
        delattr(firmware, name)


def run() -> None:
    """Run the head until the power goes. An unexpected error is written to the line as text (the gateway counts a bad frame) and resets the
    chip: a head that has lost a task must not look alive."""
    import gc
    import sys
    import time

    import machine
    import micropython

    micropython.kbd_intr(-1)  # 0x03 is data: it must not interrupt
    try:
        gc.threshold(_SWEEP_BYTES)
        import asyncio

        from firmware.parts import Fit

        fit = Fit()
        from firmware.head import Head

        head = Head(RING, machine, fit)
        del fit, Fit
        forget()
        gc.threshold(-1)
        asyncio.run(head.run())
    except Exception as error:  # noqa: BLE001  # whatever it is, the answer is the same
        sys.print_exception(error)
        time.sleep_ms(_LAST_WORDS_MS)
    machine.reset()
