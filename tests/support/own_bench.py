"""Own wires of a truck in virtual time: real drivers on chip models, a journal on a real disk, and a bus that can be pulled."""

import errno
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from chip_bench import Bench as ChipBench
from chip_bench import BenchI2C, steady
from gateway_recording import Bench, Recording
from parts import PARTS

import gateway.disk_trouble
import gateway.journal
import gateway.own_parts
import gateway.own_wires
import gateway.supervision
from gateway.config import Bus
from gateway.disk_trouble import DiskTrouble
from gateway.own_parts import OwnParts, OwnWire
from sim.bus import I2CBus

DEVICE = "/dev/i2c-1"
START_NS = 10**12  # boot time of the chips' moment 0
US_PER_BYTE = 25  # 400 kHz
TIMED = (gateway.own_parts, gateway.own_wires, gateway.supervision, gateway.journal, gateway.disk_trouble)


class Adapter:
    """The bus's adapter. `there`: it is plugged in; `deaf`: it says that nobody acknowledges; `opened` counts."""

    def __init__(self, chips: ChipBench, bus: I2CBus) -> None:
        self.there = True
        self.deaf = False
        self.opened = 0
        self.bus = BenchI2C(bus)
        self._chips = chips

    def open(self, device: str) -> "Opened":
        """In place of LinuxI2C."""
        assert device == DEVICE
        if not self.there:
            raise OSError(errno.ENOENT, "No such file or directory", device)
        self.opened += 1
        return Opened(self)

    def transfer(self, size: int) -> None:
        """Time passes on the wire, or the adapter says why not."""
        if not self.there:
            raise OSError(errno.ENODEV, "No such device")
        if self.deaf:
            raise OSError(errno.EREMOTEIO, "Remote I/O error")
        self._chips.wait_us(US_PER_BYTE * size)


class Opened:
    """An opened bus with LinuxI2C's methods."""

    def __init__(self, adapter: Adapter) -> None:
        self._adapter = adapter

    def close(self) -> None:
        """Nothing is to be closed."""

    def writeto(self, addr: int, buf: bytes, stop: bool = True) -> int:
        self._adapter.transfer(1 + len(buf))
        return self._adapter.bus.writeto(addr, buf)

    def readfrom_into(self, addr: int, buf: bytearray | memoryview) -> None:
        self._adapter.transfer(1 + len(buf))
        self._adapter.bus.readfrom_into(addr, buf)

    def writeto_mem(self, addr: int, memaddr: int, buf: bytes) -> None:
        self._adapter.transfer(2 + len(buf))
        self._adapter.bus.writeto_mem(addr, memaddr, buf)

    def readfrom_mem_into(self, addr: int, memaddr: int, buf: bytearray | memoryview) -> None:
        self._adapter.transfer(3 + len(buf))
        self._adapter.bus.readfrom_mem_into(addr, memaddr, buf)


class Turns:
    """The `stop` of a run: its waiting is the time that passes, until virtual second `until`. `at` are (second, what happens then)."""

    def __init__(self, chips: ChipBench, until: float, at: list[tuple[float, Callable[[], None]]]) -> None:
        self._chips = chips
        self._until = until
        self._at = sorted(at, key=lambda entry: entry[0])
        self._turns = 0

    def wait(self, seconds: float) -> bool:
        self._turns += 1
        self._chips.wait_us(int(seconds * 1e6) + self._turns * 7 % 900)  # a thread wakes late, by this or that
        now = self._chips.clock.now_us() / 1e6
        while self._at and self._at[0][0] <= now:
            self._at.pop(0)[1]()
        return now >= self._until


class OwnBench:
    """`names` of chips (tests/support/parts.py) on one bus. `run` lets the recorder live; `restart` is a new one after a kill."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, names: tuple[str, ...]) -> None:
        self.chips = ChipBench()
        self._folder = folder
        kinds = [next(part for part in PARTS if part.name == name) for name in names]
        self.world: dict[str, float] = {}
        for kind in kinds:
            self.world |= {name: low + 0.3 * (high - low) for name, (low, high) in kind.model().RANGE.items()}
        models = [kind.chip(steady(self.world), self.chips.record) for kind in kinds]
        extra = [model.magnetometer for model in models if hasattr(model, "magnetometer")]
        self.adapter = Adapter(self.chips, I2CBus((*models, *extra), self.chips.clock))
        self.models = dict(zip(names, models, strict=True))
        patch.setattr(gateway.own_wires, "LinuxI2C", self.adapter.open)
        for module in TIMED:
            patch.setattr(module, "boottime_ns", self.now_ns)
        self._others = [part for part in gateway.own_parts.on_own_wires(DEVICE, [], [], [])[0] if part.part not in names]
        self.disk = DiskTrouble()
        self.restart({})

    def restart(self, since: Mapping[str, int]) -> None:
        """Another recorder in the same boot of the kernel, which knows the newest samples on disk."""
        folder = self._folder / "spool" / "00000000-bench"
        if folder.exists():
            folder.rename(folder.with_name("00000000-before"))
        self.bench = Bench(self._folder)
        config = Bus(i2c=DEVICE, without=[place.part for place in self._others])
        (self.wire,) = self._wires(config, since)

    def _wires(self, config: Bus, since: Mapping[str, int]) -> list[OwnWire]:
        return OwnParts(config, self.bench.clock, self.bench.journal, self.bench.snapshot, self.disk, since).wires

    def now_ns(self) -> int:
        """Boot time."""
        return START_NS + self.chips.clock.now_us() * 1000

    def run(self, seconds: float, *at: tuple[float, Callable[[], None]]) -> None:
        """The wire's thread for so long; `at` (seconds of virtual time) something happens."""
        until = self.chips.clock.now_us() / 1e6 + seconds
        self.wire.run(Turns(self.chips, until, list(at)))  # type: ignore[arg-type]  # a stop that counts

    def made(self, sensor: str) -> list[int]:
        """Boot times of all samples that the chip took (ns)."""
        return [START_NS + t_us * 1000 for name, t_us, _ in self.chips.log if name == sensor]

    def pull(self) -> None:
        """The adapter goes."""
        self.adapter.there = False

    def plug(self) -> None:
        """It is back."""
        self.adapter.there = True

    def close(self) -> Recording:
        """What was written."""
        return self.bench.close()
