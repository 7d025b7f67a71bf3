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
    """The recorder's end: a thread that calls `bookmark(source, detail)` for every call, which returns whether it was taken.

    Raises OSError where the socket cannot be made; then nobody can call, and nothing else is lost."""

    def __init__(self, spool: Path, bookmark: Callable[[str, str], bool]) -> None:
        self._path = spool / SOCKET_NAME
        self._bookmark = bookmark
        self.malformed = 0
        self._path.unlink(missing_ok=True)  # a killed recorder's
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            with short_path(spool, SOCKET_NAME) as path:
                self._socket.bind(path)
                os.chmod(path, 0o600)
        except OSError:
            self._socket.close()
            raise
        self._ending = False
        self._thread = threading.Thread(target=self._listen, name="ear", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Nobody is heard any more."""
        self._ending = True
        self._path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes the thread
        self._thread.join()
        self._socket.close()

    def _listen(self) -> None:
        while not self._ending:
            datagram, caller = self._socket.recvfrom(_DATAGRAM_BYTES)
            if not datagram:
                continue  # the end, or nothing
            try:
                call = msgspec.json.decode(datagram, type=Call)
            except msgspec.DecodeError as error:
                self.malformed += 1
                log.warning("a call that says nothing: %s", error)
                continue
            taken = self._bookmark(call.bookmark.source, call.bookmark.detail[:DETAIL_MOST])
            with contextlib.suppress(OSError):  # the caller did not wait
                self._socket.sendto(msgspec.json.encode({"taken": taken}), socket.MSG_DONTWAIT, caller)
