"""Which byte of a flashing a flip hit, and why that did no harm: for `make flash-long`.

A flipped byte may end in a passport only for one of the reasons in `HARMLESS`; each is proved of the very byte, from what was on the line
and what the host did after it. Anything else is said as UNEXPLAINED, and fails the long form."""

import ast
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mpremote.transport_serial import SerialTransport  # type: ignore[import-untyped]  # it has no types

from firmware import frames
from gateway.head_duty import Duty
from gateway.head_repl import Repl
from sim.unit import Trouble, Unit

TO_UNIT, TO_HOST = 0, 1
NOT_HIT = "behind the end of the session"
NOTICED = "noticed: {} failed, and was done again"
FRAME = "a frame with a wrong CRC: dropped; another one was asked or waited for"
NO_FRAME = "outside of any frame, on duty: dropped"
FLUSHED = "before the greeting of the raw REPL: what is in the port then is thrown away"
RESTART = "text of the board's start: nobody reads it"
CONTROL = "Ctrl-C, Ctrl-A or CR before the session: the greeting came all the same"
RESET = "the echo of the reset: nobody waits for it"
SPELLING = "another spelling of the same code: the unit found its CRC right"
PROMPT = "the prompt after the last command: nobody waits for it"
UNEXPLAINED = "UNEXPLAINED"
HARMLESS = (NOT_HIT, "noticed:", FRAME, NO_FRAME, FLUSHED, RESTART, CONTROL, RESET, SPELLING, PROMPT)
_NEAR = 600  # bytes of the line kept around the flip


@dataclass
class Hit:
    """The flipped byte: in what the host did, how many bytes of that way since that began, and the line around it, as sent and as it came
    out."""

    way: int
    doing: str
    since: int
    before: bytes
    sent: bytes
    came: bytes
    after: bytearray = field(default_factory=bytearray)

    @property
    def line(self) -> tuple[bytes, bytes]:
        """The line around the flip: as sent, and as it came out."""
        return self.before + self.sent + self.after, self.before + self.came + self.after


class Watched(Unit):
    """A unit that knows what the host does, and keeps what was on the line around a flip."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self.hit: Hit | None = None
        self.doing: list[str] = []
        self.next_end: tuple[str, bool] | None = None  # the first step of the host's that ended after the flip, and whether in vain
        self._near = [bytearray(), bytearray()]
        self._began = [0, 0]
        super().__init__(*arguments, **named)

    def arm(self, trouble: Trouble) -> None:
        """As Unit's; what was seen is forgotten."""
        self.hit = None
        self.next_end = None
        self.doing = []
        self._near = [bytearray(), bytearray()]
        self._began = [0, 0]
        super().arm(trouble)

    def begin(self, what: str) -> None:
        """The host does `what` from here on."""
        self.doing.append(what)
        self._began = list(self.moved)

    def end(self, failed: bool) -> None:
        """It is done."""
        what = self.doing.pop()
        if self.hit is not None and self.next_end is None:
            self.next_end = what, failed

    def _spoilt(self, data: bytes, way: int) -> bytes:
        first = self.moved[way]
        at = (self.trouble.to_unit, self.trouble.to_host)[way] - first
        came = super()._spoilt(data, way)
        if 0 <= at < len(data):
            doing = self.doing[-1] if self.doing else ""
            self.hit = Hit(
                way, doing, first + at - self._began[way], bytes(self._near[way]) + data[:at], data[at : at + 1], came[at : at + 1]
            )
            self.hit.after += data[at + 1 :]
        elif self.hit is not None and self.hit.way == way and len(self.hit.after) < _NEAR:
            self.hit.after += data
        self._near[way] += data
        del self._near[way][:-_NEAR]
        return came


def why_harmless(unit: Watched) -> str:
    """One of HARMLESS, or UNEXPLAINED and where."""
    hit = unit.hit
    if hit is None:
        return NOT_HIT
    if hit.doing in ("hello", "self-test", "command"):
        return _on_duty(hit)
    if unit.next_end is not None and unit.next_end[1] and unit.next_end[0] not in ("hello", "port"):
        return NOTICED.format(unit.next_end[0])
    if hit.doing == "greeting":
        return CONTROL if hit.way == TO_UNIT else FLUSHED
    if hit.way == TO_HOST and hit.sent == b">" and not hit.after:
        return PROMPT
    if hit.doing == "reset" and hit.way == TO_HOST:
        return RESET
    if hit.doing in ("", "port") and hit.way == TO_HOST:
        return _between(hit)
    if hit.way == TO_UNIT and _same_code(hit):
        return SPELLING
    return f"{UNEXPLAINED}: {'to unit' if hit.way == TO_UNIT else 'to host'}, in {hit.doing or 'nothing'}, byte {hit.since}"


def _on_duty(hit: Hit) -> str:
    """The damaged line must give no frame that the sent one does not."""
    sent, came = (_frames(line) for line in hit.line)
    if not came <= sent:
        return f"{UNEXPLAINED}: a frame that was not sent"
    return FRAME if came < sent else NO_FRAME


def _between(hit: Hit) -> str:
    answer = _on_duty(hit)
    return RESTART if answer == NO_FRAME else answer


def _frames(line: bytes) -> Counter[str]:
    return Counter(repr(frame) for frame in frames.Decoder().feed(line))


def _same_code(hit: Hit) -> bool:
    """Whether the damaged command `_c(crc, code)` says the same. (MicroPython's crc32 takes a text, too: b'...' may become r'...'.)"""
    if hit.before.endswith(b", ") and hit.sent == b"b" and hit.came in (b"r", b"f"):
        return True
    texts = []
    for line in hit.line:
        start = line.rfind(b"_c(", 0, len(hit.before) + 1)
        end = line.find(b"\x04", start)
        try:
            texts.append(ast.literal_eval(line[start + 2 : end if end >= 0 else None].decode()))
        except (ValueError, SyntaxError):
            return False
    return bool(texts[0] == texts[1])


_here = threading.local()


def watching(unit: Watched) -> None:
    """What this thread does from here on, it does to `unit`."""
    _here.unit = unit


def _told(name: str, method: Callable[..., Any], failed: Callable[[Any], bool] = lambda answer: False) -> Callable[..., Any]:
    def watched(*arguments: Any, **named: Any) -> Any:
        unit = getattr(_here, "unit", None)
        if unit is None:
            return method(*arguments, **named)
        unit.begin(name)
        bad = True
        try:
            answer = method(*arguments, **named)
            bad = failed(answer)
            return answer
        finally:
            unit.end(bad)

    return watched


def watch() -> None:
    """From here on the host's steps are told to the unit of the thread that does them."""
    Repl.__init__ = _told("entering the REPL", Repl.__init__)  # type: ignore[method-assign]
    Repl.call = _told("a command", Repl.call)  # type: ignore[method-assign]
    Repl.reset = _told("reset", Repl.reset)  # type: ignore[method-assign]
    SerialTransport.enter_raw_repl = _told("greeting", SerialTransport.enter_raw_repl)
    Duty.__init__ = _told("port", Duty.__init__)  # type: ignore[method-assign]
    Duty.hello = _told("hello", Duty.hello, lambda answer: answer is None)  # type: ignore[method-assign]
    Duty.command = _told("command", Duty.command)  # type: ignore[method-assign]
    Duty.self_test = _told("self-test", Duty.self_test)  # type: ignore[method-assign]
