"""Small tools for checks that run on CPython and MicroPython alike."""

import gc
import sys

try:
    import micropython

    gc.threshold(8192)  # swept only when full, the heap ends in pieces: the head does the same while it imports
except ImportError:
    micropython = None


def near(value, expected, tolerance):
    assert isinstance(value, (int, float)), value
    assert abs(value - expected) <= tolerance, (value, expected, tolerance)


def raises(kind, function, *arguments):
    """The exception of `kind` that the call raises."""
    try:
        function(*arguments)
    except kind as error:
        return error
    raise AssertionError("nothing was raised")


def without_heap(function):
    """Call `function` while MicroPython's heap is locked: any allocation is a MemoryError. On CPython it is only called."""
    if micropython is None:
        return function()
    micropython.heap_lock()
    try:
        return function()
    finally:
        micropython.heap_unlock()


def run(namespace):
    """Run every check of a file on MicroPython; the host reads the lines."""
    for name in sorted(namespace):
        if name.startswith("check_"):
            try:
                namespace[name]()
                print("#passed", name)
            except Exception as error:  # noqa: BLE001  # reported, and the next check runs
                print("#failed", name)
                sys.print_exception(error)
