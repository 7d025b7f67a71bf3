"""A unit's raw REPL: mpremote's SerialTransport (1.29, pinned: its own comment says that its interface is not stable), with everything
verified that goes through it.

mpremote verifies nothing: one flipped byte on the line gave exit code 0 and a wrong file (facts 5.3). So here

- every piece of code goes with its CRC-32, which the unit checks before it runs it (`_FIRST`, `_CHECKED`), and every answer comes back
  with one; from the greeting on every byte heard must be the one that is due there, or the session ends (`_EXCHANGE`);
- a file is written beside its name, its SHA-256 is computed on the unit from what the flash gives back, and only then it is renamed;
- every read, write and wait ends at the deadline of `limit`: mpremote alone waits for ever where the expected text never comes. The
  process that runs a session has a time limit of its own beside that (gateway/head_process.py).

So one flipped byte on the line of a session is an error, or nothing that anybody used; docs/updates.md says of which byte that was shown.

Errors: LineError, whatever went wrong. The unit may then be anywhere; a new run finds out."""

import base64
import binascii
import contextlib
import hashlib
import json
import re
import struct
import termios
import time
from collections.abc import Callable, Iterator
from typing import Any

import serial
from mpremote import transport_serial  # type: ignore[import-untyped]  # it has no types
from mpremote.transport import TransportError  # type: ignore[import-untyped]

READ_S = 0.5  # the longest single wait; the deadline is looked at between two
WRITE_S = 5.0
CALL_S = 5.0  # an ordinary command: at most 768 bytes to the flash
LONG_CALL_S = 30.0  # hashes a slot or all of the flash: 120 kB take the RP2040 some seconds
PIECE = 768  # bytes of a file in one command: 1 kB in base64, well within a head's heap
_PATHS = 8  # hashes in one answer
_REPL_S = 1.0
RESET_S = 0.2  # until the port is gone; a real one comes back after about a second

# One exchange: prompt, raw paste and its window, a 01 for each window that the unit has taken, its acknowledgement, output, error text.
_EXCHANGE = re.compile(rb">R\x01(..)\x01*\x04([^\x04]*)\x04([^\x04]*)\x04", re.DOTALL)

# What goes over first runs only where its CRC is right: any other number is no key there.
_FIRST = b"import binascii\ns=%r\nexec({%d:s}[binascii.crc32(s)])"

# On the unit. `_c` runs code only when its CRC is right, and says the answer, as JSON in base64, with one. What a session before this one
# left open is closed: a half-written file that only the collector freed hung the file system at the next open (seen).
_CHECKED = b"""
import binascii, gc, hashlib, json, os
try:
    _g['file'].close()
except Exception:
    pass
_g = {}
def _c(crc, code):
    if binascii.crc32(code) != crc:
        print('damaged on the way')
        return
    _g['answer'] = None
    gc.collect()
    exec(code, _g)
    text = json.dumps(_g['answer']).encode()
    print('%08x %s' % (binascii.crc32(text), binascii.b2a_base64(text).decode().strip()))
"""
_HELPERS = """
import binascii, hashlib, json, os
def measured(path):
    hasher = hashlib.sha256()
    piece = bytearray(512)
    view = memoryview(piece)
    size = 0
    with open(path, 'rb') as file:
        while True:
            count = file.readinto(piece)
            if not count:
                return [size, binascii.hexlify(hasher.digest()).decode()]
            hasher.update(view[:count])
            size += count
def walk(folder, found):
    for entry in os.ilistdir(folder or '/'):
        path = folder + '/' + entry[0]
        if entry[1] & 0x4000:
            walk(path, found)
        else:
            found.append(path[1:])
    return found
def folders(path):
    names = path.split('/')[:-1]
    for count in range(1, len(names) + 1):
        try:
            os.mkdir('/'.join(names[:count]))
        except OSError as error:
            if error.args[0] != 17:
                raise
"""

transport_serial.print = lambda *_: None  # it prints what it did not expect, in the middle of our bars


class LineError(Exception):
    """The line or the unit at its end did not do what it should; one line says what."""


class BusyError(LineError):
    """The port is another process's now."""


class _Deadline:
    """A serial port whose every use ends at `until` (monotonic seconds)."""

    def __init__(self, port: Any) -> None:
        self._port = port
        self.until = 0.0
        self.heard = bytearray()

    def __getattr__(self, name: str) -> Any:
        if time.monotonic() > self.until:
            raise LineError("no answer in time")
        return getattr(self._port, name)

    def read(self, size: int) -> bytes:
        """What came, kept in `heard`."""
        data = bytes(self.__getattr__("read")(size))
        self.heard += data
        return data

    def close(self) -> None:
        """Closes the port, also after the deadline."""
        self._port.close()


