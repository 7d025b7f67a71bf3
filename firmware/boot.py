"""The board's own boot.py, as text in the root of its flash: before main.py, and alone before a raw REPL after a soft reset."""

from firmware import boot_duty

boot_duty.arm()
