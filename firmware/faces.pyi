# Faces between the head's parts. For type checkers only: MicroPython has no typing.
from collections.abc import Iterable
from typing import Any, Protocol

class Driver(Protocol):
    SENSOR: str
    RAW_SIZE: int
    PERIOD_MS: int  # beside it may stand OWN_PACE = True: the chip makes the pace, not its driver
    configured: bool
    degraded: int
    gap_reason: int
    def start(self, now: int) -> None: ...
    def poll(self, now: int) -> int: ...
    def read_into(self, buf: bytearray | memoryview, offset: int = 0) -> int: ...
    def trim(self) -> bytes: ...

class Bus(Protocol):
    stuck: bool
    def recover(self) -> bool: ...

class Pin(Protocol):
    def value(self, level: int = ...) -> int | None: ...

class ByteSource(Protocol):
    def readinto(self, buf: bytearray, /) -> int | None: ...

class ByteSink(Protocol):
    def write(self, data: Any, /) -> int | None: ...

class Poller(Protocol):
    def ipoll(self, timeout: int, /) -> Iterable[tuple[Any, int]]: ...
