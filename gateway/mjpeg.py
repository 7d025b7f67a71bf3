"""MJPEG over plain HTTP, read by ourselves: a frame goes from the kernel into one buffer, and from there into the message. FFmpeg's way
costs a little more on loopback, and six times as much over a wire, where it is woken for each packet (bench/camera.py).

Read: http://, with user and password in the address as Basic; an answer of multipart parts, each with its Content-Length or without (then
a frame is known to be whole when the boundary behind it comes, often a frame later). Content-Length is believed where the part so
cut is a whole JPEG; where it is not, the boundary decides: a length that is wrong by a few bytes costs nothing, and no
frame takes another one with it. The boundary is the line with which the body begins, not what the answer's header says of it: many
cameras send another one, and FFmpeg does not compare them either. Lines may end in LF alone.
Not read (OtherForm: camera.py hands the address to FFmpeg): chunked transfer, redirects, Digest, and what is neither multipart nor a
single picture.

Limits: a head of HEAD_MOST bytes, a frame of FRAME_MOST bytes: beyond them the connection is given up. A `read` takes no longer than
`read_seconds`; from a camera that sends byte by byte, up to twice that. A frame that the end of the stream cuts off is
handed out as it is (torn), the next `read` tells of the end."""

import http.client
import io
import re
import select
import socket
import struct
import time

from gateway.capture import NO_IMAGE, CameraError
from gateway.jpeg import EOI, whole

HEAD_MOST = 8_192  # of an answer, or of a part
FRAME_MOST = 8_000_000  # a 4K JPEG has 1 to 4 MB
FIRST_BYTES = 256 * 1024  # of the buffer; it grows with the frames
LEAST_ROOM = 65_536  # in it where nobody knows yet how much comes

_FIRST_LINE = re.compile(rb"\s*(\S[^\n]*)\n")
_LENGTH = b"\ncontent-length:"


class OtherForm(Exception):
    """The camera answers in a form that is not read here: which, in one line."""


