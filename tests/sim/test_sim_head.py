"""The simulated head with small programs on the real MicroPython: ticks, interrupts, buffers, watchdog, resets, cable."""

import os
import select
import subprocess
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import serial
from both_interpreters import BIN

from logbook.quantities import TABLE
from sim.clock import Clock
from sim.head import INPUT_BYTES, HeadError, SimulatedHead

pytestmark = pytest.mark.timeout(60)
VALUES = {quantity.id: min(max(300.0, quantity.low), quantity.high) for quantity in TABLE}
ECHO = """
    import select, sys
    poll = select.poll()
    poll.register(sys.stdin.buffer, select.POLLIN)
    def echo(count=-1):
        while count:
            if poll.poll(100):
                sys.stdout.buffer.write(sys.stdin.buffer.read(1))
                count -= 1
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator:
    """start(source text, **options) → the head running it; print() reaches the serial port."""
    heads = []

    def start(text: str, **options) -> SimulatedHead:
        (tmp_path / "echo.py").write_text(textwrap.dedent(ECHO))
        (tmp_path / "program.py").write_text(textwrap.dedent(text))
        head = SimulatedHead(tmp_path / "head", lambda t_us: VALUES, lambda *_: None, Clock(), program="program", path=tmp_path, **options)
        heads.append(head)
        return head

    yield start
    for head in heads:
        head.stop()
    while Line.opened:
        os.close(Line.opened.pop())


def test_the_program_has_the_heap_of_a_board_and_no_more(start) -> None:
    """What stands in for the board's `machine` and `time` is not the program's: they are in the flash there."""
    head = start("""
        import gc
        gc.collect()
        with open("free", "w") as file:
            file.write(str(gc.mem_free()))
    """)
    end = time.monotonic() + 10
    while not head.halted:
        assert time.monotonic() < end
        time.sleep(0.01)
    free = int((head.flash / "free").read_text())
    bare = subprocess.run(
        [BIN / "micropython", "-X", "heapsize=192k", "-c", "import asyncio.core, gc; gc.collect(); print(gc.mem_free())"],
        capture_output=True,
        text=True,
        timeout=10,
        check=True,
    )
    assert int(bare.stdout) - 2_000 < free <= int(bare.stdout), (free, bare.stdout)


class Line:
    """The gateway's end of the cable, without pyserial's flush at opening: what the head said before is still there."""

    opened: list[int] = []  # closed by the fixture

    def __init__(self, port: str | Path) -> None:
        self.descriptor = os.open(port, os.O_RDWR | os.O_NOCTTY)
        self.opened.append(self.descriptor)

    def write(self, data: bytes) -> None:
        assert os.write(self.descriptor, data) == len(data)

    def until(self, wanted: bytes, seconds: float = 20.0) -> bytes:
        """What arrives up to and with `wanted`."""
        data = b""
        end = time.monotonic() + seconds
        while not data.endswith(wanted):
            assert time.monotonic() < end, f"{wanted!r} did not come, only {data!r}"
            if select.select([self.descriptor], [], [], 0.1)[0]:
                data += os.read(self.descriptor, 1)
        return data


def eventually(condition, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_the_chips_are_where_the_board_table_says(start):
    head = start("""
        import machine
        print(machine.I2C(0, sda=machine.Pin(4), scl=machine.Pin(5)).scan(), machine.I2C(1).scan(), "end")
        i2c = machine.I2C(0)
        buffer = bytearray(1)
        i2c.readfrom_mem_into(0x77, 0, buffer)
        print(buffer, i2c.readfrom_mem(0x45, 0x7F, 2), i2c.writeto(0x45, b"\\x7e"), i2c.readfrom(0x45, 2))
        i2c.writeto_mem(0x68, 0x7F, b"\\x20")
        print(i2c.readfrom_mem(0x68, 0x7F, 1))
        for address in (0x30, 0x31):
            try:
                i2c.readfrom_mem(address, 0, 1)
            except OSError as error:
                print("error", error.errno)
        try:
            machine.I2C(0, sda=machine.Pin(6), scl=machine.Pin(7))
        except ValueError as error:
            print(error)
        uart = machine.UART(1, 115200, tx=machine.Pin(8), rx=machine.Pin(9), timeout=500)
        uart.write(bytes.fromhex("7E00D1002E7E"))
        print(uart.read(14))
        print("done")
    """)
    text = Line(head.port).until(b"done").decode()
    assert "[68, 69, 104, 119] [116] end" in text
    assert "bytearray(b'`') b'0\\x01' 1 b'TI'" in text
    assert "b' '" in text
    assert text.count("error 5") == 2
    assert "bad SCL pin" in text or "bad SDA pin" in text
    assert "b'~\\x00\\xd1\\x00\\x07" in text


def test_ticks_are_of_thirty_bits_and_wrap_soon_while_asyncio_goes_on(start):
    head = start(
        """
        import asyncio, time
        async def main():
            begin_us, begin_ms = time.ticks_us(), time.ticks_ms()
            print(begin_us, begin_ms)
            for _ in range(20):
                await asyncio.sleep_ms(20)
            async def nap():
                await asyncio.sleep_ms(10)
                return "slept"
            print(await asyncio.wait_for_ms(nap(), 10_000))
            try:
                await asyncio.wait_for_ms(asyncio.Event().wait(), 20)
            except asyncio.TimeoutError:
                print("timed out")
            print("wrapped", time.ticks_us() < begin_us, time.ticks_ms() < begin_ms)
            elapsed_us, elapsed_ms = time.ticks_diff(time.ticks_us(), begin_us), time.ticks_diff(time.ticks_ms(), begin_ms)
            print("elapsed", 400_000 <= elapsed_us < 20_000_000, 400 <= elapsed_ms < 20_000)
            print(time.ticks_add((1 << 30) - 5, 10), time.ticks_add(3, -5) == (1 << 30) - 2, time.ticks_diff(4, (1 << 30) - 4))
            try:
                time.ticks_add(0, 1 << 29)
            except OverflowError:
                print("overflow")
        asyncio.run(main())
        print("done")
        """,
        ticks_before_wrap_s=0.3,
    )
    text = Line(head.port).until(b"done").decode()
    begin_us, begin_ms = map(int, text.split("\n")[0].split())
    assert begin_us > (1 << 30) - 300_000 and begin_ms > (1 << 30) - 300
    assert "slept" in text and "timed out" in text
    assert "wrapped True True" in text
    assert "elapsed True True" in text
    assert "5 True 8" in text
    assert "overflow" in text


def test_byte_03_interrupts_until_kbd_intr_says_otherwise(start):
    head = start("""
        import sys, micropython
        from micropython import const, kbd_intr
        from echo import echo
        kbd_intr(-1)
        print("data")
        echo(3)
        micropython.kbd_intr(3)
        try:
            print("text")
            echo()
        except KeyboardInterrupt:
            print("interrupted")
    """)
    line = Line(head.port)
    line.until(b"data")
    line.until(b"\n")
    line.write(b"\x01\x03\x04")
    assert line.until(b"text") == b"\x01\x03\x04text"
    line.write(b"\x03")
    line.until(b"interrupted")
    eventually(lambda: head.halted)
    time.sleep(0.2)
    assert head.starts == 1  # the REPL: nothing restarts it


def test_the_input_buffer_is_small_and_what_overruns_it_is_lost(start):
    head = start("""
        import time
        from echo import echo
        print("busy")
        time.sleep(1)
        echo()
    """)
    line = Line(head.port)
    line.until(b"busy\n")
    line.write(bytes(range(200, 210)) * 60)
    eventually(lambda: head.input_lost > 0)
    assert head.input_lost == 600 - INPUT_BYTES
    time.sleep(1.2)
    line.write(b"end")
    assert len(line.until(b"end")) == INPUT_BYTES + 3


def test_output_stalls_while_nobody_reads_and_nothing_of_it_is_lost(start):
    head = start("""
        import select, sys
        poll = select.poll()
        poll.register(sys.stdout.buffer, select.POLLOUT)
        stalled = False
        for number in range(3000):
            while not poll.poll(200):
                stalled = True
                open("stalled", "w").close()
            sys.stdout.buffer.write(b"%08d" % number)
        print("stalled" if stalled else "flowed")
    """)
    eventually((head.flash / "stalled").exists)
    data = Line(head.port).until(b"ed\n")
    assert data == b"".join(b"%08d" % number for number in range(3000)) + b"stalled\n"


def test_the_watchdog_restarts_a_program_that_stops_feeding_it(start):
    head = start("""
        import machine, time
        print("cause", machine.reset_cause())
        dog = machine.WDT(timeout=1500)
        for _ in range(3):
            time.sleep_ms(100)
            dog.feed()
        print("fed")
        while True:
            pass
    """)
    line = Line(head.port)
    assert b"cause 1" in line.until(b"fed")
    assert b"cause 3" in line.until(b"fed")
    assert head.starts == 2


def test_a_watchdog_longer_than_the_chip_can_is_refused(start):
    head = start("""
        import machine
        try:
            machine.WDT(timeout=9000)
        except ValueError as error:
            print("refused", error)
    """)
    Line(head.port).until(b"refused timeout exceeds 8388")


def test_machine_reset_starts_the_program_again_and_its_files_stay(start):
    head = start("""
        import machine, time
        try:
            count = int(open("count").read())
        except OSError:
            count = 0
        print("run", count, machine.reset_cause(), machine.unique_id() == bytes.fromhex("e6614c311b7d4f2a"))
        if count < 2:
            open("count", "w").write(str(count + 1))
            time.sleep_ms(200)  # what the USB has not sent yet is lost with a reset
            machine.reset()
            print("never")
    """)
    text = Line(head.port).until(b"run 2 3 True")
    assert b"run 0 1 True" in text and b"run 1 3 True" in text and b"never" not in text


def test_an_error_leaves_the_head_silent_and_its_traceback_readable(start):
    head = start("""
        raise RuntimeError("broken")
    """)
    eventually(lambda: head.halted)
    assert b"RuntimeError: broken" in Line(head.port).until(b"broken")
    assert head.starts == 1
    head.restart()
    eventually(lambda: head.starts == 2)


def test_the_port_survives_its_reader_and_a_pulled_cable(start):
    head = start("""
        from echo import echo
        echo()
    """)
    for _ in range(2):
        with serial.Serial(str(head.link), 115_200, timeout=20) as port:
            port.write(b"hello")
            assert port.read(5) == b"hello"
    with serial.Serial(str(head.link), 115_200, timeout=1) as port:
        head.unplug()
        assert head.port == "" and not head.link.exists()
        with pytest.raises((serial.SerialException, OSError)):
            for _ in range(3):
                port.write(b"gone")
                port.read(1)
    head.plug()
    assert str(head.link.resolve()) == head.port
    line = Line(head.link)
    line.write(b"again")
    line.until(b"again")
    assert head.starts == 1


def test_after_ignition_off_no_chip_samples_but_buses_answer(start):
    head = start("""
        import machine, time
        i2c = machine.I2C(0)
        i2c.writeto_mem(0x77, 0x1D, b"\\x02")
        i2c.writeto_mem(0x77, 0x1B, b"\\x33")
        while True:
            time.sleep_ms(20)
            print(i2c.readfrom_mem(0x77, 0, 1))
    """)
    line = Line(head.port)
    line.until(b"`")
    eventually(lambda: head.counters()["bmp390"]["samples"] > 3)
    head.stop_clock()
    before = head.counters()
    served = head.server.transactions
    eventually(lambda: head.server.transactions > served + 10)
    line.until(b"`")
    assert head.counters() == before


def test_nothing_is_left_behind(tmp_path):
    (tmp_path / "program.py").write_text("while True: pass\n")
    before = set(os.listdir("/proc/self/fd"))
    head = SimulatedHead(tmp_path / "head", lambda t_us: VALUES, lambda *_: None, Clock(), program="program", path=tmp_path)
    pid = head.pid
    head.stop()
    assert not Path(f"/proc/{pid}").exists()
    assert not head.link.exists()
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_world_that_breaks_is_told_and_is_no_silent_head(tmp_path):
    def broken(t_us: int) -> dict[str, float]:
        raise ZeroDivisionError("no such street")

    (tmp_path / "program.py").write_text(
        "import machine\ni2c = machine.I2C(0, scl=machine.Pin(5), sda=machine.Pin(4), freq=400000)\n"
        "i2c.writeto(0x44, b'\\xfd')\nwhile True:\n    i2c.scan()\n"
    )
    head = SimulatedHead(tmp_path / "head", broken, lambda *_: None, Clock(), program="program", path=tmp_path)
    try:
        eventually(lambda: head.server.error is not None)
        with pytest.raises(HeadError, match="ZeroDivisionError: no such street"):
            head.check()
    finally:
        head.stop()


def test_a_bridge_that_breaks_is_told(start, monkeypatch):
    head = start("while True: pass")
    head.check()
    with monkeypatch.context() as patched:
        patched.setattr("threading.excepthook", lambda arguments: None)

        def burst() -> None:
            raise OSError("no pty left")

        head._commands.put(burst)
        head._wake()
        head._thread.join(20)
    with pytest.raises(HeadError, match="bridge"):
        head.check()
