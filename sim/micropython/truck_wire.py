"""The one connection of the simulated head to its truck: requests to sim/busserver.py over loopback TCP.

A request is `u16 length of the rest, u8 operation, body`, sent with ONE write (two cost 44 ms: Nagle and delayed acknowledgement); a
reply is `u8 status (0 or an errno), u16 length, data`. Integers are little endian. Nothing is allocated per request, as in rp2's C code.
"""

import os
import socket
import sys

I2C_OPEN = 1
I2C_TRANSFER = 2
I2C_SCAN = 3
UART_OPEN = 4
UART_WRITE = 5
UART_ANY = 6
UART_READ = 7
WATCHDOG_START = 8
WATCHDOG_FEED = 9
RESET = 10
RESET_CAUSE = 11
UNIQUE_ID = 12
INTERRUPT_CHAR = 13
PIN_READ = 14
PIN_DRIVE = 15

BODY = 3  # where the body begins in `request`
LARGEST_BODY = 300

request = bytearray(BODY + LARGEST_BODY)
_head = bytearray(3)
_IPPROTO_TCP = 6
_TCP_NODELAY = 1

_socket = socket.socket()
_socket.connect(socket.getaddrinfo("127.0.0.1", int(os.getenv("CRUISERS_TRUCK_PORT")))[0][-1])
_socket.setsockopt(_IPPROTO_TCP, _TCP_NODELAY, 1)


def _gone():
    # Without its truck the head has no power. SystemExit is no Exception, so a supervisor does not keep the dead running.
    sys.exit(1)


def call(operation, length):
    """Sends the `length` body bytes of `request`; returns the number of data bytes that follow, raises OSError(errno)."""
    size = length + 1
    request[0] = size & 0xFF
    request[1] = size >> 8
    request[2] = operation
    try:
        _socket.write(request, BODY + length)
        if _socket.readinto(_head) != 3:
            _gone()
    except OSError:
        _gone()
    if _head[0]:
        raise OSError(_head[0])
    return _head[1] | _head[2] << 8


def receive_into(buf, length):
    """Reads the `length` data bytes of a reply to the beginning of `buf`."""
    if length and _socket.readinto(buf, length) != length:
        _gone()


def receive(length):
    """The `length` data bytes of a reply."""
    data = bytearray(length)
    receive_into(data, length)
    return bytes(data)


def put(offset, data):
    """Copies `data` into the body at `offset`; returns the offset behind it. Raises ValueError if it does not fit."""
    end = offset + len(data)
    if end > LARGEST_BODY:
        raise ValueError("too long for one request")
    at = BODY + offset
    for byte in data:
        request[at] = byte
        at += 1
    return end


def put_number(offset, value, size):
    """Writes `value` little endian in `size` bytes into the body at `offset`; returns the offset behind it."""
    for at in range(BODY + offset, BODY + offset + size):
        request[at] = value & 0xFF
        value >>= 8
    return offset + size
