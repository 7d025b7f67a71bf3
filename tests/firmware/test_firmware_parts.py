"""Frames, ring, outbox, link, supervisor and the list of parts, on CPython and on MicroPython."""

from collections.abc import Callable

import both_interpreters as both


@both.each_check(__file__, "frames_on_both.py", "supervisor_on_both.py", "head_parts_on_both.py", "parts_on_both.py")
def test_part_on_both_interpreters(run: Callable[[], None]) -> None:
    run()
