"""start, poll and read_into of each driver, on CPython and on MicroPython."""

from collections.abc import Callable

import both_interpreters as both


@both.each_check(__file__, "buses_on_both.py")
def test_driver_on_both_interpreters(run: Callable[[], None]) -> None:
    run()
