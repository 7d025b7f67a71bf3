"""The call for the recorder: the uplink passes on what only the recorder can do, to mark this moment (gateway/events.py).

`<spool>/recorder.sock`, a Unix datagram socket that the recorder makes, mode 0600. A datagram is a JSON object, {"bookmark": {"source":
text, "detail": text}}; the answer goes to the caller's own (abstract) address: {"taken": true} once the event is handed to the disk's
writer, or false where memory was full. One without answer may have been taken all the same: an answer can be lost with its recorder."""

import contextlib
import logging
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec

from gateway.uplink_socket import short_path

SOCKET_NAME = "recorder.sock"
ANSWER_SECONDS = 3.0  # handing over to the writer takes no disk; a machine under load takes its time
LOOK_SECONDS = 0.2  # between two looks whether to end
DETAIL_MOST = 200  # characters
_DATAGRAM_BYTES = 4096

log = logging.getLogger("recorder")


class Bookmark(msgspec.Struct, forbid_unknown_fields=True):
    """Who marks this moment (`center`), and with which words."""

    source: str
    detail: str = ""


class Call(msgspec.Struct, forbid_unknown_fields=True):
    """What the recorder is asked."""

    bookmark: Bookmark


def mark(spool: Path | str, source: str, detail: str = "", seconds: float = ANSWER_SECONDS) -> str | None:
    """Have the recorder mark this moment. None once it has; else why not, in words. Blocks for up to `seconds`, raises nothing for what
    the disk or the recorder does."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as caller:
            caller.bind("")  # an address of the kernel's choice, so that it can be answered
            caller.settimeout(seconds)
            with short_path(Path(spool), SOCKET_NAME) as path:
                caller.sendto(msgspec.json.encode(Call(Bookmark(source, detail[:DETAIL_MOST]))), path)
            answer = msgspec.json.decode(caller.recv(_DATAGRAM_BYTES), type=dict[str, bool])
    except TimeoutError:
        return f"the recorder did not answer within {seconds:g} s"
    except (FileNotFoundError, ConnectionRefusedError):
        return "no recorder runs"
    except (OSError, msgspec.DecodeError) as error:
        return f"the recorder cannot be called: {error}"
    return None if answer.get("taken") else "the recorder's disk stalls and its memory is full"


class Ear:
    """The recorder's end: `bookmark(source, detail)` is called for every call, and returns whether it was taken."""

    def __init__(self, spool: Path, bookmark: Callable[[str, str], bool]) -> None:
        self._spool = spool
        self._bookmark = bookmark
        self.malformed = 0

    def run(self, stop: threading.Event) -> None:
        """Listen until `stop` is set. Raises OSError where the socket cannot be made, and what `bookmark` raises."""
        path = self._spool / SOCKET_NAME
        path.unlink(missing_ok=True)  # a killed recorder's
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
            with short_path(self._spool, SOCKET_NAME) as short:
                listening.bind(short)
                os.chmod(short, 0o600)
            try:
                listening.settimeout(LOOK_SECONDS)
                while not stop.is_set():
                    with contextlib.suppress(TimeoutError):
                        self._answer(listening, *listening.recvfrom(_DATAGRAM_BYTES))
            finally:
                path.unlink(missing_ok=True)

    def _answer(self, listening: socket.socket, datagram: bytes, caller: str | None) -> None:
        try:
            call = msgspec.json.decode(datagram, type=Call)
        except msgspec.DecodeError as error:
            self.malformed += 1
            log.warning("a call that says nothing: %s", error)
            return
        taken = self._bookmark(call.bookmark.source, call.bookmark.detail[:DETAIL_MOST])
        if caller is not None:
            with contextlib.suppress(OSError):  # who did not wait
                listening.sendto(msgspec.json.encode({"taken": taken}), socket.MSG_DONTWAIT, caller)
