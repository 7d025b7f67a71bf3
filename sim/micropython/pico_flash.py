"""A Pico's flash on the unix port: LittleFS on a file that stands for the chip, its power cut at any operation, and the board's start.

    micropython pico_flash.py FLASH CUT BYTES HOST start|blank|FILE [LOG]

FLASH is a file of 352 blocks of 4096 bytes. CUT is the number of the operation (program or erase, from 0) that is cut after BYTES of its
bytes ("half", "less": all but one); -1: none. Then the program ends without another byte. HOST is a folder that is seen as /host. `start`
does what rp2's main.c does after a reset: `_boot.py` (mount; format where that fails, and say so), boot.py, main.py; `blank` formats; FILE
is run like a raw REPL's input, after boot.py. The last line of the output is `#operations N`. LOG, if given, gets a record of every use of
the flash before it happens: `<BII`: "r", "p" or "e" (read, program, erase), position, size; after a "p" the bytes that are programmed.

As on the real chip a program only clears bits, and an erase sets them. Not imitated: bits of a half erased block that read now so, now
so."""

import gc
import struct
import sys

import utime as _time  # beside this file stands a `time` for another purpose
import vfs

BLOCK, BLOCKS, PAGE = 4096, 352, 256


class Off(BaseException):
    """The power is gone."""


class Flash:
    """The chip, as rp2.Flash: reads any bytes, programs pages, erases blocks."""

    def __init__(self, path, cut, part, log):
        self._file = open(path, "r+b")  # noqa: SIM115  # until the power goes
        self._log = open(log, "wb") if log else None  # noqa: SIM115
        self._record = bytearray(1152 if log else 0)  # many records in one write: a start reads the flash a thousand times
        self._recorded = 0
        self._cut = cut
        self._part = part
        self._on = True
        self.operations = 0

    def readblocks(self, block, buf, offset=0):
        self._note(114, block * BLOCK + offset, len(buf))
        self._file.seek(block * BLOCK + offset)
        self._file.readinto(buf)

    def writeblocks(self, block, buf, offset=None):
        if offset is None:
            self.ioctl(6, block)
            offset = 0
        self._note(112, block * BLOCK + offset, len(buf), buf)
        end = self._power(len(buf))
        self._file.seek(block * BLOCK + offset)
        old = self._file.read(end)
        new = bytes(buf[:end]) if old == b"\xff" * end else bytes([old[i] & buf[i] for i in range(end)])
        self._put(block * BLOCK + offset, new, end == len(buf))

    def ioctl(self, operation, argument):
        if operation == 4:
            return BLOCKS
        if operation == 5:
            return BLOCK
        if operation == 6:
            self._note(101, argument * BLOCK, BLOCK)
            end = self._power(BLOCK)
            self._put(argument * BLOCK, b"\xff" * end, end == BLOCK)
        return 0

    def _note(self, kind, position, size, data=b""):
        if self._log and self._on:
            if self._recorded + 9 + len(data) > len(self._record):
                self.write_log()
            struct.pack_into("<BII", self._record, self._recorded, kind, position, size)
            self._recorded += 9
            self._record[self._recorded : self._recorded + len(data)] = data
            self._recorded += len(data)

    def write_log(self):
        """What was recorded is in the file."""
        if self._log:
            self._log.write(memoryview(self._record)[: self._recorded])
            self._recorded = 0

    def _power(self, size):
        """How many of the operation's bytes are done."""
        if not self._on:
            raise Off
        number = self.operations
        self.operations += 1
        if number != self._cut:
            return size
        self._on = False
        return size // 2 if self._part == "half" else size - 1 if self._part == "less" else min(int(self._part), size)

    def _put(self, position, data, whole):
        self._file.seek(position)
        self._file.write(data)
        if not self._on:
            self._file.flush()
            raise Off


class Machine:
    """As much of the RP2040 as the loader sees, without memory that survives a reset (it came with 1.29); a reset ends the program."""

    class Timer:
        ONE_SHOT = 0

        def __init__(self, id, period, mode, callback):
            print("#timer", period)

        def deinit(self):
            print("#timer off")

    class WDT:
        """The head's own life, until every task came round once: no chip and no gateway answers it here, so a version on trial is told at
        once that it is well."""

        def __init__(self, timeout):
            gc.collect()
            print("\n#watchdog", gc.mem_free())
            if "firmware.boot_trial" in sys.modules:
                sys.modules["firmware.boot_trial"].Trial.step = lambda trial, now: 1

        def feed(self):
            raise Off

    class Pin:
        IN = OUT = OPEN_DRAIN = PULL_UP = 1

        def __init__(self, *arguments, **named):
            pass

        def value(self, level=1):
            return level

    class I2C:
        """Empty buses."""

        def __init__(self, *arguments, **named):
            pass

        def writeto(self, *arguments):
            raise OSError(5)

        readfrom_into = readfrom_mem_into = writeto_mem = writeto

    class UART:
        def __init__(self, *arguments, **named):
            pass

        def init(self, *arguments, **named):
            pass

        def any(self):
            return 0

        def write(self, data):
            return len(data)

    PWRON_RESET = 1
    WDT_RESET = 3

    @staticmethod
    def reset_cause():
        return Machine.PWRON_RESET

    @staticmethod
    def unique_id():
        return bytes(8)

    @staticmethod
    def reset():
        print("#reset")
        raise SystemExit


class _Time:
    """Nobody waits for ten minutes: the first second of a stay in maintenance ends the program."""

    @staticmethod
    def sleep(seconds):
        raise Off

    def __getattr__(self, name):
        return getattr(_time, name)


def mounted(flash):
    """What rp2's _boot.py does."""
    try:
        return vfs.VfsLfs2(flash, progsize=PAGE)
    except Exception:  # noqa: BLE001  # as there
        print("#formatted")
        vfs.VfsLfs2.mkfs(flash, progsize=PAGE)
        return vfs.VfsLfs2(flash, progsize=PAGE)


def run(path):
    """A file of the board's, in the namespace of its REPL."""
    try:
        with open(path) as file:
            code = compile(file.read(), path, "exec")  # its text is not kept: a board reads it from the flash as it compiles
    except OSError:
        return False
    exec(code, {"__name__": "__main__"})
    return True


flash = Flash(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[6] if len(sys.argv) > 6 else "")
what = sys.argv[5]
host = sys.argv[4]
sys.modules["machine"] = Machine
sys.modules["time"] = _Time()
sys.path[:] = ["", ".frozen", "/lib"]
try:
    if what == "blank":
        vfs.VfsLfs2.mkfs(flash, progsize=PAGE)
    else:
        board = mounted(flash)
        host = vfs.VfsPosix(host)
        vfs.umount("/")
        vfs.mount(board, "/")
        vfs.mount(host, "/host")
        run("boot.py")
        if what != "start":
            run("/host/" + what)
        elif not run("main.py"):
            print("#REPL")
except Off:
    print("#off" if not flash._on else "#waits")
except SystemExit:
    pass
except Exception as error:  # noqa: BLE001  # the REPL says them all
    sys.print_exception(error, sys.stdout)
    print("#REPL")
flash.write_log()
print("#operations", flash.operations)
