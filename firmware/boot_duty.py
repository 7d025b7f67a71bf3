"""Maintenance and the way back to duty: the marker that survives a reset, and the timer that ends every stay in the REPL.

It stands on the board's flash outside of the slots, as firmware/slots.py does, and imports nothing of ours. The RP2040's watchdog cannot be
stopped once it runs, so maintenance is a marker and a reset: the next start runs no version and no watchdog, and listens to Ctrl-C."""

import os

MAINTENANCE_MS = 600_000  # then back to duty

_MARKER = "maintenance"  # a folder, where there is no backup memory
_MARK = 0x2D4D414E  # in the backup memory; below 2**30: a small integer
_EXISTS = 17

_timer = None


def _backup() -> "memoryview | None":
    import machine

    memory = getattr(machine, "mem_backup", None)  # since MicroPython 1.29
    return None if memory is None else memory()


def mark() -> None:
    """The next start leads into maintenance, once. OSError where the flash refuses."""
    memory = _backup()
    if memory is None:
        try:
            os.mkdir(_MARKER)  # a running head has no memory for a file (1.2 kB)
        except OSError as error:
            if error.args[0] != _EXISTS:
                raise
    else:
        memory[0] = _MARK


def marked() -> bool:
    """Whether the marker stands; takes it away."""
    memory = _backup()
    found = memory is not None and memory[0] == _MARK
    if memory is not None and found:
        memory[0] = 0
    try:
        os.remove(_MARKER)
    except OSError:  # there is none: the usual case
        return found
    return True


def arm() -> None:
    """Reset the board in 10 min, unless it is `stay`ed: no head is left in the REPL for ever."""
    global _timer
    import machine

    _timer = machine.Timer(-1, period=MAINTENANCE_MS, mode=machine.Timer.ONE_SHOT, callback=lambda _: machine.reset())


def stay() -> None:
    """No reset after 10 min."""
    global _timer
    if _timer is not None:
        _timer.deinit()
        _timer = None
