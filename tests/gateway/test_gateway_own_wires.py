"""Own buses and ports that come, go and come back: each call is an error while there is none, and opens it when there is one."""

import errno
import os
import time
import tty
from pathlib import Path

import pytest

from gateway.own_wires import OwnI2C, OwnUart


class Plug:
    """A pty that is linked where the port is looked for."""

    def __init__(self, link: Path) -> None:
        self.master, self._slave = os.openpty()
        tty.setraw(self._slave)
        self._link = link
        link.symlink_to(os.ttyname(self._slave))

    def pull(self) -> None:
        os.close(self.master)
        os.close(self._slave)
        self._link.unlink()


def received(uart: OwnUart) -> bytes:
    """What came within a second."""
    buffer = bytearray(16)
    for _ in range(1_000):
        count = uart.readinto(buffer)
        if count:
            return bytes(buffer[:count])
        time.sleep(0.001)
    return b""


def test_a_port_may_be_absent_come_go_and_come_back(tmp_path: Path) -> None:
    link = tmp_path / "pm"
    uart = OwnUart(str(link), 115_200)
    with pytest.raises(OSError) as absent:
        uart.write(b"x")
    assert absent.value.errno == errno.ENODEV and uart.trouble == "No such file or directory"
    plug = Plug(link)
    assert uart.write(b"hello") == 5 and os.read(plug.master, 16) == b"hello"
    assert uart.trouble == "" and uart.heard_ns == 0 and uart.any() == 0
    os.write(plug.master, b"there")
    assert received(uart) == b"there" and uart.heard_ns > 0
    plug.pull()
    with pytest.raises(OSError) as gone:
        uart.any()
    assert gone.value.errno == errno.ENODEV and uart.trouble
    again = Plug(link)
    uart.init(9600)
    assert uart.trouble == ""
    os.write(again.master, b"back")
    assert received(uart) == b"back"
    uart.close()
    again.pull()


def test_closing_a_port_that_never_was_there_is_nothing(tmp_path: Path) -> None:
    OwnUart(str(tmp_path / "absent"), 9600).close()
    OwnI2C(str(tmp_path / "absent")).close()


def test_a_bus_that_is_absent_is_no_device_and_says_why(tmp_path: Path) -> None:
    bus = OwnI2C(str(tmp_path / "i2c-7"))
    for call in (lambda: bus.writeto(0x44, b"\xfd"), lambda: bus.readfrom_into(0x44, bytearray(6)), lambda: bus.writeto_mem(0x77, 0, b"")):
        with pytest.raises(OSError) as absent:
            call()
        assert absent.value.errno == errno.ENODEV and bus.trouble == "No such file or directory"
    (tmp_path / "i2c-7").write_bytes(b"")  # something else has the name
    with pytest.raises(OSError):
        bus.readfrom_mem_into(0x77, 0, bytearray(1))
    assert bus.trouble and bus.heard_ns == 0
