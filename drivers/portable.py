"""What every driver needs on MicroPython and CPython alike: `const` and arithmetic on wrapping millisecond ticks.

A tick is a millisecond count modulo 2**30, as MicroPython's `time.ticks_ms` gives it on the RP2040: the differences below stay within
its 31-bit small integers, so they allocate nothing."""

TYPE_CHECKING = False  # type checkers take it for True; MicroPython has no typing

if TYPE_CHECKING:

    def const(value: int) -> int:
        """`value` itself; MicroPython's compiler folds it into the code."""
        return value

else:
    try:
        from micropython import const
    except ImportError:  # CPython

        def const(value):
            """`value` itself: only MicroPython's compiler folds constants."""
            return value


_MASK = const(0x3FFF_FFFF)
_HALF = const(0x2000_0000)


def elapsed(now: int, then: int) -> int:
    """Milliseconds from `then` to `now`; `then` is never the later one."""
    return (now - then) & _MASK


def reached(now: int, moment: int) -> bool:
    """Whether `moment` is not after `now` (both within 2**29 ms = 6.2 days of each other)."""
    return ((now - moment) & _MASK) < _HALF


def later(tick: int, milliseconds: int) -> int:
    """The tick `milliseconds` (at most 2**29) after `tick`."""
    return (tick - (_MASK - milliseconds) - 1) & _MASK  # tick + milliseconds could exceed 2**30


def following(planned: int, period: int, now: int) -> int:
    """The turn after `planned`, `period` ms later; more than a period late the pace is kept from `now`, nothing is caught up."""
    planned = later(planned, period)
    return later(now, period) if reached(now, planned) else planned
