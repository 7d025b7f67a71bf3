"""The gateway's own bus and serial ports have the faces the drivers know, and keep the kernel's errnos."""

import json
import os
import termios
import time
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest
from kernel_rig import Kernel, Memory, kernel

from drivers.errors import NO_ACKNOWLEDGE, TIME_OUT, from_oserror
from gateway.linux_bus import LinuxI2C, LinuxUart

LOOK = """
import json
from drivers.errors import from_oserror
from gateway.linux_bus import LinuxI2C
bus = LinuxI2C("/dev/i2c-1")
found = {"scan": bus.scan(), "default": LinuxI2C(1).readfrom_mem(0x50, 7, 1).hex()}
two, long = bytearray(2), bytearray(100)
bus.readfrom_mem_into(0x50, 0x20, two)
bus.readfrom_mem_into(0x50, 0x30, memoryview(long)[:60])
found["mem"] = [two.hex(), long.hex(), bus.readfrom_mem(0x50, 0x11, 3).hex()]
bus.writeto_mem(0x50, 0x40, bytes(range(200, 240)))
bus.writeto_mem(0x50, 0x80, bytearray(b"\\x01"))
bus.writeto_mem(0x50, 0x81, memoryview(b"\\x02"))
found["written"] = [bus.writeto(0x50, b"\\x42"), bus.readfrom(0x50, 2).hex()]
bus.readfrom_into(0x50, two)
found["into"] = two.hex()
for name, call in {
    "nobody": lambda: bus.readfrom_mem(0x21, 0, 1),
    "nobody written": lambda: bus.writeto(0x21, b"x"),
    "no stop": lambda: bus.writeto(0x50, b"x", False),
}.items():
    try:
        call()
    except OSError as error:
        found[name] = [error.errno, from_oserror(error).code]
    except ValueError as error:
        found[name] = str(error)
bus.close()
print(json.dumps(found))
"""


@pytest.fixture
def k() -> Iterator[Kernel]:
    with kernel(Memory(0x23)) as made:
        yield made


def test_every_method_of_machine_i2c_does_on_the_chip_what_it_says(k: Kernel) -> None:
    found = json.loads(k.run(LOOK))
    assert found["scan"] == [0x23, 0x50] and found["default"] == "07"
    assert found["mem"] == ["2021", bytes(range(0x30, 0x30 + 60)).hex() + "00" * 40, "111213"]
    assert found["written"] == [1, bytes((202, 203)).hex()] and found["into"] == bytes((204, 205)).hex()
    assert k.memory.content[0x40:0x68] == bytes(range(200, 240)) and k.memory.content[0x80:0x82] == b"\1\2"
    assert found["nobody"] == found["nobody written"] == [121, NO_ACKNOWLEDGE]
    assert found["no stop"] == "Linux ends every transfer with a stop"


def test_write_and_read_are_two_transfers_with_a_stop_between(k: Kernel) -> None:
    stops = []
    k.memory.stop = lambda: stops.append(1)  # type: ignore[method-assign]
    k.run("from gateway.linux_bus import LinuxI2C\nbus = LinuxI2C(1)\nbus.writeto(0x50, b'x')\nbus.readfrom_into(0x50, bytearray(1))")
    assert len(stops) == 2
    k.run("from gateway.linux_bus import LinuxI2C\nLinuxI2C(1).readfrom_mem(0x50, 0, 1)")
    assert len(stops) == 3  # a repeated start


def test_a_bus_that_is_not_there_is_file_not_found() -> None:
    with pytest.raises(FileNotFoundError):
        LinuxI2C("/dev/i2c-nowhere")


@pytest.fixture
def line() -> Iterator[tuple[int, str]]:
    master, slave = os.openpty()
    tty.setraw(slave)
    yield master, os.ttyname(slave)
    os.close(master)
    os.close(slave)


def test_a_uart_never_waits_and_knows_how_much_there_is(line: tuple[int, str]) -> None:
    master, path = line
    uart = LinuxUart(path, 9600)
    buffer = bytearray(4)
    assert (uart.any(), uart.readinto(buffer)) == (0, None)
    os.write(master, b"abcdef")
    deadline = time.monotonic() + 10
    while uart.any() < 6:  # the kernel carries it over in its own time
        assert time.monotonic() < deadline
    assert uart.any() == 6
    assert uart.readinto(buffer) == 4 and buffer == b"abcd"
    assert uart.readinto(memoryview(buffer)) == 2 and buffer == b"efcd"
    assert uart.write(b"xyz") == 3 and os.read(master, 9) == b"xyz"
    uart.close()


def test_another_speed_throws_away_what_came_at_the_old_one(line: tuple[int, str]) -> None:
    master, path = line
    uart = LinuxUart(path, 38400)
    os.write(master, b"noise")
    deadline = time.monotonic() + 10
    while not uart.any():
        assert time.monotonic() < deadline
    uart.init(baudrate=115_200)
    assert uart.any() == 0 and termios.tcgetattr(master)[5] == termios.B115200
    uart.close()


def test_a_port_that_takes_nothing_is_a_time_out(line: tuple[int, str]) -> None:
    _, path = line
    uart = LinuxUart(path)
    with pytest.raises(OSError) as caught:
        for _ in range(64):
            uart.write(bytes(4096))
    assert from_oserror(caught.value).code == TIME_OUT
    uart.close()


def test_one_program_alone_has_the_port(line: tuple[int, str]) -> None:
    uart = LinuxUart(line[1])
    with pytest.raises(OSError, match="lock"):
        LinuxUart(line[1])
    uart.close()


def test_a_port_that_is_not_there_is_an_oserror(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        LinuxUart(str(tmp_path / "tty"))


def test_a_port_that_cannot_be_opened_is_named_with_the_kernels_reason(tmp_path: Path) -> None:
    for path, reason in (
        (tmp_path / "none", "No such file or directory"),
        (tmp_path, "Is a directory"),
        ("/dev/null", "Inappropriate ioctl"),
    ):
        with pytest.raises(OSError, match=reason) as caught:
            LinuxUart(str(path))
        assert caught.value.filename == str(path)


class Plug:
    """A serial port behind a link, that can be pulled and plugged in again."""

    def __init__(self, link: Path) -> None:
        self.link = link
        self.plug()

    def plug(self) -> None:
        self.master, slave = os.openpty()
        tty.setraw(slave)
        self.link.symlink_to(os.ttyname(slave))
        self._slave = slave

    def pull(self) -> None:
        self.link.unlink()
        os.close(self.master)
        os.close(self._slave)


def test_a_port_that_is_pulled_is_an_oserror_of_every_call_and_can_be_plugged_in_again(tmp_path: Path) -> None:
    plug = Plug(tmp_path / "tty")
    once = LinuxUart(str(plug.link))
    plug.pull()
    calls = (once.any, lambda: once.readinto(bytearray(1)), lambda: once.write(b"x"), lambda: once.init(9600))
    for call in calls:
        with pytest.raises(OSError, match=r".") as caught:
            call()
        assert from_oserror(caught.value).code == NO_ACKNOWLEDGE
    once.close()
    plug.plug()
    again = LinuxUart(str(plug.link), replug=True)
    plug.pull()
    for _ in range(3):
        with pytest.raises(OSError, match=r".") as caught:
            again.any()
        assert from_oserror(caught.value).code == NO_ACKNOWLEDGE
    plug.plug()
    assert again.write(b"hello") == 5 and os.read(plug.master, 9) == b"hello"
    again.close()
    plug.pull()