class Stream:
    """The parts of one answer. Not thread safe."""

    def __init__(self, connection: socket.socket, open_seconds: float, read_seconds: float) -> None:
        self._socket = connection
        self._read_seconds = read_seconds
        self._until = time.monotonic() + open_seconds
        self._wait_at_most(open_seconds)
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)
        self._buffer = bytearray(FIRST_BYTES)
        self._view = memoryview(self._buffer)
        self._begin = self._end = 0  # in the buffer: what has come and is not used yet
        self._over = False
        self._delimiter = b""
        self._head_bytes = 0  # of the last part, with the line end before it: for so many we wait at once

    def answer(self) -> None:
        """Reads the answer's head. Raises OtherForm, and CameraError if this is no stream."""
        while (stop := self._behind_blank_line(self._begin)) < 0:
            self._need_head("the answer's head")
        status, _, fields = bytes(self._view[:stop]).partition(b"\n")
        self._begin = stop
        try:
            head = http.client.parse_headers(io.BytesIO(fields))
            version, number, *words = status.decode("latin-1").split(maxsplit=2)
            code = int(number)
        except (http.client.HTTPException, ValueError) as error:
            raise CameraError("no answer in HTTP") from error
        if not version.startswith("HTTP/"):
            raise CameraError("no answer in HTTP")
        if code in (301, 302, 303, 307, 308):
            raise OtherForm("a redirect")
        if code == 401 and any(way.lower().startswith("digest") for way in head.get_all("WWW-Authenticate", [])):
            raise OtherForm("Digest")
        if code != 200:
            raise CameraError(" ".join((f"HTTP {code}", *words)).strip())
        kind = head.get_content_type()
        if head.get_content_maintype() == "image":
            raise CameraError(f"one picture ({kind}), no stream of them")
        if head.get_content_maintype() != "multipart":
            raise OtherForm(kind)
        if head.get("Transfer-Encoding", "identity").lower() != "identity":
            raise OtherForm("a transfer encoding")
        self._learn_boundary(head.get_boundary())
        self._wait_at_most(self._read_seconds)

    def read(self) -> memoryview:
        """The next part's body, in a buffer that the next `read` uses again. Raises CameraError at the end of the stream, or where it makes
        no sense any more."""
        self._until = time.monotonic() + self._read_seconds
        if self._begin == self._end:
            self._begin = self._end = 0
            self._more(self._head_bytes)
        length = self._part()
        if length is not None:
            missing = length - (self._end - self._begin)
            if missing <= 0 or self._all_of(missing):
                begin, stop = self._begin, self._begin + length
                body = self._view[begin:stop]
                if self._buffer.endswith(EOI, begin, stop) or whole(body) is not None:
                    self._begin = stop
                    return body
        return self._up_to_boundary()

    def release(self) -> None:
        """Ends the connection."""
        self._socket.close()

    def _part(self) -> int | None:
        """Goes behind the head of the next part, passing over what is before it; what it says of its length. Without a regular expression:
        one costs more than all the rest of this, when the processor's caches have forgotten it since the last frame."""
        buffer, delimiter = self._buffer, self._delimiter
        while True:
            at = buffer.find(delimiter, self._begin, self._end)
            if at < 0:
                self._begin = max(self._begin, self._end - len(delimiter) + 1)
            elif buffer.startswith(b"--", at + len(delimiter), self._end):
                raise CameraError(NO_IMAGE)  # the boundary that ends the stream
            else:
                self._begin = at
                stop = self._behind_blank_line(at)
                if stop >= 0:
                    break
            self._need_head("a part's head")
            buffer = self._buffer
        self._begin = stop
        self._head_bytes = stop - at + len(b"\r\n")
        head = buffer[at:stop].lower()
        _, said, rest = head.partition(_LENGTH)
        if not said:
            return None
        try:
            length = int(rest[: rest.index(b"\n")])
        except ValueError:
            return None
        if length > FRAME_MOST:
            raise CameraError(f"a frame of {length} bytes, {FRAME_MOST} are the most")
        return max(0, length)

    def _behind_blank_line(self, begin: int) -> int:
        """Where the head ends that begins there; -1: its end has not come."""
        at = self._buffer.find(b"\n\r\n", begin, self._end)
        alone = self._buffer.find(b"\n\n", begin, self._end if at < 0 else at)
        if alone >= 0:
            return alone + 2
        return at + 3 if at >= 0 else -1

    def _learn_boundary(self, declared: str | None) -> None:
        """With what each part begins: the first line, if it is one."""
        while (first := _FIRST_LINE.match(self._buffer, self._begin, self._end)) is None:
            self._need_head("the first line")
        line = bytes(first[1]).rstrip()
        if not (line.startswith(b"--") and len(line) > 2):
            if not declared:
                raise CameraError("parts without a boundary")
            line = b"--" + declared.encode("latin-1", "replace")
        self._delimiter = line

    def _up_to_boundary(self) -> memoryview:
        """The body as far as the next boundary, or the end of the stream."""
        searched = 0
        while True:
            at = self._buffer.find(self._delimiter, self._begin + searched, self._end)
            if at >= 0:
                break
            come = self._end - self._begin
            if come > FRAME_MOST:
                raise CameraError(f"a frame without end: {FRAME_MOST} bytes are the most")
            searched = max(0, come - len(self._delimiter) + 1)
            if not self._more() and come == self._end - self._begin:
                at = self._end
                break
        begin, end = self._begin, at
        self._begin = at
        if end > begin and self._buffer[end - 1] == ord("\n"):  # the line end before a boundary is the boundary's
            end -= 2 if end - 1 > begin and self._buffer[end - 2] == ord("\r") else 1
        if end == begin and self._over:
            raise CameraError(NO_IMAGE)
        return self._view[begin:end]

    def _need_head(self, what: str) -> None:
        """More of what is looked for at `_begin`."""
        if self._end - self._begin > HEAD_MOST:
            raise CameraError(f"{what} has no end: {HEAD_MOST} bytes are the most")
        if not self._more():
            raise CameraError(NO_IMAGE)

    def _wait_at_most(self, seconds: float) -> None:
        """By the kernel's own time-out: with Python's each call would poll first, and MSG_WAITALL not wait."""
        self._socket.settimeout(None)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", int(seconds), int(seconds % 1 * 1e6)))

    def _more(self, missing: int = 0) -> bool:
        """Waits for `missing` bytes, a head's, in a single call; without them takes what has come, or comes first. False once the stream is
        over, or silent."""
        if self._over:
            return False
        if self._end + (missing or LEAST_ROOM) > len(self._view):
            self._make_room(missing or LEAST_ROOM)
        try:
            got = self._socket.recv_into(self._view[self._end :], missing, socket.MSG_WAITALL if missing else 0)
        except OSError:  # the time-out (EAGAIN), or the connection broke: both are the end
            got = 0
        self._end += got
        self._over = got < missing if missing else got == 0 or time.monotonic() >= self._until
        return not self._over

    def _all_of(self, missing: int) -> bool:
        """Reads the `missing` bytes; False if they do not come.

        What is there is taken at once. For the rest this thread is woken once, when all of it has come: over 100 Mbit/s a frame comes in
        140 packets, and to be woken for each of them (as with MSG_WAITALL) costs seven times as much CPU."""
        if self._over:
            return False
        if self._end + missing > len(self._view):
            self._make_room(missing)
        goal = self._end + missing
        self._take_what_is_there(goal)
        if self._end < goal:
            while self._end < goal and not self._over:
                # The poll waits for so many; a recv would take what is there first, and then wait for as many again.
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, goal - self._end)
                late = not self._poll.poll(max(0.0, self._until - time.monotonic()) * 1e3)
                self._take_what_is_there(goal)
                self._over = self._over or (late and self._end < goal)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
        return self._end == goal

    def _take_what_is_there(self, goal: int) -> None:
        """Without waiting, and nothing behind `goal`."""
        try:
            got = self._socket.recv_into(self._view[self._end : goal], 0, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:  # the connection broke: the end
            got = 0
        self._end += got
        self._over = got == 0

    def _make_room(self, count: int) -> None:
        """For `count` bytes behind those that wait."""
        waiting = bytes(self._view[self._begin : self._end])
        need = len(waiting) + count
        if need > len(self._buffer):
            self._buffer = bytearray(need + need // 2)
            self._view = memoryview(self._buffer)
        self._view[: len(waiting)] = waiting
        self._begin, self._end = 0, len(waiting)
