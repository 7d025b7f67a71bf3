"""Chips for tests of the wires: one that writes down what happens to it, and an echo."""


class Recorder:
    """A chip that writes down what happens to it and refuses the byte 0xEE."""

    def __init__(self, address: int = 0x42, awake: bool = True) -> None:
        self.address = address
        self.awake = awake
        self.events: list[str] = []

    def start(self, read: bool) -> bool:
        self.events.append("R" if read else "W")
        return self.awake

    def write(self, byte: int) -> bool:
        self.events.append(f"{byte:02x}")
        return byte != 0xEE

    def read(self) -> int:
        self.events.append("?")
        return 0x5A

    def stop(self) -> None:
        self.events.append("P")

    def advance(self, now_us: int) -> None:
        self.events.append(f"@{now_us}")

    def power_cycle(self) -> None:
        self.events.append("off")


class Echo:
    """A UART chip that sends back what it gets."""

    SENSOR = "echo"

    def __init__(self) -> None:
        self.output = b""

    def write(self, data: bytes) -> None:
        self.output += data

    def read(self, count: int) -> bytes:
        taken, self.output = self.output[:count], self.output[count:]
        return taken

    def any(self) -> int:
        return len(self.output)

    def advance(self, now_us: int) -> None:
        pass

    def power_cycle(self) -> None:
        self.output = b""
