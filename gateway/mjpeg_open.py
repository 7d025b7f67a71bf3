"""Asks a camera at an http:// address for its MJPEG (gateway/mjpeg.py reads it)."""

import base64
import socket
import string
from urllib.parse import SplitResult, quote, unquote, urlsplit

from gateway.capture import CameraError
from gateway.mjpeg import OtherForm, Stream


def open_stream(address: str, open_seconds: float, read_seconds: float) -> Stream:
    """The stream at `address` (http://...). Raises OtherForm and CameraError."""
    try:
        parts = urlsplit(address)
        connection = socket.create_connection((parts.hostname or "", parts.port or 80), open_seconds)
    except (OSError, ValueError) as error:
        raise CameraError("cannot be opened") from error
    try:
        connection.sendall(_request(parts))
        stream = Stream(connection, open_seconds, read_seconds)
        stream.answer()
    except OSError as error:
        connection.close()
        raise CameraError("cannot be opened") from error
    except (OtherForm, CameraError):
        connection.close()
        raise
    return stream


def _request(address: SplitResult) -> bytes:
    """HTTP/1.0, so that nobody answers in chunks who need not."""
    target = quote((address.path or "/") + (f"?{address.query}" if address.query else ""), safe=string.punctuation)
    lines = [f"GET {target} HTTP/1.0", f"Host: {address.netloc.rpartition('@')[2]}", "User-Agent: cruisers", "Accept: */*"]
    if address.username is not None:
        pair = f"{unquote(address.username)}:{unquote(address.password or '')}"
        lines.append("Authorization: Basic " + base64.b64encode(pair.encode()).decode())
    return "\r\n".join((*lines, "", "")).encode()
