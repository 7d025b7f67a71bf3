"""What the chip's own start does before boot.py, for MicroPython's unix port: the board's modules, its flash as a LittleFS, then boot.py
and main.py as rp2 runs them. Run with `-i`: what ends leads into the REPL.

The file system is formatted when it cannot be mounted, as rp2's `_boot.py` does it (facts 4). The block device is a file; each operation is
one write call, so a kill between two of them is a power cut between two. Environment: CRUISERS_FLASH, CRUISERS_BACKUP, CRUISERS_TRUCK_PORT;
CRUISERS_RAW says that it is a soft reset in the raw REPL, which runs boot.py but not main.py."""

import asyncio.core
import gc
import os
import sys
import time as _shim_time

import machine
import micropython as _builtin
import truck_wire as wire
import utime
import vfs

_BLOCK = 4096


class _Micropython:
    def __getattr__(self, name):
        return getattr(_builtin, name)

    @staticmethod
    def kbd_intr(char):
        wire.request[wire.BODY] = char & 0xFF
        wire.call(wire.INTERRUPT_CHAR, 1)


class _Timer:
    """Counts nothing: no test waits ten minutes."""

    ONE_SHOT = 0
    PERIODIC = 1

    def __init__(self, id=-1, **settings):
        pass

    def init(self, **settings):
        pass

    def deinit(self):
        pass


class _Flash:
    def __init__(self, path):
        self._file = open(path, "r+b")  # noqa: SIM115
        self._blocks = self._file.seek(0, 2) // _BLOCK

    def readblocks(self, block, buf, offset=0):
        self._file.seek(block * _BLOCK + offset)
        self._file.readinto(buf)

    def writeblocks(self, block, buf, offset=None):
        self._file.seek(block * _BLOCK + (offset or 0))
        self._file.write(buf)

    def ioctl(self, operation, argument):
        if operation == 4:
            return self._blocks
        if operation == 5:
            return _BLOCK
        if operation == 6:
            self._file.seek(argument * _BLOCK)
            self._file.write(b"\xff" * _BLOCK)
        return 0


sys.modules["micropython"] = _Micropython()
if not hasattr(machine, "Timer"):
    machine.Timer = _Timer
# The scheduler's task queue is C and counts the port's own ticks; its Python half must count the same, not the 30-bit ones of our `time`.
asyncio.core.ticks = utime.ticks_ms
asyncio.core.ticks_add = utime.ticks_add
asyncio.core.ticks_diff = utime.ticks_diff

_device = _Flash(os.getenv("CRUISERS_FLASH"))
_raw = os.getenv("CRUISERS_RAW")
vfs.umount("/")
try:
    vfs.mount(vfs.VfsLfs2(_device, progsize=256), "/")
except OSError:
    vfs.VfsLfs2.mkfs(_device, progsize=256)
    vfs.mount(vfs.VfsLfs2(_device, progsize=256), "/")
sys.path[:] = ["", ".frozen", "/lib"]
del sys, os, asyncio, utime, vfs, machine, _shim_time
gc.collect()
_Micropython.kbd_intr(3)


def _run(name):
    try:
        with open(name) as file:
            text = file.read()
    except OSError:
        return
    exec(compile(text, name, "exec"), {"__name__": "__main__"})


_run("boot.py")
if not _raw:
    _run("main.py")
