"""The sockets of one transfer: marked as background traffic, watched for progress, counted, and cut so that nothing more leaves.

Marked: DSCP CS1 (RFC 3662, lower effort; openpilot uploads with it), which routers and access points (WMM: background) may serve last.
Counted: what the operator of a link counts, read from the kernel (TCP_INFO): bytes sent, repeats included, bytes received, and about
SEGMENT_OVERHEAD for the headers of each segment. A duplicate of each socket is held, so that this can be read after the HTTP library has
closed it; a transfer that failed is then ended by a reset, which throws away what our kernel still had to send (it may be seconds of it).
"""

import socket
import struct

UNSENT = 128 * 1024  # bytes our kernel may hold unsent: pacing and cutting act on nothing older
CS1 = 8 << 2  # the DSCP's place in the TOS byte
SEGMENT_OVERHEAD = 52  # bytes: IPv4, TCP with timestamps

_TCP_NOTSENT_LOWAT = 25  # linux/tcp.h; Python's socket module has no name for it before 3.12
# struct tcp_info (linux/tcp.h, kernel 4.19 and later): where in it, and how read.
_UNACKED, _BYTES_ACKED, _BYTES_RECEIVED, _SEGMENTS, _NOTSENT, _BYTES_SENT = (
    (24, "I"),
    (120, "Q"),
    (128, "Q"),
    (136, "II"),
    (144, "I"),
    (200, "Q"),
)
_INFO_BYTES = 208
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close by reset


class Wire:
    """All connections of one transfer (a name with two addresses may make two)."""

    def __init__(self) -> None:
        self._held: list[socket.socket] = []
        self._counted = 0

    def socket(self, address: tuple) -> socket.socket:
        """A new socket for `address` (an entry of getaddrinfo), as aiohttp's socket_factory wants it."""
        made = socket.socket(address[0], address[1], address[2])
        made.setblocking(False)
        made.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, UNSENT)
        if made.family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, CS1)
        else:
            made.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, CS1)
        self._held.append(made.dup())
        return made

    def mark(self) -> int:
        """A number that changes whenever a byte was received, or acknowledged by the other end."""
        infos = [_info(held) for held in self._held]
        return sum(_read(info, _BYTES_ACKED) + _read(info, _BYTES_RECEIVED) for info in infos)

    def outstanding(self) -> bool:
        """Whether the kernel holds bytes that the other end has not acknowledged, or does not yet stand."""
        infos = [_info(held) for held in self._held]
        return not infos or any(_read(info, _UNACKED) or _read(info, _NOTSENT) for info in infos)

    def bytes_since(self) -> int:
        """Bytes that went over the link, both ways, since the last call."""
        infos = [_info(held) for held in self._held]
        total = sum(_read(info, _BYTES_SENT) + _read(info, _BYTES_RECEIVED) + SEGMENT_OVERHEAD * _read(info, _SEGMENTS) for info in infos)
        since, self._counted = total - self._counted, total
        return since

    def close(self, reset: bool) -> None:
        """Let go of the sockets, which the HTTP library has closed; `reset`: what is still to be sent is thrown away."""
        for held in self._held:
            if reset:
                held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            held.close()
        self._held.clear()


def _info(held: socket.socket) -> bytes:
    return held.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES).ljust(_INFO_BYTES, b"\0")


def _read(info: bytes, field: tuple[int, str]) -> int:
    return sum(struct.unpack_from(f"={field[1]}", info, field[0]))
