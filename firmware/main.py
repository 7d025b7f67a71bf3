"""Where the head starts: the board's own main.py (firmware/boot_main.py) imports it from the slot it picked."""

from drivers.portable import TYPE_CHECKING
from firmware.ring import Ring

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from firmware.head import Head

# Before anything else is imported: 64 kB in one piece are only certain in an empty heap.
RING = Ring()

# While modules are compiled the heap is swept this often: swept only when full, it ends with code scattered among what the compiler left,
# 46 kB free and no 5 kB in one piece (measured, heap of 192 kB).
_SWEEP_BYTES = 4096
_LAST_WORDS_MS = 200  # for the text to leave
_ERROR = 4  # firmware/starts.py


def forget(*names: str) -> None:
    """Give back the memory of modules that were only needed to put the head together."""
    import sys

    for name in names:
        if name in sys.modules:
            room, module = name.split(".")
            del sys.modules[name]
            delattr(sys.modules[room], module)


def restart(machine: "ModuleType", why: int) -> None:
    """Reset, and leave word of why for HELLO where there is memory for it (firmware/starts.py)."""
    memory = getattr(machine, "mem_backup", None)
    if memory is not None:
        words = memory()
        words[2] = why << 24 | words[1] >> 1 & 0x7F_FFFF
    machine.reset()


def put_together(machine: "ModuleType") -> "Head":
    """The head, in the order that needs the least memory at once: the drivers, and without the list of parts (6 kB) the rest."""
    import gc

    gc.threshold(_SWEEP_BYTES)
    import asyncio  # noqa: F401  # large: it finds its place now

    from firmware.parts import load

    rows, error = load()
    del load
    forget("firmware.parts", "drivers.addresses")
    from firmware.head import Head

    head = Head(RING, machine, rows, error)
    forget("firmware.board")
    gc.threshold(-1)
    return head


def run(slot: str = "", record: str = "", alive: "Callable[[], None] | None" = None) -> None:
    """Run the head until the power goes, from `slot` ("": from none, as in the simulated truck), on trial where the switch's `record` says
    so ("": not on trial); `alive` is called when the watchdog runs.

    An unexpected error is written to the line as text (the gateway counts a bad frame) and resets the chip: a head that has lost a task
    must not look alive."""
    import sys
    import time

    import machine
    import micropython

    micropython.kbd_intr(-1)  # 0x03 is data: it must not interrupt
    try:
        import asyncio

        from firmware.starts import begin

        start = begin(machine)
        del begin
        forget("firmware.starts")
        head = put_together(machine)
        head.slot = slot
        head.start = start
        asyncio.run(head.run(record, alive))
    except Exception as error:  # noqa: BLE001  # whatever it is, the answer is the same
        sys.print_exception(error)
        time.sleep_ms(_LAST_WORDS_MS)
    restart(machine, _ERROR)
