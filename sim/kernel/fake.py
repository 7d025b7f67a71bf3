"""/dev/i2c-N for a Python program that knows nothing of it: what Linux' i2c-dev does at open, read, write and ioctl, done in the program.

Installed by site/sitecustomize.py before the program's first import. Every open /dev/i2c-N is a socket to the simulated truck
(sim/kernel/server.py), so that its file descriptor is a real one: it can be closed, duplicated and inherited by a fork like any other.
A descriptor is known by the inode of its socket, never by its number, which the kernel gives to another file after a close.

Follows drivers/i2c/i2c-dev.c and i2c-core-smbus.c (emulated SMBus), struct layouts of uapi/linux/i2c.h and i2c-dev.h, the errnos of a
Raspberry Pi's i2c-bcm2835. Otherwise than the kernel: PEC and ten-bit addresses are refused (EINVAL) instead of accepted and left to the
adapter, because a program must not believe in a checksum nobody computes; SMBus block reads work, and transfers in which more than the last
message reads (a Pi's adapter has neither, before the Pi 5: EOPNOTSUPP); select and poll never call the descriptor readable.
Not reached: C extensions that call the C library themselves, Python started with -I, -E or -S, and listings of /dev (glob).

Only the standard library, Python >= 3.9, nothing of ours: it runs inside other people's programs.
"""

from __future__ import annotations

import _io
import abc
import builtins
import errno
import fcntl
import io
import os
import stat
import struct
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any

SOCKET = "CRUISERS_SIM_SOCKET"  # environment: name of the truck's socket (abstract, unix(7))
BUSES = "CRUISERS_SIM_I2C"  # environment: bus numbers, separated by commas

_PREFIX = "/dev/i2c-"
_RETRIES, _TIMEOUT, _SLAVE, _TENBIT, _FUNCS, _SLAVE_FORCE, _RDWR, _PEC, _SMBUS = (
    0x0701, 0x0702, 0x0703, 0x0704, 0x0705, 0x0706, 0x0707, 0x0708, 0x0720,
)  # fmt: skip
_M_RD, _M_RECV_LEN = 0x0001, 0x0400
_MAX_MESSAGES, _MAX_LENGTH, _BLOCK_MAX = 42, 8192, 32
_QUICK, _BYTE, _BYTE_DATA, _WORD_DATA, _PROC_CALL, _BLOCK_DATA, _BLOCK_BROKEN, _BLOCK_PROC, _I2C_BLOCK = range(9)
# I2C, quick, byte, byte data, word data, process call, block (read and write, process call), I2C block; not PEC, not ten bit.
FUNCTIONS = 0x0FFF8001
_MAJOR = 89  # of i2c-dev
_INT_MAX = 0x7FFFFFFF
_MESSAGE_SIZE = struct.calcsize("@HHHP")  # struct i2c_msg

Message = tuple[int, int, int, bytes]  # address, flags, length, data

_real_open, _real_os_open, _real_read, _real_write = io.open, os.open, os.read, os.write
_real_ioctl, _real_stat, _real_lstat, _real_access = fcntl.ioctl, os.stat, os.lstat, os.access
_RealFileIO = _io.FileIO  # io.FileIO is ours already where this is imported below another `sim run`


class _File:
    """One open /dev/i2c-N: the process that connected it, and the address that I2C_SLAVE set."""

    __slots__ = ("address", "bus", "pid")

    def __init__(self, bus: int, address: int = 0) -> None:
        self.bus = bus
        self.address = address
        self.pid = os.getpid()


_files: dict[tuple[int, int], _File] = {}  # device and inode of the socket -> _File
_buses: frozenset[int] = frozenset()
_name = ""
_lock = threading.Lock()


def _trouble(number: int) -> OSError:
    return OSError(number, os.strerror(number))


# --- files


def _bus_of(path: Any) -> int | None:
    """The bus number of /dev/i2c-N, None for every other path (or descriptor)."""
    try:
        text = os.fsdecode(path)
    except TypeError:  # of a descriptor, too
        return None
    if "i2c-" not in text or text.endswith("/"):
        return None
    text = os.path.abspath(text)
    number = text[len(_PREFIX) :] if text.startswith(_PREFIX) else ""
    return int(number) if number.isdecimal() and number == str(int(number)) else None