class Repl:
    """The raw REPL at `port`; LineError if nothing there speaks it. Close it, or use it as a context."""

    def __init__(self, port: str, wait_s: float = _REPL_S) -> None:
        with _line_errors():
            self._transport = transport_serial.SerialTransport(port, timeout=READ_S)
            self._transport.serial.write_timeout = WRITE_S
            self._port = _Deadline(self._transport.serial)
            self._transport.serial = self._port
            # So it reads with the port's time-out instead of sleeping 10 ms between two looks.
            self._transport.is_pty = True
            self._window = b""  # as the unit said it first
            try:
                self._enter(wait_s)
            except BaseException:
                self._port.close()
                raise

    def __enter__(self) -> "Repl":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _enter(self, wait_s: float) -> None:
        self._port.until = time.monotonic() + wait_s
        self._transport.enter_raw_repl(soft_reset=False, timeout_overall=wait_s)
        if self._exchange(_FIRST % (_CHECKED, binascii.crc32(_CHECKED)), CALL_S):
            raise LineError("the unit said what it was not asked")
        self.call(_HELPERS)

    def close(self) -> None:
        """Gives the port back; the unit stays in its raw REPL."""
        with contextlib.suppress(OSError):  # it may be gone
            self._port.close()

    def call(self, code: str, limit_s: float | None = None) -> Any:
        """Runs `code` on the unit; what it leaves in `answer`, as JSON. LineError: the unit raised, or its answer is damaged or late."""
        reply = self._exchange(_checked(code), CALL_S if limit_s is None else limit_s)
        with contextlib.suppress(ValueError):  # said in the next line, as every other damage
            answer = base64.b64decode(reply[9:], validate=False)
            text = b"%08x %s" % (binascii.crc32(answer), base64.b64encode(answer))
            if reply in (text + b"\r\n", text + b"\n"):  # as rp2 and the unix port end a line
                return json.loads(answer)
        raise LineError(f"the answer was damaged: {reply[:40]!r}")

    def _exchange(self, command: bytes, limit_s: float) -> bytes:
        """What the unit prints. LineError: it raised, or anything came that is not due."""
        self._port.until = time.monotonic() + limit_s
        self._port.heard.clear()
        with _line_errors():
            self._transport.exec_raw(command, timeout=limit_s)
        heard = _EXCHANGE.fullmatch(self._port.heard)
        window, reply, trouble = heard.groups() if heard else (b"", b"", b"")
        if heard is None or window != (self._window or window):
            raise LineError("the unit's answer was damaged")
        self._window = window
        if trouble:
            raise LineError(f"on the unit: {_last_line(trouble)}")
        return reply

    def tree(self) -> dict[str, tuple[int, str]]:
        """Every file on the flash: (size, SHA-256 in hex) by path."""
        paths = [str(path) for path in self.call("answer = walk('', [])", LONG_CALL_S)]
        found: dict[str, tuple[int, str]] = {}
        for start in range(0, len(paths), _PATHS):  # all at once would need more heap than a program that was interrupted leaves
            some = paths[start : start + _PATHS]
            measured = self.call(f"answer = [measured(path) for path in {some!r}]", LONG_CALL_S)
            found.update({path: (int(size), str(digest)) for path, (size, digest) in zip(some, measured, strict=True)})
        return found

    def read(self, path: str, limit: int) -> bytes:
        """A small file. LineError if there is none or it is larger than `limit` bytes."""
        text = self.call(f"with open({path!r}, 'rb') as file:\n answer = binascii.b2a_base64(file.read({limit + 1})).decode()")
        content = base64.b64decode(text)
        if len(content) > limit:
            raise LineError(f"{path}: more than {limit} bytes")
        return content

    def write(self, path: str, content: bytes, moved: Callable[[int], None] = lambda count: None) -> None:
        """A whole file: beside its name, hashed on the unit, renamed. LineError: under its name stands what stood there."""
        fresh = path + ".new"
        self.call(f"folders({path!r})\nfile = open({fresh!r}, 'wb')")
        for start in range(0, len(content), PIECE):
            piece = content[start : start + PIECE]
            count = self.call(f"answer = file.write(binascii.a2b_base64({base64.b64encode(piece)!r}))")
            if count != len(piece):
                raise LineError(f"{path}: the flash took {count} of {len(piece)} bytes (full?)")
            moved(len(piece))
        wanted = [len(content), hashlib.sha256(content).hexdigest()]
        found = self.call(f"file.close()\nanswer = measured({fresh!r})")
        if found != wanted:
            raise LineError(f"{path}: what was written is not what was sent")
        self.call(f"os.rename({fresh!r}, {path!r})")

    def remove(self, path: str) -> None:
        """Takes a file away."""
        self.call(f"os.remove({path!r})")

    def reset(self) -> None:
        """A hard reset: the port vanishes, so nothing can be answered."""
        source = _checked("import time, machine\ntime.sleep_ms(50)\nmachine.reset()")
        self._port.until = time.monotonic() + _REPL_S
        with contextlib.suppress(TransportError, serial.SerialException, OSError, termios.error, struct.error, LineError):
            self._transport.exec_raw_no_follow(source)
        time.sleep(RESET_S)
        self.close()


def _checked(code: str) -> bytes:
    """The code with its CRC, as the unit takes it."""
    source = code.encode()
    return b"_c(%d, %r)" % (binascii.crc32(source), source)


def _last_line(text: bytes) -> str:
    lines = text.decode(errors="replace").strip().splitlines()
    return lines[-1][:120] if lines else "?"


@contextlib.contextmanager
def _line_errors() -> Iterator[None]:
    """Everything that mpremote and the port may throw when bytes are lost or wrong, as LineError."""
    try:
        yield
    except (TransportError, serial.SerialException, OSError, termios.error, struct.error, ValueError, AssertionError) as error:
        raise LineError(f"{type(error).__name__}: {error}") from error
