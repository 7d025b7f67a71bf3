"""Ctrl-C and SIGTERM end a live page in order: it notes the wish, and its own loop ends.

Who wished the end may wish it twice, or the terminal and a parent process both pass it on. So from the first wish on the signals stay
handled, also behind the `with`: the process is about to end, and what comes now must neither tear what it still prints nor make its exit
code that of an interrupted program (130)."""

import signal
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Ending:
    """`wished` is True from the first signal on. A context for the main thread; without a wish it leaves the signals as they were."""

    def __init__(self) -> None:
        self.wished = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Ending":
        for number in _SIGNALS:
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_IGN if self.wished else handler)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.wished = True
