"""The bus server's protocol, spoken from here as sim/micropython/truck_wire.py speaks it."""

import contextlib
import errno
import socket
import struct

import pytest
from chip_bench import Bench

from sim.bus import I2CBus, UartLine
from sim.busserver import BusServer
from sim.chips.bmp390 import BMP390
from sim.chips.sps30 import SPS30

pytestmark = pytest.mark.timeout(60)
I2C_OPEN, I2C_TRANSFER, I2C_SCAN, UART_OPEN, UART_WRITE, UART_ANY, UART_READ = range(1, 8)
WATCHDOG_START, WATCHDOG_FEED, RESET, RESET_CAUSE, UNIQUE_ID, INTERRUPT_CHAR = range(8, 14)


class Processor:
    """Writes down what the program asked of its processor."""

    def __init__(self) -> None:
        self.asked: list[object] = []

    def watchdog_start(self, milliseconds: int) -> None:
        self.asked.append(milliseconds)

    def watchdog_feed(self) -> None:
        self.asked.append("feed")

    def request_reset(self) -> None:
        self.asked.append("reset")

    def reset_cause(self) -> int:
        return 3

    def unique_id(self) -> bytes:
        return b"12345678"

    def interrupt_char(self, char: int | None) -> None:
        self.asked.append(char)


class Program:
    """The other end of the wire."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=10)

    def send(self, operation: int, body: bytes = b"") -> None:
        self.sock.sendall(struct.pack("<HB", len(body) + 1, operation) + body)

    def ask(self, operation: int, body: bytes = b"") -> tuple[int, bytes]:
        self.send(operation, body)
        status, length = struct.unpack("<BH", self.exactly(3))
        return status, self.exactly(length)

    def exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            chunk = self.sock.recv(count - len(data))
            assert chunk, "the server closed the connection"
            data += chunk
        return data


@pytest.fixture
def truck():
    bench = Bench()
    source = dict.fromkeys(BMP390.RANGE, 300.0)
    barometer = BMP390(lambda t_us: source, bench.record)
    bus = I2CBus([barometer], bench.clock)
    line = UartLine(SPS30(lambda t_us: source, bench.record), bench.clock)
    processor = Processor()
    server = BusServer({(0, 4, 5): bus}, {(1, 8, 9): line}, processor)
    server.start()
    program = Program(server.port)
    with contextlib.closing(program.sock):
        yield bench, server, processor, program
    server.stop()


def transfer(program: Program, address: int, write: bytes, read_n: int) -> tuple[int, bytes]:
    return program.ask(I2C_TRANSFER, struct.pack("<BBBH", 0, address, 1, read_n) + write)


def test_a_register_is_read_through_the_server(truck):
    *_, program = truck
    assert program.ask(I2C_OPEN, bytes([0, 4, 5]) + struct.pack("<I", 400_000)) == (0, b"\0")
    assert transfer(program, 0x77, b"\x00", 1) == (0, b"\x60")
    assert program.ask(I2C_SCAN, b"\0") == (0, b"\x77")


def test_no_acknowledge_is_eio_and_enodev_without_data(truck):
    *_, program = truck
    program.ask(I2C_OPEN, bytes([0, 4, 5]) + struct.pack("<I", 400_000))
    assert transfer(program, 0x76, b"\x00", 1) == (errno.EIO, b"")
    assert transfer(program, 0x76, b"", 1) == (errno.EIO, b"")
    assert transfer(program, 0x76, b"", 0) == (errno.ENODEV, b"")


def test_on_pins_where_nothing_is_soldered_nothing_answers(truck):
    *_, program = truck
    program.ask(I2C_OPEN, bytes([0, 8, 9]) + struct.pack("<I", 400_000))
    assert transfer(program, 0x77, b"\x00", 1) == (errno.EIO, b"")
    program.ask(UART_OPEN, bytes([1, 4, 5]) + struct.pack("<IH", 115_200, 256))
    program.ask(UART_WRITE, b"\0" + bytes.fromhex("7E00D1002E7E"))
    assert program.ask(UART_ANY, b"\0") == (0, b"\0\0")


def test_a_uart_carries_requests_and_replies(truck):
    bench, _, _, program = truck
    program.ask(UART_OPEN, bytes([1, 8, 9]) + struct.pack("<IH", 115_200, 256))
    program.ask(UART_WRITE, b"\0" + bytes.fromhex("7E000300FC7E"))
    bench.wait_us(20_000)
    assert program.ask(UART_ANY, b"\0") == (0, b"\x07\0")
    assert program.ask(UART_READ, b"\0\x40\0") == (0, bytes.fromhex("7E00034300B97E"))


@pytest.mark.parametrize("wiring", [bytes([1, 8, 9]), bytes([0, 0, 1])])
def test_a_uart_that_is_opened_again_and_again_keeps_its_handle(truck, wiring):
    """A driver that looks for its receiver's speed opens the line three times in each round, for hours if nothing answers."""
    *_, program = truck
    for _ in range(300):
        for baud in (38_400, 9600, 115_200):
            assert program.ask(UART_OPEN, wiring + struct.pack("<IH", baud, 256)) == (0, b"\0")


def test_requests_may_arrive_in_pieces_or_together(truck):
    *_, program = truck
    for byte in struct.pack("<HB", 1, UNIQUE_ID):
        program.sock.sendall(bytes([byte]))
    assert program.exactly(11)[3:] == b"12345678"
    program.sock.sendall(struct.pack("<HB", 1, UNIQUE_ID) * 3)
    assert program.exactly(33)[-8:] == b"12345678"


def test_the_processors_services_are_passed_on(truck):
    _, _, processor, program = truck
    assert program.ask(RESET_CAUSE) == (0, b"\x03")
    program.ask(WATCHDOG_START, struct.pack("<I", 8000))
    program.ask(WATCHDOG_FEED)
    program.ask(INTERRUPT_CHAR, b"\xff")
    program.ask(INTERRUPT_CHAR, b"\x03")
    assert processor.asked == [8000, "feed", None, 3]


def test_a_second_program_starts_with_no_controllers_opened(truck):
    _, server, _, program = truck
    program.ask(I2C_OPEN, bytes([0, 4, 5]) + struct.pack("<I", 400_000))
    program.sock.close()
    second = Program(server.port)
    with contextlib.closing(second.sock):
        assert second.ask(I2C_OPEN, bytes([0, 4, 5]) + struct.pack("<I", 400_000)) == (0, b"\0")
    assert server.error is None


def test_a_failing_world_ends_the_server_with_its_error_kept(truck):
    bench, server, _, program = truck
    program.ask(UART_OPEN, bytes([1, 8, 9]) + struct.pack("<IH", 115_200, 256))
    program.ask(UART_WRITE, b"\0" + bytes.fromhex("7E0000020103F97E"))
    bench.wait_us(2_000_000)  # the world of this truck has no particles: the first sample fails
    program.send(UART_ANY, b"\0")
    assert program.sock.recv(1) == b""
    assert isinstance(server.error, KeyError)
