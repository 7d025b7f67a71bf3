"""The board's own main.py, as text in the root of its flash: starts the slot that firmware/slots.py picks, or waits in maintenance.

A slot is picked here and not in boot.py: mpremote's soft reset runs boot.py alone, and must not cost a version on trial a start. A
version that cannot be imported ends here: on trial the board is reset (that start is spent), else it stays in the REPL until the timer of
boot.py resets it."""

import sys


def run() -> None:
    """Start the version in a heap that nothing of this is left in; Ctrl-C in maintenance leads into the REPL."""
    import gc
    import time

    import machine

    from firmware import boot_duty, slots

    words, count = slots.begin(machine)
    slot, record = ("", "") if boot_duty.marked() else slots.pick()
    if not slot:
        slots.stay(words, count)
        print("maintenance: Ctrl-C for the REPL, back to duty in 10 min")
    while not slot:
        time.sleep(1)  # the timer of boot.py ends it
    del slots
    for name in ("firmware.slots", "firmware.boot_switch", "firmware.boot_duty", "firmware"):
        del sys.modules[name]  # from here on the room is the slot's
    sys.path.insert(0, "/" + slot)
    gc.collect()
    try:
        import firmware.main

        firmware.main.run(slot, record, boot_duty.stay)
    except Exception as error:  # noqa: BLE001  # whatever it is, the answer is the same
        sys.print_exception(error)
        words[2] = 4 << 24 | count  # error: starts.py
        if record:  # on trial
            machine.reset()


if __name__ == "__main__":
    run()
