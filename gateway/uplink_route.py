"""Which network interface carries packets to an address: asked of the kernel over a netlink socket (rtnetlink(7)), as `ip route get` does.

A second socket hears of changes of links, addresses and routes, so that nobody has to ask often: `fileno()` becomes readable, `heard()`
reads what came. Limits: Linux; the answer is for packets without a mark and of no particular source.
"""

import errno
import os
import socket
import struct
from ipaddress import IPv4Address, IPv6Address

RTM_GETROUTE, RTM_NEWROUTE, NLM_F_REQUEST, NLMSG_ERROR = 26, 24, 1, 2  # linux/netlink.h, linux/rtnetlink.h
RTA_DST, RTA_OIF = 1, 4
GROUPS = 0x1 | 0x10 | 0x40 | 0x100 | 0x400  # RTMGRP_LINK, _IPV4_IFADDR, _IPV4_ROUTE, _IPV6_IFADDR, _IPV6_ROUTE
ANSWER_BYTES = 65_536
_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_ROUTE = struct.Struct("=BBBBBBBBI")  # rtmsg: family, destination's bits, ...
_ATTRIBUTE = struct.Struct("=HH")  # rtattr: length, type
_NO_ROUTE = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENODEV, errno.EACCES, errno.EINVAL, errno.ENETDOWN)


class Routes:
    """Two netlink sockets: one asks, one listens. Raises OSError where there is no netlink."""

    def __init__(self) -> None:
        self._asking = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._asking.bind((0, 0))
        self._listening = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
        self._listening.bind((0, GROUPS))

    def interface(self, address: IPv4Address | IPv6Address) -> str | None:
        """The interface's name; None where there is no route. Answered by the kernel at once."""
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        attribute = _ATTRIBUTE.pack(_ATTRIBUTE.size + len(address.packed), RTA_DST) + address.packed
        route = _ROUTE.pack(family, 8 * len(address.packed), 0, 0, 0, 0, 0, 0, 0) + attribute
        self._asking.send(_HEADER.pack(_HEADER.size + len(route), RTM_GETROUTE, NLM_F_REQUEST, 1, 0) + route)
        answer = self._asking.recv(ANSWER_BYTES)
        length, kind, *_ = _HEADER.unpack_from(answer)
        if kind == NLMSG_ERROR:
            number = -struct.unpack_from("=i", answer, _HEADER.size)[0]
            if number in _NO_ROUTE:
                return None
            raise OSError(number, os.strerror(number))
        index = _attribute(answer[_HEADER.size + _ROUTE.size : length], RTA_OIF)
        try:
            return socket.if_indextoname(struct.unpack("=I", index)[0]) if index else None
        except OSError:  # it went away in this very moment
            return None

    def fileno(self) -> int:
        """Readable when something changed."""
        return self._listening.fileno()

    def heard(self) -> None:
        """Read what changed: only that something did counts, so a queue that overflowed is no loss."""
        while True:
            try:
                self._listening.recv(ANSWER_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise

    def close(self) -> None:
        """Close both."""
        self._asking.close()
        self._listening.close()


def _attribute(attributes: bytes, wanted: int) -> bytes:
    at = 0
    while at + _ATTRIBUTE.size <= len(attributes):
        length, kind = _ATTRIBUTE.unpack_from(attributes, at)
        if kind == wanted:
            return attributes[at + _ATTRIBUTE.size : at + length]
        at += (max(length, _ATTRIBUTE.size) + 3) & ~3
    return b""