def _key(fd: int) -> tuple[int, int]:
    """What tells one open socket from every other file: inodes are counted by each file system for itself."""
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def _file_of(fd: Any) -> _File | None:
    """The open /dev/i2c-N behind `fd` (a number, or anything with fileno()), None for every other file."""
    if not _files:
        return None
    try:
        return _files.get(_key(fd if isinstance(fd, int) else fd.fileno()))
    except (OSError, AttributeError, TypeError, ValueError):
        return None  # the real call says what is wrong with it


def _connect(bus: int, address: int = 0) -> int:
    """A new descriptor, known as an open file of `bus`."""
    import socket  # late: most programs below `sim run` never open a bus

    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(None)
        sock.connect("\0" + _name)
    except OSError:
        sock.close()
        raise _trouble(errno.ENODEV) from None  # the truck is gone
    fd = sock.detach()
    if len(_files) >= 256:
        _forget_closed()
    _files[_key(fd)] = _File(bus, address)
    return fd


def _forget_closed() -> None:
    """Files closed by C code (FileIO.close) were not noticed: only those that are still among the process's descriptors stay."""
    alive = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            alive.add(_key(int(name)))
        except OSError:
            continue  # the listing's own descriptor
    for key in [key for key in _files if key not in alive]:
        del _files[key]


def _open_bus(path: Any, bus: int) -> int:
    if bus not in _buses:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    return _connect(bus)


class I2CFile(_RealFileIO):
    """What open("/dev/i2c-N", buffering=0) gives: FileIO itself would read and write the socket."""

    def read(self, size: int | None = -1) -> bytes:
        """At most `size` bytes of one transaction; without a size as many as i2c-dev reads at once."""
        self._check(self.readable())
        return _read_file(self.fileno(), _MAX_LENGTH if size is None or size < 0 else size)

    def readall(self) -> bytes:
        """One transaction: an I2C chip has no end of file."""
        return self.read()

    def readinto(self, buffer: Any) -> int:
        """One transaction as long as `buffer`."""
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def write(self, data: Any) -> int:
        """One transaction."""
        self._check(self.writable())
        return _write_file(self.fileno(), bytes(data))

    def _check(self, allowed: bool) -> None:
        if not allowed:
            raise io.UnsupportedOperation("not open for this direction")


class _FileIOType(abc.ABCMeta):
    """Makes the class below stand for FileIO in isinstance and issubclass."""

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, _RealFileIO) if cls is _FileIO else super().__instancecheck__(instance)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, _RealFileIO) if cls is _FileIO else super().__subclasscheck__(subclass)


class _FileIO(_RealFileIO, metaclass=_FileIOType):
    def __new__(cls, file: Any, mode: str = "r", closefd: bool = True, opener: Any = None) -> Any:
        if cls is _FileIO:
            bus = _bus_of(file)
            if bus is None and _file_of(file) is None:
                return _RealFileIO(file, mode, closefd, opener)
            return _raw(file, bus, mode, closefd)
        return super().__new__(cls, file, mode, closefd, opener)  # type: ignore[call-arg]


def _raw(file: Any, bus: int | None, mode: str, closefd: bool = True) -> I2CFile:
    plain = mode.replace("b", "").replace("t", "")
    if bus is None:
        return I2CFile(file, plain, closefd)
    fd = _open_bus(file, bus)
    try:
        raw = I2CFile(fd, plain)
        raw.name = file
    except BaseException:
        os.close(fd)
        raise
    return raw


def _open(
    file: Any,
    mode: str = "r",
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: Any = None,
) -> Any:
    bus = _bus_of(file)
    if bus is None and (not isinstance(file, int) or _file_of(file) is None):
        return _real_open(file, mode, buffering, encoding, errors, newline, closefd, opener)
    raw = _raw(file, bus, mode, closefd)
    if buffering == 0 and "b" in mode:
        return raw
    try:
        if buffering == 0:
            raise ValueError("can't have unbuffered text I/O")
        if "+" in mode:
            raise io.UnsupportedOperation("File or stream is not seekable.")  # as for the device: it cannot seek
        buffered = io.BufferedReader(raw) if "r" in mode else io.BufferedWriter(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding, errors, newline)
    except BaseException:
        raw.close()
        raise


