"""How often the board started since its power came, and why the program itself reset it last: words in memory that survives a reset.

`machine.mem_backup()`, since MicroPython 1.29, is on the RP2040 the watchdog's scratch registers 0 to 3, four words that a reset leaves and
a power cut takes (ports/rp2/machine_mem_backup.c; 4 to 7 are the SDK's, and the bootrom writes 0 and 1 on the way into BOOTSEL). Word 0 is
firmware/boot_duty.py's. Word 1 counts: a mark in its highest byte, twice the number of starts, and 1 more where the board's main.py counted
a start that no version has read yet. Word 2: why a reset was made, in its highest byte, and the number of the start that made it: so it
speaks of no reset but that one. The board's main.py writes the same words (firmware/slots.py, boot_main.py).

Counted is each start of a main.py or version that can count, from 1 when the power comes. Imported at a start only, then forgotten."""

from drivers.portable import TYPE_CHECKING, const

if TYPE_CHECKING:
    from types import ModuleType

_COUNT_MARK = const(0x2B)
_COUNT = const(0x7F_FFFF)

# Of firmware/leave.py, main.py and boot_main.py, from 1 on.
MARKERS = ("maintenance", "fan running", "trial over", "error")


def begin(machine: "ModuleType") -> "tuple[int, str]":
    """(number of this start, why the program itself made the reset before it); 0 where there is no such memory, "" where it did not."""
    memory = getattr(machine, "mem_backup", None)
    if memory is None:
        return 0, ""
    words = memory()
    count = words[1] >> 1 & _COUNT if words[1] >> 24 == _COUNT_MARK else 0
    if not count or not words[1] & 1:  # the board's main.py is of an older version, or there is none
        count += 1
    words[1] = _COUNT_MARK << 24 | count << 1
    why = words[2]
    words[2] = 0
    if count == 1 or why & _COUNT != count - 1 or not why >> 24:
        return count, ""
    return count, MARKERS[(why >> 24) - 1] if why >> 24 <= len(MARKERS) else str(why >> 24)