def _os_open(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
    bus = _bus_of(path)
    if bus is None:
        return _real_os_open(path, flags, mode, dir_fd=dir_fd)
    return _open_bus(path, bus)


def _os_read(fd: int, length: int, /) -> bytes:
    return _real_read(fd, length) if _file_of(fd) is None else _read_file(fd, length)


def _os_write(fd: int, data: Any, /) -> int:
    return _real_write(fd, data) if _file_of(fd) is None else _write_file(fd, bytes(data))


def _os_stat(path: Any, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> os.stat_result:
    bus = _bus_of(path)
    return _real_stat(path, dir_fd=dir_fd, follow_symlinks=follow_symlinks) if bus is None else _device(path, bus)


def _os_lstat(path: Any, *, dir_fd: int | None = None) -> os.stat_result:
    bus = _bus_of(path)
    return _real_lstat(path, dir_fd=dir_fd) if bus is None else _device(path, bus)


def _device(path: Any, bus: int) -> os.stat_result:
    if bus not in _buses:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    return os.stat_result((stat.S_IFCHR | 0o660, bus, 0, 1, os.getuid(), os.getgid(), 0, 0, 0, 0), {"st_rdev": os.makedev(_MAJOR, bus)})


def _os_access(path: Any, mode: int, *, dir_fd: int | None = None, effective_ids: bool = False, follow_symlinks: bool = True) -> bool:
    bus = _bus_of(path)
    if bus is None:
        return _real_access(path, mode, dir_fd=dir_fd, effective_ids=effective_ids, follow_symlinks=follow_symlinks)
    return bus in _buses and not mode & os.X_OK


# --- transactions


def _read_file(fd: int, length: int) -> bytes:
    file = _known(fd)
    return _transfer(fd, [(file.address, _M_RD, min(length, _MAX_LENGTH), b"")])[0]


def _write_file(fd: int, data: bytes) -> int:
    file = _known(fd)
    data = data[:_MAX_LENGTH]
    _transfer(fd, [(file.address, 0, len(data), data)])
    return len(data)


def _known(fd: int) -> _File:
    """As _file_of. EBADF: another thread has closed it meanwhile."""
    file = _file_of(fd)
    if file is None:
        raise _trouble(errno.EBADF)
    return file


def _transfer(fd: Any, messages: list[Message]) -> list[bytes]:
    """Messages (address, flags, length, data) under one stop; the data of the reading ones. Raises OSError with the kernel's errno."""
    fd = fd if isinstance(fd, int) else fd.fileno()
    file = _known(fd)
    request = bytearray(struct.pack("<BB", file.bus, len(messages)))
    for address, flags, length, data in messages:
        request += struct.pack("<HHH", address, flags, length) + data
    with _lock:
        if file.pid != os.getpid():
            file = _reconnect(fd, file)
        try:
            _send(fd, struct.pack("<I", len(request)) + request)
            reply = _receive(fd, struct.unpack("<I", _receive(fd, 4))[0])
        except BaseException:  # e.g. Ctrl-C: the reply is still under way, and must not become the next one's
            file.pid = 0
            raise
    number = reply[0] | reply[1] << 8
    if number:
        raise _trouble(number)
    parts, at = [], 2
    while at < len(reply):
        size = reply[at] | reply[at + 1] << 8
        parts.append(reply[at + 2 : at + 2 + size])
        at += 2 + size
    return parts


def _reconnect(fd: int, file: _File) -> _File:
    """After a fork two processes would share one connection, and read each other's replies: this one gets its own under the same number."""
    fresh = _connect(file.bus, file.address)
    try:
        os.dup2(fresh, fd, inheritable=os.get_inheritable(fd))
        return _files[_key(fd)]
    finally:
        os.close(fresh)


def _send(fd: int, data: bytes | bytearray) -> None:
    while data:
        data = data[_real_write(fd, data) :]


def _receive(fd: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = _real_read(fd, size - len(data))
        if not more:
            raise _trouble(errno.ENODEV)  # the truck is gone
        data += more
    return data


# --- ioctl


def _ioctl(fd: Any, request: int, arg: Any = 0, mutate_flag: bool = True, /) -> Any:
    file = _file_of(fd)
    if file is None:
        return _real_ioctl(fd, request, arg, mutate_flag)
    request &= 0xFFFFFFFF
    if request in (_FUNCS, _RDWR, _SMBUS):
        return _with_memory(fd, request, arg, mutate_flag)
    value = arg if isinstance(arg, int) else int.from_bytes(bytes(arg)[:8], sys.byteorder)
    if request in (_SLAVE, _SLAVE_FORCE):
        if not 0 <= value <= 0x7F:
            raise _trouble(errno.EINVAL)
        file.address = value
    elif request in (_RETRIES, _TIMEOUT):
        if not 0 <= value <= _INT_MAX:
            raise _trouble(errno.EINVAL)
    elif request in (_TENBIT, _PEC):
        if value:
            raise _trouble(errno.EINVAL)
    else:
        raise _trouble(errno.ENOTTY)
    return 0


def _with_memory(fd: Any, request: int, arg: Any, mutate_flag: bool) -> Any:
    """The requests whose argument is a structure in memory: an address, anything with a writable buffer, or bytes."""
    import ctypes  # late: most programs below `sim run` never open a bus

    if isinstance(arg, int):
        return _request(ctypes, fd, request, arg, ctypes.sizeof(ctypes.c_ulong))
    size = memoryview(arg).nbytes
    readonly = memoryview(arg).readonly
    memory = ctypes.create_string_buffer(bytes(arg), size) if readonly else (ctypes.c_char * size).from_buffer(arg)
    result = _request(ctypes, fd, request, ctypes.addressof(memory), size)
    return bytes(memory) if readonly or not mutate_flag else result


def _request(ctypes: Any, fd: Any, request: int, address: int, size: int) -> int:
    if not address:
        raise _trouble(errno.EFAULT)
    if request == _FUNCS:
        ctypes.memmove(address, FUNCTIONS.to_bytes(ctypes.sizeof(ctypes.c_ulong), sys.byteorder), min(size, ctypes.sizeof(ctypes.c_ulong)))
        return 0
    return _rdwr(ctypes, fd, address) if request == _RDWR else _smbus(ctypes, fd, address)


def _rdwr(ctypes: Any, fd: Any, address: int) -> int:
    """struct i2c_rdwr_ioctl_data {struct i2c_msg *msgs; u32 nmsgs}; struct i2c_msg {u16 addr, flags, len; u8 *buf}."""
    first, count = struct.unpack("@PI", ctypes.string_at(address, struct.calcsize("@PI")))
    if not first or not 0 < count <= _MAX_MESSAGES:
        raise _trouble(errno.EINVAL)
    messages, buffers = [], []
    for index in range(count):
        target, flags, length, buffer = struct.unpack("@HHHP", ctypes.string_at(first + index * _MESSAGE_SIZE, _MESSAGE_SIZE))
        if length > _MAX_LENGTH or target > 0x7F:
            raise _trouble(errno.EINVAL)
        if flags & ~_M_RD:  # ten bit, no start, ignore acknowledge, ...: not among FUNCTIONS
            raise _trouble(errno.EOPNOTSUPP)
        if length and not buffer:
            raise _trouble(errno.EFAULT)
        if flags & _M_RD:
            buffers.append(buffer)
        messages.append((target, flags, length, b"" if flags & _M_RD or not length else ctypes.string_at(buffer, length)))
    for index, data in enumerate(_transfer(fd, messages)):
        ctypes.memmove(buffers[index], data, len(data))
    return count


def _smbus(ctypes: Any, fd: Any, address: int) -> int:
    """struct i2c_smbus_ioctl_data {u8 read_write, command; u32 size; union i2c_smbus_data {u8 byte; u16 word; u8 block[34]} *data}."""
    reading, command, size, data = struct.unpack("@BBIP", ctypes.string_at(address, struct.calcsize("@BBIP")))
    if size > _I2C_BLOCK or reading > 1 or (not data and size != _QUICK and not (size == _BYTE and not reading)):
        raise _trouble(errno.EINVAL)
    used = {_QUICK: 0, _BYTE: 1, _BYTE_DATA: 1, _WORD_DATA: 2, _PROC_CALL: 2}.get(size, _BLOCK_MAX + 2)
    block = ctypes.string_at(data, used) if used and data else bytes(_BLOCK_MAX + 2)
    if size == _BLOCK_BROKEN:  # the form of Linux 2.6.22: reads as many as there can be
        size, block = _I2C_BLOCK, bytes([_BLOCK_MAX]) + block[1:] if reading else block
    file = _known(fd)
    answer = _transfer(fd, [(file.address, *message) for message in _smbus_messages(size, bool(reading), command, block)])
    if answer and size != _QUICK:
        result = answer[0]
        if size == _I2C_BLOCK:
            result = bytes([len(result)]) + result
        elif size in (_BLOCK_DATA, _BLOCK_PROC) and not 0 < result[0] <= _BLOCK_MAX:
            raise _trouble(errno.EPROTO)
        ctypes.memmove(data, result, len(result))
    return 0


def _smbus_messages(size: int, reading: bool, command: int, block: bytes) -> list[tuple[int, int, bytes]]:
    """The I2C messages (flags, length, data) of one SMBus transaction, as i2c_smbus_xfer_emulated makes them."""
    if size == _QUICK:
        return [(_M_RD if reading else 0, 0, b"")]
    if size == _BYTE:
        return [(_M_RD, 1, b"")] if reading else [(0, 1, bytes([command]))]
    counted = size in (_BLOCK_DATA, _BLOCK_PROC, _I2C_BLOCK)
    if counted and (block[0] > _BLOCK_MAX or (size == _I2C_BLOCK and not block[0])) and not (size == _BLOCK_DATA and reading):
        raise _trouble(errno.EINVAL)
    value = bytes([command])
    if size == _PROC_CALL:
        value += block[:2]
    elif size == _BLOCK_PROC:
        value += block[: block[0] + 1]
    elif not reading:
        start, end = {_BYTE_DATA: (0, 1), _WORD_DATA: (0, 2), _BLOCK_DATA: (0, block[0] + 1), _I2C_BLOCK: (1, block[0] + 1)}[size]
        value += block[start:end]
    messages = [(0, len(value), value)]
    if size in (_PROC_CALL, _BLOCK_PROC) or reading:
        lengths = {_BYTE_DATA: 1, _WORD_DATA: 2, _PROC_CALL: 2, _I2C_BLOCK: block[0]}
        messages.append((_M_RD, lengths[size], b"") if size in lengths else (_M_RD | _M_RECV_LEN, _BLOCK_MAX + 1, b""))
    return messages


def _new_lock() -> None:
    """In a forked child: another thread may have held the lock."""
    global _lock
    _lock = threading.Lock()


class _Call:
    """Stands for a built-in function: unlike a function of Python it does not become a method where a class takes it as an attribute."""

    def __init__(self, function: Callable[..., Any], real: Any) -> None:
        self._function = function
        self.__name__, self.__qualname__, self.__doc__ = real.__name__, real.__qualname__, real.__doc__
        for supporting in (os.supports_dir_fd, os.supports_fd, os.supports_follow_symlinks, os.supports_effective_ids):
            if real in supporting:
                supporting.add(self)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self._function(*arguments, **named)


def install(environment: Mapping[str, str]) -> None:
    """Puts the fake in place if `environment` names a truck; does nothing otherwise."""
    global _buses, _name
    if not environment.get(SOCKET):
        return
    _name = environment[SOCKET]
    _buses = frozenset(int(number) for number in environment.get(BUSES, "").split(",") if number)
    fcntl.ioctl = _Call(_ioctl, _real_ioctl)
    os.open = _Call(_os_open, _real_os_open)
    os.read = _Call(_os_read, _real_read)
    os.write = _Call(_os_write, _real_write)
    os.stat = _Call(_os_stat, _real_stat)
    os.lstat = _Call(_os_lstat, _real_lstat)
    os.access = _Call(_os_access, _real_access)
    builtins.open = io.open = _Call(_open, _real_open)
    io.FileIO = _FileIO  # type: ignore[misc]
    os.register_at_fork(after_in_child=_new_lock)
